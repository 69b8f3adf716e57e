"""How hard a region is pressed, and when it is left alone: breaker, turns, rate and figures of `gateway.lines`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import (
    GatewayError,
    RegionBusy,
    RegionRefused,
    RegionResting,
    RegionUncertain,
    RegionUnreachable,
    SignOnFailed,
)
from gateway.lines import LIES_WITHIN, Line, guard
from gateway.ports import Adapter, ResultDocument
from gateway.telemetry import Metrics

REST = 60.0
A_MOMENT = 0.01
"""Seconds that a call waits in vain: nothing that it waits for can happen, however long it takes."""


class WallClock:
    """The wall clock that the line and purgatory read, wound by the test."""

    def __init__(self) -> None:
        self.now = 1_770_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """Give both modules a clock that stands still."""
    clock = WallClock()
    stand_in = SimpleNamespace(time=clock.time, perf_counter=time.perf_counter)
    for module in ("gateway.lines", "purgatory.domain.model"):
        monkeypatch.setattr(f"{module}.time", stand_in)
    return clock


@dataclass
class Region:
    """A region behind a line: it says `ok`, or raises what the test put into `error`, and counts who reached it."""

    line: Line
    registry: CollectorRegistry
    error: BaseException | None = None
    reached: int = 0
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self) -> str:
        self.reached += 1
        if self.error is not None:
            raise self.error
        return "ok"

    async def answer_late(self) -> str:
        """Hang until the test lets go."""
        self.entered.set()
        await self.hold.wait()
        return await self.answer()

    async def call(self, capability: str = "submit", call: Callable[[], Awaitable[str]] | None = None) -> str:
        return await self.line.run(capability, call or self.answer)

    def late_call(self, capability: str = "submit") -> asyncio.Task[str]:
        return asyncio.create_task(self.call(capability, self.answer_late))

    async def fail(self, error: GatewayError, times: int, capability: str = "submit") -> None:
        """Call while the region fails; it is well again afterwards."""
        self.error = error
        for _ in range(times):
            with pytest.raises(type(error)):
                await self.call(capability)
        self.error, self.reached = None, 0

    def counted(self, capability: str, outcome: str) -> float | None:
        labels = {"region": "foshan", "capability": capability, "outcome": outcome}
        return self.registry.get_sample_value("pearl_region_call_seconds_count", labels)

    def up(self) -> float | None:
        return self.registry.get_sample_value("pearl_region_up", {"region": "foshan"})


def region(*, concurrency: int = 8, per_second: float = 1000, failures: int = 3) -> Region:
    """Return a region that is well, behind a line of its own."""
    registry = CollectorRegistry()
    line = Line(
        "foshan",
        Metrics(registry),
        concurrency=concurrency,
        per_second=per_second,
        failures=failures,
        rest_seconds=REST,
    )
    return Region(line, registry)


SICK = [RegionUnreachable("away"), RegionUncertain("no answer")]
WELL = [RegionRefused("no"), SignOnFailed("mistyped"), RegionBusy("no turn"), ValueError("a defect of ours")]


# --- when the breaker opens --------------------------------------------------------------------------------------


async def test_a_region_whose_answers_cannot_be_believed_is_left_alone_although_each_call_succeeded(
    wall: WallClock,
) -> None:
    """Each of its calls makes good what was counted before, so lies are counted by themselves."""
    peer = region(failures=3)
    for lies in range(3):
        assert (await peer.call("certificates"), peer.line.resting()) == ("ok", False), lies
        await peer.line.lied("certificates", RegionUncertain("about somebody else"))
    assert (peer.line.resting(), peer.up()) == (True, 0)
    assert peer.counted("certificates", "region.uncertain") == 3
    wall.now += REST + 1
    assert await peer.call("certificates") == "ok"  # the trial
    await peer.line.lied("certificates", RegionUncertain("and again"))
    assert peer.line.resting()


async def test_a_lie_is_counted_without_a_turn(wall: WallClock) -> None:
    """Whoever found it out does not wait behind calls that hang."""
    peer = region(concurrency=1, failures=1)
    hanging = peer.late_call()
    await peer.entered.wait()
    await asyncio.wait_for(peer.line.lied("certificates", RegionUncertain("about somebody else")), 1)
    assert peer.line.resting()
    peer.hold.set()
    await hanging


@pytest.mark.parametrize("failures", [1, 3])
async def test_no_more_lies_are_kept_than_open_the_breaker(wall: WallClock, failures: int) -> None:
    peer = region(failures=failures)
    for _ in range(10):
        await peer.line.lied("certificates", RegionUncertain("about somebody else"))
    assert len(peer.line._lies) == failures


async def test_a_lie_now_and_then_leaves_a_region_in_service(wall: WallClock) -> None:
    peer = region(failures=3)
    for _ in range(10):
        await peer.line.lied("certificates", RegionUncertain("about somebody else"))
        assert await peer.call() == "ok"
        wall.now += LIES_WITHIN / 2
    assert not peer.line.resting()


@pytest.mark.parametrize("error", SICK, ids=lambda error: type(error).__name__)
async def test_a_region_that_fails_in_a_row_is_left_alone(wall: WallClock, error: GatewayError) -> None:
    """Callers then hear it at once, and the region has peace to recover."""
    peer = region(failures=3)
    await peer.fail(error, times=2)
    assert not peer.line.resting()
    await peer.fail(error, times=1)
    assert peer.line.resting()
    with pytest.raises(RegionResting):
        await peer.call()
    assert peer.reached == 0
    assert peer.up() == 0


async def test_a_success_between_failures_starts_the_count_again(wall: WallClock) -> None:
    """Only failures in a row say that a region is ill; some fail now and then anywhere."""
    peer = region(failures=2)
    for _ in range(5):
        await peer.fail(RegionUnreachable("away"), times=1)
        assert await peer.call() == "ok"
    assert peer.up() == 1


@pytest.mark.parametrize("error", WELL, ids=lambda error: type(error).__name__)
async def test_what_says_nothing_of_its_health_never_opens_the_breaker(wall: WallClock, error: GatewayError) -> None:
    """A person who mistypes a password ten times must not stop everybody else."""
    peer = region(failures=2)
    await peer.fail(error, times=10)
    assert await peer.call() == "ok"
    assert peer.up() == 1


async def test_a_call_that_is_given_up_does_not_start_the_count_again(wall: WallClock) -> None:
    """Browsers that go away would otherwise keep the breaker of a dead region closed."""
    peer = region(failures=2)
    await peer.fail(RegionUnreachable("away"), times=1)
    await _give_up(peer)
    await peer.fail(RegionUnreachable("away"), times=1)
    assert peer.line.resting()


async def _give_up(peer: Region) -> None:
    peer.entered.clear()
    call = peer.late_call()
    await peer.entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_those_who_waited_do_not_press_a_region_that_failed_meanwhile(wall: WallClock) -> None:
    """They passed the door while it was open; it is looked at again when their turn comes."""
    peer = region(concurrency=1, failures=1)
    peer.error = RegionUnreachable("away")
    first = peer.late_call()
    await peer.entered.wait()
    waiting = asyncio.create_task(peer.call())
    peer.hold.set()
    with pytest.raises(RegionUnreachable):
        await first
    with pytest.raises(RegionResting):
        await waiting
    assert peer.reached == 1


# --- after the rest ----------------------------------------------------------------------------------------------


async def test_the_rest_lasts_as_long_as_was_said(wall: WallClock) -> None:
    """Not a moment less, and no longer."""
    peer = await _resting()
    wall.now += REST - 1
    with pytest.raises(RegionResting):
        await peer.call()
    wall.now += 2
    assert not peer.line.resting()
    assert await peer.call() == "ok"


async def _resting(capability: str = "submit") -> Region:
    peer = region(failures=2)
    await peer.fail(RegionUnreachable("away"), times=2, capability=capability)
    return peer


async def test_one_trial_at_a_time_passes_after_the_rest(wall: WallClock) -> None:
    """A region that has just come back is not run over by all who waited for it."""
    peer = await _resting()
    wall.now += REST + 1
    trial = peer.late_call()
    await peer.entered.wait()
    for _ in range(3):
        with pytest.raises(RegionResting):
            await peer.call()
    assert peer.reached == 0
    peer.hold.set()
    assert await trial == "ok"


async def test_a_trial_that_succeeds_opens_the_door_to_all(wall: WallClock) -> None:
    """And the count of failures begins anew."""
    peer = await _resting()
    wall.now += REST + 1
    assert await peer.call() == "ok"
    assert peer.up() == 1
    await peer.fail(RegionUnreachable("away"), times=1)
    assert await asyncio.gather(*(peer.call() for _ in range(5))) == ["ok"] * 5


async def test_a_trial_that_fails_means_another_whole_rest(wall: WallClock) -> None:
    """One failure is enough: the region has shown that it is still ill."""
    peer = await _resting()
    wall.now += REST + 1
    await peer.fail(RegionUncertain("no answer"), times=1)
    wall.now += REST - 1
    with pytest.raises(RegionResting):
        await peer.call()
    assert peer.reached == 0
    wall.now += 2
    assert await peer.call() == "ok"


async def test_a_trial_that_is_given_up_leaves_the_region_on_trial(wall: WallClock) -> None:
    """It has shown nothing: the next call is a trial again, and one failure means rest."""
    peer = await _resting()
    wall.now += REST + 1
    await _give_up(peer)
    await peer.fail(RegionUnreachable("away"), times=1)
    assert peer.line.resting()


async def test_those_who_waited_through_the_rest_are_tried_one_at_a_time(wall: WallClock) -> None:
    """They came while all was well; by their turn the region has failed, rested, and is on trial."""
    peer = region(concurrency=2, failures=1)
    both, fall = asyncio.Event(), asyncio.Event()

    async def fail() -> str:
        peer.reached += 1
        if peer.reached == 2:
            both.set()
        await fall.wait()  # wakes both before anybody whose turn comes through them
        wall.now += REST + 1  # the second one's failure comes when the rest after the first one's is over
        raise RegionUnreachable("away")

    ill = [asyncio.create_task(peer.call(call=fail)) for _ in range(2)]
    late = [peer.late_call() for _ in range(2)]
    await both.wait()
    fall.set()
    await asyncio.wait(ill)
    await peer.entered.wait()
    done, trials = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
    assert [type(one.exception()) for one in done] == [RegionResting]
    peer.hold.set()
    assert [await one for one in trials] == ["ok"]
    assert [type(one.exception()) for one in ill] == [RegionUnreachable] * 2


# --- sign-on and exchanges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ill", "well"), [("sign_on", "submit"), ("certificates", "sign_on")])
async def test_sign_on_and_exchanges_rest_apart(wall: WallClock, ill: str, well: str) -> None:
    """People who sign on cannot stop the deliveries, nor the other way round."""
    peer = await _resting(ill)
    with pytest.raises(RegionResting):
        await peer.call(ill)
    assert await peer.call(well) == "ok"


async def test_all_exchanges_rest_together(wall: WallClock) -> None:
    """They reach the same machine of the same authority."""
    peer = await _resting("certificates")
    for capability in ("submit", "ask", "feed", "certificates"):
        with pytest.raises(RegionResting):
            await peer.call(capability)


async def test_a_trial_of_sign_on_does_not_stand_in_the_way_of_the_exchanges_trial(wall: WallClock) -> None:
    """Someone whose sign-on hangs would otherwise keep the deliveries waiting after every rest."""
    peer = await _resting("sign_on")
    await peer.fail(RegionUnreachable("away"), times=2)
    wall.now += REST + 1
    trial = peer.late_call("sign_on")
    await peer.entered.wait()
    assert await peer.call("submit") == "ok"
    peer.hold.set()
    assert await trial == "ok"


# --- turns -------------------------------------------------------------------------------------------------------


async def test_no_more_calls_are_under_way_than_agreed() -> None:
    """Two at a time, and really two: each waits for a second one before it goes on."""
    peer = region(concurrency=2)
    pair, under_way, most = asyncio.Barrier(2), 0, 0

    async def in_pairs() -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await pair.wait()
        under_way -= 1
        return "ok"

    assert await asyncio.gather(*(peer.call(call=in_pairs) for _ in range(6))) == ["ok"] * 6
    assert most == 2


async def test_a_call_that_gets_no_turn_is_refused_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was certainly not sent, says nothing of the region's health, and takes nobody's turn."""
    monkeypatch.setattr("gateway.lines.WAIT", A_MOMENT)
    peer = region(concurrency=1, failures=1)
    first = peer.late_call()
    await peer.entered.wait()
    with pytest.raises(RegionBusy):
        await peer.call()
    assert peer.reached == 0
    assert not peer.line.resting()
    peer.hold.set()
    assert await first == "ok"
    assert await peer.call() == "ok"


