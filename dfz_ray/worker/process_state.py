"""The state of a worker's process that its tasks share, such as signal handlers, limits and the working directory.

A task that changes it would be felt by the next one. What can be looked at in less than a microsecond is put back after
each task. The whole is looked at after the first task of a chunk, after each one that takes long or imports something,
after all of them once one has changed something, and before results are reported.
If one task alone can have changed it, it is put back then, and nobody has felt it. Otherwise nobody knows what the
tasks since the last look have felt: their results do not count.

A task may also patch the functions of a module. So this module binds those that it needs when it is imported.
"""

from __future__ import annotations

import builtins
import contextlib
import decimal
import functools
import hashlib
import json
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import warnings
from _signal import getsignal, valid_signals  # type: ignore[import-not-found]  # those of the module signal take ten times as long
from collections.abc import Callable, Iterator
from contextvars import copy_context
from ctypes import POINTER, PyDLL, c_char_p
from itertools import chain, takewhile
from locale import LC_ALL, setlocale
from operator import is_
from os import chdir, fstat, getcwd, getresgid, getresuid, putenv, umask, unsetenv
from resource import getrlimit, setrlimit
from signal import SIG_BLOCK, SIG_SETMASK, getitimer, pthread_sigmask, setitimer
from sys import getprofile, getrecursionlimit, gettrace
from time import perf_counter
from typing import Any, NamedTuple

import msgpack
import psutil
import threadpoolctl

LOOK_S = 0.05
"""After so many seconds the whole is looked at between two tasks: that takes about 0.2 ms."""
_PLAIN = (int, float, str, bytes, bool)
_enumerate, _len, _map, _tuple, _zip, _all = enumerate, len, map, tuple, zip, all
_set_handler = signal.signal

Value = tuple[Any, ...]
"""Plain values, and objects that are compared by their identity."""


class Part(NamedTuple):
    """A part of the state."""

    name: str
    """For the user."""
    read: Callable[[], Value]
    put_back: Callable[[Value], object]
    """Sets a value that was read before, as far as possible."""
    is_momentary: bool = False
    """True if libraries change it for a moment as a matter of course: that counts only while no task is executed."""


class ProcessState:
    """Remembers the state of this process; made in its main thread while no task is executed."""

    def __init__(self) -> None:
        for number in _TIMER_SIGNALS:
            if getsignal(number) == signal.SIG_DFL:  # a timer that is left behind would end the process
                _set_handler(number, _ignore)
        self.change = ""
        """The parts that have changed in a way that can't be put back, or that several tasks may have felt."""
        self.is_of_one = False
        """True if the change is that of the last task, so that no other one has felt it."""
        self._saved = [part.read() for part in PARTS]
        self._on_virtual, self._on_profile, self._on_alarm = _map(getsignal, _TIMER_SIGNALS)
        self._trace, self._profile, self._depth = gettrace(), getprofile(), getrecursionlimit()
        self._filters = list(warnings.filters)
        self._modules = _len(sys.modules)
        self._tasks = 0
        """The number of tasks that have ended since the last look."""
        self._looks_soon = True
        """True until a task of the chunk has ended: if that task changes something, the others will, too."""
        self._looks_always = False
        """True once a task was seen to change something: then each is looked at, and no two can be confused."""
        self._look_at = perf_counter() + LOOK_S

    def note_task(self) -> None:
        """A task has ended; others may be executed."""
        self._tasks += 1

    def settle(self) -> bool:
        """A task has ended, and none is executed: put back what it changed; returns True if none may follow it."""
        self._tasks += 1
        if (
            getsignal(_VIRTUAL) is not self._on_virtual
            or getsignal(_PROFILE) is not self._on_profile
            or getsignal(_ALARM) is not self._on_alarm
            or gettrace() is not self._trace
            or getprofile() is not self._profile
            or getrecursionlimit() != self._depth
            or warnings.filters != self._filters
        ):
            self._put_back([position for position, part in _enumerate(PARTS) if part in _QUICK])
        if self._looks_soon or perf_counter() >= self._look_at or _len(_modules) != self._modules:
            self._looks_soon = self._looks_always
            self.look()
        return self.change != ""

    def rest(self) -> None:
        """A chunk has ended, and no deadline is kept: look at the whole before its results are reported."""
        setitimer(signal.ITIMER_REAL, 0)
        self.look()
        self._looks_soon = True

    def look(self, executing: int = 0) -> None:
        """Look at the whole, while so many tasks are executed; what has changed is put back, and noted."""
        if self.change or not self._tasks:
            return
        changed = self._find_changed(executing)
        if changed:
            self.is_of_one = self._tasks == 1 and not executing
            self._looks_soon = self._looks_always = True
            self._put_back(changed)
            if not self.is_of_one or self._find_changed(0):
                self.change = ", ".join([PARTS[position].name for position in changed])
        self._tasks, self._modules = 0, _len(_modules)
        self._look_at = perf_counter() + LOOK_S

    def _find_changed(self, executing: int) -> list[int]:
        """The positions of the parts that have changed."""
        changed = []
        for position, part in _enumerate(PARTS):
            found = _read(part)
            if self._saved[position] == () and part.read is _read_numpy:  # it was imported since
                self._saved[position] = found
            if not _is_same(found, self._saved[position]) and not (executing and part.is_momentary):
                changed.append(position)
        return changed

    def _put_back(self, positions: list[int]) -> None:
        for position in positions:
            with contextlib.suppress(Exception):
                PARTS[position].put_back(self._saved[position])


