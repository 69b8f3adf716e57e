"""/v1/certificate-types and /v1/certificates/…: certificates found, read and verified live where they were issued.

Owns: requests and answers as JSON. Leaves to `gateway.certificates`: everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.batch import BatchRequest, Outcome
from gateway.certificates.disputes import Dispute
from gateway.certificates.lookup import LookupAnswer
from gateway.certificates.named import VerifyAnswer
from gateway.certificates.request import DataRequest, DisputeRequest, LookupRequest, VerifyRequest
from gateway.certificates.services import Certificates
from gateway.certificates.types import CertificateType
from gateway.domain.caller import Caller
from gateway.errors import GatewayError
from gateway.web.api.answers import json_answer
from gateway.web.api.bodies import read_body
from gateway.web.api.certificate_files import FileDesk, looked_at
from gateway.web.api.followups import Guard
from gateway.web.problems import document


class _Addresses:
    def __init__(self, services: Certificates, desk: FileDesk) -> None:
        self._services = services
        self._desk = desk

    async def types(self, _request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/certificate-types: those that the caller may ask about, and at which issuers."""
        known = self._services.visible_types(caller.client_id)
        return json_answer({"types": [certificate_type(kind, issuers) for kind, issuers in known]})

    async def look_up(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/certificates/lookup."""
        asked = await read_body(request, LookupRequest)
        return json_answer(found(await self._services.lookup.lookup(caller, asked)))

    async def data(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/certificates/data."""
        asked = await read_body(request, DataRequest)
        return json_answer(found(await self._services.named.data(caller, asked)))

    async def verify(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/certificates/verify."""
        asked = await read_body(request, VerifyRequest)
        if asked.file is None:
            return json_answer(verified(await self._services.named.verify(caller, asked)))
        told = await self._desk.checks.verify(caller, asked)
        return json_answer({**looked_at(told), **verified(told.answer)})

    async def batch(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/certificates/batch: each question answered or refused on its own, in their order."""
        asked = await read_body(request, BatchRequest)
        return json_answer({"answers": [_outcome(one) for one in await self._services.batch.answer(caller, asked)]})

    async def dispute(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/certificates/disputes: 201, or 200 when the same report was here before."""
        asked = await read_body(request, DisputeRequest)
        told = await self._services.disputes.report(caller, asked)
        headers = {"Location": f"/v1/certificates/disputes/{told.ticket}"}
        return json_answer(disputed(told), status=200 if told.replayed else 201, headers=headers)

    async def show_dispute(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/certificates/disputes/{ticket}."""
        return json_answer(disputed(await self._services.disputes.show(caller, request.match_info["ticket"])))


def routes(services: Certificates, desk: FileDesk, guarded: Guard) -> list[web.RouteDef]:
    """Return the routes, each behind the scope `certificates`."""
    at = _Addresses(services, desk)
    return [
        web.get("/v1/certificate-types", guarded("certificates", at.types)),
        web.post("/v1/certificates/lookup", guarded("certificates", at.look_up)),
        web.post("/v1/certificates/data", guarded("certificates", at.data)),
        web.post("/v1/certificates/verify", guarded("certificates", at.verify)),
        web.post("/v1/certificates/batch", guarded("certificates", at.batch)),
        web.post("/v1/certificates/disputes", guarded("certificates", at.dispute)),
        web.get("/v1/certificates/disputes/{ticket}", guarded("certificates", at.show_dispute)),
    ]


# --- answers -----------------------------------------------------------------------------------------------------


def certificate_type(kind: CertificateType, issuers: Sequence[str]) -> dict[str, Any]:
    """Write a type, with the issuers at which the caller may ask about it."""
    return {
        "code": kind.code,
        "name": kind.name,
        "aliases": list(kind.aliases),
        "code_status": kind.code_status,
        "definer": {"code": kind.code[:18], **({"name": kind.definer} if kind.definer else {})},
        "level": kind.level,
        "issuers": list(issuers),
        "recognition": {issuer: kind.recognised(issuer) for issuer in issuers},
        "remembered_seconds": int(kind.cached.total_seconds()),
        "proved_seconds": int(kind.rechecked.total_seconds()),
        "surface": [{"name": name, "title": title} for name, title in kind.surface.items()],
    }


def found(answer: LookupAnswer) -> dict[str, Any]:
    """Write the answer of a lookup, or of a question for data."""
    known = {
        "answers": [certificate(one) for one in answer.answers],
        "asked_at": answer.asked_at,
        "answered_at": answer.answered_at,
        "evidence": answer.evidence_id,
    }
    if answer.silent:
        known["silent"] = list(answer.silent)
    if answer.not_asked:
        known["not_asked"] = dict(answer.not_asked)
    return known


def certificate(answer: CertificateAnswer) -> dict[str, Any]:
    """Write what one issuer says."""
    known: Mapping[str, Any] = {
        "issuer": answer.issuer,
        "standing": answer.standing,
        "reason": answer.reason,
        "certificate": answer.certificate,
        "warnings": list(answer.warnings),
        "answered_at": answer.answered_at,
    }
    return {name: value for name, value in known.items() if value not in (None, [])}


def verified(answer: VerifyAnswer) -> dict[str, Any]:
    """Write the answer of a verification."""
    written = {**certificate(answer.answer), "evidence": answer.evidence_id}
    if answer.claims:
        written["claims"] = {name: str(match) for name, match in answer.claims.items()}
    if answer.remembered:
        written["remembered"] = answer.remembered
    return written


def disputed(dispute: Dispute) -> dict[str, Any]:
    """Write what became of a report."""
    known: Mapping[str, Any] = {
        "ticket": dispute.ticket,
        "reference": dispute.reference,
        "issuer": dispute.region,
        "state": dispute.state,
        "number": dispute.number,
        "reply": dispute.reply,
        "reported_at": dispute.reported_at,
        "updated_at": dispute.updated_at,
        "evidence": dispute.evidence_id,
    }
    return {name: value for name, value in known.items() if value is not None}


def _outcome(outcome: Outcome) -> Mapping[str, Any]:
    """Write an answer under `answer`, or the problem document of a refusal under `problem`."""
    if isinstance(outcome, GatewayError):
        return {"problem": document(outcome, "")}
    return {"answer": found(outcome) if isinstance(outcome, LookupAnswer) else verified(outcome)}
