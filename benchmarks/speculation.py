"""What second attempts of late tasks are worth: the makespan with and without `speculate`, measured and simulated.

    python benchmarks/speculation.py [--tasks 10000] [--mean-s 1] [--sigma 1] [--slots 64] [--repeats 1] [--json FILE]

Tasks wait, as for a service: each attempt at a task waits for a time of its own, drawn from a lognormal distribution.
Runs with and without `speculate` take turns, on worker processes of this machine that have all been started before;
of each the makespan is told, and the tail: the seconds at its end in which fewer tasks are executed than there are
slots. The virtual cluster executes the same tasks, with the real engine, many times over.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from measurement import describe_host, write_json

from dfz_ray import domain, run
from dfz_ray.driver.connection import connect
from dfz_ray.engine.engine import EngineOptions
from dfz_ray.journal.executions import read_executed
from dfz_ray.simulation import Costs, SimulatedAttempt, SimulatedTask, Simulation
from dfz_ray.specs.policy import Policy

SIMULATED = 40
"""Simulated runs of each sort."""
START_S = 0.01
"""Seconds that a simulated lease takes to start on a worker that is there already."""
WARM_TASKS, WARM_TASK_S = 2, 2.0
"""The tasks for each slot that start the workers, and the seconds that each waits."""


class Service(Simulation):
    """The virtual cluster; the duration of each attempt is drawn anew."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        super().__init__(EngineOptions(options.slots, seed=seed), Costs(start_s=START_S), seed)
        self._waits = random.Random(seed)  # noqa: S311 - no secret is drawn
        self._shape = find_shape(options)

    def attempt(self, number: int) -> SimulatedAttempt:  # noqa: D102 - as in Simulation
        return SimulatedAttempt(self._waits.lognormvariate(*self._shape))


def find_shape(options: argparse.Namespace) -> tuple[float, float]:
    """The parameters mu and sigma of the lognormal distribution that has this mean."""
    return math.log(options.mean_s) - options.sigma**2 / 2, options.sigma


def simulate(options: argparse.Namespace, speculate: bool, seed: int) -> float:
    """The makespan of a simulated run, in seconds."""
    service = Service(options, seed)
    service.submit([SimulatedTask("wait", options.mean_s, 0, Policy(speculate=speculate))] * options.tasks)
    service.run()
    return service.result().makespan_s


def measure(options: argparse.Namespace, speculate: bool) -> dict[str, float]:
    """A run on this machine: its makespan and its tail, in seconds, and the tasks that had a second attempt."""
    mu, sigma = find_shape(options)

    @domain("wait", repeatable=True)
    def wait() -> float:
        wait_s = random.SystemRandom().lognormvariate(mu, sigma)
        time.sleep(wait_s)
        return wait_s

    batch: dict[str, Any] = {
        "defaults": {"policy": {"speculate": speculate}},
        "generate": [{"domain": "wait", "count": options.tasks}],
    }
    with tempfile.TemporaryDirectory(dir=".") as folder:
        results = run(batch, max_workers=options.slots, run_dir=Path(folder) / "run", progress=False)
        if len(results.select(state="completed")) != options.tasks:
            raise SystemExit(f"a run is no measurement: {results!r}")
        executed = read_executed(Path(folder) / "run")
        began, ends = min(one.began_at for one in executed), sorted(one.ended_at for one in executed)
    return {"makespan_s": ends[-1] - began, "tail_s": ends[-1] - ends[-options.slots]}


def start_workers(slots: int) -> None:
    """Keep all slots busy until each has a worker process; Ray keeps as many as this machine has logical CPUs."""

    @domain("start")
    def start() -> int:
        time.sleep(WARM_TASK_S)
        return os.getpid()

    connect("local", logical_cpus=slots)
    while True:
        processes = set(
            run([start.task() for _ in range(WARM_TASKS * slots)], max_workers=slots, progress=False).values()
        )
        print(f"{len(processes)} of {slots} worker processes are up", flush=True)
        if len(processes) == slots:
            return


def main() -> None:
    """Measure, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--mean-s", type=float, default=1.0)
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    simulated = {
        speculate: sorted(simulate(options, speculate, seed) for seed in range(SIMULATED))
        for speculate in (False, True)
    }
    for speculate, makespans_s in simulated.items():
        low_s, high_s = makespans_s[1], makespans_s[-2]
        print(
            f"simulated, {'with' if speculate else 'without'} speculation: {median(makespans_s):.1f} s "
            f"(of {SIMULATED} runs all but the two extremes between {low_s:.1f} and {high_s:.1f} s)"
        )
    start_workers(options.slots)
    measured: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for repeat in range(options.repeats):
        for speculate in (False, True) if repeat % 2 == 0 else (True, False):
            figures = measure(options, speculate)
            measured[speculate].append(figures)
            print(
                f"measured, {'with' if speculate else 'without'} speculation: {figures['makespan_s']:.1f} s, "
                f"of which the tail took {figures['tail_s']:.1f} s",
                flush=True,
            )
    if options.json:
        simulated_s = {str(speculate): makespans_s for speculate, makespans_s in simulated.items()}
        content = {"host": describe_host(["ray"]), "simulated_s": simulated_s, "measured": measured}
        write_json(options.json, content)


if __name__ == "__main__":
    main()
