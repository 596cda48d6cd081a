"""What the death of a worker costs: who is charged, who is suspect, and who goes back."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amount import amount
from support.virtual_cluster import Job, VirtualCluster
from support.witness import Witness, chunk_ended, serve, submitted, with_chunk

from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    ChunkBegan,
    CommitLosses,
    GiveChunk,
    KindEntry,
    LeaseEnded,
    LeaseLost,
    NoteAttemptsLost,
    TasksSubmitted,
    WorkerSpoiled,
)
from dfz_ray.specs.policy import Backoff, Policy
from dfz_ray.specs.states import State

# --- crashes ----------------------------------------------------------------------------------------------------------


@settings(max_examples=amount(150), deadline=None)
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


def test_a_task_whose_worker_had_threads_of_others_is_charged_once_it_has_lost_several() -> None:
    """A thread that a task of an earlier lease has left behind may have ended it: so it is free at first."""
    witness = Witness(1, free_losses=3)
    witness.tell(TasksSubmitted([KindEntry("k", 0, Policy(max_attempts=1))], [0]))
    deaths = 0
    while not witness.outcome:
        (lease,) = witness.out
        given = witness.ask(lease)
        assert isinstance(given, GiveChunk)
        witness.tell(ChunkBegan(lease, given.chunk.id))
        witness.tell(LeaseLost(lease, "it died", had_strays=True))
        deaths += 1

    assert witness.outcome == {0: "worker_crashed"}
    assert (deaths, witness.charged) == (4, {0: 1})


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
    """A worker that dies while it holds one task fails that task, whether or not it had reported that it began."""
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


class FullNode(VirtualCluster):
    """A cluster whose memory holds so many workers: any further one is killed as it starts."""

    holds = 7
    started = 0

    def _start(self, lease: int) -> None:
        self.started += 1
        super()._start(lease)
        if len(self.workers) > self.holds:
            self.at(self.now + 0.005, lambda: self.lose(lease, "out_of_memory"))


def test_workers_that_die_as_they_start_fail_no_task_while_others_work() -> None:
    """Where memory holds seven workers of eight, these execute all tasks, and the eighth is tried ever less often."""
    cluster = FullNode(8)
    cluster.submit([Job("k", 1.0)] * 700)

    cluster.play()

    assert Counter(cluster.witness.outcome.values()) == {"completed": 700}
    assert cluster.makespan_s < 103
    assert cluster.started < 7 + 15


def test_a_worker_that_could_not_start_comes_later() -> None:
    """Once there is memory for it, the eighth worker starts, while the seven others work."""
    cluster = FullNode(8)
    cluster.submit([Job("k", 1.0)] * 900)
    cluster.at(20.0, lambda: setattr(cluster, "holds", 8))

    cluster.play()

    assert cluster.most_busy == 8
    assert cluster.makespan_s < 120


def test_deaths_count_anew_once_no_worker_is_left() -> None:
    """When the last worker that worked is gone, five more have to die in a row before the tasks fail."""
    cluster = FullNode(2)
    cluster.holds = 1
    cluster.submit([Job("k", 1.0)] * 100)
    cluster.at(20.5, lambda: setattr(cluster, "holds", 0))
    cluster.kill_a_worker(20.5, "node_lost")

    cluster.play()

    outcomes = Counter(cluster.witness.outcome.values())
    assert outcomes == {"completed": 20, "worker_crashed": 80}
    assert cluster.witness.messages[99].startswith("5 workers in a row died before they could begin a task")


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


# --- who is charged ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["out_of_memory", "timeout"])
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


def test_a_crash_is_charged_to_a_task_that_was_alone() -> None:
    """The task of a crash runs again by itself, and so do those executed before it; nobody is charged until then."""
    witness, lease, chunk = with_chunk(Policy(max_attempts=1))
    numbers = list(chunk.numbers)

    witness.tell(LeaseLost(lease, "it died", executing=(numbers[3],)))

    assert not witness.charged
    assert [group.numbers for group in witness.engine.queue.lanes[0].suspects] == [
        [numbers[3]],
        numbers[:2],
        [numbers[2]],
    ]
    (lease,) = witness.out
    alone = witness.ask(lease)
    assert isinstance(alone, GiveChunk)
    assert list(alone.chunk.numbers) == [numbers[3]]
    witness.tell(LeaseLost(lease, "it died", executing=(numbers[3],)))
    assert witness.outcome[numbers[3]] == "worker_crashed"
    assert witness.charged == {numbers[3]: 1}


def test_a_task_that_was_charged_before_is_charged_at_once_when_it_crashes_again() -> None:
    """So a task that always crashes costs one worker more than its attempts."""
    witness = Witness(1)
    entry = KindEntry("k", 0, Policy(max_attempts=3))
    witness.tell(TasksSubmitted([entry], [0] * 300, charged=dict.fromkeys(range(300), 1)))
    (lease,) = witness.out
    third = list(serve(witness, lease, chunks=3).chunk.numbers)[2]

    witness.tell(LeaseLost(lease, "it died", executing=(third,)))

    assert witness.charged[third] == 2
    assert not witness.engine.queue.lanes[0].suspects


@pytest.mark.parametrize("slots", [1, 2])
def test_a_task_that_breaks_its_worker_for_the_next_one_is_found_out(slots: int) -> None:
    """Where the worker always dies at the next task, that one is not charged: the guilty one is searched."""
    cluster = VirtualCluster(slots, told=lambda executing: [number + 1 for number in executing])
    policy = Policy(max_attempts=1)
    cluster.submit(Job("k", 0.001, crashes=number in (20, 77), policy=policy) for number in range(200))

    cluster.play(limit=100_000)

    assert cluster.witness.charged == {20: 1, 77: 1}
    assert Counter(cluster.witness.outcome.values()) == {"completed": 198, "worker_crashed": 2}


@pytest.mark.parametrize("executing", [(), (0,), (299,), (10**9,)])
def test_a_worker_that_executed_none_of_its_tasks_charges_nobody(executing: tuple[int, ...]) -> None:
    """If a worker dies between tasks, or what is known of it is old, all tasks that it held wait again, uncharged."""
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
    assert [later - earlier for earlier, later in itertools.pairwise(began)] == pytest.approx([1.5, 3.5], abs=0.25)


# --- changed processes ------------------------------------------------------------------------------------------------


def test_tasks_that_felt_a_change_run_again_one_by_one() -> None:
    """The tasks of a chunk in a spoiled process run again singly, uncharged; those handed ahead go back."""
    witness = submitted(1000)
    (lease,) = witness.out
    spoiled = serve(witness, lease, chunks=4)
    witness.tell(ChunkBegan(lease, spoiled.chunk.id))
    ahead = witness.ask(lease)
    assert isinstance(ahead, GiveChunk)

    commands = witness.tell(WorkerSpoiled(lease, [spoiled.chunk.id], "umask"))

    (lost,) = [one for one in commands if isinstance(one, NoteAttemptsLost)]
    assert (lost.chunk, list(lost.numbers)) == (spoiled.chunk.id, list(spoiled.chunk.numbers))
    assert (lost.reason, lost.charged) == ("state_changed", False)
    assert "umask" in lost.message
    assert isinstance(witness.ask(lease), AnswerEnd), "its process ends itself"
    assert witness.tell(LeaseLost(lease, "it ended", executing=())) == []
    (lease,) = witness.out
    singles = []
    for _ in spoiled.chunk.numbers:
        single = witness.ask(lease)
        assert isinstance(single, GiveChunk)
        assert isinstance(witness.ask(lease), AnswerWait), "nothing else is in the hands of its worker"
        singles.append(list(single.chunk.numbers))
        witness.tell(chunk_ended(lease, single.chunk))
    assert singles == [[number] for number in spoiled.chunk.numbers]
    following = witness.ask(lease)
    assert isinstance(following, GiveChunk)
    assert following.chunk.numbers[0] == ahead.chunk.numbers[0]
    assert not witness.charged


def test_a_spoiled_process_whose_results_count_only_loses_its_lease() -> None:
    """If no other task can have felt the change, what the lease still holds goes back, and nothing is lost."""
    witness = submitted(1000)
    (lease,) = witness.out
    done = serve(witness, lease, chunks=4)
    witness.tell(ChunkBegan(lease, done.chunk.id))
    ahead = witness.ask(lease)
    assert isinstance(ahead, GiveChunk)
    witness.tell(chunk_ended(lease, done.chunk))

    commands = witness.tell(WorkerSpoiled(lease, (), "resource limits"))

    assert not any(isinstance(one, NoteAttemptsLost) for one in commands)
    assert isinstance(witness.ask(lease), AnswerEnd)
    (lease,) = witness.out
    following = witness.ask(lease)
    assert isinstance(following, GiveChunk)
    assert following.chunk.numbers[0] == ahead.chunk.numbers[0]


def test_thousands_of_tasks_that_felt_a_change_take_no_time() -> None:
    """Tasks of several kinds, as many as a chunk may have, are put aside at once, and all complete."""
    witness = submitted(20_000)
    (lease,) = witness.out
    spoiled = serve(witness, lease, chunks=12)
    witness.tell(ChunkBegan(lease, spoiled.chunk.id))
    witness.tell(WorkerSpoiled(lease, [spoiled.chunk.id], "umask"))

    for _ in spoiled.chunk.numbers:
        (lease,) = witness.out
        single = witness.ask(lease)
        assert isinstance(single, GiveChunk)
        assert len(single.chunk.numbers) == 1
        witness.tell(chunk_ended(lease, single.chunk))
