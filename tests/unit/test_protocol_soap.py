"""The SOAP exchange profile against a far side that is written out here from adapters/foshan/README.md."""

from __future__ import annotations

import base64
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, SignatureConstructionMethod, SignatureMethod
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, XMLVerifier

from adapters.foshan.adapter import open_adapter
from gateway.errors import RegionError, RegionRefused, RegionUncertain, RegionUnreachable, StartRefused
from gateway.ports import Adapter, CaseMessage, ResultDocument
from tests.unit.protocol_support import NOW, FarSide, Seen, far_side, kit, material, order

NS = "urn:gov:foshan:exchange:v1"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
CASE = f'<Case xmlns="{NS}"><CaseNo>s-1</CaseNo><Applicant><Name>陈大文 &amp; 子</Name></Applicant></Case>'.encode()
RECEIPT = f'<CaseReceipt xmlns="{NS}"><CaseNo>s-1</CaseNo><AcceptNo>FS000000000001</AcceptNo></CaseReceipt>'


@dataclass(frozen=True, slots=True)
class Party:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def pem_key(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def pem_certificate(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


@cache
def party(name: str, days: int = 3650) -> Party:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=3650))
        .not_valid_after(NOW + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return Party(key, certificate)


def secrets(**change: bytes) -> dict[str, bytes]:
    ours = party("pearl")
    mine = {"signing_key": ours.pem_key(), "signing_cert": ours.pem_certificate()}
    return {**mine, "peer_cert": party("foshan").pem_certificate(), **change}


# --- the far side ------------------------------------------------------------------------------------------------


def message_of(seen: Seen) -> etree._Element:
    return etree.fromstring(seen.body).find(f"{{{SOAP}}}Body")[0]  # type: ignore[index]  # the test fails if absent


def marked(xml: str, reply_to: str, *, time: str = "2023-11-14T22:13:20Z") -> etree._Element:
    element = etree.fromstring(xml)
    element.set("messageId", "9f0c2f5e-0000-4000-8000-000000000000")
    element.set("timestamp", time)
    element.set("inReplyTo", reply_to)
    return element


def sign(
    element: etree._Element,
    signer: Party | None = None,
    *,
    method: SignatureMethod = SignatureMethod.ECDSA_SHA256,
    c14n: CanonicalizationMethod = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    reference: str | None = None,
) -> etree._Element:
    who = signer or party("foshan")
    tool = XMLSigner(SignatureConstructionMethod.enveloped, method, "sha256", c14n)
    return tool.sign(element, key=who.key, cert=[who.certificate], reference_uri=reference)


def envelope(content: etree._Element) -> bytes:
    root = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"s": SOAP, "odd": "urn:odd"})
    etree.SubElement(root, f"{{{SOAP}}}Body").append(content)
    return etree.tostring(root)


def fault(side: str, code: str, text: str) -> bytes:
    return (
        f'<s:Envelope xmlns:s="{SOAP}"><s:Body><s:Fault><faultcode>s:{side}</faultcode>'
        f"<faultstring>{text}</faultstring>"
        f'<detail><e:error xmlns:e="{NS}" code="{code}">{text}</e:error></detail></s:Fault></s:Body></s:Envelope>'
    ).encode()


Answer = Callable[[Seen], bytes]


def answering(xml: str) -> Answer:
    return lambda seen: envelope(sign(marked(xml, message_of(seen).get("messageId", ""))))


@asynccontextmanager
async def foshan(answer: Answer, status: int = 200, **change: bytes) -> AsyncIterator[tuple[Adapter, FarSide]]:
    async with (
        far_side(lambda seen: web.Response(status=status, body=answer(seen))) as (far, base),
        kit(base, region="foshan", secrets=secrets(**change)) as lent,
    ):
        yield open_adapter(lent), far


async def submit(answer: Answer, status: int = 200, **change: bytes) -> bytes:
    async with foshan(answer, status, **change) as (adapter, _):
        assert adapter.submissions is not None
        document = await adapter.submissions.submit(order(CASE))
        assert isinstance(document, bytes)
        return document


def canonical(xml: bytes | str) -> bytes:
    return etree.tostring(etree.fromstring(xml), method="c14n", exclusive=True)


# --- what is sent ------------------------------------------------------------------------------------------------


