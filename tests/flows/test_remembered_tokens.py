"""An agency's token is looked up once in a while, and no revocation is felt later than is promised.

Two replicas over one store; the time that counts for remembering is handed in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.errors import NotAuthenticated
from gateway.identity.verified import STALENESS
from gateway.storage import Store, Unit
from tests.support.sign_on import Browser, ManualClock, Request, World, agency_keys, open_world, pem


class Steady:
    """Seconds that go on when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counted:
    """A store that counts how often it is read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads = 0

    async def read(self, unit: Unit[Any]) -> Any:
        self.reads += 1
        return await self._store.read(unit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def store_url(sqlite_url: str) -> str:
    """One engine is enough: how often it is asked does not depend on it."""
    return sqlite_url


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
def counted(store: Store) -> Counted:
    return Counted(store)


@pytest_asyncio.fixture
async def replicas(tmp_path: Path, counted: Any, steady: Steady) -> AsyncIterator[list[World]]:
    signing: dict[str, Any] = {**agency_keys(), "signing": pem()}
    shared: dict[str, Any] = {"sealing": bytes(32), "clock": ManualClock(), "monotonic": steady}
    async with (
        open_world(tmp_path, signing, counted, **shared) as one,
        open_world(tmp_path, signing, counted, **shared) as other,
    ):
        yield [one, other]


async def token_of(world: World) -> str:
    _, body = await world.machine_token(world.assertion())
    return str(body["access_token"])


async def revoke(world: World, token: str) -> None:
    assert (await world.post("/oauth2/revoke", {"token": token, **world.signed()}))[0] == 200


async def test_a_hundred_calls_ask_the_store_once(replicas: list[World], counted: Counted) -> None:
    token = await token_of(replicas[0])
    before = counted.reads
    for _ in range(100):
        assert (await replicas[0].caller(token)).client_id == "agency"
    assert counted.reads - before == 1


async def test_the_store_is_asked_again_after_five_seconds(
    replicas: list[World], counted: Counted, steady: Steady
) -> None:
    token = await token_of(replicas[0])
    await replicas[0].caller(token)
    before = counted.reads
    steady.now += STALENESS
    await replicas[0].caller(token)
    assert counted.reads - before == 1


async def test_a_revoked_token_is_worth_nothing_at_once_where_it_was_revoked_and_soon_elsewhere(
    replicas: list[World], steady: Steady
) -> None:
    """Guarded by `forget` in `TokenEndpoints._end`, and by the age of what is remembered."""
    here, elsewhere = replicas
    token = await token_of(here)
    for world in replicas:
        await world.caller(token)
    await revoke(here, token)
    with pytest.raises(NotAuthenticated):
        await here.caller(token)
    steady.now += STALENESS
    with pytest.raises(NotAuthenticated):
        await elsewhere.caller(token)


async def test_a_remembered_token_ends_when_it_says(replicas: list[World]) -> None:
    token = await token_of(replicas[0])
    await replicas[0].caller(token)
    replicas[0].clock.now += timedelta(minutes=10)
    with pytest.raises(NotAuthenticated, match="expired"):
        await replicas[0].caller(token)


async def test_a_client_that_is_shut_out_does_not_pass_on_a_remembered_token(replicas: list[World]) -> None:
    token = await token_of(replicas[0])
    await replicas[0].caller(token)
    del replicas[0].clients["agency"]
    with pytest.raises(NotAuthenticated, match="not registered any more"):
        await replicas[0].caller(token)


async def test_what_opens_a_persons_claims_is_asked_about_with_every_call(replicas: list[World]) -> None:
    """A sign-on ends in many places; nothing of it is remembered. Guarded by `_check_standing`."""
    here, elsewhere = replicas
    request, browser = Request(), Browser(here)
    back = await browser.sign_on(request)
    _, body = await here.token(**request.redemption(back["code"]))
    assert (await elsewhere.userinfo(body["access_token"])).status == 200
    assert (await here.post("/oauth2/revoke", {"token": body["access_token"], "client_id": "portal"}))[0] == 200
    assert (await elsewhere.userinfo(body["access_token"])).status == 401
