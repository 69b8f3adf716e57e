"""The signed REST exchange from our side, against a far side that is written out here from docs/signed-rest.md."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from adapters.shenzhen.adapter import open_adapter
from gateway.errors import (
    ForgedCallback,
    InvalidRequest,
    NotFound,
    RegionCannotBeAsked,
    RegionError,
    RegionRefused,
    RegionUncertain,
    RegionUnreachable,
    ReplayedCallback,
    StartRefused,
    Unavailable,
)
from gateway.ports import Adapter, Callback, CaseMessage, Material, ResultDocument
from gateway.protocols.signed_rest import ASKED_FOR, LARGEST_MATERIAL, open_client
from gateway.protocols.signed_rest_services import ITEMS_A_PAGE, RestMessages, RestSubmissions
from tests.unit.protocol_support import NOW, Seen, far_side, kit, material, order

PAGE = (Path(__file__).parents[2] / "docs" / "signed-rest.md").read_text(encoding="utf-8")
HEADER = "X-Exchange-Signature"
CASE = {"sourceNo": "s-1", "applicant": {"person": {"personName": "陈大文"}}}
RECEIPT = {"sourceNo": "s-1", "projectNo": "440300202311150000000001", "receiveTime": 1_700_000_000_000}
PATH = "/callbacks/shenzhen/events"

Private = ec.EllipticCurvePrivateKey | Ed25519PrivateKey


@cache
def key(name: str) -> Private:
    """Return a key that this run knows by name."""
    return Ed25519PrivateKey.generate() if name.startswith("webhook") else ec.generate_private_key(ec.SECP256R1())


def private_pem(made: Private) -> bytes:
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(made: Private) -> bytes:
    return made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def secrets(**change: bytes) -> dict[str, bytes]:
    mine = {"client_key": private_pem(key("client")), "signing_key": private_pem(key("signing"))}
    theirs = {"peer_key": public_pem(key("peer")), "webhook_key": public_pem(key("webhook"))}
    return {**mine, **theirs, **change}


SETTINGS = {"client_id": "pearl", "issuer": "https://issuer.test", "client_authentication": "private_key_jwt"}


# --- the far side ------------------------------------------------------------------------------------------------


def claims_of(token: str, who: str) -> dict[str, Any]:
    """Return the claims of a token that one of our keys signed; fails the test when it is not so."""
    return jwt.decode(token, ECKey.import_key(public_pem(key(who))), algorithms=["ES256"]).claims


def signature(claims: Mapping[str, Any], who: str = "peer") -> str:
    made = ECKey.import_key(private_pem(key(who)))
    header = {"alg": "ES256", "typ": "exchange-answer+jwt", "kid": made.thumbprint()}
    return jwt.encode(header, dict(claims), made, algorithms=["ES256"])


@dataclass(slots=True)
class Exchange:
    """Answers by path; signs as agreed unless told to `tamper`. `tokens` counts those that it gave out."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    tamper: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    signer: str = "peer"
    alter: Callable[[bytes], bytes] = lambda body: body
    unsigned: bool = False
    tokens: int = 0
    lasts: int = 300
    good: set[str] = field(default_factory=set)
    forgets: int = 0
    """How many of the next messages meet an exchange that no longer knows their token."""
    seen: list[Seen] = field(default_factory=list)

    def answer(self, seen: Seen) -> web.Response:
        if seen.path == "/oauth2/token":
            return self.give_token()
        self.seen.append(seen)
        token = seen.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.forgets or token not in self.good:
            self.forgets = max(self.forgets - 1, 0)
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        status, document = self.answers.get(seen.path, (404, {"code": "NO_SUCH_CASE"}))
        return self.signed(seen, status, document)

    def give_token(self) -> web.Response:
        self.tokens += 1
        self.good.add(f"at-{self.tokens}")
        given = {"access_token": f"at-{self.tokens}", "token_type": "Bearer", "expires_in": self.lasts}
        return web.json_response(given)

    def signed(self, seen: Seen, status: int, document: Any) -> web.Response:
        told = {"data": document} if status == 200 else document
        body = document if isinstance(document, bytes) else orjson.dumps(told)
        asked = claims_of(seen.headers[HEADER], "signing")
        digest = hashlib.sha256(body).hexdigest()
        claims = {"rid": asked["jti"], "iat": int(NOW.timestamp()), "status": status, "sha256": digest}
        headers = {} if self.unsigned else {HEADER: signature(self.tamper(claims), self.signer)}
        kind = "application/octet-stream" if isinstance(document, bytes) else "application/json"
        return web.Response(status=status, body=self.alter(body), headers=headers, content_type=kind)


