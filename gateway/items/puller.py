"""The regions' catalogues, pulled on a schedule.

Owns: when a region is asked, that one replica at a time does it, reading what it publishes, and the transaction that
writes it down with its evidence. Leaves to `snapshots` what becomes of each item, to `blocks` what is known of it
beside the requests. A region that cannot be asked keeps its last snapshot and is asked again soon.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn

import structlog
from sqlalchemy import Connection, select, update

from gateway.domain.calendar import local_day
from gateway.domain.item import Item
from gateway.domain.published import BLOCKING, digest
from gateway.errors import Conflict, GatewayError, NotFound, NotOffered, RegionUncertain
from gateway.evidence import Exchange, record
from gateway.items.blocks import ItemBlocks
from gateway.items.snapshots import Entry, Found, take
from gateway.mapping.packs import Pack
from gateway.ports import Clock, RegionDocument
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import item_pulls
from gateway.telemetry import Metrics
from gateway.waiting import wait

log = structlog.get_logger("items")

LEASE = timedelta(minutes=5)
"""For how long a replica that asks keeps the others from asking; after that its answer is not taken any more."""
LOOK_SECONDS = 5.0
"""How often it is looked whether a region is due."""
_AT_A_TIME = 10
"""Entries that are read before other work gets its turn: a province publishes tens of thousands."""
_SHOWN = 50
"""Codes of each kind that a row of evidence names; the rest is counted."""
_LONGEST_CODE = 64
"""Characters of an item's code that a row has room for; the standard has 33."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long after a pull a region is asked again: after one that went well, and after one that did not."""

    well: timedelta
    failed: timedelta


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull found: how many entries, how many that cannot be read, and what is otherwise than before."""

    region: str
    entries: int
    unreadable: int
    found: Sequence[Found]


class Puller:
    """Asks the regions what they publish."""

    def __init__(
        self,
        *,
        store: Store,
        regions: Mapping[str, Region],
        items: Mapping[str, Item],
        blocks: ItemBlocks,
        schedule: Schedule,
        clock: Clock,
        metrics: Metrics,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._regions = {region.id: region for region in regions.values() if region.adapter.catalogue is not None}
        self._known = {region: frozenset(c for c, i in items.items() if i.office(region)) for region in self._regions}
        self._blocks = blocks
        self._schedule = schedule
        self._clock = clock
        self._metrics = metrics
        self._chance = chance
        self._owner = secrets.token_hex(8)

    async def run(self, stopping: asyncio.Event) -> None:
        """Pull whatever is due until told to stop; trouble is logged, and the next look comes as usual."""
        while self._regions and not stopping.is_set():
            try:
                await self.pull_due()
            except GatewayError as error:  # the store is away
                log.warning("catalogues not looked at", code=error.stable_code, detail=error.detail)
            await wait(stopping, LOOK_SECONDS)

    async def pull_due(self) -> list[Pulled]:
        """Pull every region that is due, and return those that answered. One that fails holds up no other."""
        due = await self._store.read(partial(_due, regions=sorted(self._regions), now=self._clock()))
        pulled = await asyncio.gather(*(self._pull_quietly(region) for region in due))
        return [one for one in pulled if one is not None]

    async def _pull_quietly(self, region: str) -> Pulled | None:
        try:
            return await self._pull(region, by_order=False)
        except GatewayError as error:
            log.warning("catalogue not read", region=region, code=error.stable_code, detail=error.detail)
            return None

    async def pull(self, region: str) -> Pulled:
        """Pull a region now, by an operator's order.

        Raises NotFound, NotOffered, RegionError; Conflict while another pull of this region is under way.
        """
        if region not in self._regions:
            self._refuse(region)
        pulled = await self._pull(region, by_order=True)
        if pulled is None:
            text = f"The catalogue of {region} is being pulled already; look again in a moment."
            raise Conflict(text, code="item.pull_under_way", region=region)
        return pulled

    def _refuse(self, region: str) -> NoReturn:
        if region not in self._blocks.regions:
            raise NotFound(f"No region {region[:32]!r} is enabled here.", code="region.unknown")
        raise NotOffered(f"Region {region} publishes no items.", region=region)

    async def _pull(self, region: str, *, by_order: bool) -> Pulled | None:
        """Pull one region; None when it is not this replica's turn."""
        held = await self._store.write(partial(self._hold, region=region, by_order=by_order))
        if held is None:
            return None
        asked_at = self._clock()
        try:
            entries, unreadable = await self._read(self._regions[region])
        except GatewayError as error:
            await self._store.write(partial(self._failed, region=region, held=held, code=error.stable_code))
            raise
        pulled = await self._store.write(
            partial(self._take, region=region, held=held, entries=entries, unreadable=unreadable, asked_at=asked_at)
        )
        if pulled is not None:
            self._tell(pulled)
            await self._blocks.refresh()
        return pulled

    def _tell(self, pulled: Pulled) -> None:
        for found in pulled.found:
            self._metrics.item_change(pulled.region, found.kind)
            if found.kind in BLOCKING:
                paths = list(found.paths[:_SHOWN])
                log.warning("item blocked", region=pulled.region, item=found.code, state=found.kind, paths=paths)
        log.info("catalogue pulled", region=pulled.region, entries=pulled.entries, found=len(pulled.found))

    # --- what a region says --------------------------------------------------------------------------------------

    async def _read(self, region: Region) -> tuple[dict[str, Entry], int]:
        """Return the entries by code, and how many cannot be read. Raises RegionError."""
        if region.adapter.catalogue is None:
            raise NotOffered(f"Region {region.id} publishes no items.", region=region.id)
        documents = await region.adapter.catalogue.items()
        if not documents:
            text = f"Region {region.id} says that it publishes no item at all."
            raise RegionUncertain(text, region=region.id, code="item.empty_catalogue")
        pack = region.packs.now().need("item")
        entries: dict[str, Entry] = {}
        unreadable = 0
        for number, document in enumerate(documents, 1):
            entry = _entry(region.id, pack, document)
            if entry is None:
                unreadable += 1
            elif _is_newer(entry, entries.get(entry.code)):
                entries[entry.code] = entry
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)  # others have their turn
        return entries, unreadable

    # --- units -----------------------------------------------------------------------------------------------------

    def _hold(self, tx: Connection, *, region: str, by_order: bool) -> datetime | None:
        """Return until when this replica may ask the region; None when it is not due or another one asks."""
        now = self._clock()
        row = {"region": region, "owner": "", "lease_until": now, "due": now, "entries": 0, "unreadable": 0}
        tx.execute(insert_into(tx, item_pulls).values(row).on_conflict_do_nothing())
        c = item_pulls.c
        free = [c.region == region, c.lease_until <= now, *([] if by_order else [c.due <= now])]
        values = {"owner": self._owner, "lease_until": now + LEASE, "tried_at": now}
        held = tx.execute(update(item_pulls).where(*free).values(values)).rowcount == 1
        return now + LEASE if held else None

    def _let_go(self, tx: Connection, region: str, held: datetime, values: Mapping[str, Any], after: timedelta) -> bool:
        """Give the region back, fenced by owner and lease; False when another replica has taken over."""
        now = self._clock()
        c = item_pulls.c
        mine = (c.region == region, c.owner == self._owner, c.lease_until == held)
        due = now + after * (0.9 + 0.2 * self._chance())  # or all replicas and regions would march in step
        settled = update(item_pulls).where(*mine).values({"lease_until": now, "due": due, **values})
        return tx.execute(settled).rowcount == 1

    def _failed(self, tx: Connection, *, region: str, held: datetime, code: str) -> None:
        self._let_go(tx, region, held, {"last_code": code}, self._schedule.failed)

    def _take(
        self, tx: Connection, *, region: str, held: datetime, entries: Mapping[str, Entry], unreadable: int,
        asked_at: datetime,
    ) -> Pulled | None:  # fmt: skip
        """Write a snapshot down as a whole, with its evidence."""
        now = self._clock()
        told = {"pulled_at": now, "entries": len(entries), "unreadable": unreadable, "last_code": None}
        if not self._let_go(tx, region, held, told, self._schedule.well):
            return None
        found = take(tx, region, entries, self._known[region], now, local_day(now))
        if found:
            record(tx, _exchange(region, entries, unreadable, found, asked_at, now), now=now)
        return Pulled(region, len(entries), unreadable, found)


