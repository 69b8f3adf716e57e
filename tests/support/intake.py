"""Intake and inbox over any store, with one item and one region that live in memory: what contention tests drive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.caller import Caller
from gateway.domain.identity import Assurance
from gateway.domain.item import Item, Office
from gateway.mapping.library import PackSet
from gateway.mapping.packs import Pack
from gateway.policy.grants import Grants
from gateway.ports import Adapter, Callback, CallbackReading, Clock, FeedPage
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.submissions.application import Application
from gateway.submissions.events import EventLog
from gateway.submissions.inbox import Inbox
from gateway.submissions.intake import Intake, Receipt
from gateway.submissions.materials import Materials
from gateway.telemetry import Metrics
from tests.support.cases import REGION
from tests.support.mandates import mandates

CALLER = Caller("agency", "广州市政务服务数据管理局", "11440100696927671X", "440100", frozenset({"submissions"}))
ITEM = Item(
    code="11440600MBT406003B3442011899001",
    name={"zh-CN": "社会保险登记", "en": "Registration for social insurance"},
    domain="社会保险",
    modes=["online"],
    min_assurance=Assurance.A0,
    fields=[],
    materials=[],
    offices=[Office(REGION, "440600", 1, 5, "G")],
)


class SamePack:
    """A mapping that changes nothing."""

    version = "0" * 64
    lost: frozenset[str] = frozenset()

    def to_region(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the document."""
        return document

    def to_canonical(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the document."""
        return document


@dataclass
class Feed:
    """A region's feed of events, `page` at a time; the cursor is a position."""

    events: Sequence[Mapping[str, Any]]
    page: int = 3
    asked: list[str] = field(default_factory=list)

    async def poll(self, cursor: str) -> FeedPage:
        """Return what follows the cursor."""
        self.asked.append(cursor)
        begin = int(cursor or 0)
        found = self.events[begin : begin + self.page]
        return FeedPage([dict(event) for event in found], str(begin + len(found)))


@dataclass
class Callbacks:
    """A region whose callbacks are always genuine: the nonce is the body, the events are what the test says."""

    events: Sequence[Mapping[str, Any]]

    async def read(self, callback: Callback) -> CallbackReading:
        """Return the events under the nonce that the body names."""
        expires = callback.received_at + timedelta(minutes=10)
        return CallbackReading([dict(event) for event in self.events], {"code": "0"}, callback.body.decode(), expires)


def region(**capabilities: Any) -> Region:
    """Return a region that offers these capabilities, with mappings that change nothing."""
    packs = cast("Mapping[str, Pack]", {"submission": SamePack(), "event": SamePack()})
    limits = SimpleNamespace(poll_seconds=1.0, material_bytes=1 << 20)
    found = SimpleNamespace(
        id=REGION, packs=PackSet.of(REGION, packs), adapter=Adapter(**capabilities), limits=limits
    )  # fmt: skip
    return cast("Region", found)


def intake(
    store: Store,
    sealer: Sealer,
    references: References,
    clock: Clock,
    *,
    submissions: Any = "taken",
    refuse_blocked: Callable[[str, str], None] = lambda _item, _region: None,
) -> Intake:
    """Return an intake that everybody may use; nothing is sent to its one region, which says that it takes cases."""
    grants = cast("Grants", SimpleNamespace(require=lambda _ask: None))
    materials = Materials(store, cast("Blobs", None), sealer, 0)
    return Intake(
        store=store,
        items={ITEM.code: ITEM},
        regions={REGION: region(submissions=submissions)},
        grants=grants,
        bases=(),
        materials=materials,
        mandates=mandates(store, sealer, references, clock, ITEM.code),
        events=EventLog(sealer),
        sealer=sealer,
        references=references,
        clock=clock,
        nudge=lambda _region: None,
        refuse_blocked=refuse_blocked,
    )


def inbox(store: Store, sealer: Sealer, clock: Clock, **capabilities: Any) -> Inbox:
    """Return an inbox for one region."""
    return Inbox(store, {REGION: region(**capabilities)}, EventLog(sealer), clock, Metrics(CollectorRegistry()))


def callback(nonce: str, now: datetime) -> Callback:
    """Return a callback that carries this nonce."""
    return Callback("POST", f"/callbacks/{REGION}/status", {}, nonce.encode(), now)


def application(reference: str, *, name: str = "李芳") -> Application:
    """Return an application under the caller's own reference."""
    return Application.model_validate(
        {
            "reference": reference,
            "item": ITEM.code,
            "place": REGION,
            "mode": "online",
            "applicant": {
                "kind": "person",
                "name": name,
                "document": {"type": "CN_RIC", "number": "11010519491231002X"},
            },
            "form": {},
            "purpose_code": "handling",
            "purpose": "办理本人申请的事项",
            "legal_basis": "政务服务申请",
        }
    )


async def accept(door: Intake, reference: str, *, name: str = "李芳") -> Receipt:
    """Hand an application in."""
    return await door.accept(CALLER, application(reference, name=name), assurance=Assurance.A2, channel="api")
