"""What the tests of wire clients share: a kit with a fixed clock, and far sides that answer by script or misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.ports import Kit, Material, SubmissionOrder

NOW = datetime.fromtimestamp(1_700_000_000, UTC)

Misbehaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def kit(
    base_url: str,
    *,
    region: str = "testland",
    settings: Mapping[str, Any] | None = None,
    secrets: Mapping[str, bytes] | None = None,
    seconds: float = 5.0,
) -> AsyncIterator[Kit]:
    """Lend what the core would lend; `seconds` is the time-out of one exchange."""
    counter = itertools.count()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Kit(
            region=region,
            session=session,
            clock=lambda: NOW,
            log=structlog.get_logger(),
            settings={"base_url": base_url, **(settings or {})},
            secret=dict(secrets or {}).__getitem__,
            public_url="http://gateway.test",
            timeout=aiohttp.ClientTimeout(total=seconds),
            random_token=lambda: f"token-{next(counter)}",
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the far side saw it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


Answerer = Callable[[Seen], web.Response | Awaitable[web.Response]]


@dataclass(slots=True)
class FarSide:
    """A region that answers each request through `answer` and remembers all of them."""

    answer: Answerer
    seen: list[Seen] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        seen = Seen(
            request.method, request.rel_url.raw_path, dict(request.query), request.headers, await request.read()
        )
        self.seen.append(seen)
        given = self.answer(seen)
        return given if isinstance(given, web.Response) else await given


@asynccontextmanager
async def far_side(answer: Answerer) -> AsyncIterator[tuple[FarSide, str]]:
    """Serve a scripted region on a free port; yields it and its base address."""
    far = FarSide(answer)
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{rest:.*}", far.handle)
    async with TestServer(app) as server:
        yield far, str(server.make_url("/")).rstrip("/")


@asynccontextmanager
async def misbehaving(how: Misbehaviour, *, reads: bool = True) -> AsyncIterator[str]:
    """Serve a peer that reads one request (or not even that) and then does as it likes with the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            if reads:
                await reader.readuntil(b"\r\n\r\n")
            await how(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def writes(data: bytes) -> Misbehaviour:
    """A peer that writes some bytes and hangs up."""

    async def how(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return how


async def stays_silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """A peer that takes the request and says nothing until the caller gives up."""
    while await reader.read(1024):
        pass


def closed_port() -> str:
    """Return an address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def material(
    content: bytes = b"%PDF-1.7 synthetic", *, size: int | None = None, media: str = "application/pdf"
) -> Material:
    """One file of a submission."""

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1 << 20):
            yield content[start : start + (1 << 20)]

    digest = hashlib.sha256(content).hexdigest()
    return Material("M1", "证明.pdf", media, len(content) if size is None else size, digest, stream)


def order(document: dict[str, Any] | bytes, *materials: Material) -> SubmissionOrder:
    """One delivery attempt of submission `s-1`."""
    return SubmissionOrder("s-1", document, materials)
