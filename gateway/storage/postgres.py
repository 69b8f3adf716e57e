"""PostgreSQL: any number of replicas on one database.

Owns: connections, and running a unit again when the database asks for it. A unit is synchronous code; SQLAlchemy's
greenlet bridge lets it wait on asyncpg without a thread.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway.errors import InvalidRequest, Unavailable
from gateway.storage import migrations
from gateway.storage.store import Unit

T = TypeVar("T")

AGAIN = {"40001", "40P01"}
"""SQLSTATE of serialisation failure and deadlock: the transaction did nothing, so it may be repeated."""
TRIES = 5
_AWAY = {"08", "25", "53", "55", "57"}
"""SQLSTATE classes of a server that cannot serve now: connection, read-only after a failover, resources, locks,
operator (starting, shutting down).
"""
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
            pool_size=8,
            max_overflow=4,
            pool_pre_ping=True,
            connect_args=dict(_PATIENCE),
            hide_parameters=True,  # an error's text goes to the log
        )
        return cls(engine)

    async def write(self, unit: Unit[T]) -> T:
        """Run the unit in a transaction, again after a deadlock or a serialisation failure.

        Raises InvalidRequest for a value that PostgreSQL cannot hold, besides what every store raises.
        """
        for _ in range(TRIES):
            try:
                return await self._run(self._engine, unit)
            except DBAPIError as error:
                if _sqlstate(error) not in AGAIN:
                    raise
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
            return await _once(engine, unit)
        finally:
            self._under_way -= 1
            if self._closed and not self._under_way:
                self._idle.set()


async def _once(engine: AsyncEngine, unit: Unit[T]) -> T:
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(unit)
    except (OSError, PoolExhausted) as error:
        raise _unavailable(type(error).__name__) from error
    except DBAPIError as error:
        state = _sqlstate(error)
        if error.connection_invalidated or state[:2] in _AWAY:
            raise _unavailable(f"SQLSTATE {state}") from error
        if state.startswith(_UNSTORABLE):
            public = "A value is too long, or holds a character that cannot be stored."
            raise InvalidRequest(public, detail=f"SQLSTATE {state}") from None  # asyncpg's text quotes the value
        raise


def _unavailable(detail: str) -> Unavailable:
    return Unavailable("The gateway's store does not answer.", detail=detail)


def _sqlstate(error: DBAPIError) -> str:
    """Return the five characters by which PostgreSQL names what happened, "" when it had no say."""
    return getattr(error.orig, "sqlstate", None) or ""


def _migrate_alone(tx: Connection) -> None:
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    migrations.upgrade(tx)
