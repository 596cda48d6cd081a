"""The recommendation: how many workers to use, in a sentence whose every number was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dfz_ray.scaling.estimate import Interval
from dfz_ray.scaling.point import Point

NEAR_PEAK = 0.95
"""A throughput that reaches this share of the peak is as good as the peak."""
NOISE_EXCUSES = 0.90
"""A throughput of which only the interval reaches NEAR_PEAK must itself be at least this share of the peak."""


@dataclass(frozen=True)
class Recommendation:
    """The advice of a study."""

    workers: int | None
    """0: the sequential program is the best; None: the study can't tell."""
    reason: str


def recommend(points: Sequence[Point], baseline: Point | None, *, physical_cores: int) -> Recommendation:
    """The smallest number of workers that is reliably faster than the sequential program and close to the peak.

    Reliably faster: the whole 95 % interval of the speedup is above 1. A single repeat has no interval; then the
    speedup alone decides, and the reason says so. Close to the peak: see `NEAR_PEAK`. Points at which fewer tasks
    complete than in the baseline take no part.
    """
    left_out = {point.workers: why for point in points if (why := _why_left_out(point, points, baseline))}
    usable = [point for point in points if point.workers not in left_out]
    if not usable:
        workers, clauses = _decide_without_points(points, baseline)
    elif baseline is None or baseline.wall_s is None or not _rate(baseline):
        workers, clauses = _decide_without_baseline(usable, baseline)
    else:
        workers, clauses = _decide(usable)
    chosen = next((point for point in usable if point.workers == workers), None)
    if chosen:
        clauses += _cautions(chosen, physical_cores)
    if left_out:
        clauses.append("left out: " + ", ".join(f"{_workers(n)} ({why})" for n, why in left_out.items()))
    return Recommendation(workers, _digest_warning(points, baseline) + "; ".join(clauses))


def _decide(usable: Sequence[Point]) -> tuple[int, list[str]]:
    faster = [point for point in usable if _reliably_faster(point)]
    if not faster:
        return 0, _dont_parallelise(usable)
    peak = max(usable, key=_rate)
    chosen = next((point for point in faster if _near_peak(point, peak)), max(faster, key=_rate))
    return chosen.workers, [
        f"use {_workers(chosen.workers)}: {_share(chosen, peak, usable)} ({_speedup(chosen)})",
        *_outlook(chosen, peak, usable),
    ]


def _decide_without_baseline(usable: Sequence[Point], baseline: Point | None) -> tuple[int | None, list[str]]:
    unknown = "was not measured" if baseline is None else "failed"
    caveat = f"the sequential program {unknown}, so whether workers pay at all is unknown"
    peak = max(usable, key=_rate)
    if len(usable) == 1:
        return None, [
            f"nothing to compare {_workers(peak.workers)} ({_rate(peak):.3g} tasks/s) with: "
            f"only one point was measured and {caveat}"
        ]
    chosen = next(point for point in usable if _near_peak(point, peak))
    return chosen.workers, [
        f"use {_workers(chosen.workers)}: {_share(chosen, peak, usable)} ({_rate(chosen):.3g} tasks/s)",
        *_outlook(chosen, peak, usable),
        caveat,
    ]


def _decide_without_points(points: Sequence[Point], baseline: Point | None) -> tuple[int | None, list[str]]:
    if not points:
        return None, ["nothing to recommend: no trial with workers was measured"]
    if baseline and baseline.wall_s and _rate(baseline) and any(point.wall_s for point in points):
        return 0, ["don't parallelise this: with workers, tasks fail that the sequential program completes"]
    return None, ["nothing to recommend: no number of workers completed the batch"]


def _dont_parallelise(usable: Sequence[Point]) -> list[str]:
    best = max(usable, key=_rate)
    which = "the only point measured" if len(usable) == 1 else "the best point"
    clause = f"don't parallelise this: {which}, {_workers(best.workers)}, reaches {_speedup(best)}"
    if best.speedup is None or best.speedup.ci95 is None:
        return [clause, "it was measured too seldom to rule out chance"]
    low, high = best.speedup.ci95
    tail = "" if high < 1 else ", which leaves open whether it is faster at all"
    return [f"{clause} (95 % interval {low:.2f} to {high:.2f}{tail})"]


def _share(chosen: Point, peak: Point, usable: Sequence[Point]) -> str:
    if len(usable) == 1:
        return "the only point measured, so where the peak lies is unknown"
    if chosen is peak:
        return "the highest throughput measured"
    return f"{100 * _rate(chosen) / _rate(peak):.0f} % of the peak throughput"


