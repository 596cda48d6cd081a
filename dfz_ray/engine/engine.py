"""The engine of one run: it is told what happened, and says what to do."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dfz_ray.engine.arrivals import sort_by_kind
from dfz_ray.engine.attempts import Attempts
from dfz_ray.engine.auto_slots import AutoSlots
from dfz_ray.engine.chunking import Pace
from dfz_ray.engine.ends import sort_ends
from dfz_ray.engine.hands import Hands
from dfz_ray.engine.learning import sum_times
from dfz_ray.engine.lease import Lease
from dfz_ray.engine.lifecycle import Happening, Lifecycle
from dfz_ray.engine.losses import Losses
from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
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
    PoolLimited,
    StartLease,
    StopAsked,
    TasksSubmitted,
    TimePassed,
    WorkAsked,
)
from dfz_ray.engine.pool import Pool, PoolLimits
from dfz_ray.engine.preemption import find_victims
from dfz_ray.engine.queue import Kind, Lane, Queue
from dfz_ray.engine.urgency import Urgency

HISTORY = 50
"""How many of the last events an error tells."""
LONG_S = 1.0
"""No chunk is handed out ahead of one whose tasks take longer: a higher priority would have to wait for it."""
LOOK_S = 0.1
"""How often the engine wants to be told the time while something may overrun it."""


@dataclass(frozen=True)
class EngineOptions:
    """What the engine goes by; times in seconds.

    `dfz_ray.specs.settings` explains those that users set.
    """

    slots: int
    """How many leases may be out at once."""
    target_s: float = 0.2
    """The work that a chunk aims at."""
    lease_s: float = 2.0
    """After this long a lease gets no further chunk."""
    grace_s: float = 1.0
    """How long a worker may take to let go of a task that is cancelled, or late, before it is killed."""
    preempt_after_s: float | None = 5.0
    """How long a task may wait behind preemptible ones of a lower priority; None: for ever."""
    free_losses: int = 5
    """How often a task may be lost with its node without being charged."""
    first_chunk: int = 0
    """Number of the first chunk; a run that goes on continues its numbers."""
    seed: int = 0
    """Of the delays before retries."""
    pool: PoolLimits | None = None
    """Between which numbers the slots follow what pays; None: they stay as many as there are."""
    cores: float = 1.0
    """How many tasks can compute at once, as far as is known: for the pool."""


class Engine:
    """Decides which task runs next, and where each stands.

    `handle(event, now)` returns the commands that follow. The caller executes them in order, and reports what
    came of them as further events; times are seconds of any one clock. At `wake_at` it tells that time has passed.
    """

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.tasks = Lifecycle(history=self._tell_history)
        self._pace = Pace(options.slots, options.target_s)
        self._queue = Queue()
        self._kind_of = array("l")
        self._hands = Hands(self.tasks, self._queue, self._kind_of, options.first_chunk)
        self._attempts = Attempts(lambda number: self._kind(number).policy, options.free_losses, options.seed)
        self._losses = Losses(self._queue, self._hands, self._attempts)
        self._urgency = Urgency(self._queue)
        self._auto = None if options.pool is None else self._follow(Pool(options.slots, options.pool, options.cores))
        self._ruled_out: dict[int, str] = {}
        """Lanes whose tasks can never run, and why."""
        self._stopped = False
        self._timed = False
        """Whether any kind has a deadline."""
        self._looked_at = 0.0
        self._recent: deque[tuple[float, Event]] = deque(maxlen=HISTORY)
        self._handlers: dict[type, Callable[[Any, float], list[Command]]] = {
            TasksSubmitted: self.on_tasks_submitted,
            ChunkBegan: self.on_chunk_began,
            ChunkEnded: self.on_chunk_ended,
            WorkAsked: self.on_work_asked,
            LeaseEnded: self.on_lease_ended,
            LeaseLost: self.on_lease_lost,
            OutcomesCommitted: self.on_outcomes_committed,
            LaneSized: self.on_lane_sized,
            PoolLimited: self.on_pool_limited,
            ManagerMeasured: self.on_manager_measured,
            CancelAsked: self.on_cancel_asked,
            TimePassed: self.on_time_passed,
            StopAsked: self.on_stop_asked,
        }

    @property
    def leases(self) -> int:
        """How many slots are in use."""
        return len(self._hands.leases)

    @property
    def slots(self) -> int:
        """How many leases may be out at once."""
        return self._pace.slots

    def set_slots(self, slots: int) -> None:
        """From now on so many leases may be out: others end as they ask for work."""
        self._pace = replace(self._pace, slots=slots)
        while len(self._hands.leases) > slots and (ids := [one for lane in self._queue.lanes for one in lane.unplaced]):
            self._hands.drop(max(ids))

    @property
    def wanted(self) -> int:
        """How many slots it could use if the cluster held them; 0 where their number does not follow what pays."""
        return 0 if self._auto is None else self._auto.wanted

    def open_tasks(self) -> dict[int, int]:
        """By lane: its tasks that wait, and the leases that it has."""
        return {lane.number: lane.waiting + lane.leases for lane in self._queue.lanes}

    @property
    def wake_at(self) -> float | None:
        """When the engine wants to be told that time has passed; None: nothing is due by time alone."""
        if self._stopped:
            return None
        due = self._queue.next_due
        if self._hands.leases and (self._timed or self._hands.revoked or len(self._queue.priorities) > 1):
            return min(self._looked_at + LOOK_S, math.inf if due is None else due)
        return due

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in what happened, and say what to do."""
        self._recent.append((now, event))
        commands = self._handlers[type(event)](event, now)
        self._fill_slots(commands)
        return commands

    # --- what happened ----------------------------------------------------------------------------------------------

    def on_tasks_submitted(self, event: TasksSubmitted, now: float) -> list[Command]:
        """New tasks wait, by kind."""
        for kind in event.kinds:
            self._queue.add_kind(*kind)
            self._timed = self._timed or kind.policy.timeout_s is not None
        first = len(self.tasks)
        self.tasks.add(len(event.kind_of), event.settled)
        self._kind_of.extend(event.kind_of)
        self._attempts.restore(event.charged, event.free_losses)
        by_kind = sort_by_kind(event, first)
        for kind_number, numbers in by_kind.items():
            self._queue.put(kind_number, numbers, now)
        return self._fail_ruled_out({self._queue.kinds[kind_number].lane for kind_number in by_kind})

    def on_work_asked(self, event: WorkAsked, now: float) -> list[Command]:
        """A lease gets a chunk, is told to ask again, or ends."""
        lease = self._hands.leases.get(event.lease)
        if lease is None:
            return [AnswerEnd(event.lease)]
        lane = self._queue.lanes[lease.lane]
        if lease.asked_at is None:
            self._hands.place(event.lease, now)
            lane.stillborn = 0
            if self._auto is not None:
                self._auto.on_placed(now)
        if lease.ending or self._stopped or lease.killed or self._is_over(lease, now):
            return self._end(event.lease, lease)
        suspects = self._queue.find_suspects(lane) if lane.suspects else None
        if lease.held and (suspects or self._holds_back(lane, lease) or lease.holds_suspects):
            return [AnswerWait(event.lease)]
        if suspects:
            return [self._hands.give(event.lease, self._hands.take_suspects(lease.lane), is_suspect=True)]
        taken = self._queue.take(lane, self._pace, lease.held_s)
        if taken is None:
            return [AnswerWait(event.lease)] if lease.held else self._end(event.lease, lease)
        return [self._hands.give(event.lease, taken)]

    def on_chunk_began(self, event: ChunkBegan, now: float) -> list[Command]:
        """The tasks of the chunk are running."""
        held = self._hands.find(event.lease, event.chunk)
        if held is not None:
            self._hands.begin(held, now)
            if self._timed or self._hands.revoked:
                self._hands.leases[event.lease].watch(held, self.options.grace_s)
        return []

    def on_chunk_ended(self, event: ChunkEnded, now: float) -> list[Command]:
        """What the worker executed is to be committed, or to be tried again; what it did not goes back."""
        held = self._hands.find(event.lease, event.chunk)
        if held is None:
            return [CommitEnds(event.lease, event.chunk, (), (), event.numbers)]
        self._hands.begin(held, now)
        lease = self._hands.leases[event.lease]
        del lease.held[event.chunk]
        self._queue.lanes[lease.lane].fruitless = 0
        ends = sort_ends(event, self._hands.release(held))
        times = sum_times(ends.accepted, ends.durations_s, held.taken.kind, self._kind_of)
        for kind in times:
            self._queue.learn(*kind)
        if ends.rest:
            self._hands.hand_back(ends.rest, True, now)
        completed, failures = ends.accepted, event.failures
        final: list[int] = []
        retried: list[int] = []
        if failures:
            completed = [number for number in ends.accepted if number not in failures]
            failed = {number: failures[number] for number in ends.accepted if number in failures}
            final, retried = self._charge_all(failed, now)
        commit = CommitEnds(event.lease, event.chunk, completed, final, ends.superseded, retried)
        changes = [] if self._auto is None else self._auto.on_chunk_ended(held, times, event.cpu_s, now)
        return [commit, *changes, *self._fail_ruled_out({lease.lane})]

    def on_outcomes_committed(self, event: OutcomesCommitted, now: float) -> list[Command]:
        """Committed tasks are final."""
        for numbers, happening in (
            (event.completed, Happening.RESULT_COMMITTED),
            (event.failed, Happening.FAILURE_COMMITTED),
            (event.cancelled, Happening.CANCELLATION_COMMITTED),
        ):
            if numbers:
                self.tasks.move(numbers, happening)
                self._attempts.forget(numbers)
        return []

    def on_lease_ended(self, event: LeaseEnded, now: float) -> list[Command]:
        """Its slot is free; what it was given and did not run goes back."""
        lease = self._hands.drop(event.lease)
        if lease is None:
            return []
        for held in reversed(lease.held.values()):  # so that the first of them is due first again
            self._hands.hand_back(self._hands.release(held), held.begun_at is not None, now)
        return self._fail_ruled_out({lease.lane})

    def on_lease_lost(self, event: LeaseLost, now: float) -> list[Command]:
        """Its slot is free; the task that is to blame is charged, and all others go back."""
        lease = self._hands.drop(event.lease)
        if lease is None:
            return []
        if lease.asked_at is None:
            return [] if self._stopped else self._losses.on_stillborn(event, self._queue.lanes[lease.lane])
        commands = self._losses.on_lost(lease, event, self._stopped, now)
        return commands + self._fail_ruled_out({lease.lane})

    def on_lane_sized(self, event: LaneSized, now: float) -> list[Command]:
        """A lane gets no more leases than the cluster can run; where it never could run one, its tasks fail at once."""
        lane = self._queue.get_lane(event.lane)
        lane.capacity = event.capacity
        lane.seen = lane.seen or event.capacity > 0
        # What a node could hold once it may hold again: its node may only be restarting.
        self._ruled_out.pop(lane.number, None)
        if event.why_none and not lane.seen:
            self._ruled_out[lane.number] = event.why_none
        self._queue.changed.add(lane.number)
        while lane.unplaced and lane.leases > lane.capacity:
            self._hands.drop(next(reversed(lane.unplaced)))  # Ray can't place it: it must not keep a slot from others
        return self._fail_ruled_out({lane.number})

    def on_pool_limited(self, event: PoolLimited, now: float) -> list[Command]:
        """The slots are as many as the cluster holds, at most."""
        return [] if self._auto is None else self._auto.limit(PoolLimits(event.least, event.most), now)

    def on_manager_measured(self, event: ManagerMeasured, now: float) -> list[Command]:
        """Chunks become large enough for the manager to keep up."""
        self._pace = replace(self._pace, manager_s=event.per_chunk_s)
        return []

    def on_cancel_asked(self, event: CancelAsked, now: float) -> list[Command]:
        """What waits is cancelled at once; so is what is in hand, and its worker is told to let go of it.

        What has ended, and is only on its way to the disk, stays as it ended.
        """
        numbers = self.tasks.find_open() if event.numbers is None else set(event.numbers)
        cancelled = self._queue.remove(numbers)
        interrupts = self._hands.revoke(numbers, now + self.options.grace_s)
        cancelled.extend(number for interrupt in interrupts for number in interrupt.numbers)
        return [CommitCancellations(sorted(cancelled)), *interrupts] if cancelled else []

    def on_time_passed(self, event: TimePassed, now: float) -> list[Command]:
        """Retries come due; workers that overrun a deadline, or hold what others need more, are killed."""
        self._looked_at = now
        commands = self._fail_ruled_out(self._queue.put_due(now))
        if self._stopped:
            return commands
        for lease_id, lease in self._hands.leases.items():
            if lease.look_at <= now and not lease.killed and (why := lease.find_overdue(self.options.grace_s, now)):
                commands.append(self._kill(lease_id, why))
        if (after_s := self.options.preempt_after_s) is not None and len(self._queue.priorities) > 1:
            lowest = min((one for one, chunks in self._hands.priorities.items() if chunks), default=math.inf)
            victims = find_victims(self._queue, self._hands.leases, lowest, after_s, now)
            commands.extend(self._kill(lease_id, "preempted") for lease_id in victims)
        return commands

    def on_stop_asked(self, event: StopAsked, now: float) -> list[Command]:
        """No lease gets anything from now on."""
        self._stopped = True
        return []

    # --- decisions --------------------------------------------------------------------------------------------------

    def _charge_all(self, failures: Mapping[int, str], now: float) -> tuple[list[int], list[int]]:
        """Charge failed attempts; returns the tasks that have failed for good, and those that are tried again."""
        final: list[int] = []
        retried: list[int] = []
        for number, reason in failures.items():
            delay_s = self._attempts.charge(number, reason)
            (final if delay_s is None else retried).append(number)
            if delay_s is not None:
                self._hands.delay(number, now + delay_s)
        return final, retried

    def _fill_slots(self, commands: list[Command]) -> None:
        """Start a lease for each free slot for which there is work."""
        while not self._stopped:
            is_full = len(self._hands.leases) >= self._pace.slots
            if is_full and (len(self._queue.priorities) < 2 or not self._hands.starting):
                return
            kind = self._urgency.find_kind()
            if kind is None:
                return
            if is_full:
                displaced = self._urgency.find_displaced(kind.policy.priority)
                if displaced is None:
                    return
                self._hands.drop(displaced)
            commands.append(StartLease(self._hands.start(kind.lane), kind.lane, kind.name))

    def _is_over(self, lease: Lease, now: float) -> bool:
        """Whether a lease has to make room: its time is up, or others are more urgent."""
        if lease.asked_at is not None and now - lease.asked_at >= self.options.lease_s:
            return True
        if len(self._hands.leases) - len(self._hands.leaving) > self._pace.slots:
            return True
        if len(self._queue.lanes) == 1:
            return False
        is_full = len(self._hands.leases) >= self._pace.slots
        return self._urgency.must_make_room(lease, is_full, len(self._hands.leaving))

    def _holds_back(self, lane: Lane, lease: Lease) -> bool:
        """Whether a lease that has a chunk in hand gets no other one yet: at the end, and where tasks are long."""
        kind = self._queue.find_first(lane)
        if kind is None:
            return True
        if not kind.times.known:  # if one of its tasks is out it may take for ever, and another slot be free soon
            return kind.probing > 0 or lane.waiting < 2 * self._pace.slots
        return kind.times.mean_s > LONG_S or self._pace.keeps_back(lane.left_s, lease.held_s, kind.times.mean_s)

    def _end(self, lease_id: int, lease: Lease) -> list[Command]:
        """A lease that holds nothing gives up its slot at once: its worker only has to return."""
        lease.ending = True
        if lease.held:
            self._hands.leaving.add(lease_id)
        else:
            self._hands.drop(lease_id)
        return [AnswerEnd(lease_id)]

    def _kill(self, lease_id: int, why: str) -> KillLease:
        self._hands.leases[lease_id].killed = why
        self._hands.leaving.add(lease_id)
        return KillLease(lease_id, why)

    def _fail_ruled_out(self, lanes: set[int]) -> list[Command]:
        """What waits in a lane fails, where no node can ever run it."""
        commands: list[Command] = []
        for number in sorted(lanes.intersection(self._ruled_out)) if self._ruled_out else ():
            numbers = self._queue.clear(self._queue.lanes[number])
            if numbers:
                commands.append(CommitLosses("infeasible", dict.fromkeys(numbers, self._ruled_out[number])))
        return commands

    def _follow(self, pool: Pool) -> AutoSlots:
        self.set_slots(pool.slots)
        return AutoSlots(pool, self._queue, self._hands, self.set_slots)

    def _kind(self, number: int) -> Kind:
        return self._queue.kinds[self._kind_of[number]]

    def _tell_history(self) -> tuple[str, ...]:
        return tuple(f"{now:.6f} {event}" for now, event in self._recent)
