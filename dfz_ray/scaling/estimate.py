"""Estimates from repeated trials: medians and ratios, each with an interval that holds the truth as often as it says.

Rules after Hoefler & Belli, "Scientific Benchmarking of Parallel Computing Systems" (SC'15): medians where times are
skewed, intervals with every number. The intervals are exact for every continuous distribution, so they need neither a
normal distribution nor a large sample; below the least number of repeats there is none. Repeats must be independent.
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
    other. The interval inverts the Mann-Whitney test (Hollander, Wolfe & Chicken, "Nonparametric Statistical Methods",
    ch. 4), which is exact if the two distributions have the same shape on a logarithmic scale. Of so many `comparisons`
    all intervals hold together in 95 % of all cases (Bonferroni).
    """
    (estimate,) = estimate_ratios([over], [under], comparisons)
    return estimate


def estimate_ratios(
    over: Sequence[Sequence[float]], under: Sequence[Sequence[float]], comparisons: int = 1
) -> list[Estimate]:
    """`estimate_ratio` of many pairs of samples at once: a row of each argument for each pair."""
    import numpy as np

    logs = _sort_ratios(over, under)
    rank = _mann_whitney_rank(*sorted((len(over[0]), len(under[0]))), (1 - CONFIDENCE) / 2 / comparisons)
    values = np.exp(np.median(logs, axis=1)).tolist()
    if not rank:
        return [Estimate(value, None) for value in values]
    ends = np.exp(logs[:, [rank - 1, -rank]]).tolist()
    return [Estimate(value, (low, high)) for value, (low, high) in zip(values, ends, strict=True)]


def bound_ratios(
    over: Sequence[Sequence[float]], under: Sequence[Sequence[float]], comparisons: int
) -> list[float | None]:
    """The number that each ratio surely exceeds; None with too few repeats.

    If the ratios of so many `comparisons` are bounded in one study, one of the bounds or more is wrong in at most 5 %
    of all studies (Bonferroni). A bound is never above the lower end of the 95 % interval.
    """
    import numpy as np

    missed = min((1 - CONFIDENCE) / 2, (1 - CONFIDENCE) / comparisons)
    rank = _mann_whitney_rank(*sorted((len(over[0]), len(under[0]))), missed)
    bounds: list[float | None] = [None] * len(over)
    if rank:
        bounds[:] = np.exp(_sort_ratios(over, under)[:, rank - 1]).tolist()
    return bounds


def repeats_to_compare(comparisons: int) -> int:
    """The least repeats on each side from which `bound_ratios` gives bounds."""
    missed = min((1 - CONFIDENCE) / 2, (1 - CONFIDENCE) / comparisons)
    return next(count for count in itertools.count(1) if _mann_whitney_rank(count, count, missed))


def _sort_ratios(over: Sequence[Sequence[float]], under: Sequence[Sequence[float]]) -> Any:
    """In each row the logarithms of all ratios of one value to one other, sorted."""
    import numpy as np

    tops, bottoms = np.log(np.asarray(over, float)), np.log(np.asarray(under, float))
    ratios = tops.shape[1] * bottoms.shape[1]
    return np.sort((tops[:, :, None] - bottoms[:, None, :]).reshape(len(tops), ratios), axis=1)


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
