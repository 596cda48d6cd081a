"""Functions that tasks of tests on a Ray call, and that let nothing else run, or fork."""

from __future__ import annotations

import ctypes
import os
import sys

from dfz_ray.driver.domain_shipping import ship_by_value

ship_by_value(sys.modules[__name__])  # workers do not have this module


def hold_the_gil(note: str) -> None:
    """Lock a mutex twice, in C: no signal ends that, and no Python code runs meanwhile."""
    mutex, library = ctypes.create_string_buffer(64), ctypes.PyDLL(None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def fork(note: str) -> None:
    """Fork; the child leaves as scripts do, and as carelessly."""
    child = os.fork()
    if child == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
