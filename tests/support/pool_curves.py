"""A pool in virtual time: slots that execute tasks, which take the longer the more of them run."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dfz_ray.engine.ends import KindTimes
from dfz_ray.engine.messages import NotePoolChanged
from dfz_ray.engine.pool import Pool

Slowdown = Callable[[int], float]
"""How many times as long a task takes where so many run."""
START_S = 0.02
"""Until a new slot is there."""
MESSAGE_S = 0.001
CHUNK_S = 0.2


class Work(NamedTuple):
    """Tasks of one kind."""

    tasks: int
    task_s: float
    spread: float = 0.0
    """Of the run times, as a share of their mean."""
    cpu_share: float = 1.0
    """How much of its time a task computes where it is alone."""


class Course(NamedTuple):
    """The course of a batch."""

    makespan_s: float
    changes: list[tuple[float, NotePoolChanged]]


def perfect(running: int) -> float:
    """Tasks that wait."""
    return 1.0


def cores(count: int) -> Slowdown:
    """Tasks that compute, and share cores."""
    return lambda running: max(1.0, running / count)


def usl(contention: float, coherence: float) -> Slowdown:
    """Gunther's universal scalability law: slots that queue for something, and that disturb one another."""
    return lambda running: 1 + contention * (running - 1) + coherence * running * (running - 1)


def play(works: Sequence[Work], slowdown: Slowdown, pool: Pool | int, seed: int = 0) -> Course:
    """Work through a batch, with a pool, or with a fixed number of slots.

    All that run are equally slow at each moment: work is counted by a clock that goes the slower, the more run.

    Args:
        works: in the order in which their tasks are taken.
        slowdown: of all tasks.
        pool: moves the slots; a number: they stay.
        seed: of the run times.
    """
    batch = _Batch(works, slowdown, pool if isinstance(pool, int) else pool.slots, seed)
    changes: list[tuple[float, NotePoolChanged]] = []
    while batch.waiting or batch.agenda:
        batch.start_slots()
        if isinstance(pool, Pool):
            pool.see(batch.slots, math.inf, batch.now)
        chunk = batch.end_next()
        if isinstance(pool, Pool):
            pool.see(batch.slots, math.inf, batch.now)
        if isinstance(pool, Pool) and chunk is not None:
            pool.on_chunk([chunk.times], chunk.began_at, 1, batch.now, chunk.cpu_s)
            left_s = batch.left_s * slowdown(batch.slots) / batch.slots
            change = pool.decide(len(batch.waiting), left_s, batch.now)
            if change is not None:
                changes.append((batch.now, change))
                batch.wanted = change.slots
        if chunk is not None:
            batch.go_on()
    return Course(batch.now, changes)


class _Chunk(NamedTuple):
    began_at: float
    kind: int
    works_s: list[float]
    times: KindTimes
    cpu_s: float


class _Batch:
    def __init__(self, works: Sequence[Work], slowdown: Slowdown, wanted: int, seed: int) -> None:
        self.waiting = [(kind, work) for kind, work in reversed(list(enumerate(works))) for _ in range(work.tasks)]
        self.left_s = sum(work.task_s for _, work in self.waiting)
        self.now = 0.0
        self.wanted = wanted
        self.slots = 0
        self.agenda: list[tuple[float, int, _Chunk | None]] = []
        """Ends of chunks by the clock of the work; None: a slot is there."""
        self._starts: list[float] = []
        self._slowdown = slowdown
        self._rng = random.Random(seed)  # noqa: S311  run times, not secrets
        self._clock = 0.0
        self._order = 0

    def start_slots(self) -> None:
        while self.slots + len(self._starts) < self.wanted and len(self.waiting) > len(self._starts):
            heapq.heappush(self._starts, self.now + START_S)

    def end_next(self) -> _Chunk | None:
        """Let time pass until a chunk ends, or a slot is there: then it is None."""
        rate = 1 / self._slowdown(max(1, len(self.agenda)))
        ends_at = self.now + (self.agenda[0][0] - self._clock) / rate if self.agenda else math.inf
        if self._starts and self._starts[0] <= ends_at:
            at = heapq.heappop(self._starts)
            self._clock, self.now = self._clock + (at - self.now) * rate, at
            if self.waiting:
                self.slots += 1
                self._begin()
            return None
        self._clock, _, chunk = heapq.heappop(self.agenda)
        self.now = ends_at
        assert chunk is not None
        took_s, work_s = self.now - chunk.began_at - MESSAGE_S, sum(chunk.works_s)
        times = [one * took_s / work_s for one in chunk.works_s]
        entry = KindTimes(chunk.kind, len(times), took_s, sum(one * one for one in times))
        return chunk._replace(times=entry)

    def go_on(self) -> None:
        """The slot whose chunk has ended goes on, or ends."""
        if self.slots > self.wanted or not self.waiting:
            self.slots -= 1
        else:
            self._begin()

    def _begin(self) -> None:
        kind, work = self.waiting[-1]
        slow = self._slowdown(len(self.agenda) + 1)
        share_s = min(CHUNK_S, self.left_s * slow / (2 * self.wanted))
        size = max(1, min(int(share_s / work.task_s / slow), len(self.waiting), 5000))
        size = next((count for count in range(1, size) if self.waiting[-1 - count][0] != kind), size)
        del self.waiting[len(self.waiting) - size :]
        works_s = [max(0.05, self._rng.gauss(1, work.spread)) * work.task_s for _ in range(size)]
        self.left_s -= size * work.task_s
        self._order += 1
        chunk = _Chunk(self.now, kind, works_s, KindTimes(kind, 0, 0.0, 0.0), work.cpu_share * sum(works_s))
        heapq.heappush(self.agenda, (self._clock + sum(works_s) + MESSAGE_S / slow, self._order, chunk))


def best_fixed(works: Sequence[Work], slowdown: Slowdown, most: int, seed: int = 0) -> tuple[float, int]:
    """The shortest makespan with a fixed number of slots, and the number."""
    settings = sorted({min(most, round(1.25**power)) for power in range(60)})
    return min((play(works, slowdown, slots, seed).makespan_s, slots) for slots in settings)
