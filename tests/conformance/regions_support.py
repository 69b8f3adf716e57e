"""One region opened against its own simulated authority, and what the suite does with any region.

Owns: finding the regions on disk; a place (authority, gateway's door for callbacks, opened region) with everything on
free loopback ports; faults at one chosen request; canonical documents that every region must take; a browser for
sign-in pages. Leaves to `test_regions.py` every promise. Nothing here knows a region by name.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from lxml import html
from prometheus_client import CollectorRegistry
from yarl import URL

from gateway.config import HOUSE, Config, RegionSettings, load_config, parse, read_toml
from gateway.domain.calendar import local_day
from gateway.domain.identifiers import case_number
from gateway.errors import FieldProblem, GatewayError, NotFound, RegionCannotBeAsked, SignOnFailed
from gateway.identity.returns import as_query
from gateway.lines import Line, guard
from gateway.mapping.library import PackSet, read_sets
from gateway.mapping.packs import Notice, unnoticed
from gateway.ports import (
    Adapter,
    Callback,
    CallbackReading,
    CaseMessage,
    CertificateNotices,
    Kit,
    Material,
    Pickup,
    PickupAnswer,
    Pickups,
    RegionDocument,
    SignOnReturn,
    SignOnStart,
    StatusCallbacks,
    SubmissionOrder,
)
from gateway.regions import Manifest, Region, limits_of, open_regions, secret_reader
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings
from gateway.sandbox.layout import SEED, Choices, Layout, lay_out
from gateway.sandbox.neighbourhood import free_ports
from gateway.submissions.inbox import Inbox
from gateway.telemetry import Metrics
from gateway.web import callbacks

ADAPTERS = HOUSE / "adapters"
MAPPINGS = HOUSE / "mappings"
MANIFESTS: Mapping[str, Manifest] = {
    path.parent.name: parse(Manifest, read_toml(path), str(path)) for path in sorted(ADAPTERS.glob("*/region.toml"))
}
"""Every region on disk: a folder that is added here is tested, without a line in this suite."""
FOLDERS: Mapping[str, str] = {name: manifest.mappings or name for name, manifest in MANIFESTS.items()}
"""Where in mappings/ the packs of each region are."""

PATIENCE = 10.0
"""Seconds after which an event that has not arrived is a failure."""

ORIGIN = "440100"
CONSENT = "CNS0123456789abcdef01234567"
"""A consent in the form in which the gateway numbers them."""

FILES: Mapping[str, tuple[str, str, bytes]] = {
    "M01": ("备案表", "application/pdf", b"%PDF-1.4\n% a synthetic form\n%%EOF\n"),
    "M02": ("居住证", "image/jpeg", b"\xff\xd8\xff\xe0 a synthetic picture \x00\xff\xd9"),
}
PROMISE = "承诺书 2026-0007：陈小明三日内补交"
SECRET = "陈小明不再需要"
"""Words of somebody, which nothing that is said of a failure may repeat."""

PERSON: Mapping[str, Any] = {
    "kind": "person",
    "name": "陈小明",
    "name_latin": "CHEN, Xiaoming",
    "document": {"type": "CN_RIC", "number": "44010619900101900X"},
    "birth_date": "1990-01-01",
    "sex": "F",
    "mobile": "13800000001",
}
ORGANISATION: Mapping[str, Any] = {
    "kind": "organisation",
    "name": "珠江示例有限公司",
    "document": {"type": "USCC", "number": "91440101MA5T00010Q"},
    "mobile": "02080000000",
}


def offering(*capabilities: str, everywhere: bool = False) -> pytest.MarkDecorator:
    """Run a test at every region that declares one of these capabilities.

    Of regions that share a `profile`, one stands for all unless `everywhere` is said: the code that runs is the same,
    and so is whatever decides what it does.
    """
    declared = {name: manifest.capabilities.model_dump() for name, manifest in MANIFESTS.items()}
    chosen = [name for name, said in sorted(declared.items()) if any(said[each] for each in capabilities)]
    if not everywhere and not {"sign_on", "sign_out"} & set(capabilities):
        chosen = [name for name in chosen if name == standing_for(name)]
    return pytest.mark.parametrize("place", chosen, indirect=True)


def carrying(message: str, *fields: str) -> pytest.MarkDecorator:
    """Run a test at every region whose pack for a message carries any of these fields of ours; one for each profile."""
    lost = {name: _lost(MAPPINGS / FOLDERS[name] / message) for name in MANIFESTS}
    chosen = [name for name in sorted(lost) if set(fields) - lost[name] and name == standing_for(name)]
    return pytest.mark.parametrize("place", chosen, indirect=True)


def _lost(pack: Path) -> set[str]:
    """Return the fields of ours for which a pack's format has no place at all."""
    losses = [loss for loss in read_toml(pack / "losses.toml").get("loss", []) if not {"part", "values"} & loss.keys()]
    return {loss["field"] for loss in losses if loss["direction"] == "ours-to-theirs"}


