"""The life of a case (办件) as a state machine: pure, no I/O, no clock.

Owns: the states, who may enter them, which step follows which, and where a case stands when everything that was said
of it is put into the order in which it happened. Leaves to `gateway.submissions`: storing what was said, delivering,
and what to do about a report that cannot be (it waits for a person, never dropped).

Where a case stands depends on the *set* of reports alone, never on the order in which they arrived or on how often:
`stand` sorts them by when they happened and walks through. So a late, doubled or reordered report changes nothing
that it would not have changed in time.

Rating (好差评) and archiving are facts about a case that has come to its end; they are no places in its life.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache


class State(StrEnum):
    """Where a case is. Collection (收件) is not acceptance (受理): only the handling region accepts or decides."""

    DRAFT = "DRAFT"  # 草稿: begun, not handed in; no case yet, so no case is ever in it (`gateway.submissions.drafts`)
    COLLECTED = "COLLECTED"  # 收件: form and identity checked, receipt issued, stored here
    FORWARDED = "FORWARDED"  # handed to the handling region
    DELIVERY_FAILED = "DELIVERY_FAILED"  # retries ended; a person must look
    RECEIVED = "RECEIVED"  # the handling region acknowledged
    SUPPLEMENT_NOTICE = "SUPPLEMENT_NOTICE"  # 一次性补正告知
    SUPPLEMENTED = "SUPPLEMENTED"  # 补正受理: all that was asked for is there
    SUPPLEMENT_EXPIRED = "SUPPLEMENT_EXPIRED"  # it never came
    ACCEPTED = "ACCEPTED"  # 受理
    ACCEPTED_TOLERANT = "ACCEPTED_TOLERANT"  # 容缺受理: something may follow
    TOLERANCE_BREACHED = "TOLERANCE_BREACHED"  # 容缺逾期: it never followed
    NOT_ACCEPTED = "NOT_ACCEPTED"  # 不予受理
    NOT_WITHIN_POWER = "NOT_WITHIN_POWER"  # 不属于本机关职权
    SPECIAL = "SPECIAL"  # 特殊程序: the clock stands
    EXTENDED = "EXTENDED"  # 延期: more time for the decision, once
    DECIDED = "DECIDED"  # 准予 / 不予
    COMPLETED = "COMPLETED"  # 办结
    DELIVERED = "DELIVERED"  # 送达
    WITHDRAWN = "WITHDRAWN"  # 撤回, by the applicant
    RETURNED = "RETURNED"  # 退件
    VOID = "VOID"  # 作废


class Holder(StrEnum):
    """Whose turn it is, for the clerk's question "who holds it now"."""

    GATEWAY = "gateway"
    COLLECTING = "collecting_window"
    HANDLING = "handling_region"
    APPLICANT = "applicant"
    NOBODY = "nobody"


S = State
_UNDER_REVIEW = frozenset(
    {S.SUPPLEMENT_NOTICE, S.ACCEPTED, S.ACCEPTED_TOLERANT, S.NOT_ACCEPTED, S.NOT_WITHIN_POWER, S.WITHDRAWN, S.RETURNED}
)
_ACCEPTED = frozenset({S.SPECIAL, S.EXTENDED, S.DECIDED, S.COMPLETED, S.WITHDRAWN, S.RETURNED, S.VOID})

