"""Values that are good once: nonces of callbacks, ids of client assertions.

Owns: deciding, under contention and in the caller's transaction, who was first. Leaves to the janitor: forgetting what
has expired.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from gateway.storage.store import INSERTS
from gateway.storage.tables import nonces

_KEEP_UNLESS_KEPT = {
    dialect: insert_into(nonces).on_conflict_do_nothing().returning(nonces.c.value)
    for dialect, insert_into in INSERTS.items()
}
"""Returns the value to the first who brings it, and nothing to all others. Built once, as every statement of a sign-on:
building one anew costs five times what running it costs."""


def spend(tx: Connection, scope: str, value: str, expires_at: datetime) -> bool:
    """Remember a value; return False when it was seen before in this scope."""
    kept = tx.execute(_KEEP_UNLESS_KEPT[tx.dialect.name], {"scope": scope, "value": value, "expires_at": expires_at})
    return kept.one_or_none() is not None
