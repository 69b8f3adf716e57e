"""What clients do with the OpenID Provider beside the plain code flow: push, refresh, bind, exchange, ask, revoke."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from sqlalchemy import select

from gateway.config import Listen
from gateway.domain.identity import Assurance
from gateway.domain.mandate import Mandate, OnPaper, Party, Relation
from gateway.errors import NotAuthenticated
from gateway.identity.broker import OLDEST_PROOF
from gateway.identity.clients import TOKEN_EXCHANGE, GrantType
from gateway.identity.delegation import MANDATE_CLAIM, parties
from gateway.identity.dpop import DpopRefused
from gateway.identity.grants import ACCESS_TOKEN
from gateway.identity.linking import Side
from gateway.identity.mandates import new_mandate_id
from gateway.identity.persons import LINKED
from gateway.identity.proofs import Presented
from gateway.policy.recognition import Line, Recognition
from gateway.storage import Store
from gateway.storage.nonces import CLOCKS_APART
from gateway.storage.sqlite import SqliteStore
from gateway.storage.tables import evidence, revoked_tokens
from tests.support.sign_on import (
    Browser,
    DpopKey,
    Request,
    World,
    a_client,
    a_config,
    agency_keys,
    open_world,
    parameters,
)

REFRESHING: frozenset[GrantType] = frozenset({"authorization_code", "refresh_token"})
TOKEN, USERINFO = "/oauth2/token", "/oauth2/userinfo"
COUNTS = {"services": ["*"], "purposes": ["sign-on"], "least": "A1", "kinds": ["person"]}


@pytest.fixture(scope="module")
def keys() -> Mapping[str, Any]:
    return agency_keys()


@pytest.fixture
async def world(tmp_path: Path, keys: Mapping[str, Any], sqlite_store: Store) -> AsyncIterator[World]:
    async with open_world(tmp_path, keys, sqlite_store) as opened:
        opened.clients["portal"] = a_client("portal", grant_types=REFRESHING)
        yield opened


async def signed_on(world: World, request: Request | None = None) -> dict[str, Any]:
    """Sign a person on at a portal and return the token response."""
    request = request or Request()
    back = await Browser(world).sign_on(request)
    status, body = await world.token(**request.redemption(back["code"]))
    assert status == 200, body
    return body


async def refreshed(world: World, token: str, **more: str) -> tuple[int, dict[str, Any]]:
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "portal", **more}
    return await world.post(TOKEN, form)


def claims_of(world: World, token: str) -> dict[str, Any]:
    return jwt.decode(token, world.service.parts.signer.key_set(), algorithms=["ES256"]).claims


@pytest.fixture
def exchanging(world: World) -> World:
    """Let the agency act for persons who signed on at the portal."""
    agency = world.clients["agency"]
    grants: frozenset[GrantType] = agency.grant_types | frozenset({TOKEN_EXCHANGE})
    world.clients["agency"] = replace(agency, grant_types=grants, exchanges_from=frozenset({"portal"}))
    return world


# --- refresh -----------------------------------------------------------------------------------------------------


async def test_a_refresh_token_gives_a_new_token_for_the_same_sign_on(world: World) -> None:
    first = await signed_on(world)
    status, second = await refreshed(world, first["refresh_token"])
    assert status == 200
    old, new = claims_of(world, first["access_token"]), claims_of(world, second["access_token"])
    assert [old[name] for name in ("sub", "sid", "acr", "auth_time", "grant_id")] == [
        new[name] for name in ("sub", "sid", "acr", "auth_time", "grant_id")
    ]
    assert old["jti"] != new["jti"]
    assert second["refresh_token"] != first["refresh_token"]


async def test_a_refresh_token_that_comes_twice_ends_everything_that_came_of_the_sign_on(world: World) -> None:
    """One of its two holders has stolen it, and nobody can tell which (RFC 9700 §4.14.2).

    Guarded by `_revoke` in `families.rotate_refresh`.
    """
    first = await signed_on(world)
    _, second = await refreshed(world, first["refresh_token"])
    status, body = await refreshed(world, first["refresh_token"])
    assert (status, body["error"]) == (400, "invalid_grant")
    assert (await world.userinfo(second["access_token"])).status == 401
    assert (await refreshed(world, second["refresh_token"]))[0] == 400


async def test_a_refresh_token_of_another_client_neither_serves_nor_ends_anything(world: World) -> None:
    """Guarded by `rows.family_id.in_(mine)` in `families.rotate_refresh`."""
    first = await signed_on(world)
    world.clients["thief"] = a_client("thief", grant_types=REFRESHING)
    status, body = await refreshed(world, first["refresh_token"], client_id="thief")
    assert (status, body["error"]) == (400, "invalid_grant")
    assert (await refreshed(world, first["refresh_token"]))[0] == 200


async def test_a_refresh_may_ask_for_less_and_never_for_more(world: World) -> None:
    first = await signed_on(world, Request(scope="openid profile"))
    status, less = await refreshed(world, first["refresh_token"], scope="openid")
    assert (status, less["scope"]) == (200, "openid")
    status, body = await refreshed(world, less["refresh_token"], scope="openid profile document")
    assert (status, body["error"]) == (400, "invalid_scope")
    assert (await refreshed(world, less["refresh_token"]))[0] == 200


async def test_a_refresh_that_asks_for_too_much_costs_nothing_and_tells_a_stranger_nothing(world: World) -> None:
    """Else a mistake in a parameter ends the sign-on, or a stranger learns that the token is one.

    Guarded by `_asks_too_much` in `TokenEndpoints._refresh`, and by its look at the client.
    """
    world.clients["other"] = a_client("other", grant_types=REFRESHING)
    first = await signed_on(world, Request(scope="openid"))
    for _ in range(2):
        assert (await refreshed(world, first["refresh_token"], scope="openid document"))[1]["error"] == "invalid_scope"
    form = {"grant_type": "refresh_token", "client_id": "other", "scope": "openid document"}
    for token in (first["refresh_token"], "A" * 43):
        assert (await world.post(TOKEN, {**form, "refresh_token": token}))[1]["error"] == "invalid_grant"
    assert (await refreshed(world, first["refresh_token"]))[0] == 200


async def test_no_token_outlives_the_session(world: World) -> None:
    """Whoever has signed out is signed out: there is no refreshing around it."""
    first = await signed_on(world)
    world.clock.advance(world.service.parts.settings.session_seconds)
    assert (await refreshed(world, first["refresh_token"]))[0] == 400


async def test_a_client_that_is_not_registered_for_it_gets_no_refresh_token(world: World) -> None:
    world.clients["portal"] = a_client("portal")
    assert "refresh_token" not in await signed_on(world)


async def test_a_client_of_the_fapi_profile_keeps_its_refresh_token(world: World) -> None:
    """Its tokens are bound to its key, so that rotation would add nothing but lost sessions (FAPI 2.0 §5.3.2.1)."""
    grants: frozenset[GrantType] = frozenset({"authorization_code", "refresh_token", "client_credentials"})
    world.clients["agency"] = replace(
        world.clients["agency"], grant_types=grants, profile="fapi2", dpop_bound_access_tokens=True
    )
    first, key = await fapi_sign_on(world)
    for _ in range(2):
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], **world.signed()}
        status, body = await world.post(TOKEN, form, {"DPoP": key.proof("POST", TOKEN)})
        assert (status, body["refresh_token"]) == (200, first["refresh_token"])


async def fapi_sign_on(world: World) -> tuple[dict[str, Any], DpopKey]:
    """Sign on as a client of the FAPI 2.0 profile does: pushed request, DPoP, private_key_jwt."""
    key, request = DpopKey(world), Request(client_id="agency")
    status, pushed = await world.post(
        "/oauth2/par", {**request.fields(), **world.signed()}, {"DPoP": key.proof("POST", "/oauth2/par")}
    )
    assert status == 201, pushed
    query = urlencode({"client_id": "agency", "request_uri": pushed["request_uri"]})
    back = parameters(await Browser(world).through(f"/oauth2/authorize?{query}"))
    form = {**request.redemption(back["code"]), **world.signed()}
    status, body = await world.post(TOKEN, form, {"DPoP": key.proof("POST", TOKEN)})
    assert status == 200, body
    return body, key


# --- pushed requests -----------------------------------------------------------------------------------------------


async def test_a_client_that_must_push_its_requests_has_no_other_way(world: World) -> None:
    """Guarded by the first condition in `authorization._pushed_handle`."""
    for change in ({"require_pushed_requests": True}, {"profile": "fapi2"}):
        world.clients["agency"] = replace(world.clients["agency"], require_pushed_requests=False, profile="standard")
        world.clients["agency"] = replace(world.clients["agency"], **change)
        answer = await Browser(world).get(Request(client_id="agency").url())
        assert answer.status == 400
        assert "oauth2/par" in await answer.text()


async def test_a_bound_client_may_push_without_a_proof_and_redeems_with_one(world: World) -> None:
    """A proof at the push ties the code to the key (RFC 9449 §10.1), if there is one; the token is bound always."""
    world.clients["agency"] = replace(world.clients["agency"], profile="fapi2", dpop_bound_access_tokens=True)
    request = Request(client_id="agency")
    status, pushed = await world.post("/oauth2/par", {**request.fields(), **world.signed()})
    assert status == 201, pushed
    query = urlencode({"client_id": "agency", "request_uri": pushed["request_uri"]})
    back = parameters(await Browser(world).through(f"/oauth2/authorize?{query}"))
    form = request.redemption(back["code"])
    status, body = await world.post(TOKEN, {**form, **world.signed()})
    assert (status, body["error"]) == (400, "use_dpop_nonce")
    status, body = await world.post(TOKEN, {**form, **world.signed()}, {"DPoP": DpopKey(world).proof("POST", TOKEN)})
    assert (status, body["token_type"]) == (200, "DPoP")


async def test_a_pushed_request_is_what_counts_and_not_what_stands_beside_it(world: World) -> None:
    """A browser cannot add to it or change it: only `client_id` and `request_uri` are read."""
    request = Request(client_id="agency")
    _, pushed = await world.post("/oauth2/par", {**request.fields(), **world.signed()})
    query = {"client_id": "agency", "request_uri": pushed["request_uri"], "redirect_uri": "https://evil.test/",
             "state": "another", "scope": "openid document"}  # fmt: skip
    back = await Browser(world).through(f"/oauth2/authorize?{urlencode(query)}")
    assert back.startswith("https://service.test/back?")
    assert parameters(back)["state"] == "s-1"


@pytest.mark.parametrize("client_id", ["portal", "rsa", ""])
async def test_a_pushed_request_of_another_client_is_not_found(world: World, client_id: str) -> None:
    """Guarded by `client_id == bindparam("client")` in `records._TAKE_PUSHED`."""
    _, pushed = await world.post("/oauth2/par", {**Request(client_id="agency").fields(), **world.signed()})
    query = urlencode({"client_id": client_id, "request_uri": pushed["request_uri"]})
    assert (await Browser(world).get(f"/oauth2/authorize?{query}")).status == 400
    query = urlencode({"client_id": "agency", "request_uri": pushed["request_uri"]})
    assert (await Browser(world).get(f"/oauth2/authorize?{query}")).status == 302


async def test_a_pushed_request_waits_for_a_minute(world: World) -> None:
    _, pushed = await world.post("/oauth2/par", {**Request(client_id="agency").fields(), **world.signed()})
    assert pushed["expires_in"] == 60
    world.clock.advance(61)
    query = urlencode({"client_id": "agency", "request_uri": pushed["request_uri"]})
    assert (await Browser(world).get(f"/oauth2/authorize?{query}")).status == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uri": "https://evil.test/"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"dpop_jkt": "short"}, "invalid_request"),
        ({"client_id": "portal"}, "invalid_client"),
    ],
)
async def test_what_is_wrong_with_a_pushed_request_is_said_at_once(
    world: World, changes: dict[str, str], error: str
) -> None:
    form = {**Request(client_id="agency").fields(), **world.signed(), **changes}
    status, body = await world.post("/oauth2/par", form)
    assert (status, body["error"]) in {(400, error), (401, error)}
    assert "request_uri" not in body


async def test_prompt_none_can_be_pushed_although_nobody_is_there_yet(world: World) -> None:
    form = {**Request(client_id="agency", extra={"prompt": "none"}).fields(), **world.signed()}
    assert (await world.post("/oauth2/par", form))[0] == 201


# --- DPoP ----------------------------------------------------------------------------------------------------------


async def test_a_token_that_is_bound_to_a_key_is_worth_nothing_without_it(world: World) -> None:
    """Guarded by `Proofs.check`: scheme, proof, and the key of the proof."""
    request, key, other = Request(), DpopKey(world), DpopKey(world)
    back = await Browser(world).sign_on(request)
    status, body = await world.post(TOKEN, request.redemption(back["code"]), {"DPoP": key.proof("POST", TOKEN)})
    assert (status, body["token_type"]) == (200, "DPoP")
    token = body["access_token"]
    assert claims_of(world, token)["cnf"] == {"jkt": key.thumbprint}
    shown = {"Authorization": f"DPoP {token}"}
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"Bearer {token}", "DPoP": key.proof("GET", USERINFO, token)},
        shown,
        {**shown, "DPoP": other.proof("GET", USERINFO, token)},
        {**shown, "DPoP": key.proof("POST", USERINFO, token)},
        {**shown, "DPoP": key.proof("GET", TOKEN, token)},
        {**shown, "DPoP": key.proof("GET", USERINFO, "another token")},
        {**shown, "DPoP": key.proof("GET", USERINFO)},
    ):
        answer = await world.http.get(USERINFO, headers=headers)
        assert answer.status == 401, headers
        assert answer.headers["WWW-Authenticate"].startswith("DPoP ")
    answer = await world.http.get(USERINFO, headers={**shown, "DPoP": key.proof("GET", USERINFO, token)})
    assert answer.status == 200


async def test_a_bearer_token_does_not_pass_as_one_that_is_bound(world: World) -> None:
    token = (await signed_on(world))["access_token"]
    proof = DpopKey(world).proof("GET", USERINFO, token)
    headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
    assert (await world.http.get(USERINFO, headers=headers)).status == 401


async def test_a_proof_without_a_nonce_is_told_the_nonce(world: World) -> None:
    """RFC 9449 §8 and §9: what makes a proof that was made in advance worthless."""
    key = DpopKey(world)
    form = {"grant_type": "client_credentials", **world.signed()}
    answer = await world.http.post(TOKEN, data=form, headers={"DPoP": key.proof("POST", TOKEN, nonce=None)})
    assert (answer.status, (await answer.json())["error"]) == (400, "use_dpop_nonce")
    nonce = answer.headers["DPoP-Nonce"]
    form = {"grant_type": "client_credentials", **world.signed()}
    answer = await world.http.post(TOKEN, data=form, headers={"DPoP": key.proof("POST", TOKEN, nonce=nonce)})
    assert answer.status == 200
    token = (await answer.json())["access_token"]
    shown = {"Authorization": f"DPoP {token}", "DPoP": key.proof("GET", USERINFO, token, nonce=None)}
    answer = await world.http.get(USERINFO, headers=shown)
    assert (answer.status, answer.headers["DPoP-Nonce"]) == (401, nonce)
    assert 'error="use_dpop_nonce"' in answer.headers["WWW-Authenticate"]


async def test_a_client_whose_tokens_are_bound_gets_none_without_a_proof(world: World) -> None:
    """Guarded by `Proofs._check_enough`."""
    world.clients["agency"] = replace(world.clients["agency"], dpop_bound_access_tokens=True)
    status, body = await world.machine_token(world.assertion())
    assert (status, body["error"]) == (400, "use_dpop_nonce")


@pytest.mark.parametrize("path", ["/oauth2/introspect", "/oauth2/revoke"])
async def test_a_client_whose_tokens_are_bound_needs_no_proof_where_no_token_is_issued(world: World, path: str) -> None:
    """Certified clients send none there (RFC 9449 §5): they could neither ask about a token nor end it."""
    world.clients["agency"] = replace(world.clients["agency"], dpop_bound_access_tokens=True)
    assert (await world.post(path, {"token": "anything", **world.signed()}))[0] == 200


async def test_a_code_that_was_asked_for_with_a_key_is_redeemed_with_that_key_only(world: World) -> None:
    """Guarded by the comparison of `found.code.jkt` in `token_endpoint._redeem`. The code is gone afterwards."""
    key, other = DpopKey(world), DpopKey(world)
    for headers in ({}, {"DPoP": other.proof("POST", TOKEN)}):
        request = Request(extra={"dpop_jkt": key.thumbprint})
        back = await Browser(world).sign_on(request)
        status, body = await world.post(TOKEN, request.redemption(back["code"]), headers)
        assert (status, body["error"]) == (400, "invalid_grant")
        again = await world.post(TOKEN, request.redemption(back["code"]), {"DPoP": key.proof("POST", TOKEN)})
        assert again[0] == 400
    request = Request(extra={"dpop_jkt": key.thumbprint})
    back = await Browser(world).sign_on(request)
    proof = {"DPoP": key.proof("POST", TOKEN)}
    assert (await world.post(TOKEN, request.redemption(back["code"]), proof))[0] == 200


async def test_the_refresh_token_of_a_public_client_is_bound_to_its_key(world: World) -> None:
    """A public client proves itself by nothing else (RFC 9449 §5). Guarded in `token_endpoint._refresh`."""
    request, key, other = Request(), DpopKey(world), DpopKey(world)
    back = await Browser(world).sign_on(request)
    _, first = await world.post(TOKEN, request.redemption(back["code"]), {"DPoP": key.proof("POST", TOKEN)})
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": "portal"}
    status, body = await world.post(TOKEN, form, {"DPoP": other.proof("POST", TOKEN)})
    assert (status, body["error"]) == (400, "invalid_grant")


async def test_a_request_that_forgot_its_proof_costs_no_refresh_token(world: World) -> None:
    """The client mends it and asks again; a token that was used up would end the sign-on for one missing header.

    Guarded by `_unbound`, which `_refresh` asks before it rotates.
    """
    world.clients["agency"] = replace(
        world.clients["agency"], grant_types=REFRESHING, redirect_uris=world.clients["portal"].redirect_uris
    )
    request, key = Request(client_id="agency"), DpopKey(world)
    back = await Browser(world).sign_on(request)
    form = {**request.redemption(back["code"]), **world.signed()}
    _, first = await world.post(TOKEN, form, {"DPoP": key.proof("POST", TOKEN)})
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    status, body = await world.post(TOKEN, {**form, **world.signed()})
    assert (status, body["error"]) == (400, "invalid_grant")
    assert (await world.post(TOKEN, {**form, **world.signed()}, {"DPoP": key.proof("POST", TOKEN)}))[0] == 200


async def test_who_holds_a_stolen_refresh_token_ends_its_family_whatever_is_asked_for(world: World) -> None:
    """A scope that goes too far is refused after the key, or a thief could ask for ever whether the token lives."""
    request, key, other = Request(), DpopKey(world), DpopKey(world)
    back = await Browser(world).sign_on(request)
    _, first = await world.post(TOKEN, request.redemption(back["code"]), {"DPoP": key.proof("POST", TOKEN)})
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": "portal"}
    _, body = await world.post(TOKEN, {**form, "scope": "submissions"}, {"DPoP": other.proof("POST", TOKEN)})
    assert body["error"] == "invalid_grant"
    assert (await world.post(TOKEN, form, {"DPoP": key.proof("POST", TOKEN)}))[0] == 400


async def test_two_proofs_with_one_request_are_refused(world: World) -> None:
    key = DpopKey(world)
    form = {"grant_type": "client_credentials", **world.signed()}
    headers = [("DPoP", key.proof("POST", TOKEN)), ("DPoP", key.proof("POST", TOKEN))]
    answer = await world.http.post(TOKEN, data=form, headers=headers)
    assert answer.status == 400


async def test_a_token_of_the_api_is_bound_as_well(world: World) -> None:
    key = DpopKey(world)
    form = {"grant_type": "client_credentials", **world.signed()}
    _, body = await world.post(TOKEN, form, {"DPoP": key.proof("POST", TOKEN)})
    token = body["access_token"]
    with pytest.raises(DpopRefused):
        await world.caller(token)
    proof = key.proof("GET", "/v1/items", token)
    url = world.service.issuer + "/v1/items"
    shown = Presented(method="GET", url=url, proofs=(proof,), scheme="DPoP", token=token)
    assert (await world.service.resources.authenticate(shown)).client_id == "agency"


# --- certificates --------------------------------------------------------------------------------------------------


@pytest.fixture
async def certified(tmp_path: Path, keys: Mapping[str, Any]) -> AsyncIterator[tuple[World, dict[str, str]]]:
    """Stand behind a proxy that ends TLS, with a client whose certificate is known; return the proxy's headers too."""
    store = await SqliteStore.open(str(tmp_path / "certified.db"))
    await store.migrate()
    config = a_config(tmp_path)
    config = config.model_copy(update={"listen": Listen(proxies=("127.0.0.0/8",))})
    key = ec.generate_private_key(ec.SECP256R1())
    async with open_world(tmp_path, keys, store, config=config) as opened:
        opened.clients["bank"] = a_client(
            "bank",
            KeySet([ECKey.import_key(key.public_key())]),
            authentication="self_signed_tls_client_auth",
            tls_client_certificate_bound_access_tokens=True,
        )
        yield opened, {"Client-Cert": in_header(self_signed(key, opened.clock()))}
    await store.close()


