"""The event loop, and waiting for an event but not for ever."""

from __future__ import annotations

import asyncio
import sys


async def wait(event: asyncio.Event, at_most: float) -> bool:
    """Wait until the event is set or the seconds are over; return whether it is set."""
    try:
        async with asyncio.timeout(at_most):
            await event.wait()
    except TimeoutError:
        return False
    return True


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop; on Windows, which uvloop does not know, asyncio's own."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not to be had on Windows

    return uvloop.new_event_loop()
