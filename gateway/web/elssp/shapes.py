"""What messages consist of, as a tree of parts: read from XML, written as XML, described as XML Schema.

Owns: that the schema in the WSDL, the reading of requests and the writing of answers say the same. Pure.
Leaves to `elements` and `answers`: the parts.
"""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Union, get_args, get_origin

from lxml import etree
from pydantic import BaseModel

from gateway.errors import FieldProblem

NAMESPACE: Final = "urn:pearl:elssp:v1"
XSD: Final = "http://www.w3.org/2001/XMLSchema"
_NIL: Final = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot carry."""


@dataclass(frozen=True, slots=True)
class Part:
    """One element. `holds` is the name of a simple type of XML Schema, or the parts inside. `many`: it may repeat."""

    name: str
    holds: str | tuple[Part, ...] = "string"
    required: bool = False
    many: bool = False


_SIMPLE: Final[Mapping[Any, str]] = {datetime: "dateTime", bytes: "base64Binary"}


def parts_of(model: type[BaseModel], optional: Collection[str] = ()) -> tuple[Part, ...]:
    """Return the parts of a model of a request, under their outward names; `optional` need not be sent."""
    named = {field.alias or name: field for name, field in model.model_fields.items()}
    return tuple(
        _part(name, field.annotation, field.is_required() and name not in optional) for name, field in named.items()
    )


def _part(name: str, annotation: Any, required: bool) -> Part:
    many, kind = False, annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is list:
        many, (kind,) = True, get_args(kind)
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return Part(name, parts_of(kind), required, many)
    return Part(name, _SIMPLE.get(kind, "string"), required, many)


# --- reading -----------------------------------------------------------------------------------------------------


def read(
    element: etree._Element, parts: Sequence[Part], problems: list[FieldProblem], place: str = ""
) -> dict[str, Any]:
    """Return the elements inside as a JSON object would hold them. What is not known here is left for the model.

    Order, prefixes and white space make no difference; the namespace does. Problems are added to the list.
    """
    known = {part.name: part for part in parts}
    said: dict[str, Any] = {}
    for child in element.iterchildren("*"):
        name = etree.QName(child)
        path = f"{place}{name.localname}"
        if name.namespace != NAMESPACE:
            problems.append(FieldProblem(path, f"is not in the namespace {NAMESPACE}", "namespace"))
            continue
        part = known.get(name.localname, Part(name.localname))
        value = _value(child, part, problems, path)
        if value is None:
            continue
        if part.many:
            said.setdefault(part.name, []).append(value)
        elif part.name in said:
            problems.append(FieldProblem(path, "stands more than once", "twice"))
        else:
            said[part.name] = value
    return said


def _value(child: etree._Element, part: Part, problems: list[FieldProblem], path: str) -> Any:
    """Return text or object; None for an element that is said to be nothing (`xsi:nil`)."""
    if (child.get(_NIL) or "").strip() in ("true", "1"):
        return None
    if not isinstance(part.holds, str):
        return read(child, part.holds, problems, f"{path}.")
    if len(child):
        problems.append(FieldProblem(path, "holds elements where a text belongs", "not_text"))
    return (child.text or "").strip()


# --- writing -----------------------------------------------------------------------------------------------------


def write(parent: etree._Element, parts: Sequence[Part], said: Mapping[str, Any]) -> None:
    """Write an object below an element, in the order of the schema; what is None is left out.

    Bytes come as the text that they are in base64.
    """
    for part in parts:
        value = said.get(part.name)
        for one in value if part.many and value is not None else [value]:
            if one is None:
                continue
            child = etree.SubElement(parent, f"{{{NAMESPACE}}}{part.name}")
            if isinstance(part.holds, str):
                child.text = one if part.holds == "base64Binary" else _text(one)
            else:
                write(child, part.holds, one)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return _NOT_XML.sub("\ufffd", str(value))


# --- describing --------------------------------------------------------------------------------------------------


def describe(schema: etree._Element, name: str, parts: Sequence[Part]) -> None:
    """Add an element of the schema with these parts."""
    _sequence(etree.SubElement(schema, f"{{{XSD}}}element", name=name), parts)


def _sequence(element: etree._Element, parts: Sequence[Part]) -> None:
    inside = etree.SubElement(etree.SubElement(element, f"{{{XSD}}}complexType"), f"{{{XSD}}}sequence")
    for part in parts:
        below = etree.SubElement(inside, f"{{{XSD}}}element", dict(_attributes(part)))
        if not isinstance(part.holds, str):
            _sequence(below, part.holds)


def _attributes(part: Part) -> Iterator[tuple[str, str]]:
    yield "name", part.name
    if isinstance(part.holds, str):
        yield "type", f"xs:{part.holds}"
    if not part.required:
        yield "minOccurs", "0"
    if part.many:
        yield "maxOccurs", "unbounded"
