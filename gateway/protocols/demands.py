"""What a sign-on demands of a region, remembered while the person is there and held against what comes back.

Owns: level and fresh proof, for protocols whose answers state them plainly. Leaves to each protocol how it asks, and
how it reads level and time. Pure: the time is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from gateway.ports import SignOnStart

FRESH_LEEWAY = timedelta(seconds=30)
"""How much older than the request a proof may look that was asked for fresh: clocks differ."""

Fault = tuple[str, str]
"""What is wrong: for the person, and for our log."""


def remembered(start: SignOnStart, now: datetime) -> dict[str, str]:
    """Return what `unmet` must know when the person is back."""
    return {"levels": ",".join(start.levels), "since": now.isoformat() if start.fresh else ""}


def unmet(memory: Mapping[str, str], level: str, proved_at: datetime | None, stated_in: str) -> Fault | None:
    """Say which demand a session of this level and time does not meet; None when it meets them all.

    `stated_in` is what the protocol calls the time of the proof.
    """
    levels = [wanted for wanted in memory.get("levels", "").split(",") if wanted]
    if levels and level not in levels:
        return "the region did not reach the level that the service needs", f"{level} is not one of {levels}"
    since = memory.get("since", "")
    if since and (proved_at is None or proved_at < datetime.fromisoformat(since) - FRESH_LEEWAY):
        return "the region did not ask for a new proof, as the service needs", f"{stated_in} is missing or too old"
    return None
