"""The time limit of a study: it binds the first repeat, and what it leaves out is told."""

from __future__ import annotations

from support.sample_study import trial as measured

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.scaling.pilot import KindTimes, Pilot
from dfz_ray.scaling.study_plan import StudyPlan, Trial
from dfz_ray.scaling.time_limit import decide_step, describe_unmeasured, expect_trial_s
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.resources import Resources

PILOT = Pilot((KindTimes("maze", "maze", Resources(), 30, 3, 1.0, 1.0, 1.0, 0),))
"""A batch of 30 s."""
PLAN = StudyPlan(read_batch([{"domain": "maze"}], REGISTRY), (1, 2, 64), 0, scaling="weak")


def test_a_trial_that_nobody_has_measured_takes_its_least_time() -> None:
    """With weak scaling 64 workers on two cores compute for 16 minutes, and the sequential program for one batch."""
    assert expect_trial_s(Trial(64, 0, 0), [], PLAN, PILOT, 2) == 64 * 30 / 2
    assert expect_trial_s(Trial(0, 0, 0), [], PLAN, PILOT, 2) == 30
    assert expect_trial_s(Trial(2, 0, 0), [measured(2, wall_s=31.0, warm_up_s=4.0)], PLAN, PILOT, 2) == 35


def test_a_study_that_goes_on_knows_the_sequential_program() -> None:
    """Without a pilot the time of the sequential program says how long other trials take at least."""
    known = [measured(0, busy_s=30.0, cpu_s=30.0)]
    assert expect_trial_s(Trial(64, 0, 0), known, PLAN, None, 2) == 64 * 30 / 2
    assert expect_trial_s(Trial(64, 0, 0), [], PLAN, None, 2) == 0


def test_a_trial_that_does_not_fit_is_left_out_and_others_go_on() -> None:
    """A point without a measurement is left out; one that has some ends the study."""
    assert decide_step(Trial(64, 0, 0), [], 960.0, 60.0) == "leave out"
    assert decide_step(Trial(1, 0, 1), [], 30.0, 60.0) == "run"
    assert decide_step(Trial(1, 1, 4), [measured(1)], 30.0, 20.0) == "end"


def test_a_point_that_was_never_measured_is_told() -> None:
    """It is named with the time that a trial of it takes; a study that measured all points says nothing."""
    found = [measured(workers) for workers in (0, 1, 2)]
    assert describe_unmeasured(PLAN, found, PILOT, 2) == ["not measured: 64 workers (960 s at least)"]
    assert describe_unmeasured(PLAN, [*found, measured(64)], PILOT, 2) == []
    nothing = "not measured: the sequential program (30 s at least), 1 worker (30 s at least)"
    assert describe_unmeasured(PLAN, [], PILOT, 2)[0].startswith(nothing)
