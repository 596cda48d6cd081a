"""What the engine does when workers die, messages are late or doubled, shapes do not fit, and runs are stopped."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_cluster import Job, VirtualCluster
from witness import Witness

from dfz_ray.engine.lifecycle import State
from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    ChunkBegan,
    ChunkEnded,
    CommitEnds,
    CommitLosses,
    GiveChunk,
    KindEntry,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    NoteAttemptsLost,
    StopAsked,
    TaskEnd,
    TasksSubmitted,
)

WHY = "needs 4 GPUs; no node has that, the nearest one has 1 of 4 GPU"


def ends_of(given_chunk: GiveChunk, duration_s: float = 0.001) -> list[TaskEnd]:
    return [TaskEnd(number, True, duration_s) for number in given_chunk.chunk.numbers]


def serve(witness: Witness, lease: int, chunks: int, duration_s: float = 0.001) -> GiveChunk:
    """Let a lease run so many chunks to their end; returns the next one, given and not begun."""
    for _ in range(chunks):
        answer = witness.ask(lease)
        assert isinstance(answer, GiveChunk)
        witness.tell(ChunkEnded(lease, answer.chunk.id, ends_of(answer, duration_s)))
    answer = witness.ask(lease)
    assert isinstance(answer, GiveChunk)
    return answer


def submitted(count: int, slots: int = 1) -> Witness:
    """An engine with tasks of one kind, and its leases started."""
    witness = Witness(slots, lease_s=1000)
    witness.tell(TasksSubmitted([KindEntry("k", 0)], [0] * count))
    return witness


# --- crashes ----------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    kinds=st.lists(st.sampled_from("abc"), min_size=1, max_size=120),
    guilty=st.sets(st.integers(0, 119), max_size=12),
    durations=st.lists(st.sampled_from([0.0, 1e-4, 0.003, 0.2]), min_size=3, max_size=3),
    slots=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
def test_a_crash_charges_exactly_the_guilty_tasks(
    kinds: Sequence[str], guilty: set[int], durations: Sequence[float], slots: int, seed: int
) -> None:
    """Whatever tasks kill their workers, just those fail, with the message of their own crash; all others complete."""
    draw = random.Random(seed)  # noqa: S311  delays, not secrets
    scale = draw.choice([0.0, 0.001, 0.1])
    cluster = VirtualCluster(
        slots,
        delays=lambda what: scale * draw.random(),
        last_words=lambda: draw.random() < 0.5,
        is_repeated=lambda: draw.random() < 0.1,
    )
    length_s = dict(zip("abc", durations, strict=True))
    cluster.submit(Job(kind, length_s[kind], crashes=number in guilty) for number, kind in enumerate(kinds))

    cluster.run()

    assert cluster.witness.outcome == {
        number: "worker_crashed" if number in guilty else "completed" for number in range(len(kinds))
    }
    assert set(cluster.witness.messages) == guilty & set(range(len(kinds)))
    assert all("died" in message for message in cluster.witness.messages.values())


@pytest.mark.parametrize("loss_s", [0.0, 0.5])
def test_a_crash_that_takes_its_last_message_with_it_ends_the_run_nevertheless(loss_s: float) -> None:
    """Tasks that kill their worker before it can say what it began are found too, and nobody else is charged."""
    delays = {"start": 0.01, "message": 0.05, "commit": 0.01, "loss": loss_s}.__getitem__
    cluster = VirtualCluster(2, delays=delays, last_words=lambda: False)
    jobs = [Job("k", 0.0, crashes=number in (300, 301, 555, 999)) for number in range(1000)]
    cluster.submit(jobs)

    cluster.run(limit=20_000)

    assert [number for number, reason in cluster.witness.outcome.items() if reason == "worker_crashed"] == [
        number for number in cluster.witness.outcome if jobs[number].crashes
    ]
    assert Counter(cluster.witness.outcome.values()) == {"completed": 996, "worker_crashed": 4}


def test_one_guilty_task_costs_few_workers() -> None:
    """A guilty task among many is found by halving: it costs as many workers as its chunk can be halved, and one."""
    jobs = [Job("k", 0.001, crashes=number == 2000) for number in range(4000)]
    cluster = VirtualCluster(4)
    cluster.submit(jobs)

    cluster.run()

    tries = cluster.witness.attempts_lost[2000]
    largest = max(len(handed.numbers) for handed in cluster.witness.handed)
    assert tries <= math.ceil(math.log2(largest)) + 1
    assert max(cluster.witness.attempts_lost.values()) == tries
    assert len(cluster.witness.attempts_lost) <= 2 * largest


def test_a_suspect_group_runs_by_itself() -> None:
    """While the tasks of a crashed chunk are run in halves, the worker that has them has nothing else in hand."""
    witness = submitted(1000)
    (lease,) = witness.out
    crashed = serve(witness, lease, chunks=4)
    witness.tell(ChunkBegan(lease, crashed.chunk.id))
    ahead = witness.ask(lease)
    assert isinstance(ahead, GiveChunk)

    commands = witness.tell(LeaseLost(lease, "it died"))

    assert [(one.chunk, tuple(one.numbers)) for one in commands if isinstance(one, NoteAttemptsLost)] == [
        (crashed.chunk.id, tuple(crashed.chunk.numbers)),
        (ahead.chunk.id, tuple(ahead.chunk.numbers)),
    ]
    (lease,) = witness.out
    halves = []
    for _ in range(2):
        half = witness.ask(lease)
        assert isinstance(half, GiveChunk)
        assert isinstance(witness.ask(lease), AnswerWait)
        assert half.chunk.budget_s == math.inf
        halves.extend(half.chunk.numbers)
        witness.tell(ChunkEnded(lease, half.chunk.id, ends_of(half)))
    assert halves == list(crashed.chunk.numbers)
    following = witness.ask(lease)
    assert isinstance(following, GiveChunk)
    assert following.chunk.numbers[0] == ahead.chunk.numbers[0]
    assert following.chunk.budget_s < math.inf, "what had only been handed ahead is not suspect"


def test_a_suspect_group_is_not_handed_ahead() -> None:
    """A worker that has a chunk in hand gets no suspects to it: were it to die nobody would know of whose fault."""
    witness = submitted(2000, slots=2)
    mine, others = witness.out
    crashed = serve(witness, mine, chunks=5)
    witness.tell(ChunkBegan(mine, crashed.chunk.id))
    in_hand = serve(witness, others, chunks=5)

    witness.tell(LeaseLost(mine, "it died"))

    assert isinstance(witness.ask(others), AnswerWait)
    witness.tell(ChunkEnded(others, in_hand.chunk.id, ends_of(in_hand)))
    half = witness.ask(others)
    assert isinstance(half, GiveChunk)
    assert list(half.chunk.numbers) == list(crashed.chunk.numbers)[: len(half.chunk.numbers)]


def test_a_task_is_charged_when_it_was_alone() -> None:
    """A worker that dies with one task in its hands fails that task, whether or not it had said that it began."""
    for said in (True, False):
        witness = submitted(3)
        (lease,) = witness.out
        answer = witness.ask(lease)
        assert isinstance(answer, GiveChunk)
        if said:
            witness.tell(ChunkBegan(lease, answer.chunk.id))

        commands = witness.tell(LeaseLost(lease, "it died"))

        assert commands[0] == CommitLosses("worker_crashed", {0: "it died"}, answer.chunk.id)
        witness.commit()
        assert witness.engine.tasks.get_state(0) == State.FAILED


def test_workers_that_die_before_they_ask_do_not_die_for_ever() -> None:
    """When worker after worker dies as it starts, the tasks fail with that message instead of waiting for ever."""
    witness = Witness(2)
    witness.tell(TasksSubmitted([KindEntry("broken", 0), KindEntry("sound", 1)], [0] * 40 + [1]))

    deaths = 0
    while broken := [lease for lease in witness.out if witness.lane_of_lease[lease] == 0]:
        witness.tell(LeaseLost(broken[0], "a crash in native code"))
        deaths += 1
        assert deaths < 20

    assert set(witness.messages) == set(range(40))
    assert "before they could begin a task: a crash in native code" in witness.messages[0]
    assert set(witness.outcome.values()) == {"worker_crashed"}
    assert 40 not in witness.outcome


def test_a_fault_that_kills_many_starting_workers_at_once_costs_nothing() -> None:
    """When a node goes down with all the workers that were starting on it, they are started elsewhere."""
    cluster = VirtualCluster(32)
    cluster.submit([Job("k", 0.1)] * 200)
    for _ in range(32):
        cluster.kill_a_worker(at=0.005)

    cluster.run()

    assert Counter(cluster.witness.outcome.values()) == {"completed": 200}


@pytest.mark.parametrize(("event", "retried"), [(LeaseEnded(0), 400), (LeaseLost(0, "it died"), 401)])
def test_a_kind_whose_first_try_is_lost_is_tried_again_at_once(event: LeaseEnded | LeaseLost, retried: int) -> None:
    """When the first try of an unknown kind was lost the next one comes before the known kinds go on."""
    witness = Witness(1, lease_s=1000)
    witness.tell(TasksSubmitted([KindEntry("known", 0)], [0] * 400))
    in_hand = serve(witness, lease=0, chunks=4)
    witness.tell(ChunkEnded(0, in_hand.chunk.id, ends_of(in_hand)))
    witness.tell(TasksSubmitted([KindEntry("unknown", 0)], [1] * 3))
    first = witness.ask(0)
    assert isinstance(first, GiveChunk)
    assert list(first.chunk.numbers) == [400]

    witness.tell(event)

    (lease,) = witness.out
    second = witness.ask(lease)
    assert isinstance(second, GiveChunk)
    assert list(second.chunk.numbers) == [retried]


# --- late and doubled messages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ended", "lost", "handed back"])
def test_a_late_or_second_end_of_a_chunk_is_superseded(how: str) -> None:
    """What a worker says of a chunk that is not in its hands any more changes nothing."""
    witness = submitted(100)
    (lease,) = witness.out
    chunk = serve(witness, lease, chunks=3)
    end = ChunkEnded(lease, chunk.chunk.id, ends_of(chunk))
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
    witness.tell(ChunkEnded(lease, chunk.chunk.id, ends_of(chunk)))
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
    mine = ends_of(chunk)

    commands = witness.tell(ChunkEnded(lease, chunk.chunk.id, [*mine, TaskEnd(0, True, 9.0), TaskEnd(49, False, 9.0)]))

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


@settings(max_examples=100, deadline=None)
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

    cluster.run()

    outcomes = Counter(cluster.witness.outcome.values())
    assert outcomes.total() == count
    assert outcomes["worker_crashed"] <= len(deaths)
    assert outcomes["completed"] == count - outcomes["worker_crashed"]


# --- shapes that do not fit -------------------------------------------------------------------------------------------


def test_a_lane_without_capacity_fails_its_tasks_at_once() -> None:
    """Tasks of a shape that no node holds fail at once, with what the nearest node has; other shapes run."""
    cluster = VirtualCluster(2)
    cluster.submit([Job("gpu", 1.0, lane=0)] * 3 + [Job("cpu", 1.0, lane=1)] * 3)
    cluster.tell(LaneSized(0, 0, WHY))

    cluster.run()

    assert [cluster.witness.outcome[number] for number in range(6)] == ["infeasible"] * 3 + ["completed"] * 3
    assert cluster.witness.messages == dict.fromkeys(range(3), WHY)


def test_later_tasks_of_a_lane_without_capacity_fail_until_there_is_some() -> None:
    """What is submitted to such a shape later fails too; once a node has it, new tasks run."""
    cluster = VirtualCluster(2)
    cluster.tell(LaneSized(0, 0, WHY))
    cluster.submit([Job("gpu", 1.0)] * 2 + [Job("other gpu", 1.0)] * 2, at=1.0)
    cluster.tell(LaneSized(0, 1), at=2.0)
    cluster.submit([Job("gpu", 1.0)] * 2, at=3.0)

    cluster.run()

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
    cluster.tell(LaneSized(0, 0, WHY), at=1.0)
    cluster.submit([Job("cpu", 1.0, lane=1)] * 5, at=2.0)

    cluster.run()

    assert Counter(cluster.witness.outcome.values()) == {"infeasible": 5, "completed": 5}
    assert isinstance(cluster.witness.ask(0), AnswerEnd), "it comes after all, and returns"


@settings(max_examples=100, deadline=None)
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
        cluster.tell(LaneSized(lane, capacity, "" if capacity else WHY), at)
        cluster.dismiss_a_worker(at)
    for lane in range(2):
        cluster.tell(LaneSized(lane, 1), 10)  # a node comes back: tasks that once had a place have waited for it

    cluster.run()

    assert len(cluster.witness.outcome) == count
    assert set(cluster.witness.outcome.values()) <= {"completed", "infeasible"}


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_after_a_stop_nothing_is_handed_out() -> None:
    """After a stop no lease starts and none gets a chunk; what is in hand may end and is committed."""
    cluster = VirtualCluster(4, lease_s=0.5)
    cluster.submit([Job("k", 0.01)] * 5000)
    cluster.tell(StopAsked(), at=1.0)
    cluster.submit([Job("k", 0.01)] * 10, at=2.0)

    cluster.run()

    assert max(handed.at for handed in cluster.witness.handed) < 1.0
    given = sum(len(handed.numbers) for handed in cluster.witness.handed)
    assert Counter(cluster.witness.outcome.values()) == {"completed": given}
    assert cluster.witness.engine.tasks.counts == [5010 - given, 0, given, 0, 0]
    assert cluster.witness.engine.leases == 0


def test_workers_that_are_killed_after_a_stop_charge_nobody() -> None:
    """When the user interrupts a run and long tasks are killed, they are pending again, not failed."""
    cluster = VirtualCluster(2)
    cluster.submit([Job("long", 100.0)] * 5)
    cluster.tell(StopAsked(), at=1.0)
    cluster.kill_a_worker(at=2.0)
    cluster.kill_a_worker(at=2.0)

    cluster.run()

    assert cluster.witness.outcome == {}
    assert cluster.witness.engine.tasks.counts == [5, 0, 0, 0, 0]
    assert cluster.witness.attempts_lost == {0: 1, 1: 1}
