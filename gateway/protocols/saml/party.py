"""Our own side: who we are to the identity provider, and the metadata in which we say so.

Owns: our entity id, addresses and keys, and our published metadata. Leaves to `sign_on` and `sign_out`: the messages.
Source: SAML 2.0 Metadata §2.4.4.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from gateway.protocols.saml.documents import DS, MD, SAMLP, XENC, XENC11, tag
from gateway.protocols.saml.encryption import DIGEST_SHA256, MGF1_SHA256, RSA_OAEP
from gateway.protocols.saml.responses import PERSISTENT
from gateway.protocols.saml.signatures import SigningKey
from gateway.protocols.saml.trust import POST, REDIRECT

_NAMESPACES = {"md": MD, "ds": DS, "xenc": XENC, "xenc11": XENC11}


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """We as a service provider. `base` is `…/sign-in/<region>`: every address of ours for this region is under it."""

    entity_id: str
    base: str
    signing_key: SigningKey
    signing_certificates: Sequence[x509.Certificate]
    decryption_keys: Sequence[RSAPrivateKey]
    encryption_certificate: x509.Certificate

    @property
    def callback_url(self) -> str:
        """Where responses are posted to."""
        return f"{self.base}/callback"

    @property
    def logout_url(self) -> str:
        """Where the identity provider posts its own logout requests to."""
        return f"{self.base}/logout"

    @property
    def signed_out_url(self) -> str:
        """Where the browser comes back to when we asked for the logout."""
        return f"{self.base}/signed-out"

    def metadata(self) -> bytes:
        """Return our metadata. The first signing certificate is the one in use; the others are announced."""
        entity = etree.Element(tag(MD, "EntityDescriptor"), {"entityID": self.entity_id}, nsmap=_NAMESPACES)
        wishes = {"AuthnRequestsSigned": "true", "WantAssertionsSigned": "true", "protocolSupportEnumeration": SAMLP}
        role = etree.SubElement(entity, tag(MD, "SPSSODescriptor"), wishes)
        for certificate in self.signing_certificates:
            _key(role, "signing", certificate)
        _encryption_methods(_key(role, "encryption", self.encryption_certificate))
        for binding in (REDIRECT, POST):
            _endpoint(role, "SingleLogoutService", binding, self.logout_url, {"ResponseLocation": self.signed_out_url})
        etree.SubElement(role, tag(MD, "NameIDFormat")).text = PERSISTENT
        _endpoint(role, "AssertionConsumerService", POST, self.callback_url, {"index": "0", "isDefault": "true"})
        return etree.tostring(entity, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _key(role: etree._Element, use: str, certificate: x509.Certificate) -> etree._Element:
    descriptor = etree.SubElement(role, tag(MD, "KeyDescriptor"), {"use": use})
    data = etree.SubElement(etree.SubElement(descriptor, tag(DS, "KeyInfo")), tag(DS, "X509Data"))
    text = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    etree.SubElement(data, tag(DS, "X509Certificate")).text = text
    return descriptor


def _encryption_methods(descriptor: etree._Element) -> None:
    """Say by which algorithms an assertion may be encrypted for us: by no other."""
    etree.SubElement(descriptor, tag(MD, "EncryptionMethod"), {"Algorithm": f"{XENC11}aes256-gcm"})
    transport = etree.SubElement(descriptor, tag(MD, "EncryptionMethod"), {"Algorithm": RSA_OAEP})
    etree.SubElement(transport, tag(DS, "DigestMethod"), {"Algorithm": DIGEST_SHA256})
    etree.SubElement(transport, tag(XENC11, "MGF"), {"Algorithm": MGF1_SHA256})


def _endpoint(role: etree._Element, service: str, binding: str, location: str, more: Mapping[str, str]) -> None:
    endpoint = etree.SubElement(role, tag(MD, service), {"Binding": binding, "Location": location})
    for name, value in more.items():
        endpoint.set(name, value)
