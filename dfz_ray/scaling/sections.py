"""The sections of a study's page. To add one, write a function that returns a Section, and name it in SECTIONS.

A function that returns None leaves its section out.

The function gets the summary, whose keys are in `summary.py`, and all trials. The template shows any Section. Here are
the findings; what they rest on is in `evidence_sections.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dfz_ray.scaling.charts.losses import NAMES, draw_losses, list_shown
from dfz_ray.scaling.charts.plot import Legend
from dfz_ray.scaling.charts.points import draw_cost, draw_efficiency, draw_speedup
from dfz_ray.scaling.charts.timelines import draw_task_times, draw_timeline, list_kinds, show_tasks, style_kinds
from dfz_ray.scaling.entries import (
    is_recommended,
    list_entries,
    make_point_row,
    name_count,
    name_workers,
    why_no_speedup,
)
from dfz_ray.scaling.estimate import MEDIAN_REPEATS, RATIO_REPEATS
from dfz_ray.scaling.evidence_sections import make_answers, make_host, make_method, make_trials
from dfz_ray.scaling.losses import ADVICE
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.number_texts import (
    NOTHING,
    show_core_time,
    show_interval,
    show_number,
    show_percent,
    show_percents,
    show_plain,
    show_seconds,
    show_short_time,
)
from dfz_ray.scaling.point import find_complete, median_trial
from dfz_ray.scaling.section import Cell, Section
from dfz_ray.scaling.steadiness import UNSTEADY
from dfz_ray.scaling.timeline import QUANTILES


def _choices(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section | None:
    """The number of workers for each goal that a user may have; None where the summary has none."""
    rows = []
    for choice in summary["recommendation"].get("choices") or ():
        meets = choice["workers"] is not None
        name = name_count(choice, summary) if meets else "no number that was measured"
        rows.append(
            {
                "Goal": Cell(_capital(choice["says"])),
                "Workers": Cell(name),
                "Wall time": Cell(show_seconds(choice["wall_s"]), below=show_interval(choice["wall_s_ci95"])),
                "Efficiency": Cell(show_percent(choice["efficiency"]), below=show_percents(choice["efficiency_ci95"])),
                "Core-hours": Cell(show_number(choice["core_hours"]), below=show_interval(choice["core_hours_ci95"])),
            }
            | (
                {"Price": Cell(show_number(choice["price"]), below=show_interval(choice.get("price_ci95")))}
                if summary.get("price") is not None
                else {}
            )
        )
    is_weak = summary["scaling"] == "weak"
    note = "Times are those of the batch as it has grown with the workers, costs those of one batch." if is_weak else ""
    return Section("By goal", rows=rows, left=("Goal",), note=note) if rows else None


def _points(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    entries = list_entries(summary)
    charts = [draw_speedup(summary), draw_efficiency(summary)]
    is_enough = summary["repeats"] >= MEDIAN_REPEATS
    unsteady = f" Here no median has one: {UNSTEADY}." if is_enough and not summary.get("is_steady", True) else ""
    no_speedup = "" if any(charts) else f"There is no speedup: {why_no_speedup(summary)}."
    return Section(
        "How it scales",
        Cell(no_speedup) if entries and no_speedup else None if entries else Cell("No trial was measured."),
        charts=[chart for chart in charts if chart],
        rows=[make_point_row(entry, summary) for entry in entries],
        left=("Notes",),
        marked=[position for position, entry in enumerate(entries) if is_recommended(entry, summary)],
        note="Medians, with the 95 % interval below. A dash: not measured. A median has an interval from "
        f"{MEDIAN_REPEATS} repeats on, a speedup from {RATIO_REPEATS} on each side: with fewer no interval holds the "
        f"truth as often.{unsteady}"
        if entries
        else "",
    )


def _losses(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    split = [point for point in summary["points"] if point["losses"]]
    shown = list_shown([point["losses"]["slot_s"] for point in split])
    rows = []
    for point in split:
        parts, pop = point["losses"]["slot_s"], point["losses"]["pop"]
        total = sum(parts.values())
        rows.append(
            {"Workers": Cell(name_workers(point, summary))}
            | {
                NAMES[name].capitalize(): Cell(show_percent(parts[name] / total), below=show_seconds(parts[name]))
                for name in shown
            }
            | {
                "Slower work:\nno free core": Cell(_part_of(point, "no_core", total)),
                "Slower work:\nmore CPU time": Cell(_part_of(point, "more_cpu", total)),
                "Dispatch:\nencoding": Cell(show_percent(point["losses"]["handling_s"] / total)),
            }
            | {
                f"POP: {name.replace('_', chr(10))}": Cell(NOTHING if ratio is None else f"{ratio:.2f}")
                for name, ratio in pop.items()
            }
        )
    bullets = _advise(split, shown, summary)
    chart = draw_losses([(name_workers(point, summary), point["losses"]["slot_s"]) for point in split])
    text = "The workers' time was not split: the baseline, or every point, lacks a trial that completed as many tasks."
    return Section(
        "Where the time of the workers went",
        None if split else Cell(text),
        charts=[chart] if chart else [],
        bullets=bullets if split else [],
        rows=rows,
        folded="All shares, and POP's ratios",
        note="Each bar is the trial with the median time, and adds up to its workers times its wall time. Useful work "
        f"is the time that the sequential program takes for the same tasks.{_describe_lost(split, summary)}"
        f"{_describe_unsplit(split)}"
        if split
        else "",
    )


def _describe_lost(points: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """A sentence if the trials shown, which completed as many tasks as any, lack some."""
    point = max(points, key=lambda point: point["losses"]["lost"])
    if not (lost := point["losses"]["lost"]):
        return ""
    growth = point["workers"] if summary["scaling"] == "weak" else 1
    return f" In these trials up to {lost:,} of {growth * summary['batch']['count']:,} tasks did not complete."


def _describe_unsplit(points: Sequence[Mapping[str, Any]]) -> str:
    """The reasons why slower work has no parts at some points, a sentence each."""
    reasons = dict.fromkeys(point["losses"]["slower_reason"] for point in points if point["losses"]["slower_reason"])
    return "".join(f" Slower work is not split: {reason}." for reason in reasons)


def _part_of(point: Mapping[str, Any], name: str, total: float) -> str:
    """The share of a part of slower work; it is below 0 where tasks did better than in the sequential program."""
    slower = point["losses"]["slower_s"]
    return NOTHING if slower is None else show_percent(slower[name] / total)


def _advise(points: Sequence[Mapping[str, Any]], shown: Sequence[str], summary: Mapping[str, Any]) -> list[Cell]:
    """The largest loss of each point and what to do about it, in few sentences; then the other parts in general."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for point in points:
        if point["efficiency"] is not None and point["efficiency"] < 1:
            groups.setdefault((point["losses"]["largest"], point["losses"]["advice"]), []).append(point)
    bullets = []
    for (part, advice), mine in groups.items():
        shares = [point["losses"]["slot_s"][part] / sum(point["losses"]["slot_s"].values()) for point in mine]
        names = [name_workers(point, summary) for point in mine]
        listed = f"{', '.join(names[:-1])} and {names[-1]} workers" if names[1:] else name_count(mine[0], summary)
        between = " to ".join(dict.fromkeys(map(show_percent, (min(shares), max(shares)))))
        bullets.append(Cell(f"{listed}: mostly {NAMES[part]}, {between} of the time. {_capital(advice)}."))
    told = {part for part, _ in groups}
    bullets += [Cell(f"{NAMES[part].capitalize()}: {ADVICE[part]}.") for part in shown[1:] if part not in told]
    return bullets


