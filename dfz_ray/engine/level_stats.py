"""Measures of a run while it had one number of slots, and their comparison with those of another number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dfz_ray.engine.ends import KindTimes

COMMON_SHARE = 0.5
"""Two levels can be compared if the kinds that both have seen make up this share of the work."""
PRIOR_SPREAD = 0.3
"""Standard deviation of a kind's run times, as a share of their mean, as long as too little was measured."""
PRIOR_TASKS = 4
"""The prior weighs as much as this number of tasks."""


class Gain(NamedTuple):
    """The throughput of one level relative to that of another."""

    log: float
    """Logarithm of the ratio of their throughputs."""
    error: float
    """Standard error of that logarithm."""

    @property
    def ratio(self) -> float:
        """The ratio of their throughputs."""
        return math.exp(self.log)


@dataclass(slots=True)
class LevelStats:
    """Sums over the chunks that were executed while a run had one number of slots.

    They are added up in looks: only a chunk that begins and ends within one look counts, at every level alike, so that
    a short look cuts off the same share on both sides of a comparison.
    """

    slots: int
    look_began_at: float | None = None
    """None until all slots are there."""
    look_s: float = 0.0
    """Duration of the last look."""
    looks: int = 0
    """Looks that have ended."""
    ended: int = 0
    """Slots whose chunks have ended in this look."""
    times: dict[int, tuple[int, float, float]] = field(default_factory=dict)
    """By kind: tasks, sum and sum of squares of their run times."""
    work_s: float = 0.0
    """Sum of the run times of all tasks."""
    slots_s: float = 0.0
    """Sum of the chunks' durations, each times its number of slots."""
    active_s: float = 0.0
    """The same, each also times the number of slots in use as the chunk ended."""
    cpu_s: float | None = 0.0
    """CPU time of all tasks; None if it is unknown for a chunk."""

    def add(self, times: Sequence[KindTimes], took_s: float, width: int, active: int, cpu_s: float | None) -> None:
        """Take in a chunk of `width` slots that has ended, while `active` slots are in use."""
        for kind, count, total_s, total_squares in times:
            before = self.times.get(kind, (0, 0.0, 0.0))
            self.times[kind] = (before[0] + count, before[1] + total_s, before[2] + total_squares)
            self.work_s += total_s
        self.ended += width
        self.slots_s += took_s * width
        self.active_s += active * took_s * width
        self.cpu_s = None if cpu_s is None or self.cpu_s is None else self.cpu_s + cpu_s

    def end_look(self, began_at: float, now: float) -> None:
        """End the look that began at that time, and begin the next one."""
        self.look_s = now - began_at
        self.looks += 1
        self.look_began_at, self.ended = now, 0

    @property
    def busy(self) -> float:
        """The average number of slots that executed tasks: those in use, less the share of time that they waited."""
        return self.active_s / self.slots_s * min(1.0, self.work_s / self.slots_s) if self.slots_s else 0.0

    @property
    def cpus(self) -> float | None:
        """The average number of CPUs that the tasks used, if it is known."""
        return None if self.cpu_s is None or not self.work_s else self.busy * self.cpu_s / self.work_s


def compare(base: LevelStats, other: LevelStats) -> Gain | None:
    """The throughput of another level relative to that of a base; None if they have too little in common.

    Tasks per second are not compared, because they also change with the mix of kinds. Compared are the slots that
    executed tasks, and the run times of tasks of the same kinds: with twice the slots the throughput doubles if tasks
    take as long as before, and stays if they take twice as long.
    """
    before, after = base.times, other.times
    common = [kind for kind in after if kind in before]
    work_s = sum(after[kind][1] for kind in common)
    if work_s < COMMON_SHARE * other.work_s:
        return None
    expected_s = sum(after[kind][0] * before[kind][1] / before[kind][0] for kind in common)
    if work_s <= 0 or expected_s <= 0 or base.busy <= 0 or other.busy <= 0:
        return None
    spread_squared = _relative_variance([*before.values(), *after.values()])
    variance = sum(
        (after[kind][1] / work_s) ** 2 * spread_squared * (1 / after[kind][0] + 1 / before[kind][0]) for kind in common
    )
    return Gain(math.log(other.busy / base.busy * expected_s / work_s), math.sqrt(variance))


def _relative_variance(samples: Sequence[tuple[int, float, float]]) -> float:
    """The variance of run times within a kind, as a share of their squared mean, over all kinds."""
    weight = float(PRIOR_TASKS)
    total = PRIOR_TASKS * PRIOR_SPREAD**2
    for count, total_s, squares in samples:
        if count > 1 and total_s > 0:
            mean_s = total_s / count
            total += max(0.0, squares - count * mean_s * mean_s) / (mean_s * mean_s)
            weight += count - 1
    return total / weight
