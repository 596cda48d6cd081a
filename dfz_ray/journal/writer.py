"""The one connection that writes a run's journal."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfz_ray.errors import EpochSuperseded, JournalDamaged, RunFolderRefused
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.reader import open_journal
from dfz_ray.journal.statements import STATEMENTS, VERSION

# Numbers that the journal stores; schema.sql explains them.
ATTEMPT_COMPLETED, ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED = range(4)

Row = tuple[Any, ...]


@dataclass(slots=True)
class Group:
    """What is to be committed together, as rows of the tables of schema.sql."""

    batches: list[Row] = field(default_factory=list)
    domains: list[Row] = field(default_factory=list)
    kinds: list[Row] = field(default_factory=list)
    files: list[Row] = field(default_factory=list)
    tasks: list[Row] = field(default_factory=list)
    leases: list[Row] = field(default_factory=list)
    chunks: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    outcomes: list[Row] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(getattr(self, table) for table, _ in _ORDER)


_ORDER = (
    ("batches", "add_batch"),
    ("domains", "add_domain"),
    ("kinds", "add_kind"),
    ("files", "add_file"),
    ("tasks", "add_task"),
    ("leases", "add_lease"),
    ("chunks", "add_chunk"),
    ("attempts", "add_attempt"),
    ("outcomes", "add_outcome"),
)


class JournalWriter:
    """Commits groups of rows; what it has committed is on disk. Opening one takes a new epoch.

    Args:
        folder: the run folder, which has a journal.
        inline_bytes: larger results become files.

    Raises:
        JournalDamaged: there is no journal, or it can't be read or written, or it is of another schema.
    """

    def __init__(self, folder: Path, inline_bytes: int = 262_144) -> None:
        self._folder = RunFolder(folder)
        self._inline_bytes = inline_bytes
        self._connection = open_journal(self._folder, "rw")
        try:
            _set_up(self._connection, self._folder)
            with self._transaction():
                opened = (time.time(), socket.gethostname(), os.getpid())
                self.epoch: int = self._connection.execute(STATEMENTS["take_epoch"], opened).fetchone()[0]
        except sqlite3.Error as error:
            self._connection.close()
            raise JournalDamaged(f"{self._folder.database} can't be written: {error}") from error

    @classmethod
    def create(cls, folder: Path, meta: Mapping[str, str], inline_bytes: int = 262_144) -> JournalWriter:
        """Make the folder and an empty journal.

        Raises:
            RunFolderRefused: the folder can't hold a new run.
        """
        RunFolder(folder).make()
        try:
            with contextlib.closing(RunFolder(folder).connect("rwc")) as connection:
                _set_up(connection, RunFolder(folder))
                connection.executescript(f"BEGIN; {STATEMENTS['schema']}")
                connection.executemany(STATEMENTS["set_meta"], {"schema_version": str(VERSION), **meta}.items())
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise RunFolderRefused(f"{folder} can't hold a journal: {error}") from error
        return cls(folder, inline_bytes)

    def reopen_failed(self) -> None:
        """Make failed tasks due again, and note what their outcomes were.

        Raises:
            EpochSuperseded: another manager has opened the run since.
            JournalDamaged: it could not be written.
        """
        try:
            with self._transaction():
                self._check_epoch()
                self._connection.execute(STATEMENTS["note_reopened"], (self.epoch,))
                self._connection.execute(STATEMENTS["reopen_failed"])
        except sqlite3.Error as error:
            raise JournalDamaged(f"{self._folder.database} can't be written: {error}") from error

    def commit(self, group: Group) -> None:
        """Commit a group, whole or not at all.

        Raises:
            EpochSuperseded: another manager has opened the run since.
            JournalDamaged: it could not be written. That is final: what a failed write left on disk is unknown.
        """
        rows = {table: getattr(group, table) for table, _ in _ORDER}
        try:
            with self._transaction():
                self._check_epoch()
                rows["outcomes"] = self._move_large_results(group.outcomes)
                for table, statement in _ORDER:
                    if rows[table]:
                        self._connection.executemany(STATEMENTS[statement], rows[table])
        except (sqlite3.Error, OSError) as error:
            raise JournalDamaged(f"{self._folder.database} can't be written: {error}") from error

    def close(self) -> None:
        """Close; a run that has come to rest is a single file."""
        with contextlib.suppress(sqlite3.OperationalError):  # a reader is at it: the log stays, and is as good
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk ends it by itself
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _check_epoch(self) -> None:
        latest = self._connection.execute(STATEMENTS["latest_epoch"]).fetchone()[0]
        if latest != self.epoch:
            raise EpochSuperseded(f"epoch {latest} has taken over {self._folder.path}; this is epoch {self.epoch}")

    def _move_large_results(self, outcomes: Sequence[Row]) -> list[Row]:
        """Write results that are too large to files, which are on disk before a row names them."""
        if all(row[3] is None or len(row[3]) <= self._inline_bytes for row in outcomes):
            return list(outcomes)
        self._folder.results.mkdir(mode=0o700, exist_ok=True)
        moved = []
        for task, state, epoch, result, _, *rest in outcomes:
            if result is not None and len(result) > self._inline_bytes:
                name = hashlib.sha256(result).hexdigest()
                _write_durably(self._folder.results / name, result)
                moved.append((task, state, epoch, None, name, *rest))
            else:
                moved.append((task, state, epoch, result, None, *rest))
        _sync(self._folder.results)
        _sync(self._folder.path)
        return moved


def _set_up(connection: sqlite3.Connection, folder: RunFolder) -> None:
    connection.execute(f"PRAGMA journal_mode = {'TRUNCATE' if folder.is_on_network() else 'WAL'}")
    connection.execute("PRAGMA synchronous = FULL")


def _write_durably(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")  # an equal result may lie there, committed: it is never half a file
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
