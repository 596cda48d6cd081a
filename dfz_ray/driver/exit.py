"""Closes open runs when the interpreter exits."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from typing import Protocol


class OpenRun(Protocol):
    """A run with threads of its own."""

    finishes_at_exit: bool
    """True if the interpreter waits for its tasks."""

    def finish(self) -> None:
        """Take no more batches: the run closes itself when no task is open."""

    def join(self) -> None:
        """Wait until the run is closed."""

    def close(self) -> None:
        """Close the run, whatever is open."""


_open_runs: weakref.WeakSet[OpenRun] = weakref.WeakSet()


def close_at_exit(run: OpenRun) -> None:
    """Have a run closed when the interpreter exits, or have the interpreter wait for its tasks."""
    _watch_exit()
    _open_runs.add(run)


@functools.cache
def _watch_exit() -> None:
    # Before the interpreter waits for threads and Ray is shut down; the pools of concurrent.futures do the same.
    threading._register_atexit(_close_all)  # type: ignore[attr-defined]


def _close_all() -> None:
    for run in list(_open_runs):
        with contextlib.suppress(BaseException):
            if run.finishes_at_exit:
                run.finish()
            else:
                run.close()
            run.join()
