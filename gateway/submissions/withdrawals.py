"""Withdrawals (撤回) and returns (退件): how a case ends undecided, by the applicant or the collecting window.

Owns: whether the case may have left already, which one conditional statement on its delivery decides, so that no
worker's claim comes between; and that a region which may have the case is asked, and ends it by its own word. Leaves
to `followups`: who may speak. To `messages`: carrying the wish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select, update

from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.joint import MODE as JOINT
from gateway.domain.submission import ENDS, State, leads_to
from gateway.edge import Edge, Long
from gateway.errors import Conflict, GatewayError
from gateway.evidence import Exchange, record
from gateway.evidence.record import who_is
from gateway.storage.tables import deliveries, region_numbers, submissions
from gateway.submissions import queue
from gateway.submissions.application import utc_text
from gateway.submissions.events import EventLog
from gateway.submissions.followups import Followups, Mine, Said, by_mandate, refuse
from gateway.submissions.materials import owner_of
from gateway.submissions.messages import Message, enqueue, keep, said_before
from gateway.submissions.owned import said_digest
from gateway.submissions.parts import parts_of
from gateway.submissions.story import locked

KIND = "withdrawal"
REQUESTED = "withdrawal.requested"
"""The fact that the applicant wishes to end a case that its region may have."""


class Withdrawal(Said):
    """One withdrawal (`POST /v1/submissions/{id}/withdrawal`)."""

    reason: Long
    """Why, in the applicant's words."""


class Return(Edge):
    """One return (`POST /v1/submissions/{id}/return`)."""

    reason: Long
    """Why the window gives the papers back."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer: where the case stands now. `asked`: the region may have it, so it is asked to end it."""

    submission_id: str
    state: str
    asked: bool
    replayed: bool
    message_id: str | None = None


