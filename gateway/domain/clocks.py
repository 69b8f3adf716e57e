"""The clocks of a case (办件时限): what must be done until when, by what was said of it. Pure, no I/O.

Owns: which step starts, stops, moves and ends which clock, and when each is due. Leaves to `gateway.submissions`:
keeping them, and telling of one that is due. A clock that is overdue is told, never acted upon: that silence counts as
acceptance (行政许可法 32) is for the law and the handling region to say, not for a gateway.

The clocks depend on the *set* of steps alone, as the state of a case does. Days are those of the handling region. A
limit ends with the last minute of its last local day, and the day on which it begins is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any

from gateway.domain.calendar import LOCAL, local_day
from gateway.domain.item import Item
from gateway.domain.submission import RESUME, Standing, State
from gateway.domain.working_days import Unit, WorkingDays

COLLECTION_DAYS = 1  # 代收: handed over on the next working day at the latest
ACCEPTANCE_DAYS = 5  # 行政许可法 32
EXTENSION_DAYS = 10  # 行政许可法 42
DELIVERY_DAYS = 10  # 行政许可法 44
_LONGEST_DAYS = 3660
_FARTHEST_YEARS = 20
"""Limits and days beyond these are no limits (9999-12-31 says "none" in many systems), or mistakes."""
_WARNINGS = (2, 1)
"""How many working days before it is due a clock is "due soon": two, or one where the limit is shorter."""


class ClockName(StrEnum):
    """Which clock. Each runs once in a case, or begins anew with the step that restarts it."""

    COLLECTION = "collection"  # 收件转送: ours, to hand the case over
    ACCEPTANCE = "acceptance"  # 受理: the authority's, to accept, refuse or ask for supplements
    SUPPLEMENT = "supplement"  # 补正: the applicant's
    PROMISED = "decision_promised"  # 承诺办结时限
    STATUTORY = "decision_statutory"  # 法定办结时限
    TOLERANCE = "tolerance"  # 容缺补交: the applicant's
    DELIVERY = "delivery"  # 颁发送达: the authority's, after the decision


class ClockState(StrEnum):
    """Where a clock is. An overdue one that has ended was never met."""

    RUNNING = "running"
    STOPPED = "stopped"
    MET = "met"
    LATE = "late"  # met after it was due
    OVERDUE = "overdue"
    VOID = "void"  # it no longer matters


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an item at the place that handles it. `tolerance`: material → working days after acceptance.

    A deferrable material that is not listed there is due before the decision.
    """

    promised_days: int
    statutory_days: int
    unit: Unit
    tolerance: Mapping[str, int] = field(default_factory=dict)


def limits_of(item: Item | None, region: str) -> Limits | None:
    """Return the limits that the catalogue sets for an item in a region; None when it no longer says any."""
    office = None if item is None else item.office(region)
    if item is None or office is None:
        return None
    tolerance = {rule.code: rule.due_rule for rule in item.materials if isinstance(rule.due_rule, int)}
    return Limits(office.promised_days, office.statutory_days, Unit(office.limit_unit), tolerance)


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of days and their unit, as an event sets them."""

    days: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a case as clocks see it: where it led, when, and which limit it set. `materials` may follow later."""

    state: State
    at: datetime
    resumes: bool = False
    due_on: date | None = None
    limit: Limit | None = None
    materials: tuple[str, ...] = ()

    @property
    def day(self) -> date:
        """The local day on which it happened."""
        return local_day(self.at)


@dataclass(frozen=True, slots=True)
class Clock:
    """One clock of a case at one moment. Days are local; `due_on` is None while it is stopped or nobody set a day.

    `soon_on` is None, too, when it is due on the day on which it began. `estimated`: the working days up to `due_on`
    are not all known yet. `ended_at` is when it stopped mattering. `limit` is what it began with.
    """

    name: ClockName
    state: ClockState
    started_at: datetime
    due_on: date | None
    soon_on: date | None
    ended_at: datetime | None
    estimated: bool
    limit: Limit | None = None

    @property
    def due_at(self) -> datetime | None:
        """The end of the day on which it is due: from then on it is overdue."""
        return None if self.due_on is None else day_begins(self.due_on + timedelta(days=1))

    @property
    def soon_at(self) -> datetime | None:
        """The beginning of the day from which it is due soon."""
        return None if self.soon_on is None else day_begins(self.soon_on)


def day_begins(day: date) -> datetime:
    """Return the first moment of a local day, in UTC."""
    return datetime.combine(day, time(), LOCAL).astimezone(UTC)


