"""The simulated province of the case exchange: docs/province-exchange.md, held against it from outside.

What a well-behaved gateway sees of it is in `tests/conformance`; here it is asked wrongly, told to misbehave, and led
through everything that can become of a case.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway.crypto import sm2, sm_keys
from gateway.errors import RegionUncertain, RegionUnreachable
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings, authority_app
from gateway.sandbox.province_authority import WRONG, Exchange, join_exchange
from gateway.sandbox.province_signature import Sm2Signing
from gateway.sandbox.sm2 import point, secret_number
from tests.unit.protocol_support import NOW, order
from tests.unit.province_support import CASES, authority_given, exchange, key

ITEM = "11440100MBT40100XX3442011899001"
FILE = b"%PDF-1.4 synthetic"
DIGEST = hashlib.sha256(FILE).hexdigest()
ITEMS: list[Mapping[str, Any]] = [
    {
        "code": ITEM,
        "name": {"zh-CN": "跨省异地就医备案"},
        "modes": ["online", "collect"],
        "material": [{"code": "ID", "name": {"zh-CN": "身份证"}, "required": True}],
        "office": [{"region": "hainan", "code": "460000", "promised_days": 0, "statutory_days": 2, "limit_unit": "G"}],
    }
]
CERTIFICATE = {
    "region": "hainan", "type_code": "T", "type_name": "居民户口簿", "identifier": "I", "number": "N",
    "issuer_name": "海南省公安厅（沙箱）", "issuer_code": "11460000MBT46000X8", "issued_on": "2015-06-01",
    "valid_from": "2015-06-01", "holder_name": "符海燕", "holder_id_type": "CN_RIC",
    "holder_id_number": "460106198703120021", "state": "valid",
}  # fmt: skip
EXCHANGE = Exchange(CASES["service"], CASES["materials"], "460000", "海南省", "海南省测试厅", "C", suite="ES256")


# --- the authority, and a gateway that is written out here --------------------------------------------------------


def build(folder: Path, made: Exchange = EXCHANGE) -> web.Application:
    settings = AuthoritySettings(
        "hainan", "http://gateway.test", folder / "book.db", authority_given(), [], [CERTIFICATE], 0.0, ITEMS
    )
    return join_exchange(authority_app(settings), settings, made, NOW.timestamp)


@dataclass(frozen=True, slots=True)
class Side:
    """Our side: signs as the page says, or as `wrong` says."""

    app: web.Application
    url: str
    session: aiohttp.ClientSession

    async def send(self, method: str, path: str, body: bytes, nonce: str, **wrong: Any) -> dict[str, Any]:
        said = str(int(NOW.timestamp() * 1000) + wrong.get("late", 0))
        digest = hashlib.sha256(wrong.get("signed", body)).hexdigest()
        key_id, grant = wrong.get("key", "gateway-cases"), wrong.get("grant", "grant")
        lines = ["PEARL-PROVINCE-1 REQUEST", method, wrong.get("address", path), key_id, grant, said, nonce, digest]
        der = key(wrong.get("by", "gateway")).sign("\n".join(lines).encode(), ec.ECDSA(hashes.SHA256()))
        sign = base64.b64encode(b"".join(number.to_bytes(32) for number in decode_dss_signature(der))).decode()
        values = {"Key": key_id, "Time": said, "Nonce": nonce, "Digest": digest, "Sign": sign}
        headers = {f"X-Pearl-{name}": value for name, value in values.items()}
        headers["Content-Type"] = wrong.get("type", "application/pdf")
        async with self.session.request(method, self.url + path, data=body, headers=headers) as answer:
            assert answer.status == 200
            told: dict[str, Any] = await answer.json()
            return told

    async def ask(self, interface: str, data: Any, service: str = "applyExchange", **wrong: Any) -> tuple[str, Any]:
        head = {"servicecode": service, "interfaceName": interface, "grantcode": wrong.get("told", "grant")}
        body = wrong.pop("body", json.dumps({"head": head, "data": data}).encode())
        nonce = wrong.pop("nonce", self.nonce())
        told = await self.send("POST", CASES["service"], body, nonce, **wrong)
        return told["head"]["status"], told["data"]

    async def upload(self, body: bytes = FILE, number: str = "KY1", **wrong: Any) -> str:
        told = await self.send("PUT", f"{CASES['materials']}/{number}/{DIGEST}", body, self.nonce(), **wrong)
        return str(told["head"]["status"])

    def nonce(self) -> str:
        return f"{self.app[NOTEBOOK].count('test', 'nonce'):032x}"

    async def hand_in(self, number: str = "KY1", until: str = "办结") -> Any:
        """Hand a case in and let it come to a step."""
        await self.upload(number=number)
        status, receipt = await self.ask("sendApply", case(applyNo=number))
        assert status == "0"
        await self.steps(until)
        return receipt

    async def steps(self, until: str) -> list[str]:
        async with asyncio.timeout(5):
            while True:
                _, data = await self.ask("getStepList", {"cursor": "0", "limit": "100"})
                states = [step["taskState"] for step in data["dataList"]]
                if until in states:
                    return states

    async def way(self, number: str, last: str) -> list[str]:
        """Hand a case in and return its steps up to the last."""
        await self.upload(number=number)
        assert (await self.ask("sendApply", case(applyNo=number)))[0] == "0"
        async with asyncio.timeout(5):
            while True:
                _, data = await self.ask("getStepList", {"cursor": "0", "limit": "100"})
                states = [step["taskState"] for step in data["dataList"] if step["applyNo"] == number]
                if last in states:
                    return states

    def cases(self) -> dict[str, Any]:
        return self.app[NOTEBOOK].entries("cases")


@asynccontextmanager
async def standing(app: web.Application) -> AsyncIterator[Side]:
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Side(app, str(server.make_url("/")).rstrip("/"), session)


@pytest.fixture
async def side(tmp_path: Path) -> AsyncIterator[Side]:
    async with standing(build(tmp_path)) as our_side:
        yield our_side


def case(**changed: str) -> dict[str, str]:
    data = {
        "applyNo": "KY1", "taskCode": ITEM, "taskName": "跨省异地就医备案", "applyWay": "窗口代收",
        "applyTime": "2026-03-10 09:30:00", "areaCode": "460000000000", "sourceAreaCode": "440100000000",
        "operName": "W0123", "applicantType": "1", "applicantName": "陈小明", "applicantCodeType": "111",
        "applicantCode": "44010619900101900X", "formInfo": "{}", "materialCodes": "ID", "materialNames": "身份证",
        "materialTypes": "application/pdf", "materialSizes": str(len(FILE)), "materialDigests": DIGEST,
        "digestType": "SHA256",
    }  # fmt: skip
    return {**data, **changed}


def message(receipt: Any, number: str = "M1", **more: str) -> dict[str, str]:
    return {"messageNo": number, "applyNo": receipt["applyNo"], "projectNo": receipt["projectNo"], **more}


# --- who may ask -------------------------------------------------------------------------------------------------


async def test_who_is_not_the_gateway_is_not_heard(side: Side) -> None:
    """Another key or id, an hour that is over, another address, body, grant code, or a nonce that is none."""
    await side.upload()
    wrongs: list[dict[str, Any]] = [
        {"by": "stranger"},
        {"key": "somebody"},
        {"late": -121_000},
        {"late": 121_000},
        {"address": "/elsewhere"},
        {"signed": b"{}"},
        {"grant": "another"},
        {"told": "another"},
        {"nonce": "short"},
    ]
    for wrong in wrongs:
        assert await side.ask("sendApply", case(), **wrong) == ("11", {}), wrong
    assert side.cases() == {}


async def test_a_question_is_heard_once(side: Side) -> None:
    """Who has read one on the wire cannot send it again."""
    assert (await side.ask("queryApply", {"applyNo": "KY1"}, nonce="0" * 32))[0] == "10"
    assert (await side.ask("queryApply", {"applyNo": "KY1"}, nonce="0" * 32))[0] == "11"


async def test_what_is_no_question_is_refused(side: Side) -> None:
    for body in (b"", b"[]", b'"x"', b"\xff", b"{}", b'{"head": {}, "data": {}}', b'{"head": []}'):
        assert (await side.ask("", None, body=body))[0] == "12"


async def test_what_is_not_offered_is_refused(tmp_path: Path) -> None:
    silent = Exchange(
        CASES["service"], CASES["materials"], "460000", "海南省", "D", "C", "ES256", asks=False, unheard=("sendRating",)
    )
    async with standing(build(tmp_path, silent)) as our_side:
        for interface in ("queryApply", "queryMessage", "sendRating", "sendPraise"):
            assert (await our_side.ask(interface, {}))[0] == "19"


# --- cases -------------------------------------------------------------------------------------------------------


async def test_a_case_is_taken_once_and_goes_its_way(side: Side) -> None:
    receipt = await side.hand_in()
    assert await side.ask("sendApply", case()) == ("0", receipt)
    assert await side.ask("queryApply", {"applyNo": "KY1"}) == ("0", receipt)
    assert await side.steps("办结") == ["收件", "受理", "审批", "办结"]
    assert side.app[NOTEBOOK].get("arrivals", "KY1") == 2


async def test_what_a_case_lacks_is_named_and_nothing_of_its_content(side: Side) -> None:
    status, data = await side.ask("sendApply", case(applicantCode="", formInfo=" "))
    assert status == "12"
    assert [each["field"] for each in data["fieldList"]] == ["applicantCode", "formInfo"]
    assert (await side.ask("sendApply", case(applyTime="yesterday")))[0] == "12"
    assert (await side.ask("sendApply", case(areaCode="430000000000")))[0] == "12"
    assert (await side.ask("sendApply", case(taskCode="unknown")))[0] == "14"
    assert side.cases() == {}


async def test_a_case_needs_its_materials_as_it_describes_them(side: Side) -> None:
    assert (await side.ask("sendApply", case()))[0] == "15"
    assert await side.upload(b"another file", signed=FILE) == "15"
    assert await side.upload() == "0"
    assert (await side.ask("sendApply", case(materialSizes="1")))[0] == "15"
    assert (await side.ask("sendApply", case(materialTypes="image/png")))[0] == "15"
    assert (await side.ask("sendApply", case(materialCodes="ID;;FORM")))[0] == "12"
    assert (await side.ask("sendApply", case()))[0] == "0"


LAST = {
    "course_supplement": "补正告知",
    "course_supplement_expired": "退件",
    "course_tolerance": "容缺受理",
    "course_tolerance_breached": "退件",
    "course_special": "办结",
    "course_special_open": "特别程序",
    "course_silent": "收件",
    "course_undecided": "受理",
    "course_extended": "办结",
    "course_refused": "不予受理",
    "course_not_within_power": "不属本机关职权",
    "course_returned": "退件",
    "course_void": "作废",
    "course_delivered": "送达",
}


async def test_a_case_goes_the_way_that_was_ordered(side: Side) -> None:
    for course, last in LAST.items():
        side.app[MISBEHAVIOUR].order(course, 1)
        assert (await side.way(course, last))[-1] == last, course
    assert side.app[MISBEHAVIOUR].active == {}


async def test_a_stop_half_way_is_no_end(tmp_path: Path) -> None:
    """What a case has before it is in the books, and so is what has been said of it."""
    app = build(tmp_path)
    async with standing(app) as our_side:
        await our_side.hand_in()
        app[NOTEBOOK].put("cases", "KY2", {**our_side.cases()["KY1"], "plan": {"steps": ["RECEIVED"], "taken": 0}})
    async with standing(build(tmp_path)) as our_side:
        async with asyncio.timeout(5):
            while len(await our_side.steps("办结")) < 5:
                pass


# --- messages ----------------------------------------------------------------------------------------------------


async def test_a_supplement_takes_the_case_on(side: Side) -> None:
    side.app[MISBEHAVIOUR].order("course_supplement", 1)
    receipt = await side.hand_in(until="补正告知")
    said = message(receipt, supplementTime="2026-03-11 09:30:00", isComplete="否", digestType="SHA256")
    assert (await side.ask("sendSupplement", said))[0] == "0"
    assert (await side.ask("sendSupplement", {**said, "messageNo": "M2", "materialDigests": DIGEST}))[0] == "12"
    assert (await side.ask("sendSupplement", {**said, "messageNo": "M3", "isComplete": "是"}))[0] == "0"
    assert (await side.steps("办结"))[2:] == ["补正受理", "受理", "审批", "办结"]
    assert (await side.ask("sendSupplement", {**said, "messageNo": "M4"}))[0] == "17"


async def test_a_withdrawal_ends_a_case_that_is_not_decided(side: Side) -> None:
    side.app[MISBEHAVIOUR].order("course_supplement", 1)
    receipt = await side.hand_in(until="补正告知")
    said = message(receipt, withdrawTime="2026-03-11 09:30:00", withdrawReason="不再需要")
    assert (await side.ask("queryMessage", {"messageNo": "M1", "applyNo": "KY1"}))[0] == "10"
    first = await side.ask("sendWithdrawal", said)
    assert first[0] == "0"
    assert await side.ask("sendWithdrawal", said) == first
    assert await side.ask("queryMessage", {"messageNo": "M1", "applyNo": "KY1"}) == first
    assert (await side.ask("queryMessage", {"messageNo": "M1", "applyNo": "KY2"}))[0] == "10"
    assert (await side.steps("撤回")).count("撤回") == 1
    assert (await side.ask("sendWithdrawal", {**said, "messageNo": "M2"}))[0] == "17"


async def test_a_role_is_rated_once(side: Side) -> None:
    receipt = await side.hand_in()
    rating = message(receipt, taskCode=ITEM, evaluateRole="办理部门", satisfaction="5", pf="4", isDefault="否")
    rating["assessTime"] = "2026-03-11 09:30:00"
    assert (await side.ask("sendRating", {**rating, "satisfaction": "6"}))[0] == "12"
    assert (await side.ask("sendRating", rating))[0] == "0"
    assert (await side.ask("sendRating", rating))[0] == "0"
    assert (await side.ask("sendRating", {**rating, "messageNo": "M2"}))[0] == "17"
    assert (await side.ask("sendRating", {**rating, "messageNo": "M3", "evaluateRole": "代收窗口"}))[0] == "0"
    complaint = message(receipt, "M4", complaintContent="无人答复", complaintTime="2026-03-11 09:30:00")
    assert (await side.ask("sendComplaint", complaint))[0] == "0"
    assert (await side.ask("sendComplaint", {**complaint, "messageNo": "M5", "projectNo": "another"}))[0] == "17"
    books = json.dumps([side.app[NOTEBOOK].entries(book) for book in ("cases", "events", "messages")])
    assert json.dumps("无人答复")[1:-1] not in books


# --- catalogue and certificates ----------------------------------------------------------------------------------


async def test_the_catalogue_comes_page_by_page(side: Side) -> None:
    status, data = await side.ask("getTaskList", {"cursor": "0", "limit": "50"}, "taskShare")
    assert (status, data["cursor"], [item["taskCode"] for item in data["dataList"]]) == ("0", "1", [ITEM])
    assert await side.ask("getTaskList", {"cursor": "1", "limit": "50"}, "taskShare") == (
        "0",
        {"dataList": [], "cursor": "1"},
    )
    assert (await side.ask("getTaskList", {"cursor": "0", "limit": "51"}, "taskShare"))[0] == "12"


async def test_a_certificate_is_told_to_who_names_its_holder(side: Side) -> None:
    asked = dict.fromkeys(
        ("systemName", "areaCode", "areaName", "deptName", "operName", "taskCode", "taskName", "projectNo"), "x"
    )
    asked |= {"servicecode": "certificateShare", "certificateTypeName": "居民户口簿", "queryCause": "核验"}
    asked |= {"certificateHolderName": "符海燕", "certificateHolderTypeCode": "111"}
    asked |= {"certificateHolderCode": "460106198703120021"}
    changes: list[tuple[dict[str, str], str]] = [
        ({}, "0"),
        ({"certificateHolderName": "别的人"}, "10"),
        ({"certificateTypeName": "没有的证照"}, "13"),
        ({"queryCause": ""}, "12"),
        ({"certificateHolderTypeCode": "001"}, "12"),
    ]
    for changed, status in changes:
        told, data = await side.ask("getPersonListByHolder", {**asked, **changed}, "certificateShare")
        assert told == status, changed
        assert bool(data.get("dataList")) == (status == "0")


# --- misbehaviour ------------------------------------------------------------------------------------------------


async def test_whatever_it_answers_wrongly_our_own_client_is_not_taken_in(side: Side) -> None:
    """And the answer after that, which is right, is taken."""
    async with exchange(side.url) as opened:
        for mode in (name for name in WRONG if name.startswith("answer_")):
            side.app[MISBEHAVIOUR].order(mode, 1)
            document: dict[str, Any] = {**case(applyNo=mode), **NOTHING}
            sent = dataclasses.replace(order(document), submission_id=mode)
            with pytest.raises(RegionUnreachable if mode == "answer_busy" else RegionUncertain):
                await opened.submissions.submit(sent)
            assert (await opened.submissions.ask(mode) is not None) == (mode != "answer_busy")


NOTHING = dict.fromkeys((name for name in case() if name.startswith("material")), "")
"""A case without materials."""


# --- SM2 ---------------------------------------------------------------------------------------------------------


def test_both_sides_read_sm2_alike() -> None:
    """The gateway has GmSSL's, the authority one of its own: each takes what the other signs, and nothing else."""
    ours, theirs = sm2.generate(), sm2.generate()
    pems = sm_keys.private_pem(theirs), sm_keys.public_pem(ours.public)
    signing = Sm2Signing("k", secret_number(pems[0]), b"province", point(pems[1]), b"gateway")
    text = "办件".encode()
    assert signing.is_theirs(text, ours.sign(text, "raw", b"gateway"))
    assert not signing.is_theirs(text, ours.sign(text, "raw", b"another"))
    assert not signing.is_theirs(text + b" ", ours.sign(text, "raw", b"gateway"))
    assert not signing.is_theirs(text, bytes(64))
    assert theirs.public.verify(text, signing.sign(text), "raw", b"province")
    assert not theirs.public.verify(text, signing.stranger().sign(text), "raw", b"province")
