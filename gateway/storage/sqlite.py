"""SQLite: one writer thread that commits units in groups, and a few reader threads.

Owns: durability on one machine. WAL with `synchronous=FULL` means that a returned `write` survives a power cut; one
fsync is shared by all units that waited for it. NORMAL would be faster and may lose what was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from gateway.errors import Unavailable
from gateway.storage import migrations
from gateway.storage.store import Unit

T = TypeVar("T")

GROUP = 128
"""At most this many units share a commit, so that one commit stays short."""
READERS = 2
_AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}
"""Result codes that say something about the file or the machine, and nothing about the statement."""
_Work = tuple[Callable[[Connection], Any], "Future[Any]"]


class SqliteStore:
    """A `Store` in one file."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")
        self._closed = False
        self._writer = threading.Thread(target=self._write_all, name="sqlite-write", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, path: str) -> SqliteStore:
        """Open or create the file and its folder. Raises Unavailable when that cannot be done."""
        return cls(await asyncio.to_thread(_opened, path))

    async def write(self, unit: Unit[T]) -> T:
        """Queue the unit for the writer thread and wait for the commit that holds it."""
        if self._closed:
            raise Unavailable("The gateway is shutting down.", detail="write after close")
        done: Future[T] = Future()
        self._queue.put((unit, done))
        return await asyncio.wrap_future(done)

    async def read(self, unit: Unit[T]) -> T:
        """Run the unit on a reader thread, on a snapshot."""
        if self._closed:
            raise Unavailable("The gateway is shutting down.", detail="read after close")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, unit)

    async def migrate(self) -> None:
        """Bring the schema to the newest revision."""
        await self.write(migrations.upgrade)

    async def revision(self) -> str | None:
        """Return the schema's revision, None when there is none."""
        return await self.read(migrations.current)

    async def close(self) -> None:
        """Commit what is queued, then close the file."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._engine.dispose()

    def _read(self, unit: Unit[T]) -> T:
        try:
            with self._engine.connect() as connection:
                return unit(connection)
        except DBAPIError as error:
            raise _told(error) from error

    def _write_all(self) -> None:
        with self._engine.connect() as connection:
            while (first := self._queue.get()) is not None:
                self._commit_group(connection, self._group_after(first))

    def _group_after(self, first: _Work) -> list[_Work]:
        group = [first]
        with contextlib.suppress(queue.Empty):
            while len(group) < GROUP:
                work = self._queue.get_nowait()
                if work is None:  # the end: finish this group, then stop
                    self._queue.put(None)
                    break
                group.append(work)
        return group

    def _commit_group(self, connection: Connection, group: list[_Work]) -> None:
        wanted = [(unit, done) for unit, done in group if done.set_running_or_notify_cancel()]
        answers: list[tuple[Future[Any], Any]] = []
        try:
            with connection.begin():
                for unit, done in wanted:
                    _run_apart(connection, unit, done, answers)
        except Exception as error:  # noqa: BLE001 - nothing was committed: every unit of the group must hear of it
            _leave(connection)
            for _, done in wanted:
                if not done.done():
                    done.set_exception(_told(error))
            return
        for done, answer in answers:
            done.set_result(answer)


def _run_apart(
    connection: Connection, unit: Unit[Any], done: Future[Any], answers: list[tuple[Future[Any], Any]]
) -> None:
    """Run one unit in a savepoint, so that its failure undoes only itself."""
    try:
        with connection.begin_nested():
            answer = unit(connection)
    except Exception as error:
        done.set_exception(_told(error))
        if not _stands(connection):
            raise
    else:
        answers.append((done, answer))


def _stands(connection: Connection) -> bool:
    """Say whether the group's transaction is still there: SQLite itself undoes all of it when the disk is full."""
    return _driver(connection).in_transaction


def _leave(connection: Connection) -> None:
    """Get out of a transaction whose COMMIT failed: SQLite stays in it, and SQLAlchemy believes that it is over."""
    with contextlib.suppress(sqlite3.Error):  # the next group will hear why it cannot begin
        _driver(connection).rollback()


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.dbapi_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"not a connection to SQLite: {driver!r}")
    return driver


def _told(error: Exception) -> Exception:
    """Return what the caller is told: a file that cannot be used just now is no fault of the unit."""
    # Where SQLite has undone everything, going back to the savepoint fails too: the first error is the telling one.
    chain: list[BaseException] = [error]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    causes = (link.orig for link in reversed(chain) if isinstance(link, DBAPIError))
    first = next(causes, None)
    code = getattr(first, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # the high bits refine it
    return _unavailable(str(first)) if code in _AWAY else error


def _unavailable(detail: str) -> Unavailable:
    return Unavailable("The gateway's store does not answer.", detail=detail)


def _opened(path: str) -> Engine:
    """Return an engine that has reached its file once, so that the writer thread cannot fail to begin."""
    engine = _engine(path)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        engine.connect().close()
    except (OSError, DBAPIError) as error:
        engine.dispose()
        raise _unavailable(str(getattr(error, "orig", error))) from error
    return engine


def _engine(path: str) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"check_same_thread": False, "timeout": 30},
        pool_size=READERS + 1,
        max_overflow=0,
        hide_parameters=True,  # an error's text goes to the log
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come too late for savepoints
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=1000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # Only the writer thread writes, so a plain BEGIN never waits; readers get their snapshot.
    connection.exec_driver_sql("BEGIN")
