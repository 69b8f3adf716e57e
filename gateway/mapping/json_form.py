"""JSON messages under a JSON Schema.

Owns: the schema, compiled once, the places it knows, and saying what it finds wrong without repeating values. Leaves
to adapters: JSON text; a region document is already an object here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import orjson

from gateway.errors import FieldProblem
from gateway.mapping.charsets import UTF8
from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Leaf
from gateway.mapping.limits import MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_EXPLAINED_BYTES, MAX_PLACES, MAX_PROBLEMS
from gateway.mapping.paths import Notation, Place, Tree
from gateway.ports import RegionDocument

JSON_NOTATION: Final = Notation(".", 0)

_STRICT: Final = orjson.OPT_STRICT_INTEGER | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS
"""Besides the size, orjson finds keys that are no text, half pairs, and integers that not every reader keeps."""


class JsonForm:
    """One JSON message. Raises Wrong from the constructor when the schema cannot be used.

    On the wire JSON is UTF-8; `charset` is what the region behind it can store.
    """

    notation = JSON_NOTATION
    textual = False
    schema_name = "schema.json"
    suffix = ".region.json"

    def __init__(self, raw: bytes, charset: str = UTF8) -> None:
        self.raw = raw
        self.charset = charset
        schema = _object(raw)
        try:
            # The linear engine and no look-ups elsewhere: a schema is data from a partner.
            linear = jsonschema_rs.RegexOptions()
            self._validator = jsonschema_rs.Draft202012Validator(schema, pattern_options=linear, offline=True)
        except (ValueError, jsonschema_rs.ReferencingError):
            raise Wrong("is no JSON Schema (draft 2020-12, without references to other files)") from None
        self.leaves: Mapping[str, Leaf] = _Places(schema).leaves()

    def end_at_value(self, place: Place) -> Place:
        """In JSON a path ends at the value already."""
        return place

    def read(self, document: RegionDocument) -> tuple[Tree, list[FieldProblem]]:
        """Return the document itself, if it is one within the limits."""
        if document.__class__ is not dict:
            raise Wrong("is no JSON object", "type")
        size = _checked_size(document)
        return document, self._faults(document, size)

    def write(self, tree: Tree) -> tuple[RegionDocument, list[FieldProblem]]:
        """Return the tree itself: it is the document."""
        return tree, self._faults(tree, 0)

    def example(self, raw: bytes) -> RegionDocument:
        """Return the object of an example file."""
        return _object(raw)

    def file(self, document: RegionDocument) -> bytes:
        """Write it indented, its keys in order of appearance."""
        return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"

    def same(self, one: RegionDocument, other: RegionDocument) -> bool:
        """Objects are the same when they are equal; the order of keys does not count."""
        return one == other

    def _faults(self, document: Any, size: int) -> list[FieldProblem]:
        if self._validator.is_valid(document):
            return []
        if size > MAX_EXPLAINED_BYTES:
            return self._first_fault(document)
        return [_problem(error) for error in islice(self._validator.iter_errors(document), MAX_PROBLEMS)]

    def _first_fault(self, document: Any) -> list[FieldProblem]:
        try:
            self._validator.validate(document)
        except jsonschema_rs.ValidationError as error:
            return [_problem(error)]
        return []


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Wrong(f"is not JSON (line {error.lineno})") from None
    if not isinstance(found, dict):
        raise Wrong("is no JSON object")
    return found


# --- the limits of a document ------------------------------------------------------------------------------------


def _checked_size(document: Any) -> int:
    """Refuse what is too large or too deep, and what is no JSON; return its bytes.

    A document without `null` and with few brackets can be neither too deep nor hold a number that is none, which
    orjson writes as `null`: nothing has to be looked at twice.
    """
    try:
        raw = orjson.dumps(document, option=_STRICT)
    except orjson.JSONEncodeError:
        _check_values(document, MAX_DEPTH)  # the better reason, when it is the depth
        raise Wrong("is not JSON") from None
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise Wrong(f"is larger than {MAX_DOCUMENT_BYTES} bytes", "too_long")
    # Taking the brackets out is several times faster than counting them.
    brackets = 2 * len(raw) - len(raw.replace(b"{", b"")) - len(raw.replace(b"[", b""))
    if brackets > MAX_DEPTH or b"null" in raw:
        _check_values(document, MAX_DEPTH)
    return len(raw)


def _check_values(node: Any, left: int) -> None:
    if left == 0:
        raise Wrong(f"is deeper than {MAX_DEPTH} levels", "too_deep")
    for value in node.values() if node.__class__ is dict else node:
        kind = value.__class__
        if kind is str or kind is int:
            continue  # what most are
        if kind is dict or kind is list:
            _check_values(value, left - 1)
        elif kind is float and not math.isfinite(value):
            raise Wrong("is not JSON")


# --- what the schema knows ---------------------------------------------------------------------------------------


class _Places:
    """Reads the places of one schema. A class because every step follows the same `$defs` and counts for one limit."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._steps = 0

    def leaves(self) -> dict[str, Leaf]:
        return dict(self._leaves(self._root, "", MAX_DEPTH, required=False))

    def _leaves(self, schema: Any, at: str, left: int, *, required: bool) -> Iterator[tuple[str, Leaf]]:
        """Every place that holds a value, written `a.b`, `a[].b` and `a[]`."""
        schema = self._whole(schema, left)
        if schema.get("properties"):
            needed = schema.get("required", ())
            for name, inner in schema["properties"].items():
                place = f"{at}.{_name(name)}" if at else _name(name)
                yield from self._leaves(inner, place, left - 1, required=name in needed)
        elif ("items" in schema or schema.get("type") == "array") and at and not at.endswith("[]"):
            yield from self._leaves(schema.get("items"), f"{at}[]", left - 1, required=required)
        elif at:
            yield at, _leaf(schema, required=required)

    def _whole(self, schema: Any, left: int) -> dict[str, Any]:
        """A schema together with what it is composed of; what only one alternative demands is not required."""
        whole = dict(self._followed(schema, left))
        for key in ("allOf", "anyOf", "oneOf"):
            for part in whole.get(key, ()):
                inner = self._whole(part, left - 1)
                whole["properties"] = {**inner.get("properties", {}), **whole.get("properties", {})}
                if key == "allOf":
                    whole = {**inner, **whole, "required": [*inner.get("required", ()), *whole.get("required", ())]}
        return whole

    def _followed(self, schema: Any, left: int) -> dict[str, Any]:
        """Follow `#/$defs/x`; anything else that is no object stands for a value."""
        self._steps += 1
        if self._steps > MAX_PLACES:
            raise Wrong(f"has more than {MAX_PLACES} places")
        if left == 0:
            raise Wrong(f"is deeper than {MAX_DEPTH} levels or refers to itself")
        if isinstance(schema, dict) and "$ref" in schema:
            name = str(schema["$ref"]).removeprefix("#/$defs/")
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            return {**self._followed(self._root.get("$defs", {}).get(name), left - 1), **beside}
        return schema if isinstance(schema, dict) else {}


