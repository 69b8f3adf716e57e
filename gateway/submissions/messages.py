"""What is said of a case after it was handed over: supplements (补正), withdrawals (撤回), ratings, complaints.

Owns: the row of such a message and its delivery, which are one: the same message again is the same, and messages of a
case go out one after another, none before the region has the case. Leaves to the services that take them: whether they
may be said at all. To `attempt` and `carriers`: carrying them. Everything here is part of the caller's transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from gateway.crypto.at_rest import Sealer
from gateway.errors import Conflict, FieldProblem
from gateway.mapping.library import PackSet
from gateway.storage.tables import case_messages, deliveries, submission_materials
from gateway.submissions import queue
from gateway.submissions.parcels import seal_message

MOST = 100
"""Messages about one case."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is about to be written.

    `reference` is the caller's own number for it and `digest` says what it says: the same reference with another
    digest is a conflict. `body` is the canonical document without `id` and `number`; `materials` are code and blob.
    """

    submission_id: str
    client_id: str
    region: str
    kind: str
    reference: str
    digest: str
    body: Mapping[str, Any]
    materials: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that is on record. `replayed` says that it was before."""

    message_id: str
    replayed: bool


def try_out(packs: PackSet, kind: str, submission_id: str, number: str | None, body: Mapping[str, Any]) -> None:
    """Convert a message once under a well-formed id: what the region's format cannot say is refused now, to the caller.

    Raises MappingFailed.
    """
    packs.need(kind).to_region({**body, "id": "CM" + "0" * 32, "submission_id": submission_id, "number": number})


def enqueue(tx: Connection, sealer: Sealer, message: Message, now: datetime) -> Queued:
    """Write a message and its delivery. The caller holds the lock of the case (`story.locked`).

    Raises Conflict when the reference stands for another message.
    """
    written = keep(tx, sealer, message, now)
    if written.replayed:
        return written
    _attach(tx, message, written.message_id)
    created_at = max(now, _after_the_last(tx, message.submission_id))
    tx.execute(deliveries.insert().values(_delivery(message, written.message_id, created_at)))
    if _is_there(tx, message):
        queue.wake_next(tx, message.submission_id, now)
    return written


def keep(tx: Connection, sealer: Sealer, message: Message, now: datetime) -> Queued:
    """Write a message that no region is to be told. Otherwise as `enqueue`. Raises Conflict after too many, too."""
    earlier = said_before(tx, message)
    if earlier is not None:
        return Queued(earlier, replayed=True)
    _check_room(tx, message.submission_id)
    message_id = "CM" + secrets.token_hex(16)
    body = {**message.body, "id": message_id, "submission_id": message.submission_id}
    row = {
        "id": message_id,
        "submission_id": message.submission_id,
        "kind": message.kind,
        "client_reference": message.reference,
        "digest": message.digest,
        "body": seal_message(sealer, message_id, body),
        "created_at": now,
    }
    tx.execute(case_messages.insert().values(row))
    return Queued(message_id, replayed=False)


def _check_room(tx: Connection, submission_id: str) -> None:
    said = select(func.count()).where(case_messages.c.submission_id == submission_id)
    if tx.execute(said).scalar_one() >= MOST:
        raise Conflict(f"{MOST} messages were said of this case already.", code="submission.too_many_messages")


def said_before(tx: Connection, message: Message) -> str | None:
    """Return the id of the message that holds this reference. Raises Conflict when it says something else."""
    c = case_messages.c
    same = (c.submission_id == message.submission_id, c.kind == message.kind, c.client_reference == message.reference)
    row = tx.execute(select(c.id, c.digest).where(*same)).one_or_none()
    if row is None:
        return None
    if row.digest != message.digest:
        problem = FieldProblem("reference", "choose a new one for a new message", "reference_used")
        text = f"The reference already stands for message {row.id}, which says something else."
        raise Conflict(text, problems=[problem], code="submission.reference_conflict")
    return str(row.id)


def _after_the_last(tx: Connection, submission_id: str) -> datetime:
    """Return a time after the last delivery of the case: they go out in that order, also when a clock jumped back."""
    last = select(func.max(deliveries.c.created_at)).where(deliveries.c.submission_id == submission_id)
    found: datetime | None = tx.execute(last).scalar_one()
    return datetime.min.replace(tzinfo=UTC) if found is None else found + timedelta(microseconds=1)


def _attach(tx: Connection, message: Message, message_id: str) -> None:
    """Write which files come with the message, behind those that the case has."""
    c = submission_materials.c
    last = select(func.max(c.position)).where(c.submission_id == message.submission_id)
    begin = tx.execute(last).scalar_one()
    for offset, (code, blob) in enumerate(message.materials):
        row = {
            "submission_id": message.submission_id,
            "position": (-1 if begin is None else begin) + 1 + offset,
            "code": code,
            "blob_id": blob,
            "message_id": message_id,
        }
        tx.execute(submission_materials.insert().values(row))


def _delivery(message: Message, message_id: str, created_at: datetime) -> dict[str, Any]:
    return {
        "id": "DL" + secrets.token_hex(16),
        "submission_id": message.submission_id,
        "kind": message.kind,
        "message_id": message_id,
        "client_id": message.client_id,
        "region": message.region,
        "state": "pending",
        "due": None,  # until it is its turn
        "attempt": 0,
        "failures": 0,
        "created_at": created_at,
    }


def _is_there(tx: Connection, message: Message) -> bool:
    """Say whether the region has the case."""
    c = deliveries.c
    query = select(c.state).where(c.submission_id == message.submission_id, c.kind == queue.SUBMISSION)
    state = tx.execute(query).scalar_one_or_none()
    if state is None:
        text = "Several offices handle this case. Say it of the part that it is about; see `parts` of the case."
        raise Conflict(text, code="submission.in_parts")
    return bool(state == "delivered")
