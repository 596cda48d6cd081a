"""Threads and processes that a task starts, leaves behind, or ends: its own one, mostly."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import importlib
import logging
import mmap
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import ray

from support.hostile_tasks.deed import COMPLETED, DIED, LATE, NO_MEMORY, RAISED, deed, later, loop, repeat

LEFT_S = 5.0
"""Processes that are left behind end after so many seconds."""


# --- threads ----------------------------------------------------------------------------------------------------------


@deed(COMPLETED)
def leave_threads_that_spin() -> None:
    for _ in range(3):
        repeat(lambda: sum(range(10_000)), length_s=1.5, each_s=0)


@deed(COMPLETED)
def leave_fifty_threads() -> None:
    for _ in range(50):
        later(lambda: None, delay_s=2)


@deed(COMPLETED)
def leave_a_thread_that_is_no_daemon() -> None:
    threading.Thread(target=time.sleep, args=(2,)).start()


@deed(COMPLETED)
def leave_a_thread_that_raises() -> None:
    later(lambda: sys.exit(9))


@deed(COMPLETED, DIED, strays=True)
def leave_a_thread_that_ends_the_process() -> None:
    later(lambda: os._exit(9))


@deed(COMPLETED, DIED, strays=True)
def leave_a_thread_that_crashes() -> None:
    later(lambda: ctypes.string_at(0))


@deed(COMPLETED)
def leave_a_thread_that_prints() -> None:
    repeat(lambda: print("x" * 1000), length_s=1)


@deed(COMPLETED)
def leave_a_pool_of_threads() -> None:
    pool = concurrent.futures.ThreadPoolExecutor(4)
    for _ in range(4):
        pool.submit(time.sleep, 1)


@deed(COMPLETED)
def leave_the_lock_of_the_log_taken() -> None:
    logging.getLogger().addHandler(logging.StreamHandler())
    for handler in logging.getLogger().handlers:
        handler.acquire()


@deed(COMPLETED)
def leave_an_event_loop() -> None:
    events = asyncio.new_event_loop()
    threading.Thread(target=events.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(30), events)


@deed(COMPLETED)
def leave_a_thread_that_imports() -> None:
    repeat(lambda: importlib.reload(importlib.import_module("colorsys")), length_s=1)


@deed(LATE, hangs=True)
def wait_for_its_own_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@deed(LATE, hangs=True)
def compute_for_ever() -> None:
    loop()


@deed(LATE, hangs=True)
def sleep_for_ever() -> None:
    time.sleep(3600)


@deed(LATE, hangs=True)
def backtrack_for_ever() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")  # one call in C, which holds the GIL


@deed(LATE, hangs=True)
def sum_for_ever() -> None:
    sum(range(10**11))


@deed(LATE, hangs=True)
def sleep_in_c_and_hold_the_gil() -> None:
    ctypes.PyDLL(None).sleep(3600)


@deed(LATE, hangs=True)
def wait_for_a_mutex_in_c() -> None:
    mutex, library = ctypes.create_string_buffer(64), ctypes.PyDLL(None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


@deed(LATE, hangs=True)
def clean_up_for_ever() -> None:
    try:
        loop()
    finally:
        loop()


@deed(LATE, RAISED, hangs=True)
def join_a_thread_that_never_ends() -> None:
    thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
    thread.start()
    thread.join()


# --- children ---------------------------------------------------------------------------------------------------------


@deed(COMPLETED)
def fork_and_return_in_the_child() -> None:
    os.fork()


@deed(RAISED)
def fork_and_raise_in_both() -> None:
    os.fork()
    raise ValueError("twice")


@deed(COMPLETED)
def fork_and_leave_in_the_child() -> None:
    if os.fork() == 0:
        sys.exit(7)


@deed(COMPLETED)
def fork_five_times() -> None:
    for _ in range(5):
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)


@deed(COMPLETED)
def fork_and_go_on_in_the_child_of_a_child() -> None:
    if os.fork() == 0 and os.fork() == 0:
        time.sleep(0.5)


@deed(COMPLETED)
def leave_an_orphan_that_holds_its_pipes() -> None:
    _orphan(lambda: time.sleep(LEFT_S))


@deed(COMPLETED)
def leave_an_orphan_that_writes_to_its_pipes() -> None:
    def write() -> None:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            os.write(2, b"an orphan\n" * 10)

    _orphan(write)


def _orphan(act: Callable[[], Any]) -> None:
    """Act in a process whose parent has ended, in a session of its own."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork() == 0:
        with contextlib.suppress(BaseException):
            act()
    os._exit(0)