def self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    return builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def in_header(der: bytes) -> str:
    return f":{base64.b64encode(der).decode()}:"


async def test_a_client_proves_itself_by_its_certificate_and_its_tokens_are_bound_to_it(
    certified: tuple[World, dict[str, str]],
) -> None:
    """RFC 8705 §2.2 and §3. Guarded by `check_registered`, and `x5t#S256` in `Proofs.check`."""
    world, shown = certified
    form = {"grant_type": "client_credentials", "client_id": "bank"}
    status, body = await world.post(TOKEN, form, shown)
    assert (status, body["token_type"]) == (200, "Bearer"), body
    token = body["access_token"]
    assert set(claims_of(world, token)["cnf"]) == {"x5t#S256"}
    stranger = in_header(self_signed(ec.generate_private_key(ec.SECP256R1()), world.clock()))
    for headers in ({}, {"Client-Cert": stranger}, {"Client-Cert": ":AAAA:"}, {"Client-Cert": "x"}):
        status, body = await world.post(TOKEN, form, headers)
        assert (status, body["error"]) in {(401, "invalid_client"), (400, "invalid_client")}
    with pytest.raises(NotAuthenticated, match="certificate"):
        await world.caller(token)


async def test_a_header_with_a_certificate_means_nothing_from_a_peer_that_is_no_proxy(world: World) -> None:
    """Guarded by `CertificateReader._is_proxy`."""
    key = ec.generate_private_key(ec.SECP256R1())
    registered = KeySet([ECKey.import_key(key.public_key())])
    world.clients["bank"] = a_client("bank", registered, authentication="self_signed_tls_client_auth")
    form = {"grant_type": "client_credentials", "client_id": "bank"}
    status, body = await world.post(TOKEN, form, {"Client-Cert": in_header(self_signed(key, world.clock()))})
    assert body["error"] == "invalid_client"
    assert status in {400, 401}


