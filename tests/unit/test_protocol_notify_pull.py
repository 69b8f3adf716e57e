"""Our side of the exchange machine's wire: what leaves, what is believed of what comes back, and what a code means.

The far side seals and opens with the simulated machine's own reading of the page; the vector is the page's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import gmalg
import pytest
from aiohttp import web
from lxml import etree

from adapters.qingyuan.sandbox_wire import Keys, answer, element, lines, open_request, request, seal, seal_file, write
from gateway.config import HOUSE
from gateway.errors import (
    ForgedCallback,
    InvalidRequest,
    MappingFailed,
    NotFound,
    NotOffered,
    RegionRefused,
    RegionUncertain,
    RegionUnreachable,
    ReplayedCallback,
    StartRefused,
)
from gateway.ports import Callback, CaseMessage, ResultDocument
from gateway.protocols.notify_pull import (
    PullCatalogue,
    PullCertificates,
    PullFeed,
    PullMessages,
    PullPickups,
    PullResults,
    PullSubmissions,
    open_client,
)
from gateway.protocols.notify_pull_wire import Channel, PullClient, document_of, written
from tests.unit.protocol_support import NOW, Seen, closed_port, far_side, kit, material, order

SM4, MAC = "0123456789abcdeffedcba9876543210", bytes(range(32)).hex()
KEYS = Keys(bytes.fromhex(SM4), bytes.fromhex(MAC))
SETTINGS = {"app_id": "PEARL", "peer_id": "QYQZJ", "answer_poll_seconds": 0.01}
SECRETS = {"sm4_key": SM4.encode(), "mac_key": MAC.encode()}
CASE = write(
    etree.fromstring(
        "<SBXX><WWBH>s-1</WWBH><SX SXBM='I-1'>事项</SX><GXDXZQHDM>441800000</GXDXZQHDM>"
        "<SQR><SQRMC>测试甲</SQRMC></SQR></SBXX>"
    )
)
RECEIPT = element("JSHZ", WWBH="s-1", SBLSH="44180020231115000001", JSSJ="2023-11-15 06:13:20")

Works = Callable[[etree._Element], tuple[str, etree._Element]]


@dataclass
class Machine:
    """A machine that answers by script, and remembers the documents that it got, by operation."""

    works: Mapping[str, Any]
    got: list[tuple[str, etree._Element]] = field(default_factory=list)
    nonces: list[str] = field(default_factory=list)

    def __call__(self, seen: Seen) -> web.Response:
        operation = seen.path.rpartition("/")[2]
        message = open_request(KEYS, operation, seen.body, NOW)
        self.got.append((operation, message.document))
        self.nonces.append(message.nonce)
        scripted = self.works[operation]
        told = scripted.pop(0) if isinstance(scripted, list) else scripted
        told = told(message.nonce) if callable(told) else told
        if isinstance(told, web.Response):
            return told
        code, document = told
        return web.Response(body=answer(KEYS, operation, message.nonce, code, document), content_type="text/xml")


@asynccontextmanager
async def talking(seconds: float = 5.0, **works: Any) -> AsyncIterator[tuple[PullClient, Machine]]:
    machine = Machine(works)
    async with (
        far_side(machine) as (_, url),
        kit(url, region="qingyuan", settings=SETTINGS, secrets=SECRETS, seconds=seconds) as lent,
    ):
        yield open_client(lent, "/exchange"), machine


def error(word: str = "schema", text: str = "SXBM: 测试甲 44010619900101900X") -> etree._Element:
    made = etree.Element("CW", DM=word)
    made.text = text
    return made


# --- the page's vector ---------------------------------------------------------------------------------------------


def vector() -> tuple[str, str]:
    page = (HOUSE / "adapters/qingyuan/README.md").read_text(encoding="utf-8")
    xml, sign = (re.search(rf"^{name} +(\S+)$", page, re.MULTILINE) for name in ("xmlStr", "sign"))
    assert xml is not None
    assert sign is not None
    return xml[1], sign[1]


def channel() -> Channel:
    tokens = iter(range(10**6))
    return Channel(KEYS.sm4 + KEYS.mac, "PEARL", "QYQZJ", lambda: f"token-{next(tokens)}")


def form(**changed: str) -> bytes:
    """Return the page's request as a form."""
    xml, sign = vector()
    fields = {"appId": "QYQZJ", "timestamp": "1700000000000", "nonce": "0123456789abcdef", "xmlStr": xml, "sign": sign}
    return urlencode({**fields, **changed}).encode()


