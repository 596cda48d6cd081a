"""The recommendation: how many workers to use, in a sentence whose every number was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dfz_ray.scaling.estimate import Estimate, bound_ratios, estimate_ratio, repeats_to_compare
from dfz_ray.scaling.number_texts import show_number, show_plain
from dfz_ray.scaling.point import Point, find_comparable
from dfz_ray.scaling.stopping import repeats_to_exclude, repeats_to_tell

NEAR_PEAK = 0.95
"""A throughput that reaches this share of the peak is as good as the peak."""
NOISE_EXCUSES = 0.90
"""A throughput of which only the interval reaches NEAR_PEAK must itself be at least this share of the peak."""
WORTH = 1.05
"""A speedup that is surely below this is not worth a cluster."""
WAITS = 0.5
"""Tasks whose CPU time is less than this share of their run time wait for something."""
BUSY = 0.5
"""Other work on the host is told if its load average is more than this share of the cores."""
TOO_GOOD = 1.05
"""An efficiency that is surely above this says that the two programs did not do the same work."""
IMPOSSIBLE = 1.5
"""An efficiency that is surely above this is no finding, not even of caches that hold more."""
LONGER_SPEEDUP = 1.25
"""The speedup that longer tasks are said to reach."""


@dataclass(frozen=True)
class Recommendation:
    """The advice of a study."""

    workers: int | None
    """0: the sequential program is the best; None: the study can't tell."""
    reason: str


def verdict_ratio(points: Sequence[Point], baseline: Point | None, *, physical_cores: int) -> Estimate | None:
    """The ratio that the recommendation rests on; None if there is nothing to compare, however many repeats there are.

    It is a speedup, or, without a sequential program to compare with, the gain over the smallest number of workers.
    """
    left_out = find_left_out(points, baseline)
    usable = [point for point in points if point.workers not in left_out]
    compared = find_comparable(baseline)
    if not usable or (len(usable) == 1 and not compared):
        return None
    workers = recommend(points, baseline, physical_cores=physical_cores).workers
    against = usable if compared else usable[1:]
    chosen = next((point for point in against if point.workers == workers), max(against, key=_rate))
    return chosen.speedup if compared else estimate_ratio(chosen.rates, usable[0].rates)


def recommend(
    points: Sequence[Point],
    baseline: Point | None,
    *,
    physical_cores: int,
    remarks: Sequence[str] = (),
    others: Sequence[Point] = (),
) -> Recommendation:
    """The smallest number of workers that is reliably faster than the sequential program and close to the peak.

    Reliably faster: the speedup surely exceeds 1, also after a look at all points. Not worth it: the whole interval is
    below WORTH. If neither holds for any point, or there are too few repeats for an interval, the study can't tell, and
    the reason says how many repeats would. Close to the peak: see `NEAR_PEAK`. Points at which surely fewer tasks
    complete than in the baseline, or none of whose repeats completed as many, take no part. The smallest number of
    workers takes the place of a baseline that was not measured, or in which fewer tasks complete than at a point. If
    any point, also of the `others`, usable ones of another mode, has an efficiency that can't be, the baseline is
    wrong, and with it every speedup. The remarks are about the whole study, and end the sentence.
    """
    left_out = find_left_out(points, baseline)
    usable = [point for point in points if point.workers not in left_out]
    if not usable:
        workers, clauses = _decide_without_points(points, baseline)
    elif compared := find_comparable(baseline):
        impossible = _describe_impossible([*usable, *others])
        workers, clauses = (None, impossible) if impossible else _decide(usable, compared, physical_cores)
    else:
        workers, clauses = _decide_without_baseline(usable, baseline)
    judged = next((point for point in usable if point.workers == workers), max(usable, key=_rate, default=None))
    if judged:
        clauses += [*_efficiency_caution(judged, usable), *_cautions(judged, baseline, physical_cores)]
    clauses += _describe_lost(usable, baseline)
    clauses += _incidents(points, baseline, physical_cores)
    if left_out:
        clauses.append("left out: " + ", ".join(f"{_workers(n)} ({why})" for n, why in left_out.items()))
    return Recommendation(workers, "; ".join([*clauses, *remarks]))


