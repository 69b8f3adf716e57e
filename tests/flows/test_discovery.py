"""Discovery tells the truth: every member of the metadata is held against what the provider does.

What is listed works, and what is not listed is refused with the error of the standard. A member that this module does
not know fails the first test: whoever adds one says here how it is true.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import warnings
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from sqlalchemy import select

from gateway.config import Listen
from gateway.crypto.jose import verified_claims
from gateway.crypto.signing import ALGORITHMS as SIGNING
from gateway.crypto.signing import KeyRing, PemKey
from gateway.domain.languages import LANGUAGES
from gateway.identity.clients import TOKEN_EXCHANGE, GrantType
from gateway.identity.grants import ACCESS_TOKEN
from gateway.identity.logout_records import Party
from gateway.identity.mtls import Authorities
from gateway.identity.persons import CLAIM_NAMES, IDENTITY_SCOPES
from gateway.minting import signing_key
from gateway.storage import Store
from gateway.storage.sqlite import SqliteStore
from gateway.storage.tables import logout_parties
from tests.support.certificates import Holder, certificate
from tests.support.sign_on import (
    ISSUER,
    PERSON,
    Browser,
    Request,
    World,
    a_client,
    a_config,
    agency_keys,
    open_world,
    parameters,
    published,
)

RING = KeyRing([PemKey(signing_key(algorithm)) for algorithm in SIGNING])
"""One key of each algorithm: what discovery may list at the most."""
CA = certificate("CN=Authority", ca=True)
NAMED = certificate("CN=named", CA)
OWN = certificate("CN=own")
EVERY_GRANT: frozenset[GrantType] = frozenset(
    {"authorization_code", "refresh_token", "client_credentials", TOKEN_EXCHANGE}
)
ORGANISATION = {"name": "甲公司", "document": {"type": "USCC", "number": "91440101MA59A1B12C"}}
SAYS = {"name_latin": "LI FANG", "email": "li.fang@example.org"}

LINKED = {"linked_accounts"}
"""Claims of whoever has linked an account: flows/test_tokens."""

HELD = {
    "issuer": "test_both_addresses_tell_the_same_and_name_the_issuer",
    **dict.fromkeys(
        [
            "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "end_session_endpoint",
            "pushed_authorization_request_endpoint", "introspection_endpoint", "revocation_endpoint",
        ],
        "test_every_endpoint_answers_to_its_methods_and_to_no_others",
    ),
    "grant_types_supported": "test_a_grant_type_that_is_listed_works_and_no_other",
    "response_types_supported": "test_response_types_and_modes_that_are_listed_work_and_no_others",
    "response_modes_supported": "test_response_types_and_modes_that_are_listed_work_and_no_others",
    "prompt_values_supported": "test_a_prompt_that_is_listed_works_and_no_other",
    "scopes_supported": "test_a_scope_that_is_listed_is_granted_to_a_person_and_no_other",
    "claims_supported": "test_a_claim_that_is_listed_can_be_had_and_no_other",
    "claims_parameter_supported": "test_a_claim_that_is_listed_can_be_had_and_no_other",
    "claim_types_supported": "test_a_claim_that_is_listed_can_be_had_and_no_other",
    "acr_values_supported": "test_a_level_that_is_listed_can_be_demanded_and_no_other",
    "subject_types_supported": "test_two_clients_hear_two_names_of_one_person",
    "code_challenge_methods_supported": "test_a_challenge_that_is_listed_works_and_no_other",
    **{f"{endpoint}_endpoint_auth_methods_supported": "test_a_way_to_prove_oneself_that_is_listed_works_and_no_other"
       for endpoint in ("token", "introspection", "revocation")},
    **{f"{endpoint}_endpoint_auth_signing_alg_values_supported": "test_an_algorithm_for_assertions_that_is_listed_works"
       for endpoint in ("token", "introspection", "revocation")},
    "dpop_signing_alg_values_supported": "test_an_algorithm_for_proofs_that_is_listed_works_and_no_other",
    "id_token_signing_alg_values_supported": "test_an_id_token_can_be_had_in_every_algorithm_that_is_listed",
    "ui_locales_supported": "test_a_language_that_is_listed_is_spoken_and_no_other",
    "request_parameter_supported": "test_what_is_said_not_to_be_supported_is_refused_by_its_name",
    "request_uri_parameter_supported": "test_what_is_said_not_to_be_supported_is_refused_by_its_name",
    "require_pushed_authorization_requests": "test_a_request_need_not_be_pushed",
    "tls_client_certificate_bound_access_tokens": "test_tokens_are_bound_to_a_certificate_where_it_says_so",
    "authorization_response_iss_parameter_supported": "test_a_request_need_not_be_pushed",
    "backchannel_logout_supported": "test_a_service_is_told_of_the_end_by_the_session_that_it_knows",
    "backchannel_logout_session_supported": "test_a_service_is_told_of_the_end_by_the_session_that_it_knows",
}  # fmt: skip
"""Member → the test that holds it against what happens."""


@dataclass
class Provider:
    """A provider with everything that it can have, and what it says of itself."""

    world: World
    told: dict[str, Any]

    async def code(self, request: Request, browser: Browser | None = None) -> dict[str, str]:
        return parameters(await (browser or Browser(self.world)).through(request.url()))

    async def tokens(self, request: Request, **more: str) -> dict[str, Any]:
        back = await self.code(request)
        status, body = await self.world.token(**request.redemption(back["code"]), **more)
        assert status == 200, body
        return body


@pytest.fixture(scope="module")
def keys() -> Mapping[str, Any]:
    return agency_keys()


@pytest.fixture
async def provider(tmp_path: Path, keys: Mapping[str, Any], sqlite_store: Store) -> AsyncIterator[Provider]:
    listen = Listen(proxies=("127.0.0.0/8",), client_ca=tmp_path / "ca.pem")
    config = a_config(tmp_path).model_copy(update={"listen": listen})
    async with open_world(
        tmp_path, keys, sqlite_store, config=config, authorities=Authorities([CA.certificate]), signer=RING
    ) as world:
        scopes = frozenset({*IDENTITY_SCOPES, "submissions"})
        grants: frozenset[GrantType] = frozenset({"authorization_code", "refresh_token"})
        world.clients["portal"] = a_client(
            "portal", scopes=scopes, grant_types=grants, backchannel_logout_uri="https://service.test/logout"
        )
        for name in keys:
            world.clients[name] = replace(
                world.clients[name], grant_types=EVERY_GRANT, exchanges_from=frozenset({"portal"})
            )
        world.clients["named"] = a_client(
            "named", authentication="tls_client_auth", tls_client_auth_subject_dn="CN=named", grant_types=EVERY_GRANT,
            scopes=scopes,
        )  # fmt: skip
        world.clients["own"] = a_client(
            "own", OWN.registered(), authentication="self_signed_tls_client_auth",
            tls_client_certificate_bound_access_tokens=True,
        )  # fmt: skip
        world.providers["guangdong"].says = SAYS
        told = await (await world.http.get("/.well-known/openid-configuration")).json()
        yield Provider(world, told)


def shown(holder: Holder) -> dict[str, str]:
    """Return the header by which the proxy in front passes a certificate on (RFC 9440)."""
    return {"Client-Cert": f":{base64.b64encode(holder.der).decode()}:"}


# --- all of it -------------------------------------------------------------------------------------------------------


async def test_every_member_is_held_against_what_happens(provider: Provider) -> None:
    assert set(provider.told) == set(HELD)
    assert [name for name in HELD.values() if name not in globals()] == []


async def test_both_addresses_tell_the_same_and_name_the_issuer(provider: Provider) -> None:
    for path in ("openid-configuration", "oauth-authorization-server"):
        answer = await provider.world.http.get(f"/.well-known/{path}")
        assert (answer.status, answer.content_type, await answer.json()) == (200, "application/json", provider.told)
    assert provider.told["issuer"] == ISSUER


# --- endpoints -------------------------------------------------------------------------------------------------------

METHODS = {
    "authorization_endpoint": {"GET", "POST"},
    "token_endpoint": {"POST"},
    "userinfo_endpoint": {"GET", "POST"},
    "jwks_uri": {"GET", "HEAD"},
    "end_session_endpoint": {"GET", "POST"},
    "pushed_authorization_request_endpoint": {"POST"},
    "introspection_endpoint": {"POST"},
    "revocation_endpoint": {"POST"},
}


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_every_endpoint_answers_to_its_methods_and_to_no_others(provider: Provider, name: str) -> None:
    address = provider.told[name]
    assert address.startswith(ISSUER + "/oauth2/")
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = await provider.world.http.request(method, address.removeprefix(ISSUER), allow_redirects=False)
        if method in METHODS[name]:
            assert answer.status not in {404, 405, 500}
        else:
            assert answer.status == 405
            assert set(answer.headers["Allow"].split(",")) == METHODS[name]


# --- grants, responses, prompts --------------------------------------------------------------------------------------


async def test_a_grant_type_that_is_listed_works_and_no_other(provider: Provider) -> None:
    world, body = provider.world, await provider.tokens(Request())
    forms: dict[str, dict[str, str]] = {
        "refresh_token": {"refresh_token": body["refresh_token"], "client_id": "portal"},
        "client_credentials": world.signed(),
        TOKEN_EXCHANGE: {
            "subject_token": body["access_token"], "subject_token_type": ACCESS_TOKEN, **world.signed(),
        },
    }  # fmt: skip
    assert set(provider.told["grant_types_supported"]) == {"authorization_code", *forms}
    for name in (TOKEN_EXCHANGE, "client_credentials", "refresh_token"):
        assert (await world.token(grant_type=name, **forms[name]))[0] == 200, name
    for name in ("password", "implicit", "urn:ietf:params:oauth:grant-type:jwt-bearer", "AUTHORIZATION_CODE",
                 "urn:ietf:params:oauth:grant-type:device_code", "urn:openid:params:grant-type:ciba"):  # fmt: skip
        status, answer = await world.token(grant_type=name, **world.signed())
        assert (status, answer["error"]) == (400, "unsupported_grant_type"), name


async def test_response_types_and_modes_that_are_listed_work_and_no_others(provider: Provider) -> None:
    for name in provider.told["response_types_supported"]:
        assert "code" in await provider.code(Request(extra={"response_type": name}))
    for name in provider.told["response_modes_supported"]:
        assert "code" in await provider.code(Request(extra={"response_mode": name}))
    for name in ("token", "id_token", "code id_token", "code token", "none", "Code"):
        back = parameters(await Browser(provider.world).to(Request(extra={"response_type": name}).url()))
        assert back["error"] == "unsupported_response_type"
    for name in ("fragment", "form_post", "query.jwt", "jwt", "web_message"):
        back = parameters(await Browser(provider.world).to(Request(extra={"response_mode": name}).url()))
        assert back["error"] == "invalid_request"


async def test_a_prompt_that_is_listed_works_and_no_other(provider: Provider) -> None:
    world, browser = provider.world, Browser(provider.world)
    assert set(provider.told["prompt_values_supported"]) == {"none", "login", "select_account", "consent"}

    async def led(prompt: str) -> str:
        return await browser.to(Request(extra={"prompt": prompt}).url())

    assert parameters(await led("none"))["error"] == "login_required"
    await browser.sign_on(Request())
    assert "code" in parameters(await led("none"))
    for prompt in ("login", "select_account"):
        assert urlsplit(await led(prompt)).path == "/sign-in"
    world.clients["portal"] = replace(world.clients["portal"], consent="ask")
    assert urlsplit(await led("consent")).path == "/sign-in/consent"
    assert parameters(await led("none"))["error"] == "consent_required"
    for prompt in ("create", "None", "none login", "consent x"):
        assert parameters(await led(prompt))["error"] == "invalid_request"


async def test_a_request_need_not_be_pushed(provider: Provider) -> None:
    """Unless the client's registration says so; either way the answer says who it is from (RFC 9207)."""
    assert provider.told["require_pushed_authorization_requests"] is False
    assert provider.told["authorization_response_iss_parameter_supported"] is True
    status, pushed = await provider.world.post("/oauth2/par", Request().fields())
    assert status == 201
    uri = urlencode({"client_id": "portal", "request_uri": pushed["request_uri"]})
    for url in (Request().url(), f"/oauth2/authorize?{uri}"):
        assert parameters(await Browser(provider.world).through(url))["iss"] == ISSUER


