"""How fast deliveries are claimed and settled, beside pgqueuer's jobs, and whether that stays so as the tables grow.

Owns: our queue on either engine. Once with nothing behind it: `queue.claim` in batches, `queue.settle` one by one as
attempts do, each a durable transaction of its own. Once with the whole attempt behind it (`Attempts.make` against a
region that lives in memory): packing, the note that it leaves, the receipt, events, clocks, evidence.
pgqueuer gets jobs with the same 4 KB. Once they are dequeued in the same batches and acknowledged one by one, each
durable before the next step, which is what ours promises. Once its own QueueManager runs them, which acknowledges in
batches, up to a tenth of a second after the work was done: a crash then does again what was done.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import asyncpg
from pgqueuer import Job, Queries, QueueManager
from pgqueuer.domain.types import QueueEntrypoint, QueueExecutionMode, QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter
from prometheus_client import CollectorRegistry

from bench.submissions.cases import FORM_BYTES, drop_indexes, make_indexes, multiply
from gateway.calendars import load_calendars
from gateway.crypto.at_rest import References, Sealer
from gateway.mapping.library import PackSet
from gateway.ports import Adapter, RegionDocument, SubmissionOrder
from gateway.regions import Region
from gateway.sandbox.layout import SEED
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.submissions import queue
from gateway.submissions.attempt import Attempts
from gateway.submissions.borders import Borders
from gateway.submissions.events import EventLog
from gateway.submissions.materials import Materials
from gateway.submissions.parcels import Parcels
from gateway.submissions.queue import Claim
from gateway.submissions.retry import RetryPolicy
from gateway.submissions.timekeeping import CaseClocks
from gateway.telemetry import Metrics
from tests.support.cases import REGION
from tests.support.intake import ITEM, SamePack, accept, intake

BATCH = 16
"""What is claimed at once, and how many are settled at the same time."""
LEASE = timedelta(seconds=60)
POOL = 12
"""Connections to PostgreSQL, as many as our store has at most."""


def utc_now() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


class Target:
    """A region that takes every case at once."""

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Return a receipt."""
        return {"submission_id": order.submission_id, "number": secrets.token_hex(8), "short_number": None}

    async def ask(self, _submission_id: str) -> RegionDocument | None:
        """Return nothing: no case is in doubt here."""
        return None


