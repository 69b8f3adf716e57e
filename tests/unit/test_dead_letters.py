"""Dead letters: the ways out of one, each with its evidence, and none that could file a case twice."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.item import Office
from gateway.domain.submission import State
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.storage import Store
from gateway.storage.tables import deliveries, evidence, region_numbers, submission_events, submissions
from gateway.submissions import dead_letters, queue
from gateway.submissions.dead_letters import DeadLetters, Order
from gateway.submissions.events import EventLog
from gateway.submissions.messages import Message, enqueue
from gateway.submissions.parcels import open_body, seal_body
from gateway.submissions.story import locked
from gateway.submissions.turns import agencies_due
from tests.support.cases import LEASE, REGION, add_case, add_delivery, number, said, state_of
from tests.support.clock import ManualClock

ELSEWHERE = Office("guangdong", "440000", 5, 20, "G")
ABROAD = Office("hongkong", "810000", 5, 20, "G")


class Desk:
    """One case whose delivery was given up."""

    def __init__(self, store: Store, sealer: Sealer, clock: ManualClock) -> None:
        self.store, self.sealer, self.clock = store, sealer, clock
        self.case = number(1, clock())
        self.letters = DeadLetters(EventLog(sealer), sealer)

    async def open(self, code: str = "region.refused", **columns: Any) -> None:
        row = {"state": "dead", "due": None, "last_code": code, **columns}
        await self.store.write(lambda tx: add_delivery(tx, self.case, self.clock(), **row))
        body = seal_body(self.sealer, self.case, {"id": self.case, "handling": {"region": "440600"}})
        values = update(submissions).values(body=body, state=State.DELIVERY_FAILED)
        await self.store.write(lambda tx: tx.execute(values).rowcount)

    def order(self, reason: str = "asked by telephone") -> Order:
        return Order("op-1", reason, self.clock())

    async def message(self, state: str = "dead", kind: str = "rating", **body: Any) -> str:
        """Say something of the case, and let its delivery be in this state."""
        said = Message(self.case, "agency", REGION, kind, f"r-{kind}", "d", body)

        def unit(tx: Any) -> str:
            locked(tx, self.case)
            queued = enqueue(tx, self.sealer, said, self.clock())
            mine = deliveries.c.message_id == queued.message_id
            tx.execute(update(deliveries).where(mine).values(state=state, last_code="region.cannot_be_asked"))
            tx.execute(update(deliveries).where(mine, deliveries.c.state == "dead").values(due=None))
            return queued.message_id

        self.clock.advance(1)
        return await self.store.write(unit)

    async def row(self, name: str = queue.SUBMISSION) -> Any:
        c = deliveries.c
        return await self.store.read(lambda tx: tx.execute(select(deliveries).where(c.kind == name)).one())

    async def evidence(self) -> Any:
        return await self.store.read(lambda tx: tx.execute(select(evidence)).one())

    async def kinds(self) -> list[str]:
        c = submission_events.c
        return list(await self.store.read(lambda tx: tx.execute(select(c.kind).order_by(c.seq)).scalars()))


@pytest.fixture
def desk(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> Desk:
    return Desk(sqlite_store, sealer, clock)


async def test_a_case_that_the_region_has_after_all_counts_as_handed_over(desk: Desk) -> None:
    await desk.open("region.cannot_be_asked", sent_at=desk.clock())
    waiting = await desk.message("pending")
    await desk.store.write(lambda tx: desk.letters.settle(tx, desk.case, "FS-77", desk.order()))
    assert (await desk.row()).state == "delivered"
    assert await desk.store.read(lambda tx: state_of(tx, desk.case)) is State.FORWARDED
    assert await desk.store.read(lambda tx: tx.execute(select(region_numbers.c.number)).scalar_one()) == "FS-77"
    kept = await desk.evidence()
    assert (kept.action, kept.who, kept.reason) == ("delivery.settle", {"operator": "op-1"}, "asked by telephone")
    claims = await desk.store.write(
        lambda tx: queue.claim(tx, region=REGION, owner="w", limit=5, now=desk.clock(), lease=LEASE)
    )
    assert [claimed.message_id for claimed in claims] == [waiting], "what was said of it meanwhile may go now"


async def test_a_case_is_not_believed_to_be_there_without_the_regions_number(desk: Desk) -> None:
    await desk.open()
    with pytest.raises(InvalidRequest) as refused:
        await desk.store.write(lambda tx: desk.letters.settle(tx, desk.case, None, desk.order()))
    assert [problem.field for problem in refused.value.problems] == ["number"]
    assert (await desk.row()).state == "dead"


async def test_a_case_that_is_given_back_is_returned_and_never_sent(desk: Desk) -> None:
    await desk.open()
    await desk.store.write(lambda tx: desk.letters.give_back(tx, desk.case, desk.order("the applicant files there")))
    assert (await desk.row()).state == "cancelled"
    assert await desk.store.read(lambda tx: state_of(tx, desk.case)) is State.RETURNED
    assert (await desk.evidence()).action == "delivery.give_back"
    with pytest.raises(NotFound):
        await desk.store.write(lambda tx: dead_letters.retry(tx, [desk.case], desk.order()))


async def test_a_case_that_is_certainly_not_there_goes_to_another_office(desk: Desk) -> None:
    """With its own form: the pin and the place in the document are the new office's."""
    await desk.open("region.refused", sent_at=desk.clock())
    await desk.store.write(lambda tx: desk.letters.reassign(tx, desk.case, ELSEWHERE, desk.order()))
    row = await desk.row()
    assert (row.region, row.state, row.due) == ("guangdong", "pending", desk.clock())
    case = await desk.store.read(lambda tx: tx.execute(select(submissions)).one())
    assert (case.handling_region, case.handling_code, case.mapping_version) == ("guangdong", "440000", "")
    assert open_body(desk.sealer, desk.case, case.body)["handling"] == {"region": "440000"}
    assert (await desk.kinds())[-1] == "delivery.reassigned"
    assert (await desk.evidence()).what == {"case": desk.case, "region": REGION, "to": "guangdong"}


