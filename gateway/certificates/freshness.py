"""How fresh what issuers say is, type by type (证照签发及时率): answers, how long they take, and what came late.

Owns: the figures by which an operator sees whether an issuer keeps the promise of 95 of 100 certificates in time, in
/metrics and, day by day, in the store. Nothing is written while somebody waits: a process counts in memory and writes
its rows over now and then, so that a crash loses a minute of counting. Leaves to `timeliness`: which certificate is
late. To `telemetry`: names and forms of the figures.
"""

from __future__ import annotations

import asyncio
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import structlog
from sqlalchemy import Connection, delete, select

from gateway.certificates.types import CertificateType
from gateway.domain.calendar import local_day
from gateway.domain.certificate import Standing
from gateway.errors import GatewayError
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import certificate_freshness
from gateway.telemetry import Metrics
from gateway.waiting import wait

log = structlog.get_logger("certificates")

TARGET = 0.95
"""What share of certificates is to be there on the day of issue that they bear (及时率)."""
KEPT = timedelta(days=400)
"""How long the counts of a day are kept: the year that a promise is measured over, and a month to look at it."""
WRITE_SECONDS = 60.0
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds by which answers are sorted; what takes longer counts as the last."""


@dataclass(frozen=True, slots=True)
class Issue:
    """A certificate that was found for the first time: of which region and type, and whether it was there in time."""

    region: str
    type_code: str
    timely: bool


@dataclass(slots=True)
class Tally:
    """What one issuer answered about one type on a day.

    `answers` counts certificates and answers without one; `not_found` and `unverifiable` are among them. `seconds` is
    how many answers took up to each of `BOUNDS`, and longer.
    """

    answers: int = 0
    not_found: int = 0
    unverifiable: int = 0
    timely: int = 0
    late: int = 0
    seconds: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, other: Mapping[str, Any]) -> None:
        """Add what another process or day has counted."""
        for name in ("answers", "not_found", "unverifiable", "timely", "late"):
            setattr(self, name, getattr(self, name) + other[name])
        self.seconds = [mine + theirs for mine, theirs in zip(self.seconds, other["seconds"], strict=True)]

    @property
    def not_found_share(self) -> float | None:
        """Return the share that was looked for in vain, of all about which the issuer said something."""
        heard = self.answers - self.unverifiable
        return self.not_found / heard if heard else None

    @property
    def timely_share(self) -> float | None:
        """Return the share of certificates that were there in time; None where none has been issued lately."""
        issued = self.timely + self.late
        return self.timely / issued if issued else None

    def within(self, share: float) -> float | None:
        """Return the seconds within which this share of the answers came, between two bounds in proportion."""
        wanted, before = share * sum(self.seconds), 0
        for (low, high), count in zip(pairwise((0.0, *BOUNDS, BOUNDS[-1])), self.seconds, strict=True):
            if count and before + count >= wanted:
                return round(low + (high - low) * (wanted - before) / count, 3)
            before += count
        return None


_Place = tuple[str, str, str]
"""Day, region, type."""
_KEY = ("day", "region", "type_code", "owner")


class Freshness:
    """Counts what issuers answer."""

    def __init__(self, metrics: Metrics, store: Store, clock: Clock) -> None:
        self._metrics = metrics
        self._store = store
        self._clock = clock
        self._owner = secrets.token_hex(8)
        self._tallies: dict[_Place, Tally] = {}
        self._changed: set[_Place] = set()

    def heard(
        self,
        kind: CertificateType,
        region: str,
        standings: Sequence[Standing],
        asked_at: datetime,
        answered_at: datetime | None,
    ) -> None:
        """Count one question: a standing per certificate, and the time until the answer where there was one."""
        tally = self._of(asked_at, region, kind.code)
        for standing in standings:
            self._metrics.certificate_answer(region, kind.code, standing)
            tally.answers += 1
            tally.not_found += standing is Standing.NOT_FOUND
            tally.unverifiable += standing is Standing.UNVERIFIABLE
        if answered_at is not None:
            seconds = (answered_at - asked_at).total_seconds()
            self._metrics.certificate_seconds(region, kind.code, seconds)
            tally.seconds[bisect_left(BOUNDS, seconds)] += 1

    def issued(self, issues: Iterable[Issue]) -> None:
        """Count certificates that were found for the first time, soon after their day of issue."""
        for issue in issues:
            self._metrics.certificate_issue(issue.region, issue.type_code, str(issue.timely).lower())
            tally = self._of(self._clock(), issue.region, issue.type_code)
            tally.timely += issue.timely
            tally.late += not issue.timely

    def _of(self, at: datetime, region: str, code: str) -> Tally:
        place = (local_day(at).isoformat(), region, code)
        self._changed.add(place)
        return self._tallies.setdefault(place, Tally())

    # --- in the store ------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Write now and then what was counted, and once more at the end."""
        while not stopping.is_set():
            await wait(stopping, WRITE_SECONDS)
            try:
                await self.write()
            except GatewayError as error:  # the store is away: the next time writes it all
                log.warning("freshness not written", code=error.stable_code, detail=error.detail)

    async def write(self) -> None:
        """Write this process's rows as they are now, and forget the days before. Raises GatewayError."""
        changed, self._changed = self._changed, set()
        rows = [
            {**dict(zip(_KEY, (*place, self._owner), strict=True)), "counts": asdict(self._tallies[place])}
            for place in sorted(changed)
        ]
        try:
            await self._store.write(lambda tx: _put(tx, rows))
        except BaseException:
            self._changed |= changed
            raise
        today = local_day(self._clock()).isoformat()
        self._tallies = {key: one for key, one in self._tallies.items() if key[0] >= today or key in self._changed}


def _put(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that hold all that their process has counted: again is the same."""
    for row in rows:
        written = insert_into(tx, certificate_freshness).values(row)
        tx.execute(written.on_conflict_do_update(index_elements=_KEY, set_={"counts": row["counts"]}))


def counted(tx: Connection, since: date) -> dict[tuple[str, str], Tally]:
    """Return what all processes have counted since a day, by type and region."""
    c = certificate_freshness.c
    found: dict[tuple[str, str], Tally] = {}
    query = select(c.type_code, c.region, c.counts).where(c.day >= since.isoformat()).order_by(c.type_code, c.region)
    for code, region, counts in tx.execute(query):
        found.setdefault((code, region), Tally()).add(counts)
    return found


def forget(tx: Connection, now: datetime) -> None:
    """Delete the counts of days that are over long ago."""
    tx.execute(delete(certificate_freshness).where(certificate_freshness.c.day < local_day(now - KEPT).isoformat()))
