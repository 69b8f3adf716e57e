"""复核: what a case rests on is asked about again until the case is decided, and a change is never silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, insert, select, update

from gateway.certificates.notices import forget
from gateway.certificates.recheck import Rechecked
from gateway.certificates.request import DataRequest, LookupRequest, NamedRequest, VerifyRequest
from gateway.certificates.states import noticed_since
from gateway.certificates.types import LONGEST
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.caller import Caller
from gateway.domain.certificate_identifier import CertificateIdentifier
from gateway.domain.item import MaterialRule
from gateway.errors import InvalidRequest, RegionUnreachable, Unavailable
from gateway.mapping.library import PackSet
from gateway.policy.grants import Capability, Grants
from gateway.policy.transfer import Basis
from gateway.ports import Adapter, Callback, CallbackReading, CertificateReply, RegionDocument, SubmissionOrder
from gateway.regions import Region
from gateway.storage import Store
from gateway.storage.tables import case_certificates, deliveries, event_conflicts, evidence, submissions
from gateway.submissions import queue, recognised
from gateway.submissions.attempt import Attempts
from gateway.submissions.borders import Borders
from gateway.submissions.cases import CaseView
from gateway.submissions.parcels import Parcels
from gateway.submissions.rechecks import Rechecks
from gateway.submissions.retry import RetryPolicy
from gateway.submissions.rules_kept import RulesKept, figures
from gateway.telemetry import Metrics
from tests.support.cases import LEASE, REGION, said
from tests.support.clock import ManualClock
from tests.support.followups import APPLICANT, ASKED, Desk, region
from tests.support.intake import CALLER, SamePack
from tests.support.issuers import IDENTIFIER, ISSUER, KIND, PURPOSE, Issuer, certificate, grants, services

DAY = 24 * 3600
HOLDER = {"name": "李芳", "document": APPLICANT["document"]}
OTHER = {"name": "王五", "document": {"type": "CN_RIC", "number": "440106199001019000"}}
CARD = MaterialRule("CARD", {"zh-CN": "营业执照", "en": "Licence"}, True, False, KIND.code, ("ecert", "scan"))
OFFICES = [*ASKED.offices, replace(ASKED.offices[0], region="qingyuan", code="441800")]
ITEM = replace(ASKED, materials=[CARD, *ASKED.materials[:2]], offices=OFFICES)
FRAME = {
    "holder_role": "applicant", "operator": "T0001", "item": {"code": ITEM.code, "name": "登记"}, "case": "A-1",
    "purpose_code": PURPOSE, "purpose": "办理", "legal_basis": "政务服务申请",
}  # fmt: skip
SAID = {"identifier": IDENTIFIER, "certificate_type": KIND.code}


class Peer:
    """A region that takes whatever comes."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        self.heard.append(order.submission_id)
        return {"submission_id": order.submission_id, "number": "FS-1", "received_at": "2026-03-02T02:00:00Z"}

    async def ask(self, _submission_id: str) -> RegionDocument | None:
        return None


