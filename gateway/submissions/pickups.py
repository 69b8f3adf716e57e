"""Pickups (提取): a region that was told a number pulls the case and its materials from here.

Owns: what may be pulled, by whom and for how long; that each pull, a refused one too, is evidence. A region gets the
cases that it handles, from the moment that their notice left until some time after it was acknowledged, written with
the mappings that they are pinned to. Nothing is kept in memory between notice and pull: any replica answers any pull,
as often as it is asked. Leaves to adapters: whether a pull is genuine, and the form of every answer. To `parcels`:
packing. To `delivery`: the notice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, RowMapping, select

from gateway.errors import FieldProblem, GatewayError, NotFound, PickupOver, ReplayedCallback
from gateway.evidence import Exchange, record
from gateway.ports import Callback, Clock, Material, Pickup, PickupAnswer, Pickups, RegionDocument
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.nonces import spend
from gateway.storage.tables import deliveries, submissions
from gateway.submissions.attempt import Pinned
from gateway.submissions.parcels import Parcel, Parcels
from gateway.telemetry import Metrics

log = structlog.get_logger("pickups")

ANNOUNCED = ("sending", "in_doubt", "delivered")
"""States of a delivery in which its region may know the number."""
_LONGEST = 64
"""How much of a number that a region names is written down, when there is no such case."""


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A pull that may be answered: what its case is pinned to."""

    mapping_version: str


@dataclass(frozen=True, slots=True)
class _Turned:
    """A pull that is turned away: what its region is told, and why, where our evidence may say more than that."""

    error: GatewayError
    why: str = ""


class PickupDesk:
    """Answers pulls. `term` is for how long after its notice was acknowledged a case can be pulled."""

    def __init__(
        self,
        *,
        store: Store,
        regions: Mapping[str, Region],
        parcels: Parcels,
        pinned: Pinned,
        clock: Clock,
        metrics: Metrics,
        term: timedelta,
    ) -> None:
        self._store = store
        self._regions = regions
        self._parcels = parcels
        self._pinned = pinned
        self._clock = clock
        self._metrics = metrics
        self._term = term

    def serves(self, region_id: str, operation: str) -> bool:
        """Say whether what arrives under this region's address is a pull, and no callback."""
        pickups = self._pickups(region_id)
        return pickups is not None and operation in pickups.operations

    async def answer(self, region_id: str, pull: Callback) -> PickupAnswer:
        """Return what goes back to the region, a refusal too: in its own form. Raises nothing of the gateway's."""
        pickups = self._pickups(region_id)
        if pickups is None:
            raise LookupError(region_id)
        asked: Pickup | None = None
        try:
            asked = await pickups.read(pull)
            return await self._answered(self._regions[region_id], pickups, pull, asked)
        except GatewayError as error:
            return await self._refused(region_id, pickups, pull, asked, _Turned(error))
        except _TurnedAway as turned:
            return await self._refused(region_id, pickups, pull, asked, turned.how)
        except Exception as bug:  # a bug of ours must not answer in another form than the region reads
            log.exception("pull failed unexpectedly", region=region_id)
            broken = GatewayError("Something went wrong inside the gateway.", detail=type(bug).__name__)
            return await self._refused(region_id, pickups, pull, asked, _Turned(broken))

    def _pickups(self, region_id: str) -> Pickups | None:
        region = self._regions.get(region_id)
        return None if region is None else region.adapter.pickups

    # --- answering ---------------------------------------------------------------------------------------------------

    async def _answered(self, region: Region, pickups: Pickups, pull: Callback, asked: Pickup) -> PickupAnswer:
        """Admit, pack, write down what leaves, and only then hand it over."""
        admitted = await self._store.write(lambda tx: self._admit(tx, region.id, asked))
        if isinstance(admitted, _Turned):
            raise _TurnedAway(admitted)
        packs = await self._pinned(region, admitted.mapping_version)
        if asked.message_id:
            parcel = await self._parcels.pack_message(asked.message_id, packs, region.id)
        else:
            parcel = await self._parcels.pack(asked.submission_id, packs)
        part = _wanted(parcel, asked)
        exchange = _leaving(region.id, pull, asked, parcel, part, self._clock())
        if isinstance(part, Material):
            return await self._file(region.id, exchange, pickups.material(pull, part))
        await self._leave(region.id, exchange, "document")
        return pickups.document(pull, part)

    async def _file(self, region: str, exchange: Exchange, answer: PickupAnswer) -> PickupAnswer:
        """Begin to read a file before its answer begins: what is not there can still be refused."""
        begun = await anext(answer.body, b"")
        await self._leave(region, exchange, "material")
        return replace(answer, body=self._watched(region, exchange, begun, answer.body))

    async def _leave(self, region: str, exchange: Exchange, outcome: str) -> None:
        """Write down what is about to leave."""
        await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))
        self._metrics.pickup(region, outcome)

    def _admit(self, tx: Connection, region: str, asked: Pickup) -> _Admitted | _Turned:
        """Spend the nonce, whatever comes of it, and say whether this region may pull this case now."""
        if not spend(tx, f"pickup:{region}", asked.nonce, asked.nonce_expires):
            problem = FieldProblem("nonce", "was used before", "replayed")
            return _Turned(ReplayedCallback("This pull was received before.", problems=[problem]), "replayed")
        row = _delivery(tx, asked)
        if row is None or row["region"] != region:
            error = NotFound("There is no such case here.", code="pickup.unknown_case")
            return _Turned(error, "no such case" if row is None else "another region's case")
        if row["state"] not in ANNOUNCED or row["sent_at"] is None:
            return _Turned(NotFound("The case was not announced.", code="pickup.not_announced"), row["state"])
        if row["state"] == "delivered" and row["settled_at"] + self._term < self._clock():
            return _Turned(PickupOver("The case can be pulled no longer."), "the term has passed")
        return _Admitted(row["mapping_version"])

    async def _watched(
        self, region: str, exchange: Exchange, begun: bytes, rest: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """Pass a file on; write down when it did not reach its end."""
        whole = False
        try:
            async with aclosing(rest):
                yield begun
                async for piece in rest:
                    yield piece
            whole = True
        finally:
            if not whole:
                broken = replace(exchange, outcome="failed", reason="interrupted", parts={})
                await self._note(region, broken, "interrupted")

    # --- refusing ----------------------------------------------------------------------------------------------------

    async def _refused(
        self, region: str, pickups: Pickups, pull: Callback, asked: Pickup | None, turned: _Turned
    ) -> PickupAnswer:
        error = turned.error
        fields = error.fields()
        why = turned.why or error.detail
        log.info("pull refused", region=region, code=error.stable_code, why=why, fields=fields)
        what = {"path": pull.path, "size": len(pull.body), "fields": fields, **_named(asked)}
        if turned.why:
            what["why"] = turned.why
        outcome = _exchange(region, pull, what, "refused", error.stable_code, {"body": pull.body})
        await self._note(region, outcome, "refused")
        return pickups.refusal(pull, error)

    async def _note(self, region: str, exchange: Exchange, outcome: str) -> None:
        """Write down what was not handed over. The store may be the reason why: then the log must do."""
        self._metrics.pickup(region, outcome)
        try:
            await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))
        except GatewayError as error:
            log.warning("pull not written down", region=region, code=error.stable_code, detail=error.detail)


