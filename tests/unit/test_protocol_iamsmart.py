"""The iAM Smart profile against the vectors of adapters/hongkong/README.md and a scripted far side."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from adapters.hongkong.adapter import open_adapter
from gateway.errors import (
    ForgedCallback,
    InvalidRequest,
    NotFound,
    RegionRefused,
    RegionUncertain,
    RegionUnreachable,
    ReplayedCallback,
    StartRefused,
)
from gateway.ports import Adapter, Callback, CallbackReading, CaseMessage, Material, ResultDocument
from gateway.protocols.iamsmart import header_signature, open_content, seal_content
from gateway.protocols.iamsmart_results import PIECE
from tests.unit.protocol_support import NOW, FarSide, Seen, far_side, kit, material, order

CLIENT = "0123456789abcdef0123456789abcdef"
SECRET = b"fedcba9876543210fedcba9876543210"
SETTINGS = {"client_id": CLIENT, "profile_fields": ["enName", "chName"]}
STAMP = "1700000000000"
NONCE = "00112233445566778899aabbccddeeff0011"
PATH = "/callbacks/hongkong/events"
RECEIPT = {"refNo": "s-1", "caseNo": "HK0000000001", "receivedAt": 1_700_000_000_000}
CASE = {"refNo": "s-1", "applicant": {"name": "CHAN, Tai Man"}}


@cache
def kek() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def pem(key: Any) -> bytes:
    written: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return written


def secrets() -> dict[str, bytes]:
    return {"client_secret": SECRET, "kek_private_key": pem(kek())}


@dataclass(slots=True)
class Authority:
    """Hands out content keys and answers every other path with what `answers` holds for it, sealed."""

    answers: Mapping[str, tuple[str, Any]]
    lasts: int = 3_600_000
    keys: list[bytes] = field(default_factory=list)
    forgets: int = 0

    def __call__(self, seen: Seen) -> web.Response:
        if seen.path == "/api/v1/security/getKey":
            self.keys.append(os.urandom(32))
            wrapped = base64.b64encode(kek().public_key().encrypt(self.keys[-1], PKCS1v15())).decode()
            return self.says("M00000", {"secretKey": wrapped, "issueAt": int(STAMP), "expiresIn": self.lasts})
        if self.forgets:
            self.forgets -= 1
            return self.says("D30002", None)
        code, content = self.answers[seen.path]
        sealed = seal_content(self.keys[-1], orjson.dumps(content), os.urandom(12))
        return self.says(code, sealed if content is not None else None)

    def says(self, code: str, content: Any) -> web.Response:
        body = {"txID": "tx", "code": code, "message": "about CHAN, Tai Man", "content": content}
        return web.Response(body=orjson.dumps(body))

    def plain(self, seen: Seen) -> Any:
        return orjson.loads(open_content(self.keys[-1], orjson.loads(seen.body)["content"]))


@asynccontextmanager
async def hongkong(answer: Any) -> AsyncIterator[tuple[Adapter, FarSide]]:
    async with (
        far_side(answer) as (far, base),
        kit(base, region="hongkong", settings=SETTINGS, secrets=secrets()) as lent,
    ):
        yield open_adapter(lent), far


async def submit(answer: Any) -> Any:
    async with hongkong(answer) as (adapter, _):
        assert adapter.submissions is not None
        return await adapter.submissions.submit(order(CASE))


def taking(code: str = "M00000", content: Any = RECEIPT, **options: Any) -> Authority:
    return Authority({"/api/v1/cases/submit": (code, content), "/api/v1/cases/query": (code, content)}, **options)


# --- signature and content ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (b"", "BKCatrpb/rvvd5ILei2veiV8RlqX751EHkoF83rHMcQ="),
        (b'{"content":"AAAADA=="}', "RbfVGDYgFr4/AHLgOgKsJPscly7Niriv9ekN3GLbxpw="),
    ],
)
def test_the_signature_agrees_with_the_vectors(body: bytes, signature: str) -> None:
    assert header_signature(SECRET, CLIENT, STAMP, NONCE, body) == signature


def test_the_content_encryption_agrees_with_the_vector() -> None:
    plain = b'{"code":"abc","grantType":"authorization_code"}'
    sealed = (
        "AAAADAABAgMEBQYHCAkKCzwgtXShgOAhryD16JPFWgrxt+lApAIvGRpdx+RoHWjdc3nUnduoffYrxxCJ7aVVYia7oHXt3O0qX8X3gawVHw=="
    )
    assert seal_content(bytes(range(32)), plain, bytes(range(12))) == sealed
    assert open_content(bytes(range(32)), sealed) == plain


@pytest.mark.parametrize("content", [None, 7, "", "AAAA", "é", "!!!!", "AAAADAAB" * 8])
def test_content_that_does_not_open_is_a_value_error(content: object) -> None:
    with pytest.raises(ValueError, match=r"base64|form|decrypt"):
        open_content(bytes(32), content)


async def test_a_message_is_sealed_and_signed_over_its_exact_bytes() -> None:
    authority = taking()
    async with hongkong(authority) as (adapter, far):
        assert adapter.submissions is not None
        assert await adapter.submissions.submit(order(CASE)) == RECEIPT
    key_request, case = far.seen
    assert key_request.body == b""
    for seen in far.seen:
        expected = header_signature(SECRET, CLIENT, seen.headers["timestamp"], seen.headers["nonce"], seen.body)
        assert seen.headers["signature"] == quote(expected, safe="")
        assert len(seen.headers["nonce"]) == 36
    assert authority.plain(case) == CASE


# --- content key -------------------------------------------------------------------------------------------------


async def test_the_content_key_is_fetched_once_for_many_at_a_time() -> None:
    authority = taking()
    async with hongkong(authority) as (adapter, _):
        assert adapter.submissions is not None
        await asyncio.gather(*(adapter.submissions.ask("s-1") for _ in range(8)))
    assert len(authority.keys) == 1


async def test_a_content_key_near_its_end_is_not_used_again() -> None:
    authority = taking(lasts=30_000)
    async with hongkong(authority) as (adapter, _):
        assert adapter.submissions is not None
        await adapter.submissions.ask("s-1")
        await adapter.submissions.ask("s-1")
    assert len(authority.keys) == 2


async def test_a_forgotten_content_key_is_replaced_and_the_message_repeated_once() -> None:
    authority = taking(forgets=1)
    assert await submit(authority) == RECEIPT
    assert len(authority.keys) == 2


async def test_a_content_key_forgotten_twice_means_that_nothing_was_taken() -> None:
    authority = taking(forgets=5)
    with pytest.raises(RegionUnreachable):
        await submit(authority)
    assert authority.forgets == 3


@pytest.mark.parametrize(
    "content",
    [None, {}, {"secretKey": "AAAA", "expiresIn": 1}, {"secretKey": "", "expiresIn": 1}, {"secretKey": 7}],
)
async def test_without_a_usable_content_key_nothing_is_sent(content: Any) -> None:
    body = orjson.dumps({"code": "M00000", "content": content})
    with pytest.raises(RegionUnreachable):
        await submit(lambda _: web.Response(body=body))


@pytest.mark.parametrize("lasts", [0, -1, 10**15])
async def test_a_content_key_without_a_sensible_term_is_not_used(lasts: int) -> None:
    with pytest.raises(RegionUnreachable):
        await submit(taking(lasts=lasts))


# --- outcomes ----------------------------------------------------------------------------------------------------


async def test_a_refusal_names_the_fields_but_not_the_person() -> None:
    errors = {"errors": [{"field": "applicant.name", "reason": "CHAN, Tai Man is not known"}]}
    with pytest.raises(RegionRefused) as caught:
        await submit(taking("D42200", errors))
    assert caught.value.public == "hongkong refused the message: about ***"
    assert [(p.field, p.reason) for p in caught.value.problems] == [("applicant.name", "*** is not known")]


@pytest.mark.parametrize("content", [None, [1], {}])
async def test_a_refusal_stays_one_when_its_fields_cannot_be_read(content: Any) -> None:
    with pytest.raises(RegionRefused) as caught:
        await submit(taking("D42200", content))
    assert caught.value.problems == ()


@pytest.mark.parametrize("code", ["D20006", "D30004"])
async def test_a_message_that_the_authority_could_not_read_was_not_taken(code: str) -> None:
    with pytest.raises(RegionUnreachable, match="an operator must look"):
        await submit(taking(code, None))


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("D50000", None),
        ("D99999", None),
        ("D40400", None),
        ("M00000", None),
        ("M00000", [1]),
        ("M00000", {**RECEIPT, "refNo": "s-2"}),
    ],
)
async def test_an_unexpected_answer_leaves_the_outcome_unknown(code: str, content: Any) -> None:
    with pytest.raises(RegionUncertain):
        await submit(taking(code, content))


@pytest.mark.parametrize(("status", "body"), [(500, b""), (200, b"\xff"), (200, b"[]"), (302, b"{}")])
async def test_an_answer_out_of_form_leaves_the_outcome_unknown(status: int, body: bytes) -> None:
    authority = taking()

    def answer(seen: Seen) -> web.Response:
        return authority(seen) if seen.path.endswith("getKey") else web.Response(status=status, body=body)

    with pytest.raises(RegionUncertain):
        await submit(answer)


async def test_an_answer_under_another_key_leaves_the_outcome_unknown() -> None:
    authority = taking()

    def answer(seen: Seen) -> web.Response:
        if seen.path.endswith("submit"):
            authority.keys.append(bytes(32))
        return authority(seen)

    with pytest.raises(RegionUncertain):
        await submit(answer)


async def test_asking_finds_the_receipt_or_a_certain_none() -> None:
    for authority, expected in ((taking(), RECEIPT), (taking("D40400", None), None)):
        async with hongkong(authority) as (adapter, far):
            assert adapter.submissions is not None
            assert await adapter.submissions.ask("s-1") == expected
            assert authority.plain(far.seen[-1]) == {"refNo": "s-1"}


async def test_documents_are_uploaded_before_the_case() -> None:
    file = material()
    upload = {"/api/v1/documents/upload": ("M00000", {"sha256": file.sha256})}
    authority = Authority({**upload, "/api/v1/cases/submit": ("M00000", RECEIPT)})
    async with hongkong(authority) as (adapter, far):
        assert adapter.submissions is not None
        await adapter.submissions.submit(order(CASE, file))
    assert [seen.path.rsplit("/", 1)[1] for seen in far.seen] == ["getKey", "upload", "submit"]
    sent = authority.plain(far.seen[1])
    assert (sent["sha256"], sent["mimeType"]) == (file.sha256, "application/pdf")
    assert base64.b64decode(sent["data"]) == b"%PDF-1.7 synthetic"


async def test_a_failed_upload_means_that_the_case_was_not_taken() -> None:
    authority = Authority({"/api/v1/documents/upload": ("D50000", None)})
    async with hongkong(authority) as (adapter, _):
        assert adapter.submissions is not None
        with pytest.raises(RegionUnreachable):
            await adapter.submissions.submit(order(CASE, material()))


# --- documents of a decision ---------------------------------------------------------------------------------------

NUMBER = "HK0000000001"
DECISION = b"%PDF-1.4 decision" * 64_000
DIGEST = hashlib.sha256(DECISION).hexdigest()
LISTED: dict[str, Any] = {
    "code": "JD01", "name": "決定書.pdf", "mimeType": "application/pdf", "size": len(DECISION), "sha256": DIGEST,
}  # fmt: skip
DOCUMENT = ResultDocument("JD01", "決定書.pdf", "application/pdf", len(DECISION), DIGEST)
LIST, FETCH = "/api/v1/cases/documents", "/api/v1/cases/documents/download"


async def listing(code: str, content: Any) -> Any:
    async with hongkong(Authority({LIST: (code, content)})) as (adapter, _):
        assert adapter.results is not None
        return await adapter.results.list(NUMBER)


class Cabinet(Authority):
    """Hands a document out in pieces; `offsets` are those that it was asked for, `change` what it says instead."""

    def __init__(self, content: bytes = DECISION, **change: Any) -> None:
        super().__init__({})
        self.content, self.change = content, change
        self.offsets: list[int] = []

    def __call__(self, seen: Seen) -> web.Response:
        if seen.path == FETCH:
            asked = self.plain(seen)
            self.offsets.append(asked["offset"])
            data = base64.b64encode(self.content[asked["offset"] : asked["offset"] + PIECE]).decode()
            self.answers = {FETCH: ("M00000", {**asked, "sha256": DIGEST, "data": data, **self.change})}
        return super().__call__(seen)


async def fetched(authority: Any) -> bytes:
    async with hongkong(authority) as (adapter, _):
        assert adapter.results is not None
        return b"".join([piece async for piece in await adapter.results.open(NUMBER, DOCUMENT)])


async def test_documents_are_listed_with_the_digest_that_they_must_have() -> None:
    assert await listing("M00000", {"caseNo": NUMBER, "documents": [LISTED]}) == [DOCUMENT]
    assert await listing("M00000", {"caseNo": NUMBER, "documents": []}) == []


@pytest.mark.parametrize(
    "change",
    [{"code": "../x"}, {"name": None}, {"size": "5"}, {"size": 0}, {"size": True}, {"sha256": "zz"}, {"mimeType": 7}],
)
async def test_a_list_of_documents_that_cannot_be_read_is_no_list(change: Mapping[str, Any]) -> None:
    with pytest.raises(RegionUncertain):
        await listing("M00000", {"caseNo": NUMBER, "documents": [{**LISTED, **change}]})


@pytest.mark.parametrize("content", [{"caseNo": "HK2", "documents": []}, {"caseNo": NUMBER}, {"documents": []}])
async def test_a_list_of_another_case_or_of_nothing_is_no_list(content: Any) -> None:
    with pytest.raises(RegionUncertain):
        await listing("M00000", content)


@pytest.mark.parametrize("code", ["D40400", "D42200"])
async def test_a_case_that_is_not_there_or_may_not_leave_is_a_definite_no(code: str) -> None:
    with pytest.raises(RegionRefused):
        await listing(code, None)


async def test_a_document_is_put_together_from_its_pieces() -> None:
    """An answer is sealed as a whole and held as a whole: a document that is larger comes in several."""
    cabinet = Cabinet()
    assert await fetched(cabinet) == DECISION
    assert cabinet.offsets == [0, PIECE, 2 * PIECE]


@pytest.mark.parametrize(
    "cabinet",
    [
        pytest.param(Cabinet(offset=1), id="another place"),
        pytest.param(Cabinet(code="JD02"), id="another document"),
        pytest.param(Cabinet(caseNo="HK2"), id="another case"),
        pytest.param(Cabinet(sha256="0" * 64), id="another digest"),
        pytest.param(Cabinet(data=""), id="nothing"),
        pytest.param(Cabinet(data=7), id="no text"),
        pytest.param(Cabinet(data="!!"), id="no base64"),
        pytest.param(Cabinet(DECISION[:-1]), id="too short"),
        pytest.param(Cabinet(DECISION + b"X"), id="too long"),
        pytest.param(Authority({FETCH: ("D50000", None)}), id="a fault"),
    ],
)
async def test_what_is_not_the_next_piece_of_the_listed_document_is_not_handed_on(cabinet: Authority) -> None:
    with pytest.raises(RegionUncertain):
        await fetched(cabinet)


@pytest.mark.parametrize(("code", "reason"), [("D40400", "no such"), ("D41000", "no longer")])
async def test_a_document_that_is_not_there_or_no_longer_is_a_definite_no(code: str, reason: str) -> None:
    with pytest.raises(RegionRefused, match=reason):
        await fetched(Authority({FETCH: (code, None)}))


# --- certificates ------------------------------------------------------------------------------------------------


async def test_a_match_gives_the_regions_own_word_and_no_value() -> None:
    authority = Authority({"/api/v1/certificates/match": ("M00000", {"result": "NO_MATCH", "checkedAt": 1})})
    async with hongkong(authority) as (adapter, _):
        assert adapter.certificates is not None
        reply = await adapter.certificates.lookup({"holderName": "CHAN, Tai Man"})
    assert (reply.status, reply.message, list(reply.certificates)) == ("NO_MATCH", "", [])


async def test_a_match_without_a_result_is_an_error_and_never_no_match() -> None:
    async with hongkong(Authority({"/api/v1/certificates/match": ("M00000", {})})) as (adapter, _):
        assert adapter.certificates is not None
        with pytest.raises(RegionUncertain):
            await adapter.certificates.lookup({})


# --- callbacks ---------------------------------------------------------------------------------------------------


def event_body(plain: bytes = b'{"eventID":"e1"}', **change: Any) -> bytes:
    key = os.urandom(32)
    wrapped = base64.b64encode(kek().public_key().encrypt(key, PKCS1v15())).decode()
    return orjson.dumps({"content": seal_content(key, plain, os.urandom(12)), "secretKey": wrapped, **change})


def signed(
    body: bytes, *, path: str = PATH, method: str = "POST", stamp: str = STAMP, encoded: bool = True
) -> Callback:
    signature = header_signature(SECRET, CLIENT, stamp, NONCE, body)
    headers = {
        "clientid": CLIENT,
        "signaturemethod": "HmacSHA256",
        "timestamp": stamp,
        "nonce": NONCE,
        "signature": quote(signature, safe="") if encoded else signature,
    }
    return Callback(method, path, headers, body, NOW)


async def read(callback: Callback) -> CallbackReading:
    async with kit("http://far.test", region="hongkong", settings=SETTINGS, secrets=secrets()) as lent:
        callbacks = open_adapter(lent).callbacks
        assert callbacks is not None
        return await callbacks.read(callback)


@pytest.mark.parametrize("encoded", [True, False])
async def test_a_signed_event_is_read_whether_its_signature_is_url_encoded_or_plain(encoded: bool) -> None:
    reading = await read(signed(event_body(), encoded=encoded))
    assert reading.events == ({"eventID": "e1"},)
    assert reading.answer == {"code": "M00000"}
    assert reading.nonce == NONCE
    assert reading.nonce_expires > NOW + timedelta(seconds=300)


@pytest.mark.parametrize(
    "change",
    [
        {"clientid": "f" * 32},
        {"signaturemethod": "none"},
        {"nonce": "short"},
        {"nonce": "f" * 36},
        {"timestamp": "1700000000001"},
        {"signature": "AAAA"},
        {"signature": ""},
        {"signature": "\udcff"},
        {"signature": "%ff%fe"},
    ],
)
async def test_a_changed_header_makes_a_forged_callback(change: Mapping[str, str]) -> None:
    genuine = signed(event_body())
    with pytest.raises(ForgedCallback):
        await read(replace(genuine, headers={**genuine.headers, **change}))


async def test_an_altered_body_makes_a_forged_callback() -> None:
    with pytest.raises(ForgedCallback):
        await read(replace(signed(event_body()), body=event_body()))


async def test_another_path_takes_no_callbacks() -> None:
    with pytest.raises(NotFound):
        await read(signed(event_body(), path="/callbacks/hongkong/other"))


@pytest.mark.parametrize("away", [-301, 301])
async def test_a_callback_out_of_time_is_a_replay(away: int) -> None:
    with pytest.raises(ReplayedCallback):
        await read(replace(signed(event_body()), received_at=NOW + timedelta(seconds=away)))


@pytest.mark.parametrize("stamp", ["soon", "9" * 15, "-1"])
async def test_a_time_stamp_that_is_none_makes_a_forged_callback(stamp: str) -> None:
    with pytest.raises(ForgedCallback, match="timestamp"):
        await read(signed(event_body(), stamp=stamp))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        event_body(secretKey="AAAA"),
        event_body(secretKey=None),
        event_body(content="AAAA"),
        event_body(b"[]"),
        event_body(b"\xff"),
    ],
    ids=map(str, range(8)),  # each is encrypted anew
)
async def test_a_verified_callback_that_cannot_be_read_says_so(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the signature is right"):
        await read(signed(body))


async def test_a_verified_callback_must_be_a_post() -> None:
    with pytest.raises(InvalidRequest):
        await read(signed(event_body(), method="PUT"))


# --- opening -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["not a key", "elliptic", "short"])
async def test_a_key_that_is_no_rsa_key_of_2048_bits_stops_the_start(key: str) -> None:
    made = {
        "not a key": b"not a key",
        "elliptic": pem(ec.generate_private_key(ec.SECP256R1())),
        "short": pem(generate_private_key(65537, 1024)),  # noqa: S505 - a weak key is what must be refused
    }[key]
    wrong = {"client_secret": SECRET, "kek_private_key": made}
    async with kit("http://far.test", region="hongkong", settings=SETTINGS, secrets=wrong) as lent:
        with pytest.raises(StartRefused) as caught:
            open_adapter(lent)
    assert [problem.field for problem in caught.value.problems] == ["regions.hongkong.secrets.kek_private_key"]


# --- messages about a case ---------------------------------------------------------------------------------------

WISH = {"messageID": "m-1", "reason": "CHAN, Tai Man changed his mind"}
QUERY = "/api/v1/cases/messages/query"
ADDRESSES = {"supplement": "supplement", "withdrawal": "withdraw", "complaint": "complain"}


def hearing(code: str = "M00000", content: Any = None) -> Authority:
    said = {"messageID": "m-1"} if content is None else content
    paths = [*(f"/api/v1/cases/{name}" for name in ADDRESSES.values()), QUERY]
    return Authority(dict.fromkeys(paths, (code, said)))


async def tell(authority: Any, kind: str = "withdrawal", *materials: Material) -> FarSide:
    async with hongkong(authority) as (adapter, far):
        assert adapter.messages is not None
        await adapter.messages.send(CaseMessage("m-1", kind, "s-1", "HK0000000001", WISH, materials))
        return far


async def holds(authority: Authority) -> bool:
    async with hongkong(authority) as (adapter, _):
        assert adapter.messages is not None
        return await adapter.messages.holds(CaseMessage("m-1", "withdrawal", "s-1", "HK0000000001", WISH))


@pytest.mark.parametrize("kind", sorted(ADDRESSES))
async def test_each_kind_of_message_has_an_address(kind: str) -> None:
    authority = hearing()
    far = await tell(authority, kind)
    assert far.seen[-1].path == f"/api/v1/cases/{ADDRESSES[kind]}"
    assert authority.plain(far.seen[-1]) == WISH


async def test_a_rating_does_not_go_to_hong_kong() -> None:
    async with hongkong(hearing()) as (adapter, _):
        assert adapter.messages is not None
        assert adapter.messages.kinds == ADDRESSES.keys()


async def test_a_supplement_whose_file_is_not_taken_was_certainly_not_taken() -> None:
    authority = Authority({"/api/v1/documents/upload": ("D50000", None)})
    with pytest.raises(RegionUnreachable):
        await tell(authority, "supplement", material())


async def test_a_message_is_not_here_only_by_the_regions_code() -> None:
    assert await holds(hearing())
    assert not await holds(hearing("D40400", {}))
    for code in ("D50000", "D40004"):
        with pytest.raises(RegionUncertain):
            await holds(hearing(code))


async def test_the_receipt_of_another_message_leaves_the_outcome_unknown() -> None:
    for content in ({"messageID": "m-2"}, {}):
        with pytest.raises(RegionUncertain):
            await tell(hearing(content=content))
        with pytest.raises(RegionUncertain):
            await holds(hearing(content=content))


async def test_the_refusal_of_a_message_does_not_repeat_its_words() -> None:
    errors = {"errors": [{"field": "refNo", "reason": f"{WISH['reason']}: too late"}]}
    with pytest.raises(RegionRefused) as caught:
        await tell(hearing("D42200", errors))
    assert [problem.reason for problem in caught.value.problems] == ["***: too late"]
