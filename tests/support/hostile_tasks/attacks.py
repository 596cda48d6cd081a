"""Attacks on what executes the task: its parents, its protocol, its books, its node."""

from __future__ import annotations

import atexit
import builtins
import codecs
import contextlib
import contextvars
import ctypes
import faulthandler
import gc
import importlib
import io
import mmap
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import types
import weakref
from pathlib import Path
from typing import Any

import msgpack

from support.hostile_tasks.deed import COMPLETED, DIED, LATE, RAISED, UNSTORABLE, deed, later, repeat

ANY = (COMPLETED, RAISED, DIED, UNSTORABLE)
MIB = 2**20


class Attacked(Exception):
    """Raised by what was replaced."""


def _raise(*_: Any, **__: Any) -> Any:
    raise Attacked("a task has replaced this")


# --- the reason of its end --------------------------------------------------------------------------------------------


@deed(RAISED)
def forge_the_cause_of_its_end() -> None:
    """Enter an interruption of its own into the book of causes."""
    book: Any = importlib.import_module("dfz_ray.execution.interruption")
    raise book.make_interruption(threading.get_ident(), "node_lost", "the node was lost, it says")


@deed(RAISED)
def forge_the_cause_with_a_reason_that_is_no_text() -> None:
    book: Any = importlib.import_module("dfz_ray.execution.interruption")
    raise book.make_interruption(threading.get_ident(), ["timeout"], {"a": object()}, frames=-5)


@deed(COMPLETED, RAISED, DIED)
def report_its_own_death_to_the_manager() -> None:
    """Call the manager in the name of each lease of this process, with an error that did not happen."""
    for found in gc.get_objects():
        if type(found).__name__ == "ActorHandle":
            with contextlib.suppress(Exception):
                for lease in range(30):
                    found.note_lease_error.remote("no run", lease, "it did not happen", None)


@deed(*ANY)
def a_failure_that_is_no_failure() -> None:
    failure: Any = importlib.import_module("dfz_ray.execution.failure")
    failure.Failure._make = classmethod(_raise)
    failure.Failure._replace = _raise
    raise ValueError("replaced")


@deed(RAISED)
def an_error_with_a_huge_name() -> None:
    raise type("E" * 1_000_000, (Exception,), {})("x" * 1_000_000)


@deed(RAISED)
def an_error_whose_traceback_is_a_ring() -> None:
    try:
        raise ValueError("ring")
    except ValueError as error:
        last = error.__traceback__
        assert last is not None
        for _ in range(100_000):
            last = types.TracebackType(last, sys._getframe(), 0, 1)
        error.__traceback__ = last
        raise


# --- signals and descriptors ------------------------------------------------------------------------------------------


@deed(COMPLETED)
def signal_its_whole_group_to_go_on() -> None:
    os.killpg(os.getpgid(0), signal.SIGCONT)


@deed(COMPLETED)
def children_that_hold_every_descriptor() -> None:
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            time.sleep(2)
            os._exit(0)


@deed(COMPLETED, DIED)
def three_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@deed(COMPLETED, DIED, RAISED)
def close_its_sockets() -> None:
    for descriptor in range(3, 100):
        with contextlib.suppress(OSError):
            if Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith("socket:"):
                os.close(descriptor)


@deed(COMPLETED, DIED, RAISED, strays=True)
def shut_its_connections_down_later() -> None:
    def shut() -> None:
        for descriptor in range(3, 100):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
                connection.shutdown(socket.SHUT_RDWR)

    later(shut)


@deed(COMPLETED)
def a_signal_handler_in_c() -> None:
    library = ctypes.CDLL(None)
    library.signal.restype = ctypes.c_void_p
    library.signal(int(signal.SIGUSR2), 1)


@deed(COMPLETED)
def stacks_of_faults_to_a_closed_file() -> None:
    with tempfile.TemporaryFile() as file:
        faulthandler.enable(file=file.fileno())


@deed(COMPLETED, DIED)
def leave_by_exit_handlers() -> None:
    for code in range(50):
        atexit.register(os._exit, code)
    threading._register_atexit(_raise)  # type: ignore[attr-defined]


# --- the interpreter --------------------------------------------------------------------------------------------------


@deed(COMPLETED)
def switch_threads_never() -> None:
    sys.setswitchinterval(1000)


