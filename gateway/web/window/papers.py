"""Pages for what a window gives out and sends on: the collection receipt, paper with its list, the result.

Owns: their addresses and the form of a parcel. Leaves to `gateway.submissions.window_documents` and `papers`: what they
say and who may; to `pages`: who the clerk is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from aiohttp import web

from gateway.domain.caller import Caller
from gateway.domain.identifiers import case_number_problem
from gateway.domain.submission import ENDS, State
from gateway.edge import check
from gateway.errors import FieldProblem, GatewayError, InvalidRequest, NotFound
from gateway.submissions.papers import PaperReceived, PaperSent
from gateway.submissions.service import ABLE, Service
from gateway.submissions.window_documents import as_json
from gateway.web.api.answers import document_answer, json_answer
from gateway.web.pages import see_other
from gateway.web.problems import status_of
from gateway.web.window.application import is_reference
from gateway.web.window.entry import texts_of
from gateway.web.window.services import WindowServices
from gateway.web.window.sessions import Session
from gateway.windows import Clerk, Window

ROWS = 8
"""Lines of paper that one form has."""
WAYS = ("courier", "post", "hand")


class Desk(Protocol):
    """A signed-on clerk at a window."""

    @property
    def window(self) -> Window: ...  # noqa: D102 - the names are those of `pages.Desk`
    @property
    def clerk(self) -> Clerk: ...  # noqa: D102 - as above
    @property
    def session(self) -> Session: ...  # noqa: D102 - as above
    @property
    def caller(self) -> Caller: ...  # noqa: D102 - as above


Show = Callable[..., web.Response]
"""Renders a page of the window: request, desk, template, context, status."""


class PaperPages:
    """The handlers, with what they were lent."""

    def __init__(self, services: WindowServices, show: Show) -> None:
        self._services = services
        self._show = show

    async def receipt(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Show the collection receipt of a case, to be printed; with `.json` as programs read it."""
        document = await self._services.documents.receipt(desk.caller, desk.window, _number(request))
        if request.path.endswith(".json"):
            return json_answer(as_json(document))
        return self._show(request, desk, "window/receipt.html", {"document": document, "told": document.content})

    async def handover(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Show the handover list of a parcel, to be printed and signed; with `.json` as programs read it."""
        number, reference = _number(request), request.match_info["reference"]
        document = await self._services.documents.handover(desk.caller, desk.window, number, reference)
        if request.path.endswith(".json"):
            return json_answer(as_json(document))
        return self._show(request, desk, "window/handover.html", {"document": document, "told": document.content})

    async def papers(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Show the parcels of a case, and an empty form for the next one."""
        return await self._page(request, desk, {"reference": secrets.token_hex(16)})

    async def send(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Take the list of a parcel, or show the form again with everything that is wrong."""
        number, typed = _number(request), await texts_of(request, desk.session.csrf)
        try:
            if not is_reference(typed.get("reference", "")):
                raise InvalidRequest("This form has no id of ours; open it anew.", code="window.malformed_form")
            sent = check(PaperSent, _parcel(typed, self._services.clock()))
            await self._services.papers.sent(desk.caller, number, sent)
        except GatewayError as error:
            return await self._page(request, desk, typed, refusal=error)
        return see_other(f"/window/cases/{number}/papers")

    async def received(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Take that a parcel is there."""
        number, typed = _number(request), await texts_of(request, desk.session.csrf)
        said = {"at": self._services.clock(), "by": typed.get("by", "")}
        try:
            received = check(PaperReceived, said)
            await self._services.papers.received(desk.caller, number, request.match_info["reference"], received)
        except GatewayError as error:
            return await self._page(request, desk, {"reference": secrets.token_hex(16)}, refusal=error)
        return see_other(f"/window/cases/{number}/papers")

    async def results(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Show what came out of a case, and that it was handed over."""
        return await self._results(request, desk, {})

    async def document(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Hand out one document of the decision."""
        view, content = await self._services.results.open(desk.caller, _number(request), request.match_info["code"])
        return await document_answer(request, view, content)

    async def serve(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Take that the result was handed over just now, by this clerk."""
        number, typed = _number(request), await texts_of(request, desk.session.csrf)
        said = {name: typed.get(name, "") for name in ("way", "recipient", "proof")}
        try:
            service = check(Service, {**said, "at": self._services.clock(), "by": desk.clerk.id})
            await self._services.service.serve(desk.caller, number, service)
        except GatewayError as error:
            return await self._results(request, desk, typed, refusal=error)
        return see_other(f"/window/cases/{number}/results")

    async def _results(
        self, request: web.Request, desk: Desk, typed: Mapping[str, str], *, refusal: GatewayError | None = None
    ) -> web.Response:
        number = _number(request)
        case = await self._services.show(desk.caller, number)
        context = {
            "case": case, "results": await self._services.results.show(desk.caller, number), "served": case.service,
            "able": State(case.state) in ABLE, "ended": State(case.state) in ENDS, "typed": typed, "refusal": refusal,
            "problems": _on_the_page(refusal.problems if refusal else ()),
        }  # fmt: skip
        return self._show(request, desk, "window/results.html", context, status=status_of(refusal) if refusal else 200)

    async def _page(
        self, request: web.Request, desk: Desk, typed: Mapping[str, str], *, refusal: GatewayError | None = None
    ) -> web.Response:
        number = _number(request)
        case = await self._services.show(desk.caller, number)
        context = {
            "case": case, "item": self._services.items.get(case.item_code), "ways": WAYS, "rows": range(ROWS),
            "papers": await self._services.papers.show(desk.caller, number), "typed": typed, "refusal": refusal,
            "problems": _on_the_page(refusal.problems if refusal else ()),
        }  # fmt: skip
        status = status_of(refusal) if refusal else 200
        return self._show(request, desk, "window/papers.html", context, status=status)


def _number(request: web.Request) -> str:
    number = request.match_info["id"]
    if case_number_problem(number):
        raise NotFound("There is no such case at this window.", code="window.no_such_case")
    return number


def _parcel(typed: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """Return what the form says, as the service reads it; lines without a name are left out."""
    optional = {name: typed[name] for name in ("carrier", "tracking") if typed.get(name)}
    lines = [_line(typed, row) for row in range(ROWS) if typed.get(f"item.{row}.name")]
    known = {name: typed.get(name, "") for name in ("reference", "way", "recipient")}
    return {**known, **optional, "at": now, "items": lines}


def _line(typed: Mapping[str, str], row: int) -> dict[str, Any]:
    copies = typed.get(f"item.{row}.copies") or "1"
    return {
        "name": typed[f"item.{row}.name"],
        "copies": int(copies) if copies.isascii() and copies.isdigit() and len(copies) < 4 else copies,
        "original": typed.get(f"item.{row}.kind") == "original",
    }


def _on_the_page(problems: Sequence[FieldProblem]) -> list[FieldProblem]:
    """Return what is wrong with each input once."""
    return list({problem.field: problem for problem in reversed(problems)}.values())[::-1]
