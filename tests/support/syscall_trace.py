"""Running a function in a process of its own, and watching its system calls (Linux, ptrace)."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# From linux/ptrace.h.
_TRACEME, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
_SYSGOOD, _EXITKILL = 0x1, 0x100000
_ENTRY = 1

_X86_64, _AARCH64 = 0xC000003E, 0xC00000B7
"""How the kernel names architectures."""
_NUMBERS = {
    "write": {_X86_64: 1, _AARCH64: 64},
    "pwrite64": {_X86_64: 18, _AARCH64: 68},
    "writev": {_X86_64: 20, _AARCH64: 66},
    "ftruncate": {_X86_64: 77, _AARCH64: 46},
    "fsync": {_X86_64: 74, _AARCH64: 82},
    "fdatasync": {_X86_64: 75, _AARCH64: 83},
    "rename": {_X86_64: 82},
    "renameat": {_X86_64: 264, _AARCH64: 38},
    "renameat2": {_X86_64: 316, _AARCH64: 276},
    "unlink": {_X86_64: 87},
    "unlinkat": {_X86_64: 263, _AARCH64: 35},
}
_BY_NUMBER = {(arch, number): name for name, numbers in _NUMBERS.items() for arch, number in numbers.items()}
_PATH_ARGUMENT = {"rename": 1, "renameat": 3, "renameat2": 3, "unlink": 0, "unlinkat": 1}
"""Where a call has the path that it changes; the others have the number of an open file first."""
SYNCS = ("fsync", "fdatasync")


class _SyscallInfo(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


class Call(NamedTuple):
    """A call to the system, before it has done anything."""

    name: str
    path: str
    """Of the file that it changes; anything else is named as in /proc."""


class NoTracing(Exception):
    """The system does not let one process trace another."""


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: object = None) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def run_traced(work: Callable[[], None], look: Callable[[Call], bool]) -> int:
    """Run a function in a child of this process, which should have one thread only.

    Args:
        work: what the child does.
        look: is told of each call that changes files; where it says no, the child is killed before the call.

    Returns:
        The child's exit code, or minus the number of the signal that ended it.

    Raises:
        NoTracing: it can't be traced.
    """
    pid = os.fork()
    if pid == 0:
        _be_traced(work)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        raise NoTracing(f"PTRACE_TRACEME: {os.strerror(os.waitstatus_to_exitcode(status))}")
    _ptrace(_SETOPTIONS, pid, 0, _SYSGOOD | _EXITKILL)
    passed_on = 0
    while True:
        _ptrace(_SYSCALL, pid, 0, passed_on)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        passed_on = 0
        if os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
            passed_on = os.WSTOPSIG(status)
            continue
        call = _find_call(pid)
        if call is not None and not look(call):
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            return os.waitstatus_to_exitcode(status)


def _be_traced(work: Callable[[], None]) -> None:
    try:
        _ptrace(_TRACEME, 0)
    except OSError as error:
        os._exit(error.errno or errno.EPERM)
    signal.raise_signal(signal.SIGSTOP)
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def _find_call(pid: int) -> Call | None:
    info = _SyscallInfo()
    try:
        _ptrace(_GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.byref(info))
    except OSError as error:
        raise NoTracing(f"PTRACE_GET_SYSCALL_INFO: {error.strerror}; it needs Linux 5.3") from error
    if info.op != _ENTRY:
        return None
    name = _BY_NUMBER.get((info.arch, info.number))
    if name is None:
        return None
    if name in _PATH_ARGUMENT:
        return Call(name, _read_text(pid, info.arguments[_PATH_ARGUMENT[name]]))
    return Call(name, os.readlink(f"/proc/{pid}/fd/{info.arguments[0]}"))


def _read_text(pid: int, address: int) -> str:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        text = b""
        while b"\0" not in text:
            text += memory.read(64)
    return os.fsdecode(text.partition(b"\0")[0])