@asynccontextmanager
async def shenzhen(exchange: Exchange, **change: bytes) -> AsyncIterator[Adapter]:
    async with (
        far_side(exchange.answer) as (_, base),
        kit(base, region="shenzhen", settings=SETTINGS, secrets=secrets(**change)) as lent,
    ):
        yield open_adapter(lent)


def taking() -> Exchange:
    return Exchange({"/v1/cases": (200, RECEIPT), "/v1/cases/s-1": (200, RECEIPT)})


async def submit(exchange: Exchange, *materials: Material) -> object:
    async with shenzhen(exchange) as adapter:
        assert adapter.submissions is not None
        return await adapter.submissions.submit(order(CASE, *materials))


# --- what we send ------------------------------------------------------------------------------------------------


async def test_a_case_goes_out_signed_under_a_token_and_its_own_key() -> None:
    exchange = taking()
    assert await submit(exchange) == RECEIPT
    (sent,) = exchange.seen
    claims = claims_of(sent.headers[HEADER], "signing")
    assert (claims["iss"], claims["htm"], claims["htu"]) == ("pearl", "POST", "/v1/cases")
    assert claims["sha256"] == hashlib.sha256(sent.body).hexdigest()
    assert claims["iat"] == int(NOW.timestamp())
    assert orjson.loads(sent.body) == {"data": CASE}
    assert (sent.headers["Authorization"], sent.headers["Idempotency-Key"]) == ("Bearer at-1", "s-1")


async def test_no_two_requests_have_one_id() -> None:
    exchange = taking()
    async with shenzhen(exchange) as adapter:
        assert adapter.submissions is not None
        for _ in range(3):
            await adapter.submissions.ask("s-1")
    assert len({claims_of(seen.headers[HEADER], "signing")["jti"] for seen in exchange.seen}) == 3


async def test_the_query_is_signed_as_it_is_sent() -> None:
    exchange = Exchange({"/v1/items": (200, {"items": []})})
    async with shenzhen(exchange) as adapter:
        assert adapter.catalogue is not None
        assert await adapter.catalogue.items() == []
    assert claims_of(exchange.seen[0].headers[HEADER], "signing")["htu"] == "/v1/items?after=&size=50"


async def test_an_address_below_a_path_is_signed_without_that_path() -> None:
    """A proxy in front of the exchange may put it below a path of its own, of which the exchange knows nothing."""
    exchange = Exchange()

    def answer(seen: Seen) -> web.Response:
        return exchange.answer(replace(seen, path=seen.path.removeprefix("/below")))

    async with (
        far_side(answer) as (_, base),
        kit(f"{base}/below", region="shenzhen", settings=SETTINGS, secrets=secrets()) as lent,
    ):
        submissions = open_adapter(lent).submissions
        assert submissions is not None
        assert await submissions.ask("s/1") is None
    assert claims_of(exchange.seen[0].headers[HEADER], "signing")["htu"] == "/v1/cases/s%2F1"


# --- access token ------------------------------------------------------------------------------------------------


async def test_one_token_serves_everybody_until_shortly_before_its_end() -> None:
    exchange = taking()
    async with shenzhen(exchange) as adapter:
        asked = adapter.submissions
        assert asked is not None
        await asyncio.gather(*(asked.ask("s-1") for _ in range(5)))
    assert exchange.tokens == 1


