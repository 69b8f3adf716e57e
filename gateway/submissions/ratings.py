"""Ratings (好差评): how content somebody is with the window and with the authority, once each, after the case ended.

Owns: taking a rating once for each role, the correction that a bad one opens, and passing that of the authority on to
its region; a copy of both stays here for the collecting side. A region that takes no ratings leaves them all here.
Leaves to `messages`: the delivery. To `gateway.domain.rating`: indicators and days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal

import orjson
from pydantic import AwareDatetime, Field
from sqlalchemy import Connection, RowMapping, case, func, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.calendar import LOCAL, local_day
from gateway.domain.caller import Caller
from gateway.domain.rating import CHANNELS, correct_on, is_bad
from gateway.domain.submission import ENDS, State
from gateway.domain.working_days import Calendars
from gateway.edge import Edge, Long, Short
from gateway.errors import Conflict, FieldProblem, InvalidRequest
from gateway.evidence import Exchange, record
from gateway.evidence.record import who_is
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import OPEN_CORRECTION, deliveries, ratings
from gateway.submissions.application import utc_text
from gateway.submissions.events import EventLog
from gateway.submissions.materials import owner_of
from gateway.submissions.messages import Message, enqueue, try_out
from gateway.submissions.owned import number_there, owned, said_digest
from gateway.telemetry import Metrics

GIVEN, BAD, CORRECTED = "rating.given", "rating.bad", "rating.corrected"
"""Facts: a case was rated; so badly that it must be put right; that was done, and the rater was answered."""
KEPT = "kept_by_collecting_side"
"""The remark with a rating of the authority whose region takes no ratings over its wire."""
HANDLING = "handling"


class RatingGiven(Edge):
    """A rating as a caller hands it in (`POST /v1/submissions/{id}/ratings`)."""

    reference: Short
    """The caller's own number for it: the same rating again under it is the same."""
    role: Literal["collecting", "handling"]
    score: int = Field(ge=1, le=5, strict=True)
    indicators: list[Short] = Field(default_factory=list, max_length=20)
    words: Long | None = None
    channel: Literal["pc", "mobile", "qr", "hall", "sms", "kiosk", "hotline"]
    by_default: bool = False
    """Nobody said anything, and the term for it has passed."""


class Correction(Edge):
    """What was done about a bad rating (`POST /v1/submissions/{id}/ratings/{role}/correction`)."""

    at: AwareDatetime
    """When the rater was answered."""
    words: Long
    """What was put right, and what the rater was told."""


@dataclass(frozen=True, slots=True)
class RatingView:
    """A rating as the collecting side sees it.

    `delivery` is the state of its way to the handling region, None for one that stays here; `correct_by` the last local
    day of the correction that a bad one opened; `remark` a word of docs/api.md.
    """

    reference: str
    role: str
    score: int
    indicators: list[str]
    words: str | None
    channel: str
    by_default: bool
    rated_at: datetime
    delivery: str | None
    correct_by: date | None
    remark: str | None
    corrected_at: datetime | None
    correction: str | None


@dataclass(frozen=True, slots=True)
class Rated:
    """The answer to a rating. `replayed` says that it was here before."""

    rating: RatingView
    replayed: bool


