"""SM2 (GB/T 32918) of simulated authorities: written out over Python's integers, with OpenSSL's SM3.

Owns: signatures and the encryption of short keys, where the gateway has GmSSL's: two readings of one standard. Leaves
forms (DER, base64, orders of parts) to whoever uses it. It is fast enough to be asked a thousand times by a test, and
keeps no secret from anybody who can measure time: no real authority may use it.
"""

from __future__ import annotations

import re
import secrets
from base64 import b64decode
from collections.abc import Sequence
from functools import cache

from cryptography.hazmat.primitives import hashes

Point = tuple[int, int]

P = 2**256 - 2**224 - 2**96 + 2**64 - 1
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
A = P - 3
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
G = (
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)


def sign(secret: int, text: bytes, user: bytes) -> tuple[int, int]:
    """Return r and s over a text, under a user id."""
    own = public(secret)
    e = _digest(text, own, user)
    k = secrets.randbelow(N - 1) + 1
    r = (e + _sum_of(_doublings(G), k)[0]) % N
    return r, pow(1 + secret, -1, N) * (k - r * secret) % N


def verify(key: Point, text: bytes, r: int, s: int, user: bytes) -> bool:
    """Say whether the holder of a key signed a text under a user id."""
    t = (r + s) % N
    if not (0 < r < N and 0 < s < N) or t == 0:
        return False
    x = _affine(_added(_added((0, 1, 0), _doublings(G), s), _doublings(key), t))[0]
    return (_digest(text, key, user) + x) % N == r


def encrypt(key: Point, plain: bytes) -> tuple[Point, bytes, bytes]:
    """Return C1, C3 and C2 of a short text."""
    k = secrets.randbelow(N - 1) + 1
    shared = b"".join(number.to_bytes(32, "big") for number in _sum_of(_doublings(key), k))
    blocks = (_sm3(shared + count.to_bytes(4, "big")) for count in range(1, len(plain) // 32 + 2))
    stream = b"".join(blocks)
    text = bytes(one ^ other for one, other in zip(plain, stream, strict=False))
    return _sum_of(_doublings(G), k), _sm3(shared[:32] + plain + shared[32:]), text


@cache
def public(secret: int) -> Point:
    """Return the public key of a secret number."""
    return _sum_of(_doublings(G), secret)


def secret_number(pem: bytes) -> int:
    """Return the secret number in a PKCS#8 file: the first octet string of 32 bytes in it."""
    der = _der(pem)
    at = der.index(b"\x04\x20") + 2
    return int.from_bytes(der[at : at + 32], "big")


def point(pem: bytes) -> Point:
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
def _doublings(base: Point) -> Sequence[Point]:
    """Return 1, 2, 4, … 2²⁵⁵ times a point: a multiple is then a sum of some of them."""
    found = [base]
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
    for bit, doubling in enumerate(doublings):
        if number >> bit & 1:
            total = _plus(total, doubling)
    return total


def _plus(total: tuple[int, int, int], other: Point) -> tuple[int, int, int]:
    """Add an affine point to a Jacobian one that is another, which only chance could make equal."""
    (x1, y1, z1), (x2, y2) = total, other
    if z1 == 0:
        return x2, y2, 1
    z1z1 = z1 * z1 % P
    h, r = (x2 * z1z1 - x1) % P, (y2 * z1 * z1z1 - y1) % P
    hh = h * h % P
    hhh, v = h * hh % P, x1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - y1 * hhh) % P, z1 * h % P


def _affine(jacobian: tuple[int, int, int]) -> Point:
    x, y, z = jacobian
    inverse = pow(z, -1, P)
    square = inverse * inverse % P
    return x * square % P, y * square * inverse % P