def standing_for(region: str) -> str:
    """Return the first of the regions that share a region's profile."""
    wanted = profile(MANIFESTS[region])
    return next(name for name, manifest in sorted(MANIFESTS.items()) if profile(manifest) == wanted)


def profile(manifest: Manifest) -> str:
    """Return what decides how a region's cases go, as text: equal texts, equal behaviour.

    Regions that share mapping packs and one wire (`[settings.cases]`) differ in what they offer, and in the settings of
    that wire that are no addresses, ids or codes. A region with packs of its own is like no other.
    """
    cases = manifest.settings.get("cases")
    if not manifest.mappings or not isinstance(cases, dict):
        return manifest.id
    told = {name: value for name, value in cases.items() if not _is_only_a_name(name, value)}
    return json.dumps([manifest.mappings, manifest.capabilities.model_dump(), told], sort_keys=True)


def _is_only_a_name(setting: str, value: object) -> bool:
    """Say whether a setting holds an address, an id or a code: which differs everywhere and changes nothing."""
    return isinstance(value, str) and (value.startswith("/") or setting.endswith(("_id", "_code")))


def utc_now() -> datetime:
    """The system's clock: both sides of every exchange read it."""
    return datetime.now(UTC)


# --- a place -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Authority:
    """A simulated authority that runs, and the means to make it fail at a chosen request."""

    app: web.Application
    waiting: tuple[int, str] | None = None
    """Which request from now on (1 is the next) meets which fault."""
    requests: int = 0
    """How many requests have come in."""
    bend: Callable[[web.StreamResponse], bytes] | None = None
    """What leaves instead of the next answer, before the connection is closed."""

    def order(self, mode: str, *, seconds: float = 60.0) -> None:
        """Misbehave in this way until `behave`."""
        self.app[MISBEHAVIOUR].seconds = seconds
        self.app[MISBEHAVIOUR].order(mode, -1)

    def once(self, mode: str) -> None:
        """Misbehave in this way one time."""
        self.app[MISBEHAVIOUR].order(mode, 1)

    def behave(self) -> None:
        """Behave again."""
        self.waiting = None
        self.app[MISBEHAVIOUR].clear()

    def fail_at(self, number: int, mode: str) -> None:
        """Misbehave at the n-th request from now, and at no other."""
        self.waiting = (number, mode)

    @property
    def has_failed(self) -> bool:
        """Say whether the request that was to fail has come."""
        return self.waiting is None

    def count(self) -> None:
        """Note that a request comes in."""
        self.requests += 1
        if self.waiting is not None:
            number, mode = self.waiting
            self.waiting = (number - 1, mode) if number > 1 else None
            if number == 1:
                self.once(mode)

    def book(self, name: str) -> dict[str, Any]:
        """Return what the authority wrote down: `cases` and `arrivals` by our submission id."""
        return self.app[NOTEBOOK].entries(name)


@dataclass
class NoticeDoor:
    """Stands where notices about certificates come in: reads them with the adapter, and keeps what was read."""

    notices: CertificateNotices | None
    read: asyncio.Queue[CallbackReading] = field(default_factory=asyncio.Queue)

    def serves(self, _region: str, operation: str) -> bool:
        """Say whether this is such a notice, as `gateway.certificates.notices` does."""
        return self.notices is not None and operation in self.notices.operations

    async def take(self, _region: str, callback: Callback) -> Mapping[str, Any]:
        """Read a notice, and return the answer that the region expects."""
        assert self.notices is not None
        reading = await self.notices.read(callback)
        self.read.put_nowait(reading)
        return reading.answer


