"""Withdrawals and returns: at once while the case never left, by the region's own word afterwards, never too late."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Connection, select

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.caller import Acting, Caller
from gateway.domain.identity import Assurance
from gateway.errors import Conflict, InvalidRequest, NotFound, NotOffered, NotPermitted
from gateway.storage import Store
from gateway.storage.tables import deliveries, evidence, region_numbers, submission_events
from gateway.submissions import queue
from gateway.submissions.withdrawals import Ended, Return, stop_before_it_leaves
from tests.support.cases import LEASE, REGION, add_delivery, number
from tests.support.clock import ManualClock
from tests.support.followups import Desk, withdrawal
from tests.support.intake import CALLER

AWAY = Return(reason="申请人要回材料")


@pytest.fixture
def desk(sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock) -> Desk:
    return Desk(sqlite_store, sealer, references, clock)


async def withdraw(desk: Desk, case: str, reference: str = "W1", **more: Any) -> Ended:
    desk.clock.advance(1)
    return await desk.withdrawals.withdraw(CALLER, case, withdrawal(reference, **more))


async def kinds(desk: Desk, case: str) -> list[str]:
    c = submission_events.c
    query = select(c.kind).where(c.submission_id == case).order_by(c.seq)
    return list(await desk.store.read(lambda tx: tx.execute(query).scalars().all()))


async def test_a_case_that_never_left_is_withdrawn_at_once(desk: Desk) -> None:
    case = (await desk.file()).submission_id
    assert "withdrawal" in (await desk.cases.show(CALLER, case)).can
    ended = await withdraw(desk, case)
    assert (ended.state, ended.asked, ended.replayed) == ("WITHDRAWN", False, False)
    assert (await desk.state(case), await desk.delivery(case)) == ("WITHDRAWN", "cancelled")
    shown = await desk.cases.show(CALLER, case)
    assert (shown.holder, list(shown.can), [m["kind"] for m in shown.messages]) == ("nobody", [], ["withdrawal"])


async def test_the_same_withdrawal_again_is_the_same(desk: Desk) -> None:
    case = (await desk.file()).submission_id
    first, again = await withdraw(desk, case), await withdraw(desk, case)
    assert (again.message_id, again.state, again.replayed) == (first.message_id, "WITHDRAWN", True)
    with pytest.raises(Conflict) as refused:
        await withdraw(desk, case, reason="又一个原因")
    assert refused.value.stable_code == "submission.reference_conflict"


async def test_a_region_that_has_the_case_is_asked_and_ends_it_itself(desk: Desk) -> None:
    case = (await desk.file()).submission_id
    await desk.handed_over(case)
    ended = await withdraw(desk, case)
    assert (ended.state, ended.asked) == ("RECEIVED", True)
    assert (await desk.delivery(case, "withdrawal"), desk.nudged[-1]) == ("pending", REGION)
    assert (await kinds(desk, case))[-1] == "withdrawal.requested"
    assert "withdrawal" not in (await desk.cases.show(CALLER, case)).can
    with pytest.raises(Conflict) as twice:
        await withdraw(desk, case, "W2")
    assert twice.value.stable_code == "submission.withdrawal_under_way"
    await desk.says(case, "WITHDRAWN")
    assert await desk.state(case) == "WITHDRAWN"
    assert (await withdraw(desk, case)).replayed


async def test_a_decided_case_is_withdrawn_no_more(desk: Desk) -> None:
    case = (await desk.file()).submission_id
    await desk.handed_over(case)
    await desk.says(case, "ACCEPTED")
    await desk.says(case, "DECIDED")
    with pytest.raises(Conflict) as refused:
        await withdraw(desk, case)
    assert refused.value.stable_code == "submission.too_late"
    query = select(evidence.c.action, evidence.c.outcome).where(evidence.c.id == refused.value.evidence)
    assert tuple(await desk.store.read(lambda tx: tx.execute(query).one())) == ("submission.withdraw", "refused")


async def test_a_region_without_the_wire_wants_it_on_paper_but_not_for_a_case_that_never_left(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    desk = Desk(sqlite_store, sealer, references, clock, kinds=None)
    gone, here = (await desk.file("1")).submission_id, (await desk.file("2")).submission_id
    await desk.handed_over(gone)
    with pytest.raises(NotOffered) as refused:
        await withdraw(desk, gone)
    assert refused.value.stable_code == "submission.on_paper"
    assert (await withdraw(desk, here)).state == "WITHDRAWN"


async def test_a_case_that_its_region_refused_is_ended_here_and_one_in_doubt_is_not(desk: Desk) -> None:
    """A delivery that was given up in doubt may be there: the wish waits until an operator has settled it."""
    refused, doubtful = (await desk.file("1")).submission_id, (await desk.file("2")).submission_id
    sent = deliveries.update().values(state="dead", due=None, sent_at=desk.clock())
    for case, code in ((refused, "region.refused"), (doubtful, "region.uncertain")):
        row = sent.where(deliveries.c.submission_id == case).values(last_code=code)
        await desk.store.write(lambda tx: tx.execute(row).rowcount)  # noqa: B023 - written at once
    assert (await withdraw(desk, refused)).state == "WITHDRAWN"
    assert (await withdraw(desk, doubtful)).asked
    assert await desk.delivery(doubtful) == "dead"


async def test_a_case_of_which_its_region_has_told_is_not_ended_here_whatever_it_answered(desk: Desk) -> None:
    case = (await desk.file()).submission_id
    row = {"state": "dead", "due": None, "sent_at": desk.clock(), "last_code": "region.refused"}
    await desk.store.write(lambda tx: tx.execute(deliveries.update().values(row)).rowcount)
    known = {"submission_id": case, "region": REGION, "number": "N-1"}
    await desk.store.write(lambda tx: tx.execute(region_numbers.insert().values(known)).rowcount)
    assert (await withdraw(desk, case)).asked


async def test_a_case_of_somebody_else_does_not_exist(desk: Desk) -> None:
    case = (await desk.file()).submission_id
    stranger = replace(CALLER, client_id="another")
    for asked in (
        desk.withdrawals.withdraw(stranger, case, withdrawal()),
        desk.withdrawals.give_back(stranger, case, AWAY),
    ):
        with pytest.raises(NotFound):
            await asked
    assert await desk.state(case) == "COLLECTED"


async def test_an_agent_withdraws_only_by_a_live_mandate_and_undoes_nothing_without(desk: Desk) -> None:
    case = (await desk.file()).submission_id
    agent = {"name": "黄文员", "document": {"type": "CN_RIC", "number": "440106198806150019"}}
    with pytest.raises(InvalidRequest):
        await withdraw(desk, case, agent=agent)
    with pytest.raises(NotPermitted):
        await withdraw(desk, case, agent=agent, mandate="MD" + "0" * 32)
    assert (await desk.state(case), await desk.delivery(case)) == ("COLLECTED", "pending")


def acting_for(number: str) -> Caller:
    """Return a system with the token of the person who has this document."""
    claims = {"document": {"type": "CN_RIC", "number": number}}
    person = SimpleNamespace(assurance=Assurance.A2, claims=SimpleNamespace(reveal=lambda: claims))
    return replace(CALLER, acting=Acting(cast("Any", person), "subject", "grant"))


async def test_a_system_that_acts_for_a_person_ends_that_persons_cases_alone(desk: Desk) -> None:
    """And as the applicant: whoever signed on cannot speak as somebody's agent without being that agent."""
    case = (await desk.file()).submission_id
    with pytest.raises(NotFound):
        await desk.withdrawals.withdraw(acting_for("440106198806150019"), case, withdrawal())
    mine = acting_for("11010519491231002X")
    agent = {"name": "黄文员", "document": {"type": "CN_RIC", "number": "440106198806150019"}}
    with pytest.raises(InvalidRequest) as refused:
        await desk.withdrawals.withdraw(mine, case, withdrawal(agent=agent, mandate="MD1"))
    assert [problem.code for problem in refused.value.problems] == ["another_person"]
    assert (await desk.withdrawals.withdraw(mine, case, withdrawal())).state == "WITHDRAWN"


