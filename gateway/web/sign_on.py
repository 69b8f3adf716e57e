"""HTTP of sign-on: the OpenID Provider's endpoints and the pages on the way through a region.

Owns: cookies, status codes, and which page a person sees when something went wrong. Leaves every decision to
`gateway.identity`. A region is chosen by following a link, not by posting a form: Chromium applies `form-action` to
the redirects after a form as well, and a link needs no hole in our policy. The link carries the interaction's random
id, which no other site knows, so it cannot be followed on someone's behalf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
import structlog
from aiohttp import web
from multidict import MultiMapping

from gateway.errors import GatewayError, InvalidRequest, NotAuthenticated, SignOnFailed
from gateway.identity.broker import LOST, Interrupted
from gateway.identity.discovery import ENDPOINTS
from gateway.identity.records import is_handle
from gateway.identity.service import ChooseRegion, IdentityService, SendBack, TokenAnswer
from gateway.identity.upstream import SignOnRegion
from gateway.web.pages import LANGUAGE_COOKIE, LANGUAGES, Pages, language_of

REGION_COOKIE = "pearl_region"
_YEAR = 365 * 24 * 3600
_FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 50

log = structlog.get_logger("sign_on")


def routes(service: IdentityService, pages: Pages) -> list[web.RouteDef]:
    """Return every address of sign-on."""
    endpoints, browser = ProviderEndpoints(service), SignOnPages(service, pages)
    return [
        web.get("/.well-known/openid-configuration", endpoints.discovery),
        web.get(ENDPOINTS["jwks_uri"], endpoints.jwks),
        web.post(ENDPOINTS["token_endpoint"], endpoints.token),
        web.get(ENDPOINTS["userinfo_endpoint"], endpoints.userinfo, allow_head=False),
        web.post(ENDPOINTS["userinfo_endpoint"], endpoints.userinfo),
        web.get(ENDPOINTS["authorization_endpoint"], browser.authorize, allow_head=False),
        web.post(ENDPOINTS["authorization_endpoint"], browser.authorize),
        web.get(ENDPOINTS["authorization_endpoint"] + "/cancel", browser.cancel, allow_head=False),
        web.get("/sign-in", browser.choose),
        web.get("/sign-in/{region}", browser.begin, allow_head=False),
        web.get("/sign-in/{region}/callback", browser.callback, allow_head=False),
    ]


class ProviderEndpoints:
    """The endpoints that programs call."""

    def __init__(self, service: IdentityService) -> None:
        self._service = service

    async def discovery(self, _request: web.Request) -> web.Response:
        """Return the metadata."""
        return _json(200, self._service.discovery(LANGUAGES), cache="public, max-age=300")

    async def jwks(self, _request: web.Request) -> web.Response:
        """Return the public keys."""
        return _json(200, self._service.jwks(), cache="public, max-age=300")

    async def token(self, request: web.Request) -> web.Response:
        """Answer a token request."""
        try:
            form = await _single_form(request)
        except InvalidRequest as error:
            answer = TokenAnswer(400, {"error": "invalid_request", "error_description": error.public})
        else:
            answer = await self._service.token(form, request.headers)
        return _json(answer.status, answer.body)

    async def userinfo(self, request: web.Request) -> web.Response:
        """Return the person's claims for a bearer token in the header (RFC 6750 §2.1)."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise NotAuthenticated("Send the access token in the header Authorization: Bearer …")
        return _json(200, await self._service.userinfo(token.strip()))