async def test_a_message_verifies_as_a_document_of_its_own_under_our_certificate() -> None:
    async with foshan(answering(RECEIPT)) as (adapter, far):
        assert adapter.submissions is not None
        await adapter.submissions.submit(order(CASE))
    (seen,) = far.seen
    message = message_of(seen)
    found: Any = XMLVerifier().verify(
        etree.tostring(message, with_tail=False),
        x509_cert=party("pearl").certificate,
        expect_config=SignatureConfiguration(
            location="./", signature_methods=frozenset({SignatureMethod.ECDSA_SHA256}), verification_time=NOW
        ),
    )
    assert found.signed_xml.findtext(f"{{{NS}}}Applicant/{{{NS}}}Name") == "陈大文 & 子"
    assert message[-1].tag == "{http://www.w3.org/2000/09/xmldsig#}Signature"
    assert message.get("timestamp") == "2023-11-14T22:13:20Z"
    assert seen.headers["SOAPAction"] == f'"{NS}#SubmitCase"'
    assert (seen.method, seen.path) == ("POST", "/ws/exchange")


async def test_every_message_has_an_id_of_its_own() -> None:
    async with foshan(answering(RECEIPT)) as (adapter, far):
        assert adapter.submissions is not None
        await adapter.submissions.submit(order(CASE))
        await adapter.submissions.submit(order(CASE))
    assert len({message_of(seen).get("messageId") for seen in far.seen}) == 2


# --- what comes back ---------------------------------------------------------------------------------------------


async def test_a_receipt_comes_back_bare() -> None:
    """What belongs to the wire (ids, time, signature) is gone before a mapping pack reads."""
    assert canonical(await submit(answering(RECEIPT))) == canonical(RECEIPT)


Spoil = Callable[[etree._Element], etree._Element]


def wrapped(genuine: etree._Element) -> etree._Element:
    """Signature wrapping: a false receipt around the genuine, signed one."""
    false = marked(RECEIPT.replace("FS000000000001", "FS666666666666"), genuine.get("inReplyTo", ""))
    false.append(genuine)
    return false


def wrapped_beside(genuine: etree._Element) -> etree._Element:
    """The same, with the signature moved to where it is expected."""
    false = marked(RECEIPT.replace("FS000000000001", "FS666666666666"), genuine.get("inReplyTo", ""))
    signature = genuine[-1]
    false.append(copy.deepcopy(genuine))
    false[-1].remove(false[-1][-1])
    false.append(signature)
    return false


def altered(genuine: etree._Element) -> etree._Element:
    genuine[1].text = "FS666666666666"
    return genuine


def readdressed(genuine: etree._Element) -> etree._Element:
    genuine.set("inReplyTo", "another")
    return genuine


def unsigned(genuine: etree._Element) -> etree._Element:
    genuine.remove(genuine[-1])
    return genuine


def doubled(genuine: etree._Element) -> etree._Element:
    genuine.append(copy.deepcopy(genuine[-1]))
    return genuine


def signature_first(genuine: etree._Element) -> etree._Element:
    genuine.insert(0, genuine[-1])
    return genuine


def emptied(genuine: etree._Element) -> etree._Element:
    genuine[-1][1].text = ""
    return genuine


@pytest.mark.parametrize(
    "spoil",
    [wrapped, wrapped_beside, altered, readdressed, unsigned, doubled, signature_first, emptied],
    ids=lambda spoil: spoil.__name__,
)
async def test_an_answer_that_its_signature_does_not_cover_is_not_believed(spoil: Spoil) -> None:
    def answer(seen: Seen) -> bytes:
        return envelope(spoil(sign(marked(RECEIPT, message_of(seen).get("messageId", "")))))

    with pytest.raises(RegionUncertain, match="cannot be trusted or read"):
        await submit(answer)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"signer": "someone"}, id="another key"),
        pytest.param({"signer": "pearl"}, id="our own key"),
        pytest.param({"method": SignatureMethod.ECDSA_SHA512}, id="another algorithm"),
        pytest.param({"c14n": CanonicalizationMethod.CANONICAL_XML_1_1}, id="another canonicalization"),
        pytest.param({"reference": "#x"}, id="a part only"),
    ],
)
async def test_a_signature_made_otherwise_than_agreed_is_not_believed(options: dict[str, Any]) -> None:
    who = party(options.pop("signer")) if "signer" in options else None

    def answer(seen: Seen) -> bytes:
        element = marked(RECEIPT, message_of(seen).get("messageId", ""))
        element[1].set("Id", "x")
        return envelope(sign(element, who, **options))

    with pytest.raises(RegionUncertain, match="cannot be trusted or read"):
        await submit(answer)


