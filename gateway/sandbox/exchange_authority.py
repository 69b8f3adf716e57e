"""A simulated signed REST exchange: files, cases that live, messages about them, certificates and items by the way.

Owns: the operations of docs/signed-rest.md, what may be said of a case at which place, and pushing every step until it
is acknowledged. Leaves to `exchange_wire` who may speak; to `courses` the steps of a case; to
`adapters/<region>/sandbox*.py` the region's words and the shape of its documents (`Traits`). Two regions share it
because they share one contract; it shares no code with the gateway. The notebook holds numbers and digests, not people.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from aiohttp import web

from gateway.sandbox import decision
from gateway.sandbox.authority import (
    MISBEHAVIOUR,
    NOTEBOOK,
    AuthoritySettings,
    Misbehaviour,
    Notebook,
    in_background,
)
from gateway.sandbox.courses import ORDERS, REFUSED, Plan, ordered
from gateway.sandbox.exchange_wire import (
    LARGEST_FILE,
    MODES,
    Asked,
    Clock,
    Courier,
    Document,
    Door,
    Paper,
    Party,
    Refusal,
    read_keys,
)
from gateway.sandbox.left_out import BOOK, LeftOut

REPEATS = 5
"""How often a callback is sent again after its first sending was not acknowledged."""

USUAL_PACE = 0.3
"""The pace (`AuthoritySettings.pace`) at which the pause between two sendings is the contract's one second."""

REFUSING = "不予受理"
"""An applicant whose name contains this is not accepted."""

_CHINA = timezone(timedelta(hours=8))
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """A file that a document names: the code of the material, digest, bytes, media type, and where it is named."""

    code: str
    digest: str
    size: int
    media_type: str
    place: str


@dataclass(frozen=True, slots=True)
class CaseSaid:
    """What the exchange takes from a case: its number, the applicant's name, the item, the files with their codes.

    `left_out` is what it does without.
    """

    id: str
    name: str
    item: str
    files: Sequence[File]
    left_out: LeftOut


@dataclass(frozen=True, slots=True)
class MessageSaid:
    """What the exchange takes from a message. `complete`: nothing is missing any more; `role`: who is rated."""

    id: str
    case: str
    number: str
    files: Sequence[File] = ()
    complete: bool = False
    role: str = ""


@dataclass(frozen=True, slots=True)
class Traits:
    """What is a region's own. Readers raise Refusal with everything that is wrong.

    `read_case` is given the codes of the items that there are. `receipt` is made of a case's page; `event` of the page,
    the step, the event's id and its time. `numbers` are made of a running number; `number` must be among them.
    `wrapped`, `listed`: documents, and events in a callback, stand under `data`. `questions`: it can be asked.
    `results`: it hands the documents of decided cases out. `lists` are the places of what a case does without.
    """

    region: str
    read_case: Callable[[Document, Set[str]], CaseSaid]
    numbers: Callable[[int], Document]
    receipt: Callable[[Mapping[str, Any]], Document]
    event: Callable[[Mapping[str, Any], str, str, float], Document]
    wrapped: bool
    listed: bool
    messages: Mapping[str, Callable[[Document], MessageSaid]] = field(default_factory=dict)
    questions: bool = True
    results: bool = False
    lists: Mapping[str, str] = field(default_factory=dict)


