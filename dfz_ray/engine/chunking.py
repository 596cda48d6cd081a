"""The size of a chunk: by the run times of its tasks, as far as they are known, and by the work that is left.

A chunk aims at 400 ms, because each costs 2 to 5 ms of CPU over all processes. It grows at most fourfold and takes at
most half a fair share of the work that is left (factoring), yet no less than 4 ms of work: asking again takes as long.
Where a kind's run times are even, it takes two thirds of what would let its slot end together with the others: that
halves the number of chunks of a short run. Such a chunk hands the rest back soon if it takes longer than expected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

TASKS_LIMIT = 5_000
"""More tasks than this in one message gain nothing, and delay the commit of the first task."""
MEMORY_TASKS = 500
"""A kind's older run times weigh at most as much as this number of tasks: they may change during a run."""
MANAGER_SHARE = 0.5
"""The manager may be busy for this share of the time at most."""

EVEN = 0.2
"""Run times are even if their spread is at most this share of their mean."""
EVEN_SHARE = 2 / 3
"""The part of the waiting work that counts where run times are even: the rest makes up for what was not expected."""
EVEN_SLACK = 0.25
"""The share of its expected time that a chunk of even run times may take longer; or a task's, if that is more."""

GROWTH = 4
"""A chunk may have so many times the tasks of its kind's last one: the first run times may not be typical."""
LEAST_S = 0.004
"""Seconds that a request for more work takes."""


@dataclass(slots=True)
class RunTimes:
    """Mean and spread of the run times of a kind, in seconds, learned while it runs."""

    mean_s: float = 0.0
    variance: float = 0.0
    weight: float = 0.0
    known: bool = False
    """True if any task of the kind has ended."""
    are_even: bool = False
    """True if tasks take about equally long, as far as is known: n run times say it with an error of 1/n."""

    @property
    def spread_s(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.variance)

    def learn(self, count: int, total_s: float, total_squares: float) -> None:
        """Take in the run times of `count` tasks, given their sum and the sum of their squares.

        The merge of two samples' means and variances is that of Chan, Golub and LeVeque (1979); the older sample's
        weight is capped, so that it fades.
        """
        mean = total_s / count
        variance = max(0.0, total_squares / count - mean * mean)
        older = min(self.weight, MEMORY_TASKS)
        weight = older + count
        delta = mean - self.mean_s
        self.variance = (older * self.variance + count * variance + delta * delta * older * count / weight) / weight
        self.mean_s += delta * count / weight
        self.weight, self.known = weight, True
        self.are_even = 0 < math.sqrt(self.variance) + self.mean_s / weight <= EVEN * self.mean_s


class HeldWork(NamedTuple):
    """The run time of the work that leases hold, without what they have probably executed of it."""

    own_s: float = 0.0
    """That of one lease."""
    all_s: float = 0.0
    """That of all of them."""


@dataclass(frozen=True)
class Pace:
    """The settings and measures that set the size of every chunk of a run."""

    slots: int
    target_s: float
    manager_s: float = 0.0
    """The manager's own CPU time per chunk."""
    width: int = 1
    """Slots of a lease; its chunks have as many times the work."""

    @cached_property
    def aim_s(self) -> float:
        """Seconds for which a chunk keeps its slots busy: enough for the manager to keep up with all leases."""
        return max(self.target_s, self.slots / self.width * self.manager_s / MANAGER_SHARE)

    def share_s(self, left_s: float, held_s: float = 0.0, width: int = 1) -> float:
        """The part of the remaining work that the next chunk may take; `held_s` is what each slot of its lease holds.

        Half of a fair share (factoring: Hummel, Schonberg and Flynn, 1992), so that the last chunks are small enough
        for all slots to end together; yet no less than is worth a message.
        """
        share_s = min(self.aim_s, max(left_s / (2 * self.slots), LEAST_S))
        return width * (min(share_s, self._ahead_s(left_s, held_s, width)) if held_s else share_s)

    def even_share_s(self, left_s: float, held: HeldWork, task_s: float) -> float:
        """The work that the next chunk of a lease of one slot may take where run times are even; negative if none.

        A quarter of a task is added, so that a rounding error cuts off none. Half of one would round the number of
        tasks, and give the first slots a task more than the last ones.
        """
        return min(self.aim_s, (EVEN_SHARE * left_s + held.all_s) / self.slots - held.own_s) + task_s / 4

    def keeps_back(self, left_s: float, held_s: float, task_s: float, width: int = 1) -> bool:
        """True if a lease that holds work gets none ahead: neither such a task nor `LEAST_S` would fit."""
        return self._ahead_s(left_s, held_s, width) < max(task_s, min(LEAST_S, self.aim_s))

    def _ahead_s(self, left_s: float, held_s: float, width: int) -> float:
        """The work for each slot that may be handed out ahead such that surely no other slot waits at the end.

        With it the lease ends no later than the rest takes on the other slots, even if all of them were free now:
        held + ahead <= (left - width * ahead) / (slots - width).
        """
        return (left_s - (self.slots - width) * held_s) / self.slots


def chunk_size(times: RunTimes, waiting: int, last_size: int, share_s: float, least: int = 1) -> int:
    """The number of tasks of one kind that a chunk takes, for `least` threads.

    It is at least one for each thread, if so many wait, and exactly that until the kind's run times are known.
    """
    least = min(least, waiting)
    if not times.known:
        return least
    fitting = int(min(share_s / times.mean_s, TASKS_LIMIT)) if times.mean_s > 0 else TASKS_LIMIT
    return max(least, min(fitting, GROWTH * max(last_size, least), waiting, TASKS_LIMIT))


def overrun_budget_s(expected_s: float, count: float, spread_s: float, slack_s: float) -> float:
    """The seconds after which a chunk has clearly taken longer than its kinds let expect."""
    return expected_s + max(slack_s, 3 * spread_s * math.sqrt(count))
