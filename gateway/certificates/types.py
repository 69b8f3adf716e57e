"""Certificate types (证照类型): codes, names, who defines and who issues them, and what they are worth elsewhere.

Owns: certificates.toml. Leaves to `directory`: whom to ask. Whether a type's code is official or only the sandbox's
stands with it, since most official numbers are not public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field

from gateway.config import Problems, Settings, parse, read_toml

Level = Literal["national", "province", "city", "county"]
Recognition = Literal["data", "original", "display"]

CACHED = 600
"""Seconds for which a standing may be remembered, where a type says nothing else (domain rule: 10 minutes)."""
LONGEST = 30 * 86_400
"""Seconds for which a proof of a certificate may be believed at most; notices are kept longer than that."""
RECHECKED = 86_400
"""Seconds after which a certificate that stands for a material is asked about again, where a type says nothing."""


class SurfaceEntry(Settings):
    """`surface` of a type: a field that is printed on it beyond what every certificate has (照面信息项)."""

    id: str
    name: str


class TypeEntry(Settings):
    """`[[type]]` of certificates.toml."""

    code: str = Field(pattern=r"^[0-9A-Z]{18}\d{3}$")
    name: str
    aliases: list[str] = Field(default_factory=list)
    code_status: Literal["official", "sandbox"]
    definer: str = ""
    level: Level = "province"
    recognition: Recognition = "data"
    recognition_by: dict[str, Recognition] = Field(default_factory=dict)
    issuers: list[str] = Field(min_length=1)
    cache_seconds: int = Field(CACHED, ge=0, le=3600)
    recheck_seconds: int = Field(RECHECKED, ge=60, le=LONGEST)
    surface: list[SurfaceEntry] = Field(default_factory=list)


class TypesFile(Settings):
    """The file as a whole."""

    type: list[TypeEntry]


@dataclass(frozen=True, slots=True)
class CertificateType:
    """One type.

    `code` is 21 characters: USCC of the defining body and three digits (GB/T 36904); `definer` is that body's name;
    `level` is at which level it is issued. `issuers` are region ids; `recognition` says what a certificate of this type
    counts for where it was not issued: its data only, its file as an original, or a display; `recognition_by` says so
    for single issuers. A standing is remembered for `cached` at most; a certificate that stands for a material is asked
    about again once its proof is older than `rechecked`.
    """

    code: str
    name: str
    aliases: Sequence[str]
    code_status: str
    issuers: Sequence[str]
    definer: str = ""
    level: Level = "province"
    recognition: Recognition = "data"
    recognition_by: Mapping[str, Recognition] = field(default_factory=dict)
    cached: timedelta = timedelta(seconds=CACHED)
    rechecked: timedelta = timedelta(seconds=RECHECKED)
    surface: Mapping[str, str] = field(default_factory=dict)

    def recognised(self, region: str) -> Recognition:
        """Say what one that this region issued counts for elsewhere (异地互认)."""
        return self.recognition_by.get(region, self.recognition)


def load_types(path: Path, regions: frozenset[str]) -> dict[str, CertificateType]:
    """Return the types by code. Raises StartRefused with every problem of the file."""
    entries = parse(TypesFile, read_toml(path), path.name).type
    problems = Problems()
    for number, reason in _wrong(entries, regions):
        problems.add(f"{path.name}: type.{number}", reason)
    problems.refuse()
    return {entry.code: _made(entry) for entry in entries}


def _made(entry: TypeEntry) -> CertificateType:
    return CertificateType(
        code=entry.code,
        name=entry.name,
        aliases=tuple(entry.aliases),
        code_status=entry.code_status,
        issuers=tuple(entry.issuers),
        definer=entry.definer,
        level=entry.level,
        recognition=entry.recognition,
        recognition_by=entry.recognition_by,
        cached=timedelta(seconds=entry.cache_seconds),
        rechecked=timedelta(seconds=entry.recheck_seconds),
        surface={one.id: one.name for one in entry.surface},
    )


def _wrong(entries: Sequence[TypeEntry], regions: frozenset[str]) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        for name in (entry.code, entry.name, *entry.aliases):
            if name in seen:
                yield number, f"{name} already names another type"
            seen.add(name)
        for issuer in entry.issuers:
            if issuer not in regions:
                yield number, f"issuer {issuer!r} is no enabled region; enabled: {', '.join(sorted(regions))}"
        for issuer in entry.recognition_by.keys() - set(entry.issuers):
            yield number, f"recognition_by: {issuer!r} is no issuer of this type"


def find_type(types: Mapping[str, CertificateType], wanted: str) -> CertificateType | None:
    """Return the type of this code, name or alias: systems often ask by name (中华人民共和国居民身份证)."""
    if wanted in types:
        return types[wanted]
    return next((t for t in types.values() if wanted == t.name or wanted in t.aliases), None)
