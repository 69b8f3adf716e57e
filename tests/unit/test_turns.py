"""Agencies take turns, and a region in maintenance waits: on both engines, since the search is made for an index."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, insert, update

from gateway.storage import Store
from gateway.storage.tables import deliveries, delivery_pauses
from gateway.submissions import queue
from gateway.submissions.turns import agencies_due, in_turn
from tests.support.cases import LEASE, REGION, add_delivery, number
from tests.support.clock import ManualClock


def fill(tx: Connection, clock: ManualClock, sizes: dict[str, int]) -> None:
    """Write so many due deliveries for each agency; the big ones are older."""
    sequence = 0
    for agency, size in sizes.items():
        for _ in range(size):
            sequence += 1
            add_delivery(tx, number(sequence, clock()), clock(), client_id=agency)
        clock.advance(1)


async def take(store: Store, clock: ManualClock, limit: int, after: str = "") -> list[str]:
    claims = await store.write(
        lambda tx: queue.claim(tx, region=REGION, owner="a", limit=limit, now=clock(), lease=LEASE, after=after)
    )
    return [claimed.client_id for claimed in claims]


async def test_an_agency_with_a_long_queue_does_not_keep_the_others_waiting(store: Store, clock: ManualClock) -> None:
    await store.write(lambda tx: fill(tx, clock, {"big": 40, "little": 2, "small": 1}))
    assert await take(store, clock, 6) == ["big", "big", "little", "little", "small", "big"]
    assert await take(store, clock, 6) == ["big"] * 6


async def test_with_room_for_one_the_next_agency_is_the_one_behind_the_last(store: Store, clock: ManualClock) -> None:
    await store.write(lambda tx: fill(tx, clock, {"a": 5, "b": 5, "c": 1}))
    served = [""]
    for _ in range(6):
        served += await take(store, clock, 1, after=served[-1])
    assert served[1:] == ["a", "b", "c", "a", "b", "a"]


async def test_what_is_not_due_yet_gives_no_turn(store: Store, clock: ManualClock) -> None:
    await store.write(lambda tx: fill(tx, clock, {"a": 1, "b": 1}))
    later = update(deliveries).where(deliveries.c.client_id == "a").values(due=clock() + LEASE)
    await store.write(lambda tx: tx.execute(later).rowcount)
    assert await store.read(lambda tx: agencies_due(tx, REGION, clock())) == ["b"]
    assert await store.read(lambda tx: agencies_due(tx, "elsewhere", clock())) == []


async def test_a_region_in_maintenance_gets_nothing_and_everything_afterwards(store: Store, clock: ManualClock) -> None:
    await store.write(lambda tx: fill(tx, clock, {"a": 2}))
    pause = {"region": REGION, "reason": "new machine", "paused_by": "op-1", "since": clock()}
    await store.write(lambda tx: tx.execute(insert(delivery_pauses).values(pause)).rowcount)
    assert await take(store, clock, 10) == []
    await store.write(lambda tx: tx.execute(delivery_pauses.delete()).rowcount)
    assert await take(store, clock, 10) == ["a", "a"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_the_shares_of_a_round_are_even_and_fill_the_room(limit: int) -> None:
    agencies = ["a", "b", "c"]
    first = [(share, name) for share, name in in_turn(agencies, "a", limit)][:3]
    assert [name for _, name in first] == ["b", "c", "a"]
    assert {share for share, _ in first} == {max(1, limit // 3)}
    assert sum(share for share, _ in in_turn(agencies, "a", limit)) >= limit
