"""The relying party of OpenID Connect against a provider of a few lines that says what the test wants it to say.

Each rule is tested with the attack that it stops; the docstring names the guarding line where it is not plain.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import web
from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from gateway.errors import (
    ForgedCallback,
    InvalidRequest,
    NotOffered,
    RegionError,
    RegionUncertain,
    RegionUnreachable,
    ReplayedCallback,
    SignOnFailed,
    StartRefused,
)
from gateway.ports import Callback, SignOnReturn, SignOnStart, SignOutStart, UpstreamIdentity
from gateway.protocols.kept import Kept, Terms
from gateway.protocols.oidc import OidcClient, OidcSignOn, OidcSignOut, OnBehalf, open_client
from gateway.protocols.oidc_trust import KEYS_FRESH, PAUSE
from tests.support.clock import ManualClock
from tests.unit.protocol_support import NOW, Answerer, Seen, closed_port, far_side, kit

ISSUER = "https://provider.test"
CLIENT = "gateway & co"
CALLBACK = "http://gateway.test/sign-in/testland/callback"
KEY, OTHER_KEY, CLIENT_KEY = (ECKey.generate_key("P-256") for _ in range(3))
RSA_KEY = RSAKey.generate_key(2048)
DAY = timedelta(days=1)
PATHS = {
    "authorization_endpoint": "/authorize",
    "token_endpoint": "/token",
    "userinfo_endpoint": "/userinfo",
    "jwks_uri": "/jwks",
    "end_session_endpoint": "/logout",
}
SETTINGS: Mapping[str, Any] = {
    "issuer": ISSUER,
    "client_id": CLIENT,
    "algorithms": "ES256",
    "scope": "openid profile",
    "client_authentication": "private_key_jwt",
    "issuer_in_answers": True,
    "claims_parameter": True,
    **PATHS,
}
LOGOUT: Mapping[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}


def pem(key: ECKey | RSAKey) -> bytes:
    return key.as_pem(private=True)


SECRETS = {"client_key": pem(CLIENT_KEY), "client_secret": b"s:e c+r%et"}


def says(document: Any, status: int = 200) -> web.Response:
    return web.json_response(document, status=status)


def half_hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:16]).rstrip(b"=").decode()


def signed(claims: Mapping[str, Any], key: Key = KEY, alg: str = "ES256", **header: Any) -> str:
    protected = {"alg": alg, "kid": key.thumbprint(), "typ": "JWT", **header}
    protected = {name: value for name, value in protected.items() if value is not None}
    return jwt.encode(protected, dict(claims), key, algorithms=[alg], default_type=None)


# --- a provider --------------------------------------------------------------------------------------------------


@dataclass
class Provider:
    """Answers rightly, but for what the test changed."""

    clock: ManualClock
    published: list[Key] = field(default_factory=lambda: [KEY])
    nonce: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    """Claims of the ID token to change; None takes one away."""
    token: Callable[[dict[str, Any]], str] = signed
    answers: dict[str, Answerer] = field(default_factory=dict)
    """Path → another answer than the right one."""
    told: dict[str, Any] = field(default_factory=lambda: {"sub": "person-1", "name": "LEI Ka Ian"})
    asked: list[str] = field(default_factory=list)

    def answer(self, seen: Seen) -> Any:
        """Answer one request."""
        self.asked.append(seen.path)
        if seen.path in self.answers:
            return self.answers[seen.path](seen)
        match seen.path:
            case "/token":
                return says({"access_token": "access-1", "token_type": "Bearer", "id_token": self.id_token()})
            case "/userinfo":
                return says(self.told)
            case "/jwks":
                return says(
                    {"keys": [{**key.as_dict(private=False), "kid": key.thumbprint()} for key in self.published]}
                )
        return web.Response(status=404)

    def id_token(self) -> str:
        """Return the ID token that the test wants."""
        now = int(self.clock().timestamp())
        claims = {
            "iss": ISSUER,
            "sub": "person-1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "jti": "token-id-1",
            "nonce": self.nonce,
            "at_hash": half_hash("access-1"),
            "auth_time": now,
            "acr": "otp",
            "amr": ["pwd", "otp"],
            "sid": "session-1",
            **self.changes,
        }
        return self.token({name: value for name, value in claims.items() if value is not None})


@dataclass
class World:
    """A client and its provider."""

    provider: Provider
    client: OidcClient
    clock: ManualClock
    requests: list[Seen]

    async def begin(
        self, *, levels: Sequence[str] = (), fresh: bool = False, preferred: Sequence[str] = ()
    ) -> tuple[dict[str, str], Mapping[str, str]]:
        """Begin; return the query that the browser is sent away with, and what is kept."""
        start = SignOnStart("state-1", "nonce-1", CALLBACK, "pt", levels, fresh, preferred)
        there = await OidcSignOn(self.client).begin(start)
        query = dict(parse_qsl(urlsplit(there.url).query))
        self.provider.nonce = query["nonce"]
        return query, there.memory

    async def come_back(self, memory: Mapping[str, str], **query: str) -> UpstreamIdentity:
        """Come back with a code."""
        answer = {"code": "code-1", "state": "state-1", "iss": ISSUER, **query}
        return await OidcSignOn(self.client, OnBehalf("entity", "capacity", {"procurador": "handler"})).complete(
            SignOnReturn({name: value for name, value in answer.items() if value != "(none)"}, memory, CALLBACK)
        )

    async def sign_on(self, *, levels: Sequence[str] = (), fresh: bool = False) -> UpstreamIdentity:
        """Go there and come back."""
        _, memory = await self.begin(levels=levels, fresh=fresh)
        return await self.come_back(memory)


@asynccontextmanager
async def world(secrets: Mapping[str, bytes] = SECRETS, **settings: Any) -> AsyncIterator[World]:
    """Open a client with these settings; None takes one away. `{base}` is where the provider listens."""
    clock = ManualClock(NOW)
    provider = Provider(clock)
    async with far_side(provider.answer) as (far, base), kit(base, secrets=secrets) as lent:
        chosen = {**lent.settings, **SETTINGS, **settings}
        given = {k: v.replace("{base}", base) if isinstance(v, str) else v for k, v in chosen.items() if v is not None}
        client = open_client(replace(lent, settings=given, clock=clock))
        yield World(provider, client, clock, far.seen)


async def refused(place: World, **how: Any) -> SignOnFailed:
    with pytest.raises(SignOnFailed) as caught:
        await place.sign_on(**how)
    return caught.value


# --- the request -------------------------------------------------------------------------------------------------


async def test_a_request_binds_the_answer_to_this_sign_on_and_this_client() -> None:
    async with world() as place:
        query, memory = await place.begin()
        await place.come_back(memory)
    (redeemed,) = [dict(parse_qsl(seen.body.decode())) for seen in place.requests if seen.path == "/token"]
    digest = hashlib.sha256(redeemed["code_verifier"].encode()).digest()
    assert query["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert 43 <= len(redeemed["code_verifier"]) <= 128
    assert {name: query[name] for name in ("response_type", "client_id", "redirect_uri", "state", "nonce")} == {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": CALLBACK,
        "state": "state-1",
        "nonce": "nonce-1",
    }
    assert (query["code_challenge_method"], query["scope"], query["ui_locales"]) == ("S256", "openid profile", "pt")
    assert (redeemed["code"], redeemed["redirect_uri"]) == ("code-1", CALLBACK)
    assert not {"acr_values", "claims", "prompt", "max_age"} & query.keys()


async def test_every_sign_on_has_a_verifier_of_its_own() -> None:
    async with world() as place:
        verifiers = {(await place.begin())[1]["verifier"] for _ in range(3)}
    assert len(verifiers) == 3


async def test_levels_are_asked_for_and_where_the_provider_can_demanded() -> None:
    """Never in both ways: oidc-provider lets the wish replace the demand."""
    async with world() as place:
        query, _ = await place.begin(levels=("otp", "face"))
    assert "acr_values" not in query
    assert json.loads(query["claims"]) == {"id_token": {"acr": {"essential": True, "values": ["otp", "face"]}}}
    async with world(claims_parameter=False) as place:
        query, _ = await place.begin(levels=("otp",))
    assert query["acr_values"] == "otp"
    assert "claims" not in query


async def test_what_the_service_would_like_is_asked_for_first_among_what_would_do() -> None:
    """A wish must not be lost behind the least level, which some rule demands of nearly every sign-on."""
    async with world() as place:
        query, _ = await place.begin(levels=("pwd", "otp", "face"), preferred=("face",))
        wish, _ = await place.begin(preferred=("otp", "face"))
    assert json.loads(query["claims"])["id_token"]["acr"]["values"] == ["face", "pwd", "otp"]
    assert (wish["acr_values"], wish.get("claims")) == ("otp face", None)
    async with world(claims_parameter=False) as place:
        query, _ = await place.begin(levels=("otp", "face"), preferred=("pwd", "otp", "face"))
        liked, _ = await place.begin(levels=("otp", "face"), preferred=("face",))
    assert (query["acr_values"], liked["acr_values"]) == ("otp face", "face otp")


async def test_a_fresh_proof_is_asked_for_whatever_session_there_is() -> None:
    async with world() as place:
        query, _ = await place.begin(fresh=True)
    assert (query["prompt"], query["max_age"]) == ("login", "0")


async def test_a_person_can_only_be_sent_back_to_the_address_of_this_region() -> None:
    """One address for each upstream is what keeps their answers apart (mix-up)."""
    async with world() as place:
        start = SignOnStart("s", "n", "http://gateway.test/sign-in/otherland/callback", "en")
        with pytest.raises(SignOnFailed):
            await OidcSignOn(place.client).begin(start)
        _, memory = await place.begin()
        with pytest.raises(SignOnFailed):
            await OidcSignOn(place.client).complete(
                SignOnReturn({"code": "c", "iss": ISSUER}, memory, start.redirect_uri)
            )
    assert place.provider.asked == []


async def test_an_address_that_has_a_query_keeps_it() -> None:
    async with world(authorization_endpoint="/authorize?tenant=a%26b") as place:
        query, _ = await place.begin()
    assert query["tenant"] == "a&b"


# --- the answer to the browser -----------------------------------------------------------------------------------


async def test_an_answer_tells_who_signed_on_how_and_when() -> None:
    async with world() as place:
        place.provider.told = {"sub": "person-1", "name": "LEI Ka Ian", "gender": "F"}
        identity = await place.sign_on(levels=("otp",), fresh=True)
        token = place.provider.id_token()
    assert identity.subject == "person-1"
    assert identity.claims == {"sub": "person-1", "name": "LEI Ka Ian", "gender": "F"}
    assert (identity.method, identity.level, identity.session_ref) == ("pwd otp", "otp", "session-1")
    assert identity.authenticated_at == NOW
    assert identity.assertion.split(b".")[:2] == token.encode().split(b".")[:2]
    assert identity.kept == {"id_token": identity.assertion.decode()}
    assert identity.once is not None
    assert identity.once.expires_at > NOW + timedelta(minutes=10)
    assert (identity.organisation, identity.role) == (None, "")


async def test_somebody_who_signs_on_for_a_legal_person_brings_it_and_the_role() -> None:
    business = {"conta": "MOCS-1", "nomeChines": "測試行"}
    async with world() as place:
        place.provider.told = {"sub": "person-1", "entity": business, "capacity": "procurador"}
        identity = await place.sign_on()
    assert (identity.organisation, identity.role) == (business, "handler")
    assert identity.claims == {"sub": "person-1"}


@pytest.mark.parametrize("told", [{"capacity": "rei"}, {}, {"capacity": ["procurador"]}, {"entity": "a text"}])
async def test_a_role_that_was_not_agreed_speaks_for_nobody(told: dict[str, Any]) -> None:
    async with world() as place:
        place.provider.told = {"sub": "person-1", "entity": {"conta": "MOCS-1"}, **told}
        with pytest.raises(RegionUncertain):
            await place.sign_on()


async def test_what_is_signed_has_the_last_word() -> None:
    async with world() as place:
        place.provider.changes = {"name": "signed"}
        place.provider.told = {"sub": "person-1", "name": "told", "iss": "https://elsewhere.test"}
        assert (await place.sign_on()).claims == {"sub": "person-1", "name": "signed"}


@pytest.mark.parametrize("named", ["https://attacker.test", f"{ISSUER}/", "", "(none)"])
async def test_an_answer_in_another_name_or_in_none_is_no_answer(named: str) -> None:
    """Mix-up (RFC 9207 §2.4); the code is not sent anywhere. Guarded by `_check_return`."""
    async with world() as place:
        _, memory = await place.begin()
        with pytest.raises(SignOnFailed):
            await place.come_back(memory, iss=named)
    assert "/token" not in place.provider.asked


async def test_a_provider_that_need_not_name_itself_may_still_name_no_other() -> None:
    async with world(issuer_in_answers=False) as place:
        _, memory = await place.begin()
        assert (await place.come_back(memory, iss="(none)")).subject == "person-1"
        with pytest.raises(SignOnFailed):
            await place.come_back(memory, iss="https://attacker.test")


@pytest.mark.parametrize("code", ["", "(none)", "x" * 3000])
async def test_without_a_usable_code_nothing_is_asked(code: str) -> None:
    async with world() as place:
        _, memory = await place.begin()
        with pytest.raises(SignOnFailed):
            await place.come_back(memory, code=code)
    assert place.provider.asked == []


async def test_a_sign_on_that_did_not_begin_here_is_refused() -> None:
    """Without a verifier and a nonce there is nothing that a stolen code could be told by."""
    async with world() as place:
        _, memory = await place.begin()
        for lacking in ("verifier", "nonce"):
            with pytest.raises(SignOnFailed):
                await place.come_back({**memory, lacking: ""})
    assert place.provider.asked == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("access_denied", SignOnFailed),
        ("unmet_authentication_requirements", SignOnFailed),
        ("temporarily_unavailable", RegionUnreachable),
        ("server_error", RegionUnreachable),
    ],
)
async def test_a_refusal_is_the_persons_and_an_illness_the_regions(error: str, raised: type[Exception]) -> None:
    async with world() as place:
        _, memory = await place.begin()
        with pytest.raises(raised) as caught:
            await place.come_back(memory, error=error, error_description="李嘉欣 440103199001011234")
    assert "李嘉欣" not in f"{caught.value} {getattr(caught.value, 'detail', '')}"


async def test_an_error_in_another_name_is_not_listened_to() -> None:
    async with world() as place:
        _, memory = await place.begin()
        with pytest.raises(SignOnFailed, match="not the identity provider's"):
            await place.come_back(memory, error="server_error", iss="https://attacker.test")


# --- the token endpoint ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (says({"error": "invalid_grant"}, 400), SignOnFailed),
        (says({"error": "something_else"}, 400), SignOnFailed),
        (says({"error": "invalid_client"}, 401), RegionUnreachable),
        (says({"error": "unauthorized_client"}, 400), RegionUnreachable),
        (says({"error": "invalid_grant"}, 502), RegionUncertain),
        (says({}, 500), RegionUncertain),
        (says([]), RegionUncertain),
        (web.Response(body=b"<html>"), RegionUncertain),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}), RegionUncertain),
        (says({"access_token": "a", "token_type": "Bearer"}), RegionUncertain),
        (says({"access_token": "a", "token_type": "Bearer", "id_token": 7}), RegionUncertain),
        (says({"access_token": "a", "token_type": "Bearer", "id_token": "x" * 9000}), RegionUncertain),
        (says({"access_token": "a\r\nx: y", "token_type": "Bearer", "id_token": "a.b.c"}), RegionUncertain),
        (says({"access_token": "a", "token_type": "mac", "id_token": "a.b.c"}), RegionUncertain),
        (says({"access_token": "a" * (1 << 20), "token_type": "Bearer", "id_token": "a.b.c"}), RegionUncertain),
        (web.Response(status=429), RegionUnreachable),
    ],
    ids=range(16),
)
async def test_the_token_endpoint_tells_a_bad_code_from_a_bad_provider(
    answer: web.Response, raised: type[Exception]
) -> None:
    copy = (answer.status, answer.body, dict(answer.headers))
    async with world() as place:
        place.provider.answers["/token"] = lambda _: web.Response(
            status=copy[0], body=copy[1], headers={k: v for k, v in copy[2].items() if k == "Location"}
        )
        _, memory = await place.begin()
        with pytest.raises(raised):
            await place.come_back(memory)
    assert "/userinfo" not in place.provider.asked


async def test_a_client_proves_itself_by_an_assertion_for_this_provider_alone() -> None:
    """An audience that others share could be used at them (rfc7523bis)."""
    async with world() as place:
        await place.sign_on()
        await place.sign_on()
    forms = [dict(parse_qsl(seen.body.decode())) for seen in place.requests if seen.path == "/token"]
    assertions = [jwt.decode(form["client_assertion"], CLIENT_KEY, algorithms=["ES256"]).claims for form in forms]
    first, second = assertions
    now = int(NOW.timestamp())
    assert (first["iss"], first["sub"], first["aud"]) == (CLIENT, CLIENT, ISSUER)
    assert now < first["exp"] <= now + 60
    assert first["jti"] != second["jti"]
    assert {form["client_assertion_type"] for form in forms} == {
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    }


async def test_an_rsa_key_signs_with_pss() -> None:
    async with world({"client_key": pem(RSA_KEY)}) as place:
        await place.sign_on()
    (form,) = [dict(parse_qsl(seen.body.decode())) for seen in place.requests if seen.path == "/token"]
    assert jwt.decode(form["client_assertion"], RSA_KEY, algorithms=["PS256"]).claims["iss"] == CLIENT


async def test_a_shared_secret_travels_form_encoded_in_the_header() -> None:
    """RFC 6749 §2.3.1: a colon or a blank in an id would otherwise be read as something else."""
    async with world(client_authentication="client_secret_basic") as place:
        await place.sign_on()
    (seen,) = [seen for seen in place.requests if seen.path == "/token"]
    kind, _, pair = seen.headers["Authorization"].partition(" ")
    assert (kind, base64.b64decode(pair)) == ("Basic", b"gateway+%26+co:s%3Ae+c%2Br%25et")
    assert b"client_assertion" not in seen.body


# --- the ID token: signature -------------------------------------------------------------------------------------


def unsigned(claims: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])


def with_public_key_as_secret(claims: dict[str, Any]) -> str:
    secret = OctKey.import_key(base64.b64encode(KEY.as_pem(private=False)))
    header = {"alg": "HS256", "kid": KEY.thumbprint()}
    return jws.serialize_compact(header, json.dumps(claims), secret, algorithms=["HS256"])


def with_an_odd_key_id(claims: dict[str, Any]) -> str:
    header = json.dumps({"alg": "ES256", "kid": ["a", "list"]}).encode()
    return ".".join([base64.urlsafe_b64encode(header).rstrip(b"=").decode(), *signed(claims).split(".")[1:]])


def tampered(claims: dict[str, Any]) -> str:
    header, _, signature = signed(claims).split(".")
    changed = json.dumps({**claims, "sub": "person-2"}).encode()
    return f"{header}.{base64.urlsafe_b64encode(changed).rstrip(b'=').decode()}.{signature}"


@pytest.mark.parametrize(
    "token",
    [
        unsigned,
        with_public_key_as_secret,
        tampered,
        lambda claims: signed(claims, OTHER_KEY, kid=KEY.thumbprint()),
        lambda claims: signed(claims, OTHER_KEY),
        lambda claims: signed(claims, OTHER_KEY, kid=None),
        lambda claims: signed(claims, OTHER_KEY, jwk=OTHER_KEY.as_dict(private=False)),
        lambda claims: signed(claims, RSA_KEY, "RS256"),
        lambda claims: signed(claims, typ="at+jwt"),
        lambda claims: signed(claims, typ="logout+jwt"),
        with_an_odd_key_id,
        lambda claims: f"{signed(claims)}.",
        lambda _: "garbage",
        lambda _: "e30.e30.e30",
        lambda _: f"{base64.urlsafe_b64encode(b'[' * 3000).decode().rstrip('=')}.e30.x",
    ],
    ids=[
        "alg none", "algorithm confusion", "tampered", "another key under the known id", "another key",
        "another key without an id", "own key in the header", "an algorithm that was not agreed", "an access token",
        "a logout token", "a key id that is none", "four parts", "garbage", "empty", "deep JSON",
    ],
)  # fmt: skip
async def test_a_token_that_the_provider_did_not_sign_signs_nobody_on(token: Callable[[dict[str, Any]], str]) -> None:
    """Guarded by `oidc_tokens.verified`: algorithm before key, keys from the pinned address alone."""
    async with world() as place:
        place.provider.published = [KEY, RSA_KEY]
        place.provider.token = token
        failure = await refused(place)
    assert "/userinfo" not in place.provider.asked
    assert "person-1" not in f"{failure} {failure.detail}"


async def test_a_token_without_a_key_id_is_tried_with_the_keys_that_fit() -> None:
    async with world() as place:
        place.provider.published = [OTHER_KEY, RSA_KEY, KEY]
        place.provider.token = lambda claims: signed(claims, kid=None)
        assert (await place.sign_on()).subject == "person-1"


@pytest.mark.parametrize(
    ("algorithm", "key"), [("PS256", RSA_KEY), ("RS256", RSA_KEY), ("EdDSA", OKPKey.generate_key("Ed25519"))]
)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # our own signing with EdDSA, in this test
async def test_each_algorithm_that_can_be_agreed_is_understood(algorithm: str, key: Key) -> None:
    async with world(algorithms=algorithm) as place:
        place.provider.published = [key]
        place.provider.changes = {"at_hash": None}
        place.provider.token = lambda claims: signed(claims, key, algorithm)
        assert (await place.sign_on()).subject == "person-1"


# --- the ID token: claims ----------------------------------------------------------------------------------------

T = int(NOW.timestamp())


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://attacker.test"},
        {"iss": f"{ISSUER}/"},
        {"iss": None},
        {"aud": "another-client"},
        {"aud": None},
        {"aud": []},
        {"aud": [CLIENT, "another-client"]},
        {"aud": [CLIENT, "another-client"], "azp": "another-client"},
        {"azp": "another-client"},
        {"aud": {"client": CLIENT}},
        {"nonce": "nonce-2"},
        {"nonce": None},
        {"nonce": ["nonce-1"]},
        {"exp": T - 31},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": float("nan")},
        {"iat": T + 31},
        {"iat": T - 631, "exp": T + 10**9},
        {"iat": None},
        {"iat": 10**400},
        {"nbf": T + 31},
        {"at_hash": half_hash("another access token")},
        {"at_hash": ""},
        {"at_hash": 7},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"sub": "a\nb"},
        {"acr": 3},
        {"auth_time": "now"},
        {"auth_time": T + 31},
        {"amr": "pwd"},
    ],
    ids=repr,
)
async def test_a_token_that_says_something_else_than_it_should_signs_nobody_on(changes: dict[str, Any]) -> None:
    async with world() as place:
        place.provider.changes = changes
        await refused(place)
    assert "/userinfo" not in place.provider.asked


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": T - 29},
        {"iat": T + 29},
        {"nbf": T + 29},
        {"aud": [CLIENT]},
        {"aud": [CLIENT, "another-client"], "azp": CLIENT},
        {"at_hash": None},
        {"amr": None, "acr": None, "auth_time": None, "sid": None, "jti": None},
        {"sid": "a\nb"},
    ],
    ids=repr,
)
async def test_what_the_standard_leaves_open_and_clocks_a_little_apart_do_no_harm(changes: dict[str, Any]) -> None:
    async with world() as place:
        place.provider.changes = changes
        identity = await place.sign_on()
    assert identity.session_ref == ("" if "sid" in changes else "session-1")


@pytest.mark.parametrize("acr", ["password", None, ""])
async def test_a_level_that_was_not_asked_for_is_refused_and_never_downgraded(acr: str | None) -> None:
    """Guarded by the last check of `_check_proof`."""
    async with world() as place:
        place.provider.changes = {"acr": acr}
        await refused(place, levels=("otp", "face"))
        place.provider.changes = {"acr": "face"}
        assert (await place.sign_on(levels=("otp", "face"))).level == "face"


@pytest.mark.parametrize("ago", [31, 86_400, None])
async def test_an_old_proof_is_none_when_a_new_one_was_asked_for(ago: int | None) -> None:
    async with world() as place:
        place.provider.changes = {"auth_time": None if ago is None else T - ago}
        await refused(place, fresh=True)
        identity = await place.sign_on()
    assert identity.authenticated_at == (None if ago is None else NOW - timedelta(seconds=ago))


async def test_a_proof_is_fresh_by_when_the_person_was_sent_and_not_by_when_they_came_back() -> None:
    async with world() as place:
        _, memory = await place.begin(fresh=True)
        place.provider.changes = {"auth_time": T + 1}
        place.clock.advance(120)
        assert (await place.come_back(memory)).subject == "person-1"


async def test_a_replayed_token_has_the_nonce_of_another_sign_on() -> None:
    async with world() as place:
        await place.sign_on()
        earlier = place.provider.id_token()
        start = SignOnStart("state-2", "nonce-2", CALLBACK, "pt")
        there = await OidcSignOn(place.client).begin(start)
        place.provider.token = lambda _: earlier
        with pytest.raises(SignOnFailed):
            await place.come_back(there.memory)


@pytest.mark.parametrize("jti", ["token-id-1", None])
async def test_a_token_has_one_id_however_its_signature_is_written(jti: str | None) -> None:
    """An ECDSA signature (r, s) is as good as (r, -s): a digest of the whole token would let it in twice."""

    def turned(claims: dict[str, Any]) -> str:
        header, payload, signature = signed(claims).split(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        other = r.to_bytes(32, "big") + (order - s).to_bytes(32, "big")
        return f"{header}.{payload}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"

    async with world() as place:
        place.provider.changes = {"jti": jti}
        first = await place.sign_on()
        place.provider.token = turned
        second = await place.sign_on()
    assert first.assertion != second.assertion
    assert first.once == second.once
    assert first.once is not None
    assert len(first.once.value) == 64


# --- userinfo ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [{"sub": "person-2"}, {"name": "nobody"}, {"sub": ["person-1"]}])
async def test_userinfo_of_somebody_else_signs_nobody_on(told: dict[str, Any]) -> None:
    """Core §5.3.4: an access token that was exchanged on the way would bring another person's claims."""
    async with world() as place:
        place.provider.told = told
        await refused(place)


