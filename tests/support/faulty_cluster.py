"""A simulated cluster on which everything goes wrong that can, and a manager that dies and is recovered."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.engine.messages import (
    AnswerEnd,
    CancelAsked,
    Command,
    CommitCancellations,
    CommitEnds,
    CommitLosses,
    Event,
    InterruptLease,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    NoteAttemptsLost,
    StopAsked,
    TasksSubmitted,
    TimePassed,
    WorkAsked,
)
from dfz_ray.engine.speculation import Speculation
from dfz_ray.protocol.reports import Report
from dfz_ray.simulation import Costs, SimulatedAttempt, Simulation
from dfz_ray.simulation.cluster import Commit
from dfz_ray.simulation.worker import ExecutedTask, SentReport, SimulatedWorker
from dfz_ray.specs.states import State
from support.witness import Witness

LEASES_OF_A_MANAGER = 1_000_000


UNNOTICED_S = 20.0
"""So long after the loss of a relay every hung worker that the manager knows of is dead."""


class Fate(NamedTuple):
    """The fate of a task, whoever executes it."""

    sort: str
    """completes, fails, flaky, crashes, hangs (the alarm ends it), clings (its worker ends itself), or sticks."""
    reason: str = ""
    failures: int = 0
    """Of a flaky one: how many attempts fail."""


class Journal:
    """The facts that the real journal keeps, of what was committed."""

    def __init__(self) -> None:
        self.outcomes: dict[int, str] = {}
        self.charged: Counter[int] = Counter()
        self.free_losses: Counter[int] = Counter()

    def write(self, group: Sequence[Commit]) -> None:
        """Write down a group."""
        for command in group:
            match command:
                case CommitEnds():
                    self._settle(dict.fromkeys(command.completed, "completed"))
                    self._settle(dict.fromkeys(command.failed, "failed"))
                    self.charged.update(command.retried)
                case CommitLosses():
                    self._settle(dict.fromkeys(command.messages, command.state.label))
                case CommitCancellations():
                    self._settle(dict.fromkeys(command.numbers, "cancelled"))
                case NoteAttemptsLost(charged=True):
                    self.charged.update(command.numbers)
                case NoteAttemptsLost(reason="node_lost", superseded=False):
                    self.free_losses.update(command.numbers)

    def _settle(self, outcomes: dict[int, str]) -> None:
        assert not outcomes.keys() & self.outcomes.keys(), "every task has one outcome on the disk"
        self.outcomes.update(outcomes)


class FaultyCluster(Simulation):
    """A run with faults from a seed.

    Args:
        seed: of everything.
        is_wide: whether leases run several tasks at once, and the number of slots changes.
    """

    def __init__(self, seed: int, is_wide: bool = False) -> None:
        self.dice = dice = random.Random(seed)  # noqa: S311  faults, not secrets
        self.options = EngineOptions(
            slots=dice.randint(2, 12) if is_wide else dice.randint(1, 6),
            width=dice.randint(2, 6) if is_wide else 1,
            lease_s=dice.choice([0.05, 0.5, 2.0]),
            grace_s=dice.choice([0.2, 0.5]),
            preempt_after_s=dice.choice([None, 0.1, 0.5]),
            free_losses=dice.choice([0, 1, 5]),
            seed=seed,
        )
        others = random.Random(seed)  # noqa: S311  of their own, so that the other faults stay as they are
        self.others, self._relaying = others, random.Random(seed)  # noqa: S311
        self.options = dataclasses.replace(self.options, linger_s=self.others.choice([0.0, 0.05, 2.0]))
        super().__init__(self.options, Costs(relays=self._relaying.choice([0, 0, 1, 2])))
        self.relay_deaths = 0
        for at in [self._relaying.uniform(0.0, 3.0) for _ in range(self._relaying.randint(0, 4) * bool(self.relays))]:
            self.at(at, self._lose_any_relay)
        speculating = random.Random(seed)  # noqa: S311
        self.speculates = speculating.random() < 0.3
        """True if tasks may have second attempts."""
        self.late_share = speculating.choice([0.0, 0.0, 0.5])
        """The share of a kind's tasks that are not late."""
        self.witness = self._new_witness(0)
        self.most_slots = self.options.slots
        self.fates: list[Fate] = []
        self.attempts: Counter[int] = Counter()
        self.journal = Journal()
        self.outcomes: dict[int, str] = {}
        """By all managers: reasons, too."""
        self.struck: set[int] = set()
        """Tasks that were in the hands of a worker which died through no fault of a task."""
        self.ruled_out: set[int] = set()
        """Lanes that were said never to be placed."""
        self.cancels: list[CancelAsked] = []
        self.managers = 1
        self.deaths = 0
        self.kills: Counter[str] = Counter()
        self.faulty_reports: Counter[str] = Counter()
        """Reports that came late, came twice, or were lost with their worker."""
        self._scale_s = dice.choice([0.0, 0.001, 0.02, 0.08])
        self._blame = dice.choice(["known", "unknown", "stale", "any"])
        self._heard, self._doubled = dice.choice([0.0, 0.5, 1.0]), dice.choice([0.0, 0.1])
        self._late = dice.choice([0.0, 0.05])
        self._deaf = dice.choice([0.0, 1.0])
        self._stopping = random.Random(seed)  # noqa: S311  the same
        self._stops = self._stopping.choice([0.0, 0.0, 0.03])
        self._unplaced = dice.choice([0.0, 0.0, 0.2])
        self._placed_from_s = dice.uniform(0.5, 3.0)
        """From then on Ray places every lease."""
        self._manager_dies_at: set[int] = set()
        """After so many events."""
        self._lanes: dict[int, LaneSized] = {}
        self._outside: set[int] = set()
        """Leases whose worker died through no fault of a task."""
        self.events = 0

    def _new_witness(self, first_lease: int) -> Witness:
        options = {field.name: getattr(self.options, field.name) for field in dataclasses.fields(self.options)}
        witness = Witness(**options)
        witness.engine.lease_table.next_lease = first_lease
        engine = witness.engine
        engine._speculation = Speculation(
            engine.queue, engine.lease_table, engine.kind_of, self.late_share, least_tasks=1
        )
        self.engine = witness.engine
        return witness

    # --- how things go ----------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, LeaseLost):
            event = self._blamed(event)
        if isinstance(event, LeaseEnded):
            assert not self.witness.held.get(event.lease), "a lease that returns has reported all that it was given"
        if isinstance(event, LaneSized):
            self._lanes[event.lane] = event
        self.events += 1
        commands = self.witness.tell(event, self.now)
        for command in commands:
            if isinstance(command, CommitLosses) and command.chunk is None and command.reason == "worker_crashed":
                self.struck.update(command.messages)
        if self.events in self._manager_dies_at and not self.witness.stopped:
            self._manager_dies_at = {at for at in self._manager_dies_at if at > self.events + 20}
            self._replace_manager()
            # It did not live to do any of that; its workers have died with it.
            return [AnswerEnd(event.lease)] if isinstance(event, WorkAsked) else []
        # A worker in the middle of native code lets go of nothing.
        return [one for one in commands if not (isinstance(one, InterruptLease) and self.dice.random() < self._deaf)]

    def take_s(self, what: str) -> float:
        if what == "start" and self.now < self._placed_from_s and self.dice.random() < self._unplaced:
            return math.inf
        return self._scale_s * self.dice.random() * (3 if what == "loss" else 1)

    def attempt(self, number: int) -> SimulatedAttempt:
        task, fate = self.tasks[number], self.fates[number]
        self.attempts[number] += 1
        slow = self.dice.choice([1.0, 1.0, 1.0, 3.0])
        timeout_s = task.policy.timeout_s
        if timeout_s is None:
            timeout_s = math.inf
        duration_s = min(task.duration_s * slow, 0.9 * timeout_s)
        fails = fate.sort != "flaky" or self.attempts[number] <= fate.failures
        runs = {
            "crashes": SimulatedAttempt(duration_s, fate.reason, kills=True),
            "hangs": SimulatedAttempt(timeout_s, "timeout"),
            "clings": SimulatedAttempt(timeout_s + self.options.grace_s / 2, "timeout", kills=True),
            "sticks": SimulatedAttempt(math.inf),
        }
        return runs.get(fate.sort, SimulatedAttempt(duration_s, fate.reason if fails else ""))

    def send(self, message: SentReport) -> None:
        if self.dice.random() < self._late:
            self.faulty_reports["late"] += 1
            self.at(self.now + self.dice.random() * 0.3, lambda: super(FaultyCluster, self).send(message))
        else:
            super().send(message)

    def deliver(self, message: SentReport) -> None:
        if not message.worker.lives and self.dice.random() >= self._heard:
            self.faulty_reports["lost"] += 1
            return
        super().deliver(message)
        lease = self.engine.lease_table.leases.get(message.report.lease)
        held = [] if lease is None else lease.held.values()
        has_deadlines = bool(held) and all(one.taken.limit_s < math.inf for one in held)  # else nobody could know
        if has_deadlines and self._stopping.random() < self._stops:
            self._outside.add(message.report.lease)
            message.worker.is_stopped = True
        if self.dice.random() < self._doubled:
            self.faulty_reports["twice"] += 1
            self.at(self.now + self.dice.random() * 0.3, lambda: super(FaultyCluster, self).deliver(message))

    def commit(self, group: Sequence[Commit]) -> None:
        self.journal.write(group)
        super().commit(group)

    def lose(self, lease: int, reason: str, guilty: Sequence[int] = ()) -> None:
        self.deaths += lease in self.workers
        super().lose(lease, reason, guilty)

    # --- faults -----------------------------------------------------------------------------------------------------

    def _lose_any_relay(self) -> None:
        self.relay_deaths += 1
        self.lose_relay(self._relaying.randrange(len(self.relays)))
        self.at(self.now + UNNOTICED_S, self._end_unnoticed)

    def _end_unnoticed(self) -> None:
        """Strike workers that hang beyond their watchdog, and whose report of what they began was lost with a relay.

        The manager takes them to be in the chunk before, which may have no deadline: only a user can end them.
        """
        for worker in list(self.workers.values()):
            is_cut_off = worker.relay is not None and not worker.relay.lives
            if is_cut_off and any(self.fates[number].sort == "sticks" for number in worker.executing):
                self.strike(worker, "worker_crashed")

    def strike(self, worker: SimulatedWorker, reason: str) -> None:
        """A worker dies through no fault of a task."""
        self._outside.add(worker.lease)
        self.lose(worker.lease, reason)

    def _blamed(self, lost: LeaseLost) -> LeaseLost:
        """The loss as it is reported: it names who is to blame, or nobody, or an older task of the same worker."""
        held = self.witness.held.get(lost.lease, {})
        in_hand = [number for chunk in held.values() for number in chunk.numbers]
        lease = self.engine.lease_table.leases.get(lost.lease)
        is_cut_off = self.relay_deaths and lease is not None and lease.killed == "timeout"
        if lost.lease in self._outside or is_cut_off:
            self.struck.update(in_hand)
        blame = self.dice.choice(["known", "unknown", "stale"]) if self._blame == "any" else self._blame
        executing = lost.executing
        if blame == "unknown":
            executing = None
        elif blame == "stale" and executing is not None:
            older = [one.number for one in self.executions if one.lease == lost.lease and one.number not in in_hand]
            stale = self.dice.choice([*older, None])
            executing = () if stale is None else (stale,)
            if lease is not None and not any(one.is_reported for one in lease.held.values()):
                self.struck.update(in_hand)  # nobody can know that it had begun any of them
        lost = dataclasses.replace(lost, executing=executing)
        if self.dice.random() < self._doubled:
            self._tell_later(lost)
        return lost

    def _tell_later(self, event: Event) -> None:
        self.at(self.now + self.dice.random() * 0.3, lambda: self.report(event))

    def lose_node(self, lanes: Sequence[int], back_after_s: float) -> None:
        """Several workers are gone at once, and with them the room for new ones; a node comes again later."""
        for worker in list(self.workers.values()):
            if self.dice.random() < 0.6:
                self.strike(worker, "node_lost")
        for lane in lanes:
            before = self._lanes.get(lane, LaneSized(lane, math.inf))
            if before.why_none:
                continue
            self.report(LaneSized(lane, self.dice.choice([0, 1])))
            again = LaneSized(lane, max(1.0, before.capacity))
            self.at(self.now + back_after_s, lambda again=again: self.report(again))  # type: ignore[misc]

    def cancel(self, numbers: Sequence[int] | None) -> None:
        """Someone asks for a cancellation; the journal keeps that they did."""
        known = range(len(self.tasks))
        event = CancelAsked([number for number in (known if numbers is None else numbers) if number in known])
        self.cancels.append(event)
        self.report(CancelAsked(None) if numbers is None else event)

    def stop(self) -> None:
        """The run is to end; what does not end is killed, as when a manager closes a run."""
        self.report(StopAsked())
        self.at(self.now + 2.0, lambda: [self.lose(lease, "worker_crashed") for lease in list(self.workers)])

    def set_slots(self, slots: int) -> None:
        """From now on so many tasks may execute at once."""
        self.options = dataclasses.replace(self.options, slots=slots)
        self.engine.set_slots(slots)
        self.witness.note_slots()
        self.report(TimePassed())

    def place_all(self) -> None:
        """Give up the leases that Ray could not place, and call them anew."""
        for lane in list(self._lanes):
            before = self._lanes[lane]
            if not before.why_none:
                self.report(LaneSized(lane, 0))
                self.report(LaneSized(lane, before.capacity or 1))

    def _replace_manager(self) -> None:
        """The manager dies as it is, and another one goes on from what is on the disk."""
        self.managers += 1
        if self.dice.random() < 0.5:
            self.journal.write(self._committing)
        self._pending, self._committing = [], []
        stragglers = self._stragglers()
        for worker in list(self.workers.values()):
            self.remove(worker)
        self.kills.update(kill.why for kill in self.witness.kills)
        settled = self.journal.outcomes
        self.outcomes = {number: self.outcomes.get(number, self.witness.outcome[number]) for number in settled}
        self.options = dataclasses.replace(self.options, first_chunk=self.engine.lease_table.next_chunk)
        self.witness = self._new_witness(self.managers * LEASES_OF_A_MANAGER)
        self.manager = self.new_manager()
        self._wakes_at = math.inf
        is_open = [number not in settled for number in range(len(self.tasks))]
        states = {number: State[outcome.upper()].value for number, outcome in settled.items()}
        charged = {number: count for number, count in self.journal.charged.items() if is_open[number]}
        free = {number: count for number, count in self.journal.free_losses.items() if is_open[number]}
        for event in list(self._lanes.values()):
            self.report(event)
        self.report(TasksSubmitted(self.kinds(), [self.kind_of(task) for task in self.tasks], states, charged, free))
        for event in self.cancels:
            self.report(event)
        for straggler in stragglers:
            self.at(self.now + self.dice.random() * 0.3, lambda said=straggler: self._hear(said))  # type: ignore[misc]

    def _stragglers(self) -> list[Report | LeaseEnded | LeaseLost]:
        """The last messages of the old manager's workers, to whoever hears them."""
        said: list[Report | LeaseEnded | LeaseLost] = []
        for lease, chunks in self.witness.held.items():
            for chunk in chunks.values():
                executed = [ExecutedTask(one, 0.01, self.dice.choice(["exception", ""])) for one in chunk.numbers]
                number = self.dice.randint(1, 9)
                said.append(Report(lease, number, began=chunk.id, asks=False))
                said.append(Report(lease, number + 1, chunk.id, executed, asks=self.dice.random() < 0.5))
            said.append(self.dice.choice([LeaseEnded(lease), LeaseLost(lease, "it died")]))
        return self.dice.sample(said, k=min(len(said), 6))

    def _hear(self, said: Report | LeaseEnded | LeaseLost) -> None:
        """The new manager hears from a worker of the old one."""
        if isinstance(said, Report):
            self.manager.exchange(said)
        else:
            self.report(said)
