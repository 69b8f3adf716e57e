"""Errands (后续任务): what is to be done about a case that has ended, at least once, by whichever replica comes first.

Owns: the row of an errand, its lease, and when it is tried again. Leaves to whoever is handed in as its runner: what is
done, which must be harmless to do twice. Deliveries are no errands: they tell a region something once, and their
outcome can be in doubt; an errand fetches or copies, and is simply done again.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection, Update, and_, func, select, update

from gateway.errors import GatewayError
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import ERRAND_DUE, UNFINISHED, case_errands
from gateway.submissions.retry import RetryPolicy
from gateway.submissions.story import locked
from gateway.waiting import wait

log = structlog.get_logger("errands")

KINDS = ("results", "archive")
"""What errands are for: fetching the documents of a decision; handing the archive package over."""
LEASE = timedelta(minutes=15)
"""How long one attempt may take; another replica tries after that, and doing it twice does no harm."""
POLL_SECONDS = 1.0
_BATCH = 4
"""Errands that one replica runs at a time."""

Note = Callable[[Connection, str, str, datetime, Mapping[str, Any]], object]
"""Writes a fact about a case: case, kind, when, detail."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One attempt that this worker may make."""

    submission_id: str
    kind: str
    region: str
    owner: str
    attempt: int
    created_at: datetime


class NotYet(Exception):
    """The errand cannot be run before something else has happened; it is tried again and counts for nothing."""


Finish = Callable[[Connection, datetime], None]
"""Writes what came of an errand, in the transaction that settles it: once, however often it was run."""


class Runner(Protocol):
    """Runs errands of one kind."""

    async def run(self, errand: Errand) -> Finish:
        """Do it, and return what is to be written. Harmless to repeat. Raises GatewayError, NotYet."""
        ...


def put(tx: Connection, *, submission_id: str, kind: str, region: str, now: datetime, due: datetime) -> None:
    """Write an errand once; part of the caller's transaction."""
    row = {
        "submission_id": submission_id,
        "kind": kind,
        "region": region,
        "state": "open",
        "due": due,
        "attempt": 0,
        "created_at": max(now, due),  # patience counts from when it could be run
    }
    tx.execute(insert_into(tx, case_errands).values(row).on_conflict_do_nothing())


def state_of(tx: Connection, submission_id: str, kind: str) -> str | None:
    """Return `open`, `done` or `dead`; None when there is no such errand."""
    c = case_errands.c
    state: str | None = tx.execute(
        select(c.state).where(c.submission_id == submission_id, c.kind == kind)
    ).scalar_one_or_none()
    return state


def again(tx: Connection, submission_id: str, kind: str, now: datetime) -> bool:
    """Have a dead errand tried again. Return False when it is not dead."""
    c = case_errands.c
    dead = and_(c.submission_id == submission_id, c.kind == kind, c.state == "dead")
    values = {"state": "open", "due": now, "attempt": 0, "created_at": now, "settled_at": None}
    return tx.execute(update(case_errands).where(dead).values(values)).rowcount == 1


def unfinished(tx: Connection, limit: int) -> list[dict[str, str]]:
    """Return errands that are under way or dead, the oldest first: ids and words, no person."""
    c = case_errands.c
    columns = (c.submission_id, c.kind, c.region, c.state, c.attempt, c.due, c.last_code, c.last_text)
    query = select(*columns).where(UNFINISHED).order_by(c.created_at, c.submission_id).limit(limit)
    rows = tx.execute(query).mappings()
    return [{str(name): "" if value is None else str(value) for name, value in row.items()} for row in rows]


def figures(tx: Connection) -> dict[tuple[str, str], int]:
    """Return how many errands are open or dead, by kind and state. Costs what there is of them, not of cases."""
    c = case_errands.c
    query = select(c.kind, c.state, func.count()).where(UNFINISHED).group_by(c.kind, c.state)
    none = {(kind, state): 0 for kind in KINDS for state in ("open", "dead")}
    return {**none, **{(kind, state): count for kind, state, count in tx.execute(query)}}


