"""What is handed to a region: the submission in the region's own form, and its materials.

Owns: reading a stored submission back, and converting it with the mapping pack that it is given. Leaves to `borders`:
whether it may leave now. To `attempt`: which version of the pack. To adapters: sending.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select

from gateway.crypto.at_rest import Sealer
from gateway.errors import Unavailable
from gateway.mapping.library import PackSet
from gateway.ports import Material, RegionDocument
from gateway.storage import Store
from gateway.storage.tables import blobs, case_messages, consents, region_numbers, submission_materials, submissions
from gateway.submissions.borders import ASKED, RECORDED, Borders, Rows
from gateway.submissions.materials import Blob, Materials

_M = submission_materials.c
_BODY = (
    select(submissions.c.body, *ASKED)
    .outerjoin(consents, RECORDED)
    .where(submissions.c.id == bindparam("case"))
    .order_by(consents.c.given_at)
)
_MESSAGE = (
    select(case_messages, *ASKED)
    .join(submissions, submissions.c.id == case_messages.c.submission_id)
    .outerjoin(consents, RECORDED)
    .where(case_messages.c.id == bindparam("message"))
    .order_by(consents.c.given_at)
)
_FILES = (
    select(_M.code, *blobs.c)
    .join(blobs, blobs.c.id == _M.blob_id)
    .where(_M.submission_id == bindparam("case"), _M.message_id.is_not_distinct_from(bindparam("message")))
    .order_by(_M.position)
)
"""Built once: every attempt runs them."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One submission or message, ready to be sent, and the version of the mappings that it is written with.

    `number` is the region's own number of the case; a submission has none yet. `certified`: certificates stand for some
    of its materials.
    """

    submission_id: str
    document: RegionDocument
    materials: Sequence[Material]
    mapping_version: str
    number: str = ""
    certified: bool = False


class Parcels:
    """Packs stored submissions for a region."""

    def __init__(self, store: Store, sealer: Sealer, materials: Materials, borders: Borders) -> None:
        self._store = store
        self._sealer = sealer
        self._materials = materials
        self._borders = borders

    async def pack(self, submission_id: str, packs: PackSet) -> Parcel:
        """Return the submission in the region's form. Raises MappingFailed, Unavailable; NotPermitted at a border."""
        rows, files = await self._store.read(lambda tx: self._load(tx, submission_id))
        body = open_body(self._sealer, submission_id, rows[0]["body"])
        self._borders.require_case(rows, body)
        document = packs.need("submission").to_region(body)
        return Parcel(
            submission_id, document, [self._material(code, blob) for code, blob in files], packs.version,
            certified=bool(body.get("certified")),
        )  # fmt: skip

    async def pack_message(self, message_id: str, packs: PackSet, region: str) -> Parcel:
        """Return a message about a case in the region's form. Raises as `pack`."""
        rows, number, files = await self._store.read(lambda tx: self._load_message(tx, message_id, region))
        row = rows[0]
        body = {**open_message(self._sealer, message_id, row["body"]), "number": number}
        self._borders.require_message(rows, row["kind"], body)
        document = packs.need(row["kind"]).to_region(body)
        materials = [self._material(code, blob) for code, blob in files]
        return Parcel(row["submission_id"], document, materials, packs.version, number)

    def _load(self, tx: Connection, submission_id: str) -> tuple[Rows, list[tuple[str, Blob]]]:
        """Return the case, a row for each of its consents, and its files."""
        rows = tx.execute(_BODY, {"case": submission_id}).mappings().all()
        return rows, self._files(tx, submission_id, None)

    def _load_message(self, tx: Connection, message_id: str, region: str) -> tuple[Rows, str, list[tuple[str, Blob]]]:
        rows = tx.execute(_MESSAGE, {"message": message_id}).mappings().all()
        row = rows[0]
        number = number_at(tx, row["submission_id"], region)
        if number is None:
            raise Unavailable("The region has given no number yet.", detail=f"message {message_id}")
        return rows, number, self._files(tx, row["submission_id"], message_id)

    def _files(self, tx: Connection, submission_id: str, message_id: str | None) -> list[tuple[str, Blob]]:
        """Return what came with the submission itself, or with one message about it."""
        found = tx.execute(_FILES, {"case": submission_id, "message": message_id}).mappings()
        return [(row["code"], self._materials.read_row(dict(row))) for row in found]

    def _material(self, code: str, blob: Blob) -> Material:
        return Material(code, blob.name, blob.media_type, blob.size, blob.sha256, _opener(self._materials, blob.id))


def number_at(tx: Connection, submission_id: str, region: str) -> str | None:
    """Return the region's own number of a case; None while it has told of none."""
    c = region_numbers.c
    query = select(c.number).where(c.submission_id == submission_id, c.region == region)
    return tx.execute(query).scalar_one_or_none()


def _opener(materials: Materials, blob_id: str) -> Callable[[], AsyncIterator[bytes]]:
    return lambda: materials.open(blob_id)


def seal_body(sealer: Sealer, submission_id: str, body: Mapping[str, Any]) -> bytes:
    """Seal a canonical submission for its row."""
    return sealer.seal(orjson.dumps(dict(body), option=orjson.OPT_SORT_KEYS), f"submissions.body:{submission_id}")


def open_body(sealer: Sealer, submission_id: str, sealed: bytes) -> dict[str, Any]:
    """Open a canonical submission from its row."""
    body: dict[str, Any] = orjson.loads(sealer.open(sealed, f"submissions.body:{submission_id}"))
    return body


def seal_message(sealer: Sealer, message_id: str, body: Mapping[str, Any]) -> bytes:
    """Seal a canonical message about a case for its row."""
    return sealer.seal(orjson.dumps(dict(body), option=orjson.OPT_SORT_KEYS), f"case_messages.body:{message_id}")


def open_message(sealer: Sealer, message_id: str, sealed: bytes) -> dict[str, Any]:
    """Open a canonical message about a case from its row."""
    body: dict[str, Any] = orjson.loads(sealer.open(sealed, f"case_messages.body:{message_id}"))
    return body


def is_complete(tx: Connection, sealer: Sealer, message_id: str) -> bool:
    """Say whether a supplement is the last one: everything that was asked for is there."""
    query = select(case_messages.c.body).where(case_messages.c.id == message_id)
    return bool(open_message(sealer, message_id, tx.execute(query).scalar_one()).get("complete"))
