"""The verification of certificate files, as the services call it.

Owns: which form a file has, the bounds on size and time, and the threads. Leaves to `ofd` and `pdf`: everything in the
file. A bad file gives a verdict, never an exception.

Constant, whatever the file holds: at most `MAX_SIZE` bytes are looked at; no more than `workers` files are unpacked at
once; a caller waits `seconds` at most for a thread, and `seconds` at most for the verdict. Python cannot stop a thread:
one that takes longer goes on, without a caller, until the bounds of `package` and `pdf` end it, and its place is not
given to another file meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import structlog

from gateway.certificates.files import ofd
from gateway.certificates.files.registry import Registry
from gateway.certificates.files.verdict import Failed, FileVerdict, Form, SealVerdict, Stated
from gateway.errors import Unavailable

log = structlog.get_logger("certificate-files")

MAX_SIZE = 16 << 20
"""Bytes that a certificate file may have."""
SECONDS = 20.0
UNEXPECTED = "file_unexpected"
"""The reason of a verdict that a defect of ours ended."""


def verify(data: bytes, registry: Registry, now: datetime) -> FileVerdict:
    """Return the verdict on a file at a time. Blocks; not for a thread that runs an event loop (PDF)."""
    form = form_of(data)
    sha256 = hashlib.sha256(data).hexdigest()
    said, problem = Stated(), ""
    seals: tuple[SealVerdict, ...] = ()
    try:
        said, seals = _found(data, form, registry, now)
    except Failed as failed:
        problem = failed.reason
    except Exception:
        log.exception("certificate file ended unexpectedly", sha256=sha256)
        problem = UNEXPECTED
    return FileVerdict(form, sha256, len(data), said, seals, problem)


def form_of(data: bytes) -> Form | None:
    """Return the form of a file by how it begins, None when it is neither OFD nor PDF."""
    if data.startswith(b"PK\x03\x04"):
        return Form.OFD
    return Form.PDF if data.startswith(b"%PDF-") else None


def _found(data: bytes, form: Form | None, registry: Registry, now: datetime) -> tuple[Stated, tuple[SealVerdict, ...]]:
    if len(data) > MAX_SIZE:
        raise Failed("file_size")
    match form:
        case Form.OFD:
            package = ofd.read(data)
            return package.stated, ofd.verify(package, registry, now)
        case Form.PDF:
            from gateway.certificates.files import pdf  # noqa: PLC0415 - pyHanko takes its time: the first PDF pays

            document = pdf.read(data)
            return document.stated, pdf.verify(document, registry, now)
        case None:
            raise Failed("file_form")


class FileVerifier:
    """Verifies files in threads of its own, against one register."""

    def __init__(
        self, registry: Registry, clock: Callable[[], datetime], *, workers: int = 2, seconds: float = SECONDS
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="certificate-files")

    async def verify(self, data: bytes) -> FileVerdict:
        """Return the verdict on a file. Its time begins when a thread takes it.

        Raises Unavailable when no thread took it within the bound, or it took longer than that, or ended in a defect of
        ours: that says nothing of the file, and is nobody else's fault.
        """
        loop, taken, now = asyncio.get_running_loop(), asyncio.Event(), self._clock()

        def look() -> FileVerdict:
            loop.call_soon_threadsafe(taken.set)
            return verify(data, self._registry, now)

        looking = loop.run_in_executor(self._threads, look)
        looking.add_done_callback(lambda _: taken.set())  # also when it is closed before a thread was free
        try:
            await asyncio.wait_for(taken.wait(), self._seconds)
            verdict = await asyncio.wait_for(looking, self._seconds)
        except TimeoutError:
            looking.cancel()
            raise Unavailable(
                "The file could not be looked at in time; ask again in a moment.", code="certificate.file_not_looked_at"
            ) from None
        if verdict.problem == UNEXPECTED:
            raise Unavailable(
                "Looking at the file failed here, in a way that nobody foresaw.", code="certificate.file_not_looked_at"
            )
        return verdict

    def close(self) -> None:
        """Take no more files; those that are being looked at are let go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
