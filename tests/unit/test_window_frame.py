"""The frame that all pages share: in which language they speak, and what a browser is told beside the page."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry

from gateway.domain.languages import LANGUAGES
from gateway.telemetry import Metrics
from gateway.web.middlewares import edge
from gateway.web.pages import language_of
from gateway.web.problems import problem_response
from tests.support.pages import pages


def asks(*accepted: str, address: str = "/sign-in") -> web.Request:
    """Return a request with these Accept-Language lines."""
    return make_mocked_request("GET", address, headers=CIMultiDict([("Accept-Language", line) for line in accepted]))


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-cn", "zh-CN"),
        ("ZH-CN", "zh-CN"),
        ("zh-cn,zh;q=0.8", "zh-CN"),
        ("zh", "zh-CN"),
        ("zh-HK", "zh-HK"),
        ("zh-TW,en;q=0.5", "zh-HK"),
        ("zh-Hans-CN,en", "zh-CN"),
        ("zh-Hant-HK", "zh-HK"),
        ("zh-HK,zh;q=0.9,en;q=0.8", "zh-HK"),
        ("zh-MO, pt;q=0.9", "zh-HK"),
        ("zh-Hant", "zh-HK"),
        ("zh-Hans-HK", "zh-CN"),
        ("zh-SG", "zh-CN"),
        ("pt", "pt"),
        ("pt-MO,zh;q=0.5", "pt"),
        ("PT-br;q=0.4, en;q=0.3", "pt"),
        ("fr, de, pt-PT;q=0.1", "pt"),
        ("EN", "en"),
        ("En-us", "en"),
        ("en-GB;q=0.5", "en"),
        ("fr, en;q=0.1", "en"),
        ("zh;q=0.2, en;q=0.9", "en"),
        ("zh;q=0.9, en;q=1.000", "en"),
        ("en ; Q=0.3 , zh ; q=0.4", "zh-CN"),
        ("en;q=0,zh-CN;q=0.1", "zh-CN"),
        ("en;q=0", "zh-CN"),
        ("en;q=0.000", "zh-CN"),
        ("en, zh", "en"),
        ("*", "zh-CN"),
        ("fr", "zh-CN"),
        ("", "zh-CN"),
        ("é", "zh-CN"),
        (";q=1", "zh-CN"),
        ("en;q=x", "zh-CN"),
        ("en;q=7", "zh-CN"),
        ("x" * 4000, "zh-CN"),
        ("," * 4000, "zh-CN"),
    ],
)
def test_the_browsers_wish_is_heard_whatever_its_spelling(accepted: str, language: str) -> None:
    """RFC 9110 §12.5.4: ranges are case-insensitive and weighted, and 0 means never."""
    assert language_of(asks(accepted)) == language


def test_a_header_in_two_lines_is_one_list() -> None:
    assert language_of(asks("fr", "en")) == "en"


@pytest.mark.parametrize("wish", ["en", "zh-CN", "zh-cn", "xx", "", "%ff"])
def test_the_language_is_always_one_that_we_speak(wish: str) -> None:
    assert language_of(asks(address=f"/sign-in?lang={wish}")) in LANGUAGES


def test_a_page_offers_the_languages_that_it_can_be_had_in() -> None:
    """Citizens' pages and the clerks' window alike: clerks sign on at Hong Kong and Macau too."""
    for address in ("/sign-in", "/window"):
        page = pages().render(asks("pt", address=address), "sign_on/problem.html", {"kind": "lost", "detail": ""})
        assert all(f'hreflang="{tag}"' in (page.text or "") for tag in LANGUAGES)
        assert '<html lang="pt">' in (page.text or "")


@pytest.mark.parametrize("secure", [True, False])
def test_a_chosen_language_is_kept_in_one_cookie_that_needs_https_where_we_have_it(secure: bool) -> None:
    """A cookie without Secure goes in the clear to whoever answers for our name on port 80."""
    page = pages(secure=secure).render(
        asks(address="/sign-in?lang=en"), "sign_on/problem.html", {"kind": "lost", "detail": ""}
    )
    [cookie] = page.cookies.values()
    assert (cookie.key, cookie.value) == ("pearl_language", "en")
    assert bool(cookie["secure"]) is secure
    assert cookie["httponly"]


@pytest.mark.parametrize("https", [True, False])
async def test_an_answer_names_no_software_and_keeps_browsers_on_https(https: bool) -> None:
    """A version number saves an attacker the guessing; HSTS spares the first request in the clear (RFC 6797)."""
    metrics = Metrics(CollectorRegistry())
    app = web.Application(middlewares=edge(metrics, lambda _, error: problem_response(error, "page"), https=https))
    async with TestClient(TestServer(app)) as client, client.get("/nothing") as answer:
        assert answer.headers["Server"] == "pearl"
        assert ("Strict-Transport-Security" in answer.headers) is https
