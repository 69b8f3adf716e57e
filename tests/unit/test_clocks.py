"""The clocks of a case: what starts, stops, moves and ends them. Days are the mainland's of 2026, unless it is said."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.calendars import load_calendars
from gateway.domain.calendar import LOCAL, local_day
from gateway.domain.clocks import Clock, ClockName, ClockState, Limit, Limits, Step, clocks_of, steps_of
from gateway.domain.region import Zone
from gateway.domain.submission import RESUMED, Report, State, stand
from gateway.domain.working_days import Unit, WorkingDays
from gateway.sandbox.layout import SEED

CALENDARS = load_calendars(SEED / "working-days.toml")
MAINLAND = CALENDARS.by_zone[Zone.MAINLAND]
LICENCE = Limits(promised_days=5, statutory_days=20, unit=Unit.WORKING)
C, S = ClockName, State


def at(text: str) -> datetime:
    """Return a local time, `2026-03-02` at ten or `2026-03-02 23:59`."""
    day, _, hour = text.partition(" ")
    return datetime.fromisoformat(f"{day} {hour or '10:00'}").replace(tzinfo=LOCAL).astimezone(UTC)


def step(state: State, when: str, **more: Any) -> Step:
    return Step(state, at(when), **more)


def resumed(when: str, **more: Any) -> Step:
    return Step(S.ACCEPTED, at(when), resumes=True, **more)


def clocks(
    *steps: Step,
    begun: str = "2026-03-02",
    now: str = "2026-03-02",
    limits: Limits | None = LICENCE,
    days: WorkingDays = MAINLAND,
) -> dict[ClockName, Clock]:
    found = clocks_of(steps, begun_at=at(begun), limits=limits, days=days, now=at(now))
    return {clock.name: clock for clock in found}


def dues(found: Mapping[ClockName, Clock]) -> dict[str, str]:
    return {str(name): str(clock.due_on) for name, clock in found.items()}


ACCEPTED = (step(S.FORWARDED, "2026-03-02"), step(S.RECEIVED, "2026-03-02 11:00"), step(S.ACCEPTED, "2026-03-03"))


# --- collection and acceptance -------------------------------------------------------------------------------------


def test_a_case_is_to_be_handed_over_on_the_next_working_day() -> None:
    """Collected on the last day before the Spring Festival that is no make-up day: Saturday 14 is a working day."""
    assert dues(clocks(begun="2026-02-13")) == {"collection": "2026-02-14"}
    assert dues(clocks(begun="2026-02-14 18:00")) == {"collection": "2026-02-24"}


def test_the_last_minute_of_the_last_day_is_in_time_and_the_next_is_late() -> None:
    in_time = clocks(step(S.FORWARDED, "2026-03-03 23:59"))[C.COLLECTION]
    late = clocks(step(S.FORWARDED, "2026-03-04 00:00"))[C.COLLECTION]
    assert (in_time.state, late.state) == (ClockState.MET, ClockState.LATE)
    assert in_time.due_at == at("2026-03-04 00:00")


def test_acceptance_is_decided_five_working_days_after_it_was_acknowledged() -> None:
    found = clocks(step(S.FORWARDED, "2026-02-12"), step(S.RECEIVED, "2026-02-13"), begun="2026-02-12")
    assert found[C.ACCEPTANCE].due_on == date(2026, 2, 27)  # 14, 24, 25, 26, 27


def test_what_is_never_acknowledged_runs_from_the_hand_over() -> None:
    assert clocks(step(S.FORWARDED, "2026-02-12"), begun="2026-02-12")[C.ACCEPTANCE].due_on == date(2026, 2, 26)


def test_silence_makes_the_acceptance_overdue_and_accepts_nothing() -> None:
    """That silence is acceptance (行政许可法 32) is not a gateway's to declare."""
    found = clocks(step(S.FORWARDED, "2026-03-02"), now="2026-03-10")
    assert found[C.ACCEPTANCE].state is ClockState.OVERDUE
    assert found[C.ACCEPTANCE].ended_at is None
    assert C.PROMISED not in found


