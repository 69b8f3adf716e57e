"""Uploads over any store and a folder, and files of every kind that is taken."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.submissions.materials import Blob
from gateway.submissions.upload_rows import Standing, Unused
from gateway.submissions.uploads import Piece, UploadLimits, Uploads

PDF = b"%PDF-1.7\n"
LIMIT = 12 * 1024 * 1024
UNFINISHED = 24 * 1024 * 1024
UNUSED = Unused(20, 30 * 1024 * 1024)
AGENCY = Caller("agency", "机构", "11440100696927671X", "440100", frozenset())
WINDOW = Caller("pearl-window", "机构", "11440100696927671X", "440100", frozenset(), "G-1", "GZ-01")
NEIGHBOUR = Caller("pearl-window", "机构", "11440100696927671X", "440100", frozenset(), "G-2", "GZ-02")


def uploads_over(store: Store, blobs: Blobs, sealer: Sealer, clock: Clock) -> Uploads:
    """Return uploads with small limits."""
    limits = UploadLimits(LIMIT, UNFINISHED, timedelta(hours=24), UNUSED)
    return Uploads(store=store, blobs=blobs, sealer=sealer, clock=clock, limits=limits)


async def pieces(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Yield content in pieces."""
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]


async def breaking(content: bytes, error: BaseException) -> AsyncIterator[bytes]:
    """Yield content, and then fail as a connection does."""
    async for piece in pieces(content):
        yield piece
    raise error


async def whole(stream: AsyncIterator[bytes]) -> bytes:
    """Return all bytes of a stream."""
    return b"".join([piece async for piece in stream])


def piece(offset: int, content: bytes, *, last: bool = False, **more: Any) -> Piece:
    """Return what one request brings."""
    return Piece(offset, pieces(content), last, **{"size": len(content), **more})


async def upload(uploads: Uploads, content: bytes, caller: Caller = AGENCY, **more: Any) -> Blob:
    """Store one file as a clerk's form does."""
    wanted: dict[str, Any] = {"name": "身份证.pdf", "media_type": "application/pdf", **more}
    return await uploads.upload(caller, chunks=pieces(content), **wanted)


async def append(uploads: Uploads, upload_id: str, offset: int, content: bytes, **more: Any) -> Standing:
    """Append bytes that are not the last ones."""
    answer = await uploads.append(AGENCY, upload_id, piece(offset, content, **more))
    assert isinstance(answer, Standing)
    return answer


async def finish(uploads: Uploads, upload_id: str, offset: int, content: bytes = b"", **more: Any) -> Blob:
    """Append the last bytes."""
    answer = await uploads.append(AGENCY, upload_id, piece(offset, content, last=True, **more))
    assert isinstance(answer, Blob)
    return answer


def files_in(folder: Path) -> list[str]:
    """Return the files in a folder and below."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


OFD = {"OFD.xml": b"<ofd:OFD/>", "Doc_0/Document.xml": b"<ofd:Document/>"}
DOCX = {"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w:document/>"}


def archive(entries: Mapping[str, bytes] = OFD, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return file.getvalue()
