"""Errors as pages, for people in front of a browser.

Owns: which page an error becomes. Leaves to `gateway.web.problems`: its status. The words stand in the template, by
stable code, so that they can be translated.
"""

from __future__ import annotations

from aiohttp import web

from gateway.errors import GatewayError
from gateway.web.middlewares import REQUEST_ID, ErrorPage
from gateway.web.pages import Pages
from gateway.web.problems import status_of


def error_page(pages: Pages) -> ErrorPage:
    """Return what turns an error into a page (`gateway.web.middlewares.edge`)."""

    def page(request: web.Request, error: GatewayError) -> web.Response:
        context = {"error": error, "request_id": request.get(REQUEST_ID, "")}
        return pages.render(request, "window/refusal.html", context, status=status_of(error))

    return page
