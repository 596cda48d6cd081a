"""Tasks of one priority that need the places of several of another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amount import amount
from support.virtual_cluster import Job, VirtualCluster
from test_urgency import Stage

from dfz_ray.engine.messages import LaneSized
from dfz_ray.simulation.worker import OneThreadWorker, SimulatedWorker
from dfz_ray.specs.policy import Policy

LOW, HIGH = Policy(priority=0), Policy(priority=10)
FIRM = Policy(priority=0, preemptible=False)


class ShapedCluster(VirtualCluster):
    """Nodes with CPUs: a lease is placed as soon as one of them has as many free as it needs.

    Args:
        nodes: the CPUs of each.
        needs: the CPUs that a lease of each lane is said to need.
    """

    def __init__(self, nodes: Sequence[int], needs: Sequence[int]) -> None:
        super().__init__(sum(nodes), lease_s=2.0)
        self.free, self.needs = list(nodes), list(needs)
        self.node_of: dict[int, int] = {}
        """Of the leases that are placed."""
        for lane, cpus in enumerate(needs):
            capacity = sum(node // cpus for node in nodes)
            self.tell_at(LaneSized(lane, capacity, shares={"CPU": cpus / sum(nodes)}))

    def _start(self, lease: int) -> None:
        self.workers[lease] = OneThreadWorker(self, lease)
        self._place()

    def remove(self, worker: SimulatedWorker) -> None:
        super().remove(worker)
        if (node := self.node_of.pop(worker.lease, None)) is not None:
            self.free[node] += self._need(worker.lease)
            self.at(self.now + 0.01, self._place)

    def _place(self) -> None:
        for lease in sorted(self.workers.keys() - self.node_of.keys()):
            node = max(range(len(self.free)), key=self.free.__getitem__)
            if self._need(lease) <= self.free[node]:
                self.free[node] -= self._need(lease)
                self.node_of[lease] = node
                worker = self.workers[lease]
                worker._side._place = SimpleNamespace(node_id=f"node {node}")
                self.at(self.now, worker.start)

    def _need(self, lease: int) -> int:
        return self.needs[self.witness.lane_of_lease[lease]]

    @property
    def high_began_s(self) -> list[float]:
        """The times at which the tasks of the high priority began, in order."""
        return sorted(one.began_s for one in self.executions if self.jobs[one.number].kind == "high")


@pytest.mark.parametrize("cpus", [1, 2, 4, 8])
def test_a_task_takes_the_slots_of_as_many_as_it_needs(cpus: int) -> None:
    """With a task of 300 s on each CPU, one of a higher priority begins after its wait on all CPUs that it needs."""
    cluster = ShapedCluster([8], [1, cpus])
    cluster.submit([Job("low", 300.0 + number, policy=LOW) for number in range(24)])
    cluster.submit([Job("high", 1.0, lane=1, policy=HIGH)], at=1.0)

    cluster.play()

    assert 6.0 <= cluster.high_began_s[0] < 6.6
    assert Counter(kill.why for kill in cluster.witness.kills) == {"preempted": cpus}
    assert Counter(cluster.witness.outcome.values()) == {"completed": 25}
    assert not cluster.witness.charged


def test_several_tasks_take_the_slots_that_they_need() -> None:
    """Two tasks of four CPUs that wait take all eight; further ones take turns there, and kill nobody."""
    cluster = ShapedCluster([8], [1, 4])
    cluster.submit([Job("low", 300.0, policy=LOW)] * 24)
    cluster.submit([Job("high", 4.0, lane=1, policy=HIGH)] * 10, at=1.0)

    cluster.play()

    assert cluster.high_began_s[-1] < 6.0 + 5 * 4.0 + 5
    assert len(cluster.witness.kills) == 8


@pytest.mark.parametrize(("low_s", "policy"), [(3.0, LOW), (0.05, LOW), (30.0, FIRM)])
def test_places_that_become_free_are_kept_for_a_large_task(low_s: float, policy: Policy) -> None:
    """Where tasks end soon, or may not be preempted, one that needs four places gets those that end next."""
    cluster = ShapedCluster([8], [1, 4])
    cluster.submit([Job("low", low_s * (1 + number % 8 / 8), policy=policy) for number in range(int(1200 / low_s))])
    cluster.submit([Job("high", 1.0, lane=1, policy=HIGH)], at=1.0)

    cluster.play()

    assert cluster.high_began_s[0] < 1.5 + 2 * low_s
    assert not cluster.witness.kills
    assert cluster.makespan_s < 1.1 * cluster.lower_bound_s + 2 * low_s


def test_the_places_of_one_node_are_taken() -> None:
    """On two nodes of four CPUs all tasks of one are preempted for a task that needs four, and none of the other."""
    cluster = ShapedCluster([4, 4], [1, 4])
    cluster.submit([Job("low", 300.0 + number, policy=LOW) for number in range(24)])
    cluster.submit([Job("high", 1.0, lane=1, policy=HIGH)], at=1.0)
    nodes: list[dict[int, int]] = []
    cluster.at(5.0, lambda: nodes.append(dict(cluster.node_of)))

    cluster.play()

    assert 6.0 <= cluster.high_began_s[0] < 6.6
    killed = [nodes[0][kill.lease] for kill in cluster.witness.kills]
    assert len(killed) == 4
    assert len(set(killed)) == 1


def test_nobody_is_killed_again_for_a_task_that_ray_does_not_place() -> None:
    """Where the slots that were taken for a task do not suffice, the other work goes on after a minute, unhindered."""
    cluster = ShapedCluster([8], [1, 4])
    cluster.needs[1] = 9
    cluster.submit([Job("low", 100.0, policy=LOW)] * 80)
    cluster.submit([Job("high", 1.0, lane=1, policy=HIGH)], at=1.0)

    cluster.play(until_s=1300.0)

    assert Counter(cluster.witness.outcome.values()) == {"completed": 80}
    assert len(cluster.witness.kills) == 4
    assert cluster.makespan_s < 80 * 100.0 / 7 + 200


@settings(max_examples=amount(100), deadline=None)
@given(
    nodes=st.lists(st.sampled_from([4, 8]), min_size=1, max_size=3),
    needs=st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4),
    sorts=st.lists(st.tuples(st.sampled_from([0, 5, 10]), st.floats(0, 10), st.booleans()), min_size=4, max_size=12),
    count=st.integers(1, 8),
)
def test_every_task_ends_whatever_its_shape_and_priority(
    nodes: Sequence[int], needs: Sequence[int], sorts: Sequence[tuple[int, float, bool]], count: int
) -> None:
    """Tasks of any shapes and priorities, long and short, that come at any time, all complete, uncharged."""
    cluster = ShapedCluster(nodes, needs)
    for number, (priority, at, is_long) in enumerate(sorts):
        policy = Policy(priority=priority, preemptible=number % 3 > 0)
        cluster.submit([Job("k", 40.0 if is_long else 0.3, number % len(needs), policy=policy)] * count, at=at)

    cluster.play()

    assert set(cluster.witness.outcome.values()) == {"completed"}
    assert not cluster.witness.charged


def stage_of_shapes(*lanes: dict[str, float]) -> Stage:
    """Lanes with the shares of the cluster's resources that a lease of each takes."""
    stage = Stage()
    for number, shares in enumerate(lanes):
        stage.queue.get_lane(number).shares_known = shares
    return stage


