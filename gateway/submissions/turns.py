"""Whose deliveries come next: agencies take turns, so that a long queue of one does not keep the others waiting.

Owns: finding the agencies that have something due at a region, without looking at their rows one by one, and the order
in which they are served. Leaves to `queue`: taking the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select, bindparam, func, select

from gateway.storage.tables import OUTSTANDING, Instant, deliveries, delivery_pauses


def _next(after: ColumnElement[str] | None = None) -> ScalarSelect[str]:
    c = deliveries.c
    query = select(func.min(c.client_id)).where(c.region == bindparam("at"), OUTSTANDING)
    return (query if after is None else query.where(c.client_id > after)).scalar_subquery()


def _agencies() -> Select[str]:
    """Return the query that jumps from one agency to the next in the index (a loose index scan)."""
    c = deliveries.c
    agency = select(_next().label("id")).cte("agency", recursive=True)
    agency = agency.union_all(select(_next(agency.c.id)).where(agency.c.id.is_not(None)))
    waiting = select(func.min(c.due)).where(c.region == bindparam("at"), c.client_id == agency.c.id, OUTSTANDING)
    paused = select(delivery_pauses.c.region).where(delivery_pauses.c.region == bindparam("at"))
    due = waiting.scalar_subquery() <= bindparam("now", type_=Instant)
    return select(agency.c.id).where(agency.c.id.is_not(None), due, ~paused.exists())


_AGENCIES = _agencies()
"""Built once: every look at a queue runs it."""


def agencies_due(tx: Connection, region: str, now: datetime) -> list[str]:
    """Return the agencies that have a delivery due at a region, in the order of their names.

    A hundred thousand rows of one agency cost as little as one. A region in maintenance has none: nothing goes out.
    """
    return sorted(tx.execute(_AGENCIES, {"at": region, "now": now}).scalars())


def in_turn(agencies: Sequence[str], after: str, limit: int) -> Iterator[tuple[int, str]]:
    """Yield how many deliveries which agency may have taken, beginning behind `after`.

    First everybody gets an even share of `limit`, one at least; then whoever has more gets what is left.
    """
    order = [name for name in agencies if name > after] + [name for name in agencies if name <= after]
    share = max(1, limit // max(1, len(order)))
    yield from ((share, name) for name in order)
    if share < limit:
        yield from ((limit, name) for name in order)
