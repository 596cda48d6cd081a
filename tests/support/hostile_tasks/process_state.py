"""The state that the operating system and the standard library keep for a process."""

from __future__ import annotations

import ctypes
import decimal
import locale
import os
import resource
import socket
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from support.hostile_tasks.deed import COMPLETED, DIED, NO_MEMORY, RAISED, deed, later

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, SECCOMP_STRICT, PR_SET_DUMPABLE = 22, 1, 4
NOBODY = 65534
MIB = 2**20


def _limit(what: int, soft: int) -> None:
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


# --- files ------------------------------------------------------------------------------------------------------------


@deed(COMPLETED)
def work_elsewhere() -> None:
    os.chdir("/")


@deed(COMPLETED)
def work_in_a_removed_folder() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


@deed(COMPLETED)
def mask_every_permission() -> None:
    os.umask(0o777)


@deed(COMPLETED)
def mask_no_permission() -> None:
    os.umask(0)


@deed(COMPLETED, RAISED, DIED)
def change_the_root() -> None:
    os.chroot(tempfile.mkdtemp())  # raises where the user is not root


@deed(COMPLETED)
def temporary_files_elsewhere() -> None:
    tempfile.tempdir = "/nowhere"
    os.environ["TMPDIR"] = "/nowhere"


# --- the environment --------------------------------------------------------------------------------------------------


@deed(COMPLETED)
def add_to_the_environment() -> None:
    os.environ["HOSTILE"] = "x" * 1000
    os.environ["PYTHONHASHSEED"] = "none"


@deed(COMPLETED)
def clear_the_environment() -> None:
    os.environ.clear()


@deed(COMPLETED)
def clear_the_environment_in_c() -> None:
    LIBC.clearenv()


@deed(COMPLETED)
def replace_the_environment() -> None:
    os.environ = {}  # type: ignore[assignment]


@deed(COMPLETED)
def another_time_zone() -> None:
    os.environ["TZ"] = "Pacific/Kiritimati"
    time.tzset()


# --- limits -----------------------------------------------------------------------------------------------------------


@deed(COMPLETED, DIED, RAISED, NO_MEMORY)
def two_gib_of_address_space() -> None:
    _limit(resource.RLIMIT_AS, 2 * 2**30)


@deed(COMPLETED, DIED, RAISED, NO_MEMORY)
def no_more_address_space() -> None:
    _limit(resource.RLIMIT_AS, 64 * MIB)


@deed(COMPLETED, DIED, RAISED, NO_MEMORY)
def no_more_data() -> None:
    _limit(resource.RLIMIT_DATA, 64 * MIB)


@deed(COMPLETED, DIED)
def files_of_no_size() -> None:
    _limit(resource.RLIMIT_FSIZE, 0)


@deed(COMPLETED, DIED)
def files_of_one_kib() -> None:
    _limit(resource.RLIMIT_FSIZE, 1024)


@deed(COMPLETED, DIED)
def few_descriptors() -> None:
    _limit(resource.RLIMIT_NOFILE, 8)


@deed(COMPLETED, DIED)
def a_second_of_cpu_time() -> None:
    _limit(resource.RLIMIT_CPU, 1)  # a worker that has used it up is killed


@deed(COMPLETED, DIED)
def few_processes() -> None:
    _limit(resource.RLIMIT_NPROC, 1)


@deed(COMPLETED, DIED)
def a_short_stack() -> None:
    _limit(resource.RLIMIT_STACK, 16 * 1024)


@deed(COMPLETED)
def no_core_and_no_locked_memory() -> None:
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK):
        _limit(what, 0)


@deed(COMPLETED)
def be_nice() -> None:
    os.nice(3)


@deed(COMPLETED)
def stay_on_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@deed(COMPLETED)
def work_only_when_others_idle() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


# --- who it is --------------------------------------------------------------------------------------------------------


@deed(COMPLETED, RAISED)
def a_session_of_its_own() -> None:
    os.setsid()


@deed(COMPLETED, RAISED)
def a_group_of_its_own() -> None:
    os.setpgid(0, 0)


@deed(COMPLETED, RAISED, DIED)
def become_nobody() -> None:
    os.setuid(NOBODY)  # raises where the user is not root


@deed(COMPLETED)
def become_unreadable() -> None:
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


@deed(DIED, hangs=True)
def forbid_its_thread_all_system_calls() -> None:
    LIBC.prctl(PR_SET_SECCOMP, SECCOMP_STRICT, 0, 0, 0)  # the kernel ends the thread, and the process stays
    time.sleep(60)


@deed(DIED, hangs=True)
def end_its_thread_and_leave_the_process() -> None:
    LIBC.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
    time.sleep(60)


# --- settings of the standard library and of numpy --------------------------------------------------------------------


@deed(COMPLETED)
def another_locale() -> None:
    before = locale.setlocale(locale.LC_ALL)
    if locale.setlocale(locale.LC_ALL, "POSIX") == before:
        locale.setlocale(locale.LC_ALL, "C.UTF-8")


@deed(COMPLETED)
def one_decimal_digit() -> None:
    decimal.getcontext().prec = 1
    decimal.getcontext().traps[decimal.Inexact] = True


@deed(COMPLETED)
def one_decimal_digit_for_new_threads() -> None:
    decimal.DefaultContext.prec = 1
    decimal.setcontext(decimal.Context(prec=1))


@deed(COMPLETED)
def warnings_are_errors() -> None:
    warnings.simplefilter("error")


@deed(COMPLETED)
def warnings_raise_as_they_are_shown() -> None:
    def show(*_: Any, **__: Any) -> None:
        raise RuntimeError("a warning")

    warnings.simplefilter("always")
    warnings.showwarning = show  # type: ignore[assignment]


@deed(COMPLETED)
def numpy_raises() -> None:
    np.seterr(all="raise")


@deed(COMPLETED)
def numpy_calls() -> None:
    np.seterrcall(lambda *_: os._exit(1))
    np.seterr(all="call")


@deed(COMPLETED)
def numpy_prints_little() -> None:
    np.set_printoptions(threshold=1, precision=1)
    np.random.seed(1)


@deed(COMPLETED)
def sockets_in_a_hurry() -> None:
    socket.setdefaulttimeout(1e-6)


@deed(COMPLETED)
def short_stacks_of_threads() -> None:
    threading.stack_size(32 * 1024)


@deed(COMPLETED)
def switch_threads_all_the_time() -> None:
    sys.setswitchinterval(1e-9)


@deed(COMPLETED)
def no_integers_of_many_digits() -> None:
    sys.set_int_max_str_digits(640)


@deed(COMPLETED, DIED, strays=True)
def change_its_folder_later() -> None:
    later(lambda: os.chdir("/"))


# --- the marks of its run ---------------------------------------------------------------------------------------------


def _marks() -> list[Path]:
    """The marks of this run's workers on this node: those beside the file that this worker has mapped."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        _, rights, _, _, _, *rest = line.split(maxsplit=5)
        path = Path(rest[0] if rest else "")
        if rights == "rw-s" and any(part.startswith("dfz_ray") for part in path.parts):
            run = path.name.rpartition("-")[0]
            found += [other for other in path.parent.iterdir() if other.name.startswith(run)]
    return found


@deed(COMPLETED, DIED)
def truncate_the_marks() -> None:
    for path in _marks():
        os.truncate(path, 0)


@deed(COMPLETED, DIED)
def remove_the_marks() -> None:
    for path in _marks():
        path.unlink(missing_ok=True)