@dataclass(slots=True)
class Door:
    """Stands where the gateway's inbox and its desk for pulls stand.

    Gives callbacks to the adapter and keeps what was read; hands out what was submitted to a region that pulls.
    """

    callbacks: StatusCallbacks | None
    pickups: Pickups | None = None
    announced: dict[str, SubmissionOrder | CaseMessage] = field(default_factory=dict)
    """What can be pulled: by our number of the case, or of the message about it."""
    pulls: list[Callback] = field(default_factory=list)
    """Pulls that were answered with what they asked for."""
    refusals: int = 0
    """How many of the next callbacks are read and then answered with 503, as by a gateway that cannot store them."""
    read: asyncio.Queue[tuple[Callback, CallbackReading]] = field(default_factory=asyncio.Queue)

    async def callback(self, _region: str, callback: Callback) -> Mapping[str, Any]:
        """Take a callback as `gateway.submissions.inbox` does, and return the answer that the region expects."""
        if self.callbacks is None:
            raise web.HTTPNotFound
        reading = await self.callbacks.read(callback)
        self.read.put_nowait((callback, reading))
        if self.refusals:
            self.refusals -= 1
            raise web.HTTPServiceUnavailable
        return reading.answer

    def serves(self, _region: str, operation: str) -> bool:
        """Say whether this is a pull, as `gateway.submissions.pickups` does."""
        return self.pickups is not None and operation in self.pickups.operations

    async def answer(self, _region: str, pull: Callback) -> PickupAnswer:
        """Hand over what was announced, whenever it is asked for; everything else is refused."""
        assert self.pickups is not None
        try:
            asked = await self.pickups.read(pull)
            part = self._part(asked)
        except GatewayError as error:
            return self.pickups.refusal(pull, error)
        self.pulls.append(pull)
        if isinstance(part, Material):
            return self.pickups.material(pull, part)
        return self.pickups.document(pull, part)

    def _part(self, asked: Pickup) -> RegionDocument | Material:
        order = self.announced.get(asked.message_id or asked.submission_id)
        if order is None:
            raise NotFound("nothing of that number was announced")
        named = (asked.material_sha256, asked.material_code)
        found = [each for each in order.materials if each.sha256 == named[0] or each.code == named[1]]
        return found[0] if asked.wants_material else order.document


@dataclass(frozen=True, slots=True)
class Place:
    """A region, opened, with its authority and the door for its callbacks."""

    manifest: Manifest
    layout: Layout
    config: Config
    region: Region
    authority: Authority
    door: Door
    notices: NoticeDoor

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def item(self) -> str:
        """The code of an item that this region handles."""
        codes = json.loads(self.layout.authorities[0].secrets["item_codes"])
        assert codes, "a region needs an item whose `office` names it in gateway/sandbox/seed/items.toml"
        return str(codes[0])

    def people(self) -> list[Mapping[str, Any]]:
        """Return the seeded people of this region."""
        return [row for row in self.layout.people if row["region"] == self.id]

    def certificates(self) -> list[Mapping[str, Any]]:
        """Return the seeded certificates of this region."""
        return [row for row in read_toml(SEED / "certificates.toml")["certificate"] if row["region"] == self.id]


def set_up(folder: Path, region: str) -> tuple[Layout, Config]:
    """Mint and write a deployment of this one region; nothing listens yet."""
    layout = lay_out(folder, free_ports([region]), Choices(pace=0.01))
    return layout, load_config(layout.config)


@asynccontextmanager
async def opened(config: Config, region: str, **limits: float) -> AsyncIterator[Region]:
    """Open a region as `gateway.app` does; `limits` overlay those of region.toml.

    Neither the breaker nor the rate hold anything up here: they are the line's promises and not the region's.
    """
    delivery = config.delivery.model_copy(update={"breaker_failures": 10_000})
    pressed = {**config.regions[region].limits, "requests_per_second": 10_000, **limits}
    chosen = {region: config.regions[region].model_copy(update={"limits": pressed})}
    config = config.model_copy(update={"delivery": delivery, "regions": chosen})
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield open_regions(config, _kits(config, session), _lines(config), read=_read)[region]


