"""A cluster in virtual time: it drives the engine as the manager and its workers do."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple

from witness import Answer, Witness

from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    Chunk,
    ChunkBegan,
    ChunkEnded,
    CommitEnds,
    CommitLosses,
    Event,
    GiveChunk,
    KindEntry,
    LeaseEnded,
    LeaseLost,
    StartLease,
    TaskEnd,
    TasksSubmitted,
    WorkAsked,
)


class Job(NamedTuple):
    """A task as the virtual cluster executes it."""

    kind: str
    duration_s: float
    lane: int = 0
    crashes: bool = False
    """After its duration it kills its worker."""
    fails: bool = False


class Execution(NamedTuple):
    """When a task was executed to its end."""

    number: int
    lease: int
    began_s: float
    ended_s: float


class VirtualCluster:
    """Workers and a manager's shell in virtual time.

    Args:
        slots: of the run.
        delays: gives the seconds that `start` (of a lease), `message` (one way), `commit` or `loss` (until the death
            of a worker is known) take, each time anew.
        last_words: whether a message that is on its way when its worker dies still arrives.
        is_repeated: whether the end of a chunk is reported a second time, later.
    """

    def __init__(
        self,
        slots: int,
        *,
        target_s: float = 0.1,
        lease_s: float = 2.0,
        delays: Callable[[str], float] = {"start": 0.01, "message": 0.0003, "commit": 0.003, "loss": 0.1}.__getitem__,
        last_words: Callable[[], bool] = lambda: True,
        is_repeated: Callable[[], bool] = lambda: False,
    ) -> None:
        self.witness = Witness(slots, target_s, lease_s)
        self.jobs: list[Job] = []
        self.executions: list[Execution] = []
        self.now = 0.0
        self._delays = delays
        self._last_words = last_words
        self._is_repeated = is_repeated
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._kinds: dict[tuple[str, int], int] = {}
        self._workers: dict[int, Generator[Any, Any, None]] = {}
        self._is_committing = False
        self._busy: set[int] = set()
        self.most_busy = 0
        """The most workers that ever executed a task at one time."""

    # --- what a test does with it -----------------------------------------------------------------------------------

    def submit(self, jobs: Iterable[Job], at: float = 0.0) -> None:
        """Submit tasks at some time."""
        self.at(at, lambda: self._submit(list(jobs)))

    def tell(self, event: Event, at: float = 0.0) -> None:
        """Let something else happen at some time."""
        self.at(at, lambda: self._tell(event))

    def kill_a_worker(self, at: float) -> None:
        """Let the longest-serving worker die at some time, through no fault of a task."""
        self.at(at, lambda: self._die(min(self._workers)) if self._workers else None)

    def dismiss_a_worker(self, at: float) -> None:
        """Let the longest-serving worker's call return at some time, whatever it has in hand."""

        def dismiss() -> None:
            if self._workers:
                lease = min(self._workers)
                self._vanish(lease)
                self._tell(LeaseEnded(lease))

        self.at(at, dismiss)

    def at(self, time_s: float, action: Callable[[], object]) -> None:
        """Let something be done at some time."""
        heapq.heappush(self._agenda, (time_s, next(self._order), action))

    def run(self, until_s: float = math.inf, limit: int = 1_000_000) -> VirtualCluster:
        """Let time pass until nothing more happens."""
        for _ in range(limit):
            if not self._agenda or self._agenda[0][0] > until_s:
                self.witness.check_lanes()
                return self
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        raise AssertionError(f"it does not come to rest: {limit} things happened by {self.now} s")

    @property
    def makespan_s(self) -> float:
        """When the last task ended."""
        return max(execution.ended_s for execution in self.executions)

    @property
    def lower_bound_s(self) -> float:
        """No schedule is shorter: what all slots need together, and what the longest task needs."""
        work_s = [job.duration_s for job in self.jobs]
        return max(sum(work_s) / self.witness.engine.slots, *work_s)

    # --- the manager's shell ----------------------------------------------------------------------------------------

    def _submit(self, jobs: Sequence[Job]) -> None:
        self.jobs.extend(jobs)
        known = len(self._kinds)
        kind_of = [self._kinds.setdefault((job.kind, job.lane), len(self._kinds)) for job in jobs]
        new = [KindEntry(kind, lane) for kind, lane in itertools.islice(self._kinds, known, None)]
        self._tell(TasksSubmitted(new, kind_of))

    def _tell(self, event: Event) -> Answer | None:
        answer = None
        for command in self.witness.tell(event, self.now):
            match command:
                case StartLease():
                    self._place(command.lease)
                case CommitEnds() | CommitLosses():
                    self._commit_soon()
                case GiveChunk() | AnswerWait() | AnswerEnd():
                    answer = command
        return answer

    def _commit_soon(self) -> None:
        """As the manager does: what comes together while a commit is on its way is committed by the next."""
        if not self._is_committing:
            self._is_committing = True
            self.at(self.now + self._delays("commit"), self._committed)

    def _committed(self) -> None:
        self._is_committing = False
        self.witness.commit(self.now)

    def _place(self, lease: int) -> None:
        worker = self._workers[lease] = self._work(lease)
        self.at(self.now, lambda: self._go_on(lease, worker))

    # --- workers ----------------------------------------------------------------------------------------------------

    def _work(self, lease: int) -> Generator[Any, Any, None]:
        """What a worker does, step by step as runtime.worker.run_lease; yields seconds, or a message to be answered."""
        yield self._delays("start")
        order = yield self._send(lease, WorkAsked(lease))
        last: tuple[Event, ...] = ()
        while isinstance(order, GiveChunk):
            chunk = order.chunk
            ahead = self._send(lease, *last, ChunkBegan(lease, chunk.id), WorkAsked(lease))
            ends = yield from self._execute(lease, chunk)
            last = (ChunkEnded(lease, chunk.id, ends),)
            order = yield ahead
            if not isinstance(order, GiveChunk):
                is_over = isinstance(order, AnswerEnd)
                order = yield self._send(lease, *last, WorkAsked(lease))
                last = ()
                if is_over:
                    assert isinstance(order, AnswerEnd), "after an end a lease gets nothing"
                    break
        self._vanish(lease)
        self.at(self.now + self._delays("message"), lambda: self._tell(LeaseEnded(lease)))

    def _execute(self, lease: int, chunk: Chunk) -> Generator[Any, Any, list[TaskEnd]]:
        self._busy.add(lease)
        self.most_busy = max(self.most_busy, len(self._busy))
        clock_s = self.now
        ends: list[TaskEnd] = []
        for number in chunk.numbers:
            if ends and clock_s - self.now > chunk.budget_s:
                break
            job = self.jobs[number]
            if job.crashes:
                yield clock_s + job.duration_s - self.now
                self._die(lease)
                yield math.inf
            clock_s += job.duration_s
            ends.append(TaskEnd(number, not job.fails, job.duration_s))
        yield clock_s - self.now
        self._busy.discard(lease)
        began_s = self.now - sum(end.duration_s for end in ends)
        for end in ends:
            self.executions.append(Execution(end.number, lease, began_s, began_s + end.duration_s))
            began_s += end.duration_s
        return ends

    def _send(self, lease: int, *events: Event) -> list[Any]:
        """Send a message; the list returned gets the answer when it is back, and then who waits for it goes on."""
        answer: list[Any] = []
        worker = self._workers[lease]

        def arrive() -> None:
            if self._workers.get(lease) is not worker and not self._last_words():
                return
            for event in events:
                last = self._tell(event)
                if isinstance(event, ChunkEnded) and self._is_repeated():
                    self.tell(event, self.now + self._delays("message"))
            self.at(self.now + self._delays("message"), lambda: self._answer(lease, worker, answer, last))

        self.at(self.now + self._delays("message"), arrive)
        return answer

    def _answer(self, lease: int, worker: Generator[Any, Any, None], box: list[Any], answer: Answer | None) -> None:
        box.append(answer)
        if len(box) > 1:  # someone waits
            self._go_on(lease, worker, answer)

    def _go_on(self, lease: int, worker: Generator[Any, Any, None], value: Any = None) -> None:
        """Let a worker do its next steps, if it lives."""
        while self._workers.get(lease) is worker:
            try:
                wanted = worker.send(value)
            except StopIteration:
                return
            if isinstance(wanted, list):
                if not wanted:
                    wanted.append(None)  # the mark of who waits
                    return
                value = wanted[0]
            else:
                if wanted < math.inf:
                    self.at(self.now + wanted, lambda: self._go_on(lease, worker))
                return

    def _vanish(self, lease: int) -> None:
        del self._workers[lease]
        self._busy.discard(lease)

    def _die(self, lease: int) -> None:
        self._vanish(lease)
        self.at(self.now + self._delays("loss"), lambda: self._tell(LeaseLost(lease, f"worker of lease {lease} died")))
