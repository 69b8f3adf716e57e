"""The simulated exchange machine of Qingyuan pulls by itself, does everything once, and refuses as a strict one would.

Requests and the gateway that it pulls from are made with our own reading of the wire (`gateway.protocols`), documents
by hand: what the adapter sends is not the question here.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from lxml import etree

from adapters.qingyuan.sandbox import build_authority
from gateway.protocols.notify_pull_wire import (
    BadMessage,
    Channel,
    document_of,
    made,
    nonce_in,
    read_form,
    text_of,
    written,
)
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings
from tests.support.clock import ManualClock

T = TypeVar("T")
KEY = bytes(range(48))
ITEM = "11440100MBT40100XX3442011899001"
CASE = "KY44010044180020260302000001A"
NAME, NUMBER = "陈小明", "44010619900101900X"
CERTIFICATE = {
    "region": "qingyuan", "type_code": "11100000MB03271699022", "type_name": "不动产权证书", "identifier": "1.2.156",
    "number": "SBX1", "issuer_name": "清远市测试局", "issuer_code": "11441800MBT418004B", "issued_on": "2022-05-06",
    "valid_from": "2022-05-06", "holder_name": NAME, "holder_id_type": "CN_RIC", "holder_id_number": NUMBER,
    "state": "valid", "surface": {"坐落": "测试路1号"},
}  # fmt: skip
FILES = {"M01": b"%PDF one" * 100_000, "M02": b"%PDF two"}
_tokens = itertools.count()


def channel() -> Channel:
    return Channel(KEY, "PEARL", "QYQZJ", lambda: f"token-{next(_tokens)}")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def case(**changed: str) -> bytes:
    """Return a case as the page names its parts; `changed` replaces texts of it."""
    texts = {
        "number": NUMBER, "item": ITEM, "sha": ";;".join(map(digest, FILES.values())),
        "size": ";;".join(str(len(content)) for content in FILES.values()), "more": "", **changed,
    }  # fmt: skip
    return written(
        etree.fromstring(
            f'<SBXX BBH="1.0"><WWBH>{CASE}</WWBH><SX SXBM="{texts["item"]}">跨省异地就医备案</SX><TJFS>0</TJFS>'
            f"<SBSJ>2026-03-02 10:00:00</SBSJ><XZQHDM>440100000</XZQHDM><GXDXZQHDM>441800000</GXDXZQHDM>"
            f'<SQR SQRLX="0"><SQRMC>{NAME}</SQRMC><SQRZJLX>10</SQRZJLX><SQRZJHM>{texts["number"]}</SQRZJHM></SQR>'
            f'<BDXX><BD BDXBM="a">b</BD></BDXX><SBCLQD>一;;二</SBCLQD><CLBMQD>M01;;M02</CLBMQD>'
            f"<WJLXQD>application/pdf;;application/pdf</WJLXQD><WJDXQD>{texts['size']}</WJDXQD>"
            f'<WJZYQD SF="SHA-256">{texts["sha"]}</WJZYQD>{texts["more"]}</SBXX>'
        )
    )


def supplement(number: str, *, complete: bool) -> bytes:
    return written(
        etree.fromstring(
            f'<BZXX BBH="1.0"><XXBH>{number}</XXBH><WWBH>{CASE}</WWBH><SBLSH>44180020260302000001</SBLSH>'
            f"<BZSJ>2026-03-02 10:00:00</BZSJ><SBCLQD>二</SBCLQD><CLBMQD>M02</CLBMQD><WJLXQD>application/pdf</WJLXQD>"
            f'<WJDXQD>{len(FILES["M02"])}</WJDXQD><WJZYQD SF="SHA-256">{digest(FILES["M02"])}</WJZYQD>'
            f"<SFQB>{int(complete)}</SFQB></BZXX>"
        )
    )


@dataclass
class Gateway:
    """What the machine pulls from: documents by number, files by digest, and what was asked for in order."""

    documents: dict[str, bytes] = field(default_factory=lambda: {CASE: case()})
    files: dict[str, bytes] = field(default_factory=lambda: {digest(content): content for content in FILES.values()})
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    refuse_with: str = ""
    spoil: bool = False
    nonces: set[str] = field(default_factory=set)
    channel: Channel = field(default_factory=channel)

    async def handle(self, request: web.Request) -> web.Response:
        operation, body = request.match_info["operation"], await request.read()
        nonce = nonce_in(body)
        try:
            asked = document_of(self.channel.open_request(operation, read_form(body)))
        except (BadMessage, ValueError):
            return self._refuse(operation, nonce, "401")
        if self.refuse_with or nonce in self.nonces:
            return self._refuse(operation, nonce, self.refuse_with or "409")
        self.nonces.add(nonce)
        self.asked.append(text_of(asked, "WJZY")[:8] or text_of(asked, "XXBH") or text_of(asked, "WWBH"))
        if operation == "getMaterial":
            seal, content = self.channel.stream(operation, nonce), self.files[text_of(asked, "WJZY")]
            sealed = seal.iv + seal.update(content) + seal.finish()
            return web.Response(body=sealed[:-1] if self.spoil else sealed, content_type="application/octet-stream")
        document = self.documents[text_of(asked, "XXBH") or text_of(asked, "WWBH")]
        return web.Response(body=self.channel.answer(operation, nonce, "200", document), content_type="text/xml")

    def _refuse(self, operation: str, nonce: str, code: str) -> web.Response:
        self.refused.append(code)
        document = written(etree.Element("CW", DM="no"))
        return web.Response(body=self.channel.answer(operation, nonce, code, document), content_type="text/xml")


@dataclass
class Office:
    """The machine that runs, and a client that speaks to it."""

    app: web.Application
    client: Any
    gateway: Gateway
    clock: ManualClock
    channel: Channel = field(default_factory=channel)

    async def ask(self, operation: str, document: etree._Element | bytes, *, nonce: str = "") -> tuple[str, Any]:
        """Send a sealed request; return code and document of the answer."""
        nonce = nonce or self.channel.nonce()
        plain = document if isinstance(document, bytes) else written(document)
        body = self.channel.request(operation, nonce, self.clock(), plain)
        code, answer = self.channel.open_answer(operation, nonce, await self.post(operation, body))
        return code, document_of(answer)

    async def post(self, operation: str, body: bytes) -> bytes:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with self.client.post(f"/exchange/{operation}", data=body, headers=headers) as response:
            assert response.status == 200
            return bytes(await response.read())

    async def announce(self, **changed: str) -> tuple[str, Any]:
        fields = {"WWBH": CASE, "EXPRESSTYPE": "3", "SXBM": ITEM, "XZQHDM": "441800000", "CLSL": "2", **changed}
        return await self.ask("sendApplyNO", made("SBTZ", **fields))

    async def reports(self) -> list[dict[str, str]]:
        """Return every report so far, as its fields."""
        _, page = await self.ask("getNotice", made("TZCX", XH="0", TS="200"))
        return [_fields(each.text or "") for each in page.findall("TZ")]

    async def steps(self) -> list[str]:
        return [report["EXPRESSTYPE"] for report in await self.reports()]

    async def until(self, step: str) -> list[str]:
        """Wait until the last report is of this step; return all steps."""
        return await seen(self.steps, lambda steps: bool(steps) and steps[-1] == step)

    def order(self, mode: str, times: int = 1) -> None:
        self.app[MISBEHAVIOUR].order(mode, times)


def _fields(report: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in report.split("&"))
    return {name: unquote_to_bytes(value).decode("gb18030") for name, _, value in pairs}


async def seen(look: Callable[[], Awaitable[T]], met: Callable[[T], bool]) -> T:
    """Look until it is as wanted: what works by itself tells nobody when it is done."""
    async with asyncio.timeout(10):
        while not met(found := await look()):
            await asyncio.sleep(0.005)  # the authority tells nobody
    return found


@asynccontextmanager
async def opened(folder: Path, gateway: Gateway, clock: ManualClock | None = None) -> AsyncIterator[Office]:
    door = web.Application()
    door.router.add_post("/callbacks/qingyuan/{operation}", gateway.handle)
    clock = clock or ManualClock()
    async with TestServer(door) as server:
        settings = AuthoritySettings(
            region="qingyuan",
            gateway_url=str(server.make_url("")).rstrip("/"),
            state=folder / "machine.db",
            secrets={
                "sm4_key": KEY[:16].hex().encode(), "mac_key": KEY[16:].hex().encode(),
                "item_codes": f'["{ITEM}"]'.encode(),
            },
            people=[],
            certificates=[CERTIFICATE],
            pace=0.001,
        )  # fmt: skip
        app = build_authority(settings, clock)
        async with TestClient(TestServer(app)) as client:
            yield Office(app, client, gateway, clock)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with opened(tmp_path, Gateway()) as running:
        yield running


# --- pulling --------------------------------------------------------------------------------------------------------


async def test_a_notice_is_answered_before_anything_is_pulled_and_the_case_received_after(office: Office) -> None:
    office.order("no_pull", -1)
    code, receipt = await office.announce()
    assert (code, receipt.tag, text_of(receipt, "WWBH")) == ("200", "JSHZ", CASE)
    assert (office.gateway.asked, await office.steps()) == ([], [])
    office.app[MISBEHAVIOUR].clear()
    assert await office.until("8") == ["3", "0", "7", "8"]
    assert office.gateway.asked == [CASE, *(digest(content)[:8] for content in FILES.values())]


async def test_a_notice_that_comes_again_makes_nothing_new(office: Office) -> None:
    first, second = await office.announce(), await office.announce()
    assert etree.tostring(first[1]) == etree.tostring(second[1])
    await office.until("8")
    assert office.gateway.asked.count(CASE) == 1
    assert office.app[NOTEBOOK].get("arrivals", CASE) == 2


@pytest.mark.parametrize(
    ("mode", "refused", "asked"),
    [("forged_pull", ["401"], 1), ("double_pull", [], 2), ("replayed_pull", ["409"], 2), ("late_pull", [], 1)],
)
async def test_a_machine_that_pulls_wrongly_or_twice_makes_one_case(
    mode: str, refused: list[str], asked: int, office: Office
) -> None:
    office.app[MISBEHAVIOUR].seconds = 0.01
    office.order(mode)
    await office.announce()
    assert await office.until("8") == ["3", "0", "7", "8"]
    assert (office.gateway.refused, office.gateway.asked.count(CASE)) == (refused, asked)


async def test_a_file_that_breaks_off_is_pulled_again_and_nothing_is_received_before(office: Office) -> None:
    office.gateway.spoil = True
    await office.announce()

    async def tries() -> int:
        return office.gateway.asked.count(CASE)

    await seen(tries, lambda count: count >= 2)
    assert await office.steps() == []
    office.gateway.spoil = False
    assert await office.until("8") == ["3", "0", "7", "8"]


async def test_another_file_than_the_list_names_is_not_taken(office: Office) -> None:
    wanted = digest(FILES["M02"])
    office.gateway.files[wanted] = b"%PDF another"
    await office.announce()

    async def tries() -> int:
        return office.gateway.asked.count(CASE)

    await seen(tries, lambda count: count >= 2)
    assert await office.steps() == []
    office.gateway.files[wanted] = FILES["M02"]
    await office.until("8")


async def test_a_case_that_can_be_had_no_more_is_asked_for_no_more(office: Office) -> None:
    office.gateway.refuse_with = "410"
    await office.announce()

    async def refusals() -> list[str]:
        return office.gateway.refused

    await seen(refusals, bool)
    assert office.gateway.refused == ["410"]
    assert not office.app[NOTEBOOK].entries("cases")[CASE]["pulled"]


async def test_a_machine_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    gateway = Gateway()
    async with opened(tmp_path, gateway) as office:
        office.order("no_pull", -1)
        await office.announce()
    async with opened(tmp_path, gateway) as office:
        assert await office.until("8") == ["3", "0", "7", "8"]


@pytest.mark.parametrize(
    "changed",
    [
        {"number": "440106199001019001"},
        {"item": "11440100MBT40100XX3442011899002"},
        {"sha": digest(FILES["M01"])},
        {"more": "<NEU>1</NEU>"},
    ],
    ids=["check digit", "another item than announced", "lists apart", "unknown element"],
)
async def test_a_case_that_is_not_as_agreed_is_returned(changed: dict[str, str], office: Office) -> None:
    office.gateway.documents[CASE] = case(**changed)
    await office.announce()
    assert await office.until("17") == ["3", "17"]


async def test_nothing_of_a_person_stays_in_the_books(tmp_path: Path) -> None:
    async with opened(tmp_path, Gateway()) as office:
        await office.announce()
        await office.until("8")
        await office.ask("sendWithdrawal", _message("CHSQ", "m-1", CHSJ="2026-03-02 10:00:00", CHYY=NAME))
    kept = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in tmp_path.iterdir()))
    assert CASE.encode() in kept
    assert [text for text in (NAME.encode(), NAME.encode("unicode_escape"), NUMBER.encode()) if text in kept] == []


# --- messages -------------------------------------------------------------------------------------------------------


def _message(name: str, number: str, **texts: str) -> etree._Element:
    message = made(name, XXBH=number, WWBH=CASE, SBLSH="44180020260302000001", **texts)
    message.set("BBH", "1.0")
    return message


async def test_a_case_waits_until_everything_that_was_asked_for_has_been_pulled(office: Office) -> None:
    office.order("course_supplement")
    await office.announce()
    assert await office.until("1") == ["3", "1"]
    office.gateway.documents |= {"m-1": supplement("m-1", complete=False), "m-2": supplement("m-2", complete=True)}
    for number in ("m-1", "m-2"):
        notice = made("SBTZ", WWBH=CASE, EXPRESSTYPE="1", XXBH=number, CLSL="1")
        code, receipt = await office.ask("sendApplyNO", notice)
        assert (code, text_of(receipt, "XXBH")) == ("200", number)

        async def pulled(number: str = number) -> bool:
            return bool((office.app[NOTEBOOK].get("messages", number) or {})["pulled"])

        await seen(pulled, bool)
        assert (await office.ask("queryMessage", made("XXCX", WWBH=CASE, XXBH=number)))[0] == "200"
    assert await office.until("8") == ["3", "1", "12", "0", "7", "8"]


async def test_the_documents_of_a_decision_lie_there_once_there_is_one_and_only_then(office: Office) -> None:
    office.order("course_supplement")
    _, receipt = await office.announce()
    await office.until("1")
    number = text_of(receipt, "SBLSH")
    code, page = await office.ask("getResultList", made("JGCX", SBLSH=number))
    assert (code, text_of(page, "SBLSH"), page.findall("JGWJ")) == ("200", number, [])
    asked = made("JGTQ", SBLSH=number, WJBM="JD01")
    assert (await office.ask("getResultFile", asked))[0] == "404"
    assert (await office.ask("getResultList", made("JGCX", SBLSH="4" * 20)))[0] == "404"


async def test_a_document_of_a_decision_is_handed_out_sealed_as_it_was_listed(office: Office) -> None:
    _, receipt = await office.announce()
    await office.until("8")
    number = text_of(receipt, "SBLSH")
    _, page = await office.ask("getResultList", made("JGCX", SBLSH=number))
    [row] = page.findall("JGWJ")
    asked, nonce = made("JGTQ", SBLSH=number, WJBM=row.get("WJBM")), office.channel.nonce()
    request = office.channel.request("getResultFile", nonce, office.clock(), written(asked))
    opening = office.channel.opening("getResultFile", nonce)
    document = opening.update(await office.post("getResultFile", request)) + opening.finish()
    assert (len(document), digest(document)) == (int(row.get("WJDX")), row.get("WJZY"))
    assert NAME.encode() not in document
    office.order("result_gone")
    assert (await office.ask("getResultFile", asked))[0] == "410"
    assert (await office.ask("getResultFile", made("JGTQ", SBLSH=number, WJBM="JD02")))[0] == "404"


async def test_a_case_that_is_withdrawn_before_it_was_pulled_is_not_pulled(office: Office) -> None:
    office.order("no_pull", -1)
    await office.announce()
    withdrawal = _message("CHSQ", "m-1", CHSJ="2026-03-02 10:00:00", CHYY="不再需要")
    assert (await office.ask("sendWithdrawal", withdrawal))[0] == "200"
    assert await office.until("16") == ["16"]
    assert office.gateway.asked == []


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"SXBM": "11440100MBT40100XX3442011899999"}, "unknown-item"),
        ({"EXPRESSTYPE": "7"}, "schema"),
        ({"EXPRESSTYPE": "1"}, "schema"),
        ({"XXBH": "m-1"}, "schema"),
        ({"WWBH": "a b"}, "schema"),
        ({"XZQHDM": "441800"}, "schema"),
    ],
)
async def test_a_notice_that_is_not_as_agreed_is_a_definite_no(
    changed: Mapping[str, str], word: str, office: Office
) -> None:
    order = {"WWBH": CASE, "EXPRESSTYPE": "3", "SXBM": ITEM, "XZQHDM": "441800000", "XXBH": "", "CLSL": "2"}
    fields = {name: {**order, **changed}[name] for name in order if {**order, **changed}[name]}
    code, error = await office.ask("sendApplyNO", made("SBTZ", **fields))
    assert (code, error.get("DM")) == ("400", word)
    assert office.app[NOTEBOOK].entries("cases") == {}


async def test_a_message_about_a_case_that_it_does_not_hold_is_a_definite_no(office: Office) -> None:
    notice = made("SBTZ", WWBH=CASE, EXPRESSTYPE="1", XXBH="m-1", CLSL="0")
    assert (await office.ask("sendApplyNO", notice))[0] == "400"
    assert (await office.ask("queryApplyNO", made("SBCX", WWBH=CASE)))[0] == "404"
    assert (await office.ask("queryMessage", made("XXCX", WWBH=CASE, XXBH="m-1")))[0] == "404"


async def test_a_request_is_good_once_at_its_operation_and_in_its_time(office: Office) -> None:
    nonce = office.channel.nonce()
    assert (await office.ask("queryApplyNO", made("SBCX", WWBH=CASE), nonce=nonce))[0] == "404"
    assert (await office.ask("queryApplyNO", made("SBCX", WWBH=CASE), nonce=nonce))[0] == "409"
    for seconds in (-301, 301):
        late = office.channel.nonce()
        at = office.clock() + timedelta(seconds=seconds)
        body = office.channel.request("queryApplyNO", late, at, written(made("SBCX", WWBH=CASE)))
        assert office.channel.open_answer("queryApplyNO", late, await office.post("queryApplyNO", body))[0] == "409"
    other = office.channel.nonce()
    body = office.channel.request("queryApplyNO", other, office.clock(), written(made("SBCX", WWBH=CASE)))
    assert office.channel.open_answer("getNotice", other, await office.post("getNotice", body))[0] == "401"


@pytest.mark.parametrize("name", ["appId", "timestamp", "nonce", "xmlStr", "sign"])
async def test_a_request_that_was_altered_anywhere_is_refused(name: str, office: Office) -> None:
    body = office.channel.request(
        "queryApplyNO", office.channel.nonce(), office.clock(), written(made("SBCX", WWBH=CASE))
    )
    fields = dict(parse_qsl(body.decode()))
    for value in ("", "x", fields[name][:-1] + ("1" if fields[name][-1] != "1" else "2")):
        altered = urlencode({**fields, name: value}).encode()
        assert b"<code>401</code>" in await office.post("queryApplyNO", altered)


@pytest.mark.parametrize("document", [b"<SBCX", b"<!DOCTYPE a><SBCX><WWBH>1</WWBH></SBCX>", b"\xff\xff", b"<TZCX/>"])
async def test_what_cannot_be_read_is_a_definite_no(document: bytes, office: Office) -> None:
    assert (await office.ask("queryApplyNO", document))[0] == "400"
    assert (await office.ask("noSuchThing", made("SBCX", WWBH=CASE)))[0] == "400"


def test_keys_of_another_length_are_none(tmp_path: Path) -> None:
    settings = AuthoritySettings("qingyuan", "", tmp_path / "a.db", {"sm4_key": b"00", "mac_key": b"00"}, [], [])
    with pytest.raises(ValueError, match="16 bytes"):
        build_authority(settings, lambda: datetime.now(UTC))


# --- certificates --------------------------------------------------------------------------------------------------


def named(identifier: str = "1.2.156", purpose: str = "核验") -> etree._Element:
    asked = made("ZZQQ", ZZBS=identifier, YZSY=purpose, YZDW="单位", YZRY="W1", SX="事项", BJBH="KY1")
    asked.set("BBH", "1.0")
    asked.find("SX").set("SXBM", ITEM)  # type: ignore[union-attr]  # it was made a line above
    return asked


async def answer_to(office: Office, operation: str, asked: etree._Element) -> tuple[str, Any]:
    """Leave a question, ask for its answer twice, and return the number of the question and the answer."""
    _, taken = await office.ask(operation, asked)
    question = made("CXJG", CXBH=text_of(taken, "CXBH"))
    assert (await office.ask("getLicenseData", question))[0] == "202"
    return text_of(taken, "CXBH"), (await office.ask("getLicenseData", question))[1]


@pytest.mark.parametrize(
    ("asked", "status", "certificates"),
    [(named(), "0", 1), (named("1.2.157"), "10", 0), (named(purpose=""), "12", 0)],
    ids=["issued", "not issued", "no purpose"],
)
async def test_one_certificate_is_told_of_whoever_says_what_it_is_needed_for(
    office: Office, asked: etree._Element, status: str, certificates: int
) -> None:
    _, answer = await answer_to(office, "postLicenseRequest", asked)
    assert (text_of(answer, "ZT"), len(answer.findall("ZZ"))) == (status, certificates)
    assert [each.text for each in answer.iter("ZMX")] == ["测试路1号"] * certificates


async def test_a_file_lies_there_once_it_was_announced_and_for_no_other_question(office: Office) -> None:
    number, answer = await answer_to(office, "postLicenseFile", named())
    (announced,) = answer.findall("ZZWJ")
    nonce = office.channel.nonce()
    asked = written(made("CXJG", CXBH=number))
    body = office.channel.request("getLicenseFile", nonce, office.clock(), asked)
    opening = office.channel.opening("getLicenseFile", nonce)
    content = opening.update(await office.post("getLicenseFile", body)) + opening.finish()
    assert digest(content) == announced.get("WJZY")
    of_data, _ = await answer_to(office, "postLicenseRequest", named())
    assert (await office.ask("getLicenseFile", made("CXJG", CXBH=of_data)))[0] == "404"
    assert (await office.ask("getLicenseFile", made("CXJG", CXBH="CX9")))[0] == "404"


async def test_there_is_no_file_of_what_is_not_in_force(office: Office) -> None:
    async with office.client.post("/control/certificates", json={"identifier": "1.2.156", "state": "revoked"}) as done:
        assert (await done.json())["told"] == []
    number, answer = await answer_to(office, "postLicenseFile", named())
    assert (text_of(answer, "ZT"), answer.findall("ZZWJ")) == ("21", [])
    assert (await office.ask("getLicenseFile", made("CXJG", CXBH=number)))[0] == "404"
