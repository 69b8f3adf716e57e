"""What may be seen of a case: its state, who holds it, its timeline and its clocks; people masked.

Owns: reading cases back for the caller who filed them. A case of somebody else does not exist for this caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.sensitive import mask_name, mask_number
from gateway.domain.submission import State, holder
from gateway.errors import NotFound
from gateway.storage import Store
from gateway.storage.tables import deliveries, region_numbers, submission_events, submissions
from gateway.submissions.materials import owner_of
from gateway.submissions.parcels import open_body
from gateway.submissions.queue import SUBMISSION
from gateway.submissions.ratings import RatingView, ratings_shown
from gateway.submissions.story import open_detail
from gateway.submissions.timekeeping import ClockView, clocks_shown


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One event of a case. `source` is `gateway` or the region that said so; times are aware UTC.

    `kind` is `step`, or the name of a fact that moves nothing; `effect` is what a step does to the case by all that is
    known now; `case_state` is where the case stood once it was recorded; `hash` links it to the event before.
    """

    seq: int
    kind: str
    state: str
    effect: str
    case_state: str
    source: str
    occurred_at: datetime
    recorded_at: datetime
    detail: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class CaseSummary:
    """One line of a list of cases. The name is masked (domain rule P9)."""

    id: str
    item_code: str
    state: str
    place: str
    created_at: datetime
    applicant_name: str


@dataclass(frozen=True, slots=True)
class CaseView:
    """A case as its filer sees it. Name and number are masked; `delivery` is the state of its delivery row."""

    id: str
    reference: str
    item_code: str
    state: str
    holder: str
    place: str
    applicant_name: str
    document_number: str
    created_at: datetime
    updated_at: datetime
    delivery: Mapping[str, Any]
    region_numbers: Sequence[Mapping[str, str | None]]
    timeline: Sequence[TimelineEntry]
    clocks: Sequence[ClockView]
    ratings: Sequence[RatingView] = ()


class Cases:
    """Reads cases for those who filed them."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def show(self, caller: Caller, submission_id: str) -> CaseView:
        """Return one case with its timeline. Raises NotFound, also for a case of another filer."""
        return await self._store.read(lambda tx: self._show(tx, caller, submission_id))

    async def recent(self, caller: Caller, limit: int) -> list[CaseSummary]:
        """Return this filer's newest cases."""
        return await self._store.read(lambda tx: self._recent(tx, caller, limit))

    def _show(self, tx: Connection, caller: Caller, submission_id: str) -> CaseView:
        query = select(submissions).where(
            submissions.c.id == submission_id, submissions.c.client_id == owner_of(caller)
        )
        row = tx.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound("There is no such submission of yours.", code="submission.not_found")
        applicant = open_body(self._sealer, row["id"], row["body"])["applicant"]
        return CaseView(
            id=row["id"],
            reference=row["client_reference"],
            item_code=row["item_code"],
            state=row["state"],
            holder=holder(State(row["state"])),
            place=row["handling_region"],
            applicant_name=mask_name(applicant["name"]),
            document_number=mask_number(applicant["document"]["number"]),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            delivery=_delivery(tx, row["id"]),
            region_numbers=_numbers(tx, row["id"]),
            timeline=self._timeline(tx, row["id"]),
            clocks=clocks_shown(tx, row["id"], row["handling_code"]),
            ratings=ratings_shown(tx, self._sealer, row["id"]),
        )

    def _timeline(self, tx: Connection, submission_id: str) -> list[TimelineEntry]:
        c = submission_events.c
        columns = (
            c.seq, c.kind, c.state, c.effect, c.case_state, c.source, c.occurred_at, c.recorded_at, c.detail, c.hash,
        )  # fmt: skip
        rows = tx.execute(select(*columns).where(c.submission_id == submission_id).order_by(c.seq)).mappings()
        return [
            TimelineEntry(**{**row, "detail": open_detail(self._sealer, submission_id, row["seq"], row["detail"])})
            for row in rows
        ]

    def _recent(self, tx: Connection, caller: Caller, limit: int) -> list[CaseSummary]:
        query = (
            select(submissions)
            .where(submissions.c.client_id == owner_of(caller))
            .order_by(submissions.c.created_at.desc())
            .limit(limit)
        )
        return [self._summary(row) for row in tx.execute(query).mappings()]

    def _summary(self, row: RowMapping) -> CaseSummary:
        applicant = open_body(self._sealer, row["id"], row["body"])["applicant"]
        return CaseSummary(
            id=row["id"],
            item_code=row["item_code"],
            state=row["state"],
            place=row["handling_region"],
            created_at=row["created_at"],
            applicant_name=mask_name(applicant["name"]),
        )


def _delivery(tx: Connection, submission_id: str) -> dict[str, Any]:
    c = deliveries.c
    columns = (c.state, c.attempt, c.due, c.last_code, c.last_text)
    query = select(*columns).where(c.submission_id == submission_id, c.kind == SUBMISSION)
    row = tx.execute(query).mappings().one()
    return {"state": row["state"], "attempts": row["attempt"], "code": row["last_code"], "text": row["last_text"]}


def _numbers(tx: Connection, submission_id: str) -> list[Mapping[str, str | None]]:
    c = region_numbers.c
    query = select(c.region, c.number, c.short_number).where(c.submission_id == submission_id)
    return [{str(name): value for name, value in row.items()} for row in tx.execute(query).mappings()]