@pytest.mark.parametrize("code", ["region.uncertain", "region.cannot_be_asked", "region.unreachable"])
async def test_a_case_that_may_be_there_is_not_sent_to_another_office(desk: Desk, code: str) -> None:
    """It would be decided twice."""
    await desk.open(code, sent_at=desk.clock())
    with pytest.raises(Conflict) as refused:
        await desk.store.write(lambda tx: desk.letters.reassign(tx, desk.case, ELSEWHERE, desk.order()))
    assert refused.value.stable_code == "delivery.may_be_there"
    assert (await desk.row()).region == REGION


async def test_a_case_of_which_its_region_has_told_is_neither_given_back_nor_sent_elsewhere(desk: Desk) -> None:
    """Its answer may have been that it takes none twice, and we read that it takes none: two would decide."""
    await desk.open("region.refused", sent_at=desk.clock())
    heard = said(desk.case, "e1", "ACCEPTED", desk.clock())
    await desk.store.write(lambda tx: EventLog(desk.sealer).from_region(tx, REGION, heard, desk.clock()))
    for order in (
        lambda tx: desk.letters.reassign(tx, desk.case, ELSEWHERE, desk.order()),
        lambda tx: desk.letters.give_back(tx, desk.case, desk.order()),
    ):
        with pytest.raises(Conflict) as refused:
            await desk.store.write(order)
        assert refused.value.stable_code == "delivery.may_be_there"
    assert await desk.store.read(lambda tx: state_of(tx, desk.case)) is State.ACCEPTED


async def test_a_case_does_not_cross_a_border_by_an_operators_word(desk: Desk) -> None:
    """The applicant has consented to one recipient, not to another."""
    await desk.open()
    with pytest.raises(Conflict) as refused:
        await desk.store.write(lambda tx: desk.letters.reassign(tx, desk.case, ABROAD, desk.order()))
    assert refused.value.stable_code == "delivery.other_territory"


async def test_a_case_that_has_crossed_a_border_goes_to_no_other_recipient(desk: Desk) -> None:
    """Both offices lie on the mainland, but the consent of whoever filed it in Hong Kong names the first one alone."""
    await desk.open()
    filed = update(submissions).values(origin_code="810000")
    await desk.store.write(lambda tx: tx.execute(filed).rowcount)
    with pytest.raises(Conflict) as refused:
        await desk.store.write(lambda tx: desk.letters.reassign(tx, desk.case, ELSEWHERE, desk.order()))
    assert refused.value.stable_code == "delivery.other_territory"


async def test_a_part_does_not_go_to_an_office_that_has_another_part_of_the_same_case(desk: Desk) -> None:
    """Each office of such a case gets the whole application: it would decide the same twice."""
    whole, twin = number(2, desk.clock()), number(3, desk.clock())
    await desk.open()

    def join(tx: Any) -> None:
        add_case(tx, whole, desk.clock())
        add_case(tx, twin, desk.clock())
        c = submissions.c
        for position, case in enumerate((desk.case, twin)):
            of_whole = {"parent_id": whole, "part_code": "", "client_reference": f"{whole}/{position + 1}"}
            tx.execute(update(submissions).where(c.id == case).values(of_whole))
        tx.execute(update(submissions).where(c.id == twin).values(handling_region="guangdong"))

    await desk.store.write(join)
    with pytest.raises(Conflict, match=twin) as refused:
        await desk.store.write(lambda tx: desk.letters.reassign(tx, desk.case, ELSEWHERE, desk.order()))
    assert refused.value.stable_code == "delivery.twin"


async def test_what_waits_behind_a_case_follows_it_to_the_other_office(desk: Desk) -> None:
    await desk.open()
    await desk.message("pending", "withdrawal", reason="moved away")
    await desk.store.write(lambda tx: desk.letters.reassign(tx, desk.case, ELSEWHERE, desk.order()))
    row = await desk.row("withdrawal")
    assert (row.region, row.state, row.due) == ("guangdong", "pending", None)


