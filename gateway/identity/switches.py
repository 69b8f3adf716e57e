"""Closing a region's sign-on at once, and opening it again (停用与恢复).

Owns: the switch of each region, what closing cuts off, and the preview of it. Leaves to `logout` the end of the
sessions, to `health` what the chooser shows. A closed region signs nobody on; its deliveries are another matter.

Whoever makes a session locks the switch of its region (`is_open`), and whoever closes changes it first: a session is
either there when the region closes, and ends, or is not made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select, update

from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.evidence import Exchange, record
from gateway.identity.logout import Logouts, Order
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import region_switches, sign_on_interactions, sign_on_sessions, token_families

FRESH = timedelta(seconds=2)
"""How old the picture may be that another process's switch is seen by."""
LONGEST_REASON = 128
"""Characters that a row of evidence has room for."""
LONGEST_NAME = 54
"""Characters of an operator's name: with the word before it, it stands in a column of 64."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What closing a region cuts off: numbers, and clients, and no person.

    `by_client` counts the live sessions that each client holds something of.
    """

    sessions: int
    interactions: int
    by_client: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Switch:
    """The state of one region's switch."""

    region: str
    closed: bool
    reason: str
    changed_by: str
    changed_at: datetime | None


class ClosedRegions:
    """Which regions are closed, and since when the others are open, as it was a moment ago at most."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: tuple[datetime, Mapping[str, Switch]] | None = None

    async def is_closed(self, region: str) -> bool:
        """Say whether a region is closed."""
        switch = (await self._switches()).get(region)
        return switch is not None and switch.closed

    async def openings(self) -> Mapping[str, str]:
        """Return for each region that is open the mark of its opening; every turn of its switch makes it another.

        Whoever keeps the mark can tell later whether the region was closed meanwhile. Marks are compared for being the
        same, never for their order: clocks of replicas differ.
        """
        switches = (await self._switches()).values()
        return {one.region: one.changed_at.isoformat() for one in switches if one.changed_at and not one.closed}

    async def _switches(self) -> Mapping[str, Switch]:
        """Return every switch. What this process did is seen at once, what others did within two seconds."""
        now = self._clock()
        if self._seen is None or not timedelta() <= now - self._seen[0] < FRESH:
            self._seen = now, await self._store.read(_switches)
        return self._seen[1]

    def look_again(self) -> None:
        """Forget the picture: a switch was turned."""
        self._seen = None


class RegionSwitches:
    """The kill switch of every enabled region."""

    def __init__(
        self, regions: Collection[str], seen: ClosedRegions, store: Store, logouts: Logouts, clock: Clock
    ) -> None:
        self._regions = regions
        self._seen = seen
        self._store = store
        self._logouts = logouts
        self._clock = clock

    async def prepare(self) -> None:
        """Give every region a switch: one that is not there cannot be locked.

        Sessions of a region that was taken out of the configuration end, with all that services got by them; its
        opening gets another mark, so that nothing that rests on it comes back with the region.
        """
        await self._store.write(partial(_prepare, regions=sorted(self._regions), now=self._clock()))
        await self._store.write(partial(_mark_gone, regions=sorted(self._regions), now=self._clock()))
        gone = sign_on_sessions.c.region.not_in(sorted(self._regions))
        await self._logouts.end(Order((gone,), "start", tell_region=False))

    async def all(self) -> list[Switch]:
        """Return the switch of every enabled region."""
        known = await self._store.read(_switches)
        return [known.get(region, Switch(region, False, "", "", None)) for region in sorted(self._regions)]

    async def preview(self, region: str) -> Cut:
        """Say what closing would cut off, and change nothing. Raises NotFound."""
        self._known(region)
        return await self._store.read(partial(_would_cut, region=region, now=self._clock()))

    async def close(self, region: str, reason: str, operator: str) -> Cut:
        """Close a region: one transaction turns the switch, stops sign-ons and ends sessions, and is evidence.

        Raises NotFound, InvalidRequest, or Conflict when it is closed already.
        """
        change = self._change(region, reason, operator)
        cut = await self._store.write(partial(self._close, change=change))
        self._seen.look_again()
        self._logouts.nudge()
        return cut

    async def open(self, region: str, reason: str, operator: str) -> None:
        """Open a region again. Nothing comes back that was cut off. Raises as `close` does."""
        change = self._change(region, reason, operator)
        await self._store.write(partial(_open, change=change))
        self._seen.look_again()

    def _close(self, tx: Connection, change: _Change) -> Cut:
        _turn(tx, change, closed=True)
        cut = _would_cut(tx, change.region, change.now)
        stopped = sign_on_interactions.c.region == change.region
        nowhere = {"region": None, "state_hash": None, "memory": None}
        tx.execute(update(sign_on_interactions).where(stopped).values(nowhere))
        order = Order((sign_on_sessions.c.region == change.region,), change.by, tell_region=False)
        self._logouts.begin(tx, order, change.now)
        record(tx, _turned(change, "region.close", asdict(cut)), now=change.now)
        return cut

    def _change(self, region: str, reason: str, operator: str) -> _Change:
        self._known(region)
        if not 1 <= len(reason) <= LONGEST_REASON:
            raise InvalidRequest(f"The reason must have 1 to {LONGEST_REASON} characters.")
        return _Change(region, reason, f"operator:{operator[:LONGEST_NAME]}", self._clock())

    def _known(self, region: str) -> None:
        if region not in self._regions:
            raise NotFound(f"No region {region[:32]!r} is enabled here.", code="region.unknown")


@dataclass(frozen=True, slots=True)
class _Change:
    region: str
    reason: str
    by: str
    now: datetime


def is_open(tx: Connection, region: str) -> bool:
    """Say whether a region is open, and keep it so until this transaction ends."""
    switch = region_switches.c
    locked = select(switch.closed).where(switch.region == region).with_for_update(read=True)
    return not tx.execute(locked).scalar_one_or_none()


def _prepare(tx: Connection, regions: Collection[str], now: datetime) -> None:
    blank = {"closed": False, "reason": "", "changed_by": "start", "changed_at": now}
    for region in regions:
        tx.execute(insert_into(tx, region_switches).values(region=region, **blank).on_conflict_do_nothing())


def _mark_gone(tx: Connection, regions: Collection[str], now: datetime) -> None:
    """Turn the switch of what is enabled no more. A closed one stays: no session rests on it."""
    switch = region_switches.c
    gone = (switch.region.not_in(regions), switch.closed.is_(False))
    tx.execute(update(region_switches).where(*gone).values(changed_by="start", reason="", changed_at=now))


def _turn(tx: Connection, change: _Change, *, closed: bool) -> None:
    """Turn the switch first of all. Raises Conflict when it stands so already."""
    _prepare(tx, [change.region], change.now)
    values = {"closed": closed, "reason": change.reason, "changed_by": change.by, "changed_at": change.now}
    switch = region_switches.c
    other = (switch.region == change.region, switch.closed.is_(not closed))
    if tx.execute(update(region_switches).where(*other).values(values)).rowcount != 1:
        state = "closed" if closed else "open"
        raise Conflict(f"Region {change.region} is {state} already.", code="region.as_it_is", region=change.region)


def _open(tx: Connection, change: _Change) -> None:
    _turn(tx, change, closed=False)
    record(tx, _turned(change, "region.open", {}), now=change.now)


def closed_regions(tx: Connection) -> frozenset[str]:
    """Return the closed regions, as this transaction sees them."""
    return frozenset(tx.execute(select(region_switches.c.region).where(region_switches.c.closed.is_(True))).scalars())


def _switches(tx: Connection) -> dict[str, Switch]:
    found = tx.execute(select(region_switches)).mappings()
    return {row["region"]: Switch(**{name: row[name] for name in Switch.__slots__}) for row in found}


def _would_cut(tx: Connection, region: str, now: datetime) -> Cut:
    sessions, families, interactions = sign_on_sessions.c, token_families.c, sign_on_interactions.c
    live = (sessions.region == region, sessions.ended_at.is_(None), sessions.expires_at > now)
    by_client = (
        select(families.client_id, func.count(func.distinct(families.session_id)))
        .join(sign_on_sessions, families.session_id == sessions.id)
        .where(*live)
        .group_by(families.client_id)
        .order_by(families.client_id)
    )
    under_way = (interactions.region == region, interactions.expires_at > now)
    return Cut(
        sessions=tx.execute(select(func.count()).select_from(sign_on_sessions).where(*live)).scalar_one(),
        interactions=tx.execute(select(func.count()).select_from(sign_on_interactions).where(*under_way)).scalar_one(),
        by_client={str(client): int(count) for client, count in tx.execute(by_client)},
    )


def _turned(change: _Change, action: str, cut: Mapping[str, Any]) -> Exchange:
    return Exchange(
        action=action,
        outcome="done",
        reason=change.reason,
        who={"operator": change.by.partition(":")[2]},
        what={"region": change.region, **cut},
        purpose="operation",
        received_at=change.now,
    )