def test_a_notice_stops_the_acceptance_and_the_last_supplement_restarts_it() -> None:
    notice = step(S.SUPPLEMENT_NOTICE, "2026-03-04", due_on=date(2026, 3, 20))
    asked = clocks(*ACCEPTED[:2], notice, now="2026-03-30")
    assert (asked[C.ACCEPTANCE].state, asked[C.ACCEPTANCE].due_on) == (ClockState.STOPPED, None)
    assert (asked[C.SUPPLEMENT].state, asked[C.SUPPLEMENT].due_on) == (ClockState.OVERDUE, date(2026, 3, 20))
    answered = clocks(*ACCEPTED[:2], notice, step(S.SUPPLEMENTED, "2026-03-23"), now="2026-03-30")
    assert (answered[C.ACCEPTANCE].state, answered[C.ACCEPTANCE].due_on) == (ClockState.RUNNING, date(2026, 3, 30))
    assert answered[C.SUPPLEMENT].state is ClockState.LATE


def test_supplements_that_never_came_end_both_clocks() -> None:
    found = clocks(
        *ACCEPTED[:2],
        step(S.SUPPLEMENT_NOTICE, "2026-03-04", limit=Limit(5, Unit.WORKING)),
        step(S.SUPPLEMENT_EXPIRED, "2026-03-12"),
    )
    assert (found[C.SUPPLEMENT].state, found[C.SUPPLEMENT].due_on) == (ClockState.OVERDUE, date(2026, 3, 11))
    assert found[C.SUPPLEMENT].ended_at == at("2026-03-12")
    assert found[C.ACCEPTANCE].state is ClockState.VOID


def test_a_notice_that_sets_no_day_runs_without_one() -> None:
    found = clocks(*ACCEPTED[:2], step(S.SUPPLEMENT_NOTICE, "2026-03-04"), now="2027-03-30")
    assert (found[C.SUPPLEMENT].state, found[C.SUPPLEMENT].due_on) == (ClockState.RUNNING, None)


# --- decision ------------------------------------------------------------------------------------------------------


def test_the_decision_has_what_is_promised_and_what_the_law_allows() -> None:
    found = clocks(*ACCEPTED)
    assert (found[C.PROMISED].due_on, found[C.STATUTORY].due_on) == (date(2026, 3, 10), date(2026, 3, 31))
    assert found[C.ACCEPTANCE].state is ClockState.MET


def test_national_day_moves_a_decision() -> None:
    """Accepted on Tuesday 29 September: 30, then 8, 9, 10 (a Saturday that is made up for) and 12 October."""
    found = clocks(step(S.FORWARDED, "2026-09-28"), step(S.ACCEPTED, "2026-09-29"), begun="2026-09-28")
    assert found[C.PROMISED].due_on == date(2026, 10, 12)


def test_calendar_days_are_calendar_days() -> None:
    found = clocks(*ACCEPTED, limits=Limits(5, 20, Unit.CALENDAR))
    assert (found[C.PROMISED].due_on, found[C.STATUTORY].due_on) == (date(2026, 3, 8), date(2026, 3, 23))
    assert not found[C.PROMISED].estimated


def test_what_is_decided_on_the_spot_is_due_on_the_day_or_the_next_working_day() -> None:
    instant = Limits(0, 2, Unit.WORKING)
    assert clocks(*ACCEPTED, limits=instant)[C.PROMISED].due_on == date(2026, 3, 3)
    sunday = step(S.ACCEPTED, "2026-03-08")
    assert clocks(*ACCEPTED[:2], sunday, limits=instant)[C.PROMISED].due_on == date(2026, 3, 9)


def test_the_day_that_the_authority_promised_for_this_case_counts() -> None:
    found = clocks(*ACCEPTED[:2], step(S.ACCEPTED, "2026-03-03", due_on=date(2026, 3, 6)))
    assert (found[C.PROMISED].due_on, found[C.STATUTORY].due_on) == (date(2026, 3, 6), date(2026, 3, 31))


def test_an_extension_adds_ten_working_days() -> None:
    found = clocks(*ACCEPTED, step(S.EXTENDED, "2026-03-09"))
    assert (found[C.PROMISED].due_on, found[C.STATUTORY].due_on) == (date(2026, 3, 24), date(2026, 4, 15))