class SignOnPages:
    """The addresses that a person's browser visits."""

    def __init__(self, service: IdentityService, pages: Pages) -> None:
        self._service = service
        self._pages = pages
        self._cookies = Cookies(secure=service.issuer.startswith("https://"))

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """Take an authorization request: back to the service at once, or on to the chooser."""
        cookies = self._cookies
        try:
            pairs = request.query.items() if request.method == "GET" else await _form(request)
            found = await self._service.authorize(pairs, cookies.session(request), cookies.browser(request))
        except InvalidRequest as error:
            return self._problem(request, "refused", status=400, detail=error.public)
        if isinstance(found, SendBack):
            return _redirect(found.url)
        return self._to_chooser(found)

    def _to_chooser(self, found: ChooseRegion) -> web.Response:
        query = {"interaction": found.interaction_id}
        language = next((tag for tag in found.languages if tag in LANGUAGES), None)
        if language is not None:
            query["lang"] = language
        response = _redirect(f"/sign-in?{urlencode(query)}")
        self._cookies.set_browser(response, found.browser)
        return response

    async def choose(self, request: web.Request) -> web.StreamResponse:
        """Show the regions, the one chosen last time first."""
        interaction_id = request.query.get("interaction", "")
        try:
            interaction, regions = await self._service.choices(interaction_id, self._cookies.browser(request) or "")
        except SignOnFailed as error:
            return self._lost(request, error)
        context = self._choice_context(request, interaction.id, regions)
        response = self._pages.render(request, "sign_on/choose.html", context)
        self._cookies.keep_language(request, response)
        return response

    def _choice_context(
        self, request: web.Request, interaction_id: str, regions: Sequence[SignOnRegion]
    ) -> dict[str, Any]:
        last, language = request.cookies.get(REGION_COOKIE), language_of(request)
        choices = [
            Choice(region.id, region.names.of(language), _step(region.id, interaction_id), last=region.id == last)
            for region in sorted(regions, key=lambda region: region.id != last)  # else in the operator's order
        ]
        failed = next((choice for choice in choices if choice.id == request.query.get("failed")), None)
        why = request.query.get("why")
        return {"choices": choices, "failed": failed, "why": why, "cancel": _cancel(interaction_id)}

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to the chosen region."""
        region, interaction_id = request.match_info["region"], request.query.get("interaction", "")
        browser, language = self._cookies.browser(request) or "", language_of(request)
        try:
            url = await self._service.begin(region, interaction_id, browser, language)
        except SignOnFailed as error:
            return self._lost(request, error)
        except Interrupted as interrupted:
            return _choose_again(interrupted)
        response = _redirect(url)
        self._cookies.set_browser(response, browser)
        self._cookies.set_region(response, region)
        return response

    async def callback(self, request: web.Request) -> web.StreamResponse:
        """Take what a region's sign-on sends back, and send the browser on to the service."""
        region, browser = request.match_info["region"], self._cookies.browser(request) or ""
        try:
            sent = await self._service.complete(region, _once(request.query), browser)
        except (SignOnFailed, InvalidRequest) as error:
            return self._lost(request, error)
        except Interrupted as interrupted:
            return _choose_again(interrupted)
        response = _redirect(sent.url)
        self._cookies.set_session(response, sent.session or "")
        return response

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Give up, and go back to the service with the standard error."""
        interaction_id, browser = request.query.get("interaction", ""), self._cookies.browser(request) or ""
        try:
            sent = await self._service.cancel(interaction_id, browser)
        except SignOnFailed as error:
            return self._lost(request, error)
        return _redirect(sent.url)

    # --- pages for what went wrong

    def _lost(self, request: web.Request, error: GatewayError) -> web.Response:
        log.info("sign-on lost", code=error.stable_code, region=error.region, detail=error.detail)
        return self._problem(request, "lost", status=400, detail="" if error.public == LOST else error.public)

    def _problem(self, request: web.Request, kind: str, *, status: int, detail: str) -> web.Response:
        return self._pages.render(request, "sign_on/problem.html", {"kind": kind, "detail": detail}, status=status)


@dataclass(frozen=True, slots=True)
class Choice:
    """One region on the chooser."""

    id: str
    name: str
    url: str
    last: bool


class Cookies:
    """The cookies of sign-on. Each is a random handle; what it stands for is kept on the server.

    Over https the names carry `__Host-`, which ties a cookie to this host, the whole path and TLS (RFC 6265bis
    §4.1.3.2). SameSite=Lax lets the browser bring them along when a region sends it back.
    """

    def __init__(self, *, secure: bool) -> None:
        prefix = "__Host-" if secure else ""
        self._secure = secure
        self._browser_name = prefix + "pearl_sign_on"
        self._session_name = prefix + "pearl_session"

    def browser(self, request: web.Request) -> str | None:
        """Return the handle that ties interactions to this browser."""
        return _handle(request, self._browser_name)

    def session(self, request: web.Request) -> str | None:
        """Return the handle of the session."""
        return _handle(request, self._session_name)

    def set_browser(self, response: web.Response, handle: str) -> None:
        """Set the browser's handle."""
        self._set(response, self._browser_name, handle)

    def set_session(self, response: web.Response, handle: str) -> None:
        """Set the session's handle; it goes when the browser is closed, or with the session on the server."""
        self._set(response, self._session_name, handle)

    def set_region(self, response: web.Response, region: str) -> None:
        """Remember the choice for a year. It names a region, not a person."""
        self._set(response, REGION_COOKIE, region, max_age=_YEAR)

    def keep_language(self, request: web.Request, response: web.Response) -> None:
        """Remember a language that was chosen by `?lang=`."""
        if request.query.get("lang") in LANGUAGES:
            self._set(response, LANGUAGE_COOKIE, request.query["lang"], max_age=_YEAR)

    def _set(self, response: web.Response, name: str, value: str, max_age: int | None = None) -> None:
        response.set_cookie(name, value, max_age=max_age, path="/", secure=self._secure, httponly=True, samesite="Lax")


