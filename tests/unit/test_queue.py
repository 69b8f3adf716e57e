"""The queue's row: who may take it, who may settle it, and what an operator sees of it.

On SQLite; contention between replicas is in `tests/conformance/test_stores.py`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.storage import Store
from gateway.submissions import queue
from gateway.submissions.queue import Claim
from tests.support.cases import LEASE, REGION, add_delivery, delivery, number
from tests.support.clock import ManualClock

pytestmark = pytest.mark.usefixtures("unblocked")


async def add(store: Store, clock: ManualClock, sequence: int = 1, **columns: Any) -> str:
    now = clock()
    return await store.write(lambda tx: add_delivery(tx, number(sequence, now), now, **columns))


async def take(
    store: Store, clock: ManualClock, owner: str = "a", limit: int = 10, region: str = REGION
) -> list[Claim]:
    now = clock()
    return await store.write(
        lambda tx: queue.claim(tx, region=region, owner=owner, limit=limit, now=now, lease=LEASE)
    )  # fmt: skip


async def test_a_due_delivery_is_claimed_and_its_row_says_by_whom(sqlite_store: Store, clock: ManualClock) -> None:
    delivery_id = await add(sqlite_store, clock)
    [claimed] = await take(sqlite_store, clock)
    assert (claimed.delivery_id, claimed.attempt, claimed.doubtful) == (delivery_id, 1, False)
    row = await sqlite_store.read(lambda tx: delivery(tx, delivery_id))
    assert (row["state"], row["owner"], row["attempt"], row["lease_until"]) == ("sending", "a", 1, clock() + LEASE)


async def test_a_claimed_delivery_is_left_alone_while_its_lease_runs(sqlite_store: Store, clock: ManualClock) -> None:
    await add(sqlite_store, clock)
    await take(sqlite_store, clock)
    clock.advance(LEASE.total_seconds())
    assert await take(sqlite_store, clock, "b") == []


async def test_an_expired_lease_makes_the_next_attempt_a_doubtful_one(sqlite_store: Store, clock: ManualClock) -> None:
    """Nobody knows what the dead worker's message has become: the next one asks before it sends."""
    await add(sqlite_store, clock)
    await take(sqlite_store, clock)
    clock.advance(LEASE.total_seconds() + 1)
    [again] = await take(sqlite_store, clock, "b")
    assert (again.owner, again.attempt, again.doubtful) == ("b", 2, True)


async def test_a_delivery_in_doubt_stays_doubtful_for_the_next_attempt(sqlite_store: Store, clock: ManualClock) -> None:
    await add(sqlite_store, clock, state="in_doubt", attempt=3, sent_at=clock())
    [claimed] = await take(sqlite_store, clock)
    assert (claimed.attempt, claimed.doubtful, claimed.sent_at) == (4, True, clock())


@pytest.mark.parametrize("state", ["delivered", "dead"])
async def test_what_is_settled_is_never_claimed_again(state: str, sqlite_store: Store, clock: ManualClock) -> None:
    await add(sqlite_store, clock)
    [claimed] = await take(sqlite_store, clock)
    assert await sqlite_store.write(lambda tx: queue.settle(tx, claimed, {"state": state}))
    clock.advance(1e6)
    assert await take(sqlite_store, clock) == []


async def test_what_is_put_off_is_claimed_when_it_is_due_again(sqlite_store: Store, clock: ManualClock) -> None:
    await add(sqlite_store, clock)
    [claimed] = await take(sqlite_store, clock)
    put_off = {"state": "pending", "due": clock() + timedelta(seconds=30)}
    assert await sqlite_store.write(lambda tx: queue.settle(tx, claimed, put_off))
    clock.advance(29)
    assert await take(sqlite_store, clock) == []
    clock.advance(1)
    [again] = await take(sqlite_store, clock)
    assert (again.attempt, again.doubtful, again.failures) == (2, False, 0)


async def test_a_renewed_lease_runs_from_then_on_and_a_lost_one_is_not_renewed(
    sqlite_store: Store, clock: ManualClock
) -> None:
    """A long attempt keeps its delivery; a worker that slept too long must notice that it has lost it."""
    await add(sqlite_store, clock)
    [claimed] = await take(sqlite_store, clock, "a")
    clock.advance(50)
    assert await sqlite_store.write(lambda tx: queue.renew(tx, claimed, clock() + LEASE))
    clock.advance(50)
    assert await take(sqlite_store, clock, "b") == []
    clock.advance(20)
    assert len(await take(sqlite_store, clock, "b")) == 1
    assert not await sqlite_store.write(lambda tx: queue.renew(tx, claimed, clock() + LEASE))


async def test_the_death_of_a_worker_counts_as_an_unknown_outcome(sqlite_store: Store, clock: ManualClock) -> None:
    """A message that kills whoever sends it must not be sent for ever."""
    await add(sqlite_store, clock)
    [first] = await take(sqlite_store, clock)
    clock.advance(LEASE.total_seconds() + 1)
    [second] = await take(sqlite_store, clock)
    assert (first.failures, first.lost_at) == (0, None)
    assert (second.failures, second.lost_at) == (1, first.lease_until)


