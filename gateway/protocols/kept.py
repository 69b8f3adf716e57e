"""What a region publishes and we rely on (keys, metadata): fetched when it is needed, kept, confirmed again.

Owns: how long what was fetched is believed without asking, what happens while the region cannot be asked, and that many
who need it at once cause one fetch. Leaves to the caller what is fetched and what makes it acceptable: a fetch that
raises RegionError changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from gateway.errors import RegionError, RegionUnreachable
from gateway.ports import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Terms:
    """For how long something is believed.

    After `fresh` it is fetched again. While that fails it is believed until `stale`, and then no longer: nobody is
    signed on by keys that may have been withdrawn meanwhile. `pause` lies between two fetches while we hold something:
    tokens with made-up key ids must not turn us against the region.
    """

    fresh: timedelta
    stale: timedelta
    pause: timedelta


class Kept(Generic[T]):
    """The last good state of something that a region publishes; it is replaced as a whole."""

    def __init__(self, region: str, what: str, fetch: Callable[[], Awaitable[T]], terms: Terms, clock: Clock) -> None:
        self._region = region
        self._what = what
        self._fetch = fetch
        self._terms = terms
        self._clock = clock
        self._lock = asyncio.Lock()
        self._held: tuple[T, datetime] | None = None
        self._tried_at: datetime | None = None
        self._rounds = 0
        self._failure = ""

    def confirmed_at(self) -> datetime | None:
        """Return when the region last confirmed this; None while it never did."""
        return self._held[1] if self._held else None

    async def current(self) -> T:
        """Return what can be relied on now. Raises RegionUnreachable when there is nothing that is young enough."""
        if self._younger_than(self._terms.fresh) is None:
            await self._refresh()
        return self._believable()

    async def again(self) -> T:
        """Return what the region says now, unless it was asked a moment ago. Raises as `current`."""
        await self._refresh()
        return self._believable()

    async def _refresh(self) -> None:
        """Fetch, or share the outcome of the fetch that is under way."""
        rounds = self._rounds
        async with self._lock:
            now = self._clock()
            if self._rounds != rounds or self._pauses(now):
                return
            self._tried_at = now
            try:
                self._held = (await self._fetch(), now)
            except RegionError as failure:
                self._failure = f"{failure.public} {failure.detail}".strip()
            self._rounds += 1  # not when it was cancelled: the next who waits fetches then

    def _pauses(self, now: datetime) -> bool:
        asked_lately = self._tried_at is not None and now - self._tried_at < self._terms.pause
        return asked_lately and self._younger_than(self._terms.stale) is not None

    def _believable(self) -> T:
        held = self._younger_than(self._terms.stale)
        if held is None:
            text = f"{self._region} could not be asked for its {self._what}"
            raise RegionUnreachable(text, detail=self._failure, region=self._region)
        return held[0]

    def _younger_than(self, age: timedelta) -> tuple[T, datetime] | None:
        return self._held if self._held is not None and self._clock() - self._held[1] < age else None
