"""The run folder: where its files are."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import psutil

from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.lock import LOCK

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
        """Where results lie that are too large for the journal; each is named by its hash."""
        return self.path / "results"

    @property
    def seal(self) -> Path:
        """SHA-256 of the journal, while the run is at rest; see schema.sql."""
        return self.path / "seal"

    @property
    def unborn(self) -> Path:
        """The journal while it is being made: it gets its name when it is whole."""
        return self.path / "run.sqlite.new"

    def holds_run(self) -> bool:
        """Whether there is a run; one that is damaged counts, so that it is not written over."""
        try:
            return self.database.stat().st_size > 0 and self.database.is_file()
        except OSError:
            return False

    def make(self) -> None:
        """Make the folder for a new run.

        Raises:
            RunFolderRefused: it holds a run already, or something else, or can't be made.
        """
        if self.holds_run():
            raise RunFolderRefused(f"{self.path} holds a run already; name a new folder")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A run that was killed as it began leaves a lock, and what was to be its journal: that is as good as empty.
            if any(not self._is_unborn(path) for path in self.path.iterdir()):
                raise RunFolderRefused(f"{self.path} is neither empty nor a run; name a new folder")
            self.path.chmod(0o700)  # whatever the umask, or who made it
        except OSError as error:
            raise RunFolderRefused(f"{self.path} can't be a run folder: {error.strerror or error}") from None

    def _is_unborn(self, path: Path) -> bool:
        return path.name in (LOCK, self.database.name) or path.name.startswith(self.unborn.name)

    def connect(self, mode: str, database: Path | None = None) -> sqlite3.Connection:
        """A connection to the journal; the mode is SQLite's: `ro`, `rw`, or `rwc` to make the file.

        Every statement is its own transaction unless one is begun. Only one thread at a time uses a connection, but
        the manager makes it in another one.
        """
        uri = f"{(database or self.database).absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10, check_same_thread=False)

    def has_log(self) -> bool:
        """Whether SQLite keeps a part of the journal beside it: while it is written, or after a crash."""
        return any(self.database.with_name(self.database.name + end).exists() for end in ("-wal", "-journal"))

    def has_unfinished_commit(self) -> bool:
        """Whether a crash has left a commit half written, which only a writer can take back (where there is no WAL)."""
        log = self.database.with_name(self.database.name + "-journal")
        return log.exists() and log.stat().st_size > 0

    def is_on_network(self) -> bool:
        """Whether a network file system holds the folder: there SQLite can't use its write-ahead log."""
        path = os.path.realpath(self.path)
        best = ("", "")
        for part in psutil.disk_partitions(all=True):
            inside = path == part.mountpoint or path.startswith(part.mountpoint.rstrip("/") + "/")
            if inside and len(part.mountpoint) >= len(best[0]):
                best = (part.mountpoint, part.fstype)
        return best[1] in NETWORK_FILE_SYSTEMS or best[1].startswith("fuse.")


def write_whole(path: Path, content: bytes, durable: bool) -> None:
    """Write a file, or replace it, whole or not at all.

    Args:
        path: of the file.
        content: what it is to hold.
        durable: whether it is to outlive the operating system; its name does once the folder is synced.
    """
    part = path.with_name(f"{path.name}.part")  # what is there already is never half a file
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    part.replace(path)


def sync_folder(folder: Path) -> None:
    """Wait until what was added to a folder, and removed from it, is so on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
