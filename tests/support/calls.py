"""Functions that tests let an executor call. The workers need not have this module."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import ray

from dfz_ray.driver.domain_shipping import ship_by_value

ship_by_value(sys.modules[__name__])
DEADLINE_S = 180.0


def crash() -> None:
    """Take the worker along."""
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_file(path: str) -> str:
    """Run until there is such a file."""
    until = time.monotonic() + DEADLINE_S
    while not Path(path).exists():
        assert time.monotonic() < until
        time.sleep(0.005)
    return "seen"


def touch(path: str) -> None:
    """Make a file."""
    Path(path).touch()


def begin_and_wait(begun: str, go: str) -> str:
    """Make a file, and wait for another one."""
    touch(begun)
    return wait_for_file(go)


def ray_cpus() -> float:
    """The CPUs that Ray has given to this worker."""
    return float(ray.get_runtime_context().get_assigned_resources()["CPU"])


def ray_cpus_of(_: int) -> float:
    """The same, with an argument."""
    return ray_cpus()


def append(number: int, to: list[int]) -> list[int]:
    """Append; returns the list."""
    to.append(number)
    return to


def sleep_and_tell(duration_s: float) -> int:
    """Sleep; returns which process slept."""
    if duration_s:
        time.sleep(duration_s)
    return os.getpid()
