"""A point of a study: all trials with one number of workers, summed up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, median_high
from typing import Any, NamedTuple

from dfz_ray.scaling.estimate import Estimate, bound_ratios, estimate_efficiency, estimate_median, estimate_speedup
from dfz_ray.scaling.losses import is_manager_full, split_losses, split_slower_work
from dfz_ray.scaling.measurement import Measurement, Mode
from dfz_ray.scaling.steadiness import are_independent

MOST_PROVED = 60
"""A proof that would take more repeats than this is not told."""
LOAD_FADES_S = 60.0
"""Linux's 1-minute load average is an exponential mean: a load fades in it to a part of 1/e in so many seconds."""
OWN_LOAD = 1.0
"""The load that a study has beside its tasks: the driver, the manager, and Ray."""
OTHER_CPU_TIME = (
    "on threads a task's CPU time is that of its own thread alone, in the sequential program also that of native "
    "thread pools and of programs that it calls"
)
"""The reason why on threads slower work has no parts, and tasks have no share of CPU time."""


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
    """Of the trials that completed as many tasks as the best ones: less work is not faster work. None where there are
    none, or the sequential program surely completed fewer. With weak scaling it is the scaled one: how many times
    longer the sequential program would take for the grown batch."""
    least_speedup: float | None = None
    """The speedup surely exceeds it, also after a look at all points (`bound_ratios`); None: too few repeats."""
    answered: int = 0
    """The repeats whose digests count."""
    comparisons: int = 1
    """The points of the study, all of which are compared with the sequential program."""
    efficiency: Estimate | None
    tasks_per_s: Estimate | None
    success_rate: float | None
    """Completed tasks over all tasks, of all repeats together."""
    warm_up_s: float | None
    avg_concurrency: float | None
    max_concurrency: int | None
    digests: tuple[str, ...]
    """The different digests of the repeats that completed all tasks; one alone where the answers were always the same.
    Those of other repeats count only if all of the study have the same one: a lost task is no other answer."""
    served: int | None
    """The fewest slots that the cluster could run at once in any repeat."""
    oversubscribed: bool
    """True if the workers ask for more CPUs than there are physical cores."""
    mode: Mode = "processes"
    rates: tuple[float, ...] = ()
    """Completed tasks per second of each repeat that completed as many tasks as the best ones: others did less work."""
    tasks: int = 0
    """The tasks of all repeats together."""
    lost: int = 0
    """Those of them that did not complete."""
    loses_more: bool = False
    """True if its repeats surely complete a smaller share of the tasks than the sequential program, or the best point;
    else chance may have lost them."""
    repeats_to_prove: int | None = None
    """If no repeat completed as many tasks as the best ones: the repeats that would prove it, were further ones alike;
    None: it is proven, or nobody would make as many."""
    losses: Mapping[str, float] | None = None
    """Slot-seconds by the names of `losses.ADVICE`, of the repeat with the median wall time."""
    busiest_s: float | None = None
    """The seconds in which its busiest slot executed attempts."""
    losses_lost: int = 0
    """The tasks that this repeat did not complete: no repeat of the study typically completes more."""
    slower: Mapping[str, float] | None = None
    """Its slower work by the names of `losses.SLOWER`; None where CPU times can't be compared."""
    slower_reason: str | None = None
    """The reason why they can't."""
    handling_s: float = 0.0
    """The part of its dispatch that is the handling of tasks."""
    manager_full: bool = False
    """True if its workers waited for a manager that could not keep up, as far as that was measured."""
    cpu_share: float | None = None
    """CPU time of the tasks over their run time: near 0 for tasks that wait. None on threads, see OTHER_CPU_TIME."""
    workers_lost: int | None = None
    """The workers that died, in all repeats together."""
    load: float | None = None
    """The highest load average of the host just before a repeat."""
    other_load: float | None = None
    """The highest load average before a repeat, less what the study's own trials have left of theirs in it."""
    core_hours: Estimate | None = None
    """Cores that the workers hold, times the wall time; with weak scaling for one batch that has not grown. Workers
    whose tasks declare no CPU hold one core together, and the sequential program holds one at least."""
    walls_s: tuple[float, ...] = ()
    """The wall time of each repeat."""
    batches: float = 1.0
    """How many times its trials have the tasks of the sequential program: above 1 with weak scaling."""

    @property
    def digest(self) -> str | None:
        """The digest of all repeats, None if they differ or have none."""
        return self.digests[0] if len(self.digests) == 1 else None

    @property
    def typically_complete(self) -> bool:
        """True if its typical repeat completed as many tasks as the best ones: medians are then of the same work."""
        return 2 * len(self.rates) >= self.repeats > 0

    @property
    def underserved(self) -> bool:
        """True if the cluster could not run all slots at once."""
        return self.served is not None and self.served < self.workers


