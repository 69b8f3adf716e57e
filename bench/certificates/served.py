"""The gateway as `pearl serve` runs it, with Guangdong's real wire to a bare sink, and the questions that it is asked.

Owns: what runs where, and one load for all of it. The gateway and the bare programs have one core, of which they have
nothing while another is measured; authorities and load have the other. Every question names a case of its own: two that
are the same and under way would be asked once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench.certificates.programs import ONE_ROW, PASS_THROUGH, SAME_BYTES, SINK, on_core, program, slow_authority
from bench.signon import Line, expect
from gateway.sandbox.layout import Choices, Layout, lay_out
from gateway.sandbox.neighbourhood import free_ports, gateway_process
from gateway.sandbox.tour import LOOKUP, agency_token
from tests.support.few_regions import THREE, narrow

CONNECTIONS = 16
SECONDS = 2.0
SLOW, SLOW_SECONDS, SLOW_LOOKUPS = "shenzhen", 2.0, 200
REGIONS = (*THREE, SLOW)
LIMITS = {"concurrency": 2 * SLOW_LOOKUPS, "requests_per_second": 100_000}
LOOK_UP, VERIFY = "/v1/certificates/lookup", "/v1/certificates/verify"
CARD = "1.2.156.3005.2.11100000000013127D001.11440000MBT400007D.SBX000000000101.001.W"
SAID = {
    "head": {"status": "0", "message": ""},
    "data": [
        {
            "ZZBS": CARD, "ZZMC": "中华人民共和国居民身份证", "ZZBH": "44010619900101900X",
            "ZZLXDM": "11100000000013127D001", "ZZBFJG": "广东省公安厅（沙箱）", "ZZBFJGDM": "11440000MBT400007D",
            "CZZT": "陈小明", "CZZTDM": "44010619900101900X", "CZZTDMLXDM": "111", "ZZZT": "01",
            "ZZBFRQ": "20200101", "ZZYXQQSRQ": "20200101", "ZZYXQJZRQ": "20400101",
        }
    ],
}  # fmt: skip
"""What the sink says to everything."""
ITEM = {"code": "11440100MBT40100XX3442011899001", "name": "跨省异地就医备案"}
COMPANY = {"name": "湾区示例有限公司", "document": {"type": "USCC", "number": "91440300MA5T00029H"}}
BY_HOLDER: Mapping[str, Any] = {**LOOKUP, "item": ITEM}
BY_IDENTIFIER = {
    **{name: value for name, value in BY_HOLDER.items() if name not in {"holder", "certificate_type"}},
    "identifier": CARD,
}
OF_THE_SLOW = {**BY_HOLDER, "certificate_type": "食品经营许可证", "issuer": SLOW, "holder": COMPANY}

_cases = itertools.count()


@dataclass(frozen=True, slots=True)
class Door:
    """Where one question after another is put: a port, the head of each request, the question and what is answered."""

    port: int
    path: str
    head: str
    question: Mapping[str, Any]
    answer: bytes
    pid: int

    async def ask(self, line: Line) -> None:
        """Put the question once more, for a case of its own."""
        body = orjson.dumps({**self.question, "case": f"BENCH-{next(_cases)}"})
        status, _, answer = await line.ask("POST", self.path, body, self.head)
        expect(status == 200 and self.answer in answer, answer)

    async def line(self) -> Line:
        """Open a connection."""
        return Line(*await asyncio.open_connection("127.0.0.1", self.port))

    async def per_second(self) -> float:
        """Return how many are answered a second over all connections."""
        return (await self.measured(CONNECTIONS, SECONDS))[0]

    async def measured(self, connections: int, seconds: float) -> tuple[float, float]:
        """Return how many are answered a second, and the milliseconds of processor time for each."""
        lines = [await self.line() for _ in range(connections)]
        spent, begun, done = _processor_seconds(self.pid), time.perf_counter(), 0

        async def repeat(line: Line) -> None:
            nonlocal done
            while time.perf_counter() - begun < seconds:
                await self.ask(line)
                done += 1

        await asyncio.gather(*(repeat(line) for line in lines))
        took, spent = time.perf_counter() - begun, _processor_seconds(self.pid) - spent
        for line in lines:
            line.writer.close()
        return done / took, spent / done * 1000

    async def p99(self, rate: float, seconds: float) -> float:
        """Return the milliseconds within which 99 of 100 are answered that come at this rate, busy or not.

        The time runs from when each was to be sent.
        """
        free: asyncio.Queue[Line] = asyncio.Queue()
        for _ in range(4 * CONNECTIONS):
            free.put_nowait(await self.line())
        now, times = asyncio.get_running_loop().time, list[float]()
        begun = now()

        async def one(at: float) -> None:
            line = await free.get()
            await self.ask(line)
            times.append(now() - at)
            free.put_nowait(line)

        async with asyncio.TaskGroup() as all_of_them:
            for number in range(int(rate * seconds)):
                at = begun + number / rate
                await asyncio.sleep(max(0.0, at - now()))
                all_of_them.create_task(one(at))
        while not free.empty():
            free.get_nowait().writer.close()
        return sorted(times)[int(len(times) * 0.99)] * 1000


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Served:
    """What is measured."""

    lookup: Door
    slow_lookup: Door
    passed_through: Door
    verify: Door
    same_bytes: Door
    one_row: Door


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    """Run all of it. The standing of the one certificate is remembered by the gateway when this begins."""
    layout = lay_out(folder, free_ports(REGIONS), Choices(limits=LIMITS))
    narrow(folder, REGIONS)
    (folder / "said").write_bytes(orjson.dumps(SAID))
    sink = layout.ports.authorities["guangdong"]
    async with AsyncExitStack() as down:
        with on_core(1):
            await down.enter_async_context(program(SINK, str(sink), str(folder / "said")))
            await down.enter_async_context(slow_authority(layout, SLOW, SLOW_SECONDS))
        with on_core(0):
            gateway = await down.enter_async_context(gateway_process(layout))
        with on_core(1):
            yield await _opened(down, layout, gateway.pid)


async def _opened(down: AsyncExitStack, layout: Layout, gateway: int) -> Served:
    """Ask the gateway once, and run beside it what answers the same."""
    ports, folder = layout.ports, layout.folder
    async with aiohttp.ClientSession() as session:
        token = await agency_token(session, ports.public_url, folder)
        async with session.get(f"{ports.public_url}/oauth2/jwks") as keys:
            (folder / "jwks").write_bytes(await keys.read())
    head = f"Authorization: Bearer {token}\r\n"

    def ours(path: str, question: Mapping[str, Any]) -> Door:
        return Door(ports.public, path, head, question, b'"standing":"valid"', gateway)

    async def theirs(source: str, path: str, question: Mapping[str, Any], said: bytes, *given: str) -> Door:
        port = free_ports([]).public
        with on_core(0):
            pid = await down.enter_async_context(program(source, str(port), *given))
        return Door(port, path, head, question, said, pid)

    first = ours(VERIFY, {**BY_HOLDER, "claims": {}})
    await first.ask(await first.line())
    verify = ours(VERIFY, BY_IDENTIFIER)
    line = await verify.line()
    _, _, answer = await line.ask("POST", VERIFY, orjson.dumps({**BY_IDENTIFIER, "case": "BENCH"}), head)
    expect(b'"remembered"' in answer, answer)
    (folder / "answer").write_bytes(answer)
    issuer = f"{ports.authority_url('guangdong')}/elssp/v1/GetCertificateDataByHolder"
    files = [str(folder / name) for name in ("answer", "jwks", "asked.db")]
    return Served(
        lookup=ours(LOOK_UP, BY_HOLDER),
        slow_lookup=ours(LOOK_UP, OF_THE_SLOW),
        passed_through=await theirs(PASS_THROUGH, LOOK_UP, BY_HOLDER, CARD.encode(), issuer),
        verify=verify,
        same_bytes=await theirs(SAME_BYTES, VERIFY, BY_IDENTIFIER, answer, files[0]),
        one_row=await theirs(ONE_ROW, VERIFY, BY_IDENTIFIER, answer, *files),
    )