async def test_a_token_that_is_nearly_over_is_not_used_again() -> None:
    exchange = taking()
    exchange.lasts = 30
    async with shenzhen(exchange) as adapter:
        assert adapter.submissions is not None
        await adapter.submissions.ask("s-1")
        await adapter.submissions.ask("s-1")
    assert exchange.tokens == 2


async def test_a_token_that_is_no_longer_known_is_replaced_and_the_message_sent_once_more() -> None:
    exchange = taking()
    exchange.forgets = 1
    assert await submit(exchange) == RECEIPT
    assert (exchange.tokens, len(exchange.seen)) == (2, 2)


async def test_an_exchange_that_takes_none_of_its_own_tokens_took_nothing() -> None:
    exchange = taking()
    exchange.forgets = 9
    with pytest.raises(RegionUnreachable):
        await submit(exchange)
    assert len(exchange.seen) == 2


@pytest.mark.parametrize(
    "answer",
    [
        web.json_response({"error": "invalid_client"}, status=401),
        web.json_response({"access_token": "", "token_type": "Bearer"}),
        web.json_response({"access_token": "x", "token_type": "mac"}),
        web.Response(body=b"<html>", status=200),
        web.Response(body=b"{}", status=500),
    ],
    ids=["refused", "empty", "other type", "no json", "ill"],
)
async def test_without_a_token_nothing_was_taken(answer: web.Response) -> None:
    async with (
        far_side(lambda _: web.Response(status=answer.status, body=answer.body)) as (_, base),
        kit(base, region="shenzhen", settings=SETTINGS, secrets=secrets()) as lent,
    ):
        submissions = open_adapter(lent).submissions
        assert submissions is not None
        with pytest.raises(RegionUnreachable):
            await submissions.submit(order(CASE))


# --- what we believe ---------------------------------------------------------------------------------------------


def _changed(**claims: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda said: {**said, **claims}


@pytest.mark.parametrize(
    "wrong",
    [
        {"unsigned": True},
        {"signer": "stranger"},
        {"tamper": _changed(rid="another")},
        {"tamper": _changed(status=422)},
        {"tamper": _changed(sha256="0" * 64)},
        {"tamper": _changed(iat=int(NOW.timestamp()) - 301)},
        {"tamper": _changed(iat="now")},
        {"alter": lambda body: body + b" "},
    ],
    ids=["unsigned", "stranger", "other request", "other status", "other body", "late", "no time", "altered"],
)
async def test_an_answer_that_cannot_be_trusted_says_nothing_of_the_outcome(wrong: dict[str, Any]) -> None:
    exchange = replace(taking(), **wrong)
    with pytest.raises(RegionUncertain):
        await submit(exchange)


async def test_no_such_case_is_believed_only_when_it_is_signed() -> None:
    """An error page of something on the way must not make us send a case again that the region has."""
    exchange = Exchange(unsigned=True)
    async with shenzhen(exchange) as adapter:
        assert adapter.submissions is not None
        with pytest.raises(RegionUncertain):
            await adapter.submissions.ask("s-1")
        exchange.unsigned = False
        assert await adapter.submissions.ask("s-1") is None


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "SIGNATURE", RegionUnreachable),
        (403, "STALE", RegionUnreachable),
        (403, "REPLAYED", RegionUnreachable),
        (409, "NOT_NOW", RegionRefused),
        (422, "REFUSED", RegionRefused),
        (500, "INTERNAL", RegionUncertain),
        (404, "NO_SUCH_CASE", RegionRefused),
    ],
)
async def test_a_refusal_is_what_its_code_says(status: int, code: str, error: type[RegionError]) -> None:
    exchange = Exchange({"/v1/cases": (status, {"code": code, "message": "陈大文 440106199001019000"})})
    with pytest.raises(error) as refused:
        await submit(exchange)
    assert "陈大文" not in f"{refused.value} {refused.value.detail}"
    assert "440106199001019000" not in f"{refused.value} {refused.value.detail}"


