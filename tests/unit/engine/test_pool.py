"""The pool of slots that follows what pays: its policy alone, in virtual time."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amount import amount
from support.pool_curves import Course, Slowdown, Work, best_fixed, cores, perfect, play, usl

from dfz_ray.engine.ends import KindTimes
from dfz_ray.engine.level_stats import LevelStats, compare
from dfz_ray.engine.pool import PATIENCE_S, Pool, PoolLimits

CURVES: dict[str, Slowdown] = {
    "waiting": perfect,
    "2 cores": cores(2),
    "8 cores": cores(8),
    "40 connections": cores(40),
    "saturating": usl(0.02, 0.0001),
    "retrograde": usl(0.05, 0.002),
    "strongly retrograde": usl(0.05, 0.02),
}


def drive(slowdown: Slowdown, start: int, most: int, works: list[Work], least: int = 1, seed: int = 0) -> Course:
    course = play(works, slowdown, Pool(start, PoolLimits(least, most), cores=2), seed)
    assert_sound(course, start, most, least)
    return course


def assert_sound(course: Course, start: int, most: int, least: int) -> None:
    """The number of slots stayed within its limits, and every change was one."""
    slots = [start, *(change.slots for _, change in course.changes)]
    assert all(least <= count <= most for count in slots)
    assert all(before != after for before, after in pairwise(slots))


# --- as good as the best fixed number ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
@pytest.mark.parametrize(
    ("slowdown", "start", "most", "works"),
    [
        pytest.param(cores(2), 2, 2, [Work(3_400, 0.01, 0.1)], id="short tasks compute on 2 cores"),
        pytest.param(cores(8), 8, 8, [Work(130, 1.0, 0.3)], id="long tasks compute on 8 cores"),
        pytest.param(cores(2), 8, 8, [Work(3_400, 0.01, 0.1)], id="more slots than cores"),
        pytest.param(cores(2), 8, 128, [Work(3_400, 0.01, 0.1)], id="threads that compute"),
        pytest.param(perfect, 8, 128, [Work(100_000, 0.02, 0.1, 0.01)], id="short tasks wait", marks=pytest.mark.long),
        pytest.param(perfect, 8, 128, [Work(2_200, 1.0, 0.1, 0.01)], id="long tasks wait"),
        pytest.param(perfect, 8, 64, [Work(10_000, 0.1, 0.8, 0.01)], id="tasks of any length wait"),
        pytest.param(
            cores(40),
            8,
            128,
            [Work(60_000, 0.01, 0.2, 0.0)],
            id="tasks wait for one of 40 connections",
            marks=pytest.mark.long,
        ),
        pytest.param(
            perfect,
            8,
            64,
            [Work(15_000, 0.03, 0.1, 0.02), Work(40_000, 0.01, 0.2, 0.02)],
            id="two kinds that wait",
            marks=pytest.mark.long,
        ),
        pytest.param(
            usl(0.02, 0.0001),
            8,
            128,
            [Work(60_000, 0.01, 0.2)],
            id="tasks queue for a part of it",
            marks=pytest.mark.long,
        ),
        pytest.param(
            usl(0.05, 0.002), 8, 128, [Work(20_000, 0.01, 0.2)], id="tasks disturb one another", marks=pytest.mark.long
        ),
        pytest.param(usl(0.05, 0.02), 16, 16, [Work(8_000, 0.01, 0.2)], id="it begins with too many"),
    ],
)
def test_a_batch_takes_little_longer_than_with_the_best_number(
    slowdown: Slowdown, start: int, most: int, works: list[Work], seed: int
) -> None:
    """Whatever tasks do, a batch of some 15 s takes at most a tenth longer than with the best fixed number of slots."""
    best_s, _ = best_fixed(works, slowdown, most, seed)

    course = drive(slowdown, start, most, works, seed=seed)

    assert course.makespan_s <= 1.10 * best_s


@settings(max_examples=amount(60), deadline=None)
@given(
    slowdown=st.sampled_from(list(CURVES.values())),
    start=st.integers(1, 32),
    most=st.integers(1, 200),
    least=st.integers(1, 4),
    task_s=st.sampled_from([0.002, 0.03, 0.5]),
    spread=st.sampled_from([0.0, 0.2, 0.8]),
    tasks=st.integers(1, 3_000),
    seed=st.integers(0, 1_000),
)
def test_it_never_leaves_its_limits(
    slowdown: Slowdown, start: int, most: int, least: int, task_s: float, spread: float, tasks: int, seed: int
) -> None:
    """Whatever it sees, the number of slots stays between the minimum and the maximum, and every change is one."""
    most = max(most, least)
    start = min(max(start, least), most)
    course = play([Work(tasks, task_s, spread)], slowdown, Pool(start, PoolLimits(least, most), cores=2), seed)
    assert_sound(course, start, most, least)


@settings(max_examples=amount(30), deadline=None)
@given(
    name=st.sampled_from(sorted(CURVES)),
    start=st.sampled_from([1, 4, 16, 64]),
    spread=st.sampled_from([0.0, 0.1, 0.3]),
    seed=st.integers(0, 1_000),
)
@pytest.mark.long
def test_it_finds_a_good_number_soon_and_rests(name: str, start: int, spread: float, seed: int) -> None:
    """Within eight seconds of 10 ms tasks it is near the best throughput, and from then on probes ever more seldom."""
    slowdown = CURVES[name]
    best = max(count / slowdown(count) for count in range(1, 65))
    course = drive(slowdown, start, 64, [Work(int(60 * 100 * best), 0.01, spread)], seed=seed)

    changes = [(0.0, start), *((at, change.slots) for at, change in course.changes)]
    ends = [*(at for at, _ in changes[1:]), course.makespan_s]
    used = [(at, until, count) for (at, count), until in zip(changes, ends, strict=True)]
    after_s = course.makespan_s - 8.0
    work = sum((until - max(at, 8.0)) * count / slowdown(count) for at, until, count in used if until > 8.0)
    assert work >= 0.88 * best * after_s
    assert sum(at > 8.0 for at, _ in course.changes) <= 24
    assert sum(at > course.makespan_s / 2 for at, _ in course.changes) <= 10


def test_the_end_of_a_batch_changes_nothing() -> None:
    """A batch that more slots would not shorten any more is run with those that there are."""
    course = drive(perfect, 8, 64, [Work(100, 0.1)])

    assert course.changes == []


# --- what it goes by --------------------------------------------------------------------------------------------------


def level(slots: int, *times: KindTimes, slots_s: float = 0.0) -> LevelStats:
    seen = LevelStats(slots)
    work_s = sum(one.total_s for one in times)
    seen.add(times, (slots_s or work_s) / slots, slots, slots, 0.0)
    return seen


def times(kind: int, count: int, mean_s: float) -> KindTimes:
    return KindTimes(kind, count, count * mean_s, count * mean_s**2)


@pytest.mark.parametrize(("slower", "ratio"), [(1.0, 2.0), (2.0, 1.0), (4.0, 0.5)])
def test_twice_the_slots_gain_what_tasks_do_not_lose(slower: float, ratio: float) -> None:
    """Twice the slots double the throughput if tasks take no longer, and it stays if they take twice as long."""
    gain = compare(level(4, times(0, 100, 0.1)), level(8, times(0, 100, 0.1 * slower)))

    assert gain is not None
    assert gain.ratio == pytest.approx(ratio)


def test_another_mix_is_no_gain() -> None:
    """When shorter kinds follow on longer ones more tasks end in a second, and nothing is gained."""
    before = level(4, times(0, 90, 1.0), times(1, 10, 0.01))
    after = level(4, times(0, 10, 1.0), times(1, 900, 0.01))

    gain = compare(before, after)

    assert gain is not None
    assert gain.ratio == pytest.approx(1.0)


def test_kinds_that_are_new_compare_with_nothing() -> None:
    """Where most of the work is of kinds that were not seen before, nothing is said about throughput."""
    assert compare(level(4, times(0, 90, 1.0)), level(8, times(0, 1, 1.0), times(1, 90, 1.0))) is None


def test_slots_that_wait_for_chunks_gain_nothing() -> None:
    """Slots that are in use and execute nothing, since the manager can't keep up, do not count."""
    gain = compare(level(4, times(0, 100, 0.01)), level(8, times(0, 100, 0.01), slots_s=2.0))

    assert gain is not None
    assert gain.ratio == pytest.approx(1.0)


