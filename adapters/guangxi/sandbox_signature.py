"""Signatures and encryption of the simulated authority of Guangxi, written from README.md with lxml and `cryptography`.

Owns: enveloped signatures (any that it is told to make, right or wrong), detached ones over a query, and encryption.
No XML signature library is used: the gateway verifies with one, and two readings find more than one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

DS = "http://www.w3.org/2000/09/xmldsig#"
ENC = "http://www.w3.org/2001/04/xmlenc#"
ENC11 = "http://www.w3.org/2009/xmlenc11#"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
ENVELOPED = f"{DS}enveloped-signature"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
XSLT = "http://www.w3.org/TR/1999/REC-xslt-19991116"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
RSA_SHA256, RSA_SHA1, ECDSA_SHA256 = f"{MORE}rsa-sha256", f"{DS}rsa-sha1", f"{MORE}ecdsa-sha256"
HMAC_SHA256 = f"{MORE}hmac-sha256"
SHA256, SHA1 = f"{ENC}sha256", f"{DS}sha1"

_STYLESHEET = (
    '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
    '<xsl:template match="/"><xsl:copy-of select="document(\'file:///etc/hostname\')"/></xsl:template></xsl:stylesheet>'
)


@dataclass(frozen=True, slots=True)
class Signing:
    """How to sign. The defaults are README.md's; whoever attacks changes them."""

    key: Key
    certificate: x509.Certificate
    transforms: Sequence[str] = (ENVELOPED, EXCLUSIVE)
    method: str = ""
    digest: str = SHA256
    references: Sequence[str] = field(default=())

    def but(self, **changes: object) -> Signing:
        """Return the same with changes."""
        return replace(self, **changes)  # type: ignore[arg-type] # names and types are checked by the dataclass


def canonical(element: etree._Element) -> bytes:
    """Return exclusive canonical XML without comments."""
    return etree.tostring(element, method="c14n", exclusive=True, with_comments=False)


def sign(element: etree._Element, signing: Signing, position: int = 1) -> None:
    """Put an enveloped signature into an element, behind its Issuer."""
    digest = base64.b64encode(_hash(signing.digest, canonical(element))).decode()
    signature = etree.Element(f"{{{DS}}}Signature", nsmap={"ds": DS})
    info = etree.SubElement(signature, f"{{{DS}}}SignedInfo")
    method = signing.method or (RSA_SHA256 if isinstance(signing.key, rsa.RSAPrivateKey) else ECDSA_SHA256)
    etree.SubElement(info, f"{{{DS}}}CanonicalizationMethod", {"Algorithm": EXCLUSIVE})
    etree.SubElement(info, f"{{{DS}}}SignatureMethod", {"Algorithm": method})
    for uri in signing.references or [f"#{element.get('ID')}"]:
        reference = etree.SubElement(info, f"{{{DS}}}Reference", {"URI": uri})
        transforms = etree.SubElement(reference, f"{{{DS}}}Transforms")
        for name in signing.transforms:
            transform = etree.SubElement(transforms, f"{{{DS}}}Transform", {"Algorithm": name})
            if name == XSLT:
                transform.append(etree.fromstring(_STYLESHEET))
        etree.SubElement(reference, f"{{{DS}}}DigestMethod", {"Algorithm": signing.digest})
        etree.SubElement(reference, f"{{{DS}}}DigestValue").text = digest
    element.insert(position, signature)  # canonical XML of SignedInfo must be that of its place
    value = _signature(signing, method, canonical(info))
    etree.SubElement(signature, f"{{{DS}}}SignatureValue").text = base64.b64encode(value).decode()
    data = etree.SubElement(etree.SubElement(signature, f"{{{DS}}}KeyInfo"), f"{{{DS}}}X509Data")
    certificate = signing.certificate.public_bytes(Encoding.DER)
    etree.SubElement(data, f"{{{DS}}}X509Certificate").text = base64.b64encode(certificate).decode()


def _hash(algorithm: str, data: bytes) -> bytes:
    return hashlib.sha1(data).digest() if algorithm == SHA1 else hashlib.sha256(data).digest()  # noqa: S324 - an attack


