"""Timelines: what each slot executed over time, and how many tasks ran; and the times of tasks, by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from dfz_ray.scaling.charts.plot import WIDTH, Chart, Legend, LinearScale, LogScale, Plot
from dfz_ray.scaling.number_texts import show_percent, show_short_time
from dfz_ray.scaling.timeline import LEVELS, OTHER_KINDS, QUANTILES

COLOURS = 8
"""The kinds have the styles k0 to k7; the last one is that of all others."""
STRIP, GAP = 46.0, 8.0
"""Height of the curve of running tasks, and the gap below it."""
LANES_HEIGHT, LANE_MOST = 150.0, 16.0
SHORT_TAIL = 0.01
"""A tail of a smaller share of the time has no number in the title."""
FEW_TIMES = 20.0
"""Beyond this ratio of the longest to the shortest time the axis of task times is logarithmic."""
MOST_ROWS = 6
"""So many numbers of workers are shown for each kind."""

Timeline = Mapping[str, Any]


def style_kinds(timelines: Sequence[Timeline]) -> dict[str, str]:
    """A style for each kind, the same in all charts, in the order in which legends have them: longest first."""
    sums: dict[str, float] = defaultdict(float)
    for timeline in timelines:
        for name, box in zip(timeline["kinds"], timeline["task_s"], strict=True):
            sums[name] += box["tasks"] * box["quantiles"][QUANTILES.index(0.5)]
    names = sorted(sums.keys() - {OTHER_KINDS}, key=lambda name: (-sums[name], name))
    styles = {name: f"k{min(position, COLOURS - 1)}" for position, name in enumerate(names)}
    if any(OTHER_KINDS in timeline["kinds"] for timeline in timelines):
        styles[OTHER_KINDS] = f"k{COLOURS - 1}"
    return styles


def list_kinds(styles: Mapping[str, str]) -> list[Legend]:
    """The legend of the kinds; those without a colour of their own share an entry."""
    alone = {name: style for name, style in styles.items() if style != f"k{COLOURS - 1}"}
    shared = [name for name in styles if name not in alone]
    entries = [Legend(f"box {style}", name) for name, style in alone.items()]
    if shared:
        entries.append(Legend(f"box k{COLOURS - 1}", shared[0] if len(shared) == 1 else OTHER_KINDS))
    return entries


def draw_timeline(key: str, name: str, timeline: Timeline, wall_s: float, styles: Mapping[str, str]) -> Chart:
    """Draw the slots of one trial, a lane each, under the number of tasks that ran.

    The tail is shaded: it begins when the first slot runs out of tasks for good.
    """
    lanes, running = timeline["lanes"], timeline["running"]
    lane = min(LANE_MOST, LANES_HEIGHT / len(lanes))
    height = 12 + STRIP + GAP + lane * len(lanes) + 20
    tail = timeline["tail_s"]
    words = (
        f"{timeline['slots']} slots in {show_short_time(wall_s)}; the tail, in which slots run out of tasks one after "
        f"the other, takes {show_short_time(tail)} ({show_percent(tail / wall_s)})"
    )
    plot = Plot(key, f"Timeline with {name}", f"{words}; at most {max(running):g} tasks ran.", height)
    x = LinearScale(0.0, wall_s, plot.left, plot.right)
    top, floor = 12 + STRIP + GAP, 12.0 + STRIP
    bottom = top + lane * len(lanes)
    y = LinearScale(0.0, max(*running, timeline["slots"]), floor, 12.0)
    plot.bottom = bottom
    ended = timeline["ended_s"]
    if tail > 0:
        plot.rectangle((x(ended - tail), 12.0), x(ended) - x(ended - tail), bottom - 12.0, "tail", "the tail")
    places = _steps(running, x, y, wall_s)
    plot.area(places, [(x(0), floor), (x(wall_s), floor)], "running")
    plot.text((plot.left - 6, 12 + 8), f"{timeline['slots']}", "tick", "end")
    plot.text((plot.left - 6, floor), "0", "tick", "end")
    cells: dict[tuple[str, int], list[tuple[float, float, float, float]]] = defaultdict(list)
    unit_s = wall_s / timeline["units"]
    padding = 1.0 if lane > 5 else 0.0
    for position, spans in enumerate(lanes):
        for begins, length, kind, level in spans:
            left = x(begins * unit_s)
            width = max(x((begins + length) * unit_s) - left, 0.4)
            style = styles.get(timeline["kinds"][kind], f"k{COLOURS - 1}")
            cells[style, level].append((left, top + position * lane, width, lane - padding))
    for (style, level), rectangles in sorted(cells.items()):
        plot.rectangles(rectangles, f"{style} level{level if level < LEVELS else 'full'}")
    for edge in (0, len(lanes) - 1) if len(lanes) > 1 else (0,):
        first = edge * timeline["slots_per_lane"] + (timeline["slots_per_lane"] if edge else 1)
        plot.text((plot.left - 6, top + (edge + 0.5) * lane + 4), str(min(first, timeline["slots"])), "tick", "end")
    write = show_short_time
    ticks = x.ticks(5)
    for tick in ticks:
        plot.text((x(tick), bottom + 14), write(tick), "tick", "middle" if x(tick) < WIDTH - 30 else "end")
    plot.line((plot.left, bottom), (plot.right, bottom), "axis")
    together = timeline["slots_per_lane"]
    words = f", the tail {show_percent(tail / wall_s)} of it" if tail >= SHORT_TAIL * wall_s else ""
    caption = f"Each row is {together} slots; the paler, the less busy." if together > 1 else ""
    return Chart(f"{name}: {show_short_time(wall_s)}{words}", plot.svg(), (), caption)


def _steps(running: Sequence[float], x: LinearScale, y: LinearScale, wall_s: float) -> list[tuple[float, float]]:
    """The curve of running tasks, as steps; equal neighbours are one step."""
    places: list[tuple[float, float]] = []
    for position, tasks in enumerate(running):
        begins, ends = (wall_s * edge / len(running) for edge in (position, position + 1))
        if places and places[-1][1] == y(tasks):
            places[-1] = x(ends), y(tasks)
        else:
            places += [(x(begins), y(tasks)), (x(ends), y(tasks))]
    return places


def draw_task_times(rows: Sequence[tuple[str, Timeline]], styles: Mapping[str, str]) -> Chart | None:
    """Draw the times of tasks of each kind, a box for each number of workers (the name of the row).

    A box spans the middle half of the tasks, its line is the median, the whiskers go from 5 % to 95 %.
    """
    shown = _thin(rows)
    kinds = [kind for kind in styles if any(kind in timeline["kinds"] for _, timeline in shown)][:COLOURS]
    boxes = {
        kind: [
            (name, timeline["task_s"][timeline["kinds"].index(kind)])
            for name, timeline in shown
            if kind in timeline["kinds"]
        ]
        for kind in kinds
    }
    if not boxes:
        return None
    height = 36.0 + sum(20 + 13 * len(mine) for mine in boxes.values())
    described = [
        f"{kind}: median {show_short_time(box['quantiles'][3])} ({name})"
        for kind in kinds
        for name, box in boxes[kind][:1]
    ]
    plot = Plot("task-times", "Times of tasks by kind", f"{'; '.join(described)}. The table has all numbers.", height)
    plot.left, plot.top, plot.bottom = 74, 6, height - 28
    ends = [box["quantiles"][place] for mine in boxes.values() for _, box in mine for place in (1, 5)]
    low, high = max(min(ends), 1e-9), max(*ends, 1e-9)
    x: LinearScale | LogScale
    if high / low > FEW_TIMES:
        x = LogScale(low / 1.2, high * 1.2, plot.left, plot.right)
        ticks = x.round_ticks()
    else:
        x = LinearScale(0.0, high * 1.05, plot.left, plot.right)
        ticks = x.ticks(5)
    plot.x_axis(x, ticks, "", show_short_time)
    y = plot.top + 13
    for kind, mine in boxes.items():
        plot.text((4, y), _shorten(kind), "tick strong")
        y += 5
        for name, box in mine:
            _draw_box(plot, x, y + 6, name, box, styles[kind])
            y += 13
        y += 15
    caption = "Boxes: the middle half of the tasks; lines: the median; whiskers: all but 5 % at either end."
    return Chart("Times of tasks by kind", plot.svg(), (), caption)


def _draw_box(plot: Plot, x: LinearScale | LogScale, y: float, name: str, box: Mapping[str, Any], style: str) -> None:
    _, low, first, middle, third, high, _ = (x(max(value, 1e-9)) for value in box["quantiles"])
    plot.text((plot.left - 6, y + 4), name, "tick small", "end")
    plot.line((low, y), (high, y), "whisker")
    times = f"median {show_short_time(box['quantiles'][QUANTILES.index(0.5)])}"
    plot.rectangle((first, y - 4), max(third - first, 1.0), 8, style, f"{name}: {box['tasks']} tasks, {times}")
    plot.line((middle, y - 5), (middle, y + 5), "median")


def _thin(rows: Sequence[tuple[str, Timeline]]) -> list[tuple[str, Timeline]]:
    """At most MOST_ROWS rows, the first and the last among them."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    picked = sorted({round(step * (len(rows) - 1) / (MOST_ROWS - 1)) for step in range(MOST_ROWS)})
    return [rows[position] for position in picked]


def _shorten(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def show_tasks(box: Mapping[str, Any]) -> list[str]:
    """The number of tasks, then their times at each of QUANTILES."""
    return [f"{box['tasks']:,}", *map(show_short_time, box["quantiles"])]
