"""The picture of a study: speedup and throughput against workers, and every single repeat."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dfz_ray.scaling.entries import why_no_speedup
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.number_texts import show_percent, show_plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that colour-blind readers can tell apart (Okabe & Ito); shapes and dashes differ as well, for print.
BLUE, ORANGE, GREY, SHADE, GREEN = "#0072B2", "#D55E00", "#5c5c5c", "#ececec", "#009E73"
COLOURS = {"processes": (BLUE, "-"), "threads": (GREEN, "--")}
"""Colour and line of each mode, if both are in one picture."""
MANY_POINTS = 8
"""With more points than this, the axis names only powers of two, and efficiencies are only in the table."""
BESIDE = 2**-0.08
"""Single repeats are drawn a little to the left of their median, so that it does not hide them."""


class Pictures(NamedTuple):
    """The figure in two formats."""

    png: bytes
    """1600 x 700 pixels."""
    svg: bytes


def draw_figure(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Pictures:
    """Draw speedup and throughput against workers, side by side."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(16 / 1.5, 7 / 1.5), dpi=150, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)  # pyplot would keep global state, and might look for a screen
    left, right = figure.subplots(1, 2)
    _title(figure, summary)
    for axes in (left, right):
        _workers_axis(axes, summary)
    _draw_speedup(left, summary)
    _draw_throughput(right, summary, measurements)
    # Both panels draw alike, so that one legend, outside of them, explains both.
    explained = {
        label: handle for axes in (left, right) for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if explained:
        figure.legend(
            explained.values(), explained.keys(), loc="outside lower center", ncols=4, fontsize=9, frameon=False
        )
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png")
    with mpl.rc_context({"svg.hashsalt": "dfz_ray"}):  # equal studies have equal pictures
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return Pictures(png.getvalue(), svg.getvalue())


def _title(figure: Figure, summary: Mapping[str, Any]) -> None:
    batch, host = summary["batch"], summary["host"]
    what = f"{batch.get('count', '?')} tasks: {', '.join(map(str, batch.get('domains') or ['?']))}"
    cores = f"{summary['physical_cores']} physical core{'s' if summary['physical_cores'] != 1 else ''}"
    where = f"{host.get('hostname', 'unknown host')}, {host.get('cpu_model') or 'unknown CPU'}, {cores}"
    repeats = f"median of {summary['repeats']} repeats" if summary["repeats"] != 1 else "one repeat"
    title = figure.suptitle(
        f"{_shorten(what, 90)}\n{_shorten(where, 90)}; {_shorten(summary['mode'], 24)}, {repeats}", fontsize=11
    )
    title.set_parse_math(False)  # a name may hold a dollar sign


def _workers_axis(axes: Axes, summary: Mapping[str, Any]) -> None:
    workers = sorted({point["workers"] for point in summary["points"]}) or [1]
    margin = 1.3 if len(workers) > 1 else 2
    low, high = min(workers) / margin, max(workers) * margin
    powers = [2**power for power in range(11) if low <= 2**power <= high]
    _log_axis(axes.xaxis, powers if len(workers) > MANY_POINTS else workers)
    axes.set_xlim(low, high)
    too_many = [point["workers"] for point in summary["points"] if point["oversubscribed"]]
    if too_many:
        fitting = [point["workers"] for point in summary["points"] if not point["oversubscribed"]]
        # In the middle, on this axis, between the last number that fits the cores and the first that does not.
        last_fitting = max([summary["physical_cores"] / summary["cpus_per_task"], *fitting])
        edge = (last_fitting * min(too_many)) ** 0.5
        axes.axvspan(edge, high, color=SHADE, lw=0, zorder=0, label="more than the physical cores")
    axes.set_xlabel("workers N (log scale)")
    axes.grid(axis="both", color="#d9d9d9", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_speedup(axes: Axes, summary: Mapping[str, Any]) -> None:
    axes.set_ylabel("sequential time / time with N workers")
    points = [point for point in summary["points"] if point["speedup"] is not None]
    few = 0 < len(points) <= MANY_POINTS and len(_by_mode(summary["points"])) == 1
    axes.set_title(f"Speedup{' (and efficiency)' if few else ''}", fontsize=11, loc="left", weight="bold")
    if not points:
        box = {"facecolor": "white", "edgecolor": "none"}
        axes.text(
            0.5,
            0.5,
            f"no speedup: {why_no_speedup(summary)}",
            transform=axes.transAxes,
            ha="center",
            color=GREY,
            bbox=box,
        )
        axes.set_yticks([])
        return
    ends = [summary["points"][0]["workers"], summary["points"][-1]["workers"]]
    axes.plot(ends, ends, color=GREY, ls="--", lw=1.2, label="ideal")
    axes.axhline(1, color=ORANGE, ls=":", lw=1.8, label="sequential program")
    _draw_points(axes, points, "speedup")
    for point in points if few else ():
        axes.annotate(
            show_percent(point["efficiency"]),
            (point["workers"], (point["speedup_ci95"] or [point["speedup"]])[0]),
            xytext=(0, -17),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=BLUE,
        )
    values = [value for point in points for value in (point["speedup_ci95"] or [point["speedup"]])]
    _log_axis(axes.yaxis, [2.0**power for power in range(-10, 11)])
    axes.set_ylim(min(*values, 1) / 1.6, max(*values, *ends) * 1.25)


def _draw_throughput(axes: Axes, summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> None:
    axes.set_title("Throughput", fontsize=11, loc="left", weight="bold")
    axes.set_ylabel("completed tasks per second")
    baseline = summary["baseline"]
    if baseline["tasks_per_s"] is not None:
        axes.axhline(baseline["tasks_per_s"], color=ORANGE, ls=":", lw=1.8, label="sequential program")
    if baseline["tasks_per_s_ci95"]:
        axes.axhspan(*baseline["tasks_per_s_ci95"], color=ORANGE, alpha=0.15, lw=0)
    edge = axes.get_xlim()[0]
    trials = [trial for trial in measurements if trial.timed]
    rates = [trial.completed / trial.wall_s for trial in trials]
    axes.scatter(
        [trial.workers * BESIDE if trial.workers else edge / BESIDE**0.5 for trial in trials],
        rates,
        s=20,
        c=[_colour(trial, measurements) if trial.workers else ORANGE for trial in trials],
        alpha=0.4,
        linewidths=0,
        zorder=2,
    )
    axes.plot([], [], "o", ms=4.5, color=BLUE, alpha=0.4, mew=0, label="every single repeat")
    points = [point for point in summary["points"] if point["tasks_per_s"] is not None]
    _draw_points(axes, points, "tasks_per_s")
    for point in points:
        recommended = summary["recommendation"]
        if point["workers"] == recommended["workers"] and recommended.get("mode") in (None, point.get("mode")):
            at = (point["workers"], point["tasks_per_s"])
            axes.plot(*at, "o", ms=15, mfc="none", mec="black", mew=1.3, ls="none", label="recommended", zorder=6)
    failed = [point["workers"] for point in summary["points"] if point["wall_s"] is None]
    if failed:
        zero = [0] * len(failed)
        axes.plot(
            failed, zero, "X", ms=10, color="black", ls="none", clip_on=False, label="every trial failed", zorder=7
        )
    axes.set_ylim(0, (max(rates, default=0) or 1) * 1.12)


def _by_mode(points: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    modes: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        modes.setdefault(point.get("mode") or "processes", []).append(point)
    return modes


def _colour(trial: Measurement, measurements: Sequence[Measurement]) -> str:
    compares = len({one.mode for one in measurements if one.workers}) > 1
    return COLOURS[trial.mode or "processes"][0] if compares else BLUE


def _draw_points(axes: Axes, points: Sequence[Mapping[str, Any]], key: str) -> None:
    """Medians with their intervals and a line through them; hollow where the cluster served fewer slots."""
    modes = _by_mode(points)
    for mode, mine in modes.items():
        if len(modes) > 1:
            _draw_line(axes, mine, key, *COLOURS[mode], f"{mode}: ")
        else:
            _draw_line(axes, mine, key, BLUE, "-", "")


def _draw_line(axes: Axes, points: Sequence[Mapping[str, Any]], key: str, colour: str, dashes: str, whose: str) -> None:
    axes.plot(
        [point["workers"] for point in points], [point[key] for point in points], dashes, color=colour, lw=1.6, zorder=3
    )
    known = [point for point in points if point[f"{key}_ci95"]]
    if known:
        axes.errorbar(
            [point["workers"] for point in known],
            [point[key] for point in known],
            yerr=[
                [max(0.0, point[key] - point[f"{key}_ci95"][0]) for point in known],
                [max(0.0, point[f"{key}_ci95"][1] - point[key]) for point in known],
            ],
            fmt="none",
            ecolor=colour,
            elinewidth=1.6,
            capsize=4,
            zorder=4,
        )
    median = f"{whose}median, with 95 % interval" if known else f"{whose}median, too few repeats for an interval"
    fewer = f"{whose}the cluster served fewer slots"
    for served, fill, label in ((True, colour, median), (False, "white", fewer)):
        shown = [point for point in points if served == _fully_served(point)]
        if shown:
            axes.plot(
                [point["workers"] for point in shown],
                [point[key] for point in shown],
                "o" if colour == BLUE else "s",
                ms=6.5,
                mfc=fill,
                mec=colour,
                mew=1.8,
                ls="none",
                label=label,
                zorder=5,
            )


def _log_axis(axis: Any, ticks: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: show_plain(value)))


def _fully_served(point: Mapping[str, Any]) -> bool:
    return point["served"] is None or point["served"] >= point["workers"]


def _shorten(text: str, length: int) -> str:
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable if len(printable) <= length else printable[: length - 1] + "…"