async def test_userinfo_that_cannot_be_had_is_the_regions_failure() -> None:
    async with world() as place:
        for status, body in ((500, b"{}"), (200, b"{"), (401, b"{}")):
            place.provider.answers["/userinfo"] = partial(_answers, status, body)
            with pytest.raises(RegionUncertain):
                await place.sign_on()


def _answers(status: int, body: bytes, _seen: Seen) -> web.Response:
    return web.Response(status=status, body=body)


async def test_userinfo_is_asked_with_the_access_token_and_not_at_all_where_there_is_none() -> None:
    async with world() as place:
        await place.sign_on()
    (seen,) = [seen for seen in place.requests if seen.path == "/userinfo"]
    assert seen.headers["Authorization"] == "Bearer access-1"
    async with world(userinfo_endpoint=None) as place:
        assert (await place.sign_on()).claims == {"sub": "person-1"}


# --- keys --------------------------------------------------------------------------------------------------------


async def test_keys_are_fetched_when_first_needed_and_once() -> None:
    async with world() as place:
        assert place.client.trust.keys.confirmed_at() is None
        await place.begin()
        assert place.provider.asked == []
        await asyncio.gather(*(place.sign_on() for _ in range(5)))
        assert place.provider.asked.count("/jwks") == 1
        assert place.client.trust.keys.confirmed_at() == NOW


