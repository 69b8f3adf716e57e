"""The case exchange against a far side that is written out here from docs/province-exchange.md."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from gateway.crypto import sm2, sm_keys
from gateway.errors import RegionCannotBeAsked, RegionRefused, RegionUncertain, RegionUnreachable, StartRefused
from gateway.ports import CaseMessage, Material, ResultDocument
from gateway.protocols.province import ProvinceExchange, open_exchange
from gateway.protocols.province_wire import MAX_MATERIAL
from gateway.protocols.wire import Wire
from tests.unit.protocol_support import NOW, Seen, far_side, kit, material, order
from tests.unit.province_support import CASES, certificate, exchange, given, key

MOMENT = int(NOW.timestamp() * 1000)
CASE = {"applyNo": "s-1", "applicantName": "陈大文", "applicantCode": "44010619900101900X"}
RECEIPT = {"applyNo": "s-1", "projectNo": "43000020260310000001", "receiveTime": "2026-03-10 09:30:00"}
MESSAGE = CaseMessage("KYM1", "withdrawal", "s-1", "43", {"messageNo": "KYM1", "withdrawReason": "陈大文不再需要"})

Answer = Callable[[Seen], web.Response]


# --- the far side ------------------------------------------------------------------------------------------------


def body_of(data: Any, status: str = "0", message: str = "") -> bytes:
    return json.dumps({"head": {"status": status, "message": message}, "data": data}).encode()


def signed(seen: Seen, body: bytes, **wrong: Any) -> web.Response:
    """Answer with the province's signature; `wrong` says what is not as it should be."""
    stamp = {
        "key": certificate(wrong.get("named", "province")).fingerprint(hashes.SHA256()).hex(),
        "time": str(MOMENT + wrong.get("late", 0)),
        "nonce": wrong.get("nonce", seen.headers["X-Pearl-Nonce"]),
        "digest": hashlib.sha256(body).hexdigest(),
    }
    lines = ["PEARL-PROVINCE-1 ANSWER", seen.method, wrong.get("path", seen.path), *stamp.values()]
    der = key(wrong.get("by", "province")).sign("\n".join(lines).encode(), ec.ECDSA(hashes.SHA256()))
    sign = b"".join(number.to_bytes(32) for number in decode_dss_signature(der))
    headers = {f"X-Pearl-{name}": value for name, value in stamp.items()}
    headers["X-Pearl-Sign"] = wrong.get("sign", base64.b64encode(sign).decode())
    for name in wrong.get("without", ()):
        del headers[name]
    return web.Response(body=wrong.get("sent", body), headers=headers, status=wrong.get("http", 200))


def says(data: Any, status: str = "0", message: str = "") -> Answer:
    return lambda seen: signed(seen, body_of(data, status, message))


@asynccontextmanager
async def province(answer: Answer, **changed: Any) -> AsyncIterator[tuple[ProvinceExchange, list[Seen]]]:
    async with far_side(answer) as (far, url), exchange(url, **changed) as opened:
        yield opened, far.seen


# --- signatures --------------------------------------------------------------------------------------------------


async def test_body_time_address_and_grant_are_signed() -> None:
    async with province(says(RECEIPT)) as (opened, seen):
        assert await opened.submissions.submit(order(CASE)) == RECEIPT
    sent = seen[0]
    named = [sent.headers[f"X-Pearl-{name}"] for name in ("Key", "Time", "Nonce", "Digest")]
    key_id, said, nonce, digest = named
    assert (sent.method, sent.path, key_id, said) == ("POST", "/x/exchange", "gateway-cases", str(MOMENT))
    assert digest == hashlib.sha256(sent.body).hexdigest()
    text = "\n".join(["PEARL-PROVINCE-1 REQUEST", "POST", "/x/exchange", key_id, "grant", said, nonce, digest])
    raw = base64.b64decode(sent.headers["X-Pearl-Sign"])
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    key("gateway").public_key().verify(der, text.encode(), ec.ECDSA(hashes.SHA256()))
    head = {
        "servicecode": "applyExchange",
        "interfaceName": "sendApply",
        "grantcode": "grant",
        "systemName": "泛珠通办网关",
        "deptCode": "11440100MBT40100XX",
    }
    assert json.loads(sent.body) == {"head": head, "data": CASE}


