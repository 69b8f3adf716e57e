"""Every answer of every issuer: status by status, region by region, operation by operation.

The rows are made from the regions' own declarations, so that a status which is added there is tried here.
"""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast, get_args

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.files.copies import Copier
from gateway.certificates.files.registry import Registry
from gateway.certificates.files.verifier import FileVerifier
from gateway.certificates.handing import FileBounds, Handing
from gateway.certificates.places import Places
from gateway.certificates.request import DataRequest, DisputeRequest, FileRequest, LookupRequest, VerifyRequest
from gateway.certificates.search import Bounds
from gateway.config import HOUSE
from gateway.crypto.at_rest import References
from gateway.errors import GatewayError, InvalidRequest, RegionUncertain, RegionUnreachable
from gateway.ports import CertificateReply, RegionDocument
from gateway.regions import CertificateDeclaration
from gateway.storage import Store
from gateway.storage.tables import evidence
from gateway.telemetry import Metrics
from gateway.web.api.certificate_files import FileDesk
from gateway.web.api.certificates import routes
from gateway.web.middlewares import edge
from tests.support.clock import ManualClock
from tests.support.issuing_regions import (
    FAILURES,
    PROFILES,
    PROVINCES,
    Desk,
    Issuer,
    by_code,
    by_holder,
    by_identifier,
    desk,
    holder_of,
    identifier_of,
    in_their_words,
    manifest_of,
    packs_for,
    told,
)

OF_WORD = {
    "found": "valid",
    "not_found": "not_found",
    "match": "match",
    "no_match": "no_match",
    "revoked": "revoked",
    "expired": "expired",
    "restricted": "restricted",
    "superseded": "superseded",
    "not_permitted": "unverifiable",
    "type_unknown": "unverifiable",
    "no_consent": "unverifiable",
    "refused": "unverifiable",
}
"""What a status means → what the gateway answers."""
OF_STATE = {
    "VALID": "valid",
    "RESTRICTED": "restricted",
    "REVOKED": "revoked",
    "EXPIRED": "expired",
    "MOVED": "superseded",
    "OTHER": "restricted",
}
"""What a certificate that was found is said to be → what the gateway answers."""
TELLING = [name for name in PROFILES if "certificate" in packs_for(name)]
"""Regions that send certificates; the others say whether what is claimed of a person fits."""
NAMED = [name for name in TELLING if "data" in told(name)]
"""Regions that can be asked about a certificate by its identifier."""


@pytest.fixture(params=PROFILES)
def region(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def at(region: str, sqlite_store: Store, clock: ManualClock, references: References) -> Desk:
    """Return the services over one issuer."""
    return desk(sqlite_store, clock, references, Issuer(region))


async def ask(at: Desk, operation: str) -> CertificateAnswer:
    """Ask the only issuer in this way, past everything that is remembered."""
    region, caller, services = at.issuer.region, at.caller, at.services
    named = by_identifier(region) if region in NAMED else by_holder(region)
    if operation == "lookup":
        (one,) = (await services.lookup.lookup(caller, LookupRequest.model_validate(by_holder(region)))).answers
        return one
    if operation == "data":
        (one,) = (await services.named.data(caller, DataRequest.model_validate(named))).answers
        return one
    asked = by_code(region) if operation == "code" else named
    return (await services.named.verify(caller, VerifyRequest.model_validate({**asked, "max_age": 0}))).answer


def operations(region: str) -> tuple[str, ...]:
    """Return how this region's certificates can be asked about."""
    return ("lookup", "data", "verify", *(("code",) if "code" in told(region) else ()))


async def rows(store: Store) -> list[Mapping[str, Any]]:
    query = select(evidence).order_by(evidence.c.recorded_at, evidence.c.id)
    return await store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])


# --- what an issuer says ---------------------------------------------------------------------------------------------


def test_no_word_of_a_declaration_and_no_state_of_the_table_is_left_out_here() -> None:
    annotation = CertificateDeclaration.model_fields["status"].annotation
    assert set(get_args(get_args(annotation)[1])) == OF_WORD.keys()
    table = tomllib.loads((HOUSE / "mappings/tables/certificate_state.toml").read_text(encoding="utf-8"))
    assert table["codes"].keys() == OF_STATE.keys()


