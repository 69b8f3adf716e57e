"""Proof of possession at the application layer: DPoP (RFC 9449).

Owns: what one proof must say and be signed with, the nonces that this server hands out, and the key under which a
proof is remembered. Leaves to the caller, because only the store can promise it, that a proof serves once:
`spend(tx, JTI_SCOPE, proof.jti_key, proof.expires_at)` in the transaction that the request does its work in. Leaves to
the endpoints the headers of their answers (`DPoP-Nonce`, `WWW-Authenticate`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from yarl import URL

from gateway.crypto.at_rest import References
from gateway.crypto.jose import UnreadableToken, UnverifiedToken, read_header, verified_claims
from gateway.crypto.public_keys import UnusableKey, read_public_jwk
from gateway.errors import NotAuthenticated

ALGORITHMS = ("ES256", "PS256", "EdDSA", "Ed25519")
"""`dpop_signing_alg_values_supported`. FAPI 2 Security Profile §5.4; RFC 9864 gave EdDSA on Ed25519 its own name."""
TYPE = "dpop+jwt"
JTI_SCOPE = "dpop"
"""Scope of the nonces that remember proofs."""

PAST = timedelta(seconds=60)
FUTURE = timedelta(seconds=5)
NONCE_WINDOW = timedelta(minutes=3)
"""A nonce is accepted for one to two of these."""
LONGEST_ID = 256
"""Characters of a `jti`. A UUID has 36."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_URL = re.compile(r"[\x21-\x7e]{1,2048}")


class DpopRefused(NotAuthenticated):
    """The proof does not prove possession for this request. `error` is the code of RFC 9449 §12.2 (OAuth)."""

    code: ClassVar[str] = "auth.invalid_dpop_proof"
    title: ClassVar[str] = "The DPoP proof is not accepted"
    error: ClassVar[str] = "invalid_dpop_proof"


class DpopNonceNeeded(DpopRefused):
    """The proof is good but holds no nonce of ours, or an old one: answer with a fresh one (RFC 9449 §8)."""

    code: ClassVar[str] = "auth.use_dpop_nonce"
    title: ClassVar[str] = "The DPoP proof needs a fresh nonce"
    error: ClassVar[str] = "use_dpop_nonce"


@dataclass(frozen=True, slots=True)
class Proof:
    """An accepted proof. `jkt` names the key (RFC 7638), as in `cnf.jkt` of the tokens that are bound to it.

    `jti_key` is what to remember so that the proof serves once; until `expires_at` it could be accepted.
    """

    jkt: str
    jti_key: str
    expires_at: datetime


class DpopNonces:
    """Nonces that need no store: an HMAC over a window of time, with a key that all replicas derive alike."""

    def __init__(self, references: References) -> None:
        self._key = references.derived_key("dpop nonce")

    def current(self, now: datetime) -> str:
        """Return the nonce to hand out now: 22 characters, URL-safe."""
        return self._of(_window(now))

    def accepts(self, nonce: object, now: datetime) -> bool:
        """Say whether this is the nonce of the current window or of the one before."""
        if not isinstance(nonce, str) or not nonce.isascii():
            return False
        window = _window(now)
        return any(hmac.compare_digest(nonce, self._of(near)) for near in (window, window - 1))

    def _of(self, window: int) -> str:
        return _base64url(hmac.digest(self._key, str(window).encode(), "sha256")[:16])


def check_proof(
    proof: str, *, method: str, url: str, now: datetime, nonces: DpopNonces, access_token: str | None
) -> Proof:
    """Check the one proof of a request (RFC 9449 §4.3), all but that it is new.

    `url` is the endpoint's address as this gateway publishes it (public_url and path), never one that is put together
    from the request's own headers. `access_token` is the token that came with the proof, None at the token endpoint.
    Raises DpopRefused, or DpopNonceNeeded when nothing is wrong but the nonce.
    """
    jkt, claims = _verified(proof)
    if claims.get("htm") != method:
        raise DpopRefused("The DPoP proof is for another method: htm must be the method of this request.")
    if not _same_address(claims.get("htu"), url):
        raise DpopRefused("The DPoP proof is for another address: htu must be the address of this request.")
    issued = _issued(claims, now)
    jti = _jti(claims)
    if access_token is not None:
        _check_hash(claims, access_token)
    if not nonces.accepts(claims.get("nonce"), now):
        raise DpopNonceNeeded("The DPoP proof needs the nonce from the header DPoP-Nonce.")
    jti_key = hashlib.sha256(f"{jkt}\x1f{jti}".encode("utf-8", "surrogatepass")).hexdigest()
    return Proof(jkt, jti_key, issued + PAST)


def _verified(proof: str) -> tuple[str, Mapping[str, Any]]:
    """Return the thumbprint of the key in the header, and the claims that it signed."""
    if not _COMPACT.fullmatch(proof):
        raise DpopRefused("There must be one DPoP proof, and it must be a compact JWT.")
    try:
        header = read_header(proof)
        key = read_public_jwk(header.get("jwk"))
        claims = verified_claims(proof, key, algorithms=ALGORITHMS, types=[TYPE])
    except UnusableKey as error:
        raise DpopRefused(f"The key of the DPoP proof is not accepted: {error}.") from error
    except (UnreadableToken, UnverifiedToken) as error:
        raise DpopRefused(f"The DPoP proof is not accepted: {error}.") from error
    if "crit" in header:  # no extension is understood here (RFC 7515 §4.1.11)
        raise DpopRefused("The header of the DPoP proof demands an extension.")
    return key.thumbprint(), claims


def _same_address(stated: object, url: str) -> bool:
    address = _address(stated)
    return address is not None and address == _address(url)


def _address(text: object) -> tuple[str, str, int, str] | None:
    """Return an address without query and fragment, normalised by syntax and scheme (RFC 3986 §6.2.2, §6.2.3).

    yarl does it, which is also what reads the path that a request is routed by: what it holds equal is one resource
    here. None for what is no such address, or names a user in it.
    """
    if not isinstance(text, str) or not _URL.fullmatch(text):
        return None
    try:
        address = URL(text)
        host, port = address.raw_host, address.port
    except ValueError:
        return None
    if not host or port is None or "@" in address.raw_authority:
        return None
    return address.scheme, host, port, address.raw_path


def _issued(claims: Mapping[str, Any], now: datetime) -> datetime:
    value = claims.get("iat")
    try:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DpopRefused("The DPoP proof needs iat, a number of seconds.")
        issued = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise DpopRefused("The DPoP proof needs iat, a number of seconds.") from error
    if not now - PAST <= issued <= now + FUTURE:
        raise DpopRefused("The DPoP proof was not made just now: compare the clocks.")
    return issued


def _jti(claims: Mapping[str, Any]) -> str:
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= LONGEST_ID:
        raise DpopRefused(f"The DPoP proof needs a jti of 1 to {LONGEST_ID} characters.")
    return jti


def _check_hash(claims: Mapping[str, Any], access_token: str) -> None:
    expected = _base64url(hashlib.sha256(access_token.encode("utf-8", "surrogatepass")).digest())
    stated = claims.get("ath")
    if not isinstance(stated, str) or not stated.isascii() or not hmac.compare_digest(stated, expected):
        raise DpopRefused("The DPoP proof is for another access token: ath must be its SHA-256.")


def _window(now: datetime) -> int:
    return int(now.timestamp() // NONCE_WINDOW.total_seconds())


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
