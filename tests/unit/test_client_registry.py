"""The registered clients in the store: found at once, changed once, shut out with all that they had."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from sqlalchemy import Connection, insert, select, update

from gateway.errors import Conflict, InvalidRequest, NotFound, StartRefused, Unavailable
from gateway.identity import families, records
from gateway.identity.clients import TOKEN_EXCHANGE, ClientEntry, Surroundings, checked
from gateway.identity.registry import REMEMBERED, By, ClientRegistry, honours, stands
from gateway.storage import Store, Unit
from gateway.storage.tables import (
    authorization_codes,
    clients,
    evidence,
    pushed_requests,
    sign_on_sessions,
    token_families,
)
from tests.support.clock import ManualClock

AROUND = Surroundings("https://gateway.test", plain_http=False)
BY = By("u1", "as ordered")
WEEK = timedelta(days=7)


def key(kid: str) -> dict[str, Any]:
    return {**ECKey.generate_key("P-256").as_dict(private=False), "kid": kid}


def entry(client_id: str = "portal", **changes: Any) -> ClientEntry:
    values = {
        "id": client_id,
        "name": client_id,
        "organisation": "广州市政务服务数据管理局",
        "organisation_code": "11440100696927671X",
        "origin_code": "440100",
        "redirect_uris": ["https://service.test/back"],
        "grant_types": ["authorization_code"],
        "scopes": ["openid"],
        "authentication": "private_key_jwt",
        "jwks": {"keys": [key("k1")]},
    }
    return checked({**values, **changes}, "client", AROUND, Path())


class Counting:
    """A store that counts its readings, and may be held up in the middle of one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads = 0
        self.held: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def read(self, unit: Unit[Any]) -> Any:
        self.reads += 1
        found = await self._store.read(unit)
        if self.held is not None:
            self.reached.set()
            await self.held.wait()
        return found

    async def write(self, unit: Unit[Any]) -> Any:
        return await self._store.write(unit)


def registry(store: Any, clock: ManualClock) -> ClientRegistry:
    return ClientRegistry(store, clock, AROUND)


def said(tx: Connection) -> list[Mapping[str, Any]]:
    return [dict(row) for row in tx.execute(select(evidence).order_by(evidence.c.recorded_at)).mappings()]


# --- finding -----------------------------------------------------------------------------------------------------


async def test_a_registered_client_is_found_as_it_was_registered(store: Store, clock: ManualClock) -> None:
    written = entry(dpop_bound_access_tokens=True, purpose={"en": "Book a visit"}, profile="fapi2")
    await registry(store, clock).register(written, BY)
    found = await registry(store, clock).find("portal")
    assert found is not None
    assert (found.id, found.service, found.profile, found.purpose) == (
        "portal", "portal", "fapi2", {"en": "Book a visit"},
    )  # fmt: skip
    assert found.require_pushed_requests
    assert found.keys is not None
    assert [one.kid for one in found.keys] == ["k1"]


@pytest.mark.parametrize("name", ["nobody", "", "a b", "x" * 65, "\N{FULLWIDTH LATIN SMALL LETTER A}", "portal\0"])
async def test_a_stranger_is_not_found_and_takes_no_memory(store: Store, clock: ManualClock, name: str) -> None:
    """Guarded by `_remember` being reached for rows only: names that are made up must not push clients out."""
    known = registry(store, clock)
    assert await known.find(name) is None
    assert len(known.snapshot) == 0


async def test_a_known_client_costs_one_reading_in_two_seconds(sqlite_store: Store, clock: ManualClock) -> None:
    counting = Counting(sqlite_store)
    known = registry(counting, clock)
    await known.register(entry(), BY)
    for _ in range(5):
        assert await known.find("portal")
    assert counting.reads == 1
    clock.advance(2)
    first, second = await known.find("portal"), await known.find("portal")
    assert counting.reads == 2
    assert first is second


