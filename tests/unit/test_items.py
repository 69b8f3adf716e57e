"""What regions publish of their items: pulled by one replica at a time, compared, blocked, and approved by a person."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.published import ItemState, digest
from gateway.errors import Conflict, InvalidRequest, NotFound, NotOffered, RegionUncertain, RegionUnreachable
from gateway.items.puller import LEASE
from gateway.storage import Store, open_store
from gateway.storage.tables import evidence, item_snapshots
from tests.support.clock import ManualClock
from tests.support.published import FILED, FOREIGN, HOUR, ITEMS, OTHER, REGION, FakeCatalogue, Watch, entry, item, watch

CHANGED: dict[str, Any] = {"promised": {"days": 9, "unit": "G"}}
"""What matters: the clock of every case runs by it."""
WORDS: dict[str, Any] = {"guide": "https://example.com/guide/2", "name": "另一名称"}
"""What does not."""


async def rows(store: Store, table: Any) -> list[dict[str, Any]]:
    return await store.read(lambda tx: [dict(row) for row in tx.execute(select(table)).mappings()])


async def states(replica: Watch) -> dict[str, str]:
    """Return the state of every item at the region, as operators see it."""
    return {one.item: one.state for one in (await replica.approvals.all())[1]}


def kinds(found: Any) -> dict[str, str]:
    return {one.code: one.kind for one in found}


@pytest.fixture
def replica(sqlite_store: Store, clock: ManualClock) -> Watch:
    """Return one replica whose region publishes both items of our file and one that it does not know."""
    return watch(sqlite_store, clock, FakeCatalogue(entries=[entry(), entry(OTHER), entry(FOREIGN)]))


async def seen_then(replica: Watch, **changes: Any) -> Any:
    """Have an item seen as it is, and then pulled again as it is changed to."""
    await replica.puller.pull(REGION)
    replica.catalogue.entries = [entry(**changes), entry(OTHER), entry(FOREIGN)]
    return await replica.puller.pull(REGION)


def code_of(replica: Watch, code: str = FILED) -> str | None:
    """Return the code with which a new case is refused, None when it is not."""
    try:
        replica.blocks.refuse_blocked(code, REGION)
    except NotOffered as refused:
        return refused.stable_code
    return None


# --- what a pull finds ----------------------------------------------------------------------------------------------


async def test_what_is_published_first_is_what_the_file_was_written_for(replica: Watch, sqlite_store: Store) -> None:
    pulled = await replica.puller.pull(REGION)
    assert kinds(pulled.found) == {FILED: "first_seen", OTHER: "first_seen", FOREIGN: "new"}
    assert await states(replica) == {FILED: "open", OTHER: "open", FOREIGN: "new"}
    assert code_of(replica) is None
    (told,) = [row for row in await rows(sqlite_store, evidence) if row["action"] == "items.pull"]
    assert told["what"]["new"] == {"count": 1, "items": [FOREIGN]}
    assert (told["who"], told["what"]["entries"], told["what"]["unreadable"]) == ({"region": REGION}, 3, 0)


async def test_a_pull_that_finds_nothing_new_writes_nothing_but_when_it_was(
    replica: Watch, sqlite_store: Store, clock: ManualClock
) -> None:
    await replica.puller.pull(REGION)
    before = await rows(sqlite_store, item_snapshots), len(await rows(sqlite_store, evidence))
    clock.advance(60)
    replica.catalogue.entries = [entry(updated_at="2026-03-11T01:30:00Z"), entry(OTHER), entry(FOREIGN)]
    assert (await replica.puller.pull(REGION)).found == []
    assert (await rows(sqlite_store, item_snapshots), len(await rows(sqlite_store, evidence))) == before
    assert replica.figure("pearl_item_snapshot_age_seconds") == 0.0


async def test_a_change_that_matters_stops_the_item_at_this_region_and_nowhere_else(
    replica: Watch, clock: ManualClock
) -> None:
    pulled = await seen_then(replica, **CHANGED)
    assert [(one.code, one.kind, list(one.paths)) for one in pulled.found] == [(FILED, "changed", ["promised.days"])]
    assert code_of(replica) == "submission.item_changed"
    assert code_of(replica, OTHER) is None
    assert replica.blocks.of(FILED, "foshan") is None
    with pytest.raises(NotOffered) as refused:
        replica.blocks.refuse_blocked(FILED, REGION)
    (problem,) = refused.value.problems
    assert problem.reason == "changed the item, seen 2026-03-02T02:00:00Z: promised.days"
    assert (refused.value.region, refused.value.where.value, problem.code) == (REGION, "caller", "item_changed")
    assert replica.figure("pearl_items_blocked") == 1.0
    assert replica.figure("pearl_item_changes_total", kind="changed") == 1.0


async def test_a_change_of_words_is_recorded_and_stops_nothing(replica: Watch) -> None:
    pulled = await seen_then(replica, **WORDS)
    assert [(one.code, one.kind, list(one.paths)) for one in pulled.found] == [(FILED, "recorded", ["guide", "name"])]
    assert code_of(replica) is None
    whole = await replica.approvals.show(REGION, FILED)
    assert [(change.path, change.matters) for change in whole.changes] == [("guide", False), ("name", False)]


async def test_a_suspended_item_stays_stopped_after_the_suspension_until_it_is_approved(
    replica: Watch, clock: ManualClock
) -> None:
    await seen_then(replica, suspended=True)
    assert code_of(replica) == "submission.item_suspended"
    seen = (await replica.approvals.show(REGION, FILED)).summary
    with pytest.raises(Conflict) as refused:
        await replica.approvals.approve(REGION, FILED, str(seen.hash), "looked at", "li")
    assert refused.value.stable_code == "item.not_in_force"
    clock.advance(60)
    replica.catalogue.entries = [entry(), entry(OTHER)]
    await replica.puller.pull(REGION)
    assert code_of(replica) == "submission.item_changed"
    await replica.approvals.approve(REGION, FILED, digest(entry()), "as before", "li")
    assert code_of(replica) is None


async def test_an_item_that_is_published_no_more_is_gone_and_one_that_was_only_listed_is_forgotten(
    replica: Watch,
) -> None:
    await replica.puller.pull(REGION)
    replica.catalogue.entries = [entry(OTHER)]
    assert kinds((await replica.puller.pull(REGION)).found) == {FILED: "gone", FOREIGN: "gone"}
    assert await states(replica) == {FILED: "gone", OTHER: "open"}
    assert code_of(replica) == "submission.item_suspended"
    assert (await replica.puller.pull(REGION)).found == []


async def test_an_item_whose_days_run_out_is_suspended_without_any_change_of_its_entry(
    replica: Watch, clock: ManualClock
) -> None:
    last_day = {"valid_from": "2024-02-29", "valid_until": "2026-03-02"}
    await replica.puller.pull(REGION)
    replica.catalogue.entries = [entry(**last_day), entry(OTHER), entry(FOREIGN)]
    await replica.puller.pull(REGION)
    assert code_of(replica) is None
    clock.advance(24 * HOUR)
    assert kinds((await replica.puller.pull(REGION)).found) == {FILED: "suspended"}
    assert code_of(replica) == "submission.item_suspended"


async def test_an_item_of_our_file_that_is_not_published_is_open_and_shown_as_such(replica: Watch) -> None:
    replica.catalogue.entries = [entry(OTHER)]
    await replica.puller.pull(REGION)
    assert await states(replica) == {FILED: "unpublished", OTHER: "open"}
    assert code_of(replica) is None


async def test_an_item_that_was_new_is_taken_over_when_our_file_comes_to_know_it(
    replica: Watch, sqlite_store: Store, clock: ManualClock
) -> None:
    await replica.puller.pull(REGION)
    grown = watch(sqlite_store, clock, replica.catalogue, {**ITEMS, FOREIGN: item(FOREIGN, REGION)})
    assert kinds((await grown.puller.pull(REGION)).found) == {FOREIGN: "first_seen"}
    assert (await states(grown))[FOREIGN] == "open"


async def test_an_item_that_our_file_gives_up_is_no_longer_waited_for(
    replica: Watch, sqlite_store: Store, clock: ManualClock
) -> None:
    """Nobody could approve it, and an alert about it would never end."""
    await seen_then(replica, suspended=True)
    without = watch(sqlite_store, clock, replica.catalogue, {OTHER: ITEMS[OTHER]})
    await without.puller.pull(REGION)
    assert await states(without) == {FILED: "new", OTHER: "open", FOREIGN: "new"}
    assert without.figure("pearl_items_blocked") == 0.0
    replica.catalogue.entries = [entry(OTHER)]
    await replica.puller.pull(REGION)
    assert (await states(replica))[FILED] == "gone"
    await without.puller.pull(REGION)
    assert await states(without) == {OTHER: "open"}


async def test_an_entry_that_cannot_be_read_stops_itself_and_no_other(replica: Watch) -> None:
    """What hides behind it cannot be told from an item that is gone, and neither may be routed."""
    await replica.puller.pull(REGION)
    replica.catalogue.entries, replica.catalogue.more = [entry(OTHER)], [{"SXBM": FILED, "SXMC": 7}]
    pulled = await replica.puller.pull(REGION)
    assert (pulled.entries, pulled.unreadable) == (1, 1)
    assert (code_of(replica), code_of(replica, OTHER)) == ("submission.item_suspended", None)
    assert replica.figure("pearl_items_unreadable") == 1.0


async def test_of_two_entries_with_one_code_the_one_that_was_touched_last_counts_in_any_order(replica: Watch) -> None:
    await replica.puller.pull(REGION)
    newer = entry(**CHANGED, updated_at="2026-04-01T00:00:00Z")
    for entries in ([entry(), newer], [newer, entry()]):
        replica.catalogue.entries = [*entries, entry(OTHER), entry(FOREIGN)]
        await replica.puller.pull(REGION)
        assert (await replica.approvals.show(REGION, FILED)).summary.hash == digest(newer)


@pytest.mark.parametrize("folder", ["guangdong", "shenzhen", "qingyuan", "province"])
async def test_every_region_that_has_the_mapping_is_watched_alike(
    folder: str, sqlite_store: Store, clock: ManualClock
) -> None:
    """The differences are found in our own words, whatever the region's form is."""
    fake = FakeCatalogue(folder, [entry_of(folder)])
    replica = watch(sqlite_store, clock, fake)
    await replica.puller.pull(REGION)
    fake.entries = [entry_of(folder, min_assurance="A3")]
    (found,) = (await replica.puller.pull(REGION)).found
    assert (found.kind, list(found.paths)) == ("changed", ["min_assurance"])


