"""The form: what is right goes in once, what is wrong comes back with everything that was typed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import pytest
from aiohttp import FormData

from gateway.config import Limits
from gateway.errors import Conflict, FieldProblem, InvalidRequest, NotPermitted
from gateway.submissions.intake import sent_fields
from gateway.web.window.opinions import COLLECTING
from tests.support.window import FOSHAN, HONGKONG, MOVE, PDF, Browser, browser, case_id, filled

ID_CARD = ("material.ID", "身份证.pdf", PDF)


@pytest.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browser(tmp_path) as one:
        await one.sign_on()
        yield one


def wrong_inputs(page: str) -> set[str]:
    """Return the names of the inputs that are marked as wrong."""
    return set(re.findall(r'name="([^"]+)"[^>]*aria-invalid="true"', page))


async def test_a_form_that_is_right_becomes_one_application(clerk: Browser) -> None:
    hidden = await clerk.open_form(FOSHAN)
    answer = await clerk.post(FOSHAN, filled(hidden, applicant__document__number=" 44010619900101900x "), [ID_CARD])
    assert answer.status == 303, answer.page
    assert re.fullmatch(r"/window/cases/KY[0-9A-Z]{27}", answer.location)
    [application] = clerk.fakes.applications
    assert (application.place, application.mode) == ("foshan", "collect")
    assert application.applicant.document.number == "44010619900101900X"
    assert application.form["kind"] == "long"
    assert application.consents == []
    assert [material.code for material in application.materials] == ["ID"]
    assert clerk.fakes.blobs[application.materials[0].blob] == PDF
    assert clerk.fakes.callers[0].operator == "C-0417"


async def test_sending_the_same_form_twice_says_the_same_twice(clerk: Browser) -> None:
    """A double click or a reload: same reference, same content, and so the same case."""
    texts = filled(await clerk.open_form(FOSHAN), **{"held.ID": "BL0:card.pdf"})
    first, second = await clerk.post(FOSHAN, texts), await clerk.post(FOSHAN, texts)
    assert first.location == second.location
    one, other = clerk.fakes.applications
    assert one == other


async def test_two_forms_are_two_applications(clerk: Browser) -> None:
    one, other = await clerk.open_form(FOSHAN), await clerk.open_form(FOSHAN)
    assert one["reference"] != other["reference"]


@pytest.mark.parametrize("token", ["guess", ""])
async def test_a_form_with_a_wrong_token_is_refused_before_anything_is_stored(clerk: Browser, token: str) -> None:
    hidden = await clerk.open_form(FOSHAN)
    answer = await clerk.post(FOSHAN, filled(hidden, csrf=token), [ID_CARD])
    assert answer.status == 403
    assert clerk.fakes.blobs == {}
    assert clerk.fakes.applications == []


async def test_a_file_before_the_token_is_not_stored(clerk: Browser) -> None:
    """The token comes first, so a foreign page cannot even fill our disk."""
    hidden = await clerk.open_form(FOSHAN)
    form = FormData(default_to_multipart=True)
    form.add_field("material.ID", PDF, filename="card.pdf")
    form.add_field("csrf", hidden["csrf"])
    async with clerk.client.post(FOSHAN, data=form, allow_redirects=False) as answer:
        assert answer.status == 403
    assert clerk.fakes.blobs == {}


async def test_every_problem_stands_at_its_field_and_in_the_summary(clerk: Browser) -> None:
    """All at once, each with a link to its input, and nothing was handed in."""
    hidden = await clerk.open_form(FOSHAN)
    texts = filled(
        hidden, applicant__name="", applicant__document__number="440106199001019001", applicant__mobile="none",
        identity_checked="", form__insured="44", form__kind="other", form__start="2026-02-30", form__end="x",
        applicant__birth_date="2999-01-01",
    )  # fmt: skip
    answer = await clerk.post(FOSHAN, texts)
    assert answer.status == 422
    expected = {
        "applicant.name", "applicant.document.number", "applicant.mobile", "identity_checked", "form.insured",
        "form.kind", "form.start", "form.end", "applicant.birth_date", "material.ID",
    }  # fmt: skip
    assert wrong_inputs(answer.page) == expected
    for name in expected:
        anchor = f"f-{name.replace('.', '-')}"
        assert f'href="#{anchor}"' in answer.page
        assert f'id="{anchor}"' in answer.page
        assert f'id="{anchor}-problem"' in answer.page
    assert "wrong check digit" in answer.page
    assert clerk.fakes.applications == []


async def test_what_follows_later_needs_the_number_of_the_promise(clerk: Browser) -> None:
    """Left out without a word, it would be missed by nobody until the decision is due (容缺)."""
    hidden = await clerk.open_form(FOSHAN)
    silent = await clerk.post(FOSHAN, filled(hidden, deferred__PROOF=""), [ID_CARD])
    assert wrong_inputs(silent.page) == {"deferred.PROOF"}
    promised = await clerk.post(FOSHAN, filled(hidden), [ID_CARD])
    assert promised.status == 303
    assert [(d.code, d.promise) for d in clerk.fakes.applications[0].deferred] == [("PROOF", "承诺书 2026-7")]


async def test_what_was_typed_is_still_there_and_never_becomes_markup(clerk: Browser) -> None:
    hidden = await clerk.open_form(FOSHAN)
    evil = '"><script>alert(1)</script>'
    answer = await clerk.post(FOSHAN, filled(hidden, applicant__name=evil, form__start=""))
    assert answer.status == 422
    assert escape(evil).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in answer.page
    assert "<script" not in answer.page
    assert hidden["reference"] in answer.page
    assert re.search(r'<option value="long" selected>', answer.page)
    assert re.search(r'name="identity_checked"[^>]* checked', answer.page)


async def test_a_file_is_kept_when_the_form_comes_back(clerk: Browser) -> None:
    """Nobody scans a document twice because a date was wrong."""
    hidden = await clerk.open_form(FOSHAN)
    first = await clerk.post(FOSHAN, filled(hidden, form__start=""), [ID_CARD])
    assert first.status == 422
    kept = re.search(r'name="held.ID" value="([^"]+)" checked', first.page)
    assert kept is not None
    second = await clerk.post(FOSHAN, filled(hidden, **{"held.ID": kept[1]}))
    assert second.status == 303
    assert clerk.fakes.blobs[clerk.fakes.applications[0].materials[0].blob] == PDF
    assert len(clerk.fakes.blobs) == 1


async def test_a_blob_that_is_not_the_windows_is_told_at_its_material(clerk: Browser) -> None:
    """The hidden field is only a claim; the Materials service knows whose file it is."""
    problem = FieldProblem("materials.0.blob", "is no upload of this caller", "unknown_blob")
    clerk.fakes.refusal = InvalidRequest("Some materials were not uploaded.", problems=[problem])
    hidden = await clerk.open_form(FOSHAN)
    answer = await clerk.post(FOSHAN, filled(hidden, **{"held.ID": "BLstolen:card.pdf"}))
    assert answer.status == 422
    assert wrong_inputs(answer.page) == {"material.ID"}
    assert "Attach it again" in answer.page


async def test_files_that_are_too_large_together_leave_the_texts_alone(tmp_path: Path) -> None:
    async with browser(tmp_path, Limits(upload_bytes=100)) as one:
        await one.sign_on()
        hidden = await one.open_form(FOSHAN)
        answer = await one.post(FOSHAN, filled(hidden), [("material.ID", "big.pdf", PDF + b"x" * 100)])
    assert answer.status == 422
    assert "too large" in answer.page
    assert 'value="张三丰"' in answer.page


async def test_texts_without_end_are_refused(clerk: Browser) -> None:
    hidden = await clerk.open_form(FOSHAN)
    answer = await clerk.post(FOSHAN, filled(hidden, form__hospital="x" * 300_000))
    assert answer.status == 413


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"csrf=x"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=csrf\r\n\r\nx"),
        ("multipart/form-data; boundary=b", b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n' + b"x" * 99 + b"\r\n--b--\r\n",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n\xff\xfe\r\n--b--\r\n',
        ),
    ],
)
async def test_a_body_that_is_no_form_is_a_refusal_and_no_fault(clerk: Browser, content_type: str, body: bytes) -> None:
    """Bad input never gives a 500."""
    async with clerk.client.post(
        FOSHAN, data=body, headers={"Content-Type": content_type}, allow_redirects=False
    ) as answer:
        assert answer.status in {403, 422}
        assert answer.content_type == "text/html"


_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
_NAMED = b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n'
_UNREADABLE = [
    (f"{_URLENCODED}; charset=foo", b"csrf=x"),
    (f"{_URLENCODED}; charset=utf-7", b"csrf=+2AA-"),
    (_MULTIPART, _NAMED + b"Content-Type: text/plain; charset=foo\r\n\r\nx\r\n--b--\r\n"),
    (_MULTIPART, _NAMED + b"Content-Transfer-Encoding: foo\r\n\r\nx\r\n--b--\r\n"),
    (_MULTIPART, _NAMED + b"no header\r\n\r\nx\r\n--b--\r\n"),
    (_MULTIPART, b"--b\r\n\r\nx\r\n--b--\r\n"),
]


async def test_no_form_of_the_window_takes_an_unreadable_body_for_a_fault(clerk: Browser) -> None:
    """Every address that takes a form, as the router knows them: one that is new is held to it as well."""
    resources = [resource for resource in clerk.client.app.router.resources() if resource.canonical != "/window"]
    taking = [one.canonical for one in resources for route in one if route.method == "POST"]
    known = {"code": MOVE, "place": "foshan", "id": case_id(1), "reference": "0" * 32, "role": COLLECTING}
    await clerk.post(FOSHAN, filled(await clerk.open_form(FOSHAN)), [ID_CARD])
    assert len(taking) > 12
    for address in taking:
        for content_type, body in _UNREADABLE:
            async with clerk.client.post(
                address.format_map(known), data=body, headers={"Content-Type": content_type}, allow_redirects=False
            ) as answer:
                told = (address, content_type, body, await answer.text())
                assert answer.status in {403, 422}, told
                assert answer.content_type == "text/html", told


async def test_a_file_of_no_material_of_the_item_is_not_stored(clerk: Browser) -> None:
    """Or a forged form would fill our disk with files that no application ever refers to."""
    hidden = await clerk.open_form(FOSHAN)
    answer = await clerk.post(FOSHAN, filled(hidden), [("material.OTHER", "card.pdf", PDF), ID_CARD])
    assert answer.status == 422
    assert "This item does not ask for this material." in answer.page
    assert clerk.fakes.blobs == {}


@pytest.mark.parametrize("text", ["2026-W11-2", "20260310", "2026-3-10", "２０２６-03-10", "2026-02-30"])
async def test_a_date_is_a_day_of_a_month_and_nothing_else(clerk: Browser, text: str) -> None:
    """Python also reads weeks (2026-W11-2); no region does."""
    hidden = await clerk.open_form(FOSHAN)
    answer = await clerk.post(FOSHAN, filled(hidden, form__start=text, applicant__birth_date=text), [ID_CARD])
    assert wrong_inputs(answer.page) == {"form.start", "applicant.birth_date"}


async def test_an_answer_to_a_form_offers_no_link_that_would_lose_what_was_typed(clerk: Browser) -> None:
    hidden = await clerk.open_form(FOSHAN)
    _status, blank = await clerk.get(FOSHAN)
    assert 'hreflang="zh-CN"' in blank
    answer = await clerk.post(FOSHAN, filled(hidden, form__start=""))
    assert answer.status == 422
    assert "hreflang" not in answer.page


async def test_the_heading_of_the_page_comes_before_that_of_its_problems(clerk: Browser) -> None:
    """WCAG 1.3.1: a screen reader's list of headings begins with what the page is."""
    answer = await clerk.post(FOSHAN, filled(await clerk.open_form(FOSHAN), form__start=""))
    assert re.findall(r"<(h[1-6])", answer.page)[:2] == ["h1", "h2"]


