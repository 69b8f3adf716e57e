"""Certificates of open cases are asked about again, until the cases are decided (复核), and what follows.

Owns: asking in time, before a case is handed over and as long as it is open, and what a changed standing means for the
case: a fact in its timeline, and the way back to whoever filed it while it is still here; at its region, a person who
tells the region. An issuer that is not heard has said nothing: it is asked again. Leaves to `certificates.recheck`: the
question. To `recognised`: the rows. To `attempt`: a case that is about to leave.

The question is the case's own: it rests on the grant, the consents and the registration of the client that filed it, as
they are then. Where one of them is missing nobody is asked, and a person looks.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection, select

from gateway.certificates.recheck import Rechecked
from gateway.certificates.request import NamedRequest
from gateway.certificates.types import CertificateType
from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing
from gateway.domain.submission import ENDS, State
from gateway.errors import (
    CallerError,
    CertificateChanged,
    CertificateNotAskable,
    CertificateUnconfirmed,
    GatewayError,
    NotPermitted,
    RegionResting,
)
from gateway.policy.grants import Capability
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import submissions
from gateway.submissions import queue, recognised
from gateway.submissions.certified import rechecked_after
from gateway.submissions.events import GATEWAY, EventLog
from gateway.submissions.parcels import open_body
from gateway.submissions.recognised import CHANGED, EARLY, STALE, UNCONFIRMED, Recognised, Said
from gateway.submissions.retry import RetryPolicy
from gateway.submissions.story import locked
from gateway.submissions.withdrawals import stop_before_it_leaves
from gateway.telemetry import Metrics
from gateway.waiting import wait

log = structlog.get_logger("rechecks")

POLL_SECONDS = 1.0
LEASE = timedelta(minutes=2)
"""How long one question may take, waiting for its turn included; then another replica asks, which does no harm."""
DECIDED = ENDS | {State.DECIDED}
"""Where a case stands when it is decided: what its certificates are worth later is nothing to it."""
UNDER_WAY = timedelta(minutes=15)
"""How long the hand-over of a case may be under way, before it is looked again whether its region has it."""
REFUSED = timedelta(days=1)
"""When a question that was not permitted is put again: the grant may be there again by then."""
BACK_OFF = RetryPolicy(0, timedelta(seconds=30), timedelta(hours=1))
"""How soon an issuer that was not heard is asked again."""
_BATCH = 4
"""Questions to one issuer at a time: those of callers, who wait for the answer, come first."""
_TRIES = 3


class Ask(Protocol):
    """Asks an issuer."""

    def __call__(self, caller: Caller, capability: Capability, request: NamedRequest) -> Awaitable[Rechecked]:
        """Raise InvalidRequest or NotPermitted."""
        ...


FilerOf = Callable[[str], Awaitable[Caller | None]]
"""Finds whoever filed a case, as registered now, by the owner of the case; None when there is nobody any more."""


@dataclass(frozen=True, slots=True)
class _Case:
    """What a question about a certificate of a case says of the case."""

    owner: str
    state: State
    item_code: str
    purpose_code: str
    body: Mapping[str, Any]


class Rechecks:
    """Asks about certificates of cases again."""

    def __init__(
        self,
        *,
        store: Store,
        sealer: Sealer,
        events: EventLog,
        ask: Ask,
        filer_of: FilerOf,
        types: Mapping[str, CertificateType],
        clock: Clock,
        metrics: Metrics,
        resting: Callable[[str], bool] = lambda _issuer: False,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._events = events
        self._ask = ask
        self._filer_of = filer_of
        self._types = types
        self._clock = clock
        self._metrics = metrics
        self._resting = resting
        self._owner = secrets.token_hex(8)

    # --- as long as a case is open ---------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Look again and again until `stopping`."""
        serving: dict[str, asyncio.Task[None]] = {}
        try:
            while not stopping.is_set():
                for issuer in await self._due():
                    if issuer not in serving or serving[issuer].done():  # one that is slow holds up no other
                        serving[issuer] = asyncio.create_task(self._serve(issuer))
                await wait(stopping, POLL_SECONDS)
        finally:
            for task in serving.values():
                task.cancel()
            await asyncio.gather(*serving.values(), return_exceptions=True)

    async def turn(self) -> None:
        """Ask about all that is due."""
        await asyncio.gather(*(self._serve(issuer) for issuer in await self._due()))

    async def _due(self) -> Sequence[str]:
        try:
            return await self._store.read(partial(recognised.issuers_due, now=self._clock()))
        except GatewayError as error:
            log.warning("certificates not looked at", code=error.stable_code, detail=error.detail)
            return []

    async def _serve(self, issuer: str) -> None:
        """Ask one issuer about all that is due, a few at a time; one that is left alone for a moment about nothing.

        What has grown too old meanwhile is told all the same.
        """
        while True:
            resting = self._resting(issuer)
            claiming = partial(
                recognised.claim, issuer=issuer, owner=self._owner, now=self._clock(),
                lease=LEASE, limit=_BATCH, stale=resting,
            )  # fmt: skip
            try:
                taken = await self._store.write(claiming)
            except GatewayError as error:  # the store is away; the next look finds them again
                log.warning("certificates not taken", issuer=issuer, code=error.stable_code, detail=error.detail)
                return
            await asyncio.gather(*(self._attempt(one, resting=resting) for one in taken))
            if len(taken) < _BATCH:
                return

    async def _attempt(self, one: Recognised, *, resting: bool) -> None:
        """Ask, and write what came of it. A bug or a lost key loses nothing: the lease ends, and it is tried again."""
        try:
            await (self._left_alone(one) if resting else self._asked(one))
        except (CertificateChanged, CertificateUnconfirmed, CertificateNotAskable):
            pass  # written down, and all that follows
        except GatewayError as error:
            log.warning("certificate not asked about", case=one.submission_id, code=error.stable_code)
        except Exception:
            log.exception("asking about a certificate failed unexpectedly")

    # --- before a case is handed over --------------------------------------------------------------------------------

    async def require(self, submission_id: str) -> None:
        """Let a case go out whose certificates are all in force, asking where that was not confirmed lately.

        Raises CertificateChanged, CertificateUnconfirmed, which passes, or CertificateNotAskable.
        """
        for one in await self._of_case(submission_id):
            await self._require(one)

    async def _require(self, one: Recognised) -> None:
        for _ in range(_TRIES):
            now = self._clock()
            if one.holds(now):
                return
            if one.is_known(now):
                raise _changed(one.code, one.standing)
            if self._resting(one.issuer):
                raise _unconfirmed(one, "it is left alone for a moment")
            if await self._asked(one):
                return
            again = await self._of_case(one.submission_id)  # a notice or another replica has come between
            one = next(found for found in again if found.position == one.position)
        raise CertificateUnconfirmed("The certificate is being verified elsewhere.", detail=one.code)

    async def _of_case(self, submission_id: str) -> Sequence[Recognised]:
        return await self._store.read(lambda tx: recognised.of_case(tx, submission_id))

    # --- asking ----------------------------------------------------------------------------------------------------

    async def _asked(self, one: Recognised) -> bool:
        """Ask and write down what came of it. Return whether that counts: nothing has come between.

        Raises CertificateChanged, CertificateUnconfirmed, CertificateNotAskable.
        """
        case = await self._store.read(lambda tx: self._case(tx, one.submission_id))
        if case.state in DECIDED:
            return await self._write(one, "over", lambda tx, now: self._over(tx, one, now))
        try:
            told = await self._put(one, case)
        except CallerError as error:
            why = error  # the name of an exception ends with its clause
            await self._write(one, "refused", lambda tx, now: self._refused(tx, one, why, now))
            text = "Whoever filed the case may not ask about its certificate any more."
            raise CertificateNotAskable(text, detail=f"{one.code}: {error}") from error
        if told.standing is Standing.UNVERIFIABLE:
            await self._write(one, "unverifiable", lambda tx, now: self._unheard(tx, one, told.reason, now))
            raise _unconfirmed(one, told.reason)
        outcome = "confirmed" if told.standing is Standing.VALID else "changed"
        counts = await self._write(one, outcome, lambda tx, now: self._heard(tx, one, told, now))
        if counts and told.standing is not Standing.VALID:
            raise _changed(one.code, told.standing)
        return counts

    async def _left_alone(self, one: Recognised) -> None:
        """Write down that nobody can say what a certificate is worth, without asking an issuer that only fails."""
        case = await self._store.read(lambda tx: self._case(tx, one.submission_id))
        if case.state in DECIDED:
            await self._write(one, "over", lambda tx, now: self._over(tx, one, now))
            return
        reason = f"{RegionResting.code}: {RegionResting.title}"
        await self._write(one, "unverifiable", lambda tx, now: self._unheard(tx, one, reason, now))

    async def _put(self, one: Recognised, case: _Case) -> Rechecked:
        """Ask the issuer as whoever filed the case. Raises NotPermitted, InvalidRequest, Unavailable."""
        caller = await self._filer_of(case.owner)
        if caller is None:
            raise NotPermitted("Whoever filed the case is not registered any more.", code="certificate.no_filer")
        said = recognised.opened(self._sealer, one)
        return await self._ask(caller, Capability(one.capability), _request(one, said, case))

    def _case(self, tx: Connection, submission_id: str) -> _Case:
        c = submissions.c
        columns = (c.client_id, c.state, c.item_code, c.purpose_code, c.body)
        row = tx.execute(select(*columns).where(c.id == submission_id)).one()
        body = open_body(self._sealer, submission_id, row.body)
        return _Case(row.client_id, State(row.state), row.item_code, row.purpose_code, body)

    async def _write(self, one: Recognised, outcome: str, unit: Callable[[Connection, datetime], bool]) -> bool:
        try:
            written = await self._store.write(lambda tx: unit(tx, self._clock()))
        except _Overtaken:
            return False
        if written:
            self._metrics.certificate_recheck(one.issuer, outcome)
            log.info("certificate", case=one.submission_id, issuer=one.issuer, outcome=outcome)
        return written

    # --- what came of it -------------------------------------------------------------------------------------------

    def _heard(self, tx: Connection, one: Recognised, told: Rechecked, now: datetime) -> bool:
        """Write what the issuer says, and what follows from it. The delivery is decided before the case is locked."""
        in_force = told.standing is Standing.VALID
        stopped = not in_force and stop_before_it_leaves(tx, one.submission_id, now)
        case = locked(tx, one.submission_id)
        if case is None:
            raise LookupError(one.submission_id)
        state = State(case["state"])
        waits = not in_force and not stopped and state is State.COLLECTED
        follow = _Follow(told.standing is not one.standing, stopped, waits)
        decided = state in DECIDED  # meanwhile: what it was decided upon stays as it was then
        values = {"due": None} if decided else self._learnt(one, told, follow, now)
        if not recognised.settle(tx, one, values):
            if stopped:
                raise _Overtaken("Something was faster.")  # so that the delivery goes on as it was
            return False
        if decided:
            self._explained(tx, one, now)
        else:
            self._follow(tx, case, one, told, follow, now)
        return True

    def _learnt(self, one: Recognised, told: Rechecked, follow: _Follow, now: datetime) -> dict[str, Any]:
        """Return what the row says after an answer."""
        limit = rechecked_after(self._types, one.kind)
        verified_at = told.answered_at or told.since
        return {
            "standing": str(told.standing),
            "verified_at": verified_at,
            "good_until": verified_at + limit,
            "evidence_id": told.evidence_id,
            "followed": not follow.waits,
            "failures": 0,
            "last_code": None,
            "noticed_at": None,
            "due": now + UNDER_WAY if follow.waits else verified_at + limit * EARLY,
            **({"changed_at": now} if follow.changed else {}),
        }

    def _follow(
        self, tx: Connection, case: Mapping[str, Any], one: Recognised, told: Rechecked, follow: _Follow, now: datetime
    ) -> None:
        if follow.changed:
            detail = {
                "code": one.code, "standing": str(told.standing), "before": str(one.standing),
                "needed": told.standing is not Standing.VALID, "evidence": told.evidence_id,
            }  # fmt: skip
            self._events.note(tx, one.submission_id, CHANGED, now, detail, str(told.standing))
        if told.standing is Standing.VALID:
            if follow.changed or one.last_code:
                self._explained(tx, one, now)
        elif follow.stopped:
            self._give_back(tx, one, told.standing, now)
        elif not follow.waits and (follow.changed or not one.followed):
            reason = f"the certificate for its material {one.code} is {told.standing}: tell the region, or the filer"
            self._for_a_person(tx, case, one, reason, now)

    def _give_back(self, tx: Connection, one: Recognised, standing: Standing, now: datetime) -> None:
        error = _changed(one.code, standing)
        detail = {"code": error.stable_code, "reason": error.public, "by": GATEWAY}
        self._events.ours(tx, one.submission_id, State.RETURNED, now, detail)
        queue.cancel_waiting(tx, one.submission_id, now)

    def _unheard(self, tx: Connection, one: Recognised, reason: str | None, now: datetime) -> bool:
        """Ask again later. That a proof has grown too old meanwhile is told once."""
        locked(tx, one.submission_id)
        stale = now >= one.good_until
        failures = one.failures + 1
        values = {
            "failures": failures,
            "last_code": STALE if stale else str(Standing.UNVERIFIABLE),
            "due": now + BACK_OFF.delay(failures, random.random),
        }
        if not recognised.settle(tx, one, values):
            return False
        if stale and one.last_code != STALE:
            detail = {"code": one.code, "why": str(Standing.UNVERIFIABLE), "reason": reason}
            self._events.note(tx, one.submission_id, UNCONFIRMED, now, detail, str(Standing.UNVERIFIABLE))
        return True

    def _refused(self, tx: Connection, one: Recognised, error: GatewayError, now: datetime) -> bool:
        """Have a person look. The same refusal again is told no more."""
        case = locked(tx, one.submission_id)
        code = error.stable_code
        values = {"failures": one.failures + 1, "last_code": code, "due": now + REFUSED}
        if not recognised.settle(tx, one, values):
            return False
        if case is not None and one.last_code != code:
            detail = {"code": one.code, "why": code, "reason": error.public}
            self._events.note(tx, one.submission_id, UNCONFIRMED, now, detail, code)
            reason = f"the certificate for its material {one.code} may not be asked about any more: {code}"
            self._for_a_person(tx, case, one, reason, now)
        return True

    def _over(self, tx: Connection, one: Recognised, now: datetime) -> bool:
        """Ask no more, and leave nobody a question about a case that is decided."""
        if not recognised.settle(tx, one, {"due": None}):
            return False
        self._explained(tx, one, now)
        return True

    def _explained(self, tx: Connection, one: Recognised, now: datetime) -> None:
        self._events.conflicts.explained_of_case(tx, one.submission_id, _name(one), now)

    def _for_a_person(
        self, tx: Connection, case: Mapping[str, Any], one: Recognised, reason: str, now: datetime
    ) -> None:
        told = {"event_id": _name(one), "submission_id": one.submission_id, "number": "", "material": one.code}
        self._explained(tx, one, now)  # what it said before is over
        self._events.conflicts.keep(tx, case["handling_region"], told, reason, now)


