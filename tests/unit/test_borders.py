"""A case that has waited crosses a border only by what it may cross by on that day (domain rules P3 and P4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, literal, select, update

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.caller import Caller
from gateway.errors import Conflict, NotFound, NotPermitted
from gateway.mapping.library import PackSet
from gateway.ports import Adapter, CaseMessage, RegionDocument, SubmissionOrder
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.store import Unit
from gateway.storage.tables import consents, deliveries, evidence, submission_events, submissions
from gateway.submissions import queue
from gateway.submissions.application import Application
from gateway.submissions.attempt import Attempts, Confirm, unasked
from gateway.submissions.borders import Borders, fields_of
from gateway.submissions.events import remember_number
from gateway.submissions.intake import sent_fields
from gateway.submissions.messages import Message, Queued, enqueue
from gateway.submissions.parcels import Parcels, open_body, seal_body
from gateway.submissions.retry import RetryPolicy
from gateway.submissions.revocations import Revocation, Revocations, Revoked
from gateway.submissions.story import locked, open_detail
from gateway.telemetry import Metrics
from tests.support.cases import LEASE, REGION
from tests.support.clock import ManualClock
from tests.support.followups import APPLICANT, FORM, Desk, region
from tests.support.intake import CALLER, SamePack
from tests.unit.test_supplements import APPLIED, across, consent

DAY = 24 * 3600


@dataclass
class Peer:
    """A region that takes whatever comes."""

    kinds: frozenset[str] = frozenset({"supplement", "withdrawal", "rating", "complaint"})
    heard: list[str] = field(default_factory=list)

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        self.heard.append("submission")
        return {"submission_id": order.submission_id, "number": "FS-1", "received_at": "2026-03-02T02:00:00Z"}

    async def ask(self, _submission_id: str) -> RegionDocument | None:
        return None

    async def send(self, message: CaseMessage) -> None:
        self.heard.append(message.kind)

    async def holds(self, _message: CaseMessage) -> bool:
        return False


class House:
    """A case that was filed in Hong Kong by a consent of thirty days, and the attempts to hand it over."""

    def __init__(self, desk: Desk, caller: Caller) -> None:
        self.desk, self.caller, self.peer = desk, caller, Peer()
        self.bases = desk.bases
        self.confirm: Confirm = unasked
        self.steps: list[str] = []
        self.meanwhile: Unit[Any] | None = None

    async def write(self, unit: Unit[Any]) -> Any:
        """Be the store of the attempts; what happens `meanwhile` is written just before an outcome is."""
        if self.meanwhile and self.steps[-1:] == ["settling"]:
            await self.desk.store.write(self.meanwhile)
        return await self.desk.store.write(unit)

    async def read(self, unit: Unit[Any]) -> Any:
        return await self.desk.store.read(unit)

    async def file(self, *more: str) -> str:
        """Hand in a case; its consent names `more` fields than it has."""
        self.case = await self.desk.file_across(self.caller, consent(self.desk, *APPLIED, *more))
        return self.case

    async def certify(self) -> None:
        """Let the case rest on a certificate."""
        sealer, c = self.desk.sealer, submissions.c

        def unit(tx: Connection) -> None:
            body = open_body(sealer, self.case, tx.execute(select(c.body).where(c.id == self.case)).scalar_one())
            sealed = seal_body(sealer, self.case, {**body, "certified": [{"code": "ID", "identifier": "1"}]})
            tx.execute(update(submissions).where(c.id == self.case).values(body=sealed))

        await self.desk.store.write(unit)

    async def say(self, kind: str) -> None:
        """Queue a message about the case."""
        message = Message(self.case, self.caller.client_id, REGION, kind, "1", "1", {"text": "慢", "contact": "138"})

        def unit(tx: Connection) -> Queued:
            locked(tx, self.case)
            return enqueue(tx, self.desk.sealer, message, self.desk.clock())

        await self.desk.store.write(unit)

    async def attempt(self) -> None:
        """Make every attempt that is due."""
        desk = self.desk
        packs = PackSet.of(REGION, cast("Any", dict.fromkeys(("submission", "receipt", *self.peer.kinds), SamePack())))
        there = replace(region(), adapter=Adapter(submissions=self.peer, messages=self.peer), packs=packs)

        async def pinned(_region: Region, _version: str) -> PackSet:
            return packs

        parcels = Parcels(desk.store, desk.sealer, desk.materials, Borders(self.bases, desk.clock))
        attempts = Attempts(
            store=cast("Any", self), parcels=parcels,
            pinned=pinned, events=desk.events, retry=RetryPolicy(5, LEASE, LEASE), clock=desk.clock,
            metrics=Metrics(CollectorRegistry()), confirm=lambda case: self.confirm(case),
            observe=lambda step, _claimed: self.steps.append(step),
        )  # fmt: skip
        for claimed in await desk.store.write(
            lambda tx: queue.claim(tx, region=REGION, owner="w", limit=9, now=desk.clock(), lease=LEASE)
        ):
            await attempts.make(claimed, there)

    async def last(self) -> tuple[str, Mapping[str, Any]]:
        """Return the state of the case by its last event, and what that one says."""
        c = submission_events.c
        newest = select(c.seq, c.case_state, c.detail).where(c.submission_id == self.case).order_by(c.seq.desc())
        row = await self.desk.store.read(lambda tx: tx.execute(newest).first())
        assert row is not None
        return row.case_state, open_detail(self.desk.sealer, self.case, row.seq, row.detail)

    async def delivery(self, kind: str = queue.SUBMISSION) -> tuple[str, str]:
        c = deliveries.c
        query = select(c.state, c.last_code).where(c.kind == kind)
        row = await self.desk.store.read(lambda tx: tx.execute(query).one())
        return row.state, row.last_code

    async def revoke(self, caller: Caller | None = None) -> Revoked:
        desk = self.desk
        revocations = Revocations(desk.store, desk.sealer, desk.events, desk.clock)
        said = Revocation.model_validate({"reason": "本人不再同意"})
        return await revocations.revoke(caller or self.caller, self.case, said)


@pytest.fixture
def house(sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock) -> House:
    return House(*across(sqlite_store, sealer, references, clock))


async def test_a_case_whose_consent_holds_goes_out_also_after_days(house: House) -> None:
    await house.file()
    house.desk.clock.advance(29 * DAY)
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == (["submission"], ("delivered", "ok"))


@pytest.mark.parametrize("how", ["expired", "revoked"])
async def test_a_case_whose_consent_is_over_stays_here_and_goes_back_to_who_filed_it(house: House, how: str) -> None:
    """Nobody but the applicant can mend it, and only by a new application."""
    await house.file()
    if how == "revoked":
        house.desk.clock.advance(DAY)
        await house.revoke()
    else:
        house.desk.clock.advance(30 * DAY)
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == ([], ("cancelled", "transfer.no_consent"))
    state, detail = await house.last()
    assert (state, detail["code"], detail["by"]) == ("RETURNED", "transfer.no_consent", "gateway")
    assert how in detail["reason"]
    refused = select(evidence.c.reason).where(evidence.c.action == "submission.deliver")
    assert await house.desk.store.read(lambda tx: tx.execute(refused).scalars().all()) == ["transfer.no_consent"]
    house.desk.clock.advance(DAY)
    await house.attempt()
    assert house.peer.heard == []


async def test_a_consent_that_is_taken_back_while_issuers_are_asked_counts(house: House) -> None:
    """That takes seconds, and whoever took it back was told that nothing goes out any more."""
    await house.file("certified")
    await house.certify()

    async def revoke(_case: str) -> None:
        await house.revoke()

    house.confirm = revoke
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == ([], ("cancelled", "transfer.no_consent"))


async def test_a_case_of_which_its_region_has_told_is_not_returned_over_its_head(house: House) -> None:
    await house.file()
    numbers = ("FS-1", None)
    await house.desk.store.write(lambda tx: remember_number(tx, house.case, REGION, *numbers))
    await house.revoke()
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == ([], ("dead", "transfer.no_consent"))


async def test_a_region_that_tells_of_a_case_until_the_last_moment_is_heard(house: House) -> None:
    await house.file()
    await house.revoke()
    house.meanwhile = lambda tx: remember_number(tx, house.case, REGION, "FS-1", None)
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == ([], ("dead", "transfer.no_consent"))
    assert (await house.last())[0] == "DELIVERY_FAILED"


async def test_a_case_whose_basis_is_gone_waits_for_an_operator_and_goes_out_with_a_new_one(house: House) -> None:
    """A contract that has ended can be filed anew, and then the applicant has nothing to do."""
    await house.file()
    house.bases = ()
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == ([], ("dead", "transfer.no_transfer_basis"))
    assert (await house.last())[0] == "DELIVERY_FAILED"
    house.bases = house.desk.bases
    name = select(deliveries.c.id)
    await house.desk.store.write(lambda tx: queue.revive(tx, tx.execute(name).scalar_one(), house.desk.clock()))
    await house.attempt()
    assert house.peer.heard == ["submission"]


async def test_a_supplement_waits_for_a_person_when_its_consent_is_over(house: House) -> None:
    case = await house.file()
    await house.attempt()
    await house.desk.says(case, "SUPPLEMENT_NOTICE", materials=[{"code": "ID"}])
    more = [consent(house.desk, "materials")]
    await house.desk.add(case, "S1", "ID", caller=house.caller, consents=more)
    await house.revoke()
    await house.attempt()
    assert (house.peer.heard, await house.delivery("supplement")) == (["submission"], ("dead", "transfer.no_consent"))


@pytest.mark.parametrize("kind", ["complaint", "rating"])
async def test_what_people_say_of_a_case_crosses_by_a_consent_that_is_in_force(house: House, kind: str) -> None:
    """It is their own words, and where to reach them; the consent need not have named them."""
    await house.file()
    await house.attempt()
    await house.say(kind)
    await house.attempt()
    assert house.peer.heard == ["submission", kind]


@pytest.mark.parametrize(
    ("kind", "heard", "delivery"),
    [
        ("complaint", ["submission"], ("dead", "transfer.no_consent")),
        ("rating", ["submission"], ("dead", "transfer.no_consent")),
        ("withdrawal", ["submission", "withdrawal"], ("delivered", "ok")),
    ],
)
async def test_after_a_revocation_nothing_follows_a_case_but_its_withdrawal(
    house: House, kind: str, heard: list[str], delivery: tuple[str, str]
) -> None:
    await house.file()
    await house.attempt()
    await house.say(kind)
    await house.revoke()
    await house.attempt()
    assert (house.peer.heard, await house.delivery(kind)) == (heard, delivery)


async def test_a_consent_is_taken_back_once_by_whoever_filed_the_case(house: House) -> None:
    case = await house.file()
    with pytest.raises(NotFound):
        await house.revoke(replace(house.caller, client_id="another"))
    first = await house.revoke()
    assert [(each["case"], each["recipient"], each["revoked_at"]) for each in first.consents] == [
        (case, REGION, house.desk.clock())
    ]
    house.desk.clock.advance(60)
    again = await house.revoke()
    assert (first.replayed, again.replayed, again.consents) == (False, True, first.consents)
    _, detail = await house.last()
    assert detail == {"consents": [first.consents[0]["id"]], "reason": "本人不再同意"}
    c = evidence.c
    rows = select(c.outcome, c.reason).where(c.action == "consent.revoke")
    kept = await house.desk.store.read(lambda tx: tx.execute(rows).all())
    assert sorted(map(tuple, kept)) == [("done", "revoked"), ("refused", "submission.not_found")]


async def test_a_case_that_crosses_no_border_has_no_consent_to_take_back(house: House) -> None:
    house.caller = CALLER
    house.case = (await house.desk.file()).submission_id
    with pytest.raises(Conflict) as refused:
        await house.revoke()
    assert refused.value.stable_code == "submission.no_consent"


async def test_nobody_elses_consent_carries_a_case(house: House) -> None:
    """A lookup may be recorded under any number that its caller names."""
    await house.file()
    await house.revoke()
    c = consents.c
    names = [column.name for column in c if column.name not in ("id", "recorded_by", "revoked_at")]
    copied = select(literal("CNSother"), literal("another"), *(c[name] for name in names))
    slipped_in = consents.insert().from_select(["id", "recorded_by", *names], copied)
    await house.desk.store.write(lambda tx: tx.execute(slipped_in).rowcount)
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == ([], ("cancelled", "transfer.no_consent"))


async def test_a_replica_whose_clock_is_behind_does_not_take_a_new_consent_for_one_to_come(house: House) -> None:
    await house.file()
    behind = Borders(house.bases, lambda: house.desk.clock() - timedelta(minutes=1))
    packs = PackSet.of(REGION, cast("Any", {"submission": SamePack()}))
    parcels = Parcels(house.desk.store, house.desk.sealer, house.desk.materials, behind)
    assert (await parcels.pack(house.case, packs)).submission_id == house.case


async def test_a_case_that_names_no_consent_does_not_cross(house: House) -> None:
    """What was filed within the territory before its office moved, or was written by hand."""
    await house.file()
    await house.desk.store.write(lambda tx: tx.execute(consents.delete()).rowcount)
    packs = PackSet.of(REGION, cast("Any", {"submission": SamePack()}))
    parcels = Parcels(house.desk.store, house.desk.sealer, house.desk.materials, Borders(house.bases, house.desk.clock))
    with pytest.raises(NotPermitted):
        await parcels.pack(house.case, packs)


async def test_what_is_judged_at_the_hand_over_is_what_was_judged_at_the_filing(house: House) -> None:
    desk = house.desk
    for more in ({}, {"materials": [], "deferred": [{"code": "LATER", "promise": "承诺书 1"}]}):
        receipt = await desk.file(str(len(more)), **more)
        said = {"reference": "1", "item": desk.item.code, "place": REGION, "mode": "collect", "applicant": APPLICANT,
                "form": FORM, "materials": [{"code": "ID", "blob": "1"}], "purpose_code": "handling", "purpose": "办理",
                "legal_basis": "1", **more}  # fmt: skip
        row = select(submissions.c.body).where(submissions.c.id == receipt.submission_id)
        sealed = await desk.store.read(lambda tx, row=row: tx.execute(row).scalar_one())  # type: ignore[misc] # bound at once
        body = open_body(desk.sealer, receipt.submission_id, sealed)
        assert sorted(fields_of(body)) == sorted(sent_fields(Application.model_validate(said)))