def _name(name: str) -> str:
    if not name or "." in name or "[" in name:
        raise Wrong(f'has a property "{name}": in a place, dots and brackets mean something else')
    return name


def _leaf(schema: dict[str, Any], *, required: bool) -> Leaf:
    codes = [schema["const"]] if "const" in schema else schema.get("enum", ())
    words = (str(schema[key]) for key in ("title", "description") if key in schema)
    return Leaf(
        kind=_kind(schema.get("type"), codes),
        codes=tuple(str(code) for code in codes if isinstance(code, (str, int)) and not isinstance(code, bool)),
        required=required,
        words=" ".join(words),
    )


def _kind(types: Any, codes: Any) -> str:
    """The one type beside null; without any, that of codes which are all texts. A list in a list is no value."""
    if types is None:
        return "string" if codes and all(isinstance(code, str) for code in codes) else ""
    named = [kind for kind in (types if isinstance(types, list) else [types]) if kind != "null"]
    return str(named[0]) if len(named) == 1 and named[0] != "array" else ""


def _problem(error: jsonschema_rs.ValidationError) -> FieldProblem:
    """Name the place and the keyword; the library's own text repeats the value."""
    place = _place(error.instance_path)
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return FieldProblem(f"{place}.{kind.property}" if place else kind.property, "is missing", "required")
    return FieldProblem(place or "document", f"does not fit the schema ({kind.name})", "schema")


def _place(path: list[str | int]) -> str:
    written = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return written.removeprefix(".")
