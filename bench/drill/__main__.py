"""`make drill`: gateways under load are killed, authorities misbehave, and then the books are compared.

Two replicas on PostgreSQL and one process on SQLite, at the same time, by a seeded plan. Prints the counts and writes
`bench/results/drill.json`; ends with 1 when anything was lost or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from bench.drill.books import Tally, compare
from bench.drill.load import Agency
from bench.drill.town import ARRIVED, STEPS, Town, town
from bench.report import report
from gateway.storage import open_store
from tests.support.databases import postgres_server

PATIENCE = 120.0
"""Seconds after the last fault within which everything must be settled or parked."""
AGENTS = 6
"""Agency systems that file cases at the same time, in each town."""


async def drill(name: str, folder: Path, store_url: str, replicas: int, seconds: float, seed: int) -> Tally:
    """Run one town for so many seconds, let it heal, and compare the books."""
    chance, over = random.Random(f"{seed}-{name}"), asyncio.Event()  # noqa: S311 - a plan that can be repeated
    async with town(name, folder, store_url, replicas, chance) as around, aiohttp.ClientSession() as session:
        agency = Agency([gateway.layout for gateway in around.gateways], session, random.Random(seed))  # noqa: S311 - as above
        work = [around.keep_alive(gateway, over) for gateway in around.gateways]
        tasks = [asyncio.create_task(one) for one in (*work, around.trouble(over))]
        filing = [asyncio.create_task(agency.file_until(over)) for _ in range(AGENTS)]
        try:
            done, _ = await asyncio.wait({*tasks, *filing}, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()  # whatever ended early ended wrongly: say so
            over.set()
            await asyncio.gather(*tasks)
            await around.heal()
            await asyncio.gather(*filing)
            return await _compared(around, agency, _absolute(store_url, folder))
        finally:
            for task in (*tasks, *filing):
                task.cancel()
            await asyncio.gather(*tasks, *filing, return_exceptions=True)


async def _compared(around: Town, agency: Agency, store_url: str) -> Tally:
    """Compare the books as soon as they agree, and at the latest when patience ends: then they do not."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        tally = await compare(around, agency, store_url)
        if not any(tally.wrong.values()) or asyncio.get_running_loop().time() > deadline:
            return tally
        await asyncio.sleep(0.5)  # other processes are at work: asking is the only way


def _absolute(store_url: str, folder: Path) -> str:
    return store_url.replace("sqlite:///", f"sqlite:///{folder}/")


async def both(seconds: float, seed: int, folder: Path) -> Sequence[Tally]:
    """Run both towns at the same time."""
    with postgres_server() as server:
        url = server.url(server.create())
        store = await open_store(url)
        await store.migrate()
        await store.close()
        return await asyncio.gather(
            drill("PostgreSQL, two replicas", folder / "postgresql", url, 2, seconds, seed),
            drill("SQLite, one process", folder / "sqlite", "sqlite:///pearl.db", 1, seconds, seed),
        )


def main() -> int:
    """Run the drill and return the exit code."""
    parser = argparse.ArgumentParser(prog="make drill")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)  # authorities that are cut off in the middle have much to say
    with tempfile.TemporaryDirectory(prefix="pearl-drill-") as folder:
        tallies = asyncio.run(both(given.seconds, given.seed, Path(folder)))
    for tally in tallies:
        print(*tally.lines(), sep="\n")
        unseen = {*STEPS, ARRIVED} - {step for step in (*STEPS, ARRIVED) if f"died {step}" in tally.done}
        if unseen:
            print(f"{tally.town}: nobody died at {', '.join(sorted(unseen))} this time")
    return 0 if report("drill", [row for tally in tallies for row in _rows(tally)]) else 1


def _rows(tally: Tally) -> list[dict[str, object]]:
    """Return one result for each count that must be nought, beside the number of cases accepted."""
    return [
        {
            "name": f"{name.replace('_', ' ')} ({tally.town})",
            "ours": count, "theirs": tally.accepted, "unit": "cases",
            "ratio": count / max(tally.accepted, 1), "bar": 0, "holds": count == 0 and tally.accepted > 0,
        }
        for name, count in tally.wrong.items()
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