class Ratings:
    """Takes ratings from agencies and windows for those whose case it was."""

    def __init__(
        self,
        *,
        store: Store,
        regions: Mapping[str, Region],
        events: EventLog,
        sealer: Sealer,
        calendars: Callable[[], Calendars],
        clock: Clock,
        metrics: Metrics,
        nudge: Callable[[str], None],
    ) -> None:
        self._store = store
        self._regions = regions
        self._events = events
        self._sealer = sealer
        self._calendars = calendars
        self._clock = clock
        self._metrics = metrics
        self._nudge = nudge

    async def rate(self, caller: Caller, submission_id: str, given: RatingGiven) -> Rated:
        """Take a rating. Raises InvalidRequest, NotFound, Conflict, MappingFailed."""
        _check_indicators(given)
        now = self._clock()
        region, rated = await self._store.write(lambda tx: self._rate(tx, caller, submission_id, given, now))
        if not rated.replayed:
            self._metrics.rating(region, given.role, given.score)
            self._nudge(region)
        return rated

    async def correct(self, caller: Caller, submission_id: str, role: str, correction: Correction) -> Rated:
        """Take what was done about a bad rating. Raises NotFound, Conflict, InvalidRequest."""
        now = self._clock()
        return await self._store.write(lambda tx: self._correct(tx, caller, submission_id, role, correction, now))

    def _correct(
        self, tx: Connection, caller: Caller, submission_id: str, role: str, correction: Correction, now: datetime
    ) -> Rated:
        owned(tx, self._sealer, caller, submission_id)
        view = next((v for v in ratings_shown(tx, self._sealer, submission_id) if v.role == role), None)
        if view is None or view.correct_by is None:
            raise Conflict("There is no bad rating of this role to put right.", code="rating.not_bad")
        if view.corrected_at is not None:
            if (view.corrected_at, view.correction) != (correction.at, correction.words):
                raise Conflict("What was done about this rating is on record already.", code="rating.corrected")
            return Rated(view, replayed=True)
        if not view.rated_at <= correction.at <= now:
            reason = "must lie between the rating and now"
            raise InvalidRequest("The time cannot be.", problems=[FieldProblem("at", reason, "time")])
        sealed = self._sealer.seal(correction.words.encode(), _context(submission_id, role, "corrected"))
        c = ratings.c
        mine = (c.submission_id == submission_id, c.role == role)
        tx.execute(update(ratings).where(*mine).values(corrected=sealed, corrected_at=correction.at))
        late = local_day(correction.at) > view.correct_by
        self._events.note(tx, submission_id, CORRECTED, now, {"role": role, "late": late})
        record(tx, _corrected(caller, submission_id, role, correction, now), now=now)
        return Rated(self._view(tx, submission_id, role), replayed=False)

    def _rate(
        self, tx: Connection, caller: Caller, submission_id: str, given: RatingGiven, now: datetime
    ) -> tuple[str, Rated]:
        case = owned(tx, self._sealer, caller, submission_id)
        region = str(case["handling_region"])
        digest = said_digest(given.model_dump(mode="json"))
        if self._given_before(tx, submission_id, given, digest):
            return region, Rated(self._view(tx, submission_id, given.role), replayed=True)
        number = number_there(tx, case)
        _check_ended(case, given, number)
        until = self._correct_until(caller, case, given, now)
        message = self._forward(tx, caller, case, given, number, now)
        row = {
            "submission_id": submission_id,
            "role": given.role,
            "client_reference": given.reference,
            "digest": digest,
            "score": given.score,
            "body": self._sealer.seal(orjson.dumps(_body(given)), _context(submission_id, given.role)),
            "message_id": message,
            "correct_until": until,
            "rated_at": now,
            "region": region,
        }
        tx.execute(ratings.insert().values(row))
        view = self._view(tx, submission_id, given.role)
        self._tell(tx, submission_id, view, now)
        record(tx, _exchange(caller, submission_id, region, given, now), now=now)
        return region, Rated(view, replayed=False)

    def _given_before(self, tx: Connection, submission_id: str, given: RatingGiven, digest: str) -> bool:
        """Say whether this very rating is on record. Raises Conflict when another one of this role is."""
        c = ratings.c
        query = select(c.client_reference, c.digest).where(c.submission_id == submission_id, c.role == given.role)
        row = tx.execute(query).one_or_none()
        if row is None:
            return False
        if (row.client_reference, row.digest) != (given.reference, digest):
            problem = FieldProblem("role", "was rated already; each role is rated once", "rated")
            text = f"The {given.role} side of this case was rated already."
            raise Conflict(text, problems=[problem], code="rating.given")
        return True

    def _correct_until(
        self, caller: Caller, case: Mapping[str, Any], given: RatingGiven, now: datetime
    ) -> datetime | None:
        """Return the end of the last day to put a bad rating right, by the working days of who was rated."""
        if not is_bad(given.score):
            return None
        code = case["handling_code"] if given.role == HANDLING else caller.origin_code
        last = correct_on(local_day(now), self._calendars().of(code))
        return datetime.combine(last + timedelta(days=1), time(), LOCAL)

    def _forward(
        self,
        tx: Connection,
        caller: Caller,
        case: Mapping[str, Any],
        given: RatingGiven,
        number: str | None,
        now: datetime,
    ) -> str | None:
        """Queue the rating of the authority for its region, where that takes ratings; return the message's id."""
        region = self._regions.get(str(case["handling_region"]))
        if given.role != HANDLING or region is None or not region.takes("rating"):
            return None
        body = {**_body(given), "item": {"code": case["item_code"]}, "role": given.role, "score": given.score}
        body = {name: value for name, value in {**body, "rated_at": utc_text(now)}.items() if value is not None}
        try_out(region.packs.now(), "rating", case["id"], number, body)
        digest = said_digest(given.model_dump(mode="json"))
        message = Message(case["id"], owner_of(caller), region.id, "rating", given.reference, digest, body)
        return enqueue(tx, self._sealer, message, now).message_id

    def _tell(self, tx: Connection, submission_id: str, view: RatingView, now: datetime) -> None:
        """Write the facts of the timeline; what the rater wrote is in none of them."""
        said = {"role": view.role, "score": view.score, "channel": view.channel, "by_default": view.by_default}
        remark = {"remark": view.remark} if view.remark else {}
        self._events.note(tx, submission_id, GIVEN, now, {**said, **remark})
        if view.correct_by is not None:
            due = {"role": view.role, "score": view.score, "due_on": view.correct_by.isoformat()}
            self._events.note(tx, submission_id, BAD, now, due)

    def _view(self, tx: Connection, submission_id: str, role: str) -> RatingView:
        return next(view for view in ratings_shown(tx, self._sealer, submission_id) if view.role == role)


