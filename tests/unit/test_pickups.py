"""Pulls of a region that was told a number: what it gets, when, and everything that it does not get.

The desk stands over a real store, with the pickups of the exchange machine's wire in front; the far side is the
simulated machine's own reading of that wire.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import ClientError, ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from lxml import etree
from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select, update

from adapters.qingyuan.sandbox_wire import (
    IV,
    PEER,
    TAG,
    Keys,
    decryptor_of,
    element,
    lines,
    open_answer,
    request,
    tagger,
    write,
)
from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.errors import Unavailable
from gateway.mapping.library import PackSet
from gateway.mapping.packs import Pack
from gateway.ports import Adapter, Callback, Material
from gateway.protocols.notify_pull import PullPickups
from gateway.protocols.notify_pull_wire import Channel
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.places import open_blob_store
from gateway.storage.tables import case_messages, deliveries, evidence, submission_materials, submissions
from gateway.submissions.borders import Borders
from gateway.submissions.events import remember_number
from gateway.submissions.inbox import Inbox
from gateway.submissions.materials import Materials
from gateway.submissions.parcels import Parcel, Parcels, seal_body, seal_message
from gateway.submissions.pickups import PickupDesk
from gateway.telemetry import Metrics
from gateway.web import callbacks
from gateway.web.middlewares import edge
from gateway.web.pages import Pages
from gateway.web.refusals import error_page
from tests.support.cases import add_delivery, number
from tests.support.clock import ManualClock
from tests.support.uploads import uploads_over

KEYS = Keys(bytes(range(16)), bytes(range(32)))
REGION, OTHER = "qingyuan", "foshan"
AGENCY = Caller("agency", "机构", "11440100696927671X", "440100", frozenset())
FILES = {"M01": b"%PDF-1.7 one" * 1000, "M02": b"%PDF-1.7 two"}
TERM = timedelta(days=30)
PINNED, IN_USE = "1" * 64, "2" * 64


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class SaysItsVersion:
    """A pack that writes which version wrote, and for which case."""

    def __init__(self, version: str) -> None:
        self.version = version

    def to_region(self, document: Mapping[str, Any]) -> bytes:
        return write(element("SBXX", WWBH=document["id"], BB=self.version))


def packs(version: str) -> PackSet:
    pack = SaysItsVersion(version)
    return PackSet(REGION, version, cast("Mapping[str, Pack]", {"submission": pack, "supplement": pack}))


async def pinned(_region: Region, version: str) -> PackSet:
    return packs(version)


@dataclass
class Machine:
    """The far side: pulls at a desk and says what came back."""

    clock: ManualClock
    nonces: int = 0

    def pull(self, operation: str, *, region: str = REGION, **asked: str) -> Callback:
        """Return a sealed pull under a nonce of its own."""
        self.nonces += 1
        document = element("TQ" if operation == "getApplyInfo" else "CLTQ", **asked)
        body = request(KEYS, operation, f"nonce-{self.nonces:012d}", self.clock(), document)
        return Callback("POST", f"/callbacks/{region}/{operation}", {}, body, self.clock())

    def told(self, pull: Callback, body: bytes) -> tuple[str, etree._Element]:
        """Return code and document of an answer to this pull."""
        operation = pull.path.rpartition("/")[2]
        return open_answer(KEYS, operation, _nonce(pull), body)

    def file(self, pull: Callback, body: bytes) -> bytes:
        """Return the file in an answer to this pull, once its tag is right."""
        mac = tagger(KEYS, lines("answer", PEER, "getMaterial", _nonce(pull), "200"))
        mac.update(body[:-TAG])
        assert hmac.compare_digest(mac.finalize(), body[-TAG:])
        padded = decryptor_of(KEYS, body[:IV]).update(body[IV:-TAG])
        return padded[: -padded[-1]]


def _nonce(pull: Callback) -> str:
    return dict(pair.split("=") for pair in pull.body.decode().split("&"))["nonce"]


@dataclass
class Replica:
    """One of the gateway's processes: a desk of its own over the common store and blobs."""

    store: Store
    sealer: Sealer
    clock: ManualClock
    blobs: Blobs
    parcels: Any = None
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))

    def __post_init__(self) -> None:
        self.materials = Materials(self.store, self.blobs, self.sealer, 1 << 20)
        channel = Channel(KEYS.sm4 + KEYS.mac, PEER, "QYQZJ", lambda: os.urandom(8).hex())
        offered = {
            name: SimpleNamespace(id=name, adapter=Adapter(pickups=PullPickups(channel, name)), packs=packs(IN_USE))
            for name in (REGION, OTHER)
        }
        self.desk = PickupDesk(
            store=self.store, regions=cast("Mapping[str, Region]", offered),
            parcels=self.parcels or Parcels(self.store, self.sealer, self.materials, Borders((), self.clock)),
            pinned=pinned, clock=self.clock, metrics=self.metrics, term=TERM,
        )  # fmt: skip

    async def answer(self, pull: Callback) -> bytes:
        region = pull.path.split("/")[2]
        return b"".join([piece async for piece in (await self.desk.answer(region, pull)).body])

    async def evidence(self) -> list[Mapping[str, Any]]:
        query = select(evidence).order_by(evidence.c.recorded_at, evidence.c.id)
        return await self.store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])


