"""The rows of sign-on: interactions, sessions, codes, used assertion ids. Every function here is a unit for the store.

Owns: the statements, and the promises that rest on them (a state and a code serve once, a session ends). Leaves to the
callers all meaning. What a browser or a client holds is a random handle; the store knows only its SHA-256.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from gateway.domain.identity import Assurance
from gateway.storage.nonces import spend
from gateway.storage.tables import authorization_codes, nonces, sign_on_interactions, sign_on_sessions, token_families

_HANDLE = re.compile(r"[A-Za-z0-9_-]{43}")
ASSERTIONS = "client_assertion"
"""Scope of the nonces that remember client assertions."""


def new_handle() -> str:
    """Return 256 random bits, URL-safe: 43 characters."""
    return secrets.token_urlsafe(32)


def new_session_id() -> str:
    """Return a random session id. It is no credential: the browser holds the handle."""
    return secrets.token_hex(16)


def is_handle(text: str) -> bool:
    """Say whether this has the form of a handle; what has not is not looked up."""
    return _HANDLE.fullmatch(text) is not None


def digest(handle: str) -> str:
    """Return what the store knows of a handle. Handles are random, so a plain SHA-256 suffices."""
    return hashlib.sha256(handle.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Interaction:
    """A sign-on under way in one browser: what the service asked for, and how far the person has come."""

    id: str
    handle_hash: str
    client_id: str
    request: Mapping[str, str]
    expires_at: datetime
    region: str | None = None
    memory: bytes | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A person's live sign-on. `person` is sealed; `method` is the region's word for how the person proved it."""

    id: str
    handle_hash: str
    region: str
    subject_ref: str
    assurance: Assurance
    method: str
    person: bytes
    authenticated_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code as it was issued; `acr` is the level that was promised with it."""

    code_hash: str
    client_id: str
    session_id: str
    redirect_uri: str
    scope: str
    nonce: str | None
    challenge: str
    acr: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class UsedAssertion:
    """A client assertion that was accepted and must not be accepted again before it expires by itself."""

    value: str
    expires_at: datetime


# --- interactions ------------------------------------------------------------------------------------------------


def keep_interaction(tx: Connection, interaction: Interaction) -> None:
    """Store a new interaction."""
    row = {name: getattr(interaction, name) for name in ("id", "handle_hash", "client_id", "expires_at", "region")}
    tx.execute(insert(sign_on_interactions).values(**row, kind="sign-on", request=dict(interaction.request)))


def find_interaction(tx: Connection, interaction_id: str, browser: str, now: datetime) -> Interaction | None:
    """Return the interaction, if it lives and began in this browser."""
    rows = sign_on_interactions.c
    ours = (rows.id == interaction_id, rows.handle_hash == digest(browser), rows.expires_at > now)
    row = tx.execute(select(sign_on_interactions).where(*ours)).mappings().one_or_none()
    return None if row is None else _interaction(row)


def send_upstream(tx: Connection, interaction_id: str, region: str, state: str, memory: bytes) -> None:
    """Note that the browser was sent to a region with this state. An earlier state of the interaction ends."""
    values = {"region": region, "state_hash": digest(state), "memory": memory}
    tx.execute(update(sign_on_interactions).where(sign_on_interactions.c.id == interaction_id).values(**values))


def take_state(tx: Connection, state: str, region: str, browser: str, now: datetime) -> Interaction | None:
    """Use a state up and return its interaction: only at its own region's address, only in its browser, only once."""
    rows = sign_on_interactions.c
    spent = (
        update(sign_on_interactions)
        .where(
            rows.state_hash == digest(state),
            rows.region == region,
            rows.handle_hash == digest(browser),
            rows.expires_at > now,
        )
        .values(state_hash=None)
        .returning(*sign_on_interactions.c)
    )
    row = tx.execute(spent).mappings().one_or_none()
    return None if row is None else _interaction(row)


def end_interaction(tx: Connection, interaction_id: str) -> bool:
    """Remove an interaction; False when another request was faster."""
    removed = delete(sign_on_interactions).where(sign_on_interactions.c.id == interaction_id)
    return tx.execute(removed.returning(sign_on_interactions.c.id)).one_or_none() is not None


def _interaction(row: RowMapping) -> Interaction:
    names = ("id", "handle_hash", "client_id", "request", "expires_at", "region", "memory")
    return Interaction(**{name: row[name] for name in names})


# --- sessions ----------------------------------------------------------------------------------------------------


