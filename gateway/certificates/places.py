"""Places for certificate files in memory: as many as there are, and no more.

Owns: waiting for one, and its end. Leaves to `handing` and `file_checks`: what is held in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import Unavailable


class Places:
    """`count` places; whoever gets none within `turn` seconds is told to come again."""

    def __init__(self, count: int, turn: float = 10.0) -> None:
        self._free = asyncio.Semaphore(count)
        self._turn = turn

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a place. Raises Unavailable."""
        try:
            async with asyncio.timeout(self._turn):
                await self._free.acquire()
        except TimeoutError:
            text = "As many certificate files are on their way as this gateway holds at once; ask again in a moment."
            raise Unavailable(text, code="certificate.files_busy") from None
        try:
            yield
        finally:
            self._free.release()
