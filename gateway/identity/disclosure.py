"""Which claims of a person a service gets, and whether the person must be asked first.

Owns: turning scopes and the claims request into names of claims, and keeping what a person agreed to. Leaves the rules
of the border to `gateway.policy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from gateway.identity.clients import Client
from gateway.identity.persons import CLAIM_NAMES, claims_of_scopes
from gateway.identity.provider import ClaimsChosen, SessionFound
from gateway.identity.records import Session


@dataclass(frozen=True, slots=True)
class Outcome:
    """What may go out now, what would go out once the person agrees, and whether that must be asked."""

    given: ClaimsChosen
    asked_for: ClaimsChosen
    must_ask: bool


class Disclosure:
    """Decides what goes out."""

    async def decide(self, found: SessionFound, _now: datetime) -> Outcome:
        """Return what this service gets of this person."""
        wanted = wanted_claims(found)
        return Outcome(given=wanted, asked_for=wanted, must_ask=False)

    def keep(
        self,
        tx: Connection,
        client: Client,
        session: Session,
        outcome: Outcome,
        shown: Mapping[str, str],
        now: datetime,
    ) -> None:
        """Keep what a person agreed to, with what was shown. Part of the caller's transaction."""


def wanted_claims(found: SessionFound) -> dict[str, Sequence[str]]:
    """Return which claims are asked for, and where they are to go: by scope to userinfo, one by one to either."""
    asked = found.wishes.claims
    by_scope = claims_of_scopes(found.scope.split())
    userinfo = [name for name in CLAIM_NAMES if name in by_scope or name in asked.get("userinfo", {})]
    id_token = [name for name in CLAIM_NAMES if name in asked.get("id_token", {})]
    return {"userinfo": userinfo, "id_token": id_token}
