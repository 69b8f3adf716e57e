"""Files of certificates handed out: whole or not at all, the right one or none, by a link once, with evidence first."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest
import pytest_asyncio
from aiohttp import ClientError, web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, func, select

from gateway.background import _forget
from gateway.certificates.file_checks import FileChecks
from gateway.certificates.files.copies import Copier, NotCopied
from gateway.certificates.files.registry import Registry, load_seals
from gateway.certificates.files.verifier import FileVerifier
from gateway.certificates.handing import FileBounds, HandedOut, Handing, reason_of
from gateway.certificates.places import Places
from gateway.certificates.request import FileRequest
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.certificate import Standing
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    NotFound,
    NotOffered,
    NotPermitted,
    RegionRefused,
    RegionUncertain,
    RegionUnreachable,
    Unavailable,
)
from gateway.ports import CertificateReply
from gateway.sandbox.sealed_files import Certificate, SealedFiles
from gateway.storage import Store
from gateway.storage.tables import certificate_links, evidence
from gateway.telemetry import Metrics
from gateway.web.api.certificate_files import FileDesk, routes
from gateway.web.api.certificates import routes as routes_of_all
from gateway.web.middlewares import edge
from tests.support.clock import ManualClock
from tests.support.issuers import CALLER, FRAME, HOLDER, IDENTIFIER, ISSUER, KIND, Issuer, certificate, grants, services
from tests.support.sealed_files import moved

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
BOUNDS = FileBounds(size=200_000, seconds=5)
PLAIN = b"GIF89a, which nobody here reads"


@dataclass(frozen=True)
class World:
    """A seal of this issuer, registered for this type, and one that nobody has registered."""

    files: SealedFiles
    unknown: SealedFiles
    registry: Registry


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    known, unknown = SealedFiles("guangdong", NOW), SealedFiles("guangdong", NOW)
    for one in (known, unknown):
        one.add_owner(ISSUER, "广东省市场监督管理局（沙箱）", [KIND.code])
    folder = known.write_register(tmp_path_factory.mktemp("seals"))
    return World(known, unknown, load_seals(folder, regions={"guangdong"}, types={KIND.code}))


def of_this(**changes: Any) -> Certificate:
    known = {"identifier": IDENTIFIER, "type_code": KIND.code, "type_name": KIND.name, "holder": "陈小明", "fields": {}}
    return Certificate(**{**known, **changes})


class Desk:
    """One replica that hands files out."""

    def __init__(self, store: Store, clock: ManualClock, references: References, sealer: Sealer, seals: Any) -> None:
        self.store, self.clock, self.issuer = store, clock, Issuer(file_is=[PLAIN])
        self.sealer, self.references = sealer, references
        self.verifier = FileVerifier(seals, clock)
        self.handing = self.replica()

    def replica(self, bounds: FileBounds = BOUNDS, **more: Any) -> Handing:
        asked = services(self.store, self.clock, self.references, self.issuer, sealer=self.sealer, **more)
        places = Places(1, turn=0.05)
        return Handing(asked.questions, asked.inquiry, self.sealer, self.verifier, Copier(), places, bounds, "pearl")

    async def fetch(self, **changes: Any) -> HandedOut:
        async with self.handing.fetch(CALLER, said(**changes)) as handed:
            return handed

    async def refused(self, **changes: Any) -> GatewayError:
        with pytest.raises(GatewayError) as refused:
            await self.fetch(**changes)
        assert refused.value.evidence is not None
        return refused.value

    async def evidence(self) -> list[dict[str, Any]]:
        query = select(evidence).order_by(evidence.c.recorded_at)
        return await self.store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])


def said(**changes: Any) -> FileRequest:
    return FileRequest.model_validate({**FRAME, "identifier": IDENTIFIER, **changes})


@pytest_asyncio.fixture
async def desk(sqlite_store: Store, references: References, sealer: Sealer, world: World) -> AsyncIterator[Desk]:
    made = Desk(sqlite_store, ManualClock(NOW + timedelta(hours=1)), references, sealer, world.registry)
    yield made
    made.verifier.close()


@pytest_asyncio.fixture
async def either(store: Store, references: References, sealer: Sealer, world: World) -> AsyncIterator[Desk]:
    made = Desk(store, ManualClock(NOW + timedelta(hours=1)), references, sealer, world.registry)
    yield made
    made.verifier.close()


# --- whole, and the right one ----------------------------------------------------------------------------------------


async def test_a_file_leaves_with_standing_and_digest_when_its_evidence_is_there(desk: Desk) -> None:
    desk.issuer.sha256, desk.issuer.size = hashlib.sha256(PLAIN).hexdigest(), len(PLAIN)
    async with desk.handing.fetch(CALLER, said()) as handed:
        (row,) = await desk.evidence()  # before anybody has had a byte
    assert (handed.data, handed.sha256, handed.standing) == (PLAIN, desk.issuer.sha256, Standing.VALID)
    assert desk.issuer.asked == ["data", "file"]  # its standing first
    assert (row["id"], row["what"]["file"], row["what"]["size"]) == (handed.evidence_id, "handed out", len(PLAIN))
    salt = bytes.fromhex(row["parts"]["file"]["salt"])
    assert row["parts"]["file"]["sha256"] == hashlib.sha256(salt + PLAIN).hexdigest()


async def test_by_holder_and_type_the_one_certificate_is_found_first(desk: Desk) -> None:
    handed = await desk.fetch(identifier=None, holder=HOLDER, certificate_type=KIND.name)
    assert (handed.identifier, desk.issuer.asked) == (IDENTIFIER, ["lookup", "file"])


async def test_a_revoked_certificates_file_says_that_it_is_revoked(desk: Desk) -> None:
    desk.issuer.holds = [certificate(state="REVOKED")]
    assert (await desk.fetch()).standing is Standing.REVOKED


@pytest.mark.parametrize("form", ["ofd", "pdf"])
@pytest.mark.parametrize("known", [True, False])
async def test_a_sealed_file_is_told_to_be_genuine_or_not(desk: Desk, world: World, form: str, known: bool) -> None:
    """One under a seal that nobody has registered is handed out as well: it is what its issuer has."""
    files = world.files if known else world.unknown
    make = files.sealed_ofd if form == "ofd" else files.sealed_pdf
    desk.issuer.file_is, desk.issuer.media_type = [make(of_this(), ISSUER)], "application/octet-stream"
    handed = await desk.fetch()
    assert (handed.media_type, handed.verdict.genuine) == (f"application/{form}", known)
    assert (reason_of(handed.verdict) == "genuine") is known


async def test_a_file_under_a_seal_of_another_region_is_not_genuine(desk: Desk, world: World) -> None:
    """The register has the seal for this type, and for certificates of Hunan."""
    desk.issuer.file_is = [world.files.sealed_ofd(of_this(), ISSUER)]
    desk.verifier.close()
    desk.verifier = FileVerifier(moved(world.registry, "hunan"), desk.clock)
    desk.handing = desk.replica()
    assert reason_of((await desk.fetch()).verdict) == "seal_other_region"
    assert isinstance(await desk.refused(copy_for="入职核验"), NotCopied)


@pytest.mark.parametrize("form", ["ofd", "pdf"])
async def test_the_file_of_another_certificate_is_refused_and_counts_against_the_issuer(
    desk: Desk, world: World, form: str
) -> None:
    other = of_this(identifier=IDENTIFIER.replace("777", "778"))
    make = world.files.sealed_ofd if form == "ofd" else world.files.sealed_pdf
    desk.issuer.file_is = [make(other, ISSUER)]
    error = await desk.refused()
    assert error.stable_code == "certificate.of_somebody_else"
    assert desk.issuer.asked == ["data", "file", "distrusted"]
    (row,) = await desk.evidence()
    assert row["what"]["file"] == "certificate.of_somebody_else"


@pytest.mark.parametrize(
    ("issuer", "code"),
    [
        ({"file_is": [b"half", RegionUnreachable("gone", region="guangdong")]}, "region.unreachable"),
        ({"size": 99}, "certificate.file_broken_off"),
        ({"sha256": "0" * 64}, "certificate.file_broken_off"),
        ({"size": 10**9}, "certificate.file_too_large"),
        ({"file_is": [b"x" * 150_000, b"x" * 60_000]}, "certificate.file_too_large"),
        ({"file_is": [b"PK\x03\x04 and then nothing that unpacks"]}, "certificate.file_unreadable"),
    ],
    ids=["broken off", "shorter than said", "another digest", "said to be too large", "too large", "not readable"],
)
async def test_a_file_that_is_not_whole_or_not_good_to_open_is_never_begun(
    desk: Desk, issuer: dict[str, Any], code: str
) -> None:
    for name, value in issuer.items():
        setattr(desk.issuer, name, value)
    assert (await desk.refused()).stable_code == code
    desk.issuer.file_is, desk.issuer.size, desk.issuer.sha256 = [PLAIN], None, None
    assert (await desk.fetch()).data == PLAIN  # its place is free again


async def test_what_the_gateway_could_not_look_at_is_not_its_issuers_fault(
    desk: Desk, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.certificates.files.ofd.read", lambda _: 1 // 0)
    desk.issuer.file_is = [world.files.sealed_ofd(of_this(), ISSUER)]
    error = await desk.refused()
    assert (type(error), error.stable_code) == (Unavailable, "certificate.file_not_looked_at")
    assert desk.issuer.asked == ["data", "file"]


async def test_an_issuer_that_takes_too_long_is_given_up(desk: Desk) -> None:
    async def for_ever() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    desk.issuer._body = for_ever  # type: ignore[method-assign, assignment] # a line that stays silent
    desk.handing = desk.replica(replace(BOUNDS, seconds=0.05))
    assert (await desk.refused()).stable_code == "certificate.file_broken_off"


async def test_no_more_files_are_held_than_there_are_places(desk: Desk) -> None:
    async with desk.handing.fetch(CALLER, said()):
        error = await desk.refused()
    assert (type(error), error.stable_code) == (Unavailable, "certificate.files_busy")
    assert desk.issuer.asked == ["data", "file"]  # nobody was asked for what there was no place for
    assert [row["reason"] for row in await desk.evidence()] == ["valid", "certificate.files_busy"]
    assert (await desk.fetch()).data == PLAIN


async def test_without_a_place_no_link_is_spent(desk: Desk) -> None:
    link = await desk.handing.link(CALLER, said(link=True))
    async with desk.handing.fetch(CALLER, said()):
        with pytest.raises(Unavailable):
            async with desk.handing.fetch_linked(CALLER, link.token):
                raise AssertionError("there was no place")
    async with desk.handing.fetch_linked(CALLER, link.token) as handed:
        assert handed.data == PLAIN
    with pytest.raises(NotFound):
        async with desk.handing.fetch_linked(CALLER, link.token):
            raise AssertionError("it serves once")


# --- none ------------------------------------------------------------------------------------------------------------


async def test_no_certificate_no_file(desk: Desk) -> None:
    desk.issuer.holds = []
    error = await desk.refused()
    assert (type(error), error.stable_code) == (NotFound, "certificate.not_found")
    assert desk.issuer.asked == ["data"]


async def test_an_issuer_that_is_away_is_not_none_at_all(desk: Desk) -> None:
    desk.issuer.trouble = RegionUnreachable("away", region="guangdong")
    error = await desk.refused()
    assert (type(error), error.stable_code) == (RegionUncertain, "certificate.unverifiable")


async def test_a_certificate_of_somebody_else_than_the_holder_who_is_named_is_not_found(desk: Desk) -> None:
    other = {**HOLDER, "name": "别的人"}
    assert (await desk.refused(holder=other)).stable_code == "certificate.not_found"
    assert "file" not in desk.issuer.asked


async def test_a_standing_without_a_certificate_opens_no_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An issuer may say `revoked` and nothing else: whose certificate that is cannot be held against the holder."""

    async def revoked(_query: Any) -> CertificateReply:
        return CertificateReply("21")

    monkeypatch.setattr(desk.issuer, "data", revoked)
    assert (await desk.refused(holder=HOLDER)).stable_code == "certificate.file_refused"
    assert "file" not in desk.issuer.asked


