"""One attempt to deliver one case: claim → (ask, when in doubt) → note that it leaves → send → settle.

Owns: the steps, their order, and what each outcome says about the case. A case goes out, and its receipt is read, with
the mappings that it is pinned to, whatever has been loaded since. Between the region's yes and our commit lies a
gap that no order can close; whoever dies there leaves a row that the next attempt treats as doubtful and asks about.
Leaves to `delivery`: which deliveries are attempted, and keeping the lease meanwhile. To `retry`: when again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection

from gateway.domain.submission import State
from gateway.errors import (
    GatewayError,
    MappingFailed,
    RegionBusy,
    RegionRefused,
    RegionResting,
    RegionSettling,
    RegionUncertain,
    RegionUnreachable,
)
from gateway.evidence import Exchange, record
from gateway.evidence.record import Outcome
from gateway.mapping.library import PackSet
from gateway.ports import Clock, RegionDocument, SubmissionOrder, SubmissionTarget
from gateway.regions import Region
from gateway.storage import Store
from gateway.submissions import queue
from gateway.submissions.conflicts import LONGEST_NUMBER
from gateway.submissions.events import EventLog, remember_number
from gateway.submissions.parcels import Parcel, Parcels
from gateway.submissions.queue import Claim
from gateway.submissions.retry import Next, RetryPolicy
from gateway.telemetry import Metrics

log = structlog.get_logger("delivery")

StepObserver = Callable[[str, Claim], None]
"""Is told of every step of an attempt, before the next one: claimed, sending, answered, settling, settled."""

Pinned = Callable[[Region, str], Awaitable[PackSet]]
"""Finds the mappings of a region that a case is pinned to, by their version."""

NOT_TRIED = (RegionSettling, RegionResting, RegionBusy)
"""Attempts that never came to talking to the region: they leave no evidence of an exchange."""


def unobserved(_step: str, _claim: Claim) -> None:
    """Observe nothing."""


class LeaseLost(GatewayError):
    """Another worker holds the row: this one does nothing more."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What one attempt is made with: the case, where it goes, and the mappings that it is pinned to."""

    claimed: Claim
    region: Region
    target: SubmissionTarget
    packs: PackSet


@dataclass(frozen=True, slots=True)
class Answer:
    """What one attempt learned, and the times for the evidence."""

    receipt: Mapping[str, Any]
    raw: bytes
    how: str
    forwarded_at: datetime
    answered_at: datetime