def find_left_out(points: Sequence[Point], baseline: Point | None) -> dict[int, str]:
    """The points that take no part in a decision, each with the reason."""
    return {point.workers: why for point in points if (why := _why_left_out(point, points, baseline))}


def _decide(usable: Sequence[Point], baseline: Point, physical_cores: int) -> tuple[int | None, list[str]]:
    faster = [point for point in usable if point.least_speedup is not None and point.least_speedup > 1]
    if not faster:
        return _decide_without_gain(usable, baseline, physical_cores)
    peak = max(usable, key=_rate)
    chosen = next((point for point in faster if _near_peak(point, peak)), max(faster, key=_rate))
    return chosen.workers, [
        f"use {_workers(chosen.workers)}: {_share(chosen, peak, usable)} ({_speedup(chosen)})",
        *_outlook(chosen, peak, usable),
    ]


def _decide_without_baseline(usable: Sequence[Point], baseline: Point | None) -> tuple[int | None, list[str]]:
    unknown = "was not measured" if baseline is None else "failed"
    if baseline and baseline.success_rate is not None:
        unknown = f"did not complete {100 * (1 - baseline.success_rate):.3g} % of the tasks"
    caveat = f"the sequential program {unknown}, so whether workers pay at all is unknown"
    peak = max(usable, key=_rate)
    if len(usable) == 1:
        return None, [
            f"nothing to compare {_workers(peak.workers)} ({show_plain(_rate(peak))} tasks/s) with: "
            f"only one point was measured and {caveat}"
        ]
    smallest, *larger = usable
    reached = f"can't tell: the best point, {_workers(peak.workers)}, reaches {show_plain(_rate(peak))} tasks/s"
    repeats, least = min(len(smallest.rates), len(peak.rates)), repeats_to_compare(len(larger))
    if repeats < least:
        return None, [f"{reached}, and {_too_few(repeats, least)}", caveat]
    bounds = [bound_ratios([point.rates], [smallest.rates], len(larger))[0] for point in larger]
    faster = [point for point, bound in zip(larger, bounds, strict=True) if bound is not None and bound > 1]
    chosen = next(
        (point for point in (smallest, *faster) if _near_peak(point, peak)), max(faster, key=_rate, default=None)
    )
    if chosen is None:
        ratio = estimate_ratio(peak.rates, smallest.rates)
        low, high = ratio.ci95 or (0.0, float("inf"))
        interval = f"{show_number(ratio.value)}x that of {_workers(smallest.workers)} ({_interval(low, high)})"
        needed = repeats_to_tell(repeats, ratio)
        more = [f"about {max(needed, repeats + 1)} repeats would tell"] if needed else []
        return None, [f"{reached}, {interval}", *more, caveat]
    return chosen.workers, [
        f"use {_workers(chosen.workers)}: {_share(chosen, peak, usable)} ({show_plain(_rate(chosen))} tasks/s)",
        *_outlook(chosen, peak, usable),
        caveat,
    ]


def _decide_without_points(points: Sequence[Point], baseline: Point | None) -> tuple[int | None, list[str]]:
    if not points:
        return None, ["nothing to recommend: no trial with workers was measured"]
    ended = [point for point in points if point.wall_s]
    if baseline and ended and _rate(baseline):
        unlike = "with workers, tasks fail that the sequential program completes"
        if all(point.loses_more for point in ended):
            return 0, [f"don't parallelise this: {unlike}"]
        repeats, needed = min(point.repeats for point in ended), repeats_to_compare(ended[0].comparisons)
        why = _too_few(repeats, needed) if repeats < needed else "which may be chance"
        return None, [f"can't tell: {unlike}, {'and ' if repeats < needed else ''}{why}"]
    return None, ["nothing to recommend: no number of workers completed the batch"]


