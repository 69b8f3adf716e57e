"""/callbacks/<region>/…: where regions push their status events, and pull what they were only told the number of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Protocol

import orjson
import structlog
from aiohttp import web

from gateway.errors import GatewayError
from gateway.ports import Callback, Clock, PickupAnswer
from gateway.submissions.inbox import Inbox
from gateway.web.bodies import bounded
from gateway.web.middlewares import SECURITY_HEADERS

log = structlog.get_logger("web")


class AnswersPulls(Protocol):
    """What answers the pulls of regions (`gateway.submissions.pickups`)."""

    def serves(self, region_id: str, operation: str, /) -> bool:
        """Say whether what arrives under this region's address is a pull."""
        ...

    async def answer(self, region_id: str, pull: Callback, /) -> PickupAnswer:
        """Return what goes back to the region, a refusal too."""
        ...


class TakesNotices(Protocol):
    """What takes notices about certificates (`gateway.certificates.notices`)."""

    def serves(self, region_id: str, operation: str, /) -> bool:
        """Say whether what arrives under this region's address is such a notice."""
        ...

    async def take(self, region_id: str, callback: Callback, /) -> Mapping[str, Any]:
        """Return the answer that the region expects."""
        ...


def routes(
    inbox: Inbox, pickups: AnswersPulls, clock: Clock, limit: int, notices: TakesNotices | None = None
) -> list[web.RouteDef]:
    """Return the routes. `limit` is the largest callback body in bytes."""

    async def receive(request: web.Request) -> web.StreamResponse:
        body = await bounded(request, limit, "A callback")
        callback = Callback(
            method=request.method,
            path=request.rel_url.raw_path,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body,
            received_at=clock(),
        )
        region = request.match_info["region"]
        if pickups.serves(region, request.match_info["rest"]):
            return await _streamed(request, await pickups.answer(region, callback))
        about_certificate = notices is not None and notices.serves(region, request.match_info["rest"])
        takes = notices.take if notices is not None and about_certificate else inbox.callback
        answer = await takes(region, callback)
        return web.Response(body=orjson.dumps(dict(answer)), content_type="application/json")

    return [web.post("/callbacks/{region}/{rest:.+}", receive)]


async def _streamed(request: web.Request, answer: PickupAnswer) -> web.StreamResponse:
    """Write an answer piece by piece: a file is never in memory as a whole."""
    headers = {**SECURITY_HEADERS, "Cache-Control": "no-store", "Content-Type": answer.media_type}
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = answer.size
    async with aclosing(answer.body) as body:
        try:
            await response.prepare(request)
            async for piece in body:
                await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            pass  # whoever asked has gone, and nobody is left to be told
        except GatewayError as error:
            log.warning("answer broke off", code=error.stable_code, detail=error.detail)
            _cut_off(request)
        except Exception:  # as everywhere: the text of what nobody expected stays in our log
            log.exception("answer broke off unexpectedly")
            _cut_off(request)
    return response


def _cut_off(request: web.Request) -> None:
    """Close the connection: half an answer cannot be taken back, and no other one may be written behind it."""
    if request.transport is not None:
        request.transport.abort()