def pull(body: bytes, operation: str = "getApplyInfo", **changed: Any) -> Callback:
    fields = {"method": "POST", "path": f"/callbacks/qingyuan/{operation}", "received_at": NOW, **changed}
    return Callback(headers={}, body=body, **fields)


PICKUPS = PullPickups(channel(), "qingyuan")


def test_a_third_implementation_makes_the_vector_of_the_page() -> None:
    """Held against gmalg: SM4 in CBC with PKCS #7 padding, and HMAC (RFC 2104) over SM3, block by block."""
    plain, iv, xml, sign = b"<TQ><WWBH>KY43010044180020260310000001G</WWBH></TQ>", bytes(range(16, 32)), *vector()
    padded = plain + bytes([16 - len(plain) % 16]) * (16 - len(plain) % 16)
    blocks, cipher = [iv], gmalg.SM4(KEYS.sm4)
    for at in range(0, len(padded), 16):
        blocks.append(cipher.encrypt(bytes(a ^ b for a, b in zip(padded[at : at + 16], blocks[-1], strict=True))))
    bound = b"request\nQYQZJ\ngetApplyInfo\n1700000000000\n0123456789abcdef"
    inner, outer = (bytes(byte ^ pad for byte in KEYS.mac.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    tag = _sm3(outer + _sm3(inner + len(bound).to_bytes(8, "big") + bound + b"".join(blocks)))
    assert (base64.b64encode(b"".join(blocks)).decode(), tag.hex()) == (xml, sign)


def _sm3(data: bytes) -> bytes:
    digest = gmalg.SM3()
    digest.update(data)
    return bytes(digest.value())


async def test_the_request_of_the_page_is_read() -> None:
    asked = await PICKUPS.read(pull(form()))
    assert (asked.submission_id, asked.nonce) == ("KY43010044180020260310000001G", "0123456789abcdef")
    assert not asked.wants_material
    assert asked.nonce_expires > NOW + timedelta(seconds=300)


# --- notices -------------------------------------------------------------------------------------------------------


async def test_a_notice_says_the_number_and_nothing_of_the_person() -> None:
    async with talking(sendApplyNO=("200", RECEIPT)) as (client, machine):
        receipt = await PullSubmissions(client).submit(order(CASE, material(), material()))
    assert document_of(receipt).findtext("SBLSH") == "44180020231115000001"  # type: ignore[arg-type] # a receipt is XML
    ((operation, notice),) = machine.got
    assert operation == "sendApplyNO"
    assert {child.tag: child.text for child in notice} == {
        "WWBH": "s-1", "EXPRESSTYPE": "3", "SXBM": "I-1", "XZQHDM": "441800000", "CLSL": "2"
    }  # fmt: skip


async def test_a_machine_that_holds_no_notice_says_so_and_is_believed() -> None:
    async with talking(queryApplyNO=[("404", error("unknown-case")), ("200", RECEIPT)]) as (client, _):
        submissions = PullSubmissions(client)
        assert await submissions.ask("s-1") is None
        assert await submissions.ask("s-1") is not None


async def test_every_request_has_a_nonce_of_its_own() -> None:
    async with talking(queryApplyNO=("200", RECEIPT)) as (client, machine):
        for _ in range(3):
            await PullSubmissions(client).ask("s-1")
    assert len(set(machine.nonces)) == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("400", RegionRefused),
        ("401", RegionUnreachable),
        ("409", RegionUnreachable),
        ("503", RegionUnreachable),
        ("500", RegionUncertain),
        ("404", RegionUncertain),
        ("202", RegionUncertain),
        ("999", RegionUncertain),
    ],
)
async def test_what_a_code_says_of_the_outcome(code: str, kind: type[Exception]) -> None:
    async with talking(sendApplyNO=(code, error())) as (client, _):
        with pytest.raises(kind) as raised:
            await PullSubmissions(client).submit(order(CASE))
    said = f"{raised.value} {getattr(raised.value, 'detail', '')}"
    assert "测试甲" not in said
    assert "44010619900101900X" not in said


