"""Supplements: what was asked for and nothing else, counted by us, once, and never by somebody else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.caller import Caller
from gateway.errors import Conflict, GatewayError, InvalidRequest, NotFound, NotOffered, NotPermitted
from gateway.policy.transfer import Basis
from gateway.storage import Store
from gateway.storage.tables import case_messages, consents, evidence, submissions
from gateway.submissions.parcels import open_message
from tests.support.cases import REGION
from tests.support.clock import ManualClock
from tests.support.followups import Desk, region
from tests.support.intake import CALLER


@pytest.fixture
def desk(sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock) -> Desk:
    return Desk(sqlite_store, sealer, references, clock)


def codes(refused: pytest.ExceptionInfo[GatewayError]) -> set[tuple[str, str]]:
    return {(problem.field, problem.code) for problem in refused.value.problems}


async def test_what_is_missing_is_counted_over_all_supplements(desk: Desk) -> None:
    """One notice names everything: the case shows what of it is there, and we say when it is all."""
    case = await desk.asked_for("ID", "PROOF")
    first = await desk.add(case, "S1", "PROOF")
    assert (first.complete, list(first.missing)) == (False, ["ID"])
    shown = (await desk.cases.show(CALLER, case)).supplement
    assert shown is not None
    assert shown.why == "notice"
    assert not shown.complete
    assert [(wanted.code, wanted.reason, wanted.given) for wanted in shown.materials] == [
        ("ID", "不清晰", False),
        ("PROOF", "不清晰", True),
    ]
    second = await desk.add(case, "S2", "ID")
    assert (second.complete, list(second.missing)) == (True, [])
    assert desk.nudged[-2:] == [REGION, REGION]


async def test_the_day_until_which_it_must_be_there_is_shown(desk: Desk) -> None:
    due = (desk.clock() + timedelta(days=20)).date()
    case = await desk.asked_for("ID", due_on=due.isoformat(), basis="行政许可法 32")
    shown = await desk.cases.show(CALLER, case)
    assert shown.supplement is not None
    assert shown.supplement.basis == "行政许可法 32"
    assert list(shown.can) == ["supplement", "withdrawal"]


async def test_a_caller_cannot_call_complete_what_is_not(desk: Desk) -> None:
    case = await desk.asked_for("ID", "PROOF")
    with pytest.raises(InvalidRequest) as refused:
        await desk.add(case, "S1", "ID", complete=True)
    assert codes(refused) == {("complete", "incomplete")}


async def test_a_caller_may_say_that_more_will_come(desk: Desk) -> None:
    case = await desk.asked_for("ID")
    assert not (await desk.add(case, "S1", "ID", complete=False)).complete


async def test_only_what_is_asked_for_is_taken_and_everything_wrong_is_told(desk: Desk) -> None:
    case = await desk.asked_for("ID")
    stranger = replace(CALLER, client_id="another")
    await desk.blob("theirs", stranger)
    materials = [{"code": "PROOF", "blob": await desk.blob("mine")}, {"code": "ID", "blob": "theirs"}]
    with pytest.raises(InvalidRequest) as refused:
        await desk.add(case, "S1", materials=materials, form={"start": "tomorrow", "shoe": "44"})
    assert codes(refused) == {
        ("materials.0.code", "not_asked"),
        ("materials.1.blob", "unknown_blob"),
        ("form.start", "format"),
        ("form.shoe", "unknown_field"),
    }


async def test_a_correction_needs_only_the_fields_that_are_put_right(desk: Desk) -> None:
    case = await desk.asked_for("ID")
    taken = await desk.add(case, "S1", "ID", form={"start": "2026-04-01"})
    query = select(case_messages.c.body).where(case_messages.c.id == taken.message_id)
    sealed = await desk.store.read(lambda tx: tx.execute(query).scalar_one())
    said = open_message(desk.sealer, taken.message_id, sealed)
    assert (said["form"], said["complete"], said["materials"][0]["code"]) == ({"start": "2026-04-01"}, True, "ID")


async def test_an_empty_supplement_is_none(desk: Desk) -> None:
    case = await desk.asked_for("ID")
    with pytest.raises(InvalidRequest):
        await desk.add(case, "S1")


async def test_nothing_is_taken_before_it_is_asked_for_or_after_it_is_there(desk: Desk) -> None:
    receipt = await desk.file()
    await desk.handed_over(receipt.submission_id)
    with pytest.raises(Conflict) as refused:
        await desk.add(receipt.submission_id, "S1", "ID")
    assert refused.value.stable_code == "submission.not_asked"
    await desk.says(receipt.submission_id, "SUPPLEMENT_NOTICE", materials=[{"code": "ID"}])
    await desk.says(receipt.submission_id, "SUPPLEMENTED")
    with pytest.raises(Conflict):
        await desk.add(receipt.submission_id, "S2", "ID")


async def test_the_same_supplement_again_is_the_same_even_when_nothing_is_asked_any_more(desk: Desk) -> None:
    case = await desk.asked_for("ID")
    first = await desk.add(case, "S1", "ID")
    await desk.says(case, "SUPPLEMENTED")
    again = await desk.add(case, "S1", "ID")
    assert (again.message_id, again.replayed) == (first.message_id, True)
    with pytest.raises(Conflict) as refused:
        await desk.add(case, "S1", "ID", form={"start": "2026-04-01"})
    assert refused.value.stable_code == "submission.reference_conflict"
    assert await desk.store.read(lambda tx: tx.execute(select(func.count()).select_from(case_messages)).scalar()) == 1


async def test_a_case_of_somebody_else_does_not_exist(desk: Desk) -> None:
    case = await desk.asked_for("ID")
    stranger = replace(CALLER, client_id="another")
    with pytest.raises(NotFound):
        await desk.add(case, "S1", "ID", caller=stranger)


async def test_a_region_without_the_wire_wants_it_on_paper(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """The refusal says where to, and is evidence."""
    desk = Desk(sqlite_store, sealer, references, clock, kinds=frozenset({"withdrawal"}))
    case = await desk.asked_for("ID")
    with pytest.raises(NotOffered) as refused:
        await desk.add(case, "S1", "ID")
    assert refused.value.stable_code == "submission.on_paper"
    assert "window" in refused.value.public
    query = select(evidence.c.action, evidence.c.reason).where(evidence.c.id == refused.value.evidence)
    row = await sqlite_store.read(lambda tx: tx.execute(query).one())
    assert tuple(row) == ("submission.supplement", "submission.on_paper")
    shown = await desk.cases.show(CALLER, case)
    assert shown.supplement is not None
    assert shown.supplement.on_paper
    assert "supplement" not in shown.can


async def test_what_was_deferred_may_follow_while_the_tolerance_holds(desk: Desk) -> None:
    """An extension does not end it; that all is there does."""
    receipt = await desk.file()
    case = receipt.submission_id
    await desk.handed_over(case)
    await desk.says(case, "ACCEPTED_TOLERANT", materials=[{"code": "LATER", "name": "居住证明"}])
    await desk.says(case, "EXTENDED")
    with pytest.raises(InvalidRequest):
        await desk.add(case, "S1", "ID")
    taken = await desk.add(case, "S2", "LATER")
    assert taken.complete
    shown = (await desk.cases.show(CALLER, case)).supplement
    assert shown is not None
    assert (shown.why, shown.complete) == ("tolerance", True)


async def test_a_supplement_that_the_region_refused_is_missing_again(desk: Desk) -> None:
    case = await desk.asked_for("ID")
    await desk.add(case, "S1", "ID")
    await desk.settle(case, "supplement", "dead", "region.refused")
    taken = await desk.add(case, "S2", "ID")
    assert taken.complete
    shown = await desk.cases.show(CALLER, case)
    assert [message["state"] for message in shown.messages] == ["dead", "pending"]


async def test_a_second_notice_begins_the_count_anew(desk: Desk) -> None:
    case = await desk.asked_for("ID")
    await desk.add(case, "S1", "ID")
    await desk.says(case, "SUPPLEMENTED")
    await desk.says(case, "SUPPLEMENT_NOTICE", materials=[{"code": "ID"}])
    shown = (await desk.cases.show(CALLER, case)).supplement
    assert shown is not None
    assert not shown.complete


async def test_what_a_notice_names_later_is_missing_too(desk: Desk) -> None:
    """A region that says its notice again, with more, is believed; that it should not have is another matter."""
    case = await desk.asked_for("ID")
    await desk.says(case, "SUPPLEMENT_NOTICE", materials=[{"code": "PROOF"}])
    assert list((await desk.add(case, "S1", "ID")).missing) == ["PROOF"]


async def test_a_notice_that_names_nothing_takes_what_the_applicant_calls_complete(desk: Desk) -> None:
    """Some regions say what is wrong in words alone; then nobody but the applicant can say that it is all."""
    case = await desk.asked_for(reason="材料不清晰")
    shown = (await desk.cases.show(CALLER, case)).supplement
    assert shown is not None
    assert (shown.reason, list(shown.materials), shown.complete) == ("材料不清晰", [], False)
    assert not (await desk.add(case, "S1", "ID", complete=False)).complete
    assert (await desk.add(case, "S2", "PROOF")).complete


async def test_the_same_supplement_twice_at_once_is_one(
    store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """On both engines: the lock of the case lets one write, and the other sees it."""
    desk = Desk(store, sealer, references, clock)
    case = await desk.asked_for("ID", "PROOF")
    both = await asyncio.gather(desk.add(case, "S1", "ID"), desk.add(case, "S1", "ID"), desk.add(case, "S2", "PROOF"))
    assert both[0].message_id == both[1].message_id
    assert sorted((both[0].replayed, both[1].replayed)) == [False, True]
    shown = (await desk.cases.show(CALLER, case)).supplement
    assert shown is not None
    assert shown.complete
    count = select(func.count()).select_from(case_messages)
    assert await store.read(lambda tx: tx.execute(count).scalar()) == 2


async def test_an_agent_supplements_only_by_a_mandate(desk: Desk) -> None:
    case = await desk.asked_for("ID")
    agent = {"name": "黄文员", "document": {"type": "CN_RIC", "number": "440106198806150019"}}
    with pytest.raises(InvalidRequest):
        await desk.add(case, "S1", "ID", agent=agent)
    with pytest.raises(NotPermitted):
        await desk.add(case, "S1", "ID", agent=agent, mandate="MD" + "0" * 32)
    shown = (await desk.cases.show(CALLER, case)).supplement
    assert shown is not None
    assert not shown.materials[0].given


async def test_a_case_from_before_its_purpose_was_kept_needs_a_grant_for_its_item_and_place(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    open_to: list[Any] = []
    grants = SimpleNamespace(require=lambda _ask: None, visible_items=lambda _client, _items, _day: open_to)
    desk = Desk(sqlite_store, sealer, references, clock, grants=grants)
    case = await desk.asked_for("ID")
    await sqlite_store.write(lambda tx: tx.execute(update(submissions).values(purpose_code="")).rowcount)
    with pytest.raises(NotPermitted):
        await desk.add(case, "S1", "ID")
    open_to.append(desk.item)
    assert (await desk.add(case, "S1", "ID")).complete


# --- across a border -----------------------------------------------------------------------------------------------


def across(store: Store, sealer: Sealer, references: References, clock: ManualClock) -> tuple[Desk, Caller]:
    """Return a desk whose callers sit in Hong Kong, with a registered basis."""
    basis = Basis.model_validate({"kind": "GBA-SC-HK", "origin": "810000", "target": "440600", "reference": "1"})
    caller = replace(CALLER, origin_code="810000")
    return Desk(store, sealer, references, clock, bases=(basis,), regions={REGION: region()}), caller


def consent(desk: Desk, *fields: str) -> dict[str, Any]:
    return {
        "recipient": REGION, "purpose": "办理", "fields": list(fields), "given_at": desk.clock().isoformat(),
        "expires_at": (desk.clock() + timedelta(days=30)).isoformat(), "evidence": "同意书 1",
    }  # fmt: skip


APPLIED = ("applicant.name", "applicant.document", "form.start", "deferred")


async def test_a_supplement_across_a_border_needs_a_consent_that_covers_it(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """The case's consent was for a form without files. A new one is asked for, and kept with the case."""
    desk, caller = across(sqlite_store, sealer, references, clock)
    receipt = await desk.file_across(caller, consent(desk, *APPLIED))
    await desk.handed_over(receipt)
    await desk.says(receipt, "SUPPLEMENT_NOTICE", materials=[{"code": "ID"}])
    with pytest.raises(NotPermitted) as refused:
        await desk.add(receipt, "S1", "ID", caller=caller)
    assert refused.value.stable_code == "transfer.no_consent"
    wrong = {**consent(desk, "materials"), "purpose": "另一目的"}
    with pytest.raises(NotPermitted):
        await desk.add(receipt, "S1", "ID", caller=caller, consents=[wrong])
    await desk.add(receipt, "S1", "ID", caller=caller, consents=[consent(desk, "materials")])
    query = select(func.count()).select_from(consents).where(consents.c.case_no == receipt)
    assert await sqlite_store.read(lambda tx: tx.execute(query).scalar()) == 2
    with pytest.raises(InvalidRequest) as kept:
        await desk.add(receipt, "S2", "ID", caller=caller, form={"account": "6222"})
    assert codes(kept) == {("form.account", "may_not_cross")}