def _outlook(chosen: Point, peak: Point, usable: Sequence[Point]) -> list[str]:
    """The gain from more workers, as far as it was measured."""
    clauses = []
    larger = [point for point in usable if point.workers > chosen.workers]
    if larger:
        doubled = next((point for point in larger if point.workers == 2 * chosen.workers), None)
        further = doubled or larger[0]
        gain = 100 * (_rate(further) / _rate(chosen) - 1)
        step = f"{'doubling' if doubled else 'going'} to {further.workers}"
        clauses.append(f"{step} {'buys' if gain >= 0 else 'loses'} {abs(gain):.0f} %")
    smaller = [point for point in usable if point.workers < peak.workers]
    if peak is usable[-1] and smaller:
        half = next((point for point in reversed(smaller) if 2 * point.workers <= peak.workers), smaller[0])
        if not _near_peak(half, peak):
            gain = 100 * (_rate(peak) / _rate(half) - 1)
            climbs = "still climbs" if _interval(half)[1] < _interval(peak)[0] else "may still climb"
            clauses.append(
                f"throughput {climbs} at {_workers(peak.workers)} ({gain:.0f} % above {half.workers}), "
                "so the peak was not reached within what was measured"
            )
    return clauses


def _cautions(chosen: Point, physical_cores: int) -> list[str]:
    clauses = []
    if chosen.repeats == 1:
        clauses.append("it was measured once, so chance is not ruled out")
    elif chosen.speedup and chosen.speedup.ci95 is None:
        clauses.append("the sequential program was measured once, so chance is not ruled out")
    if chosen.errors:
        trials = chosen.repeats + len(chosen.errors)
        clauses.append(f"{len(chosen.errors)} of {trials} trials with {_workers(chosen.workers)} failed")
    if chosen.underserved:
        clauses.append(f"the cluster could run only {chosen.served} of the {chosen.workers} at once")
    if chosen.oversubscribed:
        cores = f"{physical_cores} physical core{'s' if physical_cores != 1 else ''}"
        clauses.append(f"oversubscribed: {_workers(chosen.workers)} share {cores}")
    return clauses


def _why_left_out(point: Point, points: Sequence[Point], baseline: Point | None) -> str:
    if point.wall_s is None or point.success_rate is None:
        return "every trial failed" if point.errors else "nothing was measured"
    if not _rate(point):
        return "no task completed"
    rates = [other.success_rate for other in points if other.success_rate is not None]
    against = "at the best point"
    expected = max(rates)
    if baseline and baseline.success_rate is not None:
        against, expected = "in the sequential program", baseline.success_rate
    if point.success_rate < expected:
        lost, normal = 100 * (1 - point.success_rate), 100 * (1 - expected)
        return f"{lost:.2g} % of the tasks did not complete, {normal:.2g} % {against}"
    return ""


def _digest_warning(points: Sequence[Point], baseline: Point | None) -> str:
    everyone = [*([baseline] if baseline else []), *points]
    unstable = [point.workers for point in everyone if len(point.digests) > 1]
    stable = [point for point in everyone if point.digest is not None]
    changed = [point.workers for point in stable[1:] if point.digest != stable[0].digest]
    found = []
    if changed:
        found.append(f"the digest at {_list(changed)} is not that of {_list([stable[0].workers])}")
    if unstable:
        found.append(f"the digest changed between repeats of {_list(unstable)}")
    return f"WARNING, the answers changed: {' and '.join(found)}. Apart from that: " if found else ""


def _reliably_faster(point: Point) -> bool:
    if point.speedup is None:
        return False
    return (point.speedup.ci95[0] if point.speedup.ci95 else point.speedup.value) > 1


def _near_peak(point: Point, peak: Point) -> bool:
    return _interval(point)[1] >= NEAR_PEAK * _rate(peak) and _rate(point) >= NOISE_EXCUSES * _rate(peak)


def _interval(point: Point) -> Interval:
    """Of the throughput; both ends are its value where there is no interval."""
    interval = point.tasks_per_s.ci95 if point.tasks_per_s else None
    return interval or (_rate(point), _rate(point))


def _rate(point: Point) -> float:
    return point.tasks_per_s.value if point.tasks_per_s else 0.0


def _speedup(point: Point) -> str:
    return f"{point.speedup.value:.2f}x the sequential program" if point.speedup else "no speedup"


def _workers(number: int) -> str:
    return f"{number} worker{'s' if number != 1 else ''}"


def _list(numbers: Sequence[int]) -> str:
    """E.g. `the baseline and 2, 4 workers`."""
    names = ["the baseline"] if 0 in numbers else []
    if counts := [number for number in numbers if number]:
        names.append(f"{', '.join(map(str, counts[:-1]))}{', ' if counts[1:] else ''}{_workers(counts[-1])}")
    return " and ".join(names)
