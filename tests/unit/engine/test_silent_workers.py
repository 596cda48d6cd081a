"""Workers that say nothing: deadlines count from the hand-out, and what is lost so is charged to nobody at first."""

from __future__ import annotations

from collections import Counter

import pytest
from support.virtual_cluster import Job, VirtualCluster
from support.witness import Witness, chunk_ended, with_chunk

from dfz_ray.engine.lease import BEGIN_S
from dfz_ray.engine.messages import (
    CancelAsked,
    ChunkBegan,
    GiveChunk,
    KillLease,
    KindEntry,
    LeaseLost,
    TasksSubmitted,
    TimePassed,
)
from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order
from dfz_ray.simulation.worker import SentReport
from dfz_ray.specs.policy import Policy


class StoppingCluster(VirtualCluster):
    """A virtual cluster, some of whose workers are stopped when a chunk has reached them: they never begin it."""

    def __init__(self, slots: int, stops: int, **options: float) -> None:
        super().__init__(slots, told=lambda executing: executing, **options)
        self.stops = stops
        """So many chunks, from the second one on, reach a worker that is stopped."""
        self.given = 0

    def deliver(self, message: SentReport) -> None:
        order = self.manager.exchange(message.report)
        assert isinstance(order, Order), "no lease lingers here"
        self.given += order.message is Message.CHUNK
        if self.given > 1 and order.message is Message.CHUNK and self.stops:
            self.stops -= 1
            return
        self.at(self.now + self.take_s("message"), lambda: message.worker.on_order(order))


@pytest.mark.parametrize("slots", [1, 3])
def test_a_worker_that_never_begins_its_chunk_is_killed_and_no_task_is_charged(slots: int) -> None:
    """Tasks with deadlines whose worker was stopped before they began run elsewhere soon after those deadlines."""
    cluster = StoppingCluster(slots, stops=2, grace_s=0.5)
    cluster.submit([Job("k", 0.5, policy=Policy(max_attempts=1, timeout_s=3.0))] * 12)

    cluster.play()

    assert Counter(cluster.witness.outcome.values()) == {"completed": 12}
    assert {kill.why for kill in cluster.witness.kills} == {"timeout"}
    assert not cluster.witness.charged
    assert cluster.makespan_s < 12 * 0.5 + 2 * (3.0 + 2 * 0.5 + BEGIN_S) + 3.0


def test_a_task_whose_workers_never_begin_it_does_not_wait_for_ever() -> None:
    """Some losses before a task begins are free, then it is charged: no task is handed out again and again."""
    cluster = StoppingCluster(1, stops=10**9, grace_s=0.5, free_losses=3)
    cluster.submit([Job("k", 0.5, policy=Policy(max_attempts=1, timeout_s=3.0))] * 2)

    cluster.play(limit=100_000)

    assert cluster.witness.outcome == {0: "completed", 1: "worker_crashed"}
    assert cluster.witness.charged == {1: 1}
    assert len(cluster.witness.kills) == 4


def test_a_chunk_ahead_waits_for_the_deadlines_of_the_one_before() -> None:
    """The time of a chunk that a worker holds ahead begins when the chunk before it must have ended."""
    witness, lease, chunk = with_chunk(Policy(timeout_s=10.0), grace_s=1.0)
    witness.tell(ChunkBegan(lease, chunk.id), 0.0)
    limit_s = witness.engine.lease_table.leases[lease].held[chunk.id].taken.limit_s
    ahead = witness.ask(lease, 0.1)
    assert isinstance(ahead, GiveChunk)
    witness.tell(chunk_ended(lease, chunk), limit_s)
    late_s = limit_s + witness.engine.lease_table.leases[lease].held[ahead.chunk.id].taken.limit_s + 2.0

    witness.tell(TimePassed(), late_s + BEGIN_S - 0.3)
    assert witness.tell(TimePassed(), late_s + BEGIN_S - 0.2) == []
    witness.tell(TimePassed(), late_s + BEGIN_S + 0.3)

    assert [kill.why for kill in witness.kills] == ["timeout"]


def test_a_chunk_with_deadlines_is_not_handed_out_ahead_of_one_that_has_none() -> None:
    """A worker that was stopped as it began it would seem to execute the other one, for ever: so it comes afterwards.

    Then it is killed if it was stopped.
    """
    witness, now = Witness(1, grace_s=1.0), 0.0
    kinds = [KindEntry("endless", 0, Policy()), KindEntry("short", 0, Policy(timeout_s=10.0))]
    witness.tell(TasksSubmitted(kinds, [0, 1]))
    for _ in kinds:  # their run times are known afterwards
        given = witness.ask(0, now)
        assert isinstance(given, GiveChunk)
        witness.tell(ChunkBegan(0, given.chunk.id), now)
        now += 0.1
        witness.tell(chunk_ended(0, given.chunk), now)
    witness.tell(TasksSubmitted([], [0, 0, 0, 0, 1, 1, 1, 1]))
    endless = witness.ask(0, now)
    assert isinstance(endless, GiveChunk)
    witness.tell(ChunkBegan(0, endless.chunk.id), now)
    assert not isinstance(witness.ask(0, now), GiveChunk)
    witness.tell(chunk_ended(0, endless.chunk), now + 0.1)
    following = witness.ask(0, now + 0.1)
    assert isinstance(following, GiveChunk)
    assert {witness.engine.kind_of[number] for number in following.chunk.numbers} == {1}

    for at in range(5, 100, 5):
        witness.tell(TimePassed(), at)
        witness.tell(TimePassed(), at + 0.1)

    assert [kill.why for kill in witness.kills] == ["timeout"]