def estimate_points(
    measurements: Iterable[Measurement], *, physical_cores: int, cpus_per_task: float
) -> tuple[Point | None, list[Point]]:
    """Sum up a study: the baseline (None if it was not measured), and the points by their number of workers, and mode.

    `cpus_per_task` is the most that a task declares, `physical_cores` the cores of the cluster that a study may use.
    """
    in_order = sorted(measurements, key=lambda one: one.order)
    groups = _group(in_order)
    sequential = groups.get((0, "processes"), [])
    timed = _list_timed(groups)
    study = _Study(
        sequential,
        physical_cores,
        cpus_per_task,
        comparisons=max(1, sum(workers > 0 for workers, _ in groups)),
        other_loads=_find_other_loads(in_order, _cpu_share(sequential)),
        share=_find_share(timed),
        best=max(timed, key=lambda trials: _success_rate(trials) or 0.0, default=[]),
        has_one_digest=len({trial.digest for trials in timed for trial in trials} - {None}) == 1,
        is_steady=is_steady(in_order),
    )
    points = [_summarise(trials, study) for _, trials in sorted(groups.items())]
    if sequential:
        return points[0], points[1:]
    return None, points


def is_steady(measurements: Iterable[Measurement]) -> bool:
    """True if the trials of a study look independent: else a median has no interval."""
    in_order = sorted(measurements, key=lambda one: one.order)
    return are_independent([((one.workers, one.mode), one.wall_s) for one in in_order if one.timed])