def test_the_vectors_of_the_page_hold() -> None:
    """Whoever writes the province's side tries theirs against these."""
    body = b'{"head":{"servicecode":"applyExchange"},"data":{"applyNo":"KY1"}}'
    digest = hashlib.sha256(body).hexdigest()
    stamp = ["gateway-cases", "grant", "1700000000000", "0123456789abcdef" * 2, digest]
    text = "\n".join(["PEARL-PROVINCE-1 REQUEST", "POST", "/gsp/pearl", *stamp]).encode()
    with open("docs/province-exchange.md", encoding="utf-8") as page:
        words = page.read()
    assert f"`{digest}`" in words
    assert f"`{hashlib.sha256(text).hexdigest()}`" in words
    sign = words.partition("usual id | `")[2].partition("`")[0]
    secret = sm_keys.read_private(b"3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
    assert secret.public.verify(text, base64.b64decode(sign), "raw", sm2.DEFAULT_ID)


HOSTILE: dict[str, Answer] = {
    "unsigned": lambda seen: web.Response(body=body_of(RECEIPT)),
    "one header missing": lambda seen: signed(seen, body_of(RECEIPT), without=["X-Pearl-Time"]),
    "signed by somebody else": lambda seen: signed(seen, body_of(RECEIPT), by="stranger"),
    "under a key that is not pinned": lambda seen: signed(seen, body_of(RECEIPT), by="stranger", named="stranger"),
    "under a certificate that is over": lambda seen: signed(seen, body_of(RECEIPT), by="retired", named="retired"),
    "to another question": lambda seen: signed(seen, body_of(RECEIPT), nonce="0" * 32),
    "to another address": lambda seen: signed(seen, body_of(RECEIPT), path="/x/files"),
    "an hour late": lambda seen: signed(seen, body_of(RECEIPT), late=-3_600_000),
    "an hour early": lambda seen: signed(seen, body_of(RECEIPT), late=3_600_000),
    "changed on the way": lambda seen: signed(seen, body_of(RECEIPT), sent=body_of({**RECEIPT, "projectNo": "9"})),
    "signature of zeros": lambda seen: signed(seen, body_of(RECEIPT), sign=base64.b64encode(bytes(64)).decode()),
    "signature that is none": lambda seen: signed(seen, body_of(RECEIPT), sign="???"),
    "not HTTP 200": lambda seen: signed(seen, body_of(RECEIPT), http=500),
    "signed garbage": lambda seen: signed(seen, b"\x00\xff"),
    "signed, and no head": lambda seen: signed(seen, b'{"data": {}}'),
    "too big": lambda seen: signed(seen, body_of({**RECEIPT, "padding": "0" * (2 << 20)})),
    "for another case": says({**RECEIPT, "applyNo": "s-2"}),
    "with a status that nobody knows": says({}, "99"),
}


@pytest.mark.parametrize("how", HOSTILE)
async def test_an_answer_that_proves_nothing_leaves_the_outcome_open(how: str) -> None:
    """Neither a yes nor a no: somebody else may have written it, and the case may be there all the same."""
    async with province(HOSTILE[how]) as (opened, _):
        with pytest.raises(RegionUncertain):
            await opened.submissions.submit(order(CASE))
        with pytest.raises(RegionUncertain):
            await opened.submissions.ask("s-1")


# --- statuses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["12", "14", "15", "17", "19", "100"])
async def test_a_definite_no_names_the_fields_and_no_person(status: str) -> None:
    """Nor our grant code, which some like to repeat as well."""
    told = {"fieldList": [{"field": "applicantCode", "reason": "44010619900101900X 有误 grant"}]}
    async with province(says(told, status, "陈大文的申请不受理：grant")) as (opened, _):
        with pytest.raises(RegionRefused) as refused:
            await opened.submissions.submit(order(CASE))
    said = f"{refused.value} {refused.value.detail} {refused.value.problems}"
    assert "陈大文" not in said
    assert "44010619900101900X" not in said
    assert "grant" not in said
    assert [problem.field for problem in refused.value.problems] == ["applicantCode"]


@pytest.mark.parametrize("status", ["11", "50"])
async def test_a_province_that_did_not_take_it_is_unreachable(status: str) -> None:
    """Our key is unknown, or they are busy: the same message may go again later."""
    async with province(says({}, status)) as (opened, _):
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: opened.submissions.submit(order(CASE)),
            lambda: opened.submissions.ask("s-1"),
            lambda: opened.messages.send(MESSAGE),
            lambda: opened.certificates.lookup({"certificateHolderTypeCode": "111"}),
            lambda: opened.feed.poll(""),
        ]
        for call in calls:
            with pytest.raises(RegionUnreachable):
                await call()


