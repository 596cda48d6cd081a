"""The parts of a process's state that its tasks share: how each is read, and put back.

A task may patch the functions of a module. So this module binds those that it needs when it is imported.

Folders and import hooks that come with an import stay, since a module is imported once and rests on them. Three things
are not looked at: the stack size of new threads, for to read it is to reset it; the start method of multiprocessing and
the states of random generators, for modules set them once, as they are imported.
"""

from __future__ import annotations

import builtins
import contextlib
import decimal
import functools
import gc
import hashlib
import json
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
import warnings
from _signal import getsignal, valid_signals  # type: ignore[import-not-found]  # those of the module signal take ten times as long
from _thread import _count
from collections.abc import Callable, Iterator
from contextvars import copy_context
from ctypes import POINTER, PyDLL, c_char_p
from itertools import chain, takewhile
from locale import LC_ALL, setlocale
from operator import itemgetter
from os import chdir, fstat, getcwd, getresgid, getresuid, putenv, sched_getaffinity, sched_setaffinity, umask, unsetenv
from resource import getrlimit, setrlimit
from signal import SIG_BLOCK, SIG_SETMASK, getitimer, pthread_sigmask, setitimer
from sys import getprofile, getrecursionlimit, gettrace
from typing import Any, NamedTuple

import msgpack
import psutil
import threadpoolctl

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
    is_of_library: bool = False
    """True if it is read from the time on at which a library is imported; before, it is empty."""
    join: Callable[[Value, Value], Value] | None = None
    """Joins what was found, after something was added to it, with what was saved; None: nothing may be added."""


# --- functions --------------------------------------------------------------------------------------------------------

Readers = list[tuple[Any, Callable[[Any], Any]]]
"""Names' spaces, each with what reads several of its values at once."""
_MODULES_IN_USE = (
    *(builtins, os, os.path, signal, time, json, pickle, threading, traceback, socket),
    *(contextlib, functools, gc, hashlib, struct, msgpack, psutil, threadpoolctl),
)
"""Modules whose functions dfz_ray and Ray need."""
_CLASSES_IN_USE = (
    *(threading.Thread, threading.Condition, threading.Event, socket.socket, json.JSONEncoder, json.JSONDecoder),
    *(contextlib.suppress, contextlib.ExitStack, contextlib._GeneratorContextManager, traceback.TracebackException),
)
"""Classes whose methods they need, and other tasks, too."""
_OWN_MODULES = ("dfz_ray.worker.", "dfz_ray.execution.", "dfz_ray.protocol.", "dfz_ray.specs.")
"""Modules that execute tasks, and report what they return."""


class _Names:
    """Reads the callables of some modules or classes, as they were found at the first reading."""

    def __init__(self, list_spaces: Callable[[], list[Any]]) -> None:
        self._list_spaces = list_spaces
        self._names: list[tuple[Any, str]] = []
        self._readers: Readers = []

    def __call__(self) -> Value:
        if not self._readers:
            for space in self._list_spaces():
                names = [name for name, value in vars(space).items() if callable(value) or type(value) in _DESCRIPTORS]
                if names:
                    self._readers.append((vars(space), itemgetter(names[0], *names)))  # of one name it returns no tuple
                    self._names += [(space, name) for name in (names[0], *names)]
        return _tuple(chain.from_iterable([read(space) for space, read in self._readers]))

    def put_back(self, values: Value) -> None:
        for (space, name), value in _zip(self._names, values):
            if vars(space).get(name) is not value:
                setattr(space, name, value)


_DESCRIPTORS = (property, staticmethod, classmethod)


def _list_own_spaces() -> list[Any]:
    """The modules of dfz_ray that are imported when a worker's first lease begins, and their classes."""
    modules = [module for name, module in list(_modules.items()) if name.startswith(_OWN_MODULES)]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return [*modules, *[one for one in dict.fromkeys(classes) if one.__module__.startswith(_OWN_MODULES)]]


_FUNCTIONS = _Names(lambda: [*_MODULES_IN_USE, *_CLASSES_IN_USE])
_FUNCTIONS()
_OWN_CODE = _Names(_list_own_spaces)

# --- modules and threads ----------------------------------------------------------------------------------------------

_modules = sys.modules
_MODULES = [
    name
    for name in _modules
    if name.partition(".")[0] in {*sys.stdlib_module_names, "dfz_ray", "ray", "msgpack"} - {"__main__"}
]
"""Modules that are imported now, and whose functions import them anew as they are called."""


_find_modules = itemgetter(*_MODULES)


def _read_modules() -> Value:
    return (sys.modules, *_find_modules(_modules))


def _put_modules_back(values: Value) -> None:
    sys.modules = _modules
    _modules.update(_zip(_MODULES, values[1:]))