@dataclass(frozen=True, slots=True)
class _Follow:
    """What is known of a case whose certificate was asked about.

    `stopped`: it had not left, and does not; `waits`: its hand-over is under way, and nobody knows yet.
    """

    changed: bool
    stopped: bool
    waits: bool


class _Overtaken(GatewayError):
    """A notice or another replica was faster, so that nothing of what was learnt is written."""


def _changed(code: str, standing: Standing) -> CertificateChanged:
    text = (
        f"The certificate that stands for material {code} is {standing}: "
        "file again with the material itself, or with another certificate."
    )
    return CertificateChanged(text)


def _unconfirmed(one: Recognised, reason: str | None) -> CertificateUnconfirmed:
    return CertificateUnconfirmed(f"The issuer {one.issuer} was not heard.", detail=reason or "")


def _name(one: Recognised) -> str:
    """Return what a question about a certificate is called among what waits for a person."""
    return f"certificate {one.position} of {one.submission_id}"


def _request(one: Recognised, said: Said, case: _Case) -> NamedRequest:
    applicant = case.body["applicant"]
    return NamedRequest.model_validate(
        {
            "holder_role": "applicant",
            "operator": said.operator or GATEWAY,
            "item": {"code": case.item_code, "name": case.body["item"]["name"]},
            "case": one.submission_id,
            "purpose_code": case.purpose_code,
            "purpose": said.purpose,
            "legal_basis": said.legal_basis,
            "identifier": said.identifier,
            "holder": {"name": applicant["name"], "document": applicant["document"]},
            "certificate_type": one.kind,
            "issuer": one.issuer,
        }
    )
