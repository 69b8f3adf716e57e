"""A gateway as it is served, which kills itself at a given step of a delivery, as a process of its own.

When the step is reached for the count-th time the process sends itself SIGKILL, as a power cut would. With the step
`none` it serves like any other.

A process is forked off one that has imported everything (multiprocessing's fork server): a drill starts gateways all
the time, on cores that it needs for its load, and of a start's two seconds more than one went into imports. What is
forked has read no configuration, opened no file and has no thread; from there on it starts as the served one does.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from gateway.data import read_config
from gateway.serve import serve
from gateway.submissions.attempt import StepObserver
from gateway.submissions.queue import Claim
from gateway.telemetry import configure_logging
from gateway.waiting import new_event_loop

_SERVER = multiprocessing.get_context("forkserver")
_IMPORTED = ("bench.drill.dying", "bench.drill.__main__")


class Dying:
    """One such process, with what is used of `asyncio.subprocess.Process`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(process.sentinel, self._end, loop)

    @classmethod
    async def start(cls, config: Path, step: str, count: int, secrets: Mapping[str, str], regions: list[str]) -> Dying:
        """Start one; what it says is appended to gateway.log beside its configuration."""
        _SERVER.set_forkserver_preload([*_IMPORTED, *(f"adapters.{region}.adapter" for region in regions)])
        process = _SERVER.Process(target=_live, args=(config, step, count, dict(secrets)), daemon=True)
        await asyncio.to_thread(process.start)  # the first one waits for the imports
        return cls(process)

    @property
    def returncode(self) -> int | None:
        """How it ended, None while it lives; minus the signal that killed it."""
        return self._process.exitcode if self._ended.is_set() else None

    async def wait(self) -> int:
        """Wait for its end."""
        await self._ended.wait()
        return int(self._process.exitcode or 0)

    def kill(self) -> None:
        """Kill it where it stands."""
        self._process.kill()

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set()


def dies_at(step: str, count: int) -> StepObserver:
    """Return an observer that kills this process when the step is reached for the count-th time."""
    left = count

    def observe(reached: str, _claim: Claim) -> None:
        nonlocal left
        left -= reached == step
        if reached == step and left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return observe


def _live(config: Path, step: str, count: int, secrets: Mapping[str, str]) -> None:
    """Serve: this is all that the forked process does."""
    os.environ.update(secrets)
    with (config.parent / "gateway.log").open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # a text stream, of which typeshed is not sure
    configure_logging()
    loop = new_event_loop()
    observe = dies_at(step, count)
    loop.run_until_complete(serve(read_config(config), ready=lambda _bound: None, observe=observe))