@pytest.mark.parametrize(
    ("said", "due"),
    [
        ({"limit": Limit(3, Unit.WORKING)}, date(2026, 3, 13)),
        ({"limit": Limit(3, Unit.CALENDAR)}, date(2026, 3, 13)),
        ({"due_on": date(2026, 5, 5), "limit": Limit(3, Unit.WORKING)}, date(2026, 5, 5)),
    ],
)
def test_an_extension_adds_what_it_says_and_a_day_counts_most(said: Mapping[str, Any], due: date) -> None:
    assert clocks(*ACCEPTED, step(S.EXTENDED, "2026-03-09", **said))[C.PROMISED].due_on == due


def test_a_special_procedure_over_a_weekend_costs_one_working_day() -> None:
    """Opened on Friday 6, closed on Monday 9: Monday is not counted, and Saturday and Sunday never are."""
    stopped = clocks(*ACCEPTED, step(S.SPECIAL, "2026-03-06"), now="2026-06-01")
    assert (stopped[C.PROMISED].state, stopped[C.PROMISED].due_on) == (ClockState.STOPPED, None)
    assert stopped[C.STATUTORY].state is ClockState.STOPPED
    found = clocks(*ACCEPTED, step(S.SPECIAL, "2026-03-06"), resumed("2026-03-09"))
    assert (found[C.PROMISED].due_on, found[C.STATUTORY].due_on) == (date(2026, 3, 11), date(2026, 4, 1))


def test_a_special_procedure_within_a_weekend_costs_nothing_and_one_over_calendar_days_costs_each() -> None:
    weekend = (step(S.SPECIAL, "2026-03-07"), resumed("2026-03-08"))
    assert clocks(*ACCEPTED, *weekend)[C.PROMISED].due_on == date(2026, 3, 10)
    calendar = Limits(5, 20, Unit.CALENDAR)
    assert clocks(*ACCEPTED, *weekend, limits=calendar)[C.PROMISED].due_on == date(2026, 3, 9)


def test_who_was_stopped_on_the_last_day_has_that_day_left() -> None:
    last = (step(S.SPECIAL, "2026-03-10"), resumed("2026-03-20"))
    assert clocks(*ACCEPTED, *last)[C.PROMISED].due_on == date(2026, 3, 20)
    saturday = (step(S.SPECIAL, "2026-03-10"), resumed("2026-03-21"))
    assert clocks(*ACCEPTED, *saturday)[C.PROMISED].due_on == date(2026, 3, 23)


def test_a_special_procedure_heals_nothing_that_was_overdue_before() -> None:
    """The promised day was over when it was opened; the statutory one was not."""
    found = clocks(*ACCEPTED, step(S.SPECIAL, "2026-03-12"), now="2026-03-13")
    assert (found[C.PROMISED].state, found[C.PROMISED].due_on) == (ClockState.OVERDUE, date(2026, 3, 10))
    assert found[C.STATUTORY].state is ClockState.STOPPED


def test_a_special_procedure_of_an_extended_case_goes_back_to_the_extended_clock() -> None:
    found = clocks(
        *ACCEPTED, step(S.EXTENDED, "2026-03-09"), step(S.SPECIAL, "2026-03-10"), resumed("2026-03-12"),
        step(S.SPECIAL, "2026-03-16"), resumed("2026-03-17"),
    )  # fmt: skip
    assert found[C.PROMISED].due_on == date(2026, 3, 27)  # 10 March, ten days of extension, two and one of special


def test_a_late_decision_is_late_for_who_was_promised_less() -> None:
    found = clocks(*ACCEPTED, step(S.DECIDED, "2026-03-12"))
    assert (found[C.PROMISED].state, found[C.STATUTORY].state) == (ClockState.LATE, ClockState.MET)


def test_an_item_that_is_no_longer_in_the_catalogue_has_no_limit_to_its_decision() -> None:
    found = clocks(*ACCEPTED, limits=None, now="2027-03-02")
    assert (found[C.PROMISED].state, found[C.PROMISED].due_on) == (ClockState.RUNNING, None)


# --- tolerance, delivery, ends -------------------------------------------------------------------------------------


def tolerant(**more: Any) -> tuple[Step, ...]:
    return (*ACCEPTED[:2], step(S.ACCEPTED_TOLERANT, "2026-03-03", **more))


