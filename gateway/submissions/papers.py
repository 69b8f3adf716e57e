"""Paper that goes with a case (纸质材料交接): what was sent to the handling side, and that it arrived.

Owns: the list of one parcel, once under the caller's reference, and its receipt. Leaves to `gateway.web.window`: the
handover list (交接单) that both sides sign. The gateway carries no paper: it says what people say of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import AwareDatetime, Field
from sqlalchemy import Connection, RowMapping, and_, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.submission import ENDS, State
from gateway.edge import Edge, Short, Text
from gateway.errors import Conflict, FieldProblem, InvalidRequest, NotFound
from gateway.evidence import Exchange, record
from gateway.evidence.record import who_is
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import paper_lists
from gateway.submissions.events import EventLog
from gateway.submissions.owned import owned, require_owner, said_digest
from gateway.submissions.story import exact

SENT, RECEIVED = "paper.sent", "paper.received"
"""Facts: paper has left for the handling side; it is there."""


class PaperItem(Edge):
    """One line of the list."""

    code: Short | None = None
    """The material of the item that it is, if it is one."""
    name: Text
    copies: int = Field(1, ge=1, le=99, strict=True)
    original: bool
    """The original (原件) and no copy (复印件)."""


class PaperSent(Edge):
    """A parcel as a caller reports it (`POST /v1/submissions/{id}/papers`)."""

    reference: Short
    way: Literal["courier", "post", "hand"]
    carrier: Text | None = None
    tracking: Short | None = None
    recipient: Text
    """The office that it goes to."""
    at: AwareDatetime
    items: list[PaperItem] = Field(min_length=1, max_length=50)


class PaperReceived(Edge):
    """That a parcel is there (`POST /v1/submissions/{id}/papers/{reference}/received`)."""

    at: AwareDatetime
    by: Text
    """Who took it, or by what it is known: the carrier's record."""


@dataclass(frozen=True, slots=True)
class PaperView:
    """A parcel as the collecting side sees it."""

    reference: str
    way: str
    carrier: str | None
    tracking: str | None
    recipient: str
    items: list[dict[str, Any]]
    sent_at: datetime
    received_at: datetime | None
    received_by: str | None


@dataclass(frozen=True, slots=True)
class Noted:
    """The answer to a report. `replayed` says that it was here before."""

    paper: PaperView
    replayed: bool


class Papers:
    """Takes what the collecting side says of its parcels."""

    def __init__(self, *, store: Store, events: EventLog, sealer: Sealer, clock: Clock) -> None:
        self._store = store
        self._events = events
        self._sealer = sealer
        self._clock = clock

    async def sent(self, caller: Caller, submission_id: str, sent: PaperSent) -> Noted:
        """Take the list of a parcel. Raises NotFound, Conflict, InvalidRequest."""
        now = self._clock()
        return await self._store.write(lambda tx: self._sent(tx, caller, submission_id, sent, now))

    async def received(self, caller: Caller, submission_id: str, reference: str, received: PaperReceived) -> Noted:
        """Take that a parcel is there. Raises NotFound, Conflict, InvalidRequest."""
        now = self._clock()
        return await self._store.write(lambda tx: self._received(tx, caller, submission_id, reference, received, now))

    async def show(self, caller: Caller, submission_id: str) -> list[PaperView]:
        """Return the parcels of a case, the first one first. Raises NotFound."""

        def read(tx: Connection) -> list[PaperView]:
            require_owner(tx, self._sealer, caller, submission_id)
            return papers_shown(tx, self._sealer, submission_id)

        return await self._store.read(read)

    def _sent(self, tx: Connection, caller: Caller, submission_id: str, sent: PaperSent, now: datetime) -> Noted:
        case = owned(tx, self._sealer, caller, submission_id)
        said = sent.model_dump(mode="json")
        digest = said_digest(said)
        row = _row(tx, submission_id, sent.reference)
        if row is not None:
            if row["digest"] != digest:
                text = "This reference stands for another parcel."
                raise Conflict(text, code="paper.reference_conflict")
            return Noted(self._view(row), replayed=True)
        if State(case["state"]) in ENDS:
            raise Conflict("The case has ended: no paper goes with it any more.", code="paper.too_late")
        _check_time(sent.at, case["created_at"], now)
        values = {
            "submission_id": submission_id,
            "client_reference": sent.reference,
            "digest": digest,
            "body": self._sealer.seal(orjson.dumps(said), _context(submission_id, sent.reference, "body")),
            "sent_at": sent.at,
        }
        tx.execute(paper_lists.insert().values(values))
        told = {"reference": sent.reference, "way": sent.way, "items": len(sent.items)}
        self._events.note(tx, submission_id, SENT, now, told)
        record(tx, _exchange(caller, submission_id, "paper.send", said, now), now=now)
        return Noted(self._shown(tx, submission_id, sent.reference), replayed=False)

    def _received(
        self, tx: Connection, caller: Caller, submission_id: str, reference: str, received: PaperReceived, now: datetime
    ) -> Noted:
        owned(tx, self._sealer, caller, submission_id)
        row = _row(tx, submission_id, reference)
        if row is None:
            raise NotFound("There is no such parcel of this case.", code="paper.not_found")
        if row["received_at"] is not None:
            if row["received_at"] != received.at:
                raise Conflict("This parcel was received at another time, as it is on record.", code="paper.received")
            return Noted(self._view(row), replayed=True)
        _check_time(received.at, row["sent_at"], now)
        said = received.model_dump(mode="json")
        sealed = self._sealer.seal(orjson.dumps(said), _context(submission_id, reference, "received"))
        c = paper_lists.c
        mine = and_(c.submission_id == submission_id, c.client_reference == reference)
        tx.execute(update(paper_lists).where(mine).values(received=sealed, received_at=received.at))
        self._events.note(tx, submission_id, RECEIVED, now, {"reference": reference})
        record(tx, _exchange(caller, submission_id, "paper.receive", said, now), now=now)
        return Noted(self._shown(tx, submission_id, reference), replayed=False)

    def _shown(self, tx: Connection, submission_id: str, reference: str) -> PaperView:
        row = _row(tx, submission_id, reference)
        if row is None:
            raise LookupError(reference)
        return self._view(row)

    def _view(self, row: Mapping[Any, Any]) -> PaperView:
        return _view(row, self._sealer)


