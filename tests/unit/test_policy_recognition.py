"""The recognition matrix: what no line covers does not count, and every refusal says what would."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.main import main
from gateway.data import load_data, read_config
from gateway.domain.identity import Assurance
from gateway.errors import NotPermitted, StartRefused
from gateway.policy.recognition import Ask, Line, PersonKind, Recognition, load_recognition, uncovered
from gateway.sandbox.layout import Choices, Layout, Ports, lay_out, simulated_regions

REGIONS = {"guangdong", "hongkong", "macau"}
SERVICES = {"portal", "window"}
DAY = date(2026, 5, 4)
A0, A1, A2, A3 = Assurance
PERSON, ORGANISATION = PersonKind
ASK = Ask("guangdong", A2, "portal", "transact", PERSON, DAY)
ONE_LINE = """
[[recognition]]
regions = ["guangdong", "hongkong"]
services = ["portal"]
purposes = ["transact"]
least = "A2"
kinds = ["person"]
from = 2026-01-01
until = 2026-12-31
"""
STRICT = """
[[recognition]]
regions = ["macau"]
services = ["*"]
purposes = ["*"]
least = "A3"
kinds = ["person", "organisation"]
"""


def matrix(folder: Path, text: str) -> Recognition:
    path = folder / "recognition.toml"
    path.write_text(text, encoding="utf-8")
    return load_recognition(path, REGIONS, SERVICES)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(StartRefused) as refused:
        matrix(folder, text)
    return [f"{p.field.rpartition('recognition.toml: ')[2]}: {p.reason}" for p in refused.value.problems]


def test_a_sign_on_that_a_line_covers_counts_and_the_line_is_named(tmp_path: Path) -> None:
    decision = matrix(tmp_path, STRICT + ONE_LINE).decide(ASK)
    assert (decision.allowed, decision.line, decision.missing) == (True, 2, "")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (replace(ASK, service="window"), "covers service window; the nearest, line 1, covers portal"),
        (replace(ASK, purpose="inspect"), "covers purpose inspect"),
        (replace(ASK, purpose=None), "covers a sign-on without purpose"),
        (replace(ASK, kind=ORGANISATION), "covers kind organisation; the nearest, line 1, covers person"),
        (replace(ASK, on=date(2027, 1, 1)), "covers the day 2027-01-01"),
        (replace(ASK, assurance=A1), "covers level A1; the nearest, line 1, covers level A2 and above"),
        (replace(ASK, assurance=A0, service="window"), "covers service window and level A0"),
        (replace(ASK, region="macau"), "sign-on of region macau counts for nothing here"),
    ],
)
def test_a_refusal_says_in_words_which_line_refused_and_why(tmp_path: Path, ask: Ask, words: str) -> None:
    decision = matrix(tmp_path, ONE_LINE).decide(ask)
    assert not decision.allowed
    assert words in decision.missing
    assert decision.line == (None if ask.region == "macau" else 1)


def test_a_refusal_says_which_level_would_do(tmp_path: Path) -> None:
    higher = ONE_LINE.replace('"A2"', '"A3"')
    decision = matrix(tmp_path, higher + ONE_LINE).decide(replace(ASK, assurance=A1))
    assert (decision.line, decision.step_up) == (2, A2)
    assert decision.missing.endswith("; sign on again at level A2 or above")


def test_a_refusal_says_whose_sign_on_would_do(tmp_path: Path) -> None:
    decision = matrix(tmp_path, ONE_LINE + STRICT).decide(replace(ASK, region="macau"))
    assert decision.elsewhere == ("guangdong", "hongkong")
    assert decision.missing.endswith("; sign on again at level A3 or above or sign on with guangdong, hongkong")


def test_a_level_that_can_be_reached_is_nearer_than_a_name_that_cannot_change(tmp_path: Path) -> None:
    other = ONE_LINE.replace('["portal"]', '["window"]').replace('"A2"', '"A1"')
    assert matrix(tmp_path, other + ONE_LINE).decide(replace(ASK, assurance=A1)).line == 2


def test_two_lines_do_not_add_up_to_a_recognition(tmp_path: Path) -> None:
    """Service by one line and level by another would recognise a pair that nobody ever wrote down."""
    lower = ONE_LINE.replace('"A2"', '"A1"').replace('["portal"]', '["window"]')
    assert not matrix(tmp_path, ONE_LINE + lower).decide(replace(ASK, assurance=A1)).allowed


def test_without_lines_nothing_counts(tmp_path: Path) -> None:
    empty = matrix(tmp_path, "")
    assert not empty.decide(replace(ASK, assurance=A3)).allowed
    assert empty.least_for("guangdong", "portal", DAY) is None


def test_what_does_not_count_raises_with_a_stable_code(tmp_path: Path) -> None:
    assert matrix(tmp_path, ONE_LINE).require(ASK) == 1
    with pytest.raises(NotPermitted) as refused:
        matrix(tmp_path, ONE_LINE).require(replace(ASK, assurance=A1))
    assert refused.value.stable_code == "policy.not_recognised"
    assert refused.value.public.endswith("sign on again at level A2 or above.")


@pytest.mark.parametrize(
    ("region", "service", "named", "least"),
    [
        ("guangdong", "portal", {}, A2),
        ("guangdong", "window", {}, None),
        ("macau", "window", {}, A3),
        ("guangdong", "portal", {"purpose": "inspect"}, None),
        ("guangdong", "portal", {"kind": ORGANISATION}, None),
        ("macau", "portal", {"kind": ORGANISATION, "purpose": "inspect"}, A3),
    ],
)
def test_the_chooser_learns_from_which_level_a_region_counts(
    tmp_path: Path, region: str, service: str, named: dict[str, Any], least: Assurance | None
) -> None:
    assert matrix(tmp_path, ONE_LINE + STRICT).least_for(region, service, DAY, **named) == least


def test_a_line_that_is_over_offers_nothing(tmp_path: Path) -> None:
    assert matrix(tmp_path, ONE_LINE).least_for("guangdong", "portal", date(2027, 1, 1)) is None


# --- the laws ----------------------------------------------------------------------------------------------------

names = st.sampled_from(["guangdong", "hongkong", "macau"])
some = st.frozensets(st.sampled_from(["a", "b", "c"]), min_size=1) | st.just(frozenset({"*"}))
days = st.dates(date(2026, 1, 1), date(2026, 1, 9))


@st.composite
def lines(draw: st.DrawFn) -> Line:
    begin, end = sorted((draw(days), draw(days)))
    return Line.model_validate(
        {
            "regions": draw(st.frozensets(names, min_size=1)),
            "services": draw(some),
            "purposes": draw(some),
            "least": draw(st.sampled_from(list(Assurance))).name,
            "kinds": draw(st.frozensets(st.sampled_from(list(PersonKind)), min_size=1)),
            "from": draw(st.none() | st.just(begin)),
            "until": draw(st.none() | st.just(end)),
        }
    )


asks = st.builds(
    Ask, names, st.sampled_from(list(Assurance)), st.sampled_from("abcd"), st.none() | st.sampled_from("abcd"),
    st.sampled_from(list(PersonKind)), days,
)  # fmt: skip
matrices = st.lists(lines(), max_size=5)


def numbered(found: list[Line]) -> Recognition:
    return Recognition(dict(enumerate(found, start=1)))


@given(matrices, lines(), asks)
def test_another_line_never_takes_a_permission_away(before: list[Line], line: Line, ask: Ask) -> None:
    for after in ([*before, line], [line, *before]):
        assert numbered(before).decide(ask).allowed <= numbered(after).decide(ask).allowed


@given(matrices, asks, st.sampled_from(list(Assurance)))
def test_a_higher_level_never_loses_what_a_lower_one_has(found: list[Line], ask: Ask, level: Assurance) -> None:
    low, high = sorted((ask.assurance, level))
    allowed = [numbered(found).decide(replace(ask, assurance=one)).allowed for one in (low, high)]
    assert allowed == sorted(allowed)


@given(matrices, asks)
def test_the_way_that_a_refusal_shows_leads_there(found: list[Line], ask: Ask) -> None:
    """Step up as told, or sign on where told, and it counts; a promise that fails would send people in circles."""
    decision = numbered(found).decide(ask)
    if decision.step_up is not None:
        assert decision.step_up > ask.assurance
        assert numbered(found).decide(replace(ask, assurance=decision.step_up)).allowed
    for region in decision.elsewhere:
        assert numbered(found).decide(replace(ask, region=region)).allowed


@given(matrices, asks)
def test_the_chooser_and_the_decision_agree(found: list[Line], ask: Ask) -> None:
    least = numbered(found).least_for(ask.region, ask.service, ask.on, purpose=ask.purpose or "d", kind=ask.kind)
    decided = numbered(found).decide(replace(ask, purpose=ask.purpose or "d")).allowed
    assert decided == (least is not None and ask.assurance >= least)


# --- the version -------------------------------------------------------------------------------------------------


def test_the_version_changes_with_what_is_said_and_with_nothing_else(tmp_path: Path) -> None:
    version = matrix(tmp_path, ONE_LINE + STRICT).version
    respelt = ONE_LINE.replace('["guangdong", "hongkong"]', '[ "hongkong", "guangdong" ] # both')
    assert matrix(tmp_path, respelt + STRICT).version == version
    others = [ONE_LINE, STRICT + ONE_LINE, ONE_LINE + STRICT.replace("A3", "A2"), ONE_LINE.replace("12-31", "12-30")]
    assert len({version, *(matrix(tmp_path, other).version for other in others)}) == 5


# --- the file ----------------------------------------------------------------------------------------------------


def test_every_mistake_of_the_file_is_named_in_one_go(tmp_path: Path) -> None:
    text = (
        ONE_LINE.replace('"guangdong"', '"guangdnog"').replace('"A2"', '"A4"')
        + STRICT.replace('["macau"]', '["*"]').replace('services = ["*"]', 'services = ["*", "portal"]')
        + ONE_LINE.replace('["person"]', '["people"]')
        + ONE_LINE.replace("2026-12-31", "2025-12-31").replace('["portal"]', '["protal"]')
    )
    found = problems(tmp_path, text)
    expected = [
        "recognition 1: regions: guangdnog is not known",
        "recognition 1: least: must be one of A0, A1, A2, A3",
        "recognition 2: regions: must be named one by one",
        'recognition 2: services: "*" covers everything, so it stands alone',
        "recognition 3: kinds.",
        "recognition 4: until: is before `from`",
        "recognition 4: services: protal is not known",
    ]
    assert len(found) == len(expected), found
    assert all(any(line.startswith(begin) for line in found) for begin in expected), found


@pytest.mark.parametrize("least", ["2", "true", '""', '"a2"', "[]"])
def test_a_level_is_a_word_of_the_ladder(tmp_path: Path, least: str) -> None:
    assert "must be one of A0" in problems(tmp_path, ONE_LINE.replace('"A2"', least))[0]


def test_regions_that_no_line_names_are_found(tmp_path: Path) -> None:
    assert uncovered(matrix(tmp_path, ONE_LINE), REGIONS) == ["macau"]


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    regions = {region: number for number, region in enumerate(simulated_regions(), 1)}  # the seed names all of them
    ports = Ports(public=8080, admin=9090, authorities=regions)
    return lay_out(tmp_path_factory.mktemp("pearl"), ports, Choices())


@pytest.fixture
def config(deployment: Layout, tmp_path: Path) -> Path:
    shutil.copytree(deployment.folder, tmp_path / "pearl")
    text = ONE_LINE.replace('["portal"]', '["demo-portal"]')
    (tmp_path / "pearl/recognition.toml").write_text(text, encoding="utf-8")
    return tmp_path / "pearl" / deployment.config.name


def pearl(config: Path, *arguments: str) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(main, ["recognition", command, "--config", str(config), *rest], catch_exceptions=False)


def test_the_sandbox_recognises_the_regions_that_it_runs(deployment: Layout) -> None:
    data = load_data(read_config(deployment.config))
    assert uncovered(data.recognition, ["guangdong", "foshan", "hongkong"]) == []


def test_the_check_names_the_version_and_whom_nobody_recognises(config: Path) -> None:
    text = config.with_name("recognition.toml").read_text().replace('"guangdong", ', "")
    config.with_name("recognition.toml").write_text(text)
    result = pearl(config, "check")
    assert result.exit_code == 0
    assert result.stdout.startswith("1 line, version ")
    assert "Sign-on of guangdong counts nowhere" in result.stdout


def test_a_service_that_no_client_has_is_a_mistake(config: Path) -> None:
    text = config.with_name("recognition.toml").read_text().replace("demo-portal", "demo-protal")
    config.with_name("recognition.toml").write_text(text)
    result = pearl(config, "check")
    assert result.exit_code == 1
    assert "demo-protal is not known" in result.stderr


def test_the_lines_are_listed(config: Path) -> None:
    listed = json.loads(pearl(config, "list", "--json").stdout)
    assert (listed["lines"][0]["line"], listed["lines"][0]["least"]) == (1, "A2")
    assert len(listed["version"]) == 64
    assert "guangdong, hongkong" in pearl(config, "list").stdout


def test_a_decision_is_explained_and_the_exit_code_says_it_too(config: Path) -> None:
    given = (
        "explain",
        "--region",
        "guangdong",
        "--service",
        "demo-portal",
        "--purpose",
        "transact",
        "--on",
        "2026-05-04",
    )
    counts = pearl(config, *given, "--level", "A2")
    assert (counts.exit_code, counts.stdout.startswith("It counts, by line 1")) == (0, True)
    refused = pearl(config, *given, "--level", "A1", "--json")
    said = json.loads(refused.stdout)
    assert (refused.exit_code, said["allowed"], said["line"], said["step_up"]) == (1, False, 1, "A2")
    assert "is not enabled" in pearl(config, "explain", "--region", "x", "--service", "y", "--level", "A1").stderr
