"""Submissions from the gateway's store as recorded traffic: opened with its own keys, one page at a time.

Owns: reading them without keeping or changing anything. Leaves to `gateway.mapping.tools.replay`: converting them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, select

from gateway.config import Config
from gateway.crypto.at_rest import Sealer
from gateway.mapping.tools.replay import Recorded
from gateway.mapping.vocabulary import OURS_TO_THEIRS
from gateway.opening import opened_store, own_keys
from gateway.storage.tables import submissions
from gateway.submissions.parcels import open_body

PAGE: Final = 100
"""Submissions that are in memory at a time."""


async def stored_submissions(config: Config, folders: Mapping[str, str], page: int = PAGE) -> AsyncIterator[Recorded]:
    """Yield every stored submission, by number. `folders` are the mappings folders of regions that share one.

    Raises StartRefused for keys that are missing, Unavailable for a body that none of them opens.
    """
    sealer, _, _ = own_keys(config)
    async with opened_store(config) as store:
        rows = await store.read(partial(_page, after="", count=page))
        while rows:
            for row in rows:
                yield _recorded(row, sealer, folders)
            rows = await store.read(partial(_page, after=rows[-1]["id"], count=page))


def _page(tx: Connection, *, after: str, count: int) -> Sequence[Mapping[str, Any]]:
    c = submissions.c
    query = select(c.id, c.handling_region, c.body).where(c.id > after).order_by(c.id).limit(count)
    return [dict(row) for row in tx.execute(query).mappings()]


def _recorded(row: Mapping[str, Any], sealer: Sealer, folders: Mapping[str, str]) -> Recorded:
    region = folders.get(row["handling_region"], row["handling_region"])
    return Recorded(row["id"], region, "submission", OURS_TO_THEIRS, open_body(sealer, row["id"], row["body"]))
