"""The one connection that writes a run's journal."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from dfz_ray.errors import EpochSuperseded, JournalDamaged, RunFolderRefused
from dfz_ray.journal.commit_sums import NONE_YET, Commit, Row, add_commit
from dfz_ray.journal.folder import RunFolder, sync_file, sync_folder, write_whole
from dfz_ray.journal.integrity import refuse_damaged
from dfz_ray.journal.journal_file import open_journal
from dfz_ray.journal.schema import ATTEMPT_SUPERSEDED, STATEMENTS, VERSION
from dfz_ray.journal.seal import remove_seal, write_seal
from dfz_ray.protocol.columns import pack, unpack

COLUMN_BYTES = 2**26
"""If a column of results is longer, more of them become files, for a value in SQLite has at most 10^9 bytes."""


@dataclass(slots=True)
class Group:
    """Rows to be committed together, by table of schema.sql and without their last column.

    Domains, files, leases and superseded attempts that the journal has already are passed over. The outcomes are those
    of tasks that did not complete; those of completed tasks follow from the completions.
    """

    meta: list[Row] = field(default_factory=list)
    batches: list[Row] = field(default_factory=list)
    domains: list[Row] = field(default_factory=list)
    kinds: list[Row] = field(default_factory=list)
    files: list[Row] = field(default_factory=list)
    blocks: list[Row] = field(default_factory=list)
    leases: list[Row] = field(default_factory=list)
    chunks: list[Row] = field(default_factory=list)
    completions: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    cancels: list[Row] = field(default_factory=list)
    pool_changes: list[Row] = field(default_factory=list)
    outcomes: list[Row] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(getattr(self, table.name) for table in fields(self))


READERS_S = 600
"""Seconds that a commit waits for readers where there is no write-ahead log: an audit may take long."""


class JournalWriter:
    """Commits groups of rows. When `commit` returns, they are on disk. Opening a writer takes a new epoch.

    Results of more than `inline_bytes` become files. If durable, a commit survives a crash of the operating system (by
    an fsync), and not only of this process. `opening` is the driver's note on the epoch, as JSON. `taken` is the commit
    by which this process took the epoch when it made the journal.

    Raises:
        JournalDamaged: the journal is missing, can't be read or written, is damaged, or is of another schema.
        RunFolderRefused: somebody reads it, and goes on for a while.
    """

    def __init__(
        self,
        folder: Path,
        inline_bytes: int = 262_144,
        durable: bool = True,
        opening: str = "",
        taken: Commit | None = None,
    ) -> None:
        self._folder = RunFolder(folder)
        self._inline_bytes = inline_bytes
        self._durable = durable
        self._is_in_doubt = False
        if taken is None:
            refuse_damaged(self._folder)
        self._connection = open_journal(self._folder, "rw")
        try:
            self._wait_for_readers()
            remove_seal(self._folder)
            self._set_up()
            self._last = self._take_epoch(opening) if taken is None else taken
            self.epoch = self._last.epoch
            self._known_domains = {row[0] for row in self._connection.execute(STATEMENTS["read_domains"])}
            self._known_files = {row[0] for row in self._connection.execute(STATEMENTS["list_files"])}
        except (sqlite3.Error, OSError) as error:
            self._connection.close()
            if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                raise RunFolderRefused(
                    f"{folder} is being read, for example by `dfz audit`; try again when that has ended"
                ) from None
            raise JournalDamaged(f"{self._folder.database} can't be written: {error}") from error
        self._known_leases: set[Row] = set()
        """The leases of this epoch."""

    @classmethod
    def create(
        cls,
        folder: Path,
        meta: Mapping[str, str],
        inline_bytes: int = 262_144,
        durable: bool = True,
        opening: str = "",
    ) -> JournalWriter:
        """Make the folder and an empty journal. Raises RunFolderRefused if the folder can't hold a new run."""
        run_folder = RunFolder(folder)
        run_folder.make(durable)
        try:
            taken = _make_journal(run_folder, {"schema_version": str(VERSION), **meta}, opening, durable)
        except (sqlite3.Error, OSError) as error:
            raise RunFolderRefused(f"{folder} can't hold a journal: {error}") from error
        return cls(folder, inline_bytes, durable, opening, taken)

    @property
    def commits(self) -> int:
        """The number of commits of all epochs; all of them are on disk."""
        return self._last.number + 1

    def reopen_failed(self) -> None:
        """Reopen failed tasks, and keep their outcomes in the table `reopened`. Raises the same as `commit`."""
        with self._transaction():
            failed = self._connection.execute(STATEMENTS["read_failed"]).fetchall()
            last = self._last
            if failed:
                rows = {"reopened": [(*outcome, self.epoch) for outcome in failed]}
                last = add_commit(self._connection, last, self.epoch, rows)
                self._connection.execute(STATEMENTS["remove_failed"])
        self._last = last

    def commit(self, group: Group) -> dict[str, Sequence[Row]]:
        """Commit a group, whole or not at all. A group without anything new makes no commit.

        Returns:
            The rows as they were written, by table.

        Raises:
            EpochSuperseded: another manager has opened the run since.
            JournalDamaged: it could not be written. That is final, for what a failed write left on disk is unknown.
        """
        rows: dict[str, Sequence[Row]] = {table.name: getattr(group, table.name) for table in fields(group)}
        rows["domains"] = _without_known(group.domains, 1, self._known_domains)
        rows["files"] = _without_known(group.files, 1, self._known_files)
        rows["leases"] = _without_known(group.leases, 2, self._known_leases)
        with self._transaction():
            last = self._last
            rows["attempts"] = self._without_collisions(group.attempts, group.completions)
            rows["completions"] = self._move_large_results(group.completions)
            if any(rows.values()):
                last = add_commit(self._connection, last, self.epoch, rows)
                self._add_completed_outcomes(group.completions, last.number)
        self._last = last
        self._known_domains.update(row[0] for row in rows["domains"])
        self._known_files.update(row[0] for row in rows["files"])
        self._known_leases.update(row[:2] for row in rows["leases"])
        return rows

    def close(self) -> None:
        """Close the journal. A run at rest is a single file and its seal."""
        is_at_rest = False
        with contextlib.suppress(sqlite3.Error):  # someone reads: the log stays, which does no harm
            self._connection.execute("PRAGMA journal_mode = DELETE")
            is_at_rest = self._latest_epoch() == self.epoch and not self._is_in_doubt
        self._connection.close()
        if is_at_rest:
            with contextlib.suppress(
                OSError, RunFolderRefused
            ):  # a run without a seal is sound, too; it is checked more closely
                write_seal(self._folder, self._durable)

    def _wait_for_readers(self) -> None:
        """Be alone for a moment, as setting up has to be; nothing is written. Raises sqlite3.OperationalError."""
        self._connection.execute("BEGIN EXCLUSIVE")
        self._connection.execute("ROLLBACK")

    def _set_up(self) -> None:
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
        self._connection.execute(_journal_mode(self._folder))
        self._connection.execute(f"PRAGMA busy_timeout = {1000 * READERS_S}")

    def _take_epoch(self, opening: str) -> Commit:
        self._connection.execute("BEGIN IMMEDIATE")
        last = Commit._make(self._connection.execute(STATEMENTS["last_commit"]).fetchone())
        taken = _add_epoch(self._connection, last, self._latest_epoch() + 1, opening)
        self._connection.execute("COMMIT")
        return taken

    def _latest_epoch(self) -> int:
        epoch: int = self._connection.execute(STATEMENTS["latest_epoch"]).fetchone()[0]
        return epoch

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if (latest := self._latest_epoch()) != self.epoch:
                    where = self._folder.path
                    raise EpochSuperseded(f"epoch {latest} has taken over {where}; this is epoch {self.epoch}")
                yield
            except BaseException:
                if self._connection.in_transaction:  # a full disk ends the transaction by itself
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._is_in_doubt = True
            raise JournalDamaged(f"{self._folder.database} can't be written: {error}") from error

    def _add_completed_outcomes(self, completions: Sequence[Row], commit: int) -> None:
        for chunk, tasks, *_ in completions:
            # One statement for all of them, so that no Python object is needed for each.
            values = {"chunk": chunk, "commit": commit, "tasks": str(unpack(tasks))}
            self._connection.execute(STATEMENTS["add_completed_outcomes"], values)

    def _without_collisions(self, attempts: Sequence[Row], completions: Sequence[Row]) -> Sequence[Row]:
        """Leave out superseded attempts whose task already has an attempt in the same chunk."""
        superseded = [row for row in attempts if row[2] == ATTEMPT_SUPERSEDED]
        if not superseded:
            return attempts
        kept = [row for row in attempts if row[2] != ATTEMPT_SUPERSEDED]
        taken = {row[:2] for row in kept}
        taken.update((number, chunk) for chunk, tasks, *_ in completions for number in unpack(tasks))
        for row in superseded:
            place = {"task": row[0], "chunk": row[1]}
            if row[:2] not in taken and not self._connection.execute(STATEMENTS["find_attempt"], place).fetchone()[0]:
                taken.add(row[:2])
                kept.append(row)
        return kept

    def _move_large_results(self, completions: Sequence[Row]) -> Sequence[Row]:
        """Write large results to files, which are on disk before a row names them."""
        if all(len(results) <= min(self._inline_bytes, COLUMN_BYTES) for _, _, _, results, _ in completions):
            return completions
        moved = [
            (chunk, tasks, times, self._without_large(results), digests)
            for chunk, tasks, times, results, digests in completions
        ]
        if self._durable and self._folder.results.is_dir():
            sync_folder(self._folder.results)
            sync_folder(self._folder.path)
        return moved

    def _without_large(self, column: bytes) -> bytes:
        results = unpack(column)
        fair = COLUMN_BYTES // len(results) if len(column) > COLUMN_BYTES else self._inline_bytes
        return pack([self._move_if_large(result, min(fair, self._inline_bytes)) for result in results])

    def _move_if_large(self, result: bytes, inline_bytes: int) -> bytes | str:
        if len(result) <= inline_bytes:
            return result
        self._folder.results.mkdir(mode=0o700, exist_ok=True)
        name = hashlib.sha256(result).hexdigest()
        write_whole(self._folder.results / name, result, self._durable)
        return name


