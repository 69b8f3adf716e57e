"""How long the sandbox takes from start to ready, and how much memory the gateway then holds.

Two programs in one run: our gateway with its neighbours, and a bare aiohttp program as the measure of the machine. The
limits are absolute, so `theirs` is the limit and the ratio must not exceed 1; the bare program stands beside it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import report, row
from gateway.sandbox.layout import Choices
from gateway.sandbox.neighbourhood import free_ports, start

ROUNDS = 3
LIMIT_SECONDS = 5.0
LIMIT_MEGABYTES = 150.0

BARE = """
import asyncio, uvloop
from aiohttp import web
async def main():
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("ready", flush=True)
    await asyncio.sleep(60)
uvloop.run(main())
"""


def megabytes(pid: int) -> float:
    """Return the resident memory of a process in MB (VmRSS)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


async def ours() -> tuple[float, float]:
    """Start the neighbourhood in a fresh folder; return seconds to ready and the gateway's MB."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        async with start(Path(folder), free_ports(), Choices()) as neighbourhood:
            return time.perf_counter() - begun, megabytes(neighbourhood.gateway.pid)


async def bare() -> tuple[float, float]:
    """Start the bare program; return seconds to ready and its MB."""
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", BARE, stdout=asyncio.subprocess.PIPE)
    try:
        if process.stdout is None:
            raise RuntimeError("the program has no output")
        await process.stdout.readline()
        return time.perf_counter() - begun, megabytes(process.pid)
    finally:
        process.kill()
        await process.wait()


async def measure() -> list[dict[str, Any]]:
    """Run both alternately and return the result rows, medians of all rounds."""
    rounds = [(await ours(), await bare()) for _ in range(ROUNDS)]
    seconds, memory = (statistics.median(own[i] for own, _ in rounds) for i in (0, 1))
    bare_seconds, bare_memory = (statistics.median(other[i] for _, other in rounds) for i in (0, 1))
    print(f"bare aiohttp: {bare_seconds:.2f} s to ready, {bare_memory:.0f} MB")
    return [
        row("sandbox: start to ready, against the limit", seconds, LIMIT_SECONDS, "s", 1.0),
        row("gateway: resident memory when ready, against the limit", memory, LIMIT_MEGABYTES, "MB", 1.0),
        row("sandbox: start to ready, against a bare aiohttp program", seconds, bare_seconds, "s", None),
        row("gateway: resident memory, against a bare aiohttp program", memory, bare_memory, "MB", None),
    ]


def main() -> None:
    """Measure, print, write bench/results/start.json."""
    sys.exit(0 if report("start", asyncio.run(measure())) else 1)


if __name__ == "__main__":
    main()
