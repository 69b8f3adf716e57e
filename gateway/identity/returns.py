"""Forms that a region had the browser post, kept for the moment until the browser comes by itself.

Owns: the rows, that each serves once and only at its region's address, and what of a form is the `state`. Leaves to
`broker` every check of the sign-on. A POST from a region's page comes without our SameSite=Lax cookies; the browser is
therefore sent on to the same address by GET, with a handle, and brings them along. What a form may cost is bounded: it
is kept only when a sign-on is under way that it can belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

import orjson
from sqlalchemy import Connection, delete, insert, select

from gateway.crypto.at_rest import Sealer
from gateway.errors import SignOnFailed
from gateway.identity.broker import LOST
from gateway.identity.records import digest, is_handle, new_handle
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import sign_on_interactions, upstream_returns

LIFE = timedelta(minutes=2)
"""A redirect takes a moment; what is not fetched by then was not ours to begin with."""


class Returns:
    """Keeps posted forms, sealed, and hands each out once."""

    def __init__(self, store: Store, sealer: Sealer, clock: Clock) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock

    async def keep(self, region: str, form: Mapping[str, str]) -> str:
        """Keep a form and return the handle for it. Raises SignOnFailed when no sign-on of ours waits for it."""
        handle, now = new_handle(), self._clock()
        query = as_query(form)
        body = self._sealer.seal(orjson.dumps(query), _place(handle))
        row = {"handle_hash": digest(handle), "region": region, "body": body, "expires_at": now + LIFE}
        if not await self._store.write(partial(_keep, row=row, state=query.get("state", ""), now=now)):
            raise SignOnFailed(LOST, code="signon.lost", region=region)
        return handle

    async def take(self, region: str, handle: str) -> dict[str, str]:
        """Return the form behind a handle, once, and only for the region that it was posted to. Raises SignOnFailed."""
        take = partial(_take, handle=handle, region=region, now=self._clock())
        body = await self._store.write(take) if is_handle(handle) else None
        if body is None:
            raise SignOnFailed(LOST, code="signon.lost", region=region)
        form: dict[str, str] = orjson.loads(self._sealer.open(body, _place(handle)))
        return form


def as_query(form: Mapping[str, str]) -> dict[str, str]:
    """Return a posted form as a query would have brought it: SAML carries the `state` as RelayState (Bindings §3.5.3).

    Raises SignOnFailed when a form carries both, since then two readers could take two sign-ons for the one meant.
    """
    if "state" in form and "RelayState" in form:
        raise SignOnFailed(LOST, code="signon.lost", detail="both state and RelayState")
    state = {"state": form["RelayState"]} if "RelayState" in form else {}
    return {**form, **state}


def _keep(tx: Connection, row: Mapping[str, object], state: str, now: datetime) -> bool:
    """Store a form if a sign-on waits for it at its region; False when none does."""
    rows = sign_on_interactions.c
    waiting = (rows.state_hash == digest(state), rows.region == row["region"], rows.expires_at > now)
    if tx.execute(select(rows.id).where(*waiting)).first() is None:
        return False
    tx.execute(insert(upstream_returns).values(**row))
    return True


def _take(tx: Connection, handle: str, region: str, now: datetime) -> bytes | None:
    rows = upstream_returns.c
    ours = (rows.handle_hash == digest(handle), rows.region == region, rows.expires_at > now)
    taken = delete(upstream_returns).where(*ours).returning(rows.body)
    body: bytes | None = tx.execute(taken).scalar_one_or_none()
    return body


def forget_expired(tx: Connection, now: datetime) -> int:
    """Delete forms that nobody came for, and return how many."""
    return tx.execute(delete(upstream_returns).where(upstream_returns.c.expires_at <= now)).rowcount


def _place(handle: str) -> str:
    return f"upstream_returns.body:{digest(handle)}"
