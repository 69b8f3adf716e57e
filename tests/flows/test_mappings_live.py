"""Mappings that change while the gateway serves: on a real neighbourhood, by console, command line and signal."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.app import utc_now
from gateway.config import HOUSE, load_config
from gateway.sandbox.layout import Layout
from gateway.sandbox.neighbourhood import gateway_process
from gateway.storage.tables import event_conflicts, evidence, mapping_sets, submissions
from gateway.submissions import dead_letters
from gateway.submissions.dead_letters import Order
from tests.flows.flow_support import Answer, World, eventually, neighbourhood, outside, prepare, rewrite
from tests.support import forked
from tests.support.few_regions import THREE
from tests.support.mappings import rename

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHOWN = "/ops/mappings"
JSON = {"Content-Type": "application/json"}
NEW_NAMES = {"submission": ("sqrmc", "sqrxm"), "receipt": ("sblsh", "bllsh"), "event": ("ztdm", "ztbm")}
"""What Guangdong is made to call three fields, one of each message, in a form that its authority does not speak."""


def own_mappings(layout: Layout) -> Path:
    """Give the deployment mappings of its own, for the test to change."""
    folder = layout.folder / "mappings"
    shutil.copytree(HOUSE / "mappings", folder)
    rewrite(layout.config, {"environment =": f'mappings = "{folder}"\nenvironment ='})
    return folder


def renew(mappings: Path) -> None:
    """Write the new form of Guangdong's messages."""
    for message, (old, new) in NEW_NAMES.items():
        rename(mappings / "guangdong" / message, old, new)


def spoil(mappings: Path) -> None:
    """Break two packs of two regions."""
    rewrite(mappings / "guangdong/event/rules.toml", {'"sjbh"': '"nowhere"'})
    rewrite(mappings / "foshan/receipt/rules.toml", {"CaseNo": "Nowhere"})


@asynccontextmanager
async def changing(folder: Path) -> AsyncIterator[tuple[World, Path]]:
    layout = prepare(folder, pace=0.1, regions=THREE)
    mappings = own_mappings(layout)
    async with neighbourhood(layout) as world:
        yield world, mappings


@pytest_asyncio.fixture(loop_scope="session")
async def place(tmp_path: Path) -> AsyncIterator[tuple[World, Path]]:
    """Run a neighbourhood with mappings of its own."""
    async with changing(tmp_path) as opened:
        yield opened


async def ops(world: World, path: str = SHOWN, *, body: bytes | None = None, **headers: str) -> Answer:
    method = "GET" if path == SHOWN else "POST"
    sent = headers or (JSON if method == "POST" else {})
    return await world.send(method, path, data=body, headers=sent, url=world.admin_url)


async def versions(world: World) -> dict[str, str]:
    shown = (await ops(world)).json()
    return {region["region"]: region["version"] for region in shown["regions"]}


async def notes(world: World, action: str) -> list[dict[str, Any]]:
    rows = await world.rows(evidence, action=action)
    return sorted(rows, key=lambda row: row["recorded_at"])


# --- cases in flight -----------------------------------------------------------------------------------------------


async def test_a_case_in_flight_ends_on_the_mappings_that_it_began_with(place: tuple[World, Path]) -> None:
    """It goes out in the old form, its receipt and its events are read in the old form, after a reload to a new one.

    A case that comes after the reload speaks the new form, which this authority refuses; after a rollback, ordered
    again, it speaks the old one.
    """
    world, mappings = place
    guangdong = world.authorities["guangdong"]
    guangdong.order("down")
    early = await world.file("guangdong")
    before = await versions(world)
    renew(mappings)
    answer = await ops(world, f"{SHOWN}/reload")
    assert answer.status == 200, answer.body
    after = await versions(world)
    assert after == {**before, "guangdong": after["guangdong"]}
    assert after["guangdong"] != before["guangdong"]
    assert sorted(change["message"] for change in answer.json()["changes"]) == ["event", "receipt", "submission"]

    guangdong.behave()
    case = await world.until(early, "COMPLETED")
    assert [entry["state"] for entry in case["timeline"] if entry["source"] == "guangdong"] == [
        "RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED",
    ]  # fmt: skip
    assert await world.rows(event_conflicts) == []
    assert (await world.rows(submissions, id=early))[0]["mapping_version"] == before["guangdong"]

    late = await world.file("guangdong")
    dead = await world.until(late, "DELIVERY_FAILED")
    assert dead["delivery"]["code"] == "region.refused"
    assert (await world.rows(submissions, id=late))[0]["mapping_version"] == after["guangdong"]
    assert (await ops(world, f"{SHOWN}/rollback")).status == 200
    assert await versions(world) == before
    await world.store.write(lambda tx: dead_letters.retry(tx, [late], Order("op", "mended", utc_now())))
    await world.until(late, "COMPLETED")
    assert (await world.rows(submissions, id=late))[0]["mapping_version"] == before["guangdong"]


