"""Status events: the timeline of a case, from our own steps and from the handling region.

Owns: recording what is said of a case once, numbered without a gap and linked by hashes, and moving the case to where
all that was said leads (`gateway.domain.submission.stand`): a late or doubled report changes nothing that it would not
have changed in time, and what cannot be stands in the timeline as impossible and waits for a person. Facts that move
nothing (a clock that is due, a rating) are events too. Whoever must act on every step, in the same transaction, is
handed in as a follower. Leaves to `story`: reading a case. To `conflicts`: the queue for a person. To `stream`:
handing events on. Everything here is part of the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.joint import MODE as JOINT
from gateway.domain.submission import HANDLING_ONLY, REGION_WORDS, RESUMED, Effect, Report, State
from gateway.errors import FieldProblem
from gateway.mapping.unknown import is_unknown
from gateway.storage.store import INSERTS
from gateway.storage.tables import region_numbers, submission_events, submissions
from gateway.submissions.conflicts import LONGEST_NUMBER, Conflicts, is_kept
from gateway.submissions.story import (
    STEP,
    UNKNOWN,
    Noted,
    Said,
    Story,
    digest_of,
    linked,
    locked,
    own_key,
    salted,
    seal_detail,
    tell,
    told_first,
)

GATEWAY = "gateway"
Case = dict[str, Any]
"""A case's row, locked; `EventLog` keeps it up to date with what it writes."""
_APPEND = insert(submission_events)
_KNOWN = select(submission_events.c.submission_id, submission_events.c.kind, submission_events.c.state).where(
    submission_events.c.source == bindparam("region"), submission_events.c.region_event_id == bindparam("event")
)
_MOVE = update(submissions).where(submissions.c.id == bindparam("of_case"))
"""Built once, as in `story`."""
SET_ASIDE, REINSTATED = "event.set_aside", "event.reinstated"
"""Facts: a report that was believed cannot be after what came since; one that could not be, can."""
DERIVED = "parts"
"""The kind of event that says where a case stands by its parts."""
_TOLD = (
    select(func.count())
    .select_from(submission_events)
    .where(
        submission_events.c.submission_id == bindparam("case"),
        or_(submission_events.c.source != GATEWAY, submission_events.c.kind.in_((SET_ASIDE, REINSTATED))),
    )
)
"""What the reports of a case's region have brought into its timeline: themselves, and what they made of each other."""
_CLOCKS_APART = timedelta(days=1)
"""How far ahead of ours a region's clock may be; an event from next year would overtake all that follow."""
MOST = 500
"""Events that its region may cause in a case before its reports wait for a person: each is weighed against all."""
_KEPT = ("operator", "reason", "due_on", "limit", "materials", "basis", "remedy", "way", "result")
"""What of a canonical event is kept beside its state."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of a region's event.

    recorded, late (recorded, state unmoved), unknown (as late, and kept for a person), duplicate, conflict, unreadable.
    """

    outcome: str
    state: State | None = None
    problems: Sequence[FieldProblem] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a timeline. `source` is the gateway or a region; `event_id` the region's own id for it."""

    kind: str
    state: State
    source: str
    event_id: str | None
    occurred_at: datetime
    detail: Mapping[str, Any]
    word: str = ""


Follower = Callable[[Connection, Story, datetime], None]
"""Is told of a case after every step that was recorded, in the transaction that recorded it."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first event of a case: the case's row as it stands after it, the event's row, and the story so far."""

    case: Mapping[str, Any]
    event: Mapping[str, Any]
    story: Story


