"""Keeping the clocks of cases: written with every step, told once when they are due, counted for operators.

Owns: the rows of `case_clocks`. `CaseClocks.keep` follows the event log and writes them in the transaction that
recorded a step. `Timekeeper` finds clocks that are due soon or overdue and notes each once as an event of its case;
one statement claims them, so any number of replicas may look at once. When the working days change, it reckons the
open cases anew. Leaves to `gateway.domain.clocks`: which clock runs until when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, partial
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection, Update, and_, bindparam, case, delete, func, null, select, update

from gateway.calendars import ending
from gateway.domain.calendar import local_day
from gateway.domain.clocks import Clock, ClockName, ClockState, Limits, clocks_of, limits_of, steps_of
from gateway.domain.item import Item
from gateway.domain.joint import MODE as JOINT
from gateway.domain.region import Zone, place_of
from gateway.domain.submission import Standing
from gateway.domain.working_days import Calendars, Unit
from gateway.errors import GatewayError
from gateway.ports import Clock as Now
from gateway.storage import Store
from gateway.storage.store import INSERTS
from gateway.storage.tables import OPEN_AND_TOLD, OPEN_CASE, case_clocks, submissions
from gateway.telemetry import Metrics
from gateway.waiting import wait

log = structlog.get_logger("timekeeping")

SWEEP_SECONDS = 60.0
_BATCH = 100
"""Cases in one transaction of a sweep: no request waits behind more."""
_NONE, DUE_SOON, OVERDUE = "none", "due_soon", "overdue"
SILENCE = "silence_counts_as_acceptance"
"""The remark with an acceptance that is overdue on the mainland: 行政许可法 32. We tell it and declare nothing."""


class Story(Protocol):
    """What is known of a case inside the transaction that recorded a step of it."""

    @property
    def case(self) -> Mapping[str, Any]:
        """Its row before the step: id, item_code, handling_region, handling_code, created_at, last_seq."""
        ...

    @property
    def standing(self) -> Standing:
        """Where it stands, and by which steps."""
        ...

    def detail(self, key: str) -> Mapping[str, Any]:
        """Return what the report of this key said, in the canonical words."""
        ...


Note = Callable[[Connection, str, str, datetime, Mapping[str, Any]], object]
"""Writes a fact about a case that moves no state: case, kind (`clock.due_soon`, `clock.overdue`), when, detail."""
Tell = Callable[[Connection, str], Story | None]
"""Reads a case under its lock; None when it is not there."""


@dataclass(frozen=True, slots=True)
class CaseClocks:
    """Writes the clocks of a case. `calendars` gives the working days as they are now."""

    items: Mapping[str, Item]
    calendars: Callable[[], Calendars]

    def keep(self, tx: Connection, story: Story, now: datetime) -> None:
        """Write the clocks as the story makes them; a follower of the event log.

        A case that several offices handle has none of its own: its parts have. Nor has a part that must wait.
        """
        if story.case.get("mode") == JOINT or _waits(story.case):
            return
        calendars = self.calendars()
        begins = story.case["last_seq"] == 0  # this is the first step of a case that was just written
        held = {} if begins else {row["name"]: row for row in _rows(tx, str(story.case["id"]))}
        clocks = self._of(story, held, now)
        rows = {clock.name: _row(story, clock, calendars.version, held.get(clock.name)) for clock in clocks}
        gone = held.keys() - rows.keys()
        if gone:  # what came late has shown that they never began
            c = case_clocks.c
            tx.execute(delete(case_clocks).where(c.submission_id == story.case["id"], c.name.in_(gone)))
        changed = [row for name, row in rows.items() if row != held.get(name)]
        if changed:
            tx.execute(_upsert(tx.dialect.name), changed)

    def _of(self, story: Story, held: Mapping[str, Mapping[str, Any]], now: datetime) -> list[Clock]:
        row = story.case
        begun_at = row.get("released_at") or row["created_at"]
        limits = limits_of(self.items.get(row["item_code"]), row["handling_region"])
        return clocks_of(
            steps_of(story.standing, begun_at, story.detail),
            begun_at=begun_at,
            limits=_as_promised(limits, held),
            days=self.calendars().of(row["handling_code"]),
            now=now,
        )


def _waits(case: Mapping[str, Any]) -> bool:
    return bool(case.get("parent_id")) and case.get("released_at") is None


def _as_promised(limits: Limits | None, held: Mapping[str, Mapping[str, Any]]) -> Limits | None:
    """Return the limits with those of a decision whose clocks run already: the catalogue may say others by now."""
    rows = [held.get(name, {}) for name in (ClockName.PROMISED, ClockName.STATUTORY)]
    if any(row.get("limit_days") is None for row in rows):
        return limits
    promised, statutory = rows
    tolerance = {} if limits is None else limits.tolerance
    return Limits(promised["limit_days"], statutory["limit_days"], Unit(promised["limit_unit"]), tolerance)


_OF_CASE = select(case_clocks).where(case_clocks.c.submission_id == bindparam("case"))
"""Built once: every step of every case runs it."""


def _rows(tx: Connection, submission_id: str) -> list[dict[str, Any]]:
    found = tx.execute(_OF_CASE, {"case": submission_id}).mappings()
    return [{str(name): value for name, value in row.items()} for row in found]


def _row(story: Story, clock: Clock, version: str, held: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a clock's row. What was told of a day that has moved since is to be told of the new one."""
    told = held["told"] if held is not None and held["due_at"] == clock.due_at else _NONE
    return {
        "submission_id": story.case["id"],
        "name": str(clock.name),
        "region": story.case["handling_region"],
        "state": str(clock.state),
        "started_at": clock.started_at,
        "due_at": clock.due_at,
        "soon_at": clock.soon_at,
        "ended_at": clock.ended_at,
        "told": told,
        "wake_at": _wake_at(clock, told),
        "estimated": clock.estimated,
        "limit_days": None if clock.limit is None else clock.limit.days,
        "limit_unit": None if clock.limit is None else str(clock.limit.unit),
        "calendar": version,
    }


