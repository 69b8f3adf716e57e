"""/ops/items: what regions publish of their items, what changed, approving a change, asking a region now.

Owns: the operator's side of `gateway.items` over HTTP. The listener has no authentication, so what changes something
wants `Content-Type: application/json`, as for the mappings.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import StringConstraints

from gateway.domain.published import Change
from gateway.edge import Edge, Short, Text, parse_json
from gateway.errors import GatewayError, InvalidRequest
from gateway.items.approvals import Approvals, Whole
from gateway.items.puller import Puller
from gateway.web.problems import document, status_of


class Approving(Edge):
    """Which version is approved, why, and by whom. The name is taken at its word; all of it stands in the evidence."""

    hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    reason: Text
    operator: Short | None = None


class Pulling(Edge):
    """Who has a region asked now."""

    operator: Short | None = None


def routes(approvals: Approvals, puller: Puller) -> list[web.RouteDef]:
    """Return the routes."""

    async def show_all(request: web.Request) -> web.Response:
        looks, summaries = await approvals.all()
        wanted = frozenset(request.query.getall("state", ()))
        region = request.query.get("region")
        chosen = [s for s in summaries if (not wanted or s.state in wanted) and region in (None, s.region)]
        return _json({"pulls": [asdict(look) for look in looks], "items": [asdict(one) for one in chosen]})

    async def show(request: web.Request) -> web.Response:
        return _json(_whole(await approvals.show(request.match_info["region"], request.match_info["code"])))

    async def approve(request: web.Request) -> web.Response:
        asked = parse_json(Approving, await _body(request))
        region, code = request.match_info["region"], request.match_info["code"]
        approved = await approvals.approve(region, code, asked.hash, asked.reason, asked.operator or "admin listener")
        return _json(asdict(approved))

    async def pull(request: web.Request) -> web.Response:
        parse_json(Pulling, await _body(request))
        pulled = await puller.pull(request.match_info["region"])
        counts = Counter(found.kind for found in pulled.found)
        return _json({**asdict(pulled), "counts": counts})

    return [
        web.get("/ops/items", _explained(show_all)),
        web.get("/ops/items/{region}/{code}", _explained(show)),
        web.post("/ops/items/{region}/{code}/approve", _explained(approve)),
        web.post("/ops/items/{region}/pull", _explained(pull)),
    ]


def _whole(whole: Whole) -> dict[str, Any]:
    return {
        **asdict(whole.summary),
        "published": whole.published,
        "approved": whole.approved,
        "changes": [_change(change) for change in whole.changes],
        "unlike_file": [{"path": one.path, "file": one.old, "published": one.new} for one in whole.unlike_file],
    }


def _change(change: Change) -> dict[str, Any]:
    return {**asdict(change), "matters": change.matters, "why": change.why}


def _explained(handler: Handler) -> Handler:
    """Answer a refusal with a problem document."""

    async def explained(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except GatewayError as error:
            body = document(error, secrets.token_hex(8))
            return _json(body, status=status_of(error), content_type="application/problem+json")

    return explained


async def _body(request: web.Request) -> bytes:
    """Return the body. Raises InvalidRequest for what a web page could have sent."""
    if request.content_type != "application/json":
        raise InvalidRequest("Send Content-Type: application/json.", code="request.media_type")
    return await request.read() or b"{}"


def _json(body: Mapping[str, Any], *, status: int = 200, content_type: str = "application/json") -> web.Response:
    headers = {"Cache-Control": "no-store"}
    data = orjson.dumps(body, option=orjson.OPT_UTC_Z)
    return web.Response(body=data, status=status, content_type=content_type, headers=headers)