# --- introspection and revocation ----------------------------------------------------------------------------------


async def introspected(world: World, token: str, client_id: str = "agency") -> dict[str, Any]:
    status, body = await world.post("/oauth2/introspect", {"token": token, **world.signed(client_id)})
    assert status == 200, body
    return body


async def revoked(world: World, token: str, **client: str) -> int:
    return (await world.post("/oauth2/revoke", {"token": token, **client}))[0]


async def test_a_client_is_told_what_its_own_token_is_worth_and_nothing_of_others(world: World) -> None:
    """Guarded by the comparison of `client_id` in `token_endpoint._worth`."""
    _, body = await world.machine_token(world.assertion())
    worth = await introspected(world, body["access_token"])
    assert (worth["active"], worth["client_id"], worth["token_type"]) == (True, "agency", "Bearer")
    assert await introspected(world, body["access_token"], "rsa") == {"active": False}
    scopes = world.clients["rsa"].scopes | {"introspection"}
    world.clients["rsa"] = replace(world.clients["rsa"], scopes=scopes)
    assert (await introspected(world, body["access_token"], "rsa"))["active"] is True


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "A" * 43, "x" * 9000])
async def test_whatever_is_no_token_of_ours_is_not_active(world: World, token: str) -> None:
    status, body = await world.post("/oauth2/introspect", {"token": token or " ", **world.signed()})
    assert (status, body) == (200, {"active": False})
    assert await revoked(world, token or " ", **world.signed()) == 200


