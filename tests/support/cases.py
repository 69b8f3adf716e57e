"""Rows of cases and deliveries, as intake would write them, and what a region says about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from gateway.domain.identifiers import case_number
from gateway.domain.submission import State
from gateway.storage.tables import deliveries, event_conflicts, submission_events, submissions

REGION = "foshan"
LEASE = timedelta(seconds=60)


def number(sequence: int, day: datetime) -> str:
    """Return a case number of ours."""
    return case_number(origin="440100", handling="440600", day=day.date(), sequence=sequence)


def add_case(
    tx: Connection, case: str, now: datetime, *, state: State = State.COLLECTED, mapping_version: str = "0" * 64
) -> None:
    """Write a case with its first event, which says that it is in this state."""
    row = {
        "id": case,
        "client_id": "agency",
        "item_code": "11440600MBT406003B3442011899001",
        "client_reference": case,
        "digest": "0" * 64,
        "state": state,
        "mode": "online",
        "channel": "api",
        "origin_code": "440100",
        "handling_region": REGION,
        "handling_code": "440600",
        "applicant_ref": "0" * 32,
        "body": b"sealed",
        "mapping_version": mapping_version,
        "last_seq": 1,
        "created_at": now,
        "updated_at": now,
    }
    tx.execute(submissions.insert().values(row))
    first = {
        "submission_id": case,
        "seq": 1,
        "state": state,
        "case_state": state,
        "client_id": "agency",
        "source": "gateway",
        "occurred_at": now,
        "recorded_at": now,
        "detail": b"sealed",
    }
    tx.execute(submission_events.insert().values(first))


def add_delivery(tx: Connection, case: str, now: datetime, **columns: Any) -> str:
    """Write a case with a delivery that is due; `columns` override. Return the delivery's id."""
    add_case(tx, case, now)
    row = {
        "id": "DL" + case,
        "submission_id": case,
        "region": REGION,
        "state": "pending",
        "due": now,
        "attempt": 0,
        "failures": 0,
        "created_at": now,
    }
    tx.execute(deliveries.insert().values({**row, **columns}))
    return str(row["id"])


def delivery(tx: Connection, delivery_id: str) -> Mapping[str, Any]:
    """Return a delivery's row."""
    return dict(tx.execute(select(deliveries).where(deliveries.c.id == delivery_id)).mappings().one())


def said(case: str, event_id: str, state: str, occurred_at: datetime, **more: Any) -> dict[str, Any]:
    """Return a canonical event (mappings/vocabulary.toml)."""
    return {
        "event_id": event_id,
        "submission_id": case,
        "number": f"FS-{case}",
        "state": state,
        "occurred_at": occurred_at.isoformat(),
        **more,
    }


def state_of(tx: Connection, case: str) -> State:
    """Return where the case is."""
    return State(tx.execute(select(submissions.c.state).where(submissions.c.id == case)).scalar_one())


def timeline(tx: Connection, case: str) -> list[tuple[int, str]]:
    """Return the case's events in order: number and state."""
    c = submission_events.c
    rows = tx.execute(select(c.seq, c.state).where(c.submission_id == case).order_by(c.seq))
    return [(row.seq, row.state) for row in rows]


def conflicts(tx: Connection) -> list[Mapping[str, Any]]:
    """Return what waits for a person."""
    return [dict(row) for row in tx.execute(select(event_conflicts)).mappings()]