def _decide_without_gain(usable: Sequence[Point], baseline: Point, physical_cores: int) -> tuple[int | None, list[str]]:
    """No point is reliably faster than the sequential program."""
    best = max(usable, key=_rate)
    which = "the only point measured" if len(usable) == 1 else "the best point"
    reached = f"{which}, {_workers(best.workers)}, reaches {_speedup(best)}"
    repeats = min(len(best.rates), len(baseline.rates))
    needed = repeats_to_compare(best.comparisons)
    if best.speedup is None or best.speedup.ci95 is None or repeats < needed:
        return None, [f"can't tell: {reached}, and {_too_few(repeats, needed)}"]
    low, high = best.speedup.ci95
    interval = f"{reached} ({_interval(low, high)})"
    if max(_ends(point)[1] for point in usable) <= WORTH:
        why = [*_largest_loss(best), *_longer_tasks(usable, baseline, physical_cores)]
        return 0, [f"don't parallelise this: {interval}", *why]
    return None, [f"can't tell: {interval}", _describe_needed(best, repeats)]


def _too_few(repeats: int, needed: int) -> str:
    return f"{repeats} repeat{'s' if repeats != 1 else ''} can't rule out chance, {needed} can"


def _describe_needed(best: Point, repeats: int) -> str:
    """How many repeats would tell, if the speedup is the one that was measured."""
    found: list[int | None] = []
    if best.speedup and best.speedup.ci95:
        value, high = best.speedup.value, best.speedup.ci95[1]
        if value > 1 and best.least_speedup is not None:
            found.append(repeats_to_exclude(repeats, value, best.least_speedup, 1.0))
        if value < WORTH:
            found.append(repeats_to_exclude(repeats, value, high, WORTH))
    needed = min((count for count in found if count), default=None)
    if needed is None:
        return f"no number of repeats would tell: the speedup is too close to {1 if not found else WORTH:g}"
    return f"about {max(needed, repeats + 1)} repeats would tell"


def _largest_loss(point: Point) -> list[str]:
    """The part that most of the workers' time goes to, beside the work."""
    if not point.losses or sum(point.losses.values()) <= 0:
        return []
    name = max((name for name in point.losses if name != "useful"), key=point.losses.__getitem__)
    share = 100 * point.losses[name] / sum(point.losses.values())
    return [f"{share:.0f} % of the workers' time goes to {name.replace('_', ' ')}"]


def _longer_tasks(usable: Sequence[Point], baseline: Point, physical_cores: int) -> list[str]:
    """How much longer tasks would have to be, were the time that is not work the same."""
    fitting = [point for point in usable if LONGER_SPEEDUP < point.workers <= physical_cores and point.wall_s]
    if not fitting or baseline.wall_s is None:
        return []
    point, work_s = max(fitting, key=_rate), baseline.wall_s.value
    if point.speedup and point.wall_s:
        work_s = point.speedup.value * point.wall_s.value  # with weak scaling that of the grown batch
    overhead_s = point.wall_s.value - work_s / point.workers if point.wall_s else 0.0
    times = LONGER_SPEEDUP * overhead_s / (work_s * (1 - LONGER_SPEEDUP / point.workers))
    if times <= 1:
        return []
    shown = f"{times:.0f}" if times >= 3 else f"{times:.1f}"
    return [f"tasks {shown} times as long would reach {LONGER_SPEEDUP}x with {_workers(point.workers)}"]


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
            gained = estimate_ratio(peak.rates, half.rates).ci95
            climbs = "still climbs" if gained and gained[0] > 1 else "may still climb"
            clauses.append(
                f"throughput {climbs} at {_workers(peak.workers)} ({gain:.0f} % above {half.workers}), "
                "so the peak was not reached within what was measured"
            )
    return clauses


