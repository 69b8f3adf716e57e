"""What a region tells of one certificate that is named, and what it tells by itself.

Like `test_regions`, this suite knows no region by name: `issued`, with the operations that its adapter says it has, and
`notices` in region.toml are what is held against it. All promises about one region share one place.

What a simulated authority must offer for this, besides its wire (`gateway.sandbox.issued` has all of it):

- the orders of `issued.MODES`, given to `authority_app(settings, modes)`;
- `POST /control/shown` `{"identifier"}` → `{"code"}`: its holder shows a certificate from now on;
- `POST /control/certificates` `{"identifier", "state", "replaced_by"?}` → `{"told": […]}`: a state changes, and with
  `notices` the gateway is told; the answer has the HTTP status of every notice that was sent;
- where values are told, a seeded certificate of every standing;
- a report of an error is looked into the first time that somebody asks, and decided from then on.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.certificates.answers import CertificateAnswer, OfSomebodyElse, Wanted, judge
from gateway.certificates.files.registry import load_seals
from gateway.certificates.files.verdict import FileVerdict, Form
from gateway.certificates.files.verifier import verify
from gateway.certificates.request import HolderNamed
from gateway.config import read_toml
from gateway.domain.certificate import Standing
from gateway.errors import RegionError, RegionRefused
from gateway.ports import CertificateFile, CertificateReply, IssuedCertificates, RegionDocument
from gateway.sandbox.layout import SEED
from tests.conformance.regions_support import (
    ADAPTERS,
    MANIFESTS,
    SECRET,
    Place,
    inhabited,
    look_up,
    offering,
    opened,
    question,
    utc_now,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

STANDINGS = {Standing.VALID, Standing.EXPIRED, Standing.REVOKED, Standing.SUPERSEDED, Standing.RESTRICTED}
MATCHING = [name for name, one in sorted(MANIFESTS.items()) if "match" in one.certificates.status.values()]
"""Regions that answer match or no match alone."""
UNKNOWN = "1.2.156.3005.2.11100000000013127D001.11440100MBT40100XX.SBX000000000001.001.O"
"""An identifier of a right form that nobody has issued."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, keys: Path
) -> AsyncIterator[Place]:
    """Return the region named by the parameter, opened once for all tests of this file."""
    ground = tmp_path_factory.mktemp(request.param)
    (ground / "keys").symlink_to(keys)
    async with inhabited(ground, request.param) as inhabited_place:
        yield inhabited_place


@pytest.fixture(autouse=True)
def behaves_again(request: pytest.FixtureRequest) -> None:
    """Whatever one test ordered is over when the next one begins."""
    place: Place = request.getfixturevalue("place")
    place.authority.behave()


def issued(place: Place) -> IssuedCertificates:
    assert place.region.adapter.issued is not None
    return place.region.adapter.issued


def tells(place: Place, operation: str) -> bool:
    """Say whether the region has this operation; one that it has not is refused by the core, and never asked here."""
    return place.region.tells(operation)


def tells_values(place: Place) -> bool:
    return "found" in place.manifest.certificates.status.values()


def asking(place: Place, **named: str) -> RegionDocument:
    """Return a question about one certificate in the region's form."""
    row = place.certificates()[0]
    frame = {name: value for name, value in question(place, row).items() if name not in {"type", "holder"}}
    return place.region.pack("certificate-request").to_region({**named, **frame})


def judged(place: Place, reply: CertificateReply, wanted: Wanted) -> list[CertificateAnswer]:
    return judge(place.region, place.region.packs.now(), reply, wanted, utc_now())


async def told_of(place: Place, identifier: str) -> CertificateAnswer:
    """Ask for one certificate by its identifier, as the core does."""
    reply = await issued(place).data(asking(place, identifier=identifier))
    (answer,) = judged(place, reply, Wanted(identifier=identifier))
    return answer


async def control(place: Place, path: str, **said: str) -> Mapping[str, Any]:
    """Do something at the issuer's own desk."""
    url = f"{place.layout.ports.authority_url(place.id)}/control/{path}"
    async with aiohttp.ClientSession() as session, session.post(url, json=said) as answer:
        assert answer.status == 200
        told: Mapping[str, Any] = await answer.json()
        return told


