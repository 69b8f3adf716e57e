"""Which claims of a person a service gets, and whether the person must be asked first.

Owns: turning scopes and the claims request into a question to the gate, and keeping what a person answered. Leaves the
rules of the border to `gateway.policy.claims`, the rows to `consents`, the page to `gateway.web.consent`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from gateway.domain.sensitive import Sensitive
from gateway.identity import consents
from gateway.identity.clients import Client
from gateway.identity.consents import Answer, Receipt, recipient_of
from gateway.identity.linked import LinkedAccounts
from gateway.identity.persons import CLAIM_NAMES, LINKED, PersonVault, chosen_claims, claims_of_scopes
from gateway.identity.provider import ClaimsChosen, SessionFound
from gateway.identity.records import Session
from gateway.identity.upstream import SignOnRegion
from gateway.policy.claims import Ask, ClaimsGate, Decision
from gateway.storage import Store

PLACES = ("userinfo", "id_token")
"""Where claims can go (OpenID Connect Core §5.5)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the gate decided: what may go out now, and by `decision` what would, once the person agrees."""

    wanted: ClaimsChosen
    decision: Decision

    @property
    def given(self) -> ClaimsChosen:
        """What may go out now."""
        return _only(self.wanted, self.decision.given)

    @property
    def must_ask(self) -> bool:
        """Say whether the person must be asked first."""
        return self.decision.must_ask

    def agreed(self, claims: Collection[str]) -> ClaimsChosen:
        """Return what goes out once the person has agreed to these claims; never more than was offered."""
        offered = {ruling.claim for ruling in self.decision.offered}
        return _only(self.wanted, offered & set(claims))


class Disclosure:
    """Decides what goes out."""

    def __init__(
        self,
        gate: ClaimsGate,
        regions: Mapping[str, SignOnRegion],
        vault: PersonVault,
        store: Store,
        linked: LinkedAccounts,
    ) -> None:
        self._accounts = linked
        self._gate = gate
        self._regions = regions
        self._vault = vault
        self._store = store

    async def decide(self, found: SessionFound, now: datetime, *, anew: bool = False) -> Outcome:
        """Return what this service gets of this person. `anew` asks although there is a consent (prompt=consent)."""
        return await self._store.read(partial(self.decided, found=found, now=now, anew=anew))

    def decided(
        self, tx: Connection, found: SessionFound, now: datetime, *, anew: bool = False, hold: bool = False
    ) -> Outcome:
        """Return the same as a unit for the store; `hold` for one that gives something by the consents it finds."""
        session = found.session
        whose = (found.client.id, session.subject_ref, session.region)
        receipts = () if anew else consents.live(tx, *whose, now, hold=hold)
        wanted = wanted_claims(found)
        ask = self._ask(found, wanted, receipts, now, self._linked(tx, found, wanted, now))
        return Outcome(wanted, self._gate.decide(ask))

    def _linked(self, tx: Connection, found: SessionFound, wanted: ClaimsChosen, now: datetime) -> frozenset[str]:
        """Return the claim of linked accounts if it is asked for and any of them counts for this service."""
        if LINKED not in wanted["userinfo"]:
            return frozenset()
        return frozenset({LINKED} if self._accounts.counting(tx, found.client, found.session, now) else ())

    def _ask(
        self,
        found: SessionFound,
        wanted: ClaimsChosen,
        receipts: Sequence[Receipt],
        now: datetime,
        linked: frozenset[str],
    ) -> Ask:
        session, recipient = found.session, recipient_of(found.client)
        origin = self._regions[session.region].place
        _subject, person = self._vault.open(session.id, session.person)
        crosses = recipient.place.zone is not origin.zone
        return Ask(
            region=session.region,
            origin=origin,
            recipient=recipient,
            claims=_essential(found, wanted),
            held=frozenset(chosen_claims(person, CLAIM_NAMES)) | linked,
            document_type=_document_type(person),
            consents=[receipt.given() for receipt in receipts],
            now=now,
            declined=consents.declined(receipts, recipient, crosses=crosses),
        )

    def keep(
        self,
        tx: Connection,
        client: Client,
        session: Session,
        outcome: Outcome,
        agreed: Collection[str],
        shown: Shown,
        now: datetime,
    ) -> None:
        """Keep what a person answered, with what was shown. Part of the caller's transaction."""
        offered = frozenset(ruling.claim for ruling in outcome.decision.offered)
        answer = Answer(
            subject_ref=session.subject_ref,
            region=session.region,
            recipient=recipient_of(client),
            claims=offered & frozenset(agreed),
            declined=offered - frozenset(agreed),
            crosses=outcome.decision.crosses,
            language=shown.language,
            statement=shown.statement,
        )
        consents.give(tx, answer, now + self._gate.term, now)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the person saw: the language of the page, and all that it said, in canonical form."""

    language: str
    statement: bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of what was said; the form carries it, so that an answer is to the page that was seen."""
        return hashlib.sha256(self.statement).hexdigest()


def wanted_claims(found: SessionFound) -> dict[str, Sequence[str]]:
    """Return which claims are asked for, and where they are to go: by scope to userinfo, one by one to either."""
    asked = found.wishes.claims
    by_scope = claims_of_scopes(found.scope.split())
    userinfo = [name for name in CLAIM_NAMES if name in by_scope or name in asked.get("userinfo", {})]
    id_token = [name for name in CLAIM_NAMES if name in asked.get("id_token", {}) and name != LINKED]
    return {"userinfo": userinfo, "id_token": id_token}


def _essential(found: SessionFound, wanted: ClaimsChosen) -> dict[str, bool]:
    """Return every claim that is asked for, and whether the service calls it essential."""
    asked = found.wishes.claims
    names = {name for names in wanted.values() for name in names}
    return {
        name: any(asked.get(place, {}).get(name, {}).get("essential") is True for place in PLACES) for name in names
    }


def _document_type(person: Sensitive[Mapping[str, Any]]) -> str | None:
    return (person.reveal().get("document") or {}).get("type")


def _only(wanted: ClaimsChosen, allowed: Collection[str]) -> dict[str, Sequence[str]]:
    return {place: [name for name in names if name in allowed] for place, names in wanted.items()}