def _due(tx: Connection, regions: Sequence[str], now: datetime) -> list[str]:
    """Return the regions that may be asked now: those that never were, and those whose time has come."""
    waiting = select(item_pulls.c.region).where((item_pulls.c.due > now) | (item_pulls.c.lease_until > now))
    not_yet = frozenset(tx.execute(waiting).scalars())
    return [region for region in regions if region not in not_yet]


def _entry(region: str, pack: Pack, document: RegionDocument) -> Entry | None:
    """Read one entry; None when it cannot be read. It must not stop the others, and what it hides counts as gone."""
    try:
        read = pack.to_canonical(document)
    except GatewayError as error:
        log.warning("item cannot be read", region=region, code=error.stable_code, fields=error.fields())
        return None
    code = str(read["code"])
    if not 1 <= len(code) <= _LONGEST_CODE:
        log.warning("item cannot be read", region=region, code="item.code", fields=["code"])
        return None
    return Entry(code, read, digest(read))


def _is_newer(entry: Entry, other: Entry | None) -> bool:
    """Of two entries with one code the one that was touched last counts, whatever their order."""
    if other is None:
        return True
    return (str(entry.document["updated_at"]), entry.hash) > (str(other.document["updated_at"]), other.hash)


def _exchange(
    region: str,
    entries: Mapping[str, Entry],
    unreadable: int,
    found: Sequence[Found],
    asked_at: datetime,
    now: datetime,
) -> Exchange:
    kinds: dict[str, list[str]] = {}
    for one in found:
        kinds.setdefault(one.kind, []).append(one.code)
    named = {kind: {"count": len(codes), "items": codes[:_SHOWN]} for kind, codes in kinds.items()}
    return Exchange(
        action="items.pull",
        outcome="done",
        reason="pulled",
        who={"region": region},
        what={"region": region, "entries": len(entries), "unreadable": unreadable, **named},
        purpose="what can be applied for",
        received_at=now,
        forwarded_at=asked_at,
        answered_at=now,
        parts={f"item.{one.code}": entries[one.code].hash.encode() for one in found[:_SHOWN] if one.code in entries},
    )
