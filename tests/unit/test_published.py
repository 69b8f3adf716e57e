"""What a region publishes, compared with what was approved: the laws of the difference, and what stops routing."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue import load_items
from gateway.domain.published import (
    BLOCKING,
    MATTERS,
    RECORDED,
    UNTOLD,
    ItemState,
    apply,
    as_published,
    diff,
    digest,
    flat,
    general,
    is_suspended,
    matters,
    state_after,
    unlike_the_file,
)
from gateway.sandbox.layout import simulated_regions

HOUSE = Path(__file__).resolve().parents[2]
FULL: Mapping[str, Any] = orjson.loads((HOUSE / "mappings/guangdong/item/examples/full.canonical.json").read_bytes())
TODAY = date(2026, 3, 2)

WORDS = st.text("AB.[]#~%é", min_size=1, max_size=4)
PLAIN = st.one_of(WORDS, st.integers(-3, 3), st.booleans())
TEXTS = st.lists(WORDS, min_size=1, max_size=3)
ELEMENT = st.dictionaries(st.sampled_from(["code", "kind", "name", "required"]), PLAIN, min_size=1)
ENTRIES = st.recursive(
    st.dictionaries(WORDS, st.one_of(PLAIN, TEXTS, st.lists(ELEMENT, max_size=3)), max_size=5),
    lambda inner: st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


def whole(document: Mapping[str, Any]) -> bytes:
    """Return a flat form as JSON: 1 and true are two things there, and in Python they are equal."""
    return orjson.dumps(flat(document), option=orjson.OPT_SORT_KEYS)


# --- the laws ------------------------------------------------------------------------------------------------------


@given(ENTRIES)
def test_an_entry_differs_in_nothing_from_itself(entry: Mapping[str, Any]) -> None:
    assert diff(flat(entry), flat(entry)) == []


@given(ENTRIES, ENTRIES)
def test_the_difference_of_two_entries_made_to_the_first_is_the_second(
    a: Mapping[str, Any], b: Mapping[str, Any]
) -> None:
    made = apply(diff(flat(a), flat(b)), flat(a))
    assert orjson.dumps(made, option=orjson.OPT_SORT_KEYS) == whole(b)


@given(ENTRIES, ENTRIES)
def test_two_entries_have_one_hash_exactly_when_they_do_not_differ(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    assert (digest(a) == digest(b)) is (diff(flat(a), flat(b)) == [])


@given(ENTRIES, ENTRIES)
def test_the_way_back_is_the_difference_turned_round(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    there, back = diff(flat(a), flat(b)), diff(flat(b), flat(a))
    assert [(c.path, orjson.dumps([c.old, c.new])) for c in there] == [
        (c.path, orjson.dumps([c.new, c.old])) for c in back
    ]


# --- what an entry says ---------------------------------------------------------------------------------------------


def with_materials(*materials: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**FULL, "materials": list(materials)}


def test_materials_are_known_by_their_code_and_not_by_their_place() -> None:
    one, two = {"code": "A", "required": True}, {"code": "B", "required": False}
    assert digest(with_materials(one, two)) == digest(with_materials(two, one))
    (change,) = diff(flat(with_materials(one, two)), flat(with_materials({**one, "required": False}, two)))
    assert (change.path, change.old, change.new, change.matters) == ("materials[A].required", True, False, True)
    assert change.why == MATTERS["materials[].required"]


def test_two_materials_with_one_code_are_not_taken_for_one() -> None:
    one, two = {"code": "A", "required": True}, {"code": "A", "required": False}
    assert {"materials[A].required", "materials[A~2].required"} <= flat(with_materials(one, two)).keys()


def test_one_and_true_are_two_things() -> None:
    """Python holds them for equal; a region that writes 1 where it wrote true has changed its form."""
    one, true = {"tolerance": 1}, {"tolerance": True}
    assert [(change.old, change.new) for change in diff(flat(one), flat(true))] == [(1, True)]
    assert digest(one) != digest(true)


def test_when_an_entry_was_last_touched_is_no_change_of_it() -> None:
    """A region that touches its entries every night would have people approve them every morning."""
    touched = {**FULL, "updated_at": "2027-01-01T00:00:00Z"}
    assert digest(touched) == digest(FULL)
    assert diff(flat(FULL), flat(touched)) == []


def test_every_field_of_the_vocabulary_is_decided_about_once() -> None:
    """A field that joins the vocabulary stops routing when it changes, until somebody has decided what it means."""
    fields = tomllib.loads((HOUSE / "mappings/vocabulary.toml").read_text(encoding="utf-8"))["item"]["fields"]
    values = {name for name, one in fields.items() if one["type"] not in ("list", "object")}
    assert values == MATTERS.keys() | RECORDED | UNTOLD
    assert not MATTERS.keys() & (RECORDED | UNTOLD)
    assert matters("something.new")
    assert general("materials[A%5D].name") == "materials[].name"


# --- what becomes of it ---------------------------------------------------------------------------------------------


def after(published: Mapping[str, Any] | None, before: ItemState = ItemState.OPEN) -> tuple[str, list[str]]:
    state, paths = state_after(before, FULL, published, TODAY)
    return str(state), paths


@pytest.mark.parametrize(
    ("published", "state", "paths"),
    [
        (FULL, "open", []),
        ({**FULL, "name": "另一名称", "guide": "https://example.com/2", "hotlines": ["020-1"]}, "open", []),
        ({**FULL, "promised": {"days": 9, "unit": "G"}}, "changed", ["promised.days"]),
        ({**FULL, "fields": [*FULL["fields"], {"code": "x", "name": "x", "required": True}]}, "changed",
         ["fields[x].code", "fields[x].required"]),
        ({**FULL, "suspended": True}, "suspended", ["suspended"]),
        ({**FULL, "valid_until": "2026-03-01"}, "suspended", []),
        ({**FULL, "valid_from": "2026-03-03"}, "suspended", []),
        ({**FULL, "valid_until": "2026-03-02"}, "open", []),
        (None, "gone", []),
    ],
)  # fmt: skip
def test_what_a_region_publishes_decides_what_becomes_of_the_item(
    published: Mapping[str, Any] | None, state: str, paths: list[str]
) -> None:
    assert after(published) == (state, paths)


@pytest.mark.parametrize("before", sorted(BLOCKING))
def test_an_item_that_was_stopped_is_not_open_again_by_itself(before: ItemState) -> None:
    """Published as it was approved, it may still have been revised and revised back: a person looks first."""
    assert after(FULL, before) == ("changed", [])


@given(ENTRIES, ENTRIES, st.sampled_from(list(ItemState)))
def test_nothing_is_open_that_differs_in_what_matters(
    approved: Mapping[str, Any], published: Mapping[str, Any], before: ItemState
) -> None:
    state, paths = state_after(before, approved, published, TODAY)
    assert paths == [change.path for change in diff(flat(approved), flat(published)) if change.matters]
    assert state is not ItemState.OPEN or (not paths and before not in BLOCKING)


def test_a_suspension_outweighs_every_other_change() -> None:
    assert is_suspended({**FULL, "suspended": True}, TODAY)
    assert after({**FULL, "suspended": True, "min_assurance": "A3"}, ItemState.CHANGED)[0] == "suspended"


# --- our own file ----------------------------------------------------------------------------------------------------


def test_where_an_entry_contradicts_our_file_it_is_told_and_what_it_leaves_out_is_not() -> None:
    items = load_items(HOUSE / "gateway/sandbox/seed/items.toml", frozenset(simulated_regions()))
    item = items["11440100MBT40100XX3442011899004"]
    said = as_published(item, "guangdong")
    assert unlike_the_file(item, "guangdong", said) == []
    assert unlike_the_file(item, "guangdong", {"name": "失业登记"}) == []
    theirs = {**said, "promised": {"days": 2, "unit": "G"}, "materials": [{"code": "ID", "required": True}]}
    told = {(one.path, one.old, one.new) for one in unlike_the_file(item, "guangdong", theirs)}
    assert ("promised.days", 1, 2) in told
    assert ("materials[TERMINATION].code", "TERMINATION", None) in told
    assert not [path for path, _, _ in told if path.startswith(("fields", "modes"))]
