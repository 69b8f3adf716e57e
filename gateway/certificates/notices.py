"""Notices of issuers (证照状态变更通知): a certificate is worth something else from now on.

Owns: taking a notice once, with nonce, row and evidence in one transaction, and forgetting what is remembered of that
certificate here; other replicas see the row when they next use what they remember. A notice counts against what its own
region has said of a certificate, and nobody else. Leaves to adapters: whether a notice is genuine. To `states`: what is
remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete

from gateway.certificates.states import States, in_line
from gateway.certificates.types import LONGEST
from gateway.crypto.at_rest import References
from gateway.domain.identifiers import zzbs_problem
from gateway.errors import FieldProblem, GatewayError, NotFound, ReplayedCallback, UnreadableCallback
from gateway.evidence import Exchange, record
from gateway.mapping.unknown import is_unknown
from gateway.ports import Callback, CallbackReading, Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.nonces import spend
from gateway.storage.store import insert_into
from gateway.storage.tables import certificate_notices

ACTION = "certificate.notice"
KEPT = timedelta(seconds=LONGEST) + timedelta(days=1)
"""How long a notice is kept: longer than anything that was asked before it may be believed."""


Noticed = Callable[[Connection, str, str, datetime], None]
"""Is told that a certificate (its keyed reference) of this issuer may be worth something else from now on."""


def unheeded(_tx: Connection, _reference: str, _issuer: str, _now: datetime) -> None:
    """Do nothing about a notice beyond keeping it."""


@dataclass(frozen=True, slots=True)
class CertificateNotices:
    """Takes notices from regions."""

    store: Store
    regions: Mapping[str, Region]
    references: References
    states: States
    clock: Clock
    told: Noticed = unheeded
    """Hears of every certificate, in the transaction that keeps its notice."""

    def serves(self, region_id: str, operation: str) -> bool:
        """Say whether what arrives under this region's address is a notice about a certificate."""
        region = self.regions.get(region_id)
        notices = region.adapter.notices if region else None
        return notices is not None and operation in notices.operations

    async def take(self, region_id: str, callback: Callback) -> Mapping[str, Any]:
        """Take a notice and return the answer that the region expects.

        Raises NotFound, ForgedCallback, ReplayedCallback, UnreadableCallback, InvalidRequest; each becomes evidence.
        """
        region = self.regions.get(region_id)
        try:
            if region is None or region.adapter.notices is None:
                raise NotFound("No enabled region sends notices here.", code="callback.unknown_region")
            told = await region.adapter.notices.read(callback)
            notices = [_heard(region, document) for document in told.events]
            await self.store.write(lambda tx: self._write(tx, region, told, notices, callback))
        except GatewayError as error:
            exchange = _exchange(region_id, callback, "refused", error.stable_code)
            error.evidence = await self.store.write(lambda tx: record(tx, exchange, now=self.clock()))
            raise
        for notice in notices:
            self.states.forget(notice["identifier"], region.id)
        return told.answer

    def _write(
        self, tx: Connection, region: Region, told: CallbackReading, notices: Sequence[Mapping[str, Any]],
        callback: Callback,
    ) -> None:  # fmt: skip
        if not spend(tx, f"callback:{region.id}", told.nonce, told.nonce_expires):
            problem = FieldProblem("nonce", "was used before", "replayed")
            raise ReplayedCallback("This notice was received before.", problems=[problem], region=region.id)
        now = self.clock()
        told_of = {self.references.of("certificate", notice["identifier"]): notice for notice in notices}
        in_line(tx, told_of)
        for reference, notice in told_of.items():
            self._put(tx, region, reference, notice, now)
        record(tx, _exchange(region.id, callback, "done", "recorded"), now=now)

    def _put(self, tx: Connection, region: Region, reference: str, notice: Mapping[str, Any], now: datetime) -> None:
        values = {
            "state": notice["state"],
            "changed_at": datetime.fromisoformat(notice["changed_at"]),
            "noticed_at": now,
        }
        row = {"reference": reference, "region": region.id, **values}
        written = insert_into(tx, certificate_notices).values(row)
        tx.execute(written.on_conflict_do_update(index_elements=["reference", "region"], set_=values))
        self.told(tx, reference, region.id, now)


def forget(tx: Connection, now: datetime) -> None:
    """Delete notices that are older than anything that is believed."""
    tx.execute(delete(certificate_notices).where(certificate_notices.c.noticed_at < now - KEPT))


def _heard(region: Region, document: Any) -> Mapping[str, Any]:
    """Read one notice. Raises UnreadableCallback for a state that nobody here knows, or an identifier of no form."""
    notice = region.pack("certificate-notice").to_canonical(document)
    problems = []
    if is_unknown(notice["state"]):
        problems.append(FieldProblem("state", "is not known here", "unknown"))
    # A wrong check character in an issuer's own record is a warning; something of another form names nothing.
    if (problem := zzbs_problem(notice["identifier"])) and "check character" not in problem:
        problems.append(FieldProblem("identifier", problem, "malformed"))
    if problems:
        raise UnreadableCallback("The notice cannot be read; see `problems`.", problems=problems, region=region.id)
    return notice


def _exchange(region: str, callback: Callback, outcome: Any, reason: str) -> Exchange:
    return Exchange(
        action=ACTION,
        outcome=outcome,
        reason=reason,
        who={"region": region},
        what={"path": callback.path, "size": len(callback.body)},
        purpose="status of a certificate",
        received_at=callback.received_at,
        parts={"body": callback.body},
    )
