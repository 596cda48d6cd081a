"""Keeps the deadlines of the tasks that a worker executes one after the other, and ends those that are cancelled.

A deadline has two clocks. An alarm raises an exception in the task that no `except Exception` stops. After a grace, a
watchdog thread in C that needs no GIL (faulthandler's) writes the stacks and ends the process. In a lease SIGTERM has
its default action and SIGINT has none: Ray's handlers would raise in the user's task, which would look like the task's
own failure.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import signal
from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found]  # those of signal take ten times as long
from _signal import signal as _set_handler
from _thread import get_ident
from collections.abc import Iterator, Mapping
from signal import getitimer, setitimer
from time import monotonic
from typing import Any

from dfz_ray.engine.messages import NO_TASK
from dfz_ray.execution.alarm import AGAIN_S, SOON_S
from dfz_ray.execution.execute import Work
from dfz_ray.execution.interruption import make_interruption
from dfz_ray.worker.crash_marker import CrashMarker

# A task may replace functions of modules: those that are used between tasks are bound here.
_DEFAULT, _IGNORE = int(signal.SIG_DFL), int(signal.SIG_IGN)
_dump_later, _cancel_dump = faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later
LOOK = signal.SIGUSR1
"""The signal that makes a worker look for revoked tasks."""
SLACK_S = 0.25
"""The watchdog may be so many seconds late: so short tasks share one, for each costs the start of a thread."""
ANSWER_S = 30.0
"""Seconds that the manager may take to answer a report. It answers at once: if it does not, this worker or its
connection is broken."""


@contextlib.contextmanager
def handle_signals(handlers: Mapping[int, Any]) -> Iterator[None]:
    """Install signal handlers, one for LOOK among them, for the length of a lease."""
    # Ray would raise SystemExit or KeyboardInterrupt in the task, which would look like its own failure.
    all_handlers = {signal.SIGTERM: _DEFAULT, signal.SIGINT: _IGNORE, **handlers}
    before = {number: _set_handler(number, handler) for number, handler in all_handlers.items()}
    try:
        yield
    finally:
        before[LOOK] = _IGNORE  # one that comes too late must not end an idle worker
        for number, handler in before.items():
            _set_handler(number, handler)


@contextlib.contextmanager
def end_if_silent() -> Iterator[None]:
    """End this process if the block, in which no task is executed, takes longer than the manager may take.

    The kernel ends it, which needs no memory, no other thread and no GIL: a task may have left the process without.
    """
    setitimer(signal.ITIMER_REAL, ANSWER_S)
    pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    before = _set_handler(signal.SIGALRM, _DEFAULT)
    try:
        yield
    finally:
        setitimer(signal.ITIMER_REAL, 0)
        _set_handler(signal.SIGALRM, before)


class Watchdog:
    """A thread in C that needs no GIL: it writes the stacks of the worker `grace_s` after a deadline, and ends it."""

    def __init__(self, marker: CrashMarker, grace_s: float) -> None:
        self._marker = marker
        self._grace_s = grace_s
        self._slack_s = min(SLACK_S, grace_s / 4)
        self._at: float | None = None
        """The time at which it ends the process, if it is set."""

    @property
    def is_set(self) -> bool:
        """True if it will end the process."""
        return self._at is not None

    def set(self, due: float) -> None:
        """Set it for a deadline, or a little later, unless it is set so already; turn it off if that is infinite."""
        earliest = due + self._grace_s
        if self._at is not None and earliest <= self._at <= earliest + self._slack_s:
            return
        if due == math.inf:
            if self._at is not None:
                self._at = None
                _cancel_dump()
            return
        dump = self._marker.open_dump()
        if dump is not None:  # without it a deadline would look like a crash: then the manager kills the worker
            self._at = earliest + self._slack_s
            _dump_later(max(self._at - monotonic(), 1e-3), exit=True, file=dump)


class DeadlineGuard:
    """Keeps the deadlines of the tasks of one lease.

    At a deadline an alarm raises an Interruption in the task, which ends Python code and sleeps. A task that does not
    end by that, such as native code that holds the GIL, meets the watchdog. So exactly this worker is lost, and its
    crash marker names the task.
    """

    def __init__(self, marker: CrashMarker, grace_s: float) -> None:
        self.marker = marker
        self._watchdog = Watchdog(marker, grace_s)
        self._current: Work | None = None
        self._interrupted = False
        self._due = math.inf
        """The deadline of the current task, by the monotonic clock."""
        self._revoked: set[int] = set()

    @contextlib.contextmanager
    def on_duty(self) -> Iterator[None]:
        """Keep deadlines for the length of a lease. If an error ends it, the marker stays."""
        with handle_signals({signal.SIGALRM: self._on_alarm, LOOK: self._on_look}):
            self.marker.open()
            yield
            self.marker.close()

    def begin(self, work: Work) -> bool:
        """A task begins; returns False if the task was revoked."""
        if work.number in self._revoked:
            return False
        self._interrupted = False
        if work.timeout_s is None:
            self._call_off()
            self.marker.note(work.number)
            self._current = work
            return True
        self._due = monotonic() + work.timeout_s
        self._watchdog.set(self._due)
        if getsignal(signal.SIGALRM) != self._on_alarm:  # a task before has taken the alarm for itself
            _set_handler(signal.SIGALRM, self._on_alarm)
        self.marker.note_thread(
            0, work.number, self._due
        )  # as late as this: an error above is the fault of a task before
        self._current = work
        setitimer(signal.ITIMER_REAL, work.timeout_s, AGAIN_S)
        return True

    def go_on(self) -> None:
        """A call of the task has ended, and may have changed the alarm: set it again for those that follow."""
        if self._due < math.inf and not getitimer(signal.ITIMER_REAL)[1]:  # ours repeats
            setitimer(signal.ITIMER_REAL, max(self._due - monotonic(), SOON_S), AGAIN_S)

    def end(self) -> None:
        """The task has ended: an alarm interrupts nothing any more."""
        self._current = None

    def rest(self) -> None:
        """No task is executed: no deadline is kept."""
        self.end()
        self._call_off()
        self.marker.note(NO_TASK)

    def _call_off(self) -> None:
        """Turn alarm and watchdog off."""
        if self._due < math.inf:
            self._due = math.inf
            self.marker.note_thread(0, NO_TASK)
            self._watchdog.set(math.inf)
            setitimer(signal.ITIMER_REAL, 0)

    def _on_alarm(self, number: int, frame: Any) -> None:
        work = self._current
        if work is None or work.timeout_s is None:
            return
        left_s = self._due - monotonic()
        if left_s > 0:  # it was the alarm of the task before, or one that the task has set itself
            setitimer(signal.ITIMER_REAL, max(left_s, SOON_S), AGAIN_S)
            return
        self._interrupt("timeout", f"it ran longer than its deadline of {work.timeout_s:g} s")

    def _on_look(self, number: int, frame: Any) -> None:
        self._revoked = self.marker.revoked()
        work = self._current
        if work is not None and work.number in self._revoked:
            self._interrupt("cancelled", "it was cancelled")

    def _interrupt(self, reason: str, message: str) -> None:
        if not self._interrupted:  # once: a task must not be interrupted again while it cleans up
            self._interrupted = True
            self.marker.note_interrupted()
            raise make_interruption(get_ident(), reason, message, frames=2)