async def test_only_a_dead_delivery_is_revived_and_begins_with_a_question(
    sqlite_store: Store, clock: ManualClock
) -> None:
    await add(sqlite_store, clock, 1, state="dead", due=None, failures=5)
    await add(sqlite_store, clock, 2, state="delivered", due=None)
    dead, done = "DL" + number(1, clock()), "DL" + number(2, clock())
    assert await sqlite_store.write(lambda tx: queue.revive(tx, dead, clock()))
    assert not await sqlite_store.write(lambda tx: queue.revive(tx, dead, clock()))
    assert not await sqlite_store.write(lambda tx: queue.revive(tx, done, clock()))
    [claimed] = await take(sqlite_store, clock)
    assert (claimed.delivery_id, claimed.doubtful, claimed.failures) == (dead, True, 0)


async def test_an_operator_sees_what_is_under_way_or_dead_oldest_first(sqlite_store: Store, clock: ManualClock) -> None:
    for sequence, state in enumerate(["delivered", "dead", "in_doubt", "pending"], start=1):
        await add(sqlite_store, clock, sequence, state=state)
        clock.advance(1)
    rows = await sqlite_store.read(lambda tx: queue.unsettled(tx, 10))
    assert [row["state"] for row in rows] == ["dead", "in_doubt", "pending"]
    assert not {"body", "applicant_ref"} & set(rows[0])
    assert len(await sqlite_store.read(lambda tx: queue.unsettled(tx, 1))) == 1


async def test_nothing_is_claimed_before_it_is_due_or_for_another_region(
    sqlite_store: Store, clock: ManualClock
) -> None:
    await add(sqlite_store, clock, due=clock() + timedelta(microseconds=1))
    assert await take(sqlite_store, clock) == []
    clock.advance(1)
    assert await take(sqlite_store, clock, region="guangdong") == []
    assert len(await take(sqlite_store, clock)) == 1


async def test_what_has_waited_longest_is_claimed_first_and_no_more_than_asked_for(
    sqlite_store: Store, clock: ManualClock
) -> None:
    for sequence, age in ((1, 10), (2, 30), (3, 20)):
        await add(sqlite_store, clock, sequence, due=clock() - timedelta(seconds=age))
    assert [c.submission_id for c in await take(sqlite_store, clock, limit=2)] == [
        number(2, clock()), number(3, clock())
    ]  # fmt: skip


async def test_only_the_holder_of_the_lease_settles(sqlite_store: Store, clock: ManualClock) -> None:
    """The loser's outcome is dropped whole: it neither settles nor notes that it sends."""
    delivery_id = await add(sqlite_store, clock)
    [lost] = await take(sqlite_store, clock, "a")
    clock.advance(LEASE.total_seconds() + 1)
    [held] = await take(sqlite_store, clock, "b")
    settled = {"state": "delivered"}
    assert not await sqlite_store.write(lambda tx: queue.note_sending(tx, lost, clock()))
    assert not await sqlite_store.write(lambda tx: queue.settle(tx, lost, {"state": "dead"}))
    assert await sqlite_store.write(lambda tx: queue.settle(tx, held, settled))
    assert not await sqlite_store.write(lambda tx: queue.settle(tx, held, {"state": "dead"}))
    row = await sqlite_store.read(lambda tx: delivery(tx, delivery_id))
    assert (row["state"], row["owner"], row["lease_until"]) == ("delivered", None, None)


async def test_a_worker_that_takes_its_own_lost_delivery_again_is_fenced_by_the_attempt(
    sqlite_store: Store, clock: ManualClock
) -> None:
    """The owner is the same process, so that only the attempt tells the old task from the new one."""
    await add(sqlite_store, clock)
    [first] = await take(sqlite_store, clock)
    clock.advance(LEASE.total_seconds() + 1)
    [second] = await take(sqlite_store, clock)
    assert not await sqlite_store.write(lambda tx: queue.settle(tx, first, {"state": "dead"}))
    assert await sqlite_store.write(lambda tx: queue.settle(tx, second, {"state": "delivered"}))


async def test_a_message_that_leaves_is_noted_with_its_time(sqlite_store: Store, clock: ManualClock) -> None:
    delivery_id = await add(sqlite_store, clock)
    [claimed] = await take(sqlite_store, clock)
    left = clock.advance(1.5)
    assert await sqlite_store.write(lambda tx: queue.note_sending(tx, claimed, left))
    row = await sqlite_store.read(lambda tx: delivery(tx, delivery_id))
    assert row["sent_at"] == left


async def test_figures_count_what_waits_and_what_is_dead_and_age_only_what_waits(
    sqlite_store: Store, clock: ManualClock
) -> None:
    """An old dead delivery must not hide behind the age of those that wait, nor make them look late."""
    await add(sqlite_store, clock, 1, state="dead")
    clock.advance(100)
    await add(sqlite_store, clock, 2)
    await add(sqlite_store, clock, 3, state="in_doubt")
    await add(sqlite_store, clock, 4, state="delivered")
    await add(sqlite_store, clock, 5, region="guangdong", state="dead")
    clock.advance(7)

    def count(tx: Connection) -> dict[str, tuple[dict[str, int], float]]:
        return queue.figures(tx, clock())

    assert await sqlite_store.read(count) == {
        "foshan": ({"dead": 1, "pending": 1, "in_doubt": 1}, 7.0),
        "guangdong": ({"dead": 1}, 0.0),
    }
