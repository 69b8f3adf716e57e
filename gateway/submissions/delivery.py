"""The delivery worker: carries submissions to their regions, at least once on the wire and exactly once in effect.

Owns: serving the queues of all regions, and keeping the lease of every attempt under way. Leaves to `attempt`: what one
attempt does. To `queue`: who may take which row.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from gateway.errors import GatewayError
from gateway.lines import Line
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.submissions import queue
from gateway.submissions.attempt import Attempts
from gateway.submissions.queue import Claim
from gateway.waiting import wait

log = structlog.get_logger("delivery")


@dataclass(frozen=True, slots=True)
class Timing:
    """How the worker keeps time."""

    lease: timedelta
    poll: timedelta
    shutdown: timedelta


class DeliveryWorker:
    """Serves the queues of all regions until it is stopped."""

    def __init__(
        self,
        *,
        store: Store,
        regions: Mapping[str, Region],
        lines: Mapping[str, Line],
        attempts: Attempts,
        timing: Timing,
        clock: Clock,
    ) -> None:
        self._store = store
        self._regions = regions
        self._lines = lines
        self._attempts = attempts
        self._timing = timing
        self._clock = clock
        self._owner = secrets.token_hex(8)
        self._wake = {region: asyncio.Event() for region in regions}
        self._served = dict.fromkeys(regions, "")
        """The agency that was served last, by region: the turn of the others comes next."""
        self._stopping = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._in_hand: set[str] = set()
        """The deliveries that are being attempted here."""
        self.patience_seconds = timing.shutdown.total_seconds()
        """How long the attempts under way may take to finish once `stop` was called."""

    def nudge(self, region: str) -> None:
        """Look at this region's queue now: something was just written to it."""
        self._wake[region].set()

    def stop(self) -> None:
        """Claim nothing more. `run` ends once the attempts under way have."""
        self._stopping.set()
        for wake in self._wake.values():
            wake.set()

    async def run(self) -> None:
        """Serve every region that takes submissions, until `stop`; then let the attempts under way finish.

        What does not finish in time is cut off and keeps its row in state `sending`: whoever claims it next asks the
        region first.
        """
        served = [region for region in self._regions.values() if region.adapter.submissions is not None]
        await asyncio.gather(self._stopping.wait(), *(self._serve(region) for region in served))
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=self.patience_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, region: Region) -> None:
        """Claim what is due whenever there is room, and wait for a nudge or the next look."""
        running: set[asyncio.Task[None]] = set()
        wake = self._wake[region.id]
        while not self._stopping.is_set():
            wake.clear()
            room = region.limits.concurrency - len(running)
            if room > 0 and not self._lines[region.id].resting():
                for claimed in await self._claim(region, room):
                    self._start(claimed, region, running)
            await wait(wake, self._timing.poll.total_seconds())

    async def _claim(self, region: Region, room: int) -> list[Claim]:
        claiming = partial(
            queue.claim, region=region.id, owner=self._owner, limit=room, now=self._clock(), lease=self._timing.lease,
            after=self._served[region.id],
        )  # fmt: skip
        try:
            claims = await self._store.write(claiming)
        except GatewayError as error:  # the store is away: deliveries wait, and so do we
            log.warning("cannot claim", region=region.id, code=error.stable_code, detail=error.detail)
        except Exception:  # one region's trouble is not the others': look again next time
            log.exception("claiming failed unexpectedly", region=region.id)
        else:
            self._served[region.id] = claims[-1].client_id if claims else self._served[region.id]
            return claims
        return []

    def _start(self, claimed: Claim, region: Region, running: set[asyncio.Task[None]]) -> None:
        if claimed.delivery_id in self._in_hand:
            # Our clock has jumped ahead. The attempt under way has lost its lease by this claim, and ends; when the
            # new lease does, the region is asked.
            log.warning("lease lost to ourselves", submission_id=claimed.submission_id, attempt=claimed.attempt)
            return
        self._in_hand.add(claimed.delivery_id)
        task = asyncio.create_task(self._attempt(claimed, region))
        running.add(task)
        self._under_way.add(task)

        def done(finished: asyncio.Task[None]) -> None:
            running.discard(finished)
            self._under_way.discard(finished)
            self._in_hand.discard(claimed.delivery_id)
            self._wake[region.id].set()

        task.add_done_callback(done)

    async def _attempt(self, claimed: Claim, region: Region) -> None:
        with structlog.contextvars.bound_contextvars(submission_id=claimed.submission_id, region=region.id):
            try:
                async with self._lease_kept(claimed):
                    await self._attempts.make(claimed, region)
            except Exception:  # the store is away: the lease will run out, and the next attempt asks first
                log.exception("outcome not written")

    # --- the lease ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _lease_kept(self, claimed: Claim) -> AsyncIterator[None]:
        """Renew the lease while the attempt lasts; cancel the attempt when it is lost, or may be."""
        attempt = asyncio.current_task()
        keeper = asyncio.create_task(self._keep(claimed, attempt))
        try:
            yield
        finally:
            keeper.cancel()

    async def _keep(self, claimed: Claim, attempt: asyncio.Task[None] | None) -> None:
        ends = claimed.lease_until
        while ends > self._clock():
            await asyncio.sleep(self._timing.lease.total_seconds() / 3)
            ends = await self._renewed(claimed, ends)
        log.warning("lease lost", submission_id=claimed.submission_id, attempt=claimed.attempt)
        if attempt is not None:
            attempt.cancel()

    async def _renewed(self, claimed: Claim, ends: datetime) -> datetime:
        """Renew the lease and return its new end; the old one while the store is away, now when it is lost.

        A clock that jumps back makes no lease shorter: another replica would take it for one that ran out long ago.
        """
        now = self._clock()
        until = max(ends, now + self._timing.lease)
        try:
            kept = await self._store.write(partial(queue.renew, claimed=claimed, until=until))
        except Exception:  # whatever it is, there is time until the lease ends
            log.exception("lease not renewed", submission_id=claimed.submission_id)
            return ends
        return until if kept else now
