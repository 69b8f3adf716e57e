"""Delegation in tokens: who is the principal, who only acts (RFC 8693 §4.1 `act`, §4.4 `may_act`), by which mandate.

Owns: the claims that a token carries about a mandate, and telling principal and agent apart when one is read. Leaves
to `provider` and `tokens`: putting them into a token. Leaves to `mandates`: whether the mandate still serves, which
whoever accepts a token asks again.

In a token that an exchange issued to an agent, `sub` is the principal and `act` is who acts. A reader that took `sub`
alone for the person in front of it would let the agent stand for the applicant; `parties` and `sole_person` are there
so that nobody needs to. No claim here holds a name or a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.crypto.at_rest import References
from gateway.domain.mandate import Mandate, Party, SignedOn
from gateway.errors import NotPermitted

MANDATE_CLAIM = "mandate"
"""Ours, in tokens that only this gateway and its own clients read."""


@dataclass(frozen=True, slots=True)
class Parties:
    """Whom a token is about. `agent` is None when the person acts alone.

    An agent without a mandate is a service that exchanged the person's token: it carries the person's request on, and
    it is registered for that. With a mandate the agent is somebody else, who acts in the person's name.
    """

    principal: str
    agent: str | None = None
    mandate: str | None = None


def mandate_claim(mandate: Mandate, client_id: str, references: References, *, issuer: str) -> dict[str, Any]:
    """Return what a token says of the mandate: which, for whom, in which items, for how long, who vouches for it."""
    return {
        "id": mandate.id,
        "iss": issuer,
        "principal": principal_subject(mandate, client_id, references),
        "relation": mandate.relation.value,
        "items": sorted(mandate.items),
        "nbf": int(mandate.valid_from.timestamp()),
        "exp": int(mandate.valid_until.timestamp()),
    }


def act_claim(agent_subject: str, *, issuer: str) -> dict[str, Any]:
    """Return `act`: who acts, under the `sub` by which this client knows the agent (RFC 8693 §4.1)."""
    return {"sub": agent_subject, "iss": issuer}


def may_act_claim(mandate: Mandate, client_id: str, references: References, *, issuer: str) -> dict[str, Any]:
    """Return `may_act` for the principal's own token: who may ask to act for them (RFC 8693 §4.4).

    The agent need never have signed on here, so the name is made of the agent's document, for this client alone.
    """
    return {"sub": party_subject(mandate.agent, client_id, references), "iss": issuer}


def principal_subject(mandate: Mandate, client_id: str, references: References) -> str:
    """Return the principal's pairwise subject: the same `sub` that this client sees when the principal signs on.

    A principal who agreed on paper has never signed on here and gets a subject made of the document.
    """
    if isinstance(mandate.consent, SignedOn):
        return references.of(client_id, mandate.consent.region, mandate.consent.subject)
    return party_subject(mandate.principal, client_id, references)


def party_subject(party: Party, client_id: str, references: References) -> str:
    """Return a pairwise subject for a party that is known by its document alone."""
    return references.of(client_id, "document", *party.key)


def parties(claims: Mapping[str, Any]) -> Parties:
    """Return principal and agent of a verified token.

    Raises NotPermitted (`delegation.malformed`) for a token whose actor cannot be read, or with a mandate that is not
    its subject's, or of which nobody makes use: it must never be read as one of a person who acts alone.
    """
    subject, act, mandate = claims.get("sub"), claims.get("act"), claims.get(MANDATE_CLAIM)
    if not isinstance(subject, str) or not subject:
        raise _malformed("names nobody")
    if act is None and mandate is None:
        return Parties(subject)
    agent = act.get("sub") if isinstance(act, Mapping) else None
    if not isinstance(agent, str) or not agent or agent == subject:
        raise _malformed("does not say who acts")
    return Parties(subject, agent, None if mandate is None else _mandate_of(mandate, subject))


def _mandate_of(mandate: object, subject: str) -> str:
    """Return the id of a mandate that this subject gave."""
    mandate_id = mandate.get("id") if isinstance(mandate, Mapping) else None
    if not isinstance(mandate, Mapping) or not isinstance(mandate_id, str) or mandate.get("principal") != subject:
        raise _malformed("carries a mandate that is not its subject's")
    return mandate_id


def sole_person(claims: Mapping[str, Any]) -> str:
    """Return the `sub` of a token whose person acts alone. Raises NotPermitted (`delegation.agent_token`) otherwise.

    Whoever wants the applicant in person asks this: consent, linking, a new mandate.
    """
    found = parties(claims)
    if found.agent is not None:
        text = "This token was issued to an agent; it does not stand for the applicant in person."
        raise NotPermitted(text, code="delegation.agent_token")
    return found.principal


def _malformed(what: str) -> NotPermitted:
    return NotPermitted(f"The token {what}.", code="delegation.malformed")
