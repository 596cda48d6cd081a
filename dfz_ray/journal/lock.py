"""The lock of a run folder: one process at a time works on a run.

`flock` shows at once if a live process works on the run, and ends with that process. The epoch guards the commits where
locks can't be trusted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.regular_file import open_regular

LOCK = "lock"
"""A file in the run folder, locked by the process that works on the run. It is unlocked when that process dies."""
WAIT_S = 10.0
"""Seconds to wait for that process to end: a manager outlives its driver by some seconds."""


class RunLock:
    """The lock on a run folder, held until it is closed or the process ends.

    Raises RunFolderRefused if another process still holds it after `wait_s` seconds, it can't be written safely, or
    its file system has no locks.
    """

    def __init__(self, folder: Path, wait_s: float = WAIT_S) -> None:
        try:
            descriptor = open_regular(folder / LOCK, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunFolderRefused(f"{folder / LOCK} can't be written: {error.strerror or error}") from None
        self._file = os.fdopen(descriptor, "a+", encoding="utf-8")
        deadline = time.monotonic() + wait_s
        while not self._try_lock(folder):
            if time.monotonic() >= deadline:
                self._file.seek(0)
                holder = self._file.read(200).strip() or "another process"
                self._file.close()
                raise RunFolderRefused(f"{holder} works on the run in {folder}; waited {wait_s:g} s for it to end")
            time.sleep(0.05)
        try:
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # it tries to write once more
                self._file.close()
            raise RunFolderRefused(f"{folder / LOCK} can't be written: {error.strerror or error}") from None

    def _try_lock(self, folder: Path) -> bool:
        try:
            return try_lock(self._file)
        except OSError as error:
            self._file.close()
            why = f"the file system of {folder} has no locks (flock), which a run needs: {error.strerror or error}"
            raise RunFolderRefused(f"{why}; take a run folder elsewhere, or mount it with locks") from None

    def close(self) -> None:
        """Release the lock: another process may work on the run."""
        self._file.close()


def is_held(folder: Path) -> bool:
    """True while a live process works on the run. Raises RunFolderRefused if the lock is not a regular file."""
    try:
        with os.fdopen(open_regular(folder / LOCK)) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no run, or not readable: opening the journal will report that
        return False
    return False


def was_held_here(folder: Path) -> bool:
    """True if the process that locked the run last did so on this host, where its lock shows whether it lives."""
    try:
        with os.fdopen(open_regular(folder / LOCK), encoding="utf-8", errors="replace") as file:
            return file.read(200).endswith(f" on {socket.gethostname()}")
    except (OSError, RunFolderRefused):
        return False


def try_lock(file: IO[str]) -> bool:
    """Lock a file for this process, until it is closed; returns False if another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
