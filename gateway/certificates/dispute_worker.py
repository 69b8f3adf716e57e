"""Telling issuers of reported errors, and asking what became of them, beside the requests.

Owns: the order of things for one report. It is told until the issuer has it, with growing waits; then its reply is
asked for once in a while. A process may die between the issuer's word and ours: the report is told again under the same
number, which is the same report to the issuer (`IssuedCertificates.dispute`). Leaves to `dispute_rows`: leases.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, select

from gateway.certificates import dispute_rows as rows
from gateway.certificates.dispute_rows import Claimed
from gateway.certificates.disputes import ACTION
from gateway.certificates.request import DisputeRequest
from gateway.crypto.at_rest import Sealer
from gateway.errors import GatewayError, NotOffered, RegionRefused, RegionUncertain
from gateway.evidence import Exchange, record
from gateway.evidence.record import Outcome
from gateway.ports import Clock, IssuedCertificates
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import consents
from gateway.submissions.retry import RetryPolicy
from gateway.waiting import wait

log = structlog.get_logger("certificates")

POLL_SECONDS = 1.0
AT_ONCE = 8
"""Reports that one replica is at at a time."""
LONGEST_NUMBER = 128
LONGEST_REPLY = 4000
"""Characters of an issuer's reply that are kept."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What an attempt came to: what the row says from now on, and what evidence says of it."""

    values: Mapping[str, Any]
    reason: str
    outcome: Outcome = "done"
    asked_at: datetime | None = None
    answered_at: datetime | None = None
    parts: Mapping[str, bytes] | None = None


class DisputeWorker:
    """Tells issuers. `ask_again` is how long after one question about a reply the next is asked."""

    def __init__(
        self,
        store: Store,
        regions: Mapping[str, Region],
        sealer: Sealer,
        clock: Clock,
        retry: RetryPolicy,
        ask_again: timedelta,
    ) -> None:
        self._store = store
        self._regions = regions
        self._sealer = sealer
        self._clock = clock
        self._retry = retry
        self._ask_again = ask_again

    async def run(self, stopping: asyncio.Event) -> None:
        """Look again and again until `stopping`."""
        while not stopping.is_set():
            try:
                found = await self.turn()
            except GatewayError as error:
                log.warning("disputes not looked at", code=error.stable_code, detail=error.detail)
                found = 0
            if found < AT_ONCE:
                await wait(stopping, POLL_SECONDS)

    async def turn(self) -> int:
        """Go once through what is due; return how many reports that were."""
        now, owner = self._clock(), secrets.token_hex(8)  # a name for each turn: an attempt of before settles nothing
        taken = await self._store.write(
            lambda tx: rows.claim(tx, owner=owner, now=now, limit=AT_ONCE)
        )  # fmt: skip
        await asyncio.gather(*(self._attempt(claimed) for claimed in taken))
        return len(taken)

    async def _attempt(self, claimed: Claimed) -> None:
        said: Mapping[str, Any] = {}
        try:
            said = rows.opened(self._sealer, claimed.id, claimed.sealed)
            outcome = await (self._tell(claimed, said) if claimed.state == rows.OPEN else self._ask(claimed))
        except Exception as error:  # a bug loses no report: it is tried again, and seen to hang
            if not isinstance(error, GatewayError):
                log.exception("dispute failed unexpectedly", ticket=claimed.id)
            outcome = self._later(claimed, error)
        try:
            await self._store.write(lambda tx: self._settle(tx, claimed, said, outcome))
        except GatewayError as error:  # the store is away: the lease runs out, and it is done again
            log.warning("dispute not settled", ticket=claimed.id, code=error.stable_code, detail=error.detail)

    async def _tell(self, claimed: Claimed, said: Mapping[str, Any]) -> _Outcome:
        """Tell the issuer. Raises GatewayError when it does not have the report, or nobody knows."""
        request = DisputeRequest.model_validate(said["request"])
        if not await self._store.read(lambda tx: _may_still_go(tx, said["consent"], request, self._clock())):
            text = "The consent on which the report rested had ended before the issuer could be told."
            return _Outcome(self._ended(claimed, "cancelled", text), "consent ended", "refused")
        region, issued = self._issuer(claimed)
        document = region.pack("certificate-dispute").to_region(_said(claimed, said, request))
        words = document if isinstance(document, bytes) else orjson.dumps(document)
        asked_at = self._clock()
        try:
            number = _checked(await issued.dispute(document), region.id)
        except RegionRefused as error:
            values = self._ended(claimed, "refused", error.public)
            return _Outcome(values, error.stable_code, "refused", asked_at, self._clock(), {"told": words})
        values = {"state": rows.TOLD, "number": number, "failures": 0, "last_code": None, "due": self._next()}
        return _Outcome(values, "told", "done", asked_at, self._clock(), {"told": words})

    async def _ask(self, claimed: Claimed) -> _Outcome:
        """Ask what became of it. Raises GatewayError when the issuer says nothing that can be used."""
        _, issued = self._issuer(claimed)
        asked_at = self._clock()
        reply = await issued.disputed(claimed.number or "")
        if reply.state == "open":
            return _Outcome({"failures": 0, "last_code": None, "due": self._next()}, "")
        values = self._ended(claimed, reply.state, reply.text)
        return _Outcome(values, reply.state, "done", asked_at, self._clock(), {"reply": reply.text.encode()})

    def _issuer(self, claimed: Claimed) -> tuple[Region, IssuedCertificates]:
        region = self._regions.get(claimed.region)
        issued = region.adapter.issued if region is not None and region.tells("dispute") else None
        if region is None or issued is None:
            raise NotOffered("This region is not enabled any more, or takes no reports.", region=claimed.region)
        return region, issued

    def _next(self) -> datetime:
        return self._clock() + self._ask_again

    def _ended(self, claimed: Claimed, state: str, text: str) -> dict[str, Any]:
        reply = rows.sealed_reply(self._sealer, claimed.id, text[:LONGEST_REPLY]) if text else None
        return {"state": state, "reply": reply, "due": None, "failures": 0, "last_code": None}

    def _later(self, claimed: Claimed, error: Exception) -> _Outcome:
        code = error.stable_code if isinstance(error, GatewayError) else type(error).__name__
        log.warning("dispute", ticket=claimed.id, region=claimed.region, code=code, failures=claimed.failures + 1)
        due = self._clock() + self._retry.delay(claimed.failures + 1, random.random)
        return _Outcome({"failures": claimed.failures + 1, "last_code": code[:64], "due": due}, "")

    def _settle(self, tx: Connection, claimed: Claimed, said: Mapping[str, Any], outcome: _Outcome) -> None:
        """Write what came of it, and its evidence where something did; only whoever holds the lease may."""
        now = self._clock()
        if rows.settle(tx, claimed, outcome.values, now) and outcome.reason:
            record(tx, _exchange(claimed, said, outcome, now), now=now)