async def test_a_form_without_our_id_is_refused(clerk: Browser) -> None:
    """Without it a reload could not be told from a second application."""
    hidden = await clerk.open_form(FOSHAN)
    answer = await clerk.post(FOSHAN, filled(hidden, reference="mine"))
    assert answer.status == 422
    assert clerk.fakes.applications == []


async def test_a_form_without_a_session_is_refused(clerk: Browser) -> None:
    hidden = await clerk.open_form(FOSHAN)
    clerk.client.session.cookie_jar.clear()
    answer = await clerk.post(FOSHAN, filled(hidden))
    assert answer.status == 403
    assert "Sign on again" in answer.page


async def test_problems_that_only_the_services_find_stand_at_their_fields(clerk: Browser) -> None:
    clerk.fakes.refusal = InvalidRequest(
        "Some fields are not valid.",
        problems=[
            FieldProblem("form.start", "is before <today>", "start"),
            FieldProblem("applicant.document", "is odd", "odd"),
            FieldProblem("materials", "PROOF is required", "missing_material"),
            FieldProblem("somewhere.else", "is wrong", "wrong"),
        ],
    )
    hidden = await clerk.open_form(FOSHAN)
    answer = await clerk.post(FOSHAN, filled(hidden), [ID_CARD])
    assert answer.status == 422
    assert wrong_inputs(answer.page) == {"form.start", "applicant.document.number"}
    assert "is before &lt;today&gt;" in answer.page
    assert 'href="#f-somewhere-else"' not in answer.page
    assert "somewhere.else" in answer.page


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (NotPermitted("no grant", code="policy.no_grant"), 403, "has no grant for this item"),
        (Conflict("another", code="submission.reference_conflict"), 409, "handed in already"),
    ],
)
async def test_a_refusal_leaves_the_form_filled(
    clerk: Browser, error: NotPermitted | Conflict, status: int, words: str
) -> None:
    clerk.fakes.refusal = error
    hidden = await clerk.open_form(FOSHAN)
    answer = await clerk.post(FOSHAN, filled(hidden), [ID_CARD])
    assert answer.status == status
    assert words in answer.page
    assert 'value="张三丰"' in answer.page


