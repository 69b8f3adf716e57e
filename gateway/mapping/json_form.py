"""JSON messages under a JSON Schema.

Owns: the schema, compiled once, the places it knows, and saying what it finds wrong without repeating values. Leaves
to adapters: JSON text; a region document is already an object here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema_rs
import orjson

from gateway.errors import FieldProblem
from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Leaf
from gateway.mapping.limits import MAX_DEPTH, MAX_DOCUMENT_BYTES
from gateway.mapping.paths import Notation, Place, Tree
from gateway.ports import RegionDocument

JSON_NOTATION: Final = Notation(".", 0)


class JsonForm:
    """One JSON message. Raises Wrong from the constructor when the schema cannot be used."""

    notation = JSON_NOTATION
    textual = False
    schema_name = "schema.json"
    suffix = ".region.json"
    charset = "utf-8"

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        schema = _object(raw)
        try:
            # The linear engine and no look-ups elsewhere: a schema is data from a partner.
            linear = jsonschema_rs.RegexOptions()
            self._validator = jsonschema_rs.Draft202012Validator(schema, pattern_options=linear, offline=True)
        except (ValueError, jsonschema_rs.ReferencingError):
            raise Wrong("is no JSON Schema (draft 2020-12, without references to other files)") from None
        self.leaves: Mapping[str, Leaf] = dict(_leaves(schema, schema, "", MAX_DEPTH, required=False))

    def end_at_value(self, place: Place) -> Place:
        """In JSON a path ends at the value already."""
        return place

    def read(self, document: RegionDocument) -> tuple[Tree, list[FieldProblem]]:
        """Return the document itself, if it is one within the limits."""
        if document.__class__ is not dict:
            raise Wrong("is no JSON object", "type")
        _check_depth(document, MAX_DEPTH)
        _check_size(document)
        return document, self._faults(document)

    def write(self, tree: Tree) -> tuple[RegionDocument, list[FieldProblem]]:
        """Return the tree itself: it is the document."""
        return tree, self._faults(tree)

    def example(self, raw: bytes) -> RegionDocument:
        """Return the object of an example file."""
        return _object(raw)

    def file(self, document: RegionDocument) -> bytes:
        """Write it indented, its keys in order of appearance."""
        return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"

    def same(self, one: RegionDocument, other: RegionDocument) -> bool:
        """Objects are the same when they are equal; the order of keys does not count."""
        return one == other

    def _faults(self, document: Any) -> list[FieldProblem]:
        if self._validator.is_valid(document):
            return []
        return [_problem(error) for error in self._validator.iter_errors(document)]


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Wrong(f"is not JSON (line {error.lineno})") from None
    if not isinstance(found, dict):
        raise Wrong("is no JSON object")
    return found


def _check_depth(node: Any, left: int) -> None:
    if left == 0:
        raise Wrong(f"is deeper than {MAX_DEPTH} levels", "too_deep")
    inner = node.values() if node.__class__ is dict else node
    for value in inner:
        if value.__class__ is dict or value.__class__ is list:
            _check_depth(value, left - 1)


def _check_size(document: Any) -> None:
    """Besides the size, orjson finds keys that are no text, half pairs, and integers that not every reader keeps."""
    try:
        size = len(orjson.dumps(document, option=orjson.OPT_STRICT_INTEGER))
    except orjson.JSONEncodeError:
        raise Wrong("is not JSON") from None
    if size > MAX_DOCUMENT_BYTES:
        raise Wrong(f"is larger than {MAX_DOCUMENT_BYTES} bytes", "too_long")


def _leaves(schema: Any, root: dict[str, Any], at: str, left: int, *, required: bool) -> Iterator[tuple[str, Leaf]]:
    """Every place that holds a value, written `a.b` and `a[].b`."""
    schema = _followed(schema, root, left)
    if "properties" in schema:
        needed = schema.get("required", [])
        for name, inner in schema["properties"].items():
            yield from _leaves(inner, root, f"{at}.{name}" if at else name, left - 1, required=name in needed)
    elif isinstance(schema.get("items"), dict):
        yield from _leaves(schema["items"], root, f"{at}[]", left - 1, required=required)
    elif at:
        yield at, _leaf(schema, required=required)


def _leaf(schema: dict[str, Any], *, required: bool) -> Leaf:
    kind = schema.get("type", "")
    codes = [schema["const"]] if "const" in schema else schema.get("enum", ())
    words = (str(schema[key]) for key in ("title", "description") if key in schema)
    return Leaf(
        kind=kind if isinstance(kind, str) else "",
        codes=tuple(str(code) for code in codes if isinstance(code, (str, int)) and not isinstance(code, bool)),
        required=required,
        words=" ".join(words),
    )


def _followed(schema: Any, root: dict[str, Any], left: int) -> dict[str, Any]:
    """Follow `#/$defs/x`; anything else that is no object stands for a value."""
    if left == 0:
        raise Wrong(f"is deeper than {MAX_DEPTH} levels or refers to itself")
    if isinstance(schema, dict) and "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/$defs/")
        return _followed(root.get("$defs", {}).get(name), root, left - 1)
    return schema if isinstance(schema, dict) else {}


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