async def test_what_another_replica_changed_is_seen_after_two_seconds(store: Store, clock: ManualClock) -> None:
    here, there = registry(store, clock), registry(store, clock)
    await here.register(entry(), BY)
    assert await there.find("portal")
    await here.disable("portal", BY)
    clock.advance(1.9)
    assert await there.find("portal")
    clock.advance(0.1)
    assert await there.find("portal") is None
    assert "portal" not in there.snapshot


async def test_what_this_process_changed_is_seen_at_once(store: Store, clock: ManualClock) -> None:
    known = registry(store, clock)
    await known.register(entry(), BY)
    assert await known.find("portal")
    await known.change(entry(name="New name"), 1, BY)
    found = await known.find("portal")
    assert found is not None
    assert found.name == "New name"


async def test_a_reading_that_a_change_overtook_is_not_remembered(sqlite_store: Store, clock: ManualClock) -> None:
    """Else a client that was just shut out would pass for two seconds more. Guarded by `writes == self._writes`."""
    counting = Counting(sqlite_store)
    known = registry(counting, clock)
    await known.register(entry(), BY)
    counting.held = asyncio.Event()
    slow = asyncio.create_task(known.find("portal"))
    await counting.reached.wait()
    await known.disable("portal", BY)
    counting.held.set()
    await slow
    counting.held = None
    assert await known.find("portal") is None


async def test_the_memory_has_a_bound(sqlite_store: Store, clock: ManualClock) -> None:
    known = registry(sqlite_store, clock)
    many = {f"c{number}": entry(f"c{number}", authentication="none", jwks=None) for number in range(REMEMBERED + 3)}
    await known.bootstrap(many)
    for client_id in many:
        await known.find(client_id)
    assert len(known.snapshot) == REMEMBERED
    assert "c0" not in known.snapshot
    assert await known.find("c0")


async def test_a_registration_that_this_release_cannot_read_is_no_permission(store: Store, clock: ManualClock) -> None:
    known = registry(store, clock)
    await known.register(entry(), BY)
    newer = {**entry().registration(), "of_tomorrow": True}
    await store.write(lambda tx: tx.execute(update(clients).values(registration=newer)) and None)
    with pytest.raises(Unavailable, match="cannot be read"):
        await known.find("portal")


# --- the begin ---------------------------------------------------------------------------------------------------


async def test_the_file_registers_what_the_database_lacks_and_changes_nothing_else(
    store: Store, clock: ManualClock
) -> None:
    """An operator's change, and above all a lock-out, survives a restart with the old file."""
    known = registry(store, clock)
    assert await known.bootstrap({"portal": entry(), "agency": entry("agency")}) == ["portal", "agency"]
    await known.change(entry(name="Changed"), 1, BY)
    await known.disable("agency", BY)
    again = registry(store, clock)
    assert await again.bootstrap({"portal": entry(), "agency": entry("agency"), "new": entry("new")}) == ["new"]
    await again.load()
    assert {client.name for client in again.snapshot.values()} == {"Changed", "new"}
    assert await again.names() == {"portal", "agency", "new"}


async def test_two_replicas_may_start_at_once(store: Store, clock: ManualClock) -> None:
    both = [registry(store, clock).bootstrap({"portal": entry(), "agency": entry("agency")}) for _ in range(2)]
    assert sorted(len(added) for added in await asyncio.gather(*both)) == [0, 2]


async def test_a_client_that_exchanges_from_nobody_is_refused_and_the_others_with_it(
    store: Store, clock: ManualClock
) -> None:
    backend = entry("backend", grant_types=[TOKEN_EXCHANGE], exchanges_from=["protal"], redirect_uris=[])
    known = registry(store, clock)
    with pytest.raises(StartRefused) as refused:
        await known.bootstrap({"portal": entry(), "backend": backend})
    assert [problem.reason for problem in refused.value.problems] == ["protal is not registered"]
    assert await known.names() == frozenset()
    with pytest.raises(StartRefused):
        await known.register(backend, BY)


async def test_an_id_is_registered_once(store: Store, clock: ManualClock) -> None:
    known = registry(store, clock)
    await known.register(entry(), BY)
    with pytest.raises(Conflict) as refused:
        await known.register(entry(name="Another"), BY)
    assert refused.value.stable_code == "client.exists"
    assert (await known.show("portal")).entry.name == "portal"


