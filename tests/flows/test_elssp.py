"""Existing systems that speak GB/T 36906 ask the gateway: over SOAP with a client of its own, and over plain JSON.

The SOAP client is zeep, which knows nothing of the gateway but the description that it fetches from it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape

import pytest
import requests
import zeep
from joserfc import jwt
from joserfc.jwk import ECKey
from lxml import etree
from zeep.helpers import serialize_object
from zeep.transports import Transport

from gateway.storage.tables import blobs as uploads_table
from gateway.storage.tables import evidence
from gateway.web.elssp.operations import OPERATIONS
from gateway.web.elssp.shapes import NAMESPACE
from gateway.web.elssp.soap_wire import SOAP
from tests.flows.flow_support import AGENCY, CITIZEN, FILING, PRIVATE, Answer, World
from tests.flows.test_delegation import recorded

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIVE = {
    "orgName": "广州市政务服务和数据管理局（沙箱）",
    "username": "T0001",
    "itemName": "跨省异地就医备案",
    "itemCode": FILING,
    "businessCode": "AGENCY-CASE-1",
    "UseFor": "Identity check for the case",
}
HOLDER = {"CertificateHolder": "陈小明", "CertificateHolderCode": "44010619900101900X"}
CARD = "1.2.156.3005.2.11100000000013127D001.11440000MBT400007D.SBX000000000101.001.W"
FOOD = "1.2.156.3005.2.11100000MB0143028R002.11440300MBT4030010.SBX000000000501.001.P"
DELTA_LTD = {"CertificateHolder": "湾区示例有限公司", "CertificateHolderCode": "91440300MA5T00029H"}
LICENCE = {**FIVE, "HolderRole": "party", "CertificateType": "营业执照"}


class Soap:
    """An existing system with a SOAP client; each call runs in a thread, since the gateway runs in this one."""

    def __init__(self, client: zeep.Client, session: requests.Session) -> None:
        self._client = client
        self._session = session

    async def ask(self, operation: str, token: str | None = None, bearer: str | None = None, **sent: Any) -> Any:
        headers = {"accessToken": token} if token else None
        self._session.headers.pop("Authorization", None)
        if bearer:
            self._session.headers["Authorization"] = f"Bearer {bearer}"
        call = self._client.service[operation]
        answer = await asyncio.to_thread(lambda: call(**sent, **({"_soapheaders": headers} if headers else {})))
        return serialize_object(answer, dict)  # type: ignore[no-untyped-call] # zeep types a part of itself

    def operations(self) -> set[str]:
        (service,) = self._client.wsdl.services.values()
        (port,) = service.ports.values()
        return set(port.binding._operations)


@pytest.fixture(scope="module")
def soap_of() -> Callable[[World], Any]:
    known: dict[str, Soap] = {}

    async def make(world: World) -> Soap:
        if world.url not in known:
            session = requests.Session()
            session.trust_env = False
            transport = Transport(session=session, timeout=20, operation_timeout=20)  # type: ignore[no-untyped-call] # zeep types a part of itself
            client = await asyncio.to_thread(zeep.Client, f"{world.url}/elssp/soap?wsdl", transport=transport)
            known[world.url] = Soap(client, session)
        return known[world.url]

    return make


async def as_json(world: World, operation: str, body: Any, **how: Any) -> dict[str, Any]:
    answer = await world.ask("POST", f"/elssp/v1/{operation}", body, **how)
    assert answer.status == 200, answer.body
    read: dict[str, Any] = answer.json()
    return read


async def refused_with(world: World, sending: Awaitable[Answer], *never: str) -> tuple[Answer, Mapping[str, Any]]:
    """Send something that must be refused; check that it left one row of evidence and says nothing of a person."""
    known = {row["id"] for row in await world.rows(evidence, outcome="refused")}
    answer = await sending
    said = answer.body.decode()
    assert [value for value in (*PRIVATE, *never) if value in said] == []
    (row,) = [row for row in await world.rows(evidence, outcome="refused") if row["id"] not in known]
    assert row["id"] in said
    return answer, row


# --- SOAP, by a client of its own --------------------------------------------------------------------------------


async def test_the_description_offers_what_is_served(world: World, soap_of: Any) -> None:
    soap = await soap_of(world)
    assert soap.operations() == set(OPERATIONS)


async def test_a_system_that_speaks_soap_finds_a_certificate(world: World, soap_of: Any) -> None:
    """Token in the SOAP header, purpose code, role and legal basis filled in by deployment and registration."""
    soap = await soap_of(world)
    answer = await soap.ask("Retrieval", await world.token(), **FIVE, **HOLDER, CertificateType="居民身份证")
    assert (answer["head"]["status"], answer["head"]["message"]) == (0, "成功")
    (one,) = answer["data"]["dataList"]
    assert (one["ZZBS"], one["CertificateStatus"], one["IssuedIn"]) == (CARD, 0, "guangdong")
    assert one["ZZYXQJZRQ"] == "20400101"
    assert (one["CZZT"], one["ZZBH"]) == (None, None)  # which it is, and no more
    (row,) = await world.rows(evidence, id=answer["head"]["evidence"])
    assert (row["action"], row["outcome"], row["what"]["legal_basis"]) == ("certificate.lookup", "done", "履行法定职责")


async def test_a_retrieval_without_a_type_finds_all_that_a_holder_has(world: World) -> None:
    """Each with its own status; whoever may not be asked, or finds nothing, takes nothing away from them."""
    answer = await as_json(world, "Retrieval", {**FIVE, **HOLDER, "HolderRole": "party"})
    found = {one["ZZMC"]: one["CertificateStatus"] for one in answer["data"]["dataList"] if "ZZMC" in one}
    assert (answer["head"]["status"], found["中华人民共和国居民身份证"], found["机动车驾驶证"]) == (0, 0, 22)


async def test_soap_reads_a_certificate_by_identifier_and_by_holder(world: World, soap_of: Any) -> None:
    soap, token = await soap_of(world), await world.token()
    by_id = await soap.ask(
        "GetCertificateDataByCertificateID", bearer=token, **FIVE, **HOLDER, CertificateID=CARD
    )  # fmt: skip
    by_holder = await soap.ask(
        "GetCertificateDataByHolder", bearer=token, **FIVE, **HOLDER, CertificateTypeCode="11100000000013127D001",
        CertificateHolderCodeType="111", CertificateNumber="44010619900101900X",
    )  # fmt: skip
    for answer in (by_id, by_holder):
        (one,) = answer["data"]["dataList"]
        assert (one["CZZT"], one["CZZTDM"], one["CZZTDMLXDM"]) == ("陈小明", "44010619900101900X", "111")
        assert (one["ZZBFRQ"], one["ZZZT"], one["ZZBH"]) == ("20200101", "01", "44010619900101900X")


async def test_soap_verifies_and_compares(world: World, soap_of: Any) -> None:
    """A claim that does not fit is a status of its own, and the value of the issuer is not told."""
    soap, token = await soap_of(world), await world.token()
    claims = [{"Name": "ZZYXQJZRQ", "Value": "20400101"}, {"Name": "ZZBFRQ", "Value": "20200102"}]
    answer = await soap.ask("VerifyCertInfo", token, **FIVE, **HOLDER, CertificateID=CARD, Claim=claims)
    (one,) = answer["data"]["dataList"]
    results = {claim["Name"]: claim["Result"] for claim in one["Claim"]}
    assert answer["head"]["status"] == 901
    assert (results["ZZYXQJZRQ"], results["ZZBFRQ"], results["CZZT"]) == ("match", "mismatch", "match")
    assert one["ZZBFRQ"] is None


async def test_soap_tells_the_types_and_what_is_printed_on_one(world: World, soap_of: Any) -> None:
    soap, token = await soap_of(world), await world.token()
    types = await soap.ask("GetCertificateType", token)
    known = {one["CertificateType"]: one["IssuedIn"] for one in types["data"]["dataList"]}
    assert known["营业执照"] == ["foshan"]
    surface = await soap.ask("GetCertRemarkInfo", token, CertificateType="营业执照")
    assert surface["head"]["status"] == 0


async def test_a_consent_goes_with_a_question_across_a_border(world: World, soap_of: Any) -> None:
    """Hong Kong says match and no value; the consents of question and answer stand in elements of ours."""
    soap = await soap_of(world)
    common = {"ConsentID": "CNS-0001", "Purpose": FIVE["UseFor"], "GivenAt": "2026-01-01T00:00:00Z",
              "ExpiresAt": "2099-01-01T00:00:00Z"}  # fmt: skip
    answer = await soap.ask(
        "Retrieval", await world.token(), **FIVE, HolderRole="party", CertificateType="专业资格证书",
        CertificateHolder="陈大文", CertificateHolderCode="H00000001", CertificateHolderCodeType="516",
        Consent=[{**common, "Recipient": "hongkong", "Field": ["holder.name", "holder.document"]},
                 {**common, "Recipient": AGENCY, "Field": ["match"]}],
    )  # fmt: skip
    (one,) = answer["data"]["dataList"]
    assert (answer["head"]["status"], one["CertificateStatus"], one["IssuedIn"]) == (0, 0, "hongkong")
    assert one["ZZBS"] is None


async def test_soap_says_in_a_head_what_is_missing_all_at_once(world: World, soap_of: Any) -> None:
    soap = await soap_of(world)
    sent = dict.fromkeys(("username", "itemName", "itemCode", "businessCode", "UseFor", "CertificateHolder"), "")
    answer = await soap.ask("Retrieval", await world.token(), **sent, CertificateHolderCode="44010619900101900X")
    assert (answer["head"]["status"], answer["data"]) == (12, None)
    assert {one["field"] for one in answer["head"]["problem"]} == set(sent)


# --- JSON --------------------------------------------------------------------------------------------------------


async def test_a_system_that_can_only_fill_the_body_puts_its_token_there(world: World) -> None:
    """The envelope of a province: accessId, accessToken and data, and its names of elements."""
    names = {"holder": "陈小明", "holderCode": "44010619900101900X", "holderTypeCode": "111",
             "certTypeCode": "11100000000013127D001"}  # fmt: skip
    body = {"accessId": "demo-agency", "accessToken": await world.token(), "data": {**FIVE, **names}}
    answer = await as_json(world, "Retrieval", body, token="")
    assert answer["head"]["status"] == 0
    assert [one["ZZBS"] for one in answer["data"]["dataList"]] == [CARD]


@pytest.mark.parametrize(
    ("operation", "sent", "status"),
    [
        ("GetCertificateDataByHolder", {**FIVE, **HOLDER, "CertificateType": "驾驶证"}, 22),
        ("GetCertificateDataByHolder", {**LICENCE, "CertificateHolder": "珠江示例有限公司",
                                        "CertificateHolderCode": "91440101MA5T00010Q"}, 21),
        ("GetCertificateDataByHolder", {**LICENCE, **DELTA_LTD, "CertificateHolderCodeType": "001"}, 0),
        ("GetCertificateDataByHolder", {**LICENCE, **DELTA_LTD, "CertificateNumber": "91440300MA5T00029X"}, 10),
        ("Retrieval", {**FIVE, **HOLDER, "CertificateHolder": "别的人", "CertificateType": "身份证"}, 10),
        ("VerifyCertInfo", {**FIVE, **HOLDER, "CertificateType": "身份证"}, 0),
        ("VerifyCertInfo", {**FIVE, **HOLDER, "CertificateID": CARD, "CertificateNumber": "1"}, 901),
    ],
    ids=["expired", "revoked", "valid", "another number", "another name", "as claimed", "another claim"],
)  # fmt: skip
async def test_a_standing_is_a_status(world: World, operation: str, sent: dict[str, Any], status: int) -> None:
    answer = await as_json(world, operation, sent)
    assert answer["head"]["status"] == status
    assert answer["head"]["evidence"].startswith("EV")


async def test_an_identifier_alone_leads_to_its_issuer_and_a_shown_code_to_its_certificate(world: World) -> None:
    desk = f"{world.layout.ports.authority_url('shenzhen')}/control/shown"
    async with world.http.post(desk, json={"identifier": FOOD}) as shown:
        code = (await shown.json())["code"]
    nameless = {**FIVE, "HolderRole": "party"}
    data = await as_json(world, "GetCertificateDataByCertificateID", {**nameless, "CertificateID": FOOD})
    (one,) = data["data"]["dataList"]
    assert (one["ZZBS"], one["IssuedIn"], one["CZZTDMLXDM"]) == (FOOD, "shenzhen", "001")
    assert {"name": "主体业态", "value": "餐饮服务经营者"} in one["ZMXX"]
    asked = await as_json(world, "QueryByQRCode", {**nameless, "QRCode": code, "CertificateType": "食品经营许可证"})
    assert (asked["head"]["status"], asked["data"]["dataList"][0]["ZZBS"]) == (0, FOOD)
    surface = await as_json(world, "VerifyCertInfo", {
        **nameless, "CertificateID": FOOD, "Claim": [{"Name": "主体业态", "Value": "餐饮服务经营者"}],
    })  # fmt: skip
    assert (surface["head"]["status"], surface["data"]["dataList"][0]["Claim"]) == (
        0, [{"Name": "主体业态", "Result": "match"}]
    )  # fmt: skip


async def test_soap_fetches_a_file_and_has_it_verified(world: World, soap_of: Any) -> None:
    """The bytes are those of /v1; the same file handed in again is judged by seals and issuer together."""
    soap, token = await soap_of(world), await world.token()
    named = {"identifier": CARD, "certificate_type": None, "holder": None, "holder_role": "party"}
    direct = await world.ask("POST", "/v1/certificates/file", world.question(**named))
    assert direct.status == 200, direct.body
    by_id = await soap.ask("GetCertificateFileByCertificateID", token, **FIVE, HolderRole="party", CertificateID=CARD)
    by_holder = await soap.ask(
        "GetCertificateFileByHolder", token, **FIVE, **HOLDER, CertificateType="身份证",
        CertificateNumber="44010619900101900X",
    )  # fmt: skip
    for answer in (by_id, by_holder):
        (one,) = answer["data"]["dataList"]
        assert (answer["head"]["status"], one["FileData"], one["FileSize"]) == (0, direct.body, len(direct.body))
        assert (one["FileDigest"], one["ZZBS"]) == (hashlib.sha256(direct.body).hexdigest(), CARD)
        (row,) = await world.rows(evidence, id=answer["head"]["evidence"])
        assert row["action"] == "certificate.file"
    judged = await soap.ask("VerifyFile", token, **FIVE, HolderRole="party", FileData=direct.body)
    (verdict,) = judged["data"]["dataList"]
    assert (judged["head"]["status"], verdict["FileVerdict"], verdict["FileGenuine"]) == (0, "good", True)
    forged = direct.body.replace(b"PK\x01\x02", b"PK\x01\x03", 1)
    judged = await soap.ask("VerifyFile", token, **FIVE, HolderRole="party", FileData=forged)
    assert judged["head"]["status"] in {903, 906}


async def test_an_address_serves_a_file_once_and_only_to_whoever_asked(world: World) -> None:
    sent = {**FIVE, "HolderRole": "party", "CertificateID": CARD, "Copy": "1", "expiryTime": "600"}
    made = await as_json(world, "DownloadUrl", sent)
    (link,) = made["data"]["dataList"]
    path = link["DownloadUrl"].removeprefix(world.url)
    assert link["ExpiresAt"].endswith("Z")
    assert (await world.ask("GET", path, client="other-agency")).status == 404
    served = await world.ask("GET", path)
    assert (served.status, served.headers["Certificate-File"]) == (200, "copy")
    assert (await world.ask("GET", path)).status == 404


@pytest.mark.parametrize(
    ("operation", "sent", "status"),
    [
        ("GetCertificateFileByHolder", {"CertificateType": "身份证", "CertificateNumber": "1"}, 10),
        ("GetCertificateFileByHolder", {"CertificateType": "身份证", "CertificateHolder": "别的人"}, 10),
        ("GetCertificateFileByHolder", {}, 12),
        ("DownloadUrl", {"CertificateHolder": "", "CertificateHolderCode": ""}, 12),
        ("VerifyFile", {"CertificateHolder": "", "CertificateHolderCode": ""}, 12),
    ],
)
async def test_a_file_that_cannot_be_had_is_a_status(
    world: World, operation: str, sent: dict[str, Any], status: int
) -> None:
    answer = await as_json(world, operation, {**FIVE, **HOLDER, **sent})
    assert answer["head"]["status"] == status
    assert answer["head"]["evidence"]


@pytest.mark.parametrize(
    ("file", "status"),
    [({"FileID": "nobody"}, 903), ({"FileData": "bm90aGluZw=="}, 903), ({"FileData": "JVBERi0xLjQK"}, 903)],
    ids=["no upload", "no certificate file", "an empty PDF"],
)
async def test_a_file_that_is_none_leaves_nothing_behind(world: World, file: dict[str, str], status: int) -> None:
    before = len([row for row in await world.rows(uploads_table) if row["state"] == "stored"])
    answer, _ = await refused_with(
        world, world.ask("POST", "/elssp/v1/VerifyFile", {**FIVE, "HolderRole": "party", **file})
    )  # fmt: skip
    assert answer.json()["head"]["status"] == status
    assert len([row for row in await world.rows(uploads_table) if row["state"] == "stored"]) == before


async def test_an_agent_asks_about_the_principal_by_a_mandate(world: World) -> None:
    mandate = await recorded(world)
    agent = {"AgentName": "黄文员", "AgentCode": "440106198806150019"}
    sent = {**FIVE, **HOLDER, **agent, "CertificateType": "身份证", "HolderRole": "principal"}
    answer = await as_json(world, "Retrieval", {**sent, "MandateID": mandate})
    (row,) = await world.rows(evidence, id=answer["head"]["evidence"])
    assert (answer["head"]["status"], row["what"]["mandate"]) == (0, mandate)
    refused, _ = await refused_with(world, world.ask("POST", "/elssp/v1/Retrieval", sent))
    head = refused.json()["head"]
    assert (head["status"], [one["field"] for one in head["problem"]]) == (12, ["MandateID"])
    other = {**sent, "MandateID": mandate, "AgentName": "别人"}
    refused, _ = await refused_with(world, world.ask("POST", "/elssp/v1/Retrieval", other))
    assert refused.json()["head"]["status"] == 902


async def test_an_issuer_that_is_away_is_never_no_matching_certificate(world: World) -> None:
    """Whoever reads 10 may deny a citizen what they have."""
    world.authorities["guangdong"].order("down")
    sent = {**FIVE, **HOLDER, "CertificateType": "身份证"}
    for operation in ("Retrieval", "GetCertificateDataByHolder", "VerifyCertInfo"):
        answer = await as_json(world, operation, sent)
        assert answer["head"]["status"] == 900
        (one,) = answer["data"]["dataList"]
        assert one["CertificateStatus"] == 900
        assert one["Reason"]


async def test_an_issuer_that_may_not_be_asked_is_never_no_matching_certificate(world: World) -> None:
    """Eight provinces issue it, of which this agency may ask three: it may well be in one of the others."""
    sent = {**FIVE, **HOLDER, "HolderRole": "party", "CertificateType": "居民户口簿"}
    for operation in ("Retrieval", "GetCertificateDataByHolder", "GetCertificateFileByHolder", "VerifyCertInfo"):
        answer = await as_json(world, operation, sent)
        assert answer["head"]["status"] == 900, operation
        assert "sichuan" in str(answer)


@pytest.mark.parametrize("charset", ["GB18030", "GBK", "UTF-16"])
async def test_a_message_may_be_in_the_character_set_of_an_old_system(world: World, charset: str) -> None:
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in GOOD.items())
    declared = f'<?xml version="1.0" encoding="{charset}"?>'
    text = envelope(f'<Retrieval xmlns="{NAMESPACE}">{inside}</Retrieval>', before=declared).decode()
    answer = await world.ask(
        "POST", "/elssp/soap", text.encode(charset), headers={"Content-Type": f"text/xml; charset={charset}"}
    )  # fmt: skip
    assert etree.fromstring(answer.body).findtext(f".//{{{NAMESPACE}}}ZZBS") == CARD


async def test_whatever_is_sent_is_answered_with_a_status_or_a_fault(world: World) -> None:
    """Elements at random, of every operation: nothing of it may be an error that nobody expected."""
    chance = random.Random(36906)  # noqa: S311 - not a secret: the same bodies each time
    values = [
        "",
        "x",
        "陈小明",
        CARD,
        "用" * 201,
        "0",
        "\u0000",
        5,
        None,
        [],
        {},
        [{}],
        [{"Name": "ZZBFRQ", "Value": "1"}],
        "A" * 65,
    ]
    for operation in OPERATIONS.values():
        for _ in range(8):
            names = [part.name for part in operation.asked if chance.random() < 0.5]
            body = {**chance.choice([{}, GOOD]), **{name: chance.choice(values) for name in names}}
            answer = await world.ask("POST", f"/elssp/v1/{operation.name}", body)
            assert answer.json()["head"]["status"] != 909
            inside = "".join(
                f"<{name}>{escape(value)}</{name}>" for name, value in body.items()
                if isinstance(value, str) and "\u0000" not in value
            )  # fmt: skip
            raw = envelope(f'<{operation.name} xmlns="{NAMESPACE}">{inside}</{operation.name}>')
            answer = await world.ask("POST", "/elssp/soap", raw, headers={"Content-Type": "text/xml"})
            assert etree.fromstring(answer.body).findtext(f".//{{{NAMESPACE}}}status") not in {None, "909"}


# --- what is refused ---------------------------------------------------------------------------------------------

GOOD = {**FIVE, **HOLDER, "CertificateType": "身份证"}
NUMBER_ONLY = {name: value for name, value in GOOD.items() if name != "CertificateHolder"}


@pytest.mark.parametrize(
    ("operation", "sent", "status", "fields"),
    [
        ("Retrieval", NUMBER_ONLY, 12, {"CertificateHolder"}),
        ("Retrieval", {}, 12, {"username", "itemName", "itemCode", "businessCode", "UseFor", "CertificateHolder",
                               "CertificateHolderCode"}),
        ("Retrieval", {**GOOD, "UseFor": "用" * 201}, 903, {"UseFor"}),
        ("Retrieval", {**GOOD, "orgName": "别的单位"}, 903, {"orgName"}),
        ("Retrieval", {**GOOD, "CertificateType": "没有的证"}, 13, {"CertificateType"}),
        ("Retrieval", {**GOOD, "CertificateHolderCodeType": "777"}, 103, {"CertificateHolderCodeType"}),
        ("Retrieval", {**GOOD, "CertificateHolderCode": "440106199001019000"}, 12, {"CertificateHolderCodeType"}),
        ("Retrieval", {**GOOD, "CertificateTypeCode": "11100000000013127D009"}, 113, {"CertificateTypeCode"}),
        ("Retrieval", {**GOOD, "Nonsense": "x"}, 903, {"Nonsense"}),
        ("Retrieval", {**GOOD, "CertificateHolder": 5}, 903, {"CertificateHolder"}),
        ("Retrieval", {**GOOD, "useCause": "twice"}, 903, {"UseFor"}),
        ("Retrieval", {**GOOD, "data": {"UseFor": "twice"}}, 903, {"UseFor"}),
        ("Retrieval", {**GOOD, "data": "text"}, 903, {"data"}),
        ("Retrieval", {**GOOD, "IssuedIn": "atlantis"}, 903, {"IssuedIn"}),
        ("Retrieval", {**GOOD, "PurposeCode": "another"}, 100, set()),
        ("Retrieval", {**GOOD, "CertificateType": "专业资格证书", "CertificateHolder": "陈大文",
                       "CertificateHolderCode": "H00000001", "CertificateHolderCodeType": "516",
                       "HolderRole": "party"}, 902, {"transfer.P3"}),
        ("Retrieval", [], 903, {"(body)"}),
        ("Retrieval", b"{", 903, {"(body)"}),
        ("GetCertificateDataByHolder", {**FIVE, **HOLDER}, 12, {"CertificateType"}),
        ("GetCertificateDataByCertificateID", {**FIVE, "CertificateID": CARD[:-1] + "X"}, 903, {"CertificateID"}),
        ("GetCertificateDataByCertificateID", {**FIVE, "CertificateID": CARD, "CertificateHolder": "陈小明"}, 12,
         {"CertificateHolderCode", "CertificateHolderCodeType"}),
        ("VerifyCertInfo", FIVE, 12, {"CertificateType", "CertificateID"}),
        ("VerifyCertInfo", {**GOOD, "Claim": [{"Name": "ZZBFRQ", "Value": "yesterday"}]}, 903, {"Claim"}),
        ("QueryByQRCode", {**FIVE, "QRCode": "nobody's", "CertificateType": "身份证"}, 903, {"QRCode"}),
        ("GetCertRemarkInfo", {"CertificateType": "没有的证"}, 13, {"CertificateType"}),
    ],
)  # fmt: skip
async def test_what_is_not_right_is_refused_with_a_status_and_evidence(
    world: World, operation: str, sent: Any, status: int, fields: set[str]
) -> None:
    answer, row = await refused_with(world, world.ask("POST", f"/elssp/v1/{operation}", sent))
    head = answer.json()["head"]
    assert (answer.status, head["status"]) == (200, status)
    assert {one["field"].partition(".")[0] if "." not in "".join(fields) else one["field"]
            for one in head.get("problem", [])} == fields  # fmt: skip
    assert (row["reason"], row["who"]["client"]) == (head["code"], "demo-agency")


async def test_without_a_token_or_with_a_bad_one_nobody_is_asked(world: World) -> None:
    """In the body a bad token is a status; in HTTP's header it is HTTP's own refusal too. None is read from a URL."""
    token, sent = await world.token(), {**GOOD}
    ways: list[tuple[dict[str, Any], str, str, int]] = [
        (sent, "", "", 200),
        ({**sent, "accessToken": "nonsense"}, "", "", 200),
        (sent, "", f"?accessToken={token}&access_token={token}", 200),
        (sent, "nonsense", "", 401),
        ({**sent, "accessToken": token}, token, "", 200),
        ({**sent, "accessToken": token, "accessId": "other-agency"}, "", "", 200),
    ]
    for body, header, query, status in ways:
        answer, row = await refused_with(
            world, world.ask("POST", f"/elssp/v1/Retrieval{query}", body, token=header), token
        )
        assert (answer.json()["head"]["status"], row["outcome"]) == (11, "refused")
        if header != token:
            assert answer.status == status
        assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)


@pytest.mark.parametrize("binding", ["jkt", "x5t#S256"])
async def test_a_bound_token_in_a_message_keeps_its_binding(world: World, binding: str) -> None:
    """One bound to a key needs HTTP's own header and its proof; one bound to a certificate the connection."""
    sent = {**GOOD, "accessToken": world.forged_token(cnf={binding: "x"})}
    answer, _ = await refused_with(world, world.ask("POST", "/elssp/v1/Retrieval", sent, token=""))
    assert (answer.status, answer.json()["head"]["status"]) == (200, 11)


