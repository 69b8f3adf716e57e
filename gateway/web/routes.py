"""Every URL of both listeners, a table each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from aiohttp import web

from gateway.certificates.notices import CertificateNotices
from gateway.config import Limits
from gateway.identity.health import Health
from gateway.identity.service import IdentityService
from gateway.identity.switches import RegionSwitches
from gateway.items.approvals import Approvals
from gateway.items.puller import Puller
from gateway.lines import Line
from gateway.ports import Clock
from gateway.storage import Store
from gateway.submissions.inbox import Inbox
from gateway.submissions.pickups import PickupDesk
from gateway.telemetry import Metrics
from gateway.versions import Versions
from gateway.web import account, callbacks, logout, provider_endpoints, sign_on
from gateway.web.api import handlers as api
from gateway.web.elssp import routes as elssp
from gateway.web.elssp.exchange import Sharing
from gateway.web.ops import handlers as ops
from gateway.web.ops import items, mappings, regions
from gateway.web.pages import Pages
from gateway.web.provider_endpoints import CertificateOf
from gateway.web.window import pages as window
from gateway.web.window.services import WindowServices

STATIC = Path(__file__).parent / "static"


def public(
    *,
    identity: IdentityService,
    agencies: api.ApiServices,
    clerks: WindowServices,
    persons: account.AccountServices,
    inbox: Inbox,
    pickups: PickupDesk,
    notices: CertificateNotices,
    pages: Pages,
    limits: Limits,
    clock: Clock,
    certificate_of: CertificateOf,
    sharing: Sharing | None,
) -> Sequence[web.AbstractRouteDef]:
    """Return the table of the public listener."""
    return [
        web.get("/", _home),
        web.static("/static", STATIC),
        *provider_endpoints.routes(identity, certificate_of),  # /.well-known/…, /oauth2/…
        *sign_on.routes(identity, pages),  # /oauth2/authorize…, /sign-in…
        *logout.routes(identity, pages, clock, limits.callback_bytes),  # /oauth2/logout…, /sign-in/{region}/…
        *api.routes(agencies),  # /v1/…
        *callbacks.routes(inbox, pickups, clock, limits.callback_bytes, notices),  # /callbacks/{region}/…
        *window.routes(clerks, pages, limits),  # /window…
        *account.routes(persons, pages),  # /account…
        *(elssp.routes(sharing) if sharing is not None else ()),  # /elssp/…
    ]


def admin(
    *,
    store: Store,
    lines: Mapping[str, Line],
    metrics: Metrics,
    clock: Clock,
    accepting: Callable[[], bool],
    versions: Versions,
    switches: RegionSwitches,
    health: Health,
    approvals: Approvals,
    puller: Puller,
    refused: Callable[[], str | None],
    files: Callable[[], Awaitable[str | None]],
) -> Sequence[web.AbstractRouteDef]:
    """Return the table of the admin listener."""
    return [
        *ops.routes(store, lines, metrics, clock, accepting, health, refused, files),  # /metrics, /livez, /readyz
        *regions.routes(switches, health),  # /ops/regions…
        *mappings.routes(versions),  # /ops/mappings…
        *items.routes(approvals, puller),  # /ops/items…
    ]


async def _home(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/window")
