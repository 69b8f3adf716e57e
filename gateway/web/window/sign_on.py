"""The window as a public client of our own OpenID Provider: code flow with PKCE (RFC 7636, OpenID Connect Core §3.1).

Owns: the authorization request, and every check of what comes back: `state`, `iss` (RFC 9207), the ID token, and how
sure the sign-on is. Leaves to `gateway.identity`: the provider. Leaves to `sessions`: what is remembered in between.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.errors import JoseError

from gateway.domain.identity import Assurance, SignedOnPerson
from gateway.errors import NotPermitted, SignOnFailed
from gateway.web.window.services import WindowServices

CLIENT_ID = "pearl-window"
LEAST = Assurance.A2
"""How sure a clerk's sign-on must be: a clerk vouches for the identity of others."""


def remember(next_page: str) -> dict[str, str]:
    """Return what one sign-on must remember until the browser is back. `nonce` and `verifier` never leave with it."""
    return {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")} | {"next": next_page}


def authorization_url(issuer: str, memory: Mapping[str, str], language: str) -> str:
    """Return the address to send the browser to. `prompt=login`: a counter is shared, so each clerk signs on anew.

    The essential `acr` (OpenID Connect Core §5.5.1.1) keeps regions out that cannot be sure enough of anybody.
    """
    acr = {"essential": True, "values": [level.acr for level in Assurance if level >= LEAST]}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(memory["verifier"].encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": redirect_uri(issuer),
        "scope": "openid profile",
        "state": memory["state"],
        "nonce": memory["nonce"],
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "prompt": "login",
        "claims": json.dumps({"id_token": {"acr": acr}}),
        "ui_locales": language,
    }
    return f"{issuer}/oauth2/authorize?{urlencode(query)}"


def redirect_uri(issuer: str) -> str:
    """Return the one address that the provider may send the browser back to."""
    return f"{issuer}/window/callback"


async def person_of(services: WindowServices, query: Mapping[str, str], memory: Mapping[str, str]) -> SignedOnPerson:
    """Check what came back, redeem the code and return the person. Raises SignOnFailed or NotPermitted."""
    code = _code(services.issuer, query, memory)
    answer = await services.redeem(
        {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri(services.issuer),
            "client_id": CLIENT_ID,
            "code_verifier": memory["verifier"],
        }
    )
    _check_id_token(services, str(answer.get("id_token", "")), memory["nonce"])
    person = await services.who_signed_on(str(answer.get("access_token", "")))
    if person.assurance < LEAST:
        raise _not_sure_enough()
    return person


def _code(issuer: str, query: Mapping[str, str], memory: Mapping[str, str]) -> str:
    if not hmac.compare_digest(query.get("state", "").encode(), memory["state"].encode()):
        raise SignOnFailed("The answer does not belong to the sign-on that this browser began.", code="signon.state")
    if query.get("iss") != issuer:
        raise SignOnFailed("The answer does not come from this gateway.", code="signon.issuer")
    if query.get("error") == "unmet_authentication_requirements":
        raise _not_sure_enough()
    if "error" in query:
        raise SignOnFailed("The sign-on was ended before it was complete.", code="signon.refused")
    if not query.get("code"):
        raise SignOnFailed("The answer holds no code.", code="signon.code")
    return query["code"]


def _not_sure_enough() -> NotPermitted:
    return NotPermitted(f"Clerks sign on by a method of level {LEAST.name} or better.", code="window.weak_sign_on")


def _check_id_token(services: WindowServices, token: str, nonce: str) -> None:
    """Check signature and claims (OpenID Connect Core §3.1.3.7). Only ES256, only our own keys."""

    def must(value: str) -> jwt.ClaimsOption:
        return {"essential": True, "value": value}

    now = int(services.clock().timestamp())
    rules = jwt.JWTClaimsRegistry(
        now=now, iss=must(services.issuer), aud=must(CLIENT_ID), nonce=must(nonce), exp={"essential": True}
    )
    try:
        claims: Mapping[str, Any] = jwt.decode(token, services.jwks(), algorithms=["ES256"]).claims
        rules.validate(dict(claims))
    except (JoseError, ValueError) as error:
        raise SignOnFailed(
            "The gateway's own ID token does not verify.", code="signon.id_token", detail=type(error).__name__
        ) from None
