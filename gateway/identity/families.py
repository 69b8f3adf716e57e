"""Token families: everything that was issued on one code, or by one exchange, stands and falls together.

Owns: using a code up, rotating refresh tokens, revoking, and the question whether a token still stands. Every function
is a unit for the store; each one-time decision is one statement. Leaves to `provider` what a token says. A family ends
with its session at the latest: nothing here keeps a person signed on who has signed out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from gateway.identity.records import Code, Session, digest, session_by_id
from gateway.identity.revocations import mark
from gateway.storage.nonces import CLOCKS_APART
from gateway.storage.store import insert_into
from gateway.storage.tables import (
    authorization_codes,
    refresh_tokens,
    revoked_tokens,
    sign_on_sessions,
    token_families,
)


@dataclass(frozen=True, slots=True)
class Family:
    """What one code or one exchange granted. `binding` is the `cnf` that its tokens carry (RFC 7800), None for bearer.

    `actor` is the `act` claim (RFC 8693 §4.1) of a family that an exchange began.
    """

    id: str
    client_id: str
    session_id: str
    scope: str
    acr: str
    created_at: datetime
    expires_at: datetime
    claims: Mapping[str, Sequence[str]] = field(default_factory=dict)
    binding: Mapping[str, str] | None = None
    actor: Mapping[str, Any] | None = None
    mandate_id: str | None = None
    code_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A family that still stands, with the session that it stands on."""

    family: Family
    session: Session


@dataclass(frozen=True, slots=True)
class Redemption:
    """A code that this request used up, with what came of it."""

    code: Code
    standing: Standing


@dataclass(frozen=True, slots=True)
class NewRefresh:
    """A refresh token to hand out: its handle, and how long it may be used."""

    handle: str
    life: timedelta


# --- codes -------------------------------------------------------------------------------------------------------

_CODES = authorization_codes.c
_SPEND_CODE = (
    update(authorization_codes)
    .where(_CODES.code_hash == bindparam("hash"), _CODES.client_id == bindparam("client"))
    .where(_CODES.redirect_uri == bindparam("uri"), _CODES.expires_at > bindparam("now"), _CODES.used_at.is_(None))
    .values(used_at=bindparam("now"))
    .returning(*_CODES)
)
_BEGIN_FAMILY = insert(token_families)


def redeem_code(
    tx: Connection, code: str, client_id: str, redirect_uri: str, binding: Mapping[str, str] | None, now: datetime
) -> Redemption | None:
    """Use a code up, once and for all, if it is this client's, for this redirect URI, and its session lives.

    One statement decides, so of any number of parallel attempts one succeeds. A second attempt revokes the family that
    came of the first one (RFC 9700 §2.1.1, RFC 6749 §4.1.2). `binding` is what the family's tokens will be bound to.
    """
    this = {"hash": digest(code), "client": client_id, "uri": redirect_uri, "now": now}
    row = tx.execute(_SPEND_CODE, this).mappings().one_or_none()
    if row is None:
        _revoke(tx, now, token_families.c.code_hash == digest(code), token_families.c.client_id == client_id)
        return None
    session = session_by_id(tx, row["session_id"], now, hold=True)  # or its end would miss the family
    if session is None:
        return None
    code_row = Code(**{name: row[name] for name in Code.__slots__})
    family = _family_of(code_row, session, binding, now)
    begin_family(tx, family)
    return Redemption(code_row, Standing(family, session))


def grant_of(code_hash: str) -> str:
    """Return the id of the family that a code begins: whoever knows the one (evidence does) finds the other."""
    return hashlib.sha256(f"grant\x1f{code_hash}".encode()).hexdigest()[:32]


def _family_of(code: Code, session: Session, binding: Mapping[str, str] | None, now: datetime) -> Family:
    return Family(
        id=grant_of(code.code_hash),
        client_id=code.client_id,
        session_id=session.id,
        scope=code.scope,
        acr=code.acr,
        created_at=now,
        expires_at=session.expires_at,
        claims=code.claims,
        binding=binding,
        code_hash=code.code_hash,
    )


def begin_family(tx: Connection, family: Family) -> None:
    """Store a new family."""
    row = {name: getattr(family, name) for name in Family.__slots__}
    tx.execute(_BEGIN_FAMILY, {**row, "claims": dict(family.claims)})


# --- refresh tokens ------------------------------------------------------------------------------------------------

_KEEP_REFRESH = insert(refresh_tokens)


def keep_refresh(tx: Connection, family: Family, new: NewRefresh, now: datetime) -> None:
    """Store a refresh token that is about to be handed out. It ends with its family at the latest."""
    row = {"token_hash": digest(new.handle), "family_id": family.id, "issued_at": now}
    tx.execute(_KEEP_REFRESH, {**row, "expires_at": min(now + new.life, family.expires_at)})