def test_each_change_says_why() -> None:
    """A reason has the numbers of slots, and what the last change did to the throughput, in words."""
    course = drive(cores(40), 8, 128, [Work(60_000, 0.01, 0.1)])

    reasons = [change.reason for _, change in course.changes]
    assert reasons[0] == "from 8 to 16: to see whether more pay"
    assert reasons[1].startswith("from 16 to 32: throughput rose by ")
    assert any(reason.startswith("from 128 to 64: throughput ") for reason in reasons)


def test_slots_that_ray_does_not_place_are_given_up() -> None:
    """Where only some of the slots come into being within a minute the pool goes back to those, and says so."""
    pool = Pool(4, PoolLimits(1, 64), cores=64)
    pool.see(4, math.inf, 0.0)
    now, change = 0.0, None
    while change is None:
        now += 0.25
        pool.see(4, math.inf, now)
        pool.on_chunk([times(0, 10, 0.025)], now - 0.25, 1, now, 0.0)
        change = pool.decide(10_000, 1_000.0, now)
    assert change.slots == 64

    change = None
    while change is None:
        now += 0.25
        pool.see(6, math.inf, now)
        pool.on_chunk([times(0, 10, 0.025)], now - 0.25, 1, now, 0.0)
        change = pool.decide(10_000, 1_000.0, now)

    assert now < 2 * PATIENCE_S
    assert change.slots == 6
    assert change.reason == "from 64 to 6: Ray has placed only 6 within 60 s"


