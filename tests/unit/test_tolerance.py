"""Tolerance (容缺): nothing required is left out without a promise, and a promise that was not kept is counted once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.clocks import ClockName
from gateway.errors import InvalidRequest
from gateway.storage import Store
from gateway.storage.tables import submission_events, submissions
from gateway.submissions.parcels import open_body
from gateway.submissions.rules_kept import RulesKept, figures
from tests.support.cases import REGION
from tests.support.clock import ManualClock
from tests.support.followups import Desk


@pytest.fixture
def desk(sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock) -> Desk:
    desk = Desk(sqlite_store, sealer, references, clock)
    desk.events.followers = (*desk.events.followers, RulesKept(desk.events).watch)
    return desk


async def file(desk: Desk, *codes: str, deferred: Any = ()) -> str:
    materials = [{"code": code, "blob": await desk.blob(f"{code}!")} for code in codes]
    promised = [{"code": code, "promise": "承诺书 2026-1"} for code in deferred]
    return (await desk.file(materials=materials, deferred=promised)).submission_id


async def counted(desk: Desk) -> dict[tuple[str, str, str], int]:
    return dict(await desk.store.read(figures))


async def test_a_required_material_is_left_out_only_with_a_promise(desk: Desk) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await file(desk, "ID")
    assert [(problem.field, problem.code) for problem in refused.value.problems] == [("deferred", "missing_promise")]
    case = await file(desk, "ID", deferred=["LATER"])
    sealed = await desk.store.read(
        lambda tx: tx.execute(select(submissions.c.body).where(submissions.c.id == case)).scalar_one()
    )
    assert open_body(desk.sealer, case, sealed)["deferred"] == [{"code": "LATER", "promise": "承诺书 2026-1"}]


async def test_only_what_the_item_lets_follow_is_deferred_and_nothing_that_is_here(desk: Desk) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await file(desk, "LATER", deferred=["ID", "LATER"])
    assert [(problem.field, problem.code) for problem in refused.value.problems] == [
        ("deferred.0.code", "not_deferrable"),
        ("deferred.1.code", "not_missing"),
    ]


async def test_a_promise_that_was_not_kept_is_told_once_whoever_sees_it_first(desk: Desk) -> None:
    """Our clock is overdue, and then the region says so too: one breach."""
    case = await file(desk, "ID", deferred=["LATER"])
    await desk.handed_over(case)
    await desk.says(case, "ACCEPTED_TOLERANT", materials=[{"code": "LATER"}])
    assert await counted(desk) == {}
    rules = RulesKept(desk.events)
    overdue = {"clock": str(ClockName.TOLERANCE), "due_on": "2026-03-09"}
    await desk.store.write(lambda tx: rules.note_clock(tx, case, "clock.overdue", desk.clock(), overdue))
    await desk.says(case, "TOLERANCE_BREACHED")
    assert await counted(desk) == {("tolerance", REGION, "agency"): 1}


async def test_another_clock_that_is_overdue_is_no_breach(desk: Desk) -> None:
    case = await file(desk, "ID", deferred=["LATER"])
    rules = RulesKept(desk.events)
    await desk.store.write(
        lambda tx: rules.note_clock(tx, case, "clock.overdue", desk.clock(), {"clock": "collection"})
    )
    assert await counted(desk) == {}


async def test_a_second_notice_after_an_answer_is_a_violation_and_stops_nothing(desk: Desk) -> None:
    """One notice names everything (行政许可法 32). Said once, however many steps follow."""
    case = await file(desk, "ID", "LATER")
    await desk.handed_over(case)
    await desk.says(case, "SUPPLEMENT_NOTICE", materials=[{"code": "ID"}])
    await desk.says(case, "SUPPLEMENTED")
    assert await counted(desk) == {}
    await desk.says(case, "SUPPLEMENT_NOTICE", materials=[{"code": "PROOF"}])
    await desk.says(case, "SUPPLEMENTED")
    await desk.says(case, "ACCEPTED")
    assert await counted(desk) == {("one_notice", REGION, "agency"): 1}
    assert await desk.state(case) == "ACCEPTED"
    c = submission_events.c
    query = select(c.word, c.effect).where(c.kind == "policy.violation")
    assert [tuple(row) for row in await desk.store.read(lambda tx: tx.execute(query).all())] == [("one_notice", "fact")]
