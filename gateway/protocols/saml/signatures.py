"""Signatures of SAML: enveloped in XML (signxml, under our rules) and detached over a query string.

Owns: which algorithms, transforms and references are taken at all, decided before anything is computed; the one way
from an unverified element to a verified one. Leaves to `trust`: whose certificates these are.
Source: SAML 2.0 Core §5.4, Bindings §3.4.4.1, XML Signature 1.1.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from gateway.protocols.saml.documents import (
    DS,
    EXC_C14N,
    SIGNATURE_GRAMMAR,
    Rejected,
    alone,
    attribute,
    check_shape,
    child,
    id_of,
    tag,
)

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

TRANSFORMS = ("http://www.w3.org/2000/09/xmldsig#enveloped-signature", EXC_C14N)
"""The transforms of every signature that we take, in this order; no XSLT, no XPath, no comments."""

METHODS = frozenset(
    {
        SignatureMethod.RSA_SHA256,
        SignatureMethod.RSA_SHA384,
        SignatureMethod.RSA_SHA512,
        SignatureMethod.ECDSA_SHA256,
        SignatureMethod.ECDSA_SHA384,
        SignatureMethod.ECDSA_SHA512,
    }
)
DIGESTS = frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512})
RSA_SHA256 = SignatureMethod.RSA_SHA256.value
ECDSA_SHA256 = SignatureMethod.ECDSA_SHA256.value
MIN_RSA_BITS = 2048
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a signature covers, as the verifier returned it: the element without its signature, and its bytes."""

    element: etree._Element
    data: bytes


def verify(element: etree._Element, certificates: Sequence[x509.Certificate], now: datetime) -> Verified:
    """Return the part of an element that its own signature covers, which is all of it. Raises Rejected.

    Form and algorithms are allow-listed before the verifier starts. The element stands alone then, so a reference
    cannot lead out of it, and what comes back is what the verifier computed the digest of, never what came in.
    """
    element_id = _check_form(element)
    result = _by_any(alone(element), certificates, now)
    covered = result.signed_xml
    if covered is None or covered.tag != element.tag or covered.get("ID") != element_id:
        raise Rejected("the signature covers something else than the element that it stands in")
    return Verified(covered, result.signed_data)


def _check_form(element: etree._Element) -> str:
    """Refuse a signature of another form than agreed; return the id of the element that it must cover."""
    signatures = element.findall(tag(DS, "Signature"))
    if len(signatures) != 1:
        raise Rejected(f"{etree.QName(element).localname} is not signed itself, or not exactly once")
    check_shape(signatures[0], SIGNATURE_GRAMMAR)
    info = child(signatures[0], DS, "SignedInfo")
    reference = child(info, DS, "Reference")
    element_id = id_of(element)
    if reference.get("URI") != f"#{element_id}":
        raise Rejected("the signature refers to another element than the one that it stands in")
    used = tuple(attribute(each, "Algorithm") for each in child(reference, DS, "Transforms"))
    if used != TRANSFORMS:
        raise Rejected("the signature uses other transforms than agreed")
    if attribute(child(info, DS, "CanonicalizationMethod"), "Algorithm") != EXC_C14N:
        raise Rejected("the signature uses another canonical form than agreed")
    if attribute(child(info, DS, "SignatureMethod"), "Algorithm") not in {each.value for each in METHODS}:
        raise Rejected("the signature uses an algorithm that is not allowed")
    if attribute(child(reference, DS, "DigestMethod"), "Algorithm") not in {each.value for each in DIGESTS}:
        raise Rejected("the signature uses a digest that is not allowed")
    return element_id


def _by_any(document: bytes, certificates: Sequence[x509.Certificate], now: datetime) -> VerifyResult:
    """Return the result under the first certificate that verifies: there are several while keys roll over."""
    expected = SignatureConfiguration(
        location="./",
        expect_references=1,
        signature_methods=METHODS,
        digest_algorithms=DIGESTS,
        ignore_ambiguous_key_info=True,  # the key is pinned; an odd KeyValue must not even be parsed
        verification_time=now,
    )
    reason = "no certificate is trusted"
    for certificate in certificates:
        try:
            result = XMLVerifier().verify(
                document, x509_cert=certificate, expect_config=expected, id_attribute="ID", parser=_parser()
            )
        except (SignXMLException, etree.LxmlError, ValueError, TypeError) as wrong:
            reason = type(wrong).__name__
            continue
        if isinstance(result, VerifyResult):
            return result
    raise Rejected(f"the signature does not verify ({reason})")


def _parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


# --- a query string ----------------------------------------------------------------------------------------------


def signed_query(parameters: Mapping[str, str], key: SigningKey) -> str:
    """Return a query string with `SigAlg` and `Signature` over exactly its own bytes (Bindings §3.4.4.1)."""
    algorithm = RSA_SHA256 if isinstance(key, rsa.RSAPrivateKey) else ECDSA_SHA256
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in {**parameters, "SigAlg": algorithm}.items())
    signature = base64.b64encode(_sign(key, query.encode())).decode()
    return f"{query}&Signature={quote(signature, safe='')}"


def _sign(key: SigningKey, data: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, PKCS1v15(), SHA256())
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    size = (key.key_size + 7) // 8  # XML Signature writes r and s side by side (RFC 4050 §3.3)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


# --- keys --------------------------------------------------------------------------------------------------------


def signing_key(pem: bytes) -> SigningKey:
    """Load a private key that we may sign with. Raises ValueError or TypeError."""
    key = load_pem_private_key(pem, None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError("must be an RSA or EC key")
    check_strength(key.public_key())
    return key


def decryption_keys(pem: bytes) -> tuple[rsa.RSAPrivateKey, ...]:
    """Load the private keys under which content keys arrive, one or more. Raises ValueError or TypeError."""
    return tuple(map(_decryption_key, _PRIVATE_KEY.findall(pem) or [pem]))


def _decryption_key(pem: bytes) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("must be an RSA key")
    check_strength(key.public_key())
    return key


def certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Load one or more certificates from one PEM text. Raises ValueError."""
    loaded = tuple(x509.load_pem_x509_certificates(pem))
    for certificate in loaded:
        check_strength(certificate.public_key())
    return loaded


def check_strength(key: object) -> None:
    """Refuse weak keys before they are relied on (BSI TR-02102, NIST SP 800-131A). Raises ValueError."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
        return
    raise ValueError(f"must be RSA of {MIN_RSA_BITS} bits or more, or EC on P-256, P-384 or P-521")


def belongs(certificate: x509.Certificate, key: SigningKey) -> bool:
    """Say whether a certificate is that of a key."""
    return certificate.public_key() == key.public_key()
