"""Files over HTTP: one request for a whole file, or as many as it takes (draft-ietf-httpbis-resumable-upload).

Owns: the header fields of uploads and of digests (RFC 9530), and what each answer says of an upload. Leaves to
`gateway.submissions.uploads`: what happens to the bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from aiohttp import hdrs, web
from aiohttp.multipart import content_disposition_filename, parse_content_disposition

from gateway.domain.caller import Caller
from gateway.errors import BodyTooLarge, FieldProblem, GatewayError, InvalidRequest
from gateway.ports import Clock
from gateway.submissions.contents.inspector import ALGORITHMS
from gateway.submissions.contents.kinds import ContentRefused
from gateway.submissions.materials import Blob, Materials
from gateway.submissions.upload_rows import Standing
from gateway.submissions.uploads import Piece, Uploads, WholeDigestWrong, Wish
from gateway.web.api.answers import json_answer

PARTIAL = "application/partial-upload"
_CHUNK = 64 * 1024
_DIGEST_BYTES = {"sha-256": 32, "sha-512": 64}
_DIGEST = re.compile(r"\s*([a-z0-9-]{1,32})\s*=\s*:([A-Za-z0-9+/=]{1,200}):\s*")
_INTEGER = re.compile(r"\d{1,15}")
_BOOLEANS = {"?1": True, "?0": False}

Guarded = Callable[[str, Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]], Any]


def routes(guarded: Guarded, uploads: Uploads, materials: Materials, clock: Clock) -> list[web.RouteDef]:
    """Return the routes under /v1/blobs. `guarded` lets only callers with a scope through to a handler."""
    files = _Files(uploads, materials, clock)
    return [
        web.post("/v1/blobs", guarded("submissions", files.create)),
        web.options("/v1/blobs", guarded("submissions", files.options)),
        web.head("/v1/blobs/{id}", guarded("submissions", files.offset)),
        web.get("/v1/blobs/{id}", guarded("submissions", files.show), allow_head=False),
        web.patch("/v1/blobs/{id}", guarded("submissions", files.append)),
        web.delete("/v1/blobs/{id}", guarded("submissions", files.delete)),
    ]


class _Files:
    def __init__(self, uploads: Uploads, materials: Materials, clock: Clock) -> None:
        self._uploads = uploads
        self._materials = materials
        self._clock = clock

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/blobs: the bytes of one file, or with `Upload-Complete: ?0` its first ones, which may be none."""
        wish = Wish(
            _file_name(request),
            request.content_type,
            _integer(request, "Upload-Length"),
            _digests(request, "Repr-Digest"),
        )
        if _boolean(request, "Upload-Complete") is False:
            return await self._begin(request, caller, wish)
        with self._telling():
            blob = await self._uploads.take(caller, wish, _piece(request, 0, last=True))
        return json_answer(file_said(blob), status=201, headers={**_at(blob.id), "Upload-Complete": "?1"})

    async def _begin(self, request: web.Request, caller: Caller, wish: Wish) -> web.Response:
        with self._telling():
            standing = await self._uploads.begin(caller, wish)
        if request.can_read_body:
            with self._telling(_at(standing.id)):
                standing = _open(await self._uploads.append(caller, standing.id, _piece(request, 0, last=False)))
        headers = {**_at(standing.id), **self._headers(standing)}
        return json_answer({"id": standing.id, "offset": standing.offset}, status=201, headers=headers)

    async def options(self, _request: web.Request, _caller: Caller) -> web.Response:
        """OPTIONS /v1/blobs: that uploads can be resumed, and how large a file may be."""
        allowed = {"Allow": "OPTIONS, POST", "Accept-Patch": PARTIAL}
        return web.Response(status=204, headers={**allowed, **self._limit()})

    async def offset(self, request: web.Request, caller: Caller) -> web.Response:
        """HEAD /v1/blobs/{id}: where an upload is."""
        standing = await self._uploads.look(caller, request.match_info["id"])
        return web.Response(status=204, headers={"Cache-Control": "no-store", **self._headers(standing)})

    async def show(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/blobs/{id}: what is known of a file, never its bytes."""
        blob = await self._materials.show(caller, request.match_info["id"])
        return json_answer({**file_said(blob), "state": blob.state, "case": blob.case})

    async def append(self, request: web.Request, caller: Caller) -> web.Response:
        """PATCH /v1/blobs/{id}: the next bytes; with `Upload-Complete: ?1` the last ones."""
        offset, last = _append_fields(request)
        with self._telling():
            answer = await self._uploads.append(caller, request.match_info["id"], _piece(request, offset, last=last))
        if isinstance(answer, Blob):
            return json_answer(file_said(answer), headers={"Upload-Complete": "?1"})
        return web.Response(status=204, headers={"Cache-Control": "no-store", **self._headers(answer)})

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """DELETE /v1/blobs/{id}: an upload, or a file that no case has."""
        await self._uploads.drop(caller, request.match_info["id"])
        return web.Response(status=204)

    def _headers(self, standing: Standing) -> dict[str, str]:
        length = {} if standing.length is None else {"Upload-Length": str(standing.length)}
        complete = "?1" if standing.complete else "?0"
        return {
            "Upload-Offset": str(standing.offset),
            "Upload-Complete": complete,
            **length,
            **self._limit(None if standing.complete else standing),
        }

    def _limit(self, standing: Standing | None = None) -> dict[str, str]:
        limits = [f"max-size={self._uploads.limits.file_bytes}"]
        if standing is not None:
            left = self._uploads.ends_at(standing) - self._clock()
            limits.append(f"max-age={max(int(left.total_seconds()), 0)}")
        return {"Upload-Limit": ", ".join(limits)}

    @contextmanager
    def _telling(self, headers: dict[str, str] | None = None) -> Iterator[None]:
        """Give a refusal the header fields that the draft asks for."""
        try:
            yield
        except GatewayError as error:
            more = self._limit() if isinstance(error, BodyTooLarge) else {}
            if isinstance(error, ContentRefused | WholeDigestWrong):  # nothing that may be appended would help
                more, headers = {"Upload-Complete": "?1"}, None
            error.headers = {**error.headers, **more, **(headers or {})}
            raise


def file_said(blob: Blob) -> dict[str, Any]:
    """Return what is said of a file that is complete."""
    return {
        "id": blob.id,
        "name": blob.name,
        "media_type": blob.media_type,
        "size": blob.size,
        "sha256": blob.sha256,
    }


def _at(blob_id: str) -> dict[str, str]:
    return {"Location": f"/v1/blobs/{blob_id}"}


def _open(answer: Standing | Blob) -> Standing:
    if isinstance(answer, Blob):
        raise TypeError("an upload that was not ended cannot be complete")
    return answer


def _piece(request: web.Request, offset: int, *, last: bool) -> Piece:
    return Piece(
        offset=offset,
        chunks=_chunks(request),
        last=last,
        size=request.content_length if request.can_read_body else 0,
        length=_integer(request, "Upload-Length"),
        digests=_digests(request, "Content-Digest"),
        whole=_digests(request, "Repr-Digest"),
    )


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.content.iter_chunked(_CHUNK):
            yield chunk
    except ConnectionError as gone:  # nobody is there to hear of it
        raise web.RequestPayloadError("the connection was lost") from gone


# --- header fields -----------------------------------------------------------------------------------------------


def _append_fields(request: web.Request) -> tuple[int, bool]:
    """Return offset and completeness of an append. Raises InvalidRequest that names all that is missing."""
    offset, last = _integer(request, "Upload-Offset"), _boolean(request, "Upload-Complete")
    problems = []
    if request.content_type != PARTIAL:
        problems.append(FieldProblem("Content-Type", f"must be {PARTIAL}", "media_type"))
    if offset is None:
        problems.append(FieldProblem("Upload-Offset", "must be the number of bytes that are there already", "missing"))
    if last is None:
        problems.append(FieldProblem("Upload-Complete", "must be ?0, or ?1 with the last bytes", "missing"))
    if problems or offset is None or last is None:
        raise InvalidRequest("This is no append to an upload.", problems=problems)
    return offset, last


def _integer(request: web.Request, name: str) -> int | None:
    """Return a field of RFC 9651 that is an integer; None for any other value, as the draft says."""
    value = request.headers.get(name, "").strip()
    return int(value) if _INTEGER.fullmatch(value) else None


def _boolean(request: web.Request, name: str) -> bool | None:
    """Return a field of RFC 9651 that is a boolean; None for any other value, as the draft says."""
    return _BOOLEANS.get(request.headers.get(name, "").strip())


def _digests(request: web.Request, name: str) -> dict[str, str]:
    """Return the digests of a field of RFC 9530 that we know, in hex. Raises InvalidRequest when there is none."""
    header = request.headers.get(name)
    if header is None:
        return {}
    found = {}
    for member in header.split(","):
        match = _DIGEST.fullmatch(member)
        if match is None:
            _bad_digest(name)
        if match.group(1) in ALGORITHMS:
            found[match.group(1)] = _digest(name, match.group(1), match.group(2))
    return found or _bad_digest(name)


def _digest(name: str, algorithm: str, text: str) -> str:
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        _bad_digest(name)
    return value.hex() if len(value) == _DIGEST_BYTES[algorithm] else _bad_digest(name)


def _bad_digest(name: str) -> NoReturn:
    problem = FieldProblem(name, "must be sha-256=:<base64>: or sha-512=:<base64>: (RFC 9530)", "format")
    raise InvalidRequest("The digest cannot be read.", problems=[problem])


def _file_name(request: web.Request) -> str:
    """Return the printable part of the name in `Content-Disposition` (RFC 6266); `unnamed` where none can be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # aiohttp warns of a header that is wrong: the caller's business, not ours
        try:
            _, parameters = parse_content_disposition(request.headers.get(hdrs.CONTENT_DISPOSITION))
        except LookupError:  # a character set that nobody knows
            return "unnamed"
        name = content_disposition_filename(parameters) or ""
    return "".join(filter(str.isprintable, name)) or "unnamed"
