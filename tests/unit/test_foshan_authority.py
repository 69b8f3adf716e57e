"""The simulated Foshan refuses what a strict authority would refuse, and does its work once.

The client here is a third reading of `adapters/foshan/README.md`: it shares no code with the authority or the adapter.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import gzip
import hashlib
import io
import json
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from adapters.foshan.sandbox import build_authority
from gateway.sandbox.authority import NOTEBOOK, AuthoritySettings

NS = "urn:gov:foshan:exchange:v1"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
DS = "http://www.w3.org/2000/09/xmldsig#"
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
ITEM = "11440600MBT406003B3442011899001"
PERSON = "44010619900101900X"

Element = etree._Element


@dataclass(frozen=True)
class Pair:
    """A minted key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        encryption = serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def mint(name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOON - timedelta(days=1)).not_valid_after(NOON + timedelta(days=365))
    return Pair(key, builder.sign(key, hashes.SHA256()))


class _Signer(XMLSigner):
    """A signer that takes a text of more than ten million characters, which its own parser would refuse."""

    @property
    def parser(self) -> etree.XMLParser:
        return etree.XMLParser(resolve_entities=False, huge_tree=True)


@dataclass(frozen=True)
class Keys:
    gateway: Pair
    foshan: Pair
    stranger: Pair


@dataclass
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Answer:
    """What came back: a verified answer element, or the code and text of a fault."""

    element: Element | None = None
    code: str = ""
    text: str = ""
    faultcode: str = ""

    def get(self, path: str) -> str:
        assert self.element is not None, f"{self.faultcode} {self.code}: {self.text}"
        return self.element.findtext("/".join(f"{{{NS}}}{step}" for step in path.split("/"))) or ""

    def all(self, name: str) -> list[Element]:
        assert self.element is not None, f"{self.faultcode} {self.code}: {self.text}"
        return self.element.findall(f"{{{NS}}}{name}")

    @property
    def name(self) -> str:
        assert self.element is not None, f"{self.faultcode} {self.code}: {self.text}"
        return etree.QName(self.element).localname


@dataclass
class Office:
    """A client of the authority that can also send what no honest client would."""

    http: TestClient[Any, Any]
    keys: Keys
    clock: Clock

    def stamped(self, element: Element, message_id: str = "", seconds: int = 0) -> Element:
        element.set("messageId", message_id or str(uuid.uuid4()))
        element.set("timestamp", f"{self.clock.now + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}")
        return element

    def signed(
        self, element: Element, pair: Pair | None = None, signer: type[XMLSigner] | None = None, **algorithms: Any
    ) -> Element:
        chosen = {
            "signature_algorithm": SignatureMethod.ECDSA_SHA256,
            "c14n_algorithm": CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
            **algorithms,
        }
        return (signer or _Signer)(**chosen).sign(element, key=(pair or self.keys.gateway).key)

    async def send(self, operation: str, element: Element) -> Answer:
        """Stamp, sign, send and verify the answer, as an honest client does."""
        return await self.post(operation, wrapped(self.signed(self.stamped(element))), element.get("messageId", ""))

    async def post(self, operation: str, body: bytes, reply_to: str = "", **headers: str) -> Answer:
        sent = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{NS}#{operation}"', **headers}
        async with self.http.post("/ws/exchange", data=io.BytesIO(body), headers=sent) as response:
            assert response.content_type == "text/xml"
            envelope = etree.fromstring(await response.read())
        content = envelope[0][0]
        if response.status == 200:
            return Answer(self._verified(content, reply_to))
        assert response.status == 500
        assert content.tag == f"{{{SOAP}}}Fault"
        error = content.find(f"detail/{{{NS}}}error")
        assert error is not None
        text = content.findtext("faultstring") or ""
        return Answer(code=error.get("code", ""), text=text, faultcode=content.findtext("faultcode") or "")

    def _verified(self, content: Element, reply_to: str) -> Element:
        config = SignatureConfiguration(location="./", verification_time=self.clock.now)
        alone = etree.tostring(content, with_tail=False)
        result = XMLVerifier().verify(alone, x509_cert=self.keys.foshan.certificate, expect_config=config)
        assert isinstance(result, VerifyResult)
        assert result.signed_xml is not None
        if reply_to:
            assert result.signed_xml.get("inReplyTo") == reply_to
        return result.signed_xml

    async def upload(self, case_no: str, content: bytes) -> Answer:
        return await self.send("UploadMaterial", material(case_no, content))

    async def events(self, after: int = 0, limit: int = 200) -> tuple[list[Element], int]:
        answer = await self.send("QueryEvents", make("EventQuery", After=after, Limit=limit))
        return answer.all("Event"), int(answer.get("Next"))

    async def events_until(self, case_no: str, status: str) -> list[Element]:
        """Poll by cursor until the case has this status; the pace of the authority decides how often."""
        seen: list[Element] = []
        cursor = 0
        async with asyncio.timeout(20):
            while not any(value(e, "CaseNo") == case_no and value(e, "Status") == status for e in seen):
                fresh, cursor = await self.events(cursor)
                seen += fresh
        return seen

    async def misbehave(self, mode: str, times: int = 1) -> None:
        async with self.http.post("/control", json={"mode": mode, "times": times}) as response:
            assert response.status == 200

    async def ledger(self) -> Any:
        async with self.http.get("/control/ledger") as response:
            return await response.json()


def make(tag: str, /, **children: object) -> Element:
    element = etree.Element(f"{{{NS}}}{tag}", nsmap={None: NS})
    for name, text in children.items():
        etree.SubElement(element, f"{{{NS}}}{name}").text = str(text)
    return element


