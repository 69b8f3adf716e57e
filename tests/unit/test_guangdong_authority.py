"""The simulated authority of Guangdong keeps the contract of adapters/guangdong/README.md and is as strict as it says.

The signer here is written from the README's vectors: neither the adapter's nor the authority's own code signs for it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from adapters.guangdong.sandbox import build_authority
from adapters.guangdong.sandbox_case import document_fits
from adapters.guangdong.sandbox_codes import MODES as CODE_MODES
from adapters.guangdong.sandbox_signature import content_digest, tif_signature
from adapters.guangdong.sandbox_signon import HOSTILE
from gateway.sandbox.authority import NOTEBOOK, AuthoritySettings

TOKEN = b"TESTTOKEN0123456789ABCDEFGHIJKLM"
VECTOR = "3851b631f800f279e3ebadeb8d9a366cec52aec78b84411835cee9128c303c70"
NOW = 1_700_000_000
ITEM = "11440100MBT40100XX3442011899001"
PDF = b"%PDF-1.7 synthetic"
PDF_DIGEST = hashlib.sha256(PDF).hexdigest()
CASES = "/ebus/pearl/v1/cases"
LOOKUP = "/elssp/v1/GetCertificateDataByHolder"
SSO = "/tif/sso/connect/page/oauth2"
GARBAGE = b"\x00\xff<<not a document>>{"

PERSON = {
    "region": "guangdong",
    "account": "chen",
    "password": "correct <horse>",
    "uid": "gd-0001",
    "name": "陈测试",
    "id_type": "10",
    "id_number": "44010619900101900X",
    "sex": "2",
    "birth_date": "1990-01-01",
    "mobile": "13800000001",
    "mail": "chen@example.test",
    "area": "guangzhou",
    "usertype": "1",
    "levels": {"PLV": "L1", "YSS": "L2", "GW": "L3"},
}
CERTIFICATE = {
    "region": "guangdong",
    "type_code": "11100000000013127D001",
    "type_name": "中华人民共和国居民身份证",
    "identifier": "1.2.156.3005.2.11100000000013127D001.11440100MBT40100XX.SBX000000000001.001.O",
    "number": "44010619900101900X",
    "issuer_name": "广州市测试局",
    "issuer_code": "11440100MBT40100XX",
    "issued_on": "2015-06-01",
    "valid_from": "2015-06-01",
    "valid_to": "2035-06-01",
    "holder_name": "陈测试",
    "holder_id_type": "CN_RIC",
    "holder_id_number": "44010619900101900X",
    "state": "valid",
}
QUESTION = {
    "CertificateTypeCode": "11100000000013127D001",
    "CertificateType": "中华人民共和国居民身份证",
    "CertificateHolder": "陈测试",
    "CertificateHolderCode": "44010619900101900X",
    "CertificateHolderCodeType": "111",
    "UseFor": "跨省异地就医备案",
    "orgName": "广州市测试局",
    "username": "clerk01",
    "itemName": "跨省异地就医备案",
    "itemCode": ITEM,
    "businessCode": "KY-1",
}


def headers_for(
    method: str, path: str, body: bytes, *, at: int = NOW, nonce: str, token: bytes = TOKEN, paasid: str = "pearl"
) -> dict[str, str]:
    """Sign as README.md says, by hand."""
    stamp = str(at)
    digest = "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"
    tied = f"{stamp}\n{nonce}\n{method}\n{path}\n{digest}".encode()
    return {
        "x-tif-paasid": paasid,
        "x-tif-timestamp": stamp,
        "x-tif-nonce": nonce,
        "x-tif-signature": hashlib.sha256(stamp.encode() + token + nonce.encode() + stamp.encode()).hexdigest(),
        "Content-Digest": digest,
        "x-pearl-digest-mac": hmac.new(token, tied, "sha256").hexdigest(),
    }


@dataclass
class Receiver:
    """The gateway's end of the callbacks: keeps what comes, answers what it is told to (200 when told nothing)."""

    server: TestServer
    inbox: asyncio.Queue[tuple[dict[str, str], str, bytes]] = field(default_factory=asyncio.Queue)
    answers: list[int] = field(default_factory=list)

    async def next_event(self) -> dict[str, Any]:
        """Return the next event, after its five headers proved right."""
        headers, path, body = await asyncio.wait_for(self.inbox.get(), 10)
        nonce, stamp = headers["x-tif-nonce"], int(headers["x-tif-timestamp"])
        right = headers_for("POST", path, body, at=stamp, nonce=nonce, paasid="gd-authority")
        assert {name: headers[name.lower()] for name in right} == right
        event: dict[str, Any] = json.loads(body)
        return event | {"_nonce": nonce}


