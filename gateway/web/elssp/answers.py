"""Answers in the form of GB/T 36906: head and data.

Owns: what the services' answers become, and the parts that answers consist of. Leaves to `statuses`: codes; to `words`:
the elements of a certificate.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.claims import Match
from gateway.certificates.file_checks import FileAnswer
from gateway.certificates.files.verdict import SealVerdict
from gateway.certificates.handing import HandedOut, reason_of
from gateway.certificates.lookup import LookupAnswer
from gateway.certificates.named import VerifyAnswer
from gateway.certificates.types import CertificateType
from gateway.domain.certificate import Standing
from gateway.errors import GatewayError, MappingFailed
from gateway.web.api.certificate_files import file_name
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


# --- files -------------------------------------------------------------------------------------------------------


def file(_words: Words) -> tuple[Part, ...]:
    """Return the parts of an answer with a file."""
    about = (
        Part("ZZBS", required=True), Part("FileName", required=True), Part("FileType", required=True),
        Part("FileSize", "long", required=True), Part("FileDigest", required=True), Part("FileState", required=True),
        Part("FileData", "base64Binary", required=True),
    )  # fmt: skip
    return (Part("dataList", (*_ENTRY, *about), many=True),)


def handed_out(handed: HandedOut) -> Outcome:
    """Return a file, in base64, with the status of its certificate: it is handed out whatever that is worth now."""
    status = OF_STANDING[handed.standing]
    told = {
        "CertificateStatus": int(status),
        "StatusMessage": WORDS[status],
        "IssuedIn": handed.issuer,
        "ZZBS": handed.identifier,
        "FileName": file_name(handed),
        "FileType": handed.media_type,
        "FileSize": len(handed.data),
        "FileDigest": handed.sha256,
        "FileState": "copy" if handed.is_copy else reason_of(handed.verdict),
        "FileData": base64.b64encode(handed.data).decode(),
    }
    return Outcome(status, {"dataList": [told]}, handed.evidence_id)


def link(_words: Words) -> tuple[Part, ...]:
    """Return the parts of an answer with an address that serves once."""
    return (Part("dataList", (Part("DownloadUrl", required=True), Part("ExpiresAt", "dateTime")), many=True),)


def file_checked(words: Words) -> tuple[Part, ...]:
    """Return the parts of the verdict on a file."""
    seal = (
        Part("SealName"), Part("SealOwner"), Part("SignedAt", "dateTime"), Part("Genuine", "boolean", required=True),
        Part("Reason"),
    )  # fmt: skip
    about = (
        Part("FileVerdict", required=True), Part("FileGenuine", "boolean", required=True),
        Part("FileDigest", required=True), Part("FileProblem"), Part("Seal", seal, many=True),
    )  # fmt: skip
    return (Part("dataList", (*_ENTRY, *words.elements, *about), many=True),)


def file_verified(words: Words, answer: FileAnswer) -> Outcome:
    """Return what a file is worth: not genuine whatever its certificate is, else what its issuer says."""
    certificate = verified(words, answer.answer)
    told = {
        **entry(words, answer.answer.answer),
        **_present(
            FileVerdict=str(answer.verdict), FileGenuine=answer.file.genuine, FileDigest=answer.file.sha256,
            FileProblem=answer.file.problem or None, Seal=[_seal(one) for one in answer.file.seals],
        ),
    }  # fmt: skip
    status = certificate.status if answer.file.genuine else Status.NOT_GENUINE
    return Outcome(status, {"dataList": [told]}, certificate.evidence)


def _seal(seal: SealVerdict) -> dict[str, Any]:
    return _present(
        SealName=seal.seal_name, SealOwner=seal.owner, SignedAt=seal.signed_at, Genuine=seal.genuine,
        Reason=seal.failure.reason if seal.failure is not None else None,
    )  # fmt: skip


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
