"""What a run's journal says of its attempts."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

import msgpack

from dfz_ray.journal.audit import audit_run

OUTCOMES = ("completed", "failed", "lost", "superseded")


class AttemptRow(NamedTuple):
    """One attempt."""

    task: str
    """Id."""
    chunk: int
    chunk_size: int
    lease: int
    worker: int
    """Process id."""
    outcome: str
    charged: bool
    began_at: float | None
    """None where the worker died before it could tell."""
    reason: str | None


def read_attempts(folder: Path) -> list[AttemptRow]:
    """Every attempt, in the order of tasks and chunks."""
    query = """
        SELECT tasks.id, chunk, chunks.tasks, lease, worker, outcome, charged, attempts.began_at, reason
        FROM attempts JOIN tasks USING (task) JOIN chunks USING (chunk) JOIN leases USING (epoch, lease)
        ORDER BY task, chunk
    """
    with sqlite3.connect(f"file:{folder}/run.sqlite?mode=ro", uri=True) as connection:
        return [
            AttemptRow(
                task, chunk, len(msgpack.unpackb(numbers)), lease, worker, OUTCOMES[outcome], charged == 1, *rest
            )
            for task, chunk, numbers, lease, worker, outcome, charged, *rest in connection.execute(query)
        ]


def charged_tasks(folder: Path) -> list[str]:
    """The ids of the tasks that attempts were charged to, once for each."""
    return [row.task for row in read_attempts(folder) if row.charged]


def workers_lost(folder: Path) -> int:
    """How many workers died in the middle of a chunk: they did not come to tell when what they ran began."""
    return len({row.lease for row in read_attempts(folder) if row.outcome != "superseded" and row.began_at is None})


def assert_sound(folder: Path) -> None:
    """The audit finds nothing."""
    assert [text for check in audit_run(folder).checks for text in check.violations] == []
