"""The ends of a chunk's tasks, as a worker reports them: those that count, and their run times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from dfz_ray.engine.messages import ChunkEnded


class KindTimes(NamedTuple):
    """Run times of tasks of one kind, in seconds."""

    kind: int
    tasks: int
    total_s: float
    total_squares: float


class Ends(NamedTuple):
    """A worker's report of a chunk that it held."""

    accepted: Sequence[int]
    """The tasks whose ends count."""
    durations_s: Sequence[float]
    rest: Sequence[int]
    """The tasks that the report did not name."""
    superseded: Sequence[int]
    """The tasks that the report named although the worker did not hold them any more."""

    def sort_times(self, kind_of: Sequence[int], kind: int | None) -> list[KindTimes]:
        """The run times by kind; `kind` is given if all these tasks are known to be of one."""
        if not self.accepted:
            return []
        if kind is not None:
            return [_sum_up(kind, self.durations_s)]
        by_kind: defaultdict[int, list[float]] = defaultdict(list)
        for number, duration_s in zip(self.accepted, self.durations_s, strict=True):
            by_kind[kind_of[number]].append(duration_s)
        return [_sum_up(number, durations_s) for number, durations_s in by_kind.items()]


def sort_ends(event: ChunkEnded, mine: Sequence[int]) -> Ends:
    """Sort the ends that a worker names by whether they count: those of tasks that it held do."""
    if event.numbers == mine:
        return Ends(mine, event.durations_s, (), ())
    rest = dict.fromkeys(mine)
    accepted: dict[int, float] = {}
    superseded: list[int] = []
    for number, duration_s in zip(event.numbers, event.durations_s, strict=True):
        if number in rest:
            del rest[number]
            accepted[number] = duration_s
        else:
            superseded.append(number)
    return Ends(list(accepted), list(accepted.values()), list(rest), superseded)


def _sum_up(kind: int, durations_s: Sequence[float]) -> KindTimes:
    return KindTimes(kind, len(durations_s), sum(durations_s), sum(map(mul, durations_s, durations_s)))
