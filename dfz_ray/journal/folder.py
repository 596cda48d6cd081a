"""The run folder: the places of its files, and writing files in it whole."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.lock import LOCK
from dfz_ray.journal.regular_file import open_regular, refuse_irregular

NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "glusterfs",
    "9p",
    "afs",
}

PART = ".part"
"""The end of the name of a file that is being written."""
BUSY_S = 10.0
"""Seconds that a connection to the journal waits for others."""
LANDMARK = ".dfz-"
"""So begins the name of a file by which the manager knows that it sees the driver's files."""
STATUS = "status.json"
"""The progress of the run, which the manager writes each second."""
REQUESTS = "requests"
"""A folder in the run folder, with a file for each request that has not been carried out yet."""


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, mode 0700."""

    path: Path

    @property
    def database(self) -> Path:
        """The journal."""
        return self.path / "run.sqlite"

    @property
    def results(self) -> Path:
        """The folder of results that are too large for the journal; each file is named by its hash."""
        return self.path / "results"

    @property
    def inputs(self) -> Path:
        """The folder of inputs that are too large for the journal; see `journal/inputs.py`."""
        return self.path / "inputs"

    @property
    def seal(self) -> Path:
        """SHA-256 of the journal, while the run is at rest; see schema.sql."""
        return self.path / "seal"

    @property
    def unfinished_database(self) -> Path:
        """The journal while it is being made. It is renamed to `database` once it is whole."""
        return self.path / "run.sqlite.new"

    def holds_run(self) -> bool:
        """True if the folder has a journal. A damaged one counts, so that it is never overwritten."""
        try:
            return self.database.stat().st_size > 0 and self.database.is_file()
        except OSError:
            return False

    def describe_lack(self) -> str:
        """The reason why the path is no run folder, where no journal is found."""
        try:
            self.database.lstat()
        except NotADirectoryError:
            return f"{self.path} is no run folder: it is a file; a run is named by its folder"
        except OSError as error:
            if error.errno != errno.ENOENT:
                return f"{self.path} can't be read: {error.strerror}"
        return f"{self.path} is no run folder: it has no {self.database.name}"

    def refuse_irregular(self, *, writes: bool) -> None:
        """Refuse a folder in which a link, a pipe or a device has the name of a file of the run: SQLite would open it.

        To be written, the run must be the user's own. Raises RunFolderRefused.
        """
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise RunFolderRefused(f"{self.path} can't be read: {error.strerror or error}") from None
        for name in names:
            is_folder = name in (REQUESTS, self.results.name, self.inputs.name)
            if is_folder or name.startswith((self.database.name, LOCK, STATUS, self.seal.name)):
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                    path = self.path / name
                    refuse_irregular(path, path.lstat(), writes, is_folder=is_folder)

    def make(self, durable: bool = True) -> None:
        """Make the folder for a new run, and those above it; if durable, their names survive a crash of the system.

        Raises RunFolderRefused if it can't be made, or is not empty.
        """
        if self.holds_run():
            raise RunFolderRefused(f"{self.path} holds a run already; name a new folder")
        try:
            made = [path for path in (self.path, *self.path.parents) if not path.exists()]
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A process that was killed while it made a run leaves a lock and an unfinished journal: they don't count.
            if any(not self._is_left_over(path) for path in self.path.iterdir()):
                raise RunFolderRefused(f"{self.path} is neither empty nor a run; name a new folder")
            self.path.chmod(0o700)  # whatever the umask, and even if the folder existed
            for path in made if durable else ():
                with contextlib.suppress(OSError):  # it may not be read, or its file system syncs no folders
                    sync_folder(path.parent)
        except OSError as error:
            raise RunFolderRefused(f"{self.path} can't be a run folder: {error.strerror or error}") from None

    def _is_left_over(self, path: Path) -> bool:
        left = self.unfinished_database.name, LANDMARK
        return path.name in (LOCK, self.database.name) or path.name.startswith(left)

    def connect(self, mode: str, database: Path | None = None) -> sqlite3.Connection:
        """A connection to the journal; the mode is SQLite's: `ro`, `rw`, or `rwc` to make the file.

        Every statement is its own transaction unless one is begun. Only one thread at a time may use a connection; the
        manager makes it in another thread than the one that uses it. Raises RunFolderRefused if the folder is unsafe.
        """
        self.refuse_irregular(writes=mode != "ro")
        uri = f"{(database or self.database).absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False)

    def has_log(self) -> bool:
        """True if SQLite keeps a part of the journal in a file beside it: while it is written, or after a crash."""
        return any(self.database.with_name(self.database.name + end).exists() for end in ("-wal", "-journal"))

    def has_unfinished_commit(self) -> bool:
        """True if a crash left a commit half written (without a WAL). Only a writer can roll it back."""
        log = self.database.with_name(self.database.name + "-journal")
        try:
            return log.stat().st_size > 0
        except OSError:  # where even the journal can't be reached, opening it will report that
            return False

    def is_on_network(self) -> bool:
        """True if the folder is on a network file system, where SQLite can't use its write-ahead log."""
        path = os.path.realpath(self.path)
        mount_point = file_system = ""
        for part in psutil.disk_partitions(all=True):
            inside = path == part.mountpoint or path.startswith(part.mountpoint.rstrip("/") + "/")
            if inside and len(part.mountpoint) >= len(mount_point):
                mount_point, file_system = part.mountpoint, part.fstype
        return file_system in NETWORK_FILE_SYSTEMS or file_system.startswith("fuse.")


def write_whole(path: Path, content: bytes | memoryview, durable: bool = False, mode: int = 0o666) -> None:
    """Write or replace a file, whole or not at all.

    If durable, the content survives a crash of the operating system; the name does so once the folder is synced, too.
    """
    with open_whole(path, durable, mode) as file:
        file.write(content)


@contextlib.contextmanager
def open_whole(path: Path, durable: bool = False, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write to, which takes its name, as `write_whole` explains it, unless an exception ends the block."""
    part = path.with_name(f"{path.name}{PART}")
    part.unlink(missing_ok=True)  # a link there would lead to another file
    try:
        with os.fdopen(open_regular(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Wait until the list of a folder's files is on disk."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on disk."""
    _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
