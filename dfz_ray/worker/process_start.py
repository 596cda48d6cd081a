"""The start of a process: its number alone may be another one's later."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_START_FIELD = 19
"""The place of `starttime` in /proc/PID/stat, counted from the state on; see proc(5)."""


def read_start(process: int) -> float:
    """The start of a process, as a number that no step of the system's clock changes, where there is /proc.

    Raises:
        psutil.NoSuchProcess: there is no such process.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = Path(f"/proc/{process}/stat").read_text()
        return float(stat.rpartition(")")[2].split()[_START_FIELD])  # the name before it may hold anything
    return float(psutil.Process(process).create_time())
