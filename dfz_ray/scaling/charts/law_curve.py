"""The curve of a fitted law, with a band, within the numbers of workers that it was fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dfz_ray.scaling.estimate import CONFIDENCE
from dfz_ray.scaling.laws import LAWS

STEPS = 48


class CurvePoint(NamedTuple):
    """The speedup by a law."""

    workers: float
    speedup: float
    low: float
    high: float


def law_curve(summary: Mapping[str, Any]) -> list[CurvePoint]:
    """The chosen law as speedups; empty where no law was fitted, or the baseline was not measured.

    The band is that of the mean, by the delta method on the logarithm of throughput, on which the law was fitted: the
    covariance of the parameters is that of least squares, and parameters at their bounds are fixed. Of the true law it
    is a 95 % band; of the one that was chosen, which may be a simpler one, it holds the truth in 83 to 99 % of all
    studies (benchmarks/coverage.py).
    """
    import numpy as np
    from scipy.stats import t

    fits, rate = summary["fits"], summary["baseline"]["tasks_per_s"]
    fitted = sorted(fits.get("workers") or ())
    if not rate or not fits["chosen"] or len(fitted) < 2:
        return []
    fit, (law, names) = fits[fits["chosen"]], LAWS[fits["chosen"]]
    values = [fit[name] for name in names]
    free = [position for position, name in enumerate(names) if fit["ci95"][name]]
    at = np.geomspace(fitted[0], fitted[-1], STEPS)
    curve = law(at, *values) * np.ones(STEPS)
    half = np.zeros(STEPS)
    if free:
        inner = _slopes(law, values, free, np.asarray(fitted, float))
        covariance = np.linalg.pinv(inner.T @ inner) * fit["relative_error"] ** 2
        outer = _slopes(law, values, free, at)
        spare = max(1, len(fitted) - len(names))
        variance = np.einsum("ij,jk,ik->i", outer, covariance, outer)
        half = t.ppf((1 + CONFIDENCE) / 2, spare) * np.sqrt(np.maximum(variance, 0.0))
    columns = at, curve / rate, curve * np.exp(-half) / rate, curve * np.exp(half) / rate
    return [CurvePoint(*map(float, row)) for row in zip(*columns, strict=True)]


def _slopes(law: Any, values: list[float], free: list[int], at: Any) -> Any:
    """The derivatives of the law's logarithm by its free parameters, at some numbers of workers."""
    import numpy as np

    columns = []
    for position in free:
        step = 1e-6 * max(abs(values[position]), 1e-3)
        moved = [value + step * (place == position) for place, value in enumerate(values)]
        columns.append((np.log(law(at, *moved)) - np.log(law(at, *values))) / step)
    return np.stack(columns, axis=-1)
