"""Sign-on from end to end: a service, a browser, the gateway over HTTP, and regions that answer in this process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, KeySet
from sqlalchemy import func, select
from structlog.testing import capture_logs

from gateway.crypto.signing import Es256Signer
from gateway.domain.identity import Assurance
from gateway.errors import GatewayError, NotAuthenticated, RegionUnreachable, SignOnFailed
from gateway.identity.assertion import SKEW
from gateway.identity.discovery import ENDPOINTS
from gateway.identity.records import forget_expired
from gateway.storage import Store
from gateway.storage.nonces import CLOCKS_APART
from gateway.storage.tables import authorization_codes, nonces, sign_on_interactions, sign_on_sessions
from tests.support.sign_on import (
    ISSUER,
    Browser,
    Request,
    World,
    a_client,
    agency_keys,
    choice,
    open_world,
    parameters,
    pem,
    public,
    published,
)


@pytest.fixture(scope="module")
def keys() -> Mapping[str, Any]:
    return agency_keys()


@pytest.fixture
async def world(tmp_path: Path, keys: Mapping[str, Any], sqlite_store: Store) -> AsyncIterator[World]:
    async with open_world(tmp_path, keys, sqlite_store) as opened:
        yield opened


# --- the whole way ------------------------------------------------------------------------------------------------


async def test_a_person_signs_on_with_the_own_region_and_the_service_can_verify_it(world: World) -> None:
    """The promise of the product in one test; the service trusts nothing but the published keys."""
    browser, request = Browser(world), Request()
    back = await browser.sign_on(request)
    assert (back["state"], back["iss"], back["keep"]) == ("s-1", ISSUER, "1")
    status, body = await world.token(**request.redemption(back["code"]))
    assert status == 200
    keys = published(await (await world.http.get("/oauth2/jwks")).json())
    claims = jwt.decode(body["id_token"], keys, algorithms=["ES256"]).claims
    stamp = world.clock.stamp()
    registry = jwt.JWTClaimsRegistry(now=stamp, iss={"essential": True, "value": ISSUER}, exp={"essential": True})
    registry.validate(claims)
    assert (claims["aud"], claims["azp"], claims["nonce"], claims["auth_time"]) == ("portal", "portal", "n-1", stamp)
    assert (claims["acr"], claims["amr"]) == ("urn:pearl:assurance:A2", ["YSS"])
    half = hashlib.sha256(body["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    userinfo = await (await world.userinfo(body["access_token"])).json()
    assert userinfo["sub"] == claims["sub"]
    assert (userinfo["name"], userinfo["gender"], userinfo["birthdate"]) == ("李芳", "female", "1949-12-31")


async def test_the_access_token_is_an_rfc_9068_token_that_names_the_session(world: World) -> None:
    request = Request()
    back = await Browser(world).sign_on(request)
    _, body = await world.token(**request.redemption(back["code"]))
    token = jwt.decode(body["access_token"], world.service.parts.signer.key_set(), algorithms=["ES256"])
    assert token.header["typ"] == "at+jwt"
    assert token.claims["aud"] == ISSUER + "/v1"
    assert {"iss", "sub", "client_id", "iat", "exp", "jti", "scope", "sid", "acr", "auth_time"} <= token.claims.keys()
    assert body["expires_in"] == token.claims["exp"] - token.claims["iat"] == 600


async def test_two_services_know_the_same_person_under_different_names(world: World) -> None:
    """Pairwise: neither `sub` nor `sid` lets two services join what they know."""
    world.clients["other"] = a_client("other")
    browser, first, second = Browser(world), Request(), Request(client_id="other")
    back = await browser.sign_on(first)
    _, one = await world.token(**first.redemption(back["code"]))
    again = parameters(await browser.to(second.url()))
    _, two = await world.token(**second.redemption(again["code"]))
    a, b = (world.service.parts.tokens.verify(body["access_token"]) for body in (one, two))
    assert a["sub"] != b["sub"]
    assert a["sid"] != b["sid"]


async def test_a_live_session_answers_the_next_service_at_once(world: World) -> None:
    """One authentication, valid everywhere: no second trip to the region."""
    browser = Browser(world)
    await browser.sign_on(Request())
    assert "code" in parameters(await browser.to(Request().url()))
    assert len(world.providers["guangdong"].begun) == 1


async def test_a_session_that_has_run_out_answers_nothing(world: World) -> None:
    browser = Browser(world)
    await browser.sign_on(Request())
    world.clock.advance(3601)
    assert urlsplit(await browser.to(Request().url())).path == "/sign-in"


async def test_a_post_to_the_authorization_endpoint_is_asked_again_as_a_get(world: World) -> None:
    """Core §3.1.2.1 demands both methods, but a POST from another site comes without SameSite=Lax cookies.

    Taken as it is, it would hand out a new handle and end the sign-on in the browser's other tab.
    """
    browser = Browser(world)
    first_tab = await browser.to(Request().url())
    fields = Request(extra={"state": "ünïcode &=+"}).fields()
    answer = await world.http.post("/oauth2/authorize", data=fields, allow_redirects=False)
    assert (answer.status, answer.headers.getall("Set-Cookie", [])) == (303, [])
    assert parameters(answer.headers["Location"]) == fields
    assert urlsplit(await browser.to(answer.headers["Location"])).path == "/sign-in"
    assert (await browser.get(first_tab)).status == 200


@pytest.mark.parametrize("body", [b"scope=" + b"x" * 9000, b"a=1&" * 60, b"\xff\xfe", b""])
async def test_a_post_that_is_no_authorization_request_is_shown_a_page(world: World, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await world.http.post("/oauth2/authorize", data=body, headers=headers)
    assert (answer.status, answer.content_type) == (400, "text/html")


async def test_a_new_sign_on_ends_the_one_before_it_in_this_browser(world: World) -> None:
    """Shared counters: what the person before got must not live on behind the person after."""
    browser, request = Browser(world), Request()
    back = await browser.sign_on(request)
    _, body = await world.token(**request.redemption(back["code"]))
    earlier = dict(browser.cookies)
    await browser.sign_on(Request(extra={"prompt": "login"}))
    assert (await world.userinfo(body["access_token"])).status == 401
    thief = Browser(world)
    thief.cookies = earlier
    assert urlsplit(await thief.to(Request().url())).path == "/sign-in"
    assert "code" in parameters(await browser.to(Request().url()))


async def test_another_browsers_session_outlives_a_new_sign_on(world: World) -> None:
    one, other = Browser(world), Browser(world)
    await one.sign_on(Request())
    await other.sign_on(Request())
    assert "code" in parameters(await one.to(Request().url()))


async def test_a_session_that_was_ended_serves_nobody(world: World) -> None:
    """What the clerks' window does as soon as it knows who signed on."""
    browser, request = Browser(world), Request()
    back = await browser.sign_on(request)
    _, body = await world.token(**request.redemption(back["code"]))
    late = parameters(await browser.to(Request().url()))["code"]
    for handle in (None, "A" * 43, browser.cookies["__Host-pearl_session"], browser.cookies["__Host-pearl_session"]):
        await world.service.end_session(handle)
    assert urlsplit(await browser.to(Request().url())).path == "/sign-in"
    assert (await world.userinfo(body["access_token"])).status == 401
    assert (await world.token(**request.redemption(late)))[1]["error"] == "invalid_grant"


