"""Status events: the timeline of a case, from our own steps and from the handling region.

Owns: recording an event once, in order where order can be had, and never dropping one. A duplicate (same region, same
event id) is ignored; a late one joins the timeline without moving the state back; one that cannot be goes to the
conflict table for a person, and so does, besides its place in the timeline, one whose state nobody here knows.
Everything here is part of the caller's transaction.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, and_, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import HANDLING_ONLY, REGION_WORDS, State, leads_to
from gateway.errors import FieldProblem
from gateway.mapping.unknown import is_unknown
from gateway.storage.store import insert_into
from gateway.storage.tables import event_conflicts, region_numbers, submission_events, submissions

GATEWAY = "gateway"
_CLOCKS_APART = timedelta(days=1)
"""How far ahead of ours a region's clock may be; an event from next year would overtake all that follow."""
LONGEST_NUMBER = 64
"""Ids and numbers of regions are opaque, but none is longer."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of a region's event.

    recorded, late (recorded, state unmoved), unknown (as late, and kept for a person), duplicate, conflict, unreadable.
    """

    outcome: str
    state: State | None = None
    problems: Sequence[FieldProblem] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a timeline. `source` is the gateway or a region; `event_id` the region's own id for it."""

    state: State
    source: str
    event_id: str | None
    occurred_at: datetime
    detail: Mapping[str, Any]


class EventLog:
    """Writes timelines. `sealer` protects what a conflicting event says, which nobody has checked yet."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def first(self, tx: Connection, submission_id: str, state: State, now: datetime, detail: Mapping[str, Any]) -> None:
        """Write event number 1. The submission's row already carries the state."""
        self._insert(tx, submission_id, 1, Step(state, GATEWAY, None, now, detail), now)

    def ours(self, tx: Connection, submission_id: str, state: State, now: datetime, detail: Mapping[str, Any]) -> None:
        """Write one of our own steps. A state that a region's event has overtaken stays where it is.

        Raises ValueError for a state that only the handling region may enter.
        """
        if state in HANDLING_ONLY:
            raise ValueError(f"{state} is for the handling region to say")
        row = _locked(tx, submission_id)
        if row is None:
            raise LookupError(submission_id)
        self._append(tx, row, Step(state, GATEWAY, None, now, detail), now)

    def from_region(self, tx: Connection, region: str, event: Mapping[str, Any], now: datetime) -> Arrival:
        """Record a canonical event (mappings/vocabulary.toml) that this region sent."""
        row = _locked(tx, str(event["submission_id"]))
        earlier = _earlier(tx, region, str(event["event_id"]))
        if _kept(tx, region, str(event["event_id"])) or earlier == _step(event):
            return Arrival("duplicate")
        problem = _misfit(event, earlier, now) or _problem(row, region, event)
        if row is None or problem:
            self._conflict(tx, region, event, problem or "there is no such submission here", now)
            return Arrival("conflict")
        known = _state(event)
        state = known or State(row["state"])  # what nobody here knows leaves the case where it is
        step = Step(state, region, str(event["event_id"]), _moment(event["occurred_at"]), _detail(event))
        moved = self._append(tx, row, step, now)
        _number(tx, row["id"], region, event)
        if known is None:
            self._conflict(tx, region, event, "its state is a code that nobody here knows", now)
            return Arrival("unknown", state)
        return Arrival("recorded" if moved else "late", state)

    def unreadable(self, tx: Connection, region: str, raw: bytes, reason: str, now: datetime) -> None:
        """Keep an event that its mapping cannot read, for a person; its digest stands for its id."""
        self._keep(tx, region, hashlib.sha256(raw).hexdigest(), "", raw, reason, now)

    def _append(self, tx: Connection, row: Mapping[str, Any], step: Step, now: datetime) -> bool:
        """Write the next event of the case and move its state when it is a step forward. Return whether it moved."""
        held = State(row["state"])
        # Where two states may alternate (accepted and special), only the time tells a new turn from an old one.
        late = leads_to(step.state, held) and _overtaken(tx, row["id"], step)
        moved = leads_to(held, step.state) and not late
        values = {"last_seq": row["last_seq"] + 1, "updated_at": now}
        if moved:
            values["state"] = step.state
        tx.execute(update(submissions).where(submissions.c.id == row["id"]).values(values))
        self._insert(tx, row["id"], row["last_seq"] + 1, step, now)
        return moved

    def _insert(self, tx: Connection, submission_id: str, seq: int, step: Step, now: datetime) -> None:
        row = {
            "submission_id": submission_id,
            "seq": seq,
            "state": step.state,
            "source": step.source,
            "region_event_id": step.event_id,
            "occurred_at": step.occurred_at,
            "recorded_at": now,
            "detail": seal_detail(self._sealer, submission_id, seq, step.detail),
        }
        tx.execute(submission_events.insert().values(row))

    def _conflict(self, tx: Connection, region: str, event: Mapping[str, Any], reason: str, now: datetime) -> None:
        raw = orjson.dumps(dict(event))
        self._keep(tx, region, str(event["event_id"]), str(event["submission_id"]), raw, reason, now)

    def _keep(
        self, tx: Connection, region: str, event_id: str, submission_id: str, raw: bytes, reason: str, now: datetime
    ) -> None:
        conflict_id = "CF" + secrets.token_hex(16)
        row = {
            "id": conflict_id,
            "region": region,
            "region_event_id": _key(event_id),
            "submission_id": submission_id[:64],
            "reason": reason,
            "event": self._sealer.seal(raw, f"event_conflicts.event:{conflict_id}"),
            "recorded_at": now,
        }
        tx.execute(insert_into(tx, event_conflicts).values(row).on_conflict_do_nothing())


