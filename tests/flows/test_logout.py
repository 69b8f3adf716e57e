"""Signing out from end to end: a browser, services that are told over HTTP, and regions that answer in this process.

Services misbehave as they do: one is down and comes back, one answers 400, one hangs, one redirects. On both stores.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import orjson
import pytest
import pytest_asyncio
from aiohttp import ClientResponse, DummyCookieJar, web
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import select, update

from gateway.config import LogoutSettings
from gateway.crypto.at_rest import References, Sealer
from gateway.errors import ForgedCallback, GatewayError, RegionUnreachable
from gateway.identity.records import digest
from gateway.ports import Callback, OnceOnly, SignOnRedirect, SignOutNotice, SignOutStart
from gateway.storage import Store
from gateway.storage.tables import evidence, logout_parties, logouts, sign_on_sessions, token_families
from tests.flows.flow_support import eventually
from tests.support.sign_on import ISSUER, Browser, Request, a_client, choice, open_world, parameters
from tests.support.sign_on import World as SignOnWorld

BYE = "https://service.test/bye?keep=1"
SECRET = bytes(32)
"""What the world seals and makes references with."""
EVENT = "http://schemas.openid.net/event/backchannel-logout"
SETTINGS = LogoutSettings(
    attempts=3, first_delay_seconds=10, longest_delay_seconds=20, timeout_seconds=0.5, lease_seconds=60,
    poll_seconds=0.02,
)  # fmt: skip


class RelyingParty:
    """A service that takes logout tokens, and behaves as it is told."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.mood: Callable[[], web.StreamResponse] = web.Response
        self.hangs = False
        self.endless = False
        self.cut_off = asyncio.Event()
        self._hold = asyncio.Event()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused, the port is ours
        app = web.Application()
        app.router.add_post("/backchannel", self._receive)
        app.router.add_route("*", "/elsewhere", self._elsewhere)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self.went_elsewhere = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/backchannel"

    async def open(self) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def close(self) -> None:
        self._hold.set()
        await self._runner.cleanup()
        self._socket.close()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        assert list(form) == ["logout_token"]
        self.tokens.append(str(form["logout_token"]))
        self.headers.append(request.headers)
        if self.hangs:
            await self._hold.wait()
        return await self._endless(request) if self.endless else self.mood()

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while not self._hold.is_set():
                await answer.write(bytes(65536))
        except ConnectionError:
            self.cut_off.set()
        return answer

    async def _elsewhere(self, _request: web.Request) -> web.StreamResponse:
        self.went_elsewhere = True
        return web.Response()


