"""The simulated OpenID Providers of Macau and Hainan keep the contracts of their READMEs and are as strict as they say.

The client here is written from the standards: neither the gateway's client nor the provider's own code speaks for it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from lxml import html

from gateway.sandbox.authority import AuthoritySettings
from gateway.sandbox.layout import simulated_regions
from tests.unit.exchange_support import exchange_given
from tests.unit.protocol_support import Seen, far_side
from tests.unit.province_support import authority_given

NOW = 1_700_000_000
CLIENT = "pearl"
SIGNING_EC, SIGNING_RSA, CLIENT_KEY = ECKey.generate_key("P-256"), RSAKey.generate_key(2048), RSAKey.generate_key(2048)
PERSON = {
    "account": "ana",
    "password": "correct <horse>",
    "otp": "246810",
    "subject": "subject-1",
    "name": "Ana Teste",
    "name_zh": "測試",
    "doc_type": "PASSAPORTE",
    "doc_no": "PE1234567",
    "id_type": "111",
    "id_number": "44010619900101900X",
    "sex": "F",
    "birth_date": "1990-01-01",
}
MERCHANT = {
    **PERSON,
    "account": "bea",
    "subject": "subject-2",
    "business": {"conta": "MOCS-1"},
    "capacity": "procurador",
}
PATHS = {"macau": "/oidc/{}", "hainan": "/uc/oauth2/{}"}
NAMES = {
    "macau": ("authorize", "token", "userinfo", "jwks", "logout"),
    "hainan": ("auth", "token", "userinfo", "keys", "logout"),
}


@dataclass
class Bench:
    """A provider, and a client that speaks to it."""

    region: str
    issuer: str
    browser: TestClient[Any, Any]
    gateway: str
    notices: list[Seen]
    now: list[float]
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def path(self, index: int) -> str:
        return PATHS[self.region].format(NAMES[self.region][index])

    @property
    def callback(self) -> str:
        return f"{self.gateway}/sign-in/{self.region}/callback"

    def request(self, **changes: str | None) -> dict[str, str]:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        query: dict[str, str | None] = {
            "response_type": "code",
            "client_id": CLIENT,
            "redirect_uri": self.callback,
            "scope": "openid profile",
            "state": "state & 1",
            "nonce": "nonce-1",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in query.items() if value is not None}

    async def page(self, **changes: str | None) -> aiohttp.ClientResponse:
        return await self.browser.get(self.path(0), params=self.request(**changes), allow_redirects=False)

    async def send(self, page: aiohttp.ClientResponse, filled: Mapping[str, str], form: int = 0) -> dict[str, str]:
        """Fill the form in and return the query that the browser is sent back with; {} when it is not sent."""
        found = html.fromstring(await page.text()).forms[form]
        data = {**dict(found.form_values()), **filled}
        answer = await self.browser.post(self.path(0), data=data, allow_redirects=False)
        return came_back(self, answer)

    async def sign_in(self, account: str = "ana", **filled: str) -> dict[str, str]:
        person = {"account": account, "password": PERSON["password"], "otp": PERSON["otp"]}
        return await self.send(await self.page(), {**person, **filled})

    async def redeem(self, code: str, **changes: str) -> aiohttp.ClientResponse:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.callback,
            "code_verifier": self.verifier,
        }
        proof, headers = self.proof()
        return await self.browser.post(self.path(1), data={**form, **proof, **changes}, headers=headers)

    def proof(self, **changes: Any) -> tuple[dict[str, str], dict[str, str]]:
        if self.region == "hainan":
            return {}, {"Authorization": "Basic " + base64.b64encode(f"{CLIENT}:a+%3A+secret".encode()).decode()}
        claims = {
            "iss": CLIENT,
            "sub": CLIENT,
            "aud": self.issuer,
            "jti": secrets.token_hex(8),
            "exp": self.now[0] + 60,
        }
        assertion = jwt.encode({"alg": "PS256"}, {**claims, **changes}, CLIENT_KEY, algorithms=["PS256"])
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        return {"client_assertion_type": kind, "client_assertion": assertion}, {}

    async def told(self, code: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the verified claims of the ID token, and userinfo."""
        tokens = await (await self.redeem(code)).json()
        keys = KeySet.import_key_set(await (await self.browser.get(self.path(3))).json())
        claims = jwt.decode(tokens["id_token"], keys, algorithms=["ES256", "PS256"]).claims
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        return claims, await (await self.browser.get(self.path(2), headers=bearer)).json()


