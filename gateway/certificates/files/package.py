"""The package of an OFD file (GB/T 33190): its entries as bytes, and paths within it.

Owns: unpacking what every reader reads alike, within bounds, and following a path (ST_Loc) to exactly one entry. Leaves
to `gateway.submissions.contents.archive`: the look at the archive before anything is unpacked (entries, names, links,
encryption, overlaps, sums). To `gateway.mapping.xml_parse`: XML without entities and document types.
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from lxml import etree

from gateway.certificates.files.verdict import Failed
from gateway.errors import InvalidRequest
from gateway.mapping import xml_parse
from gateway.mapping.converters import Wrong
from gateway.submissions.contents.archive import TAIL, ArchiveWalk, read_directory

MAX_UNPACKED = 64 << 20
"""Bytes that all entries of a certificate file together may unpack to."""
MAX_ENTRIES = 1024
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Package:
    """The entries of a package by name; directories are none."""

    entries: dict[str, bytes]

    def resolve(self, base: str, path: str) -> str:
        """Return the entry that a path in the entry `base` leads to. Raises Failed when it leads to none.

        A path from the root begins with `/`, another one counts from the folder of its entry. Names are compared as
        they are: a reader that forgives case or a backslash would be shown another entry than was signed.
        """
        joined = path[1:] if path.startswith("/") else posixpath.join(posixpath.dirname(base), path)
        name = posixpath.normpath(joined)
        if name not in self.entries or "\\" in path or path.startswith("//"):
            raise Failed("path_refused")
        return name

    def xml(self, name: str) -> etree._Element:
        """Return the root of an XML entry. Raises Failed."""
        try:
            return xml_parse.parse(self.entries[name])
        except Wrong:
            raise Failed("xml_refused") from None


def unpack(data: bytes) -> Package:
    """Return the entries of a package. Raises Failed; costs no more than `MAX_UNPACKED` bytes of memory."""
    try:
        directory = read_directory(data[-TAIL:], len(data))
        if len(directory.entries) > MAX_ENTRIES or sum(one.file_size for one in directory.entries) > MAX_UNPACKED:
            raise Failed("package_refused")
        walk = ArchiveWalk(directory)
        for begin in range(0, len(data), _PIECE):
            walk.feed(data[begin : begin + _PIECE])
        walk.close()
        return Package(dict(_entries(data)))
    except (InvalidRequest, zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, RuntimeError, EOFError):
        raise Failed("package_refused") from None


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                yield entry.filename, archive.read(entry)
            elif entry.file_size:
                raise Failed("package_refused")


def local(element: etree._Element) -> str:
    """Return the name of an element without its namespace: producers write several, and none."""
    return etree.QName(element).localname


def children(element: etree._Element | None, name: str) -> list[etree._Element]:
    """Return the children of a name."""
    return [] if element is None else [child for child in element if local(child) == name]


def only(element: etree._Element | None, name: str, *, refuse: str = "xml_refused") -> etree._Element:
    """Return the one child of a name. Raises Failed for none or two, of which readers might take either."""
    found = children(element, name)
    if len(found) != 1:
        raise Failed(refuse)
    return found[0]


def text(element: etree._Element) -> str:
    """Return the text of an element without blanks around it."""
    return (element.text or "").strip()