def _may_still_go(tx: Connection, consent: str | None, request: DisputeRequest, now: datetime) -> bool:
    """Say whether the consent that a report rests on is live still, if it rests on one (PIPL art. 15)."""
    if consent is None:
        return True
    carried = [one for one in request.consents if one.id == consent]
    if carried:
        return any(one.expires_at > now for one in carried)
    c = consents.c
    live = select(c.id).where(c.id == consent, c.revoked_at.is_(None), c.expires_at > now)
    return tx.execute(live).first() is not None


def _said(claimed: Claimed, said: Mapping[str, Any], request: DisputeRequest) -> dict[str, Any]:
    """Return a report in our own words (pack `certificate-dispute`)."""
    field = {} if request.field is None else {"field": request.field}
    return {
        "ticket": claimed.id,
        "identifier": request.identifier,
        **field,
        "statement": request.statement,
        "purpose": request.purpose,
        "organisation": said["organisation"],
        "operator": request.operator,
        "item": request.item.model_dump(mode="json"),
        "case": request.case,
    }


def _checked(number: str, region: str) -> str:
    """Return an issuer's number if it can be kept. Raises RegionUncertain."""
    if not 0 < len(number) <= LONGEST_NUMBER or not number.isprintable():
        raise RegionUncertain("The issuer's number of the report cannot be used.", region=region)
    return number


def _exchange(claimed: Claimed, said: Mapping[str, Any], outcome: _Outcome, now: datetime) -> Exchange:
    request = said["request"]
    return Exchange(
        action=ACTION,
        outcome=outcome.outcome,
        reason=outcome.reason,
        who={"worker": claimed.owner},
        what={"case": request["case"], "type": claimed.type_code, "region": claimed.region, "ticket": claimed.id},
        purpose=f"{request['purpose_code']}: {request['purpose']}",
        received_at=now,
        forwarded_at=outcome.asked_at,
        answered_at=outcome.answered_at,
        parts=outcome.parts or {},
    )
