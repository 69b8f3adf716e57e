"""The registered clients as the database keeps them: found by id, changed by operators, taken over from clients.toml.

Owns: the rows of `clients`, the promises that rest on them (a version changes once, a disabled client gets nothing and
keeps nothing), and the short memory that spares the store a question with every request. Leaves to `clients` every
rule about a registration. Each write is one unit and one row of evidence.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from sqlalchemy import Connection, Row, bindparam, delete, select, update

from gateway.errors import Conflict, InvalidRequest, NotFound, StartRefused, Unavailable
from gateway.evidence import Exchange, record
from gateway.identity.client_keys import END, ended, next_end, public_jwks
from gateway.identity.clients import CLIENT_ID, Client, ClientEntry, Surroundings, client_of, unknown_names
from gateway.identity.revocations import mark
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import authorization_codes, clients, pushed_requests, revoked_tokens, token_families

FRESH = timedelta(seconds=2)
"""How long another replica's change may go unseen here."""
REMEMBERED = 1024
"""Clients that are held in memory at most."""
LONGEST_REASON = 128
"""Characters that a row of evidence has room for."""
_ID = re.compile(CLIENT_ID)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registered:
    """One row: the registration, how often it was changed, and since when it is disabled, if it is."""

    entry: ClientEntry
    version: int
    created_at: datetime
    changed_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class By:
    """Who changes a registration, and why. Both become evidence."""

    operator: str
    reason: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.reason) <= LONGEST_REASON:
            raise InvalidRequest(f"The reason must have 1 to {LONGEST_REASON} characters.")


BOOTSTRAP = By("gateway", "clients.toml names it, and the database had none of this id")


@dataclass(frozen=True, slots=True)
class _Held:
    """A client in memory: good until then. `keys_until` is when its key set changes by itself."""

    client: Client
    version: int
    until: datetime
    keys_until: datetime | None


