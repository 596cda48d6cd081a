"""What is committed in groups, and who is told when."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dfz_ray.errors import InfrastructureLost
from dfz_ray.journal.writer import JournalWriter
from dfz_ray.runtime.group_commit import GroupCommit


def outcome(number: int) -> tuple[object, ...]:
    return (number, 2, 1, b"\x01", None, bytes(32), None, None, None)


def on_disk(folder: Path) -> set[int]:
    """The tasks that have an outcome, as another connection sees them."""
    with sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True) as connection:
        return {task for (task,) in connection.execute("SELECT task FROM outcomes")}


def run_commits(folder: Path, use: Callable[[GroupCommit], object], told: Callable[[Sequence[int]], None]) -> list[str]:
    """Let something use a run's group commits; returns why they failed, if they did."""
    failures: list[str] = []

    async def work() -> None:
        commits = GroupCommit(
            JournalWriter.create(folder, {}),
            lambda completed, failed, cancelled: told([*completed, *failed, *cancelled]),
            lambda error: failures.append(str(error)),
        )
        try:
            await use(commits)
        finally:
            await commits.close()

    asyncio.run(work())
    return failures


def test_nothing_is_told_before_it_is_on_disk(tmp_path: Path) -> None:
    """Whoever is told that a task is committed finds it in the journal at that moment, and so does who waits."""
    folder = tmp_path / "run"
    told: list[int] = []

    def check(numbers: Sequence[int]) -> None:
        assert set(numbers) <= on_disk(folder)
        told.extend(numbers)

    async def use(commits: GroupCommit) -> None:
        for number in range(60):
            commits.pending.rows.outcomes.append(outcome(number))
            (commits.pending.completed, commits.pending.failed, commits.pending.cancelled)[number % 3].append(number)
            commits.soon()
            if number % 7 == 0:
                await asyncio.sleep(0)
            if number % 20 == 19:
                await commits.wait()
                assert set(range(number + 1)) <= on_disk(folder)

    assert run_commits(folder, use, check) == []
    assert sorted(told) == list(range(60))


def test_who_waits_is_told_when_the_journal_can_not_be_written(tmp_path: Path) -> None:
    """After another epoch has taken over, who waits gets an error, nothing is told as committed, nothing is written."""
    folder = tmp_path / "run"
    told: list[int] = []

    async def use(commits: GroupCommit) -> None:
        JournalWriter(folder).close()  # another manager has opened the run
        commits.pending.rows.outcomes.append(outcome(0))
        commits.pending.completed.append(0)
        with pytest.raises(InfrastructureLost, match="has taken over"):
            await commits.wait()
        with pytest.raises(InfrastructureLost):
            await commits.wait()

    (failure,) = run_commits(folder, use, told.extend)
    assert "epoch 2 has taken over" in failure
    assert not told
    assert not on_disk(folder)
