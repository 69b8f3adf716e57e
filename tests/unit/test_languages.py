"""Which language serves a wish, which text stands in for one that is missing, and what places are called."""

from __future__ import annotations

import pytest

from gateway.domain.languages import LANGUAGES, nearest, said_in
from gateway.domain.places import CITIES, PROVINCES, place_name
from gateway.domain.region import GBA_CITIES


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("zh-CN", "zh-CN"), ("zh", "zh-CN"), ("zh-Hans", "zh-CN"), ("zh-SG", "zh-CN"), ("zh-Hans-HK", "zh-CN"),
        ("zh-HK", "zh-HK"), ("zh-MO", "zh-HK"), ("zh-TW", "zh-HK"), ("zh-Hant", "zh-HK"), ("ZH-HANT-CN", "zh-HK"),
        ("en", "en"), ("EN-gb", "en"), ("pt", "pt"), ("pt-PT", "pt"), ("pt-br", "pt"),
        ("fr", None), ("", None), ("*", None), ("zhx", None), ("portugal", None),
    ],
)  # fmt: skip
def test_a_tag_is_served_by_the_nearest_language(tag: str, language: str | None) -> None:
    """BCP 47: a script that is named outweighs the place."""
    assert nearest(tag) == language


@pytest.mark.parametrize(
    ("language", "told"),
    [("pt", "en"), ("en", "en"), ("zh-HK", "zh-CN"), ("zh-CN", "zh-CN"), ("fr", "zh-CN"), ("zh-Hant", "zh-CN")],
)
def test_the_nearest_text_says_in_which_language_it_is(language: str, told: str) -> None:
    assert said_in({"zh-CN": "中", "en": "E"}, language) == (told, {"zh-CN": "中", "en": "E"}[told])


def test_a_text_in_an_unknown_language_is_better_than_none() -> None:
    assert said_in({"fr": "F"}, "pt") == ("fr", "F")
    assert said_in({}, "pt") == ("", "")


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("440106", ["广东省广州市", "廣東省廣州市", "Guangzhou, Guangdong", "Guangzhou, Guangdong"]),
        ("450000", ["广西壮族自治区", "廣西壯族自治區", "Guangxi", "Guangxi"]),
        ("445100", ["广东省", "廣東省", "Guangdong", "Guangdong"]),
        ("810000", ["香港特别行政区", "香港特別行政區", "Hong Kong", "Hong Kong"]),
        ("110000", ["北京市", "北京市", "Beijing", "Pequim"]),
        ("990000", ["990000"] * 4),
    ],
)
def test_a_place_is_called_by_name_as_exactly_as_it_is_known(code: str, names: list[str]) -> None:
    assert [place_name(code, language) for language in LANGUAGES] == names


def test_the_cities_are_those_of_the_greater_bay_area() -> None:
    assert {code + "00" for code in CITIES} == GBA_CITIES
    assert len(PROVINCES) == 34
