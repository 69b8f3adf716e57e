"""Events of a region on their way in: one that cannot be recorded holds up no other."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import State
from gateway.errors import Unavailable
from gateway.storage import Store
from gateway.submissions.story import Story
from tests.support.cases import REGION, add_case, conflicts, number, said, state_of
from tests.support.clock import ManualClock
from tests.support.intake import Feed, inbox, region


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
