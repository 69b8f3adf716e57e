"""Every region of the product, opened as the gateway opens it, against its own simulated authority.

A region joins this suite unasked: it is found by its `region.toml`, and what it declares is what is held against it.
No test knows a region by name. A capability that a region does not declare is not passed over: it must be refused.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.config import Config
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.certificate import Standing, standing
from gateway.domain.identity import Assurance
from gateway.errors import (
    ForgedCallback,
    InvalidRequest,
    NotFound,
    NotOffered,
    RegionCannotBeAsked,
    RegionError,
    RegionRefused,
    RegionUncertain,
    RegionUnreachable,
    ReplayedCallback,
    SignOnFailed,
    StartRefused,
)
from gateway.identity.broker import Broker, BrokerSettings
from gateway.identity.health import Health
from gateway.identity.switches import ClosedRegions
from gateway.ports import (
    MESSAGE_KINDS,
    Callback,
    CallbackReading,
    CaseMessage,
    IdentityProvider,
    Material,
    Pickup,
    SignOnReturn,
    SignOnStart,
    SignOutStart,
    SubmissionOrder,
    UpstreamIdentity,
)
from gateway.regions import PACKS_OF, Capabilities, Region
from gateway.storage import open_store
from gateway.submissions.events import EventLog
from gateway.submissions.inbox import Inbox
from gateway.telemetry import Metrics
from tests.conformance.regions_support import (
    ADAPTERS,
    MANIFESTS,
    MAPPINGS,
    ORGANISATION,
    PATIENCE,
    PERSON,
    Place,
    application,
    ask,
    events_until,
    holds,
    look_up,
    offering,
    opened,
    order,
    question,
    set_up,
    standing_for,
    submit,
    unguarded,
    utc_now,
    visiting,
)

CAPABILITIES = tuple(Capabilities.model_fields)
COURSE = ["RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED"]
AN_HOUR = timedelta(hours=1)
UNKNOWN_ITEM = "11440100MBT40100XX3442011899999"
SOMEBODY_ELSE = "别的人"
NUMBERS = {
    "CN_RIC": ("44010619900101900X", "440303198506159013"),
    "USCC": ("91440101MA5T00010Q", "91440300MA5T00029H"),
    "PASSPORT": ("PE1234567", "PE7654321"),
    "HM_PERMIT": ("H01234567", "M01234567"),
}
"""Synthetic numbers of a kind, with right check digits."""

EITHER = (RegionUnreachable, RegionUncertain)
"""What a fault may become: never a definite no."""

every_region = pytest.mark.parametrize("region_id", sorted(MANIFESTS))


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cut this process off from every network; return the list of attempts to reach one."""
    tried: list[str] = []

    def refuse(name: str) -> Callable[..., Any]:
        def refusing(*_args: object, **_more: object) -> Any:
            tried.append(name)
            raise OSError(f"{name}: the network is cut off")

        return refusing

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse(name))
    return tried


