"""What-if: predicts how a batch would run on other numbers of workers, and how far such predictions were off.

A prediction runs the real engine in virtual time with what trials measured. Its error is that of predictions which were
put to the test: each measured number of workers but the smallest is predicted from the trials with fewer workers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dfz_ray.garbage import collector_paused
from dfz_ray.scaling.cost_model import CostModel, fit_costs, is_usable
from dfz_ray.scaling.estimate import Estimate, Interval, estimate_median
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.simulation.machine import PredictedRun, predict_run

FULL = 0.9
"""A manager that is busy for more than this share of the time is full: more workers would wait for it."""
RUNS = 5
"""Runs in virtual time, each with other draws, of which the median counts."""
MANY_TASKS = 2_000
"""Of batches with more tasks there is one run: they differ little, and take long."""
READ_TASK_S = 5e-6
"""Seconds to read the result of a task, for batches of another size than was measured; as it was on one machine."""
HOUR_S = 3600.0


@dataclass(frozen=True)
class HeldOut:
    """A measured number of workers that was predicted from trials with fewer workers."""

    workers: int
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True)
class Prediction:
    """The batch on some number of workers, as predicted."""

    workers: int
    makespan_s: float
    range_s: Interval | None
    """The makespan, off by as much as the largest held-out error, to both sides; None: nothing was held out. It is no
    confidence interval: how often it holds the time at other numbers of workers was not measured."""
    speedup: float
    efficiency: float
    manager_share: float
    """The share of the time in which the manager is busy."""
    core_hours: float
    price: float | None
    meets_deadline: bool | None
    """True if the whole range lies within the deadline, or the makespan where there is no range."""
    measured_s: float | None
    """The median of the trials with as many workers, if these were of as many tasks on as many cores."""

    @property
    def is_manager_full(self) -> bool:
        """True if the manager is what the workers wait for."""
        return self.manager_share > FULL


@dataclass(frozen=True)
class Forecast:
    """All predictions for a batch, with what is known about their error."""

    tasks: int
    cores: float
    predictions: Sequence[Prediction]
    held_out: Sequence[HeldOut]
    error: Estimate | None
    """The median of the held-out errors without their signs; None: nothing was held out."""
    largest_error: float | None
    """The factor, less 1, by which the held-out point was off that was predicted worst, to whichever side; the ranges
    of the predictions rest on it."""
    cheapest: int | None
    """The number of workers that costs least among those that meet the deadline; of all where there is none."""
    measured: Sequence[int]
    is_as_measured: bool
    """True if the batch is as large as that which was measured, and shares as many cores."""
    assumptions: Sequence[str]


def forecast(
    trials: Sequence[Measurement],
    worker_counts: Sequence[int],
    *,
    trial_cores: int,
    cores: float | None = None,
    tasks: int | None = None,
    cpus_per_task: float = 1.0,
    price: float | None = None,
    deadline_s: float | None = None,
    seed: int = 0,
) -> Forecast:
    """Predict a batch.

    Args:
        trials: of the batch, with workers, and those of the sequential program.
        worker_counts: the numbers of workers to predict.
        trial_cores: the physical cores that the workers of the trials shared.
        cores: those that the predicted workers share; None: as many; infinite: each has its own.
        tasks: the number of tasks; None: that of the batch.
        cpus_per_task: what a worker is paid for.
        price: of a core for an hour.
        deadline_s: the time within which the batch has to end.
        seed: of the draws.

    Raises:
        InvalidInput: the trials do not tell what a prediction needs.
    """
    model = fit_costs(trials, trial_cores)
    shared = float(trial_cores) if cores is None else cores
    held_out = hold_out(trials, trial_cores, seed)
    errors = [abs(math.log(one.predicted_s / one.measured_s)) for one in held_out]
    off = max(errors, default=None)
    sequential_s = model.sequential_s * (tasks or model.tasks) / model.tasks
    is_as_measured = (tasks or model.tasks, shared) == (model.tasks, float(trial_cores))
    predictions = []
    for workers in sorted(worker_counts):
        run = predict(model, workers, shared, tasks or model.tasks, seed)
        held = min(workers * cpus_per_task, shared) or 1.0  # no more cores than there are; without any CPU one together
        hours = held * run.makespan_s / HOUR_S
        measured_s = _median_time(trials, workers) if is_as_measured and workers in model.measured else None
        predictions.append(_describe(run, workers, sequential_s, off, hours, price, deadline_s, measured_s))
    in_time = [one for one in predictions if one.meets_deadline is not False]
    return Forecast(
        tasks=tasks or model.tasks,
        cores=shared,
        predictions=predictions,
        held_out=held_out,
        error=estimate_median([abs(one.error) for one in held_out]) if held_out else None,
        largest_error=None if off is None else math.expm1(off),
        cheapest=min(in_time, key=lambda one: (one.core_hours, one.workers)).workers if in_time else None,
        measured=model.measured,
        is_as_measured=is_as_measured,
        assumptions=[*model.assumptions, *_extrapolations(model, worker_counts, tasks, shared)],
    )


def _describe(
    run: PredictedRun,
    workers: int,
    sequential_s: float,
    off: float | None,
    core_hours: float,
    price: float | None,
    deadline_s: float | None,
    measured_s: float | None,
) -> Prediction:
    """A predicted run in figures; `off` is the logarithm by which a prediction may be off."""
    makespan_s = run.makespan_s
    range_s = None if off is None else (makespan_s * math.exp(-off), makespan_s * math.exp(off))
    latest_s = range_s[1] if range_s else makespan_s
    return Prediction(
        workers=workers,
        makespan_s=makespan_s,
        range_s=range_s,
        speedup=sequential_s / makespan_s,
        efficiency=sequential_s / makespan_s / workers,
        manager_share=run.manager_share,
        core_hours=core_hours,
        price=None if price is None else price * core_hours,
        meets_deadline=None if deadline_s is None else latest_s <= deadline_s,
        measured_s=measured_s,
    )


def predict(model: CostModel, workers: int, cores: float, tasks: int, seed: int = 0) -> PredictedRun:
    """Predict one number of workers; the makespan lasts from the call until the results are in hand."""
    with collector_paused():
        runs = [
            predict_run(model.draw_work(tasks, workers, own), workers, model.times, cores, own)
            for own in range(seed, seed + (RUNS if tasks <= MANY_TASKS else 1))
        ]
    middle = sorted(runs, key=lambda run: run.makespan_s)[len(runs) // 2]
    around_s = model.open_s + max(0.0, model.close_s + READ_TASK_S * (tasks - model.tasks))
    share = middle.manager_share * middle.makespan_s / (middle.makespan_s + around_s)
    return PredictedRun(middle.makespan_s + around_s, share, middle.chunks, middle.leases)


def hold_out(trials: Sequence[Measurement], cores: int, seed: int = 0) -> list[HeldOut]:
    """Predict each measured number of workers, except for the smallest, from the trials with fewer workers."""
    measured = fit_costs(trials, cores).measured
    found = []
    for workers in measured[1:]:
        model = fit_costs([one for one in trials if one.workers < workers], cores)
        predicted_s = predict(model, workers, cores, model.tasks, seed).makespan_s
        found.append(HeldOut(workers, predicted_s, _median_time(trials, workers)))
    return found


def _median_time(trials: Sequence[Measurement], workers: int) -> float:
    return median([one.wall_s for one in trials if one.workers == workers and is_usable(one)])


def _extrapolations(model: CostModel, worker_counts: Sequence[int], tasks: int | None, cores: float) -> list[str]:
    """The limits of the measurements that the predictions go beyond, a sentence each."""
    said = []
    most = max(model.measured)
    if max(worker_counts) > most and cores > model.cores:
        said.append(f"tasks are taken to be no slower on more cores than on the {min(most, model.cores)} measured")
    if tasks is not None and tasks != model.tasks:
        said.append(f"batches of {model.tasks} tasks were measured: the time to read more results is assumed")
    return said
