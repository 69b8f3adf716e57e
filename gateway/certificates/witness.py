"""Evidence of questions about certificates: one row for each, refused ones too.

Owns: what a row says, and which parts it proves by their salted digests: the holder, the identifiers that were found
valid, every issuer's exact words. Leaves to `gateway.evidence`: the row. Nothing else of an answer is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.asking import Told
from gateway.certificates.freshness import Freshness, Issue
from gateway.certificates.permission import Question
from gateway.certificates.request import Frame, HolderNamed
from gateway.certificates.timeliness import Timeliness
from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing
from gateway.errors import GatewayError
from gateway.evidence import Exchange, record
from gateway.evidence.record import HOLDER_PART, IDENTIFIER_PART, refusal, who_is
from gateway.ports import Clock
from gateway.storage import Store


@dataclass(frozen=True, slots=True)
class Report:
    """What one request came to. `parts` are further exact bytes, `what` further names, never a person's."""

    action: str
    frame: Frame
    questions: Sequence[Question]
    told: Sequence[Told]
    answers: Sequence[CertificateAnswer]
    parts: Mapping[str, bytes] = field(default_factory=dict)
    what: Mapping[str, object] = field(default_factory=dict)

    def exchange(self) -> Exchange:
        """Return it as the row of evidence says it; an answer that was remembered counts as one."""
        frame, first = self.frame, self.questions[0]
        answered = [answer.answered_at for answer in self.answers if answer.answered_at is not None]
        return Exchange(
            action=self.action,
            outcome="done" if answered else "failed",
            reason=",".join(sorted({answer.standing for answer in self.answers})),
            who={**who_is(first.caller), "operator": frame.operator},
            what={
                "case": frame.case,
                "item": frame.item.code,
                "type": ",".join(dict.fromkeys(question.kind.code for question in self.questions)),
                "region": ",".join(dict.fromkeys(question.region.id for question in self.questions)),
                "legal_basis": frame.legal_basis,
                **({"mandate": frame.mandate} if frame.mandate else {}),
                **_found(self.answers),
                **self.what,
            },
            purpose=f"{frame.purpose_code}: {frame.purpose}",
            received_at=first.received_at,
            forwarded_at=min((told.asked_at for told in self.told), default=None),
            answered_at=max(answered, default=None),
            parts={
                **_holder(first.holder),
                "answer": b"\n".join(told.raw for told in self.told),
                **_valid(self.answers),
                **self.parts,
            },
        )


@dataclass(frozen=True, slots=True)
class Witness:
    """Writes evidence."""

    store: Store
    clock: Clock
    timeliness: Timeliness
    freshness: Freshness

    async def answered(self, report: Report) -> str:
        """Write what was asked and answered, and judge what came late; return the id of the row."""
        exchange = report.exchange()

        def unit(tx: Connection) -> tuple[str, list[Issue]]:
            now = self.clock()
            return record(tx, exchange, now=now), self.timeliness.note(tx, report.told, now)

        evidence_id, issues = await self.store.write(unit)
        self.freshness.issued(issues)
        return evidence_id

    async def refused(
        self, action: str, caller: Caller, frame: Frame, what: Mapping[str, object], error: GatewayError, at: datetime
    ) -> None:
        """Write a refusal and put its id on the error."""
        exchange = refusal(
            error,
            action=action,
            who={**who_is(caller), "operator": frame.operator},
            what={"case": frame.case, "item": frame.item.code, **what},
            purpose=f"{frame.purpose_code}: {frame.purpose}",
            received_at=at,
        )
        error.evidence = await self.store.write(lambda tx: record(tx, exchange, now=self.clock()))


def _holder(holder: HolderNamed | None) -> dict[str, bytes]:
    return {} if holder is None else {"holder": orjson.dumps(holder.model_dump(mode="json"))}


def _in_force(answers: Sequence[CertificateAnswer]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the certificates that were found valid, each with its issuer; one that is known by identifier alone."""
    return [
        (answer.issuer, answer.certificate)
        for answer in answers
        if answer.standing is Standing.VALID and answer.certificate and "identifier" in answer.certificate
    ]


def _found(answers: Sequence[CertificateAnswer]) -> dict[str, list[str]]:
    """Return who issued the certificates that were found valid, in the order of their parts."""
    found = [issuer for issuer, _ in _in_force(answers)]
    return {"found": found} if found else {}


def _valid(answers: Sequence[CertificateAnswer]) -> dict[str, bytes]:
    """Return identifier and holder of the certificates that were found valid, as their issuers have them."""
    parts: dict[str, bytes] = {}
    for n, (_, one) in enumerate(_in_force(answers)):
        parts[f"{IDENTIFIER_PART}{n}"] = str(one["identifier"]).encode()
        holder = one.get("holder") or {}
        document = holder.get("document") or {}
        if holder.get("name") and document.get("type") and document.get("number"):
            named = {"type": document["type"], "number": document["number"]}
            parts[f"{HOLDER_PART}{n}"] = orjson.dumps({"name": holder["name"], "document": named})
    return parts