@dataclass(slots=True)
class EventLog:
    """Writes timelines. `followers` hear of every step; they are set before the first event is taken."""

    sealer: Sealer
    followers: Sequence[Follower] = ()
    conflicts: Conflicts = field(init=False)

    def __post_init__(self) -> None:
        """Make the queue for a person from the same key."""
        self.conflicts = Conflicts(self.sealer)

    # --- our own steps -----------------------------------------------------------------------------------------

    def begin(self, row: Mapping[str, Any], now: datetime, detail: Mapping[str, Any]) -> Beginning:
        """Return event number 1 of a case that is about to be written, and the case's row as it stands after it."""
        case = {**row, "last_seq": 0, "head": ""}
        entry = _with_salt(Entry(STEP, State(row["state"]), GATEWAY, None, now, detail))
        said = self._said(case, entry)
        story = told_first(case, self.sealer, said)
        event, moved = _linked(case, entry, said.sealed, story.standing.state, story.standing.effects[said.key], now)
        return Beginning({**row, **moved}, event, story)

    def begun(self, tx: Connection, beginning: Beginning, now: datetime) -> None:
        """Write event number 1; the case's row was just written."""
        tx.execute(_APPEND, beginning.event)
        for follower in self.followers:
            follower(tx, beginning.story, now)

    def ours(self, tx: Connection, submission_id: str, state: State, now: datetime, detail: Mapping[str, Any]) -> None:
        """Write one of our own steps. A state that a region's event has overtaken stays where it is.

        Raises ValueError for a state that only the handling region may enter.
        """
        if state in HANDLING_ONLY:
            raise ValueError(f"{state} is for the handling region to say")
        self._step(tx, _found(tx, submission_id), Entry(STEP, state, GATEWAY, None, now, detail), now)

    def note(
        self, tx: Connection, submission_id: str, kind: str, now: datetime, detail: Mapping[str, Any], word: str = ""
    ) -> int:
        """Write a fact that moves nothing: a clock that is due, a rating, a violation. Return its number.

        `word` stands in the clear, for facts that are counted by more than their kind.
        """
        case = _found(tx, submission_id)
        return self._fact(tx, case, kind, now, detail, word)

    def derived(self, tx: Connection, submission_id: str, state: State, now: datetime) -> None:
        """Write where a case stands that only its parts move (多地联办). Followers hear of the parts, not of it."""
        case = _found(tx, submission_id)
        if case["state"] != state:
            self._write(tx, case, Entry(DERIVED, state, GATEWAY, None, now, {}), state, "moved", now)

    # --- a region's steps --------------------------------------------------------------------------------------

    def from_region(self, tx: Connection, region: str, event: Mapping[str, Any], now: datetime) -> Arrival:
        """Record a canonical event (mappings/vocabulary.toml) that this region sent."""
        case = locked(tx, str(event["submission_id"]))
        event_id = str(event["event_id"])
        earlier = _earlier(tx, region, event_id)
        if _is_again(event, earlier):
            return Arrival("duplicate")
        problem = _misfit(event, earlier, now) or _powerless(case, region) or _overfull(tx, case)
        if case is None or problem:
            return self._refuse(tx, region, event, problem or "there is no such submission here", earlier, now)
        self.conflicts.explained(tx, region, event_id, now)  # what stood in its way when it came first is over
        self.numbered(tx, case["id"], region, (str(event["number"]), event.get("short_number")), now)
        return self._hear(tx, case, region, event, now)

    def _refuse(
        self, tx: Connection, region: str, event: Mapping[str, Any], problem: str, earlier: _Step | None, now: datetime
    ) -> Arrival:
        """Keep for a person, once, what cannot stand in a timeline; what has no id of its own, by its digest."""
        name = digest_of(event) if earlier or not event["event_id"] else str(event["event_id"])
        if is_kept(tx, region, name):
            return Arrival("duplicate")
        self.conflicts.keep(tx, region, event, problem, now, name)
        return Arrival("conflict")

    def _hear(self, tx: Connection, case: Case, region: str, event: Mapping[str, Any], now: datetime) -> Arrival:
        """Record an event that can stand in this case's timeline."""
        word = str(event["state"])
        detail = {"word": word, **{name: event[name] for name in _KEPT if event.get(name)}}
        at, event_id = _moment(event["occurred_at"]), str(event["event_id"])
        if is_unknown(word):  # it leaves the case where it is
            state = State(case["state"])
            self._write(tx, case, Entry(UNKNOWN, state, region, event_id, at, detail), state, "unknown", now)
            self.conflicts.keep(tx, region, event, "its state is a code that nobody here knows", now)
            return Arrival("unknown", state)
        told = RESUMED if word == RESUMED else ""
        story = self._step(tx, case, Entry(STEP, REGION_WORDS[word], region, event_id, at, detail, told), now)
        standing = story.standing
        if standing.effects[event_id] is Effect.IMPOSSIBLE:
            self.conflicts.keep(tx, region, event, standing.reasons[event_id], now)
            return Arrival("conflict")
        last = standing.steps[-1].key if standing.steps else None
        return Arrival("recorded" if last == event_id else "late", standing.state)

    def numbered(
        self, tx: Connection, submission_id: str, region: str, numbers: tuple[str, str | None], now: datetime
    ) -> None:
        """Keep the region's own numbers for the case, long and short. One that another case has too is for a person.

        The region may have taken the two for one, and then one of them is nowhere.
        """
        if not remember_number(tx, submission_id, region, *numbers):
            return
        twin = _whose_too(tx, submission_id, region, numbers[0])
        if twin is not None:
            told = {"event_id": f"number of {submission_id}", "submission_id": submission_id, "number": numbers[0]}
            self.conflicts.keep(tx, region, told, f"its number at the region is that of {twin} too", now)

    def unreadable(self, tx: Connection, region: str, raw: bytes, reason: str, now: datetime) -> None:
        """Keep an event that its mapping cannot read, for a person; its digest stands for its id."""
        self.conflicts.keep_raw(tx, region, raw, reason, now)

    # --- writing -----------------------------------------------------------------------------------------------

    def _step(self, tx: Connection, case: Case, entry: Entry, now: datetime) -> Story:
        """Write a step, move the case to where all that was said leads, and tell the followers."""
        entry = _with_salt(entry)
        said = self._said(case, entry)
        story, noted = tell(tx, case, self.sealer, said)
        standing = story.standing
        self._append(tx, case, entry, said.sealed, standing.state, standing.effects[said.key], now)
        self._revise(tx, case, story, noted, now)
        for follower in self.followers:
            follower(tx, story, now)
        return story

    def _said(self, case: Case, entry: Entry) -> Said:
        seq = case["last_seq"] + 1
        report = Report(entry.state, entry.source, entry.occurred_at, entry.event_id or own_key(seq), entry.word)
        return Said(report, seq, seal_detail(self.sealer, case["id"], seq, entry.detail))

    def _revise(self, tx: Connection, case: Case, story: Story, noted: Noted, now: datetime) -> None:
        """Note what a step has changed in what earlier ones are taken to be."""
        c = submission_events.c
        for key, (seq, before) in noted.items():
            after = story.standing.effects[key]
            if after == before:
                continue
            this = and_(c.submission_id == case["id"], c.seq == seq)
            tx.execute(update(submission_events).where(this).values(effect=after))
            if after is Effect.IMPOSSIBLE:
                self._set_aside(tx, case, story, key, now)
            elif before == Effect.IMPOSSIBLE:
                self._reinstate(tx, case, story, key, now)

    def _set_aside(self, tx: Connection, case: Case, story: Story, key: str, now: datetime) -> None:
        reason = story.standing.reasons[key]
        report = story.report(key)
        said = {"event_id": _name(story, key), "submission_id": case["id"], "number": "", **story.detail(key)}
        event = {**said, "occurred_at": report.at.isoformat()}
        self.conflicts.keep(tx, report.source, event, reason, now)
        self._fact(tx, case, SET_ASIDE, now, {"seq": story.seq(key), "reason": reason})

    def _reinstate(self, tx: Connection, case: Case, story: Story, key: str, now: datetime) -> None:
        self.conflicts.explained(tx, story.report(key).source, _name(story, key), now)
        self._fact(tx, case, REINSTATED, now, {"seq": story.seq(key)})

    def _fact(
        self, tx: Connection, case: Case, kind: str, now: datetime, detail: Mapping[str, Any], word: str = ""
    ) -> int:
        state = State(case["state"])
        self._write(tx, case, Entry(kind, state, GATEWAY, None, now, detail, word), state, "fact", now)
        return int(case["last_seq"])

    def _write(self, tx: Connection, case: Case, entry: Entry, state: State, effect: str, now: datetime) -> None:
        """Write one event that is no step: nothing has to be reckoned before."""
        entry = _with_salt(entry)
        sealed = seal_detail(self.sealer, case["id"], case["last_seq"] + 1, entry.detail)
        self._append(tx, case, entry, sealed, state, effect, now)

    def _append(
        self, tx: Connection, case: Case, entry: Entry, sealed: bytes, state: State, effect: str, now: datetime
    ) -> None:
        """Write one event, numbered and linked, and the case's row with it. `case` follows."""
        event, moved = _linked(case, entry, sealed, state, effect, now)
        tx.execute(_APPEND, event)
        tx.execute(_MOVE, {**moved, "of_case": case["id"]})
        case.update(moved)