@asynccontextmanager
async def a_receiver() -> AsyncIterator[Receiver]:
    async def take(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        end.inbox.put_nowait((headers, request.raw_path, await request.read()))
        status = end.answers.pop(0) if end.answers else 200
        return web.json_response({"code": str(status), "message": "ok"}, status=status)

    app = web.Application()
    app.add_routes([web.post("/callbacks/guangdong/events", take)])
    end = Receiver(TestServer(app))
    async with end.server:
        yield end


@dataclass
class Caller:
    """A caller of the authority that signs every message with a nonce of its own."""

    client: TestClient[web.Request, web.Application]
    gateway: str
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def nonce(self) -> str:
        return f"18bcfe56800-{next(self.numbers):012x}"

    async def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
        """Send signed bytes; return the status and the JSON answer."""
        signed = headers_for(method, path, body, nonce=self.nonce())
        return await self.send_as(signed | headers, method, path, body)

    async def send_as(self, headers: dict[str, str], method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        target = URL(path, encoded=True)
        async with self.client.request(method, target, data=body, headers=headers, allow_redirects=False) as reply:
            return reply.status, json.loads(await reply.read())

    async def file(self, case: dict[str, Any]) -> tuple[int, Any]:
        return await self.send("POST", CASES, as_json(case), **{"x-pearl-submission-id": str(case.get("wwbh"))})

    async def upload(self) -> tuple[int, Any]:
        return await self.send("PUT", f"/ebus/pearl/v1/materials/{PDF_DIGEST}", PDF)

    async def order(self, mode: str, times: int = 1) -> None:
        async with self.client.post("/control", json={"mode": mode, "times": times}) as reply:
            assert reply.status == 200

    async def book(self, name: str) -> dict[str, Any]:
        async with self.client.get("/control/ledger") as reply:
            book: dict[str, Any] = (await reply.json())[name]
            return book


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def a_case(**changes: Any) -> dict[str, Any]:
    case: dict[str, Any] = {
        "wwbh": "KY-1",
        "sxbm": ITEM,
        "sxmc": "跨省异地就医备案",
        "sqrlx": "0",
        "sqrmc": "陈测试",
        "sqrzjlx": "10",
        "sqrzjhm": "44010619900101900X",
        "sbsj": "20231115061320",
        "tjfs": "0",
        "xzqhdm": "350000",
        "gxdxzqhdm": "440100",
        "bdxx": [{"bdxbm": "dest", "bdxz": "福州"}],
        "clxx": [
            {"clbm": "M1", "clmc": "备案表", "wjlx": "application/pdf", "wjdx": len(PDF), "wjzy": PDF_DIGEST},
        ],
    }
    return case | changes


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as one:
        yield one


Start = Callable[..., Any]


@pytest.fixture
def start(receiver: Receiver, tmp_path: Path) -> Start:
    """Start the authority over one and the same notebook, with a clock that stands still unless it is moved."""

    @asynccontextmanager
    async def begin(clock: Callable[[], float] = lambda: NOW, **changes: Any) -> AsyncIterator[Caller]:
        gateway = str(receiver.server.make_url("/")).rstrip("/")
        stranger = PERSON | {"region": "fujian", "account": "lin"}
        given: dict[str, Any] = {
            "region": "guangdong",
            "gateway_url": gateway,
            "state": tmp_path / "guangdong.db",
            "secrets": {
                "paas_id": b"pearl",
                "paas_token": TOKEN,
                "client_id": b"pearl-client",
                "client_secret": b"pearl-secret",
                "item_codes": as_json([ITEM]),
            },
            "people": [PERSON, stranger],
            "certificates": [CERTIFICATE, CERTIFICATE | {"region": "fujian", "type_code": "ELSEWHERE"}],
            "pace": 0.0,
        }
        app = build_authority(AuthoritySettings(**(given | changes)), clock)
        async with TestClient(TestServer(app)) as client:
            yield Caller(client, gateway)

    return begin


@pytest.fixture
async def caller(start: Start) -> AsyncIterator[Caller]:
    async with start() as one:
        yield one


# The signature


def test_the_vector_of_the_readme_holds() -> None:
    """The one value that both readings of the README must reproduce."""
    assert tif_signature(TOKEN, "1700000000", "18bcfe56800-1a2b3c") == VECTOR
    assert headers_for("GET", "/", b"", nonce="18bcfe56800-1a2b3c")["x-tif-signature"] == VECTOR
    assert content_digest(b"") == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"


async def test_a_message_with_the_vectors_nonce_is_admitted_also_in_upper_case(caller: Caller) -> None:
    """The README compares the signature without regard to case, and its vector's nonce has six digits, not twelve."""
    headers = headers_for("GET", f"{CASES}/KY-1", b"", nonce="18bcfe56800-1a2b3c")
    headers["x-tif-signature"] = headers["x-tif-signature"].upper()
    assert await caller.send_as(headers, "GET", f"{CASES}/KY-1") == (
        404,
        {"code": "404", "message": "no such case here"},
    )


@pytest.mark.parametrize(
    "forge",
    [
        {"token": b"another token"},
        {"paasid": "somebody"},
        {"at": NOW - 181},
        {"at": NOW + 181},
        {"nonce": "not a nonce"},
    ],
    ids=["wrong token", "unknown caller", "too old", "from the future", "odd nonce"],
)
async def test_a_forged_or_stale_message_is_refused(caller: Caller, forge: dict[str, Any]) -> None:
    """Each is signed correctly but for the one thing that is wrong with it."""
    headers = headers_for("GET", f"{CASES}/KY-1", b"", **({"nonce": caller.nonce()} | forge))
    status, answer = await caller.send_as(headers, "GET", f"{CASES}/KY-1")
    assert (status, answer["code"]) == (401, "401")


@pytest.mark.parametrize("at", [NOW - 180, NOW + 180])
async def test_a_message_on_the_edge_of_the_tolerance_is_admitted(caller: Caller, at: int) -> None:
    headers = headers_for("GET", f"{CASES}/KY-1", b"", at=at, nonce=caller.nonce())
    assert (await caller.send_as(headers, "GET", f"{CASES}/KY-1"))[0] == 404


@pytest.mark.parametrize("name", list(headers_for("GET", "/", b"", nonce="00-00")))
async def test_a_message_without_one_of_its_headers_is_refused(caller: Caller, name: str) -> None:
    headers = headers_for("GET", f"{CASES}/KY-1", b"", nonce=caller.nonce())
    del headers[name]
    status, answer = await caller.send_as(headers, "GET", f"{CASES}/KY-1")
    assert status == 401
    assert name.lower() in answer["message"]


@pytest.mark.parametrize("junk", ["ÿ", "１７００００００００", ""])
@pytest.mark.parametrize("name", list(headers_for("GET", "/", b"", nonce="00-00")))
async def test_junk_in_a_header_is_refused_and_breaks_nothing(caller: Caller, name: str, junk: str) -> None:
    headers = headers_for("GET", f"{CASES}/KY-1", b"", nonce=caller.nonce()) | {name: junk}
    assert (await caller.send_as(headers, "GET", f"{CASES}/KY-1"))[0] == 401


async def test_a_message_is_good_once(start: Start) -> None:
    """A replay is refused for as long as its time stamp would pass, however many messages of others come between."""
    now = [float(NOW)]
    async with start(clock=lambda: now[0]) as caller:

        async def status(headers: dict[str, str]) -> int:
            found: int = (await caller.send_as(headers, "GET", f"{CASES}/KY-1"))[0]
            return found

        def message(at: int) -> dict[str, str]:
            return headers_for("GET", f"{CASES}/KY-1", b"", at=at, nonce=caller.nonce())

        assert await status(message(NOW)) == 404
        now[0] = NOW + 350
        ahead = message(NOW + 350 + 180)
        assert await status(ahead) == 404
        for later in (350, 361, 400, 709, 710):
            now[0] = NOW + later
            assert await status(message(NOW + later)) == 404
            assert await status(ahead) == 401


async def test_an_altered_body_path_or_method_is_refused(caller: Caller) -> None:
    """The x-tif signature alone would let all three pass: the digest and its code must not."""
    body = as_json(QUESTION)
    altered = as_json(QUESTION | {"CertificateHolder": "李测试"})
    headers = headers_for("POST", LOOKUP, body, nonce=caller.nonce())
    digest = content_digest(altered)
    assert (await caller.send_as(headers, "POST", LOOKUP, altered))[0] == 401
    assert (await caller.send_as(headers | {"Content-Digest": digest}, "POST", LOOKUP, altered))[0] == 401
    assert (await caller.send_as(headers, "POST", CASES, body))[0] == 401
    assert (await caller.send_as(headers, "PUT", LOOKUP, body))[0] == 401
    assert (await caller.send_as(headers, "POST", LOOKUP, body))[0] == 200


async def test_the_path_is_signed_as_it_is_sent(caller: Caller) -> None:
    """Percent-encoding is not undone before checking, and the query is left out."""
    path = f"{CASES}/a%3Ab%FF"
    headers = headers_for("GET", path, b"", nonce=caller.nonce())
    assert (await caller.send_as(headers, "GET", f"{path}?x=1"))[0] == 404


async def test_whatever_is_not_sign_on_must_be_signed(caller: Caller) -> None:
    for path in (CASES, LOOKUP, "/ebus/pearl/v1/materials/00", "/elsewhere"):
        assert (await caller.send_as({}, "POST", path))[0] == 401


# Sign-on


def sso_query(caller: Caller, **changes: str) -> dict[str, str]:
    query = {
        "service": "initService",
        "response_type": "code",
        "client_id": "pearl-client",
        "scope": "all",
        "redirect_uri": f"{caller.gateway}/sign-in/guangdong/callback?a=1",
        "state": 's+t&a t="e<>',
    }
    return query | changes


async def sign_in(caller: Caller, **typed: str) -> URL:
    """Do what a browser does: open the page, send its hidden fields back with what the person types."""
    async with caller.client.get(f"{SSO}/authorize", params=sso_query(caller)) as page:
        text = await page.text()
        assert page.status == 200
    hidden = {
        name: unescape(value) for name, value in re.findall(r'<input type=hidden name=(\w+) value="(.*?)">', text)
    }
    form = hidden | {"account": "chen", "password": "correct <horse>", "method": "1"} | typed
    async with caller.client.post(f"{SSO}/authorize", data=form, allow_redirects=False) as reply:
        assert reply.status == 302
        return URL(reply.headers["Location"])


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


async def told_to(caller: Caller, asked: dict[str, str] | None = None, **typed: str) -> Any:
    """Sign in by form, with further parameters in it, and return what tokeninfo tells."""
    back = await sign_in(caller, **(asked or {}), **typed)
    _, token = await exchange(caller, back.query["code"])
    return (await tokeninfo(caller, token["access_token"]))[1]


async def exchange(caller: Caller, code: str, **changes: str) -> tuple[int, Any]:
    query = sso_query(caller) | {"client_secret": "pearl-secret", "grant_type": "authorization_code", "code": code}
    del query["response_type"], query["state"]
    async with caller.client.get(f"{SSO}/access_token", params=query | changes) as reply:
        return reply.status, await reply.json()


async def tokeninfo(caller: Caller, token: str) -> tuple[int, Any]:
    async with caller.client.get(f"{SSO}/tokeninfo", params={"access_token": token}) as reply:
        return reply.status, await reply.json()


async def test_a_person_signs_in_and_the_attributes_come_with_the_levels_of_each_method(caller: Caller) -> None:
    back = await sign_in(caller, method="3")
    assert str(back).startswith(f"{caller.gateway}/sign-in/guangdong/callback?a=1&code=")
    assert back.query["state"] == sso_query(caller)["state"]
    status, token = await exchange(caller, back.query["code"])
    assert (status, token["token_type"]) == (200, "bearer")
    status, told = await tokeninfo(caller, token["access_token"])
    assert status == 200
    ways = [way.split("@") for way in told.pop("creditable_level_of_account_way").split("||")]
    assert [(level, method) for level, method, _ in ways] == [("L1", "PLV"), ("L2", "YSS"), ("L3", "GW")]
    expected = {
        "cn": "陈测试",
        "idcardtype": "10",
        "idcardnumber": "44010619900101900X",
        "sex": "2",
        "accout_type": "3",
    }
    assert {name: told[name] for name in expected} == expected
    levels = {"isreal": "true", "realtype": "PLV", "creditable_level_of_account": "L3", "usertype": "1"}
    assert {name: told[name] for name in levels} == levels
    assert all(isinstance(value, str) for value in told.values())


@pytest.mark.parametrize(
    "typed", [{"password": "wrong"}, {"account": "lin"}, {"method": "9"}, {"account": '"><script>'}]
)
async def test_who_does_not_prove_who_they_are_stays_on_the_page(caller: Caller, typed: dict[str, str]) -> None:
    """`lin` is an account of Fujian: another region's people are not known here."""
    form = sso_query(caller) | {"account": "chen", "password": "correct <horse>", "method": "1"} | typed
    async with caller.client.post(f"{SSO}/authorize", data=form, allow_redirects=False) as reply:
        assert reply.status == 403
        assert "<script>" not in await reply.text()


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "{gateway}.evil.example/callback"},
        {"redirect_uri": "{gateway}@evil.example/callback"},
        {"redirect_uri": "{gateway}/x\r\nSet-Cookie: a=b"},
        {"client_id": "stranger"},
        {"response_type": "token"},
        {"scope": "some"},
        {"service": ""},
    ],
)
async def test_nobody_is_ever_sent_to_a_stranger(caller: Caller, changes: dict[str, str]) -> None:
    """An authorize request that does not fit gets a page, never a redirect; that holds for the form as well."""
    query = sso_query(caller) | {name: text.format(gateway=caller.gateway) for name, text in changes.items()}
    async with caller.client.get(f"{SSO}/authorize", params=query, allow_redirects=False) as page:
        assert page.status == 400
    form = query | {"account": "chen", "password": "correct <horse>", "method": "1"}
    async with caller.client.post(f"{SSO}/authorize", data=form, allow_redirects=False) as reply:
        assert reply.status == 400


