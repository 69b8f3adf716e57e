"""Measure, print, and write bench/results/submissions.json.

Everything is measured in one run on one machine, ours and theirs in turn, several times; the median of the rounds' own
ratios counts, because other work disturbs a shared machine. Their spread is printed.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from bench import materials
from bench.report import report, row
from bench.submissions.queues import Ours, Theirs
from bench.submissions.served import QUEUED, queued_memory, served
from gateway.storage import open_store
from gateway.telemetry import configure_logging
from gateway.waiting import new_event_loop
from tests.support.databases import PostgresServer, postgres_server

ROUNDS = 3
SETTLED, ATTEMPTED = 960, 160
"""Deliveries in one round."""
LONG = {"PostgreSQL": 1500, "SQLite": 5000}
LOOKS = 5
"""Rounds of about a second, and how many, where a tenth more or less is the question."""
GROWN = 1_000_000
"""Finished cases in the tables that the queues are looked at with; `--rows` takes another number."""
QUEUE_MEGABYTES = 200.0

Measure = Callable[[], Awaitable[float]]
Round = tuple[float, float]


async def in_turn(ours: Measure, theirs: Measure, rounds: int = ROUNDS) -> list[Round]:
    """Measure both in turn."""
    return [(await ours(), await theirs()) for _ in range(rounds)]


def judged(name: str, rounds: Sequence[Round], bar: float | None) -> dict[str, Any]:
    """Return the round whose ratio is the median, and print how far the rounds lie apart."""
    ratios = sorted(ours / theirs for ours, theirs in rounds)
    print(f"{name}: ratios from {ratios[0]:.3f} to {ratios[-1]:.3f}", flush=True)
    middle = statistics.median_low(ratios)
    ours, theirs = next(pair for pair in rounds if pair[0] / pair[1] == middle)
    return row(name, ours, theirs, "per second", bar, at_least=True)


async def of_the_gateway(folder: Path) -> list[dict[str, Any]]:
    """Measure the gateway that serves."""
    async with served(folder) as gateway:
        taken_in = await in_turn(gateway.taken_in, gateway.taken_in_barely)
        handed_over = await in_turn(gateway.handed_over, gateway.handed_over_barely)
    store = await open_store(f"sqlite:///{folder / 'pearl.db'}")
    try:
        memory = await queued_memory(gateway.layout, store)
    finally:
        await store.close()
    return [
        judged("cases of 4 KB taken in, against one durable insert by a bare handler", taken_in, 0.4),
        judged("cases handed over by Guangdong's wire, against a bare client that posts the same", handed_over, 0.5),
        row(f"resident with {QUEUED} deliveries in line, against the limit", memory, QUEUE_MEGABYTES, "MB", 1.0),
    ]


async def of_the_queues(folder: Path, server: PostgresServer, rows: int) -> list[dict[str, Any]]:
    """Measure the queues, in databases with nothing in them and in ones with `rows` finished cases."""
    async with AsyncExitStack() as down:
        small = await opened(down, server, folder / "small.db")
        grown = await opened(down, server, folder / "grown.db")
        theirs = await Theirs.open(server.url(server.create()))
        down.push_async_callback(theirs.close)
        found = await beside_pgqueuer(small["PostgreSQL"], theirs)
        begun = time.perf_counter()
        await asyncio.gather(*(ours.grow(rows) for ours in grown.values()))
        for database in server.execute("SELECT datname FROM pg_database WHERE datname LIKE 'pearl%'").split():
            server.execute("VACUUM ANALYZE", "CHECKPOINT", database=database)
        with closing(sqlite3.connect(folder / "grown.db")) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a million rows at once leave a log as no day's work does
        print(f"{rows} finished cases written in {time.perf_counter() - begun:.0f} s", flush=True)
        for engine, ours in grown.items():
            count = LONG[engine]
            rounds = await in_turn(partial(ours.settled, count), partial(small[engine].settled, count), LOOKS)
            name = f"{engine}: claimed and settled among {rows} finished cases, against none"
            found.append(judged(name, rounds, 0.9))
        return found


async def opened(down: AsyncExitStack, server: PostgresServer, file: Path) -> dict[str, Ours]:
    """Open a new database on either engine, and bring one case to its region in it."""
    urls = {"PostgreSQL": server.url(server.create()), "SQLite": f"sqlite:///{file}"}
    queues: dict[str, Ours] = {}
    for engine, url in urls.items():
        store = await open_store(url)
        down.push_async_callback(store.close)
        queues[engine] = Ours(store)
        await queues[engine].prepare()
    return queues


async def beside_pgqueuer(ours: Ours, theirs: Theirs) -> list[dict[str, Any]]:
    """Compare our queue on PostgreSQL with pgqueuer."""
    alike = await in_turn(lambda: ours.settled(SETTLED), lambda: theirs.acknowledged(SETTLED))
    managed = await in_turn(lambda: ours.settled(SETTLED), lambda: theirs.managed(SETTLED))
    whole = await in_turn(lambda: ours.attempted(ATTEMPTED), lambda: theirs.acknowledged(SETTLED))
    return [
        judged("PostgreSQL: claimed and settled, the row of the queue, against pgqueuer job by job", alike, 1.0),
        judged("PostgreSQL: claimed and settled, against pgqueuer acknowledging in batches", managed, 1.0),
        judged("PostgreSQL: whole attempts with events, clocks and evidence, against pgqueuer job by job", whole, None),
    ]


async def measure(rows: int) -> list[dict[str, Any]]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found = await of_the_gateway(folder / "served")
        found += [one for one in await materials.measure() if one["bar"] is not None]
        with postgres_server() as server:
            # The tests do without; what is acknowledged here must be on the disk.
            server.execute(*(f"ALTER SYSTEM RESET {name}" for name in ("fsync", "full_page_writes")))
            server.execute("ALTER SYSTEM SET max_wal_size = '8GB'")  # a million rows at once are no load of ours
            server.execute("SELECT pg_reload_conf()")
            return [*found, *await of_the_queues(folder, server, rows)]


def main() -> int:
    """Measure, print and write. `--rows N` fills the tables with another number of finished cases."""
    configure_logging(level=logging.WARNING)
    rows = int(sys.argv[2]) if sys.argv[1:2] == ["--rows"] else GROWN
    begun = time.perf_counter()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        results = runner.run(measure(rows))
    print(f"measured in {time.perf_counter() - begun:.0f} s")
    return 0 if report("submissions", results) else 1


if __name__ == "__main__":
    sys.exit(main())
