"""Answers in the form of GB/T 36906: head and data.

Owns: what the services' answers become, and the parts that answers consist of. Leaves to `statuses`: codes; to `words`:
the elements of a certificate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.claims import Match
from gateway.certificates.lookup import LookupAnswer
from gateway.certificates.named import VerifyAnswer
from gateway.certificates.types import CertificateType
from gateway.domain.certificate import Standing
from gateway.errors import GatewayError, MappingFailed
from gateway.web.elssp.asked import in_elements
from gateway.web.elssp.shapes import Part
from gateway.web.elssp.statuses import OF_STANDING, WORDS, Status, overall, status_of
from gateway.web.elssp.words import Words
from gateway.web.problems import MOST_PROBLEMS

_NOTHING = frozenset({Standing.NOT_FOUND, Standing.NO_MATCH})

HEAD = (
    Part("status", "int", required=True),
    Part("message", required=True),
    Part("code"),
    Part("detail"),
    Part("evidence"),
    Part(
        "problem",
        (Part("field", required=True), Part("code", required=True), Part("reason", required=True)),
        many=True,
    ),
)
_ENTRY = (
    Part("CertificateStatus", "int", required=True),
    Part("StatusMessage", required=True),
    Part("IssuedIn", required=True),
    Part("AnsweredAt", "dateTime"),
    Part("Reason"),
    Part("Warning", many=True),
)
_UNHEARD = (
    Part("Silent", many=True),
    Part("NotAsked", (Part("IssuedIn", required=True), Part("Reason", required=True)), many=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation came to."""

    status: Status
    data: Mapping[str, Any] = field(repr=False)
    evidence: str | None = None
    detail: str | None = None

    def head(self) -> dict[str, Any]:
        """Return it as `head`."""
        return _present(
            status=int(self.status), message=WORDS[self.status], detail=self.detail, evidence=self.evidence
        )  # fmt: skip


def refused(error: GatewayError) -> dict[str, Any]:
    """Return the `head` of a refusal: its public text, and every problem under the names of elements."""
    problems = in_elements(error.problems)
    status = status_of(error, problems)
    told = [{"field": one.field, "code": one.code, "reason": one.reason} for one in problems[:MOST_PROBLEMS]]
    return _present(
        status=int(status), message=WORDS[status], code=error.stable_code, detail=error.public,
        evidence=error.evidence, problem=told,
    )  # fmt: skip


# --- certificates ------------------------------------------------------------------------------------------------


def certificates(words: Words) -> tuple[Part, ...]:
    """Return the parts of an answer with certificates."""
    return (Part("dataList", (*_ENTRY, *words.elements), many=True), *_UNHEARD)


def listed(words: Words, answer: LookupAnswer) -> Outcome:
    """Return the certificates that were found, each with its own status; and who was not heard or not asked."""
    standings = [one.standing for one in answer.answers]
    unheard = Standing.UNVERIFIABLE in standings or bool(answer.silent or answer.not_asked)
    data = _present(
        dataList=[entry(words, one) for one in answer.answers if one.standing not in _NOTHING],
        Silent=list(answer.silent),
        NotAsked=[{"IssuedIn": region, "Reason": code} for region, code in answer.not_asked.items()],
    )
    detail = "Not every issuer was heard: there may be more; see dataList, Silent and NotAsked." if unheard else None
    return Outcome(overall(standings, unheard=unheard), data, answer.evidence_id, detail)


def entry(words: Words, answer: CertificateAnswer) -> dict[str, Any]:
    """Return what one issuer says: its status here, and the certificate as far as it may be told."""
    status, reason, told = OF_STANDING[answer.standing], answer.reason, {}
    try:
        told = dict(words.certificate(answer.certificate)) if answer.certificate else {}
    except MappingFailed as unsayable:
        named = ", ".join(words.element_of(problem.field) for problem in unsayable.problems)
        status, reason = Status.UNVERIFIABLE, f"the certificate cannot be said in this form: {named}"
    return _present(
        CertificateStatus=int(status), StatusMessage=WORDS[status], IssuedIn=answer.issuer,
        AnsweredAt=answer.answered_at, Reason=reason, Warning=list(answer.warnings), **told,
    )  # fmt: skip


def verification(words: Words) -> tuple[Part, ...]:
    """Return the parts of the answer to a verification."""
    claim = (Part("Name", required=True), Part("Result", required=True))
    extra = (Part("Claim", claim, many=True), Part("RememberedFrom"))
    return (Part("dataList", (*_ENTRY, *words.elements, *extra), many=True),)


def verified(words: Words, answer: VerifyAnswer) -> Outcome:
    """Return what a certificate is worth and how each claim stands; a claim that does not fit is no success."""
    claims = [{"Name": words.element_of(name), "Result": str(match)} for name, match in answer.claims.items()]
    told = {**entry(words, answer.answer), **_present(Claim=claims, RememberedFrom=answer.remembered)}
    status = Status(told["CertificateStatus"])
    if status is Status.OK and any(match is not Match.MATCH for match in answer.claims.values()):
        status = Status.CLAIM_DIFFERS
    nothing = answer.answer.standing in _NOTHING
    return Outcome(status, {} if nothing else {"dataList": [told]}, answer.evidence_id)


# --- types -------------------------------------------------------------------------------------------------------


def types(_words: Words) -> tuple[Part, ...]:
    """Return the parts of a list of types."""
    inside = (
        Part("CertificateType", required=True),
        Part("CertificateTypeCode", required=True),
        Part("CertificateDefineAuthority"),
        Part("CertificateDefineAuthorityCode", required=True),
        Part("IssuedIn", many=True),
    )
    return (Part("dataList", inside, many=True),)


def type_entry(kind: CertificateType, issuers: Sequence[str]) -> dict[str, Any]:
    """Return one type, and the regions at which the caller may ask about it."""
    return _present(
        CertificateType=kind.name, CertificateTypeCode=kind.code, CertificateDefineAuthority=kind.definer or None,
        CertificateDefineAuthorityCode=kind.code[:18], IssuedIn=list(issuers),
    )  # fmt: skip


def surface(_words: Words) -> tuple[Part, ...]:
    """Return the parts of a dictionary of surface fields."""
    return (Part("dataList", (Part("FieldName", required=True), Part("FieldTitle", required=True)), many=True),)


def _present(**said: Any) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None and value != []}
