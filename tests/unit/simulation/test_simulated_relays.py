"""Relays in virtual time: what they save the manager, and what their deaths cost."""

from __future__ import annotations

import pytest

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.protocol.relay_side import GATHER_S
from dfz_ray.simulation import Costs, Simulated, SimulatedTask, Simulation, simulate

DIRECT = Costs(manager_s=0.001)
RELAYED = Costs(manager_s=0.001, grouped_s=0.0001, relays=4)


def test_relays_keep_more_slots_busy() -> None:
    """A manager that serves 1,000 calls a second can't serve 1,000 slots of tasks of 0.6 s; with relays it can."""
    tasks, options = [SimulatedTask("k", 0.6)] * 5_000, EngineOptions(1_000, lease_s=100.0)

    direct, relayed = (simulate(tasks, 1_000, costs, options=options) for costs in (DIRECT, RELAYED))

    assert direct.makespan_s > 1.4 * relayed.makespan_s
    assert relayed.makespan_s == pytest.approx(3.0, rel=0.15)


def test_a_single_task_takes_two_more_hops() -> None:
    """A lease whose relay has nothing else to do waits for two more messages, each way, and for no gathering."""
    direct, relayed = (simulate([SimulatedTask("k", 1.0)], 1, costs) for costs in (DIRECT, RELAYED))

    message_s = DIRECT.message_s
    assert relayed.makespan_s - direct.makespan_s == pytest.approx(3 * message_s, abs=GATHER_S)


@pytest.mark.parametrize("task_s", [0.05, 3.0])
def test_a_relay_that_dies_costs_no_attempt_and_no_worker(task_s: float) -> None:
    """Every task is executed once, by a lease of the first ones, and the run takes less than a second more."""
    tasks = [SimulatedTask("k", task_s)] * int(40 * 6 / task_s)

    def run(deaths: int) -> Simulated:
        simulation = Simulation(EngineOptions(40, lease_s=100.0), Costs(manager_s=0.001, grouped_s=0.0001, relays=2))
        for death in range(deaths):
            simulation.at(1.0 + 0.37 * death, lambda death=death: simulation.lose_relay(death % 2))
        simulation.submit(tasks)
        simulation.run()
        return simulation.result()

    undisturbed, disturbed = run(0), run(4)

    assert disturbed.counts == undisturbed.counts
    assert disturbed.leases == undisturbed.leases == 40
    assert sorted(one.number for one in disturbed.executions) == list(range(len(tasks)))
    assert disturbed.makespan_s < undisturbed.makespan_s + 1.0