async def test_what_is_said_not_to_be_supported_is_refused_by_its_name(provider: Provider) -> None:
    for name, value in (("request", "e30.e30."), ("request_uri", "https://service.test/request")):
        assert provider.told[f"{name}_parameter_supported"] is False
        back = parameters(await Browser(provider.world).to(Request(extra={name: value}).url()))
        assert back["error"] == f"{name}_not_supported"


async def test_a_challenge_that_is_listed_works_and_no_other(provider: Provider) -> None:
    assert provider.told["code_challenge_methods_supported"] == ["S256"]
    assert "code" in await provider.code(Request())
    for name in ("plain", "s256", "S512"):
        back = parameters(await Browser(provider.world).to(Request(extra={"code_challenge_method": name}).url()))
        assert back["error"] == "invalid_request"


# --- what is said of people ------------------------------------------------------------------------------------------


async def test_a_scope_that_is_listed_is_granted_to_a_person_and_no_other(provider: Provider) -> None:
    """Scopes of the API are not of a person: a sign-on never grants them, whatever the client is registered for."""
    for scope in provider.told["scopes_supported"]:
        body = await provider.tokens(Request(scope=f"openid {scope} offline_access submissions nonsense"))
        assert set(body["scope"].split()) == {"openid", scope}
    back = parameters(await Browser(provider.world).to(Request(scope="profile").url()))
    assert back["error"] == "invalid_scope"