NEXT: Mapping[State, frozenset[State]] = {
    S.DRAFT: frozenset({S.COLLECTED}),
    S.COLLECTED: frozenset({S.FORWARDED, S.DELIVERY_FAILED, S.RETURNED, S.WITHDRAWN}),
    S.DELIVERY_FAILED: frozenset({S.FORWARDED, S.RETURNED, S.WITHDRAWN}),
    S.FORWARDED: frozenset({S.RECEIVED, *_UNDER_REVIEW}),
    S.RECEIVED: _UNDER_REVIEW,
    S.SUPPLEMENT_NOTICE: frozenset({S.SUPPLEMENTED, S.SUPPLEMENT_EXPIRED, S.WITHDRAWN, S.RETURNED}),
    S.SUPPLEMENTED: _UNDER_REVIEW,
    S.SUPPLEMENT_EXPIRED: frozenset({S.COMPLETED, S.RETURNED}),
    S.ACCEPTED: _ACCEPTED,
    S.ACCEPTED_TOLERANT: frozenset({S.ACCEPTED, S.TOLERANCE_BREACHED, *_ACCEPTED}),
    S.TOLERANCE_BREACHED: frozenset({S.COMPLETED, S.RETURNED, S.VOID}),
    S.EXTENDED: frozenset({S.SPECIAL, S.DECIDED, S.COMPLETED, S.WITHDRAWN, S.RETURNED, S.VOID}),
    S.SPECIAL: frozenset({S.DECIDED, S.COMPLETED, S.WITHDRAWN, S.RETURNED, S.VOID}),  # and back, see RESUME
    S.DECIDED: frozenset({S.COMPLETED, S.VOID}),
    S.COMPLETED: frozenset({S.DELIVERED, S.VOID}),
    S.NOT_ACCEPTED: frozenset({S.DELIVERED}),
    S.NOT_WITHIN_POWER: frozenset({S.DELIVERED}),
    S.DELIVERED: frozenset(),
    S.WITHDRAWN: frozenset(),
    S.RETURNED: frozenset(),
    S.VOID: frozenset(),
}
"""Which step may follow which. A report may leave steps out: `leads_to` says whether that is possible."""

RESUME: Mapping[State, frozenset[State]] = {S.SPECIAL: frozenset({S.ACCEPTED, S.ACCEPTED_TOLERANT, S.EXTENDED})}
"""The way back out of a special procedure: to where the case was when it was opened."""

HANDLING_ONLY = frozenset(State) - {
    S.DRAFT,
    S.COLLECTED,
    S.FORWARDED,
    S.DELIVERY_FAILED,
    S.SUPPLEMENTED,
    S.DELIVERED,
    S.WITHDRAWN,
    S.RETURNED,
}
"""States that only the region with jurisdiction may enter (不改变原有办理事权): it alone accepts, refuses, decides."""

ENDS = frozenset({S.COMPLETED, S.DELIVERED, S.NOT_ACCEPTED, S.NOT_WITHIN_POWER, S.WITHDRAWN, S.RETURNED, S.VOID})
"""States in which nothing more is to be decided."""

_HOLDERS: Mapping[State, Holder] = {
    S.DRAFT: Holder.COLLECTING,
    S.COLLECTED: Holder.GATEWAY,
    S.DELIVERY_FAILED: Holder.GATEWAY,
    S.SUPPLEMENT_NOTICE: Holder.APPLICANT,
    **dict.fromkeys(ENDS, Holder.NOBODY),
}

RESUMED = "RESUMED"
"""The one word of a region that names no state: the special procedure has ended."""

REGION_WORDS: Mapping[str, State] = {
    **{str(state): state for state in (HANDLING_ONLY | {S.SUPPLEMENTED, S.DELIVERED, S.WITHDRAWN, S.RETURNED})},
    RESUMED: S.ACCEPTED,
}
"""The words of the canonical event (mappings/vocabulary.toml) → the state that they lead to."""


def may_follow(now: State, then: State) -> bool:
    """Say whether `then` is a step from `now`."""
    return then in NEXT[now] or then in RESUME.get(now, ())


@cache
def leads_to(now: State, then: State) -> bool:
    """Say whether `then` can be reached from `now` by any number of steps: a report may have overtaken others.

    The way back out of a special procedure is not counted: only RESUMED goes it.
    """
    seen: set[State] = set()
    front = {now}
    while front:
        front = {after for state in front for after in NEXT[state]} - seen
        seen |= front
    return then in seen


def holder(state: State) -> Holder:
    """Return whose turn it is in that state."""
    return _HOLDERS.get(state, Holder.HANDLING)


# --- where a case stands -------------------------------------------------------------------------------------------


