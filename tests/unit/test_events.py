"""The timeline of a case: every event once, none lost, linked by hashes, and the case where all that was said leads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import HANDLING_ONLY, State
from gateway.storage import Store
from gateway.storage.tables import region_numbers, submission_events, submissions
from gateway.submissions.events import MOST, Arrival, EventLog
from gateway.submissions.story import LINKED, digest_of, linked, open_detail, retold
from gateway.telemetry import Metrics
from gateway.web.ops import handlers as ops
from tests.support.cases import REGION, add_case, conflicts, number, said, state_of, timeline
from tests.support.clock import ManualClock

# --- the timeline --------------------------------------------------------------------------------------------------


class Desk:
    """One case, and a region that reports on it."""

    def __init__(self, store: Store, sealer: Sealer, clock: ManualClock) -> None:
        self.store = store
        self.log = EventLog(sealer)
        self.clock = clock
        self.case = number(1, clock())

    async def open(self, state: State = State.FORWARDED) -> None:
        await self.store.write(lambda tx: add_case(tx, self.case, self.clock(), state=state))

    async def hear(self, event_id: str, state: str, seconds: float = 0, **more: Any) -> Arrival:
        """Take an event of a step that was made so many seconds from now."""
        case, region = more.pop("case", self.case), more.pop("region", REGION)
        event = said(case, event_id, state, self.clock() + timedelta(seconds=seconds), **more)
        return await self.store.write(lambda tx: self.log.from_region(tx, region, event, self.clock()))

    async def state(self) -> State:
        return await self.store.read(lambda tx: state_of(tx, self.case))

    async def timeline(self) -> list[str]:
        rows = await self.store.read(lambda tx: timeline(tx, self.case))
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
        return [state for _, state in rows]

    async def kinds(self) -> list[str]:
        c = submission_events.c
        return list(await self.store.read(lambda tx: tx.execute(select(c.kind).order_by(c.seq)).scalars().all()))

    async def conflicts(self) -> list[Mapping[str, Any]]:
        return await self.store.read(conflicts)


@pytest.fixture
def desk(sqlite_store: Store, sealer: Sealer, clock: ManualClock, unblocked: None) -> Desk:
    return Desk(sqlite_store, sealer, clock)


async def test_an_event_moves_the_case_and_keeps_what_a_clerk_may_read(desk: Desk, sealer: Sealer) -> None:
    """Sealed: a region's remark or result may name people."""
    await desk.open()
    result = {"code": "GRANTED", "text": "准予"}
    arrival = await desk.hear(
        "e1", "ACCEPTED", -60, operator="G-017", reason="材料齐全", result=result, short_number="7"
    )
    assert arrival == Arrival("recorded", State.ACCEPTED)
    assert await desk.state() is State.ACCEPTED

    c = submission_events.c
    query = select(c.source, c.region_event_id, c.occurred_at, c.recorded_at, c.detail).where(c.seq == 2)
    source, event_id, occurred, recorded, detail = await desk.store.read(lambda tx: tx.execute(query).one())
    assert (source, event_id) == (REGION, "e1")
    assert recorded - occurred == timedelta(seconds=60)
    assert "材料".encode() not in detail
    opened = open_detail(sealer, desk.case, 2, detail)
    assert opened == {"word": "ACCEPTED", "operator": "G-017", "reason": "材料齐全", "result": result}
    kept = await desk.store.read(lambda tx: tx.execute(select(region_numbers)).one())
    assert (kept.number, kept.short_number) == (f"FS-{desk.case}", "7")


async def test_a_late_event_joins_the_timeline_and_moves_nothing(desk: Desk) -> None:
    await desk.open()
    await desk.hear("e2", "DECIDED")
    assert (await desk.hear("e1", "ACCEPTED", -60)).outcome == "late"
    assert await desk.state() is State.DECIDED
    assert await desk.timeline() == ["FORWARDED", "DECIDED", "ACCEPTED"]


