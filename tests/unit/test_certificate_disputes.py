"""Errors in certificates: written down first, told once, asked about until there is a reply, and never lost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from gateway.background import _forget
from gateway.certificates import dispute_rows
from gateway.certificates.dispute_worker import DisputeWorker
from gateway.certificates.disputes import Dispute
from gateway.certificates.request import DisputeRequest
from gateway.crypto.at_rest import References, Sealer
from gateway.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    NotOffered,
    NotPermitted,
    RegionRefused,
    RegionUnreachable,
    Unavailable,
)
from gateway.ports import DisputeReply
from gateway.storage import Store
from gateway.storage.tables import certificate_disputes, consents, evidence
from gateway.submissions.retry import RetryPolicy
from tests.support.clock import ManualClock
from tests.support.issuers import CALLER, FRAME, HOLDER, IDENTIFIER, Issuer, grants, services
from tests.unit.test_cli_deliveries import Office, office  # noqa: F401 - the fixture of an operator's desk

DAY = 86_400.0
STATEMENT = "The house number is 12, not 21."


def said(**changes: Any) -> DisputeRequest:
    return DisputeRequest.model_validate(
        {
            **FRAME,
            "reference": "R-1",
            "identifier": IDENTIFIER,
            "holder": HOLDER,
            "field": "surface.address",
            "statement": STATEMENT,
            **changes,
        }
    )


class Desk:
    """Two replicas over one store and one issuer."""

    def __init__(self, store: Store, clock: ManualClock, references: References, sealer: Sealer) -> None:
        self.store, self.clock, self.sealer, self.issuer = store, clock, sealer, Issuer()
        self.services = services(store, clock, references, self.issuer, sealer=sealer)
        self.workers = [self.worker(), self.worker()]

    def worker(self) -> DisputeWorker:
        regions = {"guangdong": self.issuer.region()}
        retry = RetryPolicy(attempts=1, first=timedelta(seconds=10), longest=timedelta(hours=1))
        return DisputeWorker(self.store, regions, self.sealer, self.clock, retry, timedelta(days=1))

    async def report(self, **changes: Any) -> Dispute:
        return await self.services.disputes.report(CALLER, said(**changes))

    async def show(self, ticket: str) -> Dispute:
        return await self.services.disputes.show(CALLER, ticket)

    async def turn(self) -> int:
        return sum(await asyncio.gather(*(worker.turn() for worker in self.workers)))

    async def evidence(self) -> list[dict[str, Any]]:
        query = select(evidence).where(evidence.c.action == "certificate.dispute").order_by(evidence.c.recorded_at)
        return await self.store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])


@pytest.fixture
def desk(store: Store, clock: ManualClock, references: References, sealer: Sealer) -> Desk:
    return Desk(store, clock, references, sealer)


@pytest.fixture
def small(sqlite_store: Store, clock: ManualClock, references: References, sealer: Sealer) -> Desk:
    return Desk(sqlite_store, clock, references, sealer)


async def test_a_report_is_told_once_however_many_replicas_there_are_and_its_reply_is_brought(desk: Desk) -> None:
    taken = await desk.report()
    assert (taken.state, desk.issuer.asked) == ("open", [])  # written down, and nobody told yet
    assert await desk.turn() == 1
    assert (await desk.show(taken.ticket)).state == "told"
    assert (desk.issuer.asked, desk.issuer.disputes[taken.ticket]["statement"]) == (["dispute"], STATEMENT)
    assert await desk.turn() == 0
    desk.clock.advance(DAY + 1)
    assert await desk.turn() == 1  # asked, and there is nothing yet
    assert (await desk.show(taken.ticket)).state == "told"
    desk.issuer.reply = DisputeReply("corrected", "门牌号已更正")
    desk.clock.advance(DAY + 1)
    await desk.turn()
    shown = await desk.show(taken.ticket)
    assert (shown.state, shown.number, shown.reply) == ("corrected", "YY1", "门牌号已更正")
    desk.clock.advance(30 * DAY)
    assert await desk.turn() == 0
    assert [row["reason"] for row in await desk.evidence()] == ["taken", "told", "corrected"]


async def test_the_same_report_made_twice_at_once_is_one(desk: Desk) -> None:
    one, other = await asyncio.gather(desk.report(), desk.report())
    assert one.ticket == other.ticket
    assert one.evidence_id == other.evidence_id
    assert sorted([one.replayed, other.replayed]) == [False, True]
    assert await desk.turn() == 1


async def test_another_report_under_the_same_reference_is_refused_with_its_evidence(small: Desk) -> None:
    taken = await small.report()
    with pytest.raises(Conflict) as refused:
        await small.report(statement="Something else.")
    assert refused.value.stable_code == "certificate.dispute_differs"
    assert taken.ticket in refused.value.public
    assert refused.value.evidence is not None


async def test_a_process_that_dies_between_the_issuers_word_and_ours_tells_the_same_report_again(
    small: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = await small.report()

    def die(*_: Any) -> bool:
        raise Unavailable("gone")

    with monkeypatch.context() as dying:
        dying.setattr(dispute_rows, "settle", die)
        await small.workers[0].turn()
    assert await small.workers[1].turn() == 0  # another one has it, as far as anybody knows
    small.clock.advance(dispute_rows.LEASE.total_seconds() + 1)
    assert await small.workers[1].turn() == 1
    assert (list(small.issuer.disputes), small.issuer.asked) == ([taken.ticket], ["dispute", "dispute"])
    assert (await small.show(taken.ticket)).number == "YY1"


async def test_an_attempt_whose_lease_ran_out_writes_nothing_over_the_one_that_followed(small: Desk) -> None:
    await small.report()

    def take(owner: str) -> Any:
        return lambda tx: dispute_rows.claim(tx, owner=owner, now=small.clock(), limit=1)

    (slow,) = await small.store.write(take("slow"))
    small.clock.advance(dispute_rows.LEASE.total_seconds() + 1)
    (quick,) = await small.store.write(take("quick"))
    values = {"state": "told", "number": "of the slow one"}
    assert not await small.store.write(lambda tx: dispute_rows.settle(tx, slow, values, small.clock()))
    assert await small.store.write(lambda tx: dispute_rows.settle(tx, quick, values, small.clock()))


async def test_an_issuer_that_is_away_is_told_later_and_an_operator_sees_what_hangs(small: Desk) -> None:
    taken = await small.report()
    small.issuer.trouble = RegionUnreachable("away", region="guangdong")
    for _ in range(2):
        await small.turn()
        small.clock.advance(21)
    assert await small.store.read(dispute_rows.figures) == {("guangdong", "failing"): 1}
    (hangs,) = await small.store.read(lambda tx: dispute_rows.unfinished(tx, 10))
    assert (hangs["id"], hangs["failures"], hangs["last_code"]) == (taken.ticket, "2", "region.unreachable")
    small.issuer.trouble = None
    await small.turn()
    assert await small.store.read(dispute_rows.figures) == {("guangdong", "told"): 1}


async def test_a_definite_no_of_the_issuer_ends_the_report_and_is_its_reply(small: Desk) -> None:
    taken = await small.report()
    small.issuer.trouble = RegionRefused("The field is not one of ours.", region="guangdong")
    await small.turn()
    shown = await small.show(taken.ticket)
    assert (shown.state, shown.reply) == ("refused", "The field is not one of ours.")
    small.clock.advance(DAY)
    assert await small.turn() == 0


async def test_a_defect_while_telling_loses_no_report(small: Desk) -> None:
    taken = await small.report()
    small.issuer.trouble = ZeroDivisionError()  # type: ignore[assignment] # what no issuer should raise
    await small.turn()
    small.issuer.trouble = None
    small.clock.advance(21)
    await small.turn()
    assert (await small.show(taken.ticket)).state == "told"


async def test_a_report_that_no_key_opens_holds_up_no_other(small: Desk) -> None:
    """A key that was lost is an operator's trouble, who sees the report hang; the others are told."""
    lost, other = await small.report(reference="lost"), await small.report(reference="other")
    c = certificate_disputes.c
    spoilt = update(certificate_disputes).where(c.id == lost.ticket).values(body=b"sealed with another key")
    await small.store.write(lambda tx: tx.execute(spoilt))
    await small.turn()
    assert (await small.show(other.ticket)).state == "told"
    hanging = {row["id"]: row for row in await small.store.read(lambda tx: dispute_rows.unfinished(tx, 9))}
    assert (hanging[lost.ticket]["state"], hanging[lost.ticket]["failures"]) == ("open", "1")


