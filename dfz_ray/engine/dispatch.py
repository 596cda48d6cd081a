"""Hands out work: the chunk that a lease gets when it asks, and the leases that start on free slots."""

from __future__ import annotations

import math

from dfz_ray.engine.engine_options import EngineOptions
from dfz_ray.engine.lease import Lease
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.messages import AnswerWait, Command, StartLease
from dfz_ray.engine.places import Places
from dfz_ray.engine.queue import Lane, Queue, Taken
from dfz_ray.engine.slots import Slots
from dfz_ray.engine.urgency import Urgency

LONG_S = 1.0
"""No chunk is handed out ahead of one whose tasks take longer: a higher priority would have to wait for it."""


class Dispatch:
    """Answers leases that ask for work, and starts leases."""

    def __init__(
        self,
        options: EngineOptions,
        queue: Queue,
        lease_table: LeaseTable,
        slots: Slots,
        urgency: Urgency,
        places: Places,
    ) -> None:
        self.is_stopped = False
        """True once no lease gets a chunk any more."""
        self._grace_s = options.grace_s
        self._is_wide = options.width > 1
        self._queue = queue
        self._table = lease_table
        self._slots = slots
        self._urgency = urgency
        self._places = places

    def answer(self, lease_id: int, lease: Lease, lane: Lane, busy: int, now: float) -> list[Command]:
        """Answer a lease that holds tasks for `busy` threads; a lease that lingers gets no answer yet."""
        if lease.ending or self.is_stopped or lease.killed or self._places.is_over(lease, now):
            return self._places.end(lease_id, lease)
        threads, idle = self._slots.decide(lease, lane, busy)
        if not threads:
            return self._places.end(lease_id, lease)
        suspects = self._queue.find_suspects(lane) if lane.suspects else None
        if lease.held and (suspects or lease.holds_suspects or (not idle and self._gets_none_ahead(lane, lease, now))):
            return self._wait(lease_id, lease, idle)
        taken: Taken | None
        if suspects:
            taken = self._table.take_suspects(lease.lane)
        else:
            held_s = 0.0 if idle else lease.ahead_s
            held = None if self._is_wide else self._table.measure_held(lease, now)
            taken = self._queue.take(lane, self._slots.pace, held_s, threads, idle or threads, held)
        if taken is None:
            return self._wait(lease_id, lease, idle) if lease.held else self._places.linger(lease_id, lease, lane, now)
        self._table.expect(lease, taken, now)
        is_begun = not (self._is_wide or lease.held) and (
            bool(lane.suspects) or self._holds_back(lane, lease, taken.likely_s, now)
        )
        given = self._table.give(lease_id, taken, now, bool(suspects), is_begun)
        lease.held[given.chunk.id].finds_slot = idle > 0
        if self._queue.is_timed:
            lease.watch(self._grace_s)
        return [given]

    def _gets_none_ahead(self, lane: Lane, lease: Lease, now: float) -> bool:
        """True if a lease gets its next chunk only when it has executed what it holds.

        So it is, too, if tasks with deadlines follow some without: if its worker were stopped as it begins the next
        ones, before it has reported that, it would seem to execute the others, for ever.
        """
        if self._holds_back(lane, lease, lease.ahead_s, now):
            return True
        if not self._queue.is_timed or (kind := self._queue.find_first(lane)) is None or kind.policy.timeout_s is None:
            return False
        return math.inf in [held.taken.limit_s for held in lease.held.values()]

    def serve_lingering(self, commands: list[Command], now: float) -> None:
        """Answer leases that linger if tasks wait in their lanes; the last one that had work is the first."""
        for lease_id in reversed(list(self._table.lingering)):
            lease = self._table.leases[lease_id]
            lane = self._queue.lanes[lease.lane]
            if lane.waiting or lane.suspects or self._slots.are_too_few:
                commands.extend(self.answer(lease_id, lease, lane, 0, now))
        commands.extend(self._places.end_other_lanes())

    def fill_slots(self, commands: list[Command]) -> None:
        """Start a lease for each free slot, as long as tasks wait."""
        while not self.is_stopped:
            is_full = self._places.are_used
            if is_full and (len(self._queue.priorities) < 2 or not self._table.starting):
                return
            kind = self._urgency.find_kind()
            if kind is None or (self._table.starting and kind.policy.priority < self._queue.kept_for):
                return
            if is_full:
                displaced = self._urgency.find_displaced(kind.policy.priority)
                if displaced is None:
                    return
                self._table.drop(displaced)
            lane = self._queue.lanes[kind.lane]
            width = self._slots.find_first_width(lane) if self._is_wide else 1
            spreads = lane.deaths_before_start > 0
            commands.append(StartLease(self._table.start(kind.lane, width), kind.lane, kind.name, width, spreads))

    def _holds_back(self, lane: Lane, lease: Lease, held_s: float, now: float) -> bool:
        """True if a lease that holds `held_s` of work gets no more yet: near a run's end, and if tasks are long."""
        kind = self._queue.find_first(lane)
        if kind is None:
            return True
        if not kind.times.known:  # its tasks may take for ever, and another slot may be free soon
            return kind.probing > 0 or lane.waiting < 2 * self._slots.count
        task_s, pace = kind.times.mean_s, self._slots.pace
        if task_s > LONG_S:
            return True
        if not pace.keeps_back(lane.left_s, held_s, task_s, lease.threads):
            return False
        if self._is_wide or not kind.times.are_even:
            return True
        return pace.even_share_s(lane.left_s, self._table.measure_held(lease, now), task_s) < task_s

    def _wait(self, lease_id: int, lease: Lease, idle: int) -> list[Command]:
        """A lease holds a chunk and gets no other one for now: its idle threads leave their slots."""
        if idle and lease.threads > idle:
            self._table.shrink(lease, lease.threads - idle)
        return [AnswerWait(lease_id, lease.threads)]
