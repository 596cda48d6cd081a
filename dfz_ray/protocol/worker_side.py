"""The worker's half of the lease protocol: it decides on reports, and on the tasks that begin."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from dfz_ray.protocol.lease_protocol import LeaseState, Message, find_next_state
from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Report, Spoiled

AGAIN_S = 1.0
"""Seconds after which a lease that was ordered to wait asks again, if it has not done so before."""


class ChunkInHand:
    """A chunk that a worker holds.

    Args:
        id: its id.
        tasks: its tasks.
        budget_s: after so many seconds no further one is begun.
        is_begun: True if the manager counts it as begun, so that its beginning is not reported.
    """

    __slots__ = ("began_at", "budget_s", "executed", "executing", "id", "is_begun", "waiting")

    def __init__(self, id: int, tasks: Sequence[Any], budget_s: float, is_begun: bool = False) -> None:
        self.id = id
        self.waiting = deque(tasks)
        self.budget_s = budget_s
        self.is_begun = is_begun
        self.began_at: float | None = None
        self.executing = 0
        """The number of threads that execute tasks of it."""
        self.executed: list[Any] = []
        """The executed part."""


class WorkerSide:
    """Decides for one lease which reports its worker sends, and which tasks it begins.

    Its owner sends each report that `find_report` returns, and brings the answer to `on_order`. In between it executes
    each task that `begin_task` returns. On one thread a whole chunk is one task to this class: so nothing is done here
    between the tasks of a chunk. Times are seconds of any one clock. It is not thread-safe.

    Args:
        lease: number of the lease.
        place: where it runs; it is part of the first report.
    """

    def __init__(self, lease: int, place: Any = None) -> None:
        self.state = LeaseState.STARTING
        self.threads = 0
        """The number of tasks that it may execute at once."""
        self.executing = 0
        """The number of threads that execute something."""
        self.asks_at = math.inf
        """The time at which it asks again."""
        self._lease = lease
        self._place = place
        self._reports = 0
        """The number of the last report."""
        self._answered = 0
        """The number of the last report that was answered."""
        self._held: list[ChunkInHand] = []
        self._began: deque[int] = deque()
        """Chunks whose beginning has to be reported."""
        self._ended: deque[ChunkInHand] = deque()
        """Chunks whose end has to be reported."""
        self._spoiled: Spoiled | None = None
        """From the change of the process's state on; nothing is begun from then on."""
        self._owes_spoiled = False
        """True while that has to be reported, also by a lease that has to end."""
        self._least_busy = 0
        """If fewer threads than that have a task, it asks for more."""
        self._asked_busy = 0
        """The number of threads that had a task when it asked the last time."""
        self._waited_s = 0.0
        """Waits that have to be reported."""

    # --- reports and orders -------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """True once everything is reported and no order will come."""
        return self.state is LeaseState.OVER

    @property
    def is_spoiled(self) -> bool:
        """True if the process must not serve any more."""
        return self._spoiled is not None

    @property
    def has_results(self) -> bool:
        """True if the end of a chunk has to be reported now."""
        return self.is_due and bool(self._ended)

    @property
    def is_due(self) -> bool:
        """True if the beginning or the end of a chunk has to be reported now."""
        return bool(self._began or self._ended or self._owes_spoiled) and self.state in (
            LeaseState.WORKING,
            LeaseState.ENDING,
        )

    @property
    def busy(self) -> int:
        """The number of threads that have a task, among those that may execute one."""
        waiting = sum([len(held.waiting) for held in self._held])
        return min(self.threads, self.executing + waiting)

    @property
    def begun_tasks(self) -> int:
        """The number of tasks that have begun, of chunks whose ends are not reported."""
        return sum([len(held.executed) + held.executing for held in (*self._held, *self._ended)])

    def find_report(self, now: float) -> Report | None:
        """The report that is due now, if any: a beginning, an end, or a request because too few tasks are left."""
        state, busy = self.state, self.busy
        if state is LeaseState.STARTING:
            return self._report(None, None, True, busy)
        lacks = state is LeaseState.WORKING and (busy < self._least_busy or now >= self.asks_at)
        if not (self.is_due or lacks):
            return None
        ended = self._ended.popleft() if self._ended else None
        began = self._began.popleft() if self._began else None
        if self._began or self._ended:
            asks = False  # it has more to report
        elif self._spoiled is not None:
            self._held.clear()
            self._owes_spoiled = False
            return self._report(ended, began, True, 0)._replace(spoiled=self._spoiled)
        elif state is LeaseState.ENDING:
            asks = not self._held  # so its slot is free at once, before its call has returned
        else:
            asks = all(held.began_at is not None for held in self._held)
        return self._report(ended, began, asks, busy)

    def _report(self, ended: ChunkInHand | None, began: int | None, asks: bool, busy: int) -> Report:
        self.state = find_next_state(self._lease, self.state, Message.REPORT)
        self._reports += 1
        self.asks_at = math.inf
        if asks:
            self._asked_busy = busy
        chunk, executed = (None, None) if ended is None else (ended.id, ended.executed)
        place = self._place if self._reports == 1 else None
        waited_s, self._waited_s = self._waited_s, 0.0
        return Report(self._lease, self._reports, chunk, executed, began, place, asks, busy, waited_s=waited_s)

    def note_wait(self, seconds: float) -> None:
        """Note that it had nothing to execute until an order was there; the next report says so."""
        self._waited_s += seconds

    def on_order(self, order: Order, now: float) -> ChunkInHand | None:
        """Take in an order; a second answer to the same report is ignored.

        Returns:
            The chunk that it brings, if any.

        Raises:
            IllegalMessage: no such order may come now.
        """
        if order.report <= self._answered:
            return None
        self.state = find_next_state(self._lease, self.state, order.message)
        self._answered = order.report
        if self._spoiled is not None and order.message is Message.CHUNK:
            return None  # it goes back when the manager hears of it
        held: ChunkInHand | None = None
        if order.message is Message.CHUNK:
            held = ChunkInHand(order.chunk, order.works, order.budget_s, order.is_begun)
            self._held.append(held)
            self.threads = self._least_busy = order.threads
        elif order.message is Message.WAIT:
            self.threads = order.threads
            self._least_busy = min(order.threads, self._asked_busy)
            self.asks_at = now + AGAIN_S
        if self.state is LeaseState.ENDING and not (self._held or self._ended or self._owes_spoiled):
            self.state = find_next_state(self._lease, self.state, Message.RETURN)
        return held

    # --- tasks --------------------------------------------------------------------------------------------------------

    def begin_task(self, now: float) -> tuple[ChunkInHand, Any] | None:
        """Begin the next task, if one may begin, of the first chunk that has any left."""
        if self.executing >= self.threads or self._spoiled is not None:
            return None
        for held in list(self._held):
            if held.began_at is not None and now - held.began_at > held.budget_s:
                held.waiting.clear()
                self._settle(held)
            if held.waiting:
                if held.began_at is None:
                    held.began_at = now
                    if not held.is_begun:
                        self._began.append(held.id)
                held.executing += 1
                self.executing += 1
                return held, held.waiting.popleft()
        return None

    def end_task(self, held: ChunkInHand, executed: Iterable[Any]) -> None:
        """A task has ended; `executed` joins the executed part of its chunk, and is empty if the task was left out."""
        self.executing -= 1
        held.executing -= 1
        held.executed.extend(executed)
        self._settle(held)

    def spoil(self, message: str, is_of_one: bool) -> None:
        """Begin nothing any more, as the process's state has changed; the last report says that.

        If no task but the last one can have felt the change, what was executed is reported as ever. Otherwise it does
        not count, in all chunks that have begun and whose ends are not reported.
        """
        self._owes_spoiled = True
        begun = [held for held in self._held if held.began_at is not None]
        if is_of_one:
            for held in begun:
                held.waiting.clear()
                self._settle(held)
            self._spoiled = Spoiled((), message)
        else:
            self._spoiled = Spoiled([held.id for held in (*self._ended, *begun)], message)
            self._ended.clear()
            self._began.clear()

    def _settle(self, held: ChunkInHand) -> None:
        """Note the end of a chunk if none of its tasks waits or runs; then its beginning need not be reported."""
        if not held.waiting and not held.executing and held in self._held:
            self._held.remove(held)
            if held.id in self._began:
                self._began.remove(held.id)
            if self._spoiled is None or held.id not in self._spoiled.chunks:
                self._ended.append(held)