@pytest.mark.parametrize("number", ["", "x" * 129, "a\x00b"])
async def test_a_number_that_cannot_be_kept_is_no_receipt(small: Desk, number: str) -> None:
    """PostgreSQL keeps no NUL; the report is told again rather than lost."""
    taken = await small.report()
    small.issuer.receipt = number
    await small.turn()
    assert (await small.show(taken.ticket)).state == "open"


async def test_where_an_issuer_takes_no_reports_the_reporter_is_told_at_once_what_to_do(small: Desk) -> None:
    small.issuer.operations = frozenset({"data"})
    with pytest.raises(NotOffered) as refused:
        await small.report()
    assert refused.value.stable_code == "certificate.takes_no_disputes"
    assert "Have the holder tell" in refused.value.public
    (row,) = await small.evidence()
    assert (row["outcome"], row["id"]) == ("refused", refused.value.evidence)


async def test_without_a_grant_of_its_own_nothing_is_taken(small: Desk, references: References) -> None:
    """Who may verify may not report."""
    small.services = services(
        small.store, small.clock, references, small.issuer, allowed=grants(capabilities=["certificates.verify"])
    )
    with pytest.raises(NotPermitted):
        await small.report()


async def test_for_a_case_of_ours_the_holder_must_be_named(small: Desk) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await small.report(case="KY44010044060020261123000001L", holder=None)
    assert [problem.field for problem in refused.value.problems] == ["holder"]


