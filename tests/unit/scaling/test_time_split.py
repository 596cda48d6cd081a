"""The time of slots, split: planted losses are found again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfz_ray.journal.executions import Executed
from dfz_ray.scaling.losses import (
    ADVICE,
    advise,
    find_busiest_s,
    find_largest,
    is_manager_full,
    pop_ratios,
    split_losses,
    split_slower_work,
    split_time,
)

CALLED_AT = 1000.0


def planted(workers: int, seed: int) -> tuple[list[Executed], dict[str, float], float]:
    """A schedule with known losses: each slot has a ramp-up, tasks with gaps, and an end of its own."""
    draw = random.Random(seed)  # noqa: S311 - no secret is drawn
    executed: list[Executed] = []
    ends, sums = (
        [],
        dict.fromkeys(("in_tasks", "vain_attempts", "imbalance", "handling", "dispatch", "ramp_up", "drain"), 0.0),
    )
    for slot in range(workers):
        now = CALLED_AT + draw.uniform(0.1, 0.5)
        sums["ramp_up"] += now - CALLED_AT
        for task in range(draw.randrange(1, 20)):
            gap, took = draw.uniform(0.01, 0.2) if task else 0.0, draw.uniform(0.5, 1.0)
            sums["handling" if task % 3 else "dispatch"] += gap
            counts = task % 5 != 4
            sums["in_tasks" if counts else "vain_attempts"] += took
            executed.append(Executed(0, (1, slot), now + gap, now + gap + took, took, 100 * slot + task // 3, counts))
            now += gap + took
        ends.append(now)
    last = max(ends)
    sums["imbalance"] = sum(last - end for end in ends)
    sums["drain"] = workers * 0.3
    return sorted(executed, key=lambda one: one.began_at), sums, last + 0.3


@pytest.mark.parametrize("workers", [1, 2, 7, 32])
def test_planted_losses_are_found_again(workers: int) -> None:
    """Each part of a schedule with known parts is found exactly."""
    for seed in range(20):
        executed, sums, returned_at = planted(workers, seed)
        assert split_time(executed, CALLED_AT, returned_at, workers) == pytest.approx(sums)


spans = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 10), st.floats(0, 3)), max_size=40)


@settings(deadline=None)
@given(spans, st.integers(1, 8), st.floats(0, 5))
def test_the_parts_always_add_up(drawn: list[tuple[int, float, float]], workers: int, drain_s: float) -> None:
    """Whatever the journal says, also clocks that disagree: the parts add up to the workers times the wall time."""
    executed = sorted(
        (Executed(0, (1, lease), 1 + at, 1 + at + took, took) for lease, at, took in drawn),
        key=lambda one: one.began_at,
    )
    returned_at = max([1.0, *[one.ended_at for one in executed]]) + drain_s
    split = split_time(executed, 1.0, returned_at, workers)
    assert sum(split.values()) == pytest.approx(workers * (returned_at - 1.0), abs=1e-6)


def test_a_new_lease_takes_over_the_slot_of_one_that_has_ended() -> None:
    """The pause between two leases of a slot is dispatch, not the ramp-up of another slot."""
    executed = [Executed(0, (1, 0), 1.0, 2.0, 1.0), Executed(1, (1, 1), 2.5, 3.5, 1.0)]
    split = split_time(executed, 1.0, 3.5, 1)
    parts = {
        "in_tasks": 2,
        "vain_attempts": 0,
        "imbalance": 0,
        "handling": 0,
        "dispatch": 0.5,
        "ramp_up": 0,
        "drain": 0,
    }
    assert split == pytest.approx(parts)


def test_threads_of_one_lease_are_slots_of_their_own() -> None:
    """Tasks of one lease that overlap are on different slots."""
    executed = [Executed(0, (1, 0), 1.0, 3.0, 0.0), Executed(1, (1, 0), 1.0, 2.0, 0.0)]
    split = split_time(executed, 1.0, 3.0, 2)
    parts = {"in_tasks": 3, "vain_attempts": 0, "imbalance": 1, "handling": 0, "dispatch": 0, "ramp_up": 0, "drain": 0}
    assert split == pytest.approx(parts)


def test_slots_that_nobody_used_wait_for_the_end() -> None:
    """A slot without a task is lost to imbalance as a whole."""
    assert split_time([Executed(0, (1, 0), 1.0, 3.0, 2.0)], 1.0, 3.0, 4)["imbalance"] == pytest.approx(6)


def test_tasks_that_fail_are_no_dispatch() -> None:
    """Half of 40 tasks of 1 s fail after 1 s, as they do in the sequential program: two perfect slots lose nothing."""
    executed = [Executed(2 * at + slot, (1, slot), 1.0 + at, 2.0 + at, 1.0) for at in range(20) for slot in range(2)]
    losses = split_losses(split_time(executed, 1.0, 21.0, 2), useful_s=40)
    assert losses == pytest.approx(dict.fromkeys(ADVICE, 0.0) | {"useful": 40})


def test_attempts_in_vain_are_a_part_of_their_own() -> None:
    """Each of two tasks fails at first, for 1 s, and takes 1 s as it counts: a quarter of the work each is in vain."""
    executed = [
        Executed(slot, (1, slot), 1.0 + at, 2.0 + at, 1.0, 2 * slot + at, counts=at > 0)
        for at in range(2)
        for slot in range(2)
    ]
    losses = split_losses(split_time(executed, 1.0, 3.0, 2), useful_s=2)
    assert losses == pytest.approx(dict.fromkeys(ADVICE, 0.0) | {"useful": 2, "vain_attempts": 2})
    assert find_largest(losses) == "vain_attempts"
    assert pop_ratios(losses, 2, find_busiest_s(executed, 2))["global_efficiency"] == pytest.approx(0.5)


PARTS = {
    "in_tasks": 8,
    "vain_attempts": 0,
    "imbalance": 1,
    "handling": 0.1,
    "dispatch": 0.4,
    "ramp_up": 0.3,
    "drain": 0.2,
}


def test_pops_ratios_multiply() -> None:
    """Load balance x communication efficiency is the parallel efficiency; times computation scaling, the global one."""
    losses = split_losses(PARTS, useful_s=6)
    assert list(losses) == list(ADVICE)
    assert losses["slower_work"] == 2
    ratios = {name: ratio or 0.0 for name, ratio in pop_ratios(losses, 2, 4.5).items()}
    product = ratios["load_balance"] * ratios["communication_efficiency"]
    assert product == pytest.approx(ratios["parallel_efficiency"])
    product = ratios["parallel_efficiency"] * ratios["computation_scaling"]
    assert product == pytest.approx(ratios["global_efficiency"]) == pytest.approx(0.6)


def test_tasks_that_took_no_time_have_no_ratios() -> None:
    """Where no time passed in tasks the computation has no scaling, and the study is still summed up."""
    ratios = pop_ratios(split_losses(PARTS | {"in_tasks": 0}, useful_s=0), 2, 0.0)
    assert ratios["computation_scaling"] is None
    assert ratios["load_balance"] is None
    assert ratios["communication_efficiency"] == 0


def test_pops_ratios_are_pops() -> None:
    """Slots that compute for 10 and 5 s of 12: the load balance is mean over most, the communication most over time."""
    executed = [Executed(0, (1, 0), 3.0, 13.0, 10.0), Executed(1, (1, 1), 3.0, 8.0, 5.0)]
    losses = split_losses(split_time(executed, 1.0, 13.0, 2), useful_s=15)
    ratios = pop_ratios(losses, 2, find_busiest_s(executed, 2))
    assert ratios["load_balance"] == pytest.approx(7.5 / 10)
    assert ratios["communication_efficiency"] == pytest.approx(10 / 12)
    assert ratios["parallel_efficiency"] == pytest.approx(15 / 24)


def test_trials_of_before_have_no_load_balance() -> None:
    """A trial that did not note the time of its busiest slot has the ratios that need none."""
    ratios = pop_ratios(split_losses(PARTS, useful_s=6), 2, None)
    assert (ratios["load_balance"], ratios["communication_efficiency"]) == (None, None)
    assert ratios["parallel_efficiency"] == pytest.approx(0.8)


@pytest.mark.parametrize("planted_part", [*ADVICE][1:])
def test_each_planted_loss_is_recovered(planted_part: str) -> None:
    """On a load with one planted loss, that loss is found within 5 % of the total, and the advice is about it."""
    workers, useful_s, rest_s = 4, 20.0, 0.02
    executed, gap_s = [], 2.0 if planted_part == "dispatch" else rest_s
    took_s = 1.2 if planted_part == "slower_work" else 0.5
    start_s = 5.0 if planted_part == "ramp_up" else rest_s
    ends = []
    for slot in range(workers):
        now = CALLED_AT + start_s
        for task in range(10):
            executed.append(Executed(10 * slot + task, (1, slot), now, now + took_s, took_s, 10 * slot + task))
            now += took_s
            if planted_part == "vain_attempts":
                tried = Executed(10 * slot + task, (1, slot), now, now + 1.0, 1.0, 10 * slot + task, counts=False)
                executed.append(tried)
                now += 1.0
            now += gap_s
        if planted_part == "imbalance" and not slot:  # one task is longer, and others are shorter
            executed[-1] = executed[-1]._replace(ended_at=executed[-1].ended_at + 6)
            useful_s += 6
        ends.append(executed[-1].ended_at)
    last = max(ends)
    returned_at = last + (6.0 if planted_part == "drain" else rest_s)
    executed.sort(key=lambda one: one.began_at)
    losses = split_losses(split_time(executed, CALLED_AT, returned_at, workers), useful_s)
    expected = {
        "useful": useful_s,
        "slower_work": 40 * (took_s - 0.5),
        "vain_attempts": 40.0 if planted_part == "vain_attempts" else 0.0,
        "imbalance": 18.0 if planted_part == "imbalance" else 0.0,
        "dispatch": 36 * gap_s,
        "ramp_up": 4 * start_s,
        "drain": 4 * (returned_at - last),
    }
    assert losses == pytest.approx(expected, abs=0.05 * workers * (returned_at - CALLED_AT))
    assert losses == pytest.approx(expected)
    assert find_largest(losses) == planted_part
    assert advise(losses) == ADVICE[planted_part]


def test_slower_work_is_told_apart() -> None:
    """Tasks that wait for a core need fewer workers; tasks that need more CPU time need other memory, or fewer, too."""
    losses = split_losses(PARTS, useful_s=2)
    assert "free core" in advise(losses, split_slower_work(6.0, more_cpu_s=1.0))
    assert "memory bandwidth" in advise(losses, split_slower_work(6.0, more_cpu_s=5.0))
    assert sum(split_slower_work(6.0, 5.0).values()) == 6.0


def test_slots_that_wait_for_a_full_manager_have_advice_of_their_own() -> None:
    """Where most of the loss lies between chunks, and the manager can't keep up, longer tasks or fewer workers help."""
    losses = split_losses(PARTS | {"dispatch": 5.0}, useful_s=8)

    assert "the manager is full" in advise(losses, manager_full=True)
    assert "the manager is full" not in advise(losses)
    assert "the manager is full" not in advise(split_losses(PARTS, useful_s=8), manager_full=True)


