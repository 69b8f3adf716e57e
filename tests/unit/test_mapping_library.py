"""The packs in use: one version for all packs of a region, seen as a whole before a change or as a whole after it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.errors import NotOffered, StartRefused
from gateway.mapping.library import OTHERS, Change, Library, PackSet, changes, read_sets, restored
from gateway.mapping.source import Files
from tests.support.cases import REGION
from tests.support.clock import ManualClock
from tests.support.mappings import MappingFolder

EVENT = {"sjbh": "e1", "wwbh": "KY1", "lsh": "7", "ztdm": "2", "fssj": "2026-03-02T01:00:00Z"}


@pytest.fixture
def folder(tmp_path: Path) -> MappingFolder:
    return MappingFolder(tmp_path / "mappings")


def read(folder: MappingFolder, *regions: str, earlier: Library | None = None) -> dict[str, PackSet]:
    names = dict.fromkeys(regions or (REGION,), folder.region)
    sets, problems = read_sets(folder.root, names, earlier=earlier.current if earlier else None)
    assert problems == []
    return sets


# --- sets ----------------------------------------------------------------------------------------------------------


def test_a_set_has_another_version_when_one_of_its_packs_has(folder: MappingFolder) -> None:
    """A case is pinned to one version, and may need any pack of the region."""
    before = read(folder)[REGION]
    assert read(folder)[REGION].version == before.version
    folder.rename("receipt", "lsh", "xlsh")
    after = read(folder)[REGION]
    assert after.version != before.version
    assert changes(Library({REGION: before}, ManualClock()()).current, {REGION: after}) == [
        Change(REGION, "receipt", before["receipt"].version, after["receipt"].version)
    ]


def test_a_pack_that_comes_or_goes_is_a_change(folder: MappingFolder, clock: ManualClock) -> None:
    whole = read(folder)
    folder.drop("event")
    less = read(folder)
    assert less[REGION].version != whole[REGION].version
    version = whole[REGION]["event"].version
    assert changes(Library(whole, clock()).current, less) == [Change(REGION, "event", version, None)]
    assert changes(Library(less, clock()).current, whole) == [Change(REGION, "event", None, version)]


def test_a_message_that_a_region_does_not_exchange_is_refused_by_name(folder: MappingFolder) -> None:
    with pytest.raises(NotOffered, match="exchanges no person documents"):
        read(folder)[REGION].need("person")


def test_several_regions_may_share_one_folder(folder: MappingFolder) -> None:
    """Eight provinces speak one format; each pack still says whose message it could not convert."""
    sets = read(folder, "hunan", "hainan")
    assert sets["hunan"].version == sets["hainan"].version
    assert {packs[message].region for packs in sets.values() for message in packs} == {"hunan", "hainan"}
    assert sets["hunan"]["receipt"].region == "hunan"


def test_a_shared_folder_is_tried_once_and_its_packs_are_those_that_each_region_would_have_alone(
    folder: MappingFolder, clock: ManualClock
) -> None:
    """So that a region that joins others costs the start next to nothing."""
    together, alone = read(folder, "hunan", "hainan")["hainan"], read(folder, "hainan")["hainan"]
    for message in alone:
        assert (together[message].version, together[message].fingerprint) == (
            alone[message].version,
            alone[message].fingerprint,
        )
    hunan = read(folder, "hunan", "hainan")["hunan"]
    assert hunan["receipt"].fingerprint != together["receipt"].fingerprint
    again = read(folder, "hunan", "hainan", earlier=Library({"hunan": hunan, "hainan": alone}, clock()))
    assert all(again[packs.region][message] is packs[message] for packs in (hunan, alone) for message in packs)


def test_an_unknown_code_is_told_in_the_name_of_the_region_that_sent_it(folder: MappingFolder) -> None:
    """Also when the packs were tried for another region of the same folder."""
    told: list[tuple[str, str, str]] = []
    sets, _ = read_sets(folder.root, {"hunan": REGION, "hainan": REGION}, notice=lambda *said: told.append(said))
    for region in ("hainan", "hunan"):
        sets[region]["event"].to_canonical({**EVENT, "ztdm": "nobody knows"})
    assert [region for region, message, _ in told if message == "event"] == ["hainan", "hunan"]


def test_what_is_wrong_in_a_shared_folder_is_said_once(folder: MappingFolder) -> None:
    folder.spoil("submission")
    sets, problems = read_sets(folder.root, {"hunan": REGION, "hainan": REGION})
    assert sets == {}
    assert len(problems) >= 2
    assert len(set(problems)) == len(problems)


def test_a_fault_of_one_region_does_not_hide_the_next_ones(folder: MappingFolder) -> None:
    """The person who changes ten packs hears of all ten."""
    other = MappingFolder(folder.root, "hunan")
    folder.spoil("submission")
    other.spoil("event")
    _, problems = read_sets(folder.root, {REGION: REGION, "hunan": "hunan"})
    assert {problem.field.split("/rules.toml")[0] for problem in problems} >= {
        f"mappings/{REGION}/submission",
        "mappings/hunan/event",
    }


def test_broken_tables_refuse_all_regions_and_are_said_once(folder: MappingFolder) -> None:
    folder.write("tables/state.toml", "zh = ")
    sets, problems = read_sets(folder.root, {REGION: REGION, "hunan": REGION})
    assert sets == {}
    assert [problem.field.partition(":")[0] for problem in problems].count("mappings/tables/state.toml") == 1


def test_packs_whose_files_are_the_same_are_not_compiled_again(folder: MappingFolder, clock: ManualClock) -> None:
    """A reload compiles what changed; the others stay the very objects that they are."""
    library = Library(read(folder), clock())
    folder.rename("receipt", "lsh", "xlsh")
    after = read(folder, earlier=library)[REGION]
    before = library.current[REGION].packs
    assert {message: after[message] is before[message] for message in after} == {
        "submission": True,
        "receipt": False,
        "event": True,
    }


def test_a_set_is_made_again_from_the_files_of_its_packs(folder: MappingFolder) -> None:
    """The kept files are all that it takes: nothing else of the folder, and not the folder's name."""
    made = read(folder)[REGION]
    kept = {message: Files("kept", dict(pack.files.contents)) for message, pack in made.items()}
    again = restored(REGION, made.version, kept)
    assert (again.region, again.version) == (REGION, made.version)
    assert {message: pack.version for message, pack in again.items()} == {m: p.version for m, p in made.items()}
    assert again["receipt"].to_canonical({"wwbh": "KY1", "lsh": "7"}) == {"submission_id": "KY1", "number": "7"}


