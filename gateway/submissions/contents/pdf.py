"""A look into a PDF (ISO 32000-2) while its bytes pass: scripts, programs to launch, files within, encryption.

Owns: the scan. It reads names, also with their characters escaped (`/J#61vaScript`), wherever they stand, and unpacks
object streams (7.5.7), where names are hidden otherwise. It needs little memory, whatever the size of the file.

It is a scan and no parser. It does not see what a picture or a font does to a reader, nor what a reader makes of a file
that is damaged on purpose; streams that are no object streams it passes over (a page's content has no actions). What it
cannot look into is refused: encrypted files, and object streams that are packed in another way than Flate.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from gateway.submissions.contents.kinds import broken

UNPACKED = 64 * 1024 * 1024
"""Bytes that the object streams of one file may unpack to, all together."""
_PIECE = 256 * 1024
_DICTIONARY = 4096
"""Bytes within which the dictionary of an object stream must end, and data follow."""
_OVERLAP = 128
"""Bytes looked at once more with the next piece: longer than any name with all its characters escaped."""


def _escapable(name: str) -> bytes:
    return b"".join(rb"(?:%c|#%02x|#%02X)" % (c, c, c) for c in name.encode())


def _named(names: str) -> bytes:
    return rb"(?:" + b"|".join(map(_escapable, names.split())) + rb")(?![\w.-])"


_RULES: Mapping[str, bytes] = {
    "pdf_javascript": _named("JavaScript Rendition"),
    "pdf_launch": _named("Launch"),
    "pdf_embedded_file": _named("EmbeddedFile EmbeddedFiles RichMedia"),
    "pdf_encrypted": _named("Encrypt"),
    "form": _named("AcroForm"),
    "xfa": _escapable("XFA") + rb"(?=[\s%[\d])",
}
_ANY = re.compile(
    rb"/(?=[JRLEAX#])(?:" + b"|".join(rb"(?P<%s>%s)" % (k.encode(), v) for k, v in _RULES.items()) + rb")"
)
_XFA_FORM = frozenset({"form", "xfa"})
"""Together they are a form with scripts of its own; one alone may be chance in the bytes of a picture."""
_OBJECT_STREAM = re.compile(rb"/" + _named("ObjStm First"))
"""The type of an object stream, or the entry that every one must have: readers do without the type."""
_DATA = re.compile(rb"stream\r?\n")
_NUMBERS = re.compile(rb"\s*\d+\s+\d+\s")
"""How the clear content of an object stream begins."""
_OTHER_PACKING = re.compile(
    rb"/" + _named("ASCIIHexDecode AHx ASCII85Decode A85 LZWDecode LZW RunLengthDecode RL Crypt")
)
_BEGINNING = 64


class PdfScan:
    """Takes the bytes of one file in order. `feed` and `close` raise ContentRefused."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._names = _Names(self._seen)
        self._held = bytearray()
        self._packed: _ObjectStream | None = None
        self._unpacked = 0

    def feed(self, piece: bytes) -> None:
        """Look at the next bytes."""
        self._names.feed(piece)
        self._held += piece
        while self._step():
            pass

    def close(self) -> None:
        """Say that the file has ended."""
        self._names.feed(b"\n")
        self._held += b" " * (_DICTIONARY + _BEGINNING)
        while self._step():
            pass
        if self._packed is not None and self._packed.certain:
            raise broken("pdf_unreadable", "an object stream does not end")

    def _step(self) -> bool:
        """Go as far as the held bytes allow; return whether there may be more to do with them."""
        return self._seek() if self._packed is None else self._unpack(self._packed)

    def _seek(self) -> bool:
        """Find the next object stream; what stands before it is not needed any more."""
        found = _OBJECT_STREAM.search(self._held)
        if found is None:
            del self._held[:-_DICTIONARY]
            return False
        data = _DATA.search(self._held, found.end(), found.end() + _DICTIONARY)
        if len(self._held) < (found.end() + _DICTIONARY if data is None else data.end() + _BEGINNING):
            return False
        if data is None:  # a name in the open, with no data right behind it
            del self._held[: found.end()]
            return True
        certain = self._held.find(b"endobj", found.end(), data.start()) < 0
        self._open(bytes(self._held[: data.start()]), bytes(self._held[data.end() :][:_BEGINNING]), certain)
        del self._held[: data.end()]
        return True

    def _open(self, before: bytes, begin: bytes, certain: bool) -> None:
        """Begin to unpack, unless what follows is in the open; refuse what certainly is such data and neither."""
        if _is_zlib(begin):
            self._packed = _ObjectStream(self._seen, certain)
        elif certain and (not _NUMBERS.match(begin) or _OTHER_PACKING.search(before[-_DICTIONARY:])):
            raise broken("pdf_unreadable", "an object stream is not packed with Flate")

    def _unpack(self, stream: _ObjectStream) -> bool:
        if not self._held:
            return False
        held, self._held = bytes(self._held), bytearray()
        rest = stream.feed(held, UNPACKED - self._unpacked)
        if rest is None:
            return False
        self._unpacked += stream.unpacked
        self._packed = None
        self._held = bytearray(rest)
        return True


class _Names:
    """Looks for names that break a rule, in bytes that come in pieces."""

    def __init__(self, seen: set[str]) -> None:
        self._tail = b""
        self._seen = seen

    def feed(self, piece: bytes) -> None:
        window = self._tail + piece
        for found in _ANY.finditer(window):
            if found.end() < len(window):  # otherwise the next piece may make it another, longer name
                self._note(found.lastgroup or "")
        self._tail = window[-_OVERLAP:]

    def _note(self, rule: str) -> None:
        self._seen.add(rule)
        if rule not in _XFA_FORM:
            raise broken(rule)
        if self._seen >= _XFA_FORM:
            raise broken("pdf_javascript")


class _ObjectStream:
    """Unpacks what is, certainly or perhaps, an object stream, and looks at what is in it."""

    def __init__(self, seen: set[str], certain: bool) -> None:
        self._inflate = zlib.decompressobj()
        self._names = _Names(seen)
        self.certain = certain
        self.unpacked = 0

    def feed(self, piece: bytes, budget: int) -> bytes | None:
        """Unpack; return what follows the stream once it has ended, None before. `budget` bounds its clear bytes."""
        while piece:
            try:
                clear = self._inflate.decompress(piece, _PIECE)
            except zlib.error:
                return self._no_stream(piece)
            if self.unpacked == 0 and clear and not _NUMBERS.match(clear):
                return self._no_stream(piece)
            self.unpacked += len(clear)
            if self.unpacked > budget:
                raise broken("pdf_unreadable", f"its object streams unpack to more than {UNPACKED} bytes")
            self._names.feed(clear)
            if self._inflate.eof:
                self._names.feed(b"\n")
                return self._inflate.unused_data
            piece = self._inflate.unconsumed_tail
        return None

    def _no_stream(self, piece: bytes) -> bytes:
        """Refuse what should be an object stream and is none; pass over what only might have been one."""
        if self.certain:
            raise broken("pdf_unreadable", "an object stream cannot be unpacked")
        return piece


def _is_zlib(begin: bytes) -> bool:
    """Say whether data begin like the zlib format (RFC 1950 §2.2)."""
    return len(begin) > 1 and begin[0] & 15 == 8 and (begin[0] << 8 | begin[1]) % 31 == 0
