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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, RootTransaction, create_engine, event
from sqlalchemy.exc import DBAPIError

from gateway.errors import Unavailable
from gateway.storage import migrations
from gateway.storage.store import AWAY, FULL, READ_ONLY, Unit

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
_TOLD = {sqlite3.SQLITE_FULL: FULL, sqlite3.SQLITE_READONLY: READ_ONLY}
"""What is told of those that an operator can do something about at once."""
_Work = tuple[Unit[Any], "asyncio.Future[Any]"]
_Outcome = tuple["asyncio.Future[Any]", Any, Exception | None]
"""Who waits, the unit's value, and the error instead of it."""


class SqliteStore:
    """A `Store` in one file."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writes: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._closed = False
        self._writer = threading.Thread(target=self._write_all, name="sqlite-write", daemon=True)
        self._readers = [
            threading.Thread(target=self._read_all, name=f"sqlite-read-{number}", daemon=True)
            for number in range(READERS)
        ]
        for thread in (self._writer, *self._readers):
            thread.start()

    @classmethod
    async def open(cls, path: str) -> SqliteStore:
        """Open or create the file and its folder. Raises Unavailable when that cannot be done."""
        return cls(await asyncio.to_thread(_opened, path))

    async def write(self, unit: Unit[T]) -> T:
        """Queue the unit for the writer thread and wait for the commit that holds it."""
        if self._closed:
            raise Unavailable("The gateway is shutting down.", detail="write after close")
        return await _handed_to(self._writes, unit)

    async def read(self, unit: Unit[T]) -> T:
        """Run the unit on a reader thread, on a snapshot."""
        if self._closed:
            raise Unavailable("The gateway is shutting down.", detail="read after close")
        return await _handed_to(self._reads, unit)

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
        self._writes.put(None)
        for _ in self._readers:
            self._reads.put(None)
        for thread in (self._writer, *self._readers):
            await asyncio.to_thread(thread.join)
        self._engine.dispose()

    def _read_all(self) -> None:
        with self._engine.connect() as connection:
            while (work := self._reads.get()) is not None:
                unit, done = work
                if not done.cancelled():
                    _tell([_read(connection, unit, done)])

    def _write_all(self) -> None:
        with self._engine.connect() as connection:
            while (first := self._writes.get()) is not None:
                group = self._group_after(first)
                _tell(_commit_group(connection, [(unit, done) for unit, done in group if not done.cancelled()]))

    def _group_after(self, first: _Work) -> list[_Work]:
        group = [first]
        with contextlib.suppress(queue.Empty):
            while len(group) < GROUP:
                work = self._writes.get_nowait()
                if work is None:  # the end: finish this group, then stop
                    self._writes.put(None)
                    break
                group.append(work)
        return group


async def _handed_to(threads: queue.SimpleQueue[_Work | None], unit: Unit[T]) -> T:
    """Hand a unit to the threads behind a queue, and wait for its outcome."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    threads.put((unit, done))
    return await done


def _tell(outcomes: Sequence[_Outcome]) -> None:
    """Tell all who wait. A loop is woken once, however many of them it has; there is one loop, as a rule."""
    for loop in {done.get_loop() for done, _, _ in outcomes}:
        here = [outcome for outcome in outcomes if outcome[0].get_loop() is loop]
        with contextlib.suppress(RuntimeError):  # a loop that is closed: nobody waits there any more
            loop.call_soon_threadsafe(_settle, here)


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for done, value, error in outcomes:
        if done.done():  # its caller gave up meanwhile
            continue
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)


def _read(connection: Connection, unit: Unit[Any], done: asyncio.Future[Any]) -> _Outcome:
    """Run one unit on a snapshot of its own; whatever it may have written is undone."""
    try:
        snapshot = _begun(connection)
        try:
            return done, unit(connection), None
        finally:
            snapshot.rollback()
    except Exception as error:  # noqa: BLE001 - it is the caller's, and the thread must live on
        return done, None, _told(error)


def _commit_group(connection: Connection, group: Sequence[_Work]) -> Sequence[_Outcome]:
    """Run units in one transaction, and return what became of each once the disk has it."""
    outcomes: list[_Outcome] = []
    try:
        with _begun(connection, "BEGIN IMMEDIATE"):
            for unit, done in group:
                outcomes.append(_run_apart(connection, unit, done))
    except Exception as error:  # noqa: BLE001 - nothing was committed: every unit of the group must hear of it
        _leave(connection)
        failed = [(done, None, own) for done, _, own in outcomes if own is not None]
        return [*failed, *((done, None, _told(error)) for _, done in group)]  # whoever had an error hears that one
    return outcomes


def _run_apart(connection: Connection, unit: Unit[Any], done: asyncio.Future[Any]) -> _Outcome:
    """Run one unit in a savepoint, so that its failure undoes only itself.

    The driver is asked directly: SQLAlchemy's nested transaction costs as much as two statements of the unit.
    """
    driver = _driver(connection)
    driver.execute("SAVEPOINT unit")
    try:
        value = unit(connection)
    except Exception as error:
        if not driver.in_transaction:  # SQLite itself undoes all of it when the disk is full
            raise
        driver.execute("ROLLBACK TO unit")
        driver.execute("RELEASE unit")
        return done, None, _told(error)
    driver.execute("RELEASE unit")
    return done, value, None


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
    first = next((link for link in reversed(chain) if isinstance(link, sqlite3.Error)), None)
    code = getattr(first, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # the high bits refine it
    return Unavailable(_TOLD.get(code, AWAY), detail=str(first)) if code in _AWAY else error


def _opened(path: str) -> Engine:
    """Return an engine whose connections are all open, so that no thread can fail to begin."""
    engine = _engine(path)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as pooled:
            for _ in range(READERS + 1):
                pooled.enter_context(engine.connect())
    except (OSError, DBAPIError) as error:
        engine.dispose()
        raise Unavailable(AWAY, detail=str(getattr(error, "orig", error))) from error
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
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come too late for savepoints
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=1000"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: Connection, begin: str = "BEGIN") -> RootTransaction:
    """Begin a transaction: readers get their snapshot, the writer the right to write.

    The writer takes that right at once. Taken later, for the first statement that writes, it would be refused without
    waiting when a command line has written since the group's first statement that reads.

    No listener does it, because SQLAlchemy runs every statement of an engine with listeners by a longer way.
    """
    transaction = connection.begin()
    try:
        _driver(connection).execute(begin)
    except sqlite3.Error:
        transaction.close()
        raise
    return transaction