# --- what was said -------------------------------------------------------------------------------------------------

_TELLING = frozenset({State.SUPPLEMENT_NOTICE, State.ACCEPTED, State.ACCEPTED_TOLERANT, State.EXTENDED})
"""States whose reports may set a limit to something that has a clock here."""
_ANSWERED = {(State.SUPPLEMENT_NOTICE, State.RECEIVED): State.SUPPLEMENTED}
"""Some regions have no other word for it; see `gateway.domain.submission`."""


def steps_of(standing: Standing, begun_at: datetime, detail: Callable[[str], Mapping[str, Any]]) -> list[Step]:
    """Return the steps of a case that was collected at `begun_at`: no limit begins before, whatever a region says.

    `detail` gives what the report of a key said in the canonical words (mappings/vocabulary.toml, [event]).
    """
    steps: list[Step] = []
    now = State.COLLECTED
    for report in standing.steps:
        resumes = report.state in RESUME.get(now, ())
        said = detail(report.key) if report.state in _TELLING else {}
        now = _ANSWERED.get((now, report.state), report.state)
        steps.append(_step(now, max(report.at, begun_at), said, resumes=resumes))
    return steps


def _step(state: State, at: datetime, said: Mapping[str, Any], *, resumes: bool) -> Step:
    return Step(
        state=state,
        at=at,
        resumes=resumes,
        due_on=_believable_day(said.get("due_on"), local_day(at)),
        limit=_believable_limit(said.get("limit")),
        materials=tuple(str(material.get("code", "")) for material in said.get("materials") or ()),
    )


def _believable_day(text: object, near: date) -> date | None:
    if not isinstance(text, str):
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if abs(day.year - near.year) <= _FARTHEST_YEARS else None


def _believable_limit(said: object) -> Limit | None:
    if not isinstance(said, Mapping):
        return None
    days, unit = said.get("days"), said.get("unit")
    if not isinstance(days, int) or not 0 <= days <= _LONGEST_DAYS or unit not in set(Unit):
        return None
    return Limit(days, Unit(str(unit)))


# --- the clocks ----------------------------------------------------------------------------------------------------


def clocks_of(
    steps: Iterable[Step], *, begun_at: datetime, limits: Limits | None, days: WorkingDays, now: datetime
) -> list[Clock]:
    """Return the clocks of a case that was collected at `begun_at`, in the order in which they began."""
    desk = _Desk(limits, days, begun_at)
    for step in steps:
        desk.take(step)
    return desk.clocks(local_day(now))


@dataclass(slots=True)
class _Timer:
    """A clock while the steps are walked through. `due` stays what it was while the timer is stopped."""

    started_at: datetime
    due: date | None
    limit: Limit | None = None
    reckoned: bool = False  # with working days that are counted here
    stopped_on: date | None = None
    ended_at: datetime | None = None
    end: ClockState | None = None

    @property
    def open(self) -> bool:
        return self.ended_at is None

    @property
    def unit(self) -> Unit:
        return Unit.WORKING if self.limit is None else self.limit.unit


_C, _S = ClockName, State
_HEARD = (_C.COLLECTION, _C.SUPPLEMENT, _C.ACCEPTANCE)
_DECISION = (_C.PROMISED, _C.STATUTORY)
_RULED = (*_HEARD, *_DECISION, _C.TOLERANCE)
_MEETS: Mapping[State, tuple[ClockName, ...]] = {
    _S.FORWARDED: (_C.COLLECTION,),
    _S.RECEIVED: (_C.COLLECTION,),
    _S.SUPPLEMENT_NOTICE: (_C.COLLECTION,),
    _S.SUPPLEMENTED: (_C.COLLECTION, _C.SUPPLEMENT),
    _S.SUPPLEMENT_EXPIRED: (_C.COLLECTION,),
    _S.ACCEPTED: (*_HEARD, _C.TOLERANCE),
    _S.DECIDED: _RULED,
    _S.COMPLETED: (*_RULED, _C.DELIVERY),
    _S.DELIVERED: (*_RULED, _C.DELIVERY),
    **dict.fromkeys(
        (_S.ACCEPTED_TOLERANT, _S.NOT_ACCEPTED, _S.NOT_WITHIN_POWER, _S.SPECIAL, _S.EXTENDED, _S.TOLERANCE_BREACHED),
        _HEARD,
    ),
}
"""State → the clocks that are met by reaching it, whatever was left out on the way."""


