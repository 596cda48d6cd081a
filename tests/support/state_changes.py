"""Tasks that change the state of their process, and what another task in that process feels of it."""

from __future__ import annotations

import builtins
import ctypes
import decimal
import gc
import importlib
import json
import locale
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np


class Alarm(Exception):
    """Raised by the handler of a timer that was left behind."""


def _raise(number: int, frame: Any) -> None:
    raise Alarm


def _leave_timer(timer: int, number: int, interval_s: float) -> None:
    signal.signal(number, _raise)
    signal.setitimer(timer, 1e-3, interval_s)


def _hide_alarm() -> None:
    """Leave an alarm whose handler puts everything back before it raises."""
    before = signal.getsignal(signal.SIGALRM)

    def once(number: int, frame: Any) -> None:
        signal.signal(signal.SIGALRM, before)
        raise Alarm

    signal.signal(signal.SIGALRM, once)
    signal.setitimer(signal.ITIMER_REAL, 1e-3)


def _trace_badly(frame: Any, event: str, argument: Any) -> Any:
    raise Alarm


def _set_traps() -> None:
    decimal.DefaultContext.prec = 3
    decimal.getcontext().prec = 2


def _close_stdout() -> None:
    os.close(1)


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise Alarm


def _patch(module: Any, *names: str) -> None:
    for name in names:
        setattr(module, name, _refuse)


def _delete(module: Any, *names: str) -> None:
    for name in names:
        delattr(module, name)


class _Finder:
    find_spec = staticmethod(_refuse)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.listdir":
        raise PermissionError("a hook of another task")


def _patch_own_code() -> None:
    """Nothing would be looked at any more, and every task would return the same."""
    state: Any = importlib.import_module("dfz_ray.worker.process_state")
    state.ProcessState.look = state.ProcessState.settle = lambda *_: False
    execute: Any = importlib.import_module("dfz_ray.execution.execute")
    execute.encode = lambda value: b"\xa5other"


def _lower(limit: int, value: int) -> None:
    resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))


def _put_into_libc() -> None:
    ctypes.CDLL(None).setenv(b"DFZ_FELT", b"libc", 1)


ON_THREADS: dict[str, Callable[[], Any]] = {
    "working directory": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0o777),
    "environment": lambda: os.environ.update(DFZ_FELT="changed"),
    "environment of the C library": _put_into_libc,
    "a variable removed": lambda: os.environ.pop("PATH", None),
    "limit of files": lambda: _lower(resource.RLIMIT_NOFILE, 100),
    "limit of file sizes": lambda: _lower(resource.RLIMIT_FSIZE, 0),
    "hard limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "errors of warnings": lambda: warnings.simplefilter("error"),
    "display of warnings": lambda: _patch(warnings, "showwarning"),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C"),
    "recursion limit": lambda: sys.setrecursionlimit(200),
    "switch interval": lambda: sys.setswitchinterval(1.0),
    "default decimal context": _set_traps,
    "NumPy's errors": lambda: np.seterr(all="raise"),
    "NumPy's printing": lambda: np.set_printoptions(precision=1),
    "modules": lambda: [sys.modules.pop(name) for name in ("json", "signal", "dfz_ray.errors")],
    "os patched": lambda: _patch(os, "getcwd", "stat", "getpid", "kill", "write"),
    "json patched": lambda: _patch(json, "dumps", "loads"),
    "time patched": lambda: _patch(time, "time", "monotonic", "perf_counter"),
    "signal patched": lambda: _patch(signal, "signal", "setitimer", "getsignal"),
    "threads patched": lambda: _patch(threading.Thread, "start", "join"),
    "collector patched": lambda: _patch(gc, "disable", "enable", "isenabled"),
    "threading patched": lambda: _patch(threading, "get_ident", "current_thread"),
    "audit hook": lambda: sys.addaudithook(_hook),
    "code of dfz_ray patched": _patch_own_code,
    "folder of temporary files": lambda: setattr(tempfile, "tempdir", "/nowhere"),
    "collector": gc.disable,
    "no search path": lambda: sys.path.clear(),  # noqa: PLW0108 - it is pickled
    "no finders": lambda: sys.meta_path.clear(),  # noqa: PLW0108 - it is pickled
    "tracing": lambda: sys.settrace(_trace_badly),
    "profiling": lambda: sys.setprofile(_trace_badly),
    "time zone": lambda: (os.environ.update(TZ="Asia/Tokyo"), time.tzset()),
}
"""Changes that a task can make on any thread."""
DEEDS: dict[str, Callable[[], Any]] = {
    **ON_THREADS,
    "alarm": lambda: _leave_timer(signal.ITIMER_REAL, signal.SIGALRM, 0.0),
    "repeating alarm": lambda: _leave_timer(signal.ITIMER_REAL, signal.SIGALRM, 1e-4),
    "alarm that hides itself": _hide_alarm,
    "virtual timer": lambda: _leave_timer(signal.ITIMER_VIRTUAL, signal.SIGVTALRM, 1e-4),
    "profiling timer": lambda: _leave_timer(signal.ITIMER_PROF, signal.SIGPROF, 1e-4),
    "timer without a handler": lambda: signal.setitimer(signal.ITIMER_PROF, 1e-3, 1e-3),
    "ignored signal": lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
    "signal mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGUSR1]),
    "warnings": lambda: warnings.simplefilter("ignore"),
    "search path": lambda: sys.path.insert(0, "/nowhere"),
    "another search path": lambda: setattr(sys, "path", ["/nowhere", *sys.path]),
    "finder": lambda: sys.meta_path.insert(0, _Finder()),
    "path hook": lambda: sys.path_hooks.insert(0, _refuse),
    "affinity": lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
    "closed stdout": _close_stdout,
    "replaced stdout": lambda: setattr(sys, "stdout", None),
    "builtins deleted": lambda: _delete(builtins, "setattr", "vars", "sorted"),
    "builtins patched": lambda: _patch(builtins, "print", "sorted", "repr", "open"),
}