async def test_an_interrupted_procedure_resumes(desk: Desk) -> None:
    await desk.open()
    for seconds, word in enumerate(["ACCEPTED", "SPECIAL", "RESUMED", "SPECIAL", "RESUMED"]):
        assert (await desk.hear(f"e{seconds}", word, seconds)).outcome == "recorded"
    assert await desk.state() is State.ACCEPTED


async def test_a_late_interruption_does_not_stop_a_procedure_that_was_resumed(desk: Desk) -> None:
    """Accepted and special may alternate: each can follow the other, so that only the time of the step tells."""
    await desk.open()
    await desk.hear("e1", "ACCEPTED", 1)
    await desk.hear("e3", "RESUMED", 3)
    assert (await desk.hear("e2", "SPECIAL", 2)).outcome == "late"
    assert await desk.state() is State.ACCEPTED
    assert (await desk.hear("e4", "SPECIAL", 4)).outcome == "recorded"
    assert await desk.state() is State.SPECIAL


async def test_an_event_told_twice_is_recorded_once(desk: Desk) -> None:
    await desk.open()
    await desk.hear("e1", "RECEIVED")
    assert await desk.hear("e1", "RECEIVED") == Arrival("duplicate")
    assert await desk.timeline() == ["FORWARDED", "RECEIVED"]
    assert await desk.conflicts() == []


async def test_two_regions_may_use_the_same_event_id(desk: Desk) -> None:
    await desk.open()
    await desk.hear("e1", "RECEIVED")
    assert (await desk.hear("e1", "ACCEPTED", region="guangdong")).outcome == "conflict"
    [kept] = await desk.conflicts()
    assert kept["region"] == "guangdong"


@pytest.mark.parametrize("other", ["state", "case"])
async def test_an_event_id_that_stands_for_something_else_is_no_duplicate(other: str, desk: Desk) -> None:
    """To drop it as a duplicate would lose what the region said."""
    await desk.open()
    await desk.hear("e1", "RECEIVED")
    word, case = ("ACCEPTED", desk.case) if other == "state" else ("RECEIVED", number(2, desk.clock()))
    assert (await desk.hear("e1", word, case=case)).outcome == "conflict"
    assert (await desk.hear("e1", word, case=case)).outcome == "duplicate"
    assert await desk.state() is State.RECEIVED
    [kept] = await desk.conflicts()
    assert kept["reason"] == f"its id was used before, for RECEIVED of {desk.case}"


async def test_an_event_that_cannot_be_waits_for_a_person(desk: Desk, sealer: Sealer) -> None:
    await desk.open()
    await desk.hear("e1", "NOT_ACCEPTED")
    assert (await desk.hear("e2", "DECIDED", reason="李芳")).outcome == "conflict"
    assert await desk.state() is State.NOT_ACCEPTED
    [kept] = await desk.conflicts()
    assert kept["reason"] == "DECIDED cannot follow NOT_ACCEPTED"
    assert "李芳".encode() in sealer.open(kept["event"], f"event_conflicts.event:{kept['id']}")
    assert (await desk.hear("e2", "DECIDED")).outcome == "duplicate"
    assert len(await desk.conflicts()) == 1


async def test_an_event_for_a_case_that_is_not_here_waits_for_a_person(desk: Desk) -> None:
    assert (await desk.hear("e1", "RECEIVED")).outcome == "conflict"
    [kept] = await desk.conflicts()
    assert (kept["submission_id"], kept["reason"]) == (desk.case, "there is no such submission here")


async def test_what_is_no_number_of_a_case_is_kept_sealed_alone(desk: Desk) -> None:
    """It may be anything, the number of a person's document too, and the queue is listed without opening it."""
    await desk.hear("e1", "ACCEPTED", case="440106199001011230")
    [kept] = await desk.conflicts()
    assert kept["submission_id"] == ""
    assert b"440106199001011230" in await desk.store.read(lambda tx: desk.log.conflicts.show(tx, kept["id"]))


