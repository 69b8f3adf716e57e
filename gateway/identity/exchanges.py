"""Who may act for whom: token exchange between clients, for a person who has signed on (RFC 8693).

Owns: the decision whether a client may have a token for the person behind another client's token, and what family comes
of it. Leaves to `grants` the form of request and answer, to `gateway.policy` what the new token may then be used for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from gateway.errors import NotAuthenticated
from gateway.identity import families
from gateway.identity.clients import Client
from gateway.identity.families import Family, Standing
from gateway.identity.grants import ACCESS_TOKEN
from gateway.identity.persons import IDENTITY_SCOPES
from gateway.identity.provider import Work
from gateway.identity.tokens import AccessTokens


class Exchanges:
    """Decides exchanges."""

    def __init__(self, tokens: AccessTokens) -> None:
        self._tokens = tokens

    def settle(self, tx: Connection, form: Mapping[str, str], client: Client, work: Work) -> Standing | None:
        """Begin a family for a client that acts for the person behind a token; None when it may not.

        The person's token must stand, and have been issued to a client that this one is registered to exchange from.
        The new family rests on the same sign-on, so it ends with it; it says who acts, and is exchanged no further.
        """
        claims = self._subject(form)
        if claims is None or claims["client_id"] not in client.exchanges_from:
            return None
        standing = families.find_standing(tx, claims["grant_id"], work.now)
        if standing is None or families.is_revoked(tx, claims["jti"]):
            return None
        family = _family(form, claims, client, standing, work)
        families.begin_family(tx, family)
        return Standing(family, standing.session)

    def _subject(self, form: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the claims of the person's token: of a sign-on, not of an earlier exchange."""
        if form.get("subject_token_type") != ACCESS_TOKEN or "actor_token" in form:
            return None
        try:
            claims = self._tokens.verify(form.get("subject_token", ""))
        except NotAuthenticated:
            return None
        return claims if "grant_id" in claims and "act" not in claims else None


def _family(
    form: Mapping[str, str], claims: Mapping[str, Any], client: Client, standing: Standing, work: Work
) -> Family:
    allowed = client.scopes - IDENTITY_SCOPES
    wanted = allowed & set(form["scope"].split()) if "scope" in form else allowed
    ends = min(standing.family.expires_at, datetime.fromtimestamp(claims["exp"], UTC))
    return Family(
        id=work.token_id,
        client_id=client.id,
        session_id=standing.session.id,
        scope=" ".join(sorted(wanted)),
        acr=standing.family.acr,
        created_at=work.now,
        expires_at=ends,
        binding=work.binding,
        actor={"sub": client.id},
    )