async def test_cookies_are_bound_to_this_host_and_unreadable_for_scripts(world: World) -> None:
    browser = Browser(world)
    await browser.sign_on(Request())
    handles = [
        line for line in browser.set_cookies if line.startswith(("__Host-pearl_sign_on", "__Host-pearl_session"))
    ]
    assert len({line.split("=")[0] for line in handles}) == 2
    for line in handles:
        assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} <= {part.strip() for part in line.split(";")}
        assert "domain" not in line.lower()


async def test_the_window_learns_who_signed_on_without_leaving_the_process(world: World) -> None:
    request = Request()
    back = await Browser(world).sign_on(request)
    body = await world.service.redeem(request.redemption(back["code"]))
    person = await world.service.who_signed_on(body["access_token"])
    assert (person.region, person.subject, person.assurance) == ("guangdong", "gd-1", Assurance.A2)
    assert "李芳" not in repr(person)
    with pytest.raises(SignOnFailed):
        await world.service.redeem(request.redemption(back["code"]))


async def test_nothing_that_names_a_person_or_opens_a_door_lies_readable_in_the_database(
    world: World, tmp_path: Path
) -> None:
    browser = Browser(world)
    back = await browser.sign_on(Request())
    del browser.cookies["pearl_region"]  # a region's id is no secret
    stored = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in tmp_path.glob("pearl.db*")))
    for secret in ("李芳", "11010519491231002X", "gd-1", back["code"], *browser.cookies.values()):
        assert secret.encode() not in stored


# --- requests that are refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"redirect_uri": None},
        {"redirect_uri": "https://service.test/back?keep=1&more=2"},
        {"redirect_uri": "https://service.test/back"},
        {"redirect_uri": "https://service.test.evil.test/back?keep=1"},
        {"redirect_uri": 'https://evil.test/"<script>'},
    ],
)
async def test_without_a_client_and_its_exact_redirect_uri_the_browser_is_sent_nowhere(
    world: World, changes: dict[str, str | None]
) -> None:
    """No open redirect (CVE-2026-3872): the person sees a page."""
    answer = await Browser(world).get(Request(extra=changes).url())
    text = await answer.text()
    assert answer.status == 400
    assert "Location" not in answer.headers
    assert re.findall(r'href="(?![?/#])', text) == []
    assert "<script" not in text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"scope": "nonsense"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": 'c"ö'}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.test/r"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"prompt": "perhaps"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"claims": "{"}, "invalid_request"),
        ({"claims": "[" * 1500}, "invalid_request"),
        ({"claims": "[]"}, "invalid_request"),
        ({"claims": '{"id_token": null}'}, "invalid_request"),
        ({"claims": '{"id_token": {"acr": "A2"}}'}, "invalid_request"),
        ({"claims": '{"id_token": {"acr": {"essential": true, "values": "A2"}}}'}, "invalid_request"),
        ({"claims": '{"id_token": {"sub": {"value": 7}}}'}, "invalid_request"),
        ({"claims": '{"userinfo": {"sub": {"values": [{}]}}}'}, "invalid_request"),
        ({"id_token_hint": "not.a.token"}, "invalid_request"),
        ({"id_token_hint": "é"}, "invalid_request"),
        ({"nonce": "a\x00b"}, "invalid_request"),
        ({"nonce": "n" * 5000}, "invalid_request"),
    ],
)
@pytest.mark.parametrize("client_id", ["portal", "agency"])
async def test_a_request_that_breaks_a_rule_goes_back_with_the_standard_error_state_and_issuer(
    world: World, client_id: str, changes: dict[str, str | None], error: str
) -> None:
    """Confidential clients are held to PKCE as well (Authlib lets them off)."""
    location = await Browser(world).to(Request(client_id=client_id, extra=changes).url())
    assert location.startswith("https://service.test/back?keep=1&")
    back = parameters(location)
    assert (back["error"], back["state"], back["iss"]) == (error, "s-1", ISSUER)


