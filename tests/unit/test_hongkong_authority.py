"""The simulated authority of Hong Kong, spoken to by a small client of this file's own.

The client is a third reading of adapters/hongkong/README.md: it shares no code with the adapter or with the authority.
Only the first tests call the authority's own functions, to hold them against the vectors of the README.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from aiohttp import web
from aiohttp.client_exceptions import ClientError
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from adapters.hongkong.sandbox import build_authority
from adapters.hongkong.sandbox_sign_on import HOSTILE as SIGN_ON_ATTACKS
from adapters.hongkong.sandbox_wire import HOSTILE as WIRE_ATTACKS
from adapters.hongkong.sandbox_wire import Client, Refusal, kek, seal, unseal
from gateway.sandbox.authority import NOTEBOOK, TASKS, AuthoritySettings

CLIENT_ID = "0123456789abcdef0123456789abcdef"
SECRET = b"fedcba9876543210fedcba9876543210"
ITEM = "11440100MBT40100XX3442011899001"
NOW = 1_700_000_000.0
DOCUMENT = b"%PDF-1.7 synthetic"
DIGEST = hashlib.sha256(DOCUMENT).hexdigest()

PERSON = {
    "region": "hongkong",
    "account": "taiman",
    "open_id": "openid-of-taiman",
    "name_en": "CHAN, Tai Man",
    "name_zh": "陳大文",
    "hkid": "A1234563",
    "birth_date": "1990-01-02",
    "gender": "M",
}
CERTIFICATE = {
    "region": "hongkong",
    "type_code": "HK-DRIVING",
    "type_name": "香港正式駕駛執照",
    "identifier": "HK-DRIVING-1",
    "number": "D1",
    "issuer_name": "運輸署",
    "issuer_code": "TD",
    "issued_on": "2020-01-01",
    "valid_from": "2020-01-01",
    "valid_to": "2023-11-15",
    "holder_name": "CHAN, Tai Man",
    "holder_id_type": "HM_PERMIT",
    "holder_id_number": "H12345678",
    "state": "VALID",
}


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Caller:
    """The client side of the wire."""

    http: TestClient[web.Request, web.Application]
    key: RSAPrivateKey
    clock: Clock
    cek: bytes = b""

    def headers(self, body: bytes, changed: Mapping[str, str] | None = None, *, plain: bool = False) -> dict[str, str]:
        changed = changed or {}
        head = {"clientID": CLIENT_ID, "signatureMethod": "HmacSHA256", "nonce": secrets.token_hex(18)}
        head |= {"timestamp": str(int(self.clock.now * 1000)), **changed}
        text = head["clientID"] + head["signatureMethod"] + head["timestamp"] + head["nonce"]
        mac = b64encode(hmac.new(SECRET, text.encode() + body, hashlib.sha256).digest()).decode()
        return {"signature": mac if plain else quote(mac, safe=""), **head, **changed}

    async def raw(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        async with self.http.post(path, data=body, headers=headers or self.headers(body)) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
        assert len(answer["txID"]) > 8
        return answer

    async def get_key(self) -> dict[str, Any]:
        answer = await self.raw("/api/v1/security/getKey", b"")
        content: dict[str, Any] = answer["content"]
        self.cek = self.key.decrypt(b64decode(content["secretKey"]), PKCS1v15())
        return content

    def sealed(self, plain: bytes, key: bytes | None = None) -> bytes:
        iv = os.urandom(12)
        box = (12).to_bytes(4, "big") + iv + AESGCM(key or self.cek).encrypt(iv, plain, None)
        return json.dumps({"content": b64encode(box).decode()}).encode()

    async def ask(self, path: str, message: Any) -> tuple[str, Any]:
        if not self.cek:
            await self.get_key()
        plain = message if isinstance(message, bytes) else json.dumps(message).encode()
        answer = await self.raw(path, self.sealed(plain))
        return answer["code"], opened(self.cek, answer["content"]) if "content" in answer else None

    async def upload(self) -> tuple[str, Any]:
        message = {"sha256": DIGEST, "mimeType": "application/pdf", "data": b64encode(DOCUMENT).decode()}
        return await self.ask("/api/v1/documents/upload", message)

    async def submit(self, **changed: Any) -> tuple[str, Any]:
        await self.upload()
        return await self.ask("/api/v1/cases/submit", {**case(), **changed})


def opened(key: bytes, content: str) -> Any:
    box = b64decode(content)
    assert box[:4] == b"\0\0\0\x0c"
    return json.loads(AESGCM(key).decrypt(box[4:16], box[16:], None))


def case() -> dict[str, Any]:
    return {
        "refNo": "01HF7Y0000000000000000TEST",
        "serviceCode": ITEM,
        "serviceName": "簽發駕駛執照",
        "submitTime": "2023-11-14T22:13:20+08:00",
        "channel": "COUNTER",
        "originRegion": "440100",
        "handlingRegion": "810000",
        "counter": "GZ-07",
        "officer": "clerk-3",
        "applicant": {
            "type": "INDIVIDUAL",
            "name": "陳大文",
            "docType": "HRP",
            "docNo": "H12345678",
            "birthDate": "1990-01-02",
            "gender": "M",
        },
        "formFields": [{"name": "licenceClass", "value": "2"}, {"name": "copies", "value": 1}],
        "documents": [
            {
                "code": "M1",
                "name": "proof.pdf",
                "mimeType": "application/pdf",
                "size": len(DOCUMENT),
                "sha256": DIGEST,
            }
        ],
    }


@dataclass
class Receiver:
    """The gateway's end of the callbacks: it checks the signature, decrypts, and answers what it is told to."""

    key: RSAPrivateKey
    answers: list[dict[str, str]] = field(default_factory=list)
    events: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    nonces: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        body, head = await request.read(), request.headers
        text = head["clientID"] + head["signatureMethod"] + head["timestamp"] + head["nonce"]
        mac = b64encode(hmac.new(SECRET, text.encode() + body, hashlib.sha256).digest()).decode()
        assert unquote(head["signature"]) == mac
        self.nonces.append(head["nonce"])
        envelope = json.loads(body)
        cek = self.key.decrypt(b64decode(envelope["secretKey"]), PKCS1v15())
        self.events.put_nowait(opened(cek, envelope["content"]))
        await self.gate.wait()
        return web.json_response(self.answers.pop(0) if self.answers else {"code": "M00000"})

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.events.get(), 10)

    async def statuses(self, number: int) -> list[str]:
        return [(await self.next())["status"] for _ in range(number)]


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    """Return the gateway's private key, minted for this run."""
    return generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def receiver(key: RSAPrivateKey) -> Receiver:
    receiver = Receiver(key)
    receiver.gate.set()
    return receiver