class _Desk:
    """Walks through the steps of one case."""

    def __init__(self, limits: Limits | None, days: WorkingDays, begun_at: datetime) -> None:
        self._limits = limits
        self._days = days
        self._timers: dict[ClockName, _Timer] = {}
        self._tolerance_follows = False  # the decision, rather than a day of its own
        self._begin(_C.COLLECTION, begun_at, Limit(COLLECTION_DAYS, Unit.WORKING))

    def take(self, step: Step) -> None:
        """Let one step start, stop, move and end what it does."""
        if step.resumes:
            self._resume(step)
            return
        if step.state is _S.COMPLETED and self._is_open(_C.SUPPLEMENT):
            self._void(step, _C.SUPPLEMENT, _C.ACCEPTANCE)  # nobody said that the supplements came
        self._end(step, ClockState.MET, *_MEETS.get(step.state, ()))
        then = _THEN.get(step.state)
        if then is not None:
            then(self, step)

    # --- one function for each kind of step ----------------------------------------------------------------------

    def _collected(self, step: Step) -> None:
        self._begin(_C.COLLECTION, step.at, Limit(COLLECTION_DAYS, Unit.WORKING))

    def _handed_over(self, step: Step) -> None:
        self._begin(_C.ACCEPTANCE, step.at, Limit(ACCEPTANCE_DAYS, Unit.WORKING))

    def _noticed(self, step: Step) -> None:
        """The authority has said what is missing: it is the applicant's turn."""
        acceptance = self._timers.get(_C.ACCEPTANCE)
        if acceptance is not None and acceptance.open:
            acceptance.stopped_on = step.day
        self._begin(_C.SUPPLEMENT, step.at, step.limit, step.due_on)

    def _expired(self, step: Step) -> None:
        self._end(step, ClockState.OVERDUE, _C.SUPPLEMENT)
        self._void(step, _C.ACCEPTANCE)

    def _accepted(self, step: Step) -> None:
        self._begin_decision(step)
        promised = self._timers.get(_C.PROMISED)
        if step.due_on is not None and promised is not None:
            promised.due, promised.reckoned = step.due_on, False

    def _accepted_tolerant(self, step: Step) -> None:
        self._begin_decision(step)
        known = {} if self._limits is None else self._limits.tolerance
        named = step.materials or tuple(known)
        shortest = min((known[code] for code in named if code in known), default=None)
        limit = None if shortest is None else Limit(shortest, Unit.WORKING)
        self._tolerance_follows = limit is None and step.due_on is None
        self._begin(_C.TOLERANCE, step.at, limit, step.due_on)

    def _breached(self, step: Step) -> None:
        self._end(step, ClockState.OVERDUE, _C.TOLERANCE)
        self._void(step, *_DECISION)

    def _special(self, step: Step) -> None:
        """Hearings, tests and expert reviews are not counted (行政许可法 45); what was overdue before stays so."""
        self._begin_decision(step)
        for timer in self._decision():
            if timer.due is None or step.day <= timer.due:
                timer.stopped_on = step.day

    def _resume(self, step: Step) -> None:
        for timer in self._decision():
            if timer.stopped_on is not None:
                self._run_on(timer, timer.stopped_on, step.day)
                timer.stopped_on = None
        promised = self._timers.get(_C.PROMISED)
        if step.due_on is not None and promised is not None:
            promised.due, promised.reckoned = step.due_on, False

    def _run_on(self, timer: _Timer, stopped: date, resumed: date) -> None:
        """Move the last day by the days that were not counted: those after the stop, up to the resumption."""
        if timer.due is None:
            return
        away = self._days.count(stopped, resumed, timer.unit)
        moved = self._days.add(timer.due, away, timer.unit)
        # Who was stopped on the last day has that day left, and a day off is none.
        timer.due = moved if moved >= resumed else self._days.on_or_after(resumed)
        timer.reckoned = timer.reckoned or (away > 0 and timer.unit is Unit.WORKING)

    def _extended(self, step: Step) -> None:
        self._begin_decision(step)
        limit = step.limit or Limit(EXTENSION_DAYS, Unit.WORKING)
        for timer in self._decision():
            if step.due_on is not None:
                timer.due, timer.reckoned = step.due_on, False
            elif timer.due is not None:
                timer.due = self._days.add(timer.due, limit.days, limit.unit)
                timer.reckoned = timer.reckoned or limit.unit is Unit.WORKING

    def _decided(self, step: Step) -> None:
        self._begin(_C.DELIVERY, step.at, Limit(DELIVERY_DAYS, Unit.WORKING))

    def _over(self, step: Step) -> None:
        self._void(step, *self._timers)

    # --- timers --------------------------------------------------------------------------------------------------

    def _begin(self, name: ClockName, at: datetime, limit: Limit | None, due_on: date | None = None) -> None:
        """Begin a clock, or begin it anew. The day that somebody said counts more than one that is reckoned."""
        self._timers.pop(name, None)  # a clock that begins anew stands where it began
        if due_on is not None or limit is None:
            self._timers[name] = _Timer(at, due_on, limit)
            return
        begun = local_day(at)
        due = self._days.add(begun, limit.days, limit.unit)
        working = limit.unit is Unit.WORKING
        if working:
            due = self._days.on_or_after(due)  # what is due on the spot, and begins on a day off
        self._timers[name] = _Timer(at, due, limit, reckoned=working)

    def _begin_decision(self, step: Step) -> None:
        if _C.PROMISED in self._timers:
            return
        limits = self._limits
        for name, days in (
            (_C.PROMISED, None if limits is None else limits.promised_days),
            (_C.STATUTORY, None if limits is None else limits.statutory_days),
        ):
            unit = Unit.WORKING if limits is None else limits.unit
            self._begin(name, step.at, None if days is None else Limit(days, unit))

    def _decision(self) -> list[_Timer]:
        return [self._timers[name] for name in _DECISION if self._is_open(name)]

    def _is_open(self, name: ClockName) -> bool:
        return name in self._timers and self._timers[name].open

    def _end(self, step: Step, end: ClockState, *names: ClockName) -> None:
        for name in names:
            if self._is_open(name):
                self._timers[name].ended_at, self._timers[name].end = step.at, end

    def _void(self, step: Step, *names: ClockName) -> None:
        self._end(step, ClockState.VOID, *names)

    # --- what came of it -----------------------------------------------------------------------------------------

    def clocks(self, today: date) -> list[Clock]:
        """Return the clocks as they are today."""
        return [self._clock(name, timer, today) for name, timer in self._timers.items()]

    def _clock(self, name: ClockName, timer: _Timer, today: date) -> Clock:
        by = timer
        if name is _C.TOLERANCE and self._tolerance_follows:
            by = self._timers.get(_C.PROMISED, timer)
        stopped = by.stopped_on is not None
        due = None if stopped else by.due
        begun = local_day(timer.started_at)
        return Clock(
            name=name,
            state=_state(timer, due, today, stopped=stopped),
            started_at=timer.started_at,
            due_on=due,
            soon_on=None if due is None or due <= begun else self._soon(begun, due),
            ended_at=timer.ended_at,
            estimated=due is not None and by.reckoned and not self._days.knows(begun, due),
            limit=timer.limit,
        )

    def _soon(self, begun: date, due: date) -> date:
        """Return from when on it is due soon: the last day itself where the limit leaves none before it."""
        early = (self._days.back(due, lead) for lead in _WARNINGS)
        return next((day for day in early if day > begun), due)


