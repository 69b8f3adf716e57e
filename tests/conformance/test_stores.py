"""What a store promises, on both engines alike and under contention.

SQLite is one process with one writer; PostgreSQL is shared by replicas, which are two stores on one database here. The
core knows no difference, so a difference is a failure. What only one engine can get wrong stands at the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from blockbuster import BlockingError
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.util import await_only

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.identifiers import case_number_problem
from gateway.domain.submission import State
from gateway.errors import Conflict, InvalidRequest, ReplayedCallback, Unavailable
from gateway.evidence import Exchange, record
from gateway.identity.dpop import JTI_SCOPE
from gateway.identity.records import ASSERTIONS
from gateway.storage import Store, Unit, migrations, open_store
from gateway.storage.nonces import CLOCKS_APART, spend
from gateway.storage.postgres import CONNECTIONS, TRIES
from gateway.storage.sqlite import GROUP
from gateway.storage.tables import (
    Instant,
    case_messages,
    deliveries,
    evidence,
    feed_cursors,
    nonces,
    ratings,
    submission_events,
    submissions,
)
from gateway.submissions import errands, queue
from gateway.submissions.events import EventLog
from tests.support.afterwards import AGENCY, Finished, rating
from tests.support.cases import LEASE, REGION, add_case, add_delivery, delivery, number, said, timeline
from tests.support.clock import ManualClock
from tests.support.intake import Callbacks, Feed, accept, callback, inbox, intake, region

pytestmark = pytest.mark.usefixtures("unblocked")
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


@pytest_asyncio.fixture
async def replicas(store: Store, store_url: str) -> AsyncIterator[list[Store]]:
    """Return the stores of two replicas. SQLite belongs to one process: there, both are the same."""
    if store_url.startswith("sqlite"):
        yield [store, store]
        return
    other = await open_store(store_url)
    yield [store, other]
    await other.close()


def put(value: str) -> Unit[None]:
    """Return a unit that writes one row, a nonce."""
    return lambda tx: _put(tx, value)


def _put(tx: Connection, value: str) -> None:
    tx.execute(insert(nonces).values(scope="test", value=value, expires_at=NOON))


def held(tx: Connection) -> list[str]:
    """Return the rows that `put` has written."""
    return list(tx.execute(select(nonces.c.value).order_by(nonces.c.value)).scalars())


def rows(tx: Connection, table: Any) -> int:
    """Count a table."""
    return int(tx.execute(select(func.count()).select_from(table)).scalar_one())


# --- units ---------------------------------------------------------------------------------------------------------


async def test_a_write_is_seen_by_everybody_when_it_returns(store: Store, store_url: str) -> None:
    await store.write(put("a"))
    other = await open_store(store_url)
    assert await other.read(held) == ["a"]
    await other.close()


async def test_a_write_outlives_the_store_that_made_it(store: Store, store_url: str) -> None:
    await store.write(put("a"))
    await store.close()
    again = await open_store(store_url)
    assert await again.read(held) == ["a"]
    await again.close()


async def test_a_unit_hands_its_value_to_the_caller(store: Store) -> None:
    assert await store.write(lambda tx: rows(tx, nonces)) == 0
    assert await store.read(lambda tx: rows(tx, nonces)) == 0


async def test_an_exception_undoes_its_own_unit_and_no_other(store: Store) -> None:
    """Units share a commit on SQLite: whoever fails there must not take the others along."""

    def fails(tx: Connection) -> None:
        _put(tx, "undone")
        raise LookupError("on purpose")

    work: list[Awaitable[None]] = [store.write(fails if n % 5 == 0 else put(f"{n:02}")) for n in range(40)]
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert [isinstance(outcome, LookupError) for outcome in outcomes] == [n % 5 == 0 for n in range(40)]
    assert await store.read(held) == [f"{n:02}" for n in range(40) if n % 5]


async def test_a_refused_statement_undoes_what_its_unit_did_before(store: Store) -> None:
    def twice(tx: Connection) -> None:
        _put(tx, "first")
        _put(tx, "first")

    with pytest.raises(IntegrityError):
        await store.write(twice)
    assert await store.read(held) == []


async def test_hundreds_of_writes_at_once_all_land(store: Store) -> None:
    await asyncio.gather(*(store.write(put(f"{n:03}")) for n in range(200)))
    assert await store.read(held) == [f"{n:03}" for n in range(200)]


async def test_a_read_sees_one_moment_from_its_first_statement_to_its_last(store: Store, store_url: str) -> None:
    """A case is read with several statements; what is committed between them must not tear the picture."""
    loop = asyncio.get_running_loop()

    def write_meanwhile() -> None:
        work = store.write(put("meanwhile"))
        if store_url.startswith("sqlite"):  # the unit has a thread of its own
            asyncio.run_coroutine_threadsafe(work, loop).result()
        else:  # the unit runs on the loop, in a greenlet
            await_only(work)

    def look_twice(tx: Connection) -> tuple[list[str], list[str]]:
        before = held(tx)
        write_meanwhile()
        return before, held(tx)

    assert await store.read(look_twice) == ([], [])
    assert await store.read(held) == ["meanwhile"]


async def test_a_read_leaves_nothing_behind(store: Store, store_url: str) -> None:
    if store_url.startswith("sqlite"):
        await store.read(put("a"))
    else:
        with pytest.raises(Unavailable):
            await store.read(put("a"))
    assert await store.read(held) == []


async def test_close_finishes_what_was_begun(store: Store, store_url: str) -> None:
    work = [store.write(put(f"{n:02}")) for n in range(GROUP + 20)]
    await asyncio.gather(*work, store.close())
    again = await open_store(store_url)
    assert len(await again.read(held)) == GROUP + 20
    await again.close()


async def test_a_closed_store_says_that_it_is_closed(store: Store) -> None:
    await store.close()
    await store.close()
    for use in (store.write, store.read):
        with pytest.raises(Unavailable):
            await use(held)


async def test_an_error_repeats_no_value_of_its_statement(store: Store) -> None:
    """Errors end in the log, and rows hold what must not."""
    await store.write(put("first"))
    with pytest.raises(DBAPIError) as refused:
        await store.write(lambda tx: tx.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "李芳"}))
    assert "李芳" not in str(refused.value)


async def test_a_row_without_its_case_is_refused(store: Store) -> None:
    event = {
        "submission_id": "nobody", "seq": 1, "state": "RECEIVED", "source": REGION, "occurred_at": NOON,
        "recorded_at": NOON, "detail": b"",
    }  # fmt: skip
    with pytest.raises(IntegrityError):
        await store.write(lambda tx: tx.execute(insert(submission_events).values(event)))


# --- columns -------------------------------------------------------------------------------------------------------


async def test_a_time_keeps_its_microseconds_and_comes_back_in_utc(store: Store) -> None:
    local = datetime(2026, 3, 2, 12, 0, 0, 123457, timezone(timedelta(hours=8)))
    await store.write(lambda tx: tx.execute(insert(nonces).values(scope="s", value="v", expires_at=local)))
    back = await store.read(lambda tx: tx.execute(select(nonces.c.expires_at)).scalar_one())
    assert back == local
    assert back.utcoffset() == timedelta(0)


async def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(StatementError, match="must carry its zone"):
        await store.write(lambda tx: tx.execute(insert(nonces).values(scope="s", value="v", expires_at=naive)))


@given(st.datetimes(timezones=st.timezones()), st.datetimes(timezones=st.timezones()))
def test_stored_times_are_ordered_as_the_moments_are(one: datetime, other: datetime) -> None:
    """SQL compares what is stored; leases and terms depend on it."""
    column, dialect = Instant(), sqlite.dialect()
    first, second = (column.process_bind_param(moment, dialect) for moment in (one, other))
    assert first is not None
    assert second is not None
    one, other = one.astimezone(UTC), other.astimezone(UTC)
    assert (first < second) == (one < other)
    assert column.process_result_value(first, dialect) == one


async def test_json_keeps_any_text_even_what_postgresql_cannot_store_raw(store: Store) -> None:
    detail = {"remark": "一\u0000二", "nested": [1, None, {"a": True}]}

    exchange = Exchange("test", "done", "", {}, detail, "test", NOON)
    await store.write(lambda tx: record(tx, exchange, now=NOON))
    assert await store.read(lambda tx: tx.execute(select(evidence.c.what)).scalar_one()) == detail


# --- numbers and keys ----------------------------------------------------------------------------------------------


async def test_cases_are_numbered_without_gap_or_twin(
    replicas: list[Store], sealer: Sealer, references: References, clock: ManualClock
) -> None:
    doors = [intake(store, sealer, references, clock) for store in replicas]
    receipts = await asyncio.gather(*(accept(doors[n % 2], f"R-{n}") for n in range(50)))
    numbers = sorted(receipt.submission_id for receipt in receipts)
    assert [int(found[22:28]) for found in numbers] == list(range(1, 51))
    assert [case_number_problem(found) for found in numbers] == [None] * 50


async def test_the_same_application_sent_often_at_once_is_one_case(
    replicas: list[Store], sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """A caller that lost our answer sends again: everybody gets the one receipt, and one delivery is queued."""
    doors = [intake(store, sealer, references, clock) for store in replicas]
    receipts = await asyncio.gather(*(accept(doors[n % 2], "R-1") for n in range(20)))
    assert len({receipt.submission_id for receipt in receipts}) == 1
    assert sum(not receipt.replayed for receipt in receipts) == 1
    for table in (submissions, deliveries, submission_events, evidence):
        assert await replicas[0].read(lambda tx, t=table: rows(tx, t)) == 1  # type: ignore[misc] # bound as default


async def test_another_application_under_the_same_reference_is_a_conflict(
    replicas: list[Store], sealer: Sealer, references: References, clock: ManualClock
) -> None:
    doors = [intake(store, sealer, references, clock) for store in replicas]
    names = ("李芳", "王伟")
    work = [accept(doors[n % 2], "R-1", name=names[n % 2]) for n in range(10)]
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert sorted(Counter(type(outcome).__name__ for outcome in outcomes).items()) == [("Conflict", 5), ("Receipt", 5)]
    [case] = await replicas[0].read(lambda tx: tx.execute(select(submissions.c.id)).scalars().all())
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert all(case in refusal.public and refusal.evidence for refusal in refusals)


async def test_a_business_key_cannot_stand_twice_whoever_writes_it(store: Store) -> None:
    def second(tx: Connection) -> None:
        add_case(tx, "other", NOON)
        tx.execute(update(submissions).where(submissions.c.id == "other").values(client_reference="case"))

    await store.write(lambda tx: add_case(tx, "case", NOON))
    with pytest.raises(IntegrityError):
        await store.write(second)
    assert await store.read(lambda tx: rows(tx, submissions)) == 1


async def test_a_callback_replayed_at_once_is_taken_once(
    replicas: list[Store], sealer: Sealer, clock: ManualClock
) -> None:
    """Nonce, events and evidence are one transaction: whoever loses the nonce leaves nothing of its events."""
    case = number(1, clock())
    await replicas[0].write(lambda tx: add_case(tx, case, clock(), state=State.FORWARDED))
    callbacks = Callbacks([said(case, "e1", "RECEIVED", clock())])
    boxes = [inbox(store, sealer, clock, callbacks=callbacks) for store in replicas]
    work = [boxes[n % 2].callback(REGION, callback("nonce", clock())) for n in range(20)]
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert sum(outcome == {"code": "0"} for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ReplayedCallback) for outcome in outcomes) == 19
    assert await replicas[0].read(lambda tx: timeline(tx, case)) == [(1, "FORWARDED"), (2, "RECEIVED")]


@pytest.mark.parametrize("scope", [JTI_SCOPE, ASSERTIONS])
async def test_of_parallel_replays_of_one_id_one_is_taken(replicas: list[Store], scope: str) -> None:
    """A stolen DPoP proof or client assertion races its owner. The guard is the one statement of `spend`."""
    key = hashlib.sha256(b"proof").hexdigest()
    taken = await asyncio.gather(
        *(replicas[n % 2].write(lambda tx: spend(tx, scope, key, NOON)) for n in range(8)),
    )
    assert sorted(taken) == [False] * 7 + [True]
    assert not await replicas[1].write(lambda tx: spend(tx, scope, key, NOON))
    assert await replicas[1].write(lambda tx: spend(tx, "another scope", key, NOON))


async def test_a_value_is_remembered_for_longer_than_any_replica_accepts_it(store: Store) -> None:
    """Else the janitor of a replica whose clock is ahead would let it in again at one whose clock is behind."""
    await store.write(lambda tx: spend(tx, "dpop", "value", NOON))
    kept = await store.read(lambda tx: tx.execute(select(nonces.c.expires_at)).scalar_one())
    assert kept == NOON + CLOCKS_APART


# --- the queue -----------------------------------------------------------------------------------------------------


def claiming(owner: str, limit: int, now: datetime) -> Unit[list[queue.Claim]]:
    return lambda tx: queue.claim(tx, region=REGION, owner=owner, limit=limit, now=now, lease=LEASE)


async def test_many_workers_claim_every_delivery_exactly_once(replicas: list[Store], clock: ManualClock) -> None:
    now = clock()
    cases = [number(n, now) for n in range(60)]
    await replicas[0].write(lambda tx: [add_delivery(tx, case, now) for case in cases])

    async def work(worker: int) -> list[str]:
        taken: list[str] = []
        while claims := await replicas[worker % 2].write(claiming(f"w{worker}", 3, now)):
            taken += [claim.submission_id for claim in claims]
        return taken

    taken = await asyncio.gather(*(work(worker) for worker in range(10)))
    assert sorted(case for cases_of_worker in taken for case in cases_of_worker) == sorted(cases)


async def test_a_lost_lease_goes_to_one_worker_who_knows_that_it_is_in_doubt(
    replicas: list[Store], clock: ManualClock
) -> None:
    """Of those who see the lease run out together one gets the row; the worker that lost it can settle nothing."""
    case = number(1, clock())
    delivery_id = await replicas[0].write(lambda tx: add_delivery(tx, case, clock()))
    [dead] = await replicas[0].write(claiming("dead", 1, clock()))
    late = clock.advance(LEASE.total_seconds() + 1)
    found = await asyncio.gather(*(replicas[n % 2].write(claiming(f"w{n}", 1, late)) for n in range(10)))
    [heir] = [claim for claims in found for claim in claims]
    assert (heir.doubtful, heir.attempt) == (True, 2)

    outcomes = await asyncio.gather(
        replicas[0].write(lambda tx: queue.settle(tx, dead, {"state": "dead", "settled_at": late})),
        replicas[1].write(lambda tx: queue.settle(tx, heir, {"state": "delivered", "settled_at": late})),
        replicas[0].write(lambda tx: queue.note_sending(tx, dead, late)),
    )
    assert list(outcomes) == [False, True, False]
    row = await replicas[1].read(lambda tx: delivery(tx, delivery_id))
    assert (row["state"], row["owner"], row["sent_at"]) == ("delivered", None, None)


async def test_a_worker_does_not_wait_for_rows_that_another_is_claiming(postgres_url: str, clock: ManualClock) -> None:
    """PostgreSQL only: while one replica's claim is not yet committed, the other takes the rest."""
    now = clock()
    here, there = await open_store(postgres_url), await open_store(postgres_url)
    await here.write(lambda tx: [add_delivery(tx, number(n, now), now) for n in range(4)])

    def claim_around(tx: Connection) -> tuple[list[queue.Claim], list[queue.Claim]]:
        mine = claiming("here", 2, now)(tx)
        return mine, await_only(there.write(claiming("there", 4, now)))

    async with asyncio.timeout(30):  # a worker that waits would wait for ever
        mine, theirs = await here.write(claim_around)
    assert len(mine) == len(theirs) == 2
    assert {c.delivery_id for c in mine}.isdisjoint(c.delivery_id for c in theirs)
    await here.close()
    await there.close()


