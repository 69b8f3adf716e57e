"""What a caller may do about a case after the decision: what came of it, service, ratings, its file.

Owns: HTTP of it. Leaves to `gateway.submissions`: the rules and the records.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

from gateway.domain.caller import Caller
from gateway.submissions.archive import Archive
from gateway.submissions.complaints import Complaint, Complaints
from gateway.submissions.papers import Noted, PaperReceived, Papers, PaperSent
from gateway.submissions.ratings import Correction, RatingGiven, Ratings
from gateway.submissions.results import ResultDesk
from gateway.submissions.service import Service, ServiceRecords
from gateway.web.api.answers import archive_answer, document_answer, json_answer
from gateway.web.api.bodies import read_body

Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
Guard = Callable[[str, Handler], Callable[[web.Request], Awaitable[web.StreamResponse]]]
"""Scope and handler → a handler that lets only callers with that scope through."""


@dataclass(frozen=True, slots=True)
class Afterwards:
    """The services behind these addresses."""

    ratings: Ratings
    complaints: Complaints
    service: ServiceRecords
    results: ResultDesk
    archive: Archive
    papers: Papers
    seals: Callable[[], Sequence[Mapping[str, Any]]]
    """The register of seals, as it is published."""


def routes(services: Afterwards, guarded: Guard) -> list[web.RouteDef]:
    """Return the routes below /v1/submissions/{id}, and the register of seals."""
    api = _Afterwards(services)
    return [
        web.get("/v1/seals", guarded("submissions", api.seals)),
        web.post("/v1/submissions/{id}/ratings", guarded("submissions", api.rate)),
        web.post("/v1/submissions/{id}/ratings/{role}/correction", guarded("submissions", api.correct)),
        web.post("/v1/submissions/{id}/complaints", guarded("submissions", api.complain)),
        web.post("/v1/submissions/{id}/service", guarded("submissions", api.serve)),
        web.get("/v1/submissions/{id}/archive", guarded("submissions", api.archive), allow_head=False),
        web.post("/v1/submissions/{id}/papers", guarded("submissions", api.paper_sent)),
        web.post("/v1/submissions/{id}/papers/{reference}/received", guarded("submissions", api.paper_received)),
        web.get("/v1/submissions/{id}/results", guarded("submissions", api.results)),
        web.get("/v1/submissions/{id}/results/{code}", guarded("submissions", api.result), allow_head=False),
    ]


class _Afterwards:
    def __init__(self, services: Afterwards) -> None:
        self._services = services

    async def seals(self, _request: web.Request, _caller: Caller) -> web.Response:
        """GET /v1/seals: the seals of collecting windows, what each may be put on, and how long."""
        return json_answer({"seals": list(self._services.seals())})

    async def rate(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/ratings: 201 with the rating, 200 when it was here before."""
        given = await read_body(request, RatingGiven)
        rated = await self._services.ratings.rate(caller, request.match_info["id"], given)
        return json_answer({**asdict(rated.rating), "replayed": rated.replayed}, status=200 if rated.replayed else 201)

    async def correct(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/ratings/{role}/correction: 200 with the rating."""
        correction, known = await read_body(request, Correction), request.match_info
        rated = await self._services.ratings.correct(caller, known["id"], known["role"], correction)
        return json_answer({**asdict(rated.rating), "replayed": rated.replayed})

    async def complain(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/complaints: 202, for it is on its way; 200 when it was here before."""
        complaint = await read_body(request, Complaint)
        taken = await self._services.complaints.complain(caller, request.match_info["id"], complaint)
        return json_answer(asdict(taken), status=200 if taken.replayed else 202)

    async def serve(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/service: 201 with the record of service, 200 when it was here before."""
        service = await read_body(request, Service)
        served = await self._services.service.serve(caller, request.match_info["id"], service)
        return json_answer(
            {**asdict(served.service), "replayed": served.replayed}, status=200 if served.replayed else 201
        )

    async def results(self, request: web.Request, caller: Caller) -> web.Response:
        """GET …/results: the documents of the decision, and whether they are all here."""
        return json_answer(asdict(await self._services.results.show(caller, request.match_info["id"])))

    async def result(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """GET …/results/{code}: the bytes of one document."""
        known = request.match_info
        view, content = await self._services.results.open(caller, known["id"], known["code"])
        return await document_answer(request, view, content)

    async def archive(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """GET …/archive: the archive package, one ZIP file."""
        return await archive_answer(request, await self._services.archive.of(caller, request.match_info["id"]))

    async def paper_sent(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/papers: 201 with the parcel, 200 when it was here before."""
        sent = await read_body(request, PaperSent)
        return _noted(await self._services.papers.sent(caller, request.match_info["id"], sent), 201)

    async def paper_received(self, request: web.Request, caller: Caller) -> web.Response:
        """POST …/papers/{reference}/received: 200 with the parcel."""
        received, known = await read_body(request, PaperReceived), request.match_info
        return _noted(await self._services.papers.received(caller, known["id"], known["reference"], received), 200)


def _noted(noted: Noted, status: int) -> web.Response:
    return json_answer({**asdict(noted.paper), "replayed": noted.replayed}, status=200 if noted.replayed else status)
