"""Reading a request's body with a limit of its own, whatever the limit of other bodies is."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import BodyTooLarge


async def bounded(request: web.Request, limit: int, what: str) -> bytes:
    """Return the body, of at most `limit` bytes. Raises BodyTooLarge that names `what`, without reading on."""
    body = await request.content.read(limit + 1)
    while len(body) <= limit and (more := await request.content.read(limit + 1 - len(body))):
        body += more
    if len(body) > limit:
        raise BodyTooLarge(f"{what} may have {limit} bytes at most.")
    return body
