"""Deleting files: unfinished uploads, files that no case has, and those of cases that ended long enough ago.

Owns: what goes when, and that it goes wholly: a row is marked first, then the bytes are deleted, then the row says so.
A process that dies in between leaves a mark, and the next look goes on from there; deleting twice deletes once. The row
of a file that a case has stays, with its digest and without its name. Leaves to `background`: when to look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, update

from gateway.domain.submission import ENDS
from gateway.errors import Unavailable
from gateway.evidence import Exchange, record
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.tables import blob_parts, blobs, submissions
from gateway.submissions.upload_rows import ONCE
from gateway.telemetry import Metrics

log = structlog.get_logger("disposal")

BATCH = 100
"""Files of one look, and of one evidence row."""
LOST = timedelta(minutes=10)
"""After this time without a sign of life a file in one request is given up: its process has died, nobody can go on."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long files are kept: unfinished ones, those that no case has, and those of a case after its end."""

    unfinished: timedelta
    orphan: timedelta
    retention: timedelta


@dataclass(frozen=True, slots=True)
class _Gone:
    id: str
    case: str | None
    why: str
    size: int


class Disposal:
    """Deletes what is kept no longer."""

    def __init__(self, *, store: Store, blobs: Blobs, clock: Clock, terms: Terms, metrics: Metrics) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._terms = terms
        self._metrics = metrics

    async def tidy(self) -> None:
        """Mark what is due, and delete what is marked, a batch at a time until nothing is left. Raises GatewayError."""
        while await self._tidy_batch() == BATCH:
            pass

    async def _tidy_batch(self) -> int:
        """Go through one batch; return how many files are gone by it."""
        now = self._clock()
        marked = await self._store.write(lambda tx: self._mark(tx, now))
        gone = [one for one in marked if await self._deleted(one)]
        counted = await self._store.write(lambda tx: self._note(tx, gone, now)) if gone else {}
        for why, count in counted.items():
            self._metrics.materials_deleted(why, count)
        return len(gone)

    def _mark(self, tx: Connection, now: datetime) -> Sequence[_Gone]:
        c = blobs.c
        for why, due in self._due(now).items():
            batch = select(c.id).where(due).order_by(c.created_at).limit(BATCH)
            chosen = update(blobs).where(c.id.in_(batch), due)
            tx.execute(chosen.values(state="deleting", why=why, reserved=0))
        marked = select(c.id, c.case_id, c.why, c.size).where(c.state == "deleting").order_by(c.created_at).limit(BATCH)
        return [_Gone(row.id, row.case_id, row.why or "", row.size) for row in tx.execute(marked)]

    def _due(self, now: datetime) -> Mapping[str, ColumnElement[bool]]:
        """Return which files are kept no longer, by the reason."""
        c, terms = blobs.c, self._terms
        idle = or_(c.held_until.is_(None), c.held_until <= now)  # by a request that appends, or by a draft
        lost = and_(c.why == ONCE, c.held_until <= now - LOST)
        s = submissions.c
        long_ago = now - terms.retention
        ended = exists().where(s.id == c.case_id, s.state.in_(sorted(ENDS)), s.updated_at <= long_ago)
        return {
            "unfinished": and_(c.state == "open", or_(and_(c.created_at <= now - terms.unfinished, idle), lost)),
            "orphan": and_(c.state == "stored", c.case_id.is_(None), c.created_at <= now - terms.orphan, idle),
            # What is younger than the retention belongs to no case that ended before it: only old files are looked at.
            "retention": and_(c.state == "stored", c.created_at <= long_ago, ended),
        }

    async def _deleted(self, one: _Gone) -> bool:
        try:
            await self._blobs.drop_all(one.id)
        except Unavailable as error:
            log.warning("a file is not deleted yet", blob=one.id, code=error.stable_code, detail=error.detail)
            return False
        return True

    def _note(self, tx: Connection, gone: Sequence[_Gone], now: datetime) -> Mapping[str, int]:
        """Write that files are gone, once, and an evidence row for those that this process wrote down."""
        noted = [one for one in gone if _settle(tx, one)]
        if noted:
            record(tx, _exchange(noted, now), now=now)
        return Counter(one.why for one in noted)


def _settle(tx: Connection, one: _Gone) -> bool:
    """Have the row say that the bytes are gone; say whether this was the one that did."""
    tx.execute(delete(blob_parts).where(blob_parts.c.blob_id == one.id))
    marked = and_(blobs.c.id == one.id, blobs.c.state == "deleting")
    if one.case is None:
        return tx.execute(delete(blobs).where(marked)).rowcount > 0
    return tx.execute(update(blobs).where(marked).values(state="deleted", name=b"")).rowcount > 0


def _exchange(gone: Sequence[_Gone], now: datetime) -> Exchange:
    return Exchange(
        action="materials.delete",
        outcome="done",
        reason="kept no longer",
        who={"worker": "janitor"},
        what={
            "files": len(gone),
            "bytes": sum(one.size for one in gone),
            "why": dict(Counter(one.why for one in gone)),
            "cases": sorted({one.case for one in gone if one.case is not None}),
        },
        purpose="storage limitation",
        received_at=now,
        parts={},
    )


def figures(tx: Connection) -> Mapping[str, tuple[int, int]]:
    """Return how many files there are, and how many bytes they have, by state."""
    c = blobs.c
    query = select(c.state, func.count(), func.coalesce(func.sum(c.size), 0)).where(c.state != "deleted")
    return {row[0]: (int(row[1]), int(row[2])) for row in tx.execute(query.group_by(c.state))}
