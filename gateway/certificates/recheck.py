"""One certificate asked about again, on behalf of the case that rests on it (复核).

Owns: the question, by identifier where the issuer can be asked so and by holder where it cannot, and what of the answer
counts: the very certificate, of the very holder. It goes the way of every question: grant, consent and border are those
of whoever filed the case, as they are now. Leaves to `gateway.submissions.rechecks`: when, and what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.certificates.answers import OF_ONE, CertificateAnswer
from gateway.certificates.claims import Match, compared
from gateway.certificates.directory import Directory
from gateway.certificates.inquiry import Inquiry
from gateway.certificates.permission import Question
from gateway.certificates.questions import Questions
from gateway.certificates.request import HolderNamed, NamedRequest
from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing
from gateway.domain.certificate_identifier import CertificateIdentifier
from gateway.policy.grants import Capability

ACTION = "certificate.recheck"
_SAYS_NOTHING = frozenset({Standing.UNVERIFIABLE, Standing.MATCH})
"""Standings that say nothing of one certificate: the issuer was not heard, or answers yes or no about a holder."""


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What the issuer says now. `answered_at` is None when it said nothing; `reason` then says why.

    `since` is when it was asked: a notice that came later is not in the answer.
    """

    standing: Standing
    reason: str | None
    since: datetime
    answered_at: datetime | None
    evidence_id: str


@dataclass(frozen=True, slots=True)
class Recheck:
    """Asks about certificates again."""

    directory: Directory
    questions: Questions
    inquiry: Inquiry

    async def ask(self, caller: Caller, capability: Capability, request: NamedRequest) -> Rechecked:
        """Ask now. `request` names identifier, holder, type and issuer.

        Raises InvalidRequest or NotPermitted, with its evidence; the issuer's failure is part of the answer.
        """
        since = self.inquiry.clock()
        what = {"type": request.certificate_type}
        named = self._as_asked(request)
        inquired = await self.inquiry.make(
            ACTION, caller, named, what, lambda at: self._questions(caller, capability, named, at)
        )
        answer = _of_it(inquired.answers, request, by_identifier=named.identifier is not None)
        evidence_id = await self.inquiry.witness.answered(replace(inquired.report(ACTION, named), answers=[answer]))
        return Rechecked(answer.standing, answer.reason, since, answer.answered_at, evidence_id)

    def _questions(
        self, caller: Caller, capability: Capability, named: NamedRequest, at: datetime
    ) -> Sequence[Question]:
        """Make the questions. A notice may be why they are put: what was asked before it says nothing of the change."""
        return [replace(one, anew=True) for one in self.questions.of_named(caller, named, capability, at)]

    def _as_asked(self, request: NamedRequest) -> NamedRequest:
        """Leave the identifier out where the issuer is asked by holder, or where it has given one of another form."""
        region = self.directory.regions.get(request.issuer or "")
        if region is not None and region.tells("data") and _is_well_formed(request.identifier or ""):
            return request
        return request.model_copy(update={"identifier": None})


def _is_well_formed(identifier: str) -> bool:
    try:
        CertificateIdentifier.parse(identifier)
    except ValueError:
        return False
    return True


def _of_it(answers: Sequence[CertificateAnswer], request: NamedRequest, *, by_identifier: bool) -> CertificateAnswer:
    """Return the answer about the certificate itself: an issuer that was not heard has not said that it is gone.

    A status alone (`revoked`, and no certificate) is about the one that was asked about, by identifier; asked by
    holder, it does not say which it means.
    """
    for answer in answers:
        if answer.certificate is not None and answer.certificate.get("identifier") == request.identifier:
            return answer if _is_theirs(answer, request.holder) else _not_found(answer)
    alone = next((answer for answer in answers if answer.standing in OF_ONE and answer.certificate is None), None)
    if alone is not None and by_identifier:
        return alone
    unclear = alone or next((answer for answer in answers if answer.standing in _SAYS_NOTHING), None)
    if unclear is None:
        return _not_found(answers[0])
    return replace(unclear, standing=Standing.UNVERIFIABLE, reason=unclear.reason or "the issuer names no certificate")


def _is_theirs(answer: CertificateAnswer, holder: HolderNamed | None) -> bool:
    if holder is None or answer.certificate is None or "holder" not in answer.certificate:
        return True
    claimed = {"holder.document.type": holder.document.type, "holder.document.number": holder.document.number}
    return all(match is Match.MATCH for match in compared(claimed, answer.certificate).values())


def _not_found(answer: CertificateAnswer) -> CertificateAnswer:
    return CertificateAnswer(answer.issuer, Standing.NOT_FOUND, answered_at=answer.answered_at)
