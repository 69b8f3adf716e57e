"""Looking a certificate up, live, at the region that issued it.

Owns: the request with its five elements and purpose, the route to the issuer, and the closed list of answers. A region
that cannot be asked, or answers nonsense, or in codes that nobody here knows, makes the answer `unverifiable` with the
reason; it never becomes `not_found`. Leaves to `policy`: who may ask what about whom. Nothing of an answer is kept but
its evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, and_, select

from gateway.certificates.request import LookupRequest
from gateway.certificates.types import CertificateType, find_type
from gateway.crypto.at_rest import References
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing, standing
from gateway.domain.identifiers import case_number_problem, document_problem, zzbs_problem
from gateway.domain.mandate import Party, Use
from gateway.domain.region import place_of
from gateway.errors import FieldProblem, GatewayError, InvalidRequest, RegionError
from gateway.evidence import Exchange, record
from gateway.evidence.record import IDENTIFIER_PART, refusal, who_is
from gateway.identity.mandates import Mandates
from gateway.mapping.library import PackSet
from gateway.mapping.unknown import is_unknown
from gateway.policy.grants import Ask, Capability, Grants
from gateway.policy.transfer import Basis, ConsentGiven, HolderLookup, SubjectRole, Transfer, require
from gateway.ports import CertificateReply, Clock, RegionDocument
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import consents, submissions
from gateway.submissions.materials import owner_of

_WORDS: Mapping[str, Standing] = {
    "not_found": Standing.NOT_FOUND,
    "match": Standing.MATCH,
    "no_match": Standing.NO_MATCH,
}
"""Status words that are an answer in themselves; `found` is judged per certificate, and the rest is no answer."""

_NO_ANSWER: Mapping[str, str] = {
    "not_permitted": "the issuer grants this gateway no access to this type",
    "type_unknown": "the issuer does not know this certificate type",
    "no_consent": "the issuer holds no consent of this person",
    "refused": "the issuer refused the question",
}


@dataclass(frozen=True, slots=True)
class CertificateAnswer:
    """What one issuer says: a standing, the certificate where there is one, and warnings about its record."""

    issuer: str
    standing: Standing
    reason: str | None
    certificate: Mapping[str, Any] | None
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """The answer as a whole, with the evidence id and the time of the issuer's answer (None when there was none)."""

    answers: Sequence[CertificateAnswer]
    asked_at: datetime
    answered_at: datetime | None
    evidence_id: str


@dataclass(frozen=True, slots=True)
class _Question:
    caller: Caller
    request: LookupRequest
    kind: CertificateType
    region: Region
    packs: PackSet
    received_at: datetime


