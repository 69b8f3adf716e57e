"""The TIF profile against the vectors of adapters/guangdong/README.md and a scripted far side."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
import pytest
from aiohttp import web

from adapters.guangdong.adapter import open_adapter
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
from gateway.ports import (
    Adapter,
    Callback,
    CallbackReading,
    CaseMessage,
    CodeQuestion,
    Material,
    ResolvedCode,
    ResultDocument,
)
from gateway.protocols.tif import tif_signature
from tests.unit.protocol_support import NOW, Answerer, FarSide, Seen, far_side, kit, material, order

TOKEN = b"TESTTOKEN0123456789ABCDEFGHIJKLM"
SETTINGS = {"paas_id": "pearl", "client_id": "gateway"}
SECRETS = {"paas_token": TOKEN, "client_secret": b"a secret"}
PATH = "/callbacks/guangdong/events"
RECEIPT = {"wwbh": "s-1", "sblsh": "4" * 24, "sblsh_short": "ABCDEFGHJK", "jssj": "20231115061320"}
CASE = {"wwbh": "s-1", "sqrmc": "陈大文"}


@asynccontextmanager
async def guangdong(answer: Answerer) -> AsyncIterator[tuple[Adapter, FarSide]]:
    async with (
        far_side(answer) as (far, base),
        kit(base, region="guangdong", settings=SETTINGS, secrets=SECRETS) as lent,
    ):
        yield open_adapter(lent), far


def says(document: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json")


async def submit(answer: Answerer) -> Any:
    async with guangdong(answer) as (adapter, _):
        assert adapter.submissions is not None
        return await adapter.submissions.submit(order(CASE))


async def ask(answer: Answerer) -> Any:
    async with guangdong(answer) as (adapter, _):
        assert adapter.submissions is not None
        return await adapter.submissions.ask("s-1")


def signed(body: bytes, *, path: str = PATH, method: str = "POST", stamp: str = "1700000000") -> Callback:
    """A callback as the authority makes it, written out from the README on its own."""
    nonce = "18bcfe56800-1a2b3c4d5e6f"
    digest = "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"
    headers = {
        "x-tif-paasid": "gd-authority",
        "x-tif-timestamp": stamp,
        "x-tif-nonce": nonce,
        "x-tif-signature": hashlib.sha256(stamp.encode() + TOKEN + nonce.encode() + stamp.encode()).hexdigest().upper(),
        "content-digest": digest,
        "x-pearl-digest-mac": hmac.new(
            TOKEN, f"{stamp}\n{nonce}\n{method}\n{path}\n{digest}".encode(), hashlib.sha256
        ).hexdigest(),
    }
    return Callback(method, path, headers, body, NOW)


async def read(callback: Callback) -> CallbackReading:
    async with kit("http://authority.test", region="guangdong", settings=SETTINGS, secrets=SECRETS) as lent:
        callbacks = open_adapter(lent).callbacks
        assert callbacks is not None
        return await callbacks.read(callback)


# --- signature ---------------------------------------------------------------------------------------------------


def test_the_signature_agrees_with_the_vector() -> None:
    expected = "3851b631f800f279e3ebadeb8d9a366cec52aec78b84411835cee9128c303c70"
    assert tif_signature(TOKEN, "1700000000", "18bcfe56800-1a2b3c") == expected


async def test_a_message_is_signed_over_its_exact_bytes_and_its_path() -> None:
    async with guangdong(lambda _: says({"code": "200", "data": RECEIPT})) as (adapter, far):
        assert adapter.submissions is not None
        assert await adapter.submissions.submit(order(CASE)) == RECEIPT
    (seen,) = far.seen
    digest = "sha-256=:" + base64.b64encode(hashlib.sha256(seen.body).digest()).decode() + ":"
    stamp, nonce = seen.headers["x-tif-timestamp"], seen.headers["x-tif-nonce"]
    text = f"{stamp}\n{nonce}\nPOST\n/ebus/pearl/v1/cases\n{digest}"
    assert seen.headers["x-pearl-digest-mac"] == hmac.new(TOKEN, text.encode(), hashlib.sha256).hexdigest()
    assert seen.headers["Content-Digest"] == digest
    assert seen.headers["x-tif-signature"] == tif_signature(TOKEN, stamp, nonce)
    assert seen.headers["x-pearl-submission-id"] == "s-1"
    assert orjson.loads(seen.body) == CASE


# --- submissions -------------------------------------------------------------------------------------------------


async def test_materials_are_uploaded_by_digest_before_the_case() -> None:
    file = material()

    def answer(seen: Seen) -> web.Response:
        data = {"wjzy": file.sha256} if seen.method == "PUT" else RECEIPT
        return says({"code": "200", "data": data})

    async with guangdong(answer) as (adapter, far):
        assert adapter.submissions is not None
        await adapter.submissions.submit(order(CASE, file))
    assert [(seen.method, seen.path) for seen in far.seen] == [
        ("PUT", f"/ebus/pearl/v1/materials/{file.sha256}"),
        ("POST", "/ebus/pearl/v1/cases"),
    ]
    assert far.seen[0].body == b"%PDF-1.7 synthetic"


async def test_a_lost_upload_means_that_the_case_was_not_taken() -> None:
    async with guangdong(lambda _: web.Response(status=500)) as (adapter, far):
        assert adapter.submissions is not None
        with pytest.raises(RegionUnreachable):
            await adapter.submissions.submit(order(CASE, material()))
    assert len(far.seen) == 1


async def test_a_refusal_names_the_fields_but_not_the_person() -> None:
    errors = [{"field": "sqrmc", "reason": "陈大文 is not known"}]
    refusal = says({"code": "422", "message": "陈大文 440301199001011234 wrong", "errors": errors}, 422)
    with pytest.raises(RegionRefused) as caught:
        await submit(lambda _: refusal)
    assert caught.value.public == "guangdong refused the message: *** *** wrong"
    assert [(p.field, p.reason) for p in caught.value.problems] == [("sqrmc", "*** is not known")]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: web.Response(status=500), id="500 without body"),
        pytest.param(lambda: says({"code": "500", "message": "oops"}, 500), id="500 with body"),
        pytest.param(lambda: web.Response(status=503), id="503 from something on the way"),
        pytest.param(lambda: web.Response(status=404, body=b"<html>"), id="404 page"),
        pytest.param(lambda: web.Response(body=b"\xff\xfe"), id="garbage"),
        pytest.param(lambda: says([1]), id="no object"),
        pytest.param(lambda: says({"code": "422", "message": "no"}), id="200 with another code"),
        pytest.param(lambda: says({"code": "200", "data": None}), id="no data"),
        pytest.param(lambda: says({"code": "200", "data": {**RECEIPT, "wwbh": "s-2"}}), id="another submission"),
    ],
)
async def test_an_unexpected_answer_leaves_the_outcome_unknown(answer: Any) -> None:
    with pytest.raises(RegionUncertain):
        await submit(lambda _: answer())


@pytest.mark.parametrize(("status", "code"), [(401, "401"), (503, "503")])
async def test_a_refused_signature_and_an_explicit_503_may_be_sent_again(status: int, code: str) -> None:
    with pytest.raises(RegionUnreachable):
        await submit(lambda _: says({"code": code, "message": "no"}, status))


async def test_asking_finds_the_receipt() -> None:
    assert await ask(lambda _: says({"code": "200", "data": RECEIPT})) == RECEIPT


async def test_asking_believes_not_here_only_in_the_regions_own_words() -> None:
    assert await ask(lambda _: says({"code": "404", "message": "no"}, 404)) is None
    with pytest.raises(RegionUncertain):
        await ask(lambda _: web.Response(status=404, body=b"<html>"))
    with pytest.raises(RegionUncertain):
        await ask(lambda _: says({"message": "no route"}, 404))


# --- certificates ------------------------------------------------------------------------------------------------


async def lookup(document: Any) -> Any:
    async with guangdong(lambda _: says(document)) as (adapter, _):
        assert adapter.certificates is not None
        return await adapter.certificates.lookup({"CertificateHolder": "陈大文"})


async def test_a_lookup_gives_the_issuers_own_status() -> None:
    found = await lookup({"head": {"status": "0", "message": ""}, "data": [{"ZZBS": "1"}]})
    assert (found.status, list(found.certificates)) == ("0", [{"ZZBS": "1"}])
    none = await lookup({"head": {"status": "10", "message": "陈大文: none"}, "data": None})
    assert (none.status, none.message, list(none.certificates)) == ("10", "***: none", [])


@pytest.mark.parametrize(
    "document", [{}, {"head": {}}, {"head": {"status": "0"}, "data": []}, {"head": {"status": "10"}, "data": ["x"]}]
)
async def test_an_unreadable_lookup_is_an_error_and_never_not_found(document: Any) -> None:
    with pytest.raises(RegionUncertain):
        await lookup(document)


# --- callbacks ---------------------------------------------------------------------------------------------------

EVENT = b'{"sjbh":"e1","wwbh":"s-1","ztdm":"SL1"}'


async def test_a_signed_event_is_read() -> None:
    reading = await read(signed(EVENT))
    assert reading.events == ({"sjbh": "e1", "wwbh": "s-1", "ztdm": "SL1"},)
    assert reading.answer == {"code": "200", "message": "ok"}
    assert reading.nonce == "18bcfe56800-1a2b3c4d5e6f"
    assert reading.nonce_expires > NOW + timedelta(seconds=180)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"x-tif-paasid": "someone"}, "x-tif-paasid"),
        ({"x-tif-signature": "0" * 64}, "x-tif-signature"),
        ({"x-pearl-digest-mac": "0" * 64}, "x-pearl-digest-mac"),
        ({"content-digest": "sha-256=:AAAA:"}, "content-digest"),
        ({"x-tif-nonce": "a\nb"}, "x-tif-nonce"),
        ({"x-tif-nonce": "a b"}, "x-tif-nonce"),
        ({"x-tif-nonce": ""}, "x-tif-nonce"),
        ({"x-tif-signature": "\udcff"}, "x-tif-signature"),
        ({"x-tif-timestamp": "1700000001"}, "x-tif-signature"),
    ],
)
async def test_a_changed_header_makes_a_forged_callback(change: Mapping[str, str], names: str) -> None:
    genuine = signed(EVENT)
    with pytest.raises(ForgedCallback, match=names):
        await read(replace(genuine, headers={**genuine.headers, **change}))


async def test_an_altered_body_makes_a_forged_callback() -> None:
    with pytest.raises(ForgedCallback, match="content-digest"):
        await read(replace(signed(EVENT), body=EVENT.replace(b"SL1", b"SL0")))


async def test_a_body_exchanged_together_with_its_digest_makes_a_forged_callback() -> None:
    """The x-tif signature alone would let this pass: it does not cover the body."""
    genuine, other = signed(EVENT), b"{}"
    headers = {**genuine.headers, "content-digest": signed(other).headers["content-digest"]}
    with pytest.raises(ForgedCallback, match="x-pearl-digest-mac"):
        await read(replace(genuine, headers=headers, body=other))


async def test_a_message_signed_for_another_path_or_method_makes_a_forged_callback() -> None:
    with pytest.raises(ForgedCallback, match="x-pearl-digest-mac"):
        await read(replace(signed(EVENT, path="/callbacks/guangdong/other"), path=PATH))
    with pytest.raises(ForgedCallback, match="x-pearl-digest-mac"):
        await read(replace(signed(EVENT, method="PUT"), method="POST"))


async def test_another_path_takes_no_callbacks() -> None:
    with pytest.raises(NotFound):
        await read(signed(EVENT, path="/callbacks/guangdong/other"))


@pytest.mark.parametrize("away", [-181, 181])
async def test_a_callback_out_of_time_is_a_replay(away: int) -> None:
    with pytest.raises(ReplayedCallback):
        await read(replace(signed(EVENT), received_at=NOW + timedelta(seconds=away)))


@pytest.mark.parametrize("away", [-180, 180])
async def test_a_callback_at_the_edge_of_the_window_is_taken(away: int) -> None:
    reading = await read(replace(signed(EVENT), received_at=NOW + timedelta(seconds=away)))
    assert len(reading.events) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{"])
async def test_a_verified_callback_that_cannot_be_read_says_so(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the signature is right"):
        await read(signed(body))


async def test_a_verified_callback_must_be_a_post() -> None:
    with pytest.raises(InvalidRequest):
        await read(signed(EVENT, method="PUT"))


@pytest.mark.parametrize("stamp", ["yesterday", "9" * 12, "-5", "١٧٠"])
async def test_a_time_stamp_that_is_none_makes_a_forged_callback(stamp: str) -> None:
    with pytest.raises(ForgedCallback, match="x-tif-timestamp"):
        await read(signed(EVENT, stamp=stamp))


# --- opening -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "secrets", "field"),
    [
        ({"client_id": "c"}, SECRETS, "settings.paas_id"),
        ({"paas_id": "p", "client_id": 7}, SECRETS, "settings.client_id"),
        (SETTINGS, {**SECRETS, "paas_token": b""}, "secrets.paas_token"),
        (SETTINGS, {**SECRETS, "client_secret": b"\xff"}, "secrets.client_secret"),
    ],
)
async def test_a_wrong_setting_or_secret_stops_the_start(settings: Any, secrets: Any, field: str) -> None:
    async with kit("http://authority.test", region="guangdong", settings=settings, secrets=secrets) as lent:
        with pytest.raises(StartRefused) as caught:
            open_adapter(lent)
    assert [problem.field for problem in caught.value.problems] == [f"regions.guangdong.{field}"]


# --- city codes --------------------------------------------------------------------------------------------------

QUESTION = CodeQuestion("HMM:one-time-code", "collecting papers", "1144-ITEM", "a window")


async def resolve(answer: Answerer) -> tuple[ResolvedCode, FarSide]:
    async with guangdong(answer) as (adapter, far):
        assert adapter.codes is not None
        return await adapter.codes.resolve(QUESTION), far


def resolved(**changes: Any) -> Answerer:
    def answer(seen: Seen) -> web.Response:
        asked = orjson.loads(seen.body)["qqbh"]
        data = {"qqbh": asked, "yhbs": "UC1", "rzdj": "L2", "yxqz": "20231115061820", **changes}
        return says({"code": "200", "data": data})

    return answer


async def test_a_city_code_is_resolved_with_purpose_item_and_organisation() -> None:
    found, far = await resolve(resolved())
    assert found == ResolvedCode("UC1", "L2", NOW + timedelta(minutes=5))
    sent = orjson.loads(far.seen[0].body)
    assert {name: sent[name] for name in ("csm", "sxbm", "sydw", "syyt")} == {
        "csm": QUESTION.code,
        "sxbm": QUESTION.item,
        "sydw": QUESTION.organisation,
        "syyt": QUESTION.purpose,
    }
    assert QUESTION.code not in far.seen[0].path


@pytest.mark.parametrize(
    "changes",
    [{"qqbh": "0" * 32}, {"qqbh": None}, {"yhbs": ""}, {"yhbs": 7}, {"rzdj": None}, {"yxqz": "-1"}, {"yxqz": None}],
)
async def test_an_answer_to_another_question_or_without_a_person_resolves_nothing(changes: Mapping[str, Any]) -> None:
    """The comparison of `qqbh` in `resolve`, and `_resolved`."""
    with pytest.raises(RegionUncertain):
        await resolve(resolved(**changes))


async def test_the_refusal_of_a_city_code_does_not_repeat_it() -> None:
    said = f"used: {QUESTION.code}"
    refusal = {"code": "422", "message": said, "errors": [{"field": QUESTION.code, "reason": said}]}
    with pytest.raises(RegionRefused) as caught:
        await resolve(lambda _: says(refusal, 422))
    assert QUESTION.code not in f"{caught.value.public} {caught.value.detail} {caught.value.problems}"


# --- messages about a case ---------------------------------------------------------------------------------------

RATING = {"assess_id": "m-1", "writing_evaluation": "陈大文不满意"}


def said(kind: str = "rating", *materials: Material) -> CaseMessage:
    return CaseMessage("m-1", kind, "s-1", "4" * 24, RATING, materials)


async def send(answer: Answerer, message: CaseMessage | None = None) -> FarSide:
    async with guangdong(answer) as (adapter, far):
        assert adapter.messages is not None
        await adapter.messages.send(message or said())
        return far


async def holds(answer: Answerer) -> bool:
    async with guangdong(answer) as (adapter, _):
        assert adapter.messages is not None
        return await adapter.messages.holds(said())


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("supplement", "supplements"),
        ("withdrawal", "withdrawals"),
        ("rating", "ratings"),
        ("complaint", "complaints"),
    ],
)
async def test_each_kind_of_message_has_an_address_and_is_marked_with_its_number(kind: str, address: str) -> None:
    far = await send(lambda _: says({"code": "200", "data": {"xxbh": "m-1"}}), said(kind))
    (seen,) = far.seen
    assert (seen.method, seen.path) == ("POST", f"/ebus/pearl/v1/{address}")
    assert seen.headers["x-pearl-message-id"] == "m-1"
    assert orjson.loads(seen.body) == RATING


async def test_a_supplement_whose_file_is_not_taken_was_certainly_not_taken() -> None:
    with pytest.raises(RegionUnreachable):
        await send(lambda _: web.Response(body=b"\xff"), said("supplement", material()))


async def test_the_receipt_of_another_message_leaves_the_outcome_unknown() -> None:
    with pytest.raises(RegionUncertain):
        await send(lambda _: says({"code": "200", "data": {"xxbh": "m-2"}}))
    with pytest.raises(RegionUncertain):
        await holds(lambda _: says({"code": "200", "data": {"xxbh": "m-2"}}))


async def test_the_refusal_of_a_message_does_not_repeat_its_words() -> None:
    with pytest.raises(RegionRefused) as caught:
        await send(lambda _: says({"code": "422", "message": "陈大文不满意: rated already"}, 422))
    assert caught.value.public == "guangdong refused the message: ***: rated already"


async def test_a_message_is_not_here_only_in_the_regions_own_words() -> None:
    assert await holds(lambda _: says({"code": "200", "data": {"xxbh": "m-1"}}))
    assert not await holds(lambda _: says({"code": "404", "message": "no"}, 404))
    with pytest.raises(RegionUncertain):
        await holds(lambda _: web.Response(status=404, body=b"<html>"))
    with pytest.raises(RegionUncertain):
        await holds(lambda _: says({"message": "no route"}, 404))


# --- items -------------------------------------------------------------------------------------------------------


async def items(*pages: Any) -> Any:
    """Read a list of items whose pages are these, one after the other."""
    async with guangdong(lambda seen: says({"code": "200", "data": pages[int(seen.query["pageNo"]) - 1]})) as (
        adapter,
        _,
    ):
        assert adapter.catalogue is not None
        return await adapter.catalogue.items()


async def test_a_list_of_items_is_read_page_by_page() -> None:
    rows = [{"SXBM": str(number)} for number in range(3)]
    assert await items({"total": 3, "rows": rows[:2]}, {"total": 3, "rows": rows[2:]}) == rows
    assert await items({"total": 0, "rows": []}) == []


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([{"total": 2, "rows": [{}]}, {"total": 2, "rows": []}], id="a page is missing"),
        pytest.param([{"total": 2, "rows": [{}]}, {"total": 3, "rows": [{}]}], id="the total changes"),
        pytest.param([{"total": 1, "rows": [{}, {}]}], id="more than announced"),
        pytest.param([{"total": "1", "rows": [{}]}], id="the total is no number"),
        pytest.param([{"total": True, "rows": [{}]}], id="the total is a truth value"),
        pytest.param([{"total": 10**6, "rows": [{}]}], id="without end"),
        pytest.param([{"total": 1, "rows": ["x"]}], id="a row is no item"),
        pytest.param([{"rows": [{}]}], id="no total"),
        pytest.param([{"total": 1}], id="no rows"),
    ],
)
async def test_half_a_list_of_items_is_none(pages: list[Any]) -> None:
    """Whatever is not in the list would look as if it were gone."""
    with pytest.raises(RegionUncertain):
        await items(*pages)


# --- documents of a decision -------------------------------------------------------------------------------------

LISTED = {"wjbm": "D1", "wjmc": "决定书.pdf", "wjlx": "application/pdf", "wjdx": 5, "wjzy": "A" * 64}


async def listing(answer: Answerer) -> Any:
    async with guangdong(answer) as (adapter, _):
        assert adapter.results is not None
        return await adapter.results.list("4" * 24)


async def fetched(answer: Answerer) -> bytes:
    async with guangdong(answer) as (adapter, _):
        assert adapter.results is not None
        document = ResultDocument("D1", "决定书.pdf", "application/pdf", 5, "a" * 64)
        return b"".join([piece async for piece in await adapter.results.open("4" * 24, document)])


def has(*rows: Any, number: str = "4" * 24) -> Answerer:
    return lambda _: says({"code": "200", "data": {"sblsh": number, "jgwj": list(rows)}})


async def test_documents_are_listed_with_the_digest_that_they_must_have() -> None:
    assert await listing(has(LISTED)) == [ResultDocument("D1", "决定书.pdf", "application/pdf", 5, "a" * 64)]
    assert await listing(has()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"wjbm": "../x"},
        {"wjbm": ".."},
        {"wjbm": ""},
        {"wjmc": None},
        {"wjdx": "5"},
        {"wjdx": 0},
        {"wjzy": "zz"},
        {"wjlx": 7},
    ],
)
async def test_a_list_that_cannot_be_read_is_no_list(change: Mapping[str, Any]) -> None:
    with pytest.raises(RegionUncertain):
        await listing(has({**LISTED, **change}))


async def test_a_list_of_another_case_or_of_no_documents_is_no_list() -> None:
    for answer in (has(LISTED, number="5" * 24), has("text"), lambda _: says({"code": "200", "data": {}})):
        with pytest.raises(RegionUncertain):
            await listing(answer)


def bare(status: int, body: bytes, _seen: Seen) -> web.Response:
    return web.Response(status=status, body=body)


async def test_a_document_comes_whole_or_not_at_all() -> None:
    """Its bytes are held against the size while they come; the core holds them against the digest."""
    assert await fetched(lambda _: web.Response(body=b"12345")) == b"12345"
    for body in (b"1234", b"123456"):
        with pytest.raises(RegionUncertain):
            await fetched(partial(bare, 200, body))


async def test_what_is_no_document_is_not_handed_on() -> None:
    with pytest.raises(RegionRefused):
        await fetched(lambda _: says({"code": "404", "message": "no such document here"}, 404))
    with pytest.raises(RegionRefused):
        await fetched(lambda _: says({"code": "410", "message": "kept no longer"}, 410))
    with pytest.raises(RegionUnreachable):
        await fetched(lambda _: web.Response(status=401))
    for status in (302, 404, 500):
        with pytest.raises(RegionUncertain):
            await fetched(partial(bare, status, b"<html>"))
