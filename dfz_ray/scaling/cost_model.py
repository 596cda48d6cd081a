"""The cost model of a batch: what its trials say about tasks and overheads, as the virtual machine needs it.

A task waits and computes. The two are told apart by its CPU time, in trials in which each worker had a core. Trials of
other numbers of workers show how much slower tasks compute beside others.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.simulation.machine import BatchWork, MachineTimes

COMPUTES = 0.9
"""Tasks whose CPU time is more than this share of their run time do nothing but compute."""
LITTLE = 0.1
"""If tasks compute for less than this share of their run time, it is no matter whether they share cores."""
MANAGER_PRIOR = (0.03, 0.0009, 2.3e-6)
"""CPU seconds of the manager for a run, an exchange and a task, as they were on another machine."""
PRIOR_WEIGHT = 0.1
"""The weight of these beside one trial."""
SEND_TASK_S, PLACE_S, MESSAGE_S, CHUNK_S = 8e-6, 0.002, 0.0003, 0.002
"""Seconds for each task that the driver sends, each lease that Ray places, a message and a chunk, where trials do not
show them; as they were on another machine."""


class MeasuredKind(NamedTuple):
    """The tasks of a kind as they were measured; one value for each group of tasks that took about as long."""

    name: str
    lane: int
    counts: np.ndarray[Any, np.dtype[np.int64]]
    wait_s: np.ndarray[Any, np.dtype[np.float64]]
    cpu_s: np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class CostModel:
    """All that trials say about a batch."""

    tasks: int
    kinds: Sequence[MeasuredKind]
    slower: Sequence[tuple[int, float]]
    """Numbers of workers, each with the time that tasks compute there relative to the smallest number."""
    times: MachineTimes
    open_s: float
    """From the call until the manager has the first tasks."""
    close_s: float
    """From the last commit until the results are in hand."""
    cores: int
    """The physical cores that the workers of these trials shared."""
    measured: Sequence[int]
    """The numbers of workers of the trials."""
    sequential_s: float
    """The batch, one task after the other: as measured where all of them completed, else the sum of their times."""
    assumptions: Sequence[str]
    """The facts that the trials do not show, and the assumptions in their place; a sentence each."""

    def draw_work(self, tasks: int, workers: int, seed: int) -> BatchWork:
        """Draw a batch of so many tasks, of the measured kinds in their measured shares, in a random order."""
        draw = np.random.default_rng(seed)
        shares = np.array([kind.counts.sum() for kind in self.kinds], dtype=float)
        edges = np.rint(np.cumsum(shares) / shares.sum() * tasks).astype(int)
        kind_of = np.repeat(np.arange(len(self.kinds)), np.diff(edges, prepend=0))
        wait_s, cpu_s = np.zeros(tasks), np.zeros(tasks)
        for number, kind in enumerate(self.kinds):
            mine = np.flatnonzero(kind_of == number)
            # Each group in its share, as evenly as numbers of tasks allow: only the order is left to chance.
            places = (draw.permutation(len(mine)) + draw.random()) / max(len(mine), 1)
            group = np.searchsorted(np.cumsum(kind.counts) / kind.counts.sum(), places, side="right")
            group = np.minimum(group, len(kind.counts) - 1)
            wait_s[mine], cpu_s[mine] = kind.wait_s[group], kind.cpu_s[group]
        order = draw.permutation(tasks)
        cpu_s *= self.find_slowness(workers)
        return BatchWork([(kind.name, kind.lane) for kind in self.kinds], kind_of[order], wait_s[order], cpu_s[order])

    def find_slowness(self, workers: int) -> float:
        """How much longer tasks compute beside so many workers; beyond what was measured, as at the nearest number."""
        counts, factors = zip(*self.slower, strict=True)
        return float(np.interp(np.log(workers), np.log(counts), factors))


def fit_costs(trials: Sequence[Measurement], cores: int) -> CostModel:
    """Fit a model to trials of one batch; those that failed, ran on threads or lost a worker are left out.

    Raises InvalidInput if they do not tell what a prediction needs.
    """
    used = [one for one in trials if is_usable(one)]
    if not used:
        found = f"no trial with the times of its tasks{_describe_lossy(trials)}"
        raise _refuse(found, "a trial on processes that lost no task and no worker")
    by_workers = {
        workers: list(group)
        for workers, group in itertools.groupby(sorted(used, key=lambda one: one.workers), lambda one: one.workers)
    }
    sizes = sorted({one.tasks for one in used})
    if len(sizes) > 1 and len({one.tasks / one.workers for one in used}) == 1:
        raise _refuse(
            f"batches that grow with the workers, from {sizes[0]} to {sizes[-1]} tasks", "a study without --weak"
        )
    fewest = min(by_workers)
    base = by_workers[fewest]
    assumptions: list[str] = []
    kinds = _pool_kinds([one.profile["kinds"] for one in base if one.profile])
    cpu_share = sum(_cpu_s(one) for one in base) / sum(_run_s(one) for one in base)
    if fewest > cores and cpu_share > LITTLE:
        found = f"no trial with fewer than {fewest} workers, which share {cores} cores"
        raise _refuse(found, f"one with at most {cores}: else tasks that wait can't be told from tasks without a core")
    roomy = [one for one in used if one.workers <= cores or cpu_share <= LITTLE]
    exchange_s, report_task_s = _fit_manager(used, assumptions)
    times, late_s = _fit_times(used, roomy, exchange_s, report_task_s, assumptions)
    if len(by_workers) == 1:
        assumptions.append(
            f"only one number of workers ({fewest}) was measured: tasks are taken to be no slower beside more"
        )
    whole = [one for one in trials if not one.workers and one.timed and one.completed == one.tasks]
    sequential = [one.wall_s * base[0].tasks / one.tasks for one in whole]  # with weak scaling the batch has grown
    return CostModel(
        tasks=base[0].tasks,
        kinds=kinds,
        slower=_find_slower(by_workers, cores, cpu_share),
        times=times,
        open_s=median(_profile(one)["open_s"] for one in roomy) + late_s,
        close_s=median(_profile(one)["close_s"] for one in roomy),
        cores=cores,
        measured=sorted(by_workers),
        sequential_s=median(sequential) if sequential else median(_run_s(one) for one in base),
        assumptions=assumptions,
    )


def _refuse(found: str, expected: str) -> InvalidInput:
    return InvalidInput([Problem("trials", found, expected, "measure it: dfz scale --workers N")], "prediction")


def _describe_lossy(trials: Sequence[Measurement]) -> str:
    """How many trials with workers lost tasks, if any did: their work is not that of the batch."""
    ended = [one for one in trials if one.workers and one.timed]
    lossy = [one for one in ended if one.completed < one.tasks]
    if not lossy:
        return ""
    first = lossy[0]
    return f": {len(lossy)} of {len(ended)} trials lost tasks ({first.tasks - first.completed} of {first.tasks} in one)"


def is_usable(trial: Measurement) -> bool:
    """True if a trial tells how the batch does on its workers: on processes, without a lost task or worker."""
    return (
        trial.workers > 0
        and trial.timed
        and trial.profile is not None
        and trial.mode != "threads"
        and trial.completed == trial.tasks
        and not trial.workers_lost
        and (trial.served is None or trial.served >= trial.workers)
    )


def _profile(trial: Measurement) -> dict[str, Any]:
    return trial.profile or {}


def _run_s(trial: Measurement) -> float:
    return float(sum(count * run_s for kind in _profile(trial)["kinds"] for count, run_s, _ in kind["groups"]))


def _cpu_s(trial: Measurement) -> float:
    return float(sum(count * cpu_s for kind in _profile(trial)["kinds"] for count, _, cpu_s in kind["groups"]))


def _pool_kinds(profiles: Sequence[Sequence[dict[str, Any]]]) -> list[MeasuredKind]:
    """The kinds of several trials of one batch, with the tasks of all of them."""
    pooled: dict[tuple[str, int], list[Sequence[float]]] = {}
    for kinds in profiles:
        for kind in kinds:
            pooled.setdefault((kind["name"], kind["lane"]), []).extend(kind["groups"])
    found = []
    for (name, lane), groups in pooled.items():
        counts, run_s, cpu_s = np.array(sorted(groups, key=lambda group: group[1]), dtype=float).T
        busy = counts @ cpu_s / (counts @ run_s) if counts @ run_s else 1.0
        cpu_s = run_s if busy > COMPUTES else np.minimum(cpu_s, run_s)
        found.append(MeasuredKind(name, lane, counts.astype(int), run_s - cpu_s, cpu_s))
    return found


def _find_slower(by_workers: dict[int, list[Measurement]], cores: int, cpu_share: float) -> list[tuple[int, float]]:
    """The time that tasks compute at each number of workers, relative to the smallest.

    Where each worker has a core, tasks that do nothing but compute show it by their run times, which have the time that
    other systems on the host take from them. Beyond, their CPU times alone show it.
    """
    found: list[tuple[int, float]] = []
    last = 1.0, median(_cpu_s(one) for one in by_workers[min(by_workers)])
    base_run_s = median(_run_s(one) for one in by_workers[min(by_workers)])
    base_cpu_s = last[1]
    for workers, trials in by_workers.items():
        cpu_s = median(_cpu_s(one) for one in trials)
        if workers <= cores and cpu_share > COMPUTES:
            factor = median(_run_s(one) for one in trials) / base_run_s
            last = factor, cpu_s
        elif cpu_share > COMPUTES:
            factor = last[0] * cpu_s / last[1] if last[1] else 1.0
        else:
            factor = cpu_s / base_cpu_s if base_cpu_s else 1.0
        found.append((workers, max(factor, 1e-3)))
    return found


def _fit_manager(trials: Sequence[Measurement], assumptions: list[str]) -> tuple[float, float]:
    """The manager's CPU seconds for an exchange and for a task, by least squares on relative errors.

    The values of another machine have a small weight: they decide only what the trials do not.
    """
    from scipy.optimize import nnls

    rows = [(one.tasks, *_profile(one)["manager"]) for one in trials if _profile(one)["manager"]]
    if not rows:
        assumptions.append("the manager's CPU time was not measured: that of another machine is taken")
        return MANAGER_PRIOR[1:]
    causes = np.array([[1.0, exchanges, tasks] for tasks, _, exchanges in rows])
    spent = np.array([max(cpu_s, 1e-3) for _, cpu_s, _ in rows])

    def fit(prior: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        left = np.vstack([causes / spent[:, None], PRIOR_WEIGHT * np.diag(1 / prior)])
        found: np.ndarray[Any, Any] = nnls(left, np.concatenate([np.ones(len(rows)), np.full(3, PRIOR_WEIGHT)]))[0]
        return found

    prior = np.array(MANAGER_PRIOR)
    costs, moved = fit(prior), fit(prior * [1.0, 2.0, 1.0])
    if moved[1] > 1.25 * costs[1]:
        assumptions.append("the trials can't tell what an exchange costs the manager from what a run or a task does")
    return float(costs[1]), float(costs[2])


def _fit_times(
    used: Sequence[Measurement],
    roomy: Sequence[Measurement],
    exchange_s: float,
    report_task_s: float,
    assumptions: list[str],
) -> tuple[MachineTimes, float]:
    """The overheads; and how much later the first lease of a run begins than later ones do."""

    def pool(name: str, trials: Sequence[Measurement] = roomy) -> list[float]:
        return [value for one in trials for value in np.atleast_1d(_profile(one)[name]).tolist()]

    ahead, asked = pool("ahead_gap_s"), pool("asked_gap_s")
    chunk_s = ahead or ([CHUNK_S] if not asked else [min(CHUNK_S, median(asked) / 2)])
    per_chunk = fmean(one.tasks / _profile(one)["chunks"] for one in roomy)
    served_s = exchange_s + report_task_s * per_chunk
    rests = [max(0.0, (gap - served_s - median(chunk_s)) / 2) for gap in asked]
    message_s = rests or [MESSAGE_S]
    if not ahead and not asked:
        assumptions.append("no worker had two chunks: the time between them is that of another machine")
    way_s = 2 * median(message_s) + exchange_s + median(chunk_s)
    firsts = [min(_profile(one)["start_s"]) for one in roomy]
    renewals = [max(0.0, gap - way_s - median(message_s) - served_s) for gap in pool("renew_s")]
    start_s = renewals or [max(0.0, first - way_s) for first in firsts]
    late_s = max(0.0, median(firsts) - way_s - median(start_s)) if renewals else 0.0
    slopes = [
        (_profile(one)["start_s"][-1] - _profile(one)["start_s"][0]) / (min(one.workers, one.tasks) - 1)
        for one in used
        if min(one.workers, one.tasks) > 1 and len(_profile(one)["start_s"]) > 1
    ]
    if not slopes:
        assumptions.append(
            "in no trial did two workers work: how fast leases start after each other is that of another machine"
        )
    sent = [value for one in used if (value := _profile(one)["send_task_s"]) is not None]
    if not sent:
        assumptions.append("no trial had more than 500 tasks: the time to send more is that of another machine")
    commit_s = [max(0.0, value - median(message_s) - served_s) for value in pool("commit_s")]
    place_s = max(0.0, median(slopes)) if slopes else PLACE_S
    send_task_s = median(sent) if sent else SEND_TASK_S
    return MachineTimes(start_s, place_s, message_s, chunk_s, commit_s, exchange_s, report_task_s, send_task_s), late_s
