"""An identity provider in memory for the tests of SAML: it signs whatever a test wants signed, at a fixed time.

Owns: keys, an honest response, and the ways to spoil it before or after signing. It is put together from the simulated
authority of Guangxi, which shares no code with the service provider under test.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from lxml import etree

from adapters.guangxi.sandbox_messages import CLASSES, Facts, assertion, response
from adapters.guangxi.sandbox_signature import Key, Signing, encrypt, sign
from gateway.protocols.saml.documents import Rejected
from gateway.protocols.saml.responses import Expected, Statement, read_response
from tests.unit.protocol_support import NOW

GATEWAY = "http://gateway.test"
US = f"{GATEWAY}/sign-in/testland/metadata"
CALLBACK = f"{GATEWAY}/sign-in/testland/callback"
IDP = "https://idp.test/saml/metadata"
REQUEST = "_request-1"
PASSWORD = f"{CLASSES}PasswordProtectedTransport"
A_DAY = timedelta(days=1)

Tweak = Callable[[etree._Element], object]


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """Return the RSA key of this name: made once, since that takes long."""
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    """Return the EC key of this name."""
    return ec.generate_private_key(ec.SECP256R1())


def certificate(key: Key, *, since: datetime = NOW - A_DAY, until: datetime = NOW + A_DAY) -> x509.Certificate:
    """Return a certificate for a key, signed by itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(since).not_valid_after(until).sign(key, hashes.SHA256())


def pem(key: Key) -> bytes:
    """Return a private key as PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def cert_pem(*certificates: x509.Certificate) -> bytes:
    """Return certificates as one PEM text."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


@cache
def idp_signing() -> Signing:
    """Return the identity provider's key and certificate."""
    return Signing(rsa_key("idp"), certificate(rsa_key("idp")))


@cache
def sealing() -> x509.Certificate:
    """Return the certificate that assertions are encrypted for."""
    return certificate(rsa_key("ours"))


FACTS = Facts(
    issuer=IDP,
    audience=US,
    callback=CALLBACK,
    request_id=REQUEST,
    now=NOW,
    name_id="GX-1",
    context=PASSWORD,
    session_index="_session-1",
    attributes={"userType": "1", "userName": "韦小兰", "mobile": "13800000045"},
)
EXPECTED = Expected(issuer=IDP, audience=US, address=CALLBACK, request_id=REQUEST, now=NOW)


def nothing(_element: etree._Element) -> None:
    """Leave an element as it is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to be: `inside` changes the assertion before it is signed, `outside` the response afterwards."""

    facts: Facts = FACTS
    inside: Tweak = nothing
    outside: Tweak = nothing
    signing: Signing | None = None
    sealed: bool = False
    response_signed: bool = False

    def bytes(self) -> bytes:
        """Return the response."""
        made = assertion(self.facts)
        self.inside(made)
        sign(made, self.signing or idp_signing())
        content = encrypt(etree.tostring(made), sealing()) if self.sealed else made
        whole = response(self.facts, content)
        self.outside(whole)
        if self.response_signed:
            sign(whole, self.signing or idp_signing())
        return etree.tostring(whole)


def read(
    data: bytes,
    *,
    expected: Expected = EXPECTED,
    trusted: Sequence[x509.Certificate] = (),
    keys: Sequence[rsa.RSAPrivateKey] = (),
) -> Statement:
    """Have a response read by the service provider. Raises Rejected."""
    posted = base64.b64encode(data).decode()
    return read_response(posted, expected, trusted or [idp_signing().certificate], keys or [rsa_key("ours")])


def why_not(data: bytes, **how: Any) -> str:
    """Return the reason for which a response is refused; that it is taken is a failure."""
    with pytest.raises(Rejected) as refused:
        read(data, **how)
    return str(refused.value)


def find(root: etree._Element, name: str) -> etree._Element:
    """Return the first element of this local name."""
    return next(each for each in root.iter(etree.Element) if etree.QName(each).localname == name)


def setting(name: str, **attributes: str | None) -> Tweak:
    """Return a tweak that sets attributes of the element of this name, or takes them away (None)."""

    def tweak(root: etree._Element) -> None:
        element = find(root, name)
        for attribute, value in attributes.items():
            if value is None:
                del element.attrib[attribute]
            else:
                element.set(attribute, value)

    return tweak


def saying(name: str, text: str) -> Tweak:
    """Return a tweak that changes the text of the element of this name."""
    return lambda root: setattr(find(root, name), "text", text)


def without(name: str) -> Tweak:
    """Return a tweak that takes the element of this name away."""

    def tweak(root: etree._Element) -> None:
        element = find(root, name)
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)

    return tweak


def adding(parent: str, namespace: str, name: str, text: str | None = None, **attributes: str) -> Tweak:
    """Return a tweak that adds an element at the end of the element of this name."""

    def tweak(root: etree._Element) -> None:
        made = etree.SubElement(find(root, parent), f"{{{namespace}}}{name}", attributes)
        made.text = text

    return tweak
