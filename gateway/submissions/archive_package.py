"""The archive package (归档包): one ZIP file with everything that a case was, signed as a whole, and its verifier.

Owns: the form of the package and checking one. Leaves to `archive`: what stands in it. A package needs nothing of us to
be checked but the public key: no database, no address, no clock.

The form (`pearl-archive/1`): entries are stored without compression, in the order of the manifest; `manifest.json`
names every other entry with its size and SHA-256; `manifest.jws` (RFC 7515, compact, typ `pearl-archive+jws`) signs the
SHA-256 of `manifest.json`. The same case makes the same bytes: JSON has sorted keys, entries have no time of their own,
and the signature is made once and kept. `events.json` holds the hash chain of the case (docs/api.md, GET /v1/events).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from joserfc.jwk import KeySet

from gateway.crypto.jose import UnreadableToken, UnverifiedToken, read_header, verified_claims
from gateway.crypto.signing import ALGORITHMS
from gateway.errors import Unavailable
from gateway.submissions.story import LINKED, SALT, digest_of, linked

FORMAT = "pearl-archive/1"
TYP = "pearl-archive+jws"
MANIFEST, SIGNATURE, EVENTS = "manifest.json", "manifest.jws", "events.json"
MOST_ENTRIES = 1000
MOST_JSON = 64 * 1024 * 1024
"""Bytes of one JSON entry that a verifier reads into memory."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every entry: the first that a ZIP file can say."""
_CHUNK = 1024 * 1024


# --- making one ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """One entry: its name, size and digest, and its bytes as they come."""

    name: str
    size: int
    sha256: str
    open: Callable[[], AsyncIterator[bytes]]


def json_bytes(value: Any) -> bytes:
    """Return the one way in which a value is written."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z)


def json_part(name: str, value: Any) -> Part:
    """Return an entry that holds a JSON value."""
    return bytes_part(name, json_bytes(value))


def bytes_part(name: str, content: bytes) -> Part:
    """Return an entry that is in memory."""

    async def whole() -> AsyncIterator[bytes]:
        yield content

    return Part(name, len(content), hashlib.sha256(content).hexdigest(), whole)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a package holds. `head` is the hash of the case's last event."""

    case: str
    head: str
    parts: Sequence[Part] = field(repr=False)

    def written(self) -> bytes:
        """Return the bytes of `manifest.json`."""
        parts = [{"name": part.name, "size": part.size, "sha256": part.sha256} for part in self.parts]
        return json_bytes({"format": FORMAT, "case": self.case, "head": self.head, "parts": parts})

    def sha256(self) -> str:
        """Return the digest that is signed; hex."""
        return hashlib.sha256(self.written()).hexdigest()


@dataclass(frozen=True, slots=True)
class Package:
    """A package that can be written as often as it is wanted, with the same bytes each time."""

    manifest: Manifest
    signature: str

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield its bytes, in constant memory. Raises Unavailable when an entry is not what the manifest says."""
        signed = [bytes_part(MANIFEST, self.manifest.written()), bytes_part(SIGNATURE, self.signature.encode())]
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
            for part in [*signed, *self.manifest.parts]:
                async for piece in _entry(archive, sink, part):
                    yield piece
        yield sink.taken()


async def _entry(archive: zipfile.ZipFile, sink: _Sink, part: Part) -> AsyncIterator[bytes]:
    info = zipfile.ZipInfo(part.name, _EPOCH)
    info.create_system = 3  # the same on every machine
    info.external_attr = 0o100644 << 16
    info.file_size = part.size
    digest, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=part.size >= zipfile.ZIP64_LIMIT) as entry:
        async for piece in part.open():
            digest.update(piece)
            size += len(piece)
            entry.write(piece)
            yield sink.taken()
    if (size, digest.hexdigest()) != (part.size, part.sha256):
        raise Unavailable("Stored data cannot be opened.", detail=f"{part.name} is not what its digest says")


class _Sink(io.RawIOBase):
    """Where `zipfile` writes to: a stream that nobody can go back in, emptied as it fills."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def taken(self) -> bytes:
        """Return what was written since, and forget it."""
        held, self._held = bytes(self._held), bytearray()
        return held


# --- checking one --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a package is: whose case, who signed it with which key and when (seconds since 1970), and what is wrong."""

    case: str
    key: str
    issuer: str
    signed_at: int | None
    parts: int
    events: int
    problems: Sequence[str]

    @property
    def holds(self) -> bool:
        """Say whether nothing is wrong."""
        return not self.problems


class _Wrong(Exception):
    """The package cannot be looked into further."""


