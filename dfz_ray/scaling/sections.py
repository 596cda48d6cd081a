"""The sections of a study's page. To add one, write a function that returns a Section, and name it in SECTIONS.

The function gets the summary, whose keys are in `summary.py`, and all trials. The template shows any Section.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dfz_ray.scaling.estimate import MEDIAN_REPEATS, RATIO_REPEATS
from dfz_ray.scaling.measurement import Measurement

NOTHING = "\N{EN DASH}"
"""Stands in a table where nothing was measured."""


class Cell(NamedTuple):
    """A piece of text on the page: in a table, in a list, or a paragraph."""

    text: str
    code: str = ""
    """Follows the text, in type of fixed width."""
    below: str = ""
    """A small line under it."""


@dataclass(frozen=True)
class Section:
    """One section of the page; an empty part is left out. In this order: text, bullets, table, note."""

    title: str
    text: Cell | None = None
    is_alarm: bool = False
    """The text is shown as a warning."""
    bullets: Sequence[Cell] = ()
    rows: Sequence[Mapping[str, Cell]] = ()
    """A table: the cells of each row by the title of their column."""
    has_titles: bool = True
    """False for a table of facts: a column of names, and one of values."""
    left: Collection[str] = ()
    """Titles of columns that are aligned left, and may be broken into lines."""
    marked: Collection[int] = ()
    """Positions of rows that stand out."""
    note: str = ""


def _points(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    entries = list_entries(summary)
    return Section(
        "Points",
        None if entries else Cell("no trial was measured"),
        rows=[make_point_row(entry, summary) for entry in entries],
        left=("Notes",),
        marked=[position for position, entry in enumerate(entries) if is_recommended(entry, summary)],
        note="Medians, with the 95 % interval below. A dash: not measured. A median has an interval from "
        f"{MEDIAN_REPEATS} repeats on, a speedup from {RATIO_REPEATS} on each side: with fewer no interval holds the "
        "truth as often.",
    )


def _losses(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    split = [point for point in summary["points"] if point["losses"]]
    rows = []
    for point in split:
        parts, pop = point["losses"]["slot_s"], point["losses"]["pop"]
        total = sum(parts.values())
        rows.append(
            {"Workers": Cell(_name_workers(point, summary))}
            | {
                name.replace("_", " ").capitalize(): Cell(_percent(value / total), below=_seconds(value))
                for name, value in parts.items()
            }
            | {"POP": Cell(", ".join(f"{name.replace('_', ' ')} {ratio:.2f}" for name, ratio in pop.items()))}
        )
    bullets = [
        Cell(
            f"{_name_workers(point, summary)}: mostly {point['losses']['largest'].replace('_', ' ')}; "
            f"{point['losses']['advice']}."
        )
        for point in split
        if point["efficiency"] is not None and point["efficiency"] < 1
    ]
    return Section(
        "Where the time of the workers went",
        None if split else Cell("no trial was split: the baseline, or every point, lacks a trial that completed all"),
        bullets=bullets,
        rows=rows,
        left=("POP",),
        note="Each row is the trial with the median time, and adds up to its workers times its wall time. Useful is "
        "the time that the sequential program takes for the same tasks.",
    )


def _law(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    fits = summary["fits"]
    rows = [
        {
            "Law": Cell({"amdahl": "Amdahl", "gustafson": "Gustafson", "usl": "Universal Scalability Law"}[name]),
            "Parameters": Cell(", ".join(_describe_parameters(fits[name]))),
            "Says": Cell(fits[name]["says"]),
            "Error on a point\nthat was left out": Cell(_percent(fits[name]["left_out_error"])),
            "AICc": Cell(NOTHING if fits[name]["aicc"] is None else f"{fits[name]['aicc']:.1f}"),
        }
        for name in ("amdahl", "gustafson", "usl")
        if fits[name]
    ]
    marked = [position for position, row in enumerate(rows) if row["Law"].text.lower().startswith(fits["chosen"][:1])]
    text = Cell(f"no law was fitted: {fits['reason']}") if not rows else None
    return Section("Scaling law", text, rows=rows, left=("Parameters", "Says"), marked=marked)


def _describe_parameters(fit: Mapping[str, Any]) -> list[str]:
    """Each parameter with its interval."""
    texts = []
    for name, ends in fit["ci95"].items():
        interval = f" ({ends[0]:.3g} to {ends[1]:.3g})" if ends else " (at its bound)"
        texts.append(f"{name} {fit[name]:.3g}{interval}")
    return texts


def _method(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    cores, cpus = summary["physical_cores"], summary["cpus_per_task"]
    baseline = (
        "The baseline is the same batch in one process without Ray, with the same thread budget per task and the same "
        "niceness as Ray's workers. Speedup is how many times longer it takes than N workers do; efficiency is "
        "speedup over N."
    )
    bullets = [
        "Every trial runs the same batch, with the same seeds. A point is the median over its repeats; no repeat was "
        "dropped except those that failed as a whole, which are listed.",
        baseline + ("" if summary["baseline"]["repeats"] else " Here it was not measured, so there is neither."),
        "The wall time with workers is that of a call of run: from the call until all results are on disk and listed. "
        "Starting the workers and importing libraries is the warm-up. It is over before the clock starts, and is shown "
        "apart.",
        "Numbers of workers and repeats were interleaved in random order, so that a slow spell of the machine does not "
        "fall on one point alone. The last table has the order.",
        "The interval of a median goes from one of its repeats to another (order statistics); that of a speedup "
        "inverts the Mann-Whitney test on logarithms, whose median difference (Hodges and Lehmann) is the speedup. "
        "Both are exact whatever the distribution, and hold the truth in at least 95 % of all studies with independent "
        "repeats.",
    ]
    if "threads" in summary["mode"]:
        bullets.append(
            "With threads the tasks share as many processes as there are cores; up to that many workers each has a "
            "process of its own, as without threads."
        )
    bullets.append(
        f"Points beyond the physical cores ({cores}; CPUs per task: {cpus}), and points that the cluster could not "
        "serve, are marked and never hidden."
    )
    if summary["why_ended"]:
        bullets.append(f"There was no further repeat because {summary['why_ended']}.")
    command = [Cell("The command: ", summary["command"])] if summary["command"] else []
    return Section("How it was measured", bullets=[*map(Cell, bullets), *command])


def _answers(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    text = {
        True: Cell("Scaling changed no answer. Every trial has the digest ", summary["batch"]["digest"] or ""),
        False: Cell("The answers are not the same in every trial."),
        None: Cell("There are not two digests to compare, so whether scaling changes answers is unknown."),
    }[summary["digests_equal"]]
    rows = [
        {"Workers": Cell(_name_workers(entry, summary)), "Digest": Cell("", entry["digest"] or NOTHING)}
        for entry in list_entries(summary)
    ]
    return Section("Answers", text, summary["digests_equal"] is False, rows=rows, has_titles=False)


def _host(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    rows = [{"Name": Cell(name), "Value": Cell(value)} for name, value in _flat(summary["host"])]
    text = None if rows else Cell("nothing is known of the host")
    return Section("Host and versions", text, rows=rows, has_titles=False)


def _trials(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    trials = sorted(measurements, key=lambda trial: trial.order)
    rows = [
        {
            "#": Cell(str(trial.order + 1)),
            "Workers": Cell(_name_workers(vars(trial), summary)),
            "Repeat": Cell(str(trial.repeat + 1)),
            "Started\n(UTC)": Cell(datetime.fromtimestamp(trial.started_at, UTC).strftime("%H:%M:%S")),
            "Wall time": Cell(_seconds(trial.wall_s)),
            "Warm-up": Cell(_seconds(trial.warm_up_s)),
            "Completed /\nfailed / cancelled": Cell(f"{trial.completed} / {trial.failed} / {trial.cancelled}"),
            "Tasks\nrunning": Cell(_number(trial.avg_concurrency)),
            "Load\nbefore": Cell(_number(trial.load)),
            "Digest": Cell("", (trial.digest or NOTHING)[:12]),
            "Error": Cell((trial.error or "")[:500]),
        }
        for trial in trials
    ]
    if not any(trial.error for trial in trials):
        for row in rows:
            del row["Error"]
    return Section("Every trial, in the order in which they ran", rows=rows, left=("Digest", "Error"))


_MakeSection = Callable[[Mapping[str, Any], Sequence[Measurement]], Section]
SECTIONS: Sequence[_MakeSection] = (_points, _losses, _law, _method, _answers, _host, _trials)
"""The page below its picture, from top to bottom."""


def list_entries(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sequential program, if it was measured, and all points."""
    baseline = summary["baseline"]
    measured = baseline["repeats"] or baseline["errors"]
    return [*([baseline] if measured else []), *summary["points"]]


