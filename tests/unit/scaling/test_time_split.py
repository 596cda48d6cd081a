"""The time of slots, split: planted losses are found again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfz_ray.journal.executions import Executed
from dfz_ray.scaling.losses import ADVICE, pop_ratios, split_losses, split_time

CALLED_AT = 1000.0


def planted(workers: int, seed: int) -> tuple[list[Executed], dict[str, float], float]:
    """A schedule with known losses: each slot has a ramp-up, tasks with gaps, and an end of its own."""
    draw = random.Random(seed)  # noqa: S311 - no secret is drawn
    executed: list[Executed] = []
    ends, sums = [], dict.fromkeys(("in_tasks", "imbalance", "dispatch", "ramp_up", "drain"), 0.0)
    for slot in range(workers):
        now = CALLED_AT + draw.uniform(0.1, 0.5)
        sums["ramp_up"] += now - CALLED_AT
        for task in range(draw.randrange(1, 20)):
            gap, took = draw.uniform(0.01, 0.2) if task else 0.0, draw.uniform(0.5, 1.0)
            sums["dispatch"] += gap
            sums["in_tasks"] += took
            executed.append(Executed(0, (1, slot), now + gap, now + gap + took, took))
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
    assert split == pytest.approx({"in_tasks": 2, "imbalance": 0, "dispatch": 0.5, "ramp_up": 0, "drain": 0})


def test_threads_of_one_lease_are_slots_of_their_own() -> None:
    """Tasks of one lease that overlap are on different slots."""
    executed = [Executed(0, (1, 0), 1.0, 3.0, 0.0), Executed(1, (1, 0), 1.0, 2.0, 0.0)]
    split = split_time(executed, 1.0, 3.0, 2)
    assert split == pytest.approx({"in_tasks": 3, "imbalance": 1, "dispatch": 0, "ramp_up": 0, "drain": 0})


def test_slots_that_nobody_used_wait_for_the_end() -> None:
    """A slot without a task is lost to imbalance as a whole."""
    assert split_time([Executed(0, (1, 0), 1.0, 3.0, 2.0)], 1.0, 3.0, 4)["imbalance"] == pytest.approx(6)


def test_pops_ratios_multiply() -> None:
    """Load balance x dispatch x computation scaling is the global efficiency."""
    losses = split_losses({"in_tasks": 8, "imbalance": 1, "dispatch": 0.5, "ramp_up": 0.3, "drain": 0.2}, useful_s=6)
    assert list(losses) == list(ADVICE)
    assert losses["slower_work"] == 2
    ratios = pop_ratios(losses)
    product = ratios["load_balance"] * ratios["dispatch"] * ratios["computation_scaling"]
    assert product == pytest.approx(ratios["global_efficiency"]) == pytest.approx(0.6)
