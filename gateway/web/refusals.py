"""Errors as pages, for people in front of a browser.

Owns: which page an error becomes, the clerks' or the citizens'. Leaves to `gateway.web.problems`: its status. The words
stand in the templates, by stable code, so that they can be translated; a page never says what an error calls itself in
English, nor its private detail.
"""

from __future__ import annotations

from aiohttp import web

from gateway.errors import GatewayError
from gateway.web.middlewares import ErrorPage
from gateway.web.pages import Pages, is_window
from gateway.web.problems import status_of, when_again


def error_page(pages: Pages) -> ErrorPage:
    """Return what turns an error into a page (`gateway.web.middlewares.edge`)."""

    def page(request: web.Request, error: GatewayError) -> web.Response:
        template = "window/refusal.html" if is_window(request) else "refusal.html"
        shown = pages.render(request, template, {"error": error}, status=status_of(error))
        shown.headers.update(when_again(error))
        return shown

    return page