async def fetched(place: Place, identifier: str) -> tuple[CertificateFile, bytes]:
    file = await issued(place).file(asking(place, identifier=identifier))
    assert isinstance(file, CertificateFile)
    return file, b"".join([piece async for piece in file.body])


def valid_row(place: Place) -> Mapping[str, Any]:
    """Return a seeded certificate that is in force."""
    today = utc_now().date().isoformat()
    rows = [row for row in place.certificates() if row["state"].lower() == "valid" and not row.get("replaced_by")]
    return next(row for row in rows if row.get("valid_to", today) >= today)


# --- data --------------------------------------------------------------------------------------------------------


@offering("issued", everywhere=True)
async def test_what_is_told_by_identifier_is_what_is_told_by_holder(place: Place) -> None:
    """Two ways to one record."""
    for row in place.certificates() if tells(place, "data") and tells_values(place) else ():
        _, found = await look_up(place, question(place, row))
        by_holder = next(one for one in found if one["identifier"] == row["identifier"])
        assert (await told_of(place, row["identifier"])).certificate == by_holder


@offering("issued", everywhere=True)
async def test_every_standing_can_be_seen(place: Place) -> None:
    if tells(place, "data") and tells_values(place):
        answers = [await told_of(place, row["identifier"]) for row in place.certificates()]
        assert {answer.standing for answer in answers} >= STANDINGS


@offering("issued")
async def test_what_is_printed_on_it_comes_along_where_the_wire_has_a_place_for_it(place: Place) -> None:
    pack = place.region.packs.now().get("certificate")
    if tells(place, "data") and pack is not None and "surface[].value" not in pack.unheard:
        row = next(row for row in place.certificates() if row.get("surface"))
        certificate = (await told_of(place, row["identifier"])).certificate
        assert certificate is not None
        assert {one["name"]: one["value"] for one in certificate["surface"]} == row["surface"]


@offering("issued")
async def test_an_identifier_that_nobody_issued_is_a_definite_no(place: Place) -> None:
    for operation in {"data", "file"} & issued(place).operations:
        reply = await getattr(issued(place), operation)(asking(place, identifier=UNKNOWN))
        assert isinstance(reply, CertificateReply)
        assert [one.standing for one in judged(place, reply, Wanted(identifier=UNKNOWN))] == [Standing.NOT_FOUND]


@offering("issued")
async def test_a_shown_code_stands_for_the_certificate_that_its_holder_shows(place: Place) -> None:
    """Only while it is shown: a code that nobody gave out stands for nothing."""
    if not tells(place, "code"):
        return
    row = valid_row(place)
    code = (await control(place, "shown", identifier=row["identifier"]))["code"]
    assert code.startswith(place.region.shown_prefixes)
    (answer,) = judged(place, await issued(place).code(asking(place, code=code)), Wanted())
    assert answer.standing in {Standing.VALID, Standing.MATCH}
    if tells_values(place):
        assert answer.certificate is not None
        assert answer.certificate["identifier"] == row["identifier"]
    (nothing,) = judged(place, await issued(place).code(asking(place, code=f"{code}x")), Wanted())
    assert nothing.standing in {Standing.NOT_FOUND, Standing.NO_MATCH}


# --- answers that are none ---------------------------------------------------------------------------------------


@offering("issued")
async def test_an_answer_about_another_certificate_is_no_answer(place: Place) -> None:
    if tells(place, "data") and tells_values(place):
        place.authority.order("other_certificate")
        with pytest.raises(OfSomebodyElse):
            await told_of(place, valid_row(place)["identifier"])


@offering("issued")
async def test_an_answer_about_another_holder_is_no_answer(place: Place) -> None:
    if tells_values(place) and place.region.adapter.certificates is not None:
        row = valid_row(place)
        query = question(place, row)
        place.authority.order("other_holder")
        document = place.region.pack("certificate-query").to_region(query)
        reply = await place.region.adapter.certificates.lookup(document)
        with pytest.raises(OfSomebodyElse):
            judged(place, reply, Wanted(holder=HolderNamed.model_validate(query["holder"])))


@offering("issued")
async def test_a_status_that_nobody_knows_is_never_not_found(place: Place) -> None:
    if tells(place, "data"):
        place.authority.order("unknown_status")
        assert (await told_of(place, valid_row(place)["identifier"])).standing is Standing.UNVERIFIABLE


