"""The addresses of the form of GB/T 36906: an address an operation for JSON, one for SOAP, and the WSDL."""

from __future__ import annotations

from functools import cache

from aiohttp import web

from gateway.errors import NotFound
from gateway.web.elssp import json_wire
from gateway.web.elssp.exchange import Sharing
from gateway.web.elssp.operations import OPERATIONS
from gateway.web.elssp.soap_wire import SoapWire
from gateway.web.elssp.wsdl import ADDRESS, wsdl


def routes(sharing: Sharing) -> list[web.RouteDef]:
    """Return the addresses. The token is looked at in each exchange: it may stand in the message."""

    @cache
    def description() -> bytes:
        return wsdl(sharing.words, sharing.public_url)

    async def described(request: web.Request) -> web.Response:
        """GET /elssp/soap?wsdl, for whoever wants to know how to ask."""
        if "wsdl" not in {name.lower() for name in request.query}:
            raise NotFound("The description of this service is at /elssp/soap?wsdl; messages are sent by POST.")
        return web.Response(body=description(), content_type="text/xml", charset="utf-8")

    return [
        *(web.post(f"/elssp/v1/{name}", json_wire.handler(sharing, one)) for name, one in OPERATIONS.items()),
        web.get(ADDRESS, described, allow_head=False),
        web.post(ADDRESS, SoapWire(sharing).handle),
    ]
