"""An encrypted assertion becomes the bytes of a clear one, which is trusted no more than before.

Owns: the algorithms that are taken (RSA-OAEP with SHA-256 and MGF1-SHA-256; AES-GCM). Leaves to `responses`: parsing
what comes out under the same limits, and demanding the signature inside. CBC is refused: it tells whoever asks often
enough what is inside. Source: XML Encryption 1.1 §5.2.4, §5.5.2.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from lxml import etree

from gateway.protocols.saml.documents import (
    DS,
    ENCRYPTED_GRAMMAR,
    XENC,
    XENC11,
    Rejected,
    attribute,
    check_shape,
    child,
    tag,
)

RSA_OAEP = f"{XENC11}rsa-oaep"
MGF1_SHA256 = f"{XENC11}mgf1sha256"
DIGEST_SHA256 = f"{XENC}sha256"
CONTENT_KEY_BYTES: Mapping[str, int] = {f"{XENC11}aes128-gcm": 16, f"{XENC11}aes256-gcm": 32}

_IV_BYTES, _TAG_BYTES = 12, 16
_OAEP = OAEP(MGF1(SHA256()), SHA256(), None)


def decrypt(encrypted: etree._Element, keys: Sequence[RSAPrivateKey]) -> bytes:
    """Return the clear bytes of an EncryptedAssertion. Raises Rejected, with one text for all that fails inside."""
    check_shape(encrypted, ENCRYPTED_GRAMMAR)
    wrapped = list(encrypted.iter(tag(XENC, "EncryptedKey")))
    if len(wrapped) != 1:
        raise Rejected("there is not exactly one encrypted key")
    data = child(encrypted, XENC, "EncryptedData")
    algorithm = attribute(child(data, XENC, "EncryptionMethod"), "Algorithm")
    size = CONTENT_KEY_BYTES.get(algorithm)
    if size is None:
        raise Rejected("the content is encrypted by an algorithm that is not allowed")
    _check_transport(child(wrapped[0], XENC, "EncryptionMethod"))
    content_key = _unwrap(_cipher_value(wrapped[0]), keys)
    return _open(content_key, _cipher_value(data), size)


def _check_transport(method: etree._Element) -> None:
    if attribute(method, "Algorithm") != RSA_OAEP:
        raise Rejected("the content key is encrypted by an algorithm that is not allowed")
    digest, mask = method.find(tag(DS, "DigestMethod")), method.find(tag(XENC11, "MGF"))
    if digest is None or digest.get("Algorithm") != DIGEST_SHA256:
        raise Rejected("RSA-OAEP must be with SHA-256")
    if mask is None or mask.get("Algorithm") != MGF1_SHA256:
        raise Rejected("RSA-OAEP must be with MGF1 and SHA-256")


def _unwrap(wrapped: bytes, keys: Sequence[RSAPrivateKey]) -> bytes:
    """Return the content key under the first of our keys that opens it: there are several while they roll over."""
    for key in keys:
        try:
            return key.decrypt(wrapped, _OAEP)
        except ValueError:
            continue
    raise Rejected("the assertion cannot be decrypted")


def _open(key: bytes, sealed: bytes, size: int) -> bytes:
    if len(key) != size or len(sealed) < _IV_BYTES + _TAG_BYTES:
        raise Rejected("the assertion cannot be decrypted")
    try:
        return AESGCM(key).decrypt(sealed[:_IV_BYTES], sealed[_IV_BYTES:], None)
    except InvalidTag:
        raise Rejected("the assertion cannot be decrypted") from None


def _cipher_value(element: etree._Element) -> bytes:
    value = child(child(element, XENC, "CipherData"), XENC, "CipherValue")
    try:
        return base64.b64decode("".join((value.text or "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("the assertion cannot be decrypted") from None
