"""Mandates as they are kept: made, found, revoked, and checked again whenever one is used.

Owns: the table `mandates`, and one evidence row for every step, refused ones too. Leaves to `gateway.domain.mandate`
the rules. Leaves to `mandate_desk` what agencies may record, and to the account pages what persons may.

Nothing is remembered between two uses: every use reads the row, so a revocation takes effect with its commit.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, insert, select, update

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.identity import Assurance
from gateway.domain.mandate import (
    Draft,
    Lack,
    Mandate,
    OnPaper,
    Party,
    Relation,
    Revocation,
    Rules,
    SignedOn,
    Use,
    explain,
    faults,
    lacks,
)
from gateway.errors import FieldProblem, GatewayError, InvalidRequest, NotFound, NotPermitted, Unavailable
from gateway.evidence import Exchange, record
from gateway.evidence.record import refusal
from gateway.identity.revocations import mark
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import mandates, token_families

Who = Mapping[str, str]
"""Who takes a step, as evidence names it: a caller's ids, or a person by reference."""


# --- units ---------------------------------------------------------------------------------------------------------


class MandateRecords:
    """The rows. Personal data is sealed to its row; a party is found by the reference of type and number."""

    def __init__(self, sealer: Sealer, references: References) -> None:
        self._sealer = sealer
        self._references = references

    def reference(self, party: Party) -> str:
        """Return the keyed reference of a party."""
        return self._references.of(*party.key)

    def keep(self, tx: Connection, mandate: Mandate) -> None:
        """Store a new mandate."""
        row = {
            "id": mandate.id,
            "principal_ref": self.reference(mandate.principal),
            "agent_ref": self.reference(mandate.agent),
            "relation": mandate.relation.value,
            "items": sorted(mandate.items),
            "body": self._sealer.seal(orjson.dumps(_body(mandate)), _place(mandate.id)),
            "recorded_by": mandate.recorded_by,
            "valid_from": mandate.valid_from,
            "valid_until": mandate.valid_until,
            "created_at": mandate.created_at,
        }
        tx.execute(insert(mandates).values(row))

    def find(self, tx: Connection, mandate_id: str, *, hold: bool = False) -> Mandate | None:
        """Return a mandate. `hold` keeps it from being revoked until this transaction, which writes, has ended."""
        query = select(mandates).where(mandates.c.id == mandate_id)
        row = tx.execute(query.with_for_update(read=True) if hold else query).mappings().one_or_none()
        return None if row is None else self._mandate(row)

    def of_principal(self, tx: Connection, principal: Party) -> list[Mandate]:
        """Return what this party has given, newest first."""
        return self._list(tx, mandates.c.principal_ref == self.reference(principal))

    def for_agent(self, tx: Connection, agent: Party) -> list[Mandate]:
        """Return what this party was given, newest first."""
        return self._list(tx, mandates.c.agent_ref == self.reference(agent))

    def revoke(self, tx: Connection, mandate_id: str, by: str, now: datetime) -> bool:
        """End a mandate; False when it was revoked before. One statement decides who was first.

        The tokens that an agent got by it end with it.
        """
        live = update(mandates).where(mandates.c.id == mandate_id, mandates.c.revoked_at.is_(None))
        revoked = live.values(revoked_at=now, revoked_by=by).returning(mandates.c.id)
        if tx.execute(revoked).one_or_none() is None:
            return False
        resting = (token_families.c.mandate_id == mandate_id, token_families.c.revoked_at.is_(None))
        tx.execute(update(token_families).where(*resting).values(revoked_at=now))
        mark(tx)
        return True

    def _list(self, tx: Connection, whose: Any) -> list[Mandate]:
        query = select(mandates).where(whose).order_by(mandates.c.created_at.desc(), mandates.c.id)
        return [self._mandate(row) for row in tx.execute(query).mappings()]

    def _mandate(self, row: RowMapping) -> Mandate:
        body = orjson.loads(self._sealer.open(row["body"], _place(row["id"])))
        ended = row["revoked_at"]
        found = Mandate(
            id=row["id"],
            principal=Party(**body["principal"]),
            agent=Party(**body["agent"]),
            relation=Relation(row["relation"]),
            items=frozenset(row["items"]),
            valid_from=row["valid_from"],
            valid_until=row["valid_until"],
            consent=_consent(body["consent"]),
            recorded_by=row["recorded_by"],
            created_at=row["created_at"],
            revocation=None if ended is None else Revocation(ended, row["revoked_by"] or ""),
        )
        if _terms(found) != body["terms"]:
            raise Unavailable("Stored data cannot be opened.", detail=f"mandate {found.id} is not what was agreed to")
        return found