class ClientRegistry:
    """Finds and changes clients. `surroundings` are those that registrations were checked against."""

    def __init__(self, store: Store, clock: Clock, surroundings: Surroundings) -> None:
        self._store = store
        self._clock = clock
        self._surroundings = surroundings
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._writes = 0
        self.snapshot: Mapping[str, Client] = _Snapshot(self._held)
        """The clients that are in memory, for callers that cannot wait. `load` fills it, `find` keeps it fresh."""

    # --- finding

    async def find(self, client_id: str) -> Client | None:
        """Return an enabled client; None for one that is unknown or disabled.

        What another replica changed is seen within two seconds, what this process changed at once. Only clients that
        exist are remembered: whoever makes names up fills no memory.
        """
        now = self._clock()
        held = self._held.get(client_id)
        if held is not None and now < held.until:
            self._held.move_to_end(client_id)
            return held.client
        if not _ID.fullmatch(client_id):
            return None
        writes = self._writes
        row = await self._store.read(partial(_row, client_id=client_id))
        if row is None or row.disabled_at is not None:
            self._held.pop(client_id, None)
            return None
        found = self._hold(row, now) if held is None or not _same(held, row, now) else _renewed(held, now)
        if writes == self._writes:  # else a change of ours overtook this reading, which may be of before it
            self._remember(found)
        return found.client

    async def load(self) -> None:
        """Take the enabled clients into memory, for `snapshot`."""
        now = self._clock()
        rows = await self._store.read(partial(_enabled, limit=REMEMBERED))
        for row in rows:
            self._remember(self._hold(row, now))

    async def names(self) -> frozenset[str]:
        """Return the ids of all clients, disabled ones included: their grants are no spelling mistakes."""
        return await self._store.read(names)

    async def show(self, client_id: str) -> Registered:
        """Return one registration as it is kept. Raises NotFound."""
        return await self._store.read(partial(_known, client_id=client_id))

    async def all(self) -> Sequence[Registered]:
        """Return every registration, by id."""
        return await self._store.read(_all)

    def _hold(self, row: Row[Any], now: datetime) -> _Held:
        entry = _entry(row)
        keys_until = next_end(entry.public_keys(), now)
        client = replace(client_of(entry, self._surroundings, now), enabled_at=row.enabled_at)
        return _Held(client, row.version, min(now + FRESH, keys_until or now + FRESH), keys_until)

    def _remember(self, held: _Held) -> None:
        self._held[held.client.id] = held
        self._held.move_to_end(held.client.id)
        while len(self._held) > REMEMBERED:
            self._held.popitem(last=False)

    # --- changing

    async def bootstrap(self, entries: Mapping[str, ClientEntry]) -> Sequence[str]:
        """Register the entries whose ids the database does not have, and return their ids; touch no other.

        Raises StartRefused when one exchanges from a client that nobody knows.
        """
        return await self._write(partial(_bootstrap, entries=entries, now=self._clock()), *entries)

    async def register(self, entry: ClientEntry, by: By) -> Registered:
        """Register a client whose entry was checked. Raises Conflict when the id is taken."""
        return await self._write(partial(_register, entry=entry, by=by, now=self._clock()), entry.id)

    async def change(self, entry: ClientEntry, version: int, by: By) -> Registered:
        """Replace a registration, if it is still of this version. Raises NotFound or Conflict."""
        return await self._write(partial(_change, entry=entry, version=version, by=by, now=self._clock()), entry.id)

    async def rotate_keys(self, client_id: str, jwk: Mapping[str, Any], overlap: timedelta, by: By) -> Registered:
        """Add a public key; the keys of today end when the overlap does. Raises NotFound, Conflict or StartRefused."""
        unit = partial(_rotate, client_id=client_id, jwk=jwk, overlap=overlap, by=by, now=self._clock())
        return await self._write(unit, client_id)

    async def retire_key(self, client_id: str, kid: str, by: By) -> Registered:
        """Take one key out at once. Raises NotFound; Conflict for the only key that is in force."""
        return await self._write(partial(_retire, client_id=client_id, kid=kid, by=by, now=self._clock()), client_id)

    async def disable(self, client_id: str, by: By) -> Registered:
        """Shut a client out: in the same transaction its codes, pushed requests and token families end.

        Harmless to repeat. Raises NotFound.
        """
        return await self._write(partial(_disable, client_id=client_id, by=by, now=self._clock()), client_id)

    async def enable(self, client_id: str, by: By) -> Registered:
        """Let a client in again; what it had before stays ended. Raises NotFound."""
        return await self._write(partial(_enable, client_id=client_id, by=by, now=self._clock()), client_id)

    async def _write(self, unit: Callable[[Connection], T], *client_ids: str) -> T:
        try:
            return await self._store.write(unit)
        finally:  # whatever became of it: the next question goes to the store
            self._writes += 1
            for client_id in client_ids:
                self._held.pop(client_id, None)


class _Snapshot(Mapping[str, Client]):
    """What a registry holds in memory, whether fresh or not."""

    def __init__(self, held: Mapping[str, _Held]) -> None:
        self._held = held

    def __getitem__(self, client_id: str) -> Client:
        return self._held[client_id].client

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def _same(held: _Held, row: Row[Any], now: datetime) -> bool:
    return held.version == row.version and (held.keys_until is None or now < held.keys_until)


def _renewed(held: _Held, now: datetime) -> _Held:
    return _Held(held.client, held.version, min(now + FRESH, held.keys_until or now + FRESH), held.keys_until)


# --- units: reading ----------------------------------------------------------------------------------------------


def names(tx: Connection) -> frozenset[str]:
    """Return the ids of all clients."""
    return frozenset(tx.execute(select(clients.c.id)).scalars())


def services(tx: Connection) -> Mapping[str, str]:
    """Return every client's id and the code under which the recognition matrix knows it."""
    rows = tx.execute(select(clients.c.id, clients.c.registration))
    return {row.id: str(row.registration.get("service", row.id)) for row in rows}


_ENABLED = select(clients.c.enabled_at).where(clients.c.id == bindparam("client"), clients.c.disabled_at.is_(None))
_ENABLED_HELD = _ENABLED.with_for_update(read=True)


def stands(tx: Connection, client_id: str) -> bool:
    """Say whether a client is enabled, for a unit that gives it something; nobody disables it until that commits."""
    return tx.execute(_ENABLED_HELD, {"client": client_id}).one_or_none() is not None


