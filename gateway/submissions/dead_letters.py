"""Deliveries that were given up, and what an operator may do about one: try again, settle, hand to another office.

Owns: the four ways out (retry, delivered after all, returned or dropped, reassigned), regions in maintenance, and that
each of them is evidence with the operator's name and reason. Leaves to `queue`: the row. To the commands: words.

A delivery is named by its case, or by the id of the message about a case that it carries. Everything here is part of
the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.item import Office
from gateway.domain.region import place_of
from gateway.domain.submission import State
from gateway.errors import Conflict, FieldProblem, InvalidRequest, NotFound
from gateway.evidence import Exchange, record
from gateway.storage.store import insert_into
from gateway.storage.tables import OUTSTANDING, deliveries, delivery_pauses, submissions
from gateway.submissions import queue
from gateway.submissions.carriers import message_arrived
from gateway.submissions.conflicts import LONGEST_NUMBER
from gateway.submissions.events import EventLog, remember_number
from gateway.submissions.parcels import number_at, open_body, seal_body
from gateway.submissions.parts import parts_of
from gateway.submissions.story import locked
from gateway.versions import UNPINNED

REASSIGNED, DROPPED = "delivery.reassigned", "message.dropped"
"""Facts: the case goes to another office now; a message about it will not be delivered."""
LONGEST_REASON = 128
"""Characters that a row of evidence has room for."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator orders: who, why, when."""

    operator: str
    reason: str
    now: datetime

    def __post_init__(self) -> None:
        """Refuse an order without a reason. Raises InvalidRequest."""
        if not 1 <= len(self.reason) <= LONGEST_REASON:
            problem = FieldProblem("reason", f"must have 1 to {LONGEST_REASON} characters", "length")
            raise InvalidRequest(f"The reason must have 1 to {LONGEST_REASON} characters.", problems=[problem])


class DeadLetters:
    """Carries out orders about deliveries that were given up."""

    def __init__(self, events: EventLog, sealer: Sealer) -> None:
        self._events = events
        self._sealer = sealer

    def settle(self, tx: Connection, name: str, number: str | None, order: Order) -> None:
        """Believe an operator who has asked the region: it has the case under this number, or has the message.

        Raises NotFound when there is no such dead delivery, InvalidRequest without a number for a case.
        """
        dead = find(tx, name)
        if dead["kind"] == queue.SUBMISSION:
            if not number or len(number) > LONGEST_NUMBER:
                problem = FieldProblem("number", f"is required, 1 to {LONGEST_NUMBER} characters", "missing")
                raise InvalidRequest("Which number has the region given the case?", problems=[problem])
            self._forwarded(tx, dead, number, order)
        else:
            detail = {"kind": dead["kind"], "message": dead["message_id"], "how": "operator"}
            message_arrived(tx, self._events, dead["submission_id"], detail, order.now)
        _end(tx, dead, "delivered", order.now)
        queue.wake_next(tx, dead["submission_id"], order.now)
        _note(tx, "delivery.settle", dead, order)

    def _forwarded(self, tx: Connection, dead: Mapping[str, Any], number: str, order: Order) -> None:
        remember_number(tx, dead["submission_id"], dead["region"], number, None)
        detail = {"number": number, "how": "operator", "attempt": dead["attempt"]}
        self._events.ours(tx, dead["submission_id"], State.FORWARDED, order.now, detail)

    def give_back(self, tx: Connection, name: str, order: Order) -> None:
        """Deliver no more: the case is returned to who filed it, or the message is dropped.

        Raises NotFound; Conflict for a case of which its region has told: it has the case, and ends it itself.
        """
        dead = find(tx, name)
        detail = {"code": dead["last_code"], "reason": order.reason, "by": "operator"}
        if dead["kind"] == queue.SUBMISSION:
            _check_unheard(tx, dead)
            self._events.ours(tx, dead["submission_id"], State.RETURNED, order.now, detail)
            queue.cancel_waiting(tx, dead["submission_id"], order.now)
        else:
            message = {"kind": dead["kind"], "message": dead["message_id"]}
            self._events.note(tx, dead["submission_id"], DROPPED, order.now, {**message, **detail})
        _end(tx, dead, "cancelled", order.now)
        _note(tx, "delivery.give_back", dead, order)

    def reassign(self, tx: Connection, submission_id: str, office: Office, order: Order) -> None:
        """Send a case that its region certainly does not have to another office with power over the item.

        Raises NotFound when the case has no dead delivery; Conflict when its region may have it, when the other office
        has a part of the same case, or when it lies in another legal territory than the first or than where the case
        was filed: then the applicant's consent, which names its recipient, is another one, and a new application is
        needed.
        """
        dead = find(tx, submission_id)
        case = locked(tx, submission_id)
        if case is None or dead["kind"] != queue.SUBMISSION:
            raise _no_such(submission_id)
        query = select(submissions.c.body, submissions.c.origin_code).where(submissions.c.id == submission_id)
        sealed, origin = tx.execute(query).one()
        _check_movable(dead, case, origin, office)
        _check_no_twin(tx, case, office)
        _check_unheard(tx, dead)
        body = {**open_body(self._sealer, submission_id, sealed), "handling": {"region": office.code}}
        moved = {
            "handling_region": office.region,
            "handling_code": office.code,
            "mapping_version": UNPINNED,
            "body": seal_body(self._sealer, submission_id, body),
        }
        tx.execute(update(submissions).where(submissions.c.id == submission_id).values(moved))
        again = {"region": office.region, "state": "pending", "due": order.now, "tried_since": order.now}
        again |= {"failures": 0, "sent_at": None}
        tx.execute(update(deliveries).where(deliveries.c.id == dead["id"]).values(again))
        queue.redirect_waiting(tx, submission_id, office.region)
        detail = {"from": dead["region"], "to": office.region, "reason": order.reason}
        self._events.note(tx, submission_id, REASSIGNED, order.now, detail)
        _note(tx, "delivery.reassign", dead, order, to=office.region)