def entry_of(folder: str, **changes: Any) -> dict[str, Any]:
    least = {name: entry()[name] for name in ("name", "region", "department", "updated_at", "promised", "statutory")}
    return {**least, "code": FILED, "suspended": False, "min_assurance": "A2", "level": "CITY", **changes}


# --- a region that cannot be asked ----------------------------------------------------------------------------------


async def test_a_region_that_does_not_answer_keeps_its_last_snapshot_which_grows_older(
    replica: Watch, clock: ManualClock
) -> None:
    await replica.puller.pull_due()
    replica.catalogue.error = RegionUnreachable("away", region=REGION)
    clock.advance(1.2 * HOUR)
    assert await replica.puller.pull_due() == []
    assert (await states(replica))[FILED] == "open"
    await replica.blocks.refresh()
    assert replica.figure("pearl_item_snapshot_age_seconds") == pytest.approx(1.2 * HOUR)
    (look,) = (await replica.approvals.all())[0]
    assert (look.code, look.entries) == ("region.unreachable", 3)
    clock.advance(360)
    replica.catalogue.error = None
    assert len(await replica.puller.pull_due()) == 1, "after a failure it is asked again soon"
    assert (await replica.approvals.all())[0][0].code is None


async def test_a_region_that_was_never_pulled_has_a_snapshot_without_end_of_age(replica: Watch) -> None:
    await replica.blocks.refresh()
    assert replica.figure("pearl_item_snapshot_age_seconds") == float("inf")