async def test_bytes_that_are_no_form_get_a_page_that_says_so(caller: Caller) -> None:
    async with caller.client.post(f"{SSO}/authorize", data=b"\xff\xfe") as reply:
        assert reply.status == 400
    async with caller.client.get(URL(f"{SSO}/authorize?state=%FF%ED%A0%80", encoded=True)) as page:
        assert page.status == 400


async def test_a_code_is_good_once(caller: Caller) -> None:
    code = (await sign_in(caller)).query["code"]
    assert (await exchange(caller, code))[0] == 200
    assert await exchange(caller, code) == (400, (await exchange(caller, "made up"))[1])


@pytest.mark.parametrize(("age", "status"), [(60, 200), (61, 400)])
async def test_a_code_is_good_for_a_minute(start: Start, age: int, status: int) -> None:
    now = [float(NOW)]
    async with start(clock=lambda: now[0]) as caller:
        code = (await sign_in(caller)).query["code"]
        now[0] += age
        assert (await exchange(caller, code))[0] == status


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_secret": "guess"}, "invalid_client"),
        ({"client_id": "stranger"}, "invalid_client"),
        ({"redirect_uri": "{gateway}/elsewhere"}, "invalid_grant"),
        ({"grant_type": "code"}, "unsupported_grant_type"),
        ({"scope": "some"}, "invalid_request"),
    ],
)
async def test_a_code_is_for_one_client_and_one_redirect(caller: Caller, changes: dict[str, str], error: str) -> None:
    code = (await sign_in(caller)).query["code"]
    fitted = {name: text.format(gateway=caller.gateway) for name, text in changes.items()}
    status, answer = await exchange(caller, code, **fitted)
    assert (status, answer["error"]) == (400, error)


async def test_an_access_token_that_was_never_given_out_tells_nothing(caller: Caller) -> None:
    assert (await tokeninfo(caller, "made up"))[0] == 401


async def test_a_code_that_was_asked_for_with_a_challenge_needs_its_verifier(caller: Caller) -> None:
    """RFC 7636: a code that was caught on its way is worth nothing without what only the right client knows."""
    asked = {"code_challenge": challenge_of("v" * 43), "code_challenge_method": "S256"}
    for wrong in ({}, {"code_verifier": "w" * 43}, {"code_verifier": asked["code_challenge"]}):
        status, answer = await exchange(caller, (await sign_in(caller, **asked)).query["code"], **wrong)
        assert (status, answer["error"]) == (400, "invalid_grant")
    code = (await sign_in(caller, **asked)).query["code"]
    assert (await exchange(caller, code, code_verifier="v" * 43))[0] == 200