def value(element: Element, name: str) -> str:
    return element.findtext(f"{{{NS}}}{name}") or ""


def place(element: Element, path: str) -> Element:
    found = element.find("/".join(f"{{{NS}}}{step}" for step in path.split("/")))
    assert found is not None
    return found


def wrapped(*contents: Element, prolog: bytes = b"") -> bytes:
    envelope = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap": SOAP})
    etree.SubElement(envelope, f"{{{SOAP}}}Body").extend(contents)
    return prolog + etree.tostring(envelope, encoding="utf-8")


def material(case_no: str, content: bytes, digest: str = "") -> Element:
    digest = digest or hashlib.sha256(content).hexdigest()
    text = base64.b64encode(content).decode()
    return make("Material", CaseNo=case_no, Digest=digest, MediaType="application/pdf", Content=text)


def case(case_no: str = "PG-1", name: str = "测试甲", contents: tuple[bytes, ...] = ()) -> Element:
    element = make(
        "Case",
        CaseNo=case_no,
        ItemCode=ITEM,
        ItemName="住房公积金异地转移接续",
        SubmitTime="2026-03-02T11:59:30+08:00",
        SubmitMode="WINDOW",
        OriginRegion="430100000000",
        HandlingRegion="440600000000",
    )
    etree.SubElement(element, f"{{{NS}}}Window", id="CS-01", operator="op-7")
    applicant = make("Applicant", Name=name, IdType="111", IdNumber=PERSON, Sex="女", BirthDate="1990-01-01")
    applicant.set("kind", "1")
    form = make("Form", Field="5000")
    form[0].set("name", "amount")
    materials = make("Materials")
    materials.extend(listed(content) for content in contents)
    element.extend([applicant, form, materials])
    return element


def listed(content: bytes) -> Element:
    digest = hashlib.sha256(content).hexdigest()
    element = make("Material", Name="身份证", MediaType="application/pdf", Size=len(content), Digest=digest)
    element.set("code", "M1")
    element[3].set("alg", "SHA-256")
    return element


def certificate_query(**changed: str) -> Element:
    told = {
        "TypeCode": "11100000000013127D001",
        "TypeName": "居民身份证",
        "HolderName": "测试甲",
        "HolderIdType": "111",
        "HolderIdNumber": PERSON,
        "UseFor": "公积金转移",
        "OrgName": "长沙市政务中心",
        "UserName": "op-7",
        "ItemName": "公积金转移",
        "ItemCode": ITEM,
        "BusinessCode": "PG-1",
    }
    return make("CertificateQuery", **{**told, **changed})