@pytest.fixture
async def settings(
    key: RSAPrivateKey, receiver: Receiver, tmp_path: Path, aiohttp_server: Callable[..., Awaitable[TestServer]]
) -> AuthoritySettings:
    app = web.Application()
    app.router.add_post("/callbacks/hongkong/events", receiver.take)
    server = await aiohttp_server(app)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return AuthoritySettings(
        region="hongkong",
        gateway_url=str(server.make_url("")).rstrip("/"),
        state=tmp_path / "hongkong.db",
        secrets={
            "client_id": CLIENT_ID.encode(),
            "client_secret": SECRET,
            "kek_public_key": public,
            "item_codes": json.dumps([ITEM]).encode(),
        },
        people=[PERSON, {**PERSON, "account": "stranger", "region": "macau"}],
        certificates=[CERTIFICATE, {**CERTIFICATE, "region": "guangdong", "type_code": "GD"}],
        pace=0.0,
    )


Start = Callable[[AuthoritySettings], Awaitable[Caller]]


@pytest.fixture
def start(
    settings: AuthoritySettings, aiohttp_client: Callable[..., Awaitable[Any]], key: RSAPrivateKey, clock: Clock
) -> Start:
    """Return the way to start an authority.

    It asks for the settings first only for their place: what was set up last stops first, and an authority that
    outlived the receiver would wait for an answer that never comes.
    """

    async def start(settings: AuthoritySettings) -> Caller:
        return Caller(await aiohttp_client(build_authority(settings, clock)), key, clock)

    return start


@pytest.fixture
async def caller(start: Start, settings: AuthoritySettings) -> Caller:
    return await start(settings)


async def finished(caller: Caller) -> dict[str, Any]:
    """Wait until the authority has nothing left to do; return its ledger."""
    await asyncio.gather(*list(caller.http.app[TASKS]))  # type: ignore[index]  # the client knows its app as optional
    ledger: dict[str, Any] = await (await caller.http.get("/control/ledger")).json()
    return ledger


async def misbehave(caller: Caller, mode: str) -> None:
    assert (await caller.http.post("/control", json={"mode": mode, "times": 1})).status == 200


# The envelope


def test_the_signature_vectors_of_the_readme_are_reproduced() -> None:
    client, nonce = Client(CLIENT_ID, SECRET), "00112233445566778899aabbccddeeff0011"
    assert client.signature("1700000000000", nonce, b"") == "BKCatrpb/rvvd5ILei2veiV8RlqX751EHkoF83rHMcQ="
    signature = client.signature("1700000000000", nonce, b'{"content":"AAAADA=="}')
    assert signature == "RbfVGDYgFr4/AHLgOgKsJPscly7Niriv9ekN3GLbxpw="


def test_the_encryption_vector_of_the_readme_is_reproduced() -> None:
    plain = b'{"code":"abc","grantType":"authorization_code"}'
    content = (
        "AAAADAABAgMEBQYHCAkKCzwgtXShgOAhryD16JPFWgrxt+lApAIvGRpdx+RoHWjdc3nUnduoffYrxxCJ7aVVYia7oHXt3O0qX8X3gawVHw=="
    )
    assert seal(bytes(range(32)), plain, bytes(range(12))) == content
    assert unseal(bytes(range(32)), content) == plain
    with pytest.raises(Refusal, match="D30004"):
        unseal(bytes(range(32)), content[:-8] + "AAAAAA==")


