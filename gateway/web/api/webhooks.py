"""GET /v1/webhooks and POST /v1/webhooks/{id}/replay: what an agency may see and do about its own webhooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from aiohttp import web
from pydantic import Field

from gateway.domain.caller import Caller
from gateway.edge import Edge, parse_json
from gateway.ports import Clock
from gateway.storage import Store
from gateway.submissions import webhooks as kept
from gateway.submissions.materials import owner_of
from gateway.web.api.events import require_itself


class Replay(Edge):
    """Where to begin again: a cursor of the stream."""

    after: str = Field(max_length=18)


def handlers(store: Store, clock: Clock) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the handlers that list and replay."""

    async def listed(_request: web.Request, caller: Caller) -> web.Response:
        require_itself(caller)
        rows = await store.read(partial(kept.listed, client_id=owner_of(caller)))
        return web.Response(
            body=orjson.dumps({"webhooks": [_shown(row) for row in rows]}), content_type="application/json"
        )

    async def replay(request: web.Request, caller: Caller) -> web.Response:
        require_itself(caller)
        asked = parse_json(Replay, await request.read())
        owner, webhook = owner_of(caller), request.match_info["id"]
        who = {"client": caller.client_id}
        await store.write(lambda tx: kept.replay(tx, webhook, owner, asked.after, who, clock()))
        return web.Response(status=204)

    return listed, replay


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "url", "failures", "last_code", "created_at", "failing_since", "disabled_at")
    return {"cursor": str(row["position"]), **{name: row[name] for name in names}}