@offering("issued")
@pytest.mark.parametrize("mode", ["down", "garbage", "lost_answer"])
async def test_an_issuer_that_cannot_be_asked_has_not_said_no(place: Place, mode: str) -> None:
    query, operations = asking(place, identifier=UNKNOWN), {"data", "file"} & issued(place).operations
    place.authority.order(mode)
    for operation in operations:
        with pytest.raises(RegionError):
            await getattr(issued(place), operation)(query)


@offering("issued")
async def test_an_issuer_that_says_nothing_is_not_waited_for(place: Place) -> None:
    """What nobody said is no answer, and never "not found"."""
    query = asking(place, identifier=UNKNOWN)
    async with opened(place.config, place.id, timeout_seconds=0.1) as impatient:
        assert impatient.adapter.issued is not None
        for mode in ("slow", "silent"):
            place.authority.order(mode)
            with pytest.raises(RegionError):
                await impatient.adapter.issued.data(query)
            place.authority.behave()


@pytest.mark.parametrize("place", MATCHING, indirect=True)
async def test_a_region_that_may_only_match_hands_no_value_over(place: Place) -> None:
    """Its values stay where they are: an answer that brings one all the same is none, and nothing of it is said."""
    row = place.certificates()[0]
    place.authority.order("values_told")
    with pytest.raises(RegionError) as refusal:
        await look_up(place, question(place, row))
    for value in (row["holder_name"], row["holder_id_number"], row["number"], row["identifier"]):
        assert value not in f"{refusal.value.public} {refusal.value.detail}"


@pytest.mark.parametrize("place", MATCHING, indirect=True)
async def test_a_region_that_may_only_match_is_asked_by_holder_alone(place: Place) -> None:
    assert (place.region.adapter.issued, place.region.adapter.notices) == (None, None)
    assert place.region.packs.now().get("certificate") is None


# --- files -------------------------------------------------------------------------------------------------------


@offering("issued")
async def test_a_file_is_what_was_announced_and_the_same_each_time(place: Place) -> None:
    if not tells(place, "file"):
        return
    identifier = valid_row(place)["identifier"]
    file, content = await fetched(place, identifier)
    assert file.size in {None, len(content)}
    assert file.sha256 in {None, hashlib.sha256(content).hexdigest()}
    assert content
    assert (await fetched(place, identifier))[1] == content


@offering("issued")
async def test_a_file_is_genuine_and_says_which_certificate_it_is(place: Place) -> None:
    """Under a seal that the deployment's register knows, on a type that the seal is for."""
    if not tells(place, "file"):
        return
    identifier = valid_row(place)["identifier"]
    _, content = await fetched(place, identifier)
    verdict = await looked_at(place, content)
    assert verdict.genuine, verdict
    assert verdict.stated.identifier == identifier
    wish = read_toml(ADAPTERS / place.id / "sandbox.toml")
    if verdict.form is Form.OFD:
        assert {seal.standard for seal in verdict.seals} == {wish.get("seals", "GB/T 38540-2020")}


async def looked_at(place: Place, content: bytes) -> FileVerdict:
    types = {str(row["code"]) for row in read_toml(SEED / "certificate-types.toml")["type"]}
    registry = load_seals(place.layout.folder / "seals.toml", regions={place.id}, types=types)
    return await asyncio.to_thread(verify, content, registry, utc_now())


@offering("issued")
async def test_the_file_of_another_certificate_is_another_file(place: Place) -> None:
    """The wire cannot tell: what is in a file is looked at where it is verified."""
    if not tells(place, "file"):
        return
    identifier = valid_row(place)["identifier"]
    _, right = await fetched(place, identifier)
    place.authority.order("other_file")
    try:
        _, wrong = await fetched(place, identifier)
    except RegionError:
        return  # a wire whose signature names the file has found it out
    assert wrong != right
    assert (await looked_at(place, wrong)).stated.identifier != identifier