def _wake_at(clock: Clock, told: str) -> datetime | None:
    if clock.ended_at is not None or told == OVERDUE:
        return None
    return clock.due_at if told == DUE_SOON else clock.soon_at or clock.due_at


@cache
def _upsert(dialect: str) -> Any:
    """Return the statement that writes clocks, new or not, in this dialect; built once."""
    insert = INSERTS[dialect](case_clocks)
    keys = ("submission_id", "name")
    written = {column.name: insert.excluded[column.name] for column in case_clocks.c if column.name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=written)


# --- what is shown -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClockView:
    """A clock as whoever follows the case sees it.

    `due_on` is the last local day; `limit` the days and their unit that it began with; `remark` a word of docs/api.md.
    """

    name: str
    state: str
    started_at: datetime
    due_on: date | None
    due_soon: bool
    ended_at: datetime | None
    estimated: bool
    remark: str | None
    limit: Mapping[str, Any] | None


def clocks_shown(tx: Connection, submission_id: str, handling_code: str) -> list[ClockView]:
    """Return the clocks of a case as they were last written or told, in the order of `ClockName`."""
    order = [str(name) for name in ClockName]
    rows = sorted(_rows(tx, submission_id), key=lambda row: order.index(row["name"]))
    return [_shown(row, handling_code) for row in rows]


def _shown(row: Mapping[str, Any], handling_code: str) -> ClockView:
    running = row["state"] == ClockState.RUNNING
    overdue = row["state"] == ClockState.OVERDUE and row["ended_at"] is None
    return ClockView(
        name=row["name"],
        state=row["state"],
        started_at=row["started_at"],
        due_on=_last_day(row["due_at"]),
        due_soon=running and row["told"] == DUE_SOON,
        ended_at=row["ended_at"],
        estimated=row["estimated"],
        remark=_remark(row["name"], handling_code) if overdue else None,
        limit=None if row["limit_days"] is None else {"days": row["limit_days"], "unit": row["limit_unit"]},
    )


def _last_day(due_at: datetime | None) -> date | None:
    return None if due_at is None else local_day(due_at - timedelta(microseconds=1))


def _remark(name: str, handling_code: str) -> str | None:
    silent = name == ClockName.ACCEPTANCE and place_of(handling_code).zone is Zone.MAINLAND
    return SILENCE if silent else None


Figures = Mapping[tuple[str, str, str], int]
"""Region, clock, `due_soon` or `overdue` → how many cases."""


def figures(tx: Connection) -> Figures:
    """Return how many clocks of open cases are due soon or overdue. Costs what there is of them, not of cases."""
    c = case_clocks.c
    query = select(c.region, c.name, c.told, func.count()).where(OPEN_AND_TOLD).group_by(c.region, c.name, c.told)
    return {(region, name, told): count for region, name, told, count in tx.execute(query)}


def due(tx: Connection, *, region: str | None, limit: int) -> list[dict[str, str]]:
    """Return the clocks that are overdue or due soon, the longest overdue first: ids, words and days, no person."""
    c = case_clocks.c
    query = select(c.submission_id, c.region, c.name, c.told, c.due_at).where(OPEN_AND_TOLD)
    mine = query if region is None else query.where(c.region == region)
    return [
        {"case": row.submission_id, "region": row.region, "clock": row.name, "state": row.told,
         "due_on": str(_last_day(row.due_at))}
        for row in tx.execute(mine.order_by(c.due_at, c.submission_id).limit(limit))
    ]  # fmt: skip


# --- telling -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """A clock that was told of."""

    submission_id: str
    region: str
    name: str
    told: str


