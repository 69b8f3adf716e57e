"""Ratings, complaints and the file of a case at the window: by the services that the API has, without scripts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import Conflict, FieldProblem, InvalidRequest, NotFound, NotOffered
from gateway.submissions.complaints import Complaint
from gateway.submissions.ratings import RatingGiven
from tests.support.window import FOSHAN, NOW, PDF, Browser, browser, case_id, filled, hidden_fields

CASE = f"/window/cases/{case_id(1)}"
PAGE = f"{CASE}/ratings"
GOOD = {"role": "handling", "handling.score": "5", "handling.channel": "hall"}


@pytest.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browser(tmp_path) as one:
        await one.sign_on()
        await one.post(FOSHAN, filled(await one.open_form(FOSHAN)), [("material.ID", "card.pdf", PDF)])
        one.fakes.states.append(("COMPLETED", "foshan", {}))
        yield one


def given(role: str, score: int, **more: Any) -> SimpleNamespace:
    known = {
        "indicators": ["service_attitude"], "words": "<b>慢", "channel": "hall", "rated_at": NOW, "correct_by": None,
        "corrected_at": None, "correction": None, "remark": None,
    }  # fmt: skip
    return SimpleNamespace(role=role, score=score, **{**known, **more})


async def test_the_page_of_a_case_leads_to_its_rating_and_to_its_file(clerk: Browser) -> None:
    assert f'href="{PAGE}"' in (await clerk.get(CASE))[1]
    assert f'href="{CASE}/archive"' in (await clerk.get(f"{CASE}/results"))[1]
    async with clerk.client.get(f"{CASE}/archive") as answer:
        assert (answer.status, await answer.read(), answer.content_type) == (200, b"PK", "application/zip")
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{case_id(1)}.zip"'
    assert clerk.fakes.opinions.said == [case_id(1)]


async def test_a_case_that_goes_on_is_neither_rated_nor_filed(clerk: Browser) -> None:
    clerk.fakes.states.append(("ACCEPTED", "foshan", {}))
    _, page = await clerk.get(PAGE)
    assert "A case is rated once it has ended" in page
    assert f'action="{PAGE}"' not in page
    assert "/archive" not in (await clerk.get(f"{CASE}/results"))[1]


async def test_window_and_authority_are_rated_once_each(clerk: Browser) -> None:
    hidden = await clerk.open_form(PAGE)
    bad = {
        **hidden, "role": "collecting", "collecting.score": "1", "collecting.channel": "kiosk",
        "collecting.indicator.service_attitude": "yes", "collecting.words": "态度不好",
    }  # fmt: skip
    for said in (bad, {**hidden, **GOOD}):
        answer = await clerk.post(PAGE, said)
        assert (answer.status, answer.location) == (303, PAGE), answer.page
    first, second = clerk.fakes.opinions.said
    assert isinstance(first, RatingGiven)
    assert (first.role, first.score, first.indicators, first.words, first.channel) == (
        "collecting", 1, ["service_attitude"], "态度不好", "kiosk",
    )  # fmt: skip
    assert (second.role, second.score, second.words, second.reference) == ("handling", 5, None, first.reference)
    clerk.fakes.opinions.ratings = [given("collecting", 1, correct_by=date(2026, 3, 23)), given("handling", 5)]
    _, page = await clerk.get(PAGE)
    assert f'action="{PAGE}"' not in page
    assert "&lt;b&gt;慢" in page
    assert "2026-03-23" in page


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"handling.score": ""}, "handling.score"),
        ({"handling.score": "6"}, "handling.score"),
        ({"handling.score": "٥"}, "handling.score"),
        ({"handling.channel": "pc2"}, "handling.channel"),
        ({"handling.words": "x" * 501}, "handling.words"),
    ],
)
async def test_a_rating_that_is_wrong_is_told_by_label_and_comes_back_as_it_was_typed(
    clerk: Browser, change: dict[str, str], wrong: str
) -> None:
    said = {**await clerk.open_form(PAGE), **GOOD, "handling.words": "很好", **change}
    answer = await clerk.post(PAGE, said)
    assert answer.status == 422
    assert clerk.fakes.opinions.said == []
    anchor = f"f-{wrong.replace('.', '-')}"
    assert f'<a href="#{anchor}">' in answer.page
    assert re.search(rf'id="{anchor}(-problem)?"', answer.page)
    assert f'id="{anchor}-problem"' in answer.page
    assert said["handling.words"] in answer.page
    assert 'role="alert" tabindex="-1" autofocus' in answer.page


async def test_what_the_services_refuse_is_said_in_words(clerk: Browser) -> None:
    said = {**await clerk.open_form(PAGE), **GOOD}
    problem = FieldProblem("role", "was rated already", "rated")
    clerk.fakes.opinions.refusal = Conflict("It was rated already.", code="rating.given", problems=[problem])
    answer = await clerk.post(PAGE, said)
    assert (answer.status, "This side of the case was rated already" in answer.page) == (409, True)
    problem = FieldProblem("indicators.0", "is none of hall", "unknown_indicator")
    clerk.fakes.opinions.refusal = InvalidRequest("Some indicators are not valid.", problems=[problem])
    assert 'id="f-handling-indicator-problem"' in (await clerk.post(PAGE, said)).page
    clerk.fakes.opinions.refusal = NotOffered("Foshan takes no complaints.", region="foshan")
    answer = await clerk.post(f"{CASE}/complaints", {**said, "complaint.text": "慢"})
    assert (answer.status, "it has channels of its own" in answer.page) == (422, True)


async def test_a_bad_rating_is_put_right_with_words(clerk: Browser) -> None:
    clerk.fakes.opinions.ratings = [given("collecting", 1, correct_by=date(2026, 3, 23))]
    hidden = await clerk.open_form(PAGE)
    address = f"{PAGE}/collecting/correction"
    empty = await clerk.post(address, hidden)
    assert (empty.status, 'id="f-collecting-correction-problem"' in empty.page) == (422, True)
    assert (await clerk.post(address, {**hidden, "collecting.correction": "已当面致歉"})).status == 303
    [(role, correction)] = clerk.fakes.opinions.said
    assert (role, correction.words, correction.at) == ("collecting", "已当面致歉", NOW)
    assert (await clerk.post(f"{PAGE}/nobody/correction", hidden)).status == 404


async def test_a_complaint_goes_out_once_and_its_way_is_shown_without_its_words(clerk: Browser) -> None:
    hidden = await clerk.open_form(PAGE)
    empty = await clerk.post(f"{CASE}/complaints", hidden)
    assert (empty.status, 'id="f-complaint-text-problem"' in empty.page) == (422, True)
    words = {"complaint.text": "拖延", "complaint.contact": "13800138000"}
    assert (await clerk.post(f"{CASE}/complaints", {**hidden, **words})).status == 303
    [said] = clerk.fakes.opinions.said
    assert isinstance(said, Complaint)
    assert (said.text, said.contact, said.reference) == ("拖延", "13800138000", hidden["reference"])
    clerk.fakes.opinions.messages = [{"kind": "complaint", "created_at": NOW, "state": "delivered"}]
    _, page = await clerk.get(PAGE)
    assert ("Handed over" in page, "拖延" in page) == (True, False)


async def test_what_the_authority_never_had_is_neither_rated_nor_complained_of(clerk: Browser) -> None:
    clerk.fakes.numbers.clear()
    _, page = await clerk.get(PAGE)
    assert ('value="collecting"' in page, 'value="handling"' in page, "/complaints" in page) == (True, False, False)


async def test_a_case_in_parts_leads_to_the_pages_of_its_parts(clerk: Browser) -> None:
    clerk.fakes.parts = [SimpleNamespace(id=case_id(2), part=None, place="foshan", state="COMPLETED", waiting=False)]
    _, page = await clerk.get(PAGE)
    assert f'href="/window/cases/{case_id(2)}/ratings"' in page
    assert f'action="{PAGE}"' not in page
    _, page = await clerk.get(f"{CASE}/results")
    assert f'href="/window/cases/{case_id(2)}/results"' in page
    assert f'action="{CASE}/service"' not in page


@pytest.mark.parametrize("action", ["ratings", "ratings/handling/correction", "complaints"])
async def test_a_form_from_elsewhere_or_of_another_window_does_nothing(clerk: Browser, action: str) -> None:
    said = {**await clerk.open_form(PAGE), **GOOD, "handling.correction": "x", "complaint.text": "x"}
    assert (await clerk.post(f"{CASE}/{action}", {**said, "csrf": "forged"})).status == 403
    assert (await clerk.post(f"{CASE}/{action}", {**said, "reference": "mine"})).status == 422
    assert clerk.fakes.opinions.said == []
    clerk.fakes.opinions.refusal = NotFound("There is no such submission of yours.", code="submission.not_found")
    assert (await clerk.post(f"{CASE}/{action}", said)).status == 404
    assert (await clerk.get(f"/window/cases/{case_id(99)}/ratings"))[0] == 404


async def test_every_input_has_a_label_and_an_id_of_its_own(clerk: Browser) -> None:
    clerk.fakes.opinions.ratings = [given("collecting", 2, correct_by=date(2026, 3, 23))]
    _, page = await clerk.get(PAGE)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    radios = set(re.findall(r'type="radio"[^>]* id="([^"]+)"', page))
    inputs = set(re.findall(r'<(?:input|select|textarea)(?![^>]*type="hidden")[^>]* id="([^"]+)"', page)) - radios
    assert inputs <= set(re.findall(r'<label for="([^"]+)"', page))
    assert {"f-collecting-correction", "f-handling-words", "f-complaint-text"} <= inputs
    assert hidden_fields(page)["csrf"]