async def test_a_method_below_the_demanded_level_does_not_sign_on(caller: Caller) -> None:
    """`chen` has L1 by password and L2 by the app."""
    form = sso_query(caller) | {"account": "chen", "password": "correct <horse>", "auth_level": "L2"}
    for method, status in {"1": 403, "3": 302, "2": 403}.items():
        sent = form | {"method": method}
        async with caller.client.post(f"{SSO}/authorize", data=sent, allow_redirects=False) as reply:
            assert reply.status == status


@pytest.mark.parametrize("asked", [{"prompt": "login"}, {"auth_level": "L1"}])
async def test_who_demands_something_hears_when_it_was_proved(caller: Caller, asked: dict[str, str]) -> None:
    ways = (await told_to(caller, asked, method="3"))["creditable_level_of_account_way"]
    assert {way["way_code"]: (way["identity_level"], way["auth_time"]) for way in ways} == {
        "PLV": ("L1", "-1"),
        "YSS": ("L2", "20231115061320"),
        "GW": ("L3", "-1"),
    }


COMPANY = {
    "name": "测试有限公司",
    "id_type": "49",
    "id_number": "91440101MA5T00010Q",
    "region_code": "440100",
    "legal_person": "林法定",
    "legal_id_type": "10",
    "legal_code": "440303198506159013",
}


async def test_a_legal_person_comes_with_its_handler(start: Start) -> None:
    legal = PERSON | {"usertype": "2", "levels": {"IC": "L2"}, "organisation": COMPANY}
    async with start(people=[legal]) as caller:
        told = await told_to(caller, method="1")
    assert (told["cn"], told["idcardtype"], told["idcardnumber"]) == ("测试有限公司", "49", "91440101MA5T00010Q")
    handler = ("link_person_name", "link_person_type", "link_person_code")
    assert [told[name] for name in handler] == ["陈测试", "10", "44010619900101900X"]
    assert (told["usertype"], told["realtype"]) == ("2", "IC")
    assert "zzlx=91" in told["attributes"]
    assert "lxdh=-1" in told["attributes"]


async def test_a_natural_account_under_a_legal_person_comes_with_it(start: Start) -> None:
    async with start(people=[PERSON | {"organisation": COMPANY | {"code": "UC9"}}]) as caller:
        told = await told_to(caller)
    child, parent = told["userobj"], told["pareobj"]
    assert (child["cn"], child["usertype"], child["parent_uidcode"]) == ("陈测试", "1", "UC9")
    assert (parent["cn"], parent["usertype"], parent["useridcode"]) == ("测试有限公司", "2", "UC9")


async def test_whoever_signs_out_takes_codes_and_tokens_along(caller: Caller) -> None:
    """Only those of this browser; and nobody is sent to a stranger."""
    code = (await sign_in(caller)).query["code"]
    _, token = await exchange(caller, (await sign_in(caller)).query["code"])
    out = {"client_id": "pearl-client", "redirect_uri": f"{caller.gateway}/out", "state": "s+t"}
    for stranger in ({"redirect_uri": "https://evil.example/"}, {"client_id": "stranger"}):
        async with caller.client.get("/tif/sso/connect/page/logout", params=out | stranger) as page:
            assert page.status == 400
    assert (await tokeninfo(caller, token["access_token"]))[0] == 200
    async with caller.client.get("/tif/sso/connect/page/logout", params=out, allow_redirects=False) as reply:
        assert (reply.status, reply.headers["Location"]) == (302, f"{caller.gateway}/out?state=s%2Bt")
    assert (await tokeninfo(caller, token["access_token"]))[0] == 401
    assert (await exchange(caller, code))[0] == 200, "the code belongs to the browser that signed in before"


@pytest.mark.parametrize("mode", sorted(HOSTILE))
async def test_every_attack_changes_what_is_answered(start: Start, mode: str) -> None:
    """An attack that does nothing would let every adapter pass."""
    other = PERSON | {"account": "wang", "uid": "gd-0002", "name": "王测试", "id_number": "440106198806150019"}
    async with start(people=[PERSON, other]) as caller:
        honest = await _whole_way(caller)
        await caller.order(mode, -1)
        assert await _whole_way(caller) != honest


async def _whole_way(caller: Caller) -> Any:
    """Sign on for a fresh proof and return everything that does not differ each time."""
    back = await sign_in(caller, prompt="login")
    status, token = await exchange(caller, back.query["code"])
    kind = token.get("token_type")
    if status != 200:
        return back.query["state"], status
    async with caller.client.get(f"{SSO}/tokeninfo", params={"access_token": token["access_token"]}) as reply:
        return back.query["state"], kind, await reply.read()


# City codes

RESOLVE = "/ebus/pearl/v1/citycodes/resolve"


async def shown(caller: Caller, account: str = "chen") -> str:
    async with caller.client.post("/control/codes", json={"account": account}) as reply:
        assert reply.status == 200
        return str((await reply.json())["code"])


async def resolve(caller: Caller, code: str, **changes: str) -> tuple[int, Any]:
    asked = {"qqbh": "0123", "csm": code, "sxbm": ITEM, "sydw": "广州市测试局", "syyt": "取号"} | changes
    return await caller.send("POST", RESOLVE, as_json(asked))


async def test_a_shown_code_is_resolved_once(caller: Caller) -> None:
    code = await shown(caller)
    status, answer = await resolve(caller, code)
    expected = {"qqbh": "0123", "yhbs": "UCgd-0001", "rzdj": "L2", "yxqz": "20231115061820"}
    assert (status, answer["data"]) == (200, expected)
    status, answer = await resolve(caller, code)
    assert (status, answer["code"]) == (422, "422")
    assert code not in json.dumps(answer)


@pytest.mark.parametrize(("age", "status"), [(60, 200), (61, 422)])
async def test_a_code_that_is_shown_holds_for_a_minute(start: Start, age: int, status: int) -> None:
    now = [float(NOW)]
    async with start(clock=lambda: now[0]) as caller:
        code = await shown(caller)
        now[0] += age
        nonce, body = caller.nonce(), as_json({"qqbh": "1", "csm": code, "sxbm": ITEM, "sydw": "局", "syyt": "取号"})
        signed = headers_for("POST", RESOLVE, body, nonce=nonce, at=int(now[0]))
        assert (await caller.send_as(signed, "POST", RESOLVE, body))[0] == status


async def test_a_code_rotates_the_one_shown_before_is_good_no_more(caller: Caller) -> None:
    first, second = await shown(caller), await shown(caller)
    assert (await resolve(caller, first))[0] == 422
    assert (await resolve(caller, second))[0] == 200


@pytest.mark.parametrize("name", ["qqbh", "csm", "sxbm", "sydw", "syyt"])
async def test_a_code_is_not_resolved_without_saying_what_for(caller: Caller, name: str) -> None:
    code = await shown(caller)
    status, answer = await resolve(caller, code, **{name: ""})
    assert (status, [error["field"] for error in answer["errors"]]) == (422, [name])
    assert (await resolve(caller, code))[0] == 200, "a question that is not answered uses nothing up"


async def test_a_code_is_resolved_for_a_signed_question_only(caller: Caller) -> None:
    assert (await caller.send_as({}, "POST", RESOLVE, b"{}"))[0] == 401


