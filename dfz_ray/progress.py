"""A progress bar for a run: counts by state and the time that is left."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

from dfz_ray.driver.listener import CountsListener
from dfz_ray.specs.states import count_final


@contextlib.contextmanager
def show_progress(progress: bool | CountsListener | None) -> Iterator[CountsListener]:
    """Yield a function that shows counts.

    True shows a bar, False nothing, None a bar in terminals and notebooks; a callable gets the counts itself.
    """
    if callable(progress):
        yield progress
    elif progress or (progress is None and (is_terminal(sys.stderr) or _is_notebook())):
        with _bar() as show:
            yield show
    else:
        yield lambda counts: None


def is_terminal(stream: Any) -> bool:
    """True if a stream is a terminal. It may be None, closed, or have `write` alone, where a program replaced it."""
    ask = getattr(stream, "isatty", None)
    try:
        return ask is not None and bool(ask())
    except ValueError:  # it is closed
        return False


def _is_notebook() -> bool:
    """True in a notebook that can show a moving bar."""
    shell = sys.modules.get("IPython")
    if shell is None or type(shell.get_ipython()).__name__ != "ZMQInteractiveShell":
        return False
    return importlib.util.find_spec("ipywidgets") is not None  # a bar needs it


@contextlib.contextmanager
def _bar() -> Iterator[CountsListener]:
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

        def show(counts: dict[str, int]) -> None:
            done = count_final(list(counts.values()))
            states = ", ".join(f"{count} {state}" for state, count in counts.items() if count and state != "completed")
            bar.update(task, total=sum(counts.values()), completed=done, states=states)

        yield show
