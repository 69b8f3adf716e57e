"""HTTP of sign-on as a person's browser sees it: the authorization endpoint and the pages on the way through a region.

Owns: cookies of sign-on, status codes, and which page a person sees when something went wrong. Leaves every decision to
`gateway.identity`, and the endpoints of programs to `provider_endpoints`. A region is chosen by following a link, not
by posting a form: Chromium applies `form-action` to the redirects after a form as well, and a link needs no hole in our
policy. The link carries the interaction's random id, which no other site knows, so it cannot be followed on someone's
behalf.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import structlog
from aiohttp import web
from multidict import MultiMapping

from gateway.errors import GatewayError, InvalidRequest, SignOnFailed
from gateway.identity.authorization import AskConsent, ChooseRegion, ConsentQuestion, SendBack
from gateway.identity.broker import LOST, Interrupted
from gateway.identity.discovery import ENDPOINTS
from gateway.identity.service import IdentityService
from gateway.web.bodies import bounded
from gateway.web.chooser import Choice, Failure, choices, chooser
from gateway.web.consent import agreed_claims, consent_page, shown_page
from gateway.web.cookies import provider_session, sign_on_browser
from gateway.web.middlewares import REQUEST_ID
from gateway.web.pages import Pages, language_of, redirect, wished
from gateway.web.provider_endpoints import fields, single_form, unique
from gateway.web.provider_endpoints import form as form_of

REGION_COOKIE = "pearl_region"
REASONS = {"signon.not_recognised": "not_recognised", "signon.step_up": "step_up", "region.closed": "closed"}
"""Code of what went wrong → the word by which the chooser knows what to tell; anything else has failed."""
_YEAR = 365 * 24 * 3600
RETURN = "return"
"""The parameter with the handle of a form that a region had the browser post."""
LARGEST_RETURN = 192 * 1024
"""Bytes of such a form: a SAML response of 128 KiB in base64, and what goes with it."""
_REFERENCE = re.compile(r"[0-9a-f]{16}")
LONGEST_QUERY = 8000
"""Characters of an authorization request; a request line of 8190 bytes is as much as the server reads."""

log = structlog.get_logger("sign_on")


def routes(service: IdentityService, pages: Pages) -> list[web.RouteDef]:
    """Return the addresses of browsers."""
    browser = SignOnPages(service, pages)
    return [
        web.get(ENDPOINTS["authorization_endpoint"], browser.authorize, allow_head=False),
        web.post(ENDPOINTS["authorization_endpoint"], browser.authorize_by_post),
        web.get(ENDPOINTS["authorization_endpoint"] + "/cancel", browser.cancel, allow_head=False),
        web.get("/sign-in", browser.choose),
        web.get("/sign-in/consent", browser.ask_consent, allow_head=False),
        web.post("/sign-in/consent", browser.take_consent),
        web.get("/sign-in/{region}", browser.begin, allow_head=False),
        web.get("/sign-in/{region}/callback", browser.callback, allow_head=False),
        web.post("/sign-in/{region}/callback", browser.posted),
        web.get("/sign-in/{region}/metadata", browser.region_metadata),
    ]


class SignOnPages:
    """The addresses that a person's browser visits."""

    def __init__(self, service: IdentityService, pages: Pages) -> None:
        self._service = service
        self._pages = pages
        self._secure = service.issuer.startswith("https://")
        self._browser = sign_on_browser(secure=self._secure)
        self._session = provider_session(secure=self._secure)

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """Take an authorization request: back to the service at once, or on to the chooser."""
        session, browser = self._session.read(request), self._browser.read(request)
        try:
            found = await self._service.browser.authorize(request.query.items(), session, browser)
        except InvalidRequest as error:
            return self._problem(request, "refused", status=400, detail=error.public)
        if isinstance(found, ChooseRegion):
            return self._to_chooser(found)
        return self._onward(found)

    async def authorize_by_post(self, request: web.Request) -> web.StreamResponse:
        """Have the browser ask again by GET (OpenID Connect Core §3.1.2.1 allows both).

        A POST from a service's page comes without our SameSite=Lax cookies: taken as it is, it would find no session
        and give the browser a new handle, which ends the sign-on in its other tab.
        """
        try:
            query = await _form_as_query(request)
        except InvalidRequest as error:
            return self._problem(request, "refused", status=400, detail=error.public)
        return redirect(f"{ENDPOINTS['authorization_endpoint']}?{query}", status=303)

    def _onward(self, sent: SendBack | AskConsent) -> web.Response:
        """Send the browser on: to the service, or to the question whether the service may have what it asks for."""
        response = redirect(sent.url if isinstance(sent, SendBack) else _consent(sent.interaction_id))
        if sent.session is not None:
            self._session.give(response, sent.session)
        if isinstance(sent, AskConsent) and sent.browser is not None:
            self._browser.give(response, sent.browser)
        return response

    def _to_chooser(self, found: ChooseRegion) -> web.Response:
        query = {"interaction": found.interaction_id}
        language = wished(found.languages)
        if language is not None:
            query["lang"] = language
        response = redirect(f"/sign-in?{urlencode(query)}")
        self._browser.give(response, found.browser)
        return response

    async def choose(self, request: web.Request) -> web.StreamResponse:
        """Show the regions, the one chosen last time first; `q` leaves those that it names."""
        interaction_id = request.query.get("interaction", "")
        try:
            choosing = await self._service.browser.choices(interaction_id, self._browser.read(request) or "")
        except SignOnFailed as error:
            return self._lost(request, error)
        health = {region.id: await self._service.health.of(region.id) for region in choosing.regions}
        last, language = request.cookies.get(REGION_COOKIE), language_of(request)
        shown = choices(choosing.regions, health, interaction_id, last, language)
        context = chooser(shown, choosing.client, interaction_id, request.query.get("q", ""))
        failure = self._failure(request, shown)
        return self._pages.render(request, "sign_on/choose.html", {**context, "failure": failure})

    def _failure(self, request: web.Request, shown: Sequence[Choice]) -> Failure | None:
        """Return what went wrong on the way that led back here; None for a name that is no region's."""
        region = self._service.browser.region(request.query.get("failed", ""))
        if region is None:
            return None
        again = next((choice for choice in shown if choice.id == region.id and choice.open), None)
        why, reference = request.query.get("why", ""), request.query.get("ref", "")
        name = region.names.of(language_of(request))
        return Failure(name, why, again, reference if _REFERENCE.fullmatch(reference) else "")

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to the chosen region."""
        region, interaction_id = request.match_info["region"], request.query.get("interaction", "")
        browser, language = self._browser.read(request) or "", language_of(request)
        try:
            url = await self._service.browser.begin(region, interaction_id, browser, language)
        except SignOnFailed as error:
            return self._lost(request, error)
        except Interrupted as interrupted:
            return _choose_again(request, interrupted)
        response = redirect(url)
        self._browser.give(response, browser)
        response.set_cookie(  # it names a region, not a person
            REGION_COOKIE, region, max_age=_YEAR, path="/", secure=self._secure, httponly=True, samesite="Lax"
        )
        return response

    async def callback(self, request: web.Request) -> web.StreamResponse:
        """Take what a region's sign-on sends back, and send the browser on to the service."""
        region, browser = request.match_info["region"], self._browser.read(request) or ""
        try:
            query, posted = await self._brought(region, _once(request.query))
            earlier = self._session.read(request)
            sent = await self._service.browser.complete(region, query, browser, earlier, posted=posted)
        except (SignOnFailed, InvalidRequest) as error:
            return self._lost(request, error)
        except Interrupted as interrupted:
            return _choose_again(request, interrupted)
        return self._onward(sent)

    async def _brought(self, region: str, query: Mapping[str, str]) -> tuple[Mapping[str, str], bool]:
        """Return what came back, and whether by a form that waits behind a handle (see `posted`)."""
        if RETURN not in query:
            return query, False
        if len(query) > 1:
            raise InvalidRequest(f"{RETURN} stands alone.")
        return await self._service.returns.take(region, query[RETURN]), True

    async def posted(self, request: web.Request) -> web.StreamResponse:
        """Take a form that a region had the browser post, and have the browser come for it by GET.

        The POST is another site's and comes without our SameSite=Lax cookies: only the GET shows whose sign-on it is.
        """
        region = request.match_info["region"]
        try:
            body = await bounded(request, LARGEST_RETURN, "What a region sends back")
            handle = await self._service.returns.keep(region, unique(fields(request, body)))
        except (SignOnFailed, InvalidRequest) as error:
            return self._lost(request, error)
        return redirect(f"/sign-in/{region}/callback?{urlencode({RETURN: handle})}", status=303)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Give up, and go back to the service with the standard error."""
        interaction_id, browser = request.query.get("interaction", ""), self._browser.read(request) or ""
        try:
            sent = await self._service.browser.cancel(interaction_id, browser)
        except SignOnFailed as error:
            return self._lost(request, error)
        return redirect(sent.url)

    async def region_metadata(self, request: web.Request) -> web.Response:
        """Return our metadata as a service provider, for a region that signs on by SAML. Raises NotFound."""
        body = self._service.broker.metadata(request.match_info["region"])
        return web.Response(body=body, content_type="application/samlmetadata+xml")

    # --- consent

    async def ask_consent(self, request: web.Request) -> web.StreamResponse:
        """Show what would go out to whom, across which border, and ask."""
        try:
            question = await self._service.browser.question(*self._asked(request, request.query))
        except SignOnFailed as error:
            return self._lost(request, error)
        return self._question(request, question)

    def _question(self, request: web.Request, question: ConsentQuestion, *, changed: bool = False) -> web.Response:
        context = consent_page(question, language_of(request), changed=changed)
        return self._pages.render(request, "sign_on/consent.html", context)

    async def take_consent(self, request: web.Request) -> web.StreamResponse:
        """Take the person's word: on to the service with a code, or back to it with access_denied.

        The form carries the interaction's random id, which no other site knows and which is bound to this browser's
        cookie, so no other site can agree on someone's behalf. The answer is a page that leads on and no redirect:
        Chromium applies `form-action` to the redirects after a form as well, and the service is not 'self'.
        """
        try:
            form = await single_form(request)
            asked = self._asked(request, form)
            if form.get("decision") != "agree":
                sent = await self._service.browser.cancel(*asked[:2])
            else:
                question = await self._service.browser.question(*asked)
                shown = shown_page(question, form.get("language", ""))
                if form.get("digest") != shown.digest:  # what is asked has changed since the page was shown
                    return self._question(request, question, changed=True)
                sent = await self._service.browser.agree(*asked, agreed_claims(form, question), shown)
        except (SignOnFailed, InvalidRequest) as error:
            return self._lost(request, error)
        return self._pages.render(request, "sign_on/onward.html", {"url": sent.url})

    def _asked(self, request: web.Request, given: Mapping[str, str]) -> tuple[str, str, str | None]:
        return given.get("interaction", ""), self._browser.read(request) or "", self._session.read(request)

    # --- pages for what went wrong

    def _lost(self, request: web.Request, error: GatewayError) -> web.Response:
        log.info("sign-on lost", code=error.stable_code, region=error.region, detail=error.detail)
        return self._problem(request, "lost", status=400, detail="" if error.public == LOST else error.public)

    def _problem(self, request: web.Request, kind: str, *, status: int, detail: str) -> web.Response:
        return self._pages.render(request, "sign_on/problem.html", {"kind": kind, "detail": detail}, status=status)


# --- small things ----------------------------------------------------------------------------------------------------


async def _form_as_query(request: web.Request) -> str:
    query = urlencode(await form_of(request))
    if len(query) > LONGEST_QUERY:
        raise InvalidRequest(f"The request has more than {LONGEST_QUERY} characters.")
    return query


def _once(query: MultiMapping[str]) -> dict[str, str]:
    """Return query parameters, each of which may stand only once."""
    return unique(list(query.items()))


def _choose_again(request: web.Request, interrupted: Interrupted) -> web.Response:
    """Lead back to the chooser, which says what happened and names this request, which the log names too.

    A redirect, so that reloading that page or changing its language does not repeat the callback.
    """
    cause = interrupted.cause
    detail = cause.detail or cause.public
    log.info("sign-on interrupted", region=interrupted.region, code=cause.stable_code, detail=detail)
    why = "unreachable" if cause.retryable else REASONS.get(cause.stable_code, "failed")
    query = {"interaction": interrupted.interaction.id, "failed": interrupted.region, "why": why}
    query["ref"] = request[REQUEST_ID]
    return redirect(f"/sign-in?{urlencode(query)}")


def _consent(interaction_id: str) -> str:
    return f"/sign-in/consent?{urlencode({'interaction': interaction_id})}"
