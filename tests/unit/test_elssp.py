"""The form of GB/T 36906 without a gateway: statuses, kinds of documents, messages and their schema."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from lxml import etree

from gateway import errors
from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.claims import Match
from gateway.certificates.lookup import LookupAnswer
from gateway.certificates.named import VerifyAnswer
from gateway.domain.certificate import Standing
from gateway.errors import FieldProblem, GatewayError
from gateway.web import problems
from gateway.web.elssp import answers, shapes
from gateway.web.elssp.exchange import written
from gateway.web.elssp.operations import OPERATIONS
from gateway.web.elssp.shapes import NAMESPACE, Part
from gateway.web.elssp.statuses import OF_STANDING, WORDS, Status, overall, status_of
from gateway.web.elssp.words import Words, load_words
from tests.support.certificates import NOW

TODAY = date(2026, 5, 4)
CARD = {"identifier": "1.2", "name": "身份证", "state": "VALID"}


@functools.cache
def words() -> Words:
    found = load_words(Path(__file__).parents[2] / "mappings")
    assert found is not None
    return found


# --- statuses ----------------------------------------------------------------------------------------------------


def test_every_standing_and_every_status_has_a_place_in_the_table() -> None:
    assert set(OF_STANDING) == set(Standing)
    assert set(WORDS) == set(Status)
    assert len(set(WORDS.values())) == len(WORDS)


def test_only_what_is_in_force_is_a_success() -> None:
    assert {one for one, status in OF_STANDING.items() if status is Status.OK} == {Standing.VALID, Standing.MATCH}


FAMILY: dict[type[GatewayError], Status] = {
    GatewayError: Status.GATEWAY,
    errors.CallerError: Status.GATEWAY,
    errors.InvalidRequest: Status.INVALID,
    errors.BodyTooLarge: Status.INVALID,
    errors.NotAuthenticated: Status.NOT_AUTHENTICATED,
    errors.NotPermitted: Status.NOT_PERMITTED,
    errors.NotFound: Status.INVALID,
    errors.PickupOver: Status.INVALID,
    errors.Conflict: Status.CONFLICT,
    errors.MappingsRefused: Status.INVALID,
    errors.SignOnFailed: Status.GATEWAY,
    errors.NotRecognised: Status.GATEWAY,
    errors.ForgedCallback: Status.GATEWAY,
    errors.ReplayedCallback: Status.GATEWAY,
    errors.UnreadableCallback: Status.INVALID,
    errors.RegionError: Status.UNVERIFIABLE,
    errors.RegionUnreachable: Status.UNVERIFIABLE,
    errors.RegionResting: Status.UNVERIFIABLE,
    errors.RegionBusy: Status.UNVERIFIABLE,
    errors.TrustStale: Status.UNVERIFIABLE,
    errors.RegionUncertain: Status.UNVERIFIABLE,
    errors.RegionSettling: Status.UNVERIFIABLE,
    errors.RegionRefused: Status.UNVERIFIABLE,
    errors.RegionCannotBeAsked: Status.UNVERIFIABLE,
    errors.MappingFailed: Status.UNVERIFIABLE,
    errors.NotOffered: Status.NOT_OFFERED,
    errors.RegionClosed: Status.NOT_OFFERED,
    errors.CertificateChanged: Status.GATEWAY,
    errors.CertificateNotAskable: Status.GATEWAY,
    errors.CertificateUnconfirmed: Status.UNVERIFIABLE,
    errors.Unavailable: Status.GATEWAY,
    errors.StartRefused: Status.GATEWAY,
}


def family(kind: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from family(one)


def test_every_error_with_an_http_status_of_its_own_is_in_the_list_above() -> None:
    """An error that joins later needs a status that somebody has thought of."""
    assert set(problems.STATUS) <= set(FAMILY)


def test_no_error_at_all_reads_as_a_success_or_as_no_match() -> None:
    known = {kind: status_of(kind("x"), []) for kind in family()}
    assert {kind for kind, status in known.items() if status in {Status.OK, Status.NO_MATCH}} == set()
    assert {known[kind] for kind in family(errors.RegionError)} == {Status.UNVERIFIABLE}


@pytest.mark.parametrize(("kind", "status"), FAMILY.items(), ids=lambda one: getattr(one, "__name__", str(one)))
def test_every_error_has_its_status_and_none_is_no_match(kind: type[GatewayError], status: Status) -> None:
    assert status_of(kind("x"), []) is status
    assert answers.refused(kind("x"))["status"] not in {Status.OK, Status.NO_MATCH}


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ([("x", "check_digit"), ("UseFor", "missing"), ("CertificateType", "unknown")], Status.MISSING),
        ([("CertificateHolderCodeType", "unknown"), ("CertificateType", "unknown")], Status.HOLDER_CODE_TYPE),
        ([("CertificateType", "nobody_to_ask")], Status.TYPE_UNKNOWN),
        ([("CertificateID", "unknown_type")], Status.TYPE_UNKNOWN),
        ([("CertificateType", "differs")], Status.WRONG_TYPE),
        ([("IssuedIn", "unknown")], Status.INVALID),
        ([], Status.INVALID),
    ],
)
def test_what_is_wrong_with_elements_decides_the_status(wrong: list[tuple[str, str]], status: Status) -> None:
    error = errors.InvalidRequest("x")
    assert status_of(error, [FieldProblem(name, "r", code) for name, code in wrong]) is status


@pytest.mark.parametrize(
    ("standings", "unheard", "status"),
    [
        ([], False, Status.NO_MATCH),
        ([], True, Status.UNVERIFIABLE),
        ([Standing.NOT_FOUND], False, Status.NO_MATCH),
        ([Standing.NOT_FOUND, Standing.NO_MATCH], True, Status.UNVERIFIABLE),
        ([Standing.NOT_FOUND, Standing.UNVERIFIABLE], True, Status.UNVERIFIABLE),
        ([Standing.REVOKED, Standing.EXPIRED], False, Status.EXPIRED),
        ([Standing.REVOKED, Standing.VALID, Standing.UNVERIFIABLE], True, Status.OK),
        ([Standing.SUPERSEDED], False, Status.REVOKED),
        ([Standing.RESTRICTED, Standing.UNVERIFIABLE], True, Status.RESTRICTED),
    ],
)
def test_several_certificates_have_the_status_of_the_best(
    standings: list[Standing], unheard: bool, status: Status
) -> None:
    assert overall(standings, unheard=unheard) is status


def test_issuers_that_were_not_heard_or_not_asked_are_named() -> None:
    nothing = CertificateAnswer("guangdong", Standing.NOT_FOUND, answered_at=NOW)
    for silent, not_asked in ((["foshan"], {}), ([], {"foshan": "policy.no_grant"})):
        told = answers.listed(words(), LookupAnswer([nothing], NOW, NOW, "EV1", silent, not_asked))
        assert told.status is Status.UNVERIFIABLE
        assert "foshan" in str(told.data)
    alone = answers.listed(words(), LookupAnswer([nothing], NOW, NOW, "EV1", [], {}))
    assert (alone.status, alone.data) == (Status.NO_MATCH, {"dataList": []} if "dataList" in alone.data else {})


@pytest.mark.parametrize("match", [Match.MISMATCH, Match.ABSENT])
def test_a_claim_that_does_not_fit_is_no_success(match: Match) -> None:
    answer = VerifyAnswer(CertificateAnswer("guangdong", Standing.VALID, certificate=CARD), {"name": match}, "EV1")
    told = answers.verified(words(), answer)
    assert (told.status, told.data["dataList"][0]["Claim"]) == (
        Status.CLAIM_DIFFERS, [{"Name": "ZZMC", "Result": str(match)}]
    )  # fmt: skip


def test_a_holder_whose_document_has_no_code_is_no_missing_certificate() -> None:
    """An identity card of Hong Kong cannot be said on the mainland; the certificate is there all the same."""
    held = {**CARD, "holder": {"name": "x", "document": {"type": "HKID", "number": "A1234563"}}}
    told = answers.entry(words(), CertificateAnswer("hongkong", Standing.VALID, certificate=held))
    assert (told["CertificateStatus"], "CZZTDMLXDM" in told["Reason"]) == (900, True)
    assert "A1234563" not in str(told)


@pytest.mark.parametrize("part", [{"type": "CN_RIC"}, {"number": "44010619900101900X"}])
def test_half_of_a_document_is_left_out(part: dict[str, str]) -> None:
    """A grant may let out a number without its kind; a code without its number means nothing."""
    told = words().certificate({**CARD, "holder": {"name": "陈小明", "document": part}})
    assert told == {"ZZBS": "1.2", "ZZMC": "身份证", "ZZZT": "01", "CZZT": "陈小明"}


# --- kinds of documents ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "number", "kind"),
    [
        ("111", "44010619900101900X", "CN_RIC"),
        ("111", "810000199001019013", "HM_RESID"),
        ("999", "810000199001019013", "HM_RESID"),
        ("111", "830000199001019017", "TW_RESID"),
        ("516", "H01234567", "HM_PERMIT"),
        ("414", "E00000001", "PASSPORT"),
        ("001", "91440300MA5T00029H", "USCC"),
        ("111", "short", None),
        ("777", "44010619900101900X", None),
        (None, "44010619900101900X", "CN_RIC"),
        (None, "810000199001019013", "HM_RESID"),
        (None, "911560199001010105", "FPR"),
        (None, "911560199001019011", None),
        (None, "91440300MA5T00029H", "USCC"),
        (None, "440106199001019001", None),
        (None, "H01234567", None),
        (None, "E00000001", None),
    ],
)
def test_a_holder_code_says_its_kind_by_code_and_number(code: str | None, number: str, kind: str | None) -> None:
    """A permit's and a passport's number have no check character: without a code they could be either.

    Nor is a number told that is right both as a foreigner's card and as a USCC.
    """
    assert words().document_type(code, number, TODAY) == kind


# --- messages ----------------------------------------------------------------------------------------------------


def test_what_is_written_is_what_the_schema_says() -> None:
    """In its order, whatever the order of the object; characters that XML cannot carry are replaced."""
    some = (Part("a", "int", required=True), Part("b", (Part("c"),), many=True))
    parts = (*some, Part("d", "dateTime"), Part("e", "boolean"))
    root = etree.Element(f"{{{NAMESPACE}}}x")
    shapes.write(root, parts, {"e": True, "d": NOW, "b": [{"c": "1\x012"}, {"c": None}], "a": 5})
    assert [etree.QName(child).localname for child in root] == ["a", "b", "b", "d", "e"]
    assert [child.text for child in root.iter(f"{{{NAMESPACE}}}c")] == ["1\ufffd2"]
    schema = etree.Element(f"{{{shapes.XSD}}}schema", targetNamespace=NAMESPACE, elementFormDefault="qualified")
    shapes.describe(schema, "x", parts)
    etree.XMLSchema(etree.fromstring(etree.tostring(schema))).assertValid(root)


def test_what_is_read_is_what_the_model_would_get_as_json() -> None:
    parts: tuple[Part, ...] = OPERATIONS["VerifyCertInfo"].asked
    xsi = "http://www.w3.org/2001/XMLSchema-instance"
    raw = f"""<q:x xmlns:q="{NAMESPACE}" xmlns:i="{xsi}"><q:Claim><q:Value> 2 </q:Value><q:Name>1</q:Name></q:Claim>
      <q:UseFor i:nil="true"/><q:Odd>o</q:Odd><q:username/></q:x>"""
    found: list[FieldProblem] = []
    said: dict[str, Any] = shapes.read(etree.fromstring(raw), parts, found)
    assert (said, found) == ({"Claim": [{"Value": "2", "Name": "1"}], "Odd": "o", "username": ""}, [])


async def test_a_large_answer_is_written_while_what_it_needs_is_held(aiohttp_client: Any) -> None:
    """A file keeps its place in memory until its last byte has left."""
    body, free = b"x" * 200_000, list[str]()

    async def handle(request: web.Request) -> web.StreamResponse:
        async with AsyncExitStack() as held:
            held.callback(free.append, "given back")
            answer = await written(request, web.Response(body=body, content_type="text/xml"), 5)
            assert (answer.prepared, free) == (True, [])
            return answer

    app = web.Application()
    app.router.add_get("/", handle)
    client = await aiohttp_client(app)
    answer = await client.get("/")
    assert (answer.status, answer.content_type, await answer.read(), free) == (200, "text/xml", body, ["given back"])


def test_without_the_folder_nothing_is_served_in_this_form(tmp_path: Path) -> None:
    assert load_words(tmp_path) is None


def test_elements_have_one_name_each_and_those_of_ours_are_optional() -> None:
    for operation in OPERATIONS.values():
        names = [part.name for part in operation.asked]
        assert len(names) == len(set(names))
        required = {part.name for part in operation.asked if part.required}
        assert required <= {
            "username", "itemName", "itemCode", "businessCode", "UseFor", "CertificateID", "CertificateHolder",
            "CertificateHolderCode", "QRCode",
        }  # fmt: skip
