"""The rows of sign-on: interactions, pushed requests, sessions, codes. Every function here is a unit for the store.

Owns: the statements, and the promises that rest on them (a state and a pushed request serve once, a session ends).
Leaves to `families`: what comes of a code. Leaves to the callers all meaning. What a browser or a client holds is a
random handle; the store knows only its SHA-256.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update

from gateway.domain.identity import Assurance
from gateway.storage.nonces import spend
from gateway.storage.tables import (
    authorization_codes,
    nonces,
    pushed_requests,
    refresh_tokens,
    revoked_tokens,
    sign_on_interactions,
    sign_on_sessions,
    token_families,
)

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
    """A sign-on under way in one browser: what the service asked for, and how far the person has come.

    `session_id` is set while a person who has signed on is asked for consent, and from the start for a `link`.
    """

    id: str
    handle_hash: str
    client_id: str
    request: Mapping[str, str]
    expires_at: datetime
    region: str | None = None
    memory: bytes | None = None
    kind: str = "sign-on"
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A person's live sign-on. `person` is sealed; `method` is the region's word for how the person proved it.

    `authenticated_at` is when the person proved it to the region, or where the region does not say, the earliest time
    that it can have been: never when the session began. `kept` is sealed too: what the adapter needs to end the
    region's own session, which the region knows by what `upstream_ref` is a hash of.
    """

    id: str
    handle_hash: str
    region: str
    subject_ref: str
    assurance: Assurance
    method: str
    person: bytes
    authenticated_at: datetime
    expires_at: datetime
    last_used_at: datetime
    evidence_id: str = ""
    upstream_ref: str | None = None
    kept: bytes | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code as it was issued; `acr` is the level that was promised with it.

    `claims` are those that may be given, and where: `userinfo`, `id_token`. `jkt` is the thumbprint of the key that the
    token request must prove (RFC 9449 §10).
    """

    code_hash: str
    client_id: str
    session_id: str
    redirect_uri: str
    scope: str
    nonce: str | None
    challenge: str
    acr: str
    expires_at: datetime
    claims: Mapping[str, Sequence[str]] = field(default_factory=dict)
    jkt: str | None = None


@dataclass(frozen=True, slots=True)
class UsedAssertion:
    """A client assertion that was accepted and must not be accepted again before it expires by itself."""

    value: str
    expires_at: datetime


# --- interactions ------------------------------------------------------------------------------------------------


def keep_interaction(tx: Connection, interaction: Interaction) -> None:
    """Store a new interaction."""
    names = ("id", "handle_hash", "client_id", "expires_at", "region", "kind", "session_id")
    row = {name: getattr(interaction, name) for name in names}
    tx.execute(insert(sign_on_interactions).values(**row, request=dict(interaction.request)))


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


def await_consent(tx: Connection, interaction_id: str, session_id: str) -> bool:
    """Note that a person has signed on and is asked for consent; False when the interaction has ended."""
    waiting = update(sign_on_interactions).where(sign_on_interactions.c.id == interaction_id)
    noted = waiting.values(session_id=session_id).returning(sign_on_interactions.c.id)
    return tx.execute(noted).one_or_none() is not None


def _interaction(row: RowMapping) -> Interaction:
    return Interaction(**{name: row[name] for name in Interaction.__slots__})


# --- pushed requests ---------------------------------------------------------------------------------------------

_KEEP_PUSHED = insert(pushed_requests)
_TAKE_PUSHED = (
    delete(pushed_requests)
    .where(pushed_requests.c.uri_hash == bindparam("hash"), pushed_requests.c.client_id == bindparam("client"))
    .returning(pushed_requests.c.request, pushed_requests.c.expires_at)
)


def keep_pushed(tx: Connection, handle: str, client_id: str, request: Mapping[str, str], expires_at: datetime) -> None:
    """Store what a client pushed (RFC 9126 §2.1)."""
    row = {"uri_hash": digest(handle), "client_id": client_id, "request": dict(request), "expires_at": expires_at}
    tx.execute(_KEEP_PUSHED, row)


def take_pushed(tx: Connection, handle: str, client_id: str, now: datetime) -> Mapping[str, str] | None:
    """Return what this client pushed under this handle, once (RFC 9126 §7.3)."""
    row = tx.execute(_TAKE_PUSHED, {"hash": digest(handle), "client": client_id}).mappings().one_or_none()
    return None if row is None or row["expires_at"] <= now else row["request"]


# --- sessions ----------------------------------------------------------------------------------------------------

_LIVES = (sign_on_sessions.c.expires_at > bindparam("now"), sign_on_sessions.c.ended_at.is_(None))
_LIVE_IN_BROWSER = select(sign_on_sessions).where(
    sign_on_sessions.c.handle_hash == bindparam("hash"), *_LIVES, sign_on_sessions.c.last_used_at > bindparam("idle")
)
_LIVE = select(sign_on_sessions).where(sign_on_sessions.c.id == bindparam("session"), *_LIVES)
_LIVE_AND_HELD = _LIVE.with_for_update(read=True)


def keep_session(tx: Connection, session: Session) -> None:
    """Store a new session."""
    row = {name: getattr(session, name) for name in Session.__slots__}
    tx.execute(insert(sign_on_sessions).values(**{**row, "assurance": int(session.assurance)}))


def find_session(tx: Connection, handle: str, now: datetime, idle: timedelta) -> Session | None:
    """Return the live session behind a browser's handle. One that was not used for longer than `idle` is none."""
    asked = {"hash": digest(handle), "now": now, "idle": now - idle}
    row = tx.execute(_LIVE_IN_BROWSER, asked).mappings().one_or_none()
    return None if row is None else session_of(row)


