"""Weak scaling: the batch grows with the workers."""

from __future__ import annotations

import dataclasses

import pytest
from support.sample_study import study, summarise

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.scaling.laws import fit_law, gustafson
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.study_plan import StudyPlan
from dfz_ray.specs.batch_checks import read_batch


def grown(serial: float = 0.1, repeats: int = 6) -> list[Measurement]:
    """A study by Gustafson's law: N workers have N times the tasks."""
    trials = study(workers=(0, 1, 2, 3, 4, 6, 8), repeats=repeats)
    return [
        dataclasses.replace(
            one,
            tasks=40 * max(one.workers, 1),
            completed=40 * max(one.workers, 1),
            wall_s=(1 + 0.001 * one.repeat) * 8.0 * max(one.workers, 1) / gustafson(max(one.workers, 1), 1.0, serial),
        )
        for one in trials
    ]


def test_the_batch_of_more_workers_is_the_batch_once_more_for_each() -> None:
    """Copies have the seeds and parameters of the tasks, and ids of their own; one worker has the batch itself."""
    batch = read_batch([{"domain": "maze", "id": "a"}, {"domain": "maze", "id": "b"}], REGISTRY)
    weak, strong = (StudyPlan(batch, (1, 3), 0, ("processes",), kind) for kind in ("weak", "strong"))  # type: ignore[arg-type]
    assert weak.batch_for(0) == weak.batch_for(1) == strong.batch_for(3) == batch
    tasks = weak.batch_for(3).tasks
    assert [task.id for task in tasks] == ["a", "b", "a~1", "b~1", "a~2", "b~2"]
    assert [task.seed for task in tasks] == [task.seed for task in batch.tasks] * 3
    assert weak.digest != strong.digest


def test_speedup_and_efficiency_are_the_scaled_ones() -> None:
    """With N times the tasks in the same time the scaled speedup is N, and the summary says which it is."""
    summary = summarise(grown(serial=0.0), scaling="weak", physical_cores=8)
    assert [point["speedup"] for point in summary["points"]] == pytest.approx([1, 2, 3, 4, 6, 8])
    assert [point["efficiency"] for point in summary["points"]] == pytest.approx([1] * 6)
    assert summary["scaling"] == "weak"
    assert summary["recommendation"]["workers"] == 8
    assert summary["recommendation"]["reason"].startswith("the batch grows with the workers (weak scaling): use 8")
    hours = [point["core_hours"] for point in summary["points"]]
    assert hours == pytest.approx([hours[0]] * 6)  # of one batch: N cores for the time that N batches take


def test_gustafsons_law_is_fitted_to_weak_scaling_alone() -> None:
    """The serial share is found again, with its interval; Amdahl's law is not of weak scaling."""
    fits = summarise(grown(), scaling="weak", physical_cores=8)["fits"]
    assert fits["amdahl"] is None
    assert fits["chosen"] == "gustafson"
    assert fits["gustafson"]["serial"] == pytest.approx(0.1, abs=1e-6)
    low, high = fits["gustafson"]["ci95"]["serial"]
    assert low <= 0.1 <= high
    assert summarise(grown(), physical_cores=8)["fits"]["gustafson"] is None


def test_a_noisy_law_has_an_interval_that_holds_the_share() -> None:
    """What each further worker adds is told with its interval."""
    noise = (1.0, 1.02, 0.99, 1.01, 0.98, 1.0)
    counts = (1, 2, 4, 8, 16, 32)
    rates = [float(gustafson(n, 10.0, 0.2)) * by for n, by in zip(counts, noise, strict=True)]
    fit = fit_law("gustafson", counts, rates)
    assert fit.parameters["serial"] == pytest.approx(0.2, abs=0.03)
    assert fit.limit.startswith("each further worker adds 8")
    assert fit.limit.endswith("of one")