CERTIFICATES = [
    {
        "region": "foshan",
        "type_code": "11100000000013127D001",
        "type_name": "居民身份证",
        "identifier": "1.2.156.3005.2.11100000000013127D001.11440600MBT406003B.SBX000000000001.001.X",
        "number": PERSON,
        "issuer_name": "佛山市公安局",
        "issuer_code": "11440600MBT406003B",
        "issued_on": "2020-01-01",
        "valid_from": "2020-01-01",
        "holder_name": "测试 甲",
        "holder_id_type": "CN_RIC",
        "holder_id_number": PERSON,
        "state": "suspended",
    }
]
ELSEWHERE = {**CERTIFICATES[0], "region": "shenzhen", "type_code": "11100000000013127D999", "type_name": "别处的证"}


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys(mint("gateway"), mint("foshan"), mint("stranger"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path, keys: Keys) -> AuthoritySettings:
    return AuthoritySettings(
        region="foshan",
        gateway_url="http://gateway.invalid",
        state=tmp_path / "foshan.sqlite",
        secrets={
            "peer_key": keys.foshan.key_pem,
            "peer_cert": keys.foshan.certificate_pem,
            "signing_cert": keys.gateway.certificate_pem,
            "item_codes": json.dumps([ITEM]).encode(),
        },
        people=[],
        certificates=[*CERTIFICATES, ELSEWHERE],
        pace=0.0,
    )


Opened = Callable[[AuthoritySettings], Awaitable[Office]]


@pytest.fixture
async def opened(keys: Keys, clock: Clock) -> AsyncIterator[Opened]:
    """Open offices at will; they are closed at the end, and closing one earlier is allowed."""
    clients: list[TestClient[Any, Any]] = []

    async def start(settings: AuthoritySettings) -> Office:
        clients.append(TestClient(TestServer(build_authority(settings, clock))))
        await clients[-1].start_server()
        return Office(clients[-1], keys, clock)

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def office(opened: Opened, settings: AuthoritySettings) -> Office:
    return await opened(settings)


# --- signatures ---


async def test_a_signed_message_gets_an_answer_signed_by_foshan_and_tied_to_it(office: Office) -> None:
    """`send` verifies the answer's signature and its inReplyTo."""
    answer = await office.send("QueryCase", make("CaseQuery", CaseNo="PG-9"))
    assert (answer.name, answer.get("CaseNo")) == ("NoSuchCase", "PG-9")


async def test_an_unsigned_message_is_refused(office: Office) -> None:
    answer = await office.post("SubmitCase", wrapped(office.stamped(case())))
    assert (answer.code, answer.faultcode) == ("signature", "soap:Client")
    assert (await office.ledger())["cases"] == {}


async def test_a_message_signed_by_another_key_is_refused_whatever_its_key_info_says(office: Office) -> None:
    """The signer's own public key stands in KeyInfo; only the pinned one counts."""
    signed = office.signed(office.stamped(case()), office.keys.stranger)
    assert signed.find(f".//{{{DS}}}KeyValue") is not None
    assert (await office.post("SubmitCase", wrapped(signed))).code == "signature"


async def test_a_message_altered_after_signing_is_refused(office: Office) -> None:
    signed = office.signed(office.stamped(case()))
    place(signed, "Applicant/Name").text = "测试乙"
    assert (await office.post("SubmitCase", wrapped(signed))).code == "signature"


@pytest.mark.parametrize("attribute", ["messageId", "timestamp"])
async def test_the_freshness_of_a_message_is_under_its_signature(office: Office, attribute: str) -> None:
    signed = office.signed(office.stamped(case()))
    office.stamped(signed, seconds=1)
    assert signed.get(attribute)
    assert (await office.post("SubmitCase", wrapped(signed))).code == "signature"


def nested(honest: Element, evil: Element) -> tuple[Element, ...]:
    """The honest message inside the evil one, both complete."""
    evil.append(honest)
    return (evil,)


def beside(honest: Element, evil: Element) -> tuple[Element, ...]:
    return (evil, honest)


def stolen(honest: Element, evil: Element) -> tuple[Element, ...]:
    """The evil message carries the honest signature, and the honest message as a child."""
    evil.append(honest)
    evil.append(place_of_signature(honest))
    return (evil,)


def inside_signature(honest: Element, evil: Element) -> tuple[Element, ...]:
    """The honest message moved into an Object of its own signature, which now hangs on the evil one."""
    signature = place_of_signature(honest)
    evil.append(signature)
    etree.SubElement(signature, f"{{{DS}}}Object").append(honest)
    return (evil,)


def place_of_signature(message: Element) -> Element:
    found = message.find(f"{{{DS}}}Signature")
    assert found is not None
    return found


@pytest.mark.parametrize("attack", [nested, beside, stolen, inside_signature])
async def test_a_wrapped_signature_never_lends_itself_to_an_unsigned_message(
    office: Office, attack: Callable[[Element, Element], tuple[Element, ...]]
) -> None:
    """XML signature wrapping: what is verified and what is read must be the same element."""
    honest = office.signed(office.stamped(case("PG-honest")))
    evil = office.stamped(case("PG-evil"))
    answer = await office.post("SubmitCase", wrapped(*attack(honest, evil)))
    assert answer.code in ("signature", "schema")
    assert (await office.ledger())["cases"] == {}


async def test_a_reference_by_id_is_refused_though_it_fits(office: Office) -> None:
    """An id can be carried elsewhere; the empty URI can only mean the message itself."""
    element = office.stamped(case())
    element.set("Id", "honest")
    signed = office.signed(element)
    assert signed.find(f".//{{{DS}}}Reference[@URI='#honest']") is not None
    assert (await office.post("SubmitCase", wrapped(signed))).code == "signature"


async def test_a_second_reference_is_refused(office: Office) -> None:
    signed = office.signed(office.stamped(case()))
    info, reference = signed.find(f".//{{{DS}}}SignedInfo"), signed.find(f".//{{{DS}}}Reference")
    assert info is not None
    assert reference is not None
    info.append(etree.fromstring(etree.tostring(reference)))
    assert (await office.post("SubmitCase", wrapped(signed))).code == "signature"


@pytest.mark.parametrize(
    "algorithms",
    [
        {"c14n_algorithm": CanonicalizationMethod.CANONICAL_XML_1_1},
        {"c14n_algorithm": CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0_WITH_COMMENTS},
        {"digest_algorithm": DigestAlgorithm.SHA512},
        {"signature_algorithm": SignatureMethod.ECDSA_SHA512},
    ],
)
async def test_other_algorithms_than_the_agreed_ones_are_refused(office: Office, algorithms: dict[str, Any]) -> None:
    signed = office.signed(office.stamped(case()), **algorithms)
    assert (await office.post("SubmitCase", wrapped(signed))).code == "signature"


@pytest.mark.parametrize("algorithm", ["http://www.w3.org/TR/1999/REC-xpath-19991116", "urn:none"])
async def test_a_further_transform_is_refused(office: Office, algorithm: str) -> None:
    """The verifier passes over transforms that it does not know, so the list itself must be looked at."""

    class Signer(_Signer):
        def _build_transforms_for_reference(self, **given: Any) -> None:
            super()._build_transforms_for_reference(**given)
            etree.SubElement(given["transforms_node"], f"{{{DS}}}Transform", Algorithm=algorithm)

    signed = office.signed(office.stamped(case()), signer=Signer)
    assert (await office.post("SubmitCase", wrapped(signed))).code == "signature"


async def test_another_canonical_form_of_the_signature_itself_is_refused(office: Office) -> None:
    """The reference names the agreed form, the signed information another one; both are part of the agreement."""

    class Signer(_Signer):
        def _build_transforms_for_reference(self, **given: Any) -> None:
            super()._build_transforms_for_reference(**given)
            given["transforms_node"][1].set("Algorithm", "http://www.w3.org/2001/10/xml-exc-c14n#")

    other = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0_WITH_COMMENTS
    signed = office.signed(office.stamped(case()), signer=Signer, c14n_algorithm=other)
    assert (await office.post("SubmitCase", wrapped(signed))).code == "signature"


@pytest.mark.parametrize("tag", ["SignatureValue", "DigestValue", "Transforms", "DigestMethod", "SignedInfo"])
async def test_a_mutilated_signature_is_refused_and_breaks_nothing(office: Office, tag: str) -> None:
    signed = office.signed(office.stamped(case()))
    found = signed.find(f".//{{{DS}}}{tag}")
    assert found is not None
    found.clear()
    assert (await office.post("SubmitCase", wrapped(signed))).code == "signature"


async def test_a_namespace_declared_by_the_envelope_does_not_break_the_signature(office: Office) -> None:
    """The element is signed alone, and exclusive C14N leaves out what it does not use."""
    body = wrapped(office.signed(office.stamped(case()))).replace(b"<soap:Body>", b'<soap:Body xmlns:x="urn:x">', 1)
    assert (await office.post("SubmitCase", body)).name == "CaseReceipt"


async def test_a_comment_cannot_cut_a_signed_value_short(office: Office) -> None:
    """Canonical form drops comments, so a comment added later keeps the signature; the value must stay whole too."""
    body = wrapped(office.signed(office.stamped(case("PG-123")))).replace(b">PG-123<", b">PG-1<!-- -->23<")
    assert (await office.post("SubmitCase", body)).get("CaseNo") == "PG-123"


# --- freshness ---


@pytest.mark.parametrize("seconds", [-301, 301])
async def test_a_stale_message_is_refused(office: Office, seconds: int) -> None:
    body = wrapped(office.signed(office.stamped(case(), seconds=seconds)))
    assert (await office.post("SubmitCase", body)).code == "stale"


@pytest.mark.parametrize("seconds", [-300, 300])
async def test_a_message_at_the_edge_of_the_tolerance_is_taken(office: Office, seconds: int) -> None:
    body = wrapped(office.signed(office.stamped(case(), seconds=seconds)))
    assert (await office.post("SubmitCase", body)).name == "CaseReceipt"


async def test_a_replayed_message_is_refused_even_after_a_restart(
    opened: Opened, office: Office, settings: AuthoritySettings
) -> None:
    body = wrapped(office.signed(office.stamped(make("CaseQuery", CaseNo="PG-1"))))
    assert (await office.post("QueryCase", body)).name == "NoSuchCase"
    assert (await office.post("QueryCase", body)).code == "stale"
    await office.http.close()
    office = await opened(settings)
    assert (await office.post("QueryCase", body)).code == "stale"


async def test_a_message_id_in_other_letters_is_still_the_same_id(office: Office) -> None:
    message_id = "abcdefab-0000-4000-8000-abcdefabcdef"
    codes = []
    for spelling in (message_id, message_id.upper()):
        query = office.stamped(make("CaseQuery", CaseNo="PG-1"), spelling)
        codes.append((await office.post("QueryCase", wrapped(office.signed(query)))).code)
    assert codes == ["", "stale"]


@pytest.mark.parametrize(
    ("attribute", "text"), [("messageId", "one"), ("timestamp", "2026-03-02T12:00:00+08:00"), ("timestamp", "9" * 20)]
)
async def test_a_malformed_stamp_is_refused(office: Office, attribute: str, text: str) -> None:
    query = office.stamped(make("CaseQuery", CaseNo="PG-1"))
    query.set(attribute, text)
    answer = await office.post("QueryCase", wrapped(office.signed(query)))
    assert answer.code == "schema"
    assert attribute in answer.text


# --- envelopes ---


@pytest.mark.parametrize(
    "prolog",
    [
        b"<!DOCTYPE x>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd">',
        b'\xef\xbb\xbf<?xml version="1.0"?> <!-- > --><?x <y>?>\n<!DOCTYPE x>',
    ],
)
async def test_a_doctype_is_refused(office: Office, prolog: bytes) -> None:
    body = wrapped(office.signed(office.stamped(case())), prolog=prolog)
    answer = await office.post("SubmitCase", body)
    assert answer.code == "schema"
    assert "DOCTYPE" in answer.text


async def test_a_doctype_hidden_by_another_encoding_is_refused(office: Office) -> None:
    """Otherwise the prolog that is looked at would not be the one that is parsed."""
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        assert (await office.post("SubmitCase", "<!DOCTYPE x><x/>".encode(encoding))).code == "schema"


async def test_a_message_is_read_as_utf_8_whatever_it_declares(office: Office) -> None:
    signed = office.signed(office.stamped(case()))
    body = wrapped(signed, prolog=b'<?xml version="1.0" encoding="iso-8859-1"?>')
    assert (await office.post("SubmitCase", body)).name == "CaseReceipt"


async def test_a_doctype_is_refused_before_anything_behind_it_is_read(office: Office) -> None:
    """Entities in attributes are expanded while parsing; waiting for the parser would be too late."""
    answer = await office.post("SubmitCase", b'<!DOCTYPE x [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><x y="&b;"')
    assert "DOCTYPE" in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<a><b></a>",
        b"<a>&nbsp;</a>",
        b"<a/>",
        b"\x00\xff",
        b"<?x" * 1000,
        b"<!-- -->" * 5000,
        b"<a>" * 100_000,
        wrapped(),
        wrapped(make("A"), make("B")),
        wrapped(etree.Element("Case")),
        wrapped(make("Case")).replace(b"<soap:Body>", b"<soap:Header/><soap:Body>"),
    ],
    ids=range(13),
)
async def test_what_is_no_envelope_is_refused_with_a_fault(office: Office, body: bytes) -> None:
    assert (await office.post("SubmitCase", body)).code == "schema"