def papers_shown(tx: Connection, sealer: Sealer, submission_id: str) -> list[PaperView]:
    """Return the parcels of a case, the first one first."""
    c = paper_lists.c
    query = select(paper_lists).where(c.submission_id == submission_id).order_by(c.sent_at, c.client_reference)
    return [_view(row, sealer) for row in tx.execute(query).mappings()]


def papers_said(tx: Connection, sealer: Sealer, submission_id: str) -> list[dict[str, Any]]:
    """Return the same as plain values, for the file of the case."""
    return [
        {
            "reference": view.reference, "way": view.way, "carrier": view.carrier, "tracking": view.tracking,
            "recipient": view.recipient, "items": view.items, "sent_at": exact(view.sent_at),
            "received_at": None if view.received_at is None else exact(view.received_at),
            "received_by": view.received_by,
        }
        for view in papers_shown(tx, sealer, submission_id)
    ]  # fmt: skip


def _row(tx: Connection, submission_id: str, reference: str) -> RowMapping | None:
    c = paper_lists.c
    query = select(paper_lists).where(c.submission_id == submission_id, c.client_reference == reference)
    return tx.execute(query).mappings().one_or_none()


def _view(row: Mapping[Any, Any], sealer: Sealer) -> PaperView:
    case, reference = row["submission_id"], row["client_reference"]
    said = orjson.loads(sealer.open(row["body"], _context(case, reference, "body")))
    received: Mapping[str, Any] = {}
    if row["received"] is not None:
        received = orjson.loads(sealer.open(row["received"], _context(case, reference, "received")))
    return PaperView(
        reference, said["way"], said["carrier"], said["tracking"], said["recipient"], said["items"], row["sent_at"],
        row["received_at"], received.get("by"),
    )  # fmt: skip


def _context(submission_id: str, reference: str, column: str) -> str:
    return f"paper_lists.{column}:{submission_id}:{reference}"


def _check_time(at: datetime, earliest: datetime, now: datetime) -> None:
    if at > now or at < earliest:
        reason = "lies in the future" if at > now else "lies before what it follows"
        raise InvalidRequest("The time cannot be.", problems=[FieldProblem("at", reason, "time")])


def _exchange(caller: Caller, submission_id: str, action: str, said: Mapping[str, Any], now: datetime) -> Exchange:
    return Exchange(
        action=action,
        outcome="done",
        reason="recorded",
        who=who_is(caller),
        what={"case": submission_id},
        purpose="paper that goes with the case",
        received_at=now,
        parts={"list": orjson.dumps(dict(said), option=orjson.OPT_SORT_KEYS)},
    )
