"""Errors in certificates, reported to whoever issued them (异议处理, 纠错).

Owns: taking a report once, with its evidence in one transaction, before anybody is told; and what its reporter sees of
it. Whether the certificate is changed is the issuer's affair: here is a ticket number, and the issuer's reply. Leaves
to `dispute_worker`: telling the issuer. To `permission`: who may report.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from gateway.certificates import dispute_rows as rows
from gateway.certificates.inquiry import Inquiry
from gateway.certificates.permission import Question
from gateway.certificates.questions import Questions
from gateway.certificates.request import DisputeRequest
from gateway.certificates.search import Permitted
from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.identifiers import case_number_problem
from gateway.errors import Conflict, FieldProblem, GatewayError, InvalidRequest, NotFound, NotOffered
from gateway.evidence import Exchange, record
from gateway.evidence.record import new_evidence_id, who_is
from gateway.policy.grants import Capability
from gateway.storage import Store
from gateway.submissions.materials import owner_of
from gateway.submissions.owned import said_digest

ACTION = "certificate.dispute"
_TICKET = re.compile(r"DS[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Dispute:
    """A report as its reporter sees it.

    `number` is the issuer's own, once it has it; `reply` what it answered. `replayed`: it was here before.
    """

    ticket: str
    reference: str
    region: str
    state: str
    number: str | None
    reply: str | None
    reported_at: datetime
    updated_at: datetime
    evidence_id: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Disputes:
    """Takes reports."""

    questions: Questions
    inquiry: Inquiry
    sealer: Sealer

    async def report(self, caller: Caller, request: DisputeRequest) -> Dispute:
        """Take a report, or find the one that was made before under its reference.

        Raises InvalidRequest, NotPermitted, NotOffered where the issuer takes no reports, and Conflict where the
        reference names another one.
        """
        digest = said_digest(request.model_dump(mode="json"))
        known = await self._store.read(lambda tx: rows.earlier(tx, owner_of(caller), request.reference))
        if known is not None:
            return await self._again(caller, request, known, digest)
        permitted, _ = await self.inquiry.let_through(
            ACTION, caller, request, {}, lambda at: self._question(caller, request, at)
        )
        row, exchange = self._row(caller, request, digest, permitted[0])
        if await self._store.write(lambda tx: self._write(tx, row, exchange)):
            return self._shown(row)
        taken = await self._store.read(lambda tx: rows.earlier(tx, owner_of(caller), request.reference))
        return await self._again(caller, request, taken or row, digest)  # at the same time, by another request

    async def show(self, caller: Caller, ticket: str) -> Dispute:
        """Return what became of a report. Raises NotFound, also for one of somebody else."""
        found = None
        if _TICKET.fullmatch(ticket):
            found = await self._store.read(lambda tx: rows.find(tx, ticket, owner_of(caller)))
        if found is None or not self._is_theirs(caller, found):
            raise NotFound("There is no such report of yours.", code="certificate.dispute_not_found")
        return self._shown(found)

    # --- details -----------------------------------------------------------------------------------------------------

    @property
    def _store(self) -> Store:
        return self.inquiry.witness.store

    def _question(self, caller: Caller, request: DisputeRequest, at: datetime) -> Sequence[Question]:
        questions = self.questions.of_named(caller, request, Capability.DISPUTE_CERTIFICATES, at)
        if request.holder is None and case_number_problem(request.case) is None:
            problem = FieldProblem(
                "holder", "must be named for a case of this gateway: it is held against it", "missing"
            )
            raise InvalidRequest("Some fields are not valid; see `problems`.", problems=[problem])
        for question in questions:
            if not question.region.tells("dispute"):
                raise _takes_none(question)
        return questions

    def _row(
        self, caller: Caller, request: DisputeRequest, digest: str, permitted: Permitted
    ) -> tuple[dict[str, Any], Exchange]:
        question, now = permitted.question, self.inquiry.clock()
        ticket, evidence_id = "DS" + secrets.token_hex(16), new_evidence_id()
        request_said = request.model_dump(mode="json")
        said = {
            "request": request_said,
            "organisation": caller.organisation,
            # Within one territory nothing rests on a consent that came along: its end ends no report.
            "consent": permitted.consent if question.crosses else None,
            "evidence": evidence_id,
        }
        row = {
            "id": ticket,
            "client_id": owner_of(caller),
            "client_reference": request.reference,
            "digest": digest,
            "region": question.region.id,
            "type_code": question.kind.code,
            "body": rows.sealed_body(self.sealer, ticket, said),
            "state": rows.OPEN,
            "number": None,
            "reply": None,
            "due": now,
            "created_at": now,
            "updated_at": now,
        }
        return row, _exchange(question, request, ticket, orjson.dumps(request_said))

    def _write(self, tx: Connection, row: Mapping[str, Any], exchange: Exchange) -> bool:
        if not rows.put(tx, row):
            return False
        evidence_id = rows.open_body(self.sealer, row)["evidence"]
        record(tx, exchange, now=self.inquiry.clock(), evidence_id=evidence_id)
        return True

    async def _again(self, caller: Caller, request: DisputeRequest, known: Mapping[str, Any], digest: str) -> Dispute:
        """Return the report that was made before. Raises Conflict, with its evidence, when it said something else."""
        if known["digest"] == digest and self._is_theirs(caller, known):
            return self._shown(known, replayed=True)
        text = f"Another report was made under this reference: {known['id']}."
        error: GatewayError = Conflict(text, code="certificate.dispute_differs")
        await self.inquiry.witness.refused(ACTION, caller, request, {}, error, self.inquiry.clock())
        raise error

    def _is_theirs(self, caller: Caller, row: Mapping[str, Any]) -> bool:
        """Say whether a report is of the person for whom a caller acts, if it acts for anybody."""
        if caller.acting is None:
            return True
        request = DisputeRequest.model_validate(rows.open_body(self.sealer, row)["request"])
        parties = [party.document for party in (request.holder, request.agent) if party is not None]
        return any(caller.acting.is_for(document.type, document.number) for document in parties)

    def _shown(self, row: Mapping[str, Any], *, replayed: bool = False) -> Dispute:
        said = rows.open_body(self.sealer, row)
        return Dispute(
            row["id"], row["client_reference"], row["region"], row["state"], row["number"],
            rows.open_reply(self.sealer, row), row["created_at"], row["updated_at"], said["evidence"], replayed,
        )  # fmt: skip


def _takes_none(question: Question) -> NotOffered:
    issuer = question.kind.definer or "the body that issued it"
    text = (
        f"{question.region.id} takes no reports about certificates over this gateway. Have the holder tell {issuer},"
        " with the certificate's identifier and what shows the error; it stays as it is until they correct it."
    )
    return NotOffered(text, code="certificate.takes_no_disputes", region=question.region.id)


def _exchange(question: Question, request: DisputeRequest, ticket: str, said: bytes) -> Exchange:
    return Exchange(
        action=ACTION,
        outcome="done",
        reason="taken",
        who={**who_is(question.caller), "operator": request.operator},
        what={
            "case": request.case,
            "item": request.item.code,
            "type": question.kind.code,
            "region": question.region.id,
            "ticket": ticket,
            "legal_basis": request.legal_basis,
        },
        purpose=f"{request.purpose_code}: {request.purpose}",
        received_at=question.received_at,
        parts={"report": said, "certificate": request.identifier.encode()},
    )
