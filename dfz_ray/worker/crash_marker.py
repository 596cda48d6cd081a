"""What a worker leaves on its node for those who come when it has died: which tasks it executed, and where it hung.

A worker that is killed can't say what it was doing. So it keeps the number of each task that it executes in a small
file that is mapped into its memory: that costs a fraction of a microsecond per task, and outlives the process.
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
"""Id of the worker's process; and at the beginning of each entry the number of its task."""
_ENTRY = struct.Struct("<qdQ?")
"""Of a thread that executes tasks: number of the task, its deadline by the monotonic clock, id of the thread, and
whether it was asked to let go."""
_FIRST = _NUMBER.size
DUMP_CHARACTERS = 20_000
LEFT_S = 600.0
"""A mark is read within seconds of its worker's death, or, where the manager has died as well, never."""


class CrashReport(NamedTuple):
    """What is left of a worker."""

    executing: tuple[int, ...] | None
    """The tasks that it executed; None: it left no mark."""
    dump: str
    """Where it was when it overran a deadline; empty if that is not what ended it."""
    overdue: tuple[int, ...] = ()
    """Those that were beyond their deadlines."""
    are_guilty: bool = False
    """Whether each of these was asked to let go, and did not; else one of them may have kept all from running."""


class CrashMarker:
    """The files of a lease, on the node of its worker.

    Args:
        name: of the lease, unlike any other one's.
        width: how many tasks it may execute at once.
    """

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
        """Begin to mark. Where the node has no room for that, nothing is marked, and a crash is searched in halves."""
        with contextlib.suppress(OSError):
            folder = self._path.parent
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                return  # someone else has made it: what lies there can't be trusted
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
        """The task of this number is executed from now on, or NO_TASK."""
        if self._memory is not None:
            _NUMBER.pack_into(self._memory, _FIRST, number)

    def note_thread(self, position: int, number: int, due: float = math.inf, thread: int = 0) -> None:
        """The same of one of several threads; a task that has a deadline is due at that time."""
        if self._memory is not None:
            at = _FIRST + position * _ENTRY.size
            _ENTRY.pack_into(self._memory, at, NO_TASK, due, thread, False)  # first: it may die between the two
            _NUMBER.pack_into(self._memory, at, number)

    def note_interrupted(self, position: int) -> None:
        """That thread's task was asked to let go."""
        if self._memory is not None:
            self._memory[_FIRST + (position + 1) * _ENTRY.size - 1] = 1

    def open_dump(self) -> IO[bytes] | None:
        """The file that a deadline's dump of all stacks goes to; None where nothing can be marked."""
        if self._dump is None and self._memory is not None:
            with contextlib.suppress(OSError):
                self._dump = self._dump_path.open("wb", buffering=0)
        return self._dump

    def revoked(self) -> set[int]:
        """The tasks that this lease is to let go of."""
        try:
            return set(msgpack.unpackb(self._revoked_path.read_bytes()))
        except OSError:
            return set()

    def close(self) -> None:
        """The lease has ended well: nothing is left of it."""
        if self._memory is not None:
            self._memory.close()
        if self._dump is not None:
            self._dump.close()
        self._remove()

    # --- on its node, by others -------------------------------------------------------------------------------------

    def revoke(self, numbers: Iterable[int]) -> None:
        """Let the worker know which tasks it is to let go of, once it is told to look."""
        part = self._revoked_path.with_suffix(".part")
        part.write_bytes(msgpack.packb(sorted(self.revoked().union(numbers))))
        part.replace(self._revoked_path)

    def read_remains(self, grace_s: float = 0.0) -> CrashReport:
        """What a dead worker has left; it is removed.

        Args:
            grace_s: how long a task may take to let go.
        """
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
        if len(content) == _FIRST + _ENTRY.size:  # who is alone notes no deadline
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
    """What a dump of all stacks says of one thread; everything, where it does not name it."""
    head, *parts = dump.split("\nThread ")
    return next((f"{head}\nThread {part}" for part in parts if part.startswith(f"0x{thread:016x} ")), dump)


@functools.cache
def _remove_left(folder: Path) -> None:
    """Remove, once in each worker, the marks of workers that died long ago and that nobody has read."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError, struct.error):
            if time.time() - path.stat().st_mtime < LEFT_S:
                continue
            mark = path.with_suffix("")  # what lies beside a mark is of the same worker
            if not mark.exists() or not psutil.pid_exists(_NUMBER.unpack_from(mark.read_bytes())[0]):
                path.unlink()