@pytest.mark.parametrize("endless_tasks", [1, 2])
def test_a_deadline_on_threads_does_not_wait_for_a_task_without_one(endless_tasks: int) -> None:
    """A task that is given to a free thread of a worker must begin there, however long the one beside it takes.

    The thread may be free because a task of the other chunk has ended, which its worker says by asking.
    """
    witness = Witness(2, width=2, grace_s=1.0)
    kinds = [KindEntry("endless", 0, Policy()), KindEntry("short", 0, Policy(timeout_s=10.0))]
    witness.tell(TasksSubmitted(kinds, [0]))
    first = witness.ask(0)  # the run time of its kind is known afterwards, so that a chunk has several
    assert isinstance(first, GiveChunk)
    witness.tell(chunk_ended(0, first.chunk), 0.001)
    witness.tell(TasksSubmitted([], [0] * endless_tasks), 0.001)
    endless = witness.ask(0, 0.001)
    assert isinstance(endless, GiveChunk)
    assert len(endless.chunk.numbers) == endless_tasks
    witness.tell(ChunkBegan(0, endless.chunk.id), 0.1)
    witness.tell(TasksSubmitted([], [1]), 0.1)
    assert isinstance(witness.ask(0, 0.2, busy=1), GiveChunk)

    for at in (5.0, 10.0, 15.0, 20.0, 25.0):
        witness.tell(TimePassed(), at)
        witness.tell(TimePassed(), at + 0.1)

    assert [kill.why for kill in witness.kills] == ["timeout"]


def test_tasks_without_deadlines_may_begin_at_any_time() -> None:
    """A worker that does not begin tasks without deadlines is left alone, for nothing says that it should have."""
    witness, _, _ = with_chunk(Policy())
    for later_s in range(1, 1000, 100):
        assert witness.tell(TimePassed(), float(later_s)) == []


def test_a_manager_that_was_held_up_kills_nobody_for_what_it_has_not_read() -> None:
    """When the manager itself comes late, reports may wait for it: it reads them before it kills a worker."""
    witness, lease, chunk = with_chunk(Policy(timeout_s=1.0), grace_s=1.0)
    witness.tell(ChunkBegan(lease, chunk.id), 0.0)
    witness.tell(TimePassed(), 0.1)

    assert witness.tell(TimePassed(), 500.0) == []
    assert witness.tell(TimePassed(), 500.1) == [KillLease(lease, "timeout")]


def test_a_worker_that_was_too_slow_is_spared_when_it_has_reported_at_last() -> None:
    """A lease that is to be killed for a cancelled task goes on if the task has ended before the kill."""
    witness, lease, chunk = with_chunk(grace_s=1.0)
    witness.tell(CancelAsked([chunk.numbers[0]]), 10.0)
    witness.tell(TimePassed(), 11.0)
    assert witness.tell(TimePassed(), 11.1) == [KillLease(lease, "cancelled")]
    assert not witness.engine.spare(lease, 11.5)

    witness.tell(chunk_ended(lease, chunk), 12.0)

    assert witness.engine.spare(lease, 12.1)
    assert isinstance(witness.ask(lease, 0.5), GiveChunk)


def test_losses_between_tasks_are_counted_for_each_task() -> None:
    """A chunk that kills worker after worker between tasks is looked into, although other chunks complete meanwhile."""
    witness, lease, _ = with_chunk(free_losses=2)
    for _ in range(3):
        witness.tell(LeaseLost(lease, "it died", executing=()))
        assert not witness.charged
        (lease,) = witness.out
        witness.ask(lease)

    assert witness.engine.queue.lanes[0].suspects or witness.engine.lease_table.leases[lease].holds_suspects


@pytest.mark.parametrize(("timeout_s", "outcome"), [(None, "completed"), (1.0, "timeout")])
def test_a_task_without_a_deadline_is_never_too_late(timeout_s: float | None, outcome: str) -> None:
    """If the reports of a worker were lost, and it is killed for that, only a task that has a deadline may be late."""
    witness = Witness(1, grace_s=0.5)
    policies = Policy(timeout_s=1.0), Policy(max_attempts=1, timeout_s=timeout_s)
    witness.tell(TasksSubmitted([KindEntry(f"k{n}", 0, policy) for n, policy in enumerate(policies)], [0, *[1] * 20]))
    first = witness.ask(0)
    assert isinstance(first, GiveChunk)
    witness.tell(ChunkBegan(0, first.chunk.id), 0.1)
    ahead = witness.ask(0, 0.2)
    assert isinstance(ahead, GiveChunk)
    for at in (50.0, 50.1):
        witness.tell(TimePassed(), at)
    assert [kill.why for kill in witness.kills] == ["timeout"]

    witness.tell(LeaseLost(0, "it was killed", executing=ahead.chunk.numbers), 50.2)

    assert witness.outcome.get(ahead.chunk.numbers[0], "completed") == outcome