def feel() -> dict[str, Any]:
    """The state of this process as a task feels it, and for how long it could work undisturbed."""
    end = time.perf_counter() + 2e-3
    while time.perf_counter() < end:
        sum(range(50))
    with np.errstate():
        errors = sorted(np.geterr().items())
    read = ctypes.CDLL(None).getenv
    read.restype = ctypes.c_char_p
    return {
        "cwd": os.getcwd(),
        "environment": sorted(os.environ.items()),
        "libc": [str(read(name)) for name in (b"DFZ_FELT", b"PATH", b"TZ")],
        "files": [resource.getrlimit(limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)],
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "warnings": [str(one) for one in warnings.filters],
        "locale": locale.setlocale(locale.LC_ALL),
        "interpreter": [sys.getrecursionlimit(), sys.getswitchinterval()],
        "decimal": str(decimal.Decimal(1) / decimal.Decimal(3)),
        "numpy": [errors, np.get_printoptions()["precision"]],
        "time zone": list(time.tzname),
        "json": json.dumps({"a": 1}),
        "modules": [name in sys.modules for name in ("json", "signal", "dfz_ray.errors")],
        "traced": [sys.gettrace() is None, sys.getprofile() is None],
        "masked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "handlers": [getattr(signal.getsignal(number), "__name__", "") for number in (14, 26, 27)],
        "timers": [signal.getitimer(timer)[1] for timer in (1, 2)],
        "mode": _feel_mode(),
        "stdout": [sys.stdout is None, os.fstat(1).st_ino],
        "path": [sys.path[:1] == ["/nowhere"], sys.path == []],
        "finders": [type(one).__name__ for one in sys.meta_path[:1]],
        "temporary": tempfile.gettempdir(),
        "collector": gc.isenabled(),
        "CPUs": sorted(os.sched_getaffinity(0)),
        "listed": os.listdir("/") != [],
        "sorted": sorted([2, 1]),
        "builtins": [vars(sys) is not None, setattr is not None],
    }


def _feel_mode() -> int:
    path = f"/tmp/dfz_felt-{os.getpid()}-{threading.get_ident()}"  # noqa: S108 - of this process
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
    mode = os.stat(path).st_mode
    os.unlink(path)
    return mode