_REVOKED = select(revoked_tokens.c.token_id).where(revoked_tokens.c.token_id == bindparam("token"))
_HONOURED = _ENABLED.where(~_REVOKED.exists())


def honours(tx: Connection, client_id: str, token_id: str, issued_at: int) -> bool:
    """Say whether a client's own token of that time (epoch s) counts: not revoked, the client enabled ever since."""
    row = tx.execute(_HONOURED, {"client": client_id, "token": token_id}).one_or_none()
    return row is not None and (row.enabled_at is None or issued_at >= int(row.enabled_at.timestamp()))


def _row(tx: Connection, client_id: str) -> Row[Any] | None:
    return tx.execute(select(clients).where(clients.c.id == client_id)).one_or_none()


def _enabled(tx: Connection, limit: int) -> Sequence[Row[Any]]:
    return tx.execute(select(clients).where(clients.c.disabled_at.is_(None)).limit(limit)).all()


def _all(tx: Connection) -> Sequence[Registered]:
    return [_registered(row) for row in tx.execute(select(clients).order_by(clients.c.id))]


def _known(tx: Connection, client_id: str) -> Registered:
    row = _row(tx, client_id)
    if row is None:
        raise NotFound(
            f"No client {client_id} is registered. `pearl clients list` shows who is.", code="client.unknown"
        )
    return _registered(row)


def _registered(row: Row[Any]) -> Registered:
    return Registered(_entry(row), row.version, row.created_at, row.changed_at, row.disabled_at)


def _entry(row: Row[Any]) -> ClientEntry:
    """Return a registration. Raises Unavailable when this release cannot read it: a guess would be a permission."""
    try:
        return ClientEntry.model_validate(row.registration)
    except ValidationError as error:
        detail = f"client {row.id}: " + "; ".join(".".join(map(str, part["loc"])) for part in error.errors())
        raise Unavailable("A registration cannot be read by this release.", detail=detail) from None


# --- units: writing ----------------------------------------------------------------------------------------------


def _bootstrap(tx: Connection, entries: Mapping[str, ClientEntry], now: datetime) -> Sequence[str]:
    added = [client_id for client_id, entry in entries.items() if _insert(tx, entry, now)]
    _refuse_unknown(tx, [entries[client_id] for client_id in added])
    for client_id in added:
        _evidence(tx, "client.register", entries[client_id], 1, BOOTSTRAP, now)
    return added


def _register(tx: Connection, entry: ClientEntry, by: By, now: datetime) -> Registered:
    if not _insert(tx, entry, now):
        raise Conflict(f"There is a client {entry.id} already; nothing was changed.", code="client.exists")
    _refuse_unknown(tx, [entry])
    _evidence(tx, "client.register", entry, 1, by, now)
    return Registered(entry, 1, now, now, None)


def _insert(tx: Connection, entry: ClientEntry, now: datetime) -> bool:
    """Add a row; False when the id is taken, also by another replica that starts at the same moment."""
    row = {"id": entry.id, "registration": entry.registration(), "version": 1, "created_at": now, "changed_at": now}
    added = insert_into(tx, clients).values(row).on_conflict_do_nothing().returning(clients.c.id)
    return tx.execute(added).one_or_none() is not None


def _refuse_unknown(tx: Connection, entries: Sequence[ClientEntry]) -> None:
    problems = unknown_names(entries, names(tx)) if any(entry.exchanges_from for entry in entries) else []
    if problems:
        raise StartRefused("The client is not taken.", problems=problems)


def _change(
    tx: Connection, entry: ClientEntry, version: int, by: By, now: datetime, action: str = "client.change"
) -> Registered:
    ours = (clients.c.id == entry.id, clients.c.version == version)
    values = {"registration": entry.registration(), "version": version + 1, "changed_at": now}
    row = tx.execute(update(clients).where(*ours).values(values).returning(*clients.c)).one_or_none()
    if row is None:
        there = _known(tx, entry.id).version
        raise Conflict(
            f"Client {entry.id} is at version {there}, not {version}: somebody changed it meanwhile. Nothing was "
            "changed now; look at it again.",
            code="client.changed",
        )
    _refuse_unknown(tx, [entry])
    _evidence(tx, action, entry, row.version, by, now)
    return _registered(row)


