"""A look into a PDF (ISO 32000-2) while its bytes pass: scripts, programs to launch, files within, encryption.

Owns: the scan. It reads names, also with their characters escaped (`/J#61vaScript`), wherever they stand, and unpacks
object streams (7.5.7), where names are hidden otherwise. It needs little memory, whatever the size of the file.

It is a scan and no parser, and believes nothing that a file says of where its objects lie: each byte may begin one. So
what it cannot look into is refused, never passed over: encrypted files, and object streams that are not written as
plainly as programs write them (packed once, with Flate, without predictors, comments and strings in their dictionary,
no other within). It does not see what a picture or a font does to a reader, nor what a reader makes of a file that is
damaged on purpose; streams that are no object streams it passes over (a page's content has no actions).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from gateway.submissions.contents.kinds import ContentRefused, broken

UNPACKED = 64 * 1024 * 1024
"""Bytes that the object streams of one file may unpack to, all together."""
READ = 8 * 1024 * 1024
"""Bytes of dictionaries that may be read to see whether they are of object streams, all together."""
_PIECE = 256 * 1024
_DICTIONARY = 16 * 1024
"""Bytes before and behind its name within which the dictionary of an object stream must begin and end."""
_LONGEST_NAME = 32
"""No name of an object stream is longer, with all its characters escaped."""
_OVERLAP = 128
"""Bytes looked at once more with the next piece: longer than any name with all its characters escaped."""


def _escapable(name: str) -> bytes:
    return b"".join(rb"(?:%c|#%02x|#%02X)" % (c, c, c) for c in name.encode())


def _named(names: str) -> bytes:
    return rb"(?:" + b"|".join(map(_escapable, names.split())) + rb")(?![\w.-])"


_SPACE = rb"[\s\0]"
_FEW = _SPACE + rb"{1,3}"
_COMMENT = rb"%(?:[ -~\t]{4}|[ -~\t]{0,3}[\r\n])"
_REFERENCE = rb"(?:\d{11}|\d{1,10}(?:%|" + _SPACE + rb"{4}|" + _FEW + rb"[\d%]))"
_FILES = rb"(?:" + _SPACE + rb"{4}|" + _SPACE + rb"{0,3}(?:<<|" + _COMMENT + rb"|" + _REFERENCE + rb"))"
"""What follows the name of a specification's files, as far as it must be seen to tell it from chance in a picture."""
_RULES: Mapping[str, bytes] = {
    "pdf_javascript": _named("JavaScript Rendition OnInstantiate"),
    "pdf_launch": _named("Launch"),
    "pdf_embedded_file": _named("EmbeddedFile EmbeddedFiles RichMedia FileAttachment"),
    "files": _escapable("EF") + _FILES,
    "pdf_encrypted": _named("Encrypt"),
    "form": _named("AcroForm"),
    "xfa": _escapable("XFA") + rb"(?=[\s%[\d])",
}
_ANY = re.compile(
    rb"/(?=[JROLFEAX#])(?:" + b"|".join(rb"(?P<%s>%s)" % (k.encode(), v) for k, v in _RULES.items()) + rb")"
)
_SAME: Mapping[str, str] = {"files": "pdf_embedded_file"}
"""What is a rule by another name: a file within need not say that it is one (7.11.4), a specification must have it."""
_XFA_FORM = frozenset({"form", "xfa"})
"""Together they are a form with scripts of its own; one alone may be chance in the bytes of a picture."""
_OBJECT_STREAM = re.compile(rb"/" + _named("ObjStm First"))
"""The type of an object stream, or the entry that every one must have: readers do without the type."""
_NUMBERED = re.compile(rb"\d" + _SPACE + rb"{1,32}\d{1,5}" + _SPACE + rb"{0,32}\Z")
_OPENED = re.compile(_SPACE + rb"*<<")
"""What stands before and behind the word `obj` (7.3.10)."""
_MARK = re.compile(rb"<<|>>|<[^<>]*>|%|\(")
_STRING = re.compile(rb"\\.|[()]", re.DOTALL)
_DATA = re.compile(rb"(?:" + _SPACE + rb"|%[^\r\n]*[\r\n])*(stream" + _SPACE + rb"*)?", re.DOTALL)
_LINE_END = re.compile(rb"[\r\n]")
_NUMBERS = re.compile(rb"\s*\d+\s+\d+\s")
"""How the clear content of an object stream begins."""
_NOT_PLAIN = re.compile(
    rb"[()%]|/(?:Decode|F?DecodeParms|DP|F|FFilter|Crypt|"
    + (
        rb"ASCIIHexDecode|AHx|ASCII85Decode|A85|LZWDecode|LZW|RunLengthDecode|RL)(?![\w.-])|/Filter"
        + _SPACE
        + rb"*[^/\[\s\0]"
    )
)
"""What a dictionary of an object stream is not looked behind for: it would have other bytes read than these."""
_ESCAPED = re.compile(rb"#([0-9A-Fa-f]{2})")
_BEGINNING = 64


