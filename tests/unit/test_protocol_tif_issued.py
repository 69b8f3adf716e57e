"""Single certificates in the TIF profile: what an answer must say before it is believed."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from adapters.guangdong.adapter import open_adapter
from gateway.errors import ForgedCallback, NotFound, RegionError, RegionUncertain, RegionUnreachable, ReplayedCallback
from gateway.ports import CallbackReading, CertificateFile, CertificateReply, IssuedCertificates
from tests.unit.protocol_support import NOW, Answerer, Seen, kit
from tests.unit.test_protocol_tif import SECRETS, SETTINGS, guangdong, says, signed

FILE = b"PK a synthetic certificate"
ASKED = {"CertificateID": "1.2.156.3005.2.A", "UseFor": "核验"}
AUTHORISED = {
    "ZZBS": "1.2.156.3005.2.A",
    "auth_code": "abc",
    "wjlx": "application/ofd",
    "wjdx": len(FILE),
    "wjzy": hashlib.sha256(FILE).hexdigest(),
}
NOTICE = b'{"tzbh":"TZ1","ZZBS":"1.2.156.3005.2.A","ZZZT":"03","bgsj":"20231115061320"}'
ADDRESS = "/callbacks/guangdong/certificates"


def authorises(**changed: Any) -> Answerer:
    def answer(seen: Seen) -> web.Response:
        if seen.method == "GET":
            return web.Response(body=FILE)
        return says({"head": {"status": "0"}, "data": [{**AUTHORISED, **changed}]})

    return answer


async def asked(answer: Answerer, operation: str, *given: Any) -> Any:
    async with guangdong(answer) as (adapter, _):
        issued: IssuedCertificates | None = adapter.issued
        assert issued is not None
        told = await getattr(issued, operation)(*given)
        return b"".join([piece async for piece in told.body]) if isinstance(told, CertificateFile) else told


async def test_a_file_is_authorised_and_then_fetched() -> None:
    async with guangdong(authorises()) as (adapter, far):
        assert adapter.issued is not None
        file = await adapter.issued.file(ASKED)
        assert isinstance(file, CertificateFile)
        assert (file.media_type, file.size, file.sha256) == ("application/ofd", len(FILE), AUTHORISED["wjzy"])
        assert b"".join([piece async for piece in file.body]) == FILE
    assert [seen.path for seen in far.seen] == [
        "/elssp/v1/GetCertificateFileByCertificateID", "/elssp/v1/files/abc",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [{"ZZBS": "1.2.156.3005.2.B"}, {"auth_code": ".."}, {"auth_code": None}, {"wjzy": "short"}, {"wjdx": "27"}],
)
async def test_a_file_is_not_fetched_on_an_authorisation_that_does_not_fit(changed: dict[str, Any]) -> None:
    with pytest.raises(RegionUncertain):
        await asked(authorises(**changed), "file", ASKED)


async def test_a_file_of_another_size_is_no_file() -> None:
    with pytest.raises(RegionUncertain):
        await asked(authorises(wjdx=len(FILE) + 1), "file", ASKED)


async def test_a_status_says_why_there_is_no_file() -> None:
    reply = await asked(lambda _: says({"head": {"status": "21", "message": "revoked"}, "data": []}), "file", ASKED)
    assert reply == CertificateReply("21", "revoked", ())


async def test_a_question_that_is_not_taken_for_ours_is_an_operators_problem() -> None:
    """Status 11 says nothing of the certificate."""
    with pytest.raises(RegionUnreachable):
        await asked(lambda _: says({"head": {"status": "11", "message": "no"}, "data": []}), "data", ASKED)


@pytest.mark.parametrize(
    ("operation", "given", "data"),
    [
        ("dispute", {"yybh": "D1"}, {"yybh": "D2", "slbh": "YY1"}),
        ("dispute", {"yybh": "D1"}, {"yybh": "D1", "slbh": "../x"}),
        ("dispute", {"yybh": "D1"}, {"yybh": "D1"}),
        ("disputed", "YY1", {"slbh": "YY2", "clzt": "1"}),
        ("disputed", "YY1", {"slbh": "YY1", "clzt": "9"}),
        ("disputed", "YY1", {"slbh": "YY1", "clzt": ["1"]}),
    ],
)
async def test_an_answer_about_a_report_must_be_about_it(operation: str, given: Any, data: dict[str, Any]) -> None:
    with pytest.raises(RegionError):
        await asked(lambda _: says({"code": "200", "data": data}), operation, given)


# --- notices -----------------------------------------------------------------------------------------------------


async def read(**how: Any) -> CallbackReading:
    async with kit("http://authority.test", region="guangdong", settings=SETTINGS, secrets=SECRETS) as lent:
        notices = open_adapter(lent).notices
        assert notices is not None
        return await notices.read(signed(NOTICE, **how))


async def test_a_signed_notice_is_read() -> None:
    reading = await read(path=ADDRESS)
    assert [dict(event)["ZZZT"] for event in reading.events if not isinstance(event, bytes)] == ["03"]
    assert reading.nonce_expires > NOW + timedelta(seconds=180)


async def test_a_status_event_is_no_notice_and_a_notice_is_signed_for_its_address() -> None:
    with pytest.raises(NotFound):
        await read()
    with pytest.raises(ReplayedCallback):
        await read(path=ADDRESS, stamp="1699999000")
    with pytest.raises(ForgedCallback):
        await read(path=ADDRESS, method="PUT", stamp="17000000000x")