def _rotate(
    tx: Connection, client_id: str, jwk: Mapping[str, Any], overlap: timedelta, by: By, now: datetime
) -> Registered:
    before = _known(tx, client_id)
    end = int((now + overlap).timestamp())
    live = [key for key in before.entry.public_keys() if not ended(key, now)]
    if not live:
        raise Conflict(f"Client {client_id} authenticates without keys of its own.", code="client.no_keys")
    kept = [{**key, END: min(end, key.get(END, end))} for key in live]
    certificates = before.entry.authentication == "self_signed_tls_client_auth"
    keys = public_jwks([*kept, dict(jwk)], f"client {client_id}", certificates=certificates)
    return _with_keys(tx, before, keys, by, now, "client.rotate")


def _retire(tx: Connection, client_id: str, kid: str, by: By, now: datetime) -> Registered:
    before = _known(tx, client_id)
    keys = before.entry.public_keys()
    left = [key for key in keys if key["kid"] != kid]
    if len(left) == len(keys):
        raise NotFound(f"Client {client_id} has no key {kid}.", code="client.unknown_key")
    if all(ended(key, now) for key in left):
        raise Conflict(
            f"{kid} is the only key of client {client_id} that is in force; add another one first, or disable it.",
            code="client.last_key",
        )
    return _with_keys(tx, before, left, by, now, "client.retire")


def _with_keys(
    tx: Connection, before: Registered, keys: list[dict[str, Any]], by: By, now: datetime, action: str
) -> Registered:
    entry = before.entry.model_copy(update={"jwks": {"keys": keys}})
    return _change(tx, entry, before.version, by, now, action)


def _disable(tx: Connection, client_id: str, by: By, now: datetime) -> Registered:
    registered = _switch(tx, client_id, now, by, "client.disable", now)
    codes, families = authorization_codes.c, token_families.c
    live = (families.client_id == client_id, families.revoked_at.is_(None))
    unused = (codes.client_id == client_id, codes.used_at.is_(None))
    mark(tx)
    tx.execute(update(authorization_codes).where(*unused).values(used_at=now))  # a redemption under way holds its code:
    tx.execute(update(token_families).where(*live).values(revoked_at=now))  # what it began is seen once it has ended
    tx.execute(delete(pushed_requests).where(pushed_requests.c.client_id == client_id))
    return registered


def _enable(tx: Connection, client_id: str, by: By, now: datetime) -> Registered:
    return _switch(tx, client_id, None, by, "client.enable", now)


def _switch(
    tx: Connection, client_id: str, disabled_at: datetime | None, by: By, action: str, now: datetime
) -> Registered:
    """Turn a client off or on; the version goes up, so that nobody changes what they saw before."""
    other = clients.c.disabled_at.is_(None) if disabled_at else clients.c.disabled_at.is_not(None)
    values: dict[str, Any] = {"disabled_at": disabled_at, "version": clients.c.version + 1, "changed_at": now}
    if disabled_at is None:
        values["enabled_at"] = now
    turned = update(clients).where(clients.c.id == client_id, other).values(values)
    row = tx.execute(turned.returning(*clients.c)).one_or_none()
    if row is None:  # it is so already
        return _known(tx, client_id)
    registered = _registered(row)
    _evidence(tx, action, registered.entry, registered.version, by, now)
    return registered


def _evidence(tx: Connection, action: str, entry: ClientEntry, version: int, by: By, now: datetime) -> None:
    registration = orjson.dumps(entry.registration(), option=orjson.OPT_SORT_KEYS)
    exchange = Exchange(
        action=action,
        outcome="done",
        reason=by.reason,
        who={"operator": by.operator},
        what={"client": entry.id, "version": version, "keys": [key["kid"] for key in entry.public_keys()]},
        purpose="operation",
        received_at=now,
        parts={"registration": registration},
    )
    record(tx, exchange, now=now)
