"""The SOAP exchange profile: SOAP 1.1, one signed message element in a body, pinned keys.

Owns: sealing and opening of messages (identifier, time, enveloped XML signature), faults, and the operations of the
exchange for cases, events and certificates by holder. Leaves to `soap_messages` what is said of a case later, to
`soap_issued` single certificates, and to mapping packs the bare elements, which arrive and leave as XML bytes;
`messageId`, `timestamp`, `inReplyTo` and `Signature` belong to the wire, are added here and are gone again before a
pack reads.
Source: adapters/foshan/README.md (W3C XML Signature 1.1, SOAP 1.1), with what a real connection must confirm.

An answer counts only as far as its signature reaches: data are taken from what the verifier returned, never from the
envelope. A fault is not signed on this wire; it can therefore refuse, but never bring data. A fault that names our
signature or our time (`signature`, `stale`) is `RegionUnreachable`: certainly not taken, an operator's problem.
"""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from gateway.errors import RegionError
from gateway.ports import (
    CertificateReply,
    Clock,
    FeedPage,
    Kit,
    Material,
    RegionDocument,
    SubmissionOrder,
)
from gateway.protocols.wire import (
    Answer,
    Wire,
    as_xml,
    nothing_taken_yet,
    parse_xml,
    quotable,
    read_material,
    refuse_start,
)

TOLERANCE = timedelta(seconds=300)
"""How far a message's time may be from our clock, both ways."""

EVENTS_A_PAGE = 200
"""How many events are asked for at once; the authority allows no more."""

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
DS = "http://www.w3.org/2000/09/xmldsig#"
_EXC_C14N = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0
_ENVELOPED = SignatureConstructionMethod.enveloped
_WIRE_ATTRIBUTES = ("messageId", "timestamp", "inReplyTo")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_DIGITS = re.compile(r"[0-9]{1,18}")


# --- sealing and opening -----------------------------------------------------------------------------------------


class _Signer(XMLSigner):
    """signxml parses what it signs once more; a material of 32 MiB needs libxml2's limit lifted for that."""

    @property
    def parser(self) -> etree.XMLParser:
        return etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Our key with its certificate, and the peer's certificate: key objects, pinned, nothing is looked up."""

    key: EllipticCurvePrivateKey
    certificate: x509.Certificate
    peer: x509.Certificate


class BadMessage(Exception):
    """A message that does not verify, or is not of the agreed form; the text names what is wrong, never a value."""


def seal(message: etree._Element, message_id: str, at: datetime, credentials: Credentials) -> bytes:
    """Return the envelope with the message element marked, signed as a stand-alone document, and put into the body."""
    message.set("messageId", message_id)
    message.set("timestamp", at.astimezone(UTC).strftime(_TIME))
    signer = _Signer(_ENVELOPED, SignatureMethod.ECDSA_SHA256, DigestAlgorithm.SHA256, _EXC_C14N)
    signed = signer.sign(message, key=credentials.key, cert=[credentials.certificate], reference_uri=None)
    envelope = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap": SOAP})
    etree.SubElement(envelope, f"{{{SOAP}}}Body").append(signed)
    return etree.tostring(envelope, encoding="utf-8", xml_declaration=True)


def open_envelope(data: bytes) -> etree._Element:
    """Return the one child of the body. Raises BadMessage."""
    try:
        envelope = parse_xml(data)
    except ValueError as wrong:
        raise BadMessage(str(wrong)) from None
    parts = list(envelope)
    if envelope.tag != f"{{{SOAP}}}Envelope" or [part.tag for part in parts] != [f"{{{SOAP}}}Body"]:
        raise BadMessage("not a SOAP 1.1 envelope with nothing but a body")
    content = list(parts[0])
    if len(content) != 1 or not isinstance(content[0].tag, str):
        raise BadMessage("the body holds not exactly one element")
    return content[0]