async def test_a_broken_transfer_rule_is_told_once_and_leads_to_its_input(clerk: Browser) -> None:
    finding = FieldProblem("transfer.P3", "no consent to a transfer. Ask the person.", "transfer.no_consent")
    clerk.fakes.refusal = NotPermitted("Rule P3", problems=[finding], code="transfer.no_consent")
    hidden = await clerk.open_form(HONGKONG)
    consent = {"consent__given": "yes", "consent__evidence": "TY-1", "consent__signed_on": "2026-03-01"}
    answer = await clerk.post(HONGKONG, filled(hidden, **consent), [ID_CARD])
    assert answer.status == 403
    assert wrong_inputs(answer.page) == {"consent.given"}
    summary = answer.page[answer.page.index('id="problems"') : answer.page.index("<dl")]
    assert summary.count("The separate consent does not cover this transfer") == 1
    assert 'href="#f-consent-given"' in summary


# --- across the border ---------------------------------------------------------------------------------------------


async def test_a_form_for_hong_kong_asks_for_the_separate_consent(clerk: Browser) -> None:
    """Rule P3; and rule P1: what may not cross is not even asked for."""
    _status, page = await clerk.get(HONGKONG)
    assert "Separate consent" in page
    assert "Hong Kong SAR" in page
    assert 'name="form.diagnosis"' not in page
    _status, inland = await clerk.get(FOSHAN)
    assert "Separate consent" not in inland
    assert 'name="form.diagnosis"' in inland


