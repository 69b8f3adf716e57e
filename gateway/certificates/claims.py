"""What somebody claims that a certificate says, held against what its issuer says (核验): match or mismatch, per field.

Owns: which values are compared, and how. Pure. A value of the issuer's never leaves here. Names are compared as people
write them; of everything else width, capitals and blanks alone make no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from gateway.domain.spelling import bare, spelt

SURFACE = "surface."
"""What the name of a claim begins with that is about a field of its type (照面信息项): `surface.<issuer's name>`."""


class Match(StrEnum):
    """How a claim stands. `ABSENT`: the issuer's record has no such field."""

    MATCH = "match"
    MISMATCH = "mismatch"
    ABSENT = "absent"


def compared(claims: Mapping[str, str], certificate: Mapping[str, Any]) -> dict[str, Match]:
    """Return for each claim whether it fits."""
    fields = dict(flat(certificate))
    return {name: _one(name, claimed, fields.get(name)) for name, claimed in claims.items()}


def _one(name: str, claimed: str, held: str | None) -> Match:
    if held is None:
        return Match.ABSENT
    alike = spelt if name.endswith("name") else bare
    return Match.MATCH if alike(claimed) == alike(held) else Match.MISMATCH


def flat(certificate: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every field of a certificate under its path, `holder.document.number`, those of its type as `surface.…`."""
    for name, value in certificate.items():
        if name == "surface" and not prefix:
            yield from ((f"{SURFACE}{field['name']}", field["value"]) for field in value)
        elif isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def restricted(certificate: Mapping[str, Any], allowed: set[str]) -> dict[str, Any]:
    """Return a certificate with the fields that are allowed alone. A name allows what lies under it: `holder`."""

    def keeps(path: str) -> bool:
        return any(path == name or path.startswith(f"{name}.") for name in allowed)

    kept: dict[str, Any] = {}
    for path, value in flat(certificate):
        if not keeps(path):
            continue
        if path.startswith(SURFACE):
            kept.setdefault("surface", []).append({"name": path.removeprefix(SURFACE), "value": value})
            continue
        *parents, last = path.split(".")
        place = kept
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return kept
