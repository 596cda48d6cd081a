"""How near `max_workers="auto"` comes to the best fixed number of workers.

    python benchmarks/pool.py [--seconds 15] [--repeats 3] [--cases computing,waiting,mixed] [--json FILE]

For each case every fixed number of workers is tried shortly, and batches are made so large that the best one takes
about as long as asked for. Those that are not much slower, and auto, then run the same batch in turn, each repeat in an
order of its own. Computing tasks have processes of their own (two for each CPU, at most); the others share processes,
on threads. Printed are the medians, and auto's makespan as a multiple of the best fixed number's.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from measurement import describe_host, estimated, write_json
from session import become_nice
from workloads import burn

from dfz_ray import domain, run
from dfz_ray.driver.connection import connect
from dfz_ray.specs.settings import MaxWorkers

PILOT_S = 1.5
"""How long a number of workers is tried before."""
CLEARLY_SLOWER = 0.6
"""A number of workers that has this share of the best rate, or less, is not measured."""
COMPUTE_S, SHORT_S = 0.010, 0.003
WAIT_S, LONG_S = 0.010, 0.050
AUTO: Literal["auto"] = "auto"


@domain("compute", cpus=0.5)
def compute(iterations: int = 1) -> int:
    """Keep a core busy."""
    return burn(iterations)


@domain("wait")
def wait(seconds: float = WAIT_S) -> None:
    """Wait, and compute nothing."""
    time.sleep(seconds)


@domain("work")
def work(iterations: int = 1, seconds: float = 0.0) -> int:
    """Compute, or wait."""
    if seconds:
        time.sleep(seconds)
    return burn(iterations)


@dataclass(frozen=True)
class Case:
    """Tasks of one sort."""

    name: str
    make: Callable[[int], list[Any]]
    """So many tasks."""
    workers: Sequence[int]
    """The fixed numbers."""
    use_threads: bool
    task_s: float
    """About, on average."""


def make_cases(cores: int, iteration_s: float) -> list[Case]:
    """All cases.

    Args:
        cores: that Ray counts.
        iteration_s: how long a step of `burn` takes.
    """
    steps, few = round(COMPUTE_S / iteration_s), round(SHORT_S / iteration_s)

    def mix(count: int) -> list[Any]:
        draw = random.Random(0)  # noqa: S311 - no secret is drawn
        waits, computes = work.task(iterations=1, seconds=LONG_S), work.task(iterations=few)
        return [waits if draw.random() < 0.8 else computes for _ in range(count)]

    threads = [cores * 2**power for power in range(8)]
    return [
        Case(
            "computing",
            lambda count: [compute.task(iterations=steps)] * count,
            sorted({1, cores, 3 * cores // 2, 2 * cores}),
            False,
            COMPUTE_S,
        ),
        Case("waiting", lambda count: [wait.task()] * count, threads, True, WAIT_S),
        Case("mixed", mix, threads, True, 0.8 * LONG_S + 0.2 * SHORT_S),
    ]


def time_run(case: Case, tasks: list[Any], workers: MaxWorkers) -> tuple[float, list[tuple[float, int]]]:
    """The makespan, and the changes of the number of slots: after how many seconds, and to which."""
    begun = time.perf_counter()
    results = run(tasks, max_workers=workers, use_threads=case.use_threads)
    makespan_s, ended_at = time.perf_counter() - begun, time.time()
    results.values()
    return makespan_s, [(at - ended_at + makespan_s, count) for at, count in results.slot_changes]


def find_rates(case: Case) -> dict[int, float]:
    """Tasks per second at every fixed number, as far as a short run tells."""
    rates = {}
    for workers in case.workers:
        tasks = case.make(max(20, round(PILOT_S * workers / case.task_s)))
        run(tasks[: 4 * workers], max_workers=workers, use_threads=case.use_threads)  # its workers are warm after this
        rates[workers] = len(tasks) / time_run(case, tasks, workers)[0]
        print(f"  {case.name}, {workers} workers: about {rates[workers]:,.0f} tasks/s", flush=True)
    return rates


def measure(case: Case, seconds: float, repeats: int) -> dict[str, Any]:
    """Measure a case, and print its table."""
    rates = find_rates(case)
    best_rate = max(rates.values())
    tasks = case.make(round(seconds * best_rate))
    settings: list[MaxWorkers] = [count for count, rate in rates.items() if rate > CLEARLY_SLOWER * best_rate]
    settings.append(AUTO)
    walls: dict[MaxWorkers, list[float]] = {setting: [] for setting in settings}
    changes: list[list[tuple[float, int]]] = []
    order = random.Random(0)  # noqa: S311 - no secret is drawn
    for _ in range(repeats):
        for setting in order.sample(settings, len(settings)):
            wall_s, changed = time_run(case, tasks, setting)
            walls[setting].append(wall_s)
            if setting == AUTO:
                changes.append(changed)
    medians = {setting: statistics.median(times) for setting, times in walls.items()}
    best = min((setting for setting in settings if setting != AUTO), key=medians.__getitem__)
    ratios = [auto_s / best_s for auto_s, best_s in zip(walls[AUTO], walls[best], strict=True)]
    print(f"{case.name}: {len(tasks):,} tasks")
    for setting in settings:
        print(
            f"  {setting!s:>5} workers  {medians[setting]:7.2f} s  {', '.join(f'{one:.2f}' for one in walls[setting])}"
        )
    for one in changes:
        print("  auto: " + ", ".join(f"{count} after {at:.2f} s" for at, count in one))
    told = statistics.median(ratios)
    print(f"  auto / best fixed ({best}): {told:.3f} (pairs {min(ratios):.3f} to {max(ratios):.3f})\n")
    return {
        "case": case.name,
        "tasks": len(tasks),
        "walls_s": {str(setting): times for setting, times in walls.items()},
        "best_fixed": best,
        "ratio": estimated(ratios),
        "changes": changes,
    }


def time_step() -> float:
    """How long a step of `burn` takes, in seconds."""
    begun = time.perf_counter()
    burn(1_000_000)
    return (time.perf_counter() - begun) / 1_000_000


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="About how long the best fixed number takes.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", default="computing,waiting,mixed")
    parser.add_argument("--json", type=Path, help="Write the measurements to this file, too.")
    options = parser.parse_args()
    become_nice()
    connect("local")
    import ray

    cores = int(ray.cluster_resources()["CPU"])
    wanted = options.cases.split(",")
    cases = [case for case in make_cases(cores, time_step()) if case.name in wanted]
    measured = [measure(case, options.seconds, options.repeats) for case in cases]
    if options.json:
        write_json(options.json, {"host": describe_host(["ray"]), "cases": measured})


if __name__ == "__main__":
    main()
