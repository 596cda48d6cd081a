"""Keeps deadlines where no lease does: in a sequential program, and where workers try tasks before a measurement.

An alarm raises in the task, as in a lease. There is no watchdog that ends the process: native code runs to its end, and
its task is over time then.
"""

from __future__ import annotations

import contextlib
import signal
from _thread import get_ident
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

from dfz_ray.execution.execute import Work
from dfz_ray.execution.interruption import make_interruption

AGAIN_S = 0.1
"""Seconds after which an alarm repeats: an alarm just before a task begins to sleep would not wake it."""
SOON_S = 1e-4
"""The least seconds for which an alarm is set: 0 would turn it off."""


class AlarmGuard:
    """Keeps the deadlines of tasks that the main thread of a process executes one after the other."""

    def __init__(self) -> None:
        self._current: Work | None = None
        self._due = 0.0
        """The deadline of the current task, by the monotonic clock, if it has one."""

    def begin(self, work: Work) -> bool:
        """A task begins; none is ever revoked."""
        if work.timeout_s is not None:
            self._due = monotonic() + work.timeout_s
            self._current = work
            signal.signal(signal.SIGALRM, self._on_alarm)  # a task before may have taken the alarm for itself
            signal.setitimer(signal.ITIMER_REAL, max(work.timeout_s, SOON_S), AGAIN_S)
        return True

    def go_on(self) -> None:
        """A call of the task has ended, and may have changed the alarm: set it again for those that follow."""
        if self._current is not None:
            signal.setitimer(signal.ITIMER_REAL, max(self._due - monotonic(), SOON_S), AGAIN_S)

    def end(self) -> None:
        """The task has ended: an alarm interrupts nothing any more."""
        if self._current is not None:
            self._current = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_alarm(self, number: int, frame: Any) -> None:
        work = self._current
        if work is None or work.timeout_s is None or monotonic() < self._due:
            return
        self.end()  # a task must not be interrupted again while it cleans up
        message = f"it ran longer than its deadline of {work.timeout_s:g} s"
        raise make_interruption(get_ident(), "timeout", message, frames=2)


@contextlib.contextmanager
def keep_deadlines(works: Iterable[Work]) -> Iterator[AlarmGuard | None]:
    """The guard of these tasks; None if none of them has a deadline: a guard takes time."""
    if not any(work.timeout_s is not None for work in works):
        yield None
        return
    before = signal.getsignal(signal.SIGALRM)
    guard = AlarmGuard()
    try:
        yield guard
    finally:
        guard.end()
        if before is not None:  # it is one of C's
            signal.signal(signal.SIGALRM, before)
