"""The rows of logout: which session ended, who must be told, and what came of it. Every function is a unit.

Owns: the tables `logouts` and `logout_parties`, leases and fencing. A claim is fenced by its attempt: a worker whose
lease ran out settles nothing any more. Leaves to `logout` who the parties are and to `logout_worker` telling them.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, insert, or_, select, update

from gateway.evidence import Exchange, record
from gateway.identity.records import digest
from gateway.identity.revocations import mark
from gateway.storage.tables import logout_parties, logouts, sign_on_sessions, token_families

State = Literal["pending", "done", "failed", "not_offered"]
PENDING: State = "pending"
IN_BROWSER = "logout.in_browser"
"""Code of a party whose turn it is while the browser is away at it."""
KEPT_FOR = timedelta(days=1)
"""How long a finished logout can still be looked at; the evidence stays."""
_MOST = 500
"""Values in one IN list; engines have limits."""


@dataclass(frozen=True, slots=True)
class Logout:
    """The end of one session. `begun_by` is `person`, `client:<id>`, `region:<id>` or `operator:<name>`."""

    id: str
    handle_hash: str
    session_id: str
    begun_by: str
    return_to: str | None
    begun_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Party:
    """One who must be told: `client:<id>` or `region:<id>`. `message` is sealed; None once it is settled."""

    logout_id: str
    party: str
    state: State
    message: bytes | None = None
    attempts: int = 0
    due: datetime | None = None
    lease_until: datetime | None = None
    last_code: str | None = None
    settled_at: datetime | None = None

    @property
    def kind(self) -> str:
        """`client` or `region`."""
        return self.party.partition(":")[0]

    @property
    def name(self) -> str:
        """The id of the client or region."""
        return self.party.partition(":")[2]


def new_logout_id() -> str:
    """Return a random id; it is in addresses, and no credential."""
    return "LO" + secrets.token_hex(16)


# --- the beginning ---------------------------------------------------------------------------------------------------


def end_sessions(tx: Connection, now: datetime, *which: ColumnElement[bool]) -> Sequence[RowMapping]:
    """End live sessions, each once and for all, and return their rows: of two callers one gets a session."""
    rows = sign_on_sessions.c
    live = (*which, rows.ended_at.is_(None), rows.expires_at > now)
    ended = update(sign_on_sessions).where(*live).values(ended_at=now).returning(*rows)
    mark(tx)
    return tx.execute(ended).mappings().all()


def revoke_families(tx: Connection, session_ids: Sequence[str], now: datetime) -> Mapping[str, Sequence[str]]:
    """Revoke all that services got by these sessions; return, per session, which clients hold something of it."""
    holders: dict[str, set[str]] = {}
    families = token_families.c
    for some in _portions(session_ids):
        of_these = families.session_id.in_(some)
        tx.execute(update(token_families).where(of_these, families.revoked_at.is_(None)).values(revoked_at=now))
        held = select(families.session_id, families.client_id).where(of_these).distinct()
        for session_id, client_id in tx.execute(held):
            holders.setdefault(session_id, set()).add(client_id)
    return {session_id: sorted(clients) for session_id, clients in holders.items()}


def _portions(values: Sequence[str]) -> Iterable[Sequence[str]]:
    return (values[start : start + _MOST] for start in range(0, len(values), _MOST))


def keep(tx: Connection, begun: Collection[Logout], parties: Collection[Party]) -> None:
    """Store logouts with their parties."""
    if begun:
        tx.execute(insert(logouts), [_values(one) for one in begun])
    if parties:
        tx.execute(insert(logout_parties), [_values(one) for one in parties])


def _values(one: Logout | Party) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__}


# --- being worked off ------------------------------------------------------------------------------------------------


def claim(tx: Connection, *, limit: int, now: datetime, lease: timedelta, attempts: int) -> list[Party]:
    """Take parties that are due, for one attempt each. Replicas never take the same one.

    A party that was tried `attempts` times already, the last time by a worker that died, is given up instead.
    """
    c = logout_parties.c
    free = (c.state == PENDING, c.due <= now, or_(c.lease_until.is_(None), c.lease_until <= now))
    query = select(logout_parties).where(*free).order_by(c.due).limit(limit).with_for_update(skip_locked=True)
    found = [_party(row) for row in tx.execute(query).mappings()]
    spent = [party for party in found if party.attempts >= attempts or party.last_code == IN_BROWSER]
    for party in spent:
        code = "logout.no_return" if party.last_code == IN_BROWSER else "logout.given_up"
        settle(tx, party, "failed", code, now)
    return [_take(tx, party, now + lease) for party in found if party not in spent]


def claim_one(
    tx: Connection, logout_id: str, party: str, *, now: datetime, lease: timedelta, attempts: int
) -> Party | None:
    """Take one party for an attempt if it waits; None when somebody is at it, or it is settled or spent."""
    c = logout_parties.c
    waits = (
        c.logout_id == logout_id,
        c.party == party,
        c.state == PENDING,
        c.attempts < attempts,
        or_(c.lease_until.is_(None), c.lease_until <= now),
        or_(c.last_code.is_(None), c.last_code != IN_BROWSER),
    )
    query = select(logout_parties).where(*waits).with_for_update(skip_locked=True)
    row = tx.execute(query).mappings().one_or_none()
    return None if row is None else _take(tx, _party(row), now + lease)


def _take(tx: Connection, party: Party, until: datetime) -> Party:
    values = {"attempts": party.attempts + 1, "lease_until": until, "due": until}
    tx.execute(update(logout_parties).where(_this(party)).values(values))
    return Party(**{**_values(party), **values})


def try_again(tx: Connection, party: Party, code: str, due: datetime) -> bool:
    """Let go of a party until `due`. False when the claim was lost."""
    return _fenced(tx, party, {"due": due, "lease_until": None, "last_code": code})


def send_browser(tx: Connection, party: Party, until: datetime) -> bool:
    """Note that the browser is on its way to the party, and must be back by `until`. False when the claim was lost."""
    return _fenced(tx, party, {"due": until, "lease_until": None, "last_code": IN_BROWSER})


def settle(tx: Connection, party: Party, state: State, code: str, now: datetime) -> bool:
    """Write what came of a party, as evidence too, and finish the logout with its last one.

    The row of the logout is locked first: of two parties that settle at the same time the later one sees both. False
    when the claim was lost.
    """
    logout = _locked(tx, party.logout_id)
    values = {"state": state, "last_code": code, "settled_at": now, "due": None, "lease_until": None, "message": None}
    if logout is None or not _fenced(tx, party, values):
        return False
    _evidence(tx, logout, party, state, code, now)
    _finish(tx, party.logout_id, now)
    return True


def come_back(tx: Connection, logout_id: str, region: str, now: datetime) -> Logout | None:
    """Settle a region's party as the browser returns from there, once; None when it was not away."""
    away = (
        logout_parties.c.logout_id == logout_id,
        logout_parties.c.party == f"region:{region}",
        logout_parties.c.state == PENDING,
        logout_parties.c.last_code == IN_BROWSER,
    )
    row = tx.execute(select(logout_parties).where(*away)).mappings().one_or_none()
    if row is None or not settle(tx, _party(row), "done", "ok", now):
        return None
    return _locked(tx, logout_id)


