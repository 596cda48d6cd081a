"""Closes open runs when the interpreter exits."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

from dfz_ray.driver.unread_error import report, report_at_exit

if TYPE_CHECKING:
    from dfz_ray.driver.run_session import RunSession

CLOSING_S = 5.0
"""Seconds that all runs together have to close once the user interrupts the end of the program."""

EXITING = "cannot schedule new futures after interpreter shutdown"
"""The message of the standard library's pools."""

_open_runs: weakref.WeakSet[RunSession] = weakref.WeakSet()
_lock = threading.Lock()
"""Held to add a run, and to copy the set."""
_exiting = threading.Event()


def close_at_exit(run: RunSession) -> None:
    """Register a run: when the interpreter exits, it is closed, or the interpreter waits for its tasks."""
    _watch_exit()
    with _lock:
        _open_runs.add(run)


def refuse_at_exit() -> None:
    """Raise RuntimeError if the main thread has ended: else a callback that submits would keep the program for ever."""
    if _exiting.is_set():
        raise RuntimeError(EXITING)


def _begin_anew() -> None:
    """In a forked process: the runs are the parent's, where a thread that is not here may hold the lock."""
    global _lock  # noqa: PLW0603 - one for all, as there is one process
    _lock = threading.Lock()
    for run in _get_open_runs():
        run.leave_to_parent()
    _open_runs.clear()


@functools.cache
def _watch_exit() -> None:
    # Ray imports it, perhaps only when the main thread has ended: then it could not register its own callback any more.
    # Callbacks are called in reverse order, so its threads still work while ours waits.
    import concurrent.futures.thread  # noqa: F401

    os.register_at_fork(after_in_child=_begin_anew)
    report_at_exit()
    atexit.register(_give_up)  # in case that an interrupt kept the interpreter from calling the next one
    # Before the interpreter waits for threads and Ray is shut down; the pools of concurrent.futures do the same.
    threading._register_atexit(_close_all)  # type: ignore[attr-defined]


def _get_open_runs() -> list[RunSession]:
    with _lock:
        return list(_open_runs)


def _close_all() -> None:
    _exiting.set()
    try:
        runs = _get_open_runs()
        for run in runs:
            if run.finishes_at_exit:
                run.finish()
            else:
                run.close()
        for run in runs:
            run.join()
    except BaseException as error:  # Ctrl-C, or what a signal handler raises
        report(f"{type(error).__name__}: the program ends without waiting for its open tasks")
        _give_up()


def _give_up() -> None:
    """Close the runs that are still open, without waiting for their tasks, which are then lost."""
    runs = _get_open_runs()
    until = time.monotonic() + CLOSING_S
    with contextlib.suppress(BaseException):  # interrupted again
        for run in runs:
            run.close()
        for run in runs:
            run.join(max(0.0, until - time.monotonic()))
    for run in runs:
        run.abandon()
    hook = sys.modules.get("ray._private.auto_init_hook")
    if hook is not None:  # else a thread that is still at work would connect anew, once Ray is shut down
        hook.enable_auto_connect = False  # type: ignore[attr-defined]
