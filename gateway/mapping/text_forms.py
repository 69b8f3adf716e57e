"""Messages of names and texts: form fields (`a=1&b=2`) and CSV with a header line.

Owns: both formats in a region's character set, there and back. Leaves to `json_form`: the schema, which describes an
object whose values are texts. A field that may be left out and is empty was left out: neither format says "nothing"
in any other way.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlencode

from gateway.errors import FieldProblem
from gateway.mapping.charsets import UTF8, charset_named
from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Leaf
from gateway.mapping.json_form import JSON_NOTATION, JsonForm
from gateway.mapping.limits import MAX_DOCUMENT_BYTES, MAX_FIELDS, MAX_ITEMS
from gateway.mapping.paths import Place, Tree
from gateway.ports import RegionDocument

_NOT_ENCODED: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|[\x00-\x20\x7f]")
"""What a form never holds: a percent sign without its code, and blanks or controls as they are."""


class _TextForm:
    """What both have in common. Raises Wrong from the constructor when the schema does not fit the format."""

    notation = JSON_NOTATION
    textual = True
    schema_name = "schema.json"

    def __init__(self, raw: bytes, charset: str = UTF8) -> None:
        self.raw = raw
        self.charset = charset
        self._charset = charset_named(charset)
        self._json = JsonForm(raw)
        self.leaves: Mapping[str, Leaf] = self._json.leaves
        for place, leaf in self.leaves.items():
            self._charset.check(place)
            if leaf.kind not in {"string", ""}:
                raise Wrong(f"{place} is no text: this format holds nothing else")

    def end_at_value(self, place: Place) -> Place:
        """A path ends at the value already."""
        return place

    def _judged(self, tree: Tree, problems: list[FieldProblem]) -> tuple[Tree, list[FieldProblem]]:
        """What the schema finds wrong, besides what is known to be wrong."""
        known = {problem.field for problem in problems}
        faults = self._json.read(tree)[1]
        return tree, problems + [fault for fault in faults if fault.field not in known]


def _checked(document: RegionDocument, what: str) -> bytes:
    if not isinstance(document, bytes):
        raise Wrong(f"is no {what}", "type")
    if len(document) > MAX_DOCUMENT_BYTES:
        raise Wrong(f"is larger than {MAX_DOCUMENT_BYTES} bytes", "too_long")
    return document


def _without_gaps(record: dict[str, Any], leaves: Mapping[str, Leaf]) -> Tree:
    """A record without the empty texts that the schema can do without."""
    return {name: value for name, value in record.items() if value != "" or leaves[name].required}


# --- form fields -------------------------------------------------------------------------------------------------


class FormFields(_TextForm):
    """One message as `application/x-www-form-urlencoded`, its codes being bytes of the region's character set.

    A name that may be given several times is a list of texts in the schema.
    """

    suffix = ".region.form"

    def __init__(self, raw: bytes, charset: str = UTF8) -> None:
        super().__init__(raw, charset)
        for place in self.leaves:
            if "." in place:
                raise Wrong(f"{place} is no text: a form holds texts and lists of texts")

    def read(self, document: RegionDocument) -> tuple[Tree, list[FieldProblem]]:
        """Return the fields that the schema knows. Raises Wrong when the document is no form."""
        found: Tree = {}
        problems: list[FieldProblem] = []
        for raw_name, raw_value in _fields(_checked(document, "form")):
            name = self._text(raw_name)
            try:
                self._take(name, raw_value, found)
            except Wrong as wrong:
                problems.append(FieldProblem(name, wrong.reason, wrong.code))
        texts = {name: value for name, value in found.items() if name in self.leaves}
        lists = {name: value for name, value in found.items() if name not in self.leaves}
        return self._judged({**_without_gaps(texts, self.leaves), **lists}, problems)

    def write(self, tree: Tree) -> tuple[RegionDocument, list[FieldProblem]]:
        """Write the fields in the order of the tree."""
        problems: list[FieldProblem] = []
        pairs: list[tuple[bytes, bytes]] = []
        for name, value in tree.items():
            try:
                texts = value if isinstance(value, list) else [value]
                pairs += [(self._charset.encode(name), self._charset.encode(text)) for text in texts]
            except Wrong as wrong:
                problems.append(FieldProblem(name, wrong.reason, wrong.code))
        return urlencode(pairs, safe="*").encode(), self._judged(tree, problems)[1]

    def example(self, raw: bytes) -> RegionDocument:
        """Return the form of an example file, in which each field has a line of its own."""
        document = raw.replace(b"\r", b"").replace(b"\n", b"")
        self._grouped(document)
        return document

    def file(self, document: RegionDocument) -> bytes:
        """Write one field a line."""
        return _checked(document, "form").replace(b"&", b"&\n") + b"\n"

    def same(self, one: RegionDocument, other: RegionDocument) -> bool:
        """Forms are the same when each name has the same texts, in the same order."""
        return self._grouped(one) == self._grouped(other)

    def _take(self, name: str, raw: bytes, found: Tree) -> None:
        """Note one field. Raises Wrong; what the schema does not know is left alone."""
        if f"{name}[]" in self.leaves:
            found.setdefault(name, []).append(self._text(raw))
        elif name in self.leaves:
            if name in found:
                raise Wrong("is given twice, and is no list", "repeated")
            found[name] = ""  # given, whether or not it can be read
            found[name] = self._text(raw)

    def _text(self, raw: bytes) -> str:
        text = self._charset.decode(unquote_to_bytes(raw.replace(b"+", b" ")))
        if "\0" in text:
            raise Wrong("holds NUL")
        return text

    def _grouped(self, document: RegionDocument) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in _fields(_checked(document, "form")):
            found.setdefault(self._text(name), []).append(self._text(value))
        return found


def _fields(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and values, still percent-encoded."""
    if _NOT_ENCODED.search(raw):
        raise Wrong("is no form: something in it is not percent-encoded, or wrongly", "syntax")
    if raw.count(b"&") >= MAX_FIELDS:
        raise Wrong(f"has more than {MAX_FIELDS} fields", "too_long")
    for field in raw.split(b"&"):
        if field:
            name, _, value = field.partition(b"=")
            yield name, value


