"""The simulation's word on how many slots a manager keeps busy, given what an exchange costs it."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.engine.messages import ChunkEnded, ManagerMeasured
from dfz_ray.manager.manager_cost import ManagerCost
from dfz_ray.protocol.relay_side import PATIENCE_S
from dfz_ray.simulation import Costs, SimulatedTask, Simulation
from dfz_ray.simulation.worker import ExecutedTask, SentReport

LEASE_S = 3600.0
MEASURED_CHUNKS = 20
"""The engine learns the manager's cost whenever so many chunks have ended, as in `manager/worker_reports.py`."""
AGAIN_S = 1.0
"""More seconds of work than a slot can do are submitted, so that the run does not come to its end."""


class ServiceTimes(NamedTuple):
    """The manager's CPU seconds for exchanges, as they were measured."""

    call_s: float
    """For an exchange by itself, or the first one in the group of a relay."""
    grouped_s: float
    """For each further one in a group."""
    else_share: float
    """The share of a core that it takes for what does not grow with the exchanges, such as looking at the run."""


class Sample(NamedTuple):
    """A manager at work: its cores in use, calls and exchanges per second."""

    cores: float
    calls_per_s: float
    exchanges_per_s: float


def fit_service(samples: Sequence[Sample]) -> ServiceTimes:
    """Find the service times from measurements at different rates, by non-negative least squares of relative errors."""
    rows = [(one.calls_per_s, one.exchanges_per_s - one.calls_per_s, 1.0) for one in samples]
    weights = 1 / np.array([one.cores for one in samples])
    (call_s, grouped_s, else_share), _ = nnls(np.array(rows) * weights[:, None], np.ones(len(samples)))
    return ServiceTimes(float(call_s), float(grouped_s), float(else_share))


class MeasuringManager(Simulation):
    """A manager in virtual time; as the real one it measures its cost, and gives larger chunks and groups then.

    Each lease begins at any time up to `stagger_s`.
    """

    def __init__(self, slots: int, times: ServiceTimes, relays: int, seed: int, stagger_s: float) -> None:
        self._times, self._stagger_s = times, stagger_s
        self._begin = random.Random(seed)  # noqa: S311 - times, not secrets
        free_share = 1 - times.else_share
        costs = Costs(manager_s=times.call_s / free_share, grouped_s=times.grouped_s / free_share, relays=relays)
        super().__init__(EngineOptions(slots, lease_s=LEASE_S, seed=seed), costs, seed)
        self._served_s = 0.0
        self._cost = ManagerCost(lambda: self.now, lambda: self._served_s + times.else_share * self.now)
        self._chunks_ended = 0

    def take_s(self, what: str) -> float:
        """The seconds that something takes; for a start, also those until the lease begins."""
        return super().take_s(what) + (self._stagger_s * self._begin.random() if what == "start" else 0.0)

    def serve_s(self, group: Sequence[SentReport]) -> float:
        """The manager's own time for reports that arrive together."""
        self._served_s += self._times.call_s + self._times.grouped_s * (len(group) - 1)
        return super().serve_s(group)

    def read_end(self, lease: int, chunk: int, executed: Sequence[ExecutedTask]) -> ChunkEnded:
        """The end of a chunk as an event of the engine."""
        self._cost.on_chunk(len(executed))
        self._chunks_ended += 1
        if self._chunks_ended % MEASURED_CHUNKS == 0:
            self.report(ManagerMeasured(self._cost.chunk_s))
            for relay in self.relays:
                relay.side.gather_s = self._cost.gather_s
        return super().read_end(lease, chunk, executed)


def predict_busy(slots: int, task_s: float, seconds: float, times: ServiceTimes, relays: int, seed: int = 0) -> float:
    """The share of the time for which slots are busy, from when each has ended its first task.

    Each lease begins at any time up to `task_s`.
    """
    rounds = seconds / task_s + 4 + AGAIN_S / task_s
    simulation = MeasuringManager(slots, times, relays, seed, stagger_s=task_s)
    simulation.submit([SimulatedTask("emulated", task_s)] * int(slots * rounds))
    begin = 0.0
    while begin < seconds / 2 and len({one.lease for one in simulation.executions}) < slots:
        begin += min(task_s, seconds / 20)
        simulation.run(until_s=begin)
    simulation.run(until_s=seconds + task_s)  # until all tasks have ended that began before
    spans = [(max(one.began_s, begin), min(one.ended_s, seconds)) for one in simulation.executions]
    return sum(max(0.0, ended_s - began_s) for began_s, ended_s in spans) / (slots * (seconds - begin))


def find_most_exchanges(times: ServiceTimes, relays: int) -> float:
    """The exchanges that a full manager serves in a second: each relay waits for its answer as long as it may."""
    free_share = 1 - times.else_share
    calls = relays / PATIENCE_S
    if not relays or calls * times.call_s >= free_share:
        return free_share / times.call_s
    return calls + (free_share - calls * times.call_s) / times.grouped_s