class CertificateLookup:
    """Answers lookups by holder."""

    def __init__(
        self,
        *,
        store: Store,
        types: Mapping[str, CertificateType],
        regions: Mapping[str, Region],
        grants: Grants,
        bases: tuple[Basis, ...],
        mandates: Mandates,
        references: References,
        clock: Clock,
    ) -> None:
        self._store = store
        self._types = types
        self._regions = regions
        self._grants = grants
        self._bases = bases
        self._mandates = mandates
        self._references = references
        self._clock = clock

    async def lookup(self, caller: Caller, request: LookupRequest) -> LookupAnswer:
        """Ask the issuer now. Raises InvalidRequest or NotPermitted; a region's failure is part of the answer."""
        received_at = self._clock()
        try:
            question = self._question(caller, request, received_at)
            consent = await self._may(question)
        except GatewayError as error:
            await self._note_refusal(caller, request, error, received_at)
            raise
        return await self._ask(question, consent)

    # --- before asking -----------------------------------------------------------------------------------------

    def _question(self, caller: Caller, request: LookupRequest, received_at: datetime) -> _Question:
        """Check the request as a whole and choose the issuer."""
        problems: list[FieldProblem] = []
        document = request.holder.document
        if problem := document_problem(document.type, document.number, today=local_day(received_at)):
            problems.append(FieldProblem("holder.document.number", problem, "check_digit"))
        problems.extend(_agent_problems(request))
        problems.extend(_acting_problems(caller, request))
        kind = find_type(self._types, request.certificate_type)
        if kind is None:
            problems.append(FieldProblem("certificate_type", "is neither a known code nor a known name", "unknown"))
        region = self._issuer(kind, request, problems)
        if problems or kind is None or region is None:
            raise InvalidRequest("Some fields are not valid; see `problems`.", problems=problems)
        return _Question(caller, request, kind, region, region.packs.now(), received_at)

    def _issuer(
        self, kind: CertificateType | None, request: LookupRequest, problems: list[FieldProblem]
    ) -> Region | None:
        """Return the issuing region: the one that is named, or the only one there is."""
        candidates = [self._regions[i] for i in kind.issuers if self._regions[i].adapter.certificates] if kind else []
        known = ", ".join(region.id for region in candidates) or "none"
        if request.issuer is None and len(candidates) == 1:
            return candidates[0]
        if request.issuer is None:
            problems.append(FieldProblem("issuer", f"must name the issuing region; for this type: {known}", "missing"))
            return None
        chosen = next((region for region in candidates if region.id == request.issuer), None)
        if chosen is None and kind is not None:
            problems.append(FieldProblem("issuer", f"does not issue this type; regions that do: {known}", "unknown"))
        return chosen

    async def _may(self, question: _Question) -> str | None:
        """Apply grant and transfer rules; the holder must have to do with the case (domain rule P8).

        Return the id of the consent on which the question rests: across a border the one that carries it, else the
        first that was given.
        """
        request, region = question.request, question.region
        self._grants.require(
            Ask(
                client=question.caller.client_id,
                capability=Capability.LOOK_UP_CERTIFICATES,
                item=request.item.code,
                certificate_type=question.kind.code,
                purpose=request.purpose_code,
                region=region.id,
                on=local_day(question.received_at),
            )
        )
        roles, given = await self._store.read(lambda tx: (self._roles(tx, question), self._consents(tx, question)))
        asked, answered = self._transfers(question, roles, given)
        grounds = require(asked)
        require(answered)
        if grounds is not None:
            return grounds.consent.id
        return request.consents[0].id if request.consents else None

    def _transfers(
        self, question: _Question, roles: frozenset[SubjectRole], given: Sequence[ConsentGiven]
    ) -> tuple[Transfer, Transfer]:
        """Return both ways across the border: the question with the holder's particulars, and the answer."""
        request, region = question.request, question.region
        asker = place_of(question.caller.origin_code)
        document = request.holder.document.type
        asked = Transfer(
            origin=asker,
            target=region.place,
            target_region=region.id,
            target_recipient=region.id,
            document_type=document,
            fields=["holder.name", "holder.document"],
            purpose=request.purpose,
            consents=given,
            bases=self._bases,
            now=question.received_at,
            item=request.item.code,
            lookup=HolderLookup(name=True, number=True, document_type=True, roles=roles),
        )
        # A region without a pack for certificates answers match or no match: no number comes back.
        tells_values = "certificate" in question.packs
        answered = replace(
            asked,
            origin=region.place,
            target=asker,
            target_recipient=question.caller.client_id,
            document_type=document if tells_values else None,
            fields=["certificate" if tells_values else "match"],
        )
        return asked, answered

    def _roles(self, tx: Connection, question: _Question) -> frozenset[SubjectRole]:
        """Return how the holder takes part in the case: proved for our own cases, declared for an agency's.

        The principal of a mandate is always proved: the mandate must be the holder's, name the agent and the item, and
        be live (domain rule P8). Raises NotPermitted (`delegation.…`).
        """
        case, role = question.request.case, SubjectRole(question.request.holder_role)
        if role is SubjectRole.PRINCIPAL:
            self._principal(tx, question)
        if case_number_problem(case) is not None:
            return frozenset({role})
        c, document = submissions.c, question.request.holder.document
        mine = and_(c.id == case, c.client_id == owner_of(question.caller))
        if role is not SubjectRole.PRINCIPAL:
            role = SubjectRole.APPLICANT
            mine = and_(mine, c.applicant_ref == self._references.of(document.type, document.number))
        return frozenset({role}) if tx.execute(select(c.id).where(mine)).first() else frozenset()

    def _principal(self, tx: Connection, question: _Question) -> None:
        request = question.request
        if request.agent is None or request.mandate is None:
            raise AssertionError("`_agent_problems` has refused this")
        holder = Party(request.holder.document.type, request.holder.document.number, request.holder.name)
        use = Use(request.agent.party(), request.item.code, question.received_at, holder)
        self._mandates.check(tx, request.mandate, use)

    def _consents(self, tx: Connection, question: _Question) -> list[ConsentGiven]:
        """Return the consents for this lookup: what the request carries, and what is recorded for the case."""
        document = question.request.holder.document
        reference = self._references.of(document.type, document.number)
        query = select(consents).where(consents.c.case_no == question.request.case, consents.c.subject_ref == reference)
        recorded = [_recorded(dict(row)) for row in tx.execute(query).mappings()]
        return [*recorded, *(consent.given() for consent in question.request.consents)]

    # --- asking ------------------------------------------------------------------------------------------------

    async def _ask(self, question: _Question, consent: str | None) -> LookupAnswer:
        region = question.region
        asked_at = self._clock()
        answered_at: datetime | None = None
        raw = b""
        try:
            reply = await self._call(question, consent)
            answered_at = self._clock()
            raw = _raw(reply)
            answers = self._judge(question, reply, answered_at)
        except RegionError as error:
            answers = [_unverifiable(region, f"{error.stable_code}: {error.public}")]
        except GatewayError as error:
            fields = ", ".join(problem.field for problem in error.problems)
            answers = [_unverifiable(region, f"the issuer's answer cannot be read ({error.stable_code}: {fields})")]
        exchange = self._exchange(question, answers, asked_at, answered_at, raw)
        evidence_id = await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))
        return LookupAnswer(answers, asked_at, answered_at, evidence_id)

    async def _call(self, question: _Question, consent: str | None) -> CertificateReply:
        source = question.region.adapter.certificates
        if source is None:
            raise RegionError("The region offers no certificates.", region=question.region.id)
        query: dict[str, Any] = {
            "type": {"code": question.kind.code, "name": question.kind.name},
            "holder": question.request.holder.model_dump(mode="json"),
            "purpose": question.request.purpose,
            "organisation": question.caller.organisation,
            "operator": question.request.operator,
            "item": question.request.item.model_dump(mode="json"),
            "case": question.request.case,
        }
        if consent is not None:
            query["consent"] = consent
        return await source.lookup(question.packs.need("certificate-query").to_region(query))

    def _judge(self, question: _Question, reply: CertificateReply, now: datetime) -> list[CertificateAnswer]:
        """Translate the region's status and certificates into our closed list."""
        region = question.region
        word = region.certificate_words.get(reply.status)
        if word == "found" and reply.certificates:
            pack = question.packs.need("certificate")
            return [_of_certificate(region, pack.to_canonical(document), now) for document in reply.certificates]
        if word == "found":
            return [_unverifiable(region, "the issuer says that there is a certificate and sends none")]
        if word is not None and word in _WORDS:
            return [CertificateAnswer(region.id, _WORDS[word], None, None, ())]
        reason = _NO_ANSWER.get(word or "", f"the issuer answered with a status that is not known: {reply.status}")
        return [_unverifiable(region, reason)]

    # --- evidence ----------------------------------------------------------------------------------------------

    def _exchange(
        self,
        question: _Question,
        answers: Sequence[CertificateAnswer],
        asked_at: datetime,
        answered_at: datetime | None,
        raw: bytes,
    ) -> Exchange:
        request = question.request
        return Exchange(
            action="certificate.lookup",
            outcome="done" if answered_at else "failed",
            reason=",".join(sorted({answer.standing for answer in answers})),
            who={**who_is(question.caller), "operator": request.operator},
            what={
                "case": request.case,
                "item": request.item.code,
                "type": question.kind.code,
                "region": question.region.id,
                "legal_basis": request.legal_basis,
                **({"mandate": request.mandate} if request.mandate else {}),
            },
            purpose=f"{request.purpose_code}: {request.purpose}",
            received_at=question.received_at,
            forwarded_at=asked_at,
            answered_at=answered_at,
            parts={"holder": orjson.dumps(request.holder.model_dump(mode="json")), "answer": raw, **_valid(answers)},
        )

    async def _note_refusal(
        self, caller: Caller, request: LookupRequest, error: GatewayError, received_at: datetime
    ) -> None:
        exchange = refusal(
            error,
            action="certificate.lookup",
            who={**who_is(caller), "operator": request.operator},
            what={"case": request.case, "item": request.item.code, "type": request.certificate_type},
            purpose=f"{request.purpose_code}: {request.purpose}",
            received_at=received_at,
        )
        error.evidence = await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))