class _ImportList:
    """Reads a list of the module sys through which modules are found."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._list: list[Any] = getattr(sys, name)

    def __call__(self) -> Value:
        return _tuple(getattr(sys, self._name))

    def put_back(self, values: Value) -> None:
        self._list[:] = values
        setattr(sys, self._name, self._list)


def _join_paths(found: Value, saved: Value) -> Value:
    """Let folders that came with an import stay, for it may look for more modules there, but hide no others."""
    return (*saved, *[folder for folder in found if folder not in saved])


def _join_hooks(found: Value, saved: Value) -> Value:
    """Let import hooks stay where a library has put them: it installs them once, and rests on them."""
    return found


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
    for timer in (*_TIMERS, signal.ITIMER_REAL):
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


def _read_torch() -> Value:
    """The settings of torch on which models and gradients rest; none if it is not imported."""
    torch: Any = _modules.get("torch")
    try:
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        algorithms = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            _find_precision(torch),
        )
        return (*modes, torch.get_default_dtype(), str(torch.empty(0).device), *algorithms)
    except AttributeError:  # another thread is importing it
        return ()


def _find_precision(torch: Any) -> str:
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:  # it was set for one backend
        return ""


def _put_torch_back(values: Value) -> None:
    torch: Any = _modules["torch"]
    is_grad_enabled, _, dtype, device, *deterministic, precision = values
    torch.set_grad_enabled(is_grad_enabled)
    torch.set_default_device(None if device == "cpu" else device)
    torch.set_default_dtype(dtype)
    if _read_torch()[4:6] != _tuple(deterministic):  # to set them imports a part of torch that changes the environment
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
    if precision:
        torch.set_float32_matmul_precision(precision)


def enable_gradients() -> None:
    """Let torch, if it is imported, compute gradients in this thread, as it does in each new one."""
    torch: Any = _modules.get("torch")
    try:
        if torch is not None and not torch.is_grad_enabled():
            torch.set_grad_enabled(True)
    except AttributeError:  # another thread is importing it
        pass


def _keep(_: Value) -> None:
    """For a part that can't be put back, or that is put back with another one."""


_HANDLERS = Part("signal handlers", _read_handlers, _put_handlers_back)
_INTERPRETER = Part("settings of the interpreter", _read_interpreter, _put_interpreter_back)
_TRACING = Part("tracing", read_tracing, put_tracing_back)
_PATH, _FINDERS, _PATH_HOOKS = _map(_ImportList, ("path", "meta_path", "path_hooks"))
_FILTERS = Part("warnings filters", _read_filters, _put_filters_back, is_momentary=True)
QUICK_PARTS = (_HANDLERS, _INTERPRETER, _TRACING, _FILTERS)
PARTS = (
    Part("functions of modules", _FUNCTIONS, _FUNCTIONS.put_back),
    Part("code of dfz_ray", _OWN_CODE, _OWN_CODE.put_back),
    Part("modules", _read_modules, _put_modules_back),
    Part("search path of modules", _PATH, _PATH.put_back, is_momentary=True, join=_join_paths),
    Part("finders of modules", _FINDERS, _FINDERS.put_back, is_momentary=True, join=_join_hooks),
    Part("path hooks", _PATH_HOOKS, _PATH_HOOKS.put_back, is_momentary=True, join=_join_hooks),
    _HANDLERS,
    Part("timers", _read_timers, _stop_timers),
    Part("signal mask", read_mask, lambda values: pthread_sigmask(SIG_SETMASK, values)),
    Part("resource limits", _read_limits, _put_limits_back),
    Part("user and group", lambda: (*getresuid(), *getresgid()), _keep),
    Part("CPU affinity", _read_affinity, lambda values: sched_setaffinity(0, values)),
    Part("working directory", lambda: (getcwd(),), lambda values: chdir(values[0])),
    Part("folder of temporary files", lambda: (tempfile.tempdir,), _put_folder_back),
    Part("file mode creation mask", _FileMode(), lambda values: umask(values[0])),
    Part("standard streams", _read_streams, _put_streams_back, is_momentary=True),
    Part("descriptors of the standard streams", _read_descriptors, _keep),
    Part("environment", _read_environment, _put_environment_back),
    Part("time zone", lambda: (time.timezone, *time.tzname), lambda _: time.tzset()),
    Part("locale", lambda: (setlocale(LC_ALL),), lambda values: setlocale(LC_ALL, values[0])),
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
    Part("decimal context", _read_decimal, _put_decimal_back),
    Part("NumPy settings", _read_numpy, _put_numpy_back, is_of_library=True),
    Part("torch settings", _read_torch, _put_torch_back, is_momentary=True, is_of_library=True),
)
