"""X.509 certificates with SM2 keys (GM/T 0015): read, and followed to a pinned anchor.

Owns: what a certificate must say to sign, to make seals and to issue, and the chain (one intermediate at most). Leaves
to `gateway.crypto`: keys and signatures. `cryptography` reads such certificates but for their keys. No list of
revocations is fetched: whoever revokes a seal has it taken out of the register.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.certificates.files.verdict import Failed
from gateway.crypto.sm2 import Sm2PublicKey
from gateway.crypto.sm_keys import read_certificate

T = TypeVar("T", bound=x509.ExtensionType)

SM2_WITH_SM3 = "1.2.156.10197.1.501"
MALFORMED = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    Warning,
)
"""What `cryptography` raises over a certificate; it warns of some odd ones, which is an error where warnings are."""
_UNDERSTOOD = frozenset(
    {"2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.31", "2.5.29.32", "2.5.29.35", "2.5.29.37"}
)
"""Extensions that may be critical: key ids, usages, constraints, alternative names, policies, revocation lists."""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, with all that is asked of it read: `cryptography` reads late. Made by `read`."""

    der: bytes
    parsed: x509.Certificate
    key: Sm2PublicKey
    subject: bytes
    issuer: bytes
    usage: x509.KeyUsage | None
    constraints: x509.BasicConstraints | None

    @property
    def may_sign(self) -> bool:
        """Say whether its key is one for signatures (数字签名 or 抗抵赖); one that does not say is none."""
        usage = self.usage
        return usage is not None and (usage.digital_signature or usage.content_commitment)

    @property
    def may_issue(self) -> bool:
        """Say whether it is an authority's."""
        usage, constraints = self.usage, self.constraints
        return bool(constraints and constraints.ca and usage and usage.key_cert_sign)

    @property
    def self_issued(self) -> bool:
        """Say whether issuer and subject are one name."""
        return self.issuer == self.subject

    def valid_at(self, moment: datetime) -> bool:
        """Say whether a moment lies in its term."""
        return self.parsed.not_valid_before_utc <= moment <= self.parsed.not_valid_after_utc

    def issued(self, other: Certificate) -> bool:
        """Say whether this one issued another: by name, by right and by signature."""
        return (
            self.may_issue
            and other.issuer == self.subject
            and other.parsed.signature_algorithm_oid.dotted_string == SM2_WITH_SM3
            and self.key.verify(other.parsed.tbs_certificate_bytes, other.parsed.signature, "der")
        )


def read(der: bytes) -> Certificate:
    """Read a certificate in DER. Raises Failed for one that is malformed, of another key, or not understood."""
    try:
        parsed = x509.load_der_x509_certificate(der)
        key, _, _ = read_certificate(parsed.public_bytes(Encoding.PEM))
        critical = {extension.oid.dotted_string for extension in parsed.extensions if extension.critical}
        read_ = Certificate(
            der,
            parsed,
            key,
            parsed.subject.public_bytes(),
            parsed.issuer.public_bytes(),
            _extension(parsed, x509.KeyUsage),
            _extension(parsed, x509.BasicConstraints),
        )
        same = parsed.public_bytes(Encoding.DER) == der
    except MALFORMED:
        raise Failed("certificate_malformed") from None
    if critical - _UNDERSTOOD or not same:
        raise Failed("certificate_malformed")
    return read_


def _extension(parsed: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return parsed.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def anchor_of(
    leaf: Certificate, anchors: Sequence[Certificate], intermediates: Sequence[Certificate], moment: datetime
) -> Certificate | None:
    """Return the anchor that a certificate leads to, by way of one intermediate at most; None when there is none.

    All of the chain must be valid at the moment. A path length in an anchor (RFC 5280 §4.2.1.9) counts.
    """
    for anchor in anchors:
        if anchor.valid_at(moment) and anchor.issued(leaf):
            return anchor
    for between in intermediates:
        if not between.valid_at(moment) or not between.issued(leaf):
            continue
        for anchor in anchors:
            if anchor.valid_at(moment) and _allows_one_between(anchor) and anchor.issued(between):
                return anchor
    return None


def _allows_one_between(anchor: Certificate) -> bool:
    length = anchor.constraints.path_length if anchor.constraints else 0
    return length is None or length > 0