class FakeSignOut:
    """A region's sign-out that can be told how to answer."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.in_browser = False
        self.failure: GatewayError | None = None
        self.started: list[SignOutStart] = []
        self.says: SignOutNotice | GatewayError | None = None

    async def end(self, start: SignOutStart) -> SignOnRedirect | None:
        self.started.append(start)
        if self.failure:
            raise self.failure
        return SignOnRedirect(f"https://{self.region}.test/bye?state={start.state}") if self.in_browser else None

    async def ended(self, _notice: Callback) -> SignOutNotice:
        if isinstance(self.says, GatewayError):
            raise self.says
        assert self.says is not None
        return self.says


@dataclass
class World(SignOnWorld):
    """The world of sign-on, with services that are told of the end of it, and a region that can be."""

    sign_outs: dict[str, FakeSignOut]
    parties: dict[str, RelyingParty]

    async def signed_on(self, browser: Browser, *clients: str, region: str = "guangdong") -> dict[str, dict[str, Any]]:
        """Have a person sign on at these services, one sign-on for all; return what each was given."""
        given: dict[str, dict[str, Any]] = {}
        for client in clients:
            request = Request(client_id=client)
            url = await browser.to(request.url())
            if urlsplit(url).path == "/sign-in":
                upstream = parameters(await browser.to(choice(url, region)))
                url = await browser.to(f"/sign-in/{region}/callback?{urlencode({**upstream, 'code': 'c'})}")
            status, given[client] = await self.token(**request.redemption(parameters(url)["code"]))
            assert status == 200, given[client]
        return given

    async def published(self) -> KeySet:
        return KeySet.import_key_set(await (await self.http.get("/oauth2/jwks")).json())

    async def claims(self, token: str) -> dict[str, Any]:
        return dict(jwt.decode(token, await self.published(), algorithms=["ES256"]).claims)

    async def alive(self, given: Mapping[str, Any]) -> bool:
        bearer = {"Authorization": f"Bearer {given['access_token']}"}
        return (await self.http.get("/oauth2/userinfo", headers=bearer)).status == 200

    async def rows(self, table: Any, **wanted: Any) -> list[dict[str, Any]]:
        query = select(table).where(*(table.c[name] == value for name, value in wanted.items()))
        return await self.store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])

    async def states(self) -> dict[str, str]:
        return {row["party"]: row["state"] for row in await self.rows(logout_parties)}

    async def until(self, **states: str) -> dict[str, dict[str, Any]]:
        """Wait until the parties (by the id of the client or region) are in these states, and return their rows."""

        async def look() -> dict[str, dict[str, Any]] | None:
            rows = {row["party"].partition(":")[2]: row for row in await self.rows(logout_parties)}
            return (
                rows if all(name in rows and rows[name]["state"] == state for name, state in states.items()) else None
            )

        return await eventually(look)

    async def tried(self, name: str, attempts: int) -> dict[str, Any]:
        """Wait until so many attempts at a party are over, whatever came of them."""

        async def look() -> dict[str, Any] | None:
            rows = [row for row in await self.rows(logout_parties) if row["party"].endswith(f":{name}")]
            over = rows and rows[0]["attempts"] == attempts and rows[0]["lease_until"] is None
            return rows[0] if over else None

        return await eventually(look)

    async def region_keeps(self, browser: Browser, **columns: Any) -> None:
        """Write what a region said of its session into the row of the browser's one."""
        session = (await self.rows(sign_on_sessions, handle_hash=digest(browser.cookies["__Host-pearl_session"])))[0]
        if "kept" in columns:
            place = f"sign_on_sessions.kept:{session['id']}"
            columns["kept"] = Sealer(SECRET).seal(orjson.dumps(columns["kept"]), place)
        change = update(sign_on_sessions).where(sign_on_sessions.c.id == session["id"]).values(columns)
        await self.store.write(lambda tx: tx.execute(change).rowcount)

    async def notice(self, region: str = "guangdong") -> int:
        return (await self.http.post(f"/sign-in/{region}/logout", data=b"signed words")).status


