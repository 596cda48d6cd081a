"""What is committed in groups, and who is told when."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.journal_rows import completion
from support.small_run import cancelled, failed

from dfz_ray.errors import InfrastructureLost
from dfz_ray.journal.writer import JournalWriter
from dfz_ray.manager.group_commit import MOST_BYTES, GroupCommit
from dfz_ray.specs.states import State


def on_disk(folder: Path) -> set[int]:
    """The tasks that have an outcome, as another connection sees them."""
    with sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True) as connection:
        return {task for (task,) in connection.execute("SELECT task FROM outcomes")}


def run_commits(
    folder: Path, use: Callable[[GroupCommit], object], told: Callable[[Sequence[int]], None], delay_s: float = 0.0
) -> list[str]:
    """Let something use a run's group commits; returns why they failed, if they did."""
    failures: list[str] = []

    async def work() -> None:
        commits = GroupCommit(
            JournalWriter.create(folder, {}),
            lambda pending, written: told([*itertools.chain.from_iterable(pending.ended.values())]),
            lambda error: failures.append(str(error)),
            delay_s,
        )
        try:
            async with asyncio.timeout(30):
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
            rows = commits.pending.rows
            if number % 3 == 0:
                rows.completions.append(completion(number, {number: "heads"}))
                commits.pending.ended[State.COMPLETED].append(number)
            elif number % 3 == 1:
                rows.outcomes.extend(failed(number, "exception", "no").outcomes)
                commits.pending.ended[State.FAILED].append(number)
            else:
                rows.outcomes.extend(cancelled(number).outcomes)
                commits.pending.ended[State.CANCELLED].append(number)
            commits.soon()
            if number % 7 == 0:
                await asyncio.sleep(0)
            if number % 20 == 19:
                await commits.wait()
                assert set(range(number + 1)) <= on_disk(folder)

    assert run_commits(folder, use, check) == []
    assert sorted(told) == list(range(60))


def test_a_group_for_which_nobody_waits_takes_more_with_it(tmp_path: Path) -> None:
    """With a delay many ends share a commit; who waits does not wait for the delay."""
    told: list[int] = []

    async def use(commits: GroupCommit) -> None:
        for number in range(60):
            commits.pending.rows.outcomes.extend(cancelled(number).outcomes)
            commits.pending.ended[State.CANCELLED].append(number)
            commits.soon()
            await asyncio.sleep(0)
        assert commits.commits == 0
        await commits.wait()
        assert commits.commits == 1

    assert run_commits(tmp_path / "run", use, told.extend, delay_s=3600.0) == []
    assert sorted(told) == list(range(60))


def test_who_waits_is_told_when_the_journal_can_not_be_written(tmp_path: Path) -> None:
    """After another epoch has taken over, whoever waits gets an error, whichever group they wait for.

    Nothing is told as committed, and nothing is written.
    """
    folder = tmp_path / "run"
    told: list[int] = []

    async def use(commits: GroupCommit) -> None:
        JournalWriter(folder).close()  # another manager has opened the run
        commits.pending.rows.completions.append(completion(0, {0: "heads"}))
        commits.pending.ended[State.COMPLETED].append(0)
        first = asyncio.create_task(commits.wait())
        await asyncio.sleep(0)
        while commits.pending.waiters:  # until the group that it waits for is on its way
            await asyncio.sleep(0)
        for waiting in (commits.wait(), first):
            with pytest.raises(InfrastructureLost, match="has taken over"):
                await waiting
        with pytest.raises(InfrastructureLost, match="can't be written any more"):
            await commits.wait()

    (failure,) = run_commits(folder, use, told.extend)
    assert "epoch 2 has taken over" in failure
    assert not told
    assert not on_disk(folder)


def test_workers_wait_while_many_results_wait_for_the_disk(tmp_path: Path) -> None:
    """Beyond some bytes of results the journal is behind, until they are on disk: memory holds no more of them."""
    folder = tmp_path / "run"

    async def use(commits: GroupCommit) -> None:
        commits.pending.rows.completions.append(completion(0, {0: "heads"}))
        commits.pending.ended[State.COMPLETED].append(0)
        commits.pending.results_bytes += MOST_BYTES
        assert not commits.is_behind
        commits.pending.results_bytes += 1
        assert commits.is_behind
        await commits.keep_up()
        assert on_disk(folder) == {0}
        assert not commits.is_behind

    assert run_commits(folder, use, lambda numbers: None) == []
