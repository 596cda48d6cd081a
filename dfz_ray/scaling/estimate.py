"""Estimates from repeated trials: medians and ratios, each with an interval that holds the truth as often as it says.

Rules after Hoefler & Belli, "Scientific Benchmarking of Parallel Computing Systems" (SC'15): medians where times are
skewed, intervals with every number. That of a median is exact for every continuous distribution. That of a ratio holds
the truth in 95 % of all studies, whichever of the two times varies more: benchmarks/coverage.py simulates it. Below the
least number of repeats there is none. Repeats must be independent.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

CONFIDENCE = 0.95
WRONG_BOUND = 0.043
"""The share of studies in which a bound may be wrong if there is no look but the last one. A study looks after each
repeat whether it may end; with that, below 5 % have one that is wrong (benchmarks/coverage.py).
"""
MEDIAN_REPEATS = 6
"""With fewer repeats no interval within the sample holds the median in 95 % of all studies."""
RATIO_REPEATS = 4
"""With fewer repeats on each side no interval holds the ratio in 95 % of all studies."""
EXACT_REPEATS = 50
"""Beyond so many repeats the normal approximation of the Mann-Whitney distribution has the same ends."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A number that was measured, with its 95 % interval (None where too few repeats allow one)."""

    value: float
    ci95: Interval | None

    @property
    def spread(self) -> float | None:
        """Half the width of the interval over the value."""
        if self.ci95 is None or not self.value:
            return None
        return (self.ci95[1] - self.ci95[0]) / 2 / self.value


def estimate_median(values: Sequence[float]) -> Estimate:
    """The median of one or more repeats.

    The ends of the interval are order statistics, chosen by the binomial distribution (Hahn & Meeker, "Statistical
    Intervals", 1991, ch. 5).
    """
    from scipy.stats import binom

    in_order = sorted(map(float, values))
    rank = int(binom.ppf((1 - CONFIDENCE) / 2, len(in_order), 0.5))
    return Estimate(float(median(in_order)), (in_order[rank - 1], in_order[-rank]) if rank else None)


def estimate_ratio(over: Sequence[float], under: Sequence[float], comparisons: int = 1) -> Estimate:
    """How many times larger the values of one sample are than those of another; all are above 0.

    This is the Hodges-Lehmann estimate of the shift of the logarithms: the median of all ratios of one value to one
    other. The interval has every ratio that one of two tests does not refuse: the Mann-Whitney test (Hollander, Wolfe &
    Chicken, "Nonparametric Statistical Methods", ch. 4), which is exact if both distributions have the same shape on a
    logarithmic scale, and Welch's t-test of the logarithms (Biometrika 34, 1947), which holds where one varies more. Of
    so many `comparisons` all intervals hold together in 95 % of all cases (Bonferroni).
    """
    (estimate,) = estimate_ratios([over], [under], comparisons)
    return estimate


def estimate_ratios(
    over: Sequence[Sequence[float]], under: Sequence[Sequence[float]], comparisons: int = 1
) -> list[Estimate]:
    """`estimate_ratio` of many pairs of samples at once: a row of each argument for each pair."""
    import numpy as np

    ratios = _Ratios(over, under)
    values = ratios.medians.tolist()
    ends = ratios.find_ends((1 - CONFIDENCE) / 2 / comparisons)
    if ends is None:
        return [Estimate(value, None) for value in values]
    return [Estimate(value, tuple(ends)) for value, ends in zip(values, np.transpose(ends).tolist(), strict=True)]


def bound_ratios(
    over: Sequence[Sequence[float]], under: Sequence[Sequence[float]], comparisons: int
) -> list[float | None]:
    """The number that each ratio surely exceeds; None with too few repeats.

    If the ratios of so many `comparisons` are bounded in one study, one of the bounds or more is wrong in at most 5 %
    of all studies (Bonferroni). A bound is never above the lower end of the 95 % interval.
    """
    ends = _Ratios(over, under).find_ends(min((1 - CONFIDENCE) / 2, WRONG_BOUND / comparisons))
    bounds: list[float | None] = [None] * len(over)
    if ends is not None:
        bounds[:] = ends[0].tolist()
    return bounds