@pytest_asyncio.fixture
async def world(store: Store, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(store, tmp_path) as running:
        yield running


@asynccontextmanager
async def a_world(store: Store, folder: Path) -> AsyncIterator[World]:
    async with (
        open_world(folder, {}, store, SECRET) as base,
        aiohttp.ClientSession(cookie_jar=DummyCookieJar()) as session,
    ):
        sign_outs = {"guangdong": FakeSignOut("guangdong")}
        adapter = replace(base.regions["guangdong"].adapter, sign_out=sign_outs["guangdong"])
        base.regions["guangdong"] = replace(base.regions["guangdong"], adapter=adapter)
        parties = {name: RelyingParty() for name in ("portal", "shop")}
        for name, party in parties.items():
            base.clients[name] = a_client(name, backchannel_logout_uri=party.url, post_logout_redirect_uris=(BYE,))
            await party.open()
        base.clients["silent"] = a_client("silent", post_logout_redirect_uris=("https://service.test/silent",))
        base.service.logouts.settings = SETTINGS
        await base.service.switches.prepare()
        worker = base.service.logout_worker(SETTINGS, session)
        running = asyncio.create_task(worker.run())
        yield World(
            base.http, base.service, store, base.clock, base.providers, base.regions, base.clients, {}, base.app,
            base.mandates, base.disabled, sign_outs, parties,
        )  # fmt: skip
        worker.stop()
        await running
        for party in parties.values():
            await party.close()


def logout_url(**query: str) -> str:
    return f"/oauth2/logout?{urlencode(query)}"


def form_of(page: str) -> tuple[str, dict[str, str]]:
    """Return where a page's form goes and its hidden fields."""
    action = re.search(r'action="([^"]+)"', page)
    assert action, page
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return action[1], {name: unescape(value) for name, value in fields}


async def post(browser: Browser, url: str, fields: Mapping[str, str]) -> ClientResponse:
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    answer = await browser.world.http.post(url, data=fields, headers={"Cookie": cookies}, allow_redirects=False)
    for name, morsel in answer.cookies.items():
        browser.cookies[name] = morsel.value
    await answer.read()
    return answer


# --- a service asks ------------------------------------------------------------------------------------------------


async def test_a_service_that_shows_the_persons_id_token_signs_the_person_out_everywhere(world: World) -> None:
    """The promise in one test: session over, tokens dead, every service told in its own terms, browser back."""
    browser = Browser(world)
    given = await world.signed_on(browser, "portal", "shop")
    hint = given["portal"]["id_token"]
    back = await browser.to(logout_url(id_token_hint=hint, post_logout_redirect_uri=BYE, state="s 1"))
    assert back == "https://service.test/bye?keep=1&state=s+1"
    assert not any([await world.alive(one) for one in given.values()])
    assert urlsplit(await browser.to(Request(client_id="portal").url())).path == "/sign-in"
    await world.until(portal="done", shop="done", guangdong="done")
    for name, party in world.parties.items():
        known = await world.claims(given[name]["id_token"])
        await check_logout_token(world, party.tokens, name, known)
    (logout,) = await world.rows(logouts)
    assert (logout["begun_by"], logout["finished_at"]) == ("client:portal", world.clock())


async def check_logout_token(world: World, tokens: list[str], client: str, known: Mapping[str, Any]) -> None:
    """Verify as OpenID Connect Back-Channel Logout 1.0 §2.6 tells the service to."""
    (token,) = tokens
    decoded = jwt.decode(token, await world.published(), algorithms=["ES256"])
    assert decoded.header["typ"] == "logout+jwt"
    claims = decoded.claims
    jwt.JWTClaimsRegistry(
        now=int(world.clock().timestamp()), iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": client}, exp={"essential": True}, iat={"essential": True},
        jti={"essential": True},
    ).validate(claims)  # fmt: skip
    assert (claims["sub"], claims["sid"]) == (known["sub"], known["sid"])
    assert claims["events"] == {EVENT: {}}
    assert "nonce" not in claims
    assert claims["exp"] - claims["iat"] <= 120


async def test_each_service_hears_of_the_person_only_by_its_own_names(world: World) -> None:
    browser = Browser(world)
    given = await world.signed_on(browser, "portal", "shop")
    await browser.to(logout_url(id_token_hint=given["shop"]["id_token"]))
    await world.until(portal="done", shop="done")
    one, other = [await world.claims(party.tokens[0]) for party in world.parties.values()]
    assert not {one["sub"], one["sid"]} & {other["sub"], other["sid"]}


async def test_a_service_that_was_never_used_is_not_told(world: World) -> None:
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    await world.until(portal="done")
    assert "client:shop" not in await world.states()


async def test_without_proof_the_person_is_asked_and_nothing_ends_before_the_answer(world: World) -> None:
    """Any page could send a browser here; only its person may say yes."""
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    page = await browser.get(logout_url(client_id="portal", post_logout_redirect_uri=BYE, state="s"))
    text = await page.text()
    assert (page.status, await world.alive(given["portal"])) == (200, True)
    action, fields = form_of(text)
    answer = await post(browser, action, fields)
    assert (answer.status, await world.alive(given["portal"])) == (200, False)
    onward = "https://service.test/bye?keep=1&amp;state=s"
    assert f'content="0; url={onward}"' in await answer.text()
    assert f'href="{onward}"' in await answer.text()


@pytest.mark.parametrize("change", [{"confirm": ""}, {"confirm": "0" * 32}, {"state": "other"}, {"client_id": "shop"}])
async def test_a_form_that_we_did_not_write_ends_nothing(world: World, change: dict[str, str]) -> None:
    """Guard: the comparison in LogoutRequests.confirmed."""
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    url = logout_url(client_id="portal", post_logout_redirect_uri=BYE, state="s")
    action, fields = form_of(await (await browser.get(url)).text())
    answer = await post(browser, action, {**fields, **change})
    assert (answer.status, await world.alive(given["portal"])) == (400, True)


async def test_a_form_of_one_session_does_not_end_another(world: World) -> None:
    """Guard: the session's handle in LogoutRequests._confirmation."""
    one, other = Browser(world), Browser(world)
    await world.signed_on(one, "portal")
    given = await world.signed_on(other, "portal")
    action, fields = form_of(await (await one.get(logout_url(client_id="portal"))).text())
    answer = await post(other, action, fields)
    assert (answer.status, await world.alive(given["portal"])) == (400, True)


async def test_the_id_token_of_another_person_is_no_proof(world: World) -> None:
    """Guard: the comparison in LogoutRequests._speaks_for."""
    victim, attacker = Browser(world), Browser(world)
    given = await world.signed_on(victim, "portal")
    world.providers["guangdong"].subject = "gd-2"
    foreign = await world.signed_on(attacker, "portal")
    page = await victim.get(logout_url(id_token_hint=foreign["portal"]["id_token"]))
    assert (page.status, await world.alive(given["portal"])) == (200, True)
    assert form_of(await page.text())


async def test_an_expired_id_token_still_proves_whose_session_it_was(world: World) -> None:
    """Whoever signs out after lunch has no other (RP-Initiated Logout 1.0 §2)."""
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    world.clock.advance(1800)
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    assert (await world.rows(sign_on_sessions))[0]["ended_at"] is not None


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.test/",
        BYE + "&x=1",
        BYE.replace("?", "/?"),
        BYE.upper(),
        "//evil.test",
        "https://service.test/silent",
    ],
)
async def test_nobody_is_sent_to_an_address_that_is_not_registered(world: World, uri: str) -> None:
    """Guard: the look-up in logout_requests._return_to."""
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    hint = given["portal"]["id_token"]
    page = await browser.get(logout_url(id_token_hint=hint, post_logout_redirect_uri=uri))
    assert (page.status, "Location" in page.headers) == (400, False)
    assert await world.alive(given["portal"])
    stranger = await Browser(world).get(logout_url(post_logout_redirect_uri=uri))
    assert stranger.status == 400


