"""What a program waits for: DFZExecutor and `run` beside ProcessPoolExecutor, interleaved.

    python benchmarks/latency.py [--what calls,share,waiting,clients] [--repeats 7] [--workers 2] [--seconds 3]
                                 [--json FILE]

Both are opened in processes of their own, with niceness 15 as Ray's workers, and warmed up; then each has its turn in
each repeat, in random order, while the other one is idle. The pool's processes are those of a forkserver.
  calls    `map` of 64 calls of 1 ms and of 16, 64 and 256 calls that do nothing, as many `submit`s, `map` of 64 with a
           `buffersize` of 8, which the pool has from Python 3.14 on, and a chain: each call is submitted when the one
           before has its result. Milliseconds, with a buffer and of a chain for each call; beside it an executor of
           the messages alone that a call takes on Ray (message_floor.py)
  share    the share of time in tasks: their own times over slots x wall, from the call until all results are in the
           caller's hands, at 100, 10, 1 ms. The pool maps in 40 chunks; `run` has everything on disk. The rest is split
           as in a study's losses. `one of four` is a slot on an embedded Ray of four CPUs, with tasks of 5 ms
  waiting  320 tasks that sleep for 50 ms on 16 slots, which are threads or processes: their share of slots x wall
  clients  programs of others whose calls take 1 ms (client_programs.py; they need the extra `clients`); dask's
           scheduler also on the messages alone
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import inspect
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from measurement import describe_host, estimated, write_json
from message_floor import CHAIN, CHAIN_CALLS, open_messages
from pool import time_step
from session import NICENESS, become_nice
from workloads import burn, do_nothing

Figures = dict[str, float]
Measure = Callable[[], Figures]
MAP_CALLS = (16, 64, 256)
BUFFERED_CALLS, BUFFERSIZE = 64, 8
SHARE_TASKS_S = (0.1, 0.01, 0.001)
POOL_CHUNKS = 40
ONE_OF_FOUR_S = 0.005
NAP_S, NAPS, NAP_SLOTS = 0.05, 320, 16
WARM_ROUNDS = 3


def timed_burn(steps: int = 1) -> float:
    """Keep a core busy; returns the seconds that it took."""
    begun = time.perf_counter()
    burn(steps)
    return time.perf_counter() - begun


def measure_calls(executor: Executor, step_s: float) -> dict[str, Measure]:
    """Milliseconds of small maps, submits and chains."""
    steps = round(0.001 / step_s)

    def map_all(count: int, function: Callable[[int], Any], argument: int) -> Figures:
        begun = time.perf_counter()
        for _ in executor.map(function, [argument] * count):
            pass
        return {"ms": 1e3 * (time.perf_counter() - begun)}

    def submit_all(count: int) -> Figures:
        begun = time.perf_counter()
        for future in [executor.submit(do_nothing, number) for number in range(count)]:
            future.result()
        return {"ms": 1e3 * (time.perf_counter() - begun)}

    def chain() -> Figures:
        begun = time.perf_counter()
        for number in range(CHAIN_CALLS):
            executor.submit(do_nothing, number).result()
        return {"ms": 1e3 * (time.perf_counter() - begun) / CHAIN_CALLS}

    def map_buffered() -> Figures:
        begun = time.perf_counter()
        for _ in executor.map(do_nothing, [0] * BUFFERED_CALLS, buffersize=BUFFERSIZE):  # type: ignore[call-arg]
            pass
        return {"ms": 1e3 * (time.perf_counter() - begun) / BUFFERED_CALLS}

    measures: dict[str, Measure] = {"calls: map of 64 calls of 1 ms": lambda: map_all(64, burn, steps)}
    for count in MAP_CALLS:
        measures[f"calls: map of {count} no-ops"] = lambda count=count: map_all(count, do_nothing, 0)  # type: ignore[misc]
        measures[f"calls: {count} submits"] = lambda count=count: submit_all(count)  # type: ignore[misc]
    if "buffersize" in inspect.signature(executor.map).parameters:
        measures[f"calls: map of {BUFFERED_CALLS} no-ops with buffersize {BUFFERSIZE}, each call"] = map_buffered
    return measures | {CHAIN: chain}


def measure_clients(executor: Executor, step_s: float) -> dict[str, Measure]:
    """Seconds of other people's programs."""
    from client_programs import CALL_S, PROGRAMS

    def time_program(program: Callable[[Executor, int], Any]) -> Figures:
        begun = time.perf_counter()
        program(executor, round(CALL_S / step_s))
        return {"s": time.perf_counter() - begun}

    return {f"clients: {name}": lambda program=program: time_program(program) for name, program in PROGRAMS.items()}  # type: ignore[misc]