async def test_a_claim_that_is_listed_can_be_had_and_no_other(provider: Provider) -> None:
    """Those of the ID token stand in it; those of the person can be asked for one by one, at either place."""
    world = provider.world
    world.providers["guangdong"].more = {"organisation": ORGANISATION, "role": "handler"}
    assert provider.told["claims_parameter_supported"] is True
    assert provider.told["claim_types_supported"] == ["normal"]
    wanted = dict.fromkeys([*provider.told["claims_supported"], "address", "picture", "email_verified"])
    body = await provider.tokens(
        Request(scope="openid", extra={"claims": json.dumps({"id_token": wanted, "userinfo": wanted})})
    )
    told = claims_of(body["id_token"])
    assert set(told) == set(provider.told["claims_supported"]) - LINKED
    userinfo = await (await world.userinfo(body["access_token"])).json()
    assert set(userinfo) == {"sub", *CLAIM_NAMES} - LINKED
    assert (userinfo["email"], userinfo["phone_number"]) == (SAYS["email"], PERSON["mobile"])
    assert not {"_claim_names", "_claim_sources"} & {*told, *userinfo}


async def test_a_level_that_is_listed_can_be_demanded_and_no_other(provider: Provider) -> None:
    words = {"A0": "L0", "A1": "L1", "A2": "L2", "A3": "L3"}
    assert [acr.rpartition(":")[2] for acr in provider.told["acr_values_supported"]] == list(words)
    for acr in provider.told["acr_values_supported"]:
        provider.world.providers["guangdong"].level = words[acr.rpartition(":")[2]]
        body = await provider.tokens(Request(extra={"claims": demanded(acr)}))
        assert claims_of(body["id_token"])["acr"] == acr
    for acr in ("urn:pearl:assurance:A4", "urn:pearl:assurance:a2", "phr", "0"):
        back = parameters(await Browser(provider.world).to(Request(extra={"claims": demanded(acr)}).url()))
        assert back["error"] == "unmet_authentication_requirements"