@pytest.mark.parametrize(
    "query",
    [
        {"client_id": "nobody"},
        {"client_id": "shop", "hint": "portal"},
        {"state": "s" * 3000},
        {"post_logout_redirect_uri": BYE},
    ],
)
async def test_a_request_that_contradicts_itself_ends_nothing(world: World, query: dict[str, str]) -> None:
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    if "hint" in query:
        query = {**query, "id_token_hint": given[query["hint"]]["id_token"]}
    page = await browser.get(logout_url(**query))
    assert (page.status, await world.alive(given["portal"])) == (400, True)


@pytest.mark.parametrize("hint", ["", "x", "a.b.c", "e30.e30.", "e30." + "A" * 9000])
async def test_a_hint_that_is_no_id_token_of_ours_proves_nothing(world: World, hint: str) -> None:
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    page = await browser.get(logout_url(id_token_hint=hint))
    assert page.status in {200, 400}
    assert await world.alive(given["portal"])


async def test_an_access_token_is_no_hint(world: World) -> None:
    """It is signed by the same key; its type tells it from an ID token (RFC 8725 §3.11)."""
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    page = await browser.get(logout_url(id_token_hint=given["portal"]["access_token"]))
    assert (page.status, await world.alive(given["portal"])) == (200, True)


async def test_who_is_not_signed_on_goes_straight_back(world: World) -> None:
    browser = Browser(world)
    back = await browser.to(logout_url(client_id="portal", post_logout_redirect_uri=BYE, state="s"))
    assert back == "https://service.test/bye?keep=1&state=s"
    assert (await browser.get("/oauth2/logout")).status == 200
    assert await world.rows(logouts) == []


async def test_a_request_by_post_comes_again_by_get(world: World) -> None:
    """A POST from another site brings no cookie of ours, so it cannot show whose session is meant."""
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    fields = {"id_token_hint": given["portal"]["id_token"], "state": "s"}
    answer = await post(Browser(world), "/oauth2/logout", fields)
    assert answer.status == 303
    await browser.to(answer.headers["Location"])
    assert not await world.alive(given["portal"])