@deed(COMPLETED)
def leave_programs() -> None:
    for _ in range(3):
        subprocess.Popen(["sleep", str(LEFT_S)])


@deed(COMPLETED)
def leave_children_that_nobody_waits_for() -> None:
    for _ in range(20):
        subprocess.Popen(["true"])


@deed(COMPLETED, RAISED)
def a_pool_of_processes() -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(abs, range(10))


@deed(LATE, RAISED, hangs=True)
def wait_for_a_child_that_never_ends() -> None:
    subprocess.run(["sleep", str(LEFT_S * 2)])


# --- the end of the process -------------------------------------------------------------------------------------------


@deed(DIED)
def end_with_0() -> None:
    os._exit(0)


@deed(DIED)
def end_with_3() -> None:
    os._exit(3)


@deed(DIED)
def abort() -> None:
    os.abort()


@deed(DIED)
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(5)


@deed(LATE, DIED, hangs=True)
def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


@deed(LATE, DIED, hangs=True)
def be_stopped_by_a_child() -> None:
    worker = os.getpid()
    if os.fork() == 0:
        time.sleep(0.05)
        os.kill(worker, signal.SIGSTOP)
        os._exit(0)
    time.sleep(60)


@deed(DIED)
def read_at_address_0() -> None:
    ctypes.string_at(0)


@deed(DIED)
def raise_a_fault_of_the_processor() -> None:
    signal.raise_signal(signal.SIGFPE)


@deed(DIED)
def read_beyond_a_file() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        mapped[0]


@deed(DIED)
def become_another_program() -> None:
    os.execvp("true", ["true"])


@deed(DIED)
def become_a_program_that_stays() -> None:
    os.execvp("sleep", ["sleep", "3"])


@deed(DIED, RAISED)
def a_fatal_error_of_python() -> None:
    ctypes.pythonapi.Py_FatalError(b"a task has had enough")


@deed(DIED, COMPLETED, RAISED)
def leave_the_cluster() -> None:
    ray.shutdown()


# --- descriptors and memory -------------------------------------------------------------------------------------------


@deed(COMPLETED, DIED)
def close_the_standard_streams() -> None:
    for descriptor in range(3):
        os.close(descriptor)


@deed(COMPLETED, DIED, RAISED, strays=True)
def close_descriptors() -> None:
    """Ray's own threads end the process a moment later, when they use one of them."""
    os.closerange(3, 51)


@deed(COMPLETED, DIED, RAISED, LATE, hangs=True)
def put_nothing_in_the_place_of_descriptors() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3, 51):
        os.dup2(nothing, descriptor)


@deed(COMPLETED, DIED, RAISED, LATE, hangs=True)
def put_an_endless_stream_in_the_place_of_descriptors() -> None:
    zeros = os.open("/dev/zero", os.O_RDWR)
    for descriptor in range(3, 51):
        if _is_open(descriptor):
            os.dup2(zeros, descriptor)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@deed(COMPLETED, DIED, RAISED)
def take_every_descriptor() -> None:
    with contextlib.suppress(OSError):
        while True:
            os.open(os.devnull, os.O_RDONLY)


@deed(COMPLETED, is_heavy=True)
def print_50_mb() -> None:
    for _ in range(500):
        print("x" * 100_000)


@deed(COMPLETED)
def print_half_a_line() -> None:
    os.write(1, b"\xff\x00::RAY::\r\x1b[2J{")
    os.write(2, b"\xff(raylet) half a line")


@deed(COMPLETED, NO_MEMORY, DIED, is_heavy=True)
def take_300_mb() -> None:
    globals()["_taken"] = b"x" * 300_000_000
    later(lambda: globals().pop("_taken", None), delay_s=1)


@deed(COMPLETED)
def a_task_of_its_own_in_ray() -> None:
    ray.remote(num_cpus=0)(abs_of).remote(-1)


def abs_of(value: int) -> int:
    """Of another task of Ray."""
    return abs(value)


@deed(COMPLETED, RAISED, LATE, hangs=True)
def wait_for_a_task_of_its_own_in_ray() -> None:
    assert ray.get(ray.remote(num_cpus=0)(abs_of).remote(-1)) == 1
