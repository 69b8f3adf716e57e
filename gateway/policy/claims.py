"""The gate before claims are issued: which claims of a person may go to which client, on what, and whom to ask first.

Owns: the rules for one sign-on, and what a consent page must show. Leaves to its callers: what the region said of the
person, the consents on record (`gateway.identity.consents`), the page itself, and issuing nothing but `Decision.given`.
A claim passes only when it was declared, asked for and known, and when every rule below allows it; nothing here reads
a value, names are enough.

Rules (docs/threat-model.md; PIPL art. 6, 23, 29, 36, 38-39): P1 only declared fields; P3 a separate consent across a
border; P4 a registered basis across a border; P5 no onward transfer beyond a contract's scope; P6 HKID and BIR numbers,
faces and chip data stay; P9 nothing that was not asked for. Whether an essential claim that may not be given ends the
sign-on is OpenID Connect Core §5.5.1: it does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson

from gateway.domain.calendar import local_day
from gateway.domain.languages import said_in
from gateway.domain.region import Place, Zone
from gateway.policy.transfer import (
    Basis,
    ConsentGiven,
    Finding,
    Kind,
    Transfer,
    bases_for,
    consent_for,
    judge,
    outside_contract,
)

DOCUMENT = "document"
"""The claim that holds the number of an identity document."""


class Outcome(StrEnum):
    """What becomes of one claim."""

    GIVEN = "given"
    ASK = "ask"  # it is given once the person consents
    DROPPED = "dropped"  # voluntary, and may not or need not be given
    REFUSED = "refused"  # essential, and may not be given


class Verdict(StrEnum):
    """What becomes of the sign-on."""

    CONTINUE = "continue"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Recipient:
    """The client, as far as the gate must know it.

    `place` is where it sits. `declared` are the claims that its registration lets it ask for. `trusted` clients are the
    gateway's own. `contact`, `purpose` (by language) and `legal_basis` are what it says about itself.
    """

    client_id: str
    place: Place
    declared: frozenset[str]
    trusted: bool = False
    contact: str = ""
    purpose: Mapping[str, str] = field(default_factory=dict)
    legal_basis: str = ""

    @property
    def key(self) -> str:
        """Return who a consent is given to: this client, at this place. One that moves must ask again."""
        return f"{self.client_id}@{self.place.code}"

    def purpose_key(self, *, crosses: bool) -> str:
        """Return what a consent is given for: the purposes as stated. Another purpose needs another consent.

        A consent within a territory is not the separate one (单独同意) that crossing a border takes, hence the word.
        """
        said = orjson.dumps([dict(self.purpose), self.legal_basis], option=orjson.OPT_SORT_KEYS)
        return f"{'cross-boundary' if crosses else 'sign-on'}:{hashlib.sha256(said).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Ask:
    """One sign-on at the moment of issuing.

    `claims` are those asked for, by scope or one by one: name → essential. `held` are those that the region told.
    `document_type` is the type of the person's document, None when there is none. `consents` are those on record of
    this person, region and client; leave them out to ask again (`prompt=consent`). `declined` are claims that the
    person was asked for and did not give. `via` are the places that already had the data (token exchange), in order.
    With `strict` an essential claim that may not be given ends the matter, which OpenID Connect does not want.
    """

    region: str
    origin: Place
    recipient: Recipient
    claims: Mapping[str, bool]
    held: Collection[str]
    document_type: str | None
    consents: Sequence[ConsentGiven]
    now: datetime
    declined: Collection[str] = frozenset()
    via: Sequence[Place] = ()
    strict: bool = False

    @property
    def crosses(self) -> bool:
        """Say whether the claims leave one legal territory for another, or left it on their way here."""
        return any(place.zone is not self.origin.zone for place in (self.recipient.place, *self.via))


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of one claim, and why.

    `rule` and `reason` are for programs, `text` is for people; all empty for a claim that is given. `basis` says what
    giving rests on, `consent` which record, `until` how long. For ASK they say what it will be.
    """

    claim: str
    essential: bool
    outcome: Outcome
    rule: str = ""
    reason: str = ""
    text: str = ""
    basis: str = ""
    consent: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The rulings on all claims that were asked for, in the order of their names, and what follows from them."""

    region: str
    target: Place
    crosses: bool
    rulings: tuple[Ruling, ...]
    verdict: Verdict

    @property
    def given(self) -> frozenset[str]:
        """Return the claims that may be issued now."""
        return frozenset(ruling.claim for ruling in self.rulings if ruling.outcome is Outcome.GIVEN)

    @property
    def must_ask(self) -> bool:
        """Say whether the person must be asked first; with `prompt=none` the answer is then `consent_required`."""
        return any(ruling.outcome is Outcome.ASK for ruling in self.rulings)

    @property
    def offered(self) -> tuple[Ruling, ...]:
        """Return what the consent page offers: all that is or would be given."""
        return tuple(ruling for ruling in self.rulings if ruling.outcome in {Outcome.GIVEN, Outcome.ASK})

    @property
    def withheld(self) -> tuple[Ruling, ...]:
        """Return what is not given whatever the person says, for evidence and for the page."""
        return tuple(ruling for ruling in self.rulings if ruling.outcome in {Outcome.DROPPED, Outcome.REFUSED})

    def evidence(self) -> dict[str, Any]:
        """Return the decision for the log: names of claims, never values."""
        withheld = {ruling.claim: f"{ruling.rule} {ruling.reason}".strip() for ruling in self.withheld}
        grounds = sorted({ruling.basis for ruling in self.rulings if ruling.outcome is Outcome.GIVEN})
        consents = sorted({ruling.consent for ruling in self.rulings if ruling.consent})
        place = {"from": self.region, "to": self.target.code, "crosses": self.crosses}
        return {**place, "given": sorted(self.given), "withheld": withheld, "grounds": grounds, "consents": consents}


class ClaimsGate:
    """Decides about claims. `bases` are those of transfers.toml; a consent given now lasts for `term`."""

    def __init__(self, bases: Sequence[Basis], term: timedelta) -> None:
        self._bases = tuple(bases)
        self.term = term

    def decide(self, ask: Ask) -> Decision:
        """Rule on every claim that is asked for. Pure: the same question has the same answer."""
        purpose = ask.recipient.purpose_key(crosses=ask.crosses)
        rulings = tuple(self._rule(ask, claim, purpose) for claim in sorted(ask.claims))
        refused = any(ruling.outcome is Outcome.REFUSED for ruling in rulings)
        verdict = Verdict.REFUSE if ask.strict and refused else Verdict.CONTINUE
        return Decision(ask.region, ask.recipient.place, ask.crosses, rulings, verdict)

    def _rule(self, ask: Ask, claim: str, purpose: str) -> Ruling:
        transfer = self._transfer(ask, claim, purpose)
        bars = list(_bars(ask, claim, transfer))
        if bars:
            return _withheld(ask, claim, bars)
        consent = consent_for(transfer)
        basis = next(iter(bases_for(transfer)), None)  # none within a territory, where none is needed
        grounds = f"{basis.kind} {basis.reference}" if basis else ask.recipient.legal_basis or "consent"
        if consent is not None:
            return _allowed(ask, claim, Outcome.GIVEN, grounds, consent.expires_at, consent.id)
        if ask.recipient.trusted and not ask.crosses:
            return _allowed(ask, claim, Outcome.GIVEN, ask.recipient.legal_basis or "own service", None)
        if claim in ask.declined:
            return _withheld(ask, claim, [_DECLINED])
        return _allowed(ask, claim, Outcome.ASK, grounds, ask.now + self.term)

    def _transfer(self, ask: Ask, claim: str, purpose: str) -> Transfer:
        """Return the transfer that giving this claim is, in the words of the transfer rules."""
        return Transfer(
            origin=ask.origin,
            target=ask.recipient.place,
            target_region=ask.recipient.client_id,
            target_recipient=ask.recipient.key,
            document_type=ask.document_type if claim == DOCUMENT else None,
            fields=[claim],
            purpose=purpose,
            consents=ask.consents,
            bases=self._bases,
            now=ask.now,
        )


_DECLINED = Finding("P3", "declined", "the person was asked and did not give it", "Ask again with prompt=consent")


def _bars(ask: Ask, claim: str, transfer: Transfer) -> list[Finding]:
    """Return what keeps a claim from being given whatever the person consents to."""
    if claim not in ask.recipient.declared:
        return [Finding("P1", "undeclared", f"the client is not registered for {claim}", "Register its scope")]
    if claim not in ask.held:
        return [Finding("P9", "not_held", f"the region said nothing of {claim}", "Do without it")]
    found = [finding for finding in judge(transfer) if finding.rule != "P3"]
    if ask.crosses:
        found += _unnamed(ask.recipient) + _onward(ask, transfer)
    return found


def _unnamed(recipient: Recipient) -> list[Finding]:
    """P3, PIPL art. 39: a consent to crossing a border names the recipient, how to reach it, and what for."""
    missing = [word for word, said in (("contact", recipient.contact), ("purpose", recipient.purpose)) if not said]
    if not missing:
        return []
    text = f"the client does not say {' and '.join(missing)}, which a consent across a border must name"
    return [Finding("P3", "recipient_unnamed", text, f"Register {' and '.join(missing)} of the client")]


def _onward(ask: Ask, transfer: Transfer) -> list[Finding]:
    """P5: what reached a place under a standard contract may not go on beyond it; every hop needs a basis."""
    found = []
    for place in ask.via:
        if place.zone is ask.origin.zone:
            continue
        carrying = bases_for(_to(transfer, place))
        if not carrying:
            text = f"it reached {place.code} without a registered basis"
            found.append(Finding("P5", "onward_transfer", text, "Register a basis for the way that it came"))
        elif not any(_in_scope(basis.kind, ask.recipient.place) for basis in carrying):
            text = f"it reached {place.code} under {carrying[0].kind}, beyond which {ask.recipient.place.code} lies"
            found.append(Finding("P5", "onward_transfer", text, "Have the person sign on there directly"))
    return found


def _to(transfer: Transfer, place: Place) -> Transfer:
    values = {name: getattr(transfer, name) for name in Transfer.__slots__}
    return Transfer(**{**values, "target": place})


def _in_scope(kind: Kind, place: Place) -> bool:
    """Say whether a place lies in the scope of a basis; only the standard contracts have one."""
    partner = {Kind.GBA_HONGKONG: Zone.HONGKONG, Kind.GBA_MACAU: Zone.MACAU}.get(kind)
    if partner is None or place.zone is partner:
        return True
    return outside_contract(kind, place, Place("", partner)) is None


def _withheld(ask: Ask, claim: str, bars: Sequence[Finding]) -> Ruling:
    essential = ask.claims[claim]
    outcome = Outcome.REFUSED if essential else Outcome.DROPPED
    text = " ".join(f"{bar.text[0].upper()}{bar.text[1:]}. {bar.action}." for bar in bars)
    return Ruling(claim, essential, outcome, bars[0].rule, bars[0].reason, text)


def _allowed(
    ask: Ask, claim: str, outcome: Outcome, basis: str, until: datetime | None, consent: str | None = None
) -> Ruling:
    return Ruling(claim, ask.claims[claim], outcome, basis=basis, consent=consent, until=until)


# --- what the person is shown ------------------------------------------------------------------------------------


def statement(decision: Decision, recipient: Recipient, language: str, shown: Mapping[str, str]) -> bytes:
    """Return what a consent is given to, in canonical form: the page shows all of it, the receipt keeps its digest.

    `shown` are further texts of the page (names of client and organisation, privacy notice). For each claim: from which
    region to which place it goes, on what basis, until which day.
    """
    claims = [
        {
            "claim": ruling.claim,
            "essential": ruling.essential,
            "from": decision.region,
            "to": decision.target.code,
            "basis": ruling.basis,
            "until": local_day(ruling.until).isoformat() if ruling.until else None,
        }
        for ruling in decision.offered
    ]
    about = {"client": recipient.client_id, "contact": recipient.contact, "legal_basis": recipient.legal_basis}
    said = {"purpose": in_language(recipient.purpose, language), "language": language, "crosses": decision.crosses}
    return orjson.dumps({**shown, **about, **said, "claims": claims}, option=orjson.OPT_SORT_KEYS)


def in_language(texts: Mapping[str, str], language: str) -> str:
    """Return a text in a language, or in the nearest that there is: a person must be told, in whatever words."""
    return said_in(texts, language)[1]