def came_back(bench: Bench, answer: aiohttp.ClientResponse) -> dict[str, str]:
    location = answer.headers.get("Location", "")
    assert not location or location.partition("?")[0] == bench.callback
    return dict(parse_qsl(urlsplit(location).query))


@asynccontextmanager
async def bench(region: str, folder: Path) -> AsyncIterator[Bench]:
    """Run the authority, with a gateway that only takes notices."""
    issuer = "http://authority.test/oidc" if region == "macau" else "http://authority.test"
    key = SIGNING_EC if region == "macau" else SIGNING_RSA
    given = {"issuer": issuer.encode(), "client_id": CLIENT.encode(), "signing_key": key.as_pem(private=True)}
    ours = {"client_key": CLIENT_KEY.as_pem(private=False)} if region == "macau" else {"client_secret": b"a : secret"}
    ours |= authority_given() if region == "hainan" else exchange_given()  # both take cases beside
    people = [{"region": region, **person} for person in (PERSON, MERCHANT)]
    now = [float(NOW)]
    async with far_side(lambda _: aiohttp.web.Response()) as (far, gateway):
        settings = AuthoritySettings(region, gateway, folder / "a.db", {**given, **ours}, people, [])
        app = importlib.import_module(f"adapters.{region}.sandbox").build_authority(settings, lambda: now[0])
        async with TestClient(TestServer(app), cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            yield Bench(region, issuer, browser, gateway, far.seen, now)


@pytest.fixture(params=sorted(PATHS))
async def provider(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Return each provider in turn."""
    async with bench(request.param, tmp_path) as running:
        yield running


@pytest.fixture
async def macau(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench("macau", tmp_path) as running:
        yield running


@pytest.fixture
async def hainan(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench("hainan", tmp_path) as running:
        yield running


def test_both_providers_are_simulated() -> None:
    assert set(PATHS) <= set(simulated_regions())


async def test_a_sign_on_gives_a_verifiable_token_and_the_person(provider: Bench) -> None:
    back = await provider.sign_in()
    assert back["state"] == "state & 1"
    assert back.get("iss") == (provider.issuer if provider.region == "macau" else None)
    claims, told = await provider.told(back["code"])
    assert (claims["iss"], claims["aud"], claims["sub"], claims["nonce"]) == (
        provider.issuer,
        CLIENT,
        "subject-1",
        "nonce-1",
    )
    assert (claims["iat"], claims["auth_time"], claims["exp"]) == (NOW, NOW, NOW + 300)
    assert claims["acr"] == {"macau": "otp", "hainan": "L2"}[provider.region]
    assert told["sub"] == "subject-1"
    assert told["birthdate"] == "1990-01-01"


@pytest.mark.parametrize("changes", [{"client_id": "another"}, {"redirect_uri": "https://attacker.test/"}])
async def test_nobody_is_sent_to_a_stranger(provider: Bench, changes: dict[str, str]) -> None:
    page = await provider.page(**changes)
    assert page.status == 400
    assert "Location" not in page.headers


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None},
        {"code_challenge_method": "plain"},
        {"nonce": None},
        {"scope": "profile"},
        {"response_type": "token"},
    ],
    ids=repr,
)
async def test_a_request_that_is_not_safe_is_sent_back(provider: Bench, changes: dict[str, str | None]) -> None:
    assert came_back(provider, await provider.page(**changes))["error"] == "invalid_request"


@pytest.mark.parametrize("filled", [{"password": "wrong"}, {"account": "nobody"}, {"method": "telepathy"}])
async def test_who_cannot_prove_it_stays_outside(provider: Bench, filled: dict[str, str]) -> None:
    assert await provider.sign_in(**filled) == {}


async def test_a_code_is_good_once_for_a_minute_and_for_who_knows_the_verifier(provider: Bench) -> None:
    back = await provider.sign_in()
    assert (await provider.redeem(back["code"])).status == 200
    assert (await (await provider.redeem(back["code"])).json()) == {"error": "invalid_grant"}
    for changes in (
        {"code_verifier": "x" * 43},
        {"redirect_uri": "https://attacker.test/"},
        {"grant_type": "password"},
    ):
        code = (await provider.sign_in())["code"]
        assert (await provider.redeem(code, **changes)).status == 400
        assert (await provider.redeem(code)).status == (400 if "grant_type" not in changes else 200)
    code = (await provider.sign_in())["code"]
    provider.now[0] += 61
    assert (await provider.redeem(code)).status == 400


@pytest.mark.parametrize(
    "changes",
    [{"aud": "https://another.test"}, {"sub": "x"}, {"exp": NOW + 3600}, {"exp": NOW - 1}, {"jti": None}],
    ids=repr,
)
async def test_an_assertion_that_was_not_made_for_this_provider_is_refused(
    macau: Bench, changes: dict[str, Any]
) -> None:
    code = (await macau.sign_in())["code"]
    proof = dict(macau.proof(**{k: v for k, v in changes.items() if v is not None})[0])
    if changes.get("jti", "") is None:
        claims = {"iss": CLIENT, "sub": CLIENT, "aud": macau.issuer, "exp": NOW + 60}
        proof["client_assertion"] = jwt.encode({"alg": "PS256"}, claims, CLIENT_KEY, algorithms=["PS256"])
    answer = await macau.redeem(code, **proof)
    assert (answer.status, await answer.json()) == (401, {"error": "invalid_client"})


async def test_an_assertion_serves_once(macau: Bench) -> None:
    proof, _ = macau.proof()
    assert (await macau.redeem((await macau.sign_in())["code"], **proof)).status == 200
    assert (await macau.redeem((await macau.sign_in())["code"], **proof)).status == 401


async def test_a_wrong_secret_is_refused(hainan: Bench) -> None:
    for header in ("Basic " + base64.b64encode(b"pearl:wrong").decode(), "Basic ???", "Bearer x"):
        answer = await hainan.browser.post(hainan.path(1), data={}, headers={"Authorization": header})
        assert answer.status == 401


async def test_a_level_that_is_demanded_is_kept_to(macau: Bench) -> None:
    """The page offers no less; a form that was tampered with gets an error, and a level that is not known at once."""
    demanded = '{"id_token":{"acr":{"essential":true,"values":["assinatura"]}}}'
    page = await macau.page(claims=demanded)
    (offered,) = html.fromstring(await page.text()).xpath("//select[@name='method']/option/@value")
    assert offered == "nuvem"
    filled = {"account": "ana", "password": str(PERSON["password"])}
    assert (await macau.send(page, {**filled, "method": "senha"}))["error"] == "unmet_authentication_requirements"
    claims, _ = await macau.told((await macau.send(page, filled))["code"])
    assert claims["acr"] == "assinatura"
    unknown = await macau.page(claims=demanded.replace("assinatura", "telepatia"))
    assert came_back(macau, unknown)["error"] == "unmet_authentication_requirements"


async def test_a_level_that_is_wished_for_may_be_missed(hainan: Bench) -> None:
    page = await hainan.page(acr_values="L3")
    back = await hainan.send(page, {"account": "ana", "password": str(PERSON["password"]), "method": "password"})
    claims, _ = await hainan.told(back["code"])
    assert claims["acr"] == "L1"


async def test_a_browser_that_is_known_may_go_on_but_not_when_a_new_proof_is_asked_for(provider: Bench) -> None:
    await provider.sign_in()
    provider.now[0] += 100
    claims, _ = await provider.told((await provider.send(await provider.page(), {"go_on": "yes"}, form=1))["code"])
    assert claims["auth_time"] == NOW
    for asked in ({"prompt": "login"}, {"max_age": "0"}, {"max_age": "99"}):
        page = await provider.page(**asked)
        assert len(html.fromstring(await page.text()).forms) == 1
        data = {**provider.request(**asked), "go_on": "yes"}
        answer = await provider.browser.post(provider.path(0), data=data, allow_redirects=False)
        assert answer.status == 403


async def test_somebody_signs_on_for_their_own_business_and_for_no_other(macau: Bench) -> None:
    _, told = await macau.told((await macau.sign_in("bea", for_business="yes"))["code"])
    assert (told["entidade"], told["qualidade"]) == ({"conta": "MOCS-1"}, "procurador")
    _, told = await macau.told((await macau.sign_in("bea"))["code"])
    assert "entidade" not in told
    assert await macau.sign_in("ana", for_business="yes") == {}


async def test_a_session_ends_because_the_client_asks(provider: Bench) -> None:
    tokens = await (await provider.redeem((await provider.sign_in())["code"])).json()
    home = f"{provider.gateway}/sign-in/{provider.region}/signed-out"
    query = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": home, "state": "s-1"}
    answer = await provider.browser.get(provider.path(4), params=query, allow_redirects=False)
    assert answer.headers["Location"] == f"{home}?state=s-1"
    assert len(html.fromstring(await (await provider.page()).text()).forms) == 1
    elsewhere = {**query, "post_logout_redirect_uri": "https://attacker.test/"}
    answer = await provider.browser.get(provider.path(4), params=elsewhere, allow_redirects=False)
    assert "Location" not in answer.headers


async def test_a_session_that_ends_there_is_announced_to_the_gateway(provider: Bench) -> None:
    claims, _ = await provider.told((await provider.sign_in())["code"])
    await provider.browser.post(provider.path(4))
    async with asyncio.timeout(10):
        while not provider.notices:
            await asyncio.sleep(0.01)  # the provider tells its client behind the browser's back
    (notice,) = provider.notices
    assert (notice.method, notice.path) == ("POST", f"/sign-in/{provider.region}/logout")
    keys = KeySet.import_key_set(await (await provider.browser.get(provider.path(3))).json())
    token = jwt.decode(dict(parse_qsl(notice.body.decode()))["logout_token"], keys, algorithms=["ES256", "PS256"])
    assert token.header["typ"] == "logout+jwt"
    assert (token.claims["sid"], token.claims["sub"], token.claims["aud"]) == (claims["sid"], "subject-1", CLIENT)
    assert "nonce" not in token.claims
    assert "http://schemas.openid.net/event/backchannel-logout" in token.claims["events"]


@pytest.mark.parametrize(
    ("locales", "language"), [("zh-HK", "zh-Hant"), ("pt", "pt"), ("en", "en"), ("zh-CN", "zh-Hant"), ("fr", "zh-Hant")]
)
async def test_the_page_of_macau_speaks_its_three_languages(macau: Bench, locales: str, language: str) -> None:
    page = await macau.page(ui_locales=locales)
    assert f"<html lang={language}>" in await page.text()


async def test_what_a_person_types_is_never_part_of_the_page(provider: Bench) -> None:
    hostile = {"state": '"><script>alert(1)</script>', "acr_values": "'><b>"}
    page = await provider.page(**hostile)
    assert "<script>" not in await page.text()
    assert dict(html.fromstring(await page.text()).forms[0].form_values())["state"] == hostile["state"]


async def test_metadata_describe_the_provider_that_has_them(hainan: Bench, macau: Bench) -> None:
    document: Mapping[str, Any] = await (await hainan.browser.get("/.well-known/openid-configuration")).json()
    assert document["issuer"] == hainan.issuer
    assert document["token_endpoint"] == hainan.issuer + hainan.path(1)
    assert (await macau.browser.get("/oidc/.well-known/openid-configuration")).status == 404