@pytest.fixture
async def replica(sqlite_store: Store, sealer: Sealer, clock: ManualClock, tmp_path: Path) -> Replica:
    return Replica(sqlite_store, sealer, clock, Blobs(open_blob_store("blobs", tmp_path), sealer))


@pytest.fixture
async def on_either_engine(store: Store, sealer: Sealer, clock: ManualClock, tmp_path: Path) -> Replica:
    return Replica(store, sealer, clock, Blobs(open_blob_store("blobs", tmp_path), sealer))


@pytest.fixture
def machine(clock: ManualClock) -> Machine:
    return Machine(clock)


async def announced(replica: Replica, sequence: int = 1, **columns: Any) -> str:
    """Write a case with two materials whose notice has left; return its number."""
    now = replica.clock()
    case = number(sequence, now)
    blobs = [await _upload(replica, code, content) for code, content in FILES.items()]

    def unit(tx: Any) -> None:
        add_delivery(tx, case, now, **{"region": REGION, "state": "sending", "sent_at": now, **columns})
        sealed = seal_body(replica.sealer, case, {"id": case})
        tx.execute(update(submissions).where(submissions.c.id == case).values(body=sealed, mapping_version=PINNED))
        rows = [
            {"submission_id": case, "position": n, "code": code, "blob_id": blob}
            for n, (code, blob) in enumerate(zip(FILES, blobs, strict=True))
        ]
        tx.execute(insert(submission_materials), rows)

    await replica.store.write(unit)
    return case


async def _upload(replica: Replica, code: str, content: bytes) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        yield content

    uploads = uploads_over(replica.store, replica.blobs, replica.sealer, replica.clock)
    blob = await uploads.upload(AGENCY, name=f"{code}.pdf", media_type="application/pdf", chunks=chunks())
    return blob.id


async def settled(replica: Replica, case: str, **values: Any) -> None:
    """Write what became of the notice."""
    await replica.store.write(
        lambda tx: tx.execute(update(deliveries).where(deliveries.c.submission_id == case).values(values))
    )


# --- what is handed over -------------------------------------------------------------------------------------------


async def test_a_region_gets_the_case_that_it_was_told_of_in_the_version_that_it_is_pinned_to(
    replica: Replica, machine: Machine
) -> None:
    case = await announced(replica)
    pull = machine.pull("getApplyInfo", WWBH=case)
    code, document = machine.told(pull, await replica.answer(pull))
    assert (code, document.findtext("WWBH"), document.findtext("BB")) == ("200", case, PINNED)


async def test_each_material_is_handed_over_by_digest_or_by_code(replica: Replica, machine: Machine) -> None:
    case = await announced(replica)
    for name, content in FILES.items():
        for asked in ({"WJZY": digest(content)}, {"WJZY": digest(content).upper()}, {"CLBM": name}):
            pull = machine.pull("getMaterial", WWBH=case, **asked)
            assert machine.file(pull, await replica.answer(pull)) == content


async def test_any_replica_answers_any_pull_and_as_often_as_it_is_asked(replica: Replica, machine: Machine) -> None:
    """Nothing is kept in memory between notice and pull: the process that sent the notice may be gone."""
    case = await announced(replica)
    other = replace(replica)
    answers = []
    for one in (replica, other, replica):
        pull = machine.pull("getApplyInfo", WWBH=case)
        answers.append(etree.tostring(machine.told(pull, await one.answer(pull))[1]))
    assert len(set(answers)) == 1