@deed(*ANY)
def trace_opcodes_for_ever() -> None:
    def trace(frame: Any, *_: Any) -> Any:
        frame.f_trace_opcodes = True
        return trace

    sys.settrace(trace)
    threading.settrace(trace)
    sys.setprofile(trace)


@deed(*ANY)
def other_modules_in_the_place_of_modules() -> None:
    for name in ("threading", "queue", "weakref", "concurrent.futures", "ray", "dfz_ray.worker.lease"):
        sys.modules[name] = types.ModuleType(name)


@deed(*ANY)
def another_table_of_modules() -> None:
    sys.modules = {}


@deed(*ANY)
def import_everything_anew() -> None:
    for name in ("queue", "weakref", "selectors", "struct", "msgpack"):
        importlib.reload(importlib.import_module(name))


@deed(*ANY)
def codecs_that_raise() -> None:
    codecs.register(_raise)
    codecs.register_error("strict", _raise)


@deed(*ANY)
def build_no_class() -> None:
    builtins.__build_class__ = _raise


@deed(*ANY)
def weak_references_that_raise() -> None:
    kept = [type("Kept", (), {})() for _ in range(100)]
    globals()["_weak"] = [weakref.ref(one, _raise) for one in kept]


@deed(COMPLETED)
def a_context_that_stays() -> None:
    contextvars.ContextVar("hostile").set("x")
    threading.local().hostile = "x"


@deed(COMPLETED)
def threads_that_raise_for_ever() -> None:
    def start() -> None:
        threading.Thread(target=_raise, daemon=True).start()

    repeat(start, length_s=0.5, each_s=0.01)


@deed(COMPLETED, DIED, strays=True)
def interrupt_every_thread_later() -> None:
    """Raise in all threads of the process, those that execute others' tasks among them."""

    def interrupt() -> None:
        for thread in sys._current_frames():
            if thread != threading.get_ident():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Attacked))

    later(interrupt)


# --- its modules ------------------------------------------------------------------------------------------------------


@deed(*ANY)
def pack_another_value() -> None:
    """Every later result would be that of another task."""
    msgpack.packb = lambda *_, **__: b"\xa5other"
    msgpack.Packer = type("Packer", (), {"pack": lambda *_: b"\xa5other"})  # type: ignore[assignment,misc]


@deed(*ANY)
def patch_the_answer() -> None:
    module: Any = importlib.import_module("dfz_ray.worker.answer")
    module.Answer.read = _raise


@deed(*ANY)
def patch_the_state() -> None:
    module: Any = importlib.import_module("dfz_ray.worker.process_state")
    module.ProcessState.look = module.ProcessState.settle = lambda *_, **__: False
    os.umask(0o777)


@deed(*ANY)
def leave_the_state_alone_and_patch_its_parts() -> None:
    module: Any = importlib.import_module("dfz_ray.worker.process_state")
    module._is_same = _raise


@deed(COMPLETED)
def output_that_is_a_pipe_nobody_reads() -> None:
    _, writer = os.pipe()
    sys.stdout = os.fdopen(writer, "w")


@deed(COMPLETED)
def output_that_is_closed_as_it_is_used() -> None:
    sys.stdout = io.TextIOWrapper(io.BytesIO())
    sys.stdout.detach()


# --- the node ---------------------------------------------------------------------------------------------------------


@deed(COMPLETED, RAISED)
def fill_a_little_of_the_shared_memory() -> None:
    path = Path(f"/dev/shm/dfz-hostile-{os.getpid()}")  # noqa: S108 - it is removed
    try:
        path.write_bytes(bytes(50 * MIB))
    finally:
        path.unlink(missing_ok=True)


@deed(COMPLETED, DIED)
def mark_its_segments_removed() -> None:
    """Remove the shared memory of its own crash marker, and write over it."""
    library = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "SYSV" in line:
            library.shmctl(int(line.split()[4]), 0, None)


@deed(COMPLETED, DIED)
def marks_that_accuse_others() -> None:
    """Write the numbers of other tasks over the memory of its crash marker, and die."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "SYSV" in line:
            start = int(line.split("-")[0], 16)
            ctypes.memset(start, 0, 8)
    os._exit(1)


@deed(COMPLETED, RAISED, LATE, hangs=True)
def lock_everything_in_memory() -> None:
    ctypes.CDLL(None).mlockall(1)
    mmap.mmap(-1, MIB).close()