async def test_an_empty_catalogue_is_not_believed(replica: Watch) -> None:
    """A region that has lost its list would have every item gone."""
    await replica.puller.pull(REGION)
    replica.catalogue.entries = []
    with pytest.raises(RegionUncertain) as refused:
        await replica.puller.pull(REGION)
    assert refused.value.stable_code == "item.empty_catalogue"
    assert code_of(replica) is None


async def test_a_region_without_the_capability_is_the_files_word_alone(
    replica: Watch, sqlite_store: Store, clock: ManualClock
) -> None:
    """What it published in former times stops nothing any more."""
    await seen_then(replica, suspended=True)
    silent = watch(sqlite_store, clock, None)
    await silent.blocks.refresh()
    assert code_of(silent) is None
    assert await silent.approvals.all() == ([], [])
    with pytest.raises(NotOffered):
        await silent.puller.pull(REGION)
    with pytest.raises(NotFound):
        await silent.puller.pull("nowhere")


# --- the schedule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chance", "hours"), [(0.0, 0.9), (1.0, 1.1)])
async def test_a_region_is_asked_once_in_an_hour_a_tenth_sooner_or_later(
    sqlite_store: Store, clock: ManualClock, chance: float, hours: float
) -> None:
    replica = watch(sqlite_store, clock, FakeCatalogue(entries=[entry()]), chance=lambda: chance)
    await replica.puller.pull(REGION)
    clock.advance(hours * HOUR - 1)
    assert await replica.puller.pull_due() == []
    clock.advance(1)
    assert len(await replica.puller.pull_due()) == 1


