"""One certificate that is named, over the exchange machine's wire: what leaves, and what is believed of an answer."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from lxml import etree

from adapters.qingyuan.sandbox_wire import element, write
from gateway.errors import NotOffered, RegionRefused, RegionUncertain
from gateway.ports import CertificateFile, CertificateReply
from gateway.protocols.notify_pull_issued import PullIssued
from tests.unit.test_protocol_notify_pull import ASKED, RECEIPT, error, handing, talking

IDENTIFIER = "1.2.156.3005.2.X"
QUERY = write(element("ZZQQ", ZZBS=IDENTIFIER, YZSY="核验测试甲"))
REPORT = write(element("ZZYY", YYBH="DSP-1", ZZBS=IDENTIFIER, YYSM="测试甲名称有误"))
FILE = b"PK\x03\x04 a file that is sealed" * 9_000


def found(*certificates: etree._Element, status: str = "0", words: str = "成功") -> tuple[str, etree._Element]:
    return "200", element("ZZJG", *certificates, ZT=status, XX=words)


def announced(**changed: str) -> tuple[str, etree._Element]:
    about = {"ZZBS": IDENTIFIER, "WJLX": "application/ofd", "WJDX": str(len(FILE))}
    return found(etree.Element("ZZWJ", None, None, **{**about, "WJZY": hashlib.sha256(FILE).hexdigest(), **changed}))


async def test_a_certificate_is_asked_for_by_its_identifier_until_the_answer_is_there() -> None:
    answers = [("202", element("CW")), found(element("ZZ", ZZBS=IDENTIFIER), words="测试甲 成功")]
    async with talking(postLicenseRequest=ASKED, getLicenseData=answers) as (client, machine):
        reply = await PullIssued(client).data(QUERY)
    assert (reply.status, len(reply.certificates)) == ("0", 1)
    assert [operation for operation, _ in machine.got] == ["postLicenseRequest", "getLicenseData", "getLicenseData"]
    assert machine.got[0][1].findtext("ZZBS") == IDENTIFIER


@pytest.mark.parametrize(
    "told",
    [found(), found(element("ZZ"), element("ZZ")), found(status=""), ("200", RECEIPT), ("404", error())],
    ids=["found nothing", "two for one name", "no status", "another answer", "unknown question"],
)
async def test_an_answer_that_cannot_be_read_is_neither_a_certificate_nor_none(told: Any) -> None:
    async with talking(postLicenseRequest=ASKED, getLicenseData=told) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullIssued(client).data(QUERY)


async def test_there_are_no_shown_codes() -> None:
    async with talking() as (client, machine):
        assert "code" not in PullIssued.operations
        with pytest.raises(NotOffered):
            await PullIssued(client).code(QUERY)
        assert machine.got == []


# --- files ---------------------------------------------------------------------------------------------------------


async def fetched(told: Any, answer: tuple[str, etree._Element] | None = None) -> tuple[CertificateFile, bytes]:
    said = announced() if answer is None else answer
    async with talking(postLicenseFile=ASKED, getLicenseData=said, getLicenseFile=told) as (client, machine):
        file = await PullIssued(client).file(QUERY)
        assert isinstance(file, CertificateFile)
        body = b"".join([piece async for piece in file.body])
    assert machine.got[-1][1].findtext("CXBH") == "CX1"
    return file, body


async def test_a_file_is_announced_with_its_digest_and_then_opened_as_it_comes() -> None:
    file, body = await fetched(handing(FILE, operation="getLicenseFile"))
    assert body == FILE
    assert (file.media_type, file.size, file.sha256) == ("application/ofd", len(FILE), hashlib.sha256(FILE).hexdigest())


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(handing(FILE, operation="getResultFile"), id="of another operation"),
        pytest.param(handing(FILE, operation="getLicenseFile", end=b"\0\0"), id="too long"),
        pytest.param(handing(FILE[:-20], operation="getLicenseFile"), id="another size"),
        pytest.param(handing(FILE, operation="getLicenseFile", nonce="0123456789abcdef"), id="for another request"),
    ],
)
async def test_what_the_machine_did_not_seal_for_this_question_is_no_file(told: Any) -> None:
    with pytest.raises(RegionUncertain):
        await fetched(told)


@pytest.mark.parametrize(
    "answer",
    [announced(ZZBS="1.2.156.3005.2.Y"), announced(WJDX="0"), announced(WJZY="zz"), found(), found(element("ZZ"))],
    ids=["of another certificate", "no size", "no digest", "no file", "a certificate"],
)
async def test_a_file_that_is_not_rightly_announced_is_not_fetched(answer: tuple[str, etree._Element]) -> None:
    with pytest.raises(RegionUncertain):
        await fetched(error, answer)


async def test_a_reply_says_why_there_is_no_file() -> None:
    async with talking(postLicenseFile=ASKED, getLicenseData=found(status="21", words="已撤销")) as (client, _):
        assert await PullIssued(client).file(QUERY) == CertificateReply("21", "已撤销", [])


# --- errors in certificates ----------------------------------------------------------------------------------------


async def test_a_report_brings_the_machines_number() -> None:
    async with talking(sendLicenseObjection=("200", element("YYHZ", YYBH="DSP-1", SLBH="YY1"))) as (client, machine):
        assert await PullIssued(client).dispute(REPORT) == "YY1"
    assert machine.got[0][1].findtext("YYSM") == "测试甲名称有误"


@pytest.mark.parametrize(("ours", "theirs"), [("DSP-2", "YY1"), ("DSP-1", ".."), ("DSP-1", "")])
async def test_a_receipt_for_another_report_is_none(ours: str, theirs: str) -> None:
    async with talking(sendLicenseObjection=("200", element("YYHZ", YYBH=ours, SLBH=theirs))) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullIssued(client).dispute(REPORT)


async def test_a_refused_report_says_why_without_its_words() -> None:
    no = error("unknown-certificate", "测试甲名称有误")
    async with talking(sendLicenseObjection=("400", no)) as (client, _):
        with pytest.raises(RegionRefused, match="unknown-certificate") as refused:
            await PullIssued(client).dispute(REPORT)
    assert "测试甲" not in f"{refused.value.public} {refused.value.detail}"


@pytest.mark.parametrize(("state", "word"), [("0", "open"), ("1", "corrected"), ("2", "rejected")])
async def test_what_became_of_a_report_is_asked_by_the_machines_number(state: str, word: str) -> None:
    told = element("YYJG", SLBH="YY1", CLZT=state, CLYJ="已更正 44010619900101900X")
    async with talking(queryLicenseObjection=("200", told)) as (client, _):
        reply = await PullIssued(client).disputed("YY1")
    assert (reply.state, reply.text) == (word, "已更正 ***")


async def test_a_report_that_the_machine_does_not_hold_is_a_definite_no() -> None:
    async with talking(queryLicenseObjection=("404", error("unknown-report"))) as (client, _):
        with pytest.raises(RegionRefused):
            await PullIssued(client).disputed("YY1")


@pytest.mark.parametrize(("number", "state"), [("YY2", "1"), ("YY1", "9"), ("YY1", "")])
async def test_a_reply_that_is_not_to_the_report_says_nothing(number: str, state: str) -> None:
    told = element("YYJG", SLBH=number, CLZT=state)
    async with talking(queryLicenseObjection=("200", told)) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullIssued(client).disputed("YY1")
