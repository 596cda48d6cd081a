"""How many slots a run has, and how many of them each lease may use."""

from __future__ import annotations

import math
from dataclasses import replace

from dfz_ray.engine.chunking import Pace
from dfz_ray.engine.lease import Lease
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.queue import Lane


class Slots:
    """The cap on the tasks that execute at once: no task begins beyond it.

    Args:
        count: how many there are.
        target_s: the work that a chunk aims at.
        width: how many of them one lease may have at most.
        hands: the leases that are out.
        processes: over so many leases at least they are spread, as far as there are so many.
    """

    def __init__(self, count: int, target_s: float, width: int, hands: LeaseTable, processes: int = 1) -> None:
        self.pace = Pace(count, target_s)
        self._width = width
        self._hands = hands
        self._least_processes = processes
        self.set(count)

    @property
    def count(self) -> int:
        """How many there are."""
        return self.pace.slots

    def set(self, count: int) -> None:
        """From now on there are so many: what is too much ends as it asks for more."""
        self._processes = max(math.ceil(count / self._width), min(count, self._least_processes))
        self._fair = math.ceil(count / self._processes)
        """How many slots each lease has where so many leases share them."""
        self.pace = replace(self.pace, slots=count, width=self._fair)

    def spread(self, processes: int) -> None:
        """From now on they are spread over so many leases at least, as far as there are so many."""
        self._least_processes = processes
        self.set(self.count)

    def measure(self, per_chunk_s: float) -> None:
        """The manager takes so long for a chunk."""
        self.pace = replace(self.pace, manager_s=per_chunk_s)

    @property
    def are_too_many(self) -> bool:
        """Whether there are as many leases as there should be, and for another one's sake too few slots are free."""
        hands = self._hands
        return len(hands.leases) >= self._processes and 2 * (self.pace.slots - hands.used) < self._fair

    @property
    def are_too_few(self) -> bool:
        """Whether leases have more than there are by now."""
        return self._hands.used > self.pace.slots

    def is_wide(self, lane: Lane) -> bool:
        """Whether the leases of a lane run several tasks at once."""
        return self._width > 1 and not lane.exclusive

    def find_first_width(self, lane: Lane) -> int:
        """How many slots a lease has that is started now: it gets more as it asks for work, if more is to be done."""
        if not self.is_wide(lane):
            return 1
        waiting = lane.waiting + sum([len(group.numbers) for group in lane.suspects]) - lane.starting_slots
        return max(1, min(self._fair, self.pace.slots - self._hands.used, waiting))

    def decide(self, lease: Lease, lane: Lane, busy: int) -> tuple[int, int]:
        """How many slots a lease gets that asks for work.

        Args:
            lease: it has what it has from now on.
            lane: its lane.
            busy: for how many of its threads it has tasks in hand.

        Returns:
            How many tasks it may execute at once, 0 where it has to end; and for how many of them it has nothing.
        """
        if self._width == 1 and self._hands.used <= self.pace.slots:
            return 1, int(not lease.held)
        threads = self._find_threads(lease, lane)
        if not threads:
            return 0, 0
        self._hands.allow(lease, threads)
        return threads, max(0, threads - busy) if self.is_wide(lane) else int(not lease.held)

    def _find_threads(self, lease: Lease, lane: Lane) -> int:
        most = self._fair if self.is_wide(lane) else 1
        if not self.are_too_few:
            return min(most, lease.width + self.pace.slots - self._hands.used)
        stay = [other for number, other in self._hands.leases.items() if number not in self._hands.leaving]
        if len(stay) > self._processes:
            return 0
        others = sum([min(other.threads, self._fair) for other in stay if other is not lease])
        return max(0, min(most, lease.threads, self.pace.slots - others))