async def test_a_call_that_is_given_up_leaves_its_turn_to_others() -> None:
    """Given up under way, or while it waits: the gate has one place, and it is free afterwards."""
    peer = region(concurrency=1)
    await _give_up(peer)
    peer.entered.clear()
    first = peer.late_call()
    await peer.entered.wait()
    waiting = asyncio.create_task(peer.call())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    peer.hold.set()
    assert await first == "ok"
    assert await peer.call() == "ok"


@pytest.mark.parametrize("error", [RegionUnreachable("away"), ValueError("a defect")], ids=["region", "defect"])
async def test_a_call_that_fails_leaves_its_turn_to_others(error: Exception) -> None:
    peer = region(concurrency=1)
    peer.error = error
    with pytest.raises(type(error)):
        await peer.call()
    peer.error = None
    assert await peer.call() == "ok"


async def test_a_region_may_ask_for_less_than_one_call_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call in a thousand seconds: the first goes at once, the second finds no turn."""
    monkeypatch.setattr("gateway.lines.WAIT", A_MOMENT)
    peer = region(per_second=0.001)
    assert await peer.call() == "ok"
    with pytest.raises(RegionBusy):
        await peer.call()
    assert peer.reached == 1


# --- figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (RegionUnreachable("away"), "region.unreachable"),
        (RegionUncertain("no answer"), "region.uncertain"),
        (RegionRefused("no", code="region.refused.form"), "region.refused.form"),
        (ValueError("a defect of ours"), "gateway.error"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_every_call_is_counted_with_what_became_of_it(error: Exception | None, outcome: str) -> None:
    """A defect of ours is not counted as a success."""
    peer = region()
    peer.error = error
    if error is None:
        await peer.call("feed")
    else:
        with pytest.raises(type(error)):
            await peer.call("feed")
    assert peer.counted("feed", outcome) == 1
    if error is not None:
        assert peer.counted("feed", "ok") is None


async def test_calls_that_never_left_are_counted_too(wall: WallClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators see from them that a region rests, is pressed too hard, or that people give up."""
    monkeypatch.setattr("gateway.lines.WAIT", A_MOMENT)
    peer = region(concurrency=1, failures=1)
    await _give_up(peer)
    peer.entered.clear()
    first = peer.late_call()
    await peer.entered.wait()
    with pytest.raises(RegionBusy):
        await peer.call()
    peer.hold.set()
    await first
    await peer.fail(RegionUnreachable("away"), times=1)
    with pytest.raises(RegionResting):
        await peer.call()
    for outcome in ("cancelled", "region.busy", "region.breaker_open"):
        assert peer.counted("submit", outcome) == 1


