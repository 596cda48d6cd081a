"""The simulation's word on how many slots a manager keeps busy, given what an exchange costs it."""

import random
from typing import NamedTuple

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.engine.messages import ManagerMeasured
from dfz_ray.manager.manager_cost import MOST_S
from dfz_ray.protocol.relay_side import MOST_GATHER_S
from dfz_ray.simulation import Costs, SimulatedTask, Simulation

LEASE_S = 3600.0
AGAIN_S = 1.0
"""More seconds of work than a slot can do are submitted, so that the run does not come to its end."""


class ServiceTimes(NamedTuple):
    """The manager's CPU seconds for exchanges, as they were measured."""

    call_s: float
    """For an exchange by itself, or the first one in the group of a relay."""
    grouped_s: float
    """For each further one in a group."""


def fit_service(direct: tuple[float, int, int], grouped: tuple[float, int, int]) -> ServiceTimes:
    """Find the service times from two measurements, each with CPU seconds, calls and exchanges.

    In the first one each exchange was a call, in the second relays gathered them.
    """
    (cpu_s, _, exchanges), (grouped_cpu_s, calls, grouped_exchanges) = direct, grouped
    call_s = cpu_s / exchanges
    further = grouped_exchanges - calls
    return ServiceTimes(call_s, max(0.0, grouped_cpu_s - calls * call_s) / further if further > 0 else call_s)


def predict_busy(slots: int, task_s: float, seconds: float, times: ServiceTimes, relays: int, seed: int = 0) -> float:
    """The share of the time for which slots are busy, from when each has ended its first task.

    The first task of each slot has any length up to `task_s`, all others have that length.
    """
    draw = random.Random(seed)  # noqa: S311 - lengths, not secrets
    tasks = [SimulatedTask("emulated", task_s * draw.random()) for _ in range(slots)]
    rounds = seconds / task_s + 3 + AGAIN_S / task_s
    tasks += [SimulatedTask("emulated", task_s)] * int(slots * rounds)
    costs = Costs(manager_s=times.call_s, grouped_s=times.grouped_s, relays=relays)
    simulation = Simulation(EngineOptions(slots, lease_s=LEASE_S, seed=seed), costs, seed)
    simulation.report(ManagerMeasured(min(times.grouped_s if relays else times.call_s, MOST_S)))
    simulation.submit(tasks)
    begin = 0.0
    while begin < seconds / 2 and len({one.lease for one in simulation.executions}) < slots:
        begin += min(task_s, seconds / 20)
        simulation.run(until_s=begin)
    simulation.run(until_s=seconds + task_s)  # until all tasks have ended that began before
    spans = [(max(one.began_s, begin), min(one.ended_s, seconds)) for one in simulation.executions]
    return sum(max(0.0, ended_s - began_s) for began_s, ended_s in spans) / (slots * (seconds - begin))


def find_most_exchanges(times: ServiceTimes, relays: int) -> float:
    """The exchanges that a full manager serves in a second, when its relays gather for as long as they may."""
    calls = relays / MOST_GATHER_S
    if calls * times.call_s >= 1:
        return 1 / times.call_s
    return calls + (1 - calls * times.call_s) / times.grouped_s
