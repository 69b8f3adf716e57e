"""Single certificates in the provinces' exchange: what an answer or a notice must say before it is believed."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway.errors import ForgedCallback, InvalidRequest, NotFound, RegionError, ReplayedCallback, StartRefused
from gateway.ports import Callback, CallbackReading, CertificateFile, CertificateReply
from tests.unit.protocol_support import NOW, Seen
from tests.unit.province_support import certificate, exchange, key
from tests.unit.test_protocol_province import MOMENT, Answer, body_of, province, says, signed

FILE = b"PK a synthetic certificate"
ASKED = {"certificateIdentifier": "1.2.156.3005.2.A"}
ROW = {
    "certificateIdentifier": "1.2.156.3005.2.A",
    "fileCode": "abc",
    "fileName": "A.ofd",
    "fileType": "application/ofd",
    "fileSize": str(len(FILE)),
    "fileDigest": hashlib.sha256(FILE).hexdigest(),
}
ADDRESS = "/callbacks/testland/certificates"
NOTICE = {
    "head": {"servicecode": "certificateShare", "interfaceName": "sendStateNotice"},
    "data": {"certificate_identifier": "1.2.156.3005.2.A", "status": "注销", "change_time": "2026-03-10 09:30:00"},
}


def lists(**changed: Any) -> Answer:
    def answer(seen: Seen) -> web.Response:
        if seen.method == "GET":
            return signed(seen, FILE)
        return signed(seen, body_of({"dataList": [{**ROW, **changed}]}))

    return answer


async def test_a_file_comes_under_a_signature_over_its_listed_digest() -> None:
    async with province(lists()) as (opened, seen):
        assert opened.issued is not None
        file = await opened.issued.file(ASKED)
        assert isinstance(file, CertificateFile)
        assert b"".join([piece async for piece in file.body]) == FILE
    assert [one.path for one in seen] == ["/x/exchange", "/x/files/certificates/abc"]


@pytest.mark.parametrize(
    "changed",
    [{"certificateIdentifier": "1.2.156.3005.2.B"}, {"fileCode": ".."}, {"fileDigest": "0" * 64}, {"fileSize": "x"}],
)
async def test_a_file_that_was_not_listed_so_is_no_file(changed: dict[str, Any]) -> None:
    async with province(lists(**changed)) as (opened, _):
        assert opened.issued is not None
        with pytest.raises(RegionError):
            await opened.issued.file(ASKED)


async def test_a_status_says_why_there_is_no_file() -> None:
    async with province(says({}, "21", "已注销")) as (opened, _):
        assert opened.issued is not None
        assert await opened.issued.file(ASKED) == CertificateReply("21", "已注销", [])


@pytest.mark.parametrize(
    ("operation", "given", "data"),
    [
        ("dispute", {"objectionNo": "D1"}, {"objectionNo": "D2", "acceptNo": "YY1"}),
        ("dispute", {"objectionNo": "D1"}, {"objectionNo": "D1", "acceptNo": ".."}),
        ("disputed", "YY1", {"acceptNo": "YY2", "handleState": "无误"}),
        ("disputed", "YY1", {"acceptNo": "YY1", "handleState": "不知道"}),
    ],
)
async def test_an_answer_about_a_report_must_be_about_it(operation: str, given: Any, data: dict[str, Any]) -> None:
    async with province(says(data)) as (opened, _):
        with pytest.raises(RegionError):
            await getattr(opened.issued, operation)(given)


async def test_what_a_province_does_not_tell_is_not_offered() -> None:
    async with exchange("http://province.test", issued=[], notices=False) as opened:
        assert (opened.issued, opened.notices) == (None, None)
    with pytest.raises(StartRefused):
        async with exchange("http://province.test", issued=["everything"]):
            pass


# --- notices -----------------------------------------------------------------------------------------------------


def pushed(document: Any = NOTICE, **wrong: Any) -> Callback:
    """Return a notice as the province makes it; `wrong` says what is not as it should be."""
    body = json.dumps(document).encode()
    stamp = {
        "key": certificate(wrong.get("named", "province")).fingerprint(hashes.SHA256()).hex(),
        "time": str(MOMENT + wrong.get("late", 0)),
        "nonce": wrong.get("nonce", "0123456789abcdef" * 2),
        "digest": hashlib.sha256(wrong.get("signed", body)).hexdigest(),
    }
    lines = [wrong.get("text", "PEARL-PROVINCE-1 NOTICE"), "POST", wrong.get("signed_for", ADDRESS), *stamp.values()]
    der = key(wrong.get("by", "province")).sign("\n".join(lines).encode(), ec.ECDSA(hashes.SHA256()))
    sign = base64.b64encode(b"".join(number.to_bytes(32) for number in decode_dss_signature(der))).decode()
    headers = {f"x-pearl-{name}": value for name, value in {**stamp, "sign": sign}.items()}
    return Callback("POST", wrong.get("path", ADDRESS), headers, body, NOW)


async def read(callback: Callback) -> CallbackReading:
    async with exchange("http://province.test") as opened:
        assert opened.notices is not None
        return await opened.notices.read(callback)


async def test_a_signed_notice_is_read() -> None:
    reading = await read(pushed())
    assert list(reading.events) == [NOTICE["data"]]
    assert reading.nonce == "0123456789abcdef" * 2
    assert reading.answer["head"]["status"] == "0"


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"by": "stranger"}, ForgedCallback),
        ({"named": "stranger"}, ForgedCallback),
        ({"by": "retired", "named": "retired"}, ForgedCallback),
        ({"text": "PEARL-PROVINCE-1 ANSWER"}, ForgedCallback),
        ({"signed_for": "/callbacks/fujian/certificates"}, ForgedCallback),
        ({"signed": b"another body"}, ForgedCallback),
        ({"nonce": "again"}, ForgedCallback),
        ({"late": -121_000}, ReplayedCallback),
        ({"late": 121_000}, ReplayedCallback),
        ({"path": "/callbacks/testland/elsewhere"}, NotFound),
        ({"document": {"head": {"interfaceName": "sendApply"}, "data": {}}}, InvalidRequest),
        ({"document": ["no object"]}, InvalidRequest),
    ],
)
async def test_a_notice_that_is_not_the_provinces_of_now_and_for_us_is_refused(
    wrong: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await read(pushed(**wrong))
