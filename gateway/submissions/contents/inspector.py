"""One pass over a file's bytes: counted, digested, and held against what was declared.

Owns: which look a kind of file gets, in constant memory and without reading anything twice that need not be. Leaves to
`pdf` and `archive`: looking. An archive needs a second pass, because its directory stands at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.submissions.contents.archive import TAIL, ArchiveWalk, read_directory
from gateway.submissions.contents.kinds import LONGEST_BEGINNING, Look, mismatch, need_kind
from gateway.submissions.contents.pdf import PdfScan

ALGORITHMS: Mapping[str, str] = {"sha-256": "sha256", "sha-512": "sha512"}
"""Names of digest algorithms (RFC 9530, IANA "Hash Algorithms for HTTP Digest Fields") → those of hashlib."""


class Digests:
    """Digests bytes that pass, by every algorithm that is asked for."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashes = {name: hashlib.new(ALGORITHMS[name]) for name in algorithms}

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        for running in self._hashes.values():
            running.update(piece)

    def read(self) -> dict[str, str]:
        """Return the digests so far, in lower-case hex."""
        return {name: running.hexdigest() for name, running in self._hashes.items()}


@dataclass(frozen=True, slots=True)
class Findings:
    """What a pass found: size in bytes, digests in hex by algorithm, and the walk that an archive still needs."""

    size: int
    digests: Mapping[str, str]
    walk: ArchiveWalk | None


class Inspector:
    """Takes the bytes of one file in order. `feed` and `close` raise ContentRefused."""

    def __init__(self, media_type: str, algorithms: Iterable[str] = ()) -> None:
        self._media_type = media_type
        self._kind = need_kind(media_type)
        self._digests = Digests({"sha-256", *algorithms})
        self._pdf = PdfScan() if self._kind.look is Look.PDF else None
        self._tail = bytearray()
        self._head = b""
        self.size = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.size += len(piece)
        self._digests.feed(piece)
        if len(self._head) < LONGEST_BEGINNING:
            self._begin(piece)
        if self._pdf is not None:
            self._pdf.feed(piece)
        if self._kind.look is Look.ARCHIVE:
            self._tail += piece
            if len(self._tail) > 2 * TAIL:
                del self._tail[:-TAIL]

    def close(self) -> Findings:
        """Say that the file has ended, and return what was found."""
        if not self._head.startswith(self._kind.begins):
            raise mismatch(self._media_type)
        if self._pdf is not None:
            self._pdf.close()
        return Findings(self.size, self._digests.read(), self._archive())

    def _begin(self, piece: bytes) -> None:
        """Refuse a file as soon as it cannot be what was declared."""
        self._head = (self._head + piece[:LONGEST_BEGINNING])[:LONGEST_BEGINNING]
        known = self._kind.begins
        if self._head[: len(known)] != known[: len(self._head)]:
            raise mismatch(self._media_type)

    def _archive(self) -> ArchiveWalk | None:
        if self._kind.look is not Look.ARCHIVE:
            return None
        directory = read_directory(bytes(self._tail[-TAIL:]), self.size)
        names = {entry.filename for entry in directory.entries}
        missing = [name for name in self._kind.entries if name not in names]
        if missing:
            raise mismatch(self._media_type, f"without {', '.join(missing)}")
        return ArchiveWalk(directory)
