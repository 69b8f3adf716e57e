"""Measure, print, and write bench/results/certificates.json.

Everything is measured in one run on one machine, ours and theirs in turn, several times; the median of the rounds' own
ratios counts, because other work disturbs a shared machine. Their spread is printed.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import certificate_files
from bench.certificates.served import SECONDS, SLOW_LOOKUPS, SLOW_SECONDS, Door, Served, served
from bench.report import report, row
from bench.submissions.__main__ import in_turn, judged
from gateway.telemetry import configure_logging
from gateway.waiting import new_event_loop

ROUNDS = 5
ADDED = 5.0
"""Milliseconds that the gateway may add to the slowest of a hundred."""
CALM = 3.0
"""Seconds for which a rate is kept up where latencies are measured."""


async def measure() -> list[dict[str, Any]]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as place:
        async with served(Path(place)) as all_of_it:
            return [
                *await looked_up(all_of_it),
                await not_slowed(all_of_it),
                *await verified(all_of_it),
            ]


async def looked_up(served: Served) -> list[dict[str, Any]]:
    """Lookups through the whole path against a pass-through: how many, and how much later at half of that."""
    rates = await in_turn(served.lookup.per_second, served.passed_through.per_second, ROUNDS)
    await print_cost("a lookup", served.lookup, served.passed_through)
    rate = statistics.median(ours for ours, _ in rates) / 2
    late = await in_turn(
        lambda: served.lookup.p99(rate, CALM), lambda: served.passed_through.p99(rate, CALM), ROUNDS
    )  # fmt: skip
    ours, theirs = sorted(late, key=lambda pair: pair[0] - pair[1])[len(late) // 2]
    print(f"p99 at {rate:.0f} a second: {ours:.1f} ms, passed through {theirs:.1f} ms", flush=True)
    return [
        judged("lookups through the whole path, against a bare pass-through to the same authority", rates, 0.4),
        row("added latency p99 at half load, against the limit", max(0.0, ours - theirs), ADDED, "ms", 1.0),
    ]


async def not_slowed(served: Served) -> dict[str, Any]:
    """Lookups while many others wait for an issuer that takes seconds, against lookups alone."""

    async def beside_slow_ones() -> float:
        waiting = asyncio.create_task(served.slow_lookup.measured(SLOW_LOOKUPS, SLOW_SECONDS + 2 * SECONDS))
        await asyncio.sleep(SLOW_SECONDS)  # until then their first ones are under way
        rate = await served.lookup.per_second()
        await waiting
        return rate

    rounds = await in_turn(beside_slow_ones, served.lookup.per_second, ROUNDS - 2)
    name = f"lookups beside {SLOW_LOOKUPS} that wait {SLOW_SECONDS:g} s each for another issuer, against none"
    return judged(name, rounds, 0.8)


async def verified(served: Served) -> list[dict[str, Any]]:
    """Verifications of a standing that is remembered, each with its evidence on the disk, against bare handlers."""
    bare = await in_turn(served.verify.per_second, served.same_bytes.per_second, ROUNDS)
    written = await in_turn(served.verify.per_second, served.one_row.per_second, ROUNDS)
    await print_cost("a verification", served.verify, served.same_bytes)
    return [
        judged("remembered standings verified, against a bare handler of the same bytes", bare, 0.5),
        judged("remembered standings verified, against one that checks the token and writes one row", written, None),
    ]


async def print_cost(what: str, ours: Door, theirs: Door) -> None:
    """Print the processor time, which other work on the machine changes least."""
    (_, own), (_, their) = await ours.measured(16, SECONDS), await theirs.measured(16, SECONDS)
    print(f"processor time of {what}: {own:.2f} ms, of the bare program's {their:.2f} ms", flush=True)


def main() -> int:
    """Measure, print and write."""
    configure_logging(level=logging.WARNING)
    begun = time.perf_counter()
    files = certificate_files.results()  # outside of a loop: verifying a PDF runs one of its own
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        results = [*runner.run(measure()), *files]
    print(f"measured in {time.perf_counter() - begun:.0f} s")
    return 0 if report("certificates", results) else 1


if __name__ == "__main__":
    sys.exit(main())