@pytest.mark.parametrize("mode", sorted(CODE_MODES))
async def test_every_fault_of_the_issuer_changes_what_is_answered(caller: Caller, mode: str) -> None:
    honest = await resolve(caller, await shown(caller))
    await caller.order(mode, 1)
    assert await resolve(caller, await shown(caller)) != honest


# Submissions


async def test_a_material_must_be_what_its_digest_says(caller: Caller) -> None:
    assert await caller.upload() == (200, {"code": "200", "data": {"wjzy": PDF_DIGEST}})
    assert await caller.upload() == (200, {"code": "200", "data": {"wjzy": PDF_DIGEST}})
    status, answer = await caller.send("PUT", f"/ebus/pearl/v1/materials/{PDF_DIGEST}", PDF + b"!")
    assert (status, answer["code"]) == (422, "422")


async def test_a_case_sent_twice_is_taken_once(caller: Caller, receiver: Receiver) -> None:
    """The promise on which every resend of the gateway rests; the ledger shows that both messages arrived."""
    await caller.upload()
    status, first = await caller.file(a_case())
    assert (status, first["code"]) == (200, "200")
    assert re.fullmatch(r"440000[0-9]{18}", first["data"]["sblsh"])
    assert len(first["data"]["sblsh_short"]) == 10
    assert first["data"]["jssj"] == "20231115061320"
    assert await caller.file(a_case()) == (200, first)
    assert await caller.send("GET", f"{CASES}/KY-1") == (200, first)
    assert (await caller.book("arrivals"), list(await caller.book("cases"))) == ({"KY-1": 2}, ["KY-1"])
    assert [(await receiver.next_event())["ztdm"] for _ in range(4)] == ["SB", "SL1", "SPCL", "BJ"]
    assert receiver.inbox.empty()


async def test_everything_wrong_with_a_case_is_said_at_once(caller: Caller) -> None:
    """A clerk corrects a form once, not field by field; and no reason repeats what was typed."""
    material = {"clbm": "", "clmc": "x", "wjlx": "pdf", "wjdx": "18", "wjzy": "0" * 64}
    case = a_case(
        sxbm="unknown",
        qxbm=None,
        sqrlx="2",
        sqrzjhm="440106199001019001",
        sqrxb="M",
        csrq="20230230",
        lxrsj="no phone",
        sbsj="2023-11-15",
        tjfs=0,
        xzqhdm="35000",
        bdxx=[{"bdxbm": "a", "bdxz": 1}],
        clxx=[material],
        extra="?",
    )
    del case["sqrmc"], case["gxdxzqhdm"]
    status, answer = await caller.file(case)
    assert status == 422
    assert {error["field"] for error in answer["errors"]} == {
        *("sxbm", "qxbm", "sqrlx", "sqrmc", "sqrzjhm", "sqrxb", "csrq", "lxrsj", "sbsj", "tjfs", "xzqhdm", "gxdxzqhdm"),
        *("bdxx[0].bdxz", "clxx[0].clbm", "clxx[0].wjdx", "clxx[0].wjzy", "extra"),
    }
    assert "440106199001019001" not in json.dumps(answer)
    assert (await caller.book("cases"), await caller.book("arrivals")) == ({}, {})


async def test_a_material_must_have_been_uploaded_and_have_its_size(caller: Caller) -> None:
    _, answer = await caller.file(a_case())
    assert answer["errors"] == [{"field": "clxx[0].wjzy", "reason": "material was not uploaded"}]
    await caller.upload()
    _, answer = await caller.file(a_case(clxx=[a_case()["clxx"][0] | {"wjdx": 1}]))
    assert [error["field"] for error in answer["errors"]] == ["clxx[0].wjzy"]


async def test_the_header_names_the_same_submission_as_the_body(caller: Caller) -> None:
    await caller.upload()
    status, answer = await caller.send("POST", CASES, as_json(a_case()), **{"x-pearl-submission-id": "KY-2"})
    assert (status, [error["field"] for error in answer["errors"]]) == (422, ["wwbh"])


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"wwbh": "\\ud800"}', b"[" * 100_000, b"null"])
async def test_a_body_that_is_no_case_is_refused_with_the_reason(caller: Caller, body: bytes) -> None:
    status, answer = await caller.send("POST", CASES, body)
    assert (status, answer["errors"][0]["field"]) == (422, "body")


@pytest.mark.parametrize(
    ("kind", "number", "fits"),
    [
        ("10", "11010519491231002X", True),
        ("10", "44010619900101900X", True),
        ("10", "44010619900101900x", False),
        ("10", "440106199001019000", False),
        ("10", "110105194902310020", False),
        ("40", "810000199202290010", True),
        ("40", "810000199202290011", False),
        ("40", "H12345678", True),
        ("20", "E12345678", True),
        ("20", "E 1", False),
        ("49", "11440100696927671X", True),
        ("49", "91440101MA5T00010Q", True),
        ("49", "91440101MA5T00010R", False),
        ("49", "9144010IMA5T00010Q", False),
        ("80", "12345678", True),
    ],
)
def test_document_numbers_are_held_against_their_check_digits(kind: str, number: str, fits: bool) -> None:
    """Vectors of GB 11643 and GB 32100, each beside a near miss."""
    assert document_fits(kind, number, date(2023, 11, 15)) is fits


# Progress


async def test_each_step_of_a_case_is_pushed_signed_and_in_order(caller: Caller, receiver: Receiver) -> None:
    """`next_event` checks the five headers of each; the ledger says which were acknowledged."""
    await caller.upload()
    _, answer = await caller.file(a_case())
    events = [await receiver.next_event() for _ in range(4)]
    for event in events:
        assert {name: event[name] for name in ("wwbh", "sblsh", "sblsh_short")} == {
            name: answer["data"][name] for name in ("wwbh", "sblsh", "sblsh_short")
        }
        assert event["fssj"] == datetime.fromtimestamp(NOW + 8 * 3600, UTC).strftime("%Y%m%d%H%M%S")
    assert len({event["sjbh"] for event in events}) == len({event["_nonce"] for event in events}) == 4
    assert events[-1]["bjjgdm"] == "6"
    assert set(await caller.book("events")) == {event["sjbh"] for event in events}
    assert (await caller.book("cases"))["KY-1"]["state"] == "BJ"


async def test_a_case_whose_applicant_asks_for_it_is_not_accepted(caller: Caller, receiver: Receiver) -> None:
    await caller.upload()
    await caller.file(a_case(sqrmc="不予受理人"))
    assert [(await receiver.next_event())["ztdm"] for _ in range(2)] == ["SB", "SL0"]
    assert (await caller.book("cases"))["KY-1"]["state"] == "SL0"


async def test_an_event_is_sent_until_it_is_acknowledged(caller: Caller, receiver: Receiver) -> None:
    """Anything but 2xx counts as not heard; the repetition has the same sjbh and a nonce of its own."""
    receiver.answers += [500, 302, 404, 204]
    await caller.upload()
    await caller.file(a_case())
    sent = [await receiver.next_event() for _ in range(5)]
    assert [event["ztdm"] for event in sent] == ["SB"] * 4 + ["SL1"]
    assert len({event["sjbh"] for event in sent}) == 2
    assert len({event["_nonce"] for event in sent}) == 5