class _Study(NamedTuple):
    """The facts of a study that each of its points needs."""

    sequential: Sequence[Measurement]
    physical_cores: int
    cpus_per_task: float
    comparisons: int
    """The points that are compared with the sequential program."""
    other_loads: Mapping[int, float]
    """By the order of a trial."""
    share: float
    """The share of the tasks that the typical trial completes, where that is most: a trial counts from it on."""
    best: Sequence[Measurement]
    """The trials of the sequential program, or of the point, that lose the smallest share of their tasks."""

    has_one_digest: bool
    """True if all trials with a digest have the same one."""
    is_steady: bool
    """True if its trials look independent."""

    def estimate(self, values: Sequence[float]) -> Estimate:
        """The median of what was measured in repeats of this study."""
        found = estimate_median(values)
        return found if self.is_steady else Estimate(found.value, None)

    def list_digests(self, timed: Sequence[Measurement]) -> list[str]:
        """See `Point.digests`."""
        counting = timed if self.has_one_digest else [trial for trial in timed if trial.completed == trial.tasks]
        return [trial.digest for trial in counting if trial.digest is not None]

    def as_complete(self, trials: Sequence[Measurement]) -> list[Measurement]:
        """Those trials of a point whose times are of as many tasks as those of others.

        Where the typical trial completes nothing, one that does says little of the point.
        """
        timed = [trial for trial in trials if trial.timed]
        if not timed or not median_high(map(_share, timed)):
            return []
        return [trial for trial in timed if _is_complete(trial, self.share)]

    def loses_more(self, timed: Sequence[Measurement]) -> bool:
        """True if the trials of a point surely complete a smaller share of the tasks than the best ones."""
        return bool(timed and self.best) and self._proves_loss(timed, 1)

    def repeats_to_prove(self, timed: Sequence[Measurement]) -> int | None:
        """See `Point.repeats_to_prove`: the trials are counted several times until they prove that the point loses."""
        if not timed or self.as_complete(timed) or self.loses_more(timed):
            return None
        times = next((n for n in range(2, MOST_PROVED // len(timed) + 1) if self._proves_loss(timed, n)), None)
        return times and times * len(timed)

    def _proves_loss(self, timed: Sequence[Measurement], times: int) -> bool:
        # One more task, so that no share is 0.
        most, mine = (
            times * [(one.completed + 1) / (one.tasks + 1) for one in trials] for trials in (self.best, timed)
        )
        (least,) = bound_ratios([most], [mine], self.comparisons)
        return least is not None and least > 1


def _summarise(trials: Sequence[Measurement], study: _Study) -> Point:
    timed = [trial for trial in trials if trial.timed]
    workers = trials[0].workers
    walls_s = tuple(trial.wall_s for trial in timed)
    rates = [trial.completed / trial.wall_s for trial in timed]
    lost = [trial.workers_lost for trial in trials if trial.workers_lost is not None]
    speedup, least = _speedup(study, timed) if workers else (None, None)
    average = [trial.avg_concurrency for trial in timed if trial.avg_concurrency is not None]
    warm_up = [trial.warm_up_s for trial in timed if trial.warm_up_s is not None]
    digests = study.list_digests(timed)
    cpus = workers * study.cpus_per_task if workers else max(1.0, study.cpus_per_task)
    return Point(
        workers=workers,
        repeats=len(timed),
        errors=tuple(trial.error or "it took no time that a clock can measure" for trial in trials if not trial.timed),
        wall_s=study.estimate(walls_s) if timed else None,
        speedup=speedup,
        least_speedup=least,
        comparisons=study.comparisons,
        efficiency=estimate_efficiency(speedup, workers) if speedup else None,
        tasks_per_s=study.estimate(rates) if timed else None,
        success_rate=_success_rate(timed),
        warm_up_s=median(warm_up) if warm_up else None,
        avg_concurrency=median(average) if average else None,
        max_concurrency=max((t.max_concurrency for t in timed if t.max_concurrency is not None), default=None),
        digests=tuple(dict.fromkeys(digests)),
        answered=len(digests),
        served=min((trial.served for trial in trials if trial.served is not None), default=None),
        oversubscribed=workers * study.cpus_per_task > study.physical_cores,
        mode=trials[0].mode or "processes",
        rates=tuple(trial.completed / trial.wall_s for trial in study.as_complete(timed)),
        tasks=sum(trial.tasks for trial in timed),
        lost=sum(trial.tasks - trial.completed for trial in timed),
        loses_more=study.loses_more(timed),
        repeats_to_prove=study.repeats_to_prove(timed),
        cpu_share=None if trials[0].mode == "threads" else _cpu_share(timed),
        workers_lost=sum(lost) if lost else None,
        load=max((trial.load for trial in trials if trial.load is not None), default=None),
        other_load=max((study.other_loads[t.order] for t in trials if t.order in study.other_loads), default=None),
        core_hours=_core_hours(timed, min(cpus, study.physical_cores) or 1.0, study),
        walls_s=walls_s,
        batches=_growth(timed, study.sequential),
        **_losses(timed, study),
    )


def find_comparable(baseline: Point | None) -> Point | None:
    """The sequential program, if it completed as many tasks as the points did; else None.

    Each of its tasks has one attempt, so it may lose tasks that workers complete at another one.
    """
    return baseline if baseline and baseline.rates and not baseline.loses_more else None


def _share(trial: Measurement) -> float:
    return trial.completed / trial.tasks if trial.tasks else 0.0


def _success_rate(timed: Sequence[Measurement]) -> float | None:
    tasks = sum(trial.tasks for trial in timed)
    return sum(trial.completed for trial in timed) / tasks if tasks else None


def _cpu_share(trials: Sequence[Measurement]) -> float | None:
    """CPU time of the tasks over their run time, less that in which they waited for a core, of all trials together."""
    known = [trial for trial in trials if trial.timed and trial.busy_s and trial.cpu_s is not None]
    busy_s = sum((trial.busy_s or 0.0) - (trial.queued_s or 0.0) for trial in known)
    return sum(trial.cpu_s or 0.0 for trial in known) / busy_s if busy_s > 0 else None


def _find_other_loads(in_order: Sequence[Measurement], cpu_share: float | None) -> dict[int, float]:
    """The load before each trial, less what the trials before it have left of theirs in the 1-minute average."""
    share = 1.0 if cpu_share is None else cpu_share
    found = {}
    for trial in in_order:
        if trial.load is None:
            continue
        own = sum(_leave_load(one, trial.started_at, share) for one in in_order if one.order < trial.order)
        found[trial.order] = max(0.0, trial.load - own)
    return found


def _leave_load(trial: Measurement, later: float, share: float) -> float:
    """The load that a trial has left in the 1-minute average at a later time, in Unix seconds.

    In its warm-up every worker computes, whatever the tasks do: processes start, and import.
    """
    warm_up_s, workers = trial.warm_up_s or 0.0, max(trial.workers, 1)
    age_s = max(0.0, later - trial.started_at - warm_up_s - trial.wall_s)
    warm_up = (OWN_LOAD + workers) * -math.expm1(-warm_up_s / LOAD_FADES_S) * math.exp(-trial.wall_s / LOAD_FADES_S)
    batch = (OWN_LOAD + share * workers) * -math.expm1(-trial.wall_s / LOAD_FADES_S)
    return (warm_up + batch) * math.exp(-age_s / LOAD_FADES_S)


def _growth(trials: Sequence[Measurement], sequential: Sequence[Measurement]) -> float:
    """How many times the tasks of the sequential program these trials have: above 1 with weak scaling."""
    return trials[0].tasks / sequential[0].tasks if trials and sequential and sequential[0].tasks else 1.0


def _core_hours(timed: Sequence[Measurement], cores: float, study: _Study) -> Estimate | None:
    if not timed:
        return None
    growth = _growth(timed, study.sequential)
    return study.estimate([cores * trial.wall_s / growth / 3600 for trial in timed])


def find_complete(measurements: Iterable[Measurement]) -> list[Measurement]:
    """The trials of a study that completed as many of their tasks as the typical trial does where that is most."""
    everyone = list(measurements)
    share = _find_share(_list_timed(_group(everyone)))
    return [trial for trial in everyone if _is_complete(trial, share)]


def _group(measurements: Iterable[Measurement]) -> dict[tuple[int, Mode], list[Measurement]]:
    groups: dict[tuple[int, Mode], list[Measurement]] = {}
    for one in measurements:
        groups.setdefault((one.workers, one.mode or "processes"), []).append(one)
    return groups


def _list_timed(groups: Mapping[tuple[int, Mode], Sequence[Measurement]]) -> list[list[Measurement]]:
    return [[trial for trial in trials if trial.timed] for _, trials in sorted(groups.items())]


def _find_share(timed: Sequence[Sequence[Measurement]]) -> float:
    return max((median_high(map(_share, trials)) for trials in timed if trials), default=1.0)


def _is_complete(trial: Measurement, share: float) -> bool:
    return trial.timed and trial.completed > 0 and _share(trial) >= share


def median_trial(trials: Iterable[Measurement]) -> Measurement | None:
    """The trial with the median wall time (the lower one of two)."""
    in_order = sorted(trials, key=lambda trial: trial.wall_s)
    return in_order[(len(in_order) - 1) // 2] if in_order else None


def _losses(trials: Sequence[Measurement], study: _Study) -> dict[str, Any]:
    """The losses of one repeat, so that they add up."""
    sequential = study.sequential
    whole = [trial for trial in study.as_complete(sequential) if trial.busy_s]
    middle = median_trial(trial for trial in study.as_complete(trials) if trial.split is not None)
    if middle is None or middle.split is None or not whole:
        return {}
    growth = _growth(trials, sequential)
    losses = split_losses(middle.split, growth * median(trial.busy_s or 0.0 for trial in whole))
    cpu_s = [trial.cpu_s for trial in whole if trial.cpu_s is not None]
    slower, reason = None, None
    if middle.mode == "threads":
        reason = OTHER_CPU_TIME
    elif not cpu_s or middle.cpu_s is None:
        reason = "CPU times were not measured"
    else:
        slower = split_slower_work(losses["slower_work"], middle.cpu_s - growth * median(cpu_s))
    return {
        "losses": losses,
        "busiest_s": middle.busiest_s,
        "losses_lost": middle.tasks - middle.completed,
        "slower": slower,
        "slower_reason": reason,
        "handling_s": middle.split["handling"],
        "manager_full": bool(middle.wall_s) and is_manager_full(middle.profile or {}, middle.workers, middle.wall_s),
    }


def _speedup(study: _Study, parallel: Sequence[Measurement]) -> tuple[Estimate | None, float | None]:
    """The speedup, and the number that it surely exceeds."""
    sequential_s = [trial.wall_s for trial in study.as_complete(study.sequential)]
    parallel_s = [trial.wall_s for trial in study.as_complete(parallel)]
    loses_more = study.loses_more([trial for trial in study.sequential if trial.timed])
    if not sequential_s or not parallel_s or loses_more:
        return None, None
    grown_s = [_growth(parallel, study.sequential) * wall_s for wall_s in sequential_s]
    (least,) = bound_ratios([grown_s], [parallel_s], study.comparisons)
    return estimate_speedup(grown_s, parallel_s), least
