"""SAML's XML, read as if an attacker wrote it: limits first, then shape, then values.

Owns: what is XML at all for us, the grammar of the messages that we take, and how a value is read out of an element.
Leaves to `signatures`: whether anybody vouches for it. Nothing that this module returns is trusted by itself.
Source: SAML 2.0 Core (saml-core-2.0-os); the grammar is narrower than its schema, see `GRAMMAR`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from lxml import etree

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
MD = "urn:oasis:names:tc:SAML:2.0:metadata"
DS = "http://www.w3.org/2000/09/xmldsig#"
EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"

MAX_BYTES = 128 << 10
"""The largest message that is parsed, in bytes of XML."""

MAX_DEPTH = 12
"""How deep elements may be nested; the deepest honest message, an encrypted assertion, needs eight."""

MAX_ELEMENTS = 1000
"""How many elements a message may have."""

MAX_TEXT = 2048
"""The longest value of an element or attribute that is read, in characters."""

_PREFIXES: Mapping[str, str] = {SAML: "saml", SAMLP: "samlp", DS: "ds", EXC_C14N: "ec", XENC: "xenc", XENC11: "xenc11"}
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)

OPAQUE = "opaque"
"""In a grammar: what is inside is neither looked at nor ever read."""

SIGNATURE_GRAMMAR: Mapping[str, str] = {
    "ds:Signature": "ds:SignedInfo ds:SignatureValue (ds:KeyInfo )?",  # no ds:Object: nothing can be hidden in one
    "ds:SignedInfo": "ds:CanonicalizationMethod ds:SignatureMethod ds:Reference ",  # exactly one reference
    "ds:CanonicalizationMethod": "(ec:InclusiveNamespaces )?",
    "ds:SignatureMethod": "",
    "ds:Reference": "ds:Transforms ds:DigestMethod ds:DigestValue ",
    "ds:Transforms": "ds:Transform ds:Transform ",
    "ds:Transform": "(ec:InclusiveNamespaces )?",
    "ds:DigestMethod": "",
    "ds:DigestValue": "",
    "ds:SignatureValue": "",
    "ec:InclusiveNamespaces": "",
    "ds:KeyInfo": OPAQUE,  # keys are pinned
}
_NAME_ID: Mapping[str, str] = {"saml:Issuer": "", "saml:NameID": ""}

RESPONSE_GRAMMAR: Mapping[str, str] = {
    **_NAME_ID,
    "samlp:Response": "saml:Issuer (ds:Signature )?samlp:Status (saml:Assertion |saml:EncryptedAssertion )",
    "samlp:Status": "samlp:StatusCode (samlp:StatusMessage )?",
    "samlp:StatusCode": "",
    "samlp:StatusMessage": "",
    "ds:Signature": OPAQUE,  # read by `signatures`, under its own grammar
    "saml:Assertion": OPAQUE,  # read when it has been verified
    "saml:EncryptedAssertion": OPAQUE,  # read by `encryption`
}
"""A response that says success. It holds one assertion, clear or encrypted, and no extensions."""

ASSERTION_GRAMMAR: Mapping[str, str] = {
    **_NAME_ID,
    "saml:Assertion": "saml:Issuer saml:Subject saml:Conditions (saml:AttributeStatement )?"
    "saml:AuthnStatement (saml:AttributeStatement )?",
    "saml:Subject": "saml:NameID saml:SubjectConfirmation ",
    "saml:SubjectConfirmation": "saml:SubjectConfirmationData ",
    "saml:SubjectConfirmationData": "",
    "saml:Conditions": "saml:AudienceRestriction (saml:OneTimeUse )?",
    "saml:AudienceRestriction": "(saml:Audience )+",
    "saml:Audience": "",
    "saml:OneTimeUse": "",
    "saml:AuthnStatement": "(saml:SubjectLocality )?saml:AuthnContext ",
    "saml:SubjectLocality": "",
    "saml:AuthnContext": "saml:AuthnContextClassRef (saml:AuthenticatingAuthority )*",
    "saml:AuthnContextClassRef": "",
    "saml:AuthenticatingAuthority": "",
    "saml:AttributeStatement": "(saml:Attribute )+",
    "saml:Attribute": "(saml:AttributeValue )*",
    "saml:AttributeValue": "",
}
"""A verified assertion, its signature already gone: no Advice (a hiding place), no encrypted parts, one statement."""

LOGOUT_GRAMMAR: Mapping[str, str] = {
    **_NAME_ID,
    "samlp:LogoutRequest": "saml:Issuer saml:NameID (samlp:SessionIndex )?",
    "samlp:SessionIndex": "",
}
"""A verified request to log out, its signature already gone."""

_ENCRYPTION_METHOD = "(xenc:KeySize )?(ds:DigestMethod )?(xenc11:MGF )?"
ENCRYPTED_GRAMMAR: Mapping[str, str] = {
    "saml:EncryptedAssertion": "xenc:EncryptedData (xenc:EncryptedKey )?",
    "xenc:EncryptedData": "xenc:EncryptionMethod (ds:KeyInfo )?xenc:CipherData ",
    "xenc:EncryptedKey": "xenc:EncryptionMethod (ds:KeyInfo )?xenc:CipherData (xenc:ReferenceList )?",
    "xenc:EncryptionMethod": _ENCRYPTION_METHOD,
    "xenc:KeySize": "",
    "xenc11:MGF": "",
    "xenc:CipherData": "xenc:CipherValue ",
    "xenc:CipherValue": "",
    "xenc:ReferenceList": OPAQUE,
    "ds:DigestMethod": "",
    "ds:KeyInfo": "(xenc:EncryptedKey |ds:RetrievalMethod |ds:X509Data |ds:KeyName )*",
    "ds:RetrievalMethod": "",
    "ds:X509Data": OPAQUE,
    "ds:KeyName": OPAQUE,
}
"""An encrypted assertion with the one key that opens it, beside the data or inside its KeyInfo."""


class Rejected(Exception):
    """A message breaks a rule. The text names the rule, for our log only, and never a value of a person."""


def tag(namespace: str, name: str) -> str:
    """Return a name as lxml writes it."""
    return f"{{{namespace}}}{name}"


def local(element: etree._Element) -> str:
    """Return an element's name without its namespace."""
    return etree.QName(element).localname


