"""The cost of tasks of the domains with dfz_ray, against the loop over the libraries that a user would write."""

from __future__ import annotations

import gc
import multiprocessing
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from circuits import CASES, circuits_table, compare_circuit
from losses import LOSSES, split_losses
from measurement import describe_host, estimated, write_json
from rich.console import Console
from rich.progress import track
from rich.table import Table
from session import NICENESS, become_nice

import dfz_ray
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.execution.execute import Work, execute_chunk, thread_budget
from dfz_ray.journal.executions import read_executed
from dfz_ray.specs.encoding import decode, digest, encode
from dfz_ray.specs.input_file import FileShelf

PARAMETERS: Mapping[str, dict[str, Any]] = {
    "quantum": {"algorithm": "grover", "num_qubits": 4, "noise_level": 0.02},
    "maze": {"size_x": 20, "size_y": 20},
}
COMPARED_KEYS = {"quantum": "counts", "maze": "path"}
"""The key of a result that `bare` finds, too."""
TASK_S = {"quantum": 0.005, "maze": 0.0004}
"""About the time of a task; the number of tasks follows from it."""
LOOPS = ("bare", "compute", "chunk")
Loop = Callable[[], Sequence[Any]]


def bare_quantum(seeds: Sequence[int]) -> Loop:
    """The calls of Aer alone: everything else is prepared."""
    import numpy as np
    from qiskit_aer import AerSimulator

    from dfz_ray.domains.quantum.circuits import grover
    from dfz_ray.domains.quantum.simulator import draw_aer_seed, noise_model

    generators = [np.random.default_rng(seed) for seed in seeds]
    circuits = [grover(4, None, rng, noisy=True).form.circuit for rng in generators]
    shot_seeds = [draw_aer_seed(rng) for rng in generators]
    simulator = AerSimulator(method="density_matrix", noise_model=noise_model(0.02), max_parallel_threads=1)
    return lambda: [
        simulator.run(circuit, shots=1024, seed_simulator=seed).result().get_counts()
        for circuit, seed in zip(circuits, shot_seeds, strict=True)
    ]


def bare_maze(seeds: Sequence[int]) -> Loop:
    """The same mazes, made and searched."""
    from dfz_ray.domains.maze.domain import COMPLEXITY
    from dfz_ray.domains.maze.generation import generate
    from dfz_ray.domains.maze.search import astar

    return lambda: [astar(generate(20, 20, COMPLEXITY, seed), (0, 0), (19, 19)).path for seed in seeds]


BARE: Mapping[str, Callable[[Sequence[int]], Loop]] = {"quantum": bare_quantum, "maze": bare_maze}


def start_loops(name: str, shares: Sequence[range]) -> list[Connection]:
    """Start a process for each share of the seeds, and warm it up; it ends when its connection is closed."""
    spawn = multiprocessing.get_context("spawn")
    connections = []
    for seeds in shares:
        ours, theirs = spawn.Pipe()
        spawn.Process(target=_serve, args=(theirs, name, seeds), daemon=True).start()
        theirs.close()
        connections.append(ours)
    for way in LOOPS:
        time_loops(connections, way, shares)
    return connections


def time_loops(connections: Sequence[Connection], way: str, shares: Sequence[range]) -> tuple[float, list[bytes]]:
    """Do all tasks once: tasks per second of all processes together, and the digest of the results of each."""
    for connection in connections:
        connection.send(way)
    walls_s, found = zip(*(connection.recv() for connection in connections), strict=True)
    return sum(len(seeds) / wall_s for seeds, wall_s in zip(shares, walls_s, strict=True)), list(found)


def make_loops(name: str, seeds: Sequence[int]) -> dict[str, tuple[Loop, Callable[[Any], Any]]]:
    """For each way the loop over all tasks, and a function that reads from a result the part that `bare` finds, too."""
    domain, key = REGISTRY.get(name), COMPARED_KEYS[name]
    domain.load()
    parameters = domain.parameters.model_validate(PARAMETERS[name])
    works = [Work(number, seed, encode(PARAMETERS[name])) for number, seed in enumerate(seeds)]
    return {
        "bare": (BARE[name](seeds), lambda found: found),
        "compute": (lambda: [domain.compute(parameters, seed, 1) for seed in seeds], lambda result: result[key]),
        "chunk": (lambda: execute_chunk(domain, works, 1, FileShelf(contents={})), lambda one: decode(one.result)[key]),
    }


