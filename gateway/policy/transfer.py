"""What may cross which border: rules P3, P4, P6 and P8 as pure functions, and transfers.toml.

Owns: the rules, and the registered bases that a deployment relies on. Leaves to its callers: finding out the facts of
a transfer, the register of transfers, and asking people for their consent. A rule never stops at the first finding:
all are reported, each with what to do about it.

Sources: PIPL (个人信息保护法) art. 38-39 for crossing the border, which Hong Kong and Macau lie beyond; the GBA
standard contracts (粤港澳大湾区个人信息跨境流动标准合同) of 13 December 2023 (Hong Kong) and 10 September 2024 (Macau).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from gateway.domain.calendar import local_day
from gateway.domain.region import Place, Zone, place_of
from gateway.errors import FieldProblem, NotPermitted
from gateway.policy.rulefile import AnyOrCodes, Entry, covers, read_entries

Code = Annotated[str, Field(pattern=r"^[1-8]\d{5}$")]
"""A GB/T 2260 code of six digits."""


class Kind(StrEnum):
    """What a transfer between legal territories can rest on."""

    STATUTORY = "statutory"
    GBA_HONGKONG = "GBA-SC-HK"
    GBA_MACAU = "GBA-SC-MO"
    ASSESSMENT = "assessment"


_CONTRACT_ZONE: Mapping[Kind, Zone] = {Kind.GBA_HONGKONG: Zone.HONGKONG, Kind.GBA_MACAU: Zone.MACAU}


class Basis(Entry):
    """One `[[basis]]` of transfers.toml: a registered ground for transfers in one direction.

    `origin` and `target` cover the place of that code and what lies within it (440600 covers its districts). Without
    `items` it covers every item. `reference` is the filing number (备案号), or the statute and article.
    """

    kind: Kind
    origin: Code
    target: Code
    items: AnyOrCodes = frozenset("*")
    reference: str = Field(min_length=1)


class SubjectRole(StrEnum):
    """How the person whose certificate is looked up is involved in the case."""

    APPLICANT = "applicant"
    PRINCIPAL = "principal"  # 委托人: gave a valid delegation
    PARTY = "party"  # named in the case


@dataclass(frozen=True, slots=True)
class HolderLookup:
    """Which particulars of the holder a lookup names, and in which roles the holder takes part in the case."""

    name: bool
    number: bool
    document_type: bool
    roles: frozenset[SubjectRole]


@dataclass(frozen=True, slots=True)
class ConsentGiven:
    """A separate consent (单独同意, PIPL art. 39) as recorded. Times are aware; `evidence` says how it is proved."""

    id: str | None
    recipient: str
    purpose: str
    fields: frozenset[str]
    given_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One intended transfer: from where to where, which fields, what for, and what it rests on.

    `document_type` is the type of the identity document whose number is sent, None when none is. `lookup` is set for
    a lookup of a certificate. `now` is aware.
    """

    origin: Place
    target: Place
    target_region: str
    target_recipient: str
    document_type: str | None
    fields: Sequence[str]
    purpose: str
    consents: Sequence[ConsentGiven]
    bases: Sequence[Basis]
    now: datetime
    item: str | None = None
    lookup: HolderLookup | None = None

    @property
    def crosses(self) -> bool:
        """Say whether this leaves one legal territory for another."""
        return self.origin.zone is not self.target.zone


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule: its id, a reason for programs, and for people what is wrong and what to do."""

    rule: str
    reason: str
    text: str
    action: str


# --- the file ----------------------------------------------------------------------------------------------------


def load_bases(path: Path, items: Collection[str]) -> tuple[Basis, ...]:
    """Read transfers.toml; `items` are the known codes. Raises StartRefused that lists every problem of the file."""
    return tuple(read_entries(path, "basis", Basis, {"items": items}, _own_problems).values())


def _own_problems(basis: Basis) -> Iterator[tuple[str, str]]:
    origin, target = place_of(basis.origin), place_of(basis.target)
    if origin.zone is target.zone:
        yield "target", "lies in the same territory as origin, where no basis is needed"
    elif why := outside_contract(basis.kind, origin, target):
        yield "kind", why


# --- the rules ---------------------------------------------------------------------------------------------------


def judge(transfer: Transfer) -> list[Finding]:
    """Return every broken rule; an empty list allows the transfer."""
    found = (rule(transfer) for rule in _RULES)
    return [finding for finding in found if finding is not None]


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a transfer across a border rests on: the consent and the registered basis that carry it."""

    consent: ConsentGiven
    basis: Basis


