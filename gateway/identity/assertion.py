"""Client authentication by signed assertion: `private_key_jwt` (RFC 7523, OpenID Connect Core §9).

Owns: what an assertion must say here, which is stricter than what Authlib's class asks for: our issuer as the only
audience (rfc7523bis), five minutes of life, asymmetric algorithms of FAPI 2 only. Leaves to `records.use_assertion`
that an id serves once, because only the store can promise that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from authlib.oauth2.rfc6749 import InvalidClientError
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from joserfc.jwk import KeySet

from gateway.crypto.jose import (
    UnreadableToken,
    UnverifiedToken,
    instant,
    unverified,
    unverified_claims,
    verified_claims,
)
from gateway.identity.records import UsedAssertion

ALGORITHMS = ("ES256", "PS256", "EdDSA", "Ed25519")
"""FAPI 2 Security Profile §5.4. RFC 9864 gave EdDSA on Ed25519 its own name; both are understood."""
TYPES = ("", "jwt", "client-authentication+jwt")
LONGEST_LIFE = timedelta(minutes=5)
SKEW = timedelta(seconds=30)


class ClientAssertion(JWTBearerClientAssertion):  # type: ignore[misc] # Authlib ships no types
    """Authlib's method with our rules. Holds the accepted assertion until the store has made sure of its id."""

    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, issuer: str, now: datetime) -> None:
        super().__init__(leeway=SKEW.seconds)
        self._issuer = issuer
        self._now = now
        self.used: UsedAssertion | None = None

    def __call__(self, query_client: Any, request: Any) -> Any:
        """Return the client that the assertion proves, or None when there is no assertion."""
        client = super().__call__(query_client, request)
        named = request.payload.client_id
        if client is not None and named is not None and named != client.get_client_id():
            raise _refused("client_id and the assertion name different clients.")
        return client

    def extract_assertion(self, assertion: str) -> Any:
        """Return header and claims, unverified. Authlib's own reading trips over hostile JSON."""
        try:
            return unverified(assertion)
        except UnreadableToken as error:
            raise _refused(f"The client assertion cannot be read: {error}.") from error

    def resolve_client_public_key(self, client: Any) -> KeySet:
        """Return the registered keys."""
        if client.client.keys is None:
            raise _refused("This client is registered as a public client and has no keys.")
        keys: KeySet = client.client.keys
        return keys

    def process_assertion_claims(self, assertion: str, resolve_key: KeySet) -> Any:
        """Verify the signature with allowed algorithms only, then the claims."""
        try:
            claims = verified_claims(assertion, resolve_key, algorithms=ALGORITHMS, types=TYPES)
        except (UnreadableToken, UnverifiedToken) as error:
            raise _refused(f"The client assertion is not accepted: {error}.") from error
        self.verify_claims(claims)
        return claims

    def verify_claims(self, claims: Mapping[str, Any]) -> None:
        """Check who speaks, to whom, for how long, and that there is an id."""
        if claims.get("iss") != claims.get("sub"):
            raise _refused("iss and sub must both be the client_id.")
        if claims.get("aud") != self._issuer:
            raise _refused(f"aud must be the one string {self._issuer}.")
        expires = instant(claims, "exp")
        if expires is None or expires <= self._now - SKEW:
            raise _refused("The client assertion has expired, or has no exp.")
        if expires > self._now + LONGEST_LIFE:
            raise _refused("exp must be at most five minutes ahead.")
        for name in ("iat", "nbf"):
            begins = instant(claims, name)
            if name in claims and (begins is None or begins > self._now + SKEW):
                raise _refused(f"{name} lies in the future.")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not jti:
            raise _refused("The client assertion needs a jti.")
        self.used = UsedAssertion(_fingerprint(str(claims["sub"]), jti), expires + SKEW)


def _fingerprint(client_id: str, jti: str) -> str:
    """Return a key of fixed size, whatever a client puts in its jti."""
    return hashlib.sha256(f"{client_id}\x1f{jti}".encode()).hexdigest()


def _refused(text: str) -> InvalidClientError:
    return InvalidClientError(text, status_code=401)


def unverified_subject(assertion: str) -> str:
    """Return the client that an assertion names, so that it can be looked up; empty when it cannot be read."""
    try:
        subject = unverified_claims(assertion).get("sub", "")
    except UnreadableToken:
        return ""
    return subject if isinstance(subject, str) else ""
