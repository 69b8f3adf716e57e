"""SM2 (国密, GB/T 32918): signatures with SM3 and the encryption of short keys, over key material that is handed in.

Owns: keys in memory, the forms in which signatures and ciphertexts travel, and the range checks on both. Leaves to
`gateway.crypto.sm_keys`: reading keys from PEM, hex and pin files. Leaves to GmSSL (`gmssl-pyx`): the mathematics of
signing, verifying and encrypting.

GmSSL prints two lines with places in its own source to stderr when a signature or a ciphertext is wrong; no data is in
them. What is malformed is refused here and never reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import gmssl_pyx
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

DEFAULT_ID = b"1234567812345678"
"""The signer's id (用户身份标识) where none is agreed (GM/T 0009-2012 §10)."""

SignatureForm = Literal["der", "raw"]
"""DER of `SEQUENCE {r, s}` (GM/T 0009 §7.3), or r‖s in 64 bytes."""

CipherForm = Literal["c1c3c2", "c1c2c3", "der"]
"""`04‖x‖y‖C3‖C2` (GB/T 32918.4-2016), the older `04‖x‖y‖C2‖C3`, or DER (GM/T 0009 §7.2)."""

P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
"""Order of the base point (GB/T 32918.5)."""
A = P - 3
G = (
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)

MAX_PLAIN = 255
"""Longest text that GmSSL encrypts, in bytes: enough for keys, and nothing else is encrypted this way."""

_HASH = 32
_POINT = 65

Point = tuple[int, int]


@asn1.sequence
class _Ciphertext:
    """SM2Cipher (GM/T 0009 §7.2)."""

    x: int
    y: int
    digest: bytes
    text: bytes


# --- forms -------------------------------------------------------------------------------------------------------


def signature_parts(signature: bytes, form: SignatureForm) -> tuple[int, int]:
    """Return r and s. Raises ValueError unless both lie in [1, n-1] and r + s is no multiple of n.

    Both are demanded by GB/T 32918.2 §7.1; a verifier that forgets them takes signatures that nobody made.
    """
    r, s = _integers(signature, form)
    if not (1 <= r < N and 1 <= s < N) or (r + s) % N == 0:
        raise ValueError("r or s is out of range")
    return r, s


def _integers(signature: bytes, form: SignatureForm) -> tuple[int, int]:
    if form == "der":
        return decode_dss_signature(signature)
    if len(signature) != 64:
        raise ValueError("a raw signature has 64 bytes")
    return int.from_bytes(signature[:32]), int.from_bytes(signature[32:])


def _written(der: bytes, form: SignatureForm) -> bytes:
    if form == "der":
        return der
    r, s = decode_dss_signature(der)
    return r.to_bytes(32) + s.to_bytes(32)


def _to_der(cipher: bytes, form: CipherForm) -> bytes:
    if form == "der":
        asn1.decode_der(_Ciphertext, cipher)
        return cipher
    if len(cipher) <= _POINT + _HASH or cipher[0] != 4:
        raise ValueError("not in the form of an SM2 ciphertext")
    point, rest = cipher[1:_POINT], cipher[_POINT:]
    digest, text = (rest[:_HASH], rest[_HASH:]) if form == "c1c3c2" else (rest[-_HASH:], rest[:-_HASH])
    x, y = int.from_bytes(point[:32]), int.from_bytes(point[32:])
    return asn1.encode_der(_Ciphertext(x=x, y=y, digest=digest, text=text))


def _from_der(der: bytes, form: CipherForm) -> bytes:
    if form == "der":
        return der
    parts = asn1.decode_der(_Ciphertext, der)
    point = b"\x04" + parts.x.to_bytes(32) + parts.y.to_bytes(32)
    tail = parts.digest + parts.text if form == "c1c3c2" else parts.text + parts.digest
    return point + tail


# --- keys --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sm2PublicKey:
    """A point on the curve, x‖y in 64 bytes. Raises ValueError for one that is not on it."""

    point: bytes

    def __post_init__(self) -> None:
        try:
            gmssl_pyx.normalize_sm2_public_key(self.point)
        except gmssl_pyx.InvalidValueError:
            raise ValueError("not a point of the SM2 curve") from None
        if len(self.point) != 64:
            raise ValueError("a point is x and y in 64 bytes")

    def verify(self, message: bytes, signature: bytes, form: SignatureForm, signer_id: bytes = DEFAULT_ID) -> bool:
        """Say whether the holder of this key signed the message under this id. A malformed signature is a no."""
        try:
            r, s = signature_parts(signature, form)
        except ValueError:
            return False
        return bool(gmssl_pyx.sm2_verify(self.point, message, encode_dss_signature(r, s), signer_id))

    def encrypt(self, plain: bytes, form: CipherForm) -> bytes:
        """Encrypt 1 to 255 bytes. Raises ValueError for another length."""
        if not 0 < len(plain) <= MAX_PLAIN:
            raise ValueError(f"SM2 encrypts 1 to {MAX_PLAIN} bytes here")
        return _from_der(gmssl_pyx.sm2_encrypt(self.point, plain), form)


@dataclass(frozen=True, slots=True)
class Sm2PrivateKey:
    """A secret number d, 1 ≤ d ≤ n-2, in 32 bytes, and its public key. Raises ValueError for another number."""

    secret: bytes = field(repr=False)
    public: Sm2PublicKey = field(init=False)

    def __post_init__(self) -> None:
        number = int.from_bytes(self.secret)
        if len(self.secret) != 32 or not 1 <= number <= N - 2:
            raise ValueError("not an SM2 private key")
        x, y = _times_base(number)
        object.__setattr__(self, "public", Sm2PublicKey(x.to_bytes(32) + y.to_bytes(32)))

    def sign(self, message: bytes, form: SignatureForm, signer_id: bytes = DEFAULT_ID) -> bytes:
        """Return the signature over e = SM3(Z ‖ message), Z being the digest of id, curve and public key."""
        der = gmssl_pyx.sm2_sign(self.secret, self.public.point, message, signer_id)
        return _written(der, form)

    def decrypt(self, cipher: bytes, form: CipherForm) -> bytes:
        """Return the plain text. Raises ValueError for whatever this key does not open."""
        der = _to_der(cipher, form)
        try:
            return bytes(gmssl_pyx.sm2_decrypt(self.secret, der))
        except gmssl_pyx.GmsslInnerError:
            raise ValueError("does not decrypt under this SM2 key") from None


def generate() -> Sm2PrivateKey:
    """Return a new key from the system's randomness."""
    _, secret = gmssl_pyx.sm2_key_generate()
    return Sm2PrivateKey(secret)


def _times_base(number: int) -> Point:
    """Return number · G. Only while a key is read: its time depends on the number, and the binding cannot do it."""
    result: Point | None = None
    for bit in f"{number:b}":
        result = result and _sum(result, result)
        if bit == "1":
            result = _sum(result, G) if result else G
    if result is None:
        raise ValueError("not an SM2 private key")
    return result


def _sum(one: Point, other: Point) -> Point:
    """Add two points of which the sum is not the point at infinity."""
    (x1, y1), (x2, y2) = one, other
    above, below = (3 * x1 * x1 + A, 2 * y1) if one == other else (y2 - y1, x2 - x1)
    slope = above * pow(below, -1, P) % P
    x3 = (slope * slope - x1 - x2) % P
    return x3, (slope * (x1 - x3) - y1) % P
