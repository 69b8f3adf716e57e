"""The life of a case as a machine: who may enter what, what follows what, and where a set of reports leads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import HOUSE
from gateway.domain.submission import (
    ENDS,
    HANDLING_ONLY,
    NEXT,
    REGION_WORDS,
    RESUME,
    RESUMED,
    Effect,
    Holder,
    Report,
    State,
    holder,
    leads_to,
    may_follow,
    stand,
)
from gateway.domain.submission_picture import picture, table

BEGIN = datetime(2026, 3, 2, 1, tzinfo=UTC)
LAST = {State.DELIVERED, State.WITHDRAWN, State.RETURNED, State.VOID}
states = st.sampled_from(State)


def report(word: str, minute: int, key: str = "", source: str = "foshan") -> Report:
    state = REGION_WORDS.get(word) or State(word)
    told = word if word == RESUMED else ""
    return Report(state, source, BEGIN + timedelta(minutes=minute), key or f"{word}@{minute}", told)


def told(*words: str) -> list[Report]:
    """Return reports of these words, a minute apart."""
    return [report(word, minute) for minute, word in enumerate(words)]


# --- steps ---------------------------------------------------------------------------------------------------------


@given(states, states, states)
def test_what_can_be_reached_from_what_can_be_reached_can_be_reached(one: State, two: State, three: State) -> None:
    if leads_to(one, two) and leads_to(two, three):
        assert leads_to(one, three)


@given(states, states)
def test_every_step_is_a_way(now: State, then: State) -> None:
    if may_follow(now, then):
        assert leads_to(now, then) or then in RESUME[now]


@pytest.mark.parametrize("state", [state for state in State if state is not State.DRAFT])
def test_every_state_can_be_reached_from_a_draft(state: State) -> None:
    assert leads_to(State.DRAFT, state)


@pytest.mark.parametrize("state", State)
def test_every_case_can_come_to_an_end_and_stays_there(state: State) -> None:
    assert state in LAST or any(leads_to(state, end) for end in LAST)
    assert (not NEXT[state]) == (state in LAST)


def test_no_case_goes_back_to_where_it_was_collected() -> None:
    before = {State.DRAFT, State.COLLECTED}
    assert not any(leads_to(state, then) for state in set(State) - before for then in before)


def test_only_the_handling_region_accepts_refuses_and_decides() -> None:
    """The power to decide stays where it is (不改变原有办理事权): we have no step of our own into it."""
    for state in ("ACCEPTED", "ACCEPTED_TOLERANT", "NOT_ACCEPTED", "NOT_WITHIN_POWER", "DECIDED", "COMPLETED", "VOID"):
        assert State(state) in HANDLING_ONLY
    assert set(REGION_WORDS.values()) >= HANDLING_ONLY
    ours = {State.DRAFT, State.COLLECTED, State.FORWARDED, State.DELIVERY_FAILED}
    assert ours.isdisjoint(REGION_WORDS.values())


@pytest.mark.parametrize("refusal", [State.NOT_ACCEPTED, State.NOT_WITHIN_POWER])
def test_a_refused_case_is_never_decided(refusal: State) -> None:
    """Nothing follows but the delivery of the letter."""
    assert {then for then in State if leads_to(refusal, then)} == {State.DELIVERED}


@pytest.mark.parametrize("state", State)
def test_somebody_holds_the_case_until_it_has_ended(state: State) -> None:
    assert (holder(state) is Holder.NOBODY) == (state in ENDS)


# --- where reports lead ----------------------------------------------------------------------------------------------

reports = st.lists(
    st.builds(report, st.sampled_from(sorted(REGION_WORDS)), st.integers(0, 12)), max_size=12, unique_by=lambda r: r.key
)


@given(reports, st.randoms(use_true_random=False))
def test_any_order_and_any_doubling_of_reports_leads_to_the_same(told: list[Report], chance: object) -> None:
    """What arrives late, twice or in another order changes nothing that it would not have changed in time."""
    other = told + [chance.choice(told) for _ in range(3)] if told else []  # type: ignore[attr-defined] # a Random
    chance.shuffle(other)  # type: ignore[attr-defined] # a Random
    assert _outcome(told) == _outcome(list({r.key: r for r in other}.values()))


def _outcome(told: list[Report]) -> object:
    standing = stand(told)
    return standing.state, dict(sorted(standing.effects.items())), standing.steps


@given(reports)
def test_every_step_that_was_taken_is_a_way_of_the_machine(told: list[Report]) -> None:
    """However odd the reports: the case never jumps to where it cannot be."""
    now = State.COLLECTED
    for step in stand(told).steps:
        after = stand(_until(told, step)).state
        assert leads_to(now, after) or after in RESUME.get(now, ())
        now = after


def _until(told: list[Report], last: Report) -> list[Report]:
    taken = stand(told).steps
    return list(taken[: taken.index(last) + 1])


@given(reports)
def test_no_report_is_without_an_effect(told: list[Report]) -> None:
    standing = stand(told)
    assert set(standing.effects) == {r.key for r in told}
    impossible = {key for key, effect in standing.effects.items() if effect is Effect.IMPOSSIBLE}
    assert impossible == set(standing.reasons), "what waits for a person says why"


@given(reports)
def test_a_case_is_extended_once(told: list[Report]) -> None:
    standing = stand(told)
    granted = [step for step in standing.steps if step.state is State.EXTENDED]
    assert len(granted) <= 1


def test_the_plain_life_of_a_case() -> None:
    words = ["FORWARDED", "RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED", "DELIVERED"]
    standing = stand(told(*words))
    assert standing.state is State.DELIVERED
    assert [step.state for step in standing.steps] == words
    assert set(standing.effects.values()) == {Effect.MOVED}


def test_supplements_that_are_in_bring_the_case_on() -> None:
    assert stand(told("RECEIVED", "SUPPLEMENT_NOTICE", "SUPPLEMENTED", "ACCEPTED")).state is State.ACCEPTED


def test_a_region_without_a_word_for_it_says_received_when_the_supplements_are_in() -> None:
    assert stand(told("RECEIVED", "SUPPLEMENT_NOTICE", "RECEIVED")).state is State.SUPPLEMENTED


@pytest.mark.parametrize("before", ["ACCEPTED", "ACCEPTED_TOLERANT", "EXTENDED"])
def test_a_special_procedure_ends_where_it_began(before: str) -> None:
    standing = stand(
        told("ACCEPTED_TOLERANT" if before == "ACCEPTED_TOLERANT" else "ACCEPTED", before, "SPECIAL", RESUMED)
    )
    assert standing.state == before


def test_an_end_of_a_special_procedure_without_its_beginning_changes_nothing() -> None:
    """The beginning may be on its way still; once it is here, both count."""
    ended = [report("ACCEPTED", 0), report(RESUMED, 2)]
    assert stand(ended).state is State.ACCEPTED
    assert [step.key for step in stand([*ended, report("SPECIAL", 1)]).steps][1:] == ["SPECIAL@1", "RESUMED@2"]


def test_of_two_contradicting_reports_the_one_that_happened_first_counts_whichever_came_first() -> None:
    one, other = report("NOT_ACCEPTED", 1), report("DECIDED", 2)
    for order in permutations([one, other]):
        standing = stand(order)
        assert standing.state is State.NOT_ACCEPTED
        assert standing.reasons == {other.key: "DECIDED cannot follow NOT_ACCEPTED"}


def test_a_report_that_contradicts_all_that_came_after_it_is_the_one_that_is_wrong() -> None:
    """A refusal with a slip in its date does not undo a decision; a person looks at the refusal."""
    slip = report("NOT_ACCEPTED", 0)
    standing = stand([slip, *told("RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED")])
    assert standing.state is State.COMPLETED
    assert standing.reasons == {slip.key: "NOT_ACCEPTED contradicts what happened after it"}


def test_a_report_that_explains_another_makes_it_possible() -> None:
    """What could not be may be explained by what was still on its way."""
    extended = [report("EXTENDED", 3), report("ACCEPTED", 1), report("EXTENDED", 2, "again")]
    assert stand(extended).reasons == {"EXTENDED@3": "EXTENDED cannot follow EXTENDED"}
    assert stand(extended[:2]).reasons == {}


def test_our_own_step_that_the_region_has_overtaken_changes_nothing() -> None:
    """Its callback may be faster than its answer to the message that it is about."""
    standing = stand([report("ACCEPTED", 0), report("FORWARDED", 1, "#2", "gateway")])
    assert (standing.state, standing.effects["#2"]) == (State.ACCEPTED, Effect.PASSED)


def test_of_reports_of_the_same_instant_the_earlier_state_comes_first() -> None:
    """Some regions count in seconds, or in days."""
    words = ["COMPLETED", "DECIDED", "ACCEPTED", "RECEIVED"]
    standing = stand([report(word, 0) for word in words])
    assert [step.state for step in standing.steps] == list(reversed(words))


def test_the_document_shows_the_machine_as_it_is() -> None:
    """`python -m gateway.domain.submission_picture` prints what belongs there."""
    shown = (HOUSE / "docs/case-life.md").read_text()
    assert picture() in shown
    assert table() in shown