def _locked(tx: Connection, logout_id: str) -> Logout | None:
    row = tx.execute(select(logouts).where(logouts.c.id == logout_id).with_for_update()).mappings().one_or_none()
    return None if row is None else _logout(row)


def _fenced(tx: Connection, party: Party, values: Mapping[str, Any]) -> bool:
    mine = and_(_this(party), logout_parties.c.attempts == party.attempts, logout_parties.c.state == PENDING)
    return tx.execute(update(logout_parties).where(mine).values(dict(values))).rowcount == 1


def _this(party: Party) -> ColumnElement[bool]:
    return and_(logout_parties.c.logout_id == party.logout_id, logout_parties.c.party == party.party)


def _evidence(tx: Connection, logout: Logout, party: Party, state: State, code: str, now: datetime) -> None:
    told = Exchange(
        action="sign_on.logout_party",
        outcome="done" if state == "done" else "failed",
        reason=code,
        who={"begun_by": logout.begun_by},
        what={"logout": logout.id, "party": party.party, "state": state, "attempts": party.attempts},
        purpose="logout",
        received_at=logout.begun_at,
        answered_at=now,
    )
    record(tx, told, now=now)


def _finish(tx: Connection, logout_id: str, now: datetime) -> None:
    waiting = select(logout_parties.c.party).where(
        logout_parties.c.logout_id == logout_id, logout_parties.c.state == PENDING
    )
    if tx.execute(waiting.limit(1)).one_or_none() is None:
        tx.execute(update(logouts).where(logouts.c.id == logout_id).values(finished_at=now))


# --- looking ---------------------------------------------------------------------------------------------------------


def find(tx: Connection, logout_id: str, handle: str) -> tuple[Logout, Sequence[Party]] | None:
    """Return a logout with its parties, for the browser that began it."""
    ours = (logouts.c.id == logout_id, logouts.c.handle_hash == digest(handle))
    row = tx.execute(select(logouts).where(*ours)).mappings().one_or_none()
    if row is None:
        return None
    c = logout_parties.c
    parties = tx.execute(select(logout_parties).where(c.logout_id == logout_id).order_by(c.party)).mappings()
    return _logout(row), [_party(one) for one in parties]


def _logout(row: RowMapping) -> Logout:
    return Logout(**{name: row[name] for name in Logout.__slots__})


def _party(row: RowMapping) -> Party:
    return Party(**{name: row[name] for name in Party.__slots__})


# --- the janitor -----------------------------------------------------------------------------------------------------


def forget_finished(tx: Connection, now: datetime) -> int:
    """Delete logouts that were finished a while ago; return how many rows went."""
    old = select(logouts.c.id).where(logouts.c.finished_at <= now - KEPT_FOR)
    statements = (
        delete(logout_parties).where(logout_parties.c.logout_id.in_(old)),
        delete(logouts).where(logouts.c.finished_at <= now - KEPT_FOR),
    )
    return sum(tx.execute(statement).rowcount for statement in statements)
