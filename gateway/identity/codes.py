"""City codes (城市码): a presented code becomes a one-time reference to its holder, through the region that issued it.

Owns: the way from a code's prefix to its issuer, the grant it needs, what an issuer's answer is worth, and evidence of
every attempt. Leaves to the region's adapter the question itself, to `subject_references` what is kept. The gateway
neither issues codes nor keeps them: a code stands in no row, log, error or evidence, not even as a digest, which could
be tried out while the code is still good.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Protocol

from pydantic import Field, StringConstraints
from sqlalchemy import Connection

from gateway.crypto.at_rest import Sealer
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.identity import Assurance
from gateway.domain.sensitive import Sensitive
from gateway.edge import Edge, Short, Text
from gateway.errors import (
    FieldProblem,
    GatewayError,
    InvalidRequest,
    RegionClosed,
    RegionError,
    RegionRefused,
    RegionUncertain,
)
from gateway.evidence import Exchange, record
from gateway.evidence.record import Outcome, who_is
from gateway.identity.subject_references import NewReference, keep_reference, new_reference
from gateway.policy.grants import Ask, Capability, Grants
from gateway.ports import Adapter, Clock, CodeQuestion, CodeResolver, ResolvedCode
from gateway.storage import Store

REFERENCE_LIFE = timedelta(minutes=5)
"""How long a reference is good at most: long enough to go on with the business at hand."""

MOST_SUBJECT = 256
"""Characters that an issuer's id of a person may have."""

PresentedCode = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z:._~+/=-]{8,512}$")]
"""What a scanner reads: 8 to 512 letters, digits and `:._~+/=-`."""


class CodeRequest(Edge):
    """`POST /v1/codes/resolve`."""

    code: PresentedCode = Field(repr=False)
    operator: Short
    item: Short
    purpose_code: Short
    purpose: Text
    legal_basis: Text


@dataclass(frozen=True, slots=True)
class CodeAnswer:
    """What the caller gets: a reference that says nothing of the person, who issued the code, how sure, until when."""

    subject_reference: str
    issuer: str
    assurance: Assurance
    expires_at: datetime
    evidence: str


class CodeRegion(Protocol):
    """An enabled region as city codes see it."""

    @property
    def id(self) -> str:
        """The region's id."""
        ...

    @property
    def adapter(self) -> Adapter:
        """What it offers."""
        ...

    @property
    def assurance(self) -> Mapping[str, Assurance]:
        """Its own words for levels → our ladder. A word that is not listed is A0."""
        ...

    @property
    def code_prefixes(self) -> tuple[str, ...]:
        """What its codes begin with."""
        ...


@dataclass(frozen=True, slots=True)
class _Resolution:
    """One attempt, as far as it came."""

    caller: Caller
    request: CodeRequest
    received_at: datetime
    region: CodeRegion | None = None
    forwarded_at: datetime | None = None
    answered_at: datetime | None = None