async def test_an_answer_that_the_machine_did_not_seal_for_this_question_is_no_word_of_it() -> None:
    """Altered, sealed for another operation or nonce, with another code, as an echo of ours, or not at all."""

    def forged(seen: Seen) -> list[bytes]:
        fields = dict(parse_qsl(seen.body.decode()))
        nonce = fields["nonce"]
        right = answer(KEYS, "queryApplyNO", nonce, "404", error())
        echoed = element("result", code="404", data=fields["xmlStr"], sign=fields["sign"])
        data, sign = seal(KEYS, lines("answer", "PEARL", "queryApplyNO", nonce, "404"), write(error()))
        return [
            right.replace(b"<code>404", b"<code>200"),
            right.replace(b"</data>", b"AAAA</data>"),
            answer(KEYS, "sendApplyNO", nonce, "404", error()),
            answer(KEYS, "queryApplyNO", "another-nonce-000", "404", error()),
            answer(Keys(KEYS.sm4, bytes(32)), "queryApplyNO", nonce, "404", error()),
            write(echoed),
            write(element("result", code="404", data=data, sign=sign)),
            write(element("result", code="404")),
            b"<html>404 not found</html>",
            b'<!DOCTYPE a [<!ENTITY b "c">]><result><code>404</code></result>',
            b"\xff\xfe\x00",
            b"",
        ]

    for number in range(12):
        async with (
            far_side(lambda seen, n=number: web.Response(body=forged(seen)[n])) as (_, url),  # type: ignore[misc] # mypy knows no default in a lambda
            kit(url, region="qingyuan", settings=SETTINGS, secrets=SECRETS) as lent,
        ):
            with pytest.raises(RegionUncertain):
                await PullSubmissions(open_client(lent, "/exchange")).ask("s-1")


async def test_an_error_page_around_a_right_answer_is_uncertain() -> None:
    async with talking(sendApplyNO=web.Response(status=502, body=b"bad gateway")) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullSubmissions(client).submit(order(CASE))


async def test_a_receipt_for_another_case_is_uncertain() -> None:
    other = element("JSHZ", WWBH="s-2", SBLSH="1", JSSJ="2023-11-15 06:13:20")
    async with talking(sendApplyNO=("200", other), queryApplyNO=("200", other)) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullSubmissions(client).submit(order(CASE))
        with pytest.raises(RegionUncertain):
            await PullSubmissions(client).ask("s-1")


async def test_a_pack_that_makes_json_is_told_before_anything_is_sent() -> None:
    async with talking() as (client, machine):
        with pytest.raises(MappingFailed):
            await PullSubmissions(client).submit(order({"a": 1}))
    assert machine.got == []


async def test_a_machine_that_is_not_there_took_nothing() -> None:
    async with kit(closed_port(), region="qingyuan", settings=SETTINGS, secrets=SECRETS) as lent:
        with pytest.raises(RegionUnreachable):
            await PullSubmissions(open_client(lent, "/exchange")).submit(order(CASE))


# --- messages ------------------------------------------------------------------------------------------------------

TAKEN = element("XXHZ", WWBH="s-1", XXBH="m-1", JSSJ="2023-11-15 06:13:20")


def message(kind: str, document: bytes = b"<CHSQ/>") -> CaseMessage:
    return CaseMessage("m-1", kind, "s-1", "4418", document, [material()])


async def test_a_supplement_is_announced_and_a_withdrawal_and_a_rating_are_sent() -> None:
    taken = ("200", TAKEN)
    async with talking(sendApplyNO=taken, sendWithdrawal=taken, sendEvaluation=taken) as (client, machine):
        for kind in ("supplement", "withdrawal", "rating"):
            await PullMessages(client).send(message(kind))
    assert [operation for operation, _ in machine.got] == ["sendApplyNO", "sendWithdrawal", "sendEvaluation"]
    assert {child.tag: child.text for child in machine.got[0][1]} == {
        "WWBH": "s-1", "EXPRESSTYPE": "1", "XXBH": "m-1", "CLSL": "1"
    }  # fmt: skip
    assert machine.got[1][1].tag == "CHSQ"


async def test_a_kind_that_the_wire_has_not_is_not_sent() -> None:
    async with talking() as (client, machine):
        with pytest.raises(NotOffered):
            await PullMessages(client).send(message("complaint"))
    assert machine.got == []


async def test_a_machine_says_whether_it_has_a_message() -> None:
    other = element("XXHZ", WWBH="s-1", XXBH="m-2", JSSJ="2023-11-15 06:13:20")
    answers = [("200", TAKEN), ("404", error("unknown-message")), ("200", other)]
    async with talking(queryMessage=answers) as (client, _):
        messages = PullMessages(client)
        assert await messages.holds(message("rating"))
        assert not await messages.holds(message("rating"))
        with pytest.raises(RegionUncertain):
            await messages.holds(message("rating"))


# --- pages ---------------------------------------------------------------------------------------------------------