async def test_a_case_is_pulled_no_longer_once_the_consent_by_which_it_crosses_a_border_is_over(
    replica: Replica, machine: Machine
) -> None:
    """The notice may be weeks old. The refusal is a definite one, or the machine would come for it again."""
    case = await announced(replica)
    filed = update(submissions).values(origin_code="810000")
    await replica.store.write(lambda tx: tx.execute(filed).rowcount)
    file = machine.pull("getMaterial", WWBH=case, CLBM=next(iter(FILES)))
    for pull in (machine.pull("getApplyInfo", WWBH=case), file):
        code, document = machine.told(pull, await replica.answer(pull))
        assert (code, document.get("DM")) == ("410", "transfer.no_consent")
    assert [row["reason"] for row in await replica.evidence()] == ["transfer.no_consent"] * 2


async def test_a_supplement_is_pulled_under_its_own_number_with_its_own_files(
    replica: Replica, machine: Machine
) -> None:
    case = await announced(replica, state="delivered", settled_at=replica.clock())
    content = b"%PDF-1.7 supplement"
    blob, now = await _upload(replica, "M03", content), replica.clock()

    def unit(tx: Any) -> None:
        remember_number(tx, case, REGION, "44180020260302000001", None)
        body = seal_message(replica.sealer, "CM1", {"id": "CM1"})
        row = {"id": "CM1", "submission_id": case, "kind": "supplement", "client_reference": "r", "digest": "0" * 64}
        tx.execute(insert(case_messages).values(**row, body=body, created_at=now))
        tx.execute(
            insert(submission_materials).values(
                submission_id=case, position=9, code="M03", blob_id=blob, message_id="CM1"
            )
        )
        delivery = {"id": "DM1", "submission_id": case, "kind": "supplement", "message_id": "CM1", "region": REGION}
        times = {"created_at": now, "sent_at": now}
        tx.execute(insert(deliveries).values(**delivery, **times, state="in_doubt", attempt=1, failures=0))

    await replica.store.write(unit)
    pull = machine.pull("getApplyInfo", WWBH=case, XXBH="CM1")
    assert machine.told(pull, await replica.answer(pull))[1].findtext("WWBH") == "CM1"
    pull = machine.pull("getMaterial", WWBH=case, XXBH="CM1", WJZY=digest(content))
    assert machine.file(pull, await replica.answer(pull)) == content
    for asked in ({"XXBH": "CM1", "CLBM": "M01"}, {"CLBM": "M03"}, {"XXBH": "CM2", "CLBM": "M03"}):
        pull = machine.pull("getMaterial", WWBH=case, **asked)
        assert machine.told(pull, await replica.answer(pull))[0] == "404"


async def test_what_was_handed_over_is_evidence_before_the_first_byte_of_it_leaves(
    replica: Replica, machine: Machine
) -> None:
    case = await announced(replica)
    await replica.desk.answer(REGION, machine.pull("getApplyInfo", WWBH=case))
    replica.clock.advance(1)
    answer = await replica.desk.answer(REGION, machine.pull("getMaterial", WWBH=case, CLBM="M02"))
    document, material = await replica.evidence()
    assert {(row["action"], row["outcome"], row["who"]["region"]) for row in (document, material)} == {
        ("submission.pickup", "done", REGION)
    }
    assert (document["what"]["case"], document["what"]["mapping"]) == (case, PINNED)
    assert material["what"]["sha256"] == digest(FILES["M02"])
    assert (list(document["parts"]), list(material["parts"])) == (["document"], ["material.M02"])
    await answer.body.aclose()


async def test_a_file_that_breaks_off_is_written_down(replica: Replica, machine: Machine) -> None:
    case = await announced(replica)
    answer = await replica.desk.answer(REGION, machine.pull("getMaterial", WWBH=case, CLBM="M01"))
    async with aclosing(answer.body) as body:
        await anext(body)
        replica.clock.advance(1)
    left, broken = await replica.evidence()
    assert (left["outcome"], broken["outcome"], broken["reason"]) == ("done", "failed", "interrupted")
    assert broken["what"] == left["what"]


# --- what is refused -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """A pull that must bring nothing: how it is made, what the machine is told, and why, for us."""

    columns: Mapping[str, Any]
    code: str
    reason: str
    why: str
    later: timedelta = timedelta(0)
    region: str = REGION


