"""Revocations (撤回同意): the applicant takes back the consent by which a case crosses a border (PIPL art. 15).

Owns: that the consents of a case, and of its parts, are over from then on, as a fact of the case and as evidence. What
has left already stays where it is: that the region ends the case is asked by a withdrawal. Leaves to `borders`: that
nothing goes out any more. To `attempt`: returning a case that has not left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.edge import Edge, Long
from gateway.errors import Conflict, GatewayError
from gateway.evidence import Exchange, record
from gateway.evidence.record import refusal, who_is
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import consents
from gateway.submissions.events import EventLog
from gateway.submissions.materials import owner_of
from gateway.submissions.owned import require_owner
from gateway.submissions.parts import parts_of

REVOKED = "consent.revoked"
"""The fact that a consent of the case was taken back."""
ACTION = "consent.revoke"


class Revocation(Edge):
    """One revocation (`POST /v1/submissions/{id}/consents/revoke`)."""

    reason: Long
    """Why, in the applicant's words; a form's number."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The answer: the consents that are taken back, and since when."""

    submission_id: str
    consents: Sequence[Mapping[str, Any]]
    replayed: bool


class Revocations:
    """Takes consents back. Needs no grant: whoever holds a consent must be able to end it."""

    def __init__(self, store: Store, sealer: Sealer, events: EventLog, clock: Clock) -> None:
        self._store = store
        self._sealer = sealer
        self._events = events
        self._clock = clock

    async def revoke(self, caller: Caller, submission_id: str, said: Revocation) -> Revoked:
        """Take back every consent of a case. Raises NotFound, or Conflict when it rests on none."""
        now = self._clock()
        try:
            return await self._store.write(lambda tx: self._revoke(tx, caller, submission_id, said, now))
        except GatewayError as error:
            what = {"case": submission_id[:64]}
            exchange = refusal(error, action=ACTION, who=who_is(caller), what=what, purpose="", received_at=now)
            error.evidence = await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))
            raise

    def _revoke(self, tx: Connection, caller: Caller, submission_id: str, said: Revocation, now: datetime) -> Revoked:
        require_owner(tx, self._sealer, caller, submission_id)
        c = consents.c
        cases = [*sorted(part["id"] for part in parts_of(tx, submission_id)), submission_id]  # locked in this order
        theirs = and_(c.case_no.in_(cases), c.recorded_by == owner_of(caller))
        over = update(consents).where(theirs, c.revoked_at.is_(None)).values(revoked_at=now)
        taken = tx.execute(over.returning(c.id, c.case_no)).all()
        shown = select(c.id, c.case_no.label("case"), c.recipient, c.revoked_at).where(theirs)
        known = [dict(row) for row in tx.execute(shown.order_by(c.given_at, c.id)).mappings()]
        if not known:
            raise Conflict("The case rests on no consent: it crosses no border.", code="submission.no_consent")
        for case in cases:
            ids = sorted(row.id for row in taken if row.case_no == case)
            if ids:
                self._events.note(tx, case, REVOKED, now, {"consents": ids, "reason": said.reason})
        if taken:
            record(tx, _exchange(caller, submission_id, sorted(row.id for row in taken), now), now=self._clock())
        return Revoked(submission_id, known, replayed=not taken)


def _exchange(caller: Caller, case: str, ids: Sequence[str], now: datetime) -> Exchange:
    return Exchange(
        action=ACTION,
        outcome="done",
        reason="revoked",
        who=who_is(caller),
        what={"case": case, "consents": list(ids)},
        purpose="the applicant's wish",
        received_at=now,
    )
