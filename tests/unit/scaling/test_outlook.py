"""More workers and longer tasks: a number without its interval, or without a reason why there is none, is not told."""

from __future__ import annotations

import numpy as np
import pytest
from support.sample_points import advise, point

DISPATCH = {"useful": 1.0, "slower_work": 0.0, "imbalance": 0.5, "dispatch": 8.0, "ramp_up": 0.5, "drain": 0.0}
MEMORY = {"useful": 50.0, "slower_work": 50.0, "imbalance": 0.0, "dispatch": 0.0, "ramp_up": 0.0, "drain": 0.0}


def test_a_change_within_the_noise_is_neither_a_gain_nor_a_loss() -> None:
    """Where the interval of a change holds no change at all, the sentence says that nothing can be told."""
    reason = advise(point(2, 1.9), point(4, 1.92, spread=0.05)).reason
    assert "doubling to 4 changes nothing that can be told (-4 to +6 %)" in reason
    assert advise(point(2, 1.9), point(4, 1.9)).reason.endswith("changes nothing that can be told (-3 to +3 %)")


def test_a_truth_of_three_percent_is_hardly_ever_told_as_a_loss() -> None:
    """With a gain of 3 %, noise of 10 % and five repeats at most one study in twenty says that doubling loses."""
    random = np.random.default_rng(1)
    said = []
    for _ in range(200):
        two, four = (tuple(gain * random.lognormal(0, 0.1, 5)) for gain in (19.0, 1.03 * 19.0))
        reason = advise(point(2, 1.9, rates=two), point(4, 1.95, rates=four)).reason
        said.append("doubling to 4 loses" in reason)
    assert sum(said) <= 10


def test_a_change_without_an_interval_has_a_reason() -> None:
    """Where too few repeats count for an interval the sentence says how many do."""
    reason = advise(point(2, 1.9), point(4, 1.95, rates=(19.4, 19.6))).reason
    assert "97 % (2 repeats: no interval) of the peak throughput" in reason
    assert "doubling to 4 buys 3 % (2 repeats: no interval)" in reason
    reason = advise(point(2, 1.9), point(4, 3.8, rates=(38.0,), least_speedup=None)).reason
    assert "may still climb at 4 workers, 100 % (1 repeat: no interval) above 2" in reason


def test_a_climb_that_may_be_noise_says_no_more() -> None:
    """A climb whose interval holds no climb is not said to be above another point."""
    reason = advise(point(2, 1.9, spread=0.3), point(4, 2.3, spread=0.2)).reason
    assert "may still climb at 4 workers (-16 to +73 % above 2), so the peak may lie beyond what was measured" in reason


@pytest.mark.parametrize("lost", ["slower_work", "imbalance"])
def test_longer_tasks_do_not_help_against_what_grows_with_them(lost: str) -> None:
    """Work that is slower beside other tasks, and uneven ends, take the same share of longer tasks."""
    losses = {**MEMORY, "slower_work": 0.0, lost: 50.0}
    reason = advise(point(2, 1.0, losses=losses)).reason
    assert reason.endswith("longer tasks would not help")
    assert "times as long" not in reason


def test_the_length_that_helps_has_an_interval() -> None:
    """How long tasks have to be follows from the speedup, and so does its interval; it may be open, or out of reach."""
    assert "tasks 85 times as long (64 to 125) would reach 1.25x" in advise(point(2, 0.2, losses=DISPATCH)).reason
    noisy = advise(point(2, 0.2, spread=0.2, losses=DISPATCH)).reason
    assert "tasks 85 times as long (at least 20) would reach 1.25x" in noisy
    near = {**MEMORY, "slower_work": 30.0, "dispatch": 20.0}
    assert "longer tasks may not help" in advise(point(2, 0.99, spread=0.05, losses=near)).reason


def test_without_losses_nothing_is_said_of_longer_tasks() -> None:
    """Where no trial was split nobody knows what longer tasks would change."""
    assert "longer" not in advise(point(2, 0.8)).reason
    assert "as long" not in advise(point(2, 0.8)).reason


def test_nothing_is_claimed_of_tasks_that_are_too_short_to_tell() -> None:
    """Slower work and uneven ends of tasks of microseconds may be costs of their beginning, which do not grow."""
    losses = {**MEMORY, "useful": 0.001, "slower_work": 0.003, "imbalance": 0.006, "dispatch": 0.02}
    reason = advise(point(2, 0.02, losses=losses, tasks=500)).reason
    assert reason.endswith("tasks of 0.01 ms are too short to tell whether longer ones would help")
    assert "longer tasks would not help" in advise(point(2, 0.02, losses=losses, tasks=5)).reason  # of a second
