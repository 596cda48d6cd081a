"""`summary.json`: a whole study as one dict that scripts rely on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

from dfz_ray.scaling.choices import Goals, choice_entry, choose
from dfz_ray.scaling.cpu_use import find_overuse
from dfz_ray.scaling.estimate import Estimate
from dfz_ray.scaling.evidence import WAITS, describe_lacks, find_left_out, is_impossible, warn_of_answers
from dfz_ray.scaling.laws import Fit, fit_laws
from dfz_ray.scaling.losses import advise, find_largest, pop_ratios
from dfz_ray.scaling.measurement import Measurement, Scaling
from dfz_ray.scaling.number_texts import show_workers
from dfz_ray.scaling.outlook import describe_share, rate_of
from dfz_ray.scaling.point import Point, estimate_points, find_comparable, is_steady
from dfz_ray.scaling.recommendation import recommend

SCHEMA_VERSION = 1
DEFAULT_GOALS = Goals()


def build_summary(
    *,
    host: Mapping[str, Any],
    batch: Mapping[str, Any],
    mode: str,
    measurements: Sequence[Measurement],
    physical_cores: int,
    cpus_per_task: float,
    seed: int = 0,
    command: str | None = None,
    why_ended: str | None = None,
    scaling: Scaling = "strong",
    goals: Goals = DEFAULT_GOALS,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """Sum up a study in plain values, with the keys in the order of the file; a value that was not measured is None.

    The batch has `domains` and `count`; its other keys are kept. The mode is `processes`, `threads`, or `processes and
    threads`. See `estimate_points` for the cores. The seed is that of the plan. The remarks, on the cluster, end the
    sentence of the recommendation.
    """
    overuse = find_overuse(measurements)
    said = [*remarks, *(use.describe() for use in overuse)]
    baseline, points = estimate_points(measurements, physical_cores=physical_cores, cpus_per_task=cpus_per_task)
    said += _describe_passed_over(points, baseline)
    started_at = min((measurement.started_at for measurement in measurements), default=None)
    return {
        "schema_version": SCHEMA_VERSION,
        "host": dict(host),
        "batch": {**batch, "digest": _batch_digest(baseline, points)},
        "mode": mode,
        "baseline": _baseline_entry(baseline),
        "points": [_point_entry(point) for point in points],
        "fits": _fits(points, baseline, physical_cores, scaling),
        "recommendation": {
            **_recommend(points, baseline, physical_cores, said, scaling),
            "choices": _choices(points, baseline, goals),
        },
        "digests_equal": _digests_equal(baseline, points),
        "physical_cores": physical_cores,
        "cpus_per_task": cpus_per_task,
        "repeats": max((point.repeats for point in points), default=0),
        "is_steady": is_steady(measurements),
        "seed": seed,
        "why_ended": why_ended,
        "scaling": scaling,
        "overuse": [asdict(use) for use in overuse],
        "remarks": list(remarks),
        "price": goals.price,
        "efficiency_goal": goals.efficiency,
        "command": command,
        "created": datetime.fromtimestamp(started_at, UTC).isoformat(timespec="seconds")
        if started_at is not None
        else None,
    }


def _baseline_entry(baseline: Point | None) -> dict[str, Any]:
    entry = _point_entry(baseline) if baseline else {"repeats": 0, "errors": []}
    keys = ("wall_s", "wall_s_ci95", "repeats", "tasks_per_s", "tasks_per_s_ci95", "success_rate", "digest")
    rest = ("warm_up_s", "errors", "cpu_share", "other_load", "core_hours", "core_hours_ci95", "digests")
    return {key: entry.get(key) for key in (*keys, *rest)}


def _point_entry(point: Point) -> dict[str, Any]:
    return {
        "workers": point.workers,
        "wall_s": _value(point.wall_s),
        "wall_s_ci95": _interval(point.wall_s),
        "speedup": _value(point.speedup),
        "speedup_ci95": _interval(point.speedup),
        "efficiency": _value(point.efficiency),
        "tasks_per_s": _value(point.tasks_per_s),
        "avg_concurrency": point.avg_concurrency,
        "max_concurrency": point.max_concurrency,
        "success_rate": point.success_rate,
        "digest": point.digest,
        "served": point.served,
        "oversubscribed": point.oversubscribed,
        "losses": _losses_entry(point),
        "efficiency_ci95": _interval(point.efficiency),
        "tasks_per_s_ci95": _interval(point.tasks_per_s),
        "warm_up_s": point.warm_up_s,
        "repeats": point.repeats,
        "errors": list(point.errors),
        "mode": point.mode,
        "cpu_share": point.cpu_share,
        "workers_lost": point.workers_lost,
        "load": point.load,
        "other_load": point.other_load,
        "core_hours": _value(point.core_hours),
        "core_hours_ci95": _interval(point.core_hours),
        "digests": list(point.digests),
    }


def _losses_entry(point: Point) -> dict[str, Any] | None:
    """Slot-seconds by part; the part that costs most, besides the work, with what to do about it; and POP's ratios."""
    if point.losses is None:
        return None
    return {
        "slot_s": dict(point.losses),
        "slower_s": None if point.slower is None else dict(point.slower),
        "slower_reason": point.slower_reason,
        "handling_s": point.handling_s,
        "largest": find_largest(point.losses),
        "advice": advise(
            point.losses,
            point.slower,
            point.handling_s,
            manager_full=point.manager_full,
            underserved=point.underserved,
        ),
        "pop": pop_ratios(point.losses, point.workers, point.busiest_s),
        "lost": point.losses_lost,
    }


