"""How many tasks a chunk takes: what is learned of run times, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dfz_ray.engine.chunking import (
    GROWTH,
    LEAST_S,
    MANAGER_SHARE,
    MEMORY_TASKS,
    TASKS_LIMIT,
    Pace,
    RunTimes,
    chunk_size,
    overrun_budget_s,
)

SECONDS = st.floats(0, 1e5)
COUNT = st.integers(1, 20_000)


def learn(times: RunTimes, sample: Sequence[float]) -> None:
    times.learn(len(sample), math.fsum(sample), math.fsum(value * value for value in sample))


def times_of(mean_s: float) -> RunTimes:
    times = RunTimes()
    learn(times, [mean_s])
    return times


# --- run times --------------------------------------------------------------------------------------------------------


@given(samples=st.lists(st.lists(SECONDS, min_size=1, max_size=40), min_size=1, max_size=12))
def test_mean_and_spread_are_those_of_all_run_times(samples: list[list[float]]) -> None:
    """However run times come in, one by one or in chunks, mean and spread are those of all of them."""
    times = RunTimes()

    for sample in samples:
        learn(times, sample)

    everything = np.concatenate(samples)
    largest = float(everything.max())
    assert len(everything) <= MEMORY_TASKS
    assert times.weight == len(everything)
    assert times.mean_s == pytest.approx(np.mean(everything), rel=1e-9, abs=1e-9)
    assert times.variance == pytest.approx(np.var(everything), rel=1e-6, abs=1e-9 * largest**2 + 1e-12)
    assert times.spread_s == pytest.approx(math.sqrt(times.variance))


def test_older_run_times_fade() -> None:
    """Beyond the memory the older run times together weigh as much as the memory holds, whatever their number."""
    random = np.random.default_rng(1)
    times = RunTimes()
    values, weights = np.empty(0), np.empty(0)

    for size in random.integers(1, 2 * MEMORY_TASKS, size=40):
        sample = random.lognormal(sigma=1.0, size=size) * random.choice([0.001, 1.0])
        learn(times, sample.tolist())
        if weights.sum() > MEMORY_TASKS:
            weights *= MEMORY_TASKS / weights.sum()
        values, weights = np.append(values, sample), np.append(weights, np.ones(size))
        mean = np.average(values, weights=weights)
        assert times.mean_s == pytest.approx(mean)
        assert times.variance == pytest.approx(np.average((values - mean) ** 2, weights=weights))


def test_a_kind_that_changes_its_pace_is_soon_known_by_the_new_one() -> None:
    """After a million tasks of one length, three thousand of another are enough to know the other."""
    times = RunTimes()
    for _ in range(200):
        learn(times, [0.001] * 5_000)

    for _ in range(30):
        learn(times, [1.0] * 100)

    assert times.mean_s == pytest.approx(1.0, rel=0.01)


def test_nothing_is_known_before_a_task_has_ended() -> None:
    """A kind is known from the first run time on, also where that is zero."""
    times = RunTimes()
    assert not times.known
    assert (times.mean_s, times.spread_s) == (0.0, 0.0)

    learn(times, [0.0])

    assert times.known
    assert (times.mean_s, times.spread_s) == (0.0, 0.0)


@given(value=SECONDS, chunks=st.lists(st.integers(1, 6000), min_size=1, max_size=10))
def test_equal_run_times_have_no_spread(value: float, chunks: list[int]) -> None:
    """Tasks of one length have that mean and no spread to speak of; rounding never makes a variance negative."""
    times = RunTimes()

    for count in chunks:
        times.learn(count, count * value, count * value * value)

    assert times.mean_s == pytest.approx(value)
    assert times.spread_s <= 1e-6 * value


# --- the size of a chunk ----------------------------------------------------------------------------------------------


@given(mean_s=SECONDS, waiting=COUNT, last_size=COUNT, share_s=st.floats(0, 1e6))
@example(mean_s=5e-324, waiting=10_000, last_size=10_000, share_s=0.1)
@example(mean_s=0.0, waiting=10_000, last_size=10_000, share_s=0.0)
def test_a_chunk_is_as_large_as_may_be(mean_s: float, waiting: int, last_size: int, share_s: float) -> None:
    """A chunk takes as many tasks as fit its share of the work, its growth, what waits and a message; one at least."""
    size = chunk_size(times_of(mean_s), waiting, last_size, share_s)

    bounds = (GROWTH * last_size, waiting, TASKS_LIMIT)
    assert 1 <= size <= min(bounds)
    assert size == 1 or size * mean_s <= share_s * (1 + 1e-9)
    assert size in bounds or (size + 1) * mean_s > share_s * (1 - 1e-9)


@given(waiting=COUNT, last_size=COUNT, share_s=st.floats(0, 1e6))
def test_an_unknown_kind_is_tried_with_one_task(waiting: int, last_size: int, share_s: float) -> None:
    """As long as nothing is known of a kind a chunk of it has one task."""
    assert chunk_size(RunTimes(), waiting, last_size, share_s) == 1


@pytest.mark.parametrize(
    ("mean_s", "waiting", "last_size", "share_s", "expected"),
    [
        (0.01, 1000, 100, 0.1, 10),
        (0.01, 1000, 2, 0.1, 8),
        (0.01, 4, 100, 0.1, 4),
        (0.2, 1000, 100, 0.1, 1),
        (0.01, 1000, 100, 0.0, 1),
        (0.0, 1000, 100, 0.0, 400),
        (0.0, 10**6, 10**6, 0.1, TASKS_LIMIT),
    ],
)
def test_sizes_by_hand(mean_s: float, waiting: int, last_size: int, share_s: float, expected: int) -> None:
    """Ten tasks of 10 ms make a chunk of 100 ms; growth, what waits, long tasks and no work left bound it."""
    assert chunk_size(times_of(mean_s), waiting, last_size, share_s) == expected


# --- the pace of a run ------------------------------------------------------------------------------------------------


@given(slots=st.integers(1, 10_000), manager_s=st.floats(0, 0.1))
def test_the_manager_is_busy_for_half_of_the_time_at_most(slots: int, manager_s: float) -> None:
    """When every slot works through one chunk after the other the manager is busy for at most its share of the time."""
    pace = Pace(slots, 0.1, manager_s)

    assert pace.aim_s >= 0.1
    assert slots * manager_s / pace.aim_s <= MANAGER_SHARE * (1 + 1e-9)


@given(slots=st.integers(1, 1000), left_s=SECONDS, manager_s=st.floats(0, 0.1))
def test_a_share_is_half_of_a_fair_one_and_no_more_than_the_aim(slots: int, left_s: float, manager_s: float) -> None:
    """The work of a chunk is half of what is left for each slot; no more than it aims at, and worth its message."""
    pace = Pace(slots, 0.1, manager_s)

    assert pace.share_s(left_s) == pytest.approx(min(pace.aim_s, max(left_s / slots / 2, LEAST_S)), rel=1e-9)


@given(slots=st.integers(1, 1000), left_s=SECONDS, held_s=st.floats(1e-6, 1e6), task_s=st.floats(0, 1e3))
def test_nothing_is_handed_ahead_that_could_keep_a_slot_waiting(
    slots: int, left_s: float, held_s: float, task_s: float
) -> None:
    """Who has work in hand ends, with what it is handed ahead, before the rest is done even if all others are free."""
    pace = Pace(slots, 0.1)

    if not pace.keeps_back(left_s, held_s, task_s):
        ahead_s = max(pace.share_s(left_s, held_s), task_s)
        rest_s = (left_s - ahead_s) / (slots - 1) if slots > 1 else math.inf
        assert held_s + ahead_s <= rest_s * (1 + 1e-9) + 1e-9


def test_one_slot_and_nothing_left() -> None:
    """One slot aims at the target like many, and takes halves of what is left; ahead, too, while there is any."""
    pace = Pace(slots=1, target_s=0.1)

    assert pace.aim_s == 0.1
    assert [pace.share_s(left_s) for left_s in (10.0, 0.1, 0.0)] == [0.1, 0.05, LEAST_S]
    assert [pace.keeps_back(left_s, 0.1, 0.0) for left_s in (0.01, 0.001, 0.0)] == [False, True, True]


def test_handing_ahead_ends_earlier_where_tasks_are_long() -> None:
    """Nothing is handed ahead as soon as one more task could keep a slot busy after the others have ended."""
    pace = Pace(slots=4, target_s=0.1)

    assert not pace.keeps_back(7.1, held_s=1.0, task_s=1.0)
    assert pace.keeps_back(6.9, held_s=1.0, task_s=1.0)


# --- when a chunk has taken too long ----------------------------------------------------------------------------------


@given(expected_s=SECONDS, count=COUNT, spread_s=SECONDS, aim_s=st.floats(0.001, 100))
def test_a_chunk_may_always_take_what_is_expected_and_the_aim(
    expected_s: float, count: int, spread_s: float, aim_s: float
) -> None:
    """A chunk is never cut short within what its kinds let expect, the aim and three standard deviations added."""
    budget_s = overrun_budget_s(expected_s, count, spread_s, aim_s)

    assert budget_s >= (expected_s + aim_s) * (1 - 1e-9)
    assert budget_s >= (expected_s + 3 * spread_s * math.sqrt(count)) * (1 - 1e-9)
    assert budget_s <= expected_s + aim_s + 3 * spread_s * math.sqrt(count) + 1e-9 * budget_s


def test_a_chunk_of_tasks_that_take_no_time_has_the_aim_as_its_budget() -> None:
    """Where nothing is known, or tasks take no time, a chunk may take what a chunk aims at."""
    assert overrun_budget_s(0.0, 1, 0.0, 0.1) == 0.1
    assert overrun_budget_s(0.0, TASKS_LIMIT, 0.0, 0.1) == 0.1