def test_a_kek_of_another_kind_or_size_is_refused_at_the_start() -> None:
    """PKCS#1 v1.5 under RSA-2048 is what the profile names: another key would only fail later, at the first CEK."""
    for private in (ec.generate_private_key(ec.SECP256R1()), generate_private_key(65537, 3072)):
        with pytest.raises(ValueError, match="RSA-2048"):
            kek(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


async def test_the_key_is_handed_out_under_the_kek_with_its_times(caller: Caller) -> None:
    content = await caller.get_key()
    assert len(caller.cek) == 32
    assert (content["issueAt"], content["expiresIn"]) == (NOW * 1000, 600_000)


async def test_asking_again_does_not_displace_the_key_in_use(caller: Caller) -> None:
    """Two processes of one gateway fetch keys independently."""
    await caller.get_key()
    first = caller.cek
    await caller.get_key()
    assert caller.cek == first


async def test_a_new_key_near_the_end_leaves_the_old_one_until_it_expires(caller: Caller) -> None:
    await caller.get_key()
    old = caller.cek
    caller.clock.now += 570
    await caller.get_key()
    assert caller.cek != old
    caller.cek = old
    assert (await caller.upload())[0] == "M00000"
    caller.clock.now += 30
    assert await caller.upload() == ("D30002", None)


async def test_a_plain_signature_is_as_good_as_an_encoded_one(caller: Caller) -> None:
    for plain in (True, False):
        answer = await caller.raw("/api/v1/security/getKey", b"", caller.headers(b"", plain=plain))
        assert answer["code"] == "M00000"


@pytest.mark.parametrize(
    "changed",
    [
        {"signature": "AAAA"},
        {"signature": "\u00e4\u00f6"},
        {"clientID": "f" * 32},
        {"signatureMethod": "HmacSHA1"},
        {"nonce": "short"},
        {"timestamp": "yesterday"},
        {"timestamp": str(int(NOW * 1000) - 300_001)},
        {"timestamp": str(int(NOW * 1000) + 300_001)},
    ],
)
async def test_a_forged_or_stale_message_is_refused(caller: Caller, changed: dict[str, str]) -> None:
    for path in ("/api/v1/security/getKey", "/api/v1/cases/query"):
        answer = await caller.raw(path, b"", caller.headers(b"", changed))
        assert answer["code"] == "D20006"
        assert "content" not in answer


async def test_a_message_without_any_header_is_refused(caller: Caller) -> None:
    assert (await caller.raw("/api/v1/security/getKey", b"", {"Accept": "*/*"}))["code"] == "D20006"


async def test_a_signature_over_another_body_is_refused(caller: Caller) -> None:
    await caller.get_key()
    body = caller.sealed(b"{}")
    assert (await caller.raw("/api/v1/cases/query", body, caller.headers(b"")))["code"] == "D20006"


async def test_a_message_at_the_edge_of_the_tolerance_comes_in(caller: Caller) -> None:
    edge = str(int(NOW * 1000) - 300_000)
    assert (await caller.raw("/api/v1/security/getKey", b"", caller.headers(b"", {"timestamp": edge})))[
        "code"
    ] == "M00000"


async def test_a_replayed_message_is_refused(caller: Caller) -> None:
    """As long as its time stamp would still pass: the clock moves, the memory must last."""
    headers = caller.headers(b"", {"timestamp": str(int(NOW * 1000) + 299_000)})
    assert (await caller.raw("/api/v1/security/getKey", b"", headers))["code"] == "M00000"
    for later in (0, 400, 599):
        caller.clock.now = NOW + later
        await caller.get_key()  # other traffic ages the memory
        assert (await caller.raw("/api/v1/security/getKey", b"", headers))["code"] == "D20006"


async def test_content_before_any_key_was_fetched_is_refused(caller: Caller) -> None:
    assert (await caller.raw("/api/v1/cases/query", caller.sealed(b"{}", os.urandom(32))))["code"] == "D30002"


async def test_an_expired_key_is_refused_until_another_is_fetched(caller: Caller) -> None:
    await caller.get_key()
    caller.clock.now += 600
    assert await caller.upload() == ("D30002", None)
    await caller.get_key()
    assert (await caller.upload())[0] == "M00000"


async def test_the_life_of_keys_can_be_set(start: Start, settings: AuthoritySettings) -> None:
    caller = await start(replace(settings, secrets={**settings.secrets, "cek_lifetime_seconds": b"0"}))
    await caller.get_key()
    assert await caller.upload() == ("D30002", None)


async def test_the_wrong_key_does_not_decrypt(caller: Caller) -> None:
    await caller.get_key()
    body = caller.sealed(b"{}", os.urandom(32))
    assert (await caller.raw("/api/v1/cases/query", body))["code"] == "D30004"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b"\xff",
        b"[]",
        b'{"content":1}',
        b'{"content":"\\ud800"}',
        b'{"content":"*"}',
        b'{"content":"AAAADA=="}',
    ],
)
async def test_a_broken_envelope_is_not_decrypted(caller: Caller, body: bytes) -> None:
    await caller.get_key()
    assert (await caller.raw("/api/v1/cases/query", body))["code"] == "D30004"


@pytest.mark.parametrize("plain", [b"", b"\xff", b"[]", b"[" * 100_000, b'{"refNo":"\\ud800"}', b'{"refNo":1}'])
async def test_a_message_of_another_shape_is_refused_with_its_errors(caller: Caller, plain: bytes) -> None:
    code, content = await caller.ask("/api/v1/cases/query", plain)
    assert code == "D42200"
    assert content["errors"]


async def test_a_failing_notebook_is_an_internal_error(caller: Caller) -> None:
    await caller.get_key()
    caller.http.app[NOTEBOOK].close()
    assert await caller.ask("/api/v1/cases/query", {"refNo": "x"}) == ("D50000", None)


# Sign-on


def sign_on_url(settings: AuthoritySettings, **changed: str) -> str:
    asked = {
        "clientID": CLIENT_ID,
        "responseType": "code",
        "source": "PC_Browser",
        "redirectURI": f"{settings.gateway_url}/sign-in/hongkong/callback",
        "scope": "eidapi_auth eidapi_profiles",
        "state": 'a+b/c="&<ä>',
        "lang": "en-US",
        **changed,
    }
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items())
    return f"/api/v1/auth/getQR?{query}"


async def sent_back(caller: Caller, url: str, form: dict[str, str]) -> tuple[str, dict[str, str]]:
    response = await caller.http.post(url, data=form, allow_redirects=False)
    assert response.status == 302
    address, _, query = response.headers["Location"].partition("?")
    return address, {name: values[0] for name, values in parse_qs(query).items()}


async def code_for(caller: Caller, settings: AuthoritySettings, **changed: str) -> str:
    _, query = await sent_back(caller, sign_on_url(settings, **changed), {"account": "taiman"})
    return query["code"]


@pytest.mark.parametrize("lang", ["en-US", "zh-HK", "zh-CN"])
async def test_the_page_is_a_labelled_form_in_the_language_asked_for(
    caller: Caller, settings: AuthoritySettings, lang: str
) -> None:
    response = await caller.http.get(sign_on_url(settings, lang=lang))
    page = await response.text()
    assert response.status == 200
    assert f"<html lang={lang}>" in page
    assert "<label for=account>" in page
    assert urlsplit(settings.gateway_url).netloc in page
    assert "<ä>" not in page


async def test_a_person_signs_on_and_is_described_by_the_fields_asked_for(
    caller: Caller, settings: AuthoritySettings
) -> None:
    address, query = await sent_back(caller, sign_on_url(settings), {"account": " taiman "})
    assert address == f"{settings.gateway_url}/sign-in/hongkong/callback"
    assert query["state"] == 'a+b/c="&<ä>'
    code, token = await caller.ask("/api/v1/auth/getToken", {"code": query["code"], "grantType": "authorization_code"})
    assert (code, token["openID"], token["tokenType"]) == ("M00000", "openid-of-taiman", "Bearer")
    assert token["scope"] == "eidapi_auth eidapi_profiles"
    asked = {"accessToken": token["accessToken"], "openID": token["openID"]}
    fields = ["enName", "chName", "birthDate", "gender"]
    assert await caller.ask("/api/v1/profiles", {**asked, "profileFields": fields}) == (
        "M00000",
        {
            "enName": {"UnstructuredName": "CHAN, Tai Man"},
            "chName": {"ChineseName": "陳大文"},
            "chNameVerified": "Y",
            "birthDate": "19900102",
            "gender": "M",
            "openID": "openid-of-taiman",
        },
    )
    assert (token["authTime"], token["version"]) == (int(NOW * 1000), "iAMSmart")
    identity = {"openID": "openid-of-taiman", "idNo": {"Identification": "A123456", "CheckDigit": "3"}}
    assert await caller.ask("/api/v1/profiles", {**asked, "profileFields": ["idNo"]}) == ("M00000", identity)


