"""`pearl mappings replay`: recorded traffic through two folders, told without anybody's data."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.cli.recorded import stored_submissions
from gateway.config import Config, load_config
from gateway.errors import Unavailable
from gateway.mapping.paths import OURS, OWN_TEXT, Notation
from gateway.mapping.tools.documents import compare, places, values_at, without_numbers
from gateway.mapping.tools.folder import open_folder
from gateway.mapping.tools.replay import Recorded, Summary, Verdict, contrast, masked, recorded_in
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS
from gateway.opening import own_keys
from gateway.sandbox.layout import Choices, Ports, lay_out
from gateway.storage import open_store
from gateway.storage.tables import submissions
from gateway.submissions.parcels import seal_body
from tests.support.cases import REGION, add_case, number
from tests.support.clock import ManualClock
from tests.support.mapping_folder import EAST_OURS, EAST_THEIRS, WEST_THEIRS, MappingFolder, pearl

MAPPINGS = Path(__file__).parents[2] / "mappings"


@pytest.fixture
def folder(tmp_path: Path) -> MappingFolder:
    return MappingFolder(tmp_path / "mappings")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder of recorded documents: two of east, one of west."""
    root = tmp_path / "recorded"
    for name, text in {
        "east/note/a.canonical.json": json.dumps(EAST_OURS),
        "east/note/b.region.json": json.dumps(EAST_THEIRS),
        "west/note/c.region.xml": WEST_THEIRS,
        "east/note/notes.txt": "not a document",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def changed(folder: MappingFolder) -> MappingFolder:
    """Return a copy in which east writes the day otherwise, and reads it otherwise."""
    new = folder.copy("mappings-new")
    new.replace("east/note/rules.toml", 'as = "date:yyyyMMdd"', 'as = "date:yyyy-MM-dd"')
    new.replace("east/note/schema.json", "^[0-9]{8}$", "^[0-9-]{10}$")
    new.replace("east/note/examples/one.region.json", '"20260301"', '"2026-03-01"')
    return new


def replay(old: MappingFolder, new: MappingFolder, *arguments: str) -> Any:
    return pearl("replay", "--old", str(old.root), "--new", str(new.root), *arguments)


# --- the command -------------------------------------------------------------------------------------------------


def test_a_folder_that_changes_nothing_is_quiet(folder: MappingFolder, recorded: Path) -> None:
    result = replay(folder, folder.copy("same"), "--recorded", str(recorded))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "3 documents. Nothing would come out otherwise."


def test_what_comes_out_otherwise_or_is_newly_refused_is_told_by_place_and_ends_with_1(
    folder: MappingFolder, recorded: Path
) -> None:
    result = replay(folder, changed(folder), "--recorded", str(recorded))
    assert result.exit_code == 1
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["east", "note", "→", "rq", "changed", "1"] in lines
    assert any(line[:5] == ["east", "note", "←", "rq", "newly"] for line in lines)
    assert ["west", "note", "←", "1", "1", "0", "0", "0", "0"] in lines


def test_no_value_is_shown_unless_that_is_asked_for(folder: MappingFolder, recorded: Path) -> None:
    """Recorded traffic is about people, and a terminal is no safe place."""
    new = changed(folder)
    for arguments in ((), ("--json",)):
        quiet = replay(folder, new, "--recorded", str(recorded), *arguments).output
        assert not any(value in quiet for value in ("测试", "2026", "a.canonical"))
    loud = replay(folder, new, "--recorded", str(recorded), "--show-values").stdout
    assert '  rq changed: "20260301" → "2026-03-01"' in loud
    assert "east/note/a.canonical.json: different" in loud


def test_the_same_can_be_read_by_programs(folder: MappingFolder, recorded: Path) -> None:
    found = json.loads(replay(folder, changed(folder), "--recorded", str(recorded), "--json").stdout)
    assert (found["documents"], found["quiet"]) == (3, False)
    verdicts = {(one["region"], one["direction"]): one["verdict"] for one in found["verdicts"]}
    assert verdicts == {
        ("east", OURS_TO_THEIRS): "different",
        ("east", THEIRS_TO_OURS): "newly refused",
        ("west", THEIRS_TO_OURS): "same",
    }
    assert {one["place"] for one in found["findings"]} == {"rq"}


def test_the_packs_in_use_are_what_is_compared_with(recorded: Path) -> None:
    result = pearl("replay", "--new", str(MAPPINGS), "--recorded", str(examples_beside(recorded)))
    assert result.exit_code == 0, result.output
    assert "Nothing would come out otherwise." in result.stdout


def examples_beside(beside: Path) -> Path:
    """Copy one pack's examples as recorded traffic."""
    goal = beside.parent / "own" / "foshan" / "receipt"
    shutil.copytree(MAPPINGS / "foshan" / "receipt" / "examples", goal)
    return goal.parent.parent


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to replay"),
        (("--recorded", "."), "holds no recorded documents"),
        (("--recorded", "{recorded}", "--show-values", "--json"), "say one of them"),
    ],
)
def test_wrong_arguments_are_told_apart_from_refusals(
    folder: MappingFolder, recorded: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    places = {"{recorded}": str(recorded), ".": str(tmp_path)}
    result = replay(folder, folder, *(places.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert words in result.stderr


# --- contrasts ---------------------------------------------------------------------------------------------------


def both(folder: MappingFolder, new: MappingFolder) -> tuple[Any, Any]:
    return open_folder(folder.root).packs, open_folder(new.root).packs


def test_documents_that_no_pack_reads_are_told_apart_from_those_that_one_does(folder: MappingFolder) -> None:
    before, after = both(folder, changed(folder))
    new_day = json.dumps({**EAST_THEIRS, "rq": "2026-03-01"}).encode()
    verdicts = [
        contrast(before, after, Recorded("x", region, "note", direction, document)).verdict
        for region, direction, document in [
            ("east", THEIRS_TO_OURS, new_day),
            ("east", THEIRS_TO_OURS, b"{}"),
            ("east", THEIRS_TO_OURS, b"no json"),
            ("east", OURS_TO_THEIRS, b"[]"),
            ("north", OURS_TO_THEIRS, b"{}"),
        ]
    ]
    assert verdicts == [Verdict.ACCEPTED, *[Verdict.STILL_REFUSED] * 4]


def test_a_sum_of_contrasts_holds_no_numbers_of_items_and_no_names_that_came_along(folder: MappingFolder) -> None:
    known = {"pages[].text", "form", "id", "Form/Field[]"}
    assert masked("pages[3].text", known) == "pages[].text"
    assert masked("form.秘密", known) == "form.…"
    assert masked("Form/Field[2]/@x", known) == "Form/Field[].…"
    assert masked("pages", known) == "pages"
    assert masked("秘密", known) == "…"


def test_each_document_counts_once_for_a_place(folder: MappingFolder) -> None:
    before, after = both(folder, changed(folder))
    found = Summary()
    for _ in range(3):
        document = Recorded("x", "east", "note", OURS_TO_THEIRS, EAST_OURS)
        found.add(contrast(before, after, document), before, after)
    assert found.total == 3
    assert [(one.place, one.kind, count) for one, count in found.findings.items()] == [("rq", "changed", 3)]
    assert not found.is_quiet


def test_a_recorded_document_is_read_no_further_than_a_form_goes(tmp_path: Path) -> None:
    """A recording may hold anything; the form refuses what is too large."""
    path = tmp_path / "east" / "note" / "big.region.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b" " * (5 * 1024 * 1024))
    (one,) = recorded_in(tmp_path)
    assert len(one.document) == 4 * 1024 * 1024 + 1


def test_differences_are_found_at_their_places() -> None:
    before = {"a": 1, "b": {"c": [1, {"d": 2}]}, "e": {}, "f": True}
    after = {"a": 1, "b": {"c": [1, {"d": 3}]}, "f": 1, "g": []}
    assert [(one.place, one.kind) for one in compare(before, after)] == [
        ("b.c[1].d", "changed"), ("e", "vanished"), ("f", "changed"), ("g", "appeared"),
    ]  # fmt: skip


def test_places_are_written_as_each_side_writes_them() -> None:
    tree = {"A": {"@b": "1", OWN_TEXT: "x"}, "L": [{OWN_TEXT: "y"}, {OWN_TEXT: "z"}]}
    notation = Notation("/", 1)
    assert places(tree, notation) == {"A/@b": "1", "A": "x", "L[1]": "y", "L[2]": "z"}
    assert values_at(tree, "L[]", notation) == ["y", "z"]
    assert values_at({"form": {"x": "1"}}, "form", OURS) == []
    assert without_numbers("a[0].b[12].c") == "a[].b[].c"


# --- from the store ----------------------------------------------------------------------------------------------


@pytest.fixture
def deployment(tmp_path: Path, sqlite_template: Path, clock: ManualClock) -> Path:
    """Lay a deployment out whose store holds every example case of a region, and return its configuration."""
    layout = lay_out(tmp_path / "pearl", Ports(public=8080, admin=9090, authorities={REGION: 8443}), Choices())
    database = shutil.copy(sqlite_template, layout.folder / "pearl.db")
    sealer, _, _ = own_keys(load_config(layout.config))
    bodies = [path.read_bytes() for path in sorted(MAPPINGS.glob(f"{REGION}/submission/examples/*.canonical.json"))]

    def fill(tx: Connection) -> None:
        for count, body in enumerate(bodies, start=1):
            case = number(count, clock() + timedelta(seconds=count))
            add_case(tx, case, clock())
            sealed = seal_body(sealer, case, json.loads(body))
            tx.execute(submissions.update().where(submissions.c.id == case).values(body=sealed))

    async def once() -> None:
        store = await open_store(f"sqlite:///{database}")
        try:
            await store.write(fill)
        finally:
            await store.close()

    asyncio.run(once())
    return layout.config


def collected(config: Config) -> list[Recorded]:
    async def all_of_them() -> list[Recorded]:
        return [one async for one in stored_submissions(config, {}, page=2)]

    return asyncio.run(all_of_them())


def test_stored_submissions_are_replayed_with_the_gateways_own_keys(deployment: Path) -> None:
    count = len(list(MAPPINGS.glob(f"{REGION}/submission/examples/*.canonical.json")))
    result = pearl("replay", "--new", str(MAPPINGS), "--config", str(deployment))
    assert result.exit_code == 0, result.output
    assert f"{count} documents. Nothing would come out otherwise." in result.stdout


def test_a_store_is_read_to_its_end_in_pages(deployment: Path) -> None:
    found = collected(load_config(deployment))
    names = [one.name for one in found]
    assert len(names) > 4
    assert names == sorted(set(names))
    assert {(one.region, one.message, one.direction) for one in found} == {(REGION, "submission", OURS_TO_THEIRS)}


def test_a_body_that_no_key_opens_ends_the_replay_in_words(deployment: Path) -> None:
    config = load_config(deployment)
    (key,) = config.keys.at_rest
    (config.folder / key.removeprefix("file:")).write_bytes(b"\x01" * 32)
    with pytest.raises(Unavailable):
        collected(load_config(deployment))
    result = pearl("replay", "--new", str(MAPPINGS), "--config", str(deployment))
    assert result.exit_code == 1
    assert "Stored data cannot be opened" in result.stderr


def test_a_replay_changes_nothing_in_the_store(deployment: Path) -> None:
    database = deployment.parent / "pearl.db"
    before = database.read_bytes()
    pearl("replay", "--new", str(MAPPINGS), "--config", str(deployment))
    assert database.read_bytes() == before
