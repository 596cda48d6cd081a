"""Second attempts of tasks that take far longer than others of their kind: the first of the two that completes counts.

At the end of a run the last tasks would execute alone for long, while slots are free. A second attempt is one of the
groups that a lease executes by themselves (`Queue.add_suspects`). While a task has two attempts it counts as running.
An attempt that ends without completing it is superseded by the other one, which decides alone from then on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence

from dfz_ray.engine.ends import Ends
from dfz_ray.engine.lease import Lease
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.messages import ChunkEnded, Command, NoteAttemptsLost
from dfz_ray.engine.queue import Queue

QUANTILE = 0.95
"""A task is late once it has run for longer than this share of its kind's tasks, those that still run included."""
LEAST_TASKS = 20
"""The run times of fewer tasks have no such quantile."""
INNOCENT = ("node_lost", "preempted", "cancelled", "state_changed")
"""If an attempt was lost for such a reason, its task may get another one."""
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
        self._kinds: dict[int, _KnownTimes] = {}
        """By kind whose policy has `speculate`."""
        self._repeated: set[int] = set()
        """The tasks that had a second attempt: another one follows only if that was lost for no fault of theirs."""

    @property
    def is_on(self) -> bool:
        """True if the policy of any kind asks for it."""
        return bool(self._kinds)

    def add_kind(self, number: int) -> None:
        """A new kind, whose policy has `speculate`."""
        self._kinds[number] = _KnownTimes()

    def learn(self, event: ChunkEnded, ends: Ends) -> None:
        """Take in the run times of tasks that have completed."""
        for number, duration_s in zip(ends.accepted, ends.durations_s, strict=True):
            times = self._kinds.get(self._kind_of[number])
            if times is not None and number not in event.failures:
                times.add(duration_s)

    def begin(self, free_slots: int, now: float) -> None:
        """Let so many tasks wait for a second attempt: those that are latest."""
        late = sorted(self._find_late(now))[:free_slots] if free_slots > 0 else ()
        for _, number in late:
            self._repeated.add(number)
            self._table.doubled.add(number)
            self._queue.add_suspects(self._kind_of[number], [[number]])

    def withdraw(self) -> None:
        """No second attempt waits any longer: other tasks do, or the run stops."""
        waiting = self._queue.remove(self._table.doubled) if self._table.doubled else ()
        self._table.doubled.difference_update(waiting)
        self._repeated.difference_update(waiting)

    def _find_late(self, now: float) -> list[tuple[float, int]]:
        """The tasks that are late and may get a second attempt, each with the time at which it began."""
        running: Counter[int] = Counter()
        candidates = []
        for lease in self._table.leases.values():
            lane = self._queue.lanes[lease.lane]
            has_place = lane.leases < lane.capacity or bool(self._table.lingering)
            may_repeat = has_place and not (lease.killed or lane.waiting or lane.suspects)
            for held in lease.begun():
                number, begun_at = held.chunk.numbers[0], held.begun_at or now
                kind = self._kind_of[number]
                running[kind] += len(held.chunk.numbers)
                # Of a chunk of several tasks nobody knows which one takes so long.
                is_known = number in self._repeated or number in self._table.revoked
                if may_repeat and kind in self._kinds and len(held.chunk.numbers) == 1 and not is_known:
                    candidates.append((begun_at, number))
        return [
            (begun_at, number)
            for begun_at, number in candidates
            if self._is_late(self._kinds[self._kind_of[number]], running[self._kind_of[number]], now - begun_at)
        ]

    def _is_late(self, times: _KnownTimes, running: int, age_s: float) -> bool:
        """True if a task takes longer than the quantile of its kind, even if all that run took longer still."""
        if times.count < self._least_tasks:
            return False
        return times.find_share_below(age_s) * times.count >= self._quantile * (times.count + running)

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
        left = doubled.intersection(ends.rest)
        for number in left:
            self._table.leave_to_other(number)
        rest = [number for number in ends.rest if number not in left]
        return Ends(list(accepted), list(accepted.values()), rest, superseded), commands

    def on_gone(self, lease: Lease, reason: str = "", message: str = "") -> tuple[set[int], list[NoteAttemptsLost]]:
        """A lease is over: the tasks that it held, and that have another attempt, are left to that one, uncharged.

        `reason` is empty if its call has returned. Returns these tasks, and the notes of their attempts that are lost.
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
            if reason and held.begun_at is not None:
                notes.append(NoteAttemptsLost(held.chunk.id, [number], reason, message, superseded=True))
        if not reason or reason in INNOCENT:
            self._repeated -= left
        return left, notes


class _KnownTimes:
    """The run times of a kind's tasks that have completed."""

    def __init__(self) -> None:
        self.count = 0
        """The number of all these tasks."""
        self._latest: deque[float] = deque(maxlen=MEMORY_TASKS)
        self._sorted: list[float] = []

    def add(self, duration_s: float) -> None:
        """A task has completed."""
        self.count += 1
        self._latest.append(duration_s)
        self._sorted.clear()

    def find_share_below(self, age_s: float) -> float:
        """The share of the latest tasks that took less time."""
        if not self._sorted:
            self._sorted = sorted(self._latest)
        return bisect_left(self._sorted, age_s) / len(self._sorted)
