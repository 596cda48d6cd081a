"""The tasks that wait, by lane and kind, in the order in which they are due."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dfz_ray.engine.chunking import TASKS_LIMIT, Pace, RunTimes, chunk_size, overrun_budget_s


@dataclass(slots=True)
class Kind:
    """Tasks that cost about the same."""

    number: int
    name: str
    lane: int
    waiting: deque[int] = field(default_factory=deque)
    times: RunTimes = field(default_factory=RunTimes)
    last_size: int = 1
    probing: int = 0
    """Chunks of it that are out while nothing is known of it."""
    stamp: int = 0
    """Counts the changes of its rank: an older entry in the lane's heap is void."""

    @property
    def rank(self) -> tuple[int, float]:
        """Lower is due earlier: one task of every unknown kind, then long kinds, then more of the unknown."""
        if not self.times.known:
            return (0, 0.0) if not self.probing else (2, 0.0)
        return (1, -self.times.mean_s)


@dataclass(slots=True)
class Lane:
    """The waiting tasks of one domain and one shape: a lease takes from one lane."""

    number: int
    heap: list[tuple[tuple[int, float], int, int]] = field(default_factory=list)
    waiting: int = 0
    left_s: float = 0.0
    """The work that waits, as far as it is known, in seconds."""
    suspects: deque[list[int]] = field(default_factory=deque)
    """Tasks in whose chunk a worker died: each group is run by itself."""
    capacity: float = math.inf
    """How many leases of its shape the cluster can run at once."""
    seen: bool = False
    """Whether the cluster ever could run one."""
    ruled_out: str | None = None
    """Why none of its tasks can ever run, where that is so."""
    leases: int = 0
    starting: int = 0
    """Leases that have not asked for work yet."""
    stillborn: int = 0
    """Deaths in a row of leases that had not."""
    replaced_from: int = 0
    """The first lease that was started after the last of these deaths."""


class Taken(NamedTuple):
    """Tasks taken from a lane, for one chunk."""

    numbers: list[int]
    budget_s: float


class Queue:
    """All that waits."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self.lanes: list[Lane] = []

    def add_kind(self, name: str, lane: int) -> None:
        """Make a kind known; it gets the next number, and its lane exists from now on."""
        self.get_lane(lane)
        self.kinds.append(Kind(len(self.kinds), name, lane))

    def get_lane(self, number: int) -> Lane:
        """The lane of that number; it exists from now on."""
        while number >= len(self.lanes):
            self.lanes.append(Lane(len(self.lanes)))
        return self.lanes[number]

    def put(self, kind_number: int, numbers: Iterable[int]) -> None:
        """Let tasks of one kind wait behind the others of that kind."""
        self._put(kind_number, numbers, first=False)

    def put_back(self, kind_number: int, numbers: Sequence[int]) -> None:
        """Let tasks that had been taken wait again, before the others of their kind."""
        self._put(kind_number, reversed(numbers), first=True)

    def _put(self, kind_number: int, numbers: Iterable[int], first: bool) -> None:
        kind = self.kinds[kind_number]
        lane = self.lanes[kind.lane]
        before = len(kind.waiting)
        (kind.waiting.extendleft if first else kind.waiting.extend)(numbers)
        added = len(kind.waiting) - before
        lane.waiting += added
        lane.left_s += added * kind.times.mean_s
        if before == 0 and added:
            self._rank(kind)

    def learn(self, kind_number: int, count: int, total_s: float, total_squares: float) -> None:
        """Take in the run times of tasks of one kind."""
        kind = self.kinds[kind_number]
        before = kind.times.mean_s
        kind.times.learn(count, total_s, total_squares)
        self.lanes[kind.lane].left_s += len(kind.waiting) * (kind.times.mean_s - before)
        kind.probing = 0
        self._rank(kind)

    def probe_ended(self, kind_number: int) -> None:
        """A chunk of an unknown kind ended without telling anything: another may try."""
        kind = self.kinds[kind_number]
        if kind.probing:
            kind.probing = 0
            self._rank(kind)

    def _rank(self, kind: Kind) -> None:
        kind.stamp += 1
        if kind.waiting:
            heapq.heappush(self.lanes[kind.lane].heap, (kind.rank, kind.number, kind.stamp))

    def find_first(self, lane: Lane) -> Kind | None:
        """The kind of a lane that is due first, if any waits."""
        while lane.heap:
            _, number, stamp = lane.heap[0]
            kind = self.kinds[number]
            if stamp == kind.stamp and kind.waiting:
                return kind
            heapq.heappop(lane.heap)
        return None

    def take(self, lane: Lane, pace: Pace) -> Taken | None:
        """Take a chunk's tasks from a lane, which must have some waiting."""
        numbers: list[int] = []
        share_s = pace.share_s(lane.left_s)
        expected_s, spread_s = 0.0, 0.0
        while len(numbers) < TASKS_LIMIT and (kind := self.find_first(lane)) is not None:
            if numbers and not kind.times.known:
                break  # what is unknown goes alone: it would spoil the estimate
            rest_s = share_s - expected_s
            if numbers and kind.times.mean_s > rest_s:
                break
            size = min(chunk_size(kind.times, len(kind.waiting), kind.last_size, rest_s), TASKS_LIMIT - len(numbers))
            numbers.extend(self._take_from(lane, kind, size))
            expected_s += size * kind.times.mean_s
            spread_s = max(spread_s, kind.times.spread_s)
            if not kind.times.known or kind.waiting:
                break
        if not numbers:
            return None
        return Taken(numbers, overrun_budget_s(expected_s, len(numbers), spread_s, pace.aim_s))

    def _take_from(self, lane: Lane, kind: Kind, size: int) -> list[int]:
        numbers = [kind.waiting.popleft() for _ in range(size)]
        lane.waiting -= size
        lane.left_s = lane.left_s - size * kind.times.mean_s if lane.waiting else 0.0
        kind.last_size = size
        if not kind.times.known:
            kind.probing += 1
            self._rank(kind)
        return numbers

    def clear(self, lane: Lane) -> list[int]:
        """Take out everything that waits in a lane."""
        numbers = [number for group in lane.suspects for number in group]
        lane.suspects.clear()
        for kind in self.kinds:
            if kind.lane == lane.number:
                numbers.extend(kind.waiting)
                kind.waiting.clear()
        lane.heap.clear()
        lane.waiting, lane.left_s = 0, 0.0
        return numbers
