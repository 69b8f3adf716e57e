"""Public keys that somebody outside presents: which of them an allowed algorithm can use.

Owns: the rules for a public JWK (RFC 7517) whose sender nobody vouches for: P-256, Ed25519 or RSA of 2048 to 4096 bits,
no private member, written in the one canonical way, so that a key has one thumbprint. Leaves to the callers whose key
it is.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

PublicKey = ECKey | OKPKey | RSAKey

RSA_BITS = range(2048, 4096 + 1)
"""FAPI 2 Security Profile §5.4 sets the least; the most keeps a stranger's key from costing us milliseconds."""
RSA_EXPONENTS = range(65537, 2**32)
"""FIPS 186-5 §5.4 sets the least; the most is of the same reason."""

_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_CURVES: Mapping[str, str] = {"EC": "P-256", "OKP": "Ed25519"}
_MEMBERS: Mapping[str, tuple[str, ...]] = {"EC": ("x", "y"), "OKP": ("x",), "RSA": ("n", "e")}
_KINDS: Mapping[str, type[PublicKey]] = {"EC": ECKey, "OKP": OKPKey, "RSA": RSAKey}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_COORDINATE = 32
"""Bytes of a coordinate on P-256 (RFC 7518 §6.2.1.2) and of an Ed25519 key."""


class UnusableKey(Exception):
    """The JWK is no public key that an allowed algorithm can use. The text never repeats it."""


def read_public_jwk(jwk: object) -> PublicKey:
    """Return the key that a JWK holds. Raises UnusableKey."""
    if not isinstance(jwk, Mapping):
        raise UnusableKey("it is not a JWK")
    if _PRIVATE & jwk.keys():
        raise UnusableKey("it holds a secret")
    kind = jwk.get("kty")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UnusableKey("its kty must be EC, OKP or RSA")
    _check_members(kind, jwk)
    bare = {"kty": kind, **{name: jwk[name] for name in ("crv", *_MEMBERS[kind]) if name in jwk}}
    try:
        return _KINDS[kind].import_key(bare)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise UnusableKey("it cannot be read") from error


def _check_members(kind: str, jwk: Mapping[str, Any]) -> None:
    values = [_octets(jwk.get(name)) for name in _MEMBERS[kind]]
    if kind == "RSA":
        _check_rsa(*(int.from_bytes(value) for value in values), canonical=all(value[0] for value in values))
    elif jwk.get("crv") != _CURVES[kind]:
        raise UnusableKey(f"its curve must be {_CURVES[kind]}")
    elif any(len(value) != _COORDINATE for value in values):
        raise UnusableKey("it cannot be read")


def _check_rsa(modulus: int, exponent: int, *, canonical: bool) -> None:
    if modulus.bit_length() not in RSA_BITS:
        raise UnusableKey(f"an RSA key must have {RSA_BITS[0]} to {RSA_BITS[-1]} bits")
    if exponent not in RSA_EXPONENTS or exponent % 2 == 0 or not canonical:
        raise UnusableKey("its exponent must be an odd number of 65537 or more, and no number may begin with zeros")


def _octets(value: object) -> bytes:
    """Decode one member. What does not encode back to itself is refused: it would be a second name for the key."""
    if not isinstance(value, str) or not _BASE64URL.fullmatch(value):
        raise UnusableKey("it cannot be read")
    try:
        octets = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error as error:
        raise UnusableKey("it cannot be read") from error
    if base64.urlsafe_b64encode(octets).rstrip(b"=").decode() != value:
        raise UnusableKey("it is not written in the canonical way")
    return octets
