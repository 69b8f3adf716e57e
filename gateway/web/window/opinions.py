"""Pages for what the applicant thinks of it, and for the file: ratings (好差评), complaints, the archive package.

Owns: their addresses and the names of their inputs. Leaves to `ratings`, `complaints` and `archive` of
`gateway.submissions`: what may be said when, and everything after; to `pages`: who the clerk is.

A clerk enters what was said on the spot: at the hall, at a kiosk, by the hotline. Who rates online does it without us.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web

from gateway.domain.caller import Caller
from gateway.domain.identifiers import case_number_problem
from gateway.domain.rating import BAD, CHANNELS, OFFLINE
from gateway.domain.submission import ENDS, State
from gateway.edge import check
from gateway.errors import FieldProblem, GatewayError, InvalidRequest, NotFound
from gateway.submissions.complaints import Complaint
from gateway.submissions.ratings import HANDLING, Correction, RatingGiven
from gateway.web.api.answers import archive_answer
from gateway.web.pages import see_other
from gateway.web.problems import status_of
from gateway.web.window.application import is_reference
from gateway.web.window.entry import Entry, by_field, texts_of
from gateway.web.window.services import CaseView, WindowServices
from gateway.web.window.sessions import Session

COLLECTING = "collecting"
ROLES = (COLLECTING, HANDLING)
ON_THE_SPOT = tuple(channel for channel, indicators in CHANNELS.items() if indicators is OFFLINE)
SCORES = (5, 4, 3, 2, 1)


class Desk(Protocol):
    """A signed-on clerk at a window."""

    @property
    def session(self) -> Session: ...  # noqa: D102 - the names are those of `pages.Desk`
    @property
    def caller(self) -> Caller: ...  # noqa: D102 - as above


Show = Callable[..., web.Response]
"""Renders a page of the window: request, desk, template, context, status."""


class OpinionPages:
    """The handlers, with what they were lent."""

    def __init__(self, services: WindowServices, show: Show) -> None:
        self._services = services
        self._show = show

    async def archive(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Hand out the archive package of a case that has ended."""
        return await archive_answer(request, await self._services.archive.of(desk.caller, _number(request)))

    async def show(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Show how the case was rated and what was complained of, with a form for what may still be said."""
        return await self._page(request, desk, {"reference": secrets.token_hex(16)})

    async def rate(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Take a rating of the window or of the authority."""

        async def take(typed: Mapping[str, str]) -> None:
            given = check(RatingGiven, _rating(typed))
            await self._services.ratings.rate(desk.caller, _number(request), given)

        return await self._say(request, desk, take, _of_a_rating)

    async def correct(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Take what was done about a bad rating; the rater was answered just now."""
        role = request.match_info["role"]
        if role not in ROLES:
            raise NotFound("There is no such rating.", code="window.no_such_case")

        async def take(typed: Mapping[str, str]) -> None:
            said = {"at": self._services.clock(), "words": typed.get(f"{role}.correction", "")}
            await self._services.ratings.correct(desk.caller, _number(request), role, check(Correction, said))

        return await self._say(request, desk, take, lambda _path, _typed: f"{role}.correction")

    async def complain(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Take a complaint for the authority."""

        async def take(typed: Mapping[str, str]) -> None:
            contact = typed.get("complaint.contact") or None
            said = {"reference": typed.get("reference"), "text": typed.get("complaint.text", ""), "contact": contact}
            await self._services.complaints.complain(desk.caller, _number(request), check(Complaint, said))

        return await self._say(request, desk, take, lambda path, _typed: f"complaint.{path}")

    # --- their parts ---------------------------------------------------------------------------------------------

    async def _say(
        self,
        request: web.Request,
        desk: Desk,
        take: Callable[[Mapping[str, str]], Awaitable[None]],
        input_of: Callable[[str, Mapping[str, str]], str],
    ) -> web.StreamResponse:
        """Take one of the forms, or show the page again with what is wrong by label; `input_of` names the input."""
        typed = await texts_of(request, desk.session.csrf)
        try:
            if not is_reference(typed.get("reference", "")):
                raise InvalidRequest("This form has no id of ours; open it anew.", code="window.malformed_form")
            await take(typed)
        except NotFound:
            raise
        except GatewayError as error:
            found = [FieldProblem(input_of(one.field, typed), one.reason, one.code) for one in error.problems]
            return await self._page(request, desk, typed, problems=found, refusal=error)
        return see_other(f"/window/cases/{_number(request)}/ratings")

    async def _page(
        self,
        request: web.Request,
        desk: Desk,
        typed: Mapping[str, str],
        *,
        problems: Sequence[FieldProblem] = (),
        refusal: GatewayError | None = None,
    ) -> web.Response:
        case = await self._services.show(desk.caller, _number(request))
        entry = Entry({**{f"{role}.channel": ON_THE_SPOT[0] for role in ROLES}, **typed})
        context = {
            "case": case, "entry": entry, "problems": problems, "wrong": by_field(problems), "refusal": refusal,
            "open_roles": _open_roles(case), "scores": SCORES, "bad": BAD, "channels": ON_THE_SPOT,
            "indicators": OFFLINE, "complaints": [said for said in case.messages if said["kind"] == "complaint"],
            "there": _is_there(case),
        }  # fmt: skip
        status = status_of(refusal) if refusal else 200
        return self._show(request, desk, "window/ratings.html", context, status=status)


def _number(request: web.Request) -> str:
    number = request.match_info["id"]
    if case_number_problem(number):
        raise NotFound("There is no such case at this window.", code="window.no_such_case")
    return number


def _is_there(case: CaseView) -> bool:
    """Say whether the authority has the case: what it never had is neither rated nor complained of."""
    return any(given["region"] == case.place for given in case.region_numbers)


def _open_roles(case: CaseView) -> list[str]:
    """Return who can still be rated: each once, when the case has ended; of a case in parts, the parts are rated."""
    if State(case.state) not in ENDS or case.parts:
        return []
    rated = {given.role for given in case.ratings}
    return [role for role in ROLES if role not in rated and (role == COLLECTING or _is_there(case))]


def _rating(typed: Mapping[str, str]) -> dict[str, Any]:
    """Return the rating that a form says; which of the two roles it is about stands in `role`."""
    role = typed.get("role", "")
    score = [known for known in SCORES if str(known) == typed.get(f"{role}.score")]
    return {
        "reference": typed.get("reference"),
        "role": role,
        **({"score": score[0]} if score else {}),
        "channel": typed.get(f"{role}.channel", ""),
        "indicators": [name for name in OFFLINE if typed.get(f"{role}.indicator.{name}")],
        "words": typed.get(f"{role}.words") or None,
    }


def _of_a_rating(path: str, typed: Mapping[str, str]) -> str:
    """Return the input for a path of a rating; what has none of its own is told at the score."""
    role = typed.get("role") if typed.get("role") in ROLES else COLLECTING
    named = {"channel": "channel", "words": "words", "indicators": "indicator"}
    return f"{role}.{named.get(path.partition('.')[0], 'score')}"
