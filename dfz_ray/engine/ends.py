"""What the end of a chunk says of its tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from dfz_ray.engine.messages import ChunkEnded
from dfz_ray.engine.queue import Queue


class Ends(NamedTuple):
    """What a worker said of a chunk that it had in hand."""

    accepted: Sequence[int]
    """The tasks whose ends count."""
    durations_s: Sequence[float]
    """Of those."""
    rest: Sequence[int]
    """The tasks that it did not name."""
    superseded: Sequence[int]
    """Those that it named and that were not in its hands any more."""


def sort_ends(event: ChunkEnded, mine: Sequence[int]) -> Ends:
    """Which ends count, of those that a worker names, where these tasks were in its hands."""
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


def learn(queue: Queue, kind_of: Sequence[int], kind: int | None, ends: Ends) -> None:
    """Take in how long tasks took, which are of one kind, or of any."""
    if kind is not None and ends.accepted:
        _learn_kind(queue, kind, ends.durations_s)
        return
    by_kind: defaultdict[int, list[float]] = defaultdict(list)
    for number, duration_s in zip(ends.accepted, ends.durations_s, strict=True):
        by_kind[kind_of[number]].append(duration_s)
    for kind_number, durations_s in by_kind.items():
        _learn_kind(queue, kind_number, durations_s)


def _learn_kind(queue: Queue, kind: int, durations_s: Sequence[float]) -> None:
    squares = sum(map(mul, durations_s, durations_s))
    queue.learn(kind, len(durations_s), sum(durations_s), squares)