def repeats_to_compare(comparisons: int) -> int:
    """The least repeats on each side from which `bound_ratios` gives bounds."""
    missed = min((1 - CONFIDENCE) / 2, WRONG_BOUND / comparisons)
    return next(count for count in itertools.count(1) if _mann_whitney_rank(count, count, missed))


class _Ratios:
    """The ratios of two samples in each row."""

    def __init__(self, over: Sequence[Sequence[float]], under: Sequence[Sequence[float]]) -> None:
        import numpy as np

        self._tops, self._bottoms = np.log(np.asarray(over, float)), np.log(np.asarray(under, float))
        differences = self._tops[:, :, None] - self._bottoms[:, None, :]
        self._sorted = np.sort(differences.reshape(len(differences), -1), axis=1)
        """In each row the logarithms of all ratios of one value to one other."""
        self.medians = np.exp(np.median(self._sorted, axis=1))

    def find_ends(self, missed: float) -> tuple[Any, Any] | None:
        """The ends of the intervals, each of which misses the truth in that share of all studies; None: too small."""
        import numpy as np

        few, many = sorted((self._tops.shape[1], self._bottoms.shape[1]))
        rank = _mann_whitney_rank(few, many, missed)
        if not rank or few == 1:  # of one value the spread is unknown
            return None
        low, high = self._find_welch_ends(missed)
        return np.exp(np.minimum(low, self._sorted[:, rank - 1])), np.exp(np.maximum(high, self._sorted[:, -rank]))

    def _find_welch_ends(self, missed: float) -> tuple[Any, Any]:
        import numpy as np
        from scipy.stats import t

        squares, freedom = np.zeros(len(self._tops)), np.zeros(len(self._tops))
        for sample in (self._tops, self._bottoms):
            error = sample.var(axis=1, ddof=1) / sample.shape[1]
            squares += error
            freedom += error**2 / (sample.shape[1] - 1)
        degrees = np.divide(squares**2, freedom, out=np.ones_like(freedom), where=freedom > 0)
        reach = -t.ppf(missed, degrees) * np.sqrt(squares)
        shift = self._tops.mean(axis=1) - self._bottoms.mean(axis=1)
        return shift - reach, shift + reach


def estimate_speedup(sequential_s: Sequence[float], parallel_s: Sequence[float]) -> Estimate:
    """Speedup S(N) = T_seq / T(N), from the wall times of both (Amdahl, AFIPS'67)."""
    return estimate_ratio(sequential_s, parallel_s)


def estimate_efficiency(speedup: Estimate, workers: int) -> Estimate:
    """Efficiency E(N) = S(N) / N: the part of the workers that does the sequential program's work.

    After Eager, Zahorjan & Lazowska (IEEE Trans. Comput. 38(3), 1989).
    """
    ci95 = speedup.ci95
    return Estimate(speedup.value / workers, ci95 and (ci95[0] / workers, ci95[1] / workers))


@functools.cache
def _mann_whitney_rank(few: int, many: int, missed: float) -> int:
    """The rank, from 1, of the lower end among all sorted differences; 0 if the samples are too small.

    It is the number of values u of the Mann-Whitney statistic with P(U <= u) of at most the share of studies in which
    the lower end may lie above the truth.
    """
    if many > EXACT_REPEATS:
        from scipy.stats import norm

        deviation = math.sqrt(few * many * (few + many + 1) / 12)
        return max(0, math.floor(few * many / 2 + float(norm.ppf(missed)) * deviation))
    # The numbers of orders that give each u are the coefficients of a Gaussian binomial, the product over i = 1..few of
    # (1 - x^(many+i)) / (1 - x^i).
    orders = [1] + [0] * (few * many)
    for i in range(1, few + 1):
        for u in range(few * many, many + i - 1, -1):
            orders[u] -= orders[u - many - i]
        for u in range(i, few * many + 1):
            orders[u] += orders[u - i]
    total = math.comb(few + many, few)
    return sum(below <= missed * total for below in itertools.accumulate(orders))
