"""Looking up which certificates a holder has, live, at the regions that issue them (检索).

Owns: the answer as a whole: what a certificate is and what it is worth, and who was not asked or did not answer. What
is written in a certificate is another question (`named`). Leaves to `inquiry`: the way there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.inquiry import Inquiry
from gateway.certificates.questions import Questions
from gateway.certificates.request import LookupRequest
from gateway.domain.caller import Caller

ACTION = "certificate.lookup"
LISTED = ("identifier", "name", "type_code", "issuer", "issued_on", "valid_from", "valid_until", "state", "replaced_by")
"""What a lookup tells of a certificate: enough to know which it is (domain rule P9)."""


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """The answer as a whole, with the evidence id and the times of asking and of the last answer.

    `silent` are regions that had not answered when the time was up; `not_asked` those that the caller may not ask,
    region id → stable code of the reason. Nobody can tell from an answer with either that there is nothing.
    """

    answers: Sequence[CertificateAnswer]
    asked_at: datetime
    answered_at: datetime | None
    evidence_id: str
    silent: Sequence[str]
    not_asked: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CertificateLookup:
    """Answers lookups by holder."""

    questions: Questions
    inquiry: Inquiry

    async def lookup(self, caller: Caller, request: LookupRequest) -> LookupAnswer:
        """Ask now. Raises InvalidRequest or NotPermitted; a region's failure is part of the answer."""
        inquired = await self.inquiry.make(
            ACTION, caller, request, {"type": request.certificate_type},
            lambda at: self.questions.of_lookup(caller, request, at),
        )  # fmt: skip
        evidence_id = await self.inquiry.witness.answered(inquired.report(ACTION, request))
        listed = [_listed(answer) for answer in inquired.answers]
        return LookupAnswer(
            listed, inquired.asked_at, inquired.answered_at, evidence_id, inquired.silent, inquired.not_asked
        )  # fmt: skip


def _listed(answer: CertificateAnswer) -> CertificateAnswer:
    if answer.certificate is None:
        return answer
    shown = {name: answer.certificate[name] for name in LISTED if answer.certificate.get(name) is not None}
    return replace(answer, certificate=shown)