def _read(part: Part) -> Value:
    try:
        return part.read()
    except Exception:  # the working directory was removed, or something is not what it was
        return (object(),)


def _is_same(found: Value, saved: Value) -> bool:
    if _len(found) != _len(saved):
        return False
    return _all(_map(is_, found, saved)) or _all(
        [one is other or (type(one) is type(other) and type(one) in _PLAIN and one == other)
         for one, other in _zip(found, saved)]
    )  # fmt: skip


# --- functions --------------------------------------------------------------------------------------------------------

_FUNCTIONS = [
    (vars(module), name)
    for module in (
        *(builtins, os, os.path, signal, time, json, pickle, threading, traceback, socket),
        *(contextlib, functools, hashlib, struct, msgpack, psutil, threadpoolctl),
    )
    for name, value in vars(module).items()
    if callable(value)
]
"""Functions that dfz_ray and Ray need."""
_FINDERS = [(space.get, name) for space, name in _FUNCTIONS]


def _read_functions() -> Value:
    return _tuple([find(name) for find, name in _FINDERS])


def _put_functions_back(values: Value) -> None:
    for (space, name), value in _zip(_FUNCTIONS, values):
        space[name] = value


# --- signals and timers -----------------------------------------------------------------------------------------------

_VIRTUAL, _PROFILE, _ALARM = _TIMER_SIGNALS = (int(signal.SIGVTALRM), int(signal.SIGPROF), int(signal.SIGALRM))
_TIMERS = (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
"""Not the real one: that is the guard's, whose handler recognises an alarm of others."""
_SIGNALS = sorted(_map(int, valid_signals()))


def _ignore(number: int, frame: Any) -> None:
    """The handler of a signal that must not end the process; a program that it starts has the default one."""


def _read_timers() -> Value:
    return _tuple(chain.from_iterable([(getitimer(timer)[0] > 0, getitimer(timer)[1]) for timer in _TIMERS]))


def _stop_timers(_: Value) -> None:
    for timer in (*_TIMERS, signal.ITIMER_REAL):
        setitimer(timer, 0)


def _read_handlers() -> Value:
    return _tuple([getsignal(number) for number in _SIGNALS])


def _put_handlers_back(values: Value) -> None:
    _stop_timers(values)
    for number, handler in _zip(_SIGNALS, values):
        if handler is not None and getsignal(number) is not handler:
            _set_handler(number, handler)


def _read_mask() -> Value:
    return _tuple(sorted(pthread_sigmask(SIG_BLOCK, ())))


# --- limits and files -------------------------------------------------------------------------------------------------

_LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})


def _read_limits() -> Value:
    return _tuple(chain.from_iterable([getrlimit(limit) for limit in _LIMITS]))


def _put_limits_back(values: Value) -> None:
    for position, limit in _enumerate(_LIMITS):
        with contextlib.suppress(ValueError, OSError):
            setrlimit(limit, values[2 * position : 2 * position + 2])


class _FileMode:
    """Reads the mask of new files' modes. To read it is to set it: so it is set to what it was the last time."""

    def __init__(self) -> None:
        self._last = 0o077

    def __call__(self) -> Value:
        found = umask(self._last)
        if found != self._last:
            umask(found)
            self._last = found
        return (found,)


def _read_streams() -> Value:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return (*streams, *[stream is None or stream.closed for stream in streams[1:]])


def _put_streams_back(values: Value) -> None:
    sys.stdin, sys.stdout, sys.stderr = values[:3]


def _read_descriptors() -> Value:
    return _tuple(chain.from_iterable([(found.st_dev, found.st_ino) for found in _map(fstat, range(3))]))


# --- environment ------------------------------------------------------------------------------------------------------

_entries = POINTER(c_char_p).in_dll(PyDLL(None), "environ")


def _read_environment() -> Value:
    """The environment as Python has it and, after None, as the C library has it."""
    known: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    return (*sorted([key + b"=" + value for key, value in known.items()]), None, *sorted(_list_entries()))


def _list_entries() -> Iterator[bytes]:
    return takewhile(bool, iter(_entries)) if _entries else iter(())