@pytest.mark.parametrize(("used", "expected"), [("CPU", 1), ("GPU", 0)])
def test_only_what_is_lacking_is_taken(used: str, expected: int) -> None:
    """A task that needs half of the GPUs and one CPU takes one CPU, where it lacks that, and not the place of eight."""
    stage = stage_of_shapes({"CPU": 1 / 8}, {"CPU": 1 / 8, "GPU": 1 / 2}, {"CPU": 1 / 8, "GPU": 1.0})
    low, high, firm = stage.kind(0, LOW), stage.kind(1, HIGH, waiting=1), stage.kind(2, FIRM)
    for _ in range(7):
        stage.lease(0, low)
    stage.lease(0, low) if used == "CPU" else stage.lease(2, firm)
    stage.lease(1)

    assert len(stage.victims(now=10.0)) == expected
    assert len(high.granted) == expected


def test_no_kill_where_all_together_make_too_little_room() -> None:
    """Where too few leases may be preempted to make room for a task, none is."""
    stage = stage_of_shapes({"CPU": 1 / 8}, {"CPU": 1 / 2})
    low, firm = stage.kind(0, LOW), stage.kind(0, FIRM)
    for kind in (low, low, low, firm, firm, firm, firm, firm):
        stage.lease(0, kind)
    stage.kind(1, HIGH, waiting=1)
    stage.lease(1)

    assert stage.victims(now=10.0) == []


def test_small_tasks_of_a_lower_priority_are_taken_before_a_large_one_of_a_higher() -> None:
    """The lowest priorities are taken, even where fewer leases of a higher one would do."""
    stage = stage_of_shapes({"CPU": 1 / 8}, {"CPU": 1 / 2}, {"CPU": 1 / 2})
    low, middle = stage.kind(0, LOW), stage.kind(1, Policy(priority=5))
    stage.lease(1, middle)
    for _ in range(4):
        stage.lease(0, low)
    stage.kind(2, HIGH, waiting=1)

    assert sorted(stage.victims(now=10.0)) == [1, 2, 3, 4]