NOT_ANNOUNCED = ("404", "pickup.not_announced")
REFUSALS = {
    "another region's case": Refusal({"region": OTHER}, "404", "pickup.unknown_case", "another region's case"),
    "before anything was sent": Refusal({"state": "pending", "sent_at": None}, *NOT_ANNOUNCED, "pending"),
    "claimed, and nothing has left": Refusal({"sent_at": None}, *NOT_ANNOUNCED, "sending"),
    "certainly not taken": Refusal({"state": "pending"}, *NOT_ANNOUNCED, "pending"),
    "given up": Refusal({"state": "dead"}, *NOT_ANNOUNCED, "dead"),
    "cancelled": Refusal({"state": "cancelled"}, *NOT_ANNOUNCED, "cancelled"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
async def test_what_a_region_may_not_pull_is_refused_in_its_own_form(
    refusal: Refusal, replica: Replica, machine: Machine
) -> None:
    """Of another region's case it learns no more than of one that there is not."""
    case = await announced(replica, **refusal.columns)
    for operation, asked in (("getApplyInfo", {}), ("getMaterial", {"CLBM": "M01"})):
        pull = machine.pull(operation, WWBH=case, **asked)
        code, error = machine.told(pull, await replica.answer(pull))
        assert (code, error.get("DM")) == (refusal.code, refusal.reason)
    rows = await replica.evidence()
    assert [(row["outcome"], row["reason"], row["what"]["why"]) for row in rows] == [
        ("refused", refusal.reason, refusal.why)
    ] * 2
    assert {row["what"]["case"] for row in rows} == {case}


async def test_a_number_that_there_is_not_and_another_regions_look_the_same(replica: Replica, machine: Machine) -> None:
    theirs = await announced(replica, region=OTHER)
    told = []
    for case in (theirs, number(999, replica.clock()), "x" * 500):
        pull = machine.pull("getApplyInfo", WWBH=case)
        code, error = machine.told(pull, await replica.answer(pull))
        told.append((code, error.get("DM"), error.text))
    assert len(set(told)) == 1


async def test_a_case_can_be_pulled_while_in_doubt_and_for_a_time_after_the_receipt(
    replica: Replica, machine: Machine
) -> None:
    case = await announced(replica)
    begun = replica.clock()

    async def code() -> str:
        pull = machine.pull("getApplyInfo", WWBH=case)
        return machine.told(pull, await replica.answer(pull))[0]

    await settled(replica, case, state="in_doubt")
    assert await code() == "200"
    await settled(replica, case, state="delivered", settled_at=begun)
    replica.clock.advance(TERM.total_seconds())
    assert await code() == "200"
    replica.clock.advance(1)
    assert await code() == "410"


async def test_a_material_that_the_case_has_not_is_refused(replica: Replica, machine: Machine) -> None:
    case, neighbour = await announced(replica), await announced(replica, 2)
    for asked in ({"WJZY": "0" * 64}, {"CLBM": "M99"}):
        pull = machine.pull("getMaterial", WWBH=case, **asked)
        code, error = machine.told(pull, await replica.answer(pull))
        assert (code, error.get("DM")) == ("404", "pickup.unknown_material")
    assert neighbour != case


async def test_a_code_that_two_materials_have_names_neither(replica: Replica, machine: Machine) -> None:
    case = await announced(replica)
    await replica.store.write(lambda tx: tx.execute(update(submission_materials).values(code="M01")))
    pull = machine.pull("getMaterial", WWBH=case, CLBM="M01")
    assert machine.told(pull, await replica.answer(pull))[0] == "404"
    pull = machine.pull("getMaterial", WWBH=case, WJZY=digest(FILES["M02"]))
    assert machine.file(pull, await replica.answer(pull)) == FILES["M02"]


async def test_a_pull_that_was_kept_and_sent_again_brings_nothing(on_either_engine: Replica, machine: Machine) -> None:
    """At another replica neither: who was first is decided in the store."""
    replica = on_either_engine
    case = await announced(replica)
    pull = machine.pull("getApplyInfo", WWBH=case)
    answers = await asyncio.gather(*(one.answer(pull) for one in (replica, replace(replica), replica)))
    codes = sorted(machine.told(pull, body)[0] for body in answers)
    assert codes == ["200", "409", "409"]


async def test_a_pull_that_was_refused_is_spent_too(replica: Replica, machine: Machine) -> None:
    """Otherwise whoever kept it could come back with it once the case is announced."""
    case = await announced(replica, state="pending", sent_at=None)
    pull = machine.pull("getApplyInfo", WWBH=case)
    assert machine.told(pull, await replica.answer(pull))[0] == "404"
    await settled(replica, case, state="sending", sent_at=replica.clock())
    assert machine.told(pull, await replica.answer(pull))[0] == "409"


@pytest.mark.parametrize("seconds", [-301, 301], ids=["late", "early"])
async def test_a_pull_out_of_its_time_brings_nothing(seconds: int, replica: Replica, machine: Machine) -> None:
    case = await announced(replica)
    pull = machine.pull("getApplyInfo", WWBH=case)
    moved = replace(pull, received_at=pull.received_at - timedelta(seconds=seconds))
    assert machine.told(pull, await replica.answer(moved))[0] == "409"


@pytest.mark.parametrize("spot", [3, 20, 60, 150, -40, -1])
async def test_a_forged_pull_brings_nothing_and_is_evidence(spot: int, replica: Replica, machine: Machine) -> None:
    case = await announced(replica)
    pull = machine.pull("getApplyInfo", WWBH=case)
    body = bytearray(pull.body)
    body[spot] ^= 1
    raw = await replica.answer(replace(pull, body=bytes(body)))
    assert b"<code>401</code>" in raw
    (row,) = await replica.evidence()
    assert (row["outcome"], row["reason"], "case" in row["what"]) == ("refused", "callback.forged", False)


async def test_a_pull_for_one_operation_or_region_is_none_for_another(replica: Replica, machine: Machine) -> None:
    case = await announced(replica)
    pull = machine.pull("getApplyInfo", WWBH=case)
    moved = replace(pull, path=f"/callbacks/{REGION}/getMaterial")
    assert b"<code>401</code>" in await replica.answer(moved)
    own = machine.pull("getApplyInfo", region=OTHER, WWBH=case)
    assert machine.told(own, await replica.answer(own))[0] == "404"


@pytest.mark.parametrize(
    ("operation", "asked"),
    [
        ("getApplyInfo", {}),
        ("getApplyInfo", {"WWBH": "1", "CLBM": "M01"}),
        ("getMaterial", {"WWBH": "1"}),
        ("getMaterial", {"WWBH": "1", "WJZY": "zz"}),
    ],
)
async def test_a_pull_that_asks_for_nothing_that_could_be_is_told_so(
    operation: str, asked: dict[str, str], replica: Replica, machine: Machine
) -> None:
    pull = machine.pull(operation, **asked)
    assert machine.told(pull, await replica.answer(pull))[0] == "400"


async def test_trouble_of_our_own_is_no_word_about_the_case(replica: Replica, machine: Machine) -> None:
    """The machine asks again: a case that cannot be packed just now has not ceased to be."""

    class Broken:
        def __init__(self, error: Exception) -> None:
            self.error = error

        async def pack(self, _case: str, _packs: PackSet) -> Parcel:
            raise self.error

    case = await announced(replica)
    for error in (Unavailable("The store is away."), RuntimeError("a bug")):
        broken = replace(replica, parcels=Broken(error))
        pull = machine.pull("getApplyInfo", WWBH=case)
        assert machine.told(pull, await broken.answer(pull))[0] == "500"


async def test_a_refused_pull_is_answered_while_the_store_is_away(replica: Replica, machine: Machine) -> None:
    class Away:
        async def write(self, _unit: Any) -> Any:
            raise Unavailable("The gateway's store does not answer.")

    away = replace(replica, store=cast("Store", Away()))
    pull = machine.pull("getApplyInfo", WWBH="1")
    assert machine.told(pull, await away.answer(pull))[0] == "500"


# --- over HTTP -----------------------------------------------------------------------------------------------------


@dataclass
class Large:
    """A case with one material of 64 MiB that is nowhere: its bytes are made when they are asked for."""

    size: int = 64 << 20
    piece: bytes = bytes(1 << 20)
    made: int = 0

    async def pack(self, case: str, _packs: PackSet) -> Parcel:
        return Parcel(
            case, b"", [Material("BIG", "big.pdf", "application/pdf", self.size, "a" * 64, self.open)], PINNED
        )

    async def open(self) -> AsyncIterator[bytes]:
        for _ in range(self.size // len(self.piece)):
            self.made += len(self.piece)
            yield self.piece


def door(replica: Replica) -> web.Application:
    app = web.Application()
    app.add_routes(callbacks.routes(cast("Inbox", None), replica.desk, replica.clock, 1 << 20))
    return app


async def test_a_file_of_64_mib_is_handed_over_in_constant_memory(
    replica: Replica, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written at once is a piece of the file, and reading the file waits for whoever takes it."""
    case, file = await announced(replica), Large()
    served = replace(replica, parcels=file)
    pull = machine.pull("getMaterial", WWBH=case, CLBM="BIG")
    written: list[int] = []
    write_piece = web.StreamResponse.write

    async def watched(self: web.StreamResponse, data: bytes) -> None:
        written.append(len(data))
        await write_piece(self, data)

    monkeypatch.setattr(web.StreamResponse, "write", watched)
    mac = tagger(KEYS, lines("answer", PEER, "getMaterial", _nonce(pull), "200"))
    received, ahead, held = 0, 0, b""
    async with TestClient(TestServer(door(served))) as client, client.post(pull.path, data=pull.body) as response:
        assert response.headers["Content-Type"] == "application/octet-stream"
        expected = response.content_length
        async for piece in response.content.iter_chunked(1 << 18):
            received += len(piece)
            ahead = max(ahead, file.made - received)
            held += piece
            mac.update(held[:-TAG])
            held = held[-TAG:]
    assert received == expected == IV + (64 << 20) + 16 + TAG
    assert hmac.compare_digest(mac.finalize(), held)
    assert max(written) <= (1 << 20) + TAG + 16
    assert ahead <= 8 << 20


@dataclass
class Failing(Large):
    """A file that can be read so far and no further."""

    readable: int = 0
    error: Exception = field(default_factory=lambda: Unavailable("Stored data cannot be opened."))

    async def open(self) -> AsyncIterator[bytes]:
        for _ in range(self.readable):
            yield self.piece
        raise self.error


async def test_a_file_that_is_not_there_is_no_beginning_of_one(replica: Replica, machine: Machine) -> None:
    case = await announced(replica)
    pull = machine.pull("getMaterial", WWBH=case, CLBM="BIG")
    assert machine.told(pull, await replace(replica, parcels=Failing()).answer(pull))[0] == "500"
    (row,) = await replica.evidence()
    assert (row["outcome"], row["reason"]) == ("refused", "gateway.unavailable")


@pytest.mark.parametrize("error", [Unavailable("Stored data cannot be opened."), RuntimeError("a bug")])
async def test_a_file_that_breaks_off_on_our_side_is_cut_off_and_nothing_is_written_behind_it(
    error: Exception, replica: Replica, machine: Machine
) -> None:
    """A problem document in the middle of a file would fill it up to the length that was announced."""
    case = await announced(replica)
    served = replace(replica, parcels=Failing(readable=3, error=error))
    pull = machine.pull("getMaterial", WWBH=case, CLBM="BIG")
    app = web.Application(middlewares=edge(replica.metrics, error_page(Pages())))
    app.add_routes(callbacks.routes(cast("Inbox", None), served.desk, replica.clock, 1 << 20))
    received = bytearray()

    async def read(response: ClientResponse) -> None:
        async for piece in response.content.iter_chunked(1 << 18):
            received.extend(piece)

    async with TestClient(TestServer(app)) as client, client.post(pull.path, data=pull.body) as response:
        with pytest.raises(ClientError):
            await read(response)
    assert len(received) <= IV + (3 << 20)
    assert b"problem" not in received
    assert {row["reason"] for row in await replica.evidence()} == {"leaving", "interrupted"}


async def test_a_machine_that_hangs_up_is_no_defect_of_ours(replica: Replica, machine: Machine) -> None:
    case = await announced(replica)
    served = replace(replica, parcels=Large())
    pull = machine.pull("getMaterial", WWBH=case, CLBM="BIG")
    async with TestClient(TestServer(door(served))) as client:
        response = await client.post(pull.path, data=pull.body)
        await response.content.read(1)
        response.close()

        async def reasons() -> set[str]:
            return {row["reason"] for row in await replica.evidence()}

        async with asyncio.timeout(10):
            while await reasons() != {"leaving", "interrupted"}:
                await asyncio.sleep(0.01)  # the stream is cut off beside us, and tells nobody


async def test_an_answer_over_http_has_its_type_and_nobody_keeps_it(replica: Replica, machine: Machine) -> None:
    case = await announced(replica)
    pull = machine.pull("getApplyInfo", WWBH=case)
    async with TestClient(TestServer(door(replica))) as client, client.post(pull.path, data=pull.body) as response:
        body = await response.read()
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/xml; charset=GB18030"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Server"] == "pearl"
    assert machine.told(pull, body)[0] == "200"


async def test_only_what_a_region_pulls_with_goes_to_its_desk(replica: Replica) -> None:
    assert replica.desk.serves(REGION, "getApplyInfo")
    asked: Sequence[tuple[str, str]] = ((REGION, "events"), (REGION, "x/getApplyInfo"), ("nowhere", "getApplyInfo"))
    assert not any(replica.desk.serves(*each) for each in asked)