@contextlib.contextmanager
def open_pool(options: argparse.Namespace, step_s: float) -> Iterator[dict[str, Measure]]:
    """ProcessPoolExecutor."""
    workers = options.workers
    with ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver")) as executor:

        def share(task_s: float) -> Figures:
            count = round(options.seconds * workers / task_s)
            begun = time.perf_counter()
            chunk = max(1, count // POOL_CHUNKS)
            times = list(executor.map(timed_burn, [round(task_s / step_s)] * count, chunksize=chunk))
            return {"share": sum(times) / (workers * (time.perf_counter() - begun))}

        measures: dict[str, Measure] = {}
        if "calls" in options.what:
            measures |= measure_calls(executor, step_s)
        if "clients" in options.what:
            measures |= measure_clients(executor, step_s)
        if "share" in options.what:
            for task_s in SHARE_TASKS_S:
                measures[f"share: {1e3 * task_s:g} ms"] = lambda task_s=task_s: share(task_s)  # type: ignore[misc]
        yield measures


@contextlib.contextmanager
def open_dfz(options: argparse.Namespace, step_s: float) -> Iterator[dict[str, Measure]]:
    """DFZExecutor, and `run`."""
    from losses import split_losses

    from dfz_ray import DFZExecutor, domain, run
    from dfz_ray.driver.connection import connect
    from dfz_ray.journal.executions import read_executed

    work = domain("work")(timed_burn)

    @domain("nap", cpus=0.125)
    def nap(nap_s: float = NAP_S) -> float:
        begun = time.perf_counter()
        time.sleep(nap_s)
        return time.perf_counter() - begun

    def share(tasks: list[Any], slots: int, use_threads: bool = False) -> Figures:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            begun, called_at = time.perf_counter(), time.time()
            results = run(tasks, max_workers=slots, use_threads=use_threads, run_dir=f"{folder}/run", progress=False)
            times = results.values()
            wall_s = time.perf_counter() - begun
            executed = read_executed(Path(folder) / "run")
        losses = split_losses(executed, called_at, called_at + wall_s, slots, 0.0)
        del losses["useful"]
        losses["in tasks"] = losses.pop("no core")
        losses["in tasks"] += sum(one.cpu_s for one in executed)
        losses["encoding"] -= sum(one.cpu_s for one in executed)
        return {"share": sum(times) / (slots * wall_s)} | {
            f"  {name}, ms of a slot": 1e3 * lost / slots for name, lost in losses.items() if name != "other"
        }

    def even(task_s: float, slots: int) -> list[Any]:
        return [work.task(steps=round(task_s / step_s))] * round(options.seconds * slots / task_s)

    workers = options.workers
    connect("local", logical_cpus=options.cpus)
    measures: dict[str, Measure] = {}
    with DFZExecutor(workers) as executor:
        if "calls" in options.what:
            measures |= measure_calls(executor, step_s)
        if "clients" in options.what:
            measures |= measure_clients(executor, step_s)
        if "share" in options.what and options.cpus == workers:
            for task_s in SHARE_TASKS_S:
                measures[f"share: {1e3 * task_s:g} ms"] = lambda task_s=task_s: share(even(task_s, workers), workers)  # type: ignore[misc]
        if "one" in options.what:
            measures["share: one of four, 5 ms"] = lambda: share(even(ONE_OF_FOUR_S, 1), 1)
        if "waiting" in options.what:
            for use_threads in (True, False):
                name = f"waiting: {NAPS} of {NAP_S:g} s on {NAP_SLOTS} {'threads' if use_threads else 'processes'}"
                measures[name] = lambda use_threads=use_threads: share([nap.task()] * NAPS, NAP_SLOTS, use_threads)  # type: ignore[misc]
        yield measures


OPENERS = {"ProcessPoolExecutor": open_pool, "dfz_ray": open_dfz, "the messages alone": open_messages}


def serve(connection: Connection, name: str, options: argparse.Namespace, step_s: float) -> None:
    """Measure what is asked for, in a process of its own."""
    with open(os.environ.get("LATENCY_LOG", os.devnull), "a") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    with OPENERS[name](options, step_s) as measures:
        for what, measure in measures.items():
            for _ in range(WARM_ROUNDS if what.startswith("calls") else 1):
                measure()
        connection.send(list(measures))
        while (what := connection.recv()) is not None:
            gc.collect()
            connection.send(measures[what]())
    connection.send(None)


def measure_all(options: argparse.Namespace) -> dict[tuple[str, str], list[Figures]]:
    """The figures of each repeat, by what was measured, and of whom."""
    spawn = multiprocessing.get_context("spawn")
    homes: dict[tuple[str, str], Connection] = {}
    served: list[Connection] = []
    step_s = time_step()
    for name in OPENERS:
        ours, theirs = spawn.Pipe()
        spawn.Process(target=serve, args=(theirs, name, options, step_s), daemon=False).start()
        theirs.close()
        homes |= {(what, name): ours for what in ours.recv()}
        served.append(ours)
    order = random.Random(0)  # noqa: S311 - no secret is drawn
    figures: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    for _ in range(options.repeats):
        for what in order.sample(list(homes), len(homes)):
            homes[what].send(what[0])
            figures[what].append(homes[what].recv())
    for connection in served:
        connection.send(None)
        connection.recv()
    return {what: figures[what] for what in sorted(figures)}


def main() -> None:
    """Measure, and print medians with 95 % intervals, and each figure over the pool's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--what", default="calls,share,waiting", help="calls, share, waiting, clients, one (of four CPUs)"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpus", type=int, help="the logical CPUs of the embedded Ray; as many as workers")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a batch of `share` takes at best")
    parser.add_argument("--niceness", type=int, default=NICENESS, help="of everything that is measured")
    parser.add_argument("--json", type=Path, help="write the measurements to this file, too")
    options = parser.parse_args()
    options.what = options.what.split(",")
    options.cpus = options.cpus or options.workers
    become_nice(options.niceness)
    measured = measure_all(options)
    for (what, name), repeats in measured.items():
        peer = measured.get((what, "ProcessPoolExecutor"))
        print(f"{what}, {name}")
        for figure in repeats[0]:
            values = [repeat[figure] for repeat in repeats]
            told = estimated(values)
            low, high = told["ci95"] or (min(values), max(values))
            line = f"  {figure:30} {told['value']:9.3f} ({low:.3f} to {high:.3f})"
            if name != "ProcessPoolExecutor" and peer is not None and figure in peer[0]:
                ratios = [ours / other[figure] for ours, other in zip(values, peer, strict=True)]
                line += f"   over the pool's: {estimated(ratios)['value']:.3f}"
            print(line)
    if options.json:
        rows = [{"what": what, "of": name, "repeats": repeats} for (what, name), repeats in measured.items()]
        write_json(options.json, {"host": describe_host(["ray"]), "measured": rows})


if __name__ == "__main__":
    main()