async def test_every_status_of_every_operation_is_one_of_the_closed_answers_and_leaves_evidence(
    at: Desk, region: str
) -> None:
    """A status that no declaration knows is no answer either."""
    words = {**manifest_of(region).certificates.status, "a status of tomorrow": "unknown here"}
    heard, expected = {}, {}
    for code, word in words.items():
        carried = (in_their_words(region),) if word == "found" and region in TELLING else ()
        at.issuer.reply = CertificateReply(code, "", carried)
        for operation in operations(region):
            answer = await ask(at, operation)
            heard[code, operation] = answer.standing.value, answer.reason is not None
            expected[code, operation] = OF_WORD.get(word, "unverifiable"), OF_WORD.get(word) in {None, "unverifiable"}
    assert heard == expected
    kept = await rows(at.store)
    assert sorted(row["reason"] for row in kept) == sorted(standing for standing, _ in expected.values())
    assert [
        value for value in (holder_of(region)["name"], holder_of(region)["document"]["number"]) if value in str(kept)
    ] == []


@pytest.mark.parametrize("region", TELLING, indirect=True)
async def test_a_status_about_the_certificate_counts_over_the_certificate_beside_it(at: Desk, region: str) -> None:
    """The record may not have been brought up to date."""
    for code, word in at.issuer.words.items():
        if word in {"revoked", "expired", "restricted", "superseded"}:
            at.issuer.reply = CertificateReply(code, "", (in_their_words(region),))
            assert {(await ask(at, operation)).standing.value for operation in operations(region)} == {word}, code


@pytest.mark.parametrize("region", TELLING, indirect=True)
async def test_every_state_of_a_certificate_is_one_of_the_closed_answers(at: Desk, region: str) -> None:
    heard, expected = {}, {}
    tried: list[tuple[str, dict[str, Any]]] = [
        *((standing, {"state": state}) for state, standing in OF_STATE.items()),
        ("expired", {"valid_until": "2021-01-01"}),
    ]
    pack = packs_for(region).need("certificate")
    if "replaced_by" not in pack.unheard:
        tried.append(("superseded", {"replaced_by": "1.2.3"}))
    for standing, changes in tried:
        at.issuer.has(**changes)
        for operation in operations(region):
            heard[str(changes), operation] = (await ask(at, operation)).standing.value
            expected[str(changes), operation] = standing
    assert heard == expected


@pytest.mark.parametrize("region", TELLING, indirect=True)
async def test_found_without_a_certificate_is_no_answer(at: Desk, region: str) -> None:
    at.issuer.says("found")
    assert {(await ask(at, operation)).standing.value for operation in operations(region)} == {"unverifiable"}


# --- issuers that say nothing that can be believed -------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [RegionUncertain("it did not answer in time"), RegionUnreachable("it is down")],
    ids=["slow", "down"],
)
async def test_an_issuer_that_fails_is_unverifiable_and_then_left_alone(
    at: Desk, region: str, failure: Exception
) -> None:
    at.issuer.reply = failure
    answers = [await ask(at, "lookup") for _ in range(FAILURES + 1)]
    assert {answer.standing.value for answer in answers} == {"unverifiable"}
    assert str(answers[-1].reason).startswith("region.breaker_open")
    assert len(at.issuer.asked) == FAILURES
    assert [row["outcome"] for row in await rows(at.store)] == ["failed"] * (FAILURES + 1)


@pytest.mark.parametrize("region", TELLING, indirect=True)
async def test_garbage_is_unverifiable_whatever_was_asked(at: Desk, region: str) -> None:
    whole = in_their_words(region)
    garbage: RegionDocument = b"<x/>" if isinstance(whole, bytes) else {"x": 1}
    at.issuer.says("found", garbage)
    for operation in operations(region):
        answer = await ask(at, operation)
        assert (answer.standing.value, answer.certificate) == ("unverifiable", None)
        assert "cannot be read" in str(answer.reason)
    assert {row["parts"]["answer"]["size"] > 0 for row in await rows(at.store)} == {True}


