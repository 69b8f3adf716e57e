"""One certificate that is named: what is written in it (取数), and what it is worth and says (核验).

Owns: that values are given out only where a grant lets them, and otherwise compared here: match or mismatch, per field.
A standing alone may be remembered for minutes; whatever needs the certificate asks its issuer. Leaves to `inquiry`: the
way there. To `questions`: which certificate is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.claims import Match, compared, flat, restricted
from gateway.certificates.inquiry import Inquired, Inquiry
from gateway.certificates.lookup import LookupAnswer
from gateway.certificates.permission import Question
from gateway.certificates.questions import Questions
from gateway.certificates.request import DataRequest, HolderNamed, NamedRequest, VerifyRequest
from gateway.certificates.states import Remembered, States, noticed_since
from gateway.certificates.witness import Report
from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing
from gateway.errors import FieldProblem, GatewayError, InvalidRequest
from gateway.evidence import record
from gateway.policy.grants import Capability
from gateway.policy.rulefile import ANY

READ, VERIFY = "certificate.data", "certificate.verify"


@dataclass(frozen=True, slots=True)
class VerifyAnswer:
    """What a certificate is worth, and how the claims about it stand.

    `remembered` is the evidence of the answer that a remembered standing comes from.
    """

    answer: CertificateAnswer
    claims: Mapping[str, Match]
    evidence_id: str
    remembered: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of the certificate beside the question, for its evidence: words (`what`) and exact bytes."""

    what: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamedCertificates:
    """Answers questions about one certificate."""

    questions: Questions
    inquiry: Inquiry
    states: States

    # --- data ------------------------------------------------------------------------------------------------------

    async def data(self, caller: Caller, request: DataRequest) -> LookupAnswer:
        """Return what is written in it, as far as the grants let it out.

        Raises InvalidRequest or NotPermitted; a region's failure is part of the answer.
        """
        inquired = await self.inquiry.make(
            READ, caller, request, _named(request),
            lambda at: self.questions.of_named(caller, request, Capability.READ_CERTIFICATES, at),
        )  # fmt: skip
        answers = _numbered([of_holder(answer, request) for answer in inquired.answers], request.number)
        await require_involved(self.inquiry, READ, caller, request, inquired.questions[0], answers)
        allowed = {question.region.id: self._allowed(question, request) for question in inquired.questions}
        told = [_with(answer, allowed[answer.issuer]) for answer in answers]
        report = replace(inquired.report(READ, request), answers=answers, what={"fields": _fields_of(told)})
        evidence_id = await self.inquiry.witness.answered(report)
        return LookupAnswer(
            told, inquired.asked_at, inquired.answered_at, evidence_id,
            inquired.silent, inquired.not_asked,
        )  # fmt: skip

    def _allowed(self, question: Question, request: DataRequest) -> frozenset[str]:
        """Return the fields that are wanted and may be given out of what this issuer tells, `*` for all."""
        granted = self.inquiry.permission.grants.readable(question.ask())
        if request.fields is None:
            return granted
        wanted = frozenset(request.fields)
        return wanted if ANY in granted else frozenset(name for name in wanted if _covered(name, granted))

    # --- verification ----------------------------------------------------------------------------------------------

    async def verify(self, caller: Caller, request: VerifyRequest, seen: Seen | None = None) -> VerifyAnswer:
        """Return what it is worth now, and how each claim stands; values are never told.

        A standing alone may be as old as its type allows, or younger by `max_age`. Raises InvalidRequest or
        NotPermitted; a region's failure is part of the answer.
        """

        def build(at: datetime) -> Sequence[Question]:
            require_one_name(request)
            if request.file is not None:
                problem = FieldProblem(
                    "file", "is verified by a request of its own: POST /v1/certificates/verify", "alone"
                )
                raise InvalidRequest("A file cannot be verified here.", problems=[problem])
            if request.code is not None:
                return [self.questions.of_code(caller, request, request.code, Capability.VERIFY_CERTIFICATES, at)]
            return self.questions.of_named(caller, request, Capability.VERIFY_CERTIFICATES, at)

        permitted, not_asked = await self.inquiry.let_through(VERIFY, caller, request, _named(request), build)
        if seen is None and request.identifier is not None and request.holder is None and not request.claims:
            known = await self._remembered(permitted[0].question, request)
            if known is not None:
                return known
        inquired = await self.inquiry.asked(permitted, not_asked)
        answer = _counting(inquired)
        claims = compared(_claimed_holder(request.holder), answer.certificate or {})
        if request.claims and all(match is Match.MATCH for match in claims.values()):
            # A claim that fits tells something of the holder, who has to do with the case, or with nobody named.
            await require_involved(self.inquiry, VERIFY, caller, request, inquired.questions[0], [answer])
            claims |= compared(request.claims, answer.certificate or {})
        more = seen or Seen()
        what = {**more.what, "claims": _on_record(claims)}
        report = replace(inquired.report(VERIFY, request), answers=[answer], what=what, parts=more.parts)
        evidence_id = await self.inquiry.witness.answered(report)
        if answer.certificate is not None and "identifier" in answer.certificate:
            self.states.remember(str(answer.certificate["identifier"]), answer, inquired.since, evidence_id)
        return VerifyAnswer(_bare(answer), claims if answer.certificate is not None else {}, evidence_id)

    async def _remembered(self, question: Question, request: VerifyRequest) -> VerifyAnswer | None:
        """Return the standing that is remembered, recorded as such; None when there is none, or a notice is younger."""
        identifier = request.identifier or ""
        age = question.kind.cached
        if request.max_age is not None:
            age = min(age, timedelta(seconds=request.max_age))
        known = self.states.recall(identifier, self.inquiry.clock(), age)
        if known is None or known.issuer != question.region.id:  # what another issuer said is nothing that was asked
            return None
        reference = self.inquiry.permission.references.of("certificate", identifier)
        exchange = _recalled(question, request, known).exchange()

        def unit(tx: Connection) -> str | None:
            if noticed_since(tx, reference, known.issuer, known.asked_at):
                return None
            return record(tx, exchange, now=self.inquiry.clock())

        evidence_id = await self.inquiry.witness.store.write(unit)
        if evidence_id is None:
            self.states.forget(identifier, known.issuer)
            return None
        return VerifyAnswer(known.answer(), {}, evidence_id, known.evidence_id)


