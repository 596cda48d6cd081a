"""Chunks and leases: their sizes, their order, and the makespan that follows."""

from __future__ import annotations

import heapq
import itertools
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amount import amount
from support.virtual_cluster import ONCE, Job, VirtualCluster
from support.witness import Witness, chunk_ended

import dfz_ray.engine
from dfz_ray.engine.chunking import LEAST_S, TASKS_LIMIT
from dfz_ray.engine.engine import Engine
from dfz_ray.engine.messages import (
    AnswerEnd,
    ChunkBegan,
    Command,
    Event,
    GiveChunk,
    KindEntry,
    LaneSized,
    LeaseEnded,
    ManagerMeasured,
    TasksSubmitted,
)
from dfz_ray.specs.policy import Policy

TARGET_S = 0.1
AT_ONCE = {"start": 0.0, "message": 0.0, "commit": 0.0, "loss": 0.0}.__getitem__


def run(jobs: Sequence[Job], slots: int, **how: Any) -> VirtualCluster:
    cluster = VirtualCluster(slots, **how)
    cluster.submit(jobs)
    return cluster.play()


def uneven(tasks: int, mean_s: float) -> list[Job]:
    """Tasks of one kind; each takes half or three halves of the mean."""
    return [Job("k", mean_s * (0.5 + number % 2)) for number in range(tasks)]


def kinds_of(cluster: VirtualCluster, numbers: Sequence[int]) -> set[str]:
    return {cluster.jobs[number].kind for number in numbers}


def sizes_by_kind(cluster: VirtualCluster) -> dict[str, list[int]]:
    """For each kind, how many of its tasks were in each chunk that had any, in the order of the chunks."""
    sizes: dict[str, list[int]] = {}
    for handed in cluster.witness.handed:
        for kind, count in Counter(cluster.jobs[number].kind for number in handed.numbers).items():
            sizes.setdefault(kind, []).append(count)
    return sizes


def one_by_one_s(jobs: Sequence[Job], slots: int) -> float:
    """The makespan when each slot takes the next task as soon as it is free, at no cost."""
    free_at = [0.0] * slots
    for job in jobs:
        heapq.heapreplace(free_at, free_at[0] + job.duration_s)
    return max(free_at)


def any_jobs(most: int = 60) -> st.SearchStrategy[list[Job]]:
    duration = st.sampled_from([0.0, 1e-6, 1e-3, 0.02, 0.5, 30.0])
    job = st.builds(
        Job,
        st.sampled_from("abcde"),
        duration,
        st.integers(0, 2),
        crashes=st.just(False),
        fails=st.booleans(),
        policy=st.just(ONCE),
    )
    return st.lists(job, min_size=1, max_size=most)


# --- every task ends, and no more execute than may --------------------------------------------------------------------