async def test_what_waits_behind_a_case_that_is_given_back_waits_no_longer(desk: Desk) -> None:
    await desk.open()
    await desk.message("pending", "withdrawal", reason="moved away")
    await desk.store.write(lambda tx: desk.letters.give_back(tx, desk.case, desk.order()))
    assert (await desk.row("withdrawal")).state == "cancelled"


async def test_an_answer_to_a_notice_that_the_region_has_after_all_is_a_step_of_the_case(desk: Desk) -> None:
    """As if it had been delivered: its clocks run on, and the applicant is not asked again."""
    await desk.open(state="delivered", last_code="ok")
    asked = said(desk.case, "e1", "SUPPLEMENT_NOTICE", desk.clock())
    await desk.store.write(lambda tx: EventLog(desk.sealer).from_region(tx, REGION, asked, desk.clock()))
    message = await desk.message(kind="supplement", complete=True)
    await desk.store.write(lambda tx: desk.letters.settle(tx, message, None, desk.order()))
    assert await desk.store.read(lambda tx: state_of(tx, desk.case)) is State.SUPPLEMENTED


async def test_a_message_that_is_tried_again_waits_for_the_one_that_is_under_way(desk: Desk) -> None:
    await desk.open(state="delivered", last_code="ok")
    first = await desk.message()
    await desk.message("pending", "complaint")
    [other] = await desk.store.write(
        lambda tx: queue.claim(tx, region=REGION, owner="w", limit=9, now=desk.clock(), lease=LEASE)
    )
    await desk.store.write(lambda tx: dead_letters.retry(tx, [first], desk.order()))
    assert (await desk.row("rating")).due is None
    await desk.store.write(lambda tx: queue.settle(tx, other, {"state": "delivered"}))
    await desk.store.write(lambda tx: queue.wake_next(tx, desk.case, desk.clock()))
    assert (await desk.row("rating")).due == desk.clock()


async def test_a_message_is_settled_or_dropped_by_its_own_id(desk: Desk) -> None:
    await desk.open(state="delivered", last_code="ok")
    message = await desk.message()
    await desk.store.write(lambda tx: desk.letters.settle(tx, message, None, desk.order()))
    assert (await desk.row("rating")).state == "delivered"
    assert (await desk.kinds())[-1] == "message.delivered"


async def test_a_message_that_is_dropped_leaves_the_case_where_it_is(desk: Desk) -> None:
    await desk.open(state="delivered", last_code="ok")
    message = await desk.message()
    await desk.store.write(lambda tx: desk.letters.give_back(tx, message, desk.order()))
    assert (await desk.row("rating")).state == "cancelled"
    assert (await desk.kinds())[-1] == "message.dropped"


async def test_a_region_is_put_in_maintenance_once_and_served_again(desk: Desk) -> None:
    await desk.open(state="pending", due=desk.clock())
    await desk.store.write(lambda tx: dead_letters.pause(tx, REGION, desk.order("new machine")))
    with pytest.raises(Conflict, match=r"since .* by op-1: new machine") as refused:
        await desk.store.write(lambda tx: dead_letters.pause(tx, REGION, desk.order("another reason")))
    assert refused.value.stable_code == "delivery.paused_already"
    assert (await desk.evidence()).action == "delivery.pause", "what changes nothing is no evidence"
    [paused] = await desk.store.read(dead_letters.pauses)
    assert (paused["region"], paused["reason"], paused["paused_by"]) == (REGION, "new machine", "op-1")
    assert await desk.store.read(lambda tx: agencies_due(tx, REGION, desk.clock())) == []
    await desk.store.write(lambda tx: dead_letters.resume(tx, REGION, desk.order()))
    assert len(await desk.store.read(lambda tx: agencies_due(tx, REGION, desk.clock()))) == 1
    with pytest.raises(NotFound):
        await desk.store.write(lambda tx: dead_letters.resume(tx, REGION, desk.order()))


async def test_a_region_is_waited_for_anew_from_the_moment_of_an_order(desk: Desk) -> None:
    """Or the first call that fails would send what is a week old back to the dead letters, or all of a maintenance."""
    await desk.open()

    async def since() -> Any:
        return (await desk.row()).tried_since

    desk.clock.advance(86400)
    await desk.store.write(lambda tx: dead_letters.retry(tx, [desk.case], desk.order()))
    assert await since() == desk.clock()
    await desk.store.write(lambda tx: dead_letters.pause(tx, REGION, desk.order()))
    desk.clock.advance(86400)
    await desk.store.write(lambda tx: dead_letters.resume(tx, REGION, desk.order()))
    assert await since() == desk.clock()


@pytest.mark.parametrize("reason", ["", "x" * 129])
async def test_an_order_without_a_reason_that_fits_is_none(desk: Desk, reason: str) -> None:
    with pytest.raises(InvalidRequest):
        desk.order(reason)
