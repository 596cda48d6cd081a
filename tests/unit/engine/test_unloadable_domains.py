"""Domains that can't be loaded on some nodes, or on any: a lease there ends before it asks for work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from support.virtual_cluster import Job, VirtualCluster
from support.witness import submitted

from dfz_ray.engine.messages import Command, CommitLosses, LeaseEnded, LeaseLost, StartLease
from dfz_ray.simulation.worker import SimulatedWorker

WHY = "ModuleNotFoundError: No module named 'm'"


class UnevenCluster(VirtualCluster):
    """A cluster with a node on which no lease of some lanes can begin; a lease takes the first place that is free.

    Args:
        bad: the places of that node, which come first.
        good: those of the other nodes, where leases take `begins_s` to begin.
        lanes: the lanes that can't be loaded on the bad node.
    """

    def __init__(self, bad: int, good: int, lanes: Sequence[int] = (0,), begins_s: float = 0.01) -> None:
        delays = {"start": begins_s, "message": 0.0003, "commit": 0.003, "loss": 0.0}.__getitem__
        super().__init__(bad + good, delays=delays)
        self.started = 0
        self._bad, self._lanes = bad, lanes
        self._free = list(range(bad + good))
        self._waiting: list[int] = []
        self._places: dict[int, int] = {}

    def _start(self, lease: int) -> None:
        self.started += 1
        self._waiting.append(lease)
        self._place()

    def _place(self) -> None:
        while self._free and self._waiting:
            lease = self._waiting.pop(0)
            place = self._places[lease] = self._free.pop(0)
            if place >= self._bad or self.witness.lane_of_lease[lease] not in self._lanes:
                super()._start(lease)
            else:
                lost = LeaseLost(lease, WHY, "exception", traceback="Traceback")
                self.at(self.now + 0.005, lambda lost=lost: self._refuse(lost))  # type: ignore[misc]

    def _refuse(self, lost: LeaseLost) -> None:
        self._leave(lost.lease)
        self.report(lost)

    def remove(self, worker: SimulatedWorker) -> None:
        super().remove(worker)
        self._leave(worker.lease)

    def _leave(self, lease: int) -> None:
        self._free = sorted([*self._free, self._places.pop(lease)])
        self.at(self.now, self._place)


def test_a_node_that_lacks_a_module_gets_no_tasks() -> None:
    """Where one of two nodes can't load a domain, the other one executes all tasks, and few leases are tried there."""
    cluster = UnevenCluster(bad=4, good=4, begins_s=3.0)
    cluster.submit([Job("k", 1.0)] * 400)

    cluster.play()

    assert Counter(cluster.witness.outcome.values()) == {"completed": 400}
    assert not cluster.witness.charged
    assert cluster.makespan_s < 105
    assert cluster.started < 4 + 4 * 16


def test_a_domain_that_no_worker_can_load_fails_its_tasks_at_once() -> None:
    """Its tasks fail with the error as soon as each slot has tried it a few times; those of other domains complete."""
    cluster = UnevenCluster(bad=4, good=0)
    cluster.submit([*[Job("k", 1.0)] * 400, *[Job("other", 1.0, lane=1)] * 10])

    cluster.play(until_s=0.2)

    assert Counter(cluster.witness.outcome.values()) == {"exception": 400}
    assert set(cluster.witness.messages.values()) == {f"the domain can't be loaded on any worker: {WHY}"}
    assert cluster.started <= 4 * 5 + 4
    cluster.play()
    assert Counter(cluster.witness.outcome.values()) == {"exception": 400, "completed": 10}


def test_the_losses_of_a_domain_that_cannot_be_loaded_have_its_traceback() -> None:
    """What fails as no worker can load its domain has the last error's traceback."""
    witness = submitted(3)
    commands: Sequence[Command] = ()
    for _ in range(5):
        (lease,) = witness.out
        commands = witness.tell(LeaseLost(lease, "no module", "exception", traceback="Traceback"))

    losses = [(one.reason, one.traceback) for one in commands if isinstance(one, CommitLosses)]
    assert losses == [("exception", "Traceback")]
    assert not witness.charged


def test_leases_are_tried_on_other_nodes() -> None:
    """Once a worker could not begin, Ray is asked to take the nodes in turn, until one could."""
    witness = submitted(3)
    spread = []
    for _ in range(2):
        (lease,) = witness.out
        spread += [
            one.spreads for one in witness.tell(LeaseLost(lease, "", "exception")) if isinstance(one, StartLease)
        ]
    (lease,) = witness.out
    witness.ask(lease)
    spread += [one.spreads for one in witness.tell(LeaseEnded(lease)) if isinstance(one, StartLease)]

    assert spread == [True, True, False]


def test_a_domain_that_was_loaded_before_waits_for_a_node_that_can_load_it() -> None:
    """While tasks of another shape hold the one node that can load a domain, its tasks wait instead of failing."""
    cluster = UnevenCluster(bad=2, good=2)
    cluster.submit([Job("k", 0.5)] * 40 + [Job("other", 1.0, lane=1)] * 80)

    cluster.play()

    assert Counter(cluster.witness.outcome.values()) == {"completed": 120}
    assert cluster.makespan_s < 2 * cluster.lower_bound_s