class House:
    """A case that rests on a certificate of one issuer, and all who look after it."""

    def __init__(
        self, store: Store, sealer: Sealer, references: References, clock: ManualClock,
        issuer: Issuer | None = None, bases: tuple[Basis, ...] = (),
    ) -> None:  # fmt: skip
        self.issuer, self.bases = issuer or Issuer(), bases
        regions = {REGION: region(), "qingyuan": region("qingyuan", "441800"), "guangdong": self.issuer.region()}
        self.desk = Desk(store, sealer, references, clock, item=ITEM, regions=regions, bases=bases)
        events = self.desk.events
        events.followers = (*events.followers, RulesKept(events).watch)
        self.peer, self.clock, self.store = Peer(), clock, store
        self.issuer.holds = [certificate(holder=HOLDER)]
        self.references = references
        self.filer: Caller | None = CALLER
        self.resting = False
        self.metrics = Metrics(CollectorRegistry())
        self.allow(grants())

    def allow(self, allowed: Grants) -> None:
        """Let the filer have these grants from now on."""
        self.certificates = services(
            self.store,
            self.clock,
            self.references,
            self.issuer,
            allowed=allowed,
            bases=self.bases,
            noticed=recognised.noticed,
        )
        self.ask: Callable[..., Awaitable[Rechecked]] = self.certificates.recheck.ask
        self.rechecks = Rechecks(
            store=self.store, sealer=self.desk.sealer, events=self.desk.events, ask=self._ask,
            filer_of=self._filer_of, types={KIND.code: KIND}, clock=self.clock, metrics=self.metrics,
            resting=lambda _issuer: self.resting,
        )  # fmt: skip

    async def _ask(self, caller: Caller, capability: Capability, request: NamedRequest) -> Rechecked:
        return await self.ask(caller, capability, request)

    async def _filer_of(self, owner: str) -> Caller | None:
        return self.filer if owner == CALLER.client_id else None

    # --- proving and filing

    async def look_up(self, **more: Any) -> str:
        said = {**FRAME, "certificate_type": KIND.code, "holder": HOLDER, **more}
        return (await self.certificates.lookup.lookup(CALLER, LookupRequest.model_validate(said))).evidence_id

    async def read(self, **more: Any) -> str:
        said = DataRequest.model_validate({**FRAME, **SAID, **more})
        return (await self.certificates.named.data(CALLER, said)).evidence_id

    async def verify(self, **more: Any) -> str:
        said = VerifyRequest.model_validate({**FRAME, **SAID, **more})
        return (await self.certificates.named.verify(CALLER, said)).evidence_id

    async def file(self, proof: str = "", **more: Any) -> str:
        lookup = proof or await self.look_up()
        named = [{"code": "CARD", "identifier": IDENTIFIER, "lookup": lookup}]
        receipt = await self.desk.file("A-1", materials=[], certificates=named, purpose_code=PURPOSE, **more)
        self.case = receipt.submission_id
        self.issuer.asked.clear()
        return self.case

    async def at_region(self) -> str:
        await self.file()
        await self.desk.handed_over(self.case)
        return self.case

    # --- what happens

    def becomes(self, state: str, **more: Any) -> None:
        self.issuer.holds = [certificate(holder=HOLDER, state=state, **more)]

    async def later(self, seconds: float = DAY) -> None:
        """Let time pass, and ask about what is due."""
        self.clock.advance(seconds)
        await self.rechecks.turn()

    async def attempt(self) -> None:
        """Make every attempt to hand over that is due."""
        desk = self.desk
        packs = PackSet.of(REGION, cast("Any", dict.fromkeys(("submission", "receipt"), SamePack())))
        there = replace(region(), adapter=Adapter(submissions=self.peer), packs=packs)

        async def pinned(_region: Region, _version: str) -> PackSet:
            return packs

        attempts = Attempts(
            store=self.store, parcels=Parcels(self.store, desk.sealer, desk.materials, Borders((), self.clock)),
            pinned=pinned, events=desk.events, retry=RetryPolicy(5, LEASE, LEASE), clock=self.clock,
            metrics=self.metrics, confirm=self.rechecks.require,
        )  # fmt: skip
        for claimed in await self.store.write(
            lambda tx: queue.claim(tx, region=REGION, owner="w", limit=9, now=self.clock(), lease=LEASE)
        ):
            await attempts.make(claimed, there)

    async def notice(self, identifier: str = IDENTIFIER, by: str = "guangdong") -> None:
        """Let the issuer, or another region, tell of a change, as its notice arrives."""
        reading = [{"identifier": identifier, "state": "REVOKED", "changed_at": "2026-03-02T02:00:00Z"}]

        class Notices:
            operations = frozenset({"notice"})

            async def read(self, callback: Callback) -> CallbackReading:
                return CallbackReading(reading, {}, callback.body.decode(), callback.received_at + timedelta(hours=1))

        known = self.issuer.region(by)
        adapter = replace(known.adapter, notices=cast("Any", Notices()))
        packs = PackSet.of(by, cast("Any", {"certificate-notice": SamePack()}))
        notices = replace(self.certificates.notices, regions={by: replace(known, adapter=adapter, packs=packs)})
        body = f"nonce-{self.clock().timestamp()}".encode()
        callback = Callback("POST", "/notices", {}, body, self.clock())
        await notices.take(by, callback)

    # --- what is seen

    async def seen(self) -> CaseView:
        return await self.desk.cases.show(CALLER, self.case)

    async def facts(self, kind: str) -> list[Mapping[str, Any]]:
        return [entry.detail for entry in (await self.seen()).timeline if entry.kind == kind]

    async def conflicts(self) -> list[tuple[str, str]]:
        c = event_conflicts.c
        rows = await self.store.read(lambda tx: tx.execute(select(c.status, c.reason)).all())
        return [(row.status, row.reason) for row in rows]

    async def delivery(self) -> tuple[str, str]:
        query = select(deliveries.c.state, deliveries.c.last_code)
        row = await self.store.read(lambda tx: tx.execute(query).one())
        return row.state, row.last_code


