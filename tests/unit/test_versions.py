"""Reload, rollback, and the version that a case began with: on both stores, across replicas and restarts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, func, select, text, update
from structlog.testing import capture_logs

from gateway.domain.submission import ENDS, State
from gateway.errors import Conflict, MappingFailed, MappingsRefused, Unavailable
from gateway.mapping.library import PackSet
from gateway.packs_kept import LINGERS
from gateway.storage import Store, open_store
from gateway.storage.tables import OPEN_CASE, evidence, mapping_packs, mapping_set_packs, mapping_sets, submissions
from gateway.versions import UNPINNED
from tests.support.cases import REGION, add_case, number
from tests.support.clock import ManualClock
from tests.support.mappings import MappingFolder, Replica

OPERATOR = {"operator": "li"}
MONTH = LINGERS.total_seconds()


@pytest.fixture
def folder(tmp_path: Path) -> MappingFolder:
    return MappingFolder(tmp_path / "mappings")


@pytest.fixture
def replica(store: Store, clock: ManualClock, folder: MappingFolder) -> Replica:
    return Replica(store, clock, folder)


@pytest_asyncio.fixture
async def another(store_url: str, clock: ManualClock, folder: MappingFolder) -> AsyncIterator[Store]:
    """Open the same database as a second process would."""
    opened = await open_store(store_url)
    yield opened
    await opened.close()


async def kept(store: Store) -> dict[str, int]:
    """Return how many rows there are of each kind."""
    tables = (mapping_packs, mapping_sets, mapping_set_packs)
    queries = {table.name: select(func.count()).select_from(table) for table in tables}
    return await store.read(lambda tx: {name: int(tx.execute(query).scalar_one()) for name, query in queries.items()})


async def told(store: Store) -> list[Mapping[str, Any]]:
    """Return the evidence, oldest first."""
    query = select(evidence).order_by(evidence.c.recorded_at)
    return await store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])


async def open_case(
    store: Store, sequence: int, clock: ManualClock, version: str, state: State = State.FORWARDED
) -> str:
    case = number(sequence, clock())
    await store.write(lambda tx: add_case(tx, case, clock(), state=state, mapping_version=version))
    return case


async def renamed(replica: Replica, *names: str) -> list[str]:
    """Reload under each of these names in turn; return the versions that were in use, the first one included."""
    versions, last = [replica.packs.version], "lsh"
    for name in names:
        replica.folder.rename("receipt", last, name)
        last = name
        await replica.versions.reload(OPERATOR)
        versions.append(replica.packs.version)
    return versions


def reads(packs: PackSet, name: str) -> bool:
    """Say whether a set reads a receipt in which the number has this name."""
    try:
        return bool(packs["receipt"].to_canonical({"wwbh": "KY1", name: "7"})["number"] == "7")
    except MappingFailed:
        return False


# --- what is in use is kept ----------------------------------------------------------------------------------------


async def test_what_is_in_use_is_on_record_and_is_written_once(replica: Replica, unblocked: None) -> None:
    """Every replica writes it at every start."""
    await replica.versions.keep()
    assert await kept(replica.store) == {"mapping_packs": 3, "mapping_sets": 1, "mapping_set_packs": 3}
    await replica.versions.keep()
    assert await kept(replica.store) == {"mapping_packs": 3, "mapping_sets": 1, "mapping_set_packs": 3}
    assert replica.counted("pearl_mapping_set_info", region=REGION, version=replica.packs.version[:12]) == 1


async def test_replicas_that_start_together_keep_the_same_set(replica: Replica, another: Store) -> None:
    if replica.store.__class__.__name__ == "SqliteStore":
        another = replica.store  # SQLite belongs to one process
    replicas = [replica, Replica(another, replica.clock, replica.folder)]
    async with asyncio.timeout(20):
        await asyncio.gather(*(one.versions.keep() for one in replicas * 3))
    assert await kept(replica.store) == {"mapping_packs": 3, "mapping_sets": 1, "mapping_set_packs": 3}


# --- reload --------------------------------------------------------------------------------------------------------


async def test_a_reload_takes_the_folder_as_it_is_and_says_what_changed(replica: Replica, unblocked: None) -> None:
    """Nothing of it blocks the event loop: others are served meanwhile."""
    await replica.versions.keep()
    before = replica.packs
    replica.folder.rename("receipt", "lsh", "xlsh")
    (change,) = await replica.versions.reload(OPERATOR)
    after = replica.packs
    assert (change.region, change.message) == (REGION, "receipt")
    assert (change.before, change.after) == (before["receipt"].version, after["receipt"].version)
    assert (reads(before, "lsh"), reads(after, "xlsh"), reads(after, "lsh")) == (True, True, False)
    assert await kept(replica.store) == {"mapping_packs": 4, "mapping_sets": 2, "mapping_set_packs": 6}
    assert replica.counted("pearl_mapping_set_info", region=REGION, version=after.version[:12]) == 1
    assert replica.counted("pearl_mapping_set_info", region=REGION, version=before.version[:12]) == 0


async def test_a_reload_is_evidence_with_who_and_which_versions(replica: Replica) -> None:
    before, after = await renamed(replica, "xlsh")
    (row,) = await told(replica.store)
    assert (row["action"], row["outcome"], row["reason"]) == ("mapping.reload", "done", "reloaded")
    assert row["who"] == OPERATOR
    assert row["what"] == {"before": {REGION: before}, "after": {REGION: after}}
    assert replica.counted("pearl_mapping_reloads_total", outcome="reloaded") == 1


async def test_a_reload_of_the_same_files_changes_nothing_and_compiles_nothing(replica: Replica) -> None:
    before = dict(replica.packs)
    assert await replica.versions.reload(OPERATOR) == []
    assert all(replica.packs[message] is pack for message, pack in before.items())
    assert replica.versions.previous is None
    assert (await told(replica.store))[0]["reason"] == "unchanged"
    assert replica.counted("pearl_mapping_reloads_total", outcome="unchanged") == 1


async def test_a_reload_is_refused_as_a_whole_with_everything_that_is_wrong(replica: Replica) -> None:
    """One good pack among two broken ones is not taken either: the folder is what somebody meant, or it is not."""
    await replica.versions.keep()
    before, rows = replica.packs, await kept(replica.store)
    replica.folder.rename("receipt", "lsh", "xlsh")
    for message in ("submission", "event"):
        replica.folder.spoil(message)
    with pytest.raises(MappingsRefused) as refused, capture_logs() as said:
        await replica.versions.reload(OPERATOR)
    places = {problem.field.split("/rules.toml")[0] for problem in refused.value.problems}
    assert places >= {f"mappings/{REGION}/submission", f"mappings/{REGION}/event"}
    assert replica.packs is before
    assert (await kept(replica.store), replica.versions.previous) == (rows, None)
    (row,) = await told(replica.store)
    assert (row["action"], row["outcome"], row["reason"]) == ("mapping.reload", "refused", "mapping.refused")
    assert row["what"]["before"] == {REGION: before.version}
    assert refused.value.evidence == row["id"]
    (line,) = said
    assert len(line["problems"]) == len(refused.value.problems)
    assert replica.counted("pearl_mapping_reloads_total", outcome="refused") == 1


async def test_a_capability_does_not_lose_a_pack_that_it_needs(replica: Replica) -> None:
    """Every file that is there may be right, and yet nobody could read a receipt any more."""
    replica.folder.drop("receipt")
    with pytest.raises(MappingsRefused) as refused:
        await replica.versions.reload(OPERATOR)
    (problem,) = refused.value.problems
    assert problem.field == f"adapters/{REGION}: submissions"
    assert problem.reason == f"needs mappings/{REGION}/receipt/, which is missing"
    assert "receipt" in replica.packs


async def test_a_mended_folder_is_taken_after_a_refusal(replica: Replica) -> None:
    before = replica.packs.version
    rules = replica.folder.root / REGION / "event" / "rules.toml"
    whole = rules.read_text(encoding="utf-8")
    replica.folder.spoil("event")
    with pytest.raises(MappingsRefused):
        await replica.versions.reload(OPERATOR)
    rules.write_text(whole, encoding="utf-8")
    replica.folder.rename("receipt", "lsh", "xlsh")
    assert len(await replica.versions.reload(OPERATOR)) == 1
    assert replica.packs.version != before


async def test_two_reloads_at_once_happen_one_after_the_other(
    store: Store, clock: ManualClock, folder: MappingFolder
) -> None:
    """Interleaved, the older reading of the folder could be the one that stays."""
    going, go_on, readings = threading.Event(), threading.Event(), []

    def read() -> Mapping[str, PackSet]:
        readings.append("begins")
        going.set()
        assert go_on.wait(10)
        readings.append("ends")
        return {REGION: slow.packs}

    slow = Replica(store, clock, folder, read=read)
    first = asyncio.create_task(slow.versions.reload(OPERATOR))
    await asyncio.to_thread(going.wait, 10)
    second = asyncio.create_task(slow.versions.reload(OPERATOR))
    for _ in range(10):  # as often as it could take to reach the reading
        await asyncio.sleep(0)
    assert readings == ["begins"]
    go_on.set()
    async with asyncio.timeout(10):
        await asyncio.gather(first, second)
    assert readings == ["begins", "ends"] * 2


async def test_nothing_is_taken_that_could_not_be_written_down(
    sqlite_url: str, clock: ManualClock, folder: MappingFolder
) -> None:
    """A case that is pinned to a set which is on no record could not finish on it."""
    store = await open_store(sqlite_url)
    replica = Replica(store, clock, folder)
    before = replica.packs
    folder.rename("receipt", "lsh", "xlsh")
    await store.close()
    with pytest.raises(Unavailable):
        await replica.versions.reload(OPERATOR)
    assert replica.packs is before
    assert replica.counted("pearl_mapping_reloads_total", outcome="failed") == 1


# --- rollback ------------------------------------------------------------------------------------------------------


async def test_a_rollback_goes_back_and_a_second_one_forward_again(replica: Replica) -> None:
    """The operator at three in the morning presses twice; nothing is lost by it. The files stay as they are."""
    before, after = await renamed(replica, "xlsh")
    (change,) = await replica.versions.rollback(OPERATOR)
    assert (change.message, replica.packs.version) == ("receipt", before)
    await replica.versions.rollback(OPERATOR)
    assert replica.packs.version == after
    assert [(row["action"], row["reason"]) for row in await told(replica.store)][1:] == [
        ("mapping.rollback", "rolled_back")
    ] * 2
    assert replica.counted("pearl_mapping_reloads_total", outcome="rolled_back") == 2


async def test_there_is_no_way_back_from_the_beginning(replica: Replica) -> None:
    with pytest.raises(Conflict) as refused:
        await replica.versions.rollback(OPERATOR)
    assert refused.value.stable_code == "mapping.no_previous"
    (row,) = await told(replica.store)
    assert (row["action"], row["outcome"], row["reason"]) == ("mapping.rollback", "refused", "mapping.no_previous")


async def test_a_reload_after_a_rollback_takes_the_files_again(replica: Replica) -> None:
    _, after = await renamed(replica, "xlsh")
    await replica.versions.rollback(OPERATOR)
    await replica.versions.reload(OPERATOR)
    assert replica.packs.version == after


# --- what a case began with ----------------------------------------------------------------------------------------


async def test_a_case_keeps_the_version_that_it_began_with(replica: Replica) -> None:
    versions = await renamed(replica, "a", "b", "c")
    names = ("lsh", "a", "b", "c")
    for version, name in zip(versions, names, strict=True):
        packs = await replica.versions.pinned(replica.region, version)
        assert packs.version == version
        assert [reads(packs, other) for other in names] == [other == name for other in names]


async def test_a_process_that_never_saw_a_version_has_it_from_the_store(
    replica: Replica, another: Store, unblocked: None
) -> None:
    """After a restart, and on a replica that was started with newer files. What is the same is not compiled again."""
    await replica.versions.keep()
    before, _ = await renamed(replica, "xlsh")
    store = replica.store if replica.store.__class__.__name__ == "SqliteStore" else another
    fresh = await asyncio.to_thread(Replica, store, replica.clock, replica.folder)
    packs = await fresh.versions.pinned(fresh.region, before)
    assert (packs.version, reads(packs, "lsh")) == (before, True)
    assert packs["event"] is fresh.packs["event"]
    assert await fresh.versions.pinned(fresh.region, before) is packs


async def test_cases_that_ask_at_once_have_it_compiled_once(replica: Replica) -> None:
    await replica.versions.keep()
    before, _ = await renamed(replica, "xlsh")
    fresh = Replica(replica.store, replica.clock, replica.folder)
    found = await asyncio.gather(*(fresh.versions.pinned(fresh.region, before) for _ in range(5)))
    assert len({id(packs) for packs in found}) == 1


@pytest.mark.parametrize("version", ["f" * 64, "of the pack"])
async def test_a_version_that_is_on_no_record_gives_way_to_the_one_in_use(replica: Replica, version: str) -> None:
    """Rows from before sets were kept hold the version of one pack."""
    asked = replica.packs["submission"].version if version == "of the pack" else version
    await replica.versions.keep()
    with capture_logs() as said:
        assert await replica.versions.pinned(replica.region, asked) is replica.packs
    assert [(line["log_level"], line["version"]) for line in said] == [("warning", asked)]


async def test_a_case_that_is_pinned_to_nothing_takes_what_is_in_use(replica: Replica) -> None:
    with capture_logs() as said:
        assert await replica.versions.pinned(replica.region, UNPINNED) is replica.packs
    assert said == []


@pytest.mark.parametrize("files", [b"", b"no archive"])
async def test_a_kept_set_that_cannot_be_used_gives_way_to_the_one_in_use(replica: Replica, files: bytes) -> None:
    """A release may have changed the language of the rules; the case goes on, and the log says so once a start."""
    await replica.versions.keep()
    before, _ = await renamed(replica, "xlsh")
    await replica.store.write(lambda tx: tx.execute(update(mapping_packs).values(files=files)).rowcount)
    fresh = Replica(replica.store, replica.clock, replica.folder)
    with capture_logs() as said:
        for _ in range(2):
            assert await fresh.versions.pinned(fresh.region, before) is fresh.packs
    assert [line["event"] for line in said].count("kept mapping cannot be compiled") == 1


# --- forgetting ----------------------------------------------------------------------------------------------------


async def on_record(store: Store) -> set[str]:
    return await store.read(lambda tx: set(tx.execute(select(mapping_sets.c.version)).scalars()))


async def test_what_is_in_use_and_what_was_before_are_never_forgotten(replica: Replica, clock: ManualClock) -> None:
    await replica.versions.keep()
    versions = await renamed(replica, "xlsh")
    for _ in range(3):
        clock.advance(MONTH + 1)
        await replica.versions.tidy()
    assert await on_record(replica.store) == set(versions)


async def test_a_version_that_nobody_needs_is_forgotten_with_its_packs(replica: Replica, clock: ManualClock) -> None:
    """Packs that another set shares stay."""
    await replica.versions.keep()
    first, *rest = await renamed(replica, "a", "b")
    clock.advance(MONTH)
    await replica.versions.tidy()
    assert first in await on_record(replica.store)
    clock.advance(1)
    await replica.versions.tidy()
    assert await on_record(replica.store) == set(rest)
    assert await kept(replica.store) == {"mapping_packs": 4, "mapping_sets": 2, "mapping_set_packs": 6}
    assert [(await replica.versions.pinned(replica.region, version)).version for version in rest] == rest


@pytest.mark.parametrize("state", [state for state in State if state not in ENDS])
async def test_a_version_stays_while_a_case_that_began_with_it_is_open(
    replica: Replica, clock: ManualClock, state: State
) -> None:
    """However long that takes; and for a month more: a region may still report that it handed the result over."""
    await replica.versions.keep()
    first = (await renamed(replica, "a", "b"))[0]
    case = await open_case(replica.store, 1, clock, first, state)
    clock.advance(12 * MONTH)
    await replica.versions.tidy()
    clock.advance(12 * MONTH)
    await replica.versions.tidy()
    assert first in await on_record(replica.store)
    done = update(submissions).where(submissions.c.id == case).values(state=State.COMPLETED)
    await replica.store.write(lambda tx: tx.execute(done).rowcount)
    clock.advance(MONTH)
    await replica.versions.tidy()
    assert first in await on_record(replica.store)
    clock.advance(1)
    await replica.versions.tidy()
    assert first not in await on_record(replica.store)


async def test_one_replica_does_not_forget_what_another_uses(replica: Replica, clock: ManualClock) -> None:
    """During a rolling upgrade two versions are in use for a while, perhaps with no open case."""
    await replica.versions.keep()
    old = replica.packs.version
    replica.folder.rename("receipt", "lsh", "xlsh")
    newer = Replica(replica.store, clock, replica.folder)
    await newer.versions.keep()
    for _ in range(3):
        clock.advance(MONTH - 1)
        await replica.versions.tidy()
        await newer.versions.tidy()
    assert old in await on_record(replica.store)
    clock.advance(MONTH + 1)
    await newer.versions.tidy()
    assert await on_record(replica.store) == {newer.packs.version}
    await replica.versions.tidy()
    assert old in await on_record(replica.store), "a replica that had slept writes its own again"


async def test_the_search_for_open_cases_does_not_grow_with_those_that_have_ended(sqlite_store: Store) -> None:
    """Ten million ended cases must cost the janitor nothing: the index holds only those that are open."""
    one = "EXPLAIN QUERY PLAN SELECT 1 FROM submissions WHERE handling_region = 'foshan' AND mapping_version = 'x' AND "
    query = one + OPEN_CASE.text

    def plan(tx: Connection) -> str:
        return str([tuple(row) for row in tx.execute(text(query))])

    assert "ix_submissions_open" in await sqlite_store.read(plan)
