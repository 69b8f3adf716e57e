"""Handlers of /v1: read the request, call the service, write the answer.

Owns: HTTP of the agencies' API. Leaves everything else to the services that it is given. A refusal that no service has
recorded (an unreadable body, a bad token) becomes evidence here.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from aiohttp import web

from gateway.certificates.services import Certificates
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.identity import Assurance
from gateway.domain.item import Item
from gateway.domain.mandate import Party
from gateway.domain.sensitive import mask_name, mask_number
from gateway.errors import (
    GatewayError,
    NotPermitted,
)
from gateway.evidence import record
from gateway.evidence.record import refusal, who_is
from gateway.identity.codes import CodeAnswer, CodeRequest, CodeRouter
from gateway.identity.mandate_desk import MandateDesk, PaperMandate, Revoking, Standing
from gateway.policy.grants import Grants
from gateway.ports import Clock
from gateway.storage import Store
from gateway.submissions.application import Application
from gateway.submissions.cases import Cases, CaseView
from gateway.submissions.intake import Intake, Receipt
from gateway.submissions.materials import Materials
from gateway.submissions.stream import Stream
from gateway.submissions.uploads import Uploads
from gateway.web.api import afterwards, certificate_files, certificates, events, followups, materials, webhooks
from gateway.web.api.answers import json_answer as _json
from gateway.web.api.bodies import read_body
from gateway.web.api.followups import FollowupServices
from gateway.web.api.items import BlockOf, ItemAnswers

Authenticate = Callable[[web.Request], Awaitable[Caller]]
"""Tells who calls, by the access token of the request. Raises NotAuthenticated."""
Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]

ATTESTED: Mapping[str, Assurance] = {"collect": Assurance.A3, "online": Assurance.A2}
"""What an agency vouches for: at a window it saw the person and the document (A3); online it ran its own real-person
sign-on (A2). The agency's grant rests on that undertaking, and the evidence names the agency. One that acts for a
person who signed on through us vouches for nothing: the level of that sign-on counts."""


@dataclass(frozen=True, slots=True)
class ApiServices:
    """What the API is made of."""

    authenticate: Authenticate
    items: Mapping[str, Item]
    block_of: BlockOf
    grants: Grants
    intake: Intake
    cases: Cases
    materials: Materials
    uploads: Uploads
    certificates: Certificates
    certificate_files: certificate_files.FileDesk
    codes: CodeRouter
    mandates: MandateDesk
    stream: Stream
    enabled: events.Enabled
    afterwards: afterwards.Afterwards
    store: Store
    clock: Clock
    followups: FollowupServices


def routes(services: ApiServices) -> list[web.RouteDef]:
    """Return the routes of /v1."""
    api = _Api(services)
    stream = events.handler(services.stream, time.monotonic, services.enabled)
    list_webhooks, replay_webhook = webhooks.handlers(services.store, services.clock)
    return [
        web.get("/v1/items", api.guarded("submissions", api.items)),
        web.get("/v1/items/{code}", api.guarded("submissions", api.item)),
        web.get("/v1/items/{code}/schema", api.guarded("submissions", api.schema)),
        *materials.routes(api.guarded, services.uploads, services.materials, services.clock),  # /v1/blobs…
        web.post("/v1/submissions", api.guarded("submissions", api.submit)),
        web.get("/v1/submissions/{id}", api.guarded("submissions", api.submission)),
        web.get("/v1/webhooks", api.guarded("submissions", list_webhooks)),
        web.post("/v1/webhooks/{id}/replay", api.guarded("submissions", replay_webhook)),
        web.get("/v1/events", api.guarded("submissions", stream)),
        *certificates.routes(services.certificates, services.certificate_files, api.guarded),  # /v1/certificates/…
        *certificate_files.routes(services.certificate_files, api.guarded),
        web.post("/v1/codes/resolve", api.guarded("codes", api.resolve_code)),
        web.post("/v1/mandates", api.guarded("mandates", api.record_mandate)),
        web.get("/v1/mandates/{id}", api.guarded("mandates", api.mandate)),
        web.post("/v1/mandates/{id}/revoke", api.guarded("mandates", api.revoke_mandate)),
        *afterwards.routes(services.afterwards, api.guarded),
        *followups.routes(services.followups, api.guarded),
    ]


class _Api:
    def __init__(self, services: ApiServices) -> None:
        self._services = services
        self._items = ItemAnswers(services.block_of)

    def guarded(self, scope: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Let only callers with this scope through; keep what cannot even be read as a refusal."""

        async def guard(request: web.Request) -> web.StreamResponse:
            received_at = self._services.clock()
            caller: Caller | None = None
            try:
                caller = await self._services.authenticate(request)
                require_scope(caller, scope)
                return await handler(request, caller)
            except GatewayError as error:
                if error.evidence is None:  # no service has recorded it yet
                    error.evidence = await self._refused(request, caller, error, received_at)
                raise

        return guard

    async def _refused(
        self, request: web.Request, caller: Caller | None, error: GatewayError, received_at: datetime
    ) -> str:
        exchange = refusal(
            error,
            action=f"api {request.method} {_route(request)}",
            who=who_is(caller) if caller else {},
            what={},
            purpose="",
            received_at=received_at,
        )
        return await self._services.store.write(lambda tx: record(tx, exchange, now=self._services.clock()))

    # --- items -------------------------------------------------------------------------------------------------

    async def items(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/items: what this caller may file, with the JSON Schema of each form."""
        return self._items.all(request, self._visible(caller))

    async def item(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/items/{code}."""
        return self._items.one(request, self._visible(caller))

    async def schema(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/items/{code}/schema."""
        return self._items.schema(request, self._visible(caller))

    def _visible(self, caller: Caller) -> list[Item]:
        services = self._services
        return services.grants.visible_items(caller.client_id, services.items.values(), self._today())

    def _today(self) -> date:
        return local_day(self._services.clock())

    # --- materials and submissions -----------------------------------------------------------------------------

    async def submit(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/submissions: 201 with the receipt, 200 when the same application was here before."""
        application = await read_body(request, Application)
        assurance = caller.acting.person.assurance if caller.acting else ATTESTED[application.mode]
        receipt = await self._services.intake.accept(caller, application, assurance=assurance, channel="api")
        headers = {"Location": f"/v1/submissions/{receipt.submission_id}"}
        return _json(_receipt(receipt), status=200 if receipt.replayed else 201, headers=headers)

    async def submission(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/submissions/{id}: state, who holds it, numbers, timeline."""
        return _json(_case(await self._services.cases.show(caller, request.match_info["id"])))

    # --- city codes --------------------------------------------------------------------------------------------

    async def resolve_code(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/codes/resolve."""
        return _json(_resolved(await self._services.codes.resolve(caller, await read_body(request, CodeRequest))))

    # --- mandates ----------------------------------------------------------------------------------------------

    async def record_mandate(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/mandates: 201 with what was recorded."""
        made = await self._services.mandates.record(caller, await read_body(request, PaperMandate))
        headers = {"Location": f"/v1/mandates/{made.mandate.id}"}
        return _json(_mandate(made), status=201, headers=headers)

    async def mandate(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/mandates/{id}."""
        return _json(_mandate(await self._services.mandates.show(caller, request.match_info["id"])))

    async def revoke_mandate(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/mandates/{id}/revoke."""
        asked = await read_body(request, Revoking)
        return _json(_mandate(await self._services.mandates.revoke(caller, request.match_info["id"], asked)))


def require_scope(caller: Caller, scope: str) -> None:
    """Raise NotPermitted unless the caller's token has this scope."""
    if scope not in caller.scopes:
        raise NotPermitted(f"This token lacks the scope `{scope}`.", code="auth.insufficient_scope")


# --- answers -----------------------------------------------------------------------------------------------------


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "id": receipt.submission_id,
        "state": receipt.state,
        "received_at": receipt.received_at,
        "replayed": receipt.replayed,
    }


def _case(case: CaseView) -> dict[str, Any]:
    known = asdict(case)
    return {
        **{k: v for k, v in known.items() if k not in {"applicant_name", "document_number"}},
        "applicant": {"name": case.applicant_name, "document_number": case.document_number},
    }


def _resolved(answer: CodeAnswer) -> dict[str, Any]:
    return {**asdict(answer), "assurance": answer.assurance.name}


def _mandate(standing: Standing) -> dict[str, Any]:
    """Say what a mandate says; people by mask (domain rule P9)."""
    mandate = standing.mandate
    return {
        "id": mandate.id,
        "principal": _party(mandate.principal),
        "agent": _party(mandate.agent),
        "relation": mandate.relation,
        "items": sorted(mandate.items),
        "valid_from": mandate.valid_from,
        "valid_until": mandate.valid_until,
        "created_at": mandate.created_at,
        "revoked_at": mandate.revocation.at if mandate.revocation else None,
        "serves": not standing.lacks,
        "lacks": list(standing.lacks),
    }


def _party(party: Party) -> dict[str, Any]:
    return {
        "name": mask_name(party.name) or None,
        "document": {"type": party.document_type, "number": mask_number(party.number)},
    }


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else request.path