def _make_journal(folder: RunFolder, meta: Mapping[str, str], opening: str, durable: bool) -> Commit:
    """Make a journal without tasks, and take its first epoch; returns the commit by which that is taken."""
    unfinished = folder.unfinished_database
    for left in folder.path.glob(f"{unfinished.name}*"):
        left.unlink()
    with contextlib.closing(folder.connect("rwc", unfinished)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # whatever a crash leaves here is thrown away
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.executescript(f"BEGIN; {STATEMENTS['schema']}")
        created = add_commit(connection, NONE_YET, 0, {"meta": list(meta.items())})
        taken = _add_epoch(connection, created, 1, opening)
        connection.execute("COMMIT")
        # Only now: SQLite does not say that it could not move a log into the file as it closes it, on a full disk.
        connection.execute(_journal_mode(folder))
    if durable:
        sync_file(unfinished)
    unfinished.replace(folder.database)  # the first commit syncs the folder, too
    return taken


def _add_epoch(connection: sqlite3.Connection, last: Commit, epoch: int, opening: str) -> Commit:
    opened = (epoch, time.time(), socket.gethostname(), os.getpid())
    note = [(f"opening/{epoch}", opening)] if opening else []
    return add_commit(connection, last, epoch, {"meta": note, "epochs": [opened]})


def _journal_mode(folder: RunFolder) -> str:
    return f"PRAGMA journal_mode = {'TRUNCATE' if folder.is_on_network() else 'WAL'}"


def _without_known(rows: Sequence[Row], key_columns: int, known: Collection[object]) -> list[Row]:
    """The new rows, the first one of each key."""
    new: dict[object, Row] = {}
    for row in rows:
        key = row[0] if key_columns == 1 else row[:key_columns]
        if key not in known:
            new.setdefault(key, row)
    return list(new.values())
