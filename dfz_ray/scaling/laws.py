"""Scaling laws, fitted to measured throughputs: what limits the speedup, and how far the data allow to look ahead.

Amdahl: X(N) = g / (s + (1 - s) / N), with the serial share s (AFIPS'67), where the batch stays the same. Gustafson:
X(N) = g (N - s (N - 1)), where the batch grows with the workers (CACM 31(5), 1988). Universal Scalability Law (Gunther,
"Guerrilla Capacity Planning", 2007): X(N) = g N / (1 + a (N - 1) + b N (N - 1)), with contention a and coherency b; its
peak is at N* = sqrt((1 - a) / b).

The fits are bounded least squares on throughput, or, for studies, on its logarithm, for there the noise of a trial is a
share of its time; g, the throughput of one worker, is free. Intervals are those of the linearised model (t
distribution), and hold the truth in 89 to 98 % of studies that follow the law (benchmarks/coverage.py); those of a fit
on throughput itself would in 78 to 90 %. The law is chosen by AICc (Hurvich & Tsai, Biometrika 76, 1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dfz_ray.scaling.estimate import CONFIDENCE, Interval
from dfz_ray.scaling.measurement import Scaling
from dfz_ray.scaling.number_texts import show_plain

POINTS = 5
"""A law is fitted to no fewer points (as Extra-P does): three parameters fit any three points."""
FAR = 2.0
"""A peak beyond so many times the largest number of workers that was measured is not told."""
NO_RISE = "throughput does not rise with workers"

Law = Callable[..., Any]
Noise = Literal["equal", "proportional"]
"""The noise of throughputs: as large at all numbers of workers, or a share of the throughput."""


def amdahl(workers: Any, rate: float, serial: float) -> Any:
    """Throughput by Amdahl's law."""
    return rate / (serial + (1 - serial) / workers)


def gustafson(workers: Any, rate: float, serial: float) -> Any:
    """Throughput by Gustafson's law: that of one worker, times the scaled speedup."""
    return rate * (workers - serial * (workers - 1))


def usl(workers: Any, rate: float, contention: float, coherency: float) -> Any:
    """Throughput by the Universal Scalability Law."""
    return rate * workers / (1 + contention * (workers - 1) + coherency * workers * (workers - 1))


LAWS: Mapping[str, tuple[Law, tuple[str, ...]]] = {
    "amdahl": (amdahl, ("rate", "serial")),
    "gustafson": (gustafson, ("rate", "serial")),
    "usl": (usl, ("rate", "contention", "coherency")),
}
"""The laws, with the names of their parameters; all but the rate lie between 0 and 1."""


@dataclass(frozen=True)
class Fit:
    """A law, fitted to points."""

    law: str
    parameters: Mapping[str, float]
    ci95: Mapping[str, Interval | None]
    """None for a parameter at its bound, and where there are no more points than parameters."""
    residual_error: float
    """Standard error of the residuals, in tasks per second."""
    relative_error: float
    """Standard error of the residuals of the logarithm of throughput."""
    aicc: float
    left_out_error: float
    """Median relative error with which the law, fitted to all other points, predicts a point that was left out."""
    most: int
    """The largest number of workers among the points."""

    def predict(self, workers: float) -> float:
        """Throughput at a number of workers."""
        return float(LAWS[self.law][0](workers, *self.parameters.values()))

    @property
    def peak(self) -> float | None:
        """The number of workers with the highest throughput, if the data identify it; else None."""
        if self.law != "usl":
            return None
        coherency, interval = self.parameters["coherency"], self.ci95["coherency"]
        if interval is None or interval[0] <= 0 or self.parameters["contention"] >= 1:
            return None
        peak = math.sqrt((1 - self.parameters["contention"]) / coherency)
        return peak if peak <= FAR * self.most else None

    @property
    def limit(self) -> str:
        """A sentence on more workers, by this law."""
        if self.peak is not None and self.peak >= 1:
            return f"throughput peaks at {self.peak:.0f} workers ({show_plain(self.predict(self.peak))} tasks/s)"
        if self.law in ("amdahl", "gustafson"):
            return self._serial_limit()
        coherency, interval = self.parameters["coherency"], self.ci95["coherency"]
        if self.peak is not None or self.parameters["contention"] > 0.999 or (interval is None and coherency > 0.5):
            return NO_RISE
        within = f"within {FAR:g} times the {self.most} workers that were measured"
        largest = coherency if interval is None else interval[1]
        if largest * (FAR * self.most) ** 2 < 1 - self.parameters["contention"]:
            return f"no peak {within}"
        return f"the data do not tell whether there is a peak {within}"

    def _serial_limit(self) -> str:
        serial, interval = self.parameters["serial"], self.ci95["serial"]
        if interval is None and serial > 0.5:  # at its upper bound
            return NO_RISE
        if interval is None or interval[0] <= 0:
            return "no serial share can be told from zero, so the data show no limit"
        low, high = 100 * interval[0], 100 * interval[1]
        if self.law == "gustafson":
            return f"each further worker adds {100 * (1 - serial):.3g} % ({100 - high:.3g} to {100 - low:.3g}) of one"
        share = f"{show_plain(100 * serial)} % ({show_plain(low)} to {show_plain(high)})"
        return f"a share of {share} does not get faster with workers"


