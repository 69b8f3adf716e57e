"""What is carried to a region, by kind: the submission itself, and messages about a case that the region has.

Owns: for each kind, how it is packed, asked after and handed over, and what it means for the case once the region has
it. Leaves to `attempt`: the steps and their order, leases, evidence, trouble. To `parcels`: conversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import State, leads_to
from gateway.errors import GatewayError, MappingFailed, NotOffered, RegionUncertain, RegionUnreachable
from gateway.mapping.library import PackSet
from gateway.ports import CaseMessage, CaseMessages, RegionDocument, SubmissionOrder, SubmissionTarget
from gateway.regions import Region
from gateway.submissions.conflicts import LONGEST_NUMBER
from gateway.submissions.events import EventLog
from gateway.submissions.parcels import Parcel, Parcels, is_complete
from gateway.submissions.queue import Claim
from gateway.submissions.story import locked

MESSAGE_DELIVERED = "message.delivered"
"""The fact that the region has a message about the case."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What one attempt is made with: the delivery, where it goes, and the mappings that the case is pinned to."""

    claimed: Claim
    region: Region
    packs: PackSet


@dataclass(frozen=True, slots=True)
class Answer:
    """What one attempt learned, and the times for the evidence. `receipt` is canonical, empty for messages."""

    receipt: Mapping[str, Any]
    raw: bytes
    how: str
    forwarded_at: datetime
    answered_at: datetime


class Carrier(Protocol):
    """How one kind of delivery is carried."""

    async def pack(self, errand: Errand) -> Parcel:
        """Return it in the region's form. Raises MappingFailed, Unavailable."""
        ...

    async def ask(self, errand: Errand) -> RegionDocument | None:
        """Ask whether the region has it: what it says, or None when it certainly has not. Raises RegionError."""
        ...

    async def send(self, errand: Errand, parcel: Parcel) -> RegionDocument:
        """Hand it over and return what the region says. Raises RegionError."""
        ...

    def read(self, errand: Errand, document: RegionDocument) -> Mapping[str, Any]:
        """Return what the region says in canonical words. Raises RegionUncertain: the delivery stays in doubt."""
        ...

    def delivered(self, tx: Connection, claimed: Claim, answer: Answer, now: datetime) -> None:
        """Write what it means for the case. Part of the caller's transaction."""
        ...


class OfSubmissions:
    """Carries the case itself."""

    def __init__(self, parcels: Parcels, events: EventLog) -> None:
        self._parcels = parcels
        self._events = events

    async def pack(self, errand: Errand) -> Parcel:
        """Return the submission with its materials."""
        return await self._parcels.pack(errand.claimed.submission_id, errand.packs)

    async def ask(self, errand: Errand) -> RegionDocument | None:
        """Ask for the receipt."""
        return await _target(errand).ask(errand.claimed.submission_id)

    async def send(self, errand: Errand, parcel: Parcel) -> RegionDocument:
        """Hand the submission over for its receipt."""
        return await _target(errand).submit(SubmissionOrder(parcel.submission_id, parcel.document, parcel.materials))

    def read(self, errand: Errand, document: RegionDocument) -> Mapping[str, Any]:
        """Read the receipt. One that cannot be read proves nothing: the delivery stays in doubt."""
        region = errand.region
        try:
            canonical = _heard(errand, document)
        except GatewayError as error:
            text = f"The receipt of region {region.id} cannot be read."
            raise RegionUncertain(text, detail=str(error.problems), region=region.id) from error
        if canonical["submission_id"] != errand.claimed.submission_id:
            raise RegionUncertain(f"Region {region.id} gave the receipt of another case.", region=region.id)
        if max(len(canonical["number"]), len(canonical.get("short_number") or "")) > LONGEST_NUMBER:
            text = f"Region {region.id} gave a number of more than {LONGEST_NUMBER} characters."
            raise RegionUncertain(text, region=region.id)
        return canonical

    def delivered(self, tx: Connection, claimed: Claim, answer: Answer, now: datetime) -> None:
        """Keep the region's numbers; the case is forwarded, and what was said of it meanwhile may follow."""
        receipt = answer.receipt
        numbers = (receipt["number"], receipt.get("short_number"))
        self._events.numbered(tx, claimed.submission_id, claimed.region, numbers, now)
        detail = {"number": receipt["number"], "how": answer.how, "attempt": claimed.attempt}
        self._events.ours(tx, claimed.submission_id, State.FORWARDED, now, detail)


