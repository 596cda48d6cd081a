"""The recommendation: how many workers to use, in a sentence whose every number was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dfz_ray.scaling.estimate import Estimate, bound_ratios, estimate_ratio, repeats_to_compare
from dfz_ray.scaling.evidence import (
    caution_of_efficiency,
    describe_cautions,
    describe_impossible,
    describe_incidents,
    describe_lost,
    describe_speedup,
    find_left_out,
)
from dfz_ray.scaling.number_texts import show_number, show_plain, show_workers
from dfz_ray.scaling.outlook import (
    describe_longer_tasks,
    describe_more_workers,
    describe_rank,
    is_near_peak,
    rate_of,
)
from dfz_ray.scaling.point import Point, find_comparable
from dfz_ray.scaling.stopping import MOST_TOLD, repeats_to_exclude, repeats_to_tell

WORTH = 1.05
"""A speedup that is surely below this is not worth a cluster."""
TOO_MANY = f"more than {MOST_TOLD:,} repeats would be needed to tell"
"""The beginning of a clause that gives no number of repeats, for nobody would make so many."""


@dataclass(frozen=True)
class Recommendation:
    """The advice of a study."""

    workers: int | None
    """0: the sequential program is the best; None: the study can't tell."""
    reason: str


def verdict_ratio(points: Sequence[Point], baseline: Point | None, *, physical_cores: int) -> Estimate | None:
    """The ratio that the recommendation rests on; None if there is nothing to compare, however many repeats there are.

    It is a speedup, or, without a sequential program to compare with, the gain over the smallest number of workers. It
    has no interval while only chance may have kept either of them from completing as many tasks.
    """
    left_out = find_left_out(points, baseline)
    usable = [point for point in points if point.workers not in left_out]
    compared = find_comparable(baseline)
    everyone = [*([baseline] if baseline else []), *points]
    unproven = any(one.success_rate and not one.rates and not one.loses_more for one in everyone)
    if unproven and not (usable and compared):
        return Estimate(1.0, None)
    if not usable or (len(usable) == 1 and not compared):
        return None
    workers = recommend(points, baseline, physical_cores=physical_cores).workers
    against = usable if compared else usable[1:]
    chosen = next((point for point in against if point.workers == workers), max(against, key=rate_of))
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
    the reason says how many repeats would. Close to the peak: see `is_near_peak`. Points at which surely fewer tasks
    complete than in the baseline, or none of whose repeats completed as many, take no part. The smallest number of
    workers takes the place of a baseline that was not measured, or in which surely fewer tasks complete than at a
    point. If none of its repeats, or of theirs, completed as many as others, and that may be chance, the study can't
    tell. If any point, also of the `others`, those of another mode, has an efficiency that can't be, the baseline
    is wrong, and with it every speedup. The remarks are about the whole study, and end the sentence.
    """
    left_out = find_left_out(points, baseline)
    usable = [point for point in points if point.workers not in left_out]
    if not usable:
        workers, clauses = _decide_without_points(points, baseline)
    elif compared := find_comparable(baseline):
        out_there = find_left_out(others, baseline)
        impossible = describe_impossible([*usable, *(point for point in others if point.workers not in out_there)])
        workers, clauses = (None, impossible) if impossible else _decide(usable, compared, physical_cores)
    elif baseline and baseline.success_rate is not None and not baseline.loses_more:
        lost = "in the sequential program tasks fail that complete with workers"
        workers, clauses = None, [_describe_unproven(lost, [baseline], usable[0])]
    else:
        workers, clauses = _decide_without_baseline(usable, baseline)
    judged = next((point for point in usable if point.workers == workers), max(usable, key=rate_of, default=None))
    if judged:
        clauses += caution_of_efficiency(judged, usable)
        clauses += describe_cautions(judged, baseline, physical_cores, knows_threads=bool(others))
    clauses += describe_lost(usable, baseline)
    clauses += describe_incidents(points, baseline, physical_cores)
    if left_out:
        clauses.append("left out: " + ", ".join(f"{show_workers(n)} ({why})" for n, why in left_out.items()))
    return Recommendation(workers, "; ".join([*clauses, *remarks]))


def _decide(usable: Sequence[Point], baseline: Point, physical_cores: int) -> tuple[int | None, list[str]]:
    faster = [point for point in usable if point.least_speedup is not None and point.least_speedup > 1]
    if not faster:
        return _decide_without_gain(usable, baseline, physical_cores)
    peak = max(usable, key=rate_of)
    chosen = next((point for point in faster if is_near_peak(point, peak)), max(faster, key=rate_of))
    return chosen.workers, [
        f"use {show_workers(chosen.workers)}: {describe_rank(chosen, peak, usable)} ({describe_speedup(chosen)})",
        *describe_more_workers(chosen, peak, usable),
    ]


def _decide_without_baseline(usable: Sequence[Point], baseline: Point | None) -> tuple[int | None, list[str]]:
    unknown = "was not measured" if baseline is None else "failed"
    if baseline and baseline.success_rate is not None:
        unknown = f"did not complete {show_plain(100 * (1 - baseline.success_rate))} % of the tasks"
    caveat = f"the sequential program {unknown}, so whether workers pay at all is unknown"
    peak = max(usable, key=rate_of)
    if len(usable) == 1:
        return None, [
            f"nothing to compare {show_workers(peak.workers)} ({show_plain(rate_of(peak))} tasks/s) with: "
            f"only one point was measured and {caveat}"
        ]
    smallest, *larger = usable
    reached = f"can't tell: the best point, {show_workers(peak.workers)}, reaches {show_plain(rate_of(peak))} tasks/s"
    repeats, least = min(len(smallest.rates), len(peak.rates)), repeats_to_compare(len(larger))
    if repeats < least:
        return None, [f"{reached}, and {_too_few(repeats, least)}", caveat]
    bounds = [bound_ratios([point.rates], [smallest.rates], len(larger))[0] for point in larger]
    faster = [point for point, bound in zip(larger, bounds, strict=True) if bound is not None and bound > 1]
    chosen = next(
        (point for point in (smallest, *faster) if is_near_peak(point, peak)), max(faster, key=rate_of, default=None)
    )
    if chosen is None:
        ratio = estimate_ratio(peak.rates, smallest.rates)
        low, high = ratio.ci95 or (0.0, float("inf"))
        interval = f"{show_number(ratio.value)}x that of {show_workers(smallest.workers)} ({_interval(low, high)})"
        needed = repeats_to_tell(repeats, ratio)
        more = f"about {max(needed, repeats + 1)} repeats would tell" if needed else f"{TOO_MANY} the two apart"
        return None, [f"{reached}, {interval}", more, caveat]
    reached = f"{describe_rank(chosen, peak, usable)} ({show_plain(rate_of(chosen))} tasks/s)"
    return chosen.workers, [
        f"use {show_workers(chosen.workers)}: {reached}",
        *describe_more_workers(chosen, peak, usable),
        caveat,
    ]


def _decide_without_points(points: Sequence[Point], baseline: Point | None) -> tuple[int | None, list[str]]:
    if not points:
        return None, ["nothing to recommend: no trial with workers was measured"]
    ended = [point for point in points if point.wall_s]
    if baseline and ended and rate_of(baseline):
        unlike = "with workers, tasks fail that the sequential program completes"
        if all(point.loses_more for point in ended):
            return 0, [f"don't parallelise this: {unlike}"]
        return None, [_describe_unproven(unlike, [point for point in ended if not point.loses_more], baseline)]
    return None, ["nothing to recommend: no number of workers completed the batch"]


def _describe_unproven(lost: str, losing: Sequence[Point], against: Point) -> str:
    """The words on tasks that were lost in every repeat, and why that proves nothing."""
    repeats = min(point.repeats for point in (*losing, against))
    needed = repeats_to_compare(against.comparisons)
    if repeats < needed:
        return f"can't tell: {lost}, and {_too_few(repeats, needed)}"
    proving = [point.repeats_to_prove for point in losing]
    more = f"; about {max(filter(None, proving))} repeats would tell" if all(proving) else ""
    return f"can't tell: {lost}, which may be chance{more}"


def _decide_without_gain(usable: Sequence[Point], baseline: Point, physical_cores: int) -> tuple[int | None, list[str]]:
    """No point is reliably faster than the sequential program."""
    best = max(usable, key=rate_of)
    which = "the only point measured" if len(usable) == 1 else "the best point"
    reached = f"{which}, {show_workers(best.workers)}, reaches {describe_speedup(best)}"
    repeats = min(len(best.rates), len(baseline.rates))
    needed = repeats_to_compare(best.comparisons)
    if best.speedup is None or best.speedup.ci95 is None or repeats < needed:
        return None, [f"can't tell: {reached}, and {_too_few(repeats, needed)}"]
    low, high = best.speedup.ci95
    interval = f"{reached} ({_interval(low, high)})"
    if max(_ends(point)[1] for point in usable) <= WORTH:
        why = [*_largest_loss(best), *describe_longer_tasks(usable, baseline, physical_cores)]
        return 0, [f"don't parallelise this: {interval}", *why]
    return None, [f"can't tell: {interval}", _describe_needed(best, repeats)]


def _too_few(repeats: int, needed: int) -> str:
    return f"{repeats} repeat{'s' if repeats != 1 else ''} can't rule out chance, {needed} can"


def _describe_needed(best: Point, repeats: int) -> str:
    """How many repeats would tell, if the speedup is the one that was measured."""
    if best.speedup is None or best.speedup.ci95 is None:
        return ""
    value, high = best.speedup.value, best.speedup.ci95[1]
    ends = {1.0: best.least_speedup} if value > 1 else {}
    if value < WORTH:
        ends[WORTH] = high
    found = {limit: end and repeats_to_exclude(repeats, value, end, limit) for limit, end in ends.items()}
    if needed := min(filter(None, found.values()), default=None):
        return f"about {max(needed, repeats + 1)} repeats would tell"
    farthest = max(ends, key=lambda limit: abs(math.log(limit / value)))
    return f"{TOO_MANY} the speedup from {farthest:g}"


def _largest_loss(point: Point) -> list[str]:
    """The part that most of the workers' time goes to, beside the work."""
    if not point.losses or sum(point.losses.values()) <= 0:
        return []
    name = max((name for name in point.losses if name != "useful"), key=point.losses.__getitem__)
    share = 100 * point.losses[name] / sum(point.losses.values())
    return [f"{share:.0f} % of the workers' time goes to {name.replace('_', ' ')}"]


def _ends(point: Point) -> tuple[float, float]:
    """The interval of the speedup; where there is none, nothing is known."""
    return (point.speedup and point.speedup.ci95) or (0.0, float("inf"))


def _interval(low: float, high: float) -> str:
    return f"95 % interval {show_number(low)} to {show_number(high)}"