def _handle(request: web.Request, name: str) -> str | None:
    """Return a cookie that has the form of our handles."""
    value = request.cookies.get(name, "")
    return value if is_handle(value) else None


# --- small things ----------------------------------------------------------------------------------------------------


async def _form(request: web.Request) -> list[tuple[str, str]]:
    """Return the fields of a form body. Raises InvalidRequest for any other body."""
    if request.content_type != _FORM:
        raise InvalidRequest(f"The body must be {_FORM}.")
    body = await request.read()
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise InvalidRequest(f"The body must be {_FORM} of at most {MOST_FIELDS} fields.") from error


async def _single_form(request: web.Request) -> dict[str, str]:
    """Return the fields of a form body, each of which may stand only once (RFC 6749 §3.2)."""
    return _unique(await _form(request))


def _once(query: MultiMapping[str]) -> dict[str, str]:
    """Return query parameters, each of which may stand only once."""
    return _unique(list(query.items()))


def _unique(pairs: list[tuple[str, str]]) -> dict[str, str]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidRequest("A parameter stands more than once.")
    return fields


def _choose_again(interrupted: Interrupted) -> web.Response:
    """Lead back to the chooser, which says what happened.

    A redirect, so that reloading that page or changing its language does not repeat the callback.
    """
    cause = interrupted.cause
    detail = cause.detail or cause.public
    log.info("sign-on interrupted", region=interrupted.region, code=cause.stable_code, detail=detail)
    why = "unreachable" if cause.retryable else "failed"
    query = {"interaction": interrupted.interaction.id, "failed": interrupted.region, "why": why}
    return _redirect(f"/sign-in?{urlencode(query)}")


def _step(region: str, interaction_id: str) -> str:
    return f"/sign-in/{region}?{urlencode({'interaction': interaction_id})}"


def _cancel(interaction_id: str) -> str:
    return f"{ENDPOINTS['authorization_endpoint']}/cancel?{urlencode({'interaction': interaction_id})}"


def _redirect(url: str) -> web.Response:
    return web.Response(status=302, headers={"Location": url, "Cache-Control": "no-store"})


def _json(status: int, body: Mapping[str, Any], *, cache: str = "no-store") -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers={"Cache-Control": cache}
    )
