"""The forms on a case's page: only those that are possible, from a page of this session, without JavaScript."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import Conflict, FieldProblem, InvalidRequest
from gateway.submissions.recognised import CertifiedView
from gateway.submissions.supplements import Supplement
from gateway.submissions.wanted import Wanted
from gateway.submissions.withdrawals import Return, Withdrawal
from tests.support.window import (
    FOSHAN,
    HONGKONG,
    PDF,
    Browser,
    browser,
    case_id,
    filled,
    hidden_fields,
)

CASE = f"/window/cases/{case_id(1)}"
ALL = ["supplement", "withdrawal", "return"]


@pytest.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browser(tmp_path) as one:
        await one.sign_on()
        await one.post(FOSHAN, filled(await one.open_form(FOSHAN)), [("material.ID", "card.pdf", PDF)])
        yield one


def asked(*codes: str, **more: Any) -> SimpleNamespace:
    wanted = [Wanted(code, None, "不清晰", paper=False, given=False) for code in codes]
    known = {"why": "notice", "due_on": date(2026, 3, 20), "reason": None, "basis": None, "on_paper": False}
    return SimpleNamespace(materials=wanted, complete=False, **{**known, **more})


async def test_only_what_can_be_done_has_a_form(clerk: Browser) -> None:
    _, page = await clerk.get(CASE)
    assert "/withdrawal" not in page
    clerk.fakes.can, clerk.fakes.asked = ALL, asked("PROOF")
    _, page = await clerk.get(CASE)
    for action in ("supplements", "withdrawal", "return"):
        assert f'action="{CASE}/{action}"' in page
    assert "Until 2026-03-20" in page
    assert "Missing" in page


async def test_what_a_certificate_stands_for_is_shown_with_what_it_is_worth(clerk: Browser) -> None:
    """Which certificate it is does not stand on the page."""
    at = datetime(2026, 3, 2, 2, tzinfo=UTC)
    clerk.fakes.certified = [
        CertifiedView("ID", "11100000000013127D001", "guangdong", "revoked", at, at, "EV1", needed=True)
    ]
    _, page = await clerk.get(CASE)
    assert 'data-standing="revoked"' in page
    assert "The document itself is needed" in page
    clerk.fakes.certified = []
    assert "electronic certificates" not in (await clerk.get(CASE))[1]


async def test_what_is_asked_for_is_handed_in_with_the_fields_that_change(clerk: Browser) -> None:
    clerk.fakes.can, clerk.fakes.asked = ALL, asked("PROOF")
    texts = {**await clerk.open_form(CASE), "form.start": "2026-04-01"}
    answer = await clerk.post(f"{CASE}/supplements", texts, [("material.PROOF", "proof.pdf", PDF)])
    assert (answer.status, answer.location) == (303, CASE)
    case, said = clerk.fakes.said[0]
    assert case == case_id(1)
    assert isinstance(said, Supplement)
    assert (said.form, [file.code for file in said.materials]) == ({"start": "2026-04-01"}, ["PROOF"])
    assert said.reference == texts["reference"]


async def test_a_material_that_is_not_asked_for_is_not_even_stored(clerk: Browser) -> None:
    clerk.fakes.can, clerk.fakes.asked = ALL, asked("PROOF")
    before = len(clerk.fakes.blobs)
    answer = await clerk.post(f"{CASE}/supplements", await clerk.open_form(CASE), [("material.ID", "id.pdf", PDF)])
    assert (answer.status, len(clerk.fakes.blobs)) == (422, before)
    assert clerk.fakes.said == []


async def test_a_refused_supplement_comes_back_with_its_file_and_what_is_wrong_at_its_input(clerk: Browser) -> None:
    clerk.fakes.can, clerk.fakes.asked = ALL, asked("PROOF")
    problem = FieldProblem("materials.0.blob", "is no upload of this caller", "unknown_blob")
    clerk.fakes.refusal = InvalidRequest("Some fields are not valid.", problems=[problem])
    answer = await clerk.post(
        f"{CASE}/supplements", await clerk.open_form(CASE), [("material.PROOF", "proof.pdf", PDF)]
    )
    assert answer.status == 422
    assert re.search(r'name="held.PROOF" value="[^"]+:proof.pdf" checked', answer.page)
    assert 'id="f-material-PROOF-problem"' in answer.page


async def test_a_region_that_wants_paper_is_said_to(clerk: Browser) -> None:
    clerk.fakes.asked = asked("PROOF", on_paper=True)
    _, page = await clerk.get(CASE)
    assert "takes supplements on paper only" in page
    assert "/supplements" not in page


@pytest.mark.parametrize(
    ("action", "kind"), [("withdrawal", Withdrawal), ("return", Return)], ids=["withdrawal", "return"]
)
async def test_a_case_is_ended_with_a_reason_and_not_without(clerk: Browser, action: str, kind: type) -> None:
    clerk.fakes.can = ALL
    texts = await clerk.open_form(CASE)
    empty = await clerk.post(f"{CASE}/{action}", {**texts, f"{action}.reason": ""})
    assert empty.status == 422
    assert f'id="f-{action}-reason-problem"' in empty.page
    answer = await clerk.post(f"{CASE}/{action}", {**texts, f"{action}.reason": "申请人改变主意"})
    assert answer.status == 303
    said = clerk.fakes.said[0][1]
    assert isinstance(said, kind)
    assert said.reason == "申请人改变主意"  # type: ignore[attr-defined]  # both kinds have one


async def test_it_is_too_late_in_words(clerk: Browser) -> None:
    clerk.fakes.can = ALL
    clerk.fakes.refusal = Conflict("The case is DECIDED.", code="submission.too_late")
    answer = await clerk.post(f"{CASE}/withdrawal", {**await clerk.open_form(CASE), "withdrawal.reason": "改变主意"})
    assert answer.status == 409
    assert "It is too late for this" in answer.page


@pytest.mark.parametrize("action", ["supplements", "withdrawal", "return"])
async def test_a_form_that_comes_from_elsewhere_does_nothing(clerk: Browser, action: str) -> None:
    clerk.fakes.can = ALL
    texts = {**await clerk.open_form(CASE), "csrf": "forged", "withdrawal.reason": "x", "return.reason": "x"}
    answer = await clerk.post(f"{CASE}/{action}", texts)
    assert answer.status == 403
    assert clerk.fakes.said == []


async def test_across_a_border_a_new_consent_can_be_named(clerk: Browser) -> None:
    """The first consent may not cover what is handed in now (rule P3)."""
    form = filled(
        await clerk.open_form(HONGKONG), applicant__document__type="HM_PERMIT", applicant__document__number="H12345678"
    )
    given = {**form, "consent.given": "yes", "consent.evidence": "TY-1", "consent.signed_on": "2026-03-02"}
    handed = await clerk.post(HONGKONG, given, [("material.ID", "card.pdf", PDF)])
    assert handed.status == 303, handed.page
    clerk.fakes.can, clerk.fakes.asked = ALL, asked("PROOF")
    texts = {**await clerk.open_form(handed.location), "consent.evidence": "TY-2", "consent.signed_on": "2026-03-02"}
    answer = await clerk.post(f"{handed.location}/supplements", texts, [("material.PROOF", "proof.pdf", PDF)])
    assert answer.status == 303, answer.page
    consent = clerk.fakes.said[0][1].consents[0]
    assert (consent.recipient, consent.fields, consent.evidence) == ("hongkong", ["materials"], "TY-2")


async def test_the_parts_of_a_case_lead_to_their_own_pages(clerk: Browser) -> None:
    clerk.fakes.parts = [
        SimpleNamespace(
            id=case_id(2), part=None, place="foshan", state="ACCEPTED", holder="handling_region", waiting=False
        )
    ]
    _, page = await clerk.get(CASE)
    assert f'href="/window/cases/{case_id(2)}"' in page


async def test_every_input_of_the_page_has_a_label_and_an_id_of_its_own(clerk: Browser) -> None:
    clerk.fakes.can, clerk.fakes.asked = ALL, asked("PROOF")
    _, page = await clerk.get(CASE)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    inputs = re.findall(r'<(?:input|select|textarea)(?![^>]*type="hidden")[^>]* id="([^"]+)"', page)
    assert inputs
    assert set(inputs) <= set(re.findall(r'<label for="([^"]+)"', page))
    assert hidden_fields(page)["csrf"]
