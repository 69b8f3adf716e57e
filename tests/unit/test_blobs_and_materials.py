"""Files in transit: sealed frame by frame, streamed in constant memory, and whole or not there at all."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.errors import BodyTooLarge, GatewayError, InvalidRequest, Unavailable
from gateway.storage import Store
from gateway.storage.blobs import FRAME, Blobs, open_blob_store
from gateway.storage.tables import blobs as blob_table
from gateway.submissions.materials import Blob, Materials
from tests.support.clock import ManualClock

PDF = b"%PDF-1.7\n"
LIMIT = 6 * 1024 * 1024
AGENCY = Caller("agency", "机构", "11440100696927671X", "440100", frozenset())
WINDOW = Caller("pearl-window", "机构", "11440100696927671X", "440100", frozenset(), "G-1", "GZ-01")
NEIGHBOUR = Caller("pearl-window", "机构", "11440100696927671X", "440100", frozenset(), "G-2", "GZ-02")


async def pieces(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]


async def whole(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def blobs(folder: Path, sealer: Sealer) -> Blobs:
    return Blobs(open_blob_store("blobs", folder.parent), sealer)


# --- blobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 5 * 1024 * 1024 + 7])
@pytest.mark.parametrize("piece", [1000, FRAME, 3 * FRAME])
async def test_a_file_of_any_size_comes_back_as_it_was(size: int, piece: int, blobs: Blobs, unblocked: None) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    await blobs.put("one", pieces(content[:size], piece))
    assert await whole(blobs.get("one")) == content[:size]


async def test_a_large_file_is_handed_on_in_pieces_while_it_is_read(blobs: Blobs) -> None:
    await blobs.put("one", pieces(b"x" * 4 * FRAME))
    sizes = [len(piece) async for piece in blobs.get("one")]
    assert sizes == [FRAME] * 4


async def test_what_lies_on_the_disk_shows_nothing_of_the_file(blobs: Blobs, folder: Path) -> None:
    await blobs.put("one", pieces(b"the secret of the file" * 1000))
    assert b"secret" not in (folder / "one").read_bytes()


async def test_a_dropped_file_is_gone_and_its_neighbour_stays(blobs: Blobs, folder: Path) -> None:
    await blobs.put("one", pieces(b"1"))
    await blobs.put("two", pieces(b"2"))
    await blobs.drop("one")
    assert names(folder) == ["two"]


async def test_a_file_that_is_not_there_is_told_as_unavailable(blobs: Blobs) -> None:
    with pytest.raises(Unavailable):
        await whole(blobs.get("nobody"))
    with pytest.raises(Unavailable):
        await blobs.drop("nobody")


def frames(stored: bytes) -> list[bytes]:
    """Cut a stored blob into its frames, heads included."""
    found = []
    while stored:
        (word,) = struct.unpack_from(">I", stored)
        end = 4 + (word >> 1)
        found.append(stored[:end])
        stored = stored[end:]
    return found


def marked_last(frame: bytes) -> bytes:
    """Turn the frame's mark, which is not secret, into "this is the last one"."""
    return struct.pack(">I", struct.unpack_from(">I", frame)[0] | 1) + frame[4:]


TAMPERING: dict[str, Callable[[list[bytes]], bytes]] = {
    "first frame dropped": lambda f: b"".join(f[1:]),
    "middle frame dropped": lambda f: f[0] + b"".join(f[2:]),
    "last frame dropped": lambda f: b"".join(f[:-1]),
    "all but the first dropped": lambda f: f[0],
    "last frame dropped, the one before marked last": lambda f: b"".join(f[:-2]) + marked_last(f[-2]),
    "everything dropped": lambda _: b"",
    "two frames changed over": lambda f: f[1] + f[0] + b"".join(f[2:]),
    "a frame repeated": lambda f: f[0] + b"".join(f),
    "the last frame repeated": lambda f: b"".join(f) + f[-1],
    "cut inside a frame": lambda f: b"".join(f)[:-1],
    "cut inside a head": lambda f: b"".join(f[:-1]) + f[-1][:2],
    "garbage behind the end": lambda f: b"".join(f) + b"x",
    "a bit turned": lambda f: b"".join(f)[:-1] + bytes([b"".join(f)[-1] ^ 1]),
}


