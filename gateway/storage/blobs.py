"""Blobs: files in transit, encrypted by us before they leave the process.

Owns: what sealed bytes look like, and that they come and go whole. Leaves to `places`: where they lie. To
`gateway.submissions`: what a blob belongs to, and of which parts it is made. A part is an object of its own, written
whole or not at all; it is a sequence of frames, each sealed apart with its position in the context, so that no frame
can be moved, dropped or repeated: the last one says that it is the last.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import obstore
from obstore import Bytes
from obstore.store import LocalStore, ObjectStore

from gateway.crypto.at_rest import Sealer
from gateway.errors import Unavailable
from gateway.storage.places import TROUBLE, detail_of, trouble_of

FRAME = 1024 * 1024
"""Clear bytes in a frame."""
_HEAD = struct.Struct(">I")


class Blobs:
    """Sealed objects by key. The parts of blob `BL1` have keys `BL1/…`."""

    def __init__(self, store: ObjectStore, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def put(self, key: str, clear: bytes | bytearray) -> None:
        """Write one object, whole or not at all; a key is written once. Raises Unavailable."""
        sealed = bytearray()
        for frame in self._sealed(key, memoryview(clear)):
            sealed += frame
            await asyncio.sleep(0)  # sealing takes its time; others have their turn
        try:
            await obstore.put_async(self._store, key, memoryview(sealed), use_multipart=False)
            await self._settle(key)
        except (*TROUBLE, OSError) as error:
            raise _unavailable("The file cannot be stored just now.", error) from error

    async def _settle(self, key: str) -> None:
        """Have a local disk keep what was written, also through a power cut; other stores answer after they did."""
        if isinstance(self._store, LocalStore) and self._store.prefix is not None:
            path = Path(self._store.prefix) / key
            await asyncio.to_thread(_sync, [path, path.parent, path.parent.parent])

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """Yield the clear bytes of one object, frame by frame. Raises Unavailable when they do not open to the end.

        The object is held in memory: parts are of a few megabytes.
        """
        held = memoryview(await self._stored(key))
        position = 0
        last = False
        while (frame := _take(held)) is not None:
            last, sealed, held = frame
            yield self._sealer.open(sealed, _context(key, position, last=last))
            position += 1
        if held or not last:
            raise Unavailable("Stored data cannot be opened.", detail=f"blob {key} is cut short")

    async def drop(self, keys: Collection[str]) -> None:
        """Delete objects; one that is not there is deleted already. Raises Unavailable."""
        try:
            if isinstance(self._store, LocalStore):
                for key in keys:
                    with suppress(FileNotFoundError):
                        await obstore.delete_async(self._store, key)
            elif keys:  # S3 says "not there" of a bucket only, and takes a thousand keys at a time
                await obstore.delete_async(self._store, list(keys))
        except TROUBLE as error:
            raise _unavailable("The file cannot be deleted just now.", error) from error

    async def under(self, blob_id: str) -> list[str]:
        """Return the keys of all parts of a blob that were ever written and are still there. Raises Unavailable."""
        try:
            return [meta["path"] async for batch in obstore.list(self._store, prefix=blob_id) for meta in batch]
        except TROUBLE as error:
            raise _unavailable("The place for files does not answer just now.", error) from error

    async def drop_all(self, blob_id: str) -> None:
        """Delete every part of a blob, and what a process that died in the middle of one may have left on a disk.

        Raises Unavailable; what is not deleted then is found by the next call.
        """
        await self.drop(await self.under(blob_id))
        if isinstance(self._store, LocalStore) and self._store.prefix is not None:
            await asyncio.to_thread(shutil.rmtree, Path(self._store.prefix) / blob_id, ignore_errors=True)
        await self.drop([blob_id])  # of releases that kept a blob as one object

    async def trouble(self) -> str | None:
        """Return why the place does not answer, in words for an operator; None when it does. Writes nothing."""
        return await trouble_of(self._store)

    async def _stored(self, key: str) -> Bytes:
        try:
            return await (await obstore.get_async(self._store, key)).bytes_async()
        except TROUBLE as error:
            raise _unavailable("Stored data cannot be opened.", error) from error

    def _sealed(self, key: str, clear: memoryview) -> Iterator[bytes]:
        for position, begin in enumerate(range(0, max(len(clear), 1), FRAME)):
            piece = clear[begin : begin + FRAME]
            yield self._frame(key, position, bytes(piece), last=begin + FRAME >= len(clear))

    def _frame(self, blob_id: str, position: int, clear: bytes, *, last: bool) -> bytes:
        sealed = self._sealer.seal(clear, _context(blob_id, position, last=last))
        return _HEAD.pack(len(sealed) << 1 | last) + sealed


def _sync(paths: Sequence[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unavailable(public: str, error: Exception) -> Unavailable:
    return Unavailable(public, detail=detail_of(error))


def _take(held: memoryview) -> tuple[bool, memoryview, memoryview] | None:
    """Return whether the first frame is the last one, the frame, and what follows; None where no whole one is."""
    if len(held) < _HEAD.size:
        return None
    (word,) = _HEAD.unpack_from(held)
    end = _HEAD.size + (word >> 1)
    return None if len(held) < end else (bool(word & 1), held[_HEAD.size : end], held[end:])


def _context(blob_id: str, position: int, *, last: bool) -> str:
    return f"blob:{blob_id}:{position}:{'last' if last else 'more'}"