async def test_an_event_that_nobody_wants_is_given_up_after_five_repetitions(
    caller: Caller, receiver: Receiver
) -> None:
    receiver.answers += [500] * 6
    await caller.upload()
    await caller.file(a_case())
    sent = [await receiver.next_event() for _ in range(7)]
    assert [event["ztdm"] for event in sent] == ["SB"] * 6 + ["SL1"]
    lost = (await caller.book("events"))[sent[0]["sjbh"]]
    assert (lost["acknowledged"], lost["sendings"]) == (False, 6)


async def test_a_duplicate_callback_is_the_same_event_with_another_nonce(caller: Caller, receiver: Receiver) -> None:
    await caller.order("duplicate_callback", 1)
    await caller.upload()
    await caller.file(a_case())
    sent = [await receiver.next_event() for _ in range(5)]
    assert [event["ztdm"] for event in sent] == ["SB", "SB", "SL1", "SPCL", "BJ"]
    assert sent[0]["sjbh"] == sent[1]["sjbh"]
    assert sent[0]["_nonce"] != sent[1]["_nonce"]


async def test_a_case_goes_on_after_a_restart(start: Start, receiver: Receiver) -> None:
    """The first authority stops before it has said anything; the second one, over the same notebook, says it all."""
    async with start(pace=3600.0) as caller:
        await caller.upload()
        _, first = await caller.file(a_case())
    assert receiver.inbox.empty()
    async with start() as caller:
        assert [(await receiver.next_event())["ztdm"] for _ in range(4)] == ["SB", "SL1", "SPCL", "BJ"]
        assert await caller.send("GET", f"{CASES}/KY-1") == (200, first)
    async with start():
        pass
    assert receiver.inbox.empty()


async def test_the_notebook_holds_no_personal_data(caller: Caller) -> None:
    """What the authority writes down can be shown on its control page: numbers, digests and states only."""
    await caller.upload()
    await caller.file(a_case())
    app = caller.client.app
    assert app is not None
    books = json.dumps([app[NOTEBOOK].entries(name) for name in ("cases", "arrivals", "events")], ensure_ascii=False)
    assert "陈测试" not in books
    assert "44010619900101900X" not in books


# Misbehaviour


async def test_a_lost_answer_leaves_the_work_done(caller: Caller) -> None:
    """The gap between the peer's yes and our knowing it: the case is there, and asking again finds it."""
    await caller.upload()
    await caller.order("lost_answer")
    with pytest.raises(aiohttp.ClientError):
        await caller.file(a_case())
    assert (await caller.book("arrivals")) == {"KY-1": 1}
    status, found = await caller.send("GET", f"{CASES}/KY-1")
    assert status == 200
    assert await caller.file(a_case()) == (200, found)


async def test_an_authority_that_is_down_does_nothing(caller: Caller) -> None:
    await caller.upload()
    await caller.order("down")
    with pytest.raises(aiohttp.ClientError):
        await caller.file(a_case())
    assert (await caller.send("GET", f"{CASES}/KY-1"))[0] == 404


async def test_garbage_is_no_answer_and_no_work(caller: Caller) -> None:
    await caller.upload()
    await caller.order("garbage")
    async with caller.client.post(CASES, data=as_json(a_case())) as reply:
        assert (reply.status, await reply.read()) == (200, GARBAGE)
    assert (await caller.send("GET", f"{CASES}/KY-1"))[0] == 404


# Certificates


async def look_up(caller: Caller, **changes: Any) -> tuple[str, list[dict[str, str]]]:
    status, answer = await caller.send("POST", LOOKUP, as_json(QUESTION | changes))
    assert status == 200
    return answer["head"]["status"], answer["data"]


async def test_a_certificate_is_found_by_name_and_number_together(caller: Caller) -> None:
    """A number alone opens nothing: both must fit, and so must the type of the number."""
    status, found = await look_up(caller)
    assert (status, len(found)) == ("0", 1)
    assert found[0] == {
        "ZZBS": CERTIFICATE["identifier"],
        "ZZMC": "中华人民共和国居民身份证",
        "ZZBH": "44010619900101900X",
        "ZZLXDM": "11100000000013127D001",
        "ZZBFJG": "广州市测试局",
        "ZZBFJGDM": "11440100MBT40100XX",
        "ZZBFRQ": "20150601",
        "ZZYXQQSRQ": "20150601",
        "ZZYXQJZRQ": "20350601",
        "CZZT": "陈测试",
        "CZZTDM": "44010619900101900X",
        "CZZTDMLXDM": "111",
        "ZZZT": "01",
    }
    assert await look_up(caller, CertificateHolder="陈 测试") == ("0", found)
    for miss in (
        {"CertificateHolder": "李测试"},
        {"CertificateHolderCode": "440303198506159013"},
        {"CertificateHolderCodeType": "516"},
    ):
        assert await look_up(caller, **miss) == ("10", [])


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        *(({name: ""}, "12") for name in QUESTION),
        ({"username": None}, "12"),
        ({"UseFor": "用" * 201}, "12"),
        ({"UseFor": "用" * 200}, "0"),
        ({"CertificateTypeCode": "ELSEWHERE"}, "13"),
        ({"CertificateHolderCodeType": "10"}, "103"),
    ],
)
async def test_a_question_that_does_not_say_everything_is_not_answered(
    caller: Caller, changes: dict[str, Any], status: str
) -> None:
    """`ELSEWHERE` is a type that only another region issues."""
    assert (await look_up(caller, **changes))[0] == status


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000])
async def test_a_question_that_is_no_object_is_not_answered(caller: Caller, body: bytes) -> None:
    status, answer = await caller.send("POST", LOOKUP, body)
    assert (status, answer["head"]["status"]) == (200, "12")


@pytest.mark.parametrize(
    ("state", "code"),
    [("suspended", "02"), ("revoked", "03"), ("cancelled", "04"), ("expired", "05"), ("moved", "06"), ("odd", "99")],
)
async def test_the_state_of_a_certificate_is_told_in_the_authoritys_code(start: Start, state: str, code: str) -> None:
    """Without an end there is no ZZYXQJZRQ; with a successor there is GLZZBS."""
    row = CERTIFICATE | {"state": state, "replaced_by": "1.2.156.3005.2.NEXT"}
    del row["valid_to"]
    async with start(certificates=[row]) as caller:
        _, found = await look_up(caller)
    assert (found[0]["ZZZT"], found[0]["GLZZBS"], "ZZYXQJZRQ" in found[0]) == (code, "1.2.156.3005.2.NEXT", False)


async def test_an_authority_without_its_secrets_does_not_start(start: Start) -> None:
    with pytest.raises(ValueError, match=r"paas_token.*item_codes"):
        async with start(secrets={"paas_id": b"", "client_id": b"", "client_secret": b""}):
            pass


# Courses


