"""Uploads in the database: the one place that says how far each is, and who may go on with it.

Owns: the statements. Each change is decided by one statement, so that any number of replicas may serve one upload: its
offset moves only for the request that holds it, and only forward. Leaves to `uploads`: bytes, digests, and order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, delete, func, or_, select, update

from gateway.errors import BodyTooLarge, Conflict, FieldProblem, InvalidRequest, NotFound
from gateway.storage.tables import blob_parts, blobs

HOLD = timedelta(seconds=30)
"""How long a request holds an upload beyond its last sign of life: a dead replica lets go of it after that."""
ONCE = "once"
"""In `why` while it is open: it comes in one request, and nobody can go on with it after that."""
MOST_PARTS = 10_000
"""Parts that one upload may be made of: an upload in drops would be a file a byte."""


@dataclass(frozen=True, slots=True)
class Part:
    """One object in the place for blobs: its key, and its clear bytes."""

    place: str
    size: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an upload is: `offset` bytes are kept, `length` is what the whole will have as far as it was said."""

    id: str
    media_type: str
    offset: int
    length: int | None
    complete: bool
    attempt: int
    wanted: Mapping[str, str]
    begun_at: datetime
    sealed_name: bytes


@dataclass(frozen=True, slots=True)
class Hold:
    """A request's hold of an upload. `token` is its own; `reserve` is what the upload may come to, as far as known."""

    upload_id: str
    client_id: str
    token: str
    offset: int
    length: int | None
    reserve: int


@dataclass(frozen=True, slots=True)
class Unused:
    """How many files that no case has a client may have, unfinished ones too, and how many bytes all of them."""

    files: int
    bytes: int


_C = blobs.c
_LOOSE = and_(_C.client_id == bindparam("client"), _C.case_id.is_(None), _C.state.in_(("open", "stored")))
_OPEN = _C.state == "open"
_HELD = select(
    func.coalesce(func.sum(case((_OPEN, _C.reserved), else_=0)), 0).label("unfinished"),
    func.coalesce(func.sum(case((_OPEN, _C.reserved), else_=_C.size)), 0).label("bytes"),
    func.count().label("files"),
).where(_LOOSE)
_OLDEST = select(_C.id, _C.size, _C.created_at).where(_LOOSE, ~_OPEN).order_by(_C.created_at).limit(20)


class UploadBusy(Conflict):
    """Another request appends to this upload at the moment."""

    code = "upload.busy"
    title = "The upload is being appended to"
    retryable = True


class OffsetMismatch(Conflict):
    """The request begins at another byte than the next one."""

    code = "upload.offset"
    title = "The upload goes on at another offset"


def begin(tx: Connection, row: Mapping[str, Any], unfinished_limit: int, unused: Unused) -> None:
    """Write a new upload. Raises BodyTooLarge when the client has too much already, unfinished or without a case."""
    client, reserved = row["client_id"], row["reserved"]
    held = tx.execute(_HELD, {"client": client}).one()
    if int(held.unfinished) + reserved > unfinished_limit:
        raise _too_much_unfinished(unfinished_limit)
    if held.files >= unused.files or int(held.bytes) + max(reserved, 1) > unused.bytes:
        raise _too_much_unused(tx, client, held.files, int(held.bytes), unused)
    tx.execute(blobs.insert().values(row))


def hold(tx: Connection, wish: Hold, now: datetime, unfinished_limit: int) -> Standing:
    """Take hold of an upload at this offset. Raises NotFound, OffsetMismatch, UploadBusy, Conflict or BodyTooLarge."""
    _check_unfinished(tx, wish.client_id, wish.upload_id, wish.reserve, unfinished_limit)
    c = blobs.c
    free = or_(c.held_until.is_(None), c.held_until <= now)
    taken = update(blobs).where(_own(wish.upload_id, wish.client_id), c.state == "open", c.size == wish.offset, free)
    values = {**holding(wish, now), "attempt": c.attempt + 1, "reserved": _at_least(wish.reserve)}
    if wish.length is not None:
        taken = taken.where(or_(c.length.is_(None), c.length == wish.length))
        values["length"] = wish.length
    if tx.execute(taken.values(values)).rowcount == 0:
        _explain(tx, wish, now)
    return look(tx, wish.upload_id, wish.client_id)


def holding(wish: Hold, now: datetime) -> dict[str, Any]:
    """Return what a row says that is held."""
    return {"held_by": wish.token, "held_until": now + HOLD}