def _read(
    root: Path, folders: Mapping[str, str], *, notice: Notice = unnoticed
) -> tuple[dict[str, PackSet], list[FieldProblem]]:
    """Read packs as the product does: those of the product itself once, because they never change."""
    of_the_product = root == MAPPINGS and notice is unnoticed
    if of_the_product and folders.items() <= FOLDERS.items() and not _read_once()[1]:
        return {region: _read_once()[0][region] for region in folders}, []
    return read_sets(root, folders, notice=notice)


@cache
def _read_once() -> tuple[Mapping[str, PackSet], Sequence[FieldProblem]]:
    return read_sets(MAPPINGS, FOLDERS)


@asynccontextmanager
async def unguarded(config: Config, region: str) -> AsyncIterator[Adapter]:
    """Open a region without its line, to see what it is made of."""
    async with aiohttp.ClientSession() as session:
        yield open_regions(config, _kits(config, session), lambda _manifest, adapter: adapter)[region].adapter


def _kits(config: Config, session: aiohttp.ClientSession) -> Callable[[Manifest, RegionSettings], Kit]:
    def kit(manifest: Manifest, chosen: RegionSettings) -> Kit:
        seconds = limits_of(config, manifest).timeout_seconds
        return Kit(
            region=manifest.id,
            session=session,
            clock=utc_now,
            log=structlog.get_logger(),
            settings={**manifest.settings, **chosen.settings},
            secret=secret_reader(config, manifest, chosen),
            public_url=config.public_url,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=seconds / 2),
            random_token=secrets.token_urlsafe,
        )

    return kit


def _lines(config: Config) -> Callable[[Manifest, Adapter], Adapter]:
    metrics = Metrics(CollectorRegistry())

    def behind_line(manifest: Manifest, adapter: Adapter) -> Adapter:
        limits, delivery = limits_of(config, manifest), config.delivery
        line = Line(
            manifest.id,
            metrics,
            concurrency=limits.concurrency,
            per_second=limits.requests_per_second,
            failures=delivery.breaker_failures,
            rest_seconds=delivery.breaker_seconds,
        )
        return guard(line, adapter)

    return behind_line


@asynccontextmanager
async def inhabited(folder: Path, region: str) -> AsyncIterator[Place]:
    """Run the authority and the door for its callbacks, and open the region."""
    layout, config = set_up(folder, region)
    authority = _authority(layout.authorities[0])
    async with opened(config, region) as open_region:
        offered = open_region.adapter
        door, notices = Door(offered.callbacks, offered.pickups), NoticeDoor(offered.notices)
        gateway = web.Application()
        # The product's own route: what it hands to the inbox is what the adapter gets in service.
        inbox, limit = cast("Inbox", door), config.limits.callback_bytes
        gateway.add_routes(callbacks.routes(inbox, door, utc_now, limit, notices))
        async with served(gateway, layout.ports.public), served(authority.app, layout.ports.authorities[region]):
            yield Place(MANIFESTS[region], layout, config, open_region, authority, door, notices)


def _authority(settings: AuthoritySettings) -> Authority:
    build = importlib.import_module(f"adapters.{settings.region}.sandbox").build_authority
    authority = Authority(build(settings))

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        authority.count()
        answer = await handler(request)
        bend, authority.bend = authority.bend, None
        if bend is not None and request.transport is not None:
            request.transport.write(bend(answer))
            request.transport.close()
        return answer

    authority.app.middlewares.insert(0, count)  # outermost, so that a fault is ordered before it is looked for
    return authority


