"""How much memory a file of two gigabytes costs, from the agency's first byte to the region's last.

A real `pearl serve` takes it in eight requests (so that the whole is read back and looked into at the end), and hands
it to a bare program in Guangdong's place, which digests what arrives. The figure is the rise of the process's resident
memory above what it has after a case with a small file: what the file costs, and not what the program costs.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey

from bench.report import report, row
from gateway.sandbox.layout import Choices, Layout, lay_out
from gateway.sandbox.neighbourhood import authorities, free_ports, gateway_process
from gateway.waiting import new_event_loop

GIBIBYTE = 1 << 30
SIZE = 2 * GIBIBYTE
REQUESTS = 8
LIMIT_MEGABYTES = 32.0
PATIENCE = 300.0
AGENCY, REGION = "demo-agency", "guangdong"
LIMITS = f"""
[limits]
upload_bytes = {2 * SIZE}
case_bytes = {2 * SIZE}
unfinished_bytes = {2 * SIZE}
"""
BLOCK = os.urandom(1 << 20)
"""Bytes that nothing can make smaller."""


@dataclass(slots=True)
class Sink:
    """A region that takes whatever comes, keeps nothing of it, and says what it was."""

    arrived: dict[str, int] = field(default_factory=dict)
    cases: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def take_file(self, request: web.Request) -> web.Response:
        """Digest a file."""
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        self.arrived[digest.hexdigest()] = size
        return web.json_response({"code": "200", "message": "ok", "data": {"wjzy": digest.hexdigest()}})

    async def take_case(self, request: web.Request) -> web.Response:
        """Give a receipt."""
        number = (await request.json())["wwbh"]
        self.cases.put_nowait(number)
        receipt = {"wwbh": number, "sblsh": f"GD{secrets.randbelow(10**9):09d}", "jssj": time.strftime("%Y%m%d%H%M%S")}
        return web.json_response({"code": "200", "message": "ok", "data": receipt})


@asynccontextmanager
async def sink(port: int) -> AsyncIterator[Sink]:
    """Serve a sink in the region's place."""
    found = Sink()
    app = web.Application()
    root = "/ebus/pearl/v1"
    app.add_routes(
        [web.put(f"{root}/materials/{{digest}}", found.take_file), web.post(f"{root}/cases", found.take_case)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield found
    finally:
        await runner.cleanup()


@dataclass(slots=True)
class Agency:
    """The agency's system."""

    layout: Layout
    http: aiohttp.ClientSession

    async def token(self) -> dict[str, str]:
        """Return the header of a fresh token."""
        key = ECKey.import_key((self.layout.folder / "keys" / f"{AGENCY}.pem").read_bytes())
        now, url = int(time.time()), self.layout.ports.public_url
        claims = {"iss": AGENCY, "sub": AGENCY, "aud": url, "jti": secrets.token_hex(12), "exp": now + 60}
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": jwt.encode({"alg": "ES256"}, claims, key, algorithms=["ES256"]),
        }
        answer = await self._asked("POST", "/oauth2/token", 200, data=form)
        return {"Authorization": f"Bearer {answer['access_token']}"}

    async def upload(self, size: int, requests: int) -> tuple[str, str]:
        """Upload a file in so many requests; return its id and digest."""
        digest = hashlib.sha256()
        begun = {
            **await self.token(),
            "Content-Type": "application/pdf",
            "Upload-Complete": "?0",
            "Upload-Length": str(size),
        }
        blob = str((await self._asked("POST", "/v1/blobs", 201, headers=begun))["id"])
        step = size // requests
        for number in range(requests):
            length = step if number < requests - 1 else size - number * step
            headers = {
                **await self.token(), "Content-Type": "application/partial-upload", "Content-Length": str(length),
                "Upload-Offset": str(number * step), "Upload-Complete": "?0" if number < requests - 1 else "?1",
            }  # fmt: skip
            status = 204 if number < requests - 1 else 200
            content = _content(length, first=number == 0, digest=digest)
            await self._asked("PATCH", f"/v1/blobs/{blob}", status, headers=headers, data=content)
        return blob, digest.hexdigest()

    async def file(self, blob: str) -> str:
        """Hand a case in that has the file; return its number."""
        body = {
            "reference": secrets.token_hex(8), "item": "11440100MBT40100XX3442011899001", "place": REGION,
            "mode": "collect",
            "applicant": {"kind": "person", "name": "陈小明",
                          "document": {"type": "CN_RIC", "number": "44010619900101900X"}},
            "form": {"insured_place": "440600", "destination": "440100", "kind": "resident", "start": "2026-12-01"},
            "materials": [{"code": "ID", "blob": blob}],
            "purpose_code": "cross-region-service", "purpose": "measurement", "legal_basis": "statutory",
        }  # fmt: skip
        return str((await self._asked("POST", "/v1/submissions", 201, headers=await self.token(), json=body))["id"])

    async def _asked(self, method: str, path: str, status: int, **more: Any) -> dict[str, Any]:
        async with self.http.request(method, self.layout.ports.public_url + path, **more) as answer:
            text = await answer.text()
            if answer.status != status:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]}")
            return dict(await answer.json()) if text else {}


async def _content(length: int, *, first: bool, digest: Any) -> AsyncIterator[bytes]:
    head = b"%PDF-1.7\n" if first else b""
    left = length
    while left:
        piece = (head or BLOCK)[:left]
        head = b""
        left -= len(piece)
        digest.update(piece)
        yield piece


def memory(pid: int, name: str) -> float:
    """Return a figure of a process's memory in MiB: `VmRSS` (now) or `VmHWM` (the most since it was reset)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


async def through(agency: Agency, region: Sink, size: int, requests: int) -> None:
    """Bring one file from the agency to the region, whole."""
    blob, digest = await agency.upload(size, requests)
    case = await agency.file(blob)
    async with asyncio.timeout(PATIENCE):
        while await region.cases.get() != case:
            pass
    if region.arrived.get(digest) != size:
        raise RuntimeError("another file arrived than the one that was sent")


async def measure(size: int = SIZE) -> list[dict[str, Any]]:
    """Return the result rows; print memory before, at the peak, and the time that it took."""
    with tempfile.TemporaryDirectory() as place:
        ports = free_ports()
        layout = lay_out(Path(place), ports, Choices(limits={"material_bytes": 2 * size}, extra=LIMITS))
        async with (
            sink(ports.authorities[REGION]) as region,
            authorities([each for each in layout.authorities if each.region != REGION], ports),
            gateway_process(layout) as process,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http,
        ):
            agency = Agency(layout, http)
            await through(agency, region, 1 << 20, 2)
            Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")  # noqa: ASYNC240 - no disk
            before, begun = memory(process.pid, "VmRSS"), time.perf_counter()
            await through(agency, region, size, REQUESTS)
            peak, seconds = memory(process.pid, "VmHWM"), time.perf_counter() - begun
    print(f"{size >> 20} MiB in {seconds:.0f} s; resident before {before:.1f} MiB, at the peak {peak:.1f} MiB")
    return [
        row(
            "rise of resident memory by a file of 2 GiB, against the limit", peak - before, LIMIT_MEGABYTES, "MiB", 1.0
        ),
        row("agency to region, against the file's size", (size >> 20) / seconds, size >> 20, "MiB a second", None),
    ]


def main() -> int:
    """Measure, print and write bench/results/materials.json."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return 0 if report("materials", runner.run(measure())) else 1


if __name__ == "__main__":
    sys.exit(main())