async def test_nobody_introspects_without_proving_who_asks(world: World) -> None:
    token = (await signed_on(world))["access_token"]
    for form in ({"token": token}, {"token": token, "client_id": "agency"}, {"token": token, "client_id": "portal"}):
        status, body = await world.post("/oauth2/introspect", form)
        assert status in {400, 401}
        assert "active" not in body


async def test_a_revoked_access_token_is_worth_nothing_and_its_sisters_live_on(world: World) -> None:
    """Guarded by `families.is_revoked` in `token_endpoint.stands`."""
    first = await signed_on(world)
    _, second = await refreshed(world, first["refresh_token"])
    assert await revoked(world, first["access_token"], client_id="portal") == 200
    assert (await world.userinfo(first["access_token"])).status == 401
    assert (await world.userinfo(second["access_token"])).status == 200


async def test_a_revocation_outlives_the_token_by_as_much_as_clocks_differ(world: World) -> None:
    """Guarded by `CLOCKS_APART` in `families.revoke_token`: the janitor of a replica ahead forgets for all of them."""
    body = await signed_on(world)
    assert await revoked(world, body["access_token"], client_id="portal") == 200
    expires = datetime.fromtimestamp(world.service.parts.tokens.verify(body["access_token"])["exp"], UTC)
    (kept,) = await world.store.read(lambda tx: list(tx.execute(select(revoked_tokens.c.expires_at)).scalars()))
    assert kept == expires + CLOCKS_APART