class PdfScan:
    """Takes the bytes of one file in order. `feed` and `close` raise ContentRefused."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._names = _Names(self._seen)
        self._held = bytearray()
        self._from = 0
        self._packed: _ObjectStream | None = None
        self._budget = _Budget()

    def feed(self, piece: bytes) -> None:
        """Look at the next bytes."""
        self._names.feed(piece)
        if self._packed is not None:
            self._unpack(self._packed, piece)
        self._held += piece
        self._seek(ended=False)

    def close(self) -> None:
        """Say that the file has ended."""
        self._names.feed(b"\n")
        self._held += b" "
        self._seek(ended=True)
        if self._packed is not None:
            raise _unreadable("an object stream does not end")

    def _seek(self, *, ended: bool) -> None:
        """Find object streams as far as the held bytes allow; also where another one's bytes lie."""
        while (found := _OBJECT_STREAM.search(self._held, self._from)) is not None and found.end() < len(self._held):
            data = self._data_behind(found.end(), ended=ended)
            if data is None:
                break
            if data > 0:
                self._open(_dictionary(self._held, found.start(), data), data)
            self._from = max(found.end(), data)
        else:
            self._from = max(self._from, len(self._held) - _LONGEST_NAME)
        passed = max(0, self._from - _DICTIONARY)
        del self._held[:passed]
        self._from -= passed

    def _data_behind(self, begin: int, *, ended: bool) -> int | None:
        """Return where the data begin that follow a dictionary, 0 where none do, None where more bytes are needed."""
        end = _end_of_dictionary(self._held, begin)
        if end is None:
            return 0 if ended else None
        if end == 0:
            raise _unreadable("a dictionary that may be an object stream's does not end")
        behind = _DATA.match(self._held, end, end + _DICTIONARY)
        if behind is None or behind.end() == end + _DICTIONARY:
            raise _unreadable("a dictionary that may be an object stream's is followed by nothing")
        if len(self._held) < behind.end() + _BEGINNING and not ended:
            return None
        self._budget.read(end - begin)
        return behind.end() if behind[1] is not None else 0

    def _open(self, dictionary: bytes, data: int) -> None:
        """Begin to unpack what is not in the open; refuse what is not written plainly."""
        if self._packed is not None:
            raise _unreadable("an object stream lies within another")
        begin = bytes(self._held[data : data + _BEGINNING])
        if _NOT_PLAIN.search(dictionary):
            raise _unreadable("an object stream is not written plainly, and packed with Flate")
        if _is_zlib(begin):
            self._packed = _ObjectStream(self._seen, self._budget)
            self._unpack_held(self._packed, data)
        elif not _NUMBERS.match(begin):
            raise _unreadable("an object stream is not packed with Flate")

    def _unpack_held(self, stream: _ObjectStream, begin: int) -> None:
        """Unpack what is held already, no more than the stream has: the rest may hold thousands of others."""
        size = _BEGINNING
        while self._packed is not None and begin < len(self._held):
            self._unpack(stream, bytes(self._held[begin : begin + size]))
            begin, size = begin + size, 2 * size

    def _unpack(self, stream: _ObjectStream, piece: bytes) -> None:
        if stream.feed(piece):
            self._packed = None


def _unreadable(more: str) -> ContentRefused:
    return broken("pdf_unreadable", more)


