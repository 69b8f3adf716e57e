"""/ops/regions: which regions people can sign on through, what closing one would cut off, closing and opening.

Owns: the operator's side of `gateway.identity.switches` over HTTP. The listener has no authentication, so what changes
something wants `Content-Type: application/json`, as for the mappings.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.edge import Edge, Short, Text, parse_json
from gateway.errors import GatewayError, InvalidRequest
from gateway.identity.health import Health
from gateway.identity.switches import RegionSwitches, Switch
from gateway.web.problems import document, status_of


class Turning(Edge):
    """Why a switch is turned, and by whom. The name is taken at its word; both stand in the evidence."""

    reason: Text
    operator: Short | None = None


def routes(switches: RegionSwitches, health: Health) -> list[web.RouteDef]:
    """Return the routes."""

    async def show(_request: web.Request) -> web.Response:
        return _json({"regions": [_shown(switch, await health.of(switch.region)) for switch in await switches.all()]})

    async def preview(request: web.Request) -> web.Response:
        region = request.match_info["id"]
        return _json({"region": region, "would_cut_off": asdict(await switches.preview(region))})

    async def close(request: web.Request) -> web.Response:
        region, turning = request.match_info["id"], await _turning(request)
        cut = await switches.close(region, turning.reason, turning.operator or "admin listener")
        return _json({"region": region, "closed": True, "cut_off": asdict(cut)})

    async def reopen(request: web.Request) -> web.Response:
        region, turning = request.match_info["id"], await _turning(request)
        await switches.open(region, turning.reason, turning.operator or "admin listener")
        return _json({"region": region, "closed": False})

    return [
        web.get("/ops/regions", _explained(show)),
        web.get("/ops/regions/{id}/preview", _explained(preview)),
        web.post("/ops/regions/{id}/close", _explained(close)),
        web.post("/ops/regions/{id}/open", _explained(reopen)),
    ]


def _shown(switch: Switch, sign_on: str) -> dict[str, Any]:
    changed_at = None if switch.changed_at is None else switch.changed_at.isoformat().replace("+00:00", "Z")
    return {**asdict(switch), "changed_at": changed_at, "sign_on": sign_on}


def _explained(handler: Handler) -> Handler:
    """Answer a refusal with a problem document."""

    async def explained(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except GatewayError as error:
            body = document(error, secrets.token_hex(8))
            return _json(body, status=status_of(error), content_type="application/problem+json")

    return explained


async def _turning(request: web.Request) -> Turning:
    """Return why, and by whom. Raises InvalidRequest for what a web page could have sent."""
    if request.content_type != "application/json":
        raise InvalidRequest("Send Content-Type: application/json.", code="request.media_type")
    return parse_json(Turning, await request.read() or b"{}")


def _json(body: Mapping[str, Any], *, status: int = 200, content_type: str = "application/json") -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(body), status=status, content_type=content_type, headers=headers)
