"""An operator closes a region and opens it again: over HTTP, at the command line, and what monitoring sees of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from gateway.storage.tables import evidence
from tests.flows.flow_support import Answer, World
from tests.support import forked

pytestmark = pytest.mark.asyncio(loop_scope="session")

JSON = {"Content-Type": "application/json"}
REGION = "guangdong"


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def open_again(world: World) -> AsyncIterator[None]:
    """Begin with nobody signed on by the region, and leave it open."""
    await turn(world, "close", reason="a test begins")
    await turn(world, "open", reason="a test begins")
    yield
    if (await state(world))["closed"]:
        await turn(world, "open", reason="the test is over")


async def ops(world: World, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Answer:
    return await world.send(method, f"/ops/regions{path}", data=body, headers=headers or JSON, url=world.admin_url)


async def turn(world: World, how: str, region: str = REGION, **body: Any) -> Answer:
    return await ops(world, "POST", f"/{region}/{how}", body=orjson.dumps(body))


async def state(world: World, region: str = REGION) -> dict[str, Any]:
    shown = (await ops(world, "GET", "")).json()["regions"]
    found: dict[str, Any] = next(one for one in shown if one["region"] == region)
    return found


async def test_an_operator_sees_what_closing_would_cut_off_then_closes_and_opens(world: World) -> None:
    nothing = {"sessions": 0, "interactions": 0, "by_client": {}}
    preview = await ops(world, "GET", f"/{REGION}/preview")
    assert (preview.status, preview.json()) == (200, {"region": REGION, "would_cut_off": nothing})
    closed = await turn(world, "close", reason="key leaked", operator="li")
    assert (closed.status, closed.json()) == (200, {"region": REGION, "closed": True, "cut_off": nothing})
    shown = await state(world)
    assert (shown["closed"], shown["sign_on"], shown["reason"]) == (True, "closed", "key leaked")
    assert (shown["changed_by"], shown["changed_at"][-1]) == ("operator:li", "Z")
    opened = await turn(world, "open", reason="new key", operator="li")
    assert (opened.status, opened.json()) == (200, {"region": REGION, "closed": False})
    assert (await state(world))["sign_on"] == "ok"
    (row,) = [row for row in await world.rows(evidence, action="region.close") if row["who"] == {"operator": "li"}]
    assert (row["reason"], row["purpose"]) == ("key leaked", "operation")


async def test_a_closed_region_is_a_line_in_readyz_and_a_figure_and_no_reason_to_restart(world: World) -> None:
    await turn(world, "close", reason="key leaked")
    ready = await world.send("GET", "/readyz", url=world.admin_url)
    assert ready.status == 200
    assert f"sign-on {REGION}: closed by the operator" in ready.body.decode().splitlines()
    figures = (await world.send("GET", "/metrics", url=world.admin_url)).body.decode()
    assert f'pearl_region_closed{{region="{REGION}"}} 1.0' in figures
    await turn(world, "open", reason="new key")
    assert "closed" not in (await world.send("GET", "/readyz", url=world.admin_url)).body.decode()


async def test_deliveries_to_a_closed_region_go_on(world: World) -> None:
    """Closing is about who signs people on; a case that was filed is another matter."""
    await turn(world, "close", reason="key leaked")
    case = await world.file(REGION)
    assert (await world.until(case, "COMPLETED"))["delivery"]["state"] == "delivered"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        (f"/{REGION}/close", b'{"reason": "x"}', {"Content-Type": "text/plain"}, 422, "request.media_type"),
        (f"/{REGION}/close", b'{"reason": "x"}', {"Content-Type": "application/x-www-form-urlencoded"}, 422,
         "request.media_type"),
        (f"/{REGION}/close", b"{}", JSON, 422, "request.invalid"),
        (f"/{REGION}/close", b"[", JSON, 422, "request.not_json"),
        (f"/{REGION}/close", orjson.dumps({"reason": "x" * 129}), JSON, 422, "request.invalid"),
        (f"/{REGION}/close", b'{"reason": "x", "force": true}', JSON, 422, "request.invalid"),
        (f"/{REGION}/open", b'{"reason": "x"}', JSON, 409, "region.as_it_is"),
        ("/nowhere/close", b'{"reason": "x"}', JSON, 404, "region.unknown"),
    ],
)  # fmt: skip
async def test_a_switch_is_not_turned_by_what_a_web_page_could_send_or_without_a_reason(
    world: World, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await ops(world, "POST", path, body=body, **headers)
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert not (await state(world))["closed"]


async def test_a_preview_of_a_region_that_is_not_there_is_refused(world: World) -> None:
    assert (await ops(world, "GET", "/nowhere/preview")).status == 404


async def pearl(world: World, *command: str) -> tuple[int, str, str]:
    return await forked.pearl(world.layout.folder, "regions", *command, "--config", str(world.layout.config))


async def test_the_command_line_previews_closes_lists_and_opens(world: World) -> None:
    cut = "0 sessions, 0 sign-ons under way"
    assert await pearl(world, "close", REGION, "--reason", "leak", "--dry-run") == (0, f"would cut off: {cut}\n", "")
    assert not (await state(world))["closed"]
    assert await pearl(world, "close", REGION, "--reason", "leak") == (0, f"{REGION} is closed.\ncut off: {cut}\n", "")
    code, out, _ = await pearl(world, "list", "--live", "--json")
    states = {row["id"]: row["sign_on"] for row in json.loads(out)}
    assert (code, states[REGION]) == (0, "closed")
    assert await pearl(world, "open", REGION, "--reason", "over") == (0, f"{REGION} is open.\n", "")
    (row,) = [row for row in await world.rows(evidence, action="region.close") if row["reason"] == "leak"]
    assert row["who"]["operator"]
