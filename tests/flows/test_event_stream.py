"""What an agency hears of its cases without asking for each: by polling, and as it comes, the very same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import aiohttp
import orjson
import pytest

from tests.flows.flow_support import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def polled(world: World, case: str) -> list[Mapping[str, Any]]:
    """Poll as an agency would, until this case is completed."""
    events: list[Mapping[str, Any]] = []
    cursor = ""
    async with asyncio.timeout(20):
        while not any(event["submission_id"] == case and event["case_state"] == "COMPLETED" for event in events):
            answer = await world.ask("GET", f"/v1/events?wait=2&limit=2&after={cursor}")
            assert answer.status == 200
            events += answer.json()["events"]
            cursor = answer.json()["next"]
    return events


async def test_an_agency_follows_its_case_without_asking_for_it(world: World) -> None:
    case = await world.file("foshan")
    mine = [event for event in await polled(world, case) if event["submission_id"] == case]
    assert [event["seq"] for event in mine] == list(range(1, len(mine) + 1))
    shown = (await world.case(case))["timeline"]
    assert [event["hash"] for event in mine] == [entry["hash"] for entry in shown][: len(mine)]
    assert mine[-1]["holder"] == "nobody"


async def test_events_as_they_come_are_the_events_that_are_polled(world: World) -> None:
    wanted = await polled(world, await world.file("foshan"))
    headers = {"Authorization": f"Bearer {await world.token()}", "Accept": "text/event-stream"}
    came: list[Mapping[str, Any]] = []
    async with aiohttp.ClientSession() as session, session.get(world.url + "/v1/events", headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        async with asyncio.timeout(20):
            while len(came) < len(wanted):
                line = await answer.content.readline()
                if line.startswith(b"data: "):
                    came.append(orjson.loads(line[6:]))
    assert [event["id"] for event in came] == [event["id"] for event in wanted]
    assert [event["hash"] for event in came] == [event["hash"] for event in wanted]
    headers["Last-Event-ID"] = came[-2]["cursor"]
    async with aiohttp.ClientSession() as session, session.get(world.url + "/v1/events", headers=headers) as answer:
        line = await answer.content.readline()
    assert line == f"id: {came[-1]['cursor']}\n".encode(), "whoever reads on gets what came since"


async def test_what_is_wrong_with_the_question_is_said(world: World) -> None:
    for query in ("after=x", "limit=201", "wait=31", "wait=-1", "wait=0000009999"):
        refused = await world.refused(partial(world.ask, "GET", f"/v1/events?{query}"))
        assert refused.code == "request.invalid"
        assert refused.fields == {query.split("=")[0]}
