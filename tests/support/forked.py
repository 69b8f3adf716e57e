"""Programs of the product as processes of their own, forked off one that has imported everything.

A command or a gateway needs more than a second to import what it uses, and tests and drills start hundreds. What is
forked has read no configuration, opened no file and has no thread (multiprocessing's fork server); from there on it is
the program that somebody would start by name, as `gateway.sandbox.neighbourhood.gateway_process` does in other tests.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MappingProxyType

from gateway.cli import main

SERVER = multiprocessing.get_context("forkserver")
IMPORTED = ("gateway.cli", "gateway.app", "gateway.serve", "tests.flows.killed_gateway")
REGIONS = ("adapters.foshan.adapter", "adapters.guangdong.adapter", "adapters.hongkong.adapter")


Program = Callable[[Sequence[str]], None]
"""What a process is: a function of a module, which is given its arguments."""
NOTHING: Mapping[str, str] = MappingProxyType({})


class Forked:
    """A forked process, with what is used of `asyncio.subprocess.Process`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(process.sentinel, self._end, loop)

    @classmethod
    async def start(
        cls,
        program: Program,
        arguments: Sequence[str],
        out: Path,
        err: Path,
        env: Mapping[str, str] = NOTHING,
        imported: Sequence[str] = (*IMPORTED, *REGIONS),
    ) -> Forked:
        """Start a program; what it says is appended to these files, which may be one.

        `imported` are the modules of which the server is full before it forks; the first start decides.
        """
        SERVER.set_forkserver_preload(list(imported))
        given = (program, list(arguments), out, err, dict(env))
        process = SERVER.Process(target=_live, args=given, daemon=True)
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


def _live(program: Program, arguments: Sequence[str], out: Path, err: Path, env: Mapping[str, str]) -> None:
    """Run the program: this is all that the forked process does."""
    os.environ.update(env)
    for stream, path in ((1, out), (2, err)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), stream)
    for text in (sys.stdout, sys.stderr):
        text.reconfigure(line_buffering=True)  # type: ignore[union-attr] # text streams, of which typeshed is not sure
    program(arguments)


def command(arguments: Sequence[str]) -> None:
    """Be `pearl …`."""
    main(args=list(arguments), prog_name="pearl")


async def pearl(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `pearl …`, and return its exit code, output and errors. `folder` is for what it says."""
    said = folder / f"said-{secrets.token_hex(4)}"
    said.mkdir()
    process = await Forked.start(command, arguments, said / "out", said / "err")
    async with asyncio.timeout(60):
        code = await process.wait()
    return code, (said / "out").read_text(encoding="utf-8"), (said / "err").read_text(encoding="utf-8")