def _body(mandate: Mandate) -> dict[str, Any]:
    consent = mandate.consent
    kind = "signed_on" if isinstance(consent, SignedOn) else "paper"
    said = asdict(consent)
    if isinstance(consent, SignedOn):
        said |= {"level": int(consent.level), "at": consent.at.isoformat()}
    parties = {"principal": asdict(mandate.principal), "agent": asdict(mandate.agent)}
    return {**parties, "consent": {"kind": kind, **said}, "terms": _terms(mandate)}


def _terms(mandate: Mandate) -> dict[str, Any]:
    """Return what also stands in clear columns, sealed with the rest: whoever edits those is found out."""
    return {
        "relation": mandate.relation.value,
        "items": sorted(mandate.items),
        "valid_from": mandate.valid_from.astimezone(UTC).isoformat(),
        "valid_until": mandate.valid_until.astimezone(UTC).isoformat(),
    }


def _consent(said: Mapping[str, Any]) -> SignedOn | OnPaper:
    if said["kind"] == "signed_on":
        at = datetime.fromisoformat(said["at"]).astimezone(UTC)
        return SignedOn(said["region"], said["subject"], Assurance(said["level"]), at, said["evidence_id"])
    return OnPaper(said["form"], said["clerk"], said["window"], tuple(said["sighted"]))


def _place(mandate_id: str) -> str:
    return f"mandates.body:{mandate_id}"


def in_force(tx: Connection, mandate_id: str, now: datetime) -> bool:
    """Say whether a mandate on which a token rests was neither revoked nor has run out."""
    rows = mandates.c
    live = (rows.id == mandate_id, rows.revoked_at.is_(None), rows.valid_until > now)
    return tx.execute(select(rows.id).where(*live)).one_or_none() is not None


def new_mandate_id() -> str:
    """Return a random id. It is no credential: whoever quotes it must be the agent whom the mandate names."""
    return "MD" + secrets.token_hex(16)


# --- the service ---------------------------------------------------------------------------------------------------