# --- guard -------------------------------------------------------------------------------------------------------

OUTGOING = [
    ("sign_on", "begin", "sign_on"),
    ("sign_on", "complete", "sign_on"),
    ("submissions", "submit", "submit"),
    ("submissions", "ask", "ask"),
    ("feed", "poll", "feed"),
    ("certificates", "lookup", "certificates"),
    ("sign_out", "end", "sign_out"),
    ("codes", "resolve", "codes"),
    ("messages", "holds", "ask"),
    ("results", "list", "results"),
    ("issued", "data", "certificates"),
    ("issued", "code", "certificates"),
    ("issued", "file", "certificates"),
    ("issued", "dispute", "disputes"),
    ("issued", "disputed", "disputes"),
]
OF_ITSELF = {"catalogue"}
"""What goes through the line without an argument."""
THROUGH = {"callbacks", "pickups", "notices", "trust_confirmed_at", "metadata", "probe"}
"""What does not press the region."""


class Echo:
    """Every capability at once: each method returns what it was given."""

    async def begin(self, given: Any) -> Any:
        return given

    complete = submit = ask = poll = lookup = end = resolve = send = holds = list = begin
    data = code = file = dispute = disputed = begin
    operations = frozenset({"data"})
    kinds = frozenset({"supplement"})
    in_pieces = False

    async def items(self) -> Any:
        return self


