"""What a journal says of a run that is to be gone on with."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.lock import RunLock
from dfz_ray.journal.reader import UNREADABLE, open_journal, unreadable
from dfz_ray.journal.statements import STATEMENTS
from dfz_ray.journal.writer import JournalWriter
from dfz_ray.protocol.columns import NO_WORK, unpack, unpack_works


@dataclass(frozen=True)
class Recovered:
    """A run as it was last committed; nothing else is known of it, and nothing else counts."""

    kinds: list[tuple[str, str, str, str]]
    """Domain, name, resources (JSON) and policy (JSON) of every kind, in the order of their numbers."""
    kind_of: list[int]
    """For every task, the number of its kind."""
    works: list[tuple[int, bytes]]
    """For every open task, its seed and its parameters; NO_WORK for the others."""
    settled: dict[int, int]
    """Of the tasks in a final state: number and state."""
    charged: dict[int, int]
    """Of the open tasks that have any: how many attempts have been charged since the task was last reopened."""
    free_losses: dict[int, int]
    """And how many were lost with their node since then, and not charged."""
    volatile: dict[str, str]
    """By domain: the keys (JSON) of its results that the digest leaves out."""
    files: dict[str, bytes]
    next_chunk: int
    next_cancel: int
    next_pool_change: int
    batches: int


def read_recovered(folder: Path) -> Recovered:
    """Read what a run needs to go on.

    Raises:
        JournalDamaged: the journal can't be read.
    """
    with _opened(folder) as connection:

        def rows(statement: str) -> sqlite3.Cursor:
            return connection.execute(STATEMENTS[statement])

        kind_of: list[int] = []
        works: list[tuple[int, bytes]] = []
        for _, _, kinds, packed in rows("read_tasks"):
            kind_of.extend(unpack(kinds))
            works.extend(unpack_works(packed))
        settled: dict[int, int] = dict(rows("read_settled"))
        for number in settled:
            works[number] = NO_WORK
        return Recovered(
            kinds=list(rows("read_kinds")),
            kind_of=kind_of,
            works=works,
            settled=settled,
            charged=dict(rows("read_charged")),
            free_losses=dict(rows("read_free_losses")),
            volatile=dict(rows("read_domains")),
            files=dict(rows("read_files")),
            next_chunk=rows("next_chunk").fetchone()[0],
            next_cancel=rows("next_cancel").fetchone()[0],
            next_pool_change=rows("next_pool_change").fetchone()[0],
            batches=rows("count_batches").fetchone()[0],
        )


def read_contents(folder: Path) -> dict[str, tuple[Any, ...]]:
    """For every task id what makes its task what it is: domain, resources (JSON), seed, parameters and policy (JSON).

    Raises:
        JournalDamaged: the journal can't be read.
    """
    with _opened(folder) as connection:
        kinds = connection.execute(STATEMENTS["read_kinds"]).fetchall()
        contents: dict[str, tuple[Any, ...]] = {}
        for _, *columns in connection.execute(STATEMENTS["read_tasks"]):
            for task_id, kind, (seed, parameters) in zip(*map(unpack, columns), strict=True):
                domain, _, resources, policy = kinds[kind]
                contents[task_id] = (domain, resources, seed, parameters, policy)
        return contents


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_journal(RunFolder(folder), "ro")) as connection:
        try:
            yield connection
        except UNREADABLE as error:
            raise unreadable(RunFolder(folder), error) from error


class OpenedJournal(NamedTuple):
    """A run's journal in the hands of the one process that may work on the run."""

    lock: RunLock
    writer: JournalWriter
    recovered: Recovered


def open_for_work(
    folder: Path,
    meta: Mapping[str, str],
    inline_bytes: int = 262_144,
    retry_failed: bool = False,
    durable: bool = True,
) -> OpenedJournal:
    """Open a run to work on it: a new one, or one that a dead process has left; there is no other way in.

    Args:
        folder: the run folder.
        meta: what a new journal notes about the run.
        inline_bytes: larger results become files.
        retry_failed: make failed tasks due again.
        durable: whether a commit outlives the operating system, too, or only this process.

    Raises:
        RunFolderRefused: the folder holds something else, or a live process works on the run.
        JournalDamaged: its journal can't be read or written, or is damaged, or is of another schema.
    """
    run_folder = RunFolder(folder)
    if not run_folder.holds_run():
        run_folder.make()
    lock = RunLock(folder)
    try:
        if run_folder.holds_run():
            writer = JournalWriter(folder, inline_bytes, durable)
        else:
            writer = JournalWriter.create(folder, meta, inline_bytes, durable)
        if retry_failed:
            writer.reopen_failed()
        return OpenedJournal(lock, writer, read_recovered(folder))
    except BaseException:
        lock.close()
        raise