def session_by_id(tx: Connection, session_id: str, now: datetime, *, hold: bool = False) -> Session | None:
    """Return the live session with this id; with `hold` it lives until this transaction ends."""
    query = _LIVE_AND_HELD if hold else _LIVE
    row = tx.execute(query, {"session": session_id, "now": now}).mappings().one_or_none()
    return None if row is None else session_of(row)


def touch_session(tx: Connection, session_id: str, now: datetime) -> None:
    """Note that the browser was here: the time of being idle begins anew."""
    tx.execute(update(sign_on_sessions).where(sign_on_sessions.c.id == session_id).values(last_used_at=now))


def session_of(row: RowMapping) -> Session:
    """Return the session that a row of the table holds."""
    values: dict[str, Any] = {name: row[name] for name in Session.__slots__}
    return Session(**{**values, "assurance": Assurance(row["assurance"])})


# --- codes -------------------------------------------------------------------------------------------------------

_KEEP_CODE = insert(authorization_codes)


def keep_code(tx: Connection, code: Code) -> None:
    """Store a new code."""
    row = {name: getattr(code, name) for name in Code.__slots__}
    tx.execute(_KEEP_CODE, {**row, "claims": dict(code.claims)})


def use_assertion(tx: Connection, assertion: UsedAssertion) -> bool:
    """Remember an assertion; False when it was seen before."""
    return spend(tx, ASSERTIONS, assertion.value, assertion.expires_at)


# --- the janitor -------------------------------------------------------------------------------------------------


def forget_expired(tx: Connection, now: datetime) -> int:
    """Delete what has expired, and return how many rows went. Families go with their session: tokens lean on them."""
    dead = select(sign_on_sessions.c.id).where(sign_on_sessions.c.expires_at <= now)
    orphaned = select(token_families.c.id).where(token_families.c.session_id.in_(dead))
    statements = (
        delete(sign_on_interactions).where(sign_on_interactions.c.expires_at <= now),
        delete(authorization_codes).where(authorization_codes.c.session_id.in_(dead)),
        delete(refresh_tokens).where(refresh_tokens.c.family_id.in_(orphaned)),
        delete(token_families).where(token_families.c.session_id.in_(dead)),
        delete(sign_on_sessions).where(sign_on_sessions.c.expires_at <= now),
        delete(pushed_requests).where(pushed_requests.c.expires_at <= now),
        delete(revoked_tokens).where(revoked_tokens.c.expires_at <= now),
        delete(nonces).where(nonces.c.expires_at <= now),
    )
    return sum(tx.execute(statement).rowcount for statement in statements)
