"""What a worker leaves on its node for those who come when it has died: which task it executed, and where it hung.

A worker that is killed can't say what it was doing. So it keeps the number of the task that it executes in a small
file that is mapped into its memory: that costs a fraction of a microsecond per task, and outlives the process.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

import msgpack

from dfz_ray.engine.messages import NO_TASK

_NUMBER = struct.Struct("<q")
DUMP_CHARACTERS = 20_000


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
                os.write(descriptor, _NUMBER.pack(NO_TASK))
                self._memory = mmap.mmap(descriptor, _NUMBER.size)
            finally:
                os.close(descriptor)

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
            executing = _NUMBER.unpack(self._path.read_bytes())[0]
        with contextlib.suppress(OSError):
            dump = self._dump_path.read_text("utf-8", "replace")[:DUMP_CHARACTERS]
        self._remove()
        return Remains(executing, dump)

    def _remove(self) -> None:
        for path in (self._path, self._dump_path, self._revoked_path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
