"""The files that are taken: one table, and the error that says which rule a file breaks.

Owns: the list of media types, how such a file begins, what must be in it, and how much a look into it may cost. Leaves
to `pdf` and `archive`: looking. What is not in the table is not taken: among others the formats of Office before 2007
(OLE), which may hold macros that nobody sees from outside, and every plain archive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import FieldProblem, InvalidRequest


class Look(StrEnum):
    """How closely a kind of file is looked at."""

    BEGINNING = "beginning"
    PDF = "pdf"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Kind:
    """One media type: how its files begin, how they are looked at, and the entries that an archive must have."""

    begins: bytes
    look: Look
    entries: tuple[str, ...] = ()


_ZIP = b"PK\x03\x04"
_OPEN_XML = "application/vnd.openxmlformats-officedocument."

KINDS: Mapping[str, Kind] = {
    "application/pdf": Kind(b"%PDF-", Look.PDF),
    "image/jpeg": Kind(b"\xff\xd8\xff", Look.BEGINNING),
    "image/png": Kind(b"\x89PNG\r\n\x1a\n", Look.BEGINNING),
    "application/ofd": Kind(_ZIP, Look.ARCHIVE, ("OFD.xml",)),  # GB/T 33190
    _OPEN_XML + "wordprocessingml.document": Kind(_ZIP, Look.ARCHIVE, ("[Content_Types].xml", "word/document.xml")),
    _OPEN_XML + "spreadsheetml.sheet": Kind(_ZIP, Look.ARCHIVE, ("[Content_Types].xml", "xl/workbook.xml")),
}
"""Media type → kind. The declaration must fit the content."""

LONGEST_BEGINNING = max(len(kind.begins) for kind in KINDS.values())

RULES: Mapping[str, str] = {
    "content": "does not begin like a file of its type, or lacks what such a file must have",
    "pdf_javascript": "holds a script (JavaScript, a rendition or an XFA form)",
    "pdf_launch": "starts a program when it is opened or clicked",
    "pdf_embedded_file": "holds other files",
    "pdf_encrypted": "is encrypted, so that nobody can see what is in it",
    "pdf_unreadable": "holds objects in a form that cannot be looked into",
    "archive_unreadable": "is no archive that every reader reads alike",
    "archive_encrypted": "holds an encrypted entry",
    "archive_entries": "has too many entries",
    "archive_bomb": "unpacks to far more than it is",
    "archive_path": "has an entry whose name leads elsewhere, or two of one name",
    "archive_nested": "holds another archive",
    "macro": "holds a macro, an ActiveX control or an embedded program",
}
"""Rule → what the caller is told of a file that breaks it. The rule is the stable code of the problem."""


def need_kind(media_type: str) -> Kind:
    """Return the kind of a declared media type. Raises InvalidRequest that names those that are taken."""
    kind = KINDS.get(media_type)
    if kind is None:
        problem = FieldProblem("Content-Type", f"must be one of {', '.join(KINDS)}", "media_type")
        raise InvalidRequest("The file was not stored.", problems=[problem])
    return kind


class ContentRefused(InvalidRequest):
    """A file breaks a rule of what may be in it; its one problem has the rule as its code."""

    code = "blob.content_refused"
    title = "The file may not be taken"


def broken(rule: str, more: str = "", *, field: str = "content") -> ContentRefused:
    """Return the refusal of a file that breaks one of `RULES`."""
    reason = f"{RULES[rule]}{f': {more}' if more else ''}"
    return ContentRefused("The file was not stored.", problems=[FieldProblem(field, reason, rule)])


def mismatch(media_type: str, more: str = "") -> ContentRefused:
    """Return the refusal of a file that is not what was declared."""
    detail = f"{media_type}{f', {more}' if more else ''}"
    return broken("content", detail, field="Content-Type")
