"""The wire of the simulated Foshan: SOAP 1.1 envelopes, XML signatures, freshness and faults.

Owns: turning bytes into one verified message element, values into elements, and an answer or a refusal into bytes.
Leaves the meaning of an element to the other `sandbox_*`. Written from `README.md` alone; shares no code with
`adapter.py`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from lxml.builder import ElementMaker
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
NAMESPACE = "urn:gov:foshan:exchange:v1"
DS = "http://www.w3.org/2000/09/xmldsig#"
TOLERANCE = timedelta(seconds=300)
"""How far the clocks may stand apart (README, Secrets and settings)."""

E = ElementMaker(namespace=NAMESPACE, nsmap={"e": NAMESPACE})
"""Makes elements of the exchange's namespace."""

_CHINA = timezone(timedelta(hours=8))
_EXCLUSIVE = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0
_TRANSFORMS = [SignatureConstructionMethod.enveloped.value, _EXCLUSIVE.value]
_PARTS = (["SignedInfo", "SignatureValue"], ["SignedInfo", "SignatureValue", "KeyInfo"])
# Comments and instructions are all that may stand before the first element; a DOCTYPE can stand nowhere else.
# The possessive quantifier keeps a hostile prolog from costing more than one pass.
_PROLOG = re.compile(rb"(?:\xef\xbb\xbf)?(?>\s+|<\?.*?\?>|<!--.*?-->)*+<[^!?]", re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


class FaultError(Exception):
    """A refusal that becomes a SOAP fault: `code` as the README lists them, `definite` unless it may be tried again."""

    def __init__(self, code: str, text: str, *, definite: bool = True) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.definite = definite


@dataclass(frozen=True, slots=True)
class Message:
    """A verified message: its id, and exactly the element that was signed, without the attributes of the wire."""

    id: str
    element: etree._Element


def open_envelope(body: bytes, peer: x509.Certificate, now: datetime) -> Message:
    """Return the message in an envelope that `peer` signed within the tolerance of `now`.

    Raises FaultError: `schema` for what is no envelope, `signature`, `stale`. Whether the id was used before is for
    the caller to know.
    """
    signed = _verified(_only_message(_parse(body)), peer, now)
    message_id, moment = signed.attrib.pop("messageId", ""), signed.attrib.pop("timestamp", "")
    if not _UUID.fullmatch(message_id):
        raise FaultError("schema", "messageId: a UUID is wanted")
    _check_fresh(moment, now)
    return Message(str(uuid.UUID(message_id)), signed)


def seal(answer: etree._Element, key: ec.EllipticCurvePrivateKey, in_reply_to: str, now: datetime) -> bytes:
    """Return the envelope around the answer, signed as a stand-alone document."""
    answer.set("messageId", str(uuid.uuid4()))
    answer.set("timestamp", now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    answer.set("inReplyTo", in_reply_to)
    signer = XMLSigner(
        signature_algorithm=SignatureMethod.ECDSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=_EXCLUSIVE,
    )
    signer.signature_annotators.clear()  # the only annotator writes KeyInfo, and the key is pinned
    return _enveloped(signer.sign(answer, key=key))


def fault(error: FaultError) -> bytes:
    """Return the unsigned SOAP fault (SOAP 1.1, section 4.4)."""
    element = etree.Element(f"{{{SOAP}}}Fault", nsmap={"soap": SOAP})
    etree.SubElement(element, "faultcode").text = "soap:Client" if error.definite else "soap:Server"
    etree.SubElement(element, "faultstring").text = error.text
    detail = etree.SubElement(element, "detail")
    inner = etree.SubElement(detail, f"{{{NAMESPACE}}}error", code=error.code, nsmap={"e": NAMESPACE})
    inner.text = error.text
    return _enveloped(element)


def _enveloped(content: etree._Element) -> bytes:
    envelope = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap": SOAP})
    etree.SubElement(envelope, f"{{{SOAP}}}Body").append(content)
    return etree.tostring(envelope, xml_declaration=True, encoding="utf-8")


def _parser() -> etree.XMLParser:
    # huge_tree: a material may be longer than libxml2's ten million characters for one text. It also lifts the guard
    # against entity expansion, so `_parse` looks at the prolog first. The encoding is fixed so that a declaration of
    # another one cannot show the parser a prolog that was not looked at.
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True, encoding="utf-8")


def _parse(body: bytes) -> etree._Element:
    if not _PROLOG.match(body):
        raise FaultError("schema", "a DOCTYPE, or something that is no XML, stands before the first element")
    try:
        return etree.fromstring(body, _parser())
    except etree.XMLSyntaxError:
        # Without its text: the parser quotes what it stumbled over, and that may be personal data.
        raise FaultError("schema", "the body is not well-formed XML in UTF-8") from None


def _only_message(envelope: etree._Element) -> etree._Element:
    bodies = list(envelope.iterchildren("*"))
    if envelope.tag != f"{{{SOAP}}}Envelope" or [body.tag for body in bodies] != [f"{{{SOAP}}}Body"]:
        raise FaultError("schema", "a SOAP 1.1 envelope with a Body and nothing else is wanted")
    messages = list(bodies[0].iterchildren("*"))
    if len(messages) != 1 or etree.QName(messages[0]).namespace != NAMESPACE:
        raise FaultError("schema", f"Body: exactly one element of {NAMESPACE} is wanted")
    return messages[0]


def _verified(message: etree._Element, peer: x509.Certificate, now: datetime) -> etree._Element:
    """Return the element as it was signed, rebuilt from the signed bytes and without its Signature."""
    _check_form(message)
    expected = SignatureConfiguration(
        location="./",
        expect_references=1,
        signature_methods=frozenset({SignatureMethod.ECDSA_SHA256}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
        ignore_ambiguous_key_info=True,  # the key is pinned: what KeyInfo says is not even looked at
        verification_time=now,
    )
    alone = etree.tostring(message, with_tail=False)
    try:
        result = XMLVerifier().verify(alone, x509_cert=peer, parser=_parser(), expect_config=expected)
    except (SignXMLException, ValueError, etree.LxmlError):
        raise FaultError("signature", "the signature does not fit the message and the agreed key") from None
    if not isinstance(result, VerifyResult) or result.signed_xml is None or result.signed_xml.tag != message.tag:
        raise FaultError("signature", "the signature is not about the message element")
    return result.signed_xml


def _check_form(message: etree._Element) -> None:
    """Refuse every signature but the agreed one before any cryptography: one, last, one Reference to the whole."""
    signatures = list(message.iter(f"{{{DS}}}Signature"))
    if len(signatures) != 1 or next(message.iterchildren("*", reversed=True)) is not signatures[0]:
        raise FaultError("signature", "exactly one Signature, as the last child of the message, is wanted")
    if not _is_agreed(signatures[0]):
        raise FaultError("signature", "the Signature is not made in the agreed way")


def _is_agreed(signature: etree._Element) -> bool:
    """Say whether all is as agreed that the verifier cannot be told to insist on (it is told the algorithms)."""
    info = signature.find(f"{{{DS}}}SignedInfo")
    if info is None or _names(signature) not in _PARTS:
        return False
    if _names(info) != ["CanonicalizationMethod", "SignatureMethod", "Reference"]:
        return False
    method, _, reference = info.iterchildren("*")
    return (
        _algorithms([method]) == [_EXCLUSIVE.value]
        and _is_whole(reference)
        and all(text.strip() for text in (signature.findtext(f"{{{DS}}}SignatureValue") or "", _digest(reference)))
    )


def _is_whole(reference: etree._Element) -> bool:
    if reference.get("URI") != "" or _names(reference) != ["Transforms", "DigestMethod", "DigestValue"]:
        return False
    transforms = next(reference.iterchildren("*"))
    return _algorithms(list(transforms.iterchildren("*"))) == _TRANSFORMS


def _digest(reference: etree._Element) -> str:
    return reference.findtext(f"{{{DS}}}DigestValue") or ""


def _names(parent: etree._Element) -> list[str]:
    """Return the local names of the children; one of another namespace keeps its own and so equals no agreed name."""
    return [str(child.tag).removeprefix(f"{{{DS}}}") for child in parent.iterchildren("*")]


def _algorithms(elements: list[etree._Element]) -> list[str | None]:
    """Return the algorithms; one with parameters counts as none, because no parameter is agreed."""
    return [element.get("Algorithm") if len(element) == 0 else None for element in elements]


def _check_fresh(moment: str, now: datetime) -> None:
    try:
        sent = datetime.fromisoformat(moment) if _MOMENT.fullmatch(moment) else None
    except ValueError:
        sent = None
    if sent is None:
        raise FaultError("schema", "timestamp: RFC 3339 in UTC with seconds and Z is wanted")
    if abs(now - sent) > TOLERANCE:
        raise FaultError("stale", f"timestamp: more than {TOLERANCE.seconds} s away from the clock here")


def local(moment: datetime) -> str:
    """Return a moment as answers and events have it: RFC 3339 with +08:00, in seconds."""
    return moment.astimezone(_CHINA).isoformat(timespec="seconds")


def filled(parent: etree._Element, values: Mapping[str, Any]) -> etree._Element:
    """Write values as `sandbox_rules.Record` describes them, in their order."""
    for name, value in values.items():
        if name.startswith("@"):
            parent.set(name[1:], str(value))
        elif name == "text":
            parent.text = str(value)
        else:
            for each in value if isinstance(value, list) else [value]:
                child = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
                filled(child, each if isinstance(each, Mapping) else {"text": each})
    return parent
