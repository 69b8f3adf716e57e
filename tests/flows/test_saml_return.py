"""Sign-on where the region has the browser post its answer: through the real gateway, with a browser's cookies.

The POST comes from another site, so a browser sends no SameSite=Lax cookie with it; the browser here does likewise.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from lxml import etree, html
from yarl import URL

from gateway.storage.tables import sign_on_sessions, upstream_returns
from tests.flows.flow_support import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

REGION = "guangxi"
CALLBACK = f"/sign-in/{REGION}/callback"


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a request of the browser led: status, the address in `Location`, the page."""

    status: int
    location: str
    page: str


@dataclass(frozen=True, slots=True)
class Person:
    """A person's browser on the way through the region."""

    world: World
    browser: aiohttp.ClientSession

    async def get(self, address: str) -> Landing:
        url = URL(self.world.url + address if address.startswith("/") else address, encoded=True)
        async with self.browser.get(url, allow_redirects=False) as answer:
            return Landing(answer.status, answer.headers.get("Location", ""), await answer.text())

    async def at_the_region(self) -> dict[str, str]:
        """Sign on as far as the region's page that would post the answer, and return the fields of its form."""
        chooser = await self.get((await self.get(f"/oauth2/authorize?{urlencode(self._request())}")).location)
        links = [str(link) for link in html.fromstring(chooser.page).xpath("//a/@href")]
        there = await self.get(next(link for link in links if link.startswith(f"/sign-in/{REGION}?")))
        page = html.fromstring((await self.get(there.location)).page, base_url=there.location)
        form = page.forms[0]
        form.make_links_absolute()
        person = next(row for row in self.world.layout.people if row["region"] == REGION)
        filled = {**dict(form.form_values()), "account": person["account"], "password": person["password"]}
        async with self.browser.post(URL(str(form.action), encoded=True), data=filled) as answer:
            back = html.fromstring(await answer.text()).forms[0]
        assert back.action == self.world.url + CALLBACK
        return {str(name): str(value) for name, value in back.form_values()}

    def _request(self) -> Mapping[str, str]:
        challenge = hashlib.sha256(secrets.token_bytes(32)).digest()
        return {
            "client_id": "demo-portal",
            "response_type": "code",
            "redirect_uri": "http://127.0.0.1:8400/callback",
            "scope": "openid",
            "state": secrets.token_urlsafe(16),
            "nonce": secrets.token_urlsafe(16),
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }

    async def post(self, fields: Mapping[str, str] | bytes, path: str = CALLBACK, **headers: str) -> Landing:
        """Post a form as from another site: without our cookies."""
        data = fields if isinstance(fields, bytes) else urlencode(fields).encode()
        typed = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        answer = await self.world.send("POST", path, data=data, headers=typed)
        return Landing(answer.status, answer.headers.get("Location", ""), answer.body.decode())


@pytest_asyncio.fixture(loop_scope="session")
async def person(world: World) -> AsyncIterator[Person]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        yield Person(world, browser)


async def sessions(world: World) -> int:
    return len(await world.rows(sign_on_sessions, region=REGION))


async def test_a_posted_answer_signs_on_when_the_browser_comes_for_it(person: Person) -> None:
    """The whole way; the handle is good once, and the form does not outlive it."""
    before = await sessions(person.world)
    posted = await person.post(await person.at_the_region())
    assert (posted.status, urlsplit(posted.location).path) == (303, CALLBACK)
    landed = await person.get(posted.location)
    assert landed.status in {302, 303}
    assert urlsplit(landed.location).path != "/sign-in", "led back to the chooser"
    assert await sessions(person.world) == before + 1
    assert await person.world.rows(upstream_returns) == []
    again = await person.get(posted.location)
    assert (again.status, await sessions(person.world)) == (400, before + 1)


async def test_another_browser_cannot_come_for_an_answer(person: Person) -> None:
    """Login CSRF: an attacker's answer, posted from the victim's browser or fetched by it, signs nobody on."""
    before = await sessions(person.world)
    posted = await person.post(await person.at_the_region())
    answer = await person.world.send("GET", posted.location)
    assert (answer.status, await sessions(person.world)) == (400, before)
    assert "Set-Cookie" not in answer.headers


