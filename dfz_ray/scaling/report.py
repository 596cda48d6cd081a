"""A study as people read it: a table for the terminal, a page for the browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dfz_ray.journal.folder import write_whole
from dfz_ray.scaling.entries import is_recommended, list_entries, list_notes, make_point_row
from dfz_ray.scaling.figure import draw_figure
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.number_texts import NOTHING
from dfz_ray.scaling.sections import SECTIONS
from dfz_ray.scaling.verdict import make_verdict

if TYPE_CHECKING:
    from rich.table import Table


class StudyFiles(NamedTuple):
    """The files that were written for a study."""

    summary: Path
    figure: Path
    vector_figure: Path
    report: Path


def write_study(folder: Path, summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> StudyFiles:
    """Write `summary.json`, `scaling.png`, `scaling.svg` and `report.html`; a reader never sees half a file.

    Raises ValueError if the summary holds a number that is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = "summary.json", "scaling.png", "scaling.svg", "report.html"
    files = StudyFiles(*(folder / name for name in names))
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    write_whole(files.summary, text.encode())
    pictures = draw_figure(summary, measurements)
    write_whole(files.figure, pictures.png)
    write_whole(files.vector_figure, pictures.svg)
    write_whole(files.report, render_report(summary, measurements).encode(errors="replace"))
    return files


def points_table(summary: Mapping[str, Any]) -> Table:
    """The points as a table for the terminal, under the sequential program; it fits 80 columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), collapse_padding=True, pad_edge=False, header_style="dim")
    for name in ("Workers", "Time", "Speedup", "95 %", "Efficiency", "Tasks/s", "Running"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Notes", overflow="fold")
    for entry in list_entries(summary):
        row = make_point_row(entry, summary)
        texts = {name: cell.text for name, cell in row.items()}
        interval = row["Speedup"].below.replace(" ", "")
        numbers = (texts["Workers"], texts["Wall time"], texts["Speedup"], interval, texts["Efficiency"])
        shown = (*numbers, texts["Tasks/s"], texts["Tasks running"], "\n".join(list_notes(entry, summary)))
        cells = [Text(cell.replace(NOTHING, "-")) for cell in shown]  # a terminal may not know the dash
        table.add_row(*cells, style="bold" if is_recommended(entry, summary) else None)
    return table


def render_report(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> str:
    """The whole study as one HTML page that needs nothing else: no scripts, no links, no other files."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dfz_ray.scaling", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment.get_template("report.html.j2").render(
        summary=summary,
        sections=[section for make_section in SECTIONS if (section := make_section(summary, measurements))],
        verdict=make_verdict(summary),
    )