async def test_only_their_own_word_says_that_a_case_is_not_there() -> None:
    async with province(says({}, "10")) as (opened, _):
        assert await opened.submissions.ask("s-1") is None
        assert not await opened.messages.holds(MESSAGE)
        with pytest.raises(RegionUncertain):
            await opened.submissions.submit(order(CASE))  # "nothing such here" is no answer to a case


async def test_a_province_without_the_question_is_not_asked() -> None:
    async with province(says(RECEIPT), asks=False) as (opened, seen):
        with pytest.raises(RegionCannotBeAsked):
            await opened.submissions.ask("s-1")
        with pytest.raises(RegionCannotBeAsked):
            await opened.messages.holds(MESSAGE)
    assert seen == []


# --- materials ---------------------------------------------------------------------------------------------------


def acknowledging(seen: Seen) -> web.Response:
    if seen.method == "POST":
        return signed(seen, body_of(RECEIPT))
    return signed(seen, body_of({"applyNo": "s-1", "digest": seen.path[-64:], "size": str(len(seen.body))}))


async def test_a_material_goes_before_its_case_and_is_signed_by_its_digest() -> None:
    file = material()
    async with province(acknowledging) as (opened, seen):
        await opened.submissions.submit(order(CASE, file))
    upload, case = seen
    assert (upload.method, upload.path) == ("PUT", f"/x/files/s-1/{file.sha256}")
    assert (case.method, case.path) == ("POST", "/x/exchange")
    assert upload.headers["X-Pearl-Digest"] == file.sha256 == hashlib.sha256(upload.body).hexdigest()
    assert (upload.headers["Content-Type"], upload.headers["Content-Length"]) == ("application/pdf", str(file.size))


async def test_a_large_material_is_never_in_memory_as_a_whole() -> None:
    """While the far side has read one piece, most of the file has not even been asked for."""
    pieces, made = 64, 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(pieces):
            made += 1
            yield bytes(1 << 20)

    digest = hashlib.sha256(bytes(pieces << 20)).hexdigest()
    begun: list[int] = []

    async def handle(request: web.Request) -> web.Response:
        if request.method == "PUT":
            size = len(await request.content.readany())
            begun.append(made)
            async for piece in request.content.iter_any():
                size += len(piece)
            data: Any = {"applyNo": "s-1", "digest": digest, "size": str(size)}
        else:
            data = RECEIPT
        seen = Seen(request.method, request.rel_url.raw_path, {}, request.headers, b"")
        return signed(seen, body_of(data))

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    file = Material("M1", "证明.pdf", "application/pdf", pieces << 20, digest, content)
    async with TestServer(app) as server, exchange(str(server.make_url("/")).rstrip("/")) as opened:
        await opened.submissions.submit(order(CASE, file))
    assert made == pieces
    assert begun[0] < pieces / 2


@pytest.mark.parametrize("size", [MAX_MATERIAL + 1])
async def test_a_material_above_two_gibibytes_is_refused_before_anything_is_sent(size: int) -> None:
    async with province(acknowledging) as (opened, seen):
        with pytest.raises(RegionRefused):
            await opened.submissions.submit(order(CASE, material(size=size)))
    assert seen == []


async def test_a_material_that_failed_means_that_no_case_was_taken() -> None:
    """Whatever became of the file, the case was not sent yet."""
    for answer in (HOSTILE["unsigned"], says({"applyNo": "s-1", "digest": "0" * 64, "size": "1"})):
        async with province(answer) as (opened, seen):
            with pytest.raises(RegionUnreachable):
                await opened.submissions.submit(order(CASE, material()))
        assert [each.method for each in seen] == ["PUT"]


# --- steps, messages, certificates, catalogue --------------------------------------------------------------------


async def test_steps_are_asked_for_from_a_cursor_on() -> None:
    async with province(says({"dataList": [{"stepId": "1"}, {"stepId": "2"}], "cursor": "9"})) as (opened, seen):
        page = await opened.feed.poll("")
        await opened.feed.poll("7")
    assert (page.events, page.cursor) == ([{"stepId": "1"}, {"stepId": "2"}], "9")
    assert [json.loads(each.body)["data"]["cursor"] for each in seen] == ["0", "7"]


