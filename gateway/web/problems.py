"""Errors as RFC 9457 problem documents: the one place where an error becomes an HTTP answer.

Owns: the status of each error, the document, and what happens to an error nobody expected (its text stays inside).
Leaves to `gateway.errors`: what may be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway import errors
from gateway.errors import GatewayError
from gateway.identity.dpop import ALGORITHMS, DpopRefused

TYPE_BASE = "urn:pearl:problem:"
MOST_PROBLEMS = 100
"""More than a person would read; a hostile body can have thousands."""

STATUS: Mapping[type[GatewayError], int] = {
    errors.InvalidRequest: 422,
    errors.BodyTooLarge: 413,
    errors.NotAuthenticated: 401,
    errors.NotPermitted: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.SignOnFailed: 400,
    errors.ForgedCallback: 401,
    errors.ReplayedCallback: 409,
    errors.NotOffered: 422,
    errors.MappingFailed: 422,
    errors.RegionUnreachable: 503,
    errors.RegionUncertain: 502,
    errors.RegionRefused: 422,
    errors.RegionCannotBeAsked: 422,
    errors.CertificateChanged: 409,
    errors.CertificateNotAskable: 403,
    errors.CertificateUnconfirmed: 503,
    errors.Unavailable: 503,
}
"""A subclass inherits its parent's status; what is not listed is 500, and a test holds that nothing expected is."""


def status_of(error: GatewayError) -> int:
    """Return the HTTP status for an error, by the nearest listed class."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def document(error: GatewayError, instance: str) -> dict[str, Any]:
    """Return the problem document. `instance` names the evidence row, or where there is none the request in our log."""
    body: dict[str, Any] = {
        "type": TYPE_BASE + error.stable_code,
        "title": error.title,
        "status": status_of(error),
        "detail": error.public,
        "code": error.stable_code,
        "where": error.where.value,
        "retryable": error.retryable,
        "instance": f"urn:pearl:evidence:{error.evidence}" if error.evidence else f"urn:pearl:request:{instance}",
    }
    if error.region:
        body["region"] = error.region
    if error.problems:
        shown = error.problems[:MOST_PROBLEMS]
        body["problems"] = [{"field": p.field, "code": p.code, "reason": p.reason} for p in shown]
        body["problem_count"] = len(error.problems)
    return body


def problem_response(error: GatewayError, instance: str) -> web.Response:
    """Return the HTTP answer for an error."""
    body = document(error, instance)
    headers = {"Cache-Control": "no-store"}
    if body["status"] == 401:
        headers["WWW-Authenticate"] = challenge(error)
    headers.update(error.headers)
    headers.update(when_again(error))
    return web.Response(
        body=orjson.dumps(body), status=body["status"], content_type="application/problem+json", headers=headers
    )


def when_again(error: GatewayError) -> Mapping[str, str]:
    """Return the header that says in how many seconds to try again, where that may help (RFC 9110 §10.2.3)."""
    return {"Retry-After": "5"} if error.retryable else {}


def challenge(error: GatewayError) -> str:
    """Return how to authenticate (RFC 6750 §3.1, RFC 9449 §7.1).

    Whoever sent no credential is told how to, and not that something is wrong with it.
    """
    if isinstance(error, DpopRefused):
        return f'DPoP error="{error.error}", algs="{" ".join(ALGORITHMS)}"'
    return "Bearer" if error.stable_code == "auth.missing_token" else 'Bearer error="invalid_token"'


_FRAMEWORK: Mapping[int, tuple[type[GatewayError], str, str]] = {
    404: (errors.NotFound, "request.no_such_address", "There is no such address; /v1/items is a place to begin."),
    405: (errors.InvalidRequest, "request.wrong_method", "This address does not take that method; see `Allow`."),
    413: (errors.BodyTooLarge, "request.too_large", "The body is larger than this gateway's limit."),
}


def framework_error(answer: web.HTTPException) -> GatewayError:
    """Return one of aiohttp's own refusals (no such address, wrong method, …) as an error of ours."""
    default = (errors.InvalidRequest, "request.invalid", "The request cannot be read.")
    kind, code, text = _FRAMEWORK.get(answer.status, default)
    return kind(text, code=code)


def of_framework(answer: web.HTTPException, instance: str) -> web.Response:
    """Return one of aiohttp's own refusals as a problem document, with the status that it chose."""
    response = problem_response(framework_error(answer), instance)
    response.set_status(answer.status)
    response.body = orjson.dumps({**orjson.loads(response.body or b"{}"), "status": answer.status})  # type: ignore[arg-type] # set just above as bytes
    if "Allow" in answer.headers:
        response.headers["Allow"] = answer.headers["Allow"]
    return response
