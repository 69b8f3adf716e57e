"""A clock that is set back by an hour or ahead by a day: what holds all the same.

Nothing is sent twice or lost, nothing is numbered twice, no timeline goes backwards, and nothing is forgotten early.
Time that was wrong may cost time: what waits for a moment that has been moved away waits until it comes.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select

from gateway.crypto.at_rest import References, Sealer
from gateway.crypto.signing import Es256Signer
from gateway.errors import NotAuthenticated
from gateway.identity.records import forget_expired
from gateway.identity.tokens import AccessTokens
from gateway.patient_clock import HELD_BACK, PatientClock
from gateway.storage import Store
from gateway.storage.nonces import spend
from gateway.storage.tables import revoked_tokens, submission_events
from gateway.submissions import queue
from gateway.submissions.stream import Stream
from tests.support.cases import LEASE, REGION, add_delivery, number, said, timeline
from tests.support.clock import ManualClock
from tests.support.intake import Feed, accept, inbox, intake
from tests.unit.test_delivery import RECEIPT, SETTLE, House, Peer, attempted, running
from tests.unit.test_events import Desk
from tests.unit.test_identity_tokens import a_pem, issue
from tests.unit.test_message_delivery import Desk as MessageDesk
from tests.unit.test_message_delivery import all_delivered

HOUR, DAY = 3600.0, 86400.0
JUMPS = pytest.mark.parametrize("seconds", [-HOUR, DAY], ids=["an hour back", "a day ahead"])


@pytest.fixture
def house(sqlite_store: Store, clock: ManualClock) -> House:
    return House(sqlite_store, clock, Peer())


# --- deliveries ----------------------------------------------------------------------------------------------------


async def test_a_lease_becomes_no_shorter_by_a_clock_that_is_set_back(house: House) -> None:
    """Another replica, whose clock is right, would take it for one that ran out an hour ago, and ask at once."""
    house.peer.hold = asyncio.Event()
    delivery_id = await house.add()
    async with running(house.worker(lease=0.15)):
        before = await house.until(delivery_id, lambda row: row["sent_at"] is not None)
        house.clock.advance(-HOUR)
        await asyncio.sleep(0.12)  # real time: two renewals come and go
        assert (await house.row(delivery_id))["lease_until"] >= before["lease_until"]
        house.peer.hold.set()
        row = await house.until(delivery_id, lambda row: row["state"] == "delivered")
    assert row["attempt"] == 1
    assert house.peer.heard == ["submit " + row["submission_id"][-2:]]


async def test_a_worker_whose_clock_is_set_ahead_sends_nothing_beside_itself(house: House) -> None:
    """Its own lease seems to have run out long ago: it takes the row again, and asks once its attempt has ended."""
    house.peer.hold, house.peer.asks = asyncio.Event(), [dict(RECEIPT)]
    delivery_id = await house.add()
    async with running(house.worker(lease=0.15)):
        await house.until(delivery_id, lambda row: row["sent_at"] is not None)
        house.clock.advance(DAY)
        await house.until(delivery_id, lambda row: row["attempt"] == 2)
        await asyncio.sleep(0.1)  # real time: the first attempt hears that it has lost its lease
        assert len(house.peer.heard) == 1
        house.peer.hold.set()
    house.clock.advance(SETTLE + 1)
    assert (await attempted(house, delivery_id))["state"] == "delivered"
    assert [word.split()[0] for word in house.peer.heard] == ["submit", "ask"]


async def test_what_a_dead_worker_held_is_not_taken_early_and_never_without_a_question(
    sqlite_store: Store, clock: ManualClock
) -> None:
    def claimed(tx: Any) -> list[queue.Claim]:
        return queue.claim(tx, region=REGION, owner="b", limit=9, now=clock(), lease=LEASE)

    await sqlite_store.write(lambda tx: add_delivery(tx, number(1, clock()), clock()))
    await sqlite_store.write(lambda tx: queue.claim(tx, region=REGION, owner="a", limit=9, now=clock(), lease=LEASE))
    clock.advance(-HOUR)
    assert await sqlite_store.write(claimed) == []
    clock.advance(DAY)
    [found] = await sqlite_store.write(claimed)
    assert found.doubtful


@JUMPS
async def test_what_waits_for_its_time_goes_out_once(house: House, seconds: float) -> None:
    """Set back, it waits until the clock has come so far again; nothing is thrown away for being too old."""
    delivery_id = await house.add(due=house.clock() + timedelta(seconds=10))
    house.clock.advance(seconds)
    if seconds < 0:
        async with running(house.worker()):
            await asyncio.sleep(0.03)  # real time: some looks at the queue
        assert house.peer.heard == []
        house.clock.advance(-seconds + 11)
    assert (await attempted(house, delivery_id))["state"] == "delivered"
    assert len(house.peer.heard) == 1


async def test_messages_leave_in_the_order_in_which_they_were_said(sqlite_store: Store, sealer: Sealer) -> None:
    """A withdrawal that is dated before the supplement must not overtake it."""
    desk = MessageDesk(sqlite_store, sealer, ManualClock())
    await desk.open()
    await desk.say("supplement", complete=True)
    desk.clock.advance(-HOUR)
    await desk.say("withdrawal", reason="搬家")
    desk.clock.advance(HOUR)
    await desk.until(all_delivered)
    assert desk.peer.heard == ["submit", "supplement", "withdrawal"]


# --- what comes in -------------------------------------------------------------------------------------------------


@JUMPS
async def test_the_same_application_stays_the_same_and_no_number_is_given_twice(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock, seconds: float
) -> None:
    """The business key knows no time; the day's sequence goes on where it was, whichever day comes again."""
    door = intake(sqlite_store, sealer, references, clock)
    first = await accept(door, "A-1")
    clock.advance(seconds)
    again, second = await accept(door, "A-1"), await accept(door, "A-2")
    clock.advance(-seconds)
    third = await accept(door, "A-3")
    assert (again.submission_id, again.replayed) == (first.submission_id, True)
    assert len({receipt.submission_id for receipt in (first, second, third)}) == 3


