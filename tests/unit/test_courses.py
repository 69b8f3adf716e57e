"""What a simulated authority can be ordered to do with a case, held against the state machine of the product.

The two share no code: a course that cannot be would teach every region's tests something that no region does.
"""

from __future__ import annotations

import pytest

from gateway.domain.submission import REGION_WORDS, RESUMED, State, may_follow
from gateway.sandbox.authority import Misbehaviour
from gateway.sandbox.courses import ORDERS, USUAL, WAIT, Plan, ordered


def steps_of(order: str) -> tuple[str, ...]:
    wrong = Misbehaviour(known=ORDERS)
    wrong.order(order, 1)
    return ordered(wrong)


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_every_course_is_one_that_a_case_can_take(order: str) -> None:
    now = State.FORWARDED
    for word in (step for step in steps_of(order) if step != WAIT):
        then = REGION_WORDS[word]
        assert may_follow(now, then), f"{word} after {now}"
        now = then


def test_the_courses_show_every_word_that_a_region_has() -> None:
    shown = {step for order in ORDERS for step in steps_of(order)} | {"WITHDRAWN"}
    assert shown - {WAIT} == REGION_WORDS.keys() | {RESUMED}


def test_an_order_is_good_for_one_case() -> None:
    wrong = Misbehaviour(known=ORDERS)
    wrong.order("course_refused", 1)
    assert ordered(wrong) == ("RECEIVED", "NOT_ACCEPTED")
    assert ordered(wrong) == USUAL


def taken(plan: Plan) -> Plan:
    while plan.next:
        plan = plan.step()
    return plan


def test_a_plan_waits_until_everything_is_there_and_then_goes_on() -> None:
    plan = taken(Plan(steps_of("course_supplement")))
    assert (plan.waits, plan.done[-1]) == (True, "SUPPLEMENT_NOTICE")
    plan = taken(plan.supplemented())
    assert (plan.waits, plan.done[-1], plan.next) == (False, "COMPLETED", None)
    assert plan.supplemented() == plan


def test_a_withdrawal_ends_a_case_that_is_not_decided() -> None:
    plan = taken(Plan(steps_of("course_supplement")))
    assert plan.may_be_withdrawn
    ended = taken(plan.withdrawn())
    assert (ended.done[-1], ended.may_be_withdrawn) == ("WITHDRAWN", False)
    assert not taken(Plan(USUAL)).may_be_withdrawn


def test_a_plan_comes_back_from_the_notebook_as_it_was() -> None:
    plan = Plan(USUAL).step()
    assert Plan.read(plan.written()) == plan
    assert Plan.read(None).next is None
