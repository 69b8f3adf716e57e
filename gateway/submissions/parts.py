"""The parts of a case that several offices handle together (多地联办), as their rows say.

Owns: reading them. Leaves to `joint`: writing them and keeping the whole. Everything here is part of the caller's
transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from gateway.domain.submission import ENDS
from gateway.storage.tables import submissions


def parts_of(tx: Connection, parent_id: str) -> list[dict[str, Any]]:
    """Return the parts of a case in the order in which they were asked for: id, part_code, state, where, released."""
    c = submissions.c
    columns = (c.id, c.client_reference, c.part_code, c.state, c.handling_region, c.handling_code, c.released_at)
    rows = tx.execute(select(*columns).where(c.parent_id == parent_id)).mappings()
    found = [{str(name): value for name, value in row.items()} for row in rows]
    return sorted(found, key=lambda row: int(row["client_reference"].rpartition("/")[2]))


def is_waiting(part: Mapping[str, Any]) -> bool:
    """Say whether a part has not gone out because others must be done before."""
    return part["released_at"] is None and part["state"] not in ENDS