async def test_a_grant_that_was_taken_away_covers_no_withdrawal(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """The purpose that is asked about is the one of the case."""
    asked: list[Any] = []
    desk = Desk(sqlite_store, sealer, references, clock, grants=SimpleNamespace(require=asked.append))
    case = (await desk.file()).submission_id
    await withdraw(desk, case)
    assert [(ask.purpose, ask.region, ask.item) for ask in asked] == [("handling", REGION, desk.item.code)] * 2


# --- returns -------------------------------------------------------------------------------------------------------


async def test_a_window_gives_back_what_never_left_once(desk: Desk) -> None:
    case = (await desk.file()).submission_id
    assert "return" in (await desk.cases.show(CALLER, case)).can
    first = await desk.withdrawals.give_back(CALLER, case, AWAY)
    again = await desk.withdrawals.give_back(CALLER, case, AWAY)
    assert (first.state, first.replayed, again.state, again.replayed) == ("RETURNED", False, "RETURNED", True)
    assert await desk.delivery(case) == "cancelled"


async def test_what_has_left_or_was_filed_online_is_not_given_back(desk: Desk) -> None:
    gone, online = (await desk.file("1")).submission_id, (await desk.file("2", mode="online")).submission_id
    await desk.handed_over(gone)
    for case, code in ((gone, "submission.too_late"), (online, "submission.not_collected")):
        with pytest.raises(Conflict) as refused:
            await desk.withdrawals.give_back(CALLER, case, AWAY)
        assert refused.value.stable_code == code
    await desk.says(gone, "RETURNED")
    with pytest.raises(Conflict):  # the region's return is none of ours
        await desk.withdrawals.give_back(CALLER, gone, AWAY)


# --- the race between a claim and a stop ---------------------------------------------------------------------------


def claimed(tx: Connection, now: Any) -> int:
    return len(queue.claim(tx, region=REGION, owner="worker", limit=10, now=now, lease=LEASE))


async def test_of_a_claim_and_a_stop_exactly_one_wins(store: Store, clock: ManualClock) -> None:
    """On both engines: a case that was cancelled is never sent, and one that is being sent is never cancelled."""
    cases = [number(n, clock()) for n in range(1, 9)]
    for case in cases:
        await store.write(lambda tx: add_delivery(tx, case, clock(), client_id="agency"))  # noqa: B023 - written at once
    now = clock.advance(1)
    stops = [store.write(lambda tx, case=case: stop_before_it_leaves(tx, case, now)) for case in cases]  # type: ignore[misc] # bound at once
    claims = [store.write(lambda tx: claimed(tx, now)) for _ in range(3)]
    done = await asyncio.gather(*(pair for pairs in zip(stops[:3], claims, strict=True) for pair in pairs), *stops[3:])
    stopped = sum(1 for answer in done if answer is True)
    taken = sum(answer for answer in done if answer is not True and answer is not False)
    assert stopped + taken == len(cases)
    states = await store.read(lambda tx: tx.execute(select(deliveries.c.state)).scalars().all())
    assert (states.count("cancelled"), states.count("sending")) == (stopped, taken)
    later = now + timedelta(days=1)
    assert await store.write(lambda tx: claimed(tx, later)) == taken


async def test_a_withdrawal_that_meets_a_claim_either_ends_the_case_or_asks_the_region(
    store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """On both engines, whoever is first: the case is never ended here and sent all the same."""
    desk = Desk(store, sealer, references, clock)
    cases = [(await desk.file(str(n))).submission_id for n in range(6)]
    now = clock.advance(1)
    wishes = [desk.withdrawals.withdraw(CALLER, case, withdrawal()) for case in cases]
    taken, *ended = await asyncio.gather(store.write(lambda tx: claimed(tx, now)), *wishes)
    assert isinstance(taken, int)
    answers = [answer for answer in ended if isinstance(answer, Ended)]
    assert taken == sum(answer.asked for answer in answers)
    for answer in answers:
        state, sent = await desk.state(answer.submission_id), await desk.delivery(answer.submission_id)
        assert (state, sent) == (("COLLECTED", "sending") if answer.asked else ("WITHDRAWN", "cancelled"))
