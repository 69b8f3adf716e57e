"""Who is asking: an agency's system, or a clerk at a window. Proved before it gets here."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.identity import SignedOnPerson


@dataclass(frozen=True, slots=True)
class Acting:
    """For whom a caller acts: a person who has signed on, under the name by which this client knows them.

    `grant_id` is what the caller's token stands and falls with.
    """

    person: SignedOnPerson
    subject: str
    grant_id: str


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
