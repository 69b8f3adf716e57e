"""The record of service (送达回证): that the collecting side handed a result over, to whom, when and how.

Owns: taking it once, after the decision, and the step DELIVERED that it is. Who took the result and how that is proved
stands sealed; the timeline has the way and the time. Leaves to the region: service that it does itself and reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import AwareDatetime
from sqlalchemy import Connection, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.sensitive import mask_name
from gateway.domain.submission import State, may_follow
from gateway.edge import Edge, Short, Text
from gateway.errors import Conflict, FieldProblem, InvalidRequest
from gateway.evidence import Exchange, record
from gateway.evidence.record import who_is
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import service_records, submission_events
from gateway.submissions.events import EventLog
from gateway.submissions.owned import owned, said_digest

ABLE = frozenset(state for state in State if may_follow(state, State.DELIVERED)) | {State.DELIVERED}
"""States of a case of which there is something to serve; of one that its region has served, the window may as well."""


class Service(Edge):
    """Service as a caller reports it (`POST /v1/submissions/{id}/service`)."""

    way: Literal["online", "post", "window"]
    recipient: Text
    """Who took it: the applicant, or somebody whom they sent."""
    at: AwareDatetime
    by: Short
    """Who handed it over, by staff number."""
    proof: Text
    """How it is proved: the number of a signed receipt, a tracking number."""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A record of service as the collecting side sees it; the recipient masked (domain rule P9)."""

    way: str
    recipient: str
    at: datetime
    by: str
    proof: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Served:
    """The answer to a record of service. `replayed` says that it was here before."""

    service: ServiceView
    replayed: bool


class ServiceRecords:
    """Takes records of service from the collecting side."""

    def __init__(self, *, store: Store, events: EventLog, sealer: Sealer, clock: Clock) -> None:
        self._store = store
        self._events = events
        self._sealer = sealer
        self._clock = clock

    async def serve(self, caller: Caller, submission_id: str, service: Service) -> Served:
        """Take the record. Raises NotFound, Conflict, InvalidRequest."""
        now = self._clock()
        return await self._store.write(lambda tx: self._serve(tx, caller, submission_id, service, now))

    def _serve(self, tx: Connection, caller: Caller, submission_id: str, service: Service, now: datetime) -> Served:
        case = owned(tx, self._sealer, caller, submission_id)
        said = service.model_dump(mode="json")
        digest = said_digest(said)
        earlier = service_shown(tx, self._sealer, submission_id)
        if earlier is not None:
            self._check_same(tx, submission_id, digest)
            return Served(earlier, replayed=True)
        self._check(tx, case, service, now)
        row = {
            "submission_id": submission_id,
            "digest": digest,
            "body": self._sealer.seal(orjson.dumps(said), _context(submission_id)),
            "recorded_at": now,
        }
        tx.execute(service_records.insert().values(row))
        told = {"way": service.way, "served_at": said["at"], "by": service.by}
        self._events.ours(tx, submission_id, State.DELIVERED, now, told)
        record(tx, _exchange(caller, submission_id, said, now), now=now)
        return Served(_view(said, now), replayed=False)

    def _check_same(self, tx: Connection, submission_id: str, digest: str) -> None:
        query = select(service_records.c.digest).where(service_records.c.submission_id == submission_id)
        if tx.execute(query).scalar_one() != digest:
            text = "The service of this result is on record already, and says something else."
            raise Conflict(text, code="service.recorded")

    def _check(self, tx: Connection, case: Mapping[str, Any], service: Service, now: datetime) -> None:
        if State(case["state"]) not in ABLE:
            raise Conflict("There is no decision that could be served.", code="service.too_early")
        if service.at > now:
            raise _wrong("lies in the future")
        if service.at < _decided_at(tx, case):
            raise _wrong("lies before the decision")


def _decided_at(tx: Connection, case: Mapping[str, Any]) -> datetime:
    """Return when the last step happened that there was something to serve from."""
    c = submission_events.c
    able = [str(state) for state in ABLE - {State.DELIVERED}]
    query = (
        select(c.occurred_at)
        .where(c.submission_id == case["id"], c.state.in_(able), c.kind == "step")
        .order_by(c.occurred_at)
        .limit(1)
    )
    at: datetime | None = tx.execute(query).scalar_one_or_none()
    return at or case["created_at"]


def _wrong(reason: str) -> InvalidRequest:
    return InvalidRequest("The time of service cannot be.", problems=[FieldProblem("at", reason, "time")])


def service_shown(tx: Connection, sealer: Sealer, submission_id: str) -> ServiceView | None:
    """Return the record of service of a case, if there is one."""
    said = service_said(tx, sealer, submission_id)
    return None if said is None else _view(said, said["recorded_at"])


def service_said(tx: Connection, sealer: Sealer, submission_id: str) -> dict[str, Any] | None:
    """Return what the record of service says, unmasked, and when it was recorded."""
    c = service_records.c
    row = tx.execute(select(c.body, c.recorded_at).where(c.submission_id == submission_id)).one_or_none()
    if row is None:
        return None
    return {**orjson.loads(sealer.open(row.body, _context(submission_id))), "recorded_at": row.recorded_at}


def _view(said: Mapping[str, Any], recorded_at: datetime) -> ServiceView:
    return ServiceView(
        said["way"], mask_name(said["recipient"]), datetime.fromisoformat(said["at"]), said["by"], said["proof"],
        recorded_at,
    )  # fmt: skip


def _context(submission_id: str) -> str:
    return f"service_records.body:{submission_id}"


def _exchange(caller: Caller, submission_id: str, said: Mapping[str, Any], now: datetime) -> Exchange:
    return Exchange(
        action="service.record",
        outcome="done",
        reason="recorded",
        who=who_is(caller),
        what={"case": submission_id, "way": said["way"]},
        purpose="service of the result",
        received_at=now,
        parts={"service": orjson.dumps(dict(said), option=orjson.OPT_SORT_KEYS)},
    )
