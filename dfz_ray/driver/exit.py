"""Closes open runs when the interpreter exits."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfz_ray.driver.run_session import RunSession

logger = logging.getLogger("dfz_ray")

CLOSING_S = 5.0
"""Seconds that all runs together have to close once the user interrupts the end of the program."""

_open_runs: weakref.WeakSet[RunSession] = weakref.WeakSet()


def close_at_exit(run: RunSession) -> None:
    """Register a run: when the interpreter exits, it is closed, or the interpreter waits for its tasks."""
    _watch_exit()
    _open_runs.add(run)


@functools.cache
def _watch_exit() -> None:
    # Ray imports it, perhaps only when the main thread has ended: then it could not register its own callback any more.
    # Callbacks are called in reverse order, so its threads still work while ours waits.
    import concurrent.futures.thread  # noqa: F401

    # Before the interpreter waits for threads and Ray is shut down; the pools of concurrent.futures do the same.
    threading._register_atexit(_close_all)  # type: ignore[attr-defined]


def tell(message: str) -> None:
    """Log what was lost; on stderr, if the program has set up no logging."""
    if all(isinstance(handler, logging.NullHandler) for handler in (*logger.handlers, *logging.root.handlers)):
        print(f"dfz_ray: {message}", file=sys.stderr)
    else:
        logger.error(message)


def _close_all() -> None:
    runs = list(_open_runs)
    try:
        for run in runs:
            if run.finishes_at_exit:
                run.finish()
            else:
                run.close()
        for run in runs:
            run.join()
    except BaseException as error:  # Ctrl-C, or what a signal handler raises
        tell(f"{type(error).__name__}: the program ends without waiting for its open tasks")
        _give_up(runs)


def _give_up(runs: list[RunSession]) -> None:
    until = time.monotonic() + CLOSING_S
    with contextlib.suppress(BaseException):  # interrupted again
        for run in runs:
            run.close()
        for run in runs:
            run.join(max(0.0, until - time.monotonic()))
    for run in runs:
        run.abandon()
