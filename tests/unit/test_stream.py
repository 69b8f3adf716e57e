"""The stream of events: everything once, in one order, and no reader ever steps over anything."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import orjson
import pytest
from sqlalchemy import update

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import State
from gateway.errors import InvalidRequest
from gateway.storage import Store, open_store
from gateway.storage.tables import submission_events, submissions
from gateway.submissions.events import EventLog
from gateway.submissions.story import LINKED, seal_detail
from gateway.submissions.stream import Stream
from tests.support.cases import REGION, add_case, number, said
from tests.support.clock import ManualClock


async def open_cases(
    store: Store, sealer: Sealer, clock: ManualClock, count: int = 1, client: str = "agency"
) -> list[str]:
    cases = [number(n, clock()) for n in range(1, count + 1)]

    def unit(tx: Any) -> None:
        for case in cases:
            add_case(tx, case, clock(), state=State.FORWARDED)
            sealed = seal_detail(sealer, case, 1, {})
            mine = submission_events.c.submission_id == case
            tx.execute(update(submission_events).where(mine).values(detail=sealed, client_id=client))
            tx.execute(update(submissions).where(submissions.c.id == case).values(client_id=client))

    await store.write(unit)
    return cases


def heard(log: EventLog, case: str, event_id: str, state: str, clock: ManualClock, **more: Any) -> Any:
    event = said(case, event_id, state, clock(), **more)
    return lambda tx: log.from_region(tx, REGION, event, clock())


async def test_events_come_in_the_order_in_which_they_were_recorded_and_each_once(
    store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    [one, two] = await open_cases(store, sealer, clock, 2)
    log, stream = EventLog(sealer), Stream(store, sealer)
    for n, (case, word) in enumerate([(one, "RECEIVED"), (two, "RECEIVED"), (one, "ACCEPTED")]):
        clock.advance(1)
        await store.write(heard(log, case, f"e{n}", word, clock))
    assert await stream.place() == 5
    assert await stream.place() == 0
    page = await stream.page("agency", "")
    assert [(e["submission_id"], e["seq"]) for e in page.events][2:] == [(one, 2), (two, 2), (one, 3)]
    assert page.more is False
    assert (await stream.page("agency", page.next)).events == []


async def test_a_reader_gets_everything_page_by_page_and_nobody_elses(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    await open_cases(sqlite_store, sealer, clock, 7)
    stream = Stream(sqlite_store, sealer)
    await stream.place()
    seen, cursor, more = [], "", True
    while more:
        page = await stream.page("agency", cursor, 3)
        seen += [event["submission_id"] for event in page.events]
        cursor, more = page.next, page.more
    assert len(seen) == len(set(seen)) == 7
    assert (await stream.page("another", "")).events == []


async def test_two_replicas_that_write_and_place_at_once_leave_nothing_out(
    store_url: str, sealer: Sealer, clock: ManualClock
) -> None:
    """A reader that follows all the time sees every event once, each case's own numbers without a gap."""
    one = await open_store(store_url)
    replicas = [one, one if store_url.startswith("sqlite") else await open_store(store_url)]  # SQLite has one process
    cases = await open_cases(replicas[0], sealer, clock, 4)
    log, streams = EventLog(sealer), [Stream(replica, sealer) for replica in replicas]
    words = ["RECEIVED", "ACCEPTED", "SPECIAL", "RESUMED", "DECIDED"]
    seen: list[tuple[str, int]] = []
    cursor = ""

    async def write(n: int, case: str) -> None:
        for word in words:
            await replicas[n % 2].write(heard(log, case, f"{case}-{word}", word, clock))
            await streams[n % 2].place()

    async def follow() -> None:
        nonlocal cursor
        page = await streams[1].page("agency", cursor)
        seen.extend((event["submission_id"], event["seq"]) for event in page.events)
        cursor = page.next

    writing = asyncio.gather(*(write(n, case) for n, case in enumerate(cases)))
    while not writing.done():
        await follow()
    await writing
    for stream in streams:
        await stream.place()
    await follow()
    assert {case: [seq for name, seq in seen if name == case] for case in cases} == {
        case: list(range(1, len(words) + 2)) for case in cases
    }
    for replica in set(replicas):
        await replica.close()


async def test_a_poll_waits_for_the_next_event_and_no_longer(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    [case] = await open_cases(sqlite_store, sealer, clock)
    log, stream = EventLog(sealer), Stream(sqlite_store, sealer)
    await stream.place()
    first = await stream.page("agency", "")
    waiting = asyncio.create_task(stream.await_page("agency", first.next, 10, 20))
    await sqlite_store.write(heard(log, case, "e1", "RECEIVED", clock))
    await stream.place()
    async with asyncio.timeout(5):
        page = await waiting
    assert [event["state"] for event in page.events] == ["RECEIVED"]
    assert (await stream.await_page("agency", page.next, 10, 0)).events == []


async def test_nobody_waits_for_events_of_a_process_that_ends(sqlite_store: Store, sealer: Sealer) -> None:
    """A poll or stream that went on would hold up every restart for as long as requests may take."""
    stream, stopping = Stream(sqlite_store, sealer), asyncio.Event()
    places = asyncio.create_task(stream.run(stopping))
    async with asyncio.timeout(10):
        waiting = asyncio.create_task(stream.await_page("agency", "", 5, 60))
        await asyncio.sleep(0)  # the reader begins to wait
        stopping.set()
        await places
        assert (await waiting).events == []


async def test_a_reader_can_check_that_nothing_was_changed_left_out_or_put_in(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """By the recipe of docs/api.md alone, without our code."""
    [case] = await open_cases(sqlite_store, sealer, clock)
    log, stream = EventLog(sealer), Stream(sqlite_store, sealer)
    for n, word in enumerate(["RECEIVED", "unknown:7", "ACCEPTED", "DECIDED"]):
        await sqlite_store.write(heard(log, case, f"e{n}", word, clock, reason="张三"))
    await sqlite_store.write(lambda tx: log.note(tx, case, "clock.overdue", clock(), {"clock": "decision"}))
    await stream.place()
    page = await stream.page("agency", "")
    head = page.events[0]["hash"]
    for event in page.events[1:]:
        words = orjson.dumps({**event["detail"], "_salt": event["salt"]}, option=orjson.OPT_SORT_KEYS)
        covered = {name: event[name] for name in LINKED} | {
            "detail": hashlib.sha256(words).hexdigest(),
            "previous": head,
        }
        head = hashlib.sha256(orjson.dumps(covered, option=orjson.OPT_SORT_KEYS)).hexdigest()
        assert event["hash"] == head


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "٣", "9" * 19, "1 "])
async def test_a_cursor_that_is_none_is_refused(sqlite_store: Store, sealer: Sealer, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        await Stream(sqlite_store, sealer).page("agency", cursor)


@pytest.mark.parametrize("after", ["3", "999999999999999999"])
async def test_a_cursor_that_the_stream_has_not_come_to_is_refused_and_told_where_it_is(
    sqlite_store: Store, sealer: Sealer, clock: ManualClock, after: str
) -> None:
    """As after a restored backup: a reader would wait there, and hear nothing of what happens until then."""
    await open_cases(sqlite_store, sealer, clock, 2)
    stream = Stream(sqlite_store, sealer)
    await stream.place()
    with pytest.raises(InvalidRequest) as refused:
        await stream.await_page("agency", after, 10, 30)
    assert refused.value.stable_code == "events.cursor_ahead"
    assert refused.value.problems[0].reason.endswith("the last event so far has the cursor 2")
    assert (await stream.page("another", "2")).events == [], "the head is that of all, whoever asks"
