"""/ops/mappings: which mappings are in use, taking the files as they are now, going back.

Owns: the operator's side of `gateway.versions` over HTTP. The listener has no authentication, so what changes something
wants `Content-Type: application/json`: a web page cannot send that to another place without asking first, and nobody
here answers such a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web

from gateway.edge import Edge, Short, parse_json
from gateway.mapping.library import Change, InUse
from gateway.versions import Versions
from gateway.web.ops.answers import answer, body_of, explained


class Operator(Edge):
    """Who asks. The name is taken at its word and stands in the evidence."""

    operator: Short | None = None


def routes(versions: Versions) -> list[web.RouteDef]:
    """Return the routes."""

    async def show(_request: web.Request) -> web.Response:
        return answer(_shown(versions))

    async def reload(request: web.Request) -> web.Response:
        return answer(_changed(versions, await versions.reload(await _who(request))))

    async def rollback(request: web.Request) -> web.Response:
        return answer(_changed(versions, await versions.rollback(await _who(request))))

    return [
        web.get("/ops/mappings", show),
        web.post("/ops/mappings/reload", explained(reload, everything=True)),
        web.post("/ops/mappings/rollback", explained(rollback, everything=True)),
    ]


async def _who(request: web.Request) -> Mapping[str, str]:
    """Return who asks, for the evidence. Raises InvalidRequest for what a web page could have sent."""
    asked = parse_json(Operator, await body_of(request))
    return {"operator": asked.operator} if asked.operator else {"listener": "admin"}


# --- what is shown -----------------------------------------------------------------------------------------------


def _shown(versions: Versions) -> dict[str, Any]:
    before = versions.previous or {}
    return {
        "regions": [
            {"region": region, **_in_use(used), "previous": _in_use(before[region]) if region in before else None}
            for region, used in sorted(versions.current.items())
        ]
    }


def _in_use(used: InUse) -> dict[str, Any]:
    packs = {message: pack.version for message, pack in sorted(used.packs.items())}
    return {"version": used.packs.version, "since": used.since.isoformat().replace("+00:00", "Z"), "packs": packs}


def _changed(versions: Versions, changes: Sequence[Change]) -> dict[str, Any]:
    return {"changes": [asdict(change) for change in changes], **_shown(versions)}