def page(name: str, item: str, following: str, *texts: str) -> etree._Element:
    made = etree.Element(name)
    for number, text in enumerate(texts, start=1):
        etree.SubElement(made, item, XH=str(number)).text = text
    etree.SubElement(made, "XYG").text = following
    return made


async def test_reports_are_polled_from_a_number_on() -> None:
    answers = [("200", page("TZLB", "TZ", "2", "SJBH=1&BZ=%B2%E2", "SJBH=2")), ("200", page("TZLB", "TZ", "2"))]
    async with talking(getNotice=answers) as (client, machine):
        first = await PullFeed(client).poll("")
        second = await PullFeed(client).poll(first.cursor)
    assert (first.events, first.cursor) == ([b"SJBH=1&BZ=%B2%E2", b"SJBH=2"], "2")
    assert (second.events, second.cursor) == ([], "2")
    assert [(asked.findtext("XH"), asked.findtext("TS")) for _, asked in machine.got] == [("0", "200"), ("2", "200")]


@pytest.mark.parametrize("following", ["", "x", "-1", "3", "9" * 30], ids=["none", "word", "minus", "back", "long"])
async def test_a_list_that_does_not_go_on_is_uncertain(following: str) -> None:
    async with talking(getNotice=("200", page("TZLB", "TZ", following))) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullFeed(client).poll("5")


async def test_a_catalogue_is_read_page_by_page_until_one_is_empty() -> None:
    files = [base64.b64encode(text.encode("gb18030")).decode() for text in ("事项编码\n1\n", "事项编码\n2\n")]
    answers = [
        ("200", page("SXLB", "SXWJ", "1", files[0])),
        ("200", page("SXLB", "SXWJ", "2", files[1])),
        ("200", page("SXLB", "SXWJ", "2")),
    ]
    async with talking(getItemFile=answers) as (client, _):
        items = await PullCatalogue(client).items()
    assert [item.decode("gb18030") for item in items if isinstance(item, bytes)] == ["事项编码\n1\n", "事项编码\n2\n"]


@pytest.mark.parametrize(
    "told", [page("SXLB", "SXWJ", "1", "*"), page("SXLB", "SXWJ", "0", "QQ==")], ids=["no base64", "no end"]
)
async def test_a_catalogue_that_cannot_be_read_is_not_half_a_one(told: etree._Element) -> None:
    async with talking(getItemFile=("200", told)) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullCatalogue(client).items()


# --- documents of a decision ---------------------------------------------------------------------------------------

NUMBER = "44180020231115000001"
DECISION = b"%PDF-1.4 decision" * 9_000
DIGEST = hashlib.sha256(DECISION).hexdigest()
DOCUMENT = ResultDocument("JD01", "决定书.pdf", "application/pdf", len(DECISION), DIGEST)


def listed(number: str = NUMBER, **changed: str) -> etree._Element:
    about = {"WJBM": "JD01", "WJLX": "application/pdf", "WJDX": str(len(DECISION)), "WJZY": DIGEST.upper(), **changed}
    name = about.pop("name", "决定书.pdf")
    made = element("JGLB", SBLSH=number)
    etree.SubElement(made, "JGWJ", about).text = name
    return made


async def fetched(told: Any) -> bytes:
    async with talking(getResultFile=told) as (client, machine):
        try:
            return b"".join([piece async for piece in await PullResults(client).open(NUMBER, DOCUMENT)])
        finally:
            [(_, asked)] = machine.got
            assert (asked.findtext("SBLSH"), asked.findtext("WJBM")) == (NUMBER, "JD01")


def handing(
    content: bytes = DECISION, *, operation: str = "getResultFile", nonce: str = "", end: bytes | None = None
) -> Callable[[str], web.Response]:
    """Return what seals a file for the request that comes; `end` takes the place of its last byte."""

    def hand(asked: str) -> web.Response:
        sealed = seal_file(KEYS, operation, nonce or asked, content)
        sealed = sealed if end is None else sealed[:-1] + end
        return web.Response(body=sealed, content_type="application/octet-stream")

    return hand


async def test_documents_are_listed_with_the_digest_that_they_must_have() -> None:
    async with talking(getResultList=[("200", listed()), ("200", element("JGLB", SBLSH=NUMBER))]) as (client, _):
        assert await PullResults(client).list(NUMBER) == [DOCUMENT]
        assert await PullResults(client).list(NUMBER) == []