def test_nodes_that_go_take_their_slots_along() -> None:
    """When the cluster holds fewer the pool follows at once; when it holds more, it tries them."""
    pool = Pool(8, PoolLimits(1, 8))

    change = pool.limit(PoolLimits(1, 4), 1.0)

    assert change is not None
    assert (change.slots, change.reason) == (4, "from 8 to 4: no more than 4 can be used now")
    assert pool.limit(PoolLimits(1, 16), 2.0) is None
    pool.see(4, math.inf, 2.0)
    for end in range(3, 60):
        pool.see(4, math.inf, float(end))
        pool.on_chunk([times(0, 1, 1.0)], end - 0.99, 1, float(end), 1.0)
        change = pool.decide(1_000, 1_000.0, float(end))
        if change is not None:
            break
    assert change is not None
    assert change.slots == 8


def test_a_pool_that_rests_wakes_when_run_times_change() -> None:
    """When tasks of the same kinds come to take another time, the pause before the next probe is over."""
    pool = Pool(4, PoolLimits(4, 4))
    pool.see(4, math.inf, 0.0)
    now = 0.0

    def go_on(task_s: float, seconds: float) -> None:
        nonlocal now
        end = now + seconds
        while now < end:
            now += 0.2
            for _ in range(4):
                pool.see(4, math.inf, now)
                pool.on_chunk([times(0, 1, task_s)], now - 0.19, 1, now, 0.0)
            pool.decide(10_000, 1_000.0, now)

    go_on(0.18, 2.0)
    assert pool.rests
    pool.limits = PoolLimits(1, 64)
    go_on(0.18, 1.0)
    assert pool.rests
    go_on(0.09, 2.0)
    assert not pool.rests
