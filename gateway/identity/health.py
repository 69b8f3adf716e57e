"""Whether people can sign on through a region just now, and if not, why.

Owns: the one word for it, and the refusal. Leaves to `gateway.lines` the breaker, to `switches` what operators closed,
to the adapter when the region last confirmed its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from gateway.errors import RegionClosed, TrustStale
from gateway.identity.switches import ClosedRegions
from gateway.identity.upstream import SignOnRegion
from gateway.ports import Clock

State = Literal["ok", "resting", "stale", "closed"]


def never_resting(_region: str) -> bool:
    """Stand in for the lines where there are none."""
    return False


class Health:
    """The health of every region's sign-on. `stale_after` is how old the confirmation of its keys may be."""

    def __init__(
        self,
        regions: Mapping[str, SignOnRegion],
        closed: ClosedRegions,
        clock: Clock,
        stale_after: timedelta,
        resting: Callable[[str], bool] = never_resting,
    ) -> None:
        self._regions = regions
        self._closed = closed
        self._clock = clock
        self._stale_after = stale_after
        self._resting = resting

    async def of(self, region: str) -> State:
        """Return what keeps people from signing on, the weightiest first; `ok` when nothing does."""
        if await self._closed.is_closed(region):
            return "closed"
        if self.is_stale(region):
            return "stale"
        return "resting" if self._resting(region) else "ok"

    async def openings(self) -> Mapping[str, str]:
        """Return for each region that is open the mark of its opening (`ClosedRegions.openings`)."""
        return await self._closed.openings()

    async def refuse_closed(self, region: str) -> None:
        """Raise RegionClosed. Asked before the region is called, on the way there and on the way back."""
        if await self._closed.is_closed(region):
            raise RegionClosed("The operator has closed the sign-on through this region.", region=region)

    def refuse_stale(self, region: str) -> None:
        """Raise TrustStale. Asked after the region has answered: an adapter confirms its keys when it needs them.

        Here keys that were never confirmed are refused too: something was verified with them.
        """
        confirmed = self._confirmed_at(region)
        age = self.trust_age(region)
        if confirmed is not None and (age is None or age > self._stale_after.total_seconds()):
            text = "The keys of this region's sign-on have not been confirmed for too long."
            raise TrustStale(text, region=region)

    def is_stale(self, region: str) -> bool:
        """Say whether a region's keys were confirmed too long ago. Keys that are pinned never are."""
        age = self.trust_age(region)
        return age is not None and age > self._stale_after.total_seconds()

    def trust_age(self, region: str) -> float | None:
        """Return how many seconds ago a region confirmed its keys; None when it never did, or they are pinned."""
        confirmed = self._confirmed_at(region)
        when = None if confirmed is None else confirmed()
        return None if when is None else max(0.0, (self._clock() - when).total_seconds())

    def _confirmed_at(self, region: str) -> Callable[[], datetime | None] | None:
        return self._regions[region].adapter.trust_confirmed_at if region in self._regions else None

    # --- for those who watch -----------------------------------------------------------------------------------------

    @property
    def regions(self) -> Sequence[str]:
        """The regions that offer sign-on, in order."""
        return sorted(region.id for region in self._regions.values() if region.adapter.sign_on is not None)
