"""The number of slots as the pool would have it: what the engine sees, told to the pool, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dfz_ray.engine.hands import Hands
from dfz_ray.engine.learning import KindTimes
from dfz_ray.engine.lease import HeldChunk
from dfz_ray.engine.messages import Command, NotePoolChanged
from dfz_ray.engine.pool import Pool, PoolChange, PoolLimits
from dfz_ray.engine.queue import Queue


class AutoSlots:
    """Lets a pool move the number of slots.

    Args:
        pool: it decides.
        queue: what waits.
        hands: the leases that are out.
        set_slots: does it.
    """

    def __init__(self, pool: Pool, queue: Queue, hands: Hands, set_slots: Callable[[int], None]) -> None:
        self.pool = pool
        self._queue = queue
        self._hands = hands
        self._set_slots = set_slots

    def on_placed(self, now: float) -> None:
        """A lease is there."""
        self.pool.see(self._active, now)

    def on_chunk_ended(
        self, held: HeldChunk, times: Sequence[KindTimes], cpu_s: float | None, now: float
    ) -> list[Command]:
        """A chunk has ended that a worker had begun."""
        began_at = now if held.begun_at is None else held.begun_at
        self.pool.on_chunk(times, began_at, 1, self._active, now, cpu_s)
        waiting = sum(lane.waiting for lane in self._queue.lanes)
        left_s = sum(lane.left_s for lane in self._queue.lanes) / self.pool.slots
        return self._follow(self.pool.decide(waiting, left_s, now))

    def limit(self, limits: PoolLimits, now: float) -> list[Command]:
        """The cluster holds another number of slots."""
        return self._follow(self.pool.limit(limits, now))

    @property
    def wanted(self) -> int:
        """How many slots it would use if the cluster held them: twice as many as now, where more may pay."""
        return 2 * self.pool.slots if self.pool.wants_more else self.pool.slots

    @property
    def _active(self) -> int:
        """How many slots are in use, of leases that Ray has placed."""
        return len(self._hands.leases) - self._hands.starting

    def _follow(self, change: PoolChange | None) -> list[Command]:
        if change is None:
            return []
        self._set_slots(change.slots)
        return [NotePoolChanged(change.slots, change.reason)]
