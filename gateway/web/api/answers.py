"""Answers of /v1: JSON, and files as they come from their store."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import orjson
import structlog
from aiohttp import web

from gateway.errors import GatewayError
from gateway.submissions.archive_package import Package

log = structlog.get_logger("api")


def json_answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer that nobody on the way keeps."""
    body = orjson.dumps(value, option=orjson.OPT_UTC_Z)
    known = {"Cache-Control": "no-store", **(headers or {})}
    return web.Response(body=body, status=status, content_type="application/json", headers=known)


async def streamed(
    request: web.Request,
    content: AsyncIterator[bytes],
    *,
    media_type: str,
    size: int | None,
    headers: Mapping[str, str],
    within: float | None = None,
) -> web.StreamResponse:
    """Write a file piece by piece, within so many seconds where they are given.

    A failure after the first byte cuts the connection: nobody takes it for the whole. One before it is raised: the
    first piece is read before the answer begins.
    """
    first = await anext(content, b"")
    answer = web.StreamResponse(headers={"Cache-Control": "no-store", "Content-Type": media_type, **headers})
    answer.content_length = size
    try:
        async with asyncio.timeout(within):
            await answer.prepare(request)
            await answer.write(first)
            async for piece in content:
                await answer.write(piece)
            await answer.write_eof()
    except (GatewayError, TimeoutError) as error:
        known = (error.stable_code, error.detail) if isinstance(error, GatewayError) else ("not taken in time", "")
        log.warning("file cut short", code=known[0], detail=known[1])
        if request.transport is not None:
            request.transport.abort()
    return answer


class Document(Protocol):
    """A stored file as it is handed out; `sha256` is lower-case hex."""

    @property
    def name(self) -> str: ...  # noqa: D102 - the names below are those of the file itself
    @property
    def media_type(self) -> str: ...  # noqa: D102 - as above
    @property
    def size(self) -> int: ...  # noqa: D102 - as above
    @property
    def sha256(self) -> str: ...  # noqa: D102 - as above


async def document_answer(
    request: web.Request, document: Document, content: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Hand out a stored file under its name (RFC 8187), with its digest (RFC 9530). Nothing in it runs in a browser."""
    digest = base64.b64encode(bytes.fromhex(document.sha256)).decode()
    headers = {
        "Content-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(document.name, safe='')}",
    }
    return await streamed(request, content, media_type=document.media_type, size=document.size, headers=headers)


async def archive_answer(request: web.Request, package: Package) -> web.StreamResponse:
    """Hand out the archive package of a case, as one ZIP file under the number of the case."""
    manifest = package.manifest
    headers = {
        "Content-Disposition": f'attachment; filename="{manifest.case}.zip"',
        "ETag": f'"{manifest.sha256()}"',
    }
    return await streamed(request, package.stream(), media_type="application/zip", size=None, headers=headers)
