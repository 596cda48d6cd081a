"""How many tasks a chunk takes: from what is known of their run times, and from what is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

TASKS_LIMIT = 5_000
"""More tasks than this in one message gain nothing, and delay the commit of the first."""
MEMORY_TASKS = 500
"""After so many tasks a kind's older run times fade: a kind may change its pace during a run."""
MANAGER_SHARE = 0.5
"""The manager may be busy for this share of the time at most."""


GROWTH = 4
"""A chunk of a kind may be so many times as large as the one before it: the first run times may not be typical."""
LEAST_S = 0.004
"""Less work than this takes no longer than asking for more of it does."""


@dataclass(slots=True)
class RunTimes:
    """Mean and spread of the run times of a kind, in seconds, learned while it runs."""

    mean_s: float = 0.0
    variance: float = 0.0
    weight: float = 0.0
    known: bool = False
    """Whether any task of the kind has ended."""

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


@dataclass(frozen=True)
class Pace:
    """What sets the size of every chunk of a run."""

    slots: int
    target_s: float
    manager_s: float = 0.0
    """The manager's own time per chunk."""
    width: int = 1
    """A lease has so many slots, and its chunks as many times the work."""

    @cached_property
    def aim_s(self) -> float:
        """How long a chunk is to keep its slots busy: enough for the manager to keep up with all leases."""
        return max(self.target_s, self.slots / self.width * self.manager_s / MANAGER_SHARE)

    def share_s(self, left_s: float, held_s: float = 0.0, width: int = 1) -> float:
        """The work that the next chunk may take of what is left.

        Half of a fair share (factoring: Hummel, Schonberg and Flynn, 1992), so that the last chunks are small enough
        for all slots to end together; yet no less than is worth a message.

        Args:
            left_s: the work that waits, in seconds.
            held_s: the work that the one who is to get it has in hand, for each of its slots.
            width: how many slots it has.
        """
        share_s = min(self.aim_s, max(left_s / (2 * self.slots), LEAST_S))
        return width * (min(share_s, self._ahead_s(left_s, held_s, width)) if held_s else share_s)

    def keeps_back(self, left_s: float, held_s: float, task_s: float, width: int = 1) -> bool:
        """Whether who has work in hand gets none ahead: there is no room for a task of that length, or for little."""
        return self._ahead_s(left_s, held_s, width) < max(task_s, min(LEAST_S, self.aim_s))

    def _ahead_s(self, left_s: float, held_s: float, width: int) -> float:
        """How much work may be handed out ahead for each slot: what surely keeps no slot waiting at the end.

        Who has held_s in hand ends no later, with that and this, than the rest would take on the other slots, even if
        they were all free at once: held + ahead <= (left - width * ahead) / (slots - width).
        """
        return (left_s - (self.slots - width) * held_s) / self.slots


def chunk_size(times: RunTimes, waiting: int, last_size: int, share_s: float, least: int = 1) -> int:
    """How many tasks of one kind to take.

    Args:
        times: what is known of the kind.
        waiting: how many of it are waiting, at least one.
        last_size: the size of the kind's last chunk; a chunk grows at most so many times as large: GROWTH.
        share_s: the work that the chunk may take.
        least: for so many threads it is.

    Returns:
        One for each thread at least, if so many wait; exactly that until the kind is known.
    """
    least = min(least, waiting)
    if not times.known:
        return least
    fitting = int(min(share_s / times.mean_s, TASKS_LIMIT)) if times.mean_s > 0 else TASKS_LIMIT
    return max(least, min(fitting, GROWTH * max(last_size, least), waiting, TASKS_LIMIT))


def overrun_budget_s(expected_s: float, count: float, spread_s: float, aim_s: float) -> float:
    """When a chunk has clearly taken longer than what its kinds let expect, in seconds."""
    return expected_s + max(aim_s, 3 * spread_s * math.sqrt(count))