async def test_a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_is_gone_then() -> None:
    async with world() as place:
        await place.sign_on()
        place.provider.published = [OTHER_KEY]
        place.clock.advance(PAUSE.total_seconds())
        place.provider.token = lambda claims: signed(claims, OTHER_KEY)
        await place.sign_on()
        place.provider.token = signed
        await refused(place)


async def test_a_retired_key_is_not_trusted_beyond_the_next_look() -> None:
    """Guarded by `Kept`: what is kept is replaced as a whole, never added to."""
    async with world() as place:
        await place.sign_on()
        place.provider.published = [OTHER_KEY]
        place.clock.advance(KEYS_FRESH.total_seconds())
        await refused(place)


async def test_made_up_key_ids_do_not_turn_us_against_the_provider() -> None:
    async with world() as place:
        await place.sign_on()
        place.provider.token = lambda claims: signed(claims, OTHER_KEY)
        for _ in range(5):
            await refused(place)
        assert place.provider.asked.count("/jwks") == 1
        place.clock.advance(PAUSE.total_seconds())
        for _ in range(5):
            await refused(place)
        assert place.provider.asked.count("/jwks") == 2


@pytest.mark.parametrize("answer", [web.Response(status=503), web.Response(body=b"<html>"), says({"keys": []})])
async def test_the_last_good_keys_are_believed_for_a_day_and_no_longer(answer: web.Response) -> None:
    """A provider whose keys cannot be had is no reason to turn people away; for how long is a limit, not a hope."""
    status, body = answer.status, answer.body
    async with world(keys_stale_seconds=int(DAY.total_seconds())) as place:
        await place.sign_on()
        place.provider.answers["/jwks"] = lambda _: web.Response(status=status, body=body)
        place.clock.advance(DAY.total_seconds() - 1)
        assert (await place.sign_on()).subject == "person-1"
        assert place.client.trust.keys.confirmed_at() == NOW
        place.clock.advance(1)
        with pytest.raises(RegionUnreachable):
            await place.sign_on()
        del place.provider.answers["/jwks"]
        assert (await place.sign_on()).subject == "person-1"