async def test_a_region_without_power_over_the_case_moves_nothing(desk: Desk) -> None:
    await desk.open()
    assert (await desk.hear("e1", "COMPLETED", region="guangdong")).outcome == "conflict"
    assert await desk.state() is State.FORWARDED
    [kept] = await desk.conflicts()
    assert kept["reason"] == "region guangdong has no power over a case that foshan handles"


async def test_an_event_from_the_future_waits_for_a_person(desk: Desk) -> None:
    """A region's clock may be fast; an event from next year would overtake all that follow it."""
    await desk.open()
    assert (await desk.hear("e1", "RECEIVED", 3600)).outcome == "recorded"
    assert (await desk.hear("e2", "ACCEPTED", 3600 * 25)).outcome == "conflict"
    [kept] = await desk.conflicts()
    assert kept["reason"] == "is dated in the future"
    assert await desk.state() is State.RECEIVED


@pytest.mark.parametrize("field", ["event_id", "number", "short_number"])
async def test_ids_that_are_too_long_to_be_kept_wait_for_a_person(field: str, desk: Desk) -> None:
    """Cut off, two of them might be one; refused by the database, they would stop all events behind them."""
    await desk.open()
    event = said(desk.case, "e1", "RECEIVED", desk.clock()) | {field: "9" * 65}
    outcomes = [
        await desk.store.write(lambda tx: desk.log.from_region(tx, REGION, event, desk.clock())) for _ in range(2)
    ]
    assert [arrival.outcome for arrival in outcomes] == ["conflict", "duplicate"]
    [kept] = await desk.conflicts()
    assert kept["reason"] == f"longer than 64 characters: {field}"
    assert len(kept["region_event_id"]) <= 64


async def test_an_event_that_cannot_be_read_is_kept_once_as_it_came(desk: Desk, sealer: Sealer) -> None:
    raw = b"\xff\x00 not a document"
    for _ in range(2):
        await desk.store.write(lambda tx: desk.log.unreadable(tx, REGION, raw, "cannot be read: state", desk.clock()))
    [kept] = await desk.conflicts()
    assert sealer.open(kept["event"], f"event_conflicts.event:{kept['id']}") == raw
    assert raw not in kept["event"]


@pytest.mark.parametrize("state", [State.COLLECTED, State.FORWARDED, State.ACCEPTED, State.SPECIAL, State.COMPLETED])
async def test_a_step_that_nobody_here_knows_is_on_record_and_waits_for_a_person(
    state: State, desk: Desk, sealer: Sealer
) -> None:
    """A region that invents a state must not stop its cases: the clerk sees that something was said, and goes on."""
    await desk.open(state)
    arrival = await desk.hear("e1", "unknown:77", reason="李芳")
    assert arrival == Arrival("unknown", state)
    assert await desk.state() is state
    assert await desk.timeline() == [state, state]
    row = await desk.store.read(
        lambda tx: tx.execute(select(submission_events).where(submission_events.c.seq == 2)).one()
    )
    assert open_detail(sealer, desk.case, 2, row.detail) == {"word": "unknown:77", "reason": "李芳"}
    [kept] = await desk.conflicts()
    assert (kept["submission_id"], kept["reason"]) == (desk.case, "its state is a code that nobody here knows")
    assert "77" not in kept["reason"], "whatever a region puts there may be anything"
    assert b"unknown:77" in sealer.open(kept["event"], f"event_conflicts.event:{kept['id']}")


async def test_a_step_that_nobody_here_knows_is_recorded_once(desk: Desk) -> None:
    await desk.open()
    await desk.hear("e1", "unknown:77")
    assert await desk.hear("e1", "unknown:77") == Arrival("duplicate")
    assert await desk.timeline() == ["FORWARDED", "FORWARDED"]
    assert len(await desk.conflicts()) == 1


async def test_a_case_goes_on_after_a_step_that_nobody_here_knows(desk: Desk) -> None:
    await desk.open()
    await desk.hear("e1", "RECEIVED", 1)
    await desk.hear("e2", "unknown:77", 2)
    assert await desk.hear("e3", "ACCEPTED", 3) == Arrival("recorded", State.ACCEPTED)
    assert await desk.timeline() == ["FORWARDED", "RECEIVED", "RECEIVED", "ACCEPTED"]