@pytest.mark.parametrize("name", ["nonce", "prompt", "max_age", "acr_values", "ui_locales", "login_hint", "display",
                                  "claims_locales", "id_token_hint", "claims"])  # fmt: skip
async def test_a_parameter_that_stands_twice_is_refused(world: World, name: str) -> None:
    """RFC 6749 §3.1. Which of the two counts would be ours to guess, and a proxy's to guess otherwise."""
    value = {"prompt": "login", "claims": "{}"}.get(name, "1")
    url = Request(extra={name: value}).url()
    assert parameters(await Browser(world).to(f"{url}&{urlencode({name: value})}"))["error"] == "invalid_request"


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "response_type", "state", "scope"])
async def test_a_parameter_that_says_who_and_where_to_is_refused_with_a_page(world: World, name: str) -> None:
    assert (await Browser(world).get(f"{Request().url()}&{name}=other")).status == 400


async def test_a_parameter_that_nobody_knows_is_ignored(world: World) -> None:
    """RFC 6749 §3.1 again; RFC 8707 lets `resource` stand several times."""
    url = Request().url() + "&resource=a&resource=b"
    assert urlsplit(await Browser(world).to(url)).path == "/sign-in"


async def test_a_client_without_the_code_grant_cannot_start_a_sign_on(world: World) -> None:
    world.clients["batch"] = a_client(
        "batch", world.clients["agency"].keys, grant_types=frozenset({"client_credentials"})
    )
    back = parameters(await Browser(world).to(Request(client_id="batch").url()))
    assert back["error"] == "unauthorized_client"


# --- the code -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"code_verifier": "é" * 43}, "invalid_request"),
        ({"redirect_uri": "https://service.test/back"}, "invalid_grant"),
        ({"redirect_uri": ""}, "invalid_grant"),
        ({"code": "wrong"}, "invalid_grant"),
        ({"code": ""}, "invalid_request"),
        ({"client_id": "other"}, "invalid_grant"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"client_id": "agency"}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unauthorized_client"),
    ],
)
async def test_a_code_is_worth_nothing_without_its_verifier_client_and_redirect_uri(
    world: World, changes: dict[str, str], error: str
) -> None:
    world.clients["other"] = a_client("other")
    request = Request()
    back = await Browser(world).sign_on(request)
    status, body = await world.token(**request.redemption(back["code"], **changes))
    assert (status in {400, 401}, body["error"]) == (True, error)
    assert "access_token" not in body


async def test_a_code_expires_after_a_minute(world: World) -> None:
    request = Request()
    back = await Browser(world).sign_on(request)
    world.clock.advance(61)
    assert (await world.token(**request.redemption(back["code"])))[1]["error"] == "invalid_grant"


async def test_using_a_code_twice_ends_the_token_that_it_gave(world: World) -> None:
    """RFC 9700 §2.1.1: the second user may be a thief, or the first one was."""
    request = Request()
    back = await Browser(world).sign_on(request)
    _, body = await world.token(**request.redemption(back["code"]))
    assert (await world.userinfo(body["access_token"])).status == 200
    status, again = await world.token(**request.redemption(back["code"]))
    assert (status, again["error"]) == (400, "invalid_grant")
    assert (await world.userinfo(body["access_token"])).status == 401


async def test_eight_redemptions_at_once_give_one_token(world: World) -> None:
    """With a plain store Authlib let six of eight through; here one statement decides."""
    request = Request()
    back = await Browser(world).sign_on(request)
    answers = await asyncio.gather(*(world.token(**request.redemption(back["code"])) for _ in range(8)))
    assert sorted(status for status, _ in answers) == [200] + [400] * 7


async def test_a_confidential_client_redeems_with_its_assertion(world: World) -> None:
    request = Request(client_id="agency", scope="openid submissions")
    back = await Browser(world).sign_on(request)
    status, body = await world.machine_token(world.assertion(), **request.redemption(back["code"]))
    assert status == 200
    assert body["scope"] == "openid"  # the API's scopes are not for a person's sign-on