async def test_two_tabs_that_sign_out_at_once_begin_one_logout(world: World) -> None:
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    url = logout_url(id_token_hint=given["portal"]["id_token"])
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    answers = await asyncio.gather(
        *(world.http.get(url, headers={"Cookie": cookie}, allow_redirects=False) for _ in range(5))
    )
    assert {answer.status for answer in answers} <= {200, 302}
    await world.until(portal="done")
    assert (len(await world.rows(logouts)), len(world.parties["portal"].tokens)) == (1, 1)


# --- what came of it -------------------------------------------------------------------------------------------------


async def test_the_result_page_shows_each_party_to_the_browser_that_signed_out_and_to_no_other(world: World) -> None:
    """Guard: handle_hash in logout_records.find."""
    browser = Browser(world)
    world.clients["shop"] = replace(world.clients["shop"], name="Shop <1>")
    world.parties["portal"].mood = lambda: web.Response(status=400)
    given = await world.signed_on(browser, "portal", "shop", "silent")
    result = await browser.to(logout_url(id_token_hint=given["portal"]["id_token"], ui_locales="xx en") + "&lang=en")
    await world.until(portal="failed", shop="done", silent="not_offered", guangdong="done")
    page = await (await browser.get(result + "&lang=en")).text()
    rows = re.findall(r"<li><strong>(.*?)</strong> <span>(.*?)</span></li>", page)
    shown = {name: re.sub(r"<.*?>", "", state) for name, state in rows}
    assert shown == {
        "portal": "no proper answer Please sign out there yourself.",
        "Shop &lt;1&gt;": "signed out",
        "silent": "not possible from here Please sign out there yourself.",
        "Guangdong": "signed out",
    }
    assert "Look again" not in page
    assert (await Browser(world).get(result)).status == 400


async def test_every_result_is_evidence_that_names_nobody(world: World) -> None:
    browser = Browser(world)
    given = await world.signed_on(browser, "portal", "silent")
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    await world.until(portal="done", silent="not_offered", guangdong="done")
    (begun,) = await world.rows(evidence, action="sign_on.logout")
    assert begun["what"]["parties"] == {
        "client:portal": "pending", "client:silent": "pending", "region:guangdong": "pending",
    }  # fmt: skip
    told = await world.rows(evidence, action="sign_on.logout_party")
    assert {row["what"]["party"]: row["outcome"] for row in told} == {
        "client:portal": "done",
        "client:silent": "failed",
        "region:guangdong": "done",
    }
    assert "gd-1" not in str([begun, *told])


async def test_a_service_that_is_down_is_told_when_it_is_back(world: World) -> None:
    browser, late = Browser(world), RelyingParty()
    world.clients["portal"] = replace(world.clients["portal"], backchannel_logout_uri=late.url)
    given = await world.signed_on(browser, "portal")
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    assert (await world.tried("portal", 1))["last_code"] == "logout.unreachable"
    await late.open()
    world.clock.advance(10)
    rows = await world.until(portal="done")
    assert (rows["portal"]["attempts"], len(late.tokens)) == (2, 1)
    await late.close()


async def test_a_service_that_says_no_is_not_asked_again(world: World) -> None:
    browser = Browser(world)
    world.parties["portal"].mood = lambda: web.Response(status=400, text="{}")
    given = await world.signed_on(browser, "portal")
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    rows = await world.until(portal="failed")
    assert (rows["portal"]["last_code"], rows["portal"]["attempts"]) == ("logout.refused", 1)


async def test_a_service_that_hangs_is_tried_so_often_and_no_oftener(world: World) -> None:
    """Guards: the time-out in LogoutWorker._tell_client, the bound in Logouts.failed. Each try has its own token."""
    browser, party = Browser(world), world.parties["portal"]
    party.hangs = True
    given = await world.signed_on(browser, "portal", "shop")
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    await world.until(shop="done")
    for attempt in range(1, SETTINGS.attempts):
        assert (await world.tried("portal", attempt))["last_code"] == "logout.timeout"
        world.clock.advance(20)
    rows = await world.until(portal="failed")
    world.clock.advance(60)
    assert (rows["portal"]["attempts"], len(party.tokens)) == (3, 3)
    assert len({(await world.claims(token))["jti"] for token in party.tokens}) == 3
    assert rows["portal"]["message"] is None


