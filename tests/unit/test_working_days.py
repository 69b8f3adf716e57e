"""Working days of the three territories: the arithmetic, and the file that the sandbox begins with."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import chinese_calendar
import holidays
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.calendars import CalendarsInUse, ending, load_calendars
from gateway.domain.region import Zone
from gateway.domain.working_days import Unit, WorkingDays
from gateway.errors import StartRefused
from gateway.sandbox.layout import SEED

CALENDARS = load_calendars(SEED / "working-days.toml")
MAINLAND = CALENDARS.by_zone[Zone.MAINLAND]
HONGKONG = CALENDARS.by_zone[Zone.HONGKONG]
MACAU = CALENDARS.by_zone[Zone.MACAU]

ANY_DAY = st.dates(date(2024, 6, 1), date(2028, 6, 1))  # with years before and after those of the tables
ANY_NUMBER = st.integers(0, 90)
ANY_TABLE = st.sampled_from([MAINLAND, HONGKONG, MACAU])
ANY_UNIT = st.sampled_from(list(Unit))


# --- the laws ------------------------------------------------------------------------------------------------------


@given(ANY_TABLE, ANY_DAY, ANY_NUMBER, ANY_NUMBER, ANY_UNIT)
def test_two_limits_after_one_another_are_one_limit(
    days: WorkingDays, day: date, first: int, then: int, unit: Unit
) -> None:
    assert days.add(days.add(day, first, unit), then, unit) == days.add(day, first + then, unit)


@given(ANY_TABLE, ANY_DAY, ANY_DAY, ANY_NUMBER, ANY_UNIT)
def test_who_begins_earlier_is_never_due_later(
    days: WorkingDays, one: date, other: date, number: int, unit: Unit
) -> None:
    early, late = sorted([one, other])
    assert days.add(early, number, unit) <= days.add(late, number, unit)


@given(ANY_TABLE, ANY_DAY, st.integers(1, 90))
def test_a_limit_of_working_days_never_ends_on_a_day_off(days: WorkingDays, day: date, number: int) -> None:
    assert days.is_working_day(days.add(day, number))


@given(ANY_TABLE, ANY_DAY, ANY_NUMBER)
def test_calendar_days_count_all(days: WorkingDays, day: date, number: int) -> None:
    assert days.add(day, number, Unit.CALENDAR) == day + timedelta(days=number)


@given(ANY_TABLE, ANY_DAY, ANY_NUMBER, ANY_UNIT)
def test_counting_undoes_adding(days: WorkingDays, day: date, number: int, unit: Unit) -> None:
    assert days.count(day, days.add(day, number, unit), unit) == number


@given(ANY_TABLE, ANY_DAY, ANY_NUMBER, ANY_NUMBER, ANY_UNIT)
def test_a_span_counts_as_much_as_its_parts(days: WorkingDays, day: date, first: int, then: int, unit: Unit) -> None:
    middle, end = day + timedelta(days=first), day + timedelta(days=first + then)
    assert days.count(day, end, unit) == days.count(day, middle, unit) + days.count(middle, end, unit)


def test_a_limit_cannot_be_negative() -> None:
    with pytest.raises(ValueError, match="no less"):
        MAINLAND.add(date(2026, 3, 2), -1)


# --- what the tables say -------------------------------------------------------------------------------------------


def test_spring_festival_takes_nine_days_and_gives_two_back() -> None:
    """2026: off from 15 to 23 February, worked on Saturday 14 and Saturday 28."""
    assert MAINLAND.add(date(2026, 2, 13), 1) == date(2026, 2, 14)
    assert MAINLAND.add(date(2026, 2, 13), 2) == date(2026, 2, 24)
    assert MAINLAND.add(date(2026, 2, 13), 6) == date(2026, 2, 28)
    assert MAINLAND.count(date(2026, 2, 13), date(2026, 2, 28)) == 6


def test_hong_kong_and_macau_have_no_make_up_days_and_holidays_of_their_own() -> None:
    assert HONGKONG.add(date(2026, 2, 13), 2) == date(2026, 2, 20)  # Monday 16, then three days off
    assert not MACAU.is_working_day(date(2026, 12, 8))
    assert MAINLAND.is_working_day(date(2026, 12, 8))
    assert not HONGKONG.is_working_day(date(2026, 7, 1))
    assert MACAU.is_working_day(date(2026, 7, 1))


def test_national_day_is_made_up_for_before_and_after() -> None:
    """2026: off from 1 to 7 October, worked on Sunday 20 September and Saturday 10 October."""
    assert MAINLAND.is_working_day(date(2026, 9, 20))
    assert MAINLAND.add(date(2026, 9, 30), 3) == date(2026, 10, 10)


@pytest.mark.parametrize("year", [2025, 2026])
def test_the_mainland_agrees_with_a_library_day_by_day(year: int) -> None:
    for day in (date(year, 1, 1) + timedelta(days=n) for n in range(365)):
        assert MAINLAND.is_working_day(day) == chinese_calendar.is_workday(day), day


@pytest.mark.parametrize("year", [2025, 2026, 2027])
@pytest.mark.parametrize(("zone", "country"), [(Zone.HONGKONG, "HK"), (Zone.MACAU, "MO")])
def test_hong_kong_and_macau_agree_with_a_library_day_by_day(zone: Zone, country: str, year: int) -> None:
    """General holidays in Hong Kong; in Macau those of the public administration, where half a day off is none."""
    kinds = {"HK": ("public", "optional"), "MO": ("public", "optional", "government")}[country]
    known = holidays.country_holidays(country, years=year, categories=kinds, language="en_US")
    for day in (date(year, 1, 1) + timedelta(days=n) for n in range(365)):
        off = day.weekday() >= 5 or (day in known and "Afternoon" not in known[day])
        assert CALENDARS.by_zone[zone].is_working_day(day) == (not off), day


def test_a_place_counts_the_days_of_its_own_territory() -> None:
    assert CALENDARS.of("810000") is HONGKONG
    assert CALENDARS.of("820000") is MACAU
    assert CALENDARS.of("440600") is MAINLAND


# --- years that nobody has published -------------------------------------------------------------------------------


def test_a_year_that_is_missing_is_counted_by_weekdays_and_vouched_for_by_nobody() -> None:
    assert MAINLAND.add(date(2029, 12, 31), 5) == date(2030, 1, 7)
    assert not MAINLAND.knows(date(2026, 12, 30), date(2027, 1, 4))
    assert MAINLAND.knows(date(2025, 1, 1), date(2026, 12, 31))


def test_days_that_nobody_has_published_count_but_are_not_vouched_for() -> None:
    assert not HONGKONG.is_working_day(date(2027, 3, 26))
    assert not HONGKONG.knows(date(2027, 3, 1), date(2027, 3, 30))


def test_the_end_of_what_is_known_is_told_months_before() -> None:
    assert ending(CALENDARS, date(2026, 9, 1)) == []
    assert len(ending(CALENDARS, date(2026, 10, 1))) == len(Zone)
    assert "mainland are known for 91 more days" in ending(CALENDARS, date(2026, 10, 1))[0]
    assert dict(CALENDARS.days_left(date(2027, 5, 1))) == dict.fromkeys(Zone, 0)


# --- the file ------------------------------------------------------------------------------------------------------

YEAR = '[[{zone}]]\nyear = 2026\nsource = "a test"\noff = [2026-01-01]\n'


def written(tmp_path: Path, *more: str) -> Path:
    path = tmp_path / "working-days.toml"
    path.write_text("".join(YEAR.format(zone=zone) for zone in Zone) + "".join(more), encoding="utf-8")
    return path


def test_every_mistake_of_the_file_is_named_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[[mainland]]\nyear = 2027\nsource = "x"\noff = [2028-01-03, 2027-01-02]\nwork = [2027-01-02, 2027-01-04]\n',
        YEAR.format(zone="macau"),
    )
    with pytest.raises(StartRefused) as refused:
        load_calendars(path)
    assert [(problem.field, problem.reason) for problem in refused.value.problems] == [
        ("working-days.toml: mainland.2027", "2028-01-03 lies in another year"),
        ("working-days.toml: mainland.2027", "2027-01-02 cannot be both off and work"),
        (
            "working-days.toml: mainland.2027",
            "2027-01-04 is no weekend; work lists only weekend days that are worked on",
        ),
        ("working-days.toml: macau.2026", "stands more than once"),
    ]


@pytest.mark.parametrize("day", ['"2027-01-01"', "20270101", "2027-01-01T00:00:00Z", "1.5", "true"])
def test_a_day_is_written_as_a_day(tmp_path: Path, day: str) -> None:
    with pytest.raises(StartRefused):
        load_calendars(written(tmp_path, f'[[mainland]]\nyear = 2027\nsource = "x"\noff = [{day}]\n'))


def test_a_comment_or_another_order_is_no_other_version(tmp_path: Path) -> None:
    """Another version counts every open case anew."""
    more = ['[[macau]]\nyear = 2027\nsource = "x"\noff = [', "]\n"]
    one = load_calendars(written(tmp_path, more[0], "2027-01-01, 2027-02-08", more[1])).version
    other = load_calendars(written(tmp_path, "# new\n", more[0], "2027-02-08, 2027-01-01", more[1])).version
    third = load_calendars(written(tmp_path, more[0], "2027-01-01", more[1])).version
    assert one == other != third


async def test_a_file_is_taken_anew_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = written(tmp_path)
    in_use = CalendarsInUse(path, load_calendars(path))
    first = in_use.now().version
    path.write_text(path.read_text(encoding="utf-8") + YEAR.format(zone="macau"), encoding="utf-8")
    await in_use.reload()
    assert in_use.now().version == first
    written(tmp_path, YEAR.format(zone="macau").replace("2026", "2027"))
    await in_use.reload()
    assert in_use.now().by_zone[Zone.MACAU].years == {2026, 2027}