def _of_certificate(region: Region, certificate: Mapping[str, Any], now: datetime) -> CertificateAnswer:
    if is_unknown(certificate["state"]):
        return _unverifiable(region, "the issuer gives the certificate a state that is not known here")
    if is_unknown(certificate["holder"]["document"]["type"]):
        # Of whom it speaks cannot be told: an unknown kind of document is never the kind that was asked about.
        return _unverifiable(region, "the issuer names the holder by a kind of document that is not known here")
    judged = standing(
        certificate["state"],
        replaced_by=certificate.get("replaced_by"),
        valid_until=certificate.get("valid_until"),
        today=local_day(now).isoformat(),
    )
    problem = zzbs_problem(certificate["identifier"])
    # The issuer's own record is what it is: a wrong check character is a warning, not a refusal.
    warnings = (f"identifier {problem}",) if problem else ()
    return CertificateAnswer(region.id, judged, None, certificate, warnings)


def _agent_problems(request: LookupRequest) -> list[FieldProblem]:
    """Check that agent and mandate are there for a holder who is a principal, and for nobody else."""
    given = {"agent": request.agent, "mandate": request.mandate}
    if request.holder_role == "principal":
        return [FieldProblem(name, "is required for a principal", "missing") for name, it in given.items() if not it]
    reason = "belongs to holder_role principal only"
    return [FieldProblem(name, reason, "not_principal") for name, it in given.items() if it]


