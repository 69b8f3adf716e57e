"""The operators' side of published items: what there is, what changed, and approving it (复核).

Owns: the views, and the one statement by which a version is approved. An approval names the hash that was seen, so that
a change which came after is not approved by it; who approved what and why is evidence. Leaves the rows to `snapshots`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, or_, update

from gateway.domain.item import Item
from gateway.domain.published import BLOCKING, Change, Document, ItemState, diff, flat, unlike_the_file
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.evidence import Exchange, record
from gateway.items import snapshots
from gateway.items.blocks import ItemBlocks
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import item_snapshots

UNPUBLISHED = "unpublished"
"""The state of an item of our file at an office whose region publishes items, but not this one."""
LONGEST_REASON = 128
"""Characters that a row of evidence has room for."""
LONGEST_NAME = 54
"""Characters of an operator's name: with the word before it, it stands in a column of 64."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One item of one region. `state` is an `ItemState` or `unpublished`; without a snapshot there are no times."""

    region: str
    item: str
    state: str
    since: datetime | None = None
    paths: Sequence[str] = ()
    hash: str | None = None
    changed_at: datetime | None = None
    approved_hash: str | None = None
    approved_by: str | None = None
    approved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """How the last look at a region's catalogue went."""

    region: str
    pulled_at: datetime | None
    tried_at: datetime | None
    due: datetime | None
    entries: int
    unreadable: int
    code: str | None


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything about one item of one region: what is published, what was approved, and how they differ.

    `unlike_file` is where what is published contradicts our own file.
    """

    summary: Summary
    published: Document
    approved: Document | None
    changes: Sequence[Change]
    unlike_file: Sequence[Change]


class Approvals:
    """What operators see and decide."""

    def __init__(
        self, store: Store, items: Mapping[str, Item], regions: Mapping[str, Region], blocks: ItemBlocks, clock: Clock
    ) -> None:
        self._store = store
        self._items = items
        self._publishing = sorted(r.id for r in regions.values() if r.adapter.catalogue is not None)
        self._blocks = blocks
        self._clock = clock

    async def all(self) -> tuple[list[Look], list[Summary]]:
        """Return how the last looks went, and every published item, with those of our file that are not published."""
        return await self._store.read(self._all)

    def _all(self, tx: Connection) -> tuple[list[Look], list[Summary]]:
        pulls = snapshots.pulls(tx)
        published = [_summary(row) for row in snapshots.summaries(tx) if row.region in self._publishing]
        seen = {(one.region, one.item) for one in published}
        absent = [Summary(*pair, UNPUBLISHED) for pair in self._pairs() if pair not in seen]
        looks = [_look(region, pulls.get(region)) for region in self._publishing]
        return looks, sorted([*published, *absent], key=lambda one: (one.region, one.item))

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for item in self._items.values():
            yield from ((office.region, item.code) for office in item.offices if office.region in self._publishing)

    async def show(self, region: str, code: str) -> Whole:
        """Return everything about one item of one region. Raises NotFound."""
        row = await self._store.read(partial(snapshots.one, region=region, code=code))
        if row is None:
            raise _unpublished(region)
        item = self._items.get(code)
        changes = diff(flat(row.approved), flat(row.document)) if row.approved is not None else []
        unlike = unlike_the_file(item, region, row.document) if item is not None and item.office(region) else []
        return Whole(_summary(row), row.document, row.approved, changes, unlike)

    async def approve(self, region: str, code: str, seen: str, reason: str, operator: str) -> Summary:
        """Approve what is published under this hash; the office is open again when this returns.

        Raises NotFound, InvalidRequest, or Conflict: the entry is another one by now (`item.changed_since`), is not in
        force (`item.not_in_force`), is unknown to our file (`item.not_in_file`) or was approved before
        (`item.approved_already`).
        """
        if not 1 <= len(reason) <= LONGEST_REASON:
            raise InvalidRequest(f"The reason must have 1 to {LONGEST_REASON} characters.")
        item = self._items.get(code)
        order = _Order(region, code, seen, reason, f"operator:{operator[:LONGEST_NAME]}", self._clock())
        known = item is not None and item.office(region) is not None
        approved = await self._store.write(partial(_approve, order=order, known=known))
        await self._blocks.refresh()
        return approved


@dataclass(frozen=True, slots=True)
class _Order:
    region: str
    code: str
    seen: str
    reason: str
    by: str
    now: datetime


def _approve(tx: Connection, order: _Order, *, known: bool) -> Summary:
    """Approve by one statement, and say why not when it found nothing to do."""
    before = snapshots.one(tx, order.region, order.code, hold=True)
    if before is None:
        raise _unpublished(order.region)
    if not known:
        text = "Our file does not know this item at this place; write it into items.toml first."
        raise Conflict(text, code="item.not_in_file", region=order.region)
    c = item_snapshots.c
    seen = (c.region == order.region, c.item_code == order.code, c.hash == order.seen)
    waits = or_(c.state == ItemState.CHANGED, (c.state == ItemState.OPEN) & (c.approved_hash != c.hash))
    values = {
        "approved": c.document,
        "approved_hash": c.hash,
        "approved_by": order.by,
        "approved_at": order.now,
        "state": ItemState.OPEN,
        "since": order.now,
        "paths": [],
    }
    if tx.execute(update(item_snapshots).where(*seen, waits).values(values)).rowcount != 1:
        raise _not_approved(tx, order)
    record(tx, _exchange(order, before), now=order.now)
    return _summary(snapshots.one(tx, order.region, order.code) or before)


def _not_approved(tx: Connection, order: _Order) -> Conflict | NotFound:
    row = snapshots.one(tx, order.region, order.code)
    if row is None:
        return _unpublished(order.region)
    if row.hash != order.seen:
        text = f"The entry is another one by now ({row.hash}). Look at what changed, and approve that."
        return Conflict(text, code="item.changed_since", region=order.region)
    if row.state in BLOCKING:
        text = f"The region has {'suspended the item' if row.state == ItemState.SUSPENDED else 'withdrawn the item'}."
        return Conflict(f"{text} Approve it when it is back.", code="item.not_in_force", region=order.region)
    text = f"This version is approved already, by {row.approved_by}."
    return Conflict(text, code="item.approved_already", region=order.region)


def _unpublished(region: str) -> NotFound:
    return NotFound(f"Region {region[:32]} has published no such item.", code="item.unpublished")


def _exchange(order: _Order, before: Row[Any]) -> Exchange:
    changes = diff(flat(before.approved or {}), flat(before.document))
    what = {
        "region": order.region,
        "item": order.code,
        "hash": order.seen,
        "before": before.approved_hash,
        "state": before.state,
        "paths": [change.path for change in changes[: snapshots.MOST_PATHS]],
    }
    return Exchange(
        action="item.approve",
        outcome="done",
        reason=order.reason,
        who={"operator": order.by.partition(":")[2]},
        what=what,
        purpose="operation",
        received_at=order.now,
    )


def _summary(row: Row[Any]) -> Summary:
    return Summary(
        region=row.region,
        item=row.item_code,
        state=row.state,
        since=row.since,
        paths=row.paths,
        hash=row.hash,
        changed_at=row.changed_at,
        approved_hash=row.approved_hash,
        approved_by=row.approved_by,
        approved_at=row.approved_at,
    )


def _look(region: str, row: Row[Any] | None) -> Look:
    if row is None:
        return Look(region, None, None, None, 0, 0, None)
    return Look(region, row.pulled_at, row.tried_at, row.due, row.entries, row.unreadable, row.last_code)
