"""The state of a worker's process that its tasks share, such as signal handlers, limits and the working directory.

A task that changes it would be felt by the next one; a call of a group counts as a task. What can be looked at in less
than a microsecond is put back after each task. The whole is looked at after the first task of a lease, after one that
imports something, once a quarter of a second has passed since the last look, after all tasks once one has changed
something, and before results are reported.
If one task alone can have changed it, it is put back then, and nobody has felt it. Otherwise nobody knows what the
tasks since the last look have felt: their results do not count, and each is executed again by itself. A thread that an
earlier task left behind may change something, too. So while there is one, a part that no task has changed without it
was changed by nobody knows whom; and an exception that such a thread may have raised in a task is not taken for the
task's own.

A task may also patch the functions of a module, or the methods of a class. So this module binds those that it needs
when it is imported, and an object keeps the methods that it was made with.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import warnings
from _signal import getsignal  # type: ignore[import-not-found]  # those of the module signal take ten times as long
from _signal import signal as _set_handler
from collections.abc import Callable
from operator import is_
from signal import setitimer
from sys import getprofile, getrecursionlimit, gettrace
from time import perf_counter

from dfz_ray.execution.interruption import count_raised_elsewhere
from dfz_ray.worker.state_parts import (
    ALARM,
    PARTS,
    PROFILE,
    QUICK_PARTS,
    TIMER_SIGNALS,
    VIRTUAL,
    Part,
    Value,
    count_threads,
    ignore_signal,
)

LOOK_S = 0.25
"""After so many seconds the whole is looked at between two tasks: that takes 0.1 ms, or 0.4 ms with cold caches."""
STRAYS = "a task, by an exception from a thread that an earlier one has left behind"
LEFT_STRAYS = "the threads of its process"
PUT_BACK_TRIES = 5
"""A part is put back so often: the handler of a signal that was on its way may raise meanwhile."""
_PLAIN = (int, float, str, bytes, bool)
_enumerate, _len, _map, _range, _tuple, _zip, _all = enumerate, len, map, range, tuple, zip, all
_modules = sys.modules


class ProcessState:
    """Remembers the state of this process; made in its main thread while no task is executed."""

    def __init__(self, on_strays: Callable[[], object] = lambda: None) -> None:
        self._on_strays = on_strays
        """Called when threads are met that tasks have left behind."""
        for number in TIMER_SIGNALS:
            if getsignal(number) == signal.SIG_DFL:  # a timer that is left behind would end the process
                _set_handler(number, ignore_signal)
        self.change = ""
        """The parts that have changed in a way that can't be put back, or that several tasks may have felt."""
        self.is_of_one = False
        """True if the change is that of the last task, so that no other one has felt it."""
        self._saved = [part.read() for part in PARTS]
        self._on_virtual, self._on_profile, self._on_alarm = _map(getsignal, TIMER_SIGNALS)
        self._trace, self._profile, self._depth = gettrace(), getprofile(), getrecursionlimit()
        self._filters = list(warnings.filters)
        self._modules = _len(sys.modules)
        self._path, self._finders = list(sys.path), list(sys.meta_path)
        self._own_threads = _count_first_threads()
        self.has_strays = False
        """True if at the last look there were threads that tasks have left behind."""
        self._met_strays = False
        """True if there were some when a task ended since."""
        if _earlier_strays:
            on_strays()
        self._look_for_strays()
        self._raised_elsewhere = count_raised_elsewhere()
        self._known: set[int] = set()
        """Positions of the parts that tasks change by themselves."""
        self._tasks = 0
        """The number of tasks that have ended since the last look."""
        self._looks_always = False
        """True once a task was seen to change something: then each is looked at, and no two can be confused."""
        self._look_at = 0.0
        """The time from which on the next task is looked at: the first one of a lease, for if that task changes
        something, the others will, too.
        """
        methods = [name for name, value in vars(ProcessState).items() if callable(value) and name != "__init__"]
        vars(self).update({name: getattr(self, name) for name in methods})

    @property
    def folder(self) -> Value:
        """The working directory, as the lease has found it."""
        return self._saved[_names.index("working directory")]

    def allow_threads(self, count: int) -> None:
        """Take so many threads more for ones that no task has left behind."""
        self._own_threads += count
        self._look_for_strays()

    def note_task(self) -> None:
        """A task has ended; others may be executed."""
        self._tasks += 1
        if not self._met_strays and count_threads() > self._own_threads:
            self._met_strays = True
            self._note_strays()

    def settle(self) -> bool:
        """A task has ended, and none is executed: put back what it changed; returns True if none may follow it."""
        self._tasks += 1
        if count_threads() > self._own_threads and not self._met_strays:
            self._met_strays = True
            self._note_strays()
        if sys.path != self._path or sys.meta_path != self._finders:
            self._put_imports_back()
        if (
            getsignal(VIRTUAL) is not self._on_virtual
            or getsignal(PROFILE) is not self._on_profile
            or getsignal(ALARM) is not self._on_alarm
            or gettrace() is not self._trace
            or getprofile() is not self._profile
            or getrecursionlimit() != self._depth
            or warnings.filters != self._filters
        ):
            self._put_back([position for position, part in _enumerate(PARTS) if part in QUICK_PARTS])
        if _len(_modules) != self._modules or perf_counter() >= self._look_at:
            self.look()
        return self.change != ""

    def settle_alone(self) -> bool:
        """As `settle`, in a chunk of one suspect: look at the whole, and let nothing meet a thread that is left."""
        self._look_at = 0.0
        self.settle()
        if self.has_strays and not self.change:  # what they change would be nobody's
            self.change, self.is_of_one = LEFT_STRAYS, True
        return self.change != ""

    def rest(self) -> None:
        """A chunk has ended, and no deadline is kept: look at the whole before its results are reported."""
        setitimer(signal.ITIMER_REAL, 0)
        self.look()

    def give_up(self) -> None:
        """Something that executing rests on has failed: no result since the last look counts."""
        with contextlib.suppress(Exception):
            self.look(executing=1)
        self.change, self.is_of_one = self.change or "the code that executes tasks", False

    def look(self, executing: int = 0) -> None:
        """Look at the whole, while so many tasks are executed; what has changed is put back, and noted."""
        if self.change or not self._tasks:
            return
        if not executing:
            self._join_imports()
        changed = self._find_changed(executing)
        if changed:
            is_of_one = self._tasks == 1 and not executing
            if is_of_one and not self.has_strays:
                self._known.update(changed)
            self.is_of_one = is_of_one and self._known.issuperset(changed)
            self._looks_always = True
            self._put_back(changed)
            if not self.is_of_one or self._find_changed(0):
                self.change = ", ".join([PARTS[position].name for position in changed])
        if self._raised_elsewhere != count_raised_elsewhere() and self._has_felt_strays():
            self.change, self.is_of_one = self.change or STRAYS, False
        self._tasks, self._modules, self._raised_elsewhere = 0, _len(_modules), count_raised_elsewhere()
        self._met_strays = False
        self._look_for_strays()
        self._look_at = 0.0 if self._looks_always else perf_counter() + LOOK_S

    def _look_for_strays(self) -> None:
        self.has_strays = count_threads() > self._own_threads
        if self.has_strays:
            self._note_strays()

    def _note_strays(self) -> None:
        _earlier_strays[:] = [True]
        self._on_strays()

    def _has_felt_strays(self) -> bool:
        """True if a thread may have met another task than the one that has left it behind."""
        return self.has_strays or (self._met_strays and self._tasks > 1)

    def _find_changed(self, executing: int) -> list[int]:
        """The positions of the parts that have changed."""
        changed = []
        for position, part in _enumerate(PARTS):
            found = _read(part)
            if part.is_of_library and self._saved[position] == ():  # it was imported since
                self._saved[position] = found
            if found == self._saved[position] if part.is_plain else _is_same(found, self._saved[position]):
                self._saved[position] = found  # a part that reads nothing anew gives this very object next time
            elif not (executing and part.is_momentary):
                changed.append(position)
        return changed

    def _put_imports_back(self) -> None:
        """Put back what modules are found by; what came with an import stays."""
        if _len(_modules) != self._modules:
            self._join_imports()
        self._put_back([position for position, part in _enumerate(PARTS) if part.join is not None])
        self._path, self._finders = list(sys.path), list(sys.meta_path)

    def _join_imports(self) -> None:
        """Take in what was added to what modules are found by, unless something else of it is missing."""
        for position, part in _enumerate(PARTS):
            if part.join is not None:
                found, saved = _read(part), self._saved[position]
                if _len(found) > _len(saved) and _all([one in found for one in saved]):
                    self._saved[position] = part.join(found, saved)
                    part.put_back(self._saved[position])

    def _put_back(self, positions: list[int]) -> None:
        for position in positions:
            for _ in _range(PUT_BACK_TRIES):
                with contextlib.suppress(Exception):
                    PARTS[position].put_back(self._saved[position])
                    break


_names = [part.name for part in PARTS]
_earlier_strays: list[bool] = []
"""Not empty once there were strays in this process: what they have done may end it after they have ended."""


@functools.cache
def _count_first_threads() -> int:
    """The number of this process's threads before its first task."""
    return count_threads()


def _read(part: Part) -> Value:
    try:
        return part.read()
    except Exception:  # the working directory was removed, or something is not what it was
        return (object(),)


def _is_same(found: Value, saved: Value) -> bool:
    if found is saved:
        return True
    if _len(found) != _len(saved):
        return False
    return _all(_map(is_, found, saved)) or _all(
        [one is other or (type(one) is type(other) and type(one) in _PLAIN and one == other)
         for one, other in _zip(found, saved)]
    )  # fmt: skip
