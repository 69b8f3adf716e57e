"""GB/T 36906 as JSON: `POST /elssp/v1/{Operation}`.

Owns: the envelope. Elements stand at the top or below `data`; `accessToken` and `accessId` beside them, for systems
that can only fill the body. Leaves to `exchange`: everything else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.errors import FieldProblem, InvalidRequest
from gateway.web.api.answers import json_answer
from gateway.web.elssp.exchange import Message, Sharing, body_of, exchange, written
from gateway.web.elssp.operations import Operation

_ENVELOPE: Final = ("accessToken", "accessId", "data")


def handler(sharing: Sharing, operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler of one operation's address."""

    async def read(request: web.Request) -> Message:
        said = _object(await body_of(request, "application/json"))
        problems = [
            FieldProblem(name, "must be a text", "string_type")
            for name in ("accessToken", "accessId")
            if not isinstance(said.get(name, ""), str)
        ]
        inside = said.get("data", {})
        if not isinstance(inside, dict):
            problems.append(FieldProblem("data", "must be an object", "dict_type"))
        if problems:
            raise InvalidRequest("The envelope is not valid.", problems=problems)
        outside = {name: value for name, value in said.items() if name not in _ENVELOPE}
        twice = [FieldProblem(name, "stands in data and beside it", "twice") for name in outside if name in inside]
        token, client = said.get("accessToken") or None, said.get("accessId") or None
        return Message(operation, {**outside, **inside}, token, client, twice)

    async def handle(request: web.Request) -> web.StreamResponse:
        """POST /elssp/v1/{Operation}."""
        async with AsyncExitStack() as held:
            reply = await exchange(sharing, request, read, held)
            body = {"head": reply.head, "data": reply.data}
            answer = json_answer(body, status=reply.status, headers=reply.headers)
            return await written(request, answer, sharing.files.seconds)

    return handle


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = FieldProblem("(body)", f"is not JSON: {error.msg} at line {error.lineno}", "not_json")
        raise InvalidRequest("The body is not JSON.", problems=[problem], code="request.not_json") from None
    if not isinstance(said, dict):
        problem = FieldProblem("(body)", "must be an object", "dict_type")
        raise InvalidRequest("The body is not an object.", problems=[problem])
    return said