# --- changing ----------------------------------------------------------------------------------------------------


async def test_of_two_changes_to_one_version_one_wins(store: Store, clock: ManualClock) -> None:
    """Guarded by `clients.c.version == version` in the one statement of `_change`."""
    known = registry(store, clock)
    await known.register(entry(), BY)
    both = [known.change(entry(name=name), 1, BY) for name in ("One", "Two")]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    losers = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert [loser.stable_code for loser in losers] == ["client.changed"]
    assert (await known.show("portal")).version == 2


async def test_every_change_leaves_one_row_of_evidence(store: Store, clock: ManualClock) -> None:
    known = registry(store, clock)
    steps = [
        known.register(entry(), BY), known.change(entry(name="N"), 1, BY),
        known.rotate_keys("portal", key("k2"), WEEK, BY), known.retire_key("portal", "k1", BY),
        known.disable("portal", BY), known.disable("portal", BY), known.enable("portal", BY),
    ]  # fmt: skip
    for step in steps:
        clock.advance(1)
        await step
    rows = await store.read(said)
    assert [(row["action"], row["what"]["version"]) for row in rows] == [
        ("client.register", 1), ("client.change", 2), ("client.rotate", 3), ("client.retire", 4),
        ("client.disable", 5), ("client.enable", 6),
    ]  # fmt: skip
    assert {(row["who"]["operator"], row["reason"], row["outcome"]) for row in rows} == {("u1", "as ordered", "done")}
    assert rows[2]["what"]["keys"] == ["k1", "k2"]


async def test_a_change_of_nobody_is_refused(store: Store, clock: ManualClock) -> None:
    known = registry(store, clock)
    for step in (known.change(entry(), 1, BY), known.disable("portal", BY), known.enable("portal", BY),
                 known.rotate_keys("portal", key("k2"), WEEK, BY), known.show("portal")):  # fmt: skip
        with pytest.raises(NotFound):
            await step
    assert await store.read(said) == []


def test_a_change_needs_a_reason_that_evidence_has_room_for() -> None:
    for reason in ("", "x" * 129):
        with pytest.raises(InvalidRequest):
            By("u1", reason)


# --- keys --------------------------------------------------------------------------------------------------------


async def kids(known: ClientRegistry) -> list[str | None]:
    found = await known.find("portal")
    assert found is not None
    return [one.kid for one in found.keys or ()]


async def test_a_rotated_key_serves_until_the_overlap_ends_and_not_a_second_longer(
    store: Store, clock: ManualClock
) -> None:
    """A retired key that stays trusted is how key roll-overs fail elsewhere; here nobody has to remember it."""
    known = registry(store, clock)
    await known.register(entry(), BY)
    await known.rotate_keys("portal", key("k2"), timedelta(hours=1), BY)
    assert await kids(known) == ["k1", "k2"]
    clock.advance(3598.5)
    assert await kids(known) == ["k1", "k2"]
    clock.advance(1.5)
    assert await kids(known) == ["k2"]


async def test_a_second_rotation_does_not_prolong_an_old_key(store: Store, clock: ManualClock) -> None:
    known = registry(store, clock)
    await known.register(entry(), BY)
    await known.rotate_keys("portal", key("k2"), timedelta(hours=1), BY)
    await known.rotate_keys("portal", key("k3"), WEEK, BY)
    clock.advance(3600)
    assert await kids(known) == ["k2", "k3"]


async def test_a_key_that_leaked_is_retired_at_once(store: Store, clock: ManualClock) -> None:
    known = registry(store, clock)
    await known.register(entry(), BY)
    with pytest.raises(Conflict, match="only key"):
        await known.retire_key("portal", "k1", BY)
    await known.rotate_keys("portal", key("k2"), WEEK, BY)
    with pytest.raises(NotFound):
        await known.retire_key("portal", "k9", BY)
    await known.retire_key("portal", "k1", BY)
    assert await kids(known) == ["k2"]