async def test_a_token_that_is_bound_to_a_key_works_in_the_header_with_its_proof(world: World) -> None:
    """Whoever forgets the nonce is told it in HTTP's way (RFC 9449 §9)."""
    key, address = ECKey.generate_key("P-256"), "/elssp/v1/Retrieval"
    token = world.forged_token(cnf={"jkt": str(key.thumbprint())})
    digest = hashlib.sha256(token.encode()).digest()
    nonce: str | None = None
    for status in (401, 200):
        claims = {"htm": "POST", "htu": f"{world.url}{address}", "iat": int(time.time()), "jti": secrets.token_hex(8),
                  "ath": base64.urlsafe_b64encode(digest).rstrip(b"=").decode()}  # fmt: skip
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
        proof = jwt.encode(header, {**claims, **({"nonce": nonce} if nonce else {})}, key, algorithms=["ES256"])
        headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
        answer = await world.ask("POST", address, GOOD, token="", headers=headers)
        nonce = answer.headers.get("DPoP-Nonce")
        assert (answer.status, answer.json()["head"]["status"]) == (status, 11 if status == 401 else 0)


async def test_a_token_without_the_scope_is_refused(world: World) -> None:
    """Evidence names whose token it was, wherever it stood."""
    token = await world.token(scope="submissions")
    for sent, header in ((GOOD, token), ({**GOOD, "accessToken": token}, "")):
        answer, row = await refused_with(world, world.ask("POST", "/elssp/v1/Retrieval", sent, token=header))
        assert (answer.json()["head"]["status"], row["who"]["client"]) == (100, AGENCY)


