"""The rules of mandates: when one serves, every reason why it does not, and what may be made at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.domain.identity import Assurance
from gateway.domain.mandate import (
    MOST_ITEMS,
    Draft,
    Lack,
    Mandate,
    OnPaper,
    Party,
    Relation,
    Revocation,
    Rules,
    SignedOn,
    Use,
    explain,
    faults,
    is_child,
    lacks,
)
from tests.support.mandates import AGENT, ITEM, NOON, OTHER_ITEM, PRINCIPAL, STRANGER, a_mandate

RULES = Rules()
PAPER = OnPaper("F-7", "C-0417", "GZ-01", ("resident identity card",))
CHILD = Party("CN_RIC", "440106201801010010", "陈小小")
PARTIES = (
    PRINCIPAL, AGENT, STRANGER, replace(AGENT, name="别人"), replace(AGENT, number="440106198806150027"),
    Party("HM_PERMIT", "H00000001", AGENT.name), Party("USCC", "11440100MBT40100XX"),
)  # fmt: skip
moments = st.integers(-400 * 24 * 60, 800 * 24 * 60).map(lambda minutes: NOON + timedelta(minutes=minutes))
uses = st.builds(
    Use, st.sampled_from(PARTIES), st.sampled_from([ITEM, OTHER_ITEM, "*", ""]), moments,
    st.sampled_from([None, *PARTIES]),
)  # fmt: skip
given_mandates = st.builds(
    lambda begin, minutes, items: a_mandate(
        valid_from=begin, valid_until=begin + timedelta(minutes=minutes), items=frozenset(items)
    ),
    moments,
    st.integers(1, 400 * 24 * 60),
    st.sets(st.sampled_from([ITEM, OTHER_ITEM]), min_size=1),
)


def use(**changes: object) -> Use:
    said = {"agent": AGENT, "item": ITEM, "on": NOON, "principal": PRINCIPAL}
    return Use(**{**said, **changes})  # type: ignore[arg-type] # the tests name the fields


# --- what serves ---------------------------------------------------------------------------------------------------


def test_a_mandate_serves_its_agent_in_its_item_during_its_term() -> None:
    assert lacks(a_mandate(), use(), RULES) == []


@given(given_mandates, uses)
def test_a_mandate_never_serves_outside_its_term_its_items_or_its_agent(mandate: Mandate, asked: Use) -> None:
    """The property of the whole thing: whoever else, whatever else, whenever else is refused."""
    if lacks(mandate, asked, RULES):
        return
    assert mandate.valid_from <= asked.on < mandate.valid_until
    assert asked.item in mandate.items
    assert (asked.agent.document_type, asked.agent.number, asked.agent.name) == (
        AGENT.document_type, AGENT.number, AGENT.name,
    )  # fmt: skip
    assert asked.principal in (None, PRINCIPAL)
    assert mandate.valid_until - mandate.valid_from <= RULES.longest


@given(given_mandates, uses)
def test_every_reason_is_listed_and_each_has_its_own(mandate: Mandate, asked: Use) -> None:
    """A caller who mends one thing must not then hear of the next."""
    expected = {
        Lack.NOT_YET: asked.on < mandate.valid_from,
        Lack.EXPIRED: asked.on >= mandate.valid_until,
        Lack.OTHER_ITEM: asked.item not in mandate.items,
        Lack.OTHER_AGENT: asked.agent != AGENT,
        Lack.OTHER_PRINCIPAL: asked.principal not in (None, PRINCIPAL),
        Lack.TOO_LONG: mandate.valid_until - mandate.valid_from > timedelta(days=365),
    }
    assert set(lacks(mandate, asked, RULES)) == {lack for lack, holds in expected.items() if holds}


@given(given_mandates, uses, moments)
def test_a_revoked_mandate_serves_nothing_any_more(mandate: Mandate, asked: Use, when: object) -> None:
    """Whatever the clock of the revocation says: a revocation that is recorded counts."""
    revoked = replace(mandate, revocation=Revocation(when, "principal"))  # type: ignore[arg-type] # any moment
    assert Lack.REVOKED in lacks(revoked, asked, RULES)


def test_a_term_ends_at_its_last_moment_and_not_after_it() -> None:
    mandate = a_mandate()
    assert lacks(mandate, use(on=mandate.valid_until - timedelta(microseconds=1)), RULES) == []
    assert lacks(mandate, use(on=mandate.valid_until), RULES) == [Lack.EXPIRED]
    assert lacks(mandate, use(on=mandate.valid_from - timedelta(microseconds=1)), RULES) == [Lack.NOT_YET]


def test_a_principal_who_signed_on_by_a_password_alone_gave_no_mandate() -> None:
    weak = a_mandate(consent=SignedOn("guangdong", "GD1", Assurance.A1, NOON))
    assert lacks(weak, use(), RULES) == [Lack.WEAK_CONSENT]


def test_a_shorter_longest_term_counts_for_mandates_that_were_made_before() -> None:
    assert lacks(a_mandate(), use(), Rules(longest=timedelta(days=7))) == [Lack.TOO_LONG]


def test_an_agent_is_never_taken_by_number_alone() -> None:
    """Guarded by the name in `Party.is_same_as`: a card number that was read off somewhere opens nothing."""
    assert lacks(a_mandate(), use(agent=replace(AGENT, name="别人")), RULES) == [Lack.OTHER_AGENT]
    assert lacks(a_mandate(), use(agent=replace(AGENT, document_type="PASSPORT")), RULES) == [Lack.OTHER_AGENT]


@pytest.mark.parametrize("name", ["CHAN, Tai Man", "chan tai man", "ＣＨＡＮ　Tai·Man"])
def test_a_name_may_be_spelt_with_other_blanks_width_or_case(name: str) -> None:
    known = Party("HM_PERMIT", "H00000001", "CHAN, Tai Man")
    assert known.is_same_as(Party("HM_PERMIT", "H0000000101", name))


def test_an_organisation_is_known_by_its_code_alone() -> None:
    known = Party("USCC", "11440100MBT40100XX", "某机构")
    assert known.is_same_as(Party("USCC", "11440100mbt40100xx"))


@pytest.mark.parametrize("lack", Lack)
def test_every_reason_is_explained_without_naming_anybody(lack: Lack) -> None:
    text = explain(lack, a_mandate(), RULES)
    assert text.endswith(".")
    private = (PRINCIPAL.name, PRINCIPAL.number, AGENT.name, AGENT.number)
    assert [word for word in private if word in text] == []


# --- children ------------------------------------------------------------------------------------------------------


def test_a_child_gives_no_mandate_but_the_guardian_acts_on_what_a_window_has_seen() -> None:
    """Domain rule P7."""
    own = a_mandate(principal=CHILD)
    assert lacks(own, use(principal=CHILD), RULES) == [Lack.NEEDS_GUARDIAN]
    guarded = replace(own, relation=Relation.GUARDIAN, consent=PAPER)
    assert lacks(guarded, use(principal=CHILD), RULES) == []
    claimed = replace(own, relation=Relation.GUARDIAN)
    assert Lack.NEEDS_GUARDIAN in lacks(claimed, use(principal=CHILD), RULES)


def test_childhood_ends_on_the_fourteenth_birthday() -> None:
    born = CHILD.born()
    assert born is not None
    assert is_child(born, born.replace(year=born.year + 14) - timedelta(days=1))
    assert not is_child(born, born.replace(year=born.year + 14))
    assert not is_child(None, born)


# --- making one ----------------------------------------------------------------------------------------------------


def codes(mandate: Mandate, **more: object) -> list[tuple[str, str]]:
    draft = Draft(mandate, frozenset({ITEM, OTHER_ITEM}), RULES, **more)  # type: ignore[arg-type] # the tests name it
    return [(fault.field, fault.code) for fault in faults(draft)]


def test_a_mandate_that_is_right_has_no_fault() -> None:
    assert codes(a_mandate()) == []
    assert codes(a_mandate(consent=PAPER, relation=Relation.GUARDIAN)) == []
    assert codes(a_mandate(agent=Party("USCC", "11440100MBT40100XX"), relation=Relation.AGENCY)) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"items": frozenset()}, ("items", "missing")),
        ({"items": frozenset({"*"})}, ("items", "unknown_item")),
        ({"items": frozenset({ITEM, "X"})}, ("items", "unknown_item")),
        ({"items": frozenset(str(n) for n in range(MOST_ITEMS + 1))}, ("items", "too_many")),
        ({"valid_until": NOON}, ("valid_until", "term")),
        ({"valid_until": NOON + timedelta(days=366)}, ("valid_until", "term_too_long")),
        ({"valid_from": NOON - timedelta(days=3), "valid_until": NOON}, ("valid_until", "term_past")),
        ({"agent": replace(AGENT, number="440106198806150018")}, ("agent.document.number", "check_digit")),
        ({"agent": replace(AGENT, name="")}, ("agent.name", "missing")),
        ({"agent": replace(PRINCIPAL, name="x")}, ("agent", "same_party")),
        ({"relation": Relation.GUARDIAN}, ("relation", "guardian")),
        ({"relation": Relation.AGENCY}, ("relation", "relation")),
        ({"agent": Party("USCC", "11440100MBT40100XX")}, ("relation", "relation")),
        ({"consent": SignedOn("guangdong", "x", Assurance.A1, NOON)}, ("consent", "weak_consent")),
        ({"consent": replace(PAPER, sighted=())}, ("sighted", "missing")),
        ({"principal": CHILD}, ("principal", "needs_guardian")),
    ],
)
def test_what_is_wrong_with_a_new_mandate_is_named(changes: dict[str, object], fault: tuple[str, str]) -> None:
    """There is no mandate for everything, for ever, for oneself, or from a child."""
    assert fault in codes(a_mandate(**changes))


def test_a_region_that_tells_the_day_of_birth_outs_a_child_whose_number_does_not() -> None:
    permit = Party("HM_PERMIT", "H00000002", "陈小小")
    assert codes(a_mandate(principal=permit)) == []
    assert codes(a_mandate(principal=permit), born=CHILD.born()) == [("principal", "needs_guardian")]


def test_all_faults_are_told_in_one_go() -> None:
    wrong = a_mandate(items=frozenset(), valid_until=NOON, agent=replace(AGENT, name=""))
    assert codes(wrong) == [
        ("agent.name", "missing"), ("items", "missing"), ("valid_until", "term"), ("valid_until", "term_past"),
    ]  # fmt: skip


@given(given_mandates)
def test_a_mandate_that_may_be_made_serves_from_its_first_moment(mandate: Mandate) -> None:
    """The two sets of rules agree: nothing is taken that then never serves."""
    assume(codes(mandate) == [])
    asked = use(on=mandate.valid_from, item=min(mandate.items))
    assert lacks(mandate, asked, RULES) == []
