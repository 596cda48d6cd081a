"""The workers of the virtual cluster: they execute in virtual time, as the lease protocol orders."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Report
from dfz_ray.protocol.worker_side import ChunkInHand, WorkerSide
from dfz_ray.specs.policy import Policy

if TYPE_CHECKING:
    from dfz_ray.simulation.cluster import Simulation
    from dfz_ray.simulation.relay import SimulatedRelay


class SimulatedTask(NamedTuple):
    """A task as the virtual cluster executes it."""

    kind: str
    duration_s: float
    lane: int = 0
    """Tasks of one domain and one shape have one lane."""
    policy: Policy = Policy()
    reason: str = ""
    """The reason of its failure; empty if it completes."""


class SimulatedAttempt(NamedTuple):
    """The course of one attempt at a task."""

    duration_s: float
    """Infinite: it never ends."""
    reason: str = ""
    """The reason of its failure, or of its worker's death; empty if it completes."""
    kills: bool = False
    """True if its worker dies with it."""


class SimulatedExecution(NamedTuple):
    """The times at which a task was executed to its end."""

    number: int
    lease: int
    began_s: float
    ended_s: float


class ExecutedTask(NamedTuple):
    """The end of an execution, as a worker reports it."""

    number: int
    duration_s: float
    reason: str
    """The reason of its failure; empty if it completed."""


class SentReport(NamedTuple):
    """A report on its way to the manager."""

    worker: SimulatedWorker
    report: Report
    relay: SimulatedRelay | None = None
    """The relay that brings it; None: it goes directly."""


class _RunningTask(NamedTuple):
    """A task that is being executed."""

    held: ChunkInHand
    began_s: float
    attempt: SimulatedAttempt


class SimulatedWorker:
    """A worker that serves one lease. This one executes task by task on several threads."""

    def __init__(self, cluster: Simulation, lease: int) -> None:
        self.lease = lease
        self.lives = True
        self.is_stopped = False
        """True if its process is stopped: it does nothing more, and only a kill ends it."""
        self.relay: SimulatedRelay | None = None
        """The relay of its node, as long as it knows one."""
        self._unanswered: SentReport | None = None
        self._cluster = cluster
        self._side = WorkerSide(lease)
        self._running: dict[int, _RunningTask] = {}
        self._revoked: set[int] = set()
        """Tasks that it has to leave out."""
        self._wakes_at = math.inf
        """The time at which it asks again, unless it has done so before."""

    @property
    def executing(self) -> tuple[int, ...]:
        """The tasks that it executes."""
        return tuple(self._running)

    def find_overdue(self) -> Sequence[int]:
        """The tasks that are beyond their deadlines, if several tasks may be executed at once."""
        tasks, now = self._cluster.tasks, self._cluster.now
        return [
            number
            for number, running in self._running.items()
            if (timeout_s := tasks[number].policy.timeout_s) is not None and running.began_s + timeout_s < now
        ]

    def start(self) -> None:
        """Start, as Ray has placed the worker; then it asks for work."""
        self._cluster.at(self._cluster.now + self._cluster.take_s("start"), self._go_on)

    def note_rest(self) -> None:
        """Note that the worker executes nothing any more, as it has ended or died."""
        now = self._cluster.now
        self._cluster.note_spent(sum(now - running.began_s for running in self._running.values()))
        self._cluster.note_busy(self.lease, 0)
        self._running = {}

    def on_order(self, order: Order) -> None:
        """An order of the manager has arrived."""
        if self.lives:
            self._note_answer(order)
            self._side.on_order(order, self._cluster.now)
            self._go_on()

    def lose_relay(self) -> None:
        """The relay is lost: the report that is not answered goes to the manager, too, and so do all later ones."""
        if self.lives and not self.is_stopped:
            self._send_again()

    def _send_again(self) -> None:
        self.relay = None
        if self._unanswered is not None and self._unanswered.relay is not None:
            self._unanswered = self._unanswered._replace(relay=None)
            self._cluster.send(self._unanswered)

    def _note_answer(self, order: Order) -> None:
        if self._unanswered is not None and self._unanswered.report.number == order.report:
            self._unanswered = None

    def revoke(self, numbers: Sequence[int]) -> None:
        """Leave out these tasks; an exception ends those that are executed, unless they never end."""
        self._revoked.update(numbers)
        if not self.lives or self.is_stopped:
            return
        for number in numbers:
            running = self._running.get(number)
            if running is not None and running.attempt.duration_s < math.inf:
                self._cluster.note_spent(self._cluster.now - running.began_s)
                self._stop(number, None)
        self._go_on()

    def _go_on(self) -> None:
        """Begin the tasks that may begin, and send the report that is due."""
        if not self.lives or self.is_stopped:
            return
        while (begun := self._side.begin_task(self._cluster.now)) is not None:
            held, number = begun
            if number in self._revoked:
                self._side.end_task(held, ())
            else:
                self._execute(held, number)
        self._cluster.note_busy(self.lease, len(self._running))
        self._report()

    def _report(self) -> None:
        cluster, side = self._cluster, self._side
        if side.is_over:
            cluster.end(self)
        elif (report := side.find_report(cluster.now)) is not None:
            self._unanswered = SentReport(self, report, self.relay)
            cluster.send(self._unanswered)
        elif side.asks_at != self._wakes_at:
            self._wakes_at = side.asks_at
            cluster.at(self._wakes_at, self._go_on)

    def _execute(self, held: ChunkInHand, number: int) -> None:
        cluster = self._cluster
        cluster.note_busy(self.lease, len(self._running) + 1)
        attempt = cluster.attempt(number)
        running = self._running[number] = _RunningTask(held, cluster.now, attempt)
        cluster.at(cluster.now + attempt.duration_s, lambda: self._end(number, running))

    def _end(self, number: int, running: _RunningTask) -> None:
        if not self.lives or self.is_stopped or self._running.get(number) is not running:
            return
        cluster, attempt = self._cluster, running.attempt
        if attempt.kills:
            is_late = attempt.reason == "timeout"  # then it is known whose deadline it was
            cluster.lose(self.lease, attempt.reason, self.find_overdue() if is_late else ())
            return
        cluster.note_spent(attempt.duration_s)
        cluster.executions.append(SimulatedExecution(number, self.lease, running.began_s, cluster.now))
        self._stop(number, ExecutedTask(number, attempt.duration_s, attempt.reason))
        self._go_on()

    def _stop(self, number: int, executed: ExecutedTask | None) -> None:
        """End a task that was executed, or interrupted."""
        self._side.end_task(self._running.pop(number).held, () if executed is None else (executed,))


