"""/v1/certificates/file, /v1/certificates/files/{token}: files handed out; and a verdict on one as JSON.

Owns: header fields and forms of these answers. Leaves to `gateway.certificates`: everything else.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.certificates.file_checks import FileAnswer, FileChecks
from gateway.certificates.files.verdict import FileVerdict, SealVerdict, Step
from gateway.certificates.handing import HandedOut, Handing, reason_of
from gateway.certificates.request import FileRequest
from gateway.domain.caller import Caller
from gateway.web.api.answers import json_answer, streamed
from gateway.web.api.bodies import read_body
from gateway.web.api.followups import Guard

_PIECE = 64 * 1024
_ENDINGS = {"application/ofd": "ofd", "application/pdf": "pdf"}


@dataclass(frozen=True, slots=True)
class FileDesk:
    """The services behind these addresses. A file must be taken within `seconds`: its place is another's then."""

    handing: Handing
    checks: FileChecks
    seconds: float = 60.0


class _Addresses:
    def __init__(self, desk: FileDesk) -> None:
        self._desk = desk

    async def file(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """POST /v1/certificates/file: the bytes, or with `link` an address that serves them once."""
        asked = await read_body(request, FileRequest)
        if not asked.link:
            async with self._desk.handing.fetch(caller, asked) as handed:
                return await _written(request, handed, self._desk.seconds)
        link = await self._desk.handing.link(caller, asked)
        said = {
            "link": f"/v1/certificates/files/{link.token}",
            "expires_at": link.expires_at,
            "evidence": link.evidence_id,
        }
        return json_answer(said, status=201)

    async def linked(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """GET /v1/certificates/files/{token}: once."""
        async with self._desk.handing.fetch_linked(caller, request.match_info["token"]) as handed:
            return await _written(request, handed, self._desk.seconds)


def routes(desk: FileDesk, guarded: Guard) -> list[web.RouteDef]:
    """Return the routes, each behind the scope `certificates`."""
    at = _Addresses(desk)
    return [
        web.post("/v1/certificates/file", guarded("certificates", at.file)),
        # A HEAD would spend the link, and bring nothing.
        web.get("/v1/certificates/files/{token}", guarded("certificates", at.linked), allow_head=False),
    ]


def file_name(handed: HandedOut) -> str:
    """Return the name under which a file is handed out (GB/T 36905: the identifier)."""
    return f"{handed.identifier}.{_ENDINGS.get(handed.media_type, 'bin')}"


async def _written(request: web.Request, handed: HandedOut, within: float) -> web.StreamResponse:
    digest = base64.b64encode(bytes.fromhex(handed.sha256)).decode()
    name = file_name(handed)
    headers = {
        "Content-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Certificate-Issuer": handed.issuer,
        "Certificate-Standing": str(handed.standing),
        "Certificate-File": "copy" if handed.is_copy else reason_of(handed.verdict),
        "Evidence": handed.evidence_id,
    }
    size = len(handed.data)
    return await streamed(
        request, _pieces(handed.data), media_type=handed.media_type, size=size, headers=headers, within=within
    )  # fmt: skip


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    view = memoryview(data)
    for begin in range(0, len(data), _PIECE):
        yield bytes(view[begin : begin + _PIECE])


# --- verdicts ----------------------------------------------------------------------------------------------------


def looked_at(answer: FileAnswer) -> dict[str, Any]:
    """Write the verdict on a file."""
    return {"verdict": str(answer.verdict), "file": _file(answer.file)}


def _file(verdict: FileVerdict) -> dict[str, Any]:
    known: Mapping[str, Any] = {
        "form": verdict.form,
        "size": verdict.size,
        "sha256": verdict.sha256,
        "genuine": verdict.genuine,
        "problem": verdict.problem or None,
        "help": verdict.help or None,
        "seals": [_seal(seal) for seal in verdict.seals],
    }
    return {name: value for name, value in known.items() if value is not None}


def _seal(seal: SealVerdict) -> dict[str, Any]:
    known: Mapping[str, Any] = {
        "standard": seal.standard,
        "id": seal.seal_id,
        "name": seal.seal_name,
        "owner": seal.owner,
        "signed_at": seal.signed_at,
        "genuine": seal.genuine,
        "steps": [_step(step) for step in (*seal.steps, seal.scope)],
    }
    return {name: value for name, value in known.items() if value is not None}


def _step(step: Step) -> dict[str, Any]:
    said = {"check": str(step.check), "outcome": str(step.outcome)}
    return {**said, "reason": step.reason, "help": step.help} if step.reason else said
