"""The signing keys that the configuration names: reading them, and knowing each by its place, its file and its role.

Owns: hearing everything that is wrong with them in one go. Leaves the ring itself to `gateway.crypto.signing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.config import Config, Problems, read_secret
from gateway.crypto.signing import KeyRing, PemKey, Role
from gateway.errors import FieldProblem, StartRefused

PUBLISH_AHEAD_SECONDS = 300
"""For so long others may hold a key set without asking again (`Cache-Control` of /oauth2/jwks)."""


@dataclass(frozen=True, slots=True)
class ConfiguredKey:
    """A signing key and where it comes from; `written_at` is when its file was, None for one out of a variable."""

    place: str
    reference: str
    key: PemKey
    role: Role
    written_at: datetime | None

    @property
    def kid(self) -> str:
        """Return the key's id, as in the header of what it signs."""
        return str(self.key.public.kid)


@dataclass(frozen=True, slots=True)
class OwnRing:
    """The ring, and its keys as the configuration names them."""

    ring: KeyRing
    keys: Sequence[ConfiguredKey]


def read_ring(config: Config) -> OwnRing:
    """Read all signing keys. Raises StartRefused that names every one that is wrong."""
    problems = Problems()
    read: dict[str, list[tuple[str, str, PemKey]]] = {"signing": [], "upcoming": []}
    for kind, references in (("signing", config.keys.signing), ("upcoming", config.keys.upcoming)):
        for number, reference in enumerate(references):
            with problems.collect():
                place = f"keys.{kind}.{number}"
                read[kind].append((place, reference, _read(config, reference, place)))
    problems.refuse()
    try:
        ring = KeyRing(*([key for _, _, key in read[kind]] for kind in ("signing", "upcoming")))
    except ValueError as error:
        raise _refused("keys.signing", str(error)) from None
    named = [*read["signing"], *read["upcoming"]]
    keys = [ConfiguredKey(place, ref, key, ring.role_of(key), _written_at(config, ref)) for place, ref, key in named]
    return OwnRing(ring, keys)


def _read(config: Config, reference: str, place: str) -> PemKey:
    try:
        return PemKey(read_secret(config, reference, place))
    except ValueError as error:
        raise _refused(place, str(error)) from None


def file_of(config: Config, reference: str) -> Path | None:
    """Return the file that a reference names; None when it names a variable."""
    kind, _, target = reference.partition(":")
    return config.path(Path(target)) if kind == "file" else None


def _written_at(config: Config, reference: str) -> datetime | None:
    file = file_of(config, reference)
    return None if file is None else datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _refused(field: str, reason: str) -> StartRefused:
    return StartRefused("keys", problems=[FieldProblem(field, reason)])
