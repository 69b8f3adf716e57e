"""A system that acts for a person who signed on acts for that person and for nobody else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.caller import Acting, Caller
from gateway.domain.identity import Assurance, SignedOnPerson
from gateway.domain.sensitive import Sensitive
from gateway.submissions.application import Application
from gateway.submissions.checks import acting_problems

NUMBER, OTHER, FIRM = "44010619900101900X", "440106198806150019", "91440101MA5T00010Q"
CLAIMS = {"name": "陈小明", "document": {"type": "CN_RIC", "number": NUMBER}}
CALLER = Caller("agency", "机构", "11440100MBT40100XX", "440100", frozenset({"submissions"}))


def acting(claims: dict[str, Any]) -> Acting:
    now = datetime(2026, 5, 4, tzinfo=UTC)
    return Acting(SignedOnPerson("guangdong", "gd-1", Assurance.A2, "YSS", now, Sensitive(claims)), "pairwise", "g-1")


def application(number: str = NUMBER, **changes: Any) -> Application:
    person = {"kind": "person", "name": "陈小明", "document": {"type": "CN_RIC", "number": number}}
    whole = {"reference": "r-1", "item": "i", "place": "foshan", "mode": "online", "applicant": person, "form": {},
             "purpose_code": "p", "purpose": "p", "legal_basis": "statutory"}  # fmt: skip
    return Application.model_validate({**whole, **changes})


def codes(given: Application, claims: dict[str, Any] = CLAIMS) -> list[tuple[str, str]]:
    caller = replace(CALLER, acting=acting(claims))
    return [(problem.field, problem.code) for problem in acting_problems(caller, given)]


def test_the_person_who_signed_on_may_be_the_applicant() -> None:
    assert codes(application()) == []
    assert codes(application(NUMBER.lower())) == []


def test_nobody_else_may_be() -> None:
    """Guarded by `Acting.is_for` in `checks.acting_problems`."""
    assert codes(application(OTHER)) == [("applicant.document", "another_person")]


def test_a_person_without_a_document_is_nobodys_applicant() -> None:
    """A name alone is no identity: two people have one name."""
    assert codes(application(), {"name": "陈小明"}) == [("applicant.document", "another_person")]


def test_a_kind_of_document_is_part_of_the_document() -> None:
    claims = {**CLAIMS, "document": {"type": "PASSPORT", "number": NUMBER}}
    assert codes(application(), claims) == [("applicant.document", "another_person")]


def test_who_signed_on_for_an_organisation_files_for_it() -> None:
    firm = {"kind": "organisation", "name": "珠江示例有限公司", "document": {"type": "USCC", "number": FIRM}}
    claims = {**CLAIMS, "organisation": {"name": "珠江示例有限公司", "document": {"type": "USCC", "number": FIRM}}}
    assert codes(application(applicant=firm), claims) == []
    assert codes(application(applicant=firm)) == [("applicant.document", "another_person")]


@pytest.mark.parametrize(("agent", "found"), [(NUMBER, []), (OTHER, [("agent.document", "another_person")])])
def test_an_agent_who_signed_on_files_for_the_principal(agent: str, found: list[tuple[str, str]]) -> None:
    """The mandate says for whom; the sign-on says who files."""
    named = {"name": "某人", "document": {"type": "CN_RIC", "number": agent}}
    assert codes(application(OTHER, agent=named, mandate="MD1")) == found


def test_nobody_was_at_a_window() -> None:
    assert codes(application(mode="collect")) == [("mode", "mode")]


def test_a_system_that_acts_for_nobody_vouches_for_its_applicants_itself() -> None:
    assert list(acting_problems(CALLER, application(OTHER))) == []
