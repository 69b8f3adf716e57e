"""One-time references to a person whom a region named without saying who it is (一次性主体标识).

Owns: the rows of `subject_references`: made for one client, good once and briefly, the subject sealed and the reference
kept as a digest only. Which of several redemptions was first is decided by one statement. Leaves to `codes`: what a
reference is made for, and to its callers what they do with the person.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.identity import Assurance
from gateway.domain.sensitive import Sensitive
from gateway.errors import NotFound, RegionClosed
from gateway.identity.records import digest
from gateway.identity.switches import is_open
from gateway.storage.tables import subject_references

_LENGTH = 45  # "SR" and 43 characters of base64url: 32 bytes at random


@dataclass(frozen=True, slots=True)
class NewReference:
    """A reference about to be kept: for which client, whose, how sure, and until when."""

    reference: str
    client_id: str
    region: str
    subject: Sensitive[str]
    assurance: Assurance
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Referred:
    """Whom a reference stood for: identity is (region, subject), as in a sign-on."""

    region: str
    subject: Sensitive[str]
    assurance: Assurance


def new_reference() -> str:
    """Return a reference that nobody can guess."""
    return f"SR{secrets.token_urlsafe(32)}"


def keep_reference(tx: Connection, sealer: Sealer, new: NewReference) -> str:
    """Store it and return its digest, by which evidence may name it. Raises RegionClosed."""
    _refuse_closed(tx, new.region)
    kept = digest(new.reference)
    row = {
        "reference_hash": kept,
        "client_id": new.client_id,
        "region": new.region,
        "subject": sealer.seal(new.subject.reveal().encode(), _context(kept)),
        "assurance": int(new.assurance),
        "expires_at": new.expires_at,
    }
    tx.execute(insert(subject_references).values(row))
    return kept


def redeem_reference(tx: Connection, sealer: Sealer, *, reference: str, client_id: str, now: datetime) -> Referred:
    """Use a reference up, in the transaction of what it is used for, and return whom it stood for.

    Only the client that it was made for can; another one's attempt uses nothing up. Raises NotFound
    (`code.reference`) for one that is unknown, used, over or another client's, and does not tell which; RegionClosed
    when the region's word counts no more.
    """
    c, kept = subject_references.c, digest(reference[: _LENGTH + 1])
    used = (
        update(subject_references)
        .where(c.reference_hash == kept, c.client_id == client_id, c.used_at.is_(None), c.expires_at > now)
        .values(used_at=now)
        .returning(c.region, c.subject, c.assurance)
    )
    row = tx.execute(used).one_or_none()
    if row is None:
        text = "This subject reference is unknown, used or over; have the code shown again."
        raise NotFound(text, code="code.reference")
    _refuse_closed(tx, row.region)
    subject = Sensitive(sealer.open(row.subject, _context(kept)).decode())
    return Referred(row.region, subject, Assurance(row.assurance))


def forget_references(tx: Connection, now: datetime) -> int:
    """Delete what is over, used or not; return how many. For the janitor."""
    return tx.execute(delete(subject_references).where(subject_references.c.expires_at <= now)).rowcount


def _refuse_closed(tx: Connection, region: str) -> None:
    """Raise RegionClosed, or keep the region open until this transaction ends."""
    if not is_open(tx, region):
        raise RegionClosed("The operator has closed this region: nobody is named by it now.", region=region)


def _context(kept: str) -> str:
    return f"subject_references.subject:{kept}"
