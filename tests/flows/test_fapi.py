"""One switch, `profile = "fapi2"`: what the FAPI 2.0 Security Profile forbids cannot be done, and what it wants works.

Sections are those of the FAPI 2.0 Security Profile (final). The registration's own rules are held in
unit/test_identity_clients, the single proofs in unit/test_identity_dpop and unit/test_identity_mtls.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from aiohttp import ClientResponse
from pydantic import ValidationError

from gateway.config import Listen, SignOnSettings
from gateway.errors import StartRefused
from gateway.identity.clients import GrantType, Surroundings, checked
from gateway.storage import Store
from tests.support.certificates import certificate
from tests.support.sign_on import (
    ISSUER,
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

GRANTS: frozenset[GrantType] = frozenset({"authorization_code", "refresh_token", "client_credentials"})
CERTIFICATE = certificate("CN=bank")
SHOWN = {"Client-Cert": f":{base64.b64encode(CERTIFICATE.der).decode()}:"}
ANOTHER = {"Client-Cert": f":{base64.b64encode(certificate('CN=bank').der).decode()}:"}


@pytest.fixture(scope="module")
def keys() -> Mapping[str, Any]:
    return agency_keys()


@pytest.fixture
async def world(tmp_path: Path, keys: Mapping[str, Any], sqlite_store: Store) -> AsyncIterator[World]:
    config = a_config(tmp_path).model_copy(update={"listen": Listen(proxies=("127.0.0.0/8",))})
    async with open_world(tmp_path, keys, sqlite_store, config=config) as opened:
        for name in ("agency", "rsa"):
            opened.clients[name] = a_client(
                name, opened.clients[name].keys, profile="fapi2", dpop_bound_access_tokens=True, grant_types=GRANTS
            )
        opened.clients["bank"] = a_client(
            "bank", CERTIFICATE.registered(), profile="fapi2", authentication="self_signed_tls_client_auth",
            tls_client_certificate_bound_access_tokens=True, grant_types=GRANTS,
        )  # fmt: skip
        yield opened


@dataclass
class Relying:
    """A client of the profile: how it proves itself, and what it binds its tokens to."""

    world: World
    id: str
    key: DpopKey | None

    async def post(self, path: str, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        if self.key is None:
            return await self.world.post(path, {**form, "client_id": self.id}, SHOWN)
        return await self.world.post(
            path, {**form, **self.world.signed(self.id)}, {"DPoP": self.key.proof("POST", path)}
        )

    async def pushed(self, request: Request) -> str:
        """Push a request and return where to send the browser."""
        status, body = await self.post("/oauth2/par", request.fields())
        assert (status, body["expires_in"] < 600) == (201, True), body
        return f"/oauth2/authorize?{urlencode({'client_id': self.id, 'request_uri': body['request_uri']})}"

    async def userinfo(self, token: str) -> ClientResponse:
        headers = SHOWN | {"Authorization": f"Bearer {token}"}
        if self.key is not None:
            proof = self.key.proof("GET", "/oauth2/userinfo", token)
            headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
        return await self.world.http.get("/oauth2/userinfo", headers=headers)


def relying(world: World, how: str) -> Relying:
    return Relying(world, "agency", DpopKey(world)) if how == "dpop" else Relying(world, "bank", None)


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


# --- the whole way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dpop", "mtls"])
async def test_a_client_of_the_profile_goes_the_whole_way(world: World, how: str) -> None:
    """Pushed, signed on, `iss` in the answer, a bound token, userinfo, refreshed without rotation, introspected."""
    client, request = relying(world, how), Request(client_id="agency" if how == "dpop" else "bank")
    back = parameters(await Browser(world).through(await client.pushed(request)))
    assert (back["iss"], back["state"]) == (ISSUER, "s-1")
    status, body = await client.post("/oauth2/token", request.redemption(back["code"]))
    assert (status, body["token_type"]) == (200, "DPoP" if how == "dpop" else "Bearer"), body
    assert set(claims_of(body["access_token"])["cnf"]) == {"jkt" if how == "dpop" else "x5t#S256"}
    assert (await client.userinfo(body["access_token"])).status == 200
    form = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"]}
    for _ in range(2):
        status, again = await client.post("/oauth2/token", form)
        assert (status, again["refresh_token"]) == (200, body["refresh_token"])  # §5.3.2.1: no rotation
    _, worth = await client.post("/oauth2/introspect", {"token": again["access_token"]})
    assert (worth["active"], worth["cnf"]) == (True, claims_of(body["access_token"])["cnf"])
    header = json.loads(base64.urlsafe_b64decode(body["id_token"].split(".")[0] + "=="))
    assert header["alg"] in {"ES256", "PS256", "EdDSA"}
    status, _ = await client.post("/oauth2/revoke", {"token": body["refresh_token"]})
    assert (status, (await client.userinfo(again["access_token"])).status) == (200, 401)


# --- what is forbidden -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dpop", "mtls"])
async def test_no_request_of_the_profile_comes_by_the_browser(world: World, how: str) -> None:
    """§5.3.2.2: only pushed requests, each once. Guard: `_pushed_handle` in `authorization`."""
    client = relying(world, how)
    request = Request(client_id=client.id)
    more: list[dict[str, str | None]] = [
        {}, {"prompt": "none"}, {"request": "e30.e30."}, {"request_uri": "https://service.test/r"},
    ]  # fmt: skip
    for extra in more:
        answer = await Browser(world).get(Request(client_id=client.id, extra=extra).url())
        assert (answer.status, "Location" in answer.headers) == (400, False)
    url = await client.pushed(request)
    assert (await Browser(world).get(url)).status == 302
    assert (await Browser(world).get(url)).status == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"redirect_uri": "http://service.test/back?keep=1"}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
    ],
)
@pytest.mark.parametrize("how", ["dpop", "mtls"])
async def test_no_weaker_flow_can_be_pushed(world: World, how: str, changes: dict[str, str | None], error: str) -> None:
    """§5.3.2.2: the code flow with S256 and an exact redirect URI, and nothing else."""
    client = relying(world, how)
    status, body = await client.post("/oauth2/par", Request(client_id=client.id, extra=changes).fields())
    assert (status, body["error"]) == (400, error)


@pytest.mark.parametrize(
    "form", [{"grant_type": "client_credentials"}, {"grant_type": "refresh_token", "refresh_token": "x"}]
)
async def test_no_token_of_the_profile_is_a_bearer_token(world: World, form: dict[str, str]) -> None:
    """§5.3.2.1. Guarded by `Proofs._check_enough`."""
    status, body = await world.post("/oauth2/token", {**form, **world.signed()})
    assert (status, body["error"]) == (400, "use_dpop_nonce")
    for headers in ({}, ANOTHER):
        status, body = await world.post("/oauth2/token", {**form, "client_id": "bank"}, headers)
        assert (status in {400, 401}, body["error"]) == (True, "invalid_client")


@pytest.mark.parametrize("how", ["dpop", "mtls"])
async def test_a_stolen_token_of_the_profile_opens_nothing(world: World, how: str) -> None:
    """Without the key, with another key, or under the other scheme. Guarded by `Proofs.check`."""
    client = relying(world, how)
    request = Request(client_id=client.id)
    back = parameters(await Browser(world).through(await client.pushed(request)))
    _, body = await client.post("/oauth2/token", request.redemption(back["code"]))
    token, thief = body["access_token"], DpopKey(world)
    proof = thief.proof("GET", "/oauth2/userinfo", token)
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"DPoP {token}"},
        {"Authorization": f"DPoP {token}", "DPoP": proof},
        {"Authorization": f"Bearer {token}", **ANOTHER},
        {"Authorization": f"DPoP {token}", "DPoP": proof, **ANOTHER},
    ):
        assert (await world.http.get("/oauth2/userinfo", headers=headers)).status == 401
    form = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"]}
    for status, _ in (await world.token(**form), await world.token(**form, client_id=client.id)):
        assert status in {400, 401}
    assert (await client.userinfo(token)).status == 200


async def test_the_code_is_for_the_key_that_pushed_the_request(world: World) -> None:
    """RFC 9449 §10.1: whoever steals both code and verifier still lacks the key. Guarded by `_unproved`."""
    client = relying(world, "dpop")
    request = Request(client_id="agency")
    back = parameters(await Browser(world).through(await client.pushed(request)))
    other = Relying(world, "agency", DpopKey(world))
    status, body = await other.post("/oauth2/token", request.redemption(back["code"]))
    assert (status, body["error"]) == (400, "invalid_grant")


async def test_a_code_of_the_profile_lives_for_a_minute(world: World) -> None:
    """§5.3.2.2: at most 60 seconds, and no configuration allows more."""
    client = relying(world, "mtls")
    request = Request(client_id="bank")
    back = parameters(await Browser(world).through(await client.pushed(request)))
    world.clock.advance(60)
    assert (await client.post("/oauth2/token", request.redemption(back["code"])))[1]["error"] == "invalid_grant"
    with pytest.raises(ValidationError):
        SignOnSettings(code_seconds=61)


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS512"])
async def test_no_weaker_signature_proves_a_client_of_the_profile(world: World, algorithm: str) -> None:
    """§5.4.1. Guarded by `ALGORITHMS` of `assertion`."""
    key = DpopKey(world)
    kind = world.signed()["client_assertion_type"]
    form = {"grant_type": "client_credentials", "client_assertion_type": kind}
    for made, error in ((algorithm, "invalid_client"), ("PS256", None)):
        signed = world.assertion("rsa", algorithm=made)
        headers = {"DPoP": key.proof("POST", "/oauth2/token")}
        _, body = await world.post("/oauth2/token", {**form, "client_assertion": signed}, headers)
        assert body.get("error") == error


@pytest.mark.parametrize("audience", [ISSUER + "/oauth2/token", ISSUER + "/oauth2/par", [ISSUER], [ISSUER, "x"]])
async def test_the_assertion_of_the_profile_is_for_the_issuer_alone(world: World, audience: Any) -> None:
    """§5.3.2.1: one string, the issuer. Guarded by `ClientAssertion.verify_claims`."""
    kind = world.signed()["client_assertion_type"]
    proved = {"client_assertion_type": kind, "client_assertion": world.assertion(aud=audience)}
    headers = {"DPoP": DpopKey(world).proof("POST", "/oauth2/par")}
    status, body = await world.post("/oauth2/par", {**Request(client_id="agency").fields(), **proved}, headers)
    assert (status, body["error"]) == (401, "invalid_client")


async def test_errors_of_the_profile_say_who_they_are_from(world: World) -> None:
    """§5.3.2.2, RFC 9207: `iss` in the error too."""
    client = relying(world, "dpop")
    url = await client.pushed(Request(client_id="agency", extra={"prompt": "none"}))
    location = await Browser(world).to(url)
    assert urlsplit(location).hostname == "service.test"
    assert (parameters(location)["error"], parameters(location)["iss"]) == ("login_required", ISSUER)


def entry(**changes: Any) -> dict[str, Any]:
    key = CERTIFICATE.registered().as_dict(private=False)["keys"][0]
    key = {**key, "kid": "k1", "x5c": [base64.b64encode(CERTIFICATE.der).decode()]}
    known = {
        "id": "bank", "name": "bank", "organisation": "bank", "organisation_code": "11440100696927671X",
        "origin_code": "440100", "redirect_uris": ["https://service.test/back"], "grant_types": ["authorization_code"],
        "authentication": "private_key_jwt", "profile": "fapi2", "dpop_bound_access_tokens": True,
        "jwks": {"keys": [{name: value for name, value in key.items() if name != "x5c"}]},
    }  # fmt: skip
    return {name: value for name, value in {**known, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"authentication": "none", "jwks": None},
        {"dpop_bound_access_tokens": False},
        {"dpop_bound_access_tokens": None},
        {"require_pushed_requests": False},
        {"redirect_uris": ["http://service.test/back"]},
        {"post_logout_redirect_uris": ["http://service.test/bye"]},
        {"backchannel_logout_uri": "http://service.test/logout"},
        {"id_token_signed_response_alg": "RS256"},
        {"id_token_signed_response_alg": "none"},
    ],
)
def test_no_registration_mixes_the_profile_with_what_it_forbids(changes: dict[str, Any]) -> None:
    """Not even in the sandbox, where plain http may stand in other clients' addresses. Guard: `clients._mistakes`."""
    surroundings = Surroundings(ISSUER, plain_http=True)
    checked(entry(), "client", surroundings, Path())
    checked(entry(redirect_uris=["http://127.0.0.1:8400/back"]), "client", surroundings, Path())
    with pytest.raises(StartRefused):
        checked(entry(**changes), "client", surroundings, Path())