def _fits(points: Sequence[Point], baseline: Point | None, physical_cores: int, scaling: Scaling) -> dict[str, Any]:
    """The laws, fitted to the points that have a core for each worker; null, and the reason, where there is no fit.

    Workers whose tasks wait need no core each. Points that take no part in the recommendation are not fitted.
    """
    needs_cores = baseline is None or baseline.cpu_share is None or baseline.cpu_share >= WAITS
    if len({point.mode for point in points}) > 1:
        nothing = dict.fromkeys(("amdahl", "usl", "gustafson", "chosen"))
        return {**nothing, "reason": "a law is of one mode, and two were measured"}
    left_out = find_left_out(points, baseline)
    fitted = [
        point
        for point in points
        if point.workers not in left_out and not point.underserved and not (point.oversubscribed and needs_cores)
    ]
    chosen, fits = fit_laws([point.workers for point in fitted], [median(point.rates) for point in fitted], scaling)
    cores = f"with a core for each worker ({physical_cores} cores){', without those left out' if left_out else ''}"
    return {
        **{
            name: _fit_entry(fit) if isinstance(fit := fits[name], Fit) else None
            for name in ("amdahl", "usl", "gustafson")
        },
        "workers": [point.workers for point in fitted],
        "chosen": chosen.law if chosen else None,
        "reason": None if chosen else f"{fits['usl']} {cores}",
    }


def _fit_entry(fit: Fit) -> dict[str, Any]:
    return {
        **fit.parameters,
        "ci95": {name: list(ends) if ends else None for name, ends in fit.ci95.items()},
        "residual_error": fit.residual_error,
        "aicc": fit.aicc if math.isfinite(fit.aicc) else None,
        "left_out_error": fit.left_out_error,
        "peak": fit.peak,
        "says": fit.limit,
        "relative_error": fit.relative_error,
    }


