"""A view of the engine for those who watch: tasks by kind and state, the age of the queue, what each lease does.

It is taken once a second, so it costs time by the kinds, the leases and the tasks that ended since, never by all tasks.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from dfz_ray.engine.lease import Lease
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.queue import Queue
from dfz_ray.specs.states import FINAL, State


class KindOverview(NamedTuple):
    """The tasks of one kind."""

    name: str
    lane: int
    counts: Sequence[int]
    """By state, in the order of State. A task counts as running until its outcome is on disk."""
    settled: int
    """The tasks that were completed when they were added: an earlier process did that."""
    task_s: float | None
    """The mean run time of its tasks, in seconds; None while none has ended."""
    waits_s: float
    """The seconds for which it has had waiting tasks; 0 if none waits."""


class LeaseOverview(NamedTuple):
    """One lease and the chunk that it executes."""

    lease: int
    lane: int
    width: int
    """Its slots."""
    kind: str
    """The kind of the first task of the chunk that it executes; empty if it executes none."""
    tasks: int
    """The tasks of that chunk."""
    busy_s: float
    """The seconds since it began that chunk."""


class KindCounts:
    """Counts the tasks of each kind, and those in each final state.

    `kind_of` has the kind of every task, and grows.
    """

    def __init__(self, kind_of: Sequence[int]) -> None:
        self._kind_of = kind_of
        self._totals: Counter[int] = Counter()
        self._settled: Counter[int] = Counter()
        """Completed tasks, as they were added."""
        self._final: dict[State, Counter[int]] = {state: Counter() for state in sorted(FINAL)}

    def add(self, kinds: Sequence[int], settled: Mapping[int, int]) -> None:
        """New tasks of these kinds; some are in a final state already, by number."""
        self._totals.update(kinds)
        for state, counter in self._final.items():
            counter.update(self._kind_of[number] for number, settled_as in settled.items() if settled_as == state)
        if settled:
            self._settled = self._final[State.COMPLETED].copy()

    def end(self, state: State, numbers: Sequence[int]) -> None:
        """Tasks have got into a final state."""
        if len(self._totals) == 1:
            self._final[state][next(iter(self._totals))] += len(numbers)
        else:
            self._final[state].update(map(self._kind_of.__getitem__, numbers))

    def view(self, queue: Queue, lease_table: LeaseTable, now: float) -> list[KindOverview]:
        """The tasks of every kind now."""
        pending = self._count_pending(queue, lease_table)
        found = []
        for kind in queue.kinds:
            ended = {state: counter[kind.number] for state, counter in self._final.items()}
            running = self._totals[kind.number] - sum(ended.values()) - pending[kind.number]
            counts = {State.PENDING: pending[kind.number], State.RUNNING: running} | ended
            task_s = kind.times.mean_s if kind.times.known else None
            waits_s = now - kind.waiting_since if kind.waiting.count else 0.0
            by_state, settled = [counts[state] for state in State], self._settled[kind.number]
            found.append(KindOverview(kind.name, kind.lane, by_state, settled, task_s, waits_s))
        return found

    def _count_pending(self, queue: Queue, lease_table: LeaseTable) -> Counter[int]:
        """The tasks that wait in the queue, or in a chunk that its worker has not begun, by kind."""
        pending = Counter({kind.number: kind.waiting.count for kind in queue.kinds})
        pending.update(queue.delayed_of)
        suspects = chain.from_iterable(group.numbers for lane in queue.lanes for group in lane.suspects)
        doubled = lease_table.doubled  # they are running
        pending.update(self._kind_of[number] for number in suspects if number not in doubled)
        for lease in lease_table.leases.values():
            for held in lease.held.values():
                if held.begun_at is None:
                    numbers = lease_table.wanted(held.chunk.numbers)
                    if not doubled.isdisjoint(numbers):
                        continue
                    if held.taken.kind is not None:
                        pending[held.taken.kind] += len(numbers)
                    else:
                        pending.update(map(self._kind_of.__getitem__, numbers))
        return pending


def view_leases(
    queue: Queue, lease_table: LeaseTable, kind_of: Sequence[int], now: float, most: int | None = None
) -> list[LeaseOverview]:
    """The leases now, and the chunk that each executes; at most so many: those that have taken longest."""
    leases: Iterable[tuple[int, Lease]] = lease_table.leases.items()
    if most is not None and len(lease_table.leases) > most:
        leases = heapq.nsmallest(most, leases, key=_begun_at)
    found = []
    for number, lease in leases:
        kind, tasks, busy_s = "", 0, 0.0
        for held in lease.begun():
            numbers = held.chunk.numbers
            kind, tasks = queue.kinds[kind_of[numbers[0]]].name, len(numbers)
            busy_s = now - (held.begun_at or now)
        found.append(LeaseOverview(number, lease.lane, lease.width, kind, tasks, busy_s))
    return found


def _begun_at(entry: tuple[int, Lease]) -> float:
    """The time at which a lease began the chunk that it executes; infinite if it executes none."""
    begun_at = math.inf
    for held in entry[1].held.values():
        if held.begun_at is not None:
            begun_at = held.begun_at
    return begun_at