def _with_salt(entry: Entry) -> Entry:
    return replace(entry, detail=salted(entry.detail))


def _linked(
    case: Case, entry: Entry, sealed: bytes, state: State, effect: str, now: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the row of the next event of a case, and what of the case's row it changes."""
    row = {
        "submission_id": case["id"],
        "seq": case["last_seq"] + 1,
        "kind": entry.kind,
        "state": entry.state,
        "word": entry.word,
        "case_state": state,
        "source": entry.source,
        "region_event_id": entry.event_id,
        "occurred_at": entry.occurred_at,
        "recorded_at": max(now, case["updated_at"]),  # a clock that jumps back does not reorder a case
    }
    head = linked(case["head"], {**row, "detail": digest_of(entry.detail)})
    more = {"effect": effect, "detail": sealed, "hash": head, "client_id": case["client_id"]}
    moved = {"last_seq": row["seq"], "head": head, "state": state, "updated_at": row["recorded_at"]}
    return {**row, **more}, moved


def _found(tx: Connection, submission_id: str) -> Case:
    case = locked(tx, submission_id)
    if case is None:
        raise LookupError(submission_id)
    return case


def _name(story: Story, key: str) -> str:
    """Return what a report is called among those that wait for a person: ours by its case and its number there."""
    return f"{story.case['id']}#{story.seq(key)}" if story.report(key).source == GATEWAY else key


_Step = tuple[str, str]
"""Case and state of an event; `UNKNOWN` for a state that nobody here knows."""


def _earlier(tx: Connection, region: str, event_id: str) -> _Step | None:
    """Return case and state of the event that this region sent under this id, if there is one."""
    row = tx.execute(_KNOWN, {"region": region, "event": event_id}).first()
    return (row.submission_id, row.state if row.kind == STEP else UNKNOWN) if row else None


def _step_of(event: Mapping[str, Any]) -> _Step:
    word = str(event["state"])
    return str(event["submission_id"]), UNKNOWN if is_unknown(word) else REGION_WORDS[word]


def _is_again(event: Mapping[str, Any], earlier: _Step | None) -> bool:
    """Say whether an event is on record. One whose code was or is not known is: the tables may have changed since."""
    if earlier is None:
        return False
    case, state = _step_of(event)
    return earlier[0] == case and (earlier[1] == state or UNKNOWN in (earlier[1], state))


def _misfit(event: Mapping[str, Any], earlier: _Step | None, now: datetime) -> str | None:
    """Say why an event cannot stand in any timeline, whatever its case."""
    if _moment(event["occurred_at"]) > now + _CLOCKS_APART:
        return "is dated in the future"
    if earlier:
        return f"its id was used before, for {earlier[1]} of {earlier[0]}"
    if not event["event_id"]:
        return "has no id"
    long = [name for name in ("event_id", "number", "short_number") if len(str(event.get(name) or "")) > LONGEST_NUMBER]
    return f"longer than {LONGEST_NUMBER} characters: {', '.join(long)}" if long else None


def _powerless(case: Case | None, region: str) -> str | None:
    if case is not None and case["mode"] == JOINT:
        return "only its parts move a case that several offices handle"
    if case is None or case["handling_region"] == region:
        return None
    return f"region {region} has no power over a case that {case['handling_region']} handles"


def _overfull(tx: Connection, case: Case | None) -> str | None:
    """Say whether a region has told too much of a case; what others caused (an issuer, the filer) is not its doing."""
    if case is None or case["last_seq"] < MOST:
        return None
    told = tx.execute(_TOLD, {"case": case["id"]}).scalar_one()
    return f"its region has caused {told} events of this case already" if told >= MOST else None


def remember_number(tx: Connection, submission_id: str, region: str, number: str, short_number: str | None) -> bool:
    """Keep the region's own numbers for the case (long and short), once. Return False when it had some."""
    row = {"submission_id": submission_id, "region": region, "number": number, "short_number": short_number}
    return tx.execute(_number_once(tx.dialect.name), row).one_or_none() is not None


@cache
def _number_once(dialect: str) -> Any:
    """Return the statement that keeps a number, once, in this dialect."""
    return INSERTS[dialect](region_numbers).on_conflict_do_nothing().returning(region_numbers.c.number)


_WHOSE_TOO = (
    select(region_numbers.c.submission_id)
    .where(
        region_numbers.c.region == bindparam("region"),
        region_numbers.c.number == bindparam("number"),
        region_numbers.c.submission_id != bindparam("case"),
    )
    .limit(1)
)
"""Another case that has this number at this region."""


def _whose_too(tx: Connection, submission_id: str, region: str, number: str) -> str | None:
    """Return another case that has this number at this region, if there is one."""
    return tx.execute(_WHOSE_TOO, {"region": region, "number": number, "case": submission_id}).scalar()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
