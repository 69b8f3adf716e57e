"""Schema revisions, applied by alembic on a connection that the store hands over.

Owns: going to the newest revision, and telling which one a database is at. Alembic is loaded only to migrate: a process
that finds its schema in order never needs it, and is ten megabytes lighter.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).parent


def newest() -> str:
    """Return the newest revision that this release knows: the number that the last file of `versions/` begins with."""
    return max(path.stem.split("_")[0] for path in (_HERE / "versions").glob("[0-9]*.py"))


def current(connection: Connection) -> str | None:
    """Return the revision that the database is at, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def upgrade(connection: Connection) -> None:
    """Apply every revision that is missing."""
    if current(connection) == newest():
        return
    from alembic import command  # noqa: PLC0415 - see above

    command.upgrade(_config(connection), "head")


def _config(connection: Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.attributes["connection"] = connection
    return config
