"""The parts of a process's state that its tasks share: how each is read, and put back.

A task may patch the functions of a module. So this module binds those that it needs when it is imported.

Folders and import hooks that come with an import stay, since a module is imported once and rests on them. Three things
are not looked at: the stack size of new threads, for to read it is to reset it; the start method of multiprocessing and
the states of random generators, for modules set them once, as they are imported.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from _signal import getsignal, pthread_sigmask, valid_signals  # type: ignore[import-not-found]  # ten times as fast as those of signal
from _signal import signal as _set_handler
from _thread import _count
from collections.abc import Callable, Iterator
from ctypes import POINTER, PyDLL, c_char_p, c_void_p, sizeof, string_at
from itertools import chain, takewhile
from locale import LC_ALL, setlocale
from os import chdir, fstat, getcwd, getresgid, getresuid, putenv, sched_getaffinity, sched_setaffinity, umask, unsetenv
from resource import getrlimit, setrlimit
from signal import SIG_BLOCK, SIG_SETMASK, getitimer, setitimer
from sys import getprofile, getrecursionlimit, gettrace
from typing import Any, NamedTuple

from dfz_ray.worker.code_state import (
    FUNCTIONS,
    OWN_CODE,
    ImportList,
    join_hooks,
    join_paths,
    put_modules_back,
    read_modules,
)
from dfz_ray.worker.library_state import (
    put_decimal_back,
    put_numpy_back,
    put_torch_back,
    read_decimal,
    read_numpy,
    read_torch,
)

_enumerate, _len, _map, _tuple, _zip, _all = enumerate, len, map, tuple, zip, all

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
    is_plain: bool = False
    """True if it is numbers and texts alone: values that are equal are the same."""
    is_of_library: bool = False
    """True if it is read from the time on at which a library is imported; before, it is empty."""
    join: Callable[[Value, Value], Value] | None = None
    """Joins what was found, after something was added to it, with what was saved; None: nothing may be added."""


count_threads: Callable[[], int] = _count
"""The number of the process's threads that were started in Python."""


# --- signals and timers -----------------------------------------------------------------------------------------------

