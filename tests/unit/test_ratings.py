"""Ratings (好差评) and complaints: once, after the end, to whom they concern, and never in anybody else's hands."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import select

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Acting, Caller
from gateway.domain.identity import Assurance, SignedOnPerson
from gateway.domain.sensitive import Sensitive
from gateway.domain.submission import State
from gateway.errors import Conflict, InvalidRequest, NotFound, NotOffered
from gateway.storage import Store
from gateway.storage.tables import case_messages, deliveries, evidence, ratings
from gateway.submissions.cases import Cases
from gateway.submissions.complaints import Complaint
from gateway.submissions.parcels import open_message
from gateway.submissions.ratings import KEPT, Correction, figures
from tests.support.afterwards import AGENCY, STRANGER, Finished, Messages, rating, region_that
from tests.support.clock import ManualClock

WORDS = "窗口等了两个小时，李芳"


@pytest_asyncio.fixture
async def done(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> Finished:
    """Return a completed case."""
    finished = Finished(sqlite_store, sealer, clock)
    await finished.open()
    return finished


async def test_a_rating_of_the_authority_goes_to_its_region_and_a_copy_stays(done: Finished, sealer: Sealer) -> None:
    given = rating(indicators=["service_attitude"], words=WORDS, score=4)
    rated = await done.ratings.rate(AGENCY, done.case, given)
    assert (rated.rating.delivery, rated.rating.correct_by, rated.replayed) == ("pending", None, False)
    assert done.nudged == ["foshan"]
    row = await done.store.read(lambda tx: tx.execute(select(case_messages)).one())
    sent = open_message(sealer, row.id, row.body)
    assert (sent["role"], sent["score"], sent["words"], sent["indicators"]) == (
        "handling", 4, WORDS, ["service_attitude"],
    )  # fmt: skip
    shown = (await Cases(done.store, sealer).show(AGENCY, done.case)).ratings
    assert [(view.role, view.words, view.delivery) for view in shown] == [("handling", WORDS, "pending")]


async def test_a_rating_of_the_window_stays_with_the_window(done: Finished) -> None:
    rated = await done.ratings.rate(AGENCY, done.case, rating(role="collecting"))
    assert (rated.rating.delivery, rated.rating.remark) == (None, None)
    assert await done.store.read(lambda tx: tx.execute(select(case_messages)).all()) == []


async def test_a_region_that_takes_no_ratings_leaves_them_here_and_the_answer_says_so(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    done = Finished(sqlite_store, sealer, clock, region=region_that(messages=Messages(frozenset({"withdrawal"}))))
    await done.open()
    rated = await done.ratings.rate(AGENCY, done.case, rating())
    assert (rated.rating.delivery, rated.rating.remark) == (None, KEPT)


@pytest.mark.parametrize("score", [1, 2, 3])
async def test_a_bad_rating_opens_a_correction_of_fifteen_working_days(done: Finished, score: int) -> None:
    """Monday 2026-03-02 and fifteen working days, of which one is a holiday."""
    rated = await done.ratings.rate(AGENCY, done.case, rating(score=score))
    told = dict(await done.facts())
    if score <= 2:
        assert rated.rating.correct_by == date(2026, 3, 24)
        assert told["rating.bad"] == {"role": "handling", "score": score, "due_on": "2026-03-24"}
    else:
        assert (rated.rating.correct_by, "rating.bad" in told) == (None, False)


async def test_each_role_is_rated_once_and_the_same_again_is_the_same(done: Finished) -> None:
    await done.ratings.rate(AGENCY, done.case, rating(score=1))
    again = await done.ratings.rate(AGENCY, done.case, rating(score=1))
    assert again.replayed
    for other in (rating(score=5), rating(score=1, reference="R-2")):
        with pytest.raises(Conflict) as refused:
            await done.ratings.rate(AGENCY, done.case, other)
        assert refused.value.stable_code == "rating.given"
    await done.ratings.rate(AGENCY, done.case, rating(role="collecting"))
    assert len(await done.store.read(lambda tx: tx.execute(select(ratings)).all())) == 2
    assert [kind for kind, _ in await done.facts()].count("rating.bad") == 1


@pytest.mark.parametrize("state", [State.SUPPLEMENT_NOTICE, State.DECIDED])
async def test_a_case_that_has_not_ended_is_not_rated(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock, state: State
) -> None:
    done = Finished(sqlite_store, sealer, clock)
    await done.open(state)
    with pytest.raises(Conflict) as refused:
        await done.ratings.rate(AGENCY, done.case, rating())
    assert refused.value.stable_code == "rating.too_early"


async def test_an_authority_that_never_had_the_case_is_not_rated(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    done = Finished(sqlite_store, sealer, clock)
    await done.open(State.WITHDRAWN, there=False)
    with pytest.raises(Conflict) as refused:
        await done.ratings.rate(AGENCY, done.case, rating())
    assert refused.value.stable_code == "rating.not_handled"
    await done.ratings.rate(AGENCY, done.case, rating(role="collecting"))


async def test_nobody_adds_an_indicator_of_their_own(done: Finished) -> None:
    """Those of a page are not those of a hall, and every wrong one is named."""
    with pytest.raises(InvalidRequest) as refused:
        await done.ratings.rate(
            AGENCY, done.case, rating(indicators=["overall", "overall", "guide_accuracy", "temperature_of_tea"])
        )
    assert set(refused.value.fields()) == {"indicators", "indicators.2", "indicators.3"}


async def test_what_the_rater_wrote_stands_in_no_event_and_in_no_evidence(done: Finished) -> None:
    await done.ratings.rate(AGENCY, done.case, rating(words=WORDS, score=1))
    await done.complaints.complain(AGENCY, done.case, Complaint(reference="B-1", text=WORDS, contact="13800000001"))
    assert WORDS not in str(await done.facts())
    rows = await done.store.read(lambda tx: [tx.execute(select(t)).all() for t in (evidence, case_messages, ratings)])
    assert WORDS not in str(rows)
    assert WORDS.encode() not in str(rows).encode("unicode_escape")


async def test_a_complaint_is_forwarded_once_under_the_number_of_the_case(done: Finished, sealer: Sealer) -> None:
    complaint = Complaint(reference="B-1", text=WORDS, contact="13800000001")
    first = await done.complaints.complain(AGENCY, done.case, complaint)
    again = await done.complaints.complain(AGENCY, done.case, complaint)
    assert (first.message_id, again.replayed) == (again.message_id, True)
    kinds = await done.store.read(lambda tx: tx.execute(select(deliveries.c.kind, deliveries.c.due)).all())
    assert [kind for kind, due in kinds if due] == ["complaint"]
    assert await done.facts() == [("complaint.made", {"message": first.message_id})]
    row = await done.store.read(lambda tx: tx.execute(select(case_messages)).one())
    assert open_message(sealer, row.id, row.body)["text"] == WORDS
    with pytest.raises(Conflict):
        await done.complaints.complain(AGENCY, done.case, Complaint(reference="B-1", text="something else"))


async def test_a_complaint_waits_for_the_hand_over_and_for_a_region_that_takes_it(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    early = Finished(sqlite_store, sealer, clock)
    await early.open(State.COLLECTED, there=False)
    with pytest.raises(Conflict) as refused:
        await early.complaints.complain(AGENCY, early.case, Complaint(reference="B-1", text=WORDS))
    assert refused.value.stable_code == "complaint.too_early"


async def test_a_region_without_complaints_says_so(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> None:
    done = Finished(sqlite_store, sealer, clock, region=region_that())
    await done.open()
    with pytest.raises(NotOffered):
        await done.complaints.complain(AGENCY, done.case, Complaint(reference="B-1", text=WORDS))


async def test_a_case_of_somebody_else_is_not_there(done: Finished) -> None:
    with pytest.raises(NotFound):
        await done.ratings.rate(STRANGER, done.case, rating())
    with pytest.raises(NotFound):
        await done.complaints.complain(STRANGER, done.case, Complaint(reference="B-1", text=WORDS))


async def test_who_acts_for_a_person_has_only_the_cases_of_that_person(done: Finished) -> None:
    """A portal's token stands for one person: it rates no case of somebody else who uses the same portal."""

    def acting_for(number: str) -> Caller:
        claims = {"document": {"type": "CN_RIC", "number": number}}
        person = SignedOnPerson("guangdong", "s", Assurance.A2, "m", done.clock(), Sensitive(claims))
        return replace(AGENCY, acting=Acting(person, "s", "grant"))

    with pytest.raises(NotFound):
        await done.ratings.rate(acting_for("44010619900101900X"), done.case, rating())
    await done.ratings.rate(acting_for("11010519491231002X"), done.case, rating())