def outgoing(region: Region, public_url: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return one call of every outgoing capability that the region has."""
    adapter, calls = region.adapter, dict[str, Callable[[], Awaitable[object]]]()
    if probe := adapter.probe:
        calls["probe"] = probe
    if adapter.submissions:
        calls["submissions"] = lambda: ask(region, "no-such-case")
    if messages := adapter.messages:
        calls["messages"] = lambda: messages.holds(CaseMessage("no-such-message", "complaint", "no-such-case", "0", {}))
    if catalogue := adapter.catalogue:
        calls["catalogue"] = catalogue.items
    if feed := adapter.feed:
        calls["feed"] = lambda: feed.poll("")
    if provider := adapter.sign_on:
        calls["sign_on"] = lambda: _there_and_back(provider, f"{public_url}/sign-in/{region.id}/callback")
    return calls


async def _nobody_is_there(region: Region, public_url: str) -> None:
    """Make every outgoing call. An answer that no region gave may also be refused before the region is asked of it."""
    instead = {"sign_on": SignOnFailed, "submissions": RegionCannotBeAsked, "messages": RegionCannotBeAsked}
    for name, call in outgoing(region, public_url).items():
        with pytest.raises((RegionUnreachable, instead.get(name, RegionUnreachable))):
            await call()


async def _there_and_back(provider: IdentityProvider, redirect_uri: str) -> UpstreamIdentity:
    """Begin a sign-on and come back with a code and a ticket, as after a visit to a page that nobody serves."""
    start = SignOnStart("s", secrets.token_urlsafe(32), redirect_uri, "en")
    there = await provider.begin(start)
    query = {"state": "s", "code": "c", "ticket": "t"}
    return await provider.complete(SignOnReturn(query, there.memory, redirect_uri))


# --- opening -----------------------------------------------------------------------------------------------------


@every_region
async def test_opening_reaches_for_no_network(region_id: str, ground: Path, attempts: list[str]) -> None:
    """A region that is down must not keep the gateway from starting and serving the others."""
    _, config = set_up(ground, region_id)
    async with opened(config, region_id) as region:
        await asyncio.sleep(0)  # whatever opening left to the loop gets its turn
        assert attempts == []
        assert region.adapter.probe is not None
        with pytest.raises(RegionUnreachable):
            await region.adapter.probe()
    assert attempts, "the cut was none: the probe should have run into it"


@every_region
async def test_a_region_that_is_not_there_took_nothing(region_id: str, ground: Path) -> None:
    """Refused connections are the one failure of which the outcome is known: it is safe to send again."""
    _, config = set_up(ground, region_id)
    async with opened(config, region_id) as region:
        await _nobody_is_there(region, config.public_url)


@pytest.mark.parametrize("place", sorted(MANIFESTS), indirect=True)
async def test_the_probe_reaches_a_region_that_is_there(place: Place) -> None:
    assert place.region.adapter.probe is not None
    await place.region.adapter.probe()


@every_region
async def test_a_setting_or_secret_that_is_missing_is_named_at_the_start(region_id: str, ground: Path) -> None:
    """The operator hears of all of them in one go, with what each is for."""
    _, config = set_up(ground, region_id)
    bare = config.regions[region_id].model_copy(update={"settings": {}, "secrets": {}})
    with pytest.raises(StartRefused) as refused:
        await _open(config.model_copy(update={"regions": {region_id: bare}}), region_id)
    named = {problem.field.rpartition(".")[2] for problem in refused.value.problems}
    manifest = MANIFESTS[region_id]
    assert named == {*manifest.required, *manifest.secrets} - manifest.settings.keys()


@every_region
async def test_a_secret_that_cannot_be_one_refuses_the_start(region_id: str, ground: Path) -> None:
    """A broken key must not wait for the first case to be found out."""
    _, config = set_up(ground, region_id)
    (ground / "broken").write_bytes(b" \n")
    chosen = config.regions[region_id]
    for name in MANIFESTS[region_id].secrets:
        broken = chosen.model_copy(update={"secrets": {**chosen.secrets, name: "file:broken"}})
        with pytest.raises(StartRefused) as refused:
            await _open(config.model_copy(update={"regions": {region_id: broken}}), region_id)
        assert name in str(refused.value)


async def _open(config: Config, region_id: str) -> None:
    async with opened(config, region_id):
        pass


@every_region
async def test_a_copied_folder_is_a_region_of_its_own(region_id: str, ground: Path, attempts: list[str]) -> None:
    """Adding a region touches no other file: two folders under a new name are all it takes."""
    copy = f"{region_id}copy"
    _, config = set_up(ground, region_id)
    _copy_region(ground, region_id, copy)
    roots = {"adapters": ground / "adapters", "mappings": ground / "mappings"}
    copied = config.model_copy(update={**roots, "regions": {copy: config.regions[region_id]}})
    try:
        async with opened(config, region_id) as original, opened(copied, copy) as region:
            assert (region.id, attempts) == (copy, [])
            assert region.packs.keys() == original.packs.keys()
            await _nobody_is_there(region, config.public_url)
    finally:
        sys.modules.pop(f"adapters.{copy}.adapter", None)


def _copy_region(folder: Path, region_id: str, copy: str) -> None:
    shutil.copytree(ADAPTERS / region_id, folder / "adapters" / copy)
    declaration = folder / "adapters" / copy / "region.toml"
    text = declaration.read_text(encoding="utf-8")
    assert text.count(f'id = "{region_id}"') == 1
    declaration.write_text(text.replace(f'id = "{region_id}"', f'id = "{copy}"'), encoding="utf-8")
    shutil.copytree(MAPPINGS / "tables", folder / "mappings" / "tables")
    shutil.copy(MAPPINGS / "vocabulary.toml", folder / "mappings")
    shared = MANIFESTS[region_id].mappings
    shutil.copytree(MAPPINGS / (shared or region_id), folder / "mappings" / (shared or copy))


# --- declaration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", sorted(MANIFESTS), indirect=True)
def test_declaration_adapter_and_packs_agree(place: Place) -> None:
    """What is declared is offered, what is not is None, and no pack is missing.

    There may be more packs: some are shared by regions that offer different things, and some are ready before the wire
    is. None of them is used without the capability.
    """
    declared = place.manifest.capabilities.model_dump()
    assert {name: getattr(place.region.adapter, name) is not None for name in CAPABILITIES} == declared
    messages = place.region.adapter.messages
    assert messages is None or frozenset() < messages.kinds <= set(MESSAGE_KINDS)
    needed = {message for name in CAPABILITIES if declared[name] for message in PACKS_OF.get(name, ())}
    tells = "found" in place.manifest.certificates.status.values()
    needed |= {"certificate"} if tells else set()
    needed |= messages.kinds if messages else set()
    assert place.region.packs.keys() >= needed


@every_region
def test_the_declaration_is_complete(region_id: str) -> None:
    """What a capability needs is declared with it, and nothing is declared for one that is not there."""
    manifest = MANIFESTS[region_id]
    offered, words = manifest.capabilities, set(manifest.certificates.status.values())
    assert manifest.id == region_id
    assert all(name.strip() for name in manifest.names.model_dump().values())
    assert all(len(secret.description) > 10 for secret in manifest.secrets.values())
    assert "base_url" in {*manifest.required, *manifest.settings}
    assert bool(manifest.assurance) == offered.sign_on
    assert bool(words) == offered.certificates
    assert words <= {"found", "match"} or {"type_unknown"} <= words or not words
    assert (manifest.limits.poll_seconds is not None) == offered.feed
    assert offered.callbacks or offered.feed or not offered.submissions, "nobody would hear what became of a case"


@pytest.mark.parametrize("region_id", [name for name in sorted(MANIFESTS) if standing_for(name) != name])
async def test_a_region_that_another_stands_for_runs_the_same_code(region_id: str, ground: Path) -> None:
    """Of regions with one profile, only one keeps all promises about cases: what is promised is this code's."""
    made = []
    for each in (region_id, standing_for(region_id)):
        async with unguarded(set_up(ground, each)[1], each) as adapter:
            parts = (adapter.submissions, adapter.feed, adapter.messages, adapter.certificates, adapter.catalogue)
            made.append([type(part) for part in parts])
    assert made[0] == made[1]


@every_region
def test_the_page_beside_the_adapter_says_what_an_operator_needs(region_id: str) -> None:
    """Two programs are written from this page; what only a real connection can tell is listed and not forgotten."""
    manifest = MANIFESTS[region_id]
    page = (ADAPTERS / region_id / "README.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {region_id}: ")
    title = page.partition("\n")[0]
    assert manifest.code in title
    assert manifest.names.en in title
    assert [name for name in (*manifest.required, *manifest.secrets) if f"`{name}`" not in page] == []
    confirm = re.search(r"^## What a real connection must confirm\n+(.+)", page, re.MULTILINE)
    assert confirm is not None
    assert len(confirm[1]) > 40


@pytest.mark.parametrize(
    ("place", "capability"),
    [
        (name, each)
        for name, manifest in sorted(MANIFESTS.items())
        for each, said in manifest.capabilities.model_dump().items()
        if not said
    ],
    indirect=["place"],
)
async def test_what_is_not_offered_is_refused_by_the_core(place: Place, capability: str, tmp_path: Path) -> None:
    """The gateway says no on the region's behalf, before anything is sent and in words that a caller understands."""
    region = place.region
    assert getattr(region.adapter, capability) is None
    offered = [name for name, said in place.manifest.capabilities.model_dump().items() if said]
    served = {message for name in offered for message in PACKS_OF.get(name, ())}
    for message in set(PACKS_OF.get(capability, ())) - served - region.packs.keys():
        with pytest.raises(NotOffered):
            region.pack(message)
    if capability not in {"sign_on", "callbacks", "feed"}:
        return  # what the core says of the others is said by `need` and by its callers, each beside its own tests
    async with core(region, tmp_path) as (broker, inbox):
        if capability == "sign_on":
            assert broker.choices(Assurance.A0) == []
        if capability == "callbacks":
            with pytest.raises(NotFound):
                await inbox.callback(region.id, Callback("POST", f"/callbacks/{region.id}/x", {}, b"", utc_now()))
        if capability == "feed":
            assert await inbox.poll(region) == 0


@asynccontextmanager
async def core(region: Region, folder: Path) -> AsyncIterator[tuple[Broker, Inbox]]:
    """Lend the parts of the core that answer for a region without asking it (and write down that they did)."""
    store = await open_store(f"sqlite:///{folder / 'core.db'}")
    await store.migrate()
    known, sealer, metrics = {region.id: region}, Sealer(bytes(32)), Metrics(CollectorRegistry())
    settings = BrokerSettings("http://127.0.0.1", AN_HOUR)
    health = Health(known, ClosedRegions(store, utc_now), utc_now, AN_HOUR)
    try:
        yield (
            Broker(settings, known, store, sealer, References(bytes(32)), utc_now, metrics, health),
            Inbox(store, known, EventLog(sealer), utc_now, metrics),
        )
    finally:
        await store.close()


# --- submissions -------------------------------------------------------------------------------------------------


@offering("submissions")
@pytest.mark.parametrize("applicant", [PERSON, ORGANISATION], ids=["person", "organisation"])
async def test_a_full_submission_is_taken_and_gets_a_number(place: Place, applicant: dict[str, Any]) -> None:
    """Every field of the vocabulary and two materials, through the pack, over the wire and back."""
    document = application(place, applicant)
    receipt = await submit(place.region, order(place, document))
    assert receipt["submission_id"] == document["id"]
    assert receipt["number"]
    assert list(place.authority.book("cases")) == [document["id"]]


@offering("submissions")
async def test_the_time_on_the_receipt_is_the_time_of_the_receipt(place: Place) -> None:
    """Wall times without a zone are Beijing's: eight hours off would move a case across a legal deadline."""
    receipt = await submit(place.region, order(place, application(place)))
    moment = datetime.fromisoformat(receipt["received_at"])
    assert abs(utc_now() - moment) < timedelta(minutes=5)


@offering("submissions")
async def test_the_same_submission_again_is_the_same_case(place: Place) -> None:
    """At least once on the wire, exactly once in effect."""
    sent = order(place, application(place))
    first = await submit(place.region, sent)
    assert await submit(place.region, sent) == first
    assert list(place.authority.book("cases")) == [sent.submission_id]
    assert place.authority.book("arrivals")[sent.submission_id] == 2


@offering("submissions", everywhere=True)
async def test_a_region_tells_whether_it_holds_a_submission(place: Place) -> None:
    """One whose wire has no such question says so, before and after, and asks nothing (`holds`)."""
    sent = order(place, application(place))
    can_be_asked = await holds(place, sent.submission_id) is not None
    receipt = await submit(place.region, sent)
    if can_be_asked:
        assert await ask(place.region, sent.submission_id) == receipt
    assert await holds(place, sent.submission_id) is (True if can_be_asked else None)
    assert await holds(place, application(place)["id"]) is (False if can_be_asked else None)


@offering("submissions")
async def test_an_item_that_the_region_does_not_know_is_a_definite_no(place: Place) -> None:
    """Sending it again would give the same answer, so nobody does; and the refusal names no person."""
    document = application(place, item={"code": UNKNOWN_ITEM, "name": "没有的事项"})
    with pytest.raises(RegionRefused) as refused:
        await submit(place.region, order(place, document))
    assert not refused.value.retryable
    said = f"{refused.value} {refused.value.detail} {refused.value.problems}"
    assert not [value for value in _private(document["applicant"]) if value in said]
    assert not await holds(place, document["id"])
    assert place.authority.book("cases") == {}


def _private(applicant: dict[str, Any]) -> list[str]:
    return [applicant["name"], applicant["document"]["number"], applicant["birth_date"], applicant["mobile"]]


# --- submissions, when something goes wrong ----------------------------------------------------------------------


@offering("submissions")
async def test_a_lost_answer_is_uncertain_until_the_region_is_asked(place: Place) -> None:
    sent = await _light(place)
    place.authority.order("lost_answer")
    with pytest.raises(RegionUncertain):
        await submit(place.region, sent)
    place.authority.behave()
    if await holds(place, sent.submission_id) is not None:
        assert await ask(place.region, sent.submission_id) == await submit(place.region, sent)
    assert (await submit(place.region, sent))["submission_id"] == sent.submission_id
    assert list(place.authority.book("cases")) == [sent.submission_id]


@offering("submissions")
@pytest.mark.parametrize("mode", ["down", "garbage"])
async def test_a_region_that_is_ill_neither_takes_nor_denies(place: Place, mode: str) -> None:
    """An error page is no word of the region: it must not pass for "refused", nor for "no such case here"."""
    sent = await _light(place)
    place.authority.order(mode)
    with pytest.raises(RegionUncertain if mode == "garbage" else EITHER):
        await submit(place.region, sent)
    with pytest.raises((*EITHER, RegionCannotBeAsked)):
        await ask(place.region, sent.submission_id)
    place.authority.behave()
    assert not await holds(place, sent.submission_id)
    assert (await submit(place.region, sent))["submission_id"] == sent.submission_id


@offering("submissions")
async def test_a_region_that_is_slow_is_uncertain_and_not_waited_for(place: Place) -> None:
    """Past the time-out nobody knows whether the message was taken; asking and sending again stay possible."""
    async with opened(place.config, place.id, timeout_seconds=0.5) as impatient:
        sent = await _light(place, impatient)
        place.authority.order("slow")
        with pytest.raises(RegionUncertain):
            await submit(impatient, sent)
        place.authority.behave()
    assert not await holds(place, sent.submission_id)
    assert (await submit(place.region, sent))["submission_id"] == sent.submission_id


async def _light(place: Place, region: Region | None = None) -> SubmissionOrder:
    """Return a submission without materials, of which no step comes before the message itself any more.

    Such steps were made by a first question; where nothing can be asked, by a case that is refused and leaves nothing.
    """
    sent = order(place, application(place, materials=[]))
    known = await holds(place, sent.submission_id, region)
    assert not known
    if known is None:
        unknown = {"code": UNKNOWN_ITEM, "name": "没有的事项"}
        with pytest.raises(RegionRefused):
            await submit(region or place.region, order(place, application(place, materials=[], item=unknown)))
    return sent


@offering("submissions")
@pytest.mark.parametrize("mode", ["lost_answer", "garbage", "down"])
async def test_whichever_request_fails_one_case_comes_out(place: Place, mode: str) -> None:
    """A fault at every single request of a submission: what is said of the outcome is true, and a repeat heals it."""
    for number in range(1, 20):
        sent = order(place, application(place))
        place.authority.fail_at(number, mode)
        await _submit_and_judge(place, sent)
        failed = place.authority.has_failed
        place.authority.behave()
        await submit(place.region, sent)
        assert sent.submission_id in place.authority.book("cases")
        if not failed:
            return
    pytest.fail("a submission takes fewer requests than this")


async def _submit_and_judge(place: Place, sent: SubmissionOrder) -> None:
    """Submit; when it fails, hold what the error says against the authority's own books."""
    try:
        await submit(place.region, sent)
    except RegionUnreachable:
        assert sent.submission_id not in place.authority.book("cases"), "it was taken, whatever the error says"
    except RegionUncertain:
        place.authority.behave()
        taken = sent.submission_id in place.authority.book("cases")
        assert await holds(place, sent.submission_id) in (taken, None)


# --- status ------------------------------------------------------------------------------------------------------


@offering("submissions", everywhere=True)
async def test_status_events_arrive_in_the_order_of_the_course(place: Place) -> None:
    """Pushed or polled, the gateway learns of every step, about the right case, each under an id of its own."""
    document = application(place)
    receipt = await submit(place.region, order(place, document))
    events = await events_until(place, COURSE[-1])
    assert [event["state"] for event in events] == COURSE
    assert {(event["submission_id"], event["number"]) for event in events} == {(document["id"], receipt["number"])}
    assert len({event["event_id"] for event in events}) == len(COURSE)
    assert [event["occurred_at"] for event in events] == sorted(event["occurred_at"] for event in events)
    assert abs(utc_now() - datetime.fromisoformat(events[0]["occurred_at"])) < timedelta(minutes=5)


@offering("submissions")
async def test_an_event_that_comes_twice_keeps_its_id(place: Place) -> None:
    """The core drops what it has by the event's id: a repeat under another id would count twice."""
    place.authority.once("duplicate_callback")
    await submit(place.region, order(place, application(place)))
    events = await events_until(place, COURSE[-1])
    times = Counter(event["event_id"] for event in events)
    assert sorted(times.values()) == [1, 1, 1, 2]
    once = {event["event_id"]: event["state"] for event in events}
    assert list(once.values()) == COURSE


@offering("callbacks")
async def test_a_callback_sent_twice_has_a_nonce_for_each(place: Place) -> None:
    """The core refuses a nonce that it has seen: a repeat by the region is a new message, a replay is not."""
    place.authority.once("duplicate_callback")
    first, again = await _callbacks(place, 2)
    assert first[1].events == again[1].events
    assert first[1].nonce != again[1].nonce
    assert place.region.adapter.callbacks is not None
    replayed = await place.region.adapter.callbacks.read(first[0])
    assert replayed.nonce == first[1].nonce
    assert replayed.nonce_expires > utc_now()


@offering("callbacks")
async def test_an_event_that_we_could_not_take_comes_again(place: Place) -> None:
    """Our database may be away for a moment: the step must not be lost, and its repeat must not look like a replay."""
    place.door.refusals = 2
    attempts = await _callbacks(place, 3)
    assert all(reading.events == attempts[0][1].events for _, reading in attempts)
    assert len({reading.nonce for _, reading in attempts}) == 3


@offering("callbacks")
@pytest.mark.parametrize("moved", [AN_HOUR, -AN_HOUR], ids=["late", "early"])
async def test_a_callback_out_of_its_time_is_refused(place: Place, moved: timedelta) -> None:
    """A genuine message that somebody kept: its nonce may be forgotten by then, its time is not."""
    callback = (await _callbacks(place, 1))[0][0]
    with pytest.raises(ReplayedCallback):
        await _read(place, replace(callback, received_at=callback.received_at + moved))


@offering("callbacks")
async def test_a_callback_whose_body_was_altered_is_refused(place: Place) -> None:
    """At the front, in the middle, at the end: the signature covers every byte."""
    callback = (await _callbacks(place, 1))[0][0]
    body = callback.body
    for spot in (0, len(body) // 2, len(body) - 1):
        altered = body[:spot] + bytes([body[spot] ^ 1]) + body[spot + 1 :]
        with pytest.raises(ForgedCallback):
            await _read(place, replace(callback, body=altered))
    for altered in (body + b" ", body[:-1], b""):
        with pytest.raises(ForgedCallback):
            await _read(place, replace(callback, body=altered))


@offering("callbacks")
async def test_a_callback_to_another_path_is_refused(place: Place) -> None:
    """What was signed for one address is not taken at another, above all not at another region's."""
    callback = (await _callbacks(place, 1))[0][0]
    for path in (f"{callback.path}/more", f"{callback.path}/", callback.path.replace(place.id, "elsewhere")):
        with pytest.raises((ForgedCallback, NotFound)):
            await _read(place, replace(callback, path=path))


@offering("callbacks")
async def test_a_callback_without_its_proof_is_refused(place: Place) -> None:
    """Only what HTTP itself needs is left of the headers: an unsigned message is no message."""
    callback = (await _callbacks(place, 1))[0][0]
    plain = {name: callback.headers[name] for name in ("host", "content-type", "content-length")}
    with pytest.raises(ForgedCallback):
        await _read(place, replace(callback, headers=plain))


async def _callbacks(place: Place, number: int) -> list[tuple[Callback, CallbackReading]]:
    """Submit something and return the first callbacks as they arrived, each with what the adapter read in it."""
    await submit(place.region, order(place, application(place)))
    async with asyncio.timeout(PATIENCE):
        return [await place.door.read.get() for _ in range(number)]


async def _read(place: Place, callback: Callback) -> CallbackReading:
    assert place.region.adapter.callbacks is not None
    return await place.region.adapter.callbacks.read(callback)


@offering("feed")
async def test_a_feed_goes_on_where_it_was_left(place: Place) -> None:
    """After a restart the stored cursor brings what is new and only that; the beginning still brings everything."""
    feed = place.region.adapter.feed
    assert feed is not None
    await submit(place.region, order(place, application(place)))
    await events_until(place, COURSE[-1])
    whole = await feed.poll("")
    assert len(whole.events) == len(COURSE)
    end = await feed.poll(whole.cursor)
    assert (list(end.events), end.cursor) == ([], whole.cursor)


@offering("feed")
@pytest.mark.parametrize("mode", ["down", "garbage", "lost_answer"])
async def test_a_feed_that_cannot_be_read_is_not_an_empty_one(place: Place, mode: str) -> None:
    """An empty page would say "nothing has happened"."""
    feed = place.region.adapter.feed
    assert feed is not None
    place.authority.order(mode)
    with pytest.raises(RegionError):
        await feed.poll("")


# --- pickups -----------------------------------------------------------------------------------------------------


@offering("pickups")
async def test_a_region_reports_a_case_received_when_it_has_pulled_all_of_it(place: Place) -> None:
    """The receipt is for the notice alone; document and materials come after, each pull under a nonce of its own."""
    sent = order(place, application(place))
    await submit(place.region, sent)
    await events_until(place, "RECEIVED")
    asked = [await _asked(place, pull) for pull in place.door.pulls]
    assert {each.submission_id for each in asked} == {sent.submission_id}
    assert not all(each.wants_material for each in asked)
    found = {material.code for each in asked for material in sent.materials if _is_meant(each, material)}
    assert found == {material.code for material in sent.materials}
    assert len({each.nonce for each in asked}) == len(asked)
    assert all(each.nonce_expires > utc_now() for each in asked)


def _is_meant(asked: Pickup, material: Material) -> bool:
    return asked.material_sha256 == material.sha256 or asked.material_code == material.code


@offering("pickups")
async def test_a_pull_that_was_altered_moved_or_kept_is_refused(place: Place) -> None:
    """Whoever could pull could read every case."""
    await submit(place.region, order(place, application(place)))
    await events_until(place, "RECEIVED")
    pull = place.door.pulls[0]
    body = pull.body
    spots = (0, len(body) // 4, len(body) // 2, len(body) - 1)
    for altered in (*(body[:spot] + bytes([body[spot] ^ 1]) + body[spot + 1 :] for spot in spots), body[:-1], b""):
        with pytest.raises(ForgedCallback):
            await _asked(place, replace(pull, body=altered))
    for path in (f"{pull.path}/more", pull.path.replace(place.id, "elsewhere")):
        with pytest.raises((ForgedCallback, NotFound)):
            await _asked(place, replace(pull, path=path))
    for moved in (AN_HOUR, -AN_HOUR):
        with pytest.raises(ReplayedCallback):
            await _asked(place, replace(pull, received_at=pull.received_at + moved))
    assert (await _asked(place, pull)).nonce  # which the core knows by now


async def _asked(place: Place, pull: Callback) -> Pickup:
    assert place.region.adapter.pickups is not None
    return await place.region.adapter.pickups.read(pull)


# --- certificates ------------------------------------------------------------------------------------------------


@offering("certificates", everywhere=True)
async def test_every_seeded_certificate_is_found_by_its_right_holder(place: Place) -> None:
    """A region that tells values says what the seed says; one that only matches says whether it is in force."""
    rows = place.certificates()
    assert rows, "a region that offers certificates needs one in gateway/sandbox/seed/certificates.toml"
    for row in rows:
        word, found = await look_up(place, question(place, row))
        if "match" in place.manifest.certificates.status.values():
            assert (word, found) == ("match" if _worth(row) is Standing.VALID else "no_match", [])
        else:
            assert word == "found"
            assert [_told(certificate) for certificate in found] == [
                _seeded(one) for one in rows if _is_beside(one, row)
            ]


@offering("certificates")
async def test_the_right_number_under_another_name_finds_nothing(place: Place) -> None:
    """Name and number must both fit: whoever has a list of numbers must not learn from it."""
    for row in place.certificates():
        holder = {**question(place, row)["holder"], "name": SOMEBODY_ELSE}
        assert await look_up(place, question(place, row, holder=holder)) == (_nothing(place), [])


@offering("certificates")
async def test_the_right_name_with_another_number_finds_nothing(place: Place) -> None:
    for row in place.certificates():
        kind = row["holder_id_type"]
        other = next(number for number in NUMBERS[kind] if number != row["holder_id_number"])
        holder = {"name": row["holder_name"], "document": {"type": kind, "number": other}}
        assert await look_up(place, question(place, row, holder=holder)) == (_nothing(place), [])


@offering("certificates")
async def test_a_type_that_the_issuer_does_not_know_is_called_unknown(place: Place) -> None:
    """That there is no such certificate and that there is no such type are two answers; one is about the person."""
    kind = {"code": "11100000000099999D999", "name": "没有的证照"}
    word, found = await look_up(place, question(place, place.certificates()[0], type=kind))
    assert (word, found) == ("type_unknown", [])


@offering("certificates")
async def test_a_region_that_asks_for_consent_gives_nothing_without_one(place: Place) -> None:
    """Where the region has a word for it, a consent that it does not hold is refused; elsewhere consent is ours."""
    row = place.certificates()[0]
    word, found = await look_up(place, question(place, row, consent="unknown"))
    if "no_consent" in place.manifest.certificates.status.values():
        assert (word, found) == ("no_consent", [])
    else:
        assert "consent" in place.region.pack("certificate-query").lost


@offering("certificates")
@pytest.mark.parametrize("mode", ["down", "garbage", "lost_answer"])
async def test_an_issuer_that_cannot_be_asked_has_not_said_no(place: Place, mode: str) -> None:
    """An error shown as "not found" would cost a person a right."""
    for row in place.certificates():
        place.authority.order(mode)
        with pytest.raises(RegionError):
            await look_up(place, question(place, row))
        place.authority.behave()
        assert (await look_up(place, question(place, row)))[0] in {"found", "match", "no_match"}


def _nothing(place: Place) -> str:
    return "no_match" if "match" in place.manifest.certificates.status.values() else "not_found"


def _is_beside(one: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Say whether two certificates are of one type and one holder: whoever asks for one is told of both."""
    return all(one[name] == row[name] for name in ("type_code", "holder_id_type", "holder_id_number"))


def _worth(row: Mapping[str, Any]) -> Standing:
    """Judge a seeded certificate as the gateway would."""
    today = utc_now().date().isoformat()
    state = {"SUSPENDED": "RESTRICTED"}.get(row["state"].upper(), row["state"].upper())
    return standing(state, replaced_by=row.get("replaced_by"), valid_until=row.get("valid_to"), today=today)


def _seeded(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("identifier", "number", "issued_on", "valid_from", "holder_name", "holder_id_number")
    return {name: row[name] for name in names} | {"valid_to": row.get("valid_to"), "standing": _worth(row)}


def _told(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """Return a canonical certificate in the words of the seed."""
    return {
        "identifier": certificate["identifier"],
        "number": certificate["number"],
        "issued_on": certificate["issued_on"],
        "valid_from": certificate["valid_from"],
        "valid_to": certificate.get("valid_until"),
        "holder_name": certificate["holder"]["name"],
        "holder_id_number": certificate["holder"]["document"]["number"],
        "standing": standing(
            certificate["state"],
            replaced_by=certificate.get("replaced_by"),
            valid_until=certificate.get("valid_until"),
            today=utc_now().date().isoformat(),
        ),
    }


# --- sign-on -----------------------------------------------------------------------------------------------------


@offering("sign_on")
async def test_every_person_signs_on_in_every_way_that_the_page_offers(place: Place) -> None:
    """The subject is the account's and not the session's; the level is one that region.toml translates."""
    people = place.people()
    assert people, "a region that offers sign-on needs a person in gateway/sandbox/seed/people.toml"
    subjects = []
    for person in people:
        async with visiting(place, person) as visit:
            identities = [await _complete(place, await visit.sign_in(way)) for way in [*await visit.ways(), {}]]
        assert all(isinstance(place.region.assurance[identity.level], Assurance) for identity in identities)
        assert len({identity.subject for identity in identities}) == 1
        subjects.append(identities[0].subject)
        for identity in identities:
            _check_organisation(place, identity)
    assert len(set(subjects)) == len(people)


def _check_organisation(place: Place, identity: UpstreamIdentity) -> None:
    """Whoever signs on for an organisation (法人) does so as something, and the pack says which organisation it is."""
    assert bool(identity.role) == (identity.organisation is not None)
    if identity.organisation is not None:
        canonical = place.region.pack("organisation").to_canonical(identity.organisation)
        assert canonical["name"]
        assert canonical["document"]["number"]


@offering("sign_on")
async def test_what_a_region_says_of_a_person_becomes_the_canonical_person(place: Place) -> None:
    for person in place.people():
        async with visiting(place, person) as visit:
            identity = await _complete(place, await visit.sign_in({}))
        canonical = place.region.pack("person").to_canonical(identity.claims)
        assert canonical["subject"] == identity.subject
        assert canonical["kind"] == "person"
        assert canonical["name"] in person.values()
        assert canonical.get("birth_date", person["birth_date"]) == person["birth_date"]
        if "document" in canonical:
            assert canonical["document"]["number"] in person.values()


@offering("sign_on")
async def test_who_acts_for_an_organisation_comes_with_it_and_with_a_role(place: Place) -> None:
    """The person is the same one as without it, and the pack of organisations reads what the region says."""
    acting = 0
    for person in place.people():
        async with visiting(place, person) as visit:
            identities = [await _complete(place, await visit.sign_in(way)) for way in await visit.ways()]
        for identity in identities:
            assert (identity.organisation is None) == (not identity.role)
            if identity.organisation is not None:
                canonical = place.region.pack("organisation").to_canonical(identity.organisation)
                assert canonical["subject"] != identity.subject
                assert canonical["name"]
                acting += 1
    assert acting or not any({"organisation", "company"} & person.keys() for person in place.people())


@offering("sign_on")
async def test_the_sign_in_page_opens_in_every_language_of_the_chooser(place: Place) -> None:
    async with visiting(place, place.people()[0]) as visit:
        for language in ("zh-CN", "zh-HK", "en", "pt"):
            assert "<form" in await visit.page_in(language)


@offering("sign_on")
async def test_a_code_is_good_once(place: Place) -> None:
    """Whoever reads a code in a log or a browser's history comes too late."""
    async with visiting(place, place.people()[0]) as visit:
        back = await visit.sign_in({})
    first = await _complete(place, back)
    try:
        again = await _complete(place, back)
    except SignOnFailed:
        return
    assert again.once is not None, "neither the region nor the core would find out"
    assert again.once == first.once  # the core remembers it in the transaction that makes the session


@offering("sign_on")
async def test_a_code_that_the_region_never_gave_signs_nobody_on(place: Place) -> None:
    """Made up, empty, or absent: the sign-on is over, and it is no fault of the region."""
    async with visiting(place, place.people()[0]) as visit:
        back = await visit.sign_in({})
    state = {"state": back.query["state"]}
    given = back.query.keys() - state.keys()
    for query in ({**dict.fromkeys(given, "made-up"), **state}, {**dict.fromkeys(given, ""), **state}, state):
        with pytest.raises(SignOnFailed):
            await _complete(place, replace(back, query=query))


@offering("sign_on")
@pytest.mark.parametrize("mode", ["down", "garbage", "lost_answer"])
async def test_a_region_that_fails_has_not_said_that_the_person_failed(place: Place, mode: str) -> None:
    """The person did nothing wrong and is told so; and nobody is signed on by an answer that cannot be read."""
    async with visiting(place, place.people()[0]) as visit:
        back = await visit.sign_in({})
    place.authority.order(mode)
    if back.posted:  # the answer came by the browser and is complete: the region is not asked, and cannot fail
        assert (await _complete(place, back)).subject
        return
    with pytest.raises(RegionError):
        await _complete(place, back)


@offering("sign_out")
async def test_a_session_at_the_region_can_be_ended_from_here(place: Place) -> None:
    """By the region itself, or by a visit of the browser; and a second time, since nobody knows what was heard."""
    async with visiting(place, place.people()[0]) as visit:
        identity = await _complete(place, await visit.sign_in({}))
    start = SignOutStart(identity.kept, "state", f"{place.config.public_url}/sign-in/{place.id}/signed-out", "en")
    assert place.region.adapter.sign_out is not None
    for _ in range(2):
        there = await place.region.adapter.sign_out.end(start)
        assert there is None or there.url.startswith(("http://", "https://"))


@offering("sign_out")
async def test_nobodys_word_ends_a_session(place: Place) -> None:
    """Whoever could say that a session has ended could sign anybody off."""
    sign_out, path = place.region.adapter.sign_out, f"/sign-in/{place.id}/logout"
    assert sign_out is not None
    for body in (b"", b"{}", b"logout_token=e30.e30.", b"SAMLRequest=PHg%2BPC94Pg%3D%3D"):
        with pytest.raises((ForgedCallback, InvalidRequest, NotOffered)):
            await sign_out.ended(Callback("POST", path, {}, body, utc_now()))


async def _complete(place: Place, back: SignOnReturn) -> UpstreamIdentity:
    assert place.region.adapter.sign_on is not None
    return await place.region.adapter.sign_on.complete(back)