# --- private_key_jwt ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", ["agency", "rsa", "okp"])
async def test_an_agency_gets_a_token_for_its_signed_assertion(world: World, client_id: str) -> None:
    status, body = await world.machine_token(world.assertion(client_id), scope="submissions unknown openid")
    assert status == 200
    assert body["scope"] == "submissions"
    caller = await world.caller(body["access_token"])
    assert (caller.client_id, caller.organisation_code, caller.origin_code) == (
        client_id,
        "11440100696927671X",
        "440100",
    )
    assert caller.scopes == {"submissions"}


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere.test"},
        {"aud": [ISSUER, "https://elsewhere.test"]},
        {"aud": [ISSUER]},
        {"aud": ISSUER + "/oauth2/token"},
        {"aud": None},
        {"iss": "rsa"},
        {"sub": "nobody", "iss": "nobody"},
        {"sub": ["agency"]},
        {"jti": None},
        {"jti": 7},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": 1e300},
        {"exp": True},
    ],
)
async def test_an_assertion_that_says_anything_else_is_refused(world: World, changes: dict[str, Any]) -> None:
    """rfc7523bis: our issuer is the only audience. Authlib took a foreign extra audience and a year of life."""
    status, body = await world.machine_token(world.assertion(**changes))
    assert (status in {400, 401}, body["error"]) == (True, "invalid_client")


@pytest.mark.parametrize(("life", "status"), [(300, 200), (301, 401), (365 * 86400, 401), (-31, 401)])
async def test_an_assertion_lives_five_minutes_at_most(world: World, life: int, status: int) -> None:
    assertion = world.assertion(exp=world.clock.stamp() + life)
    assert (await world.machine_token(assertion))[0] == status


async def test_an_assertion_from_the_future_is_refused(world: World) -> None:
    later = world.clock.stamp() + 120
    for assertion in (world.assertion(iat=later), world.assertion(nbf=later)):
        assert (await world.machine_token(assertion))[0] == 401


async def test_an_assertion_serves_once(world: World) -> None:
    assertion = world.assertion()
    answers = await asyncio.gather(*(world.machine_token(assertion) for _ in range(4)))
    assert sorted(status for status, _ in answers) == [200, 401, 401, 401]


async def test_an_assertion_signed_with_another_key_is_refused(world: World) -> None:
    assert (await world.machine_token(world.assertion(key=ECKey.generate_key("P-256"))))[0] == 401
    assert (await world.machine_token(world.assertion(key=world.keys["rsa"])))[0] == 401


async def test_hostile_assertions_get_an_answer_and_never_an_error_page(world: World) -> None:
    """Each of these trips a parser somewhere; none may reach the edge as an unexpected error."""
    parts = {name: base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode() for name, text in {
        "string": '"alg"', "list": "[1]", "deep": "[" * 4000, "none": '{"alg":"none"}', "quote": '{"alg":"a\\"b"}',
        "crit": '{"alg":"ES256","crit":["x"],"x":1}', "hmac": '{"alg":"HS256"}', "kid": '{"alg":"ES256","kid":[1]}',
        "claims": '{"sub":"agency","iss":"agency"}',
    }.items()}  # fmt: skip
    hostile = [f"{parts[name]}.{parts['claims']}.AAAA" for name in parts] + ["", "a", "a.b.c", "é.é.é", "." * 20000]
    for assertion in [*hostile, f"{parts['none']}.{parts['deep']}."]:
        status, body = await world.machine_token(assertion)
        assert (status in {400, 401}, body["error"]) == (True, "invalid_client")


async def test_an_ed25519_key_may_sign_under_its_older_name_too(world: World) -> None:
    """FAPI 2 says EdDSA, RFC 9864 says Ed25519; joserfc warns when it signs the former."""
    with pytest.warns(SecurityWarning):
        assertion = world.assertion("okp", algorithm="EdDSA")
    assert (await world.machine_token(assertion))[0] == 200


async def test_a_weaker_algorithm_with_the_right_key_is_refused(world: World) -> None:
    assert (await world.machine_token(world.assertion("rsa", algorithm="RS256")))[0] == 401


async def test_a_client_with_two_keys_is_found_out_by_the_kid(world: World) -> None:
    """Keys are rolled over by registering the new one beside the old one."""
    old, new = (ECKey.generate_key("P-256", {"kid": kid}, auto_kid=False) for kid in ("old", "new"))
    world.clients["agency"] = a_client("agency", KeySet([public(old), public(new)]))
    for key in (old, new):
        claims = {"iss": "agency", "sub": "agency", "aud": ISSUER, "exp": world.clock.stamp() + 60, "jti": key.kid}
        signed = jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key, algorithms=["ES256"])
        assert (await world.machine_token(signed))[0] == 200


async def test_the_client_id_beside_an_assertion_must_be_the_same(world: World) -> None:
    assert (await world.machine_token(world.assertion(), client_id="rsa"))[0] == 401
    assert (await world.machine_token(world.assertion(), client_id="agency"))[0] == 200


async def test_the_token_endpoint_takes_one_plain_form_and_nothing_else(world: World) -> None:
    for body, kind in (
        (b'{"grant_type":"client_credentials"}', "application/json"),
        (b"grant_type=a&grant_type=b", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b"a=1&" * 100, "application/x-www-form-urlencoded; charset=nonsense"),
    ):
        answer = await world.http.post("/oauth2/token", data=body, headers={"Content-Type": kind})
        assert (answer.status, (await answer.json())["error"]) == (400, "invalid_request")
        assert answer.headers["Cache-Control"] == "no-store"


# --- access tokens ------------------------------------------------------------------------------------------------


async def test_a_persons_token_does_not_speak_for_the_agency(world: World) -> None:
    request = Request()
    back = await Browser(world).sign_on(request)
    _, body = await world.token(**request.redemption(back["code"]))
    with pytest.raises(NotAuthenticated, match="client_credentials"):
        await world.caller(body["access_token"])


