"""The virtual machine of a prediction: the real engine and lease protocol, in measured times, for millions of tasks.

It differs from `Simulation` in what it leaves out and in what it adds: no attempt fails; a worker executes a chunk in a
few parts, not task by task; tasks wait and compute, and those that compute share the cores with all others; the manager
serves one exchange after the other and takes a time for each and for each task in it; Ray places one lease after the
other; the driver sends the tasks in blocks.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.engine.messages import ChunkEnded, KindEntry, ManagerMeasured, TasksSubmitted
from dfz_ray.protocol.worker_side import ChunkInHand
from dfz_ray.simulation.cluster import Costs, Simulation
from dfz_ray.simulation.shared_cores import SharedCores
from dfz_ray.simulation.worker import OneThreadWorker, SentReport
from dfz_ray.specs.policy import Policy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIRST_BLOCK_TASKS, BLOCK_TASKS = 500, 5_000
"""Tasks in the driver's first block, and in each later one."""
PARTS = 4
"""A chunk is executed in so many parts; between two of them its worker looks whether its time is used up."""
DRAWS = 4_096
"""The number of draws of each overhead; after these they begin again."""
SETTLE_S = 0.1
"""The share of the manager's time in all time is smoothed over so many seconds at the beginning."""


@dataclass(frozen=True)
class MachineTimes:
    """The measured seconds that everything takes except for the tasks. Of a sequence one value is drawn each time."""

    start_s: Sequence[float]
    """From the time at which Ray begins to place a lease until its worker asks for work."""
    place_s: float
    """Ray begins to place the next lease so much later."""
    message_s: Sequence[float]
    """A message between a worker and the manager, one way."""
    chunk_s: Sequence[float]
    """CPU time of a worker between two chunks."""
    commit_s: Sequence[float]
    exchange_s: float
    """The manager's time for an exchange with a worker; it does one at a time."""
    report_task_s: float
    """The manager's time for each task whose end is reported."""
    send_task_s: float
    """The driver's time for each task that it sends."""


class BatchWork(NamedTuple):
    """The tasks of a batch, by number."""

    kinds: Sequence[tuple[str, int]]
    """Name and lane."""
    kind_of: NDArray[np.int64]
    wait_s: NDArray[np.float64]
    """The time that a task waits for something else than a core."""
    cpu_s: NDArray[np.float64]
    """The time that a task computes on a core of its own."""


@dataclass(frozen=True)
class PredictedRun:
    """A run in virtual time."""

    makespan_s: float
    """From the time at which the manager has the first tasks until the last outcome is on the disk."""
    manager_share: float
    """The share of the makespan in which the manager is busy."""
    chunks: int
    leases: int


class _Part(NamedTuple):
    """Tasks of a chunk that were executed one after the other."""

    numbers: Sequence[int]
    durations_s: Sequence[float]


def predict_run(work: BatchWork, slots: int, times: MachineTimes, cores: float, seed: int = 0) -> PredictedRun:
    """Run a batch in virtual time. Equal arguments give equal runs.

    Args:
        work: the tasks.
        slots: the number of workers.
        times: of everything else.
        cores: the cores that workers and manager share; infinite: each worker has one, and the manager, too.
        seed: of the draws.

    Raises:
        RuntimeError: the engine did not end all tasks: a defect of dfz_ray.
    """
    machine = _Machine(work, slots, times, cores, seed)
    machine.send_batch()
    machine.run()
    result = machine.result()
    tasks = len(work.kind_of)
    if result.counts["completed"] != tasks:
        raise RuntimeError(f"the simulation ended with {result.counts}, and not with {tasks} completed tasks")
    return PredictedRun(result.makespan_s, machine.manager_busy_s / result.makespan_s, result.chunks, result.leases)


