"""Complaints (投诉) about a case: forwarded to the region that handles it, under the number of the case.

Owns: taking a complaint once, sealed, from whoever filed the case. Leaves to `messages`: the delivery. To the region:
everything about the complaint itself. The timeline says that there is one, and never what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, StringConstraints
from sqlalchemy import Connection

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.edge import Edge, Short, Text, plain
from gateway.errors import Conflict, NotOffered
from gateway.evidence import Exchange, record
from gateway.evidence.record import who_is
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.submissions.application import utc_text
from gateway.submissions.events import EventLog
from gateway.submissions.materials import owner_of
from gateway.submissions.messages import Message, Queued, enqueue, try_out
from gateway.submissions.owned import number_there, owned, said_digest

MADE = "complaint.made"
"""The fact that somebody complained of a case."""
Words = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True), AfterValidator(plain)]


class Complaint(Edge):
    """A complaint as a caller hands it in (`POST /v1/submissions/{id}/complaints`)."""

    reference: Short
    text: Words
    contact: Text | None = None
    """Where the answer may be sent."""


@dataclass(frozen=True, slots=True)
class Complained:
    """The answer to a complaint. `replayed` says that it was here before."""

    message_id: str
    replayed: bool


class Complaints:
    """Takes complaints and queues them for the region."""

    def __init__(
        self,
        *,
        store: Store,
        regions: Mapping[str, Region],
        events: EventLog,
        sealer: Sealer,
        clock: Clock,
        nudge: Callable[[str], None],
    ) -> None:
        self._store = store
        self._regions = regions
        self._events = events
        self._sealer = sealer
        self._clock = clock
        self._nudge = nudge

    async def complain(self, caller: Caller, submission_id: str, complaint: Complaint) -> Complained:
        """Take a complaint. Raises NotFound, Conflict, NotOffered, MappingFailed."""
        now = self._clock()
        region, queued = await self._store.write(lambda tx: self._take(tx, caller, submission_id, complaint, now))
        if not queued.replayed:
            self._nudge(region)
        return Complained(queued.message_id, queued.replayed)

    def _take(
        self, tx: Connection, caller: Caller, submission_id: str, complaint: Complaint, now: datetime
    ) -> tuple[str, Queued]:
        case = owned(tx, self._sealer, caller, submission_id)
        number = number_there(tx, case)
        if number is None:
            raise Conflict("The region has not got this case yet.", code="complaint.too_early")
        region = self._taking(str(case["handling_region"]))
        said = complaint.model_dump(mode="json", exclude={"reference"}, exclude_none=True)
        body = {**said, "made_at": utc_text(now)}
        try_out(region.packs.now(), "complaint", submission_id, number, body)
        message = Message(
            submission_id, owner_of(caller), region.id, "complaint", complaint.reference, said_digest(said), body
        )
        queued = enqueue(tx, self._sealer, message, now)
        if not queued.replayed:
            self._events.note(tx, submission_id, MADE, now, {"message": queued.message_id})
            record(tx, _exchange(caller, submission_id, region.id, said, now), now=now)
        return region.id, queued

    def _taking(self, region_id: str) -> Region:
        region = self._regions.get(region_id)
        if region is None or not region.takes("complaint"):
            text = f"Region {region_id} takes no complaints from here; it has channels of its own."
            raise NotOffered(text, region=region_id)
        return region


def _exchange(caller: Caller, submission_id: str, region: str, said: Mapping[str, Any], now: datetime) -> Exchange:
    return Exchange(
        action="complaint.take",
        outcome="done",
        reason="taken",
        who=who_is(caller),
        what={"case": submission_id, "region": region},
        purpose="complaint about a case",
        received_at=now,
        parts={"complaint": orjson.dumps(dict(said), option=orjson.OPT_SORT_KEYS)},
    )