def _recalled(question: Question, request: VerifyRequest, known: Remembered) -> Report:
    return Report(VERIFY, request, [question], [], [known.answer()], what={"remembered": known.evidence_id})


def _named(request: NamedRequest) -> dict[str, object]:
    return {"type": request.certificate_type} if request.certificate_type else {}


def require_one_name(request: VerifyRequest) -> None:
    """Refuse a request that names the certificate in two ways at once. Raises InvalidRequest."""
    given = [name for name in ("identifier", "code", "file") if getattr(request, name) is not None]
    if len(given) > 1:
        problems = [FieldProblem(name, "is one of several names; give one", "ambiguous") for name in given]
        raise InvalidRequest("The certificate is named in several ways.", problems=problems)


async def require_involved(
    inquiry: Inquiry, action: str, caller: Caller, request: NamedRequest, question: Question,
    answers: Sequence[CertificateAnswer],
) -> None:  # fmt: skip
    """Hold the holders whom answers name against the case, before anything is told. Raises NotPermitted."""
    for answer in answers:
        if answer.certificate is None or "holder" not in answer.certificate:
            continue
        try:
            await inquiry.permission.require_involved(question, answer.certificate["holder"]["document"])
        except GatewayError as error:
            await inquiry.witness.refused(action, caller, request, _named(request), error, question.received_at)
            raise


