"""A case in the hands of whoever filed it: found, locked, and nobody else's.

Owns: the question whose case it is, and whether its region has it. Leaves to the services: what may be done with it.
Everything here is part of the caller's transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Acting, Caller
from gateway.domain.identifiers import case_number_problem
from gateway.errors import NotFound
from gateway.storage.tables import submissions
from gateway.submissions.materials import owner_of
from gateway.submissions.parcels import number_at, open_body
from gateway.submissions.story import locked


def owned(tx: Connection, sealer: Sealer, caller: Caller, submission_id: str) -> dict[str, Any]:
    """Return a case of this caller, locked. Raises NotFound, also for a case of somebody else."""
    require_owner(tx, sealer, caller, submission_id)
    case = locked(tx, submission_id)
    if case is None:
        raise _not_there()
    return case


def require_owner(tx: Connection, sealer: Sealer, caller: Caller, submission_id: str) -> None:
    """Raise NotFound unless this case was filed by this caller. Locks nothing.

    A caller that acts for a person who signed on (RFC 8693) has only the cases of that person: as their applicant, or
    as the agent who filed.
    """
    if case_number_problem(submission_id):  # PostgreSQL is asked for no text that it cannot hold
        raise _not_there()
    c = submissions.c
    row = tx.execute(select(c.client_id, c.body).where(c.id == submission_id)).one_or_none()
    if row is None or row.client_id != owner_of(caller):
        raise _not_there()
    if caller.acting is not None and not is_theirs(caller.acting, open_body(sealer, submission_id, row.body)):
        raise _not_there()


def is_theirs(acting: Acting, body: Mapping[str, Any]) -> bool:
    """Say whether a canonical submission is of the person for whom a caller acts."""
    documents = [body[party]["document"] for party in ("applicant", "agent") if party in body]
    return any(acting.is_for(document["type"], document["number"]) for document in documents)


def number_there(tx: Connection, case: Mapping[str, Any]) -> str | None:
    """Return the handling region's own number of the case; None while it has not got it."""
    return number_at(tx, case["id"], case["handling_region"])


def said_digest(said: Mapping[str, Any]) -> str:
    """Return the digest of what a request says, by which it is known when it comes again: SHA-256, hex."""
    return hashlib.sha256(orjson.dumps(dict(said), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _not_there() -> NotFound:
    return NotFound("There is no such submission of yours.", code="submission.not_found")