class Timekeeper:
    """Tells of clocks that are due, and reckons open cases anew when the working days have changed."""

    def __init__(
        self, *, store: Store, clocks: CaseClocks, note: Note, tell: Tell, clock: Now, metrics: Metrics
    ) -> None:
        self._store = store
        self._clocks = clocks
        self._note = note
        self._tell = tell
        self._clock = clock
        self._metrics = metrics
        self._reckoned = ""
        self._warned: date | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Look again and again until `stopping`."""
        while not stopping.is_set():
            try:
                await self.turn()
            except GatewayError as error:
                log.warning("clocks not looked at", code=error.stable_code, detail=error.detail)
            await wait(stopping, SWEEP_SECONDS)

    async def turn(self) -> None:
        """Do once what there is to do."""
        self._look_ahead()
        await self.reckon_anew()
        await self.sweep()

    # --- clocks that are due -------------------------------------------------------------------------------------

    async def sweep(self) -> list[Told]:
        """Note every clock that is due soon or overdue and was not told of yet. Return them."""
        told: list[Told] = []
        while True:
            batch = await self._store.write(partial(self._sweep, now=self._clock()))
            told += batch
            for each in batch:
                log.info("clock", case=each.submission_id, region=each.region, clock=each.name, told=each.told)
            if not batch:
                return told

    def _sweep(self, tx: Connection, now: datetime) -> list[Told]:
        rows = [dict(row) for row in tx.execute(_claim(now)).mappings()]
        codes = _codes(tx, {row["submission_id"] for row in rows})
        for row in sorted(rows, key=lambda row: (row["submission_id"], row["name"])):
            detail = _detail(row, codes[row["submission_id"]])
            self._note(tx, row["submission_id"], f"clock.{row['told']}", now, detail)
        return [Told(row["submission_id"], row["region"], row["name"], row["told"]) for row in rows]

    # --- working days that have changed --------------------------------------------------------------------------

    async def reckon_anew(self) -> int:
        """Reckon every open case with the working days as they are now, once after each change and each start.

        This also gives clocks to cases from before there were any. Return how many cases that were.
        """
        version = self._clocks.calendars().version
        if version == self._reckoned:
            return 0
        stale = await self._store.read(partial(_reckoned_otherwise, version=version))
        for batch in _batches(stale):
            await self._store.write(partial(self._reckon, submission_ids=batch))
        self._reckoned = version
        if stale:
            log.info("clocks reckoned anew", cases=len(stale), version=version)
        return len(stale)

    def _reckon(self, tx: Connection, submission_ids: Sequence[str]) -> None:
        for submission_id in submission_ids:
            story = self._tell(tx, submission_id)
            if story is not None:
                self._clocks.keep(tx, story, self._clock())

    def _look_ahead(self) -> None:
        """Show how long the working days are known for; say so once a day when that is not long."""
        today = local_day(self._clock())
        calendars = self._clocks.calendars()
        for zone, left in calendars.days_left(today):
            self._metrics.working_days_known(zone, left)
        if self._warned != today:
            self._warned = today
            for sentence in ending(calendars, today):
                log.warning("working days end", what=sentence)


def _reckoned_otherwise(tx: Connection, version: str) -> list[str]:
    """Return the open cases without a clock that was reckoned with this version, in the order in which to lock them."""
    c = case_clocks.c
    reckoned = select(c.name).where(c.submission_id == submissions.c.id, c.calendar == version)
    return sorted(tx.execute(select(submissions.c.id).where(OPEN_CASE, ~reckoned.exists())).scalars())


def _claim(now: datetime) -> Update:
    """Return the one statement that takes what is to be told, for one replica alone.

    It locks the cases before their clocks, as every step of a case does, and leaves those alone that somebody holds.
    """
    c = case_clocks.c
    due = select(submissions.c.id).join(case_clocks, c.submission_id == submissions.c.id).where(c.wake_at <= now)
    taken = due.order_by(c.wake_at).limit(_BATCH).with_for_update(of=submissions, skip_locked=True).cte("taken")
    over = c.due_at <= now
    values = {
        "told": case((over, OVERDUE), else_=DUE_SOON),
        "state": case((over, str(ClockState.OVERDUE)), else_=c.state),
        "wake_at": case((over, null()), else_=c.due_at),
    }
    mine = and_(c.submission_id.in_(select(taken.c.id)), c.wake_at <= now)
    return (
        update(case_clocks)
        .where(mine)
        .values(values)
        .returning(c.submission_id, c.region, c.name, c.told, c.due_at, c.estimated)
    )


def _codes(tx: Connection, submission_ids: set[str]) -> dict[str, str]:
    c = submissions.c
    query = select(c.id, c.handling_code).where(c.id.in_(submission_ids))
    return {row.id: row.handling_code for row in tx.execute(query)} if submission_ids else {}


def _detail(row: Mapping[str, Any], handling_code: str) -> dict[str, Any]:
    """Return what the event says: which clock, its last day, and what is to be remarked."""
    last = _last_day(row["due_at"])
    detail = {"clock": row["name"], "due_on": last.isoformat() if last else None, "estimated": row["estimated"]}
    remark = _remark(row["name"], handling_code) if row["told"] == OVERDUE else None
    return {**detail, "remark": remark} if remark else detail


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + _BATCH] for at in range(0, len(ids), _BATCH))