@pytest.fixture
def house(sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock) -> House:
    return House(sqlite_store, sealer, references, clock)


@pytest.fixture
def either(store: Store, sealer: Sealer, references: References, clock: ManualClock) -> House:
    """Return the house over both engines in turn: for what one statement decides."""
    return House(store, sealer, references, clock)


# --- what proves a certificate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "more"),
    [
        ("look_up", {}),
        ("look_up", {"certificate_type": None}),
        ("read", {}),
        ("read", {"holder": HOLDER}),
        ("verify", {"holder": HOLDER}),
        ("verify", {"claims": {"number": "SBX777"}}),
    ],
)
async def test_a_lookup_a_reading_and_a_verification_prove_a_certificate(
    house: House, how: str, more: dict[str, Any]
) -> None:
    """Whose it is, is proved by the holder who was named, or by the issuer's own record."""
    proof = await getattr(house, how)(**more)
    await house.file(proof)
    [certified] = (await house.seen()).certified
    assert (certified.code, certified.standing, certified.needed) == ("CARD", "valid", False)
    assert (certified.issuer, certified.evidence) == ("guangdong", proof)


@pytest.mark.parametrize(
    ("how", "more", "holder", "said"),
    [
        ("verify", {"claims": {"number": "another"}}, HOLDER, "claimed of: number"),
        ("verify", {"holder": {**HOLDER, "name": "李方"}}, HOLDER, "claimed of: holder.name"),
        ("read", {}, OTHER, "another holder"),
        ("verify", {"claims": {"number": "SBX777"}}, OTHER, "another holder"),
    ],
)
async def test_a_question_proves_no_more_than_its_answer(
    house: House, how: str, more: dict[str, Any], holder: dict[str, Any], said: str
) -> None:
    house.issuer.holds = [certificate(holder=holder)]
    with pytest.raises(InvalidRequest) as refused:
        await house.file(await getattr(house, how)(**more))
    [problem] = refused.value.problems
    assert said in problem.reason


async def test_a_standing_that_was_remembered_proves_nothing(house: House) -> None:
    """Nobody was asked, so nobody has said whose the certificate is."""
    await house.verify()
    with pytest.raises(InvalidRequest) as refused:
        await house.file(await house.verify())
    assert "remembered" in refused.value.problems[0].reason


async def test_the_identifier_of_a_certificate_stands_in_no_view_and_in_the_file_of_the_case(house: House) -> None:
    await house.at_region()
    view = await house.seen()
    assert IDENTIFIER not in repr(view)
    row = await house.store.read(lambda tx: tx.execute(select(case_certificates)).mappings().one())
    assert IDENTIFIER not in repr(dict(row))
    [kept] = await house.store.read(lambda tx: recognised.for_the_file(tx, house.desk.sealer, house.case))
    assert (kept["identifier"], kept["standing"]) == (IDENTIFIER, "valid")


# --- as long as the case is open -------------------------------------------------------------------------------------


async def test_a_certificate_is_asked_about_before_its_proof_is_too_old(either: House) -> None:
    """By the very statement that takes it for one replica alone; a confirmation is no news of the case."""
    house = either
    await house.at_region()
    events = len((await house.seen()).timeline)
    await house.later(DAY * 0.8)
    assert house.issuer.asked == []
    await house.later(DAY * 0.15)
    assert house.issuer.asked == ["data"]
    view = await house.seen()
    assert view.certified[0].verified_at == house.clock()
    assert len(view.timeline) == events
    [row] = await house.store.read(
        lambda tx: tx.execute(select(evidence).where(evidence.c.action == "certificate.recheck")).mappings().all()
    )
    assert (row["who"]["client"], row["case_no"], row["id"]) == ("agency", house.case, view.certified[0].evidence)


async def test_an_issuer_that_is_asked_by_holder_only_is_asked_so(house: House) -> None:
    house.issuer.operations = frozenset()
    other = str(CertificateIdentifier(KIND.code, ISSUER, "SBX000000000778", "001"))
    await house.at_region()
    house.issuer.holds = [certificate(holder=HOLDER, identifier=other), certificate(holder=HOLDER, state="REVOKED")]
    await house.later()
    assert house.issuer.asked == ["lookup"]
    assert (await house.seen()).certified[0].standing == "revoked"


