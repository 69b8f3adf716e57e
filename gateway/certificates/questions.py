"""From a request to the questions that it means: one for each issuer and type, or the one certificate that it names.

Owns: that a request is right as a whole, with every problem told at once, and the order in which issuers are asked.
Leaves to `directory`: who issues what. To `permission`: who may ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.certificates.directory import Directory, nearest_first
from gateway.certificates.permission import Question, frame_problems
from gateway.certificates.request import Frame, HolderNamed, LookupRequest, NamedRequest
from gateway.certificates.types import CertificateType
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.certificate_identifier import CertificateIdentifier
from gateway.errors import FieldProblem, InvalidRequest, NotPermitted
from gateway.policy.grants import Capability, Grants
from gateway.regions import Region

Pairs = Sequence[tuple[CertificateType, Region]]


@dataclass(frozen=True, slots=True)
class Questions:
    """Reads requests. `most` is how many issuers may be asked for one."""

    directory: Directory
    grants: Grants
    most: int

    def of_lookup(self, caller: Caller, request: LookupRequest, at: datetime) -> list[Question]:
        """Return the questions of a lookup. Raises InvalidRequest, or NotPermitted where no grant covers any type."""
        problems = frame_problems(caller, request, request.holder, at)
        if request.certificate_type is None:
            pairs: Pairs = self._of_every_type(caller, request, at)
        else:
            pairs = self._of_type(request.certificate_type, request.issuer, problems)
        return self._by_holder(
            caller, request, request.holder, pairs, problems, Capability.LOOK_UP_CERTIFICATES, at
        )  # fmt: skip

    def of_named(self, caller: Caller, request: NamedRequest, capability: Capability, at: datetime) -> list[Question]:
        """Return the question about the certificate that is named, or those to whoever may have issued the holder's.

        Raises InvalidRequest.
        """
        problems = frame_problems(caller, request, request.holder, at)
        if request.identifier is not None:
            return [self._by_identifier(caller, request, problems, capability, at)]
        if request.holder is None or request.certificate_type is None:
            reason = "is required, or `holder` together with `certificate_type`"
            problems.append(FieldProblem("identifier", reason, "missing"))
        if request.holder is None or request.certificate_type is None:
            raise _invalid(problems)
        pairs = self._of_type(request.certificate_type, request.issuer, problems)
        return self._by_holder(caller, request, request.holder, pairs, problems, capability, at)

    def of_code(
        self, caller: Caller, request: NamedRequest, code: str, capability: Capability, at: datetime
    ) -> Question:
        """Return the question what a shown code stands for; the type that is named is held against the answer.

        Raises InvalidRequest.
        """
        problems = frame_problems(caller, request, request.holder, at)
        region = self.directory.of_code(code)
        if region is None:
            problems.append(FieldProblem("code", "leads to no issuer that is known here", "unknown"))
        kind = None
        if request.certificate_type is None:
            problems.append(FieldProblem("certificate_type", "must be named: a grant is for a type", "missing"))
        else:
            kind = self.directory.named(request.certificate_type, "certificate_type", problems)
        if problems or region is None or kind is None:
            raise _invalid(problems)
        return Question(caller, request, kind, region, region.packs.now(), capability, at, request.holder, code=code)

    # --- by holder -----------------------------------------------------------------------------------------------

    def _of_type(self, wanted: str, issuer: str | None, problems: list[FieldProblem]) -> Pairs:
        kind = self.directory.named(wanted, "certificate_type", problems)
        return [] if kind is None else [(kind, region) for region in self.directory.chosen(kind, issuer, problems)]

    def _of_every_type(self, caller: Caller, request: LookupRequest, at: datetime) -> Pairs:
        today = local_day(at)
        pairs = [
            (kind, region)
            for kind in self.directory.types.values()
            for region in self.directory.issuers(kind)
            if request.issuer in {None, region.id}
            and self.grants.may_look_up(caller.client_id, kind.code, region.id, today)
        ]
        if not pairs:
            text = "No grant of yours covers a look-up of any type of certificate at any issuer that is meant."
            raise NotPermitted(text, code="policy.no_grant")
        return pairs

    def _by_holder(
        self, caller: Caller, frame: Frame, holder: HolderNamed, pairs: Pairs, problems: list[FieldProblem],
        capability: Capability, at: datetime,
    ) -> list[Question]:  # fmt: skip
        if len(pairs) > self.most:
            reason = f"must be named, or `issuer`: {len(pairs)} places would be asked, {self.most} at most"
            problems.append(FieldProblem("certificate_type", reason, "too_many"))
        if problems:
            raise _invalid(problems)
        nearest = nearest_first([region for _, region in pairs], holder)
        questions = [
            Question(caller, frame, kind, region, region.packs.now(), capability, at, holder) for kind, region in pairs
        ]
        return sorted(questions, key=lambda question: nearest.index(question.region))

    # --- by identifier -------------------------------------------------------------------------------------------

    def _by_identifier(
        self, caller: Caller, request: NamedRequest, problems: list[FieldProblem], capability: Capability, at: datetime
    ) -> Question:
        named = _parsed(request.identifier or "", problems)
        kind = self._kind_of(named, request.certificate_type, problems)
        region = None if named is None or kind is None else self._issuer(named, kind, request.issuer, problems)
        if problems or kind is None or region is None:
            raise _invalid(problems)
        return Question(
            caller, request, kind, region, region.packs.now(), capability, at, request.holder, request.identifier
        )  # fmt: skip

    def _kind_of(
        self, named: CertificateIdentifier | None, wanted: str | None, problems: list[FieldProblem]
    ) -> CertificateType | None:
        if named is None:
            return None
        kind = self.directory.types.get(named.type_code)
        if kind is None:
            problems.append(FieldProblem("identifier", "is of a type that is not known here", "unknown_type"))
        if kind and wanted and wanted not in {kind.code, kind.name, *kind.aliases}:
            reason = f"does not fit: the identifier's is {kind.name}"
            problems.append(FieldProblem("certificate_type", reason, "differs"))
        return kind

    def _issuer(
        self, named: CertificateIdentifier, kind: CertificateType, wanted: str | None, problems: list[FieldProblem]
    ) -> Region | None:
        if wanted is not None:
            chosen = self.directory.chosen(kind, wanted, problems)
            return chosen[0] if chosen else None
        region = self.directory.of_identifier(named)
        if region is None:
            known = ", ".join(one.id for one in self.directory.issuers(kind)) or "none"
            reason = f"must name the issuing region, which the identifier does not lead to; for this type: {known}"
            problems.append(FieldProblem("issuer", reason, "missing"))
        return region


def _parsed(identifier: str, problems: list[FieldProblem]) -> CertificateIdentifier | None:
    """Take the identifier apart: what a user gets wrong is refused before anybody is asked (GB/T 36904)."""
    try:
        return CertificateIdentifier.parse(identifier)
    except ValueError as error:
        problems.append(FieldProblem("identifier", str(error), "check_character"))
        return None


def _invalid(problems: list[FieldProblem]) -> InvalidRequest:
    return InvalidRequest("Some fields are not valid; see `problems`.", problems=problems)