def _serve(connection: Connection, name: str, seeds: Sequence[int]) -> None:
    """Answer each way with its seconds and a digest; end when the connection is closed."""
    loops = make_loops(name, seeds)
    with thread_budget(1), suppress(EOFError):
        while True:
            loop, read = loops[connection.recv()]
            gc.collect()
            begun = time.perf_counter()
            done = loop()
            wall_s = time.perf_counter() - begun
            connection.send((wall_s, digest([read(one) for one in done])))


def time_dfz_ray(name: str, tasks: Sequence[Any], workers: int) -> tuple[float, list[bytes], dict[str, float]]:
    """Run all tasks once: tasks per second, digests as of the loops, and where the time of the slots went."""
    gc.collect()
    with tempfile.TemporaryDirectory(dir=".", ignore_cleanup_errors=True) as folder:
        run_dir = Path(folder) / "run"
        called_at, begun = time.time(), time.perf_counter()
        values = dfz_ray.run(tasks, max_workers=workers, run_dir=run_dir, progress=False).values()
        wall_s = time.perf_counter() - begun
        executed = read_executed(run_dir)
    losses = split_losses(executed, called_at, called_at + wall_s, workers, sum(one.cpu_s for one in executed))
    found = [value[COMPARED_KEYS[name]] for value in values]
    return len(tasks) / wall_s, [digest(found[first::workers]) for first in range(workers)], losses