def _describe_impossible(usable: Sequence[Point]) -> list[str]:
    """The clause that says why no speedup can be trusted, if one can't be."""
    found = [point for point in usable if is_impossible(point)]
    if not found:
        return []
    worst = max(found, key=_least_efficiency)
    reach = "reaches" if worst.workers == 1 else "reach"
    return [
        f"can't tell: {_workers(worst.workers)} {reach} {_speedup(worst)}, an efficiency of {_efficiency(worst)}, "
        "which can't be: something else slowed the sequential program, so a quiet host has to measure it again"
    ]


def _efficiency_caution(chosen: Point, usable: Sequence[Point]) -> list[str]:
    """A word on an efficiency that is too good to be that of the work alone, at the point chosen or at another one."""
    found = max([chosen, *usable], key=_least_efficiency)
    if not TOO_GOOD < _least_efficiency(found) <= IMPOSSIBLE:
        return []
    where = "" if found is chosen else f" with {_workers(found.workers)}"
    return [
        f"an efficiency of {_efficiency(found)}{where} says that the sequential program was slowed by something else"
    ]


def _cautions(chosen: Point, baseline: Point | None, physical_cores: int) -> list[str]:
    """Everything that weakens the evidence at a point, or explains it."""
    clauses = []
    waits = _waiting_share(baseline)
    if waits and chosen.mode == "processes":
        clauses.append(
            f"tasks wait for {100 * waits:.0f} % of their time, so one core could also run them on threads or asyncio "
            "(--use-threads measures threads)"
        )
    if chosen.errors:
        trials = chosen.repeats + len(chosen.errors)
        clauses.append(f"{len(chosen.errors)} of {trials} trials with {_workers(chosen.workers)} failed")
    if chosen.oversubscribed and not waits:
        cores = f"{physical_cores} physical core{'s' if physical_cores != 1 else ''}"
        clauses.append(f"oversubscribed: {_workers(chosen.workers)} share {cores}")
    return clauses


def _incidents(points: Sequence[Point], baseline: Point | None, physical_cores: int) -> list[str]:
    """Everything that happened at any point and weakens the comparison of points."""
    clauses = []
    everyone = [*([baseline] if baseline else []), *points]
    load = max((point.other_load for point in everyone if point.other_load is not None), default=0.0)
    if load > BUSY * physical_cores:
        cores = f"{physical_cores} core{'s' if physical_cores != 1 else ''}"
        clauses.append(f"the host was busy with other work (a load of {load:.0f} on {cores})")
    return clauses + describe_lacks(points)


def describe_lacks(points: Sequence[Point]) -> list[str]:
    """The workers that died, and the slots that the cluster lacked, a clause each."""
    clauses = []
    if lost := {point.workers: point.workers_lost for point in points if point.workers_lost}:
        clauses.append(f"{_workers(sum(lost.values()))} died in the trials with {_list(list(lost))}")
    if underserved := [point for point in points if point.underserved]:
        served = ", ".join(f"{point.served} of {point.workers}" for point in underserved)
        clauses.append(f"the cluster could run only {served} workers at once")
    return clauses


def _waiting_share(baseline: Point | None) -> float | None:
    """The part of their time that tasks wait, if it is most of it. Beside others a task waits for cores, too."""
    share = baseline.cpu_share if baseline else None
    return 1 - share if share is not None and share < WAITS else None


def is_impossible(point: Point) -> bool:
    """True if its efficiency can't be: something else slowed the sequential program."""
    return _least_efficiency(point) > IMPOSSIBLE


def _least_efficiency(point: Point) -> float:
    return point.efficiency.ci95[0] if point.efficiency and point.efficiency.ci95 else 0.0


def _why_left_out(point: Point, points: Sequence[Point], baseline: Point | None) -> str:
    if point.wall_s is None or point.success_rate is None:
        return "every trial failed" if point.errors else "nothing was measured"
    if not point.success_rate:
        return "no task completed"
    if point.rates and not point.loses_more:
        return ""
    expected = _best_success_rate(points, baseline)
    against = "in the sequential program" if baseline and baseline.success_rate == expected else "at the best point"
    if point.success_rate >= expected:
        return "the typical repeat completed fewer tasks than at another point"
    lost, normal = 100 * (1 - point.success_rate), 100 * (1 - expected)
    return f"{lost:.2g} % of the tasks did not complete, {normal:.2g} % {against}"