class _Machine(Simulation):
    def __init__(self, work: BatchWork, slots: int, times: MachineTimes, cores: float, seed: int) -> None:
        super().__init__(EngineOptions(slots, seed=seed), Costs(), seed)
        self.work, self.times = work, times
        self.shared = SharedCores(cores, lambda: self.now, self.at)
        self.manager_busy_s = 0.0
        self._placed_s = 0.0
        draw = random.Random(seed)  # noqa: S311  delays, not secrets
        self._delays: dict[str, Iterator[float]] = {
            name: itertools.cycle(draw.choices(getattr(times, f"{name}_s"), k=DRAWS))
            for name in ("start", "message", "commit", "chunk")
        }
        self.draw_phase = draw.random
        self.report(ManagerMeasured(times.exchange_s))

    def send_batch(self) -> None:
        """Send the tasks in blocks, as the driver does."""
        kind_of = self.work.kind_of
        kinds = [KindEntry(name, lane, Policy()) for name, lane in self.work.kinds]
        first, size, at_s = 0, FIRST_BLOCK_TASKS, 0.0
        while first < len(kind_of):
            block = kind_of[first : first + size].tolist()
            event = TasksSubmitted(kinds, block)
            self.at(at_s, lambda event=event: self.report(event))  # type: ignore[misc]
            first, size, kinds = first + size, BLOCK_TASKS, []
            at_s += min(size, len(kind_of) - first) * self.times.send_task_s

    # --- what the cluster asks for ------------------------------------------------------------------------------------

    def take_s(self, what: str) -> float:
        """The seconds that something takes, drawn from what was measured."""
        seconds = next(self._delays[what])
        if what != "start":
            return seconds
        begins_s = max(self.now, self._placed_s)
        self._placed_s = begins_s + self.times.place_s
        return begins_s - self.now + seconds

    def serve_s(self, group: Sequence[SentReport]) -> float:
        """The manager's own time for reports that arrive together; no relay is part of it."""
        parts = [part for message in group for part in message.report.executed or ()]
        service_s = self.times.exchange_s * len(group) + self.times.report_task_s * sum(
            len(one.numbers) for one in parts
        )
        self.manager_busy_s += service_s
        self.shared.taken = self.manager_busy_s / (self.now + SETTLE_S)
        return service_s

    def read_end(self, lease: int, chunk: int, executed: Sequence[_Part]) -> ChunkEnded:  # type: ignore[override]
        """The end of a chunk as an event of the engine."""
        numbers = [number for part in executed for number in part.numbers]
        return ChunkEnded(lease, chunk, numbers, [one for part in executed for one in part.durations_s])

    def _start(self, lease: int) -> None:
        self._leases += 1
        worker = self.workers[lease] = _ChunkWorker(self, lease)
        self.at(self.now, worker.start)


class _ChunkWorker(OneThreadWorker):
    """A worker that executes a chunk in a few parts."""

    _cluster: _Machine

    def __init__(self, cluster: _Machine, lease: int) -> None:
        super().__init__(cluster, lease)
        self._is_busy = False
        self._own_s = 0.0
        """CPU time between two chunks that has not passed yet."""
        self._part = 1

    def note_rest(self) -> None:
        """Nothing: no task of it is ever lost."""

    def _go_on(self) -> None:
        if not self.lives or self._is_busy:
            return
        cluster, side = self._cluster, self._side
        if self._held is not None:
            if self._execute_next(self._held):
                return
            side.end_task(self._held, self._executed)
        orders, self._orders = self._orders, []
        for order in orders:
            side.on_order(order._replace(works=[order.works]), cluster.now)
        self._held, numbers = side.begin_task(cluster.now) or (None, ())
        self._waiting.clear()
        self._waiting.extend(numbers)
        self._executed = []
        if self._held is not None:
            self._part, self._own_s = -(-len(numbers) // PARTS), cluster.take_s("chunk")
        self._report()
        if self._held is not None:
            self._go_on()

    def _execute_next(self, held: ChunkInHand) -> bool:
        """Execute the next part of a chunk; returns False if the chunk is through."""
        cluster = self._cluster
        is_used_up = self._executed and held.began_at is not None and cluster.now - held.began_at > held.budget_s
        if not self._waiting or is_used_up:
            return False
        numbers = [self._waiting.popleft() for _ in range(min(self._part, len(self._waiting)))]
        work = cluster.work
        waits_s, cpus_s = work.wait_s[numbers], work.cpu_s[numbers]
        wait_s, cpu_s = float(waits_s.sum()), float(cpus_s.sum()) + self._own_s
        began_s, self._own_s, self._is_busy = cluster.now, 0.0, True

        def end() -> None:
            slower = (cluster.now - began_s) / (wait_s + cpu_s) if wait_s + cpu_s else 1.0
            self._executed.append(_Part(numbers, ((waits_s + cpus_s) * slower).tolist()))  # type: ignore[arg-type]
            self._is_busy = False
            self._go_on()

        if not wait_s:
            cluster.shared.compute(cpu_s, end)
            return True
        # It waits before and after, in parts that are drawn: else workers that begin together would compute together.
        before_s = wait_s * cluster.draw_phase()
        then = lambda: cluster.at(cluster.now + wait_s - before_s, end)  # noqa: E731
        cluster.at(began_s + before_s, lambda: cluster.shared.compute(cpu_s, then))
        return True
