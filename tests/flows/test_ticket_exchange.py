"""Sign-on by ticket exchange through the real gateway: a browser, a province, the back channel, the end of a session.

Hunan stands for the six provinces; the conformance suite holds each of them.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from lxml import html
from yarl import URL

from gateway.sandbox.ticket_authority import AUTHORITY
from gateway.storage.tables import logouts, sign_on_sessions
from tests.flows.flow_support import World, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

REGION = "hunan"
RETURN = "http://127.0.0.1:8400/callback"


@dataclass(frozen=True, slots=True)
class Person:
    """A person's browser at a portal, on the way through Hunan."""

    world: World
    browser: aiohttp.ClientSession
    account: str
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    async def at(self, address: str) -> tuple[int, str, str]:
        """Return status, `Location` and page of an address."""
        url = URL(self.world.url + address if address.startswith("/") else address, encoded=True)
        async with self.browser.get(url, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", ""), await answer.text()

    async def back_from_the_province(self, *, user_type: str, method: str = "FACE") -> str:
        """Sign in at the province and return the address at the gateway to which it sends the browser."""
        _, chooser, _ = await self.at(f"/oauth2/authorize?{urlencode(self._request())}")
        links = [str(link) for link in html.fromstring((await self.at(chooser))[2]).xpath("//a/@href")]
        _, there, _ = await self.at(next(link for link in links if link.startswith(f"/sign-in/{REGION}?")))
        page = html.fromstring((await self.at(there))[2], base_url=there)
        form = page.forms[0]
        form.make_links_absolute()
        chosen = {"account": self.account, "password": f"sandbox-{self.account}", "method": method}
        data = {**dict(form.form_values()), **chosen, "user_type": user_type}
        async with self.browser.post(URL(str(form.action), encoded=True), data=data, allow_redirects=False) as answer:
            return answer.headers["Location"]

    def _request(self) -> Mapping[str, str]:
        challenge = hashlib.sha256(self.verifier.encode()).digest()
        return {
            "client_id": "demo-portal",
            "response_type": "code",
            "redirect_uri": RETURN,
            "scope": "openid profile",
            "state": "s",
            "nonce": "n",
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }


@pytest_asyncio.fixture(loop_scope="session")
async def person(world: World) -> AsyncIterator[Person]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        yield Person(world, browser, "hunan-handler")


async def live(world: World) -> list[dict[str, Any]]:
    return [row for row in await world.rows(sign_on_sessions, region=REGION) if row["ended_at"] is None]


async def signed_on(person: Person, *, user_type: str = "1") -> dict[str, Any]:
    """Sign on and return the row of the session that was made."""
    before = {row["id"] for row in await live(person.world)}
    status, location, page = await person.at(await person.back_from_the_province(user_type=user_type))
    assert status in {302, 303}, page
    assert not location.startswith(person.world.url + "/sign-in?"), "led back to the chooser"
    [made] = [row for row in await live(person.world) if row["id"] not in before]
    return made


@pytest.mark.parametrize("user_type", ["1", "2"], ids=["natural person", "legal person"])
async def test_a_ticket_signs_on_and_makes_a_session(person: Person, user_type: str) -> None:
    """The level is that of the method: a face compared is A2 in Hunan."""
    session = await signed_on(person, user_type=user_type)
    assert (session["method"], session["assurance"]) == ("FACE", 2)
    assert session["upstream_ref"]
    assert session["kept"]
    assert session["evidence_id"]


async def test_a_ticket_that_was_used_signs_nobody_on(person: Person) -> None:
    before = len(await live(person.world))
    address = await person.back_from_the_province(user_type="1")
    await person.at(address)
    status, location, _ = await person.at(address)
    assert (status, location) == (400, "")
    assert len(await live(person.world)) == before + 1


async def test_a_ticket_of_somebody_else_injected_into_a_sign_on_signs_nobody_on(person: Person) -> None:
    """The attacker's ticket with the victim's state: the province and the adapter both compare the state."""
    before = len(await live(person.world))
    victims = await person.back_from_the_province(user_type="1")
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        attacker = Person(person.world, browser, "hunan-head")
        ticket = parse_qs(urlsplit(await attacker.back_from_the_province(user_type="1")).query)["ticket"][0]
    state = parse_qs(urlsplit(victims).query)["state"][0]
    injected = f"/sign-in/{REGION}/callback?{urlencode({'ticket': ticket, 'state': state})}"
    await person.at(injected)
    assert len(await live(person.world)) == before


async def test_a_session_that_ends_at_the_province_ends_here(person: Person) -> None:
    """Told by a signed notice, which counts once."""
    session = await signed_on(person)
    async with person.browser.post(
        f"{person.world.layout.ports.authority_url(REGION)}/account/sign-out", data={"account": person.account}
    ) as answer:
        assert (await answer.json())["ended"] >= 1

    async def ended() -> bool | None:
        return session["id"] not in {row["id"] for row in await live(person.world)} or None

    await eventually(ended)


async def test_a_notice_is_taken_once_and_only_when_it_is_genuine(person: Person) -> None:
    world, authority = person.world, person.world.authorities[REGION]
    province = authority.app[AUTHORITY]
    session = await signed_on(person)
    known = list(province.sessions.values())[-1]
    authority.order("forged_notice", 1)
    path, headers, body = province.notice(known)
    forged = await world.send("POST", path, data=body, headers=headers)
    assert forged.status in {400, 401, 403}
    assert session["id"] in {row["id"] for row in await live(world)}
    path, headers, body = province.notice(known)
    answers = [(await world.send("POST", path, data=body, headers=headers)).status for _ in range(2)]
    assert answers[0] == 200
    assert answers[1] >= 400
    assert session["id"] not in {row["id"] for row in await live(world)}


async def test_a_session_that_ends_here_ends_at_the_province(person: Person) -> None:
    """The province is told in the background: the browser need not go there."""
    await signed_on(person)
    province = person.world.authorities[REGION].app[AUTHORITY]
    known = list(province.sessions)[-1]
    _, _, page = await person.at("/oauth2/logout")
    form = html.fromstring(page, base_url=f"{person.world.url}/oauth2/logout").forms[0]
    form.make_links_absolute()
    async with person.browser.post(
        URL(str(form.action)), data=dict(form.form_values()), allow_redirects=False
    ) as answer:
        assert answer.status in {200, 302, 303}, await answer.text()

    async def told() -> bool | None:
        return known not in province.sessions or None

    await eventually(told)
    assert await person.world.rows(logouts)