class CodeRouter:
    """Resolves presented codes. No two issuers share a prefix, which the start has checked (`gateway.regions`)."""

    def __init__(
        self,
        *,
        store: Store,
        regions: Sequence[CodeRegion],
        grants: Grants,
        sealer: Sealer,
        clock: Clock,
        refuse_closed: Callable[[str], Awaitable[None]],
    ) -> None:
        """`refuse_closed` raises RegionClosed for a region whose word on who somebody is counts no more."""
        self._store = store
        self._refuse_closed = refuse_closed
        self._issuers = {prefix: region for region in regions for prefix in region.code_prefixes}
        self._grants = grants
        self._sealer = sealer
        self._clock = clock

    async def resolve(self, caller: Caller, request: CodeRequest) -> CodeAnswer:
        """Ask the issuer now. Raises InvalidRequest, NotPermitted, RegionClosed or RegionError.

        Each refusal has its evidence recorded.
        """
        attempt = _Resolution(caller, request, self._clock())
        try:
            region, resolver = self._issuer(request.code)
            attempt = replace(attempt, region=region)
            self._may(attempt, region)
            await self._refuse_closed(region.id)
            attempt = replace(attempt, forwarded_at=self._clock())
            resolved = await _asked(region, resolver, caller, request)
            attempt = replace(attempt, answered_at=self._clock())
            new = self._reference(attempt, region, resolved)
        except GatewayError as error:
            await self._note(attempt, error)
            raise
        try:
            return await self._keep(attempt, new)
        except RegionClosed as error:
            await self._note(attempt, error)
            raise

    # --- before asking

    def _issuer(self, code: str) -> tuple[CodeRegion, CodeResolver]:
        """Return who issued this code. Raises InvalidRequest, which does not repeat it."""
        region = next((region for prefix, region in self._issuers.items() if code.startswith(prefix)), None)
        if region is None or region.adapter.codes is None:
            problem = FieldProblem("code", "begins like no code of an enabled region", "unknown")
            raise InvalidRequest("Nobody here issues such codes.", problems=[problem])
        return region, region.adapter.codes

    def _may(self, attempt: _Resolution, region: CodeRegion) -> None:
        self._grants.require(
            Ask(
                client=attempt.caller.client_id,
                capability=Capability.RESOLVE_CODES,
                item=attempt.request.item,
                certificate_type=None,
                purpose=attempt.request.purpose_code,
                region=region.id,
                on=local_day(attempt.received_at),
            )
        )

    # --- after the answer

    def _reference(self, attempt: _Resolution, region: CodeRegion, resolved: ResolvedCode) -> NewReference:
        """Make a reference of an answer that is one. Raises RegionUncertain."""
        now = self._clock()
        if not 0 < len(resolved.subject) <= MOST_SUBJECT or resolved.expires_at <= now:
            text = f"{region.id} answered with nobody, or with something that is over already"
            raise RegionUncertain(text, region=region.id)
        return NewReference(
            reference=new_reference(),
            client_id=attempt.caller.client_id,
            region=region.id,
            subject=Sensitive(resolved.subject),
            assurance=region.assurance.get(resolved.level, Assurance.A0),
            expires_at=min(resolved.expires_at, now + REFERENCE_LIFE),
        )

    async def _keep(self, attempt: _Resolution, new: NewReference) -> CodeAnswer:
        """Store the reference with its evidence. Raises RegionClosed when the region was closed meanwhile."""
        now = self._clock()
        parts = {"subject": new.subject.reveal().encode()}

        def unit(tx: Connection) -> str:
            kept = keep_reference(tx, self._sealer, new)
            exchange = _exchange(attempt, "done", "ok", {"reference": kept, "assurance": new.assurance.name}, parts)
            return record(tx, exchange, now=now)

        evidence_id = await self._store.write(unit)
        return CodeAnswer(new.reference, new.region, new.assurance, new.expires_at, evidence_id)

    async def _note(self, attempt: _Resolution, error: GatewayError) -> None:
        failed = isinstance(error, RegionError) and not isinstance(error, RegionRefused)
        exchange = _exchange(
            attempt, "failed" if failed else "refused", error.stable_code, {"fields": error.fields()}, {}
        )
        error.evidence = await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))


async def _asked(region: CodeRegion, resolver: CodeResolver, caller: Caller, request: CodeRequest) -> ResolvedCode:
    """Ask the issuer. Whatever text it refuses with is left behind: it could repeat the code in any spelling."""
    question = CodeQuestion(request.code, request.purpose, request.item, caller.organisation)
    try:
        return await resolver.resolve(question)
    except RegionRefused:
        text = f"{region.id} did not resolve the code: it is unknown, used or over. Have it shown again."
        raise RegionRefused(text, region=region.id) from None


def _exchange(
    attempt: _Resolution, outcome: Outcome, reason: str, further: Mapping[str, object], parts: Mapping[str, bytes]
) -> Exchange:
    request = attempt.request
    named = {} if attempt.region is None else {"region": attempt.region.id}
    return Exchange(
        action="code.resolve",
        outcome=outcome,
        reason=reason,
        who={**who_is(attempt.caller), "operator": request.operator},
        what={"item": request.item, "legal_basis": request.legal_basis, **named, **further},
        purpose=f"{request.purpose_code}: {request.purpose}",
        received_at=attempt.received_at,
        forwarded_at=attempt.forwarded_at,
        answered_at=attempt.answered_at,
        parts=parts,
    )