async def test_another_client_without_a_grant_is_told_so(world: World) -> None:
    sent = {**GOOD, "CertificateType": "营业执照", "LegalBasis": "statutory duty"}
    del sent["orgName"]
    answer, _ = await refused_with(
        world, world.ask("POST", "/elssp/v1/Retrieval", sent, client="other-agency")
    )  # fmt: skip
    assert answer.json()["head"]["status"] == 100


async def test_a_client_without_a_registered_legal_basis_must_say_one(world: World) -> None:
    sent = {name: value for name, value in GOOD.items() if name != "orgName"}
    answer, _ = await refused_with(
        world, world.ask("POST", "/elssp/v1/Retrieval", sent, client="other-agency")
    )  # fmt: skip
    head = answer.json()["head"]
    assert (head["status"], [one["field"] for one in head["problem"]]) == (12, ["LegalBasis"])


# --- SOAP that is none -------------------------------------------------------------------------------------------


def envelope(body: str, *, header: str = "", soap: str = SOAP, before: str = "") -> bytes:
    head = f"<s:Header>{header}</s:Header>" if header else ""
    return f'{before}<s:Envelope xmlns:s="{soap}">{head}<s:Body>{body}</s:Body></s:Envelope>'.encode()


RETRIEVAL = f'<q:Retrieval xmlns:q="{NAMESPACE}"><q:UseFor>x</q:UseFor></q:Retrieval>'
BOMB = '<!DOCTYPE z [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
XXE = '<!DOCTYPE z [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (envelope(RETRIEVAL.replace("x<", "&a;<"), before=XXE), "Client"),
        (envelope(RETRIEVAL.replace("x<", "&b;<"), before=BOMB), "Client"),
        (envelope(RETRIEVAL, before=XXE).decode().encode("utf-16"), "Client"),
        (b"<a>", "Client"),
        (b"", "Client"),
        (b'{"a": 1}', "Client"),
        (b"<a/>", "Client"),
        (b"<x>" * 5000, "Client"),
        (envelope(RETRIEVAL, soap="http://www.w3.org/2003/05/soap-envelope"), "VersionMismatch"),
        (envelope(RETRIEVAL.replace(NAMESPACE, "urn:another")), "Client"),
        (envelope(RETRIEVAL.replace("Retrieval", "DropTables")), "Client"),
        (envelope(RETRIEVAL + RETRIEVAL), "Client"),
        (envelope(""), "Client"),
        (envelope(RETRIEVAL, header='<t:x xmlns:t="urn:t" s:mustUnderstand="1"/>'), "MustUnderstand"),
    ],
    ids=["XXE", "bomb", "XXE in UTF-16", "broken", "empty", "JSON", "no envelope", "deep", "SOAP 1.2",
         "wrong namespace", "no operation", "two at once", "empty body", "must understand"],
)  # fmt: skip
async def test_what_is_no_message_gets_a_fault_and_leaves_evidence(world: World, sent: bytes, fault: str) -> None:
    headers = {"Content-Type": "text/xml; charset=utf-8"}
    answer, row = await refused_with(world, world.ask("POST", "/elssp/soap", sent, headers=headers), "aaaa")
    assert answer.status == 500  # as SOAP 1.1 §6.2 has it for every fault
    said = etree.fromstring(answer.body)
    assert said.findtext(".//faultcode") == f"soap:{fault}"
    assert (said.findtext(f".//{{{NAMESPACE}}}code"), row["reason"]) == ("request.not_soap", "request.not_soap")