def _signature(signing: Signing, method: str, data: bytes) -> bytes:
    if method == HMAC_SHA256:  # the public key taken for a shared secret
        return hmac.new(signing.certificate.public_bytes(Encoding.PEM), data, hashlib.sha256).digest()
    kind = hashes.SHA1() if method == RSA_SHA1 else hashes.SHA256()  # noqa: S303 - an attack
    if isinstance(signing.key, rsa.RSAPrivateKey):
        return signing.key.sign(data, padding.PKCS1v15(), kind)
    r, s = decode_dss_signature(signing.key.sign(data, ec.ECDSA(kind)))
    size = (signing.key.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


# --- a query -----------------------------------------------------------------------------------------------------


def sign_query(query: str, key: Key, certificate: x509.Certificate) -> bytes:
    """Return the signature over a query string as it stands."""
    method = RSA_SHA256 if isinstance(key, rsa.RSAPrivateKey) else ECDSA_SHA256
    return _signature(Signing(key, certificate), method, query.encode())


def verified_query(raw: str, certificate: x509.Certificate) -> Mapping[str, str]:
    """Return the parameters of a query string that its sender signed. Raises ValueError."""
    parts = dict(part.partition("=")[::2] for part in raw.split("&"))
    signed = "&".join(f"{name}={parts[name]}" for name in ("SAMLRequest", "RelayState", "SigAlg") if name in parts)
    try:
        signature = base64.b64decode(unquote(parts["Signature"]), validate=True)
        _verify(certificate, unquote(parts["SigAlg"]), signature, signed.encode())
    except (KeyError, InvalidSignature):
        raise ValueError("the request is not signed, or its signature does not verify") from None
    return dict(parse_qsl(raw, keep_blank_values=True, strict_parsing=True))


def _verify(certificate: x509.Certificate, algorithm: str, signature: bytes, data: bytes) -> None:
    key = certificate.public_key()
    if algorithm == RSA_SHA256 and isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    elif algorithm == ECDSA_SHA256 and isinstance(key, ec.EllipticCurvePublicKey) and len(signature) % 2 == 0:
        half = len(signature) // 2
        r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    else:
        raise ValueError("SigAlg is not one of ours, or not that of the key")


# --- encryption --------------------------------------------------------------------------------------------------


def encrypt(clear: bytes, certificate: x509.Certificate, *, cbc: bool = False) -> etree._Element:
    """Return an EncryptedAssertion for whoever holds the key of a certificate; `cbc` is what README.md forbids."""
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise TypeError("assertions are encrypted for RSA keys")
    content_key = os.urandom(32)
    sealed = _cbc(content_key, clear) if cbc else _gcm(content_key, clear)
    wrapped = key.encrypt(content_key, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    outer = etree.Element(f"{{{SAML}}}EncryptedAssertion", nsmap={"saml": SAML, "xenc": ENC, "ds": DS, "xenc11": ENC11})
    data = etree.SubElement(outer, f"{{{ENC}}}EncryptedData", {"Type": f"{ENC}Element"})
    algorithm = f"{ENC}aes256-cbc" if cbc else f"{ENC11}aes256-gcm"
    etree.SubElement(data, f"{{{ENC}}}EncryptionMethod", {"Algorithm": algorithm})
    holder = etree.SubElement(etree.SubElement(data, f"{{{DS}}}KeyInfo"), f"{{{ENC}}}EncryptedKey")
    method = etree.SubElement(holder, f"{{{ENC}}}EncryptionMethod", {"Algorithm": f"{ENC11}rsa-oaep"})
    etree.SubElement(method, f"{{{DS}}}DigestMethod", {"Algorithm": SHA256})
    etree.SubElement(method, f"{{{ENC11}}}MGF", {"Algorithm": f"{ENC11}mgf1sha256"})
    for parent, value in ((holder, wrapped), (data, sealed)):
        cipher = etree.SubElement(parent, f"{{{ENC}}}CipherData")
        etree.SubElement(cipher, f"{{{ENC}}}CipherValue").text = base64.b64encode(value).decode()
    return outer


def _gcm(key: bytes, clear: bytes) -> bytes:
    iv = os.urandom(12)
    return iv + AESGCM(key).encrypt(iv, clear, None)


def _cbc(key: bytes, clear: bytes) -> bytes:
    iv, short = os.urandom(16), 16 - len(clear) % 16
    sealer = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return iv + sealer.update(clear + bytes(short - 1) + bytes([short])) + sealer.finalize()
