"""The promise that the whole design stands on: no case is lost and none arrives twice, wherever the power goes out.

The gateway runs as a process of its own and is killed with SIGKILL at each step of a delivery. Afterwards the
authority's ledger must show each submission exactly once, counted by messages that it took and not only by cases, and
the gateway's own rows must show each as delivered. On SQLite the same process comes back; on PostgreSQL a second
replica is running all the time and takes the work over.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.sandbox.layout import Layout
from gateway.sandbox.neighbourhood import end, wait_until_ready
from gateway.sandbox.tour import SUBMISSION, agency_token, upload_slip
from tests.flows import killed_gateway
from tests.support.forked import Forked
from tests.support.replicas import lay_out_replicas, secrets_of, submits

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CASES = 5
PATIENCE = 60.0
DELIVERY = {"lease_seconds": 2, "first_delay_seconds": 0.1, "longest_delay_seconds": 1}
LIMITS = {"timeout_seconds": 2, "settle_seconds": 0.5}
SENT = "sent"
"""A step that only the authority can see: the message has arrived, and nobody has answered yet."""
STEPS = ("claimed", SENT, "answered", "settling", "settled")
"""Claimed; sent; the peer said yes; before our commit; after our commit."""


class Group:
    """One or two gateway processes on one store."""

    def __init__(self, layouts: list[Layout], step: str, store_url: str) -> None:
        self.layouts = layouts
        self._secrets = secrets_of(store_url)
        self.processes: list[Forked] = []
        self._step = step
        self._token = layouts[0].folder / "died"

    async def start(self) -> None:
        for layout in self.layouts:
            self.processes.append(await self._run(layout, self._step))

    async def _run(self, layout: Layout, step: str) -> Forked:
        log, arguments = layout.folder / "gateway.log", [str(layout.config), step, str(self._token)]
        process = await Forked.start(killed_gateway.main, arguments, log, log, self._secrets)
        await wait_until_ready(process, layout)
        return process

    async def one_dead(self) -> None:
        """Wait until one process has died of SIGKILL."""
        waiting = [asyncio.create_task(process.wait()) for process in self.processes]
        done, pending = await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        assert [task.result() for task in done] == [-9], "exactly one process dies, and of SIGKILL"

    async def revive(self) -> None:
        """Start again what is dead."""
        for index, process in enumerate(self.processes):
            if process.returncode is not None:
                self.processes[index] = await self._run(self.layouts[index], "none")

    def kill(self) -> None:
        """Kill the first process that lives."""
        next(process for process in self.processes if process.returncode is None).kill()

    async def stop(self) -> None:
        await asyncio.gather(*(end(process) for process in self.processes))


@asynccontextmanager
async def authority(layout: Layout, region: str, watch: Handler | None = None) -> AsyncIterator[web.Application]:
    """Run the region's simulated authority; `watch` sees every arriving submission before it is handled."""
    settings = next(one for one in layout.authorities if one.region == region)
    app: web.Application = import_module(f"adapters.{region}.sandbox").build_authority(settings)
    if watch is not None:

        @web.middleware
        async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
            if submits(request):
                await watch(request)
            return await handler(request)

        app.middlewares.append(watched)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", layout.ports.authorities[region]).start()
    try:
        yield app
    finally:
        await runner.cleanup()