async def test_another_media_type_and_a_large_body_get_faults_too(world: World) -> None:
    large = envelope(RETRIEVAL.replace("x<", "x" * 70000 + "<"))
    for sent, kind, code in (
        (envelope(RETRIEVAL), "application/json", "request.media_type"),
        (large, "text/xml", "request.too_large"),
    ):
        headers = {"Content-Type": kind}
        answer, row = await refused_with(world, world.ask("POST", "/elssp/soap", sent, headers=headers))
        assert (answer.status, row["reason"]) == (500, code)


async def test_prefixes_order_and_white_space_make_no_difference_but_namespaces_do(world: World) -> None:
    """What a person or an old stub writes by hand."""
    token = await world.token()
    lines = "".join(f"\n  <{name}>\n   {value} <!-- a note -->\n  </{name}>" for name, value in reversed(GOOD.items()))
    header = f'<accessToken xmlns="{NAMESPACE}"> {token} </accessToken>'
    sent = envelope(f'<Retrieval xmlns="{NAMESPACE}">{lines}\n</Retrieval>', header=header)
    headers = {"Content-Type": "text/xml"}
    good = await world.send("POST", "/elssp/soap", data=sent, headers=headers)
    assert etree.fromstring(good.body).findtext(f".//{{{NAMESPACE}}}status") == "0"
    odd = sent.replace(b"<UseFor>", b'<UseFor xmlns="urn:another">').replace(b"<itemCode>", b"<itemCode><b/>")
    answer, _ = await refused_with(world, world.send("POST", "/elssp/soap", data=odd, headers=headers), token)
    said = etree.fromstring(answer.body)
    assert answer.status == 200
    assert {"UseFor", "itemCode"} <= {one.text for one in said.iter(f"{{{NAMESPACE}}}field")}