@pytest.mark.parametrize(
    ("order", "states"),
    [
        ("course_supplement_expired", "SB BZGZ BZYQ TJ"),
        ("course_tolerance_breached", "SB SL2 RQYQ TJ"),
        ("course_special", "SB SL1 TBCXSQ TBCXJG SPCL BJ"),
        ("course_extended", "SB SL1 YQBL SPCL BJ"),
        ("course_refused", "SB SL0"),
        ("course_not_within_power", "SB SL3"),
        ("course_returned", "SB TJ"),
        ("course_void", "SB SL1 SPCL BJ ZF"),
        ("course_delivered", "SB SL1 SPCL BJ LQDJ"),
    ],
)
async def test_a_case_takes_the_course_that_was_ordered(
    caller: Caller, receiver: Receiver, order: str, states: str
) -> None:
    await caller.order(order)
    await caller.upload()
    await caller.file(a_case())
    wanted = states.split()
    events = [await receiver.next_event() for _ in wanted]
    assert [event["ztdm"] for event in events] == wanted
    await caller.file(a_case(wwbh="KY-2"))
    assert [(await receiver.next_event())["ztdm"] for _ in range(4)] == ["SB", "SL1", "SPCL", "BJ"]


async def test_a_special_procedure_says_how_long_it_lasts_and_a_record_its_own_time(
    caller: Caller, receiver: Receiver
) -> None:
    await caller.order("course_special")
    await caller.upload()
    await caller.file(a_case())
    opened = [await receiver.next_event() for _ in range(3)][-1]
    told = {"tbcxsx": 30, "tbcxsxdw": "G", "tbcxksrq": opened["fssj"]}
    assert {name: opened[name] for name in told} == told


# Messages about a case

SUPPLEMENTS, MESSAGES = "/ebus/pearl/v1/supplements", "/ebus/pearl/v1/messages"


async def at_notice(caller: Caller, receiver: Receiver, order: str = "course_supplement") -> dict[str, Any]:
    """File a case that then waits for its applicant; return the last event."""
    await caller.order(order)
    await caller.upload()
    await caller.file(a_case())
    return [await receiver.next_event() for _ in range(2)][-1]


async def completed(caller: Caller, receiver: Receiver) -> dict[str, Any]:
    await caller.upload()
    await caller.file(a_case())
    return [await receiver.next_event() for _ in range(4)][-1]


async def tell(caller: Caller, kind: str, event: dict[str, Any], **changes: Any) -> tuple[int, Any]:
    """Say something about the case of an event."""
    numbers = {"xxbh": "M-1", "wwbh": event["wwbh"], "sblsh": event["sblsh"]}
    ratings = {"assess_id": "M-1", "wwbh": event["wwbh"], "projectNo": event["sblsh"]}
    bodies = {
        "supplements": numbers | {"bzsj": "20231115061320", "clxx": a_case()["clxx"], "sfbq": "1"},
        "withdrawals": numbers | {"chsj": "20231115061320", "chyy": "陈测试不再需要"},
        "ratings": ratings
        | {"task_code": ITEM, "assess_role": "2", "satisfaction": 5, "pf": "4", "is_default": "0"}
        | {"assess_time": "2023-11-15 06:13:20", "writing_evaluation": "陈测试很满意"},
        "complaints": numbers | {"tsnr": "陈测试等了很久", "tssj": "20231115061320"},
    }
    message = bodies[kind] | changes
    number = str(message.get("xxbh") or message.get("assess_id"))
    return await caller.send(
        "POST", f"/ebus/pearl/v1/{kind}", as_json(message), **{"x-pearl-message-id": number}
    )  # fmt: skip


async def test_a_notice_names_what_is_missing_and_the_case_waits_for_it(caller: Caller, receiver: Receiver) -> None:
    """A part of it is kept and moves nothing; all of it is acted on once, however often it comes."""
    notice = await at_notice(caller, receiver)
    assert (notice["ztdm"], notice["blsx"], notice["bzgzsj"]) == ("BZGZ", "20231130", notice["fssj"])
    assert [wanted["clbm"] for wanted in notice["bzclqd"]] == ["M1"]
    assert (await tell(caller, "supplements", notice, xxbh="M-0", sfbq="0"))[0] == 200
    status, first = await tell(caller, "supplements", notice)
    assert (status, first["data"]) == (200, {"xxbh": "M-1", "jssj": "20231115061320"})
    assert await tell(caller, "supplements", notice) == (200, first)
    assert [(await receiver.next_event())["ztdm"] for _ in range(4)] == ["BZSL", "SL1", "SPCL", "BJ"]
    assert receiver.inbox.empty()
    assert await caller.send("GET", f"{MESSAGES}/M-1") == (200, first)
    assert (await caller.send("GET", f"{MESSAGES}/M-2"))[0] == 404
    assert await caller.book("arrivals") == {"KY-1": 1, "M-0": 1, "M-1": 2}
    assert (await tell(caller, "supplements", notice, xxbh="M-2"))[0] == 422, "nothing is waited for any more"


async def test_what_was_deferred_may_follow_and_then_the_case_is_accepted(caller: Caller, receiver: Receiver) -> None:
    tolerant = await at_notice(caller, receiver, "course_tolerance")
    assert (tolerant["ztdm"], tolerant["bzclqd"][0]["clbm"]) == ("SL2", "M1")
    await tell(caller, "supplements", tolerant)
    assert [(await receiver.next_event())["ztdm"] for _ in range(3)] == ["SL1", "SPCL", "BJ"]


async def test_a_case_is_withdrawn_until_it_is_decided(caller: Caller, receiver: Receiver) -> None:
    done = await completed(caller, receiver)
    assert (await tell(caller, "withdrawals", done, xxbh="M-0"))[0] == 422
    await caller.order("course_supplement")
    await caller.file(a_case(wwbh="KY-2"))
    notice = [await receiver.next_event() for _ in range(2)][-1]
    for _ in range(2):
        assert (await tell(caller, "withdrawals", notice))[0] == 200
    assert (await receiver.next_event())["ztdm"] == "CH"
    assert receiver.inbox.empty()
    assert (await tell(caller, "supplements", notice, xxbh="M-2"))[0] == 422


async def test_each_role_is_rated_once_and_after_completion(caller: Caller, receiver: Receiver) -> None:
    notice = await at_notice(caller, receiver)
    assert (await tell(caller, "ratings", notice))[0] == 422
    await tell(caller, "supplements", notice, xxbh="M-0")
    done = [await receiver.next_event() for _ in range(4)][-1]
    assert [(await tell(caller, "ratings", done))[0] for _ in range(2)] == [200, 200]
    assert (await tell(caller, "ratings", done, assess_id="M-2"))[0] == 422
    assert (await tell(caller, "ratings", done, assess_id="M-3", assess_role="1"))[0] == 200


async def test_a_message_belongs_to_one_case_and_says_so_in_its_header(caller: Caller, receiver: Receiver) -> None:
    done = await completed(caller, receiver)
    for wrong in ({"wwbh": "KY-9"}, {"sblsh": "4" * 24}):
        assert (await tell(caller, "complaints", done, **wrong))[0] == 422
    assert await caller.book("messages") == {}
    assert (await tell(caller, "complaints", done))[0] == 200
    body = as_json({"xxbh": "M-2", "wwbh": "KY-1", "sblsh": done["sblsh"], "chsj": "20231115061320", "chyy": "x"})
    status, answer = await caller.send("POST", "/ebus/pearl/v1/withdrawals", body, **{"x-pearl-message-id": "M-3"})
    assert (status, [error["field"] for error in answer["errors"]]) == (422, ["xxbh"])


