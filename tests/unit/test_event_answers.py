"""GET /v1/events as HTTP: for the system itself, and no longer than it may ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request

from gateway.domain.caller import Acting
from gateway.errors import NotPermitted
from gateway.submissions.stream import Page
from gateway.web.api import events, webhooks
from tests.support.intake import CALLER


class Quiet:
    """A stream in which nothing happens."""

    is_over = False

    async def page(self, _client: str, cursor: str, _limit: int = 0) -> Page:
        return Page([], cursor, more=False)

    async def await_page(self, client: str, cursor: str, _limit: int, _seconds: float) -> Page:
        return await self.page(client, cursor)


async def test_a_stream_ends_when_its_client_is_disabled() -> None:
    """It would go on for minutes otherwise, whatever an operator has ordered."""
    asked: list[str] = []

    async def enabled(client_id: str) -> bool:
        asked.append(client_id)
        return len(asked) < 3

    handler = events.handler(cast("Any", Quiet()), lambda: 0.0, enabled)

    async def serve(request: web.Request) -> Any:
        return await handler(request, CALLER)

    app = web.Application()
    app.router.add_get("/v1/events", serve)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        headers = {"Accept": "text/event-stream"}
        async with session.get(server.make_url("/v1/events"), headers=headers) as answer:
            assert await answer.text() == ": nothing new\n\n" * 3
    assert asked == [CALLER.client_id] * 3


async def test_a_token_that_acts_for_a_person_reads_nobody_elses_events() -> None:
    """A system that acts for a person acts for nobody else, and the stream tells of all."""
    acting = replace(CALLER, acting=Acting(cast("Any", None), "subject", "grant"))
    store = cast("Any", None)
    listed, replay = webhooks.handlers(store, store)
    handler = events.handler(cast("Any", Quiet()), lambda: 0.0, store)
    for serve in (handler, listed, replay):
        with pytest.raises(NotPermitted) as refused:
            await serve(make_mocked_request("GET", "/v1/events"), acting)
        assert refused.value.stable_code == "auth.acts_for_a_person"