def test_a_deferred_material_is_due_when_the_acceptance_says() -> None:
    found = clocks(*tolerant(due_on=date(2026, 3, 6)), now="2026-03-07")
    assert (found[C.TOLERANCE].state, found[C.TOLERANCE].due_on) == (ClockState.OVERDUE, date(2026, 3, 6))


def test_a_deferred_material_without_a_day_is_due_before_the_decision_wherever_that_moves() -> None:
    assert clocks(*tolerant())[C.TOLERANCE].due_on == date(2026, 3, 10)
    stopped = clocks(*tolerant(), step(S.SPECIAL, "2026-03-06"))
    assert stopped[C.TOLERANCE].state is ClockState.STOPPED
    moved = clocks(*tolerant(), step(S.SPECIAL, "2026-03-06"), resumed("2026-03-09"))
    assert moved[C.TOLERANCE].due_on == date(2026, 3, 11)


def test_a_deferred_material_is_due_by_the_rule_of_its_item_the_earliest_first() -> None:
    limits = Limits(5, 20, Unit.WORKING, {"A": 3, "B": 2})
    assert clocks(*tolerant(), limits=limits)[C.TOLERANCE].due_on == date(2026, 3, 5)
    assert clocks(*tolerant(materials=("A",)), limits=limits)[C.TOLERANCE].due_on == date(2026, 3, 6)
    assert clocks(*tolerant(materials=("C",)), limits=limits)[C.TOLERANCE].due_on == date(2026, 3, 10)


def test_what_followed_in_time_meets_the_tolerance_and_starts_no_decision_anew() -> None:
    found = clocks(*tolerant(), step(S.ACCEPTED, "2026-03-05"))
    assert found[C.TOLERANCE].state is ClockState.MET
    assert found[C.PROMISED].due_on == date(2026, 3, 10)


def test_what_never_followed_leaves_an_overdue_tolerance_and_no_decision() -> None:
    found = clocks(*tolerant(due_on=date(2026, 3, 6)), step(S.TOLERANCE_BREACHED, "2026-03-09"))
    assert (found[C.TOLERANCE].state, found[C.TOLERANCE].ended_at) == (ClockState.OVERDUE, at("2026-03-09"))
    assert found[C.STATUTORY].state is ClockState.VOID


def test_the_result_is_served_ten_working_days_after_the_decision() -> None:
    decided = (*ACCEPTED, step(S.DECIDED, "2026-03-06"))
    assert clocks(*decided)[C.DELIVERY].due_on == date(2026, 3, 20)
    assert clocks(*decided, step(S.COMPLETED, "2026-03-23"))[C.DELIVERY].state is ClockState.LATE


@pytest.mark.parametrize("end", [S.WITHDRAWN, S.RETURNED, S.VOID])
def test_a_case_that_ends_otherwise_leaves_no_clock_running(end: State) -> None:
    found = clocks(*ACCEPTED, step(end, "2026-03-04"), now="2026-12-01")
    assert {clock.state for clock in found.values()} == {ClockState.MET, ClockState.VOID}


def test_steps_that_were_left_out_meet_their_clocks_all_the_same() -> None:
    found = clocks(step(S.DECIDED, "2026-03-03"), step(S.COMPLETED, "2026-03-03"))
    assert {str(name): str(clock.state) for name, clock in found.items()} == {"collection": "met", "delivery": "met"}


# --- due soon, and what is not known -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "soon"),
    [(1, "2026-03-04"), (2, "2026-03-04"), (3, "2026-03-04"), (4, "2026-03-05"), (5, "2026-03-06")],
)
def test_a_clock_is_due_soon_two_working_days_before_and_one_at_least(limit: int, soon: str) -> None:
    """Accepted on Tuesday 3; a limit of one day leaves nothing before its last day."""
    found = clocks(*ACCEPTED, limits=Limits(limit, 20, Unit.WORKING))[C.PROMISED]
    assert str(found.soon_on) == soon
    assert found.soon_at == at(f"{soon} 00:00")


def test_what_is_due_on_the_spot_is_never_due_soon() -> None:
    assert clocks(*ACCEPTED, limits=Limits(0, 20, Unit.WORKING))[C.PROMISED].soon_on is None


