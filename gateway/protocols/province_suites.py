"""The two suites in which the case exchange is signed: SM2 with SM3, and ECDSA on P-256.

Owns: reading our key and the province's pinned ones, and which of them may speak when. Leaves to `province_wire`: what
is signed. Source: docs/province-exchange.md.

An SM2 peer is a pin file, whose keys have ids; a P-256 peer is a list of certificates, whose digests are the ids. They
are pinned and not verified: no issuer is trusted for anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gateway.crypto.signing import PemKey
from gateway.crypto.sm2 import Sm2PrivateKey
from gateway.crypto.sm_keys import PinnedKeys, UntrustedKeyError

SUITES = ("SM2-SM3", "ES256")

LENGTH = 64
"""Bytes of a signature: r and s side by side."""


class Suite(Protocol):
    """How both sides sign."""

    def sign(self, text: bytes) -> bytes:
        """Return our signature, r‖s."""
        ...

    def verify(self, key_id: str, text: bytes, signature: bytes, now: datetime) -> None:
        """Raise UntrustedKeyError unless the pinned key of this id, in its term, has signed exactly this text."""
        ...


@dataclass(frozen=True, slots=True)
class Sm2Suite:
    """SM2 with SM3 (GB/T 32918.2), each side under its user id (用户身份标识)."""

    ours: Sm2PrivateKey
    theirs: PinnedKeys
    our_id: bytes
    their_id: bytes

    def sign(self, text: bytes) -> bytes:
        """Return our signature, r‖s."""
        return self.ours.sign(text, "raw", self.our_id)

    def verify(self, key_id: str, text: bytes, signature: bytes, now: datetime) -> None:
        """Raise UntrustedKeyError unless the pinned key of this id, in its term, has signed exactly this text."""
        if not self.theirs.key(key_id, now).verify(text, signature, "raw", self.their_id):
            raise UntrustedKeyError("the signature is wrong")


@dataclass(frozen=True, slots=True)
class Es256Suite:
    """ECDSA on P-256 with SHA-256 (FIPS 186-5)."""

    ours: PemKey
    theirs: Mapping[str, x509.Certificate]

    def sign(self, text: bytes) -> bytes:
        """Return our signature, r‖s."""
        return self.ours.sign(text)

    def verify(self, key_id: str, text: bytes, signature: bytes, now: datetime) -> None:
        """Raise UntrustedKeyError unless the pinned key of this id, in its term, has signed exactly this text."""
        certificate = self.theirs.get(key_id)
        if certificate is None:
            raise UntrustedKeyError("its key is not pinned")
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            raise UntrustedKeyError("its certificate is not in its term")
        der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        try:
            _p256(certificate).verify(der, text, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise UntrustedKeyError("the signature is wrong") from None


def read_p256_key(pem: bytes) -> PemKey:
    """Read our key. Raises ValueError for anything but a private key on P-256 without a password."""
    key = PemKey(pem)
    if key.algorithm != "ES256":
        raise ValueError("must be an EC key on P-256")
    return key


def read_certificates(pem: bytes) -> dict[str, x509.Certificate]:
    """Read pinned certificates; a key's id is the digest of its certificate. Raises ValueError."""
    certificates: Sequence[x509.Certificate] = x509.load_pem_x509_certificates(pem)
    for certificate in certificates:
        _p256(certificate)
    return {certificate.fingerprint(hashes.SHA256()).hex(): certificate for certificate in certificates}


def _p256(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("a certificate's key must be on P-256")  # noqa: TRY004 - as every other unusable key
    return key
