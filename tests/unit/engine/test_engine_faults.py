"""Late and doubled messages, and shapes that do not fit."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amount import amount
from support.virtual_cluster import Job, VirtualCluster
from support.witness import chunk_ended, serve, submitted

from dfz_ray.engine.messages import (
    AnswerEnd,
    ChunkBegan,
    ChunkEnded,
    CommitEnds,
    CommitLosses,
    GiveChunk,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    NoteAttemptsLost,
)
from dfz_ray.specs.states import State

WHY = "needs 4 GPUs; no node has that, the nearest one has 1 of 4 GPU"


# --- late and doubled messages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ended", "lost", "handed back"])
def test_a_late_or_second_end_of_a_chunk_is_superseded(how: str) -> None:
    """A report about a chunk that the worker does not hold any more changes nothing."""
    witness = submitted(100)
    (lease,) = witness.out
    chunk = serve(witness, lease, chunks=3)
    end = chunk_ended(lease, chunk.chunk)
    witness.tell({"ended": end, "lost": LeaseLost(lease, "it died"), "handed back": LeaseEnded(lease)}[how])
    counts = list(witness.engine.tasks.counts)

    commands = witness.tell(end)

    assert commands == [CommitEnds(lease, chunk.chunk.id, (), (), list(chunk.chunk.numbers))]
    assert witness.engine.tasks.counts == counts


def test_second_words_of_a_lease_change_nothing() -> None:
    """That a chunk began, or that a lease ended or was lost, may be said again, in any order."""
    witness = submitted(100)
    (lease,) = witness.out
    chunk = serve(witness, lease, chunks=3)
    began = ChunkBegan(lease, chunk.chunk.id)
    witness.tell(began)
    witness.tell(began)
    witness.tell(chunk_ended(lease, chunk.chunk))
    witness.tell(LeaseEnded(lease))
    counts = list(witness.engine.tasks.counts)

    for event in (began, LeaseLost(lease, "it died"), LeaseEnded(lease), began):
        assert witness.tell(event) == []

    assert witness.engine.tasks.counts == counts
    assert isinstance(witness.ask(lease), AnswerEnd)


def test_what_a_worker_says_of_others_tasks_is_superseded() -> None:
    """Ends of tasks that the chunk does not hold, and second ends of one, are set aside; the others count."""
    witness = submitted(50)
    (lease,) = witness.out
    chunk = serve(witness, lease, chunks=3)
    mine = chunk_ended(lease, chunk.chunk)

    commands = witness.tell(
        ChunkEnded(lease, chunk.chunk.id, [*mine.numbers, 0, 49], [*mine.durations_s, 9.0, 9.0], {49: "exception"})
    )

    (commit,) = (command for command in commands if isinstance(command, CommitEnds))
    assert (list(commit.completed), commit.failed, commit.superseded) == (list(chunk.chunk.numbers), [], [0, 49])


def test_a_lease_that_returns_with_chunks_in_hand_costs_no_attempt() -> None:
    """When a lease's call returns although it has chunks, their tasks wait again, uncharged."""
    witness = submitted(1000)
    (lease,) = witness.out
    chunk = serve(witness, lease, chunks=4)
    witness.tell(ChunkBegan(lease, chunk.chunk.id))
    assert isinstance(witness.ask(lease), GiveChunk)

    commands = witness.tell(LeaseEnded(lease))

    assert not [command for command in commands if isinstance(command, CommitLosses | NoteAttemptsLost)]
    witness.commit()
    assert witness.engine.tasks.counts[State.PENDING] == 1000 - witness.engine.tasks.counts[State.COMPLETED]


@settings(max_examples=amount(100), deadline=None)
@given(
    times=st.lists(st.floats(0, 3), max_size=8),
    deaths=st.lists(st.floats(0, 3), max_size=5),
    slots=st.integers(1, 4),
    count=st.integers(1, 150),
)
def test_nothing_is_lost_when_workers_come_and_go(
    times: Sequence[float], deaths: Sequence[float], slots: int, count: int
) -> None:
    """Whenever workers return or are killed from outside, each task ends once; each death charges one task at most."""
    cluster = VirtualCluster(slots, last_words=lambda: False)
    cluster.submit(Job("ab"[number % 2], (0.004, 0.09)[number % 2]) for number in range(count))
    for at in times:
        cluster.dismiss_a_worker(at)
    for at in deaths:
        cluster.kill_a_worker(at)

    cluster.play()

    outcomes = Counter(cluster.witness.outcome.values())
    assert outcomes.total() == count
    assert outcomes["worker_crashed"] <= len(deaths)
    assert outcomes["completed"] == count - outcomes["worker_crashed"]


# --- shapes that do not fit -------------------------------------------------------------------------------------------


