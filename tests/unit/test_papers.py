"""Paper that goes with a case: what the collecting side says of its parcels, once, and in the order of time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import State
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.storage import Store
from gateway.storage.tables import paper_lists
from gateway.submissions.papers import PaperReceived, Papers, PaperSent
from tests.support.afterwards import AGENCY, STRANGER, Finished
from tests.support.clock import ManualClock

HOUR = timedelta(hours=1)


class Room:
    """An open case and the room where parcels are packed, an hour later."""

    def __init__(self, done: Finished) -> None:
        self.done = done
        self.begun = done.clock()
        self.papers = Papers(store=done.store, events=done.events, sealer=done.sealer, clock=done.clock)

    def parcel(self, **more: Any) -> PaperSent:
        items = [{"code": "ID", "name": "户口簿", "copies": 1, "original": True}]
        said = {
            "reference": "P-1", "way": "courier", "carrier": "邮政速递", "tracking": "EB123456789CN",
            "recipient": "佛山市政务服务中心", "at": self.begun + timedelta(minutes=10), "items": items,
        }  # fmt: skip
        return PaperSent.model_validate({**said, **more})

    async def send(self, **more: Any) -> bool:
        return (await self.papers.sent(AGENCY, self.done.case, self.parcel(**more))).replayed

    async def receive(self, reference: str = "P-1", at: Any = None) -> bool:
        said = PaperReceived(at=at or self.begun + HOUR, by="收发室")
        return (await self.papers.received(AGENCY, self.done.case, reference, said)).replayed


@pytest_asyncio.fixture
async def room(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> Room:
    """Return the room of a case that is under review."""
    done = Finished(sqlite_store, sealer, clock)
    await done.open(State.RECEIVED)
    made = Room(done)
    clock.advance(2 * 3600)
    return made


async def test_a_parcel_is_sent_and_received_once_and_the_timeline_says_when(room: Room) -> None:
    assert [await room.send(), await room.send()] == [False, True]
    assert [await room.receive(), await room.receive()] == [False, True]
    [paper] = await room.papers.show(AGENCY, room.done.case)
    assert (paper.tracking, paper.received_at, paper.received_by) == ("EB123456789CN", room.begun + HOUR, "收发室")
    assert await room.done.facts() == [
        ("paper.sent", {"reference": "P-1", "way": "courier", "items": 1}),
        ("paper.received", {"reference": "P-1"}),
    ]
    kept = await room.done.store.read(lambda tx: tx.execute(select(paper_lists)).all())
    assert "户口簿" not in str(kept)


async def test_a_reference_stands_for_one_parcel_and_a_receipt_for_one_time(room: Room) -> None:
    await room.send()
    with pytest.raises(Conflict) as refused:
        await room.send(tracking="another")
    assert refused.value.stable_code == "paper.reference_conflict"
    await room.receive()
    with pytest.raises(Conflict) as refused:
        await room.receive(at=room.begun + HOUR / 2)
    assert refused.value.stable_code == "paper.received"


async def test_times_that_cannot_be_are_refused(room: Room) -> None:
    for wrong in (room.begun - HOUR, room.done.clock() + HOUR):
        with pytest.raises(InvalidRequest):
            await room.send(at=wrong)
    await room.send()
    with pytest.raises(InvalidRequest):
        await room.receive(at=room.begun)


async def test_there_is_no_parcel_of_another_case_or_of_one_that_has_ended(
    room: Room, sqlite_store: Store, sealer: Sealer
) -> None:
    with pytest.raises(NotFound):
        await room.receive("P-9")
    with pytest.raises(NotFound):
        await room.papers.sent(STRANGER, room.done.case, room.parcel())
    await room.done.store.write(
        lambda tx: room.done.events.from_region(
            tx, "foshan", {"event_id": "E", "submission_id": room.done.case, "number": "FS-1", "state": "RETURNED",
                           "occurred_at": room.done.clock().isoformat()}, room.done.clock(),
        )
    )  # fmt: skip
    with pytest.raises(Conflict) as refused:
        await room.send()
    assert refused.value.stable_code == "paper.too_late"