async def test_the_token_of_a_client_that_was_removed_passes_no_more(world: World) -> None:
    """A fresh token is no reason to serve a client that the operator has struck off."""
    _, body = await world.machine_token(world.assertion())
    del world.clients["agency"]
    with pytest.raises(NotAuthenticated, match="not registered any more"):
        await world.caller(body["access_token"])


async def test_a_scope_that_was_taken_from_the_client_is_gone_from_its_tokens_too(world: World) -> None:
    _, body = await world.machine_token(world.assertion())
    world.clients["agency"] = replace(world.clients["agency"], scopes=frozenset())
    assert (await world.caller(body["access_token"])).scopes == frozenset()


async def test_an_agencys_token_opens_no_userinfo(world: World) -> None:
    _, body = await world.machine_token(world.assertion())
    answer = await world.userinfo(body["access_token"])
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_userinfo_says_what_the_scopes_open_and_no_more(world: World) -> None:
    expected = {
        "openid": {"sub"},
        "openid profile": {"sub", "name", "gender", "birthdate"},
        "openid document": {"sub", "document"},
        "openid phone email": {"sub", "phone_number"},
    }
    browser = Browser(world)
    await browser.sign_on(Request())
    for scope, names in expected.items():
        request = Request(scope=scope)
        code = parameters(await browser.to(request.url()))["code"]
        _, body = await world.token(**request.redemption(code))
        answer = await world.http.post("/oauth2/userinfo", headers={"Authorization": f"Bearer {body['access_token']}"})
        assert set(await answer.json()) == names


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": "Basic eDp5"}, "Bearer"),
        ({"Authorization": "Bearer "}, "Bearer"),
        ({"Authorization": "Bearer é"}, 'Bearer error="invalid_token"'),
        ({"Authorization": "Bearer a.b.c"}, 'Bearer error="invalid_token"'),
    ],
)
async def test_userinfo_without_a_token_says_how_to_send_one(
    world: World, headers: dict[str, str], challenge: str
) -> None:
    """RFC 6750 §3.1: no error code for whoever sent no credential; clients look for a token first, then renew it."""
    answer = await world.http.get("/oauth2/userinfo", headers=headers)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, challenge)


# --- prompt, age, level -------------------------------------------------------------------------------------------


async def test_prompt_none_is_answered_from_the_session_and_prompt_login_never(world: World) -> None:
    browser = Browser(world)
    await browser.sign_on(Request())
    assert "code" in parameters(await browser.to(Request(extra={"prompt": "none"}).url()))
    for prompt in ("login", "select_account"):
        assert urlsplit(await browser.to(Request(extra={"prompt": prompt}).url())).path == "/sign-in"


async def test_prompt_login_is_satisfied_by_the_sign_on_that_follows(world: World) -> None:
    browser = Browser(world)
    await browser.sign_on(Request())
    world.clock.advance(100)
    request = Request(extra={"prompt": "login", "max_age": "0"})
    _, body = await world.token(**request.redemption((await browser.sign_on(request))["code"]))
    assert world.service.parts.tokens.verify(body["access_token"])["auth_time"] == world.clock.stamp()


async def test_a_session_older_than_max_age_must_sign_on_again(world: World) -> None:
    browser = Browser(world)
    await browser.sign_on(Request())
    world.clock.advance(100)
    assert "code" in parameters(await browser.to(Request(extra={"max_age": "101"}).url()))
    assert urlsplit(await browser.to(Request(extra={"max_age": "100"}).url())).path == "/sign-in"
    silent = Request(extra={"max_age": "100", "prompt": "none"})
    assert parameters(await browser.to(silent.url()))["error"] == "login_required"


def essential(*levels: str) -> dict[str, str | None]:
    values = [f"urn:pearl:assurance:{level}" for level in levels]
    return {"claims": json.dumps({"id_token": {"acr": {"essential": True, "values": values}}})}


async def test_an_essential_level_is_reached_or_refused_but_never_lowered(world: World) -> None:
    """Brokers lose `acr` or lower it in silence (keycloak#25335); here the service hears of it."""
    world.providers["guangdong"].level = "L1"
    browser, request = Browser(world), Request(extra=essential("A2", "A3"))
    assert (await browser.sign_on(request))["error"] == "unmet_authentication_requirements"
    world.providers["guangdong"].level = "L3"
    _, body = await world.token(**request.redemption((await browser.sign_on(request))["code"]))
    assert world.service.parts.tokens.verify(body["access_token"])["acr"] == "urn:pearl:assurance:A3"


async def test_a_higher_level_answers_an_essential_lower_one_in_its_own_words(world: World) -> None:
    world.providers["guangdong"].level = "L3"
    request = Request(extra=essential("A1"))
    _, body = await world.token(**request.redemption((await Browser(world).sign_on(request))["code"]))
    assert world.service.parts.tokens.verify(body["access_token"])["acr"] == "urn:pearl:assurance:A1"


async def test_a_level_that_does_not_exist_is_refused_at_once_but_a_wish_is_not(world: World) -> None:
    back = parameters(await Browser(world).to(Request(extra=essential("A9")).url()))
    assert back["error"] == "unmet_authentication_requirements"
    wish = Request(extra={"acr_values": "urn:pearl:assurance:A9"})
    assert "code" in await Browser(world).sign_on(wish)