def test_a_lane_without_capacity_fails_its_tasks_at_once() -> None:
    """Tasks of a shape that no node holds fail at once, with what the nearest node has; other shapes run."""
    cluster = VirtualCluster(2)
    cluster.submit([Job("gpu", 1.0, lane=0)] * 3 + [Job("cpu", 1.0, lane=1)] * 3)
    cluster.tell_at(LaneSized(0, 0, WHY))

    cluster.play()

    assert [cluster.witness.outcome[number] for number in range(6)] == ["infeasible"] * 3 + ["completed"] * 3
    assert cluster.witness.messages == dict.fromkeys(range(3), WHY)


def test_later_tasks_of_a_lane_without_capacity_fail_until_there_is_some() -> None:
    """What is submitted to such a shape later fails too; once a node has it, new tasks run."""
    cluster = VirtualCluster(2)
    cluster.tell_at(LaneSized(0, 0, WHY))
    cluster.submit([Job("gpu", 1.0)] * 2 + [Job("other gpu", 1.0)] * 2, at=1.0)
    cluster.tell_at(LaneSized(0, 1), at=2.0)
    cluster.submit([Job("gpu", 1.0)] * 2, at=3.0)

    cluster.play()

    assert [cluster.witness.outcome[number] for number in range(6)] == ["infeasible"] * 4 + ["completed"] * 2
    assert cluster.most_busy == 1


def test_what_comes_back_to_a_lane_without_capacity_fails_too() -> None:
    """When a shape's only node goes down, the tasks that ran there fail as those that waited for it."""
    for back in (LeaseEnded(0), LeaseLost(0, "the node died")):
        witness = submitted(1000)
        (lease,) = witness.out
        chunk = serve(witness, lease, chunks=4)
        witness.tell(ChunkBegan(lease, chunk.chunk.id))
        witness.tell(LaneSized(0, 0, WHY))

        witness.tell(back)

        witness.commit()
        assert witness.engine.tasks.open == 0
        assert set(chunk.chunk.numbers) <= set(witness.messages)


def test_leases_that_can_not_be_placed_any_more_free_their_slots() -> None:
    """When a shape's node goes down before its leases were placed, they do not keep the slots from other shapes."""
    cluster = VirtualCluster(2, delays=lambda what: math.inf if what == "start" and cluster.now < 1 else 0.01)
    cluster.submit([Job("gpu", 1.0)] * 5)
    cluster.tell_at(LaneSized(0, 0, WHY), at=1.0)
    cluster.submit([Job("cpu", 1.0, lane=1)] * 5, at=2.0)

    cluster.play()

    assert Counter(cluster.witness.outcome.values()) == {"infeasible": 5, "completed": 5}
    assert isinstance(cluster.witness.ask(0), AnswerEnd), "it comes after all, and returns"


@settings(max_examples=amount(100), deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.floats(0, 2)), max_size=8),
    count=st.integers(1, 60),
    seed=st.integers(0, 1000),
)
def test_every_task_ends_while_nodes_come_and_go(
    sizes: Sequence[tuple[int, int, float]], count: int, seed: int
) -> None:
    """Whatever the cluster holds from moment to moment, every task ends once, waiting for its node where it must."""
    draw = random.Random(seed)  # noqa: S311  delays, not secrets
    cluster = VirtualCluster(3, delays=lambda what: draw.random() * 0.1, last_words=lambda: False)
    cluster.submit(Job("ab"[number % 2], 0.05, lane=number % 2) for number in range(count))
    for lane, capacity, at in sizes:
        cluster.tell_at(LaneSized(lane, capacity, "" if capacity else WHY), at)
        cluster.dismiss_a_worker(at)
    for lane in range(2):
        cluster.tell_at(LaneSized(lane, 1), 10)  # a node comes back: tasks that once had a place have waited for it

    cluster.play()

    assert len(cluster.witness.outcome) == count
    assert set(cluster.witness.outcome.values()) <= {"completed", "infeasible"}


def test_a_lane_that_waits_for_a_node_keeps_its_tasks() -> None:
    """Where no node has the shape yet, and one is waited for, tasks wait, and run when it is there."""
    cluster = VirtualCluster(2)
    cluster.tell_at(LaneSized(0, 0))
    cluster.submit([Job("gpu", 1.0)] * 3)
    cluster.tell_at(LaneSized(0, 1), at=50.0)

    cluster.play()

    assert Counter(cluster.witness.outcome.values()) == {"completed": 3}
    assert min(one.began_s for one in cluster.executions) > 50.0


def test_a_lane_that_shrinks_keeps_no_slots_for_leases_that_have_no_place() -> None:
    """When nodes go down the leases that Ray has not placed on them free their slots for other shapes."""
    cluster = VirtualCluster(4, delays=lambda what: math.inf if what == "start" and cluster.now < 1 else 0.01)
    cluster.submit([Job("gpu", 1.0)] * 9)
    cluster.tell_at(LaneSized(0, 1), at=1.0)
    cluster.submit([Job("cpu", 1.0, lane=1)] * 9, at=2.0)

    cluster.play(until_s=10.0)

    out = Counter(cluster.witness.outcome)
    assert [number for number in sorted(out) if cluster.jobs[number].kind == "cpu"] == list(range(9, 18))
