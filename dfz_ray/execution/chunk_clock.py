"""The times of the tasks of a chunk."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from resource import RUSAGE_CHILDREN, getrusage  # bound here, as below
from time import perf_counter, process_time, time  # bound here, for a task may put something else in their place

SURE_S = 5e-5
"""A reading of the wall clock that took longer may have been interrupted: then another one is tried."""
READINGS = 20
CORES = os.cpu_count() or 1


def find_offset(wall: Callable[[], float] = time, steady: Callable[[], float] = perf_counter) -> float:
    """The seconds by which the wall clock is ahead of the steady one.

    On a busy machine this process may lose its core between the two readings, for a tenth of a second: its tasks would
    seem to be executed that much later, and more tasks at once than there are slots. So the quickest reading counts.
    """
    best, least_s = 0.0, float("inf")
    for _ in range(READINGS):
        before = steady()
        now = wall()
        took_s = steady() - before
        if took_s < least_s:
            best, least_s = now - before - took_s / 2, took_s
        if least_s <= SURE_S:
            break
    return best


def read_children_s() -> float:
    """CPU seconds of the child processes that have ended."""
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class ChunkClock:
    """Times the tasks of a chunk: the end of each is the start of the next one.

    The time between two tasks is less than reading the clock once more takes. Reading the CPU time takes ten times as
    long: for short tasks it is read once for several of them, and divided in proportion to their wall times.

    The CPU time of a child process counts once the process has ended and was waited for: a task that calls a program
    computes. One that collects the program of an earlier task has no more than all cores give in its own time.
    """

    CPU_EVERY_S = 0.001
    """In less time no program begins and ends: that of children is not read then."""

    def __init__(self) -> None:
        self._offset = find_offset()
        self._began = self._cpu_read_at = perf_counter()
        self._cpu, self._children = process_time(), read_children_s()
        self._ends = [self._began]
        self._cpu_shares: list[tuple[int, float]] = []
        """The number of a lap, and the CPU time per second of it and of the laps since the entry before."""

    @property
    def elapsed_s(self) -> float:
        """Seconds from the beginning to the end of the last task."""
        return self._ends[-1] - self._began

    def lap(self) -> None:
        """A task has ended."""
        now = perf_counter()
        self._ends.append(now)
        if now - self._cpu_read_at >= self.CPU_EVERY_S:
            self._read_cpu(now)

    def _read_cpu(self, now: float) -> None:
        wall_s = now - self._cpu_read_at
        cpu, children = process_time(), read_children_s() if wall_s >= self.CPU_EVERY_S else self._children
        spent_s = cpu - self._cpu + children - self._children
        self._cpu_shares.append((len(self._ends) - 1, min(spent_s / wall_s, CORES) if wall_s > 0 else 0.0))
        self._cpu, self._children, self._cpu_read_at = cpu, children, now

    def laps(self) -> Iterator[tuple[float, float, float]]:
        """For each task start and end, in Unix seconds, and CPU seconds."""
        self._read_cpu(self._ends[-1])
        shares = iter(self._cpu_shares)
        upto, share = 0, 0.0
        for lap, (start, end) in enumerate(itertools.pairwise(self._ends)):
            while lap >= upto:
                upto, share = next(shares)
            yield self._offset + start, self._offset + end, (end - start) * share
