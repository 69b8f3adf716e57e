"""Invertible conversions of one value: how we write it, how a region writes it.

Owns: the names that a rule may give after `as`, and which type of field each of them suits. Leaves to
`gateway.mapping.dates`, `amounts`, `codes` and `scripts`: the conversions themselves; to `gateway.mapping.compiler`:
where the values stand. What the rest of the engine needs of them is imported from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.mapping import amounts, codes, dates, scripts
from gateway.mapping.amounts import DECIMAL, INTEGER, INTEGER_AS_TEXT, in_digits, integer
from gateway.mapping.codes import BOOLEAN, BOOLEAN_AS_TEXT, UNKNOWN, closed, hear_by_shape, numbered, of_column
from gateway.mapping.dates import BEIJING, DAY
from gateway.mapping.values import TEXT, Convert, Converter, Wrong, text, unknown_name
from gateway.mapping.vocabulary import Field

__all__ = [
    "BEIJING",
    "INTEGER",
    "NAMES",
    "TEXT",
    "UNKNOWN",
    "Convert",
    "Converter",
    "Wrong",
    "closed",
    "hear_by_shape",
    "integer",
    "named",
    "numbered",
    "of_column",
    "plain",
    "text",
]

NAMES: Final = (
    *dates.NAMES,
    *amounts.NAMES,
    *codes.NAMES,
    *scripts.NAMES,
    "entries:<name>,<value>",
    "entries:=",
    "entries:object",
    "entries:json",
)
"""What may stand after `as` in a rule, for proposing the nearest; patterns and spellings only by example."""

_Make = Callable[[str], Converter]
_FAMILIES: Final[Mapping[str, tuple[tuple[str, ...], _Make]]] = {
    "date": (("date",), dates.of_day),
    "datetime": (("datetime",), dates.of_moment),
    "integer": (("integer",), amounts.of_integer),
    "decimal": (("decimal",), amounts.of_decimal),
    "money": (("money",), amounts.of_money),
    "boolean": (("boolean",), codes.of_boolean),
    "region": (("code",), codes.of_region),
    "script": (("string", "texts"), scripts.of_script),
}
"""By what stands before the colon: the types that it suits, and who makes the converter of what stands after."""

_IN_TEXT: Final = {"decimal:number": "decimal:text", "money:yuan": "money:yuan-text"}
"""What a number that is no integer becomes in a format that knows text only."""


def named(name: str, field: Field, *, textual: bool) -> Converter:
    """Return the converter that `as` names. Raises Wrong when it is unknown or does not suit the field's type.

    `textual`: the region's format knows text only (XML, forms, CSV), so that numbers are written in digits. For a
    list of texts this is the converter of one of them.
    """
    asked = _IN_TEXT.get(name, name) if textual else name
    family, _, rest = asked.partition(":")
    if family not in _FAMILIES:
        raise unknown_name()
    types, make = _FAMILIES[family]
    if field.type not in types:
        raise Wrong(f'"{name}" is for a {types[0]}, and {field.name} is a {field.type}')
    converter = make(rest)
    return in_digits(converter) if textual and converter.writes == "integer" else converter


def plain(field: Field, *, textual: bool) -> Converter:
    """Return the converter of a rule that names none. Raises Wrong when the field's type needs one.

    `textual`: as for `named`; an integer is then written in digits and a boolean as a word without being asked.
    """
    if field.type in _PLAIN:
        return _PLAIN[field.type][textual]
    if field.type == "code" and field.digits:
        return numbered(field.digits)
    if field.type == "code" and field.values:
        return closed(field.values)
    raise Wrong(_NEEDS[field.type])


_PLAIN: Final = {
    "string": (TEXT, TEXT),
    "texts": (TEXT, TEXT),
    "date": (DAY, DAY),
    "decimal": (DECIMAL, DECIMAL),
    "integer": (INTEGER, INTEGER_AS_TEXT),
    "boolean": (BOOLEAN, BOOLEAN_AS_TEXT),
}
"""By type: the converter in a format with numbers, and in one that knows text only."""

_NEEDS: Final = {
    "datetime": 'needs as = "datetime:…", which says how the region writes times',
    "money": 'needs as = "money:cents", "money:yuan" or "money:yuan-text": what the region counts',
    "code": 'needs table = "table.column"',
    "entries": 'needs as = "entries:<name>,<value>"',
    "list": 'is a list: write a rule for each of its members, "x[].y" = "a[].b"',
    "object": "is an object: write a rule for each of its members",
}
