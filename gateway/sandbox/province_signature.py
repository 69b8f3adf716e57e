"""How a simulated province signs and checks: docs/province-exchange.md, read a second time.

Owns: the text that is signed, and the two suites. Leaves to `sm2` the mathematics of the one and to `cryptography` that
of the other; to `province_authority`: who said what. Shares no code with the gateway.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.sandbox import sm2


class Signing(Protocol):
    """One side's way to sign, and to check the other's."""

    @property
    def key_id(self) -> str:
        """The id under which the other side knows the key."""
        ...

    def sign(self, text: bytes) -> bytes:
        """Return r‖s."""
        ...

    def is_theirs(self, text: bytes, signature: bytes) -> bool:
        """Say whether the gateway has signed this text."""
        ...

    def stranger(self) -> Signing:
        """Return the same with a key that nobody knows."""
        ...


def request_text(method: str, path: str, stamp: Mapping[str, str], grant_code: str) -> bytes:
    """Return what the gateway signs. `stamp` has key, time, nonce and digest."""
    parts = [method, path, stamp["key"], grant_code, stamp["time"], stamp["nonce"], stamp["digest"]]
    return "\n".join(["PEARL-PROVINCE-1 REQUEST", *parts]).encode()


def answer_text(method: str, path: str, stamp: Mapping[str, str]) -> bytes:
    """Return what the province signs."""
    parts = [method, path, stamp["key"], stamp["time"], stamp["nonce"], stamp["digest"]]
    return "\n".join(["PEARL-PROVINCE-1 ANSWER", *parts]).encode()


def notice_text(method: str, path: str, stamp: Mapping[str, str]) -> bytes:
    """Return what the province signs when it tells something by itself; `path` is the gateway's."""
    parts = [method, path, stamp["key"], stamp["time"], stamp["nonce"], stamp["digest"]]
    return "\n".join(["PEARL-PROVINCE-1 NOTICE", *parts]).encode()


# --- SM2 ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sm2Signing:
    """SM2 under user ids: `secret` is the province's, `gateway` the gateway's public key."""

    key_id: str
    secret: int
    our_id: bytes
    gateway: sm2.Point
    gateway_id: bytes

    def sign(self, text: bytes) -> bytes:
        """Return r‖s."""
        r, s = sm2.sign(self.secret, text, self.our_id)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def is_theirs(self, text: bytes, signature: bytes) -> bool:
        """Say whether the gateway has signed this text."""
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        return len(signature) == 64 and sm2.verify(self.gateway, text, r, s, self.gateway_id)

    def stranger(self) -> Signing:
        """Return the same with a key that nobody knows."""
        return Sm2Signing(self.key_id, secrets.randbelow(sm2.N - 2) + 1, self.our_id, self.gateway, self.gateway_id)


# --- P-256 -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Es256Signing:
    """ECDSA on P-256 with SHA-256. The key's id is the digest of its certificate."""

    key_id: str
    secret: ec.EllipticCurvePrivateKey
    gateway: ec.EllipticCurvePublicKey

    def sign(self, text: bytes) -> bytes:
        """Return r‖s."""
        r, s = utils.decode_dss_signature(self.secret.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def is_theirs(self, text: bytes, signature: bytes) -> bool:
        """Say whether the gateway has signed this text."""
        if len(signature) != 64:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        try:
            self.gateway.verify(utils.encode_dss_signature(r, s), text, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    def stranger(self) -> Signing:
        """Return the same with a key that nobody knows."""
        return Es256Signing(self.key_id, ec.generate_private_key(ec.SECP256R1()), self.gateway)


def es256_signing(key: bytes, certificate: bytes, gateway: bytes) -> Es256Signing:
    """Read key and certificate of the province, and the gateway's certificate. Raises ValueError."""
    secret, peer = load_pem_private_key(key, None), x509.load_pem_x509_certificate(gateway).public_key()
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or not isinstance(peer, ec.EllipticCurvePublicKey):
        raise ValueError("ES256 needs keys on P-256")  # noqa: TRY004 - a wrong file, and no wrong call
    lines = b"".join(certificate.split(b"-----")[2].split())
    return Es256Signing(hashlib.sha256(b64decode(lines)).hexdigest(), secret, peer)
