"""Who may act for whom: token exchange between clients, for a person who has signed on (RFC 8693).

Owns: the decision whether a client may have a token for the person behind another client's token, or for the principal
whose mandate that person holds, and what family comes of it. Leaves to `grants` the form of request and answer, to
`delegation` how a token says it, and to whoever takes the token whether the mandate covers the item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from gateway.domain.identity import Assurance
from gateway.domain.mandate import Mandate, Party
from gateway.errors import NotAuthenticated
from gateway.identity import families
from gateway.identity.clients import Client
from gateway.identity.delegation import act_claim
from gateway.identity.families import Family, Standing
from gateway.identity.grants import ACCESS_TOKEN
from gateway.identity.mandates import Mandates
from gateway.identity.persons import IDENTITY_SCOPES
from gateway.identity.provider import ProviderParts, Work
from gateway.identity.records import Session


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What an exchange began. `mandate` is that by which the person who signed on acts for somebody else."""

    standing: Standing
    mandate: Mandate | None = None


class Exchanges:
    """Decides exchanges. Without `mandates` nobody acts for somebody else."""

    def __init__(self, parts: ProviderParts, mandates: Mandates | None) -> None:
        self._parts = parts
        self._mandates = mandates

    def settle(self, tx: Connection, form: Mapping[str, str], client: Client, work: Work) -> Exchanged | None:
        """Begin a family for a client that acts for the person behind a token; None when it may not.

        The person's token must stand, and have been issued to a client that this one is registered to exchange from.
        The new family rests on the same sign-on, so it ends with it; it says who acts, and is exchanged no further.
        """
        claims = self._subject(form)
        if claims is None or claims["client_id"] not in client.exchanges_from:
            return None
        standing = families.find_standing(tx, claims["grant_id"], work.now, hold=True)  # or its end would miss ours
        if standing is None or families.is_revoked(tx, claims["jti"]):
            return None
        if not self._parts.recognised(client, standing.session, work.now).allowed:  # here: the matrix is by service
            return None
        mandate = self._mandate(tx, form, standing.session)
        if "mandate" in form and mandate is None:
            return None
        actor = self._actor(client, standing.session, mandate)
        family = _family(form, claims, client, standing, work, actor, mandate)
        families.begin_family(tx, family)
        return Exchanged(Standing(family, standing.session), mandate)

    def _subject(self, form: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the claims of the person's token: of a sign-on, not of an earlier exchange."""
        if form.get("subject_token_type") != ACCESS_TOKEN or "actor_token" in form:
            return None
        if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
            return None
        try:
            claims = self._parts.tokens.verify(form.get("subject_token", ""))
        except NotAuthenticated:
            return None
        return claims if "grant_id" in claims and "act" not in claims else None

    def _mandate(self, tx: Connection, form: Mapping[str, str], session: Session) -> Mandate | None:
        """Return the mandate that is named, if it serves the person who signed on, by the document of that person.

        An agent must be as sure as a principal who gives a mandate (A2).
        """
        if "mandate" not in form or self._mandates is None or session.assurance < Assurance.A2:
            return None
        _subject, person = self._parts.vault.open(session.id, session.person)
        agent = _party(person.reveal())
        return None if agent is None else self._mandates.serving(tx, form["mandate"], agent)

    def _actor(self, client: Client, session: Session, mandate: Mandate | None) -> Mapping[str, Any]:
        """Return who acts: the client for the person, or the person for the principal of a mandate."""
        if mandate is None:
            return {"sub": client.id}
        return act_claim(self._parts.pairwise(client.id, session), issuer=self._parts.issuer)


def _party(claims: Mapping[str, Any]) -> Party | None:
    """Return a person as a mandate names one; None without a document, or for who signed on for an organisation."""
    document = claims.get("document") or {}
    if "organisation" in claims or not document.get("type") or not document.get("number"):
        return None
    return Party(document["type"], document["number"], str(claims.get("name", "")))


def _family(
    form: Mapping[str, str],
    claims: Mapping[str, Any],
    client: Client,
    standing: Standing,
    work: Work,
    actor: Mapping[str, Any],
    mandate: Mandate | None,
) -> Family:
    allowed = client.scopes - IDENTITY_SCOPES
    wanted = allowed & set(form["scope"].split()) if "scope" in form else allowed
    ends = [standing.family.expires_at, datetime.fromtimestamp(claims["exp"], UTC)]
    return Family(
        id=work.token_id,
        client_id=client.id,
        session_id=standing.session.id,
        scope=" ".join(sorted(wanted)),
        acr=standing.family.acr,
        created_at=work.now,
        expires_at=min(ends if mandate is None else [*ends, mandate.valid_until]),
        binding=work.binding,
        actor=actor,
        mandate_id=None if mandate is None else mandate.id,
    )
