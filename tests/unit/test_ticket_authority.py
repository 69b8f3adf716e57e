"""The simulated province of the ticket exchange keeps docs/ticket-exchange.md and is as strict as it says.

The signer here is written from that page with GmSSL alone: neither our wire's nor the authority's own code signs or
reads for it. Hunan stands for the six: what differs between them is held by the conformance suite.
"""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import gmssl_pyx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from stdnum.cn import uscc
from yarl import URL

from adapters.hunan.sandbox import TRAITS
from gateway.domain.identifiers import ric_problem
from gateway.minting import Mint
from gateway.sandbox.authority import AuthoritySettings
from gateway.sandbox.layout import SEED
from gateway.sandbox.sm2 import secret_number
from gateway.sandbox.ticket_authority import build_ticket_authority

NOW = 1_700_000_000.0
UC = "/tacs-uc"
LOGIN, TOKEN, PERSON, CORP, LOGOUT = (
    f"{UC}/{end}" for end in ("login", "ticket/token", "naturalMan/info", "corp/info", "logout")
)
ECHO = {"e_type": "2", "net_id_mode": "R04"}
PEOPLE = tomllib.loads((SEED / "people.toml").read_text(encoding="utf-8"))["person"]
HANDLER = next(row for row in PEOPLE if row["role"] == "hunan-handler")


def point(pem: bytes) -> bytes:
    return b64decode(re.sub(rb"-----.*?-----|\s", b"", pem))[-64:]


