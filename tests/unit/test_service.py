"""The record of service (送达回证): after the decision, once, and who took the result stays sealed."""

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
from gateway.storage.tables import evidence, service_records
from gateway.submissions.cases import Cases
from gateway.submissions.service import Service, ServiceRecords
from tests.support.afterwards import AGENCY, STRANGER, Finished
from tests.support.cases import state_of
from tests.support.clock import ManualClock


class Counter:
    """A finished case, and the counter where its result is handed over an hour later."""

    def __init__(self, done: Finished) -> None:
        self.done = done
        self.decided_at = done.clock()
        self.records = ServiceRecords(store=done.store, events=done.events, sealer=done.sealer, clock=done.clock)

    async def serve(self, **more: Any) -> bool:
        served = await self.records.serve(AGENCY, self.done.case, self.service(**more))
        return served.replayed

    def service(self, **more: Any) -> Service:
        at = self.decided_at + timedelta(minutes=30)
        said = {"way": "window", "recipient": "王小丽", "at": at, "by": "C-0417", "proof": "领取登记 2026-17"}
        return Service.model_validate({**said, **more})


@pytest_asyncio.fixture
async def counter(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> Counter:
    """Return the counter of a completed case."""
    done = Finished(sqlite_store, sealer, clock)
    await done.open()
    made = Counter(done)
    clock.advance(3600)
    return made


async def test_a_result_that_was_handed_over_is_delivered_and_the_recipient_stays_sealed(counter: Counter) -> None:
    assert not await counter.serve()
    done = counter.done
    assert await done.store.read(lambda tx: state_of(tx, done.case)) is State.DELIVERED
    [(state, detail)] = await done.facts()
    assert (state, detail["way"], "王小丽" in str(detail)) == ("DELIVERED", "window", False)
    shown = (await Cases(done.store, done.sealer).show(AGENCY, done.case)).service
    assert shown is not None
    assert (shown.recipient, shown.by) == ("王**", "C-0417")
    rows = await done.store.read(lambda tx: [tx.execute(select(t)).all() for t in (evidence, service_records)])
    assert "王小丽" not in str(rows)


async def test_the_same_record_again_is_the_same_and_another_is_a_conflict(counter: Counter) -> None:
    await counter.serve()
    assert await counter.serve()
    with pytest.raises(Conflict) as refused:
        await counter.serve(recipient="别人")
    assert refused.value.stable_code == "service.recorded"


@pytest.mark.parametrize("state", [State.FORWARDED, State.ACCEPTED, State.DECIDED, State.WITHDRAWN])
async def test_without_a_decision_there_is_nothing_to_serve(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock, state: State
) -> None:
    done = Finished(sqlite_store, sealer, clock)
    await done.open(state)
    with pytest.raises(Conflict) as refused:
        await Counter(done).serve(at=clock())
    assert refused.value.stable_code == "service.too_early"


async def test_a_time_that_cannot_be_is_refused(counter: Counter) -> None:
    """Before the decision there was nothing to hand over, and nobody has handed over what is to come."""
    for wrong in (counter.decided_at - timedelta(seconds=1), counter.done.clock() + timedelta(seconds=1)):
        with pytest.raises(InvalidRequest) as refused:
            await counter.serve(at=wrong)
        assert refused.value.fields() == ["at"]


async def test_a_case_of_somebody_else_is_not_there(counter: Counter) -> None:
    with pytest.raises(NotFound):
        await counter.records.serve(STRANGER, counter.done.case, counter.service())
