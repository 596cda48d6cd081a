"""Leases that run several tasks at once: the cap counts tasks, and everything else is as everywhere."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from support.amount import amount
from support.simulated_faults import run_seed
from support.virtual_cluster import ONCE, Job, VirtualCluster
from support.witness import Witness, chunk_ended
from test_engine_sequences import INDEX, AnySequence

from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    CancelAsked,
    ChunkBegan,
    CommitLosses,
    GiveChunk,
    KindEntry,
    LeaseLost,
    TasksSubmitted,
    TimePassed,
    WorkAsked,
)
from dfz_ray.specs.policy import Backoff, Policy

SEEDS = amount(1_000)


def run(jobs: Sequence[Job], slots: int = 64, width: int = 32, **how: Any) -> VirtualCluster:
    cluster = VirtualCluster(slots, width=width, target_s=0.2, **how)
    cluster.submit(jobs)
    return cluster.play()


# --- the cap, and how well it is used ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "seconds"),
    [(12_800, 0.01), pytest.param(64_000, 0.001, marks=pytest.mark.long), (3_000, 0.1), (640, 1.0), (640, 5.0)],
)
def test_the_cap_counts_tasks_and_is_used_up(count: int, seconds: float) -> None:
    """As many tasks as there are slots execute at once, never more, in two processes; the end comes as it should."""
    cluster = run([Job("k", seconds)] * count)

    assert cluster.most_busy == 64
    assert max(Counter(cluster._busy).values(), default=0) <= 32
    assert cluster.makespan_s <= 1.04 * cluster.lower_bound_s
    assert set(cluster.witness.outcome.values()) == {"completed"}


@pytest.mark.parametrize("kinds", [1, 2_000])
def test_uneven_tasks_are_balanced_as_well_as_over_processes(kinds: int) -> None:
    """Tasks of very different lengths end about as soon on the threads of two processes as on as many processes."""
    dice = random.Random(1)  # noqa: S311  lengths, not secrets
    jobs = [Job(f"k{number % kinds}", dice.expovariate(2.0)) for number in range(2_000)]

    assert run(jobs).makespan_s <= 1.03 * run(jobs, width=1).makespan_s


def test_the_last_tasks_are_spread_over_all_threads() -> None:
    """At the end no thread waits for longer than one task while another one still has two before it."""
    cluster = run([Job("k", 0.3)] * 1_000)

    idle_from = sorted(max(one.ended_s for one in cluster.executions if one.lease == lease) for lease in (0, 1))
    assert idle_from[1] - idle_from[0] < 0.35
    assert cluster.makespan_s <= (1_000 // 64 + 1) * 0.3 + 0.1


def test_few_tasks_take_few_slots() -> None:
    """A lease has no more slots than tasks wait, so that other lanes find theirs free."""
    witness = Witness(64, width=32)
    kinds = [KindEntry("a", 0, Policy()), KindEntry("b", 1, Policy())]
    commands = witness.tell(TasksSubmitted(kinds, [0] * 3 + [1] * 100))

    assert sorted(command.width for command in commands) == [3, 29, 32]
    assert witness.engine.slots_in_use == 64


def test_threads_without_a_task_leave_their_slots() -> None:
    """A lease whose last tasks are long keeps a slot for each of them only, and others take the rest."""
    cluster = VirtualCluster(8, width=8)
    cluster.submit([Job("long", 60.0, lane=0)] * 2 + [Job("short", 0.1, lane=0)] * 6)
    cluster.submit([Job("other", 1.0, lane=1)] * 6, at=1.0)

    cluster.play()

    others = [one.ended_s for one in cluster.executions if cluster.jobs[one.number].kind == "other"]
    assert max(others) < 2.5


def test_what_needs_a_process_of_its_own_gets_one() -> None:
    """Tasks of an exclusive kind run one in a lease, also where others share one."""
    witness = Witness(8, width=4)
    commands = witness.tell(TasksSubmitted([KindEntry("torch", 0, Policy(), exclusive=True)], [0] * 20))

    assert [command.width for command in commands] == [1] * 7  # for the last one the others would start no process
    answer = witness.ask(0)
    assert isinstance(answer, GiveChunk)
    assert (len(answer.chunk.numbers), answer.threads) == (1, 1)


def test_what_takes_long_or_may_goes_alone() -> None:
    """A task of a kind that is long, or not known, is a chunk for itself: no result waits for another task to end."""
    cluster = run([Job("long", 2.0)] * 200 + [Job(f"single {number}", 0.01) for number in range(100)])

    assert {len(handed.numbers) for handed in cluster.witness.handed} == {1}
    assert cluster.makespan_s <= 4 * 2.0 + 0.2


def test_short_tasks_go_to_all_threads_at_once() -> None:
    """Of a kind whose tasks are short a chunk has one for each thread at least, and as many times the work."""
    cluster = run([Job("k", 0.05)] * 2_000)

    sizes = [len(handed.numbers) for handed in cluster.witness.handed]
    assert max(sizes) == pytest.approx(32 * 0.2 / 0.05, abs=1)


def test_a_lease_with_threads_that_wait_gets_tasks_for_these() -> None:
    """A lease that holds long tasks gets one more for each thread that has none, and nothing ahead."""
    witness = Witness(4, width=4)
    witness.tell(TasksSubmitted([KindEntry("k", 0, Policy())], [0] * 20))
    first = witness.ask(0)
    assert isinstance(first, GiveChunk)
    witness.tell(ChunkBegan(0, first.chunk.id))

    assert isinstance(witness.ask(0, 1.0, busy=4), AnswerWait)
    answer = witness.ask(0, 3.0, busy=3)

    assert isinstance(answer, GiveChunk)
    assert len(answer.chunk.numbers) == 1


# --- the number of slots changes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 8])
def test_more_slots_are_used_at_once(width: int) -> None:
    """When there are more slots, leases are started for them, and those that are there get more threads."""
    cluster = VirtualCluster(16, width=width)
    cluster.submit([Job("k", 0.1)] * 4_000)

    def raise_slots() -> None:
        cluster.engine.set_slots(32)
        cluster.witness.note_slots()
        cluster.report(TimePassed())

    cluster.at(1.0, raise_slots)
    cluster.play()

    assert cluster.most_busy == 32
    assert cluster.makespan_s < 1.1 * (1.0 + (400 - 16) / 32)


@pytest.mark.parametrize("width", [1, 8])
def test_fewer_slots_are_used_soon(width: int) -> None:
    """When there are fewer slots, leases end or shrink as they ask, and no more tasks execute than may."""
    cluster = VirtualCluster(32, width=width)
    cluster.submit([Job("k", 0.1)] * 4_000)

    def lower() -> None:
        cluster.engine.set_slots(6)
        cluster.witness.note_slots()
        cluster.report(TimePassed())

    cluster.at(5.0, lower)
    cluster.play()

    edges = [(one.began_s, 1) for one in cluster.executions] + [(one.ended_s, -1) for one in cluster.executions]
    busy, most = 0, 0
    for at, step in sorted(edges):
        busy += step
        most = max(most, busy) if at > 6.0 else 0
    assert most == 6
    assert set(cluster.witness.outcome.values()) == {"completed"}


# --- who is to blame --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["known", "unknown"])
def test_a_crash_among_several_charges_only_the_guilty_one(told: str) -> None:
    """Those that were executed as a worker died are run in halves until the guilty one is alone; it is charged once."""
    jobs = [Job("k", 0.01, crashes=number == 77) for number in range(3_000)]

    cluster = run(jobs, told=(lambda executing: executing) if told == "known" else lambda executing: None)

    assert Counter(cluster.witness.outcome.values()) == {"completed": 2_999, "worker_crashed": 1}
    assert cluster.witness.charged == {77: 1}


def test_several_guilty_ones_are_found() -> None:
    """Tasks that crash at the same time in one worker are each charged for themselves, as often as they are tried."""
    policy = Policy(max_attempts=2, backoff=Backoff(first_s=0.0))
    jobs = [Job("k", 0.1, crashes=number in (3, 4, 5), policy=policy) for number in range(64)]

    cluster = run(jobs, told=lambda executing: executing)

    assert cluster.witness.charged == {3: 2, 4: 2, 5: 2}
    assert Counter(cluster.witness.outcome.values()) == {"completed": 61, "worker_crashed": 3}


def with_chunk(policy: Policy = ONCE) -> tuple[Witness, Sequence[int]]:
    """A lease of four slots, and the four tasks that it executes."""
    witness = Witness(4, width=4, grace_s=0.5)
    witness.tell(TasksSubmitted([KindEntry("k", 0, policy)], [0] * 9))
    answer = witness.ask(0)
    assert isinstance(answer, GiveChunk)
    witness.tell(chunk_ended(0, answer.chunk, 0.1))
    answer = witness.ask(0)
    assert isinstance(answer, GiveChunk)
    witness.tell(ChunkBegan(0, answer.chunk.id))
    return witness, answer.chunk.numbers


def test_a_deadline_charges_only_the_task_that_overran_it() -> None:
    """Where a deadline cost the process, the overdue task is charged, and those beside it run again, uncharged."""
    witness, numbers = with_chunk(Policy(max_attempts=1, timeout_s=1.0))

    commands = witness.tell(LeaseLost(0, "it ran too long", "timeout", numbers[1:3], are_guilty=True), 2.0)

    losses = [number for command in commands if isinstance(command, CommitLosses) for number in command.messages]
    assert losses == list(numbers[1:3])
    assert witness.charged == {numbers[1]: 1, numbers[2]: 1}
    assert not witness.engine.queue.lanes[0].suspects


def test_who_may_only_have_been_kept_from_ending_is_suspect() -> None:
    """Where one task kept all others from running beyond their deadlines too, they are run in halves, uncharged."""
    witness, numbers = with_chunk(Policy(max_attempts=1, timeout_s=1.0))

    witness.tell(LeaseLost(0, "it ran too long", "timeout", numbers[:3]), 2.0)

    assert not witness.charged
    assert [group.numbers for group in witness.engine.queue.lanes[0].suspects] == [list(numbers[:2]), [numbers[2]]]


def test_a_task_that_ended_beside_the_one_of_a_crash_may_be_to_blame() -> None:
    """Threads end tasks in any order: so nobody is charged, also where the first task of a chunk was executed."""
    witness, numbers = with_chunk(Policy(max_attempts=1))

    witness.tell(LeaseLost(0, "it died", "worker_crashed", numbers[:1]))

    assert not witness.charged
    suspects = [number for group in witness.engine.queue.lanes[0].suspects for number in group.numbers]
    assert suspects == list(numbers)


def test_a_task_that_ended_beside_it_may_be_to_blame_after_its_thread_had_nothing_more_to_do() -> None:
    """Threads without a task leave their slots; the tasks that they have executed may be guilty all the same."""
    witness, numbers = with_chunk(Policy(max_attempts=1))
    while not isinstance(witness.ask(0, busy=1), AnswerWait):
        pass
    assert witness.engine.lease_table.leases[0].threads == 1

    witness.tell(LeaseLost(0, "it died", "worker_crashed", numbers[:1]))

    assert not witness.charged
    suspects = [number for group in witness.engine.queue.lanes[0].suspects for number in group.numbers]
    assert set(numbers) <= set(suspects)


def test_a_task_that_an_idle_thread_has_executed_unreported_may_be_to_blame() -> None:
    """A thread without a task begins the next chunk at once; the report of that may die with the worker."""
    witness, numbers = with_chunk(Policy(max_attempts=1))
    following = witness.ask(0, busy=3)
    assert isinstance(following, GiveChunk)

    witness.tell(LeaseLost(0, "it died", "worker_crashed", numbers[:1]))

    assert not witness.charged
    suspects = [number for group in witness.engine.queue.lanes[0].suspects for number in group.numbers]
    assert set(following.chunk.numbers) <= set(suspects)


def test_a_worker_that_keeps_no_deadline_is_killed() -> None:
    """The manager kills a worker of several threads that overruns what its chunk may take, and knows who did it."""
    policy = Policy(max_attempts=1, timeout_s=1.0)
    cluster = VirtualCluster(8, width=8, told=lambda executing: executing, grace_s=0.5)
    cluster.stuck = {3}
    cluster.submit([Job("k", 0.2, policy=policy)] * 100)

    cluster.play()

    assert cluster.witness.outcome.pop(3) == "timeout"
    assert set(cluster.witness.outcome.values()) == {"completed"}
    assert cluster.witness.charged == {3: 1}


def test_cancelled_tasks_are_let_go_of() -> None:
    """Tasks that are cancelled leave their threads, what is beside them goes on, and no worker is killed."""
    cluster = VirtualCluster(16, width=8)
    cluster.submit([Job("k", 0.1)] * 400)
    cluster.tell_at(CancelAsked(range(50, 350)), at=0.25)

    cluster.play()

    counts = Counter(cluster.witness.outcome.values())
    assert counts["cancelled"] > 250
    assert counts["completed"] == 400 - counts["cancelled"]
    assert not cluster.witness.kills
    assert cluster.makespan_s < 1.5


# --- whatever happens -------------------------------------------------------------------------------------------------


def test_wide_runs_with_faults_lose_nothing() -> None:
    """Whatever dies, hangs, is late or is cancelled beside others in a process: every task ends once, as it must."""
    reports = [run_seed(seed, is_wide=True) for seed in range(SEEDS)]

    assert sum(report.deaths for report in reports) > 2 * SEEDS
    assert sum(report.outcomes.get("completed", 0) for report in reports) > 10 * SEEDS


class AnyWideSequence(AnySequence):
    """The same with leases of several threads, and a number of slots that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.witness = Witness(7, lease_s=1.0, grace_s=0.5, preempt_after_s=1.0, free_losses=1, width=3)

    @rule(index=INDEX, busy=st.integers(0, 3))
    def work_is_asked_by_threads(self, index: int, busy: int) -> None:
        self.witness.ask(self.pick_lease(index), self.now, busy=busy)

    @rule(slots=st.integers(1, 9))
    def slots_are_set(self, slots: int) -> None:
        self.witness.engine.set_slots(slots)
        self.witness.note_slots()
        self.witness.tell(TimePassed(), self.now)

    @rule(index=INDEX, reason=st.sampled_from(["worker_crashed", "out_of_memory"]), chosen=st.sets(st.integers(0, 40)))
    def worker_dies_of_one_of_several(self, index: int, reason: str, chosen: set[int]) -> None:
        """Of one of several tasks: none of them is charged before it was alone."""
        lease = self.pick_lease(index)
        in_hand = [number for chunk in self.witness.held.get(lease, {}).values() for number in chunk.numbers]
        executing = [number for place, number in enumerate(in_hand) if place in chosen]
        before = self.witness.charged.copy()

        self.tell(LeaseLost(lease, "it died", reason, executing))

        charged = [number for number in self.witness.charged if self.witness.charged[number] > before[number]]
        assert not charged or (len(in_hand) == 1 or charged == executing)


AnyWideSequence.TestCase.settings = settings(
    max_examples=amount(120), stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class TestAnyWideSequence(AnyWideSequence.TestCase):
    """Under any sequence of events leases of several threads never use more slots than there are, and lose nothing."""


def test_an_ended_lease_that_asks_has_to_end() -> None:
    """A lease that has given up its slots and asks once more, with threads that are busy, has to end."""
    witness, _ = with_chunk()
    witness.tell(LeaseLost(0, "it died", executing=()))

    assert witness.tell(WorkAsked(0, 3))[0] == AnswerEnd(0)
