"""What large inputs cost: arguments, shared arrays and the state of methods, beside ProcessPoolExecutor.

    python benchmarks/large_inputs.py [--mebibytes 100] [--workers 2] [--repeats 7] [--json FILE]

Each repeat does in turn, with DFZExecutor and with a pool of the standard library (forkserver):

- argument: one call that gets an array of that size, and sums it up;
- map: the same for four arrays;
- method: 100 calls of a method whose object holds an array of one mebibyte.

With DFZExecutor alone: shared: a new executor shares the array, and each of eight calls sums it up. Told are the
medians in milliseconds, and by how much the manager's own memory grew at most in the meantime; what it has in common
with other processes, as the object store, does not count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from measurement import describe_host, write_json

from dfz_ray import DFZExecutor, get_shared
from dfz_ray.driver.connection import connect

LOOK_S = 0.01
METHOD_CALLS, SHARED_CALLS, MAPPED = 100, 8, 4


def total(array: np.ndarray[Any, Any]) -> float:
    """The sum of an array."""
    return float(array.sum())


def total_shared(_: int) -> float:
    """The sum of the shared array."""
    return float(get_shared("array").sum())


class Table:
    """An object with a large state."""

    def __init__(self) -> None:
        self.values = np.arange(2**17, dtype=np.float64)

    def find(self, index: int) -> float:
        """Look up a value."""
        return float(self.values[index])


class ManagerMemory:
    """Watches the memory of the manager's process that no other one has, too."""

    def __init__(self) -> None:
        children = psutil.Process().children(recursive=True)
        (self._process,) = (child for child in children if child.cmdline()[0].startswith("ray::TaskManager"))
        self._most = self._least = self._read()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _read(self) -> int:
        memory = self._process.memory_info()  # to ask for the exact number stops the process for seconds
        return int(memory.rss - memory.shared)

    def _watch(self) -> None:
        while not self._is_over.wait(LOOK_S):
            self._most = max(self._most, self._read())

    def close(self) -> float:
        """Stop watching; returns the mebibytes by which it grew at most."""
        self._is_over.set()
        self._thread.join()
        return (self._most - self._least) / 2**20


def check(found: Any, expected: Any) -> None:
    """Raise RuntimeError if calls did not return what they should."""
    if found != expected:
        raise RuntimeError(f"found {found}, expected {expected}")


def call_once(executor: Executor, array: np.ndarray[Any, Any]) -> None:
    """One call with a large argument."""
    check(executor.submit(total, array).result(), array.sum())


def call_map(executor: Executor, array: np.ndarray[Any, Any]) -> None:
    """Several of them."""
    check(list(executor.map(total, [array] * MAPPED)), [array.sum()] * MAPPED)


def call_method(executor: Executor, array: np.ndarray[Any, Any]) -> None:
    """Calls of a method with a large state."""
    table = Table()
    futures = [executor.submit(table.find, index) for index in range(METHOD_CALLS)]
    check([future.result() for future in futures], list(range(METHOD_CALLS)))


def share(executor: Executor, array: np.ndarray[Any, Any]) -> None:
    """A new executor that shares the array."""
    with DFZExecutor(2, shared={"array": array}) as sharing:
        futures = [sharing.submit(total_shared, number) for number in range(SHARED_CALLS)]
        check([future.result() for future in futures], [array.sum()] * SHARED_CALLS)


WAYS: dict[str, Callable[[Executor, np.ndarray[Any, Any]], None]] = {
    "argument": call_once,
    "map": call_map,
    "method": call_method,
    "shared": share,
}


def measure(executor: Executor, way: str, array: np.ndarray[Any, Any]) -> float:
    """The milliseconds of one way."""
    begun = time.perf_counter()
    WAYS[way](executor, array)
    return 1e3 * (time.perf_counter() - begun)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    connect("local")
    array = np.ones(options.mebibytes * 2**17)
    times: dict[str, dict[str, list[float]]] = {way: {"dfz_ray": [], "pool": []} for way in WAYS}
    grown: dict[str, list[float]] = {way: [] for way in WAYS}
    forkserver = multiprocessing.get_context("forkserver")
    with DFZExecutor(options.workers) as own, ProcessPoolExecutor(options.workers, mp_context=forkserver) as pool:
        for executor in (own, pool):
            call_map(executor, np.ones(10))
        for repeat in range(-1, options.repeats):  # the first one warms up
            for way in WAYS:
                memory = ManagerMemory()
                own_ms = measure(own, way, array)
                grown_mb = memory.close()
                pool_ms = measure(pool, way, array) if way != "shared" else None
                if repeat >= 0:
                    grown[way].append(grown_mb)
                    times[way]["dfz_ray"].append(own_ms)
                    times[way]["pool"].extend([] if pool_ms is None else [pool_ms])
    print(f"{options.mebibytes} MiB, {options.workers} workers, medians of {options.repeats}:")
    for way, each in times.items():
        own_ms = median(each["dfz_ray"])
        beside = ""
        if each["pool"]:
            beside = f", pool {median(each['pool']):.0f} ms, ratio {own_ms / median(each['pool']):.2f}"
        print(f"  {way:9} dfz_ray {own_ms:.0f} ms{beside}; the manager grew by {max(grown[way]):.0f} MiB at most")
    if options.json:
        write_json(options.json, {**describe_host(()), **vars(options), "json": None, "ms": times, "grown_mb": grown})


if __name__ == "__main__":
    main()
