"""The account pages: one handler each, and what each page is told.

Owns: the addresses under /account and who may see them. Every change is a form that was posted with the token of this
session, and works without a script. Leaves to `visitors` who is there, to the services everything that is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.domain.calendar import LOCAL, local_day
from gateway.domain.identifiers import DOCUMENT_TYPES
from gateway.domain.languages import LANGUAGES
from gateway.domain.mandate import Mandate, Party
from gateway.domain.sensitive import mask_name, mask_number
from gateway.errors import FieldProblem, GatewayError, InvalidRequest, NotFound, NotPermitted
from gateway.identity.linking import Agreement, Link
from gateway.identity.records import new_handle
from gateway.web.account import sign_on
from gateway.web.account.mandate_form import RELATIONS, on_the_page, proposed, read_mandate
from gateway.web.account.services import AccountServices
from gateway.web.account.visitors import Form, Visitor, read_form, visitor_of
from gateway.web.cookies import provider_session, sign_on_browser
from gateway.web.pages import Pages, language_of, see_other
from gateway.web.problems import status_of

log = structlog.get_logger("account")

Visit = Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]
Change = Callable[[web.Request, Visitor, Form], Awaitable[web.StreamResponse]]


def routes(services: AccountServices, pages: Pages) -> list[web.RouteDef]:
    """Return every address of the account pages."""
    account = _AccountPages(services, pages)
    shown, changed = account.shown, account.changed
    return [
        web.get("/account", shown(account.home)),
        web.get("/account/sign-in", account.sign_in, allow_head=False),
        web.get("/account/callback", account.callback, allow_head=False),
        web.get("/account/sessions", shown(account.sessions)),
        web.post("/account/sessions/end", changed(account.end_session)),
        web.post("/account/sessions/end-all", changed(account.end_all)),
        web.get("/account/consents", shown(account.consents)),
        web.post("/account/consents/revoke", changed(account.revoke_consent)),
        web.get("/account/mandates", shown(account.mandates)),
        web.get("/account/mandates/new", shown(account.blank_mandate)),
        web.post("/account/mandates/new", changed(account.make_mandate)),
        web.post("/account/mandates/revoke", changed(account.revoke_mandate)),
        web.get("/account/links", shown(account.links)),
        web.get("/account/links/new", shown(account.propose_link, fresh=True)),
        web.post("/account/links/new", changed(account.begin_link)),
        web.post("/account/links/end", changed(account.end_link)),
    ]


class _AccountPages:
    """The handlers, with what they were lent."""

    def __init__(self, services: AccountServices, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        secure = services.issuer.startswith("https://")
        self._session = provider_session(secure=secure)
        self._browser = sign_on_browser(secure=secure)

    # --- who is there ----------------------------------------------------------------------------------------------

    def shown(self, visit: Visit, *, fresh: bool = False) -> Handler:
        """Return a handler that shows its page to a signed-on person, and sends others to sign on first.

        A page that wants a `fresh` proof says so at once, or the person would have to sign on twice.
        """

        async def guarded(request: web.Request) -> web.StreamResponse:
            visitor = await self._visitor(request)
            if visitor is None:
                return _sign_on_first(_page(request), fresh=fresh)
            return await visit(request, visitor)

        return guarded

    def changed(self, change: Change) -> Handler:
        """Return a handler that takes a form of a signed-on person's own session."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            visitor = await self._visitor(request)
            if visitor is None:
                raise NotPermitted("Your session has ended. Sign on again.", code="account.session_ended")
            return await change(request, visitor, await read_form(request, visitor))

        return guarded

    async def _visitor(self, request: web.Request) -> Visitor | None:
        handle = self._session.read(request)
        session = await self._services.live_session(handle)
        if handle is None or session is None:
            return None
        await self._services.used(session)
        return visitor_of(session, handle, self._services.vault, self._services.references)

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to our own OpenID Provider."""
        wish, now = sign_on.read_wish(request.query), self._services.clock()
        language = language_of(request)
        return see_other(sign_on.authorization_url(self._services.issuer, wish, language, self._services.sealer, now))

    async def callback(self, request: web.Request) -> web.StreamResponse:
        """Go on to the page that was wanted; the session cookie has come with the sign-on."""
        now = self._services.clock()
        return see_other(sign_on.page_of(self._services.issuer, request.query, self._services.sealer, now))

    # --- home, sessions ----------------------------------------------------------------------------------------------

    async def home(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Show as whom the person is signed on, and the way to everything else."""
        return self._show(request, visitor, "account/home.html", {"me": visitor.masked, "session": visitor.session})

    async def sessions(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Show the person's live sessions and which services hold tokens by each."""
        live = await self._services.accounts.sessions(visitor.session)
        names = await self._names({service for one in live for service in one.services})
        return self._show(request, visitor, "account/sessions.html", {"live": live, "names": names})

    async def end_session(self, request: web.Request, visitor: Visitor, form: Form) -> web.StreamResponse:
        """End one session; the last page that this browser sees, when it is its own."""
        session_id = form.text("session")
        await self._services.accounts.end_session(visitor.session, session_id)
        return self._signed_out(request) if session_id == visitor.session.id else see_other("/account/sessions")

    async def end_all(self, request: web.Request, visitor: Visitor, _form: Form) -> web.StreamResponse:
        """End every session, this one too."""
        await self._services.accounts.end_all(visitor.session)
        return self._signed_out(request)

    def _signed_out(self, request: web.Request) -> web.Response:
        response = self._show(request, None, "account/signed_out.html", {})
        self._session.take_back(response)
        return response

    # --- consents ----------------------------------------------------------------------------------------------------

    async def consents(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Show what the person agreed to give to which service."""
        given = await self._services.accounts.consents(visitor.session)
        names = await self._names({one.client_id for one in given})
        return self._show(request, visitor, "account/consents.html", {"given": given, "names": names})

    async def revoke_consent(self, _request: web.Request, visitor: Visitor, form: Form) -> web.StreamResponse:
        """Take a consent back."""
        await self._services.accounts.revoke_consent(visitor.session, form.text("consent"))
        return see_other("/account/consents")

    # --- mandates ----------------------------------------------------------------------------------------------------

    async def mandates(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Show the mandates that the person gave and was given."""
        party, kept = visitor.party, self._services.mandates
        given = await kept.given_by(party) if party else []
        received = await kept.received_by(party) if party else []
        context = {
            "given": [self._told(one, one.agent) for one in given],
            "received": [self._told(one, one.principal) for one in received],
            "may_give": party is not None and visitor.session.assurance >= kept.rules.least,
            "known": party is not None,
        }
        return self._show(request, visitor, "account/mandates.html", context)

    def _told(self, mandate: Mandate, other: Party) -> dict[str, Any]:
        number = mask_number(other.number)
        shown = {"name": mask_name(other.name), "number": number, "organisation": other.organisation}
        return {"mandate": mandate, "other": shown, "lacks": self._services.mandates.lacks_now(mandate)}

    async def blank_mandate(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Show an empty form, to a person whom the region names and who is signed on surely enough."""
        _principal(visitor)
        if visitor.session.assurance < self._services.mandates.rules.least:
            return see_other(f"/account/sign-in?{urlencode({'next': '/account/mandates/new', 'level': 'A2'})}")
        form = Form(list(proposed(local_day(self._services.clock())).items()))
        return self._mandate_form(request, visitor, form)

    async def make_mandate(self, request: web.Request, visitor: Visitor, form: Form) -> web.StreamResponse:
        """Make a mandate, or show the form again with everything that is wrong and all that was typed."""
        principal = _principal(visitor)
        read = read_mandate(form, visitor, principal, self._services.clock())
        if read.mandate is None:
            return self._mandate_form(request, visitor, form, read.problems, status=422)
        try:
            await self._services.mandates.make(read.mandate, who=_who(visitor), born=visitor.born)
        except InvalidRequest as error:
            return self._mandate_form(request, visitor, form, on_the_page(error.problems), status=status_of(error))
        return see_other("/account/mandates")

    async def revoke_mandate(self, _request: web.Request, visitor: Visitor, form: Form) -> web.StreamResponse:
        """End a mandate that the person gave, or give one back."""
        party = _principal(visitor)
        found = await self._services.mandates.find(form.text("mandate"))
        by = "agent" if found is not None and found.agent.is_same_as(party) else "principal"
        await self._services.mandates.revoke(form.text("mandate"), by=by, who=_who(visitor), party=party)
        return see_other("/account/mandates")

    def _mandate_form(
        self,
        request: web.Request,
        visitor: Visitor,
        form: Form,
        problems: Sequence[FieldProblem] = (),
        *,
        status: int = 200,
    ) -> web.Response:
        wrong: dict[str, list[FieldProblem]] = {}
        for problem in problems:
            wrong.setdefault(problem.field, []).append(problem)
        context = {
            "entry": form, "wrong": wrong, "problems": problems, "items": list(self._services.items.values()),
            "document_types": list(DOCUMENT_TYPES), "relations": RELATIONS, "chosen": set(form.every("items")),
            "longest": self._services.mandates.rules.longest.days, "me": visitor.masked,
        }  # fmt: skip
        return self._show(request, visitor, "account/mandate_form.html", context, status=status)

    # --- links -------------------------------------------------------------------------------------------------------

    async def links(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Show the live links of this sign-on, what came of the last attempt, and with whom it can be linked."""
        session, linking = visitor.session, self._services.linking
        live = await linking.links_of(session.region, session.subject_ref)
        context = {
            "live": [self._told_link(one, visitor) for one in live],
            "partners": linking.partners(session.region),
            "outcome": request.query.get("outcome", ""),
        }
        return self._show(request, visitor, "account/links.html", context)

    def _told_link(self, link: Link, visitor: Visitor) -> dict[str, Any]:
        other = link.other_side(visitor.session.region, visitor.session.subject_ref)
        return {"id": link.id, "region": other.region, "made_at": link.made_at}

    async def propose_link(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Show what a link with a region means, to a person who has signed on just now."""
        region = self._partner(visitor, request.query.get("region", ""))
        if not self._services.linking.is_fresh(visitor.session):
            return _sign_on_first(f"/account/links/new?region={region}", fresh=True)
        return self._proposal(request, visitor, region)

    async def begin_link(self, request: web.Request, visitor: Visitor, form: Form) -> web.StreamResponse:
        """Take the person's agreement, and show the way to the second sign-on.

        The way is a link and no redirect: Chromium applies `form-action` to the redirects after a form as well. What is
        agreed to is the text in the language in which it was shown; if it has changed meanwhile it is shown again.
        """
        region, language = self._partner(visitor, form.text("region")), form.text("language")
        if language not in LANGUAGES or form.text("digest") != self._digest(visitor, region, language):
            return self._proposal(request, visitor, region)
        if not form.text("agreed"):
            return self._proposal(request, visitor, region, missing=True, status=422)
        browser = self._browser.read(request) or new_handle()
        agreement = Agreement(language, form.text("digest"))
        try:
            begun = await self._services.linking.begin(visitor.session, browser, region, agreement)
        except GatewayError as error:
            return see_other(f"/account/links?outcome={quote(error.stable_code)}")
        way = f"/sign-in/{region}?{urlencode({'interaction': begun.id})}"
        response = self._show(request, visitor, "account/link_onward.html", {"way": way, "region_id": region})
        self._browser.give(response, browser)
        return response

    async def end_link(self, _request: web.Request, visitor: Visitor, form: Form) -> web.StreamResponse:
        """End a link."""
        await self._services.linking.end(form.text("link"), visitor.session.region, visitor.session.subject_ref)
        return see_other("/account/links?outcome=ended")

    def _partner(self, visitor: Visitor, region: str) -> str:
        if region not in self._services.linking.partners(visitor.session.region):
            raise NotFound("This sign-on cannot be linked with that region.", code="account.no_such_region")
        return region

    def _proposal(
        self, request: web.Request, visitor: Visitor, region: str, *, missing: bool = False, status: int = 200
    ) -> web.Response:
        language = language_of(request)
        context = {
            "region_id": region,
            "agreement": self._agreement(visitor, region, language),
            "digest": self._digest(visitor, region, language),
            "missing": missing,
        }
        return self._show(request, visitor, "account/link_form.html", context, status=status)

    def _agreement(self, visitor: Visitor, region: str, language: str) -> str:
        """Return the text to agree to, as HTML."""
        here, there = (self._region(one, language) for one in (visitor.session.region, region))
        return self._pages.fragment(language, "account/link_agreement.html", {"here": here, "there": there})

    def _digest(self, visitor: Visitor, region: str, language: str) -> str:
        return hashlib.sha256(self._agreement(visitor, region, language).encode()).hexdigest()

    # --- shared ------------------------------------------------------------------------------------------------------

    async def _names(self, client_ids: set[str]) -> dict[str, str]:
        return {client_id: await self._services.client_name(client_id) for client_id in sorted(client_ids)}

    def _region(self, region: str, language: str) -> str:
        names = self._services.region_names
        return names[region].of(language) if region in names else region

    def _show(
        self,
        request: web.Request,
        visitor: Visitor | None,
        template: str,
        context: Mapping[str, Any],
        *,
        status: int = 200,
    ) -> web.Response:
        language = language_of(request)
        known = {
            "visitor": visitor,
            "csrf": visitor.csrf if visitor else "",
            "local": LOCAL,
            # not `authenticated_at`: what a region proved, and when, may be hours older than this sign-on
            "began": lambda session: session.expires_at - self._services.session_life,
            "region": lambda key: self._region(key, language),
            "item_texts": lambda code: self._services.items[code].name if code in self._services.items else {},
        }
        return self._pages.render(request, template, {**known, **context}, status=status)


def _principal(visitor: Visitor) -> Party:
    """Return the person as a party of mandates. Raises NotPermitted where the region names no document."""
    if visitor.organisation:
        raise NotPermitted("These pages are for persons, not for organisations.", code="account.organisation")
    if visitor.party is None:
        text = "Your region does not tell which identity document you have, so no mandate can name you here."
        raise NotPermitted(text, code="account.no_document")
    return visitor.party


def _who(visitor: Visitor) -> dict[str, str]:
    return {"person": visitor.session.subject_ref, "region": visitor.session.region}


def _page(request: web.Request) -> str:
    """Return the page that was asked for, without what a region's answer may have added to its query."""
    region = request.query.get("region")
    return request.path if region is None else f"{request.path}?{urlencode({'region': region})}"


def _sign_on_first(page: str, *, fresh: bool) -> web.Response:
    """Send the browser to sign on and come back to this page; `fresh` wants a proof made now, and surely enough."""
    wish = {"next": page, **({"fresh": "1", "level": "A2"} if fresh else {})}
    return see_other(f"/account/sign-in?{urlencode(wish)}")
