"""/ops/items: what regions publish of their items, what changed, approving a change, asking a region now.

Owns: the operator's side of `gateway.items` over HTTP. The listener has no authentication, so what changes something
wants `Content-Type: application/json`, as for the mappings.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

from aiohttp import web
from pydantic import StringConstraints

from gateway.domain.published import Change
from gateway.edge import Edge, Short, Text, parse_json
from gateway.items.approvals import Approvals, Whole
from gateway.items.puller import Puller
from gateway.web.ops.answers import answer, body_of, explained


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
        return answer({"pulls": [asdict(look) for look in looks], "items": [asdict(one) for one in chosen]})

    async def show(request: web.Request) -> web.Response:
        return answer(_whole(await approvals.show(request.match_info["region"], request.match_info["code"])))

    async def approve(request: web.Request) -> web.Response:
        asked = parse_json(Approving, await body_of(request))
        region, code = request.match_info["region"], request.match_info["code"]
        approved = await approvals.approve(region, code, asked.hash, asked.reason, asked.operator or "admin listener")
        return answer(asdict(approved))

    async def pull(request: web.Request) -> web.Response:
        parse_json(Pulling, await body_of(request))
        pulled = await puller.pull(request.match_info["region"])
        counts = Counter(found.kind for found in pulled.found)
        return answer({**asdict(pulled), "counts": counts})

    return [
        web.get("/ops/items", explained(show_all)),
        web.get("/ops/items/{region}/{code}", explained(show)),
        web.post("/ops/items/{region}/{code}/approve", explained(approve)),
        web.post("/ops/items/{region}/pull", explained(pull)),
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
