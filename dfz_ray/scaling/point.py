"""A point of a study: all trials with one number of workers, summed up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from dfz_ray.scaling.estimate import (
    Estimate,
    estimate_efficiency,
    estimate_median,
    estimate_speedup,
    estimate_throughput,
)
from dfz_ray.scaling.measurement import Measurement, Mode


@dataclass(frozen=True, kw_only=True)
class Point:
    """One number of workers (0: the baseline) with all of its trials. A value that no trial measured is None."""

    workers: int
    repeats: int
    """Trials that came to their end. The numbers below are of these."""
    errors: tuple[str, ...]
    """The reasons why the other trials failed, one text each."""
    wall_s: Estimate | None
    speedup: Estimate | None
    """None also where no task completed: less work is not faster work."""
    efficiency: Estimate | None
    tasks_per_s: Estimate | None
    success_rate: float | None
    """Completed tasks over all tasks, of all repeats together."""
    warm_up_s: float | None
    avg_concurrency: float | None
    max_concurrency: int | None
    digests: tuple[str, ...]
    """The different digests of the repeats; one alone where the answers were always the same."""
    served: int | None
    """The fewest slots that the cluster could run at once in any repeat."""
    oversubscribed: bool
    """True if the workers ask for more CPUs than there are physical cores."""
    mode: Mode = "processes"

    @property
    def digest(self) -> str | None:
        """The digest of all repeats, None if they differ or have none."""
        return self.digests[0] if len(self.digests) == 1 else None

    @property
    def underserved(self) -> bool:
        """True if the cluster could not run all slots at once."""
        return self.served is not None and self.served < self.workers


def estimate_points(
    measurements: Iterable[Measurement], *, physical_cores: int, cpus_per_task: float, seed: int = 0
) -> tuple[Point | None, list[Point]]:
    """Sum up a study: the baseline (None if it was not measured), and the points by their number of workers, and mode.

    `cpus_per_task` is the most that a task declares, `physical_cores` the cores of the cluster that a study may use.
    """
    groups: dict[tuple[int, Mode], list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault((measurement.workers, measurement.mode or "processes"), []).append(measurement)
    sequential = groups.get((0, "processes"), [])
    points = [
        _summarise(trials, sequential, workers * cpus_per_task > physical_cores, seed)
        for (workers, _), trials in sorted(groups.items())
    ]
    if sequential:
        return points[0], points[1:]
    return None, points


def _summarise(
    trials: Sequence[Measurement], sequential: Sequence[Measurement], oversubscribed: bool, seed: int
) -> Point:
    timed = [trial for trial in trials if trial.timed]
    workers = trials[0].workers
    wall_s = [trial.wall_s for trial in timed]
    completed = [trial.completed for trial in timed]
    tasks = sum(trial.tasks for trial in timed)
    speedup = _speedup(sequential, timed, seed) if workers else None
    average = [trial.avg_concurrency for trial in timed if trial.avg_concurrency is not None]
    warm_up = [trial.warm_up_s for trial in timed if trial.warm_up_s is not None]
    return Point(
        workers=workers,
        repeats=len(timed),
        errors=tuple(trial.error or "it took no time that a clock can measure" for trial in trials if not trial.timed),
        wall_s=estimate_median(wall_s, seed=seed) if timed else None,
        speedup=speedup,
        efficiency=estimate_efficiency(speedup, workers) if speedup else None,
        tasks_per_s=estimate_throughput(completed, wall_s, seed=seed) if timed else None,
        success_rate=sum(completed) / tasks if tasks else None,
        warm_up_s=median(warm_up) if warm_up else None,
        avg_concurrency=median(average) if average else None,
        max_concurrency=max((t.max_concurrency for t in timed if t.max_concurrency is not None), default=None),
        digests=tuple(dict.fromkeys(trial.digest for trial in timed if trial.digest is not None)),
        served=min((trial.served for trial in trials if trial.served is not None), default=None),
        oversubscribed=oversubscribed,
        mode=trials[0].mode or "processes",
    )


def _speedup(sequential: Sequence[Measurement], parallel: Sequence[Measurement], seed: int) -> Estimate | None:
    sequential_s = [trial.wall_s for trial in sequential if trial.timed and trial.completed]
    parallel_s = [trial.wall_s for trial in parallel if trial.completed]
    if not sequential_s or not parallel_s:
        return None
    return estimate_speedup(sequential_s, parallel_s, seed=seed)