class Attempts:
    """Makes attempts. Complete when constructed; holds nothing between two of them."""

    def __init__(
        self,
        *,
        store: Store,
        parcels: Parcels,
        pinned: Pinned,
        events: EventLog,
        retry: RetryPolicy,
        clock: Clock,
        metrics: Metrics,
        observe: StepObserver = unobserved,
    ) -> None:
        self._store = store
        self._parcels = parcels
        self._pinned = pinned
        self._events = events
        self._retry = retry
        self._clock = clock
        self._metrics = metrics
        self._observe = observe

    async def make(self, claimed: Claim, region: Region) -> None:
        """Make the attempt and write its outcome. Raises only when the outcome cannot be written."""
        self._step("claimed", claimed)
        failure = await self._failure_of(claimed, region)
        if isinstance(failure, LeaseLost):
            log.warning("lease lost before sending", attempt=claimed.attempt)
        elif failure is not None:
            await self._put_off(claimed, region, failure)

    async def _failure_of(self, claimed: Claim, region: Region) -> GatewayError | None:
        """Carry the case over; return what went wrong with it, if anything."""
        try:
            await self._carry(claimed, region)
        except GatewayError as error:
            return error
        except Exception as error:
            # A bug must not lose a case: the delivery stays, in doubt, and the log has the place.
            log.exception("attempt failed unexpectedly")
            return RegionUncertain("Unexpected failure.", detail=type(error).__name__, code="delivery.bug")
        return None

    async def _carry(self, claimed: Claim, region: Region) -> None:
        target = region.adapter.submissions
        if target is None:
            raise RegionUnreachable("The region takes no submissions.", region=region.id)
        errand = Errand(claimed, region, target, await self._pinned(region, claimed.mapping_version))
        answer = await self._ask_first(errand) if claimed.doubtful else None
        if answer is None:
            answer = await self._send(errand)
        self._step("answered", claimed)
        try:
            await self._settle_delivered(claimed, answer)
        except GatewayError as error:
            # The region has the case, whatever became of our note of it: ask next time, never send.
            text = "The region's receipt could not be written down."
            raise RegionUncertain(text, detail=str(error), code="delivery.unwritten", region=region.id) from error

    async def _ask_first(self, errand: Errand) -> Answer | None:
        """Ask the region whether it holds the case. None: it certainly does not, so it may be sent."""
        region = errand.region
        self._check_believable(errand.claimed, region)
        begun = self._clock()
        try:
            found = await errand.target.ask(errand.claimed.submission_id)
        except RegionRefused as error:
            # It refuses the question, which says nothing about the case.
            text = f"Region {region.id} does not answer whether it has the case."
            raise RegionUncertain(text, detail=error.public, region=region.id, code="region.mute") from error
        return None if found is None else self._read(errand, found, "reconciled", begun)

    def _check_believable(self, claimed: Claim, region: Region) -> None:
        """Refuse to ask while the region may still be at work on the message: "unknown here" would mean nothing."""
        if claimed.lost_at is not None and self._clock() < _settled(claimed.lost_at, region):
            raise RegionSettling("The region may still be at work on it.", region=region.id)

    async def _send(self, errand: Errand) -> Answer:
        claimed = errand.claimed
        parcel = await self._parcels.pack(claimed.submission_id, errand.packs)
        begun = self._clock()
        if not await self._store.write(lambda tx: self._note_sending(tx, claimed, parcel, begun)):
            raise LeaseLost("Another worker holds the delivery.")
        self._step("sending", claimed)
        receipt = await errand.target.submit(SubmissionOrder(parcel.submission_id, parcel.document, parcel.materials))
        return self._read(errand, receipt, "sent", begun)

    def _note_sending(self, tx: Connection, claimed: Claim, parcel: Parcel, now: datetime) -> bool:
        """Write down what is about to leave, before it does: if we die now, this is all that is known of it."""
        if not queue.note_sending(tx, claimed, now):
            return False
        if parcel.mapping_version != claimed.mapping_version:
            queue.pin(tx, claimed.submission_id, parcel.mapping_version)  # what leaves is what it is pinned to
        parts = {
            "document": _bytes(parcel.document),
            **{f"material.{m.code}": m.sha256.encode() for m in parcel.materials},
        }
        record(tx, _exchange(claimed, "submission.send", "done", "leaving", now, parts=parts), now=now)
        return True

    def _read(self, errand: Errand, receipt: RegionDocument, how: str, begun: datetime) -> Answer:
        """Read the receipt. One that cannot be read proves nothing: the delivery stays in doubt."""
        region = errand.region
        try:
            canonical = _heard(errand, receipt)
        except GatewayError as error:
            text = f"The receipt of region {region.id} cannot be read."
            raise RegionUncertain(text, detail=str(error.problems), region=region.id) from error
        if max(len(canonical["number"]), len(canonical.get("short_number") or "")) > LONGEST_NUMBER:
            text = f"Region {region.id} gave a number of more than {LONGEST_NUMBER} characters."
            raise RegionUncertain(text, region=region.id)
        return Answer(canonical, _bytes(receipt), how, begun, self._clock())

    # --- settling ----------------------------------------------------------------------------------------------

    async def _settle_delivered(self, claimed: Claim, answer: Answer) -> None:
        now = self._clock()

        def unit(tx: Connection) -> bool:
            done = {"state": "delivered", "settled_at": now, "last_code": "ok", "last_text": None}
            if not queue.settle(tx, claimed, done):
                return False
            receipt = answer.receipt
            remember_number(tx, claimed.submission_id, claimed.region, receipt["number"], receipt.get("short_number"))
            detail = {"number": receipt["number"], "how": answer.how, "attempt": claimed.attempt}
            self._events.ours(tx, claimed.submission_id, State.FORWARDED, now, detail)
            record(tx, _delivered(claimed, answer), now=now)
            return True

        await self._settle(claimed, unit, "delivered")

    async def _put_off(self, claimed: Claim, region: Region, error: GatewayError) -> None:
        """Write down why the attempt failed and when the next one is due; or that a person must look."""
        now = self._clock()
        failures = claimed.failures + (1 if self._retry.counts(error) else 0)
        then = self._retry.after(error, failures, doubtful=claimed.doubtful, age=now - claimed.created_at)
        due = None if then is Next.DEAD else self._next_due(claimed, region, then, now)
        values = {
            "state": then,
            "failures": failures,
            "due": due,
            "last_code": error.stable_code,
            "last_text": error.public,
        }

        def unit(tx: Connection) -> bool:
            if not queue.settle(tx, claimed, values):
                return False
            if then is Next.DEAD:
                self._events.ours(tx, claimed.submission_id, State.DELIVERY_FAILED, now, _reason(claimed, error))
            if not isinstance(error, NOT_TRIED):
                record(tx, _exchange(claimed, "submission.deliver", "failed", error.stable_code, now), now=now)
            return True

        log.warning(
            "attempt failed", code=error.stable_code, then=str(then), attempt=claimed.attempt,
            fields=error.fields(), detail=error.detail,
        )  # fmt: skip
        await self._settle(claimed, unit, then)

    def _next_due(self, claimed: Claim, region: Region, then: Next, now: datetime) -> datetime:
        """Return when to try again: after the back-off, and not before the region can have settled."""
        due = now + self._retry.delay(claimed.attempt, random.random)
        if then is Next.PENDING:
            return due
        return max(due, _settled(claimed.lost_at or now, region))

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


