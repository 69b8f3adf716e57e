"""Who may ask what about whose certificate: grant, consent, border, and that the holder has to do with the case.

Owns: putting the facts of a question together for the rules. Leaves to `policy`: the rules. To `mandates`: whether a
mandate holds. Nothing is asked of an issuer before this has let it through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select

from gateway.certificates.request import Frame, HolderNamed
from gateway.certificates.types import CertificateType
from gateway.crypto.at_rest import References
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.identifiers import case_number_problem, document_problem
from gateway.domain.mandate import Party, Use
from gateway.domain.region import place_of
from gateway.errors import FieldProblem, NotPermitted
from gateway.identity.mandates import Mandates
from gateway.mapping.library import PackSet
from gateway.policy.grants import Ask, Capability, Grants
from gateway.policy.transfer import Basis, ConsentGiven, HolderLookup, SubjectRole, Transfer, require
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import consents, submissions
from gateway.submissions.materials import owner_of

# Built once: building a statement costs more than running it.

_S, _C = submissions.c, consents.c
_MINE = select(_S.id).where(_S.id == bindparam("case"), _S.client_id == bindparam("client"))
_MY_APPLICANT = _MINE.where(_S.applicant_ref == bindparam("applicant"))
_CONSENTS = select(consents).where(_C.case_no == bindparam("case"), _C.subject_ref == bindparam("subject"))


@dataclass(frozen=True, slots=True)
class Question:
    """One question to one issuer, ready to be judged and asked. One of `holder`, `identifier` and `code` is there.

    `packs` are the mappings that it is asked and heard with, whatever is reloaded meanwhile. `anew`: the answer to an
    earlier question, which may be under way, does not do.
    """

    caller: Caller
    frame: Frame
    kind: CertificateType
    region: Region
    packs: PackSet
    capability: Capability
    received_at: datetime
    holder: HolderNamed | None = None
    identifier: str | None = None
    code: str | None = None
    anew: bool = False

    @property
    def crosses(self) -> bool:
        """Say whether it leaves the asker's legal territory: within one, no rule asks for a consent."""
        return place_of(self.caller.origin_code).zone is not self.region.place.zone

    def ask(self) -> Ask:
        """Return it as grants read it."""
        return Ask(
            client=self.caller.client_id,
            capability=self.capability,
            item=self.frame.item.code,
            certificate_type=self.kind.code,
            purpose=self.frame.purpose_code,
            region=self.region.id,
            on=local_day(self.received_at),
        )


@dataclass(frozen=True, slots=True)
class Permission:
    """Lets questions through, or says what is missing."""

    store: Store
    grants: Grants
    bases: tuple[Basis, ...]
    mandates: Mandates
    references: References

    async def require(self, question: Question) -> str | None:
        """Return the id of the consent on which the question rests: across a border the one that carries it.

        Raises NotPermitted (`policy.…`, `transfer.…`, `delegation.…`).
        """
        self.grants.require(question.ask())
        if _decided_by_itself(question):
            roles, given = frozenset({SubjectRole(question.frame.holder_role)}), _carried(question)
        else:
            roles, given = await self.store.read(lambda tx: (self._roles(tx, question), self._consents(tx, question)))
        asked, answered = _transfers(question, roles, given, self.bases)
        grounds = require(asked)
        require(answered)
        if grounds is not None:
            return grounds.consent.id
        return question.frame.consents[0].id if question.frame.consents else None

    async def require_involved(self, question: Question, document: Mapping[str, Any]) -> None:
        """Hold the holder whom an answer names against one of our cases, where the question named nobody.

        Raises NotPermitted (`transfer.subject_not_involved`), before anything of the answer is told (domain rule P8).
        """
        if question.holder is not None or case_number_problem(question.frame.case) is not None:
            return
        reference = self.references.of(document["type"], document["number"])
        if not await self.store.read(lambda tx: self._is_applicant(tx, question, reference)):
            text = "The certificate's holder is not the applicant of this case."
            raise NotPermitted(text, code="transfer.subject_not_involved")

    def _roles(self, tx: Connection, question: Question) -> frozenset[SubjectRole]:
        """Return how the holder takes part in the case: proved for our own cases, declared for an agency's.

        The principal of a mandate is always proved: the mandate must be the holder's, name the agent and the item, and
        be live (domain rule P8). Where no holder is named, the answer decides (`require_involved`).
        """
        case, role, holder = question.frame.case, SubjectRole(question.frame.holder_role), question.holder
        if role is SubjectRole.PRINCIPAL:
            self._principal(tx, question)
        if holder is None or case_number_problem(case) is not None:
            return frozenset({role})
        if role is SubjectRole.PRINCIPAL:
            found = tx.execute(_MINE, {"case": case, "client": owner_of(question.caller)}).first()
            return frozenset({role}) if found else frozenset()
        reference = self.references.of(holder.document.type, holder.document.number)
        return frozenset({SubjectRole.APPLICANT}) if self._is_applicant(tx, question, reference) else frozenset()

    def _is_applicant(self, tx: Connection, question: Question, reference: str) -> bool:
        named = {"case": question.frame.case, "client": owner_of(question.caller), "applicant": reference}
        return tx.execute(_MY_APPLICANT, named).first() is not None

    def _principal(self, tx: Connection, question: Question) -> None:
        frame, holder = question.frame, question.holder
        if frame.agent is None or frame.mandate is None or holder is None:
            raise AssertionError("`frame_problems` has refused this")
        principal = Party(holder.document.type, holder.document.number, holder.name)
        use = Use(frame.agent.party(), frame.item.code, question.received_at, principal)
        self.mandates.check(tx, frame.mandate, use)

    def _consents(self, tx: Connection, question: Question) -> list[ConsentGiven]:
        """Return the consents for this question: what it carries, and what is recorded for the case and its holder."""
        carried = _carried(question)
        if question.holder is None:
            return carried
        reference = self.references.of(question.holder.document.type, question.holder.document.number)
        found = tx.execute(_CONSENTS, {"case": question.frame.case, "subject": reference})
        return [*(_recorded(dict(row)) for row in found.mappings()), *carried]