def retry(tx: Connection, names: list[str], order: Order) -> list[str]:
    """Try dead deliveries again; each is asked about first. Return their regions.

    Raises NotFound that names those which are not dead, and then nothing was changed.
    """
    found = {name: _find(tx, name) for name in dict.fromkeys(names)}
    problems = [FieldProblem(name, "is no dead delivery") for name, row in found.items() if row is None]
    if problems:
        listed = ", ".join(problem.field for problem in problems)
        raise NotFound(f"Not dead, so nothing was changed: {listed}. `pearl deliveries list` shows what is.")
    dead = [row for row in found.values() if row is not None]
    for row in dead:
        locked(tx, row["submission_id"])  # whether another message is under way is decided under it
        queue.revive(tx, row["id"], order.now)
        _note(tx, "delivery.retry", row, order)
    return [str(row["region"]) for row in dead]


def item_of(tx: Connection, submission_id: str) -> tuple[str, str]:
    """Return the code of the item that a case is about, and of the part of it ("" for all). Raises NotFound."""
    c = submissions.c
    row = tx.execute(select(c.item_code, c.part_code).where(c.id == submission_id)).one_or_none()
    if row is None:
        raise _no_such(submission_id)
    return str(row.item_code), str(row.part_code or "")


def find(tx: Connection, name: str) -> dict[str, Any]:
    """Return the dead delivery of a case, or of a message. Raises NotFound."""
    row = _find(tx, name)
    if row is None:
        raise _no_such(name)
    return row


def _find(tx: Connection, name: str) -> dict[str, Any] | None:
    c = deliveries.c
    named = or_(c.message_id == name, and_(c.submission_id == name, c.kind == queue.SUBMISSION))
    row = tx.execute(select(deliveries).where(named, c.state == "dead").with_for_update()).mappings().first()
    return dict(row) if row else None


def _no_such(name: str) -> NotFound:
    return NotFound(f"Not dead, so nothing was changed: {name}. `pearl deliveries list` shows what is.")