# --- CSV ---------------------------------------------------------------------------------------------------------


class Csv(_TextForm):
    """One message as CSV (RFC 4180): a header line and one record, or many.

    There are many when the schema's one property is a list of objects; these are the records then.
    """

    suffix = ".region.csv"

    def __init__(self, raw: bytes, charset: str = UTF8) -> None:
        super().__init__(raw, charset)
        heads = {place.partition("[].")[0] if "[]." in place else "" for place in self.leaves}
        self._list = heads.pop() if len(heads) == 1 else ""
        start = f"{self._list}[]." if self._list else ""
        self._columns = {place.removeprefix(start): leaf for place, leaf in self.leaves.items()}
        odd = next((column for column in self._columns if "." in column or "[" in column), "")
        if odd or not self._columns:
            raise Wrong(f"{odd or 'the whole'} is no column: CSV holds records of texts, of one or of many")

    def read(self, document: RegionDocument) -> tuple[Tree, list[FieldProblem]]:
        """Return the columns that the schema knows. Raises Wrong when the document is no CSV, or not this one."""
        records = [
            _without_gaps({name: text for name, text in record.items() if name in self._columns}, self._columns)
            for record in self._records(document)
        ]
        if not self._list and len(records) != 1:
            raise Wrong("has not exactly one record")
        return self._judged({self._list: records} if self._list else records[0], [])

    def write(self, tree: Tree) -> tuple[RegionDocument, list[FieldProblem]]:
        """Write the columns in the order of the schema, all of them."""
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(self._columns)
        for record in tree.get(self._list, []) if self._list else [tree]:
            writer.writerow([record.get(column, "") for column in self._columns])
        problems: list[FieldProblem] = []
        raw = b""
        try:
            raw = self._charset.encode(out.getvalue())
        except Wrong as wrong:
            problems.append(FieldProblem("document", wrong.reason, wrong.code))
        return raw, self._judged(tree, problems)[1]

    def example(self, raw: bytes) -> RegionDocument:
        """Return the file's bytes, if they are CSV."""
        self._records(raw)
        return raw

    def file(self, document: RegionDocument) -> bytes:
        """Write it as it is: people read CSV."""
        return _checked(document, "CSV")

    def same(self, one: RegionDocument, other: RegionDocument) -> bool:
        """Documents are the same when their records are; quotes, line ends and the order of columns do not count."""
        return self._records(one) == self._records(other)

    def _records(self, document: RegionDocument) -> list[dict[str, str]]:
        text = self._charset.decode(_checked(document, "CSV"))
        rows = _rows(text.removeprefix("\ufeff"))
        header = next(rows, [])
        if not self._columns.keys() & set(header):
            raise Wrong("has no header line with the columns of the schema")
        if len(set(header)) < len(header) or len(header) > MAX_FIELDS:
            raise Wrong(f"has a column twice, or more than {MAX_FIELDS}")
        return [_record(header, row, number) for number, row in enumerate(rows, start=1)]


def _rows(text: str) -> Iterator[list[str]]:
    if "\0" in text:
        raise Wrong("holds NUL")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from reader
    except csv.Error:
        raise Wrong(f"is no CSV (line {reader.line_num})", "syntax") from None


def _record(header: Sequence[str], row: Sequence[str], number: int) -> dict[str, str]:
    if number > MAX_ITEMS:
        raise Wrong(f"has more than {MAX_ITEMS} records", "too_long")
    if len(row) != len(header):
        raise Wrong(f"has more or fewer fields than columns in record {number}", "syntax")
    return dict(zip(header, row, strict=True))
