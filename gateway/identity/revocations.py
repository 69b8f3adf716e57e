"""What ends a token before its time is felt at once in this process: the memory of verified tokens is emptied.

Owns: the mark that a unit leaves on its connection when it ends a family, a session, a client or a single token, and
the store that looks for it after the commit. So no caller can forget to say it, and nothing is forgotten for a unit
that was undone. Leaves to `verified` how long another replica may not know.
"""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Connection

from gateway.identity.verified import VerifiedTokens
from gateway.storage import Store
from gateway.storage.store import Unit

T = TypeVar("T")
_MARK = "gateway.identity.revoked"


def mark(tx: Connection) -> None:
    """Say that this unit ends something that tokens stand on."""
    tx.info[_MARK] = True


class WatchedStore:
    """A store that empties the memory of verified tokens after a unit that ended something.

    After the commit and before its caller goes on. A unit may run more than once; what its last run marked counts.
    """

    def __init__(self, store: Store, verified: VerifiedTokens) -> None:
        self._store = store
        self._verified = verified

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit that writes."""
        ended = False

        def watched(tx: Connection) -> T:
            nonlocal ended
            tx.info.pop(_MARK, None)
            result = unit(tx)
            ended = bool(tx.info.pop(_MARK, False))
            return result

        result = await self._store.write(watched)
        if ended:
            self._verified.forget_everything()
        return result

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
