"""What the catalogue says of where a value comes from, and how a material may be handed in, is held at intake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.item import FormField, MaterialRule
from gateway.errors import InvalidRequest
from gateway.storage import Store
from gateway.storage.tables import evidence
from gateway.submissions.checks import material_problems
from gateway.submissions.vouched import identity_problems, typed_in
from tests.support.clock import ManualClock
from tests.support.followups import ASKED, FORM, Desk
from tests.support.intake import CALLER, ITEM
from tests.unit.test_acting import CLAIMS, OTHER, acting, application

NAMES = {"zh-CN": "电话", "en": "Telephone"}
PHONE = FormField("phone", NAMES, "text", False, "personal", True, {}, "idp", "mobile")
BORN = FormField("born", NAMES, "date", False, "personal", True, {}, "idp", "birth_date")
NOTE = FormField("note", NAMES, "text", False, "none", True, {})
HERE = replace(ITEM, fields=[PHONE, BORN, NOTE])
SIGNED_ON = replace(CALLER, acting=acting({**CLAIMS, "mobile": "+86 138-0013-8000", "birth_date": "1990-01-01"}))
HONGKONG = replace(CALLER, acting=acting({**CLAIMS, "mobile": "+852 51234567"}))


def wrong(caller: Any, form: dict[str, str], **more: Any) -> list[tuple[str, str]]:
    problems = list(identity_problems(caller, application(form=form, **more), HERE))
    assert not [problem for problem in problems for value in form.values() if value in problem.reason]
    return [(problem.field, problem.code) for problem in problems]


@pytest.mark.parametrize("phone", ["+86 138-0013-8000", "13800138000", "+8613800138000", "138 0013 8000"])
def test_a_field_from_the_sign_on_is_what_the_sign_on_says_however_it_is_written(phone: str) -> None:
    assert wrong(SIGNED_ON, {"phone": phone, "born": "1990-01-01", "note": "x"}) == []


@pytest.mark.parametrize("phone", ["13800138001", "8000", "none", "38000", "5123 4567"])
def test_another_value_is_refused_by_its_field(phone: str) -> None:
    assert wrong(SIGNED_ON, {"phone": phone, "born": "1990-01-01"}) == [("form.phone", "not_as_signed_on")]
    assert wrong(SIGNED_ON, {"born": "1990-01-02"}) == [("form.born", "not_as_signed_on")]


def test_a_short_number_agrees_without_its_country_code_and_not_with_a_part_of_it() -> None:
    assert wrong(HONGKONG, {"phone": "5123 4567"}) == []
    assert wrong(HONGKONG, {"phone": "1234567"}) == [("form.phone", "not_as_signed_on")]


def test_what_the_sign_on_does_not_say_is_taken_and_named() -> None:
    given = application(form={"phone": "1", "born": "1990-01-01"})
    assert wrong(HONGKONG, {"born": "2000-01-01"}) == []
    assert typed_in(HONGKONG, given, HERE) == ["born"]
    assert typed_in(SIGNED_ON, given, HERE) == []


def test_a_sign_on_of_somebody_else_or_none_vouches_for_nothing() -> None:
    """An agent's telephone is not the principal's; a window has seen the person, and not the account."""
    agent = {"name": "某人", "document": CLAIMS["document"]}
    filed = application(OTHER, agent=agent, mandate="MD1", form={"phone": "1"})
    for caller in (SIGNED_ON, CALLER):
        assert list(identity_problems(caller, filed, HERE)) == []
        assert typed_in(caller, filed, HERE) == ["phone"]


async def test_evidence_names_what_only_the_caller_vouches_for_and_no_value(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    item = replace(ASKED, fields=[*ASKED.fields, PHONE])
    desk = Desk(sqlite_store, sealer, references, clock, item=item)
    await desk.file(form={**FORM, "phone": "13800138000"})
    accepted = select(evidence.c.what).where(evidence.c.action == "submission.accept")
    what = await sqlite_store.read(lambda tx: tx.execute(accepted).scalar_one())
    assert what["typed_in"] == ["phone"]
    assert "13800138000" not in str(what)
    person = acting({"document": {"type": "CN_RIC", "number": "11010519491231002X"}, "mobile": "13900139000"})
    with pytest.raises(InvalidRequest) as refused:
        await desk.file(
            "2", caller=replace(CALLER, acting=person), mode="online", form={**FORM, "phone": "13800138000"}
        )
    assert [(problem.field, problem.code) for problem in refused.value.problems] == [("form.phone", "not_as_signed_on")]


@pytest.mark.parametrize(
    ("kinds", "sighted", "taken"),
    [
        (("scan",), None, True),
        (("ecert", "scan"), None, True),
        (("promise",), None, True),
        (("ecert",), None, False),
        (("ecert",), True, False),
        (("paper",), None, False),
        (("paper",), False, False),
        (("paper",), True, True),
        (("paper", "ecert"), None, False),
    ],
)
def test_a_material_is_taken_as_a_file_only_where_the_item_takes_one(
    kinds: Sequence[str], sighted: bool | None, taken: bool
) -> None:
    """A file is a copy of a paper: it stands for that where somebody has seen the original."""
    rule = MaterialRule("A", NAMES, True, False, "T", kinds)
    given = application(materials=[{"code": "A", "blob": "1", "original_sighted": sighted}])
    found = list(material_problems(given, replace(ITEM, materials=[rule])))
    assert [(problem.field, problem.code) for problem in found] == (
        [] if taken else [("materials.0.code", "not_a_file")]
    )
    assert all(("certificate" in problem.reason) == ("ecert" in kinds) for problem in found)
