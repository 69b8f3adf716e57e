"""A region's OpenID Provider by pyop (the library of SATOSA), as a program. Run by an interpreter that has pyop.

Owns: the page on which somebody signs on, and the person. pyop judges our requests, our secret and our PKCE verifier,
and signs with RS256. It knows no sessions, so that it neither takes part in a logout nor names one.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs

from Cryptodome.PublicKey import RSA
from jwkest.jwk import RSAKey
from pyop.authz_state import AuthorizationState
from pyop.provider import Provider
from pyop.subject_identifier import HashBasedSubjectIdentifierFactory
from pyop.userinfo import Userinfo

from tests.interop.serving import Asked, Told, as_json, form, listen, obey, to

provider: Provider
people: dict[str, Any] = {}
proofs: dict[str, dict[str, Any]] = {}
"""How and when each of them signed on last."""


def page(asked: Asked) -> Told:
    """Answer whoever comes: browsers at `/authorize`, the gateway elsewhere."""
    match asked.method, asked.path:
        case "GET", "/.well-known/openid-configuration":
            return as_json(provider.provider_configuration.to_dict())
        case "GET", "/jwks":
            return as_json(provider.jwks)
        case "GET", "/authorize":
            provider.parse_authentication_request(asked.query)
            return form("/authorize", account="", password="", method="", query=asked.query)
        case "POST", "/authorize":
            return signed_on({name: values[0] for name, values in parse_qs(asked.body).items()})
        case "POST", "/token":
            headers = {"Authorization": asked.authorization}
            return as_json(provider.handle_token_request(asked.body, headers, lambda user, _: proofs[user]).to_json())
        case "GET", "/userinfo":
            told = provider.handle_userinfo_request(asked.query, {"Authorization": asked.authorization})
            return as_json(told.to_json())
    return Told("", 404)


def signed_on(filled: dict[str, str]) -> Told:
    """Send the person back with a code."""
    if people[filled["account"]]["password"] != filled["password"]:
        raise ValueError("wrong password")
    request = provider.parse_authentication_request(filled["query"])
    proofs[filled["account"]] = {"acr": filled["method"], "auth_time": int(time.time()), "amr": ["face"]}
    answer = provider.authorize(request, filled["account"])
    return to(answer.request(request["redirect_uri"]))


def open_provider(client_id: str, client: dict[str, Any], accounts: dict[str, Any]) -> dict[str, str]:
    """Listen, and return the issuer."""
    global provider
    issuer = listen(page)
    key = RSAKey(key=RSA.generate(2048), kid="first", alg="RS256", use="sig")
    people.update(accounts)
    metadata = {
        "issuer": "https://only-while-it-is-made.test",
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "userinfo_endpoint": f"{issuer}/userinfo",
        "jwks_uri": f"{issuer}/jwks",
        "scopes_supported": ["openid", "profile", "phone", "email"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }
    claims = {name: account["claims"] for name, account in accounts.items()}
    state = AuthorizationState(HashBasedSubjectIdentifierFactory("salt"))
    scopes = {"profile": ["name", "gender", "birthdate", "userType", "idType", "idNumber"]}
    provider = Provider(key, metadata, state, {client_id: client}, Userinfo(claims), extra_scopes=scopes)
    provider.configuration_information["issuer"] = issuer  # it insists on https, which loopback does not need
    return {"issuer": issuer}


if __name__ == "__main__":
    obey({"open": open_provider})
