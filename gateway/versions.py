"""Which version of the mappings is in use, and which one a case began with.

Owns: reload and rollback, each as a whole or not at all, one after the other, with evidence; finding the set that a
case is pinned to, in memory or in the store. Leaves to `gateway.mapping.library`: holding what is in use. To
`gateway.packs_kept`: the rows. Whatever compiles runs in a thread: it may take a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any
from zipfile import BadZipFile

import structlog
from sqlalchemy import Connection

from gateway import packs_kept
from gateway.errors import Conflict, GatewayError, MappingsRefused, StartRefused
from gateway.evidence import Exchange, record
from gateway.evidence.record import refusal
from gateway.mapping.library import Change, Edition, Library, PackSet, changes, restored
from gateway.mapping.packs import Notice
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.telemetry import Metrics

log = structlog.get_logger("versions")

Sets = Mapping[str, PackSet]
Read = Callable[[], Sets]
"""Reads the mappings folder as it is now, for every enabled region. Raises StartRefused with all that is wrong."""

UNPINNED = ""
"""The version of a case that goes out with whatever is in use then."""

_PURPOSE = "operation"


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is to be done, the word for it when it is, and who asked."""

    action: str
    done: str
    who: Mapping[str, str]


class Versions:
    """Changes what is in use, and finds what a case began with."""

    def __init__(
        self, *, library: Library, read: Read, store: Store, clock: Clock, metrics: Metrics, notice: Notice
    ) -> None:
        self._library = library
        self._read = read
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._notice = notice
        self._changing = asyncio.Lock()
        self._loading = asyncio.Lock()
        self._unusable: set[tuple[str, str]] = set()

    # --- what is in use --------------------------------------------------------------------------------------------

    @property
    def current(self) -> Edition:
        """What is in use, region by region."""
        return self._library.current

    @property
    def previous(self) -> Edition | None:
        """What a rollback would put in use."""
        return self._library.previous

    async def keep(self) -> None:
        """Write down what is in use, before any case can be pinned to it."""
        await self._store.write(partial(packs_kept.keep, sets=self._at_hand(), now=self._clock()))
        self._show()

    async def tidy(self) -> None:
        """Write down that what is in use still is, and forget what nobody needs any more."""
        gone = await self._store.write(partial(_tidy, sets=self._at_hand(), now=self._clock()))
        if gone:
            log.info("mappings forgotten", sets=gone)

    def _at_hand(self) -> list[PackSet]:
        """What is in use here, and what a rollback would put in use."""
        return [used.packs for edition in (self.current, self.previous or {}) for used in edition.values()]

    def _show(self) -> None:
        for region, used in self.current.items():
            self._metrics.mapping_set(region, used.packs.version)

    # --- changing it -----------------------------------------------------------------------------------------------

    async def reload(self, who: Mapping[str, str]) -> Sequence[Change]:
        """Take the mappings folder as it is now, and return what changed.

        Raises MappingsRefused with everything that is wrong; then nothing has changed.
        """
        return await self._change(_Turn("mapping.reload", "reloaded", who), self._as_on_disk)

    async def rollback(self, who: Mapping[str, str]) -> Sequence[Change]:
        """Put in use what was in use before, and return what changed. A second one undoes the first.

        Raises Conflict when nothing else was in use since this process began.
        """
        return await self._change(_Turn("mapping.rollback", "rolled_back", who), self._as_before)

    async def _change(self, turn: _Turn, wanted: Callable[[], Awaitable[Sets]]) -> Sequence[Change]:
        """Change what is in use, one turn after the other; count how it went."""
        outcome = "failed"  # unless something more is known below
        async with self._changing:
            begun = self._clock()
            try:
                sets = await wanted()
                found = changes(self.current, sets)
                word = turn.done if found else "unchanged"
                await self._put_in_use(sets, _exchange(turn, word, self.current, sets, begun))
                outcome = word
            except (MappingsRefused, Conflict) as error:
                outcome = "refused"
                await self._note_refusal(turn, error, begun)
                raise
            finally:
                self._metrics.mapping_reload(outcome)
        log.info("mappings taken", action=turn.action, outcome=outcome, changes=[asdict(one) for one in found])
        return found

    async def _as_on_disk(self) -> Sets:
        try:
            return await asyncio.to_thread(self._read)
        except StartRefused as refused:
            text = "The mapping files have faults; what was in use stays in use."
            raise MappingsRefused(text, problems=refused.problems) from refused

    async def _as_before(self) -> Sets:
        if self.previous is None:
            text = "Since this process began, no other version of the mappings was in use."
            raise Conflict(text, code="mapping.no_previous")
        return {region: used.packs for region, used in self.previous.items()}

    async def _put_in_use(self, sets: Sets, exchange: Exchange) -> None:
        """Write it down, then do it: a case that is pinned to one of these sets must find it on record."""
        new = [packs for packs in sets.values() if self._library.find(packs.region, packs.version) is None]
        ready = await asyncio.to_thread(packs_kept.archives, new)
        now = self._clock()

        def unit(tx: Connection) -> str:
            packs_kept.keep(tx, sets.values(), now, ready)
            return record(tx, exchange, now=now)

        await self._store.write(unit)
        self._library.take(sets, now)
        self._show()

    async def _note_refusal(self, turn: _Turn, error: GatewayError, begun: datetime) -> None:
        told = [{"field": problem.field, "reason": problem.reason} for problem in error.problems]
        log.error("mappings refused", action=turn.action, code=error.stable_code, problems=told)
        exchange = refusal(
            error, action=turn.action, who=turn.who, what=_what(self.current, {}), purpose=_PURPOSE, received_at=begun
        )
        error.evidence = await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))

    # --- what a case began with ------------------------------------------------------------------------------------

    async def pinned(self, region: Region, version: str) -> PackSet:
        """Return the set that a case is pinned to; the one in use when it is not on record any more."""
        if version == UNPINNED:
            return region.packs.now()
        found = await self.find(region.id, version)
        if found is None:
            log.warning("mapping not on record", region=region.id, version=version)
            return region.packs.now()
        return found

    async def find(self, region: str, version: str) -> PackSet | None:
        """Return a set by its version, from memory or from the store; None when it cannot be had."""
        found = self._library.find(region, version)
        if found is not None or (region, version) in self._unusable:
            return found
        async with self._loading:
            found = self._library.find(region, version)  # somebody else may have loaded it meanwhile
            return await self._load(region, version) if found is None else found

    async def on_record(self, region: str, limit: int) -> Sequence[str]:
        """Return the versions of a region's sets that are on record, those that came last first."""
        return await self._store.read(partial(packs_kept.on_record, region=region, limit=limit))

    async def _load(self, region: str, version: str) -> PackSet | None:
        kept = await self._store.read(partial(packs_kept.find, region=region, version=version))
        if not kept:
            return None
        try:
            found = await asyncio.to_thread(self._restored, region, version, kept)
        except (StartRefused, BadZipFile) as error:  # kept by a release that spoke another dialect of the rules
            log.warning("kept mapping cannot be compiled", region=region, version=version, reason=str(error))
            self._unusable.add((region, version))
            return None
        self._library.remember(found)
        return found

    def _restored(self, region: str, version: str, kept: Mapping[str, tuple[str, bytes]]) -> PackSet:
        """Compile what is not in use as it is."""
        at_hand = {(message, pack.version): pack for message, pack in self.current[region].packs.items()}
        wanted = {
            message: at_hand.get((message, own)) or packs_kept.unpacked(files) for message, (own, files) in kept.items()
        }
        return restored(region, version, wanted, notice=self._notice)


def _tidy(tx: Connection, sets: Sequence[PackSet], now: datetime) -> int:
    packs_kept.keep(tx, sets, now)
    return packs_kept.forget(tx, now)


def _exchange(turn: _Turn, word: str, before: Edition, sets: Sets, begun: datetime) -> Exchange:
    return Exchange(
        action=turn.action,
        outcome="done",
        reason=word,
        who=turn.who,
        what=_what(before, sets),
        purpose=_PURPOSE,
        received_at=begun,
    )


def _what(before: Edition, sets: Sets) -> dict[str, Any]:
    """Say which set of each region was in use, and which one took its place."""
    old = {region: used.packs.version for region, used in before.items()}
    new = {region: packs.version for region, packs in sets.items() if packs.version != old.get(region)}
    return {"before": old, "after": new}
