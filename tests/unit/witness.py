"""An engine whose every answer is checked."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dfz_ray.engine.engine import Engine
from dfz_ray.engine.lifecycle import State
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
    NoteAttemptsLost,
    OutcomesCommitted,
    StartLease,
    StopAsked,
    TasksSubmitted,
    WorkAsked,
)

Answer = GiveChunk | AnswerWait | AnswerEnd

FEW_LANES_AND_KINDS = 60
"""With more of them the lanes' books are compared after every hundredth event only."""


class Handed(NamedTuple):
    """A chunk as it was handed out."""

    at: float
    lease: int
    numbers: Sequence[int]
    ahead: bool
    """The lease had another one in hand."""
    left: int
    """How many tasks waited, this chunk's included."""


class Witness:
    """An engine, and books about it that are kept from its events and commands alone and compared after every event."""

    def __init__(self, slots: int, target_s: float = 0.1, lease_s: float = 2.0) -> None:
        self.engine = Engine(slots, target_s, lease_s)
        self.kind_of: list[int] = []
        self.lane_of_kind: list[int] = []
        self.lane_of_lease: dict[int, int] = {}
        """Of every lease that was ever started."""
        self.out: set[int] = set()
        """Leases that hold a slot."""
        self.placed: set[int] = set()
        """Leases that have asked for work."""
        self.held: dict[int, dict[int, Chunk]] = {}
        self.chunk_of: dict[int, int] = {}
        """Task: the one chunk in hand that it is in."""
        self.running: set[int] = set()
        self.capacity: dict[int, float] = {}
        self.outcome: dict[int, str] = {}
        """Task: `completed`, `failed`, or why it is lost, from the moment at which that is to be committed."""
        self.states: Counter[State] = Counter()
        self.attempts_lost: Counter[int] = Counter()
        self.superseded: Counter[int] = Counter()
        self.handed: list[Handed] = []
        self.messages: dict[int, str] = {}
        """Task: the message of its loss."""
        self.stopped = False
        self.events = 0
        self._owed: tuple[list[int], list[int]] = ([], [])
        self._fallen: set[int] = set()
        """What was running before this event and is in nobody's hands since."""
        self._chunk_ids: set[int] = set()

    def tell(self, event: Event, now: float = 0.0) -> list[Command]:
        """Tell the engine something, check what it answers, and hand that on."""
        self._fallen.clear()
        ended = self._note_event(event)
        commands = self.engine.handle(event, now)
        self._check_answers(event, commands)
        for command in commands:
            self._note_command(command, event, ended, now)
        self._check_counts()
        self.events += 1
        if len(self.lane_of_kind) + len(self.capacity) <= FEW_LANES_AND_KINDS or self.events % 100 == 0:
            self.check_lanes()
        return commands

    def ask(self, lease: int, now: float = 0.0) -> Answer:
        """Ask for work."""
        return next(command for command in self.tell(WorkAsked(lease), now) if isinstance(command, Answer))

    def commit(self, now: float = 0.0) -> None:
        """What is to be committed is on disk."""
        (completed, failed), self._owed = self._owed, ([], [])
        if completed or failed:
            self.tell(OutcomesCommitted(completed, failed), now)

    # --- books from events ------------------------------------------------------------------------------------------

    def _note_event(self, event: Event) -> Chunk | None:
        match event:
            case TasksSubmitted():
                self.lane_of_kind.extend(kind.lane for kind in event.kinds)
                self.kind_of.extend(event.kind_of)
                self.states[State.PENDING] += len(event.kind_of)
            case WorkAsked():
                self.placed.update({event.lease} & self.out)
            case ChunkBegan():
                self._begin(self.held.get(event.lease, {}).get(event.chunk))
            case ChunkEnded():
                chunk = self.held.get(event.lease, {}).pop(event.chunk, None)
                self._begin(chunk)
                named = {end.number for end in event.ends}
                self._release(chunk, lambda number: number not in named)
                return chunk
            case LeaseEnded() | LeaseLost():
                self.out.discard(event.lease)
                for chunk in self.held.pop(event.lease, {}).values():
                    self._release(chunk, lambda number: True)
            case LaneSized():
                self.capacity[event.lane] = event.capacity
                if not event.capacity:  # a call that Ray has not placed, and can't, holds no slot
                    self.out -= {one for one in self.out - self.placed if self.lane_of_lease[one] == event.lane}
            case OutcomesCommitted():
                for number in itertools.chain(event.completed, event.failed):
                    self.states[State.RUNNING if number in self.running else State.PENDING] -= 1
                    self.running.discard(number)
                self.states[State.COMPLETED] += len(event.completed)
                self.states[State.FAILED] += len(event.failed)
            case StopAsked():
                self.stopped = True
        return None

    def _begin(self, chunk: Chunk | None) -> None:
        self._run(set(chunk.numbers) - self.running if chunk else set())

    def _run(self, numbers: set[int]) -> None:
        self.running |= numbers
        self.states[State.PENDING] -= len(numbers)
        self.states[State.RUNNING] += len(numbers)

    def _release(self, chunk: Chunk | None, goes_back: Callable[[int], bool]) -> None:
        for number in chunk.numbers if chunk else ():
            del self.chunk_of[number]
            if goes_back(number) and number in self.running:
                self.running.discard(number)
                self._fallen.add(number)
                self.states[State.RUNNING] -= 1
                self.states[State.PENDING] += 1

    # --- books from commands ----------------------------------------------------------------------------------------

    def _check_answers(self, event: Event, commands: Sequence[Command]) -> None:
        """Who asks for work gets one answer, and nobody else gets any."""
        answered = [command.lease for command in commands if isinstance(command, Answer)]
        assert answered == ([event.lease] if isinstance(event, WorkAsked) else []), (event, commands)

    def _note_command(self, command: Command, event: Event, ended: Chunk | None, now: float) -> None:
        match command:
            case StartLease():
                assert command.lease not in self.lane_of_lease
                assert not self.stopped
                self.lane_of_lease[command.lease] = command.lane
                self.out.add(command.lease)
                others = sum(self.lane_of_lease[lease] == command.lane for lease in self.out)
                assert others <= self.capacity.get(command.lane, math.inf)
            case GiveChunk():
                self._note_chunk(command, now)
            case AnswerEnd():
                if not self.held.get(command.lease):
                    self.out.discard(command.lease)
            case AnswerWait():
                assert self.held[command.lease], "only who holds a chunk may be told to wait"
            case CommitEnds():
                assert isinstance(event, ChunkEnded)
                accepted, named = [*command.completed, *command.failed], [end.number for end in event.ends]
                assert sorted(accepted) == sorted(set(named) & set(ended.numbers if ended else ()))
                assert sorted([*accepted, *command.superseded]) == sorted(named)
                self._owe(dict.fromkeys(command.completed, "completed"), succeeded=True)
                self._owe(dict.fromkeys(command.failed, "failed"))
                self.superseded.update(command.superseded)
            case CommitLosses():
                assert all(command.messages.values())
                self.messages.update(command.messages)
                if command.chunk is not None:  # an attempt: it runs until its loss is on disk
                    self._run(self._fallen & command.messages.keys())
                self._owe(dict.fromkeys(command.messages, command.reason))
            case NoteAttemptsLost():
                self.attempts_lost.update(command.numbers)

    def _note_chunk(self, command: GiveChunk, now: float) -> None:
        chunk, lane = command.chunk, self.lane_of_lease[command.lease]
        assert command.lease in self.out
        assert not self.stopped
        assert chunk.id not in self._chunk_ids
        assert chunk.budget_s > 0
        assert chunk.numbers
        assert len(set(chunk.numbers)) == len(chunk.numbers)
        for number in chunk.numbers:
            assert number not in self.chunk_of, "no task is in two chunks in hand"
            assert number not in self.outcome, "no task runs again that has an outcome"
            assert self.lane_of_kind[self.kind_of[number]] == lane, "shapes never mix in a chunk"
            self.chunk_of[number] = chunk.id
        self._chunk_ids.add(chunk.id)
        own = self.held.setdefault(command.lease, {})
        self.handed.append(Handed(now, command.lease, chunk.numbers, bool(own), self.waiting + len(chunk.numbers)))
        own[chunk.id] = chunk

    def _owe(self, outcomes: dict[int, str], succeeded: bool = False) -> None:
        assert not outcomes.keys() & self.outcome.keys(), "every task ends once"
        assert not outcomes.keys() & self.chunk_of.keys(), "what has ended is in nobody's hands"
        self.outcome.update(outcomes)
        self._owed[not succeeded].extend(outcomes)

    # --- invariants -------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many tasks wait in the engine's queue."""
        return sum(lane.waiting + sum(map(len, lane.suspects)) for lane in self.engine._queue.lanes)

    def _check_counts(self) -> None:
        counts = self.engine.tasks.counts
        assert counts == [self.states[state] for state in State]
        assert sum(counts) == len(self.engine.tasks) == len(self.kind_of)
        assert self.engine.leases == len(self.out) <= self.engine.slots
        assert counts[State.COMPLETED] + counts[State.FAILED] <= len(self.outcome)

    def check_lanes(self) -> None:
        """What waits is what is neither in a chunk nor ended, and every lane counts right."""
        queue = self.engine._queue
        assert self.waiting + len(self.chunk_of) + len(self.outcome) == len(self.kind_of), "no task is lost"
        for lane in queue.lanes:
            mine = [lease for lease in self.out if self.lane_of_lease[lease] == lane.number]
            kinds = [kind for kind in queue.kinds if kind.lane == lane.number]
            assert lane.leases == len(mine)
            assert lane.starting == len(set(mine) - self.placed)
            assert lane.waiting == sum(len(kind.waiting) for kind in kinds)
            left_s = sum(len(kind.waiting) * kind.times.mean_s for kind in kinds)
            assert math.isclose(lane.left_s, left_s, rel_tol=1e-6, abs_tol=1e-6)
            assert lane.left_s > -1e-9
            assert min((kind.probing for kind in kinds), default=0) >= 0
            assert (queue.find_first(lane) is None) == (lane.waiting == 0), "what waits is found"