VIRTUAL, PROFILE, ALARM = TIMER_SIGNALS = (int(signal.SIGVTALRM), int(signal.SIGPROF), int(signal.SIGALRM))
_TIMERS = (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
"""Not the real one: that is the guard's, whose handler recognises an alarm of others."""
_SIGNALS = sorted(_map(int, valid_signals()))


def ignore_signal(number: int, frame: Any) -> None:
    """The handler of a signal that must not end the process; a program that it starts has the default one."""


def _read_timers() -> Value:
    return _tuple(chain.from_iterable([(getitimer(timer)[0] > 0, getitimer(timer)[1]) for timer in _TIMERS]))


def _stop_timers(_: Value) -> None:
    for timer in (signal.ITIMER_REAL, *_TIMERS):
        setitimer(timer, 0)


def _read_handlers() -> Value:
    return _tuple([getsignal(number) for number in _SIGNALS])


def _put_handlers_back(values: Value) -> None:
    _stop_timers(values)
    for number, handler in _zip(_SIGNALS, values):
        if handler is not None and getsignal(number) is not handler:
            _set_handler(number, handler)


def read_mask() -> Value:
    """The signals that this thread has blocked."""
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


_BINDING = {b"OMP_PROC_BIND", b"OMP_PLACES", b"GOMP_CPU_AFFINITY", b"KMP_AFFINITY"}
"""Variables by which OpenMP binds a thread to CPUs when it first works in parallel."""


def _read_affinity() -> Value:
    """The CPUs on which this thread may be executed; none if OpenMP chooses them."""
    known: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    return _tuple(sorted(sched_getaffinity(0))) if _BINDING.isdisjoint(known) else ()


def _put_folder_back(values: Value) -> None:
    (tempfile.tempdir,) = values


# --- environment ------------------------------------------------------------------------------------------------------

_entries = POINTER(c_char_p).in_dll(PyDLL(None), "environ")
_address = c_void_p.in_dll(PyDLL(None), "environ")


class _Environment:
    """Reads the environment as Python has it and, after None, as the C library has it.

    The library's is a list of addresses of entries; whatever sets a variable puts another address there. While these
    and Python's variables are what they were, this gives the same tuple.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] | None = None
        self._list, self._addresses = 0, b""
        self._values: Value = ()

    def __call__(self) -> Value:
        known: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
        if (
            known != self._known
            or _address.value != self._list
            or string_at(self._list, _len(self._addresses)) != self._addresses
        ):
            entries = list(_list_entries())
            self._values = (*sorted([key + b"=" + value for key, value in known.items()]), None, *sorted(entries))
            self._known, self._list = dict(known), _address.value or 0
            size = (_len(entries) + 1) * sizeof(c_void_p) if self._list else 0  # with the end of the list
            self._addresses = string_at(self._list, size)
        return self._values


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


_audit_hooks = 0
_add_audit_hook = sys.addaudithook
_is_collecting, _collect, _do_not_collect = gc.isenabled, gc.enable, gc.disable


def _note_audit_hook(hook: Callable[[str, tuple[Any, ...]], None]) -> None:
    global _audit_hooks  # noqa: PLW0603 - of this process
    _audit_hooks += 1
    _add_audit_hook(hook)


def _read_audit_hooks() -> Value:
    """The number of hooks that were added since the first reading: Python lists none, and removes none."""
    sys.addaudithook = _note_audit_hook
    return (_audit_hooks,)


def _read_filters() -> Value:
    return _tuple(warnings.filters)


def _read_errors() -> Value:
    """The filters that make exceptions of warnings."""
    return _tuple([one for one in warnings.filters if one[0] == "error"])


def _read_display() -> Value:
    """The functions that show warnings; `catch_warnings` leaves these as they were at first."""
    return (warnings.showwarning, warnings.formatwarning)


def _put_display_back(values: Value) -> None:
    warnings.showwarning, warnings.formatwarning = values


def _put_filters_back(values: Value) -> None:
    warnings.filters = list(values)
    with warnings.catch_warnings():  # its end tells the C part that they have changed
        pass


def _keep(_: Value) -> None:
    """For a part that can't be put back, or that is put back with another one."""


_HANDLERS = Part("signal handlers", _read_handlers, _put_handlers_back)
_INTERPRETER = Part("settings of the interpreter", _read_interpreter, _put_interpreter_back, is_plain=True)
_TRACING = Part("tracing", read_tracing, put_tracing_back)
_PATH, _FINDERS, _PATH_HOOKS = _map(ImportList, ("path", "meta_path", "path_hooks"))
_FILTERS = Part("warnings filters", _read_filters, _put_filters_back, is_momentary=True)
QUICK_PARTS = (_HANDLERS, _INTERPRETER, _TRACING, _FILTERS)
PARTS = (
    Part("functions of modules", FUNCTIONS, FUNCTIONS.put_back),
    Part("code of dfz_ray", OWN_CODE, OWN_CODE.put_back),
    Part("modules", read_modules, put_modules_back),
    Part("search path of modules", _PATH, _PATH.put_back, is_momentary=True, join=join_paths),
    Part("finders of modules", _FINDERS, _FINDERS.put_back, is_momentary=True, join=join_hooks),
    Part("path hooks", _PATH_HOOKS, _PATH_HOOKS.put_back, is_momentary=True, join=join_hooks),
    _HANDLERS,
    Part("timers", _read_timers, _stop_timers, is_plain=True),
    Part("signal mask", read_mask, lambda values: pthread_sigmask(SIG_SETMASK, values), is_plain=True),
    Part("resource limits", _read_limits, _put_limits_back, is_plain=True),
    Part("user and group", lambda: (*getresuid(), *getresgid()), _keep, is_plain=True),
    Part("CPU affinity", _read_affinity, lambda values: sched_setaffinity(0, values), is_plain=True),
    Part("working directory", lambda: (getcwd(),), lambda values: chdir(values[0]), is_plain=True),
    Part("folder of temporary files", lambda: (tempfile.tempdir,), _put_folder_back),
    Part("file mode creation mask", _FileMode(), lambda values: umask(values[0]), is_plain=True),
    Part("standard streams", _read_streams, _put_streams_back, is_momentary=True),
    Part("descriptors of the standard streams", _read_descriptors, _keep, is_plain=True),
    Part("environment", _Environment(), _put_environment_back, is_plain=True),
    Part("time zone", lambda: (time.timezone, *time.tzname), lambda _: time.tzset()),
    Part("locale", lambda: (setlocale(LC_ALL),), lambda values: setlocale(LC_ALL, values[0]), is_plain=True),
    _INTERPRETER,
    _TRACING,
    Part(
        "garbage collector",
        lambda: (_is_collecting(),),
        lambda values: _collect() if values[0] else _do_not_collect(),
        is_momentary=True,
    ),
    Part("audit hooks", _read_audit_hooks, _keep),
    _FILTERS,
    Part("warnings filters", _read_errors, _keep),
    Part("display of warnings", _read_display, _put_display_back),
    Part("decimal context", read_decimal, put_decimal_back, is_plain=True),
    Part("NumPy settings", read_numpy, put_numpy_back, is_of_library=True),
    Part("torch settings", read_torch, put_torch_back, is_momentary=True, is_of_library=True),
)