async def test_a_refusal_names_every_field() -> None:
    errors = [{"field": "item.itemCode", "reason": "unknown"}, {"field": "applyTime", "reason": "is no time"}]
    exchange = Exchange({"/v1/cases": (422, {"code": "REFUSED", "message": "no", "errors": errors})})
    with pytest.raises(RegionRefused) as refused:
        await submit(exchange)
    assert [problem.field for problem in refused.value.problems] == ["item.itemCode", "applyTime"]


async def test_a_receipt_of_another_case_is_no_receipt() -> None:
    exchange = Exchange({"/v1/cases": (200, {**RECEIPT, "sourceNo": "s-2"})})
    with pytest.raises(RegionUncertain):
        await submit(exchange)


async def test_an_answer_is_verified_with_either_key_while_one_replaces_the_other() -> None:
    both = public_pem(key("peer")) + public_pem(key("next"))
    exchange = taking()
    async with shenzhen(exchange, peer_key=both) as adapter:
        assert adapter.submissions is not None
        for exchange.signer in ("peer", "next"):
            assert await adapter.submissions.ask("s-1") == RECEIPT


# --- files -------------------------------------------------------------------------------------------------------


def file_of(pieces: int, *, size: int | None = None, broken: Exception | None = None) -> tuple[Material, list[int]]:
    """Return a file of so many pieces of 256 KiB, and the list of those that were read."""
    piece, read = bytes(256 << 10), list[int]()

    async def content() -> AsyncIterator[bytes]:
        for number in range(pieces):
            read.append(number)
            yield piece
        if broken:
            raise broken

    digest = hashlib.sha256(piece * pieces).hexdigest() if pieces < 100 else "0" * 64
    return Material("M1", "图纸.pdf", "application/pdf", size or pieces * len(piece), digest, content), read


async def test_a_file_is_sent_as_it_is_under_its_own_digest() -> None:
    file, _ = file_of(4)
    exchange = taking()
    exchange.answers[f"/v1/cases/s-1/materials/{file.sha256}"] = (200, {"sha256": file.sha256})
    assert await submit(exchange, file) == RECEIPT
    upload = exchange.seen[0]
    assert (upload.method, upload.headers["Content-Length"]) == ("PUT", str(1 << 20))
    assert upload.headers["Content-Type"] == "application/pdf"
    assert hashlib.sha256(upload.body).hexdigest() == claims_of(upload.headers[HEADER], "signing")["sha256"]


async def test_a_token_that_runs_out_at_a_file_sends_the_file_from_its_beginning() -> None:
    file, read = file_of(2)
    exchange = taking()
    exchange.forgets = 1
    exchange.answers[f"/v1/cases/s-1/materials/{file.sha256}"] = (200, {"sha256": file.sha256})
    assert await submit(exchange, file) == RECEIPT
    assert read == [0, 1, 0, 1]


async def test_a_file_is_never_held_as_a_whole() -> None:
    """The exchange reads the beginning and refuses: what it did not want was not even fetched from the store."""
    file, read = file_of(4096)
    exchange = taking()

    async def refuse(request: web.Request) -> web.Response:
        if request.method != "PUT":
            seen = Seen(request.method, request.path, {}, request.headers, await request.read())
            return exchange.answer(seen) if request.path == "/oauth2/token" else exchange.signed(seen, 404, _ABSENT)
        await request.content.readany()
        seen = Seen("PUT", request.path, {}, request.headers, b"")
        return exchange.signed(seen, 413, {"code": "TOO_LARGE"})

    async with (
        _serving(refuse) as base,
        kit(base, region="shenzhen", settings=SETTINGS, secrets=secrets()) as lent,
    ):
        submissions = open_adapter(lent).submissions
        assert submissions is not None
        with pytest.raises(RegionError):
            await submissions.submit(order(CASE, file))
    assert 0 < len(read) < 1024


_ABSENT = {"code": "NO_SUCH_MATERIAL"}