@dataclass
class Ours:
    """Our queue over one store."""

    store: Store
    sealer: Sealer = field(default_factory=lambda: Sealer(os.urandom(32)))
    written: int = 0
    case: str = ""

    def __post_init__(self) -> None:
        """Build what makes attempts, as the front page does."""
        calendars = load_calendars(SEED / "working-days.toml")
        events = EventLog(self.sealer, followers=(CaseClocks({ITEM.code: ITEM}, lambda: calendars).keep,))
        materials = Materials(self.store, cast("Blobs", None), self.sealer, 0)
        packs = PackSet.of(REGION, cast("Any", {name: SamePack() for name in ("submission", "receipt", "event")}))
        region = SimpleNamespace(
            id=REGION, packs=packs, adapter=Adapter(submissions=Target()), limits=SimpleNamespace(settle_seconds=0)
        )
        self.region = cast("Region", region)
        self.door = intake(self.store, self.sealer, References(os.urandom(32)), utc_now)

        async def pinned(_region: Region, _version: str) -> PackSet:
            return packs

        self.attempts = Attempts(
            store=self.store, parcels=Parcels(self.store, self.sealer, materials, Borders((), utc_now)), pinned=pinned,
            events=events,
            retry=RetryPolicy(5, LEASE, LEASE), clock=utc_now, metrics=Metrics(CollectorRegistry()),
        )  # fmt: skip

    async def prepare(self) -> None:
        """Migrate, and bring one case all the way to its region: the others are like it."""
        await self.store.migrate()
        self.case = (await accept(self.door, secrets.token_hex(8))).submission_id
        await self._worked_off(1, lambda claimed: self.attempts.make(claimed, self.region))

    async def settled(self, count: int) -> float:
        """Return how many deliveries a second are claimed and settled, and nothing else."""
        await self._wait_in_line(count)
        return await self._worked_off(count, self._settle)

    async def attempted(self, count: int) -> float:
        """Return how many deliveries a second are claimed, packed, handed over in memory and settled as a whole."""
        for _ in range(0, count, BATCH):
            await asyncio.gather(*(accept(self.door, secrets.token_hex(8)) for _ in range(BATCH)))
        return await self._worked_off(count, lambda claimed: self.attempts.make(claimed, self.region))

    async def grow(self, rows: int) -> None:
        """Write cases that were finished long ago; indexes are made afterwards, which is faster."""
        await self.store.write(drop_indexes)
        step = 100_000
        for _ in range(0, rows, step):
            await self.store.write(
                partial(multiply, case=self.case, first=self.written + 1, last=self.written + step, finished=True)
            )
            self.written += step
        await self.store.write(make_indexes)

    async def _worked_off(self, count: int, work: Any) -> float:
        begun, done = time.perf_counter(), 0
        while done < count:
            claims = await self.store.write(
                partial(queue.claim, region=REGION, owner="bench", limit=BATCH, now=utc_now(), lease=LEASE)
            )
            await asyncio.gather(*(work(claimed) for claimed in claims))
            done += len(claims)
            if not claims:
                raise RuntimeError(f"only {done} of {count} were there to be claimed")
        return done / (time.perf_counter() - begun)

    async def _settle(self, claimed: Claim) -> None:
        values = {"state": "delivered", "settled_at": utc_now(), "last_code": "ok", "last_text": None}
        if not await self.store.write(partial(queue.settle, claimed=claimed, values=values)):
            raise RuntimeError("the lease was lost")

    async def _wait_in_line(self, count: int) -> None:
        case = self.case
        self.written += count
        await self.store.write(
            partial(multiply, case=case, first=self.written - count + 1, last=self.written, finished=False)
        )


@dataclass
class Theirs:
    """pgqueuer over one pool, its tables installed."""

    pool: asyncpg.Pool
    queries: Queries

    @classmethod
    async def open(cls, url: str) -> Theirs:
        """Connect and install."""
        pool = await asyncpg.create_pool(url, min_size=POOL, max_size=POOL)
        queries = Queries.from_asyncpg_pool(pool)
        await queries.install()
        return cls(pool, queries)

    async def acknowledged(self, count: int) -> float:
        """Return how many jobs a second are dequeued and acknowledged one by one."""
        await self._enqueue(count)
        begun, done, manager = time.perf_counter(), 0, QueueManagerId(uuid4())
        entry = {QueueEntrypoint("bench"): EntrypointExecutionParameter(concurrency_limit=0)}
        while done < count:
            jobs = await self.queries.dequeue(BATCH, entry, manager, None, LEASE)
            await asyncio.gather(*(self.queries.log_jobs([(job, "successful", None)]) for job in jobs))
            done += len(jobs)
        return done / (time.perf_counter() - begun)

    async def managed(self, count: int) -> float:
        """Return how many jobs a second its QueueManager works off, acknowledged in batches."""
        await self._enqueue(count)
        manager = QueueManager(self.queries)
        times: list[float] = []

        @manager.entrypoint("bench")
        async def work(_job: Job) -> None:
            times.append(time.perf_counter())

        begun = time.perf_counter()
        await manager.run(batch_size=BATCH, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(seconds=1))
        return count / (time.perf_counter() - begun)

    async def close(self) -> None:
        """Disconnect."""
        await self.pool.close()

    async def _enqueue(self, count: int) -> None:
        payload = b"x" * FORM_BYTES
        await self.queries.enqueue(["bench"] * count, [payload] * count, [0] * count)