@pytest.mark.parametrize(
    ("state", "more", "standing"),
    [
        ("REVOKED", {}, "revoked"),
        ("RESTRICTED", {}, "restricted"),
        ("VALID", {"valid_until": "2026-01-01"}, "expired"),
        ("MOVED", {"replaced_by": IDENTIFIER}, "superseded"),
        ("VALID", {"holder": OTHER}, "not_found"),
    ],
)
async def test_a_change_is_told_and_waits_for_a_person_when_the_region_has_the_case(
    house: House, state: str, more: dict[str, Any], standing: str
) -> None:
    """No wire has a word for it; the decision is the region's."""
    await house.at_region()
    house.issuer.holds = [certificate(**{"holder": HOLDER, "state": state, **more})]
    await house.later()
    view = await house.seen()
    [fact] = await house.facts("certificate.changed")
    assert (fact["code"], fact["standing"], fact["before"], fact["needed"]) == ("CARD", standing, "valid", True)
    assert (view.state, view.certified[0].standing, view.certified[0].needed) == ("RECEIVED", standing, True)
    assert await house.conflicts() == [
        ("open", f"the certificate for its material CARD is {standing}: tell the region, or the filer")
    ]
    await house.later()  # the same again is no news
    assert len(await house.facts("certificate.changed")) == 1


@pytest.mark.parametrize(
    ("operations", "standing", "facts"),
    [(frozenset({"data"}), "revoked", ["certificate.changed"]), (frozenset(), "valid", ["certificate.unconfirmed"])],
    ids=["by identifier", "by holder"],
)
async def test_a_status_without_a_certificate_says_what_it_says_of_the_one_that_was_named(
    house: House, monkeypatch: pytest.MonkeyPatch, operations: frozenset[str], standing: str, facts: list[str]
) -> None:
    """It is no "not found"; and asked by holder, nobody knows which certificate it means."""
    await house.at_region()
    house.issuer.operations = operations

    async def revoked(_query: Any) -> CertificateReply:
        return CertificateReply("21")

    monkeypatch.setattr(house.issuer, "data", revoked)
    monkeypatch.setattr(house.issuer, "lookup", revoked)
    await house.later()
    view = await house.seen()
    assert view.certified[0].standing == standing
    assert [entry.kind for entry in view.timeline if entry.kind.startswith("certificate.")] == facts


async def test_a_certificate_that_is_in_force_again_ends_the_question_for_a_person(house: House) -> None:
    await house.at_region()
    house.becomes("RESTRICTED")
    await house.later()
    house.becomes("VALID")
    await house.later()
    assert [fact["needed"] for fact in await house.facts("certificate.changed")] == [True, False]
    assert [status for status, _ in await house.conflicts()] == ["resolved"]


async def test_a_case_that_has_not_left_goes_back_to_who_filed_it(either: House) -> None:
    """It lacks a required material, as it would have at the counter; and nothing leaves afterwards."""
    house = either
    await house.file()
    house.becomes("REVOKED")
    await house.later()
    assert await house.desk.state(house.case) == "RETURNED"
    assert (await house.seen()).timeline[-1].detail["code"] == "certificate.changed"
    await house.attempt()
    assert (house.peer.heard, await house.conflicts()) == ([], [])
    await house.later(10 * DAY)  # and nobody is asked about it any more
    assert house.issuer.asked == ["data"]


async def test_nobody_is_asked_about_a_case_that_is_decided(house: House) -> None:
    await house.at_region()
    await house.desk.says(house.case, "ACCEPTED")
    await house.desk.says(house.case, "DECIDED")
    await house.later(2 * DAY)
    await house.notice()
    await house.later(0)
    assert house.issuer.asked == []


async def test_a_question_for_a_person_ends_with_its_case_wherever_the_case_has_gone_since(house: House) -> None:
    """Another office may have it by then; the question stands under the region that had it when it was put."""
    await house.at_region()
    house.becomes("REVOKED")
    await house.later()
    assert [status for status, _ in await house.conflicts()] == ["open"]
    await house.desk.says(house.case, "ACCEPTED")
    await house.desk.says(house.case, "DECIDED")
    await house.store.write(lambda tx: tx.execute(update(submissions).values(handling_region="qingyuan")).rowcount)
    await house.later()
    assert [status for status, _ in await house.conflicts()] == ["resolved"]


# --- an issuer that is not heard, and a question that is not permitted -----------------------------------------------


