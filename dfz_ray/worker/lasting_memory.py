"""Memory that outlives its process: a shared memory segment of System V.

A file that is mapped into memory is as fast, but whoever truncates it kills the processes that write there. A write to
a file costs a microsecond, which is much for tasks of a few microseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
_libc.shmat.argtypes, _libc.shmat.restype = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int], ctypes.c_void_p
_libc.shmdt.argtypes = [ctypes.c_void_p]
_libc.shmctl.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
IPC_PRIVATE, IPC_CREAT, IPC_RMID = 0, 0o1000, 0
FAILED = ctypes.c_void_p(-1).value


def create(size_bytes: int) -> tuple[int, memoryview]:
    """Create a segment that only this user reads; returns its id and its content.

    Raises:
        OSError: the system has no room for it.
    """
    number = _libc.shmget(IPC_PRIVATE, size_bytes, IPC_CREAT | 0o600)
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return number, memoryview((ctypes.c_char * size_bytes).from_address(_attach(number))).cast("B")


def detach(content: memoryview) -> None:
    """Let go of a segment: its content must not be used any more."""
    _libc.shmdt(ctypes.addressof(ctypes.c_char.from_buffer(content)))


def read(number: int, size_bytes: int) -> bytes:
    """Read a segment of that size.

    Raises:
        OSError: it is gone.
    """
    address = _attach(number)
    content = ctypes.string_at(address, size_bytes)
    _libc.shmdt(address)
    return content


def remove(number: int) -> None:
    """Remove a segment; processes that have it keep it until they end."""
    _libc.shmctl(number, IPC_RMID, None)


def remove_left(prefix: bytes, age_s: float) -> None:
    """Remove the segments of this user that begin so, and that no process has had for so long."""
    with contextlib.suppress(OSError):
        for row in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
            _, number, _, size_bytes, _, _, processes, user, *_, left_at, _, _, _ = map(int, row.split())
            is_left = user == os.getuid() and not processes and 0 < left_at < time.time() - age_s
            if is_left and size_bytes >= len(prefix) and read(number, len(prefix)) == prefix:
                remove(number)


def _attach(number: int) -> int:
    address: int | None = _libc.shmat(number, None, 0)
    if address is None or address == FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return address
