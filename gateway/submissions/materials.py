"""Materials (申请材料): files that callers upload before they refer to them in an application.

Owns: the upload with its digest and limit, and who may use which blob. Leaves to `storage.blobs`: bytes on disk.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.errors import BodyTooLarge, FieldProblem, InvalidRequest
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.tables import blobs as blob_table

SIGNATURES = {
    "application/pdf": (b"%PDF-",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "application/ofd": (b"PK\x03\x04",),
}
"""Media types that are taken, and how such a file begins. The declaration must fit the content."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored upload. `sha256` is lower-case hex of the clear bytes; `size` in bytes."""

    id: str
    name: str
    media_type: str
    size: int
    sha256: str


class Materials:
    """Takes uploads, and hands them out to their owner's applications."""

    def __init__(self, store: Store, blobs: Blobs, sealer: Sealer, clock: Clock, limit: int) -> None:
        self._store = store
        self._blobs = blobs
        self._sealer = sealer
        self._clock = clock
        self._limit = limit

    async def upload(
        self, caller: Caller, *, name: str, media_type: str, chunks: AsyncIterator[bytes], sha256: str | None
    ) -> Blob:
        """Store one file for this caller. Raises InvalidRequest (type, content or digest) or BodyTooLarge."""
        if media_type not in SIGNATURES:
            known = ", ".join(SIGNATURES)
            raise _refusal("Content-Type", f"must be one of {known}", "media_type")
        measure = _Measure(chunks, media_type, self._limit)
        blob_id = "BL" + secrets.token_hex(16)
        await self._blobs.put(blob_id, measure.checked())
        if sha256 is not None and sha256.lower() != measure.sha256.hexdigest():
            await self._blobs.drop(blob_id)
            raise _refusal("Content-Digest", "does not fit the bytes that arrived; send the file again", "digest")
        blob = Blob(blob_id, name[:200], media_type, measure.size, measure.sha256.hexdigest())
        await self._store.write(lambda tx: self._insert(tx, caller, blob))
        return blob

    def _insert(self, tx: Connection, caller: Caller, blob: Blob) -> None:
        row = {
            "id": blob.id,
            "client_id": owner_of(caller),
            "name": self._sealer.seal(blob.name.encode(), _context(blob.id)),
            "media_type": blob.media_type,
            "size": blob.size,
            "sha256": blob.sha256,
            "created_at": self._clock(),
        }
        tx.execute(blob_table.insert().values(row))

    def find(self, tx: Connection, caller: Caller, blob_ids: list[str]) -> dict[str, Blob]:
        """Return those of these blobs that this caller uploaded. Part of the caller's transaction."""
        query = select(blob_table).where(blob_table.c.id.in_(blob_ids), blob_table.c.client_id == owner_of(caller))
        return {row["id"]: self.read_row(dict(row)) for row in tx.execute(query).mappings()}

    def read_row(self, row: dict[str, object]) -> Blob:
        """Return the blob that a row of the table describes."""
        sealed = row["name"]
        blob_id = str(row["id"])
        name = self._sealer.open(sealed, _context(blob_id)).decode() if isinstance(sealed, bytes) else ""
        return Blob(blob_id, name, str(row["media_type"]), int(str(row["size"])), str(row["sha256"]))

    def open(self, blob_id: str) -> AsyncIterator[bytes]:
        """Yield the clear bytes of a blob."""
        return self._blobs.get(blob_id)


def owner_of(caller: Caller) -> str:
    """Return whose blobs and cases these are: the client, and for clerks the window."""
    return f"{caller.client_id}/{caller.window_id}" if caller.window_id else caller.client_id


class _Measure:
    """Counts, digests and looks at the first bytes while they pass, so that nothing is read twice."""

    def __init__(self, chunks: AsyncIterator[bytes], media_type: str, limit: int) -> None:
        self._chunks = chunks
        self._starts = SIGNATURES[media_type]
        self._media_type = media_type
        self._limit = limit
        self.size = 0
        self.sha256 = hashlib.sha256()

    async def checked(self) -> AsyncIterator[bytes]:
        head = b""
        longest = max(map(len, self._starts))
        async for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > self._limit:
                raise BodyTooLarge(f"A file may have {self._limit} bytes at most.")
            if len(head) < longest:
                head += chunk
            self.sha256.update(chunk)
            yield chunk
        if not head.startswith(self._starts):
            raise _refusal("Content-Type", f"says {self._media_type}, but the file does not begin like one", "content")


def _refusal(field: str, reason: str, code: str) -> InvalidRequest:
    return InvalidRequest("The file was not stored.", problems=[FieldProblem(field, reason, code)])


def _context(blob_id: str) -> str:
    return f"blobs.name:{blob_id}"
