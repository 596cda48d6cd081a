"""Failed attempts: which are followed by another one, and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfz_ray.engine.attempts import get_retry_decision
from dfz_ray.specs.policy import Backoff, Policy

FACTOR = st.floats(1, 100)
SECONDS = st.floats(0, 86_400)


def retried(max_attempts: int = 10, jitter: float = 0.0, **backoff: float) -> Policy:
    """A policy by which exceptions are retried."""
    return Policy(
        max_attempts=max_attempts, retry_on=("exception",), backoff=Backoff.model_validate({"jitter": jitter} | backoff)
    )


def delays_of(policy: Policy, count: int, seed: int = 0) -> list[float]:
    """The delays before the first attempts of so many tasks."""
    delays = [get_retry_decision(policy, 1, "exception", number, seed) for number in range(count)]
    return [delay for delay in delays if delay is not None]


def test_each_further_delay_is_longer_by_the_factor() -> None:
    """Without jitter the delays are 0.1 s, 0.2 s, 0.4 s and so on, as the formula says."""
    policy = retried(first_s=0.1, factor=2.0, most_s=60.0)

    delays = [get_retry_decision(policy, charged, "exception", 7) for charged in range(1, 6)]

    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])


def test_no_delay_is_longer_than_the_longest() -> None:
    """The delays grow up to the longest one, and stay there."""
    policy = retried(first_s=1.0, factor=3.0, most_s=20.0)

    assert [get_retry_decision(policy, charged, "exception", 0) for charged in range(1, 7)] == [1, 3, 9, 20, 20, 20]


@given(first_s=SECONDS, factor=FACTOR, most_s=SECONDS, jitter=st.floats(0, 1), charged=st.integers(1, 999))
def test_every_delay_is_within_its_range(
    first_s: float, factor: float, most_s: float, jitter: float, charged: int
) -> None:
    """A delay is at most what the formula says, at least that without the share that is drawn, and never overflows."""
    policy = retried(1000, jitter, first_s=first_s, factor=factor, most_s=most_s)
    try:
        whole_s = min(most_s, first_s * math.exp((charged - 1) * math.log(factor)))
    except OverflowError:
        whole_s = most_s

    delay_s = get_retry_decision(policy, charged, "exception", number=3, seed=5)

    assert delay_s is not None
    assert whole_s * (1 - jitter) * (1 - 1e-6) <= delay_s <= whole_s * (1 + 1e-6)


def test_a_power_that_overflows_is_the_longest_delay() -> None:
    """After hundreds of attempts the delay is the longest one, although the power is beyond every number."""
    policy = retried(1000, factor=100.0, most_s=7.0)

    assert get_retry_decision(policy, 999, "exception", 0) == 7.0


@pytest.mark.parametrize(("charged", "is_tried"), [(1, True), (2, True), (3, False), (4, False)])
def test_a_task_is_tried_as_often_as_its_policy_says(charged: int, is_tried: bool) -> None:
    """With three attempts the third failure is the last."""
    decision = get_retry_decision(retried(3), charged, "exception", 0)

    assert (decision is not None) == is_tried


@pytest.mark.parametrize("reason", ["exception", "timeout", "infeasible", ""])
def test_other_reasons_are_final_at_once(reason: str) -> None:
    """By default the death of a worker is tried again, and what the task itself did wrong is not."""
    assert get_retry_decision(Policy(), 1, reason, 0) is None
    for tried_again in ("worker_crashed", "node_lost", "out_of_memory"):
        assert get_retry_decision(Policy(), 1, tried_again, 0) is not None


def test_jitter_spreads_tasks_evenly_over_its_range() -> None:
    """The delays of many tasks that fail together are spread evenly over the share that is drawn."""
    delays = sorted(delays_of(retried(first_s=1.0, jitter=0.5), 10_000))

    assert 0.5 < delays[0] < 0.501
    assert 0.999 < delays[-1] <= 1.0
    for position, delay_s in enumerate(delays):  # Kolmogorov-Smirnov: 0.0163 at 1 % for 10,000
        assert abs((delay_s - 0.5) / 0.5 - position / 10_000) < 0.0163


def test_the_seed_decides_the_delays() -> None:
    """The same seed draws the same delays; another seed, task or attempt draws another one."""
    policy = retried(first_s=1.0, factor=1.0, jitter=1.0)

    assert delays_of(policy, 50, seed=1) == delays_of(policy, 50, seed=1)
    assert not set(delays_of(policy, 50, seed=1)) & set(delays_of(policy, 50, seed=2))
    assert len(set(delays_of(policy, 50, seed=1))) == 50
    assert len({get_retry_decision(policy, charged, "exception", 3) for charged in range(1, 9)}) == 8