async def test_an_unknown_step_of_an_unknown_case_or_from_a_wrong_region_is_a_conflict_like_any(desk: Desk) -> None:
    assert (await desk.hear("e1", "unknown:77")).outcome == "conflict"
    await desk.open()
    assert (await desk.hear("e2", "unknown:77", region="guangdong")).outcome == "conflict"
    assert (await desk.hear("e3", "unknown:77", 3600 * 25)).outcome == "conflict"
    assert await desk.timeline() == ["FORWARDED"]


async def test_a_result_that_nobody_here_knows_is_kept_as_it_came_and_the_case_goes_on(
    desk: Desk, sealer: Sealer
) -> None:
    await desk.open()
    result = {"code": "unknown:9", "text": "办结"}
    assert (await desk.hear("e1", "COMPLETED", result=result)).outcome == "recorded"
    assert await desk.state() is State.COMPLETED
    row = await desk.store.read(
        lambda tx: tx.execute(select(submission_events).where(submission_events.c.seq == 2)).one()
    )
    assert open_detail(sealer, desk.case, 2, row.detail)["result"] == result


async def test_our_own_step_does_not_undo_what_the_region_said_before_it(desk: Desk) -> None:
    """A callback may be faster than the answer to the message that it is about."""
    await desk.open(State.COLLECTED)
    await desk.hear("e1", "ACCEPTED")
    await desk.store.write(lambda tx: desk.log.ours(tx, desk.case, State.FORWARDED, desk.clock(), {}))
    assert await desk.state() is State.ACCEPTED
    assert await desk.timeline() == ["COLLECTED", "ACCEPTED", "FORWARDED"]


@pytest.mark.parametrize("state", sorted(HANDLING_ONLY))
async def test_the_gateway_cannot_enter_what_only_the_handling_region_may(state: State, desk: Desk) -> None:
    await desk.open()
    with pytest.raises(ValueError, match="for the handling region to say"):
        await desk.store.write(lambda tx: desk.log.ours(tx, desk.case, state, desk.clock(), {}))
    assert await desk.timeline() == ["FORWARDED"]


async def test_a_step_of_a_case_that_does_not_exist_is_an_error(desk: Desk) -> None:
    with pytest.raises(LookupError):
        await desk.store.write(lambda tx: desk.log.ours(tx, "nobody", State.FORWARDED, desk.clock(), {}))


# --- what a later report changes in an earlier one, and the links -----------------------------------------------------


async def test_a_report_that_contradicts_an_earlier_step_sets_aside_what_was_believed(desk: Desk) -> None:
    """The refusal happened before the decision and came after it: the decision is for a person, as the stream says."""
    await desk.open()
    await desk.hear("e2", "DECIDED", -10)
    assert (await desk.hear("e1", "NOT_ACCEPTED", -20)).state is State.NOT_ACCEPTED
    assert await desk.state() is State.NOT_ACCEPTED
    assert await desk.kinds() == ["step", "step", "step", "event.set_aside"]
    [kept] = await desk.conflicts()
    assert (kept["region_event_id"], kept["reason"]) == ("e2", "DECIDED cannot follow NOT_ACCEPTED")


async def test_a_report_that_explains_an_impossible_one_ends_the_conflict(desk: Desk) -> None:
    """The region had withdrawn its refusal by the word that was late: nobody need look any more."""
    await desk.open()
    await desk.hear("e1", "EXTENDED", -10)
    await desk.hear("e2", "EXTENDED", -5)
    [kept] = await desk.conflicts()
    assert kept["status"] == "open"
    await desk.hear("e3", "SPECIAL", -7)
    assert await desk.kinds() == ["step", "step", "step", "step", "event.reinstated"]
    [kept] = await desk.conflicts()
    assert (kept["status"], kept["resolution"], kept["resolved_by"]) == ("resolved", "explained", "gateway")