# --- timelines -----------------------------------------------------------------------------------------------------


async def test_events_that_arrive_together_stand_in_one_row_without_gap(
    replicas: list[Store], sealer: Sealer, clock: ManualClock
) -> None:
    case, log = number(1, clock()), EventLog(sealer)
    await replicas[0].write(lambda tx: add_case(tx, case, clock(), state=State.FORWARDED))
    states = ["RECEIVED", "SUPPLEMENT_NOTICE", "ACCEPTED", "SPECIAL", "RESUMED", "DECIDED", "COMPLETED", "DELIVERED"]

    def event(n: int) -> Unit[Any]:
        said_then = said(case, f"e{n}", states[n % len(states)], clock() + timedelta(seconds=n % len(states)))
        return lambda tx: log.from_region(tx, REGION, said_then, clock())

    arrivals = await asyncio.gather(*(replicas[n % 2].write(event(n)) for n in range(40)))
    assert {arrival.outcome for arrival in arrivals} <= {"recorded", "late"}
    assert [seq for seq, _ in await replicas[0].read(lambda tx: timeline(tx, case))] == list(range(1, 42))
    final = await replicas[0].read(lambda tx: tx.execute(select(submissions.c.state, submissions.c.last_seq)).one())
    assert tuple(final) == ("DELIVERED", 41)


