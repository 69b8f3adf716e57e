"""Invertible conversions of one value: how we write it, how a region writes it.

Owns: `Converter` (say: ours to theirs; hear: theirs to ours) and the kinds that a rule may name with `as` or `table`.
Leaves to `gateway.mapping.compiler`: where the values stand. Every failure is a `Wrong` whose reason never holds the
value, because reasons reach callers and logs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Final

from gateway.mapping.limits import MAX_INTEGER, MAX_TEXT
from gateway.mapping.tables import Column, Table
from gateway.mapping.vocabulary import Field

BEIJING: Final = timezone(timedelta(hours=8))
"""Beijing time (北京时间). Fixed at +08:00: the summer time of 1986-1991 lies before every case we carry."""

_NOT_TEXT: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 §2.2 cannot carry, lone surrogates included; refused in every format, so that all carry the same."""


class Wrong(Exception):
    """A value cannot be converted. The reason never repeats the value."""

    def __init__(self, reason: str, code: str = "invalid") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Converter:
    """One conversion and its inverse. Both raise Wrong.

    `writes` is the JSON kind of what `say` returns: string, integer, number, boolean. `loses` names the parts of a
    value that do not survive, each with the direction in which it is lost.
    """

    say: Convert
    hear: Convert
    writes: str = "string"
    loses: frozenset[tuple[str, str]] = frozenset()


# --- text and numbers --------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """Return a text as it is, or raise Wrong for anything that not every format can carry."""
    if not isinstance(value, str):
        raise Wrong("is not text", "type")
    if len(value) > MAX_TEXT:
        raise Wrong(f"is longer than {MAX_TEXT} characters", "too_long")
    if _NOT_TEXT.search(value):
        raise Wrong("holds a character that cannot be carried (control character or half of a pair)")
    return value