@asynccontextmanager
async def _serving(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_large_file_that_is_there_already_does_not_travel_again() -> None:
    file, read = file_of(4, size=ASKED_FOR)
    exchange = taking()
    exchange.answers[f"/v1/cases/s-1/materials/{file.sha256}"] = (200, {"sha256": file.sha256})
    assert await submit(exchange, file) == RECEIPT
    assert [seen.method for seen in exchange.seen] == ["GET", "POST"]
    assert read == []


async def test_a_file_that_our_own_store_cannot_give_is_no_fault_of_the_region() -> None:
    file, _ = file_of(2, size=10 << 18, broken=Unavailable("the store is away"))
    with pytest.raises(Unavailable):
        await submit(taking(), file)


async def test_a_file_that_is_shorter_than_it_says_is_not_sent_as_if_it_were_whole() -> None:
    file, _ = file_of(2, size=3 << 18)
    with pytest.raises(Unavailable):
        await submit(taking(), file)


async def test_a_file_that_is_too_large_or_of_no_type_is_refused_before_it_is_opened() -> None:
    huge, read = file_of(1, size=LARGEST_MATERIAL + 1)
    for file in (huge, replace(huge, size=1, media_type="nonsense")):
        exchange = taking()
        with pytest.raises(RegionRefused):
            await submit(exchange, file)
        assert (read, exchange.seen) == ([], [])


async def test_an_upload_that_fails_means_that_the_case_was_not_taken() -> None:
    exchange = taking()
    exchange.answers[f"/v1/cases/s-1/materials/{material().sha256}"] = (500, {"code": "INTERNAL"})
    with pytest.raises(RegionUnreachable):
        await submit(exchange, material())


# --- messages ----------------------------------------------------------------------------------------------------

WITHDRAWAL = CaseMessage("m-1", "withdrawal", "s-1", "N1", {"withdrawNo": "m-1"})


async def test_a_message_goes_to_its_case_under_a_key_of_its_own() -> None:
    exchange = Exchange({"/v1/cases/s-1/withdrawals": (200, {"messageNo": "m-1"})})
    async with shenzhen(exchange) as adapter:
        assert adapter.messages is not None
        await adapter.messages.send(WITHDRAWAL)
    assert exchange.seen[0].headers["Idempotency-Key"] == "m-1"


async def test_a_region_is_asked_for_one_message_and_not_for_its_case() -> None:
    exchange = Exchange({"/v1/cases/s-1/withdrawals/m-1": (404, {"code": "NO_SUCH_MESSAGE"})})
    async with shenzhen(exchange) as adapter:
        assert adapter.messages is not None
        assert not await adapter.messages.holds(WITHDRAWAL)
        exchange.answers["/v1/cases/s-1/withdrawals/m-1"] = (200, {"messageNo": "m-1"})
        assert await adapter.messages.holds(WITHDRAWAL)
        exchange.answers["/v1/cases/s-1/withdrawals/m-1"] = (200, {"messageNo": "m-2"})
        with pytest.raises(RegionUncertain):
            await adapter.messages.holds(WITHDRAWAL)


async def test_an_exchange_without_questions_is_not_asked() -> None:
    """Whoever guessed here would send a case twice, or lose it: a person has to ask."""
    exchange = taking()
    async with (
        far_side(exchange.answer) as (_, base),
        kit(base, region="shenzhen", settings=SETTINGS, secrets=secrets()) as lent,
    ):
        client = open_client(lent, wrapped=True, asks=False)
        with pytest.raises(RegionCannotBeAsked):
            await RestSubmissions(client, "sourceNo").ask("s-1")
        with pytest.raises(RegionCannotBeAsked):
            await RestMessages(client, frozenset()).holds(WITHDRAWAL)
    assert exchange.seen == []


async def test_an_exchange_without_questions_gets_every_file_again() -> None:
    file, _ = file_of(32)
    assert file.size == ASKED_FOR
    exchange = taking()
    exchange.answers[f"/v1/cases/s-1/materials/{file.sha256}"] = (200, {"sha256": file.sha256})
    async with (
        far_side(exchange.answer) as (_, base),
        kit(base, region="shenzhen", settings=SETTINGS, secrets=secrets()) as lent,
    ):
        client = open_client(lent, wrapped=True, asks=False)
        assert await RestSubmissions(client, "sourceNo").submit(order(CASE, file)) == RECEIPT
    assert [seen.method for seen in exchange.seen] == ["PUT", "POST"]


# --- documents of a decision ---------------------------------------------------------------------------------------

DECISION = b"%PDF-1.4 decision"
LISTED: dict[str, Any] = {
    "code": "D1", "name": "决定书.pdf", "type": "application/pdf", "size": len(DECISION),
    "sha256": hashlib.sha256(DECISION).hexdigest(),
}  # fmt: skip
DOCUMENT = ResultDocument("D1", "决定书.pdf", "application/pdf", len(DECISION), LISTED["sha256"])


async def listing(*rows: Any, number: str = "44/1") -> Any:
    exchange = Exchange({"/v1/results/44%2F1": (200, {"number": number, "documents": list(rows)})})
    async with shenzhen(exchange) as adapter:
        assert adapter.results is not None
        return await adapter.results.list("44/1")


async def fetched(exchange: Exchange) -> bytes:
    async with shenzhen(exchange) as adapter:
        assert adapter.results is not None
        return b"".join([piece async for piece in await adapter.results.open("44", DOCUMENT)])


def handing(status: int, content: Any, **how: Any) -> Exchange:
    return Exchange({"/v1/results/44/D1": (status, content)}, **how)


async def test_documents_are_listed_with_the_digest_that_they_must_have() -> None:
    assert await listing(LISTED) == [DOCUMENT]
    assert await listing() == []


@pytest.mark.parametrize(
    "change",
    [{"code": "../x"}, {"code": ""}, {"name": None}, {"size": "5"}, {"size": 0}, {"size": True}, {"sha256": "zz"},
     {"type": 7}],
)  # fmt: skip
async def test_a_list_of_documents_that_cannot_be_read_is_no_list(change: Mapping[str, Any]) -> None:
    with pytest.raises(RegionUncertain):
        await listing({**LISTED, **change})


async def test_a_list_of_another_case_is_no_list() -> None:
    with pytest.raises(RegionUncertain):
        await listing(LISTED, number="45")


async def test_a_document_comes_whole_and_under_the_signature_of_the_exchange() -> None:
    """Also when the token was forgotten meanwhile: the first answer is no document, and nothing of it is used."""
    assert await fetched(handing(200, DECISION)) == DECISION
    assert await fetched(handing(200, DECISION, forgets=1)) == DECISION


@pytest.mark.parametrize(
    "exchange",
    [
        pytest.param(handing(200, DECISION, unsigned=True), id="not signed"),
        pytest.param(handing(200, DECISION, signer="stranger"), id="signed by a stranger"),
        pytest.param(handing(200, DECISION[:-1] + b"X"), id="another document, signed as such"),
        pytest.param(handing(200, DECISION, alter=lambda body: body + b"X"), id="too long"),
        pytest.param(handing(200, DECISION, alter=lambda body: body[:-1]), id="too short"),
        pytest.param(handing(500, {"code": "INTERNAL"}), id="a fault"),
        pytest.param(handing(404, {"code": "NO_SUCH_RESULT"}, unsigned=True), id="a no of something on the way"),
    ],
)
async def test_what_is_not_the_listed_document_is_not_handed_on(exchange: Exchange) -> None:
    with pytest.raises(RegionUncertain):
        await fetched(exchange)
    assert len(exchange.seen) == 1, "the exchange was not asked, or twice"


@pytest.mark.parametrize(("status", "code"), [(404, "NO_SUCH_RESULT"), (410, "GONE")])
async def test_a_document_that_is_not_there_or_no_longer_is_a_definite_no(status: int, code: str) -> None:
    """The reason says which of the two it is."""
    with pytest.raises(RegionRefused, match=code):
        await fetched(handing(status, {"code": code}))


async def test_a_document_that_does_not_come_in_time_is_fetched_another_time() -> None:
    exchange, never = Exchange(), asyncio.Event()

    async def slow(seen: Seen) -> web.Response:
        if seen.path.startswith("/v1/results/"):
            await never.wait()
        return exchange.answer(seen)

    async with (
        far_side(slow) as (_, base),
        kit(base, region="shenzhen", settings=SETTINGS, secrets=secrets(), seconds=0.1) as lent,
    ):
        results = open_adapter(lent).results
        assert results is not None
        with pytest.raises(RegionUncertain, match="did not answer in time"):
            await results.open("44", DOCUMENT)
        never.set()


# --- certificates and items --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "results", [None, [], [{}, {}], [{"status": 0}], [{"status": "00", "certificates": "none"}]]
)  # fmt: skip
async def test_a_batch_of_one_has_one_result(results: object) -> None:
    exchange = Exchange({"/v1/certificates/query": (200, {"results": results})})
    async with shenzhen(exchange) as adapter:
        assert adapter.certificates is not None
        with pytest.raises(RegionUncertain):
            await adapter.certificates.lookup({"useCause": "x"})


