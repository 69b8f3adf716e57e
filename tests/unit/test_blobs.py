"""Files at rest: sealed frame by frame, and whole or not there at all."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from gateway.crypto.at_rest import Sealer
from gateway.errors import Unavailable
from gateway.storage.blobs import FRAME, Blobs
from gateway.storage.places import open_blob_store
from tests.support.s3 import BUCKET, S3


async def whole(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


# --- places --------------------------------------------------------------------------------------------------------


class Place(Protocol):
    """What lies in a place, seen from outside."""

    def names(self) -> list[str]: ...
    def read(self, key: str) -> bytes: ...
    def write(self, key: str, stored: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder."""

    path: Path

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())

    def read(self, key: str) -> bytes:
        return (self.path / key).read_bytes()

    def write(self, key: str, stored: bytes) -> None:
        (self.path / key).write_bytes(stored)


@dataclass(frozen=True, slots=True)
class Prefix:
    """A part of a bucket."""

    s3: S3
    prefix: str

    def names(self) -> list[str]:
        return self.s3.keys(self.prefix)

    def read(self, key: str) -> bytes:
        stored: bytes = self.s3.client.get_object(Bucket=BUCKET, Key=self.prefix + key)["Body"].read()
        return stored

    def write(self, key: str, stored: bytes) -> None:
        self.s3.client.put_object(Bucket=BUCKET, Key=self.prefix + key, Body=stored)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, folder: Path) -> Place:
    """Look into the place where the blobs of a test lie; each has its own."""
    if request.param == "folder":
        return Folder(folder)
    return Prefix(request.getfixturevalue("s3"), f"{folder.parent.name}/")


@pytest.fixture
def blobs(place: Place, folder: Path, sealer: Sealer) -> Blobs:
    """Open a blob store in that place, as a configuration does."""
    if isinstance(place, Prefix):
        return Blobs(open_blob_store(f"s3://{BUCKET}/{place.prefix}", folder.parent), sealer)
    return Blobs(open_blob_store("blobs", folder.parent), sealer)


# --- blobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 5 * 1024 * 1024 + 7])
async def test_a_file_of_any_size_comes_back_as_it_was(size: int, blobs: Blobs, unblocked: None) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    await blobs.put("one", content[:size])
    assert await whole(blobs.get("one")) == content[:size]


async def test_a_large_file_is_handed_on_in_pieces_while_it_is_read(blobs: Blobs) -> None:
    await blobs.put("one", b"x" * 4 * FRAME)
    sizes = [len(piece) async for piece in blobs.get("one")]
    assert sizes == [FRAME] * 4


async def test_what_lies_there_shows_nothing_of_the_file(blobs: Blobs, place: Place) -> None:
    await blobs.put("one", b"the secret of the file" * 1000)
    assert b"secret" not in place.read("one")


async def test_a_dropped_file_is_gone_and_its_neighbour_stays(blobs: Blobs, place: Place) -> None:
    await blobs.put("one", b"1")
    await blobs.put("two", b"2")
    await blobs.drop(["one", "nobody"])
    assert place.names() == ["two"]


async def test_a_file_that_is_not_there_is_told_as_unavailable(blobs: Blobs) -> None:
    with pytest.raises(Unavailable):
        await whole(blobs.get("nobody"))


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
    tampered: Callable[[list[bytes]], bytes], blobs: Blobs, place: Place
) -> None:
    await blobs.put("one", b"abc" * FRAME)
    cut = frames(place.read("one"))
    assert len(cut) == 3
    place.write("one", tampered(cut))
    with pytest.raises(Unavailable):
        await whole(blobs.get("one"))


async def test_a_file_does_not_open_under_the_id_of_another(blobs: Blobs, place: Place) -> None:
    await blobs.put("one", b"1")
    place.write("two", place.read("one"))
    with pytest.raises(Unavailable):
        await whole(blobs.get("two"))


async def test_all_parts_of_a_file_go_and_what_a_dead_process_left_of_one(blobs: Blobs, place: Place) -> None:
    """A process that dies while it writes leaves a piece under a name that no listing shows."""
    for key in ("BL1/1-0", "BL1/1-1", "BL12/1-0"):
        await blobs.put(key, b"x")
    if isinstance(place, Folder):
        (place.path / "BL1" / "1-2#1").write_bytes(b"half of it")
    assert sorted(await blobs.under("BL1")) == ["BL1/1-0", "BL1/1-1"]
    await blobs.drop_all("BL1")
    await blobs.drop_all("BL1")
    assert place.names() == ["BL12/1-0"]


async def test_a_place_that_answers_is_no_trouble(blobs: Blobs) -> None:
    assert await blobs.trouble() is None