async def test_a_code_is_spoilt_by_decoding_it_twice(caller: Caller, settings: AuthoritySettings) -> None:
    code = await code_for(caller, settings)
    assert {"+", "/"} <= set(code)
    message = {"code": code.replace("+", " "), "grantType": "authorization_code"}
    assert (await caller.ask("/api/v1/auth/getToken", message))[0] == "D40004"


async def test_a_code_is_good_once_and_for_two_minutes(caller: Caller, settings: AuthoritySettings) -> None:
    late = await code_for(caller, settings)
    caller.clock.now += 120
    once = await code_for(caller, settings)
    for code, answer in ((late, "D40004"), (once, "M00000"), (once, "D40004")):
        message = {"code": code, "grantType": "authorization_code"}
        assert (await caller.ask("/api/v1/auth/getToken", message))[0] == answer


async def test_an_unknown_account_is_sent_back_with_an_error_code(caller: Caller, settings: AuthoritySettings) -> None:
    """A person of another region is unknown here, and a name that holds markup is never shown."""
    for account in ("nobody", "stranger", "", "<script>"):
        _, query = await sent_back(caller, sign_on_url(settings), {"account": account})
        assert query == {"error_code": "D40001", "state": 'a+b/c="&<ä>'}


async def test_a_person_may_decline(caller: Caller, settings: AuthoritySettings) -> None:
    _, query = await sent_back(caller, sign_on_url(settings), {"account": "taiman", "decision": "decline"})
    assert query["error_code"] == "D40000"


@pytest.mark.parametrize(
    "changed",
    [
        {"responseType": "token"},
        {"source": "Fridge"},
        {"scope": "eidapi_profiles"},
        {"scope": "eidapi_auth x"},
        {"lang": "pt"},
    ],
)
async def test_a_wrong_parameter_is_sent_back_with_an_error_code(
    caller: Caller, settings: AuthoritySettings, changed: dict[str, str]
) -> None:
    _, query = await sent_back(caller, sign_on_url(settings, **changed), {"account": "taiman"})
    assert query["error_code"] == "D40002"


@pytest.mark.parametrize("evil", ["https://evil.example/", "{gateway}.evil.example/", "{gateway}@evil.example/", ""])
async def test_nobody_is_sent_to_an_address_that_is_not_the_gateways(
    caller: Caller, settings: AuthoritySettings, evil: str
) -> None:
    url = sign_on_url(settings, redirectURI=evil.format(gateway=settings.gateway_url))
    for response in (await caller.http.get(url), await caller.http.post(url, data={"account": "taiman"})):
        assert response.status == 400


async def test_sign_on_for_another_client_or_without_state_is_refused(
    caller: Caller, settings: AuthoritySettings
) -> None:
    for changed in ({"clientID": "f" * 32}, {"state": ""}):
        assert (await caller.http.get(sign_on_url(settings, **changed))).status == 400


async def test_a_profile_needs_a_token_its_owner_and_the_scope(caller: Caller, settings: AuthoritySettings) -> None:
    code = await code_for(caller, settings, scope="eidapi_auth")
    _, token = await caller.ask("/api/v1/auth/getToken", {"code": code, "grantType": "authorization_code"})
    good = {"accessToken": token["accessToken"], "openID": token["openID"], "profileFields": ["enName"]}
    for changed, name in (
        ({"accessToken": "x"}, "accessToken"),
        ({"openID": "x"}, "openID"),
        ({}, "accessToken"),
        ({"profileFields": ["shoeSize"]}, "profileFields.0"),
        ({"profileFields": []}, "profileFields"),
    ):
        answer, content = await caller.ask("/api/v1/profiles", {**good, **changed})
        assert (answer, [error["field"] for error in content["errors"]]) == ("D42200", [name])


COMPANY = {
    "corp_id": "HKCORP000001",
    "brn": "12345678",
    "name_en": "Test Limited",
    "name_tc": "測試有限公司",
    "address": "香港測試道1號",
    "role": "Director",
    "type": "Private company limited by shares",
    "status": "Live",
    "registered": "20160229",
}
CORP_SCOPE = "eidapi_auth eidapi_profiles corpid_auth"
GROUPS = {
    "corpProfileFields": ["corpID", "brn", "corpNameTC"],
    "corpUserProfileFields": ["openID", "corpRole"],
    "eCorpFields": ["corpStatusEN"],
}


@pytest.fixture
async def director(start: Start, settings: AuthoritySettings) -> Caller:
    """Return a caller of an authority where `taiman` is a director and `siuling` is not."""
    other = {**PERSON, "account": "siuling", "open_id": "openid-of-siuling", "name_en": "WONG, Siu Ling"}
    return await start(replace(settings, people=[{**PERSON, "company": COMPANY}, other]))


async def acting(caller: Caller, settings: AuthoritySettings, account: str = "taiman") -> tuple[str, dict[str, str]]:
    """Sign on for a company; return the ticket, and what the token's answer says of the person."""
    form = {"account": account, "capacity": "company"}
    _, query = await sent_back(caller, sign_on_url(settings, scope=CORP_SCOPE), form)
    message = {"code": query["code"], "grantType": "authorization_code"}
    return query["corpTicket"], (await caller.ask("/api/v1/auth/getToken", message))[1]


async def test_a_person_acts_for_a_company_and_in_a_role(director: Caller, settings: AuthoritySettings) -> None:
    ticket, token = await acting(director, settings)
    person = {"accessToken": token["accessToken"], "openID": token["openID"]}
    code, corp = await director.ask("/api/v1/corp/getToken", {"ticket": ticket, **person})
    assert (code, corp["corpID"], corp["openID"]) == ("M00000", "HKCORP000001", "openid-of-taiman")
    asked = {"accessToken": corp["corpAccessToken"], "openID": corp["openID"], "corpID": corp["corpID"], **GROUPS}
    assert await director.ask("/api/v1/corp/profiles", asked) == (
        "M00000",
        {
            "corpProfileFields": {"corpID": "HKCORP000001", "brn": "12345678", "corpNameTC": "測試有限公司"},
            "corpUserProfileFields": {"openID": "openid-of-taiman", "corpRole": "Director"},
            "eCorpFields": {"corpStatusEN": "Live"},
        },
    )
    assert (await director.ask("/api/v1/corp/getToken", {"ticket": ticket, **person}))[0] == "D40004"
    for changed in ({"openID": "openid-of-siuling"}, {"corpID": "HKCORP000002"}, {"accessToken": "x"}):
        assert (await director.ask("/api/v1/corp/profiles", {**asked, **changed}))[0] == "D42200"


