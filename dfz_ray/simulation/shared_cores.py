"""Cores that tasks share, in virtual time: processor sharing, as operating systems approximate it."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

ROUNDING_S = 1e-9
"""Jobs that end within so many seconds of each other end together."""


class SharedCores:
    """Computes jobs on cores that all of them share evenly; no job gets more than one core.

    A job ends when its share of the cores has summed up to its CPU time. Since all jobs have equal shares, one clock of
    shares serves all of them: each job ends at a time of that clock which is known as it begins.

    Args:
        cores: the number of cores; infinite: each job has one.
        now: returns the time.
        at: plans an action for a time.
    """

    def __init__(
        self, cores: float, now: Callable[[], float], at: Callable[[float, Callable[[], object]], None]
    ) -> None:
        self.cores = cores
        self.taken = 0.0
        """The cores that something else takes; it counts from the next begin or end of a job on."""
        self._now, self._at = now, at
        self._jobs: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._share_s = 0.0
        """The CPU time that a job would have got which has been there from the beginning."""
        self._share = 1.0
        self._looked_at = 0.0
        self._plan = 0
        """The number of the latest plan; earlier ones are void."""

    def compute(self, cpu_s: float, then: Callable[[], object]) -> None:
        """Begin a job that needs so much CPU time; `then` is called as it ends."""
        if self.cores == math.inf:
            self._at(self._now() + cpu_s, then)
            return
        self._look()
        heapq.heappush(self._jobs, (self._share_s + cpu_s, next(self._order), then))
        self._plan_end()

    def _look(self) -> None:
        now = self._now()
        self._share_s += (now - self._looked_at) * self._share
        self._looked_at = now

    def _plan_end(self) -> None:
        self._plan += 1
        if not self._jobs:
            return
        self._share = min(1.0, max(self.cores - self.taken, self.cores / 2) / len(self._jobs))
        plan, left_s = self._plan, self._jobs[0][0] - self._share_s
        self._at(self._looked_at + left_s / self._share, lambda: self._end_jobs(plan))

    def _end_jobs(self, plan: int) -> None:
        if plan != self._plan:
            return
        self._look()
        ended = []
        while self._jobs and self._jobs[0][0] <= self._share_s + ROUNDING_S:
            ended.append(heapq.heappop(self._jobs)[2])
        self._plan_end()
        for then in ended:
            then()
