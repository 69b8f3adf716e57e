"""The provider's metadata: what is really offered, and nothing else (OpenID Connect Discovery 1.0, RFC 8414)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from gateway.domain.identity import Assurance
from gateway.identity.assertion import ALGORITHMS
from gateway.identity.clients import GRANT_TYPES
from gateway.identity.dpop import ALGORITHMS as DPOP_ALGORITHMS
from gateway.identity.persons import CLAIM_NAMES, IDENTITY_SCOPES
from gateway.identity.requests import PROMPTS

ENDPOINTS = {
    "authorization_endpoint": "/oauth2/authorize",
    "token_endpoint": "/oauth2/token",
    "userinfo_endpoint": "/oauth2/userinfo",
    "jwks_uri": "/oauth2/jwks",
    "end_session_endpoint": "/oauth2/logout",
    "pushed_authorization_request_endpoint": "/oauth2/par",
    "introspection_endpoint": "/oauth2/introspect",
    "revocation_endpoint": "/oauth2/revoke",
}
"""Metadata name → path. The routes are made from this table too, so the two cannot differ."""

PROVING = ("token", "introspection", "revocation")
"""Endpoints whose metadata says how a client proves itself (RFC 8414 §2)."""

_ALWAYS = ("iss", "sub", "aud", "azp", "exp", "iat", "nonce", "auth_time", "acr", "amr", "sid", "at_hash")


def metadata(
    issuer: str, algorithms: Sequence[str], languages: Collection[str], reachable: Assurance, methods: Sequence[str]
) -> dict[str, Any]:
    """Return the discovery document.

    `reachable` is the best level that a sign-on can give here, `methods` are those by which a client can prove itself.
    """
    return {
        "issuer": issuer,
        **{name: issuer + path for name, path in ENDPOINTS.items()},
        "scopes_supported": sorted(IDENTITY_SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": list(algorithms),
        **{f"{endpoint}_endpoint_auth_methods_supported": _methods_at(endpoint, methods) for endpoint in PROVING},
        **{f"{endpoint}_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS) for endpoint in PROVING},
        "dpop_signing_alg_values_supported": list(DPOP_ALGORITHMS),
        "require_pushed_authorization_requests": False,
        "tls_client_certificate_bound_access_tokens": "self_signed_tls_client_auth" in methods,
        "code_challenge_methods_supported": ["S256"],
        "acr_values_supported": [level.acr for level in Assurance if level <= reachable],
        "prompt_values_supported": sorted(PROMPTS),
        "claims_supported": [*_ALWAYS, *CLAIM_NAMES],
        "claim_types_supported": ["normal"],
        "ui_locales_supported": list(languages),
        "claims_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
    }


def _methods_at(endpoint: str, methods: Sequence[str]) -> list[str]:
    """Return how a client proves itself at an endpoint; a public client may not introspect (RFC 7662 §2.1)."""
    return [method for method in methods if endpoint != "introspection" or method != "none"]