class Errands:
    """Runs what is due, kind by kind."""

    def __init__(
        self, *, store: Store, runners: Mapping[str, Runner], retry: RetryPolicy, note: Note, clock: Clock
    ) -> None:
        self._store = store
        self._runners = runners
        self._retry = retry
        self._note = note
        self._clock = clock
        self._owner = secrets.token_hex(8)

    async def run(self, stopping: asyncio.Event) -> None:
        """Look again and again until `stopping`."""
        while not stopping.is_set():
            try:
                found = await self.turn()
            except GatewayError as error:
                log.warning("errands not looked at", code=error.stable_code, detail=error.detail)
                found = 0
            if not found:
                await wait(stopping, POLL_SECONDS)

    async def turn(self) -> int:
        """Run once what is due; return how many that were."""
        now = self._clock()
        taken = [
            errand
            for kind in self._runners
            for errand in await self._store.write(partial(claim, kind=kind, owner=self._owner, now=now))
        ]
        await asyncio.gather(*(self._attempt(errand) for errand in taken))
        return len(taken)

    async def _attempt(self, errand: Errand) -> None:
        try:
            finish = await self._runners[errand.kind].run(errand)
        except (GatewayError, NotYet) as error:
            await self._put_off(errand, error)
        except Exception as error:
            log.exception("errand failed unexpectedly")  # a bug loses no errand
            await self._put_off(errand, error)
        else:
            await self._store.write(lambda tx: self._settle(tx, errand, finish))

    async def _put_off(self, errand: Errand, failure: Exception) -> None:
        await self._store.write(lambda tx: self._try_later(tx, errand, failure))

    def _settle(self, tx: Connection, errand: Errand, finish: Finish) -> None:
        now = self._clock()
        locked(tx, errand.submission_id)  # a case before what belongs to it, as everywhere
        if _fenced(tx, errand, {"state": "done", "due": None, "last_code": "ok", "settled_at": now}):
            finish(tx, now)

    def _try_later(self, tx: Connection, errand: Errand, failure: Exception) -> None:
        now = self._clock()
        locked(tx, errand.submission_id)
        code = failure.stable_code if isinstance(failure, GatewayError) else type(failure).__name__
        text = failure.public if isinstance(failure, GatewayError) else None
        log.warning("errand", case=errand.submission_id, kind=errand.kind, code=code, attempt=errand.attempt)
        if self._is_over(errand, failure, now):
            gone = {"state": "dead", "due": None, "last_code": code, "last_text": text, "settled_at": now}
            if _fenced(tx, errand, gone):
                self._note(tx, errand.submission_id, f"{errand.kind}.failed", now, {"code": code, "reason": text})
            return
        due = now + self._retry.delay(errand.attempt, random.random)
        _fenced(tx, errand, {"due": due, "owner": None, "last_code": code, "last_text": text})

    def _is_over(self, errand: Errand, failure: Exception, now: datetime) -> bool:
        if isinstance(failure, GatewayError) and not failure.retryable:
            return True
        return now - errand.created_at >= self._retry.patience and not isinstance(failure, NotYet)


def claim(tx: Connection, *, kind: str, owner: str, now: datetime) -> Sequence[Errand]:
    """Take errands that are due, in one statement; what another replica is taking is left alone."""
    return [
        Errand(row.submission_id, kind, row.region, owner, row.attempt, row.created_at)
        for row in tx.execute(_taking(kind, owner, now))
    ]


def _taking(kind: str, owner: str, now: datetime) -> Update:
    c = case_errands.c
    due = select(c.submission_id).where(c.kind == kind, c.due <= now, ERRAND_DUE).order_by(c.due).limit(_BATCH)
    taken = due.with_for_update(skip_locked=True).cte("taken")
    mine = and_(c.kind == kind, c.submission_id.in_(select(taken.c.submission_id)), c.due <= now)
    values = {"due": now + LEASE, "owner": owner, "attempt": c.attempt + 1}
    return update(case_errands).where(mine).values(values).returning(c.submission_id, c.region, c.attempt, c.created_at)


def _fenced(tx: Connection, errand: Errand, values: Mapping[str, Any]) -> bool:
    """Write what came of an attempt, unless another one has begun since."""
    c = case_errands.c
    mine = and_(
        c.submission_id == errand.submission_id,
        c.kind == errand.kind,
        c.owner == errand.owner,
        c.attempt == errand.attempt,
    )
    return tx.execute(update(case_errands).where(mine).values(dict(values))).rowcount == 1
