"""A study as people read it: a table for the terminal, a page for the browser."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dfz_ray.scaling.figure import draw_figure
from dfz_ray.scaling.measurement import Measurement

if TYPE_CHECKING:
    from rich.table import Table

NOTHING = "\N{EN DASH}"
"""What a table shows where nothing was measured."""


class StudyFiles(NamedTuple):
    """Where a study was written to."""

    summary: Path
    figure: Path
    report: Path


def write_study(folder: Path, summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> StudyFiles:
    """Write `summary.json`, `scaling.png` and `report.html`; a reader never sees half a file.

    Args:
        folder: is made if it does not exist.
        summary: as `build_summary` made it.
        measurements: all trials of the study.

    Raises:
        ValueError: the summary holds a number that is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = StudyFiles(folder / "summary.json", folder / "scaling.png", folder / "report.html")
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    _replace(files.summary, text.encode())
    picture = draw_figure(summary, measurements)
    _replace(files.figure, picture)
    _replace(files.report, render_report(summary, measurements, picture).encode(errors="replace"))
    return files


def points_table(summary: Mapping[str, Any]) -> Table:
    """The points as a table for the terminal, under the sequential program; it fits 80 columns.

    Args:
        summary: as `build_summary` made it.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), collapse_padding=True, pad_edge=False, header_style="dim")
    for name in ("Workers", "Time", "Speedup", "95 %", "Efficiency", "Tasks/s", "Running"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Notes", overflow="fold")
    for row in point_rows(summary):
        interval = row.speedup_ci95.replace(" ", "")
        numbers = (row.workers, row.wall_s, row.speedup, interval, row.efficiency, row.tasks_per_s, row.running)
        # A terminal may not know the dash.
        cells = [Text(cell.replace(NOTHING, "-")) for cell in (*numbers, "\n".join(row.notes))]
        table.add_row(*cells, style="bold" if row.recommended else None)
    return table


def render_report(summary: Mapping[str, Any], measurements: Sequence[Measurement], picture: bytes) -> str:
    """The whole study as one HTML page that needs nothing else: no scripts, no links, no other files.

    Args:
        summary: as `build_summary` made it.
        measurements: all trials of the study.
        picture: as `draw_figure` made it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dfz_ray.scaling", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        summary=summary,
        rows=point_rows(summary),
        trials=trial_rows(measurements),
        host=_flat(summary["host"]),
        picture=base64.b64encode(picture).decode(),
    )


@dataclass(frozen=True)
class PointRow:
    """One line of the table of points, as text; intervals are empty where there are none."""

    workers: str
    wall_s: str
    wall_s_ci95: str
    speedup: str
    speedup_ci95: str
    efficiency: str
    tasks_per_s: str
    tasks_per_s_ci95: str
    running: str
    most_running: str
    completed: str
    warm_up_s: str
    repeats: str
    digest: str
    notes: tuple[str, ...]
    recommended: bool


def point_rows(summary: Mapping[str, Any]) -> list[PointRow]:
    """The sequential program, if it was measured, and all points.

    Args:
        summary: as `build_summary` made it.
    """
    baseline = summary["baseline"]
    measured = baseline["repeats"] or baseline["errors"]
    return [_point_row(entry, summary) for entry in [*([baseline] if measured else []), *summary["points"]]]


def _point_row(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> PointRow:
    workers = entry.get("workers", 0)
    highest = entry.get("max_concurrency")
    return PointRow(
        workers=_name_workers(workers, entry.get("mode") if _compares(summary) else None),
        wall_s=_seconds(entry["wall_s"]),
        wall_s_ci95=_interval(entry["wall_s_ci95"]),
        speedup=_number(entry.get("speedup"), "x"),
        speedup_ci95=_interval(entry.get("speedup_ci95")),
        efficiency=_percent(entry.get("efficiency")),
        tasks_per_s=_number(entry["tasks_per_s"]),
        tasks_per_s_ci95=_interval(entry["tasks_per_s_ci95"]),
        running=_number(entry.get("avg_concurrency")),
        most_running="" if highest is None else f"at most {highest}",
        completed=_percent(entry["success_rate"]),
        warm_up_s=_seconds(entry["warm_up_s"]),
        repeats=str(entry["repeats"]),
        digest=entry["digest"] or NOTHING,
        notes=tuple(_notes(entry, summary)),
        recommended=_is_recommended(entry, summary),
    )


def _compares(summary: Mapping[str, Any]) -> bool:
    """Whether two modes were measured."""
    return len({point.get("mode") for point in summary["points"]}) > 1


def _name_workers(workers: int, mode: str | None) -> str:
    return " ".join(filter(None, (str(workers), mode))) if workers else "sequential"


def _is_recommended(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> bool:
    recommended = summary["recommendation"]
    workers = entry.get("workers", 0)
    return workers == recommended["workers"] and (not workers or recommended.get("mode") in (None, entry.get("mode")))


def _notes(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    workers = entry.get("workers", 0)
    notes = []
    if _is_recommended(entry, summary):
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


@dataclass(frozen=True)
class TrialRow:
    """One line of the table of trials, as text."""

    order: str
    workers: str
    repeat: str
    started: str
    wall_s: str
    warm_up_s: str
    tasks: str
    running: str
    load: str
    digest: str
    error: str


def trial_rows(measurements: Sequence[Measurement]) -> list[TrialRow]:
    """All trials in the order in which they ran."""
    compares = len({trial.mode for trial in measurements if trial.workers}) > 1
    return [
        TrialRow(
            order=str(trial.order + 1),
            workers=_name_workers(trial.workers, trial.mode if compares else None),
            repeat=str(trial.repeat + 1),
            started=datetime.fromtimestamp(trial.started_at, UTC).strftime("%H:%M:%S"),
            wall_s=_seconds(trial.wall_s),
            warm_up_s=_seconds(trial.warm_up_s),
            tasks=f"{trial.completed} / {trial.failed} / {trial.cancelled}",
            running=_number(trial.avg_concurrency),
            load=_number(trial.load),
            digest=(trial.digest or NOTHING)[:12],
            error=(trial.error or "")[:500],
        )
        for trial in sorted(measurements, key=lambda trial: trial.order)
    ]


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


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
    """Three digits that count, and no exponent."""
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
