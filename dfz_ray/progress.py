"""A progress bar for a run: counts by state and the time that is left."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator

Tell = Callable[[dict[str, int]], None]


@contextlib.contextmanager
def show_progress(progress: bool | Tell | None) -> Iterator[Tell]:
    """A function that is to be told the counts, and shows them as it was asked to.

    Args:
        progress: a callable is told itself; True shows a bar, False nothing; None a bar in terminals and notebooks.
    """
    if callable(progress):
        yield progress
    elif progress or (progress is None and (sys.stderr.isatty() or _is_notebook())):
        with _bar() as tell:
            yield tell
    else:
        yield lambda counts: None


def _is_notebook() -> bool:
    """Whether this runs in a notebook that can show what moves."""
    shell = sys.modules.get("IPython")
    if shell is None or type(shell.get_ipython()).__name__ != "ZMQInteractiveShell":
        return False
    return importlib.util.find_spec("ipywidgets") is not None  # without it nothing could be drawn over


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
            states = ", ".join(f"{count} {state}" for state, count in counts.items() if count and state != "completed")
            bar.update(task, total=sum(counts.values()), completed=done, states=states)

        yield tell
