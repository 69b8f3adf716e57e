"""Each client gets its ID tokens in the algorithm that it is registered for, and nothing in its place."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.crypto.jose import verified_claims
from gateway.crypto.signing import ALGORITHMS, KeyRing, PemKey
from gateway.minting import signing_key
from gateway.storage import Store
from tests.support.sign_on import Browser, Request, World, a_client, open_world, parameters, published

RING = KeyRing([PemKey(signing_key(algorithm)) for algorithm in ALGORITHMS])


@pytest.fixture
def store_url(sqlite_url: str) -> str:
    """One engine is enough: what is signed does not depend on it."""
    return sqlite_url


@pytest_asyncio.fixture
async def world(tmp_path: Path, store: Store) -> AsyncIterator[World]:
    async with open_world(tmp_path, {}, store, signer=RING) as opened:
        for algorithm in ALGORITHMS:
            opened.clients[algorithm] = a_client(algorithm, id_token_signed_response_alg=algorithm)
        yield opened


async def signed_on(world: World, client_id: str) -> dict[str, Any]:
    request = Request(client_id=client_id)
    back = await Browser(world).sign_on(request)
    _, body = await world.token(**request.redemption(back["code"]))
    return dict(body)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_id_token_is_signed_as_the_client_is_registered(world: World, algorithm: str) -> None:
    """`at_hash` goes with it: its hash is that of the algorithm, SHA-512 for Ed25519 (Core §3.1.3.6)."""
    body = await signed_on(world, algorithm)
    keys = published(await (await world.http.get("/oauth2/jwks")).json())
    claims = verified_claims(body["id_token"], keys, algorithms=[algorithm], types=["jwt"])
    digest = (hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256)(body["access_token"].encode()).digest()
    half = digest[: len(digest) // 2]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_access_token_is_signed_alike_for_all(world: World, algorithm: str) -> None:
    """Only this gateway reads it."""
    body = await signed_on(world, algorithm)
    keys = published(await (await world.http.get("/oauth2/jwks")).json())
    assert verified_claims(body["access_token"], keys, algorithms=["ES256"], types=["at+jwt"])["client_id"] == algorithm


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_id_token_of_any_algorithm_says_who_is_meant(world: World, algorithm: str) -> None:
    body = await signed_on(world, algorithm)
    request = Request(client_id=algorithm, extra={"id_token_hint": body["id_token"]})
    assert "code" in await Browser(world).sign_on(request)


async def test_what_can_be_had_is_published(world: World) -> None:
    document = await (await world.http.get("/.well-known/openid-configuration")).json()
    assert document["id_token_signing_alg_values_supported"] == list(ALGORITHMS)


async def test_without_a_key_of_its_algorithm_a_client_gets_no_code(tmp_path: Path, store: Store) -> None:
    """Another algorithm in its place would be a downgrade, and a person should not sign on for nothing."""
    ring = KeyRing([PemKey(signing_key("ES256"))])
    async with open_world(tmp_path, {}, store, signer=ring) as world:
        world.clients["other"] = a_client("other", id_token_signed_response_alg="PS256")
        back = parameters(await Browser(world).to(Request(client_id="other").url()))
    assert (back["error"], "code" in back) == ("unauthorized_client", False)