async def test_of_several_certificates_none_is_guessed(desk: Desk) -> None:
    desk.issuer.holds = [certificate(), certificate(identifier=IDENTIFIER.replace("777", "778"))]
    error = await desk.refused(identifier=None, holder=HOLDER, certificate_type=KIND.name)
    assert isinstance(error, InvalidRequest)
    assert [problem.code for problem in error.problems] == ["ambiguous"]


async def test_who_may_read_data_may_not_fetch_files(desk: Desk) -> None:
    desk.handing = desk.replica(allowed=grants(capabilities=["certificates.data", "certificates.verify"]))
    assert isinstance(await desk.refused(), NotPermitted)
    assert desk.issuer.asked == []


async def test_an_issuer_that_hands_none_out_is_not_asked(desk: Desk) -> None:
    desk.issuer.operations = frozenset({"data"})
    desk.handing = desk.replica()
    assert isinstance(await desk.refused(), NotOffered)
    assert desk.issuer.asked == []


async def test_an_issuer_that_refuses_the_file_is_believed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no(_query: Any) -> CertificateReply:
        return CertificateReply("100")

    monkeypatch.setattr(desk.issuer, "file", no)
    error = await desk.refused()
    assert (type(error), error.stable_code) == (RegionRefused, "certificate.file_refused")