def require(transfer: Transfer) -> Grounds | None:
    """Return what the transfer rests on; None when it crosses no border.

    Raises NotPermitted (`transfer.<reason>` of the first finding) when a rule is broken; all findings are told.
    """
    findings = judge(transfer)
    if findings:
        text = " ".join(f"Rule {f.rule}: {f.text}. {f.action}." for f in findings)
        problems = [
            FieldProblem(f"transfer.{f.rule}", f"{f.text}. {f.action}.", f"transfer.{f.reason}") for f in findings
        ]
        raise NotPermitted(
            text, code=f"transfer.{findings[0].reason}", problems=problems, region=transfer.target_region
        )
    return _grounds(transfer) if transfer.crosses else None


def _grounds(transfer: Transfer) -> Grounds:
    """Return the first consent and the first basis that carry a transfer which breaks no rule."""
    consent, bases = consent_for(transfer), bases_for(transfer)
    if consent is None or not bases:
        raise AssertionError("no rule is broken, so consent and basis are there")
    return Grounds(consent, bases[0])


def consent_for(transfer: Transfer) -> ConsentGiven | None:
    """Return the first consent that carries the transfer."""
    return next((consent for consent in transfer.consents if not _consent_lacks(consent, transfer)), None)


def bases_for(transfer: Transfer) -> list[Basis]:
    """Return the registered bases that carry the transfer, in the order of the file."""
    return [basis for basis in transfer.bases if _basis_lacks(basis, transfer) is None]


def consent_given(transfer: Transfer) -> Finding | None:
    """P3: across zones one consent, in force, names the recipient, the purpose and at least the fields sent."""
    if not transfer.crosses:
        return None
    misses = [_consent_lacks(consent, transfer) for consent in transfer.consents]
    if not all(misses):
        return None
    return Finding(
        "P3",
        "no_consent",
        min(misses, key=len)[0] if misses else f"no consent to a transfer to {transfer.target_recipient} is given",
        "Ask the person for a separate consent that names the recipient, the purpose and every field",
    )


def _consent_lacks(consent: ConsentGiven, transfer: Transfer) -> list[str]:
    name = f"consent {consent.id}" if consent.id else "the consent given"
    unnamed = sorted(set(transfer.fields) - consent.fields)
    checks = [
        (consent.recipient != transfer.target_recipient, f"is for another recipient than {transfer.target_recipient}"),
        (consent.purpose != transfer.purpose, "is for another purpose"),
        (bool(unnamed), f"does not name {', '.join(unnamed)}"),
        (consent.given_at > transfer.now, f"is only given on {consent.given_at.isoformat()}"),
        (consent.expires_at <= transfer.now, f"expired on {consent.expires_at.isoformat()}"),
        (consent.revoked_at is not None and consent.revoked_at <= transfer.now, "is revoked"),
    ]
    return [f"{name} {why}" for wrong, why in checks if wrong]


def basis_registered(transfer: Transfer) -> Finding | None:
    """P4: across zones a basis is registered that covers both ends, the item and the day."""
    if not transfer.crosses:
        return None
    reasons = [_basis_lacks(basis, transfer) for basis in transfer.bases]
    if None in reasons:
        return None
    near = next(
        (why for basis, why in zip(transfer.bases, reasons, strict=True) if why and _same_route(basis, transfer)), None
    )
    route = f"from {transfer.origin.code} to {transfer.target.code}"
    return Finding(
        "P4",
        "no_transfer_basis",
        f"no transfer basis is registered {route}" + (f"; {near}" if near else ""),
        f"Handle this within one territory, or have the operator register a basis {route} in transfers.toml",
    )