async def test_a_revoked_refresh_token_takes_its_family_along(world: World) -> None:
    first = await signed_on(world)
    assert await revoked(world, first["refresh_token"], client_id="portal") == 200
    assert (await world.userinfo(first["access_token"])).status == 401
    assert (await refreshed(world, first["refresh_token"]))[0] == 400


async def test_a_token_of_another_client_is_not_revoked(world: World) -> None:
    first = await signed_on(world)
    for token in (first["access_token"], first["refresh_token"]):
        assert await revoked(world, token, **world.signed()) == 200
    assert (await world.userinfo(first["access_token"])).status == 200
    assert (await refreshed(world, first["refresh_token"]))[0] == 200


async def test_a_revoked_token_of_the_api_opens_nothing(world: World) -> None:
    _, body = await world.machine_token(world.assertion())
    assert await revoked(world, body["access_token"], **world.signed()) == 200
    with pytest.raises(NotAuthenticated, match="revoked"):
        await world.caller(body["access_token"])
    assert await introspected(world, body["access_token"]) == {"active": False}


@pytest.mark.parametrize("ending", ["revoked", "signed out", "used twice"])
async def test_a_token_that_was_found_to_stand_a_moment_ago_is_not_taken_once_it_ended(
    exchanging: World, ending: str
) -> None:
    """The memory of verified tokens is emptied by whatever ends one. Guarded by `revocations.WatchedStore.write`."""
    world, browser, request = exchanging, Browser(exchanging), Request()
    back = await browser.sign_on(request)
    _, portals = await world.token(**request.redemption(back["code"]))
    _, body = await exchanged(world, portals["access_token"])
    token = body["access_token"]
    assert (await world.caller(token)).client_id == "agency"
    if ending == "revoked":
        await revoked(world, token, **world.signed())
    elif ending == "signed out":
        await world.service.end_session(browser.cookies["__Host-pearl_session"])
    else:
        await world.token(**request.redemption(back["code"]))
        token = portals["access_token"]
        assert (await world.userinfo(token)).status == 401
        return
    with pytest.raises(NotAuthenticated):
        await world.caller(token)


async def test_a_remembered_token_ends_when_its_term_does(world: World) -> None:
    _, body = await world.machine_token(world.assertion())
    await world.caller(body["access_token"])
    world.clock.advance(body["expires_in"])
    with pytest.raises(NotAuthenticated, match="expired"):
        await world.caller(body["access_token"])


async def test_a_refresh_token_can_be_asked_about_by_its_client(world: World) -> None:
    grants: frozenset[GrantType] = frozenset({"authorization_code", "refresh_token"})
    world.clients["agency"] = replace(world.clients["agency"], grant_types=grants)
    request = Request(client_id="agency")
    back = await Browser(world).sign_on(request)
    _, body = await world.post(TOKEN, {**request.redemption(back["code"]), **world.signed()})
    worth = await introspected(world, body["refresh_token"])
    assert (worth["active"], worth["client_id"]) == (True, "agency")
    assert await introspected(world, body["refresh_token"], "rsa") == {"active": False}


# --- evidence ------------------------------------------------------------------------------------------------------


async def test_evidence_leads_from_the_regions_assertion_to_the_grant_of_a_token(world: World) -> None:
    """Two rows: the sign-on, and the answer, which names it, the code and what the code grants.

    Guarded by `grant_of` in `families`, which makes the grant's name of the code's digest, and by `_answer`.
    """
    body = await signed_on(world)
    claims = claims_of(world, body["access_token"])
    rows = await world.store.read(lambda tx: tx.execute(select(evidence)).mappings().all())
    (answer,) = [row for row in rows if row["action"] == "sign_on.answer"]
    (sign_on,) = [row for row in rows if row["id"] == answer["what"]["sign_on"]]
    assert (sign_on["action"], sign_on["what"]["region"]) == ("sign_on", "guangdong")
    assert (answer["what"]["grant"], answer["what"]["scope"]) == (claims["grant_id"], claims["scope"])
    assert answer["who"] == {"client": "portal"}


async def test_evidence_of_an_exchange_names_its_grant_and_the_sign_on(exchanging: World) -> None:
    """What an exchange begins has no code: it has a row of its own."""
    world = exchanging
    _, body = await exchanged(world, (await signed_on(world))["access_token"])
    rows = await world.store.read(lambda tx: tx.execute(select(evidence)).mappings().all())
    (issue,) = [row for row in rows if row["action"] == "token.issue"]
    assert issue["what"]["grant"] == claims_of(world, body["access_token"])["grant_id"]
    assert issue["what"]["sign_on"] in {row["id"] for row in rows if row["action"] == "sign_on"}


# --- token exchange ------------------------------------------------------------------------------------------------


async def exchanged(world: World, token: str, **changes: str) -> tuple[int, dict[str, Any]]:
    form = {"grant_type": TOKEN_EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN, **world.signed()}
    return await world.post(TOKEN, {**form, **changes})


async def test_an_agency_acts_for_a_person_under_a_name_of_its_own(exchanging: World) -> None:
    """`sub` is the person as the agency knows it, `act` the agency: an agent's token never stands for the applicant."""
    world = exchanging
    portals = await signed_on(world)
    status, body = await exchanged(world, portals["access_token"])
    assert (status, body["issued_token_type"], body["scope"]) == (200, ACCESS_TOKEN, "submissions")
    assert "refresh_token" not in body
    theirs, ours = claims_of(world, portals["access_token"]), claims_of(world, body["access_token"])
    assert ours["act"] == {"sub": "agency"}
    assert ours["sub"] not in {theirs["sub"], "agency"}
    assert (ours["acr"], ours["auth_time"]) == (theirs["acr"], theirs["auth_time"])
    assert ours["exp"] <= theirs["exp"]
    caller = await world.caller(body["access_token"])
    assert caller.client_id == "agency"
    assert caller.acting is not None
    assert caller.acting.person.claims.reveal()["name"] == "李芳"
    assert (await introspected(world, body["access_token"]))["act"] == {"sub": "agency"}


