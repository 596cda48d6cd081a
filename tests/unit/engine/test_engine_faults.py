"""What the engine does when workers die, messages are late or doubled, shapes do not fit, and runs are stopped."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.virtual_cluster import ONCE, Job, VirtualCluster
from support.witness import Witness, chunk_ended

from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    CancelAsked,
    Chunk,
    ChunkBegan,
    ChunkEnded,
    CommitCancellations,
    CommitEnds,
    CommitLosses,
    GiveChunk,
    InterruptLease,
    KillLease,
    KindEntry,
    LaneSized,
    LeaseEnded,
    LeaseLost,
    NoteAttemptsLost,
    StopAsked,
    TasksSubmitted,
    TimePassed,
)
from dfz_ray.specs.policy import Backoff, Policy
from dfz_ray.specs.states import State

DEFAULT = Policy()
WHY = "needs 4 GPUs; no node has that, the nearest one has 1 of 4 GPU"


def serve(witness: Witness, lease: int, chunks: int, duration_s: float = 0.001) -> GiveChunk:
    """Let a lease run so many chunks to their end; returns the next one, given and not begun."""
    for _ in range(chunks):
        answer = witness.ask(lease)
        assert isinstance(answer, GiveChunk)
        witness.tell(chunk_ended(lease, answer.chunk, duration_s))
    answer = witness.ask(lease)
    assert isinstance(answer, GiveChunk)
    return answer


def submitted(count: int, slots: int = 1) -> Witness:
    """An engine with tasks of one kind, and its leases started."""
    witness = Witness(slots, lease_s=1000)
    witness.tell(TasksSubmitted([KindEntry("k", 0, ONCE)], [0] * count))
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

    cluster.play()

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

    cluster.play(limit=20_000)

    assert [number for number, reason in cluster.witness.outcome.items() if reason == "worker_crashed"] == [
        number for number in cluster.witness.outcome if jobs[number].crashes
    ]
    assert Counter(cluster.witness.outcome.values()) == {"completed": 996, "worker_crashed": 4}


def test_one_guilty_task_costs_few_workers() -> None:
    """A guilty task among many is found by halving: it costs as many workers as its chunk can be halved, and one."""
    jobs = [Job("k", 0.001, crashes=number == 2000) for number in range(4000)]
    cluster = VirtualCluster(4)
    cluster.submit(jobs)

    cluster.play()

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
        witness.tell(chunk_ended(lease, half.chunk))
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
    witness.tell(chunk_ended(others, in_hand.chunk))
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
    witness.tell(TasksSubmitted([KindEntry("broken", 0, Policy()), KindEntry("sound", 1, Policy())], [0] * 40 + [1]))

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

    cluster.play()

    assert Counter(cluster.witness.outcome.values()) == {"completed": 200}


@pytest.mark.parametrize(("event", "retried"), [(LeaseEnded(0), 400), (LeaseLost(0, "it died"), 401)])
def test_a_kind_whose_first_try_is_lost_is_tried_again_at_once(event: LeaseEnded | LeaseLost, retried: int) -> None:
    """When the first try of an unknown kind was lost the next one comes before the known kinds go on."""
    witness = Witness(1, lease_s=1000)
    witness.tell(TasksSubmitted([KindEntry("known", 0, Policy())], [0] * 400))
    in_hand = serve(witness, lease=0, chunks=4)
    witness.tell(chunk_ended(0, in_hand.chunk))
    witness.tell(TasksSubmitted([KindEntry("unknown", 0, Policy())], [1] * 3))
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


# --- who is charged ---------------------------------------------------------------------------------------------------


def with_chunk(policy: Policy = DEFAULT, **options: Any) -> tuple[Witness, int, Chunk]:
    """An engine, and a lease that executes a chunk of eight tasks or more."""
    witness = Witness(1, lease_s=1000, **options)
    witness.tell(TasksSubmitted([KindEntry("k", 0, policy)], [0] * 300))
    (lease,) = witness.out
    chunk = serve(witness, lease, chunks=4).chunk
    witness.tell(ChunkBegan(lease, chunk.id))
    assert len(chunk.numbers) >= 8
    return witness, lease, chunk


@pytest.mark.parametrize("reason", ["worker_crashed", "out_of_memory", "timeout"])
def test_only_the_task_that_was_executed_is_charged(reason: str) -> None:
    """Where it is known what the worker executed, that task alone is charged; its chunk-mates wait again, uncharged."""
    witness, lease, chunk = with_chunk(Policy(max_attempts=1))

    commands = witness.tell(LeaseLost(lease, "it died", reason, (chunk.numbers[3],)))

    assert commands[0] == NoteAttemptsLost(chunk.id, chunk.numbers[:3], reason, "it died")
    assert commands[1] == CommitLosses(reason, {chunk.numbers[3]: "it died"}, chunk.id)
    assert witness.charged == {chunk.numbers[3]: 1}
    (lease,) = witness.out
    again = witness.ask(lease)
    assert isinstance(again, GiveChunk)
    assert list(again.chunk.numbers)[:3] == list(chunk.numbers)[:3]


@pytest.mark.parametrize("executing", [(), (0,), (299,), (10**9,)])
def test_a_worker_that_executed_none_of_its_tasks_charges_nobody(executing: tuple[int, ...]) -> None:
    """Where a worker dies between tasks, or what is told of it is old, all that it held waits again, uncharged."""
    witness, lease, chunk = with_chunk()

    commands = witness.tell(LeaseLost(lease, "it died", executing=executing))

    assert commands[0] == NoteAttemptsLost(chunk.id, chunk.numbers, "worker_crashed", "it died")
    assert not witness.charged
    assert not witness.engine.queue.lanes[0].suspects


def test_workers_that_keep_dying_between_tasks_are_looked_into() -> None:
    """When worker after worker dies of no task in particular, their chunk is halved until one is alone, and charged."""
    cluster = VirtualCluster(1, told=lambda executing: ())
    cluster.submit(Job("k", 0.001, crashes=number == 77) for number in range(200))

    cluster.play(limit=100_000)

    assert Counter(cluster.witness.outcome.values()) == {"completed": 199, "worker_crashed": 1}
    assert cluster.witness.outcome[77] == "worker_crashed"
    assert cluster.witness.charged == {77: 1}


def test_a_task_is_free_of_charge_for_some_losses_of_its_node() -> None:
    """A task that is lost with its node is charged only when that has happened too often."""
    cluster = VirtualCluster(1, told=lambda executing: executing, free_losses=2)
    cluster.submit([Job("k", 10.0, policy=Policy(max_attempts=2))])
    for at in (5.0, 10.0, 15.0, 20.0):
        cluster.kill_a_worker(at, "node_lost")

    cluster.play()

    assert cluster.witness.outcome == {0: "node_lost"}
    assert cluster.witness.forgiven == {0: 2}
    assert cluster.witness.charged == {0: 2}


def test_what_a_journal_knows_of_attempts_counts() -> None:
    """After a restart the attempts that were charged before, and the losses that were forgiven, count on."""
    witness = Witness(1, free_losses=2)
    entry = KindEntry("k", 0, Policy(max_attempts=3))
    settled = {0: State.COMPLETED.value}
    witness.tell(TasksSubmitted([entry], [0, 0, 0], settled, charged={1: 2}, free_losses={2: 2}))
    for _ in range(2):
        (lease,) = witness.out
        answer = witness.ask(lease)
        assert isinstance(answer, GiveChunk)
        (number,) = answer.chunk.numbers
        witness.tell(LeaseLost(lease, "it died", "worker_crashed" if number == 1 else "node_lost", (number,)))

    assert witness.outcome == {0: "completed", 1: "worker_crashed"}
    assert witness.charged == {1: 3, 2: 1}


def test_a_failed_attempt_is_followed_by_another_one_in_its_time() -> None:
    """A task that fails is tried again after its delays, not earlier and hardly later, until no attempt is left."""
    policy = Policy(retry_on=("exception",), backoff=Backoff(first_s=1.0, factor=3.0, jitter=0.0))
    cluster = VirtualCluster(2)
    cluster.submit([Job("k", 0.5, fails=True, policy=policy), *[Job("other", 0.05)] * 200])

    cluster.play()

    began = [one.began_s for one in cluster.executions if one.number == 0]
    assert cluster.witness.outcome[0] == "exception"
    assert [later - earlier for earlier, later in itertools.pairwise(began)] == pytest.approx([1.5, 3.5], abs=0.15)


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
    """A cancelled task that runs is cancelled at once; its worker is told, and what it says of it is superseded."""
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
    """When the first task of a kind is cancelled in its worker's hands the kind still counts as untried."""
    witness = Witness(1, lease_s=1000)
    witness.tell(TasksSubmitted([KindEntry("k", 0, Policy())], [0] * 3))
    (lease,) = witness.out
    answer = witness.ask(lease)
    assert isinstance(answer, GiveChunk)
    witness.tell(CancelAsked([0]))

    witness.tell(ChunkEnded(lease, answer.chunk.id, [], []))

    assert witness.engine.queue.kinds[0].rank[1] == 0


# --- the time ---------------------------------------------------------------------------------------------------------


def test_the_engine_is_told_the_time_however_much_happens() -> None:
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
