"""The engine of one run: it takes in events, and answers with commands."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dfz_ray.engine.attempts import Attempts
from dfz_ray.engine.dispatch import Dispatch
from dfz_ray.engine.ends import sort_ends
from dfz_ray.engine.engine_options import EngineOptions
from dfz_ray.engine.lease_table import LeaseTable
from dfz_ray.engine.lifecycle import COMMITS, Lifecycle, find_range
from dfz_ray.engine.losses import Losses
from dfz_ray.engine.messages import (
    AnswerEnd,
    CancelAsked,
    ChunkBegan,
    ChunkEnded,
    Command,
    CommitCancellations,
    CommitEnds,
    CommitLosses,
    Event,
    KillLease,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    ManagerMeasured,
    OutcomesCommitted,
    PlacesWanted,
    PoolLimited,
    StopAsked,
    TasksSubmitted,
    TimePassed,
    WorkAsked,
    WorkerSpoiled,
)
from dfz_ray.engine.overview import KindCounts, KindOverview, LeaseOverview, view_leases
from dfz_ray.engine.places import Places
from dfz_ray.engine.preemption import find_victims
from dfz_ray.engine.queue import Queue
from dfz_ray.engine.room import keep_room
from dfz_ray.engine.slot_tuner import SlotTuner
from dfz_ray.engine.slots import Slots
from dfz_ray.engine.speculation import Speculation
from dfz_ray.engine.urgency import Urgency

__all__ = ["Engine", "EngineOptions"]

HISTORY = 50
"""An error shows so many of the last events."""
LOOK_S = 0.1
"""The time between two `TimePassed` while something may overrun its time."""
LATE_S = 1.0
"""If the last `TimePassed` was so long ago, reports may wait to be read: no worker is found overdue."""


class Engine:
    """Decides which task runs next, and keeps the state of each task.

    `handle(event, now)` returns the commands that follow. The caller executes them in order, and reports their results
    as further events; times are seconds of any one clock. At `wake_at` it reports that time has passed.
    """

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.tasks = Lifecycle(history=self._show_history)
        self.queue = Queue()
        self._kind_of = array("l")
        self._kind_counts = KindCounts(self._kind_of)
        self.lease_table = LeaseTable(self.tasks, self.queue, self._kind_of, options.first_chunk)
        self._slots = Slots(options.slots, options.target_s, options.width, self.lease_table, options.processes)
        self._is_wide = options.width > 1
        self._attempts = Attempts(
            lambda number: self.queue.kinds[self._kind_of[number]].policy, options.free_losses, options.seed
        )
        self._losses = Losses(self.queue, self.lease_table, self._attempts)
        self._speculation = Speculation(self.queue, self.lease_table, self._kind_of)
        self._urgency = Urgency(self.queue)
        self._places = Places(options, self.queue, self.lease_table, self._slots, self._urgency)
        self._dispatch = Dispatch(options, self.queue, self.lease_table, self._slots, self._urgency, self._places)
        self._auto = None if options.pool is None else SlotTuner(options, self.queue, self.lease_table, self.set_slots)
        self._ruled_out: dict[int, str] = {}
        """Lanes whose tasks can never run, each with the reason."""
        self._looked_at = 0.0
        self._recent: deque[tuple[float, Event]] = deque(maxlen=HISTORY)
        self._handlers: dict[type, Callable[[Any, float], list[Command]]] = {
            TasksSubmitted: self.on_tasks_submitted,
            ChunkBegan: self.on_chunk_began,
            ChunkEnded: self.on_chunk_ended,
            WorkAsked: self.on_work_asked,
            LeaseEnded: self.on_lease_ended,
            LeaseLost: self.on_lease_lost,
            WorkerSpoiled: self.on_worker_spoiled,
            OutcomesCommitted: self.on_outcomes_committed,
            LaneSized: self.on_lane_sized,
            PoolLimited: self.on_pool_limited,
            PlacesWanted: self.on_places_wanted,
            ManagerMeasured: self.on_manager_measured,
            CancelAsked: self.on_cancel_asked,
            TimePassed: self.on_time_passed,
            StopAsked: self.on_stop_asked,
        }

    @property
    def leases(self) -> int:
        """The number of leases."""
        return len(self.lease_table.leases)

    @property
    def slots_in_use(self) -> int:
        """The number of slots that the leases use."""
        return self.lease_table.used

    @property
    def slots(self) -> int:
        """The number of tasks that may execute at once."""
        return self._slots.count

    @property
    def kind_of(self) -> Sequence[int]:
        """The kind of every task."""
        return self._kind_of

    def view_kinds(self, now: float) -> list[KindOverview]:
        """The tasks of every kind, by state."""
        return self._kind_counts.view(self.queue, self.lease_table, now)

    def view_leases(self, now: float, most: int | None = None) -> list[LeaseOverview]:
        """The leases, and the chunk that each executes; at most so many: those that have taken longest."""
        return view_leases(self.queue, self.lease_table, self._kind_of, now, most)

    def set_slots(self, slots: int) -> None:
        """Change the number of tasks that may execute at once: surplus slots end as their leases ask for work."""
        self._slots.set(slots)
        while self._slots.are_too_few and (unplaced := [lane.unplaced for lane in self.queue.lanes if lane.unplaced]):
            self.lease_table.drop(max(next(reversed(ids)) for ids in unplaced))

    def spare(self, lease_id: int, now: float) -> bool:
        """Take back a kill that is not carried out yet; returns False if the lease is still overdue."""
        lease = self.lease_table.leases.get(lease_id)
        if lease is not None and lease.find_overdue(self.options.grace_s, now):
            return False
        if lease is not None:
            lease.killed = ""
            if not lease.ending:
                self.lease_table.leaving.discard(lease_id)
            lease.watch(self.options.grace_s)
        return True

    def may_make_room(self, now: float) -> bool:
        """True if leases linger, or have had their time: these end if others want their places."""
        return self._places.may_make_room(now)

    def find_needs(self) -> dict[int, int]:
        """The leases that each lane could use if the cluster held them; empty if the number of slots is fixed."""
        return {} if self._auto is None else self._auto.find_needs()

    @property
    def wake_at(self) -> float | None:
        """The time at which `TimePassed` is due; None if nothing depends on time alone."""
        if self._dispatch.is_stopped:
            return None
        due = self.queue.next_due
        if self.lease_table.lingering:
            due = min(self._places.next_due, math.inf if due is None else due)
        if self.queue.paused:
            due = min(*self.queue.paused.values(), math.inf if due is None else due)
        is_timed = self.queue.is_timed or self._speculation.is_on
        if self.lease_table.leases and (is_timed or self.lease_table.revoked or len(self.queue.priorities) > 1):
            return min(self._looked_at + LOOK_S, math.inf if due is None else due)
        return due

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in an event; returns the commands that follow."""
        self._recent.append((now, event))
        commands = self._handlers[type(event)](event, now)
        if self.lease_table.lingering:
            self._dispatch.serve_lingering(commands, now)
        self._dispatch.fill_slots(commands)
        return commands

    # --- events -----------------------------------------------------------------------------------------------------

    def on_tasks_submitted(self, event: TasksSubmitted, now: float) -> list[Command]:
        """New tasks wait, by kind."""
        for kind in event.kinds:
            if kind.policy.speculate and not self._is_wide:  # a thread of a shared process may not be ended
                self._speculation.add_kind(len(self.queue.kinds))
            self.queue.add_kind(*kind)
        first = len(self.tasks)
        self.tasks.add(len(event.kind_of), event.settled)
        self._kind_of.extend(event.kind_of)
        self._kind_counts.add(event.kind_of, event.settled)
        self._attempts.restore(event.charged, event.free_losses)
        if self._speculation.is_on:
            self._speculation.withdraw()
        by_kind = _sort_by_kind(event, first)
        for kind_number, numbers in by_kind.items():
            self.queue.put(kind_number, numbers, now)
        return self._fail_ruled_out({self.queue.kinds[kind_number].lane for kind_number in by_kind})

    def on_work_asked(self, event: WorkAsked, now: float) -> list[Command]:
        """A lease gets a chunk, has to ask again later, or ends."""
        lease = self.lease_table.leases.get(event.lease)
        if lease is None:
            return [AnswerEnd(event.lease)]
        lane = self.queue.lanes[lease.lane]
        if lease.asked_at is None:
            self.lease_table.place(event.lease, event.node, now)
            lane.deaths_before_start, lane.has_begun = 0, True
            if self._auto is not None:
                self._auto.on_placed(now)
        return self._dispatch.answer(event.lease, lease, lane, event.busy, now)

    def on_chunk_began(self, event: ChunkBegan, now: float) -> list[Command]:
        """The tasks of the chunk are running."""
        held = self.lease_table.find(event.lease, event.chunk)
        if held is not None:
            self.lease_table.begin(held, now)
            held.is_reported = True
            if self.queue.is_timed or self.lease_table.revoked:
                self.lease_table.leases[event.lease].watch(self.options.grace_s)
        return []

    def on_chunk_ended(self, event: ChunkEnded, now: float) -> list[Command]:
        """Executed tasks are committed, or tried again; tasks that were not executed go back."""
        held = self.lease_table.find(event.lease, event.chunk)
        if held is None:
            return [CommitEnds(event.lease, event.chunk, (), (), event.numbers)]
        self.lease_table.begin(held, now)
        lease = self.lease_table.leases[event.lease]
        self.lease_table.take_off(lease, event.chunk, now)
        if lease.held and self.queue.is_timed:  # its worker may be stopped before it reports that it has begun the next
            lease.watch(self.options.grace_s)
        if self._is_wide:
            self.lease_table.settle(lease)
            lease.longest_s = max(lease.longest_s, *event.durations_s, 0.0)
        ends = sort_ends(event, self.lease_table.release(held))
        others: list[Command] = []
        if self._speculation.is_on:
            ends, others = self._speculation.settle(event, ends, now + self.options.grace_s)
            self._speculation.learn(event, ends)
        times = ends.sort_times(self._kind_of, held.taken.kind)
        for of_kind in times:
            self.queue.learn(*of_kind)
        if ends.rest:
            self.lease_table.hand_back(ends.rest, True, now)
        completed, failures = ends.accepted, event.failures
        final: list[int] = []
        retried: list[int] = []
        if failures:
            completed = [number for number in ends.accepted if number not in failures]
            failed = {number: failures[number] for number in ends.accepted if number in failures}
            final, retried = self._charge_all(failed, now)
        commit = CommitEnds(event.lease, event.chunk, completed, final, ends.superseded, retried)
        changed = self._auto.on_chunk_ended(held, times, event.cpu_s, now) if self._auto is not None else []
        return [commit, *others, *changed, *self._fail_ruled_out({lease.lane})]

    def on_outcomes_committed(self, event: OutcomesCommitted, now: float) -> list[Command]:
        """Committed tasks are final."""
        for state, numbers in event.ended.items():
            self.tasks.move(numbers, COMMITS[state])
            self._kind_counts.end(state, numbers)
            self._attempts.forget(numbers)
        return []

    def on_lease_ended(self, event: LeaseEnded, now: float) -> list[Command]:
        """The lease's slot is free; tasks that it held and did not run go back."""
        lease = self.lease_table.drop(event.lease)
        if lease is None:
            return []
        self._speculation.on_gone(lease)
        for held in reversed(lease.held.values()):  # so that the first of them is due first again
            self.lease_table.hand_back(self.lease_table.release(held), held.begun_at is not None, now)
        return self._fail_ruled_out({lease.lane})

    def on_lease_lost(self, event: LeaseLost, now: float) -> list[Command]:
        """The lease's slot is free; the guilty task is charged, and all others go back."""
        lease = self.lease_table.drop(event.lease)
        if lease is None:
            return []
        if lease.asked_at is None:
            lane = self.queue.lanes[lease.lane]
            return [] if self._dispatch.is_stopped else self._losses.on_died_before_start(event, lane, now)
        left, notes = self._speculation.on_gone(lease, lease.killed or event.reason, event.message)
        # If the worker may have died of a task that is left to its other attempt, no other task is charged.
        is_free = self._dispatch.is_stopped or bool(left and not (event.executing and left.isdisjoint(event.executing)))
        commands = [*notes, *self._losses.on_lost(lease, event, is_free, now)]
        return commands + self._fail_ruled_out({lease.lane})

    def on_worker_spoiled(self, event: WorkerSpoiled, now: float) -> list[Command]:
        """The lease's slot is free; tasks that felt the change are executed again singly, all others go back."""
        lease = self.lease_table.drop(event.lease)
        if lease is None:
            return []
        _, notes = self._speculation.on_gone(lease, "state_changed", event.message)
        return [*notes, *self._losses.on_spoiled(lease, event, now), *self._fail_ruled_out({lease.lane})]

    def on_lane_sized(self, event: LaneSized, now: float) -> list[Command]:
        """A lane gets no more leases than the cluster can run; if it never could, its tasks fail at once."""
        lane = self.queue.get_lane(event.lane)
        if (lane.capacity, lane.shares_known) != (event.capacity, event.shares):
            lane.forget_room()
        lane.capacity, lane.shares_known = event.capacity, event.shares
        lane.seen = lane.seen or event.capacity > 0
        # A lane that a node could hold once may fit again: the node may only be restarting.
        self._ruled_out.pop(lane.number, None)
        if event.why_none and not lane.seen:
            self._ruled_out[lane.number] = event.why_none
        self.queue.changed.add(lane.number)
        while lane.unplaced and lane.leases > lane.capacity:
            self.lease_table.drop(next(reversed(lane.unplaced)))  # Ray can't place it
        return self._fail_ruled_out({lane.number})

    def on_pool_limited(self, event: PoolLimited, now: float) -> list[Command]:
        """There are at most as many slots as the cluster holds."""
        self._slots.spread(event.processes)
        return [] if self._auto is None else self._auto.limit(event, now)

    def on_places_wanted(self, event: PlacesWanted, now: float) -> list[Command]:
        """Leases that linger end at once; so do as many of the others as are wanted, at the ends of their chunks."""
        return self._places.want(event.places)

    def on_manager_measured(self, event: ManagerMeasured, now: float) -> list[Command]:
        """Chunks become large enough for the manager to keep up."""
        self._slots.measure(event.per_chunk_s)
        return []

    def on_cancel_asked(self, event: CancelAsked, now: float) -> list[Command]:
        """Waiting tasks are cancelled at once; so are tasks that a worker holds, which is asked to end them.

        A task that has ended, and whose outcome is on its way to the disk, keeps that outcome.
        """
        numbers = self.tasks.find_open() if event.numbers is None else set(event.numbers)
        cancelled = set(self.queue.remove(numbers))
        self.lease_table.doubled -= cancelled
        interrupts = self.lease_table.revoke(numbers, now + self.options.grace_s)
        cancelled.update(number for interrupt in interrupts for number in interrupt.numbers)
        return [CommitCancellations(sorted(cancelled)), *interrupts] if cancelled else []

    def on_time_passed(self, event: TimePassed, now: float) -> list[Command]:
        """Retries come due; workers that overrun a deadline, or hold a slot that others need more, are killed."""
        is_late = now - self._looked_at > LATE_S
        self._looked_at = now
        self.queue.resume_due(now)
        commands = self._fail_ruled_out(self.queue.put_due(now))
        commands.extend(self._places.end_overdue(now))
        if self._dispatch.is_stopped or is_late:
            return commands
        for lease_id, lease in self.lease_table.leases.items():
            if lease.look_at <= now and not lease.killed:
                lease.watch(self.options.grace_s)
                if why := lease.find_overdue(self.options.grace_s, now):
                    commands.append(self._kill(lease_id, why))
        if (after_s := self.options.preempt_after_s) is not None and len(self.queue.priorities) > 1:
            lowest = min((one for one, chunks in self.lease_table.priorities.items() if chunks), default=math.inf)
            width = self._slots.pace.width
            victims = find_victims(self.queue, self.lease_table.leases, lowest, after_s, now, width)
            commands.extend(self._kill(lease_id, "preempted") for lease_id in victims)
        if len(self.queue.priorities) > 1:
            self.queue.kept_for = keep_room(self.queue, now)
        if self._speculation.is_on and not self.queue.delayed and self._places.are_free:
            self._speculation.begin(self._slots.count - self.lease_table.used + len(self.lease_table.lingering), now)
        return commands

    def on_stop_asked(self, event: StopAsked, now: float) -> list[Command]:
        """No lease gets a chunk from now on."""
        self._dispatch.is_stopped = True
        self._speculation.withdraw()
        return self._places.end_lingering(list(self.lease_table.lingering))

    # --- decisions --------------------------------------------------------------------------------------------------

    def _charge_all(self, failures: Mapping[int, str], now: float) -> tuple[list[int], list[int]]:
        """Charge failed attempts; returns the tasks that have failed for good, and those that are tried again."""
        final: list[int] = []
        retried: list[int] = []
        for number, reason in failures.items():
            delay_s = self._attempts.charge(number, reason)
            (final if delay_s is None else retried).append(number)
            if delay_s is not None:
                self.lease_table.delay(number, now + delay_s)
        return final, retried

    def _kill(self, lease_id: int, why: str) -> KillLease:
        self.lease_table.leases[lease_id].killed = why
        self.lease_table.leaving.add(lease_id)
        return KillLease(lease_id, why)

    def _fail_ruled_out(self, lanes: set[int]) -> list[Command]:
        """The waiting tasks of lanes that no node can ever run fail."""
        commands: list[Command] = []
        for number in sorted(lanes.intersection(self._ruled_out)) if self._ruled_out else ():
            numbers = self.lease_table.clear(self.queue.lanes[number])
            if numbers:
                commands.append(CommitLosses("infeasible", dict.fromkeys(numbers, self._ruled_out[number])))
        return commands

    def _show_history(self) -> tuple[str, ...]:
        return tuple(f"{now:.6f} {event}" for now, event in self._recent)


def _sort_by_kind(event: TasksSubmitted, first: int) -> dict[int, Sequence[int]]:
    """The submitted tasks that are open, by kind; `first` is the number of the first task."""
    kinds = set(event.kind_of)
    if len(kinds) == 1 and not event.settled:
        return {kinds.pop(): range(first, first + len(event.kind_of))}
    end = first + len(event.kind_of)
    by_kind: defaultdict[int, list[int]] = defaultdict(list)
    for number, kind_number in enumerate(event.kind_of, first):
        if number not in event.settled:
            by_kind[kind_number].append(number)
    return {kind_number: find_range(numbers, end) or numbers for kind_number, numbers in by_kind.items()}
