"""What a caller may do about a case after the decision: rate it and complain of it.

Owns: HTTP of it. Leaves to `gateway.submissions`: the rules and the records.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from aiohttp import web

from gateway.domain.caller import Caller
from gateway.submissions.complaints import Complaint, Complaints
from gateway.submissions.ratings import RatingGiven, Ratings
from gateway.web.api.answers import json_answer
from gateway.web.api.bodies import read_body

Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
Guard = Callable[[str, Handler], Callable[[web.Request], Awaitable[web.StreamResponse]]]
"""Scope and handler → a handler that lets only callers with that scope through."""


@dataclass(frozen=True, slots=True)
class Afterwards:
    """The services behind these addresses."""

    ratings: Ratings
    complaints: Complaints


def routes(services: Afterwards, guarded: Guard) -> list[web.RouteDef]:
    """Return the routes below /v1/submissions/{id}."""
    api = _Afterwards(services)
    return [
        web.post("/v1/submissions/{id}/ratings", guarded("submissions", api.rate)),
        web.post("/v1/submissions/{id}/complaints", guarded("submissions", api.complain)),
    ]


class _Afterwards:
    def __init__(self, services: Afterwards) -> None:
        self._services = services

    async def rate(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/ratings: 201 with the rating, 200 when it was here before."""
        given = await read_body(request, RatingGiven)
        rated = await self._services.ratings.rate(caller, request.match_info["id"], given)
        return json_answer({**asdict(rated.rating), "replayed": rated.replayed}, status=200 if rated.replayed else 201)

    async def complain(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/complaints: 202, for it is on its way; 200 when it was here before."""
        complaint = await read_body(request, Complaint)
        taken = await self._services.complaints.complain(caller, request.match_info["id"], complaint)
        return json_answer(asdict(taken), status=200 if taken.replayed else 202)
