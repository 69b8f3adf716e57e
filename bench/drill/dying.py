"""A gateway as it is served, which kills itself at a given step of a delivery, as a process of its own.

When the step is reached for the count-th time the process sends itself SIGKILL, as a power cut would. With the step
`none` it serves like any other.

It is forked off a process that has imported everything (`tests.support.forked`): a drill starts gateways all the time,
on cores that it needs for its load, and of a start's two seconds more than one went into imports.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.data import read_config
from gateway.serve import serve
from gateway.submissions.attempt import StepObserver
from gateway.submissions.queue import Claim
from gateway.telemetry import configure_logging
from gateway.waiting import new_event_loop
from tests.support.forked import Forked

_IMPORTED = ("bench.drill.dying", "bench.drill.__main__")


async def start(config: Path, step: str, count: int, secrets: Mapping[str, str], regions: Sequence[str]) -> Forked:
    """Start one; what it says is appended to gateway.log beside its configuration."""
    log, adapters = config.parent / "gateway.log", (f"adapters.{region}.adapter" for region in regions)
    return await Forked.start(_live, [str(config), step, str(count)], log, log, secrets, (*_IMPORTED, *adapters))


def dies_at(step: str, count: int) -> StepObserver:
    """Return an observer that kills this process when the step is reached for the count-th time."""
    left = count

    def observe(reached: str, _claim: Claim) -> None:
        nonlocal left
        left -= reached == step
        if reached == step and left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return observe


def _live(arguments: Sequence[str]) -> None:
    """Serve: this is all that the forked process does."""
    config, step, count = arguments
    configure_logging()
    loop = new_event_loop()
    observe = dies_at(step, int(count))
    loop.run_until_complete(serve(read_config(Path(config)), ready=lambda _bound: None, observe=observe))