async def test_a_level_word_that_nobody_translated_counts_for_nothing(world: World) -> None:
    world.providers["guangdong"].level = "L7"
    request = Request()
    _, body = await world.token(**request.redemption((await Browser(world).sign_on(request))["code"]))
    assert world.service.parts.tokens.verify(body["access_token"])["acr"] == "urn:pearl:assurance:A0"


# --- the person that a service asks for ---------------------------------------------------------------------------


async def tokens(world: World, browser: Browser, request: Request) -> tuple[str, dict[str, Any]]:
    """Sign on; return the ID token and its claims."""
    back = await browser.sign_on(request)
    _, body = await world.token(**request.redemption(back["code"]))
    keys = world.service.parts.signer.key_set()
    return body["id_token"], dict(jwt.decode(body["id_token"], keys, algorithms=["ES256"]).claims)


def named(subject: str, place: str = "id_token") -> dict[str, str | None]:
    return {"claims": json.dumps({place: {"sub": {"value": subject}}})}


@pytest.mark.parametrize("how", ["hint", "id_token", "userinfo"])
async def test_a_service_that_names_a_person_is_answered_by_that_person_alone(world: World, how: str) -> None:
    """Core §3.1.2.2: "MUST NOT reply with an ID Token or Access Token for a different user"."""
    browser = Browser(world)
    hint, claims = await tokens(world, browser, Request())
    extra: dict[str, str | None] = {"id_token_hint": hint} if how == "hint" else named(claims["sub"], how)
    assert "code" in parameters(await browser.to(Request(extra={"prompt": "none", **extra}).url()))
    world.clock.advance(600)  # a hint may have expired: it says who, and proves nothing
    assert "code" in parameters(await browser.to(Request(extra=extra).url()))
    other = Browser(world)
    world.providers["guangdong"].subject = "gd-2"
    assert (await other.sign_on(Request(extra=extra)))["error"] == "login_required"
    silent = parameters(await other.to(Request(extra={"prompt": "none", **extra}).url()))
    assert silent["error"] == "login_required"
    assert urlsplit(await other.to(Request(extra=extra).url())).path == "/sign-in"
    world.providers["guangdong"].subject = "gd-1"
    assert "code" in await other.sign_on(Request(extra=extra))


async def test_two_names_for_one_person_must_agree(world: World) -> None:
    browser = Browser(world)
    hint, _claims = await tokens(world, browser, Request())
    extra = {"prompt": "none", "id_token_hint": hint, **named("somebody-else")}
    assert parameters(await browser.to(Request(extra=extra).url()))["error"] == "login_required"


async def test_a_sub_without_a_value_names_nobody(world: World) -> None:
    browser = Browser(world)
    await browser.sign_on(Request())
    for wish in (None, {"essential": True}):
        claims = json.dumps({"id_token": {"sub": wish}, "userinfo": {"name": None}})
        assert "code" in parameters(await browser.to(Request(extra={"claims": claims}).url()))


@pytest.mark.parametrize("kind", ["another client's", "an access token", "a foreign key's", "another issuer's"])
async def test_a_hint_that_is_no_id_token_of_this_client_is_refused(world: World, kind: str) -> None:
    """Anybody can write down a `sub`; only what we signed for this client says that it knows the person."""
    world.clients["other"] = a_client("other")
    browser, request = Browser(world), Request(client_id="other" if kind == "another client's" else "portal")
    back = await browser.sign_on(request)
    _, body = await world.token(**request.redemption(back["code"]))
    claims = jwt.decode(body["id_token"], world.service.parts.signer.key_set(), algorithms=["ES256"]).claims
    hints = {
        "another client's": body["id_token"],
        "an access token": body["access_token"],
        "a foreign key's": Es256Signer([pem()]).sign(claims, typ="JWT"),
        "another issuer's": world.service.parts.signer.sign({**claims, "iss": "https://evil.test"}, typ="JWT"),
    }
    answer = parameters(await browser.to(Request(extra={"id_token_hint": hints[kind]}).url()))
    assert answer["error"] == "invalid_request"


# --- the chooser and the way through a region ---------------------------------------------------------------------


async def test_the_chooser_lists_who_offers_sign_on_with_the_last_choice_first(world: World) -> None:
    browser = Browser(world)
    chooser = await browser.to(Request().url())
    page = await (await browser.get(chooser)).text()
    assert re.findall(r'href="/sign-in/(\w+)\?', page) == ["guangdong", "hongkong"]
    await browser.to(choice(chooser, "hongkong"))
    page = await (await browser.get(chooser)).text()
    assert re.findall(r'href="/sign-in/(\w+)\?', page) == ["hongkong", "guangdong"]


async def test_the_chooser_speaks_the_persons_language_and_keeps_it(world: World) -> None:
    browser = Browser(world)
    chooser = await browser.to(Request(extra={"ui_locales": "fr en"}).url())
    english = await browser.get(chooser)
    assert "Sign on with your region" in await english.text()
    plain = chooser.replace("&lang=en", "")
    assert 'lang="en"' in await (await browser.get(plain)).text()
    assert "选择您所属地区登录" in await (await browser.get(plain + "&lang=zh-CN")).text()
    assert "选择您所属地区登录" in await (await browser.get(plain)).text()
    for line in [line for line in browser.set_cookies if line.startswith("pearl_language")]:
        assert "Secure" in line
    assert "script" not in english.headers["Content-Security-Policy"].replace("script-src 'self'", "")


