"""Deadlines, cancellation and stopping: what the engine ends, and when it kills a worker for it."""

from __future__ import annotations

from collections import Counter

import pytest
from support.virtual_cluster import Job, VirtualCluster
from support.witness import Witness, chunk_ended, submitted, with_chunk

from dfz_ray.engine.messages import (
    CancelAsked,
    ChunkBegan,
    ChunkEnded,
    CommitCancellations,
    CommitEnds,
    GiveChunk,
    InterruptLease,
    KillLease,
    KindEntry,
    LeaseLost,
    StopAsked,
    TasksSubmitted,
    TimePassed,
)
from dfz_ray.specs.policy import Backoff, Policy
from dfz_ray.specs.states import State

# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["known", "unknown"])
def test_a_worker_that_overruns_every_deadline_is_killed(told: str) -> None:
    """A task whose worker does not keep its deadline is ended by force, with two graces; its chunk-mates complete."""
    cluster = VirtualCluster(1, told=(lambda number: number) if told == "known" else lambda number: None, grace_s=0.5)
    policy = Policy(max_attempts=1, timeout_s=3.0)
    cluster.submit([Job("k", 0.01, policy=policy)] * 400)
    cluster.stuck = {300}

    cluster.play()

    assert {number: why for number, why in cluster.witness.outcome.items() if why != "completed"} == {300: "timeout"}
    assert {kill.why for kill in cluster.witness.kills} == {"timeout"}
    assert cluster.witness.charged == {300: 1}
    if told == "known":
        assert len(cluster.witness.kills) == 1
        assert cluster.makespan_s < 4.0 + 3.0 + 0.1 + 2 * 0.5 + 0.5


def test_a_chunk_within_its_deadlines_is_left_alone() -> None:
    """Tasks that take all of the time that they may, and a manager that learns of it late, cost no worker."""
    delays = {"start": 0.1, "message": 0.3, "commit": 0.1, "loss": 0.1}.__getitem__
    cluster = VirtualCluster(3, delays=delays)
    cluster.submit([Job("k", 0.999, policy=Policy(timeout_s=1.0))] * 50)

    cluster.play()

    assert cluster.witness.kills == []
    assert Counter(cluster.witness.outcome.values()) == {"completed": 50}


