"""A run with all that can happen in one, for tests that damage, audit or interrupt it."""

from __future__ import annotations

import runpy
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dfz_ray.journal.commit_sums import TABLES
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.run_audit import Audit, audit_run
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.protocol.columns import pack
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import State
from support.journal_rows import Row, block, completion

META = {"run_id": "r", "name": "sample", "created_at": "1.0", "dfz_ray": "0", "slots": "2"}
POLICY = Policy().model_dump_json()
INLINE_BYTES = 200
LARGE = {"text": "large" * INLINE_BYTES}
VOLATILE = frozenset({"time"})
TASKS, BLOCK_TASKS = 30, 10
NAMES = (*(table.name for table in TABLES), "commits")
OPEN = 7
"""The task that stays open."""

_CHECKER = runpy.run_path(str(Path(__file__).with_name("audit_checker.py")))
check: Callable[[Path], list[str]] = _CHECKER["check"]
"""The independent checker: it returns the violations of a run."""
find_incomplete: Callable[[Path], list[tuple[int, int]]] = _CHECKER["find_incomplete"]
"""The independent checker: for each batch that lacks tasks how many were sent, and how many were meant."""


def both_say_ok(folder: Path) -> bool:
    """Whether the audit, and the independent checker, find a run without violations; they must agree."""
    audit, violations = audit_run(folder), check(folder)
    assert audit.ok == (not violations), (told(audit), violations)
    return audit.ok


def told(audit: Audit) -> dict[str, tuple[str, ...]]:
    """The violations by the name of the check that found them."""
    return {check.name: check.violations for check in audit.checks if check.violations}


def completed(number: int, result: Any, chunk: int | None = None) -> Row:
    """A completion: of a task in the chunk of its own number, where no other one is given."""
    return completion(number if chunk is None else chunk, {number: result}, volatile=VOLATILE)


def failed(number: int, reason: str = "exception") -> Row:
    return (number, State.FAILED, None, reason, "it failed", "Traceback ...")


def cancelled(number: int) -> Row:
    return (number, State.CANCELLED, None, "cancelled", "on request", None)


def attempt(number: int, chunk: int, outcome: int, reason: str | None = None, charged: bool = False) -> Row:
    """An unsuccessful attempt; one that did not end by itself has no times."""
    times = (None, None, None) if outcome == ATTEMPT_LOST else (4.0, 5.5, 1.25)
    return (number, chunk, outcome, charged, *times, reason, "what happened" if reason else None)


def create(folder: Path, tasks: int = TASKS, durable: bool = False, policy: str = POLICY) -> JournalWriter:
    """A run whose tasks wait, in blocks of ten; the first chunk of each task is of its own number."""
    writer = JournalWriter.create(folder, META, INLINE_BYTES, durable)
    group = Group()
    group.batches.append((0, "batch", 7, 1.0))
    group.domains.append(("coin", '["time"]'))
    group.kinds.append((0, "coin", "coin of 3", "{}", policy))
    group.files.append(("ab" * 32, b"a file's content"))
    group.leases.append((writer.epoch, 0, "host-a", 4711, 2.0))
    for first in range(0, tasks, BLOCK_TASKS):
        numbers = range(first, min(first + BLOCK_TASKS, tasks))
        group.blocks.append(block(first, [f"task-{number}" for number in numbers], description="a coin"))
    group.chunks += [(number, writer.epoch, 0, 3.0, pack([number])) for number in range(tasks)]
    writer.commit(group)
    return writer


def build(folder: Path) -> None:
    """A closed run, in which all has happened: tries again, losses, failures that were reopened; one task is open."""
    writer = create(folder)
    group = Group(completions=[completed(0, {"heads": 2, "time": 0.5})])
    group.attempts.append(attempt(1, 1, ATTEMPT_LOST, "worker_crashed", charged=True))
    group.attempts += [attempt(number, number, ATTEMPT_FAILED, "exception", charged=True) for number in (2, 3)]
    group.outcomes += [failed(2), failed(3)]
    group.attempts.append(attempt(4, 4, ATTEMPT_LOST, "cancelled"))
    group.cancels.append((0, writer.epoch, 6.0, "1 task", 1))
    group.pool_changes.append((0, writer.epoch, 6.5, 8, "from 4 to 8: to see whether more pay"))
    group.outcomes.append(cancelled(4))
    writer.commit(group)
    group = Group(completions=[completed(5, LARGE)])
    group.attempts.append(attempt(6, 6, ATTEMPT_LOST, "node_lost"))
    group.attempts.append(attempt(OPEN, OPEN, ATTEMPT_LOST, "out_of_memory", charged=True))
    writer.commit(group)
    for number in range(8, TASKS):
        writer.commit(Group(completions=[completed(number, {"heads": number})]))
    writer.close()

    lock, writer, _ = open_for_work(folder, META, INLINE_BYTES, retry_failed=True, durable=False)
    group = Group(leases=[(writer.epoch, 0, "host-b", 4712, 7.0)])
    group.chunks += [(100 + number, writer.epoch, 0, 7.0, pack([number])) for number in (0, 1, 3)]
    group.chunks.append((102, writer.epoch, 0, 7.0, pack([2, 6, OPEN])))
    group.completions.append(completed(1, [1], chunk=101))
    group.completions.append(completion(102, {2: [2], 6: [6]}, volatile=VOLATILE))
    group.attempts.append(attempt(3, 103, ATTEMPT_FAILED, "timeout", charged=True))
    group.outcomes.append(failed(3, "timeout"))
    writer.commit(group)
    writer.commit(Group(attempts=[attempt(1, 1, ATTEMPT_SUPERSEDED), attempt(0, 100, ATTEMPT_SUPERSEDED)]))
    writer.close()
    lock.close()


def contents(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables.

    Raises:
        sqlite3.Error, UnicodeDecodeError: they can't be read.
    """
    connection = sqlite3.connect(f"{(folder / 'run.sqlite').as_uri()}?mode=ro", uri=True)
    try:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in NAMES}  # noqa: S608
    finally:
        connection.close()
