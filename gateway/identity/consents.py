"""What persons agreed to: the consents on record, and the receipt of each.

Owns: the rows of `sign_on_consents`, and the promises that rest on them (a newer answer replaces an older one, a
consent that was taken back gives nothing any more and ends what was got by it). Leaves to `gateway.policy.claims` what
a consent must name, and to the page what it looks like. Every function that takes a connection is a unit for the store.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from gateway.domain.region import place_of
from gateway.evidence import Exchange, record
from gateway.identity.clients import Client
from gateway.identity.persons import claims_of_scopes
from gateway.identity.revocations import mark
from gateway.policy.claims import Recipient
from gateway.policy.transfer import ConsentGiven
from gateway.storage.tables import authorization_codes, sign_on_consents, sign_on_sessions, token_families


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said on the consent page: which claims to give, which of those offered not to.

    `statement` is what `gateway.policy.claims.statement` returned for the page that the person saw; `crosses` says that
    it asked for the separate consent to crossing a border.
    """

    subject_ref: str
    region: str
    recipient: Recipient
    claims: frozenset[str]
    declined: frozenset[str]
    crosses: bool
    language: str
    statement: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """A consent receipt (同意回执): who may have which claims, what for, until when, and the digest of what was shown.

    `recipient` is client and place, `purpose` the digest of the purposes as they were stated, `digest` the SHA-256 of
    the statement. It names the person by nothing at all.
    """

    id: str
    client_id: str
    region: str
    recipient: str
    claims: frozenset[str]
    declined: frozenset[str]
    purpose: str
    language: str
    digest: str
    given_at: datetime
    expires_at: datetime
    revoked_at: datetime | None

    def given(self) -> ConsentGiven:
        """Return the consent as the transfer rules take it."""
        return ConsentGiven(
            id=self.id, recipient=self.recipient, purpose=self.purpose, fields=self.claims, given_at=self.given_at,
            expires_at=self.expires_at, revoked_at=self.revoked_at, evidence=f"sha256:{self.digest}",
        )  # fmt: skip

    def document(self) -> dict[str, Any]:
        """Return the receipt as JSON, for the person and for the register of transfers."""
        times = {name: getattr(self, name) for name in ("given_at", "expires_at", "revoked_at")}
        return {
            **{name: getattr(self, name) for name in ("id", "client_id", "region", "recipient", "purpose", "language")},
            "claims": sorted(self.claims),
            "declined": sorted(self.declined),
            "shown_sha256": self.digest,
            **{name: time.isoformat() if time else None for name, time in times.items()},
        }


def recipient_of(client: Client) -> Recipient:
    """Return a client as the gate knows it: it may ask for the claims that its registered scopes open."""
    return Recipient(
        client_id=client.id,
        place=place_of(client.origin_code),
        declared=frozenset(claims_of_scopes(client.scopes)),
        trusted=client.consent == "trusted",
        contact=client.contact,
        purpose=client.purpose,
        legal_basis=client.legal_basis,
    )


def declined(receipts: Iterable[Receipt], recipient: Recipient, *, crosses: bool) -> frozenset[str]:
    """Return what the person was asked for by this recipient, for these very purposes, and did not give."""
    purpose = recipient.purpose_key(crosses=crosses)
    same = [one for one in receipts if (one.recipient, one.purpose) == (recipient.key, purpose)]
    return frozenset[str]().union(*(one.declined for one in same))


# --- units -------------------------------------------------------------------------------------------------------

_IN_FORCE = (
    sign_on_consents.c.client_id == bindparam("client"),
    sign_on_consents.c.subject_ref == bindparam("person"),
    sign_on_consents.c.region == bindparam("place"),
    sign_on_consents.c.revoked_at.is_(None),
    sign_on_consents.c.expires_at > bindparam("now"),
)
_NEWEST_FIRST = (sign_on_consents.c.given_at.desc(), sign_on_consents.c.id)
_LIVE = select(sign_on_consents).where(*_IN_FORCE).order_by(*_NEWEST_FIRST)
_LIVE_HELD = _LIVE.with_for_update(read=True)


def give(tx: Connection, answer: Answer, expires_at: datetime, now: datetime) -> Receipt:
    """Record an answer and return its receipt. It takes the place of what this person told this client before.

    What the client got by a wider answer ends: a claim that is left out now was taken back.
    """
    before = _end(tx, _IN_FORCE, now, _whose(answer.recipient.client_id, answer.subject_ref, answer.region, now))
    receipt = Receipt(
        id="CR" + secrets.token_hex(16),
        client_id=answer.recipient.client_id,
        region=answer.region,
        recipient=answer.recipient.key,
        claims=answer.claims,
        declined=answer.declined,
        purpose=answer.recipient.purpose_key(crosses=answer.crosses),
        language=answer.language,
        digest=hashlib.sha256(answer.statement).hexdigest(),
        given_at=now,
        expires_at=expires_at,
        revoked_at=None,
    )
    _insert(tx, receipt, answer)
    if any(one.claims - receipt.claims for one in before):
        _end_grants(tx, receipt, answer.subject_ref, now)
    _evidence(tx, "consent.give", receipt, answer.subject_ref, {"statement": answer.statement}, now)
    return receipt


