"""What is kept of every published item: one row an item and region, with what was approved of it.

Owns: the rows, the step that a pull makes with each of them, and reading them. Leaves to `gateway.domain.published`
what a difference means, to `puller` the fetching, to `approvals` the approving. Functions of a connection, each part of
its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from gateway.domain.published import Document, ItemState, diff, flat, is_suspended, state_after
from gateway.storage.tables import BLOCKED_ITEM, item_pulls, item_snapshots

FIRST_SIGHT = "first-sight"
"""Who approved what was published when file and publication first met: nobody, the file was written for it."""
MOST_PATHS = 100
"""Paths that a row keeps; whoever wants all of them compares the entries."""
_CHUNK = 500
"""Values in one statement: SQLite takes a limited number."""
_UNAPPROVED = {"approved": None, "approved_hash": None, "approved_by": None, "approved_at": None}

_c = item_snapshots.c


@dataclass(frozen=True, slots=True)
class Entry:
    """One published item as it was read, and its hash."""

    code: str
    document: Document
    hash: str


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one item: a word of `KINDS`, and the paths that it is about."""

    code: str
    kind: str
    paths: Sequence[str] = ()


KINDS = ("new", "first_seen", "changed", "suspended", "gone", "recorded")
"""`new` is unknown to our file; `first_seen` is known and was not published before; `recorded` stops nothing."""


# --- a pull --------------------------------------------------------------------------------------------------------


def take(
    tx: Connection, region: str, entries: Mapping[str, Entry], known: Collection[str], now: datetime, today: date
) -> list[Found]:
    """Write down what a region publishes now, and return what is otherwise than before.

    `known` are the codes of our file with an office in this region. Nothing is written of what stays as it is.
    """
    light = select(_c.item_code, _c.hash, _c.state, _c.approved_hash).where(_c.region == region)
    rows = {row.item_code: row for row in tx.execute(light)}
    codes = rows.keys() | entries.keys()
    touched = sorted(c for c in codes if _may_change(rows.get(c), entries.get(c), known=c in known, today=today))
    before = _whole(tx, region, [code for code in touched if code in rows])
    steps = [_Step(code, before.get(code), entries.get(code), code in known, now, today) for code in touched]
    fresh: list[dict[str, Any]] = []
    found: list[Found] = []
    for step in steps:
        values, told = step.outcome()
        found += told
        mine = (_c.region == region) & (_c.item_code == step.code)
        if values is None:
            tx.execute(delete(item_snapshots).where(mine))
        elif step.row is not None:
            tx.execute(update(item_snapshots).where(mine).values(values))
        else:
            fresh.append({**_UNAPPROVED, "region": region, "item_code": step.code, "first_seen_at": now, **values})
    if fresh:
        tx.execute(insert(item_snapshots), fresh)
    return found


def _may_change(row: Row[Any, Any, Any, Any] | None, entry: Entry | None, *, known: bool, today: date) -> bool:
    """Say whether a pull can change anything about an item, from little of its row."""
    if row is None or entry is None:
        return row is None or row.state != ItemState.GONE or not known
    if row.hash != entry.hash or known != (row.state != ItemState.NEW):
        return True
    out_of_force = is_suspended(entry.document, today)
    return known and (row.state == ItemState.GONE or out_of_force != (row.state == ItemState.SUSPENDED))


def _whole(tx: Connection, region: str, codes: Sequence[str]) -> dict[str, Row[Any]]:
    """Return the rows as a whole, and keep them so until this transaction ends: an approval may be under way."""
    found: dict[str, Row[Any]] = {}
    for begin in range(0, len(codes), _CHUNK):
        chosen = select(item_snapshots).where(_c.region == region, _c.item_code.in_(codes[begin : begin + _CHUNK]))
        found |= {row.item_code: row for row in tx.execute(chosen.with_for_update())}
    return found


Outcome = tuple[dict[str, Any] | None, list[Found]]
"""What the row shall say, None for no row at all; and what is told of it."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What a pull does with one item."""

    code: str
    row: Row[Any] | None
    entry: Entry | None
    known: bool
    now: datetime
    today: date

    def outcome(self) -> Outcome:
        if self.entry is None:
            return self._away()
        if not self.known:
            return self._unknown(self.entry)
        if self.row is None or self.row.approved_hash is None:
            return self._first_sight(self.entry)
        return self._compared(self.entry, self.row)

    def _away(self) -> Outcome:
        """An item that is published no more is gone; one that our file does not know either is forgotten."""
        told = [Found(self.code, "gone")]
        if not self.known:
            return None, told
        return {"state": ItemState.GONE, "since": self.now, "paths": []}, told

    def _unknown(self, entry: Entry) -> Outcome:
        """An item that our file does not know is listed and never routed."""
        if self.row is not None and self.row.state == ItemState.NEW:
            return self._seen(entry), [Found(self.code, "recorded", self._told(entry, self.row))]
        values = {**self._seen(entry), "state": ItemState.NEW, "since": self.now, "paths": []}
        return values, [Found(self.code, "new")]

    def _first_sight(self, entry: Entry) -> Outcome:
        """Where file and publication first meet, the file was written for what is published."""
        out_of_force = is_suspended(entry.document, self.today)
        state = ItemState.SUSPENDED if out_of_force else ItemState.OPEN
        approved = {"approved": entry.document, "approved_hash": entry.hash}
        by = {"approved_by": FIRST_SIGHT, "approved_at": self.now}
        values = {**self._seen(entry), "state": state, "since": self.now, "paths": [], **approved, **by}
        return values, [Found(self.code, "suspended" if out_of_force else "first_seen")]

    def _compared(self, entry: Entry, row: Row[Any]) -> Outcome:
        before = ItemState(row.state)
        state, paths = state_after(before, row.approved, entry.document, self.today)
        since = row.since if state is before else self.now
        values = {**self._seen(entry), "state": state, "since": since, "paths": paths[:MOST_PATHS]}
        if state is not ItemState.OPEN and (state is not before or values["paths"] != row.paths):
            return values, [Found(self.code, str(state), paths)]
        return values, [Found(self.code, "recorded", self._told(entry, row))]

    def _told(self, entry: Entry, row: Row[Any]) -> list[str]:
        return [change.path for change in diff(flat(row.document), flat(entry.document))]

    def _seen(self, entry: Entry) -> dict[str, Any]:
        since = self.row.changed_at if self.row is not None and self.row.hash == entry.hash else self.now
        return {"document": entry.document, "hash": entry.hash, "changed_at": since}


# --- reading -------------------------------------------------------------------------------------------------------


def blocked(tx: Connection) -> list[Row[Any]]:
    """Return what nothing is routed to: region, item_code, state, since, paths."""
    return list(tx.execute(select(_c.region, _c.item_code, _c.state, _c.since, _c.paths).where(BLOCKED_ITEM)))


def pulls(tx: Connection) -> dict[str, Row[Any]]:
    """Return how the last look at each region went."""
    return {row.region: row for row in tx.execute(select(item_pulls))}


def summaries(tx: Connection) -> list[Row[Any]]:
    """Return every published item without its documents."""
    light = [column for column in _c if column.name not in ("approved", "document")]
    return list(tx.execute(select(*light).order_by(_c.region, _c.item_code)))


def one(tx: Connection, region: str, code: str, *, hold: bool = False) -> Row[Any] | None:
    """Return everything that is kept of one item; with `hold`, keep it so until this transaction ends."""
    chosen = select(item_snapshots).where(_c.region == region, _c.item_code == code)
    return tx.execute(chosen.with_for_update() if hold else chosen).one_or_none()