class _TurnedAway(Exception):
    """Carries what a pull is told out of the steps that it does not take any more."""

    def __init__(self, how: _Turned) -> None:
        super().__init__(how.why)
        self.how = how


def _delivery(tx: Connection, asked: Pickup) -> RowMapping | None:
    """Return the notice that a pull follows: of the case, or of that message about it, whoever handles it."""
    c = deliveries.c
    of_message = c.message_id == asked.message_id if asked.message_id else c.message_id.is_(None)
    query = (
        select(c.region, c.state, c.sent_at, c.settled_at, submissions.c.mapping_version)
        .join(submissions, submissions.c.id == c.submission_id)
        .where(c.submission_id == asked.submission_id, of_message)
    )
    return tx.execute(query).mappings().first()


def _wanted(parcel: Parcel, asked: Pickup) -> RegionDocument | Material:
    """Return the part of a case that is asked for. Raises NotFound, also for a code that two materials have."""
    if not asked.wants_material:
        return parcel.document
    if asked.material_sha256:
        found = [each for each in parcel.materials if each.sha256 == asked.material_sha256][:1]
    else:
        found = [each for each in parcel.materials if each.code == asked.material_code]
    if len(found) != 1:
        text = "The case has no such material." if not found else "Two materials have this code: ask by digest."
        raise NotFound(text, code="pickup.unknown_material")
    return found[0]


def _named(asked: Pickup | None) -> dict[str, Any]:
    """Say what a verified pull asked for; of one that does not verify nothing is repeated."""
    if asked is None:
        return {}
    said = {
        "case": asked.submission_id[:_LONGEST],
        "message": asked.message_id[:_LONGEST],
        "material": (asked.material_sha256 or asked.material_code)[:_LONGEST],
    }
    return {name: value for name, value in said.items() if value}


def _leaving(
    region: str, pull: Callback, asked: Pickup, parcel: Parcel, part: RegionDocument | Material, now: datetime
) -> Exchange:
    what: dict[str, Any] = {"case": asked.submission_id, "mapping": parcel.mapping_version}
    if asked.message_id:
        what["message"] = asked.message_id
    if isinstance(part, Material):
        what |= {"material": part.code, "sha256": part.sha256, "size": part.size}
        parts = {f"material.{part.code}": part.sha256.encode()}
    else:
        parts = {"document": part if isinstance(part, bytes) else orjson.dumps(part)}
    return replace(_exchange(region, pull, what, "done", "leaving", parts), forwarded_at=now)


def _exchange(
    region: str, pull: Callback, what: Mapping[str, Any], outcome: Any, reason: str, parts: Mapping[str, bytes]
) -> Exchange:
    return Exchange(
        action="submission.pickup",
        outcome=outcome,
        reason=reason,
        who={"region": region},
        what=what,
        purpose="delivery to the handling region",
        received_at=pull.received_at,
        parts=parts,
    )
