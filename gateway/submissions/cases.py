"""What may be seen of a case: its state, who holds it, its timeline and its clocks; people masked.

Owns: reading cases back for the caller who filed them. A case of somebody else does not exist for this caller.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.clocks import ClockName
from gateway.domain.identifiers import case_number_problem
from gateway.domain.item import Item
from gateway.domain.joint import MODE as JOINT
from gateway.domain.sensitive import mask_name, mask_number
from gateway.domain.submission import ENDS, State, holder, leads_to
from gateway.errors import NotFound
from gateway.storage import Store
from gateway.storage.tables import case_messages, deliveries, region_numbers, submission_events, submissions
from gateway.submissions import queue, recognised
from gateway.submissions.materials import owner_of
from gateway.submissions.owned import is_theirs
from gateway.submissions.papers import PaperView, papers_shown
from gateway.submissions.parcels import open_body
from gateway.submissions.parts import is_waiting, parts_of
from gateway.submissions.ratings import RatingView, ratings_shown
from gateway.submissions.service import ServiceView, service_shown
from gateway.submissions.story import Story, open_detail, tell
from gateway.submissions.timekeeping import ClockView, clocks_shown
from gateway.submissions.wanted import NOTICE, Wanted, what_is_asked
from gateway.submissions.withdrawals import is_still_here


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
    """A case as its filer sees it. Name and number are masked.

    `delivery` is the state of its delivery row; None for one whose `parts` several offices handle. `whole` is the case
    that this one is a part of.
    """

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
    delivery: Mapping[str, Any] | None
    region_numbers: Sequence[Mapping[str, str | None]]
    timeline: Sequence[TimelineEntry]
    clocks: Sequence[ClockView]
    supplement: SupplementView | None
    special: LimitView | None
    extension: LimitView | None
    messages: Sequence[Mapping[str, Any]]
    can: Sequence[str]
    ratings: Sequence[RatingView] = ()
    service: ServiceView | None = None
    papers: Sequence[PaperView] = ()
    parts: Sequence[PartView] = ()
    whole: str | None = None
    certified: Sequence[recognised.CertifiedView] = ()


@dataclass(frozen=True, slots=True)
class PartView:
    """One part of a case that several offices handle. `waiting`: others must be done before it goes out."""

    id: str
    part: str | None
    place: str
    state: str
    holder: str
    waiting: bool


@dataclass(frozen=True, slots=True)
class SupplementView:
    """What the handling region waits for: why, until when, and of each material whether it was given.

    `why` is `notice` or `tolerance`. `on_paper`: its wire takes no supplements. With no materials, any will do.
    """

    why: str
    due_on: date | None
    reason: str | None
    basis: str | None
    materials: Sequence[Wanted]
    complete: bool
    on_paper: bool


@dataclass(frozen=True, slots=True)
class LimitView:
    """How long a special procedure or an extension lasts, in the region's words: days, unit `G` or `Z`, last day."""

    since: datetime
    days: int | None
    unit: str | None
    due_on: str | None
    reason: str | None


