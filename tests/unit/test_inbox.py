"""Events of a region on their way in: one that cannot be recorded holds up no other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from sqlalchemy import Connection, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import State
from gateway.errors import NotFound, ReplayedCallback, Unavailable, UnreadableCallback
from gateway.mapping.library import PackSet
from gateway.ports import Adapter
from gateway.storage import Store
from gateway.storage.tables import evidence
from gateway.submissions.story import Story
from tests.support.cases import REGION, add_case, conflicts, number, said, state_of
from tests.support.clock import ManualClock
from tests.support.intake import Callbacks, Feed, SamePack, callback, inbox, region


@pytest.mark.parametrize("why", [KeyError("a calendar that is gone"), Unavailable("away")])
async def test_an_event_that_cannot_be_recorded_holds_up_no_other(
    why: Exception, sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """It waits for a person as it came. While the store is away nobody is to look: all of it comes again."""
    cases = [number(n, clock()) for n in range(1, 4)]
    feed = Feed([said(case, f"e{n}", "ACCEPTED", clock()) for n, case in enumerate(cases)])

    def fail(_tx: Connection, story: Story, _now: datetime) -> None:
        if story.case["id"] == cases[1]:
            raise why

    def write(tx: Connection) -> None:
        for case in cases:
            add_case(tx, case, clock(), state=State.FORWARDED)

    def states(tx: Connection) -> list[Any]:
        return [state_of(tx, case) for case in cases]

    await sqlite_store.write(write)
    desk = inbox(sqlite_store, sealer, clock, feed=feed)
    desk._events.followers = (fail,)
    if isinstance(why, Unavailable):
        with pytest.raises(Unavailable):
            await desk.poll(region(feed=feed))
        assert await sqlite_store.read(states) == [State.FORWARDED] * 3
        return
    assert await desk.poll(region(feed=feed)) == 3
    assert await sqlite_store.read(states) == [State.ACCEPTED, State.FORWARDED, State.ACCEPTED]
    [kept] = await sqlite_store.read(conflicts)
    assert (kept["region"], kept["reason"]) == (REGION, "could not be recorded; the log says why")
    await desk.poll(region(feed=feed))
    assert feed.asked[-1] == "3", "the feed is read on behind it"


@pytest.mark.parametrize("why", [KeyError("a defect"), NotFound("a row that a follower wants")])
async def test_a_callback_over_which_a_part_of_ours_fails_is_taken_and_its_event_waits_for_a_person(
    why: Exception, sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """The region would send it for ever otherwise, and be told of a defect that it cannot mend."""
    cases = [number(n, clock()) for n in range(1, 3)]
    callbacks = Callbacks([said(case, f"e{n}", "ACCEPTED", clock()) for n, case in enumerate(cases)])

    def fail(_tx: Connection, story: Story, _now: datetime) -> None:
        if story.case["id"] == cases[0]:
            raise why

    def write(tx: Connection) -> None:
        for case in cases:
            add_case(tx, case, clock(), state=State.FORWARDED)

    await sqlite_store.write(write)
    desk = inbox(sqlite_store, sealer, clock, callbacks=callbacks)
    desk._events.followers = (fail,)
    assert await desk.callback(REGION, callback("once", clock())) == {"code": "0"}
    assert await sqlite_store.read(lambda tx: [state_of(tx, case) for case in cases]) == ["FORWARDED", "ACCEPTED"]
    [kept] = await sqlite_store.read(conflicts)
    assert (kept["status"], kept["reason"]) == ("open", "could not be recorded; the log says why")
    shown = await sqlite_store.read(lambda tx: desk._events.conflicts.show(tx, kept["id"]))
    assert orjson.loads(shown)["submission_id"] == cases[0], "as it came"
    c = evidence.c
    rows = await sqlite_store.read(lambda tx: tx.execute(select(c.action, c.outcome)).all())
    assert sorted(map(tuple, rows)) == [("status.callback", "done"), ("status.callback", "failed")]
    with pytest.raises(ReplayedCallback):
        await desk.callback(REGION, callback("once", clock()))
    desk._events.followers = ()  # mended
    assert await desk.callback(REGION, callback("again", clock())) == {"code": "0"}
    assert await sqlite_store.read(lambda tx: state_of(tx, cases[0])) is State.ACCEPTED


async def test_a_callback_while_the_store_is_away_is_not_taken_and_may_come_again(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    case = number(1, clock())
    away = [Unavailable("away")]

    def fail(_tx: Connection, _story: Story, _now: datetime) -> None:
        if away:
            raise away.pop()

    await sqlite_store.write(lambda tx: add_case(tx, case, clock(), state=State.FORWARDED))
    desk = inbox(sqlite_store, sealer, clock, callbacks=Callbacks([said(case, "e1", "ACCEPTED", clock())]))
    desk._events.followers = (fail,)
    with pytest.raises(Unavailable):
        await desk.callback(REGION, callback("once", clock()))
    assert await desk.callback(REGION, callback("once", clock())) == {"code": "0"}
    assert await sqlite_store.read(conflicts) == []


async def test_an_event_on_which_a_mapping_of_ours_fails_waits_for_a_person(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    class Broken(SamePack):
        def to_canonical(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
            raise ZeroDivisionError

    case = number(1, clock())
    callbacks = Callbacks([said(case, "e1", "ACCEPTED", clock())])
    desk = inbox(sqlite_store, sealer, clock, callbacks=callbacks)
    broken = PackSet.of(REGION, cast("Any", {"event": Broken()}))
    desk._regions = {
        REGION: cast("Any", SimpleNamespace(id=REGION, packs=broken, adapter=Adapter(callbacks=callbacks)))
    }
    with pytest.raises(UnreadableCallback):
        await desk.callback(REGION, callback("once", clock()))
    [kept] = await sqlite_store.read(conflicts)
    assert kept["reason"] == "cannot be read: (event)"