# --- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["ofd", "pdf"])
async def test_a_copy_says_for_what_it_is_and_bears_no_seal(desk: Desk, world: World, form: str) -> None:
    """Both digests are evidence: that of the issuer's file, and that of the copy."""
    original = (world.files.sealed_ofd if form == "ofd" else world.files.sealed_pdf)(of_this(), ISSUER)
    desk.issuer.file_is = [original]
    handed = await desk.fetch(copy_for="入职核验")
    again = await desk.verifier.verify(handed.data)
    assert (handed.is_copy, handed.data != original, again.problem) == (True, True, "file_unsealed")
    (row,) = await desk.evidence()
    assert row["what"]["file"] == "copied"
    for name, data in (("file", original), ("copy", handed.data)):
        part = row["parts"][name]
        assert part["sha256"] == hashlib.sha256(bytes.fromhex(part["salt"]) + data).hexdigest()


async def test_a_file_is_never_hashed_on_the_event_loop(
    desk: Desk, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen megabytes would hold up everybody else's requests."""
    where: list[threading.Thread] = []

    def noted(data: bytes) -> str:
        where.append(threading.current_thread())
        return hashlib.sha256(data).hexdigest()

    original = world.files.sealed_ofd(of_this(), ISSUER)
    desk.issuer.file_is, desk.issuer.sha256 = [original], hashlib.sha256(original).hexdigest()
    monkeypatch.setattr("gateway.certificates.handing._sha256", noted)
    handed = await desk.fetch(copy_for="入职核验")
    assert handed.sha256 == hashlib.sha256(handed.data).hexdigest()
    assert len(where) == 2  # the issuer's file against its word, and the copy
    assert threading.current_thread() not in where
    assert (await desk.fetch()).sha256 == desk.issuer.sha256


async def test_of_a_certificate_that_is_not_in_force_no_copy_is_made(desk: Desk) -> None:
    desk.issuer.holds = [certificate(state="REVOKED")]
    assert isinstance(await desk.refused(copy_for="入职核验"), NotCopied)
    assert "file" not in desk.issuer.asked


async def test_of_a_file_that_is_not_genuine_no_copy_is_made(desk: Desk) -> None:
    assert isinstance(await desk.refused(copy_for="入职核验"), NotCopied)


# --- links -----------------------------------------------------------------------------------------------------------


async def test_a_link_serves_once_however_many_replicas_are_asked(either: Desk) -> None:
    link = await either.handing.link(CALLER, said(link=True))
    assert either.issuer.asked == []  # the issuer is asked when it is fetched
    tries = [either.replica().spend(CALLER, link.token) for _ in range(6)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    served = [outcome for outcome in outcomes if isinstance(outcome, FileRequest)]
    assert served == [said()]
    assert sum(isinstance(outcome, NotFound) for outcome in outcomes) == 5


async def test_nobody_else_can_use_or_spend_a_link(desk: Desk) -> None:
    link = await desk.handing.link(CALLER, said(link=True))
    for other in (replace(CALLER, client_id="other"), replace(CALLER, window_id="W1")):
        with pytest.raises(NotFound):
            await desk.handing.spend(other, link.token)
    assert await desk.handing.spend(CALLER, link.token) == said()


async def test_a_link_ends_with_its_term_and_is_forgotten(desk: Desk) -> None:
    link = await desk.handing.link(CALLER, said(link=True))
    assert link.expires_at - desk.clock() <= timedelta(minutes=10)
    desk.clock.advance(BOUNDS.link.total_seconds())
    with pytest.raises(NotFound):
        await desk.handing.spend(CALLER, link.token)
    await desk.store.write(lambda tx: _forget(tx, desk.clock(), timedelta(days=1)))
    count = select(func.count()).select_from(certificate_links)
    assert await desk.store.read(lambda tx: tx.execute(count).scalar_one()) == 0


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "a\x00b", "../" * 9])
async def test_a_token_that_nobody_made_is_not_found(desk: Desk, token: str) -> None:
    with pytest.raises(NotFound):
        await desk.handing.spend(CALLER, token)


