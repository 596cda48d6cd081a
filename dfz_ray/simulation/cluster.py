"""The virtual cluster: it drives the engine in virtual time, in place of the manager and its workers."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from dfz_ray.engine.engine import Engine, EngineOptions
from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    ChunkEnded,
    Command,
    CommitCancellations,
    CommitEnds,
    CommitLosses,
    Event,
    GiveChunk,
    InterruptLease,
    KillLease,
    KindEntry,
    LeaseEnded,
    LeaseLost,
    ManagerMeasured,
    NoteAttemptsLost,
    NotePoolChanged,
    OutcomesCommitted,
    StartLease,
    TasksSubmitted,
    TimePassed,
    WorkAsked,
)
from dfz_ray.protocol.manager_side import Answer, ManagerSide
from dfz_ray.protocol.orders import Order
from dfz_ray.simulation.relay import SimulatedRelay
from dfz_ray.simulation.worker import (
    ExecutedTask,
    OneThreadWorker,
    SentReport,
    SimulatedAttempt,
    SimulatedExecution,
    SimulatedTask,
    SimulatedWorker,
)
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import State

Commit = CommitEnds | CommitLosses | CommitCancellations | NoteAttemptsLost


@dataclass(frozen=True)
class Costs:
    """The seconds that everything takes except for the tasks."""

    start_s: float = 0.01
    """From the call of a lease until its worker asks for work."""
    message_s: float = 0.0003
    """A message between a worker and the manager, one way."""
    commit_s: float = 0.003
    """A group commit."""
    loss_s: float = 0.1
    """From the death of a worker until the manager knows of it."""
    manager_s: float = 0.0
    """The manager's own time for an exchange with a worker; it does one at a time."""
    jitter: float = 0.0
    """All of these except for the manager's time vary evenly between (1 - jitter) and (1 + jitter) times."""
    relays: int = 0
    """The number of nodes; on each of them a relay brings the reports of its leases. 0: they go directly."""
    grouped_s: float = 0.0
    """The manager's own time for each further exchange in the group of a relay."""


@dataclass(frozen=True)
class Simulated:
    """The outcome of a run in virtual time."""

    makespan_s: float
    """From the submission until the last outcome was on the disk."""
    busy_s: float
    """The run time of all tasks, over all slots, lost attempts included."""
    counts: dict[str, int]
    """Tasks per state."""
    chunks: int
    leases: int
    executions: list[SimulatedExecution]
    """The executions that ended, in the order of their ends; a task that was tried again has several."""


def simulate(
    tasks: Sequence[SimulatedTask],
    slots: int,
    costs: Costs = Costs(),
    seed: int = 0,
    options: EngineOptions | None = None,
) -> Simulated:
    """Run tasks in virtual time, all submitted at once, with the real engine and the real lease protocol.

    Slots and seed take precedence over those of `options`. Equal arguments give equal outcomes.
    """
    given = EngineOptions(slots) if options is None else options
    simulation = Simulation(replace(given, slots=slots, seed=seed), costs, seed)
    if costs.manager_s:
        simulation.report(ManagerMeasured(costs.manager_s))
    simulation.submit(tasks)
    simulation.run()
    return simulation.result()