async def test_a_catalogue_is_read_to_its_end() -> None:
    codes = [f"T{number:03d}" for number in range(ITEMS_A_PAGE + 1)]
    exchange = Exchange()

    def answer(seen: Seen) -> web.Response:
        if seen.path == "/v1/items":
            after, size = seen.query["after"], int(seen.query["size"])
            page = [{"taskCode": code} for code in codes if code > after][:size]
            exchange.answers["/v1/items"] = (200, {"items": page})
        return exchange.answer(seen)

    async with (
        far_side(answer) as (_, base),
        kit(base, region="shenzhen", settings=SETTINGS, secrets=secrets()) as lent,
    ):
        catalogue = open_adapter(lent).catalogue
        assert catalogue is not None
        assert [item["taskCode"] for item in await catalogue.items() if isinstance(item, dict)] == codes


async def test_a_catalogue_that_does_not_go_on_is_not_read_for_ever() -> None:
    exchange = Exchange({"/v1/items": (200, {"items": [{"taskCode": "T"}] * ITEMS_A_PAGE})})
    async with shenzhen(exchange) as adapter:
        assert adapter.catalogue is not None
        with pytest.raises(RegionUncertain):
            await adapter.catalogue.items()


# --- callbacks ---------------------------------------------------------------------------------------------------


