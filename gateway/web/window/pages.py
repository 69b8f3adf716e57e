"""The window's pages: one handler each, and what each page is told.

Owns: the addresses under /window and who may see them. Leaves to `application` the form's meaning, to `sessions` and
`sign_on` who the clerk is, and to the services everything else.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.config import Limits
from gateway.domain.calendar import LOCAL
from gateway.domain.caller import Caller
from gateway.domain.identifiers import DOCUMENT_TYPES, case_number_problem
from gateway.domain.identity import Assurance
from gateway.domain.item import FormField, Item, Office
from gateway.domain.languages import said_in
from gateway.domain.sensitive import mask_name
from gateway.errors import FieldProblem, GatewayError, InvalidRequest, NotFound, NotPermitted, SignOnFailed
from gateway.items.blocks import Block, refusal
from gateway.submissions.drafts import NEW, Draft
from gateway.web.cookies import provider_session
from gateway.web.pages import Pages, language_of, see_other
from gateway.web.problems import status_of, when_again
from gateway.web.window import drafts, followups, sign_on
from gateway.web.window.application import (
    PURPOSE,
    Task,
    application_of,
    is_reference,
    on_the_page,
    part_input,
    parts_of,
    problems_of,
)
from gateway.web.window.entry import Entry, by_field, check_csrf, read_entry, texts_of
from gateway.web.window.followups import Followup
from gateway.web.window.opinions import OpinionPages
from gateway.web.window.papers import PaperPages
from gateway.web.window.services import CaseView, WindowServices
from gateway.web.window.sessions import Session, Sessions
from gateway.windows import Clerk, Window

RECENT = 20
"""Cases on the first page."""
_NEXT = re.compile(r"/window(/[A-Za-z0-9_-]+)*")

log = structlog.get_logger("window")


@dataclass(frozen=True, slots=True)
class Desk:
    """A signed-on clerk at a window, for the length of one request."""

    window: Window
    clerk: Clerk
    session: Session
    caller: Caller


M = TypeVar("M")
DeskHandler = Callable[[web.Request, Desk], Awaitable[web.StreamResponse]]


def routes(services: WindowServices, pages: Pages, limits: Limits) -> list[web.RouteDef]:
    """Return every address of the window."""
    window = _WindowPages(services, pages, limits)
    at_desk = window.at_desk
    return [
        web.get("/window", window.home),
        web.get("/window/sign-in", window.sign_in),
        web.get("/window/callback", window.callback),
        web.post("/window/sign-out", at_desk(window.sign_out)),
        web.get("/window/items/{code}", at_desk(window.places)),
        web.get("/window/items/{code}/{place}", at_desk(window.blank_form)),
        web.post("/window/items/{code}/{place}", at_desk(window.hand_in)),
        web.post("/window/items/{code}/{place}/draft", at_desk(window.save)),
        web.get("/window/items/{code}/{place}/joint", at_desk(partial(window.blank_form, joint=True))),
        web.post("/window/items/{code}/{place}/joint", at_desk(partial(window.hand_in, joint=True))),
        web.post("/window/items/{code}/{place}/joint/draft", at_desk(partial(window.save, joint=True))),
        web.get("/window/drafts/{reference}", at_desk(window.draft)),
        web.post("/window/drafts/{reference}/discard", at_desk(window.discard)),
        web.get("/window/cases/{id}", at_desk(window.case)),
        web.post("/window/cases/{id}/supplements", at_desk(window.supplement)),
        web.post("/window/cases/{id}/withdrawal", at_desk(window.withdraw)),
        web.post("/window/cases/{id}/return", at_desk(window.give_back)),
        web.get("/window/cases/{id}/receipt", at_desk(window.papers.receipt)),
        web.get("/window/cases/{id}/receipt.json", at_desk(window.papers.receipt)),
        web.get("/window/cases/{id}/results", at_desk(window.papers.results)),
        web.get("/window/cases/{id}/results/{code}", at_desk(window.papers.document), allow_head=False),
        web.post("/window/cases/{id}/service", at_desk(window.papers.serve)),
        web.get("/window/cases/{id}/archive", at_desk(window.opinions.archive), allow_head=False),
        web.get("/window/cases/{id}/ratings", at_desk(window.opinions.show)),
        web.post("/window/cases/{id}/ratings", at_desk(window.opinions.rate)),
        web.post("/window/cases/{id}/ratings/{role}/correction", at_desk(window.opinions.correct)),
        web.post("/window/cases/{id}/complaints", at_desk(window.opinions.complain)),
        web.get("/window/cases/{id}/papers", at_desk(window.papers.papers)),
        web.post("/window/cases/{id}/papers", at_desk(window.papers.send)),
        web.post("/window/cases/{id}/papers/{reference}/received", at_desk(window.papers.received)),
        web.get("/window/cases/{id}/papers/{reference}/list", at_desk(window.papers.handover)),
        web.get("/window/cases/{id}/papers/{reference}/list.json", at_desk(window.papers.handover)),
    ]


class _WindowPages:
    """The handlers, with what they were lent."""

    def __init__(self, services: WindowServices, pages: Pages, limits: Limits) -> None:
        self._services = services
        self._pages = pages
        self._limits = limits
        self.papers = PaperPages(services, self._show)
        self.opinions = OpinionPages(services, self._show)
        secure = services.issuer.startswith("https://")
        self._sessions = Sessions(services.store, services.sealer, services.clock, secure=secure)
        self._provider_session = provider_session(secure=secure)

    # --- who is there --------------------------------------------------------------------------------------------

    def at_desk(self, handler: DeskHandler) -> Handler:
        """Return a handler that runs only for a signed-on clerk; others are shown the way to sign on."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            desk = await self._desk(request)
            if desk is not None:
                return await handler(request, desk)
            if request.method in {"GET", "HEAD"}:
                return see_other(f"/window/sign-in?next={quote(request.path)}")
            raise NotPermitted("Your session has ended. Sign on again.", code="window.session_ended")

        return guarded

    async def _desk(self, request: web.Request) -> Desk | None:
        session = await self._sessions.find(self._sessions.cookie.read(request))
        if session is None or session.is_cut_off(await self._services.openings()):
            return None
        found = self._services.windows.of_person(session.region, session.subject)
        if found is None or not session.is_of(*found):  # registered no more, or elsewhere
            return None
        window, clerk = found
        return Desk(window, clerk, session, window.caller(clerk))

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to our own OpenID Provider."""
        wanted = request.query.get("next", "")
        memory = sign_on.remember(wanted if _NEXT.fullmatch(wanted) else "/window")
        handle = await self._sessions.begin(memory)
        response = see_other(sign_on.authorization_url(self._services.issuer, memory, language_of(request)))
        self._sessions.sign_on_cookie.give(response, handle)
        return response

    async def callback(self, request: web.Request) -> web.StreamResponse:
        """Take the browser back, and open a session when the person is a registered clerk."""
        memory = await self._sessions.take(self._sessions.sign_on_cookie.read(request))
        if memory is None:
            raise SignOnFailed("This sign-on is over, or began in another browser.", code="signon.unknown")
        openings = await self._services.openings()  # before the code: a region that closes after this leaves no session
        try:
            person = await sign_on.person_of(self._services, request.query, memory)
        finally:  # a counter is shared: the provider's session has done its work, however this ended
            await self._services.end_sign_on(self._provider_session.read(request))
        found = self._services.windows.of_person(person.region, person.subject)
        if found is None:
            raise NotPermitted("You are not registered as a clerk of a window.", code="window.not_a_clerk")
        window, clerk = found
        log.info("clerk signed on", window=window.id, clerk=clerk.id)
        await self._sessions.end(self._sessions.cookie.read(request))
        response = see_other(memory["next"])
        opening = openings.get(person.region, "")
        self._sessions.cookie.give(response, await self._sessions.open(window, clerk, opening))
        self._sessions.sign_on_cookie.take_back(response)
        self._provider_session.take_back(response)
        return response

    async def sign_out(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """End the session, and whatever sign-on this browser made meanwhile: the next person is another one."""
        fields = dict(parse_qsl((await request.read()).decode("utf-8", "replace")))
        check_csrf(desk.session.csrf, fields.get("csrf", ""))
        await self._sessions.end(self._sessions.cookie.read(request))
        await self._services.end_sign_on(self._provider_session.read(request))
        response = see_other("/window")
        self._sessions.cookie.take_back(response)
        self._provider_session.take_back(response)
        return response

    # --- pages ---------------------------------------------------------------------------------------------------

    async def home(self, request: web.Request) -> web.StreamResponse:
        """Show recent cases and items; to a stranger, what this is and how to sign on."""
        desk = await self._desk(request)
        if desk is None:
            return self._show(request, None, "window/welcome.html", {})
        recent = await self._services.recent(desk.caller, RECENT)
        items = list(self._items(desk).values())
        closed = {item.code for item in items if all(self._blocks(item).values())}
        context = {
            "items": items, "closed": closed, "by_code": self._services.items, "recent": recent,
            "drafts": await self._services.drafts.all_of(desk.caller), "masked": mask_name,
        }  # fmt: skip
        return self._show(request, desk, "window/home.html", context)

    async def places(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Show who has power over an item, for the clerk to choose the place."""
        item = self._item(desk, request.match_info["code"])
        tasks = [self._task(desk, item, office) for office in item.offices]
        context = {
            "item": item,
            "tasks": tasks,
            "blocks": self._blocks(item),
            "leads": [task for task in tasks if _leads(task)],
        }
        return self._show(request, desk, "window/places.html", context)

    async def blank_form(self, request: web.Request, desk: Desk, *, joint: bool = False) -> web.StreamResponse:
        """Show an empty form under a fresh id. Raises NotOffered where it could not be handed in."""
        task = self._chosen(request, desk, joint=joint)
        if block := self._closed(task):
            raise refusal(block)
        only = {part_input(part): able[0].region for part, able in task.parts if len(able) == 1}
        texts = {
            "reference": secrets.token_hex(16),
            "applicant.kind": "person",
            "consent.signed_on": task.today.isoformat(),
            **only,
        }
        return self._form(request, desk, task, Entry(texts))

    async def hand_in(self, request: web.Request, desk: Desk, *, joint: bool = False) -> web.StreamResponse:
        """Take a form: hand it in, or show it again with everything that is wrong and all that was typed."""
        task = self._chosen(request, desk, joint=joint)
        entry = await self._read(request, desk, [rule.code for rule in task.item.materials])
        problems = [*entry.problems, *problems_of(entry, task)]
        if problems:
            return self._form(request, desk, task, entry, problems=problems, status=422)
        try:
            taken = await self._submit(desk, task, entry)
        except GatewayError as error:
            problems = on_the_page(error.problems, entry, task)
            log.info("form refused", code=error.stable_code, fields=[problem.field for problem in error.problems])
            shown = self._form(request, desk, task, entry, problems=problems, refusal=error, status=status_of(error))
            shown.headers.update(when_again(error))
            return shown
        return see_other(f"/window/cases/{taken}")

    async def save(self, request: web.Request, desk: Desk, *, joint: bool = False) -> web.StreamResponse:
        """Keep a form as it is, to go on later; nothing of it is checked but that it is one."""
        task = self._chosen(request, desk, joint=joint)
        entry = await self._read(request, desk, [rule.code for rule in task.item.materials])
        reference = entry.text("reference")
        try:
            if entry.problems:
                raise InvalidRequest("Some files were not stored.", problems=entry.problems)
            typed = drafts.typed_of(entry, task)
            await self._services.drafts.save(desk.caller, reference, typed, drafts.version_of(entry))
        except GatewayError as error:
            log.info("draft refused", code=error.stable_code)
            drafts.with_version(entry, await self._version(desk, reference))
            return self._form(
                request, desk, task, entry, problems=error.problems, refusal=error, status=status_of(error), kept=False
            )
        return see_other(f"/window/drafts/{reference}")

    async def draft(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Show a form that was begun, as it was left."""
        draft = await self._services.drafts.find(desk.caller, _reference(request))
        task = self._of(desk, draft.typed.item, draft.typed.place, joint=draft.typed.joint)
        return self._form(request, desk, task, drafts.entry_of(draft), draft=draft)

    async def discard(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Delete a draft."""
        await texts_of(request, desk.session.csrf)
        await self._services.drafts.discard(desk.caller, _reference(request))
        return see_other("/window")

    async def case(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Show a case: where it is, who holds it now, what happened, and what can be done about it."""
        page = await self._found(request, desk)
        return self._case(request, desk, page, Entry({"reference": secrets.token_hex(16)}))

    async def supplement(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Take what the region has asked for."""
        return await self._say(request, desk, "supplement", followups.supplement_of, self._services.supplement)

    async def withdraw(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Take the applicant's wish to end the case."""
        return await self._say(request, desk, "withdrawal", followups.withdrawal_of, self._services.withdraw)

    async def give_back(self, request: web.Request, desk: Desk) -> web.StreamResponse:
        """Give back what was collected and never left."""
        return await self._say(request, desk, "return", followups.return_of, self._services.give_back)

    # --- their parts ---------------------------------------------------------------------------------------------

    async def _read(self, request: web.Request, desk: Desk, materials: Iterable[str]) -> Entry:
        upload = self._services.upload
        entry = await read_entry(
            request,
            desk.session.csrf,
            lambda name, media, chunks: upload(desk.caller, name=name, media_type=media, chunks=chunks, sha256=None),
            materials=set(materials),
            limit=self._limits.upload_bytes,
        )
        if not is_reference(entry.text("reference")):
            raise InvalidRequest("This form has no id of ours; open it anew.", code="window.malformed_form")
        return entry

    async def _found(self, request: web.Request, desk: Desk) -> Followup:
        number = request.match_info["id"]
        if case_number_problem(number):
            raise NotFound("There is no such case at this window.", code="window.no_such_case")
        case = await self._services.show(desk.caller, number)
        return Followup(case, self._services.items.get(case.item_code), desk.window)

    async def _say(
        self,
        request: web.Request,
        desk: Desk,
        action: str,
        said_of: Callable[[Entry, Followup], M],
        tell: Callable[[Caller, str, M], Awaitable[Any]],
    ) -> web.StreamResponse:
        """Take one of the forms on a case's page: say it, or show the page again with everything that is wrong."""
        page = await self._found(request, desk)
        entry = await self._read(request, desk, page.wanted)
        try:
            if entry.problems:
                raise InvalidRequest("Some files were not stored.", problems=entry.problems)
            await tell(desk.caller, page.case.id, said_of(entry, page))
        except GatewayError as error:
            problems = followups.on_the_page(error.problems, entry, page, action)
            log.info("form refused", code=error.stable_code, fields=[problem.field for problem in error.problems])
            return self._case(request, desk, page, entry, problems=problems, refusal=error, status=status_of(error))
        return see_other(f"/window/cases/{page.case.id}")

    def _case(
        self,
        request: web.Request,
        desk: Desk,
        page: Followup,
        entry: Entry,
        *,
        problems: Sequence[FieldProblem] = (),
        refusal: GatewayError | None = None,
        status: int = 200,
    ) -> web.Response:
        context = {
            "page": page, "case": page.case, "item": page.item, "ended": _ended(page.case), "entry": entry,
            "wrong": by_field(problems), "problems": problems, "refusal": refusal, "codes": self._codes(),
            "megabytes": self._limits.upload_bytes // (1024 * 1024),
            "choices": lambda field: _choices(field, language_of(request)),
        }  # fmt: skip
        return self._show(request, desk, "window/case.html", context, status=status)

    async def _submit(self, desk: Desk, task: Task, entry: Entry) -> str:
        application = application_of(entry, task)
        # The clerk confirmed that the applicant stood there with the document: that is A3, whatever the item asks.
        taken = await self._services.submit(desk.caller, application, assurance=Assurance.A3, channel="window")
        return taken.submission_id

    async def _version(self, desk: Desk, reference: str) -> int:
        """Return the version of the draft that stands now, so that saving again is saving over it."""
        try:
            return (await self._services.drafts.find(desk.caller, reference)).version
        except NotFound:
            return NEW

    def _item(self, desk: Desk, code: str, place: str = "") -> Item:
        known = self._services.items.get(code)
        if known is not None:  # the register says what is outside it, all of it at once, before anything else
            office = known.office(place)
            desk.window.refuse_outside(known.code, None if office is None else office.region)
        item = self._items(desk).get(code)
        if item is None:
            raise NotFound("This window takes no such item.", code="window.no_such_item")
        return item

    def _chosen(self, request: web.Request, desk: Desk, *, joint: bool) -> Task:
        return self._of(desk, request.match_info["code"], request.match_info["place"], joint=joint)

    def _of(self, desk: Desk, code: str, place: str, *, joint: bool) -> Task:
        """Return the form of an item at a place. Raises NotFound where this window has none, NotPermitted."""
        item = self._item(desk, code, place)
        office = item.office(place)
        if office is None or (joint and not _leads(self._task(desk, item, office))):
            raise NotFound("This window does not take that item for that place.", code="window.no_such_place")
        return replace(self._task(desk, item, office), joint=joint)

    def _task(self, desk: Desk, item: Item, office: Office) -> Task:
        return Task(item, office, desk.window, self._services.clock())

    def _closed(self, task: Task) -> Block | None:
        """Return why a form could not be handed in now: its office is closed, or of some part all offices are."""
        block_of, code = self._services.block_of, task.item.code
        needed = [able for _, able in task.parts] if task.joint else [[task.office]]
        blocks = [[block_of(code, office.region) for office in able] for able in needed]
        return next((found[0] for found in blocks if all(found)), None)

    def _blocks(self, item: Item) -> dict[str, Block | None]:
        """Return for each place of an item why it does not take it now, None where it does."""
        return {office.region: self._services.block_of(item.code, office.region) for office in item.offices}

    def _items(self, desk: Desk) -> Mapping[str, Item]:
        """Return what this window may take, each item with only the places that it may take it for.

        Grants, the register of windows and the item itself must agree: it must be one to collect (代收).
        """
        taken = [
            replace(item, offices=[office for office in item.offices if desk.window.takes_for(office.region)])
            for item in self._services.visible(desk.caller)
            if "collect" in item.modes and desk.window.takes(item.code)
        ]
        return {item.code: item for item in taken if item.offices}

    def _form(
        self,
        request: web.Request,
        desk: Desk,
        task: Task,
        entry: Entry,
        *,
        problems: Sequence[FieldProblem] = (),
        refusal: GatewayError | None = None,
        status: int = 200,
        draft: Draft | None = None,
        kept: bool | None = None,
    ) -> web.Response:
        """Show a form. `kept` is False when it was to be saved and was not."""
        context = {
            "draft": draft, "kept": kept, "part_input": part_input,
            "task": task, "entry": entry, "wrong": by_field(problems), "problems": problems, "refusal": refusal,
            "document_types": list(DOCUMENT_TYPES), "codes": self._codes(), "purpose": PURPOSE,
            "megabytes": self._limits.upload_bytes // (1024 * 1024),
            "choices": lambda field: _choices(field, language_of(request)),
        }  # fmt: skip
        return self._show(request, desk, "window/form.html", context, status=status)

    def _codes(self) -> dict[str, str]:
        """Return the region codes that the catalogue knows, to suggest them where a form asks for one."""
        return {office.code: office.region for item in self._services.items.values() for office in item.offices}

    def _show(
        self, request: web.Request, desk: Desk | None, template: str, context: Mapping[str, Any], *, status: int = 200
    ) -> web.Response:
        language = language_of(request)
        names = self._services.region_names
        known = {
            "desk": desk,
            "local": LOCAL,
            "say": lambda texts: said_in(texts, language)[1],
            "region": lambda key: names[key].of(language) if key in names else key,
        }
        return self._pages.render(request, template, {**known, **context}, status=status)


def _leads(task: Task) -> bool:
    """Say whether an office may lead a joint case: this window finds an office for each part, and it is one of them."""
    found = [able for _, able in parts_of(task.item)]
    return all(found) and any(task.office in able for able in found)


def _reference(request: web.Request) -> str:
    reference = request.match_info["reference"]
    if not is_reference(reference):
        raise NotFound("There is no such draft of this window.", code="draft.not_found")
    return reference


def _choices(field: FormField, language: str) -> list[tuple[str, str]]:
    return [(value, said_in(names, language)[1]) for value, names in field.choices.items()]


def _ended(case: CaseView) -> bool:
    return case.holder == "nobody"
