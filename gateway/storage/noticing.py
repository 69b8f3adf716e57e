"""A store that notices when it took nothing, so that readiness can say so.

Owns: remembering for a moment that a write was refused, and why. A full disk is not seen by looking: small writes still
find room when those of the callers do not. Leaves to `gateway.web.ops`: telling it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gateway.errors import Unavailable
from gateway.storage.store import AWAY, FULL, READ_ONLY, Store, Unit

T = TypeVar("T")

REMEMBERED = 10.0
"""Seconds for which a refused write counts: longer than the pause between two looks of a load balancer."""


class NoticingStore:
    """The store behind it, and whether it refused a write just now.

    `monotonic` tells seconds, whatever the clock does.
    """

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._refused: tuple[float, str] | None = None

    def trouble(self) -> str | None:
        """Return why a write was refused within the last seconds, None when none was."""
        if self._refused is None or self._monotonic() - self._refused[0] > REMEMBERED:
            return None
        return self._refused[1]

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit that writes."""
        try:
            return await self._store.write(unit)
        except Unavailable as error:
            if error.public in (AWAY, FULL, READ_ONLY):  # a unit may raise it for other reasons
                self._refused = (self._monotonic(), error.public)
            raise

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads."""
        return await self._store.read(unit)

    async def migrate(self) -> None:
        """Bring the schema to the newest revision."""
        await self._store.migrate()

    async def revision(self) -> str | None:
        """Return the schema's revision."""
        return await self._store.revision()

    async def close(self) -> None:
        """Finish what was begun."""
        await self._store.close()
