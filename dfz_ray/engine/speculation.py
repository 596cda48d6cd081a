"""Second attempts of tasks that take far longer than others of their kind: the first of the two that completes counts.

At the end of a run the last tasks would execute alone for long, while slots are free. A second attempt is one of the
groups that a lease executes by themselves (`Queue.add_suspects`). While a task has two attempts it counts as running.
An attempt that ends without completing it is superseded by the other one, which decides alone from then on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from dfz_ray.engine.ends import Ends
from dfz_ray.engine.lease import Lease
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.messages import ChunkEnded, Command, LeaseLost, NoteAttemptsLost
from dfz_ray.engine.queue import Queue

QUANTILE = 0.95
"""A task is late once it has run for longer than this share of its kind's tasks."""
LEAST_TASKS = 20
"""The run times of fewer tasks have no such quantile."""
MEMORY_TASKS = 500
"""So many of the latest run times of each kind are known."""


class Speculation:
    """Finds the tasks that get a second attempt, and settles which of the two counts."""

    def __init__(
        self,
        queue: Queue,
        lease_table: LeaseTable,
        kind_of: Sequence[int],
        quantile: float = QUANTILE,
        least_tasks: int = LEAST_TASKS,
    ) -> None:
        self._queue = queue
        self._table = lease_table
        self._kind_of = kind_of
        self._quantile, self._least_tasks = quantile, least_tasks
        self._times: dict[int, deque[float]] = {}
        """The latest run times, in seconds, of each kind whose policy has `speculate`."""
        self._repeated: set[int] = set()
        """The tasks that have had a second attempt: none gets another one."""

    @property
    def is_on(self) -> bool:
        """True if the policy of any kind asks for it."""
        return bool(self._times)

    def add_kind(self, number: int) -> None:
        """A new kind, whose policy has `speculate`."""
        self._times[number] = deque(maxlen=MEMORY_TASKS)

    def learn(self, ends: Ends) -> None:
        """Take in the run times of tasks that have ended."""
        for number, duration_s in zip(ends.accepted, ends.durations_s, strict=True):
            times = self._times.get(self._kind_of[number])
            if times is not None:
                times.append(duration_s)

    def begin(self, free_slots: int, now: float) -> None:
        """Let so many tasks wait for a second attempt: those that are latest."""
        late = sorted(self._find_late(now))[: max(0, free_slots)]
        for _, number in late:
            self._repeated.add(number)
            self._table.doubled.add(number)
            self._queue.add_suspects(self._kind_of[number], [[number]])

    def _find_late(self, now: float) -> list[tuple[float, int]]:
        """The tasks that are late and may get a second attempt, each with the time at which it began."""
        limits = {number: self._find_quantile(times) for number, times in self._times.items()}
        late = []
        for lease in self._table.leases.values():
            lane = self._queue.lanes[lease.lane]
            has_place = lane.leases < lane.capacity or bool(self._table.lingering)
            if lease.killed or lane.waiting or lane.suspects or not has_place:
                continue
            for held in lease.begun():
                number, begun_at = held.chunk.numbers[0], held.begun_at or now
                # Of a chunk of several tasks nobody knows which one takes so long.
                is_late = len(held.chunk.numbers) == 1 and now - begun_at > limits.get(self._kind_of[number], math.inf)
                if is_late and number not in self._repeated and number not in self._table.revoked:
                    late.append((begun_at, number))
        return late

    def settle(self, event: ChunkEnded, ends: Ends, kill_at: float) -> tuple[Ends, list[Command]]:
        """Sort out a chunk that has ended: returns what counts of it, and commands that end other attempts."""
        doubled = self._table.doubled
        if not doubled or doubled.isdisjoint([*ends.accepted, *ends.rest]):
            return ends, []
        commands: list[Command] = []
        accepted: dict[int, float] = {}
        superseded = list(ends.superseded)
        for number, duration_s in zip(ends.accepted, ends.durations_s, strict=True):
            if number in doubled and number in event.failures:
                superseded.append(number)
                self._table.leave_to_other(number)
                continue
            if number in doubled:
                doubled.discard(number)
                self._queue.remove({number})
                commands.extend(self._table.revoke({number}, kill_at))
            accepted[number] = duration_s
        rest = [number for number in ends.rest if number not in doubled or not self._table.leave_to_other(number)]
        return Ends(list(accepted), list(accepted.values()), rest, superseded), commands

    def on_gone(self, lease: Lease, event: LeaseLost | None = None) -> tuple[set[int], list[NoteAttemptsLost]]:
        """A lease is over: the tasks that it held, and that have another attempt, are left to that one, uncharged.

        Returns these tasks, and the notes of their attempts that are lost.
        """
        doubled, revoked = self._table.doubled, self._table.revoked
        notes: list[NoteAttemptsLost] = []
        left: set[int] = set()
        for held in list(lease.held.values()) if doubled else ():
            number = held.chunk.numbers[0]  # a task that has two attempts is alone in the chunks of both
            if number not in doubled or number in revoked:
                continue
            self._table.leave_to_other(number)
            del lease.held[held.chunk.id]
            self._table.release(held)
            left.add(number)
            if event is not None and held.begun_at is not None:
                reason = lease.killed or event.reason
                notes.append(NoteAttemptsLost(held.chunk.id, [number], reason, event.message, superseded=True))
        return left, notes

    def _find_quantile(self, times: Sequence[float]) -> float:
        """The quantile of these run times, in seconds; infinite if they are too few."""
        if len(times) < self._least_tasks:
            return math.inf
        return sorted(times)[math.ceil(self._quantile * len(times)) - 1]
