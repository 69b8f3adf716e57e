"""SIGTERM to a real `pearl serve` while deliveries are under way: it goes in time, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.config import load_config
from gateway.sandbox.neighbourhood import gateway_process
from gateway.storage.tables import blobs, deliveries
from tests.flows.flow_support import LOOK_UP_AT, SLIP, SUBMIT_AT, Authority, World, eventually, outside, prepare
from tests.support.few_regions import THREE

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMIT = 3.0
"""`shutdown_seconds` of these gateways; requests and then deliveries are each given that long."""


async def submitting(world: World, region: str, number: int) -> None:
    """Wait until the authority has seen that many submissions begin."""
    seen = world.authorities[region].seen

    async def look() -> bool | None:
        return sum(SUBMIT_AT[region] in one for one in seen) >= number or None

    await eventually(look)


async def stopped(process: asyncio.subprocess.Process) -> float:
    """Ask the process to stop, wait for its end, and return how long that took in seconds."""
    begun = time.monotonic()
    process.terminate()
    async with asyncio.timeout(20):
        assert await process.wait() == 0
    return time.monotonic() - begun


async def arrived_once(world: World, region: str, submission_id: str) -> bool:
    books = await world.ledger(region)
    return submission_id in books["cases"] and books["arrivals"][submission_id] == 1


async def test_a_delivery_under_way_is_finished_before_the_process_ends(tmp_path: Path) -> None:
    """Half a second more is cheaper than a doubt; after the restart the case goes on."""
    layout = prepare(tmp_path, pace=0.2, regions=THREE)
    async with outside(layout, load_config(layout.config)) as world:
        async with gateway_process(layout) as process:
            for _ in range(2):
                world.authorities["guangdong"].trap(SUBMIT_AT["guangdong"], "slow", seconds=0.7)
            cases = [await world.file("guangdong") for _ in range(2)]
            await submitting(world, "guangdong", 2)
            assert await stopped(process) < 2 * LIMIT
            rows = await world.rows(deliveries)
            assert [(row["state"], row["attempt"]) for row in rows] == [("delivered", 1)] * 2
            with pytest.raises(aiohttp.ClientConnectorError):
                await world.send("GET", "/")
        async with gateway_process(layout):
            for case in cases:
                await world.until(case, "COMPLETED")
                assert await arrived_once(world, "guangdong", case)


async def test_a_delivery_that_takes_too_long_is_left_to_its_lease_and_asked_about(tmp_path: Path) -> None:
    """The process does not wait for ever; the row says that somebody must ask first, and the next process does.

    A look into a feed that hangs is given up as well, and the next process need not wait for its turn at the feed.
    """
    changes = {
        "lease_seconds = 20": "lease_seconds = 3",
        "timeout_seconds = 2\n": "timeout_seconds = 30\n",
        "shutdown_seconds = 3": "shutdown_seconds = 0.5",
    }
    layout = prepare(tmp_path, pace=0.2, changes=changes, regions=THREE)
    async with outside(layout, load_config(layout.config)) as world:
        async with gateway_process(layout) as process:
            for region in ("guangdong", "foshan", "hongkong"):
                world.authorities[region].trap(SUBMIT_AT[region], "slow", seconds=4)
            cases = {region: await world.file(region) for region in ("guangdong", "foshan", "hongkong")}
            for region in cases:
                await submitting(world, region, 1)
            world.authorities["foshan"].trap("#QueryEvents", "slow", seconds=30)
            await eventually(lambda: _sprung(world.authorities["foshan"]))
            assert await stopped(process) < 3
            rows = await world.rows(deliveries)
            assert [(row["state"], row["attempt"]) for row in rows] == [("sending", 1)] * 3
            assert all(row["lease_until"] is not None and row["sent_at"] is not None for row in rows)
        async with gateway_process(layout):
            for region, case in cases.items():
                await world.until(case, "COMPLETED")
                told = await world.evidence_of(case, "submission.deliver")
                assert [(row["outcome"], row["reason"]) for row in told] == [("done", "sent")]
                assert await arrived_once(world, region, case)


async def test_a_request_under_way_is_answered_before_the_process_ends(tmp_path: Path) -> None:
    """A lookup that waits for its issuer gets its answer; a new connection gets none."""
    layout = prepare(tmp_path, regions=THREE)
    async with outside(layout, load_config(layout.config)) as world, gateway_process(layout) as process:
        guangdong = world.authorities["guangdong"]
        guangdong.trap(LOOK_UP_AT["guangdong"], "slow", seconds=1)
        asked = asyncio.create_task(world.ask("POST", "/v1/certificates/lookup", world.question()))

        async def waiting() -> bool | None:
            return not guangdong.traps or None  # the question is there

        await eventually(waiting)
        ending = asyncio.create_task(stopped(process))
        await eventually(lambda: _refuses(world))
        answer = await asked
        assert answer.json()["answers"][0]["standing"] == "valid"
        assert await ending < 2 * LIMIT


async def test_a_file_that_is_half_up_when_the_signal_comes_is_not_stored(tmp_path: Path) -> None:
    """The server reads no more from then on; the caller has no answer and sends the file again."""
    layout = prepare(tmp_path, changes={"shutdown_seconds = 3": "shutdown_seconds = 0.5"}, regions=THREE)
    async with outside(layout, load_config(layout.config)) as world, gateway_process(layout) as process:
        begun, never = asyncio.Event(), asyncio.Event()

        async def half() -> AsyncIterator[bytes]:
            yield SLIP
            begun.set()
            await never.wait()

        headers = {"Authorization": f"Bearer {await world.token()}", "Content-Type": "application/pdf"}
        upload = asyncio.create_task(world.send("POST", "/v1/blobs", data=half(), headers=headers))
        await begun.wait()
        assert await stopped(process) < 2 * LIMIT
        with pytest.raises(aiohttp.ClientError):
            await upload
        assert await world.rows(blobs) == []


async def _sprung(authority: Authority) -> bool | None:
    return not authority.traps or None


async def _refuses(world: World) -> bool | None:
    """Say whether new connections are refused (None: not yet)."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", world.layout.ports.public)
    except ConnectionRefusedError:
        return True
    writer.close()
    return None
