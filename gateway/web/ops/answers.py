"""What the operators' addresses have in common: their answers, their refusals, and what they ask of a request.

Owns: JSON that nobody caches, a problem document for every refusal, and the media type that a web page cannot send
to another place without asking first. Leaves to the handlers: what they do.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.errors import GatewayError, InvalidRequest
from gateway.web.problems import document, status_of, when_again


def explained(handler: Handler, *, everything: bool = False) -> Handler:
    """Answer a refusal with a problem document; with `everything` it lists all that is wrong, however much it is."""

    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except GatewayError as error:
            body = document(error, secrets.token_hex(8))
            if everything and error.problems:
                body["problems"] = [asdict(problem) for problem in error.problems]
            refusal = answer(body, status=status_of(error), content_type="application/problem+json")
            refusal.headers.update({**error.headers, **when_again(error)})
            return refusal

    return answered


async def body_of(request: web.Request) -> bytes:
    """Return the body, an empty object for none. Raises InvalidRequest for what a web page could have sent."""
    if request.content_type != "application/json":
        raise InvalidRequest("Send Content-Type: application/json.", code="request.media_type")
    return await request.read() or b"{}"


def answer(body: Mapping[str, Any], *, status: int = 200, content_type: str = "application/json") -> web.Response:
    """Return a JSON answer that nobody keeps; times end in `Z`."""
    headers = {"Cache-Control": "no-store"}
    data = orjson.dumps(body, option=orjson.OPT_UTC_Z)
    return web.Response(body=data, status=status, content_type=content_type, headers=headers)