async def test_an_oversized_message_is_refused(office: Office) -> None:
    answer = await office.post("SubmitCase", b"<a>" + b" " * (16 * 1024 * 1024))
    assert answer.code == "schema"
    assert "longer" in answer.text


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(office: Office) -> None:
    packed = gzip.compress(b" " * (20 * 1024 * 1024))
    answer = await office.post("SubmitCase", packed, **{"Content-Encoding": "gzip"})
    assert answer.code == "schema"


async def test_a_body_that_is_not_encoded_as_announced_is_refused(office: Office) -> None:
    answer = await office.post("SubmitCase", b"<a/>" * 100, **{"Content-Encoding": "gzip"})
    assert answer.code == "schema"


@pytest.mark.parametrize("content_type", ["application/json", "text/xml; charset=gb18030", "text/xml; charset=no-such"])
async def test_another_content_type_is_refused(office: Office, content_type: str) -> None:
    assert (await office.post("SubmitCase", wrapped(case()), **{"Content-Type": content_type})).code == "schema"


async def test_an_unknown_operation_is_refused(office: Office) -> None:
    assert (await office.send("DropCase", make("CaseQuery", CaseNo="PG-1"))).code == "unknown-operation"
    body = wrapped(office.signed(office.stamped(make("CaseQuery", CaseNo="PG-1"))))
    assert (await office.post("", body, SOAPAction="QueryCase")).code == "unknown-operation"