async def test_those_who_wait_for_one_fetch_share_its_outcome_a_bad_one_too() -> None:
    """Guarded by the count of rounds in `Kept`: a provider that has fallen is not asked once for each who waits."""
    fetches, fail = 0, asyncio.Event()

    async def fetch() -> str:
        nonlocal fetches
        fetches += 1
        await fail.wait()
        raise RegionUncertain("testland is ill")

    kept = Kept("testland", "keys", fetch, Terms(KEYS_FRESH, DAY, PAUSE), ManualClock(NOW))
    waiting = [asyncio.ensure_future(kept.current()) for _ in range(5)]
    await asyncio.sleep(0)  # all of them have asked
    fail.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RegionUnreachable] * 5
    assert fetches == 1
    with pytest.raises(RegionUnreachable):
        await kept.again()
    assert fetches == 2


async def test_nobody_is_signed_on_before_there_are_keys() -> None:
    async with world() as place:
        place.provider.answers["/jwks"] = lambda _: web.Response(status=500)
        with pytest.raises(RegionUnreachable):
            await place.sign_on()
        assert place.client.trust.keys.confirmed_at() is None
        del place.provider.answers["/jwks"]
        assert (await place.sign_on()).subject == "person-1"


@pytest.mark.parametrize(
    "entry",
    [
        KEY.as_dict(private=True, kid=KEY.thumbprint()),
        {**KEY.as_dict(private=False), "kid": KEY.thumbprint(), "use": "enc"},
        {**KEY.as_dict(private=False), "kid": KEY.thumbprint(), "alg": "ES384"},
        {**KEY.as_dict(private=False), "kid": KEY.thumbprint(), "x": "AAAA"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": KEY.thumbprint()},
        {"kty": ["EC"], "kid": KEY.thumbprint()},
        "no key",
    ],
    ids=["private", "for encryption", "for another algorithm", "not on the curve", "symmetric", "odd", "text"],
)
async def test_a_key_that_cannot_be_trusted_is_passed_over(entry: Any) -> None:
    """Anybody could sign with a key whose private part is published."""
    async with world() as place:
        other = {**OTHER_KEY.as_dict(private=False), "kid": OTHER_KEY.thumbprint()}
        place.provider.answers["/jwks"] = lambda _: says({"keys": [entry, other]})
        await refused(place)
        place.provider.token = lambda claims: signed(claims, kid=None)
        await refused(place)
        place.provider.token = lambda claims: signed(claims, OTHER_KEY)
        assert (await place.sign_on()).subject == "person-1"


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # the weak key is made here on purpose
async def test_a_weak_rsa_key_is_passed_over() -> None:
    weak = RSAKey.generate_key(1024)
    async with world(algorithms="RS256") as place:
        place.provider.published = [weak]
        place.provider.token = lambda claims: signed(claims, weak, "RS256")
        with pytest.raises(RegionUnreachable):
            await place.sign_on()


# --- discovery ---------------------------------------------------------------------------------------------------

METADATA = "/.well-known/openid-configuration"
BY_DISCOVERY: Mapping[str, Any] = {"issuer": "{base}", **dict.fromkeys(PATHS)}


def describes(place: World, **changes: Any) -> None:
    """Have the provider describe itself, with these changes; None takes something away."""
    base = place.client.wire.base_url
    document = {"issuer": base, **{name: base + path for name, path in PATHS.items()}, **changes}
    listed = {"id_token_signing_alg_values_supported": ["none", "HS256"]}
    right = {name: value for name, value in (listed | document).items() if value is not None}
    place.provider.answers[METADATA] = lambda _: says(right)
    place.provider.changes["iss"] = base


async def by_discovery(place: World) -> UpstreamIdentity:
    _, memory = await place.begin()
    return await place.come_back(memory, iss=place.client.wire.base_url)


async def test_a_provider_may_say_where_it_listens_and_is_asked_once_a_day() -> None:
    async with world(**BY_DISCOVERY) as place:
        describes(place)
        for _ in range(3):
            assert (await by_discovery(place)).subject == "person-1"
        assert place.provider.asked.count(METADATA) == 1
        place.clock.advance(DAY.total_seconds())
        await by_discovery(place)
        assert place.provider.asked.count(METADATA) == 2


async def test_addresses_that_were_right_yesterday_serve_while_the_metadata_cannot_be_had() -> None:
    async with world(**BY_DISCOVERY) as place:
        describes(place)
        await by_discovery(place)
        place.clock.advance(DAY.total_seconds())
        place.provider.answers[METADATA] = lambda _: web.Response(status=500)
        assert (await by_discovery(place)).subject == "person-1"
        place.clock.advance(DAY.total_seconds())
        with pytest.raises(RegionUnreachable):
            await place.begin()


async def test_the_algorithms_that_a_provider_lists_are_not_looked_at() -> None:
    """Its metadata list `none`: a client that took algorithms from there would take an unsigned token."""
    async with world(**BY_DISCOVERY) as place:
        describes(place)
        place.provider.token = unsigned
        with pytest.raises(SignOnFailed):
            await by_discovery(place)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": ISSUER},
        {"issuer": None},
        {"token_endpoint": "https://attacker.test/token"},
        {"jwks_uri": "http://127.0.0.1:1/jwks"},
        {"userinfo_endpoint": "https://attacker.test/userinfo"},
        {"end_session_endpoint": "https://attacker.test/logout"},
        {"authorization_endpoint": "https://attacker.test/authorize"},
        {"token_endpoint": None},
        {"jwks_uri": 7},
        {"jwks_uri": "/jwks"},
    ],
    ids=repr,
)
async def test_metadata_that_lead_elsewhere_are_not_followed(changes: dict[str, Any]) -> None:
    """Guarded by `Trust._discover`; afterwards the right ones are taken, as if nothing had been."""
    async with world(**BY_DISCOVERY) as place:
        describes(place, **changes)
        with pytest.raises(RegionError):
            await place.begin()
        assert set(place.provider.asked) == {METADATA}
        describes(place)
        assert (await by_discovery(place)).subject == "person-1"


