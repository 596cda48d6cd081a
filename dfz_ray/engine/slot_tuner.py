"""Connects the pool with the engine: brings the engine's observations to the pool, and changes the number of slots."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from dfz_ray.engine.ends import KindTimes
from dfz_ray.engine.engine_options import EngineOptions
from dfz_ray.engine.lease import HeldChunk
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.messages import Command, NotePoolChanged, PoolLimited
from dfz_ray.engine.pool import Pool, PoolLimits
from dfz_ray.engine.queue import Queue


class SlotTuner:
    """Lets a pool move the number of slots."""

    def __init__(
        self, options: EngineOptions, queue: Queue, lease_table: LeaseTable, set_slots: Callable[[int], None]
    ) -> None:
        self._pool = Pool(options.slots, options.pool or PoolLimits(), options.cores)
        self._width = options.width
        self._processes = options.processes
        self._queue = queue
        self._lease_table = lease_table
        self._set_slots = set_slots
        set_slots(self._pool.slots)

    def on_placed(self, now: float) -> None:
        """Ray has placed a lease."""
        self._pool.see(*self._count_active(), now)

    def on_chunk_ended(
        self, held: HeldChunk, times: Sequence[KindTimes], cpu_s: float | None, now: float
    ) -> list[Command]:
        """A chunk has ended."""
        began_at = now if held.begun_at is None else held.begun_at
        width = min(held.width, len(held.chunk.numbers))
        self._pool.see(*self._count_active(), now)
        self._pool.on_chunk(times, began_at, width, now, cpu_s)
        waiting = sum([lane.waiting for lane in self._queue.lanes])
        left_s = sum([lane.left_s for lane in self._queue.lanes]) / self._pool.slots
        return self._follow(self._pool.decide(waiting, left_s, now))

    def limit(self, event: PoolLimited, now: float) -> list[Command]:
        """The cluster holds another number of slots."""
        self._processes = event.processes
        return self._follow(self._pool.limit(PoolLimits(event.least, event.most), now))

    def find_needs(self) -> dict[int, int]:
        """The leases that each lane could use if the cluster held them: twice as many, if more may pay."""
        pool = self._pool
        # In thread mode the present processes may have room for more.
        leases = pool.slots if self._width == 1 else self._processes
        is_full = self._width == 1 or 2 * pool.slots > pool.limits.most
        wanted = 2 * leases if pool.wants_more and is_full else leases
        return share_out(wanted, {lane.number: lane.waiting + lane.leases for lane in self._queue.lanes})

    def _count_active(self) -> tuple[int, float]:
        """The slots that placed leases use, and those that could be used for all tasks."""
        lanes = self._queue.lanes
        starting = sum([lane.starting_slots for lane in lanes])
        reachable = sum([lane.capacity for lane in lanes if lane.waiting or lane.leases])
        return self._lease_table.used - starting, reachable * self._width

    def _follow(self, change: NotePoolChanged | None) -> list[Command]:
        if change is None:
            return []
        self._set_slots(change.slots)
        return [change]


def share_out(leases: int, open_tasks: Mapping[int, int]) -> dict[int, int]:
    """Share out leases among lanes, by the number of each lane's open tasks."""
    total = sum(open_tasks.values())
    return {lane: math.ceil(min(tasks, leases * tasks / total)) for lane, tasks in open_tasks.items() if tasks > 0}
