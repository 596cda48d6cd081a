"""The threads of a worker that executes several tasks at once."""

from __future__ import annotations

import functools
import math
import threading
import traceback
from _thread import get_ident
from collections.abc import Callable
from contextvars import copy_context
from os import _exit
from signal import SIG_SETMASK, pthread_sigmask
from time import monotonic, perf_counter, thread_time  # bound here, for a task may put others in their place
from types import TracebackType

from threadpoolctl import ThreadpoolController

from dfz_ray.domains.domain import Domain
from dfz_ray.execution.chunk_clock import find_offset
from dfz_ray.execution.execute import Execution, Outcome, Work, count_forks, end_task, execute_task
from dfz_ray.execution.interruption import forget_interruption
from dfz_ray.execution.parameters_reader import ParametersReader
from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Report
from dfz_ray.protocol.worker_side import ChunkInHand, WorkerSide
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.worker.library_state import enable_gradients
from dfz_ray.worker.process_state import ProcessState
from dfz_ray.worker.state_parts import put_tracing_back, read_mask, read_tracing
from dfz_ray.worker.thread_deadlines import ThreadDeadlineGuard, ThreadSlot

EARLY_THREADS = 16
"""Threads that are started before the first task; a lease may have hundreds."""


class ThreadLease:
    """Runs the threads that execute a lease's tasks, as the lease protocol orders. A context manager.

    The main thread takes orders and finds reports; each of the others executes one task at a time. Some are started
    before the first task, since after it a process may be short of memory or threads; more as they are wanted. `load`
    returns the domain; `budget` is the number of threads that each task may use itself.
    """

    def __init__(
        self,
        side: WorkerSide,
        load: Callable[[], Domain],
        budget: int,
        shelf: FileShelf,
        guard: ThreadDeadlineGuard,
        state: ProcessState,
    ) -> None:
        self._side = side
        self._load = load
        self._budget = budget
        self._shelf = shelf
        self._guard = guard
        self._state = state
        self._pools = ThreadpoolController()
        self._forks = count_forks()
        self._context = copy_context()
        """The variables of the main thread, in which the state was read."""
        self._offset_s = find_offset()
        self._lock = threading.Lock()
        """Held to use the protocol."""
        self._wanted = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._holding: set[int] = set()
        """The threads that hold a task, by their numbers."""
        self._is_called = False
        """True from a call of the main thread until it looks for a report."""
        self._is_closed = False

    def __enter__(self) -> ThreadLease:
        self._start_threads(min(self._guard.width, EARLY_THREADS))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            return  # the process ends, and its threads with it
        with self._lock:
            self._is_closed = True
            self._wanted.notify_all()
        for thread in self._threads:
            thread.join()

    # --- in the main thread -------------------------------------------------------------------------------------------

    def on_order(self, order: Order) -> None:
        """Take in an order, whose tasks are unpacked."""
        with self._lock:
            self._side.on_order(order, monotonic())
            self._start_threads(min(self._side.busy, self._guard.width))
            self._wanted.notify(self._side.busy)

    def find_report(self) -> Report | None:
        """The report that is due now, if any; it has no result that may have come of a changed process."""
        with self._lock:
            self._is_called = False
            if self._side.has_results and not self._side.is_spoiled:
                self._state.look(self._side.executing)
                if self._state.change:
                    self._side.spoil(self._state.change, self._state.is_of_one)
            return self._side.find_report(monotonic())

    def _start_threads(self, count: int) -> None:
        while len(self._threads) < count:
            thread = threading.Thread(target=self._serve, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the process may have no more: those that are there do the work
                if not self._threads:
                    raise
                return
            self._threads.append(thread)
            self._state.allow_threads(1)

    # --- in the threads -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            with self._pools.limit(limits=self._budget):  # each thread has a limit of OpenMP for itself
                self._execute_all(self._guard.take_slot())
        except BaseException:  # a task has broken what executing rests on
            goes_on = False
            try:
                traceback.print_exc()
                goes_on = self._give_up()
            finally:  # without this thread the lease would wait for ever
                if not goes_on:
                    _exit(1)

    def _give_up(self) -> bool:
        """Let every task that may be to blame run again by itself; returns False if it is the one of this thread."""
        with self._lock:
            if self._side.is_spoiled:
                return True  # the report of it must not be lost
            if self._side.begun_tasks <= 1 and (get_ident() in self._holding or not self._side.executing):
                return False
            self._state.give_up()
            self._side.spoil(self._state.change, False)
            self._call()
            return True

    def _execute_all(self, slot: ThreadSlot) -> None:
        held: ChunkInHand | None = None
        execution: Execution | None = None
        reader: ParametersReader | None = None
        tracing, mask = read_tracing(), read_mask()
        while (taken := self._take(held, execution)) is not None:
            held, work = taken
            reader = reader or ParametersReader(self._load(), self._shelf)
            execution = self._execute(slot, held, work, reader)
            if read_tracing() != tracing:
                put_tracing_back(tracing)
            if read_mask() != mask:
                pthread_sigmask(SIG_SETMASK, mask)
            enable_gradients()

    def _take(self, before: ChunkInHand | None, execution: Execution | None) -> tuple[ChunkInHand, Work] | None:
        """Note the end of a task, and wait for the next one; None: no more will come."""
        side = self._side
        with self._lock:
            if before is not None:
                side.end_task(before, () if execution is None else (execution,))
                self._holding.discard(get_ident())  # only now: if a task has broken the end of its own, it is to blame
                self._state.note_task()
            while not self._is_closed:
                found = side.begin_task(monotonic())
                if side.is_due:
                    self._call()
                if found is not None:
                    self._holding.add(get_ident())
                    return found
                self._guard.rest()
                self._call()
                self._wanted.wait()
        return None

    def _call(self) -> None:
        if not self._is_called:
            self._guard.wake()
            self._is_called = True

    def _end_call(self, held: ChunkInHand) -> bool:
        """A call of a task that is several has ended: it counts as a task; returns True if none may follow it."""
        with self._lock:
            if held.budget_s == math.inf and self._side.executing == 1:  # a suspect: nothing else is executed
                return self._context.run(self._state.settle_alone)
            self._state.note_task()
            return False

    def _execute(self, slot: ThreadSlot, held: ChunkInHand, work: Work, reader: ParametersReader) -> Execution | None:
        """Execute a task; None if it was revoked."""
        outcome: Outcome | None = None
        cpu_s, began = thread_time(), perf_counter()
        try:
            if not self._guard.begin(slot, work):
                return None
            end_call = functools.partial(self._end_call, held)
            outcome = execute_task(self._load(), work, self._budget, reader, self._forks, end_call)
            self._guard.end(slot)
        except BaseException as error:  # an interruption, of which a task gets one, or what it has left behind
            late, _ = end_task(work.number, error, lambda: self._guard.end(slot))
            outcome = outcome or late
        forget_interruption()
        ended, cpu_s = perf_counter(), thread_time() - cpu_s
        number, result, fingerprint, failure = outcome
        return Execution(number, self._offset_s + began, self._offset_s + ended, cpu_s, result, fingerprint, failure)