async def test_a_redirect_is_not_followed_and_an_endless_answer_not_read(world: World) -> None:
    """Guards: allow_redirects=False and answer.close() in LogoutWorker._tell_client."""
    browser, portal, shop = Browser(world), world.parties["portal"], world.parties["shop"]
    portal.mood = lambda: web.Response(status=307, headers={"Location": "/elsewhere"})
    shop.endless = True
    given = await world.signed_on(browser, "portal", "shop")
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    await world.until(portal="failed", shop="done")
    await asyncio.wait_for(shop.cut_off.wait(), 10)
    assert not portal.went_elsewhere


async def test_a_client_that_was_struck_out_meanwhile_is_not_told(world: World) -> None:
    browser = Browser(world)
    world.parties["portal"].mood = lambda: web.Response(status=503)
    given = await world.signed_on(browser, "portal")
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    await world.tried("portal", 1)
    del world.clients["portal"]
    world.clock.advance(10)
    await world.until(portal="not_offered")


# --- the region's own session ----------------------------------------------------------------------------------------


async def test_a_region_ends_its_session_with_what_its_adapter_kept(world: World) -> None:
    browser, sign_out = Browser(world), world.sign_outs["guangdong"]
    given = await world.signed_on(browser, "portal")
    await world.region_keeps(browser, kept={"token": "t-1"})
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    await world.until(guangdong="done")
    (start,) = sign_out.started
    assert (start.kept, start.redirect_uri) == ({"token": "t-1"}, f"{ISSUER}/sign-in/guangdong/signed-out")
    assert len(start.state) <= 80


async def test_a_region_that_wants_the_browser_gets_it_and_sends_it_back_once(world: World) -> None:
    """Guard: the state check in Logouts.come_back; IN_BROWSER in logout_records.come_back makes it serve once."""
    browser, sign_out = Browser(world), world.sign_outs["guangdong"]
    sign_out.in_browser = True
    given = await world.signed_on(browser, "portal")
    hint = given["portal"]["id_token"]
    there = await browser.to(logout_url(id_token_hint=hint, post_logout_redirect_uri=BYE, state="s"))
    assert urlsplit(there).netloc == "guangdong.test"
    state = parameters(there)["state"]
    for wrong in (state[:-1] + ("0" if state[-1] != "0" else "1"), state.partition(".")[0], "", "é.é", "x" * 5000):
        assert (await browser.get(f"/sign-in/guangdong/signed-out?{urlencode({'state': wrong})}")).status == 400
    assert (await browser.get(f"/sign-in/hongkong/signed-out?{urlencode({'state': state})}")).status == 400
    assert (await world.states())["region:guangdong"] == "pending"
    posted = await post(Browser(world), "/sign-in/guangdong/signed-out", {"RelayState": state})
    assert posted.status == 303
    assert await browser.to(posted.headers["Location"]) == "https://service.test/bye?keep=1&state=s"
    assert (await world.states())["region:guangdong"] == "done"
    assert (await browser.get(posted.headers["Location"])).status == 400


async def test_a_browser_that_never_comes_back_leaves_a_result(world: World) -> None:
    browser = Browser(world)
    world.sign_outs["guangdong"].in_browser = True
    given = await world.signed_on(browser, "portal")
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    world.clock.advance(601)
    rows = await world.until(guangdong="failed", portal="done")
    assert rows["guangdong"]["last_code"] == "logout.no_return"
    assert (await world.rows(logouts))[0]["finished_at"] is not None


async def test_a_region_that_is_away_keeps_nobody_and_is_told_later(world: World) -> None:
    browser, sign_out = Browser(world), world.sign_outs["guangdong"]
    sign_out.failure = RegionUnreachable("away")
    given = await world.signed_on(browser, "portal")
    back = await browser.to(logout_url(id_token_hint=given["portal"]["id_token"], post_logout_redirect_uri=BYE))
    assert back == BYE
    await world.tried("guangdong", 1)
    sign_out.failure = None
    world.clock.advance(10)
    assert (await world.until(guangdong="done"))["guangdong"]["attempts"] == 2


