"""A region changes an item: agencies, operators and monitoring see it, new cases wait, and an approval opens it again.

The whole gateway over HTTP, with the province's simulated authority, which changes or suspends its first item on order.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest
import pytest_asyncio
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.storage.tables import evidence
from tests.flows.flow_support import FILING, Answer, World, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

REGION = "guangdong"
ITEM = f"/{REGION}/{FILING}"
JSON = {"Content-Type": "application/json"}
LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:")
REASON = "limits noted"


async def ops(world: World, method: str, path: str = "", body: Mapping[str, Any] | None = None) -> Answer:
    data = None if body is None else orjson.dumps(body)
    return await world.send(method, f"/ops/items{path}", data=data, headers=JSON, url=world.admin_url)


async def pull(world: World, order: str = "") -> dict[str, int]:
    """Have the region asked now, and the authority answer as ordered; return how much of each kind was found."""
    if order:
        world.authorities[REGION].order(order, 1)
    answer = await ops(world, "POST", f"/{REGION}/pull", {"operator": "li"})
    assert answer.status == 200, answer.body
    counts: dict[str, int] = answer.json()["counts"]
    return counts


async def shown(world: World) -> dict[str, Any]:
    """Return the item as operators see it."""
    whole: dict[str, Any] = (await ops(world, "GET", ITEM)).json()
    return whole


async def approve(world: World, seen: str) -> Answer:
    return await ops(world, "POST", f"{ITEM}/approve", {"hash": seen, "reason": REASON, "operator": "li"})


async def pearl(world: World, *command: str) -> tuple[int, str]:
    """Type a `pearl items` command. It asks over HTTP, so it runs in another thread, beside the gateway's log."""
    arguments = ["items", *command, "--config", str(world.layout.config)]
    result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    return result.exit_code, "".join(line for line in result.output.splitlines(True) if not LOGGED.match(line))


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def open_again(world: World) -> AsyncIterator[None]:
    """Begin when the first pull is made, which comes by itself, and leave every item open."""

    async def pulled() -> bool:
        (look,) = [one for one in (await ops(world, "GET")).json()["pulls"] if one["region"] == REGION]
        return look["pulled_at"] is not None

    await eventually(pulled)
    yield
    await pull(world)
    item = await shown(world)
    if item["state"] != "open":
        assert (await approve(world, item["hash"])).status == 200


async def places(world: World, **headers: str) -> tuple[Answer, dict[str, tuple[str, list[str]]]]:
    """Return the item as an agency sees it, and the state of each place with what changed."""
    answer = await world.ask("GET", f"/v1/items/{FILING}", headers=headers)
    told = answer.json()["places"] if answer.body else []
    return answer, {one["region"]: (one["state"], one["changed"]) for one in told}


async def test_what_a_region_published_when_it_was_first_seen_is_open(world: World) -> None:
    item = await shown(world)
    assert (item["state"], item["approved"] is not None) == ("open", True)
    assert item["unlike_file"] == [], "the authority publishes what the seeded file says"
    code, printed = await pearl(world, "list", "--live", "--json")
    assert (code, {one["state"] for one in json.loads(printed) if one["region"] == REGION}) == (0, {"open"})


async def test_an_agency_is_not_sent_twice_what_it_has(world: World) -> None:
    answer, states = await places(world)
    tag = answer.headers["ETag"]
    assert {state for state, _ in states.values()} == {"open"}
    for known in (f'"x", {tag}', f"W/{tag}", "*"):
        again, _ = await places(world, **{"If-None-Match": known})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert (await places(world, **{"If-None-Match": '"x"'}))[0].status == 200
    schema = await world.ask("GET", f"/v1/items/{FILING}/schema")
    assert schema.headers["Content-Type"].startswith("application/schema+json")
    assert schema.json() == answer.json()["form_schema"]
    listed = await world.ask("GET", "/v1/items")
    again = await world.ask("GET", "/v1/items", headers={"If-None-Match": listed.headers["ETag"]})
    assert (again.status, listed.headers["Cache-Control"]) == (304, "private, no-cache")
    assert (await world.ask("GET", "/v1/items/nothing/schema")).status == 404


