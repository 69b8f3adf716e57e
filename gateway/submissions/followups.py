"""What is common to everything that is said of a case after it was handed in: whose case it is, and who may speak.

Owns: finding a case for its filer, the grant that it was filed under, the applicant or agent who speaks, the refusal of
a region that hears such things on paper alone, and the evidence of refusals. Leaves to `supplements` and `withdrawals`:
what is said. To `messages`: carrying it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.item import Item
from gateway.domain.mandate import Party, Use
from gateway.edge import Edge, Short
from gateway.errors import FieldProblem, GatewayError, InvalidRequest, NotOffered, NotPermitted
from gateway.evidence import record
from gateway.evidence.record import refusal, who_is
from gateway.identity.mandates import Mandates
from gateway.policy.grants import Ask, Capability, Grants
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import submissions
from gateway.submissions.application import PartyNamed
from gateway.submissions.checks import agent_problems
from gateway.submissions.owned import require_owner
from gateway.submissions.parcels import open_body


class Said(Edge):
    """What every message about a case carries: the caller's own number for it, and an agent where one speaks."""

    reference: Short
    """The same reference again is the same message."""
    agent: PartyNamed | None = None
    """Who speaks for the applicant; then `mandate` is required."""
    mandate: Short | None = None


@dataclass(frozen=True, slots=True)
class Mine:
    """A case of this caller: its row, and the canonical submission that was handed in."""

    row: Mapping[str, Any]
    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Our case number."""
        return str(self.row["id"])

    @property
    def region(self) -> str:
        """The region that handles it."""
        return str(self.row["handling_region"])

    @property
    def applicant(self) -> Party:
        """The applicant, as the rules of mandates read one."""
        known = self.body["applicant"]
        return Party(known["document"]["type"], known["document"]["number"], known["name"])


class Followups:
    """Says who may say something more of a case. Lent to the services that take it."""

    def __init__(
        self,
        *,
        store: Store,
        items: Mapping[str, Item],
        regions: Mapping[str, Region],
        grants: Grants,
        mandates: Mandates,
        sealer: Sealer,
        clock: Clock,
    ) -> None:
        self.store = store
        self.items = items
        self.sealer = sealer
        self.clock = clock
        self._regions = regions
        self._grants = grants
        self._mandates = mandates

    def find(self, tx: Connection, caller: Caller, submission_id: str) -> Mine:
        """Return a case of this caller. Raises NotFound, also for a case of somebody else."""
        require_owner(tx, self.sealer, caller, submission_id)
        row = tx.execute(select(submissions).where(submissions.c.id == submission_id)).mappings().one()
        return Mine(dict(row), open_body(self.sealer, submission_id, row["body"]))

    def region(self, mine: Mine) -> Region:
        """Return the region that handles the case. Raises NotOffered when it is enabled no more."""
        region = self._regions.get(mine.region)
        if region is None:
            raise NotOffered(f"Region {mine.region} is not served any more.", region=mine.region)
        return region

    def require_grant(self, caller: Caller, mine: Mine, now: datetime) -> None:
        """Require the grant that the case was filed under, as of today. Raises NotPermitted."""
        purpose, item, today = mine.row["purpose_code"], mine.row["item_code"], local_day(now)
        if purpose:
            ask = Ask(caller.client_id, Capability.CREATE_SUBMISSIONS, item, None, purpose, mine.region, today)
            self._grants.require(ask)
            return
        # A case from before the purpose was kept: any purpose of the client for this item and place will do.
        known = [self.items[item]] if item in self.items else []
        visible = self._grants.visible_items(caller.client_id, known, today)
        if not any(found.office(mine.region) for found in visible):
            raise NotPermitted("No grant covers this item at this place any more.", code="policy.no_grant")

    def require_wire(self, mine: Mine, kind: str, where: str) -> Region:
        """Return the region, if its wire carries such messages. Raises NotOffered (`submission.on_paper`)."""
        region = self.region(mine)
        if not region.takes(kind):
            text = f"Region {region.id} takes a {kind} on paper only: {where}, with the region's number of the case."
            raise NotOffered(text, code="submission.on_paper", region=region.id)
        return region

    def speaker_problems(self, caller: Caller, mine: Mine, said: Said, today: date) -> Iterator[FieldProblem]:
        """Check that whoever speaks is the applicant or an agent, and the one for whom the caller's token stands."""
        yield from agent_problems(said, today)
        if caller.acting is None:
            return
        field, party = ("agent", said.agent.party()) if said.agent else ("(caller)", mine.applicant)
        if not caller.acting.is_for(party.document_type, party.number):
            yield FieldProblem(field, "is not the person who signed on", "another_person")
        if caller.acting.mandate is not None and said.mandate != caller.acting.mandate:
            yield FieldProblem("mandate", "must be the one that the access token was issued for", "another_mandate")

    def require_mandate(self, tx: Connection, mine: Mine, said: Said, now: datetime) -> None:
        """Let an agent speak only by a mandate of this applicant that is live as this transaction commits."""
        if said.agent is None or said.mandate is None:  # both or none, see `agent_problems`
            return
        use = Use(said.agent.party(), mine.row["item_code"], now, mine.applicant)
        self._mandates.check(tx, said.mandate, use, hold=True)

    async def note_refusal(
        self, caller: Caller, submission_id: str, action: str, error: GatewayError, received_at: datetime
    ) -> None:
        """Keep a refusal as evidence."""
        exchange = refusal(
            error,
            action=action,
            who=who_is(caller),
            what={"case": submission_id[:64]},
            purpose="",
            received_at=received_at,
        )
        error.evidence = await self.store.write(lambda tx: record(tx, exchange, now=self.clock()))


def refuse(problems: list[FieldProblem]) -> None:
    """Raise InvalidRequest with all that is wrong, if anything is."""
    if problems:
        raise InvalidRequest("Some fields are not valid; see `problems`.", problems=problems)


def by_mandate(said: Said) -> dict[str, str]:
    """Return the mandate as evidence names it."""
    return {"mandate": said.mandate} if said.mandate else {}