async def test_a_link_needs_the_same_grant_and_leaves_neither_token_nor_holder_behind(desk: Desk) -> None:
    link = await desk.handing.link(CALLER, said(link=True, holder=HOLDER))

    def everything(tx: Connection) -> str:
        return repr([tuple(row) for table in (certificate_links, evidence) for row in tx.execute(select(table))])

    kept = await desk.store.read(everything)
    assert all(word not in kept for word in (link.token, str(HOLDER["name"]), IDENTIFIER))
    with pytest.raises(NotPermitted):
        await desk.replica(allowed=grants(capabilities=["certificates.data"])).link(CALLER, said(link=True))


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def client(desk: Desk) -> AsyncIterator[TestClient[Any, Any]]:
    async with served(desk, 60) as opened:
        yield opened


@asynccontextmanager
async def served(desk: Desk, seconds: float) -> AsyncIterator[TestClient[Any, Any]]:
    """Serve the addresses of files to one caller."""

    def guarded(_scope: str, handler: Any) -> Any:
        async def guard(request: web.Request) -> web.StreamResponse:
            answer: web.StreamResponse = await handler(request, CALLER)
            return answer

        return guard

    def page(_request: web.Request, error: GatewayError) -> web.Response:
        return web.Response(text=error.public)

    app = web.Application(middlewares=edge(Metrics(CollectorRegistry()), page))
    files = FileDesk(desk.handing, cast("FileChecks", None), seconds)
    asked = services(desk.store, desk.clock, desk.references, desk.issuer)
    app.add_routes([*routes(files, guarded), *routes_of_all(asked, files, guarded)])
    async with TestClient(TestServer(app)) as opened:
        yield opened