def _decided_by_itself(question: Question) -> bool:
    """Say whether nothing that is kept could change the answer, so that the store need not be read.

    That is within one territory, where no rule asks for a consent, about somebody whose part in the case is declared:
    a case of the caller's own, no mandate.
    """
    declared = question.holder is None or case_number_problem(question.frame.case) is not None
    return declared and not question.crosses and question.frame.holder_role != "principal"


def _carried(question: Question) -> list[ConsentGiven]:
    return [consent.given() for consent in question.frame.consents]


def _transfers(
    question: Question, roles: frozenset[SubjectRole], given: Sequence[ConsentGiven], bases: Sequence[Basis]
) -> tuple[Transfer, Transfer]:
    """Return both ways across the border: the question with what it names, and the answer."""
    region, asker = question.region, place_of(question.caller.origin_code)
    document = question.holder.document.type if question.holder else None
    named = ["holder.name", "holder.document"] if question.holder else ["certificate.identifier"]
    reported = ["certificate.dispute"] if question.capability is Capability.DISPUTE_CERTIFICATES else []
    asked = Transfer(
        origin=asker,
        target=region.place,
        target_region=region.id,
        target_recipient=region.id,
        document_type=document,
        fields=[*named, *reported],
        purpose=question.frame.purpose,
        consents=given,
        bases=bases,
        now=question.received_at,
        item=question.frame.item.code,
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


# --- what is wrong with a question ----------------------------------------------------------------------------------


def frame_problems(
    caller: Caller, frame: Frame, holder: HolderNamed | None, received_at: datetime
) -> list[FieldProblem]:
    """Return what is wrong with who is concerned: the holder's number, agent and mandate, the person signed on."""
    problems: list[FieldProblem] = []
    if holder is not None:
        document = holder.document
        if problem := document_problem(document.type, document.number, today=local_day(received_at)):
            problems.append(FieldProblem("holder.document.number", problem, "check_digit"))
    elif frame.holder_role == "principal" or caller.acting is not None:
        problems.append(FieldProblem("holder", "must be named here: whom the question is about is proved", "missing"))
    return [*problems, *_agent_problems(frame), *_acting_problems(caller, frame, holder)]


def _agent_problems(frame: Frame) -> list[FieldProblem]:
    """Check that agent and mandate are there for a holder who is a principal, and for nobody else."""
    given = {"agent": frame.agent, "mandate": frame.mandate}
    if frame.holder_role == "principal":
        return [FieldProblem(name, "is required for a principal", "missing") for name, it in given.items() if not it]
    reason = "belongs to holder_role principal only"
    return [FieldProblem(name, reason, "not_principal") for name, it in given.items() if it]


def _acting_problems(caller: Caller, frame: Frame, holder: HolderNamed | None) -> list[FieldProblem]:
    """Check that a system which acts for a person who signed on asks about that person, or about their principal."""
    if caller.acting is None or holder is None:
        return []
    if caller.acting.mandate is not None and frame.mandate != caller.acting.mandate:
        return [FieldProblem("mandate", "must be the one that the access token was issued for", "another_mandate")]
    field, party = ("agent", frame.agent) if frame.agent else ("holder", holder)
    if caller.acting.is_for(party.document.type, party.document.number):
        return []
    return [FieldProblem(f"{field}.document", "is not that of the person who signed on", "another_person")]