def test_files_that_do_not_make_the_pack_are_refused(folder: MappingFolder) -> None:
    files = read(folder)[REGION]["event"].files
    with pytest.raises(StartRefused):
        restored(REGION, "v", {"receipt": files})
    with pytest.raises(StartRefused):
        restored(REGION, "v", {"event": Files("kept", {})})


# --- the library ---------------------------------------------------------------------------------------------------


def test_whoever_looks_sees_what_is_in_use_and_whoever_took_a_set_keeps_it(
    folder: MappingFolder, clock: ManualClock
) -> None:
    """An exchange that needs two packs takes both of one version, whatever is loaded between."""
    library = Library(read(folder), clock())
    live = library.live(REGION)
    taken = live.now()
    folder.rename("receipt", "lsh", "xlsh")
    folder.drop("event")
    library.take(read(folder), clock())
    assert live.now().version != taken.version
    assert live["receipt"].version != taken["receipt"].version
    assert (sorted(live), len(live)) == (["receipt", "submission"], 2)
    assert sorted(taken) == ["event", "receipt", "submission"]


def test_what_was_in_use_before_stays_at_hand(folder: MappingFolder, clock: ManualClock) -> None:
    """For a rollback, and, longer, for cases in flight."""
    library, versions = Library(read(folder), clock()), []
    for name in ("a", "b", "c"):
        versions.append(library.current[REGION].packs.version)
        folder.rename("receipt", {"a": "lsh", "b": "a", "c": "b"}[name], name)
        library.take(read(folder), clock.advance(60))
    assert library.previous is not None
    assert library.previous[REGION].packs.version == versions[-1]
    assert all(library.find(REGION, version) is not None for version in versions)
    assert library.find("hunan", versions[0]) is None
    assert library.find(REGION, "0" * 64) is None


def test_a_set_is_in_use_since_its_version_came(folder: MappingFolder, clock: ManualClock) -> None:
    """Loading the same again, or another region's change, does not make it younger."""
    begun = clock()
    library = Library(read(folder), begun)
    library.take(read(folder), clock.advance(60))
    assert (library.current[REGION].since, library.previous) == (begun, None)
    folder.rename("receipt", "lsh", "xlsh")
    library.take(read(folder), clock.advance(60))
    assert library.current[REGION].since == begun + timedelta(seconds=120)
    assert library.previous is not None
    assert library.previous[REGION].since == begun


def test_the_same_version_with_other_examples_takes_effect_and_leaves_the_way_back_open(
    folder: MappingFolder, clock: ManualClock
) -> None:
    """What a rollback goes back to is another version, not another example."""
    library = Library(read(folder), clock())
    folder.rename("receipt", "lsh", "xlsh")
    library.take(read(folder), clock())
    before = library.previous
    folder.write(f"{REGION}/receipt/examples/two.canonical.json", '{"submission_id": "KY2", "number": "8"}')
    folder.write(f"{REGION}/receipt/examples/two.region.json", '{"wwbh": "KY2", "xlsh": "8"}')
    more = read(folder, earlier=library)
    library.take(more, clock())
    assert library.previous is before
    assert library.current[REGION].packs["receipt"] is more[REGION]["receipt"]


def test_no_more_sets_stay_compiled_than_there_is_room_for(folder: MappingFolder, clock: ManualClock) -> None:
    """Those that nobody asked for longest go; they can be had from the store."""
    library = Library(read(folder), clock())
    packs = dict(library.current[REGION].packs)
    for number in range(OTHERS):
        library.remember(PackSet(REGION, f"v{number}", packs))
    assert library.find(REGION, "v0") is not None
    library.remember(PackSet(REGION, "one more", packs))
    assert library.find(REGION, "v0") is not None, "it was asked for just now"
    assert library.find(REGION, "v1") is None
    assert library.find(REGION, "one more") is not None
