"""HTTP of signing out: the end session endpoint, the person's pages, and what regions say and send back.

Owns: cookies, status codes, pages. Leaves every decision to `gateway.identity`. The answer to our own form is a page
and never a redirect to elsewhere: Chromium applies `form-action` to the redirects after a form as well. The page leads
on by itself, and by a link.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import structlog
from aiohttp import web

from gateway.errors import CallerError, GatewayError, InvalidRequest, NotOffered
from gateway.identity.discovery import ENDPOINTS
from gateway.identity.logout_records import IN_BROWSER, PENDING, Party
from gateway.identity.logout_requests import Question, SignedOut
from gateway.identity.records import new_handle
from gateway.identity.service import IdentityService
from gateway.ports import Callback, Clock
from gateway.web.bodies import bounded
from gateway.web.cookies import HandleCookie, provider_session
from gateway.web.middlewares import REQUEST_ID
from gateway.web.pages import Pages, language_of, redirect, wished
from gateway.web.problems import problem_response
from gateway.web.provider_endpoints import form as form_of
from gateway.web.provider_endpoints import unique

LOGOUT_COOKIE_LIFE = timedelta(hours=1)
_NO_STORE = {"Cache-Control": "no-store"}
_BAD_REQUEST = 400
LONGEST_QUERY = 8000
"""Characters of a logout request; a request line of 8190 bytes is as much as the server reads."""

log = structlog.get_logger("logout")


def routes(service: IdentityService, pages: Pages, clock: Clock, limit: int) -> list[web.RouteDef]:
    """Return every address of signing out. `limit` is the largest notice of a region in bytes."""
    browser, regions = LogoutPages(service, pages), RegionNotices(service, clock, limit)
    endpoint = ENDPOINTS["end_session_endpoint"]
    return [
        web.get(endpoint, browser.ask, allow_head=False),
        web.post(endpoint, browser.ask_by_post),
        web.post(endpoint + "/confirm", browser.confirm),
        web.get(endpoint + "/result", browser.result),
        web.get("/sign-in/{region}/signed-out", browser.signed_out, allow_head=False),
        web.post("/sign-in/{region}/signed-out", browser.signed_out_by_post),
        web.post("/sign-in/{region}/logout", regions.receive),
    ]


@dataclass(frozen=True, slots=True)
class ShownParty:
    """One line of the result page."""

    name: str
    state: str


class LogoutPages:
    """The addresses that a person's browser visits."""

    def __init__(self, service: IdentityService, pages: Pages) -> None:
        self._service = service
        self._pages = pages
        secure = service.issuer.startswith("https://")
        self._session = provider_session(secure=secure)
        self._logout = HandleCookie("pearl_logout", secure, LOGOUT_COOKIE_LIFE)

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Take a logout request: done at once, or a question to the person."""
        wished = _wished_language(request)
        if wished is not None:
            return redirect(wished)
        session, browser = self._session.read(request), self._logout.read(request)
        try:
            found = await self._service.logout_requests.asked(
                request.query.items(), session, browser, language_of(request)
            )
        except InvalidRequest as error:
            return self._refused(request, error)
        if isinstance(found, Question):
            return self._show_question(request, found)
        response = redirect(found.onward or _result(found)) if found.onward or found.begun else self._over(request)
        return self._parted(response, found)

    async def ask_by_post(self, request: web.Request) -> web.StreamResponse:
        """Have the browser ask again by GET: a POST from a service's page comes without our SameSite=Lax cookies."""
        try:
            query = urlencode(await form_of(request))
        except InvalidRequest as error:
            return self._refused(request, error)
        if len(query) > LONGEST_QUERY:
            return self._refused(request, None)
        return redirect(f"{ENDPOINTS['end_session_endpoint']}?{query}", status=303)

    async def confirm(self, request: web.Request) -> web.StreamResponse:
        """Take the person's own word, from the form on our page."""
        session, browser = self._session.read(request), self._logout.read(request)
        try:
            fields = unique(await form_of(request))
            found = await self._service.logout_requests.confirmed(fields, session, browser, language_of(request))
        except InvalidRequest as error:
            return self._refused(request, error)
        if found.onward:
            response = self._pages.render(request, "sign_on/logout_onward.html", {"url": found.onward})
        else:
            response = redirect(_result(found), status=303) if found.begun else self._over(request)
        return self._parted(response, found)

    async def result(self, request: web.Request) -> web.StreamResponse:
        """Show who was told, and with what result, to the browser that signed out."""
        handle = self._logout.read(request) or new_handle()
        found = await self._service.logouts.result(request.query.get("logout", "")[:40].replace("\0", ""), handle)
        if found is None:
            return self._refused(request, None)
        logout, parties = found
        language = language_of(request)
        names = [await self._service.logouts.name_of(party, language) for party in parties]
        shown = [ShownParty(name, _state(party)) for name, party in zip(names, parties, strict=True)]
        context = {
            "parties": shown,
            "waiting": logout.finished_at is None,
            "again": f"?{urlencode({'logout': logout.id})}",
            "back": logout.return_to,
        }
        return self._pages.render(request, "sign_on/logout_result.html", context)

    async def signed_out(self, request: web.Request) -> web.StreamResponse:
        """Take the browser back from a region, and lead it on to the service or to the result."""
        state = request.query.get("state") or request.query.get("RelayState", "")
        logout = await self._service.logouts.come_back(request.match_info["region"], state)
        if logout is None:
            return self._refused(request, None)
        return redirect(logout.return_to or _result_of(logout.id))

    async def signed_out_by_post(self, request: web.Request) -> web.StreamResponse:
        """Have the browser come by GET, with its cookies (SAML's POST binding sends a form)."""
        try:
            fields = dict(await form_of(request))
        except InvalidRequest as error:
            return self._refused(request, error)
        query = urlencode({"state": fields.get("state") or fields.get("RelayState", "")})
        return redirect(f"{request.rel_url.raw_path}?{query}", status=303)

    # --- pages

    def _show_question(self, request: web.Request, found: Question) -> web.Response:
        language = language_of(request)
        context = {
            "client": found.client.name if found.client else None,
            "region": self._service.logouts.region_name(found.region, language),
            "action": ENDPOINTS["end_session_endpoint"] + "/confirm",
            "fields": found.fields,
        }
        return self._pages.render(request, "sign_on/logout.html", context)

    def _over(self, request: web.Request) -> web.Response:
        context: dict[str, Any] = {"parties": [], "waiting": False, "again": "", "back": None}
        return self._pages.render(request, "sign_on/logout_result.html", context)

    def _refused(self, request: web.Request, error: InvalidRequest | None) -> web.Response:
        if error is not None:
            log.info("logout refused", code=error.stable_code)
        context = {"detail": error.public if error else ""}
        return self._pages.render(request, "sign_on/logout_problem.html", context, status=_BAD_REQUEST)

    def _parted(self, response: web.Response, found: SignedOut) -> web.Response:
        """Take the session's cookie back, and give the one by which the result may be seen."""
        self._session.take_back(response)
        if found.begun is not None:
            self._logout.give(response, found.handle)
        return response


