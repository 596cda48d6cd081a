"""The simulated cluster under a witness, with the faults that a test asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.engine.messages import Command, Event, LeaseEnded, LeaseLost
from dfz_ray.simulation import Costs, SimulatedAttempt, SimulatedTask, Simulation
from dfz_ray.simulation.worker import SentReport
from dfz_ray.specs.policy import Policy
from support.witness import Witness

ONCE = Policy(max_attempts=1)


class Job(NamedTuple):
    """A task as the virtual cluster executes it."""

    kind: str
    duration_s: float
    lane: int = 0
    crashes: bool = False
    """After its duration it kills its worker."""
    fails: bool = False
    policy: Policy = ONCE


class VirtualCluster(Simulation):
    """Workers and a manager's shell in virtual time, whose engine is checked after every event.

    Args:
        slots: of the run.
        delays: gives the seconds that `start` (of a lease), `message` (one way), `commit` or `loss` (until the death
            of a worker is known) take, each time anew.
        last_words: whether a message that is on its way when its worker dies still arrives.
        is_repeated: whether the end of a chunk is reported a second time, later.
        told: what is told of the tasks that a worker executed as it died; by default that it is not known.
        options: of the engine.
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
        told: Callable[[Sequence[int]], Sequence[int] | None] = lambda executing: None,
        **options: Any,
    ) -> None:
        super().__init__(EngineOptions(slots), Costs())
        self.witness = Witness(slots, target_s, lease_s, **options)
        self.engine = self.witness.engine
        self.jobs: list[Job] = []
        self.stuck: set[int] = set()
        """Tasks that never end, and that no alarm reaches."""
        self._delays = delays
        self._last_words = last_words
        self._is_repeated = is_repeated
        self._told = told

    # --- what a test does with it -----------------------------------------------------------------------------------

    def submit(self, jobs: Iterable[Job], at: float = 0.0) -> None:  # type: ignore[override]
        """Submit tasks at some time."""

        def submit(new: list[Job]) -> None:
            self.jobs.extend(new)
            super(VirtualCluster, self).submit(
                SimulatedTask(job.kind, job.duration_s, job.lane, job.policy, "exception" * job.fails) for job in new
            )

        new = list(jobs)
        self.at(at, lambda: submit(new))

    def tell_at(self, event: Event, at: float = 0.0) -> None:
        """Let something else happen at some time."""
        self.at(at, lambda: self.report(event))

    def kill_a_worker(self, at: float, reason: str = "worker_crashed") -> None:
        """Let the longest-serving worker die at some time, through no fault of a task."""
        self.at(at, lambda: self.lose(min(self.workers), reason) if self.workers else None)

    def dismiss_a_worker(self, at: float) -> None:
        """Let the longest-serving worker's call return at some time, whatever it has in hand."""

        def dismiss() -> None:
            if self.workers:
                lease = min(self.workers)
                self.remove(self.workers[lease])
                self.report(LeaseEnded(lease))

        self.at(at, dismiss)

    def play(self, until_s: float = math.inf, limit: int = 1_000_000) -> VirtualCluster:
        """Let time pass until nothing more happens."""
        self.run(until_s, limit)
        self.witness.check_lanes()
        return self

    @property
    def makespan_s(self) -> float:
        """When the last task ended."""
        return max(execution.ended_s for execution in self.executions)

    @property
    def lower_bound_s(self) -> float:
        """No schedule is shorter: what all slots need together, and what the longest task needs."""
        work_s = [job.duration_s for job in self.jobs]
        return max(sum(work_s) / self.witness.engine.slots, *work_s)

    # --- what is overridden -----------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, LeaseLost) and event.executing is not None:
            event = replace(event, executing=self._told(event.executing))
        return self.witness.tell(event, self.now)

    def take_s(self, what: str) -> float:
        return self._delays(what)

    def attempt(self, number: int) -> SimulatedAttempt:
        job = self.jobs[number]
        if number in self.stuck:
            return SimulatedAttempt(math.inf)
        return (
            SimulatedAttempt(job.duration_s, "worker_crashed", kills=True) if job.crashes else super().attempt(number)
        )

    def deliver(self, message: SentReport) -> None:
        if not message.worker.lives and not self._last_words():
            return
        super().deliver(message)
        lease, chunk = message.report.lease, message.report.ended
        if chunk is not None and self._is_repeated():
            ended = self.read_end(lease, chunk, message.report.executed)
            self.tell_at(ended, self.now + self._delays("message"))
