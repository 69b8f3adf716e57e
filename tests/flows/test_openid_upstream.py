"""From a portal through the whole gateway to a region's OpenID Provider, and back to everybody when a session ends."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from lxml import html
from yarl import URL

from tests.flows.flow_support import World, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

PORTAL = "demo-portal"
HOME = "http://127.0.0.1:8400/callback"
A3 = "urn:pearl:assurance:A3"


@dataclass(frozen=True, slots=True)
class Person:
    """A person of a region's seed with a browser."""

    world: World
    browser: aiohttp.ClientSession
    seed: Mapping[str, Any]

    async def to_the_region(self, **asked: str) -> tuple[html.FormElement, str]:
        """Go from the portal through the chooser to the region's own page; return its form and the verifier."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": PORTAL,
            "response_type": "code",
            "redirect_uri": HOME,
            "scope": "openid profile",
            "state": "state-1",
            "nonce": "nonce-1",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **asked,
        }
        chooser = await self.browser.get(f"{self.world.url}/oauth2/authorize?{urlencode(query)}")
        links = html.fromstring(await chooser.text()).xpath("//a/@href")
        (link,) = [each for each in links if str(each).startswith(f"/sign-in/{self.seed['region']}?")]
        page = await self.browser.get(self.world.url + str(link))
        form: html.FormElement = html.fromstring(await page.text(), base_url=str(page.url)).forms[0]
        form.make_links_absolute()
        return form, verifier

    async def sign_in(self, form: html.FormElement, verifier: str) -> dict[str, Any]:
        """Fill the form in, come back to the portal, and return its tokens."""
        known = {name: str(self.seed[name]) for name in ("account", "password", "otp") if name in self.seed}
        data = {**dict(form.form_values()), **known}
        home = await self._follow(await self.browser.post(str(form.action), data=data, allow_redirects=False))
        if home.path == "/sign-in/consent":
            home = await self._agree(home)
        assert str(home).startswith(HOME), home
        redeemed = {
            "grant_type": "authorization_code",
            "code": home.query["code"],
            "redirect_uri": HOME,
            "code_verifier": verifier,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self.world.assertion(PORTAL),
        }
        answer = await self.world.send("POST", "/oauth2/token", data=redeemed)
        assert answer.status == 200, answer.body
        tokens: dict[str, Any] = answer.json()
        return tokens

    async def _agree(self, consent: URL) -> URL:
        """Agree to everything that the portal asks for."""
        page = html.fromstring(await (await self.browser.get(consent)).text(), base_url=str(consent))
        form: html.FormElement = next(each for each in page.forms if str(each.action).endswith("/sign-in/consent"))
        boxes = {str(name): "1" for name in form.xpath(".//input[@type='checkbox']/@name")}
        data = {**dict(form.form_values()), **boxes, "decision": "agree"}
        answer = await self.browser.post(consent.with_query(None), data=data)
        onward = html.fromstring(await answer.text()).get_element_by_id("onward")
        return URL(str(onward.get("href")), encoded=True)

    async def sign_out(self, id_token: str) -> URL:
        """End the session from the portal; return where the browser ends up."""
        query = urlencode({"id_token_hint": id_token, "client_id": PORTAL})
        return await self._follow(
            await self.browser.get(f"{self.world.url}/oauth2/logout?{query}", allow_redirects=False)
        )

    async def _follow(self, answer: aiohttp.ClientResponse) -> URL:
        while answer.status in {302, 303}:
            target = answer.url.join(URL(answer.headers["Location"], encoded=True))
            if str(target).startswith(HOME):
                return target
            answer = await self.browser.get(target, allow_redirects=False)
        return answer.url


@asynccontextmanager
async def person(world: World, role: str) -> AsyncIterator[Person]:
    seed = next(each for each in world.layout.people if each["role"] == role)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        yield Person(world, browser, seed)


async def verified(world: World, token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set((await world.send("GET", "/oauth2/jwks")).json())
    return jwt.decode(token, keys, algorithms=["ES256"]).claims


async def passes(world: World, access_token: str) -> bool:
    answer = await world.send("GET", "/oauth2/userinfo", headers={"Authorization": f"Bearer {access_token}"})
    return answer.status == 200


@pytest.mark.parametrize(("role", "level"), [("mo-citizen", "A2"), ("hainan-citizen", "A2")])
async def test_a_person_of_either_region_signs_on_by_the_usual_way(world: World, role: str, level: str) -> None:
    async with person(world, role) as citizen:
        tokens = await citizen.sign_in(*await citizen.to_the_region())
        claims = await verified(world, tokens["id_token"])
        assert claims["acr"] == f"urn:pearl:assurance:{level}"
        told = await world.send(
            "GET", "/oauth2/userinfo", headers={"Authorization": f"Bearer {tokens['access_token']}"}
        )
        assert told.json()["birthdate"] == citizen.seed["birth_date"]


async def test_a_service_that_demands_more_has_the_region_ask_for_more(world: World) -> None:
    """Step-up goes all the way: our words into the region's, and the region's factor back into our words."""
    demanded = json.dumps({"id_token": {"acr": {"essential": True, "values": [A3]}}})
    async with person(world, "mo-merchant") as merchant:
        form, verifier = await merchant.to_the_region(claims=demanded)
        assert form.xpath(".//select[@name='method']/option/@value") == ["nuvem"]
        claims = await verified(world, (await merchant.sign_in(form, verifier))["id_token"])
    assert claims["acr"] == A3


async def test_a_session_that_ends_at_the_region_ends_here(world: World) -> None:
    """The provider tells us behind the browser's back, and what the portal holds is worth nothing from then on."""
    async with person(world, "mo-citizen") as citizen:
        tokens = await citizen.sign_in(*await citizen.to_the_region())
        assert await passes(world, tokens["access_token"])
        await citizen.browser.post(f"{world.layout.ports.authority_url('macau')}/oidc/logout")

        async def over() -> bool | None:
            return not await passes(world, tokens["access_token"]) or None

        await eventually(over)


async def test_a_session_that_ends_here_ends_at_the_region(world: World) -> None:
    async with person(world, "hainan-citizen") as citizen:
        tokens = await citizen.sign_in(*await citizen.to_the_region())
        assert (await citizen.sign_out(tokens["id_token"])).path == "/oauth2/logout/result"
        assert not await passes(world, tokens["access_token"])
        page, _ = await citizen.to_the_region()
        assert len(page.getroottree().getroot().forms) == 1, "the provider still knows this browser"
