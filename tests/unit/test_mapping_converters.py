"""Conversions of single values: what each writes, what each reads, and what it refuses without repeating it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mapping import converters
from gateway.mapping.converters import UNKNOWN, Converter, Wrong
from gateway.mapping.limits import MAX_DECIMAL, MAX_INTEGER, MAX_TEXT, MAX_UNKNOWN_CODE
from gateway.mapping.tables import Column, Table, fits
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS, TYPES, Field

LAW = settings(max_examples=200, derandomize=True, deadline=None)


def field(kind: str, **more: Any) -> Field:
    return Field("x", kind, required=False, sensitivity="none", zh="x", en="x", meaning="x", **more)


def named(name: str, kind: str, *, textual: bool = False) -> Converter:
    return converters.named(name, field(kind), textual=textual)


@pytest.mark.parametrize(
    ("name", "kind", "ours", "theirs"),
    [
        ("date:yyyyMMdd", "date", "2024-02-29", "20240229"),
        ("date:yyyy-MM-dd", "date", "2024-02-29", "2024-02-29"),
        ("date:yyyy年MM月dd日", "date", "2024-02-29", "2024年02月29日"),
        ("date:dd/MM/yyyy", "date", "2024-02-29", "29/02/2024"),
        ("date:yyyy-MM-dd 00:00:00", "date", "0987-02-28", "0987-02-28 00:00:00"),
        ("date:100%: {0} yyyyMMdd", "date", "2024-02-29", "100%: {0} 20240229"),
        ("date:epoch-ms", "date", "2024-02-29", 1_709_136_000_000),
        ("date:epoch-ms", "date", "1969-12-31", -115_200_000),
        ("datetime:yyyyMMddHHmmss", "datetime", "2025-12-31T16:00:00Z", "20260101000000"),
        ("datetime:yyyyMMddHHmmssSSS", "datetime", "2026-03-10T01:30:02.125Z", "20260310093002125"),
        ("datetime:yyyy-MM-dd HH:mm:ss", "datetime", "2026-03-10T01:30:00Z", "2026-03-10 09:30:00"),
        ("datetime:yyyy-MM-ddTHH:mm:ssZ@+00:00", "datetime", "2026-03-10T01:30:00Z", "2026-03-10T01:30:00Z"),
        ("datetime:HH:mm:ss.SSS dd.MM.yyyy@-03:30", "datetime", "2026-03-10T01:30:00.250Z", "22:00:00.250 09.03.2026"),
        ("datetime:epoch-ms", "datetime", "2026-03-10T01:30:02.125Z", 1_773_106_202_125),
        ("datetime:epoch-s", "datetime", "2026-03-10T01:30:02Z", 1_773_106_202),
        ("datetime:rfc3339Z", "datetime", "2026-03-10T01:30:02Z", "2026-03-10T01:30:02Z"),
        ("datetime:rfc3339+08:00", "datetime", "2026-03-10T01:30:02Z", "2026-03-10T09:30:02+08:00"),
        ("integer:text", "integer", -5, "-5"),
        ("decimal:text", "decimal", "-0.25", "-0.25"),
        ("decimal:number", "decimal", "-0.25", -0.25),
        ("decimal:number", "decimal", "12", 12),
        ("decimal:number", "decimal", "0.0000001", 1e-7),
        ("money:cents", "money", 1250, 1250),
        ("money:yuan", "money", 1250, 12.5),
        ("money:yuan", "money", 1200, 12),
        ("money:yuan-text", "money", 1250, "12.50"),
        ("money:yuan-text", "money", -5, "-0.05"),
        ("boolean:1/0", "boolean", True, "1"),
        ("boolean:Y,y,是/N,n,否", "boolean", False, "N"),
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
        ("date:yyyy年MM月dd日", "date", "2025年02月30日"),
        ("date:yyyy年MM月dd日", "date", "2025-02-28-"),
        ("date:yyyy年MM月dd日", "date", "2025年2月28日"),
        ("date:yyyy年MM月dd日", "date", " 2025年02月28"),
        ("date:yyyyMMdd", "date", "00000101"),
        ("date:epoch-ms", "date", MAX_INTEGER),
        ("date:epoch-ms", "date", 1_709_136_000_000.0),
        ("date:yyyyMMdd", "date", "2025022812"),
        ("datetime:yyyyMMddHHmmssSSS", "datetime", "2026010100000012"),
        ("datetime:yyyyMMddHHmmssSSS", "datetime", "20260101000000"),
        ("datetime:yyyyMMddHHmmssSSS", "datetime", "202601010000001.5"),
        ("datetime:yyyy-MM-dd HH:mm:ss", "datetime", "2026-01-01T00:00:00"),
        ("datetime:yyyy-MM-dd HH:mm:ss", "datetime", "2026-01-01 00:60:00"),
        ("datetime:epoch-s", "datetime", -MAX_INTEGER),
        ("datetime:rfc3339Z", "datetime", "2026-W11-2T01:30:02Z"),
        ("datetime:rfc3339Z", "datetime", "2026-03-10T01:30Z"),
        ("datetime:rfc3339Z", "datetime", "9999-12-31T23:59:59-01:00"),
        ("decimal:text", "decimal", "1e5"),
        ("decimal:text", "decimal", "1,250.00"),
        ("decimal:text", "decimal", "--1"),
        ("decimal:text", "decimal", "."),
        ("decimal:text", "decimal", "٥"),
        ("decimal:text", "decimal", 0.25),
        ("decimal:text", "decimal", "9" * (MAX_DECIMAL + 1)),
        ("decimal:number", "decimal", "0.25"),
        ("decimal:number", "decimal", True),
        ("decimal:number", "decimal", float("nan")),
        ("decimal:number", "decimal", float("-inf")),
        ("decimal:number", "decimal", 1e300),
        ("decimal:number", "decimal", 1e-300),
        ("decimal:number", "decimal", MAX_INTEGER + 1),
        ("money:cents", "money", 12.5),
        ("money:yuan", "money", 12.505),
        ("money:yuan", "money", "12.5"),
        ("money:yuan", "money", MAX_INTEGER),
        ("money:yuan-text", "money", "12.500"),
        ("money:yuan-text", "money", " 12.50 "),
        ("money:yuan-text", "money", "12."),
        ("money:yuan-text", "money", ".50"),
        ("money:yuan-text", "money", "12.-5"),
        ("money:yuan-text", "money", "¥12"),
        ("money:yuan-text", "money", "9" * 17),
        ("boolean:Y,y,是/N,n,否", "boolean", "yes"),
        ("boolean:Y,y,是/N,n,否", "boolean", True),
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
    for name, kind, ours, theirs in [
        ("datetime:epoch-ms", "datetime", "1970-01-01T00:00:01Z", "1000"),
        ("datetime:epoch-s", "datetime", "1969-12-31T23:59:59Z", "-1"),
        ("date:epoch-ms", "date", "1970-01-01", "-28800000"),
        ("decimal:number", "decimal", "0.25", "0.25"),
        ("money:cents", "money", 1250, "1250"),
        ("money:yuan", "money", 1250, "12.50"),
    ]:
        converter = named(name, kind, textual=True)
        assert (converter.say(ours), converter.hear(theirs), converter.writes) == (theirs, ours, "string")
        assert converter.loses == named(name, kind).loses


# --- text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["nul\0", "bell\a", "half \ud800", "\ufffe", 5, None, b"bytes", "x" * (MAX_TEXT + 1)])
def test_text_that_not_every_format_can_carry_is_refused(value: Any) -> None:
    """A half pair would make the JSON writer raise, a control character the XML writer."""
    with pytest.raises(Wrong):
        converters.TEXT.say(value)


@pytest.mark.parametrize("character", ["\ue000", "\uf8ff", "\U000f0000", "\U0010fffd"])
def test_a_private_use_character_is_refused_by_a_reason_of_its_own(character: str) -> None:
    """Old systems put rare characters of names there; sent on, they are holes or other characters."""
    with pytest.raises(Wrong, match="private-use") as caught:
        converters.TEXT.say(f"陈{character}")
    assert caught.value.code == "private_use"


@pytest.mark.parametrize(
    "text",
    ["\t\n\r", "\ud7ff", "\uf900", "\ufffd", "\U00010000", "\U000effff", "\u3000", "\u0378", "𠮷"],
)
def test_text_at_the_borders_of_what_can_be_carried_is_carried(text: str) -> None:
    """Also what is not printable, such as the wide space of names, and what Unicode has not assigned yet."""
    assert converters.TEXT.say(f"a{text}") == f"a{text}"


# --- days and moments --------------------------------------------------------------------------------------------

DAYS = ["yyyy-MM-dd", "yyyyMMdd", "yyyy年MM月dd日", "dd.MM.yyyy", "MM/dd yyyy", "epoch-ms"]
MOMENTS = {
    "yyyyMMddHHmmss": 1_000_000,
    "yyyy年MM月dd日 HH时mm分ss秒": 1_000_000,
    "ss mm HH dd MM yyyy@-11:00": 1_000_000,
    "yyyyMMddTHHmmss.SSSZ@+00:00": 1_000,
    "epoch-s": 1_000_000,
    "epoch-ms": 1_000,
    "rfc3339Z": 1,
    "rfc3339+08:00": 1,
}
"""Each with its step in microseconds."""

FIRST, LAST = datetime.fromisoformat("0002-01-01"), datetime.fromisoformat("9998-12-31")
ANY_DAY = st.dates(FIRST.date(), LAST.date())
ANY_MOMENT = st.datetimes(FIRST, LAST, timezones=st.just(UTC))


def written(moment: datetime) -> str:
    """A moment in UTC as we write it."""
    return str(named("datetime:rfc3339Z", "datetime").hear(moment.isoformat()))


@pytest.mark.parametrize("name", DAYS)
@LAW
@given(day=ANY_DAY)
def test_every_day_that_is_said_is_heard_again(name: str, day: Any) -> None:
    converter = named(f"date:{name}", "date")
    assert converter.hear(converter.say(day.isoformat())) == day.isoformat()


@pytest.mark.parametrize(("name", "step"), MOMENTS.items())
@LAW
@given(moment=ANY_MOMENT)
def test_every_moment_that_is_said_is_heard_again_rounded_down(name: str, step: int, moment: datetime) -> None:
    """Down before 1970 as well: rounding towards zero would move a time forward there and back elsewhere."""
    converter = named(f"datetime:{name}", "datetime")
    heard = converter.hear(converter.say(written(moment)))
    assert heard == written(moment - timedelta(microseconds=moment.microsecond % step))
    assert converter.hear(converter.say(heard)) == heard
    assert bool(converter.loses) == (step > 1)


@LAW
@given(
    order=st.permutations(["yyyy", "MM", "dd", "HH", "mm", "ss", "SSS"]),
    marks=st.lists(st.text("-/:. T年月日%{}0", max_size=2), min_size=8, max_size=8),
    moment=ANY_MOMENT,
)
def test_a_pattern_of_any_order_and_marks_is_its_own_inverse(
    order: list[str], marks: list[str], moment: datetime
) -> None:
    pattern = marks[0].replace("T", "") + "".join(
        t + m.replace("TT", "T") for t, m in zip(order, marks[1:], strict=True)
    )
    converter = named(f"datetime:{pattern}", "datetime")
    exact = written(moment.replace(microsecond=moment.microsecond // 1000 * 1000))
    said = converter.say(exact)
    assert len(said) == len(pattern)
    assert converter.hear(said) == exact


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("date:yyyymmdd", "date", "holds mm, which a date does not have; did you mean date:yyyyMMdd?"),
        ("date:yyMMdd", "date", "holds yy, and a pattern is made of yyyy MM dd"),
        ("date:YYYY-MM-DD", "date", "holds YYYY, and a pattern is made of yyyy MM dd"),
        ("date:yyyy-MM-dd HH:mm:ss", "date", "holds HH, which a date does not have"),
        ("date:yyyyMM", "date", "lacks dd"),
        ("date:yyyyMMddyyyy", "date", "holds yyyy twice"),
        ("date:yyyy-M-dd", "date", "holds M, and a pattern"),
        ("date:yyyyMMdd@+08:00", "date", "holds @"),
        ("datetime:yyyyMMdd", "datetime", "lacks HH"),
        ("datetime:yyyyMMddHHmm", "datetime", "lacks ss"),
        ("datetime:yyyyMMddhhmmss", "datetime", "holds hh"),
        ("datetime:yyyyMMdd'T'HHmmss", "datetime", "holds '"),
        ("datetime:yyyyMMddHHmmssSS", "datetime", "holds SS, and"),
        ("datetime:yyyyMMddTHHmmssZ", "datetime", "holds Z, and"),
        ("datetime:yyyyMMddHHmmss@8", "datetime", "@8 is no time zone"),
        ("datetime:yyyyMMddHHmmss@", "datetime", "@ is no time zone"),
        ("datetime:yyyyMMddHHmmss@+08:60", "datetime", "is no time zone"),
        ("datetime:yyyyMMddHHmmss@ 08:00", "datetime", "is no time zone"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_with_what_is_wrong(name: str, kind: str, reason: str) -> None:
    with pytest.raises(Wrong) as caught:
        named(name, kind)
    assert reason in caught.value.reason
    assert caught.value.code == "invalid"


def test_a_birthday_in_a_summer_with_summer_time_stays_on_its_day() -> None:
    """Systems in the zone Asia/Shanghai write its midnight at +09:00, which at +08:00 is the evening before."""
    converter = named("date:epoch-ms", "date")
    theirs = datetime.fromisoformat("1988-06-01T00:00:00+09:00")
    assert converter.hear(int(theirs.timestamp()) * 1000) == "1988-06-01"
    assert converter.say("1988-06-01") == int(datetime.fromisoformat("1988-06-01T00:00:00+08:00").timestamp()) * 1000


def test_of_a_moment_only_the_day_in_beijing_is_read_as_a_day() -> None:
    converter = named("date:epoch-ms", "date")
    noon = datetime.fromisoformat("2024-02-29T23:59:59.999+08:00")
    assert converter.hear(int(noon.timestamp() * 1000)) == "2024-02-29"
    assert converter.loses == {(THEIRS_TO_OURS, "time")}


def test_a_fraction_before_1970_is_rounded_down_too() -> None:
    assert named("datetime:epoch-ms", "datetime").say("1969-12-31T23:59:59.9999Z") == -1
    assert named("datetime:epoch-s", "datetime").say("1969-12-31T23:59:59.9999Z") == -1
    assert named("datetime:yyyyMMddHHmmss", "datetime").say("1969-12-31T23:59:59.9999Z") == "19700101075959"


@pytest.mark.parametrize("name", [f"datetime:{name}" for name in MOMENTS])
def test_a_moment_at_the_ends_of_the_calendar_is_converted_or_refused(name: str) -> None:
    """Moving it to another zone leaves the calendar, and must not raise anything that nobody expects."""
    converter = named(name, "datetime")
    outcomes = set()
    for value in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        try:
            outcomes.add(converter.hear(converter.say(value)) == value)
        except Wrong:
            outcomes.add("refused")
    assert outcomes <= {True, "refused"}


# --- numbers -----------------------------------------------------------------------------------------------------

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9)


def shortest(value: Decimal) -> str:
    """A decimal as we write it, found another way: by the decimal module."""
    number = value.normalize()
    return format(number if number else Decimal(0), "f")


@pytest.mark.parametrize("name", ["decimal:text", "decimal:number"])
@pytest.mark.parametrize("textual", [True, False])
@LAW
@given(value=DECIMALS)
def test_every_decimal_that_is_said_is_heard_again(name: str, value: Decimal, *, textual: bool) -> None:
    converter = named(name, "decimal", textual=textual)
    assert converter.hear(converter.say(shortest(value))) == shortest(value)


@LAW
@given(value=DECIMALS, zeros=st.integers(0, 3), sign=st.sampled_from(["", "+"]))
def test_any_spelling_of_a_decimal_is_heard_as_one(value: Decimal, zeros: int, sign: str) -> None:
    spelling = f"{abs(value):f}".rjust(16, "0") + "0" * zeros
    spelling = f"-{spelling}" if value < 0 else sign + spelling
    assert named("decimal:text", "decimal").hear(f" {spelling}\n") == shortest(value)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("-0.00", "0"), (".5", "0.5"), ("5.", "5"), ("007", "7"), ("100", "100"), ("0", "0")]
)
def test_zeros_and_points_that_say_nothing_are_dropped(theirs: str, ours: str) -> None:
    assert named("decimal:text", "decimal").hear(theirs) == ours


@pytest.mark.parametrize("theirs", [0.1, 1e-7, 12.0, -0.0, 5, 123456.789])
def test_a_json_number_is_read_as_the_decimal_that_it_was_written_as(theirs: float) -> None:
    """0.1 is no binary fraction; the text 0.1 is what both sides meant."""
    assert named("decimal:number", "decimal").hear(theirs) == shortest(Decimal(str(theirs)))


@LAW
@given(value=st.floats())
def test_a_json_number_is_read_exactly_or_not_at_all(value: float) -> None:
    converter = named("decimal:number", "decimal")
    try:
        heard = converter.hear(value)
    except Wrong:
        return
    assert converter.say(heard) == value
    assert Decimal(heard) == Decimal(str(value))


@pytest.mark.parametrize("value", ["12.50", "+1", "01", "-0", ".5", "1e3", " 1", 5, 0.5, "9" * (MAX_DECIMAL + 1)])
def test_a_decimal_of_ours_has_one_spelling(value: Any) -> None:
    """Otherwise what comes back would not be what was sent."""
    with pytest.raises(Wrong):
        converters.plain(field("decimal"), textual=False).say(value)


@pytest.mark.parametrize("value", ["0.12345678901234567891", "9007199254740993", "123456789012345678.5"])
def test_a_decimal_that_no_json_number_keeps_is_refused_and_not_rounded(value: str) -> None:
    assert named("decimal:text", "decimal").say(value) == value
    with pytest.raises(Wrong):
        named("decimal:number", "decimal").say(value)


@pytest.mark.parametrize("name", ["money:cents", "money:yuan", "money:yuan-text"])
@pytest.mark.parametrize("textual", [True, False])
@LAW
@given(cents=st.integers(-(10**13), 10**13))
def test_every_amount_that_is_said_is_heard_again(name: str, cents: int, *, textual: bool) -> None:
    converter = named(name, "money", textual=textual)
    assert converter.hear(converter.say(cents)) == cents


@pytest.mark.parametrize("name", ["money:cents", "money:yuan", "money:yuan-text"])
@LAW
@given(cents=st.integers(-2 * MAX_INTEGER, 2 * MAX_INTEGER))
def test_an_amount_is_never_changed_however_large(name: str, cents: int) -> None:
    """Near the largest integer a binary fraction has no room for the cents."""
    converter = named(name, "money")
    try:
        said = converter.say(cents)
    except Wrong:
        assert abs(cents) > 10**13
        return
    assert converter.hear(said) == cents


@pytest.mark.parametrize(
    ("theirs", "cents"), [("12", 1200), ("12.5", 1250), ("+12.50", 1250), ("-0.5", -50), ("007", 700)]
)
def test_an_amount_is_read_with_fewer_decimals_and_a_sign(theirs: str, cents: int) -> None:
    assert named("money:yuan-text", "money").hear(theirs) == cents


@pytest.mark.parametrize("name", ["money:cents", "money:yuan", "money:yuan-text"])
@pytest.mark.parametrize("value", ["1250", 12.5, True, None])
def test_our_money_is_an_integer_of_cents(name: str, value: Any) -> None:
    with pytest.raises(Wrong):
        named(name, "money").say(value)


# --- yes and no --------------------------------------------------------------------------------------------------


def test_the_first_spelling_is_written_and_every_one_is_read() -> None:
    converter = named("boolean:Y,y,是,1/N,n,否,0", "boolean")
    assert [converter.say(True), converter.say(False)] == ["Y", "N"]
    assert [converter.hear(theirs) for theirs in ("Y", "y", "是", 1, "N", "n", "否", 0)] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("spellings", ["Y", "Y/", "/N", "Y,/N", "Y/N/X", "", "Y/Y", "Y,y/y,N", "Y,Y/N", "Y, y/N"])
def test_spellings_that_could_not_be_told_apart_are_refused(spellings: str) -> None:
    with pytest.raises(Wrong, match="spelling"):
        named(f"boolean:{spellings}", "boolean")


def test_a_boolean_goes_as_a_word_where_there_is_only_text() -> None:
    """Read as XML Schema reads it; in JSON a boolean is one, and nothing else is taken for it."""
    word, bare = (converters.plain(field("boolean"), textual=textual) for textual in (True, False))
    assert [word.say(True), word.hear(" 1\n"), word.hear("false"), word.hear("0")] == ["true", True, False, False]
    assert [bare.say(True), bare.hear(False), bare.writes] == [True, False, "boolean"]
    for refused in ("TRUE", 1, 0, "", None):
        with pytest.raises(Wrong):
            bare.hear(refused)
        with pytest.raises(Wrong):
            word.hear(refused)


@pytest.mark.parametrize("name", ["boolean:1/0", "boolean:true/false"])
@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_our_booleans_are_true_and_false(name: str, value: Any) -> None:
    with pytest.raises(Wrong):
        named(name, "boolean").say(value)


# --- regions and scripts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["region:6", "region:9", "region:12"])
@LAW
@given(code=st.text("0123456789", min_size=6, max_size=12))
def test_a_region_code_of_any_length_is_heard_as_its_county(name: str, code: str) -> None:
    converter = named(name, "code")
    assert converter.hear(code) == code[:6]
    assert converter.hear(converter.say(code[:6])) == code[:6]
    assert converter.loses == {(THEIRS_TO_OURS, "subregion")}


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("script:hans", "陳小華 發展", "陈小华 发展"),
        ("script:hans", "暐", "𬀩"),
        ("script:hans", "㑮", "㑮"),
        ("script:hant", "陈小华 里面", "陳小華 裏面"),
        ("script:hant-hk", "群众", "羣眾"),
    ],
)
def test_a_text_is_converted_to_the_script_that_is_asked_for(name: str, ours: str, theirs: str) -> None:
    """Also a second time. By analogy only what the table of 2013 has is simplified."""
    converter = named(name, "string")
    assert converter.say(ours) == theirs
    assert converter.hear(ours) == converter.hear(theirs) == theirs
    assert converter.loses == {(OURS_TO_THEIRS, "script"), (THEIRS_TO_OURS, "script")}
    assert named(name, "texts").say(ours) == theirs


@LAW
@given(name=st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=1, max_size=6))
def test_a_script_that_was_written_is_read_back_without_further_change(name: str) -> None:
    """What was simplified once stays as it is, so that a second conversion on the way does no harm."""
    converter = named("script:hans", "string")
    assert converter.hear(converter.say(name)) == converter.say(name)


@pytest.mark.parametrize("value", ["half \ud800", "\ue000", 5, None])
def test_a_script_is_asked_of_text_only(value: Any) -> None:
    with pytest.raises(Wrong):
        named("script:hans", "string").say(value)


# --- choosing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 1.0, "1", MAX_INTEGER + 1])
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(Wrong):
        converters.INTEGER.say(value)


def test_a_conversion_for_another_type_is_refused_when_it_is_chosen() -> None:
    with pytest.raises(Wrong, match="is for a date"):
        named("date:yyyyMMdd", "string")


@pytest.mark.parametrize(
    "name",
    [
        "date:epoch-m",
        "date:",
        "date",
        "datetime:epoch-ss",
        "datetime:epoch-ms@+08:00",
        "datetime:rfc3339",
        "integer:number",
        "decimal:1",
        "money:fen",
        "region:8",
        "script:t2s",
        "yyyyMMdd",
        "",
    ],
)
@pytest.mark.parametrize("textual", [True, False])
def test_a_name_that_nobody_knows_is_told_from_one_that_is_wrong(name: str, *, textual: bool) -> None:
    """The reader of rules then proposes the nearest name."""
    kinds = {"region": "code", "script": "string"}
    family = name.partition(":")[0]
    with pytest.raises(Wrong) as caught:
        named(name, kinds.get(family, family), textual=textual)
    assert caught.value.code == "unknown_converter"


EXAMPLES: dict[str, Any] = {
    "date": "2024-02-29",
    "datetime": "2024-02-29T00:00:00Z",
    "integer": 5,
    "decimal": "0.5",
    "money": 1250,
    "boolean": True,
    "region": "440600",
    "script": "文",
}
KINDS: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


@pytest.mark.parametrize("name", [name for name in converters.NAMES if not name.startswith("entries:")])
@pytest.mark.parametrize("textual", [True, False])
def test_every_name_that_is_proposed_works_and_writes_what_it_says(name: str, *, textual: bool) -> None:
    """What it writes is held against the region's schema when a pack is loaded."""
    family = name.partition(":")[0]
    converter = named(name, {"region": "code", "script": "string"}.get(family, family), textual=textual)
    said = converter.say(EXAMPLES[family])
    assert KINDS[type(said)] in ({converter.writes, "integer"} if converter.writes == "number" else {converter.writes})
    assert converter.hear(said) == EXAMPLES[family]
    assert not (textual and converter.writes != "string")


