"""Which offices take an item no more for the moment, known without asking the store.

Owns: the picture that every replica has, at most two seconds old, and the refusal that it gives. Leaves to `snapshots`
how an item comes to be blocked. Whoever takes applications is handed `refuse_blocked`.

What was never published is not blocked, nor is anything of a region that offers no catalogue: there the file's word
stands alone. While the store is away the last picture serves; nothing is accepted then anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Row

from gateway.domain.published import ItemState, general
from gateway.errors import FieldProblem, GatewayError, NotOffered
from gateway.items import snapshots
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.telemetry import Metrics
from gateway.waiting import wait

log = structlog.get_logger("items")

FRESH_SECONDS = 2.0
"""How old the picture may be in which another replica's pull or approval is seen."""
_SHOWN = 5
"""Paths that a refusal names."""


@dataclass(frozen=True, slots=True)
class Block:
    """Why an office takes an item no more: suspended (or published no more), or changed and not yet approved."""

    item: str
    region: str
    state: ItemState
    since: datetime
    paths: Sequence[str]

    @property
    def word(self) -> str:
        """Return the state as callers know it: what is published no more is suspended for them."""
        return "changed" if self.state is ItemState.CHANGED else "suspended"

    @property
    def changed(self) -> list[str]:
        """Return what changed, as the vocabulary names it, each once."""
        return list(dict.fromkeys(map(general, self.paths)))


class ItemBlocks:
    """The picture of one process."""

    def __init__(self, store: Store, regions: Mapping[str, Region], clock: Clock, metrics: Metrics) -> None:
        self.regions: Collection[str] = frozenset(regions)
        self._publishing = frozenset(r.id for r in regions.values() if r.adapter.catalogue is not None)
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._blocks: Mapping[tuple[str, str], Block] = {}

    def of(self, item: str, region: str) -> Block | None:
        """Return why this office takes the item no more; None when it does."""
        return self._blocks.get((item, region))

    def refuse_blocked(self, item: str, region: str) -> None:
        """Raise NotOffered (`submission.item_suspended`, `submission.item_changed`) when the office is blocked."""
        block = self.of(item, region)
        if block is not None:
            raise refusal(block)

    async def refresh(self) -> None:
        """Look into the store. Raises Unavailable, and then the picture stays."""
        rows, pulls = await self._store.read(_look)
        blocks = [_block(row) for row in rows if row.region in self._publishing]
        self._blocks = {(block.item, block.region): block for block in blocks}
        now = self._clock()
        for region in self._publishing:
            pull = pulls.get(region)
            self._metrics.items_blocked(region, sum(block.region == region for block in blocks))
            self._metrics.items_unreadable(region, pull.unreadable if pull else 0)
            at = pull.pulled_at if pull else None
            self._metrics.item_snapshot_age(region, float("inf") if at is None else (now - at).total_seconds())

    async def keep_fresh(self, stopping: asyncio.Event) -> None:
        """Look again and again until told to stop."""
        while self._publishing and not stopping.is_set():
            try:
                await self.refresh()
            except GatewayError as error:
                log.warning("blocked items not looked at", code=error.stable_code, detail=error.detail)
            await wait(stopping, FRESH_SECONDS)


def refuse_blocked(tx: Connection, item: str, region: str) -> None:
    """Refuse as `ItemBlocks.refuse_blocked` does, by what is on record now. Part of the caller's transaction."""
    for row in snapshots.blocked(tx):
        if (row.item_code, row.region) == (item, region):
            raise refusal(_block(row))


def refusal(block: Block) -> NotOffered:
    """Return the refusal that a block gives, with the reason and since when."""
    since = block.since.isoformat(timespec="seconds").replace("+00:00", "Z")
    if block.state is ItemState.CHANGED:
        what = ", ".join(block.changed[:_SHOWN]) or "it was suspended meanwhile"
        text = f"Region {block.region} changed this item; it is taken again when the operator has approved the change."
        problem = FieldProblem("place", f"changed the item, seen {since}: {what}", "item_changed")
        return NotOffered(text, problems=[problem], code="submission.item_changed", region=block.region)
    gone = block.state is ItemState.GONE
    did = "publishes this item no more" if gone else "has suspended this item"
    problem = FieldProblem("place", f"{did}, seen {since}", "item_suspended")
    text = f"Region {block.region} {did}. Another place of the item may take it."
    return NotOffered(text, problems=[problem], code="submission.item_suspended", region=block.region)


def _look(tx: Connection) -> tuple[list[Row[Any]], dict[str, Row[Any]]]:
    return snapshots.blocked(tx), snapshots.pulls(tx)


def _block(row: Row[Any]) -> Block:
    return Block(row.item_code, row.region, ItemState(row.state), row.since, row.paths)
