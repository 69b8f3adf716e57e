"""What a store promises, and the choice between the two engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url

T = TypeVar("T")
Unit = Callable[[Connection], T]
"""Statements that belong together. Runs in one transaction; an exception undoes all of it and reaches the caller.

A unit may run more than once (PostgreSQL asks for it after a deadlock), so it has no effect but its statements.
"""


AWAY = "The gateway's store does not answer."
FULL = "The gateway's store is full."
READ_ONLY = "The gateway's store is read-only."
"""What is said of a store that cannot serve just now (`Unavailable`)."""


class Store(Protocol):
    """A durable store. When `write` returns, what it wrote survives the death of this process and of the machine."""

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit that writes, and return its value after the commit."""
        ...

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads, on a consistent snapshot."""
        ...

    async def migrate(self) -> None:
        """Bring the schema to the newest revision."""
        ...

    async def revision(self) -> str | None:
        """Return the schema's revision, None when there is none."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of files and connections."""
        ...


async def open_store(url: str) -> Store:
    """Open the store that `url` names: `sqlite:///path` or `postgresql://…`. Raises ValueError for another scheme."""
    parsed = make_url(url)
    if parsed.drivername == "sqlite":
        from gateway.storage.sqlite import SqliteStore  # noqa: PLC0415 - only the engine in use is loaded

        return await SqliteStore.open(str(parsed.database))
    if parsed.drivername in {"postgresql", "postgresql+asyncpg"}:
        from gateway.storage.postgres import PostgresStore  # noqa: PLC0415 - as above

        return await PostgresStore.open(url)
    raise ValueError(f"a store must be sqlite:///… or postgresql://…, not {parsed.drivername}")


INSERTS: Mapping[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
"""Dialect → what makes an INSERT that knows ON CONFLICT."""


def insert_into(tx: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that knows ON CONFLICT, in the dialect of this connection."""
    return INSERTS[tx.dialect.name](table)
