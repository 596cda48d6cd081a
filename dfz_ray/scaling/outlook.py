"""The outlook of a recommendation: what more workers, or longer tasks, would change, each number with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from dfz_ray.scaling.estimate import Estimate, Interval, estimate_ratio
from dfz_ray.scaling.number_texts import show_percent, show_plain, show_workers
from dfz_ray.scaling.point import Point

NEAR_PEAK = 0.95
"""A throughput that reaches this share of the peak is as good as the peak."""
NOISE_EXCUSES = 0.90
"""A throughput of which only the interval reaches NEAR_PEAK must itself be at least this share of the peak."""
LONGER_SPEEDUP = 1.25
"""The speedup that longer tasks are said to reach."""
SHORT_S = 1e-3
"""What shorter tasks lose in slower work and uneven ends is mostly the start of a worker, or of each task, in cold
caches: nobody knows whether it grows with the tasks."""
FIXED = ("dispatch", "ramp_up", "drain")
"""The losses that stay the same if tasks become longer; slower work and uneven ends become longer with them."""


def rate_of(point: Point) -> float:
    """The throughput of the repeats that count, 0 where there are none."""
    return median(point.rates) if point.rates else 0.0


def is_near_peak(point: Point, peak: Point) -> bool:
    """True if more workers bring nothing that is worth them."""
    ratio = estimate_ratio(point.rates, peak.rates)
    return (ratio.ci95 or (0.0, ratio.value))[1] >= NEAR_PEAK and ratio.value >= NOISE_EXCUSES


def describe_share(point: Point, of: Point) -> str:
    """The throughput of a point as a share of that of another one."""
    ratio = estimate_ratio(point.rates, of.rates)
    value = f"{_percents(ratio.value)} %" if ratio.value < 1 else "100 % or more"
    return f"{value} ({_span(ratio.ci95, point, of)})"


def describe_rank(chosen: Point, peak: Point, usable: Sequence[Point]) -> str:
    """How close the chosen point is to the peak."""
    if len(usable) == 1:
        return "the only point measured, so where the peak lies is unknown"
    if chosen is peak:
        return "the highest throughput measured"
    return f"{describe_share(chosen, peak)} of the peak throughput"


def describe_more_workers(chosen: Point, peak: Point, usable: Sequence[Point]) -> list[str]:
    """The gain from more workers, as far as it was measured."""
    clauses = []
    larger = [point for point in usable if point.workers > chosen.workers]
    if larger:
        doubled = next((point for point in larger if point.workers == 2 * chosen.workers), None)
        further = doubled or larger[0]
        step = f"{'doubling' if doubled else 'going'} to {further.workers}"
        clauses.append(f"{step} {_describe_change(further, chosen)}")
    smaller = [point for point in usable if point.workers < peak.workers]
    if peak is usable[-1] and smaller:
        half = next((point for point in reversed(smaller) if 2 * point.workers <= peak.workers), smaller[0])
        if not is_near_peak(half, peak):
            clauses.append(_describe_climb(peak, half))
    return clauses


def _describe_change(further: Point, chosen: Point) -> str:
    ratio = estimate_ratio(further.rates, chosen.rates)
    change, ends = ratio.value - 1, _changes(ratio)
    span = _span(ends, further, chosen)
    if not change or (ends and ends[0] <= 0 <= ends[1]):
        return f"changes nothing that can be told ({span})"
    return f"{'buys' if change > 0 else 'loses'} {_percents(abs(change))} % ({span})"


def _describe_climb(peak: Point, half: Point) -> str:
    ratio = estimate_ratio(peak.rates, half.rates)
    ends, where = _changes(ratio), show_workers(peak.workers)
    span = _span(ends, peak, half)
    if ends and ends[0] <= 0:
        return (
            f"throughput may still climb at {where} ({span} above {half.workers}), so the peak may lie beyond what was "
            "measured"
        )
    climbs = "still climbs" if ends else "may still climb"
    reached = "was not" if ends else "may not have been"
    return (
        f"throughput {climbs} at {where}, {_percents(ratio.value - 1)} % ({span}) above {half.workers}, so the peak "
        f"{reached} reached within what was measured"
    )


def describe_longer_tasks(usable: Sequence[Point], baseline: Point, physical_cores: int) -> list[str]:
    """How much longer tasks would have to be, were the time that no task takes the same. Without losses, nothing."""
    fitting = [
        point
        for point in usable
        if LONGER_SPEEDUP < point.workers <= physical_cores and point.speedup and _fixed_s(point) is not None
    ]
    if not fitting or baseline.wall_s is None:
        return []
    point = min(fitting, key=lambda one: (_times_longer(one, 0), -rate_of(one)))
    times, most, least = (_times_longer(point, end) for end in (0, -1, 1))
    if times <= 1:
        return []
    task_s = _useful_s(point)
    if math.isinf(times) and task_s is not None and task_s < SHORT_S:
        return [f"tasks of {show_plain(1000 * task_s)} ms are too short to tell whether longer ones would help"]
    if math.isinf(times):
        return [f"longer tasks {'would' if math.isinf(least) else 'may'} not help"]
    span = f"at least {_times(least)}" if math.isinf(most) else f"{_times(least)} to {_times(most)}"
    longer = f"{_times(times)} times as long{f' ({span})' if most > least else ''}"
    return [f"tasks {longer} would reach {LONGER_SPEEDUP}x with {show_workers(point.workers)}"]


def _fixed_s(point: Point) -> float | None:
    """The part of the wall time that does not grow with the tasks; None where it was not measured."""
    total = sum(point.losses.values()) if point.losses else 0.0
    if point.losses is None or point.wall_s is None or total <= 0:
        return None
    return point.wall_s.value * sum(point.losses[name] for name in FIXED) / total


def _useful_s(point: Point) -> float | None:
    """The time of a task in the sequential program, as a mean; None where it was not measured."""
    if not point.losses or not point.tasks or not point.repeats:
        return None
    return point.losses["useful"] * point.repeats / point.tasks


def _times_longer(point: Point, end: int) -> float:
    """How many times as long tasks would reach LONGER_SPEEDUP, by the speedup, or by the lower or upper end of it."""
    fixed_s = _fixed_s(point)
    if point.speedup is None or point.wall_s is None or fixed_s is None:
        return math.inf
    low, high = point.speedup.ci95 or (point.speedup.value, point.speedup.value)
    work_s = (point.speedup.value, high, low)[end] * point.wall_s.value
    # k times as long: k x work_s / (k x (wall_s - fixed_s) + fixed_s) = LONGER_SPEEDUP
    gained_s = work_s - LONGER_SPEEDUP * (point.wall_s.value - fixed_s)
    return LONGER_SPEEDUP * fixed_s / gained_s if gained_s > 0 else math.inf


def _times(times: float) -> str:
    return f"{times:,.0f}" if times >= 3 else f"{times:.1f}"


def _changes(ratio: Estimate) -> Interval | None:
    return ratio.ci95 and (ratio.ci95[0] - 1, ratio.ci95[1] - 1)


def _percents(share: float) -> str:
    """Whole per cents, but a small share keeps a digit."""
    percents = 100 * share
    return show_percent(share).removesuffix(" %") if percents >= 1 else show_plain(float(f"{percents:.1g}"))


def _span(ends: Interval | None, one: Point, other: Point) -> str:
    """The interval of a share, or of a change; of a loss it is that of its size."""
    if ends is None:
        repeats = min(len(one.rates), len(other.rates))
        return f"{repeats} repeat{'s' if repeats != 1 else ''}: no interval"
    low, high = ends
    if low < 0 < high:
        return f"-{_percents(-low)} to +{_percents(high)} %"
    low, high = sorted((abs(low), abs(high)))
    return f"{_percents(low)} to {_percents(high)} %"
