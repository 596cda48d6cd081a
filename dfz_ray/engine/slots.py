"""The number of a run's slots, and the share of each lease.

A lease may have several slots, where tasks share a process on threads. The cap is the sum of the widths of all leases,
decided anew each time a lease asks.
"""

from __future__ import annotations

import math
from dataclasses import replace

from dfz_ray.engine.chunking import Pace
from dfz_ray.engine.lease import Lease
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.queue import Lane


class Slots:
    """The cap on the tasks that execute at once: no task begins beyond it.

    A lease has at most `width` slots. If there are enough of them, they are spread over at least `processes` leases.
    """

    def __init__(self, count: int, target_s: float, width: int, lease_table: LeaseTable, processes: int = 1) -> None:
        self.pace = Pace(count, target_s)
        self._width = width
        self._lease_table = lease_table
        self._least_processes = processes
        self.set(count)

    @property
    def count(self) -> int:
        """The number of slots."""
        return self.pace.slots

    def set(self, count: int) -> None:
        """Change the number of slots; surplus ones end as their leases ask for work."""
        self._processes = max(math.ceil(count / self._width), min(count, self._least_processes))
        self._fair = math.ceil(count / self._processes)
        """The slots of each lease if they are shared evenly."""
        self.pace = replace(self.pace, slots=count, width=self._fair)

    def spread(self, processes: int) -> None:
        """Change the least number of leases over which the slots are spread."""
        self._least_processes = processes
        self.set(self.count)

    def measure(self, per_chunk_s: float) -> None:
        """Take in the manager's own CPU time per chunk."""
        self.pace = replace(self.pace, manager_s=per_chunk_s)

    @property
    def are_spread(self) -> bool:
        """True if no further lease is due: enough have begun, and less than half a fair share of slots is free."""
        table = self._lease_table
        return len(table.leases) >= self._processes and 2 * (self.pace.slots - table.used) < self._fair

    @property
    def are_too_few(self) -> bool:
        """True if leases use more slots than the run has now."""
        return self._lease_table.used > self.pace.slots

    def is_wide(self, lane: Lane) -> bool:
        """True if the leases of a lane run several tasks at once."""
        return self._width > 1 and not lane.exclusive

    def find_first_width(self, lane: Lane) -> int:
        """The slots of a lease that is started now; it gets more as it asks for work, if more tasks wait."""
        if not self.is_wide(lane):
            return 1
        waiting = lane.waiting + sum([len(group.numbers) for group in lane.suspects]) - lane.starting_slots
        return max(1, min(self._fair, self.pace.slots - self._lease_table.used, waiting))

    def decide(self, lease: Lease, lane: Lane, busy: int) -> tuple[int, int]:
        """Decide how many slots a lease gets that asks for work and holds tasks for `busy` threads.

        Returns the number of tasks that it may execute at once, 0 if it has to end, and the number of these threads
        that have no task.
        """
        if self._width == 1 and self._lease_table.used <= self.pace.slots:
            return 1, int(not lease.held)
        threads = self._find_threads(lease, lane)
        if not threads:
            return 0, 0
        self._lease_table.allow(lease, threads)
        return threads, max(0, threads - busy) if self.is_wide(lane) else int(not lease.held)

    def _find_threads(self, lease: Lease, lane: Lane) -> int:
        most = self._fair if self.is_wide(lane) else 1
        if not self.are_too_few:
            return min(most, lease.width + self.pace.slots - self._lease_table.used)
        stay = [other for number, other in self._lease_table.leases.items() if number not in self._lease_table.leaving]
        if len(stay) > self._processes:
            return 0
        others = sum([min(other.threads, self._fair) for other in stay if other is not lease])
        return max(0, min(most, lease.threads, self.pace.slots - others))