@pytest.mark.parametrize("ticket", ["DS" + "0" * 32, "x", "DS\x00", "../1"])
async def test_a_ticket_that_is_not_there_is_not_found(small: Desk, ticket: str) -> None:
    await small.report()
    with pytest.raises(NotFound):
        await small.show(ticket)


async def test_nobody_else_sees_a_report(small: Desk) -> None:
    taken = await small.report()
    for other in (replace(CALLER, client_id="other"), replace(CALLER, window_id="W1")):
        with pytest.raises(NotFound):
            await small.services.disputes.show(other, taken.ticket)


async def test_nothing_of_what_is_reported_or_replied_lies_in_clear(small: Desk) -> None:
    await small.report()
    small.issuer.reply = DisputeReply("rejected", "与登记一致")
    await small.turn()
    small.clock.advance(DAY + 1)
    await small.turn()

    def everything(tx: Connection) -> str:
        tables = (certificate_disputes, evidence)
        return repr([tuple(row) for table in tables for row in tx.execute(select(table))])

    kept = await small.store.read(everything)
    assert all(word not in kept for word in (STATEMENT, str(HOLDER["name"]), IDENTIFIER, "与登记一致"))


async def test_a_report_whose_consent_ended_before_it_was_told_stays_here(small: Desk) -> None:
    """PIPL art. 15: what has not happened yet does not happen any more."""
    row = {
        "id": "CN1", "case_no": FRAME["case"], "subject_ref": "", "recipient": "guangdong", "purpose": "", "fields": [],
        "basis": "", "legal_basis": "", "recorded_by": "", "evidence": "", "given_at": small.clock(),
        "expires_at": small.clock() + timedelta(days=1), "revoked_at": small.clock(),
    }  # fmt: skip
    await small.store.write(lambda tx: tx.execute(consents.insert().values(row)))
    taken = await small.report()

    def rest_on_it(tx: Connection) -> None:
        found = dispute_rows.earlier(tx, "agency", "R-1") or {}
        body = dispute_rows.open_body(small.sealer, found) | {"consent": "CN1"}
        sealed = dispute_rows.sealed_body(small.sealer, taken.ticket, body)
        tx.execute(certificate_disputes.update().values(body=sealed))

    await small.store.write(rest_on_it)
    await small.turn()
    assert (small.issuer.asked, (await small.show(taken.ticket)).state) == ([], "cancelled")


