"""Who has to make room for whom: priorities at the ends of chunks, unplaced leases, and preemption."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from support.virtual_cluster import Job, VirtualCluster

from dfz_ray.engine.lease import HeldChunk, Lease
from dfz_ray.engine.messages import Chunk, LaneSized
from dfz_ray.engine.preemption import find_victims
from dfz_ray.engine.queue import Kind, Queue, Taken
from dfz_ray.engine.urgency import Urgency
from dfz_ray.specs.policy import Policy

LOW = Policy(priority=0)
HIGH = Policy(priority=5)
FIRM = Policy(priority=0, preemptible=False)


class Stage:
    """A queue, and leases that serve it."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.urgency = Urgency(self.queue)
        self.leases: dict[int, Lease] = {}
        self._numbers = itertools.count()

    def kind(self, lane: int, policy: Policy = LOW, waiting: int = 0, since: float = 0.0) -> Kind:
        """A kind, and so many of its tasks that wait."""
        self.queue.add_kind(f"kind {len(self.queue.kinds)}", lane, policy)
        kind = self.queue.kinds[-1]
        self.queue.put(kind.number, [next(self._numbers) for _ in range(waiting)], since)
        return kind

    def lease(self, lane: int, kind: Kind | None = None, **more: object) -> Lease:
        """A lease: one that Ray has not placed, or one that executes a task of a kind since its time 0."""
        self.queue.get_lane(lane).leases += 1
        self.queue.changed.add(lane)
        lease = Lease(lane, **more)  # type: ignore[arg-type]
        if kind is None:
            self.queue.lanes[lane].unplaced[len(self.leases)] = None
            self.queue.lanes[lane].starting_slots += 1
        else:
            lease.asked_at, lease.served = 0.0, 1
            lease.held[len(self.leases)] = self.held(kind.policy)
        self.leases[len(self.leases)] = lease
        return lease

    def held(self, policy: Policy) -> HeldChunk:
        """A chunk of one task that has begun at the time 0."""
        numbers = [next(self._numbers)]
        taken = Taken(numbers, 1.0, math.inf, policy.priority, policy.preemptible)
        return HeldChunk(Chunk(numbers[0], numbers, 1.0), taken, begun_at=0.0)

    def must_make_room(self, lease: Lease, slots: int) -> bool:
        leaving = sum(bool(other.ending or other.killed) for other in self.leases.values())
        return self.urgency.must_make_room(lease, len(self.leases) >= slots, leaving)

    def victims(self, now: float, after_s: float = 5.0) -> list[int]:
        return find_victims(self.queue, self.leases, -math.inf, after_s, now)


# --- which kind is due ------------------------------------------------------------------------------------------------


def test_the_highest_priority_is_due_first() -> None:
    """Of all lanes the one with the highest priority gets the next lease, whatever else it has."""
    stage = Stage()
    stage.kind(0, LOW, waiting=100)
    high = stage.kind(1, HIGH, waiting=1)

    assert stage.urgency.find_kind() is high


def test_a_lane_that_is_full_or_served_is_not_due() -> None:
    """A lane gets no lease beyond what the cluster holds, nor where each task has one that is on its way."""
    stage = Stage()
    low = stage.kind(0, LOW, waiting=100)
    stage.kind(1, HIGH, waiting=1)
    stage.lease(1)
    assert stage.urgency.find_kind() is low

    stage.queue.lanes[0].capacity = 0
    stage.queue.changed.add(0)

    assert stage.urgency.find_kind() is None


def test_suspects_keep_their_priority() -> None:
    """Tasks that are suspect are due before others of their priority, and after those of a higher one."""
    stage = Stage()
    low, high = stage.kind(0, LOW, waiting=3), stage.kind(0, HIGH, waiting=3)
    lane = stage.queue.lanes[0]
    stage.queue.add_suspects(low.number, [[100]])
    assert stage.queue.find_due(lane) is high
    assert stage.queue.find_suspects(lane) is None

    stage.queue.add_suspects(high.number, [[101, 102]])

    suspects = stage.queue.find_suspects(lane)
    assert suspects is not None
    assert suspects.numbers == [101, 102]


# --- at the end of a chunk --------------------------------------------------------------------------------------------


def test_a_lease_makes_room_for_a_higher_priority_only() -> None:
    """A lease ends for a higher priority elsewhere; not for its own, for a lower one, or where a slot is free."""
    for policy, slots, makes_room in ((HIGH, 1, True), (LOW, 1, False), (Policy(priority=-1), 1, False)):
        stage = Stage()
        lease = stage.lease(0, stage.kind(0, LOW, waiting=5))
        other = stage.kind(1, policy, waiting=1)
        other.times.learn(1, 1.0, 1.0)
        stage.queue.kinds[0].times.learn(1, 1.0, 1.0)
        assert stage.must_make_room(lease, slots) == makes_room
        assert not stage.must_make_room(lease, slots + 1)


