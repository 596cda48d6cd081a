"""The picture of the peers: efficiency against grain, and where each curve crosses one half."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from efficiency import HALF

from dfz_ray.scaling.figure import BLUE, GREY, ORANGE

STYLES = {
    "limit": (GREY, "--", "None"),
    "joblib": ("#E69F00", "-", "s"),
    "mpire": ("#009E73", "-", "^"),
    "futures": ("#CC79A7", "-", "v"),
    "futures_chunks": ("#CC79A7", ":", "v"),
    "ray_pool": (ORANGE, ":", "D"),
    "ray_tasks": (ORANGE, "-", "D"),
    "parsl": ("#56B4E9", "-", "P"),
    "dask": ("#8c6d31", "-", "X"),
    "dfz_ray": (BLUE, "-", "o"),
}
"""Colours that colour-blind readers can tell apart (Okabe & Ito); marks and dashes differ as well, for print."""


def draw_peers(peers: Mapping[str, Any], host: Mapping[str, Any], workers: int, repeats: int) -> bytes:
    """Draw efficiency against grain, both on log scales; METG is a star on the line of one half, and in the legend.

    Args:
        peers: as `summarize` made them.
        host: its facts.
        workers: of all of them.
        repeats: of each measurement.

    Returns:
        A PNG of 1650 x 900 pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
    from workloads import show_length

    figure = Figure(figsize=(11, 6), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would keep global state, and might look for a screen
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="length of a task", ylabel="useful core time / (workers x makespan)")
    axes.axhline(HALF, color="black", lw=0.8, ls=(0, (1, 2)), zorder=1)
    seen: list[float] = []
    grains: set[float] = set()
    measured = {name: peer for name, peer in peers.items() if peer["metg"] is not None}
    for name, peer in sorted(measured.items(), key=lambda item: item[1]["metg"].rank):
        points = sorted(
            (batch["grain_s"], batch["efficiency"]) for batch in peer["batches"].values() if "efficiency" in batch
        )
        colour, dashes, mark = STYLES.get(name, ("black", "-", "*"))
        at, values = [grain for grain, _ in points], [estimate["value"] for _, estimate in points]
        ends = [estimate["ci95"] or (estimate["value"], estimate["value"]) for _, estimate in points]
        errors = [
            [max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)],
            [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)],
        ]
        own: dict[str, Any] = {"color": colour, "ls": dashes, "marker": mark, "ms": 6, "capsize": 2.5, "elinewidth": 1}
        is_ours = name == "dfz_ray"
        label = f"{peer['label']}: {peer['metg']}"
        axes.errorbar(
            at, values, yerr=errors, lw=2.8 if is_ours else 1.4, zorder=5 if is_ours else 3, label=label, **own
        )
        if not peer["metg"].bound:
            axes.plot(peer["metg"].grain_s, HALF, "*", ms=13, mfc=colour, mec="black", mew=0.8, zorder=6)
        seen.extend(values)
        grains.update(at)
    axes.xaxis.set_major_locator(FixedLocator(sorted(grains)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_length(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    low = min([*seen, HALF]) / 1.3
    axes.set_ylim(low, 1.15)
    shown = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if tick >= low]
    axes.yaxis.set_major_locator(FixedLocator(shown))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color="#d9d9d9", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if seen:
        figure.legend(loc="outside right upper", title="METG(50 %), best first\n(stars in the picture)", frameon=False)
    where = f"{host.get('cpu_model') or 'unknown CPU'}, {host['physical_cores']} physical cores"
    title = axes.set_title(f"Efficiency with {workers} workers, median of {repeats} repeats\n{where}", fontsize=11)
    title.set_parse_math(False)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