class Mandates:
    """Makes, shows, revokes and checks mandates, and leaves evidence of each."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        references: References,
        clock: Clock,
        rules: Rules,
        items: Collection[str],
    ) -> None:
        self._store = store
        self._records = MandateRecords(sealer, references)
        self._clock = clock
        self._rules = rules
        self._items = frozenset(items)

    @property
    def rules(self) -> Rules:
        """What is asked of every mandate here."""
        return self._rules

    # --- making and ending

    async def make(self, mandate: Mandate, *, who: Who, born: date | None = None) -> Mandate:
        """Store a mandate. Raises InvalidRequest (`delegation.invalid`) that lists everything that is wrong with it.

        `born` is the principal's day of birth where the region told it. The evidence holds a digest of what was agreed.
        """
        wrong = faults(Draft(mandate, self._items, self._rules, born))
        if wrong:
            problems = [FieldProblem(fault.field, fault.reason, fault.code) for fault in wrong]
            text = "This mandate cannot be made; see `problems`."
            error = InvalidRequest(text, problems=problems, code="delegation.invalid")
            raise await self._noted(error, "mandate.make", who, {"items": sorted(mandate.items)})
        return await self._store.write(partial(self._make, mandate=mandate, who=who))

    def _make(self, tx: Connection, mandate: Mandate, who: Who) -> Mandate:
        evidence_id = record(tx, self._made(mandate, who), now=self._clock())
        if isinstance(mandate.consent, SignedOn) and not mandate.consent.evidence_id:
            mandate = replace(mandate, consent=replace(mandate.consent, evidence_id=evidence_id))
        self._records.keep(tx, mandate)
        return mandate

    def _made(self, mandate: Mandate, who: Who) -> Exchange:
        return Exchange(
            action="mandate.make",
            outcome="done",
            reason="consent given",
            who=who,
            what={
                "mandate": mandate.id,
                "items": sorted(mandate.items),
                "relation": mandate.relation.value,
                "valid_from": mandate.valid_from.isoformat(),
                "valid_until": mandate.valid_until.isoformat(),
                "principal": self._records.reference(mandate.principal),
                "agent": self._records.reference(mandate.agent),
            },
            purpose="delegation",
            received_at=mandate.created_at,
            parts={"mandate": orjson.dumps(_body(mandate), option=orjson.OPT_SORT_KEYS)},
        )

    async def revoke(self, mandate_id: str, *, by: str, who: Who, party: Party | None = None) -> Mandate:
        """End a mandate at once. `party` is the person who asks: its principal, or its agent who gives it back.

        Revoking twice says the same. Raises NotFound (`delegation.unknown`) for one that is not this person's.
        """
        now = self._clock()
        try:
            return await self._store.write(partial(self._revoke, mandate_id=mandate_id, by=by, who=who, party=party))
        except GatewayError as error:
            raise await self._noted(error, "mandate.revoke", who, {"mandate": mandate_id[:64]}, now) from None

    def _revoke(self, tx: Connection, mandate_id: str, by: str, who: Who, party: Party | None) -> Mandate:
        found, now = self._records.find(tx, mandate_id), self._clock()
        if found is None or not (party is None or concerns(found, party)):
            raise unknown()
        if self._records.revoke(tx, mandate_id, by, now):
            what = {"mandate": mandate_id, "by": by}
            done = Exchange("mandate.revoke", "done", "revoked", who, what, "delegation", now)
            record(tx, done, now=now)
        return self._records.find(tx, mandate_id) or found

    # --- looking

    async def find(self, mandate_id: str) -> Mandate | None:
        """Return a mandate, whatever its state."""
        return await self._store.read(partial(self._records.find, mandate_id=mandate_id))

    async def given_by(self, party: Party) -> Sequence[Mandate]:
        """Return the mandates of a principal. Who has the number but another name is somebody else."""
        found = await self._store.read(partial(self._records.of_principal, principal=party))
        return [mandate for mandate in found if mandate.principal.is_same_as(party)]

    async def received_by(self, party: Party) -> Sequence[Mandate]:
        """Return the mandates that name this agent."""
        found = await self._store.read(partial(self._records.for_agent, agent=party))
        return [mandate for mandate in found if mandate.agent.is_same_as(party)]

    def lacks_now(self, mandate: Mandate) -> list[Lack]:
        """Return what keeps a mandate from serving its own agent now, in any of its items."""
        use = Use(mandate.agent, min(mandate.items), self._clock(), mandate.principal)
        return lacks(mandate, use, self._rules)

    # --- using

    async def require(
        self, mandate_id: str, *, agent: Party, item: str, on: datetime, principal: Party | None = None, who: Who
    ) -> Mandate:
        """Return the mandate if it serves this use now, and record the use.

        Raises NotPermitted with `delegation.<first reason>`; `problems` lists all of them. `on` is the moment of use.
        """
        use = Use(agent, item, on, principal)
        try:
            return await self._store.write(partial(self._use, mandate_id=mandate_id, use=use, who=who))
        except GatewayError as error:
            what = {"mandate": mandate_id[:64], "item": item}
            raise await self._noted(error, "mandate.use", who, what, on) from None

    def _use(self, tx: Connection, mandate_id: str, use: Use, who: Who) -> Mandate:
        found = self.check(tx, mandate_id, use, hold=True)
        what = {"mandate": mandate_id, "item": use.item}
        record(tx, Exchange("mandate.use", "done", "serves", who, what, "delegation", use.on), now=self._clock())
        return found

    def check(self, tx: Connection, mandate_id: str, use: Use, *, hold: bool = False) -> Mandate:
        """Return the mandate if it serves, inside the caller's transaction and under the caller's own evidence.

        `hold` (for a transaction that writes) makes a revocation wait until it has ended: what was accepted was
        accepted under a live mandate. Raises NotPermitted as `require` does.
        """
        found = self._records.find(tx, mandate_id, hold=hold)
        if found is None:
            problem = FieldProblem("mandate", "is not known here", "unknown")
            raise NotPermitted("There is no such mandate.", problems=[problem], code="delegation.not_found")
        missing = lacks(found, use, self._rules)
        if missing:
            raise _denied([(lack, explain(lack, found, self._rules)) for lack in missing])
        return found

    def serving(self, tx: Connection, mandate_id: str, agent: Party) -> Mandate | None:
        """Return the mandate if it serves this agent now in any of its items; None says nothing of why it does not.

        For the exchange of tokens, where the item is not known yet: whoever takes the token asks about the item.
        """
        found = self._records.find(tx, mandate_id)
        if found is None or not found.agent.is_same_as(agent) or self.lacks_now(found):
            return None
        return found

    async def _noted(
        self, error: GatewayError, action: str, who: Who, what: Mapping[str, Any], received_at: datetime | None = None
    ) -> GatewayError:
        """Record a refusal and return it, to be raised."""
        now = self._clock()
        refused = refusal(
            error, action=action, who=who, what=what, purpose="delegation", received_at=received_at or now
        )
        error.evidence = await self._store.write(lambda tx: record(tx, refused, now=now))
        return error


def concerns(mandate: Mandate, party: Party) -> bool:
    """Say whether this party is principal or agent of the mandate."""
    return mandate.principal.is_same_as(party) or mandate.agent.is_same_as(party)


def unknown() -> NotFound:
    """Return the refusal of a mandate that is not there, or is not the asker's: the two look the same."""
    return NotFound("There is no such mandate that you may see.", code="delegation.unknown")


def _denied(reasons: Sequence[tuple[Lack, str]]) -> NotPermitted:
    first, text = reasons[0][0], " ".join(text for _, text in reasons)
    problems = [FieldProblem("mandate", text, f"delegation.{lack}") for lack, text in reasons]
    return NotPermitted(text, problems=problems, code=f"delegation.{first}")