def test_a_limit_that_reaches_beyond_what_is_known_is_estimated() -> None:
    """The mainland's days of 2027 stand in no table yet."""
    steps = (step(S.FORWARDED, "2026-12-21"), step(S.ACCEPTED, "2026-12-22"))
    found = clocks(*steps, begun="2026-12-21")
    assert {name: found[name].estimated for name in (C.PROMISED, C.STATUTORY)} == {C.PROMISED: False, C.STATUTORY: True}
    assert not clocks(*steps, begun="2026-12-21", limits=Limits(5, 20, Unit.CALENDAR))[C.STATUTORY].estimated


# --- from the reports ----------------------------------------------------------------------------------------------

BEGUN = at("2026-03-02")


def report(state: State, when: str, word: str = "") -> Report:
    return Report(state, "foshan", at(when), f"{state} {when}", word)


def read(*reports: Report, **said: Mapping[str, Any]) -> list[Step]:
    return steps_of(stand(reports), BEGUN, lambda key: said.get(key.partition(" ")[0], {}))


def test_the_way_back_out_of_a_special_procedure_is_no_new_acceptance() -> None:
    steps = read(
        report(S.ACCEPTED, "2026-03-03"), report(S.EXTENDED, "2026-03-04"), report(S.SPECIAL, "2026-03-05"),
        report(S.ACCEPTED, "2026-03-06", RESUMED),
    )  # fmt: skip
    assert [each.resumes for each in steps] == [False, False, False, True]


def test_an_acknowledgement_after_a_notice_says_that_the_supplements_are_in() -> None:
    steps = read(
        report(S.RECEIVED, "2026-03-03"), report(S.SUPPLEMENT_NOTICE, "2026-03-04"), report(S.RECEIVED, "2026-03-05")
    )  # fmt: skip
    assert [each.state for each in steps] == [S.RECEIVED, S.SUPPLEMENT_NOTICE, S.SUPPLEMENTED]


def test_what_a_region_says_of_limits_is_read() -> None:
    said = {"due_on": "2026-04-01", "limit": {"days": 7, "unit": "Z"}, "materials": [{"code": "A"}, {"code": "B"}]}
    [each] = read(report(S.SUPPLEMENT_NOTICE, "2026-03-03"), SUPPLEMENT_NOTICE=said)
    assert (each.due_on, each.limit, each.materials) == (date(2026, 4, 1), Limit(7, Unit.CALENDAR), ("A", "B"))


@pytest.mark.parametrize(
    "said",
    [
        {"due_on": "9999-12-31"},
        {"due_on": "0001-01-01"},
        {"due_on": "tomorrow"},
        {"due_on": 20260401},
        {"limit": {"days": 10**12, "unit": "G"}},
        {"limit": {"days": -1, "unit": "G"}},
        {"limit": {"days": 5, "unit": "W"}},
        {"limit": "five days"},
    ],
)
def test_a_limit_that_nobody_can_believe_is_none(said: Mapping[str, Any]) -> None:
    """9999-12-31 is how many systems write "none"; no number of days may keep the gateway counting."""
    [each] = read(report(S.EXTENDED, "2026-03-03"), EXTENDED=said)
    assert (each.due_on, each.limit) == (None, None)


def test_no_clock_begins_before_its_case() -> None:
    """A region's clock may be anything, the year 1 included."""
    old = Report(S.ACCEPTED, "foshan", datetime(1, 1, 1, tzinfo=UTC), "x")
    [each] = steps_of(stand([old]), BEGUN, lambda _key: {})
    assert each.at == BEGUN


# --- laws ----------------------------------------------------------------------------------------------------------

MOVES = st.lists(
    st.tuples(
        st.sampled_from(sorted(set(S) - {S.DRAFT, S.COLLECTED})),
        st.integers(0, 400_000),
        st.sampled_from(["", RESUMED]),
    ),
    max_size=12,
)
TABLES = st.sampled_from(list(CALENDARS.by_zone.values()))


def reports_of(moves: list[tuple[State, int, str]]) -> list[Report]:
    return [
        Report(S.ACCEPTED if word else state, "foshan", BEGUN + timedelta(minutes=minutes), f"{n}", word)
        for n, (state, minutes, word) in enumerate(moves)
    ]


