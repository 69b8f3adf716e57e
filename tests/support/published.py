"""A region that publishes items, in its own form by its real mappings, and the replicas that watch it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
from prometheus_client import CollectorRegistry

from gateway.domain.identity import Assurance
from gateway.domain.item import Item, Office
from gateway.errors import GatewayError
from gateway.items.approvals import Approvals
from gateway.items.blocks import ItemBlocks
from gateway.items.puller import Puller, Schedule
from gateway.mapping import load_packs
from gateway.mapping.library import PackSet
from gateway.ports import Adapter, Clock, RegionDocument
from gateway.regions import Region
from gateway.storage import Store
from gateway.telemetry import Metrics

HOUSE = Path(__file__).resolve().parents[2]
REGION = "guangdong"
FILED = "11440100MBT40100XX3442011899001"
"""An item of our file with an office in the region."""
OTHER = "11440100MBT40100XX3442011899002"
"""Another one."""
FOREIGN = "11440100MBT40100XX3442011899099"
"""An item that our file does not know."""
HOUR = 3600.0


@cache
def packs(folder: str = REGION) -> PackSet:
    """Return a region's real mappings, read once for all tests."""
    return PackSet.of(folder, load_packs(HOUSE / "mappings", folder))


def example(folder: str = REGION) -> dict[str, Any]:
    """Return an entry that uses every field, in our own words."""
    path = HOUSE / "mappings" / folder / "item" / "examples" / "full.canonical.json"
    found: dict[str, Any] = orjson.loads(path.read_bytes())
    return found


def entry(code: str = FILED, **changes: Any) -> dict[str, Any]:
    """Return a published entry in our own words."""
    return {**example(), "code": code, **changes}


@dataclass
class FakeCatalogue:
    """What a region publishes; `error` is raised instead, `gate` holds every answer back until it is opened."""

    folder: str = REGION
    entries: Sequence[Mapping[str, Any]] = ()
    more: Sequence[RegionDocument] = ()
    error: GatewayError | None = None
    gate: asyncio.Event | None = None
    asked: int = 0

    async def items(self) -> Sequence[RegionDocument]:
        """Answer as the region would, in its own form."""
        self.asked += 1
        told = [packs(self.folder).need("item").to_region(one) for one in self.entries]
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [*told, *self.more]


def item(code: str, *regions: str) -> Item:
    """Return an item of our file with offices in these regions."""
    offices = [Office(region, "440000", 1, 2, "G") for region in regions]
    return Item(code, {"zh-CN": code, "en": code}, "测试", ["online"], Assurance.A2, [], [], offices)


ITEMS = {code: item(code, REGION, "foshan") for code in (FILED, OTHER)}


@dataclass
class Watch:
    """One replica: what it pulls, what it blocks, what its operators decide."""

    puller: Puller
    blocks: ItemBlocks
    approvals: Approvals
    registry: CollectorRegistry
    catalogue: FakeCatalogue = field(default_factory=FakeCatalogue)

    def figure(self, name: str, **labels: str) -> float | None:
        """Return a figure for the region."""
        return self.registry.get_sample_value(name, {"region": REGION, **labels})


def watch(
    store: Store,
    clock: Clock,
    catalogue: FakeCatalogue | None,
    items: Mapping[str, Item] = ITEMS,
    chance: Callable[[], float] = lambda: 0.5,
) -> Watch:
    """Return a replica over a store, with one region that publishes (or does not), and one that never does."""
    folder = catalogue.folder if catalogue else REGION
    publishing = SimpleNamespace(id=REGION, packs=packs(folder), adapter=Adapter(catalogue=catalogue))
    silent = SimpleNamespace(id="foshan", packs=packs(), adapter=Adapter())
    regions = cast("Mapping[str, Region]", {one.id: one for one in (publishing, silent)})
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    blocks = ItemBlocks(store, regions, clock, metrics)
    schedule = Schedule(timedelta(seconds=HOUR), timedelta(seconds=300))
    puller = Puller(
        store=store, regions=regions, items=items, blocks=blocks, schedule=schedule, clock=clock, metrics=metrics,
        chance=chance,
    )  # fmt: skip
    return Watch(
        puller, blocks, Approvals(store, items, regions, blocks, clock), registry, catalogue or FakeCatalogue()
    )
