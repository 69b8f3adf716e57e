"""One certificate that is named, over the signed REST exchange, against a far side written out from its page."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import ForgedCallback, NotFound, RegionRefused, RegionUncertain, ReplayedCallback
from gateway.ports import Callback, CertificateFile, CertificateReply, IssuedCertificates
from gateway.protocols.wire import as_object
from tests.unit.protocol_support import NOW
from tests.unit.test_protocol_signed_rest import HEADER, Exchange, claims_of, key, shenzhen

ASKED = {"certificateIdentifier": "1.2.156.3005.2.X", "useCause": "核验湾区示例有限公司"}
REPORT = {"disputeNo": "DSP-1", "disputeContent": "名称有误"}
FILE = b"PK\x03\x04 a file that is sealed" * 9000
PLACE = "/v1/certificates"


def telling(operation: str, document: Any, status: int = 200) -> Exchange:
    return Exchange({f"{PLACE}/{operation}": (status, document)})


def issued(adapter: Any) -> IssuedCertificates:
    assert adapter.issued is not None
    offered: IssuedCertificates = adapter.issued
    return offered


@pytest.mark.parametrize(("port", "operation"), [("data", "data"), ("code", "shown")])
async def test_a_named_certificate_is_asked_for_in_a_signed_message(port: str, operation: str) -> None:
    exchange = telling(operation, {"status": "00", "message": "ok", "certificates": [{"certificateName": "x"}]})
    async with shenzhen(exchange) as adapter:
        reply = await getattr(issued(adapter), port)(ASKED)
    assert (reply.status, list(reply.certificates)) == ("00", [{"certificateName": "x"}])
    (sent,) = exchange.seen
    assert orjson.loads(sent.body) == {"data": ASKED}
    assert claims_of(sent.headers[HEADER], "signing")["sha256"] == hashlib.sha256(sent.body).hexdigest()


@pytest.mark.parametrize(
    "told",
    [
        {}, {"status": 0}, {"status": "00", "certificates": {}}, {"status": "00", "certificates": ["x"]},
        {"status": "00", "certificates": [{}, {}]},
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_neither_a_certificate_nor_none(told: dict[str, Any]) -> None:
    """One name stands for one certificate: two of them are an answer that nobody can act on."""
    async with shenzhen(telling("data", told)) as adapter:
        with pytest.raises(RegionUncertain):
            await issued(adapter).data(ASKED)


async def test_what_a_reply_quotes_of_the_question_is_masked() -> None:
    async with shenzhen(
        telling("data", {"status": "12", "message": "useCause 核验湾区示例有限公司 too short"})
    ) as adapter:
        assert (await issued(adapter).data(ASKED)).message == "useCause *** too short"


# --- files ---------------------------------------------------------------------------------------------------------


async def fetched(exchange: Exchange) -> tuple[CertificateFile, bytes]:
    async with shenzhen(exchange) as adapter:
        file = await issued(adapter).file(ASKED)
        assert isinstance(file, CertificateFile)
        return file, b"".join([piece async for piece in file.body])


async def test_a_file_comes_under_the_digest_that_was_signed_before_it() -> None:
    """Nobody has said the digest before: the core holds what comes against what the head was signed for."""
    file, body = await fetched(telling("file", FILE))
    assert (file.size, file.sha256, body) == (len(FILE), hashlib.sha256(FILE).hexdigest(), FILE)


async def test_other_bytes_than_were_signed_do_not_fit_the_digest() -> None:
    exchange = telling("file", FILE)
    exchange.alter = lambda body: body[:-1] + b"!"
    file, body = await fetched(exchange)
    assert hashlib.sha256(body).hexdigest() != file.sha256


@pytest.mark.parametrize("change", [{"rid": "another"}, {"iat": 0}, {"status": 201}, {"sha256": 7}])
async def test_a_file_whose_head_is_not_signed_for_this_request_is_not_even_begun(change: dict[str, Any]) -> None:
    exchange = telling("file", FILE)
    exchange.tamper = lambda claims: {**claims, **change}
    async with shenzhen(exchange) as adapter:
        with pytest.raises(RegionUncertain):
            await issued(adapter).file(ASKED)


async def test_a_reply_says_why_there_is_no_file() -> None:
    exchange = telling("file", {"status": "21", "message": "revoked"})
    async with shenzhen(exchange) as adapter:
        assert await issued(adapter).file(ASKED) == CertificateReply("21", "revoked", [])


# --- errors in certificates ----------------------------------------------------------------------------------------


async def test_a_report_goes_out_under_its_own_number_and_brings_the_issuers() -> None:
    exchange = telling("disputes", {"disputeNo": "DSP-1", "acceptNo": "YY1", "acceptTime": 1})
    async with shenzhen(exchange) as adapter:
        assert await issued(adapter).dispute(REPORT) == "YY1"
    assert exchange.seen[0].headers["Idempotency-Key"] == "DSP-1"


@pytest.mark.parametrize("told", [{"disputeNo": "DSP-2", "acceptNo": "YY1"}, {"disputeNo": "DSP-1", "acceptNo": ".."}])
async def test_a_receipt_for_another_report_is_none(told: dict[str, Any]) -> None:
    async with shenzhen(telling("disputes", told)) as adapter:
        with pytest.raises(RegionUncertain):
            await issued(adapter).dispute(REPORT)


@pytest.mark.parametrize(("state", "word"), [("0", "open"), ("1", "corrected"), ("2", "rejected")])
async def test_what_became_of_a_report_is_asked_by_the_issuers_number(state: str, word: str) -> None:
    told = {"acceptNo": "YY1", "disputeState": state, "disputeReply": "已更正 44010619900101900X"}
    async with shenzhen(telling("disputes/YY1", told)) as adapter:
        reply = await issued(adapter).disputed("YY1")
    assert (reply.state, reply.text) == (word, "已更正 ***")


async def test_a_report_that_is_not_known_is_a_definite_no() -> None:
    async with shenzhen(telling("disputes/YY1", {"code": "NO_SUCH_DISPUTE"}, 404)) as adapter:
        with pytest.raises(RegionRefused):
            await issued(adapter).disputed("YY1")


@pytest.mark.parametrize("change", [{"acceptNo": "YY2"}, {"disputeState": "9"}])
async def test_a_reply_that_is_not_to_the_report_says_nothing(change: dict[str, Any]) -> None:
    told = {"acceptNo": "YY1", "disputeState": "1", **change}
    async with shenzhen(telling("disputes/YY1", told)) as adapter:
        with pytest.raises(RegionUncertain):
            await issued(adapter).disputed("YY1")


# --- notices -------------------------------------------------------------------------------------------------------


def notice(path: str = "/callbacks/shenzhen/certificates", who: str = "webhook") -> Callback:
    body = orjson.dumps({"data": [{"certificateIdentifier": "1.2", "certificateState": "03", "changeTime": 1}]})
    signer = key(who)
    assert isinstance(signer, Ed25519PrivateKey)
    signed = signer.sign(f"msg_0001.{int(NOW.timestamp())}.".encode() + body)
    headers = {
        "webhook-id": "msg_0001",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": f"v1a,{base64.b64encode(signed).decode()}",
    }
    return Callback("POST", path, headers, body, NOW)


async def test_a_notice_is_verified_as_a_status_event_is() -> None:
    async with shenzhen(Exchange()) as adapter:
        assert adapter.notices is not None
        reading = await adapter.notices.read(notice())
        assert (reading.nonce, as_object(reading.events[0])["certificateState"]) == ("msg_0001", "03")
        with pytest.raises(ForgedCallback):
            await adapter.notices.read(notice(who="webhook-of-nobody"))
        with pytest.raises(NotFound):
            await adapter.notices.read(notice("/callbacks/shenzhen/events"))
        late = replace(notice(), received_at=NOW.replace(year=2024))
        with pytest.raises(ReplayedCallback):
            await adapter.notices.read(late)