def live(
    tx: Connection, client_id: str, subject_ref: str, region: str, now: datetime, *, hold: bool = False
) -> Sequence[Receipt]:
    """Return the consents in force of this person to this client, newest first.

    `hold` is for a unit that gives something by them: they are taken back after it has committed, and with them that.
    """
    rows = tx.execute(_LIVE_HELD if hold else _LIVE, _whose(client_id, subject_ref, region, now)).mappings()
    return [_receipt(row) for row in rows]


def covering(
    tx: Connection,
    recipient: Recipient,
    subject_ref: str,
    region: str,
    claims: Collection[str],
    *,
    crosses: bool,
    now: datetime,
) -> Receipt | None:
    """Return a consent in force to this very recipient and purpose that names all these claims; None without one."""
    wanted = (recipient.key, recipient.purpose_key(crosses=crosses))
    found = live(tx, recipient.client_id, subject_ref, region, now)
    return next((one for one in found if (one.recipient, one.purpose) == wanted and one.claims >= set(claims)), None)


def revoke(tx: Connection, consent_id: str, subject_ref: str, now: datetime) -> Receipt | None:
    """Take a consent back, and end what the client got by it: codes and token families of this person's sessions.

    None when this person has no such consent in force; so it is harmless to repeat, and nobody takes back another's.
    """
    ours = (sign_on_consents.c.id == consent_id, sign_on_consents.c.subject_ref == subject_ref)
    receipts = _end(tx, (*ours, sign_on_consents.c.revoked_at.is_(None)), now)
    if not receipts:
        return None
    (receipt,) = receipts
    _end_grants(tx, receipt, subject_ref, now)
    _evidence(tx, "consent.revoke", receipt, subject_ref, {}, now)
    return receipt


def of_person(tx: Connection, subject_ref: str, region: str) -> Sequence[Receipt]:
    """Return every consent that this person gave, whether in force or not, newest first."""
    ours = (sign_on_consents.c.subject_ref == subject_ref, sign_on_consents.c.region == region)
    rows = tx.execute(select(sign_on_consents).where(*ours).order_by(*_NEWEST_FIRST)).mappings()
    return [_receipt(row) for row in rows]


def _whose(client_id: str, subject_ref: str, region: str, now: datetime) -> dict[str, Any]:
    """Return what `_IN_FORCE` asks for."""
    return {"client": client_id, "person": subject_ref, "place": region, "now": now}


def _end(
    tx: Connection, which: Iterable[Any], now: datetime, asked: Mapping[str, Any] | None = None
) -> Sequence[Receipt]:
    ended = update(sign_on_consents).where(*which).values(revoked_at=now).returning(*sign_on_consents.c)
    return [_receipt(row) for row in tx.execute(ended, asked).mappings()]


def _end_grants(tx: Connection, receipt: Receipt, subject_ref: str, now: datetime) -> None:
    """End codes, then families: a redemption under way holds its code, and its family is seen once it has ended."""
    sessions = sign_on_sessions.c
    theirs = select(sessions.id).where(sessions.region == receipt.region, sessions.subject_ref == subject_ref)
    families, codes = token_families.c, authorization_codes.c
    live_families = (families.client_id == receipt.client_id, families.session_id.in_(theirs))
    unused = (codes.client_id == receipt.client_id, codes.session_id.in_(theirs), codes.used_at.is_(None))
    ended = update(token_families).where(*live_families, families.revoked_at.is_(None))
    mark(tx)
    tx.execute(update(authorization_codes).where(*unused).values(used_at=now))
    tx.execute(ended.values(revoked_at=now))


def _insert(tx: Connection, receipt: Receipt, answer: Answer) -> None:
    shown = {name: getattr(receipt, name) for name in ("language", "digest", "purpose")}
    row = {
        "id": receipt.id,
        "client_id": receipt.client_id,
        "subject_ref": answer.subject_ref,
        "region": receipt.region,
        "recipient": answer.recipient.place.code,
        "claims": sorted(receipt.claims),
        "shown": {**shown, "declined": sorted(receipt.declined)},
        "given_at": receipt.given_at,
        "expires_at": receipt.expires_at,
    }
    tx.execute(insert(sign_on_consents).values(row))


def _receipt(row: RowMapping) -> Receipt:
    same = {name: row[name] for name in ("id", "client_id", "region", "given_at", "expires_at", "revoked_at")}
    shown = row["shown"]
    return Receipt(
        **same,
        recipient=f"{row['client_id']}@{row['recipient']}",
        claims=frozenset(row["claims"]),
        declined=frozenset(shown["declined"]),
        purpose=shown["purpose"],
        language=shown["language"],
        digest=shown["digest"],
    )


def _evidence(
    tx: Connection, action: str, receipt: Receipt, subject_ref: str, parts: Mapping[str, bytes], now: datetime
) -> None:
    names = {"claims": sorted(receipt.claims), "declined": sorted(receipt.declined), "person": subject_ref}
    what = {"consent": receipt.id, "region": receipt.region, "recipient": receipt.recipient, **names}
    exchange = Exchange(
        action=action,
        outcome="done",
        reason="",
        who={"client": receipt.client_id},
        what=what,
        purpose=receipt.purpose,
        received_at=now,
        parts=parts,
    )
    record(tx, exchange, now=now)