# --- silence -----------------------------------------------------------------------------------------------------


async def test_a_provider_that_is_not_there_is_unreachable() -> None:
    async with kit(closed_port(), secrets=SECRETS) as lent:
        sign_on = OidcSignOn(open_client(replace(lent, settings={**SETTINGS, **lent.settings})))
        there = await sign_on.begin(SignOnStart("s", "n", CALLBACK, "en"))
        with pytest.raises(RegionUnreachable):
            await sign_on.complete(SignOnReturn({"code": "c", "iss": ISSUER}, there.memory, CALLBACK))


# --- sign-out ----------------------------------------------------------------------------------------------------


async def test_a_session_is_ended_where_the_provider_says_with_what_names_it() -> None:
    async with world() as place:
        start = SignOutStart({"id_token": "a.b.c"}, "state-1", "http://gateway.test/sign-in/testland/signed-out", "pt")
        there = await OidcSignOut(place.client).end(start)
    assert there is not None
    assert urlsplit(there.url).path == "/logout"
    assert dict(parse_qsl(urlsplit(there.url).query)) == {
        "id_token_hint": "a.b.c",
        "client_id": CLIENT,
        "post_logout_redirect_uri": "http://gateway.test/sign-in/testland/signed-out",
        "state": "state-1",
        "ui_locales": "pt",
    }


