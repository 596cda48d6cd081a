"""All leases of a run, and the chunks that they hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from dfz_ray.engine.chunking import HeldWork
from dfz_ray.engine.lease import HeldChunk, Lease
from dfz_ray.engine.lifecycle import Lifecycle, Transition
from dfz_ray.engine.messages import Chunk, GiveChunk, InterruptLease
from dfz_ray.engine.queue import Lane, Queue, Taken


class LeaseTable:
    """The leases and the tasks that they hold; tasks that are handed back go to the queue."""

    def __init__(self, tasks: Lifecycle, queue: Queue, kind_of: Sequence[int], first_chunk: int) -> None:
        self.leases: dict[int, Lease] = {}
        self.revoked: set[int] = set()
        """Cancelled tasks that a worker still holds: all that it reports of them is superseded."""
        self.doubled: set[int] = set()
        """Tasks with two attempts that leases hold, or that wait. They are running, and alone in their chunks."""
        self.leaving: set[int] = set()
        """Leases that end when the chunks that they hold have ended, or that are being killed."""
        self.priorities: Counter[int] = Counter()
        """The number of chunks that leases hold, by priority."""
        self.lingering: dict[int, float] = {}
        """Leases that wait for work, each with the time from which; the first one has waited for longest."""
        self.starting = 0
        """The number of leases that have not asked for work yet."""
        self.used = 0
        """The number of slots that the leases use."""
        self.next_lease = 0
        self._busy = 0
        """The number of leases that hold chunks."""
        self._free_at_s = 0.0
        """The sum of the times at which these will be free."""
        self._tasks = tasks
        self._queue = queue
        self._kind_of = kind_of
        self.next_chunk = first_chunk

    def start(self, lane_number: int, width: int = 1) -> int:
        """Start a lease of a lane with so many slots; returns its number."""
        lane = self._queue.lanes[lane_number]
        lease_id, self.next_lease = self.next_lease, self.next_lease + 1
        lane.leases += 1
        lane.unplaced[lease_id] = None
        lane.starting_slots += width
        self.used += width
        self.starting += 1
        self._queue.changed.add(lane_number)
        self.leases[lease_id] = Lease(lane_number, width, width)
        return lease_id

    def find_busy(self) -> set[int]:
        """The leases that hold chunks."""
        return {lease_id for lease_id, lease in self.leases.items() if lease.held}

    @property
    def has_wanted(self) -> bool:
        """True if a lease holds a task that is not cancelled."""
        return any(self.wanted(held.chunk.numbers) for lease in self.leases.values() for held in lease.held.values())

    def measure_held(self, lease: Lease, now: float) -> HeldWork:
        """The work that a lease holds now, and that all hold."""
        own_s = 0.0 if lease.free_at is None else max(0.0, lease.free_at - now)
        return HeldWork(own_s, max(0.0, self._free_at_s - self._busy * now))

    def expect(self, lease: Lease, taken: Taken, now: float) -> None:
        """A lease gets tasks: it will be free later."""
        if lease.free_at is None:
            self._busy += 1
            self._free_at_s += now
            lease.free_at = now
        free_at = max(now, lease.free_at) + (taken.likely_s if taken.likely_s < math.inf else 0.0)
        self._free_at_s += free_at - lease.free_at
        lease.free_at = free_at

    def take_off(self, lease: Lease, chunk: int, now: float) -> None:
        """A lease has executed a chunk, and begins the next one that it holds."""
        del lease.held[chunk]
        self._forget_free(lease)
        for ahead in lease.held.values():
            ahead.ready_at = now
            self.expect(lease, ahead.taken, now)

    def _forget_free(self, lease: Lease) -> None:
        if lease.free_at is not None:
            self._busy -= 1
            self._free_at_s = self._free_at_s - lease.free_at if self._busy else 0.0
            lease.free_at = None

    def place(self, lease_id: int, node: str, now: float) -> None:
        """A lease has asked for work for the first time: Ray has placed it."""
        lease = self.leases[lease_id]
        lane = self._queue.lanes[lease.lane]
        lease.asked_at, lease.node = now, node
        lane.forget_room()
        self._note_placed(lease_id, lease.width, lane)

    def _note_placed(self, lease_id: int, width: int, lane: Lane) -> None:
        del lane.unplaced[lease_id]
        lane.starting_slots -= width
        self.starting -= 1
        self._queue.changed.add(lane.number)

    def drop(self, lease_id: int) -> Lease | None:
        """Free the slots of a lease, if it has any."""
        lease = self.leases.pop(lease_id, None)
        if lease is not None:
            self._forget_free(lease)
            lane = self._queue.lanes[lease.lane]
            lane.leases -= 1
            self.used -= lease.width
            self.leaving.discard(lease_id)
            self.lingering.pop(lease_id, None)
            self._queue.changed.add(lane.number)
            if lease.asked_at is None:
                self._note_placed(lease_id, lease.width, lane)
            elif lane.leases == lane.starting:  # from now on deaths before the start say more about the lane
                lane.deaths_before_start = 0
                self._queue.resume(lane)
        return lease

    def allow(self, lease: Lease, threads: int) -> None:
        """Let a lease execute so many tasks at once; chunks that it got before may use more slots until they end."""
        if threads != lease.threads:
            lease.threads = threads
            for held in lease.held.values():
                held.width = max(held.width, threads)
                held.has_order = held.has_order and threads == 1
            self.settle(lease)

    def shrink(self, lease: Lease, threads: int) -> None:
        """Let a lease execute no more tasks at once than that, not even in the chunks that it holds."""
        lease.threads = threads
        for held in lease.held.values():
            held.width = threads
        self.settle(lease)

    def settle(self, lease: Lease) -> None:
        """Count the slots of a lease: the most that it may use now, or that a chunk which it holds may use."""
        width = max([lease.threads, *[held.width for held in lease.held.values()]])
        self.used += width - lease.width
        lease.width = width

    def give(
        self, lease_id: int, taken: Taken, now: float, is_suspect: bool = False, is_begun: bool = False
    ) -> GiveChunk:
        """Give a chunk to a lease; `is_begun` if its worker begins it at once."""
        chunk = Chunk(self.next_chunk, taken.numbers, taken.budget_s)
        self.next_chunk += 1
        lease = self.leases[lease_id]
        threads = lease.threads
        held = lease.held[chunk.id] = HeldChunk(
            chunk, taken, now, is_suspect=is_suspect, width=threads, has_order=threads == 1
        )
        self.lingering.pop(lease_id, None)
        lease.served += 1
        self.priorities[taken.priority] += 1
        if is_begun:
            self.begin(held, now)
        return GiveChunk(lease_id, chunk, lease.threads, is_begun)

    def find(self, lease_id: int, chunk: int) -> HeldChunk | None:
        """A chunk, if the lease holds it."""
        lease = self.leases.get(lease_id)
        return lease.held.get(chunk) if lease else None

    def begin(self, held: HeldChunk, now: float) -> None:
        """A worker began a chunk."""
        if held.begun_at is None:
            numbers = self.wanted(held.chunk.numbers)
            if self.doubled:
                numbers = [number for number in numbers if number not in self.doubled]
            self._tasks.move(numbers, Transition.BEGAN)
            held.begun_at = now

    def wanted(self, numbers: Sequence[int]) -> Sequence[int]:
        """The tasks among these that are not cancelled."""
        return [number for number in numbers if number not in self.revoked] if self.revoked else numbers

    def revoke(self, numbers: set[int], kill_at: float) -> list[InterruptLease]:
        """Ask workers to end tasks that were cancelled; workers that still have them at `kill_at` are killed."""
        interrupts = []
        for lease_id, lease in self.leases.items():
            cancelled = []
            for held in lease.held.values():
                mine = [number for number in self.wanted(held.chunk.numbers) if number in numbers]
                if mine:
                    held.kill_at = min(held.kill_at, kill_at)
                    lease.look_at = min(lease.look_at, kill_at)
                    cancelled.extend(mine)
            if cancelled:
                interrupts.append(InterruptLease(lease_id, cancelled))
        for interrupt in interrupts:
            self.revoked.update(interrupt.numbers)
        return interrupts

    def release(self, held: HeldChunk) -> Sequence[int]:
        """No lease holds a chunk any more; returns those of its tasks that are still wanted."""
        self.priorities[held.taken.priority] -= 1
        numbers = held.chunk.numbers
        wanted = self.wanted(numbers)
        if len(wanted) < len(numbers):
            for number in self.revoked.intersection(numbers):
                self.probe_ended(number)
            twice = self.doubled.intersection(numbers)  # the other attempt is revoked as well
            self.doubled -= twice
            self.revoked.difference_update(set(numbers) - twice)
        return wanted

    def leave_to_other(self, number: int) -> None:
        """One of a task's two attempts is over, whose chunk no lease holds any more: the other one goes on."""
        self.doubled.discard(number)
        if not any(number in held.chunk.numbers for lease in self.leases.values() for held in lease.begun()):
            self._tasks.move([number], Transition.HANDED_BACK)

    def clear(self, lane: Lane) -> list[int]:
        """Take out everything that waits in a lane; returns the tasks that have no attempt left."""
        numbers = self._queue.clear(lane)
        twice = self.doubled.intersection(numbers)
        self.doubled -= twice
        return [number for number in numbers if number not in twice]

    def hand_back(self, numbers: Sequence[int], begun: bool, now: float) -> None:
        """Let tasks of a released chunk wait again, uncharged."""
        if begun:
            self._tasks.move(numbers, Transition.HANDED_BACK)
        by_kind: dict[int, list[int]] = {}
        for number in numbers:
            by_kind.setdefault(self._kind_of[number], []).append(number)
        for kind_number, own in by_kind.items():
            self._queue.probe_ended(kind_number)
            self._queue.put_back(kind_number, own, now)

    def delay(self, number: int, due: float) -> None:
        """Let a task of a released chunk wait again from a time on."""
        self._tasks.move([number], Transition.HANDED_BACK)
        self.probe_ended(number)
        self._queue.delay(self._kind_of[number], number, due)

    def probe_ended(self, number: int) -> None:
        """Note that the execution of a task brought no run time of its kind."""
        self._queue.probe_ended(self._kind_of[number])

    def suspect(self, numbers: Sequence[int], begun: bool) -> None:
        """Run tasks of a released chunk in halves, each by itself, because one of them kills its worker."""
        if begun:
            self._tasks.move(numbers, Transition.HANDED_BACK)
        for number in numbers:
            self.probe_ended(number)
        half = (len(numbers) + 1) // 2
        for group in (numbers[:half], numbers[half:]):
            if group:
                self._queue.add_suspects(self._kind_of[group[0]], [list(group)])

    def suspect_each(self, numbers: Sequence[int]) -> None:
        """Run each task of a released chunk by itself, because one of them changes the state of its process."""
        self._tasks.move(numbers, Transition.HANDED_BACK)
        by_kind: dict[int, list[list[int]]] = {}
        for number in numbers:
            self.probe_ended(number)
            by_kind.setdefault(self._kind_of[number], []).append([number])
        for kind_number, groups in by_kind.items():
            self._queue.add_suspects(kind_number, groups)

    def take_suspects(self, lane_number: int) -> Taken:
        """The next suspects of a lane; they run without a time budget, so that the guilty task is found."""
        self._queue.changed.add(lane_number)
        numbers = self._queue.lanes[lane_number].suspects.popleft().numbers
        policies = [self._queue.kinds[self._kind_of[number]].policy for number in numbers]
        limit_s = sum(math.inf if policy.timeout_s is None else policy.timeout_s for policy in policies)
        is_preemptible = all(policy.preemptible for policy in policies)
        return Taken(numbers, math.inf, limit_s, max(policy.priority for policy in policies), is_preemptible)