def _check_movable(dead: Mapping[str, Any], case: Mapping[str, Any], origin: str, office: Office) -> None:
    if dead["sent_at"] is not None and dead["last_code"] not in queue.NOT_THERE:
        text = "The region may have the case. `pearl deliveries retry` asks it; settle the case when it has it."
        raise Conflict(text, code="delivery.may_be_there")
    if {place_of(code).zone for code in (origin, case["handling_code"])} != {place_of(office.code).zone}:
        text = "That office lies in another legal territory: the applicant must consent anew, in a new application."
        raise Conflict(text, code="delivery.other_territory")


def _check_no_twin(tx: Connection, case: Mapping[str, Any], office: Office) -> None:
    """Refuse to give an office, of a case that several handle alike (多地联办), what it has as a part of its own."""
    parts = parts_of(tx, case["parent_id"]) if case["parent_id"] else []
    mine = next((part["part_code"] for part in parts if part["id"] == case["id"]), None)
    for part in parts:
        if part["id"] != case["id"] and part["part_code"] == mine and part["handling_region"] == office.region:
            text = f"{office.region} has a part of this case already, {part['id']}: it would decide the same twice."
            raise Conflict(text, code="delivery.twin")


def _check_unheard(tx: Connection, dead: Mapping[str, Any]) -> None:
    """Refuse to take a case back from a region that has told of it under a number of its own."""
    number = number_at(tx, dead["submission_id"], dead["region"])
    if number is not None:
        text = f"The region has the case, as {number}: it has told of it. Settle it; the region ends it itself."
        raise Conflict(text, code="delivery.may_be_there")


def _end(tx: Connection, dead: Mapping[str, Any], state: str, now: datetime) -> None:
    values = {"state": state, "due": None, "settled_at": now}
    tx.execute(update(deliveries).where(deliveries.c.id == dead["id"]).values(values))


# --- maintenance ---------------------------------------------------------------------------------------------------


def pause(tx: Connection, region: str, order: Order) -> None:
    """Deliver nothing to a region until it is resumed; what is under way finishes.

    Raises Conflict when it is in maintenance already: since when, by whom and why; then nothing was written.
    """
    row = {"region": region, "reason": order.reason, "paused_by": order.operator, "since": order.now}
    paused = insert_into(tx, delivery_pauses).values(row).on_conflict_do_nothing()
    if tx.execute(paused).rowcount == 0:
        raise _paused_already(tx, region)
    _note(tx, "delivery.pause", {"region": region}, order)


def _paused_already(tx: Connection, region: str) -> Conflict:
    since = next((one for one in pauses(tx) if one["region"] == region), None)
    told = f" since {since['since']:%Y-%m-%d %H:%M} UTC, by {since['paused_by']}: {since['reason']}" if since else ""
    return Conflict(f"Region {region} is in maintenance already{told}.", code="delivery.paused_already")


def resume(tx: Connection, region: str, order: Order) -> None:
    """End a region's maintenance, from when it is waited for as if all were new. Raises NotFound when it is in none."""
    if tx.execute(delete(delivery_pauses).where(delivery_pauses.c.region == region)).rowcount == 0:
        raise NotFound(f"Region {region} is not in maintenance.")
    waiting = update(deliveries).where(deliveries.c.region == region, OUTSTANDING)
    tx.execute(waiting.values(tried_since=order.now))
    _note(tx, "delivery.resume", {"region": region}, order)


def pauses(tx: Connection) -> list[dict[str, Any]]:
    """Return the regions in maintenance, since when, by whom and why."""
    rows = tx.execute(select(delivery_pauses).order_by(delivery_pauses.c.region)).mappings()
    return [{str(name): value for name, value in row.items()} for row in rows]


def _note(tx: Connection, action: str, about: Mapping[str, Any], order: Order, **more: str) -> None:
    names = {"submission_id": "case", "region": "region", "message_id": "message"}
    exchange = Exchange(
        action=action,
        outcome="done",
        reason=order.reason,
        who={"operator": order.operator},
        what={**{ours: about[name] for name, ours in names.items() if about.get(name)}, **more},
        purpose="operation",
        received_at=order.now,
    )
    record(tx, exchange, now=order.now)
