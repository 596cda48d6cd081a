"""The run folder: where its files are."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import psutil

from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.lock import LOCK
from dfz_ray.journal.statements import STATEMENTS

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

    def holds_run(self) -> bool:
        """Whether there is a run: a journal that was killed before its first commit is none yet."""
        if not self.database.is_file():
            return False
        try:
            with contextlib.closing(self.connect("ro")) as connection:
                (tables,) = connection.execute(STATEMENTS["count_tables"]).fetchone()
                return bool(tables)
        except sqlite3.Error:
            return True  # one that is damaged: it is not written over, and whoever opens it is told

    def make(self) -> None:
        """Make the folder for a new run.

        Raises:
            RunFolderRefused: it holds a run already, or something else, or can't be made.
        """
        if self.holds_run():
            raise RunFolderRefused(f"{self.path} holds a run already; name a new folder")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A run that was killed as it began leaves a lock and a journal without tables: that is as good as empty.
            if any(path.name != LOCK and not path.name.startswith(self.database.name) for path in self.path.iterdir()):
                raise RunFolderRefused(f"{self.path} is neither empty nor a run; name a new folder")
            self.path.chmod(0o700)  # whatever the umask, or who made it
        except OSError as error:
            raise RunFolderRefused(f"{self.path} can't be a run folder: {error.strerror or error}") from None

    def connect(self, mode: str) -> sqlite3.Connection:
        """A connection to the journal; the mode is SQLite's: `ro`, `rw`, or `rwc` to make the file.

        Every statement is its own transaction unless one is begun. Only one thread at a time uses a connection, but
        the manager makes it in another one.
        """
        uri = f"{self.database.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10, check_same_thread=False)

    def has_log(self) -> bool:
        """Whether SQLite keeps a part of the journal beside it: while it is written, or after a crash."""
        return any(self.database.with_name(self.database.name + end).exists() for end in ("-wal", "-journal"))

    def is_on_network(self) -> bool:
        """Whether a network file system holds the folder: there SQLite can't use its write-ahead log."""
        path = os.path.realpath(self.path)
        best = ("", "")
        for part in psutil.disk_partitions(all=True):
            inside = path == part.mountpoint or path.startswith(part.mountpoint.rstrip("/") + "/")
            if inside and len(part.mountpoint) >= len(best[0]):
                best = (part.mountpoint, part.fstype)
        return best[1] in NETWORK_FILE_SYSTEMS or best[1].startswith("fuse.")
