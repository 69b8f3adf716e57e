"""Who issued it: the way from a holder, an identifier or a name of a type to the regions that can be asked.

Owns: the order in which they are asked. It knows nothing but the types of certificates.toml and the places of the
regions: there is no index of holders or certificates anywhere (逻辑汇聚, logical aggregation). Leaves to `permission`:
who may ask them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.certificates.request import HolderNamed
from gateway.certificates.types import CertificateType, find_type
from gateway.domain.certificate_identifier import CertificateIdentifier
from gateway.errors import FieldProblem
from gateway.regions import Region

_HOMES: Mapping[str, str] = {"HKID": "810000", "HK_BRN": "810000", "MO_BIR": "820000"}
"""Kinds of documents that say by themselves where their holder is at home."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Types and regions."""

    types: Mapping[str, CertificateType]
    regions: Mapping[str, Region]

    def named(self, wanted: str, field: str, problems: list[FieldProblem]) -> CertificateType | None:
        """Return the type of this code, name or alias; a problem is added when there is none."""
        kind = find_type(self.types, wanted)
        if kind is None:
            problems.append(FieldProblem(field, "is neither a known code nor a known name", "unknown"))
        return kind

    def issuers(self, kind: CertificateType) -> list[Region]:
        """Return the regions that can be asked for certificates of a type, in the order of certificates.toml."""
        return [self.regions[name] for name in kind.issuers if self.regions[name].adapter.certificates]

    def chosen(self, kind: CertificateType, wanted: str | None, problems: list[FieldProblem]) -> Sequence[Region]:
        """Return the region that is named, or all that may have issued one; a problem where that is nobody."""
        candidates = self.issuers(kind)
        known = ", ".join(region.id for region in candidates) or "none"
        if wanted is None and not candidates:
            reason = f"no region that issues this type can be asked; it is issued by: {', '.join(kind.issuers)}"
            problems.append(FieldProblem("certificate_type", reason, "nobody_to_ask"))
        if wanted is None:
            return candidates
        chosen = [region for region in candidates if region.id == wanted]
        if not chosen:
            problems.append(FieldProblem("issuer", f"does not issue this type; regions that do: {known}", "unknown"))
        return chosen

    def of_identifier(self, identifier: CertificateIdentifier) -> Region | None:
        """Return the region that issued the certificate of this identifier, by its issuer's place (GB/T 2260).

        The nearest wins: a district's certificate is its city's, where the city is a region, else its province's. Where
        the place leads to none that issues the type, the type's only issuer is asked: ministries' types have one.
        """
        kind = self.types.get(identifier.type_code)
        candidates = [] if kind is None else [self.regions[name] for name in kind.issuers]
        places = {} if identifier.area is None else {region.place.code: region for region in candidates}
        area = identifier.area or ""
        for code in (area, f"{area[:4]}00", f"{area[:2]}0000"):
            if code in places:
                return places[code]
        return candidates[0] if len(candidates) == 1 else None

    def of_code(self, code: str) -> Region | None:
        """Return the region whose shown codes (亮证码) begin like this one; the longest beginning wins."""
        found = [
            (len(prefix), region)
            for region in self.regions.values()
            for prefix in region.shown_prefixes
            if code.startswith(prefix) and region.tells("code")
        ]
        return max(found, key=lambda one: one[0])[1] if found else None


def nearest_first(regions: Sequence[Region], holder: HolderNamed) -> list[Region]:
    """Put the holder's own region first: most certificates are issued where their holder is at home.

    The home is read from the document: the first six digits of an identity number or of a USCC's registration place.
    """
    home = _home(holder)
    return sorted(regions, key=lambda region: _distance(region.place.code, home))


def is_home(region: Region, holder: HolderNamed) -> bool:
    """Say whether the holder's document places them in this region."""
    return _distance(region.place.code, _home(holder)) < _ELSEWHERE


_ELSEWHERE = 3


def _home(holder: HolderNamed) -> str:
    document = holder.document
    if document.type in _HOMES:
        return _HOMES[document.type]
    digits = document.number[2:8] if document.type == "USCC" else document.number[:6]
    return digits if digits.isdecimal() else ""


def _distance(place: str, home: str) -> int:
    """Return 0 for the very place, 1 for its city, 2 for its province, 3 for elsewhere."""
    steps = (home, f"{home[:4]}00", f"{home[:2]}0000")
    return steps.index(place) if home and place in steps else _ELSEWHERE
