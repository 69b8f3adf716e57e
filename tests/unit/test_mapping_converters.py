"""Conversions of single values: what each writes, what each reads, and what it refuses without repeating it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.mapping import converters
from gateway.mapping.converters import Converter, Wrong
from gateway.mapping.limits import MAX_INTEGER, MAX_TEXT
from gateway.mapping.tables import Column, Table, fits
from gateway.mapping.vocabulary import Field


def field(kind: str, **more: Any) -> Field:
    return Field("x", kind, required=False, sensitivity="none", zh="x", en="x", meaning="x", **more)


def named(name: str, kind: str, *, textual: bool = False) -> Converter:
    return converters.named(name, field(kind), textual=textual)


@pytest.mark.parametrize(
    ("name", "kind", "ours", "theirs"),
    [
        ("date:yyyyMMdd", "date", "2024-02-29", "20240229"),
        ("date:yyyy-MM-dd", "date", "2024-02-29", "2024-02-29"),
        ("datetime:yyyyMMddHHmmss", "datetime", "2025-12-31T16:00:00Z", "20260101000000"),
        ("datetime:epoch-ms", "datetime", "2026-03-10T01:30:02.125Z", 1_773_106_202_125),
        ("datetime:rfc3339Z", "datetime", "2026-03-10T01:30:02Z", "2026-03-10T01:30:02Z"),
        ("datetime:rfc3339+08:00", "datetime", "2026-03-10T01:30:02Z", "2026-03-10T09:30:02+08:00"),
        ("integer:text", "integer", -5, "-5"),
        ("region:6", "code", "440600", "440600"),
        ("region:9", "code", "440600", "440600000"),
        ("region:12", "code", "440600", "440600000000"),
    ],
)
def test_a_named_conversion_is_its_own_inverse(name: str, kind: str, ours: Any, theirs: Any) -> None:
    converter = named(name, kind)
    assert converter.say(ours) == theirs
    assert converter.hear(theirs) == ours


@pytest.mark.parametrize(
    ("name", "kind", "theirs"),
    [
        ("date:yyyyMMdd", "date", "20250229"),
        ("date:yyyyMMdd", "date", "2025-02-28"),
        ("date:yyyyMMdd", "date", "２０２５０２２８"),
        ("date:yyyyMMdd", "date", 20250228),
        ("date:yyyy-MM-dd", "date", "2025-W01-1"),
        ("date:yyyy-MM-dd", "date", "2025-02-28Z"),
        ("datetime:yyyyMMddHHmmss", "datetime", "20260101240000"),
        ("datetime:yyyyMMddHHmmss", "datetime", "00010101000000"),
        ("datetime:epoch-ms", "datetime", MAX_INTEGER),
        ("datetime:epoch-ms", "datetime", True),
        ("datetime:epoch-ms", "datetime", "1773106202125"),
        ("datetime:rfc3339Z", "datetime", "2026-03-10T01:30:02"),
        ("datetime:rfc3339Z", "datetime", "0001-01-01T00:00:00+08:00"),
        ("datetime:rfc3339Z", "datetime", "2026-03-10 01:30:02Z"),
        ("integer:text", "integer", "1_000"),
        ("integer:text", "integer", "٥"),
        ("integer:text", "integer", "9" * 17),
        ("region:6", "code", "4406"),
        ("region:6", "code", "4406000000000"),
    ],
)
def test_a_value_that_is_not_written_as_agreed_is_refused_without_being_repeated(
    name: str, kind: str, theirs: Any
) -> None:
    with pytest.raises(Wrong) as caught:
        named(name, kind).hear(theirs)
    assert str(theirs) not in caught.value.reason


def test_a_longer_region_code_is_read_down_to_the_county() -> None:
    """Towns add three digits and communities three more; real feeds use 11 digits as well."""
    assert named("region:6", "code").hear("35012800000") == "350128"


def test_times_keep_their_fraction_where_the_format_can_say_it() -> None:
    converter = named("datetime:rfc3339+08:00", "datetime")
    assert converter.say("2026-03-10T01:30:02.500001Z") == "2026-03-10T09:30:02.500001+08:00"
    assert converter.hear("2026-03-10T09:30:02.5+08:00") == "2026-03-10T01:30:02.500Z"


def test_a_time_with_any_offset_is_said_correctly() -> None:
    assert named("datetime:yyyyMMddHHmmss", "datetime").say("2026-03-10T01:30:02+01:00") == "20260310083002"


def test_in_a_format_of_text_numbers_are_written_in_digits() -> None:
    plain = converters.plain(field("integer"), textual=True)
    assert (plain.say(7), plain.hear(" 7\n")) == ("7", 7)
    time = named("datetime:epoch-ms", "datetime", textual=True)
    assert (time.say("1970-01-01T00:00:01Z"), time.hear("1000")) == ("1000", "1970-01-01T00:00:01Z")


@pytest.mark.parametrize("value", ["nul\0", "bell\a", "half \ud800", "\ufffe", 5, None, b"bytes", "x" * (MAX_TEXT + 1)])
def test_text_that_not_every_format_can_carry_is_refused(value: Any) -> None:
    """A half pair would make the JSON writer raise, a control character the XML writer."""
    with pytest.raises(Wrong):
        converters.TEXT.say(value)


@pytest.mark.parametrize("value", [True, 1.0, "1", MAX_INTEGER + 1])
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(Wrong):
        converters.INTEGER.say(value)


def test_a_conversion_for_another_type_is_refused_when_it_is_chosen() -> None:
    with pytest.raises(Wrong, match="is for a date"):
        named("date:yyyyMMdd", "string")


@pytest.mark.parametrize("kind", ["datetime", "code", "entries", "list", "object"])
def test_a_type_that_needs_more_than_a_name_says_what(kind: str) -> None:
    with pytest.raises(Wrong, match=r"needs|is a list|is an object"):
        converters.plain(field(kind, table="t" if kind == "code" else ""), textual=False)


@pytest.mark.parametrize(
    ("shape", "number", "expected"),
    [
        ("H########", "H01234567", True),
        ("H########", "M01234567", False),
        ("H########", "H0123456", False),
        ("H@#######", "HX1234567", True),
        ("H@#######", "Hx1234567", False),
        ("810000###########*", "81000019920229001X", True),
        ("########", "０1234567", False),
    ],
)
def test_a_shape_fits_character_by_character(shape: str, number: str, *, expected: bool) -> None:
    assert fits(shape, number) is expected


OTHER = Column("t.c", {"A": "40", "B": "40", "C": "10"}, {"40": ("A", "B"), "10": ("C",)})
SHAPES = Table("t", ("A", "B", "C"), {"c": OTHER}, {"A": ("H##",), "B": ("##",)}, b"")


def test_the_number_tells_codes_apart_that_share_one_of_theirs() -> None:
    hear = converters.hear_by_shape(SHAPES, OTHER)
    assert [hear("40", "H12"), hear("40", "12"), hear("10", "anything"), hear(10, None)] == ["A", "B", "C", "C"]


@pytest.mark.parametrize("number", ["", None, "Z99", 12])
def test_a_number_without_a_known_shape_is_refused_rather_than_guessed(number: Any) -> None:
    """Reading "40, other" as a home return permit would link two people."""
    with pytest.raises(Wrong) as caught:
        converters.hear_by_shape(SHAPES, OTHER)("40", number)
    assert caught.value.code == "unknown_code"


def test_an_unknown_code_names_the_column_and_not_the_code() -> None:
    with pytest.raises(Wrong) as caught:
        converters.of_column(OTHER).hear("77-secret")
    assert "t.c" in caught.value.reason
    assert "secret" not in caught.value.reason
