"""What a call costs: DFZExecutor beside ProcessPoolExecutor and plain Ray tasks, with calls that do nothing.

    python benchmarks/executor.py [--calls 100000] [--repeats 5] [--workers 2] [--only dfz,pool,ray]

Each is opened in a process of its own, all with niceness 15 as Ray's workers, and warmed up; then each has its turn in
each repeat, in random order, while the others are idle. Everything is on the caller's clock, from the first call until
all results are in hand. ProcessPoolExecutor and plain Ray tasks are given fewer calls, where they would take too long.
For DFZExecutor that includes the run's journal on disk, with fsync.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from measurement import describe_host, estimated, write_json
from session import NICENESS, become_nice
from workloads import do_nothing

Measure = Callable[[int], None]
PEER_CALLS = 20_000
"""Of the slower ones, in each repeat."""
WARM_CALLS = 2_000


def submit_all(executor: Executor, count: int) -> None:
    """One call after the other, and then all results."""
    futures = [executor.submit(do_nothing, number) for number in range(count)]
    for future in futures:
        future.result()


def map_all(executor: Executor, count: int, **options: Any) -> None:
    """All calls by `map`."""
    for _ in executor.map(do_nothing, range(count), **options):
        pass


@contextlib.contextmanager
def open_pool(workers: int) -> Iterator[dict[str, Measure]]:
    """ProcessPoolExecutor."""
    with ProcessPoolExecutor(workers) as executor:
        yield {
            "ProcessPoolExecutor.submit": lambda count: submit_all(executor, count),
            "ProcessPoolExecutor.map": lambda count: map_all(executor, count),
            "ProcessPoolExecutor.map, chunks": lambda count: map_all(
                executor, count, chunksize=-(-count // (4 * workers))
            ),
        }


@contextlib.contextmanager
def open_ray(workers: int) -> Iterator[dict[str, Measure]]:
    """Plain Ray: a remote call each."""
    import ray

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")
    remote = ray.remote(do_nothing)
    yield {"Ray tasks": lambda count: ray.get([remote.remote(number) for number in range(count)])}
    ray.shutdown()


@contextlib.contextmanager
def open_dfz(workers: int) -> Iterator[dict[str, Measure]]:
    """DFZExecutor."""
    from dfz_ray import DFZExecutor
    from dfz_ray.driver.connection import connect

    connect("local", logical_cpus=workers)
    with DFZExecutor(workers) as executor:
        yield {
            "DFZExecutor.submit": lambda count: submit_all(executor, count),
            "DFZExecutor.map": lambda count: map_all(executor, count),
        }


OPENERS = {"pool": open_pool, "ray": open_ray, "dfz": open_dfz}


def serve(connection: Connection, name: str, workers: int) -> None:
    """Measure what is asked for, in a process of its own."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    with OPENERS[name](workers) as measures:
        for measure in measures.values():
            measure(WARM_CALLS)
        connection.send(list(measures))
        while (asked := connection.recv()) is not None:
            what, count = asked
            gc.collect()
            begun = time.perf_counter()
            measures[what](count)
            connection.send(count / (time.perf_counter() - begun))
    connection.send(None)


def measure_all(names: Sequence[str], workers: int, calls: int, repeats: int) -> dict[str, list[float]]:
    """Calls per second, by what was measured, in each repeat."""
    spawn = multiprocessing.get_context("spawn")
    homes: dict[str, Connection] = {}
    served: list[Connection] = []
    for name in names:
        ours, theirs = spawn.Pipe()
        spawn.Process(target=serve, args=(theirs, name, workers), daemon=False).start()
        theirs.close()
        homes |= dict.fromkeys(ours.recv(), ours)
        served.append(ours)
    order = random.Random(0)  # noqa: S311 - no secret is drawn
    rates: dict[str, list[float]] = {what: [] for what in homes}
    for _ in range(repeats):
        for what in order.sample(list(homes), len(homes)):
            count = calls if what.startswith("DFZ") else min(calls, PEER_CALLS)
            homes[what].send((what, count))
            rates[what].append(homes[what].recv())
    for connection in served:
        connection.send(None)
        connection.recv()
    return rates


def main() -> None:
    """Measure, and print medians with 95 % intervals, and the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default=",".join(OPENERS), help="whom to measure, with commas between")
    parser.add_argument("--output", type=Path, help="A JSON file for the numbers.")
    options = parser.parse_args()
    become_nice()
    rates = measure_all(options.only.split(","), options.workers, options.calls, options.repeats)
    for what, values in rates.items():
        told = estimated(values)
        low, high = told["ci95"] or (min(values), max(values))
        print(f"{what:32} {told['value']:>10,.0f} calls/s ({low:,.0f} to {high:,.0f})")
    ratios = {
        "submit over ProcessPoolExecutor's": ("DFZExecutor.submit", "ProcessPoolExecutor.submit"),
        "map over plain Ray tasks": ("DFZExecutor.map", "Ray tasks"),
    }
    shares = {}
    for name, (ours, theirs) in ratios.items():
        if not {ours, theirs} <= rates.keys():
            continue
        shares[name] = estimated([a / b for a, b in zip(rates[ours], rates[theirs], strict=True)])
        print(f"{name}: {shares[name]['value']:.1f}")
    if options.output:
        settings = {"calls": options.calls, "workers": options.workers, "niceness": NICENESS}
        host = describe_host(["ray"])
        write_json(options.output, {"host": host, "settings": settings, "calls_per_s": rates, "ratios": shares})


if __name__ == "__main__":
    main()
