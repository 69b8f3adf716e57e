"""A clock for forgetting, which does not believe at once that it is suddenly much later.

Owns: holding back a jump ahead. Whoever deletes by a clock that is a day ahead deletes a day's worth that is still
needed: revocations, nonces, files that nobody has named yet. A monotonic clock, which no adjustment moves, tells it.
Leaves to everybody else the system's own time: that something has expired is theirs to say, and errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from gateway.ports import Clock

log = structlog.get_logger("clock")

SLACK = timedelta(seconds=60)
"""How much further than the monotonic clock the system's may go between two looks and be believed at once."""
HELD_BACK = timedelta(days=1)
"""For how long a jump ahead is not believed. After that it was the former time that was wrong."""


class PatientClock:
    """The time, behind the system's own while that has just jumped ahead. `monotonic` tells seconds."""

    def __init__(self, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._believed = clock()
        self._at = monotonic()
        self._ahead_since: float | None = None

    def __call__(self) -> datetime:
        """Return the time to forget by."""
        now, ticks = self._clock(), self._monotonic()
        steady = self._believed + timedelta(seconds=ticks - self._at)
        if now - steady > SLACK and not self._has_lasted(ticks, now - steady):
            return steady
        self._believed, self._at, self._ahead_since = now, ticks, None
        return now

    def _has_lasted(self, ticks: float, ahead: timedelta) -> bool:
        """Say whether the system's clock has been ahead for long enough to be believed."""
        if self._ahead_since is None:
            self._ahead_since = ticks
            log.warning("clock jumped ahead", seconds=round(ahead.total_seconds()), forgetting="as before, for a day")
        return ticks - self._ahead_since >= HELD_BACK.total_seconds()