def make_point_row(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Cell]:
    """The cells of the sequential program or of a point, by the title of their column."""
    highest = entry.get("max_concurrency")
    return {
        "Workers": Cell(_name_workers(entry, summary)),
        "Wall time": Cell(_seconds(entry["wall_s"]), below=_interval(entry["wall_s_ci95"])),
        "Speedup": Cell(_number(entry.get("speedup"), "x"), below=_interval(entry.get("speedup_ci95"))),
        "Efficiency": Cell(_percent(entry.get("efficiency"))),
        "Tasks/s": Cell(_number(entry["tasks_per_s"]), below=_interval(entry["tasks_per_s_ci95"])),
        "Tasks running": Cell(
            _number(entry.get("avg_concurrency")), below="" if highest is None else f"at most {highest}"
        ),
        "Completed": Cell(_percent(entry["success_rate"])),
        "Warm-up": Cell(_seconds(entry["warm_up_s"])),
        "Repeats": Cell(str(entry["repeats"])),
        "Notes": Cell(", ".join(list_notes(entry, summary))),
    }


def _name_workers(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The number of workers of a point or of a trial; where two modes were measured, with its mode."""
    workers = entry.get("workers", 0)
    if not workers:
        return "sequential"
    compares = len({point.get("mode") for point in summary["points"]}) > 1
    return f"{workers} {entry['mode'] or 'processes'}" if compares else str(workers)


def is_recommended(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> bool:
    """True for the point, or the sequential program, that the summary recommends."""
    recommended = summary["recommendation"]
    workers = entry.get("workers", 0)
    return workers == recommended["workers"] and (not workers or recommended.get("mode") in (None, entry.get("mode")))


def list_notes(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Everything that sets a point apart, in a few words each."""
    workers = entry.get("workers", 0)
    notes = []
    if is_recommended(entry, summary):
        notes.append("recommended")
    if entry["errors"]:
        trials = entry["repeats"] + len(entry["errors"])
        notes.append(f"{len(entry['errors'])} of {trials} trials failed" if entry["repeats"] else "every trial failed")
    if entry["success_rate"] is not None and entry["success_rate"] < 1:
        notes.append(f"{_percent(1 - entry['success_rate'])} of tasks lost")
    if entry.get("oversubscribed"):
        notes.append("oversubscribed")
    served = entry.get("served")
    if served is not None and served < workers:
        notes.append(f"cluster served {served}")
    reference = summary["batch"]["digest"]
    if entry["digest"] and reference and entry["digest"] != reference:
        notes.append("other answers")
    if entry["repeats"] > 1 and entry["digest"] is None and summary["digests_equal"] is False:
        notes.append("answers vary")
    return notes


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as lines, e.g. `versions.ray`."""
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((f"{prefix}{name}", NOTHING if value is None else str(value)))
    return lines


def _number(value: float | None, unit: str = "") -> str:
    """Three significant digits, and no exponent."""
    if value is None:
        return NOTHING
    decimals = next((d for d, least in enumerate((100, 10, 0.1)) if value >= least), 3 if value else 0)
    return f"{value:.{decimals}f}{unit}"


def _seconds(value: float | None) -> str:
    return _number(value, " s")


def _interval(ends: Sequence[float] | None) -> str:
    return f"{_number(ends[0])} {NOTHING} {_number(ends[1])}" if ends else ""


def _percent(share: float | None) -> str:
    """Whole percents, but never 100 or 0 for something that is not quite that."""
    if share is None:
        return NOTHING
    rounded = round(100 * share)
    if (rounded == 100 and share < 1) or (rounded == 0 and share > 0):
        return f"{100 * share:.3g} %"
    return f"{rounded} %"