@asynccontextmanager
async def served(app: web.Application, port: int) -> AsyncIterator[None]:
    """Serve on loopback. What is still busy at the end was told to be slow, and is not waited for."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


# --- submissions and their status --------------------------------------------------------------------------------


def application(place: Place, applicant: Mapping[str, Any] = PERSON, **changed: Any) -> dict[str, Any]:
    """Return a full canonical submission under a new number: every field that the vocabulary has."""
    now, code = utc_now(), place.manifest.code
    number = case_number(origin=ORIGIN, handling=code, day=local_day(now), sequence=secrets.randbelow(10**6))
    return {
        "id": number,
        "mode": "collect",
        "item": {"code": place.item, "name": "跨省异地就医备案", "situation": "01"},
        "submitted_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "channel": "window",
        "origin": {"region": ORIGIN, "window": "GZ-07", "operator": "W0123"},
        "handling": {"region": code},
        "applicant": dict(applicant),
        "form": {"destination": "广州市", "remark": "A&B <无> ]]>"},
        "materials": [_described(code, *rest) for code, rest in FILES.items()],
        "consent": CONSENT,
        **changed,
    }


def _described(code: str, name: str, media_type: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"code": code, "name": name, "media_type": media_type, "size": len(content), "sha256": digest}


def left_out(place: Place) -> dict[str, Any]:
    """Return what a case of this region's item may do without, as far as its pack carries it, with a due promise."""
    item, lost = place.layout.authorities[0].items[0], _lost(MAPPINGS / FOLDERS[place.id] / "submission")
    groups = {"deferred": _deferred, "certified": _certified}
    return {group: [pair(item)] for group, pair in groups.items() if f"{group}[].code" not in lost}


def _deferred(item: Mapping[str, Any]) -> dict[str, str]:
    """Return a material that may follow later, and a promise."""
    code = next(material["code"] for material in item["material"] if material.get("deferrable"))
    return {"code": code, "promise": PROMISE}


def _certified(item: Mapping[str, Any]) -> dict[str, str]:
    """Return a material for which a certificate can stand, and a seeded certificate of its type."""
    code, kind = next((m["code"], m["certificate_type"]) for m in item["material"] if "certificate_type" in m)
    rows = read_toml(SEED / "certificates.toml")["certificate"]
    identifier = next(row["identifier"] for row in rows if row["type_code"] == kind and row["state"] == "valid")
    return {"code": code, "identifier": identifier}


def order(place: Place, document: Mapping[str, Any]) -> SubmissionOrder:
    """Say a submission in the region's form, with the bytes of its materials; where it is pulled, it lies ready."""
    theirs = place.region.pack("submission").to_region(document)
    ready = SubmissionOrder(document["id"], theirs, [_material(each) for each in document["materials"]])
    place.door.announced[ready.submission_id] = ready
    return ready


def _material(described: Mapping[str, Any]) -> Material:
    async def content() -> AsyncIterator[bytes]:
        yield FILES[described["code"]][2]

    return Material(**described, open=content)


async def submit(region: Region, sent: SubmissionOrder) -> dict[str, Any]:
    """Hand a submission over and return the canonical receipt."""
    assert region.adapter.submissions is not None
    return region.pack("receipt").to_canonical(await region.adapter.submissions.submit(sent))


async def ask(region: Region, submission_id: str) -> dict[str, Any] | None:
    """Ask for a submission and return the canonical receipt, or None."""
    assert region.adapter.submissions is not None
    found = await region.adapter.submissions.ask(submission_id)
    return None if found is None else region.pack("receipt").to_canonical(found)


async def holds(place: Place, submission_id: str, region: Region | None = None) -> bool | None:
    """Say whether the region has this submission, in its own words; None where its wire has no such question.

    Such a region must say so without a question on the wire, instead of guessing (RegionCannotBeAsked).
    """
    before = place.authority.requests
    try:
        return await ask(region or place.region, submission_id) is not None
    except RegionCannotBeAsked:
        assert place.authority.requests == before, "something was asked, and the answer thrown away"
        return None


async def events_until(place: Place, state: str) -> list[dict[str, Any]]:
    """Return the canonical events as they come in, pushed or polled, until one says `state`."""
    source = _pushed(place) if place.region.adapter.callbacks else _polled(place)
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        async for event in source:
            seen.append(event)
            if event["state"] == state:
                break
    return seen


async def _pushed(place: Place) -> AsyncIterator[dict[str, Any]]:
    while True:
        _, reading = await place.door.read.get()
        for document in reading.events:
            yield place.region.pack("event").to_canonical(document)


async def _polled(place: Place) -> AsyncIterator[dict[str, Any]]:
    feed, cursor = place.region.adapter.feed, ""
    assert feed is not None
    while True:
        page = await feed.poll(cursor)
        cursor = page.cursor
        for document in page.events:
            yield place.region.pack("event").to_canonical(document)
        await asyncio.sleep(0.01)  # a feed tells nobody that it has grown: asking again is what polling is