class Cases:
    """Reads cases for those who filed them. `carries` gives the kinds of messages that a region's wire takes."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        items: Mapping[str, Item] | None = None,
        carries: Callable[[str], Container[str]] = lambda _region: (),
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._items = items or {}
        self._carries = carries

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
        is_number = case_number_problem(submission_id) is None  # PostgreSQL is asked for no text that it cannot hold
        row = tx.execute(query).mappings().one_or_none() if is_number else None
        if row is None:
            raise NotFound("There is no such submission of yours.", code="submission.not_found")
        body = open_body(self._sealer, row["id"], row["body"])
        if caller.acting is not None and not is_theirs(caller.acting, body):
            raise NotFound("There is no such submission of yours.", code="submission.not_found")
        applicant = body["applicant"]
        story, _ = tell(tx, {str(name): value for name, value in row.items()}, self._sealer)
        clocks = clocks_shown(tx, row["id"], row["handling_code"])
        delivery, messages = _delivery(tx, row["id"]), _messages(tx, row["id"])
        supplement = self._supplement(tx, story, row, body, clocks)
        parts = [_part(part) for part in parts_of(tx, row["id"])] if row["mode"] == JOINT else []
        can = self._can_of_parts(tx, row, parts) if parts else self._can(row, delivery, messages, supplement)
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
            delivery=None if delivery is None else _shown(delivery),
            region_numbers=_numbers(tx, row["id"]),
            timeline=self._timeline(tx, row["id"]),
            clocks=clocks,
            supplement=supplement,
            special=_limit(story, State.SPECIAL),
            extension=_limit(story, State.EXTENDED),
            messages=messages,
            can=list(can),
            ratings=ratings_shown(tx, self._sealer, row["id"]),
            service=service_shown(tx, self._sealer, row["id"]),
            papers=papers_shown(tx, self._sealer, row["id"]),
            parts=parts,
            whole=row["parent_id"],
            certified=recognised.shown(tx, row["id"]) if body.get("certified") else (),
        )

    def _supplement(
        self, tx: Connection, story: Story, row: RowMapping, body: Mapping[str, Any], clocks: Sequence[ClockView]
    ) -> SupplementView | None:
        asked = what_is_asked(tx, story, self._items.get(row["item_code"]), body)
        if asked is None:
            return None
        name = ClockName.SUPPLEMENT if asked.why == NOTICE else ClockName.TOLERANCE
        return SupplementView(
            why=asked.why,
            due_on=next((clock.due_on for clock in clocks if clock.name == name), None),
            reason=asked.reason,
            basis=asked.basis,
            materials=asked.materials,
            complete=asked.named and not asked.missing(),
            on_paper="supplement" not in self._carries(row["handling_region"]),
        )

    def _can(
        self,
        row: RowMapping,
        delivery: Mapping[str, Any] | None,
        messages: Sequence[Mapping[str, Any]],
        supplement: SupplementView | None,
    ) -> Iterator[str]:
        """Yield what the filer can do about the case now."""
        here, carried = delivery is not None and is_still_here(delivery), self._carries(row["handling_region"])
        asked = any(m["kind"] == "withdrawal" and m["state"] not in {"cancelled", "dead"} for m in messages)
        if supplement is not None and not supplement.on_paper:
            yield "supplement"
        if here or ("withdrawal" in carried and not asked and leads_to(State(row["state"]), State.WITHDRAWN)):
            yield "withdrawal"
        if here and row["mode"] == "collect":
            yield "return"

    def _can_of_parts(self, tx: Connection, row: RowMapping, parts: Sequence[PartView]) -> Iterator[str]:
        """Yield what can be done about all the parts at once."""
        open_ = [part for part in parts if State(part.state) not in ENDS]
        found = [_delivery(tx, part.id) for part in parts]
        kept = [delivery is not None and is_still_here(delivery) for delivery in found]
        ready = [leads_to(State(part.state), State.WITHDRAWN) for part in open_]
        if open_ and all(ready):
            yield "withdrawal"
        if all(kept) and open_body(self._sealer, row["id"], row["body"])["mode"] == "collect":
            yield "return"

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
            .where(submissions.c.client_id == owner_of(caller), submissions.c.parent_id.is_(None))
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


def _part(row: Mapping[str, Any]) -> PartView:
    state = State(row["state"])
    return PartView(
        row["id"], row["part_code"] or None, row["handling_region"], state, holder(state), is_waiting(row)
    )  # fmt: skip


def _delivery(tx: Connection, submission_id: str) -> dict[str, Any] | None:
    c = deliveries.c
    columns = (c.state, c.attempt, c.sent_at, c.last_code, c.last_text)
    query = select(*columns).where(c.submission_id == submission_id, c.kind == queue.SUBMISSION)
    row = tx.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"state": row["state"], "attempts": row["attempt"], "code": row["last_code"], "text": row["last_text"]}


def _messages(tx: Connection, submission_id: str) -> list[dict[str, Any]]:
    """Return what was said of the case later, the oldest first. What no region was to be told has no state."""
    c, d = case_messages.c, deliveries.c
    columns = (c.id, c.kind, c.client_reference.label("reference"), c.created_at, d.state)
    joined = select(*columns).outerjoin(deliveries, d.message_id == c.id).where(c.submission_id == submission_id)
    rows = tx.execute(joined.order_by(c.created_at, c.id)).mappings()
    return [{str(name): value for name, value in row.items()} for row in rows]


def _limit(story: Story, state: State) -> LimitView | None:
    """Return what the last step into that state says of its length; None when there was none."""
    step = next((report for report in reversed(story.standing.steps) if report.state is state), None)
    if step is None:
        return None
    said = story.detail(step.key)
    limit = said.get("limit") or {}
    return LimitView(step.at, limit.get("days"), limit.get("unit"), said.get("due_on"), said.get("reason"))


def _numbers(tx: Connection, submission_id: str) -> list[Mapping[str, str | None]]:
    c = region_numbers.c
    query = select(c.region, c.number, c.short_number).where(c.submission_id == submission_id)
    return [{str(name): value for name, value in row.items()} for row in tx.execute(query).mappings()]
