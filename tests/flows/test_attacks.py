"""The attacks on this class of software, and where each is held off. Every test names the line that guards it.

=========================================  ===========================================================================
attack                                     held by
=========================================  ===========================================================================
signature wrapping, partial signing        unit/test_protocol_saml (`test_an_attack_is_refused_by_its_own_guard`,
                                           `test_what_the_verifier_returns_must_be_what_was_to_be_verified`),
                                           unit/test_protocol_ticket, conformance/test_hostile_sign_on
validation silently off                    `test_no_token_is_taken_that_we_or_the_client_did_not_sign`,
                                           `test_nothing_in_the_sources_can_switch_a_check_off`; upstream:
                                           unit/test_protocol_oidc, unit/test_protocol_ticket, unit/test_protocol_saml
a region that is off still signs in        flows/test_logout (closed), flows/test_sign_on (switched off meanwhile),
                                           `test_a_region_that_is_enabled_no_more_…` (two); nobody asked for it:
                                           `test_an_answer_that_nobody_asked_for_…`, flows/test_saml_return
replay, recipient                          conformance/test_served_once, unit/test_protocol_{saml,oidc,ticket}
takeover by e-mail                         `test_who_somebody_is_…` (two), unit/test_linking
mix-up                                     flows/test_sign_on (another region's address), unit/test_protocol_oidc
                                           (`test_an_answer_in_another_name_or_in_none_is_no_answer`), and ours:
                                           `test_every_answer_to_a_service_says_who_it_is_from`
theft, retargeting, fixation of a code     flows/test_sign_on (verifier, client, redirect), `test_every_step_…`,
                                           `test_a_handle_of_one_kind_…`, `test_a_session_that_was_there_before_…`,
                                           `test_a_sign_on_begun_by_a_thief_…`
open redirect                              `test_nobody_is_led_to_an_address_that_only_looks_registered`,
                                           `test_no_link_or_redirect_of_our_own_pages_leads_elsewhere`,
                                           flows/test_account (`next`), flows/test_logout
audience injection by a client assertion   flows/test_sign_on, `test_an_assertion_for_anything_but_our_issuer_…`
trap 1: PKCE for all, `plain`              flows/test_sign_on, `test_pkce_has_no_way_round_it`
trap 2: parallel redemption                conformance/test_served_once, `test_a_code_tried_with_a_wrong_verifier_…`
trap 3: assertion audience and life        as above
trap 4: `none` from upstream discovery     unit/test_protocol_oidc (`…algorithms_that_a_provider_lists…`)
trap 5: `iss`, issuer, stale metadata      unit/test_protocol_oidc
trap 6: default algorithms                 `test_only_the_algorithms_of_fapi_are_spoken`
=========================================  ===========================================================================
"""

from __future__ import annotations

import ast
import asyncio
import base64
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from sqlalchemy import select

from gateway.crypto.signing import Es256Signer
from gateway.identity import assertion, dpop
from gateway.identity.clients import DEFAULT_ALGORITHM, TOKEN_EXCHANGE, GrantType
from gateway.identity.grants import ACCESS_TOKEN
from gateway.storage import Store
from gateway.storage.tables import evidence, sign_on_sessions, token_families
from tests.support.sign_on import (
    ISSUER,
    REDIRECT,
    Browser,
    DpopKey,
    Request,
    World,
    a_client,
    agency_keys,
    choice,
    open_world,
    parameters,
    pem,
)

ROOT = Path(__file__).parents[2]
BYE = "https://service.test/bye?keep=1"
REFRESHING: frozenset[GrantType] = frozenset({"authorization_code", "refresh_token"})


@pytest.fixture(scope="module")
def keys() -> Mapping[str, Any]:
    return {**agency_keys(), "signing": pem()}


@pytest.fixture
async def world(tmp_path: Path, keys: Mapping[str, Any], sqlite_store: Store) -> AsyncIterator[World]:
    async with open_world(tmp_path, keys, sqlite_store) as opened:
        opened.clients["portal"] = a_client("portal", grant_types=REFRESHING, post_logout_redirect_uris=(BYE,))
        grants: frozenset[GrantType] = frozenset({"authorization_code", "client_credentials", TOKEN_EXCHANGE})
        opened.clients["agency"] = replace(
            opened.clients["agency"], grant_types=grants, exchanges_from=frozenset({"portal"})
        )
        yield opened


async def rows(world: World, table: Any) -> list[dict[str, Any]]:
    return await world.store.read(lambda tx: [dict(row) for row in tx.execute(select(table)).mappings()])


