"""The delivery worker: carries submissions to their regions, at least once on the wire and exactly once in effect.

Owns: the steps of one attempt and what each outcome means. The order is fixed: claim → (ask, when in doubt) → note
that it leaves → send → settle. Between the region's yes and our commit lies a gap that no order can close; a worker
that dies there leaves a row that the next one treats as doubtful and asks about. Leaves to `queue`: leases. To
`retry`: when.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection

from gateway.domain.submission import State
from gateway.errors import GatewayError, RegionUncertain, RegionUnreachable
from gateway.evidence import Exchange, record
from gateway.lines import Line
from gateway.ports import Clock, RegionDocument, SubmissionOrder, SubmissionTarget
from gateway.regions import Region
from gateway.storage import Store
from gateway.submissions import queue
from gateway.submissions.events import EventLog, remember_number
from gateway.submissions.parcels import Parcel, Parcels
from gateway.submissions.queue import Claim
from gateway.submissions.retry import Next, RetryPolicy
from gateway.telemetry import Metrics
from gateway.waiting import wait

log = structlog.get_logger("delivery")

StepObserver = Callable[[str, Claim], None]
"""Is told of every step of an attempt, before the next one: claimed, sending, answered, settling, settled."""


def unobserved(_step: str, _claim: Claim) -> None:
    """Observe nothing."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How the worker keeps time."""

    lease: timedelta
    poll: timedelta
    shutdown: timedelta


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one attempt learned, and the times for the evidence."""

    receipt: Mapping[str, Any]
    raw: bytes
    how: str
    forwarded_at: datetime
    answered_at: datetime


class DeliveryWorker:
    """Serves the queues of all regions until it is stopped."""

    def __init__(
        self,
        *,
        store: Store,
        regions: Mapping[str, Region],
        lines: Mapping[str, Line],
        parcels: Parcels,
        events: EventLog,
        retry: RetryPolicy,
        timing: Timing,
        clock: Clock,
        metrics: Metrics,
        observe: StepObserver = unobserved,
    ) -> None:
        self._store = store
        self._regions = regions
        self._lines = lines
        self._parcels = parcels
        self._events = events
        self._retry = retry
        self._timing = timing
        self._clock = clock
        self._metrics = metrics
        self._observe = observe
        self._owner = secrets.token_hex(8)
        self._wake = {region: asyncio.Event() for region in regions}
        self._stopping = asyncio.Event()
        self._attempts: set[asyncio.Task[None]] = set()

    def nudge(self, region: str) -> None:
        """Look at this region's queue now: something was just written to it."""
        self._wake[region].set()

    async def run(self) -> None:
        """Serve every region that takes submissions, until `stop`."""
        served = [region for region in self._regions.values() if region.adapter.submissions is not None]
        async with asyncio.TaskGroup() as group:
            for region in served:
                group.create_task(self._serve(region))

    async def stop(self) -> None:
        """Claim nothing more; let the attempts under way finish, for a bounded time; then leave them to their lease.

        An attempt that is cut off keeps its row in state `sending`: whoever claims it next asks the region first.
        """
        self._stopping.set()
        for wake in self._wake.values():
            wake.set()
        if self._attempts:
            _, late = await asyncio.wait(self._attempts, timeout=self._timing.shutdown.total_seconds())
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

    def _start(self, claimed: Claim, region: Region, running: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(self._attempt(claimed, region))
        running.add(task)
        self._attempts.add(task)

        def done(finished: asyncio.Task[None]) -> None:
            running.discard(finished)
            self._attempts.discard(finished)
            self._wake[region.id].set()

        task.add_done_callback(done)

    async def _claim(self, region: Region, room: int) -> list[Claim]:
        now = self._clock()
        try:
            return await self._store.write(
                lambda tx: queue.claim(
                    tx, region=region.id, owner=self._owner, limit=room, now=now, lease=self._timing.lease
                )
            )
        except GatewayError as error:  # the store is away: deliveries wait, and so do we
            log.warning("cannot claim", region=region.id, code=error.stable_code, detail=error.detail)
            return []

    # --- one attempt -------------------------------------------------------------------------------------------

    async def _attempt(self, claimed: Claim, region: Region) -> None:
        with structlog.contextvars.bound_contextvars(submission_id=claimed.submission_id, region=region.id):
            async with self._lease_kept(claimed):
                self._step("claimed", claimed)
                failure = await self._failure_of(claimed, region)
                if failure is None:
                    return
                try:
                    await self._put_off(claimed, region, failure)
                except GatewayError:  # the store is away: the lease will run out, and the next attempt asks first
                    log.exception("outcome not written")

    async def _failure_of(self, claimed: Claim, region: Region) -> GatewayError | None:
        """Make the attempt; return what went wrong with it, if anything."""
        try:
            await self._carry(claimed, region)
        except GatewayError as error:
            return error
        except Exception as error:
            # A bug must not lose a case: the delivery stays, in doubt, and the log has the place.
            log.exception("attempt failed unexpectedly")
            return RegionUncertain("Unexpected failure.", detail=type(error).__name__)
        return None

    @asynccontextmanager
    async def _lease_kept(self, claimed: Claim) -> AsyncIterator[None]:
        """Renew the lease while the attempt lasts; cancel the attempt when another worker holds the delivery."""
        attempt = asyncio.current_task()
        keeper = asyncio.create_task(self._renew(claimed, attempt))
        try:
            yield
        finally:
            keeper.cancel()

    async def _renew(self, claimed: Claim, attempt: asyncio.Task[None] | None) -> None:
        while True:
            await asyncio.sleep(self._timing.lease.total_seconds() / 3)
            until = self._clock() + self._timing.lease
            try:
                kept = await self._store.write(partial(queue.renew, claimed=claimed, until=until))
            except GatewayError as error:  # the store is away: there is time left for two more tries
                log.warning("lease not renewed", code=error.stable_code, detail=error.detail)
                continue
            if not kept and attempt is not None:
                log.warning("lease lost", attempt=claimed.attempt)
                attempt.cancel()
                return

    async def _carry(self, claimed: Claim, region: Region) -> None:
        target = region.adapter.submissions
        if target is None:
            raise RegionUnreachable("The region takes no submissions.", region=region.id)
        answer = await self._ask_first(claimed, region, target) if claimed.doubtful else None
        if answer is None:
            answer = await self._send(claimed, region, target)
        self._step("answered", claimed)
        await self._settle_delivered(claimed, answer)

    async def _ask_first(self, claimed: Claim, region: Region, target: SubmissionTarget) -> _Answer | None:
        """Ask the region whether it holds the case. None: it certainly does not, so it may be sent."""
        self._believable(claimed, region)
        begun = self._clock()
        try:
            found = await target.ask(claimed.submission_id)
        except RegionUnreachable as error:
            # The question did not get through; the doubt about the message remains.
            raise RegionUncertain(error.public, detail=error.detail, region=region.id) from error
        return None if found is None else self._read(region, found, "reconciled", begun)

    def _believable(self, claimed: Claim, region: Region) -> None:
        """Refuse to ask while the region may still be at work on the message: "unknown here" would mean nothing."""
        if claimed.lost_at is None:
            return  # an attempt that ended in order waits for the region before it is due again
        if self._clock() < claimed.lost_at + timedelta(seconds=region.limits.settle_seconds):
            raise RegionUncertain("The region may still be at work on it.", region=region.id, code="region.settling")

    async def _send(self, claimed: Claim, region: Region, target: SubmissionTarget) -> _Answer:
        parcel = await self._parcels.pack(claimed.submission_id, region)
        begun = self._clock()
        if not await self._store.write(lambda tx: queue.note_sending(tx, claimed, begun)):
            raise _LeaseLost("Another worker holds the delivery.")
        self._step("sending", claimed)
        receipt = await target.submit(_order(parcel))
        return self._read(region, receipt, "sent", begun)

    def _read(self, region: Region, receipt: RegionDocument, how: str, begun: datetime) -> _Answer:
        """Read the receipt. One that cannot be read proves nothing: the delivery stays in doubt."""
        try:
            canonical = region.pack("receipt").to_canonical(receipt)
        except GatewayError as error:
            text = f"The receipt of region {region.id} cannot be read."
            raise RegionUncertain(text, detail=str(error.problems), region=region.id) from error
        return _Answer(canonical, _bytes(receipt), how, begun, self._clock())

    # --- settling ----------------------------------------------------------------------------------------------

    async def _settle_delivered(self, claimed: Claim, answer: _Answer) -> None:
        now = self._clock()

        def unit(tx: Connection) -> bool:
            done = {"state": "delivered", "settled_at": now, "last_code": "ok", "last_text": None}
            if not queue.settle(tx, claimed, done):
                return False
            receipt = answer.receipt
            remember_number(tx, claimed.submission_id, claimed.region, receipt["number"], receipt.get("short_number"))
            detail = {"number": receipt["number"], "how": answer.how, "attempt": claimed.attempt}
            self._events.ours(tx, claimed.submission_id, State.FORWARDED, now, detail)
            record(tx, _exchange(claimed, "done", answer.how, answer), now=now)
            return True

        await self._settle(claimed, unit, "delivered")

    async def _put_off(self, claimed: Claim, region: Region, error: GatewayError) -> None:
        """Write down why the attempt failed and when the next one is due; or that a person must look."""
        if isinstance(error, _LeaseLost):
            log.warning("lease lost before sending", attempt=claimed.attempt)
            return
        now = self._clock()
        then = self._retry.after(error, claimed.attempt)
        wait = self._retry.delay(claimed.attempt, random.random)
        if then is Next.IN_DOUBT:
            wait = max(wait, timedelta(seconds=region.limits.settle_seconds))
        # Waiting for the region to settle, or for its breaker, is no attempt at delivering.
        spared = error.stable_code in {"region.settling", "region.breaker_open"}
        values = {
            "state": (Next.IN_DOUBT if claimed.doubtful else Next.PENDING) if spared else then,
            "attempt": claimed.attempt - 1 if spared else claimed.attempt,
            "due": now + wait,
            "last_code": error.stable_code,
            "last_text": error.public,
        }

        def unit(tx: Connection) -> bool:
            if not queue.settle(tx, claimed, values):
                return False
            if values["state"] is Next.DEAD:
                problems = [{"field": p.field, "reason": p.reason} for p in error.problems]
                reason = {"code": error.stable_code, "reason": error.public, "problems": problems}
                self._events.ours(tx, claimed.submission_id, State.DELIVERY_FAILED, now, reason)
            if not spared:
                record(tx, _exchange(claimed, "failed", error.stable_code, None, now), now=now)
            return True

        fields = [problem.field for problem in error.problems]
        log.warning(
            "attempt failed",
            code=error.stable_code,
            then=str(values["state"]),
            attempt=claimed.attempt,
            fields=fields,
            detail=error.detail,
        )
        await self._settle(claimed, unit, str(values["state"]))

    async def _settle(self, claimed: Claim, unit: Callable[[Connection], bool], outcome: str) -> None:
        self._step("settling", claimed)
        if await self._store.write(unit):
            self._metrics.delivery(claimed.region, outcome)
        else:
            log.warning("lease lost before settling", attempt=claimed.attempt)
        self._step("settled", claimed)

    def _step(self, step: str, claimed: Claim) -> None:
        log.debug("step", step=step, attempt=claimed.attempt)
        self._observe(step, claimed)


class _LeaseLost(GatewayError):
    """Another worker holds the row: this one does nothing more."""


def _order(parcel: Parcel) -> SubmissionOrder:
    return SubmissionOrder(parcel.submission_id, parcel.document, parcel.materials)


def _exchange(
    claimed: Claim, outcome: Any, reason: str, answer: _Answer | None, now: datetime | None = None
) -> Exchange:
    begun = answer.forwarded_at if answer else now
    if begun is None:
        raise ValueError("an exchange without an answer needs a time")
    return Exchange(
        action="submission.deliver",
        outcome=outcome,
        reason=reason,
        who={"worker": claimed.owner},
        what={"case": claimed.submission_id, "region": claimed.region, "attempt": claimed.attempt},
        purpose="delivery to the handling region",
        received_at=begun,
        forwarded_at=answer.forwarded_at if answer else None,
        answered_at=answer.answered_at if answer else None,
        parts={"receipt": answer.raw} if answer else {},
    )


def _bytes(document: RegionDocument) -> bytes:
    return document if isinstance(document, bytes) else orjson.dumps(document)