class Effect(StrEnum):
    """What one report does to its case."""

    MOVED = "moved"  # a step forward
    SAME = "same"  # the case was there already
    PASSED = "passed"  # the case was further already when it happened
    IMPOSSIBLE = "impossible"  # it cannot be, after what happened before: for a person


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that was said of a case: which state, by whom, and when it happened (aware UTC).

    `key` tells two reports apart; it is the region's own id of the event, or our own. `word` is the region's word
    where it says more than the state (`RESUMED`).
    """

    state: State
    source: str
    at: datetime
    key: str
    word: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a case stands, since when, what each report did to it (by key), and which steps were taken in order."""

    state: State
    since: datetime | None
    effects: Mapping[str, Effect]
    reasons: Mapping[str, str]
    steps: tuple[Report, ...]


_RANK: Mapping[State, int] = {state: rank for rank, state in enumerate(State)}


def stand(reports: Iterable[Report], begin: State = State.COLLECTED) -> Standing:
    """Put the reports into the order in which they happened, and walk through them from `begin`.

    The same set gives the same result in whatever order it comes. Of reports of the same instant the earlier state
    comes first. When one report makes several after it impossible, it is the one that is taken to be wrong: a refusal
    with a slip in its date does not undo a decision. Of two that contradict each other the one that happened first
    counts.
    """
    ordered = sorted(reports, key=lambda r: (r.at, _RANK[r.state], r.source, r.key))
    walk = _walked(ordered, begin, frozenset())
    while better := _with_one_less(ordered, begin, walk):
        walk = better
    return Standing(walk.now, walk.since, walk.effects, walk.reasons, tuple(walk.steps))


def _with_one_less(ordered: Sequence[Report], begin: State, walk: _Walk) -> _Walk | None:
    """Return the walk without one of its steps, if fewer reports are impossible then; the best of them."""
    best = None
    for step in walk.steps if walk.reasons else ():
        other = _walked(ordered, begin, walk.struck | {step.key})
        if len(other.reasons) < len((best or walk).reasons):
            best = other
    return best


def _walked(ordered: Sequence[Report], begin: State, struck: frozenset[str]) -> _Walk:
    walk = _Walk(begin, struck)
    for report in ordered:
        walk.take(report)
    return walk


class _Walk:
    """Walks through reports that are in order."""

    def __init__(self, begin: State, struck: frozenset[str]) -> None:
        self.now = begin
        self.struck = struck
        self.since: datetime | None = None
        self.before_special = State.ACCEPTED
        self.extended = False
        self.effects: dict[str, Effect] = {}
        self.reasons: dict[str, str] = {}
        self.steps: list[Report] = []

    def take(self, report: Report) -> None:
        if report.key in self.struck:
            self.effects[report.key] = Effect.IMPOSSIBLE
            self.reasons[report.key] = f"{report.word or report.state} contradicts what happened after it"
            return
        then = self._target(report)
        effect = self._effect(then)
        self.effects[report.key] = effect
        if effect is Effect.MOVED:
            self._move(then, report)
        elif effect is Effect.IMPOSSIBLE:
            self.reasons[report.key] = f"{report.word or report.state} cannot follow {self.now}"

    def _target(self, report: Report) -> State:
        """Return the state that a report leads to from here."""
        resumes = report.word == RESUMED or report.state in (State.ACCEPTED, State.ACCEPTED_TOLERANT)
        if self.now is State.SPECIAL and resumes:
            return self.before_special
        if self.now is State.SUPPLEMENT_NOTICE and report.state is State.RECEIVED:
            return State.SUPPLEMENTED  # some have no other word for it
        return report.state

    def _effect(self, then: State) -> Effect:
        if then is self.now:
            return Effect.IMPOSSIBLE if then is State.EXTENDED else Effect.SAME  # an extension is granted once
        if then is State.EXTENDED and self.extended and then is not self._way_back():
            return Effect.IMPOSSIBLE  # an extension is granted once
        if then is self._way_back() or leads_to(self.now, then):
            return Effect.MOVED
        return Effect.PASSED if leads_to(then, self.now) else Effect.IMPOSSIBLE

    def _way_back(self) -> State | None:
        return self.before_special if self.now is State.SPECIAL else None

    def _move(self, then: State, report: Report) -> None:
        if then is State.SPECIAL:
            self.before_special = self.now if self.now in RESUME[State.SPECIAL] else State.ACCEPTED
        self.extended = self.extended or then is State.EXTENDED
        self.now = then
        self.since = report.at
        self.steps.append(report)