def verify(path: Path, keys: KeySet) -> Verdict:
    """Check a package against public keys alone: signature, every entry, and the chain of events.

    Nothing is unpacked; entries that the manifest does not name, that are compressed or stand twice are wrong.
    """
    checking = _Checking(keys)
    try:
        with zipfile.ZipFile(path) as archive:
            checking.check(archive)
    except (_Wrong, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:  # zipfile's
        checking.problems.append(str(error) or type(error).__name__)
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # an entry of another shape than ours
        checking.problems.append(f"holds something of another form ({type(error).__name__})")
    return checking.verdict()


class _Checking:
    """One package under the eyes of the verifier."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self.problems: list[str] = []
        self._case = self._key = self._issuer = ""
        self._signed_at: int | None = None
        self._parts = self._events = 0

    def verdict(self) -> Verdict:
        return Verdict(
            self._case, self._key, self._issuer, self._signed_at, self._parts, self._events, tuple(self.problems)
        )

    def check(self, archive: zipfile.ZipFile) -> None:
        self._check_shape(archive.infolist())
        written = _read(archive, MANIFEST)
        self._check_signature(_read(archive, SIGNATURE), hashlib.sha256(written).hexdigest())
        manifest = _object(written, MANIFEST)
        if manifest.get("format") != FORMAT:
            raise _Wrong(f"{MANIFEST}: is not of the form {FORMAT}")
        if manifest.get("case") != self._case:
            self.problems.append(f"{MANIFEST}: is of another case than the signature")
        self._check_parts(archive, manifest)
        self._check_events(archive, str(manifest.get("head")))

    def _check_shape(self, entries: Sequence[zipfile.ZipInfo]) -> None:
        names = [entry.filename for entry in entries]
        if len(names) > MOST_ENTRIES:
            raise _Wrong(f"has more than {MOST_ENTRIES} entries")
        if len(set(names)) < len(names):
            raise _Wrong("has two entries of one name")
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise _Wrong("has an entry that is compressed or encrypted")

    def _check_signature(self, value: bytes, digest: str) -> None:
        """Check the one thing that all rests on; nothing is believed when it does not hold."""
        token = value.decode("ascii", "replace")
        try:
            said = verified_claims(token, self._keys, algorithms=ALGORITHMS, types={TYP})
        except (UnreadableToken, UnverifiedToken) as error:
            raise _Wrong(f"{SIGNATURE}: {error}") from None
        self._key = str(read_header(token).get("kid", ""))
        self._case, self._issuer = str(said.get("case", "")), str(said.get("iss", ""))
        self._signed_at = said["iat"] if isinstance(said.get("iat"), int) else None
        if said.get("manifest_sha256") != digest:
            raise _Wrong(f"{MANIFEST}: is not the one that was signed")

    def _check_parts(self, archive: zipfile.ZipFile, manifest: Mapping[str, Any]) -> None:
        named = {str(part["name"]): part for part in manifest["parts"]}
        there = {entry.filename for entry in archive.infolist()} - {MANIFEST, SIGNATURE}
        self.problems += [f"{name}: is missing" for name in sorted(named.keys() - there)]
        self.problems += [f"{name}: is not in the manifest" for name in sorted(there - named.keys())]
        for name in sorted(named.keys() & there):
            self._parts += 1
            if _measured(archive, name) != (named[name]["size"], named[name]["sha256"]):
                self.problems.append(f"{name}: is not what was signed")

    def _check_events(self, archive: zipfile.ZipFile, head: str) -> None:
        events = orjson.loads(_read(archive, EVENTS))
        self._events = len(events)
        self.problems += list(_broken_links(events, self._case, head))


def _broken_links(events: Sequence[Mapping[str, Any]], case: str, head: str) -> Iterator[str]:
    """Yield where the chain of events is broken; events from before there was a chain have no hash."""
    previous = ""
    for number, event in enumerate(events, 1):
        where = f"{EVENTS}: event {number}"
        if event["seq"] != number or event["submission_id"] != case:
            yield f"{where} is out of its place"
        if event["hash"]:
            said = {**event["detail"], SALT: event["salt"]} if event["salt"] is not None else event["detail"]
            entry = {name: event[name] for name in LINKED}
            if linked(previous, {**entry, "detail": digest_of(said)}) != event["hash"]:
                yield f"{where} does not fit its hash"
        elif previous:
            yield f"{where} has no hash"
        previous = event["hash"]
    if previous != head:
        yield f"{EVENTS}: the last event is not the head of the case"


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise _Wrong(f"{name}: is missing") from None
    if info.file_size > MOST_JSON:
        raise _Wrong(f"{name}: is larger than {MOST_JSON} bytes")
    return archive.read(info)


def _object(content: bytes, name: str) -> Mapping[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise _Wrong(f"{name}: is no JSON object")
    return value


def _measured(archive: zipfile.ZipFile, name: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with archive.open(name) as entry:
        while piece := entry.read(_CHUNK):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
