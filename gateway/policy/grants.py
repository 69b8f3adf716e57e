"""Grants: which client may use which capability for which item or certificate type, purpose and region.

Owns: grants.toml, the one evaluator of it, and the words of a refusal. Leaves to its callers: proving who the client
is, and recording the decision as evidence. Everything is refused that no grant covers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from pathlib import Path

from gateway.domain.item import Item
from gateway.errors import NotPermitted
from gateway.policy.rulefile import ANY, AnyOrCodes, Codes, Entry, covers, read_entries

_SHOWN = 5
"""How many codes of a grant an explanation names before it counts the rest."""


class Capability(StrEnum):
    """What a client can be allowed to do."""

    CREATE_SUBMISSIONS = "submissions.create"
    READ_SUBMISSIONS = "submissions.read"
    LOOK_UP_CERTIFICATES = "certificates.lookup"
    READ_CERTIFICATES = "certificates.data"
    VERIFY_CERTIFICATES = "certificates.verify"
    FETCH_CERTIFICATES = "certificates.file"
    DISPUTE_CERTIFICATES = "certificates.dispute"
    RECORD_MANDATES = "mandates.record"
    RESOLVE_CODES = "codes.resolve"


OF_CERTIFICATES = frozenset(each for each in Capability if each.startswith("certificates."))
"""Capabilities that are granted type by type."""


class Grant(Entry):
    """One `[[grant]]`. Regions are named one by one: an old line does not grant a region that joins later.

    `fields` are those of a certificate whose values may be given out, with `certificates.data`; without it, all.
    """

    client: str
    capability: Capability
    items: AnyOrCodes
    certificate_types: AnyOrCodes | None = None
    fields: AnyOrCodes | None = None
    purposes: AnyOrCodes
    regions: Codes


@dataclass(frozen=True, slots=True)
class Known:
    """The names that grants may use; any other is a spelling mistake that would deny in silence."""

    clients: Collection[str]
    regions: Collection[str]
    items: Collection[str]
    certificate_types: Collection[str]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants to do. None means that the request names no item or no certificate type."""

    client: str
    capability: Capability
    item: str | None
    certificate_type: str | None
    purpose: str
    region: str
    on: date


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer: which grant allows (its number in grants.toml, from 1), or what the nearest one lacks, in words."""

    allowed: bool
    grant: int | None
    missing: str


def load_grants(path: Path, known: Known) -> Grants:
    """Read grants.toml. Raises StartRefused that lists every problem of the file."""
    names = {
        "client": known.clients,
        "regions": known.regions,
        "items": known.items,
        "certificate_types": known.certificate_types,
    }
    return Grants(read_entries(path, "grant", Grant, names, _own_problems))


def _own_problems(grant: Grant) -> Iterator[tuple[str, str]]:
    by_type = grant.capability in OF_CERTIFICATES
    if grant.client == ANY:
        yield "client", "must be one client; a grant is never for everybody"
    if by_type and grant.certificate_types is None:
        yield "certificate_types", f"is required for {grant.capability}"
    if not by_type and grant.certificate_types is not None:
        yield "certificate_types", f"means nothing for {grant.capability}; leave it out"
    if grant.fields is not None and grant.capability is not Capability.READ_CERTIFICATES:
        yield "fields", f"means nothing for {grant.capability}; leave it out"


class Grants:
    """All grants of a deployment. Complete when constructed; a decision reads no file and no clock."""

    def __init__(self, grants: Mapping[int, Grant]) -> None:
        self._of: dict[tuple[str, Capability], list[tuple[int, Grant]]] = {}
        for number, grant in grants.items():
            self._of.setdefault((grant.client, grant.capability), []).append((number, grant))

    def decide(self, ask: Ask) -> Decision:
        """Decide one request. A refusal names the nearest grant and what it lacks, never another client's grants."""
        candidates = self._of.get((ask.client, ask.capability), ())
        for number, grant in candidates:
            if not _lacks(grant, ask):
                return Decision(allowed=True, grant=number, missing="")
        return Decision(allowed=False, grant=None, missing=_explain(ask, candidates))

    def require(self, ask: Ask) -> int:
        """Return the number of the grant that allows this. Raises NotPermitted (`policy.no_grant`) when none does."""
        decision = self.decide(ask)
        if decision.grant is None:
            text = f"{decision.missing}. Ask the operator of this gateway for the missing grant."
            raise NotPermitted(text[0].upper() + text[1:], code="policy.no_grant")
        return decision.grant

    def readable(self, ask: Ask) -> AnyOrCodes:
        """Return the fields whose values every grant that allows this lets out together; `*` stands for all."""
        allowing = [
            grant for _, grant in self._of.get((ask.client, ask.capability), ()) if not _lacks(grant, ask)
        ]  # fmt: skip
        if any(grant.fields is None for grant in allowing):
            return frozenset(ANY)
        return frozenset(name for grant in allowing for name in grant.fields or ())

    def visible_items(self, client: str, items: Iterable[Item], on: date) -> list[Item]:
        """Return the items that the client may submit, each with only the offices that it may submit to.

        The purpose is left open: the client names it when it submits.
        """
        usable = [grant for _, grant in self._of.get((client, Capability.CREATE_SUBMISSIONS), ()) if grant.in_force(on)]
        narrowed = (_narrow(item, [grant for grant in usable if covers(grant.items, item.code)]) for item in items)
        return [item for item in narrowed if item.offices]

    def may_look_up(self, client: str, kind: str, region: str, on: date) -> bool:
        """Say whether some grant lets the client look this type up in that region; item and purpose are left open."""
        granted = self._of.get((client, Capability.LOOK_UP_CERTIFICATES), ())
        return any(
            grant.in_force(on) and region in grant.regions and covers(grant.certificate_types or (), kind)
            for _, grant in granted
        )

    def visible_certificate_types(self, client: str, types: Iterable[str], region: str, on: date) -> list[str]:
        """Return the certificate types about which the client may ask anything in that region."""
        usable = [
            grant.certificate_types or frozenset[str]()
            for capability in OF_CERTIFICATES
            for _, grant in self._of.get((client, capability), ())
            if grant.in_force(on) and region in grant.regions
        ]
        return [kind for kind in types if any(covers(listed, kind) for listed in usable)]