async def test_what_was_exchanged_opens_no_userinfo_and_is_exchanged_no_further(exchanging: World) -> None:
    portals = await signed_on(exchanging)
    _, body = await exchanged(exchanging, portals["access_token"])
    assert (await exchanging.userinfo(body["access_token"])).status == 403
    assert (await exchanged(exchanging, body["access_token"]))[0] == 400


async def test_an_exchange_ends_with_the_sign_on_and_with_the_token_it_came_of(exchanging: World) -> None:
    world = exchanging
    portals = await signed_on(world)
    _, body = await exchanged(world, portals["access_token"])
    world.clock.advance(claims_of(world, portals["access_token"])["exp"] - world.clock.stamp() + 1)
    with pytest.raises(NotAuthenticated):
        await world.caller(body["access_token"])


@pytest.mark.parametrize(
    "changes",
    [
        {"subject_token": "x"},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"actor_token": "x"},
    ],
)
async def test_an_exchange_that_asks_wrongly_is_refused(exchanging: World, changes: dict[str, str]) -> None:
    portals = await signed_on(exchanging)
    status, body = await exchanged(exchanging, portals["access_token"], **changes)
    assert (status, body["error"]) in {(400, "invalid_grant"), (400, "invalid_request")}


async def test_only_a_client_that_is_registered_for_this_portal_may_exchange(exchanging: World) -> None:
    """Guarded by `client.exchanges_from` in `exchanges.Exchanges.settle`."""
    world = exchanging
    portals = await signed_on(world)
    world.clients["agency"] = replace(world.clients["agency"], exchanges_from=frozenset({"another"}))
    assert (await exchanged(world, portals["access_token"]))[1]["error"] == "invalid_grant"
    no_exchange: frozenset[GrantType] = frozenset({"client_credentials"})
    world.clients["agency"] = replace(world.clients["agency"], grant_types=no_exchange)
    assert (await exchanged(world, portals["access_token"]))[1]["error"] == "unauthorized_client"


async def test_a_sign_on_that_counts_at_the_portal_alone_is_not_exchanged_for_another_service(
    tmp_path: Path, keys: Mapping[str, Any]
) -> None:
    """The matrix is by service: what it says of the portal says nothing of the agency. Guarded in `settle`."""
    line = Line.model_validate(
        {"regions": ["guangdong"], "services": ["portal"], "purposes": ["*"], "least": "A0", "kinds": ["person"]}
    )
    store = await SqliteStore.open(str(tmp_path / "gateway.db"))
    await store.migrate()
    async with open_world(tmp_path, keys, store, recognition=Recognition({1: line})) as world:
        exchanges: frozenset[GrantType] = frozenset({"client_credentials", TOKEN_EXCHANGE})
        world.clients["agency"] = replace(
            world.clients["agency"], grant_types=exchanges, exchanges_from=frozenset({"portal"})
        )
        status, body = await exchanged(world, (await signed_on(world))["access_token"])
    await store.close()
    assert (status, body["error"]) == (400, "invalid_grant")


# --- clients that were disabled ------------------------------------------------------------------------------------


async def test_a_client_that_another_replica_disabled_is_given_nothing_more(world: World) -> None:
    """What is in memory may be two seconds old, and what began in them would be ended by nobody.

    Guarded by `asked.stands` in `TokenEndpoints._settle`.
    """
    request = Request()
    back = await Browser(world).sign_on(request)
    world.disabled.add("portal")
    status, body = await world.token(**request.redemption(back["code"]))
    assert (status, body["error"]) == (401, "invalid_client")


async def test_no_token_of_a_disabled_client_is_active(world: World) -> None:
    """Whoever relies on introspection must not go on serving it. Guarded by `asked.honours` in `_worth`."""
    client = world.clients["agency"]
    world.clients["watcher"] = replace(client, id="watcher", scopes=client.scopes | {"introspection"})
    _, body = await world.machine_token(world.assertion())
    for disabled in (False, True):
        signed = {**world.signed(), "client_assertion": world.assertion("watcher", world.keys["agency"])}
        _, worth = await world.post("/oauth2/introspect", {"token": body["access_token"], **signed})
        assert worth["active"] is not disabled
        world.disabled.add("agency")


async def test_a_disabled_client_learns_nothing_more_of_a_person_and_enabling_it_brings_no_token_back(
    world: World,
) -> None:
    """Guarded by `Resources._client_of`."""
    person = await signed_on(world)
    _, ours = await world.machine_token(world.assertion())
    portal, agency = world.clients.pop("portal"), world.clients["agency"]
    assert (await world.userinfo(person["access_token"])).status == 401
    world.clock.advance(5)
    world.clients["portal"] = replace(portal, enabled_at=world.clock())
    world.clients["agency"] = replace(agency, enabled_at=world.clock())
    assert (await world.userinfo(person["access_token"])).status == 401
    with pytest.raises(NotAuthenticated):
        await world.caller(ours["access_token"])


async def test_a_nul_is_refused_before_anything_is_used_up(world: World) -> None:
    """One engine of the store refuses it, and would undo with it what the request had used up."""
    signed = world.signed()
    _, body = await world.post(TOKEN, {"grant_type": "client_credentials", "scope": "a\0", **signed})
    assert body["error"] == "invalid_request"
    assert (await world.post(TOKEN, {"grant_type": "client_credentials", **signed}))[0] == 200


async def test_a_revoked_token_is_not_exchanged(exchanging: World) -> None:
    portals = await signed_on(exchanging)
    await revoked(exchanging, portals["access_token"], client_id="portal")
    assert (await exchanged(exchanging, portals["access_token"]))[0] == 400


# --- a mandate -----------------------------------------------------------------------------------------------------


async def mandated(world: World, agent: str = "11010519491231002X", **changes: Any) -> str:
    """Record a mandate by which the person of these tests acts for somebody, and return its id."""
    now = world.clock()
    mandate = Mandate(
        id=new_mandate_id(),
        principal=Party("CN_RIC", "44010619900101900X", "陈小明"),
        agent=Party("CN_RIC", agent, "李芳"),
        relation=Relation.FAMILY,
        items=frozenset({"item-1"}),
        valid_from=now,
        valid_until=now + timedelta(days=1),
        consent=OnPaper("F-1", "C-1", "GZ-01", ("both identity cards",)),
        recorded_by="agency",
        created_at=now,
    )
    made = await world.mandates.make(replace(mandate, **changes), who={"client": "agency"})
    return made.id


