"""Files on their way in: in one request or in many; nothing lost that was written, nothing believed that was not."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import func, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.errors import BodyTooLarge, Conflict, GatewayError, InvalidRequest, NotFound, Unavailable
from gateway.protocols.wire import Wire
from gateway.storage import Store
from gateway.storage.blobs import FRAME, Blobs
from gateway.storage.places import open_blob_store
from gateway.storage.tables import blobs as blob_table
from gateway.submissions.materials import Materials
from gateway.submissions.upload_rows import HOLD, OffsetMismatch, Unused, UploadBusy
from gateway.submissions.uploads import PART, Piece, UploadLimits, Uploads, Wish
from gateway.web.api.materials import routes
from tests.support.clock import ManualClock
from tests.support.uploads import (
    AGENCY,
    LIMIT,
    NEIGHBOUR,
    PDF,
    UNFINISHED,
    WINDOW,
    append,
    archive,
    breaking,
    files_in,
    finish,
    piece,
    pieces,
    upload,
    uploads_over,
    whole,
)
from tests.unit.protocol_support import kit

PDF_FILE = Wish("身份证.pdf", "application/pdf")


async def nothing_is_left(store: Store, folder: Path) -> bool:
    count = await store.read(lambda tx: tx.execute(select(func.count()).select_from(blob_table)).scalar_one())
    return count == 0 and not files_in(folder)


async def refusal(uploads: Uploads, content: bytes, **more: Any) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        await upload(uploads, content, **more)
    return refused.value


def sha256(content: bytes) -> dict[str, str]:
    return {"sha-256": hashlib.sha256(content).hexdigest()}


# --- in one request ------------------------------------------------------------------------------------------------


async def test_a_file_is_measured_digested_and_kept_in_parts(
    uploads: Uploads, materials: Materials, sqlite_store: Store, folder: Path, unblocked: None
) -> None:
    content = PDF + b"x" * (2 * PART + 7)
    blob = await upload(uploads, content, sha256=sha256(content)["sha-256"].upper())
    assert (blob.size, blob.sha256, blob.name) == (len(content), sha256(content)["sha-256"], "身份证.pdf")
    assert await whole(materials.open(blob.id)) == content
    row = await sqlite_store.read(lambda tx: tx.execute(select(blob_table)).one())
    assert (row.id, row.size, row.sha256, row.state) == (blob.id, len(content), blob.sha256, "stored")
    assert "身份证".encode() not in row.name
    assert len(files_in(folder)) == 3


async def test_a_wrong_digest_leaves_nothing(uploads: Uploads, sqlite_store: Store, folder: Path) -> None:
    refused = await refusal(uploads, PDF, sha256="0" * 64)
    assert [(problem.field, problem.code) for problem in refused.problems] == [("Content-Digest", "digest")]
    assert await nothing_is_left(sqlite_store, folder)


@pytest.mark.parametrize("content", [b"", b"%PD", b"PK\x03\x04", b"<html>", b"\x89PNG\r\n\x1a\n", b" %PDF-"])
async def test_a_file_that_does_not_begin_like_its_type_leaves_nothing(
    content: bytes, uploads: Uploads, sqlite_store: Store, folder: Path
) -> None:
    refused = await refusal(uploads, content)
    assert [(problem.field, problem.code) for problem in refused.problems] == [("Content-Type", "content")]
    assert await nothing_is_left(sqlite_store, folder)


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        ("application/pdf", PDF + b"rest"),
        ("image/jpeg", b"\xff\xd8\xff\xe0rest"),
        ("image/png", b"\x89PNG\r\n\x1a\nrest"),
        ("application/ofd", archive()),
    ],
)
async def test_every_known_type_is_taken_even_in_pieces_of_one_byte(
    media_type: str, content: bytes, uploads: Uploads, materials: Materials
) -> None:
    blob = await uploads.upload(AGENCY, name="x", media_type=media_type, chunks=pieces(content, 1))
    assert (blob.media_type, await whole(materials.open(blob.id))) == (media_type, content)


async def test_a_type_that_is_not_taken_is_refused_before_a_byte_is_read(
    uploads: Uploads, sqlite_store: Store, folder: Path
) -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    with pytest.raises(InvalidRequest) as refused:
        await uploads.upload(AGENCY, name="x", media_type="text/html", chunks=untouched())
    assert "application/pdf, image/jpeg" in refused.value.problems[0].reason
    assert await nothing_is_left(sqlite_store, folder)


async def test_the_limit_is_named_and_kept_to_the_byte(uploads: Uploads, sqlite_store: Store, folder: Path) -> None:
    refused = await refusal(uploads, PDF.ljust(LIMIT + 1, b"x"))
    assert isinstance(refused, BodyTooLarge)
    assert str(LIMIT) in refused.public
    assert await nothing_is_left(sqlite_store, folder)
    assert (await upload(uploads, PDF.ljust(LIMIT, b"x"))).size == LIMIT


async def test_an_upload_beyond_the_limit_is_not_read_to_its_end(uploads: Uploads) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        yield PDF
        while True:
            read += 1
            yield b"x" * FRAME

    with pytest.raises(BodyTooLarge):
        await uploads.upload(AGENCY, name="x", media_type="application/pdf", chunks=endless())
    assert read <= LIMIT // FRAME + 1


async def test_an_upload_belongs_to_who_sent_it_and_to_nobody_else(
    uploads: Uploads, materials: Materials, sqlite_store: Store
) -> None:
    """Clerks share a client: there, the window is the owner."""
    blob = await upload(uploads, PDF, WINDOW)
    found = [
        await sqlite_store.read(lambda tx, who=who: materials.find(tx, who, [blob.id, "BLnone"]))  # type: ignore[misc] # bound as default
        for who in (WINDOW, NEIGHBOUR, AGENCY)
    ]
    assert found == [{blob.id: blob}, {}, {}]


async def test_a_long_name_is_cut_and_its_content_kept(uploads: Uploads, materials: Materials) -> None:
    blob = await upload(uploads, PDF, name="长" * 500)
    assert await materials.show(AGENCY, blob.id) == blob
    assert blob.name == "长" * 200


@pytest.mark.parametrize("size", [0, 10, PART + FRAME])
@pytest.mark.parametrize("error", [InvalidRequest("no"), ConnectionResetError("the caller went away")])
async def test_what_breaks_off_a_file_in_one_request_comes_out_as_it_is_and_leaves_nothing(
    size: int, error: Exception, uploads: Uploads, sqlite_store: Store, folder: Path
) -> None:
    with pytest.raises(type(error)) as raised:
        await uploads.take(AGENCY, PDF_FILE, Piece(0, breaking(PDF + b"x" * size, error), last=True))
    assert raised.value is error
    assert await nothing_is_left(sqlite_store, folder)


# --- in several requests -------------------------------------------------------------------------------------------


async def test_a_file_in_several_requests_is_the_file(uploads: Uploads, materials: Materials, folder: Path) -> None:
    content = PDF + bytes(range(256)) * 20_000
    begun = await uploads.begin(AGENCY, Wish("a.pdf", "application/pdf", len(content), sha256(content)))
    first = await append(uploads, begun.id, 0, content[:1000])
    second = await append(uploads, begun.id, 1000, content[1000:3_000_000])
    assert (first.offset, second.offset, second.length, second.complete) == (1000, 3_000_000, len(content), False)
    blob = await finish(uploads, begun.id, 3_000_000, content[3_000_000:])
    assert (blob.size, blob.sha256) == (len(content), sha256(content)["sha-256"])
    assert await whole(materials.open(blob.id)) == content
    shown = await uploads.look(AGENCY, begun.id)
    assert (shown.complete, shown.offset, shown.length) == (True, len(content), len(content))


async def test_a_connection_that_dies_costs_nothing_that_has_arrived(uploads: Uploads, materials: Materials) -> None:
    begun = await uploads.begin(AGENCY, PDF_FILE)
    content = PDF + b"x" * (PART + 1000)
    with pytest.raises(ConnectionResetError):
        await uploads.append(AGENCY, begun.id, Piece(0, breaking(content, ConnectionResetError()), last=True))
    assert (await uploads.look(AGENCY, begun.id)).offset == len(content)
    blob = await finish(uploads, begun.id, len(content), b"end")
    assert await whole(materials.open(blob.id)) == content + b"end"


async def test_a_request_that_is_cancelled_keeps_what_has_arrived(uploads: Uploads) -> None:
    """So does every upload under way when the process is told to end."""
    begun = await uploads.begin(AGENCY, PDF_FILE)
    waiting, never = asyncio.Event(), asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield PDF
        waiting.set()
        await never.wait()

    request = asyncio.create_task(uploads.append(AGENCY, begun.id, Piece(0, stalling(), last=False)))
    await waiting.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (await uploads.look(AGENCY, begun.id)).offset == len(PDF)
    assert (await append(uploads, begun.id, len(PDF), b"more")).offset == len(PDF) + 4


async def test_a_wrong_digest_of_one_request_costs_that_request_only(uploads: Uploads, folder: Path) -> None:
    begun = await uploads.begin(AGENCY, PDF_FILE)
    await append(uploads, begun.id, 0, PDF, digests=sha256(PDF))
    before = files_in(folder)
    more = b"x" * (PART + 1)
    with pytest.raises(InvalidRequest) as refused:
        await append(uploads, begun.id, len(PDF), more, digests=sha256(b"other"))
    assert [(problem.field, problem.code) for problem in refused.value.problems] == [("Content-Digest", "digest")]
    assert (await uploads.look(AGENCY, begun.id)).offset == len(PDF)
    assert files_in(folder) == before
    await append(uploads, begun.id, len(PDF), more, digests=sha256(more))
    assert (await finish(uploads, begun.id, len(PDF + more))).sha256 == sha256(PDF + more)["sha-256"]


async def test_bytes_under_a_digest_do_not_count_before_all_of_them_are_there(uploads: Uploads) -> None:
    """The offset never goes back, so it may not run ahead of the check."""
    begun = await uploads.begin(AGENCY, PDF_FILE)
    content = PDF + b"x" * PART
    seen: list[int] = []

    async def watched() -> AsyncIterator[bytes]:
        async for chunk in pieces(content + b"y" * FRAME):
            yield chunk
            seen.append((await uploads.look(AGENCY, begun.id)).offset)

    wrong = Piece(0, watched(), last=False, digests=sha256(content))
    with pytest.raises(InvalidRequest):
        await uploads.append(AGENCY, begun.id, wrong)
    assert set(seen) == {0}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_wrong_digest_of_the_whole_ends_the_upload(
    algorithm: str, uploads: Uploads, sqlite_store: Store, folder: Path
) -> None:
    """Nobody knows which of its bytes are wrong."""
    begun = await uploads.begin(AGENCY, PDF_FILE)
    await append(uploads, begun.id, 0, PDF)
    wanted = {f"sha-{algorithm[3:]}": hashlib.new(algorithm, b"other").hexdigest()}
    with pytest.raises(InvalidRequest) as refused:
        await finish(uploads, begun.id, len(PDF), b"end", whole=wanted)
    assert [(problem.field, problem.code) for problem in refused.value.problems] == [("Repr-Digest", "digest")]
    assert await nothing_is_left(sqlite_store, folder)


async def test_a_request_at_another_offset_is_told_the_right_one(uploads: Uploads) -> None:
    begun = await uploads.begin(AGENCY, PDF_FILE)
    await append(uploads, begun.id, 0, PDF)
    for offset in (0, len(PDF) - 1, len(PDF) + 1):
        with pytest.raises(OffsetMismatch) as refused:
            await append(uploads, begun.id, offset, b"x")
        assert refused.value.headers == {"Upload-Offset": str(len(PDF))}


async def test_two_requests_at_once_do_not_mix_their_bytes(
    store: Store, blobs: Blobs, sealer: Sealer, clock: ManualClock
) -> None:
    """Over two replicas on one store of either engine: one goes on, the other is refused, and the offset is right."""
    replicas = [uploads_over(store, blobs, sealer, clock) for _ in range(2)]
    begun = await replicas[0].begin(AGENCY, PDF_FILE)
    both = asyncio.Event()

    async def together(content: bytes) -> AsyncIterator[bytes]:
        yield content
        await both.wait()

    def request(replica: Uploads, content: bytes) -> asyncio.Task[Any]:
        return asyncio.create_task(replica.append(AGENCY, begun.id, Piece(0, together(content), last=False)))

    tasks = [request(replica, PDF + bytes([number])) for number, replica in enumerate(replicas)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    [refused] = done
    assert isinstance(refused.exception(), UploadBusy)
    both.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Standing", "UploadBusy"]
    other = replicas[1 if tasks[0] is refused else 0]
    assert (await append(other, begun.id, len(PDF) + 1, b"!")).offset == len(PDF) + 2


async def test_what_a_dead_replica_held_goes_on_at_another(
    sqlite_store: Store, uploads: Uploads, blobs: Blobs, sealer: Sealer, clock: ManualClock, folder: Path
) -> None:
    """The one that comes back too late is refused, and its bytes are not in the file."""
    begun = await uploads.begin(AGENCY, PDF_FILE)
    arrived, back = asyncio.Event(), asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield PDF + b"x" * PART
        yield b"y" * PART
        arrived.set()
        await back.wait()

    late = asyncio.create_task(uploads.append(AGENCY, begun.id, Piece(0, stalling(), last=True)))
    await arrived.wait()
    other = uploads_over(sqlite_store, blobs, sealer, clock)
    offset = (await other.look(AGENCY, begun.id)).offset
    with pytest.raises(UploadBusy):
        await finish(other, begun.id, offset, b"end")
    clock.advance(HOLD.total_seconds() + 1)
    blob = await finish(other, begun.id, offset, b"end")
    back.set()
    with pytest.raises(Conflict):
        await late
    assert (await materials_of(sqlite_store, blobs, sealer, blob.id)).endswith(b"end")
    assert blob.size == offset + 3


async def materials_of(store: Store, blobs: Blobs, sealer: Sealer, blob_id: str) -> bytes:
    return await whole(Materials(store, blobs, sealer, LIMIT).open(blob_id))


async def test_what_was_written_and_never_counted_is_gone_once_the_file_is_complete(
    uploads: Uploads, blobs: Blobs, folder: Path
) -> None:
    """A process died between writing a part and saying so."""
    begun = await uploads.begin(AGENCY, PDF_FILE)
    await append(uploads, begun.id, 0, PDF)
    await blobs.put(f"{begun.id}/7-0", b"never counted")
    blob = await finish(uploads, begun.id, len(PDF), b"end")
    assert files_in(folder) == [f"{blob.id}/1-0", f"{blob.id}/2-0"]


async def test_lengths_that_contradict_each_other_are_refused_and_the_upload_stays(uploads: Uploads) -> None:
    begun = await uploads.begin(AGENCY, Wish("a.pdf", "application/pdf", 20))
    await append(uploads, begun.id, 0, PDF)
    wrong: list[Callable[[], Any]] = [
        lambda: append(uploads, begun.id, len(PDF), b"x", length=21),
        lambda: append(uploads, begun.id, len(PDF), b"x" * 12, size=None),
        lambda: finish(uploads, begun.id, len(PDF), b"x"),
        lambda: finish(uploads, begun.id, len(PDF), b"x", size=None),
    ]
    for request in wrong:
        with pytest.raises(InvalidRequest) as refused:
            await request()
        assert refused.value.stable_code == "upload.length"
    offset = (await uploads.look(AGENCY, begun.id)).offset
    assert (await finish(uploads, begun.id, offset, b"x" * (20 - offset))).size == 20


async def test_a_client_may_have_only_so_much_unfinished(uploads: Uploads) -> None:
    """What was announced counts, not only what has arrived; another client is not touched."""
    announced = Wish("a.pdf", "application/pdf", LIMIT)
    for _ in range(UNFINISHED // LIMIT):
        begun = await uploads.begin(AGENCY, announced)
    with pytest.raises(BodyTooLarge) as refused:
        await uploads.begin(AGENCY, Wish("b.pdf", "application/pdf", 1))
    assert (refused.value.stable_code, str(UNFINISHED) in refused.value.public) == ("upload.unfinished_limit", True)
    assert (await uploads.begin(WINDOW, announced)).offset == 0
    await uploads.drop(AGENCY, begun.id)
    assert (await uploads.begin(AGENCY, announced)).offset == 0


@pytest.mark.parametrize("unused", [Unused(3, 1000), Unused(1000, 30)], ids=["files", "bytes"])
async def test_a_client_may_have_only_so_much_that_no_case_has(
    uploads: Uploads, sqlite_store: Store, clock: ManualClock, unused: Unused
) -> None:
    """Complete or not; neither what a case has counts, nor what others have. The oldest are named."""
    uploads.limits = replace(uploads.limits, unused=unused)
    first = await upload(uploads, PDF + b"1")
    clock.advance(60)
    second = await upload(uploads, PDF + b"2")
    await uploads.begin(AGENCY, Wish("c.pdf", "application/pdf", 10))
    refused = await refusal(uploads, PDF + b"3")
    assert refused.stable_code == "upload.unused_limit"
    assert [problem.reason.split()[0] for problem in refused.problems] == [first.id, second.id]
    await upload(uploads, PDF, WINDOW)
    given = update(blob_table).where(blob_table.c.id == first.id).values(case_id="KY1")
    await sqlite_store.write(lambda tx: tx.execute(given).rowcount)
    await upload(uploads, PDF + b"3")
    assert (await refusal(uploads, PDF + b"4")).stable_code == "upload.unused_limit"
    await uploads.drop(AGENCY, second.id)
    await upload(uploads, PDF + b"4")


async def test_an_upload_can_be_dropped_and_a_file_that_no_case_has(
    uploads: Uploads, sqlite_store: Store, folder: Path
) -> None:
    begun = await uploads.begin(AGENCY, PDF_FILE)
    await append(uploads, begun.id, 0, PDF)
    blob = await upload(uploads, PDF)
    for there in (begun.id, blob.id):
        with pytest.raises(NotFound):
            await uploads.drop(WINDOW, there)
        await uploads.drop(AGENCY, there)
        with pytest.raises(NotFound):
            await uploads.append(AGENCY, there, piece(0, PDF))
    assert await nothing_is_left(sqlite_store, folder)


async def test_nothing_can_be_appended_to_a_file_that_is_complete(uploads: Uploads) -> None:
    blob = await upload(uploads, PDF)
    with pytest.raises(Conflict) as refused:
        await uploads.append(AGENCY, blob.id, piece(len(PDF), b"x"))
    assert refused.value.stable_code == "upload.complete"


async def test_content_that_is_refused_ends_an_upload_of_many_requests(
    uploads: Uploads, sqlite_store: Store, folder: Path
) -> None:
    """The name stands across two requests: the whole is read back before it is believed."""
    begun = await uploads.begin(AGENCY, PDF_FILE)
    await append(uploads, begun.id, 0, PDF + b"<< /S /Java")
    with pytest.raises(InvalidRequest) as refused:
        await finish(uploads, begun.id, len(PDF) + 11, b"Script >>")
    assert [problem.code for problem in refused.value.problems] == ["pdf_javascript"]
    assert await nothing_is_left(sqlite_store, folder)


# --- when the place for files has trouble --------------------------------------------------------------------------


class FullDisk(Blobs):
    """A place for files with room for a number of parts."""

    def __init__(self, store: Any, sealer: Sealer, room: int) -> None:
        super().__init__(store, sealer)
        self.room = room

    async def put(self, key: str, clear: bytes | bytearray) -> None:
        """Store, as long as there is room."""
        if self.room <= 0:
            raise Unavailable("The file cannot be stored just now.", detail="No space left on device")
        self.room -= 1
        await super().put(key, clear)


@pytest.fixture
def disk(folder: Path, sealer: Sealer) -> FullDisk:
    return FullDisk(open_blob_store("blobs", folder.parent), sealer, 1)


async def test_a_full_disk_refuses_for_now_and_nothing_half_stored_is_believed(
    disk: FullDisk, sqlite_store: Store, sealer: Sealer, clock: ManualClock, folder: Path
) -> None:
    uploads = uploads_over(sqlite_store, disk, sealer, clock)
    with pytest.raises(Unavailable) as refused:
        await upload(uploads, PDF + b"x" * 2 * PART)
    assert refused.value.retryable
    assert await nothing_is_left(sqlite_store, folder)


async def test_after_a_full_disk_an_upload_goes_on_where_it_was(
    disk: FullDisk, sqlite_store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    uploads = uploads_over(sqlite_store, disk, sealer, clock)
    begun = await uploads.begin(AGENCY, PDF_FILE)
    content = PDF + b"x" * 2 * PART
    with pytest.raises(Unavailable):
        await uploads.append(AGENCY, begun.id, piece(0, content, last=True))
    offset = (await uploads.look(AGENCY, begun.id)).offset
    assert PART <= offset < len(content)
    disk.room = 10
    blob = await finish(uploads, begun.id, offset, content[offset:])
    assert blob.sha256 == sha256(content)["sha-256"]


@pytest.mark.parametrize("harm", ["gone", "cut short", "another's"])
async def test_a_part_that_was_lost_keeps_a_file_from_becoming_whole(harm: str, uploads: Uploads, folder: Path) -> None:
    begun = await uploads.begin(AGENCY, PDF_FILE)
    await append(uploads, begun.id, 0, PDF)
    await append(uploads, begun.id, len(PDF), b"second")
    place, other = folder / begun.id / "1-0", folder / begun.id / "2-0"
    if harm == "gone":
        place.unlink()
    else:
        place.write_bytes(place.read_bytes()[:-1] if harm == "cut short" else other.read_bytes())
    with pytest.raises(Unavailable):
        await finish(uploads, begun.id, len(PDF) + 6, b"end")
    assert not (await uploads.look(AGENCY, begun.id)).complete


# --- memory --------------------------------------------------------------------------------------------------------


async def test_a_large_file_goes_from_the_agency_to_the_region_in_bounded_memory(
    sqlite_store: Store, blobs: Blobs, sealer: Sealer, clock: ManualClock
) -> None:
    """Sixty-four megabytes over HTTP, in and out; what grows with the file would be seen. Both ends count as well."""
    size, chunk = 64 * FRAME, bytes(64 * 1024)
    limits = UploadLimits(2 * size, 2 * size, timedelta(hours=1), Unused(2, 4 * size))
    uploads = Uploads(store=sqlite_store, blobs=blobs, sealer=sealer, clock=clock, limits=limits)
    materials = Materials(sqlite_store, blobs, sealer, size)
    arrived = hashlib.sha256()

    async def large() -> AsyncIterator[bytes]:
        yield PDF
        for _ in range(size // len(chunk)):
            yield chunk

    async def take(request: web.Request) -> web.Response:
        async for some in request.content.iter_any():
            arrived.update(some)
        return web.json_response({})

    app = web.Application()
    app.add_routes(routes(_everybody, uploads, materials, clock))
    app.router.add_put("/region", take)
    async with TestClient(TestServer(app)) as client, kit(str(client.make_url("/")).rstrip("/")) as lent:
        tracemalloc.start()
        try:
            answer = await client.post("/v1/blobs", data=large(), headers={"Content-Type": "application/pdf"})
            blob = await answer.json()
            wire, content = Wire(lent), materials.open(blob["id"])
            await wire.stream("PUT", wire.url("/region"), headers={}, content=content, size=blob["size"])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (blob["size"], blob["sha256"]) == (size + len(PDF), arrived.hexdigest())
    assert peak < 24 * FRAME


def _everybody(_scope: str, handler: Callable[[web.Request, Caller], Any]) -> Callable[[web.Request], Any]:
    async def guard(request: web.Request) -> Any:
        return await handler(request, AGENCY)

    return guard