class OfMessages:
    """Carries what is said of a case after the submission: supplements, withdrawals, ratings, complaints."""

    def __init__(self, parcels: Parcels, events: EventLog) -> None:
        self._parcels = parcels
        self._events = events

    async def pack(self, errand: Errand) -> Parcel:
        """Return the message with its materials and the region's number of the case."""
        return await self._parcels.pack_message(_message_id(errand.claimed), errand.packs, errand.region.id)

    async def ask(self, errand: Errand) -> RegionDocument | None:
        """Ask whether the region has the message."""
        parcel = await self.pack(errand)
        return b"" if await _messages(errand).holds(_message(errand, parcel)) else None

    async def send(self, errand: Errand, parcel: Parcel) -> RegionDocument:
        """Hand the message over; there is no receipt."""
        await _messages(errand).send(_message(errand, parcel))
        return b""

    def read(self, _errand: Errand, _document: RegionDocument) -> Mapping[str, Any]:
        """Return nothing: that the region has it is all there is to know."""
        return {}

    def delivered(self, tx: Connection, claimed: Claim, answer: Answer, now: datetime) -> None:
        """Write down that the region has it."""
        detail = {"kind": claimed.kind, "message": claimed.message_id, "how": answer.how, "attempt": claimed.attempt}
        message_arrived(tx, self._events, claimed.submission_id, detail, now)


def message_arrived(
    tx: Connection, events: EventLog, submission_id: str, detail: Mapping[str, Any], now: datetime
) -> None:
    """Write down that the region has a message. What completes an answer to a notice is a step of the case's life.

    What follows a tolerant acceptance is none: the region says when it is content.
    """
    if detail["kind"] == "supplement" and _answers_notice(tx, events.sealer, submission_id, detail["message"]):
        events.ours(tx, submission_id, State.SUPPLEMENTED, now, detail)
    else:
        events.note(tx, submission_id, MESSAGE_DELIVERED, now, detail)


def _answers_notice(tx: Connection, sealer: Sealer, submission_id: str, message_id: str) -> bool:
    if not is_complete(tx, sealer, message_id):
        return False
    case = locked(tx, submission_id)
    return case is not None and leads_to(State(case["state"]), State.SUPPLEMENTED)


def carriers(parcels: Parcels, events: EventLog) -> Mapping[bool, Carrier]:
    """Return the carrier for messages (True) and for the submission itself (False)."""
    return {False: OfSubmissions(parcels, events), True: OfMessages(parcels, events)}


def _message_id(claimed: Claim) -> str:
    if claimed.message_id is None:
        raise LookupError(claimed.delivery_id)
    return claimed.message_id


def _message(errand: Errand, parcel: Parcel) -> CaseMessage:
    claimed = errand.claimed
    return CaseMessage(
        _message_id(claimed), claimed.kind, claimed.submission_id, parcel.number, parcel.document, parcel.materials
    )


def _target(errand: Errand) -> SubmissionTarget:
    target = errand.region.adapter.submissions
    if target is None:
        raise RegionUnreachable("The region takes no submissions.", region=errand.region.id)
    return target


def _messages(errand: Errand) -> CaseMessages:
    messages = errand.region.adapter.messages
    if messages is None or errand.claimed.kind not in messages.kinds:
        raise NotOffered(f"The region takes no {errand.claimed.kind} over this wire.", region=errand.region.id)
    return messages


def _heard(errand: Errand, receipt: RegionDocument) -> dict[str, Any]:
    """Read a receipt as the case was written. A region may answer in a new form where it took the old one."""
    try:
        return errand.packs.need("receipt").to_canonical(receipt)
    except MappingFailed:
        in_use = errand.region.packs.now()
        if in_use.version != errand.packs.version:
            with suppress(MappingFailed):  # the first refusal is the one to tell
                return in_use.need("receipt").to_canonical(receipt)
        raise
