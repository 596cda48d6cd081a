"""What keeps a worker from waiting for ever."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SILENT = """
import ctypes, resource, signal, sys
from dfz_ray.worker import deadlines
deadlines.ANSWER_S = 0.2
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
with deadlines.end_if_silent():
    pass
assert signal.getsignal(signal.SIGALRM) == signal.SIG_IGN
mutex, library = ctypes.create_string_buffer(64), getattr(ctypes, sys.argv[1])(None)
library.pthread_mutex_lock(mutex)
with deadlines.end_if_silent():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))
    library.pthread_mutex_lock(mutex)
"""


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_a_process_without_memory_that_waits_in_vain_ends_itself(library: str) -> None:
    """Whatever a task has done to signals and memory, and whoever holds the GIL: a wait for the manager ends."""
    ended = subprocess.run([sys.executable, "-c", SILENT, library], timeout=120)
    assert ended.returncode == -signal.SIGALRM