async def test_an_operation_takes_only_its_own_element(office: Office) -> None:
    """SOAPAction is not signed: it must not turn one signed message into another."""
    answer = await office.send("SubmitCase", make("CaseQuery", CaseNo="PG-1"))
    assert (answer.code, answer.text) == ("schema", "Body: SubmitCase takes a Case")


async def test_a_fault_of_its_own_may_be_tried_again(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    assert office.http.app is not None
    office.http.app[NOTEBOOK].close()
    answer = await office.send("SubmitCase", case())
    assert (answer.code, answer.faultcode) == ("internal", "soap:Server")
    assert "ProgrammingError" in caplog.text


# --- cases ---


async def test_a_case_sent_twice_is_taken_once(office: Office) -> None:
    await office.upload("PG-1", b"scan")
    first = await office.send("SubmitCase", case(contents=(b"scan",)))
    second = await office.send("SubmitCase", case(contents=(b"scan",)))
    assert first.get("AcceptNo").startswith("FS")
    assert len(first.get("AcceptNo")) == 14
    assert first.get("ReceivedAt") == "2026-03-02T12:00:00+08:00"
    assert [second.get(name) for name in ("CaseNo", "AcceptNo", "ReceivedAt")] == [
        first.get(name) for name in ("CaseNo", "AcceptNo", "ReceivedAt")
    ]
    ledger = await office.ledger()
    assert list(ledger["cases"]) == ["PG-1"]
    assert ledger["arrivals"] == {"PG-1": 2}
    asked = await office.send("QueryCase", make("CaseQuery", CaseNo="PG-1"))
    assert asked.get("AcceptNo") == first.get("AcceptNo")


async def test_a_case_sent_again_on_its_way_does_not_go_its_way_twice(
    opened: Opened, settings: AuthoritySettings
) -> None:
    office = await opened(replace(settings, pace=0.05))
    for _ in range(3):
        await office.send("SubmitCase", case())
    await office.events_until("PG-1", "60")
    events, _ = await office.events()
    assert [value(event, "Status") for event in events] == ["10", "20", "50", "60"]


async def test_a_lost_answer_hides_work_that_was_done(office: Office) -> None:
    """The gap that the gateway's reconciliation is for: no answer, and yet a case."""
    await office.misbehave("lost_answer")
    with pytest.raises(aiohttp.ClientError):
        await office.send("SubmitCase", case())
    answer = await office.send("QueryCase", make("CaseQuery", CaseNo="PG-1"))
    assert answer.name == "CaseReceipt"
    assert (await office.ledger())["arrivals"] == {"PG-1": 1}


async def test_all_field_errors_are_named_at_once_and_no_value_is_repeated(office: Office) -> None:
    """One round trip must be enough to repair a form; a value may be personal data."""
    wrong = case()
    changes = {
        "CaseNo": "PG 1",
        "SubmitTime": "2026-02-30T11:59:30+08:00",
        "SubmitMode": "POST",
        "OriginRegion": "4301",
        "Applicant/Name": " ",
        "Applicant/IdNumber": "440106199001019001",
        "Applicant/BirthDate": "1990-13-01",
    }
    for path, text in changes.items():
        place(wrong, path).text = text
    place(wrong, "Window").attrib.pop("operator")
    place(wrong, "Form/Field").set("unit", "yuan")
    wrong.remove(place(wrong, "HandlingRegion"))
    wrong.append(make("Extra"))
    answer = await office.send("SubmitCase", wrong)
    assert (answer.code, answer.faultcode) == ("schema", "soap:Client")
    wanted = [f"Case/{path}:" for path in changes]
    wanted += ["Case/Window/@operator:", "Case/Form/Field[1]:", "Case/HandlingRegion: missing", "Case: 1 element(s)"]
    assert [place for place in wanted if place not in answer.text] == []
    assert "440106199001019001" not in answer.text


async def test_elements_out_of_order_or_doubled_are_refused(office: Office) -> None:
    wrong = case()
    wrong.insert(0, place(wrong, "ItemName"))
    wrong.insert(0, make("CaseNo"))
    answer = await office.send("SubmitCase", wrong)
    assert "out of order" in answer.text
    assert "Case/CaseNo: given 2 times" in answer.text


async def test_an_instruction_or_loose_text_inside_a_message_is_refused(office: Office) -> None:
    wrong = case()
    place(wrong, "ItemName").append(etree.ProcessingInstruction("x", "y"))
    place(wrong, "Form").text = "loose"
    answer = await office.send("SubmitCase", wrong)
    assert "Case/ItemName: text alone" in answer.text
    assert "Case/Form: no text" in answer.text


@pytest.mark.parametrize(
    ("kind", "id_type", "number", "taken"),
    [
        ("1", "111", PERSON, True),
        ("1", "111", "810000199202290010", True),
        ("1", "111", "440106199001019000", False),
        ("1", "111", "11010519491231002x", False),
        ("1", "111", "110105900101002", False),
        ("2", "001", "91440101MA5T00010Q", True),
        ("2", "001", "91440101MA5T00011Q", False),
        ("1", "001", "91440101MA5T00010Q", False),
        ("2", "111", PERSON, False),
        ("1", "516", "H12345678", True),
        ("1", "516", "X12345678", False),
        ("1", "511", "12345678", True),
        ("1", "553", "944840198001010011", True),
        ("1", "553", "944840198001010012", False),
        ("1", "414", "E12345678", True),
        ("1", "414", "E1", False),
        ("2", "999", "12345678", True),
    ],
)
async def test_an_identity_number_must_be_one_of_its_type(
    office: Office, kind: str, id_type: str, number: str, taken: bool
) -> None:
    """GB 11643, GB 32100 and the forms of travel documents; a wrong check digit is a typing error at the window."""
    wrong = case()
    place(wrong, "Applicant").set("kind", kind)
    place(wrong, "Applicant/IdType").text = id_type
    place(wrong, "Applicant/IdNumber").text = number
    answer = await office.send("SubmitCase", wrong)
    assert answer.code == ("" if taken else "schema")


@pytest.mark.parametrize("number", ["440106209901019001", "440106199002299007"])
async def test_a_citizens_number_with_an_impossible_or_future_birthday_is_refused(office: Office, number: str) -> None:
    """Both check digits are right: 2099-01-01 is to come, and 1990 had no 29 February."""
    wrong = case()
    place(wrong, "Applicant/IdNumber").text = number
    assert "IdNumber" in (await office.send("SubmitCase", wrong)).text


async def test_an_unknown_item_is_refused(office: Office) -> None:
    wrong = case()
    place(wrong, "ItemCode").text = "11440600MBT406003B3442011899002"
    assert (await office.send("SubmitCase", wrong)).code == "unknown-item"


async def test_a_message_with_thousands_of_errors_gets_a_short_fault(office: Office) -> None:
    wrong = case()
    place(wrong, "Form").extend(make("Field") for _ in range(2000))
    answer = await office.send("SubmitCase", wrong)
    assert "and 1900 more" in answer.text


# --- materials ---


async def test_an_upload_is_acknowledged_by_its_digest_and_repeating_it_is_harmless(office: Office) -> None:
    for _ in range(2):
        answer = await office.upload("PG-1", b"scan")
        assert answer.get("Digest") == hashlib.sha256(b"scan").hexdigest()


async def test_an_upload_longer_than_ten_million_characters_is_taken(office: Office) -> None:
    """The XML library's own limit for one text lies below the 16 MiB that are agreed."""
    content = bytes(8 * 1024 * 1024)
    answer = await office.upload("PG-1", content)
    assert answer.get("Digest") == hashlib.sha256(content).hexdigest()


async def test_an_upload_that_is_not_what_its_digest_says_is_refused(office: Office) -> None:
    answer = await office.send("UploadMaterial", material("PG-1", b"scan", digest="0" * 64))
    assert answer.code == "digest"


@pytest.mark.parametrize("text", ["%%%", "YQ", "甲"])
async def test_an_upload_that_is_not_base64_is_refused(office: Office, text: str) -> None:
    wrong = material("PG-1", b"scan")
    place(wrong, "Content").text = text
    answer = await office.send("UploadMaterial", wrong)
    assert answer.code == "schema"
    assert "Material/Content" in answer.text


async def test_a_case_needs_all_its_materials_uploaded_as_described(office: Office) -> None:
    """Uploads of another case do not count, and neither does another size."""
    await office.upload("PG-2", b"one")
    await office.upload("PG-1", b"two")
    wrong = case(contents=(b"one", b"two"))
    place(wrong, "Materials")[1][2].text = "4"
    answer = await office.send("SubmitCase", wrong)
    assert answer.code == "digest"
    assert "Material[1]" in answer.text
    assert "Material[2]" in answer.text
    assert (await office.ledger())["cases"] == {}


# --- events ---


async def test_a_case_proceeds_and_its_events_are_polled_in_order_exactly_once(office: Office) -> None:
    """The cursor is one sequence over all cases."""
    for case_no in ("PG-1", "PG-2"):
        receipt = await office.send("SubmitCase", case(case_no))
    await office.events_until("PG-1", "60")
    await office.events_until("PG-2", "60")
    seen: list[Element] = []
    cursor, fresh = 0, [make("Event")]
    while fresh:
        fresh, cursor = await office.events(cursor, limit=3)
        assert len(fresh) <= 3
        seen += fresh
    assert [int(event.get("seq", "")) for event in seen] == [1, 2, 3, 4, 5, 6, 7, 8]
    for case_no in ("PG-1", "PG-2"):
        steps = [value(event, "Status") for event in seen if value(event, "CaseNo") == case_no]
        assert steps == ["10", "20", "50", "60"]
    assert len({value(event, "EventId") for event in seen}) == 8
    last = [event for event in seen if value(event, "CaseNo") == "PG-2"][-1]
    assert value(last, "AcceptNo") == receipt.get("AcceptNo")
    assert (value(last, "OccurredAt"), value(place(last, "Result"), "Code")) == ("2026-03-02T12:00:00+08:00", "6")


async def test_a_poll_beyond_the_last_event_keeps_its_cursor(office: Office) -> None:
    assert await office.events(after=7) == ([], 7)


@pytest.mark.parametrize(("after", "limit"), [("-1", "1"), ("", "1"), ("0", "0"), ("0", "201"), ("9" * 50, "1")])
async def test_a_poll_outside_its_limits_is_refused(office: Office, after: str, limit: str) -> None:
    answer = await office.send("QueryEvents", make("EventQuery", After=after, Limit=limit))
    assert answer.code == "schema"


async def test_an_applicant_marked_for_refusal_is_not_accepted_and_the_case_ends(office: Office) -> None:
    await office.send("SubmitCase", case(name="不予受理测试"))
    events = await office.events_until("PG-1", "21")
    assert [value(event, "Status") for event in events] == ["10", "21"]
    assert value(events[-1], "Reason")
    assert (await office.ledger())["cases"]["PG-1"]["state"] == "21"


async def test_a_doubled_event_comes_under_a_new_number_with_the_same_id(office: Office) -> None:
    await office.misbehave("duplicate_callback", times=-1)
    await office.send("SubmitCase", case())
    await office.events_until("PG-1", "60")
    events, _ = await office.events()
    assert [value(event, "Status") for event in events] == ["10", "10", "20", "20", "50", "50", "60", "60"]
    assert len({value(event, "EventId") for event in events}) == 4
    assert len({event.get("seq") for event in events}) == 8


async def test_an_unfinished_case_goes_on_after_a_restart(opened: Opened, settings: AuthoritySettings) -> None:
    slow = await opened(replace(settings, pace=3600))
    await slow.send("SubmitCase", case())
    await slow.events_until("PG-1", "10")
    await slow.http.close()
    office = await opened(settings)
    events = await office.events_until("PG-1", "60")
    assert [value(event, "Status") for event in events] == ["10", "20", "50", "60"]


async def test_neither_the_notebook_nor_the_log_knows_the_applicant(
    office: Office, settings: AuthoritySettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="adapters")
    await office.send("SubmitCase", case())
    await office.send("SubmitCase", make("Case", CaseNo=PERSON))
    await office.events_until("PG-1", "60")
    pages = b"".join(path.read_bytes() for path in settings.state.parent.iterdir())
    for personal in (PERSON, "测试甲"):
        assert personal.encode() not in pages
        assert json.dumps(personal).encode() not in pages
        assert personal not in "".join(r.getMessage() for r in caplog.records if r.name.startswith("adapters"))


# --- courses and messages about a case ---


@pytest.mark.parametrize(
    ("order", "statuses"),
    [
        ("course_supplement_expired", "10 30 32 81"),
        ("course_tolerance_breached", "10 22 43 81"),
        ("course_special", "10 20 40 41 50 60"),
        ("course_extended", "10 20 42 50 60"),
        ("course_refused", "10 21"),
        ("course_not_within_power", "10 23"),
        ("course_returned", "10 81"),
        ("course_void", "10 20 50 60 82"),
        ("course_delivered", "10 20 50 60 70"),
    ],
)
async def test_a_case_takes_the_course_that_was_ordered(office: Office, order: str, statuses: str) -> None:
    await office.misbehave(order)
    await office.send("SubmitCase", case())
    events = await office.events_until("PG-1", statuses.split()[-1])
    assert [value(event, "Status") for event in events] == statuses.split()


async def at_notice(office: Office, order: str = "course_supplement", status: str = "30") -> Element:
    """Submit a case that then waits for its applicant; return its last event."""
    await office.misbehave(order)
    await office.upload("PG-1", b"%PDF")
    await office.send("SubmitCase", case(contents=(b"%PDF",)))
    return (await office.events_until("PG-1", status))[-1]


async def tell(office: Office, tag: str, event: Element, number: str = "M-1", **told: object) -> Answer:
    """Say something about the case of an event. An element among `told` is put where the text would stand."""
    numbers = {"MessageNo": number, "CaseNo": value(event, "CaseNo"), "AcceptNo": value(event, "AcceptNo")}
    element = make(tag, **{**numbers, **told})
    for name, part in told.items():
        if isinstance(part, Element):
            element.replace(place(element, name), part)
    return await office.send(f"Submit{tag}", element)


async def supplement(office: Office, event: Element, number: str = "M-1", complete: str = "true") -> Answer:
    materials = make("Materials")
    materials.append(listed(b"%PDF"))
    told = {"SubmitTime": "2026-03-02T12:00:00+08:00", "Materials": materials, "Complete": complete}
    return await tell(office, "Supplement", event, number, **told)


async def withdraw(office: Office, event: Element, number: str = "M-1") -> Answer:
    return await tell(
        office, "Withdrawal", event, number, AskedAt="2026-03-02T12:00:00+08:00", Reason="测试甲不再需要"
    )  # fmt: skip


async def rate(office: Office, event: Element, number: str = "M-1", **changed: object) -> Answer:
    told = {"ItemCode": ITEM, "Role": "HANDLING", "Score": 5, "Channel": "4", "RatedAt": "2026-03-02T12:00:00+08:00"}
    return await tell(office, "Rating", event, number, **{**told, "ByDefault": "false", **changed})


async def test_a_notice_names_what_is_missing_and_the_case_waits_for_it(office: Office) -> None:
    """A part of it is kept and moves nothing; all of it is acted on once, however often it comes."""
    notice = await at_notice(office)
    assert place(notice, "Materials/Material").get("code") == "M1"
    assert (value(notice, "DueOn"), value(notice, "Operator")) == ("2026-03-17", "FS0001")
    assert (await supplement(office, notice, "M-0", "false")).name == "MessageReceipt"
    for _ in range(2):
        assert (await supplement(office, notice)).get("MessageNo") == "M-1"
    events = await office.events_until("PG-1", "60")
    assert [value(event, "Status") for event in events] == ["10", "30", "31", "20", "50", "60"]
    for number, name in {"M-1": "MessageReceipt", "M-2": "NoSuchMessage"}.items():
        assert (await office.send("QueryMessage", make("MessageQuery", MessageNo=number))).name == name
    assert (await office.ledger())["arrivals"] == {"PG-1": 1, "M-0": 1, "M-1": 2}
    late = await supplement(office, notice, "M-2")
    assert (late.code, late.faultcode) == ("state", "soap:Client")


async def test_what_was_deferred_may_follow_and_then_the_case_is_accepted(office: Office) -> None:
    await supplement(office, await at_notice(office, "course_tolerance", "22"))
    events = await office.events_until("PG-1", "60")
    assert [value(event, "Status") for event in events] == ["10", "22", "20", "50", "60"]


async def test_a_supplement_names_only_what_was_uploaded_for_its_case(office: Office) -> None:
    notice = await at_notice(office)
    materials = make("Materials")
    materials.append(listed(b"never uploaded"))
    told = {"SubmitTime": "2026-03-02T12:00:00+08:00", "Materials": materials, "Complete": "true"}
    assert (await tell(office, "Supplement", notice, "M-1", **told)).code == "digest"
    assert (await office.ledger())["messages"] == {}


async def test_a_case_is_withdrawn_until_it_is_decided(office: Office) -> None:
    notice = await at_notice(office)
    for _ in range(2):
        assert (await withdraw(office, notice)).name == "MessageReceipt"
    events = await office.events_until("PG-1", "80")
    assert [value(event, "Status") for event in events] == ["10", "30", "80"]
    await office.send("SubmitCase", case("PG-2"))
    done = (await office.events_until("PG-2", "60"))[-1]
    assert (await withdraw(office, done, "M-2")).code == "state"


async def test_each_role_is_rated_once_and_after_completion(office: Office) -> None:
    notice = await at_notice(office)
    assert (await rate(office, notice)).code == "state"
    await supplement(office, notice, "M-0")
    done = (await office.events_until("PG-1", "60"))[-1]
    assert [(await rate(office, done)).name for _ in range(2)] == ["MessageReceipt"] * 2
    assert (await rate(office, done, "M-2")).code == "state"
    assert (await rate(office, done, "M-3", Role="COLLECTING")).name == "MessageReceipt"
    assert (await rate(office, done, "M-4", Score=6, Channel="8", ByDefault="1")).text.count("wanted") == 3


async def test_a_message_belongs_to_one_case_and_leaves_nobodys_words(office: Office) -> None:
    await office.send("SubmitCase", case())
    done = (await office.events_until("PG-1", "60"))[-1]
    told = {"Text": "测试甲等了很久", "MadeAt": "2026-03-02T12:00:00+08:00"}
    other = copy.deepcopy(done)
    place(other, "AcceptNo").text = "FS999999999999"
    assert (await tell(office, "Complaint", other, **told)).code == "unknown-case"
    assert (await tell(office, "Complaint", done, **told)).name == "MessageReceipt"
    assert "测试甲" not in json.dumps((await office.ledger())["messages"], ensure_ascii=False)


async def test_a_message_that_was_taken_is_acted_on_after_a_restart(
    opened: Opened, settings: AuthoritySettings
) -> None:
    office = await opened(settings)
    notice = await at_notice(office)
    await office.http.close()
    slow = await opened(replace(settings, pace=3600))
    assert (await withdraw(slow, notice)).name == "MessageReceipt"
    await slow.http.close()
    assert value((await (await opened(settings)).events_until("PG-1", "80"))[-1], "Reason")


# --- certificates ---


async def test_a_certificate_is_found_by_type_name_and_number(office: Office) -> None:
    """Names are compared without spaces; the issuer's own spelling is returned."""
    answer = await office.send("GetCertificateDataByHolder", certificate_query())
    assert answer.get("Status") == "0"
    (found,) = answer.all("Certificate")
    assert [etree.QName(child).localname for child in found] == [
        *("Identifier", "Name", "Number", "TypeCode", "Issuer", "IssueDate", "ValidFrom"),
        *("HolderName", "HolderIdType", "HolderIdNumber", "State"),
    ]
    assert place(found, "Issuer").get("code") == "11440600MBT406003B"
    assert [value(found, name) for name in ("HolderName", "HolderIdType", "State")] == ["测试 甲", "111", "SUSPENDED"]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"TypeName": ""}, "0"),
        ({"TypeCode": ""}, "0"),
        ({"HolderName": "测试乙"}, "10"),
        ({"HolderIdNumber": "440303198506159013"}, "10"),
        ({"HolderIdType": "999"}, "10"),
        ({"HolderName": ""}, "12"),
        ({"HolderIdNumber": ""}, "12"),
        ({"UseFor": " "}, "12"),
        ({"TypeCode": "", "TypeName": ""}, "12"),
        ({"TypeName": "没有的证"}, "13"),
        ({"TypeCode": "11100000000013127D999", "TypeName": "别处的证"}, "13"),
    ],
)
async def test_a_certificate_is_shown_only_when_all_that_is_told_fits(
    office: Office, changed: dict[str, str], status: str
) -> None:
    """A number alone, or a number with another name, must not open anything (GB/T 36906 practice)."""
    answer = await office.send("GetCertificateDataByHolder", certificate_query(**changed))
    assert answer.get("Status") == status
    assert len(answer.all("Certificate")) == (1 if status == "0" else 0)


async def test_a_purpose_longer_than_200_characters_is_refused(office: Office) -> None:
    answer = await office.send("GetCertificateDataByHolder", certificate_query(UseFor="用" * 201))
    assert answer.code == "schema"


# --- start-up ---


def test_an_authority_with_a_key_that_is_not_its_certificates_does_not_start(
    settings: AuthoritySettings, keys: Keys
) -> None:
    wrong = replace(settings, secrets={**settings.secrets, "peer_key": keys.stranger.key_pem})
    with pytest.raises(ValueError, match="peer_key"):
        build_authority(wrong)
