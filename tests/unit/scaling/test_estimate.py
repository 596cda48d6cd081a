"""Medians, speedups, rates and their intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, ttest_ind

from dfz_ray.scaling.estimate import (
    CONFIDENCE,
    EXACT_REPEATS,
    MEDIAN_REPEATS,
    RATIO_REPEATS,
    Estimate,
    bound_ratios,
    estimate_efficiency,
    estimate_median,
    estimate_ratio,
    estimate_ratios,
    estimate_speedup,
    repeats_to_compare,
)

STUDIES = 2_000
AT_LEAST = CONFIDENCE - 4 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / STUDIES)
"""Four standard errors below the coverage that is claimed: the seeds are fixed, and the limit is no bet."""


def covers(estimate: Estimate, truth: float) -> bool:
    assert estimate.ci95 is not None
    return estimate.ci95[0] <= truth <= estimate.ci95[1]


def lognormal(random: np.random.Generator, repeats: int) -> np.ndarray:
    return random.lognormal(0.0, 0.2, repeats)


def two_speeds(random: np.random.Generator, repeats: int) -> np.ndarray:
    """A machine that is sometimes slower by half."""
    return random.lognormal(0.0, 0.02, repeats) * np.where(random.random(repeats) < 0.3, 1.5, 1.0)


def quiet(random: np.random.Generator, repeats: int) -> np.ndarray:
    """A program alone on its core: it hardly varies."""
    return random.lognormal(0.0, 0.01, repeats)


Noise = Callable[[np.random.Generator, int], np.ndarray]
NOISES = (lognormal, two_speeds)


@pytest.mark.parametrize("repeats", [6, 9, 15])
def test_the_interval_of_a_median_holds_the_truth_as_often_as_it_says(repeats: int) -> None:
    """In 95 % of all studies, or a little more, the interval holds the median of the distribution."""
    random = np.random.default_rng(repeats)
    hits = sum(covers(estimate_median(list(lognormal(random, repeats))), 1.0) for _ in range(STUDIES))
    assert hits / STUDIES >= AT_LEAST


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("baseline", [*NOISES, quiet])
@pytest.mark.parametrize("repeats", [4, 5, 6, 9, 15])
def test_the_interval_of_a_speedup_holds_the_truth_as_often_as_it_says(
    repeats: int, baseline: Noise, noise: Noise
) -> None:
    """In 95 % of all studies, or a little more, it holds the ratio, also where one of the programs varies more."""
    random = np.random.default_rng(repeats)
    truth = float(np.median(baseline(random, 100_000) / noise(random, 100_000)))
    over = [baseline(random, repeats) for _ in range(STUDIES)]
    under = [noise(random, repeats) for _ in range(STUDIES)]
    hits = sum(covers(one, truth) for one in estimate_ratios(over, under))
    assert hits / STUDIES >= AT_LEAST


def test_too_few_repeats_have_no_interval() -> None:
    """Below six repeats a median has no interval, and below four on each side a ratio has none."""
    times = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    for repeats in range(1, MEDIAN_REPEATS):
        assert estimate_median(times[:repeats]).ci95 is None
    assert estimate_median(times).ci95 == (1.0, 1.5)
    assert estimate_ratio(times[:3], times[:3]).ci95 is None
    assert estimate_ratio(times[:1], times).ci95 is None
    assert estimate_ratio(times[:1], times * 10).ci95 is None
    assert estimate_ratio(times[:RATIO_REPEATS], times[:RATIO_REPEATS]).ci95 == pytest.approx((1 / 1.3, 1.3))


@pytest.mark.parametrize(("few", "many"), [(4, 4), (4, 6), (5, 5), (7, 9), (12, 12)])
def test_the_interval_of_a_ratio_has_the_ratios_that_a_test_does_not_refuse(few: int, many: int) -> None:
    """A ratio lies within it just if scipy's Mann-Whitney test, or its Welch test, finds no other one."""
    for spread in (0.3, 0.01):
        random = np.random.default_rng(few * many)
        over, under = random.lognormal(1.0, 0.3, few), random.lognormal(0.0, spread, many)
        low, high = estimate_ratio(over, under).ci95 or (0.0, 0.0)
        for end, inwards in ((low, 1 + 1e-9), (high, 1 - 1e-9)):
            kept, refused = (
                max(
                    mannwhitneyu(over / (end * by), under, method="exact").pvalue,
                    ttest_ind(np.log(over / (end * by)), np.log(under), equal_var=False).pvalue,
                )
                for by in (inwards, 1 / inwards)
            )
            assert refused <= 0.05 < kept


