"""One attempt to deliver one case: claim → (ask, when in doubt) → note that it leaves → send → settle.

Owns: the steps, their order, and what each outcome says about the case. A case goes out, and its receipt is read, with
the mappings that it is pinned to, whatever has been loaded since. Between the region's yes and our commit lies a
gap that no order can close; whoever dies there leaves a row that the next attempt treats as doubtful and asks about.
Leaves to `delivery`: which deliveries are attempted, and keeping the lease meanwhile. To `retry`: when again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection

from gateway.domain.submission import State
from gateway.errors import (
    CertificateChanged,
    CertificateUnconfirmed,
    GatewayError,
    RegionBusy,
    RegionRefused,
    RegionResting,
    RegionSettling,
    RegionUncertain,
)
from gateway.evidence import Exchange, record
from gateway.evidence.record import Outcome
from gateway.mapping.library import PackSet
from gateway.ports import Clock, RegionDocument
from gateway.regions import Region
from gateway.storage import Store
from gateway.submissions import queue
from gateway.submissions.borders import NO_CONSENT
from gateway.submissions.carriers import Answer, Carrier, Errand, carriers
from gateway.submissions.events import GATEWAY, EventLog
from gateway.submissions.parcels import Parcel, Parcels, number_at
from gateway.submissions.queue import Claim
from gateway.submissions.retry import Next, RetryPolicy
from gateway.submissions.story import locked
from gateway.telemetry import Metrics

log = structlog.get_logger("delivery")

StepObserver = Callable[[str, Claim], None]
"""Is told of every step of an attempt, before the next one: claimed, sending, answered, settling, settled."""

Pinned = Callable[[Region, str], Awaitable[PackSet]]
"""Finds the mappings of a region that a case is pinned to, by their version."""

MESSAGE_FAILED = "message.failed"
"""The fact that a message about the case was given up: a person must look."""
NOT_TRIED = (RegionSettling, RegionResting, RegionBusy, CertificateUnconfirmed)
"""Attempts that never came to talking to the region: they leave no evidence of an exchange."""


GOES_BACK = frozenset({NO_CONSENT, CertificateChanged.code})
"""Why a case that its region does not have goes back to who filed it: only a new application can mend it."""
Confirm = Callable[[str], Awaitable[None]]
"""Lets a case out whose certificates are in force. Raises what keeps it here, for now or for good."""


async def unasked(_submission_id: str) -> None:
    """Ask nobody about certificates."""


def unobserved(_step: str, _claim: Claim) -> None:
    """Observe nothing."""


class LeaseLost(GatewayError):
    """Another worker holds the row: this one does nothing more."""


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
        confirm: Confirm = unasked,
    ) -> None:
        self._store = store
        self._carriers = carriers(parcels, events)
        self._pinned = pinned
        self._events = events
        self._retry = retry
        self._clock = clock
        self._metrics = metrics
        self._observe = observe
        self._confirm = confirm

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
        carrier = self._carriers[claimed.kind != queue.SUBMISSION]
        errand = Errand(claimed, region, await self._pinned(region, claimed.mapping_version))
        answer = await self._ask_first(carrier, errand) if claimed.doubtful else None
        if answer is None:
            answer = await self._send(carrier, errand)
        self._step("answered", claimed)
        try:
            await self._settle_delivered(carrier, claimed, answer)
        except GatewayError as error:
            # The region has the case, whatever became of our note of it: ask next time, never send.
            text = "The region's receipt could not be written down."
            raise RegionUncertain(text, detail=str(error), code="delivery.unwritten", region=region.id) from error

    async def _ask_first(self, carrier: Carrier, errand: Errand) -> Answer | None:
        """Ask the region whether it holds the case. None: it certainly does not, so it may be sent."""
        region = errand.region
        self._check_believable(errand.claimed, region)
        begun = self._clock()
        try:
            found = await carrier.ask(errand)
        except RegionRefused as error:
            # It refuses the question, which says nothing about the case.
            text = f"Region {region.id} does not answer whether it has the case."
            raise RegionUncertain(text, detail=error.public, region=region.id, code="region.mute") from error
        if found is None:
            return None
        return Answer(carrier.read(errand, found), _bytes(found), "reconciled", begun, self._clock())

    def _check_believable(self, claimed: Claim, region: Region) -> None:
        """Refuse to ask while the region may still be at work on the message: "unknown here" would mean nothing."""
        if claimed.lost_at is not None and self._clock() < _settled(claimed.lost_at, region):
            raise RegionSettling("The region may still be at work on it.", region=region.id)

    async def _send(self, carrier: Carrier, errand: Errand) -> Answer:
        claimed = errand.claimed
        parcel = await carrier.pack(errand)
        if parcel.certified:
            await self._confirm(claimed.submission_id)
            parcel = await carrier.pack(errand)  # issuers took their time: the consent may have been taken back since
        begun = self._clock()
        if not await self._store.write(lambda tx: self._note_sending(tx, claimed, parcel, begun)):
            raise LeaseLost("Another worker holds the delivery.")
        self._step("sending", claimed)
        receipt = await carrier.send(errand, parcel)
        return Answer(carrier.read(errand, receipt), _bytes(receipt), "sent", begun, self._clock())

    def _note_sending(self, tx: Connection, claimed: Claim, parcel: Parcel, now: datetime) -> bool:
        """Write down what is about to leave, before it does: if we die now, this is all that is known of it."""
        if not queue.note_sending(tx, claimed, now):
            return False
        if claimed.kind == queue.SUBMISSION and parcel.mapping_version != claimed.mapping_version:
            queue.pin(tx, claimed.submission_id, parcel.mapping_version)  # what leaves is what it is pinned to
        parts = {
            "document": _bytes(parcel.document),
            **{f"material.{m.code}": m.sha256.encode() for m in parcel.materials},
        }
        record(tx, _exchange(claimed, f"{claimed.kind}.send", "done", "leaving", now, parts=parts), now=now)
        return True

    # --- settling ----------------------------------------------------------------------------------------------

    async def _settle_delivered(self, carrier: Carrier, claimed: Claim, answer: Answer) -> None:
        now = self._clock()

        def unit(tx: Connection) -> str | None:
            done = {"state": "delivered", "settled_at": now, "last_code": "ok", "last_text": None}
            if not queue.settle(tx, claimed, done):
                return None
            carrier.delivered(tx, claimed, answer, now)
            queue.wake_next(tx, claimed.submission_id, now)
            record(tx, _delivered(claimed, answer), now=now)
            return "delivered"

        await self._settle(claimed, unit)

    async def _put_off(self, claimed: Claim, region: Region, error: GatewayError) -> None:
        """Write down why the attempt failed and when the next one is due; or that a person must look."""
        now = self._clock()
        failures = claimed.failures + (1 if self._retry.counts(error) else 0)
        then = self._retry.after(
            error, failures, doubtful=claimed.doubtful, age=now - (claimed.tried_since or claimed.created_at)
        )
        due = None if then is Next.DEAD else self._next_due(claimed, region, then, now)
        values = {"failures": failures, "due": due, "last_code": error.stable_code, "last_text": error.public}

        def unit(tx: Connection) -> str | None:
            returned = then is Next.DEAD and _goes_back(tx, claimed, error)
            outcome, settled_at = ("cancelled", now) if returned else (str(then), None)
            if not queue.settle(tx, claimed, {**values, "state": outcome, "settled_at": settled_at}):
                return None
            if returned:
                self._given_back(tx, claimed, error, now)
            elif then is Next.DEAD:
                self._given_up(tx, claimed, error, now)
            if not isinstance(error, NOT_TRIED):
                record(tx, _exchange(claimed, f"{claimed.kind}.deliver", "failed", error.stable_code, now), now=now)
            return outcome

        log.warning(
            "attempt failed", code=error.stable_code, then=str(then), attempt=claimed.attempt,
            fields=error.fields(), detail=error.detail,
        )  # fmt: skip
        await self._settle(claimed, unit)

    def _given_back(self, tx: Connection, claimed: Claim, error: GatewayError, now: datetime) -> None:
        """Return a case that may not leave, and drop what was to follow it."""
        detail = {"code": error.stable_code, "reason": error.public, "by": GATEWAY}
        self._events.ours(tx, claimed.submission_id, State.RETURNED, now, detail)
        queue.cancel_waiting(tx, claimed.submission_id, now)

    def _given_up(self, tx: Connection, claimed: Claim, error: GatewayError, now: datetime) -> None:
        """Say in the timeline that a person must look. A message that is given up does not hold up the next one."""
        if claimed.kind == queue.SUBMISSION:
            self._events.ours(tx, claimed.submission_id, State.DELIVERY_FAILED, now, _reason(claimed, error))
        else:
            detail = {"kind": claimed.kind, "message": claimed.message_id, **_reason(claimed, error)}
            self._events.note(tx, claimed.submission_id, MESSAGE_FAILED, now, detail)
            queue.wake_next(tx, claimed.submission_id, now)

    def _next_due(self, claimed: Claim, region: Region, then: Next, now: datetime) -> datetime:
        """Return when to try again: after the back-off, and not before the region can have settled."""
        due = now + self._retry.delay(claimed.attempt, random.random)
        if then is Next.PENDING:
            return due
        return max(due, _settled(claimed.lost_at or now, region))

    async def _settle(self, claimed: Claim, unit: Callable[[Connection], str | None]) -> None:
        """Write the outcome; `unit` returns it, or None when another worker holds the row."""
        self._step("settling", claimed)
        outcome = await self._store.write(unit)
        if outcome is not None:
            self._metrics.delivery(claimed.region, outcome)
        else:
            log.warning("lease lost before settling", attempt=claimed.attempt)
        self._step("settled", claimed)

    def _step(self, step: str, claimed: Claim) -> None:
        log.debug("step", step=step, attempt=claimed.attempt)
        self._observe(step, claimed)


def _goes_back(tx: Connection, claimed: Claim, error: GatewayError) -> bool:
    """Say whether a case goes back to who filed it: it may not go out as it is, and its region does not have it.

    Its consent is over, or a certificate in it: nobody here could do anything about that. The case is locked from here
    on, so that its region tells of it before this or finds it returned.
    """
    if claimed.kind != queue.SUBMISSION or error.stable_code not in GOES_BACK:
        return False
    locked(tx, claimed.submission_id)
    return number_at(tx, claimed.submission_id, claimed.region) is None


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
        claimed, f"{claimed.kind}.deliver", "done", answer.how, answer.forwarded_at, answer.answered_at, parts=parts
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
