"""How a simulated province signs and checks: docs/province-exchange.md, read a second time.

Owns: SM2 (GB/T 32918.2) written out over Python's integers, with OpenSSL's SM3, where the gateway has GmSSL's; ECDSA on
P-256; and the text that is signed. Leaves to `province_authority`: who said what. Shares no code with the gateway.
It is fast enough to be asked a thousand times by a test, and it keeps no secret from anybody who can measure time: no
real authority may use it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_pem_private_key

Point = tuple[int, int]

P = 2**256 - 2**224 - 2**96 + 2**64 - 1
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
A = P - 3
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
G = (
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)


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


# --- SM2 ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sm2Signing:
    """SM2 under user ids: `secret` is the province's, `gateway` the point of the gateway's key."""

    key_id: str
    secret: int
    our_id: bytes
    gateway: Point
    gateway_id: bytes

    def sign(self, text: bytes) -> bytes:
        """Return r‖s."""
        own = _sum_of(_doublings(G), self.secret)
        e = _digest(text, own, self.our_id)
        k = secrets.randbelow(N - 1) + 1
        r = (e + _sum_of(_doublings(G), k)[0]) % N
        s = pow(1 + self.secret, -1, N) * (k - r * self.secret) % N
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def is_theirs(self, text: bytes, signature: bytes) -> bool:
        """Say whether the gateway has signed this text."""
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        t = (r + s) % N
        if len(signature) != 64 or not (0 < r < N and 0 < s < N) or t == 0:
            return False
        x = _affine(_added(_added((0, 1, 0), _doublings(G), s), _doublings(self.gateway), t))[0]
        return (_digest(text, self.gateway, self.gateway_id) + x) % N == r

    def stranger(self) -> Signing:
        """Return the same with a key that nobody knows."""
        return Sm2Signing(self.key_id, secrets.randbelow(N - 2) + 1, self.our_id, self.gateway, self.gateway_id)


def sm2_secret(pem: bytes) -> int:
    """Return the secret number in a PKCS#8 file: the first octet string of 32 bytes in it."""
    der = _der(pem)
    at = der.index(b"\x04\x20") + 2
    return int.from_bytes(der[at : at + 32], "big")


def sm2_point(pem: bytes) -> Point:
    """Return the point in a SubjectPublicKeyInfo: its last 64 bytes."""
    raw = _der(pem)[-64:]
    return int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")


def _der(pem: bytes) -> bytes:
    return b64decode(re.sub(rb"-----.*?-----|\s", b"", pem))


def _digest(text: bytes, key: Point, user: bytes) -> int:
    """Return e = SM3(Z ‖ text) as a number."""
    numbers = b"".join(number.to_bytes(32, "big") for number in (A, B, *G, *key))
    z = _sm3((8 * len(user)).to_bytes(2, "big") + user + numbers)
    return int.from_bytes(_sm3(z + text), "big")


def _sm3(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()


@cache
def _doublings(point: Point) -> Sequence[Point]:
    """Return 1, 2, 4, … 2²⁵⁵ times a point: a multiple is then a sum of some of them."""
    found = [point]
    for _ in range(255):
        x, y = found[-1]
        slope = (3 * x * x + A) * pow(2 * y, -1, P) % P
        x3 = (slope * slope - 2 * x) % P
        found.append((x3, (slope * (x - x3) - y) % P))
    return found


def _sum_of(doublings: Sequence[Point], number: int) -> Point:
    return _affine(_added((0, 1, 0), doublings, number))


def _added(start: tuple[int, int, int], doublings: Sequence[Point], number: int) -> tuple[int, int, int]:
    """Add number times a point to a Jacobian point; (…, …, 0) is nothing."""
    total = start
    for bit, point in enumerate(doublings):
        if number >> bit & 1:
            total = _plus(total, point)
    return total


def _plus(total: tuple[int, int, int], point: Point) -> tuple[int, int, int]:
    """Add an affine point to a Jacobian one that is another, which only chance could make equal."""
    (x1, y1, z1), (x2, y2) = total, point
    if z1 == 0:
        return x2, y2, 1
    z1z1 = z1 * z1 % P
    h, r = (x2 * z1z1 - x1) % P, (y2 * z1 * z1z1 - y1) % P
    hh = h * h % P
    hhh, v = h * hh % P, x1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - y1 * hhh) % P, z1 * h % P


def _affine(point: tuple[int, int, int]) -> Point:
    x, y, z = point
    inverse = pow(z, -1, P)
    square = inverse * inverse % P
    return x * square % P, y * square * inverse % P


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