async def test_a_region_that_wants_a_browser_when_there_is_none_offers_nothing(world: World) -> None:
    """The window ends a sign-on without a browser that could be sent away."""
    browser = Browser(world)
    world.sign_outs["guangdong"].in_browser = True
    await world.signed_on(browser, "portal")
    await world.service.end_session(browser.cookies["__Host-pearl_session"])
    await world.until(guangdong="not_offered", portal="done")


async def test_a_new_sign_on_in_the_same_browser_ends_the_earlier_one_as_a_logout(world: World) -> None:
    """Of two people at one machine the first is signed out everywhere; the region's session may be the second's."""
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    await browser.sign_on(Request(client_id="shop", extra={"prompt": "login"}))
    rows = await world.until(portal="done")
    assert "guangdong" not in rows
    assert not await world.alive(given["portal"])


# --- the region's own word -------------------------------------------------------------------------------------------


async def test_a_region_that_ends_one_of_its_sessions_ends_that_one_here(world: World) -> None:
    one, other, sign_out = Browser(world), Browser(world), world.sign_outs["guangdong"]
    first, second = await world.signed_on(one, "portal"), await world.signed_on(other, "portal")
    await world.region_keeps(one, upstream_ref=References(SECRET).of("upstream", "guangdong", "S-1"))
    sign_out.says = SignOutNotice("S-1", "gd-1", OnceOnly("n-1", world.clock()))
    assert await world.notice() == 200
    assert [await world.alive(given["portal"]) for given in (first, second)] == [False, True]
    await world.until(portal="done")
    (logout,) = await world.rows(logouts)
    assert logout["begun_by"] == "region:guangdong"
    assert (sign_out.started, "region:guangdong" in await world.states()) == ([], False)


async def test_a_region_that_names_a_person_ends_all_sessions_of_that_person_and_no_other(world: World) -> None:
    one, other, third = (Browser(world) for _ in range(3))
    given = [await world.signed_on(one, "portal"), await world.signed_on(other, "portal")]
    world.providers["guangdong"].subject = "gd-2"
    given.append(await world.signed_on(third, "portal"))
    world.providers["hongkong"].subject = "gd-1"  # the same text, another region's person
    given.append(await world.signed_on(Browser(world), "portal", region="hongkong"))
    world.sign_outs["guangdong"].says = SignOutNotice("", "gd-1", None)
    assert await world.notice() == 200
    assert [await world.alive(one["portal"]) for one in given] == [False, False, True, True]


async def test_a_notice_counts_once(world: World) -> None:
    """Guard: `spend` in Logouts._announced."""
    browser, sign_out = Browser(world), world.sign_outs["guangdong"]
    sign_out.says = SignOutNotice("", "gd-1", OnceOnly("n" * 500, world.clock()))
    assert await world.notice() == 200
    given = await world.signed_on(browser, "portal")
    assert (await world.notice(), await world.alive(given["portal"])) == (400, True)


async def test_a_forged_notice_is_refused_and_a_region_that_sends_none_too(world: World) -> None:
    browser = Browser(world)
    given = await world.signed_on(browser, "portal")
    world.sign_outs["guangdong"].says = ForgedCallback("no signature of theirs")
    assert [await world.notice(region) for region in ("guangdong", "hongkong", "nowhere")] == [400, 400, 400]
    large = await world.http.post("/sign-in/guangdong/logout", data=b"x" * 65537)
    assert large.status == 400
    assert await world.alive(given["portal"])


# --- a region that is closed -----------------------------------------------------------------------------------------