async def test_an_event_that_arrives_often_at_once_is_recorded_once(
    replicas: list[Store], sealer: Sealer, clock: ManualClock
) -> None:
    case, log = number(1, clock()), EventLog(sealer)
    await replicas[0].write(lambda tx: add_case(tx, case, clock(), state=State.FORWARDED))
    event = said(case, "e1", "RECEIVED", clock())
    work = [replicas[n % 2].write(lambda tx: log.from_region(tx, REGION, event, clock())) for n in range(20)]
    outcomes = Counter(arrival.outcome for arrival in await asyncio.gather(*work))
    assert outcomes == {"recorded": 1, "duplicate": 19}


async def test_a_feed_that_two_replicas_read_is_recorded_once(
    replicas: list[Store], sealer: Sealer, clock: ManualClock
) -> None:
    case = number(1, clock())
    await replicas[0].write(lambda tx: add_case(tx, case, clock(), state=State.FORWARDED))
    feed = Feed([said(case, f"e{n}", "RECEIVED", clock()) for n in range(10)])
    polled = region(feed=feed)
    counts = await asyncio.gather(*(inbox(store, sealer, clock).poll(polled) for store in replicas))
    assert sum(counts) == 10
    assert [seq for seq, _ in await replicas[0].read(lambda tx: timeline(tx, case))] == list(range(1, 12))
    assert await replicas[0].read(lambda tx: tx.execute(select(feed_cursors.c.cursor)).scalar_one()) == "10"


