"""The interpreter: hooks, frames, limits, the collector, modules."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import faulthandler
import gc
import importlib.abc
import io
import linecache
import os
import random
import sys
import threading
import traceback
import tracemalloc
from typing import Any

from support.hostile_tasks.deed import COMPLETED, DIED, LATE, RAISED, UNSTORABLE, deed

ANY = (COMPLETED, RAISED, DIED, UNSTORABLE)


class Hooked(Exception):
    """Raised by a hook."""


def _raise(*_: Any, **__: Any) -> Any:
    raise Hooked("a task has left this hook")


# --- hooks ------------------------------------------------------------------------------------------------------------


@deed(*ANY)
def trace_and_raise() -> None:
    sys.settrace(_raise)


@deed(*ANY)
def trace_every_thread() -> None:
    threading.settrace(_raise)
    sys.settrace(lambda *_: _raise)


@deed(*ANY)
def profile_and_raise() -> None:
    sys.setprofile(_raise)


@deed(*ANY)
def trace_the_callers() -> None:
    """Trace the frames that called the task, line by line, and raise there."""
    frame = sys._getframe(1)
    while frame is not None:
        frame.f_trace = _raise
        frame = frame.f_back  # type: ignore[assignment]
    sys.settrace(lambda *_: None)


@deed(*ANY)
def audit_and_raise() -> None:
    sys.addaudithook(_raise)


@deed(*ANY)
def audit_and_forbid_files() -> None:
    def forbid(event: str, _: Any) -> None:
        if event in ("open", "os.remove", "os.listdir", "socket.connect", "signal.pthread_kill"):
            raise Hooked(event)

    sys.addaudithook(forbid)


@deed(COMPLETED)
def hooks_of_exceptions() -> None:
    sys.excepthook = sys.unraisablehook = threading.excepthook = _raise


@deed(COMPLETED, DIED)
def leave_at_exit() -> None:
    atexit.register(os._exit, 9)


@deed(COMPLETED)
def raise_at_fork() -> None:
    os.register_at_fork(before=_raise, after_in_child=_raise, after_in_parent=_raise)


@deed(*ANY)
def find_no_module() -> None:
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, *_: Any) -> Any:
            raise Hooked("no module can be found")

    sys.meta_path.insert(0, Finder())


@deed(*ANY)
def no_path_to_modules() -> None:
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


@deed(*ANY)
def no_modules() -> None:
    sys.modules.clear()


@deed(*ANY)
def lines_that_lie() -> None:
    linecache.getline = linecache.getlines = linecache.checkcache = _raise


@deed(COMPLETED)
def another_event_loop() -> None:
    asyncio.set_event_loop_policy(type("Policy", (asyncio.DefaultEventLoopPolicy,), {"new_event_loop": _raise})())
    asyncio.set_event_loop(None)


# --- limits and frames ------------------------------------------------------------------------------------------------


@deed(*ANY)
def little_recursion() -> None:
    depth = len(traceback.extract_stack())
    sys.setrecursionlimit(depth + 3)


@deed(DIED, RAISED)
def overflow_the_stack() -> None:
    sys.setrecursionlimit(10**9)

    def descend(level: int) -> list[Any]:  # by `map`, so that it takes the stack of C
        if level > 300_000:
            raise RecursionError("the stack has no limit")
        return list(map(descend, [level + 1]))

    descend(0)


@deed(DIED, RAISED)
def overflow_the_stack_in_c() -> None:
    sys.setrecursionlimit(10**9)
    value: Any = []
    for _ in range(200_000):
        value = [value]
    repr(value)


@deed(RAISED)
def recurse_for_ever() -> None:
    recurse_for_ever()


@deed(COMPLETED, RAISED)
def clear_the_frames_of_callers() -> None:
    frame = sys._getframe(1)
    while frame is not None:
        with contextlib.suppress(RuntimeError):
            frame.clear()
        frame = frame.f_back  # type: ignore[assignment]


@deed(*ANY)
def clear_every_suspended_frame() -> None:
    """Among them the generators behind the context managers of the lease."""
    for found in gc.get_objects():
        if type(found).__name__ == "generator" and found.gi_frame is not None:
            with contextlib.suppress(RuntimeError):
                found.gi_frame.clear()


@deed(*ANY)
def close_every_generator() -> None:
    for found in gc.get_objects():
        if type(found).__name__ == "generator":
            with contextlib.suppress(BaseException):
                found.close()


@deed(*ANY)
def empty_the_objects_of_the_lease() -> None:
    names = {"DeadlineGuard", "ThreadDeadlineGuard", "CrashMarker", "WorkerSide", "ThreadLease"}
    for found in gc.get_objects():
        if type(found).__name__ in names and hasattr(found, "__dict__"):
            found.__dict__.clear()


@deed(*ANY)
def locals_of_the_callers() -> None:
    frame = sys._getframe(1)
    while frame is not None:
        for name in list(frame.f_locals):
            with contextlib.suppress(Exception):
                frame.f_locals[name] = None
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
        frame = frame.f_back  # type: ignore[assignment]


@deed(RAISED)
def raise_in_itself_a_little_later() -> None:
    own = ctypes.c_ulong(threading.get_ident())
    ctypes.pythonapi.PyThreadState_SetAsyncExc(own, ctypes.py_object(KeyboardInterrupt))
    for _ in range(1000):
        pass


# --- the collector and the memory -------------------------------------------------------------------------------------


@deed(COMPLETED)
def no_collection() -> None:
    gc.disable()
    gc.freeze()


@deed(COMPLETED)
def collect_all_the_time() -> None:
    gc.unfreeze()
    gc.set_threshold(1)


@deed(COMPLETED)
def raise_in_collections() -> None:
    gc.callbacks.append(_raise)
    gc.set_threshold(5)


@deed(COMPLETED, DIED)
def free_none_a_thousand_times() -> None:
    release = ctypes.pythonapi.Py_DecRef
    release.argtypes = [ctypes.py_object]
    for _ in range(1000):
        release(None)


@deed(COMPLETED)
def garbage_that_raises_when_it_goes() -> None:
    class Last:
        def __del__(self) -> None:
            raise Hooked("the last word")

    for _ in range(1000):
        last: Any = Last()
        last.itself = last


@deed(COMPLETED)
def watch_every_allocation() -> None:
    tracemalloc.start(5)


# --- the rest ---------------------------------------------------------------------------------------------------------


@deed(COMPLETED)
def no_output() -> None:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


@deed(COMPLETED)
def output_that_raises() -> None:
    class Raising(io.StringIO):
        write = flush = fileno = _raise  # type: ignore[assignment]

    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = Raising()  # type: ignore[misc]


@deed(COMPLETED)
def no_dump_of_stacks() -> None:
    faulthandler.disable()


@deed(COMPLETED)
def seed_everybodys_random_numbers() -> None:
    random.seed(1)


@deed(LATE, RAISED, hangs=True)
def wait_for_input() -> None:
    sys.stdin = os.fdopen(os.pipe()[0])
    input()
