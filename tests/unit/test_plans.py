"""Ten million ended cases cost nothing: no statement that runs for every case, event or look reads a table through."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Connection, event, select, text
from sqlalchemy.dialects import sqlite

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.storage import Store
from gateway.storage.tables import blobs
from gateway.submissions import (
    archive,
    conflicts,
    dead_letters,
    errands,
    queue,
    ratings,
    stream,
    timekeeping,
    upload_rows,
    webhooks,
)
from gateway.submissions.cases import Cases
from gateway.submissions.dead_letters import Order
from gateway.submissions.disposal import Disposal, Terms
from gateway.submissions.events import EventLog
from gateway.submissions.messages import Message, enqueue
from gateway.submissions.papers import papers_shown
from gateway.submissions.parcels import seal_body
from gateway.submissions.ratings import ratings_shown
from gateway.submissions.service import service_shown
from gateway.submissions.story import locked, seal_detail
from gateway.submissions.stream import Stream
from tests.support.cases import REGION, add_delivery, delivery, number, said
from tests.support.clock import ManualClock

GROWING = (
    "submissions|submission_events|deliveries|case_messages|case_clocks|case_errands|event_conflicts|region_numbers|"
    "submission_materials|ratings|paper_lists|archive_signatures|service_records|result_documents|evidence|consents|blobs|blob_parts"
)
"""Tables that grow with every case."""
READ_THROUGH = {
    "sqlite": re.compile(rf"SCAN ({GROWING})\b(?! USING)"),
    "postgresql": re.compile(rf"Seq Scan on ({GROWING})\b"),
}


def read_through(tx: Connection, work: Callable[[Connection], Any]) -> list[str]:
    """Do it, and return each of its statements for which no index serves."""
    said: list[tuple[str, Any]] = []

    def listen(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        said.append((statement, parameters[0] if many else parameters))

    event.listen(tx, "before_cursor_execute", listen)
    try:
        work(tx)
    finally:
        event.remove(tx, "before_cursor_execute", listen)
    engine = tx.dialect.name
    if engine == "postgresql":  # small tables are read through because it is cheaper, not for want of an index
        tx.execute(text("SET LOCAL enable_seqscan = off"))
    explain = "EXPLAIN QUERY PLAN" if engine == "sqlite" else "EXPLAIN"
    found = []
    for statement, parameters in said:
        if statement.lstrip().startswith(("SELECT", "UPDATE", "WITH", "DELETE")):
            plan = "\n".join(str(row) for row in tx.exec_driver_sql(f"{explain} {statement}", parameters))
            found += [f"{statement}\n{plan}"] if READ_THROUGH[engine].search(plan) else []
    return found


async def test_no_statement_of_a_case_reads_a_table_through(store: Store, sealer: Sealer, clock: ManualClock) -> None:
    case, log, now = number(1, clock()), EventLog(sealer), clock()
    caller = Caller("agency", "440100", "", "", frozenset())

    def open_case(tx: Connection) -> None:
        add_delivery(tx, case, now, client_id="agency")
        body = {"id": case, "applicant": {"name": "N", "document": {"type": "t", "number": "n"}}}
        sealed = seal_body(sealer, case, body)
        tx.execute(text("UPDATE submissions SET body = :body").bindparams(body=sealed))
        first = seal_detail(sealer, case, 1, {})
        tx.execute(text("UPDATE submission_events SET detail = :first").bindparams(first=first))

    def say(tx: Connection) -> str:
        locked(tx, case)
        return enqueue(tx, sealer, Message(case, "agency", REGION, "rating", "r", "d", {}), now).message_id

    def die(tx: Connection, message: str) -> None:
        tx.execute(text("UPDATE deliveries SET state = 'dead' WHERE message_id = :m").bindparams(m=message))
        dead_letters.retry(tx, [message], Order("op", "why", now))

    def work(tx: Connection) -> None:
        lease = timedelta(seconds=60)
        [claimed] = queue.claim(tx, region=REGION, owner="w", limit=4, now=now, lease=lease)
        queue.settle(tx, claimed, {"state": "delivered"})
        message = say(tx)
        queue.wake_next(tx, case, now)
        log.from_region(tx, REGION, said(case, "e1", "ACCEPTED", now), now)
        Cases(store, sealer)._show(tx, caller, case)
        Cases(store, sealer)._recent(tx, caller, 5)
        ratings_shown(tx, sealer, case)
        stream._is_waiting(tx)
        stream._place(tx)
        Stream(store, sealer)._read(tx, client_id="agency", after=0, limit=5)
        webhooks._claim(tx, sealer=sealer, owner="w", now=now)
        tx.execute(timekeeping._claim(now))
        timekeeping.figures(tx)
        errands.claim(tx, kind="results", owner="w", now=now)
        errands.figures(tx)
        errands.unfinished(tx, 5)
        ratings.figures(tx, now)
        papers_shown(tx, sealer, case)
        service_shown(tx, sealer, case)
        archive._evidence(tx, case)
        tx.execute(upload_rows._HELD, {"client": "agency"})
        conflicts.waiting(tx, 5)
        conflicts.count_waiting(tx)
        queue.figures(tx, now)
        queue.unsettled(tx, 5)
        die(tx, message)
        assert delivery(tx, "DL" + case)["state"] == "delivered"

    await store.write(open_case)
    assert await store.write(lambda tx: read_through(tx, work)) == []


async def test_files_that_were_stored_of_late_are_not_looked_at_once_a_minute(
    sqlite_store: Store, clock: ManualClock
) -> None:
    """Those of the last month are the many; the index leads to the old ones."""
    month = timedelta(days=30)
    terms = Terms(unfinished=month, orphan=month, retention=month)
    due = Disposal(
        store=sqlite_store, blobs=cast("Any", None), clock=clock, terms=terms, metrics=cast("Any", None)
    )._due(clock())["retention"]
    query = select(blobs.c.id).where(due).order_by(blobs.c.created_at).limit(9)
    compiled = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})

    def plan(tx: Connection) -> str:
        return str(tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").all())

    assert "ix_blobs_state (state=? AND created_at<?)" in await sqlite_store.read(plan)


@pytest.mark.parametrize("statement", ["SELECT id FROM deliveries WHERE last_text = 'x'"])
async def test_a_statement_that_reads_a_table_through_is_seen(store: Store, statement: str) -> None:
    assert len(await store.read(lambda tx: read_through(tx, lambda tx: tx.execute(text(statement))))) == 1
