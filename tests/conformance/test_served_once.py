"""What serves once serves once: on SQLite, and on PostgreSQL with two replicas that are asked at the same time.

Every promise here rests on one statement of the store. Authlib asks first and deletes afterwards; with a plain store
behind it, several of eight parallel redemptions succeed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from gateway.errors import NotAuthenticated
from gateway.identity.verified import STALENESS
from gateway.ports import OnceOnly
from gateway.storage import Store, open_store
from gateway.storage.tables import sign_on_sessions, token_families
from tests.support.sign_on import (
    Browser,
    DpopKey,
    ManualClock,
    Request,
    World,
    a_client,
    agency_keys,
    choice,
    open_world,
    parameters,
    pem,
)

EIGHT = 8
GRANTS = ("authorization_code", "refresh_token")


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    return {**agency_keys(), "signing": pem()}


@pytest_asyncio.fixture
async def replicas(
    tmp_path: Path, keys: dict[str, Any], store: Store, store_url: str
) -> AsyncIterator[Sequence[World]]:
    """Return two replicas of one gateway. SQLite belongs to one process: there, both use the same store."""
    other = store if store_url.startswith("sqlite") else await open_store(store_url)
    secret, clock = secrets.token_bytes(32), ManualClock()
    async with (
        open_world(tmp_path, keys, store, secret, clock) as one,
        open_world(tmp_path, keys, other, secret, clock) as two,
    ):
        for world in (one, two):
            world.clients["portal"] = a_client("portal", grant_types=frozenset(GRANTS))
        yield [one, two]
    if other is not store:
        await other.close()


async def at_once(replicas: Sequence[World], ask: Callable[[World], Awaitable[Any]]) -> list[Any]:
    """Ask eight times at the same time, the replicas in turn."""
    return list(await asyncio.gather(*(ask(replicas[i % len(replicas)]) for i in range(EIGHT))))


async def signed_on(world: World, request: Request) -> str:
    return (await Browser(world).sign_on(request))["code"]


def successes(answers: Sequence[tuple[int, Any]], status: int = 200) -> list[Any]:
    return [body for answered, body in answers if answered == status]


async def test_one_of_eight_parallel_redemptions_of_a_code_succeeds(replicas: Sequence[World]) -> None:
    """Guarded by `_CODES.used_at.is_(None)` in `families._SPEND_CODE`, in the statement that sets it."""
    request = Request()
    form = request.redemption(await signed_on(replicas[0], request))
    answers = await at_once(replicas, lambda world: world.token(**form))
    assert len(successes(answers)) == 1
    assert {body["error"] for status, body in answers if status != 200} == {"invalid_grant"}


async def test_one_of_eight_parallel_uses_of_a_refresh_token_succeeds_and_the_family_ends(
    replicas: Sequence[World],
) -> None:
    """Seven others hold the same token, so nobody can tell who is the client.

    Guarded by `rows.used_at.is_(None)` in `families.rotate_refresh`, and the end of the family by `_revoke` behind it.
    """
    request = Request()
    _, first = await replicas[0].token(**request.redemption(await signed_on(replicas[0], request)))
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": "portal"}
    answers = await at_once(replicas, lambda world: world.token(**form))
    won = successes(answers)
    assert len(won) == 1
    assert (await replicas[1].userinfo(won[0]["access_token"])).status == 401
    status, body = await replicas[0].token(**{**form, "refresh_token": won[0]["refresh_token"]})
    assert (status, body["error"]) == (400, "invalid_grant")


async def test_one_of_eight_parallel_uses_of_a_client_assertion_succeeds(replicas: Sequence[World]) -> None:
    """Guarded by `records.use_assertion` in `token_endpoint._spent`."""
    assertion = replicas[0].assertion()
    answers = await at_once(replicas, lambda world: world.machine_token(assertion))
    assert len(successes(answers)) == 1
    assert {body["error"] for status, body in answers if status != 200} == {"invalid_client"}


async def test_one_of_eight_parallel_uses_of_a_dpop_proof_gets_a_token(replicas: Sequence[World]) -> None:
    """Guarded by `spend(tx, "dpop", …)` in `token_endpoint._spent`."""
    proof = DpopKey(replicas[0]).proof("POST", "/oauth2/token")

    async def ask(world: World) -> tuple[int, dict[str, Any]]:
        form = {"grant_type": "client_credentials", **world.signed()}
        return await world.post("/oauth2/token", form, {"DPoP": proof})

    answers = await at_once(replicas, ask)
    assert len(successes(answers)) == 1
    assert {body["error"] for status, body in answers if status != 200} == {"invalid_dpop_proof"}


async def test_one_of_eight_parallel_uses_of_a_dpop_proof_opens_userinfo(replicas: Sequence[World]) -> None:
    """Guarded by `_spend` in `resources.Resources._claims`."""
    request, key = Request(), DpopKey(replicas[0])
    form = request.redemption(await signed_on(replicas[0], request))
    _, body = await replicas[0].post("/oauth2/token", form, {"DPoP": key.proof("POST", "/oauth2/token")})
    token = body["access_token"]
    proof = key.proof("GET", "/oauth2/userinfo", token)

    async def ask(world: World) -> tuple[int, None]:
        headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
        return (await world.http.get("/oauth2/userinfo", headers=headers)).status, None

    answers = await at_once(replicas, ask)
    assert [status for status, _ in answers].count(200) == 1
    assert [status for status, _ in answers].count(401) == EIGHT - 1


async def test_one_of_eight_parallel_returns_with_one_assertion_signs_on(replicas: Sequence[World]) -> None:
    """Eight browsers bring the same assertion of the region (SAML's id, a ticket, a `jti`), each with its own state.

    Guarded by `spend(tx, f"sign-on:…")` in `authorization._finish`.
    """
    for world in replicas:
        until = world.clock() + timedelta(minutes=5)
        world.providers["guangdong"].more = {"once": OnceOnly("_assertion-1", until)}
    browsers = [Browser(replicas[i % 2]) for i in range(EIGHT)]
    doors = [await way_back(browser) for browser in browsers]
    answers = await asyncio.gather(*(browser.get(door) for browser, door in zip(browsers, doors, strict=True)))
    assert sorted(answer.status for answer in answers) == [302] + [400] * (EIGHT - 1)
    count = await replicas[0].store.read(lambda tx: tx.execute(select(func.count()).select_from(sign_on_sessions)))
    assert count.scalar_one() == 1


async def way_back(browser: Browser) -> str:
    """Go to the region and return the address at which it would send the browser back."""
    chooser = await browser.to(Request().url())
    state = parameters(await browser.to(choice(chooser, "guangdong")))["state"]
    return f"/sign-in/guangdong/callback?state={state}&code=c"


async def test_one_of_eight_parallel_visits_with_a_pushed_request_goes_on(replicas: Sequence[World]) -> None:
    """Guarded by the `DELETE … RETURNING` of `records.take_pushed`."""
    pushed = {name: value for name, value in Request(client_id="agency").fields().items() if name != "client_id"}
    status, body = await replicas[0].post("/oauth2/par", {**pushed, **replicas[0].signed()})
    assert status == 201, body
    url = f"/oauth2/authorize?client_id=agency&request_uri={body['request_uri']}"
    answers = await at_once(replicas, lambda world: Browser(world).get(url))
    assert sorted(answer.status for answer in answers) == [302] + [400] * (EIGHT - 1)


async def test_one_code_makes_one_family_however_often_it_is_tried(replicas: Sequence[World]) -> None:
    request = Request()
    form = request.redemption(await signed_on(replicas[0], request))
    await at_once(replicas, lambda world: world.token(**form))
    count = await replicas[0].store.read(partial(_count_families))
    assert count == 1


def _count_families(tx: Any) -> int:
    return int(tx.execute(select(func.count()).select_from(token_families)).scalar_one())


async def test_a_token_that_one_replica_revoked_is_taken_by_the_other_for_seconds_at_the_most(
    replicas: Sequence[World],
) -> None:
    """Guarded by `STALENESS` in `gateway.identity.verified`."""
    one, two = replicas
    _, body = await one.machine_token(one.assertion())
    await two.caller(body["access_token"])
    await one.post("/oauth2/revoke", {"token": body["access_token"], **one.signed()})
    with pytest.raises(NotAuthenticated):
        await one.caller(body["access_token"])
    two.clock.advance(STALENESS)
    with pytest.raises(NotAuthenticated):
        await two.caller(body["access_token"])


async def test_a_sign_on_that_began_at_one_replica_ends_at_another_and_lives_on_without_the_first(
    replicas: Sequence[World],
) -> None:
    """Nothing of a sign-on is in a process: any replica may die between two steps of a person's way."""
    one, two = replicas
    browser, request = Browser(one), Request()
    chooser = await browser.to(request.url())
    browser.world = two
    upstream = await browser.to(choice(chooser, "guangdong"))
    browser.world = one
    back = parameters(
        await browser.to(f"/sign-in/guangdong/callback?{urlencode({**parameters(upstream), 'code': 'c'})}")
    )
    status, body = await two.token(**request.redemption(back["code"]))
    assert status == 200
    browser.world = two  # the session that one made answers there, and its tokens are worth something
    again = parameters(await browser.to(Request().url()))
    assert "code" in again
    assert (await two.userinfo(body["access_token"])).status == 200
    form = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"], "client_id": "portal"}
    assert (await two.token(**form))[0] == 200