async def test_an_answer_to_another_request_is_not_believed() -> None:
    with pytest.raises(RegionUncertain) as caught:
        await submit(lambda _: envelope(sign(marked(RECEIPT, "another"))))
    assert "another request" in caught.value.detail


@pytest.mark.parametrize("time", ["2023-11-14T22:08:19Z", "2023-11-14T22:18:21Z", "yesterday", ""])
async def test_an_answer_out_of_time_is_not_believed(time: str) -> None:
    def answer(seen: Seen) -> bytes:
        return envelope(sign(marked(RECEIPT, message_of(seen).get("messageId", ""), time=time)))

    with pytest.raises(RegionUncertain):
        await submit(answer)


async def test_an_answer_under_a_lapsed_certificate_is_not_believed() -> None:
    lapsed = party("lapsed", days=-1)

    def answer(seen: Seen) -> bytes:
        return envelope(sign(marked(RECEIPT, message_of(seen).get("messageId", "")), lapsed))

    with pytest.raises(RegionUncertain):
        await submit(answer, peer_cert=lapsed.pem_certificate())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"<html/>",
        b"\x00\xff",
        f'<s:Envelope xmlns:s="{SOAP}"><s:Body/></s:Envelope>'.encode(),
        f'<s:Envelope xmlns:s="{SOAP}"><s:Body><!-- x --></s:Body></s:Envelope>'.encode(),
        f'<s:Envelope xmlns:s="{SOAP}"><s:Header/><s:Body><a/></s:Body></s:Envelope>'.encode(),
        f'<s:Envelope xmlns:s="{SOAP}"><s:Body><a/><b/></s:Body></s:Envelope>'.encode(),
        f'<!DOCTYPE a><s:Envelope xmlns:s="{SOAP}"><s:Body><a/></s:Body></s:Envelope>'.encode(),
    ],
)
@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_that_is_no_envelope_leaves_the_outcome_unknown(body: bytes, status: int) -> None:
    with pytest.raises(RegionUncertain):
        await submit(lambda _: body, status)


async def test_another_answer_element_than_the_operation_has_is_not_believed() -> None:
    with pytest.raises(RegionUncertain):
        await submit(answering(f'<NoSuchCase xmlns="{NS}"><CaseNo>s-1</CaseNo></NoSuchCase>'))


async def test_a_receipt_for_another_case_is_not_believed() -> None:
    with pytest.raises(RegionUncertain):
        await submit(answering(RECEIPT.replace("s-1", "s-2")))


async def test_a_signed_answer_with_a_failure_status_leaves_the_outcome_unknown() -> None:
    with pytest.raises(RegionUncertain):
        await submit(answering(RECEIPT), 500)


# --- faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "code", "error"),
    [
        ("Client", "schema", RegionRefused),
        ("Client", "unknown-item", RegionRefused),
        ("Client", "signature", RegionUnreachable),
        ("Client", "stale", RegionUnreachable),
        ("Server", "internal", RegionUncertain),
        ("Odd", "odd", RegionUncertain),
    ],
)
async def test_a_fault_tells_what_became_of_the_message(side: str, code: str, error: type[RegionError]) -> None:
    with pytest.raises(error) as caught:
        await submit(lambda _: fault(side, code, "no"), 500)
    assert type(caught.value) is error


async def test_a_refusal_names_the_reason_but_not_the_person() -> None:
    with pytest.raises(RegionRefused) as caught:
        await submit(lambda _: fault("Client", "schema", "Name 陈大文 &amp; 子 at 440301199001011234"), 500)
    assert caught.value.public == "foshan refused the message: schema: Name *** at ***"


async def test_a_fault_without_detail_is_still_read() -> None:
    bare = (
        f'<s:Envelope xmlns:s="{SOAP}"><s:Body><s:Fault><faultcode>s:Client</faultcode></s:Fault></s:Body></s:Envelope>'
    )
    with pytest.raises(RegionRefused, match="no reason given"):
        await submit(lambda _: bare.encode(), 500)


# --- operations --------------------------------------------------------------------------------------------------