@pytest.mark.parametrize(
    "told",
    [listed("44180020231115000002"), listed(WJBM="../x"), listed(WJBM=""), listed(WJDX="0"), listed(WJDX="-1"),
     listed(WJZY="zz"), listed(WJLX=""), listed(name=" "), element("TZLB")],
)  # fmt: skip
async def test_a_list_of_documents_that_cannot_be_read_is_no_list(told: etree._Element) -> None:
    async with talking(getResultList=("200", told)) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullResults(client).list(NUMBER)


async def test_a_case_that_the_machine_does_not_hold_is_a_definite_no() -> None:
    """Not a case without documents: for good nothing would be fetched."""
    async with talking(getResultList=("404", error("unknown-case"))) as (client, _):
        with pytest.raises(RegionRefused):
            await PullResults(client).list(NUMBER)


async def test_a_document_is_opened_as_it_comes() -> None:
    assert await fetched(handing()) == DECISION


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(handing(end=b""), id="cut"),
        pytest.param(handing(end=b"\0\0"), id="too long"),
        pytest.param(handing(DECISION + b"X" * 16), id="another size"),
        pytest.param(handing(DECISION[:-1]), id="another size that is as long when it is sealed"),
        pytest.param(handing(nonce="0123456789abcdef"), id="for another request"),
        pytest.param(handing(operation="getMaterial"), id="for another operation"),
        pytest.param(web.Response(body=DECISION), id="not sealed"),
        pytest.param(web.Response(text="<result/>", content_type="text/xml"), id="a page of something on the way"),
        pytest.param(("500", error("internal")), id="a fault"),
    ],
)
async def test_what_the_machine_did_not_seal_for_this_question_is_no_document(told: Any) -> None:
    with pytest.raises(RegionUncertain):
        await fetched(told)


@pytest.mark.parametrize(("code", "word"), [("404", "unknown-document"), ("410", "gone")])
async def test_a_document_that_is_not_there_or_no_longer_is_a_definite_no(code: str, word: str) -> None:
    """The reason says which of the two it is."""
    with pytest.raises(RegionRefused, match=word):
        await fetched((code, error(word, "no such document")))


async def test_a_document_that_does_not_come_in_time_is_fetched_another_time() -> None:
    never = asyncio.Event()

    async def slow(_seen: Seen) -> web.Response:
        await never.wait()
        return web.Response()

    async with (
        far_side(slow) as (_, url),
        kit(url, region="qingyuan", settings=SETTINGS, secrets=SECRETS, seconds=0.1) as lent,
    ):
        with pytest.raises(RegionUncertain, match="did not answer in time"):
            await PullResults(open_client(lent, "/exchange")).open(NUMBER, DOCUMENT)
        never.set()


# --- certificates --------------------------------------------------------------------------------------------------

QUERY = write(etree.fromstring("<ZZCX BBH='1.0'><CZZT>测试甲</CZZT></ZZCX>"))
ASKED = ("200", element("CXHZ", CXBH="CX1"))


async def test_an_answer_is_asked_for_until_it_is_there() -> None:
    found = element("ZZJG", element("ZZ", ZZMC="测试证照"), ZT="0", XX="测试甲 成功")
    answers = [("202", element("CW")), ("202", element("CW")), ("200", found)]
    async with talking(postLicenseQuery=ASKED, getLicenseData=answers) as (client, machine):
        reply = await PullCertificates(client).lookup(QUERY)
    assert (reply.status, reply.message) == ("0", "*** 成功")
    (certificate,) = reply.certificates
    assert isinstance(certificate, bytes)
    assert document_of(certificate).findtext("ZZMC") == "测试证照"
    assert [asked.findtext("CXBH") for operation, asked in machine.got if operation == "getLicenseData"] == ["CX1"] * 3


async def test_an_answer_that_does_not_come_in_time_is_uncertain() -> None:
    """The gateway says unverifiable then, and never that there is no such certificate."""
    async with talking(0.3, postLicenseQuery=ASKED, getLicenseData=("202", element("CW"))) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullCertificates(client).lookup(QUERY)


@pytest.mark.parametrize(
    "told",
    [("404", error()), ("200", element("ZZJG", ZT="0", XX="")), ("200", element("ZZJG", XX="")), ("200", RECEIPT)],
    ids=["unknown question", "found nothing", "no status", "another answer"],
)
async def test_an_answer_that_says_nothing_is_uncertain(told: tuple[str, etree._Element]) -> None:
    async with talking(postLicenseQuery=ASKED, getLicenseData=told) as (client, _):
        with pytest.raises(RegionUncertain):
            await PullCertificates(client).lookup(QUERY)