async def test_a_provider_without_a_page_for_it_is_let_be() -> None:
    async with world(end_session_endpoint=None) as place:
        with pytest.raises(NotOffered):
            await OidcSignOut(place.client).end(SignOutStart({}, "s", "http://gateway.test/x", "en"))


def notice(token: str, **changes: Any) -> Callback:
    form = {"content-type": "application/x-www-form-urlencoded"}
    right = Callback("POST", "/sign-in/testland/logout", form, urlencode({"logout_token": token}).encode(), NOW)
    return replace(right, **changes)


def logout_token(key: Key = KEY, *, typ: str | None = "logout+jwt", **changes: Any) -> str:
    claims = {
        "iss": ISSUER,
        "aud": CLIENT,
        "iat": T,
        "exp": T + 120,
        "jti": "notice-1",
        "sub": "person-1",
        "sid": "session-1",
        "events": LOGOUT,
        **changes,
    }
    return signed({name: value for name, value in claims.items() if value is not None}, key, typ=typ)


async def test_a_notice_tells_which_session_has_ended_and_may_be_heard_once() -> None:
    async with world() as place:
        sign_out = OidcSignOut(place.client)
        both = await sign_out.ended(notice(logout_token()))
        of_all = await sign_out.ended(notice(logout_token(sid=None, jti="notice-2", aud=[CLIENT])))
    assert (both.session_ref, both.subject) == ("session-1", "person-1")
    assert (of_all.session_ref, of_all.subject) == ("", "person-1")
    assert both.once is not None
    assert of_all.once is not None
    assert both.once.value != of_all.once.value
    assert both.once.expires_at > NOW


