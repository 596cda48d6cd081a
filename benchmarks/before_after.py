"""Compares the speed of two checkouts: both run the same benchmark, in turn.

    python benchmarks/before_after.py --before DIR [--after DIR] [--pairs 20]
                                      [--what overhead|peers|metg|driver|executor]

A pair is one run of the benchmark in each checkout, in random order. Each runs in a fresh process, with that checkout's
own benchmarks/*.py and dfz_ray (a benchmark that it does not have yet is this one's). For each figure this prints the
median over the pairs of after / before. More is better for every figure (a time is turned into 1/s): a ratio above 1
says that the change made it better. The 95 % interval is the exact one of a median, from one of the sorted ratios to
another. It assumes only that pairs are independent, and needs six of them.
  overhead   no-op tasks per second, and how soon a further run begins
  peers      dfz_ray alone among the peers: even tasks, and the makespan of uneven ones
  metg       efficiency and rate of short tasks on two workers
  driver     tasks per second of CPU of each way into a run and out of it
  executor   calls per second of a DFZExecutor, 100,000 of them, by `submit` and by `map`
  latency    how soon a DFZExecutor makes a call that waits for the one before, and small maps
On two idle cores a pair takes about 23 s (overhead) and 41 s (metg): 8 and 14 minutes for 20 pairs. peers takes longer.
Writes before_after.json.
"""

import argparse
import json
import os
import random
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from measurement import write_json
from scipy.stats import quantile_test

from dfz_ray.scaling.host import host_facts

LIMIT_S = 300.0
"""A benchmark that takes longer is given up."""

Figures = dict[str, float]
"""Numbers by name, more is better."""


class Benchmark(NamedTuple):
    """A benchmark as it is run here."""

    arguments: Sequence[str]
    """Of its command line; `{folder}` is an empty folder."""
    read: Callable[[str, Path], Figures]
    """Finds the figures in the text that it printed, or in the files that it wrote to the folder."""


def read_overhead(printed: str, folder: Path) -> Figures:
    """The medians that overhead.py prints."""
    rate, start_s = (float(text) for text in re.findall(r": (\S+) \(from ", printed))
    return {"no-op tasks/s": rate, "first task of a further run, 1/s": 1 / start_s}


def read_driver(printed: str, folder: Path) -> Figures:
    """Tasks per second of CPU, from the microseconds a task that driver.py prints."""
    return {name: 1e6 / float(us) for name, us in re.findall(r"(.+): (\S+) us a task", printed)}


def read_executor(printed: str, folder: Path) -> Figures:
    """The calls per second that executor.py prints."""
    return {name: float(rate.replace(",", "")) for name, rate in re.findall(r"(\S+) +(\S+) calls/s", printed)}


def read_latency(printed: str, folder: Path) -> Figures:
    """The calls, or groups of calls, per millisecond, from the milliseconds that latency.py prints."""
    return {f"{name}, 1/ms": 1 / float(ms) for name, ms in re.findall(r"(.+), dfz_ray\n +ms +(\S+)", printed)}


def read_peers(printed: str, folder: Path) -> Figures:
    """Efficiencies, and the inverse of makespans over the lower bound, from peers.json."""
    batches = json.loads((folder / "peers.json").read_text())["peers"]["dfz_ray"]["batches"]
    figures = {}
    for name, batch in batches.items():
        if "over_bound" in batch:
            figures[f"{name}: lower bound / makespan"] = 1 / batch["over_bound"]["value"]
        else:
            figures[f"{name}: tasks/s"] = batch["tasks_per_s"]["value"]
            figures |= {f"{name}: efficiency": batch["efficiency"]["value"]} if "efficiency" in batch else {}
    return figures


def read_metg(printed: str, folder: Path) -> Figures:
    """Efficiencies and rates by grain, from metg.json."""
    (point,) = json.loads((folder / "metg.json").read_text())["points"]
    figures = {}
    for grain in point["grains"]:
        name = f"{1e6 * grain['grain_s']:.0f} us"
        figures[f"{name}: efficiency"] = grain["efficiency"]["value"]
        figures[f"{name}: tasks/s"] = grain["tasks_per_s"]["value"]
    return figures