class Simulation:
    """Workers and a manager in virtual time, around the real engine and the real lease protocol.

    `handle`, `take_s`, `attempt`, `deliver` and `commit` may be overridden, to change the engine's events, the costs,
    the course of an attempt, and the fate of a report or a commit.
    """

    def __init__(self, options: EngineOptions, costs: Costs = Costs(), seed: int = 0) -> None:
        self.engine = Engine(options)
        self.manager = self.new_manager()
        self.costs = costs
        self.now = 0.0
        self.tasks: list[SimulatedTask] = []
        self.workers: dict[int, SimulatedWorker] = {}
        """Living workers by lease, including leases that Ray has not placed yet."""
        self.executions: list[SimulatedExecution] = []
        self.most_busy = 0
        """The most tasks that were ever executed at one time; between those of a chunk a worker counts as busy."""
        self.pool_changes: list[tuple[float, NotePoolChanged]] = []
        """The changes of the number of slots, each with its time, if it follows the throughput."""
        self._busy: dict[int, int] = {}
        self._busy_now = 0
        self._busy_s = 0.0
        self._ended_s = 0.0
        self._chunks = self._leases = 0
        self._draw = random.Random(seed)  # noqa: S311  delays, not secrets
        self._kinds: dict[tuple[str, int, Policy], int] = {}
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._wakes_at = math.inf
        self._manager_free_s = 0.0
        self.relays = [SimulatedRelay(self) for _ in range(costs.relays)]
        self._pending: list[Commit] = []
        self._committing: list[Commit] = []

    # --- the user -----------------------------------------------------------------------------------------------------

    def submit(self, tasks: Iterable[SimulatedTask]) -> None:
        """Submit tasks, now."""
        new, known = list(tasks), len(self._kinds)
        self.tasks.extend(new)
        kind_of = [self.kind_of(task) for task in new]
        self.report(TasksSubmitted(self.kinds()[known:], kind_of))

    def kind_of(self, task: SimulatedTask) -> int:
        """The number of a task's kind; a new kind gets the next one."""
        return self._kinds.setdefault((task.kind, task.lane, task.policy), len(self._kinds))

    def kinds(self) -> list[KindEntry]:
        """All kinds, in the order of their numbers."""
        return [KindEntry(*kind) for kind in self._kinds]

    def at(self, time_s: float, action: Callable[[], object]) -> None:
        """Plan an action for some time; never if that is infinite."""
        if time_s < math.inf:
            heapq.heappush(self._agenda, (max(time_s, self.now), next(self._order), action))

    def run(self, until_s: float = math.inf, limit: int | None = None) -> None:
        """Let time pass until nothing more happens, or until some time.

        Raises:
            RuntimeError: it does not come to rest within `limit` actions.
        """
        for _ in itertools.count() if limit is None else range(limit):
            if not self._agenda or self._agenda[0][0] > until_s:
                return
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        raise RuntimeError(f"it does not come to rest: {limit} things happened by {self.now} s")

    def result(self) -> Simulated:
        """The outcome so far."""
        counts = {state.label: self.engine.tasks.counts[state] for state in State}
        executions = sorted(self.executions, key=lambda one: (one.ended_s, one.number))
        return Simulated(self._ended_s, self._busy_s, counts, self._chunks, self._leases, executions)

    def new_manager(self) -> ManagerSide:
        """The manager's half of the lease protocol, at its beginning."""
        return ManagerSide(self.report, self.read_end, lambda command: command.chunk.numbers, self._send_order)

    # --- to be overridden ---------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Command]:
        """Let the engine handle an event."""
        return self.engine.handle(event, self.now)

    def take_s(self, what: str) -> float:
        """The seconds that a `start`, `message`, `commit` or `loss` takes, drawn anew; infinite: it never comes."""
        seconds: float = getattr(self.costs, f"{what}_s")
        return seconds * (1 + self.costs.jitter * (2 * self._draw.random() - 1)) if self.costs.jitter else seconds

    def attempt(self, number: int) -> SimulatedAttempt:
        """The course of an attempt at a task; a deadline ends it as the alarm in a worker does."""
        task = self.tasks[number]
        timeout_s = task.policy.timeout_s
        if timeout_s is not None and task.duration_s > timeout_s:
            return SimulatedAttempt(timeout_s, "timeout")
        return SimulatedAttempt(task.duration_s, task.reason)

    def deliver(self, message: SentReport) -> None:
        """A report of a worker has arrived, and the manager has time for it."""
        order, relay = self.manager.exchange(message.report), message.relay
        if order is None:
            return
        if relay is None:
            self.at(self.now + self.take_s("message"), lambda: message.worker.on_order(order))
        else:
            self.at(self.now + self.take_s("message"), lambda: relay.answer(message.worker, order))

    def read_end(self, lease: int, chunk: int, executed: Sequence[ExecutedTask]) -> ChunkEnded:
        """The end of a chunk as an event of the engine."""
        numbers, durations_s = [one.number for one in executed], [one.duration_s for one in executed]
        return ChunkEnded(
            lease, chunk, numbers, durations_s, {one.number: one.reason for one in executed if one.reason}
        )

    def commit(self, group: Sequence[Commit]) -> None:
        """Commands that were committed together are on the disk."""
        ended: defaultdict[State, list[int]] = defaultdict(list)
        for command in group:
            match command:
                case CommitEnds():
                    ended[State.COMPLETED].extend(command.completed)
                    ended[State.FAILED].extend(command.failed)
                case CommitLosses():
                    ended[command.state].extend(command.messages)
                case CommitCancellations():
                    ended[State.CANCELLED].extend(command.numbers)
        if outcomes := {state: numbers for state, numbers in ended.items() if numbers}:
            self._ended_s = self.now
            self.report(OutcomesCommitted(outcomes))

    # --- the manager --------------------------------------------------------------------------------------------------

    def report(self, event: Event) -> Answer | None:
        """Report an event to the engine, and execute its commands; returns its answer to a lease that asks for work."""
        if isinstance(event, LeaseEnded | LeaseLost):
            self.manager.close(event.lease)
        answer: Answer | None = None
        for command in self.handle(event):
            match command:
                case GiveChunk() | AnswerWait() | AnswerEnd():
                    self._chunks += isinstance(command, GiveChunk)
                    if isinstance(event, WorkAsked) and command.lease == event.lease:
                        answer = command
                    else:
                        self.manager.answer(command)
                case StartLease():
                    self._start(command.lease)
                case KillLease():
                    worker = self.workers.get(command.lease)
                    is_late = worker is not None and command.why == "timeout"
                    guilty = worker.find_overdue() if worker is not None and is_late else ()
                    self.lose(command.lease, "timeout" if guilty else "worker_crashed", guilty)
                case InterruptLease():
                    self._interrupt(command)
                case NotePoolChanged():
                    self.pool_changes.append((self.now, command))
                case _:
                    self._pending.append(command)
        self._commit_soon()
        self._wake_soon()
        return answer

    def _wake_soon(self) -> None:
        wake_at = self.engine.wake_at
        if wake_at is not None and wake_at < self._wakes_at:
            self._wakes_at = wake_at
            self.at(wake_at, lambda: self._wake(wake_at))

    def _wake(self, at: float) -> None:
        if at == self._wakes_at:
            self._wakes_at = math.inf
            wake_at = self.engine.wake_at
            if wake_at is not None and wake_at <= self.now:
                self.report(TimePassed())
            self._wake_soon()

    def _commit_soon(self) -> None:
        """Commit as the manager does: commands that come while a commit is on its way go with the next one."""
        if self._pending and not self._committing:
            self._committing, self._pending = self._pending, []
            self.at(self.now + self.take_s("commit"), self._on_committed)

    def _on_committed(self) -> None:
        group, self._committing = self._committing, []
        if group:
            self.commit(group)
        self._commit_soon()

    # --- workers ------------------------------------------------------------------------------------------------------

    def send(self, message: SentReport) -> None:
        """A worker sends a report; the manager takes one after the other."""

        relay = message.relay
        arrive = (lambda: self._serve([message])) if relay is None else (lambda: relay.add(message))
        self.at(self.now + self.take_s("message"), arrive)

    def _send_order(self, lease: int, order: Order) -> None:
        """Send the answer to a lease that has lingered, if it lives."""
        worker = self.workers.get(lease)
        if worker is not None:
            self.at(self.now + self.take_s("message"), lambda: worker.on_order(order))

    def send_group(self, group: Sequence[SentReport]) -> None:
        """A relay sends what it has gathered."""
        self.at(self.now + self.take_s("message"), lambda: self._serve(group))

    def _serve(self, group: Sequence[SentReport]) -> None:
        service_s = self.serve_s(group)
        if service_s:
            self._manager_free_s = max(self.now, self._manager_free_s) + service_s
            self.at(self._manager_free_s, lambda: self._deliver_all(group))
        else:
            self._deliver_all(group)

    def serve_s(self, group: Sequence[SentReport]) -> float:
        """The manager's own time for reports that arrive together."""
        costs = self.costs
        return costs.manager_s + costs.grouped_s * (len(group) - 1)

    def _deliver_all(self, group: Sequence[SentReport]) -> None:
        for message in group:
            self.deliver(message)
        relay = group[0].relay
        if relay is not None:
            self.at(self.now + self.take_s("message"), relay.on_answer)

    def lose_relay(self, node: int) -> None:
        """Let the relay of a node die; another one serves the leases that start there later."""
        lost, self.relays[node] = self.relays[node], SimulatedRelay(self)
        lost.lives = False
        for worker in self.workers.values():
            if worker.relay is lost:
                self.at(self.now + self.take_s("loss"), worker.lose_relay)

    def lose(self, lease: int, reason: str, guilty: Sequence[int] = ()) -> None:
        """Let a worker die, if it lives; the manager learns which tasks it executed, or which of them hung."""
        worker = self.workers.get(lease)
        if worker is None:
            return
        message = f"the worker of lease {lease} died"
        lost = LeaseLost(lease, message, reason, guilty or worker.executing, bool(guilty))
        self.remove(worker)
        self.at(self.now + self.take_s("loss"), lambda: self.report(lost))

    def end(self, worker: SimulatedWorker) -> None:
        """The call of a lease returns."""
        self.remove(worker)
        self.at(self.now + self.take_s("message"), lambda: self.report(LeaseEnded(worker.lease)))

    def remove(self, worker: SimulatedWorker) -> None:
        """Remove a worker that has ended or died."""
        worker.lives = False
        if self.workers.get(worker.lease) is worker:
            del self.workers[worker.lease]
        worker.note_rest()

    def note_busy(self, lease: int, tasks: int) -> None:
        """The worker of a lease executes so many tasks."""
        self._busy_now += tasks - self._busy.get(lease, 0)
        self._busy[lease] = tasks
        self.most_busy = max(self.most_busy, self._busy_now)

    def note_spent(self, seconds: float) -> None:
        """Tasks were executed for so long."""
        self._busy_s += seconds

    def _start(self, lease: int) -> None:
        self._leases += 1
        worker = self.workers[lease] = (
            OneThreadWorker(self, lease) if self.engine.options.width == 1 else SimulatedWorker(self, lease)
        )
        if self.relays:
            worker.relay = self.relays[lease % len(self.relays)]
        self.at(self.now, worker.start)

    def _interrupt(self, command: InterruptLease) -> None:
        worker = self.workers.get(command.lease)
        if worker is not None:
            self.at(self.now + self.take_s("message"), lambda: worker.revoke(command.numbers))
