"""Grants: what no grant covers is refused, and every refusal says which line is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.identity import Assurance
from gateway.domain.item import Item, Office
from gateway.errors import NotPermitted, StartRefused
from gateway.policy.grants import Ask, Capability, Grants, Known, load_grants

KNOWN = Known(
    clients={"nanhai", "tianhe"},
    regions={"guangdong", "foshan", "hongkong"},
    items={"A", "B"},
    certificate_types={"licence", "permit"},
)
DAY = date(2026, 5, 4)
CREATE, LOOK_UP = Capability.CREATE_SUBMISSIONS, Capability.LOOK_UP_CERTIFICATES
ASK = Ask("nanhai", CREATE, "A", None, "transact", "guangdong", DAY)

ONE_GRANT = """
[[grant]]
client = "nanhai"
capability = "submissions.create"
items = ["A"]
purposes = ["transact"]
regions = ["guangdong", "hongkong"]
from = 2026-01-01
until = 2026-12-31
"""
LOOKUP = """
[[grant]]
client = "nanhai"
capability = "certificates.lookup"
items = ["*"]
certificate_types = ["licence"]
purposes = ["*"]
regions = ["foshan"]
"""


def grants(folder: Path, text: str) -> Grants:
    path = folder / "grants.toml"
    path.write_text(text, encoding="utf-8")
    return load_grants(path, KNOWN)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(StartRefused) as refused:
        grants(folder, text)
    return [f"{p.field.rpartition('grants.toml: ')[2]}: {p.reason}" for p in refused.value.problems]


def test_a_request_that_a_grant_covers_is_allowed_and_names_the_grant(tmp_path: Path) -> None:
    """The number goes into the evidence, so that it can be said later why something was allowed."""
    decision = grants(tmp_path, LOOKUP + ONE_GRANT).decide(ASK)
    assert (decision.allowed, decision.grant, decision.missing) == (True, 2, "")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (replace(ASK, region="foshan"), "covers region foshan in this request; the nearest, grant 1, covers guangdong"),
        (replace(ASK, item="B"), "covers item B in this request; the nearest, grant 1, covers A"),
        (replace(ASK, item=None), "covers a request without item"),
        (replace(ASK, purpose="curiosity"), "covers purpose curiosity"),
        (replace(ASK, item="B", region="foshan"), "covers item B and region foshan"),
        (replace(ASK, on=date(2027, 1, 1)), "covers the day 2027-01-01"),
        (replace(ASK, on=date(2025, 12, 31)), "the days from 2026-01-01 until 2026-12-31"),
        (replace(ASK, client="tianhe"), "client tianhe has no grant for capability submissions.create"),
        (replace(ASK, capability=LOOK_UP), "client nanhai has no grant for capability certificates.lookup"),
    ],
)
def test_a_refusal_says_in_words_which_line_is_missing(tmp_path: Path, ask: Ask, words: str) -> None:
    decision = grants(tmp_path, ONE_GRANT).decide(ask)
    assert not decision.allowed
    assert decision.grant is None
    assert words in decision.missing


@pytest.mark.parametrize("day", [date(2026, 1, 1), date(2026, 12, 31)])
def test_both_ends_of_a_term_count(tmp_path: Path, day: date) -> None:
    assert grants(tmp_path, ONE_GRANT).decide(replace(ASK, on=day)).allowed


def test_a_refusal_names_the_nearest_of_several_grants(tmp_path: Path) -> None:
    """The grant with the fewest gaps is the line that somebody most likely meant to write."""
    far = ONE_GRANT.replace('["A"]', '["B"]').replace('["transact"]', '["inspect"]')
    assert "grant 2" in grants(tmp_path, far + ONE_GRANT).decide(replace(ASK, region="foshan")).missing


def test_two_grants_do_not_add_up_to_a_permission(tmp_path: Path) -> None:
    """Item by one line and region by another would permit a pair that nobody ever wrote down."""
    other = ONE_GRANT.replace('["A"]', '["B"]').replace('"guangdong", "hongkong"', '"foshan"')
    assert not grants(tmp_path, ONE_GRANT + other).decide(replace(ASK, region="foshan")).allowed


def test_a_refusal_tells_nothing_of_other_clients(tmp_path: Path) -> None:
    missing = grants(tmp_path, ONE_GRANT).decide(replace(ASK, client="tianhe")).missing
    assert "nanhai" not in missing
    assert "grant 1" not in missing


def test_require_refuses_with_the_stable_code_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotPermitted) as refused:
        grants(tmp_path, ONE_GRANT).require(replace(ASK, region="foshan"))
    assert refused.value.stable_code == "policy.no_grant"
    assert "region foshan" in refused.value.public
    assert "Ask the operator" in refused.value.public


def test_require_returns_the_number_of_the_grant(tmp_path: Path) -> None:
    assert grants(tmp_path, ONE_GRANT).require(ASK) == 1


@pytest.mark.parametrize(("kind", "allowed"), [("licence", True), ("permit", False), (None, False)])
def test_a_lookup_needs_its_certificate_type_granted(tmp_path: Path, kind: str | None, allowed: bool) -> None:
    ask = Ask("nanhai", LOOK_UP, "B", kind, "anything", "foshan", DAY)
    assert grants(tmp_path, LOOKUP).decide(ask).allowed is allowed


def test_an_explanation_of_a_long_grant_stays_readable(tmp_path: Path) -> None:
    codes = ", ".join(f'"{n}"' for n in range(9))
    path = tmp_path / "grants.toml"
    path.write_text(ONE_GRANT.replace('"A"', codes))
    known = replace(KNOWN, items={str(n) for n in range(9)})
    assert load_grants(path, known).decide(ASK).missing.endswith("covers 0, 1, 2, 3, 4 and 4 more")


# --- discovery ---------------------------------------------------------------------------------------------------


def item(code: str, *regions: str) -> Item:
    offices = [Office(region, "440000", 1, 2, "G") for region in regions]
    return Item(code, {"zh-CN": code}, "社会保险", ["online"], Assurance.A2, [], [], offices)


def shown(items: Sequence[Item]) -> list[tuple[str, list[str]]]:
    return [(i.code, [office.region for office in i.offices]) for i in items]


def test_discovery_shows_only_granted_items_with_only_granted_offices(tmp_path: Path) -> None:
    """A caller that sees what it may not use would try it, and learns of what others do."""
    items = [item("A", "guangdong", "foshan"), item("B", "guangdong")]
    assert shown(grants(tmp_path, ONE_GRANT).visible_items("nanhai", items, DAY)) == [("A", ["guangdong"])]


def test_discovery_shows_nothing_after_the_term_or_to_a_stranger(tmp_path: Path) -> None:
    held = grants(tmp_path, ONE_GRANT)
    items = [item("A", "guangdong")]
    assert held.visible_items("nanhai", items, date(2027, 1, 1)) == []
    assert held.visible_items("tianhe", items, DAY) == []


def test_an_item_without_a_granted_office_is_not_shown(tmp_path: Path) -> None:
    assert grants(tmp_path, ONE_GRANT).visible_items("nanhai", [item("A", "foshan")], DAY) == []


def test_certificate_types_are_shown_by_the_lookups_that_are_granted(tmp_path: Path) -> None:
    held = grants(tmp_path, LOOKUP)
    types = ["licence", "permit"]
    assert held.visible_certificate_types("nanhai", types, "foshan", DAY) == ["licence"]
    assert held.visible_certificate_types("nanhai", types, "hongkong", DAY) == []


@given(
    region=st.sampled_from(sorted(KNOWN.regions)),
    code=st.sampled_from(["A", "B"]),
    day=st.dates(date(2025, 1, 1), date(2028, 1, 1)),
)
def test_what_discovery_shows_is_exactly_what_a_decision_allows(
    tmp_path_factory: pytest.TempPathFactory, region: str, code: str, day: date
) -> None:
    """Two readings of the same file would drift apart; this holds them together."""
    held = grants(tmp_path_factory.mktemp("grants"), ONE_GRANT)
    visible = bool(held.visible_items("nanhai", [item(code, region)], day))
    assert visible is held.decide(replace(ASK, region=region, item=code, on=day)).allowed


# --- the file ----------------------------------------------------------------------------------------------------


def test_an_empty_file_grants_nothing(tmp_path: Path) -> None:
    assert not grants(tmp_path, "").decide(ASK).allowed


def test_all_problems_of_the_file_are_told_at_once(tmp_path: Path) -> None:
    """Whoever edits the file hears everything in one go, also unknown names in an entry of the wrong shape."""
    text = """
    grants = 1
    [[grant]]
    client = "nanhay"
    capability = "submissions.delete"
    items = ["Z"]
    purposes = []
    regions = ["*"]
    colour = "red"
    [[grant]]
    client = "*"
    capability = "submissions.create"
    items = ["*", "A"]
    certificate_types = ["licence"]
    purposes = ["*"]
    regions = ["fushan"]
    [[grant]]
    client = "nanhai"
    capability = "certificates.lookup"
    items = ["*"]
    purposes = ["*"]
    regions = ["foshan"]
    from = 2026-02-01
    until = 2026-01-01
    """
    found = problems(tmp_path, text)
    expected = [
        "grants: is not known here; every entry begins with [[grant]]",
        "grant 1: client: nanhay is not known; known: nanhai, tianhe",
        "grant 1: items: Z is not known; known: A, B",
        "grant 1: capability: Input should be",
        "grant 1: purposes: ",
        "grant 1: regions: must be named one by one",
        "grant 1: colour: is not a known setting",
        "grant 2: regions: fushan is not known",
        'grant 2: items: "*" covers everything, so it stands alone',
        "grant 3: until: is before `from`",
        "grant 3: certificate_types: is required for certificates.lookup",
    ]
    assert len(found) == len(expected), found
    assert all(any(line.startswith(begin) for line in found) for begin in expected), found


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('client = "nanhai"', 'client = "*"', "client: must be one client"),
        (
            'items = ["A"]',
            'items = ["A"]\ncertificate_types = ["*"]',
            "certificate_types: means nothing for submissions",
        ),
        ('items = ["A"]', "items = [7]", "items.0"),
        ('items = ["A"]', 'items = "A"', "items"),
        ('client = "nanhai"', "client = 3", "client"),
        ("from = 2026-01-01", 'from = "soon"', "from"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(tmp_path: Path, old: str, new: str, words: str) -> None:
    found = problems(tmp_path, ONE_GRANT.replace(old, new))
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize("text", ["grant = 1", "grant = [1]", "[grant]\nclient = 1", "not toml"])
def test_a_file_of_the_wrong_form_is_refused_not_misread(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(StartRefused) as refused:
        load_grants(tmp_path / "grants.toml", KNOWN)
    assert "grants.toml" in refused.value.problems[0].field