async def test_a_case_in_flight_ends_on_its_mappings_after_a_restart_too(tmp_path: Path) -> None:
    """The new process never saw the old files; the store has them."""
    layout = prepare(tmp_path, pace=0.1, regions=THREE)
    mappings = own_mappings(layout)
    async with neighbourhood(layout) as world:
        world.authorities["guangdong"].order("down")
        case = await world.file("guangdong")
    renew(mappings)
    async with neighbourhood(layout) as world:
        await world.until(case, "COMPLETED")
        assert await world.rows(event_conflicts) == []
        assert len(await world.rows(mapping_sets, region="guangdong")) == 2


# --- the console ---------------------------------------------------------------------------------------------------


async def test_the_console_shows_what_is_in_use_and_what_came_before(place: tuple[World, Path]) -> None:
    world, mappings = place
    first = (await ops(world)).json()["regions"]
    assert [region["region"] for region in first] == sorted(region["region"] for region in first)
    assert {region["previous"] for region in first} == {None}
    (guangdong,) = [region for region in first if region["region"] == "guangdong"]
    assert {"submission", "receipt", "event"} <= guangdong["packs"].keys()
    assert all(len(version) == 64 for version in [guangdong["version"], *guangdong["packs"].values()])
    renew(mappings)
    told = (await ops(world, f"{SHOWN}/reload", body=b'{"operator": "li"}')).json()
    (changed,) = [region for region in told["regions"] if region["region"] == "guangdong"]
    assert changed["previous"] == {name: guangdong[name] for name in ("version", "since", "packs")}
    assert changed["since"] > guangdong["since"]
    (row,) = await notes(world, "mapping.reload")
    assert (row["outcome"], row["reason"], row["who"]) == ("done", "reloaded", {"operator": "li"})
    assert row["what"]["after"] == {"guangdong": changed["version"]}


async def test_a_refused_reload_lists_everything_and_leaves_everything_as_it_was(place: tuple[World, Path]) -> None:
    """Cases go on meanwhile as if nobody had asked."""
    world, mappings = place
    before = (await ops(world)).body
    renew(mappings)
    spoil(mappings)
    answer = await ops(world, f"{SHOWN}/reload")
    problem = answer.json()
    assert (answer.status, problem["code"], problem["where"]) == (422, "mapping.refused", "caller")
    assert answer.headers["Content-Type"] == "application/problem+json"
    places = " ".join(one["field"] for one in problem["problems"])
    assert "guangdong/event/rules.toml" in places
    assert "foshan/receipt/rules.toml" in places
    assert problem["problem_count"] == len(problem["problems"])
    (row,) = await notes(world, "mapping.reload")
    assert problem["instance"] == f"urn:pearl:evidence:{row['id']}"
    assert (await ops(world)).body == before
    await world.until(await world.file("guangdong"), "COMPLETED")


