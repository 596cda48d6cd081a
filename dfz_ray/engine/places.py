"""The places of leases in the cluster: how long one lingers that has nothing to do, and which ones end for others."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dfz_ray.engine.engine_options import EngineOptions
from dfz_ray.engine.lease import Lease
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.messages import AnswerEnd, Command
from dfz_ray.engine.queue import Lane, Queue
from dfz_ray.engine.slots import Slots
from dfz_ray.engine.urgency import Urgency

LEASE_TASKS = 20
"""A lease of several threads lasts for so many of its longest tasks: at its end its threads wait for the last one."""


class Places:
    """Ends leases: those that linger for too long, and those whose places other lanes, runs or programs wait for."""

    def __init__(
        self, options: EngineOptions, queue: Queue, lease_table: LeaseTable, slots: Slots, urgency: Urgency
    ) -> None:
        self._options = options
        self._queue = queue
        self._table = lease_table
        self._slots = slots
        self._urgency = urgency
        self._is_wide = options.width > 1
        self._wanted = 0
        """The places for which others wait in the cluster, less those that leases have given up since."""

    @property
    def are_used(self) -> bool:
        """True if no further lease may start."""
        return self._table.used >= self._slots.pace.slots or (self._is_wide and self._slots.are_spread)

    @property
    def are_free(self) -> bool:
        """True if nothing of this run, and nobody else, waits for a place in the cluster."""
        return not (self._wanted > 0 or self._table.starting) and self._urgency.find_kind() is None

    @property
    def next_due(self) -> float:
        """The time at which the first lease has lingered for too long; infinite if none lingers."""
        first = next(iter(self._table.lingering.values()), math.inf)
        return first + self._options.linger_s

    def may_make_room(self, now: float) -> bool:
        """True if leases linger, or have had their time: these end if others want their places."""
        return bool(self._table.lingering) or any(
            lease.asked_at is not None and now - lease.asked_at >= self._options.lease_s
            for lease in self._table.leases.values()
        )

    def want(self, places: int) -> list[Command]:
        """Others wait for so many places: leases that linger end at once, others at the ends of their chunks."""
        lingering = list(self._table.lingering)[:places]
        self._wanted = places - len(lingering)
        return self.end_lingering(lingering)

    def is_over(self, lease: Lease, now: float) -> bool:
        """True if a lease has to end: others wait for its place and its time is up, or they are more urgent."""
        has_lanes = len(self._queue.lanes) > 1
        if (self._wanted > 0 or has_lanes) and self._is_old(lease, now):
            if self._wanted > 0:
                self._wanted -= 1
                return True
            if self._urgency.is_awaited(self._queue.lanes[lease.lane], self._table.starting):
                return True
        return has_lanes and self._urgency.must_make_room(lease, self.are_used, len(self._table.leaving))

    def _is_old(self, lease: Lease, now: float) -> bool:
        age_s = 0.0 if lease.asked_at is None else now - lease.asked_at
        lasts_on = self._is_wide and age_s < LEASE_TASKS * lease.find_longest_s(now)
        return age_s >= self._options.lease_s and not lasts_on

    def linger(self, lease_id: int, lease: Lease, lane: Lane, now: float) -> list[Command]:
        """A lease has nothing to do: it waits for more work in its lane, or ends."""
        is_awaited = self._wanted > 0 or self._table.starting > lane.starting
        if self._options.linger_s <= 0 or is_awaited:
            return self.end(lease_id, lease)
        self._table.lingering.setdefault(lease_id, now)
        return []

    def end_overdue(self, now: float) -> list[Command]:
        """End the leases that have lingered for too long."""
        linger_s = self._options.linger_s
        return self.end_lingering([one for one, since in self._table.lingering.items() if now >= since + linger_s])

    def end_other_lanes(self) -> list[Command]:
        """End leases that linger if another lane waits: Ray may have no place for it beside them."""
        kind = self._urgency.find_kind() if self._table.lingering else None
        if kind is None:
            return []
        return self.end_lingering([one for one in self._table.lingering if self._table.leases[one].lane != kind.lane])

    def end_lingering(self, lease_ids: Iterable[int]) -> list[Command]:
        """End these leases, which linger."""
        return [command for lease_id in lease_ids for command in self.end(lease_id, self._table.leases[lease_id])]

    def end(self, lease_id: int, lease: Lease) -> list[Command]:
        """A lease that holds nothing gives up its slot at once: its worker only has to return."""
        lease.ending = True
        if lease.held:
            self._table.leaving.add(lease_id)
        else:
            self._table.drop(lease_id)
        return [AnswerEnd(lease_id)]