async def test_a_ticket_serves_only_the_person_whom_it_was_made_for(
    director: Caller, settings: AuthoritySettings
) -> None:
    ticket, _ = await acting(director, settings)
    _, query = await sent_back(director, sign_on_url(settings), {"account": "siuling"})
    message = {"code": query["code"], "grantType": "authorization_code"}
    _, other = await director.ask("/api/v1/auth/getToken", message)
    stolen = {"ticket": ticket, "accessToken": other["accessToken"], "openID": other["openID"]}
    assert (await director.ask("/api/v1/corp/getToken", stolen))[0] == "D40004"


async def test_who_acts_for_no_company_is_sent_back(director: Caller, settings: AuthoritySettings) -> None:
    form = {"account": "siuling", "capacity": "company"}
    _, query = await sent_back(director, sign_on_url(settings, scope=CORP_SCOPE), form)
    assert query["error_code"] == "D40003"


async def test_what_people_say_of_themselves_comes_when_it_is_asked_for(
    start: Start, settings: AuthoritySettings
) -> None:
    declared = {"mobileNumber": {"CountryCode": "852", "SubscriberNumber": "60000001"}, "prefix": "Dr"}
    caller = await start(replace(settings, people=[{**PERSON, "eme": declared}]))
    code = await code_for(caller, settings)
    _, token = await caller.ask("/api/v1/auth/getToken", {"code": code, "grantType": "authorization_code"})
    asked = {"accessToken": token["accessToken"], "openID": token["openID"], "profileFields": ["gender"]}
    _, profile = await caller.ask("/api/v1/profiles", {**asked, "eMEFields": ["mobileNumber", "postalAddress"]})
    assert profile == {"openID": token["openID"], "gender": "M", "mobileNumber": declared["mobileNumber"]}
    assert (await caller.ask("/api/v1/profiles", {**asked, "eMEFields": ["idNo"]}))[0] == "D42200"


@pytest.mark.parametrize("mode", sorted({**SIGN_ON_ATTACKS, **WIRE_ATTACKS}))
async def test_every_attack_changes_what_is_answered(director: Caller, settings: AuthoritySettings, mode: str) -> None:
    """An attack that does nothing would let every adapter pass."""
    honest = await _whole_way(director, settings)
    assert (await director.http.post("/control", json={"mode": mode, "times": -1})).status == 200
    assert await _whole_way(director, settings) != honest


async def _whole_way(caller: Caller, settings: AuthoritySettings) -> Any:
    """Sign on and return everything that does not differ each time, as far as it comes."""
    caller.clock.now += 1.0
    _, query = await sent_back(caller, sign_on_url(settings), {"account": "taiman"})
    said: list[Any] = [query["state"]]
    try:
        said.append((await caller.get_key())["expiresIn"])
        message = {"code": query["code"], "grantType": "authorization_code"}
        code, token = await caller.ask("/api/v1/auth/getToken", message)
        said += [code, token["openID"], token["scope"], token["expiresIn"], token["tokenType"]]
        said.append(token["authTime"] - int(caller.clock.now * 1000))
        asked = {"accessToken": token["accessToken"], "openID": token["openID"], "profileFields": ["enName"]}
        said.append(await caller.ask("/api/v1/profiles", asked))
    except Exception as broken:  # noqa: BLE001 - whatever an attack breaks on the way is what it changes
        said.append(type(broken).__name__)
    return said


# Cases


async def test_a_case_sent_twice_is_taken_once(caller: Caller, receiver: Receiver) -> None:
    first, second = await caller.submit(), await caller.submit()
    assert first == second
    assert first[0] == "M00000"
    assert first[1] == {"refNo": case()["refNo"], "caseNo": "HK0000000001", "receivedAt": NOW * 1000}
    assert await caller.ask("/api/v1/cases/query", {"refNo": case()["refNo"]}) == first
    ledger = await finished(caller)
    assert ledger["arrivals"] == {case()["refNo"]: 2}
    assert list(ledger["cases"]) == [case()["refNo"]]
    assert receiver.events.qsize() == 4


async def test_the_ledger_holds_no_personal_data(caller: Caller) -> None:
    await caller.submit()
    text = json.dumps(await finished(caller), ensure_ascii=False)
    assert not [secret for secret in ("陳大文", "H12345678", "1990", "clerk-3") if secret in text]


async def test_a_case_never_taken_is_unknown(caller: Caller) -> None:
    assert await caller.ask("/api/v1/cases/query", {"refNo": "none"}) == ("D40400", {"errors": []})


async def test_everything_wrong_with_a_case_is_listed_at_once(caller: Caller) -> None:
    bad = {
        **case(),
        "refNo": "no spaces allowed",
        "serviceCode": "unknown",
        "serviceName": "",
        "submitTime": "2023-11-14 22:13",
        "channel": "MAIL",
        "originRegion": "44",
        "handlingRegion": "440100",
        "counter": 7,
        "applicant": {
            "type": "ROBOT",
            "docType": "CN_RIC",
            "docNo": "440106199001019001",
            "birthDate": "1990-13-01",
            "gender": "X",
            "mobile": "call me",
            "hkid": "A1234563",
        },
        "formFields": [{"name": "a", "value": None}, {"value": []}],
        "documents": [{"code": "M1", "name": "x", "mimeType": "pdf", "size": 0, "sha256": "00" * 32}],
        "extra": True,
    }
    code, content = await caller.ask("/api/v1/cases/submit", bad)
    assert code == "D42200"
    assert {error["field"] for error in content["errors"]} == {
        *("refNo", "serviceCode", "serviceName", "submitTime", "channel", "originRegion", "handlingRegion"),
        *("counter", "applicant.type", "applicant.name", "applicant.docNo", "applicant.birthDate"),
        *("applicant.gender", "applicant.mobile", "applicant.hkid", "formFields.0.value", "formFields.1.name"),
        *("formFields.1.value", "documents.0.mimeType", "documents.0.size", "documents.0.sha256", "extra"),
    }
    assert "440106199001019001" not in json.dumps(content)
    assert (await finished(caller))["arrivals"] == {}


