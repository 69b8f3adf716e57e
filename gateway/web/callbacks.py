"""/callbacks/<region>/…: where regions push their status events."""

from __future__ import annotations

import orjson
from aiohttp import web

from gateway.ports import Callback, Clock
from gateway.submissions.inbox import Inbox
from gateway.web.bodies import bounded


def routes(inbox: Inbox, clock: Clock, limit: int) -> list[web.RouteDef]:
    """Return the routes. `limit` is the largest callback body in bytes."""

    async def receive(request: web.Request) -> web.Response:
        body = await bounded(request, limit, "A callback")
        callback = Callback(
            method=request.method,
            path=request.rel_url.raw_path,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body,
            received_at=clock(),
        )
        answer = await inbox.callback(request.match_info["region"], callback)
        return web.Response(body=orjson.dumps(dict(answer)), content_type="application/json")

    return [web.post("/callbacks/{region}/{rest:.+}", receive)]
