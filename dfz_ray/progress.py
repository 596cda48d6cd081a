"""A progress bar for a run: counts by state and the time that is left."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Tell = Callable[[dict[str, int]], None]


@contextlib.contextmanager
def show_progress(progress: bool | Tell | None) -> Iterator[Tell]:
    """A function that is to be told the counts, and shows them as it was asked to.

    Args:
        progress: a callable is told itself; True shows a bar, False nothing; None a bar where stderr is a terminal.
    """
    if callable(progress):
        yield progress
    elif progress or (progress is None and sys.stderr.isatty()):
        with _bar() as tell:
            yield tell
    else:
        yield lambda counts: None


@contextlib.contextmanager
def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[states]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("tasks", total=None, states="starting")

        def tell(counts: dict[str, int]) -> None:
            done = counts["completed"] + counts["failed"] + counts["cancelled"]
            states = ", ".join(f"{counts[state]} {state}" for state in ("running", "failed") if counts[state])
            bar.update(task, total=sum(counts.values()), completed=done, states=states)

        yield tell