def _recommend(
    points: Sequence[Point], baseline: Point | None, physical_cores: int, remarks: Sequence[str], scaling: Scaling
) -> dict[str, Any]:
    """The recommendation. Where two modes were measured, it is that of the better one, and has its mode.

    If neither surely gains, and one can't be told, the study can't tell.
    """
    prefix = "the batch grows with the workers (weak scaling): " if scaling == "weak" else ""
    prefix += warn_of_answers(points, baseline)
    modes = sorted({point.mode for point in points})
    if len(modes) < 2:
        only = recommend(points, baseline, physical_cores=physical_cores, remarks=remarks)
        return {"workers": only.workers, "reason": prefix + only.reason}
    found, chosen = {}, {}
    for mode in modes:
        measured = [point for point in points if point.mode == mode]
        others = [point for point in points if point.mode != mode]
        found[mode] = recommend(measured, baseline, physical_cores=physical_cores, others=others)
        chosen[mode] = next((point for point in measured if point.workers == found[mode].workers), None)
    rates = {mode: rate_of(point) if point else 0.0 for mode, point in chosen.items()}
    best, other = sorted(modes, key=lambda mode: (-rates[mode], found[mode].workers is not None))
    reason = f"{prefix}with {best}: {found[best].reason}; with {other}: "
    if (mine := chosen[other]) and (winner := chosen[best]):
        share = describe_share(mine, winner)
        reason += f"{share} of that throughput, at the best number of workers there ({mine.workers})"
        reason = "; ".join([reason, *describe_lacks([point for point in points if point.mode == other])])
    else:
        reason += found[other].reason
    return {
        "workers": found[best].workers,
        "mode": best if rates[best] else None,
        "reason": "; ".join([reason, *remarks]),
    }


def _choices(points: Sequence[Point], baseline: Point | None, goals: Goals) -> list[dict[str, Any]]:
    """The choices among the points that take part in the recommendation of their mode.

    A choice rests on medians, so the typical repeat must have completed as many tasks as those of others. If something
    else slowed the sequential program, it is no choice, and no efficiency is known.
    """
    usable = [point for point in _find_usable(points, baseline) if point.typically_complete]
    if baseline and not baseline.typically_complete:
        baseline = None
    if any(map(is_impossible, usable)):
        baseline, usable = None, [replace(point, efficiency=None) for point in usable]
    in_order = sorted(usable, key=lambda point: (point.workers, point.mode))
    return [choice_entry(choice) for choice in choose(in_order, baseline, goals)]


def _describe_passed_over(points: Sequence[Point], baseline: Point | None) -> list[str]:
    """The clause that names who takes no part in the choices, though chance alone may have lost the tasks."""
    compared = find_comparable(baseline)
    everyone = [*([compared] if compared else []), *sorted(_find_usable(points, baseline), key=lambda one: one.workers)]
    names = dict.fromkeys(show_workers(one.workers) for one in everyone if not one.typically_complete)
    if not names or len(names) == len({one.workers for one in everyone}):
        return []
    why = "their typical repeat completed fewer tasks than at another point"
    return [f"the choices by goal leave out {', '.join(names)}: {why}"]


def _find_usable(points: Sequence[Point], baseline: Point | None) -> list[Point]:
    """The points that take part in the recommendation of their mode."""
    usable: list[Point] = []
    for mode in {point.mode for point in points}:
        mine = [point for point in points if point.mode == mode]
        left_out = find_left_out(mine, baseline)
        usable += [point for point in mine if point.workers not in left_out]
    return usable


def _value(estimate: Estimate | None) -> float | None:
    return estimate.value if estimate else None


def _interval(estimate: Estimate | None) -> list[float] | None:
    return list(estimate.ci95) if estimate and estimate.ci95 else None


def _batch_digest(baseline: Point | None, points: Sequence[Point]) -> str | None:
    """The digest of the baseline, or else of all points; None if repeats of one point disagree."""
    everyone = [*([baseline] if baseline else []), *points]
    if any(len(point.digests) > 1 for point in everyone):
        return None
    if baseline and baseline.digest:
        return baseline.digest
    digests = {point.digest for point in points if point.digest is not None}
    return digests.pop() if len(digests) == 1 else None


def _digests_equal(baseline: Point | None, points: Sequence[Point]) -> bool | None:
    """True if every trial gave the same answers; None if there are not two digests to compare."""
    everyone = [*([baseline] if baseline else []), *points]
    if sum(point.answered for point in everyone) < 2:
        return None
    return len({digest for point in everyone for digest in point.digests}) == 1