@JUMPS
async def test_a_feed_goes_on_where_it_was(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock, seconds: float
) -> None:
    """The cursor is the region's; whoever holds it goes on, and nobody else takes it early."""
    case = number(1, clock())
    await sqlite_store.write(lambda tx: add_delivery(tx, case, clock(), state="delivered", due=None))
    words = ("RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED")
    feed = Feed([said(case, f"e{n}", word, clock()) for n, word in enumerate(words)], page=2)
    ours = inbox(sqlite_store, sealer, clock, feed=feed)
    [region] = ours._regions.values()
    assert await ours.poll(region) == 4
    clock.advance(seconds)
    if seconds < 0:
        other = inbox(sqlite_store, sealer, clock, feed=feed)
        assert await other.poll(region) == 0
    assert await ours.poll(region) == 0
    assert [state for _, state in await sqlite_store.read(lambda tx: timeline(tx, case))][1:] == list(words)


# --- timelines -----------------------------------------------------------------------------------------------------


@JUMPS
async def test_a_timeline_never_goes_backwards(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock, seconds: float
) -> None:
    """Steps and facts, before the jump, after it, and when the clock is right again; none is refused as too early."""
    desk = Desk(sqlite_store, sealer, clock)
    await desk.open()
    await desk.hear("e1", "RECEIVED")
    clock.advance(seconds)
    await desk.hear("e2", "ACCEPTED", max(-seconds, 0))  # by the region's clock, which is right
    await sqlite_store.write(lambda tx: desk.log.note(tx, desk.case, "clock.due_soon", clock(), {}))
    clock.advance(-seconds)
    await desk.hear("e3", "DECIDED", 1)
    c = submission_events.c
    recorded = await sqlite_store.read(lambda tx: tx.execute(select(c.recorded_at).order_by(c.seq)).scalars().all())
    assert list(recorded) == sorted(recorded)
    assert await desk.conflicts() == []


@JUMPS
async def test_a_reader_of_the_stream_misses_nothing(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock, seconds: float
) -> None:
    """Places in the stream are numbers and no times."""
    desk, stream = Desk(sqlite_store, sealer, clock), Stream(sqlite_store, sealer)
    await desk.open()
    await sqlite_store.write(lambda tx: tx.execute(delete(submission_events)).rowcount)  # it holds no real seal
    seen: list[str] = []
    cursor = ""
    for event_id, word in (("e1", "RECEIVED"), ("e2", "ACCEPTED"), ("e3", "DECIDED")):
        await desk.hear(event_id, word)
        await stream.place()
        page = await stream.page("agency", cursor)
        seen, cursor = [*seen, *(event["state"] for event in page.events)], page.next
        clock.advance(seconds)
    assert seen == ["RECEIVED", "ACCEPTED", "DECIDED"]


# --- tokens, and forgetting ----------------------------------------------------------------------------------------


def test_a_token_ends_at_its_time_whatever_the_clock_was_meanwhile(clock: ManualClock) -> None:
    tokens = AccessTokens("https://gateway.test", Es256Signer([a_pem()]), clock, timedelta(minutes=10))
    token = issue(tokens)
    clock.advance(-HOUR)
    assert tokens.verify(token)
    clock.advance(DAY)
    with pytest.raises(NotAuthenticated, match="expired"):
        tokens.verify(token)
    clock.advance(HOUR - DAY)
    assert tokens.verify(token)
    clock.advance(600)
    with pytest.raises(NotAuthenticated, match="expired"):
        tokens.verify(token)


class Ticks:
    """A monotonic clock that the test winds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_nothing_is_forgotten_early_by_a_clock_that_has_jumped_ahead(
    sqlite_store: Store, clock: ManualClock
) -> None:
    """A revoked token would be good again, and a nonce could be used once more, as soon as the clock is right."""
    ticks = Ticks()
    patient = PatientClock(clock, ticks)
    soon = clock() + timedelta(minutes=5)

    def revoke(tx: Any) -> None:
        assert spend(tx, "callback:foshan", "n-1", soon)
        tx.execute(revoked_tokens.insert().values(token_id="t-1", expires_at=soon))

    await sqlite_store.write(revoke)
    clock.advance(DAY)
    ticks.seconds += 60
    assert await sqlite_store.write(lambda tx: forget_expired(tx, patient())) == 0
    clock.advance(60 - DAY)
    ticks.seconds += 60
    assert await sqlite_store.write(lambda tx: spend(tx, "callback:foshan", "n-1", soon)) is False
    clock.advance(900)
    ticks.seconds += 900
    assert await sqlite_store.write(lambda tx: forget_expired(tx, patient())) == 2


def test_a_patient_clock_believes_what_lasts(clock: ManualClock) -> None:
    """It may have been the former time that was wrong: then all is forgotten a day later than it could be."""
    ticks = Ticks()
    patient, begun = PatientClock(clock, ticks), clock()
    clock.advance(DAY)
    for _ in range(3):
        ticks.seconds += 60
        clock.advance(60)
    assert patient() == begun + timedelta(seconds=180)
    ticks.seconds += HELD_BACK.total_seconds()
    clock.advance(HELD_BACK.total_seconds())
    assert patient() == clock()
    clock.advance(-HOUR)
    assert patient() == clock(), "a clock that is set back only forgets later"