def _state(timer: _Timer, due: date | None, today: date, *, stopped: bool) -> ClockState:
    if timer.ended_at is not None:
        late = due is not None and local_day(timer.ended_at) > due
        end = timer.end or ClockState.VOID
        return ClockState.LATE if late and end is ClockState.MET else end
    if stopped:
        return ClockState.STOPPED
    return ClockState.OVERDUE if due is not None and today > due else ClockState.RUNNING


_THEN: Mapping[State, Callable[[_Desk, Step], None]] = {
    _S.COLLECTED: _Desk._collected,
    _S.FORWARDED: _Desk._handed_over,
    _S.RECEIVED: _Desk._handed_over,
    _S.SUPPLEMENT_NOTICE: _Desk._noticed,
    _S.SUPPLEMENTED: _Desk._handed_over,
    _S.SUPPLEMENT_EXPIRED: _Desk._expired,
    _S.ACCEPTED: _Desk._accepted,
    _S.ACCEPTED_TOLERANT: _Desk._accepted_tolerant,
    _S.TOLERANCE_BREACHED: _Desk._breached,
    _S.SPECIAL: _Desk._special,
    _S.EXTENDED: _Desk._extended,
    _S.DECIDED: _Desk._decided,
    _S.WITHDRAWN: _Desk._over,
    _S.RETURNED: _Desk._over,
    _S.VOID: _Desk._over,
}
"""State → what begins, stops or moves when a case reaches it."""
