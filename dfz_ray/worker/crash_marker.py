"""The crash marker of a worker: files on its node that show, after its death, its running tasks and where it hung.

A worker that is killed can't report its running tasks. So it keeps the number of each task that it executes in a small
file that is mapped into its memory: that costs a fraction of a microsecond per task, and outlives the process.

Without a marker all suspects run again in halves, until the guilty task is alone. The report that a chunk began can die
with its worker, so a missing report proves nothing.
"""

from __future__ import annotations

import contextlib
import functools
import math
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

import msgpack
import psutil

from dfz_ray.engine.messages import NO_TASK

_NUMBER = struct.Struct("<q")
"""Id of the worker's process; also the number of the task, with which each entry begins."""
_ENTRY = struct.Struct("<qdQ?")
"""Entry of a thread: number of the task that it executes, the task's deadline by the monotonic clock, id of the thread,
and True if the task was interrupted."""
_FIRST = _NUMBER.size
DUMP_CHARACTERS = 20_000
LEFT_S = 600.0
"""A marker that is so many seconds old and whose worker is dead is removed. It is read within seconds of the death, or
never, if the manager has died as well."""


class CrashReport(NamedTuple):
    """The content of a dead worker's marker."""

    executing: tuple[int, ...] | None
    """The tasks that it executed; None if it left no marker."""
    dump: str
    """The stacks of its threads when a task overran its deadline; empty if it ended otherwise."""
    overdue: tuple[int, ...] = ()
    """The tasks that were beyond their deadlines."""
    are_guilty: bool = False
    """True if each of these was interrupted and did not end; else one of them may have kept all from running."""


class CrashMarker:
    """The files of a lease, on the node of its worker; no other lease has its name."""

    def __init__(self, name: str, width: int = 1) -> None:
        # Not in Ray's session folder: its place is not public, and /tmp is as good.
        self.name = name
        self._width = width
        folder = Path(tempfile.gettempdir()) / f"dfz_ray-{os.getuid()}"
        self._path = folder / name
        self._dump_path = folder / f"{name}.dump"
        self._revoked_path = folder / f"{name}.revoked"
        self._memory: mmap.mmap | None = None
        self._dump: IO[bytes] | None = None

    # --- in the worker ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Create the marker. If the node has no room for it, nothing is marked, and a crash is searched in halves."""
        with contextlib.suppress(OSError):
            folder = self._path.parent
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                return  # another user has made the folder: its files can't be trusted
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(self._path, flags, 0o600)
            try:
                content = _NUMBER.pack(os.getpid()) + self._width * _ENTRY.pack(NO_TASK, math.inf, 0, False)
                os.write(descriptor, content)
                self._memory = mmap.mmap(descriptor, len(content))
            finally:
                os.close(descriptor)
            _remove_left(folder)

    def note(self, number: int) -> None:
        """Note that the task of this number is executed from now on; NO_TASK stands for none."""
        if self._memory is not None:
            _NUMBER.pack_into(self._memory, _FIRST, number)

    def note_thread(self, position: int, number: int, due: float = math.inf, thread: int = 0) -> None:
        """Note the task of one of several threads; if it has a deadline, it is due at that time."""
        if self._memory is not None:
            at = _FIRST + position * _ENTRY.size
            _ENTRY.pack_into(self._memory, at, NO_TASK, due, thread, False)  # first: it may die between the two
            _NUMBER.pack_into(self._memory, at, number)

    def note_interrupted(self, position: int) -> None:
        """Note that the thread's task was interrupted."""
        if self._memory is not None:
            self._memory[_FIRST + (position + 1) * _ENTRY.size - 1] = 1

    def open_dump(self) -> IO[bytes] | None:
        """The file for the dump of all stacks when a deadline is overrun; None if nothing can be marked."""
        if self._dump is None and self._memory is not None:
            with contextlib.suppress(OSError):
                self._dump = self._dump_path.open("wb", buffering=0)
        return self._dump

    def revoked(self) -> set[int]:
        """The tasks that this lease has to end or to leave out."""
        try:
            return set(msgpack.unpackb(self._revoked_path.read_bytes()))
        except OSError:
            return set()

    def close(self) -> None:
        """Remove all files, as the lease has ended well."""
        if self._memory is not None:
            self._memory.close()
        if self._dump is not None:
            self._dump.close()
        self._remove()

    # --- in other processes of its node -----------------------------------------------------------------------------

    def revoke(self, numbers: Iterable[int]) -> None:
        """Write down the tasks that the worker has to end; a signal makes it look."""
        part = self._revoked_path.with_suffix(".part")
        part.write_bytes(msgpack.packb(sorted(self.revoked().union(numbers))))
        part.replace(self._revoked_path)

    def read_crash_report(self, grace_s: float = 0.0) -> CrashReport:
        """Read and remove the files of a dead worker, whose tasks had `grace_s` to end when they were interrupted."""
        content, dump, died_at = b"", "", time.monotonic()
        with contextlib.suppress(OSError):
            if self._path.parent.stat().st_uid != os.getuid():
                return CrashReport(None, dump)
        with contextlib.suppress(OSError):
            content = self._path.read_bytes()
        with contextlib.suppress(OSError):
            dump = self._dump_path.read_text("utf-8", "replace")
            if dump:
                died_at -= time.time() - self._dump_path.stat().st_mtime
        self._remove()
        if len(content) < _FIRST + _ENTRY.size:
            return CrashReport(None, dump[:DUMP_CHARACTERS])
        entries = list(_ENTRY.iter_unpack(content[_FIRST:]))
        entries = [entry for entry in entries if entry[0] != NO_TASK]
        executing = tuple(number for number, *_ in entries)
        if len(content) == _FIRST + _ENTRY.size:  # a single task notes no deadline
            return CrashReport(executing, dump[:DUMP_CHARACTERS], executing, are_guilty=True)
        late = [entry for entry in entries if entry[1] <= died_at]
        guilty = [entry for entry in late if entry[3] and entry[1] + grace_s <= died_at]
        overdue = tuple(number for number, *_ in guilty or late)
        if len(overdue) == 1:
            dump = _of_thread(dump, (guilty or late)[0][2])
        return CrashReport(executing, dump[:DUMP_CHARACTERS], overdue, bool(guilty))

    def _remove(self) -> None:
        for path in (self._path, self._dump_path, self._revoked_path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _of_thread(dump: str, thread: int) -> str:
    """The part of a dump of all stacks that shows one thread; all of it if the thread is not in it."""
    head, *parts = dump.split("\nThread ")
    return next((f"{head}\nThread {part}" for part in parts if part.startswith(f"0x{thread:016x} ")), dump)


@functools.cache
def _remove_left(folder: Path) -> None:
    """Remove, once in each worker, the markers of workers that died long ago and that nobody has read."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError, struct.error):
            if time.time() - path.stat().st_mtime < LEFT_S:
                continue
            marker = path.with_suffix("")  # the files beside a marker belong to the same worker
            if not marker.exists() or not psutil.pid_exists(_NUMBER.unpack_from(marker.read_bytes())[0]):
                path.unlink()
