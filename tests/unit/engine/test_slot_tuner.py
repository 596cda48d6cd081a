"""The engine with a number of slots that follows what pays, on a simulated cluster."""

from __future__ import annotations

import random

import pytest
from support.shared_cores import SharedCores, makespan_s

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.engine.engine_options import SHORT_TARGET_S
from dfz_ray.engine.messages import PoolLimited
from dfz_ray.engine.pool import PoolLimits
from dfz_ray.engine.slot_tuner import share_out
from dfz_ray.simulation import SimulatedTask


def shuffled(*groups: list[SimulatedTask]) -> list[SimulatedTask]:
    tasks = [task for group in groups for task in group]
    random.Random(0).shuffle(tasks)  # noqa: S311  an order, not a secret
    return tasks


def auto(start: int, most: int, cores: float = 2, width: int = 1) -> EngineOptions:
    return EngineOptions(start, SHORT_TARGET_S, pool=PoolLimits(1, most), cores=cores, width=width)


COMPUTES = [SimulatedTask("computes", 0.01)] * 3_200
LONG_ONES = [SimulatedTask("computes", 0.7)] * 45
WAITS = [SimulatedTask("waits", 0.01)] * 80_000
WAITS_LONG = [SimulatedTask("waits", 1.0)] * 1_300  # from 8 slots to 64 takes three of them, and costs two
MIXED = shuffled([SimulatedTask("waits", 0.05)] * 6_000, [SimulatedTask("computes", 0.005)] * 3_000)
KINDS = [
    *[SimulatedTask("waits 1", 0.5)] * 800,
    *[SimulatedTask("waits 2", 0.02)] * 16_000,
    *[SimulatedTask("waits 3", 0.005)] * 40_000,
]


@pytest.mark.parametrize(
    "width", [pytest.param(1, id="processes", marks=pytest.mark.long), pytest.param(32, id="threads")]
)
@pytest.mark.parametrize(
    ("tasks", "start", "most"),
    [
        pytest.param(COMPUTES, 2, 2, id="short tasks compute"),
        pytest.param(COMPUTES, 8, 8, id="short tasks compute on too many slots"),
        pytest.param(LONG_ONES, 2, 2, id="long tasks compute"),
        pytest.param(WAITS, 8, 64, id="short tasks wait", marks=pytest.mark.long),
        pytest.param(WAITS_LONG, 8, 64, id="long tasks wait"),
        pytest.param(MIXED, 8, 64, id="some wait and some compute", marks=pytest.mark.long),
        pytest.param(KINDS, 8, 64, id="kinds of all lengths wait", marks=pytest.mark.long),
    ],
)
def test_a_run_takes_little_longer_than_with_the_best_number(
    tasks: list[SimulatedTask], start: int, most: int, width: int
) -> None:
    """On two cores, whether tasks compute, wait or both, a run takes at most a tenth longer than at best."""
    settings = [slots for slots in (1, 2, 3, 4, 8, 16, 32, 64) if slots <= most]
    best_s = min(makespan_s(tasks, EngineOptions(slots, width=width), 2) for slots in settings)

    found_s = max(makespan_s(tasks, auto(start, most, width=width), 2, seed) for seed in range(2))

    assert found_s <= 1.10 * best_s


def test_slots_that_are_too_many_end_as_they_ask() -> None:
    """When the cluster holds fewer slots nobody is killed: leases end, and soon there are as many as slots."""
    cluster = SharedCores(auto(16, 16, cores=64), cores=64)
    cluster.submit(WAITS[:20_000])
    cluster.at(3.0, lambda: cluster.report(PoolLimited(1, 4, 4)))

    cluster.run(until_s=3.0)
    assert len(cluster.workers) == 16
    cluster.run(until_s=4.0)

    assert len(cluster.workers) == 4
    assert cluster.engine.slots == 4
    cluster.run(until_s=30.0)
    cluster.report(PoolLimited(1, 16, 16))
    cluster.run()
    reasons = [command.reason for _, command in cluster.pool_changes]
    assert any(reason.endswith(" to 4: no more than 4 can be used now") for reason in reasons)
    assert any(reason.startswith("from 4 to ") for reason in reasons)
    assert cluster.result().counts["completed"] == 20_000


def test_other_nodes_are_wanted_only_as_long_as_more_slots_pay() -> None:
    """A run whose slots pay wants twice as many; one that has found that more don't pay wants those that it has."""
    waiting, computing = SharedCores(auto(2, 2), cores=64), SharedCores(auto(2, 8), cores=2)
    for cluster, tasks in ((waiting, WAITS[:4_000]), (computing, COMPUTES)):
        cluster.submit(tasks)
        cluster.run(until_s=8.0)

    assert waiting.engine.find_needs() == {0: 4}
    assert computing.engine.find_needs() == {0: computing.engine.slots}


@pytest.mark.parametrize(
    ("leases", "open_tasks", "shares"),
    [
        (8, {0: 100}, {0: 8}),
        (8, {0: 3}, {0: 3}),
        (8, {0: 30, 1: 10, 2: 0}, {0: 6, 1: 2}),
        (8, {}, {}),
    ],
)
def test_leases_are_shared_out_by_what_is_open(leases: int, open_tasks: dict[int, int], shares: dict[int, int]) -> None:
    """Nodes are asked for by the lanes' shares of the open tasks, and never for more leases than have tasks."""
    assert share_out(leases, open_tasks) == shares