NEEDY = {"datetime", "money", "code", "entries", "list", "object"}


@pytest.mark.parametrize("kind", sorted(set(TYPES) - NEEDY))
def test_every_other_type_of_the_vocabulary_has_a_conversion_without_a_name(kind: str) -> None:
    ours = {"texts": "one of them", "string": "text"}.get(kind) or EXAMPLES[kind]
    for textual in (True, False):
        converter = converters.plain(field(kind), textual=textual)
        assert converter.hear(converter.say(ours)) == ours
        assert not converter.loses


@pytest.mark.parametrize("kind", sorted(NEEDY))
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
def test_a_number_without_a_known_shape_leaves_the_code_unknown_rather_than_guessed(number: Any) -> None:
    """Reading "40, other" as a home return permit would link two people."""
    assert converters.hear_by_shape(SHAPES, OTHER)("40", number) == "unknown:40"


# --- codes that nobody knows -------------------------------------------------------------------------------------

CODED = {
    "column": converters.of_column(OTHER),
    "closed": converters.closed(("A", "B")),
    "numbered": converters.numbered(6),
    "by shape": Converter(
        converters.of_column(OTHER).say, lambda code: converters.hear_by_shape(SHAPES, OTHER)(code, "1")
    ),
}


@pytest.mark.parametrize("converter", CODED.values(), ids=CODED.keys())
@LAW
@given(code=st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=7, max_size=MAX_UNKNOWN_CODE))
def test_a_code_of_theirs_that_nobody_knows_is_kept_and_never_said(converter: Converter, code: str) -> None:
    """A case goes on when a region has a new code; sending it on would give it a meaning that nobody agreed on."""
    assert converter.hear(code) == UNKNOWN + code
    with pytest.raises(Wrong) as caught:
        converter.say(UNKNOWN + code)
    assert code not in caught.value.reason


