"""The people of the seal business: a root, a seal maker, signers; keys and certificates minted at run time.

Owns: SM2 certificates (GM/T 0015) written by hand, and certificates on P-256 for PDF. No key is written anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.sandbox import sm2
from gateway.sandbox.sealed_files import der

USER = b"1234567812345678"
SM2_WITH_SM3 = "1.2.156.10197.1.501"
_EC_KEY, _SM2_CURVE = "1.2.840.10045.2.1", "1.2.156.10197.1.301"
_COMMON_NAME, _BASIC_CONSTRAINTS, _KEY_USAGE = "2.5.4.3", "2.5.29.19", "2.5.29.15"

SIGNS, ENCRYPTS, ISSUES = (0xC0, 6), (0x30, 4), (0x06, 1)
"""KeyUsage as byte and unused bits: signature and non-repudiation, encipherment, certificates and lists."""


@dataclass(frozen=True)
class Sm2Identity:
    """A key on the SM2 curve and its certificate."""

    name: str
    secret: int
    certificate: bytes

    def sign(self, text: bytes) -> bytes:
        """Return the DER of r and s over a text."""
        r, s = sm2.sign(self.secret, text, USER)
        return der.sequence(der.integer(r), der.integer(s))

    @property
    def sha256(self) -> str:
        """Return the digest by which a register names it."""
        return hashlib.sha256(self.certificate).hexdigest()

    @property
    def pem(self) -> str:
        """Return the certificate as PEM."""
        return pem(self.certificate)


def sm2_identity(
    name: str,
    issuer: Sm2Identity | None,
    begins: datetime,
    ends: datetime,
    *,
    authority: bool = False,
    usage: tuple[int, int] | None = SIGNS,
) -> Sm2Identity:
    """Mint a key and have its certificate signed by an issuer, or by itself."""
    secret = secrets.randbelow(sm2.N - 2) + 1
    tbs = der.sequence(
        der.tagged(0, der.integer(2)),
        der.integer(secrets.randbits(100) + 1),
        _algorithm(),
        _name(issuer.name if issuer else name),
        der.sequence(der.utc_time(begins), der.utc_time(ends)),
        _name(name),
        _public(secret),
        der.tagged(3, der.sequence(*_extensions(authority, ISSUES if authority else usage))),
    )
    signed = Sm2Identity(issuer.name if issuer else name, issuer.secret if issuer else secret, b"").sign(tbs)
    return Sm2Identity(name, secret, der.sequence(tbs, _algorithm(), der.bits(signed)))


def _algorithm() -> bytes:
    return der.sequence(der.oid(SM2_WITH_SM3))


def _name(common: str) -> bytes:
    return der.sequence(der.set_of(der.sequence(der.oid(_COMMON_NAME), der.utf8(common))))


def _public(secret: int) -> bytes:
    point = b"\x04" + b"".join(number.to_bytes(32, "big") for number in sm2.public(secret))
    return der.sequence(der.sequence(der.oid(_EC_KEY), der.oid(_SM2_CURVE)), der.bits(point))


def _extensions(authority: bool, usage: tuple[int, int] | None) -> list[bytes]:
    constraints = der.sequence(der.boolean(True)) if authority else der.sequence()
    found = [der.sequence(der.oid(_BASIC_CONSTRAINTS), der.boolean(True), der.octets(constraints))]
    if usage is not None:
        said = der.bits(bytes(usage[:1]), usage[1])
        found.append(der.sequence(der.oid(_KEY_USAGE), der.boolean(True), der.octets(said)))
    return found


def pem(certificate: bytes) -> str:
    """Return a certificate as PEM."""
    body = base64.encodebytes(certificate).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


# --- for PDF -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EcIdentity:
    """A key on P-256 and its certificate."""

    key: ec.EllipticCurvePrivateKey
    parsed: x509.Certificate

    @property
    def certificate(self) -> bytes:
        """Return the certificate in DER."""
        return self.parsed.public_bytes(Encoding.DER)

    @property
    def sha256(self) -> str:
        """Return the digest by which a register names it."""
        return self.parsed.fingerprint(hashes.SHA256()).hex()

    @property
    def pem(self) -> str:
        """Return the certificate as PEM."""
        return self.parsed.public_bytes(Encoding.PEM).decode()

    def sign(self, text: bytes) -> bytes:
        """Return an ECDSA signature with SHA-256 in DER."""
        return self.key.sign(text, ec.ECDSA(hashes.SHA256()))


def ec_identity(
    name: str, issuer: EcIdentity | None, begins: datetime, ends: datetime, *, authority: bool = False
) -> EcIdentity:
    """Mint a key and have its certificate signed by an issuer, or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        not authority, not authority, False, False, False, authority, authority, False, False
    )  # fmt: skip
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.parsed.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return EcIdentity(key, built)


def years(count: float) -> timedelta:
    """Return some years, as certificates count them."""
    return timedelta(days=round(365 * count))