BENCHMARKS: Mapping[str, Benchmark] = {
    "driver": Benchmark(("--tasks", "20000", "--repeats", "2"), read_driver),
    "executor": Benchmark(("--calls", "100000", "--repeats", "1", "--only", "dfz"), read_executor),
    "latency": Benchmark(("--what", "calls", "--repeats", "3"), read_latency),
    "overhead": Benchmark(("--tasks", "20000", "--repeats", "3"), read_overhead),
    "peers": Benchmark(
        ("--quick", "--repeats", "1", "--peers", "dfz_ray", "--grains", "0,1ms", "--output", "{folder}"), read_peers
    ),
    "metg": Benchmark(
        ("--workers", "2", "--grains", "100us,1ms", "--repeats", "1", "--work-s", "0.5", "--output", "{folder}"),
        read_metg,
    ),
}


def run_benchmark(what: str, checkout: Path) -> Figures:
    """Run a benchmark of a checkout in a fresh process, on its own code."""
    benchmark = BENCHMARKS[what]
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).absolute()
        arguments = [argument.format(folder=folder) for argument in benchmark.arguments]
        script = checkout / "benchmarks" / f"{what}.py"
        command = [sys.executable, str(script if script.exists() else Path(__file__).parent / script.name), *arguments]
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        if done.returncode:
            raise SystemExit(f"{shlex.join(command)} failed in {checkout}:\n{done.stderr[-2000:]}")
        return benchmark.read(done.stdout, folder)


def compare(before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    """The median ratio of pairs, and its exact 95 % interval; None where there are too few pairs for one."""
    ratios = [new / old for old, new in zip(before, after, strict=True)]
    interval = quantile_test(ratios, p=0.5).confidence_interval(0.95)
    ends = None if interval.low != interval.low or interval.high != interval.high else (interval.low, interval.high)
    return {"ratio": statistics.median(ratios), "ci95": ends, "before": list(before), "after": list(after)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, metavar="DIR", help="a checkout")
    parser.add_argument(
        "--after", type=Path, default=Path(__file__).parents[1], metavar="DIR", help="default: this one"
    )
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--what", choices=list(BENCHMARKS), default="overhead")
    parser.add_argument("--seed", type=int, default=0, help="of the orders")
    parser.add_argument("--output", type=Path, help="folder for the results (default: studies/<time>-before-after)")
    options = parser.parse_args()
    checkouts = {"before": options.before.absolute(), "after": options.after.absolute()}
    order = random.Random(options.seed)  # noqa: S311 - no secret is drawn
    measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: {"before": [], "after": []})
    begun = time.perf_counter()
    for pair in range(options.pairs):
        for which in order.sample(list(checkouts), 2):
            for name, value in run_benchmark(options.what, checkouts[which]).items():
                measured[name][which].append(value)
        ratios = "; ".join(f"{name} {both['after'][-1] / both['before'][-1]:.3f}" for name, both in measured.items())
        print(f"[{time.perf_counter() - begun:5.0f} s] {pair + 1}/{options.pairs}: {ratios}", file=sys.stderr)
    figures = {name: compare(**both) for name, both in measured.items()}
    commits = {which: host_facts(checkout)["commit"] for which, checkout in checkouts.items()}
    output = options.output or Path("studies") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-before-after"
    content = {"host": host_facts(), "commits": commits, "what": options.what, "figures": figures}
    write_json(output / "before_after.json", content)
    print(f"{options.what}: before {commits['before']}, after {commits['after']}, {options.pairs} pairs")
    for name, figure in figures.items():
        between = "95 % {:.3f} to {:.3f}".format(*figure["ci95"]) if figure["ci95"] else "too few pairs for an interval"
        medians = " -> ".join(f"{statistics.median(figure[which]):.4g}" for which in checkouts)
        print(f"  {name}: after / before {figure['ratio']:.3f} ({between}); {medians}")


if __name__ == "__main__":
    main()
