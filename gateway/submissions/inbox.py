"""Status events on their way in: pushed by callback, or fetched from a feed by polling.

Owns: taking events over exactly once. A callback's nonce, its events and the evidence are one transaction; so are a
feed page's events and the cursor, so that a crash between them neither loses nor repeats. An event over which one of
our own parts fails is kept for a person, and holds up no other. Leaves to adapters: whether a callback is genuine. To
`readings`: reading an event. To `events`: what it means for its case.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, and_, or_, select, update

from gateway.errors import FieldProblem, GatewayError, NotFound, ReplayedCallback, UnreadableCallback
from gateway.evidence import Exchange, record
from gateway.ports import Callback, CallbackReading, Clock, FeedPage
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.nonces import spend
from gateway.storage.store import insert_into
from gateway.storage.tables import feed_cursors
from gateway.submissions.events import Arrival, EventLog
from gateway.submissions.readings import NOTHING_KEPT, EventReader, Kept, Reading
from gateway.telemetry import Metrics
from gateway.waiting import wait

log = structlog.get_logger("inbox")

UNREADABLE = UnreadableCallback.code
_FEED_LEASE = timedelta(seconds=10)
"""How long a feed waits for a replica that died. Whoever holds it writes a page only while the cursor is as it was, so
that two who read the same one record it once."""
_PAGES_AT_ONCE = 50
"""A feed is read this many pages in a row at most before other work gets its turn."""


_Take = Callable[..., Arrival]
"""Records one event of a region (`tx`, `region`, `reading`, `now`)."""


class Inbox:
    """Takes status events from regions."""

    def __init__(
        self,
        store: Store,
        regions: Mapping[str, Region],
        events: EventLog,
        clock: Clock,
        metrics: Metrics,
        kept: Kept = NOTHING_KEPT,
    ) -> None:
        self._store = store
        self._regions = regions
        self._reader = EventReader(store, kept)
        self._events = events
        self._clock = clock
        self._metrics = metrics
        self._owner = secrets.token_hex(8)

    # --- callbacks ---------------------------------------------------------------------------------------------

    async def callback(self, region_id: str, callback: Callback) -> Mapping[str, Any]:
        """Take a callback and return the answer that the region expects.

        Raises NotFound, ForgedCallback, ReplayedCallback, InvalidRequest; every refusal becomes evidence.
        """
        region = self._regions.get(region_id)
        try:
            if region is None or region.adapter.callbacks is None:
                raise NotFound("No enabled region sends callbacks here.", code="callback.unknown_region")
            told = await region.adapter.callbacks.read(callback)
            readings = await self._reader.read(region, told.events)
            arrivals, evidence = await self._recorded(region, told, readings, callback)
        except GatewayError as error:
            await self._refused(region.id if region else "unknown", callback, error)
            raise
        self._count(region, arrivals)
        _check_readable(region, arrivals, evidence)
        return told.answer

    async def _recorded(
        self, region: Region, told: CallbackReading, readings: Sequence[Reading], callback: Callback
    ) -> tuple[Sequence[Arrival], str]:
        """Record a callback. When one of its events cannot be recorded, that one waits for a person, as in a feed.

        The region is told that it was taken: sending it again would help nobody. The nonce is spent at the end then,
        so that a callback which comes again after a crash finds what is on record already.
        """
        take = partial(self._take, region=region, told=told, callback=callback)
        try:
            return await self._store.write(partial(take, readings=readings))
        except Exception as error:
            if isinstance(error, ReplayedCallback) or _is_away(error):
                raise
            log.exception("callback not recorded; its events are taken one by one", region=region.id)
        arrivals = [await self._taken_alone(region, reading, self._arrive, "status.callback") for reading in readings]
        return await self._store.write(partial(take, readings=(), taken=arrivals))

    def _take(
        self, tx: Connection, region: Region, told: CallbackReading, readings: Sequence[Reading], callback: Callback,
        taken: Sequence[Arrival] = (),
    ) -> tuple[Sequence[Arrival], str]:  # fmt: skip
        """Spend the nonce, record the events, and return what became of each, with the evidence.

        `taken` are those that were recorded before.
        """
        if not spend(tx, f"callback:{region.id}", told.nonce, told.nonce_expires):
            problem = FieldProblem("nonce", "was used before", "replayed")
            raise ReplayedCallback("This callback was received before.", problems=[problem], region=region.id)
        now = self._clock()
        arrivals = [*taken, *(self._arrive(tx, region, reading, now) for reading in readings)]
        unreadable = any(arrival.problems for arrival in arrivals)
        outcome = ("refused", UNREADABLE) if unreadable else ("done", "recorded")
        return arrivals, record(tx, _exchange(region.id, callback, *outcome), now=now)

    async def _refused(self, region: str, callback: Callback, error: GatewayError) -> None:
        exchange = _exchange(region, callback, "refused", error.stable_code)
        error.evidence = await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))
        self._metrics.event(region, "refused")

    # --- feeds -------------------------------------------------------------------------------------------------

    async def poll_forever(self, region: Region, stopping: asyncio.Event) -> None:
        """Fetch this region's events until told to stop; trouble is logged and the next look comes as usual."""
        pause = region.limits.poll_seconds or 5.0
        try:
            while not stopping.is_set():
                try:
                    await self.poll(region)
                except GatewayError as error:
                    log.warning("feed not read", region=region.id, code=error.stable_code, detail=error.detail)
                await wait(stopping, pause)
        finally:
            await self._let_go(region.id)

    async def poll(self, region: Region) -> int:
        """Fetch what is new, page by page, and return how many events arrived. One replica at a time does it."""
        if region.adapter.feed is None:
            return 0
        total = 0
        for _ in range(_PAGES_AT_ONCE):
            cursor = await self._store.write(lambda tx: self._hold_cursor(tx, region.id))
            if cursor is None:
                return total
            page = await region.adapter.feed.poll(cursor)
            readings = await self._reader.read(region, page.events)
            arrivals = await self._taken(region, page, readings, cursor)
            self._count(region, arrivals)
            total += len(arrivals)
            if page.cursor == cursor or not page.events:
                break
        return total

    async def _taken(
        self, region: Region, page: FeedPage, readings: Sequence[Reading], cursor: str
    ) -> Sequence[Arrival]:
        """Record a page. When one of its events cannot be recorded, that one waits for a person and the others do not.

        Events are taken over one by one then, each as often as it takes: one that is on record is so once.
        """
        take = partial(self._take_page, region=region, page=page, cursor=cursor)
        try:
            return await self._store.write(partial(take, readings=readings))
        except Exception as error:
            if _is_away(error):
                raise
            log.exception("page not recorded; its events are taken one by one", region=region.id)
        arrivals = [await self._taken_alone(region, reading, self._take_one, "status.feed") for reading in readings]
        await self._store.write(partial(take, readings=()))
        return arrivals

    async def _taken_alone(self, region: Region, reading: Reading, take: _Take, action: str) -> Arrival:
        now = self._clock()
        try:
            return await self._store.write(partial(take, region=region, reading=reading, now=now))
        except Exception as error:
            if _is_away(error):
                raise
            log.exception("event not recorded", region=region.id)
            give_up = partial(self._give_up, region=region, raw=reading.raw, action=action, now=now)
            return await self._store.write(give_up)

    def _give_up(self, tx: Connection, region: Region, raw: bytes, action: str, now: datetime) -> Arrival:
        """Keep an event that could not be recorded, whatever the reason is, as it came."""
        self._events.unreadable(tx, region.id, raw, "could not be recorded; the log says why", now)
        record(tx, _event_exchange(region, action, raw, "failed", "conflict", now), now=now)
        return Arrival("conflict")

    def _hold_cursor(self, tx: Connection, region: str) -> str | None:
        """Return the cursor and hold it for a while; None when another replica holds it."""
        now = self._clock()
        row = {"region": region, "cursor": "", "lease_until": now, "owner": self._owner, "updated_at": now}
        tx.execute(insert_into(tx, feed_cursors).values(row).on_conflict_do_nothing())
        c = feed_cursors.c
        free = and_(c.region == region, or_(c.owner == self._owner, c.lease_until <= now))
        held = update(feed_cursors).where(free).values(owner=self._owner, lease_until=now + _FEED_LEASE)
        if tx.execute(held).rowcount == 0:
            return None
        return str(tx.execute(select(c.cursor).where(c.region == region)).scalar_one())

    async def _let_go(self, region: str) -> None:
        """Give the cursor back, so that the next process need not wait until our hold runs out."""
        c = feed_cursors.c
        mine = and_(c.region == region, c.owner == self._owner)
        given_back = update(feed_cursors).where(mine).values(lease_until=self._clock())
        try:
            await self._store.write(lambda tx: tx.execute(given_back).rowcount)
        except GatewayError as error:  # the store is away: the hold runs out by itself
            log.warning("cursor not given back", region=region, code=error.stable_code, detail=error.detail)

    def _take_page(
        self, tx: Connection, region: Region, page: FeedPage, readings: Sequence[Reading], cursor: str
    ) -> list[Arrival]:
        """Record a page and move the cursor, fenced by owner and by the cursor that the page was asked with."""
        now = self._clock()
        c = feed_cursors.c
        mine = and_(c.region == region.id, c.owner == self._owner, c.cursor == cursor)
        moved = update(feed_cursors).where(mine).values(cursor=page.cursor, updated_at=now)
        if tx.execute(moved).rowcount == 0:
            return []  # another replica took over and has recorded this page, or will
        return [self._take_one(tx, region, reading, now) for reading in readings]

    def _take_one(self, tx: Connection, region: Region, reading: Reading, now: datetime) -> Arrival:
        """Record one event of a feed, with its evidence."""
        arrival = self._arrive(tx, region, reading, now)
        outcome = ("failed", UNREADABLE) if arrival.problems else ("done", arrival.outcome)
        record(tx, _event_exchange(region, "status.feed", reading.raw, *outcome, now), now=now)
        return arrival

    def _arrive(self, tx: Connection, region: Region, reading: Reading, now: datetime) -> Arrival:
        """Record one event. One that cannot be read must not block those behind it: it waits for a person."""
        if reading.event is not None:
            return self._events.from_region(tx, region.id, reading.event, now)
        fields = [problem.field for problem in reading.problems]
        log.warning("event cannot be read", region=region.id, fields=fields)
        self._events.unreadable(tx, region.id, reading.raw, f"cannot be read: {', '.join(fields)}", now)
        return Arrival("unreadable", problems=reading.problems)

    def _count(self, region: Region, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._metrics.event(region.id, arrival.outcome)


def _is_away(error: Exception) -> bool:
    """Say whether the same would happen to any other event now, and not when it is tried again: the store is away."""
    return isinstance(error, GatewayError) and error.retryable


def _check_readable(region: Region, arrivals: Sequence[Arrival], evidence: str) -> None:
    """Tell the region which fields of its event cannot be read; the event itself is kept for a person."""
    problems = [problem for arrival in arrivals for problem in arrival.problems]
    if problems:
        refusal = UnreadableCallback("The event cannot be read; see `problems`.", problems=problems, region=region.id)
        refusal.evidence = evidence
        raise refusal


def _exchange(region: str, callback: Callback, outcome: Any, reason: str) -> Exchange:
    return Exchange(
        action="status.callback",
        outcome=outcome,
        reason=reason,
        who={"region": region},
        what={"path": callback.path, "size": len(callback.body)},
        purpose="status of a case",
        received_at=callback.received_at,
        parts={"body": callback.body},
    )


def _event_exchange(region: Region, action: str, raw: bytes, outcome: Any, reason: str, now: datetime) -> Exchange:
    return Exchange(
        action=action,
        outcome=outcome,
        reason=reason,
        who={"region": region.id},
        what={"size": len(raw)},
        purpose="status of a case",
        received_at=now,
        parts={"event": raw},
    )
