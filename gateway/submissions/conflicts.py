"""The conflict queue: what a region reported and nobody can make sense of without a person.

Owns: keeping such a report once, and ending it by a person's word, or by a later report that explains it. Nothing
is ever dropped. Leaves to `events`: what is a conflict. Everything here is part of the caller's transaction.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.identifiers import case_number_problem
from gateway.errors import NotFound
from gateway.evidence import Exchange, record
from gateway.storage.store import insert_into
from gateway.storage.tables import event_conflicts

LONGEST_NUMBER = 64
"""Ids and numbers of regions are opaque, but none is longer."""


class Conflicts:
    """Keeps conflicts. `sealer` protects what they say, which nobody has checked yet."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def keep(
        self, tx: Connection, region: str, event: Mapping[str, Any], reason: str, now: datetime, name: str = ""
    ) -> None:
        """Keep a canonical event, once; one that was resolved is open again. `name` stands for an id that is taken."""
        raw = orjson.dumps(dict(event))
        self._keep(tx, region, name or str(event["event_id"]), str(event["submission_id"]), raw, reason, now)

    def keep_raw(self, tx: Connection, region: str, raw: bytes, reason: str, now: datetime) -> None:
        """Keep an event that its mapping cannot read; its digest stands for its id."""
        self._keep(tx, region, hashlib.sha256(raw).hexdigest(), "", raw, reason, now)

    def _keep(
        self, tx: Connection, region: str, event_id: str, submission_id: str, raw: bytes, reason: str, now: datetime
    ) -> None:
        conflict_id = "CF" + secrets.token_hex(16)
        row = {
            "id": conflict_id,
            "region": region,
            "region_event_id": key_of(event_id),
            "submission_id": "" if case_number_problem(submission_id) else submission_id,  # it could be anything
            "reason": reason,
            "event": self._sealer.seal(raw, f"event_conflicts.event:{conflict_id}"),
            "recorded_at": now,
        }
        c = event_conflicts.c
        again = {"status": "open", "reason": reason, "resolution": None, "resolved_by": None, "resolved_at": None}
        kept = insert_into(tx, event_conflicts).values(row)
        tx.execute(
            kept.on_conflict_do_update(
                index_elements=["region", "region_event_id"], set_=again, where=c.status == "resolved"
            )
        )

    def explained(self, tx: Connection, region: str, event_id: str, now: datetime) -> None:
        """End a conflict that a later report has explained."""
        self._explained(tx, event_conflicts.c.region == region, event_id, now)

    def explained_of_case(self, tx: Connection, submission_id: str, event_id: str, now: datetime) -> None:
        """End a conflict of a case, under whichever region it was kept: the case may have gone elsewhere since."""
        self._explained(tx, event_conflicts.c.submission_id == submission_id, event_id, now)

    def _explained(self, tx: Connection, where: ColumnElement[bool], event_id: str, now: datetime) -> None:
        c = event_conflicts.c
        this = and_(where, c.region_event_id == key_of(event_id), c.status == "open")
        ended = {"status": "resolved", "resolution": "explained", "resolved_by": "gateway", "resolved_at": now}
        tx.execute(update(event_conflicts).where(this).values(ended))

    def resolve(self, tx: Connection, conflict_id: str, *, by: str, words: str, now: datetime) -> None:
        """End a conflict by an operator's word; it is evidence. Raises NotFound when it is not there or not open."""
        c = event_conflicts.c
        values = {"status": "resolved", "resolution": words, "resolved_by": by, "resolved_at": now}
        this = and_(c.id == conflict_id, c.status == "open")
        ended = update(event_conflicts).where(this).values(values).returning(c.region, c.submission_id)
        row = tx.execute(ended).one_or_none()
        if row is None:
            raise NotFound(f"There is no open conflict {conflict_id}. `pearl conflicts list` shows them.")
        exchange = Exchange(
            action="conflict.resolve",
            outcome="done",
            reason=words,
            who={"operator": by},
            what={"conflict": conflict_id, "case": row.submission_id, "region": row.region},
            purpose="operation",
            received_at=now,
        )
        record(tx, exchange, now=now)

    def show(self, tx: Connection, conflict_id: str) -> bytes:
        """Return what the region said, as it came. Raises NotFound."""
        sealed = tx.execute(select(event_conflicts.c.event).where(event_conflicts.c.id == conflict_id)).scalar()
        if sealed is None:
            raise NotFound(f"There is no conflict {conflict_id}. `pearl conflicts list` shows them.")
        return self._sealer.open(sealed, f"event_conflicts.event:{conflict_id}")


def is_kept(tx: Connection, region: str, event_id: str) -> bool:
    """Say whether an event waits, or has waited, in the queue."""
    c = event_conflicts.c
    query = select(c.id).where(c.region == region, c.region_event_id == key_of(event_id))
    return tx.execute(query).first() is not None


def waiting(tx: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the open conflicts, oldest first: ids, case and reason, no person."""
    c = event_conflicts.c
    columns = (c.id, c.region, c.region_event_id, c.submission_id, c.reason, c.recorded_at)
    query = select(*columns).where(c.status == "open").order_by(c.recorded_at).limit(limit)
    return [{str(name): value for name, value in row.items()} for row in tx.execute(query).mappings()]


def count_waiting(tx: Connection) -> dict[str, int]:
    """Return how many conflicts are open, by region."""
    c = event_conflicts.c
    query = select(c.region, func.count()).where(c.status == "open").group_by(c.region)
    return {row[0]: row[1] for row in tx.execute(query)}


def key_of(event_id: str) -> str:
    """Return the id of an event that is kept for a person; one that is too long for the table, by its digest."""
    return event_id if len(event_id) <= LONGEST_NUMBER else hashlib.sha256(event_id.encode()).hexdigest()