def test_only_as_many_leases_make_room_as_are_wanted() -> None:
    """While one lease is ending, or is killed, for a higher priority no other one ends for the same."""
    for mark in ({"ending": True}, {"killed": "preempted"}):
        stage = Stage()
        low = stage.kind(0, LOW, waiting=5)
        lease = stage.lease(0, low)
        stage.kind(1, HIGH, waiting=1)
        assert stage.must_make_room(lease, 2) is False
        stage.lease(0, low, **mark)

        assert stage.must_make_room(lease, 2) is False


def test_leases_do_not_come_and_go_for_one_that_ray_can_not_place() -> None:
    """Where a lease for the higher priority is on its way, another one runs a chunk before it ends for it."""
    stage = Stage()
    lease = stage.lease(0, stage.kind(0, LOW, waiting=5))
    stage.kind(1, HIGH, waiting=1)
    stage.lease(1)
    assert stage.must_make_room(lease, 2)

    lease.served = 0

    assert not stage.must_make_room(lease, 2)


def test_low_work_goes_on_while_ray_does_not_place_the_high_one() -> None:
    """Low tasks end although the lease of a high one is never placed."""
    cluster = VirtualCluster(2, delays=lambda what: math.inf if what == "start" and cluster.now < 0.5 else 0.001)
    cluster.submit([Job("high", 1.0, lane=1, policy=HIGH)])
    cluster.submit([Job("low", 0.05, policy=LOW)] * 40, at=1.0)

    cluster.play(until_s=20.0)

    assert Counter(cluster.witness.outcome.values()) == {"completed": 40}


def test_only_unplaced_leases_of_lower_priority_are_displaced() -> None:
    """A slot that Ray has not filled yet goes to a higher priority; none that runs, and none of the same."""
    stage = Stage()
    low = stage.kind(0, LOW, waiting=9)
    stage.lease(0, low)
    assert stage.urgency.find_displaced(HIGH.priority) is None
    stage.lease(0)

    assert stage.urgency.find_displaced(HIGH.priority) == 1
    assert stage.urgency.find_displaced(LOW.priority) is None


def test_a_high_task_does_not_wait_behind_what_ray_has_not_placed() -> None:
    """Where all slots wait for Ray, a task of a higher priority gets one of them at once."""
    cluster = VirtualCluster(2, delays=lambda what: math.inf if what == "start" and cluster.now < 0.5 else 0.001)
    cluster.submit([Job("low", 1.0, policy=LOW)] * 9)
    cluster.submit([Job("high", 1.0, lane=1, policy=HIGH)], at=1.0)

    cluster.play(until_s=3.0)

    assert cluster.witness.outcome == {9: "completed"}


# --- preemption -------------------------------------------------------------------------------------------------------


def test_who_has_waited_takes_one_slot() -> None:
    """A high task that has waited for its time takes one slot, and none before, nor a second one for itself."""
    stage = Stage()
    low = stage.kind(0, LOW)
    stage.lease(0, low)
    stage.lease(0, low)
    stage.kind(0, HIGH, waiting=1, since=10.0)

    assert stage.victims(now=14.9) == []
    assert len(stage.victims(now=15.0)) == 1
    assert stage.victims(now=15.1) == []


@pytest.mark.parametrize("policy", [HIGH, Policy(priority=6), FIRM])
def test_equal_higher_and_firm_work_is_never_preempted(policy: Policy) -> None:
    """No slot is taken from work of the same or a higher priority, or from what must not be preempted."""
    stage = Stage()
    stage.lease(0, stage.kind(0, policy))
    stage.kind(0, HIGH, waiting=3)

    assert stage.victims(now=100.0) == []


def test_one_firm_task_protects_its_chunk() -> None:
    """A worker that has begun anything which must not be preempted is left alone."""
    stage = Stage()
    lease = stage.lease(0, stage.kind(0, LOW))
    lease.held[7] = stage.held(FIRM)
    stage.kind(0, HIGH, waiting=1)

    assert stage.victims(now=100.0) == []


def test_the_lowest_and_the_youngest_goes_first() -> None:
    """Of several slots that of the lowest priority is taken, and among equals the one that has the least to lose."""
    stage = Stage()
    middle, low = stage.kind(0, Policy(priority=1)), stage.kind(0, LOW)
    for kind, begun_at in ((middle, 9.0), (low, 1.0), (low, 4.0)):
        lease = stage.lease(0, kind)
        next(lease.begun()).begun_at = begun_at
    stage.kind(0, HIGH, waiting=1)

    assert stage.victims(now=10.0) == [2]


def test_a_lease_that_is_to_end_after_a_long_task_is_preempted_too() -> None:
    """A lease that gets no further chunk is preempted like any other for the long task that it executes."""
    stage = Stage()
    stage.lease(0, stage.kind(0, LOW), ending=True)
    stage.kind(0, HIGH, waiting=1)

    assert stage.victims(now=10.0) == [0]