def rotate_refresh(tx: Connection, token: str, client_id: str, new: NewRefresh, now: datetime) -> Standing | None:
    """Use a refresh token up and put the new one in its place, if it is this client's and its family stands.

    One statement decides, so of any number of parallel attempts one succeeds. A token that comes a second time has two
    holders, and nobody can tell which of them is the client: its family ends (RFC 9700 §4.14.2).
    """
    rows = refresh_tokens.c
    mine = select(token_families.c.id).where(token_families.c.client_id == client_id)
    unused = (rows.token_hash == digest(token), rows.used_at.is_(None), rows.family_id.in_(mine))
    spent = update(refresh_tokens).where(*unused, rows.expires_at > now).values(used_at=now).returning(rows.family_id)
    family_id = tx.execute(spent).scalar_one_or_none()
    if family_id is None:
        again = select(rows.family_id).where(rows.token_hash == digest(token), rows.used_at.is_not(None))
        _revoke(tx, now, token_families.c.id.in_(again), token_families.c.client_id == client_id)
        return None
    standing = find_standing(tx, family_id, now)
    if standing is not None:
        keep_refresh(tx, standing.family, new, now)
    return standing


def hold_refresh(tx: Connection, token: str, client_id: str, now: datetime) -> Standing | None:
    """Return what a refresh token stands for and leave it as it is: to look before it is used up.

    For clients of the FAPI 2.0 profile that is all: their tokens are bound to a key, so none is rotated (§5.3.2.1).
    """
    found = refresh_family(tx, token, now)
    standing = None if found is None else find_standing(tx, found, now)
    return standing if standing is not None and standing.family.client_id == client_id else None


def refresh_family(tx: Connection, token: str, now: datetime) -> str | None:
    """Return the family of a refresh token that was not used yet and has not expired."""
    rows = refresh_tokens.c
    usable = (rows.token_hash == digest(token), rows.used_at.is_(None), rows.expires_at > now)
    return tx.execute(select(rows.family_id).where(*usable)).scalar_one_or_none()


# --- standing ------------------------------------------------------------------------------------------------------

_FAMILIES = token_families.c
_LIVE_FAMILY = select(token_families).where(
    _FAMILIES.id == bindparam("family"), _FAMILIES.revoked_at.is_(None), _FAMILIES.expires_at > bindparam("now")
)
_SESSIONS = sign_on_sessions.c
_REVOKED = select(revoked_tokens.c.token_id).where(revoked_tokens.c.token_id == bindparam("token"))
_STANDS = (
    select(_FAMILIES.id)
    .join_from(token_families, sign_on_sessions, _FAMILIES.session_id == _SESSIONS.id)
    .where(_FAMILIES.id == bindparam("family"), _FAMILIES.revoked_at.is_(None), _FAMILIES.expires_at > bindparam("now"))
    .where(_SESSIONS.ended_at.is_(None), _SESSIONS.expires_at > bindparam("now"), ~_REVOKED.exists())
)


def find_standing(tx: Connection, family_id: str, now: datetime, *, hold: bool = False) -> Standing | None:
    """Return a family that is not revoked, and its session if that lives; `hold` keeps it alive till the commit."""
    row = tx.execute(_LIVE_FAMILY, {"family": family_id, "now": now}).mappings().one_or_none()
    session = None if row is None else session_by_id(tx, row["session_id"], now, hold=hold)
    return None if row is None or session is None else Standing(_family(row), session)


def is_revoked(tx: Connection, token_id: str) -> bool:
    """Say whether this one token was revoked by itself."""
    return tx.execute(_REVOKED, {"token": token_id}).one_or_none() is not None


def token_stands(tx: Connection, token_id: str, family_id: str, now: datetime) -> bool:
    """Say of a person's token whether neither it nor its family was revoked, and the session lives."""
    asked = {"token": token_id, "family": family_id, "now": now}
    return tx.execute(_STANDS, asked).one_or_none() is not None


def _family(row: RowMapping) -> Family:
    return Family(**{name: row[name] for name in Family.__slots__})


# --- the end -------------------------------------------------------------------------------------------------------


def revoke_refresh(tx: Connection, token: str, client_id: str, now: datetime) -> str | None:
    """End the family of a refresh token of this client, used or not; return its id (RFC 7009 §2.1)."""
    of_token = select(refresh_tokens.c.family_id).where(refresh_tokens.c.token_hash == digest(token))
    ended = _revoke(tx, now, token_families.c.id.in_(of_token), token_families.c.client_id == client_id)
    return ended[0] if ended else None


def revoke_token(tx: Connection, token_id: str, expires_at: datetime) -> None:
    """Remember one access token as revoked until it would have expired, by the clock of every replica."""
    mark(tx)
    row = insert_into(tx, revoked_tokens).values(token_id=token_id, expires_at=expires_at + CLOCKS_APART)
    tx.execute(row.on_conflict_do_nothing())


def revoke_family(tx: Connection, family_id: str, now: datetime) -> None:
    """End a family."""
    _revoke(tx, now, token_families.c.id == family_id)


def _revoke(tx: Connection, now: datetime, *which: Any) -> Sequence[str]:
    ended = update(token_families).where(*which, token_families.c.revoked_at.is_(None)).values(revoked_at=now)
    ids = list(tx.execute(ended.returning(token_families.c.id)).scalars())
    if ids:
        mark(tx)
    return ids
