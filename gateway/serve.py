"""Serving: the two listeners, the signals, and a shutdown that loses nothing.

Owns: the process. On SIGTERM or SIGINT it says "going away" in /readyz, stops accepting, lets requests and deliveries
under way finish for a bounded time, and closes. What is cut off is safe in its row: the next process asks first. On
SIGHUP it takes the mappings, the files of TLS and the working days as they are now, or stays with those in use.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiohttp import web

from gateway.app import Gateway, build_app, utc_now
from gateway.background import reloading
from gateway.config import Config
from gateway.mapping import scripts
from gateway.ports import Clock
from gateway.submissions.attempt import StepObserver, unobserved

log = structlog.get_logger("serve")


@dataclass(frozen=True, slots=True)
class Bound:
    """Where the listeners really are (a configured port 0 takes a free one)."""

    public_port: int
    admin_port: int


async def serve(
    config: Config,
    *,
    ready: Callable[[Bound], None],
    clock: Clock = utc_now,
    observe: StepObserver = unobserved,
) -> None:
    """Serve until a signal says stop. `ready` is called once both listeners accept."""
    _bound_memory()
    stop, reread = asyncio.Event(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reread.set)  # before it could end a start
    async with (
        build_app(config, clock=clock, observe=observe) as gateway,
        reloading(gateway.versions, gateway.reread, reread),
        listening(config, gateway) as bound,
    ):
        _settle_memory()
        log.info("ready", public_port=bound.public_port, admin_port=bound.admin_port)
        ready(bound)
        await stop.wait()
        log.info("stopping")
        gateway.stop_accepting()


@asynccontextmanager
async def listening(config: Config, gateway: Gateway) -> AsyncIterator[Bound]:
    """Open both listeners; on the way out stop accepting first, then wait for the requests under way."""
    listen = config.listen
    public = web.AppRunner(
        gateway.public,
        access_log=None,  # the middleware writes its own line, without query strings
        shutdown_timeout=config.limits.shutdown_seconds,
        max_field_size=config.limits.header_bytes,
        auto_decompress=False,  # signatures and digests are of the bytes as sent, and limits are of bytes, not promises
    )
    admin = web.AppRunner(gateway.admin, access_log=None, shutdown_timeout=1)
    try:
        public_port = await _site(public, listen.public_host, listen.public_port, gateway.tls.context)
        admin_port = await _site(admin, listen.admin_host, listen.admin_port, None)
        yield Bound(public_port, admin_port)
    finally:
        await public.cleanup()
        await admin.cleanup()


async def _site(runner: web.AppRunner, host: str, port: int, tls: ssl.SSLContext | None) -> int:
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    return int(runner.addresses[0][1])


_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""Parameters of mallopt(3)."""


def _bound_memory() -> None:
    """Have large blocks go back to the system as soon as they are freed, and threads share what they free.

    The C library would keep both for later: tens of megabytes once a large file has passed through several threads.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it; musl has nothing to tune
    if tune is not None:
        tune(_ARENA_MAX, 2)
        tune(_MMAP_THRESHOLD, 256 << 10)


def _settle_memory() -> None:
    """Give back what only start-up needed; take the rest out of the collector's sight: its pauses cost 10 ms of p99."""
    scripts.rest()  # the examples of the mappings have used them
    gc.collect()
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what is freed; others have no such call
    if give_back is not None:
        give_back(0)
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
