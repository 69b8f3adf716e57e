"""An identity provider by pysaml2, as a program: one JSON object in, one out. Run by an interpreter that has pysaml2.

Owns: nothing of ours. pysaml2 verifies our request and our metadata and writes the response; it signs by the program
xmlsec1. It stands apart because pysaml2 cannot be installed beside the product (it wants an xmlschema below 3).
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.config import IdPConfig
from saml2.saml import NAME_FORMAT_BASIC, NAMEID_FORMAT_PERSISTENT, NameID
from saml2.samlp import response_from_string
from saml2.server import Server
from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256


def server(given: dict[str, Any]) -> Server:
    """Return the identity provider."""
    origin = given["origin"]
    config = {
        "entityid": f"{origin}/saml/metadata",
        "key_file": given["key"],
        "cert_file": given["certificate"],
        "metadata": {"local": [given["metadata"]]},
        "service": {
            "idp": {
                "endpoints": {
                    "single_sign_on_service": [(f"{origin}/saml/sso", BINDING_HTTP_REDIRECT)],
                    "single_logout_service": [(f"{origin}/saml/slo", BINDING_HTTP_REDIRECT)],
                },
                "want_authn_requests_signed": True,
                "name_id_format": [NAMEID_FORMAT_PERSISTENT],
                "policy": {"default": {"lifetime": {"minutes": 5}, "name_form": NAME_FORMAT_BASIC}},
            }
        },
    }
    return Server(config=IdPConfig().load(config))


def sign_on(idp: Server, given: dict[str, Any]) -> dict[str, Any]:
    """Verify the request in an address and return the response to it."""
    query = parameters(given)
    message = idp.parse_authn_request(query.pop("SAMLRequest"), BINDING_HTTP_REDIRECT, **query).message
    classes = message.requested_authn_context
    where = idp.response_args(message, bindings=[BINDING_HTTP_POST])
    response = idp.create_authn_response(
        given["attributes"],
        userid=given["user"],
        authn={"class_ref": given["class"], "authn_auth": idp.config.entityid},
        sign_assertion=given.get("sign_assertion", True),
        sign_response=given["sign_response"],
        sign_alg=SIG_RSA_SHA256,
        digest_alg=DIGEST_SHA256,
        encrypt_assertion=False,
        **{name: where[name] for name in ("in_response_to", "destination", "sp_entity_id", "name_id_policy")},
    )
    return {
        "fresh": message.force_authn,
        "classes": [each.text for each in classes.authn_context_class_ref] if classes else [],
        "issuer": message.issuer.text,
        "response": str(response),
        "destination": where["destination"],
        "name_id": response_from_string(str(response)).assertion[0].subject.name_id.text,
    }


def read_logout(idp: Server, given: dict[str, Any]) -> dict[str, Any]:
    """Verify the logout request in an address and return whom it names."""
    query = parameters(given)
    message = idp.parse_logout_request(query.pop("SAMLRequest"), BINDING_HTTP_REDIRECT, **query).message
    return {"name_id": message.name_id.text, "sessions": [each.text for each in message.session_index]}


def logout(idp: Server, given: dict[str, Any]) -> dict[str, Any]:
    """Return a signed logout request."""
    name = NameID(
        format=NAMEID_FORMAT_PERSISTENT,
        name_qualifier=idp.config.entityid,
        sp_name_qualifier=given["us"],
        text=given["name_id"],
    )
    _, request = idp.create_logout_request(
        given["address"],
        given["us"],
        name_id=name,
        session_indexes=[given["session"]],
        sign=True,
        sign_alg=SIG_RSA_SHA256,
        digest_alg=DIGEST_SHA256,
    )
    return {"request": str(request)}


def parameters(given: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of a redirect, under the names that pysaml2 gives them."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(given["url"]).query).items()}
    names = {"RelayState": "relay_state", "SigAlg": "sigalg", "Signature": "signature"}
    return {names.get(name, name): value for name, value in query.items()}


TASKS = {"sign-on": sign_on, "read-logout": read_logout, "logout": logout}

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump(TASKS[asked["task"]](server(asked), asked), sys.stdout)
