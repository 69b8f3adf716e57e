"""When a delivery is tried again, and when never: the whole policy, to the last case."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import (
    GatewayError,
    InvalidRequest,
    MappingFailed,
    NotOffered,
    RegionRefused,
    RegionSettling,
    RegionUncertain,
    RegionUnreachable,
    Unavailable,
)
from gateway.submissions.retry import Next, RetryPolicy

policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 50),
    first=st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)),
    longest=st.timedeltas(timedelta(seconds=1), timedelta(days=7)),
    patience=st.timedeltas(timedelta(seconds=1), timedelta(days=30)),
)
draws = st.floats(0, 1, exclude_max=True)
attempts = st.integers(1, 10_000)
DEFINITE = (RegionRefused, MappingFailed, NotOffered, InvalidRequest)


def highest() -> float:
    """Draw as far up as a draw can go."""
    return 1 - 2**-53


@given(policies, attempts, draws)
def test_a_wait_is_between_half_of_its_bound_and_the_bound(policy: RetryPolicy, attempt: int, draw: float) -> None:
    """Never nothing, so that a region that comes back is not run over; never beyond what was configured."""
    doublings = min(attempt - 1, 60)
    bound = min(policy.first.total_seconds() * 2**doublings, policy.longest.total_seconds())
    wait = policy.delay(attempt, lambda: draw).total_seconds()
    assert bound / 2 - 1e-6 <= wait <= bound + 1e-6
    assert wait <= policy.longest.total_seconds()


@given(policies, attempts)
def test_the_bound_never_shrinks_from_one_attempt_to_the_next(policy: RetryPolicy, attempt: int) -> None:
    assert policy.delay(attempt, highest) <= policy.delay(attempt + 1, highest)


@given(policies, draws, draws)
def test_the_draw_spreads_those_that_failed_together(policy: RetryPolicy, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert policy.delay(3, lambda: low) <= policy.delay(3, lambda: high)


@given(policies)
def test_no_delivery_has_more_uncertain_outcomes_than_the_policy_says(policy: RetryPolicy) -> None:
    """In another gateway "five retries" became endless; here the count is in the row."""
    counted = range(1, policy.attempts + 2)
    states = [policy.after(RegionUncertain("lost"), number) for number in counted]
    assert states.index(Next.DEAD) == policy.attempts - 1


@given(policies, attempts, st.sampled_from((RegionUnreachable, Unavailable)))
def test_waiting_for_a_region_ends_with_patience_and_not_with_attempts(
    policy: RetryPolicy, counted: int, kind: type[GatewayError]
) -> None:
    """Else an outage of half an hour would send every case to the dead letters."""
    moment = timedelta(microseconds=1)
    assert policy.after(kind("gone"), counted, age=policy.patience - moment) is Next.PENDING
    assert policy.after(kind("gone"), counted, age=policy.patience) is Next.DEAD


@given(policies, attempts)
def test_a_region_that_cannot_be_reached_does_not_end_the_doubt(policy: RetryPolicy, counted: int) -> None:
    """The question did not get through: sending now could make a twin."""
    assert policy.after(RegionUnreachable("gone"), counted, doubtful=True) is Next.IN_DOUBT


@given(policies, attempts)
def test_time_for_the_region_to_settle_is_no_attempt(policy: RetryPolicy, counted: int) -> None:
    settling = RegionSettling("at work")
    assert not policy.counts(settling)
    assert policy.after(settling, counted) is Next.IN_DOUBT


@given(policies, attempts, st.sampled_from(DEFINITE))
def test_a_definite_no_ends_the_trying_at_once(policy: RetryPolicy, attempt: int, kind: type[GatewayError]) -> None:
    assert policy.after(kind("no"), attempt) is Next.DEAD


def test_a_region_cannot_make_its_refusal_retryable() -> None:
    """The rule is the kind of error, whatever a wire client says about it."""

    class Polite(RegionRefused):
        retryable = True

    assert RetryPolicy(5, timedelta(seconds=1), timedelta(seconds=9)).after(Polite("no"), 1) is Next.DEAD


@pytest.mark.parametrize(
    ("error", "then"),
    [
        (RegionUncertain("lost answer"), Next.IN_DOUBT),
        (RegionUnreachable("refused"), Next.PENDING),
        (Unavailable("our store is away"), Next.PENDING),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_an_unknown_outcome_leaves_doubt(error: GatewayError, then: Next) -> None:
    """What was certainly not taken is simply sent again; what may have been taken is asked about first."""
    assert RetryPolicy(5, timedelta(seconds=1), timedelta(seconds=9)).after(error, 4) is then
