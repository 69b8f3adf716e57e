"""Days. All three territories keep UTC+8 without daylight saving, so there is one local day for all of them."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

LOCAL = timezone(timedelta(hours=8), "UTC+8")


def local_day(moment: datetime) -> date:
    """Return the day at the window for an aware time: the day that terms, births and case numbers count in."""
    return moment.astimezone(LOCAL).date()