def test_what_is_not_offered_stays_absent() -> None:
    """Absence refuses; a wrapper around nothing would not."""
    guarded = guard(region().line, Adapter())
    assert [one.name for one in fields(Adapter) if getattr(guarded, one.name) is not None] == []


@pytest.mark.parametrize(("offered", "method", "capability"), OUTGOING)
async def test_every_outgoing_call_goes_through_the_line(offered: str, method: str, capability: str) -> None:
    """With its argument and its result unchanged; what is offered beside it does not matter."""
    peer, given = region(), object()
    guarded = guard(peer.line, Adapter(**{offered: Echo()}))  # type: ignore[arg-type] # Echo plays every part
    assert await getattr(getattr(guarded, offered), method)(given) is given
    assert peer.counted(capability, "ok") == 1


async def test_a_catalogue_is_fetched_through_the_line() -> None:
    peer, echo = region(), Echo()
    guarded = guard(peer.line, Adapter(catalogue=echo))
    assert guarded.catalogue is not None
    assert await guarded.catalogue.items() is echo  # type: ignore[comparison-overlap] # Echo plays every part
    assert peer.counted("catalogue", "ok") == 1


async def test_a_message_is_sent_through_the_line() -> None:
    peer, given = region(), object()
    guarded = guard(peer.line, Adapter(messages=Echo()))
    assert guarded.messages is not None
    await guarded.messages.send(given)  # type: ignore[arg-type] # Echo plays every part
    assert peer.counted("messages", "ok") == 1


