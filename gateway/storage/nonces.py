"""Values that are good once: nonces of callbacks, ids of client assertions.

Owns: deciding, under contention and in the caller's transaction, who was first. Leaves to the janitor: forgetting what
has expired.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from gateway.storage.store import insert_into
from gateway.storage.tables import nonces


def spend(tx: Connection, scope: str, value: str, expires_at: datetime) -> bool:
    """Remember a value; return False when it was seen before in this scope."""
    kept = insert_into(tx, nonces).values(scope=scope, value=value, expires_at=expires_at)
    return tx.execute(kept.on_conflict_do_nothing().returning(nonces.c.value)).one_or_none() is not None
