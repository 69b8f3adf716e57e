"""What one test leaves in a database, no other finds there: neither rows, nor tables, nor connections."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.storage.tables import metadata
from tests.support.databases import PostgresServer

FILL = """
DO $$
DECLARE found record;
BEGIN
  SET LOCAL session_replication_role = replica;
  FOR found IN
    SELECT table_name, jsonb_object_agg(column_name,
        CASE data_type WHEN 'bytea' THEN to_jsonb('\\x00'::text) WHEN 'boolean' THEN to_jsonb(true)
          WHEN 'bigint' THEN to_jsonb(1) WHEN 'integer' THEN to_jsonb(1) ELSE to_jsonb('x'::text) END) AS said
      FROM information_schema.columns
      WHERE table_schema = 'public' AND table_name <> 'alembic_version' GROUP BY table_name
  LOOP
    EXECUTE format('INSERT INTO %1$I SELECT * FROM jsonb_populate_record(NULL::%1$I, $1)', found.table_name)
      USING found.said;
  END LOOP;
END $$
"""
"""Put one row into every table, whatever its columns are."""

TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"


def rows(postgres: PostgresServer, name: str) -> int:
    """Return how many rows there are in all tables together, the revision's aside."""
    tables = [table for table in postgres.execute(TABLES, database=name).split() if table != "alembic_version"]
    counts = " UNION ALL ".join(f"SELECT count(*) AS number FROM {table}" for table in tables)  # noqa: S608 - own names
    return int(postgres.execute(f"SELECT sum(number) FROM ({counts}) AS all_tables", database=name))  # noqa: S608 - same


@pytest.mark.parametrize(
    "left",
    [
        "CREATE TABLE left_over (id int)",
        "ALTER TABLE submissions ADD COLUMN left_over int",
        "ALTER TABLE submissions DROP COLUMN id CASCADE",
        "CREATE INDEX left_over ON submissions (id)",
        "CREATE SCHEMA left_over",
        "CREATE FUNCTION left_over() RETURNS int LANGUAGE sql RETURN 1",
        "UPDATE alembic_version SET version_num = 'another'",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$",
    ],
)
def test_a_database_of_which_more_than_rows_was_changed_is_not_lent_again(
    postgres: PostgresServer, postgres_template: str, left: str
) -> None:
    name = postgres.lend(postgres_template)
    postgres.execute(left, database=name)
    postgres.give_back(name)
    assert name not in postgres.execute("SELECT datname FROM pg_database").split()


def test_rows_of_every_table_are_gone_and_nothing_else_is(postgres: PostgresServer, postgres_template: str) -> None:
    name = postgres.lend(postgres_template)
    postgres.execute(FILL, database=name)
    assert rows(postgres, name) == len(metadata.tables)
    postgres.give_back(name)
    again = postgres.lend(postgres_template)
    assert (again, rows(postgres, again)) == (name, 0)
    postgres.give_back(again)


async def test_whoever_is_still_connected_is_cut_off(postgres: PostgresServer, postgres_template: str) -> None:
    """A program that was killed may be in the middle of a change that its test knows nothing of any more."""
    name = postgres.lend(postgres_template)
    engine = create_async_engine(postgres.url(name).replace("postgresql://", "postgresql+asyncpg://"))
    connection = await engine.connect()
    await connection.execute(text("INSERT INTO nonces (scope, value, expires_at) VALUES ('s', 'v', 1)"))
    await asyncio.to_thread(postgres.give_back, name)
    with pytest.raises(DBAPIError):
        await connection.execute(text("SELECT 1"))
    await connection.close()
    await engine.dispose()