async def test_a_rollback_without_a_reload_is_refused(place: tuple[World, Path]) -> None:
    world, _ = place
    answer = await ops(world, f"{SHOWN}/rollback")
    assert (answer.status, answer.json()["code"]) == (409, "mapping.no_previous")
    assert [row["outcome"] for row in await notes(world, "mapping.rollback")] == ["refused"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize("action", ["reload", "rollback"])
async def test_what_a_web_page_can_send_to_another_place_changes_nothing(
    world: World, action: str, content_type: str
) -> None:
    """The operator's browser can reach the listener, and so can every page that the operator opens."""
    before = (await ops(world)).body
    answer = await ops(world, f"{SHOWN}/{action}", body=b"{}", **{"Content-Type": content_type})
    assert (answer.status, answer.json()["code"]) == (422, "request.media_type")
    asked = await world.send("OPTIONS", f"{SHOWN}/{action}", headers={"Origin": "https://x"}, url=world.admin_url)
    assert "Access-Control-Allow-Origin" not in asked.headers
    assert (await ops(world)).body == before


@pytest.mark.parametrize("body", [b"[]", b'{"operator": 7}', b'{"oprator": "li"}', b"{", b'{"operator": ""}'])
async def test_a_body_that_says_something_else_is_refused(world: World, body: bytes) -> None:
    answer = await ops(world, f"{SHOWN}/reload", body=body)
    assert answer.status == 422
    assert answer.json()["problems"]


async def test_the_console_is_not_public(world: World) -> None:
    assert (await world.send("GET", SHOWN)).status == 404
    assert (await world.send("POST", f"{SHOWN}/reload", headers=JSON)).status == 404


async def test_reloads_and_codes_that_nobody_knows_are_counted(place: tuple[World, Path]) -> None:
    """A table that lost a row: the region's step comes in, is counted and kept, and the case goes on."""
    world, mappings = place
    for message in ("event",):
        for example in (mappings / "guangdong" / message / "examples").glob("state-decided.*"):
            example.unlink()
    table = mappings / "tables/event_state.toml"
    assert world.gateway is not None
    lines = table.read_text(encoding="utf-8").splitlines()
    (decided,) = [line for line in lines if line.startswith("DECIDED")]
    assert "guangdong" in decided
    cut = ", ".join(part for part in decided.split(", ") if not part.startswith("guangdong"))
    rewrite(table, {decided: cut})
    with (mappings / "guangdong/event/losses.toml").open("a", encoding="utf-8") as file:
        file.write(
            '\n[[loss]]\nfield = "state"\ndirection = "ours-to-theirs"\nreason = "Gone."\nvalues = ["DECIDED"]\n'
        )
    answer = await ops(world, f"{SHOWN}/reload")
    assert answer.status == 200, answer.body
    case = await world.until(await world.file("guangdong"), "COMPLETED")
    told = [entry for entry in case["timeline"] if entry["source"] == "guangdong"]
    assert [entry["state"] for entry in told] == ["RECEIVED", "ACCEPTED", "ACCEPTED", "COMPLETED"]
    assert told[2]["detail"]["word"].startswith("unknown:")
    (kept,) = await world.rows(event_conflicts)
    assert kept["reason"] == "its state is a code that nobody here knows"
    figures = (await world.send("GET", "/metrics", url=world.admin_url)).body.decode()
    assert 'pearl_mapping_reloads_total{outcome="reloaded"} 1.0' in figures
    counted = 'pearl_mapping_unknown_codes_total{field="state",message="event",region="guangdong"} '
    assert counted in figures
    assert 'pearl_status_events_total{outcome="unknown",region="guangdong"} 1.0' in figures


# --- a real process: the command line and the signal ---------------------------------------------------------------


async def pearl(layout: Layout, *command: str) -> tuple[int, str, str]:
    """Run `pearl mappings …`, as an operator beside the gateway would."""
    return await forked.pearl(layout.folder, "mappings", *command, "--config", str(layout.config))


async def test_the_command_line_lists_reloads_and_goes_back(tmp_path: Path) -> None:
    layout = prepare(tmp_path, regions=THREE)
    mappings = own_mappings(layout)
    async with outside(layout, load_config(layout.config)) as world, gateway_process(layout):
        code, out, _ = await pearl(layout, "list")
        assert (code, len(out.splitlines())) == (0, len(await versions(world)))
        code, out, _ = await pearl(layout, "list", "--json")
        listed = {region["region"]: region for region in json.loads(out)}
        assert {name: region["version"] for name, region in listed.items()} == await versions(world)

        assert (await pearl(layout, "reload"))[:2] == (0, "Nothing has changed.\n")
        renew(mappings)
        code, out, _ = await pearl(layout, "reload")
        assert (code, [line.partition(":")[0] for line in out.splitlines()]) == (
            0, ["guangdong/event", "guangdong/receipt", "guangdong/submission"],
        )  # fmt: skip
        after = await versions(world)
        spoil(mappings)
        code, out, err = await pearl(layout, "reload")
        assert (code, out) == (1, "")
        assert err.startswith("mapping.refused: ")
        assert "guangdong/event/rules.toml" in err
        assert "foshan/receipt/rules.toml" in err
        assert await versions(world) == after
        assert (await pearl(layout, "rollback"))[0] == 0
        assert (await versions(world))["guangdong"] == listed["guangdong"]["version"]
        who = {row["who"].get("operator") for row in await notes(world, "mapping.reload")}
        assert len(who) == 1
        assert who != {None}


async def test_a_gateway_that_does_not_run_cannot_be_asked(tmp_path: Path) -> None:
    """And says where it was looked for, without a traceback."""
    layout = prepare(tmp_path, regions=THREE)
    for command in ("list", "reload", "rollback"):
        code, out, err = await pearl(layout, command)
        assert (code, out) == (1, "")
        assert layout.ports.admin_url in err
        assert "Traceback" not in err


async def test_a_gateway_on_any_free_port_cannot_be_found(tmp_path: Path) -> None:
    layout = prepare(tmp_path, regions=THREE)
    rewrite(layout.config, {f"admin_port = {layout.ports.admin}": "admin_port = 0"})
    code, _, err = await pearl(layout, "list")
    assert code == 1
    assert "listen.admin_port" in err


async def test_a_signal_has_the_mappings_read_again_and_never_ends_the_process(tmp_path: Path) -> None:
    """SIGHUP, as for other servers: good files are taken, bad ones are told in the log, all of them."""
    layout = prepare(tmp_path, regions=THREE)
    mappings = own_mappings(layout)
    log = layout.folder / "gateway.log"
    async with outside(layout, load_config(layout.config)) as world, gateway_process(layout) as process:
        before = await versions(world)
        renew(mappings)
        process.send_signal(signal.SIGHUP)

        async def renewed() -> bool | None:
            return (await versions(world))["guangdong"] != before["guangdong"] or None

        await eventually(renewed)
        (row,) = await notes(world, "mapping.reload")
        assert (row["outcome"], row["who"]) == ("done", {"signal": "SIGHUP"})
        after = await versions(world)

        spoil(mappings)
        process.send_signal(signal.SIGHUP)

        async def refused() -> dict[str, Any] | None:
            lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            return next((line for line in lines if line["event"] == "mappings refused"), None)

        line = await eventually(refused)
        places = " ".join(problem["field"] for problem in line["problems"])
        assert "guangdong/event/rules.toml" in places
        assert "foshan/receipt/rules.toml" in places
        assert await versions(world) == after
        assert process.returncode is None
        assert (await world.send("GET", "/readyz", url=world.admin_url)).status == 200