@pytest.mark.parametrize("region", TELLING, indirect=True)
async def test_an_issuer_that_looks_for_the_number_alone_opens_nothing_to_who_does_not_know_the_name(
    at: Desk, region: str
) -> None:
    """Its certificate is not found, and it has not lied; written in another width the name is the same."""
    at.issuer.has()
    heard = []
    for name in ("别的人", f" {holder_of(region)['name']}\u3000"):
        asked = {**by_holder(region), "holder": {**holder_of(region), "name": name}}
        (one,) = (await at.services.lookup.lookup(at.caller, LookupRequest.model_validate(asked))).answers
        heard.append((one.standing.value, one.certificate is None))
    assert heard == [("not_found", True), ("valid", False)]


OTHERS: Mapping[str, Any] = {"name": "别的人", "document": {"type": "CN_RIC", "number": "440106198806150019"}}


@pytest.mark.parametrize("region", TELLING, indirect=True)
async def test_an_issuer_that_answers_about_another_holder_is_not_believed_and_soon_not_asked(
    at: Desk, region: str
) -> None:
    """Its words are kept as evidence; after some lies the breaker opens, as for any other sickness."""
    at.issuer.has(holder=OTHERS)
    answers = [await ask(at, "lookup") for _ in range(FAILURES + 1)]
    assert [(answer.standing.value, answer.certificate) for answer in answers] == [("unverifiable", None)] * (
        FAILURES + 1
    )
    reasons = [str(answer.reason).partition(":")[0] for answer in answers]
    assert reasons == ["certificate.of_somebody_else"] * FAILURES + ["region.breaker_open"]
    kept = await rows(at.store)
    assert [row["reason"] for row in kept] == ["unverifiable"] * (FAILURES + 1)
    assert sorted(row["parts"]["answer"]["size"] > 0 for row in kept) == [False] + [True] * FAILURES
    assert OTHERS["document"]["number"] not in str(kept)


@pytest.mark.parametrize("region", NAMED, indirect=True)
async def test_an_issuer_that_answers_with_another_certificate_is_not_believed(at: Desk, region: str) -> None:
    another = identifier_of("foshan" if region != "foshan" else "guangdong")
    at.issuer.has(identifier=another)
    for operation in ("data", "verify"):
        answer = await ask(at, operation)
        assert (answer.standing.value, answer.certificate) == ("unverifiable", None)
        assert str(answer.reason).startswith("certificate.of_somebody_else")


async def file_refused(at: Desk, verifier: FileVerifier) -> str:
    """Ask for the file and return the code of the refusal, which leaves one row of evidence."""
    services, before = at.services, len(await rows(at.store))
    handing = Handing(
        services.questions, services.inquiry, services.disputes.sealer, verifier, Copier(), Places(1), FileBounds(),
        "pearl",
    )  # fmt: skip
    region = at.issuer.region
    named = by_identifier(region) if region in NAMED else by_holder(region)
    with pytest.raises(GatewayError) as refused:
        async with handing.fetch(at.caller, FileRequest.model_validate(named)):
            pass
    kept = await rows(at.store)
    assert refused.value.evidence in {row["id"] for row in kept}
    assert len(kept) == before + 1
    return refused.value.stable_code


async def test_no_status_hands_a_file_out_and_each_says_why(at: Desk, region: str, clock: ManualClock) -> None:
    """Once where the standing is asked, once where the file is."""
    verifier = FileVerifier(Registry({}), clock)
    heard, expected = {}, {}
    for code, word in {**at.issuer.words, "a status of tomorrow": "unknown here"}.items():
        asked_first = {"not_found": "certificate.not_found", "unverifiable": "certificate.unverifiable"}
        told_of = "unverifiable" if word == "found" else OF_WORD.get(word, "unverifiable")
        at.issuer.reply, at.issuer.of_files = CertificateReply(code), None
        heard[code, "standing"] = await file_refused(at, verifier)
        expected[code, "standing"] = asked_first.get(told_of, "certificate.file_refused")
        if region in TELLING:
            at.issuer.has()
            at.issuer.of_files = CertificateReply(code)
            heard[code, "file"] = await file_refused(at, verifier)
            expected[code, "file"] = asked_first.get(word, "certificate.file_refused")
    if "file" not in told(region):
        expected = dict.fromkeys(expected, "certificate.no_files")
    assert heard == expected
    verifier.close()