async def test_every_answer_is_valid_against_the_schema_of_the_description(world: World) -> None:
    described = etree.fromstring((await world.send("GET", "/elssp/soap?WSDL")).body)
    (found,) = described.iter("{http://www.w3.org/2001/XMLSchema}schema")
    schema = etree.XMLSchema(etree.fromstring(etree.tostring(found)))
    headers = {"Content-Type": "text/xml"}
    for sent in (GOOD, {**GOOD, "CertificateType": "驾驶证"}, {}, {**GOOD, "UseFor": "用" * 201}):
        inside = "".join(f"<{name}>{value}</{name}>" for name, value in sent.items())
        for operation in OPERATIONS:
            raw = envelope(f'<{operation} xmlns="{NAMESPACE}">{inside}</{operation}>')
            answer = await world.ask("POST", "/elssp/soap", raw, headers=headers)
            (body,) = etree.fromstring(answer.body).iterfind(f"{{{SOAP}}}Body/*")
            schema.assertValid(body)


async def test_the_address_alone_is_no_description(world: World) -> None:
    answer = await world.send("GET", "/elssp/soap")
    assert (answer.status, answer.json()["code"]) == (404, "request.not_found")
    assert f'location="{world.url}/elssp/soap"'.encode() in (await world.send("GET", "/elssp/soap?wsdl")).body
    assert CITIZEN["name"] == HOLDER["CertificateHolder"]