@given(MOVES, TABLES, st.sampled_from(list(Unit)), st.integers(0, 400))
def test_whatever_is_said_every_clock_makes_sense(
    moves: list[tuple[State, int, str]], days: WorkingDays, unit: Unit, later: int
) -> None:
    now = BEGUN + timedelta(days=later)
    standing = stand(reports_of(moves))
    steps = steps_of(standing, BEGUN, lambda _key: {})
    if steps:  # clocks and case must not read the same report differently
        last = steps[-1]
        assert standing.state in ({S.ACCEPTED, S.ACCEPTED_TOLERANT, S.EXTENDED} if last.resumes else {last.state})
    for clock in clocks_of(steps, begun_at=BEGUN, limits=Limits(3, 9, unit), days=days, now=now):
        if clock.due_on is not None:
            assert local_day(clock.started_at) <= clock.due_on
            assert clock.soon_on is None or local_day(clock.started_at) < clock.soon_on <= clock.due_on
            assert unit is Unit.CALENDAR or days.is_working_day(clock.due_on)
        open_states = {ClockState.RUNNING, ClockState.STOPPED, ClockState.OVERDUE}
        assert clock.ended_at is not None or clock.state in open_states
        assert clock.state is not ClockState.STOPPED or clock.due_on is None
    if standing.state in {S.COMPLETED, S.DELIVERED, S.WITHDRAWN, S.RETURNED, S.VOID, S.NOT_ACCEPTED}:
        ended = clocks_of(steps, begun_at=BEGUN, limits=Limits(3, 9, unit), days=days, now=now)
        assert [clock.name for clock in ended if clock.ended_at is None] == []


SAID = st.fixed_dictionaries(
    {},
    optional={
        "due_on": st.dates().map(str),
        "limit": st.fixed_dictionaries({"days": st.integers(-1, 4000), "unit": st.sampled_from("GZ")}),
        "materials": st.lists(st.fixed_dictionaries({"code": st.sampled_from("AB")})),
    },
)


@given(MOVES, st.lists(SAID, min_size=12, max_size=12), TABLES)
def test_no_limit_that_a_region_says_breaks_a_case(
    moves: list[tuple[State, int, str]], said: list[dict[str, Any]], days: WorkingDays
) -> None:
    """The clocks are written with the event: what they cannot bear would keep the event out."""
    steps = steps_of(stand(reports_of(moves)), BEGUN, lambda key: said[int(key)])
    limits = Limits(3, 9, Unit.WORKING, {"A": 2})
    for clock in clocks_of(steps, begun_at=BEGUN, limits=limits, days=days, now=BEGUN + timedelta(days=100)):
        assert (clock.due_at is None) == (clock.due_on is None)
        assert clock.soon_at is None or clock.due_at is not None


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4),
    TABLES,
    st.sampled_from(list(Unit)),
    st.integers(0, 300),
)
def test_the_days_that_count_are_the_days_of_the_limit_whatever_was_stopped(
    pauses: list[tuple[int, int]], days: WorkingDays, unit: Unit, first: int
) -> None:
    """Of the days up to the last one, those outside every special procedure are exactly the limit."""
    accepted = BEGUN + timedelta(days=first)
    steps, spans, when = [Step(S.ACCEPTED, accepted)], [], accepted
    for wait, length in pauses:
        opened = when + timedelta(days=wait)
        when = opened + timedelta(days=length)
        steps += [Step(S.SPECIAL, opened), Step(S.ACCEPTED, when, resumes=True)]
        spans.append((local_day(opened), local_day(when)))
    limit = 15
    found = clocks_of(steps, begun_at=BEGUN, limits=Limits(limit, 99, unit), days=days, now=when)
    due = next(clock.due_on for clock in found if clock.name is C.PROMISED)
    assert due is not None
    all_days = days.count(local_day(accepted), due, unit)
    stopped = sum(days.count(opened, min(closed, due), unit) for opened, closed in spans if opened <= due)
    # Who was stopped on the last day and goes on on a day off has the next working day.
    grace = unit is Unit.WORKING and not all(days.is_working_day(closed) for _, closed in spans)
    assert all_days - stopped in ({limit, limit + 1} if grace else {limit})