@dataclass(slots=True)
class Gateway:
    """Signs as the page says, reads as the page says; its door takes notices."""

    keys: Path
    client: TestClient[web.Request, web.Application]
    url: str
    now: list[float]
    notices: asyncio.Queue[tuple[str, Mapping[str, str], bytes]]
    count: int = 0
    last: Mapping[str, str] = field(default_factory=dict)

    def sign(self, *parts: str, body: bytes = b"") -> tuple[str, str, str]:
        """Return time, nonce and signature over method, path and query."""
        self.count += 1
        stamp, nonce = str(int(self.now[0] * 1000)), f"{self.count:032x}"
        lines = ["PEARL-TICKET-1 REQUEST", *parts, "pearl", "gateway-signing", stamp, nonce]
        message = "\n".join([*lines, gmssl_pyx.sm3_hash(body).hex()]).encode()
        secret = secret_number((self.keys / "gateway-signing.key.pem").read_bytes()).to_bytes(32)
        public = point((self.keys / "gateway-signing.pub.pem").read_bytes())
        return stamp, nonce, b64encode(gmssl_pyx.sm2_sign(secret, public, message)).decode()

    def login_address(self, *, level: str = "", changed: Mapping[str, str] | None = None) -> str:
        """Return a signed address; `changed` is changed after it was signed."""
        back = f"{self.url}/sign-in/hunan/callback"
        stamp = str(int(self.now[0] * 1000))
        asked = {
            "app_id": "pearl",
            "state": "the-state",
            "return_url": back,
            "level": level,
            "fresh": "0",
            "lang": "en",
        }
        query = urlencode({**asked, "key_id": "gateway-signing", "timestamp": stamp, "nonce": f"{self.count + 1:032x}"})
        _, _, sign = self.sign("GET", LOGIN, query)
        for old, new in (changed or {}).items():
            query = query.replace(old, new)
        return f"{LOGIN}?{query}&{urlencode({'sign': sign})}"

    async def page(self, address: str) -> tuple[int, str]:
        async with self.client.get(URL(address, encoded=True)) as answer:
            return answer.status, await answer.text()

    async def ticket(self, **form: str) -> str:
        """Sign the handler in and return the ticket that came back."""
        _, page = await self.page(self.login_address())
        status, location = await self.posted(page, **form)
        assert status == 302
        return parse_qs(urlsplit(location).query)["ticket"][0]

    async def posted(self, page: str, **form: str) -> tuple[int, str]:
        found = re.search(r'name=login value="([^"]+)"', page)
        assert found is not None
        usual = {"account": HANDLER["account"], "password": HANDLER["password"], "method": "PWD", "user_type": "1"}
        filled = {**usual, "login": found[1], **form}
        async with self.client.post(LOGIN, data=filled, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", "")

    async def ask(self, path: str, document: Mapping[str, str], **headers: str) -> tuple[str, dict[str, Any]]:
        """Ask, verify the answer by hand and return its code and content."""
        body = json.dumps({**ECHO, **document}).encode()
        stamp, nonce, sign = self.sign("POST", path, "", body=body)
        self.last = {
            "X-App-Id": "pearl", "X-Key-Id": "gateway-signing", "X-Timestamp": stamp, "X-Nonce": nonce, "X-Sign": sign,
        }  # fmt: skip
        async with self.client.post(path, data=body, headers={**self.last, **headers}) as answer:
            told = await answer.read()
            self.verify(("ANSWER", str(answer.status), path), answer.headers, told)
        answered = json.loads(told)
        return answered["code"], self.opened(answered["sealed"], nonce) if "sealed" in answered else {}

    def verify(self, what: tuple[str, ...], headers: Mapping[str, str], body: bytes) -> None:
        kind, *rest = what
        named = [headers[name] for name in ("X-App-Id", "X-Key-Id", "X-Timestamp", "X-Nonce")]
        signed = "\n".join([f"PEARL-TICKET-1 {kind}", *rest, *named, ""]).encode() + body
        public = point((self.keys / "province-current.pub.pem").read_bytes())
        assert gmssl_pyx.sm2_verify(public, signed, b64decode(headers["X-Sign"]))

    def opened(self, sealed: Mapping[str, str], nonce: str) -> dict[str, Any]:
        assert (sealed["suite"], sealed["key_id"]) == ("SM4-GCM", "gateway-encryption")
        wrapped, iv, text, tag = (b64decode(sealed[name]) for name in ("key", "iv", "text", "tag"))
        key = self.unwrapped(wrapped)
        document: dict[str, Any] = json.loads(gmssl_pyx.sm4_gcm_decrypt(key, iv, f"pearl\n{nonce}".encode(), text, tag))
        return document

    def unwrapped(self, wrapped: bytes) -> bytes:
        """Open 04‖x‖y‖C3‖C2, which GmSSL takes as DER."""
        x, y = (b"\0" + part for part in (wrapped[1:33], wrapped[33:65]))
        parts = ((2, x), (2, y), (4, wrapped[65:97]), (4, wrapped[97:]))
        numbers = (self.minimal(part) if tag == 2 else part for tag, part in parts)
        body = b"".join(bytes([tag, len(n)]) + n for (tag, _), n in zip(parts, numbers, strict=True))
        secret = secret_number((self.keys / "gateway-encryption.key.pem").read_bytes()).to_bytes(32)
        return bytes(gmssl_pyx.sm2_decrypt(secret, b"\x30" + bytes([len(body)]) + body))

    @staticmethod
    def minimal(number: bytes) -> bytes:
        stripped = number.lstrip(b"\0")
        return b"\0" + stripped if stripped[0] & 0x80 else stripped

    async def token(self, ticket: str, **changed: str) -> tuple[str, dict[str, Any]]:
        asked = {"ticket": ticket, "state": "the-state", "return_url": f"{self.url}/sign-in/hunan/callback"}
        return await self.ask(TOKEN, {**asked, **changed})


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """Return a gateway before a running Hunan, whose clock can be moved."""
    mint, notices = Mint(tmp_path), asyncio.Queue[tuple[str, Mapping[str, str], bytes]]()
    pairs = ("gateway-signing", "gateway-encryption", "province-current", "province-retired")
    for name in pairs:
        mint.sm2_pair(name)
    now = [NOW]

    async def door(request: web.Request) -> web.Response:
        notices.put_nowait((request.path, request.headers, await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/{rest:.*}", door)
    async with TestServer(app) as home:
        url = str(home.make_url("")).rstrip("/")
        settings = AuthoritySettings("hunan", url, tmp_path / "hunan.db", given(tmp_path), PEOPLE, ())
        async with TestClient(TestServer(build_ticket_authority(settings, TRAITS, lambda: now[0]))) as client:
            yield Gateway(tmp_path, client, url, now, notices)


def given(folder: Path) -> dict[str, bytes]:
    files = {
        "signing_key": "province-current.key.pem",
        "retired_key": "province-retired.key.pem",
        "gateway_signing": "gateway-signing.pub.pem",
        "gateway_encryption": "gateway-encryption.pub.pem",
    }
    return {"app_id": b"pearl", **{name: (folder / file).read_bytes() for name, file in files.items()}}


# --- the browser -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"level=": "level=3"},
        {"the-state": "another"},
        {"app_id=pearl": "app_id=other"},
        {"%2Fcallback": "%2Felsewhere"},
    ],
)
async def test_a_login_that_was_changed_on_the_way_is_not_shown(gateway: Gateway, changed: dict[str, str]) -> None:
    assert (await gateway.page(gateway.login_address()))[0] == 200
    assert (await gateway.page(gateway.login_address(changed=changed)))[0] == 400


async def test_a_login_is_shown_once_and_in_its_time(gateway: Gateway) -> None:
    address = gateway.login_address()
    assert [(await gateway.page(address))[0] for _ in range(2)] == [200, 400]
    address = gateway.login_address()
    gateway.now[0] += 121
    assert (await gateway.page(address))[0] == 400


async def test_a_wrong_password_or_a_method_too_weak_brings_the_page_again(gateway: Gateway) -> None:
    _, page = await gateway.page(gateway.login_address(level="3"))
    assert (await gateway.posted(page, password="wrong", method="FACE"))[0] == 403
    assert (await gateway.posted(page, method="PWD"))[0] == 403
    status, location = await gateway.posted(page, method="FACE")
    assert status == 302
    assert parse_qs(urlsplit(location).query).keys() == {"ticket", "state"}
    assert (await gateway.posted(page, method="FACE"))[0] == 400, "a page signs in once"


async def test_nothing_of_the_person_stands_in_the_address(gateway: Gateway) -> None:
    _, page = await gateway.page(gateway.login_address())
    _, location = await gateway.posted(page)
    assert all(str(HANDLER[name]) not in location for name in ("name", "id_number", "mobile", "account"))


# --- the back channel --------------------------------------------------------------------------------------------


async def test_a_natural_person_is_told_signed_and_encrypted(gateway: Gateway) -> None:
    code, token = await gateway.token(await gateway.ticket())
    assert (code, token["user_type"], token["issued_at"]) == ("200", "1", int(NOW * 1000))
    code, told = await gateway.ask(PERSON, {"access_token": token["access_token"]})
    assert (code, told["user"]["userId"], told["user"]["userName"]) == ("200", token["subject"], HANDLER["name"])
    assert (told["session"]["method"], told["session"]["level"]) == ("PWD", "1")
    assert {name: told[name] for name in ECHO} == ECHO


async def test_a_legal_person_is_told_with_its_handler(gateway: Gateway) -> None:
    _, token = await gateway.token(await gateway.ticket(user_type="2"))
    _, told = await gateway.ask(CORP, {"access_token": token["access_token"]})
    assert (told["role"], told["corp"]["creditCode"]) == ("1", HANDLER["corp_code"])
    assert (told["corp"]["agentName"], told["user"]["userName"]) == (HANDLER["name"],) * 2
    assert token["subject"] == told["user"]["userId"] == told["corp"]["agentId"]


async def test_a_ticket_serves_once(gateway: Gateway) -> None:
    ticket = await gateway.ticket()
    assert [(await gateway.token(ticket))[0] for _ in range(2)] == ["200", "4001"]


async def test_a_ticket_serves_for_sixty_seconds(gateway: Gateway) -> None:
    ticket = await gateway.ticket()
    gateway.now[0] += 61
    assert (await gateway.token(ticket))[0] == "4001"


@pytest.mark.parametrize("changed", [{"state": "another"}, {"return_url": "https://elsewhere.test/"}])
async def test_a_ticket_serves_the_sign_on_that_it_was_issued_for(gateway: Gateway, changed: dict[str, str]) -> None:
    """And it is used up by the attempt."""
    ticket = await gateway.ticket()
    assert [(await gateway.token(ticket, **asked))[0] for asked in (changed, {})] == ["4001", "4001"]


async def test_a_ticket_that_nobody_issued_serves_nothing(gateway: Gateway) -> None:
    assert (await gateway.token("made-up"))[0] == "4001"


async def test_a_token_serves_the_address_of_its_kind_and_once(gateway: Gateway) -> None:
    _, token = await gateway.token(await gateway.ticket())
    asked = {"access_token": token["access_token"]}
    assert [(await gateway.ask(path, asked))[0] for path in (CORP, PERSON, PERSON)] == ["4001", "200", "4001"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Sign": ""}, {"X-Sign": "AAAA"}, {"X-Nonce": "f" * 32}, {"X-App-Id": "other"}, {"X-Key-Id": "other"},
        {"X-Timestamp": "1700000000001"}, {"X-Timestamp": "soon"},
    ],
)  # fmt: skip
async def test_a_question_that_is_not_ours_is_refused(gateway: Gateway, headers: dict[str, str]) -> None:
    ticket = await gateway.ticket()
    body = {"ticket": ticket, "state": "the-state", "return_url": f"{gateway.url}/sign-in/hunan/callback"}
    assert (await gateway.ask(TOKEN, body, **headers))[0] == "4003"
    assert (await gateway.token(ticket))[0] == "200", "the ticket is not used up by somebody else's question"