def _put_environment_back(values: Value) -> None:
    middle = values.index(None)
    known, wanted = [dict([entry.split(b"=", 1) for entry in half]) for half in (values[:middle], values[middle + 1 :])]
    for key in {entry.split(b"=", 1)[0] for entry in _list_entries()} - wanted.keys():
        unsetenv(key)
    for key, value in wanted.items():
        putenv(key, value)
    os.environ._data.clear()  # type: ignore[attr-defined]
    os.environ._data.update(known)  # type: ignore[attr-defined]


# --- settings of the interpreter and of libraries ---------------------------------------------------------------------

_modules = sys.modules


def _read_interpreter() -> Value:
    return (getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits(), socket.getdefaulttimeout())


def _put_interpreter_back(values: Value) -> None:
    sys.setrecursionlimit(values[0])
    sys.setswitchinterval(values[1])
    sys.set_int_max_str_digits(values[2])
    socket.setdefaulttimeout(values[3])


def read_tracing() -> Value:
    """The functions that trace and profile this thread, and those of new threads."""
    return (gettrace(), getprofile(), threading.gettrace(), threading.getprofile())


def put_tracing_back(values: Value) -> None:
    """Set the functions that trace and profile."""
    sys.settrace(values[0])
    sys.setprofile(values[1])
    threading.settrace(values[2])
    threading.setprofile(values[3])


def _read_filters() -> Value:
    return _tuple(warnings.filters)


def _read_errors() -> Value:
    """The filters that make exceptions of warnings."""
    return _tuple([one for one in warnings.filters if one[0] == "error"])


def _put_filters_back(values: Value) -> None:
    warnings.filters = list(values)
    with warnings.catch_warnings():  # its end tells the C part that they have changed
        pass


def _find_decimal() -> list[decimal.Context]:
    """The default context, and that of this thread if it has one: to ask for it would make it."""
    own = [value for variable, value in copy_context().items() if variable.name == "decimal_context"]
    return [decimal.DefaultContext, *own]


def _read_decimal() -> Value:
    values: list[Any] = []
    for context in _find_decimal():
        values += (context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp)
        values += context.traps.values()
    return _tuple(values)


def _put_decimal_back(values: Value) -> None:
    following = iter(values)
    for context in _find_decimal():
        for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp"):
            setattr(context, name, next(following))
        for condition in list(context.traps):
            context.traps[condition] = next(following)


def _read_numpy() -> Value:
    """NumPy's settings for errors and, after None, for printing; none if it is not imported."""
    numpy = _modules.get("numpy")
    try:
        errors, printing, called = numpy.geterr(), numpy.get_printoptions(), numpy.geterrcall()  # type: ignore[union-attr]
    except AttributeError:  # another thread is importing it
        return ()
    return (called, *chain.from_iterable(errors.items()), None, *chain.from_iterable(printing.items()))


def _put_numpy_back(values: Value) -> None:
    numpy: Any = _modules["numpy"]
    middle = values.index(None, 1)
    numpy.seterrcall(values[0])
    numpy.seterr(**dict(_zip(values[1:middle:2], values[2:middle:2])))
    printing = dict(_zip(values[middle + 1 :: 2], values[middle + 2 :: 2]))
    printing.pop("override_repr", None)
    numpy.set_printoptions(**printing)


def _keep(_: Value) -> None:
    """For a part that can't be put back, or that is put back with another one."""


_HANDLERS = Part("signal handlers", _read_handlers, _put_handlers_back)
_INTERPRETER = Part("settings of the interpreter", _read_interpreter, _put_interpreter_back)
_TRACING = Part("tracing", read_tracing, put_tracing_back)
_FILTERS = Part("warnings filters", _read_filters, _put_filters_back, is_momentary=True)
_QUICK = (_HANDLERS, _INTERPRETER, _TRACING, _FILTERS)
PARTS = (
    Part("functions of modules", _read_functions, _put_functions_back),
    _HANDLERS,
    Part("timers", _read_timers, _stop_timers),
    Part("signal mask", _read_mask, lambda values: pthread_sigmask(SIG_SETMASK, values)),
    Part("resource limits", _read_limits, _put_limits_back),
    Part("user and group", lambda: (*getresuid(), *getresgid()), _keep),
    Part("working directory", lambda: (getcwd(),), lambda values: chdir(values[0])),
    Part("file mode creation mask", _FileMode(), lambda values: umask(values[0])),
    Part("standard streams", _read_streams, _put_streams_back, is_momentary=True),
    Part("descriptors of the standard streams", _read_descriptors, _keep),
    Part("environment", _read_environment, _put_environment_back),
    Part("time zone", lambda: (time.timezone, *time.tzname), lambda _: time.tzset()),
    Part("locale", lambda: (setlocale(LC_ALL),), lambda values: setlocale(LC_ALL, values[0])),
    _INTERPRETER,
    _TRACING,
    _FILTERS,
    Part("warnings filters", _read_errors, _keep),
    Part("decimal context", _read_decimal, _put_decimal_back),
    Part("NumPy settings", _read_numpy, _put_numpy_back),
)
