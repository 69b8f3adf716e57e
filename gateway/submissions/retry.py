"""When to try a delivery again: pure, so that it can be tested to the last case.

Owns: back-off with full jitter and the end of trying. Leaves to `attempt`: doing it. A definite no is never retried.
Unknown outcomes are counted in the row, so that "5 retries" can never become endless. Waiting for a region that
certainly took nothing is no attempt at delivering: it is bounded by the age of the case, else an outage of half an hour
would send every case to the dead letters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from gateway.errors import GatewayError, RegionRefused, RegionSettling, RegionUncertain


class Next(StrEnum):
    """What becomes of a delivery after a failed attempt: the state of its row."""

    PENDING = "pending"  # certainly not taken: send again
    IN_DOUBT = "in_doubt"  # outcome unknown: ask before sending again
    DEAD = "dead"  # a person must look


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a delivery is tried.

    `attempts` is how many uncertain outcomes one delivery may have; `patience` how old a case may grow while its region
    cannot be reached. The wait doubles from `first` up to `longest`, and is drawn between half of that and all.
    """

    attempts: int
    first: timedelta
    longest: timedelta
    patience: timedelta = timedelta(days=3)

    def delay(self, attempt: int, draw: Callable[[], float]) -> timedelta:
        """Return the wait after this attempt (1 is the first). `draw` gives a number in [0, 1)."""
        doubled: timedelta = self.first * 2 ** min(attempt - 1, 30)
        share: float = 0.5 + draw() / 2
        return min(doubled, self.longest) * share

    def counts(self, error: GatewayError) -> bool:
        """Say whether this outcome is one of the `attempts`."""
        return isinstance(error, RegionUncertain) and not isinstance(error, RegionSettling)

    def after(self, error: GatewayError, counted: int, *, doubtful: bool = False, age: timedelta = timedelta()) -> Next:
        """Say what becomes of the delivery.

        `counted` is the number of uncertain outcomes so far, this one included; `doubtful` whether the region may have
        the case from an earlier attempt; `age` how long ago the case was taken.
        """
        if isinstance(error, RegionRefused) or not error.retryable:
            return Next.DEAD
        if counted >= self.attempts if self.counts(error) else age >= self.patience:
            return Next.DEAD
        return Next.IN_DOUBT if doubtful or isinstance(error, RegionUncertain) else Next.PENDING
