"""Blobs: files in transit, encrypted by us before they leave the process.

Owns: where sealed bytes lie (a local folder or S3, through obstore) and their framing. Leaves to `gateway.submissions.
materials`: what a blob belongs to. A blob is a sequence of frames, each sealed apart with its position in the context,
so that a file of any size is written and read in constant memory and no frame can be moved, dropped or repeated: the
last one says that it is the last.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from gateway.crypto.at_rest import Sealer
from gateway.errors import Unavailable

FRAME = 1024 * 1024
"""Clear bytes in a frame."""
_HEAD = struct.Struct(">I")
_TROUBLE = (BaseError, FileNotFoundError)
"""What obstore raises of its own: its family, and Python's own error for a blob that is not there."""


def open_blob_store(place: str, folder: Path) -> ObjectStore:
    """Return the store for `s3://…`, or for a folder relative to the configuration's."""
    if "://" in place:
        return from_url(place)
    path = folder / place
    path.mkdir(parents=True, exist_ok=True)
    return LocalStore(prefix=str(path))


class Blobs:
    """Sealed files by id."""

    def __init__(self, store: ObjectStore, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def put(self, blob_id: str, clear: AsyncIterator[bytes]) -> None:
        """Write a blob. An id is written once; what `clear` raises comes out as it is and leaves nothing behind."""
        try:
            await obstore.put_async(self._store, blob_id, self._sealed(blob_id, clear))
        except _TROUBLE as error:
            raise _unavailable("The file cannot be stored just now.", error) from error

    async def get(self, blob_id: str) -> AsyncIterator[bytes]:
        """Yield the clear bytes of a blob, frame by frame. Raises Unavailable when they do not open to the end."""
        held = bytearray()
        position = 0
        last = False
        async for piece in self._stored(blob_id):
            held += piece
            while (frame := _take(held)) is not None:
                last, sealed = frame
                yield self._sealer.open(sealed, _context(blob_id, position, last=last))
                position += 1
        if held or not last:
            raise Unavailable("Stored data cannot be opened.", detail=f"blob {blob_id} is cut short")

    async def drop(self, blob_id: str) -> None:
        """Delete a blob."""
        try:
            await obstore.delete_async(self._store, blob_id)
        except _TROUBLE as error:
            raise _unavailable("The file cannot be deleted just now.", error) from error

    async def _stored(self, blob_id: str) -> AsyncIterator[bytes]:
        try:
            answer = await obstore.get_async(self._store, blob_id)
            async for piece in answer.stream():
                yield bytes(piece)
        except _TROUBLE as error:
            raise _unavailable("Stored data cannot be opened.", error) from error

    async def _sealed(self, blob_id: str, clear: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        held = bytearray()
        position = 0
        async for piece in clear:
            held += piece
            while len(held) > FRAME:
                yield self._frame(blob_id, position, bytes(held[:FRAME]), last=False)
                del held[:FRAME]
                position += 1
        yield self._frame(blob_id, position, bytes(held), last=True)

    def _frame(self, blob_id: str, position: int, clear: bytes, *, last: bool) -> bytes:
        sealed = self._sealer.seal(clear, _context(blob_id, position, last=last))
        return _HEAD.pack(len(sealed) << 1 | last) + sealed


def _unavailable(public: str, error: Exception) -> Unavailable:
    return Unavailable(public, detail=str(error).partition("\n")[0])


def _take(held: bytearray) -> tuple[bool, bytes] | None:
    if len(held) < _HEAD.size:
        return None
    (word,) = _HEAD.unpack_from(held)
    end = _HEAD.size + (word >> 1)
    if len(held) < end:
        return None
    sealed = bytes(held[_HEAD.size : end])
    del held[:end]
    return bool(word & 1), sealed


def _context(blob_id: str, position: int, *, last: bool) -> str:
    return f"blob:{blob_id}:{position}:{'last' if last else 'more'}"
