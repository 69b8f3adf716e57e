"""A clock that the test winds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class ManualClock:
    """Time that moves only when the test says so. Call it for the present, an aware UTC time."""

    def __init__(self, now: datetime = datetime(2026, 3, 2, 2, 0, 0, 123456, UTC)) -> None:
        self._now = now

    def __call__(self) -> datetime:
        """Return the present."""
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Let seconds pass, and return the present."""
        self._now += timedelta(seconds=seconds)
        return self._now