def _best_success_rate(points: Sequence[Point], baseline: Point | None) -> float:
    return max(one.success_rate or 0.0 for one in [*([baseline] if baseline else []), *points])


def _describe_lost(usable: Sequence[Point], baseline: Point | None) -> list[str]:
    """The tasks that were lost at points that take part: where others have lost a smaller share, and everywhere."""
    compared = find_comparable(baseline)
    everyone = [*([compared] if compared else []), *usable]
    best = max((one.success_rate or 0.0 for one in everyone), default=0.0)
    lost = [
        f"{one.lost:,} of {one.tasks:,} tasks with {_workers(one.workers) if one.workers else 'the sequential program'}"
        for one in everyone
        if (one.success_rate or 0.0) < best
    ]
    clauses = [f"{', '.join(lost)} did not complete, which may be chance"] if lost else []
    if usable and best < 1:
        point = max(everyone, key=lambda one: one.success_rate or 0.0)
        clauses.append(f"nowhere did all tasks complete: at best {point.lost:,} of {point.tasks:,} were lost")
    return clauses


def warn_of_answers(points: Sequence[Point], baseline: Point | None) -> str:
    """A sentence that precedes the recommendation if not all answers are equal; else nothing."""
    everyone = [*([baseline] if baseline else []), *points]
    unstable = [point for point in everyone if len(point.digests) > 1]
    stable = [point for point in everyone if point.digest is not None]
    changed = [point for point in stable[1:] if point.digest != stable[0].digest]
    modes = sorted({point.mode for point in points})

    def name(found: Sequence[Point]) -> str:
        if len(modes) < 2:
            return _list([point.workers for point in found])
        parts = [_list([0])] if baseline in found else []
        for mode in modes:
            if counts := [point.workers for point in found if point.workers and point.mode == mode]:
                parts.append(f"{_list(counts)} on {mode}")
        return " and ".join(parts)

    found = []
    if changed:
        found.append(f"the digest at {name(changed)} is not that of {name(stable[:1])}")
    if unstable:
        found.append(f"the digest changed between repeats of {name(unstable)}")
    return f"WARNING, the answers changed: {' and '.join(found)}. Apart from that: " if found else ""


def _ends(point: Point) -> tuple[float, float]:
    """The interval of the speedup; where there is none, nothing is known."""
    return (point.speedup and point.speedup.ci95) or (0.0, float("inf"))


def _near_peak(point: Point, peak: Point) -> bool:
    ratio = estimate_ratio(point.rates, peak.rates)
    return (ratio.ci95 or (0.0, ratio.value))[1] >= NEAR_PEAK and ratio.value >= NOISE_EXCUSES


def _rate(point: Point) -> float:
    return median(point.rates) if point.rates else 0.0


def _speedup(point: Point) -> str:
    return f"{show_number(point.speedup.value)}x the sequential program" if point.speedup else "no speedup"


def _efficiency(point: Point) -> str:
    return f"{100 * point.efficiency.value:.0f} %" if point.efficiency else ""


def _interval(low: float, high: float) -> str:
    return f"95 % interval {show_number(low)} to {show_number(high)}"


def _workers(number: int) -> str:
    return f"{number} worker{'s' if number != 1 else ''}"


def _list(numbers: Sequence[int]) -> str:
    """E.g. `the baseline and 2, 4 workers`."""
    names = ["the baseline"] if 0 in numbers else []
    if counts := [number for number in numbers if number]:
        names.append(f"{', '.join(map(str, counts[:-1]))}{', ' if counts[1:] else ''}{_workers(counts[-1])}")
    return " and ".join(names)
