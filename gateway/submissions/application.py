"""What a caller hands in: the shape of an application, checked as a whole.

Owns: types and lengths. Leaves to `intake`: everything that needs the item, the place, the policy or the database.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from gateway.domain.mandate import Party
from gateway.edge import Edge, Long, Short, Text


class Document(Edge):
    """An identity document: one of our types (`gateway.domain.identifiers.DOCUMENT_TYPES`) and its number."""

    type: Short
    number: Short


class Applicant(Edge):
    """The person or organisation that applies (申请人), never the agent or the clerk."""

    kind: Literal["person", "organisation"]
    name: Text
    name_latin: Text | None = None
    document: Document
    birth_date: date | None = None
    sex: Literal["M", "F"] | None = None
    mobile: Annotated[str, StringConstraints(pattern=r"^\+?[0-9 -]{5,20}$")] | None = None


class PartyNamed(Edge):
    """Somebody by name and document: a principal or an agent (代理人). An organisation needs only its code."""

    name: Text | None = None
    document: Document

    def party(self) -> Party:
        """Return it as the rules of mandates read it."""
        return Party(self.document.type, self.document.number, self.name or "")


class MaterialReference(Edge):
    """A material by reference to a blob that the same caller uploaded before."""

    code: Short
    blob: Short
    original_sighted: bool | None = None
    """Whether whoever took it saw the original (原件核验); not said where nobody was there to see it."""


class CertifiedMaterial(Edge):
    """A material that an electronic certificate stands for (免证办), and the lookup that found it valid."""

    code: Short
    identifier: Text
    """Identifier of the certificate, as the issuer answered it."""
    lookup: Short
    """Evidence id of the caller's lookup of it."""


class Deferred(Edge):
    """A material that is left out now and follows later (容缺), and the applicant's signed promise that it will."""

    code: Short
    promise: Text
    """The number of the signed form, or its words."""


class Consent(Edge):
    """A separate consent (单独同意, PIPL art. 39) to one transfer: to whom, what for, which fields, until when."""

    recipient: Short
    purpose: Text
    fields: list[Text] = Field(min_length=1, max_length=200)
    given_at: AwareDatetime
    expires_at: AwareDatetime
    evidence: Text
    """How the consent is proved: a signed form's number, or the reference of an electronic one."""


class PartWanted(Edge):
    """One office's part of a case that several handle together (多地联办)."""

    place: Short
    part: Short | None = None
    """Code of the part, of an item that has parts."""
    form: dict[Short, Long] = Field(default_factory=dict, max_length=100)
    """Fields for this office, beside or instead of those that all get."""
    materials: list[MaterialReference] = Field(default_factory=list, max_length=50)
    """Materials for this office alone."""


class Application(Edge):
    """One application for one item at one place (`POST /v1/submissions`)."""

    reference: Short
    """The caller's own number for this application: with client and item it is the business key."""
    item: Short
    place: Short
    mode: Literal["online", "collect"]
    applicant: Applicant
    form: dict[Short, Long] = Field(max_length=100)
    materials: list[MaterialReference] = Field(default_factory=list, max_length=50)
    certificates: list[CertifiedMaterial] = Field(default_factory=list, max_length=50)
    deferred: list[Deferred] = Field(default_factory=list, max_length=50)
    purpose_code: Short
    """One of the purposes that the caller's grants name."""
    purpose: Text
    """The purpose in words, 200 characters at most (domain rule P2)."""
    legal_basis: Text
    consents: list[Consent] = Field(default_factory=list, max_length=10)
    agent: PartyNamed | None = None
    """Who files for the applicant; then `mandate` is required, and the agent's identity is what the channel checked."""
    mandate: Short | None = None
    """Id of the mandate by which the agent files."""
    parts: list[PartWanted] = Field(default_factory=list, max_length=10)
    """Several offices handle it together; `place` leads."""


def utc_text(moment: datetime) -> str:
    """Return a time as the canonical documents write it: RFC 3339, UTC, `Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").replace(".000000Z", "Z")
