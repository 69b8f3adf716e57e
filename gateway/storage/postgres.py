"""PostgreSQL: any number of replicas on one database.

Owns: connections, and running a unit again when the database asks for it. A unit is synchronous code; SQLAlchemy's
greenlet bridge lets it wait on asyncpg without a thread. One greenlet runs a transaction from pool to COMMIT:
AsyncConnection makes one for each step of it, which is a third of what a short transaction costs.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from sqlalchemy import Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

from gateway.errors import InvalidRequest, Unavailable
from gateway.storage import migrations
from gateway.storage.store import AWAY, FULL, READ_ONLY, Unit

T = TypeVar("T")

CONNECTIONS = 12
"""Connections of one replica, at most."""
AGAIN = {"40001", "40P01"}
"""SQLSTATE of serialisation failure and deadlock: the transaction did nothing, so it may be repeated."""
_TAKEN = "23505"
"""SQLSTATE of a row that is there already."""
TRIES = 5
_AWAY = {"08", "25", "28", "3D", "53", "55", "57", "58"}
"""SQLSTATE classes of a server that cannot serve now: connection, read-only after a failover, a password or a database
that is not what it was, resources, locks, operator (starting, shutting down), the server's own files.
"""
_TERMINATED = "57P01"
"""SQLSTATE of a server that ends a connection: a restart, a failover."""
_TOLD = {"53100": FULL, "25006": READ_ONLY}
"""What is told of those that an operator can do something about at once."""
_PATIENCE = {"timeout": 5, "command_timeout": 30}
"""Seconds to connect, and for one statement: a server that hangs must not hang us."""
_UNSTORABLE = "22"
"""SQLSTATE class of a value that does not fit: too long, or a NUL, which SQLite would take."""
_MIGRATION_LOCK = 6_012_023  # any constant: replicas that start together must migrate one after another


class PostgresStore:
    """A `Store` on PostgreSQL 14 or later."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._snapshot = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._under_way = 0
        self._idle = asyncio.Event()
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> PostgresStore:
        """Prepare the pool; the first statement connects."""
        driver = url.replace("postgresql://", "postgresql+asyncpg://", 1)
        engine = create_async_engine(
            driver,
            pool_size=CONNECTIONS,
            max_overflow=0,  # a connection beyond the pool's would be opened for each use: dearer than waiting for one
            connect_args=dict(_PATIENCE),
            hide_parameters=True,  # an error's text goes to the log
        )
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
        return cls(engine)

    async def write(self, unit: Unit[T]) -> T:
        """Run the unit in a transaction, again after a deadlock or a serialisation failure.

        Once, too, after a row that was not there when the unit looked and was when it wrote: it sees it then. On SQLite
        nobody comes between. Raises InvalidRequest for a value that PostgreSQL cannot hold, besides what every store
        raises.
        """
        again = {*AGAIN, _TAKEN}
        for _ in range(TRIES):
            try:
                return await self._run(self._engine, unit)
            except DBAPIError as error:
                if _sqlstate(error) not in again:
                    raise
                again -= {_sqlstate(error)} - AGAIN
        raise Unavailable("The gateway's store is too busy.", detail=f"deadlock or the like, {TRIES} times")

    async def read(self, unit: Unit[T]) -> T:
        """Run the unit on a snapshot that stays the same from its first statement to its last."""
        return await self._run(self._snapshot, unit)

    async def migrate(self) -> None:
        """Bring the schema to the newest revision, one replica at a time."""
        await self.write(_migrate_alone)

    async def revision(self) -> str | None:
        """Return the schema's revision, None when there is none."""
        return await self.read(migrations.current)

    async def close(self) -> None:
        """Let what was begun finish, then close the pool."""
        self._closed = True
        if self._under_way:
            await self._idle.wait()
        await self._engine.dispose()

    async def _run(self, engine: AsyncEngine, unit: Unit[T]) -> T:
        if self._closed:
            raise Unavailable("The gateway is shutting down.", detail="used after close")
        self._under_way += 1
        try:
            return await _on_a_live_connection(engine, unit)
        finally:
            self._under_way -= 1
            if self._closed and not self._under_way:
                self._idle.set()


def _refuse_closed(driver: DBAPIConnection, _record: object, _proxy: object) -> None:
    """Have the pool connect anew where the server has hung up meanwhile: asyncpg knows, and nobody needs to ask it."""
    if driver.driver_connection.is_closed():
        raise DisconnectionError("the server has hung up")


class _HungUpError(Exception):
    """The server hung up before the unit was done, so none of it was."""


async def _on_a_live_connection(engine: AsyncEngine, unit: Unit[T]) -> T:
    """Run the unit, again when the server has hung up before its end: the pool then connects anew."""
    try:
        return await _once(engine, unit)
    except _HungUpError:
        try:
            return await _once(engine, unit)
        except _HungUpError as error:
            raise Unavailable(AWAY, detail="hung up, twice") from error


async def _once(engine: AsyncEngine, unit: Unit[T]) -> T:
    done = False

    def transaction() -> T:
        nonlocal done
        with engine.sync_engine.begin() as connection:
            result = unit(connection)
            done = True  # what fails from here on fails in the COMMIT, and nobody knows what became of it
            return result

    try:
        return await greenlet_spawn(transaction)
    except (OSError, PoolExhausted) as error:
        raise Unavailable(AWAY, detail=type(error).__name__) from error
    except DBAPIError as error:
        state = _sqlstate(error)
        if not done and (error.connection_invalidated or state == _TERMINATED):
            raise _HungUpError from error
        if error.connection_invalidated or state[:2] in _AWAY:
            raise Unavailable(_TOLD.get(state, AWAY), detail=f"SQLSTATE {state}") from error
        if state.startswith(_UNSTORABLE):
            public = "A value is too long, or holds a character that cannot be stored."
            raise InvalidRequest(public, detail=f"SQLSTATE {state}") from None  # asyncpg's text quotes the value
        raise


def _sqlstate(error: DBAPIError) -> str:
    """Return the five characters by which PostgreSQL names what happened, "" when it had no say."""
    return getattr(error.orig, "sqlstate", None) or ""


def _migrate_alone(tx: Connection) -> None:
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    migrations.upgrade(tx)