# --- cases that live ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Cases:
    """The cases after their receipt: each goes its way by itself, and every step is pushed."""

    notebook: Notebook
    wrong: Misbehaviour
    courier: Courier
    traits: Traits
    pace: float
    clock: Clock
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    def page(self, case_id: str) -> dict[str, Any] | None:
        """Return what is written down of a case."""
        page: dict[str, Any] | None = self.notebook.get("cases", case_id)
        return page

    def open(self, said: CaseSaid, digest: str) -> None:
        """Write a new case down, with the way that it will go."""
        steps = REFUSED if REFUSING in said.name else ordered(self.wrong)
        given = [file.code for file in said.files]
        wanted = {"asked_for": said.left_out.asked_for(given), "to_follow": said.left_out.to_follow(given)}
        page = {"id": said.id, "received": self.clock(), "state": "", **wanted}
        numbers = self.traits.numbers(self.notebook.count("counters", "case"))
        self.notebook.put(BOOK, said.id, said.left_out.written())
        self.notebook.put("cases", said.id, {**page, **numbers, "digest": digest, "plan": Plan(steps).written()})

    def plan(self, case_id: str) -> Plan:
        """Return how far a case has come, and what lies ahead of it."""
        return Plan.read((self.page(case_id) or {}).get("plan"))

    def turn(self, case_id: str, plan: Plan, **changes: Any) -> None:
        """Let a case go another way from here."""
        self.notebook.put("cases", case_id, {**(self.page(case_id) or {}), **changes, "plan": plan.written()})

    async def go_on(self, case_id: str) -> None:
        """Take the steps that lie ahead until there are none or the applicant is waited for; one at a time does so."""
        async with self.locks.setdefault(case_id, asyncio.Lock()):
            await self._push_what_is_left(case_id)
            while self.plan(case_id).next:
                await asyncio.sleep(self.pace)  # the authority's own pace between two steps
                await self._step(case_id)

    async def _step(self, case_id: str) -> None:
        """Write the step down before telling anybody. Whatever was said meanwhile may have turned the case."""
        plan, page = self.plan(case_id), self.page(case_id) or {}
        step = plan.next
        if step is None:
            return
        event_id = f"{page['number']}-{plan.taken + 1:02d}"
        event = self.traits.event(page, step, event_id, self.clock())
        self.notebook.put("events", event_id, {"case": case_id, "event": event, "acknowledged": False, "sendings": 0})
        self.turn(case_id, plan.step(), state=step)
        await self._push(event_id)

    async def _push_what_is_left(self, case_id: str) -> None:
        for event_id, entry in self.notebook.entries("events").items():
            if entry["case"] == case_id and not _settled(entry):
                await self._push(event_id)

    async def _push(self, event_id: str) -> None:
        entry: dict[str, Any] = self.notebook.get("events", event_id) or {}
        body = json.dumps({"data": [entry["event"]]} if self.traits.listed else entry["event"], ensure_ascii=False)
        twice = self.wrong.due("duplicate_callback")
        while not _settled(entry):
            if entry["sendings"]:
                await asyncio.sleep(self.pace / USUAL_PACE)  # between two sendings of one event
            entry["acknowledged"] = await self.courier.send(body.encode())
            entry["sendings"] += 1
            self.notebook.put("events", event_id, entry)
        if twice:
            await self.courier.send(body.encode())  # the fault that was asked for


def _settled(entry: Mapping[str, Any]) -> bool:
    return bool(entry["acknowledged"]) or entry["sendings"] > REPEATS


