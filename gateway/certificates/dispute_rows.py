"""Reported errors in the database: the one place that says which report is told to its issuer next, and by whom.

Owns: the statements. What happens once is decided by one of them, so that any number of replicas may be at work. What
a report says, and what its issuer answers, is sealed. Leaves to `disputes` and `dispute_worker`: what is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Update, and_, case, delete, func, or_, select, update

from gateway.crypto.at_rest import Sealer
from gateway.storage.store import insert_into
from gateway.storage.tables import certificate_disputes

OPEN, TOLD = "open", "told"
"""Written down and not told yet; told, and not answered yet. Every other state is an end.

`corrected` and `rejected` are the issuer's answers; `refused`: it took no such report; `cancelled`: the consent ended
before it was told, or an operator gave it up.
"""
LEASE = timedelta(minutes=10)
"""How long one attempt may take; another replica tries after that, and telling twice is telling once."""
_C = certificate_disputes.c


@dataclass(frozen=True, slots=True)
class Claimed:
    """A report that this worker may tell, or ask about, until its lease ends.

    `sealed` is what `sealed_body` made: it is opened one by one, so that a lost key holds up one report and no other.
    """

    id: str
    region: str
    type_code: str
    state: str
    sealed: bytes = field(repr=False)
    number: str | None
    failures: int
    owner: str


def sealed_body(sealer: Sealer, ticket: str, said: Mapping[str, Any]) -> bytes:
    """Seal what a report says, for its row."""
    return sealer.seal(orjson.dumps(dict(said)), f"certificate_disputes.body:{ticket}")


def open_body(sealer: Sealer, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report says."""
    return opened(sealer, row["id"], row["body"])


def opened(sealer: Sealer, ticket: str, sealed: bytes) -> dict[str, Any]:
    """Return what `sealed_body` took. Raises Unavailable when no key opens it."""
    said: dict[str, Any] = orjson.loads(sealer.open(sealed, f"certificate_disputes.body:{ticket}"))
    return said


def sealed_reply(sealer: Sealer, ticket: str, text: str) -> bytes:
    """Seal what an issuer answers, for its row."""
    return sealer.seal(text.encode(), f"certificate_disputes.reply:{ticket}")


def open_reply(sealer: Sealer, row: Mapping[str, Any]) -> str | None:
    """Return what the issuer answered; None while it has not."""
    sealed = row["reply"]
    return None if sealed is None else sealer.open(sealed, f"certificate_disputes.reply:{row['id']}").decode()


def put(tx: Connection, row: Mapping[str, Any]) -> bool:
    """Write a report; return whether this client has not used its reference before."""
    written = insert_into(tx, certificate_disputes).values(dict(row))
    key = ["client_id", "client_reference"]
    return tx.execute(written.on_conflict_do_nothing(index_elements=key)).rowcount == 1


def earlier(tx: Connection, client_id: str, reference: str) -> Mapping[str, Any] | None:
    """Return the report that this client has made under this reference."""
    mine = and_(_C.client_id == client_id, _C.client_reference == reference)
    row = tx.execute(select(certificate_disputes).where(mine)).mappings().one_or_none()
    return None if row is None else dict(row)


def find(tx: Connection, ticket: str, client_id: str) -> Mapping[str, Any] | None:
    """Return a report of this client."""
    mine = and_(_C.id == ticket, _C.client_id == client_id)
    row = tx.execute(select(certificate_disputes).where(mine)).mappings().one_or_none()
    return None if row is None else dict(row)


# --- at work ---------------------------------------------------------------------------------------------------------


def claim(tx: Connection, *, owner: str, now: datetime, limit: int) -> Sequence[Claimed]:
    """Take reports that are due, in one statement; what another replica is taking is left alone."""
    rows = tx.execute(_taking(owner, now, limit)).mappings().all()
    return [
        Claimed(
            row["id"], row["region"], row["type_code"], row["state"], row["body"], row["number"],
            row["failures"], owner,
        )
        for row in rows
    ]  # fmt: skip


def _taking(owner: str, now: datetime, limit: int) -> Update:
    free = and_(_C.due <= now, or_(_C.lease_until.is_(None), _C.lease_until < now))
    due = select(_C.id).where(free).order_by(_C.due).limit(limit)
    taken = due.with_for_update(skip_locked=True).cte("taken")
    mine = and_(_C.id.in_(select(taken.c.id)), free)
    held = update(certificate_disputes).where(mine).values(owner=owner, lease_until=now + LEASE)
    return held.returning(certificate_disputes)


def settle(tx: Connection, claimed: Claimed, values: Mapping[str, Any], now: datetime) -> bool:
    """Write what came of an attempt, unless another one has begun since; let go of it."""
    mine = and_(_C.id == claimed.id, _C.owner == claimed.owner, _C.state == claimed.state)
    freed = {"owner": None, "lease_until": None, "updated_at": now, **values}
    return tx.execute(update(certificate_disputes).where(mine).values(freed)).rowcount == 1


# --- for operators ---------------------------------------------------------------------------------------------------


def unfinished(tx: Connection, limit: int) -> list[dict[str, str]]:
    """Return reports without an answer, those that fail first, then the oldest: ids and words, no person."""
    columns = (_C.id, _C.region, _C.type_code, _C.state, _C.number, _C.failures, _C.last_code, _C.created_at, _C.due)
    order = (case((_C.failures > 0, 0), else_=1), _C.created_at, _C.id)
    rows = tx.execute(select(*columns).where(_C.due.is_not(None)).order_by(*order).limit(limit)).mappings()
    return [{str(name): "" if value is None else str(value) for name, value in row.items()} for row in rows]


def again(tx: Connection, ticket: str, now: datetime) -> bool:
    """Have a report told, or asked about, at once. Return False when it is at an end, or there is none."""
    waiting = and_(_C.id == ticket, _C.due.is_not(None))
    return tx.execute(update(certificate_disputes).where(waiting).values(due=now)).rowcount == 1


def close(tx: Connection, sealer: Sealer, ticket: str, reason: str, now: datetime) -> bool:
    """Give a report up. Return False when it is at an end, there is none, or somebody is at it just now."""
    free = and_(_C.id == ticket, _C.due.is_not(None), or_(_C.lease_until.is_(None), _C.lease_until < now))
    values = {"state": "cancelled", "reply": sealed_reply(sealer, ticket, reason), "due": None, "updated_at": now}
    gone = {**values, "owner": None, "lease_until": None, "failures": 0}
    return tx.execute(update(certificate_disputes).where(free).values(gone)).rowcount == 1


def figures(tx: Connection) -> dict[tuple[str, str], int]:
    """Return how many reports have no answer, by region and state; `failing`: the last attempt came to nothing."""
    state = case((_C.failures > 0, "failing"), else_=_C.state)
    query = select(_C.region, state, func.count()).where(_C.due.is_not(None)).group_by(_C.region, state)
    return {(region, name): count for region, name, count in tx.execute(query)}


def forget(tx: Connection, before: datetime) -> int:
    """Delete reports that came to their end before then; return how many."""
    over = and_(_C.due.is_(None), _C.updated_at < before)
    return tx.execute(delete(certificate_disputes).where(over)).rowcount