@pytest.mark.parametrize("tampered", TAMPERING.values(), ids=TAMPERING.keys())
async def test_a_file_that_was_tampered_with_never_passes_for_whole(
    tampered: Callable[[list[bytes]], bytes], blobs: Blobs, folder: Path
) -> None:
    await blobs.put("one", pieces(b"abc" * FRAME))
    path = folder / "one"
    cut = frames(path.read_bytes())
    assert len(cut) == 3
    path.write_bytes(tampered(cut))
    with pytest.raises(Unavailable):
        await whole(blobs.get("one"))


async def test_a_file_does_not_open_under_the_id_of_another(blobs: Blobs, folder: Path) -> None:
    await blobs.put("one", pieces(b"1"))
    (folder / "one").rename(folder / "two")
    with pytest.raises(Unavailable):
        await whole(blobs.get("two"))


async def failing(content: bytes, error: BaseException) -> AsyncIterator[bytes]:
    async for piece in pieces(content):
        yield piece
    raise error


@pytest.mark.parametrize("size", [0, 10, 7 * FRAME])
@pytest.mark.parametrize("error", [InvalidRequest("no"), ConnectionResetError("the caller went away")])
async def test_what_breaks_off_an_upload_comes_out_as_it_is_and_leaves_nothing(
    size: int, error: Exception, blobs: Blobs, folder: Path
) -> None:
    """The library between us and the disk must not wrap our own refusal."""
    with pytest.raises(type(error)) as raised:
        await blobs.put("one", failing(b"x" * size, error))
    assert raised.value is error
    assert names(folder) == []


async def test_an_upload_that_is_cancelled_leaves_no_file_that_could_be_read(blobs: Blobs) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * FRAME
        begun.set()
        await never.wait()

    upload = asyncio.create_task(blobs.put("one", endless()))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    never.set()
    with pytest.raises(Unavailable):
        await whole(blobs.get("one"))


# --- materials -----------------------------------------------------------------------------------------------------


@pytest.fixture
def materials(sqlite_store: Store, blobs: Blobs, sealer: Sealer, clock: ManualClock) -> Materials:
    return Materials(sqlite_store, blobs, sealer, clock, LIMIT)


async def upload(materials: Materials, content: bytes, caller: Caller = AGENCY, **more: Any) -> Blob:
    wanted: dict[str, Any] = {"name": "身份证.pdf", "media_type": "application/pdf", "sha256": None, **more}
    return await materials.upload(caller, chunks=pieces(content), **wanted)


async def nothing_is_left(store: Store, folder: Path) -> bool:
    count = await store.read(lambda tx: tx.execute(select(func.count()).select_from(blob_table)).scalar_one())
    return count == 0 and not names(folder)


async def refusal(materials: Materials, content: bytes, **more: Any) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        await upload(materials, content, **more)
    return refused.value


async def test_five_megabytes_are_measured_and_digested_while_they_pass(
    materials: Materials, sqlite_store: Store, sealer: Sealer, unblocked: None
) -> None:
    content = PDF + b"x" * 5 * 1024 * 1024
    digest = hashlib.sha256(content).hexdigest()
    blob = await upload(materials, content, sha256=digest.upper())
    assert (blob.size, blob.sha256, blob.name) == (len(content), digest, "身份证.pdf")
    assert await whole(materials.open(blob.id)) == content
    row = await sqlite_store.read(lambda tx: tx.execute(select(blob_table)).one())
    assert (row.id, row.size, row.sha256) == (blob.id, len(content), digest)
    assert "身份证".encode() not in row.name