# --- approving ------------------------------------------------------------------------------------------------------


async def test_an_approval_opens_the_office_and_says_who_and_why(replica: Watch, sqlite_store: Store) -> None:
    await seen_then(replica, **CHANGED)
    before = (await replica.approvals.show(REGION, FILED)).summary
    done = await replica.approvals.approve(REGION, FILED, str(before.hash), "limits noted", "li")
    assert (done.state, done.approved_hash, done.approved_by) == ("open", before.hash, "operator:li")
    assert code_of(replica) is None
    (row,) = [row for row in await rows(sqlite_store, evidence) if row["action"] == "item.approve"]
    assert (row["who"], row["reason"]) == ({"operator": "li"}, "limits noted")
    assert (row["what"]["hash"], row["what"]["before"]) == (before.hash, before.approved_hash)
    assert row["what"]["paths"] == ["promised.days"]


async def test_an_approval_does_not_cover_a_change_that_came_after_what_was_seen(replica: Watch) -> None:
    await seen_then(replica, **CHANGED)
    seen = str((await replica.approvals.show(REGION, FILED)).summary.hash)
    replica.catalogue.entries = [entry(**CHANGED, min_assurance="A3")]
    await replica.puller.pull(REGION)
    with pytest.raises(Conflict) as refused:
        await replica.approvals.approve(REGION, FILED, seen, "limits noted", "li")
    assert refused.value.stable_code == "item.changed_since"
    assert code_of(replica) == "submission.item_changed"


@pytest.mark.parametrize(
    ("code", "seen", "reason", "kind", "refusal"),
    [
        (FILED, digest(entry()), "again", Conflict, "item.approved_already"),
        (FOREIGN, digest(entry(FOREIGN)), "new", Conflict, "item.not_in_file"),
        ("nothing", "0" * 64, "none", NotFound, "item.unpublished"),
        (FILED, digest(entry()), "", InvalidRequest, "request.invalid"),
        (FILED, digest(entry()), "x" * 129, InvalidRequest, "request.invalid"),
    ],
)
async def test_what_cannot_be_approved_is_refused_with_the_reason(
    replica: Watch, code: str, seen: str, reason: str, kind: type[Exception], refusal: str
) -> None:
    await replica.puller.pull(REGION)
    with pytest.raises(kind) as refused:
        await replica.approvals.approve(REGION, code, seen, reason, "li")
    assert getattr(refused.value, "stable_code") == refusal  # noqa: B009 - the class is a parameter of the test


async def test_a_recorded_change_can_be_approved_too_and_is_the_measure_from_then_on(replica: Watch) -> None:
    await seen_then(replica, **WORDS)
    await replica.approvals.approve(REGION, FILED, digest(entry(**WORDS)), "read", "li")
    assert (await replica.approvals.show(REGION, FILED)).changes == []