class _Budget:
    """What is left of the work that one file may cost."""

    def __init__(self) -> None:
        self._read = 0
        self._unpacked = 0

    def read(self, count: int) -> None:
        """Count bytes of dictionaries. Raises ContentRefused."""
        self._read += count
        if self._read > READ:
            raise _unreadable("its dictionaries are without end")

    def unpacked(self, count: int) -> None:
        """Count bytes of object streams. Raises ContentRefused."""
        self._unpacked += count
        if self._unpacked > UNPACKED:
            raise _unreadable(f"its object streams unpack to more than {UNPACKED} bytes")


def _end_of_dictionary(held: bytearray, begin: int) -> int | None:
    """Return where a dictionary ends of which `begin` is within, None where more bytes are needed, 0 when too far."""
    depth, place, limit = 0, begin, begin + _DICTIONARY
    while (mark := _MARK.search(held, place, limit)) is not None:
        place = mark.end()
        if mark[0] == b">>" and depth == 0:
            return place
        if mark[0] == b"%":
            ended = _LINE_END.search(held, place, limit)
            place = limit if ended is None else ended.end()
        elif mark[0] == b"(":
            place = _end_of_string(held, place, limit)
        else:
            depth += {b"<<": 1, b">>": -1}.get(mark[0], 0)
    return None if len(held) < limit else 0


def _end_of_string(held: bytearray, begin: int, limit: int) -> int:
    """Return where a string ends, parentheses within it included (7.3.4.2); the limit when it does not."""
    depth = 1
    for mark in _STRING.finditer(held, begin, limit):
        depth += {b"(": 1, b")": -1}.get(mark[0], 0)
        if depth == 0:
            return mark.end()
    return limit


def _dictionary(held: bytearray, name: int, data: int) -> bytes:
    """Return the dictionary in which a name stands, from the beginning of its object, with nothing escaped.

    Raises ContentRefused when it cannot be told where it begins: what looks like it may stand in a comment.
    """
    word = held.rfind(b"obj", max(0, name - _DICTIONARY), name)
    opened = _OPENED.match(held, word + 3)
    if word < 0 or opened is None or _NUMBERED.search(held[max(0, word - _BEGINNING) : word]) is None:
        raise _unreadable("an object stream does not begin as objects do")
    lines = max(0, word - _DICTIONARY)
    line = max(held.rfind(b"\n", lines, word) + 1, held.rfind(b"\r", lines, word) + 1, lines)
    if b"%" in held[line:word]:
        raise _unreadable("an object stream begins in a comment")
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), bytes(held[opened.end() : data]))


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
            raise broken(_SAME.get(rule, rule))
        if self._seen >= _XFA_FORM:
            raise broken("pdf_javascript")


class _ObjectStream:
    """Unpacks an object stream, and looks at what is in it."""

    def __init__(self, seen: set[str], budget: _Budget) -> None:
        self._inflate = zlib.decompressobj()
        self._names = _Names(seen)
        self._budget = budget
        self._begin = b""
        self._begun = False

    def feed(self, piece: bytes) -> bool:
        """Unpack; return whether the stream has ended. Raises ContentRefused."""
        while piece:
            try:
                clear = self._inflate.decompress(piece, _PIECE)
            except zlib.error:
                raise _unreadable("an object stream cannot be unpacked") from None
            self._budget.unpacked(len(clear))
            self._take(clear)
            if self._inflate.eof:
                self._end()
                return True
            piece = self._inflate.unconsumed_tail
        return False

    def _take(self, clear: bytes) -> None:
        self._names.feed(clear)
        if not self._begun:
            self._begin += clear[:_BEGINNING]
            self._begun = len(self._begin) >= _BEGINNING and self._check_begin()

    def _end(self) -> None:
        self._names.feed(b"\n")
        if not self._begun:
            self._check_begin()

    def _check_begin(self) -> bool:
        """Refuse what is unpacked and no object stream: it may be packed twice."""
        if not _NUMBERS.match(self._begin + b"\n"):
            raise _unreadable("an object stream cannot be unpacked")
        return True


def _is_zlib(begin: bytes) -> bool:
    """Say whether data begin like the zlib format (RFC 1950 §2.2)."""
    return len(begin) > 1 and begin[0] & 15 == 8 and (begin[0] << 8 | begin[1]) % 31 == 0