@pytest.mark.parametrize(
    ("token", "raised"),
    [
        (logout_token(OTHER_KEY), ForgedCallback),
        (unsigned({"iss": ISSUER, "aud": CLIENT, "iat": T, "jti": "j", "sid": "s", "events": LOGOUT}), ForgedCallback),
        (logout_token(typ="JWT"), ForgedCallback),
        (logout_token(typ=None), ForgedCallback),
        (logout_token(nonce="nonce-1"), ForgedCallback),
        (logout_token(iss="https://attacker.test"), ForgedCallback),
        (logout_token(aud="another-client"), ForgedCallback),
        (logout_token(aud=[CLIENT, "another-client"]), ForgedCallback),
        (logout_token(events=None), ForgedCallback),
        (logout_token(events={"http://schemas.openid.net/event/other": {}}), ForgedCallback),
        (logout_token(events={next(iter(LOGOUT)): "yes"}), ForgedCallback),
        (logout_token(jti=None), ForgedCallback),
        (logout_token(sub=None, sid=None), ForgedCallback),
        (logout_token(sub=7), ForgedCallback),
        (logout_token(sid=["session-1"]), ForgedCallback),
        ("garbage", ForgedCallback),
        (logout_token(exp=T - 31), ReplayedCallback),
        (logout_token(exp=None), ReplayedCallback),
        (logout_token(iat=T - 700, exp=T + 10**6), ReplayedCallback),
        (logout_token(iat=T + 60), ReplayedCallback),
        (logout_token(iat=None), ReplayedCallback),
    ],
    ids=range(21),
)
async def test_a_notice_that_is_not_the_providers_ends_nothing(token: str, raised: type[Exception]) -> None:
    async with world() as place:
        with pytest.raises(raised):
            await OidcSignOut(place.client).ended(notice(token))