async def test_the_answer_names_the_certificate_its_standing_and_its_evidence(desk: Desk, client: Any) -> None:
    answer = await client.post("/v1/certificates/file", json=said().model_dump(mode="json"))
    body = await answer.read()
    (row,) = await desk.evidence()
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    known = {name: answer.headers[name] for name in ("Certificate-Standing", "Certificate-Issuer", "Evidence")}
    assert (answer.status, body) == (200, PLAIN)
    assert known == {"Certificate-Standing": "valid", "Certificate-Issuer": "guangdong", "Evidence": row["id"]}
    assert answer.headers["Content-Digest"] == f"sha-256=:{digest}:"
    assert answer.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''1.2.156.3005.2.")
    assert (answer.headers["Certificate-File"], answer.headers["Cache-Control"]) == ("unread", "no-store")


async def test_a_link_over_http_serves_once(client: Any) -> None:
    made = await client.post("/v1/certificates/file", json=said(link=True).model_dump(mode="json"))
    link = (await made.json())["link"]
    assert (made.status, link.startswith("/v1/certificates/files/")) == (201, True)
    first, second = await client.get(link), await client.get(link)
    assert (first.status, await first.read(), second.status) == (200, PLAIN, 404)


async def test_what_is_wrong_is_a_problem_and_no_byte_of_a_file(desk: Desk, client: Any) -> None:
    desk.issuer.file_is = [b"half", RegionUnreachable("gone", region="guangdong")]
    answer = await client.post("/v1/certificates/file", json=said().model_dump(mode="json"))
    told = await answer.json()
    assert (answer.status, told["code"], answer.content_type) == (503, "region.unreachable", "application/problem+json")
    assert told["instance"].startswith("urn:pearl:evidence:")


