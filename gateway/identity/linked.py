"""Which of a person's linked accounts count towards a service: what userinfo tells, and what a person is asked about.

Owns: that nobody is vouched for whose own sign-on would not get in just now. Leaves to `linking` which links there are,
to policy the recognition matrix, to `switches` which regions are closed.

A link outlives the sign-ons that made it, and the trust in their regions. So it is held, each time it is asked for,
against what holds today; it is not ended, because the person made it and a region may be opened again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection

from gateway.identity.clients import Client
from gateway.identity.linking import Side, answering_level
from gateway.identity.provider import ProviderParts
from gateway.identity.records import Session
from gateway.identity.switches import closed_regions
from gateway.policy.recognition import PersonKind

Links = Callable[[Connection, str, str], Sequence[Side]]
"""Returns the accounts that are linked with a region's subject, by its reference (`Linking.linked_subjects`)."""


class LinkedAccounts:
    """The linked accounts that count. `regions` are those enabled here that sign people on."""

    def __init__(self, links: Links | None, regions: Collection[str], parts: ProviderParts) -> None:
        self._links = links
        self._regions = frozenset(regions)
        self._parts = parts

    def counting(self, tx: Connection, client: Client, session: Session, now: datetime) -> list[Side]:
        """Return the accounts linked with this sign-on that the client may be told of, now.

        Their regions are enabled and open, and a sign-on there would be recognised for the client's service at the
        level that the link can promise. The switch is read in this transaction: a picture of it may be two seconds old.
        """
        sides = () if self._links is None else self._links(tx, session.region, session.subject_ref)
        if not sides:
            return []
        usable = self._regions - closed_regions(tx)
        return [side for side in sides if side.region in usable and self._recognised(client, session, side, now)]

    def _recognised(self, client: Client, session: Session, side: Side, now: datetime) -> bool:
        """Say whether the matrix recognises that end. Only natural persons are linked (`linking`)."""
        level = answering_level(session.assurance, side)
        return self._parts.counts(client, side.region, level, PersonKind.PERSON, now).allowed
