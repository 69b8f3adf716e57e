"""The simulated authority of Guangdong: a second, independent reading of README.md beside this file.

Owns: putting the authority together; its parts are the other `sandbox_*` modules. Leaves to `gateway.sandbox.authority`
what no real authority has (control page, misbehaviour, notebook). Shares no code with `adapter.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from adapters.guangdong.sandbox_cases import Courier, Intake
from adapters.guangdong.sandbox_certificates import CertificateDesk
from adapters.guangdong.sandbox_codes import MODES as CODE_MODES
from adapters.guangdong.sandbox_codes import CodeIssuer
from adapters.guangdong.sandbox_issued import IssuedDesk, composer
from adapters.guangdong.sandbox_items import MODES as ITEM_MODES
from adapters.guangdong.sandbox_items import ItemList
from adapters.guangdong.sandbox_messages import Mailroom
from adapters.guangdong.sandbox_results import ResultRoom
from adapters.guangdong.sandbox_signature import Clock, Gatekeeper, only_signed
from adapters.guangdong.sandbox_signon import HOSTILE, SignOn
from gateway.sandbox import decision, issued
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings, authority_app
from gateway.sandbox.courses import ORDERS

_SECRETS = ("paas_id", "paas_token", "client_id", "client_secret", "item_codes")


def build_authority(settings: AuthoritySettings, clock: Clock = time.time) -> web.Application:
    """Return the authority. `clock` gives Unix seconds. Raises ValueError naming every secret that is missing."""
    missing = [name for name in _SECRETS if name not in settings.secrets]
    if missing:
        raise ValueError(f"the authority of Guangdong lacks the secrets {', '.join(missing)}")
    app = authority_app(
        settings, modes={**ORDERS, **ITEM_MODES, **HOSTILE, **CODE_MODES, **decision.MODES, **issued.MODES}
    )
    courier = _courier(settings, app, clock)
    intake = _intake(settings, app, courier, clock)
    app.middlewares.append(only_signed(_gatekeeper(settings, clock)))
    app.add_routes(_sign_on(settings, clock).routes())
    app.add_routes(CodeIssuer(_here(settings.people), clock).routes())
    app.add_routes(intake.routes())
    app.add_routes(Mailroom(intake).routes())
    app.add_routes(ResultRoom(app[NOTEBOOK], app[MISBEHAVIOUR]).routes())
    app.add_routes(ItemList(settings.items, app[MISBEHAVIOUR], clock).routes())
    app.add_routes(_certificates(settings, app, clock))
    app.on_startup.append(courier.start)
    app.on_cleanup.append(courier.stop)  # runs after the scaffolding has ended the background work
    return app


def _gatekeeper(settings: AuthoritySettings, clock: Clock) -> Gatekeeper:
    return Gatekeeper(settings.secrets["paas_id"].decode(), settings.secrets["paas_token"], clock)


def _sign_on(settings: AuthoritySettings, clock: Clock) -> SignOn:
    client, secret = (settings.secrets[name].decode() for name in ("client_id", "client_secret"))
    return SignOn(client, secret, settings.gateway_url, _here(settings.people), clock)


def _courier(settings: AuthoritySettings, app: web.Application, clock: Clock) -> Courier:
    token = settings.secrets["paas_token"]
    return Courier(settings.gateway_url, token, settings.pace, app[NOTEBOOK], app[MISBEHAVIOUR], clock)


def _intake(settings: AuthoritySettings, app: web.Application, courier: Courier, clock: Clock) -> Intake:
    seeded = {item["code"]: item for item in settings.items}
    items = {code: seeded.get(code, {"material": ()}) for code in json.loads(settings.secrets["item_codes"])}
    return Intake(items, _here(settings.certificates), app[NOTEBOOK], courier, clock)


def _certificates(settings: AuthoritySettings, app: web.Application, clock: Clock) -> list[web.RouteDef]:
    wrong = app[MISBEHAVIOUR]
    register = issued.Register("guangdong", settings.certificates, app[NOTEBOOK], wrong, "GDLZ:", seal=settings.seal)
    compose = composer(settings.secrets["paas_token"], clock)
    post = issued.NoticePost(settings.gateway_url, "guangdong", wrong, compose)
    desk = register.control(clock, post).routes()
    return [*CertificateDesk(register).routes(), *IssuedDesk(register, clock).routes(), *desk]


def _here(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row.get("region") == "guangdong"]
