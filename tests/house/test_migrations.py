"""Migrations and `gateway.storage.tables` are one schema on both engines; what a deployment does with them works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, String, inspect, text
from sqlalchemy.types import TypeDecorator, TypeEngine

from gateway.storage import Store, migrations, open_store
from gateway.storage.migrations import newest
from gateway.storage.tables import Sealed, metadata
from tests.support.databases import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of a database without a schema, on either engine in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest_asyncio.fixture
async def empty(empty_url: str) -> AsyncIterator[Store]:
    store = await open_store(empty_url)
    yield store
    await store.close()


def base_type(_context: Any, _old: Any, _column: Column[Any], found: TypeEngine[Any], ours: TypeEngine[Any]) -> bool:
    """Say whether two types differ, where ours may be one that the database does not know."""
    plain = ours.impl_instance if isinstance(ours, TypeDecorator) else ours
    if isinstance(ours, Sealed):
        return str(found) not in {"BLOB", "BYTEA"}
    return type(plain)._type_affinity is not type(found)._type_affinity or (
        getattr(plain, "length", None) != getattr(found, "length", None)
    )


def differences(tx: Connection, wanted: MetaData = metadata) -> list[Any]:
    """Return what alembic would still have to do to come from the migrated schema to the tables."""
    context = MigrationContext.configure(tx, opts={"compare_type": base_type})
    return list(compare_metadata(context, wanted))


def schema(tx: Connection) -> dict[str, Any]:
    """Return everything that the database says of itself."""
    seen = inspect(tx)
    return {
        name: [
            [(c["name"], str(c["type"]), c["nullable"]) for c in seen.get_columns(name)],
            seen.get_pk_constraint(name),
            sorted(seen.get_foreign_keys(name), key=str),
            sorted(seen.get_unique_constraints(name), key=str),
            sorted((_plain(index) for index in seen.get_indexes(name)), key=str),
        ]
        for name in sorted(seen.get_table_names())
    }


def _plain(index: Any) -> dict[str, Any]:
    """Return an index with its options as text: the condition of a partial one comes as an object."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return {**index, "dialect_options": options}


def downgrade(tx: Connection) -> None:
    """Take every revision back."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "gateway/storage/migrations"))
    config.attributes["connection"] = tx
    command.downgrade(config, "base")


async def test_migrations_lead_to_the_tables_that_the_code_uses(store: Store) -> None:
    assert await store.read(differences) == []


async def test_a_difference_between_migrations_and_tables_is_seen(store: Store) -> None:
    """A comparison that finds nothing would hold nothing: a column, its length, whether it may be empty, an index."""
    changes = [
        "ALTER TABLE nonces ADD COLUMN extra INTEGER",
        "CREATE INDEX ix_extra ON nonces (value)",
        "DROP INDEX ix_nonces_expires_at",
    ]

    def plant(tx: Connection) -> list[str]:
        for change in changes:
            tx.execute(text(change))
        return sorted(found[0] for found in differences(tx))

    assert await store.write(plant) == ["add_index", "remove_column", "remove_index"]

    other = MetaData()
    for table in metadata.tables.values():
        table.to_metadata(other)
    column = other.tables["deliveries"].c.owner
    column.type, column.nullable = String(63), False
    found = [kind for change in await store.read(lambda tx: differences(tx, other)) for kind in _kinds(change)]
    assert {"modify_type", "modify_nullable"} <= set(found)


def _kinds(change: Any) -> list[str]:
    return [part[0] for part in change] if isinstance(change, list) else [change[0]]


async def test_a_fresh_database_has_no_revision_and_a_migrated_one_the_newest(empty: Store) -> None:
    assert await empty.revision() is None
    await empty.migrate()
    assert await empty.revision() == newest()


async def test_migrating_again_changes_nothing(empty: Store) -> None:
    await empty.migrate()
    before = await empty.read(schema)
    await empty.migrate()
    assert await empty.read(schema) == before
    assert await empty.revision() == newest()


async def test_a_schema_that_was_taken_back_can_be_put_up_again(empty: Store) -> None:
    await empty.migrate()
    before = await empty.read(schema)
    await empty.write(downgrade)
    assert await empty.revision() is None
    assert set(await empty.read(schema)) <= {"alembic_version"}
    await empty.migrate()
    assert await empty.read(schema) == before
    assert await empty.read(differences) == []


async def test_replicas_that_start_together_migrate_one_after_the_other(empty_url: str) -> None:
    """On SQLite it is one process whose two calls meet; on PostgreSQL they are replicas, and one waits."""
    replicas = [await open_store(empty_url) for _ in range(1 if empty_url.startswith("sqlite") else 3)]
    async with asyncio.timeout(30):  # without the lock they would wait for each other for ever
        await asyncio.gather(*(store.migrate() for store in replicas * 2))
    assert [await store.revision() for store in replicas] == [newest()] * len(replicas)
    assert await replicas[0].read(differences) == []
    for store in replicas:
        await store.close()


def test_the_newest_revision_is_the_one_that_alembic_takes_for_its_head() -> None:
    """We read it from the file names, so that a process which need not migrate need not load alembic."""
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert newest() == scripts.get_current_head()
