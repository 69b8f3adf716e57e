"""An item that several offices handle together (多地联办), from the window's form to the parts of the case."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.domain.published import ItemState
from gateway.errors import FieldProblem, InvalidRequest
from gateway.items.blocks import Block
from gateway.submissions.application import PartWanted
from tests.support.window import FILING, MOVE, NOW, NUMBER, Browser, browser, case_id

FORM = f"/window/items/{MOVE}/foshan/joint"
CONSENT = {"consent.given": "yes", "consent.evidence": "TY-1", "consent.signed_on": "2026-03-02"}


@pytest.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browser(tmp_path) as one:
        await one.sign_on()
        yield one


async def form(clerk: Browser, place: str = "foshan") -> dict[str, str]:
    """Return the form, filled in; the second part goes to a place."""
    return {
        **await clerk.open_form(FORM), "applicant.kind": "person", "applicant.name": "张三丰",
        "identity_checked": "yes", "applicant.document.type": "CN_RIC", "applicant.document.number": NUMBER,
        "form.reason": "投靠",
        "part.PERMIT": "foshan", "part.MOVE": place,
    }  # fmt: skip


async def test_an_item_with_parts_can_be_filed_at_several_offices_and_another_cannot(clerk: Browser) -> None:
    _, page = await clerk.get(f"/window/items/{MOVE}")
    assert f'href="{FORM}"' in page
    assert "/joint" not in (await clerk.get(f"/window/items/{FILING}"))[1]
    assert (await clerk.get(f"/window/items/{FILING}/foshan/joint"))[0] == 404
    clerk.fakes.granted = ["hongkong"]
    assert "/joint" not in (await clerk.get(f"/window/items/{MOVE}"))[1]
    assert (await clerk.get(FORM.replace("foshan", "hongkong")))[0] == 404


async def test_the_form_offers_for_each_part_the_offices_that_may_take_it(clerk: Browser) -> None:
    """Hunan may take the second part, but this window takes nothing for Hunan."""
    _, page = await clerk.get(FORM)
    permit, move = (page.split(f'name="part.{part}"')[1].split("</select>")[0] for part in ("PERMIT", "MOVE"))
    assert ('value="foshan" selected' in permit, "hongkong" in permit) == (True, False)
    assert ('value="foshan"' in move, 'value="hongkong"' in move, "hunan" in move) == (True, True, False)


async def test_one_form_becomes_an_application_with_a_part_for_each_office(clerk: Browser) -> None:
    texts = await form(clerk)
    answers = [await clerk.post(FORM, texts), await clerk.post(FORM, texts)]
    assert [answer.status for answer in answers] == [303, 303], answers[0].page
    first, second = clerk.fakes.applications
    assert first == second
    assert (first.place, first.consents) == ("foshan", [])
    assert first.parts == [PartWanted(part="PERMIT", place="foshan"), PartWanted(part="MOVE", place="foshan")]


async def test_a_part_beyond_the_border_needs_the_separate_consent_to_that_office(clerk: Browser) -> None:
    """Rule P3: the consent names who receives."""
    texts = await form(clerk, "hongkong")
    without = await clerk.post(FORM, {**texts, "consent.signed_on": ""})
    assert (without.status, 'id="f-consent-given-problem"' in without.page) == (422, True)
    assert (await clerk.post(FORM, {**texts, **CONSENT})).status == 303
    [application] = clerk.fakes.applications
    [consent] = application.consents
    assert (consent.recipient, consent.evidence) == ("hongkong", "TY-1")
    assert set(consent.fields) == {"applicant.name", "applicant.document", "form.reason"}


async def test_a_part_without_an_office_is_told_at_its_input(clerk: Browser) -> None:
    answer = await clerk.post(FORM, await form(clerk, "hunan"))
    assert (answer.status, 'id="f-part-MOVE-problem"' in answer.page) == (422, True)
    problem = FieldProblem("parts.1.place", "does not handle this part", "unknown_place")
    clerk.fakes.refusal = InvalidRequest("Some fields are not valid.", problems=[problem])
    answer = await clerk.post(FORM, await form(clerk))
    assert (answer.status, 'id="f-part-MOVE-problem"' in answer.page) == (422, True)
    assert "Moving out: This window does not take that item" in answer.page.replace("</a>", "").replace(
        '<a href="#f-part-MOVE">', ""
    )


async def test_a_part_that_no_office_takes_now_is_said_before_the_form_is_filled_in(clerk: Browser) -> None:
    clerk.fakes.blocks[MOVE, "foshan"] = Block(MOVE, "foshan", ItemState.SUSPENDED, NOW, [])
    status, page = await clerk.get(f"/window/items/{MOVE}/hongkong/joint")
    assert (status, "its authority has suspended it" in page) == (422, True)


async def test_a_joint_form_is_kept_as_one(clerk: Browser) -> None:
    saved = await clerk.post(f"{FORM}/draft", {**await form(clerk, ""), "part.PERMIT": "foshan"})
    assert saved.status == 303, saved.page
    _, page = await clerk.get(saved.location)
    assert f'action="{FORM}"' in page
    assert 'value="foshan" selected' in page.split('name="part.PERMIT"')[1].split("</select>")[0]


async def test_the_page_of_the_case_shows_each_part_its_state_and_who_holds_it(clerk: Browser) -> None:
    case = (await clerk.post(FORM, await form(clerk))).location
    clerk.fakes.parts = [
        SimpleNamespace(id=case_id(2), part="PERMIT", place="foshan", state="ACCEPTED", holder="handling_region",
                        waiting=False),
        SimpleNamespace(id=case_id(3), part="MOVE", place="hongkong", state="COLLECTED", holder="gateway",
                        waiting=True),
    ]  # fmt: skip
    _, page = await clerk.get(case)
    rows = page.split('id="parts-title"')[1].split("</tbody>")[0].split("<tr>")[2:]
    assert [f"/window/cases/{case_id(n)}" in row for n, row in zip((2, 3), rows, strict=True)] == [True, True]
    for said, row in zip((("Permit", "ACCEPTED", "The authority of Foshan"), ("Moving out", "waits until")), rows,
                         strict=True):  # fmt: skip
        assert all(word in row for word in said), row
