"""Fixtures that all tests may ask for: stores on both engines, the clock, keys, and a guard of the event loop.

Owns: one PostgreSQL server for the run, and a migrated database for each test in which nothing stands. Leaves helpers
without a life of their own to `tests/support`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from blockbuster import blockbuster_ctx
from hypothesis import settings

from gateway.crypto.at_rest import References, Sealer
from gateway.storage import Store, open_store
from tests.support.clock import ManualClock
from tests.support.databases import TEMPLATE, PostgresServer, postgres_server


def pytest_configure() -> None:
    """Let a property take its time: how long an example takes says how busy the machine is."""
    settings.register_profile("pearl", deadline=None)
    settings.load_profile("pearl")


SLOWEST = (
    "tests/flows/test_drill.py",
    "tests/flows/test_submission_survives_a_kill.py",
    "tests/flows/test_mappings_live.py",
    "tests/flows/test_shutdown.py",
    "tests/browser/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: one process that does it alone at the end keeps the others waiting."""
    items.sort(key=lambda item: not item.nodeid.startswith(SLOWEST))


@pytest.fixture
def clock() -> ManualClock:
    """Return time that stands still."""
    return ManualClock()


@pytest.fixture
def sealer() -> Sealer:
    """Return a sealer with a key of this test's own."""
    return Sealer(os.urandom(32))


@pytest.fixture
def references() -> References:
    """Return references under a key of this test's own."""
    return References(os.urandom(32))


@pytest.fixture
def unblocked() -> Iterator[None]:
    """Fail the test when code of the gateway blocks the event loop: a file, a lock, a socket, a sleep.

    Asked for, not automatic: what runs once at start-up (data files, mapping packs, migrations) may block, because
    nobody is being served yet.
    """
    with blockbuster_ctx("gateway") as guard:
        for function in guard.functions.values():  # asyncpg looks for ~/.pgpass whenever it connects
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")
        yield


# --- databases -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run one PostgreSQL server for all tests."""
    with postgres_server() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_template(postgres: PostgresServer) -> str:
    """Migrate one database, of which copies are lent to the tests."""
    postgres.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    await _migrate(postgres.url(TEMPLATE))
    return TEMPLATE


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate one file, of which each test gets a copy. Closing it has moved everything out of its WAL."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    await _migrate(f"sqlite:///{path}")
    return path


async def _migrate(url: str) -> None:
    store = await open_store(url)
    await store.migrate()
    await store.close()


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """Return the address of a migrated database on PostgreSQL in which nothing stands."""
    name = postgres.lend(postgres_template)
    yield postgres.url(name)
    postgres.give_back(name)


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Return the address of a fresh migrated SQLite file."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'pearl.db')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, sqlite_template: Path, postgres_template: str) -> str:
    """Return the address of a fresh migrated store, on either engine in turn.

    The templates are named here, so that they are made before anything of the test itself, such as `unblocked`.
    """
    engine = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(engine))


@pytest_asyncio.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """Open a migrated store, on either engine in turn."""
    opened = await open_store(store_url)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def sqlite_store(sqlite_url: str) -> AsyncIterator[Store]:
    """Open a migrated SQLite store, for tests to which the engine is all the same."""
    opened = await open_store(sqlite_url)
    yield opened
    await opened.close()
