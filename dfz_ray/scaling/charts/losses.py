"""The time of all slots as stacked bars, one for each number of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dfz_ray.scaling.charts.plot import WIDTH, Chart, Legend, Plot
from dfz_ray.scaling.number_texts import show_percent, show_short_time

STYLES = {
    "useful": "l1",
    "slower_work": "l2",
    "vain_attempts": "l7",
    "imbalance": "l3",
    "dispatch": "l4",
    "ramp_up": "l5",
    "drain": "l6",
}
NAMES = {name: name.replace("_", " ").replace("ramp up", "ramp-up") for name in STYLES}
ROW, GAP, WIDE = 22.0, 7.0, 34.0
"""Height of a bar, the gap below it, and the width from which a part has its share written into it."""


def draw_losses(rows: Sequence[tuple[str, Mapping[str, float]]]) -> Chart | None:
    """Draw the parts of N x T(N) in shares; each row has a name, and slot-seconds by the names of `losses.ADVICE`."""
    if not rows:
        return None
    shown = list_shown([parts for _, parts in rows])
    words = "; ".join(
        f"{name} workers: "
        + ", ".join(f"{NAMES[part]} {show_percent(share)}" for part, share in _shares(parts).items() if part in shown)
        for name, parts in rows[:24]
    )
    height = 30 + len(rows) * (ROW + GAP)
    plot = Plot("losses", "Where the time of the workers went", f"{words}. The table has all numbers.", height)
    longest = max(len(name) for name, _ in rows)
    left, right = max(56.0, 12.0 + 6.5 * longest), WIDTH - 62.0
    plot.text((left - 6, 14), "workers", "tick", "end")
    plot.text((WIDTH - 2, 14), "in total", "tick", "end")
    for row, (name, parts) in enumerate(rows):
        top, at = 22 + row * (ROW + GAP), left
        plot.text((left - 6, top + ROW / 2 + 4), name, "tick strong", "end")
        for part, share in _shares(parts).items():
            width = share * (right - left)
            hint = f"{NAMES[part]}: {show_percent(share)} ({show_short_time(max(0.0, parts[part]))} of the slots)"
            plot.rectangle((at, top), width, ROW, STYLES[part], hint)
            if width >= WIDE:
                plot.text((at + width / 2, top + ROW / 2 + 4), show_percent(share), "inside", "middle")
            at += width
        plot.text((WIDTH - 2, top + ROW / 2 + 4), show_short_time(sum(parts.values())), "tick", "end")
    legend = [Legend(f"box {STYLES[part]}", NAMES[part]) for part in shown]
    return Chart("Where the time of the workers went", plot.svg(), legend)


def list_shown(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """The parts that are worth a name: all, but vain attempts only where there were any."""
    return [part for part in STYLES if part != "vain_attempts" or any(parts[part] > 0 for parts in rows)]


def _shares(parts: Mapping[str, float]) -> dict[str, float]:
    """The parts as shares that add up to 1. Work that took less time than in the sequential program is not slower."""
    useful = min(parts["useful"], parts["useful"] + parts["slower_work"])
    shown = {**parts, "useful": useful, "slower_work": max(0.0, parts["slower_work"])}
    total = sum(max(0.0, value) for value in shown.values()) or 1.0
    return {part: max(0.0, value) / total for part, value in shown.items()}
