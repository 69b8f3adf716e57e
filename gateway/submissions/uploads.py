"""Uploads (上传): how the bytes of a file arrive, in one request or in many, and become a blob.

Owns: the order of things while bytes arrive. They are measured, digested, looked into and sealed as they pass; every
`PART` they are written, and only then the upload's offset moves. So a connection that dies costs what was not written
yet, and a process that dies no more. When the last byte is there, the whole is held against its declaration before
anything can refer to it. Leaves to `upload_rows`: the state; to `contents`: what may be in a file; to
`gateway.web.api`: HTTP (draft-ietf-httpbis-resumable-upload).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.errors import BodyTooLarge, FieldProblem, GatewayError, InvalidRequest, Unavailable
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.blobs import FRAME, Blobs
from gateway.submissions import upload_rows as rows
from gateway.submissions.contents.inspector import Digests, Findings, Inspector
from gateway.submissions.contents.kinds import ContentRefused, need_kind
from gateway.submissions.materials import Blob, name_context, owner_of
from gateway.submissions.upload_rows import Hold, Part, Standing, Unused

T = TypeVar("T")
log = structlog.get_logger("uploads")

PART = 4 * FRAME
"""Clear bytes in a part: what a request holds in memory, and what is lost when a process dies."""
LOOKS = 2
"""Files that are looked into at a time: hostile ones take the time they get, and threads have memory of their own."""
_SLICE = FRAME // 4
"""What is looked at in one go, on a thread: between two, others have their turn."""
_LONGEST_PAUSE = rows.HOLD / 3
"""After this time what has arrived is written, although it is no whole part: the hold is renewed with it."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Bytes of one file, bytes of all unfinished uploads of one client, and for how long one may stay unfinished.

    `unused` is what one client may have that no case has: looked at when an upload begins.
    """

    file_bytes: int
    unfinished_bytes: int
    unfinished_for: timedelta
    unused: Unused


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client says of a file before it sends it. `digests` of the whole, in hex by RFC 9530 name."""

    name: str
    media_type: str
    length: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that one request brings. `size` is what the request says it has; `digests` are of exactly these bytes.

    `whole` are digests of the whole file, `length` what it will have; `last` says that the file ends with these bytes.
    """

    offset: int
    chunks: AsyncIterator[bytes]
    last: bool
    size: int | None = None
    length: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    whole: Mapping[str, str] = field(default_factory=dict)


class Uploads:
    """Takes files."""

    def __init__(self, *, store: Store, blobs: Blobs, sealer: Sealer, clock: Clock, limits: UploadLimits) -> None:
        self._store = store
        self._blobs = blobs
        self._sealer = sealer
        self._clock = clock
        self.limits = limits
        self._looks = ThreadPoolExecutor(LOOKS, thread_name_prefix="look")

    # --- in one request ----------------------------------------------------------------------------------------

    async def upload(
        self, caller: Caller, *, name: str, media_type: str, chunks: AsyncIterator[bytes], sha256: str | None = None
    ) -> Blob:
        """Store one file that a clerk sends. Raises as `take`."""
        digests = {} if sha256 is None else {"sha-256": sha256.lower()}
        return await self.take(caller, Wish(name, media_type), Piece(0, chunks, last=True, digests=digests))

    async def take(self, caller: Caller, wish: Wish, piece: Piece) -> Blob:
        """Store one file that comes in one request; what goes wrong leaves nothing behind.

        Raises InvalidRequest (type, content or digest), BodyTooLarge or Unavailable.
        """
        wish = replace(wish, length=wish.length if piece.size is None else piece.size)
        row = self._row(caller, wish)
        held = self._wish(caller, row["id"], piece)
        row.update(rows.holding(held, self._clock()), attempt=1, why=rows.ONCE)
        await self._store.write(lambda tx: self._begin(tx, row))
        standing = rows.standing_of(row)
        try:
            return self._blob(standing, await self._request(held, standing, piece).finish())
        except BaseException:
            await asyncio.shield(self._abandon(held))
            raise

    # --- in several requests -----------------------------------------------------------------------------------

    async def begin(self, caller: Caller, wish: Wish) -> Standing:
        """Begin an upload. Raises InvalidRequest (type) or BodyTooLarge."""
        row = self._row(caller, wish)
        await self._store.write(lambda tx: self._begin(tx, row))
        return rows.standing_of(row)

    async def look(self, caller: Caller, upload_id: str) -> Standing:
        """Return where an upload is. Raises NotFound."""
        return await self._store.read(lambda tx: rows.look(tx, upload_id, owner_of(caller)))

    def ends_at(self, standing: Standing) -> datetime:
        """Return until when an upload may stay unfinished."""
        return standing.begun_at + self.limits.unfinished_for

    async def append(self, caller: Caller, upload_id: str, piece: Piece) -> Standing | Blob:
        """Append to an upload; return the blob when the piece was the last one.

        Raises NotFound, OffsetMismatch, UploadBusy, Conflict, InvalidRequest, BodyTooLarge or Unavailable. A file whose
        content or whole digest is refused is dropped; after any other refusal the upload goes on at its offset.
        """
        held = self._wish(caller, upload_id, piece)
        unfinished = self.limits.unfinished_bytes
        standing = await self._store.write(lambda tx: rows.hold(tx, held, self._clock(), unfinished))
        request = self._request(held, standing, piece)
        try:
            if piece.last:
                return self._blob(standing, await request.finish())
            await request.append()
        except (ContentRefused, WholeDigestWrong):
            await self._abandon(held)
            raise
        except BaseException:
            await asyncio.shield(self._let_go(held))
            raise
        await self._release(held)
        return await self.look(caller, upload_id)

    async def drop(self, caller: Caller, upload_id: str) -> None:
        """Delete an upload, or a blob that no case has. Raises NotFound or Conflict."""
        await self._store.write(lambda tx: rows.condemn(tx, upload_id, owner_of(caller), "dropped"))
        await self._remove(upload_id)

    # --- details -----------------------------------------------------------------------------------------------

    def _row(self, caller: Caller, wish: Wish) -> dict[str, Any]:
        need_kind(wish.media_type)
        self._check_size(wish.length or 0)
        upload_id = "BL" + secrets.token_hex(16)
        return {
            "id": upload_id,
            "client_id": owner_of(caller),
            "name": self._sealer.seal(wish.name[:200].encode(), name_context(upload_id)),
            "media_type": wish.media_type,
            "size": 0,
            "sha256": "",
            "created_at": self._clock(),
            "state": "open",
            "length": wish.length,
            "reserved": wish.length or 0,
            "wanted": dict(wish.digests) or None,
            "attempt": 0,
        }

    def _begin(self, tx: Connection, row: Mapping[str, Any]) -> None:
        rows.begin(tx, row, self.limits.unfinished_bytes, self.limits.unused)

    def _request(self, held: Hold, standing: Standing, piece: Piece) -> _Request:
        return _Request(self._store, self._blobs, self._clock, self.limits, self._looks, held, standing, piece)

    def _wish(self, caller: Caller, upload_id: str, piece: Piece) -> Hold:
        """Return what a request needs to hold. Raises InvalidRequest when it contradicts itself, or BodyTooLarge."""
        end = piece.offset + (piece.size or 0)
        length = end if piece.last and piece.size is not None else piece.length
        if piece.length not in (None, length):
            problem = FieldProblem("Upload-Length", f"is {piece.length}, but the file would end at {length}", "length")
            raise InvalidRequest("The request contradicts itself.", problems=[problem], code="upload.length")
        reserve = max(end, length or 0)
        self._check_size(reserve)
        return Hold(upload_id, owner_of(caller), secrets.token_hex(16), piece.offset, length, reserve)

    def _check_size(self, size: int) -> None:
        if size > self.limits.file_bytes:
            raise too_large(self.limits.file_bytes)

    def _blob(self, standing: Standing, found: Findings) -> Blob:
        name = self._sealer.open(standing.sealed_name, name_context(standing.id)).decode()
        return Blob(standing.id, name, standing.media_type, found.size, found.digests["sha-256"])

    async def _release(self, held: Hold) -> None:
        with suppress(GatewayError):  # a store that is away now lets go of it when the hold ends
            await self._store.write(lambda tx: rows.release(tx, held))

    async def _let_go(self, held: Hold) -> None:
        await self._release(held)
        await self._leave_nothing(held)

    async def _leave_nothing(self, held: Hold) -> None:
        """Delete what a request has written although its upload was deleted meanwhile: no row leads there any more."""
        with suppress(GatewayError):
            if not await self._store.read(lambda tx: rows.is_kept(tx, held.upload_id)):
                await self._blobs.drop_all(held.upload_id)

    async def _abandon(self, held: Hold) -> None:
        """Delete what is left of an upload that was refused; what cannot be deleted now, the janitor deletes."""
        try:
            await self._store.write(lambda tx: rows.condemn(tx, held.upload_id, held.client_id, "refused"))
            await self._remove(held.upload_id)
        except GatewayError as error:
            log.warning("an upload is left to the janitor", code=error.stable_code, detail=error.detail)
            await self._leave_nothing(held)

    async def _remove(self, upload_id: str) -> None:
        await self._blobs.drop_all(upload_id)
        await self._store.write(lambda tx: rows.forget(tx, upload_id))


class WholeDigestWrong(InvalidRequest):
    """The whole file is not what the client said; nobody knows which of its bytes are wrong."""

    code = "upload.digest"
    title = "The bytes are not those that were meant"


class _Request:
    """One request that appends, from the moment that it holds the upload."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        limits: UploadLimits,
        looks: Executor,
        held: Hold,
        standing: Standing,
        piece: Piece,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._limits = limits
        self._looks = looks
        self._held = held
        self._standing = standing
        self._piece = piece
        self._wanted = {**standing.wanted, **piece.whole}
        self._digests = Digests(piece.digests)
        self._inspector = Inspector(standing.media_type, self._wanted) if piece.offset == 0 else None
        self._size = piece.offset
        self._buffer = bytearray()
        self._parts: list[Part] = []
        self._written = 0
        self._kept_at = clock()

    async def append(self) -> None:
        """Take the bytes, and move the offset over them."""
        await self._arrive()
        await self._keep()

    async def finish(self) -> Findings:
        """Take the bytes, which are the last ones, and make a blob of the whole."""
        await self._arrive()
        if self._standing.length not in (None, self._size):
            await self._keep()
            problem = FieldProblem("Upload-Length", f"is {self._standing.length}; {self._size} bytes arrived", "length")
            raise InvalidRequest("The file is not complete.", problems=[problem], code="upload.length")
        return await self._conclude()

    async def _arrive(self) -> None:
        """Write the bytes as they come; what breaks the request off leaves what has arrived."""
        try:
            async for chunk in self._piece.chunks:
                self._take(chunk)
                if len(self._buffer) >= PART or self._clock() - self._kept_at > _LONGEST_PAUSE:
                    await self._write()
                    await self._hold_on()
        except GatewayError:
            raise
        except BaseException:  # the connection is gone, or this process ends
            await asyncio.shield(self._save())
            raise
        await self._write()
        await self._check_digests()

    def _take(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._standing.length is not None and self._size > self._standing.length:
            raise _too_long(self._standing.length)
        if self._size > self._limits.file_bytes:
            raise too_large(self._limits.file_bytes)
        self._buffer += chunk

    async def _write(self) -> None:
        """Look at what has arrived, and write it."""
        if not self._buffer:
            return
        clear, self._buffer = self._buffer, bytearray()
        await self._on_thread(self._pass, clear)
        place = f"{self._held.upload_id}/{self._standing.attempt}-{self._written}"
        self._written += 1
        await self._blobs.put(place, clear)
        self._parts.append(Part(place, len(clear)))

    def _pass(self, clear: bytearray) -> None:
        for piece in _slices(clear):
            self._digests.feed(piece)
            if self._inspector is not None:
                self._inspector.feed(piece)

    async def _hold_on(self) -> None:
        """Move the offset; what a digest vouches for counts only when all of it is there."""
        if self._piece.digests:
            await self._renew()
        else:
            await self._keep()

    async def _renew(self) -> None:
        size, limit = self._size, self._limits.unfinished_bytes
        await self._store.write(lambda tx: rows.renew(tx, self._held, size, self._clock(), limit))
        self._kept_at = self._clock()

    async def _keep(self) -> None:
        """Move the offset over what is written."""
        parts, size = self._parts, self._size - len(self._buffer)
        limit = self._limits.unfinished_bytes
        await self._store.write(lambda tx: rows.keep(tx, self._held, parts, size, self._clock(), limit))
        self._parts = []
        self._kept_at = self._clock()

    async def _save(self) -> None:
        """Keep what has arrived before the request broke off."""
        with suppress(GatewayError):
            await self._write()
            await self._keep()

    async def _check_digests(self) -> None:
        """Refuse bytes that are not those of their digest; they are dropped, the upload stays where it was."""
        wrong = _wrong(self._piece.digests, self._digests.read())
        if not wrong:
            return
        with suppress(Unavailable):  # what stays is dropped with the upload
            await self._blobs.drop([part.place for part in self._parts])
        problem = FieldProblem(
            "Content-Digest", f"does not fit the bytes that arrived ({wrong}); send them again", "digest"
        )
        raise InvalidRequest("The bytes were not taken.", problems=[problem])

    # --- finishing ---------------------------------------------------------------------------------------------

    async def _conclude(self) -> Findings:
        """Hold the whole against its declaration, and make a blob of it."""
        earlier = await self._store.read(lambda tx: rows.parts_of(tx, self._held.upload_id))
        found = await self._look([*earlier, *self._parts])
        wrong = _wrong(self._wanted, found.digests)
        if wrong:
            problem = FieldProblem("Repr-Digest", f"does not fit the whole file ({wrong}); begin again", "digest")
            raise WholeDigestWrong("The file was not stored.", problems=[problem])
        parts, sha256 = self._parts, found.digests["sha-256"]
        await self._store.write(lambda tx: rows.finish(tx, self._held, parts, found.size, sha256, self._clock()))
        await self._sweep({part.place for part in [*earlier, *parts]})
        return found

    async def _on_thread(self, look: Callable[..., T], *given: Any) -> T:
        """Look at bytes without holding up everything else."""
        return await asyncio.get_running_loop().run_in_executor(self._looks, look, *given)

    async def _look(self, parts: Sequence[Part]) -> Findings:
        """Look at the whole: as it passed, when it came in one request, and otherwise by reading it back."""
        inspector = self._inspector
        if inspector is None:
            inspector = Inspector(self._standing.media_type, self._wanted)
            async for frame in self._read(parts):
                await self._on_thread(_feed, inspector.feed, frame)
        if inspector.size != self._size:
            raise Unavailable("Stored data cannot be opened.", detail=f"upload {self._held.upload_id} lacks bytes")
        found = await self._on_thread(inspector.close)
        if found.walk is not None:
            async for frame in self._read(parts):
                await self._on_thread(_feed, found.walk.feed, frame)
            found.walk.close()
        return found

    async def _read(self, parts: Sequence[Part]) -> AsyncIterator[bytes]:
        """Yield the clear bytes of parts, and hold on meanwhile."""
        for part in parts:
            if self._clock() - self._kept_at > _LONGEST_PAUSE:
                await self._renew()
            async for frame in self._blobs.get(part.place):
                yield frame

    async def _sweep(self, known: set[str]) -> None:
        """Delete parts that were written and never counted, by requests that died or were refused."""
        if self._standing.attempt > 1:
            with suppress(Unavailable):
                await self._blobs.drop(set(await self._blobs.under(self._held.upload_id)) - known)


def _slices(clear: bytes | bytearray) -> Iterator[bytes]:
    for begin in range(0, len(clear), _SLICE):
        yield bytes(memoryview(clear)[begin : begin + _SLICE])


def _feed(look: Callable[[bytes], None], frame: bytes) -> None:
    for piece in _slices(frame):
        look(piece)


def too_large(limit: int) -> BodyTooLarge:
    """Return the refusal of a file that is too large."""
    return BodyTooLarge(f"A file may have {limit} bytes at most (limits.upload_bytes).")


def _too_long(length: int) -> InvalidRequest:
    problem = FieldProblem("Upload-Length", f"is {length}, and more bytes arrived", "length")
    return InvalidRequest("The file has more bytes than was said.", problems=[problem], code="upload.length")


def _wrong(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return the names of the digests that differ."""
    return ", ".join(name for name, value in wanted.items() if found.get(name) != value)
