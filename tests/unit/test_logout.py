"""The rows of logout: what ends, who may tell a party, and what stands there afterwards. On both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError
from sqlalchemy import Connection, select

from gateway.config import LogoutSettings
from gateway.crypto.at_rest import References, Sealer
from gateway.identity import families, logout_records
from gateway.identity.logout import Logouts, Order
from gateway.identity.logout_records import Party
from gateway.identity.records import Code, Session, digest, keep_code
from gateway.storage import Store, open_store
from gateway.storage.tables import evidence, logout_parties, logouts, sign_on_sessions
from tests.support.logout import HOUR, a_session
from tests.support.sign_on import ManualClock, open_world

LEASE = timedelta(seconds=30)
SECRET = bytes(32)


@dataclass
class Office:
    """Everything a test needs of the saga."""

    logouts: Logouts
    store: Store
    clock: ManualClock

    async def signed_on(self, *clients: str, **more: Any) -> Session:
        return await self.store.write(
            lambda tx: a_session(tx, Sealer(SECRET), References(SECRET), self.clock(), *clients, **more)
        )  # fmt: skip

    async def end(self, session: Session, **more: Any) -> str:
        """End a session and return the id of its logout."""
        (begun,) = await self.logouts.end(Order((sign_on_sessions.c.id == session.id,), "person", **more))
        return begun.logout.id

    async def claim(self, limit: int = 10, attempts: int = 3) -> list[Party]:
        claiming = partial(
            logout_records.claim, limit=limit, now=self.clock(), lease=LEASE, attempts=attempts
        )  # fmt: skip
        return await self.store.write(claiming)

    async def settle(self, party: Party, state: logout_records.State = "done", code: str = "ok") -> bool:
        settling = partial(logout_records.settle, party=party, state=state, code=code, now=self.clock())
        return await self.store.write(settling)

    async def rows(self, table: Any) -> list[dict[str, Any]]:
        return await self.store.read(lambda tx: [dict(row) for row in tx.execute(select(table)).mappings()])


@asynccontextmanager
async def an_office(store: Store, folder: Path) -> AsyncIterator[Office]:
    async with open_world(folder, {}, store, SECRET) as world:
        yield Office(world.service.logouts, store, world.clock)


@pytest_asyncio.fixture
async def office(store: Store, tmp_path: Path) -> AsyncIterator[Office]:
    async with an_office(store, tmp_path) as opened:
        yield opened


# --- what ends -------------------------------------------------------------------------------------------------------


async def test_a_session_ends_once_however_many_end_it(office: Office) -> None:
    session = await office.signed_on("portal")
    order = Order((sign_on_sessions.c.id == session.id,), "person")
    begun = await asyncio.gather(*(office.logouts.end(order) for _ in range(8)))
    assert sorted(len(one) for one in begun) == [0] * 7 + [1]
    assert len(await office.rows(logouts)) == 1


async def test_a_session_that_is_over_begins_no_logout(office: Office) -> None:
    session = await office.signed_on("portal", life=timedelta(seconds=5))
    office.clock.advance(6)
    assert await office.logouts.end(Order((sign_on_sessions.c.id == session.id,), "person")) == []


async def test_each_client_is_one_party_however_many_families_it_holds(office: Office) -> None:
    session = await office.signed_on("portal", "portal", "shop")
    await office.end(session)
    parties = [row["party"] for row in await office.rows(logout_parties)]
    assert sorted(parties) == ["client:portal", "client:shop", "region:guangdong"]


async def test_a_session_whose_person_cannot_be_opened_ends_all_the_same(office: Office) -> None:
    """A key that was lost must not keep anybody signed on, least of all when a region is closed."""
    sealer = Sealer(b"\1" * 32)
    session = await office.store.write(
        lambda tx: a_session(tx, sealer, References(SECRET), office.clock(), "portal")
    )  # fmt: skip
    await office.end(session)
    rows = {row["party"]: (row["state"], row["last_code"]) for row in await office.rows(logout_parties)}
    assert rows["client:portal"] == ("failed", "logout.unnamed")
    assert (await office.rows(sign_on_sessions))[0]["ended_at"] == office.clock()
    assert (await office.rows(logouts))[0]["finished_at"] == office.clock()


async def test_a_long_name_of_who_began_fits_its_column(office: Office) -> None:
    session = await office.signed_on()
    order = Order((sign_on_sessions.c.id == session.id,), "client:" + "x" * 64)
    assert len(await office.logouts.end(order)) == 1


async def test_a_code_that_is_redeemed_while_the_session_ends_leaves_no_party_out(
    postgres_url: str, tmp_path: Path
) -> None:
    """Either the family is seen by the end, or there is none. Guard: `hold` in families.redeem_code."""
    one, other = await open_store(postgres_url), await open_store(postgres_url)
    async with an_office(one, tmp_path) as office:
        session = await office.signed_on()
        now = office.clock()
        code = Code(digest("c"), "portal", session.id, "https://x", "openid", None, "c", "a", now + HOUR)
        await one.write(partial(keep_code, code=code))
        held, go = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def redeem(tx: Connection) -> Any:
            found = families.redeem_code(tx, "c", "portal", "https://x", None, now)
            loop.call_soon_threadsafe(held.set)
            wait_for(tx, go)
            return found

        redeeming = asyncio.create_task(other.write(redeem))
        await held.wait()
        ending = asyncio.create_task(office.end(session))
        done, _ = await asyncio.wait([ending], timeout=0.3)
        assert not done, "the end waits for the code that is being redeemed"
        go.set()
        assert await redeeming is not None
        await ending
        assert "client:portal" in {row["party"] for row in await office.rows(logout_parties)}
    await one.close()
    await other.close()


def wait_for(tx: Connection, event: asyncio.Event) -> None:
    """Wait inside a unit: its greenlet yields to the loop at every statement."""
    while not event.is_set():
        tx.execute(select(1))


# --- who may tell a party --------------------------------------------------------------------------------------------


async def test_a_party_is_claimed_by_one_worker_at_a_time(office: Office) -> None:
    await office.end(await office.signed_on("portal", "shop"), tell_region=False)
    claims = await asyncio.gather(*(office.claim(limit=1) for _ in range(6)))
    names = [party.party for claim in claims for party in claim]
    assert sorted(names) == ["client:portal", "client:shop"]
    assert await office.claim() == []


async def test_a_worker_that_died_loses_its_party_when_the_lease_ends_and_settles_nothing(office: Office) -> None:
    """Guard: attempts in logout_records._fenced."""
    await office.end(await office.signed_on("portal"), tell_region=False)
    (dead,) = await office.claim()
    office.clock.advance(LEASE.total_seconds())
    (living,) = await office.claim()
    assert (dead.attempts, living.attempts) == (1, 2)
    assert (await office.settle(dead), await office.settle(living, "failed", "logout.refused")) == (False, True)
    assert await office.settle(living) is False
    assert (await office.rows(logout_parties))[0]["state"] == "failed"


async def test_a_party_that_kills_whoever_tells_it_is_given_up(office: Office) -> None:
    """The death of a worker counts as an attempt. Guard: the bound in logout_records.claim."""
    await office.end(await office.signed_on("portal"), tell_region=False)
    for _ in range(3):
        assert len(await office.claim()) == 1
        office.clock.advance(LEASE.total_seconds())
    assert await office.claim() == []
    (row,) = await office.rows(logout_parties)
    assert (row["state"], row["last_code"], row["attempts"], row["message"]) == ("failed", "logout.given_up", 3, None)
    assert (await office.rows(logouts))[0]["finished_at"] is not None


async def test_what_is_put_off_waits_until_it_is_due(office: Office) -> None:
    await office.end(await office.signed_on("portal"), tell_region=False)
    (party,) = await office.claim()
    due = office.clock() + timedelta(seconds=10)
    assert await office.store.write(partial(logout_records.try_again, party=party, code="logout.timeout", due=due))
    assert await office.claim() == []
    office.clock.advance(10)
    assert [(one.attempts, one.last_code) for one in await office.claim()] == [(2, "logout.timeout")]


async def test_the_last_party_finishes_the_logout_also_when_two_settle_at_once(office: Office) -> None:
    """Guard: the lock in logout_records.settle."""
    await office.end(await office.signed_on("portal", "shop", "other"), tell_region=False)
    parties = await office.claim()
    assert (await office.rows(logouts))[0]["finished_at"] is None
    assert all(await asyncio.gather(*map(office.settle, parties)))
    assert (await office.rows(logouts))[0]["finished_at"] == office.clock()


async def test_a_browser_is_waited_for_before_the_worker_takes_the_region_over(office: Office) -> None:
    """A replica that dies between the two leaves the region's party to the others."""
    office.logouts._regions = {  # a region that offers sign-out, whatever it does
        "guangdong": replace_adapter(office.logouts._regions["guangdong"])
    }
    await office.end(await office.signed_on(), in_browser=True)
    assert await office.claim() == []
    office.clock.advance(office.logouts.settings.lease_seconds)
    assert [party.party for party in await office.claim()] == ["region:guangdong"]


