"""The messages of the simulated authority of Guangxi: what it reads of requests, and the assertions that it writes.

Owns: AuthnRequest and LogoutRequest towards it; Response, Assertion, LogoutRequest and metadata from it, as README.md
has them. Leaves to `sandbox_signature` the cryptography, to `sandbox_attacks` everything that is wrong on purpose.
"""

from __future__ import annotations

import base64
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from adapters.guangxi.sandbox_signature import DS, SAML, Signing, sign

SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
MD = "urn:oasis:names:tc:SAML:2.0:metadata"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
CLASSES = "urn:oasis:names:tc:SAML:2.0:ac:classes:"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
BASIC = "urn:oasis:names:tc:SAML:2.0:attrname-format:basic"
LIFE = timedelta(minutes=2)
"""How long an assertion may be shown."""

_NAMES = {"saml": SAML, "samlp": SAMLP}
_LARGEST = 64 << 10


def new_id() -> str:
    """Return a random id in the form of an XML name."""
    return f"_{secrets.token_hex(16)}"


def stamp(moment: datetime) -> str:
    """Return a time as SAML writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def element(name: str, namespace: str = SAML, text: str | None = None, **attributes: str) -> etree._Element:
    """Return a new element."""
    made = etree.Element(f"{{{namespace}}}{name}", attributes, nsmap=_NAMES)
    made.text = text
    return made


# --- towards the authority ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Errand:
    """What a gateway wants of a sign-on: the request's id, the classes that suffice, and where the answer goes."""

    request_id: str
    relay_state: str
    classes: Sequence[str]
    fresh: bool


def inflated(packed: str) -> etree._Element:
    """Return a message of the redirect binding. Raises ValueError."""
    try:
        unpacker = zlib.decompressobj(wbits=-15)
        data = unpacker.decompress(base64.b64decode(packed, validate=True), _LARGEST)
        if unpacker.unconsumed_tail or b"<!DOCTYPE" in data:
            raise ValueError("the request is too large, or holds a DOCTYPE")
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    except (zlib.error, etree.XMLSyntaxError) as error:
        raise ValueError("the request cannot be read") from error


def check_request(message: etree._Element, kind: str, sender: str, address: str, now: datetime) -> None:
    """Refuse a request of another kind, sender, address or time. Raises ValueError."""
    issuer = message.findtext(f"{{{SAML}}}Issuer")
    issued = datetime.fromisoformat(message.get("IssueInstant", ""))
    if message.tag != f"{{{SAMLP}}}{kind}" or message.get("Version") != "2.0" or not message.get("ID"):
        raise ValueError(f"this is no {kind} of SAML 2.0")
    if issuer != sender:
        raise ValueError("the service provider is not registered here")
    if message.get("Destination") != address:
        raise ValueError("the request is meant for another address")
    if abs(now - issued) > timedelta(minutes=5):
        raise ValueError("the request is too old, or from the future")


def read_errand(message: etree._Element, relay_state: str, callback: str) -> Errand:
    """Return what an AuthnRequest asks for. Raises ValueError."""
    if message.get("AssertionConsumerServiceURL") != callback or message.get("ProtocolBinding") != POST:
        raise ValueError("the answer would go to an address or by a binding that is not registered")
    policy = message.find(f"{{{SAMLP}}}NameIDPolicy")
    if policy is None or policy.get("Format") != PERSISTENT:
        raise ValueError("only persistent names are given here")
    if not relay_state or len(relay_state.encode()) > 80:
        raise ValueError("RelayState is missing, or longer than 80 bytes")
    wanted = message.find(f"{{{SAMLP}}}RequestedAuthnContext")
    if wanted is not None and wanted.get("Comparison", "exact") != "exact":
        raise ValueError("classes are compared exactly here")
    classes = [] if wanted is None else [str(each.text) for each in wanted]
    fresh = message.get("ForceAuthn") in ("true", "1")
    return Errand(message.get("ID", ""), relay_state, classes, fresh)


# --- from the authority ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that goes into one response; an attack changes some of it."""

    issuer: str
    audience: str
    callback: str
    request_id: str | None
    now: datetime
    name_id: str
    context: str
    session_index: str
    attributes: Mapping[str, str]
    inner_request_id: str | None = None
    recipient: str = ""
    authenticated_at: datetime | None = None
    method: str = BEARER
    assertion_id: str = ""

    def but(self, **changes: Any) -> Facts:
        """Return the same with changes."""
        return replace(self, **changes)


