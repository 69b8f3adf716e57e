"""Certificate types (证照类型) that can be looked up: code, names, and who issues them.

Owns: the data file that says which region answers for which type. Leaves to `lookup`: asking. Whether a type's code is
official or only the sandbox's stands with it, since most official numbers are not public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from gateway.config import Problems, Settings, parse, read_toml


class TypeEntry(Settings):
    """`[[type]]` of certificates.toml."""

    code: str = Field(pattern=r"^[0-9A-Z]{18}\d{3}$")
    name: str
    aliases: list[str] = Field(default_factory=list)
    code_status: Literal["official", "sandbox"]
    issuers: list[str] = Field(min_length=1)


class TypesFile(Settings):
    """The file as a whole."""

    type: list[TypeEntry]


@dataclass(frozen=True, slots=True)
class CertificateType:
    """One type.

    `code` is 21 characters: USCC of the defining body and three digits (GB/T 36904); `issuers` are region ids.
    """

    code: str
    name: str
    aliases: Sequence[str]
    code_status: str
    issuers: Sequence[str]


def load_types(path: Path, regions: frozenset[str]) -> dict[str, CertificateType]:
    """Return the types by code. Raises StartRefused with every problem of the file."""
    entries = parse(TypesFile, read_toml(path), path.name).type
    problems = Problems()
    for number, reason in _wrong(entries, regions):
        problems.add(f"{path.name}: type.{number}", reason)
    problems.refuse()
    return {e.code: CertificateType(e.code, e.name, tuple(e.aliases), e.code_status, tuple(e.issuers)) for e in entries}


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


def find_type(types: Mapping[str, CertificateType], wanted: str) -> CertificateType | None:
    """Return the type of this code, name or alias: systems often ask by name (中华人民共和国居民身份证)."""
    if wanted in types:
        return types[wanted]
    return next((t for t in types.values() if wanted == t.name or wanted in t.aliases), None)