# --- messages about a case ---------------------------------------------------------------------------------------


async def case_at(place: Place, state: str, course: str = "") -> dict[str, Any]:
    """Submit something, let it come to this state, and return the canonical receipt.

    `course` is what the authority is told to do with it (`gateway.sandbox.courses.ORDERS`).
    """
    if course:
        place.authority.once(course)
    receipt = await submit(place.region, order(place, application(place)))
    await events_of(place, receipt["submission_id"], state)
    return receipt


async def events_of(place: Place, submission_id: str, state: str) -> list[dict[str, Any]]:
    """Return the canonical events of one case, pushed (those not fetched before) or polled (all), until `state`."""
    source = _pushed(place) if place.region.adapter.callbacks else _polled(place)
    seen: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(PATIENCE):
        async for event in source:
            if event["submission_id"] == submission_id:
                seen[event["event_id"]] = event
                if event["state"] == state:
                    break
    return list(seen.values())


def message(
    place: Place, kind: str, receipt: Mapping[str, Any], files: Sequence[str] = (), **changed: Any
) -> CaseMessage:
    """Say something about a case in the region's form, under a new number; `files` are codes of FILES."""
    materials = [_described(code, *FILES[code]) for code in files]
    number, now = f"CM{secrets.token_hex(16)}", utc_now().strftime("%Y-%m-%dT%H:%M:%SZ")
    case = {"submission_id": receipt["submission_id"], "number": receipt["number"]}
    document = {"id": number, **case, **_said(place, kind, now, materials), **changed}
    theirs = place.region.pack(kind).to_region(document)
    files_of = [_material(each) for each in materials]
    ready = CaseMessage(number, kind, case["submission_id"], case["number"], theirs, files_of)
    place.door.announced[number] = ready
    return ready


