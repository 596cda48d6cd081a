"""Points of studies with known times, as if a study had measured them."""

from __future__ import annotations

from typing import Any

from dfz_ray.scaling.estimate import Estimate
from dfz_ray.scaling.point import Point
from dfz_ray.scaling.recommendation import Recommendation, recommend

SEQUENTIAL_S = 100.0
TASKS = 1000


def around(value: float, spread: float | None) -> Estimate:
    """A number with an interval of so much to either side."""
    return Estimate(value, None if spread is None else (value * (1 - spread), value * (1 + spread)))


def rates(value: float, spread: float | None) -> tuple[float, ...]:
    """The throughputs of five repeats, or of one."""
    return (value,) if spread is None else tuple(value * (1 + step * spread) for step in (-1, -0.5, 0, 0.5, 1))


def point(workers: int, ratio: float = 1.0, spread: float | None = 0.02, **changes: Any) -> Point:
    """A point of a batch that takes 100 s sequentially; with 0 workers the baseline."""
    values: dict[str, Any] = {
        "workers": workers,
        "repeats": 1 if spread is None else 5,
        "errors": (),
        "wall_s": around(SEQUENTIAL_S / ratio, spread),
        "speedup": around(ratio, spread) if workers else None,
        "efficiency": around(ratio / workers, spread) if workers else None,
        "tasks_per_s": around(TASKS * ratio / SEQUENTIAL_S, spread),
        "success_rate": 1.0,
        "warm_up_s": 1.0,
        "avg_concurrency": float(workers),
        "max_concurrency": workers,
        "digests": ("same",),
        "served": workers,
        "oversubscribed": False,
        "rates": rates(TASKS * ratio / SEQUENTIAL_S, spread),
        "least_speedup": None if spread is None else ratio * (1 - spread),
    }
    return Point(**(values | changes))


def failed(workers: int) -> Point:
    """A point without any trial that ended."""
    nothing: dict[str, Any] = dict.fromkeys(("wall_s", "speedup", "efficiency", "tasks_per_s", "success_rate"))
    return point(workers, repeats=0, errors=("lost",) * 5, digests=(), **nothing)


def advise(*points: Point, baseline: Point | None = point(0)) -> Recommendation:  # noqa: B008  it is frozen
    """The recommendation on a host of two cores."""
    return recommend(points, baseline, physical_cores=2)


def advised(*points: Point) -> tuple[int | None, str]:
    """The same, as a tuple."""
    advice = advise(*points)
    return advice.workers, advice.reason
