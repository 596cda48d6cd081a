"""The engine of one run: it is told what happened, and says what to do."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dfz_ray.engine.chunking import Pace
from dfz_ray.engine.lifecycle import Happening, Lifecycle
from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    Chunk,
    ChunkBegan,
    ChunkEnded,
    Command,
    CommitEnds,
    CommitLosses,
    Event,
    GiveChunk,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    ManagerMeasured,
    NoteAttemptsLost,
    OutcomesCommitted,
    StartLease,
    StopAsked,
    TaskEnd,
    TasksSubmitted,
    WorkAsked,
)
from dfz_ray.engine.queue import Lane, Queue, Taken

HISTORY = 50
"""How many of the last events an error tells."""
STILLBORN_LIMIT = 5
"""A lane is given up when so many of its workers in a row, each started after the last one's death, never asked."""


@dataclass(slots=True)
class _HeldChunk:
    """A chunk in the hands of a lease."""

    chunk: Chunk
    begun: bool = False
    is_suspect: bool = False


@dataclass(slots=True)
class _Lease:
    """A slot in use."""

    lane: int
    asked_at: float | None = None
    """When it first asked for work: until then Ray has not placed it."""
    held: dict[int, _HeldChunk] = field(default_factory=dict)
    ending: bool = False


class Engine:
    """Decides which task runs next, and where each stands.

    `handle(event, now)` returns the commands that follow. The caller executes them in order, and reports what
    came of them as further events; times are seconds of any one clock.

    Args:
        slots: how many leases may be out at once.
        target_s: the work that a chunk aims at.
        lease_s: after this long a lease gets no further chunk.
        first_chunk: number of the first chunk; a run that goes on continues its numbers.
    """

    def __init__(self, slots: int, target_s: float = 0.1, lease_s: float = 2.0, first_chunk: int = 0) -> None:
        self.tasks = Lifecycle(history=self._tell_history)
        self._pace = Pace(slots, target_s)
        self._lease_s = lease_s
        self._queue = Queue()
        self._kind_of = array("l")
        self._leases: dict[int, _Lease] = {}
        self._next_lease = 0
        self._next_chunk = first_chunk
        self._stopped = False
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
            ManagerMeasured: self.on_manager_measured,
            StopAsked: self.on_stop_asked,
        }

    @property
    def leases(self) -> int:
        """How many slots are in use."""
        return len(self._leases)

    @property
    def slots(self) -> int:
        """How many leases may be out at once."""
        return self._pace.slots

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
            self._queue.add_kind(kind.name, kind.lane)
        first = len(self.tasks)
        self.tasks.add(len(event.kind_of), event.settled)
        self._kind_of.extend(event.kind_of)
        by_kind: dict[int, list[int]] = {}
        for number, kind_number in enumerate(event.kind_of, first):
            if number not in event.settled:
                by_kind.setdefault(kind_number, []).append(number)
        for kind_number, numbers in by_kind.items():
            self._queue.put(kind_number, numbers)
        lanes = {self._queue.kinds[kind_number].lane for kind_number in by_kind}
        return [command for lane in sorted(lanes) for command in self._fail_ruled_out(lane)]

    def on_work_asked(self, event: WorkAsked, now: float) -> list[Command]:
        """A lease gets a chunk, is told to ask again, or ends."""
        lease = self._leases.get(event.lease)
        if lease is None:
            return [AnswerEnd(event.lease)]
        lane = self._queue.lanes[lease.lane]
        if lease.asked_at is None:
            lease.asked_at = now
            lane.starting -= 1
            lane.stillborn = 0
        if lease.ending or self._stopped or self._is_over(lease, now):
            return self._end(event.lease, lease)
        if lease.held and (lane.suspects or self._is_tail(lane) or self._holds_suspect(lease)):
            return [AnswerWait(event.lease)]
        if lane.suspects:
            group = Taken(lane.suspects.popleft(), math.inf)  # run to its end: only so is it known who is guilty
            return [self._give(event.lease, lease, group, is_suspect=True)]
        taken = self._queue.take(lane, self._pace)
        if taken is None:
            return [AnswerWait(event.lease)] if lease.held else self._end(event.lease, lease)
        return [self._give(event.lease, lease, taken)]

    def on_chunk_began(self, event: ChunkBegan, now: float) -> list[Command]:
        """The tasks of the chunk are running."""
        held = self._find_held(event.lease, event.chunk)
        if held is not None and not held.begun:
            self.tasks.move(held.chunk.numbers, Happening.BEGAN)
            held.begun = True
        return []

    def on_chunk_ended(self, event: ChunkEnded, now: float) -> list[Command]:
        """What the worker executed is to be committed; what it did not goes back."""
        held = self._find_held(event.lease, event.chunk)
        if held is None:
            late = [end.number for end in event.ends]
            return [CommitEnds(event.lease, event.chunk, (), (), late)]
        self.on_chunk_began(ChunkBegan(event.lease, event.chunk), now)
        del self._leases[event.lease].held[event.chunk]
        mine = set(held.chunk.numbers)
        completed: list[int] = []
        failed: list[int] = []
        superseded: list[int] = []
        for end in event.ends:
            if end.number not in mine:
                superseded.append(end.number)
                continue
            mine.discard(end.number)
            (completed if end.succeeded else failed).append(end.number)
        self._learn([end for end in event.ends if end.number not in superseded] if superseded else event.ends)
        if mine:
            self.tasks.move(list(mine), Happening.HANDED_BACK)
            self._put_back([number for number in held.chunk.numbers if number in mine])
        commit = CommitEnds(event.lease, event.chunk, completed, failed, superseded)
        return [commit, *self._fail_ruled_out(self._leases[event.lease].lane)]

    def on_outcomes_committed(self, event: OutcomesCommitted, now: float) -> list[Command]:
        """Committed tasks are final."""
        self.tasks.move(event.completed, Happening.RESULT_COMMITTED)
        self.tasks.move(event.failed, Happening.FAILURE_COMMITTED)
        return []

    def on_lease_ended(self, event: LeaseEnded, now: float) -> list[Command]:
        """Its slot is free; what it was given and did not run goes back."""
        lease = self._drop(event.lease)
        if lease is None:
            return []
        for held in reversed(lease.held.values()):  # so that the first of them is due first again
            self._hand_back(held)
        return self._fail_ruled_out(lease.lane)

    def on_lease_lost(self, event: LeaseLost, now: float) -> list[Command]:
        """Everything that the worker may have begun is suspect, and is run in halves until the guilty task is alone.

        A task is charged only when nothing else was in the worker's hands: the message that it had begun the next
        chunk may have died with it. After a stop none is charged: the manager itself kills what has not ended.
        """
        lease = self._drop(event.lease)
        if lease is None:
            return []
        if lease.asked_at is None:
            return self._on_stillborn(event, self._queue.lanes[lease.lane])
        held = list(lease.held.values())
        if len(held) == 1 and len(held[0].chunk.numbers) == 1 and not self._stopped:
            number = held[0].chunk.numbers[0]
            self._queue.probe_ended(self._kind_of[number])
            return [CommitLosses("worker_crashed", {number: event.message}, held[0].chunk.id)]
        commands: list[Command] = []
        for position, one in enumerate(held):
            commands.append(NoteAttemptsLost(one.chunk.id, one.chunk.numbers, event.message))
            self._hand_back(one, is_suspect=position == 0 or one.begun)
        return commands + self._fail_ruled_out(lease.lane)

    def _on_stillborn(self, event: LeaseLost, lane: Lane) -> list[Command]:
        """Where worker after worker dies before it asks for work, as its domain is loaded, say, no task can begin."""
        if event.lease < lane.replaced_from:
            return []  # one fault may kill many at once
        lane.stillborn += 1
        lane.replaced_from = self._next_lease
        numbers = self._queue.clear(lane) if lane.stillborn >= STILLBORN_LIMIT else []
        message = f"{lane.stillborn} workers in a row died before they could begin a task: {event.message}"
        return [CommitLosses("worker_crashed", dict.fromkeys(numbers, message))] if numbers else []

    def on_lane_sized(self, event: LaneSized, now: float) -> list[Command]:
        """A lane gets no more leases than the cluster can run; where it never could run one, its tasks fail at once."""
        lane = self._queue.get_lane(event.lane)
        lane.capacity = event.capacity
        lane.seen = lane.seen or event.capacity > 0
        # What a node could hold once it may hold again: its node may only be restarting.
        lane.ruled_out = event.why_none if not lane.seen else None
        if event.capacity == 0:
            for lease_id, lease in list(self._leases.items()):
                if lease.lane == lane.number and lease.asked_at is None:
                    self._drop(lease_id)  # Ray can't place it: it must not keep a slot from others
        return self._fail_ruled_out(lane.number)

    def on_manager_measured(self, event: ManagerMeasured, now: float) -> list[Command]:
        """Chunks become large enough for the manager to keep up."""
        self._pace = Pace(self._pace.slots, self._pace.target_s, event.per_chunk_s)
        return []

    def on_stop_asked(self, event: StopAsked, now: float) -> list[Command]:
        """No lease gets anything from now on."""
        self._stopped = True
        return []

    # --- decisions --------------------------------------------------------------------------------------------------

    def _fill_slots(self, commands: list[Command]) -> None:
        """Start a lease for each free slot for which there is work."""
        while len(self._leases) < self._pace.slots and not self._stopped:
            lane = self._find_lane()
            if lane is None:
                return
            kind = self._queue.find_first(lane)
            name = kind.name if kind else self._queue.kinds[self._kind_of[lane.suspects[0][0]]].name
            self._leases[self._next_lease] = _Lease(lane.number)
            lane.leases += 1
            lane.starting += 1
            commands.append(StartLease(self._next_lease, lane.number, name))
            self._next_lease += 1

    def _find_lane(self) -> Lane | None:
        """The lane that is due next, of those with more work than leases that are still to ask for it."""
        best, best_rank = None, (9, 0.0)
        for lane in self._queue.lanes:
            if lane.leases >= lane.capacity or lane.waiting + len(lane.suspects) <= lane.starting:
                continue
            kind = self._queue.find_first(lane)
            rank = kind.rank if kind else (0, 0.0)
            if rank[1] == 0.0:  # among the unknown, the lane with the fewest leases: so every pace is known early
                rank = (rank[0], float(lane.leases))
            else:  # a lane with much to do for each of its leases is as urgent as one with a long task
                rank = (rank[0], min(rank[1], -lane.left_s / (lane.leases + 1)))
            if rank < best_rank:
                best, best_rank = lane, rank
        return best

    def _is_over(self, lease: _Lease, now: float) -> bool:
        """Whether a lease has to make room: its time is up, or an unknown kind elsewhere waits for a first try."""
        if lease.asked_at is not None and now - lease.asked_at >= self._lease_s:
            return True
        if len(self._leases) < self._pace.slots:
            return False
        mine = self._queue.find_first(self._queue.lanes[lease.lane])
        if mine is None or mine.rank[0] == 0:
            return False
        firsts = (self._queue.find_first(lane) for lane in self._queue.lanes if not lane.leases and lane.capacity)
        wanted = sum(kind is not None and kind.rank[0] == 0 for kind in firsts)
        return wanted > 0 and wanted > sum(other.ending for other in self._leases.values())

    def _is_tail(self, lane: Lane) -> bool:
        kind = self._queue.find_first(lane)
        if kind is None:
            return True
        if not kind.times.known:
            return lane.waiting < 2 * self._pace.slots
        return self._pace.is_tail(lane.left_s, kind.times.mean_s)

    def _holds_suspect(self, lease: _Lease) -> bool:
        return any(held.is_suspect for held in lease.held.values())

    def _give(self, lease_id: int, lease: _Lease, taken: Taken, is_suspect: bool = False) -> GiveChunk:
        chunk = Chunk(self._next_chunk, taken.numbers, taken.budget_s)
        self._next_chunk += 1
        lease.held[chunk.id] = _HeldChunk(chunk, is_suspect=is_suspect)
        return GiveChunk(lease_id, chunk)

    def _end(self, lease_id: int, lease: _Lease) -> list[Command]:
        """A lease that holds nothing gives up its slot at once: its worker only has to return."""
        lease.ending = True
        if not lease.held:
            self._drop(lease_id)
        return [AnswerEnd(lease_id)]

    def _drop(self, lease_id: int) -> _Lease | None:
        lease = self._leases.pop(lease_id, None)
        if lease is not None:
            lane = self._queue.lanes[lease.lane]
            lane.leases -= 1
            lane.starting -= lease.asked_at is None
        return lease

    def _hand_back(self, held: _HeldChunk, is_suspect: bool = False) -> None:
        """The tasks of a chunk wait again, uncharged; suspects in halves, each to be run by itself."""
        numbers = list(held.chunk.numbers)
        if held.begun:
            self.tasks.move(numbers, Happening.HANDED_BACK)
        if not is_suspect:
            return self._put_back(numbers)
        for number in numbers:
            self._queue.probe_ended(self._kind_of[number])
        half = (len(numbers) + 1) // 2
        lane = self._queue.lanes[self._queue.kinds[self._kind_of[numbers[0]]].lane]
        lane.suspects.extend(group for group in (numbers[:half], numbers[half:]) if group)
        return None

    def _put_back(self, numbers: Sequence[int]) -> None:
        by_kind: dict[int, list[int]] = {}
        for number in numbers:
            by_kind.setdefault(self._kind_of[number], []).append(number)
        for kind_number, own in by_kind.items():
            self._queue.probe_ended(kind_number)
            self._queue.put_back(kind_number, own)

    def _learn(self, ends: Sequence[TaskEnd]) -> None:
        sums: dict[int, list[float]] = {}
        for number, _, duration_s in ends:
            entry = sums.setdefault(self._kind_of[number], [0, 0.0, 0.0])
            entry[0] += 1
            entry[1] += duration_s
            entry[2] += duration_s * duration_s
        for kind_number, (count, total_s, squares) in sums.items():
            self._queue.learn(kind_number, int(count), total_s, squares)

    def _fail_ruled_out(self, lane_number: int) -> list[Command]:
        """What waits in a lane fails, where no node can ever run it."""
        lane = self._queue.lanes[lane_number]
        if lane.ruled_out is None:
            return []
        numbers = self._queue.clear(lane)
        return [CommitLosses("infeasible", dict.fromkeys(numbers, lane.ruled_out))] if numbers else []

    def _find_held(self, lease_id: int, chunk: int) -> _HeldChunk | None:
        lease = self._leases.get(lease_id)
        return lease.held.get(chunk) if lease else None

    def _tell_history(self) -> tuple[str, ...]:
        return tuple(f"{now:.6f} {event}" for now, event in self._recent)