def callback(
    body: bytes = b'{"data":[{"eventId":"e-1"}]}',
    *,
    by: str = "webhook",
    sending: str = "msg_00000001",
    headers: Mapping[str, str] | None = None,
) -> Callback:
    """Return a callback that one of the exchange's keys signed; `headers` overlay those that it made."""
    made, moment = key(by), str(int(NOW.timestamp()))
    assert isinstance(made, Ed25519PrivateKey)
    signed = base64.b64encode(made.sign(f"{sending}.{moment}.".encode() + body)).decode()
    given = {"webhook-id": sending, "webhook-timestamp": moment, "webhook-signature": f"v1a,{signed}"}
    return Callback("POST", PATH, {**given, **(headers or {})}, body, NOW)


async def read(given: Callback, **change: bytes) -> object:
    async with kit("http://127.0.0.1:1", region="shenzhen", settings=SETTINGS, secrets=secrets(**change)) as lent:
        callbacks = open_adapter(lent).callbacks
        assert callbacks is not None
        reading = await callbacks.read(given)
        assert reading.nonce == given.headers["webhook-id"]
        assert reading.answer == {"code": "OK"}
        return list(reading.events)


async def test_a_genuine_callback_is_read() -> None:
    assert await read(callback()) == [{"eventId": "e-1"}]


