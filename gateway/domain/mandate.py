"""Mandates (授权委托书): one party lets another act for it, in named items, for a time. Pure rules, no I/O.

Owns: what a mandate says, when it may be made, and every reason why it does not serve a given use. Leaves to
`gateway.identity.mandates`: storing, revoking and the evidence. Leaves to `gateway.identity.delegation`: tokens.

A mandate names the agent (受托人) as exactly as the principal (委托人), and its items one by one: there is no mandate
for everything, and none for "whoever holds this number".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from gateway.domain.calendar import local_day
from gateway.domain.identifiers import document_problem
from gateway.domain.identity import Assurance
from gateway.domain.spelling import spelt

MOST_ITEMS = 50
"""Items of one mandate: more is nearly "everything", which nobody reads before agreeing."""
CHILDHOOD = 14
"""Years of age below which a guardian decides about personal data (PIPL art. 28, 31; domain rule P7)."""

_ORGANISATIONS = frozenset({"USCC", "HK_BRN"})
_DATED = frozenset({"CN_RIC", "HM_RESID", "TW_RESID"})  # their numbers hold the day of birth (GB 11643)


class Relation(StrEnum):
    """How the agent stands to the principal."""

    FAMILY = "family"  # 亲属
    FRIEND = "friend"  # 朋友
    AGENCY = "agency"  # 受委托机构
    STAFF = "staff"  # 经办人 of an organisation
    GUARDIAN = "guardian"  # 监护人; it is not given by the ward, so only a window records it


@dataclass(frozen=True, slots=True)
class Party:
    """A principal or an agent: a person by name, document type and number, or an organisation by its code."""

    document_type: str
    number: str
    name: str = ""

    @property
    def organisation(self) -> bool:
        """Say whether this is an organisation."""
        return self.document_type in _ORGANISATIONS

    @property
    def key(self) -> tuple[str, str]:
        """Return what identifies the party. A home-return permit keeps its number when it is issued anew (§2.4)."""
        number = self.number.upper()
        return self.document_type, number[:9] if self.document_type == "HM_PERMIT" else number

    def is_same_as(self, other: Party) -> bool:
        """Compare type, number and, for persons, the name. Never by number alone (domain rule P8)."""
        return self.key == other.key and (self.organisation or spelt(self.name) == spelt(other.name))

    def born(self) -> date | None:
        """Return the day of birth that the number tells, None where it tells none."""
        if self.document_type not in _DATED:
            return None
        try:
            return date(int(self.number[6:10]), int(self.number[10:12]), int(self.number[12:14]))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class SignedOn:
    """Consent of a principal who was signed on: where, as whom, how sure, when. `evidence_id` names its row."""

    region: str
    subject: str
    level: Assurance
    at: datetime
    evidence_id: str = ""


@dataclass(frozen=True, slots=True)
class OnPaper:
    """Consent on a signed form: its number, who took it where, and which original documents were sighted."""

    form: str
    clerk: str
    window: str
    sighted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revocation:
    """The end of a mandate before its term: when, and by whom (a client's id, or `principal` or `agent`)."""

    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class Mandate:
    """What one mandate says. Times are aware; it serves from `valid_from` on and no more at `valid_until`."""

    id: str
    principal: Party
    agent: Party
    relation: Relation
    items: frozenset[str]
    valid_from: datetime
    valid_until: datetime
    consent: SignedOn | OnPaper
    recorded_by: str
    created_at: datetime
    revocation: Revocation | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment asks of every mandate: its longest term, and how surely a principal must have signed on."""

    longest: timedelta = timedelta(days=365)
    least: Assurance = Assurance.A2


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a mandate: who acts, in which item, when, and for whom (None when the mandate is to say that)."""

    agent: Party
    item: str
    on: datetime
    principal: Party | None = None


class Lack(StrEnum):
    """Why a mandate does not serve a use. Each is a stable code."""

    REVOKED = "revoked"
    NOT_YET = "not_yet"
    EXPIRED = "expired"
    OTHER_ITEM = "other_item"
    OTHER_AGENT = "other_agent"
    OTHER_PRINCIPAL = "other_principal"
    WEAK_CONSENT = "weak_consent"
    TOO_LONG = "too_long"
    NEEDS_GUARDIAN = "needs_guardian"


def lacks(mandate: Mandate, use: Use, rules: Rules) -> list[Lack]:
    """Return every reason why the mandate does not serve this use; an empty list means that it does."""
    checks = (
        (Lack.REVOKED, mandate.revocation is not None),
        (Lack.NOT_YET, use.on < mandate.valid_from),
        (Lack.EXPIRED, mandate.valid_until <= use.on),
        (Lack.OTHER_ITEM, use.item not in mandate.items),
        (Lack.OTHER_AGENT, not mandate.agent.is_same_as(use.agent)),
        (Lack.OTHER_PRINCIPAL, use.principal is not None and not mandate.principal.is_same_as(use.principal)),
        (Lack.WEAK_CONSENT, _weak(mandate.consent, rules)),
        (Lack.TOO_LONG, mandate.valid_until - mandate.valid_from > rules.longest),
        (Lack.NEEDS_GUARDIAN, _needs_guardian(mandate, local_day(use.on))),
    )
    return [lack for lack, holds in checks if holds]


def _weak(consent: SignedOn | OnPaper, rules: Rules) -> bool:
    return isinstance(consent, SignedOn) and consent.level < rules.least


def _needs_guardian(mandate: Mandate, today: date) -> bool:
    """P7: a child under 14 gives no mandate; the guardian acts, on what a window has seen."""
    guarded = mandate.relation is Relation.GUARDIAN and isinstance(mandate.consent, OnPaper)
    return not guarded and is_child(mandate.principal.born(), today)


def is_child(born: date | None, today: date) -> bool:
    """Say whether somebody born on that day is under 14 today. Who tells no day is not taken for a child."""
    if born is None:
        return False
    before_birthday = (today.month, today.day) < (born.month, born.day)
    return today.year - born.year - before_birthday < CHILDHOOD


def explain(lack: Lack, mandate: Mandate, rules: Rules) -> str:
    """Return one sentence about a lack: what is so, and what to do. It names nobody."""
    day = "%Y-%m-%d %H:%M UTC"
    texts = {
        Lack.REVOKED: "The mandate was revoked; ask the principal for a new one.",
        Lack.NOT_YET: f"The mandate begins only on {mandate.valid_from.strftime(day)}.",
        Lack.EXPIRED: f"The mandate ended on {mandate.valid_until.strftime(day)}; ask the principal for a new one.",
        Lack.OTHER_ITEM: f"The mandate does not cover this item; it covers {', '.join(sorted(mandate.items))}.",
        Lack.OTHER_AGENT: "The mandate names another agent: name, document type and number must all be the same.",
        Lack.OTHER_PRINCIPAL: "The mandate was given by somebody else than the person for whom it is used.",
        Lack.WEAK_CONSENT: f"The principal was not signed on surely enough; {rules.least.name} is needed.",
        Lack.TOO_LONG: f"The mandate runs longer than the {rules.longest.days} days that are allowed here.",
        Lack.NEEDS_GUARDIAN: "A child under 14 gives no mandate; a window records the guardian's on paper.",
    }
    return texts[lack]


# --- making one --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a mandate that is to be made: which field, why, and a stable code. No value in it."""

    field: str
    reason: str
    code: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A mandate that somebody wants to make. `known_items` are the codes of the catalogue."""

    mandate: Mandate
    known_items: frozenset[str]
    rules: Rules
    born: date | None = field(default=None)
    """The principal's day of birth where the region told it; else the number may tell it."""


def faults(draft: Draft) -> list[Fault]:
    """Return everything that keeps this mandate from being made, in the order of its fields."""
    parts = (_parties, _relation, _items, _term, _consent)
    return [fault for part in parts for fault in part(draft)]


def _parties(draft: Draft) -> Iterator[Fault]:
    mandate, today = draft.mandate, local_day(draft.mandate.created_at)
    for name, party in (("principal", mandate.principal), ("agent", mandate.agent)):
        if reason := document_problem(party.document_type, party.number, today=today):
            yield Fault(f"{name}.document.number", reason, "check_digit")
        if not party.organisation and not party.name:
            yield Fault(f"{name}.name", "is required for a person", "missing")
    if mandate.principal.key == mandate.agent.key:
        yield Fault("agent", "is the principal; nobody needs a mandate from oneself", "same_party")


def _relation(draft: Draft) -> Iterator[Fault]:
    mandate = draft.mandate
    if mandate.relation is Relation.GUARDIAN and not isinstance(mandate.consent, OnPaper):
        yield Fault("relation", "guardianship is not given by signing on; a window records it", "guardian")
    if mandate.relation is Relation.AGENCY and not mandate.agent.organisation:
        yield Fault("relation", "an agency is an organisation with its code", "relation")
    if mandate.relation in {Relation.FAMILY, Relation.FRIEND, Relation.GUARDIAN} and mandate.agent.organisation:
        yield Fault("relation", "an organisation is an agency, not a relative, friend or guardian", "relation")


def _items(draft: Draft) -> Iterator[Fault]:
    items = draft.mandate.items
    if not items:
        yield Fault("items", "name at least one item", "missing")
    if len(items) > MOST_ITEMS:
        yield Fault("items", f"name {MOST_ITEMS} items at most", "too_many")
    if unknown := items - draft.known_items:
        yield Fault("items", f"{len(unknown)} of the codes are not in the catalogue", "unknown_item")


def _term(draft: Draft) -> Iterator[Fault]:
    mandate, rules = draft.mandate, draft.rules
    if mandate.valid_until <= mandate.valid_from:
        yield Fault("valid_until", "must be later than valid_from", "term")
    elif mandate.valid_until - mandate.valid_from > rules.longest:
        yield Fault("valid_until", f"must be at most {rules.longest.days} days after valid_from", "term_too_long")
    if mandate.valid_until <= mandate.created_at:
        yield Fault("valid_until", "is past", "term_past")


def _consent(draft: Draft) -> Iterator[Fault]:
    mandate, today = draft.mandate, local_day(draft.mandate.created_at)
    if _weak(mandate.consent, draft.rules):
        yield Fault("consent", f"the principal must sign on by a method of {draft.rules.least.name}", "weak_consent")
    if isinstance(mandate.consent, OnPaper) and not mandate.consent.sighted:
        yield Fault("sighted", "name the original documents that were seen", "missing")
    guarded = mandate.relation is Relation.GUARDIAN and isinstance(mandate.consent, OnPaper)
    if not guarded and is_child(draft.born or mandate.principal.born(), today):
        yield Fault("principal", "is a child under 14; a window records the guardian's mandate", "needs_guardian")
