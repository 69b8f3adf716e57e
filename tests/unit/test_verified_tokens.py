"""The memory of verified tokens: no interleaving of uses, revocations and time makes it say yes too long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.identity import verified
from gateway.identity.verified import STALENESS, Question, VerifiedTokens

START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


@dataclass
class Time:
    """A wall clock, which may be set, and a monotonic one, which may not."""

    wall: datetime = START
    steady: float = 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def pass_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady += seconds


def claims_of(number: int, life: float = 60) -> dict[str, Any]:
    """Return the claims of a token: two tokens to a family, two families to a session."""
    return {
        "jti": f"t{number}",
        "grant_id": f"g{number // 2}",
        "client_id": "agency",
        "exp": int(START.timestamp() + life),
    }


def memory(time: Time, **options: Any) -> VerifiedTokens:
    return VerifiedTokens(time.now, time.monotonic, **options)


def remembered(time: Time, *numbers: int, **options: Any) -> VerifiedTokens:
    tokens = memory(time, **options)
    for number in numbers:
        tokens.remember(tokens.begin(), f"token {number}", claims_of(number), [verified.session(f"s{number // 4}")])
    return tokens


# --- one by one ----------------------------------------------------------------------------------------------------


def test_a_token_is_known_again_by_the_whole_of_its_text() -> None:
    tokens = remembered(Time(), 1)
    assert tokens.standing("token 1") == claims_of(1)
    assert tokens.standing("token 1 ") is None
    assert tokens.standing("token 2") is None


def test_the_token_itself_is_not_kept() -> None:
    """Who reads the memory of the process should not find what opens doors. `_key` keeps a digest."""
    assert "token 1" not in repr(vars(remembered(Time(), 1)))


def test_a_token_ends_when_it_says_and_not_a_second_later() -> None:
    time = Time()
    tokens = memory(time)
    tokens.remember(tokens.begin(), "token", claims_of(1, life=3))
    time.pass_by(2.999)
    assert tokens.standing("token")
    time.pass_by(0.001)
    assert (tokens.standing("token"), tokens.signed("token")) == (None, None)


def test_an_answer_is_as_old_as_the_question() -> None:
    """The store may have taken four seconds to answer; its answer is of when it was asked."""
    time = Time()
    tokens = memory(time)
    question = tokens.begin()
    time.pass_by(4)
    tokens.remember(question, "token", claims_of(1))
    time.pass_by(0.9)
    assert tokens.standing("token")
    time.pass_by(0.1)
    assert tokens.standing("token") is None
    assert tokens.signed("token") == claims_of(1)


def test_a_clock_that_is_set_back_makes_no_answer_younger() -> None:
    time = Time()
    tokens = remembered(time, 1)
    time.steady += STALENESS
    time.wall -= timedelta(hours=1)
    assert tokens.standing("token 1") is None


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        (verified.token_id("t1"), {1}),
        (verified.grant("g1"), {2, 3}),
        (verified.session("s0"), {0, 1, 2, 3}),
        (verified.client("agency"), set(range(6))),
        (verified.client("other"), set()),
        (verified.grant("t1"), set()),
    ],
)
def test_what_is_forgotten_is_forgotten_at_once_and_nothing_else_is(name: str, gone: set[int]) -> None:
    tokens = remembered(Time(), *range(6))
    tokens.forget(name)
    assert {number for number in range(6) if tokens.standing(f"token {number}") is None} == gone


def test_an_answer_under_way_when_something_is_forgotten_is_not_kept() -> None:
    """The store was asked before the revocation, and answers after it. The guard is `generation`."""
    tokens = memory(Time())
    question = tokens.begin()
    tokens.forget(verified.grant("g0"))
    tokens.remember(question, "token 1", claims_of(1))
    assert tokens.standing("token 1") is None


def test_the_memory_is_bounded_and_keeps_the_latest() -> None:
    tokens = remembered(Time(), *range(8), size=5)
    assert len(tokens) == 5
    assert [number for number in range(8) if tokens.standing(f"token {number}")] == [3, 4, 5, 6, 7]


def test_a_token_that_is_remembered_again_counts_as_latest() -> None:
    tokens = remembered(Time(), 0, 1, 0, 2, size=2)
    assert [number for number in range(3) if tokens.standing(f"token {number}")] == [0, 2]


def test_nothing_is_left_of_what_was_dropped() -> None:
    """Names would else fill the memory that tokens no longer do."""
    tokens = remembered(Time(), *range(50), size=5)
    tokens.forget(*(verified.client(name) for name in ("agency", "other")))
    assert (len(tokens), tokens._named) == (0, {})


def test_nobody_changes_what_is_remembered() -> None:
    time = Time()
    tokens, said = memory(time), claims_of(1)
    tokens.remember(tokens.begin(), "token", said)
    said["scope"] = "everything"
    found = tokens.standing("token")
    assert found is not None
    assert "scope" not in found
    with pytest.raises(TypeError):
        found["scope"] = "everything"  # type: ignore[index] # that it cannot be done is what is tested


# --- any interleaving ----------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """A question under way at one replica: what the store said, and about which token."""

    replica: int
    number: int
    question: Question
    stood: bool
    names: list[str]


@dataclass
class Revoked:
    """Something that was revoked: by which replica, and when."""

    replica: int
    at: float
    told: bool = False


@dataclass
class World:
    """One store, two replicas, six tokens that end at different times."""

    time: Time = field(default_factory=Time)
    revoked: dict[str, Revoked] = field(default_factory=dict)


def names_of(number: int) -> list[str]:
    return [
        verified.token_id(f"t{number}"), verified.grant(f"g{number // 2}"), verified.session(f"s{number // 4}"),
        verified.client("agency"),
    ]  # fmt: skip


NUMBERS = st.integers(0, 5)
REPLICAS = st.integers(0, 1)


class Interleavings(RuleBasedStateMachine):
    """Asking and remembering are steps of their own, so that everything may happen between them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.replicas = [memory(self.world.time, size=4), memory(self.world.time, size=4)]
        self.asked: list[Asked] = []

    def claims(self, number: int) -> Mapping[str, Any]:
        return claims_of(number, life=4 + 3 * number)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 4.999, 5.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.time.pass_by(seconds)

    @rule(seconds=st.sampled_from([-30, 30]))
    def the_clock_is_set(self, seconds: int) -> None:
        self.world.time.wall += timedelta(seconds=seconds)

    @rule(replica=REPLICAS, number=NUMBERS)
    def the_store_is_asked(self, replica: int, number: int) -> None:
        stood = not any(name in self.world.revoked for name in names_of(number))
        self.asked.append(Asked(replica, number, self.replicas[replica].begin(), stood, names_of(number)))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def the_store_answers(self, data: st.DataObject) -> None:
        asked = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        ended = self.claims(asked.number)["exp"] <= self.world.time.wall.timestamp()
        if asked.stood and not ended:  # else `tokens` or the store has refused it
            names = [verified.session(f"s{asked.number // 4}")]
            self.replicas[asked.replica].remember(
                asked.question, self.text(asked.number), self.claims(asked.number), names
            )

    @rule(replica=REPLICAS, number=NUMBERS, kind=st.integers(0, 3))
    def something_is_revoked(self, replica: int, number: int, kind: int) -> None:
        """The transaction commits; until `somebody_is_told`, nobody has heard of it."""
        self.world.revoked.setdefault(names_of(number)[kind], Revoked(replica, self.world.time.steady))

    @precondition(lambda self: any(not revoked.told for revoked in self.world.revoked.values()))
    @rule()
    def somebody_is_told(self) -> None:
        for name, revoked in self.world.revoked.items():
            if not revoked.told:
                self.replicas[revoked.replica].forget(name)
                revoked.told = True

    @invariant()
    def no_use_succeeds_that_must_not(self) -> None:
        for replica, tokens in enumerate(self.replicas):
            for number in range(6):
                if tokens.standing(self.text(number)) is not None:
                    self.may_be_used(replica, number)

    def may_be_used(self, replica: int, number: int) -> None:
        assert self.claims(number)["exp"] > self.world.time.wall.timestamp()
        for name in names_of(number):
            revoked = self.world.revoked.get(name)
            if revoked is not None:
                assert not (revoked.told and revoked.replica == replica), "revoked here"
                assert self.world.time.steady - revoked.at < STALENESS, "revoked elsewhere, long ago"

    @invariant()
    def memory_is_bounded(self) -> None:
        assert all(len(tokens) <= 4 for tokens in self.replicas)

    def text(self, number: int) -> str:
        return f"token {number}"


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