@settings(max_examples=amount(150), deadline=None)
@given(
    batches=st.lists(st.tuples(any_jobs(), st.floats(0, 3)), min_size=1, max_size=3),
    slots=st.integers(1, 9),
    capacities=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_every_task_ends_once_whatever_the_mix(
    batches: list[tuple[list[Job], float]], slots: int, capacities: list[int], seed: int
) -> None:
    """Any mix of kinds, shapes and run times, submitted at any time, ends: each task once, as it ran."""
    draw = random.Random(seed)  # noqa: S311  delays, not secrets
    cluster = VirtualCluster(slots, lease_s=draw.choice([0.05, 2.0]), delays=lambda what: draw.random() * 0.05)
    for lane, capacity in enumerate(capacities):
        cluster.tell_at(LaneSized(lane, capacity))
    for jobs, at in batches:
        cluster.submit(jobs, at)

    cluster.play()

    assert cluster.witness.outcome == {
        number: "exception" if job.fails else "completed" for number, job in enumerate(cluster.jobs)
    }
    assert sorted(execution.number for execution in cluster.executions) == list(range(len(cluster.jobs)))
    assert cluster.witness.engine.tasks.open == cluster.witness.engine.leases == 0


@settings(max_examples=amount(50), deadline=None)
@given(jobs=any_jobs(100), slots=st.integers(1, 5))
def test_max_workers_is_never_exceeded(jobs: list[Job], slots: int) -> None:
    """Never do more workers execute than there are slots, also when leases end and others start all the time."""
    cluster = run(jobs, slots, lease_s=0.01)

    assert cluster.most_busy <= slots


@pytest.mark.parametrize("slots", [1, 2, 16])
def test_all_slots_are_used_when_there_is_enough_work(slots: int) -> None:
    """With enough work as many workers execute as there are slots."""
    assert run([Job("k", 0.05)] * 500, slots).most_busy == slots


def test_tasks_can_be_submitted_while_others_run() -> None:
    """Tasks that are submitted during a run, of known kinds and new ones, end like the first, in every slot."""
    cluster = VirtualCluster(4)
    for at in range(5):
        cluster.submit([Job("known", 0.01)] * 100 + [Job(f"new at {at}", 0.02)] * 20, float(at))

    cluster.play()

    assert set(cluster.witness.outcome.values()) == {"completed"}
    assert len(cluster.witness.outcome) == 600
    assert cluster.makespan_s < 4 + (100 * 0.01 + 20 * 0.02) / 4 * 1.2


# --- sizes of chunks --------------------------------------------------------------------------------------------------


@settings(max_examples=amount(50), deadline=None)
@given(jobs=any_jobs(100), slots=st.integers(1, 5))
def test_the_first_chunk_of_an_unknown_kind_has_one_task(jobs: list[Job], slots: int) -> None:
    """Before a task of a kind has ended, its chunks hold that one task and nothing else."""
    cluster = run(jobs, slots)

    first_end: dict[str, float] = {}
    for execution in sorted(cluster.executions, key=lambda one: one.ended_s):
        first_end.setdefault(cluster.jobs[execution.number].kind, execution.ended_s)
    same_kind = {kind: len({job.lane for job in jobs if job.kind == kind}) == 1 for kind in first_end}
    for handed in cluster.witness.handed:
        for kind in kinds_of(cluster, handed.numbers):
            if handed.at <= first_end[kind] and same_kind[kind]:
                assert len(handed.numbers) == 1


def test_an_unknown_kind_is_never_added_to_a_chunk_of_others() -> None:
    """When the tasks of a known kind are used up the chunk is not filled up with tasks of which nothing is known."""
    witness = Witness(2, lease_s=1000)
    witness.tell(TasksSubmitted([KindEntry("quick", 0, Policy()), KindEntry("unknown", 0, Policy())], [0, 0, 1, 1]))
    first, second = witness.out
    quick, unknown = witness.ask(first), witness.ask(second)
    assert isinstance(quick, GiveChunk)
    assert isinstance(unknown, GiveChunk)
    assert (list(quick.chunk.numbers), list(unknown.chunk.numbers)) == ([0], [2])
    witness.tell(chunk_ended(first, quick.chunk, 0.0))

    rest = witness.ask(first)

    assert isinstance(rest, GiveChunk)
    assert list(rest.chunk.numbers) == [1]


@pytest.mark.parametrize("length_s", [0.004, 0.015, 0.03])
def test_a_chunk_of_several_kinds_takes_no_more_than_its_share(length_s: float) -> None:
    """Where few of each kind are left a chunk takes several kinds, and holds no more work than one of a single kind."""
    cluster = run([Job(f"kind {number % 300}", length_s) for number in range(900)], 2)

    several = [handed for handed in cluster.witness.handed if len(kinds_of(cluster, handed.numbers)) > 1]
    assert several
    for handed in several:
        assert len(handed.numbers) * length_s <= min(TARGET_S, handed.left * length_s / 4) + 1e-9


@settings(max_examples=amount(50), deadline=None)
@given(jobs=any_jobs(200), slots=st.integers(1, 5))
def test_a_chunk_grows_at_most_fourfold(jobs: list[Job], slots: int) -> None:
    """A chunk takes at most four times as many tasks of a kind as the kind's last chunk."""
    cluster = run([job._replace(lane=0) for job in jobs] * 5, slots)

    for sizes in sizes_by_kind(cluster).values():
        assert all(after <= 4 * before for before, after in zip([1, *sizes], sizes, strict=False))


def test_chunks_of_short_tasks_grow_to_the_target() -> None:
    """Chunks of short tasks come to hold a tenth of a second of work, so that the manager is asked rarely."""
    cluster = run([Job("k", 0.001)] * 20_000, 4)

    assert max(sizes_by_kind(cluster)["k"]) == 100
    assert len(cluster.witness.handed) < 20_000 / 100 * 1.5


@pytest.mark.parametrize("duration_s", [0.0001, 0.01, 0.07, 1.0])
@pytest.mark.parametrize("slots", [1, 3, 16])
def test_a_chunk_takes_at_most_half_a_fair_share_of_what_is_left(slots: int, duration_s: float) -> None:
    """A chunk of several tasks holds at most half of the work that is left for each slot, or little work.

    The first tasks of a kind that end may be short ones: little work may be more than it is meant to be.
    """
    cluster = run(uneven(2000, duration_s), slots)

    for handed in cluster.witness.handed:
        assert len(handed.numbers) <= max(1, 2.5 * LEAST_S / duration_s, handed.left / (2 * slots)) + 1e-6


@pytest.mark.parametrize("duration_s", [0.002, 0.01])
@pytest.mark.parametrize("slots", [1, 3, 16])
def test_even_tasks_are_handed_out_in_few_chunks_and_end_together(slots: int, duration_s: float) -> None:
    """Tasks that take equally long need fewer chunks than uneven ones, and all slots end within two tasks."""
    even, cluster = run([Job("k", duration_s)] * 40 * slots, slots), run(uneven(40 * slots, duration_s), slots)

    assert len(even.witness.handed) <= 0.8 * len(cluster.witness.handed) + 1
    last: dict[int, float] = {}
    for execution in even.executions:
        last[execution.lease] = max(last.get(execution.lease, 0.0), execution.ended_s)
    assert len(last) == slots
    assert max(last.values()) - min(last.values()) <= 2 * duration_s + LEAST_S


@pytest.mark.parametrize("longer", [2, 5])
def test_tasks_that_seemed_even_and_are_not_are_handed_back_in_time(longer: int) -> None:
    """If the last tasks of a run take far longer than all before them, they are spread anew over the slots."""
    cluster = run([Job("k", 0.01)] * 800 + [Job("k", 0.01 * longer)] * 200, 16)

    assert set(cluster.witness.outcome.values()) == {"completed"}
    assert not cluster.witness.attempts_lost
    assert cluster.makespan_s <= 1.15 * cluster.lower_bound_s + 0.05


def test_chunks_shrink_at_once_when_a_kind_becomes_slow() -> None:
    """When a kind's tasks become 1,000 times longer the next chunks are much smaller, and soon hold one task."""
    jobs = [Job("k", 0.001)] * 10_000 + [Job("k", 1.0)] * 200
    cluster = run(jobs, 4)

    first_slow_end = min(execution.ended_s for execution in cluster.executions if execution.number >= 10_000)
    before = [len(handed.numbers) for handed in cluster.witness.handed if handed.at < first_slow_end]
    after = [len(handed.numbers) for handed in cluster.witness.handed if handed.at > first_slow_end]
    later = [len(handed.numbers) for handed in cluster.witness.handed if handed.at > first_slow_end + 7]
    assert max(before) == 100
    assert max(after) <= 25
    assert max(later) == 1
    assert cluster.makespan_s <= 1.05 * cluster.lower_bound_s


def test_a_chunk_that_overruns_goes_back_and_costs_no_attempt() -> None:
    """A worker whose chunk takes far longer than expected returns what it has; the rest runs elsewhere, uncharged."""
    cluster = run([Job("k", 0.001)] * 3000 + [Job("k", 0.5)] * 100, 4)

    assert sum(len(handed.numbers) for handed in cluster.witness.handed) > 3100
    assert set(cluster.witness.outcome.values()) == {"completed"}
    assert not cluster.witness.attempts_lost


@pytest.mark.long
def test_a_busy_manager_makes_chunks_larger() -> None:
    """Chunks grow until the manager, which takes 5 ms for each, is busy for at most half of the time."""
    cluster = VirtualCluster(64)
    cluster.tell_at(ManagerMeasured(0.005))
    cluster.submit([Job("k", 0.001)] * 200_000)

    cluster.play()

    assert max(sizes_by_kind(cluster)["k"]) == 640  # 64 slots, each with a chunk of 0.64 s: 100 chunks a second
    assert set(cluster.witness.outcome.values()) == {"completed"}


@pytest.mark.parametrize("kinds", [1, pytest.param(8_000, marks=pytest.mark.long)])
def test_no_chunk_holds_more_tasks_than_a_message_should(kinds: int) -> None:
    """Tasks that take no time at all are still handed out in messages of bounded size, one kind or thousands."""
    jobs = [Job(f"kind {number % kinds}", 0.0) for number in range(24_000)]
    cluster = run(jobs, 1)

    assert max(len(handed.numbers) for handed in cluster.witness.handed) == TASKS_LIMIT


# --- who gets it, and when --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("duration_s", "slots"), [(0.01, 2), (0.01, 8), (0.5, 4), (0.0001, 4)])
def test_nothing_is_handed_ahead_that_could_have_started_elsewhere(duration_s: float, slots: int) -> None:
    """A worker that has a chunk gets another one only if it ends both before the others can end all that is left."""
    cluster = run(uneven(2000, duration_s), slots)

    last: dict[int, int] = {}
    ahead = 0
    for handed in cluster.witness.handed:
        mine = len(handed.numbers)
        if handed.ahead:
            ahead += 1
            assert last[handed.lease] + mine <= (handed.left - mine) / (slots - 1) + 1e-6
        last[handed.lease] = mine
    assert ahead > 5


def test_a_slot_does_not_wait_for_its_next_chunk() -> None:
    """While much is left a worker begins its next chunk the moment the last has ended, however slow messages are."""
    slow = {"start": 0.1, "message": 0.02, "commit": 0.1, "loss": 1.0}.__getitem__
    cluster = run([Job("k", 0.01)] * 4000, 4, lease_s=100, delays=slow)

    began = sorted((execution.lease, execution.began_s, execution.ended_s) for execution in cluster.executions)
    idle = [
        after[1] - before[2]
        for before, after in itertools.pairwise(began)
        if before[0] == after[0] and 1 < before[1] < 0.8 * cluster.makespan_s
    ]
    assert len(idle) > 2000
    assert max(idle) < 1e-9


def test_tasks_of_which_each_is_its_own_kind_are_handed_ahead_too() -> None:
    """Where every task is of another kind a worker still has its next one in hand while much is left."""
    cluster = run([Job(str(number), 0.02) for number in range(500)], 4, lease_s=100)

    assert sum(handed.ahead for handed in cluster.witness.handed) > 450


def test_nothing_waits_in_hand_behind_the_first_task_of_its_kind() -> None:
    """Before a task of a kind has ended none waits behind another one of it: that could take for ever."""
    cluster = run([Job("k", 100.0), *[Job("k", 0.01)] * 400], 2)

    begun = sorted(execution.began_s for execution in cluster.executions)
    assert begun[-1] < 10


def test_long_kinds_go_first() -> None:
    """Once run times are known, tasks are taken from the longest kind first."""
    jobs = [Job(kind, length) for kind, length in (("short", 0.2), ("long", 0.9), ("middle", 0.5)) for _ in range(9)]
    cluster = run(jobs, 1, lease_s=1000)

    order = [cluster.jobs[handed.numbers[0]].kind for handed in cluster.witness.handed]
    assert sorted(order[:3]) == ["long", "middle", "short"]  # one of each, to know it
    rest = [kind for kind in order[4:] if kind in ("long", "middle", "short")]
    assert rest == sorted(rest, key=["long", "middle", "short"].index)


def test_long_kinds_of_another_lane_go_first() -> None:
    """A slot that becomes free serves the lane whose next kind is the longest."""
    cluster = VirtualCluster(1, lease_s=1e-9, delays=AT_ONCE)
    cluster.submit([Job("short", 0.1, lane=0), Job("long", 1.0, lane=1)])
    cluster.submit([Job("short", 0.1, lane=0)] * 3 + [Job("long", 1.0, lane=1)] * 3, at=2.0)

    cluster.play()

    by_start = sorted(cluster.executions, key=lambda execution: execution.began_s)
    assert [cluster.jobs[execution.number].kind for execution in by_start[2:]] == ["long"] * 3 + ["short"] * 3


def test_a_lease_makes_room_for_a_lane_that_is_unknown() -> None:
    """When a shape's first task comes while all slots are taken, one lease, and no more, ends for it at once."""
    cluster = VirtualCluster(16, lease_s=1000)
    cluster.submit([Job("known", 0.01)] * 40_000)
    cluster.submit([Job("unknown", 5.0, lane=1)], at=3.0)

    cluster.play(until_s=3.5)

    leases = cluster.witness.lane_of_lease
    assert [lane for lane in leases.values() if lane == 1] == [1]
    assert len(leases) == 17
    assert cluster.witness.placed == set(leases)
    cluster.play()
    began_s = {cluster.jobs[execution.number].kind: execution.began_s for execution in cluster.executions}
    assert began_s["unknown"] < 3.4  # what the worker had in hand, 0.2 s at most, and the start of a lease


def test_as_many_leases_make_room_as_there_are_unknown_lanes() -> None:
    """When tasks of five new shapes come at once, each gets a slot soon, and the others' leases go on."""
    cluster = VirtualCluster(16, lease_s=1000)
    cluster.submit([Job("known", 0.01)] * 40_000)
    cluster.submit([Job("unknown", 5.0, lane=lane) for lane in range(1, 6)], at=3.0)

    cluster.play(until_s=3.5)

    assert Counter(cluster.witness.lane_of_lease.values()) == {0: 16, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1}


def test_every_unknown_lane_gets_a_slot_early() -> None:
    """Where nothing is known yet the slots are spread over the shapes, so that every pace is known early."""
    cluster = VirtualCluster(8)
    cluster.submit([Job("k", 1.0, lane=number % 4) for number in range(400)])

    cluster.play(until_s=0.5)

    assert Counter(cluster.witness.lane_of_lease.values()) == {0: 2, 1: 2, 2: 2, 3: 2}


def test_no_more_leases_are_started_than_there_is_work() -> None:
    """For three tasks three leases are started, however many slots there are."""
    cluster = run([Job("k", 1.0)] * 3, 64)

    assert len(cluster.witness.lane_of_lease) == 3


def test_a_lane_gets_no_more_leases_than_the_cluster_holds() -> None:
    """Where the cluster holds two of a shape, the other slots stay free for other shapes."""
    cluster = VirtualCluster(8)
    cluster.tell_at(LaneSized(0, 2))
    cluster.submit([Job("large", 0.3)] * 30 + [Job("small", 0.3, lane=1)] * 30)

    cluster.play(until_s=0.2)

    out = Counter(cluster.witness.lane_of_lease[lease] for lease in cluster.witness.out)
    assert out == {0: 2, 1: 6}
    cluster.play()
    assert set(cluster.witness.outcome.values()) == {"completed"}


def test_what_is_handed_back_keeps_its_turn() -> None:
    """Tasks of chunks that a lease did not run are due next again, in their old order."""
    witness = Witness(1, lease_s=1000)
    witness.tell(TasksSubmitted([KindEntry("k", 0, Policy())], [0] * 500))
    (lease,) = witness.out
    given = witness.ask(lease)
    for _ in range(6):  # until chunks of 64 and one ahead are out
        assert isinstance(given, GiveChunk)
        witness.tell(ChunkBegan(lease, given.chunk.id))
        witness.tell(chunk_ended(lease, given.chunk))
        given = witness.ask(lease)
    assert isinstance(given, GiveChunk)
    ahead = witness.ask(lease)
    assert isinstance(ahead, GiveChunk)
    in_hand = [*given.chunk.numbers, *ahead.chunk.numbers]
    assert in_hand == list(range(in_hand[0], in_hand[0] + len(in_hand)))

    witness.tell(LeaseEnded(lease))

    (lease,) = witness.out
    again: list[int] = []
    while len(again) < len(in_hand):
        given = witness.ask(lease)
        assert isinstance(given, GiveChunk)
        again.extend(given.chunk.numbers)
        witness.tell(chunk_ended(lease, given.chunk))
    assert again[: len(in_hand)] == in_hand


def test_an_unknown_lease_has_to_end() -> None:
    """Whoever asks without holding a lease gets nothing."""
    witness = Witness(1)
    witness.tell(TasksSubmitted([KindEntry("k", 0, Policy())], [0] * 5))

    assert isinstance(witness.ask(77), AnswerEnd)


# --- the makespan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duration_s", [0.001, 0.01, 0.3, 20.0])
@pytest.mark.parametrize("slots", [1, 2, 7, pytest.param(32, marks=pytest.mark.long)])
def test_uniform_tasks_end_together(slots: int, duration_s: float) -> None:
    """For tasks of one length the makespan is within 3 % of what no schedule can beat, besides the start."""
    cluster = run([Job("k", duration_s)] * int(slots * max(200, 2 / duration_s)), slots)

    assert cluster.makespan_s <= 1.03 * cluster.lower_bound_s + 0.02


@pytest.mark.parametrize("slots", [2, 4, 16])
@pytest.mark.parametrize("kind_of_long", ["same", "other"])
def test_long_tasks_at_the_end_do_not_unbalance_the_end(slots: int, kind_of_long: str) -> None:
    """Where the long tasks were submitted last, of the same kind or another, the makespan is within 10 %."""
    jobs = [Job("same", 0.01)] * (1000 * slots) + [Job(kind_of_long, 1.0)] * (3 * slots)

    cluster = run(jobs, slots)

    assert cluster.makespan_s <= 1.1 * cluster.lower_bound_s


@pytest.mark.parametrize("slots", [4, pytest.param(16, marks=pytest.mark.long)])
@pytest.mark.parametrize("kinds", ["one kind", pytest.param("each its own", marks=pytest.mark.long)])
def test_heavy_tails_cost_little_more_than_one_by_one(slots: int, kinds: str) -> None:
    """For shuffled heavy-tailed run times chunks cost at most 15 % over handing out tasks one by one for nothing."""
    for seed in range(5):
        draw = random.Random(seed)  # noqa: S311  run times, not secrets
        lengths = [min(5.0, 0.01 * draw.paretovariate(1.5)) for _ in range(1500)]
        jobs = [Job("k" if kinds == "one kind" else str(number), length_s) for number, length_s in enumerate(lengths)]

        cluster = run(jobs, slots)

        assert cluster.makespan_s <= 1.15 * one_by_one_s(jobs, slots)


def test_many_kinds_and_lanes_end_together() -> None:
    """Twenty kinds that differ by up to five orders of magnitude, over three lanes, end within 3 % of the bound."""
    draw = random.Random(1)  # noqa: S311  an order, not a secret
    jobs = [Job(f"kind {n % 20}", 2.0 ** (n % 20) * 1e-4, lane=n % 20 % 3) for n in range(2000)]
    draw.shuffle(jobs)

    cluster = run(jobs, 8)

    assert cluster.makespan_s <= 1.03 * cluster.lower_bound_s


# --- the engine's own cost --------------------------------------------------------------------------------------------


def count_calls(engine: Engine) -> Counter[str]:
    """Count, from now on, the calls of the engine's own functions."""
    calls: Counter[str] = Counter()
    folder = str(Path(next(iter(dfz_ray.engine.__path__))))
    handle = engine.handle

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(folder):
            calls[frame.f_code.co_name] += 1

    def handle_and_count(event: Event, now: float) -> list[Command]:
        sys.setprofile(note)
        try:
            return handle(event, now)
        finally:
            sys.setprofile(None)

    engine.handle = handle_and_count  # type: ignore[method-assign]
    return calls


@pytest.mark.parametrize(
    ("tasks", "kinds", "most"),
    [pytest.param(10_000, 5_000, 67, marks=pytest.mark.long), (10_000, 1, 8), (2_000, 1_000, 67)],
)
def test_the_engine_does_a_fixed_amount_of_work_for_each_task(tasks: int, kinds: int, most: int) -> None:
    """Of 10,000 tasks of 5,000 kinds each costs the engine as little as each of 2,000 tasks of 1,000 kinds."""
    cluster = VirtualCluster(16)
    cluster.submit([Job(str(number % kinds), 0.001 * (1 + number % kinds % 97)) for number in range(tasks)])
    calls = count_calls(cluster.witness.engine)

    cluster.play()

    assert set(cluster.witness.outcome.values()) == {"completed"}
    assert calls.total() / tasks < most