def replace_adapter(region: Any) -> Any:
    return replace(region, adapter=replace(region.adapter, sign_out=object()))


# --- afterwards ------------------------------------------------------------------------------------------------------


async def test_finished_logouts_are_forgotten_after_a_day_and_others_never(office: Office) -> None:
    await office.end(await office.signed_on("portal"), tell_region=False)
    (party,) = await office.claim()
    await office.settle(party)
    waiting = await office.end(await office.signed_on("portal"), tell_region=False)
    office.clock.advance(24 * 3600 - 1)
    assert await office.store.write(partial(logout_records.forget_finished, now=office.clock())) == 0
    office.clock.advance(1)
    assert await office.store.write(partial(logout_records.forget_finished, now=office.clock())) == 2
    assert [row["id"] for row in await office.rows(logouts)] == [waiting]
    assert len(await office.rows(evidence)) == 3


async def test_nothing_that_names_the_person_stands_in_clear(office: Office) -> None:
    await office.end(await office.signed_on("portal", subject="somebody-1"), tell_region=False)
    (row,) = await office.rows(logout_parties)
    known = References(SECRET).of("portal", "guangdong", "somebody-1").encode()
    assert row["message"] is not None
    assert known not in row["message"]
    assert known in str(office.logouts.message_of((await office.claim())[0])).encode()


@pytest.mark.parametrize("wait", [(1, 2.0), (2, 4.0), (9, 512.0), (10, 900.0), (60, 900.0)])
def test_the_wait_doubles_up_to_the_longest(wait: tuple[int, float]) -> None:
    logouts = Logouts(LogoutSettings(), *[None] * 7)  # type: ignore[arg-type] # only its settings are asked
    assert logouts._delay(wait[0]) == timedelta(seconds=wait[1])


def test_a_lease_that_ends_before_the_attempt_is_refused() -> None:
    with pytest.raises(ValidationError, match="lease_seconds"):
        LogoutSettings(lease_seconds=5, timeout_seconds=5)