async def test_materials_are_uploaded_before_the_case() -> None:
    file = material()
    uploaded = f'<MaterialReceipt xmlns="{NS}"><Digest>{file.sha256}</Digest></MaterialReceipt>'

    def answer(seen: Seen) -> bytes:
        return answering(uploaded if message_of(seen).tag == f"{{{NS}}}Material" else RECEIPT)(seen)

    async with foshan(answer) as (adapter, far):
        assert adapter.submissions is not None
        await adapter.submissions.submit(order(CASE, file))
    first = message_of(far.seen[0])
    assert [etree.QName(child).localname for child in first] == [
        "CaseNo",
        "Digest",
        "MediaType",
        "Content",
        "Signature",
    ]
    assert base64.b64decode(first.findtext(f"{{{NS}}}Content") or "") == b"%PDF-1.7 synthetic"
    assert len(far.seen) == 2


async def test_a_material_beyond_libxml2s_text_limit_is_signed_and_sent() -> None:
    """Base64 of 9 MB is one text node above libxml2's default limit of 10 MB."""
    content = b"\x00" * (9 << 20)
    seen_sizes: list[int] = []

    def answer(seen: Seen) -> bytes:
        seen_sizes.append(len(seen.body))
        return fault("Client", "digest", "enough seen")

    async with foshan(answer, 500) as (adapter, _):
        assert adapter.submissions is not None
        with pytest.raises(RegionRefused, match="enough seen"):
            await adapter.submissions.submit(order(CASE, material(content)))
    assert seen_sizes[0] > 12_000_000


async def test_a_failed_upload_means_that_the_case_was_not_taken() -> None:
    async with foshan(lambda _: fault("Server", "internal", "no"), 500) as (adapter, _):
        assert adapter.submissions is not None
        with pytest.raises(RegionUnreachable):
            await adapter.submissions.submit(order(CASE, material()))


async def ask(xml: str) -> Any:
    async with foshan(answering(xml)) as (adapter, _):
        assert adapter.submissions is not None
        return await adapter.submissions.ask("s-1")


async def test_asking_finds_the_receipt_or_a_certain_none() -> None:
    assert canonical(await ask(RECEIPT)) == canonical(RECEIPT)
    assert await ask(f'<NoSuchCase xmlns="{NS}"><CaseNo>s-1</CaseNo></NoSuchCase>') is None
    with pytest.raises(RegionUncertain):
        await ask(f'<NoSuchCase xmlns="{NS}"><CaseNo>s-2</CaseNo></NoSuchCase>')


async def poll(cursor: str, xml: str) -> Any:
    async with foshan(answering(xml)) as (adapter, far):
        assert adapter.feed is not None
        page = await adapter.feed.poll(cursor)
        return page, message_of(far.seen[0])


async def test_polling_gives_bare_events_and_the_next_cursor() -> None:
    events = [f'<Event xmlns="{NS}" seq="{n}"><EventId>e{n}</EventId></Event>' for n in (8, 9)]
    page, query = await poll("7", f'<EventList xmlns="{NS}">{"".join(events)}<Next>9</Next></EventList>')
    assert [canonical(event) for event in page.events] == [canonical(event) for event in events]
    assert page.cursor == "9"
    assert (query.findtext(f"{{{NS}}}After"), query.findtext(f"{{{NS}}}Limit")) == ("7", "200")


async def test_polling_from_the_beginning_starts_at_nought() -> None:
    page, query = await poll("", f'<EventList xmlns="{NS}"><Next>0</Next></EventList>')
    assert query.findtext(f"{{{NS}}}After") == "0"
    assert (list(page.events), page.cursor) == ([], "0")


@pytest.mark.parametrize("following", ["", "x", "-1", "6", "٩"])
async def test_a_cursor_that_does_not_advance_sensibly_is_an_error(following: str) -> None:
    """A feed that sent us back would make the gateway read the same events for ever."""
    with pytest.raises(RegionUncertain):
        await poll("7", f'<EventList xmlns="{NS}"><Next>{following}</Next></EventList>')


# --- documents of a decision -------------------------------------------------------------------------------------

FILE = bytes(range(256)) * 2049
"""One part and 256 bytes."""
LISTED = ResultDocument("JD01", "决定书.pdf", "application/pdf", len(FILE), "ab" * 32)
DOCUMENT = (
    '<Document code="JD01"><Name>决定书.pdf</Name><MediaType>application/pdf</MediaType>'
    f'<Size>{len(FILE)}</Size><Digest alg="SHA-256">{"AB" * 32}</Digest></Document>'
)


async def listing(xml: str) -> Any:
    async with foshan(answering(xml)) as (adapter, far):
        assert adapter.results is not None
        return await adapter.results.list("FS1"), message_of(far.seen[0])


