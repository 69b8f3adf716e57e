"""What is measured at a gateway that serves: taking cases in, handing them over, and memory.

Owns: the gateway as `pearl serve` runs it, on SQLite with its durable writes and with Guangdong's real wire to a bare
sink; and the bare programs beside it. Taking in and handing over are measured apart: Guangdong is in maintenance while
cases are taken in, as on the night of a release, and nobody files while the queue is worked off.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from sqlalchemy import Connection, delete, func, insert, select

from bench.signon import Line, expect
from bench.start import megabytes
from bench.submissions.cases import ITEM_FILE, REGION, application, multiply
from gateway.sandbox.layout import Choices, Layout, lay_out
from gateway.sandbox.neighbourhood import free_ports, gateway_process
from gateway.sandbox.tour import agency_token
from gateway.storage import Store, open_store
from gateway.storage.tables import deliveries, delivery_pauses, submissions

CONNECTIONS = 16
SECONDS = 2.0
PATIENCE = 30.0
"""Seconds after which a queue that does not move is a failure."""
QUEUED = 100_000
LIMITS = {"concurrency": CONNECTIONS, "requests_per_second": 100_000}
DELIVERY = {"poll_seconds": 0.2, "lease_seconds": 60}

SINK = """
import sys, time
import orjson, uvloop
from aiohttp import web
taken = 0
last = b""
async def take(request):
    global taken, last
    last = await request.read()
    taken += 1
    data = {"wwbh": request.headers["x-pearl-submission-id"], "sblsh": f"4400002026{taken:014}",
            "sblsh_short": "", "jssj": "20261130093002"}
    return web.Response(body=orjson.dumps({"code": "200", "data": data}), content_type="application/json")
async def show(request):
    return web.Response(body=last)
