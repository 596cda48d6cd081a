"""The time limit of a study: how long its next trial will take, and what it leaves unmeasured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.number_texts import show_plain
from dfz_ray.scaling.pilot import Pilot, predict_trial_s
from dfz_ray.scaling.study_plan import BASELINE, StudyPlan, Trial

Step = Literal["run", "leave out", "end"]


def decide_step(trial: Trial, measured: Sequence[Measurement], expected_s: float, left_s: float) -> Step:
    """Decide whether a study runs a trial with so many seconds left, leaves it out, or ends.

    The study ends if there is no time for another trial of a point that it has; one that it never measured is left out,
    for others may still fit.
    """
    if expected_s <= left_s:
        return "run"
    return "end" if _find_like(trial, measured) else "leave out"


def expect_trial_s(
    trial: Trial, measured: Sequence[Measurement], plan: StudyPlan, pilot: Pilot | None, cores: float
) -> float:
    """The longest time that such a trial took, with its warm-up; if there was none, the least that it can take.

    A study that goes on has no pilot: there the trials of the sequential program tell; without these it is 0.
    """
    if like := _find_like(trial, measured):
        return max(one.wall_s + (one.warm_up_s or 0.0 if one.workers else 0.0) for one in like)
    if pilot is not None:
        return predict_trial_s(trial, plan, pilot, cores)
    sequential = [one for one in measured if one.workers == BASELINE and one.timed and one.busy_s is not None]
    if not sequential:
        return 0.0
    growth = trial.workers if plan.scaling == "weak" else 1
    busy_s = median(one.busy_s or 0.0 for one in sequential)
    cpu_s = median(one.cpu_s or 0.0 for one in sequential)
    return growth * max(busy_s / trial.workers, cpu_s / cores)


def describe_unmeasured(
    plan: StudyPlan, measured: Sequence[Measurement], pilot: Pilot | None, cores: float
) -> list[str]:
    """A clause that names the points that were never measured, each with the time that a trial takes; or nothing."""
    names = []
    for trial in sorted(plan.repeat(0), key=lambda trial: (trial.workers, trial.mode)):
        if _find_like(trial, measured):
            continue
        name = (
            f"{trial.workers} worker{'s' if trial.workers != 1 else ''}" if trial.workers else "the sequential program"
        )
        name += f" on {trial.mode}" if trial.workers and len(plan.modes) > 1 else ""
        expected_s = expect_trial_s(trial, measured, plan, pilot, cores)
        names.append(f"{name} ({show_plain(expected_s)} s at least)" if expected_s else name)
    return [f"not measured: {', '.join(names)}"] if names else []


def _find_like(trial: Trial, measured: Sequence[Measurement]) -> list[Measurement]:
    return [one for one in measured if (one.workers, one.mode or trial.mode) == (trial.workers, trial.mode)]