# --- pulls ---------------------------------------------------------------------------------------------------------


def sealed(operation: str, document: etree._Element, *, nonce: str = "nonce-0123456789") -> Callback:
    return pull(request(KEYS, operation, nonce, NOW, document), operation)


async def test_a_material_is_asked_for_by_digest_or_code_also_of_a_supplement() -> None:
    asked = await PICKUPS.read(sealed("getMaterial", element("CLTQ", WWBH="s-1", XXBH="m-1", WJZY="A" * 64)))
    assert (asked.message_id, asked.material_sha256, asked.wants_material) == ("m-1", "a" * 64, True)
    asked = await PICKUPS.read(sealed("getMaterial", element("CLTQ", WWBH="s-1", CLBM="M01")))
    assert (asked.message_id, asked.material_code) == ("", "M01")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"appId=QYQZJ",
        form(appId="PEARL"),
        form(appId="OTHER"),
        form(timestamp="1700000000001"),
        form(nonce="0123456789abcdeg"),
        form(nonce="short"),
        form(sign="0" * 64),
        form(sign=""),
        form(xmlStr=""),
        form(xmlStr="%%%"),
        form() + b"&nonce=0123456789abcdef",
        form() + b"&more=1",
    ],
)
async def test_what_the_machine_did_not_seal_is_forged(body: bytes) -> None:
    with pytest.raises(ForgedCallback):
        await PICKUPS.read(pull(body))


async def test_what_we_sealed_ourselves_is_not_taken_back() -> None:
    """A request of ours, sent back to us: it is bound to who sent it."""
    body = channel().request("getApplyInfo", "nonce-0123456789", NOW, written(element("TQ", WWBH="s-1")))
    for changed in (body, body.replace(b"appId=PEARL", b"appId=QYQZJ")):
        with pytest.raises(ForgedCallback):
            await PICKUPS.read(pull(changed))


async def test_a_pull_counts_at_its_own_address_in_its_own_time_and_posted() -> None:
    with pytest.raises(NotFound):
        await PICKUPS.read(pull(form(), path="/callbacks/foshan/getApplyInfo"))
    with pytest.raises(ForgedCallback):
        await PICKUPS.read(pull(form(), path="/callbacks/qingyuan/getMaterial"))
    with pytest.raises(ReplayedCallback):
        await PICKUPS.read(pull(form(), received_at=NOW + timedelta(seconds=301)))
    with pytest.raises(InvalidRequest):
        await PICKUPS.read(pull(form(), method="PUT"))


@pytest.mark.parametrize(
    "text", ["<TQ/>", "<CLTQ><WWBH>1</WWBH></CLTQ>", "<TQ", "<!DOCTYPE TQ><TQ><WWBH>1</WWBH></TQ>", ""]
)
async def test_a_sealed_document_that_asks_for_nothing_is_told_so(text: str) -> None:
    data, sign = seal(
        KEYS, lines("request", "QYQZJ", "getApplyInfo", "1700000000000", "nonce-0123456789"), text.encode()
    )
    with pytest.raises(InvalidRequest):
        await PICKUPS.read(pull(form(nonce="nonce-0123456789", xmlStr=data, sign=sign)))


# --- opening -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "secrets", "named"),
    [
        ({}, {"sm4_key": b"00"}, "sm4_key"),
        ({}, {"sm4_key": b"x" * 32}, "sm4_key"),
        ({}, {"mac_key": SM4.encode()}, "mac_key"),
        ({"app_id": ""}, {}, "app_id"),
        ({"app_id": "a\nb"}, {}, "app_id"),
        ({"peer_id": "PEARL"}, {}, "peer_id"),
        ({"answer_poll_seconds": 0}, {}, "answer_poll_seconds"),
        ({"answer_poll_seconds": True}, {}, "answer_poll_seconds"),
        ({"answer_poll_seconds": "1"}, {}, "answer_poll_seconds"),
    ],
)
async def test_what_cannot_be_worked_with_refuses_the_start(
    settings: dict[str, Any], secrets: dict[str, bytes], named: str
) -> None:
    async with kit("http://x", settings={**SETTINGS, **settings}, secrets={**SECRETS, **secrets}) as lent:
        with pytest.raises(StartRefused, match=named):
            open_client(lent, "/exchange")


def test_keys_do_not_show_when_a_channel_is_printed() -> None:
    assert SM4[:8] not in repr(channel())
    assert repr(KEYS.sm4) not in repr(channel())