# --- from bytes to elements --------------------------------------------------------------------------------------


def decoded(text: object) -> bytes:
    """Return the bytes behind a form field in base64 (SAML Bindings §3.5.4). Raises Rejected."""
    if not isinstance(text, str) or not text or len(text) > MAX_BYTES * 2:
        raise Rejected("no message, or one that is too large")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("the message is not base64") from None


def parse(data: bytes, *, comments: bool = False) -> etree._Element:
    """Parse a message that may be hostile. Raises Rejected.

    It must be UTF-8. A DOCTYPE is refused before the parser sees it: an entity bomb never gets as far as a parser.
    Processing instructions are refused, and so are comments unless the caller only reads on what was signed: canonical
    XML drops them, so whoever reads the original may read another text than the one that was signed.
    """
    if len(data) > MAX_BYTES:
        raise Rejected("the message is too large")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Rejected("the message is not UTF-8") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Rejected("a DOCTYPE is not allowed")
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise Rejected("the message is not well-formed XML") from None
    _check_limits(root, comments=comments)
    return root


def _check_limits(root: etree._Element, *, comments: bool) -> None:
    unwanted = [*root.iter(etree.PI, etree.Entity), *([] if comments else root.iter(etree.Comment))]
    if unwanted:
        raise Rejected("comments, processing instructions and entities are not allowed")
    depth = 0
    for number, (event, _) in enumerate(etree.iterwalk(root, events=("start", "end"))):
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH or number > 2 * MAX_ELEMENTS:
            raise Rejected("the message is too deep or has too many elements")


def check_ids(root: etree._Element) -> None:
    """Refuse a document in which an id stands twice, in whatever spelling of `ID`. Raises Rejected.

    A reference then means one element, whichever attribute a library looks at first.
    """
    seen = [str(value) for element in root.iter(etree.Element) for value in _ids(element)]
    if len(seen) != len(set(seen)):
        raise Rejected("an id stands twice")


def _ids(element: etree._Element) -> Iterator[str]:
    for name, value in element.attrib.items():
        if etree.QName(str(name)).localname.lower() == "id":
            yield str(value)


def alone(element: etree._Element) -> bytes:
    """Return an element as a document of its own, with the namespaces that it inherits."""
    return etree.tostring(element, encoding="utf-8", with_tail=False)


def check_shape(root: etree._Element, grammar: Mapping[str, str]) -> None:
    """Refuse an element that is not of this grammar: children by name and in order, no text between them."""
    front = [root]
    while front:
        element = front.pop()
        name, children = _name(element), list(element)
        pattern = grammar.get(name)
        if pattern == OPAQUE:
            continue
        if pattern is None or not re.fullmatch(pattern, "".join(f"{_name(child)} " for child in children)):
            raise Rejected(f"{name} is not expected here, or not with these children")
        if children and any((text or "").strip() for text in (element.text, *(child.tail for child in children))):
            raise Rejected(f"{name} has text between its children")
        front.extend(children)


def _name(element: etree._Element) -> str:
    name = etree.QName(element)
    return f"{_PREFIXES.get(name.namespace or '', '?')}:{name.localname[:64]}"


# --- values ------------------------------------------------------------------------------------------------------


def child(element: etree._Element, namespace: str, name: str) -> etree._Element:
    """Return the one child of this name. Raises Rejected."""
    found = element.findall(tag(namespace, name))
    if len(found) != 1:
        raise Rejected(f"{local(element)} has not exactly one {name}")
    return found[0]


def text_of(element: etree._Element) -> str:
    """Return the whole text of an element that holds nothing else. Raises Rejected.

    Whatever might split a text (an element, a comment) is refused, so that nobody reads the first piece for the whole.
    """
    text = element.text or ""
    if len(element) or len(text) > MAX_TEXT:
        raise Rejected(f"{local(element)} is not a plain, short text")
    return text


def attribute(element: etree._Element, name: str) -> str:
    """Return an attribute that must be there. Raises Rejected."""
    value = element.get(name)
    if not value or len(value) > MAX_TEXT:
        raise Rejected(f"{local(element)} has no {name}, or a long one")
    return value


def id_of(element: etree._Element) -> str:
    """Return the id of a message or assertion: an XML name in ASCII, not endless. Raises Rejected."""
    value = attribute(element, "ID")
    if not _ID.fullmatch(value):
        raise Rejected(f"the ID of {local(element)} has another form")
    return value


def instant(element: etree._Element, name: str) -> datetime:
    """Return an attribute that is a time in UTC (Core §1.3.3). Raises Rejected."""
    found = _INSTANT.fullmatch(attribute(element, name))
    if found is None:
        raise Rejected(f"{name} of {local(element)} is no time in UTC")
    try:
        moment = datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise Rejected(f"{name} of {local(element)} is no time in UTC") from None
    return moment + timedelta(microseconds=int((found[2] or "0").ljust(6, "0")[:6]))


def written(moment: datetime) -> str:
    """Return a time as SAML writes it, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
