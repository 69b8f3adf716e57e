"""A case with everything that is said of it later, over any store: intake, event log, and the services of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import select, update

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.identity import Assurance
from gateway.domain.item import FormField, Item, MaterialRule
from gateway.domain.region import RegionNames, place_of
from gateway.mapping.library import PackSet
from gateway.policy.grants import Grants
from gateway.policy.transfer import Basis
from gateway.ports import Adapter
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import blobs, deliveries, submissions
from gateway.submissions.application import Application
from gateway.submissions.cases import Cases
from gateway.submissions.events import Arrival, EventLog, Follower
from gateway.submissions.followups import Followups
from gateway.submissions.intake import Receipt
from gateway.submissions.joint import JointIntake, Parts
from gateway.submissions.materials import Materials
from gateway.submissions.supplements import Supplement, Supplements, Taken
from gateway.submissions.withdrawals import Withdrawal, Withdrawals
from tests.support.cases import REGION, said
from tests.support.clock import ManualClock
from tests.support.intake import CALLER, ITEM, SamePack
from tests.support.mandates import mandates

KINDS = frozenset({"supplement", "withdrawal"})


def _rule(code: str, *, required: bool = True, deferrable: bool = False) -> MaterialRule:
    return MaterialRule(code, {"zh-CN": code, "en": code}, required, deferrable, None)


def _field(name: str, *, may_cross: bool = True) -> FormField:
    kind, names = "date" if name == "start" else "text", {"zh-CN": name, "en": name}
    return FormField(name, names, kind, may_cross, "none", may_cross, {})


ASKED = replace(
    ITEM,
    modes=["online", "collect"],
    fields=[_field("start"), _field("account", may_cross=False)],
    materials=[_rule("ID", required=False), _rule("PROOF", required=False), _rule("LATER", deferrable=True)],
    tolerance=True,
)
APPLICANT = {"kind": "person", "name": "李芳", "document": {"type": "CN_RIC", "number": "11010519491231002X"}}
FORM = {"start": "2026-03-02", "account": "6222"}


def region(name: str = REGION, code: str = "440600", kinds: frozenset[str] | None = KINDS) -> Region:
    """Return a region that takes cases, and messages of these kinds; None: its wire knows none."""
    messages = None if kinds is None else cast("Any", SimpleNamespace(kinds=kinds))
    limits = cast("Any", SimpleNamespace(material_bytes=10**9))
    packs = cast("Any", dict.fromkeys(("submission", "supplement", "withdrawal"), SamePack()))
    return Region(
        name, place_of(code), RegionNames(name, name, name, name), limits, {}, {},
        Adapter(submissions=cast("Any", "taken"), messages=messages), PackSet.of(name, packs),
    )  # fmt: skip


@dataclass
class Desk:
    """One item, some regions, and all the services around a case."""

    store: Store
    sealer: Sealer
    references: References
    clock: ManualClock
    item: Item = ASKED
    kinds: frozenset[str] | None = KINDS
    grants: Any = None
    bases: tuple[Basis, ...] = ()
    followers: tuple[Follower, ...] = ()
    regions: dict[str, Region] | None = None

    def __post_init__(self) -> None:
        """Build the services, as the front page does."""
        items = {self.item.code: self.item}
        regions = self.regions or {REGION: region(kinds=self.kinds)}
        grants = self.grants or cast("Grants", SimpleNamespace(require=lambda _ask: None))
        self.nudged: list[str] = []
        self.events = EventLog(self.sealer)
        self.begun: list[str] = []
        parts = Parts(self.events, items, lambda _tx, case, _now: self.begun.append(case))
        self.events.followers = (*self.followers, parts.keep)
        self.materials = Materials(self.store, cast("Any", None), self.sealer, 1_000_000)
        known = mandates(self.store, self.sealer, self.references, self.clock, self.item.code)
        self.intake = JointIntake(
            store=self.store, items=items, regions=regions, grants=grants, bases=self.bases, materials=self.materials,
            mandates=known, events=self.events, sealer=self.sealer, references=self.references, clock=self.clock,
            nudge=self.nudged.append,
        )  # fmt: skip
        self.followups = Followups(
            store=self.store, items=items, regions=regions, grants=grants, mandates=known, sealer=self.sealer,
            clock=self.clock,
        )  # fmt: skip
        self.supplements = Supplements(
            self.followups, materials=self.materials, bases=self.bases, events=self.events,
            references=self.references, pinned=_pinned, nudge=self.nudged.append,
        )  # fmt: skip
        self.withdrawals = Withdrawals(self.followups, events=self.events, nudge=self.nudged.append)
        self.cases = Cases(self.store, self.sealer, items, lambda _region: self.kinds or frozenset())

    async def blob(self, name: str, caller: Any = CALLER) -> str:
        """Write the row of an upload of this caller; its id is its name."""
        row = {
            "id": name, "client_id": caller.client_id, "name": self.sealer.seal(name.encode(), f"blobs.name:{name}"),
            "media_type": "application/pdf", "size": 3, "sha256": name.encode().hex().ljust(64, "0")[:64],
            "created_at": self.clock(),
        }  # fmt: skip
        await self.store.write(
            lambda tx: tx.execute(insert_into(tx, blobs).values(row).on_conflict_do_nothing()).rowcount
        )
        return name

    async def file(self, reference: str = "1", *, caller: Any = CALLER, **more: Any) -> Receipt:
        """Hand in an application."""
        materials = [{"code": code, "blob": f"{code}-{reference}"} for code in ("ID", "PROOF", "LATER")]
        for material in () if "materials" in more else materials:
            await self.blob(material["blob"], caller)
        document = {
            "reference": reference, "item": self.item.code, "place": REGION, "mode": "collect",
            "applicant": APPLICANT, "form": FORM, "materials": materials,
            "purpose_code": "handling", "purpose": "办理", "legal_basis": "政务服务申请", **more,
        }  # fmt: skip
        application = Application.model_validate(document)
        return await self.intake.accept(caller, application, assurance=Assurance.A3, channel="api")

    async def file_across(self, caller: Any, consent: Any) -> str:
        """Hand in an application whose data leaves its legal territory, by this consent."""
        document = {"kind": "person", "name": "李芳", "document": {"type": "HM_PERMIT", "number": "H12345678"}}
        receipt = await self.file(
            caller=caller,
            applicant=document,
            form={"start": FORM["start"]},
            materials=[],
            consents=[consent],
            deferred=[{"code": "LATER", "promise": "承诺书 1"}],
        )
        return receipt.submission_id

    async def settle(self, case: str, kind: str, state: str, code: str) -> None:
        """Let the worker have ended the deliveries of this kind so."""
        c = deliveries.c
        row = update(deliveries).where(c.submission_id == case, c.kind == kind)
        await self.store.write(lambda tx: tx.execute(row.values(state=state, last_code=code, due=None)).rowcount)

    async def handed_over(self, case: str) -> None:
        """Let the region have the case, as the worker would write it."""
        done = {"state": "delivered", "due": None, "sent_at": self.clock(), "attempt": 1}
        row = update(deliveries).where(deliveries.c.submission_id == case, deliveries.c.kind == "submission")
        await self.store.write(lambda tx: tx.execute(row.values(done)).rowcount)
        await self.says(case, "RECEIVED")

    async def says(self, case: str, state: str, **more: Any) -> Arrival:
        """Let the region report a step, a second after the last."""
        self.clock.advance(1)
        home = await self.store.read(
            lambda tx: tx.execute(select(submissions.c.handling_region).where(submissions.c.id == case)).scalar_one()
        )
        event = said(case, f"{case[-8:]}-{state}-{self.clock().timestamp()}", state, self.clock(), **more)
        return await self.store.write(lambda tx: self.events.from_region(tx, home, event, self.clock()))

    async def asked_for(self, *codes: str, **more: Any) -> str:
        """Return a case whose region has asked for these materials."""
        receipt = await self.file()
        await self.handed_over(receipt.submission_id)
        named = [{"code": code, "name": code, "reason": "不清晰"} for code in codes]
        await self.says(receipt.submission_id, "SUPPLEMENT_NOTICE", materials=named, **more)
        return receipt.submission_id

    async def add(self, case: str, reference: str, *codes: str, caller: Any = CALLER, **more: Any) -> Taken:
        """Hand in a supplement with a new file for each code."""
        materials = [{"code": code, "blob": f"{code}+{reference}"} for code in codes]
        for material in materials:
            await self.blob(material["blob"], caller)
        model = Supplement.model_validate({"reference": reference, "materials": materials, **more})
        self.clock.advance(1)
        return await self.supplements.add(caller, case, model)

    async def state(self, case: str) -> str:
        """Return where the case stands."""
        query = select(submissions.c.state).where(submissions.c.id == case)
        return str(await self.store.read(lambda tx: tx.execute(query).scalar_one()))

    async def delivery(self, case: str, kind: str = "submission") -> str:
        """Return the state of the delivery of this kind."""
        query = select(deliveries.c.state).where(deliveries.c.submission_id == case, deliveries.c.kind == kind)
        return str(await self.store.read(lambda tx: tx.execute(query).scalar_one()))


async def _pinned(found: Region, _version: str) -> PackSet:
    return found.packs.now()


def withdrawal(reference: str = "W1", **more: Any) -> Withdrawal:
    """Return a withdrawal."""
    return Withdrawal.model_validate({"reference": reference, "reason": "本人不再需要", **more})