async def signed_on(world: World, browser: Browser | None = None) -> dict[str, Any]:
    """Sign a person on at the portal and return the token response."""
    request = Request()
    back = await (browser or Browser(world)).sign_on(request)
    status, body = await world.token(**request.redemption(back["code"]))
    assert status == 200, body
    return body


async def at_the_region(browser: Browser, region: str = "guangdong") -> tuple[str, str]:
    """Bring a browser to a region; return the chooser's address and the query that the region sends it back with."""
    chooser = await browser.to(Request().url())
    upstream = await browser.to(choice(chooser, region))
    return chooser, urlencode({**parameters(upstream), "code": "c"})


# --- validation silently off ---------------------------------------------------------------------------------------


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def pieces(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    header, claims, signature = token.split(".")
    header, claims = (base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode() for text in (header, claims))
    return json.loads(header), json.loads(claims), signature


def relabelled(algorithm: Any, *, keep: bool = False) -> Callable[[str, Any], str]:
    """Return a forger that writes another algorithm in the header, and signs nothing."""

    def forge(token: str, _key: Any) -> str:
        header, claims, signature = pieces(token)
        return f"{part({**header, 'alg': algorithm})}.{part(claims)}.{signature if keep else ''}"

    return forge


def confused(encoding: Callable[[Any], bytes]) -> Callable[[str, Any], str]:
    """Return a forger that signs by HMAC with the public key, which everybody knows, as the secret."""

    def forge(token: str, key: Any) -> str:
        header, claims, _ = pieces(token)
        signed = f"{part({**header, 'alg': 'HS256'})}.{part(claims)}"
        code = hmac.digest(encoding(key), signed.encode(), "sha256")  # by hand: libraries will not take such a secret
        return f"{signed}.{base64.urlsafe_b64encode(code).rstrip(b'=').decode()}"

    return forge


def by_a_stranger(**header: Any) -> Callable[[str, Any], str]:
    def forge(token: str, _key: Any) -> str:
        stranger = ECKey.generate_key("P-256")
        known, claims, _ = pieces(token)
        known = {name: value for name, value in known.items() if name != "jwk"} if "jwk" in header else known
        more = {name: stranger.as_dict(private=False) if value == "own" else value for name, value in header.items()}
        merged = {**known, **more, "alg": "ES256"}
        return jws.serialize_compact(merged, json.dumps(claims), stranger, algorithms=["ES256"], registry=ANY)

    return forge


ANY = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
ANY.max_header_length = 4096


def changed(token: str, _key: Any) -> str:
    """Keep the signature and change what it is over."""
    header, claims, signature = pieces(token)
    return f"{part(header)}.{part({**claims, 'more': 1})}.{signature}"


FORGERIES: Mapping[str, Callable[[str, Any], str]] = {
    "alg none": relabelled("none"),
    "alg None": relabelled("None"),
    "alg nOnE": relabelled("nOnE"),
    "alg empty": relabelled(""),
    "alg null": relabelled(None),
    "alg a list": relabelled(["ES256"]),
    "alg none with the signature": relabelled("none", keep=True),
    "alg HS256 with the signature": relabelled("HS256", keep=True),
    "alg RS256 with the signature": relabelled("RS256", keep=True),
    "no signature": relabelled("ES256"),
    "HMAC with the public key as PEM": confused(lambda key: bytes(key.as_pem(private=False))),
    "HMAC with the public key as DER": confused(lambda key: bytes(key.as_der(private=False))),
    "HMAC with the public key as JSON": confused(lambda key: json.dumps(key.as_dict(private=False)).encode()),
    "another key": by_a_stranger(),
    "another key under no name": by_a_stranger(kid=""),
    "another key, which the header brings": by_a_stranger(jwk="own"),
    "another key, at an address": by_a_stranger(jku="https://evil.test/keys"),
    "changed claims": changed,
}


@pytest.mark.parametrize("forgery", sorted(FORGERIES))
async def test_no_token_is_taken_that_we_or_the_client_did_not_sign(
    world: World, keys: Mapping[str, Any], forgery: str
) -> None:
    """There is no unsigned state: wherever a JWT comes in, these are refused, and the genuine one was good.

    Guarded by the comparison of `alg` in `jose.verified_claims`, before any key is touched, and by joserfc's own list
    behind it: either alone refuses them all.
    """
    forge, browser = FORGERIES[forgery], Browser(world)
    body = await signed_on(world, browser)
    ours = ECKey.import_key(keys["signing"])
    # the client's assertion
    status, answer = await world.machine_token(forge(world.assertion(), keys["agency"]))
    assert (status in {400, 401}, answer["error"]) == (True, "invalid_client")
    # the access token: at userinfo, introspected, exchanged
    forged = forge(body["access_token"], ours)
    assert (await world.userinfo(forged)).status == 401
    assert (await world.userinfo(body["access_token"])).status == 200
    _, worth = await world.post("/oauth2/introspect", {"token": forged, **world.signed()})
    assert worth == {"active": False}
    exchange = {"grant_type": TOKEN_EXCHANGE, "subject_token": forged, "subject_token_type": ACCESS_TOKEN}
    assert (await world.post("/oauth2/token", {**exchange, **world.signed()}))[1]["error"] == "invalid_grant"
    # a revocation by a forged token ends nothing
    await world.post("/oauth2/revoke", {"token": forged, "client_id": "portal"})
    assert (await world.userinfo(body["access_token"])).status == 200
    # the hint, at both places
    forged = forge(body["id_token"], ours)
    back = parameters(await browser.to(Request(extra={"id_token_hint": forged, "prompt": "none"}).url()))
    assert back["error"] == "invalid_request"
    page = await browser.get(f"/oauth2/logout?{urlencode({'id_token_hint': forged})}")
    assert page.status == 200  # asked, as without a hint
    assert (await world.userinfo(body["access_token"])).status == 200


@pytest.mark.parametrize("forgery", sorted(set(FORGERIES) - {"another key, which the header brings"}))
async def test_no_proof_of_possession_is_taken_that_its_key_did_not_sign(world: World, forgery: str) -> None:
    """The proof brings its own key, so a stranger's is good for nobody but the stranger.

    Guarded by `verified_claims` in `dpop._verified`.
    """
    key = DpopKey(world)
    forged = FORGERIES[forgery](key.proof("POST", "/oauth2/token"), key.key)
    form = {"grant_type": "client_credentials", **world.signed()}
    status, body = await world.post("/oauth2/token", form, {"DPoP": forged})
    assert (status, body["error"]) == (400, "invalid_dpop_proof")


SWITCHES = re.compile(
    r"verify_signature|verify_ssl|verify=False|ssl=False|CERT_NONE|check_hostname|insecure|HS256|HS384|HS512"
    r"|skip_verif|allow_unsigned|resolve_entities=True|no_network=False"
)


def test_nothing_in_the_sources_can_switch_a_check_off() -> None:
    """CVE-2026-16443 was a setting. There is none: not for signatures, not for TLS, not for entities."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("gateway", "adapters")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "sandbox" not in path.parts and path.name != "sandbox.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if SWITCHES.search(line) and not line.strip().startswith(("#", '"'))
    ]
    assert found == [], found


# --- a region that is off, an answer that nobody asked for -----------------------------------------------------------


async def test_a_region_that_is_enabled_no_more_answers_by_no_session_of_before(world: World) -> None:
    """CVE-2026-2603 from the other side: the configuration changed, the cookie did not.

    Guarded by the last line of `Authorization._live`.
    """
    browser = Browser(world)
    await signed_on(world, browser)
    assert "code" in parameters(await browser.to(Request().url()))
    world.regions.pop("guangdong")
    assert urlsplit(await browser.to(Request().url())).path == "/sign-in"
    assert parameters(await browser.to(Request(extra={"prompt": "none"}).url()))["error"] == "login_required"


async def test_a_region_that_is_enabled_no_more_loses_its_sessions_and_tokens_at_the_start(
    tmp_path: Path, world: World, keys: Mapping[str, Any]
) -> None:
    """Guarded by the second half of `RegionSwitches.prepare`."""
    body = await signed_on(world)
    await world.service.switches.prepare()
    assert (await world.userinfo(body["access_token"])).status == 200
    world.regions.pop("guangdong")
    world.service.switches._regions = world.service.health.regions
    await world.service.switches.prepare()
    assert (await world.userinfo(body["access_token"])).status == 401
    form = {"grant_type": "refresh_token", "refresh_token": body["refresh_token"], "client_id": "portal"}
    assert (await world.token(**form))[1]["error"] == "invalid_grant"
    assert (await rows(world, sign_on_sessions))[0]["ended_at"] is not None


async def test_an_answer_that_nobody_asked_for_reaches_no_adapter(world: World) -> None:
    """No sign-on begins at a region: without a state of this browser and this region the adapter is not even asked.

    Guarded by `records.take_state`.
    """
    chosen_not_yet, sent = Browser(world), Browser(world)
    chooser = await chosen_not_yet.to(Request().url())
    interaction = parameters(chooser)["interaction"]
    _, query = await at_the_region(sent)
    unasked = ["code=c", "code=c&state=", f"code=c&state={interaction}", f"code=c&state={'A' * 43}",
               "SAMLResponse=PHg%2B", "ticket=t&RelayState=", f"ticket=t&RelayState={interaction}"]  # fmt: skip
    for browser, more in ((Browser(world), [query]), (chosen_not_yet, [query]), (sent, [])):
        for brought in [*unasked, *more]:
            assert (await browser.get(f"/sign-in/guangdong/callback?{brought}")).status == 400
            answer = await world.http.post(
                "/sign-in/guangdong/callback", data=brought, allow_redirects=False,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )  # fmt: skip
            assert answer.status in {303, 400}
    assert world.providers["guangdong"].returned == []
    assert await rows(world, sign_on_sessions) == []


# --- who somebody is -------------------------------------------------------------------------------------------------

SAME_PERSON: Mapping[str, Any] = {
    "email": "li.fang@example.org", "mobile": "+8613800000000", "name": "李芳",
    "document": {"type": "CN_RIC", "number": "11010519491231002X"},
}  # fmt: skip


async def test_who_somebody_is_follows_from_region_and_subject_and_from_nothing_else(world: World) -> None:
    """CVE-2026-9087 and nOAuth: the same e-mail address, telephone, name and document make nobody the same person.

    Guarded by `Broker._session` and `ProviderParts.pairwise`, which read the region's subject alone.
    """

    async def sub(region: str, subject: str, **says: Any) -> str:
        world.providers[region].subject, world.providers[region].says = subject, says
        request = Request()
        _, body = await world.token(
            **request.redemption(parameters(await Browser(world).through(request.url(), region))["code"])
        )
        return str(pieces(body["id_token"])[1]["sub"])

    first = await sub("guangdong", "gd-1", **SAME_PERSON)
    assert await sub("guangdong", "gd-2", **SAME_PERSON) != first
    assert await sub("hongkong", "gd-1", **SAME_PERSON) != first
    moved = {**SAME_PERSON, "email": "new@example.org", "mobile": "+85250000000", "name": "李芬"}
    assert await sub("guangdong", "gd-1", **moved) == first


def test_who_somebody_is_is_never_read_from_an_e_mail_address_or_a_telephone() -> None:
    """No code of sign-on so much as names them, but for the claims that a service may be given (`persons`).

    A certificate's own field of that name (`mtls`) says who a client is, and no person.
    """
    named = {
        path.name
        for path in (ROOT / "gateway" / "identity").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value in {"email", "mobile", "phone", "phone_number", "e_mail", "telephone", "email_verified"}
    }
    assert named == {"persons.py"}


# --- mix-up ----------------------------------------------------------------------------------------------------------


async def test_every_answer_to_a_service_says_who_it_is_from(world: World) -> None:
    """RFC 9207: a code, an error before the sign-on, after it, and a person who gave up.

    Guarded by `OurIssuer` in `Exchange.handle_response`.
    """
    browser = Browser(world)
    world.providers["guangdong"].level = "L1"
    demanded = json.dumps({"id_token": {"acr": {"essential": True, "values": ["urn:pearl:assurance:A2"]}}})
    chooser = await browser.to(Request().url())
    cancelled = await browser.to(f"/oauth2/authorize/cancel?{urlsplit(chooser).query}")
    answers = [
        await browser.to(Request(extra={"prompt": "none"}).url()),
        await browser.to(Request(extra={"code_challenge": None}).url()),
        cancelled,
        await browser.through(Request(extra={"claims": demanded}).url()),
        await browser.through(Request(extra={"prompt": "login"}).url()),
    ]
    assert [parameters(answer)["iss"] for answer in answers] == [ISSUER] * 5
    assert [parameters(answer).get("error") for answer in answers] == [
        "login_required", "invalid_request", "access_denied", "unmet_authentication_requirements", None,
    ]  # fmt: skip


# --- theft, retargeting, fixation ------------------------------------------------------------------------------------


async def test_every_step_of_a_sign_on_belongs_to_the_browser_that_began_it(world: World) -> None:
    """Whoever has seen the addresses of a sign-on, in a log or over a shoulder, can do nothing with them.

    Guarded by `rows.handle_hash == digest(browser)` in `records.find_interaction` and `records.take_state`.
    """
    world.clients["portal"] = replace(world.clients["portal"], consent="ask")
    victim, thief, empty = Browser(world), Browser(world), Browser(world)
    await at_the_region(thief)  # who has a handle, another one
    chooser, query = await at_the_region(victim)
    interaction = urlsplit(chooser).query
    consent = f"/sign-in/consent?{interaction}"
    steps = [chooser, f"/sign-in/guangdong?{interaction}", f"/sign-in/guangdong/callback?{query}", consent,
             f"/oauth2/authorize/cancel?{interaction}"]  # fmt: skip
    for step in steps:
        for stranger in (thief, empty):
            assert (await stranger.get(step)).status == 400, step
    assert urlsplit(await victim.to(f"/sign-in/guangdong/callback?{query}")).path == "/sign-in/consent"
    for stranger in (thief, empty):
        cookies = "; ".join(f"{name}={value}" for name, value in stranger.cookies.items())
        for decision in ("agree", "refuse"):
            form = {"interaction": parameters(chooser)["interaction"], "decision": decision}
            answer = await world.http.post(
                "/sign-in/consent", data=form, headers={"Cookie": cookies}, allow_redirects=False
            )
            assert answer.status == 400
        assert (await stranger.get(consent)).status == 400
    assert (await victim.get(consent)).status == 200


async def test_a_session_that_was_there_before_the_sign_on_is_never_the_one_after_it(world: World) -> None:
    """Session fixation: a handle that somebody planted, real or made up, is worth nothing after the sign-on.

    Guarded by `new_handle()` in `Broker._arrival`, and `end_earlier` in `authorization._finish`.
    """
    name, thief = "__Host-pearl_session", Browser(world)
    await signed_on(world, thief)
    for planted in ("A" * 43, thief.cookies[name]):
        victim = Browser(world)
        victim.cookies[name] = planted
        world.providers["guangdong"].subject = "gd-2"
        await victim.sign_on(Request(extra={"prompt": "login"}))
        assert victim.cookies[name] != planted
        onlooker = Browser(world)
        onlooker.cookies[name] = planted
        assert urlsplit(await onlooker.to(Request().url())).path == "/sign-in"


async def test_a_sign_on_begun_by_a_thief_is_not_finished_in_the_victims_browser(world: World) -> None:
    """Login CSRF: the victim follows the thief's way back, without and with a sign-on of its own under way.

    Guarded by `rows.handle_hash == digest(browser)` in `records.take_state`.
    """
    for victim in (Browser(world), Browser(world)):
        thief = Browser(world)
        _, query = await at_the_region(thief)
        if victim.cookies == {}:
            await victim.to(Request().url())
        assert (await victim.get(f"/sign-in/guangdong/callback?{query}")).status == 400
        assert "__Host-pearl_session" not in victim.cookies
    assert world.providers["guangdong"].returned == []


async def test_a_handle_of_one_kind_opens_nothing_of_another_kind(world: World) -> None:
    """All are 43 characters of the same alphabet, and each store knows its own kind alone (CVE-2022-39222).

    Guarded by one table for each kind: `families.redeem_code`, `rotate_refresh`, `records.take_pushed`, `find_session`.
    """
    browser, request = Browser(world), Request()
    chooser = await browser.to(request.url())
    upstream = parameters(await browser.to(choice(chooser, "guangdong")))
    _, pushed = await world.post("/oauth2/par", {**Request().fields()})
    body = await signed_on(world)
    other = Browser(world)
    code = (await other.sign_on(request))["code"]
    handles = {
        "interaction": parameters(chooser)["interaction"],
        "browser": browser.cookies["__Host-pearl_sign_on"],
        "session": other.cookies["__Host-pearl_session"],
        "state": upstream["state"],
        "pushed": pushed["request_uri"].rpartition(":")[2],
        "refresh": body["refresh_token"],
        "code": code,
    }
    assert len({*handles.values()}) == len(handles)
    for kind, handle in handles.items():
        if kind != "code":
            assert (await world.token(**request.redemption(handle)))[1]["error"] == "invalid_grant", kind
        if kind != "refresh":
            form = {"grant_type": "refresh_token", "refresh_token": handle, "client_id": "portal"}
            assert (await world.token(**form))[1]["error"] == "invalid_grant", kind
            assert (await world.post("/oauth2/introspect", {"token": handle, **world.signed()}))[1] == {"active": False}
        if kind != "pushed":
            uri = urlencode({"client_id": "portal", "request_uri": f"urn:ietf:params:oauth:request_uri:{handle}"})
            assert (await Browser(world).get(f"/oauth2/authorize?{uri}")).status == 400, kind
        if kind != "session":
            onlooker = Browser(world)
            onlooker.cookies["__Host-pearl_session"] = handle
            assert urlsplit(await onlooker.to(Request().url())).path == "/sign-in", kind
        assert (await world.userinfo(handle)).status == 401
    assert (await world.token(**request.redemption(code)))[0] == 200


# --- open redirect ---------------------------------------------------------------------------------------------------

LOOKALIKES = [
    "https://evil.test/",
    "//evil.test/back?keep=1",
    "/\\evil.test",
    "\\\\evil.test\\back",
    "https:evil.test",
    "https:/evil.test",
    "javascript:alert(1)",
    "data:text/html,x",
    REDIRECT + "#frag",
    REDIRECT + "&more=1",
    REDIRECT + "%00",
    REDIRECT + "%0d%0aX: y",
    REDIRECT + "/",
    REDIRECT + " ",
    " " + REDIRECT,
    REDIRECT.upper(),
    REDIRECT.replace("service.test", "SERVICE.TEST"),
    REDIRECT.replace("https", "http"),
    REDIRECT.replace("service.test", "service.test:443"),
    REDIRECT.replace("service.test", "service.test."),
    REDIRECT.replace("service.test", "service.test@evil.test"),
    REDIRECT.replace("service.test", "evil.test#service.test"),
    REDIRECT.replace("service.test", "evil.test\\@service.test"),
    REDIRECT.replace("service.test", "evil.test?.service.test"),
    REDIRECT.replace("service.test", "evil.test/service.test"),
    REDIRECT.replace("service.test", "sub.service.test"),
    REDIRECT.replace("service.test", "ѕervice.test"),  # a Cyrillic first letter
    REDIRECT.replace("service.test", "service。test"),  # an ideographic full stop, which browsers take for a dot
    REDIRECT.replace("service.test", "service.test\u2044evil.test"),
    REDIRECT.replace("/back", "/back/../back"),
    REDIRECT.replace("/back", "/%62ack"),
    REDIRECT.replace("/back", "//back"),
    REDIRECT.replace("/back", "/back;x"),
    "https://service.test/*",
    "\t" + REDIRECT,
    REDIRECT + "\r\nLocation: https://evil.test",
    "\u202e" + REDIRECT,
]


@pytest.mark.parametrize("uri", LOOKALIKES)
async def test_nobody_is_led_to_an_address_that_only_looks_registered(world: World, uri: str) -> None:
    """CVE-2026-3872. At the authorization endpoint by GET and POST, pushed, cancelled, and after a logout.

    Guarded by `redirect_uri in self.client.redirect_uris` in `OAuthClient`, and by `_return_to` in `logout_requests`.
    """
    browser, request = Browser(world), Request(extra={"redirect_uri": uri})
    for extra in ({}, {"prompt": "none"}, {"response_type": "token"}, {"code_challenge": None}):
        answer = await browser.get(Request(extra={"redirect_uri": uri, **extra}).url())
        assert (answer.status, "Location" in answer.headers) == (400, False)
        assert foreign(await answer.text()) == []
    posted = await world.http.post("/oauth2/authorize", data=request.fields(), allow_redirects=False)
    assert urlsplit(posted.headers["Location"])[:3] == ("", "", "/oauth2/authorize")
    status, body = await world.post("/oauth2/par", request.fields())
    assert (status, body["error"]) == (400, "invalid_request")
    bye = uri.replace("/back", "/bye")
    page = await browser.get(f"/oauth2/logout?{urlencode({'client_id': 'portal', 'post_logout_redirect_uri': bye})}")
    assert (page.status, "Location" in page.headers) == (400, False)


async def test_no_link_or_redirect_of_our_own_pages_leads_elsewhere(world: World) -> None:
    """Language links, `ui_locales`, `return`, odd paths: whatever stands in an address, its own origin is not left.

    Guarded by links that begin with `?` in base.html, and by `rel_url` in `logout._wished_language` and
    `signed_out_by_post`.
    """
    browser = Browser(world)
    chooser = await browser.to(Request(extra={"ui_locales": "//evil.test https://evil.test en"}).url())
    assert urlsplit(chooser)[:3] == ("", "", "/sign-in")
    tricks = [
        "//evil.test",
        "https://evil.test",
        "/\\evil.test",
        "javascript:alert(1)",
        '"><a href="//evil.test">',
        "%0d%0aX",
    ]
    pages = [
        chooser,
        "/oauth2/logout?x=1",
        "/oauth2/logout?ui_locales=en",
        "/sign-in/guangdong/callback?x=1",
        "/oauth2/authorize?x=1",
        "/sign-in?x=1",
    ]
    for page in pages:
        for trick in tricks:
            for name in ("lang", "return", "next", "why", "failed", "ui_locales", trick):
                answer = await browser.get(f"{page}&{quote(name, safe='')}={quote(trick, safe='')}")
                assert urlsplit(answer.headers.get("Location", ""))[:2] == ("", "")
                text = await answer.text()
                assert 'href="' in text or answer.status == 302
                assert foreign(text) == [], (page, name)
    for region in ("%2f%2fevil.test", "%5c%5cevil.test", "%0d%0aX:%20y", "%00", "x%3fy", "%23", "..%2f..%2f"):
        back = await raw(world, f"/sign-in/{region}/signed-out", b"state=x")
        assert back.startswith(b"HTTP/1.1 303 ")
        assert f"\r\nLocation: /sign-in/{region}/signed-out?state=x\r\n".encode() in back


def foreign(page: str) -> list[str]:
    """Return the links of a page that leave its origin: those of our own begin with `?`, `#` or one stroke."""
    links = re.findall(r'(?:href|action|src)="([^"]*)"', page)
    return [link for link in links if not re.match(r"[?#]|/(?![/\\])", link)]


async def raw(world: World, target: str, body: bytes) -> bytes:
    """Post a form to an address as it is, which clients would write differently."""
    reader, writer = await asyncio.open_connection(world.http.server.host, world.http.server.port)
    head = f"POST {target} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + body)
    answer = await reader.read()
    writer.close()
    return answer


# --- client assertions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "audience",
    [
        ISSUER + "/", ISSUER + "/oauth2/token", ISSUER + "/oauth2/par", ISSUER.upper(), ISSUER.replace("https", "http"),
        ISSUER + " ", ISSUER + "\u200b", [ISSUER], [ISSUER, ISSUER], [ISSUER, "https://evil.test"],
        ["https://evil.test", ISSUER], [], {}, {ISSUER: 1}, "", 7, True, f"{ISSUER} https://evil.test", "gateway.test",
    ],
)  # fmt: skip
@pytest.mark.parametrize("endpoint", ["token", "par", "introspect", "revoke"])
async def test_an_assertion_for_anything_but_our_issuer_alone_proves_nobody(
    world: World, endpoint: str, audience: Any
) -> None:
    """Audience injection: another server had the client sign for itself, and presents it here.

    Guarded by `claims.get("aud") != self._issuer` in `ClientAssertion.verify_claims`.
    """
    form = {
        "token": {"grant_type": "client_credentials"},
        "par": Request(client_id="agency").fields(),
        "introspect": {"token": "x"},
        "revoke": {"token": "x"},
    }[endpoint]
    kind = {"client_assertion_type": world.signed()["client_assertion_type"]}
    status, body = await world.post(
        f"/oauth2/{endpoint}", {**form, **kind, "client_assertion": world.assertion(aud=audience)}
    )
    assert (status, body["error"]) == (401, "invalid_client")


async def test_a_refused_assertion_uses_up_nothing(world: World) -> None:
    """Else whoever can guess the next id keeps a client out.

    Guarded by the order: `identify` before `_spent`.
    """
    claims = {"jti": "the-next-one"}
    assert (await world.machine_token(world.assertion(key=ECKey.generate_key("P-256"), **claims)))[0] == 401
    assert (await world.machine_token(world.assertion(aud="https://evil.test", **claims)))[0] == 401
    assert (await world.machine_token(world.assertion("rsa", **claims)))[0] == 200  # another client's id of that name
    assert (await world.machine_token(world.assertion(**claims)))[0] == 200
    assert (await world.machine_token(world.assertion(**claims)))[0] == 401


async def test_an_assertion_with_half_a_character_in_its_id_is_refused(world: World) -> None:
    """JSON can say what no store can hold. Guarded by orjson in `jose._decoded`."""
    now = world.clock.stamp()
    text = json.dumps({"iss": "agency", "sub": "agency", "aud": ISSUER, "exp": now + 60, "jti": "\ud800"})
    signed = jws.serialize_compact({"alg": "ES256"}, text, world.keys["agency"], algorithms=["ES256"])
    status, body = await world.machine_token(signed)
    assert (status, body["error"]) == (401, "invalid_client")


# --- the traps -------------------------------------------------------------------------------------------------------

NO_CHALLENGE: list[dict[str, str | None]] = [
    {"code_challenge": None, "code_challenge_method": None},
    {"code_challenge": None},
    {"code_challenge_method": None},
    {"code_challenge_method": "plain"},
    {"code_challenge_method": "s256"},
    {"code_challenge_method": "S256 plain"},
    {"code_challenge": "", "code_challenge_method": ""},
    {"code_challenge": "=" * 43},
    {"code_challenge": "x" * 44},
]


@pytest.mark.parametrize("changes", NO_CHALLENGE)
@pytest.mark.parametrize("client_id", ["portal", "agency"])
async def test_pkce_has_no_way_round_it(world: World, client_id: str, changes: dict[str, str | None]) -> None:
    """Authlib lets confidential clients omit PKCE, and accepts `plain`. Directly and pushed, public and confidential.

    Guarded by the first lines of `RequestRules.validate_code_challenge`.
    """
    request = Request(client_id=client_id, extra=changes)
    assert parameters(await Browser(world).to(request.url()))["error"] == "invalid_request"
    proof = world.signed() if client_id == "agency" else {}
    status, body = await world.post("/oauth2/par", {**request.fields(), **proof})
    assert (status, body["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("client_id", ["portal", "agency"])
async def test_a_code_tried_with_a_wrong_verifier_is_gone_and_nothing_came_of_it(world: World, client_id: str) -> None:
    """A thief has one try, and evidence does not say that a token was issued.

    Guarded by `_unproved` in `TokenEndpoints._redeem`.
    """
    for verifier, error in (("", "invalid_request"), ("w" * 43, "invalid_grant")):
        request = Request(client_id=client_id)
        code = (await Browser(world).sign_on(request))["code"]
        proof = world.signed if client_id == "agency" else dict
        form = request.redemption(code, code_verifier=verifier)
        assert (await world.token(**{**form, **proof()}))[1]["error"] == error
        assert all(row["revoked_at"] for row in await rows(world, token_families))  # before a second use ends it anyhow
        assert (await world.token(**{**request.redemption(code), **proof()}))[1]["error"] == "invalid_grant"
    issued = [row for row in await rows(world, evidence) if row["action"] == "token.issue"]
    assert {row["outcome"] for row in issued} == {"refused"}
    assert {row["who"]["client"] for row in issued} == {client_id}


async def test_an_exchange_for_another_kind_of_token_begins_nothing(world: World) -> None:
    """Guarded by the look at `requested_token_type` in `Exchanges._subject`."""
    body = await signed_on(world)
    form = {
        "grant_type": TOKEN_EXCHANGE, "subject_token": body["access_token"], "subject_token_type": ACCESS_TOKEN,
        "requested_token_type": "urn:ietf:params:oauth:token-type:id_token", **world.signed(),
    }  # fmt: skip
    assert (await world.post("/oauth2/token", form))[1]["error"] == "invalid_request"
    assert len(await rows(world, token_families)) == 1


def test_only_the_algorithms_of_fapi_are_spoken() -> None:
    """Authlib's defaults are HS256, RS256 and ES256; FAPI 2.0 §5.4 wants PS256, ES256 and EdDSA.

    Guarded by `ALGORITHMS` of `assertion` and `dpop`, and by `IdTokenAlgorithm` of `clients`.
    """
    fapi = {"ES256", "PS256", "EdDSA", "Ed25519"}
    assert {*assertion.ALGORITHMS, *dpop.ALGORITHMS, DEFAULT_ALGORITHM} <= fapi


async def test_an_algorithm_beyond_those_of_fapi_is_refused_with_the_right_key_too(world: World) -> None:
    """Guarded by the comparison of `alg` in `jose.verified_claims`."""
    p384, rsa = ECKey.generate_key("P-384"), RSAKey.generate_key(2048)
    world.clients["p384"] = a_client("p384", KeySet([p384]))
    world.clients["plain-rsa"] = a_client("plain-rsa", KeySet([rsa]))
    for client_id, key, algorithms in (
        ("p384", p384, ["ES384"]),
        ("plain-rsa", rsa, ["RS256", "RS384", "RS512", "PS384", "PS512"]),
    ):
        for algorithm in algorithms:
            signed = world.assertion(client_id, key, algorithm)
            assert (await world.machine_token(signed))[1]["error"] == "invalid_client", algorithm
    assert (await world.machine_token(world.assertion("plain-rsa", rsa, "PS256")))[0] == 200


async def test_a_token_of_one_purpose_is_good_for_no_other(world: World) -> None:
    """Each kind says in its header what it is (RFC 8725 §3.11), and all are signed with the same key.

    Guarded by `types` of `jose.verified_claims`.
    """
    body, parts = await signed_on(world), world.service.parts
    claims = pieces(body["access_token"])[1]
    assert (await world.userinfo(body["id_token"])).status == 401
    for kind in ("JWT", "logout+jwt", "dpop+jwt", "client-authentication+jwt", "", "AT+JWT2"):
        assert (await world.userinfo(parts.signer.sign(claims, typ=kind))).status == 401, kind
    told = pieces(body["id_token"])[1]
    logout = parts.signer.sign(told, typ="logout+jwt")
    for hint in (body["access_token"], logout):
        back = parameters(await Browser(world).to(Request(extra={"id_token_hint": hint}).url()))
        assert back["error"] == "invalid_request"
    stranger = Es256Signer([pem()])
    assert (await world.userinfo(stranger.sign(claims, typ="at+jwt"))).status == 401
    assert jwt.decode(body["access_token"], parts.signer.key_set(), algorithms=["ES256"]).claims == claims
