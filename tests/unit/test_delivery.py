"""What one attempt means: every way a region can answer, or not answer, and what the row says afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from gateway.crypto.at_rest import Sealer
from gateway.domain.region import RegionNames, place_of
from gateway.errors import (
    FieldProblem,
    GatewayError,
    MappingFailed,
    RegionRefused,
    RegionResting,
    RegionUncertain,
    RegionUnreachable,
    Unavailable,
)
from gateway.lines import Line, guard
from gateway.mapping.library import PackSet
from gateway.mapping.packs import Pack
from gateway.ports import Adapter, RegionDocument, SubmissionOrder
from gateway.regions import Region, RegionLimits
from gateway.storage import Store
from gateway.storage.tables import deliveries, evidence, submissions
from gateway.submissions import queue
from gateway.submissions.attempt import Attempts
from gateway.submissions.delivery import DeliveryWorker, Timing
from gateway.submissions.events import EventLog
from gateway.submissions.parcels import Parcel
from gateway.submissions.retry import RetryPolicy
from gateway.telemetry import Metrics
from gateway.versions import UNPINNED
from tests.support.cases import REGION, add_delivery, delivery, number, timeline
from tests.support.clock import ManualClock

SETTLE = 30.0
RECEIPT = {"number": "FS000000000001", "received_at": "2026-03-02T02:00:00Z"}


@dataclass
class Peer:
    """A region that answers as it is told: a receipt, None, or an error to raise; the last answer repeats."""

    sends: list[Any] = field(default_factory=lambda: [dict(RECEIPT)])
    asks: list[Any] = field(default_factory=lambda: [None])
    heard: list[str] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        self.heard.append(f"submit {order.submission_id[-2:]}")
        if self.hold is not None:
            await self.hold.wait()
        answer = _next(self.sends)
        assert answer is not None
        return {**answer, "submission_id": order.submission_id}

    async def ask(self, submission_id: str) -> RegionDocument | None:
        self.heard.append(f"ask {submission_id[-2:]}")
        answer = _next(self.asks)
        return None if answer is None else {**answer, "submission_id": submission_id}


def _next(answers: list[Any]) -> Mapping[str, Any] | None:
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    if isinstance(answer, Exception):
        raise answer
    return answer  # type: ignore[no-any-return] # the test put it there


@dataclass
class Said:
    """A pack that changes nothing, or refuses: it reads a receipt by this name of its number."""

    number: str = "number"
    version: str = "0" * 64

    def to_canonical(self, document: RegionDocument) -> Any:
        if isinstance(document, dict) and self.number in document:
            return {**document, "number": document[self.number]}
        raise MappingFailed("unreadable", problems=[FieldProblem("AcceptNo", "is missing")])


def sets(version: str, pack: Said) -> PackSet:
    """Return a region's mappings that hold nothing but how receipts are read."""
    return PackSet(REGION, version, cast("Mapping[str, Pack]", {"receipt": pack}))


IN_USE = sets("0" * 64, Said())


@dataclass
class Packed:
    """Packs nothing: what is sent is not the question here, but with which version it is."""

    versions: list[str] = field(default_factory=list)

    async def pack(self, submission_id: str, packs: PackSet) -> Parcel:
        self.versions.append(packs.version)
        return Parcel(submission_id, {}, (), packs.version)