def _locked(tx: Connection, submission_id: str) -> Mapping[str, Any] | None:
    """Return the case, locked until the end of the transaction, so that its sequence has no gap and no twin."""
    c = submissions.c
    query = select(c.id, c.state, c.last_seq, c.handling_region)
    found = tx.execute(query.where(c.id == submission_id).with_for_update()).mappings().first()
    return dict(found) if found else None


def _earlier(tx: Connection, region: str, event_id: str) -> tuple[str, str] | None:
    """Return case and state of the event that this region sent under this id, if there is one."""
    c = submission_events.c
    query = select(c.submission_id, c.state).where(c.source == region, c.region_event_id == event_id)
    row = tx.execute(query).first()
    return (row.submission_id, row.state) if row else None


def _kept(tx: Connection, region: str, event_id: str) -> bool:
    c = event_conflicts.c
    query = select(c.id).where(c.region == region, c.region_event_id == _key(event_id))
    return tx.execute(query).first() is not None


def _step(event: Mapping[str, Any]) -> tuple[str, str | None]:
    return str(event["submission_id"]), _state(event)


def _state(event: Mapping[str, Any]) -> State | None:
    """Return the state that an event leads to, None when it is a code that nobody here knows."""
    return None if is_unknown(event["state"]) else REGION_WORDS[event["state"]]


def _key(event_id: str) -> str:
    """Return the id of an event that is kept for a person; one that is too long for the table, by its digest."""
    return event_id if len(event_id) <= LONGEST_NUMBER else hashlib.sha256(event_id.encode()).hexdigest()


def _misfit(event: Mapping[str, Any], earlier: tuple[str, str] | None, now: datetime) -> str | None:
    """Say why an event cannot stand in any timeline, whatever its case."""
    if _moment(event["occurred_at"]) > now + _CLOCKS_APART:
        return "is dated in the future"
    if earlier:
        return f"its id was used before, for {earlier[1]} of {earlier[0]}"
    long = [name for name in ("event_id", "number", "short_number") if len(str(event.get(name) or "")) > LONGEST_NUMBER]
    return f"longer than {LONGEST_NUMBER} characters: {', '.join(long)}" if long else None


def _problem(row: Mapping[str, Any] | None, region: str, event: Mapping[str, Any]) -> str | None:
    if row is None:
        return None
    if row["handling_region"] != region:
        return f"region {region} has no power over a case that {row['handling_region']} handles"
    now, then = State(row["state"]), _state(event)
    if then is None or now is then or leads_to(now, then) or leads_to(then, now):
        return None
    return f"{then} cannot follow {now}"


def _overtaken(tx: Connection, submission_id: str, step: Step) -> bool:
    """Say whether this source has told of a later step already."""
    c = submission_events.c
    theirs = and_(c.submission_id == submission_id, c.source == step.source)
    later = select(c.seq).where(theirs, c.occurred_at > step.occurred_at)
    return tx.execute(later.limit(1)).first() is not None


def seal_detail(sealer: Sealer, submission_id: str, seq: int, detail: Mapping[str, Any]) -> bytes:
    """Seal what an event says beyond its state: a region's remark or result may name people."""
    return sealer.seal(orjson.dumps(dict(detail)), _detail_context(submission_id, seq))


def open_detail(sealer: Sealer, submission_id: str, seq: int, sealed: bytes) -> dict[str, Any]:
    """Open what an event says beyond its state."""
    detail: dict[str, Any] = orjson.loads(sealer.open(sealed, _detail_context(submission_id, seq)))
    return detail


def _detail_context(submission_id: str, seq: int) -> str:
    return f"submission_events.detail:{submission_id}:{seq}"


def _number(tx: Connection, submission_id: str, region: str, numbers: Mapping[str, Any]) -> None:
    remember_number(tx, submission_id, region, str(numbers["number"]), numbers.get("short_number"))


def remember_number(tx: Connection, submission_id: str, region: str, number: str, short_number: str | None) -> None:
    """Keep the region's own numbers for the case (long and short), once."""
    row = {"submission_id": submission_id, "region": region, "number": number, "short_number": short_number}
    tx.execute(insert_into(tx, region_numbers).values(row).on_conflict_do_nothing())


def _detail(event: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what a clerk may read: remark, staff id, result."""
    kept = {name: event[name] for name in ("state", "operator", "reason", "result") if event.get(name)}
    return {("word" if name == "state" else name): value for name, value in kept.items()}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