def test_tasks_with_and_without_a_deadline_never_share_a_chunk() -> None:
    """A chunk's limit holds for all of it: what has no deadline goes by itself."""
    cluster = VirtualCluster(2)
    kinds = [Job(f"k{n}", 0.004, policy=Policy(timeout_s=9.0 if n // 10 % 2 else None)) for n in range(300)]
    cluster.submit(kinds * 3)

    cluster.play()

    assert max(len({cluster.jobs[n].kind for n in handed.numbers}) for handed in cluster.witness.handed) > 1
    for handed in cluster.witness.handed:
        assert len({cluster.jobs[number].policy.timeout_s for number in handed.numbers}) == 1


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_what_waits_is_cancelled_at_once() -> None:
    """Tasks in the queue are cancelled with the request, never run, and are CANCELLED when that is on disk."""
    witness = submitted(100)

    commands = witness.tell(CancelAsked([5, 99, 7]))

    assert commands == [CommitCancellations([5, 7, 99])]
    assert witness.engine.tasks.counts[State.CANCELLED] == 0
    witness.commit()
    assert witness.engine.tasks.counts == [97, 0, 0, 0, 3]
    assert witness.tell(CancelAsked([5, 7, 12345])) == []


def test_a_task_that_waits_for_its_next_attempt_is_cancelled() -> None:
    """A task that failed, and is due again later, is cancelled at once and does not come back."""
    witness = Witness(1)
    policy = Policy(retry_on=("exception",), backoff=Backoff(first_s=1.0, jitter=0.0))
    witness.tell(TasksSubmitted([KindEntry("k", 0, policy)], [0]))
    (lease,) = witness.out
    answer = witness.ask(lease)
    assert isinstance(answer, GiveChunk)
    witness.tell(ChunkEnded(lease, answer.chunk.id, [0], [0.1], {0: "exception"}))
    assert witness.engine.wake_at == pytest.approx(1.0)

    commands = witness.tell(CancelAsked())

    assert commands == [CommitCancellations([0])]
    witness.commit()
    witness.tell(TimePassed(), 5.0)
    assert witness.engine.tasks.counts == [0, 0, 0, 0, 1]
    assert witness.engine.wake_at is None


def test_suspects_are_cancelled() -> None:
    """A task that is under suspicion of having killed its worker is cancelled as any other that waits."""
    witness, lease, chunk = with_chunk()
    witness.tell(LeaseLost(lease, "it died"))
    half = list(chunk.numbers)[: (len(chunk.numbers) + 1) // 2]

    witness.tell(CancelAsked(half))

    (lease,) = witness.out
    answer = witness.ask(lease)
    assert isinstance(answer, GiveChunk)
    assert list(answer.chunk.numbers) == list(chunk.numbers)[len(half) :]


def test_what_a_worker_has_in_hand_is_cancelled_too() -> None:
    """A running task is cancelled at once; its worker is asked to end it, and later reports are superseded."""
    witness, lease, chunk = with_chunk()
    gone = list(chunk.numbers[2:5])

    commands = witness.tell(CancelAsked(gone), 1.0)

    assert commands == [CommitCancellations(gone), InterruptLease(lease, gone)]
    witness.commit(1.1)
    commands = witness.tell(chunk_ended(lease, chunk), 1.2)
    (commit,) = (command for command in commands if isinstance(command, CommitEnds))
    assert commit.superseded == gone
    assert len(commit.completed) == len(chunk.numbers) - 3


def test_a_worker_that_does_not_let_go_is_killed_after_its_grace() -> None:
    """A worker that still holds what was cancelled is killed; nobody is charged, and its other tasks wait again."""
    witness, lease, chunk = with_chunk(grace_s=1.0)
    witness.tell(CancelAsked([chunk.numbers[0]]), 10.0)
    assert witness.tell(TimePassed(), 10.9) == []

    assert witness.tell(TimePassed(), 11.0) == [KillLease(lease, "cancelled")]

    assert witness.tell(TimePassed(), 12.0) == []
    witness.tell(LeaseLost(lease, "killed", "worker_crashed", (chunk.numbers[0],)), 12.5)
    assert not witness.charged
    assert witness.superseded == {chunk.numbers[0]: 1}
    assert witness.outcome[chunk.numbers[0]] == "cancelled"
    assert witness.engine.wake_at is None


def test_a_worker_is_not_killed_for_what_it_has_not_begun() -> None:
    """What is cancelled of the chunk ahead costs the present one nothing, and is left out when its turn comes."""
    witness, lease, chunk = with_chunk(grace_s=1.0)
    ahead = witness.ask(lease)
    assert isinstance(ahead, GiveChunk)
    witness.tell(CancelAsked([ahead.chunk.numbers[0]]), 10.0)

    assert witness.tell(TimePassed(), 100.0) == []

    witness.tell(chunk_ended(lease, chunk), 100.1)
    witness.tell(ChunkBegan(lease, ahead.chunk.id), 100.1)
    assert witness.tell(TimePassed(), 100.5) == [], "it has just begun, and had no time to let go"
    assert witness.tell(TimePassed(), 101.2) == [KillLease(lease, "cancelled")]


def test_an_older_cancellation_takes_no_grace_from_a_newer_one() -> None:
    """A worker that let go of one task in time has its whole grace for the next."""
    witness, lease, chunk = with_chunk(grace_s=1.0)
    witness.tell(CancelAsked([chunk.numbers[0]]), 10.0)
    ahead = witness.ask(lease, 10.1)
    assert isinstance(ahead, GiveChunk)
    witness.tell(ChunkEnded(lease, chunk.id, chunk.numbers[1:], [0.001] * (len(chunk.numbers) - 1)), 10.2)
    witness.tell(ChunkBegan(lease, ahead.chunk.id), 10.2)
    witness.tell(CancelAsked([ahead.chunk.numbers[0]]), 20.0)

    assert witness.tell(TimePassed(), 20.5) == []


def test_what_is_on_its_way_to_the_disk_stays() -> None:
    """A task that has ended, and is not committed yet, is not cancelled any more."""
    witness, lease, chunk = with_chunk()
    witness.tell(chunk_ended(lease, chunk))
    done = dict(witness.outcome)

    witness.tell(CancelAsked())

    witness.commit()
    assert witness.engine.tasks.counts == [0, 0, len(done), 0, 300 - len(done)]


def test_an_unknown_kind_that_was_cancelled_is_tried_as_any_other() -> None:
    """When the first task of a kind is cancelled while a worker holds it, the kind still counts as untried."""
    witness = Witness(1, lease_s=1000)
    witness.tell(TasksSubmitted([KindEntry("k", 0, Policy())], [0] * 3))
    (lease,) = witness.out
    answer = witness.ask(lease)
    assert isinstance(answer, GiveChunk)
    witness.tell(CancelAsked([0]))

    witness.tell(ChunkEnded(lease, answer.chunk.id, [], []))

    assert witness.engine.queue.kinds[0].rank[1] == 0


# --- the time ---------------------------------------------------------------------------------------------------------


def test_the_time_is_reported_however_much_happens() -> None:
    """Other events do not put off the time at which the engine looks for what is late."""
    witness, lease, chunk = with_chunk(Policy(timeout_s=1.0))
    witness.tell(TimePassed(), 5.0)
    due = witness.engine.wake_at
    assert due is not None

    for step in range(20):
        witness.tell(ChunkBegan(lease, chunk.id), 5.0 + step * 0.05)

    assert witness.engine.wake_at == due


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_after_a_stop_nothing_is_handed_out() -> None:
    """After a stop no lease starts and none gets a chunk; what is in hand may end and is committed."""
    cluster = VirtualCluster(4, lease_s=0.5)
    cluster.submit([Job("k", 0.01)] * 5000)
    cluster.tell_at(StopAsked(), at=1.0)
    cluster.submit([Job("k", 0.01)] * 10, at=2.0)

    cluster.play()

    assert max(handed.at for handed in cluster.witness.handed) < 1.0
    given = sum(len(handed.numbers) for handed in cluster.witness.handed)
    assert Counter(cluster.witness.outcome.values()) == {"completed": given}
    assert cluster.witness.engine.tasks.counts == [5010 - given, 0, given, 0, 0]
    assert cluster.witness.engine.leases == 0


def test_leases_that_end_unplaced_after_a_stop_fail_nothing() -> None:
    """However many workers never came, those that a closing manager ends make no task fail."""
    witness = Witness(1)
    witness.tell(TasksSubmitted([KindEntry("k", 0, Policy())], [0] * 9))
    for _ in range(4):
        (lease,) = witness.out
        witness.tell(LeaseLost(lease, "it died"))
    (lease,) = witness.out
    witness.tell(StopAsked())

    assert witness.tell(LeaseLost(lease, "it was killed")) == []


def test_nodes_that_go_down_before_a_worker_asks_give_up_no_lane() -> None:
    """Workers that are lost with their nodes say nothing of whether their tasks can begin."""
    witness = Witness(1)
    witness.tell(TasksSubmitted([KindEntry("k", 0, Policy())], [0] * 9))
    for _ in range(30):
        (lease,) = witness.out
        witness.tell(LeaseLost(lease, "its node died", "node_lost"))

    assert witness.outcome == {}


def test_workers_that_are_killed_after_a_stop_charge_nobody() -> None:
    """When the user interrupts a run and long tasks are killed, they are pending again, not failed."""
    cluster = VirtualCluster(2)
    cluster.submit([Job("long", 100.0)] * 5)
    cluster.tell_at(StopAsked(), at=1.0)
    cluster.kill_a_worker(at=2.0)
    cluster.kill_a_worker(at=2.0)

    cluster.play()

    assert cluster.witness.outcome == {}
    assert cluster.witness.engine.tasks.counts == [5, 0, 0, 0, 0]
    assert cluster.witness.attempts_lost == {0: 1, 1: 1}