async def test_documents_are_listed_under_the_citys_own_number() -> None:
    listed, query = await listing(f'<ResultList xmlns="{NS}"><AcceptNo>FS1</AcceptNo>{DOCUMENT}</ResultList>')
    assert listed == [LISTED]
    assert query.findtext(f"{{{NS}}}AcceptNo") == "FS1"
    assert (await listing(f'<ResultList xmlns="{NS}"><AcceptNo>FS1</AcceptNo></ResultList>'))[0] == []


@pytest.mark.parametrize(
    "inner",
    [
        DOCUMENT,
        f"<AcceptNo>FS2</AcceptNo>{DOCUMENT}",
        f"<AcceptNo>FS1</AcceptNo>{DOCUMENT.replace('JD01', '..')}",
        f"<AcceptNo>FS1</AcceptNo>{DOCUMENT.replace('ABAB', 'XY')}",
        f"<AcceptNo>FS1</AcceptNo>{DOCUMENT.replace(str(len(FILE)), '-1')}",
        "<AcceptNo>FS1</AcceptNo><Document/>",
    ],
)
async def test_a_list_of_documents_that_cannot_be_read_is_none(inner: str) -> None:
    with pytest.raises(RegionUncertain):
        await listing(f'<ResultList xmlns="{NS}">{inner}</ResultList>')


def handing_out(content: bytes = FILE, **said: str) -> Answer:
    """Answer with the part that is asked for; `said` are elements that say something else."""

    def answer(seen: Seen) -> bytes:
        asked = {child: message_of(seen).findtext(f"{{{NS}}}{child}") or "" for child in ("AcceptNo", "Code", "Offset")}
        begin, length = int(asked["Offset"]), int(message_of(seen).findtext(f"{{{NS}}}Length") or "0")
        part = base64.b64encode(content[begin : begin + length]).decode()
        told = {**asked, "Size": str(len(content)), "Content": part, **said}
        inner = "".join(f"<{name}>{text}</{name}>" for name, text in told.items())
        return answering(f'<ResultPart xmlns="{NS}">{inner}</ResultPart>')(seen)

    return answer


async def test_a_document_comes_in_parts_and_one_at_a_time() -> None:
    async with foshan(handing_out()) as (adapter, far):
        assert adapter.results is not None
        pieces = await adapter.results.open("FS1", LISTED)
        first = await anext(pieces)
        assert (len(first), len(far.seen)) == (512 << 10, 1)
        assert first + b"".join([piece async for piece in pieces]) == FILE
    asked = [[message_of(seen).findtext(f"{{{NS}}}{name}") for name in ("Offset", "Length")] for seen in far.seen]
    assert asked == [["0", "524288"], ["524288", "256"]]


@pytest.mark.parametrize(
    "answer",
    [
        handing_out(FILE[:-1]),
        handing_out(FILE + b"x"),
        handing_out(AcceptNo="FS2"),
        handing_out(Code="JD02"),
        handing_out(Offset="256"),
        handing_out(Size="1"),
        handing_out(Content="a"),
        handing_out(Content=base64.b64encode(FILE[:1000]).decode()),
    ],
)
async def test_parts_that_do_not_make_the_listed_document_are_not_handed_on(answer: Answer) -> None:
    with pytest.raises(RegionUncertain):
        await fetched(answer)


@pytest.mark.parametrize("code", ["unknown-case", "unknown-document", "gone"])
async def test_a_document_that_is_not_there_is_a_definite_no(code: str) -> None:
    with pytest.raises(RegionRefused):
        await fetched(lambda _: fault("Client", code, "no such thing"), 500)


async def fetched(answer: Answer, status: int = 200) -> bytes:
    async with foshan(answer, status) as (adapter, _):
        assert adapter.results is not None
        return b"".join([piece async for piece in await adapter.results.open("FS1", LISTED)])


# --- certificates ------------------------------------------------------------------------------------------------


async def lookup(xml: str) -> Any:
    async with foshan(answering(xml)) as (adapter, _):
        assert adapter.certificates is not None
        query = f'<CertificateQuery xmlns="{NS}"><HolderName>陈大文</HolderName></CertificateQuery>'
        return await adapter.certificates.lookup(query.encode())


