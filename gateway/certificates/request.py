"""What a caller asks when it looks a certificate up: the five elements, purpose and legal basis, and the holder.

The five elements (五要素) that go with every lookup between provinces: organisation (the caller's own, proved by its
token), operator, item name, item code, case number. A holder is named by name, number and type; "number only" cannot
be said.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from gateway.edge import Edge, Long, Short, Text
from gateway.policy.transfer import ConsentGiven
from gateway.submissions.application import Document, PartyNamed


class HolderNamed(Edge):
    """The holder (持证主体) by name, and document type and number (domain rule P8)."""

    name: Text
    document: Document


class ItemNamed(Edge):
    """The item for which the certificate is needed."""

    code: Short
    name: Text


class HeldConsent(Edge):
    """A consent that the caller holds, under the caller's own id."""

    id: Short
    recipient: Short
    purpose: Text
    fields: list[Text] = Field(min_length=1, max_length=200)
    given_at: AwareDatetime
    expires_at: AwareDatetime

    def given(self) -> ConsentGiven:
        """Return it as the transfer rules read it."""
        return ConsentGiven(
            id=self.id,
            recipient=self.recipient,
            purpose=self.purpose,
            fields=frozenset(self.fields),
            given_at=self.given_at,
            expires_at=self.expires_at,
        )


class Frame(Edge):
    """What goes with every question about a certificate: the five elements, purpose, legal basis, and who is concerned.

    `holder_role` is how the holder takes part in the case; proved for our own cases, declared and recorded for the
    caller's.
    """

    holder_role: Literal["applicant", "principal", "party"]
    operator: Short
    item: ItemNamed
    case: Short
    purpose_code: Short
    purpose: Text
    legal_basis: Text
    consents: list[HeldConsent] = Field(default_factory=list, max_length=10)
    agent: PartyNamed | None = None
    """Who acts for the holder; with `holder_role` `principal`, and only then."""
    mandate: Short | None = None
    """Id of the mandate by which the agent acts."""


class LookupRequest(Frame):
    """`POST /v1/certificates/lookup`: which certificates a holder has."""

    certificate_type: Text | None = None
    """Code (21 characters), name or alias; without it, every type that the caller may ask for."""
    holder: HolderNamed
    issuer: Short | None = None
    """The issuing region; without it, whoever may have issued one is asked."""


class NamedRequest(Frame):
    """A question about one certificate: by its identifier, or by its holder and type."""

    identifier: Text | None = None
    holder: HolderNamed | None = None
    certificate_type: Text | None = None
    issuer: Short | None = None


class DataRequest(NamedRequest):
    """`POST /v1/certificates/data`: what is written in it."""

    fields: list[Text] | None = Field(None, max_length=100)
    """Which fields are wanted; without it, all that the grant allows."""
    number: Text | None = None
    """Of a holder's certificates of the type, the one with this number (证照编号)."""


class VerifyRequest(NamedRequest):
    """`POST /v1/certificates/verify`: what it is worth now, and whether it says what somebody claims that it says."""

    code: Text | None = None
    """A code that its holder shows (亮证码), in place of the identifier."""
    file: Short | None = None
    """The blob of a file that was handed in (POST /v1/blobs), in place of the identifier."""
    claims: dict[Text, Text] = Field(default_factory=dict, max_length=50)
    """Field → claimed value; the answer says match or mismatch, and never the value."""
    max_age: int | None = Field(None, ge=0, le=3600)
    """How old a remembered standing may be, in seconds; 0 asks the issuer now."""


class FileRequest(NamedRequest):
    """`POST /v1/certificates/file`: its file, as the issuer has it."""

    copy_for: Text | None = None
    """Asks for a copy that is marked as made for this one use (加注件)."""
    number: Text | None = None
    """Of a holder's certificates of the type, the one with this number (证照编号)."""
    link: bool = False
    """Asks for an address that serves once, in place of the bytes."""


class DisputeRequest(NamedRequest):
    """`POST /v1/certificates/disputes`: an error in a certificate, told to whoever issued it (异议)."""

    reference: Short
    """The caller's own number of the report: the same again is the same report."""
    identifier: Text
    field: Text | None = None
    statement: Long
