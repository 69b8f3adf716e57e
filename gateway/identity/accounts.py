"""What a person may see and end of their own: live sessions, the services that hold tokens, and consents.

Owns: that everything is bound to the person (region and subject). Leaves to `logout` how a session ends and who hears
of it, to `consents` the rows of consents, to the account pages how it looks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import ColumnElement, Connection, select

from gateway.domain.identity import Assurance
from gateway.errors import NotFound
from gateway.identity.consents import Receipt, of_person, revoke
from gateway.identity.logout import Logouts, Order
from gateway.identity.records import Session
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import sign_on_sessions, token_families

Which = tuple[ColumnElement[bool], ...]
EndSessions = Callable[[Which], Awaitable[int]]
"""Ends the live sessions that these conditions name, and tells whoever must hear of it; returns how many."""


@dataclass(frozen=True, slots=True)
class LiveSession:
    """One live session of a person, and the ids of the services that hold tokens by it."""

    id: str
    assurance: Assurance
    last_used_at: datetime
    expires_at: datetime
    services: Sequence[str]
    current: bool


class Accounts:
    """A person's own sessions and consents. Every call is given the session of who asks."""

    def __init__(self, store: Store, clock: Clock, end_sessions: EndSessions) -> None:
        self._store = store
        self._clock = clock
        self._end_sessions = end_sessions

    # --- sessions

    async def sessions(self, me: Session) -> Sequence[LiveSession]:
        """Return this person's live sessions, the newest first."""
        return await self._store.read(partial(_sessions, me=me, now=self._clock()))

    async def end_session(self, me: Session, session_id: str) -> None:
        """End one of this person's sessions. Raises NotFound for one that is not theirs or is over."""
        if await self._end_sessions((*_mine(me), sign_on_sessions.c.id == session_id)) == 0:
            raise NotFound("There is no such session of yours.", code="account.no_such_session")

    async def end_all(self, me: Session) -> int:
        """End every session of this person, in whichever browser, and return how many there were."""
        return await self._end_sessions(_mine(me))

    # --- consents

    async def consents(self, me: Session) -> Sequence[Receipt]:
        """Return what this person agreed to, the newest first."""
        return await self._store.read(partial(of_person, subject_ref=me.subject_ref, region=me.region))

    async def revoke_consent(self, me: Session, consent_id: str) -> None:
        """Take a consent back: the service's codes and tokens of this person end with it (PIPL art. 15).

        Raises NotFound for one that is not theirs or is over.
        """
        taken_back = partial(revoke, consent_id=consent_id, subject_ref=me.subject_ref, now=self._clock())
        if await self._store.write(taken_back) is None:
            raise NotFound("There is no such consent of yours.", code="account.no_such_consent")


def through(logouts: Logouts) -> EndSessions:
    """Return the way to end sessions that tells every service and region which must hear of it."""

    async def end(which: Which) -> int:
        return len(await logouts.end(Order(which, "person")))

    return end


# --- units ---------------------------------------------------------------------------------------------------------


def _mine(me: Session) -> Which:
    return (sign_on_sessions.c.region == me.region, sign_on_sessions.c.subject_ref == me.subject_ref)


def _sessions(tx: Connection, me: Session, now: datetime) -> list[LiveSession]:
    c = sign_on_sessions.c
    live = select(sign_on_sessions).where(*_mine(me), c.ended_at.is_(None), c.expires_at > now)
    rows = tx.execute(live.order_by(c.expires_at.desc(), c.id)).mappings().all()
    held = _services(tx, [row["id"] for row in rows], now)
    return [
        LiveSession(
            id=row["id"],
            assurance=Assurance(row["assurance"]),
            last_used_at=row["last_used_at"],
            expires_at=row["expires_at"],
            services=sorted(held.get(row["id"], ())),
            current=row["id"] == me.id,
        )
        for row in rows
    ]


def _services(tx: Connection, session_ids: Sequence[str], now: datetime) -> dict[str, set[str]]:
    """Return which clients hold tokens by which session."""
    c, held = token_families.c, dict[str, set[str]]()
    live = (c.session_id.in_(session_ids), c.revoked_at.is_(None), c.expires_at > now)
    for session_id, client_id in tx.execute(select(c.session_id, c.client_id).where(*live)):
        held.setdefault(session_id, set()).add(client_id)
    return held
