"""Reading what a region reports, with the mappings that the case it is about began with.

Owns: which version of the event pack reads an event. The one in use reads it first, because only a reading tells which
case it is about; when that case is pinned to another version, that one has the word. Leaves to `inbox`: taking events
over. To `events`: what an event means for its case.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import orjson
import structlog
from sqlalchemy import Connection, select

from gateway.errors import FieldProblem, GatewayError
from gateway.mapping.library import PackSet
from gateway.mapping.unknown import is_unknown
from gateway.ports import RegionDocument
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import submissions
from gateway.versions import UNPINNED

log = structlog.get_logger("inbox")

EVENT = "event"
MOST_SETS = 16
"""Sets on record that are tried on an event which the one in use cannot read."""


class Kept(Protocol):
    """Where the sets that cases are pinned to are to be had."""

    async def find(self, region: str, version: str, /) -> PackSet | None:
        """Return a set by its version; None when it cannot be had."""
        ...

    async def on_record(self, region: str, limit: int, /) -> Sequence[str]:
        """Return the versions of a region's sets, those that came last first."""
        ...


class _NothingKept:
    """Where there is no other version than the one in use."""

    async def find(self, _region: str, _version: str) -> PackSet | None:
        return None

    async def on_record(self, _region: str, _limit: int) -> Sequence[str]:
        return ()


NOTHING_KEPT = _NothingKept()


@dataclass(frozen=True, slots=True)
class Reading:
    """One event as it came, and what it says; or, when it cannot be read, which of its fields are wrong."""

    raw: bytes
    event: Mapping[str, Any] | None
    problems: Sequence[FieldProblem] = ()


class EventReader:
    """Reads events, each with the version that its case is pinned to."""

    def __init__(self, store: Store, kept: Kept) -> None:
        self._store = store
        self._kept = kept

    async def read(self, region: Region, documents: Sequence[RegionDocument]) -> list[Reading]:
        """Return one reading for each event, in their order."""
        packs = region.packs.now()
        first = [(document, _read(packs, document)) for document in documents]
        pins = await self._pins(region.id, [str(r.event["submission_id"]) for _, r in first if r.event])
        return [await self._settled(packs, document, reading, pins) for document, reading in first]

    async def _settled(
        self, packs: PackSet, document: RegionDocument, reading: Reading, pins: Mapping[str, str]
    ) -> Reading:
        """Return the reading that counts."""
        if reading.event is None:
            return await self._by_an_earlier_one(packs, document) or reading
        case = str(reading.event["submission_id"])
        version = pins.get(case, UNPINNED)
        if version in (UNPINNED, packs.version):
            return reading
        pinned = await self._kept.find(packs.region, version)
        if pinned is None or _same(pinned, packs):
            return reading
        other = _read(pinned, document)
        # A region may speak the new form of old cases too, or use a code that was put into the tables since: what only
        # the version in use can read is not lost for that.
        said_of_it = other.event is not None and other.event["submission_id"] == case
        return other if said_of_it and _unknown(other) <= _unknown(reading) else reading

    async def _by_an_earlier_one(self, packs: PackSet, document: RegionDocument) -> Reading | None:
        """Return what a version on record reads, when the case is pinned to that very version."""
        for version in await self._kept.on_record(packs.region, MOST_SETS):
            older = await self._kept.find(packs.region, version)
            if older is None or _same(older, packs):
                continue
            reading = _read(older, document)
            if reading.event is not None:
                case = str(reading.event["submission_id"])
                if (await self._pins(packs.region, [case])).get(case) in (version, UNPINNED):
                    return reading
        return None

    async def _pins(self, region: str, cases: Collection[str]) -> Mapping[str, str]:
        return await self._store.read(partial(_pins, region=region, cases=cases)) if cases else {}


def _pins(tx: Connection, region: str, cases: Collection[str]) -> dict[str, str]:
    """Return the versions that these cases of a region are pinned to."""
    c = submissions.c
    query = select(c.id, c.mapping_version).where(c.id.in_(cases), c.handling_region == region)
    return {row.id: row.mapping_version for row in tx.execute(query)}


def _read(packs: PackSet, document: RegionDocument) -> Reading:
    try:
        return Reading(_raw(document), packs.need(EVENT).to_canonical(document))
    except GatewayError as error:
        return Reading(_raw(document), None, error.problems)
    except Exception:  # a defect of a converter must not have the region send it for ever, nor stop its feed
        log.exception("event cannot be read unexpectedly", region=packs.region)
        return Reading(_raw(document), None, [FieldProblem("(event)", "cannot be read here", "unreadable")])


def _unknown(reading: Reading) -> int:
    """Return how many codes of an event nobody knew."""
    event = reading.event or {}
    return sum(is_unknown(code) for code in (event.get("state"), (event.get("result") or {}).get("code")))


def _same(one: PackSet, other: PackSet) -> bool:
    """Say whether two sets read events alike."""
    return EVENT not in one or (EVENT in other and one[EVENT].version == other[EVENT].version)


def _raw(document: RegionDocument) -> bytes:
    return document if isinstance(document, bytes) else orjson.dumps(document)