async def test_an_empty_case_lacks_every_required_field(caller: Caller) -> None:
    _, content = await caller.ask("/api/v1/cases/submit", {})
    assert {error["field"] for error in content["errors"]} == set(case()) - {"counter", "officer"}


@pytest.mark.parametrize(
    ("kind", "number", "right"),
    [
        ("CN_RIC", "44010619900101900X", True),
        ("CN_RIC", "440106199013019000", False),
        ("HM_RESID", "810000199202290010", True),
        ("HM_RESID", "810000199102290010", False),
        ("HRP", "H1234567801", True),
        ("HRP", "12345678", False),
        ("PASSPORT", "E12345678", True),
        ("TW_PERMIT", "12345678", True),
        ("FPR", "944840198001010011", True),
        ("FPR", "CAN123456789012", True),
        ("FPR", "944840198001010012", False),
        ("HKID", "A1234563", False),
        ("USCC", "91440101MA5T00010Q", False),  # an organisation's number for a person
    ],
)
async def test_the_number_of_a_document_fits_its_type(caller: Caller, kind: str, number: str, right: bool) -> None:
    applicant = {**case()["applicant"], "docType": kind, "docNo": number}
    code, _ = await caller.submit(applicant=applicant)
    assert code == ("M00000" if right else "D42200")


@pytest.mark.parametrize(
    ("kind", "number", "right"),
    [
        ("USCC", "91440101MA5T00010Q", True),
        ("USCC", "91440101MA5T00010A", False),
        ("BRN", "12345678", True),
        ("HRP", "H12345678", False),
    ],
)
async def test_a_corporate_applicant_has_a_corporate_number(
    caller: Caller, kind: str, number: str, right: bool
) -> None:
    applicant = {"type": "CORPORATE", "name": "Pearl Ltd", "docType": kind, "docNo": number}
    code, _ = await caller.submit(applicant=applicant)
    assert code == ("M00000" if right else "D42200")


async def test_a_field_given_twice_and_a_document_of_another_size_are_refused(caller: Caller) -> None:
    document = {**case()["documents"][0], "size": 3}
    twice = [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]
    code, content = await caller.submit(formFields=twice, documents=[document])
    assert code == "D42200"
    assert [error["field"] for error in content["errors"]] == ["formFields", "documents.0.sha256"]


async def test_an_upload_may_be_repeated_but_must_be_what_it_says(caller: Caller) -> None:
    assert await caller.upload() == await caller.upload() == ("M00000", {"sha256": DIGEST})
    good = {"sha256": DIGEST, "mimeType": "application/pdf"}
    for data in (b64encode(b"other").decode(), "***", "", 7):
        code, content = await caller.ask("/api/v1/documents/upload", {**good, "data": data})
        assert (code, [error["field"] for error in content["errors"]]) == ("D42200", ["data"])


async def test_a_lost_answer_does_the_work(caller: Caller) -> None:
    """The gateway must ask before it sends again; the authority has the case."""
    await caller.upload()
    await misbehave(caller, "lost_answer")
    with pytest.raises(ClientError):
        await caller.ask("/api/v1/cases/submit", case())
    assert (await caller.ask("/api/v1/cases/query", {"refNo": case()["refNo"]}))[0] == "M00000"


# Events


async def test_a_case_goes_its_way_and_every_step_is_pushed(caller: Caller, receiver: Receiver) -> None:
    await caller.submit()
    events = [await receiver.next() for _ in range(4)]
    assert [event["status"] for event in events] == ["RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED"]
    assert {event["caseNo"] for event in events} == {"HK0000000001"}
    assert {event["refNo"] for event in events} == {case()["refNo"]}
    assert events[2]["result"] == {"code": "APPROVED", "text": "批准"}
    assert len({event["eventID"] for event in events}) == 4
    ledger = await finished(caller)
    assert ledger["cases"][case()["refNo"]]["state"] == "COMPLETED"
    assert all(entry["acknowledged"] for entry in ledger["events"].values())


async def test_a_name_that_says_so_leads_to_a_rejection(caller: Caller, receiver: Receiver) -> None:
    await caller.submit(applicant={**case()["applicant"], "name": "陳不予受理"})
    await finished(caller)
    assert await receiver.statuses(2) == ["RECEIVED", "REJECTED"]
    assert receiver.events.empty()


async def test_an_event_not_acknowledged_is_repeated_with_a_new_nonce(caller: Caller, receiver: Receiver) -> None:
    receiver.answers = [{"code": "D50000"}, {"code": "D50000"}]
    await caller.submit()
    events = [await receiver.next() for _ in range(6)]
    assert [event["status"] for event in events[:4]] == ["RECEIVED", "RECEIVED", "RECEIVED", "ACCEPTED"]
    assert len({event["eventID"] for event in events[:3]}) == 1
    assert len(set(receiver.nonces)) == 6


async def test_an_event_is_repeated_five_times_and_then_the_case_goes_on(caller: Caller, receiver: Receiver) -> None:
    receiver.answers = [{"code": "D50000"}] * 6
    await caller.submit()
    ledger = await finished(caller)
    assert await receiver.statuses(9) == ["RECEIVED"] * 6 + ["ACCEPTED", "DECIDED", "COMPLETED"]
    entries = [(entry["acknowledged"], entry["sent"]) for entry in ledger["events"].values()]
    assert sorted(entries) == [(False, 6), (True, 1), (True, 1), (True, 1)]


async def test_an_unreachable_gateway_does_not_stop_a_case(start: Start, settings: AuthoritySettings) -> None:
    nowhere = TestServer(web.Application())
    await nowhere.start_server()
    url = str(nowhere.make_url(""))
    await nowhere.close()
    caller = await start(replace(settings, gateway_url=url))
    await caller.submit()
    ledger = await finished(caller)
    assert ledger["cases"][case()["refNo"]]["state"] == "COMPLETED"
    assert not any(entry["acknowledged"] for entry in ledger["events"].values())


