"""The crash marker of a worker: files on its node that show, after its death, its running tasks and where it hung.

A worker that is killed can't report its running tasks. So it keeps the number of each task that it executes in memory
that outlives the process: that costs a fraction of a microsecond per task. A small file names that memory.

Without a marker all suspects run again in halves, until the guilty task is alone. The report that a chunk began can die
with its worker, so a missing report proves nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import math
import os
import stat
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from os import stat as stat_file
from pathlib import Path
from typing import IO, NamedTuple

import msgpack
import psutil

from dfz_ray.engine.messages import NO_TASK
from dfz_ray.worker import lasting_memory

_FILE = struct.Struct("<qqq")
"""Id of the worker's process, and the id and the size of the memory where the entries of its threads are."""
_ENTRY = struct.Struct("<qdQ?")
"""Entry of a thread: number of the task that it executes, the task's deadline by the monotonic clock, id of the thread,
and True if the task was interrupted."""
_HEAD = b"dfz_ray\0"
"""The memory begins so."""
_NO_STRAYS = b"\0"
"""It ends so, until a task has left threads behind."""
_pack_number, _pack_entry = struct.Struct("<q").pack_into, _ENTRY.pack_into
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
    had_strays: bool = False
    """True if earlier tasks had left threads behind: one of these may have killed the worker, too."""


