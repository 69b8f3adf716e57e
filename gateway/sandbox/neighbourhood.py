"""Starting the neighbourhood: simulated authorities in this process, the gateway in one of its own.

Owns: ports, processes and their end. The gateway runs exactly as it would elsewhere (`pearl serve`), so that what the
sandbox shows is what a city would run.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from gateway.sandbox.authority import AuthoritySettings
from gateway.sandbox.layout import Choices, Layout, Ports, lay_out, simulated_regions

PUBLIC, ADMIN, FIRST_AUTHORITY = 8080, 9090, 8101
FREE = range(10_240, 32_768)
"""Where ports are looked for that nobody uses."""
READY_WITHIN = 30.0
"""Seconds after which a gateway that does not say "ready" is a failure."""


class NotReadyError(RuntimeError):
    """The gateway ended or did not become ready; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Everything that runs."""

    layout: Layout
    gateway: asyncio.subprocess.Process

    @property
    def public_url(self) -> str:
        """The gateway's public address."""
        return self.layout.ports.public_url

    @property
    def admin_url(self) -> str:
        """The gateway's admin address."""
        return self.layout.ports.admin_url

    def account(self, role: str) -> Mapping[str, Any]:
        """Return the seeded person with this role (`citizen`, `clerk`, `hk-citizen`)."""
        return next(person for person in self.layout.people if person["role"] == role)


def usual_ports() -> Ports:
    """Return the ports that `make run` uses."""
    regions = simulated_regions()
    return Ports(PUBLIC, ADMIN, {region: FIRST_AUTHORITY + i for i, region in enumerate(regions)})


def free_ports(regions: Sequence[str] | None = None) -> Ports:
    """Return ports that nobody uses at the moment.

    They lie below those that a system gives to outgoing connections, of which one could take a port before its server.
    """
    names = list(regions if regions is not None else simulated_regions())
    with ExitStack() as held:
        numbers = [_free_port(held) for _ in range(len(names) + 2)]
    return Ports(numbers[0], numbers[1], dict(zip(names, numbers[2:], strict=True)))


def _free_port(held: ExitStack) -> int:
    while True:
        number = FREE.start + secrets.randbelow(len(FREE))
        one = held.enter_context(socket.socket())
        with suppress(OSError):  # somebody has it: another one will do
            one.bind(("127.0.0.1", number))
            return number


@asynccontextmanager
async def authorities(
    settings: Sequence[AuthoritySettings], ports: Ports, host: str = "127.0.0.1"
) -> AsyncIterator[None]:
    """Run every simulated authority as a real HTTP server on loopback.

    All listen before the first is built: whoever calls one meanwhile waits, and is not refused.
    """
    with ExitStack() as sockets:
        doors = [
            sockets.enter_context(socket.create_server((host, ports.authorities[one.region]), backlog=128))
            for one in settings
        ]
        runners = [await _start(one, door) for one, door in zip(settings, doors, strict=True)]
        try:
            yield
        finally:
            await asyncio.gather(*(runner.cleanup() for runner in runners))


async def _start(settings: AuthoritySettings, door: socket.socket) -> web.AppRunner:
    module = importlib.import_module(f"adapters.{settings.region}.sandbox")
    app: web.Application = module.build_authority(settings)
    # No access log: one region's protocol carries secrets in query strings.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.SockSite(runner, door).start()
    return runner


@asynccontextmanager
async def gateway_process(layout: Layout, *, module: str = "gateway.cli") -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the gateway; yield once it is ready; end it by its pid."""
    log = layout.folder / "gateway.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, "serve", "--config", str(layout.config),
            stdout=output, stderr=output, stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    try:
        await wait_until_ready(process, layout)
        yield process
    finally:
        await end(process)


class Running(Protocol):
    """What is used of a process here."""

    @property
    def returncode(self) -> int | None:
        """How it ended, None while it lives."""

    async def wait(self) -> int:
        """Wait for its end."""

    def terminate(self) -> None:
        """Ask it to stop."""

    def kill(self) -> None:
        """Kill it."""


async def wait_until_ready(process: Running, layout: Layout) -> None:
    """Wait for /readyz to say 200. Raises NotReadyError with the end of the log."""
    try:
        async with asyncio.timeout(READY_WITHIN), aiohttp.ClientSession() as session:
            while not await _is_ready(session, layout.ports.admin_url):
                if process.returncode is not None:
                    break
                await asyncio.sleep(0.05)  # a process that starts tells nobody: asking is the only way
            else:
                return
    except TimeoutError:
        pass
    tail = "\n".join((layout.folder / "gateway.log").read_text(encoding="utf-8").splitlines()[-30:])
    raise NotReadyError(f"the gateway did not become ready:\n{tail}")


async def _is_ready(session: aiohttp.ClientSession, admin_url: str) -> bool:
    try:
        async with session.get(f"{admin_url}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def end(process: Running) -> None:
    """Ask the process to stop; insist when it does not."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(15):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def start(folder: Path, ports: Ports, choices: Choices) -> AsyncIterator[Neighbourhood]:
    """Run the whole neighbourhood in a folder."""
    layout = lay_out(folder, ports, choices)
    async with AsyncExitStack() as down:
        try:
            async with asyncio.TaskGroup() as starting:  # the gateway needs seconds, and a core of its own
                starting.create_task(down.enter_async_context(authorities(layout.authorities, ports)))
                gateway = starting.create_task(down.enter_async_context(gateway_process(layout)))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        yield Neighbourhood(layout, gateway.result())