@pytest.mark.parametrize(
    "data",
    [
        {"dataList": [], "cursor": "6"},
        {"dataList": [{"stepId": "1"}], "cursor": "7"},
        {"dataList": [], "cursor": "-1"},
        {"dataList": [], "cursor": 8},
        {"dataList": ["1"], "cursor": "8"},
        {"cursor": "8"},
    ],
    ids=["goes back", "stands still", "negative", "no text", "no objects", "no list"],
)
async def test_a_page_of_steps_that_does_not_go_on_is_no_page(data: dict[str, Any]) -> None:
    """Whoever believed it would read the same steps for ever, or miss some."""
    async with province(says(data)) as (opened, _):
        with pytest.raises(RegionUncertain):
            await opened.feed.poll("7")


async def test_a_message_is_sent_by_its_kind_and_acknowledged_by_its_number() -> None:
    async with province(says({"messageNo": "KYM1"})) as (opened, seen):
        await opened.messages.send(MESSAGE)
        assert await opened.messages.holds(MESSAGE)
    heads = [json.loads(each.body)["head"]["interfaceName"] for each in seen]
    assert heads == ["sendWithdrawal", "queryMessage"]
    async with province(says({"messageNo": "KYM2"})) as (opened, _):
        with pytest.raises(RegionUncertain):
            await opened.messages.send(MESSAGE)


@pytest.mark.parametrize(
    ("kind", "interface"), [("111", "getPersonListByHolder"), ("001", "getLegalPersonListByHolder")]
)
async def test_people_and_organisations_are_looked_up_by_two_interfaces(kind: str, interface: str) -> None:
    async with province(says({"dataList": [{"certificate_number": "1"}]})) as (opened, seen):
        reply = await opened.certificates.lookup({"certificateHolderTypeCode": kind})
    assert (reply.status, reply.certificates) == ("0", [{"certificate_number": "1"}])
    head = json.loads(seen[0].body)["head"]
    assert (head["servicecode"], head["interfaceName"]) == ("certificateShare", interface)


async def test_a_lookup_gives_the_issuers_own_status() -> None:
    async with province(says({}, "10", "没有")) as (opened, _):
        reply = await opened.certificates.lookup({})
    assert (reply.status, reply.message, list(reply.certificates)) == ("10", "没有", [])
    async with province(says({"dataList": []})) as (opened, _):
        with pytest.raises(RegionUncertain):
            await opened.certificates.lookup({})


async def test_a_catalogue_is_read_to_its_end() -> None:
    pages = {"0": (["a", "b"], "2"), "2": (["c"], "3"), "3": ([], "3")}

    def answer(seen: Seen) -> web.Response:
        codes, cursor = pages[json.loads(seen.body)["data"]["cursor"]]
        return signed(seen, body_of({"dataList": [{"taskCode": code} for code in codes], "cursor": cursor}))

    async with province(answer) as (opened, _):
        assert [item["taskCode"] for item in await opened.catalogue.items() if isinstance(item, dict)] == list("abc")


# --- documents of a decision -------------------------------------------------------------------------------------

FILE = b"%PDF-1.4 a synthetic decision"
LISTED = ResultDocument("JD01", "决定书.pdf", "application/pdf", len(FILE), hashlib.sha256(FILE).hexdigest())
ROW = {
    "fileCode": "JD01",
    "fileName": "决定书.pdf",
    "fileType": "application/pdf",
    "fileSize": str(len(FILE)),
    "fileDigest": LISTED.sha256,
}
NUMBER = RECEIPT["projectNo"]


async def results(answer: Answer, **listed: Any) -> bytes:
    async with province(answer) as (opened, _):
        assert opened.results is not None
        pieces = await opened.results.open(NUMBER, replace(LISTED, **listed))
        return b"".join([piece async for piece in pieces])


async def test_documents_are_listed_under_the_provinces_own_number() -> None:
    async with province(says({"projectNo": NUMBER, "dataList": [ROW]})) as (opened, seen):
        assert opened.results is not None
        assert await opened.results.list(NUMBER) == [LISTED]
    asked = json.loads(seen[0].body)
    assert (asked["head"]["interfaceName"], asked["data"]) == ("getResultList", {"projectNo": NUMBER})


