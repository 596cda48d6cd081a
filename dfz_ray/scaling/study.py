"""A study: runs every trial of a plan, one after the other.

A trial with workers is a call of the library's `run` on the whole batch, in a new run folder. Its wall time lasts from
the call until `run` returns its Results: opening the run, sending the tasks, executing them, every result on disk, and
the list of results read back. The workers are warm and the batch is checked before the clock starts.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dfz_ray.client import begin_checked, wait_for_results
from dfz_ray.driver.connection import connect
from dfz_ray.driver.cores import usable_cores
from dfz_ray.driver.manager_actor import read_usage
from dfz_ray.driver.slot_plan import plan_slots
from dfz_ray.driver.warm_up import WarmUp, warm_workers
from dfz_ray.errors import DfzError
from dfz_ray.journal.executions import Executed, count_lost_workers, read_attempted
from dfz_ray.journal.reader import JournalReader
from dfz_ray.manager.nodes import cpus_by_host, live_nodes
from dfz_ray.results import Results
from dfz_ray.scaling.estimate import Estimate
from dfz_ray.scaling.hosts import count_cores, describe_hosts
from dfz_ray.scaling.losses import find_busiest_s, split_time
from dfz_ray.scaling.measurement import Measurement, append_measurement
from dfz_ray.scaling.pilot import Pilot
from dfz_ray.scaling.point import estimate_points
from dfz_ray.scaling.recommendation import verdict_ratio
from dfz_ray.scaling.sequential import SequentialProgram, make_job, take_samples
from dfz_ray.scaling.stopping import Stopping
from dfz_ray.scaling.study_plan import BASELINE, StudyPlan, Trial
from dfz_ray.scaling.time_limit import decide_step, describe_unmeasured, expect_trial_s
from dfz_ray.scaling.timeline import make_timeline
from dfz_ray.scaling.trial_profile import Usage, profile_trial
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.encoding import run_digest
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.settings import Settings
from dfz_ray.specs.states import UNSUCCESSFUL, State


class Study:
    """Measures the trials of a plan; a context manager. An embedded Ray gets the CPUs that the largest point needs.

    A program that has tried tasks of the batch already can become that of the baseline; the study ends it. The pilot
    tells how long a trial takes of which there was none.
    """

    def __init__(
        self,
        plan: StudyPlan,
        settings: Settings,
        facts: Mapping[str, Any],
        address: str | None = None,
        program: SequentialProgram | None = None,
        pilot: Pilot | None = None,
    ) -> None:
        self.facts = dict(facts)
        """The facts about host, cluster, versions and plan, as each measurement has them."""
        self.plan = plan
        self._settings = settings
        self._address = address or settings.address
        most = max(plan.worker_counts)
        self._idle_workers = max(usable_cores(), math.ceil(most * plan.cpus_per_task))
        self._program = program
        self._pilot = pilot
        self._measured: Sequence[Measurement] = ()
        connect(self._address, logical_cpus=self._idle_workers)
        self.facts["cluster"] = ", ".join(sorted(f"{host} with {cpus:g} CPUs" for host, cpus in cpus_by_host()))
        self._samples = take_samples(plan.batch)
        self._kinds = [f"{task.domain}: {task.kind}" for task in plan.batch.tasks]
        self._base_ids = [task.id for task in plan.batch.tasks]
        self._is_settled = False
        """True once the program is known to be as nice as Ray's workers."""
        self.why_ended = ""
        """The reason why the study has no further trial."""

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._program is not None:
            self._program.__exit__(*exception)

    def measure(
        self, file: Path, stopping: Stopping, measured: Sequence[Measurement] = (), time_limit_s: float | None = None
    ) -> Iterator[Measurement]:
        """Run the trials in the plan's order; each measurement is appended to the file as its trial ends.

        The trials that were `measured` before are left out. `why_ended` says why no further trial follows. The plan may
        get further worker counts after the first repeat. A point whose first trial would end after the limit is left
        out, and `remarks` name it.
        """
        ends_at = time.monotonic() + (math.inf if time_limit_s is None else time_limit_s)
        limit = f"the time limit of {time_limit_s or 0:g} s is reached"
        everything = self._measured = list(measured)
        known = {(one.workers, one.mode, one.repeat) for one in measured}
        for repeat in itertools.count():
            for trial in self._trials(repeat, everything):
                if (trial.workers, None if trial.workers == BASELINE else trial.mode, repeat) in known:
                    continue
                expected_s = expect_trial_s(trial, everything, self.plan, self._pilot, self.physical_cores)
                step = decide_step(trial, everything, expected_s, ends_at - time.monotonic())
                if step == "end":
                    self.why_ended = limit
                    return
                if step == "leave out":
                    continue
                measurement = dataclasses.replace(self._measure(trial), study=self.facts)
                append_measurement(file, measurement)
                everything.append(measurement)
                yield measurement
            if not everything:
                self.why_ended = limit
                return
            verdict = find_verdict(everything, repeat, self.plan, self.physical_cores)
            self.why_ended = stopping.why_end(repeat + 1, verdict)
            if self.why_ended:
                return

    def _trials(self, repeat: int, measured: Sequence[Measurement]) -> Iterator[Trial]:
        """The trials of a repeat; those of counts that join where the curve bends follow at the end of the first."""
        yield from self.plan.repeat(repeat)
        if repeat == 0 and self.plan.finds_bend and not self.plan.added:
            begun = len(self.plan.repeat(0))
            self.plan = self.plan.refine(measured)
            yield from self.plan.repeat(0)[begun:]

    @property
    def physical_cores(self) -> int:
        """The physical cores of the cluster: of this host those that may be used, of other hosts Ray's CPUs."""
        return count_cores(cpus_by_host(), str(self.facts["hostname"]), int(self.facts["physical_cores"]))

    @property
    def remarks(self) -> list[str]:
        """Remarks on the cluster, and on points that were never measured, a sentence each."""
        unmeasured = describe_unmeasured(self.plan, self._measured, self._pilot, self.physical_cores)
        return [*describe_hosts(cpus_by_host(), self.physical_cores), *unmeasured]

    def _measure(self, trial: Trial) -> Measurement:
        started_at, load = time.time(), os.getloadavg()[0]
        try:
            measured = self._run_sequential() if trial.workers == BASELINE else self._run(trial)
        except DfzError as error:
            measured = {"wall_s": time.time() - started_at, "error": str(error)}
        return Measurement(
            kind="baseline" if trial.workers == BASELINE else "point",
            workers=trial.workers,
            repeat=trial.repeat,
            order=trial.order,
            tasks=len(self.plan.batch_for(trial.workers).tasks),
            mode=None if trial.workers == BASELINE else trial.mode,
            started_at=started_at,
            load=load,
            **measured,
        )

    def _run_sequential(self) -> dict[str, Any]:
        program = self._program
        is_new = program is None or not self._is_settled
        if program is None or is_new:
            niceness = self._warm(1).niceness
            if program is not None and program.niceness != niceness:
                program.__exit__()
                program = None
            program = self._program = program or SequentialProgram(make_job(self.plan.batch, niceness))
        try:
            warm_up_s = program.warm_up() if is_new else None
            self._is_settled = True
            made = program.run()
        except DfzError:
            self._program = None  # its process died: the next trial starts another one
            raise
        began_at = min((one.began_at for one in made.executed), default=0.0)
        return {
            "timeline": make_timeline(made.executed, self._kinds, began_at, made.wall_s, 1),
            "wall_s": made.wall_s,
            "warm_up_s": warm_up_s,
            "completed": made.completed,
            "failed": made.failed,
            "digest": made.digest,
            "avg_concurrency": made.busy_s / made.wall_s if made.wall_s else None,
            "max_concurrency": 1,
            "busy_s": made.busy_s,
            "cpu_s": made.cpu_s,
            "queued_s": made.queued_s,
            "domains": made.domains,
            "thread_settings": made.thread_settings,
        }

    def _run(self, trial: Trial) -> dict[str, Any]:
        batch = self.plan.batch_for(trial.workers)
        config = RunConfig(
            settings=self._settings,
            max_workers=trial.workers,
            address=self._address,
            use_threads=trial.mode == "threads",
            processes=_cluster_cores(),
        )
        width = plan_slots(config, batch.shapes(), len(batch.tasks)).width
        warm = self._warm(math.ceil(trial.workers / width))
        folder = Path(tempfile.mkdtemp(prefix="dfz-trial-"))
        config = dataclasses.replace(config, run_dir=folder)
        before = read_usage()
        called_at, begun = time.time(), time.perf_counter()
        results = _run_trial(batch, config, folder)
        wall_s = time.perf_counter() - begun
        executed = read_attempted(folder)
        counting = [one for one in executed if one.counts]
        measured: dict[str, Any] = {
            "wall_s": wall_s,
            "warm_up_s": warm.wall_s,
            "served": min(trial.workers, warm.served * width),
        }
        measured |= _sum_up(results, wall_s)
        if self.plan.scaling == "weak":
            measured["digest"] = self._common_digest(folder, batch)
        measured["busy_s"] = sum(one.ended_at - one.began_at for one in counting)
        measured["cpu_s"] = sum(one.cpu_s for one in counting)
        measured["domains"] = _sum_up_domains(batch, counting)
        measured["split"] = split_time(executed, called_at, called_at + wall_s, trial.workers)
        measured["busiest_s"] = find_busiest_s(executed, trial.workers)
        kinds = self._kinds * (len(batch.tasks) // len(self._kinds))  # with weak scaling copies follow one another
        measured["timeline"] = make_timeline(executed, kinds, called_at, wall_s, trial.workers)
        usage = Usage.between(before, read_usage())
        measured["profile"] = profile_trial(folder, called_at, called_at + wall_s, trial.workers, usage)
        measured["workers_lost"] = count_lost_workers(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return measured

    def _common_digest(self, folder: Path, grown: Batch) -> str:
        """With weak scaling the digest of the batch that has not grown, if all copies of it have equal results.

        Else it is that of the batch as it has grown, which is no other trial's.
        """
        with JournalReader(folder) as journal:
            digests = dict(journal.records().digests())
        count = len(self._base_ids)
        copies: dict[str, set[bytes | None]] = {}
        for position, task in enumerate(grown.tasks):
            if task.id in digests:
                copies.setdefault(self._base_ids[position % count], set()).add(digests[task.id])
        if any(len(found) > 1 for found in copies.values()):
            return run_digest(digests.items())
        return run_digest((base, own) for base, (own,) in copies.items() if own is not None)

    def _warm(self, workers: int) -> WarmUp:
        return warm_workers(self._samples, workers, self._idle_workers, self.plan.batch.files)


def _run_trial(batch: Batch, config: RunConfig, folder: Path) -> Results:
    """`run`, as users call it. The folder of a trial that fails is kept, and named on stderr.

    A trial that is interrupted is measured again from its beginning: nobody needs its folder.
    """
    try:
        return wait_for_results(begin_checked(batch, config), progress=False)
    except DfzError:
        print(f"the run of the trial that failed is in {folder}", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def find_verdict(trials: Sequence[Measurement], repeat: int, plan: StudyPlan, cores: int) -> Estimate | None:
    """The ratio that the recommendation would rest on after a repeat, of the better mode; None: nothing to compare.

    Trials of later repeats, which a study that goes on has already, take no part: it ends where it would have ended.
    """
    until = [one for one in trials if one.repeat <= repeat]
    baseline, points = estimate_points(until, physical_cores=cores, cpus_per_task=plan.cpus_per_task)
    verdicts = [
        verdict_ratio([point for point in points if point.mode == mode], baseline, physical_cores=cores)
        for mode in plan.modes
    ]
    return max((one for one in verdicts if one), key=lambda one: one.value, default=None)


def _sum_up_domains(batch: Batch, executed: Sequence[Executed]) -> dict[str, dict[str, float]]:
    """See `Measurement.domains`."""
    found: dict[str, dict[str, float]] = {}
    for one in executed:
        task = batch.tasks[one.number]
        mine = found.setdefault(task.domain, {"busy_s": 0.0, "cpu_s": 0.0, "declared_cpu_s": 0.0})
        mine["busy_s"] += one.ended_at - one.began_at
        mine["cpu_s"] += one.cpu_s
        mine["declared_cpu_s"] += (one.ended_at - one.began_at) * task.resources.cpus
    return found


def _sum_up(results: Results, wall_s: float) -> dict[str, Any]:
    busy_s = sum(results.metrics["task_durations"])
    return {
        "completed": results.counts["completed"],
        "failed": sum(results.counts[state.label] for state in UNSUCCESSFUL if state != State.CANCELLED),
        "cancelled": results.counts["cancelled"],
        "digest": results.digest,
        "avg_concurrency": busy_s / wall_s,
        "max_concurrency": results.metrics["max_concurrency"],
    }


def _cluster_cores() -> int:
    """The cores of the cluster. Of a single node, those that this process may use: Ray may have more CPUs."""
    nodes = live_nodes()
    return usable_cores() if len(nodes) <= 1 else max(1, int(sum(node.get("CPU", 0) for node in nodes)))