async def test_everything_wrong_with_a_message_is_said_at_once(caller: Caller, receiver: Receiver) -> None:
    done = await completed(caller, receiver)
    wrong = {
        "satisfaction": 6,
        "assess_role": "3",
        "pf": "8",
        "assess_time": "20231115061320",
        "is_default": 0,
        "writing_evaluation": "很" * 501,
        "extra": "?",
        "eval_detail": None,
    }
    status, answer = await tell(caller, "ratings", done, **wrong)
    assert status == 422
    assert {error["field"] for error in answer["errors"]} == set(wrong)
    assert "很很" not in json.dumps(answer, ensure_ascii=False)
    missing = "0" * 64
    status, answer = await tell(
        caller, "supplements", done, clxx=[a_case()["clxx"][0] | {"wjzy": missing}], bzsj="2023-11-15"
    )
    assert {error["field"] for error in answer["errors"]} == {"clxx[0].wjzy", "bzsj"}


async def test_a_message_that_was_taken_is_acted_on_after_a_restart(start: Start, receiver: Receiver) -> None:
    async with start() as caller:
        notice = await at_notice(caller, receiver)
    async with start(pace=3600.0) as caller:
        assert (await tell(caller, "withdrawals", notice))[0] == 200
    async with start() as caller:
        assert (await receiver.next_event())["ztdm"] == "CH"
        assert (await caller.book("cases"))["KY-1"]["state"] == "CH"


async def test_the_notebook_holds_nobodys_words(caller: Caller, receiver: Receiver) -> None:
    done = await completed(caller, receiver)
    assert (await tell(caller, "complaints", done))[0] == 200
    assert "陈测试" not in json.dumps(await caller.book("messages"), ensure_ascii=False)


# Items

ITEMS = "/ebus/pearl/v1/items"
SEEDED = {
    "code": ITEM,
    "name": {"zh-CN": "跨省异地就医备案"},
    "modes": ["online", "collect"],
    "min_assurance": "A2",
    "tolerance": True,
    "field": [{"id": "destination", "label": {"zh-CN": "就医地"}, "required": True}],
    "material": [
        {"code": "ID", "name": {"zh-CN": "居民身份证"}, "required": True, "certificate_type": "11100000000013127D001"},
        {"code": "RESIDENCE", "name": {"zh-CN": "居住证明"}, "deferrable": True},
    ],
    "office": [
        {"region": "foshan", "code": "440600", "promised_days": 9, "statutory_days": 9, "limit_unit": "Z"},
        {"region": "guangdong", "code": "440000", "promised_days": 0, "statutory_days": 2, "limit_unit": "G"},
    ],
}


async def listed(caller: Caller, number: int = 1, size: int = 100) -> tuple[int, Any]:
    headers = headers_for("GET", ITEMS, b"", nonce=caller.nonce())
    return await caller.send_as(headers, "GET", f"{ITEMS}?pageNo={number}&pageSize={size}")


async def test_the_items_that_the_province_handles_are_listed_page_by_page(start: Start) -> None:
    async with start(items=[SEEDED, SEEDED | {"code": "OTHER"}]) as caller:
        status, answer = await listed(caller, 1, 1)
        assert (status, answer["data"]["total"]) == (200, 2)
        (row,) = answer["data"]["rows"]
        assert {name: row[name] for name in ("SXBM", "XZQHDM", "BLXS", "SMDJ", "SFRQ", "SFZT")} == {
            "SXBM": ITEM,
            "XZQHDM": "440000000000",
            "BLXS": "2;;3",
            "SMDJ": "L2",
            "SFRQ": "1",
            "SFZT": "0",
        }
        assert (row["CNBJSX"], row["FDBJSX"], row["FDBJSXDW"]) == (0, 2, "G")
        assert (row["CLBM"], row["CLSFBY"], row["CLSFKRQ"]) == ("ID;;RESIDENCE", "1;;0", "0;;1")
        assert (row["ZZLXDM"], row["BDXSFBT"]) == ("11100000000013127D001;;", "1")
        assert [each["SXBM"] for each in (await listed(caller, 2, 1))[1]["data"]["rows"]] == ["OTHER"]
        assert (await listed(caller, 3, 1))[1]["data"]["rows"] == []
        assert [(await listed(caller, *odd))[0] for odd in ((0, 1), (1, 0), (1, 201))] == [422, 422, 422]
        assert (await caller.send_as({}, "GET", ITEMS))[0] == 401


@pytest.mark.parametrize(
    ("mode", "changed"), [("item_suspended", {"SFZT", "GXSJ"}), ("item_changed", {"SXMC", "SXBBH", "GXSJ", "CNBJSX"})]
)
async def test_an_item_can_be_suspended_or_changed_on_request(start: Start, mode: str, changed: set[str]) -> None:
    async with start(items=[SEEDED]) as caller:
        (before,) = (await listed(caller))[1]["data"]["rows"]
        await caller.order(mode)
        (after,) = (await listed(caller))[1]["data"]["rows"]
        assert {name for name in before if before[name] != after[name]} == changed
        assert (await listed(caller))[1]["data"]["rows"] == [before]


# Certificates that are named

FRAME = {name: value for name, value in QUESTION.items() if not name.startswith("Certificate")}


@pytest.mark.parametrize("operation", ["GetCertificateDataByCertificateID", "GetCertificateFileByCertificateID"])
@pytest.mark.parametrize("name", ["CertificateID", *FRAME])
async def test_a_question_about_one_certificate_must_name_everything(caller: Caller, operation: str, name: str) -> None:
    asked = {"CertificateID": CERTIFICATE["identifier"], **FRAME, name: ""}
    _, answer = await caller.send("POST", f"/elssp/v1/{operation}", as_json(asked))
    assert (answer["head"]["status"], answer["data"]) == ("12", [])


async def test_a_file_that_was_authorised_is_handed_out_once(caller: Caller) -> None:
    asked = {"CertificateID": CERTIFICATE["identifier"], **FRAME}
    _, answer = await caller.send("POST", "/elssp/v1/GetCertificateFileByCertificateID", as_json(asked))
    (row,) = answer["data"]
    path = f"/elssp/v1/files/{row['auth_code']}"
    headers = headers_for("GET", path, b"", nonce=caller.nonce())
    async with caller.client.get(path, headers=headers) as file:
        content = await file.read()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (row["wjdx"], row["wjzy"])
    assert (await caller.send("GET", path, b""))[0] == 410


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"state": "revoked"}, "21"), ({"state": "suspended"}, "23"), ({"replaced_by": "1.2.NEXT"}, "21")],
)
async def test_there_is_no_file_of_a_certificate_that_is_not_in_force(
    start: Start, changes: dict[str, str], status: str
) -> None:
    async with start(certificates=[CERTIFICATE | changes]) as caller:
        asked = {"CertificateID": CERTIFICATE["identifier"], **FRAME}
        _, answer = await caller.send("POST", "/elssp/v1/GetCertificateFileByCertificateID", as_json(asked))
    assert (answer["head"]["status"], answer["data"]) == (status, [])
