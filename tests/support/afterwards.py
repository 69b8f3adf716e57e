"""A case that has come to its end, the region that decided it, and the services for what follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, cast

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.region import RegionNames, Zone, place_of
from gateway.domain.submission import State
from gateway.domain.working_days import Calendars, WorkingDays
from gateway.mapping.library import PackSet
from gateway.ports import Adapter, CaseMessage
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import submission_events, submissions
from gateway.submissions.complaints import Complaints
from gateway.submissions.events import EventLog, remember_number
from gateway.submissions.parcels import seal_body
from gateway.submissions.ratings import RatingGiven, Ratings
from gateway.submissions.story import open_detail
from gateway.telemetry import Metrics
from tests.support.cases import REGION, add_delivery, number
from tests.support.clock import ManualClock
from tests.support.intake import SamePack

AGENCY = Caller("agency", "广州市政务服务数据管理局", "11440100696927671X", "440100", frozenset({"submissions"}))
STRANGER = Caller("stranger", "别处", "11440100696927671X", "440100", frozenset({"submissions"}))
HOLIDAY = date(2026, 3, 9)
DAYS = WorkingDays(off=frozenset({HOLIDAY}), work=frozenset(), years=frozenset({2026, 2027}))
BODY = {
    "applicant": {"kind": "person", "name": "李芳", "document": {"type": "CN_RIC", "number": "11010519491231002X"}},
    "form": {"destination": "440100"},
    "materials": [],
}


@dataclass
class Messages:
    """A region's wire for messages; what is sent over it is of no interest here."""

    kinds: frozenset[str] = frozenset({"rating", "complaint"})

    async def send(self, message: CaseMessage) -> None:
        """Take it."""

    async def holds(self, _message: CaseMessage) -> bool:
        """Have it."""
        return True


def region_that(**capabilities: Any) -> Region:
    """Return the handling region with these capabilities and mappings that change nothing."""
    packs = cast("Any", {name: SamePack() for name in ("submission", "event", "rating", "complaint")})
    limits = cast("Any", None)  # nothing is called here
    names, place = RegionNames("佛山市", "佛山市", "Foshan", "Foshan"), place_of("440600")
    return Region(REGION, place, names, limits, {}, {}, Adapter(**capabilities), PackSet.of(REGION, packs))


@dataclass
class Finished:
    """One case, and the services around it. Not open before `open` has run."""

    store: Store
    sealer: Sealer
    clock: ManualClock
    region: Region = field(default_factory=lambda: region_that(messages=Messages()))
    nudged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Name the case and make the services."""
        self.case = number(1, self.clock())
        self.events = EventLog(self.sealer)
        self.metrics = Metrics(CollectorRegistry())
        self.regions = {REGION: self.region}
        self.ratings = self.ratings_over(self.store)
        self.complaints = Complaints(
            store=self.store, regions=self.regions, events=self.events, sealer=self.sealer, clock=self.clock,
            nudge=self.nudged.append,
        )  # fmt: skip

    def ratings_over(self, store: Store) -> Ratings:
        """Return the ratings of one replica."""
        return Ratings(
            store=store, regions=self.regions, events=self.events, sealer=self.sealer,
            calendars=lambda: Calendars("1", dict.fromkeys(Zone, DAYS)), clock=self.clock, metrics=self.metrics,
            nudge=self.nudged.append,
        )  # fmt: skip

    async def open(self, state: State = State.COMPLETED, *, there: bool = True, body: Mapping[str, Any] = BODY) -> None:
        """Write the case as it stands; `there`: its region has it."""

        def unit(tx: Connection) -> None:
            settled = {"state": "delivered", "due": None} if there else {}
            add_delivery(tx, self.case, self.clock(), client_id="agency", **settled)
            if there:
                remember_number(tx, self.case, REGION, "FS-1", None)
            sealed = seal_body(self.sealer, self.case, {"id": self.case, **body})
            tx.execute(update(submissions).values(body=sealed, state=state))
            first = self.sealer.seal(b"{}", f"submission_events.detail:{self.case}:1")
            tx.execute(update(submission_events).values(detail=first, state=state, case_state=state))

        await self.store.write(unit)

    async def facts(self, kinds: Iterable[str] = ()) -> list[tuple[str, dict[str, Any]]]:
        """Return what the timeline says after the first event: kind (state for a step) and detail."""
        c = submission_events.c
        query = select(c.seq, c.kind, c.state, c.detail).where(c.seq > 1).order_by(c.seq)
        rows = await self.store.read(lambda tx: tx.execute(query).all())
        told = [
            (row.state if row.kind == "step" else row.kind, open_detail(self.sealer, self.case, row.seq, row.detail))
            for row in rows
        ]
        return [each for each in told if not kinds or each[0] in kinds]


def rating(**more: Any) -> RatingGiven:
    """Return a good rating of the authority; `more` overrides."""
    said = {"reference": "R-1", "role": "handling", "score": 5, "channel": "hall", **more}
    return RatingGiven.model_validate(said)
