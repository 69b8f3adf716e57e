"""Messages about a case: none before the region has the case, one after another, each once in effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.region import RegionNames, place_of
from gateway.errors import Conflict, RegionCannotBeAsked, RegionRefused, RegionUncertain, RegionUnreachable
from gateway.lines import Line, guard
from gateway.mapping.library import PackSet
from gateway.ports import Adapter, CaseMessage, RegionDocument, SubmissionOrder
from gateway.regions import Region, RegionLimits
from gateway.storage import Store
from gateway.storage.tables import deliveries, submission_events, submissions
from gateway.submissions import messages, queue
from gateway.submissions.attempt import Attempts
from gateway.submissions.borders import Borders
from gateway.submissions.delivery import DeliveryWorker, Timing
from gateway.submissions.events import EventLog
from gateway.submissions.messages import Message, Queued, enqueue
from gateway.submissions.parcels import Parcels, seal_body
from gateway.submissions.retry import RetryPolicy
from gateway.submissions.story import locked
from gateway.telemetry import Metrics
from tests.support.cases import REGION, add_delivery, number
from tests.support.clock import ManualClock


class Same:
    """A pack that changes nothing."""

    version = "0" * 64

    def to_region(self, document: Any) -> RegionDocument:
        return dict(document)

    def to_canonical(self, document: Any) -> Any:
        return dict(document)


@dataclass
class Peer:
    """A region that takes cases and messages; `trouble` is raised by the next sends, one after another."""

    kinds: frozenset[str] = frozenset({"supplement", "withdrawal", "rating"})
    trouble: list[Exception] = field(default_factory=list)
    held: Any = True
    heard: list[str] = field(default_factory=list)
    documents: list[Any] = field(default_factory=list)

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        self.heard.append("submit")
        return {"submission_id": order.submission_id, "number": "FS-1", "received_at": "2026-03-02T02:00:00Z"}

    async def ask(self, submission_id: str) -> RegionDocument | None:
        self.heard.append("ask")
        return {"submission_id": submission_id, "number": "FS-1", "received_at": "2026-03-02T02:00:00Z"}

    async def send(self, message: CaseMessage) -> None:
        self.heard.append(message.kind)
        self.documents.append(message)
        if self.trouble:
            raise self.trouble.pop(0)

    async def holds(self, message: CaseMessage) -> bool:
        self.heard.append(f"holds {message.kind}")
        if isinstance(self.held, Exception):
            raise self.held
        return bool(self.held)


class Desk:
    """One case, its region, and a worker between them."""

    def __init__(self, store: Store, sealer: Sealer, clock: ManualClock) -> None:
        self.store, self.sealer, self.clock, self.peer = store, sealer, clock, Peer()
        self.case = number(1, clock())
        self.events = EventLog(sealer)

    async def open(self) -> None:
        await self.store.write(lambda tx: add_delivery(tx, self.case, self.clock(), client_id="agency"))
        body = update(submissions).values(body=seal_body(self.sealer, self.case, {"id": self.case}))
        await self.store.write(lambda tx: tx.execute(body).rowcount)

    async def say(self, kind: str, reference: str = "1", **body: Any) -> Queued:
        message = Message(self.case, "agency", REGION, kind, reference, repr(body), body)

        def unit(tx: Any) -> Queued:
            locked(tx, self.case)
            return enqueue(tx, self.sealer, message, self.clock())

        self.clock.advance(0.001)
        return await self.store.write(unit)

    def worker(self) -> DeliveryWorker:
        metrics = Metrics(CollectorRegistry())
        line = Line(REGION, metrics, concurrency=8, per_second=1000, failures=50, rest_seconds=60)
        same = cast("Any", dict.fromkeys(("submission", "receipt", *self.peer.kinds), Same()))
        packs = PackSet(REGION, "0" * 64, same)
        region = Region(
            REGION, place_of("440600"), RegionNames("佛山市", "佛山市", "Foshan", "Foshan"),
            RegionLimits(concurrency=4, requests_per_second=1000, timeout_seconds=2, settle_seconds=0),
            {}, {}, guard(line, Adapter(submissions=self.peer, messages=self.peer)), packs,
        )  # fmt: skip

        async def pinned(_region: Region, _version: str) -> PackSet:
            return packs

        attempts = Attempts(
            store=self.store, parcels=Parcels(self.store, self.sealer, cast("Any", None), Borders((), self.clock)),
            pinned=pinned, events=self.events, retry=RetryPolicy(12, timedelta(seconds=1), timedelta(seconds=2)),
            clock=self.clock, metrics=metrics,
        )  # fmt: skip
        timing = Timing(timedelta(seconds=60), timedelta(milliseconds=5), timedelta(seconds=2))
        return DeliveryWorker(
            store=self.store, regions={REGION: region}, lines={REGION: line}, attempts=attempts, timing=timing,
            clock=self.clock,
        )  # fmt: skip

    async def until(self, met: Callable[[list[str]], bool]) -> list[str]:
        """Let a worker run until the states of the deliveries, oldest first, are as asked."""
        worker = self.worker()
        task = asyncio.create_task(worker.run())
        c = deliveries.c
        try:
            async with asyncio.timeout(10):
                while True:
                    query = select(c.state).order_by(c.created_at)
                    states = list(await self.store.read(lambda tx: tx.execute(query).scalars().all()))  # noqa: B023 - read at once
                    if met(states):
                        return states
                    self.clock.advance(1)  # back-off passes
                    await asyncio.sleep(0.005)  # a worker at work tells nobody
        finally:
            worker.stop()
            await task

    async def timeline(self) -> list[str]:
        c = submission_events.c
        query = select(c.kind, c.state).order_by(c.seq)
        rows = await self.store.read(lambda tx: tx.execute(query).all())
        return [row.state if row.kind == "step" else row.kind for row in rows]


@pytest.fixture
async def desk(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> Desk:
    desk = Desk(sqlite_store, sealer, clock)
    await desk.open()
    return desk


def all_delivered(states: list[str]) -> bool:
    return set(states) == {"delivered"}


async def test_messages_follow_the_case_in_their_order_and_carry_the_regions_number(desk: Desk) -> None:
    """They may be said before the region has the case; they leave when it has."""
    await desk.say("supplement", complete=True)
    await desk.say("withdrawal", reason="搬家")
    await desk.until(all_delivered)
    assert desk.peer.heard == ["submit", "supplement", "withdrawal"]
    assert [(m.number, m.document["number"]) for m in desk.peer.documents] == [("FS-1", "FS-1")] * 2
    assert await desk.timeline() == ["COLLECTED", "FORWARDED", "SUPPLEMENTED", "message.delivered"]


async def test_a_message_whose_answer_was_lost_is_asked_after_before_it_is_sent_again(desk: Desk) -> None:
    desk.peer.trouble = [RegionUncertain("lost")]
    await desk.say("rating", score=5)
    await desk.until(all_delivered)
    assert desk.peer.heard == ["submit", "rating", "holds rating"]


async def test_a_message_that_the_region_does_not_hold_is_sent_again_under_the_same_id(desk: Desk) -> None:
    desk.peer.trouble, desk.peer.held = [RegionUncertain("lost")], False
    await desk.say("rating", score=5)
    await desk.until(all_delivered)
    assert desk.peer.heard == ["submit", "rating", "holds rating", "rating"]
    assert len({message.message_id for message in desk.peer.documents}) == 1


async def test_a_message_in_doubt_at_a_region_that_cannot_be_asked_waits_for_a_person(desk: Desk) -> None:
    desk.peer.trouble, desk.peer.held = [RegionUncertain("lost")], RegionCannotBeAsked("no such question")
    await desk.say("rating", score=5)
    assert await desk.until(lambda states: "dead" in states) == ["delivered", "dead"]
    assert desk.peer.heard == ["submit", "rating", "holds rating"], "it is never sent twice"
    assert (await desk.timeline())[-1] == "message.failed"


async def test_a_message_that_the_region_refuses_does_not_hold_up_the_next(desk: Desk) -> None:
    desk.peer.trouble = [RegionRefused("decided already")]
    await desk.say("withdrawal", reason="搬家")
    await desk.say("rating", score=1)
    assert await desk.until(lambda s: "pending" not in s and "sending" not in s) == ["delivered", "dead", "delivered"]


async def test_a_message_waits_for_a_region_that_is_away(desk: Desk) -> None:
    desk.peer.trouble = [RegionUnreachable("away"), RegionUnreachable("away")]
    await desk.say("rating", score=5)
    await desk.until(all_delivered)
    assert desk.peer.heard == ["submit", "rating", "rating", "rating"]


async def test_a_message_from_a_replica_whose_clock_is_behind_waits_for_the_one_that_is_under_way(desk: Desk) -> None:
    """It was said later and looks older: two at once could arrive in either order."""
    await desk.until(all_delivered)
    await desk.say("supplement", complete=True)
    [first] = await desk.store.write(
        lambda tx: queue.claim(tx, region=REGION, owner="w", limit=9, now=desk.clock(), lease=timedelta(seconds=60))
    )
    desk.clock.advance(-1)
    await desk.say("withdrawal", reason="搬家")
    c = deliveries.c
    due = select(c.due).where(c.kind == "withdrawal")
    assert await desk.store.read(lambda tx: tx.execute(due).scalar_one()) is None
    assert first.kind == "supplement"


async def test_a_kind_that_the_wire_does_not_carry_is_for_a_person(desk: Desk) -> None:
    await desk.say("complaint", text="慢")
    assert await desk.until(lambda states: "dead" in states) == ["delivered", "dead"]
    assert desk.peer.heard == ["submit"]


async def test_of_one_case_only_so_much_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MOST", 2)
    for reference in ("1", "2"):
        first = await desk.say("complaint", reference, text="慢")
    with pytest.raises(Conflict) as refused:
        await desk.say("complaint", "3", text="慢")
    assert refused.value.stable_code == "submission.too_many_messages"
    assert (await desk.say("complaint", "2", text="慢")).message_id == first.message_id, "what is on record is"


async def test_the_same_message_again_is_the_same_and_another_under_its_reference_is_a_conflict(desk: Desk) -> None:
    first = await desk.say("rating", "r-1", score=5)
    assert await desk.say("rating", "r-1", score=5) == Queued(first.message_id, replayed=True)
    with pytest.raises(Conflict, match="already stands for message"):
        await desk.say("rating", "r-1", score=1)
    await desk.until(all_delivered)
    assert desk.peer.heard == ["submit", "rating"]
