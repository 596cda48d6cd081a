"""What a worker leaves on its node for those who come when it has died: which task it executed, and where it hung.

A worker that is killed can't say what it was doing. So it keeps the number of the task that it executes in a small
file that is mapped into its memory: that costs a fraction of a microsecond per task, and outlives the process.
"""

from __future__ import annotations

import contextlib
import functools
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
_CONTENT = struct.Struct("<qq")
"""Number of the task; id of the worker's process."""
DUMP_CHARACTERS = 20_000
LEFT_S = 600.0
"""A mark is read within seconds of its worker's death, or, where the manager has died as well, never."""


class Remains(NamedTuple):
    """What is left of a worker."""

    executing: int | None
    """The task that it executed, NO_TASK where it executed none; None: it left no mark."""
    dump: str
    """Where it was when it overran a deadline; empty if that is not what ended it."""


class Mark:
    """The files of a lease, on the node of its worker.

    Args:
        name: of the lease, unlike any other one's.
    """

    def __init__(self, name: str) -> None:
        # Not in Ray's session folder: its place is not public, and /tmp is as good.
        self.name = name
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
                os.write(descriptor, _CONTENT.pack(NO_TASK, os.getpid()))
                self._memory = mmap.mmap(descriptor, _CONTENT.size)
            finally:
                os.close(descriptor)
            _remove_left(folder)

    def note(self, number: int) -> None:
        """The task of this number is executed from now on, or NO_TASK."""
        if self._memory is not None:
            _NUMBER.pack_into(self._memory, 0, number)

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

    def read_remains(self) -> Remains:
        """What a dead worker has left; it is removed."""
        executing, dump = None, ""
        with contextlib.suppress(OSError):
            if self._path.parent.stat().st_uid != os.getuid():
                return Remains(executing, dump)
        with contextlib.suppress(OSError, struct.error):
            executing = _CONTENT.unpack(self._path.read_bytes())[0]
        with contextlib.suppress(OSError):
            dump = self._dump_path.read_text("utf-8", "replace")[:DUMP_CHARACTERS]
        self._remove()
        return Remains(executing, dump)

    def _remove(self) -> None:
        for path in (self._path, self._dump_path, self._revoked_path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


@functools.cache
def _remove_left(folder: Path) -> None:
    """Remove, once in each worker, the marks of workers that died long ago and that nobody has read."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError, struct.error):
            if time.time() - path.stat().st_mtime < LEFT_S:
                continue
            mark = path.with_suffix("")  # what lies beside a mark is of the same worker
            if not mark.exists() or not psutil.pid_exists(_CONTENT.unpack(mark.read_bytes())[1]):
                path.unlink()
