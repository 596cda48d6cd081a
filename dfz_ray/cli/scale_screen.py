"""The output of `dfz scale`: how long the study will take, each trial as it ends, and the numbers at its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from dfz_ray.cli.printing import safe_line
from dfz_ray.scaling.number_texts import show_workers

if TYPE_CHECKING:
    from dfz_ray.scaling.measurement import Measurement
    from dfz_ray.scaling.pilot import Pilot
    from dfz_ray.scaling.report import StudyFiles
    from dfz_ray.scaling.stopping import Stopping
    from dfz_ray.scaling.study import Study
    from dfz_ray.scaling.study_plan import StudyPlan


def tell_forecast(plan: StudyPlan, stopping: Stopping, pilot: Pilot, cores: int, time_limit_s: float | None) -> None:
    """Say how long the study will take, before it starts."""
    from dfz_ray.scaling.pilot import predict_repeat_s

    repeat_s = predict_repeat_s(plan, pilot, cores)
    tried = f"{pilot.tried} of {len(plan.batch.tasks)} tasks were tried"
    span = " to ".join(f"{repeat_s * count:.0f}" for count in sorted({stopping.least, stopping.most}))
    workers = f"{', '.join(map(str, plan.worker_counts))} worker{'s' if plan.worker_counts != (1,) else ''}"
    limit = f", or until the time limit of {time_limit_s:g} s" if time_limit_s else ""
    click.echo(
        f"the batch takes about {pilot.work_s:.1f} s in one process ({tried}), so a repeat with {workers} takes "
        f"{repeat_s:.0f} s at least, and the study {span} s{limit}",
        err=True,
    )
    if failed := pilot.describe_failed():
        click.echo(safe_line(failed), err=True)


@contextlib.contextmanager
def show_progress(study: Study, stopping: Stopping) -> Iterator[Callable[[Measurement], None]]:
    """A progress bar, or a line for each trial where stderr is no terminal.

    The bar shows the most repeats that there may be. The end of the first repeat tells how long the study will take.
    """
    from rich import progress as parts
    from rich.console import Console

    trials = len(study.plan.repeat(0))
    columns = (
        parts.TextColumn("{task.description}", markup=False),
        parts.BarColumn(),
        parts.TaskProgressColumn(),
        parts.TimeElapsedColumn(),
        parts.TextColumn("at most"),
        parts.TimeRemainingColumn(elapsed_when_finished=False),
    )
    console = Console(stderr=True)
    begun = time.monotonic()
    with parts.Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("study", total=trials * stopping.most)

        def show(measurement: Measurement) -> None:
            trials = len(study.plan.repeat(0))  # counts may have joined
            least, most = trials * stopping.least, trials * stopping.most
            count, done = measurement.workers, measurement.order + 1
            name = show_workers(count) if count else "sequential"
            name += f" ({measurement.mode})" if count and len(study.plan.modes) > 1 else ""
            took = measurement.error or f"{measurement.wall_s:.2f} s"
            shown = f"{done}/{most}" if least == most else f"{done}/{least} to {most}"
            words = f"{shown}  {name}: {took}"
            progress.update(bar, completed=done, total=most, description=words)
            if not console.is_terminal:
                click.echo(words, err=True)
            if done == trials and most > trials:
                repeat_s = time.monotonic() - begun
                span = " to ".join(f"{repeat_s * count:.0f}" for count in sorted({stopping.least, stopping.most}))
                progress.console.print(f"a repeat takes {repeat_s:.1f} s, so the whole study takes {span} s")

        yield show


def print_study(summary: Mapping[str, Any], files: StudyFiles, folder: Path, out: TextIO) -> None:
    """Print the points, the recommendation, what meets each goal, and the files that were written."""
    from rich.console import Console
    from rich.markup import escape

    from dfz_ray.scaling.choices import describe_choice
    from dfz_ray.scaling.report import points_table

    console = Console(file=out, emoji=False)
    console.print(points_table(summary))
    console.print(f"\n[bold]{escape(summary['recommendation']['reason'])}[/bold]\n", highlight=False)
    for choice in summary["recommendation"]["choices"]:
        console.print(escape(describe_choice(choice)), highlight=False)
    if summary["why_ended"]:
        click.echo(f"There was no further repeat because {summary['why_ended']}.", file=out)
    click.echo(file=out)
    for path in (files.report, files.figure, files.summary, folder / "measurements.jsonl"):
        click.echo(path, file=out)
