"""The tokens of a simulated OpenID Provider: honest ones, and each forgery that can be asked for.

Owns: ID tokens and logout tokens as the standards describe them, the provider's key set, and what a hostile provider
(or somebody who has got between) would send instead. Leaves to `openid` when a token is given to whom. Written from
the standards (OpenID Connect Core 1.0, Back-Channel Logout 1.0), never from the gateway's own client.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

Claims = dict[str, Any]

LIFE = 300
"""Seconds for which an ID token is good."""

ATTACKS: Mapping[str, str] = {
    "hostile_alg_none": "sends ID tokens without a signature",
    "hostile_shared_secret": "signs with HS256, the published keys being the secret (algorithm confusion)",
    "hostile_wrong_key": "signs with another key under the published key id",
    "hostile_own_key": "signs with a key of its own that travels in the token's header",
    "hostile_tampered": "changes the level in a token after signing it",
    "hostile_wrong_issuer": "sends ID tokens of another issuer",
    "hostile_wrong_audience": "sends ID tokens that were made for another client",
    "hostile_second_audience": "sends ID tokens for us and for another client, whose they are (azp)",
    "hostile_wrong_nonce": "sends ID tokens with the nonce of another sign-on",
    "hostile_no_nonce": "sends ID tokens without a nonce",
    "hostile_replayed_token": "sends the ID token of the sign-on before",
    "hostile_expired_token": "sends ID tokens that have expired",
    "hostile_old_token": "sends ID tokens of yesterday that are good for a year",
    "hostile_early_token": "sends ID tokens of tomorrow",
    "hostile_other_access_token": "sends ID tokens that were made with another access token (at_hash)",
    "hostile_level_downgrade": "signs people on by less than was asked for, and says so",
    "hostile_old_proof": "takes a proof of yesterday for one made now (auth_time)",
    "hostile_no_proof_time": "does not say when the proof was made (auth_time)",
    "hostile_logout_token": "sends a logout token for an ID token",
    "hostile_no_subject": "sends ID tokens that name nobody",
}
"""What a hostile provider can do to an ID token, with what happens then."""


@dataclass(slots=True)
class TokenPress:
    """Makes the provider's tokens. `lowest` is the level that a hostile provider downgrades to."""

    issuer: str
    client_id: str
    key: Key
    algorithm: str
    lowest: str
    before: dict[str, str] = field(default_factory=dict)
    """The ID token before the last, and the last: what a replay sends."""

    def key_set(self) -> dict[str, Any]:
        """Return the public keys (RFC 7517)."""
        public = self.key.as_dict(private=False, kid=self.key.thumbprint(), use="sig", alg=self.algorithm)
        return {"keys": [public]}

    def id_token(self, about: Claims, access_token: str, now: int, attack: str) -> str:
        """Return the ID token, or what an attacker sends for it. `about` are the claims of person and session."""
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": now,
            "exp": now + LIFE,
            "jti": secrets.token_urlsafe(16),
            "at_hash": half_hash(access_token),
            **about,
        }
        token = _FORGERS[attack](self, claims, now) if attack else self.signed(claims)
        replayed, self.before = self.before.get("last", token), {"last": token}
        return replayed if attack == "hostile_replayed_token" else token

    def logout_token(self, subject: str, session: str, now: int) -> str:
        """Return a logout token for one session."""
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_urlsafe(16),
            "sub": subject,
            "sid": session,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        }
        return self.signed(claims, "logout+jwt")

    def signed(self, claims: Claims, kind: str = "JWT", key: Key | None = None, **header: Any) -> str:
        """Return claims, signed by the provider or with another key."""
        protected = {"alg": self.algorithm, "kid": self.key.thumbprint(), "typ": kind, **header}
        return jwt.encode(protected, claims, key or self.key, algorithms=[self.algorithm])

    def another_key(self) -> Key:
        """Return a key of the same kind that is not the provider's."""
        return ECKey.generate_key("P-256") if isinstance(self.key, ECKey) else RSAKey.generate_key(2048)


