"""What a request in the form of GB/T 36906 asks: its elements as the requests of our services.

Owns: what an element means here, what is filled in where it is not sent, and the names of elements in what is told of
mistakes. Leaves to `gateway.certificates`: every rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from gateway.certificates.claims import SURFACE, flat
from gateway.certificates.request import DataRequest, FileRequest, LookupRequest, VerifyRequest
from gateway.certificates.types import CertificateType, find_type
from gateway.domain.caller import Caller
from gateway.domain.spelling import bare
from gateway.edge import check
from gateway.errors import FieldProblem, InvalidRequest, MappingFailed
from gateway.web.elssp.elements import (
    Asked,
    Claim,
    CodeShown,
    DataByHolder,
    DataByIdentifier,
    FileByHolder,
    FileByIdentifier,
    FileShown,
    LinkWanted,
    MaybeOfHolder,
    OfHolder,
    OfType,
    RetrievalAsked,
    Sender,
    Verification,
)
from gateway.web.elssp.words import Words

_ELEMENTS: Mapping[str, str] = {
    "identifier": "CertificateID",
    "certificate_type": "CertificateType",
    "holder": "CertificateHolder",
    "holder.document.number": "CertificateHolderCode",
    "holder.document.type": "CertificateHolderCodeType",
    "number": "CertificateNumber",
    "issuer": "IssuedIn",
    "code": "QRCode",
    "file": "FileData",
    "copy_for": "Copy",
    "claims": "Claim",
    "operator": "username",
    "item.code": "itemCode",
    "item.name": "itemName",
    "case": "businessCode",
    "purpose": "UseFor",
    "purpose_code": "PurposeCode",
    "legal_basis": "LegalBasis",
    "holder_role": "HolderRole",
    "consents": "Consent",
    "agent": "AgentCode",
    "agent.name": "AgentName",
    "mandate": "MandateID",
}
"""Our names of fields, and the elements that they come from; what lies below a name comes from its element."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads the elements of one request. Every problem that it finds is told at once, by `refuse`."""

    words: Words
    types: Mapping[str, CertificateType]
    caller: Caller
    today: date
    problems: list[FieldProblem]

    def sender(self, sent: Sender) -> None:
        """Hold the organisation that is named against that of the token; only the latter counts."""
        if sent.organisation is not None and bare(sent.organisation) != bare(self.caller.organisation):
            reason = "is not the organisation that the access token stands for"
            self.problems.append(FieldProblem("orgName", reason, "another_organisation"))

    def lookup(self, asked: RetrievalAsked) -> LookupRequest:
        """Return the question which certificates a holder has."""
        self.sender(asked)
        said = {**self._frame(asked), "holder": self._holder(asked), "certificate_type": self.type_of(asked)}
        self.refuse()
        return check(LookupRequest, said)

    def data_of(self, asked: DataByIdentifier) -> DataRequest:
        """Return the question what is written in a certificate."""
        self.sender(asked)
        said = {**self._frame(asked), "holder": self._holder(asked), "identifier": asked.identifier}
        self.refuse()
        return check(DataRequest, said)

    def data_by_holder(self, asked: DataByHolder) -> DataRequest:
        """Return the question what is written in a holder's certificates of a type."""
        self.sender(asked)
        kind = self.type_of(asked, required=True)
        said = {**self._frame(asked), "holder": self._holder(asked), "certificate_type": kind, "number": asked.number}
        self.refuse()
        return check(DataRequest, said)

    def verification(self, asked: Verification) -> VerifyRequest:
        """Return the question what a certificate is worth, and whether it says what is claimed."""
        self.sender(asked)
        kind = self.type_of(asked, required=asked.identifier is None)
        said = {
            **self._frame(asked),
            "holder": self._holder(asked),
            "identifier": asked.identifier,
            "certificate_type": kind,
            "claims": self._claims(asked.number, asked.claims),
        }
        self._require_a_name(asked.identifier, asked)
        self.refuse()
        return check(VerifyRequest, said)

    def file_of(self, asked: FileByIdentifier | FileByHolder | LinkWanted) -> FileRequest:
        """Return the question for a certificate's file, by identifier or by type and holder."""
        self.sender(asked)
        identifier = None if isinstance(asked, FileByHolder) else asked.identifier
        kind = None if isinstance(asked, FileByIdentifier) else self.type_of(asked, required=identifier is None)
        said = {
            **self._frame(asked),
            "holder": self._holder(asked),
            "identifier": identifier,
            "certificate_type": kind,
            "number": None if isinstance(asked, FileByIdentifier) else asked.number,
            "copy_for": asked.purpose if asked.copy_wanted == "1" else None,
        }
        self._require_a_name(identifier, asked)
        self.refuse()
        return check(FileRequest, said)

    def file_shown(self, asked: FileShown) -> VerifyRequest:
        """Return the question what a file is worth; which file is filled in once it is here."""
        self.sender(asked)
        said = {**self._frame(asked), "certificate_type": self.type_of(asked), "file": asked.upload or "(to come)"}
        if (asked.content is None) is (asked.upload is None):
            reason = "is required, or FileID; one of them"
            self.problems.append(FieldProblem("FileData", reason, "missing" if asked.content is None else "ambiguous"))
        self.refuse()
        return check(VerifyRequest, said)

    def shown(self, asked: CodeShown) -> VerifyRequest:
        """Return the question what a shown code stands for."""
        self.sender(asked)
        said = {**self._frame(asked), "code": asked.code, "certificate_type": self.type_of(asked, required=True)}
        self.refuse()
        return check(VerifyRequest, said)

    def refuse(self) -> None:
        """Raise InvalidRequest with every problem that was found, if there is any."""
        if self.problems:
            raise InvalidRequest("Some elements are not valid; see `problem`.", problems=self.problems)

    def _require_a_name(self, identifier: str | None, asked: OfHolder | MaybeOfHolder) -> None:
        if identifier is None and asked.holder_name is None and asked.holder_code is None:
            reason = "is required, or CertificateHolder and CertificateHolderCode with the type"
            self.problems.append(FieldProblem("CertificateID", reason, "missing"))

    # --- parts of a request ----------------------------------------------------------------------------------------

    def _frame(self, asked: Asked) -> dict[str, Any]:
        said: dict[str, Any] = {
            "operator": asked.operator,
            "item": {"code": asked.item_code, "name": asked.item_name},
            "case": asked.case,
            "purpose": asked.purpose,
            "purpose_code": asked.purpose_code,
            "legal_basis": asked.legal_basis,
            "holder_role": asked.holder_role,
            "consents": [
                {**one.model_dump(exclude={"fields_covered"}), "fields": one.fields_covered} for one in asked.consents
            ],
            "issuer": asked.issuer,
            "mandate": asked.mandate,
        }
        if asked.agent_code is not None:
            kind = self._document_type(asked.agent_code_type, asked.agent_code, "AgentCodeType")
            said["agent"] = {"name": asked.agent_name, "document": {"type": kind, "number": asked.agent_code}}
        return said

    def type_of(self, asked: OfType, *, required: bool = False) -> str | None:
        """Return the type that is meant, by code or else by name; a problem where two differ, or none is there."""
        if required and asked.type_code is None and asked.type_name is None:
            reason = "is required, or CertificateTypeCode"
            self.problems.append(FieldProblem("CertificateType", reason, "missing"))
        if asked.type_code is not None and asked.type_name is not None:
            by_code, by_name = find_type(self.types, asked.type_code), find_type(self.types, asked.type_name)
            if by_code is not by_name:
                reason = "does not fit CertificateType"
                self.problems.append(FieldProblem("CertificateTypeCode", reason, "differs"))
        return asked.type_code or asked.type_name

    def _holder(self, asked: OfHolder | MaybeOfHolder) -> dict[str, Any] | None:
        given = {"CertificateHolder": asked.holder_name, "CertificateHolderCode": asked.holder_code}
        if not any(given.values()):
            return None
        missing = [name for name, value in given.items() if value is None]
        reason = "is required: a holder is named by name and number"
        self.problems.extend(FieldProblem(name, reason, "missing") for name in missing)
        number = (asked.holder_code or "").upper()
        kind = self._document_type(asked.holder_code_type, number, "CertificateHolderCodeType")
        return {"name": asked.holder_name, "document": {"type": kind, "number": number}}

    def _document_type(self, code: str | None, number: str, element: str) -> str | None:
        kind = self.words.document_type(code, number, self.today)
        if kind is None and code is None:
            self.problems.append(FieldProblem(element, "is required: the number does not say its kind", "missing"))
        elif kind is None:
            reason = "is no code of GB/T 36903 that is known here, or does not fit the number"
            self.problems.append(FieldProblem(element, reason, "unknown"))
        return kind

    def _claims(self, number: str | None, claims: Sequence[Claim]) -> dict[str, str]:
        """Return what is claimed under our names: an element of a certificate as its mapping says, else of its type."""
        known = {part.name for part in self.words.elements if isinstance(part.holds, str)}
        theirs = {claim.name: claim.value for claim in claims}
        if len(theirs) != len(claims) or (number is not None and "ZZBH" in theirs):
            self.problems.append(FieldProblem("Claim", "names a field twice", "twice"))
        if number is not None:
            theirs["ZZBH"] = number
        told: Mapping[str, Any] = {}
        try:
            told = self.words.claims({name: value for name, value in theirs.items() if name in known})
        except MappingFailed as unreadable:
            self.problems.extend(
                FieldProblem(f"Claim.{one.field}", one.reason, one.code) for one in unreadable.problems
            )
        return {
            **dict(flat(told)),
            **{f"{SURFACE}{name}": value for name, value in theirs.items() if name not in known},
        }


def in_elements(problems: Sequence[FieldProblem]) -> list[FieldProblem]:
    """Return problems of our services under the names of the elements that they come from."""
    return [FieldProblem(_element(problem.field), problem.reason, problem.code) for problem in problems]


def _element(field: str) -> str:
    name = field
    while name not in _ELEMENTS and "." in name:
        name = name.rpartition(".")[0]
    return _ELEMENTS.get(name, field)