def integer(value: Any) -> int:
    """Return an integer as it is; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise Wrong("is not an integer", "type")
    if abs(value) > MAX_INTEGER:
        raise Wrong("is too large for an integer")
    return value


def integer_from_text(value: Any) -> int:
    """Return the integer that a text of ASCII digits writes, with an optional minus sign."""
    digits = text(value).strip(" \t\r\n").removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_INTEGER))):
        raise Wrong("is not an integer written in digits", "type")
    return integer(int(value))


TEXT: Final = Converter(text, text)
INTEGER: Final = Converter(integer, integer)
INTEGER_AS_TEXT: Final = Converter(lambda value: str(integer(value)), integer_from_text)


# --- dates and times (GB/T 7408) ---------------------------------------------------------------------------------


def day(value: Any) -> str:
    """Return a date `yyyy-MM-dd` as it is, if that day exists."""
    written = text(value)
    if len(written) != 10 or written[4] != "-" or written[7] != "-":
        raise Wrong("is not a date yyyy-MM-dd")
    try:
        date.fromisoformat(written)
    except ValueError:
        raise Wrong("is not a day of the calendar") from None
    return written


def day_from_digits(value: Any) -> str:
    """Return the date that `yyyyMMdd` writes."""
    digits = _digits(value, 8, "yyyyMMdd")
    return day(f"{digits[:4]}-{digits[4:6]}-{digits[6:]}")


def moment(value: Any) -> datetime:
    """Return the instant that an RFC 3339 text with an offset names, in UTC."""
    written = text(value)
    try:
        read = datetime.fromisoformat(written) if written[10:11] in {"T", "t"} else None
        return read.astimezone(UTC) if read is not None and read.tzinfo else _no_moment()
    except (ValueError, OverflowError):
        return _no_moment()


def utc(value: datetime) -> str:
    """Write an instant as we do: RFC 3339 in UTC with `Z`, fractions only when there are any."""
    return _rfc3339(value.astimezone(UTC)).replace("+00:00", "Z")


def _no_moment() -> datetime:
    raise Wrong("is not a time of RFC 3339 with an offset")


def _rfc3339(value: datetime) -> str:
    if not value.microsecond:
        return value.isoformat(timespec="seconds")
    return value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds")


def _say_digits(value: Any) -> str:
    written = moment(value).astimezone(BEIJING).isoformat(timespec="seconds")[:19]
    return written.translate({ord(mark): None for mark in "-T:"})


def _hear_digits(value: Any) -> str:
    digits = _digits(value, 14, "yyyyMMddHHmmss")
    parts = [int(digits[start:end]) for start, end in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14))]
    try:
        return utc(datetime(*parts, tzinfo=BEIJING))  # type: ignore[arg-type, misc]  # exactly six parts
    except (ValueError, OverflowError):
        raise Wrong("is not a time of the calendar") from None


def _say_milliseconds(value: Any) -> int:
    return int((moment(value) - _EPOCH) / timedelta(milliseconds=1))


def _hear_milliseconds(value: Any) -> str:
    try:
        return utc(_EPOCH + timedelta(milliseconds=integer(value)))
    except OverflowError:
        raise Wrong("is not a time in milliseconds since 1970") from None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _digits(value: Any, count: int, shape: str) -> str:
    written = text(value)
    if not (len(written) == count and written.isascii() and written.isdigit()):
        raise Wrong(f"is not written {shape}")
    return written


def _in_offset(offset: timezone) -> Converter:
    return Converter(
        lambda value: _rfc3339(moment(value).astimezone(offset)),
        lambda value: utc(moment(value)),
    )


def _in_utc() -> Converter:
    return Converter(lambda value: utc(moment(value)), lambda value: utc(moment(value)))


def _say_day_in_digits(value: Any) -> str:
    return day(value).replace("-", "")


_MILLISECONDS: Final = "datetime:epoch-ms"

_FIXED: Final = {
    "date:yyyy-MM-dd": ("date", Converter(day, day)),
    "date:yyyyMMdd": ("date", Converter(_say_day_in_digits, day_from_digits)),
    "datetime:yyyyMMddHHmmss": ("datetime", Converter(_say_digits, _hear_digits)),
    _MILLISECONDS: ("datetime", Converter(_say_milliseconds, _hear_milliseconds)),
    "datetime:rfc3339Z": ("datetime", _in_utc()),
    "datetime:rfc3339+08:00": ("datetime", _in_offset(BEIJING)),
    "integer:text": ("integer", INTEGER_AS_TEXT),
}


# --- codes -------------------------------------------------------------------------------------------------------


def region(digits: int) -> Converter:
    """Region codes (行政区划代码, GB/T 2260): six digits on our side, padded with zeros to 6, 9 or 12 on theirs.

    Read with any length from 6 to 12 (towns add 3, communities 6 more); we keep the first six.
    """

    def say(value: Any) -> str:
        return _digits(value, 6, "with 6 digits").ljust(digits, "0")

    def hear(value: Any) -> str:
        written = text(value)
        if not (6 <= len(written) <= 12 and written.isascii() and written.isdigit()):
            raise Wrong("is not a region code of 6 to 12 digits")
        return written[:6]

    return Converter(say, hear)


def closed(values: tuple[str, ...]) -> Converter:
    """Codes that are the same on both sides."""
    known = frozenset(values)

    def same(value: Any) -> str:
        if value not in known:
            raise Wrong("is not a code of the vocabulary", "unknown_code")
        return str(value)

    return Converter(lambda value: same(text(value)), lambda value: same(text(value)))


def numbered(digits: int) -> Converter:
    """Codes of a fixed number of decimal digits, the same on both sides."""
    shape = f"with {digits} digits"
    return Converter(lambda value: _digits(value, digits, shape), lambda value: _digits(value, digits, shape))


def of_column(column: Column) -> Converter:
    """Codes of one column of a table; reading needs a code that stands for exactly one of ours."""

    def say(value: Any) -> str:
        found = column.writes.get(text(value))
        if found is None:
            raise Wrong(f"is a code without counterpart in {column.name}", "unknown_code")
        return found

    return Converter(say, lambda value: _heard(column, value)[0])


def hear_by_shape(table: Table, column: Column) -> Callable[[Any, Any], str]:
    """Reading a code that stands for several of ours: the number that goes with it tells which."""

    def hear(value: Any, number: Any) -> str:
        candidates = _heard(column, value)
        if len(candidates) == 1:
            return candidates[0]
        found = table.told_apart(candidates, number) if isinstance(number, str) else None
        if found is None:
            raise Wrong("stands for several codes of ours, and its number fits none or several of them", "unknown_code")
        return found

    return hear


def _heard(column: Column, value: Any) -> tuple[str, ...]:
    code = str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)
    found = column.reads.get(code)
    if found is None:
        raise Wrong(f"is a code that {column.name} does not know", "unknown_code")
    return found


# --- choosing ----------------------------------------------------------------------------------------------------


NAMES: Final = (*_FIXED, "region:6", "region:9", "region:12", "entries:<name>,<value>")
"""What may stand after `as` in a rule."""


def named(name: str, field: Field, *, textual: bool) -> Converter:
    """Return the converter that `as` names. Raises Wrong when it is unknown or does not suit the field's type.

    `textual`: the region's format knows text only (XML), so that numbers are written in digits.
    """
    if name in {"region:6", "region:9", "region:12"}:
        return _suits(field, "code", name, region(int(name.partition(":")[2])))
    if name not in _FIXED:
        raise Wrong("unknown", "unknown_converter")
    converter = _suits(field, _FIXED[name][0], name, _FIXED[name][1])
    return _in_digits(converter) if textual and name == _MILLISECONDS else converter


def plain(field: Field, *, textual: bool) -> Converter:
    """Return the converter of a rule that names none. Raises Wrong when the field's type needs one.

    `textual`: as for `named`; an integer is then written in digits without being asked.
    """
    match field.type:
        case "string":
            return TEXT
        case "integer":
            return INTEGER_AS_TEXT if textual else INTEGER
        case "date":
            return _FIXED["date:yyyy-MM-dd"][1]
        case "code" if field.digits:
            return numbered(field.digits)
        case "code" if field.values:
            return closed(field.values)
    raise Wrong(_NEEDS[field.type])


_NEEDS: Final = {
    "datetime": 'needs as = "datetime:…", which says how the region writes times',
    "code": 'needs table = "table.column"',
    "entries": 'needs as = "entries:<name>,<value>"',
    "list": 'is a list: write a rule for each of its members, "x[].y" = "a[].b"',
    "object": "is an object: write a rule for each of its members",
}


def _in_digits(converter: Converter) -> Converter:
    return Converter(
        lambda value: str(converter.say(value)),
        lambda value: converter.hear(integer_from_text(value)),
    )


def _suits(field: Field, wanted: str, name: str, converter: Converter) -> Converter:
    if field.type != wanted:
        raise Wrong(f'"{name}" is for a {wanted}, and {field.name} is a {field.type}')
    return converter
