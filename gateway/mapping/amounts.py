"""Integers, decimals and money: each exact, or refused.

Owns: the ways of writing a number. Leaves to `gateway.mapping.converters`: which field may be written so.

Our decimals are texts in one spelling (no exponent, no plus, no superfluous zero), our money is an integer of cents.
No arithmetic is done in binary fractions: a JSON number is read as the decimal that it was written as.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

from gateway.mapping.limits import MAX_DECIMAL, MAX_INTEGER
from gateway.mapping.values import Converter, Wrong, are_digits, chosen, text, trimmed

_CENTS: Final = 2
"""Digits after the point of an amount in yuan."""


# --- integers ----------------------------------------------------------------------------------------------------


def integer(value: Any) -> int:
    """Return an integer as it is; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise Wrong("is not an integer", "type")
    if abs(value) > MAX_INTEGER:
        raise Wrong("is too large for an integer")
    return value


def integer_from_text(value: Any) -> int:
    """Return the integer that a text of ASCII digits writes, with an optional minus sign."""
    found = trimmed(value)
    unsigned = found.removeprefix("-")
    if not (are_digits(unsigned) and len(unsigned) <= len(str(MAX_INTEGER))):
        raise Wrong("is not an integer written in digits", "type")
    return integer(int(found))


INTEGER: Final = Converter(integer, integer, "integer")
INTEGER_AS_TEXT: Final = Converter(lambda value: str(integer(value)), integer_from_text)


def in_digits(converter: Converter) -> Converter:
    """Return a converter to integers as one to texts of digits, for formats that know text only."""
    return Converter(
        lambda value: str(converter.say(value)),
        lambda value: converter.hear(integer_from_text(value)),
        loses=converter.loses,
    )


# --- decimals ----------------------------------------------------------------------------------------------------


def decimal(value: Any) -> str:
    """Return a decimal of ours as it is: digits, perhaps a minus and a point, no superfluous zeros."""
    written = text(value)
    if decimal_from_text(written) != written:
        raise Wrong("is not a decimal in its shortest form (digits, perhaps a minus and a point, no superfluous zeros)")
    return written


def decimal_from_text(value: Any) -> str:
    """Return the decimal that a text writes, in our spelling. It may have a sign and superfluous zeros."""
    written = trimmed(value)
    unsigned = written[1:] if written[:1] in {"+", "-"} else written
    whole, _, fraction = unsigned.partition(".")
    if not (are_digits(whole + fraction) and len(whole + fraction) <= MAX_DECIMAL):
        raise Wrong(f"is not a decimal of at most {MAX_DECIMAL} digits", "type")
    found = ".".join(filter(None, (whole.lstrip("0") or "0", fraction.rstrip("0"))))
    return f"-{found}" if written[0] == "-" and found != "0" else found


def decimal_from_number(value: Any) -> str:
    """Return the decimal that a JSON number was written as, in our spelling."""
    if not isinstance(value, float):
        return str(integer(value))
    if not math.isfinite(value):
        raise Wrong("is not a finite number", "type")
    if value.is_integer():
        return str(integer(int(value)))
    return decimal_from_text(format(Decimal(repr(value)), "f"))


def decimal_as_number(value: Any) -> int | float:
    """Write a decimal of ours as the JSON number that reads as the same decimal, or raise Wrong where none does."""
    written = decimal(value)
    number = float(written) if "." in written else int(written)
    if decimal_from_number(number) != written:
        raise Wrong("has more digits than a JSON number keeps")
    return number


DECIMAL: Final = Converter(decimal, decimal_from_text)


# --- money -------------------------------------------------------------------------------------------------------


def cents_from_text(value: Any) -> int:
    """Return the cents that an amount in yuan writes: `12`, `12.5`, `12.50`, with an optional sign."""
    written = text(value)
    unsigned = written[1:] if written[:1] in {"+", "-"} else written
    whole, point, fraction = unsigned.partition(".")
    if not (are_digits(whole) and are_digits(fraction or "0") and bool(point) == bool(fraction)):
        raise Wrong("is not an amount in yuan (digits, perhaps a sign, a point and two decimals)", "type")
    if len(fraction) > _CENTS or len(whole) > len(str(MAX_INTEGER)):
        raise Wrong("is an amount with more than two decimals, or too large")
    cents = integer(int(whole + fraction.ljust(_CENTS, "0")))
    return -cents if written[0] == "-" else cents


def cents_as_text(value: Any) -> str:
    """Write cents in yuan, always with two decimals."""
    cents = integer(value)
    yuan, rest = divmod(abs(cents), 10**_CENTS)
    return f"{'-' if cents < 0 else ''}{yuan}.{rest:0{_CENTS}}"


def _cents_from_number(value: Any) -> int:
    return cents_from_text(decimal_from_number(value))


def _cents_as_number(value: Any) -> int | float:
    return decimal_as_number(decimal_from_text(cents_as_text(value)))


# --- choosing ----------------------------------------------------------------------------------------------------

_INTEGERS: Final = {"text": INTEGER_AS_TEXT}

_DECIMALS: Final = {"text": DECIMAL, "number": Converter(decimal_as_number, decimal_from_number, "number")}

_MONEY: Final = {
    "cents": INTEGER,
    "yuan": Converter(_cents_as_number, _cents_from_number, "number"),
    "yuan-text": Converter(cents_as_text, cents_from_text),
}

NAMES: Final = (
    "integer:text",
    *(f"decimal:{name}" for name in _DECIMALS),
    *(f"money:{name}" for name in _MONEY),
)


def of_integer(name: str) -> Converter:
    """Return the converter that stands after `integer:`."""
    return chosen(name, _INTEGERS)


def of_decimal(name: str) -> Converter:
    """Return the converter that stands after `decimal:`."""
    return chosen(name, _DECIMALS)


def of_money(name: str) -> Converter:
    """Return the converter that stands after `money:`."""
    return chosen(name, _MONEY)
