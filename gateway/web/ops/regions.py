"""/ops/regions: which regions people can sign on through, what closing one would cut off, closing and opening.

Owns: the operator's side of `gateway.identity.switches` over HTTP. The listener has no authentication, so what changes
something wants `Content-Type: application/json`, as for the mappings.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiohttp import web

from gateway.edge import Edge, Short, Text, parse_json
from gateway.identity.health import Health
from gateway.identity.switches import RegionSwitches, Switch
from gateway.web.ops.answers import answer, body_of, explained


class Turning(Edge):
    """Why a switch is turned, and by whom. The name is taken at its word; both stand in the evidence."""

    reason: Text
    operator: Short | None = None


def routes(switches: RegionSwitches, health: Health) -> list[web.RouteDef]:
    """Return the routes."""

    async def show(_request: web.Request) -> web.Response:
        return answer({"regions": [_shown(switch, await health.of(switch.region)) for switch in await switches.all()]})

    async def preview(request: web.Request) -> web.Response:
        region = request.match_info["id"]
        return answer({"region": region, "would_cut_off": asdict(await switches.preview(region))})

    async def close(request: web.Request) -> web.Response:
        region, turning = request.match_info["id"], await _turning(request)
        cut = await switches.close(region, turning.reason, turning.operator or "admin listener")
        return answer({"region": region, "closed": True, "cut_off": asdict(cut)})

    async def reopen(request: web.Request) -> web.Response:
        region, turning = request.match_info["id"], await _turning(request)
        await switches.open(region, turning.reason, turning.operator or "admin listener")
        return answer({"region": region, "closed": False})

    return [
        web.get("/ops/regions", explained(show)),
        web.get("/ops/regions/{id}/preview", explained(preview)),
        web.post("/ops/regions/{id}/close", explained(close)),
        web.post("/ops/regions/{id}/open", explained(reopen)),
    ]


def _shown(switch: Switch, sign_on: str) -> dict[str, Any]:
    changed_at = None if switch.changed_at is None else switch.changed_at.isoformat().replace("+00:00", "Z")
    return {**asdict(switch), "changed_at": changed_at, "sign_on": sign_on}


async def _turning(request: web.Request) -> Turning:
    """Return why, and by whom. Raises InvalidRequest for what a web page could have sent."""
    return parse_json(Turning, await body_of(request))