async def test_an_issuer_that_is_away_has_said_nothing(house: House) -> None:
    """It is asked again, ever less often; that the proof is too old meanwhile is told once, and shown."""
    await house.at_region()
    house.issuer.trouble = RegionUnreachable("away")
    await house.later(DAY * 0.95)
    assert await house.facts("certificate.unconfirmed") == []
    for _ in range(3):
        await house.later(3600)
    assert [fact["why"] for fact in await house.facts("certificate.unconfirmed")] == ["unverifiable"]
    assert (await house.seen()).certified[0].standing == "valid"
    overdue = await house.store.read(lambda tx: recognised.overdue(tx, house.clock()))
    assert (overdue, await house.conflicts()) == ({"guangdong": 1}, [])
    asked = len(house.issuer.asked)
    await house.later(5)
    assert len(house.issuer.asked) == asked
    house.issuer.trouble = None
    await house.later(3600)
    assert await house.store.read(lambda tx: recognised.overdue(tx, house.clock())) == {}


async def test_an_issuer_that_is_left_alone_is_asked_nothing_and_what_grows_old_is_told(house: House) -> None:
    """Guard: an issuer that is away for a day must not make a row of evidence for every case and minute."""
    await house.at_region()
    house.resting = True
    await house.later(DAY * 0.95)
    assert (house.issuer.asked, await house.facts("certificate.unconfirmed")) == ([], [])
    for _ in range(3):
        await house.later(3600)
    assert [fact["why"] for fact in await house.facts("certificate.unconfirmed")] == ["unverifiable"]
    house.resting = False
    await house.later(3600)
    assert (house.issuer.asked, (await house.seen()).certified[0].verified_at) == (["data"], house.clock())


async def test_a_certificate_that_no_key_opens_holds_up_no_other_of_its_issuer(house: House) -> None:
    """A key that was lost is an operator's trouble; what else rests on this issuer is asked about."""
    await house.at_region()
    lost = update(case_certificates).values(body=b"sealed with another key")

    async def of(position: int) -> Any:
        query = select(case_certificates).where(case_certificates.c.position == position)
        return await house.store.read(lambda tx: dict(tx.execute(query).mappings().one()))

    other = {**await of(0), "position": 1}
    other["body"] = house.desk.sealer.seal(
        house.desk.sealer.open(other["body"], f"case_certificates.body:{house.case}:0"),
        f"case_certificates.body:{house.case}:1",
    )
    for statement in (lost, insert(case_certificates).values(other)):
        await house.store.write(partial(Connection.execute, statement=statement))
    await house.later()
    assert (house.issuer.asked, (await of(1))["verified_at"]) == (["data"], house.clock())
    assert (await of(0))["due"] > house.clock()  # it is tried again, as whatever failed


