"""Modules and classes that a task changes for everybody in its process."""

from __future__ import annotations

import builtins
import contextlib
import functools
import gc
import hashlib
import importlib
import json
import logging
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import psutil
import pydantic
import ray
import threadpoolctl

from support.hostile_tasks.deed import COMPLETED, DIED, LATE, RAISED, UNSTORABLE, deed

ANY = (COMPLETED, RAISED, DIED, UNSTORABLE)
"""A task that breaks the process it runs in may break itself."""


class Patched(Exception):
    """Raised by what was patched."""


def _raise(*_: Any, **__: Any) -> Any:
    raise Patched("a task has patched this")


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _patch(owner: Any, *names: str, by: Any = _raise) -> None:
    for name in names:
        setattr(owner, name, by)


# --- os, signal, time -------------------------------------------------------------------------------------------------


@deed(*ANY)
def patch_os_getpid() -> None:
    _patch(os, "getpid", by=lambda: 1)


@deed(*ANY)
def patch_os_files() -> None:
    _patch(os, "open", "write", "read", "close", "stat", "unlink", "mkdir")


@deed(*ANY)
def patch_os_exit() -> None:
    _patch(os, "_exit", "kill", by=_nothing)


@deed(*ANY)
def patch_os_exit_and_leave_by_it() -> None:
    leave = os._exit
    _patch(os, "_exit", "kill", by=_nothing)
    leave(9)


@deed(*ANY)
def remove_os_path() -> None:
    del os.path


@deed(*ANY)
def patch_signal() -> None:
    _patch(signal, "signal", "setitimer", "getsignal", "pthread_sigmask", by=_nothing)


@deed(*ANY)
def patch_signal_to_raise() -> None:
    _patch(signal, "signal", "setitimer", "getsignal", "pthread_sigmask")


@deed(LATE, *ANY, hangs=True)
def patch_signal_and_sleep() -> None:
    _patch(signal, "signal", "setitimer", by=_nothing)
    time.sleep(60)


@deed(*ANY)
def stop_the_clocks() -> None:
    _patch(time, "time", "monotonic", "perf_counter", "process_time", "thread_time", by=lambda: 0.0)


@deed(*ANY)
def clocks_that_go_backwards() -> None:
    ticks = iter(range(10**9, 0, -1))
    _patch(time, "time", "monotonic", "perf_counter", by=lambda: float(next(ticks)))


@deed(*ANY)
def clocks_that_tell_no_number() -> None:
    _patch(time, "time", "monotonic", "perf_counter", "process_time", by=lambda: "noon")


@deed(*ANY)
def clocks_that_are_nan() -> None:
    _patch(time, "time", "monotonic", "perf_counter", "process_time", by=lambda: float("nan"))


@deed(*ANY)
def patch_time_sleep() -> None:
    _patch(time, "sleep")


# --- builtins ---------------------------------------------------------------------------------------------------------


@deed(*ANY)
def remove_builtins() -> None:
    del builtins.len, builtins.isinstance, builtins.zip


@deed(*ANY)
def patch_type_checks() -> None:
    _patch(builtins, "isinstance", "issubclass", by=lambda *_: True)


@deed(*ANY)
def patch_open() -> None:
    _patch(builtins, "open", "print", "input")


@deed(*ANY)
def patch_import() -> None:
    _patch(builtins, "__import__")


@deed(*ANY)
def patch_containers() -> None:
    _patch(builtins, "tuple", "dict", "list", "sorted", "max", "sum")


@deed(*ANY)
def remove_exceptions() -> None:
    for name in ("BaseException", "Exception", "OSError", "TypeError", "ValueError"):
        setattr(builtins, name, ArithmeticError)


@deed(*ANY)
def empty_builtins() -> None:
    builtins.__dict__.clear()


# --- other modules ----------------------------------------------------------------------------------------------------


@deed(*ANY)
def patch_json() -> None:
    _patch(json, "dumps", "loads", "dump", "load")


@deed(*ANY)
def patch_traceback() -> None:
    _patch(traceback, "format_exception", "extract_tb", "print_exc", "format_list", "TracebackException")


@deed(RAISED, DIED)
def patch_traceback_and_raise() -> None:
    _patch(traceback, "format_exception", "extract_tb", "format_list", "TracebackException", by=lambda *_, **__: 1)
    raise ValueError("nobody can format this")


