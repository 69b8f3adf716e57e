"""Bodies of requests to the API: JSON, read as a whole.

Owns: media type and size of a request's body. Leaves to `gateway.edge`: its fields.
"""

from __future__ import annotations

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from gateway.edge import parse_json
from gateway.errors import BodyTooLarge, FieldProblem, InvalidRequest

M = TypeVar("M", bound=BaseModel)


async def read_body(request: web.Request, model: type[M]) -> M:
    """Read a JSON body into a model. Raises InvalidRequest, BodyTooLarge."""
    if request.content_type != "application/json":
        problem = FieldProblem("Content-Type", "must be application/json", "media_type")
        raise InvalidRequest("The body is not JSON.", problems=[problem], code="request.media_type")
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise BodyTooLarge("The body is larger than this gateway's limit for a request.") from None
    return parse_json(model, body)