class Withdrawals:
    """Ends cases before they are decided."""

    def __init__(self, desk: Followups, *, events: EventLog, nudge: Callable[[str], None]) -> None:
        self._desk = desk
        self._events = events
        self._nudge = nudge

    # --- withdrawal --------------------------------------------------------------------------------------------

    async def withdraw(self, caller: Caller, submission_id: str, said: Withdrawal) -> Ended:
        """End a case at once that never left; otherwise ask its region to.

        Raises NotFound, NotPermitted, InvalidRequest, NotOffered (`submission.on_paper`), Conflict
        (`submission.too_late`, `submission.withdrawal_under_way`).
        """
        now = self._desk.clock()
        try:
            ended = await self._desk.store.write(lambda tx: self._withdraw(tx, caller, submission_id, said, now))
        except GatewayError as error:
            await self._desk.note_refusal(caller, submission_id, "submission.withdraw", error, now)
            raise
        await self._told(ended)
        return ended

    def _withdraw(self, tx: Connection, caller: Caller, submission_id: str, said: Withdrawal, now: datetime) -> Ended:
        mine = self._desk.find(tx, caller, submission_id)
        self._desk.require_grant(caller, mine, now)
        refuse(list(self._desk.speaker_problems(caller, mine, said, local_day(now))))
        message = _message(caller, mine, said, now)
        earlier = said_before(tx, message)
        if earlier is not None:
            return _again(tx, mine, earlier)
        if mine.row["mode"] == JOINT:
            return self._withdraw_parts(tx, caller, mine, said, now)
        at_once = stop_before_it_leaves(tx, mine.id, now)  # before the case is locked, as workers do
        case = locked(tx, mine.id)
        earlier = said_before(tx, message)
        if case is None or earlier is not None:  # a twin of this request was faster
            return _again(tx, mine, earlier or "")
        self._desk.require_mandate(tx, mine, said, now)
        if at_once:
            self._record(tx, caller, mine, "submission.withdraw", "withdrawn", now, **by_mandate(said))
            return self._end(tx, mine, message, now)
        ended = self._ask(tx, mine, message, State(case["state"]), now)
        self._record(tx, caller, mine, "submission.withdraw", "asked", now, **by_mandate(said))
        return ended

    def _withdraw_parts(self, tx: Connection, caller: Caller, mine: Mine, said: Withdrawal, now: datetime) -> Ended:
        """Withdraw every part that has not ended; all of them or none.

        All deliveries are decided and all parts locked before anything is written: so no step of a part, which locks
        the part and then the whole, waits for us while we wait for it.
        """
        self._desk.require_mandate(tx, mine, said, now)
        ids = sorted(part["id"] for part in parts_of(tx, mine.id))
        at_once = {part_id: stop_before_it_leaves(tx, part_id, now) for part_id in ids}
        states = {part_id: State(case["state"]) for part_id in ids if (case := locked(tx, part_id)) is not None}
        if all(state in ENDS for state in states.values()):
            raise Conflict("Every part of the case has ended.", code="submission.too_late")
        asked = False
        for part_id, state in states.items():
            if state not in ENDS:
                part = self._desk.find(tx, caller, part_id)
                message = _message(caller, part, said, now)
                if at_once[part_id]:
                    self._end(tx, part, message, now)
                else:
                    asked = self._ask(tx, part, message, state, now).asked
        written = keep(tx, self._desk.sealer, _message(caller, mine, said, now), now)
        self._record(tx, caller, mine, "submission.withdraw", "parts", now, **by_mandate(said))
        return Ended(mine.id, _state(tx, mine.id), asked=asked, replayed=False, message_id=written.message_id)

    def _end(self, tx: Connection, mine: Mine, message: Message, now: datetime) -> Ended:
        written = keep(tx, self._desk.sealer, message, now)
        detail = {"message": written.message_id, "reason": message.body["reason"]}
        self._events.ours(tx, mine.id, State.WITHDRAWN, now, detail)
        queue.cancel_waiting(tx, mine.id, now)  # behind the lock: whoever was writing one has committed
        return Ended(mine.id, State.WITHDRAWN, asked=False, replayed=False, message_id=written.message_id)

    def _ask(self, tx: Connection, mine: Mine, message: Message, state: State, now: datetime) -> Ended:
        if not leads_to(state, State.WITHDRAWN):
            raise Conflict(f"The case is {state}; it can be withdrawn no more.", code="submission.too_late")
        if _under_way(tx, mine.id):
            raise Conflict("The region has been asked to end the case.", code="submission.withdrawal_under_way")
        self._desk.require_wire(mine, KIND, "withdraw at the window of the authority")
        written = enqueue(tx, self._desk.sealer, message, now)
        detail = {"message": written.message_id, "reason": message.body["reason"]}
        self._events.note(tx, mine.id, REQUESTED, now, detail)
        return Ended(mine.id, state, asked=True, replayed=False, message_id=written.message_id)

    # --- return ------------------------------------------------------------------------------------------------

    async def give_back(self, caller: Caller, submission_id: str, said: Return) -> Ended:
        """Give back what a window collected and what never left.

        Raises NotFound, NotPermitted, Conflict (`submission.not_collected`, `submission.too_late`).
        """
        now = self._desk.clock()
        try:
            return await self._desk.store.write(lambda tx: self._give_back(tx, caller, submission_id, said, now))
        except GatewayError as error:
            await self._desk.note_refusal(caller, submission_id, "submission.return", error, now)
            raise

    def _give_back(self, tx: Connection, caller: Caller, submission_id: str, said: Return, now: datetime) -> Ended:
        mine = self._desk.find(tx, caller, submission_id)
        self._desk.require_grant(caller, mine, now)
        if mine.body["mode"] != "collect" or caller.acting is not None:
            text = "Only a window gives back what it has collected; an applicant withdraws."
            raise Conflict(text, code="submission.not_collected")
        ids = sorted(part["id"] for part in parts_of(tx, mine.id)) or [mine.id]
        if not all(stop_before_it_leaves(tx, part_id, now) for part_id in ids):  # else all is undone
            return _returned_before(tx, mine)
        for part_id in ids:
            locked(tx, part_id)
        for part_id in ids:
            self._events.ours(tx, part_id, State.RETURNED, now, {"reason": said.reason, "by": "window"})
            queue.cancel_waiting(tx, part_id, now)
        self._record(tx, caller, mine, "submission.return", "returned", now)
        return Ended(mine.id, State.RETURNED, asked=False, replayed=False)

    # --- their parts -------------------------------------------------------------------------------------------

    async def _told(self, ended: Ended) -> None:
        if ended.asked and not ended.replayed:
            c = submissions.c
            query = select(c.handling_region).where(
                or_(c.id == ended.submission_id, c.parent_id == ended.submission_id)
            )
            for region in set(await self._desk.store.read(lambda tx: tx.execute(query).scalars().all())):
                self._nudge(region)

    def _record(
        self, tx: Connection, caller: Caller, mine: Mine, action: str, reason: str, now: datetime, **more: str
    ) -> None:
        exchange = Exchange(
            action=action,
            outcome="done",
            reason=reason,
            who=who_is(caller),
            what={"case": mine.id, "item": mine.row["item_code"], "region": mine.region, **more},
            purpose=mine.row["purpose_code"],
            received_at=now,
        )
        record(tx, exchange, now=self._desk.clock())


