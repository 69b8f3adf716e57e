"""The gateway's own signing keys: ES256 for tokens, published as a JWK set.

Owns: key ids (RFC 7638 thumbprints) and choosing the current key. Leaves to `gateway.identity`: what is signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet


class Signer(Protocol):
    """Signs claims as a compact JWT. An HSM or signature server can stand behind it."""

    algorithm: str

    def sign(self, claims: Mapping[str, Any], *, typ: str) -> str:
        """Return a compact JWS with `typ` in its header (RFC 8725 §3.11)."""
        ...

    def public_jwks(self) -> dict[str, Any]:
        """Return the JWK set that verifies what was signed, old keys included."""
        ...

    def key_set(self) -> KeySet:
        """Return the public keys in joserfc's form, for our own verification."""
        ...


class Es256Signer:
    """Signs with the first key; the others are published so that tokens under way still verify."""

    algorithm = "ES256"

    def __init__(self, pems: Sequence[bytes]) -> None:
        keys = [ECKey.import_key(pem) for pem in pems]
        if not keys or any(key.curve_name != "P-256" for key in keys):
            raise ValueError("an ES256 signing key must be an EC key on P-256")
        for key in keys:
            key.ensure_kid()
        self._private = keys[0]
        self._public = KeySet([ECKey.import_key(key.as_dict(private=False)) for key in keys])

    def sign(self, claims: Mapping[str, Any], *, typ: str) -> str:
        """Return a compact JWS, ES256, with `kid` and `typ`."""
        header = {"alg": self.algorithm, "kid": self._private.kid, "typ": typ}
        return jwt.encode(header, dict(claims), self._private, algorithms=[self.algorithm])

    def public_jwks(self) -> dict[str, Any]:
        """Return the JWK set with `use` and `alg`, no private member."""
        keys = [{**key.as_dict(private=False), "use": "sig", "alg": self.algorithm} for key in self._public.keys]
        return {"keys": keys}

    def key_set(self) -> KeySet:
        """Return the public keys."""
        return self._public
