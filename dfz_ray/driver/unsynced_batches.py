"""Batches that the manager has, perhaps not on disk yet: if it is lost, they are sent again."""

from __future__ import annotations

from collections.abc import Iterator

from dfz_ray.specs.batch import Batch

FEW_TASKS = 32
"""A larger batch waits until it is on disk: more calls may join the next one meanwhile."""
MOST_TASKS, MOST_BYTES = 1_000, 2**20
"""Kept at most, of all batches together. Then the next batch waits until all are on disk."""


class UnsyncedBatches:
    """The last batches of a run, in their order, from the first one that may not be on disk."""

    def __init__(self) -> None:
        self._batches: list[tuple[int, Batch]] = []
        self._tasks = self._bytes = 0

    def add(self, first: int, batch: Batch) -> bool:
        """Add a batch, whose first task has that number; returns False if it has to wait until all are on disk."""
        self._batches.append((first, batch))
        self._tasks += len(batch.tasks)
        self._bytes += sum([len(task.parameters) for task in batch.tasks])
        self._bytes += sum(map(len, batch.files.values()))
        return len(batch.tasks) <= FEW_TASKS and self._tasks <= MOST_TASKS and self._bytes <= MOST_BYTES

    def clear(self) -> None:
        """All are on disk."""
        self._batches.clear()
        self._tasks = self._bytes = 0

    def beyond(self, tasks: int) -> Iterator[Batch]:
        """The batches that are not, or not all of them, among the first `tasks` tasks of the run."""
        return (batch for first, batch in self._batches if first + len(batch.tasks) > tasks)
