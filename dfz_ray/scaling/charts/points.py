"""Charts over the number of workers: speedup, efficiency, and cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dfz_ray.scaling.charts.law_curve import law_curve
from dfz_ray.scaling.charts.plot import Chart, Legend, LinearScale, LogScale, Plot, Scale
from dfz_ray.scaling.number_texts import show_number, show_percent, show_plain

MANY_POINTS = 8
"""With more points than this, the axis names only powers of two."""
LAW_NAMES = {"amdahl": "Amdahl's law", "gustafson": "Gustafson's law", "usl": "Universal Scalability Law"}
STYLES = {"processes": ("c1", False), "threads": ("c3", True)}
"""Colour of each mode, and true for squares instead of circles."""

Entry = Mapping[str, Any]


def draw_speedup(summary: Mapping[str, Any]) -> Chart | None:
    """Speedup over workers, both logarithmic; None where there is no speedup."""
    points = [point for point in summary["points"] if point["speedup"]]
    if not points:
        return None
    curve = law_curve(summary)
    ends = [end for point in points for end in (point["speedup_ci95"] or [point["speedup"]])]
    workers = [point["workers"] for point in points]

    def write(value: float) -> str:
        return show_number(value, "x")

    plot = Plot("speedup", "Speedup over the number of workers", _describe(points, "speedup", write))
    x = _workers_axis(plot, summary, plot.top + 12)
    high = max(*ends, min(max(workers), 2 * max(ends)), 1.0) * 1.3
    y = LogScale(min(*ends, 1.0) / 1.3, high, plot.bottom, plot.top)
    plot.y_axis(y, y.ticks(), lambda value: f"{show_plain(value)}x")
    legend = [Legend("line ideal", "ideal: N times"), Legend("line sequential", "sequential program")]
    plot.path([(x(n), y(n)) for n in (min(workers), min(max(workers), high))], "ideal")
    plot.line((plot.left, y(1)), (plot.right, y(1)), "sequential")
    if curve:
        plot.area(
            [(x(one.workers), y(one.high)) for one in curve], [(x(one.workers), y(one.low)) for one in curve], "band"
        )
        plot.path([(x(one.workers), y(one.speedup)) for one in curve], "law")
        name = LAW_NAMES.get(summary["fits"]["chosen"], "law")
        legend.append(Legend("line law", f"{name}, with the band of its fit"))
    legend += _draw_points(plot, summary, points, "speedup", x, y, write)
    return Chart(
        "Speedup", plot.svg(), legend, "How many times faster than the sequential program; both axes are logarithmic."
    )


def draw_efficiency(summary: Mapping[str, Any]) -> Chart | None:
    """Efficiency over workers, from 0; None where there is no speedup."""
    points = [point for point in summary["points"] if point["efficiency"] is not None]
    if not points:
        return None
    ends = [end for point in points for end in (point["efficiency_ci95"] or [point["efficiency"]])]
    plot = Plot("efficiency", "Efficiency over the number of workers", _describe(points, "efficiency", show_percent))
    x = _workers_axis(plot, summary)
    y = LinearScale(0.0, max(1.05, *ends) * 1.04, plot.bottom, plot.top)
    plot.y_axis(y, y.ticks(), show_percent)
    plot.line((plot.left, y(1)), (plot.right, y(1)), "ideal")
    goal = summary["efficiency_goal"]
    plot.line((plot.left, y(goal)), (plot.right, y(goal)), "target")
    legend = [Legend("line ideal", "ideal: 100 %"), Legend("line target", f"{show_percent(goal)} of it")]
    legend += _draw_points(plot, summary, points, "efficiency", x, y, show_percent)
    return Chart("Efficiency", plot.svg(), legend, "Speedup over workers: the part of the workers that is put to use.")


def draw_cost(summary: Mapping[str, Any], costs: Sequence[tuple[Entry, float]], unit: str) -> Chart | None:
    """Cost over workers, from 0.

    Args:
        summary: of the study.
        costs: of the sequential program, if it was measured, and of each point.
        unit: what they are given in.
    """
    drawn = [
        ({**point, "cost": cost, "cost_ci95": _scale_interval(point, cost)}, cost)
        for point, cost in costs
        if point.get("workers")
    ]
    if not drawn:
        return None
    points = [point for point, _ in drawn]

    def write(value: float) -> str:
        return f"{show_plain(value)} {unit}"

    plot = Plot(
        "cost",
        "Cost of the batch over the number of workers",
        _describe(points, "cost", write),
    )
    x = _workers_axis(plot, summary)
    y = LinearScale(0.0, max(cost for _, cost in costs) * 1.1 or 1.0, plot.bottom, plot.top)
    plot.y_axis(y, y.ticks(), show_plain)
    legend, cpus = [], min(summary["cpus_per_task"], summary["physical_cores"])
    for point, cost in costs:
        if not point.get("workers"):
            plot.line((plot.left, y(cost)), (plot.right, y(cost)), "sequential", write(cost))
            held = "one core" if cpus <= 1 else f"{cpus:g} cores"
            legend.append(Legend("line sequential", f"sequential program, {held}: {write(cost)}"))
    legend += _draw_points(plot, summary, points, "cost", x, y, write)
    caption = f"In {unit}, for the batch once: the cores that the workers hold, times the time."
    return Chart("What it costs", plot.svg(), legend, caption)


def _scale_interval(point: Entry, cost: float) -> list[float] | None:
    """The interval of a cost: that of the wall time, since all else is exact."""
    return [cost * end / point["wall_s"] for end in point["wall_s_ci95"]] if point["wall_s_ci95"] else None


def _workers_axis(plot: Plot, summary: Mapping[str, Any], note_y: float | None = None) -> Scale:
    """The logarithmic axis of workers; what lies beyond the physical cores is shaded.

    Where the note on the cores is left of them, it stands at the given height.
    """
    workers = sorted({point["workers"] for point in summary["points"]})
    margin = 1.25 if len(workers) > 1 else 2.0
    x = LogScale(workers[0] / margin, workers[-1] * margin, plot.left, plot.right)
    cpus = summary["cpus_per_task"]
    cores = summary["physical_cores"] / cpus if cpus else math.inf  # tasks that declare none never outnumber the cores
    if x.low < cores < x.high:
        plot.rectangle((x(cores), plot.top), plot.right - x(cores), plot.bottom - plot.top, "beyond")
    elif cores <= x.low:
        plot.rectangle((plot.left, plot.top), plot.right - plot.left, plot.bottom - plot.top, "beyond")
    plot.x_axis(x, workers if len(workers) <= MANY_POINTS else x.ticks(), "workers N")
    if x.low < cores < x.high:
        plot.line((x(cores), plot.top), (x(cores), plot.bottom), "cores")
        words = f"{summary['physical_cores']} physical core{'s' if summary['physical_cores'] != 1 else ''}"
        right = x(cores) > (plot.left + plot.right) / 2
        at = x(cores) + (-5 if right else 5), note_y if right and note_y is not None else plot.bottom - 6
        plot.text(at, words, "note", "end" if right else "start")
    return x


def _draw_points(
    plot: Plot, summary: Mapping[str, Any], points: Sequence[Entry], key: str, x: Scale, y: Scale, write: Any
) -> list[Legend]:
    """Medians with their intervals; hollow where the cluster served fewer slots. Returns the legend."""
    legend = []
    modes = sorted({point.get("mode") or "processes" for point in points})
    for mode in modes:
        style, square = STYLES.get(mode, STYLES["processes"]) if len(modes) > 1 else STYLES["processes"]
        mine = [point for point in points if (point.get("mode") or "processes") == mode]
        plot.path([(x(point["workers"]), y(point[key])) for point in mine], f"curve {style}")
        for point in mine:
            at, ends = (x(point["workers"]), y(point[key])), point[f"{key}_ci95"]
            if ends:
                plot.interval(at[0], y(ends[0]), y(ends[1]), f"interval {style}")
            hollow = point["served"] is not None and point["served"] < point["workers"]
            between = f" ({write(ends[0])} to {write(ends[1])})" if ends else ""
            hint = f"{point['workers']} workers{f' on {mode}' if len(modes) > 1 else ''}: {write(point[key])}{between}"
            if _is_recommended(point, summary):
                plot.ring(at)
            plot.mark(at, f"{style}{' hollow' if hollow else ''}", hint, square=square)
        bounded = any(point[f"{key}_ci95"] for point in mine)
        text = "median, 95 % interval" if bounded else "median"
        legend.append(
            Legend(f"dot {style}{' square' if square else ''}", f"{mode}: {text}" if len(modes) > 1 else text)
        )
    if any(_is_recommended(point, summary) for point in points):
        legend.append(Legend("dot ringed", "recommended"))
    if any(point["served"] is not None and point["served"] < point["workers"] for point in points):
        legend.append(Legend("dot hollow", "the cluster served fewer slots"))
    return legend


def _is_recommended(point: Entry, summary: Mapping[str, Any]) -> bool:
    recommended = summary["recommendation"]
    return point["workers"] == recommended["workers"] and recommended.get("mode") in (None, point.get("mode"))


def _describe(points: Sequence[Entry], key: str, write: Callable[[float], str]) -> str:
    """The values in words, for readers who can't see the chart."""
    shown = [f"{point['workers']}: {write(point[key])}" for point in points[:24]]
    return f"By workers: {'; '.join(shown)}. The table has all numbers."
