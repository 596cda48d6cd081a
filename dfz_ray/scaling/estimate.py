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


def estimate_ratio(over: Sequence[float], under: Sequence[float]) -> Estimate:
    """How many times larger the values of one sample are than those of another; all are above 0.

    This is the Hodges-Lehmann estimate of the shift of the logarithms: the median of all ratios of one value to one
    other. The interval inverts the Mann-Whitney test (Hollander, Wolfe & Chicken, "Nonparametric Statistical Methods",
    ch. 4), which is exact if the two distributions have the same shape on a logarithmic scale.
    """
    import numpy as np

    logs = np.sort(np.subtract.outer(np.log(over), np.log(under)), axis=None)
    rank = _mann_whitney_rank(*sorted((len(over), len(under))))
    ends = (math.exp(logs[rank - 1]), math.exp(logs[-rank])) if rank else None
    return Estimate(math.exp(np.median(logs)), ends)


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
def _mann_whitney_rank(few: int, many: int) -> int:
    """The rank, from 1, of the lower end among all sorted differences; 0 if the samples are too small.

    It is the number of values u of the Mann-Whitney statistic with P(U <= u) of at most half of what may be missed.
    """
    missed = (1 - CONFIDENCE) / 2
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
