"""The executions in a journal."""

from __future__ import annotations

from pathlib import Path

from support.small_run import completed, handed_out, make_run

from dfz_ray.journal.executions import Executed, count_lost_workers, read_attempted, read_executed
from dfz_ray.journal.writer import Group, JournalWriter


def test_the_workers_of_a_lost_manager_are_lost_workers(tmp_path: Path) -> None:
    """A chunk that has no end as another manager takes the run over was cut off with its worker; each counts once."""
    make_run(tmp_path, list("abcde"), completed(0, "before")).close()
    assert count_lost_workers(tmp_path) == 0

    writer = JournalWriter(tmp_path)
    cut_off = [handed_out(chunk, chunk, epoch=writer.epoch, lease=7) for chunk in (1, 2)]
    writer.commit(Group(chunks=[*cut_off, handed_out(3, 3, epoch=writer.epoch, lease=8)]))
    writer.close()
    assert count_lost_workers(tmp_path) == 0  # of the last manager nobody knows that it is lost

    writer = JournalWriter(tmp_path)
    writer.commit(completed(4, "after", epoch=writer.epoch))
    writer.close()
    assert count_lost_workers(tmp_path) == 2


def test_attempts_that_did_not_complete_take_time_too(tmp_path: Path) -> None:
    """Of a task its completion counts, or else its last failure; attempts without times are in no list."""
    writer = make_run(tmp_path, list("abcd"), completed(0, "result"))
    attempts = [
        (0, 10, 3, 0, 1.0, 2.0, 0.5, None, None),  # another attempt of the task completed sooner
        (1, 11, 1, 1, 2.0, 3.0, 1.0, "task_error", "no"),
        (1, 12, 1, 1, 3.0, 4.0, 1.0, "task_error", "no"),
        (2, 13, 2, 1, None, None, None, "worker_crashed", "died"),
        (3, 14, 2, 0, 5.0, 6.0, None, "preempted", "others"),
    ]
    chunks = [handed_out(chunk, task) for task, chunk, *_ in attempts]
    writer.commit(Group(chunks=chunks, attempts=attempts))
    writer.close()

    (whole,) = read_executed(tmp_path)
    assert read_attempted(tmp_path) == [
        Executed(0, (1, 0), 1.0, 2.0, 0.5, 10, counts=False),
        Executed(1, (1, 0), 2.0, 3.0, 1.0, 11, counts=False),
        Executed(1, (1, 0), 3.0, 4.0, 1.0, 12),
        whole,
        Executed(3, (1, 0), 5.0, 6.0, 0.0, 14, counts=False),
    ]
