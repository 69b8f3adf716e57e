"""HTTP of the OpenID Provider's endpoints that programs call, and what a request presents to prove who it is.

Owns: reading forms and headers, and dressing the answers. Leaves every decision to `gateway.identity`, and the
addresses that a person's browser visits to `sign_on`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from gateway.domain.languages import LANGUAGES
from gateway.errors import InvalidRequest, NotAuthenticated
from gateway.identity.discovery import ENDPOINTS
from gateway.identity.mtls import CertificateRefused, PresentedCertificate
from gateway.identity.proofs import Presented
from gateway.identity.service import IdentityService
from gateway.identity.token_endpoint import TokenAnswer
from gateway.keys import PUBLISH_AHEAD_SECONDS

_FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 50
SCHEMES = ("bearer", "dpop")

CertificateOf = Callable[[web.Request], PresentedCertificate | None]
"""Reads the certificate that a client showed in its TLS connection, or that a trusted proxy passes on."""
Answering = Callable[[Mapping[str, str], Presented], Awaitable[TokenAnswer]]


def routes(service: IdentityService, certificate_of: CertificateOf) -> list[web.RouteDef]:
    """Return the addresses of programs."""
    endpoints = ProviderEndpoints(service, certificate_of)
    return [
        web.get("/.well-known/openid-configuration", endpoints.discovery),
        web.get("/.well-known/oauth-authorization-server", endpoints.discovery),
        web.get(ENDPOINTS["jwks_uri"], endpoints.jwks),
        web.post(ENDPOINTS["token_endpoint"], endpoints.form_of(service.clients.token)),
        web.post(ENDPOINTS["pushed_authorization_request_endpoint"], endpoints.form_of(service.clients.push)),
        web.post(ENDPOINTS["introspection_endpoint"], endpoints.form_of(service.clients.introspect)),
        web.post(ENDPOINTS["revocation_endpoint"], endpoints.form_of(service.clients.revoke)),
        web.get(ENDPOINTS["userinfo_endpoint"], endpoints.userinfo, allow_head=False),
        web.post(ENDPOINTS["userinfo_endpoint"], endpoints.userinfo),
    ]


class ProviderEndpoints:
    """The endpoints that programs call."""

    def __init__(self, service: IdentityService, certificate_of: CertificateOf) -> None:
        self._service = service
        self._certificate_of = certificate_of

    async def discovery(self, _request: web.Request) -> web.Response:
        """Return the metadata (OpenID Connect Discovery 1.0, RFC 8414)."""
        return json_answer(200, self._service.discovery(LANGUAGES), cache="public, max-age=300")

    async def jwks(self, _request: web.Request) -> web.Response:
        """Return the public keys."""
        return json_answer(200, self._service.jwks(), cache=f"public, max-age={PUBLISH_AHEAD_SECONDS}")

    def form_of(self, answering: Answering) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return the handler of an endpoint that takes a form and answers in JSON."""

        async def handle(request: web.Request) -> web.Response:
            try:
                form = await single_form(request)
            except InvalidRequest as error:
                return _unreadable(error.public)
            except web.RequestPayloadError:
                return _unreadable("The body breaks off, or is not encoded as announced.")
            except web.HTTPRequestEntityTooLarge:
                return _unreadable("The body is too large.", status=413)
            try:
                shown = presented(request, self._service.issuer, self._certificate_of)
            except CertificateRefused as refused:
                return json_answer(401, {"error": refused.error, "error_description": refused.public})
            answer = await answering(form, shown)
            response = json_answer(answer.status, answer.body)
            response.headers.update(answer.headers)
            return response

        return handle

    async def userinfo(self, request: web.Request) -> web.Response:
        """Return the person's claims for an access token in the header (RFC 6750 §2.1, RFC 9449 §7.1)."""
        shown = with_token(presented(request, self._service.issuer, self._certificate_of))
        return json_answer(200, await self._service.resources.userinfo(shown))


def presented(request: web.Request, issuer: str, certificate_of: CertificateOf) -> Presented:
    """Return what a request presents. Its address is the one that we publish, never one that its headers claim."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return Presented(
        method=request.method,
        url=issuer + request.rel_url.raw_path,
        headers=request.headers,
        proofs=tuple(request.headers.getall("DPoP", ())),
        certificate=certificate_of(request),
        scheme=scheme,
        token=token.strip(),
    )


def with_token(shown: Presented) -> Presented:
    """Return it, if it presents an access token. Raises NotAuthenticated."""
    if shown.scheme.lower() not in SCHEMES or not shown.token:
        text = "Send the access token in the header: Authorization: Bearer … or DPoP …; get one at /oauth2/token."
        raise NotAuthenticated(text, code="auth.missing_token")
    return shown


async def form(request: web.Request) -> list[tuple[str, str]]:
    """Return the fields of a form body. Raises InvalidRequest for any other body."""
    return fields(request, await request.read())


def fields(request: web.Request, body: bytes) -> list[tuple[str, str]]:
    """Return the fields of a form body that was read already. Raises InvalidRequest.

    A NUL is refused here: one engine of the store refuses it, and would undo with it what a request had used up.
    """
    if request.content_type != _FORM:
        raise InvalidRequest(f"The body must be {_FORM}.")
    try:
        found = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise InvalidRequest(f"The body must be {_FORM} of at most {MOST_FIELDS} fields.") from error
    if any("\0" in text for pair in found for text in pair):
        raise InvalidRequest("The body must not hold the character NUL (%00).")
    return found


async def single_form(request: web.Request) -> dict[str, str]:
    """Return the fields of a form body, each of which may stand only once (RFC 6749 §3.2)."""
    return unique(await form(request))


def unique(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return parameters, each of which may stand only once. Raises InvalidRequest."""
    once = dict(pairs)
    if len(once) != len(pairs):
        raise InvalidRequest("A parameter stands more than once.")
    return once


def _unreadable(text: str, *, status: int = 400) -> web.Response:
    return json_answer(status, {"error": "invalid_request", "error_description": text})


def json_answer(status: int, body: Mapping[str, Any], *, cache: str = "no-store") -> web.Response:
    """Return a JSON answer."""
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers={"Cache-Control": cache}
    )
