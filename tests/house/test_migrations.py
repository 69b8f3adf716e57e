"""Migrations and `gateway.storage.tables` are one schema on both engines; what a deployment does with them works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from functools import partial
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

from gateway.crypto.at_rest import Sealer
from gateway.storage import Store, migrations, open_store
from gateway.storage.migrations import newest
from gateway.storage.tables import Sealed, metadata
from gateway.submissions import queue
from gateway.submissions.events import EventLog
from gateway.submissions.story import seal_detail
from gateway.submissions.stream import Stream
from tests.support.cases import REGION, number, said
from tests.support.clock import ManualClock
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


def config_of(tx: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "gateway/storage/migrations"))
    config.attributes["connection"] = tx
    return config


def downgrade(tx: Connection) -> None:
    """Take every revision back."""
    command.downgrade(config_of(tx), "base")


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


# --- a deployment that is at work ------------------------------------------------------------------------------------

ENDED, OPEN = number(1, ManualClock()()), number(2, ManualClock()())


def at_work(tx: Connection, sealer: Sealer, now: datetime) -> None:
    """Write what a deployment of revision 0003 holds: a case that has ended, one under way, and a file of both."""
    command.upgrade(config_of(tx), "0003")
    old = MetaData()
    old.reflect(tx)
    at = int(now.timestamp() * 1_000_000)

    def put(table: str, **row: Any) -> None:
        tx.execute(old.tables[table].insert().values(row))

    blob = {"client_id": "agency", "name": b"n", "media_type": "application/pdf", "size": 5, "sha256": "0" * 64}
    put("blobs", id="BL1", created_at=at, **blob)
    for case, states, delivery in (
        (ENDED, ["COLLECTED", "FORWARDED", "ACCEPTED", "COMPLETED"], ("delivered", None)),
        (OPEN, ["COLLECTED"], ("pending", at)),
    ):
        put(
            "submissions", id=case, client_id="agency", item_code="i", client_reference=case, digest="0" * 64,
            state=states[-1], mode="online", channel="api", origin_code="440100", handling_region=REGION,
            handling_code="440600", applicant_ref="r", body=b"b", mapping_version="", last_seq=len(states),
            created_at=at, updated_at=at,
        )  # fmt: skip
        for seq, state in enumerate(states, start=1):
            region = state in ("ACCEPTED", "COMPLETED")
            put(
                "submission_events", submission_id=case, seq=seq, state=state,
                source=REGION if region else "gateway", region_event_id=f"{case}-{seq}" if region else None,
                occurred_at=at + seq, recorded_at=at + seq, detail=seal_detail(sealer, case, seq, {"word": state}),
            )  # fmt: skip
        put(
            "deliveries", id="DL" + case, submission_id=case, region=REGION, state=delivery[0], due=delivery[1],
            attempt=0, failures=0, created_at=at,
        )  # fmt: skip
        put("submission_materials", submission_id=case, position=0, code="m", blob_id="BL1")
        put(
            "evidence", id=f"EV{case}", action="submission.accept", outcome="done", reason="accepted", who="{}",
            what=f'{{"case":"{case}"}}', purpose="", parts="{}", received_at=at, recorded_at=at,
        )  # fmt: skip
    put("evidence", id="EV0", action="a", outcome="done", reason="", who="{}", what="{}", purpose="", parts="{}",
        received_at=at, recorded_at=at)  # fmt: skip


async def test_a_deployment_that_is_at_work_goes_on_after_the_upgrade(
    empty: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """Nothing is delivered again, what waits is delivered, cases go on, and their events have places in the stream."""
    await empty.write(lambda tx: at_work(tx, sealer, clock()))
    await empty.migrate()
    lease = timedelta(seconds=60)
    claims = await empty.write(lambda tx: queue.claim(tx, region=REGION, owner="w", limit=9, now=clock(), lease=lease))
    assert [(claim.submission_id, claim.client_id) for claim in claims] == [(OPEN, "agency")]

    log, stream = EventLog(sealer), Stream(empty, sealer)
    clock.advance(5)
    heard = [said(ENDED, f"{ENDED}-4", "COMPLETED", clock()), said(ENDED, "e5", "DELIVERED", clock())]
    for event, outcome in zip(heard, ("duplicate", "recorded"), strict=True):
        arrival = await empty.write(partial(log.from_region, region=REGION, event=event, now=clock()))
        assert arrival.outcome == outcome
    assert await stream.place() == 6
    told = [(e["submission_id"], e["seq"], e["effect"]) for e in (await stream.page("agency", "")).events]
    assert [seq for case, seq, _ in told if case == ENDED] == [1, 2, 3, 4, 5]

    def kept(tx: Connection) -> tuple[Any, ...]:
        of_blob = tx.execute(text("SELECT case_id FROM blobs")).scalar_one()
        place = tx.execute(text("SELECT blob_id, place, size FROM blob_parts")).one()
        about = set(tx.execute(text("SELECT case_no FROM evidence")).scalars())
        return of_blob, tuple(place), about

    assert await empty.read(kept) == (OPEN, ("BL1", "BL1", 5), {ENDED, OPEN, None})


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