@deed(*ANY)
def patch_socket() -> None:
    _patch(socket, "socket", "gethostname", "create_connection")


@deed(*ANY)
def patch_pickle() -> None:
    _patch(pickle, "dumps", "loads", "Pickler", "Unpickler")
    _patch(ray.cloudpickle, "dumps", "loads")


@deed(*ANY)
def patch_msgpack() -> None:
    _patch(msgpack, "packb", "unpackb", "Packer", "Unpacker")


@deed(*ANY)
def packed_by_itself() -> None:
    class Packer:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def pack(self, value: Any) -> bytes:
            return b"\xc1"  # the one byte that MessagePack never uses

    msgpack.Packer = Packer
    msgpack.packb = lambda *_, **__: b"\xc1"


@deed(*ANY)
def patch_threading() -> None:
    _patch(threading.Thread, "start", "join", "is_alive")
    _patch(threading, "Lock", "Condition", "get_ident", "current_thread")


@deed(*ANY)
def patch_hashlib() -> None:
    _patch(hashlib, "sha256", by=hashlib.md5)


@deed(*ANY)
def patch_struct() -> None:
    _patch(struct, "pack", "unpack", "Struct", "pack_into")


@deed(*ANY)
def patch_contextlib() -> None:
    _patch(contextlib, "suppress", "contextmanager", "ExitStack")
    _patch(functools, "wraps", "lru_cache", "partial")


@deed(*ANY)
def patch_logging() -> None:
    _patch(logging.Logger, "handle", "_log", "callHandlers")
    logging.disable(logging.CRITICAL)


@deed(*ANY)
def patch_pydantic() -> None:
    _patch(pydantic.BaseModel, "model_validate", "model_dump")


@deed(*ANY)
def patch_psutil_and_the_pools() -> None:
    _patch(psutil, "Process", "pid_exists")
    _patch(threadpoolctl, "threadpool_limits", "ThreadpoolController")


@deed(*ANY)
def patch_numpy() -> None:
    _patch(np, "array", "asarray", "zeros", "errstate", "geterr")


@deed(*ANY)
def patch_the_collector() -> None:
    _patch(gc, "collect", "freeze", "disable", "enable", "isenabled")


@deed(*ANY)
def patch_ray() -> None:
    _patch(ray, "get", "wait", "put", "remote", "get_runtime_context", "cancel")


# --- dfz_ray itself ---------------------------------------------------------------------------------------------------


def _patch_ours(module: str, name: str, by: Callable[..., Any] = _raise) -> None:
    owner, last = find_ours(module, name)
    setattr(owner, last, by)


def find_ours(module: str, name: str) -> tuple[Any, str]:
    """The owner of a function of ours, and its name there; AttributeError without one: patching nothing is no harm."""
    owner: Any = importlib.import_module(f"dfz_ray.{module}")
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    getattr(owner, last)
    return owner, last


@deed(*ANY)
def patch_the_end_of_a_chunk() -> None:
    _patch_ours("protocol.worker_side", "WorkerSide.end_task")


@deed(*ANY)
def patch_the_next_task() -> None:
    _patch_ours("worker.deadlines", "DeadlineGuard.begin")
    _patch_ours("worker.thread_deadlines", "ThreadDeadlineGuard.begin")


@deed(*ANY)
def patch_the_rest_after_a_chunk() -> None:
    _patch_ours("worker.deadlines", "DeadlineGuard.rest")
    _patch_ours("worker.thread_deadlines", "ThreadDeadlineGuard.rest")


@deed(*ANY)
def patch_the_mark() -> None:
    _patch_ours("worker.crash_marker", "CrashMarker.note")
    _patch_ours("worker.crash_marker", "CrashMarker.note_thread")


@deed(*ANY)
def patch_reports() -> None:
    _patch_ours("worker.manager_route", "pack_report")


@deed(*ANY)
def reports_that_are_none() -> None:
    _patch_ours("worker.manager_route", "pack_report", by=lambda *_: b"no report")


@deed(RAISED, DIED)
def patch_interruptions_and_raise() -> None:
    _patch_ours("execution.interruption", "Interruption.__init__")
    _patch_ours("execution.failure", "describe_exception")
    raise ValueError("nobody can describe this")


@deed(*ANY)
def forget_what_was_imported() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("dfz_ray", "msgpack", "pydantic")]:
        del sys.modules[name]
