"""Every URL of the public listener in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from gateway.config import Limits
from gateway.identity.service import IdentityService
from gateway.ports import Clock
from gateway.submissions.inbox import Inbox
from gateway.web import callbacks, sign_on
from gateway.web.api import handlers as api
from gateway.web.pages import Pages
from gateway.web.window import pages as window
from gateway.web.window.services import WindowServices

STATIC = Path(__file__).parent / "static"


def public(
    *,
    identity: IdentityService,
    agencies: api.ApiServices,
    clerks: WindowServices,
    inbox: Inbox,
    pages: Pages,
    limits: Limits,
    clock: Clock,
) -> Sequence[web.AbstractRouteDef]:
    """Return the table."""
    return [
        web.get("/", _home),
        web.static("/static", STATIC),
        *sign_on.routes(identity, pages),  # /.well-known/…, /oauth2/…, /sign-in…
        *api.routes(agencies),  # /v1/…
        *callbacks.routes(inbox, clock, limits.callback_bytes),  # /callbacks/{region}/…
        *window.routes(clerks, pages, limits),  # /window…
    ]


async def _home(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/window")