def _said(place: Place, kind: str, now: str, materials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return every field that the vocabulary has for a kind of message, but for the numbers."""
    match kind:
        case "supplement":
            origin = {"window": "GZ-07", "operator": "W0123"}
            corrected = {"destination": "广州市"}
            return {
                "submitted_at": now, "origin": origin, "form": corrected, "materials": materials, "complete": True
            }  # fmt: skip
        case "withdrawal":
            return {"asked_at": now, "reason": SECRET, "operator": "W0123"}
        case "rating":
            chosen = {"role": "handling", "score": 4, "indicators": ["510", "517"], "channel": "hall"}
            return {"item": {"code": place.item}, **chosen, "words": SECRET, "rated_at": now, "by_default": False}
        case "complaint":
            return {"text": SECRET, "made_at": now, "contact": "13800000001"}
    raise AssertionError(f"the suite does not know what to say as {kind}")


# --- certificates ------------------------------------------------------------------------------------------------


def question(place: Place, row: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """Return a canonical query for a seeded certificate by its right holder."""
    return {
        "type": {"code": row["type_code"], "name": row["type_name"]},
        "holder": {
            "name": row["holder_name"],
            "document": {"type": row["holder_id_type"], "number": row["holder_id_number"]},
        },
        "purpose": "办理异地就医备案 & 核验<身份>",
        "organisation": "广州市政务服务和数据管理局（沙箱）",
        "operator": "W0123",
        "item": {"code": place.item, "name": "跨省异地就医备案"},
        "case": application(place)["id"],
        "consent": CONSENT,
        **changed,
    }


async def look_up(place: Place, query: Mapping[str, Any]) -> tuple[str, Sequence[dict[str, Any]]]:
    """Ask the issuer; return our word for its status, and the canonical certificates."""
    source, region = place.region.adapter.certificates, place.region
    assert source is not None
    reply = await source.lookup(region.pack("certificate-query").to_region(query))
    found = [region.pack("certificate").to_canonical(document) for document in reply.certificates]
    return region.certificate_words[reply.status], found


# --- sign-on -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser on its way through a region's sign-on, as one person."""

    place: Place
    session: aiohttp.ClientSession
    person: Mapping[str, Any]

    @property
    def redirect_uri(self) -> str:
        return f"{self.place.config.public_url}/sign-in/{self.place.id}/callback"

    async def ways(self) -> list[dict[str, str]]:
        """Return every way that the sign-in page lets one choose: each option of a select, each box, one at a time."""
        page = await self._page((await self._begin("state", "en"))[0])
        lists = [each for each in page.inputs if isinstance(each, html.SelectElement)]
        ways = [{str(each.name): str(option)} for each in lists for option in each.value_options]
        ways += [{str(each.name): each.get("value", "on")} for each in page.inputs if each.get("type") == "checkbox"]
        return ways or [{}]

    async def page_in(self, language: str) -> str:
        """Return the text of the sign-in page for a language tag."""
        async with self.session.get(URL((await self._begin("state", language))[0], encoded=True)) as answer:
            assert answer.status == 200
            return await answer.text()

    async def sign_in(self, way: Mapping[str, str], *, levels: Sequence[str] = (), fresh: bool = False) -> SignOnReturn:
        """Go there, fill in the form as a browser would, and return what the region sends back.

        `levels` and `fresh` are what a service may ask of the region (`SignOnStart`).
        """
        state = secrets.token_urlsafe(32)
        url, memory = await self._begin(state, "zh-CN", levels, fresh)
        query, posted = await self._through(await self._page(url), way)
        if query.get("state") != state:
            raise SignOnFailed("the state did not come back unchanged: the core knows no such sign-on")
        return SignOnReturn(query, memory, self.redirect_uri, posted)

    async def _begin(
        self, state: str, language: str, levels: Sequence[str] = (), fresh: bool = False
    ) -> tuple[str, Mapping[str, str]]:
        provider = self.place.region.adapter.sign_on
        assert provider is not None
        start = SignOnStart(state, secrets.token_urlsafe(32), self.redirect_uri, language, levels, fresh)
        redirect = await provider.begin(start)
        return redirect.url, redirect.memory

    async def _page(self, url: str) -> html.FormElement:
        """Follow whatever leads to the sign-in page, and return its form."""
        async with self.session.get(URL(url, encoded=True)) as answer:
            assert answer.status == 200
            page = html.fromstring(await answer.text(), base_url=str(answer.url))
        form: html.FormElement = page.forms[0]
        form.make_links_absolute()
        return form

    async def _through(self, form: html.FormElement, way: Mapping[str, str]) -> tuple[Mapping[str, str], bool]:
        """Send the form and follow redirects as far as our own door; return what comes back, and whether it is posted.

        That is the query, decoded once; or the form of a page that has the browser post it to our door, as the product
        makes a query of it.
        """
        asked = {str(each.name) for each in form.inputs}
        known = {name: str(value) for name, value in self.person.items() if name in asked}
        target = URL(str(form.action or form.base_url), encoded=True)
        async with self.session.post(
            target, data={**dict(form.form_values()), **known, **way}, allow_redirects=False
        ) as answer:
            target, status = _next(answer), answer.status
            posted = _posted_to(self.redirect_uri, await answer.text()) if status == 200 else None
        if posted is not None:
            return as_query(posted), True
        while status in {302, 303} and not str(target).startswith(self.redirect_uri):
            async with self.session.get(target, allow_redirects=False) as answer:
                target, status = _next(answer), answer.status
        assert str(target).startswith(self.redirect_uri), f"the sign-in ended at {target.path} with {status}"
        return dict(target.query), False


def _posted_to(door: str, page: str) -> dict[str, str] | None:
    """Return the fields of the one form of a page if it goes to our door and can be sent without JavaScript."""
    forms = html.fromstring(page).forms
    if len(forms) != 1 or forms[0].action != door:
        return None
    assert forms[0].method == "POST"
    assert forms[0].xpath(".//button"), "a browser without JavaScript has nothing to press"
    return {str(name): str(value) for name, value in forms[0].form_values()}


def _next(answer: aiohttp.ClientResponse) -> URL:
    """Return where a redirect leads, or where we are."""
    return answer.url.join(URL(answer.headers.get("Location", ""), encoded=True))


@asynccontextmanager
async def visiting(place: Place, person: Mapping[str, Any]) -> AsyncIterator[Visit]:
    """Open a browser of its own for one person."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Visit(place, session, person)
