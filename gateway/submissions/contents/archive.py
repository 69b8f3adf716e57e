"""A look into a file that is a ZIP archive (OFD, GB/T 33190; Office Open XML, ISO/IEC 29500) before anybody unpacks it.

Owns: the directory at the end, read by the standard library out of the file's last bytes; then a walk through all
entries in the order in which they lie, while the file is read once more. Each is unpacked into nothing, so that what
the directory says of it is known to be true. Memory is bounded by `TAIL`, time by `UNPACKED`.

What it does not see: what the XML within does to a reader, and addresses that it may fetch things from.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from zipfile import ZipInfo

from gateway.submissions.contents.kinds import broken

ENTRIES = 4096
"""Entries that an archive may have."""
UNPACKED = 1 << 30
"""Bytes that all entries together may unpack to."""
RATIO = 100
"""How many times its own size an archive may unpack to, beyond `FREE` bytes."""
FREE = 16 << 20
TAIL = 2 << 20
"""Bytes at the end of the file within which its directory must lie."""

_LOCAL = struct.Struct("<4s5H3I2H")
_ZIP64 = 0xFFFFFFFF
_SIZES_FOLLOW = 8
_ZIP64 = 0xFFFFFFFF
_SIZES_FOLLOW = 8
_DESCRIPTOR = 24
"""The longest data descriptor behind an entry (ZIP64, with signature)."""
_NESTED = (b"PK\x03\x04", b"PK\x05\x06", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"MSCF")
_PROGRAMS = (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"MZ", b"\x7fELF")
"""How OLE (old Office files, packaged objects, vbaProject.bin) and programs begin."""
_NESTED_NAMES = frozenset(
    {".zip", ".rar", ".7z", ".gz", ".tgz", ".bz2", ".xz", ".tar", ".cab", ".jar", ".ofd"}
    | {".docx", ".xlsx", ".pptx", ".docm", ".xlsm", ".pptm"}
)
_MACRO_NAMES = frozenset({"vbaproject.bin", "vbadata.xml", "vbaprojectsignature.bin"})
_MACRO_WORDS = (b"macroEnabled", b"vbaProject", b"activeX")
"""What the list of content types says of a file with macros, whatever its entries are called."""
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Directory:
    """What an archive says of itself: its entries in the order in which they lie, and where its directory begins."""

    entries: Sequence[ZipInfo]
    begin: int


def read_directory(tail: bytes, size: int) -> Directory:
    """Return the directory of an archive of `size` bytes that ends with `tail`. Raises ContentRefused."""
    try:
        with zipfile.ZipFile(_End(tail, size)) as archive:
            found = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            begin = archive.start_dir
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, UnicodeDecodeError, OverflowError):
        # all that zipfile raises over bytes that are no archive
        raise broken("archive_unreadable") from None
    _check_directory(found, begin, size)
    return Directory(found, begin)


def _check_directory(entries: Sequence[ZipInfo], begin: int, size: int) -> None:
    if not entries:
        raise broken("archive_unreadable", "it is empty")
    if len(entries) > ENTRIES:
        raise broken("archive_entries", f"{len(entries)}, and may have {ENTRIES}")
    for entry in entries:
        _check_entry(entry)
    names = [entry.filename.casefold() for entry in entries]
    if len(set(names)) < len(names):
        raise broken("archive_path")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > min(UNPACKED, max(FREE, RATIO * size)):
        raise broken("archive_bomb", f"{unpacked} bytes out of {size}")
    _check_places(entries, begin)


def _check_places(entries: Sequence[ZipInfo], begin: int) -> None:
    """Refuse entries that overlap (one kernel, thousands of entries), and bytes in front, between and behind."""
    if entries[0].header_offset != 0:
        raise broken("archive_unreadable", "something stands in front of it")
    ends = [*(after.header_offset for after in entries[1:]), begin]
    for entry, end in zip(entries, ends, strict=True):
        if entry.header_offset + _LOCAL.size + len(entry.orig_filename) + entry.compress_size > end:
            raise broken("archive_bomb", "its entries overlap")


def _check_entry(entry: ZipInfo) -> None:
    if entry.flag_bits & 0x2041:  # encrypted, strongly encrypted, or with a masked directory (APPNOTE 4.4.4)
        raise broken("archive_encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise broken("archive_unreadable", "it is packed in another way than Deflate")
    name = entry.orig_filename
    path = PurePosixPath(name)
    mode = entry.external_attr >> 16
    if not name.isprintable() or set('\\:*?"<>|') & set(name) or path.is_absolute() or ".." in path.parts:
        raise broken("archive_path")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise broken("archive_path", "an entry is a link")
    last = path.name.casefold()
    if last in _MACRO_NAMES:
        raise broken("macro")
    if PurePosixPath(last).suffix in _NESTED_NAMES:
        raise broken("archive_nested")


class _End(BytesIO):
    """A file of which only the end is there: what `zipfile` needs to read the directory."""

    def __init__(self, tail: bytes, size: int) -> None:
        super().__init__(tail)
        self._missing = size - len(tail)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the whole file. Raises ValueError for one that is not there."""
        if whence == 0:
            offset -= self._missing
            if offset < 0:
                raise ValueError("the directory does not lie at the end")
        return super().seek(offset, whence) + self._missing

    def tell(self) -> int:
        """Return the place in the whole file."""
        return super().tell() + self._missing


