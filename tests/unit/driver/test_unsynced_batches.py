"""Batches that may not be on disk yet."""

from __future__ import annotations

from dfz_ray.driver.unsynced_batches import FEW_TASKS, MOST_BYTES, MOST_TASKS, UnsyncedBatches
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import Task


def batch(tasks: int, size_bytes: int = 1) -> Batch:
    content = bytes(size_bytes)
    return Batch("calls", 0, tuple(Task(str(n), "f", "f", 0, Resources(), content, "", Policy()) for n in range(tasks)))


def test_what_is_not_on_disk_is_sent_again() -> None:
    """Of the batches that were sent those are kept that a lost manager may not have written, in their order."""
    unsynced = UnsyncedBatches()
    batches = [batch(2), batch(1), batch(3)]
    for first, one in zip((0, 2, 3), batches, strict=True):
        assert unsynced.add(first, one)

    assert list(unsynced.beyond(0)) == batches
    assert list(unsynced.beyond(1)) == batches  # a large batch is sent in blocks, and the first ones may be on disk
    assert list(unsynced.beyond(2)) == batches[1:]
    assert list(unsynced.beyond(6)) == []
    unsynced.clear()
    assert list(unsynced.beyond(0)) == []


def test_little_is_kept() -> None:
    """A large batch waits for the disk, and so does the one that would make more than a little be kept."""
    assert not UnsyncedBatches().add(0, batch(FEW_TASKS + 1))
    assert not UnsyncedBatches().add(0, batch(1, MOST_BYTES + 1))
    unsynced = UnsyncedBatches()
    added = [unsynced.add(FEW_TASKS * number, batch(FEW_TASKS)) for number in range(MOST_TASKS // FEW_TASKS + 1)]
    assert added == [True] * (MOST_TASKS // FEW_TASKS) + [False]
    unsynced.clear()
    assert unsynced.add(0, batch(FEW_TASKS))
