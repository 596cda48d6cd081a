"""The pilot: tries some tasks of a batch in one process, and so tells how long the batch and its study will take."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from dfz_ray.scaling.sequential import SequentialProgram, TriedTask
from dfz_ray.scaling.study_plan import BASELINE, StudyPlan, Trial
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import Task

PILOT_S = 3.0
"""Seconds for which tasks are tried; the last one may take longer."""
MOST_TRIED = 200
"""No more tasks of a kind are tried."""
FAILURE_CHARACTERS = 300
"""The most characters of a failure that are told."""
RAY_NICENESS, NICEST = 15, 19
"""Ray makes its workers so much nicer than the process that starts it, unless RAY_worker_niceness says otherwise."""


@dataclass(frozen=True)
class KindTimes:
    """The tasks of one domain, kind and shape: how many there are, and how long those that were tried took."""

    domain: str
    kind: str
    resources: Resources
    count: int
    tried: int
    """At least one."""
    wall_s: float
    """Mean of the tasks that were tried."""
    longest_s: float
    cpu_s: float
    failed: int
    queued_s: float = 0.0
    """Mean of the times for which they waited for a free core."""
    failure: str = ""
    """The reason why the first of those that failed did."""


@dataclass(frozen=True)
class Pilot:
    """The findings of a pilot."""

    kinds: tuple[KindTimes, ...]

    @property
    def work_s(self) -> float:
        """The time that the whole batch takes in one process, if tasks take as long as those that were tried."""
        return sum(kind.count * kind.wall_s for kind in self.kinds)

    @property
    def cpu_s(self) -> float:
        """The CPU time of the whole batch."""
        return sum(kind.count * kind.cpu_s for kind in self.kinds)

    @property
    def cpu_share(self) -> float:
        """CPU time over run time: near 0 for tasks that wait."""
        run_s = self.work_s - sum(kind.count * kind.queued_s for kind in self.kinds)
        return self.cpu_s / run_s if run_s > 0 else 1.0

    @property
    def longest_s(self) -> float:
        """The longest task that was tried."""
        return max(kind.longest_s for kind in self.kinds)

    @property
    def tried(self) -> int:
        """The number of tasks that were tried."""
        return sum(kind.tried for kind in self.kinds)

    @property
    def failed(self) -> int:
        """The number of tasks that were tried and did not complete."""
        return sum(kind.failed for kind in self.kinds)

    def describe_failed(self) -> str:
        """How many of the tasks that were tried failed, and why the first of them did; empty if none has."""
        if not self.failed:
            return ""
        why = next((kind.failure.splitlines()[0][:FAILURE_CHARACTERS] for kind in self.kinds if kind.failure), "")
        return f"{self.failed} of the {self.tried} tasks that were tried failed{f': {why}' if why else ''}"

    def least_s(self, workers: int, cores: float, growth: int = 1) -> float:
        """The least time of so many workers for the batch, or for so many of it.

        No schedule takes less than an equal share for each worker, the longest task, or the cores' time for the work.
        """
        return max(growth * self.work_s / workers, self.longest_s, growth * self.cpu_s / cores)

    def most_s(self, workers: int, cores: float) -> float:
        """The most time that workers which never idle while a task waits need, without dispatch (Graham, 1969).

        Where workers outnumber the cores, tasks compute for as much longer.
        """
        more = max(0.0, workers / cores - 1)
        longest_s = max(
            kind.longest_s * (1 + more * (min(1.0, kind.cpu_s / kind.wall_s) if kind.wall_s else 1.0))
            for kind in self.kinds
        )
        return (self.work_s + more * self.cpu_s) / workers + (1 - 1 / workers) * longest_s


def expected_niceness() -> int:
    """The niceness of the workers of a Ray that this process starts."""
    given = os.environ.get("RAY_worker_niceness", "")  # noqa: SIM112 - Ray's own name
    return min(NICEST, os.nice(0) + (int(given) if given.isdigit() else RAY_NICENESS))


def run_pilot(batch: Batch, program: SequentialProgram, budget_s: float = PILOT_S) -> Pilot:
    """Try tasks of each kind in turn, spread over the batch, until the time is used up; of each kind at least one."""
    groups: dict[tuple[str, str, object], list[int]] = {}
    for position, task in enumerate(batch.tasks):
        groups.setdefault(_key(task), []).append(position)
    spread = [_spread(positions) for positions in groups.values()]
    turns = [
        position for turn in itertools.zip_longest(*spread) for position in turn if position is not None
    ]  # the first turn has a task of each kind
    tried = program.try_tasks(turns[: len(spread)], math.inf)
    used_s = sum(one.wall_s for one in tried)
    if len(turns) > len(spread) and used_s < budget_s:
        tried += program.try_tasks(turns[len(spread) :], budget_s - used_s)
    by_key: dict[tuple[str, str, object], list[TriedTask]] = {}
    for one in tried:
        by_key.setdefault(_key(batch.tasks[one.position]), []).append(one)
    return Pilot(tuple(_sum_up(batch.tasks[groups[key][0]], len(groups[key]), own) for key, own in by_key.items()))


def _key(task: Task) -> tuple[str, str, object]:
    return task.domain, task.kind, task.resources.key()


def _spread(positions: Sequence[int]) -> list[int]:
    """At most MOST_TRIED of these, such that the first ones are far apart."""
    chosen = [positions[len(positions) * at // MOST_TRIED] for at in range(min(MOST_TRIED, len(positions)))]
    chosen = list(dict.fromkeys(chosen if len(positions) > MOST_TRIED else positions))
    step = max(1, round(len(chosen) * (math.sqrt(5) - 1) / 2))
    while math.gcd(step, len(chosen)) > 1:
        step += 1
    return [chosen[at * step % len(chosen)] for at in range(len(chosen))]


def _sum_up(first: Task, count: int, tried: Sequence[TriedTask]) -> KindTimes:
    return KindTimes(
        first.domain,
        first.kind,
        first.resources,
        count,
        len(tried),
        sum(one.wall_s for one in tried) / len(tried),
        max(one.wall_s for one in tried),
        sum(one.cpu_s for one in tried) / len(tried),
        sum(not one.completed for one in tried),
        sum(one.queued_s for one in tried) / len(tried),
        next((one.failure for one in tried if not one.completed), ""),
    )


def predict_repeat_s(plan: StudyPlan, pilot: Pilot, cores: float) -> float:
    """The least time of the trials of one repeat of a study, without the start of workers and what is lost."""
    return sum(predict_trial_s(trial, plan, pilot, cores) for trial in plan.repeat(1))


def predict_trial_s(trial: Trial, plan: StudyPlan, pilot: Pilot, cores: float) -> float:
    """The least time of one of them."""
    if trial.workers == BASELINE:
        return pilot.work_s
    return pilot.least_s(trial.workers, cores, trial.workers if plan.scaling == "weak" else 1)