def _heard(errand: Errand, receipt: RegionDocument) -> dict[str, Any]:
    """Read a receipt as the case was written. A region may answer in a new form where it took the old one."""
    try:
        return errand.packs.need("receipt").to_canonical(receipt)
    except MappingFailed:
        in_use = errand.region.packs.now()
        if in_use.version != errand.packs.version:
            with suppress(MappingFailed):  # the first refusal is the one to tell
                return in_use.need("receipt").to_canonical(receipt)
        raise


def _settled(since: datetime, region: Region) -> datetime:
    """Return when the region's "unknown here" can be believed, for a message that may have left until `since`."""
    return since + timedelta(seconds=region.limits.settle_seconds)


def _reason(claimed: Claim, error: GatewayError) -> dict[str, Any]:
    """Say in the timeline why a person must look. In doubt means that the region may have the case."""
    return {
        "code": error.stable_code,
        "reason": error.public,
        "problems": [{"field": problem.field, "reason": problem.reason} for problem in error.problems],
        "in_doubt": claimed.doubtful or isinstance(error, RegionUncertain),
    }


def _delivered(claimed: Claim, answer: Answer) -> Exchange:
    parts = {"receipt": answer.raw}
    return _exchange(
        claimed, "submission.deliver", "done", answer.how, answer.forwarded_at, answer.answered_at, parts=parts
    )


def _exchange(
    claimed: Claim,
    action: str,
    outcome: Outcome,
    reason: str,
    begun: datetime,
    answered_at: datetime | None = None,
    *,
    parts: Mapping[str, bytes] | None = None,
) -> Exchange:
    return Exchange(
        action=action,
        outcome=outcome,
        reason=reason,
        who={"worker": claimed.owner},
        what={"case": claimed.submission_id, "region": claimed.region, "attempt": claimed.attempt},
        purpose="delivery to the handling region",
        received_at=begun,
        forwarded_at=begun,
        answered_at=answered_at,
        parts=parts or {},
    )


def _bytes(document: RegionDocument) -> bytes:
    return document if isinstance(document, bytes) else orjson.dumps(document)
