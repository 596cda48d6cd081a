"""Reads the attempts of a run from its journal."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

from dfz_ray.journal.audit import audit_run
from dfz_ray.protocol.columns import Completions, unpack

OUTCOMES = ("completed", "failed", "lost", "superseded")
"""The outcomes in the order of the journal's numbers; completed attempts are in a table of their own, without one."""


class AttemptRow(NamedTuple):
    """One attempt."""

    task: str
    """The task's id."""
    chunk: int
    chunk_size: int
    lease: int
    worker: int
    """The worker's process id."""
    outcome: str
    charged: bool
    began_at: float | None
    """None if the worker died before it could report."""
    reason: str | None


def read_attempts(folder: Path) -> list[AttemptRow]:
    """Every attempt, in the order of tasks and chunks."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/run.sqlite?mode=ro", uri=True)) as connection:
        blocks = connection.execute("SELECT ids FROM blocks ORDER BY first")
        ids = [task_id for (packed,) in blocks for task_id in unpack(packed)]
        handed = connection.execute("SELECT chunk, tasks, lease, worker FROM chunks JOIN leases USING (epoch, lease)")
        places = {chunk: (len(unpack(tasks)), lease, worker) for chunk, tasks, lease, worker in handed}
        rows = connection.execute("SELECT task, chunk, outcome, charged, began_at, reason FROM attempts").fetchall()
        for chunk, *columns in connection.execute("SELECT chunk, tasks, times, results, digests FROM completions"):
            rows.extend((task, chunk, 0, 0, began_at, None) for task, began_at, *_ in Completions(*columns).rows())
    return [
        AttemptRow(ids[task], chunk, *places[chunk], OUTCOMES[outcome], charged == 1, *rest)
        for task, chunk, outcome, charged, *rest in sorted(rows)
    ]


def charged_tasks(folder: Path) -> list[str]:
    """The id of the task of each charged attempt."""
    return [row.task for row in read_attempts(folder) if row.charged]


def workers_lost(folder: Path) -> int:
    """The number of workers that died in the middle of a chunk: they did not report when their tasks began."""
    return len({row.lease for row in read_attempts(folder) if row.outcome != "superseded" and row.began_at is None})


def assert_sound(folder: Path) -> None:
    """The audit finds no violation."""
    assert [text for check in audit_run(folder).checks for text in check.violations] == []
