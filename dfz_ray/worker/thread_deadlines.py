"""Keeps the deadlines of the tasks that the threads of a worker execute, and ends those that are cancelled."""

from __future__ import annotations

import contextlib
import ctypes
import math
import queue
import threading
from collections.abc import Iterator
from time import monotonic  # bound here, for a task may put another one in its place

from dfz_ray.engine.messages import NO_TASK
from dfz_ray.execution.execute import Work
from dfz_ray.execution.interruption import make_interruption
from dfz_ray.worker.crash_marker import CrashMarker
from dfz_ray.worker.deadlines import LOOK, Watchdog, handle_signals

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = [ctypes.c_ulong, ctypes.py_object]
LOOPS = 100
"""Turns of a loop that a thread makes to meet an exception that is on its way: it is raised at the next turn."""


class ThreadSlot:
    """A thread and the task that it executes; `position` numbers the threads from 0."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.thread = threading.get_ident()
        self.work: Work | None = None
        self.due = math.inf
        """The deadline of its task, by the monotonic clock."""
        self.interrupted = False


class ThreadDeadlineGuard:
    """Keeps the deadlines of the tasks of a lease that has several threads.

    At a deadline an Interruption is raised in the task's thread, which ends Python code. A task that does not end by
    that, in a long sleep or native code, meets the watchdog. The crash marker names the task that overran its deadline;
    all others are executed again. While one task holds the GIL no task can be interrupted, and all that are late by
    then are suspects. `grace_s` lies between the deadline and the watchdog; `width` is the largest number of threads.
    """

    def __init__(self, marker: CrashMarker, grace_s: float, width: int) -> None:
        self.marker = marker
        self.width = width
        self._watchdog = Watchdog(marker, grace_s)
        self._lock = threading.Lock()
        self._slots: list[ThreadSlot] = []
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """Wakes the main thread. Threads and signal handlers put items in; True: look for revoked tasks."""
        self._wakes_at = math.inf
        self._revoked: set[int] = set()

    @contextlib.contextmanager
    def on_duty(self) -> Iterator[None]:
        """Keep deadlines for the length of a lease. If an error ends it, the marker stays."""
        with handle_signals({LOOK: lambda *_: self._calls.put(True)}):
            self.marker.open()
            yield
            with self._lock:
                self._slots.clear()
                self._set_watchdog()
            self.marker.close()

    # --- in the main thread -------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Wake the main thread."""
        self._calls.put(False)

    def watch(self, until: float = math.inf) -> None:
        """Wait to be woken, for a deadline, or until that time; then interrupt tasks that are late or cancelled."""
        with self._lock:
            dues = [slot.due for slot in self._slots if not slot.interrupted]
            self._wakes_at = min([until, *dues])
        left_s = self._wakes_at - monotonic()
        looks = False
        with contextlib.suppress(queue.Empty):
            looks = self._calls.get(timeout=None if left_s == math.inf else max(0.0, left_s))
            while True:
                looks = self._calls.get_nowait() or looks
        if looks:
            self._revoked = self.marker.revoked()
        if looks or self._wakes_at <= monotonic():
            self._interrupt_due()

    def _interrupt_due(self) -> None:
        with self._lock:
            now = monotonic()
            for slot in self._slots:
                work = slot.work
                if work is not None and work.number in self._revoked:
                    self._interrupt(slot, "cancelled", "it was cancelled")
                elif work is not None and slot.due <= now:
                    self._interrupt(slot, "timeout", f"it ran longer than its deadline of {work.timeout_s:g} s")

    def _interrupt(self, slot: ThreadSlot, reason: str, message: str) -> None:
        if slot.work is not None and not slot.interrupted:  # once: not again while the task cleans up
            slot.interrupted = True
            self.marker.note_interrupted(slot.position)
            _raise_in_thread(slot.thread, make_interruption(slot.thread, reason, message, frames=0))

    # --- in the threads -----------------------------------------------------------------------------------------------

    def take_slot(self) -> ThreadSlot:
        """A thread begins."""
        with self._lock:
            slot = ThreadSlot(len(self._slots))
            self._slots.append(slot)
            return slot

    def begin(self, slot: ThreadSlot, work: Work) -> bool:
        """A thread begins a task, which may be interrupted until `end`; returns False if the task was revoked."""
        with self._lock:
            if work.number in self._revoked:
                return False
            slot.interrupted = False
            if work.timeout_s is not None:
                slot.due = monotonic() + work.timeout_s
            self.marker.note_thread(slot.position, work.number, slot.due, slot.thread)
            slot.work = work
            if work.timeout_s is not None or self._watchdog.is_set:
                self._set_watchdog()
            if slot.due < self._wakes_at:
                self._calls.put(False)
        return True

    def end(self, slot: ThreadSlot) -> None:
        """A thread's task has ended: no interruption comes after this, and one that is on its way is raised in here."""
        with self._lock:
            slot.work, slot.due = None, math.inf
            self.marker.note_thread(slot.position, NO_TASK)
        if slot.interrupted:
            # If it were taken back, the interpreter would look for it for ever: in Python 3.11 a profiler then hangs.
            for _ in range(LOOPS):
                pass

    def rest(self) -> None:
        """A thread is idle: set the watchdog for the tasks of the others."""
        if self._watchdog.is_set:
            with self._lock:
                self._set_watchdog()

    def _set_watchdog(self) -> None:
        """Set the watchdog for the first deadline."""
        self._watchdog.set(min((slot.due for slot in self._slots), default=math.inf))
