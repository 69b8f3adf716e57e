"""A region that is told a number: from the agency's POST over the notice and the machine's own pull to the result."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from gateway.storage.tables import evidence as evidence_rows
from tests.flows.flow_support import SLIP, World
from tests.flows.test_submissions import FROM_REGION, said_by, settled, taken

pytestmark = pytest.mark.asyncio(loop_scope="session")

REGION = "qingyuan"


async def pulls(world: World, submission_id: str, outcome: str = "done") -> list[dict[str, Any]]:
    """Return the evidence of what was pulled of a case, oldest first."""
    rows = await world.evidence_of(submission_id, "submission.pickup")
    return [row for row in rows if row["outcome"] == outcome]


async def test_a_case_is_announced_then_pulled_and_its_result_comes_back(world: World) -> None:
    """The receipt is the machine's word for the notice; the city has the case once it was pulled, with its file."""
    submission_id = await world.file(REGION)
    await world.until(submission_id, "COMPLETED")
    case = await settled(world, submission_id)
    assert said_by(case, "gateway") == ["COLLECTED", "FORWARDED"]
    assert said_by(case, REGION) == FROM_REGION
    assert case["delivery"] == {"state": "delivered", "attempts": 1, "code": "ok", "text": None}
    assert await taken(world, REGION, submission_id) == (1, 1)
    document, material = await pulls(world, submission_id)
    assert (document["what"]["case"], list(document["parts"])) == (submission_id, ["document"])
    assert (material["what"]["material"], material["what"]["size"]) == ("ID", len(SLIP))
    assert {row["who"]["region"] for row in (document, material)} == {REGION}


async def test_a_machine_that_does_not_come_leaves_the_case_forwarded_and_comes_later(world: World) -> None:
    """Nothing is sent again meanwhile: the notice was taken, and what was announced stays here."""
    machine = world.authorities[REGION]
    machine.order("no_pull")
    try:
        submission_id = await world.file(REGION)
        case = await settled(world, submission_id)
        assert (case["state"], case["delivery"]["state"]) == ("FORWARDED", "delivered")
        assert await pulls(world, submission_id) == []
    finally:
        machine.behave()
    await world.until(submission_id, "COMPLETED")
    assert await taken(world, REGION, submission_id) == (1, 1)


async def test_a_case_can_be_pulled_while_nobody_knows_whether_its_notice_was_taken(world: World) -> None:
    """The machine may be faster than our own certainty, and one case comes out."""
    world.authorities[REGION].trap("/exchange/sendApplyNO", "lost_answer")
    submission_id = await world.file(REGION)
    await world.until(submission_id, "COMPLETED")
    case = await settled(world, submission_id)
    assert (case["delivery"]["state"], case["delivery"]["attempts"]) == ("delivered", 2)
    assert await taken(world, REGION, submission_id) == (1, 1)
    assert len(await pulls(world, submission_id)) == 2


async def test_a_pull_that_is_forged_or_played_again_is_refused_and_the_next_one_served(world: World) -> None:
    machine = world.authorities[REGION]
    machine.order("forged_pull", 1)
    submission_id = await world.file(REGION)
    await world.until(submission_id, "COMPLETED")
    machine.order("replayed_pull", 1)
    again = await world.file(REGION)
    await world.until(again, "COMPLETED")

    refused = await world.rows(evidence_rows, action="submission.pickup", outcome="refused")
    assert {row["reason"] for row in refused} >= {"callback.forged", "callback.replayed"}
    assert len(await pulls(world, submission_id)) == len(await pulls(world, again)) == 2


async def test_an_unknown_region_or_operation_is_no_pull(world: World) -> None:
    for path in ("/callbacks/foshan/getApplyInfo", "/callbacks/nowhere/getApplyInfo", "/callbacks/qingyuan/other"):
        refusal = await world.refused(partial(world.send, "POST", path, data=b"appId=QYQZJ"))
        assert refusal.code == "callback.unknown_region"