def ratings_shown(tx: Connection, sealer: Sealer, submission_id: str) -> list[RatingView]:
    """Return the ratings of a case, the first one first."""
    c = ratings.c
    query = (
        select(ratings, deliveries.c.state.label("delivery"))
        .outerjoin(deliveries, deliveries.c.message_id == c.message_id)
        .where(c.submission_id == submission_id)
        .order_by(c.rated_at, c.role)
    )
    return [_shown(row, sealer) for row in tx.execute(query).mappings()]


def _shown(row: RowMapping, sealer: Sealer) -> RatingView:
    body = orjson.loads(sealer.open(row["body"], _context(row["submission_id"], row["role"])))
    until = row["correct_until"]
    corrected = _context(row["submission_id"], row["role"], "corrected")
    return RatingView(
        reference=row["client_reference"],
        role=row["role"],
        score=row["score"],
        rated_at=row["rated_at"],
        delivery=row["delivery"],
        correct_by=None if until is None else local_day(until - timedelta(microseconds=1)),
        remark=KEPT if row["role"] == HANDLING and row["message_id"] is None else None,
        corrected_at=row["corrected_at"],
        correction=None if row["corrected"] is None else sealer.open(row["corrected"], corrected).decode(),
        **body,
    )


def _body(given: RatingGiven) -> dict[str, Any]:
    return {
        "indicators": list(given.indicators),
        "words": given.words,
        "channel": given.channel,
        "by_default": given.by_default,
    }


def _context(submission_id: str, role: str, column: str = "body") -> str:
    return f"ratings.{column}:{submission_id}:{role}"


def figures(tx: Connection, now: datetime) -> dict[tuple[str, str, str], int]:
    """Return how many bad ratings wait to be put right, by region, role and `open` or `overdue`."""
    c = ratings.c
    state = case((c.correct_until <= now, "overdue"), else_="open")
    query = select(c.region, c.role, state, func.count()).where(OPEN_CORRECTION).group_by(c.region, c.role, state)
    return {(region, role, word): count for region, role, word, count in tx.execute(query)}


def _check_indicators(given: RatingGiven) -> None:
    """Refuse indicators that are not those of the channel: the list is national, and nobody adds to it."""
    known = CHANNELS[given.channel]
    problems = [
        FieldProblem(f"indicators.{at}", f"is none of {given.channel}: {', '.join(known)}", "unknown_indicator")
        for at, indicator in enumerate(given.indicators)
        if indicator not in known
    ]
    if len(set(given.indicators)) < len(given.indicators):
        problems.append(FieldProblem("indicators", "names one more than once", "repeated"))
    if problems:
        raise InvalidRequest("Some indicators are not valid; see `problems`.", problems=problems)


def _check_ended(case: Mapping[str, Any], given: RatingGiven, number: str | None) -> None:
    if State(case["state"]) not in ENDS:
        raise Conflict("A case is rated once it has ended.", code="rating.too_early")
    if given.role == HANDLING and number is None:
        raise Conflict("The authority never had this case: there is nothing of its to rate.", code="rating.not_handled")


def _exchange(caller: Caller, submission_id: str, region: str, given: RatingGiven, now: datetime) -> Exchange:
    return Exchange(
        action="rating.take",
        outcome="done",
        reason="taken",
        who=who_is(caller),
        what={"case": submission_id, "region": region, "role": given.role, "score": given.score},
        purpose="rating of a finished case",
        received_at=now,
        parts={"rating": orjson.dumps(given.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)},
    )


def _corrected(caller: Caller, submission_id: str, role: str, correction: Correction, now: datetime) -> Exchange:
    return Exchange(
        action="rating.correct",
        outcome="done",
        reason="recorded",
        who=who_is(caller),
        what={"case": submission_id, "role": role},
        purpose="correction after a bad rating",
        received_at=now,
        parts={"correction": orjson.dumps(correction.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)},
    )
