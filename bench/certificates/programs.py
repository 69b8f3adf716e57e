"""The bare programs that the gateway is measured beside, and the authorities behind it, each a process of its own.

Owns: their sources and their life. The sink speaks Guangdong's wire and answers at once, always the same; the slow
issuer is the simulated authority of Shenzhen, behind a pause.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import aiohttp

from gateway.sandbox.layout import Choices, Layout, Ports, lay_out
from gateway.sandbox.neighbourhood import authorities
from gateway.waiting import new_event_loop

SINK = """
import asyncio, sys
import uvloop
body = open(sys.argv[2], "rb").read()
head = f"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
answer = head.encode() + body
class Sink(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.come = transport, b""
    def data_received(self, data):
        self.come += data
        while (end := self.come.find(b"\\r\\n\\r\\n")) >= 0:
            lines = self.come[:end].lower().split(b"\\r\\n")
            sizes = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
            whole = end + 4 + sum(sizes)
            if len(self.come) < whole:
                return
            self.come = self.come[whole:]
            self.transport.write(answer)
async def main():
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", int(sys.argv[1]))
    print("ready", flush=True)
    await server.serve_forever()
uvloop.run(main())
"""
_SERVED = """
async def main():
    await prepare()
    app = web.Application()
    app.add_routes([web.post("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    print("ready", flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""
PASS_THROUGH = f"""
import asyncio, sys
import aiohttp, uvloop
from aiohttp import web
async def prepare():
    global session
    session = aiohttp.ClientSession()
async def answer(request):
    headers = {{"Content-Type": "application/json"}}
    async with session.post(sys.argv[2], data=await request.read(), headers=headers) as found:
        return web.Response(body=await found.read(), status=found.status, content_type="application/json")
{_SERVED}"""
SAME_BYTES = f"""
import asyncio, sys
import uvloop
from aiohttp import web
body = open(sys.argv[2], "rb").read()
async def prepare():
    pass
async def answer(request):
    await request.read()
    return web.Response(body=body, content_type="application/json")
{_SERVED}"""
ONE_ROW = f"""
import asyncio, sys, time
import orjson, uvloop
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import Column, LargeBinary, MetaData, String, Table
from gateway.storage import open_store
body, known = open(sys.argv[2], "rb").read(), {{}}
keys = KeySet.import_key_set(orjson.loads(open(sys.argv[3], "rb").read()))
metadata = MetaData()
asked = Table("asked", metadata, Column("id", String(29), primary_key=True), Column("body", LargeBinary))
written, count = asked.insert(), 0
async def prepare():
    global store
    store = await open_store(f"sqlite:///{{sys.argv[4]}}")
    await store.write(metadata.create_all)
def verified(token):
    if token not in known:
        known[token] = jwt.decode(token, keys, algorithms=["ES256"]).claims
    if known[token]["exp"] < time.time():
        raise web.HTTPUnauthorized
async def answer(request):
    global count
    count += 1
    verified(request.headers["Authorization"][7:])
    sent = await request.read()
    orjson.loads(sent)
    row = {{"id": str(count), "body": sent}}
    await store.write(lambda tx: tx.execute(written, row))
    return web.Response(body=body, content_type="application/json")
{_SERVED}"""


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Let what is started meanwhile run on one core of those that there are."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@asynccontextmanager
async def program(source: str, *arguments: str) -> AsyncIterator[int]:
    """Run a program until it is not needed any more; yield its pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdout is None or not await process.stdout.readline():
            raise RuntimeError("a bare program did not start")
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def slow_authority(layout: Layout, region: str, seconds: float) -> AsyncIterator[None]:
    """Run the simulated authority of a region, which takes so long for everything."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_serve, args=(layout.folder, layout.ports, region, ready), daemon=True)
    process.start()
    try:
        if not await asyncio.to_thread(ready.wait, 30):
            raise RuntimeError("the slow authority did not start")
        order = {"mode": "slow", "times": -1, "seconds": seconds}
        async with aiohttp.ClientSession() as session:
            await session.post(f"{layout.ports.authority_url(region)}/control", json=order, raise_for_status=True)
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)


def _serve(folder: Path, ports: Ports, region: str, ready: Event) -> None:
    layout = lay_out(folder, ports, Choices(keep=True))  # as it is there already

    async def serve() -> None:
        async with authorities([one for one in layout.authorities if one.region == region], ports):
            ready.set()
            await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())