async def test_an_error_can_be_reported_where_the_issuer_takes_reports_and_nowhere_else(at: Desk, region: str) -> None:
    """Nobody waits for the issuer: what is told to it is told later."""
    said = {**by_identifier(region), "reference": "1", "statement": "姓名有误"}
    asked = DisputeRequest.model_validate({name: value for name, value in said.items() if name != "issuer"})
    if "dispute" in told(region):
        assert (await at.services.disputes.report(at.caller, asked)).state == "open"
    else:
        with pytest.raises(GatewayError) as refused:
            await at.services.disputes.report(at.caller, asked)
        assert refused.value.stable_code == "certificate.takes_no_disputes"
    assert (len(await rows(at.store)), at.issuer.asked) == (1, [])


# --- check characters ------------------------------------------------------------------------------------------------


def mistyped(region: str) -> str:
    right = identifier_of(region)
    return right[:-1] + ("A" if right[-1] != "A" else "B")


async def test_a_user_who_mistypes_is_told_so_and_nobody_is_asked(at: Desk, region: str) -> None:
    for model, operation in ((DataRequest, at.services.named.data), (VerifyRequest, at.services.named.verify)):
        asked = model.model_validate({**by_identifier(region), "identifier": mistyped(region)})
        with pytest.raises(InvalidRequest) as refused:
            await operation(at.caller, asked)  # type: ignore[arg-type]  # each of its own kind
        assert [problem.field for problem in refused.value.problems] == ["identifier"]
        assert refused.value.evidence is not None
    assert at.issuer.asked == []


@pytest.mark.parametrize("region", TELLING, indirect=True)
async def test_an_issuer_whose_own_record_is_wrong_is_verified_live_and_warned_about(at: Desk, region: str) -> None:
    """A certificate is not less worth because somebody there once mistyped."""
    at.issuer.has(identifier=mistyped(region))
    for _ in range(2):
        asked = VerifyRequest.model_validate(by_holder(region))
        answer = (await at.services.named.verify(at.caller, asked)).answer
        assert (answer.standing.value, list(answer.warnings)) == ("valid", ["identifier has a wrong check character"])
    assert at.issuer.asked == ["lookup", "lookup"]


# --- whoever may have issued one -------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def provinces(
    sqlite_store: Store, clock: ManualClock, references: References
) -> AsyncIterator[tuple[Desk, TestClient[Any, Any]]]:
    """Serve the API over eight provinces."""
    bounds = Bounds(deadline=0.3, head_start=0.02)
    over = desk(sqlite_store, clock, references, *(Issuer(name) for name in PROVINCES), bounds=bounds)
    metrics = Metrics(CollectorRegistry())

    def guarded(_scope: str, handler: Any) -> Any:
        async def guard(request: web.Request) -> web.StreamResponse:
            answer: web.StreamResponse = await handler(request, over.caller)
            return answer

        return guard

    app = web.Application(middlewares=edge(metrics, lambda _request, error: web.Response(text=error.public)))
    no_files = cast("FileDesk", None)
    app.add_routes(routes(over.services, no_files, guarded))
    async with TestClient(TestServer(app)) as client:
        yield over, client


@pytest.mark.parametrize("answering", [0, 1, 5, 8])
async def test_of_eight_issuers_those_who_answer_are_heard_and_the_others_named(
    provinces: tuple[Desk, TestClient[Any, Any]], answering: int
) -> None:
    """Whoever is silent makes nobody wait longer than the deadline, and is never taken for "not found"."""
    over, client = provinces
    for name in PROVINCES[:answering]:
        over.issuers[name].says("not_found")
    body = {**by_holder("hunan"), "issuer": None}
    read = await (await client.post("/v1/certificates/lookup", json=body)).json()
    heard = {one["issuer"]: one["standing"] for one in read["answers"]}
    assert heard == {name: "not_found" if name in PROVINCES[:answering] else "unverifiable" for name in PROVINCES}
    assert sorted(read.get("silent", [])) == sorted(PROVINCES[answering:])
    (row,) = await rows(over.store)
    assert (row["id"], row["reason"]) == (read["evidence"], ",".join(sorted(set(heard.values()))))


async def test_a_user_who_mistypes_gets_422_from_the_api(provinces: tuple[Desk, TestClient[Any, Any]]) -> None:
    over, client = provinces
    body = {**by_identifier("hunan"), "identifier": mistyped("hunan")}
    answer = await client.post("/v1/certificates/verify", json=body)
    assert (answer.status, [one.asked for one in over.issuers.values()]) == (422, [[]] * len(PROVINCES))
