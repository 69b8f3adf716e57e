"""Codes: values out of a list, of a table, of a fixed number of digits, of regions, and yes or no.

Owns: what happens to a code of theirs that nobody knows: it is kept under `UNKNOWN`, so that a case goes on although
a region has a new code. Saying stays strict: what has no counterpart is refused, and what was kept is too. Leaves to
`gateway.mapping.tables`: reading the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gateway.mapping.amounts import integer
from gateway.mapping.limits import MAX_UNKNOWN_CODE
from gateway.mapping.tables import Column, Table
from gateway.mapping.values import Convert, Converter, Losses, Wrong, are_digits, digits, text, trimmed, unknown_name
from gateway.mapping.vocabulary import THEIRS_TO_OURS

UNKNOWN: Final = "unknown:"
"""What stands before a code of theirs that is in no table."""

NAMES: Final = ("boolean:1/0", "boolean:Y/N", "boolean:true/false", "region:6", "region:9", "region:12")
"""The names worth proposing to somebody who misspelt one; booleans can have other spellings."""

_SUBREGION: Final[Losses] = frozenset({(THEIRS_TO_OURS, "subregion")})
_COUNTY: Final = 6
"""Digits of a region code on our side: province, city, county."""


# --- codes -------------------------------------------------------------------------------------------------------


def closed(values: tuple[str, ...]) -> Converter:
    """Codes that are the same on both sides. One of theirs that is not among them is kept as unknown."""
    known = frozenset(values)

    def say(value: Any) -> str:
        if (code := text(value)) not in known:
            raise Wrong("is not a code of the vocabulary", "unknown_code")
        return code

    def hear(value: Any) -> str:
        code = _code(value)
        return code if code in known else _kept(code)

    return Converter(say, hear)


def numbered(count: int) -> Converter:
    """Codes of a fixed number of decimal digits, the same on both sides. Any other of theirs is kept as unknown."""

    def hear(value: Any) -> str:
        # An integer is not taken for a code here: it has lost the zeros in front.
        code = text(value)
        return code if len(code) == count and are_digits(code) else _kept(code)

    return Converter(lambda value: digits(value, count, f"with {count} digits"), hear)


def of_column(column: Column) -> Converter:
    """Codes of one column of a table; reading needs a code that stands for exactly one of ours.

    A code of theirs that the column does not have is kept as unknown.
    """

    def say(value: Any) -> str:
        found = column.writes.get(text(value))
        if found is None:
            raise Wrong(f"is a code without counterpart in {column.name}", "unknown_code")
        return found

    def hear(value: Any) -> str:
        code = _code(value)
        found = column.reads.get(code)
        return found[0] if found else _kept(code)

    return Converter(say, hear)


def hear_by_shape(table: Table, column: Column) -> Callable[[Any, Any], str]:
    """Reading a code that stands for several of ours: the number that goes with it tells which.

    Where it does not tell, the code is kept as unknown: one of ours would be a guess about a person.
    """

    def hear(value: Any, number: Any) -> str:
        code = _code(value)
        candidates = column.reads.get(code, ())
        if len(candidates) == 1:
            return candidates[0]
        found = table.told_apart(candidates, number) if isinstance(number, str) else None
        return found or _kept(code)

    return hear


def _code(value: Any) -> str:
    return str(integer(value)) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def _kept(code: str) -> str:
    if not (0 < len(code) <= MAX_UNKNOWN_CODE and code.isprintable()):
        raise Wrong("is a code that is in no table, and is too long or too strange to be kept", "unknown_code")
    return UNKNOWN + code


# --- regions -----------------------------------------------------------------------------------------------------


def of_region(name: str) -> Converter:
    """Return the converter that stands after `region:`.

    Region codes (行政区划代码, GB/T 2260): six digits on our side, padded with zeros to 6, 9 or 12 on theirs. Read
    with any length from 6 to 12 (towns add 3, communities 6 more); we keep the first six.
    """
    if name not in {"6", "9", "12"}:
        raise unknown_name()
    width = int(name)
    return Converter(
        lambda value: digits(value, _COUNTY, f"with {_COUNTY} digits").ljust(width, "0"), _county, loses=_SUBREGION
    )


def _county(value: Any) -> str:
    written = text(value)
    if not (_COUNTY <= len(written) <= 12 and are_digits(written)):
        raise Wrong("is not a region code of 6 to 12 digits")
    return written[:_COUNTY]


# --- yes and no --------------------------------------------------------------------------------------------------


def boolean(value: Any) -> bool:
    """Return true or false as it is; 1 and 0 are neither."""
    if not isinstance(value, bool):
        raise Wrong("is neither true nor false", "type")
    return value


def of_boolean(name: str) -> Converter:
    """Return the converter that stands after `boolean:`: spellings of true, a slash, spellings of false."""
    sides = [side.split(",") for side in name.split("/")]
    spellings = [spelling for side in sides for spelling in side]
    if len(sides) != 2 or not all(spelling and spelling == spelling.strip() for spelling in spellings):
        raise Wrong(f'"boolean:{name}" is not made of spellings of true and of false: write boolean:Y,y/N,n')
    if len(set(spellings)) < len(spellings):
        raise Wrong(f'"boolean:{name}" has a spelling twice')
    return _spelled(sides[0], sides[1], _code)


def _spelled(true: list[str], false: list[str], read: Convert) -> Converter:
    meanings = dict.fromkeys(true, True) | dict.fromkeys(false, False)

    def hear(value: Any) -> bool:
        found = meanings.get(read(value))
        if found is None:
            raise Wrong("is none of the spellings of true and false", "unknown_code")
        return found

    return Converter(lambda value: true[0] if boolean(value) else false[0], hear)


BOOLEAN: Final = Converter(boolean, boolean, "boolean")
BOOLEAN_AS_TEXT: Final = _spelled(["true", "1"], ["false", "0"], trimmed)
"""As XML Schema writes and reads it."""