def test_a_manager_is_full_if_workers_wait_long_for_it() -> None:
    """Ten workers waited for 20 of 100 slot-seconds, each time for 50 ms; its CPU time alone says nothing then."""
    assert is_manager_full({"manager": [1.0, 400], "waits": [20.0, 400]}, 10, 10.0)
    assert not is_manager_full({"manager": [9.0, 400], "waits": [20.0, 4_000]}, 10, 10.0)
    assert not is_manager_full({"manager": [9.0, 400], "waits": [5.0, 100]}, 10, 10.0)


def test_where_no_waits_are_known_the_time_of_the_manager_counts() -> None:
    """Older profiles have none, nor do workers with several threads: a manager that takes most of a core is full."""
    assert is_manager_full({"manager": [9.0, 400]}, 10, 10.0)
    assert is_manager_full({"manager": [9.0, 400], "waits": [0.0, 0]}, 10, 10.0)
    assert not is_manager_full({"manager": [1.0, 400]}, 10, 10.0)
    assert not is_manager_full({"manager": None, "waits": None}, 10, 10.0)
    assert not is_manager_full({}, 10, 10.0)


def test_handling_within_chunks_has_advice_of_its_own() -> None:
    """Where most of the time between tasks is spent within chunks, the advice is about the data of tasks."""
    losses = split_losses(PARTS | {"handling": 5.0}, useful_s=8)
    assert "return less data" in advise(losses, handling_s=5.0)