async def test_a_store_that_is_away_stops_no_look_for_what_is_due(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.at_region()
    house.clock.advance(DAY)

    async def away(_unit: Any) -> Any:
        raise Unavailable("The store is away.")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(house.store, "write", away)
        await house.rechecks.turn()
    await house.rechecks.turn()
    assert house.issuer.asked == ["data"]


@pytest.mark.parametrize("missing", ["grant", "client"])
async def test_what_the_filer_may_not_ask_any_more_is_asked_by_nobody_and_waits_for_a_person(
    house: House, missing: str
) -> None:
    """The question is the case's own, and rests on what its filer may do on that day."""
    await house.at_region()
    if missing == "grant":
        house.allow(grants(capabilities=["certificates.verify"]))  # the certificate was proved by a lookup
    else:
        house.filer = None
    await house.later()
    await house.later()
    assert house.issuer.asked == []
    code = {"grant": "policy.no_grant", "client": "certificate.no_filer"}[missing]
    assert [fact["why"] for fact in await house.facts("certificate.unconfirmed")] == [code]
    [(status, reason)] = await house.conflicts()
    assert status == "open"
    assert code in reason
    house.filer = CALLER
    house.allow(grants())
    await house.later()
    assert [status for status, _ in await house.conflicts()] == ["resolved"]


class Beyond(Issuer):
    """An issuer in another legal territory."""

    def region(self, name: str = "guangdong", place: str = "810000") -> Region:
        return super().region(name, place)


@pytest.mark.parametrize("given", [True, False])
async def test_an_issuer_beyond_a_border_is_asked_again_by_the_consents_that_came_with_the_application(
    sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock, given: bool
) -> None:
    """One for the question, one for the answer; a look-up's own consents were for that look-up."""
    ways = [("440000", "810000"), ("810000", "440000")]
    bases = [{"kind": "assessment", "origin": here, "target": there, "reference": "1"} for here, there in ways]
    house = House(
        sqlite_store, sealer, references, clock, Beyond(), tuple(Basis.model_validate(basis) for basis in bases)
    )
    for_question, for_answer = (
        {"recipient": recipient, "purpose": "办理", "fields": fields, "given_at": clock().isoformat(),
         "expires_at": (clock() + timedelta(days=30)).isoformat()}
        for recipient, fields in (("guangdong", ["holder.name", "holder.document"]), ("agency", ["certificate"]))
    )  # fmt: skip
    proof = await house.look_up(consents=[{"id": "C1", **for_question}, {"id": "C2", **for_answer}])
    signed = [{"evidence": "同意书 1", **consent} for consent in (for_question, for_answer)]
    await house.file(proof, consents=signed if given else [])
    await house.desk.handed_over(house.case)
    await house.later()
    unconfirmed = [fact["why"] for fact in await house.facts("certificate.unconfirmed")]
    assert (house.issuer.asked, unconfirmed) == ((["data"], []) if given else ([], ["transfer.no_consent"]))


async def test_every_part_of_a_case_rests_on_its_certificates(house: House) -> None:
    """Each office decides for itself, so each is told of a change; the whole has none of its own."""
    places = [{"place": REGION}, {"place": "qingyuan"}]
    await house.file(parts=places)
    whole = await house.seen()
    parts = [await house.desk.cases.show(CALLER, part.id) for part in whole.parts]
    assert [[one.code for one in part.certified] for part in parts] == [["CARD"], ["CARD"]]
    house.becomes("REVOKED")
    await house.later()
    assert await house.desk.state(house.case) == "RETURNED"


# --- notices ---------------------------------------------------------------------------------------------------------


async def test_a_notice_of_the_issuer_has_its_certificate_asked_about_at_once(either: House) -> None:
    house = either
    await house.at_region()
    await house.notice(str(CertificateIdentifier(KIND.code, ISSUER, "SBX000000000778", "001")))
    await house.later(1)
    assert house.issuer.asked == []
    house.becomes("REVOKED")
    await house.notice()
    await house.later(1)
    assert (await house.seen()).certified[0].standing == "revoked"


async def test_a_notice_of_another_region_counts_for_nothing_that_it_did_not_issue(either: House) -> None:
    """Nor does it take the place of the issuer's own."""
    house = either
    proof = await house.look_up()
    await house.verify()
    await house.notice(by="qingyuan")
    await house.file(proof)
    house.clock.advance(1)
    await house.notice(by="qingyuan")
    await house.later(1)
    await house.verify()
    assert house.issuer.asked == []  # no recheck, and what is remembered stays
    await house.notice()
    told_at = house.clock()
    house.clock.advance(1)
    await house.notice(by="qingyuan")
    reference = house.references.of("certificate", IDENTIFIER)
    assert await house.store.read(lambda tx: noticed_since(tx, reference, "guangdong", told_at))
    await house.rechecks.turn()
    assert house.issuer.asked == ["data"]


@pytest.mark.parametrize(("after", "asked"), [(True, ["data"]), (False, [])])
async def test_a_notice_that_came_after_the_proof_and_before_the_filing_counts(
    either: House, after: bool, asked: list[str]
) -> None:
    """Guard: a certificate that was valid at nine and revoked at ten lets no case out that is filed at eleven."""
    house = either
    if after:
        proof = await house.look_up()
    house.clock.advance(3600)
    await house.notice()
    house.clock.advance(3600)
    if not after:
        proof = await house.look_up()
    await house.file(proof)
    house.becomes("REVOKED")
    await house.attempt()
    assert (house.issuer.asked, house.peer.heard) == (asked, [] if after else [house.case])
    assert await house.desk.state(house.case) == ("RETURNED" if after else "FORWARDED")


async def test_a_notice_is_kept_as_long_as_a_proof_from_before_it_may_be_believed(house: House) -> None:
    await house.notice()
    reference, noticed_at = house.references.of("certificate", IDENTIFIER), house.clock()
    house.clock.advance(LONGEST)
    await house.store.write(lambda tx: forget(tx, house.clock()))
    assert await house.store.read(lambda tx: noticed_since(tx, reference, "guangdong", noticed_at))
    house.clock.advance(2 * DAY)
    await house.store.write(lambda tx: forget(tx, house.clock()))
    assert not await house.store.read(lambda tx: noticed_since(tx, reference, "guangdong", noticed_at))


async def test_an_answer_that_a_notice_has_overtaken_does_not_count(house: House) -> None:
    """The issuer may have said it before the change that it tells of."""
    await house.at_region()
    ask = house.certificates.recheck.ask

    async def slowly(*asked: Any) -> Any:
        told = await ask(*asked)
        house.ask = ask
        house.becomes("REVOKED")
        await house.notice()
        return told

    house.ask = slowly
    await house.later()
    assert await house.facts("certificate.changed") == []
    await house.later(1)
    assert (await house.seen()).certified[0].standing == "revoked"


async def test_a_recheck_does_not_take_the_answer_to_a_question_from_before_the_notice(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: the same words are under way already, for the hand-over that asked before the change."""
    await house.file()
    house.clock.advance(2 * DAY)
    begun, go, data = asyncio.Event(), asyncio.Event(), house.issuer.data

    async def slowly(query: Any) -> Any:
        said = await data(query)
        begun.set()
        await go.wait()
        return said

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(house.issuer, "data", slowly)
        handing_over = asyncio.create_task(house.attempt())
        await begun.wait()
    house.becomes("REVOKED")
    await house.notice()
    await asyncio.wait_for(house.rechecks.turn(), 5)
    assert (await house.seen()).certified[0].standing == "revoked"
    go.set()
    await handing_over
    assert house.peer.heard == []


async def test_a_notice_during_the_hand_over_has_the_certificate_asked_about_once_more(house: House) -> None:
    """Guard: what was answered before the change lets no case out after it."""
    await house.file()
    house.clock.advance(2 * DAY)
    ask = house.certificates.recheck.ask

    async def slowly(*asked: Any) -> Any:
        told = await ask(*asked)
        house.ask = ask
        house.becomes("REVOKED")
        await house.notice()
        return told

    house.ask = slowly
    await house.attempt()
    assert (house.peer.heard, await house.desk.state(house.case)) == ([], "RETURNED")


async def test_an_answer_that_a_decision_has_overtaken_changes_nothing(house: House) -> None:
    """What it was decided upon stays as it was then."""
    await house.at_region()
    await house.desk.says(house.case, "ACCEPTED")
    house.becomes("REVOKED")
    ask = house.certificates.recheck.ask

    async def slowly(*asked: Any) -> Any:
        told = await ask(*asked)
        await house.desk.says(house.case, "DECIDED")
        return told

    house.ask = slowly
    await house.later(DAY * 0.95)
    assert ((await house.seen()).certified[0].standing, await house.conflicts()) == ("valid", [])


async def test_an_answer_that_is_overtaken_stops_no_case(house: House) -> None:
    """What follows from an answer is undone with it."""
    await house.file()
    house.becomes("RESTRICTED")
    ask = house.certificates.recheck.ask

    async def slowly(*asked: Any) -> Any:
        told = await ask(*asked)
        house.ask = ask
        house.becomes("VALID")
        await house.notice()
        return told

    house.ask = slowly
    await house.later(DAY * 0.95)
    await house.later(1)
    await house.attempt()
    assert (house.peer.heard, await house.facts("certificate.changed")) == ([house.case], [])


# --- before the hand-over --------------------------------------------------------------------------------------------


async def test_a_case_goes_out_unasked_while_its_proof_is_young(house: House) -> None:
    await house.file()
    house.clock.advance(DAY * 0.95)
    await house.attempt()
    assert (house.peer.heard, house.issuer.asked) == ([house.case], [])


async def test_an_old_proof_is_renewed_before_the_case_goes_out(house: House) -> None:
    await house.file()
    house.clock.advance(2 * DAY)
    await house.attempt()
    assert (house.peer.heard, house.issuer.asked) == ([house.case], ["data"])
    assert (await house.seen()).certified[0].verified_at == house.clock()


async def test_a_case_whose_certificate_was_revoked_does_not_go_out(house: House) -> None:
    await house.file()
    house.clock.advance(2 * DAY)
    house.becomes("REVOKED")
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == ([], ("cancelled", "certificate.changed"))
    assert await house.desk.state(house.case) == "RETURNED"
    await house.later(DAY)
    assert await house.conflicts() == []


async def test_a_notice_counts_before_the_hand_over_too(house: House) -> None:
    await house.file()
    house.becomes("REVOKED")
    await house.notice()
    await house.attempt()
    assert await house.desk.state(house.case) == "RETURNED"


async def test_a_change_during_the_hand_over_waits_until_it_is_known_who_has_the_case(house: House) -> None:
    await house.file()
    await house.store.write(
        lambda tx: tx.execute(update(deliveries).values(state="sending", owner="w", sent_at=house.clock())).rowcount
    )
    house.becomes("REVOKED")
    await house.later()
    assert (await house.desk.state(house.case), await house.conflicts()) == ("COLLECTED", [])
    await house.desk.handed_over(house.case)
    await house.later(3600)
    assert [status for status, _ in await house.conflicts()] == ["open"]
    assert len(await house.facts("certificate.changed")) == 1


async def test_a_case_waits_for_an_issuer_that_is_away_and_is_not_given_up(house: House) -> None:
    await house.file()
    house.clock.advance(2 * DAY)
    house.issuer.trouble = RegionUnreachable("away")
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == ([], ("pending", "certificate.unconfirmed"))
    about = select(evidence.c.action).where(evidence.c.outcome == "failed")
    failed = await house.store.read(lambda tx: tx.execute(about).scalars().all())
    assert failed == ["certificate.recheck"]  # nobody has tried to deliver it
    house.issuer.trouble = None
    house.clock.advance(3600)
    await house.attempt()
    assert house.peer.heard == [house.case]


async def test_a_case_waits_for_an_issuer_that_is_left_alone(house: House) -> None:
    await house.file()
    house.clock.advance(2 * DAY)
    house.resting = True
    await house.attempt()
    assert (house.issuer.asked, await house.delivery()) == ([], ("pending", "certificate.unconfirmed"))


async def test_a_case_whose_question_is_not_permitted_waits_for_a_person(house: House) -> None:
    await house.file()
    earlier = update(deliveries).values(sent_at=house.clock())  # the region was away then
    await house.store.write(lambda tx: tx.execute(earlier).rowcount)
    house.clock.advance(2 * DAY)
    house.filer = None
    await house.attempt()
    assert (house.peer.heard, await house.delivery()) == ([], ("dead", "certificate.not_permitted"))
    assert await house.desk.state(house.case) == "DELIVERY_FAILED"
    assert "return" in (await house.seen()).can  # it has certainly not left


# --- what a region does ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "broken"), [("VALID", False), ("REVOKED", True)])
async def test_a_decision_on_what_nobody_confirmed_is_recorded_and_marked(
    house: House, state: str, broken: bool
) -> None:
    """The gateway stops no decision; whoever follows the case up must see what it rests on."""
    await house.at_region()
    await house.desk.says(house.case, "ACCEPTED")
    house.becomes(state)
    await house.later()
    await house.desk.says(house.case, "DECIDED")
    await house.desk.says(house.case, "COMPLETED")
    assert await house.desk.state(house.case) == "COMPLETED"
    expected = {("certificate_unconfirmed", REGION, "agency"): 1} if broken else {}
    assert await house.store.read(figures) == expected


async def test_a_decision_on_a_proof_that_is_too_old_is_marked(house: House) -> None:
    await house.at_region()
    await house.desk.says(house.case, "ACCEPTED")
    house.issuer.trouble = RegionUnreachable("away")
    await house.later()
    await house.desk.says(house.case, "DECIDED")
    [violation] = await house.facts("policy.violation")
    assert (violation["rule"], violation["materials"]) == ("certificate_unconfirmed", ["CARD"])


async def test_a_decision_from_before_the_change_is_not_marked(house: House) -> None:
    """When it was taken counts, not when it was reported."""
    await house.at_region()
    await house.desk.says(house.case, "ACCEPTED")
    house.becomes("REVOKED")
    await house.later(DAY * 0.95)
    event = said(house.case, "late", "DECIDED", house.clock() - timedelta(seconds=1))
    await house.store.write(lambda tx: house.desk.events.from_region(tx, REGION, event, house.clock()).outcome)
    assert await house.desk.state(house.case) == "DECIDED"
    assert await house.store.read(figures) == {}


async def test_the_paper_may_be_asked_for_once_the_certificate_is_in_force_no_more(house: House) -> None:
    await house.at_region()
    house.becomes("REVOKED")
    await house.later()
    await house.desk.says(house.case, "SUPPLEMENT_NOTICE", materials=[{"code": "CARD", "paper": True}])
    assert await house.store.read(figures) == {}


async def test_an_issuer_that_hangs_holds_up_no_other_and_no_end(house: House) -> None:
    """Guard: whoever stops the gateway does not wait for an issuer."""
    await house.at_region()
    house.clock.advance(DAY)
    begun, stopping = asyncio.Event(), asyncio.Event()

    async def hanging(*_asked: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    house.ask = hanging
    running = asyncio.create_task(house.rechecks.run(stopping))
    await begun.wait()
    stopping.set()
    await asyncio.wait_for(running, 5)