def half_hash(text: str) -> str:
    """Return the left half of the SHA-256 (Core §3.1.3.6); all algorithms here are of that size."""
    return _base64url(hashlib.sha256(text.encode()).digest()[:16])


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# --- forgeries ---------------------------------------------------------------------------------------------------

Forger = Callable[[TokenPress, Claims, int], str]


def _saying(change: Callable[[TokenPress, Claims, int], Claims]) -> Forger:
    """Return a forger that signs rightly what should not be said; None takes a claim away."""

    def forge(press: TokenPress, claims: Claims, now: int) -> str:
        changed = {**claims, **change(press, claims, now)}
        return press.signed({name: value for name, value in changed.items() if value is not None})

    return forge


def _unsigned(_press: TokenPress, claims: Claims, _now: int) -> str:
    parts = [_base64url(json.dumps(part).encode()) for part in ({"alg": "none", "typ": "JWT"}, claims)]
    return f"{'.'.join(parts)}."


def _with_public_key_as_secret(press: TokenPress, claims: Claims, _now: int) -> str:
    secret = OctKey.import_key(json.dumps(press.key_set()))
    header = {"alg": "HS256", "kid": press.key.thumbprint(), "typ": "JWT"}
    return jws.serialize_compact(header, json.dumps(claims).encode(), secret, algorithms=["HS256"])


def _with_own_key(press: TokenPress, claims: Claims, _now: int) -> str:
    key = press.another_key()
    return press.signed(claims, key=key, kid=key.thumbprint(), jwk=key.as_dict(private=False))


def _tampered(press: TokenPress, claims: Claims, _now: int) -> str:
    header, _, signature = press.signed(claims).split(".")
    changed = _base64url(json.dumps({**claims, "acr": "changed", "sub": "somebody-else"}).encode())
    return f"{header}.{changed}.{signature}"


_DAY = 86_400
_FORGERS: Mapping[str, Forger] = {
    "hostile_alg_none": _unsigned,
    "hostile_shared_secret": _with_public_key_as_secret,
    "hostile_wrong_key": lambda press, claims, _: press.signed(claims, key=press.another_key()),
    "hostile_own_key": _with_own_key,
    "hostile_tampered": _tampered,
    "hostile_wrong_issuer": _saying(lambda *_: {"iss": "https://another-issuer.invalid"}),
    "hostile_wrong_audience": _saying(lambda *_: {"aud": "another-client"}),
    "hostile_second_audience": _saying(
        lambda press, *_: {"aud": [press.client_id, "another-client"], "azp": "another-client"}
    ),
    "hostile_wrong_nonce": _saying(lambda *_: {"nonce": secrets.token_urlsafe(32)}),
    "hostile_no_nonce": _saying(lambda *_: {"nonce": None}),
    "hostile_replayed_token": lambda press, claims, _: press.signed(
        claims
    ),  # the press puts the older one in its place
    "hostile_expired_token": _saying(lambda _p, _c, now: {"iat": now - 400, "exp": now - 100}),
    "hostile_old_token": _saying(lambda _p, _c, now: {"iat": now - _DAY, "exp": now + 365 * _DAY}),
    "hostile_early_token": _saying(lambda _p, _c, now: {"iat": now + _DAY, "nbf": now + _DAY, "exp": now + 2 * _DAY}),
    "hostile_other_access_token": _saying(lambda *_: {"at_hash": half_hash("another access token")}),
    "hostile_level_downgrade": _saying(lambda press, *_: {"acr": press.lowest}),
    "hostile_old_proof": _saying(lambda _p, _c, now: {"auth_time": now - _DAY}),
    "hostile_no_proof_time": _saying(lambda *_: {"auth_time": None}),
    "hostile_logout_token": lambda press, claims, now: press.logout_token(claims["sub"], claims["sid"], now),
    "hostile_no_subject": _saying(lambda *_: {"sub": None}),
}