async def test_a_duplicate_callback_repeats_an_event_that_was_acknowledged(caller: Caller, receiver: Receiver) -> None:
    await misbehave(caller, "duplicate_callback")
    await caller.submit()
    await finished(caller)
    events = [await receiver.next() for _ in range(5)]
    assert [event["status"] for event in events] == ["RECEIVED", "RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED"]
    assert events[0] == events[1]
    assert len(set(receiver.nonces)) == 5


async def test_an_unfinished_case_goes_on_after_a_restart(
    start: Start, settings: AuthoritySettings, receiver: Receiver
) -> None:
    """The stop comes between sending an event and its acknowledgement: it is repeated under the same id."""
    receiver.gate.clear()
    before = await start(settings)
    await before.submit()
    first = await receiver.next()
    await before.http.close()
    receiver.gate.set()
    after = await start(settings)
    events = [await receiver.next() for _ in range(4)]
    assert events[0] == first
    assert [event["status"] for event in events] == ["RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED"]
    await finished(after)
    assert (await after.submit())[1]["caseNo"] == first["caseNo"]
    assert not after.http.app[TASKS]


# Certificates


def question(**changed: Any) -> dict[str, Any]:
    return {
        "consentID": "CNS-1",
        "certType": "HK-DRIVING",
        "certTypeName": "香港正式駕駛執照",
        "holderName": "chan tai man",
        "docType": "HRP",
        "docNo": "H1234567802",
        "purpose": "換領內地駕駛證",
        "requester": {
            "orgName": "廣州市公安局",
            "userName": "clerk-3",
            "itemName": "換證",
            "itemCode": ITEM,
            "caseNo": "GZ-1",
        },
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "result"),
    [
        ({}, "MATCH"),
        ({"certType": "elsewhere"}, "MATCH"),
        ({"holderName": "CHAN, Siu Man"}, "NO_MATCH"),
        ({"docNo": "H87654321"}, "NO_MATCH"),
        ({"docType": "PASSPORT", "docNo": "H12345678"}, "NO_MATCH"),
        ({"certType": "HK-MEDICAL", "certTypeName": "醫生執照"}, "TYPE_UNKNOWN"),
        ({"certType": "GD", "certTypeName": ""}, "TYPE_UNKNOWN"),
        ({"consentID": "none"}, "NO_CONSENT"),
        ({"consentID": "none", "certType": "HK-MEDICAL"}, "NO_CONSENT"),
    ],
)
async def test_a_certificate_matches_only_with_consent_type_name_and_number(
    caller: Caller, changed: dict[str, Any], result: str
) -> None:
    """The answer holds the result and its time, never a value of the certificate."""
    answer = await caller.ask("/api/v1/certificates/match", question(**changed))
    assert answer == ("M00000", {"result": result, "checkedAt": NOW * 1000})


@pytest.mark.parametrize("row", [{"state": "REVOKED"}, {"valid_to": "2023-11-14"}, {"valid_from": "2023-11-16"}])
async def test_a_certificate_that_is_not_in_force_does_not_match(
    start: Start, settings: AuthoritySettings, row: dict[str, str]
) -> None:
    """The clock of these tests shows 15 November 2023 in Hong Kong, and still the 14th in UTC."""
    caller = await start(replace(settings, certificates=[{**CERTIFICATE, **row}]))
    _, answer = await caller.ask("/api/v1/certificates/match", question())
    assert answer["result"] == "NO_MATCH"


async def test_a_certificate_without_an_end_matches(start: Start, settings: AuthoritySettings) -> None:
    endless = {name: value for name, value in CERTIFICATE.items() if name != "valid_to"}
    caller = await start(replace(settings, certificates=[endless]))
    _, answer = await caller.ask("/api/v1/certificates/match", question())
    assert answer["result"] == "MATCH"


async def test_a_question_must_name_purpose_requester_and_holder(caller: Caller) -> None:
    bad = question(purpose="x" * 201, holderName="", docNo="", requester={"orgName": ""})
    code, content = await caller.ask("/api/v1/certificates/match", bad)
    assert code == "D42200"
    assert {error["field"] for error in content["errors"]} == {
        *("purpose", "holderName", "docNo", "requester.orgName", "requester.userName"),
        *("requester.itemName", "requester.itemCode", "requester.caseNo"),
    }


# Documents of a decision


async def test_documents_of_a_decision_are_handed_out_in_pieces_by_the_consent_of_the_case(caller: Caller) -> None:
    await caller.submit(consentRef="CNS-1")
    await finished(caller)
    number = {"caseNo": "HK0000000001"}
    code, content = await caller.ask("/api/v1/cases/documents", number)
    [row] = content["documents"]
    assert (code, content["caseNo"]) == ("M00000", number["caseNo"])
    half = row["size"] // 2
    answers = [
        await caller.ask("/api/v1/cases/documents/download", {**number, "code": row["code"], "offset": offset})
        for offset in (0, half)
    ]
    whole, rest = (b64decode(content["data"]) for _, content in answers)
    assert (len(whole), hashlib.sha256(whole).hexdigest()) == (row["size"], row["sha256"])
    assert whole[half:] == rest
    await misbehave(caller, "result_gone")
    gone = await caller.ask("/api/v1/cases/documents/download", {**number, "code": row["code"], "offset": 0})
    assert gone[0] == "D41000"


async def test_what_is_not_decided_or_has_no_consent_does_not_leave(caller: Caller) -> None:
    await misbehave(caller, "course_supplement")
    await caller.submit(consentRef="CNS-1")
    await finished(caller)
    number = {"caseNo": "HK0000000001"}
    assert (await caller.ask("/api/v1/cases/documents", number))[1]["documents"] == []
    piece = {**number, "code": "JD01", "offset": 0}
    assert (await caller.ask("/api/v1/cases/documents/download", piece))[0] == "D40400"
    assert (await caller.ask("/api/v1/cases/documents", {"caseNo": "HK9"}))[0] == "D40400"
    await caller.submit(refNo="alone")
    await finished(caller)
    assert (await caller.ask("/api/v1/cases/documents", {"caseNo": "HK0000000002"}))[0] == "D42200"


# Courses and messages about a case