async def test_an_agents_token_names_the_principal_and_who_acts_by_which_mandate(exchanging: World) -> None:
    """RFC 8693 §4.1: `sub` is whom it is about, `act` who acts; the agent never stands for the applicant."""
    world, portals = exchanging, await signed_on(exchanging)
    mandate = await mandated(world)
    status, body = await exchanged(world, portals["access_token"], mandate=mandate)
    assert status == 200, body
    claims = claims_of(world, body["access_token"])
    _, alone = await exchanged(world, portals["access_token"])
    agent = claims_of(world, alone["access_token"])["sub"]
    assert claims["act"] == {"sub": agent, "iss": world.service.issuer}
    assert claims["sub"] != agent
    found = parties(claims)
    assert (found.principal, found.agent, found.mandate) == (claims["sub"], agent, mandate)
    assert claims[MANDATE_CLAIM]["items"] == ["item-1"]
    worth = await introspected(world, body["access_token"])
    assert (worth["act"], worth[MANDATE_CLAIM]["id"]) == (claims["act"], mandate)
    acting = (await world.caller(body["access_token"])).acting
    assert acting is not None
    assert (acting.mandate, acting.subject) == (mandate, claims["sub"])
    assert acting.person.claims.reveal()["name"] == "李芳"


async def test_a_mandate_that_is_revoked_ends_the_token_that_rests_on_it(exchanging: World) -> None:
    """Guarded by `in_force` in `standing.stands`: it is asked about with every use."""
    world, portals = exchanging, await signed_on(exchanging)
    mandate = await mandated(world)
    _, body = await exchanged(world, portals["access_token"], mandate=mandate)
    assert (await world.caller(body["access_token"])).client_id == "agency"
    await world.mandates.revoke(mandate, by="agency", who={"client": "agency"})
    with pytest.raises(NotAuthenticated):
        await world.caller(body["access_token"])
    assert await introspected(world, body["access_token"]) == {"active": False}


async def test_a_mandate_serves_nobody_but_its_agent_in_its_term(exchanging: World) -> None:
    """Guarded by `Mandates.serving`; the answer says nothing of which mandates there are."""
    world, portals = exchanging, await signed_on(exchanging)
    anothers = await mandated(world, agent="440106198806150019")
    later = await mandated(world, valid_from=world.clock() + timedelta(hours=1))
    for mandate in (anothers, later, "MD" + "0" * 32, "x"):
        status, body = await exchanged(world, portals["access_token"], mandate=mandate)
        assert (status, body["error"]) == (400, "invalid_grant"), mandate


# --- freshness and levels ------------------------------------------------------------------------------------------


async def test_the_region_is_told_how_sure_and_how_fresh_the_sign_on_must_be(world: World) -> None:
    extra: dict[str, str | None] = {"prompt": "login", "acr_values": "urn:pearl:assurance:A3"}
    await Browser(world).sign_on(Request(extra=extra))
    begun = world.providers["guangdong"].begun[-1]
    assert (begun.levels, begun.preferred, begun.fresh) == ([], ["L3"], True)
    demanded = json.dumps({"id_token": {"acr": {"essential": True, "value": "urn:pearl:assurance:A2"}}})
    await Browser(world).sign_on(Request(extra={"claims": demanded}))
    begun = world.providers["guangdong"].begun[-1]
    assert (begun.levels, begun.preferred, begun.fresh) == (["L2", "L3"], [], False)


async def test_a_region_that_lets_an_old_sign_on_in_does_not_satisfy_a_wish_for_a_new_one(world: World) -> None:
    """Guarded by `proved_since` in `authorization.Authorization.complete`."""
    long_ago = world.clock() - timedelta(hours=1)
    world.providers["guangdong"].more = {"authenticated_at": long_ago}
    for extra in ({"prompt": "login"}, {"max_age": "60"}):
        back = await Browser(world).sign_on(Request(extra=dict(extra)))
        assert (back["error"], "code" in back) == ("login_required", False)
    back = await Browser(world).sign_on(Request())
    assert "code" in back


async def test_a_proof_of_unstated_time_is_not_fresh_for_max_age(world: World) -> None:
    """Guarded by `_proved_at` in `broker`: the region may have answered from a session of hours ago, perhaps another's.

    Without `max_age` such a sign-on counts, and with it the region is asked for a proof made now, and states its time.
    """
    browser, provider = Browser(world), world.providers["guangdong"]
    provider.more = {"authenticated_at": None}
    assert "code" in await browser.sign_on(Request())
    assert "code" in parameters(await browser.to(Request(extra={"prompt": "none"}).url()))
    aged = Request(extra={"max_age": "300"})
    silent = Request(extra={"max_age": "300", "prompt": "none"})
    assert parameters(await browser.to(silent.url()))["error"] == "login_required"
    assert (await browser.to(aged.url())).startswith("/sign-in?")
    provider.more = {}
    assert "code" in await browser.sign_on(aged)
    assert provider.begun[-1].fresh
    assert "code" in parameters(await browser.to(silent.url()))


async def test_a_region_that_never_states_the_time_satisfies_no_wish_for_a_new_proof(world: World) -> None:
    """Guarded by `proved_since`, whatever an adapter lets pass; the service hears of it and nobody goes in circles."""
    world.providers["guangdong"].more = {"authenticated_at": None}
    for extra in ({"prompt": "login"}, {"max_age": "300"}):
        back = await Browser(world).sign_on(Request(extra=dict(extra)))
        assert (back["error"], "code" in back) == ("login_required", False)


async def test_the_tokens_of_a_proof_of_unstated_time_do_not_say_that_it_was_made_now(world: World) -> None:
    """A service that reads `auth_time` by itself must come to the same conclusion as this gateway."""
    world.providers["guangdong"].more = {"authenticated_at": None}
    body = await signed_on(world)
    earliest = int((world.clock() - OLDEST_PROOF).timestamp())
    access = world.service.parts.tokens.verify(body["access_token"])
    assert [access["auth_time"], claims_of(world, body["id_token"])["auth_time"]] == [earliest, earliest]


async def test_a_wish_for_a_level_leads_to_a_new_sign_on_and_binds_nobody(world: World) -> None:
    """`acr_values` is voluntary (Core §3.1.2.1): worth a step up, but no reason to refuse what comes of it."""
    browser = Browser(world)
    await browser.sign_on(Request())
    again = Request(extra={"acr_values": "urn:pearl:assurance:A3"})
    assert (await browser.to(again.url())).startswith("/sign-in?")
    assert "code" in await browser.sign_on(again)