def demanded(acr: str) -> str:
    return json.dumps({"id_token": {"acr": {"essential": True, "values": [acr]}}})


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


async def test_two_clients_hear_two_names_of_one_person(provider: Provider) -> None:
    assert provider.told["subject_types_supported"] == ["pairwise"]
    provider.world.clients["other"] = a_client("other")
    one, other = [claims_of((await provider.tokens(Request(client_id=name)))["id_token"])["sub"] for name in
                  ("portal", "other")]  # fmt: skip
    assert one != other
    assert one == claims_of((await provider.tokens(Request()))["id_token"])["sub"]


async def test_a_language_that_is_listed_is_spoken_and_no_other(provider: Provider) -> None:
    for language in [*provider.told["ui_locales_supported"], "fr", "tlh"]:
        browser = Browser(provider.world)
        page = await (await browser.get(await browser.to(Request(extra={"ui_locales": language}).url()))).text()
        spoken = language if language in provider.told["ui_locales_supported"] else LANGUAGES[0]
        assert f'<html lang="{spoken}"' in page


# --- how clients prove themselves ------------------------------------------------------------------------------------

ENDPOINTS = ("token", "introspection", "revocation")


def asking(provider: Provider, endpoint: str) -> tuple[str, dict[str, str]]:
    path = urlsplit(provider.told[f"{endpoint}_endpoint"]).path
    return path, {"grant_type": "refresh_token", "refresh_token": "x"} if endpoint == "token" else {"token": "x"}