class CrashMarker:
    """The files of a lease, on the node of its worker, in the folder of its run: its name is `run/lease`."""

    def __init__(self, name: str, width: int = 1) -> None:
        # Not in Ray's session folder: its place is not public, and /tmp is as good.
        self.name = name
        self._width = width
        self._path = ROOT / name
        self._dump_path = self._path.with_suffix(".dump")
        self._revoked_path = self._path.with_suffix(".revoked")
        self._content = _HEAD + _ENTRY.pack(NO_TASK, math.inf, 0, False) * width + _NO_STRAYS
        """At first."""
        self._memory: memoryview | None = None
        self._file = b""
        self._dump: IO[bytes] | None = None

    # --- in the worker ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Create the marker. If the node has no room for it, nothing is marked, and a crash is searched in halves."""
        with contextlib.suppress(OSError):
            for folder in (self._path.parent.parent, self._path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
                if not _is_own(folder):
                    return  # another user has made the folder: its files can't be trusted
            if self._memory is None:
                number, self._memory = lasting_memory.create(len(self._content))
                self._memory[:] = self._content
                self._file = _FILE.pack(os.getpid(), number, len(self._content))
            part = self._path.with_suffix(".part")
            part.write_bytes(self._file)
            part.replace(self._path)
            _remove_left(self._path.parent.parent)

    def renew(self) -> None:
        """Make the file anew if it is gone, or was truncated."""
        try:
            is_whole = stat_file(self._path).st_size == _FILE.size
        except OSError:
            is_whole = False
        if not is_whole:
            self.open()

    def note(self, number: int) -> None:
        """Note that the task of this number is executed from now on; NO_TASK stands for none."""
        if self._memory is not None:
            _pack_number(self._memory, len(_HEAD), number)

    def note_thread(self, position: int, number: int, due: float = math.inf, thread: int = 0) -> None:
        """Note the task of one of several threads; if it has a deadline, it is due at that time."""
        if self._memory is not None:
            at = len(_HEAD) + position * _ENTRY.size
            _pack_entry(self._memory, at, NO_TASK, due, thread, False)  # first: it may die between the two
            _pack_number(self._memory, at, number)

    def note_interrupted(self, position: int = 0) -> None:
        """Note that the thread's task was interrupted."""
        if self._memory is not None:
            self._memory[len(_HEAD) + (position + 1) * _ENTRY.size - 1] = 1

    def blame_nobody(self) -> None:
        """Note that no thread executes a task, since this process is about to end for another reason."""
        for position in range(self._width):
            self.note_thread(position, NO_TASK)

    def note_strays(self) -> None:
        """Note that tasks have left threads behind."""
        if self._memory is not None:
            self._memory[-1] = 1

    def open_dump(self) -> IO[bytes] | None:
        """The file for the dump of all stacks when a deadline is overrun; None if nothing can be marked."""
        if self._dump is None and self._memory is not None:
            with contextlib.suppress(OSError):
                self._dump = self._dump_path.open("wb", buffering=0)
        return self._dump

    def revoked(self) -> set[int]:
        """The tasks that this lease has to end or to leave out."""
        try:
            found = msgpack.unpackb(self._revoked_path.read_bytes())
            return {number for number in found if isinstance(number, int)}
        except (OSError, ValueError, TypeError):  # there is none, or a task has written something else there
            return set()

    def close(self) -> None:
        """Remove all files, as the lease has ended well."""
        if self._dump is not None:
            self._dump.close()
        memory, self._memory = self._memory, None
        if memory is not None:
            lasting_memory.detach(memory)
        self._remove(self._file)

    # --- in other processes of its node -----------------------------------------------------------------------------

    def revoke(self, numbers: Iterable[int]) -> None:
        """Write down the tasks that the worker has to end; a signal makes it look. Several may do so at once."""
        with _locked(self._path.parent):
            part = self._path.with_suffix(".revoking")
            part.write_bytes(msgpack.packb(sorted(self.revoked().union(numbers))))
            part.replace(self._revoked_path)

    def read_executing(self) -> tuple[int, ...]:
        """The tasks that a worker executes now; empty if it executes none, or that can't be known."""
        content = self._read_content(self._read_file()) if self._is_trusted() else b""
        return tuple(number for number, *_ in _list_entries(content))

    def read_crash_report(self, grace_s: float = 0.0) -> CrashReport:
        """Read and remove the files of a dead worker, whose tasks had `grace_s` to end when they were interrupted."""
        dump, died_at = "", time.monotonic()
        if not self._is_trusted():
            return CrashReport(None, dump)
        file = self._read_file()
        content = self._read_content(file)
        with contextlib.suppress(OSError):
            dump = self._dump_path.read_text("utf-8", "replace")
            if dump:
                died_at -= time.time() - self._dump_path.stat().st_mtime
        self._remove(file)
        if not content:
            return CrashReport(None, dump[:DUMP_CHARACTERS])
        entries = _list_entries(content)
        late = [entry for entry in entries if entry[1] <= died_at]
        guilty = [entry for entry in late if entry[3] and entry[1] + grace_s <= died_at]
        overdue = tuple(number for number, *_ in guilty or late)
        if len(overdue) == 1:
            dump = _of_thread(dump, (guilty or late)[0][2])
        executing = tuple(number for number, *_ in entries)
        had_strays = content[-1:] != _NO_STRAYS
        return CrashReport(executing, dump[:DUMP_CHARACTERS], overdue, bool(guilty), had_strays)

    def _is_trusted(self) -> bool:
        """True unless another user has made its folders."""
        with contextlib.suppress(OSError):
            return _is_own(self._path.parent.parent) and _is_own(self._path.parent)
        return True

    def _read_file(self) -> bytes:
        with contextlib.suppress(OSError):
            return self._path.read_bytes()
        return b""

    def _read_content(self, file: bytes) -> bytes:
        with contextlib.suppress(OSError, struct.error):
            return lasting_memory.read(*_FILE.unpack(file)[1:])
        return b""

    def _remove(self, file: bytes) -> None:
        """Remove files and memory, and the folder of the run if no other lease has files there."""
        if len(file) == _FILE.size:
            lasting_memory.remove(_FILE.unpack(file)[1])
        with contextlib.suppress(OSError):
            for path in (self._path, self._dump_path, self._revoked_path):
                path.unlink(missing_ok=True)
            self._path.parent.rmdir()


def _find_root() -> Path:
    folder = "/tmp"  # noqa: S108 - if no folder has room for a trial file
    with contextlib.suppress(OSError):
        folder = tempfile.gettempdir()
    return Path(folder) / f"dfz_ray-{os.getuid()}"


ROOT = _find_root()
"""The folder of all markers of this user on this node, found before a task can say where temporary files go."""


def _is_own(folder: Path) -> bool:
    """True if a folder is this user's own, and no link to another one."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes and threads that do the same."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _list_entries(content: bytes) -> list[tuple[int, float, int, bool]]:
    """The entries of the threads that execute tasks, in the content of a marker's memory."""
    return [entry for entry in _ENTRY.iter_unpack(content[len(_HEAD) : -1]) if entry[0] != NO_TASK]


def _of_thread(dump: str, thread: int) -> str:
    """The part of a dump of all stacks that shows one thread; all of it if the thread is not in it."""
    head, *parts = dump.split("\nThread ")
    return next((f"{head}\nThread {part}" for part in parts if part.startswith(f"0x{thread:016x} ")), dump)


@functools.cache
def _remove_left(root: Path) -> None:
    """Remove, once in each worker, the markers of workers that died long ago and that nobody has read."""
    lasting_memory.remove_left(_HEAD, LEFT_S)
    for path in root.glob("*/*"):
        with contextlib.suppress(OSError, struct.error):
            if time.time() - path.stat().st_mtime < LEFT_S:
                continue
            marker = path.with_suffix("")  # the files beside a marker belong to the same worker
            file = marker.read_bytes() if marker.exists() else b""
            if len(file) < _FILE.size or not psutil.pid_exists(_FILE.unpack(file)[0]):
                path.unlink()
                path.parent.rmdir()