def measure(name: str, workers: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """All ways to do a workload, in a new order each repeat."""
    count = round(workers * options["work_s"] / TASK_S[name])
    tasks = [{"domain": name, "seed": seed, "parameters": PARAMETERS[name]} for seed in range(count)]
    shares = [range(first, count, workers) for first in range(workers)]
    order = random.Random(options["seed"])  # noqa: S311 - no secret is drawn
    rates: dict[str, list[float]] = defaultdict(list)
    losses: list[dict[str, float]] = []
    begun = time.perf_counter()
    connections = start_loops(name, shares)
    time_dfz_ray(name, tasks, workers)  # starts workers, and imports
    _, expected, _ = time_dfz_ray(name, tasks, workers)
    point = {"workload": name, "workers": workers, "tasks": count, "warm_up_s": time.perf_counter() - begun}
    for _ in track(range(options["repeats"]), f"{name}, {workers} at a time, {count} tasks", transient=True):
        for way in order.sample((*LOOPS, "dfz_ray"), len(LOOPS) + 1):
            if way == "dfz_ray":
                rate, found, lost = time_dfz_ray(name, tasks, workers)
                losses.append({loss: lost[loss] / count for loss in LOSSES})
            else:
                rate, found = time_loops(connections, way, shares)
            if found != expected:
                raise SystemExit(f"{name}: {way} did not find the same as dfz_ray")
            rates[way].append(rate)
    for connection in connections:
        connection.close()
    return {**point, "rates": rates, "lost_s": losses}


def summarize_ways(point: Mapping[str, Any]) -> dict[str, Any]:
    """Medians with intervals: core time of a task each way, and dfz_ray against the loops in each repeat."""
    rates, workers = point["rates"], point["workers"]
    ratios = {way: [own / loop for own, loop in zip(rates["dfz_ray"], rates[way], strict=True)] for way in LOOPS}
    return {
        **point,
        "task_s": {way: estimated([workers / rate for rate in rates[way]]) for way in rates},
        "throughput": {way: estimated(ratios[way]) for way in LOOPS},
        "overhead": {way: estimated([1 / ratio - 1 for ratio in ratios[way]]) for way in LOOPS},
        "mean_lost_s": {loss: fmean(lost[loss] for lost in point["lost_s"]) for loss in LOSSES},
    }


def show(estimate: Mapping[str, Any], unit: float, form: str) -> str:
    """A median with its interval."""
    between = " to ".join(format(unit * end, form) for end in estimate["ci95"] or ())
    return f"{unit * estimate['value']:{form}}" + (f" ({between})" if between else "")


def ways_tables(points: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The time of a task each way, the ratios of dfz_ray, and where its time goes."""
    ways = (*LOOPS, "dfz_ray")
    ratios = ("rate / bare", "overhead over bare", "over compute")
    first = Table("workload", "workers", *ways, *ratios, title="us of a core for each task, and ratios", box=None)
    second = Table("workload", "workers", "executing", *LOSSES[2:], title="us of a slot for each task", box=None)
    for point in points:
        who = point["workload"], str(point["workers"])
        times = [f"{1e6 * point['task_s'][way]['value']:.0f}" for way in ways]
        overheads = [show(point["overhead"][way], 100, ".0f") + " %" for way in ("bare", "compute")]
        first.add_row(*who, *times, show(point["throughput"]["bare"], 1, ".3f"), *overheads)
        second.add_row(*who, *(f"{1e6 * point['mean_lost_s'][loss]:.1f}" for loss in ("useful", *LOSSES[2:])))
    return [first, second]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--workload", "workloads", type=click.Choice(list(PARAMETERS)), multiple=True, help="Which [both].")
@click.option("--workers", type=click.IntRange(1), multiple=True, help="Numbers of workers [1 and 2].")
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True)
@click.option("--work-s", type=float, default=5.0, show_default=True, help="About how long each way takes, in seconds.")
@click.option("--seed", default=0, show_default=True, help="Of the orders.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the results [studies/<time>-domains].")
def main(workloads: Sequence[str], workers: Sequence[int], output: Path | None, **options: Any) -> None:
    """The cost of tasks of the domains with dfz_ray, against the loop over the libraries that a user would write.

    The workloads have the seeds 0, 1, 2, ...:

    \b
      quantum  grover, 4 qubits, noise 0.02, 1024 shots
      maze     20x20 cells, A*

    and are done in these ways, in a new order each repeat:

    \b
      bare     quantum: for each task simulator.run(circuit, shots=1024, seed_simulator=...).result().get_counts().
               Simulator (density matrix, one thread), noise model, circuits (one of 16, in the gates of the noise
               model) and the seeds of the shots are made before the clock starts. run() assembles the circuit anew
               each time; the domain keeps the assembled form (domains/quantum/assembly.py).
               maze: for each task the maze is made from its seed and searched, by the domain's own functions.
               Nothing else is measured or proved.
      compute  the domain's own function in a loop: whole results. That of a maze includes the proof of its path.
      chunk    execute_chunk, called once: all that a worker does, with parameters, encoding and digests.
      dfz_ray  dfz_ray.run, from the call until all results are in hand, each of them on disk (fsync).

    The first three run in as many processes at one time as dfz_ray has workers, since two busy cores slow each other.
    All are equally nice, share the same tasks out, and have to find the same counts or paths. A task's core time is
    the number of workers over the rate; overhead is the extra time. The second table shows where the time of dfz_ray's
    slots goes, by the names of metg.py; "executing" is CPU time.

    Two larger circuits come first, without Ray and one after the other: a search of 10 qubits without noise against a
    bare loop over its own gates, and a GHZ state of 12 qubits with noise against each of Aer's methods. Writes
    domains.json.
    """
    from dfz_ray.driver.connection import connect

    become_nice()
    output = output or Path("studies") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-domains"
    connect("local", logical_cpus=max(workers or (1, 2)))
    order = random.Random(options["seed"])  # noqa: S311 - no secret is drawn
    circuits = (
        [compare_circuit(name, options["repeats"], order) for name in CASES]
        if "quantum" in (workloads or PARAMETERS)
        else []
    )
    cases = [(name, count) for name in workloads or PARAMETERS for count in workers or (1, 2)]
    points = [summarize_ways(measure(name, count, options)) for name, count in cases]
    settings = {**options, "niceness": NICENESS}
    host = describe_host(("qiskit", "qiskit-aer", "scipy"))
    write_json(output / "domains.json", {"host": host, "settings": settings, "points": points, "circuits": circuits})
    console = Console(width=max(Console().width, 140))
    console.print(*ways_tables(points), circuits_table(circuits))
    console.print(f"medians with 95 % intervals of {options['repeats']} repeats; {output}/domains.json")


if __name__ == "__main__":
    main()
