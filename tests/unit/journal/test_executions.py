"""The executions in a journal."""

from __future__ import annotations

from pathlib import Path

from support.small_run import completed, handed_out, make_run

from dfz_ray.journal.executions import count_lost_workers
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