def keep_session(tx: Connection, session: Session) -> None:
    """Store a new session."""
    row = {name: getattr(session, name) for name in Session.__slots__}
    more = {"assurance": int(session.assurance), "last_used_at": session.authenticated_at, "evidence_id": ""}
    tx.execute(insert(sign_on_sessions).values(**{**row, **more}))


def find_session(tx: Connection, handle: str, now: datetime) -> Session | None:
    """Return the live session behind a browser's handle."""
    rows = sign_on_sessions.c
    live = (rows.handle_hash == digest(handle), rows.expires_at > now, rows.ended_at.is_(None))
    row = tx.execute(select(sign_on_sessions).where(*live)).mappings().one_or_none()
    return None if row is None else _session(row)


def end_session(tx: Connection, handle: str, now: datetime) -> None:
    """End the session behind a browser's handle: the handle, its codes and its tokens serve no more."""
    live = (sign_on_sessions.c.handle_hash == digest(handle), sign_on_sessions.c.ended_at.is_(None))
    tx.execute(update(sign_on_sessions).where(*live).values(ended_at=now))


def session_behind(tx: Connection, family_id: str, now: datetime) -> Session | None:
    """Return the live session behind a token's family, unless that family was revoked."""
    families, sessions = token_families.c, sign_on_sessions.c
    live = (
        families.id == family_id,
        families.revoked_at.is_(None),
        sessions.expires_at > now,
        sessions.ended_at.is_(None),
    )
    found = select(sign_on_sessions).join(token_families, families.session_id == sessions.id).where(*live)
    row = tx.execute(found).mappings().one_or_none()
    return None if row is None else _session(row)


def _session(row: RowMapping) -> Session:
    values: dict[str, Any] = {name: row[name] for name in Session.__slots__}
    return Session(**{**values, "assurance": Assurance(row["assurance"])})


# --- codes -------------------------------------------------------------------------------------------------------


def keep_code(tx: Connection, code: Code) -> None:
    """Store a new code."""
    row = {name: getattr(code, name) for name in Code.__slots__}
    tx.execute(insert(authorization_codes).values(**row, claims={}))


def redeem_code(
    tx: Connection, code: str, client_id: str, redirect_uri: str, token_id: str, now: datetime
) -> tuple[Code, Session] | None:
    """Use a code up, once and for all, if it is this client's, for this redirect URI, and its session lives.

    One statement decides, so of any number of parallel attempts one succeeds. A second attempt revokes the code and
    with it the token that the first one got (RFC 9700 §2.1.1, RFC 6749 §4.1.2).
    """
    rows = authorization_codes.c
    ours = (rows.code_hash == digest(code), rows.client_id == client_id)
    unused = (rows.redirect_uri == redirect_uri, rows.expires_at > now, rows.used_at.is_(None))
    spent = update(authorization_codes).where(*ours, *unused).values(used_at=now)
    row = tx.execute(spent.returning(*authorization_codes.c)).mappings().one_or_none()
    if row is None:
        again = select(rows.code_hash).where(*ours, rows.used_at.is_not(None))
        tx.execute(update(token_families).where(token_families.c.code_hash.in_(again)).values(revoked_at=now))
        return None
    family = {name: row[name] for name in ("client_id", "session_id", "code_hash", "scope", "claims", "acr")}
    term = {"created_at": now, "expires_at": now + timedelta(hours=1)}
    tx.execute(insert(token_families).values(id=token_id, **family, **term))
    session = session_behind(tx, token_id, now)
    return None if session is None else (Code(**{name: row[name] for name in Code.__slots__}), session)


def use_assertion(tx: Connection, assertion: UsedAssertion) -> bool:
    """Remember an assertion; False when it was seen before."""
    return spend(tx, ASSERTIONS, assertion.value, assertion.expires_at)


# --- the janitor -------------------------------------------------------------------------------------------------


def forget_expired(tx: Connection, now: datetime) -> int:
    """Delete what has expired, and return how many rows went. Codes go with their session: tokens lean on them."""
    dead = select(sign_on_sessions.c.id).where(sign_on_sessions.c.expires_at <= now)
    statements = (
        delete(sign_on_interactions).where(sign_on_interactions.c.expires_at <= now),
        delete(authorization_codes).where(authorization_codes.c.session_id.in_(dead)),
        delete(token_families).where(token_families.c.session_id.in_(dead)),
        delete(sign_on_sessions).where(sign_on_sessions.c.expires_at <= now),
        delete(nonces).where(nonces.c.expires_at <= now),
    )
    return sum(tx.execute(statement).rowcount for statement in statements)
