"""Whether an access token stands at this moment: signed by us, in its term, not revoked, its sign-on alive.

Owns: asking the memory of verified tokens first and the store only when that does not know. Leaves to `proofs` whether
whoever presents it is its holder.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from gateway.errors import NotAuthenticated
from gateway.identity import families
from gateway.identity.delegation import MANDATE_CLAIM
from gateway.identity.mandates import in_force
from gateway.identity.tokens import AccessTokens
from gateway.identity.verified import VerifiedTokens
from gateway.ports import Clock
from gateway.storage import Store


async def standing_claims(
    token: str, tokens: AccessTokens, verified: VerifiedTokens, store: Store, clock: Clock
) -> Mapping[str, Any]:
    """Return the claims of an access token that stands. Raises NotAuthenticated.

    Only a client's own token is remembered to stand: a person's sign-on may end at another replica, so the store is
    asked anew, and what is remembered is that the token is ours.
    """
    remembered = verified.standing(token)
    if remembered is not None:
        return remembered
    question = verified.begin()
    claims = verified.signed(token) or tokens.verify(token)
    if not await store.read(partial(stands, claims=claims, now=clock())):
        raise NotAuthenticated("The access token was revoked, or the sign-on behind it has ended.")
    if "grant_id" not in claims:
        verified.remember(question, token, claims)
    else:
        verified.remember_signed(token, claims)
    return claims


def stands(tx: Connection, claims: Mapping[str, Any], now: datetime) -> bool:
    """Say whether a verified access token was not revoked, and whether all that it rests on lives: sign-on, mandate."""
    if "grant_id" not in claims:
        return not families.is_revoked(tx, claims["jti"])
    if not families.token_stands(tx, claims["jti"], claims["grant_id"], now):
        return False
    return MANDATE_CLAIM not in claims or in_force(tx, claims[MANDATE_CLAIM]["id"], now)