class OneThreadWorker(SimulatedWorker):
    """A worker with one thread: it executes chunk by chunk, and looks at orders only between two chunks."""

    def __init__(self, cluster: Simulation, lease: int) -> None:
        super().__init__(cluster, lease)
        self._orders: list[Order] = []
        """Orders that it has not looked at."""
        self._held: ChunkInHand | None = None
        """The chunk that it executes."""
        self._waiting: deque[int] = deque()
        """The tasks of that chunk that have not begun."""
        self._executed: list[ExecutedTask] = []
        self._must_send_again = False

    def lose_relay(self) -> None:
        """The relay is lost; the worker sees that after the chunk that it executes."""
        self._must_send_again = True
        if self._held is None and self.lives and not self.is_stopped:
            self._go_on()

    def find_overdue(self) -> Sequence[int]:
        """None: its marker names the one task that it executes."""
        return ()

    def on_order(self, order: Order) -> None:
        """An order of the manager has arrived."""
        self._orders.append(order)
        self._note_answer(order)
        if self._held is None:
            self._go_on()

    def _go_on(self) -> None:
        """Execute the next task of the chunk; between two chunks look at the orders, and send the due report."""
        if not self.lives or self.is_stopped or self._running:
            return
        cluster, side = self._cluster, self._side
        if self._held is not None:
            if self._execute_next(self._held):
                return
            side.end_task(self._held, self._executed)
            cluster.note_busy(self.lease, 0)
        if self._must_send_again:
            self._must_send_again = False
            self._send_again()
        orders, self._orders = self._orders, []
        for order in orders:
            side.on_order(order._replace(works=[order.works]), cluster.now)
        self._held, numbers = side.begin_task(cluster.now) or (None, ())
        self._waiting, self._executed = deque(numbers), []
        self._report()
        if self._held is not None:
            self._go_on()

    def _execute_next(self, held: ChunkInHand) -> bool:
        """Execute the next task of a chunk; returns False if the chunk is through."""
        is_used_up = self._executed and held.began_at is not None and self._cluster.now - held.began_at > held.budget_s
        while self._waiting and not is_used_up:
            number = self._waiting.popleft()
            if number not in self._revoked:
                self._execute(held, number)
                return True
        return False

    def _stop(self, number: int, executed: ExecutedTask | None) -> None:
        del self._running[number]
        if executed is not None:
            self._executed.append(executed)