async def test_a_bad_rating_stays_open_until_somebody_says_what_was_done(done: Finished) -> None:
    """Once; a good rating has nothing to put right; and who is late is told so."""
    await done.ratings.rate(AGENCY, done.case, rating(score=1))
    await done.ratings.rate(AGENCY, done.case, rating(role="collecting"))
    assert await waiting(done) == {("foshan", "handling", "open"): 1}
    done.clock.advance(30 * 86400)
    assert await waiting(done) == {("foshan", "handling", "overdue"): 1}
    correction = Correction(at=done.clock(), words=WORDS)
    corrected = await done.ratings.correct(AGENCY, done.case, "handling", correction)
    again = await done.ratings.correct(AGENCY, done.case, "handling", correction)
    assert (corrected.rating.correction, again.replayed, await waiting(done)) == (WORDS, True, {})
    [(_, told)] = await done.facts(["rating.corrected"])
    assert told == {"role": "handling", "late": True}
    for role, code in (
        ("collecting", "rating.not_bad"),
        ("nobody", "rating.not_bad"),
        ("handling", "rating.corrected"),
    ):
        with pytest.raises(Conflict) as refused:
            await done.ratings.correct(AGENCY, done.case, role, Correction(at=done.clock(), words="something else"))
        assert refused.value.stable_code == code


async def test_nothing_was_put_right_before_the_rating_or_after_now(done: Finished) -> None:
    await done.ratings.rate(AGENCY, done.case, rating(score=1))
    for apart in (-1, 1):
        with pytest.raises(InvalidRequest):
            await done.ratings.correct(
                AGENCY, done.case, "handling", Correction(at=done.clock() + timedelta(seconds=apart), words="x")
            )


async def waiting(done: Finished) -> dict[tuple[str, str, str], int]:
    return await done.store.read(lambda tx: figures(tx, done.clock()))