def _explain(tx: Connection, wish: Hold, now: datetime) -> NoReturn:
    """Say why an upload cannot be held."""
    row = tx.execute(select(blobs).where(_own(wish.upload_id, wish.client_id))).mappings().one_or_none()
    if row is None or row["state"] in ("deleting", "deleted"):
        raise not_found()
    if row["state"] != "open":
        raise Conflict("The upload is complete; nothing can be appended.", code="upload.complete")
    if row["held_until"] is not None and row["held_until"] > now:
        raise UploadBusy("Another request appends to this upload; ask for its offset and go on from there.")
    if row["size"] != wish.offset:
        raise offset_mismatch(row["size"], wish.offset)
    problem = FieldProblem("Upload-Length", f"was {row['length']} before", "length")
    raise InvalidRequest("The length of the whole cannot change.", problems=[problem], code="upload.length")


def offset_mismatch(expected: int, given: int) -> OffsetMismatch:
    """Return the refusal of a request at a wrong offset, with the right one in its header."""
    problem = FieldProblem("Upload-Offset", f"is {given}; the next byte is {expected}", "offset")
    refused = OffsetMismatch("The upload goes on at another offset.", problems=[problem])
    refused.headers = {"Upload-Offset": str(expected)}
    return refused


def keep(tx: Connection, held: Hold, parts: Sequence[Part], size: int, now: datetime, unfinished_limit: int) -> None:
    """Take parts that are stored into the upload, which then has `size` bytes. Raises UploadBusy, BodyTooLarge."""
    _change(tx, held, {"size": size, **_grown(tx, held, size, unfinished_limit), "held_until": now + HOLD})
    _add_parts(tx, held.upload_id, parts)  # behind it: an upload that is deleted has no parts any more


def renew(tx: Connection, held: Hold, size: int, now: datetime, unfinished_limit: int) -> None:
    """Hold on for longer, with `size` bytes under way. Raises UploadBusy when another request has taken over."""
    _change(tx, held, {**_grown(tx, held, size, unfinished_limit), "held_until": now + HOLD})


def _grown(tx: Connection, held: Hold, size: int, unfinished_limit: int) -> dict[str, Any]:
    """Return what an upload reserves that has become larger than it had said. Raises BodyTooLarge."""
    if size <= held.reserve:
        return {}
    _check_unfinished(tx, held.client_id, held.upload_id, size, unfinished_limit)
    return {"reserved": _at_least(size)}


def release(tx: Connection, held: Hold) -> None:
    """Let go, if this request still holds it."""
    c = blobs.c
    mine = and_(c.id == held.upload_id, c.held_by == held.token, c.state == "open")
    freed = {"held_by": None, "held_until": None, "reserved": func.coalesce(c.length, c.size)}
    tx.execute(update(blobs).where(mine).values(freed))


def finish(tx: Connection, held: Hold, parts: Sequence[Part], size: int, sha256: str, now: datetime) -> None:
    """Make a blob of an upload, with these last parts. Raises UploadBusy when another request has taken over."""
    done = {"state": "stored", "size": size, "length": size, "sha256": sha256, "created_at": now, "why": None}
    _change(tx, held, {**done, "reserved": 0, "held_by": None, "held_until": None})
    _add_parts(tx, held.upload_id, parts)


def look(tx: Connection, upload_id: str, client_id: str) -> Standing:
    """Return where an upload of this client is. Raises NotFound."""
    row = tx.execute(select(blobs).where(_own(upload_id, client_id))).mappings().one_or_none()
    if row is None or row["state"] in ("deleting", "deleted"):
        raise not_found()
    return standing_of(dict(row))


def standing_of(row: Mapping[str, Any]) -> Standing:
    """Return what a row says of an upload, or of the blob that it became."""
    return Standing(
        id=row["id"],
        media_type=row["media_type"],
        offset=row["size"],
        length=row["length"] if row["state"] == "open" else row["size"],
        complete=row["state"] != "open",
        attempt=row["attempt"],
        wanted=row["wanted"] or {},
        begun_at=row["created_at"],
        sealed_name=row["name"],
    )


def parts_of(tx: Connection, blob_id: str) -> list[Part]:
    """Return the parts of an upload or blob in order."""
    c = blob_parts.c
    rows = tx.execute(select(c.place, c.size).where(c.blob_id == blob_id).order_by(c.position)).all()
    return [Part(row.place, row.size) for row in rows]