def test_no_kill_that_helps_nobody() -> None:
    """Nothing is killed for a lane which can't use the slot: its place is full, nobody is there, or one is coming."""
    for capacity, leases, expected in ((0.0, 0, 0), (1.0, 1, 0), (2.0, 1, 1), (math.inf, 0, 1)):
        stage = Stage()
        low, high = stage.kind(0, LOW), stage.kind(1, HIGH, waiting=1)
        stage.lease(0, low)
        stage.queue.lanes[1].capacity = capacity
        for _ in range(leases):
            stage.lease(1, high)
        assert len(stage.victims(now=10.0)) == expected, (capacity, leases)

    stage = Stage()
    stage.lease(0, stage.kind(0, LOW))
    stage.kind(1, HIGH, waiting=1)
    stage.lease(1)
    assert stage.victims(now=10.0) == []


def test_a_cluster_that_is_full_of_lower_work_makes_room() -> None:
    """Where the placed leases fill the cluster, a lease that waits for a place gets that of lower work."""
    stage = Stage()
    stage.lease(0, stage.kind(0, LOW))
    stage.kind(1, HIGH, waiting=1)
    stage.lease(1)
    stage.queue.lanes[0].capacity = stage.queue.lanes[1].capacity = 1

    assert stage.victims(now=10.0) == [0]


def test_many_short_tasks_take_the_slots_that_they_need() -> None:
    """A hundred waiting tasks of 0.1 s need two slots to be done within 5 s, and take no more."""
    stage = Stage()
    low = stage.kind(0, LOW)
    for _ in range(8):
        stage.lease(0, low)
    high = stage.kind(0, HIGH, waiting=100)
    high.times.learn(10, 1.0, 0.1)

    assert len(stage.victims(now=10.0)) == 2


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize("told", ["known", "unknown"])
def test_a_high_task_begins_after_its_wait(lane: int, told: str) -> None:
    """With a task of 60 s in every slot a high one begins after 5 s; what it displaced completes, uncharged."""
    cluster = VirtualCluster(4, told=(lambda number: number) if told == "known" else lambda number: None)
    cluster.submit([Job("low", 60.0, policy=Policy(max_attempts=1))] * 4)
    cluster.submit([Job("high", 1.0, lane=lane, policy=HIGH)], at=20.0)

    cluster.play()

    began_s = {one.number: one.began_s for one in cluster.executions}
    assert 25.0 <= began_s[4] < 25.4
    assert Counter(cluster.witness.outcome.values()) == {"completed": 5}
    assert [kill.why for kill in cluster.witness.kills] == ["preempted"]
    assert not cluster.witness.charged
    assert cluster.witness.attempts_lost.total() == 1
    assert cluster.makespan_s == pytest.approx(25 + 1 + 60, abs=1)


def test_without_preemption_a_high_task_waits() -> None:
    """Where it is switched off, or the long tasks are not preemptible, nothing is killed."""
    for policy, after_s in ((LOW, None), (FIRM, 5.0)):
        cluster = VirtualCluster(2, preempt_after_s=after_s)
        cluster.submit([Job("low", 60.0, policy=policy)] * 2)
        cluster.submit([Job("high", 1.0, policy=HIGH)], at=20.0)

        cluster.play()

        assert cluster.witness.kills == []
        assert next(one.began_s for one in cluster.executions if one.number == 2) >= 60.0


def test_low_work_ends_once_the_high_is_done() -> None:
    """A stream of high tasks preempts long low ones again and again; afterwards these complete, uncharged."""
    cluster = VirtualCluster(3)
    cluster.submit([Job("low", 20.0, policy=LOW)] * 9)
    for at in range(5, 100, 7):
        cluster.submit([Job("high", 3.0, lane=1, policy=HIGH)] * 2, at=float(at))

    cluster.play()

    assert set(cluster.witness.outcome.values()) == {"completed"}
    assert not cluster.witness.charged
    assert cluster.witness.kills
    last_high_s = max(one.ended_s for one in cluster.executions if cluster.jobs[one.number].kind == "high")
    assert last_high_s < 115.0
    assert cluster.makespan_s < last_high_s + 9 * 20.0 / 3 + 20.0


def test_a_lane_whose_node_is_gone_preempts_nobody() -> None:
    """While no node can hold the high task nothing is killed for it."""
    cluster = VirtualCluster(1)
    cluster.tell_at(LaneSized(1, 1))
    cluster.submit([Job("low", 30.0, policy=LOW)], at=0.1)
    cluster.tell_at(LaneSized(1, 0), at=0.2)
    cluster.submit([Job("high", 1.0, lane=1, policy=HIGH)], at=0.3)
    cluster.tell_at(LaneSized(1, 1), at=40.0)

    cluster.play()

    assert cluster.witness.kills == []
    assert cluster.witness.outcome == {0: "completed", 1: "completed"}