@dataclass
class Pieces:
    """A document in three pieces, of which the opening brings the first."""

    in_pieces: bool
    trouble: bool = False
    closed: bool = False

    async def list(self, _number: str) -> list[ResultDocument]:
        return []

    async def open(self, _number: str, _document: ResultDocument) -> AsyncGenerator[bytes, None]:
        return self._pieces()

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        try:
            for piece in (b"1", b"22", b"333"):
                yield piece
                if self.trouble:
                    raise RegionUncertain("the next one does not come")
        finally:
            self.closed = True


DOCUMENT = ResultDocument("D1", "决定书.pdf", "application/pdf", 6, "0" * 64)


@pytest.mark.parametrize(("in_pieces", "calls"), [(False, 1), (True, 3)])
async def test_a_piece_that_is_an_exchange_takes_its_turn(in_pieces: bool, calls: int) -> None:
    """A document of hundreds of pieces would otherwise come faster than the region has agreed to."""
    peer, inner = region(), Pieces(in_pieces)
    guarded = guard(peer.line, Adapter(results=inner)).results
    assert guarded is not None
    assert [piece async for piece in await guarded.open("1", DOCUMENT)] == [b"1", b"22", b"333"]
    assert peer.counted("results", "ok") == calls
    assert inner.closed


async def test_a_piece_that_fails_counts_against_the_region() -> None:
    peer, inner = region(), Pieces(in_pieces=True, trouble=True)
    guarded = guard(peer.line, Adapter(results=inner)).results
    assert guarded is not None
    with pytest.raises(RegionUncertain):
        [piece async for piece in await guarded.open("1", DOCUMENT)]
    assert (peer.counted("results", "ok"), peer.counted("results", RegionUncertain.code)) == (1, 1)
    assert inner.closed


def test_what_does_not_press_the_region_is_handed_through() -> None:
    """Callbacks and pulls come in; the probe has to get through while the region rests."""
    through: dict[str, Any] = {name: Echo() for name in THROUGH}
    guarded = guard(region().line, Adapter(**through))
    assert {name: getattr(guarded, name) for name in through} == through


def test_a_capability_that_is_added_has_to_be_thought_of() -> None:
    """Whoever adds one to the adapter decides here whether it goes through the line."""
    assert {one.name for one in fields(Adapter)} == {offered for offered, _, _ in OUTGOING} | OF_ITSELF | THROUGH
