"""What every request goes through: an id, a log line, metrics, security headers, and errors into problems.

Owns: the order of these and nothing of what handlers do. A browser page shows an error as a page; everything else gets
a problem document.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.errors import GatewayError, InvalidRequest
from gateway.telemetry import Metrics
from gateway.web import problems

ErrorPage = Callable[[web.Request, GatewayError], web.Response]

REQUEST_ID = web.RequestKey("request_id", str)
PAGES = ("/sign-in", "/window", "/account", "/oauth2/authorize", "/oauth2/logout")
"""Addresses that a person looks at in a browser: their errors are pages."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Server": "pearl",  # without it aiohttp tells its version and Python's
}
HSTS = {"Strict-Transport-Security": "max-age=31536000"}
"""RFC 6797 §6.1: a browser that was here once comes by https only, for a year."""

log = structlog.get_logger("web")


def edge(metrics: Metrics, error_page: ErrorPage, *, https: bool = False) -> list[Middleware]:
    """Return the middlewares, outermost first. `https` says that the gateway's public address is an https one."""
    headers = {**SECURITY_HEADERS, **(HSTS if https else {})}

    @web.middleware
    async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = secrets.token_hex(8)
        begun = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
            try:
                response = await handler(request)
            except web.HTTPException as redirect:
                _finish(request, redirect, metrics, begun, headers)
                raise
            _finish(request, response, metrics, begun, headers)
        return response

    @web.middleware
    async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except GatewayError as error:
            note(error)
            return _answer(request, error, error_page)
        except web.HTTPException as answer:
            if answer.status < 400:
                raise
            return _refused_by_framework(request, answer, error_page)
        except web.RequestPayloadError:
            broken = InvalidRequest("The body breaks off, or is not framed as announced.", code="request.broken_body")
            note(broken)
            return _answer(request, broken, error_page)
        except Exception:
            # The one place that catches everything: the text of an unexpected error stays in our log.
            log.exception("unexpected error", route=_route(request))
            return _answer(request, GatewayError("Something went wrong inside the gateway."), error_page)

    return [identify, explain]


def _finish(
    request: web.Request, response: web.StreamResponse, metrics: Metrics, begun: float, headers: Mapping[str, str]
) -> None:
    """Count and log the request without its query string, and dress the answer."""
    seconds = time.perf_counter() - begun
    route = _route(request)
    metrics.request(route, request.method, response.status, seconds)
    log.info("request", method=request.method, route=route, status=response.status, ms=round(seconds * 1000, 1))
    response.headers.setdefault("X-Request-Id", request[REQUEST_ID])
    for name, value in headers.items():
        response.headers.setdefault(name, value)


def _answer(request: web.Request, error: GatewayError, error_page: ErrorPage) -> web.Response:
    if request.path.startswith(PAGES):
        return error_page(request, error)
    return problems.problem_response(error, request[REQUEST_ID])


def _refused_by_framework(request: web.Request, answer: web.HTTPException, error_page: ErrorPage) -> web.Response:
    if not request.path.startswith(PAGES):
        return problems.of_framework(answer, request[REQUEST_ID])
    page = error_page(request, problems.framework_error(answer))
    page.set_status(answer.status)
    if "Allow" in answer.headers:
        page.headers["Allow"] = answer.headers["Allow"]
    return page


def note(error: GatewayError) -> None:
    """Log a refusal; the private detail goes nowhere else."""
    fields = error.fields()
    log.info("refused", code=error.stable_code, where=error.where.value, region=error.region, fields=fields)
    if error.detail:
        log.info("refused because", code=error.stable_code, detail=error.detail)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(none)"