async def test_closing_a_region_ends_its_sessions_and_stops_sign_ons_under_way(world: World) -> None:
    """The kill switch: one transaction. Guards: Broker._provider, and is_open in service._finish."""
    browser, under_way, elsewhere = (Browser(world) for _ in range(3))
    given = await world.signed_on(browser, "portal")
    other = await world.signed_on(elsewhere, "shop", region="hongkong")
    chooser = await under_way.to(Request(client_id="portal").url())
    upstream = parameters(await under_way.to(choice(chooser, "guangdong")))
    cut = await world.service.switches.close("guangdong", "keys leaked", "li")
    assert (cut.sessions, cut.interactions, cut.by_client) == (1, 1, {"portal": 1})
    assert (await world.alive(given["portal"]), await world.alive(other["shop"])) == (False, True)
    await world.until(portal="done")
    answer = await under_way.get(f"/sign-in/guangdong/callback?{urlencode({**upstream, 'code': 'c'})}")
    assert answer.status == 400
    assert len(await world.rows(sign_on_sessions, ended_at=None)) == 1


async def test_a_closed_region_signs_nobody_on_until_it_is_opened(world: World) -> None:
    browser = Browser(world)
    await world.service.switches.close("guangdong", "keys leaked", "li")
    chooser = await browser.to(Request(client_id="portal").url())
    page = await (await browser.get(chooser + "&lang=en")).text()
    assert "The operator has closed the sign-on through this region for now." in page
    assert 'href="/sign-in/guangdong' not in page
    assert 'href="/sign-in/hongkong' in page
    again = await browser.to(choice(chooser, "guangdong"))
    assert parameters(again)["why"] == "closed"
    assert "is closed at the moment" in await (await browser.get(again + "&lang=en")).text()
    assert world.providers["guangdong"].begun == []
    await world.service.switches.open("guangdong", "new keys", "li")
    assert (await world.signed_on(browser, "portal"))["portal"]["id_token"]


async def test_a_region_that_closes_while_it_answers_signs_nobody_on(world: World) -> None:
    """Its answer was asked for before the switch was turned: the session is refused as it would be stored.

    Guard: is_open in service._finish.
    """
    browser, provider = Browser(world), world.providers["guangdong"]
    chooser = await browser.to(Request(client_id="portal").url())
    upstream = parameters(await browser.to(choice(chooser, "guangdong")))
    complete = provider.complete

    async def close_first(back: Any) -> Any:
        await world.service.switches.close("guangdong", "keys leaked", "li")
        return await complete(back)

    provider.complete = close_first  # type: ignore[method-assign] # this one time
    answer = await browser.get(f"/sign-in/guangdong/callback?{urlencode({**upstream, 'code': 'c'})}")
    assert answer.status == 400
    assert await world.rows(sign_on_sessions) == []


async def test_keys_that_were_not_confirmed_for_too_long_sign_nobody_on(world: World) -> None:
    """Guard: refuse_stale in Broker.complete. It comes after the region's answer: that is when keys are confirmed."""
    browser, region = Browser(world), world.regions["guangdong"]
    confirmed: dict[str, Any] = {"at": None}
    adapter = replace(region.adapter, trust_confirmed_at=lambda: confirmed["at"])
    world.regions["guangdong"] = replace(region, adapter=adapter)
    begun = world.clock()
    for at, signed_on in ((None, False), (begun, True)):
        confirmed["at"] = at
        chooser = await browser.to(Request(client_id="portal", extra={"prompt": "login"}).url())
        upstream = parameters(await browser.to(choice(chooser, "guangdong")))
        to = await browser.to(f"/sign-in/guangdong/callback?{urlencode({**upstream, 'code': 'c'})}")
        assert (urlsplit(to).netloc == "service.test") is signed_on
    world.clock.advance(86401)
    assert await world.service.health.of("guangdong") == "stale"
    chooser = await browser.to(Request(client_id="portal", extra={"prompt": "login"}).url())
    upstream = parameters(await browser.to(choice(chooser, "guangdong")))
    to = await browser.to(f"/sign-in/guangdong/callback?{urlencode({**upstream, 'code': 'c'})}")
    assert dict(parse_qsl(urlsplit(to).query))["why"] == "unreachable"


async def test_no_family_of_an_ended_session_is_left_standing(world: World) -> None:
    browser = Browser(world)
    given = await world.signed_on(browser, "portal", "shop")
    await browser.to(logout_url(id_token_hint=given["portal"]["id_token"]))
    assert all(row["revoked_at"] for row in await world.rows(token_families))
