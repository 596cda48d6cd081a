"""The threads of a worker that executes several tasks at once."""

from __future__ import annotations

import math
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from threadpoolctl import ThreadpoolController

from dfz_ray.domains.domain import Domain
from dfz_ray.execution.execute import Execution, Outcome, Work, count_forks, execute_task
from dfz_ray.execution.failure import describe_exception, describe_interruption
from dfz_ray.execution.interruption import Interruption
from dfz_ray.execution.parameters_reader import ParametersReader
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.worker.thread_deadlines import ThreadDeadlineGuard, ThreadSlot

JOIN_S = 2.0
"""When a run can't go on its tasks have so long to let go."""
AGAIN_S = 1.0
"""A lease that was told to wait asks again after so long, if it has not done so before."""


class TaskEvents(NamedTuple):
    """What the manager is to be told."""

    ended: tuple[int, list[Execution]] | None
    began: int | None
    asks: bool
    busy: int
    """For how many threads there are tasks in hand."""


class Held:
    """A chunk in hand.

    Args:
        chunk: its number.
        works: its tasks.
        budget_s: after so many seconds no further one is begun.
    """

    def __init__(self, chunk: int, works: Sequence[Work], budget_s: float) -> None:
        self.chunk = chunk
        self.waiting = deque(works)
        self.budget_s = budget_s
        self.began_at: float | None = None
        self.executing = 0
        self.executions: list[Execution] = []