async def test_a_browser_that_stays_away_too_long_is_asked_again(world: World) -> None:
    """Guarded by `last_used_at > bindparam("idle")` in `records._LIVE_IN_BROWSER`."""
    browser, idle = Browser(world), world.service.parts.settings.idle_seconds
    await browser.sign_on(Request())
    for _ in range(2):  # being there moves the limit
        world.clock.advance(idle * 0.6)
        assert "code" in parameters(await browser.to(Request().url()))
    world.clock.advance(idle + 1)
    assert (await browser.to(Request().url())).startswith("/sign-in?")


# --- claims --------------------------------------------------------------------------------------------------------


async def test_single_claims_go_where_they_were_asked_for_and_nowhere_else(world: World) -> None:
    claims = '{"id_token": {"name": null}, "userinfo": {"birthdate": {"essential": true}}}'
    body = await signed_on(world, Request(scope="openid", extra={"claims": claims}))
    id_token = claims_of(world, body["id_token"])
    userinfo = await (await world.userinfo(body["access_token"])).json()
    assert (id_token["name"], "birthdate" in id_token) == ("李芳", False)
    assert (userinfo["birthdate"], "name" in userinfo) == ("1949-12-31", False)


async def test_who_signs_on_for_an_organisation_brings_it_along_and_is_another_subject(world: World) -> None:
    """Person, organisation and role; a service must not take the handler's private account for the firm's."""
    world.clients["portal"] = a_client("portal", scopes=frozenset({"openid", "profile", "organisation"}))
    alone = claims_of(world, (await signed_on(world))["id_token"])["sub"]
    firm = {"name": "珠江示例有限公司", "document": {"type": "USCC", "number": "91440101MA5T00010Q"}}
    world.providers["guangdong"].more = {"organisation": firm, "role": "handler"}
    body = await signed_on(world, Request(scope="openid profile organisation"))
    userinfo = await (await world.userinfo(body["access_token"])).json()
    assert userinfo["organisation"] == {**firm, "role": "handler"}
    assert userinfo["sub"] != alone


async def test_linked_accounts_go_out_under_the_names_by_which_the_service_knows_them(
    tmp_path: Path, keys: Mapping[str, Any]
) -> None:
    """Only when asked for; at the lower of both levels; and gone with the link, whatever the token is worth."""
    store = await SqliteStore.open(str(tmp_path / "linked.db"))
    await store.migrate()
    sides = [Side("hongkong", "ref", "hk-1", Assurance.A1)]
    async with open_world(tmp_path, keys, store, links=lambda _tx, _region, _ref: sides) as world:
        scopes = frozenset({"openid", "profile", "linked"})
        world.clients["portal"] = a_client("portal", scopes=scopes)
        unasked = await (await world.userinfo((await signed_on(world))["access_token"])).json()
        assert LINKED not in unasked
        body = await signed_on(world, Request(scope="openid linked"))
        told = (await (await world.userinfo(body["access_token"])).json())[LINKED]
        world.providers["hongkong"].subject = "hk-1"
        back = await Browser(world).sign_on(request := Request(), "hongkong")
        _, theirs = await world.token(**request.redemption(back["code"]))
        assert told == [
            {"region": "hongkong", "sub": claims_of(world, theirs["id_token"])["sub"], "acr": Assurance.A1.acr}
        ]
        sides.clear()
        assert LINKED not in await (await world.userinfo(body["access_token"])).json()
    await store.close()


@asynccontextmanager
async def linked_world(
    folder: Path, keys: Mapping[str, Any], sides: Sequence[Side], recognition: Recognition | None = None
) -> AsyncIterator[World]:
    """Run a world where whoever signs on has linked these accounts, and a portal that may be told."""
    store = await SqliteStore.open(str(folder / "linked.db"))
    await store.migrate()
    async with open_world(
        folder, keys, store, links=lambda _tx, _region, _ref: sides, recognition=recognition
    ) as world:
        world.clients["portal"] = a_client("portal", scopes=frozenset({"openid", "linked"}))
        yield world
    await store.close()


async def told_of(world: World, body: Mapping[str, Any]) -> list[str]:
    """Return the regions of the linked accounts that userinfo tells of."""
    told = await (await world.userinfo(body["access_token"])).json()
    return [account["region"] for account in told.get(LINKED, [])]


async def test_an_account_of_a_closed_region_is_vouched_for_by_no_link(tmp_path: Path, keys: Mapping[str, Any]) -> None:
    """A link made with a stolen key would otherwise outlive the closing. It is not ended: the person made it.

    Guarded by `closed_regions` in `LinkedAccounts.counting`.
    """
    async with linked_world(tmp_path, keys, [Side("hongkong", "ref", "hk-1", Assurance.A2)]) as world:
        body = await signed_on(world, Request(scope="openid linked"))
        assert await told_of(world, body) == ["hongkong"]
        await world.service.switches.close("hongkong", "key leaked", "li")
        assert await told_of(world, body) == []
        await world.service.switches.open("hongkong", "new key", "li")
        assert await told_of(world, body) == ["hongkong"]


@pytest.mark.parametrize("region", ["macau", "foshan"])
async def test_an_account_of_a_region_that_signs_nobody_on_here_is_not_told_of(
    tmp_path: Path, keys: Mapping[str, Any], region: str
) -> None:
    """Its region was taken out of the configuration, or its sign-on was, after the link was made."""
    recognised = Line.model_validate({**COUNTS, "regions": ["guangdong", "macau", "foshan"]})
    sides = [Side(region, "ref", "subject", Assurance.A2)]
    async with linked_world(tmp_path, keys, sides, Recognition({1: recognised})) as world:
        assert await told_of(world, await signed_on(world, Request(scope="openid linked"))) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({}, ["hongkong"]),
        ({"least": "A2"}, ["hongkong"]),
        ({"least": "A3"}, []),  # the link promises A2, whatever the sign-on there could reach
        ({"services": ["shop"]}, []),
        ({"kinds": ["organisation"]}, []),
        ({"regions": ["guangdong"]}, []),
        ({"until": date(2026, 5, 1)}, []),
    ],
)
async def test_an_account_whose_sign_on_would_not_count_for_the_service_is_not_told_of(
    tmp_path: Path, keys: Mapping[str, Any], line: dict[str, Any], told: list[str]
) -> None:
    """A link is no way around the matrix. Guarded by `_recognised` in `LinkedAccounts.counting`."""
    home = Line.model_validate({**COUNTS, "regions": ["guangdong"]})
    away = Line.model_validate({**COUNTS, "regions": ["hongkong"], **line})
    sides = [Side("hongkong", "ref", "hk-1", Assurance.A2)]
    async with linked_world(tmp_path, keys, sides, Recognition({1: home, 2: away})) as world:
        assert await told_of(world, await signed_on(world, Request(scope="openid linked"))) == told
