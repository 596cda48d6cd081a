"""Reading a run's journal, also while it is being written."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dfz_ray.errors import JournalDamaged
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.record_table import Attempt, CompletedChunk, RecordTable, TableRows
from dfz_ray.journal.statements import STATEMENTS, VERSION
from dfz_ray.protocol.columns import split_digests, unpack
from dfz_ray.specs.states import STATES, count_final

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged journal may raise; the latter where SQLite would tell of a text that is no UTF-8."""


class StoredTask(NamedTuple):
    """A task as it was submitted."""

    number: int
    domain: str
    kind: str
    resources: str
    """JSON."""
    policy: str
    """JSON."""
    seed: int
    parameters: bytes


class PoolChangeRow(NamedTuple):
    """A change of the number of slots."""

    changed_at: float
    """In Unix seconds."""
    slots: int
    reason: str


class JournalReader:
    """A read-only view of a run folder; a context manager.

    Raises:
        JournalDamaged: there is no journal, or it can't be read, or it is of another schema.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = RunFolder(folder)
        self._connection = open_journal(self._folder, "ro")
        self.meta: dict[str, str] = dict(self._rows("get_meta"))

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def counts(self) -> dict[str, int]:
        """Tasks per state; what is not final counts as pending, for only the manager knows what runs."""
        with self._one_moment():
            final = list(next(self._rows("count_outcomes")))
            return dict(zip(STATES, [self.count_tasks() - sum(final), 0, *final], strict=True))

    def count_tasks(self) -> int:
        """How many tasks the run has."""
        count: int = next(self._rows("count_tasks"))[0]
        return count

    def domains(self) -> list[str]:
        """The names of the domains that the run's tasks are of."""
        return [name for name, _ in self._rows("read_domains")]

    def shapes(self) -> list[str]:
        """The resources (JSON) of the run's kinds, each once."""
        return sorted({resources for _, _, resources, _ in self._rows("read_kinds")})

    def table(self) -> RecordTable:
        """All records, with their results in memory: the run's folder may go."""
        return RecordTable(self.rows(), self._folder.results)

    def records(self) -> RecordTable:
        """All records, whose results are read when they are asked for, as long as this reader is open."""
        return RecordTable(self.rows(in_memory=False), self._folder.results)

    def rows(self, *, in_memory: bool = True) -> TableRows:
        """What the journal says of all tasks, as columns."""
        with self._one_moment():
            return TableRows(
                blocks=list(self._rows("read_names")),
                completions=list(map(CompletedChunk._make, self._rows("read_completed_chunks"))),
                results=dict(self._rows("read_results")).__getitem__ if in_memory else self._read_chunk_results,
                others=list(self._rows("read_other_outcomes")),
                attempts=list(map(Attempt._make, self._rows("read_attempts"))),
                kinds=[(domain, name) for domain, name, *_ in self._rows("read_kinds")],
                nodes=dict(self._rows("read_chunk_nodes")),
            )

    @contextlib.contextmanager
    def _one_moment(self) -> Iterator[None]:
        """What is read meanwhile is of one moment, whatever is committed."""
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                yield
        except UNREADABLE as error:
            raise unreadable(self._folder, error) from error

    def _read_chunk_results(self, chunk: int) -> bytes:
        column: bytes = next(self._rows("read_chunk_results", (chunk,)))[0]
        return column

    def commits(self) -> int:
        """How many commits were made."""
        count: int = next(self._rows("count_commits"))[0]
        return count

    def numbers_of(self, ids: Iterable[str]) -> dict[str, int]:
        """The numbers of the tasks of these ids, of those that the run has."""
        wanted = set(ids)
        return {task_id: number for number, task_id in enumerate(self.ids()) if task_id in wanted}

    def ids(self) -> Iterator[str]:
        """The ids of all tasks, in the order of submission."""
        for ids, _ in self._rows("read_names"):
            yield from unpack(ids)

    def names(self) -> list[tuple[str, str, str]]:
        """Id, domain and kind of all tasks, in the order of submission."""
        kinds = [(domain, name) for domain, name, *_ in self._rows("read_kinds")]
        return [
            (task_id, *kinds[kind])
            for ids, of_kind in self._rows("read_names")
            for task_id, kind in zip(unpack(ids), unpack(of_kind), strict=True)
        ]

    def batch_tasks(self, name: str) -> list[int]:
        """The numbers of the tasks of the batches of this name."""
        blocks = self._rows("read_batch_blocks", (name,))
        return [number for first, tasks in blocks for number in range(first, first + tasks)]

    def pool_changes(self) -> list[PoolChangeRow]:
        """Every change of the number of slots, where that followed what paid."""
        return list(map(PoolChangeRow._make, self._rows("read_pool_changes")))

    def batches(self) -> list[str]:
        """The names of the run's batches, in the order of submission."""
        return [name for (name,) in self._rows("read_batches")]

    def task(self, task_id: str) -> StoredTask:
        """One task as it was submitted.

        Raises:
            KeyError: the run has no task of this id.
        """
        for first, ids, kinds, works in self._rows("read_tasks"):
            names = unpack(ids)
            if task_id in names:
                at = names.index(task_id)
                domain, kind, resources, policy = list(self._rows("read_kinds"))[unpack(kinds)[at]]
                return StoredTask(first + at, domain, kind, resources, policy, *unpack(works)[at])
        raise KeyError(task_id)

    def files(self) -> dict[str, bytes]:
        """The files that parameters name: SHA-256 in hex, content."""
        return dict(self._rows("read_files"))

    def digest_of(self, number: int) -> bytes | None:
        """The digest of one task's result, where it completed."""
        for tasks, digests in self._rows("find_completion", (number,)):
            return split_digests(digests)[unpack(tasks).index(number)]
        return None

    def digest(self) -> str:
        """The digest of the run, in hex; schema.sql says over what."""
        return self.records().digest()

    def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
        try:
            # `yield from` would close the cursor in the end, also that of a reader which has been closed before.
            for row in self._connection.execute(STATEMENTS[statement], values):  # noqa: UP028
                yield row
        except UNREADABLE as error:
            raise unreadable(self._folder, error) from error


