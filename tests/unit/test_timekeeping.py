"""Clocks in the store, on both engines: kept with every step, told once, reckoned anew when the working days change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from gateway.calendars import load_calendars
from gateway.crypto.at_rest import Sealer
from gateway.domain.clocks import ClockName
from gateway.domain.identity import Assurance
from gateway.domain.item import Item, Office
from gateway.domain.region import Zone
from gateway.domain.submission import State
from gateway.domain.working_days import Calendars, WorkingDays
from gateway.sandbox.layout import SEED
from gateway.storage import Store
from gateway.storage.tables import case_clocks, submission_events, submissions
from gateway.submissions.events import EventLog
from gateway.submissions.story import open_detail, retold
from gateway.submissions.timekeeping import CaseClocks, ClockView, Timekeeper, clocks_shown, figures
from gateway.telemetry import Metrics
from tests.support.cases import REGION, add_case, number, said
from tests.support.clock import ManualClock

CALENDARS = load_calendars(SEED / "working-days.toml")
CODE = "11440600MBT406003B3442011899001"
ITEM = Item(CODE, {}, "", ("online",), Assurance.A0, (), (), (Office(REGION, "440600", 5, 20, "G"),))
HOUR = 3600.0


class House:
    """A store with cases, and the clocks of it. Time stands at ten on Monday, 2 March 2026."""

    def __init__(self, store: Store, sealer: Sealer, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.calendars = CALENDARS
        self.sealer = sealer
        self.clocks = CaseClocks({CODE: ITEM}, lambda: self.calendars)
        self.log = EventLog(sealer, followers=(self.clocks.keep,))
        self.metrics = Metrics(CollectorRegistry())
        self.case = number(1, clock())
        self.keeper = self.new_keeper()

    def new_keeper(self) -> Timekeeper:
        return Timekeeper(
            store=self.store, clocks=self.clocks, note=self.log.note, tell=partial(retold, self.sealer),
            clock=self.clock, metrics=self.metrics,
        )  # fmt: skip

    async def open(self, case: str | None = None, state: State = State.FORWARDED) -> None:
        """Write a case that was handed over just now."""
        now = self.clock()
        await self.store.write(lambda tx: add_case(tx, case or self.case, now, state=state))

    async def hear(self, state: str, **more: Any) -> None:
        event = said(self.case, f"{state} {self.clock()}", state, self.clock(), **more)
        await self.store.write(lambda tx: self.log.from_region(tx, REGION, event, self.clock()))

    async def shown(self) -> dict[str, ClockView]:
        found = await self.store.read(lambda tx: clocks_shown(tx, self.case, "440600"))
        return {view.name: view for view in found}

    async def facts(self) -> list[tuple[str, Mapping[str, Any]]]:
        c = submission_events.c
        query = select(c.submission_id, c.seq, c.kind, c.detail).where(c.kind != "step").order_by(c.recorded_at, c.seq)
        rows = await self.store.read(lambda tx: tx.execute(query).all())
        return [(row.kind, open_detail(self.sealer, row.submission_id, row.seq, row.detail)) for row in rows]

    def sleep_until(self, local: str) -> None:
        """Let time pass until a local time."""
        then = datetime.fromisoformat(local).astimezone(UTC)
        self.clock.advance((then - self.clock()).total_seconds())


@pytest.fixture
def house(store: Store, sealer: Sealer, clock: ManualClock, unblocked: None) -> House:
    return House(store, sealer, clock)


@pytest.fixture
def small_house(sqlite_store: Store, sealer: Sealer, clock: ManualClock, unblocked: None) -> House:
    return House(sqlite_store, sealer, clock)


# --- on both engines -----------------------------------------------------------------------------------------------


async def test_a_clock_is_told_when_it_is_due_soon_and_when_it_is_overdue_and_never_again(house: House) -> None:
    await house.open()
    await house.hear("ACCEPTED")
    assert await house.keeper.sweep() == []
    house.sleep_until("2026-03-05 00:00:00+08:00")  # two working days before Monday 9
    assert [told.told for told in await house.keeper.sweep()] == ["due_soon"]
    assert (await house.shown())["decision_promised"].due_soon
    assert await house.keeper.sweep() == []
    house.sleep_until("2026-03-09 23:59:59+08:00")
    assert await house.keeper.sweep() == []
    house.sleep_until("2026-03-10 00:00:00+08:00")
    assert [(told.name, told.told) for told in await house.keeper.sweep()] == [("decision_promised", "overdue")]
    assert await house.keeper.sweep() == []
    said_of_it = {"clock": "decision_promised", "due_on": "2026-03-09", "estimated": False}
    assert await house.facts() == [("clock.due_soon", said_of_it), ("clock.overdue", said_of_it)]
    shown = (await house.shown())["decision_promised"]
    assert (shown.state, shown.due_on) == ("overdue", date(2026, 3, 9))
    assert await house.store.read(figures) == {(REGION, "decision_promised", "overdue"): 1}


async def test_replicas_that_look_at_once_tell_each_clock_once(house: House) -> None:
    cases = [number(sequence, house.clock()) for sequence in range(1, 131)]  # more than one transaction takes
    for case in cases:
        await house.open(case)
        event = said(case, case, "ACCEPTED", house.clock())
        await house.store.write(partial(house.log.from_region, region=REGION, event=event, now=house.clock()))
    house.clock.advance(10 * 24 * HOUR)
    told = await asyncio.gather(*(house.new_keeper().sweep() for _ in range(3)))
    assert sorted(each.submission_id for batch in told for each in batch) == sorted(cases)
    assert [kind for kind, _ in await house.facts()] == ["clock.overdue"] * len(cases)


async def test_new_working_days_reckon_every_open_case_anew_and_no_ended_one(house: House) -> None:
    """Friday 6 March becomes a day off, and what was promised moves by a day; what was told of the old one is over."""
    ended = number(2, house.clock())
    await house.open()
    await house.open(ended, State.RETURNED)
    await house.hear("ACCEPTED")
    house.sleep_until("2026-03-05 09:00:00+08:00")
    await house.keeper.turn()
    assert (await house.shown())["decision_promised"].due_soon
    house.calendars = with_day_off(date(2026, 3, 6))
    assert await house.keeper.reckon_anew() == 1
    shown = (await house.shown())["decision_promised"]
    assert (shown.due_on, shown.due_soon) == (date(2026, 3, 10), False)
    assert await house.keeper.reckon_anew() == 0  # once
    c = case_clocks.c
    rows = await house.store.read(lambda tx: tx.execute(select(c.submission_id, c.calendar).distinct()).all())
    assert [tuple(row) for row in rows] == [(house.case, "other")]


def with_day_off(day: date) -> Calendars:
    mainland = CALENDARS.by_zone[Zone.MAINLAND]
    changed: WorkingDays = replace(mainland, off=mainland.off | {day})
    return Calendars("other", {**CALENDARS.by_zone, Zone.MAINLAND: changed})


# --- on one engine -------------------------------------------------------------------------------------------------


async def test_a_case_from_before_there_were_clocks_gets_them_at_the_next_start(small_house: House) -> None:
    await small_house.open()
    assert await small_house.shown() == {}
    await small_house.keeper.turn()
    assert list(await small_house.shown()) == ["collection", "acceptance"]


async def test_silence_is_told_with_the_rule_of_the_mainland(small_house: House) -> None:
    await small_house.open()
    await small_house.hear("RECEIVED")
    small_house.clock.advance(10 * 24 * HOUR)
    await small_house.keeper.sweep()
    [(kind, detail)] = await small_house.facts()
    assert (kind, detail["clock"], detail["remark"]) == ("clock.overdue", "acceptance", "silence_counts_as_acceptance")
    assert (await small_house.shown())["acceptance"].remark == "silence_counts_as_acceptance"
    [elsewhere] = [
        view
        for view in await small_house.store.read(lambda tx: clocks_shown(tx, small_house.case, "810000"))
        if view.name == ClockName.ACCEPTANCE
    ]
    assert elsewhere.remark is None


async def test_what_a_step_has_moved_is_told_anew(small_house: House) -> None:
    await small_house.open()
    await small_house.hear("ACCEPTED")
    small_house.clock.advance(9 * 24 * HOUR)
    await small_house.keeper.sweep()
    await small_house.hear("EXTENDED", due_on="2026-03-16")
    assert (await small_house.shown())["decision_promised"].state == "running"
    assert await small_house.store.read(figures) == {}
    small_house.sleep_until("2026-03-17 00:00:00+08:00")
    await small_house.keeper.sweep()
    assert [(kind, detail["due_on"]) for kind, detail in await small_house.facts()] == [
        ("clock.overdue", "2026-03-09"), ("clock.overdue", "2026-03-16"), ("clock.overdue", "2026-03-16"),
    ]  # fmt: skip


async def test_a_step_that_comes_too_late_to_matter_takes_the_clocks_back_that_it_disproves(small_house: House) -> None:
    """The refusal happened before the acceptance that was believed; what cannot be started no clock."""
    await small_house.open()
    small_house.clock.advance(2 * HOUR)
    await small_house.hear("ACCEPTED")
    assert "decision_promised" in await small_house.shown()
    earlier = said(small_house.case, "earlier", "NOT_ACCEPTED", small_house.clock() - timedelta(hours=1))
    await small_house.store.write(lambda tx: small_house.log.from_region(tx, REGION, earlier, small_house.clock()))
    assert {view.name: view.state for view in (await small_house.shown()).values()} == {
        "collection": "met", "acceptance": "met",
    }  # fmt: skip


async def test_a_case_that_has_ended_is_never_looked_at_again(small_house: House) -> None:
    """Both indexes hold open clocks only, so a million ended cases cost a sweep nothing."""
    await small_house.open()
    await small_house.hear("ACCEPTED")
    await small_house.hear("WITHDRAWN")
    c = case_clocks.c
    rows = await small_house.store.read(lambda tx: tx.execute(select(c.wake_at, c.ended_at)).all())
    assert [row.wake_at for row in rows] == [None] * len(rows)
    assert None not in [row.ended_at for row in rows]
    plans = await small_house.store.read(lambda tx: [plan(tx, text) for text in SWEEPS])
    assert [
        name
        for text, name in zip(plans, ("ix_case_clocks_wake", "ix_case_clocks_told"), strict=True)
        if name not in text
    ] == []


SWEEPS = (
    "SELECT s.id FROM submissions s JOIN case_clocks c ON c.submission_id = s.id WHERE c.wake_at <= 5 "
    "ORDER BY c.wake_at LIMIT 100",
    "SELECT region, name, told, count(*) FROM case_clocks WHERE ended_at IS NULL AND told <> 'none' "
    "GROUP BY region, name, told",
)


def plan(tx: Any, text: str) -> str:
    return " ".join(str(row) for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))


async def test_the_figure_of_working_days_counts_down(small_house: House) -> None:
    await small_house.keeper.turn()
    left = small_house.metrics.registry.get_sample_value("pearl_working_days_known", {"territory": "mainland"})
    assert left == (date(2026, 12, 31) - date(2026, 3, 2)).days


async def test_what_was_promised_at_the_acceptance_holds_whatever_the_catalogue_says_later(small_house: House) -> None:
    """The applicant was given a day."""
    await small_house.open()
    await small_house.hear("ACCEPTED")
    small_house.clocks = replace(small_house.clocks, items={})
    small_house.log.followers = (small_house.clocks.keep,)
    await small_house.hear("SPECIAL")
    small_house.clock.advance(24 * HOUR)
    await small_house.hear("RESUMED")
    shown = (await small_house.shown())["decision_promised"]
    assert (shown.due_on, shown.limit) == (date(2026, 3, 10), {"days": 5, "unit": "G"})


async def test_a_case_whose_item_has_gone_is_kept_without_a_limit(small_house: House) -> None:
    await small_house.open()
    await small_house.store.write(lambda tx: tx.execute(submissions.update().values(item_code="gone")))
    await small_house.hear("ACCEPTED")
    shown = (await small_house.shown())["decision_promised"]
    assert (shown.state, shown.due_on) == ("running", None)