def verify(element: etree._Element, peer: x509.Certificate, now: datetime) -> etree._Element:
    """Return the element as its signature covers it, taken out as a document of its own. Raises BadMessage.

    Exactly one signature, as last child; one reference to the whole (`URI=""`); the agreed algorithms and transforms
    only; the pinned certificate, within its term at `now`. A key that the message brings along is not looked at.
    """
    signatures = list(element.iter(f"{{{DS}}}Signature"))
    if len(signatures) != 1 or len(element) == 0 or signatures[0] is not element[-1]:
        raise BadMessage("not exactly one signature as the last child")
    expected = SignatureConfiguration(
        location="./",
        expect_references=1,
        signature_methods=frozenset({SignatureMethod.ECDSA_SHA256}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
        ignore_ambiguous_key_info=True,  # the key is pinned; an odd KeyValue must not even be parsed
        verification_time=now,
    )
    alone = etree.tostring(element, with_tail=False)
    try:
        result = XMLVerifier().verify(alone, x509_cert=peer, expect_config=expected)
    except (SignXMLException, etree.LxmlError, ValueError, TypeError) as wrong:
        raise BadMessage(f"the signature does not verify ({type(wrong).__name__})") from None
    if not isinstance(result, VerifyResult) or result.signed_xml is None:
        raise BadMessage("the signature covers no element")
    _check_form(result.signature_xml)
    return result.signed_xml


def _check_form(signature: etree._Element) -> None:
    """Refuse a signature that covers less than the whole element, or in another way than agreed."""
    reference = signature.findall(f"{{{DS}}}SignedInfo/{{{DS}}}Reference")
    transforms = [t.get("Algorithm") for t in signature.iter(f"{{{DS}}}Transform")]
    method = signature.find(f"{{{DS}}}SignedInfo/{{{DS}}}CanonicalizationMethod")
    if [r.get("URI") for r in reference] != [""]:
        raise BadMessage("the signature does not refer to the whole message")
    if (
        transforms != [_ENVELOPED.value, _EXC_C14N.value]
        or method is None
        or method.get("Algorithm") != _EXC_C14N.value
    ):
        raise BadMessage("the signature uses other transforms than agreed")


def check_binding(message: etree._Element, message_id: str, now: datetime) -> None:
    """Refuse an answer to another request, or one out of time. Raises BadMessage."""
    if message.get("inReplyTo") != message_id:
        raise BadMessage("the answer is for another request")
    try:
        said = datetime.strptime(message.get("timestamp", ""), _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise BadMessage("the answer's time cannot be read") from None
    if abs(now - said) > TOLERANCE:
        raise BadMessage("the answer is out of time")


# --- client ------------------------------------------------------------------------------------------------------


class SoapClient:
    """Sends one operation at a time and returns the verified, bare answer element."""

    def __init__(
        self, wire: Wire, path: str, namespace: str, credentials: Credentials, clock: Clock, token: Callable[[], str]
    ) -> None:
        self.wire = wire
        self._path = path
        self._namespace = namespace
        self._credentials = credentials
        self._clock = clock
        self._token = token

    def element(self, name: str, **children: str) -> etree._Element:
        """Return a message element with text children in the given order."""
        made = etree.Element(self.name(name), nsmap={None: self._namespace})
        for child, text in children.items():
            etree.SubElement(made, self.name(child)).text = text
        return made

    def name(self, local: str) -> str:
        """Return a name in the exchange's namespace."""
        return f"{{{self._namespace}}}{local}"

    def text(self, element: etree._Element, child: str) -> str:
        """Return the text of a child of an answer, empty when there is none."""
        return element.findtext(self.name(child)) or ""

    async def call(self, operation: str, message: etree._Element | bytes, *answers: str) -> etree._Element:
        """Send a message and return its answer, which must be one of the elements named. Raises RegionError.

        Signing and verifying run on a thread: a large material would hold up everything else.
        """
        sent = message if isinstance(message, bytes) else None
        element = parse_xml(message, huge=True) if isinstance(message, bytes) else message
        message_id = str(uuid.uuid5(uuid.NAMESPACE_OID, self._token()))  # a UUID out of the randomness we were lent
        body = await asyncio.to_thread(seal, element, message_id, self._clock(), self._credentials)
        headers = {
            "Content-Type": "text/xml; charset=utf-8",
            "SOAPAction": f'"{self._namespace}#{operation}"',
        }
        answer = await self.wire.exchange("POST", self.wire.url(self._path), headers=headers, body=body)
        try:
            return await asyncio.to_thread(self._open, answer, message_id, answers, sent)
        except BadMessage as wrong:
            detail = f"HTTP {answer.status}: {wrong}"
            raise self.wire.uncertain("sent an answer that cannot be trusted or read", detail) from None

    def _open(self, answer: Answer, message_id: str, answers: tuple[str, ...], sent: bytes | None) -> etree._Element:
        content = open_envelope(answer.body)
        if content.tag == f"{{{SOAP}}}Fault":
            raise self._fault(content, sent)
        if answer.status != 200:
            raise BadMessage("neither success nor a fault")
        now = self._clock()
        verified = verify(content, self._credentials.peer, now)
        check_binding(verified, message_id, now)
        if verified.tag not in [self.name(answer) for answer in answers]:
            raise BadMessage("another answer than the operation has")
        for attribute in _WIRE_ATTRIBUTES:
            verified.attrib.pop(attribute, None)
        return verified

    def _fault(self, fault: etree._Element, sent: bytes | None) -> RegionError:
        side = (fault.findtext("faultcode") or "").strip().rpartition(":")[2]
        error = fault.find(f"detail/{self.name('error')}")
        code = "" if error is None else error.get("code", "")
        text = (None if error is None else error.text) or fault.findtext("faultstring")
        if code in ("signature", "stale"):
            detail = f"fault {code}: check signing_key, signing_cert and our clock"
            return self.wire.unreachable("did not accept our signature; an operator must look", detail)
        if side == "Client":
            reason = ": ".join(part for part in (quotable(code), quotable(text, sent)) if part)
            return self.wire.refused(reason, detail=f"fault {quotable(code)}")
        return self.wire.uncertain("failed while it handled the message", f"fault {quotable(side)} {quotable(code)}")


def bare(element: etree._Element) -> bytes:
    """Return an element as a document of its own, for a mapping pack."""
    return etree.tostring(element, encoding="utf-8", xml_declaration=False, with_tail=False)


# --- the exchange's operations -----------------------------------------------------------------------------------


class SoapSubmissions:
    """UploadMaterial, SubmitCase and QueryCase."""

    def __init__(self, client: SoapClient) -> None:
        self._client = client

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Upload what is needed, then hand the case over; the receipt is a `CaseReceipt`. Raises RegionError."""
        with nothing_taken_yet(self._client.wire.region):
            for material in order.materials:
                await upload(self._client, order.submission_id, material)
        receipt = await self._client.call("SubmitCase", as_xml(order.document), "CaseReceipt")
        return bare(self._own(receipt, order.submission_id))

    async def ask(self, submission_id: str) -> RegionDocument | None:
        """Return the receipt of a case, or None on a signed `NoSuchCase`. Raises RegionError."""
        query = self._client.element("CaseQuery", CaseNo=submission_id)
        answer = self._own(await self._client.call("QueryCase", query, "CaseReceipt", "NoSuchCase"), submission_id)
        return None if answer.tag == self._client.name("NoSuchCase") else bare(answer)

    def _own(self, answer: etree._Element, submission_id: str) -> etree._Element:
        if self._client.text(answer, "CaseNo") != submission_id:
            raise self._client.wire.uncertain("answered for another submission", "CaseNo differs")
        return answer


async def upload(client: SoapClient, submission_id: str, material: Material) -> None:
    """Hand one file of a case over, which the case and its supplements then name by its digest. Raises RegionError."""
    content = await read_material(material, client.wire.region)
    text = await asyncio.to_thread(lambda: base64.b64encode(content).decode())
    element = client.element(
        "Material", CaseNo=submission_id, Digest=material.sha256, MediaType=material.media_type, Content=text
    )
    receipt = await client.call("UploadMaterial", element, "MaterialReceipt")
    if client.text(receipt, "Digest").lower() != material.sha256:
        raise client.wire.uncertain("acknowledged another file than the one sent", f"material {material.code}")


class SoapFeed:
    """QueryEvents: one sequence of status events, asked for from a number on."""

    def __init__(self, client: SoapClient) -> None:
        self._client = client

    async def poll(self, cursor: str) -> FeedPage:
        """Return the events after a cursor ("" is the beginning), oldest first. Raises RegionError."""
        query = self._client.element("EventQuery", After=cursor or "0", Limit=str(EVENTS_A_PAGE))
        answer = await self._client.call("QueryEvents", query, "EventList")
        following = self._client.text(answer, "Next").strip()
        if not _DIGITS.fullmatch(following) or int(following) < int(cursor or "0"):
            raise self._client.wire.uncertain("sent an event list that cannot be read", "Next")
        return FeedPage([bare(event) for event in answer.findall(self._client.name("Event"))], following)


async def certificate_reply(client: SoapClient, operation: str, query: RegionDocument) -> CertificateReply:
    """Ask an issuer; the status is its own word. Raises RegionError."""
    sent = as_xml(query)
    reply = await client.call(operation, sent, "CertificateReply")
    status = client.text(reply, "Status").strip()
    found = [bare(certificate) for certificate in reply.findall(client.name("Certificate"))]
    if not status or (status == "0" and not found):
        raise client.wire.uncertain("sent an answer that cannot be read", "Status and Certificate do not fit")
    return CertificateReply(status, quotable(client.text(reply, "Message"), sent), found)


class SoapCertificates:
    """GetCertificateDataByHolder."""

    def __init__(self, client: SoapClient) -> None:
        self._client = client

    async def lookup(self, query: RegionDocument) -> CertificateReply:
        """Ask the issuer; the status is its own word. Raises RegionError."""
        return await certificate_reply(self._client, "GetCertificateDataByHolder", query)


# --- opening -----------------------------------------------------------------------------------------------------


def open_client(kit: Kit, path: str, namespace: str) -> SoapClient:
    """Compose the client from setting `base_url` and secrets `signing_key`, `signing_cert`, `peer_cert` (PEM).

    Raises StartRefused.
    """
    credentials = Credentials(
        _load_key(kit), _load_certificate(kit, "signing_cert"), _load_certificate(kit, "peer_cert")
    )
    if credentials.certificate.public_key() != credentials.key.public_key():
        raise refuse_start(kit, "secrets.signing_cert", "does not belong to signing_key")
    return SoapClient(Wire(kit), path, namespace, credentials, kit.clock, kit.random_token)


def _load_key(kit: Kit) -> EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(kit.secret("signing_key"), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise refuse_start(
            kit, "secrets.signing_key", "must be a private key on curve P-256, PEM, without a pass phrase"
        )
    return key


def _load_certificate(kit: Kit, name: str) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(kit.secret(name))
    except ValueError:
        certificate = None
    key = None if certificate is None else certificate.public_key()
    if certificate is None or not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise refuse_start(kit, f"secrets.{name}", "must be a certificate with a key on curve P-256, PEM")
    return certificate