def count_ended(folder: Path) -> int:
    """How many tasks of a folder's run are in a final state; 0 where it holds none."""
    if not RunFolder(folder).holds_run():
        return 0
    with JournalReader(folder) as journal:
        return count_final(list(journal.counts().values()))


def open_journal(folder: RunFolder, mode: str) -> sqlite3.Connection:
    """A connection to a run's journal, which must exist.

    Args:
        folder: the run folder.
        mode: `ro`, or `rw` for the one who works on the run.

    Raises:
        JournalDamaged: there is no journal, or it can't be read, or it is of another schema.
    """
    if not folder.database.is_file():
        raise JournalDamaged(f"{folder.path} is no run folder: it has no run.sqlite")
    with contextlib.ExitStack() as on_failure:
        try:
            connection = folder.connect(mode)
            on_failure.callback(connection.close)
            version = dict(connection.execute(STATEMENTS["get_meta"])).get("schema_version")
            wrong_size = find_wrong_size(connection, folder)
        except UNREADABLE as error:
            raise unreadable(folder, error) from error
        if version != str(VERSION):
            raise JournalDamaged(f"{folder.path} has schema {version}; this dfz_ray reads schema {VERSION}")
        if wrong_size:  # SQLite would read zeros for what is missing of a page
            raise JournalDamaged(f"{folder.database} is damaged: {wrong_size}")
        on_failure.pop_all()
        return connection


def find_wrong_size(connection: sqlite3.Connection, folder: RunFolder) -> str | None:
    """What is wrong with the size of the journal's file, as far as that can be told while there may be a log."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    size = folder.database.stat().st_size
    if size == pages * page_bytes or folder.has_log():
        return None
    return f"it has {size} bytes, not {pages} pages of {page_bytes}: it is cut short, or something follows it"


def unreadable(folder: RunFolder, error: Exception) -> JournalDamaged:
    """What to raise where a journal can't be read."""
    why: object = error
    if getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK":
        why = "a crash cut its last commit off; it can be read again once the run has been opened for work"
    return JournalDamaged(f"{folder.database} can't be read: {why}")
