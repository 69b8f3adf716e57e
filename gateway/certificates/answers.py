"""What an issuer says of a certificate, judged: the closed list of answers, per certificate.

Owns: how an issuer's status and certificates become standings, and when an answer is none. An issuer that answers
nonsense, in codes that nobody here knows, or about somebody else makes the answer `unverifiable` with the reason; it
never becomes `not_found`. Pure: no call, no clock. Leaves to `asking`: the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gateway.certificates.request import HolderNamed
from gateway.domain.calendar import local_day
from gateway.domain.certificate import Standing, standing
from gateway.domain.identifiers import zzbs_problem
from gateway.domain.spelling import spelt
from gateway.errors import RegionUncertain
from gateway.mapping.library import PackSet
from gateway.mapping.unknown import is_unknown
from gateway.ports import CertificateReply
from gateway.regions import Region

_WORDS: Mapping[str, Standing] = {
    "not_found": Standing.NOT_FOUND,
    "match": Standing.MATCH,
    "no_match": Standing.NO_MATCH,
    "revoked": Standing.REVOKED,
    "expired": Standing.EXPIRED,
    "restricted": Standing.RESTRICTED,
    "superseded": Standing.SUPERSEDED,
}
"""Status words that are an answer in themselves; `found` is judged per certificate, and the rest is no answer."""

OF_ONE = frozenset({Standing.REVOKED, Standing.EXPIRED, Standing.RESTRICTED, Standing.SUPERSEDED})
"""What a status can say of the one certificate that was asked about; it may come along."""

_NO_ANSWER: Mapping[str, str] = {
    "not_permitted": "the issuer grants this gateway no access to this type",
    "type_unknown": "the issuer does not know this certificate type",
    "no_consent": "the issuer holds no consent of this person",
    "refused": "the issuer refused the question",
}


@dataclass(frozen=True, slots=True)
class CertificateAnswer:
    """What one issuer says: a standing, the certificate where there is one, and warnings about its record.

    `answered_at` is when the issuer said so; None when it said nothing.
    """

    issuer: str
    standing: Standing
    reason: str | None = None
    certificate: Mapping[str, Any] | None = field(default=None, repr=False)
    warnings: Sequence[str] = ()
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom and what a question was about: what of it is named, an answer must fit."""

    holder: HolderNamed | None = None
    identifier: str | None = None


class OfSomebodyElse(RegionUncertain):
    """An issuer answered about another holder or another certificate than it was asked about."""

    code = "certificate.of_somebody_else"


def unverifiable(region: Region, reason: str, answered_at: datetime | None = None) -> CertificateAnswer:
    """Return the answer of an issuer that gave none."""
    return CertificateAnswer(region.id, Standing.UNVERIFIABLE, reason, answered_at=answered_at)


def judge(
    region: Region, packs: PackSet, reply: CertificateReply, wanted: Wanted, now: datetime
) -> list[CertificateAnswer]:
    """Translate a region's status and certificates into our closed list.

    Raises OfSomebodyElse, which counts against the region, and MappingFailed for what cannot be read.
    """
    word = region.certificate_words.get(reply.status)
    said = _WORDS.get(word or "")
    if reply.certificates and (word == "found" or said in OF_ONE):
        theirs = [one for one in _read(region, packs, reply, wanted) if _bears_the_name(one, wanted)]
        if not theirs:
            return [CertificateAnswer(region.id, Standing.NOT_FOUND, answered_at=now)]
        found = [_of_certificate(region, one, now) for one in theirs]
        return found if said is None else [_as_said(one, said) for one in found]
    if word == "found":
        return [unverifiable(region, "the issuer says that there is a certificate and sends none", now)]
    if said is not None:
        return [CertificateAnswer(region.id, said, answered_at=now)]
    reason = _NO_ANSWER.get(word or "", f"the issuer answered with a status that is not known: {reply.status}")
    return [unverifiable(region, reason, now)]


def _read(region: Region, packs: PackSet, reply: CertificateReply, wanted: Wanted) -> Sequence[Mapping[str, Any]]:
    pack = packs.need("certificate")
    found = [pack.to_canonical(document) for document in reply.certificates]
    for certificate in found:
        _require_asked_about(region, certificate, wanted)
    return found


def _as_said(answer: CertificateAnswer, said: Standing) -> CertificateAnswer:
    """Let the status count over what the certificate beside it says, unless that cannot be told at all."""
    return answer if answer.standing is Standing.UNVERIFIABLE else replace(answer, standing=said)


def _require_asked_about(region: Region, certificate: Mapping[str, Any], wanted: Wanted) -> None:
    document = certificate["holder"]["document"]
    asked = wanted.holder.document if wanted.holder else None
    if asked is not None and not is_unknown(document["type"]):
        theirs = (document["type"], document["number"].strip().upper())
        if theirs != (asked.type, asked.number.strip().upper()):
            raise OfSomebodyElse("The issuer answered about another holder than it was asked about.", region=region.id)
    if wanted.identifier is not None and certificate["identifier"] != wanted.identifier:
        raise OfSomebodyElse("The issuer answered with another certificate than it was asked for.", region=region.id)


def _bears_the_name(certificate: Mapping[str, Any], wanted: Wanted) -> bool:
    """Say whether a certificate is under the name that was asked about, where one was.

    An issuer may look for the number alone: whoever knows a number and no name must not be told what it opens. That is
    no lie of the issuer's, as another number is; for whoever asked there is no such certificate.
    """
    holder = certificate["holder"]
    if wanted.holder is None or is_unknown(holder["document"]["type"]):
        return True
    return spelt(holder["name"]) == spelt(wanted.holder.name)


def _of_certificate(region: Region, certificate: Mapping[str, Any], now: datetime) -> CertificateAnswer:
    if is_unknown(certificate["state"]):
        return unverifiable(region, "the issuer gives the certificate a state that is not known here", now)
    if is_unknown(certificate["holder"]["document"]["type"]):
        # Of whom it speaks cannot be told: an unknown kind of document is never the kind that was asked about.
        return unverifiable(region, "the issuer names the holder by a kind of document that is not known here", now)
    judged = standing(
        certificate["state"],
        replaced_by=certificate.get("replaced_by"),
        valid_until=certificate.get("valid_until"),
        today=local_day(now).isoformat(),
    )
    problem = zzbs_problem(certificate["identifier"])
    # The issuer's own record is what it is: a wrong check character is a warning, not a refusal.
    warnings = (f"identifier {problem}",) if problem else ()
    return CertificateAnswer(region.id, judged, None, certificate, warnings, now)