async def test_who_does_not_take_a_file_in_time_holds_no_place(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is cut: nobody takes what has arrived for the whole."""

    async def never(_answer: web.StreamResponse, _piece: bytes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(web.StreamResponse, "write", never)  # a reader who has stopped reading
    async with served(desk, 0.05) as client:
        with pytest.raises(ClientError):
            await (await client.post("/v1/certificates/file", json=said().model_dump(mode="json"))).read()
    assert (await desk.fetch()).data == PLAIN


BAD: Mapping[str, Any] = {
    "not JSON": b"{",
    "no object": b"[]",
    "nothing": b"{}",
    "deep": b"[" * 2000 + b"]" * 2000,
    "a name that nobody knows": {"nobody": 1},
    "a number for a text": {"identifier": 7},
    "control characters": {"identifier": "a\x00b"},
    "no certificate": {"identifier": None},
    "a wrong check character": {"identifier": IDENTIFIER[:-1] + ("A" if IDENTIFIER[-1] != "A" else "B")},
    "another type": {"certificate_type": "驾驶证"},
    "an issuer that is none": {"issuer": "atlantis"},
    "a purpose that is too long": {"purpose": "x" * 201},
    "half a surrogate": b'{"identifier": "\\ud800"}',
    "a holder without a name": {"holder": {"document": HOLDER["document"]}},
    "a holder with a wrong number": {"holder": {**HOLDER, "document": {"type": "CN_RIC", "number": "1"}}},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("path", ["file", "disputes", "verify"])
async def test_bad_input_is_refused_in_words_and_asks_nobody(desk: Desk, client: Any, path: str, bad: Any) -> None:
    more = {"disputes": {"reference": "R", "statement": "wrong"}}.get(path, {})
    body = bad if isinstance(bad, bytes) else orjson.dumps({**FRAME, "identifier": IDENTIFIER, **more, **bad})
    headers = {"Content-Type": "application/json"}
    answer = await client.post(f"/v1/certificates/{path}", data=body, headers=headers)
    told = await answer.json()
    assert (answer.status, told["where"], told["retryable"]) == (422, "caller", False)
    assert told["problems"]
    assert desk.issuer.asked == []
