"""What a clerk sent in: the form's texts and files, read as a stream and bounded.

Owns: the multipart body, the CSRF token that must come first in it, and files that were stored before or just now.
Leaves to `checks`: whether the texts are right. Leaves to the Materials service: whose file a blob id is.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import BodyTooLarge, FieldProblem, InvalidRequest, NotPermitted
from gateway.web.window.services import Upload

TEXT_BYTES = 256 * 1024
"""All texts of one form together."""
PARTS = 500
"""Parts of one form: fields and files."""
_CHUNK = 64 * 1024
_MALFORMED = (ValueError, LookupError, RuntimeError, AssertionError, HttpProcessingError, web.RequestPayloadError)
"""What aiohttp's reader raises on a body that is no well-formed multipart; it has no class of its own for that."""
_MEDIA_TYPES = {
    ".pdf": "application/pdf",
    ".ofd": "application/ofd",  # GB/T 33190; browsers do not know it
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

Store = Callable[[str, str, AsyncIterator[bytes]], Awaitable[Upload]]
"""File name, media type and chunks → the stored upload."""


@dataclass(frozen=True, slots=True)
class Held:
    """A file that is stored already. `value` is what the form carries, so that it need not be sent again."""

    blob: str
    name: str

    @property
    def value(self) -> str:
        """Return blob id and file name as one text."""
        return f"{self.blob}:{self.name}"


@dataclass(slots=True)
class Entry:
    """One form as it came in: texts by field name, files by material code, and what went wrong while reading."""

    texts: dict[str, str] = field(default_factory=dict)
    held: dict[str, list[Held]] = field(default_factory=dict)
    problems: list[FieldProblem] = field(default_factory=list)

    def text(self, name: str) -> str:
        """Return a text without the blanks around it, "" when there is none."""
        return self.texts.get(name, "").strip()


def by_field(problems: Sequence[FieldProblem]) -> dict[str, list[FieldProblem]]:
    """Return what is wrong by the input that it is wrong with."""
    wrong: dict[str, list[FieldProblem]] = {}
    for problem in problems:
        wrong.setdefault(problem.field, []).append(problem)
    return wrong


def check_csrf(session: str, sent: str) -> None:
    """Compare the token of the session with the one that the form carried. Raises NotPermitted."""
    if not hmac.compare_digest(session.encode(), sent.encode()):
        raise NotPermitted("This form does not come from a page of this session; open it anew.", code="window.csrf")


async def texts_of(request: web.Request, csrf: str) -> dict[str, str]:
    """Return the texts of a small form once its token fits the session. Raises InvalidRequest, NotPermitted."""
    try:
        form = await request.post()
        typed = {name: value.strip() for name, value in form.items() if isinstance(value, str)}
        "".join(typed.values()).encode()  # half characters, which UTF-7 can bring, could be neither kept nor sent on
    except _MALFORMED as error:
        raise _malformed("The form cannot be read.", detail=type(error).__name__) from None
    check_csrf(csrf, typed.get("csrf", ""))
    return typed


async def read_entry(request: web.Request, csrf: str, store: Store, *, materials: Collection[str], limit: int) -> Entry:
    """Read a form. `materials` are the codes that its item knows; `limit` bounds all its files together, in bytes.

    Nothing is stored before the CSRF token was seen. A file that is refused is a problem of its field; nothing after
    one that is too large or of no material is read. Raises InvalidRequest, NotPermitted, or BodyTooLarge for the texts.
    """
    if request.content_type != "multipart/form-data":
        raise _malformed("The form must be sent as multipart/form-data.")
    reading = _Reading(store, materials, limit)
    try:
        parts = await request.multipart()
        check_csrf(csrf, await reading.first(parts))
        await reading.rest(parts)
    except _MALFORMED as error:
        raise _malformed("The form cannot be read.", detail=type(error).__name__) from None
    return reading.entry


class _Reading:
    """One body under way: what was read so far, and how much more may come."""

    def __init__(self, store: Store, materials: Collection[str], limit: int) -> None:
        self.entry = Entry()
        self._store = store
        self._materials = materials
        self._file_bytes = limit
        self._text_bytes = TEXT_BYTES

    async def first(self, parts: MultipartReader) -> str:
        part = await parts.next()
        if not isinstance(part, BodyPartReader) or part.name != "csrf" or part.filename is not None:
            return ""
        return await self._text(part)

    async def rest(self, parts: MultipartReader) -> None:
        for _ in range(PARTS):
            part = await parts.next()
            if part is None:
                return
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise _malformed("The form cannot be read.")
            if not await self._take(part, part.name):
                return
        raise BodyTooLarge(f"A form may have {PARTS} fields at most.")

    async def _take(self, part: BodyPartReader, name: str) -> bool:
        """Read one part; return False when nothing after it can be read."""
        if name.startswith("material.") and part.filename:
            return await self._file(part, name)
        text = await self._text(part)
        if not name.startswith("held."):
            self.entry.texts[name] = text
        elif text.partition(":")[0]:
            self._hold(name.removeprefix("held."), *text.partition(":")[::2])
        return True

    async def _text(self, part: BodyPartReader) -> str:
        data = bytearray()
        while not part.at_eof():
            data += await part.read_chunk(_CHUNK)
            if len(data) > self._text_bytes:
                raise BodyTooLarge(f"The texts of a form may have {TEXT_BYTES} bytes at most.")
        self._text_bytes -= len(data)
        return data.decode()

    async def _file(self, part: BodyPartReader, name: str) -> bool:
        file_name, material = _bare(part.filename or ""), name.removeprefix("material.")
        if material not in self._materials:
            self.entry.problems.append(FieldProblem(name, "is no material of this item", "unknown"))
            return False
        try:
            upload = await self._store(file_name, _media_type(part, file_name), self._chunks(part))
        except BodyTooLarge as refused:
            self.entry.problems.append(_not_stored(name, file_name, refused))
            return False
        except InvalidRequest as refused:
            code = refused.problems[0].code if refused.problems else "file"
            self.entry.problems.append(FieldProblem(name, file_name, f"file_{code}"))
        else:
            self._hold(material, upload.id, file_name)
        return True

    def _hold(self, code: str, blob: str, file_name: str) -> None:
        self.entry.held.setdefault(code, []).append(Held(blob, file_name))

    async def _chunks(self, part: BodyPartReader) -> AsyncIterator[bytes]:
        while not part.at_eof():
            chunk = await part.read_chunk(_CHUNK)
            self._file_bytes -= len(chunk)
            if self._file_bytes < 0:
                raise BodyTooLarge("The files of this form are too large together.")
            if chunk:
                yield bytes(chunk)


def _not_stored(field: str, file_name: str, refused: BodyTooLarge) -> FieldProblem:
    if refused.stable_code == "upload.unused_limit":
        return FieldProblem(field, file_name, "file_unused")
    return FieldProblem(field, file_name, "file_too_large")


def _bare(name: str) -> str:
    """Return a file name without folders (old browsers send them) and control characters, 200 characters at most."""
    last = PurePosixPath(PureWindowsPath(name).name).name
    return "".join(character for character in last if character.isprintable())[-200:]


def _media_type(part: BodyPartReader, file_name: str) -> str:
    by_name = _MEDIA_TYPES.get(PurePosixPath(file_name).suffix.lower())
    return by_name or part.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip().lower()


def _malformed(text: str, detail: str = "") -> InvalidRequest:
    return InvalidRequest(text, code="window.malformed_form", detail=detail)
