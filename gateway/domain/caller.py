"""Who is asking: an agency's system, or a clerk at a window. Proved before it gets here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.identity import SignedOnPerson


@dataclass(frozen=True, slots=True)
class Acting:
    """For whom a caller acts: a person who has signed on, under the name by which this client knows them.

    `grant_id` is what the caller's token stands and falls with. With a `mandate` the person who signed on is an agent:
    then `subject` is the principal, and `person` never is.
    """

    person: SignedOnPerson
    subject: str
    grant_id: str
    mandate: str | None = None

    def is_for(self, document_type: str, number: str) -> bool:
        """Say whether this document is that of the person who signed on, or of the organisation signed on for.

        A person whose region told no document is nobody's applicant: a name alone is no identity.
        """
        claims = self.person.claims.reveal()
        holders = [claims, claims.get("organisation")]
        documents = [holder.get("document") for holder in holders if isinstance(holder, Mapping)]
        known = [(doc.get("type"), doc.get("number")) for doc in documents if isinstance(doc, Mapping)]
        return (document_type, number.upper()) in [(kind, str(number).upper()) for kind, number in known]


@dataclass(frozen=True, slots=True)
class Caller:
    """The party on whose behalf a request runs.

    `client_id` is the registered client; `organisation` its name and `organisation_code` its USCC; `origin_code` the
    GB/T 2260 code of the place where it sits. `operator` is the person at the keyboard by staff id, never by name;
    `window_id` is set when that person is a clerk of a registered window. `acting` is set when the caller exchanged the
    token of a person who signed on elsewhere (RFC 8693): then it acts for that person and for nobody else.
    """

    client_id: str
    organisation: str
    organisation_code: str
    origin_code: str
    scopes: frozenset[str]
    operator: str | None = None
    window_id: str | None = None
    acting: Acting | None = None