def condemn(tx: Connection, upload_id: str, client_id: str, why: str) -> None:
    """Mark an upload, or a blob that no case has, for deletion. Raises NotFound, or Conflict when a case has it."""
    c = blobs.c
    mine = and_(_own(upload_id, client_id), c.state.in_(("open", "stored")), c.case_id.is_(None))
    if tx.execute(update(blobs).where(mine).values(state="deleting", why=why, reserved=0)).rowcount == 0:
        look(tx, upload_id, client_id)
        raise Conflict("The file belongs to a case and cannot be deleted.", code="blob.in_use")


def is_kept(tx: Connection, upload_id: str) -> bool:
    """Say whether there is an upload or a blob that nobody has condemned."""
    c = blobs.c
    kept = select(c.id).where(c.id == upload_id, c.state.in_(("open", "stored")))
    return tx.execute(kept).first() is not None


def forget(tx: Connection, upload_id: str) -> None:
    """Delete the row of what was condemned and is gone from the place for blobs."""
    tx.execute(delete(blob_parts).where(blob_parts.c.blob_id == upload_id))
    tx.execute(delete(blobs).where(blobs.c.id == upload_id, blobs.c.state == "deleting"))


def _at_least(size: int) -> ColumnElement[int]:
    return case((blobs.c.reserved > size, blobs.c.reserved), else_=size)


def _own(upload_id: str, client_id: str) -> ColumnElement[bool]:
    return and_(blobs.c.id == upload_id, blobs.c.client_id == client_id)


def _change(tx: Connection, held: Hold, values: Mapping[str, Any]) -> None:
    c = blobs.c
    mine = and_(c.id == held.upload_id, c.held_by == held.token, c.state == "open")
    if tx.execute(update(blobs).where(mine).values(values)).rowcount == 0:
        raise UploadBusy("Another request has taken over this upload; ask for its offset and go on from there.")


def _add_parts(tx: Connection, upload_id: str, parts: Sequence[Part]) -> None:
    if not parts:
        return
    c = blob_parts.c
    first = tx.execute(select(func.count()).select_from(blob_parts).where(c.blob_id == upload_id)).scalar_one()
    if first + len(parts) > MOST_PARTS:
        problem = FieldProblem("Upload-Offset", f"is reached in more than {MOST_PARTS} pieces", "parts")
        raise InvalidRequest("Append larger pieces.", problems=[problem], code="upload.parts")
    rows = [
        {"blob_id": upload_id, "position": first + number, "place": part.place, "size": part.size}
        for number, part in enumerate(parts)
    ]
    tx.execute(blob_parts.insert(), rows)


def _check_unfinished(tx: Connection, client_id: str, upload_id: str, reserve: int, limit: int) -> None:
    """Refuse more than a client may have under way. Two replicas at once may let a little more through."""
    c = blobs.c
    others = and_(c.client_id == client_id, c.case_id.is_(None), c.state == "open", c.id != upload_id)
    total = tx.execute(select(func.coalesce(func.sum(c.reserved), 0)).where(others)).scalar_one()
    if int(total) + reserve > limit:
        raise _too_much_unfinished(limit)


def _too_much_unfinished(limit: int) -> BodyTooLarge:
    text = f"Unfinished uploads of one client may have {limit} bytes together (limits.unfinished_bytes)."
    return BodyTooLarge(text, code="upload.unfinished_limit")


def _too_much_unused(tx: Connection, client: str, files: int, size: int, unused: Unused) -> BodyTooLarge:
    """Return the refusal of a file beside too many that no case has; the oldest, which may be forgotten, are named."""
    oldest = tx.execute(_OLDEST, {"client": client}).all()
    problems = [
        FieldProblem(
            "blobs", f"{row.id} has {row.size} bytes and no case since {row.created_at:%Y-%m-%d %H:%M} UTC", "unused"
        )
        for row in oldest
    ]
    text = (
        f"You have {files} files with {size} bytes that no case has; {unused.files} with {unused.bytes} bytes may be"
        " (limits.unused_files, limits.unused_bytes). Hand in the applications that they are for, or delete them."
    )
    return BodyTooLarge(text, problems=problems, code="upload.unused_limit")


def not_found() -> NotFound:
    """Return the refusal of what is not there, or not this client's."""
    return NotFound("There is no such file of yours.", code="blob.not_found")