# --- operations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Desk:
    """What each operation does with a request that is known to be genuine."""

    door: Door
    cases: Cases
    traits: Traits
    items: Mapping[str, Mapping[str, Any]]
    register: Sequence[Mapping[str, Any]]
    notebook: Notebook

    # --- files ---

    async def take_file(self, asked: Asked) -> Document:
        """Measure a file as it comes. Nobody here reads it, so its bytes are not kept."""
        digest = asked.request.match_info["digest"]
        if digest != asked.digest or not _DIGEST.fullmatch(digest):
            raise Refusal(422, "REFUSED", "the address and the signature name different files")
        size = 0
        async for piece in asked.pieces(LARGEST_FILE):
            size += len(piece)
        self.notebook.put("materials", self._file_key(asked), {"size": size, "type": asked.request.content_type})
        return {"sha256": digest}

    async def show_file(self, asked: Asked) -> Document:
        """Say that a file is there, or refuse."""
        if self.notebook.get("materials", self._file_key(asked)) is None:
            raise Refusal(404, "NO_SUCH_MATERIAL")
        return {"sha256": asked.request.match_info["digest"]}

    def _file_key(self, asked: Asked) -> str:
        return f"{asked.request.match_info['case']}/{asked.request.match_info['digest']}"

    def _check_files(self, case_id: str, files: Sequence[File]) -> None:
        errors = []
        for file in files:
            kept = self.notebook.get("materials", f"{case_id}/{file.digest}")
            if kept is None:
                errors.append({"field": file.place, "reason": "was not uploaded for this case"})
            elif kept != {"size": file.size, "type": file.media_type}:
                errors.append({"field": file.place, "reason": "has another size or type than what was uploaded"})
        if errors:
            raise Refusal(422, "REFUSED", "files are missing or others", errors)

    # --- cases ---

    async def take_case(self, asked: Asked) -> Document:
        """Take a case, or answer as before when it was taken already."""
        document = await self.door.document(asked)
        said = self.traits.read_case(document, self.items.keys())
        self._check_key(asked, said.id)
        self._check_files(said.id, said.files)
        if self.cases.page(said.id) is None:
            self._check_left_out(said)
            self.cases.open(said, _digest(document))
            in_background(asked.request.app, self.cases.go_on(said.id))
        self.notebook.count("arrivals", said.id)
        return self.traits.receipt(self._page(said.id))

    def _check_left_out(self, said: CaseSaid) -> None:
        """Hold what is missing against the item and, as far as they were issued here, certificates. Raises Refusal."""
        given, today = [file.code for file in said.files], datetime.fromtimestamp(self.cases.clock(), _CHINA).date()
        faults = said.left_out.faults(self.items[said.item], given, self.register, today)
        errors = [{"field": f"{self.traits.lists[f.group]}.{f.place}", "reason": f.reason} for f in faults]
        if errors:
            raise Refusal(422, "REFUSED", "something is missing that must be there", errors)

    async def show_case(self, asked: Asked) -> Document:
        """Answer what `take_case` answered."""
        return self.traits.receipt(self._page(asked.request.match_info["case"]))

    def _page(self, case_id: str) -> dict[str, Any]:
        page = self.cases.page(case_id)
        if page is None:
            raise Refusal(404, "NO_SUCH_CASE")
        return page

    def _check_key(self, asked: Asked, key: str) -> None:
        if not _ID.fullmatch(key) or asked.request.headers.get("Idempotency-Key") != key:
            raise Refusal(422, "REFUSED", "Idempotency-Key and the document name different things")

    # --- messages about cases ---

    def take_message(self, segment: str) -> Callable[[Asked], Awaitable[Document]]:
        """Return the operation that takes a message of one kind."""

        async def take(asked: Asked) -> Document:
            page = self._page(asked.request.match_info["case"])
            document = await self.door.document(asked)
            said = self.traits.messages[segment](document)
            self._check_key(asked, said.id)
            if (said.case, said.number) != (page["id"], page["number"]):
                raise Refusal(422, "REFUSED", "the message is about another case")
            self._check_files(said.case, said.files)
            if self.notebook.get("messages", said.id) is None:
                self._have_it_said(asked, segment, said)
                written = {"kind": segment, "case": said.case, "digest": _digest(document), "role": said.role}
                self.notebook.put("messages", said.id, written)
            self.notebook.count("arrivals", said.id)
            return {"messageNo": said.id}

        return take

    def _have_it_said(self, asked: Asked, segment: str, said: MessageSaid) -> None:
        """Let the message have its effect. Raises Refusal (NOT_NOW)."""
        plan = self.cases.plan(said.case)
        if segment == "supplements" and not plan.waits:
            raise Refusal(409, "NOT_NOW", "nothing is asked for")
        if segment == "withdrawals" and not plan.may_be_withdrawn:
            raise Refusal(409, "NOT_NOW", "the case is decided or over")
        if segment == "ratings" and (not plan.is_completed or self._is_rated(said)):
            raise Refusal(409, "NOT_NOW", "a case is rated when it is completed, and once for each role")
        if segment == "withdrawals":
            self.cases.turn(said.case, plan.withdrawn())
        if segment == "supplements" and said.complete:
            self.cases.turn(said.case, plan.supplemented())
        in_background(asked.request.app, self.cases.go_on(said.case))

    def _is_rated(self, said: MessageSaid) -> bool:
        rating = ("ratings", said.case, said.role)
        written = self.notebook.entries("messages").values()
        return any((entry["kind"], entry["case"], entry["role"]) == rating for entry in written)

    def show_message(self, segment: str) -> Callable[[Asked], Awaitable[Document]]:
        """Return the operation that says whether a message of one kind is there."""

        async def show(asked: Asked) -> Document:
            message_id, case_id = asked.request.match_info["message"], asked.request.match_info["case"]
            written = self.notebook.get("messages", message_id)
            if written is None or (written["kind"], written["case"]) != (segment, case_id):
                raise Refusal(404, "NO_SUCH_MESSAGE")
            return {"messageNo": message_id}

        return show

    # --- documents of decided cases ---

    async def list_results(self, asked: Asked) -> Document:
        """Name the documents of a case: one decision when there is one."""
        number = asked.request.match_info["number"]
        body = decision.decision(number)
        row = {
            "code": decision.CODE,
            "name": decision.NAME,
            "type": decision.MEDIA_TYPE,
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        return {"number": number, "documents": [row] if self._is_decided(number) else []}

    async def hand_out(self, asked: Asked) -> Paper:
        """Hand one document out, the right one or what it was told to."""
        number, wrong = asked.request.match_info["number"], self.door.wrong
        if not self._is_decided(number) or asked.request.match_info["code"] != decision.CODE:
            raise Refusal(404, "NO_SUCH_RESULT")
        if wrong.due("result_gone"):
            raise Refusal(410, "GONE", "the document is kept no longer")
        body = decision.decision(number)
        return Paper(body, decision.MEDIA_TYPE, decision.altered(body) if wrong.due("other_bytes") else body)

    def _is_decided(self, number: str) -> bool:
        pages = [page for page in self.notebook.entries("cases").values() if page["number"] == number]
        if not pages:
            raise Refusal(404, "NO_SUCH_CASE")
        return not decision.DECIDED.isdisjoint(Plan.read(pages[0]["plan"]).done)


def _digest(document: Document) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


# --- mounting ----------------------------------------------------------------------------------------------------


def mount(app: web.Application, settings: AuthoritySettings, traits: Traits, clock: Clock) -> Door:
    """Put the exchange into an authority's application, and return the door for what else comes through it.

    Secrets: those of `read_keys`, `item_codes`, and `client_id` and `issuer`, with `exchange_` before them where the
    authority signs people on under other names. Raises KeyError or ValueError.
    """
    wrong, notebook = app[MISBEHAVIOUR], app[NOTEBOOK]
    wrong.known = {**wrong.known, **MODES, **ORDERS, **(decision.MODES if traits.results else {})}
    keys = read_keys(settings)
    named = {**settings.secrets}
    party = Party(*(named.get(f"exchange_{name}", named[name]).decode() for name in ("client_id", "issuer")))
    door = Door(keys, party, wrong, clock, traits.wrapped)
    url = f"{settings.gateway_url.rstrip('/')}/callbacks/{settings.region}/events"
    courier = Courier(url, keys.webhook, wrong, clock)
    cases = Cases(notebook, wrong, courier, traits, settings.pace, clock)
    seeded = {item["code"]: item for item in settings.items}
    items = {code: seeded.get(code, {"material": ()}) for code in json.loads(settings.secrets["item_codes"])}
    register = [row for row in settings.certificates if row["region"] == settings.region]
    desk = Desk(door, cases, traits, items, register, notebook)
    app.add_routes([web.post("/oauth2/token", door.give_token), *_routes(door, desk, traits)])

    async def resume(app: web.Application) -> None:
        for case_id in notebook.entries("cases"):
            in_background(app, cases.go_on(case_id))

    app.on_startup.extend([courier.start, resume])
    app.on_cleanup.append(courier.stop)
    return door


def _routes(door: Door, desk: Desk, traits: Traits) -> list[web.RouteDef]:
    case = "/v1/cases/{case}"
    routes = [
        web.post("/v1/cases", door.to(desk.take_case)),
        web.put(f"{case}/materials/{{digest}}", door.to(desk.take_file)),
        *[web.post(f"{case}/{segment}", door.to(desk.take_message(segment))) for segment in traits.messages],
    ]
    if traits.questions:
        routes += [web.get(case, door.to(desk.show_case))]
        routes += [web.get(f"{case}/materials/{{digest}}", door.to(desk.show_file))]
        routes += [web.get(f"{case}/{s}/{{message}}", door.to(desk.show_message(s))) for s in traits.messages]
    if traits.results:
        routes += [web.get("/v1/results/{number}", door.to(desk.list_results))]
        routes += [web.get("/v1/results/{number}/{code}", door.to(desk.hand_out))]
    return routes
