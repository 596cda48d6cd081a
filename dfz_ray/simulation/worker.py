"""A worker of the virtual cluster: it serves one lease, step by step as `dfz_ray.worker.lease` does."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dfz_ray.engine.messages import (
    AnswerEnd,
    Chunk,
    ChunkBegan,
    ChunkEnded,
    Command,
    Event,
    GiveChunk,
    WorkAsked,
)
from dfz_ray.specs.policy import Policy

if TYPE_CHECKING:
    from dfz_ray.simulation.cluster import Simulation
    from dfz_ray.simulation.crew import ThreadLease


class SimulatedTask(NamedTuple):
    """A task as the virtual cluster executes it."""

    kind: str
    duration_s: float
    lane: int = 0
    """Tasks of one domain and one shape have one lane."""
    policy: Policy = Policy()
    reason: str = ""
    """It fails with that; it completes where there is none."""


class Run(NamedTuple):
    """How one attempt at a task goes."""

    duration_s: float
    """Infinite: it never ends."""
    reason: str = ""
    """It fails with that; it completes where there is none."""
    kills: bool = False
    """It takes its worker with it, and the reason is that of the worker's death."""


class Execution(NamedTuple):
    """When a task was executed to its end."""

    number: int
    lease: int
    began_s: float
    ended_s: float


class Step(NamedTuple):
    """A task in the plan of what a worker executes."""

    number: int
    began_s: float
    run: Run

    @property
    def ended_s(self) -> float:
        """When it ends."""
        return self.began_s + self.run.duration_s


class Message(NamedTuple):
    """What a worker tells the manager at once; where the last event asks for work it is answered."""

    worker: Worker | ThreadLease
    events: tuple[Event, ...]
    box: list[Any]
    """Gets the answer."""


class Worker:
    """A worker that serves a lease.

    Args:
        cluster: where it lives.
        lease: its number.
    """

    def __init__(self, cluster: Simulation, lease: int) -> None:
        self.lease = lease
        self.lives = True
        self._cluster = cluster
        self._program = self._work()
        self._turn = 0
        """Counts what it waits for: an older alarm is void."""
        self._chunk: Chunk | None = None
        self._chunk_began_s = 0.0
        self._steps: list[Step] = []
        """Of its chunk: what it has executed, executes, and is going to."""
        self._dropped: set[int] = set()
        """Tasks that it was told to let go of."""

    @property
    def executing(self) -> tuple[int, ...]:
        """The task that it executes, if any."""
        step = self._find_step()
        return () if step is None else (step.number,)

    @property
    def spent_s(self) -> float:
        """How long it has executed tasks of its chunk."""
        now = self._cluster.now
        return sum(max(0.0, min(now, step.ended_s) - step.began_s) for step in self._steps)

    def find_overdue(self) -> Sequence[int]:
        """The tasks that are beyond their deadlines, where others may be executed beside them."""
        return ()

    def note_rest(self) -> None:
        """It executes nothing any more, be it that it is dead."""
        self._cluster.note_busy(self.lease, 0)
        self._cluster.note_spent(self.spent_s)

    def go_on(self, value: Any = None) -> None:
        """Do what comes next, if it lives: up to where it waits for a time or an answer."""
        while self.lives:
            try:
                wanted = self._program.send(value)
            except StopIteration:
                return
            if not isinstance(wanted, list):
                self._wait(wanted)
                return
            if not wanted:
                wanted.append(None)  # the mark of who waits
                return
            value = wanted[0]

    def take_answer(self, box: list[Any], answer: Command | None) -> None:
        """Take in an answer of the manager."""
        box.append(answer)
        if len(box) > 1:  # someone waits
            self.go_on(answer)

    def let_go(self, numbers: Sequence[int]) -> None:
        """Leave out these tasks; the one that is executed is ended by an exception, where that helps."""
        self._dropped.update(numbers)
        chunk, current, now = self._chunk, self._find_step(), self._cluster.now
        if not self.lives or chunk is None or current is None or current.ended_s == math.inf:
            return
        position = self._steps.index(current)
        self._steps = self._steps[: position + (current.number not in self._dropped)]
        if position < len(self._steps) and current.run.kills:
            return
        clock_s = current.ended_s if position < len(self._steps) else now
        self._plan(chunk.numbers[chunk.numbers.index(current.number) + 1 :], clock_s)
        self._wait(self._end_of_plan())

    def _work(self) -> Generator[Any, Any, None]:
        """Yields when it goes on, or a box where it waits for an answer."""
        cluster, lease = self._cluster, self.lease
        yield cluster.now + cluster.take_s("start")
        order = yield self._send(WorkAsked(lease))
        last: tuple[Event, ...] = ()
        while isinstance(order, GiveChunk):
            ahead = self._send(*last, ChunkBegan(lease, order.chunk.id), WorkAsked(lease))
            self._chunk, self._chunk_began_s, self._steps = order.chunk, cluster.now, []
            self._plan(order.chunk.numbers, cluster.now)
            cluster.note_busy(lease, 1)
            yield self._end_of_plan()
            last = (self._end_chunk(order.chunk),)
            order = yield ahead
            if not isinstance(order, GiveChunk):
                is_over = isinstance(order, AnswerEnd)
                order = yield self._send(*last, WorkAsked(lease))
                last = ()
                if is_over:
                    break
        cluster.end(self)

    def _plan(self, numbers: Sequence[int], clock_s: float) -> None:
        """Plan to execute these tasks of its chunk from some time on."""
        budget_s = math.inf if self._chunk is None else self._chunk.budget_s
        for number in numbers:
            if self._steps and clock_s - self._chunk_began_s > budget_s:
                return
            if number in self._dropped:
                continue
            step = Step(number, clock_s, self._cluster.attempt(number))
            self._steps.append(step)
            clock_s = step.ended_s
            if step.run.kills or clock_s == math.inf:
                return

    def _end_of_plan(self) -> float:
        """When it is through with its plan; it does not get there where a task kills it."""
        last = self._steps[-1] if self._steps else None
        if last is None:
            return self._cluster.now
        if not last.run.kills:
            return last.ended_s
        turn = self._turn + 1  # that of the wait which follows
        self._cluster.at(last.ended_s, lambda: self._die_of(last.run.reason, turn))
        return math.inf

    def _die_of(self, reason: str, turn: int) -> None:
        if self._turn == turn:
            self._steps[-1] = self._steps[-1]._replace(run=Run(math.inf))  # it is what it executes as it dies
            self._cluster.lose(self.lease, reason)

    def _end_chunk(self, chunk: Chunk) -> ChunkEnded:
        steps = self._steps
        self._cluster.executions.extend(Execution(one.number, self.lease, one.began_s, one.ended_s) for one in steps)
        self.note_rest()
        self._chunk, self._steps = None, []
        numbers, durations_s = [one.number for one in steps], [one.run.duration_s for one in steps]
        failures = {one.number: one.run.reason for one in steps if one.run.reason}
        return ChunkEnded(self.lease, chunk.id, numbers, durations_s, failures)

    def _find_step(self) -> Step | None:
        now = self._cluster.now
        return next((step for step in self._steps if step.began_s <= now < step.ended_s), None)

    def _send(self, *events: Event) -> list[Any]:
        """Send a message; the list returned gets the answer when it is back, and then who waits for it goes on."""
        message = Message(self, events, [])
        self._cluster.send(message)
        return message.box

    def _wait(self, until_s: float) -> None:
        self._turn += 1
        turn = self._turn
        self._cluster.at(until_s, lambda: self.go_on() if self._turn == turn else None)
