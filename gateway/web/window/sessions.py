"""Sessions of clerks, kept on the server; the browser holds nothing but a random handle.

Owns: the table window_sessions, the two cookies (a sign-on under way, a session) and their lifetimes. A handle is
stored as its SHA-256, so that whoever reads the database cannot take over a session. Leaves to `pages`: whether the
person is still the clerk that the session was opened for.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, delete, insert, select

from gateway.crypto.at_rest import Sealer
from gateway.identity.records import digest
from gateway.ports import Clock
from gateway.storage.store import Store
from gateway.storage.tables import window_sessions
from gateway.web.cookies import HandleCookie
from gateway.windows import Clerk, Window

SESSION_LIFE = timedelta(hours=8)
"""Absolute: a working day at the counter. Use does not prolong it."""
SIGN_ON_LIFE = timedelta(minutes=10)
"""How long a clerk may take to sign on, from leaving the window to coming back."""


@dataclass(frozen=True, slots=True)
class Session:
    """A clerk's session. `csrf` stands in every form that this session is shown.

    `region` and `subject` name the person: a staff number may pass to somebody else, a session may not. `opening` is
    the mark of the region's opening under which the clerk signed on; empty when there was none.
    """

    window_id: str
    clerk_id: str
    region: str
    subject: str
    opening: str
    csrf: str

    def is_of(self, window: Window, clerk: Clerk) -> bool:
        """Say whether this person still has the place and the staff number that the session was opened with."""
        return (self.window_id, self.clerk_id) == (window.id, clerk.id)

    def is_cut_off(self, openings: Mapping[str, str]) -> bool:
        """Say whether the region is closed, or was at any time since: what is opened again brings no session back."""
        return not self.opening or openings.get(self.region) != self.opening


class Sessions:
    """Opens, finds and ends sessions, and remembers a sign-on while the clerk is away at the region."""

    def __init__(self, store: Store, sealer: Sealer, clock: Clock, *, secure: bool) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self.cookie = HandleCookie("pearl_window", secure, SESSION_LIFE)
        self.sign_on_cookie = HandleCookie("pearl_window_sign_on", secure, SIGN_ON_LIFE)

    async def begin(self, memory: Mapping[str, str]) -> str:
        """Remember a sign-on under way and return its handle."""
        return await self._insert(memory, SIGN_ON_LIFE, window_id=None, clerk_id=None)

    async def take(self, handle: str | None) -> dict[str, str] | None:
        """Return what a sign-on remembered, once; None when it is unknown, over or taken before."""
        if handle is None:
            return None
        key, now = digest(handle), self._clock()

        def unit(tx: Connection) -> bytes | None:
            under_way = window_sessions.c.clerk_id.is_(None) & (window_sessions.c.handle_hash == key)
            row = tx.execute(delete(window_sessions).where(under_way).returning(*_MEMORY)).one_or_none()
            return row.memory if row is not None and row.expires_at > now else None

        sealed = await self._store.write(unit)
        if sealed is None:
            return None
        return self._memory(sealed, key)

    async def open(self, window: Window, clerk: Clerk, opening: str) -> str:
        """Open a clerk's session under a fresh handle and return it."""
        person = {"region": clerk.region, "subject": clerk.subject, "opening": opening}
        return await self._insert(person, SESSION_LIFE, window_id=window.id, clerk_id=clerk.id)

    async def find(self, handle: str | None) -> Session | None:
        """Return the clerk's session, None when there is none or it is over."""
        if handle is None:
            return None
        columns, key = window_sessions.c, digest(handle)
        query = select(columns.window_id, columns.clerk_id, columns.csrf, columns.memory).where(
            columns.handle_hash == key, columns.clerk_id.is_not(None), columns.expires_at > self._clock()
        )
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        if row is None:
            return None
        person = self._memory(row.memory, key)
        opening = person.get("opening", "")  # kept by an older version: none
        return Session(row.window_id, row.clerk_id, person["region"], person["subject"], opening, row.csrf)

    async def end(self, handle: str | None) -> None:
        """End a session; one that is unknown is over already."""
        if handle is not None:
            statement = delete(window_sessions).where(window_sessions.c.handle_hash == digest(handle))
            await self._store.write(lambda tx: tx.execute(statement).rowcount)

    def _memory(self, sealed: bytes, key: str) -> dict[str, str]:
        memory: dict[str, str] = orjson.loads(self._sealer.open(sealed, _context(key)))
        return memory

    async def _insert(self, memory: Mapping[str, str], life: timedelta, **ids: str | None) -> str:
        handle = secrets.token_urlsafe(32)
        key = digest(handle)
        row: dict[str, Any] = {
            **ids,
            "handle_hash": key,
            "csrf": secrets.token_urlsafe(32),
            "memory": self._sealer.seal(orjson.dumps(dict(memory)), _context(key)),
            "expires_at": self._clock() + life,
        }
        await self._store.write(lambda tx: tx.execute(insert(window_sessions).values(row)).rowcount)
        return handle


_MEMORY = (window_sessions.c.memory, window_sessions.c.expires_at)


def forget_expired(tx: Connection, now: datetime) -> int:
    """Delete sessions and sign-ons that are over; return how many. For the janitor."""
    return tx.execute(delete(window_sessions).where(window_sessions.c.expires_at <= now)).rowcount


def _context(key: str) -> str:
    return f"window_sessions.memory:{key}"
