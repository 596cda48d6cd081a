"""Closes open runs when the interpreter exits."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfz_ray.driver.run_session import RunSession

_open_runs: weakref.WeakSet[RunSession] = weakref.WeakSet()


def close_at_exit(run: RunSession) -> None:
    """Register a run: when the interpreter exits, it is closed, or the interpreter waits for its tasks."""
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