def attributes_of(person: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of a person."""
    said = {
        "userType": "1",
        "userName": person["name"],
        "certificateType": person["id_type"],
        "certificateNumber": person["id_number"],
        "sex": person["sex"],
        "birthday": person["birth_date"],
        "mobile": person["mobile"],
        "email": person["mail"],
    }
    return {name: str(value) for name, value in said.items() if value}


def organisation_of(person: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of the organisation that a person signs on for, and as what."""
    return {
        "corpId": person["corp_id"],
        "enterpriseName": person["corp_name"],
        "creditCode": person["corp_code"],
        "legalPersonName": person["corp_head"],
        "agentRole": person["acts_as"],
    }


def assertion(facts: Facts) -> etree._Element:
    """Return an unsigned assertion."""
    now, until = stamp(facts.now), stamp(facts.now + LIFE)
    made = element("Assertion", ID=facts.assertion_id or new_id(), Version="2.0", IssueInstant=now)
    made.append(element("Issuer", text=facts.issuer))
    made.append(_subject(facts, until))
    conditions = element("Conditions", NotBefore=stamp(facts.now - timedelta(seconds=5)), NotOnOrAfter=until)
    restriction = etree.SubElement(conditions, f"{{{SAML}}}AudienceRestriction")
    etree.SubElement(restriction, f"{{{SAML}}}Audience").text = facts.audience
    made.append(conditions)
    at = stamp(facts.authenticated_at or facts.now)
    statement = element("AuthnStatement", AuthnInstant=at, SessionIndex=facts.session_index)
    context = etree.SubElement(statement, f"{{{SAML}}}AuthnContext")
    etree.SubElement(context, f"{{{SAML}}}AuthnContextClassRef").text = facts.context
    made.append(statement)
    made.append(_attributes(facts.attributes))
    return made


def _subject(facts: Facts, until: str) -> etree._Element:
    made = element("Subject")
    qualifiers = {"NameQualifier": facts.issuer, "SPNameQualifier": facts.audience}
    made.append(element("NameID", text=facts.name_id, Format=PERSISTENT, **qualifiers))
    confirmation = element("SubjectConfirmation", Method=facts.method)
    asked = facts.inner_request_id or facts.request_id
    where = {"Recipient": facts.recipient or facts.callback, "NotOnOrAfter": until}
    confirmation.append(element("SubjectConfirmationData", **where, **({"InResponseTo": asked} if asked else {})))
    made.append(confirmation)
    return made


def _attributes(said: Mapping[str, str]) -> etree._Element:
    made = element("AttributeStatement")
    for name, value in said.items():
        one = etree.SubElement(made, f"{{{SAML}}}Attribute", {"Name": name, "NameFormat": BASIC})
        etree.SubElement(one, f"{{{SAML}}}AttributeValue").text = value
    return made


def response(facts: Facts, *content: etree._Element, status: str = SUCCESS) -> etree._Element:
    """Return an unsigned response with this content."""
    asked = {"InResponseTo": facts.request_id} if facts.request_id else {}
    made = element(
        "Response",
        SAMLP,
        ID=new_id(),
        Version="2.0",
        IssueInstant=stamp(facts.now),
        Destination=facts.callback,
        **asked,
    )
    made.append(element("Issuer", text=facts.issuer))
    code = etree.SubElement(etree.SubElement(made, f"{{{SAMLP}}}Status"), f"{{{SAMLP}}}StatusCode")
    code.set("Value", status)
    made.extend(content)
    return made


def logout_request(
    issuer: str, audience: str, address: str, session: Mapping[str, str], now: datetime
) -> etree._Element:
    """Return an unsigned LogoutRequest for one session."""
    times = {"IssueInstant": stamp(now), "NotOnOrAfter": stamp(now + LIFE)}
    made = element("LogoutRequest", SAMLP, ID=new_id(), Version="2.0", Destination=address, **times)
    made.append(element("Issuer", text=issuer))
    qualifiers = {"NameQualifier": issuer, "SPNameQualifier": audience}
    made.append(element("NameID", text=session["name_id"], Format=PERSISTENT, **qualifiers))
    made.append(element("SessionIndex", SAMLP, text=session["index"]))
    return made


def logout_response(issuer: str, address: str, request_id: str, now: datetime) -> etree._Element:
    """Return an unsigned LogoutResponse that says success."""
    times = {"IssueInstant": stamp(now), "InResponseTo": request_id}
    made = element("LogoutResponse", SAMLP, ID=new_id(), Version="2.0", Destination=address, **times)
    made.append(element("Issuer", text=issuer))
    status = etree.SubElement(made, f"{{{SAMLP}}}Status")
    etree.SubElement(status, f"{{{SAMLP}}}StatusCode").set("Value", SUCCESS)
    return made


def deflated(message: etree._Element) -> str:
    """Return a message for the redirect binding."""
    packer = zlib.compressobj(wbits=-15)
    return base64.b64encode(packer.compress(etree.tostring(message)) + packer.flush()).decode()


def metadata(origin: str, certificates: Sequence[x509.Certificate], until: datetime, signing: Signing | None) -> bytes:
    """Return metadata of this identity provider, signed if there is something to sign them with."""
    entity = etree.Element(f"{{{MD}}}EntityDescriptor", nsmap={"md": MD, "ds": DS})
    entity.set("entityID", f"{origin}/saml/metadata")
    entity.set("ID", new_id())
    entity.set("validUntil", stamp(until))
    role = etree.SubElement(entity, f"{{{MD}}}IDPSSODescriptor")
    role.set("protocolSupportEnumeration", SAMLP)
    role.set("WantAuthnRequestsSigned", "true")
    for certificate in certificates:
        descriptor = etree.SubElement(role, f"{{{MD}}}KeyDescriptor", {"use": "signing"})
        data = etree.SubElement(etree.SubElement(descriptor, f"{{{DS}}}KeyInfo"), f"{{{DS}}}X509Data")
        text = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
        etree.SubElement(data, f"{{{DS}}}X509Certificate").text = text
    etree.SubElement(role, f"{{{MD}}}SingleLogoutService", {"Binding": REDIRECT, "Location": f"{origin}/saml/slo"})
    etree.SubElement(role, f"{{{MD}}}NameIDFormat").text = PERSISTENT
    etree.SubElement(role, f"{{{MD}}}SingleSignOnService", {"Binding": REDIRECT, "Location": f"{origin}/saml/sso"})
    if signing is not None:
        sign(entity, signing, position=0)
    return etree.tostring(entity, xml_declaration=True, encoding="UTF-8")