# --- what only SQLite can get wrong --------------------------------------------------------------------------------


async def test_of_ratings_that_arrive_together_one_stands(
    replicas: list[Store], sealer: Sealer, clock: ManualClock
) -> None:
    """Each replica is sent several: one is taken, one message leaves, and everybody else is told of a conflict."""
    done = Finished(replicas[0], sealer, clock)
    await done.open()
    desks = [done.ratings_over(store) for store in replicas * 4]
    answers = await asyncio.gather(
        *(desk.rate(AGENCY, done.case, rating(reference=f"R-{at}")) for at, desk in enumerate(desks)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Conflict) for answer in answers) == len(desks) - 1
    taken = await replicas[0].read(lambda tx: tx.execute(select(func.count()).select_from(ratings)).scalar_one())
    sent = await replicas[0].read(lambda tx: tx.execute(select(func.count()).select_from(case_messages)).scalar_one())
    assert (taken, sent) == (1, 1)


async def test_many_workers_take_every_errand_exactly_once(replicas: list[Store], clock: ManualClock) -> None:
    """And again only when the lease is over; none that is not due."""
    cases = [number(n, clock()) for n in range(1, 13)]

    def write(tx: Connection) -> None:
        for at, case in enumerate(cases):
            add_case(tx, case, clock())
            later = clock() + timedelta(days=1 if at >= 10 else 0)
            errands.put(tx, submission_id=case, kind="archive", region=REGION, now=clock(), due=later)

    async def take(store: Store, owner: str) -> list[str]:
        turns = [await store.write(lambda tx: errands.claim(tx, kind="archive", owner=owner, now=clock()))
                 for _ in range(5)]  # fmt: skip
        return [errand.submission_id for turn in turns for errand in turn]

    await replicas[0].write(write)
    taken = await asyncio.gather(*(take(store, f"worker {at}") for at, store in enumerate(replicas * 2)))
    assert sorted(case for each in taken for case in each) == sorted(cases[:10])
    clock.advance(errands.LEASE.total_seconds() + 1)
    assert sorted(await take(replicas[0], "another")) == sorted(cases[:10])


