"""When to try a delivery again: pure, so that it can be tested to the last case.

Owns: back-off with full jitter and the end of trying. Leaves to `delivery`: doing it. A definite no is never retried;
"5 retries" can never become endless, because the count is the attempt number in the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from gateway.errors import GatewayError, RegionRefused, RegionUncertain


class Next(StrEnum):
    """What becomes of a delivery after a failed attempt: the state of its row."""

    PENDING = "pending"  # certainly not taken: send again
    IN_DOUBT = "in_doubt"  # outcome unknown: ask before sending again
    DEAD = "dead"  # a person must look


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` in all; the wait doubles from `first` up to `longest`, and is drawn between half of that and all."""

    attempts: int
    first: timedelta
    longest: timedelta

    def delay(self, attempt: int, draw: Callable[[], float]) -> timedelta:
        """Return the wait after this attempt (1 is the first). `draw` gives a number in [0, 1)."""
        doubled: timedelta = self.first * 2 ** min(attempt - 1, 30)
        bounded = min(doubled, self.longest)
        share: float = 0.5 + draw() / 2
        return bounded * share

    def after(self, error: GatewayError, attempt: int) -> Next:
        """Say what becomes of the delivery."""
        if isinstance(error, RegionRefused) or not error.retryable or attempt >= self.attempts:
            return Next.DEAD
        return Next.IN_DOUBT if isinstance(error, RegionUncertain) else Next.PENDING
