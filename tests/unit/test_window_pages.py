"""The pages around the form: what a clerk sees of items and cases, in every language, and what nobody sees."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import gateway.web
from gateway.domain.published import ItemState
from gateway.items.blocks import Block
from gateway.submissions.timekeeping import ClockView
from tests.support.window import (
    FILING,
    FOSHAN,
    HONGKONG,
    NOW,
    NUMBER,
    PDF,
    RESIDENCE,
    Browser,
    browser,
    case_id,
    filled,
)

WEB = Path(gateway.web.__file__).parent


@pytest.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[Browser]:
    async with browser(tmp_path) as one:
        await one.sign_on()
        yield one


async def hand_in(clerk: Browser) -> str:
    answer = await clerk.post(FOSHAN, filled(await clerk.open_form(FOSHAN)), [("material.ID", "card.pdf", PDF)])
    assert answer.status == 303, answer.page
    return answer.location


async def test_a_case_shows_its_timeline_and_who_holds_it(clerk: Browser) -> None:
    case = await hand_in(clerk)
    clerk.fakes.states.append(("FORWARDED", "gateway", {"number": "FS2026030200001", "how": "push"}))
    status, page = await clerk.get(case)
    assert status == 200
    assert re.findall(r'data-state="(\w+)"', page) == ["FORWARDED", "COLLECTED", "FORWARDED"]
    assert "This gateway, on its way to Foshan" in page
    assert "FS2026030200001" in page
    assert "push" not in page


async def test_personal_data_is_masked_wherever_a_case_is_shown(clerk: Browser) -> None:
    """Rule P9: first character of the name, last four of the number."""
    case = await hand_in(clerk)
    for path in (case, "/window"):
        _status, page = await clerk.get(path)
        assert "张**" in page
        assert "张三丰" not in page
        assert NUMBER not in page
        assert "13800138000" not in page


async def test_the_first_page_lists_recent_cases_and_what_the_window_collects(clerk: Browser) -> None:
    """An item that can only be handled online is not one for a window (代收)."""
    case = await hand_in(clerk)
    _status, page = await clerk.get("/window")
    assert f'href="{case}"' in page
    assert f"/window/items/{FILING}" in page
    assert RESIDENCE not in page


async def test_an_item_shows_the_places_that_this_window_takes_it_for(clerk: Browser) -> None:
    _status, page = await clerk.get(f"/window/items/{FILING}")
    assert f'href="{FOSHAN}"' in page
    assert f"/window/items/{FILING}/guangdong" not in page
    assert "1 working day" in page
    assert "5 calendar days" in page


@pytest.mark.parametrize(
    ("state", "word", "reason"),
    [
        (ItemState.SUSPENDED, "suspended", "its authority has suspended it"),
        (ItemState.GONE, "suspended", "its authority has suspended it"),
        (ItemState.CHANGED, "changed", "its authority has changed it"),
    ],
)
async def test_a_place_that_does_not_take_the_item_now_is_shown_with_the_reason_and_no_link(
    clerk: Browser, state: ItemState, word: str, reason: str
) -> None:
    """A form that cannot be handed in would be an hour of the clerk's and the applicant's lost."""
    clerk.fakes.blocks[FILING, "foshan"] = Block(FILING, "foshan", state, clerk.fakes.now, [])
    _status, page = await clerk.get(f"/window/items/{FILING}")
    assert f'href="{FOSHAN}"' not in page
    assert f'href="{HONGKONG}"' in page
    assert (re.findall(r'data-blocked="(\w+)"', page), reason in page) == ([word], True)
    assert "Seen 2026-03-02 10:00" in page
    assert "No place takes it for now" not in (await clerk.get("/window"))[1]
    clerk.fakes.blocks[FILING, "hongkong"] = Block(FILING, "hongkong", state, clerk.fakes.now, [])
    assert "No place takes it for now" in (await clerk.get("/window"))[1]
    status, page = await clerk.get(FOSHAN)
    assert (status, reason in page) == (422, True)


@pytest.mark.parametrize(
    "path",
    [
        "/window/items/NOTHING",
        f"/window/items/{RESIDENCE}",
        f"/window/items/{FILING}/atlantis",
        "/window/items/NOTHING/foshan",
        "/window/cases/nothing",
        f"/window/cases/{case_id(99)}",
        "/window/cases/KY%00",
    ],
)
async def test_what_is_not_there_is_a_page_that_says_so(clerk: Browser, path: str) -> None:
    status, page = await clerk.get(path)
    assert status == 404
    assert "This did not work" in page


async def test_a_clerk_is_shown_only_what_the_windows_grants_open(clerk: Browser) -> None:
    """Deny by default: an item without a grant is none that this window has, and so is a place."""
    clerk.fakes.granted = ["hongkong"]
    _status, page = await clerk.get(f"/window/items/{FILING}")
    assert f'href="{HONGKONG}"' in page
    assert f'href="{FOSHAN}"' not in page
    assert (await clerk.get(FOSHAN))[0] == 404
    clerk.fakes.granted = []
    _status, page = await clerk.get("/window")
    assert "No item is open to this window" in page
    assert (await clerk.get(f"/window/items/{FILING}"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/window/nothing", 404, "There is no such page."),
        ("GET", "/sign-in/a/b/c", 404, "There is no such page."),
        ("GET", "/window/sign-out", 405, "cannot be opened in this way"),
        ("DELETE", FOSHAN, 405, "cannot be opened in this way"),
    ],
)
async def test_an_address_that_does_not_exist_is_a_page_too(
    clerk: Browser, method: str, path: str, status: int, words: str
) -> None:
    """Whoever mistypes an address is a person, and JSON is no answer to one."""
    async with clerk.client.request(method, path, allow_redirects=False) as answer:
        assert (answer.status, answer.content_type) == (status, "text/html")
        assert words in await answer.text()
        assert ("Allow" in answer.headers) is (status == 405)


async def test_elsewhere_an_address_that_does_not_exist_is_a_problem_document(clerk: Browser) -> None:
    async with clerk.client.get("/v1/nothing") as answer:
        assert (answer.status, answer.content_type) == (404, "application/problem+json")


async def test_pages_let_nothing_foreign_in_and_stay_in_no_cache(clerk: Browser) -> None:
    await hand_in(clerk)
    for path in ("/window", FOSHAN, f"/window/items/{FILING}"):
        async with clerk.client.get(path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            page = await answer.text()
            assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "<script" not in page
        assert " style=" not in page


async def test_every_input_has_a_label_and_every_page_one_heading_and_a_language(clerk: Browser) -> None:
    case = await hand_in(clerk)
    for path in ("/window", FOSHAN, f"/window/items/{FILING}", case):
        _status, page = await clerk.get(path)
        assert '<html lang="en">' in page
        assert page.count("<h1") == 1
        shown = re.findall(r'<(?:input|select)(?![^>]*type="(?:hidden|radio|checkbox)")[^>]*id="([^"]+)"', page)
        for name in shown:
            assert f'<label for="{name}">' in page
        assert len(re.findall(r'type="(?:radio|checkbox)"', page)) == page.count('<label class="choose')


async def test_pages_speak_chinese_unless_asked_otherwise(clerk: Browser) -> None:
    _status, page = await clerk.get(FOSHAN, language="zh-CN")
    assert '<html lang="zh-CN">' in page
    assert "提交申请" in page
    assert "申请人" in page
    assert "Hand in the application" not in page


async def test_a_chosen_language_stays(clerk: Browser) -> None:
    await clerk.get("/window?lang=zh-CN")
    _status, page = await clerk.get(FOSHAN)
    assert '<html lang="zh-CN">' in page


def view(name: str, state: str, **more: Any) -> ClockView:
    known = {
        "due_on": date(2026, 3, 9),
        "due_soon": False,
        "ended_at": None,
        "estimated": False,
        "remark": None,
        "limit": None,
    }
    return ClockView(name=name, state=state, started_at=NOW, **{**known, **more})


async def test_a_case_shows_its_time_limits_and_what_has_become_of_them(clerk: Browser) -> None:
    case = await hand_in(clerk)
    clerk.fakes.clocks += [
        view("collection", "met", ended_at=NOW),
        view("acceptance", "overdue", estimated=True, remark="silence_counts_as_acceptance"),
        view("supplement", "overdue", ended_at=NOW),
        view("decision_promised", "running", due_soon=True),
        view("decision_statutory", "stopped", due_on=None),
    ]
    _status, page = await clerk.get(case)
    assert re.findall(r'data-clock="(\w+)"', page) == ["met", "overdue", "missed", "due_soon", "stopped"]
    assert "Decision, as promised" in page
    assert page.count("the holidays are not published yet") == 1
    assert page.count("silence may count as acceptance") == 1


async def test_a_clock_that_is_due_stands_in_the_timeline_as_what_it_is(clerk: Browser) -> None:
    """It is no step: the state of the case would say nothing."""
    case = await hand_in(clerk)
    clerk.fakes.states.append(("FORWARDED", "gateway", {"clock": "acceptance", "due_on": "2026-03-09"}))
    clerk.fakes.kinds[2] = "clock.overdue"
    _status, page = await clerk.get(case)
    assert re.search(r"Overdue</span>\s+Answer whether it is accepted 2026-03-09", page)