@pytest.mark.parametrize(
    ("order", "statuses"),
    [
        ("course_supplement_expired", "RECEIVED SUPPLEMENT_REQUIRED SUPPLEMENT_OVERDUE RETURNED"),
        ("course_tolerance_breached", "RECEIVED ACCEPTED_PENDING_DOCUMENTS DOCUMENTS_NOT_PROVIDED RETURNED"),
        ("course_special", "RECEIVED ACCEPTED SUSPENDED RESUMED DECIDED COMPLETED"),
        ("course_extended", "RECEIVED ACCEPTED EXTENDED DECIDED COMPLETED"),
        ("course_refused", "RECEIVED REJECTED"),
        ("course_not_within_power", "RECEIVED OUT_OF_JURISDICTION"),
        ("course_returned", "RECEIVED RETURNED"),
        ("course_void", "RECEIVED ACCEPTED DECIDED COMPLETED VOIDED"),
        ("course_delivered", "RECEIVED ACCEPTED DECIDED COMPLETED DELIVERED"),
    ],
)
async def test_a_case_takes_the_course_that_was_ordered(
    caller: Caller, receiver: Receiver, order: str, statuses: str
) -> None:
    await misbehave(caller, order)
    await caller.submit()
    await finished(caller)
    assert await receiver.statuses(receiver.events.qsize()) == statuses.split()


MESSAGES: dict[str, dict[str, Any]] = {
    "supplement": {"submitTime": "2023-11-14T22:13:20+08:00", "documents": case()["documents"], "complete": True},
    "withdraw": {"requestTime": "2023-11-14T22:13:20+08:00", "reason": "陳大文不再需要"},
    "complain": {"madeTime": "2023-11-14T22:13:20+08:00", "text": "陳大文等了很久", "contact": "5550 0001"},
}


async def tell(caller: Caller, kind: str, **changed: Any) -> tuple[str, Any]:
    """Say something about the first case."""
    numbers = {"messageID": "M-1", "refNo": case()["refNo"], "caseNo": "HK0000000001"}
    return await caller.ask(f"/api/v1/cases/{kind}", {**numbers, **MESSAGES[kind], **changed})


async def at_notice(caller: Caller, receiver: Receiver, order: str = "course_supplement") -> dict[str, Any]:
    """Submit a case that then waits for its applicant; return its last event."""
    await misbehave(caller, order)
    await caller.submit()
    await finished(caller)
    return [await receiver.next() for _ in range(2)][-1]


async def test_a_notice_names_what_is_missing_and_the_case_waits_for_it(caller: Caller, receiver: Receiver) -> None:
    """A part of it is kept and moves nothing; all of it is acted on once, however often it comes."""
    notice = await at_notice(caller, receiver)
    assert [wanted["code"] for wanted in notice["documentsRequired"]] == ["M1"]
    assert notice["dueOn"] == "2023-12-06"
    assert (await tell(caller, "supplement", messageID="M-0", complete=False))[0] == "M00000"
    first = await tell(caller, "supplement")
    assert first == ("M00000", {"messageID": "M-1", "receivedAt": NOW * 1000})
    assert await tell(caller, "supplement") == first
    ledger = await finished(caller)
    assert await receiver.statuses(4) == ["SUPPLEMENT_RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED"]
    assert receiver.events.empty()
    assert ledger["arrivals"] == {case()["refNo"]: 1, "M-0": 1, "M-1": 2}
    assert await caller.ask("/api/v1/cases/messages/query", {"messageID": "M-1"}) == first
    assert (await caller.ask("/api/v1/cases/messages/query", {"messageID": "M-2"}))[0] == "D40400"
    assert (await tell(caller, "supplement", messageID="M-2"))[0] == "D42200"


async def test_what_was_deferred_may_follow_and_then_the_case_is_accepted(caller: Caller, receiver: Receiver) -> None:
    tolerant = await at_notice(caller, receiver, "course_tolerance")
    assert tolerant["status"] == "ACCEPTED_PENDING_DOCUMENTS"
    await tell(caller, "supplement")
    await finished(caller)
    assert await receiver.statuses(3) == ["ACCEPTED", "DECIDED", "COMPLETED"]


async def test_a_case_is_withdrawn_until_it_is_decided(caller: Caller, receiver: Receiver) -> None:
    await at_notice(caller, receiver)
    for _ in range(2):
        assert (await tell(caller, "withdraw"))[0] == "M00000"
    await finished(caller)
    assert await receiver.statuses(1) == ["WITHDRAWN"]
    assert receiver.events.empty()
    await caller.submit(refNo="decided")
    await finished(caller)
    code, content = await tell(caller, "withdraw", messageID="M-2", refNo="decided", caseNo="HK0000000002")
    assert (code, [error["field"] for error in content["errors"]]) == ("D42200", ["refNo"])


async def test_a_message_belongs_to_one_case_and_leaves_nobodys_words(caller: Caller) -> None:
    await caller.submit()
    for wrong in ({"refNo": "another"}, {"caseNo": "HK9999999999"}):
        assert (await tell(caller, "complain", **wrong))[0] == "D42200"
    assert (await tell(caller, "complain"))[0] == "M00000"
    text = json.dumps((await finished(caller))["messages"], ensure_ascii=False)
    assert "M-1" in text
    assert not [words for words in ("陳大文", "5550") if words in text]


async def test_everything_wrong_with_a_message_is_listed_at_once(caller: Caller) -> None:
    await caller.submit()
    wrong = {"messageID": "no spaces", "submitTime": "yesterday", "complete": "yes", "extra": 1}
    code, content = await tell(
        caller, "supplement", **wrong, documents=[{**case()["documents"][0], "sha256": "0" * 64}]
    )
    assert code == "D42200"
    assert {error["field"] for error in content["errors"]} == {*wrong, "documents.0.sha256"}


async def test_a_message_that_was_taken_is_acted_on_after_a_restart(
    start: Start, settings: AuthoritySettings, receiver: Receiver
) -> None:
    first = await start(settings)
    await at_notice(first, receiver)
    await first.http.close()
    slow = await start(replace(settings, pace=3600))
    assert (await tell(slow, "withdraw"))[0] == "M00000"
    await slow.http.close()
    await start(settings)
    assert await receiver.statuses(1) == ["WITHDRAWN"]