async def test_every_event_is_linked_to_the_one_before_it(desk: Desk, sealer: Sealer) -> None:
    """Whoever has the stream can see that nothing was left out or put in, without trusting us."""
    await desk.open()
    for n, word in enumerate(["RECEIVED", "ACCEPTED", "unknown:7", "DECIDED"]):
        await desk.hear(f"e{n}", word, n - 60, reason="张三")
    rows = await desk.store.read(
        lambda tx: tx.execute(select(submission_events).order_by(submission_events.c.seq)).mappings().all()
    )
    head = rows[0]["hash"]
    for row in rows[1:]:
        said = open_detail(sealer, desk.case, row["seq"], row["detail"], salt=True)
        head = linked(head, {name: row[name] for name in LINKED} | {"detail": digest_of(said)})
        assert row["hash"] == head
    assert await desk.store.read(lambda tx: tx.execute(select(submissions.c.head)).scalar_one()) == head


async def test_a_clock_that_jumps_back_does_not_reorder_a_case(desk: Desk) -> None:
    await desk.open()
    before = desk.clock()
    await desk.hear("e1", "RECEIVED")
    desk.clock.advance(-3600)
    await desk.hear("e2", "ACCEPTED")
    recorded = await desk.store.read(lambda tx: tx.execute(select(submission_events.c.recorded_at)).scalars().all())
    assert list(recorded) == [before, before, before]


async def test_our_own_steps_of_two_cases_that_are_set_aside_both_wait_for_a_person(desk: Desk) -> None:
    """They have no id of a region, and the same number in their timelines; one that is explained ends itself alone."""
    other = number(2, desk.clock())
    await desk.open()
    await desk.store.write(lambda tx: add_case(tx, other, desk.clock(), state=State.FORWARDED))
    for n, case in enumerate([desk.case, other]):
        give_back = partial(desk.log.ours, state=State.RETURNED, now=desk.clock(), detail={"by": "operator"})
        await desk.store.write(partial(give_back, submission_id=case))
        await desk.hear(f"e{n}", "DECIDED", -10, case=case)
    kept = await desk.conflicts()
    assert [(row["submission_id"], row["status"]) for row in kept] == [(desk.case, "open"), (other, "open")]


async def test_a_number_that_the_region_gave_to_two_cases_waits_for_a_person_and_both_go_on(desk: Desk) -> None:
    """It may have taken the two for one, and then one of them is nowhere."""
    other = number(2, desk.clock())
    await desk.open()
    await desk.store.write(lambda tx: add_case(tx, other, desk.clock(), state=State.FORWARDED))
    assert (await desk.hear("e1", "RECEIVED", number="SAME")).outcome == "recorded"
    assert await desk.conflicts() == []
    assert (await desk.hear("e2", "RECEIVED", case=other, number="SAME")).outcome == "recorded"
    assert (await desk.hear("e3", "ACCEPTED", case=other, number="SAME")).outcome == "recorded"
    [kept] = await desk.conflicts()
    assert (kept["submission_id"], kept["status"]) == (other, "open")
    assert desk.case in kept["reason"]


async def test_an_event_that_took_the_id_of_one_that_waits_for_a_person_waits_beside_it(desk: Desk) -> None:
    await desk.open()
    await desk.hear("e1", "NOT_ACCEPTED", -10)
    assert (await desk.hear("e2", "DECIDED", -5)).outcome == "conflict"
    assert (await desk.hear("e2", "DELIVERED", -1)).outcome == "conflict"
    assert (await desk.hear("e2", "DELIVERED", -1)).outcome == "duplicate"
    assert [row["reason"] for row in await desk.conflicts()] == [
        "DECIDED cannot follow NOT_ACCEPTED",
        f"its id was used before, for DECIDED of {desk.case}",
    ]