@pytest.mark.parametrize(
    "data",
    [
        {"projectNo": "1", "dataList": [ROW]},
        {"dataList": [ROW]},
        {"projectNo": NUMBER},
        *(
            {"projectNo": NUMBER, "dataList": [{**ROW, **wrong}]}
            for wrong in (
                {"fileCode": ".."}, {"fileCode": "a/b"}, {"fileName": " "}, {"fileType": None}, {"fileSize": 5},
                {"fileSize": "0"}, {"fileSize": "٩"}, {"fileDigest": "0"},
            )
        ),
    ],
)  # fmt: skip
async def test_a_list_of_documents_that_cannot_be_read_is_none(data: dict[str, Any]) -> None:
    async with province(says(data)) as (opened, _):
        assert opened.results is not None
        with pytest.raises(RegionUncertain):
            await opened.results.list(NUMBER)


async def test_a_file_comes_under_the_signature_of_the_listed_digest() -> None:
    """Nothing of it need be kept to know that it is the province's: the signature stands in the head of the answer."""
    async with province(lambda seen: signed(seen, FILE)) as (opened, seen):
        assert opened.results is not None
        content = [piece async for piece in await opened.results.open(NUMBER, LISTED)]
    assert b"".join(content) == FILE
    assert (seen[0].method, seen[0].path) == ("GET", f"/x/files/{NUMBER}/JD01")
    assert seen[0].headers["X-Pearl-Digest"] == hashlib.sha256(b"").hexdigest()


FALSE_FILES: dict[str, Answer] = {
    "unsigned": lambda _: web.Response(body=FILE),
    "signed by somebody else": lambda seen: signed(seen, FILE, by="stranger"),
    "under a certificate that is over": lambda seen: signed(seen, FILE, by="retired", named="retired"),
    "to another question": lambda seen: signed(seen, FILE, nonce="0" * 32),
    "of another address": lambda seen: signed(seen, FILE, path=f"/x/files/{NUMBER}/JD02"),
    "an hour late": lambda seen: signed(seen, FILE, late=-3_600_000),
    "another file, rightly signed": lambda seen: signed(seen, FILE.replace(b"1.4", b"1.5")),
    "a page in between": lambda seen: signed(seen, FILE, http=502),
    "shorter than listed": lambda seen: signed(seen, FILE, sent=FILE[:-1]),
    "longer than listed": lambda seen: signed(seen, FILE, sent=FILE + b"x"),
    "a yes without the file": says({}),
}


@pytest.mark.parametrize("how", FALSE_FILES)
async def test_what_is_not_the_listed_file_is_not_handed_on(how: str) -> None:
    with pytest.raises(RegionUncertain):
        await results(FALSE_FILES[how])


@pytest.mark.parametrize(("status", "error"), [("10", RegionRefused), ("18", RegionRefused), ("50", RegionUnreachable)])
async def test_a_refusal_instead_of_the_file_is_told_by_its_own_digest(status: str, error: type[Exception]) -> None:
    """It is HTTP 200 as well; asked for the list, the province says the same."""
    with pytest.raises(error):
        await results(says({}, status))
    async with province(says({}, status)) as (opened, _):
        assert opened.results is not None
        with pytest.raises(error):
            await opened.results.list(NUMBER)


async def test_a_province_that_hands_nothing_out_offers_nothing() -> None:
    async with province(says({}), results=False) as (opened, seen):
        assert opened.results is None
    assert seen == []


# --- opening -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"service": ""}, "cases.service"),
        ({"suite": "RSA"}, "cases.suite"),
        ({"suite": "SM2-SM3"}, "cases.our_id"),
        ({"asks": "yes"}, "cases.asks"),
        ({"results": "yes"}, "cases.results"),
        ({"messages": ["praise"]}, "cases.messages"),
        ({"servise": "/x"}, "settings.cases"),
    ],
)
async def test_what_is_wrong_with_the_settings_is_named_at_the_start(changed: dict[str, Any], named: str) -> None:
    async with kit("http://far.test", settings={"cases": {**CASES, **changed}}, secrets=given()) as lent:
        with pytest.raises(StartRefused) as refused:
            open_exchange(lent, Wire(lent))
    assert named in str(refused.value.problems)