async def test_an_id_token_is_no_notice() -> None:
    """The person's own browser may hold one; with it anybody could end the session of somebody else."""
    async with world() as place:
        await place.sign_on()
        with pytest.raises(ForgedCallback):
            await OidcSignOut(place.client).ended(notice(place.provider.id_token()))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"headers": {"content-type": "application/json"}},
        {"headers": {}},
        {"body": b"logout_token=a&logout_token=b"},
        {"body": b""},
        {"body": b"logout_token=\xff"},
        {"body": b"logout_token=" + b"x" * 20_000},
        {"body": b"&".join(b"a=b" for _ in range(100))},
    ],
    ids=range(8),
)
async def test_a_notice_that_is_no_form_with_one_token_is_not_looked_at(changes: dict[str, Any]) -> None:
    async with world() as place:
        with pytest.raises(InvalidRequest):
            await OidcSignOut(place.client).ended(notice(logout_token(), **changes))
    assert place.provider.asked == []


async def test_a_notice_is_not_judged_while_the_keys_cannot_be_had() -> None:
    """It would be as wrong to believe it as to call it forged; the provider sends it again."""
    async with world() as place:
        place.provider.answers["/jwks"] = lambda _: web.Response(status=500)
        with pytest.raises(RegionUnreachable):
            await OidcSignOut(place.client).ended(notice(logout_token()))


# --- opening -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "secrets", "named"),
    [
        ({"issuer": None}, SECRETS, "settings.issuer"),
        ({"client_id": ""}, SECRETS, "settings.client_id"),
        ({"algorithms": ""}, SECRETS, "settings.algorithms"),
        ({"algorithms": "ES256 none"}, SECRETS, "settings.algorithms"),
        ({"algorithms": "HS256"}, SECRETS, "settings.algorithms"),
        ({"token_endpoint": None}, SECRETS, "settings.token_endpoint"),
        ({"jwks_uri": "ftp://provider.test/jwks"}, SECRETS, "settings.jwks_uri"),
        ({"jwks_uri": "jwks"}, SECRETS, "settings.jwks_uri"),
        ({"token_endpoint": "https://user@provider.test/"}, SECRETS, "settings.token_endpoint"),
        (dict.fromkeys(PATHS), SECRETS, "settings.issuer"),
        ({"issuer_in_answers": "yes"}, SECRETS, "settings.issuer_in_answers"),
        ({"claims_parameter": None}, SECRETS, "settings.claims_parameter"),
        ({"keys_stale_seconds": 5}, SECRETS, "settings.keys_stale_seconds"),
        ({"keys_stale_seconds": True}, SECRETS, "settings.keys_stale_seconds"),
        ({"client_authentication": "none"}, SECRETS, "settings.client_authentication"),
        ({}, {"client_key": b""}, "secrets.client_key"),
        ({}, {"client_key": b"no key"}, "secrets.client_key"),
        ({}, {"client_key": KEY.as_pem(private=False)}, "secrets.client_key"),
        ({}, {"client_key": pem(ECKey.generate_key("P-384"))}, "secrets.client_key"),
        ({"client_authentication": "client_secret_basic"}, {"client_secret": b"\xff"}, "secrets.client_secret"),
    ],
    ids=range(20),
)
async def test_what_cannot_work_is_known_at_the_start(
    settings: dict[str, Any], secrets: dict[str, bytes], named: str
) -> None:
    with pytest.raises(StartRefused) as caught:
        async with world(secrets, **settings):
            pass
    assert [problem.field for problem in caught.value.problems] == [f"regions.testland.{named}"]


async def test_addresses_may_lie_anywhere_if_the_configuration_says_so() -> None:
    async with world(authorization_endpoint="https://people.provider.test/authorize") as place:
        start = SignOnStart("s", "n", CALLBACK, "en")
        assert (await OidcSignOn(place.client).begin(start)).url.startswith("https://people.provider.test/authorize?")
