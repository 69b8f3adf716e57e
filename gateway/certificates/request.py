"""What a caller asks when it looks a certificate up: the five elements, purpose and legal basis, and the holder.

The five elements (五要素) that go with every lookup between provinces: organisation (the caller's own, proved by its
token), operator, item name, item code, case number. A holder is named by name, number and type; "number only" cannot
be said.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from gateway.edge import Edge, Short, Text
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


class LookupRequest(Edge):
    """`POST /v1/certificates/lookup`."""

    certificate_type: Text
    """Code (21 characters), name or alias."""
    holder: HolderNamed
    holder_role: Literal["applicant", "principal", "party"]
    """How the holder takes part in the case; proved for our own cases, declared and recorded for the caller's."""
    issuer: Short | None = None
    """The issuing region; may be left out when the type has only one."""
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
