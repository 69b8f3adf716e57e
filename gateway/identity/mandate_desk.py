"""Mandates on paper: what an agency's window may record, look at and end (`/v1/mandates`).

Owns: the shape of such a mandate, the grant it needs, and that an agency sees only what it recorded itself. Leaves to
`mandates`: the rules and the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import AwareDatetime, Field

from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.item import Item
from gateway.domain.mandate import MOST_ITEMS, Lack, Mandate, OnPaper, Relation
from gateway.edge import Edge, Short, Text
from gateway.errors import NotPermitted
from gateway.evidence.record import who_is
from gateway.identity.mandates import Mandates, new_mandate_id, unknown
from gateway.policy.grants import Ask, Capability, Grants
from gateway.ports import Clock
from gateway.submissions.application import PartyNamed


class PaperMandate(Edge):
    """`POST /v1/mandates`: a mandate that a principal signed at a window."""

    principal: PartyNamed
    agent: PartyNamed
    relation: Relation
    items: list[Short] = Field(min_length=1, max_length=MOST_ITEMS)
    """Codes of items, one by one."""
    valid_from: AwareDatetime
    valid_until: AwareDatetime
    form: Text
    """Number of the signed form."""
    clerk: Short
    """Staff id of the clerk who took it, never a name."""
    window: Short
    sighted: list[Text] = Field(min_length=1, max_length=20)
    """The original documents that the clerk saw."""
    purpose_code: Short


class Revoking(Edge):
    """`POST /v1/mandates/{id}/revoke`: who asked for it at the window, and on which form."""

    form: Text
    clerk: Short


@dataclass(frozen=True, slots=True)
class Standing:
    """A mandate, and what keeps it from serving now (nothing: it serves)."""

    mandate: Mandate
    lacks: list[Lack]


class MandateDesk:
    """Records mandates for agencies that have a grant for it."""

    def __init__(self, mandates: Mandates, items: Mapping[str, Item], grants: Grants, clock: Clock) -> None:
        self._mandates = mandates
        self._items = items
        self._grants = grants
        self._clock = clock

    async def record(self, caller: Caller, asked: PaperMandate) -> Standing:
        """Store a mandate on paper. Raises NotPermitted (`policy.no_grant`) or InvalidRequest."""
        now = self._clock()
        for code in asked.items:
            self._may(caller, code, asked.purpose_code)
        mandate = Mandate(
            id=new_mandate_id(),
            principal=asked.principal.party(),
            agent=asked.agent.party(),
            relation=asked.relation,
            items=frozenset(asked.items),
            valid_from=asked.valid_from,
            valid_until=asked.valid_until,
            consent=OnPaper(asked.form, asked.clerk, asked.window, tuple(asked.sighted)),
            recorded_by=caller.client_id,
            created_at=now,
        )
        who = {**who_is(caller), "operator": asked.clerk, "window": asked.window}
        return self._standing(await self._mandates.make(mandate, who=who))

    async def show(self, caller: Caller, mandate_id: str) -> Standing:
        """Return a mandate that this caller recorded. Raises NotFound (`delegation.unknown`)."""
        found = await self._mandates.find(mandate_id)
        if found is None or found.recorded_by != caller.client_id:
            raise unknown()
        return self._standing(found)

    async def revoke(self, caller: Caller, mandate_id: str, asked: Revoking) -> Standing:
        """End a mandate that this caller recorded. Raises NotFound (`delegation.unknown`)."""
        found = await self.show(caller, mandate_id)
        who = {**who_is(caller), "operator": asked.clerk, "form": asked.form}
        return self._standing(await self._mandates.revoke(found.mandate.id, by=caller.client_id, who=who))

    def _may(self, caller: Caller, item_code: str, purpose: str) -> None:
        """Demand a grant for the item at one of its places at least; an unknown item is left to the rules."""
        item, day = self._items.get(item_code), local_day(self._clock())
        refused: NotPermitted | None = None
        for region in [office.region for office in item.offices] if item else []:
            ask = Ask(caller.client_id, Capability.RECORD_MANDATES, item_code, None, purpose, region, day)
            try:
                self._grants.require(ask)
            except NotPermitted as error:
                refused = refused or error
            else:
                return
        if refused is not None:
            raise refused

    def _standing(self, mandate: Mandate) -> Standing:
        return Standing(mandate, self._mandates.lacks_now(mandate))