def _acting_problems(caller: Caller, request: LookupRequest) -> list[FieldProblem]:
    """Check that a system which acts for a person who signed on asks about that person, or about their principal."""
    if caller.acting is None:
        return []
    if caller.acting.mandate is not None and request.mandate != caller.acting.mandate:
        return [FieldProblem("mandate", "must be the one that the access token was issued for", "another_mandate")]
    field, party = ("agent", request.agent) if request.agent else ("holder", request.holder)
    if caller.acting.is_for(party.document.type, party.document.number):
        return []
    return [FieldProblem(f"{field}.document", "is not that of the person who signed on", "another_person")]


def _unverifiable(region: Region, reason: str) -> CertificateAnswer:
    return CertificateAnswer(region.id, Standing.UNVERIFIABLE, reason, None, ())


def _recorded(row: Mapping[str, Any]) -> ConsentGiven:
    return ConsentGiven(
        id=row["id"],
        recipient=row["recipient"],
        purpose=row["purpose"],
        fields=frozenset(row["fields"]),
        given_at=row["given_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


def _valid(answers: Sequence[CertificateAnswer]) -> dict[str, bytes]:
    """Return the identifiers of the certificates that were found valid, as parts of the evidence."""
    found = [answer.certificate for answer in answers if answer.standing is Standing.VALID and answer.certificate]
    return {f"{IDENTIFIER_PART}{n}": str(one["identifier"]).encode() for n, one in enumerate(found)}


def _raw(reply: CertificateReply) -> bytes:
    """Return the answer's exact certificates as one byte string, for the digest."""
    pieces: list[RegionDocument] = list(reply.certificates)
    return b"\n".join(piece if isinstance(piece, bytes) else orjson.dumps(piece) for piece in pieces)