async def test_sqlite_writes_ahead_and_waits_for_the_disk_at_every_commit(sqlite_store: Store) -> None:
    """NORMAL would be faster, and may lose on a power cut what was acknowledged."""

    def pragmas(tx: Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [tx.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    full, on = 2, 1
    assert await sqlite_store.write(pragmas) == ["wal", full, on]
    assert await sqlite_store.read(pragmas) == ["wal", full, on]


class Gate:
    """Holds the writer thread, so that what is written meanwhile makes one group."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held = threading.Event()
        self._open = threading.Event()

    async def close(self) -> None:
        """Return when the writer waits."""
        self._holder = asyncio.create_task(self._store.write(self._hold))
        await asyncio.to_thread(self._held.wait)

    def _hold(self, _tx: Connection) -> None:
        self._held.set()
        self._open.wait()

    async def group(self, *work: Awaitable[Any]) -> list[Any]:
        """Hand in the work, let the writer go on, and return what became of each."""
        outcomes = await asyncio.gather(*work, self._let_go(), return_exceptions=True)
        await self._holder
        return list(outcomes[:-1])

    async def _let_go(self) -> None:  # scheduled last, so that everything before it is in the queue
        self._open.set()


@pytest_asyncio.fixture
async def gate(sqlite_store: Store) -> Gate:
    """Return a gate that is closed."""
    closed = Gate(sqlite_store)
    await closed.close()
    return closed


async def test_a_command_line_that_writes_meanwhile_fails_no_unit(sqlite_url: str) -> None:
    """`pearl deliveries pause` and its like write into the file of a gateway that serves."""

    def read_then_write(tx: Connection, value: str) -> None:
        held(tx)
        _put(tx, value)

    serving, command_line = await open_store(sqlite_url), await open_store(sqlite_url)
    names = [f"unit {n}" for n in range(60)]
    stores = (serving, command_line)
    await asyncio.gather(*(stores[n % 2].write(partial(read_then_write, value=name)) for n, name in enumerate(names)))
    assert sorted(await serving.read(held)) == sorted(names)
    await command_line.close()
    await serving.close()


async def test_units_of_one_group_stand_and_fall_apart(sqlite_store: Store, gate: Gate) -> None:
    def fails(tx: Connection) -> None:
        _put(tx, "undone")
        raise LookupError("on purpose")

    outcomes = await gate.group(sqlite_store.write(put("a")), sqlite_store.write(fails), sqlite_store.write(put("b")))
    assert [type(outcome) for outcome in outcomes] == [type(None), LookupError, type(None)]
    assert await sqlite_store.read(held) == ["a", "b"]


async def test_a_commit_that_fails_is_told_to_everybody_in_its_group(sqlite_store: Store, gate: Gate) -> None:
    """One unit may spoil the commit that it shares; then nobody may believe that his work stands."""

    def spoils(tx: Connection) -> None:
        tx.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        orphan = {"id": "DL1", "submission_id": "nobody", "region": REGION, "state": "pending", "due": NOON}
        tx.execute(insert(deliveries).values(**orphan, attempt=0, failures=0, created_at=NOON))

    outcomes = await gate.group(sqlite_store.write(put("a")), sqlite_store.write(spoils))
    assert [type(outcome) for outcome in outcomes] == [IntegrityError, IntegrityError]
    assert await sqlite_store.read(held) == []
    await sqlite_store.write(put("b"))
    assert await sqlite_store.read(held) == ["b"]


async def test_a_full_disk_takes_back_no_acknowledged_write(sqlite_store: Store) -> None:
    """SQLite undoes the whole transaction by itself when the disk is full: the group must hear of it."""

    def fill(tx: Connection) -> None:
        tx.execute(insert(nonces).values(scope="test", value="x" * 1_000_000, expires_at=NOON))

    await sqlite_store.write(put("before"))
    await sqlite_store.write(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count=1").close())
    gate = Gate(sqlite_store)
    await gate.close()
    outcomes = await gate.group(*(sqlite_store.write(unit) for unit in (put("a"), fill, put("b"))))
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert outcomes[1].detail == "database or disk is full"
    assert await sqlite_store.read(held) == ["before"]
    await sqlite_store.write(put("after"))
    assert await sqlite_store.read(held) == ["after", "before"]


async def test_work_that_its_caller_gave_up_is_not_begun(sqlite_store: Store, gate: Gate) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await sqlite_store.write(put("given up"))
    await gate.group(sqlite_store.write(put("kept")))
    assert await sqlite_store.read(held) == ["kept"]


@pytest.mark.parametrize("spoiled", ["folder", "content"])
async def test_a_file_that_cannot_be_opened_is_refused_at_once(spoiled: str, tmp_path: Path) -> None:
    """Otherwise the writer thread would die unseen, and every write would wait for ever."""
    path = tmp_path / "no-folder" / "pearl.db"
    if spoiled == "folder":
        path.parent.write_text("a file where a folder should be")
    else:
        path.parent.mkdir()
        path.write_text("no database " * 100)
    with pytest.raises(Unavailable) as refused:
        await open_store(f"sqlite:///{path}")
    assert refused.value.detail


async def test_no_other_kind_of_store_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be sqlite:///… or postgresql://…"):
        await open_store("mysql://somewhere/pearl")


async def test_the_guard_of_the_loop_sees_a_call_that_blocks() -> None:
    """A guard that sees nothing would guard nothing: reading the migrations' folder stands for any blocking call."""
    with pytest.raises(BlockingError):
        migrations.newest()


# --- what only PostgreSQL can get wrong ----------------------------------------------------------------------------


@pytest_asyncio.fixture
async def shared(postgres_url: str) -> AsyncIterator[Store]:
    """Open a store on PostgreSQL."""
    opened = await open_store(postgres_url)
    yield opened
    await opened.close()


def failing(sqlstate: str, times: int, runs: list[int]) -> Unit[None]:
    """Return a unit that writes, and fails with this SQLSTATE the first few times."""

    def unit(tx: Connection) -> None:
        runs.append(1)
        _put(tx, f"run {len(runs)}")
        if len(runs) <= times:
            tx.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{sqlstate}'; END $$"))

    return unit


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_what_lost_a_race_inside_the_database_is_run_again(sqlstate: str, shared: Store) -> None:
    runs: list[int] = []
    await shared.write(failing(sqlstate, 2, runs))
    assert len(runs) == 3
    assert await shared.read(held) == ["run 3"]


async def test_a_unit_that_meets_a_row_which_was_not_there_when_it_looked_looks_once_more(shared: Store) -> None:
    """On SQLite nobody comes between a look and a write. What is there at the second look too is a bug."""
    runs: list[int] = []
    await shared.write(failing("23505", 1, runs))
    assert await shared.read(held) == ["run 2"]
    with pytest.raises(DBAPIError):
        await shared.write(failing("23505", 100, []))


async def test_a_race_that_is_lost_every_time_is_given_up(shared: Store) -> None:
    runs: list[int] = []
    with pytest.raises(Unavailable):
        await shared.write(failing("40001", 100, runs))
    assert len(runs) == TRIES
    assert await shared.read(held) == []


@pytest.mark.parametrize("sqlstate", ["08006", "53300", "57P01", "57P03"])
async def test_a_database_that_cannot_serve_just_now_is_told_as_unavailable(sqlstate: str, shared: Store) -> None:
    """Lost connection, no connection left, shutting down, starting up: workers wait for it, callers get a 503."""
    with pytest.raises(Unavailable):
        await shared.write(failing(sqlstate, 100, []))


async def test_a_connection_that_is_cut_is_told_as_unavailable_and_replaced(shared: Store) -> None:
    def cut(tx: Connection) -> None:
        _put(tx, "lost")
        tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(Unavailable):
        await shared.write(cut)
    await shared.write(put("kept"))
    assert await shared.read(held) == ["kept"]


async def test_a_unit_whose_connection_is_cut_once_is_run_again_on_another(shared: Store) -> None:
    """A restart of the server in the middle of a unit: nothing of it was done, so nobody needs to hear of it."""
    runs: list[int] = []

    def cut_once(tx: Connection) -> None:
        runs.append(1)
        _put(tx, f"run {len(runs)}")
        if len(runs) == 1:
            tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    await shared.write(cut_once)
    assert await shared.read(held) == ["run 2"]


async def test_connections_that_the_server_has_ended_are_replaced_unnoticed(shared: Store, postgres_url: str) -> None:
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    ending = await open_store(postgres_url)
    await asyncio.gather(*(shared.read(held) for _ in range(4)))
    await ending.write(lambda tx: tx.execute(text(f"{others} AND pid <> pg_backend_pid()")))
    await shared.write(put("kept"))
    assert await shared.read(held) == ["kept"]
    await ending.close()


@pytest.mark.parametrize("times", [1, 2])
async def test_callers_that_give_up_keep_no_connection_and_leave_nothing(times: int, shared: Store) -> None:
    """A client that hangs up cancels its request wherever it stands, and sometimes the clean-up too."""
    begun: list[str] = []

    def slow(tx: Connection, name: str) -> None:
        _put(tx, name)
        begun.append(name)
        tx.execute(text("SELECT pg_sleep(600)"))

    for batch in range(2):
        callers = [asyncio.create_task(shared.write(partial(slow, name=f"{batch}.{n}"))) for n in range(CONNECTIONS)]
        while len(begun) < (batch + 1) * CONNECTIONS:
            await asyncio.sleep(0)
        for _ in range(times):
            for caller in callers:
                caller.cancel()
            await asyncio.sleep(0)
        ended = await asyncio.gather(*callers, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
    await asyncio.gather(*(shared.write(put(f"kept {n}")) for n in range(CONNECTIONS)))
    assert len(await shared.read(held)) == CONNECTIONS


@pytest.mark.parametrize("address", ["postgresql://nobody@127.0.0.1:1/pearl", "postgresql:///pearl?host=/nowhere"])
async def test_a_database_that_is_not_there_is_told_as_unavailable(address: str) -> None:
    store = await open_store(address)
    with pytest.raises(Unavailable):
        await store.read(held)
    await store.close()


@pytest.mark.parametrize("value", ["x" * 129, "a\0b"])
async def test_a_value_that_postgresql_cannot_hold_is_the_callers_fault(value: str, shared: Store) -> None:
    """SQLite would take both; neither may look like a fault of ours, or stop a worker."""
    with pytest.raises(InvalidRequest) as refused:
        await shared.write(put(value))
    assert value not in "".join(traceback.format_exception(refused.value))
    assert await shared.read(held) == []