class ThreadLease:
    """Executes the chunks in hand, one after the other; a thread begins with the next one when one is used up.

    The main thread takes orders and tells news, as `dfz_ray.simulation.crew` does in virtual time; each of the others
    executes one task at a time. A context manager.

    Args:
        load: gives the domain.
        budget: how many threads each task may use.
        shelf: the files that parameters name.
        warden: watches over the tasks.
    """

    def __init__(self, load: Callable[[], Domain], budget: int, shelf: FileShelf, warden: ThreadDeadlineGuard) -> None:
        self._load = load
        self._budget = budget
        self._shelf = shelf
        self._warden = warden
        self._pools = ThreadpoolController()
        self._forks = count_forks()
        self._offset_s = time.time() - time.perf_counter()
        self._lock = threading.Lock()
        self._wanted = threading.Condition(self._lock)
        self._members: list[threading.Thread] = []
        self._threads = 0
        """How many tasks it may execute at once."""
        self._executing = 0
        self._held: list[Held] = []
        self._began: deque[int] = deque()
        self._ended: deque[Held] = deque()
        self._is_over = False
        self._is_closed = False
        self._least_busy = 0
        """When fewer threads than that have a task, more is asked for."""
        self._asked_busy = 0
        """So many had one when it asked the last time."""
        self.asks_at = math.inf
        """Then it asks again, by the monotonic clock."""

    def __enter__(self) -> ThreadLease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._lock:
            self._is_closed = True
            self._wanted.notify_all()
        if error is not None:
            self._warden.interrupt_all("cancelled", "the run can't go on")
        end = time.monotonic() + JOIN_S
        for member in self._members:
            member.join(max(0.0, end - time.monotonic()))
        if any(member.is_alive() for member in self._members):
            os._exit(1)  # what does not let go must not go on beside another lease

    # --- in the main thread -------------------------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        """Whether the lease is over, and everything is told."""
        with self._lock:
            return self._is_over and not (self._held or self._ended)

    def take_order(
        self, chunk: int | None, works: Sequence[Work], budget_s: float, threads: int, is_over: bool
    ) -> None:
        """Take in what the manager answers: a chunk, or none for now, or that the lease is over."""
        with self._lock:
            self.asks_at = math.inf
            self._is_over = self._is_over or is_over
            if threads and not is_over:
                self._threads = self._least_busy = threads
                if chunk is None:
                    self._least_busy = min(threads, self._asked_busy)
                    self.asks_at = time.monotonic() + AGAIN_S
            if chunk is not None:
                self._held.append(self._refuse(Held(chunk, works, budget_s)))
                self._settle(self._held[-1])
            wanted = min(self._threads, self._count_busy())
            while len(self._members) < wanted:
                member = threading.Thread(target=self._serve, daemon=True)
                self._members.append(member)
                member.start()
            self._wanted.notify(wanted)

    def find_news(self) -> TaskEvents | None:
        """What the manager is to be told now, or asked, if anything."""
        with self._lock:
            busy = min(self._threads, self._count_busy())
            is_last = self._is_over and not self._held
            lacks = not self._is_over and (busy < self._least_busy or time.monotonic() >= self.asks_at)
            if not (self._began or self._ended or lacks):
                return None
            held = self._ended.popleft() if self._ended else None
            began = self._began.popleft() if self._began else None
            has_next = any(one.began_at is None for one in self._held)
            asks = not (self._began or self._ended or has_next) and (is_last or not self._is_over)
            if asks:
                self._asked_busy = busy
            return TaskEvents(None if held is None else (held.chunk, held.executions), began, asks, busy)

    def _count_busy(self) -> int:
        return self._executing + sum([len(held.waiting) for held in self._held])

    def _refuse(self, held: Held) -> Held:
        """Where the domain can't be loaded, all tasks of a chunk have failed."""
        try:
            self._load()
        except Exception as error:  # a module of the user's that this node lacks, say
            told = describe_exception(error)
            failure = told._replace(message=f"the domain can't be loaded on this worker: {told.message}")
            held.executions = [Execution(work.number, 0.0, 0.0, 0.0, None, None, failure) for work in held.waiting]
            held.waiting.clear()
        return held

    # --- in the threads -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        seat = self._warden.take_seat()
        with self._pools.limit(limits=self._budget):  # OpenMP's is a matter of each thread
            try:
                self._execute_all(seat, ParametersReader(self._load(), self._shelf))
            except BaseException:  # a defect: without this thread the lease would wait for ever
                traceback.print_exc()
                os._exit(1)

    def _execute_all(self, seat: ThreadSlot, reader: ParametersReader) -> None:
        held: Held | None = None
        execution: Execution | None = None
        while (taken := self._take(held, execution)) is not None:
            held, work = taken
            execution = self._execute(seat, work, reader)

    def _take(self, before: Held | None, execution: Execution | None) -> tuple[Held, Work] | None:
        """Wait for the next task, having executed one of a chunk; None: there will be no more."""
        with self._lock:
            if before is not None:
                self._executing -= 1
                before.executing -= 1
                if execution is not None:
                    before.executions.append(execution)
                self._settle(before)
            while True:
                if self._is_closed:
                    return None
                found = self._find_next() if self._executing < self._threads else None
                if found is not None:
                    self._executing += 1
                    found[0].executing += 1
                    return found
                self._warden.rest()
                self._warden.wake()
                self._wanted.wait()

    def _find_next(self) -> tuple[Held, Work] | None:
        for held in list(self._held):
            now = time.perf_counter()
            if held.began_at is not None and now - held.began_at > held.budget_s:
                held.waiting.clear()
                self._settle(held)
            if held.waiting:
                if held.began_at is None:
                    held.began_at = now
                    self._began.append(held.chunk)
                    self._warden.wake()
                return held, held.waiting.popleft()
        return None

    def _settle(self, held: Held) -> None:
        """A chunk of which everything has ended is to be told."""
        if not held.waiting and not held.executing and held in self._held:
            self._held.remove(held)
            if held.chunk in self._began:
                self._began.remove(held.chunk)
            self._ended.append(held)
            self._warden.wake()

    def _execute(self, seat: ThreadSlot, work: Work, reader: ParametersReader) -> Execution | None:
        """Execute a task; None where it is not wanted any more."""
        outcome: Outcome | None = None
        cpu_s, began = time.thread_time(), time.perf_counter()
        try:
            if not self._warden.begin(seat, work):
                return None
            outcome = execute_task(self._load(), work, self._budget, reader, self._forks)
            self._warden.end(seat)
        except Interruption as interruption:  # there is only one for each task
            self._warden.end(seat)
            if outcome is None:
                outcome = work.number, None, None, describe_interruption(interruption)
        ended, cpu_s = time.perf_counter(), time.thread_time() - cpu_s
        number, result, fingerprint, failure = outcome
        return Execution(number, self._offset_s + began, self._offset_s + ended, cpu_s, result, fingerprint, failure)
