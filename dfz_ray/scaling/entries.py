"""The entries of a study's summary, the sequential program and each point, in words: their names, notes and rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dfz_ray.scaling.number_texts import show_interval, show_number, show_percent, show_percents, show_seconds
from dfz_ray.scaling.section import Cell


def list_entries(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sequential program, if it was measured, and all points."""
    baseline = summary["baseline"]
    measured = baseline["repeats"] or baseline["errors"]
    return [*([baseline] if measured else []), *summary["points"]]


def why_no_speedup(summary: Mapping[str, Any]) -> str:
    """The reason why no point has a speedup."""
    if summary["baseline"]["wall_s"] is None:
        return (
            "the sequential program failed"
            if summary["baseline"]["errors"]
            else "the sequential program was not measured"
        )
    most = max((point["success_rate"] or 0.0 for point in summary["points"]), default=0.0)
    if not most:
        return "no number of workers completed a task"
    if most < (summary["baseline"]["success_rate"] or 0.0):
        return "workers completed fewer tasks than the sequential program did"
    return "the sequential program completed fewer tasks than workers did"


def make_point_row(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Cell]:
    """The cells of the sequential program or of a point, by the title of their column."""
    highest = entry.get("max_concurrency")
    return {
        "Workers": Cell(name_workers(entry, summary)),
        "Wall time": Cell(show_seconds(entry["wall_s"]), below=show_interval(entry["wall_s_ci95"])),
        "Speedup": Cell(show_number(entry.get("speedup"), "x"), below=show_interval(entry.get("speedup_ci95"))),
        "Efficiency": Cell(show_percent(entry.get("efficiency")), below=show_percents(entry.get("efficiency_ci95"))),
        "Tasks/s": Cell(show_number(entry["tasks_per_s"]), below=show_interval(entry["tasks_per_s_ci95"])),
        "Tasks running": Cell(
            show_number(entry.get("avg_concurrency")), below="" if highest is None else f"at most {highest}"
        ),
        "Completed": Cell(show_percent(entry["success_rate"])),
        "Warm-up": Cell(show_seconds(entry["warm_up_s"])),
        "Repeats": Cell(str(entry["repeats"])),
        "Notes": Cell(", ".join(list_notes(entry, summary))),
    }


def name_count(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """As `name_workers`, with its noun."""
    name = name_workers(entry, summary)
    return f"{name} worker{'s' if name != '1' else ''}" if name.isdigit() else name


def name_workers(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The number of workers of a point or of a trial; where two modes were measured, with its mode."""
    workers = entry.get("workers", 0)
    if not workers:
        return "sequential"
    compares = len({point.get("mode") for point in summary["points"]}) > 1
    return name_slots(workers, entry["mode"]) if compares else str(workers)


def name_slots(workers: int, mode: str | None) -> str:
    """So many workers of a mode in words, such as `2 threads`."""
    nouns = mode or "processes"
    return f"{workers} {nouns if workers != 1 else nouns.removesuffix('es' if nouns == 'processes' else 's')}"


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
        notes.append(f"{show_percent(1 - entry['success_rate'])} of tasks lost")
    if entry.get("oversubscribed"):
        notes.append("oversubscribed")
    served = entry.get("served")
    if served is not None and served < workers:
        notes.append(f"cluster served {served}")
    reference = summary["batch"]["digest"]
    if entry["digest"] and reference and entry["digest"] != reference:
        notes.append("other answers")
    if len(entry["digests"] or ()) > 1:
        notes.append("answers vary")
    return notes
