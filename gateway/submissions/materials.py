"""Materials (申请材料): files that callers upload before they refer to them in an application.

Owns: who may use which blob, to which case it belongs from then on, and handing out its bytes. Leaves to `uploads`:
how a file arrives; to `disposal`: how it goes; to `storage.blobs`: bytes on disk.

A blob belongs to whoever uploaded it until an application refers to it, and to that one case from then on. Within a
case the same bytes are kept once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.errors import FieldProblem, InvalidRequest, Unavailable
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.tables import blobs as blob_table
from gateway.submissions import upload_rows as rows


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored upload. `sha256` is lower-case hex of the clear bytes; `size` in bytes; `case` is whose it is, if any's.

    `state` is `stored`, or `open` while bytes are missing, or `deleted` when only its digest is left.
    """

    id: str
    name: str
    media_type: str
    size: int
    sha256: str
    state: str = "stored"
    case: str | None = None


class Materials:
    """Hands out uploads to their owner's applications, and their bytes to regions. `case_bytes` bounds one case."""

    def __init__(self, store: Store, blobs: Blobs, sealer: Sealer, case_bytes: int) -> None:
        self._store = store
        self._blobs = blobs
        self._sealer = sealer
        self._case_bytes = case_bytes

    async def show(self, caller: Caller, blob_id: str) -> Blob:
        """Return what is known of one file of this caller. Raises NotFound."""
        found = await self._store.read(lambda tx: self.find(tx, caller, [blob_id]))
        if blob_id not in found:
            raise rows.not_found()
        return found[blob_id]

    def find(self, tx: Connection, caller: Caller, blob_ids: list[str]) -> dict[str, Blob]:
        """Return those of these blobs that this caller uploaded. Part of the caller's transaction."""
        c = blob_table.c
        query = select(blob_table).where(c.id.in_(blob_ids), c.client_id == owner_of(caller))
        found = [self.read_row(dict(row)) for row in tx.execute(query).mappings()]
        return {blob.id: blob for blob in found if blob.case is not None or blob.state in ("open", "stored")}

    def belong(self, tx: Connection, case: str, blobs: Sequence[Blob]) -> dict[str, str]:
        """Give blobs to a case, in the transaction that writes it. Returns for each id the id under which it is kept.

        Raises InvalidRequest when one was taken or deleted meanwhile, or when the case would have too much.
        """
        c = blob_table.c
        query = select(c.id, c.sha256, c.media_type, c.size).where(c.case_id == case, c.state == "stored")
        there = tx.execute(query).all()
        kept = {(row.sha256, row.media_type): row.id for row in there}
        total = sum(row.size for row in there)
        places: dict[str, str] = {row.id: row.id for row in there}
        for blob in {blob.id: blob for blob in blobs}.values():
            if blob.id in places:
                continue
            twin = kept.setdefault((blob.sha256, blob.media_type), blob.id)
            _give(tx, blob, case, twin)
            places[blob.id] = twin
            total += blob.size if twin == blob.id else 0
        if total > self._case_bytes:
            text = f"have {total} bytes together; a case may have {self._case_bytes} (limits.case_bytes)"
            problem = FieldProblem("materials", text, "case_limit")
            raise InvalidRequest("The materials are too large together.", problems=[problem])
        return places

    def read_row(self, row: dict[str, Any]) -> Blob:
        """Return the blob that a row of the table describes."""
        sealed, blob_id = row["name"], str(row["id"])
        name = self._sealer.open(sealed, name_context(blob_id)).decode() if sealed else ""
        return Blob(
            blob_id, name, row["media_type"], row["size"], row["sha256"], row["state"], row["case_id"]
        )  # fmt: skip

    async def open(self, blob_id: str) -> AsyncIterator[bytes]:
        """Yield the clear bytes of a blob, in constant memory. Raises Unavailable when they are not all there."""
        size, parts = await self._store.read(lambda tx: (_stored_size(tx, blob_id), rows.parts_of(tx, blob_id)))
        if size is None or sum(part.size for part in parts) != size:
            raise Unavailable("A stored file is not there any more.", detail=f"blob {blob_id}")
        for part in parts:
            size = 0
            async for frame in self._blobs.get(part.place):
                size += len(frame)
                yield frame
            if size != part.size:
                raise Unavailable("Stored data cannot be opened.", detail=f"part {part.place} is of another size")


def _stored_size(tx: Connection, blob_id: str) -> int | None:
    c = blob_table.c
    return tx.execute(select(c.size).where(c.id == blob_id, c.state == "stored")).scalar_one_or_none()


def _give(tx: Connection, blob: Blob, case: str, twin: str) -> None:
    """Give one blob to a case; of two with the same bytes only one is kept. Raises InvalidRequest."""
    c = blob_table.c
    values = {"case_id": case} if twin == blob.id else {"case_id": case, "state": "deleting", "why": "twin"}
    free = update(blob_table).where(c.id == blob.id, c.state == "stored", c.case_id.is_(None))
    if tx.execute(free.values(values)).rowcount == 0:
        problem = FieldProblem("materials", f"{blob.id} was used or deleted meanwhile; upload it again", "blob_used")
        raise InvalidRequest("A material cannot be used.", problems=[problem])


def owner_of(caller: Caller) -> str:
    """Return whose blobs and cases these are: the client, and for clerks the window."""
    return f"{caller.client_id}/{caller.window_id}" if caller.window_id else caller.client_id


def name_context(blob_id: str) -> str:
    """Return the place to which a sealed file name belongs."""
    return f"blobs.name:{blob_id}"
