"""Medians, speedups, rates and their intervals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dfz_ray.scaling.estimate import (
    Estimate,
    estimate_efficiency,
    estimate_median,
    estimate_speedup,
    estimate_throughput,
)

SIMULATIONS = 500


def covers(estimate: Estimate, truth: float) -> bool:
    assert estimate.ci95 is not None
    return estimate.ci95[0] <= truth <= estimate.ci95[1]


def test_the_interval_of_a_median_covers_the_truth_as_often_as_it_claims() -> None:
    """With 20 log-normal repeats the 95 % interval of a median holds the truth in about 95 % of all studies."""
    random = np.random.default_rng(1)
    hits = sum(
        covers(estimate_median(list(random.lognormal(0.0, 0.1, 20)), seed=seed, resamples=499), 1.0)
        for seed in range(SIMULATIONS)
    )
    assert 0.91 <= hits / SIMULATIONS <= 0.98


def test_the_interval_of_a_speedup_covers_the_truth_as_often_as_it_claims() -> None:
    """With 20 log-normal repeats a side the 95 % interval of a speedup holds the truth in about 95 % of all studies."""
    random = np.random.default_rng(2)
    hits = sum(
        covers(
            estimate_speedup(
                list(3.0 * random.lognormal(0.0, 0.15, 20)),
                list(random.lognormal(0.0, 0.1, 25)),
                seed=seed,
                resamples=499,
            ),
            3.0,
        )
        for seed in range(SIMULATIONS)
    )
    assert 0.92 <= hits / SIMULATIONS <= 0.99


@pytest.mark.parametrize(("repeats", "coverage"), [(2, 0.5), (3, 0.75), (5, 0.9375)])
def test_few_repeats_cover_as_little_as_the_documentation_says(repeats: int, coverage: float) -> None:
    """With n repeats the interval of a median holds the truth in at most 1 - 2^(1-n) of all studies."""
    random = np.random.default_rng(repeats)
    hits = sum(
        covers(estimate_median(list(random.lognormal(0.0, 0.1, repeats)), seed=seed, resamples=499), 1.0)
        for seed in range(SIMULATIONS)
    )
    assert hits / SIMULATIONS == pytest.approx(coverage, abs=0.06)


def test_the_interval_is_that_of_all_possible_resamples() -> None:
    """The interval of a median agrees with the enumeration of every resample that there is."""
    times = [1.00, 1.02, 1.05, 1.11, 1.13, 1.40]
    medians = np.median(np.array(list(itertools.product(times, repeat=len(times)))), axis=1)
    estimate = estimate_median(times)
    assert estimate.value == pytest.approx(1.08)
    assert estimate.ci95 == pytest.approx(tuple(np.percentile(medians, [2.5, 97.5])), rel=0.01)


def test_known_times_give_the_known_numbers() -> None:
    """Speedup is the ratio of the medians, efficiency its share per worker, throughput tasks over median time."""
    speedup = estimate_speedup([12.0, 9.0, 10.0], [2.6, 2.5, 2.4])
    assert speedup.value == pytest.approx(4.0)
    assert speedup.ci95 == pytest.approx((9 / 2.6, 12 / 2.4))
    efficiency = estimate_efficiency(speedup, 5)
    assert efficiency.value == pytest.approx(0.8)
    assert efficiency.ci95 == pytest.approx((9 / 2.6 / 5, 12 / 2.4 / 5))
    throughput = estimate_throughput([100, 100, 100], [2.6, 2.5, 2.4])
    assert throughput.value == pytest.approx(40.0)
    assert throughput.ci95 == pytest.approx((100 / 2.6, 100 / 2.4))


def test_one_repeat_has_no_interval() -> None:
    """A number that was measured once has no interval, and neither has a speedup with one such side."""
    assert estimate_median([1.5]) == Estimate(1.5, None)
    assert estimate_speedup([3.0], [1.4, 1.5, 1.6]) == Estimate(2.0, None)
    assert estimate_speedup([3.0, 3.1, 2.9], [1.5]) == Estimate(2.0, None)
    assert estimate_throughput([30], [1.5]) == Estimate(20.0, None)


@pytest.mark.filterwarnings("error")
def test_equal_repeats_have_an_interval_without_width() -> None:
    """Repeats without any spread give their value as both ends, and no warning."""
    assert estimate_median([2.0] * 4) == Estimate(2.0, (2.0, 2.0))
    assert estimate_speedup([4.0] * 3, [2.0] * 3) == Estimate(2.0, (2.0, 2.0))
    assert estimate_throughput([0, 0, 0], [1.0, 2.0, 3.0]) == Estimate(0.0, (0.0, 0.0))


def test_equal_seeds_give_equal_intervals() -> None:
    """The same times and the same seed give the same interval, so that a report can be made again."""
    times = list(np.random.default_rng(5).lognormal(0.0, 0.3, 12))
    assert estimate_median(times, seed=7) == estimate_median(times, seed=7)
    assert estimate_median(times, seed=7).value == estimate_median(times, seed=8).value