class Agency:
    """An agency that files cases and, as any sane one, sends again when the line breaks: same reference, same case."""

    def __init__(self, layouts: list[Layout], session: aiohttp.ClientSession, region: str) -> None:
        self._layouts = layouts
        self._session = session
        self._region = region

    async def file(self) -> str:
        """File one case and return its number, whatever happens to the gateways meanwhile."""
        body = {**SUBMISSION, "place": self._region, "reference": secrets.token_hex(8)}
        receipt = await self._insist(lambda url, layout: self._file_at(url, layout, body))
        return str(receipt["id"])

    async def case(self, number: str) -> Mapping[str, Any]:
        return await self._insist(lambda url, layout: self._get(url, layout, f"/v1/submissions/{number}"))

    async def _file_at(self, url: str, layout: Layout, body: Mapping[str, Any]) -> Mapping[str, Any]:
        token = await agency_token(self._session, url, layout.folder)
        items = await _json(await self._session.get(f"{url}/v1/items", headers=_bearer(token)))
        blob = await upload_slip(self._session, url, token)
        whole = {**body, "item": items["items"][0]["code"], "materials": [{"code": "ID", "blob": blob["id"]}]}
        return await _json(await self._session.post(f"{url}/v1/submissions", json=whole, headers=_bearer(token)))

    async def _get(self, url: str, layout: Layout, path: str) -> Mapping[str, Any]:
        token = await agency_token(self._session, url, layout.folder)
        return await _json(await self._session.get(url + path, headers=_bearer(token)))

    async def _insist(self, call: Callable[[str, Layout], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while True:
                for layout in self._layouts:
                    try:
                        return await call(layout.ports.public_url, layout)
                    except aiohttp.ClientConnectionError:
                        await asyncio.sleep(0.05)  # that replica is dead just now: ask the next one
        raise AssertionError("unreachable: the time-out raises")


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _json(answer: aiohttp.ClientResponse) -> Mapping[str, Any]:
    body: Mapping[str, Any] = await answer.json(content_type=None)
    assert answer.status < 300, body
    return body


@pytest.fixture(params=["sqlite", "postgresql with two replicas"])
def house(request: pytest.FixtureRequest) -> tuple[str, int, str]:
    """Give the store's address, how many processes share it, and the region that is delivered to.

    The region changes with the store, so that a protocol which pushes files first and one which signs XML both have
    their power cut.
    """
    if request.param == "sqlite":
        return "sqlite:///pearl.db", 1, "foshan"
    return str(request.getfixturevalue("postgres_url")), 2, "guangdong"


@pytest.mark.parametrize("step", STEPS)
async def test_submission_survives_a_kill(step: str, house: tuple[str, int, str], tmp_path: Path) -> None:
    """A power cut at this step loses no case and sends none twice."""
    url, replicas, region = house
    layouts = lay_out_replicas(tmp_path, url, replicas, delivery=DELIVERY, limits=LIMITS)
    group = Group(layouts, step, url)
    killed = asyncio.Event()

    async def cut_the_power(_request: web.Request) -> web.StreamResponse:
        """Hold the first message until its sender is dead; the authority then takes the case all the same."""
        if not killed.is_set():
            killed.set()
            group.kill()
            await group.one_dead()
        return web.Response()

    watch = cut_the_power if step == SENT else None
    async with authority(layouts[0], region, watch), aiohttp.ClientSession() as session:
        try:
            await group.start()
            agency = Agency(layouts, session, region)
            filing = [asyncio.create_task(agency.file()) for _ in range(CASES)]
            await (killed.wait() if step == SENT else group.one_dead())
            if step == SENT:
                await _until_dead(group)
            await group.revive()
            numbers = await asyncio.gather(*filing)
            cases = [await _delivered(agency, number) for number in numbers]
            ledger = await _ledger(session, layouts[0], region)
        finally:
            await group.stop()
    assert len(set(numbers)) == CASES
    assert set(ledger["cases"]) == set(numbers), "the authority holds these cases and no other"
    assert {number: ledger["arrivals"][number] for number in numbers} == dict.fromkeys(numbers, 1)
    assert all(case["delivery"]["state"] == "delivered" for case in cases)
    assert all(_times(case, "FORWARDED") == 1 for case in cases), "delivered once in our own book too"


async def _until_dead(group: Group) -> None:
    async with asyncio.timeout(PATIENCE):
        while all(process.returncode is None for process in group.processes):
            await asyncio.sleep(0.02)


async def _delivered(agency: Agency, number: str) -> Mapping[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            case = await agency.case(number)
            if case["delivery"]["state"] == "delivered":
                return case
            await asyncio.sleep(0.1)


async def _ledger(session: aiohttp.ClientSession, layout: Layout, region: str) -> Mapping[str, Any]:
    return await _json(await session.get(layout.ports.authority_url(region) + "/control/ledger"))


def _times(case: Mapping[str, Any], state: str) -> int:
    return sum(entry["state"] == state for entry in case["timeline"])