async def test_the_region_gets_its_own_return_address_and_fresh_secrets(world: World) -> None:
    browser = Browser(world)
    chooser = await browser.to(Request().url())
    await browser.to(choice(chooser, "guangdong"))
    await browser.to(choice(chooser, "hongkong"))
    first, second = world.providers["guangdong"].begun[0], world.providers["hongkong"].begun[0]
    assert first.redirect_uri == f"{ISSUER}/sign-in/guangdong/callback"
    assert second.redirect_uri == f"{ISSUER}/sign-in/hongkong/callback"
    assert len({first.state, second.state, first.nonce, second.nonce}) == 4


async def at_the_region(browser: Browser, region: str = "guangdong") -> str:
    """Bring a browser to a region and return the query that the region would send it back with."""
    upstream = await browser.to(choice(await browser.to(Request().url()), region))
    return urlencode({**parameters(upstream), "code": "a+b"})


async def test_what_the_region_sends_back_reaches_the_adapter_decoded_once(world: World) -> None:
    browser = Browser(world)
    query = await at_the_region(browser)
    await browser.to(f"/sign-in/guangdong/callback?{query}")
    back = world.providers["guangdong"].returned[0]
    assert back.query["code"] == "a+b"
    assert back.memory == {"nonce": world.providers["guangdong"].begun[0].nonce}


async def test_a_state_serves_once(world: World) -> None:
    browser = Browser(world)
    query = await at_the_region(browser)
    await browser.to(f"/sign-in/guangdong/callback?{query}")
    assert (await browser.get(f"/sign-in/guangdong/callback?{query}")).status == 400
    assert len(world.providers["guangdong"].returned) == 1


async def test_a_state_from_another_browser_signs_nobody_on(world: World) -> None:
    """Session fixation: a thief's half-finished sign-on must not be finished in the victim's browser."""
    thief, victim = Browser(world), Browser(world)
    query = await at_the_region(thief)
    await at_the_region(victim)
    answer = await victim.get(f"/sign-in/guangdong/callback?{query}")
    assert answer.status == 400
    assert "__Host-pearl_session" not in victim.cookies
    assert world.providers["guangdong"].returned == []


async def test_an_answer_at_another_regions_address_is_refused(world: World) -> None:
    """Mix-up: what one region said must never be taken for another's."""
    browser = Browser(world)
    query = await at_the_region(browser, "guangdong")
    assert (await browser.get(f"/sign-in/hongkong/callback?{query}")).status == 400
    assert world.providers["hongkong"].returned == []
    assert "code" in parameters(await browser.to(f"/sign-in/guangdong/callback?{query}"))


@pytest.mark.parametrize("query", ["", "state=", "state=unknown", "state=a&state=b", "state=%00", "state=%FF"])
async def test_a_callback_out_of_nowhere_is_refused_with_a_page(world: World, query: str) -> None:
    for region in ("guangdong", "nowhere"):
        answer = await Browser(world).get(f"/sign-in/{region}/callback?{query}")
        assert (answer.status, answer.content_type) == (400, "text/html")


@pytest.mark.parametrize("interaction", ["", "x", "\x00" * 43, "A" * 43, "é" * 43])
async def test_an_interaction_that_is_not_this_browsers_is_lost(world: World, interaction: str) -> None:
    query = urlencode({"interaction": interaction})
    for path in ("/sign-in", "/sign-in/guangdong", "/oauth2/authorize/cancel"):
        assert (await Browser(world).get(f"{path}?{query}")).status == 400


async def test_junk_in_the_cookies_is_ignored(world: World) -> None:
    browser = Browser(world)
    browser.cookies = {"__Host-pearl_sign_on": "x", "__Host-pearl_session": "\udcff'", "pearl_region": "<b>"}
    assert "code" in await browser.sign_on(Request())


async def test_a_region_that_was_switched_off_meanwhile_signs_nobody_on(world: World) -> None:
    """CVE-2026-2603: "enabled" is checked again when the browser comes back."""
    browser = Browser(world)
    query = await at_the_region(browser)
    del world.regions["guangdong"]
    again = await browser.to(f"/sign-in/guangdong/callback?{query}")
    assert urlsplit(again).path == "/sign-in"
    assert "guangdong" not in re.findall(r'href="/sign-in/(\w+)\?', await (await browser.get(again)).text())
    assert "__Host-pearl_session" not in browser.cookies


@pytest.mark.parametrize(
    ("failure", "words"),
    [(RegionUnreachable("gone"), "does not answer"), (SignOnFailed("cancelled at the region"), "was not completed")],
)
async def test_when_a_region_fails_the_person_may_try_again_or_choose_another(
    world: World, failure: GatewayError, words: str
) -> None:
    browser, provider = Browser(world), world.providers["guangdong"]
    query = await at_the_region(browser)
    provider.failure = failure
    page = await browser.get(await browser.to(f"/sign-in/guangdong/callback?{query}") + "&lang=en")
    assert words in await page.text()
    chooser = str(page.url.relative())
    assert urlsplit(await browser.to(choice(chooser, "guangdong"))).path == "/sign-in"
    provider.failure = None
    upstream = await browser.to(choice(chooser, "hongkong"))
    back = await browser.to(f"/sign-in/hongkong/callback?{urlencode({**parameters(upstream), 'code': 'c'})}")
    assert "code" in parameters(back)


