"""Sessions of clerks, kept on the server; the browser holds nothing but a random handle.

Owns: the table window_sessions, the two cookies (a sign-on under way, a session) and their lifetimes. A handle is
stored as its SHA-256, so that whoever reads the database cannot take over a session.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from aiohttp import web
from sqlalchemy import Connection, delete, insert, select

from gateway.crypto.at_rest import Sealer
from gateway.ports import Clock
from gateway.storage.store import Store
from gateway.storage.tables import window_sessions

SESSION_LIFE = timedelta(hours=8)
"""Absolute: a working day at the counter. Use does not prolong it."""
SIGN_ON_LIFE = timedelta(minutes=10)
"""How long a clerk may take to sign on, from leaving the window to coming back."""


@dataclass(frozen=True, slots=True)
class Session:
    """A clerk's session. `csrf` stands in every form that this session is shown."""

    window_id: str
    clerk_id: str
    csrf: str


@dataclass(frozen=True, slots=True)
class Cookie:
    """One of our cookies: HttpOnly, SameSite=Lax, and bound to this host by its prefix where the page is https."""

    name: str
    secure: bool
    life: timedelta

    def read(self, request: web.Request) -> str | None:
        """Return the handle that the browser sent."""
        return request.cookies.get(self._full_name)

    def give(self, response: web.Response, handle: str) -> None:
        """Hand the handle to the browser."""
        seconds = int(self.life.total_seconds())
        response.set_cookie(
            self._full_name, handle, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="Lax"
        )

    def take_back(self, response: web.Response) -> None:
        """Make the browser forget it."""
        response.del_cookie(self._full_name, path="/", secure=self.secure, httponly=True, samesite="Lax")

    @property
    def _full_name(self) -> str:
        return f"__Host-{self.name}" if self.secure else self.name


class Sessions:
    """Opens, finds and ends sessions, and remembers a sign-on while the clerk is away at the region."""

    def __init__(self, store: Store, sealer: Sealer, clock: Clock, *, secure: bool) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self.cookie = Cookie("pearl_window", secure, SESSION_LIFE)
        self.sign_on_cookie = Cookie("pearl_window_sign_on", secure, SIGN_ON_LIFE)

    async def begin(self, memory: Mapping[str, str]) -> str:
        """Remember a sign-on under way and return its handle."""
        return await self._insert(memory, SIGN_ON_LIFE, window_id=None, clerk_id=None)

    async def take(self, handle: str | None) -> dict[str, str] | None:
        """Return what a sign-on remembered, once; None when it is unknown, over or taken before."""
        key, now = _hash(handle), self._clock()

        def unit(tx: Connection) -> bytes | None:
            under_way = window_sessions.c.clerk_id.is_(None) & (window_sessions.c.handle_hash == key)
            row = tx.execute(delete(window_sessions).where(under_way).returning(*_MEMORY)).one_or_none()
            return row.memory if row is not None and row.expires_at > now else None

        sealed = await self._store.write(unit)
        if sealed is None:
            return None
        memory: dict[str, str] = orjson.loads(self._sealer.open(sealed, _context(key)))
        return memory

    async def open(self, window_id: str, clerk_id: str) -> str:
        """Open a clerk's session under a fresh handle and return it."""
        return await self._insert({}, SESSION_LIFE, window_id=window_id, clerk_id=clerk_id)

    async def find(self, handle: str | None) -> Session | None:
        """Return the clerk's session, None when there is none or it is over."""
        if handle is None:
            return None
        columns = window_sessions.c
        query = select(columns.window_id, columns.clerk_id, columns.csrf).where(
            columns.handle_hash == _hash(handle), columns.clerk_id.is_not(None), columns.expires_at > self._clock()
        )
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        return None if row is None else Session(row.window_id, row.clerk_id, row.csrf)

    async def end(self, handle: str | None) -> None:
        """End a session; one that is unknown is over already."""
        statement = delete(window_sessions).where(window_sessions.c.handle_hash == _hash(handle))
        await self._store.write(lambda tx: tx.execute(statement).rowcount)

    async def _insert(self, memory: Mapping[str, str], life: timedelta, **ids: str | None) -> str:
        handle = secrets.token_urlsafe(32)
        key = _hash(handle)
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


def _hash(handle: str | None) -> str:
    return hashlib.sha256((handle or "").encode()).hexdigest()


def _context(key: str) -> str:
    return f"window_sessions.memory:{key}"
