"""The simulated cluster where tasks compute on shared cores, or wait, and the engine moves its number of slots."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.engine.messages import ChunkEnded
from dfz_ray.simulation import Costs, SimulatedAttempt, SimulatedTask, Simulation
from dfz_ray.simulation.worker import ExecutedTask

COSTS = Costs(start_s=0.02, message_s=0.0005, commit_s=0.003, manager_s=0.0002, jitter=0.2)


class SharedCores(Simulation):
    """Tasks whose kind's name begins with `waits` wait; all others compute, and share the cores.

    Args:
        options: of the engine.
        cores: so many tasks compute at once without slowing one another down.
        spread: of run times, as a share of their mean.
        seed: of the run times and the jitter.
    """

    def __init__(self, options: EngineOptions, cores: int, spread: float = 0.1, seed: int = 0) -> None:
        super().__init__(options, COSTS, seed)
        self._cores = cores
        self._spread = spread
        self._rng = random.Random(seed)  # noqa: S311  run times, not secrets
        self._computing: float | None = None
        """The share of the executions of late that compute."""

    def attempt(self, number: int) -> SimulatedAttempt:
        task = self.tasks[number]
        computes = not task.kind.startswith("waits")
        before = float(computes) if self._computing is None else self._computing
        self._computing = before + 0.02 * (computes - before)
        slow = max(1.0, self._computing * self._busy_now / self._cores) if computes else 1.0
        return SimulatedAttempt(task.duration_s * slow * max(0.1, self._rng.gauss(1.0, self._spread)))

    def read_end(self, lease: int, chunk: int, executed: Sequence[ExecutedTask]) -> ChunkEnded:
        cpu_s = sum(
            0.001 * one.duration_s if task.kind.startswith("waits") else task.duration_s
            for one, task in ((one, self.tasks[one.number]) for one in executed)
        )
        return replace(super().read_end(lease, chunk, executed), cpu_s=cpu_s)


def makespan_s(tasks: Sequence[SimulatedTask], options: EngineOptions, cores: int, seed: int = 0) -> float:
    """How long a batch takes."""
    cluster = SharedCores(options, cores, seed=seed)
    cluster.submit(tasks)
    cluster.run(limit=5_000_000)
    result = cluster.result()
    assert result.counts["completed"] == len(tasks)
    return result.makespan_s