async def test_a_lookup_gives_the_issuers_own_status_and_bare_certificates() -> None:
    certificate = f'<Certificate xmlns="{NS}"><Identifier>1</Identifier></Certificate>'
    found = await lookup(f'<CertificateReply xmlns="{NS}"><Status>0</Status><Message/>{certificate}</CertificateReply>')
    assert (found.status, [canonical(c) for c in found.certificates]) == ("0", [canonical(certificate)])
    none = await lookup(
        f'<CertificateReply xmlns="{NS}"><Status>10</Status><Message>陈大文: none</Message></CertificateReply>'
    )
    assert (none.status, none.message, list(none.certificates)) == ("10", "***: none", [])


@pytest.mark.parametrize("inner", ["", "<Status/>", "<Status>0</Status>"])
async def test_an_unreadable_lookup_is_an_error_and_never_not_found(inner: str) -> None:
    with pytest.raises(RegionUncertain):
        await lookup(f'<CertificateReply xmlns="{NS}">{inner}</CertificateReply>')


# --- opening -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("signing_key", b"no key", "signing_key"),
        ("signing_cert", b"no certificate", "signing_cert"),
        ("peer_cert", b"", "peer_cert"),
        ("signing_cert", None, "signing_cert"),
    ],
)
async def test_a_wrong_key_or_certificate_stops_the_start(name: str, value: bytes | None, field: str) -> None:
    """The last case: a certificate that is a good one, but of another key."""
    given = party("someone").pem_certificate() if value is None else value
    async with kit("http://far.test", region="foshan", secrets=secrets(**{name: given})) as lent:
        with pytest.raises(StartRefused) as caught:
            open_adapter(lent)
    assert [problem.field for problem in caught.value.problems] == [f"regions.foshan.secrets.{field}"]


# --- messages about a case ---------------------------------------------------------------------------------------

WISH = f'<Withdrawal xmlns="{NS}"><MessageNo>m-1</MessageNo><Reason>陈大文不再需要</Reason></Withdrawal>'.encode()
TAKEN = f'<MessageReceipt xmlns="{NS}"><MessageNo>m-1</MessageNo><CaseNo>s-1</CaseNo></MessageReceipt>'
NOT_HERE = f'<NoSuchMessage xmlns="{NS}"><MessageNo>m-1</MessageNo></NoSuchMessage>'


async def send(answer: Answer, status: int = 200, *, kind: str = "withdrawal", materials: Any = ()) -> FarSide:
    async with foshan(answer, status) as (adapter, far):
        assert adapter.messages is not None
        await adapter.messages.send(CaseMessage("m-1", kind, "s-1", "FS000000000001", WISH, materials))
        return far


async def holds(answer: Answer) -> bool:
    async with foshan(answer) as (adapter, _):
        assert adapter.messages is not None
        return await adapter.messages.holds(CaseMessage("m-1", "withdrawal", "s-1", "FS000000000001", WISH))


@pytest.mark.parametrize("kind", ["supplement", "withdrawal", "rating", "complaint"])
async def test_each_kind_of_message_has_an_operation(kind: str) -> None:
    far = await send(answering(TAKEN), kind=kind)
    assert [seen.headers["SOAPAction"] for seen in far.seen] == [f'"{NS}#Submit{kind.capitalize()}"']


async def test_a_supplement_whose_file_is_not_taken_was_certainly_not_taken() -> None:
    with pytest.raises(RegionUnreachable):
        await send(lambda _: b"\xff", kind="supplement", materials=[material()])


async def test_a_message_is_not_here_only_by_a_signed_word() -> None:
    assert await holds(answering(TAKEN))
    assert not await holds(answering(NOT_HERE))
    with pytest.raises(RegionUncertain):
        await holds(lambda _: envelope(etree.fromstring(NOT_HERE)))


async def test_the_receipt_of_another_message_leaves_the_outcome_unknown() -> None:
    for given in (TAKEN, NOT_HERE):
        with pytest.raises(RegionUncertain):
            await holds(answering(given.replace("m-1", "m-2")))
    with pytest.raises(RegionUncertain):
        await send(answering(TAKEN.replace("m-1", "m-2")))
    with pytest.raises(RegionUncertain):
        await send(answering(NOT_HERE))


async def test_the_refusal_of_a_message_does_not_repeat_its_words() -> None:
    with pytest.raises(RegionRefused) as caught:
        await send(lambda _: fault("Client", "state", "陈大文不再需要: too late"), 500)
    assert caught.value.public == "foshan refused the message: state: ***: too late"