async def test_a_key_is_added_once_and_only_where_keys_serve(store: Store, clock: ManualClock) -> None:
    known = registry(store, clock)
    await known.register(entry(), BY)
    with pytest.raises(StartRefused, match="kid of an earlier key"):
        await known.rotate_keys("portal", key("k1"), WEEK, BY)
    await known.register(entry("public", authentication="none", jwks=None), BY)
    with pytest.raises(Conflict, match="without keys"):
        await known.rotate_keys("public", key("k2"), WEEK, BY)


# --- shutting out ------------------------------------------------------------------------------------------------


def give(tx: Connection, client_id: str, clock: ManualClock) -> None:
    """Give a client all that one can have: a session's token family, a code, a pushed request."""
    now, later = clock(), clock() + timedelta(hours=1)
    session = {"id": f"s-{client_id}", "handle_hash": client_id, "region": "guangdong", "subject_ref": "r",
               "assurance": 2, "method": "YSS", "person": b"x", "evidence_id": "", "authenticated_at": now,
               "last_used_at": now, "expires_at": later}  # fmt: skip
    shared = {"client_id": client_id, "session_id": f"s-{client_id}", "scope": "openid", "claims": {}, "acr": "A2",
              "expires_at": later}  # fmt: skip
    tx.execute(insert(sign_on_sessions).values(session))
    tx.execute(insert(token_families).values(id=f"f-{client_id}", created_at=now, **shared))
    code = {"code_hash": records.digest(client_id), "redirect_uri": "https://service.test/back", "challenge": "c"}
    tx.execute(insert(authorization_codes).values(**code, **shared))
    tx.execute(insert(pushed_requests).values(uri_hash=client_id, client_id=client_id, request={}, expires_at=later))


async def test_a_disabled_client_loses_all_that_it_had_and_no_other_client_does(
    store: Store, clock: ManualClock
) -> None:
    """Guarded by the three statements of `_disable`; enabling it again brings nothing back."""
    known = registry(store, clock)
    await known.bootstrap({"portal": entry(), "other": entry("other")})
    for client_id in ("portal", "other"):
        await store.write(partial(give, client_id=client_id, clock=clock))
    await known.disable("portal", BY)
    await known.enable("portal", BY)

    def left(tx: Connection, client_id: str) -> tuple[bool, bool, bool]:
        redeemed = families.redeem_code(tx, client_id, client_id, "https://service.test/back", None, clock())
        family = families.find_standing(tx, f"f-{client_id}", clock())
        pushed = tx.execute(select(pushed_requests).where(pushed_requests.c.client_id == client_id)).all()
        return redeemed is not None, family is not None, bool(pushed)

    assert await store.write(lambda tx: left(tx, "portal")) == (False, False, False)
    assert await store.write(lambda tx: left(tx, "other")) == (True, True, True)


async def test_a_unit_can_make_sure_that_its_client_still_stands(store: Store, clock: ManualClock) -> None:
    known = registry(store, clock)
    await known.register(entry(), BY)
    assert await store.write(lambda tx: stands(tx, "portal"))
    await known.disable("portal", BY)
    assert not await store.write(lambda tx: stands(tx, "portal"))
    assert not await store.write(lambda tx: stands(tx, "nobody"))


async def test_a_token_of_before_a_client_was_disabled_does_not_come_back(store: Store, clock: ManualClock) -> None:
    """Nothing of a client's own token is kept that could be ended, so its time decides. Guarded by `honours`."""
    known = registry(store, clock)
    await known.register(entry(), BY)
    before = int(clock().timestamp())
    assert await store.read(lambda tx: honours(tx, "portal", "t1", before))
    await known.disable("portal", BY)
    assert not await store.read(lambda tx: honours(tx, "portal", "t1", before))
    clock.advance(5)
    await known.enable("portal", BY)
    assert not await store.read(lambda tx: honours(tx, "portal", "t1", before))
    assert await store.read(lambda tx: honours(tx, "portal", "t1", before + 5))
    client = await known.find("portal")
    assert client is not None
    assert client.enabled_at == clock()