def is_known(answer: tuple[int, dict[str, Any]]) -> bool:
    """Say whether a client was let in: what it asked for is nonsense."""
    return answer[1].get("error") in {None, "invalid_grant", "unauthorized_client"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_way_to_prove_oneself_that_is_listed_works_and_no_other(provider: Provider, endpoint: str) -> None:
    """A public client has nothing to introspect with (RFC 7662 §2.1)."""
    world, (path, form) = provider.world, asking(provider, endpoint)
    ways = {
        "private_key_jwt": (world.signed(), {}),
        "tls_client_auth": ({"client_id": "named"}, shown(NAMED)),
        "self_signed_tls_client_auth": ({"client_id": "own"}, shown(OWN)),
        "none": ({"client_id": "portal"}, {}),
    }
    listed = provider.told[f"{endpoint}_endpoint_auth_methods_supported"]
    assert set(listed) == set(ways) - ({"none"} if endpoint == "introspection" else set())
    for name, (fields, headers) in ways.items():
        assert is_known(await world.post(path, {**form, **fields}, headers)) == (name in listed), name
    secret = base64.b64encode(b"agency:secret").decode()
    for fields, headers in (
        ({}, {"Authorization": f"Basic {secret}"}),
        ({"client_id": "agency", "client_secret": "secret"}, {}),
        ({"client_id": "portal", "client_secret": "secret"}, {"Authorization": f"Basic {secret}"})
        if endpoint == "introspection" else ({"client_id": "agency"}, {}),
        ({"client_id": "named"}, {}),
        ({"client_id": "named"}, shown(OWN)),
        ({"client_id": "own"}, shown(NAMED)),
        ({"client_id": "agency"}, shown(NAMED)),
    ):  # fmt: skip
        status, body = await world.post(path, {**form, **fields}, headers)
        assert (status in {400, 401}, body["error"]) == (True, "invalid_client"), fields


async def test_without_certificates_no_way_by_certificate_is_listed_or_works(
    tmp_path: Path, keys: Mapping[str, Any]
) -> None:
    store = await SqliteStore.open(str(tmp_path / "plain.db"))
    await store.migrate()
    async with open_world(tmp_path, keys, store) as world:
        told = await (await world.http.get("/.well-known/openid-configuration")).json()
        assert told["token_endpoint_auth_methods_supported"] == ["private_key_jwt", "none"]
        assert told["tls_client_certificate_bound_access_tokens"] is False
        assert told["id_token_signing_alg_values_supported"] == ["ES256"]
        world.clients["own"] = a_client("own", OWN.registered(), authentication="self_signed_tls_client_auth")
        form = {"grant_type": "client_credentials", "client_id": "own"}
        assert (await world.post("/oauth2/token", form, shown(OWN)))[1]["error"] == "invalid_client"
    await store.close()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_algorithm_for_assertions_that_is_listed_works(provider: Provider, endpoint: str) -> None:
    """What is not listed is refused with the right key, too: flows/test_attacks."""
    world, (path, form) = provider.world, asking(provider, endpoint)
    kind = world.signed()["client_assertion_type"]
    client = {"ES256": "agency", "PS256": "rsa", "EdDSA": "okp", "Ed25519": "okp"}
    listed = provider.told[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]
    assert set(listed) == set(client)
    for algorithm in listed:
        signed = quietly(lambda algorithm=algorithm: world.assertion(client[algorithm], algorithm=algorithm))
        fields = {"client_assertion_type": kind, "client_assertion": signed}
        assert is_known(await world.post(path, {**form, **fields})), algorithm


def quietly(make: Any) -> str:
    """Sign; joserfc warns of the name EdDSA, which leaves the curve open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return str(make())


async def test_an_algorithm_for_proofs_that_is_listed_works_and_no_other(provider: Provider) -> None:
    world, rsa, okp = provider.world, RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519")
    made: dict[str, Any] = {
        "ES256": ECKey.generate_key("P-256"), "PS256": rsa, "EdDSA": okp, "Ed25519": okp, "RS256": rsa, "PS512": rsa,
        "ES384": ECKey.generate_key("P-384"),
    }  # fmt: skip
    listed = provider.told["dpop_signing_alg_values_supported"]
    assert set(listed) == {"ES256", "PS256", "EdDSA", "Ed25519"}
    for algorithm, key in made.items():
        claims = {
            "htm": "POST", "htu": ISSUER + "/oauth2/token", "iat": world.clock.stamp(), "jti": secrets.token_hex(8),
            "nonce": world.service.nonces.current(world.clock()),
        }  # fmt: skip
        header = {"typ": "dpop+jwt", "alg": algorithm, "jwk": key.as_dict(private=False)}
        proof = quietly(lambda h=header, c=claims, k=key, a=algorithm: jwt.encode(h, c, k, registry=registry(a)))
        form = {"grant_type": "client_credentials", **world.signed()}
        status, body = await world.post("/oauth2/token", form, {"DPoP": proof})
        assert (status, body.get("error")) == ((200, None) if algorithm in listed else (400, "invalid_dpop_proof"))


def registry(algorithm: str) -> JWSRegistry:
    """Return rules that let a header carry an RSA key."""
    rules = JWSRegistry(algorithms=[algorithm])
    rules.max_header_length = 4096
    return rules


async def test_an_id_token_can_be_had_in_every_algorithm_that_is_listed(provider: Provider) -> None:
    """Each client gets the one that it is registered for, and the key is published."""
    listed = provider.told["id_token_signing_alg_values_supported"]
    assert set(listed) == set(SIGNING)
    keys = published(await (await provider.world.http.get("/oauth2/jwks")).json())
    for algorithm in listed:
        provider.world.clients["signed"] = a_client("signed", id_token_signed_response_alg=algorithm)
        token = (await provider.tokens(Request(client_id="signed")))["id_token"]
        assert verified_claims(token, keys, algorithms=[algorithm], types=["jwt"])["aud"] == "signed"


async def test_tokens_are_bound_to_a_certificate_where_it_says_so(provider: Provider) -> None:
    world = provider.world
    assert provider.told["tls_client_certificate_bound_access_tokens"] is True
    form = {"grant_type": "client_credentials", "client_id": "own"}
    _, body = await world.post("/oauth2/token", form, shown(OWN))
    digest = base64.urlsafe_b64encode(hashlib.sha256(OWN.der).digest()).rstrip(b"=").decode()
    assert claims_of(body["access_token"])["cnf"] == {"x5t#S256": digest}


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_a_service_is_told_of_the_end_by_the_session_that_it_knows(provider: Provider) -> None:
    """Back-channel logout with `sid`; that it is delivered, and how it is signed: flows/test_logout."""
    assert provider.told["backchannel_logout_supported"] is True
    assert provider.told["backchannel_logout_session_supported"] is True
    world, browser, request = provider.world, Browser(provider.world), Request()
    back = await browser.sign_on(request)
    _, body = await world.token(**request.redemption(back["code"]))
    assert (await browser.get(f"/oauth2/logout?{urlencode({'id_token_hint': body['id_token']})}")).status == 302
    parties = await world.store.read(lambda tx: list(tx.execute(select(logout_parties)).mappings()))
    (party,) = [row for row in parties if row["party"] == "client:portal"]
    known = Party(party["logout_id"], party["party"], party["state"], message=party["message"], due=party["due"])
    told = claims_of(body["id_token"])
    assert world.service.logouts.message_of(known) == {"sub": told["sub"], "sid": told["sid"]}