async def test_a_changed_item_waits_at_one_place_until_what_was_seen_is_approved(world: World) -> None:
    before, tag = await shown(world), (await places(world))[0].headers["ETag"]
    assert await pull(world, "item_changed") == {"changed": 1}
    answer, states = await places(world, **{"If-None-Match": tag})
    assert (answer.status, states.pop(REGION)) == (200, ("changed", ["promised.days"]))
    assert {state for state, _ in states.values()} == {"open"}
    figures = (await world.send("GET", "/metrics", url=world.admin_url)).body.decode()
    assert f'pearl_items_blocked{{region="{REGION}"}} 1.0' in figures

    body = await world.application(REGION)
    refused = await world.refused(lambda: world.ask("POST", "/v1/submissions", body))
    assert (refused.code, refused.codes) == ("submission.item_changed", {"item_changed"})
    assert refused.problem["region"] == REGION
    assert await world.file("foshan"), "other places of the item go on"

    stale = await approve(world, before["hash"])
    assert (stale.status, stale.json()["code"]) == (409, "item.changed_since")
    assert (await world.ask("POST", "/v1/submissions", body)).status == 422

    changed = await shown(world)
    code, printed = await pearl(world, "diff", REGION, FILING)
    assert (code, "! promised.days: 0 → 1" in printed, changed["hash"] in printed) == (0, True, True)
    code, printed = await pearl(world, "show", REGION, FILING)
    assert (code, "Unlike our file:\n  promised.days: 0 here, 1 there" in printed) == (0, True)
    typed = ("approve", REGION, FILING, "--hash", changed["hash"], "--reason", REASON)
    assert await pearl(world, *typed) == (0, f"{FILING} is open at {REGION}.\n")
    assert (await world.ask("POST", "/v1/submissions", body)).status == 201
    (row,) = [
        row for row in await world.rows(evidence, action="item.approve") if row["what"]["hash"] == changed["hash"]
    ]
    assert (row["reason"], row["what"]["before"], row["what"]["paths"]) == (
        REASON, before["hash"], [change["path"] for change in changed["changes"]],
    )  # fmt: skip


async def test_a_suspended_item_is_closed_while_it_lasts_and_until_it_is_approved(world: World) -> None:
    assert await pull(world, "item_suspended") == {"suspended": 1}
    body = await world.application(REGION)
    refused = await world.refused(lambda: world.ask("POST", "/v1/submissions", body))
    assert (refused.code, refused.codes) == ("submission.item_suspended", {"item_suspended"})
    early = await approve(world, (await shown(world))["hash"])
    assert (early.status, early.json()["code"]) == (409, "item.not_in_force")
    code, printed = await pearl(world, "pull", REGION)
    assert (code, printed.rpartition("; ")[2]) == (0, "1 changed\n")
    assert (await places(world))[1][REGION] == ("changed", [])
    assert (await approve(world, (await shown(world))["hash"])).status == 200
    assert (await world.ask("POST", "/v1/submissions", body)).status == 201


async def test_a_region_that_is_down_leaves_everything_as_it_was(world: World) -> None:
    world.authorities[REGION].order("garbage", 1)
    answer = await ops(world, "POST", f"/{REGION}/pull", {})
    assert (answer.status, answer.json()["where"]) == (502, "region")
    assert (await places(world))[1][REGION] == ("open", [])
    (look,) = [one for one in (await ops(world, "GET")).json()["pulls"] if one["region"] == REGION]
    assert look["code"] == answer.json()["code"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (f"{ITEM}/approve", {"reason": "x"}, 422, "request.invalid"),
        (f"{ITEM}/approve", {"reason": "x", "hash": "short"}, 422, "request.invalid"),
        (f"{ITEM}/approve", {"hash": "0" * 64}, 422, "request.invalid"),
        (f"{ITEM}/approve", {"reason": "x" * 129, "hash": "0" * 64}, 422, "request.invalid"),
        (f"{ITEM}/approve", {"reason": "x", "hash": "0" * 64, "force": True}, 422, "request.invalid"),
        (f"{ITEM}/approve", {"reason": "x", "hash": "0" * 64}, 409, "item.changed_since"),
        (f"/{REGION}/nothing/approve", {"reason": "x", "hash": "0" * 64}, 404, "item.unpublished"),
        ("/nowhere/pull", {}, 404, "region.unknown"),
    ],
)
async def test_an_order_that_makes_no_sense_changes_nothing(
    world: World, path: str, body: Mapping[str, Any], status: int, code: str
) -> None:
    answer = await ops(world, "POST", path, body)
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert (await shown(world))["state"] == "open"


async def test_a_web_page_cannot_order_anything(world: World) -> None:
    answer = await world.send("POST", f"/ops/items/{REGION}/pull", data=b"{}", url=world.admin_url)
    assert (answer.status, answer.json()["code"]) == (422, "request.media_type")
    assert (await ops(world, "GET", f"/{REGION}/nothing")).status == 404
