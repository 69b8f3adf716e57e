"""What is said of a case after it was handed in: supplements, withdrawals, returns, revocations of consents.

Owns: HTTP of these addresses. Leaves everything else to the services that it is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from aiohttp import web

from gateway.domain.caller import Caller
from gateway.submissions.revocations import Revocation, Revocations
from gateway.submissions.supplements import Supplement, Supplements
from gateway.submissions.withdrawals import Ended, Return, Withdrawal, Withdrawals
from gateway.web.api.answers import json_answer
from gateway.web.api.bodies import read_body

Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
Guard = Callable[[str, Handler], Callable[[web.Request], Awaitable[web.StreamResponse]]]
"""Scope and handler → a handler that lets only callers with that scope through."""


@dataclass(frozen=True, slots=True)
class FollowupServices:
    """The services behind these addresses."""

    supplements: Supplements
    withdrawals: Withdrawals
    revocations: Revocations


def routes(services: FollowupServices, guarded: Guard) -> list[web.RouteDef]:
    """Return the routes below /v1/submissions/{id}."""
    api, scope = _Followups(services), "submissions"
    return [
        web.post("/v1/submissions/{id}/supplements", guarded(scope, api.supplement)),
        web.post("/v1/submissions/{id}/withdrawal", guarded(scope, api.withdraw)),
        web.post("/v1/submissions/{id}/return", guarded(scope, api.give_back)),
        web.post("/v1/submissions/{id}/consents/revoke", guarded(scope, api.revoke)),
    ]


class _Followups:
    def __init__(self, services: FollowupServices) -> None:
        self._services = services

    async def supplement(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/supplements: 201, or 200 when it was here before."""
        said = await read_body(request, Supplement)
        taken = await self._services.supplements.add(caller, request.match_info["id"], said)
        return json_answer({**asdict(taken), "kind": "supplement"}, status=200 if taken.replayed else 201)

    async def withdraw(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/withdrawal: 200 when the case has ended, 202 when its region is asked."""
        said = await read_body(request, Withdrawal)
        return _ended(await self._services.withdrawals.withdraw(caller, request.match_info["id"], said))

    async def give_back(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/return: 200."""
        said = await read_body(request, Return)
        return _ended(await self._services.withdrawals.give_back(caller, request.match_info["id"], said))

    async def revoke(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/consents/revoke: 200."""
        said = await read_body(request, Revocation)
        return json_answer(asdict(await self._services.revocations.revoke(caller, request.match_info["id"], said)))


def _ended(ended: Ended) -> web.Response:
    return json_answer(asdict(ended), status=202 if ended.asked else 200)
