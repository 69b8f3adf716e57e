"""GET /v1/events: a client's events after a cursor, as JSON (long poll) or as they come (server-sent events).

Owns: HTTP of the stream. Leaves to `gateway.submissions.stream` what stands in it; both forms give the very same.
Server-sent events: WHATWG HTML §9.2.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from gateway.domain.caller import Caller
from gateway.errors import FieldProblem, GatewayError, InvalidRequest, NotPermitted
from gateway.submissions.materials import owner_of
from gateway.submissions.stream import MOST, Stream

LONGEST_WAIT = 30.0
"""Seconds that a poll may wait for an event."""
LONGEST_STREAM = 300.0
"""Seconds after which a stream of server-sent events ends, so that whoever reads on shows a valid token again."""
_DIGITS = 6
BEAT = 15.0
"""Seconds of silence after which a comment is sent, so that nobody between takes the connection for dead."""


Enabled = Callable[[str], Awaitable[object]]
"""Finds a client that may still ask; a false value for one that was disabled."""


def handler(stream: Stream, now: Callable[[], float], enabled: Enabled) -> Callable[[web.Request, Caller], Any]:
    """Return the handler. `now` is a steady clock in seconds."""

    async def events(request: web.Request, caller: Caller) -> web.StreamResponse:
        require_itself(caller)
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await _as_they_come(request, caller, stream, now, enabled)
        page = await stream.await_page(
            owner_of(caller), request.query.get("after", ""), _number(request, "limit", MOST, MOST),
            _number(request, "wait", 0, int(LONGEST_WAIT)),
        )  # fmt: skip
        body = {"events": page.events, "next": page.next, "more": page.more}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    return events


def require_itself(caller: Caller) -> None:
    """Refuse a token that acts for a person: what concerns all cases is for the system itself. Raises NotPermitted."""
    if caller.acting is not None:
        text = "This token acts for a person and has the cases of that person alone; ask with one of the system itself."
        raise NotPermitted(text, code="auth.acts_for_a_person")


async def _as_they_come(
    request: web.Request, caller: Caller, stream: Stream, now: Callable[[], float], enabled: Enabled
) -> web.StreamResponse:
    cursor = request.headers.get("Last-Event-ID") or request.query.get("after", "")
    page = await stream.page(
        owner_of(caller), cursor
    )  # a cursor that cannot be read is refused before anything is sent
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await answer.prepare(request)
    ends = now() + LONGEST_STREAM
    while True:
        await answer.write(b"".join(map(_sent, page.events)) or b": nothing new\n\n")
        left = ends - now()
        if left <= 0 or stream.is_over:
            return answer
        try:
            page = await stream.await_page(owner_of(caller), page.next, MOST, min(BEAT, left))
            if not await enabled(caller.client_id):
                return answer
        except GatewayError:  # the store is away: whoever reads on comes back with the last id, and is told then
            return answer


def _sent(event: Any) -> bytes:
    return b"id: %s\nevent: case\ndata: %s\n\n" % (event["cursor"].encode(), orjson.dumps(event))


def _number(request: web.Request, name: str, otherwise: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) <= most):
        raise InvalidRequest("The query is not valid.", problems=[FieldProblem(name, f"must be 0 to {most}", "range")])
    return int(text)
