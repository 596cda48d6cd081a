"""The times of a run, as predictions need them: of its tasks, its chunks, its blocks and its commits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dfz_ray.journal.executions import Executed
from dfz_ray.journal.reader import JournalReader
from dfz_ray.protocol.columns import read_times, unpack


class ChunkTimes(NamedTuple):
    """A chunk whose tasks completed."""

    lease: tuple[int, int]
    """Epoch and number of its lease."""
    dispatched_at: float
    executed: Sequence[Executed]
    """Its tasks, in the order of their execution."""


class Block(NamedTuple):
    """Tasks that the driver sent together."""

    kinds: Sequence[int]
    committed_at: float


class RunTimes(NamedTuple):
    """The times of a run, in Unix seconds."""

    sent_at: float
    committed_at: float
    """The last commit."""
    leases: int
    kinds: Sequence[tuple[str, str, str]]
    """Domain, name and resources (JSON)."""
    chunks: Sequence[ChunkTimes]
    blocks: Sequence[Block]


def read_run_times(folder: Path) -> RunTimes | None:
    """The times of a run; None if a task did not complete at its first attempt, or it has several batches or epochs.

    Raises JournalDamaged if the journal can't be read.
    """
    with JournalReader(folder) as journal:
        counts = journal.counts()
        sent_at, committed_at, leases, batches, epochs, attempts = next(journal.query("read_batch_times"))
        if (batches, epochs, attempts) != (1, 1, 0) or not 0 < counts["completed"] == sum(counts.values()):
            return None
        kinds = [(domain, name, resources) for domain, name, resources, _ in journal.query("read_kinds")]
        blocks = [Block(unpack(column), committed) for column, committed in journal.query("read_block_commits")]
        chunks = []
        for epoch, lease, dispatched_at, tasks, column in journal.query("read_chunk_ends"):
            times = iter(read_times(column))
            rows = zip(unpack(tasks), times, times, times, strict=True)
            executed = [Executed(number, (epoch, lease), began, ended, cpu_s) for number, began, ended, cpu_s in rows]
            chunks.append(ChunkTimes((epoch, lease), dispatched_at, executed))
    return RunTimes(sent_at, committed_at, leases, kinds, chunks, blocks)


def has_pool_changes(folder: Path) -> bool:
    """True if the number of slots of a run has changed."""
    with JournalReader(folder) as journal:
        return next(journal.query("read_pool_changes"), None) is not None