class RegionNotices:
    """Where regions announce that a session has ended there."""

    def __init__(self, service: IdentityService, clock: Clock, limit: int) -> None:
        self._service = service
        self._clock = clock
        self._limit = limit

    async def receive(self, request: web.Request) -> web.Response:
        """Take a notice. A refusal is 400, as OpenID Connect Back-Channel Logout 1.0 §2.8 wants it."""
        region = request.match_info["region"]
        try:
            notice = Callback(
                method=request.method,
                path=request.rel_url.raw_path,
                headers={name.lower(): value for name, value in request.headers.items()},
                body=await bounded(request, self._limit, "A notice"),
                received_at=self._clock(),
            )
            ended = await self._service.logouts.announced(region, notice)
        except GatewayError as error:
            return _refusal(request, region, error)
        log.info("region ended sessions", region=region, sessions=ended)
        return web.Response(headers=_NO_STORE)


def _refusal(request: web.Request, region: str, error: GatewayError) -> web.Response:
    log.info("logout notice refused", region=region[:32], code=error.stable_code, detail=error.detail)
    response = problem_response(error, request[REQUEST_ID])
    if isinstance(error, CallerError | NotOffered):
        response.set_status(_BAD_REQUEST)
    return response


# --- small things ----------------------------------------------------------------------------------------------------


def _state(party: Party) -> str:
    away = party.state == PENDING and party.last_code == IN_BROWSER
    return "in_browser" if away else party.state


def _wished_language(request: web.Request) -> str | None:
    """Return this address in the language that the service wishes for, if it is not asked for yet."""
    language = wished(request.query.get("ui_locales", "").split())
    if language is None or "lang" in request.query:
        return None
    return str(request.rel_url.update_query(lang=language))


def _result(found: SignedOut) -> str:
    return _result_of(found.begun.logout.id if found.begun else "")


def _result_of(logout_id: str) -> str:
    return f"{ENDPOINTS['end_session_endpoint']}/result?{urlencode({'logout': logout_id})}"
