"""The inputs of a run's tasks, which travel to the workers: seeds, parameters and deadlines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dfz_ray.engine.messages import KindEntry
from dfz_ray.protocol.columns import NO_WORK
from dfz_ray.protocol.orders import pack_works


class TaskInputs:
    """Keeps the inputs of every task until it is final."""

    def __init__(self) -> None:
        self._works: list[tuple[int, bytes]] = []
        """By task: seed and parameters; NO_WORK once it is final."""
        self._timeouts_s: list[float | None] = []
        """By kind."""
        self._deadlines_s: dict[int, float] = {}
        """By task, of the tasks that have one: seconds that an attempt may take."""

    def __len__(self) -> int:
        return len(self._works)

    def add(self, kinds: Sequence[KindEntry], works: Sequence[tuple[int, bytes]], kind_of: Sequence[int]) -> None:
        """Add tasks: their new kinds, seeds and parameters, and the number of each task's kind."""
        first = len(self._works)
        self._works.extend(works)
        self._timeouts_s.extend(kind.policy.timeout_s for kind in kinds)
        if any(timeout_s is not None for timeout_s in self._timeouts_s):
            timeouts_s = enumerate((self._timeouts_s[kind] for kind in kind_of), first)
            self._deadlines_s.update((number, timeout_s) for number, timeout_s in timeouts_s if timeout_s is not None)

    def pack(self, numbers: Sequence[int]) -> bytes:
        """Pack the tasks of a chunk for their way to a worker."""
        timeouts_s = [self._deadlines_s.get(number) for number in numbers] if self._deadlines_s else None
        return pack_works(numbers, [self._works[number] for number in numbers], timeouts_s)

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop the inputs of tasks that are final."""
        for number in numbers:
            self._works[number] = NO_WORK
            if self._deadlines_s:
                self._deadlines_s.pop(number, None)