async def test_a_wrong_digest_leaves_nothing(materials: Materials, sqlite_store: Store, folder: Path) -> None:
    refused = await refusal(materials, PDF, sha256="0" * 64)
    assert [(problem.field, problem.code) for problem in refused.problems] == [("Content-Digest", "digest")]
    assert await nothing_is_left(sqlite_store, folder)


@pytest.mark.parametrize("content", [b"", b"%PD", b"PK\x03\x04", b"<html>", b"\x89PNG\r\n\x1a\n", b" %PDF-"])
async def test_a_file_that_does_not_begin_like_its_type_leaves_nothing(
    content: bytes, materials: Materials, sqlite_store: Store, folder: Path
) -> None:
    refused = await refusal(materials, content)
    assert [(problem.field, problem.code) for problem in refused.problems] == [("Content-Type", "content")]
    assert await nothing_is_left(sqlite_store, folder)


@pytest.mark.parametrize(
    ("media_type", "begin"),
    [
        ("application/pdf", PDF),
        ("image/jpeg", b"\xff\xd8\xff\xe0"),
        ("image/png", b"\x89PNG\r\n\x1a\n"),
        ("application/ofd", b"PK\x03\x04"),
    ],
)
async def test_every_known_type_is_taken_even_in_pieces_of_one_byte(
    media_type: str, begin: bytes, materials: Materials
) -> None:
    content = begin + b"rest"
    blob = await materials.upload(
        AGENCY, name="x", media_type=media_type, chunks=pieces(content, 1), sha256=None
    )  # fmt: skip
    assert (blob.media_type, await whole(materials.open(blob.id))) == (media_type, content)


async def test_a_type_that_is_not_taken_is_refused_before_a_byte_is_read(
    materials: Materials, sqlite_store: Store, folder: Path
) -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    with pytest.raises(InvalidRequest) as refused:
        await materials.upload(AGENCY, name="x", media_type="text/html", chunks=untouched(), sha256=None)
    assert "application/pdf, image/jpeg" in refused.value.problems[0].reason
    assert await nothing_is_left(sqlite_store, folder)


async def test_the_limit_is_named_and_kept_to_the_byte(materials: Materials, sqlite_store: Store, folder: Path) -> None:
    refused = await refusal(materials, PDF.ljust(LIMIT + 1, b"x"))
    assert isinstance(refused, BodyTooLarge)
    assert str(LIMIT) in refused.public
    assert await nothing_is_left(sqlite_store, folder)
    assert (await upload(materials, PDF.ljust(LIMIT, b"x"))).size == LIMIT


async def test_an_upload_beyond_the_limit_is_not_read_to_its_end(materials: Materials) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        yield PDF
        while True:
            read += 1
            yield b"x" * FRAME

    with pytest.raises(BodyTooLarge):
        await materials.upload(AGENCY, name="x", media_type="application/pdf", chunks=endless(), sha256=None)
    assert read <= LIMIT // FRAME + 1


async def test_an_upload_belongs_to_who_sent_it_and_to_nobody_else(materials: Materials, sqlite_store: Store) -> None:
    """Clerks share a client: there, the window is the owner."""
    blob = await upload(materials, PDF, WINDOW)
    found = [
        await sqlite_store.read(lambda tx, who=who: materials.find(tx, who, [blob.id, "BLnone"]))  # type: ignore[misc] # bound as default
        for who in (WINDOW, NEIGHBOUR, AGENCY)
    ]
    assert found == [{blob.id: blob}, {}, {}]


async def test_a_long_name_is_cut_and_its_content_kept(materials: Materials, sqlite_store: Store) -> None:
    blob = await upload(materials, PDF, name="长" * 500)
    [found] = (await sqlite_store.read(lambda tx: materials.find(tx, AGENCY, [blob.id]))).values()
    assert found == blob
    assert found.name == "长" * 200
