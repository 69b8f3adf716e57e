"""Append-only evidence rows.

Owns: what a row holds, and the salted digest of every part of a message. Leaves to a log over these rows: order and
signature. The salt makes the digest of a short or guessable part useless to a reader of the table; whoever holds the
part and the salt can prove that it is the one. A body that is erased later still verifies against what is kept here.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, insert

from gateway.domain.caller import Caller
from gateway.errors import GatewayError
from gateway.storage.tables import evidence

IDENTIFIER_PART = "identifier."
"""What the parts of a lookup begin with that prove which certificates were found valid."""
HOLDER_PART = "holder."
"""As above, under the same numbers: whose they are by their issuer's record, where it says so."""
Outcome = Literal["done", "refused", "failed"]
_APPEND = insert(evidence)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange: who asked what, for which purpose, what was decided, and the four times.

    `received_at` (the request reached us), `forwarded_at` (we called the region), `answered_at` (the region answered)
    and the time of recording. `what` names things by id and code, never a person. `parts` are the exact bytes of each
    part of the exchange; only their salted digests are kept.
    """

    action: str
    outcome: Outcome
    reason: str
    who: Mapping[str, str]
    what: Mapping[str, Any]
    purpose: str
    received_at: datetime
    forwarded_at: datetime | None = None
    answered_at: datetime | None = None
    parts: Mapping[str, bytes] = field(default_factory=dict)


def who_is(caller: Caller) -> dict[str, str]:
    """Return the caller as evidence names it: client, organisation, staff id, window, and the grant it acts by."""
    known = {
        "client": caller.client_id,
        "organisation": caller.organisation_code,
        "operator": caller.operator,
        "window": caller.window_id,
        "grant": caller.acting.grant_id if caller.acting else None,
    }
    return {name: value for name, value in known.items() if value}


def refusal(
    error: GatewayError,
    *,
    action: str,
    who: Mapping[str, str],
    what: Mapping[str, Any],
    purpose: str,
    received_at: datetime,
) -> Exchange:
    """Return the exchange that a refused request was: why, and which fields were wrong."""
    return Exchange(
        action=action,
        outcome="refused",
        reason=error.stable_code,
        who=who,
        what={**what, "fields": error.fields()},
        purpose=purpose,
        received_at=received_at,
    )


def new_evidence_id() -> str:
    """Return a random id for a row, for whoever must know it before the row is written."""
    return "EV" + secrets.token_hex(16)


def record(tx: Connection, exchange: Exchange, *, now: datetime, evidence_id: str | None = None) -> str:
    """Append the row and return its id. Part of the caller's transaction."""
    evidence_id = evidence_id or new_evidence_id()
    row = {
        "id": evidence_id,
        "action": exchange.action,
        "outcome": exchange.outcome,
        "reason": exchange.reason,
        "who": dict(exchange.who),
        "what": dict(exchange.what),
        "purpose": exchange.purpose,
        "parts": {name: digest_of(part) for name, part in exchange.parts.items()},
        "received_at": exchange.received_at,
        "forwarded_at": exchange.forwarded_at,
        "answered_at": exchange.answered_at,
        "recorded_at": now,
        "case_no": exchange.what.get("case"),
    }
    tx.execute(_APPEND, row)
    return evidence_id


def digest_of(part: bytes, salt: bytes | None = None) -> dict[str, Any]:
    """Return salt, digest (SHA-256 of salt then part) and size of one part."""
    salt = salt or os.urandom(16)
    digest = hashlib.sha256(salt)
    digest.update(part)  # not `salt + part`: a part may be a file of many megabytes
    return {"salt": salt.hex(), "sha256": digest.hexdigest(), "size": len(part)}