def of_holder(answer: CertificateAnswer, request: NamedRequest) -> CertificateAnswer:
    """Name and number must both fit: a certificate of somebody else than the holder who is named is not found."""
    if answer.certificate is None or request.holder is None or request.identifier is None:
        return answer
    held = compared(_claimed_holder(request.holder), answer.certificate)
    if all(match is Match.MATCH for match in held.values()):
        return answer
    return CertificateAnswer(answer.issuer, Standing.NOT_FOUND, answered_at=answer.answered_at)


def has_number(answer: CertificateAnswer, number: str | None) -> bool:
    """Say whether a certificate has this number, where one is wanted."""
    if number is None:
        return True
    return compared({"number": number}, answer.certificate or {})["number"] is Match.MATCH


def _numbered(answers: Sequence[CertificateAnswer], number: str | None) -> list[CertificateAnswer]:
    """Keep the certificates with this number; an issuer that has others alone has none that is meant."""
    if number is None:
        return list(answers)
    kept = [answer for answer in answers if answer.certificate is None or has_number(answer, number)]
    left = {answer.issuer for answer in kept}
    dropped = {answer.issuer: answer for answer in answers if answer.issuer not in left}
    return [
        *kept,
        *(CertificateAnswer(one, Standing.NOT_FOUND, answered_at=a.answered_at) for one, a in dropped.items()),
    ]


def _claimed_holder(holder: HolderNamed | None) -> dict[str, str]:
    if holder is None:
        return {}
    return {
        "holder.name": holder.name,
        "holder.document.type": holder.document.type,
        "holder.document.number": holder.document.number,
    }


_WEIGHT = (
    Standing.VALID, Standing.MATCH, Standing.SUPERSEDED, Standing.RESTRICTED, Standing.EXPIRED, Standing.REVOKED,
    Standing.UNVERIFIABLE, Standing.NO_MATCH, Standing.NOT_FOUND,
)  # fmt: skip
"""Whose word counts of several: one in force, else whichever says most. While an issuer was not heard, nobody can say
that there is nothing."""


def _best(answers: Sequence[CertificateAnswer]) -> CertificateAnswer:
    """Return the answer that counts, of several certificates or issuers."""
    return min(answers, key=lambda answer: _WEIGHT.index(answer.standing))


def _counting(inquired: Inquired) -> CertificateAnswer:
    """Return the answer that counts. That there is nothing, nobody can say while an issuer may not be asked."""
    best = _best(inquired.answers)
    if best.standing not in {Standing.NOT_FOUND, Standing.NO_MATCH} or not inquired.not_asked:
        return best
    left_out = ", ".join(f"{region} ({code})" for region, code in inquired.not_asked.items())
    reason = f"not every issuer that may have one can be asked for you: {left_out}"
    return CertificateAnswer(best.issuer, Standing.UNVERIFIABLE, reason)


def _bare(answer: CertificateAnswer) -> CertificateAnswer:
    """Leave of the certificate what names it and its successor."""
    if answer.certificate is None:
        return answer
    kept = {name: answer.certificate[name] for name in ("identifier", "replaced_by") if answer.certificate.get(name)}
    return replace(answer, certificate=kept or None)


def _fields_of(answers: Sequence[CertificateAnswer]) -> list[str]:
    """Return the names of the fields that are told."""
    return sorted({name for answer in answers for name, _ in flat(answer.certificate or {})})


def _on_record(claims: Mapping[str, Match]) -> dict[str, str]:
    """Return the claims as evidence names them: about fields that there are. A caller's own words are no names."""
    return {name: str(match) for name, match in claims.items() if match is not Match.ABSENT}


def _covered(name: str, granted: frozenset[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in granted)


def _with(answer: CertificateAnswer, allowed: frozenset[str]) -> CertificateAnswer:
    if answer.certificate is None or ANY in allowed:
        return answer
    return replace(answer, certificate=restricted(answer.certificate, set(allowed)))