async def test_a_kind_of_user_that_nobody_here_knows_is_not_signed_on(world: World) -> None:
    """It may be no person at all. Whoever sits there may choose another region, and no session was opened."""
    browser, provider = Browser(world), world.providers["guangdong"]
    query = await at_the_region(browser)
    provider.says = {"kind": "unknown:7"}
    with capture_logs() as said:
        page = await browser.get(await browser.to(f"/sign-in/guangdong/callback?{query}") + "&lang=en")
    assert "was not completed" in await page.text()
    assert [line["code"] for line in said if line["event"] == "sign-on interrupted"] == ["signon.unknown_kind"]
    assert await world.store.read(lambda tx: tx.execute(select(sign_on_sessions)).all()) == []


async def test_a_kind_of_document_that_nobody_here_knows_is_no_document(world: World) -> None:
    """Its number could be another kind's: no service is told it as a proof of who somebody is."""
    world.providers["guangdong"].says = {"document": {"type": "unknown:555", "number": "11010519491231002X"}}
    request = Request(scope="openid profile document")
    back = await Browser(world).sign_on(request)
    status, tokens = await world.token(**request.redemption(back["code"]))
    assert status == 200
    told = await (await world.userinfo(tokens["access_token"])).json()
    assert "document" not in told
    assert told["name"] == "李芳"


async def test_a_person_who_gives_up_is_taken_back_to_the_service(world: World) -> None:
    browser = Browser(world)
    interaction = parameters(await browser.to(Request().url()))["interaction"]
    back = parameters(await browser.to(f"/oauth2/authorize/cancel?interaction={interaction}"))
    assert (back["error"], back["state"], back["iss"]) == ("access_denied", "s-1", ISSUER)
    assert (await browser.get(f"/sign-in?interaction={interaction}")).status == 400


async def test_two_tabs_sign_on_side_by_side(world: World) -> None:
    browser = Browser(world)
    one, two = await at_the_region(browser), await at_the_region(browser, "hongkong")
    assert "code" in parameters(await browser.to(f"/sign-in/guangdong/callback?{one}"))
    assert "code" in parameters(await browser.to(f"/sign-in/hongkong/callback?{two}"))


async def test_a_client_withdrawn_during_the_sign_on_gets_nothing(world: World) -> None:
    browser = Browser(world)
    query = await at_the_region(browser)
    del world.clients["portal"]
    answer = await browser.get(f"/sign-in/guangdong/callback?{query}")
    assert (answer.status, "Location" in answer.headers) == (400, False)


# --- what is published, and what is forgotten ---------------------------------------------------------------------


async def test_discovery_lists_only_what_is_mounted(world: World) -> None:
    document = await (await world.http.get("/.well-known/openid-configuration")).json()
    assert document["issuer"] == ISSUER
    mounted = {resource.canonical for resource in world.app.router.resources()}
    addresses = [value for name, value in document.items() if name.endswith(("_endpoint", "_uri"))]
    assert len(addresses) == len(ENDPOINTS)
    assert {urlsplit(address).path for address in addresses} <= mounted
    assert document["code_challenge_methods_supported"] == ["S256"]


async def test_the_published_keys_are_public(world: World) -> None:
    body = await (await world.http.get("/oauth2/jwks")).json()
    assert all("d" not in key and key["kid"] for key in body["keys"])


async def test_a_replica_with_a_fast_clock_does_not_open_the_door_to_a_used_assertion(world: World) -> None:
    """Guarded by `CLOCKS_APART` in `nonces.spend`: others still take the assertion that its janitor would forget."""
    last = SKEW - timedelta(seconds=1)
    assertion, ahead = world.assertion(exp=world.clock.stamp()), CLOCKS_APART
    assert (await world.machine_token(assertion))[0] == 200
    world.clock.advance(last.total_seconds())
    await world.store.write(lambda tx: forget_expired(tx, world.clock() + ahead))
    status, body = await world.machine_token(assertion)
    assert (status, body["error"]) == (401, "invalid_client")
    assert "used" in body["error_description"]


async def test_what_has_expired_is_forgotten_and_what_has_not_is_kept(world: World) -> None:
    browser, request = Browser(world), Request()
    await browser.sign_on(request)
    await browser.to(Request(extra={"prompt": "login"}).url())
    await world.machine_token(world.assertion())
    tables = (sign_on_interactions, sign_on_sessions, authorization_codes, nonces)

    async def counts() -> list[int | None]:
        return await world.store.read(
            lambda tx: [tx.scalar(select(func.count()).select_from(table)) for table in tables]
        )

    assert await counts() == [1, 1, 1, 1]
    assert await world.store.write(lambda tx: forget_expired(tx, world.clock())) == 0
    world.clock.advance(700)
    await world.store.write(lambda tx: forget_expired(tx, world.clock()))
    assert await counts() == [0, 1, 1, 0]
    world.clock.advance(3600)
    await world.store.write(lambda tx: forget_expired(tx, world.clock()))
    assert await counts() == [0, 0, 0, 0]