# --- the walk ------------------------------------------------------------------------------------------------------


class ArchiveWalk:
    """Takes the bytes of an archive once more, in order. `feed` and `close` raise ContentRefused."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory.begin
        self._held = bytearray()
        self._place = 0
        self._done = False
        self._walk = self._through(directory.entries)
        next(self._walk)

    def feed(self, piece: bytes) -> None:
        """Look at the next bytes."""
        if not self._done:
            self._held += piece
            self._go()

    def close(self) -> None:
        """Say that the file has ended."""
        if not self._done:
            raise broken("archive_unreadable", "it is cut short")

    def _go(self) -> None:
        try:
            next(self._walk)
        except StopIteration:
            self._done = True
            self._held.clear()

    def _through(self, entries: Sequence[ZipInfo]) -> Generator[None, None, None]:
        yield
        for entry in entries:
            yield from self._gap(entry.header_offset)
            yield from self._header(entry)
            yield from self._content(entry)
        yield from self._gap(self._directory)

    def _gap(self, place: int) -> Generator[None, None, None]:
        """Go to a place behind what was read; no more than a data descriptor may stand between, or readers differ."""
        if not 0 <= place - self._place <= _DESCRIPTOR:
            raise broken("archive_unreadable", "something stands between its entries")
        yield from self._skip(place - self._place)

    def _need(self, count: int) -> Generator[None, None, bytes]:
        while len(self._held) < count:
            yield
        taken = bytes(self._held[:count])
        del self._held[:count]
        self._place += count
        return taken

    def _skip(self, count: int) -> Generator[None, None, None]:
        while count > 0:
            if not self._held:
                yield
                continue
            count -= len((yield from self._need(min(count, len(self._held)))))

    def _header(self, entry: ZipInfo) -> Generator[None, None, None]:
        """Read what stands in front of an entry; it must say the same as the directory."""
        raw = yield from self._need(_LOCAL.size)
        signature, _, flags, method, _, _, _, packed, unpacked, name_size, extra_size = _LOCAL.unpack(raw)
        name = yield from self._need(name_size)
        yield from self._skip(extra_size)
        if signature != b"PK\x03\x04" or flags & 0x2041 != 0 or method != entry.compress_type:
            raise broken("archive_unreadable", "an entry is not what the directory says")
        known = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
        sizes = packed in (entry.compress_size, _ZIP64) and unpacked in (entry.file_size, _ZIP64)
        told = flags & _SIZES_FOLLOW or sizes
        if name != known or not told:
            raise broken("archive_unreadable", "an entry is not what the directory says")

    def _content(self, entry: ZipInfo) -> Generator[None, None, None]:
        """Unpack an entry into nothing, looking at how it begins; its size and sum must be those that were said."""
        look = _Entry(entry)
        left = entry.compress_size
        while left > 0:
            if not self._held:
                yield
                continue
            piece = yield from self._need(min(left, len(self._held), _PIECE))
            left -= len(piece)
            look.feed(piece)
        look.close()


class _Entry:
    """One entry while it is unpacked."""

    def __init__(self, entry: ZipInfo) -> None:
        self._entry = entry
        self._inflate = zlib.decompressobj(-15) if entry.compress_type == zipfile.ZIP_DEFLATED else None
        self._types = entry.filename.casefold() == "[content_types].xml"
        self._size = 0
        self._sum = 0
        self._begin = b""
        self._tail = b""

    def feed(self, packed: bytes) -> None:
        """Take packed bytes."""
        if self._inflate is None:
            self._take(packed)
            return
        while packed:
            try:
                self._take(self._inflate.decompress(packed, _PIECE))
            except zlib.error:
                raise broken("archive_unreadable", "an entry cannot be unpacked") from None
            packed = self._inflate.unconsumed_tail

    def close(self) -> None:
        """Check what came out."""
        if self._inflate is not None:
            while clear := self._inflate.decompress(self._inflate.unconsumed_tail, _PIECE):
                self._take(clear)
            if not self._inflate.eof or self._inflate.unused_data:
                raise broken("archive_unreadable", "an entry does not end where it should")
        if self._size != self._entry.file_size or self._sum != self._entry.CRC:
            raise broken("archive_unreadable", "an entry is not what the directory says")
        _check_beginning(self._begin)

    def _take(self, clear: bytes) -> None:
        self._size += len(clear)
        if self._size > self._entry.file_size:
            raise broken("archive_bomb", "an entry unpacks to more than it says")
        self._sum = zlib.crc32(clear, self._sum)
        self._begin = (self._begin + clear[:16])[:16]
        if self._types:
            window = self._tail + clear
            if any(word in window for word in _MACRO_WORDS):
                raise broken("macro")
            self._tail = window[-32:]


def _check_beginning(begin: bytes) -> None:
    if begin.startswith(_NESTED):
        raise broken("archive_nested")
    if begin.startswith(_PROGRAMS):
        raise broken("macro")