async def test_a_callback_is_taken_under_either_key_while_one_replaces_the_other() -> None:
    both = public_pem(key("webhook")) + public_pem(key("webhook-next"))
    assert await read(callback(by="webhook-next"), webhook_key=both)
    signed = callback().headers["webhook-signature"]
    foreign = callback(by="webhook-next").headers["webhook-signature"]
    assert await read(callback(headers={"webhook-signature": f"v1,bm8= {foreign} {signed}"}))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (callback(by="webhook-stranger"), ForgedCallback),
        (callback(headers={"webhook-signature": "v1a,"}), ForgedCallback),
        (callback(headers={"webhook-signature": "v1,bm8="}), ForgedCallback),
        (callback(headers={"webhook-timestamp": "1700000001"}), ForgedCallback),
        (callback(headers={"webhook-timestamp": "soon"}), ForgedCallback),
        (callback(sending="short"), ForgedCallback),
        (replace(callback(), received_at=NOW.replace(year=2024)), ReplayedCallback),
        (replace(callback(), path=f"{PATH}/x"), NotFound),
        (replace(callback(), method="PUT"), InvalidRequest),
        (callback(b"[]"), InvalidRequest),
        (callback(b'{"data":[]}'), InvalidRequest),
        (callback(b'{"data":["e-1"]}'), InvalidRequest),
        (callback(orjson.dumps({"data": [{}] * 101})), InvalidRequest),
    ],
)  # fmt: skip
async def test_a_callback_that_is_not_as_agreed_is_refused(given: Callback, error: type[Exception]) -> None:
    with pytest.raises(error):
        await read(given)


# --- opening -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signing_key", private_pem(ec.generate_private_key(ec.SECP384R1()))),
        ("signing_key", public_pem(key("signing"))),
        ("peer_key", public_pem(key("webhook"))),
        ("peer_key", public_pem(key("peer")) + public_pem(ec.generate_private_key(ec.SECP384R1()))),
        ("webhook_key", public_pem(key("peer"))),
        ("client_key", b"nonsense"),
    ],
)
async def test_a_key_of_another_kind_refuses_the_start(name: str, value: bytes) -> None:
    async with kit(
        "http://127.0.0.1:1", region="shenzhen", settings=SETTINGS, secrets=secrets(**{name: value})
    ) as lent:
        with pytest.raises(StartRefused, match=name):
            open_adapter(lent)


async def test_a_region_may_hand_out_a_secret_instead_of_asking_for_a_key() -> None:
    exchange, proofs = taking(), list[str]()

    def answer(seen: Seen) -> web.Response:
        if seen.path == "/oauth2/token":
            proofs.append(seen.headers["Authorization"])
            assert b"client_assertion" not in seen.body
        return exchange.answer(seen)

    chosen = {**SETTINGS, "client_authentication": "client_secret_basic"}
    async with (
        far_side(answer) as (_, base),
        kit(base, region="shenzhen", settings=chosen, secrets=secrets(client_secret=b"open sesame")) as lent,
    ):
        submissions = open_adapter(lent).submissions
        assert submissions is not None
        assert await submissions.ask("s-1") == RECEIPT
    assert proofs == [f"Basic {base64.b64encode(b'pearl:open+sesame').decode()}"]


# --- vectors -----------------------------------------------------------------------------------------------------


async def test_the_page_s_vectors_are_right() -> None:
    """Whoever writes another side from the page begins with these."""
    token, kid = re.search(r"`(eyJ[^`]+)`", PAGE), re.search(r"`kid` `([^`]+)`", PAGE)
    hook = re.search(r"`(v1a,[A-Za-z0-9+/=]{80,})`", PAGE)
    assert token is not None
    assert kid is not None
    assert hook is not None
    generator = ec.derive_private_key(1, ec.SECP256R1())
    assert ECKey.import_key(public_pem(generator)).thumbprint() == kid[1]
    claims = jwt.decode(token[1], ECKey.import_key(public_pem(generator)), algorithms=["ES256"]).claims
    digest = hashlib.sha256(b"{}").hexdigest()
    assert claims == {"rid": "r-1", "iat": 1_700_000_000, "status": 200, "sha256": digest}
    rfc8032 = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signed = Ed25519PrivateKey.from_private_bytes(rfc8032).sign(b"msg-0001.1700000000.{}")
    assert hook[1] == f"v1a,{base64.b64encode(signed).decode()}"
