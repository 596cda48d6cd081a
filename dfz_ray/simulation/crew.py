"""A worker of the virtual cluster that runs its tasks on several threads, as `dfz_ray.worker.thread_lease` does."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dfz_ray.engine.messages import AnswerEnd, AnswerWait, Chunk, ChunkBegan, ChunkEnded, Command, GiveChunk, WorkAsked
from dfz_ray.simulation.worker import Execution, Message, Run

if TYPE_CHECKING:
    from dfz_ray.simulation.cluster import Simulation

AGAIN_S = 1.0
"""A worker that was told to wait asks again after so long, if it has not done so before."""


class Held:
    """A chunk in a worker's hands.

    Args:
        chunk: the chunk.
    """

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self.waiting = deque(chunk.numbers)
        self.began_s: float | None = None
        self.executing = 0
        self.ends: dict[int, tuple[float, str]] = {}
        """Task: how long it took, and why it failed, if it did."""


class Thread(NamedTuple):
    """A task that is executed."""

    held: Held
    began_s: float
    run: Run


class ThreadLease:
    """A worker that serves a lease of several slots.

    Args:
        cluster: where it lives.
        lease: its number.
    """

    def __init__(self, cluster: Simulation, lease: int) -> None:
        self.lease = lease
        self.lives = True
        self._cluster = cluster
        self._threads = 0
        """How many tasks it may execute at once."""
        self._held: list[Held] = []
        self._executing: dict[int, Thread] = {}
        self._dropped: set[int] = set()
        self._news: list[ChunkBegan | ChunkEnded] = []
        """What the manager is to be told."""
        self._is_asking = False
        self._is_over = False
        self._least_busy = 0
        """When fewer threads than that have a task, more is asked for."""
        self._asked_busy = 0
        """So many had one when it asked the last time."""
        self._asks = 0

    @property
    def executing(self) -> tuple[int, ...]:
        """The tasks that it executes."""
        return tuple(self._executing)

    def find_overdue(self) -> Sequence[int]:
        """The tasks that are beyond their deadlines."""
        tasks, now = self._cluster.tasks, self._cluster.now
        return [
            number
            for number, thread in self._executing.items()
            if (timeout_s := tasks[number].policy.timeout_s) is not None and thread.began_s + timeout_s < now
        ]

    def go_on(self) -> None:
        """Begin: ask for work when it has started."""
        self._cluster.at(self._cluster.now + self._cluster.take_s("start"), self._ask)

    def note_rest(self) -> None:
        """It executes nothing any more, be it that it is dead."""
        now = self._cluster.now
        self._cluster.note_spent(sum(now - thread.began_s for thread in self._executing.values()))
        self._cluster.note_busy(self.lease, 0)
        self._executing = {}

    def take_answer(self, box: object, answer: Command | None) -> None:
        """Take in an answer of the manager."""
        if not self.lives:
            return
        self._is_asking = False
        match answer:
            case GiveChunk():
                self._threads = answer.threads
                self._held.append(Held(answer.chunk))
                self._least_busy = answer.threads
            case AnswerWait():
                self._threads = answer.threads
                self._least_busy = min(answer.threads, self._asked_busy)
                asks = self._asks
                self._cluster.at(self._cluster.now + AGAIN_S, lambda: self._ask() if self._asks == asks else None)
            case AnswerEnd():
                self._is_over = True
        self._work()

    def let_go(self, numbers: Sequence[int]) -> None:
        """Leave out these tasks; those that are executed are ended by an exception, where that helps."""
        self._dropped.update(numbers)
        for number in numbers:
            thread = self._executing.get(number)
            if self.lives and thread is not None and thread.run.duration_s < math.inf:
                del self._executing[number]
                thread.held.executing -= 1
                self._cluster.note_spent(self._cluster.now - thread.began_s)
        self._work()

    @property
    def _busy(self) -> int:
        return len(self._executing) + sum(len(held.waiting) for held in self._held)

    def _work(self) -> None:
        """Begin what may begin, and tell or ask what is due."""
        if not self.lives:
            return
        for held in self._held:
            while held.waiting and len(self._executing) < self._threads:
                self._begin(held)
        self._cluster.note_busy(self.lease, len(self._executing))
        for held in [one for one in self._held if not one.waiting and not one.executing]:
            self._held.remove(held)
            if held.began_s is None:
                self._news.append(ChunkBegan(self.lease, held.chunk.id))
            durations_s = [took_s for took_s, _ in held.ends.values()]
            failures = {number: reason for number, (_, reason) in held.ends.items() if reason}
            self._news.append(ChunkEnded(self.lease, held.chunk.id, list(held.ends), durations_s, failures))
        if self._is_asking:
            return
        if self._is_over and not self._held:
            if self._news:
                self._ask()
            else:
                self._cluster.end(self)
        elif self._news or (self._busy < self._least_busy and not self._is_over):
            self._ask()

    def _begin(self, held: Held) -> None:
        """Begin the next task of a chunk, or none where its budget is used up."""
        now = self._cluster.now
        if held.began_s is not None and now - held.began_s > held.chunk.budget_s:
            held.waiting.clear()
            return
        number = held.waiting.popleft()
        if number in self._dropped:
            return
        if held.began_s is None:
            held.began_s = now
            self._news.append(ChunkBegan(self.lease, held.chunk.id))
        run = self._cluster.attempt(number)
        thread = self._executing[number] = Thread(held, now, run)
        held.executing += 1
        self._cluster.at(now + run.duration_s, lambda: self._end(number, thread))

    def _end(self, number: int, thread: Thread) -> None:
        if not self.lives or self._executing.get(number) is not thread:
            return
        if thread.run.kills:
            is_late = thread.run.reason == "timeout"  # then it is known whose deadline it was
            self._cluster.lose(self.lease, thread.run.reason, self.find_overdue() if is_late else ())
            return
        del self._executing[number]
        now = self._cluster.now
        thread.held.executing -= 1
        thread.held.ends[number] = (thread.run.duration_s, thread.run.reason)
        self._cluster.note_spent(thread.run.duration_s)
        self._cluster.executions.append(Execution(number, self.lease, thread.began_s, now))
        self._work()

    def _ask(self) -> None:
        """Tell what there is to be told, and ask for work, unless a chunk is in hand that has not begun."""
        if not self.lives or self._is_asking:
            return
        self._is_asking = True
        self._asks += 1
        news, self._news = tuple(self._news), []
        self._asked_busy = min(self._busy, self._threads)
        has_next = any(held.began_s is None for held in self._held)
        wants = not has_next and (not self._is_over or not self._held)
        asked = (WorkAsked(self.lease, self._asked_busy),) if wants else ()
        self._cluster.send(Message(self, (*news, *asked), []))