class Failing:
    """A store that is away just when the region's receipt is to be written down."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failed = False

    async def write(self, unit: Any) -> Any:
        if not self._failed and "_settle_delivered" in getattr(unit, "__qualname__", ""):
            self._failed = True
            raise Unavailable("The gateway's store does not answer.")
        return await self._store.write(unit)

    async def read(self, unit: Any) -> Any:
        return await self._store.read(unit)


@dataclass
class House:
    """A worker with its store, its clock and the region it talks to."""

    store: Any
    clock: ManualClock
    peer: Peer
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))
    steps: list[str] = field(default_factory=list)
    packed: Packed = field(default_factory=Packed)
    in_use: PackSet = field(default_factory=lambda: IN_USE)
    kept: dict[str, PackSet] = field(default_factory=dict)

    async def pinned(self, _region: Region, version: str) -> PackSet:
        return self.kept.get(version, self.in_use)

    def worker(self, *, attempts: int = 12, lease: float = 60, failures: int = 50) -> DeliveryWorker:
        line = Line(REGION, self.metrics, concurrency=8, per_second=1000, failures=failures, rest_seconds=60)
        region = Region(
            id=REGION,
            place=place_of("440600"),
            names=RegionNames("佛山市", "佛山市", "Foshan", "Foshan"),
            limits=RegionLimits(concurrency=4, requests_per_second=1000, timeout_seconds=2, settle_seconds=SETTLE),
            assurance={},
            certificate_words={},
            adapter=guard(line, Adapter(submissions=self.peer)),
            packs=self.in_use,
        )
        made = Attempts(
            store=self.store,
            parcels=self.packed,  # type: ignore[arg-type] # stands for the packer
            pinned=self.pinned,
            events=EventLog(Sealer(b"k" * 32)),
            retry=RetryPolicy(attempts, timedelta(seconds=1), timedelta(seconds=600)),
            clock=self.clock,
            metrics=self.metrics,
            observe=lambda step, _claim: self.steps.append(step),
        )
        return DeliveryWorker(
            store=self.store,
            regions={REGION: region},
            lines={REGION: line},
            attempts=made,
            timing=Timing(timedelta(seconds=lease), timedelta(milliseconds=5), timedelta(seconds=2)),
            clock=self.clock,
        )

    async def add(self, **columns: Any) -> str:
        now = self.clock()
        return str(await self.store.write(lambda tx: add_delivery(tx, number(1, now), now, **columns)))

    async def row(self, delivery_id: str) -> Mapping[str, Any]:
        return dict(await self.store.read(lambda tx: delivery(tx, delivery_id)))

    async def until(self, delivery_id: str, met: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
        """Wait for the row to be as asked; a worker at work tells nobody when it is done."""
        async with asyncio.timeout(10):
            while not met(row := await self.row(delivery_id)):
                await asyncio.sleep(0.005)
        return row


@pytest.fixture
def house(sqlite_store: Store, clock: ManualClock) -> House:
    return House(sqlite_store, clock, Peer())


@asynccontextmanager
async def running(worker: DeliveryWorker) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await task


async def attempted(house: House, delivery_id: str, **options: Any) -> Mapping[str, Any]:
    """Let a worker make one attempt, and return the row that it left."""
    house.steps.clear()
    before = await house.row(delivery_id)
    async with running(house.worker(**options)):
        return await house.until(delivery_id, lambda row: row["owner"] is None and row != before)


async def test_a_receipt_settles_the_delivery_and_moves_the_case(house: House) -> None:
    delivery_id = await house.add()
    row = await attempted(house, delivery_id)
    assert (row["state"], row["attempt"], row["last_code"]) == ("delivered", 1, "ok")
    assert house.peer.heard == ["submit " + row["submission_id"][-2:]]
    assert house.steps == ["claimed", "sending", "answered", "settling", "settled"]
    assert await house.store.read(lambda tx: timeline(tx, row["submission_id"])) == [(1, "COLLECTED"), (2, "FORWARDED")]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RegionUnreachable("gone"), "pending"),
        (RegionUncertain("lost"), "in_doubt"),
        (RegionRefused("no"), "dead"),
        (RuntimeError("a bug of ours"), "in_doubt"),
    ],
)
async def test_what_is_known_of_the_outcome_decides_the_next_step(house: House, error: Exception, state: str) -> None:
    """Not taken: send again. Unknown, a bug of ours included: ask first. A definite no: a person."""
    house.peer.sends = [error]
    row = await attempted(house, await house.add())
    assert row["state"] == state
    assert row["lease_until"] is None


async def test_a_receipt_that_cannot_be_read_leaves_the_delivery_in_doubt(house: House) -> None:
    """Garbage is no receipt: the region may hold the case, so it is asked, and the submission stays intact."""
    house.peer.sends = [{"garbage": True}]
    assert (await attempted(house, await house.add()))["state"] == "in_doubt"


async def test_a_delivery_in_doubt_is_asked_about_and_not_sent_when_the_region_has_it(house: House) -> None:
    house.peer.asks = [dict(RECEIPT)]
    row = await attempted(house, await house.add(state="in_doubt", attempt=1))
    assert row["state"] == "delivered"
    assert [word.split()[0] for word in house.peer.heard] == ["ask"]


async def test_a_delivery_in_doubt_is_sent_when_the_region_certainly_has_it_not(house: House) -> None:
    row = await attempted(house, await house.add(state="in_doubt", attempt=1))
    assert row["state"] == "delivered"
    assert [word.split()[0] for word in house.peer.heard] == ["ask", "submit"]


@pytest.mark.parametrize("error", [RegionUnreachable("gone"), RegionUncertain("lost")])
async def test_a_question_without_an_answer_leaves_the_doubt_and_sends_nothing(
    house: House, error: GatewayError
) -> None:
    house.peer.asks = [error]
    row = await attempted(house, await house.add(state="in_doubt", attempt=1))
    assert row["state"] == "in_doubt"
    assert [word.split()[0] for word in house.peer.heard] == ["ask"]


async def test_a_dead_workers_region_is_not_asked_before_it_can_have_settled(house: House) -> None:
    """Right after a death the region may still be at work: its "unknown here" would lead to a duplicate."""
    gone = house.clock()
    delivery_id = await house.add(state="sending", owner="dead", attempt=1, failures=1, lease_until=gone, sent_at=gone)
    house.clock.advance(SETTLE - 1)
    row = await attempted(house, delivery_id)
    assert (row["state"], row["last_code"]) == ("in_doubt", "region.settling")
    assert row["failures"] == 2, "the death is counted, and waiting is not"
    assert row["due"] >= gone + timedelta(seconds=SETTLE)
    assert house.peer.heard == []


async def test_an_uncertain_outcome_is_not_due_before_the_region_can_have_settled(house: House) -> None:
    house.peer.sends = [RegionUncertain("lost")]
    row = await attempted(house, await house.add())
    assert row["due"] >= house.clock() + timedelta(seconds=SETTLE)


async def test_the_last_attempt_ends_in_the_hands_of_a_person(house: House) -> None:
    house.peer.sends = [RegionUncertain("lost")]
    row = await attempted(house, await house.add(attempt=7, failures=2), attempts=3)
    assert (row["state"], row["due"]) == ("dead", None)
    events = await house.store.read(lambda tx: timeline(tx, row["submission_id"]))
    assert events[-1] == (2, "DELIVERY_FAILED")


async def test_a_worker_that_always_dies_on_a_case_gives_it_to_a_person(house: House) -> None:
    """A case that kills its worker must not do so for ever; each death is counted when the row is claimed."""
    gone = house.clock()
    delivery_id = await house.add(state="sending", owner="dead", attempt=9, failures=2, lease_until=gone, sent_at=gone)
    house.clock.advance(SETTLE + 1)
    house.peer.asks = [RegionUncertain("lost")]
    row = await attempted(house, delivery_id, attempts=3)
    assert row["state"] == "dead"


async def test_a_resting_breaker_costs_no_attempt(house: House) -> None:
    """Else an outage of an hour would send every case to the dead letters."""
    house.peer.sends = [RegionResting("left alone")]
    row = await attempted(house, await house.add(failures=3))
    assert (row["state"], row["failures"]) == ("pending", 3)


async def test_a_case_that_waited_for_other_reasons_is_given_as_long_as_a_new_one(house: House) -> None:
    """A week of maintenance, or in the dead letters, is not a week in which its region could not be reached."""
    old = house.clock() - timedelta(days=7)
    house.peer.sends = [RegionUnreachable("gone")]
    row = await attempted(house, await house.add(created_at=old, tried_since=house.clock()))
    assert row["state"] == "pending"


async def test_a_receipt_that_cannot_be_written_down_is_asked_for_again(house: House) -> None:
    """The region said yes and our store failed: the next attempt asks, and never sends a twin."""
    delivery_id = await house.add()
    house.store = Failing(house.store)
    row = await attempted(house, delivery_id)
    assert (row["state"], row["last_code"]) == ("in_doubt", "delivery.unwritten")


async def test_a_refused_question_says_nothing_about_the_case(house: House) -> None:
    """Taken for a refusal of the case, it would tell the clerk to file again: two cases."""
    house.peer.asks = [RegionRefused("you may not ask")]
    row = await attempted(house, await house.add(state="in_doubt", attempt=1))
    assert (row["state"], row["last_code"]) == ("in_doubt", "region.mute")


async def test_every_attempt_is_evidence_with_its_times(house: House) -> None:
    house.peer.sends = [RegionUnreachable("gone"), dict(RECEIPT)]
    delivery_id = await house.add()
    await attempted(house, delivery_id)
    house.clock.advance(3600)
    await attempted(house, delivery_id)
    rows = await house.store.read(lambda tx: tx.execute(select(evidence).order_by(evidence.c.outcome)).mappings().all())
    told = {(row["action"], row["reason"]): row for row in rows}
    assert told.keys() == {
        ("submission.send", "leaving"),
        ("submission.deliver", "sent"),
        ("submission.deliver", "region.unreachable"),
    }
    delivered = told["submission.deliver", "sent"]
    assert delivered["forwarded_at"] is not None
    assert delivered["answered_at"] is not None
    assert delivered["parts"].keys() == {"receipt"}
    assert told["submission.send", "leaving"]["parts"].keys() == {"document"}, "what left is digested before it leaves"


async def test_a_worker_keeps_its_lease_for_as_long_as_the_region_needs(store: Store, clock: ManualClock) -> None:
    """A large file takes longer than any lease; another replica must not take the case meanwhile and send a twin."""
    house = House(store, clock, Peer(hold=asyncio.Event()))
    delivery_id = await house.add()
    async with running(house.worker(lease=0.15)), running(house.worker(lease=0.15)):
        await house.until(delivery_id, lambda row: row["sent_at"] is not None)
        for _ in range(4):  # the clock runs on while the first worker holds the region's line
            kept = (await house.row(delivery_id))["lease_until"]
            clock.advance(0.1)
            await house.until(delivery_id, lambda row, kept=kept: row["lease_until"] > kept)  # type: ignore[misc] # bound as a default
        assert house.peer.hold is not None
        house.peer.hold.set()
        row = await house.until(delivery_id, lambda row: row["state"] == "delivered")
    assert row["attempt"] == 1
    assert [word.split()[0] for word in house.peer.heard] == ["submit"]


async def test_a_worker_that_lost_its_lease_writes_nothing(house: House) -> None:
    """Fenced by owner and attempt: whoever took over decides."""
    house.peer.hold = asyncio.Event()
    delivery_id = await house.add()
    async with running(house.worker()):
        await house.until(delivery_id, lambda row: row["sent_at"] is not None)
        await _take_over(house, delivery_id)
        house.peer.hold.set()
        await house.until(delivery_id, lambda _row: "settled" in house.steps)
    row = await house.row(delivery_id)
    assert (row["owner"], row["attempt"], row["state"]) == ("another", 2, "sending")
    assert await house.store.read(lambda tx: timeline(tx, row["submission_id"])) == [(1, "COLLECTED")]


async def _take_over(house: House, delivery_id: str) -> None:
    taken = deliveries.update().where(deliveries.c.id == delivery_id).values(owner="another", attempt=2)
    await house.store.write(lambda tx: tx.execute(taken))


async def test_a_stopped_worker_lets_attempts_under_way_finish(house: House) -> None:
    house.peer.hold = asyncio.Event()
    delivery_id = await house.add()
    worker = house.worker()
    task = asyncio.create_task(worker.run())
    await house.until(delivery_id, lambda row: row["sent_at"] is not None)
    worker.stop()
    await asyncio.sleep(0)
    house.peer.hold.set()
    await task
    assert (await house.row(delivery_id))["state"] == "delivered"


# --- the version that a case is pinned to --------------------------------------------------------------------------

OLD = "1" * 64
NEW_RECEIPT = {"no": "FS000000000001", "received_at": "2026-03-02T02:00:00Z"}


async def pinned_case(house: House, version: str, **columns: Any) -> str:
    """Add a delivery whose case began with this version."""
    delivery_id = await house.add(**columns)
    await house.store.write(lambda tx: queue.pin(tx, delivery_id.removeprefix("DL"), version))
    return delivery_id


async def pin_of(house: House, delivery_id: str) -> str:
    query = select(submissions.c.mapping_version).where(submissions.c.id == delivery_id.removeprefix("DL"))
    return str(await house.store.read(lambda tx: tx.execute(query).scalar_one()))


async def test_a_case_goes_out_and_its_receipt_is_read_as_it_began(house: House) -> None:
    """Whatever was loaded since: the region may take the old form of cases that it was told of in the old form."""
    house.in_use, house.kept = sets("2" * 64, Said("no")), {OLD: sets(OLD, Said("number"))}
    delivery_id = await pinned_case(house, OLD)
    assert (await attempted(house, delivery_id))["state"] == "delivered"
    assert house.packed.versions == [OLD]
    assert await pin_of(house, delivery_id) == OLD


async def test_a_receipt_in_the_new_form_for_a_case_in_the_old_one_is_read_too(house: House) -> None:
    """Left in doubt for ever, the case would end with a person although the region has it."""
    house.in_use, house.kept = sets("2" * 64, Said("no")), {OLD: sets(OLD, Said("number"))}
    house.peer.sends = [dict(NEW_RECEIPT)]
    assert (await attempted(house, await pinned_case(house, OLD)))["state"] == "delivered"


async def test_a_receipt_that_no_version_reads_leaves_the_delivery_in_doubt(house: House) -> None:
    house.in_use, house.kept = sets("2" * 64, Said("no")), {OLD: sets(OLD, Said("number"))}
    house.peer.sends = [{"garbage": True}]
    assert (await attempted(house, await pinned_case(house, OLD)))["state"] == "in_doubt"


async def test_a_receipt_that_is_asked_for_is_read_as_the_case_began(house: House) -> None:
    house.in_use, house.kept = sets("2" * 64, Said("no")), {OLD: sets(OLD, Said("number"))}
    house.peer.asks = [dict(RECEIPT)]
    row = await attempted(house, await pinned_case(house, OLD, state="in_doubt", attempt=1))
    assert (row["state"], house.packed.versions) == ("delivered", [])


@pytest.mark.parametrize("version", [UNPINNED, "f" * 64], ids=["pinned to nothing", "pinned to what is on no record"])
async def test_what_leaves_is_what_the_case_is_pinned_to(house: House, version: str) -> None:
    """Its receipt may be asked for after the next reload."""
    delivery_id = await pinned_case(house, version)
    await attempted(house, delivery_id)
    assert house.packed.versions == [IN_USE.version]
    assert await pin_of(house, delivery_id) == IN_USE.version


@pytest.mark.parametrize(
    ("code", "pin"),
    [
        ("region.refused", UNPINNED),
        ("mapping.failed", UNPINNED),
        ("region.uncertain", OLD),
        ("region.unreachable", OLD),
    ],
)
async def test_a_dead_case_that_is_not_at_its_region_is_tried_again_with_what_is_in_use(
    house: House, code: str, pin: str
) -> None:
    """The old mapping may be why the region said no. A case that the region may have keeps the form it is there in."""
    delivery_id = await pinned_case(house, OLD, state="dead", due=None, last_code=code)
    assert await house.store.write(lambda tx: queue.revive(tx, delivery_id, house.clock()))
    assert await pin_of(house, delivery_id) == pin
