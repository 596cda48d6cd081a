"""How the ends of a chunk become rows of the journal: all together, or one by one where they are of different sorts."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.small_run import make_run

from dfz_ray.engine.messages import Chunk, CommitEnds, GiveChunk
from dfz_ray.execution.execute import Execution
from dfz_ray.execution.failure import Failure
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.journal.writer import JournalWriter
from dfz_ray.manager.group_commit import GroupCommit
from dfz_ray.manager.run_journal import RunJournal
from dfz_ray.protocol.orders import pack_works, unpack_works
from dfz_ray.protocol.reports import Ended, pack_executions, unpack_executions
from dfz_ray.specs.encoding import digest, encode


def execution(number: int, failure: Failure | None = None) -> Execution:
    """How a task ended that took a second."""
    value = {"heads": number}
    result = None if failure else encode(value)
    fingerprint = None if failure else digest(value, frozenset({"seconds"}))
    return Execution(number, 10.0 + number, 11.0 + number, 0.5, result, fingerprint, failure)


def ended(executions: Sequence[Execution]) -> Ended:
    """The same as the manager gets it."""
    return unpack_executions(pack_executions(executions))


def commit(writer: JournalWriter, chunk: int, *ends: tuple[CommitEnds, Ended]) -> None:
    """Hand out a chunk of four tasks, and commit how it ended."""

    async def work() -> None:
        failures: list[Exception] = []
        commits = GroupCommit(writer, lambda *_: None, failures.append)
        journal = RunJournal(writer, commits, 0, 0)
        journal.add_chunk(GiveChunk(0, Chunk(chunk, [0, 1, 2, 3], 1.0)))
        for command, what in ends:
            journal.add_ends(command, what)
        await commits.wait()
        await commits.close()
        assert not failures

    asyncio.run(work())


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query finds."""
    with sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def assert_sound(folder: Path) -> None:
    """The audit finds nothing."""
    assert [text for check in audit_run(folder).checks for text in check.violations] == []


def test_a_chunk_that_completed_is_stored_as_the_worker_packed_it(tmp_path: Path) -> None:
    """One row, with the very bytes; and every task's record tells what the worker measured."""
    writer = make_run(tmp_path / "run", ["a", "b", "c", "d"])
    what = ended([execution(number) for number in range(4)])
    commit(writer, 7, (CommitEnds(0, 7, [0, 1, 2, 3], []), what))
    assert rows(tmp_path / "run", "SELECT chunk, tasks, times, results, digests FROM completions") == [
        (7, *what.completions)
    ]
    with JournalReader(tmp_path / "run") as journal:
        records = list(journal.records())
    assert [(one.status, one.result, one.start_time, one.end_time, one.attempts) for one in records] == [
        ("completed", {"heads": number}, 10.0 + number, 11.0 + number, 1) for number in range(4)
    ]
    assert_sound(tmp_path / "run")


def test_ends_of_different_sorts_go_where_they_belong(tmp_path: Path) -> None:
    """One completed, one failed for good, one is tried again, one came too late: each is stored as what it is."""
    writer = make_run(tmp_path / "run", ["a", "b", "c", "d"])
    boom = Failure("exception", "ValueError: boom", "Traceback ...")
    executions = [execution(0), execution(1, boom), execution(2, Failure("worker_crashed", "gone")), execution(3)]
    command = CommitEnds(0, 7, completed=[0], failed=[1], superseded=[3], retried=[2])
    commit(writer, 7, (command, ended(executions)))
    attempts = rows(tmp_path / "run", "SELECT task, chunk, outcome, charged, began_at, reason, message FROM attempts")
    assert attempts == [
        (1, 7, 1, 1, 11.0, "exception", None),
        (2, 7, 1, 1, 12.0, "worker_crashed", "gone"),
        (3, 7, 3, 0, 13.0, None, None),
    ]
    outcomes = rows(tmp_path / "run", "SELECT task, state, chunk, reason, message, traceback FROM outcomes")
    assert outcomes == [
        (0, 2, 7, None, None, None),
        (1, 3, None, "exception", "ValueError: boom", "Traceback ..."),
    ]
    assert_sound(tmp_path / "run")


def test_a_failure_that_came_too_late_is_only_noted(tmp_path: Path) -> None:
    """What a worker says of tasks that are cancelled, or in other hands, makes no outcome."""
    writer = make_run(tmp_path / "run", ["a", "b", "c", "d"])
    late = [execution(0, Failure("exception", "boom")), execution(1)]
    commit(writer, 7, (CommitEnds(0, 7, [], [], superseded=[0, 1]), ended(late)))
    assert rows(tmp_path / "run", "SELECT task, outcome, reason FROM attempts") == [(0, 3, "exception"), (1, 3, None)]
    assert rows(tmp_path / "run", "SELECT count(*) FROM outcomes") == [(0,)]
    assert rows(tmp_path / "run", "SELECT count(*) FROM completions") == [(0,)]
    assert_sound(tmp_path / "run")


@pytest.mark.parametrize("timeouts_s", [None, [None, 2.5, None]])
def test_what_a_worker_is_handed_travels_whole(timeouts_s: list[float | None] | None) -> None:
    """Numbers, seeds up to 63 bits, parameters of any bytes, and deadlines where there are some."""
    works = [(0, b""), (2**63 - 1, b"\xc0"), (5, bytes(range(256)))]
    unpacked = unpack_works(pack_works([3, 1, 2], works, timeouts_s))
    assert [(one.number, one.seed, one.parameters) for one in unpacked] == [
        (3, *works[0]),
        (1, *works[1]),
        (2, *works[2]),
    ]
    assert [one.timeout_s for one in unpacked] == (timeouts_s or [None] * 3)