async def test_the_consent_tells_all_that_article_39_demands(clerk: Browser) -> None:
    """PIPL art. 39: recipient and contact, purpose, method, kinds of data, and how to exercise one's rights."""
    for language, told in (
        ("en", ["The authority of Hong Kong SAR", "guide to this item", "Handling of this application", "encrypted",
                "Document number", "Begins on", "Identity card", "at Cross-region window, Guangzhou", "withdraw"]),
        ("zh-CN", ["香港特别行政区办理机关", "办理机关对外服务窗口，联系方式见办事指南",
                   "办理由本窗口代为收取的本项申请", "加密传输", "证件号码", "开始日期", "居民身份证",
                   "广州市政务服务中心跨域通办窗口", "撤回"]),
    ):  # fmt: skip
        _status, page = await clerk.get(HONGKONG, language)
        box = page[page.index('class="consent"') : page.index("</fieldset>", page.index('class="consent"'))]
        assert [words for words in told if words not in box] == []
        assert "诊断" not in box
        assert "Diagnosis" not in box
    _status, page = await clerk.get(HONGKONG)
    assert re.search(r"<li>Ends on <span[^>]*>\(if given\)</span></li>", page)
    assert "<li>Begins on</li>" in page


async def test_without_the_separate_consent_nothing_crosses_the_border(clerk: Browser) -> None:
    hidden = await clerk.open_form(HONGKONG)
    answer = await clerk.post(HONGKONG, filled(hidden, consent__signed_on="2026-03-03"), [ID_CARD])
    assert answer.status == 422
    assert {"consent.given", "consent.evidence", "consent.signed_on"} <= wrong_inputs(answer.page)
    assert clerk.fakes.applications == []


async def test_the_consent_names_recipient_purpose_fields_and_term(clerk: Browser) -> None:
    hidden = await clerk.open_form(HONGKONG)
    consent = {"consent__given": "yes", "consent__evidence": "TY-2026-017", "consent__signed_on": "2026-03-01"}
    answer = await clerk.post(HONGKONG, filled(hidden, form__diagnosis="secret", **consent), [ID_CARD])
    assert answer.status == 303, answer.page
    [application] = clerk.fakes.applications
    [given] = application.consents
    assert (given.recipient, given.purpose) == ("hongkong", application.purpose)
    assert given.evidence == "TY-2026-017"
    assert given.given_at == datetime(2026, 2, 28, 16, 0, tzinfo=UTC)
    assert (given.expires_at - given.given_at).days == 180
    assert given.fields == sent_fields(application)
    expected = {"applicant.name", "applicant.document", "applicant.mobile", "materials", "form.insured"}
    assert set(given.fields) == expected | {"form.destination", "form.kind", "form.start", "deferred"}
    assert "diagnosis" not in application.form


async def test_a_consent_that_has_run_out_is_not_used(clerk: Browser) -> None:
    hidden = await clerk.open_form(HONGKONG)
    consent = {"consent__given": "yes", "consent__evidence": "TY-1", "consent__signed_on": "2025-09-03"}
    answer = await clerk.post(HONGKONG, filled(hidden, **consent), [ID_CARD])
    assert wrong_inputs(answer.page) == {"consent.signed_on"}