@offering("issued")
async def test_the_file_of_a_certificate_that_is_not_in_force_is_not_to_be_had(place: Place) -> None:
    """The reply says why, by its status alone; nobody takes it for valid."""
    if not tells(place, "file"):
        return
    row = next(row for row in place.certificates() if row["state"].lower() == "revoked")
    reply = await issued(place).file(asking(place, identifier=row["identifier"]))
    assert isinstance(reply, CertificateReply)
    (answer,) = judged(place, reply, Wanted(identifier=row["identifier"]))
    assert answer.standing in {Standing.REVOKED, Standing.UNVERIFIABLE}


# --- disputes ----------------------------------------------------------------------------------------------------


def report(place: Place, identifier: str, ticket: str = "") -> RegionDocument:
    row = place.certificates()[0]
    frame = {name: value for name, value in question(place, row).items() if name not in {"type", "holder", "consent"}}
    said = {"ticket": ticket or f"DSP{secrets.token_hex(13)}", "identifier": identifier, "statement": SECRET}
    return place.region.pack("certificate-dispute").to_region({**said, **frame})


@offering("issued")
async def test_a_reported_error_is_one_report_however_often_it_comes_and_has_a_reply_in_the_end(place: Place) -> None:
    if not tells(place, "dispute"):
        return
    said = report(place, valid_row(place)["identifier"])
    number = await issued(place).dispute(said)
    assert await issued(place).dispute(said) == number
    assert await issued(place).dispute(report(place, valid_row(place)["identifier"])) != number
    replies = [await issued(place).disputed(number) for _ in range(3)]
    assert [reply.state for reply in replies] == ["open", "corrected", "corrected"]
    assert replies[-1].text
    assert SECRET not in str(place.authority.book("disputes"))


@offering("issued")
async def test_an_issuer_may_find_no_error(place: Place) -> None:
    if tells(place, "dispute"):
        number = await issued(place).dispute(report(place, valid_row(place)["identifier"]))
        place.authority.order("dispute_rejected")
        assert [(await issued(place).disputed(number)).state for _ in range(2)] == ["open", "rejected"]


@offering("issued")
async def test_an_error_in_a_certificate_that_is_not_there_is_a_definite_no(place: Place) -> None:
    if tells(place, "dispute"):
        with pytest.raises(RegionRefused) as refusal:
            await issued(place).dispute(report(place, UNKNOWN))
        assert SECRET not in f"{refusal.value.public} {refusal.value.detail}"
        with pytest.raises(RegionRefused):
            await issued(place).disputed("nobody-gave-this-number")


# --- notices -----------------------------------------------------------------------------------------------------


async def noticed(place: Place, identifier: str, state: str) -> list[int]:
    """Change a certificate, and return the HTTP statuses that its notices met."""
    told: list[int] = (await control(place, "certificates", identifier=identifier, state=state))["told"]
    return told


@offering("notices", everywhere=True)
async def test_a_notice_says_what_is_told_from_then_on(place: Place) -> None:
    identifier = valid_row(place)["identifier"]
    assert await noticed(place, identifier, "revoked") == [200]
    reading = place.notices.read.get_nowait()
    (notice,) = [place.region.pack("certificate-notice").to_canonical(event) for event in reading.events]
    assert (notice["identifier"], notice["state"]) == (identifier, "REVOKED")
    if place.region.adapter.issued is not None and tells(place, "data"):
        assert (await told_of(place, identifier)).standing in {Standing.REVOKED, Standing.NO_MATCH}
    assert await noticed(place, identifier, "valid") == [200]
    assert place.notices.read.get_nowait().nonce != reading.nonce


@offering("notices", everywhere=True)
async def test_a_forged_notice_says_nothing(place: Place) -> None:
    identifier = valid_row(place)["identifier"]
    place.authority.once("forged_notice")
    forged, genuine = await noticed(place, identifier, "valid")
    assert (forged >= 400, genuine) == (True, 200)
    place.notices.read.get_nowait()
    assert place.notices.read.empty()


@offering("notices", everywhere=True)
async def test_a_notice_that_comes_twice_has_one_nonce(place: Place) -> None:
    """The core takes a nonce once, in the transaction that writes the notice down."""
    place.authority.once("replayed_notice")
    await noticed(place, valid_row(place)["identifier"], "valid")
    first, again = place.notices.read.get_nowait(), place.notices.read.get_nowait()
    assert first.nonce == again.nonce
    assert first.nonce