async def test_an_answer_is_for_its_own_region(person: Person) -> None:
    """Mix-up: neither can it be posted to another region, nor fetched there; it waits for its own browser."""
    before = await sessions(person.world)
    fields = await person.at_the_region()
    assert (await person.post(fields, "/sign-in/guangdong/callback")).status == 400
    posted = await person.post(fields)
    elsewhere = posted.location.replace(REGION, "guangdong")
    assert (await person.get(elsewhere)).status == 400
    assert await sessions(person.world) == before
    await person.get(posted.location)
    assert await sessions(person.world) == before + 1


async def test_an_answer_that_nobody_asked_for_is_refused(person: Person) -> None:
    """What an identity provider begins by itself: no state of ours, a made-up one, or one that was used."""
    fields = await person.at_the_region()
    before = await sessions(person.world)
    for state in ("", "made-up", secrets.token_urlsafe(32)):
        assert (await person.post({**fields, "RelayState": state})).status == 400
    assert (await person.post({"SAMLResponse": fields["SAMLResponse"]})).status == 400
    assert (await sessions(person.world), await person.world.rows(upstream_returns)) == (before, [])
    await person.get((await person.post(fields)).location)
    assert (await person.post(fields)).status == 400
    assert await sessions(person.world) == before + 1


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"RelayState=" + b"x" * 200_000, "application/x-www-form-urlencoded", 413),
        (b"RelayState=a&RelayState=b", "application/x-www-form-urlencoded", 400),
        (b"state=a&RelayState=b", "application/x-www-form-urlencoded", 400),
        (b"a=1&" * 60, "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 400),
        (b"", "multipart/form-data; boundary=x", 400),
    ],
)
async def test_a_post_that_is_no_answer_is_shown_a_page(
    person: Person, body: bytes, content_type: str, status: int
) -> None:
    landed = await person.post(body, **{"Content-Type": content_type})
    assert (landed.status, landed.page.lstrip()[:15].lower()) == (status, "<!doctype html>")
    assert await person.world.rows(upstream_returns) == []


async def test_a_large_answer_is_taken_whatever_the_limit_of_other_bodies(person: Person) -> None:
    """Bodies of 64 KiB are the limit in this neighbourhood; an encrypted response may be larger."""
    fields = await person.at_the_region()
    posted = await person.post({**fields, "more": "x" * 100_000})
    assert posted.status == 303


async def test_a_handle_stands_alone(person: Person) -> None:
    """Or it would not be plain whether query or form is meant."""
    posted = await person.post(await person.at_the_region())
    assert (await person.get(f"{posted.location}&state=x")).status == 400
    assert (await person.get(f"{posted.location}&return=x")).status == 400


async def test_the_form_itself_is_no_query(person: Person) -> None:
    """A response in a query came by another binding than was asked for: it signs nobody on."""
    fields = await person.at_the_region()
    before = await sessions(person.world)
    query = urlencode({"SAMLResponse": "x", "state": fields["RelayState"]})
    landed = await person.get(f"{CALLBACK}?{query}")
    assert urlsplit(landed.location).path == "/sign-in"
    assert await sessions(person.world) == before


@pytest.mark.parametrize("attack", ["hostile_xsw3", "hostile_comment", "hostile_encrypted_unsigned"])
async def test_an_attack_leads_back_to_the_chooser_and_tells_nothing(person: Person, attack: str) -> None:
    before = await sessions(person.world)
    person.world.authorities[REGION].order(attack, 1)
    landed = await person.get((await person.post(await person.at_the_region())).location)
    assert urlsplit(landed.location).path == "/sign-in"
    assert dict(URL(landed.location).query).keys() == {"interaction", "failed", "why", "ref"}
    assert URL(landed.location).query["why"] == "failed"
    assert await sessions(person.world) == before


async def test_our_metadata_are_published_for_the_region_that_needs_them(world: World) -> None:
    answer = await world.send("GET", f"/sign-in/{REGION}/metadata")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/samlmetadata+xml")
    assert etree.fromstring(answer.body).get("entityID") == f"{world.url}/sign-in/{REGION}/metadata"
    for other in ("guangdong", "nowhere"):
        assert (await world.send("GET", f"/sign-in/{other}/metadata")).status == 404