async def test_an_event_that_comes_again_when_nothing_stands_in_its_way_is_recorded(desk: Desk) -> None:
    """The clock of the region was days ahead; it sent the event again when nobody had recorded it."""
    await desk.open()
    happened = desk.clock() + timedelta(days=3)
    assert (await desk.hear("e1", "ACCEPTED", 3 * 86400)).outcome == "conflict"
    assert (await desk.hear("e1", "ACCEPTED", 3 * 86400)).outcome == "duplicate"
    desk.clock.advance(2.5 * 86400)
    event = said(desk.case, "e1", "ACCEPTED", happened)
    arrival = await desk.store.write(lambda tx: desk.log.from_region(tx, REGION, event, desk.clock()))
    assert arrival.outcome == "recorded"
    [kept] = await desk.conflicts()
    assert kept["status"] == "resolved"


async def test_a_region_that_reports_without_end_fills_no_timeline(desk: Desk) -> None:
    """Every report is weighed against all others: a case of ten thousand would hold up all the rest."""
    await desk.open()
    await desk.hear("e1", "RECEIVED")

    def many(tx: Connection) -> None:
        c = submission_events.c
        row = dict(tx.execute(select(submission_events).where(c.source == REGION)).mappings().one())
        copies = [{**row, "seq": n, "region_event_id": f"x{n}"} for n in range(row["seq"] + 1, row["seq"] + MOST)]
        tx.execute(submission_events.insert(), copies)
        tx.execute(update(submissions).values(last_seq=copies[-1]["seq"]))

    await desk.store.write(many)
    assert (await desk.hear("e2", "ACCEPTED")).outcome == "conflict"
    [kept] = await desk.conflicts()
    assert kept["reason"] == f"its region has caused {MOST} events of this case already"


async def test_what_others_bring_into_a_timeline_shuts_its_region_out_of_no_case(desk: Desk) -> None:
    """An issuer may change its word on a certificate for ever; the region that decides is heard all the same."""
    await desk.open()

    def facts(tx: Connection) -> None:
        for n in range(MOST):
            desk.log.note(tx, desk.case, "certificate.changed", desk.clock(), {"n": n}, "REVOKED")

    await desk.store.write(facts)
    assert (await desk.hear("e1", "RECEIVED")).outcome == "recorded"


async def test_a_regions_id_that_looks_like_a_number_of_ours_is_another_report(desk: Desk, sealer: Sealer) -> None:
    """What is kept of a report, and what it is taken to be, is found by its key."""
    await desk.open()
    await desk.hear("#1", "RECEIVED", 1)
    await desk.hear("#2", "ACCEPTED", 2)
    story = await desk.store.write(partial(retold, sealer, submission_id=desk.case))
    assert story is not None
    steps = [(story.seq(step.key), step.source, step.state) for step in story.standing.steps]
    assert steps == [(1, "gateway", "FORWARDED"), (2, REGION, "RECEIVED"), (3, REGION, "ACCEPTED")]


async def test_events_without_an_id_wait_for_a_person_each(desk: Desk) -> None:
    await desk.open()
    for word in ("RECEIVED", "ACCEPTED", "ACCEPTED"):
        await desk.hear("", word)
    assert [kept["reason"] for kept in await desk.conflicts()] == ["has no id"] * 2


async def test_a_figure_says_how_much_waits_for_a_person(desk: Desk) -> None:
    """Counted where it is kept: the counter of events forgets at every start what nobody has looked at yet."""
    await desk.open()
    metrics = Metrics(CollectorRegistry())
    health = cast("Any", SimpleNamespace(regions=()))
    shown = ops.routes(desk.store, {}, metrics, desk.clock, lambda: True, health)[0]

    async def waiting() -> float | None:
        await shown.handler(make_mocked_request("GET", "/metrics"))
        return metrics.registry.get_sample_value("pearl_event_conflicts", {"region": REGION})

    await desk.hear("e1", "RECEIVED", region="shenzhen", case=number(9, desk.clock()))
    await desk.hear("e2", "RECEIVED", case=number(9, desk.clock()))
    assert await waiting() == 1
    [mine] = [kept["id"] for kept in await desk.conflicts() if kept["region"] == REGION]
    ended = partial(desk.log.conflicts.resolve, conflict_id=mine, by="op-1", words="asked", now=desk.clock())
    await desk.store.write(ended)
    assert await waiting() is None