async def test_a_question_is_answered_once(gateway: Gateway) -> None:
    """A nonce that was used is refused, whatever the question."""
    await gateway.ask(LOGOUT, {"session": "none"})
    again = dict(gateway.last)
    body = json.dumps({**ECHO, "session": "none"}).encode()
    async with gateway.client.post(LOGOUT, data=body, headers=again) as answer:
        assert (await answer.json())["code"] == "4003"


async def test_a_question_in_another_kind_of_cryptography_is_refused(gateway: Gateway) -> None:
    """`e_type` 1 would be RSA."""
    assert (await gateway.token(await gateway.ticket(), e_type="1"))[0] == "4003"


# --- the end of a session ----------------------------------------------------------------------------------------


async def session(gateway: Gateway) -> str:
    _, token = await gateway.token(await gateway.ticket())
    _, told = await gateway.ask(PERSON, {"access_token": token["access_token"]})
    return str(told["session"]["id"])


async def test_a_session_is_ended_once_from_here(gateway: Gateway) -> None:
    asked = {"session": await session(gateway)}
    assert [(await gateway.ask(LOGOUT, asked))[0] for _ in range(2)] == ["200", "4004"]


async def test_who_signs_out_at_the_province_is_signed_out_here_by_a_signed_notice(gateway: Gateway) -> None:
    ended = await session(gateway)
    async with gateway.client.post("/account/sign-out", data={"account": HANDLER["account"]}) as answer:
        assert await answer.json() == {"ended": 1}
    async with asyncio.timeout(10):
        path, headers, body = await gateway.notices.get()
    gateway.verify(("NOTICE", "POST", path), headers, body)
    told = gateway.opened(json.loads(body)["sealed"], headers["X-Nonce"])
    assert (path, told["event"], told["session"]) == ("/sign-in/hunan/logout", "session_ended", ended)


# --- what it is given --------------------------------------------------------------------------------------------


def test_a_province_without_its_keys_names_them(tmp_path: Path) -> None:
    settings = AuthoritySettings("hunan", "http://gateway.test", tmp_path / "hunan.db", {}, PEOPLE, ())
    with pytest.raises(ValueError, match="app_id, signing_key, retired_key, gateway_signing, gateway_encryption"):
        build_ticket_authority(settings, TRAITS)


@pytest.mark.parametrize("row", [row for row in PEOPLE if "corp_head_number" in row], ids=lambda row: str(row["role"]))
def test_everybody_in_the_seed_has_numbers_with_right_check_digits(row: Mapping[str, Any]) -> None:
    """Invented, but as real ones are: the gateway checks them."""
    assert [ric_problem(row[name], today=date(2026, 3, 1)) for name in ("id_number", "corp_head_number")] == [
        None,
        None,
    ]
    assert uscc.is_valid(row["corp_code"])
    assert int(row["id_number"][16]) % 2 == (row["sex"] == "男")
    assert row["id_number"][6:14] == row["birth_date"].replace("-", "")
