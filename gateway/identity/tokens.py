"""Access tokens: RFC 9068 JWTs that we sign and that only we accept.

Owns: what an access token says, and checking one by itself. Leaves to `resources` whether it was revoked and whether
the sign-on behind a person's token still stands, because those are questions to the store.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.crypto.jose import UnreadableToken, UnverifiedToken, verified_claims
from gateway.crypto.signing import Signer
from gateway.errors import NotAuthenticated
from gateway.identity.delegation import MANDATE_CLAIM
from gateway.ports import Clock

TYPE = "at+jwt"
"""RFC 9068 §2.1."""
_RENEW = "Ask /oauth2/token for a new one."


def new_token_id() -> str:
    """Return a random `jti`."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class SignOnContext:
    """What a person's token adds to a client's: the session as this client knows it, how sure, since when, how long.

    `grant_id` names the family that the token stands and falls with. `actor` is the `act` claim of RFC 8693 §4.1: who
    acts for the person whom `sub` names. `mandate` says by what authority an agent does.
    """

    sid: str
    acr: str
    authenticated_at: datetime
    not_after: datetime
    grant_id: str
    actor: Mapping[str, Any] | None = None
    mandate: Mapping[str, Any] | None = None

    def claims(self) -> dict[str, Any]:
        """Return the claims; what there is none of is left out."""
        said = {
            "sid": self.sid,
            "acr": self.acr,
            "auth_time": int(self.authenticated_at.timestamp()),
            "grant_id": self.grant_id,
            "act": self.actor,
            MANDATE_CLAIM: self.mandate,
        }
        return {name: value for name, value in said.items() if value is not None}


class AccessTokens:
    """Issues and checks access tokens for one audience: this gateway's own API."""

    def __init__(self, issuer: str, signer: Signer, clock: Clock, lifetime: timedelta) -> None:
        self._issuer = issuer
        self._audience = issuer + "/v1"
        self._signer = signer
        self._clock = clock
        self._lifetime = lifetime

    def issue(
        self,
        *,
        client_id: str,
        subject: str,
        scopes: Collection[str],
        token_id: str,
        person: SignOnContext | None = None,
        binding: Mapping[str, str] | None = None,
    ) -> str:
        """Return a signed token. `subject` is the client itself, or the pairwise id of a person (then `person`).

        `binding` is the `cnf` claim: the key or the certificate without which the token is worth nothing (RFC 7800).
        """
        now = self._clock()
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": subject,
            "aud": self._audience,
            "client_id": client_id,
            "iat": int(now.timestamp()),
            "exp": int(self.expiry(now, person).timestamp()),
            "jti": token_id,
            "scope": " ".join(sorted(scopes)),
        }
        if binding:
            claims["cnf"] = dict(binding)
        if person is not None:
            claims.update(person.claims())
        return self._signer.sign(claims, typ=TYPE)

    def expiry(self, now: datetime, person: SignOnContext | None) -> datetime:
        """Return when a token issued now ends: after its lifetime, or with the person's session if that is sooner."""
        end = now + self._lifetime
        return end if person is None else min(end, person.not_after)

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that we issued for our API and that has not expired.

        Raises NotAuthenticated with a text that says what is wrong and never repeats the token.
        """
        try:
            claims = verified_claims(token, self._signer.key_set(), algorithms=[self._signer.algorithm], types=[TYPE])
        except UnreadableToken as error:
            raise NotAuthenticated(f"The access token cannot be read: {error}. {_RENEW}") from error
        except UnverifiedToken as error:
            text = f"The access token was not issued by this gateway, or with a key that is retired. {_RENEW}"
            raise NotAuthenticated(text) from error
        self._check(claims)
        return claims

    def _check(self, claims: Mapping[str, Any]) -> None:
        if claims.get("iss") != self._issuer:
            raise NotAuthenticated(f"The access token was issued by someone else; the issuer here is {self._issuer}.")
        if claims.get("aud") != self._audience:
            raise NotAuthenticated(f"The access token is for another audience; here it is {self._audience}.")
        expires, issued = claims.get("exp"), claims.get("iat")
        if not isinstance(expires, int) or not isinstance(issued, int):
            raise NotAuthenticated(f"The access token has no term. {_RENEW}")
        if expires <= self._clock().timestamp():
            raise NotAuthenticated(f"The access token has expired. {_RENEW}")