async def test_within_one_territory_no_report_rests_on_a_consent_that_came_along(small: Desk) -> None:
    """Nothing asks for one there, so that its end takes nothing away."""
    now = small.clock()
    given = {
        "id": "AGENCY-CONSENT", "recipient": "guangdong", "purpose": FRAME["purpose"], "fields": ["holder.name"],
        "given_at": now.isoformat(), "expires_at": (now + timedelta(seconds=5)).isoformat(),
    }  # fmt: skip
    taken = await small.report(consents=[given])
    small.clock.advance(60)
    await small.turn()
    assert (small.issuer.asked, (await small.show(taken.ticket)).state) == (["dispute"], "told")


async def test_a_report_that_is_being_told_is_not_given_up_under_its_tellers_hands(small: Desk) -> None:
    taken = await small.report()
    now, sealer = small.clock(), small.sealer
    await small.store.write(lambda tx: dispute_rows.claim(tx, owner="one", now=now, limit=1))
    assert not await small.store.write(lambda tx: dispute_rows.close(tx, sealer, taken.ticket, "why", now))


async def test_a_report_goes_long_after_its_end_and_not_before(small: Desk) -> None:
    taken = await small.report()
    small.clock.advance(400 * DAY)
    term = timedelta(days=365)
    await small.store.write(lambda tx: _forget(tx, small.clock(), term))
    small.issuer.trouble = RegionRefused("no", region="guangdong")
    await small.turn()
    small.clock.advance(364 * DAY)
    await small.store.write(lambda tx: _forget(tx, small.clock(), term))
    assert (await small.show(taken.ticket)).state == "refused"
    small.clock.advance(2 * DAY)
    await small.store.write(lambda tx: _forget(tx, small.clock(), term))
    with pytest.raises(NotFound):
        await small.show(taken.ticket)


def test_an_operator_lists_what_waits_and_has_it_tried_at_once(office: Office) -> None:  # noqa: F811 - the fixture
    row = {
        "id": "DS" + "1" * 32, "client_id": "agency", "client_reference": "R-1", "digest": "", "region": "guangdong",
        "type_code": "T", "body": b"", "state": "open", "failures": 3, "last_code": "region.unreachable",
        "due": office.now + timedelta(days=1), "created_at": office.now, "updated_at": office.now,
    }  # fmt: skip
    office.store(lambda tx: tx.execute(certificate_disputes.insert().values(row)))
    (listed,) = json.loads(office.run("disputes", "list", "--json").stdout)
    assert (listed["id"], listed["last_code"], listed["failures"]) == (row["id"], "region.unreachable", "3")
    assert office.run("disputes", "retry", str(row["id"]), "--reason", "they are back").exit_code == 0
    assert office.run("disputes", "retry", "DS1", "--reason", "mistyped").exit_code == 1
    assert office.run("disputes", "close", str(row["id"]), "--reason", "Their office is closed.").exit_code == 0
    assert office.run("disputes", "close", str(row["id"]), "--reason", "once more").exit_code == 1
    (left,) = office.store(lambda tx: tx.execute(select(certificate_disputes)).mappings().all())
    assert (left["state"], left["due"], left["reply"] is None) == ("cancelled", None, False)
    assert [one["action"] for one in office.evidence()] == ["dispute.retry", "dispute.close"]
