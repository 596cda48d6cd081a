"""Estimates from repeated trials: medians, speedups and rates, each with the interval that the repeats allow.

Rules after Hoefler & Belli, "Scientific Benchmarking of Parallel Computing Systems" (SC'15): medians where times are
skewed, intervals with every number, rates computed from times and never averaged themselves. Formulas of speedup and
efficiency as in Amdahl (AFIPS'67) and Eager, Zahorjan & Lazowska (IEEE Trans. Comput. 38(3), 1989).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

RESAMPLES = 9999
CONFIDENCE = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A number that was measured, with its 95 % interval (None where too few repeats allow one)."""

    value: float
    ci95: Interval | None


def bootstrap_interval(
    samples: Sequence[Sequence[float]],
    statistic: Callable[..., Any],
    *,
    seed: int = 0,
    paired: bool = False,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """A 95 % percentile bootstrap interval (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13).

    With few repeats it covers the truth less often than it says. For a median the resamples can't leave the range of
    the data, so that its coverage is at most 1 - 2^(1-n): 50 % with 2 repeats, 75 % with 3, 94 % with 5. From about
    10 repeats on it is close to what it claims.

    The statistic takes the samples as arrays, and `axis`. If paired, the samples are resampled together, item by item;
    else each by itself. Equal data and seeds give equal intervals. If a sample has fewer than two items, it is None.
    """
    if any(len(sample) < 2 for sample in samples):
        return None
    import numpy as np
    from scipy.stats import bootstrap

    interval = bootstrap(
        tuple(np.asarray(sample, dtype=float) for sample in samples),
        statistic,
        n_resamples=resamples,
        vectorized=True,
        paired=paired,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(seed),  # called `rng` since SciPy 1.15, which still takes this name
    ).confidence_interval
    return float(interval.low), float(interval.high)


def estimate_median(values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The median of one or more repeats."""
    import numpy as np

    return Estimate(float(median(values)), bootstrap_interval([values], np.median, seed=seed, resamples=resamples))


def estimate_speedup(
    sequential_s: Sequence[float], parallel_s: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Speedup S(N) = median(T_seq) / median(T(N)); the wall times of both, all above 0, are resampled independently."""
    return _ratio_of_medians(sequential_s, parallel_s, seed=seed, resamples=resamples)


def estimate_efficiency(speedup: Estimate, workers: int) -> Estimate:
    """Efficiency E(N) = S(N) / N: the part of the workers that does the sequential program's work."""
    ci95 = speedup.ci95
    return Estimate(speedup.value / workers, ci95 and (ci95[0] / workers, ci95[1] / workers))


def estimate_throughput(completed: Sequence[int], wall_s: Sequence[float], *, seed: int = 0) -> Estimate:
    """Completed tasks per second: median(completed) / median(T), from the same repeats, whose times are above 0."""
    return _ratio_of_medians(completed, wall_s, seed=seed, paired=True)


def _ratio_of_medians(over: Sequence[float], under: Sequence[float], **options: Any) -> Estimate:
    def statistic(over: Any, under: Any, axis: int) -> Any:
        import numpy as np

        return np.median(over, axis=axis) / np.median(under, axis=axis)

    return Estimate(median(over) / median(under), bootstrap_interval([over, under], statistic, **options))
