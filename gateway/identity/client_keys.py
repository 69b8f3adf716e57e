"""The public keys of a client: which are taken, when each ends, and the certificates that come with them.

Owns: every rule about one key and the key set that is in force at a moment. Leaves to `clients` which client must have
keys, and to `assertion` what they verify. A private key is refused by name and never repeated.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from gateway.config import Problems
from gateway.errors import FieldProblem, StartRefused
from gateway.identity.assertion import ALGORITHMS

Jwk = Mapping[str, Any]
PublicKey = ECKey | OKPKey | RSAKey
RSA_BITS = 2048
END = "exp"
"""Member of a JWK that says, in seconds since 1970, when it serves no more (as in OpenID Federation 1.0 §8.7)."""
_SECRET = ("d", "k", "p", "q", "dp", "dq", "qi", "oth")
_KINDS: Mapping[str, type[PublicKey]] = {"EC": ECKey, "OKP": OKPKey, "RSA": RSAKey}


def read_jwks(path: Path, place: str) -> Any:
    """Return the JSON of a file of keys. Raises StartRefused that names the place."""
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise refused(f"{place}.jwks_file", f"{path} cannot be read ({error.strerror})") from None
    except orjson.JSONDecodeError as error:
        raise refused(f"{place}.jwks_file", f"{path} is not JSON: {error}") from None


def public_jwks(data: Any, place: str, *, certificates: bool = False) -> list[dict[str, Any]]:
    """Return the keys of a JWK set, each checked and with a `kid` of its own (RFC 7517; RFC 7638 where it has none).

    With `certificates` every key must come with the certificate that holds it (`x5c`, RFC 8705 §2.2.2). Raises
    StartRefused with the problems of all keys.
    """
    listed = data.get("keys") if isinstance(data, Mapping) else data
    if not isinstance(listed, list) or not listed or not all(isinstance(key, dict) for key in listed):
        raise refused(f"{place}.jwks", "must be a JWK set: a table with a list `keys`, or the list itself")
    problems = Problems()
    taken: dict[str, dict[str, Any]] = {}
    for number, jwk in enumerate(listed, start=1):
        where = f"{place}.jwks.{number}"
        with problems.collect():
            key = _public_key(jwk, where)
            if certificates or "x5c" in jwk:
                _certified(key, jwk, where)
            kid = key.kid or key.thumbprint()
            if kid in taken:
                problems.add(where, "has the kid of an earlier key")
            taken[kid] = {**jwk, "kid": kid}
    problems.refuse()
    return list(taken.values())


def key_set(jwks: Sequence[Jwk], now: datetime) -> KeySet | None:
    """Return the keys that are in force now; None when there are none (left)."""
    live = [jwk for jwk in jwks if not ended(jwk, now)]
    return KeySet([_imported(jwk) for jwk in live]) if live else None


def ended(jwk: Jwk, now: datetime) -> bool:
    """Say whether a key serves no more."""
    return END in jwk and jwk[END] <= now.timestamp()


def next_end(jwks: Iterable[Jwk], now: datetime) -> datetime | None:
    """Return when the next of the keys that are in force ends; None when none has an end."""
    ends = [jwk[END] for jwk in jwks if END in jwk and not ended(jwk, now)]
    return datetime.fromtimestamp(min(ends), UTC) if ends else None


def _public_key(jwk: Jwk, place: str) -> PublicKey:
    """Import one public key that an allowed algorithm can use: P-256, Ed25519, or RSA of 2048 bits and more."""
    if any(name in jwk for name in _SECRET):
        raise refused(place, "holds a secret; register the public part only, and replace this key")
    kind = _KINDS.get(str(jwk.get("kty")))
    if kind is None:
        raise refused(place, "must be of kty EC, OKP or RSA")
    if kind is RSAKey and len(str(jwk.get("n", ""))) * 6 < RSA_BITS:
        raise refused(place, f"must have at least {RSA_BITS} bits")
    try:
        key = _imported(jwk)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise refused(place, f"is not a key that can be read ({type(error).__name__})") from None
    if isinstance(key, ECKey | OKPKey) and key.curve_name not in {"P-256", "Ed25519"}:
        raise refused(place, "must be on the curve P-256 (ES256) or Ed25519 (EdDSA)")
    if "alg" in jwk and jwk["alg"] not in ALGORITHMS:
        raise refused(place, f"is for another algorithm than {', '.join(ALGORITHMS)}")
    if END in jwk and not (isinstance(jwk[END], int) and 0 < jwk[END] < 1 << 40 and jwk[END] is not True):
        raise refused(place, f"has an {END} that is no time in seconds since 1970")
    return key


def _imported(jwk: Jwk) -> PublicKey:
    return _KINDS[jwk["kty"]].import_key({name: value for name, value in jwk.items() if name != END})


def _certified(key: PublicKey, jwk: Jwk, place: str) -> None:
    """Hold a key against the first certificate of its `x5c`: it must be the certificate's own key."""
    chain = jwk.get("x5c")
    if not isinstance(chain, list) or not chain:
        raise refused(place, "needs x5c: the certificate that the client shows")
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(str(chain[0]), validate=True))
        held = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, binascii.Error, TypeError) as error:
        raise refused(place, f"has an x5c that is no certificate ({type(error).__name__})") from None
    if held != key.as_der(private=False):
        raise refused(place, "is not the key of the certificate in its x5c")


def refused(field: str, reason: str) -> StartRefused:
    """Return the refusal of one field."""
    return StartRefused("client", problems=[FieldProblem(field, reason)])
