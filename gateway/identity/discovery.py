"""The provider's metadata: what is really offered, and nothing else (OpenID Connect Discovery 1.0, RFC 8414)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gateway.domain.identity import Assurance
from gateway.identity.assertion import ALGORITHMS
from gateway.identity.persons import CLAIM_NAMES, IDENTITY_SCOPES
from gateway.identity.provider import CLIENT_METHODS

ENDPOINTS = {
    "authorization_endpoint": "/oauth2/authorize",
    "token_endpoint": "/oauth2/token",
    "userinfo_endpoint": "/oauth2/userinfo",
    "jwks_uri": "/oauth2/jwks",
}
"""Metadata name → path. The routes are made from this table too, so the two cannot differ."""

_ALWAYS = ("iss", "sub", "aud", "azp", "exp", "iat", "nonce", "auth_time", "acr", "amr", "sid", "at_hash")


def metadata(issuer: str, algorithm: str, languages: Collection[str], reachable: Assurance) -> dict[str, Any]:
    """Return the discovery document. `reachable` is the best level that a sign-on can give here."""
    return {
        "issuer": issuer,
        **{name: issuer + path for name, path in ENDPOINTS.items()},
        "scopes_supported": sorted(IDENTITY_SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": [algorithm],
        "token_endpoint_auth_methods_supported": list(CLIENT_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "code_challenge_methods_supported": ["S256"],
        "acr_values_supported": [level.acr for level in Assurance if level <= reachable],
        "prompt_values_supported": ["none", "login", "select_account"],
        "claims_supported": [*_ALWAYS, *CLAIM_NAMES],
        "claim_types_supported": ["normal"],
        "ui_locales_supported": list(languages),
        "claims_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
    }