def _narrow(item: Item, grants: Sequence[Grant]) -> Item:
    return replace(item, offices=[o for o in item.offices if any(o.region in grant.regions for grant in grants)])


def _lacks(grant: Grant, ask: Ask) -> list[tuple[str, str]]:
    """Return what keeps this grant from allowing the request: (what is asked, what the grant covers)."""
    lists = [
        ("item", ask.item, grant.items),
        ("purpose", ask.purpose, grant.purposes),
        ("region", ask.region, grant.regions),
    ]
    if grant.certificate_types is not None:
        lists.append(("certificate type", ask.certificate_type, grant.certificate_types))
    lacks = [(_asked(name, value), _shown(codes)) for name, value, codes in lists if not covers(codes, value)]
    return lacks if grant.in_force(ask.on) else [*lacks, (f"the day {ask.on}", grant.term())]


def _asked(name: str, value: str | None) -> str:
    return f"{name} {value}" if value else f"a request without {name}"


def _shown(codes: Collection[str]) -> str:
    first = sorted(codes)[:_SHOWN]
    return ", ".join(first) + (f" and {len(codes) - len(first)} more" if len(codes) > len(first) else "")


def _explain(ask: Ask, candidates: Sequence[tuple[int, Grant]]) -> str:
    if not candidates:
        return f"client {ask.client} has no grant for capability {ask.capability}"
    number, lacks = min(((number, _lacks(grant, ask)) for number, grant in candidates), key=lambda found: len(found[1]))
    missing = " and ".join(asked for asked, _ in lacks)
    covered = " and ".join(covered for _, covered in lacks)
    return (
        f"no grant of client {ask.client} for capability {ask.capability} covers {missing} in this request; "
        f"the nearest, grant {number}, covers {covered}"
    )
