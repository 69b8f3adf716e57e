"""What is handed to a region: the submission in the region's own form, and its materials.

Owns: reading a stored submission back, and converting it with the mapping pack that it is given. Leaves to `attempt`:
which version of the pack. To adapters: sending.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, select

from gateway.crypto.at_rest import Sealer
from gateway.mapping.library import PackSet
from gateway.ports import Material, RegionDocument
from gateway.storage import Store
from gateway.storage.tables import blobs, submission_materials, submissions
from gateway.submissions.materials import Blob, Materials


@dataclass(frozen=True, slots=True)
class Parcel:
    """One submission, ready to be sent, and the version of the mappings that it is written with."""

    submission_id: str
    document: RegionDocument
    materials: Sequence[Material]
    mapping_version: str


class Parcels:
    """Packs stored submissions for a region."""

    def __init__(self, store: Store, sealer: Sealer, materials: Materials) -> None:
        self._store = store
        self._sealer = sealer
        self._materials = materials

    async def pack(self, submission_id: str, packs: PackSet) -> Parcel:
        """Return the submission in the region's form. Raises MappingFailed, Unavailable."""
        body, files = await self._store.read(lambda tx: self._load(tx, submission_id))
        document = packs.need("submission").to_region(body)
        return Parcel(submission_id, document, [self._material(code, blob) for code, blob in files], packs.version)

    def _load(self, tx: Connection, submission_id: str) -> tuple[Mapping[str, Any], list[tuple[str, Blob]]]:
        query = select(submissions.c.body).where(submissions.c.id == submission_id)
        body = open_body(self._sealer, submission_id, tx.execute(query).scalar_one())
        joined = (
            select(submission_materials.c.code, *blobs.c)
            .join(blobs, blobs.c.id == submission_materials.c.blob_id)
            .where(submission_materials.c.submission_id == submission_id)
            .order_by(submission_materials.c.position)
        )
        rows = [dict(row) for row in tx.execute(joined).mappings()]
        return body, [(row["code"], self._materials.read_row(row)) for row in rows]

    def _material(self, code: str, blob: Blob) -> Material:
        return Material(code, blob.name, blob.media_type, blob.size, blob.sha256, _opener(self._materials, blob.id))


def _opener(materials: Materials, blob_id: str) -> Callable[[], AsyncIterator[bytes]]:
    return lambda: materials.open(blob_id)


def seal_body(sealer: Sealer, submission_id: str, body: Mapping[str, Any]) -> bytes:
    """Seal a canonical submission for its row."""
    return sealer.seal(orjson.dumps(dict(body), option=orjson.OPT_SORT_KEYS), f"submissions.body:{submission_id}")


def open_body(sealer: Sealer, submission_id: str, sealed: bytes) -> dict[str, Any]:
    """Open a canonical submission from its row."""
    body: dict[str, Any] = orjson.loads(sealer.open(sealed, f"submissions.body:{submission_id}"))
    return body
