"""A case of several offices (多地联办): a case for each part, one whole that is where its parts are, none twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.item import Item, Office, Part
from gateway.domain.joint import DONE, PartStanding, is_part_reference, released, state_of, waits_for
from gateway.domain.submission import ENDS, State
from gateway.errors import Conflict, InvalidRequest
from gateway.storage import Store
from gateway.storage.tables import blobs, consents, deliveries, submission_materials, submissions
from gateway.submissions import queue
from gateway.submissions.cases import CaseView
from gateway.submissions.withdrawals import Return
from tests.support.cases import REGION, number
from tests.support.clock import ManualClock
from tests.support.followups import ASKED, Desk, region, withdrawal
from tests.support.intake import CALLER

OTHER = "shenzhen"
_BOTH = replace(ASKED, offices=[Office(REGION, "440600", 1, 5, "G"), Office(OTHER, "440300", 1, 5, "G")])
_NAMES = {"zh-CN": "一", "en": "One"}
_PARTS = [Part("CHECK", _NAMES, [REGION], [], 1, "G"), Part("REGISTER", _NAMES, [REGION, OTHER], ["CHECK"], 1, "G")]
IN_TURN = replace(_BOTH, parts=_PARTS)


def desk_of(item: Item, store: Store, sealer: Sealer, references: References, clock: ManualClock) -> Desk:
    regions = {REGION: region(), OTHER: region(OTHER, "440300")}
    return Desk(store, sealer, references, clock, item=item, regions=regions)


@pytest.fixture
def desk(sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock) -> Desk:
    return desk_of(_BOTH, sqlite_store, sealer, references, clock)


@pytest.fixture
def in_turn(sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock) -> Desk:
    return desk_of(IN_TURN, sqlite_store, sealer, references, clock)


SIDE_BY_SIDE: Any = [{"place": REGION}, {"place": OTHER}]
ONE_AFTER_ANOTHER: Any = [{"place": REGION, "part": "CHECK"}, {"place": OTHER, "part": "REGISTER"}]


async def show(desk: Desk, case: str) -> CaseView:
    return await desk.cases.show(CALLER, case)


async def parts(desk: Desk, case: str) -> list[str]:
    return [part.id for part in (await show(desk, case)).parts]


# --- where the whole stands ----------------------------------------------------------------------------------------

states = st.sampled_from(list(State))
standings = st.lists(st.builds(PartStanding, st.just(""), states, st.booleans()), min_size=1, max_size=5)


@given(standings, st.randoms(use_true_random=False))
def test_the_order_of_the_parts_does_not_matter(found: list[PartStanding], random: Any) -> None:
    mixed = random.sample(found, len(found))
    assert state_of(mixed) is state_of(found)


@given(standings)
def test_the_whole_ends_when_all_parts_have_ended_and_not_before(found: list[PartStanding]) -> None:
    assert (state_of(found) in ENDS) == all(part.state in ENDS for part in found)


@given(standings)
def test_the_whole_stands_where_one_of_its_parts_stands(found: list[PartStanding]) -> None:
    assert state_of(found) in {part.state for part in found}


@given(st.lists(st.builds(PartStanding, st.just(""), states), min_size=1, max_size=5))
def test_the_whole_is_decided_or_done_only_when_every_part_is_as_far(found: list[PartStanding]) -> None:
    whole, reached = state_of(found), {part.state for part in found}
    if whole is State.DECIDED:
        assert reached <= {State.DECIDED, *ENDS}
    if whole in DONE:
        assert reached <= DONE
    if whole is State.DELIVERED:
        assert reached == {State.DELIVERED}


@given(st.lists(st.builds(PartStanding, st.just(""), st.sampled_from(sorted(ENDS))), min_size=1, max_size=5))
def test_one_refusal_shows_in_the_end(found: list[PartStanding]) -> None:
    reached = {part.state for part in found}
    if State.NOT_ACCEPTED in reached:
        assert state_of(found) is State.NOT_ACCEPTED
    if reached & (ENDS - DONE):
        assert state_of(found) not in DONE


@given(states)
def test_a_single_part_is_the_whole(state: State) -> None:
    assert state_of([PartStanding("", state)]) is state


def test_a_part_that_waits_says_nothing_while_another_is_at_work() -> None:
    waiting = PartStanding("B", State.COLLECTED, waiting=True)
    assert state_of([PartStanding("A", State.ACCEPTED), waiting]) is State.ACCEPTED
    assert state_of([PartStanding("A", State.COMPLETED), waiting]) is State.COLLECTED


def test_a_part_goes_when_those_before_it_are_done_and_never_when_one_was_refused() -> None:
    assert waits_for(IN_TURN, "REGISTER") == {"CHECK"}
    for state, go in ((State.DECIDED, None), (State.COMPLETED, True), (State.NOT_ACCEPTED, False)):
        assert released(IN_TURN, {"CHECK": [state]}, "REGISTER") is go


async def test_no_agency_can_take_the_name_of_a_part(desk: Desk) -> None:
    """The first part of a whole that is filed tomorrow could not be written beside it."""
    whole = number(1, desk.clock())
    for position in (1, 12):
        with pytest.raises(InvalidRequest) as refused:
            await desk.file(f"{whole}/{position}")
        assert [(problem.field, problem.code) for problem in refused.value.problems] == [("reference", "reserved")]
    for free in (f"{whole}/a", f"{whole}/", whole, "2026/1"):
        await desk.file(free)
    receipt = await desk.file("joint", parts=SIDE_BY_SIDE)
    c = submissions.c
    named = select(c.client_reference).where(c.parent_id == receipt.submission_id)
    references = await desk.store.read(lambda tx: tx.execute(named).scalars().all())
    assert len(references) == len([text for text in references if is_part_reference(text)]) == 2


# --- filing --------------------------------------------------------------------------------------------------------


async def test_every_office_gets_a_case_of_its_own_and_the_whole_none(desk: Desk) -> None:
    """Each with its own number, delivery and body; the files are kept once."""
    extra = {"code": "PROOF", "blob": await desk.blob("only-for-shenzhen")}
    wanted = [{"place": REGION}, {"place": OTHER, "materials": [extra], "form": {"start": "2026-05-01"}}]
    receipt = await desk.file(parts=wanted)
    whole = await show(desk, receipt.submission_id)
    assert whole.delivery is None
    assert [(part.place, part.state, part.waiting) for part in whole.parts] == [
        (REGION, "COLLECTED", False),
        (OTHER, "COLLECTED", False),
    ]
    assert desk.nudged == [REGION, OTHER]
    ids = [part.id for part in whole.parts]
    c, m = deliveries.c, submission_materials.c
    rows = await desk.store.read(lambda tx: tx.execute(select(c.submission_id, c.region, c.due)).all())
    assert {(row.submission_id, row.region) for row in rows} == {(ids[0], REGION), (ids[1], OTHER)}
    files = await desk.store.read(lambda tx: tx.execute(select(m.submission_id, m.code)).all())
    assert sum(row.submission_id == ids[0] for row in files) == 3
    assert sum(row.submission_id == ids[1] for row in files) == 4
    owners = await desk.store.read(lambda tx: set(tx.execute(select(blobs.c.case_id)).scalars()))
    assert owners == {receipt.submission_id}
    assert (await show(desk, ids[1])).whole == receipt.submission_id
    assert [summary.id for summary in await desk.cases.recent(CALLER, 10)] == [receipt.submission_id]


async def test_the_same_application_again_is_the_same_and_another_a_conflict(desk: Desk) -> None:
    first = await desk.file(parts=SIDE_BY_SIDE)
    again = await desk.file(parts=SIDE_BY_SIDE)
    assert (again.submission_id, again.replayed) == (first.submission_id, True)
    with pytest.raises(Conflict):
        await desk.file(parts=list(reversed(SIDE_BY_SIDE)))
    count = await desk.store.read(lambda tx: len(tx.execute(select(submissions.c.id)).all()))
    assert count == 3


@pytest.mark.parametrize(
    ("wanted", "problems"),
    [
        ([{"place": REGION}], {("parts", "missing_part")}),
        ([{"place": REGION}, {"place": REGION}], {("parts.1", "twice")}),
        ([{"place": REGION, "part": "X"}, {"place": OTHER}], {("parts.0.part", "unknown_part")}),
        ([{"place": REGION}, {"place": OTHER, "form": {"shoe": "44"}}], {("parts.1.form.shoe", "unknown_field")}),
        ([{"place": REGION}, {"place": "mars"}], {("parts.1.place", "unknown_place")}),
        (
            [{"place": REGION}, {"place": OTHER, "materials": [{"code": "ID", "blob": "nobody's"}]}],
            {("parts.1.materials.0.blob", "unknown_blob")},
        ),
    ],
)
async def test_what_is_wrong_with_a_part_is_told_under_its_path(desk: Desk, wanted: Any, problems: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await desk.file(parts=wanted)
    assert {(problem.field, problem.code) for problem in refused.value.problems} == problems
    assert await desk.store.read(lambda tx: tx.execute(select(submissions.c.id)).all()) == []


async def test_the_parts_of_an_item_are_all_named_at_places_that_handle_them(in_turn: Desk) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await in_turn.file(parts=[{"place": OTHER, "part": "CHECK"}])
    assert {(problem.field, problem.code) for problem in refused.value.problems} == {
        ("parts.0.place", "unknown_place"),
        ("parts", "missing_part"),
    }


# --- going on ------------------------------------------------------------------------------------------------------


async def test_the_whole_is_complete_when_every_part_is(desk: Desk) -> None:
    case = (await desk.file(parts=SIDE_BY_SIDE)).submission_id
    first, second = await parts(desk, case)
    for part in (first, second):
        await desk.handed_over(part)
        await desk.says(part, "ACCEPTED")
    assert await desk.state(case) == "ACCEPTED"
    await desk.says(first, "COMPLETED")
    assert await desk.state(case) == "ACCEPTED"
    await desk.says(second, "COMPLETED")
    assert await desk.state(case) == "COMPLETED"
    told = [(entry.kind, entry.state) for entry in (await show(desk, case)).timeline]
    assert told[-2:] == [("part.ended", "ACCEPTED"), ("parts", "COMPLETED")]


async def test_parts_that_end_at_the_same_moment_end_the_whole(
    store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """On both engines: whoever is second sees what the first has written, for both lock the whole."""
    desk = desk_of(_BOTH, store, sealer, references, clock)
    case = (await desk.file(parts=SIDE_BY_SIDE)).submission_id
    found = await parts(desk, case)
    for part in found:
        await desk.handed_over(part)
    await asyncio.gather(*(desk.says(part, "COMPLETED") for part in found))
    assert await desk.state(case) == "COMPLETED"


async def test_a_region_cannot_move_the_whole(desk: Desk) -> None:
    case = (await desk.file(parts=SIDE_BY_SIDE)).submission_id
    assert (await desk.says(case, "COMPLETED")).outcome == "conflict"
    assert await desk.state(case) == "COLLECTED"


async def test_a_part_whose_office_asks_for_a_supplement_makes_it_the_applicants_turn(desk: Desk) -> None:
    case = (await desk.file(parts=SIDE_BY_SIDE)).submission_id
    first, second = await parts(desk, case)
    await desk.handed_over(first)
    await desk.handed_over(second)
    await desk.says(second, "SUPPLEMENT_NOTICE", materials=[{"code": "ID"}])
    assert (await show(desk, case)).holder == "applicant"
    with pytest.raises(Conflict) as refused:
        await desk.add(case, "S1", "ID")
    assert refused.value.stable_code == "submission.in_parts"
    assert (await desk.add(second, "S1", "ID")).complete


async def test_one_refusal_shows_at_once_and_in_the_end(desk: Desk) -> None:
    case = (await desk.file(parts=SIDE_BY_SIDE)).submission_id
    first, second = await parts(desk, case)
    for part in (first, second):
        await desk.handed_over(part)
    await desk.says(first, "NOT_ACCEPTED")
    assert [entry.kind for entry in (await show(desk, case)).timeline][-1] == "part.ended"
    assert await desk.state(case) == "RECEIVED"
    await desk.says(second, "COMPLETED")
    assert await desk.state(case) == "NOT_ACCEPTED"


async def test_a_part_waits_for_those_before_it_and_goes_when_they_are_done(in_turn: Desk) -> None:
    case = (await in_turn.file(parts=ONE_AFTER_ANOTHER)).submission_id
    first, second = await parts(in_turn, case)
    due = select(deliveries.c.due).where(deliveries.c.submission_id == second)
    assert await in_turn.store.read(lambda tx: tx.execute(due).scalar_one()) is None
    assert (await show(in_turn, case)).parts[1].waiting
    assert await in_turn.delivery(second) == "waiting"
    in_turn.clock.advance(90 * 86_400)
    await in_turn.handed_over(first)
    assert await in_turn.state(case) == "RECEIVED"
    assert OTHER not in await in_turn.store.read(lambda tx: queue.figures(tx, in_turn.clock()))
    await in_turn.says(first, "COMPLETED")
    assert await in_turn.store.read(lambda tx: tx.execute(due).scalar_one()) == in_turn.clock()
    since = select(deliveries.c.tried_since).where(deliveries.c.submission_id == second)
    assert await in_turn.store.read(lambda tx: tx.execute(since).scalar_one()) == in_turn.clock(), "it is not late"
    assert in_turn.begun == [second]
    counts, age = (await in_turn.store.read(lambda tx: queue.figures(tx, in_turn.clock())))[OTHER]
    assert (counts, age) == ({"pending": 1}, 0.0), "the months before are no reason to give it up"
    assert await in_turn.state(case) == "COLLECTED"
    await in_turn.handed_over(second)
    await in_turn.says(second, "COMPLETED")
    assert await in_turn.state(case) == "COMPLETED"


async def test_a_part_that_waits_in_vain_is_given_back(in_turn: Desk) -> None:
    case = (await in_turn.file(parts=ONE_AFTER_ANOTHER)).submission_id
    first, second = await parts(in_turn, case)
    await in_turn.handed_over(first)
    await in_turn.says(first, "NOT_ACCEPTED")
    assert (await in_turn.state(second), await in_turn.delivery(second)) == ("RETURNED", "cancelled")
    assert await in_turn.state(case) == "NOT_ACCEPTED"


async def turn_after_a_consent(desk: Desk, recipient: str, recorded_by: str) -> str:
    """Return the part behind the first one, whose turn comes when this consent is over."""
    case = (await desk.file(parts=ONE_AFTER_ANOTHER)).submission_id
    first, second = await parts(desk, case)
    row = {
        "id": "CNS1", "case_no": second, "subject_ref": "0", "recipient": recipient, "purpose": "办理", "fields": [],
        "basis": "b", "legal_basis": "l", "recorded_by": recorded_by, "evidence": "1", "given_at": desk.clock(),
        "expires_at": desk.clock() + timedelta(days=30),
    }  # fmt: skip
    await desk.store.write(lambda tx: tx.execute(consents.insert().values(row)).rowcount)
    desk.clock.advance(31 * 86_400)
    await desk.handed_over(first)
    await desk.says(first, "COMPLETED")
    return second


async def test_a_part_whose_consent_is_over_by_its_turn_is_given_back(in_turn: Desk) -> None:
    """It was in force when the application was filed; by now nothing carries the transfer (rule P3)."""
    second = await turn_after_a_consent(in_turn, OTHER, "agency")
    assert (await in_turn.state(second), await in_turn.delivery(second)) == ("RETURNED", "cancelled")
    told = (await show(in_turn, second)).timeline[-1].detail
    assert "consent" in told["reason"]


@pytest.mark.parametrize(("recipient", "recorded_by"), [("hongkong", "agency"), ("agency", "agency"), (OTHER, "else")])
async def test_a_part_goes_whatever_became_of_a_consent_that_it_does_not_need(
    in_turn: Desk, recipient: str, recorded_by: str
) -> None:
    """One to asking an issuer about a certificate, one to its answer, and one that somebody else wrote down."""
    second = await turn_after_a_consent(in_turn, recipient, recorded_by)
    assert (await in_turn.state(second), await in_turn.delivery(second)) == ("COLLECTED", "pending")


# --- ending it -----------------------------------------------------------------------------------------------------


async def test_withdrawing_the_whole_withdraws_every_part_each_in_its_way(desk: Desk) -> None:
    case = (await desk.file(parts=SIDE_BY_SIDE)).submission_id
    first, second = await parts(desk, case)
    await desk.handed_over(first)
    ended = await desk.withdrawals.withdraw(CALLER, case, withdrawal())
    assert ended.asked
    assert (await desk.delivery(first, "withdrawal"), await desk.state(second)) == ("pending", "WITHDRAWN")
    await desk.says(first, "WITHDRAWN")
    assert await desk.state(case) == "WITHDRAWN"
    assert (await desk.withdrawals.withdraw(CALLER, case, withdrawal())).replayed


async def test_nothing_is_withdrawn_when_one_part_is_decided(desk: Desk) -> None:
    case = (await desk.file(parts=SIDE_BY_SIDE)).submission_id
    first, second = await parts(desk, case)
    await desk.handed_over(first)
    await desk.says(first, "DECIDED")
    with pytest.raises(Conflict) as refused:
        await desk.withdrawals.withdraw(CALLER, case, withdrawal())
    assert refused.value.stable_code == "submission.too_late"
    assert (await desk.state(second), await desk.delivery(second)) == ("COLLECTED", "pending")


async def test_the_whole_is_given_back_while_no_part_has_left(desk: Desk) -> None:
    back = Return(reason="申请人要回材料")
    kept, gone = (
        (await desk.file("1", parts=SIDE_BY_SIDE)).submission_id,
        (await desk.file("2", parts=SIDE_BY_SIDE)).submission_id,
    )
    assert list((await show(desk, kept)).can) == ["withdrawal", "return"]
    await desk.withdrawals.give_back(CALLER, kept, back)
    assert await desk.state(kept) == "RETURNED"
    first, second = await parts(desk, gone)
    await desk.handed_over(first)
    with pytest.raises(Conflict):
        await desk.withdrawals.give_back(CALLER, gone, back)
    assert (await desk.state(second), await desk.delivery(second)) == ("COLLECTED", "pending")
