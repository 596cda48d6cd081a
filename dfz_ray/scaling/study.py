"""A study: every trial of a plan, measured, and what they say."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dfz_ray.client import shipped_domains
from dfz_ray.driver.connection import connect, usable_cores
from dfz_ray.driver.manager_client import ManagerClient
from dfz_ray.driver.slot_plan import SlotPlan
from dfz_ray.driver.warm_up import Sample, WarmUp, warm_workers
from dfz_ray.errors import DfzError
from dfz_ray.execution.execute import Work
from dfz_ray.manager.nodes import live_nodes
from dfz_ray.results import read_results
from dfz_ray.scaling.host import host_facts
from dfz_ray.scaling.measurement import Measurement, append_measurement
from dfz_ray.scaling.plan import BASELINE, Plan, Trial
from dfz_ray.scaling.sequential import Job, Part, SequentialProgram
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.settings import Settings
from dfz_ray.specs.states import count_final


class Study:
    """Measures a plan's trials, one after the other; a context manager.

    Args:
        plan: what is to be measured.
        settings: how tasks are handed out.
        address: which Ray; an embedded one gets as many logical CPUs as the largest point needs.
    """

    def __init__(self, plan: Plan, settings: Settings, address: str | None = None) -> None:
        self._plan = plan
        self._settings = settings
        self._domains = shipped_domains(plan.batch)
        most = max(trial.workers for trial in plan.trials)
        self._idle_workers = max(usable_cores(), math.ceil(most * plan.cpus_per_task))
        connect(address or settings.address, logical_cpus=self._idle_workers)
        self._samples, self._parts = self._take_samples()
        self._program: SequentialProgram | None = None

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._program is not None:
            self._program.__exit__(*exception)

    def measure(self, file: Path) -> Iterator[Measurement]:
        """Make the trials, in the plan's order; each is appended to the file as it ends."""
        facts = {**host_facts(), "seed": self._plan.seed}
        for trial in self._plan.trials:
            made = self._baseline(trial) if trial.workers == BASELINE else self._point(trial)
            append_measurement(file, dataclasses.replace(made, study=facts))
            yield made

    def physical_cores(self, of_this_host: int) -> int:
        """The physical cores of the cluster, as far as they are known: those of this host, if it is the only node."""
        nodes = live_nodes()
        return of_this_host if len(nodes) <= 1 else int(sum(node.get("CPU", 0) for node in nodes))

    def _width(self, trial: Trial) -> int:
        """How many tasks share a process: with threads there are no more processes than cores."""
        if trial.mode == "processes":
            return 1
        nodes = live_nodes()
        cores = usable_cores() if len(nodes) <= 1 else int(sum(node.get("CPU", 0) for node in nodes))
        return math.ceil(trial.workers / max(1, min(trial.workers, cores)))

    def _warm(self, workers: int) -> WarmUp:
        return warm_workers(self._samples, workers, self._idle_workers, self._plan.batch.files)

    def _baseline(self, trial: Trial) -> Measurement:
        started_at, load = time.time(), os.getloadavg()[0]
        warm_up_s = None
        try:
            if self._program is None:
                warm = self._warm(1)
                self._program = SequentialProgram(self._job(warm.niceness))
                warm_up_s = self._program.warm_up_s
            made = self._program.run()
        except DfzError as error:
            self._program = None
            return self._failed(trial, started_at, load, error)
        return Measurement(
            kind="baseline",
            workers=BASELINE,
            repeat=trial.repeat,
            order=trial.order,
            wall_s=made.wall_s,
            warm_up_s=warm_up_s,
            tasks=len(self._plan.batch.tasks),
            completed=made.completed,
            failed=made.failed,
            cancelled=0,
            digest=made.digest,
            avg_concurrency=made.busy_s / made.wall_s if made.wall_s else None,
            max_concurrency=1,
            busy_s=made.busy_s,
            served=None,
            started_at=started_at,
            load=load,
        )

    def _point(self, trial: Trial) -> Measurement:
        started_at, load = time.time(), os.getloadavg()[0]
        try:
            width = self._width(trial)
            warm = self._warm(math.ceil(trial.workers / width))
            with _scratch_folder() as folder:
                config = RunConfig(settings=self._settings, name=self._plan.batch.name)
                handle = ManagerClient(config, folder, SlotPlan(trial.workers, width))
                try:
                    begun = time.perf_counter()
                    handle.submit(self._plan.batch, self._domains)
                    while count_final(handle.progress(0.5)) < handle.tasks:
                        pass
                    wall_s = time.perf_counter() - begun
                finally:
                    handle.close()
                results = read_results(folder, trial.workers)
        except DfzError as error:
            return self._failed(trial, started_at, load, error)
        return Measurement(
            kind="point",
            workers=trial.workers,
            repeat=trial.repeat,
            order=trial.order,
            wall_s=wall_s,
            warm_up_s=warm.wall_s,
            tasks=len(results),
            completed=results.counts["completed"],
            failed=results.counts["failed"],
            cancelled=results.counts["cancelled"],
            digest=results.digest,
            avg_concurrency=sum(results.metrics["task_durations"]) / wall_s,
            max_concurrency=results.metrics["max_concurrency"],
            busy_s=sum(results.metrics["task_durations"]),
            served=min(trial.workers, warm.served * width),
            mode=trial.mode,
            started_at=started_at,
            load=load,
        )

    def _failed(self, trial: Trial, started_at: float, load: float, error: DfzError) -> Measurement:
        return Measurement(
            kind="baseline" if trial.workers == BASELINE else "point",
            workers=trial.workers,
            repeat=trial.repeat,
            order=trial.order,
            wall_s=time.time() - started_at,
            warm_up_s=None,
            tasks=len(self._plan.batch.tasks),
            completed=0,
            failed=0,
            cancelled=0,
            digest=None,
            avg_concurrency=None,
            max_concurrency=None,
            busy_s=None,
            served=None,
            mode=None if trial.workers == BASELINE else trial.mode,
            started_at=started_at,
            load=load,
            error=str(error),
        )

    def _take_samples(self) -> tuple[list[Sample], dict[tuple[Any, ...], int]]:
        """One task of each kind, by domain and shape; and the position of each."""
        firsts: dict[tuple[Any, ...], dict[str, Work]] = {}
        shapes = {}
        for number, task in enumerate(self._plan.batch.tasks):
            key = (task.domain, task.resources.key())
            shapes[key] = task.resources
            firsts.setdefault(key, {}).setdefault(task.kind, Work(number, task.seed, task.parameters))
        samples = [
            Sample(self._domains[key[0]].pickled, shapes[key], tuple(kinds.values())) for key, kinds in firsts.items()
        ]
        return samples, {key: position for position, key in enumerate(firsts)}

    def _job(self, niceness: int) -> Job:
        parts = [Part(one.pickled_domain, one.resources.threads, one.works) for one in self._samples]
        tasks = [
            (task.id, self._parts[task.domain, task.resources.key()], Work(number, task.seed, task.parameters))
            for number, task in enumerate(self._plan.batch.tasks)
        ]
        return Job(parts, tasks, dict(self._plan.batch.files), niceness)


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dfz-trial-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
