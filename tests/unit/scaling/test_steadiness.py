"""A study whose trials are not independent shows no interval of a median, and says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.sample_study import study, summarise

from dfz_ray.scaling.choices import Goals, choose
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.point import estimate_points
from dfz_ray.scaling.report import render_report
from dfz_ray.scaling.steadiness import UNSTEADY, are_independent

QUIET_S = {0: 10.0, 1: 11.0, 2: 6.0}
"""By the number of workers: the time of a trial on a quiet machine."""


def draw(handed_on: float, seed: int, repeats: int = 8) -> list[tuple[int, float]]:
    """Times of trials, a repeat of all numbers of workers after the other; each hands a part of its noise on."""
    random = np.random.default_rng(seed)
    times_s, noise = [], 0.0
    for _ in range(repeats):
        for workers in random.permutation(list(QUIET_S)).tolist():
            noise = handed_on * noise + (1 - handed_on**2) ** 0.5 * random.normal(0.0, 0.1)
            times_s.append((workers, QUIET_S[workers] * float(np.exp(noise))))
    return times_s


def trials(times_s: list[tuple[int, float]]) -> list[Measurement]:
    """A study whose trials took these times, in this order."""
    left = {
        workers: iter([one for one in study(workers=tuple(QUIET_S), repeats=8) if one.workers == workers])
        for workers in QUIET_S
    }
    return [replace(next(left[workers]), order=order, wall_s=time_s) for order, (workers, time_s) in enumerate(times_s)]


@pytest.mark.parametrize(("handed_on", "independent"), [(0.0, 88), (0.8, 2)])
def test_trials_that_hand_their_noise_on_are_told_from_independent_ones(handed_on: float, independent: int) -> None:
    """Of 100 studies of independent trials some ten are doubted; of those of a machine with slow spells nearly all."""
    found = sum(are_independent(draw(handed_on, seed)) for seed in range(100))
    assert found == pytest.approx(independent, abs=6)


def test_a_machine_that_becomes_slower_is_noticed() -> None:
    """A drift of 2 % from trial to trial is no independent noise."""
    times_s = [(workers, time_s * 1.02**order) for order, (workers, time_s) in enumerate(draw(0.0, 1))]
    assert not are_independent(times_s)


def test_what_says_nothing_is_taken_as_it_is() -> None:
    """Too few trials, or equal ones, give no reason for doubt."""
    assert are_independent([])
    assert are_independent([(0, 1.0), (1, 2.0)])
    assert are_independent([(workers, 3.0) for workers in (0, 1) * 10])


def test_a_study_says_why_its_medians_have_no_interval() -> None:
    """The summary, the goals and the page say it; speedups keep theirs, for the programs share the slow spells."""
    for handed_on, is_steady in ((0.0, True), (0.8, False)):
        measured = trials(draw(handed_on, 4))
        summary = summarise(measured)
        point = summary["points"][-1]
        assert summary["is_steady"] is is_steady
        for key in ("wall_s_ci95", "tasks_per_s_ci95", "core_hours_ci95"):
            assert (point[key] is not None) is is_steady
        assert point["speedup_ci95"] is not None
        baseline, points = estimate_points(measured, physical_cores=8, cpus_per_task=1.0)
        said = choose(points, baseline, Goals())[0].describe()
        assert (UNSTEADY in said) is not is_steady
        assert (UNSTEADY in render_report(summary, measured)) is not is_steady


def test_a_study_of_few_repeats_has_no_intervals_of_medians_for_that_reason() -> None:
    """With fewer than six repeats there is none anyway, and slow spells are not to blame."""
    measured = [one for one in trials(draw(0.8, 4)) if one.repeat < 5]
    summary = summarise(measured)

    assert not summary["is_steady"]
    assert UNSTEADY not in render_report(summary, measured)
