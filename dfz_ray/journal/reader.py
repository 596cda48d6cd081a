"""Reads a run's journal, also while it is being written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.journal_file import UNREADABLE, open_journal, roll_back_cut_off, unreadable
from dfz_ray.journal.lock import was_held_here
from dfz_ray.journal.record_table import EndedRows, Moment, RecordTable, UnsuccessfulAttempt
from dfz_ray.journal.schema import STATEMENTS
from dfz_ray.protocol.columns import NOTHING_COMPLETED, Completions, split_digests, unpack
from dfz_ray.specs.states import FINAL, State, count_final


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

    A commit that a crash cut off is rolled back first if the dead process was on this host. Some network file systems
    do not pass locks on: a process on another host may live.

    Raises JournalDamaged if the journal is missing, can't be read, or is of another schema.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = RunFolder(folder)
        if self._folder.has_unfinished_commit() and was_held_here(folder):
            roll_back_cut_off(self._folder)
        self._connection = open_journal(self._folder, "ro")
        self.meta: dict[str, str] = dict(self.query("get_meta"))

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def counts(self) -> dict[str, int]:
        """Tasks per state. Every open task counts as pending, for only the manager knows which ones run."""
        with self._one_moment():
            found = dict(self.query("count_states"))
            ended = {state: found.get(state, 0) for state in FINAL}
            left = {State.PENDING: self.count_tasks() - sum(ended.values())}
        return {state.label: (ended | left).get(state, 0) for state in State}

    def count_tasks(self) -> int:
        """The number of tasks."""
        count: int = next(self.query("count_tasks"))[0]
        return count

    def domains(self) -> list[str]:
        """The names of the run's domains."""
        return [name for name, _ in self.query("read_domains")]

    def kinds(self) -> list[tuple[str, str]]:
        """Domain and name of each of the run's kinds."""
        return [(domain, name) for domain, name, *_ in self.query("read_kinds")]

    def shapes(self) -> list[str]:
        """The resources (JSON) of the run's kinds, each once."""
        return sorted({resources for _, _, resources, _ in self.query("read_kinds")})

    def table(self) -> RecordTable:
        """All records as of now. They are read on demand, each time from the folder: this reader may be closed."""
        folder = self._folder.path
        return RecordTable(self._read_moment(), lambda: JournalReader(folder), self._folder.results)

    def records(self) -> RecordTable:
        """All records as of now. They are read on demand, which needs this reader to be open."""
        return RecordTable(self._read_moment(), lambda: contextlib.nullcontext(self), self._folder.results)

    def _read_moment(self) -> Moment:
        with self._one_moment():
            return Moment(
                commit=self.commits() - 1,
                blocks=list(self.query("read_block_sizes")),
                completed=dict(self.query("count_states")).get(State.COMPLETED, 0),
                others=list(self.query("read_other_outcomes")),
                attempts=list(map(UnsuccessfulAttempt._make, self.query("read_attempts"))),
                kinds=self.kinds(),
            )

    def ends(self) -> EndedRows:
        """All ends of tasks, as they are at one moment."""
        with self._one_moment():
            return EndedRows(
                completed=[chunk for (chunk,) in self.query("list_completed_chunks")],
                others=list(self.query("read_other_outcomes")),
                attempts=list(map(UnsuccessfulAttempt._make, self.query("read_attempts"))),
                nodes=dict(self.query("read_chunk_nodes")),
            )

    def completion(self, chunk: int) -> Completions:
        """The tasks of a chunk that completed; when this returns, nothing is being read any more."""
        return next(map(Completions._make, list(self.query("read_completion", (chunk,)))), NOTHING_COMPLETED)

    @contextlib.contextmanager
    def _one_moment(self) -> Iterator[None]:
        """Read rows of one moment: commits of other processes do not show within this context."""
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                yield
        except UNREADABLE as error:
            raise unreadable(self._folder, error) from error

    def commits(self) -> int:
        """The number of commits."""
        count: int = next(self.query("count_commits"))[0]
        return count

    def numbers_of(self, ids: Iterable[str]) -> dict[str, int]:
        """The numbers of the tasks with these ids; ids that the run does not have are left out."""
        wanted = set(ids)
        return {task_id: number for number, task_id in enumerate(self.ids()) if task_id in wanted}

    def ids(self) -> Iterator[str]:
        """The ids of all tasks, in the order of submission."""
        for ids, _ in self.query("read_names"):
            yield from unpack(ids)

    def names(self) -> list[tuple[str, str, str]]:
        """Id, domain and kind of all tasks, in the order of submission."""
        kinds = self.kinds()
        return [
            (task_id, *kinds[kind])
            for ids, of_kind in self.query("read_names")
            for task_id, kind in zip(unpack(ids), unpack(of_kind), strict=True)
        ]

    def batch_tasks(self, name: str) -> list[int]:
        """The numbers of the tasks in the batches of this name."""
        blocks = self.query("read_batch_blocks", (name,))
        return [number for first, tasks in blocks for number in range(first, first + tasks)]

    def batch_ids(self, number: int) -> list[str]:
        """The ids of the tasks that were sent of a batch."""
        return [task_id for (ids,) in self.query("read_batch_ids", (number,)) for task_id in unpack(ids)]

    def pool_changes(self) -> list[PoolChangeRow]:
        """Every change of the number of slots, of a run with `max_workers="auto"`."""
        return list(map(PoolChangeRow._make, self.query("read_pool_changes")))

    def batches(self) -> list[str]:
        """The names of the run's batches, in the order of submission."""
        return [name for (name,) in self.query("read_batches")]

    def task(self, task_id: str) -> StoredTask:
        """One task as it was submitted. Raises KeyError if the run has no task with this id."""
        for first, ids, kinds, works in self.query("read_tasks"):
            names = unpack(ids)
            if task_id in names:
                at = names.index(task_id)
                domain, kind, resources, policy = list(self.query("read_kinds"))[unpack(kinds)[at]]
                return StoredTask(first + at, domain, kind, resources, policy, *unpack(works)[at])
        raise KeyError(task_id)

    def files(self) -> dict[str, bytes]:
        """The contents of the files that parameters name, by SHA-256 in hex."""
        return dict(self.query("read_files"))

    def digest_of(self, number: int) -> bytes | None:
        """The digest of one task's result; None unless it completed."""
        for tasks, digests in self.query("find_completion", (number,)):
            return split_digests(digests)[unpack(tasks).index(number)]
        return None

    def digest(self) -> str:
        """The digest of the run, in hex; schema.sql defines it."""
        return self.records().digest()

    def query(self, statement: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
        """The rows that a statement of schema.sql finds. Raises JournalDamaged if they can't be read."""
        try:
            # `yield from` would close the cursor at the end, even after this reader was closed, and raise.
            for row in self._connection.execute(STATEMENTS[statement], values):  # noqa: UP028
                yield row
        except UNREADABLE as error:
            raise unreadable(self._folder, error) from error


def count_ended(folder: Path) -> int:
    """The number of tasks in a final state of the run in a folder; 0 if there is no run."""
    if not RunFolder(folder).holds_run():
        return 0
    with JournalReader(folder) as journal:
        return count_final(list(journal.counts().values()))
