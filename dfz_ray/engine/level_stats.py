"""What was seen of the tasks while a run had one number of slots, and how it compares with another number."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dfz_ray.engine.learning import KindTimes

WINDOWS = 8
"""So many windows are remembered: what is older may not hold any more."""
COMMON_SHARE = 0.5
"""Two levels can be compared where the kinds that both have seen make up this share of the work."""
PRIOR_SPREAD = 0.3
"""Standard deviation of a kind's run times, as a share of their mean, as long as too little was seen to tell."""
PRIOR_TASKS = 4
"""The prior counts as much as so many tasks do."""
CERTAIN = 0.01
"""No standard error is smaller: the machine itself is not steadier."""


class Gain(NamedTuple):
    """How one level compares with another."""

    log: float
    """Of the ratio of their throughputs."""
    error: float
    """Standard error of that."""

    @property
    def ratio(self) -> float:
        """Of the throughputs."""
        return math.exp(self.log)


@dataclass(slots=True)
class Window:
    """The chunks of one look at a level: those that began and ended in it."""

    opened_at: float
    ended: int = 0
    """How many slots' chunks have ended."""
    times: dict[int, tuple[int, float, float]] = field(default_factory=dict)
    """By kind: tasks, sum and sum of squares of their run times."""
    work_s: float = 0.0
    slots_s: float = 0.0
    """How long its chunks took, times the number of their slots."""
    active_s: float = 0.0
    """The number of slots in use, weighted by that."""
    cpu_s: float | None = 0.0
    """None where it is not known of a chunk."""

    def add(self, times: Sequence[KindTimes], slots_s: float, width: int, active: int, cpu_s: float | None) -> None:
        """Take in a chunk that has ended.

        Args:
            times: the run times of its tasks.
            slots_s: how long it took, times the number of its slots.
            width: that number.
            active: how many slots are in use.
            cpu_s: for how long its tasks computed, where that is known.
        """
        for kind, count, total_s, total_squares in times:
            before = self.times.get(kind, (0, 0.0, 0.0))
            self.times[kind] = (before[0] + count, before[1] + total_s, before[2] + total_squares)
            self.work_s += total_s
        self.ended += width
        self.slots_s += slots_s
        self.active_s += active * slots_s
        self.cpu_s = None if cpu_s is None or self.cpu_s is None else self.cpu_s + cpu_s


class LevelStats:
    """What was seen at one number of slots, in its last windows.

    Args:
        slots: the number.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.windows: deque[Window] = deque(maxlen=WINDOWS)
        self.window_s = 0.0
        """How long a window takes."""

    def add(self, window: Window, now: float) -> None:
        """Take in a window that is closed."""
        self.windows.append(window)
        self.window_s = now - window.opened_at

    def copy(self) -> LevelStats:
        """The same, as it is now."""
        copied = LevelStats(self.slots)
        copied.windows.extend(self.windows)
        return copied

    def times(self) -> dict[int, tuple[int, float, float]]:
        """By kind: tasks, sum and sum of squares of their run times."""
        merged: dict[int, tuple[int, float, float]] = {}
        for window in self.windows:
            for kind, (count, total_s, squares) in window.times.items():
                before = merged.get(kind, (0, 0.0, 0.0))
                merged[kind] = (before[0] + count, before[1] + total_s, before[2] + squares)
        return merged

    @property
    def busy(self) -> float:
        """How many slots executed tasks, on average: those in use, less what they waited for chunks."""
        active_s, work_s, slots_s = (
            sum(getattr(window, name) for window in self.windows) for name in ("active_s", "work_s", "slots_s")
        )
        return active_s / slots_s * min(1.0, work_s / slots_s) if slots_s else 0.0

    @property
    def cpus(self) -> float | None:
        """How many CPUs computed tasks, on average, where that is known."""
        known = [(window.cpu_s, window.work_s) for window in self.windows if window.cpu_s is not None]
        work_s = sum(work for _, work in known)
        return self.busy * sum(cpu for cpu, _ in known) / work_s if work_s else None


def compare(base: LevelStats, other: LevelStats) -> Gain | None:
    """The throughput of another level as a multiple of that of a base; None where they have too little in common.

    Not the tasks per second are compared, for a change of the mix would change those, too, but the slots that executed
    tasks, and how long tasks of the same kinds took them: with twice the slots, the throughput is twice as high where
    tasks take as long as before, and the same where they take twice as long.
    """
    before, after = base.times(), other.times()
    common = [kind for kind in after if kind in before]
    work_s = sum(after[kind][1] for kind in common)
    if not common or work_s < COMMON_SHARE * sum(total_s for _, total_s, _ in after.values()):
        return None
    expected_s = sum(after[kind][0] * before[kind][1] / before[kind][0] for kind in common)
    if work_s <= 0 or expected_s <= 0 or base.busy <= 0 or other.busy <= 0:
        return None
    spread_squared = _relative_variance([*before.values(), *after.values()])
    variance = sum(
        (after[kind][1] / work_s) ** 2 * spread_squared * (1 / after[kind][0] + 1 / before[kind][0]) for kind in common
    )
    return Gain(math.log(other.busy / base.busy * expected_s / work_s), max(CERTAIN, math.sqrt(variance)))


def _relative_variance(samples: Sequence[tuple[int, float, float]]) -> float:
    """Of run times of one kind, as a share of their squared mean, over all kinds."""
    weight = float(PRIOR_TASKS)
    total = PRIOR_TASKS * PRIOR_SPREAD**2
    for count, total_s, squares in samples:
        if count > 1 and total_s > 0:
            mean_s = total_s / count
            total += max(0.0, squares - count * mean_s * mean_s) / (mean_s * mean_s)
            weight += count - 1
    return total / weight
