"""The chooser of regions: order, names beside each other, marks, and the search."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.domain.places import PROVINCES
from gateway.domain.region import Place, RegionNames, Zone, place_of
from gateway.identity.health import State
from gateway.identity.upstream import SignOnRegion
from gateway.web.chooser import Choice, choices, chooser, folded


@dataclass(frozen=True)
class Region:
    """As much of a region as the chooser looks at."""

    id: str
    names: RegionNames
    place: Place
    adapter: Any = field(default_factory=SimpleNamespace)


CODES = {"guangdong": "440000", "guangxi": "450000", "hongkong": "810000", "macau": "820000", "sichuan": "510000"}
REGIONS = [cast("SignOnRegion", Region(id_, PROVINCES[code[:2]], place_of(code))) for id_, code in CODES.items()]


def listed(language: str = "zh-CN", last: str | None = None, **health: State) -> list[Choice]:
    return choices(REGIONS, {**dict.fromkeys(CODES, "ok"), **health}, "I", last, language)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("广东", ["guangdong"]), ("廣東", ["guangdong"]), ("GUANG", ["guangdong", "guangxi"]),
        ("guang xi", ["guangxi"]), ("hong-kong", ["hongkong"]), ("Xianggang", ["hongkong"]), ("aomen", ["macau"]),
        ("特別行政區", ["hongkong", "macau"]), ("ＭＡＣＡＵ", ["macau"]), ("macáu", ["macau"]), ("44", ["guangdong"]),
        ("440106", ["guangdong"]), ("81", ["hongkong"]), ("4", []), ("46", []), ("atlantis", []),
        ("", list(CODES)), ("  ", list(CODES)), ("%", list(CODES)),
    ],
)  # fmt: skip
def test_a_search_finds_names_in_four_languages_pinyin_and_codes(search: str, found: list[str]) -> None:
    """4401 is a place in Guangdong; one digit names no place, and a search for nothing leaves everything."""
    shown = chooser(listed(), None, "I", search)
    assert [choice.id for choice in shown["choices"]] == found


def test_a_search_is_of_bounded_length() -> None:
    shown = chooser(listed(), None, "I", "广" * 5000)
    assert len(shown["search"]) == 60


def test_the_last_choice_stands_first_and_says_so() -> None:
    shown = listed(last="macau")
    assert [choice.id for choice in shown] == ["macau", "guangdong", "guangxi", "hongkong", "sichuan"]
    assert [choice.last for choice in shown] == [True, False, False, False, False]


def test_the_chinese_name_stands_beside_a_foreign_one_in_the_script_of_its_place() -> None:
    english = {choice.id: (choice.name, choice.own_name, choice.own_tag) for choice in listed("en")}
    assert english["guangdong"] == ("Guangdong", "广东省", "zh-Hans")
    assert english["macau"] == ("Macau", "澳門特別行政區", "zh-Hant")
    assert {choice.own_name for choice in listed("zh-HK")} == {""}


def test_a_closed_region_is_no_way_and_a_disturbed_one_is() -> None:
    shown = {choice.id: choice.open for choice in listed(guangxi="closed", macau="resting", hongkong="stale")}
    assert shown == {"guangdong": True, "guangxi": False, "hongkong": True, "macau": True, "sichuan": True}


@pytest.mark.parametrize("text", ["Macau", "MACAU", " Mac-au ", "Ｍａｃａｕ", "Macáu"])
def test_folding_takes_away_what_people_type_differently(text: str) -> None:
    assert folded(text) == "macau"


def test_the_zones_of_the_regions_are_as_the_test_believes() -> None:
    assert {region.place.zone for region in REGIONS} == set(Zone)