def fit_laws(
    workers: Sequence[int], rates: Sequence[float], scaling: Scaling = "strong"
) -> tuple[Fit | None, dict[str, Fit | str]]:
    """Fit every law of strong or of weak scaling to the throughputs that a study has at some numbers of workers.

    Returns:
        The law with the least AICc, and all by name; in place of a fit, the reason why there is none.
    """
    fits: dict[str, Fit | str] = {}
    for name, (_, parameters) in LAWS.items():
        if name == ("gustafson" if scaling == "strong" else "amdahl"):
            fits[name] = f"{name.capitalize()}'s law is not of {scaling} scaling"
        elif len(set(workers)) < POINTS:
            fits[name] = f"a law needs {POINTS} numbers of workers, and {len(set(workers))} were measured"
        elif len(workers) < len(parameters) + 3:
            fits[name] = f"{len(parameters)} parameters need {len(parameters) + 3} numbers of workers"
        else:
            fits[name] = fit_law(name, workers, rates, "proportional")
    found = [fit for fit in fits.values() if isinstance(fit, Fit)]
    return min(found, key=lambda fit: fit.aicc, default=None), fits


def fit_law(name: str, workers: Sequence[int], rates: Sequence[float], noise: Noise = "equal") -> Fit:
    """Fit one law; there are more points than parameters."""
    law, parameters = LAWS[name]
    values, errors = _least_squares(law, parameters, workers, rates, noise)
    fitted = [float(law(count, *values)) for count in workers]
    points, free = len(workers), len(parameters) + 1  # and the variance
    squares = sum((rate - one) ** 2 for rate, one in zip(rates, fitted, strict=True))
    log_squares = sum(math.log(rate / one) ** 2 for rate, one in zip(rates, fitted, strict=True))
    minimised = max(squares if noise == "equal" else log_squares, 1e-300)
    spare = points - free - 1
    aicc = points * math.log(minimised / points) + 2 * free + (2 * free * (free + 1) / spare if spare > 0 else math.inf)
    return Fit(
        name,
        dict(zip(parameters, values, strict=True)),
        dict(zip(parameters, errors, strict=True)),
        math.sqrt(squares / max(1, points - len(parameters))),
        math.sqrt(log_squares / max(1, points - len(parameters))),
        aicc,
        _leave_one_out(law, parameters, workers, rates, noise),
        max(workers),
    )


def _least_squares(
    law: Law, parameters: Sequence[str], workers: Sequence[int], rates: Sequence[float], noise: Noise
) -> tuple[list[float], list[Interval | None]]:
    """The best parameters, and their intervals."""
    import numpy as np
    from scipy.optimize import least_squares
    from scipy.stats import t

    counts, measured = np.asarray(workers, float), np.asarray(rates, float)
    one = float(measured[np.argmin(counts)] / counts.min())
    shapes = len(parameters) - 1

    def residuals(values: Any) -> Any:
        fitted = law(counts, *values)
        return (fitted - measured) / one if noise == "equal" else np.log(fitted / measured)

    found = least_squares(
        residuals,
        [one, *[0.01] * shapes],
        bounds=([1e-9 * one, *[0.0] * shapes], [math.inf, *[1.0] * shapes]),
        x_scale=[one, *[0.01] * shapes],
        xtol=1e-12,
        ftol=1e-12,
        gtol=1e-12,
    )
    values = [float(value) for value in found.x]
    free = [position for position, active in enumerate(found.active_mask) if not active]
    spare = len(workers) - len(parameters)
    errors: list[Interval | None] = [None] * len(parameters)
    if spare > 0 and free:
        jacobian = found.jac[:, free]
        covariance = np.linalg.pinv(jacobian.T @ jacobian) * (2 * found.cost / spare)
        reach = t.ppf((1 + CONFIDENCE) / 2, spare) * np.sqrt(np.diag(covariance))
        for position, half in zip(free, reach, strict=True):
            errors[position] = values[position] - float(half), values[position] + float(half)
    return values, errors


def _leave_one_out(
    law: Law, parameters: Sequence[str], workers: Sequence[int], rates: Sequence[float], noise: Noise
) -> float:
    errors = []
    for left in range(len(workers)):
        others = [position for position in range(len(workers)) if position != left]
        values, _ = _least_squares(law, parameters, [workers[n] for n in others], [rates[n] for n in others], noise)
        errors.append(abs(float(law(workers[left], *values)) / rates[left] - 1))
    return sorted(errors)[len(errors) // 2]
