"""What the end of a chunk says of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dfz_ray.engine.messages import ChunkEnded


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