def _timelines(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    everyone = _median_trials(summary, measurements)
    trials = [(name, trial) for name, trial in everyone if trial.workers]
    title = "What each slot did"
    if not trials:
        return Section(title, Cell("No trial has a timeline."), is_folded=True)
    shown = trials[:: -(-len(trials) // MOST_TIMELINES)]
    if shown[-1] is not trials[-1]:
        shown = [*shown[: MOST_TIMELINES - 1], trials[-1]]
    styles = style_kinds([trial.timeline for _, trial in everyone if trial.timeline])
    charts = [
        draw_timeline(f"timeline-{position}", name, trial.timeline or {}, trial.wall_s, styles)
        for position, (name, trial) in enumerate(shown)
    ]
    rows = [
        {
            "Workers": Cell(name),
            "Wall time": Cell(show_seconds(trial.wall_s)),
            "Slots used": Cell(str(timeline["slots"])),
            "Tasks running, mean": Cell(show_number(trial.avg_concurrency)),
            "Tasks running, most": Cell(NOTHING if trial.max_concurrency is None else str(trial.max_concurrency)),
            "Tail": Cell(show_seconds(timeline["tail_s"]), below=show_percent(timeline["tail_s"] / trial.wall_s)),
        }
        for name, trial in trials
        if (timeline := trial.timeline)
    ]
    return Section(
        title,
        charts=charts,
        legend=[*list_kinds(styles), Legend("box tail", "the tail")],
        rows=rows,
        folded="Slots, running tasks and tails in numbers",
        note="The trial with the median time for each number of workers. The curve is the number of tasks that run, "
        "each row below it is a slot. In the tail slots have run out of tasks and wait for the last ones.",
    )


def _task_times(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    trials = _median_trials(summary, measurements)
    timelines = [(name, trial.timeline) for name, trial in trials if trial.timeline]
    styles = style_kinds([timeline for _, timeline in timelines])
    chart = draw_task_times(timelines, styles)
    names = ("Tasks", "Least", "5 %", "25 %", "Median", "75 %", "95 %", "Most")
    rows = [
        {"Kind": Cell(kind), "Workers": Cell(name)}
        | dict(zip(names, map(Cell, show_tasks(timeline["task_s"][timeline["kinds"].index(kind)])), strict=True))
        for kind in styles
        for name, timeline in timelines
        if kind in timeline["kinds"]
    ]
    return Section(
        "Times of tasks by kind",
        None if rows else Cell("No trial has the times of its tasks."),
        charts=[chart] if chart else [],
        rows=rows,
        left=("Kind",),
        bullets=_compare_times(styles, timelines),
        folded="All times",
        is_folded=not rows,
        note="A kind that takes longer with more workers does slower work: its tasks share cores, caches or memory "
        "bandwidth."
        if rows
        else "",
    )


def _compare_times(kinds: Iterable[str], timelines: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Cell]:
    """The kinds whose median time has grown most, from the first to the last number of workers that has them."""
    grown = []
    for kind in kinds:
        found = [
            (name, timeline["task_s"][timeline["kinds"].index(kind)]["quantiles"][QUANTILES.index(0.5)])
            for name, timeline in timelines
            if kind in timeline["kinds"]
        ]
        (first, first_s), (last, last_s) = found[0], found[-1]
        if found[1:] and first_s > 0:
            alone = "in the sequential program" if first == "sequential" else f"with {first}"
            times = f"{show_short_time(first_s)} {alone}, {show_short_time(last_s)} with {last}"
            grown.append((last_s / first_s, f"{kind}: {times} ({show_number(last_s / first_s, 'x')})"))
    told = sorted((one for one in grown if one[0] >= GROWN), reverse=True)[:MOST_GROWN]
    if grown and not told:
        return [Cell(f"No kind takes {show_number(GROWN, 'x')} its time or more with more workers.")]
    return [Cell(text) for _, text in told]


def _cost(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    price = summary.get("price")
    core_s = [(entry, 3600 * entry["core_hours"]) for entry in list_entries(summary) if entry["core_hours"] is not None]
    per_core_s, unit = _choose_cost(max((cost for _, cost in core_s), default=0.0), price)
    chart = draw_cost(summary, [(entry, cost * per_core_s) for entry, cost in core_s], unit)
    most = max((entry["success_rate"] or 0.0 for entry, _ in core_s), default=0.0)
    least = min((cost for entry, cost in core_s if entry["success_rate"] == most), default=0.0)
    rows = [
        {
            "Workers": Cell(name_workers(entry, summary)),
            "Wall time": Cell(show_seconds(entry["wall_s"])),
            "Core-hours": Cell(show_plain(cost / 3600), below=show_core_time(cost)),
            "Of the least": Cell(show_number(cost / least if least else None, "x")),
        }
        | (
            {
                "Price": Cell(
                    show_plain(cost / 3600 * price), below=_show_price_interval(entry["core_hours_ci95"], price)
                )
            }
            if price is not None
            else {}
        )
        for entry, cost in core_s
    ]
    return Section(
        "What it costs",
        None if rows else Cell("No point has a cost: none was measured."),
        charts=[chart] if chart else [],
        rows=rows,
        marked=[n for n, (entry, cost) in enumerate(core_s) if (cost, entry["success_rate"]) == (least, most)],
        is_folded=not rows,
        note="The cores that the workers hold, whether they use them or not, no more than there are, for as long as "
        "the batch takes (with weak scaling: for one batch); the least is marked, of those that completed most tasks. "
        "The warm-up is not in it."
        if rows
        else "",
    )


def _show_price_interval(core_hours: Sequence[float] | None, price: float) -> str:
    return show_interval(core_hours and [price * end for end in core_hours])


def _choose_cost(most_core_s: float, price: float | None) -> tuple[float, str]:
    """The unit in which costs are drawn, and what a core-second is in it."""
    if price:
        return price / 3600, "units of the price"
    return (1 / 3600, "core-hours") if most_core_s >= 360 else (1.0, "core-seconds")


def _median_trials(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> list[tuple[str, Measurement]]:
    """The name of each entry, and its trial with the median time, of those that have a timeline."""
    found = []
    complete = find_complete(measurements)
    for entry in list_entries(summary):
        workers = entry.get("workers", 0)
        mode = entry.get("mode") or "processes"
        mine = [
            trial
            for trial in complete
            if trial.workers == workers and trial.timeline and (not workers or (trial.mode or "processes") == mode)
        ]
        if trial := median_trial(mine):
            found.append((name_count(entry, summary), trial))
    return found


def _law(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    fits = summary["fits"]
    rows = [
        {
            "Law": Cell({"amdahl": "Amdahl", "gustafson": "Gustafson", "usl": "Universal Scalability Law"}[name]),
            "Parameters": Cell(", ".join(_describe_parameters(fits[name]))),
            "Says": Cell(fits[name]["says"]),
            "Error on a point\nthat was left out": Cell(show_percent(fits[name]["left_out_error"])),
            "AICc": Cell(NOTHING if fits[name]["aicc"] is None else f"{fits[name]['aicc']:.1f}"),
        }
        for name in ("amdahl", "gustafson", "usl")
        if fits[name]
    ]
    marked = [position for position, row in enumerate(rows) if row["Law"].text.lower().startswith(fits["chosen"][:1])]
    text = Cell(f"No law was fitted: {fits['reason']}.") if not rows else None
    return Section("Scaling law", text, rows=rows, left=("Parameters", "Says"), marked=marked)


def _describe_parameters(fit: Mapping[str, Any]) -> list[str]:
    """Each parameter with its interval."""
    texts = []
    for name, ends in fit["ci95"].items():
        interval = f" ({show_plain(ends[0])} to {show_plain(ends[1])})" if ends else " (at its bound)"
        texts.append(f"{name} {show_plain(fit[name])}{interval}")
    return texts


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


GROWN = 1.1
MOST_GROWN = 5
"""Of the kinds whose tasks take GROWN times as long, so many are told."""
MOST_TIMELINES = 16
"""More timelines would make the page too large."""

_MakeSection = Callable[[Mapping[str, Any], Sequence[Measurement]], Section | None]
SECTIONS: Sequence[_MakeSection] = (
    _choices,
    _points,
    _losses,
    _timelines,
    _task_times,
    _cost,
    _law,
    make_answers,
    make_method,
    make_host,
    make_trials,
)
"""The page below the verdict, from top to bottom."""