async def main():
    app = web.Application()
    app.add_routes([web.get("/last", show), web.post("/{path:.*}", take)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    print("ready", flush=True)
    await __import__("asyncio").Event().wait()
uvloop.run(main())
"""
BARE_DOOR = """
import sys
import uvloop
from aiohttp import web
from sqlalchemy import Column, LargeBinary, MetaData, String, Table
from gateway.storage import open_store
metadata = MetaData()
taken = Table("taken", metadata, Column("id", String(29), primary_key=True), Column("body", LargeBinary))
written, count = taken.insert(), 0
async def main():
    store = await open_store(f"sqlite:///{sys.argv[2]}")
    await store.write(metadata.create_all)
    async def take(request):
        global count
        count += 1
        row = {"id": str(count), "body": await request.read()}
        await store.write(lambda tx: tx.execute(written, row))
        return web.Response(body=b"{}", status=201, content_type="application/json")
    app = web.Application()
    app.add_routes([web.post("/v1/submissions", take)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    print("ready", flush=True)
    await __import__("asyncio").Event().wait()
uvloop.run(main())
"""
BARE_CLIENT = """
import asyncio, sys, time
import aiohttp, orjson, uvloop
url, connections, seconds, body = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), open(sys.argv[4], "rb").read()
async def main():
    done = 0
    headers = {"Content-Type": "application/json", "x-pearl-submission-id": "KY44010044000020261130000001X"}
    async with aiohttp.ClientSession() as session:
        begun = time.perf_counter()
        async def repeat():
            nonlocal done
            while time.perf_counter() - begun < seconds:
                async with session.post(url, data=body, headers=headers) as answer:
                    orjson.loads(await answer.read())["data"]["sblsh"]
                done += 1
        await asyncio.gather(*(repeat() for _ in range(connections)))
        print(done / (time.perf_counter() - begun), flush=True)
uvloop.run(main())
"""


@dataclass(slots=True)
class Served:
    """A gateway that serves, the sink behind Guangdong's wire, the bare door, and the gateway's own database."""

    layout: Layout
    store: Store
    pid: int
    token: str
    sink: int
    door: int

    async def taken_in(self) -> float:
        """Return how many applications a second the gateway accepts."""
        head = f"Authorization: Bearer {self.token}\r\n"
        return await _handed_in(self.layout.ports.public, head, lambda: application(secrets.token_hex(8)))

    async def taken_in_barely(self) -> float:
        """Return how many of the same bytes a second the bare handler stores."""
        return await _handed_in(self.door, "", lambda: application(secrets.token_hex(8)))

    async def handed_over(self) -> float:
        """Return how many cases a second are delivered, by when the first and the last were settled."""
        before = await self.store.read(_delivered)
        await self.store.write(_resume)
        async with asyncio.timeout(PATIENCE):
            while await self.store.read(_delivered) == before:
                await asyncio.sleep(0.02)  # another process does it, and tells nobody
            await asyncio.sleep(SECONDS)  # for so long it is measured
            await self.store.write(_pause)
            while await self.store.read(_under_way):
                await asyncio.sleep(0.05)  # what is under way ends by itself
        return await self.store.read(lambda tx: _rate_after(tx, before))

    async def handed_over_barely(self) -> float:
        """Return how many of the same bytes a second a bare client hands to the same sink."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.sink}/last") as answer:
            (self.layout.folder / "last").write_bytes(await answer.read())
        url = f"http://127.0.0.1:{self.sink}/ebus/pearl/cases"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BARE_CLIENT, url, str(CONNECTIONS), str(SECONDS), str(self.layout.folder / "last"),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        return float(output)


async def _handed_in(port: int, head: str, made: Callable[[], bytes]) -> float:
    """Return how many of these are accepted a second over all connections."""
    lines = [Line(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    begun, done = time.perf_counter(), 0

    async def repeat(line: Line) -> None:
        nonlocal done
        while time.perf_counter() - begun < SECONDS:
            status, _, body = await line.ask("POST", "/v1/submissions", made(), head)
            expect(status == 201, body)
            done += 1

    await asyncio.gather(*(repeat(line) for line in lines))
    seconds = time.perf_counter() - begun
    for line in lines:
        line.writer.close()
    return done / seconds


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    """Run all of it; cases are taken in and wait."""
    layout = laid_out(folder)
    store = await open_store(f"sqlite:///{folder / 'pearl.db'}")
    sink, door = layout.ports.authorities[REGION], free_ports([]).public
    try:
        await store.migrate()
        await store.write(_pause)
        async with (
            gateway_process(layout) as process,
            _program(SINK, str(sink)),
            _program(BARE_DOOR, str(door), str(folder / "bare.db")),
            aiohttp.ClientSession() as session,
        ):
            token = await agency_token(session, layout.ports.public_url, folder)
            yield Served(layout, store, process.pid, token, sink, door)
    finally:
        await store.close()


def laid_out(folder: Path) -> Layout:
    """Write the folder of a gateway that has one more item."""
    layout = lay_out(folder, free_ports(), Choices(delivery=DELIVERY, limits=LIMITS))
    with (folder / "items.toml").open("a", encoding="utf-8") as items:
        items.write(ITEM_FILE)
    return layout


async def queued_memory(layout: Layout, store: Store) -> float:
    """Return the MB of a gateway with 100,000 deliveries that wait for a region in maintenance.

    It is measured after ten scrapes of /metrics and as many looks of the worker.
    """
    case = await store.read(lambda tx: tx.execute(select(func.min(submissions.c.id))).scalar_one())
    await store.write(lambda tx: multiply(tx, case, 1, QUEUED, finished=False))
    async with gateway_process(layout) as process, aiohttp.ClientSession() as session:
        for _ in range(10):
            async with session.get(f"{layout.ports.admin_url}/metrics") as answer:
                expect(answer.status == 200, await answer.read())
            await asyncio.sleep(DELIVERY["poll_seconds"])  # the worker looks once more meanwhile
        return megabytes(process.pid)


@asynccontextmanager
async def _program(source: str, *arguments: str) -> AsyncIterator[None]:
    """Run a program until it is not needed any more."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdout is None or not await process.stdout.readline():
            raise RuntimeError("a bare program did not start")
        yield
    finally:
        process.terminate()
        await process.wait()


def _pause(tx: Connection) -> None:
    row = {"region": REGION, "reason": "measuring", "paused_by": "bench", "since": datetime.now(UTC)}
    tx.execute(insert(delivery_pauses).values(row))


def _resume(tx: Connection) -> None:
    tx.execute(delete(delivery_pauses))


def _delivered(tx: Connection) -> int:
    query = select(func.count()).where(deliveries.c.state == "delivered")
    return int(tx.execute(query).scalar_one())


def _under_way(tx: Connection) -> int:
    return int(tx.execute(select(func.count()).where(deliveries.c.state == "sending")).scalar_one())


def _rate_after(tx: Connection, before: int) -> float:
    """Return the rate of all deliveries but the first `before`, by when they were settled."""
    c = deliveries.c
    query = select(c.settled_at).where(c.state == "delivered").order_by(c.settled_at).offset(before)
    times = list(tx.execute(query).scalars())
    seconds: float = (times[-1] - times[0]).total_seconds()
    return (len(times) - 1) / seconds