@pytest.mark.parametrize("converter", CODED.values(), ids=CODED.keys())
@pytest.mark.parametrize("code", ["x" * (MAX_UNKNOWN_CODE + 1), "a\nb", "a\u3000b", ""])
def test_what_hardly_is_a_code_is_refused_and_not_kept(converter: Converter, code: str) -> None:
    """It would reach pages and counters."""
    with pytest.raises(Wrong) as caught:
        converter.hear(code)
    assert caught.value.code == "unknown_code"
    assert not code or code not in caught.value.reason


def test_a_code_that_is_known_is_not_marked() -> None:
    assert [CODED["column"].hear("10"), CODED["column"].hear(10), CODED["closed"].hear("B")] == ["C", "C", "B"]
    assert CODED["numbered"].hear("440600") == "440600"
    assert CODED["column"].hear(77) == "unknown:77"


@pytest.mark.parametrize("code", [440600, 1.5, None, True])
def test_a_number_is_not_taken_for_a_code_of_digits(code: Any) -> None:
    """It may have lost zeros in front, and another place has the code that is left."""
    with pytest.raises(Wrong):
        CODED["numbered"].hear(code)


def test_a_code_of_ours_without_counterpart_names_the_column_and_not_the_code() -> None:
    with pytest.raises(Wrong) as caught:
        converters.of_column(OTHER).say("77-secret")
    assert "t.c" in caught.value.reason
    assert "secret" not in caught.value.reason