# --- several replicas, on both engines ------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def two(store: Store, store_url: str, clock: ManualClock) -> AsyncIterator[tuple[Watch, Watch]]:
    """Return two replicas that watch one region. SQLite belongs to one process: there they share its store."""
    fake = FakeCatalogue(entries=[entry(), entry(OTHER)])
    if store_url.startswith("sqlite"):
        yield watch(store, clock, fake), watch(store, clock, fake)
        return
    other = await open_store(store_url)
    yield watch(store, clock, fake), watch(other, clock, fake)
    await other.close()


async def test_one_replica_at_a_time_asks_and_one_that_was_too_slow_writes_nothing(
    two: tuple[Watch, Watch], clock: ManualClock
) -> None:
    """One test for the whole life of a lease: a fresh database on each engine costs more than all of it."""
    one, other = two
    fake = one.catalogue
    looks = await asyncio.gather(*(replica.puller.pull_due() for replica in (one, other, one, other)))
    assert (fake.asked, sum(map(len, looks))) == (1, 1)

    fake.gate = asyncio.Event()
    slow = asyncio.create_task(one.puller.pull(REGION))
    while fake.asked < 2:
        await asyncio.sleep(0)  # the other task has its turn
        await asyncio.sleep(0.001)  # the lease is written in another thread
    with pytest.raises(Conflict) as refused:
        await other.puller.pull(REGION)
    assert refused.value.stable_code == "item.pull_under_way"

    clock.advance(LEASE.total_seconds() + 1)  # the replica is taken for dead, and another one takes over
    gate, fake.gate, fake.entries = fake.gate, None, [entry(**CHANGED), entry(OTHER)]
    assert kinds((await other.puller.pull(REGION)).found) == {FILED: "changed"}
    gate.set()
    with pytest.raises(Conflict):
        await slow
    assert (await states(one))[FILED] == ItemState.CHANGED

    assert one.blocks.of(FILED, REGION) is None, "this replica has not looked yet"
    await one.blocks.refresh()
    assert code_of(one) == code_of(other) == "submission.item_changed"

    seen = digest(entry(**CHANGED))
    tried = [
        replica.approvals.approve(REGION, FILED, seen, "seen", who) for replica, who in ((one, "li"), (other, "wu"))
    ]
    done = await asyncio.gather(*tried, return_exceptions=True)
    (lost,) = [outcome for outcome in done if isinstance(outcome, Conflict)]
    (won,) = [outcome for outcome in done if not isinstance(outcome, BaseException)]
    assert lost.stable_code == "item.approved_already"
    assert (won.state, won.approved_hash) == ("open", seen)


async def test_a_pull_and_an_approval_at_once_leave_nothing_open_that_nobody_saw(two: tuple[Watch, Watch]) -> None:
    """Whoever of the two comes first: what is open in the end is what somebody approved."""
    one, other = two
    await one.puller.pull(REGION)
    for days in range(10, 20):
        one.catalogue.entries = [entry(promised={"days": days, "unit": "G"}), entry(OTHER)]
        await one.puller.pull(REGION)
        seen = str((await other.approvals.show(REGION, FILED)).summary.hash)
        one.catalogue.entries = [entry(promised={"days": days + 100, "unit": "G"}), entry(OTHER)]
        await asyncio.gather(
            one.puller.pull(REGION),
            other.approvals.approve(REGION, FILED, seen, "seen", "li"),
            return_exceptions=True,
        )
        now = (await one.approvals.show(REGION, FILED)).summary
        assert (now.state, now.approved_hash == now.hash) == ("changed", False)


# --- the door -------------------------------------------------------------------------------------------------------


async def test_intake_refuses_for_the_blocked_office_and_replays_what_it_took_before(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """A receipt that was given is given again, whatever the region has changed since."""
    from tests.support.intake import ITEM, accept, intake  # noqa: PLC0415 - read only by this test

    stopped: list[str] = []

    def refuse(code: str, region: str) -> None:
        if region in stopped:
            raise NotOffered("suspended", code="submission.item_suspended", region=region)
        assert code == ITEM.code

    door = intake(sqlite_store, sealer, references, clock, refuse_blocked=refuse)
    taken = await accept(door, "before")
    stopped.append(ITEM.offices[0].region)
    assert (await accept(door, "before")).submission_id == taken.submission_id
    with pytest.raises(NotOffered) as refused:
        await accept(door, "after")
    assert refused.value.evidence is not None
    assert timedelta() == clock() - taken.received_at
