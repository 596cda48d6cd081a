"""What the ends of tasks teach: their run times, by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple


class KindTimes(NamedTuple):
    """Run times of tasks of one kind, in seconds."""

    kind: int
    tasks: int
    total_s: float
    total_squares: float


def sum_times(
    numbers: Sequence[int], durations_s: Sequence[float], sole: int | None, kind_of: Sequence[int]
) -> list[KindTimes]:
    """The run times of tasks, by kind.

    Args:
        numbers: of the tasks.
        durations_s: how long each of them took.
        sole: the kind of all of them, where that is known to be one.
        kind_of: for every task of the run, the number of its kind.
    """
    if not numbers:
        return []
    if sole is not None:
        return [_sum(sole, durations_s)]
    by_kind: defaultdict[int, list[float]] = defaultdict(list)
    for number, duration_s in zip(numbers, durations_s, strict=True):
        by_kind[kind_of[number]].append(duration_s)
    return [_sum(kind, own) for kind, own in by_kind.items()]


def _sum(kind: int, durations_s: Sequence[float]) -> KindTimes:
    return KindTimes(kind, len(durations_s), sum(durations_s), sum(map(mul, durations_s, durations_s)))