def test_many_repeats_have_nearly_the_exact_interval() -> None:
    """Where the normal approximation begins, its ends are those of the exact distribution, or next to them."""
    random = np.random.default_rng(1)
    over, under = random.lognormal(0.0, 0.3, EXACT_REPEATS + 1), random.lognormal(0.0, 0.3, EXACT_REPEATS + 1)
    approximate = estimate_ratio(over, under).ci95
    exact = estimate_ratio(over[:-1], under[:-1]).ci95
    assert approximate == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(("comparisons", "least"), [(1, 4), (2, 4), (3, 4), (4, 5), (10, 5), (11, 6)])
def test_more_comparisons_need_more_repeats(comparisons: int, least: int) -> None:
    """A bound that holds for all ratios of a study together needs more repeats the more of them there are."""
    assert repeats_to_compare(comparisons) == least
    for repeats in (least - 1, least):
        (bound,) = bound_ratios([[2.0] * repeats], [[1.0] * repeats], comparisons)
        assert (bound is None) == (repeats < least)


def test_of_many_points_none_is_found_faster_by_chance() -> None:
    """Of five points that are as fast as the baseline any one has a bound above 1 in at most 5 % of all studies."""
    random = np.random.default_rng(2)
    baseline = random.lognormal(0.0, 0.2, (STUDIES, 8))
    bounds = [bound_ratios(baseline, random.lognormal(0.0, 0.2, (STUDIES, 8)), comparisons=5) for _ in range(5)]
    wrong = sum(max(bound or 0.0 for bound in study) > 1 for study in zip(*bounds, strict=True))
    assert wrong / STUDIES <= 1 - CONFIDENCE + 4 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / STUDIES)


def test_a_bound_of_one_ratio_is_the_lower_end_of_its_interval() -> None:
    """A single comparison is not held to less than the 95 % interval is."""
    over, under = [12.0, 9.0, 10.0, 11.0, 15.0], [2.6, 2.5, 2.4, 2.55, 3.9]
    (bound,) = bound_ratios([over], [under], comparisons=1)
    assert bound == (estimate_ratio(over, under).ci95 or (0.0,))[0]


def test_a_ratio_is_the_median_of_all_ratios() -> None:
    """The estimate is Hodges' and Lehmann's: the median of each value over each other value."""
    over, under = [12.0, 9.0, 10.0, 11.0, 15.0], [2.6, 2.5, 2.4, 2.55, 3.9]
    ratios = sorted(one / other for one, other in itertools.product(over, under))
    assert estimate_ratio(over, under).value == pytest.approx(ratios[12])


def test_known_times_give_the_known_numbers() -> None:
    """Efficiency is the speedup for each worker, and so is its interval."""
    speedup = estimate_speedup([10.0] * 4, [2.5] * 4)
    assert speedup == Estimate(pytest.approx(4.0), pytest.approx((4.0, 4.0)))
    assert estimate_efficiency(speedup, 5) == Estimate(pytest.approx(0.8), pytest.approx((0.8, 0.8)))
    assert estimate_efficiency(Estimate(4.0, None), 5) == Estimate(0.8, None)
    assert estimate_median([2.0, 1.0]) == Estimate(1.5, None)


@pytest.mark.filterwarnings("error")
def test_equal_repeats_have_an_interval_without_width() -> None:
    """Repeats without any spread give their value as both ends, and no warning."""
    assert estimate_median([2.0] * 6) == Estimate(2.0, (2.0, 2.0))
    assert estimate_median([2.0] * 6).spread == 0


def test_the_spread_is_half_the_width_of_the_interval() -> None:
    """The spread is relative to the value, and unknown without an interval."""
    assert Estimate(2.0, (1.8, 2.4)).spread == pytest.approx(0.15)
    assert Estimate(2.0, None).spread is None
