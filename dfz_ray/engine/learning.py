"""What the ends of tasks teach: their run times, by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from dfz_ray.engine.ends import Ends
from dfz_ray.engine.queue import Queue


class KindTimes(NamedTuple):
    """Run times of tasks of one kind, in seconds."""

    kind: int
    tasks: int
    total_s: float
    total_squares: float


def learn(queue: Queue, kind_of: Sequence[int], kind: int | None, ends: Ends) -> list[KindTimes]:
    """Take in how long tasks took, which are of one kind, or of any; returns it by kind."""
    if not ends.accepted:
        return []
    if kind is not None:
        return [_learn_kind(queue, kind, ends.durations_s)]
    by_kind: defaultdict[int, list[float]] = defaultdict(list)
    for number, duration_s in zip(ends.accepted, ends.durations_s, strict=True):
        by_kind[kind_of[number]].append(duration_s)
    return [_learn_kind(queue, kind_number, durations_s) for kind_number, durations_s in by_kind.items()]


def _learn_kind(queue: Queue, kind: int, durations_s: Sequence[float]) -> KindTimes:
    times = KindTimes(kind, len(durations_s), sum(durations_s), sum(map(mul, durations_s, durations_s)))
    queue.learn(*times)
    return times
