"""A region's SAML identity provider by pysaml2, as a program with a page. Run by an interpreter that has pysaml2.

Owns: the page on which somebody signs on, and the person. pysaml2 verifies our metadata, our requests and our logout,
and writes the answers, which the program xmlsec1 signs.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs

from saml2 import BINDING_HTTP_REDIRECT
from saml2.xmldsig import SIG_RSA_SHA256

from tests.interop.pysaml2_once import logout as logout_request
from tests.interop.pysaml2_once import parameters, server, sign_on
from tests.interop.serving import Asked, Told, form, listen, obey, to

given: dict[str, Any] = {}
"""Its address, key and certificate, our metadata, and the people."""
idps: list[Any] = []
"""The provider, once it knows our metadata."""


def page(asked: Asked) -> Told:
    """Answer a browser."""
    match asked.method, asked.path:
        case "GET", "/saml/sso":
            return form("/saml/sso", account="", password="", method="", query=asked.query)
        case "POST", "/saml/sso":
            return signed_on({name: values[0] for name, values in parse_qs(asked.body).items()})
        case "GET", "/saml/slo":
            return signed_out(f"{given['origin']}/saml/slo?{asked.query}")
    return Told("", 404)


def signed_on(filled: dict[str, str]) -> Told:
    """Return the page that posts the response."""
    person = given["people"][filled["account"]]
    if person["password"] != filled["password"]:
        raise ValueError("wrong password")
    request = {"url": f"{given['origin']}/saml/sso?{filled['query']}"}
    how = {"user": filled["account"], "class": filled["method"], "attributes": person["attributes"]}
    said = sign_on(idps[0], {**request, **how, "sign_response": False})
    given["last"] = said["name_id"]
    state = parse_qs(filled["query"])["RelayState"][0]
    return form(
        said["destination"], SAMLResponse=base64.b64encode(said["response"].encode()).decode(), RelayState=state
    )


def signed_out(url: str) -> Told:
    """Verify the logout request that a browser brings, and send it back with the answer."""
    query = parameters({"url": url})
    idp = idps[0]
    message = idp.parse_logout_request(query.pop("SAMLRequest"), BINDING_HTTP_REDIRECT, **query).message
    where = idp.response_args(message, [BINDING_HTTP_REDIRECT])["destination"]
    answer = idp.create_logout_response(message, [BINDING_HTTP_REDIRECT])
    sent = idp.apply_binding(
        BINDING_HTTP_REDIRECT, str(answer), where, query["relay_state"], response=True, sign=True, sigalg=SIG_RSA_SHA256
    )
    given["ended"] = message.name_id.text
    return to(dict(sent["headers"])["Location"])


def open_provider(**more: Any) -> dict[str, str]:
    """Listen, and return the address."""
    given.update(more, origin=listen(page))
    return {"origin": given["origin"]}


def meet(metadata: str) -> dict[str, str]:
    """Take our metadata, from a file."""
    given["metadata"] = metadata
    idps.append(server(given))
    return {"entity_id": str(idps[0].config.entityid)}


def told() -> dict[str, Any]:
    """Say whose session ended last."""
    return {"last": given.get("last"), "ended": given.get("ended")}


def logout(us: str, address: str, name_id: str, session: str) -> dict[str, str]:
    """Return a signed logout request."""
    order = {"us": us, "address": address, "name_id": name_id, "session": session}
    return {"request": logout_request(idps[0], order)["request"]}


if __name__ == "__main__":
    obey({"open": open_provider, "meet": meet, "told": told, "logout": logout})
