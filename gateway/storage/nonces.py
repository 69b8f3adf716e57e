"""Values that are good once: nonces of callbacks, ids of client assertions.

Owns: deciding, under contention and in the caller's transaction, who was first, and for how much longer than it could
be accepted a value is remembered. Leaves to the caller until when it could be, to the janitor the forgetting.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from gateway.storage.store import INSERTS
from gateway.storage.tables import nonces

CLOCKS_APART = timedelta(seconds=60)
"""How far the clocks of two replicas may differ. The janitor of the one ahead forgets for all of them, so what must not
serve again is remembered so much longer than it is accepted."""

_KEEP_UNLESS_KEPT = {
    dialect: insert_into(nonces).on_conflict_do_nothing().returning(nonces.c.value)
    for dialect, insert_into in INSERTS.items()
}
"""Returns the value to the first who brings it, and nothing to all others. Built once, as every statement of a sign-on:
building one anew costs five times what running it costs."""


def spend(tx: Connection, scope: str, value: str, expires_at: datetime) -> bool:
    """Remember a value; return False when it was seen before in this scope.

    `expires_at` is until when the value could be accepted, by the clock of this replica.
    """
    row = {"scope": scope, "value": value, "expires_at": expires_at + CLOCKS_APART}
    kept = tx.execute(_KEEP_UNLESS_KEPT[tx.dialect.name], row)
    return kept.one_or_none() is not None