def stop_before_it_leaves(tx: Connection, submission_id: str, now: datetime) -> bool:
    """Cancel the delivery of a case that its region certainly does not have. Return False when it may have it.

    One statement decides: whatever a worker has claimed is not cancelled, and what is cancelled no worker claims. A
    delivery that was given up counts as well, when the region has refused it or nothing could be sent.
    """
    c = deliveries.c
    mine = update(deliveries).where(c.submission_id == submission_id, c.kind == queue.SUBMISSION, _never_left())
    values = {"state": "cancelled", "due": None, "settled_at": now}
    return tx.execute(mine.values(values)).rowcount == 1


def is_still_here(delivery: Mapping[str, Any]) -> bool:
    """Say of a case's delivery as it was read whether the case could be stopped; `stop_before_it_leaves` decides."""
    left = delivery["sent_at"] is not None
    given_up = delivery["state"] == "dead" and (not left or delivery["last_code"] in queue.NOT_THERE)
    return given_up or (delivery["state"] in ("pending", queue.WAITING) and not left)


def _never_left() -> ColumnElement[bool]:
    c = deliveries.c
    waiting = and_(c.state.in_(("pending", queue.WAITING)), c.sent_at.is_(None))
    n = region_numbers.c
    told_of = exists().where(n.submission_id == c.submission_id, n.region == c.region)  # whatever it has answered to us
    given_up = and_(c.state == "dead", or_(c.sent_at.is_(None), c.last_code.in_(queue.NOT_THERE)), ~told_of)
    return or_(waiting, given_up)


def _under_way(tx: Connection, submission_id: str) -> bool:
    c = deliveries.c
    settled = ("cancelled", "dead")
    query = select(c.id).where(c.submission_id == submission_id, c.kind == KIND, c.state.not_in(settled))
    return tx.execute(query.limit(1)).first() is not None


def _again(tx: Connection, mine: Mine, message_id: str) -> Ended:
    """Return the answer to a withdrawal that was here before."""
    d, state = deliveries.c, _state(tx, mine.id)
    asked = tx.execute(select(d.id).where(d.message_id == message_id)).first() is not None
    parts = mine.row["mode"] == JOINT and state not in ENDS
    return Ended(mine.id, state, asked=asked or parts, replayed=True, message_id=message_id)


def _state(tx: Connection, submission_id: str) -> str:
    return str(tx.execute(select(submissions.c.state).where(submissions.c.id == submission_id)).scalar_one())


def _returned_before(tx: Connection, mine: Mine) -> Ended:
    """Return the answer to a return that was here before. Raises Conflict when the case may have left."""
    ids, d, state = [part["id"] for part in parts_of(tx, mine.id)] or [mine.id], deliveries.c, _state(tx, mine.id)
    cancelled = select(d.id).where(d.submission_id.in_(ids), d.kind == queue.SUBMISSION, d.state == "cancelled")
    if state == State.RETURNED and tx.execute(cancelled).first() is not None:
        return Ended(mine.id, state, asked=False, replayed=True)
    text = f"The case is {state} and may have left; withdraw it instead, and its region will be asked."
    raise Conflict(text, code="submission.too_late")


def _message(caller: Caller, mine: Mine, said: Withdrawal, now: datetime) -> Message:
    digest = said_digest(said.model_dump(mode="json"))
    body = {"asked_at": utc_text(now.replace(microsecond=0)), "reason": said.reason}
    operator = {"operator": caller.operator} if caller.operator else {}
    return Message(
        mine.id, owner_of(caller), mine.region, KIND, said.reference, digest, {**body, **operator}
    )  # fmt: skip