def _same_route(basis: Basis, transfer: Transfer) -> bool:
    return (place_of(basis.origin).zone, place_of(basis.target).zone) == (transfer.origin.zone, transfer.target.zone)


def _basis_lacks(basis: Basis, transfer: Transfer) -> str | None:
    """Return the first thing that keeps a basis from carrying this transfer, or None when it carries it."""
    name = f"{basis.kind} {basis.reference}"
    if why := outside_contract(basis.kind, transfer.origin, transfer.target):
        return f"{name} {why}"
    if not (_within(transfer.origin, basis.origin) and _within(transfer.target, basis.target)):
        return f"{name} covers {basis.origin} to {basis.target}"
    if not covers(basis.items, transfer.item):
        return f"{name} does not cover this item"
    day = local_day(transfer.now)
    return None if basis.in_force(day) else f"{name} covers {basis.term()}"


def _within(place: Place, code: str) -> bool:
    """Say whether a place is the one of that code or lies in it (GB/T 2260: pairs for province, city, district)."""
    return place.code.startswith(re.sub(r"(00)+$", "", code)) and place.zone is place_of(code).zone


def outside_contract(kind: Kind, origin: Place, target: Place) -> str | None:
    """Say why a GBA standard contract cannot cover these ends; None for other bases and for ends that it covers."""
    zone = _CONTRACT_ZONE.get(kind)
    if zone is None:
        return None
    if {origin.zone, target.zone} != {Zone.MAINLAND, zone}:
        return f"covers the mainland and {zone} only"
    inland = origin if origin.zone is Zone.MAINLAND else target
    return None if inland.in_gba else f"cannot cover {inland.code}, which is not one of the nine mainland cities"


_HOME: Mapping[str, Zone] = {"HKID": Zone.HONGKONG, "MO_BIR": Zone.MACAU}
_BODILY = frozenset({"face", "chip", "photo", "portrait", "fingerprint", "iris", "biometric"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def stays_home(transfer: Transfer) -> Finding | None:
    """P6: an HKID or BIR number stays in its own territory; face images and chip data stay where they are.

    A field counts as face or chip data when a word of its name says so (`face_image`, `applicant.chipData`).
    """
    if not transfer.crosses:
        return None
    kept = [name for name in transfer.fields if _bodily(name)]
    if _HOME.get(transfer.document_type or "", transfer.target.zone) is not transfer.target.zone:
        kept.insert(0, f"the number of a document of type {transfer.document_type}")
    if not kept:
        return None
    return Finding(
        "P6",
        "must_stay_home",
        f"{', '.join(kept)} may not go from {transfer.origin.zone} to {transfer.target.zone}",
        "Leave this out, and send the pairwise reference of the person with the result of the match",
    )


def _bodily(name: str) -> bool:
    """Say whether a word of this field's name, in singular or plural, is one for a face or other bodily data."""
    words = [word.lower() for word in _WORD.findall(name)]
    return not _BODILY.isdisjoint([*words, *(word.removesuffix("s") for word in words)])


def holder_named(transfer: Transfer) -> Finding | None:
    """P8: a lookup names its holder by name, number and type of document; a number alone is refused."""
    lookup = transfer.lookup
    if lookup is None:
        return None
    particulars = {"name": lookup.name, "number": lookup.number, "type of document": lookup.document_type}
    missing = [word for word, given in particulars.items() if not given]
    if not missing:
        return None
    return Finding(
        "P8",
        "holder_incomplete",
        f"the holder is named without {' and '.join(missing)}",
        "Name the holder by name, number and type of document",
    )


def subject_involved(transfer: Transfer) -> Finding | None:
    """P8: the holder is the applicant of the case, the principal of a valid delegation, or a party that it names."""
    if transfer.lookup is None or transfer.lookup.roles:
        return None
    return Finding(
        "P8",
        "subject_not_involved",
        "the holder is neither the applicant, nor the principal of a delegation, nor a named party of the case",
        "Look up only people of the case, or first name this person in it",
    )


_RULES = (consent_given, basis_registered, stays_home, holder_named, subject_involved)
