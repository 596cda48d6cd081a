"""The cost of durability, and how soon a killed run goes on.

    python benchmarks/durability.py [--repeats 9] [--tasks 4000] [--recover 100000]

First: the same tasks of 1 ms with commits that wait for the disk (fsync) and without, in turn; the ratio of their
rates. Then: a run of many tasks is killed, with its manager and its whole Ray, when half of them are committed, and
gone on with; the time until it hands out the first chunk, counted from when Ray is up.
"""

import argparse
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from dfz_ray import domain, run
from dfz_ray.client import run_checked
from dfz_ray.driver.connection import connect
from dfz_ray.journal.run_status import find_status
from dfz_ray.specs.run_config import RunConfig


@domain("spin")
def spin(seconds: float = 0.001) -> None:
    """Keep a core busy for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def compare_fsync(count: int, repeats: int) -> None:
    """Print the rate with fsync as a share of the rate without, with a bootstrap interval over the pairs."""
    tasks = [spin.task() for _ in range(count)]
    run(tasks[:500], max_workers=2)  # warm-up
    order = random.Random(0)  # noqa: S311 - no secret is drawn
    shares = []
    for _ in range(repeats):
        walls = {}
        for durable in order.sample([True, False], 2):
            with tempfile.TemporaryDirectory(dir=".") as folder:
                begun = time.perf_counter()
                config = {"journal": {"durable": durable}}
                run(tasks, max_workers=2, run_dir=Path(folder) / "run", config=config).values()
                walls[durable] = time.perf_counter() - begun
        shares.append(walls[False] / walls[True])
    draws = np.random.default_rng(0).choice(shares, (2000, len(shares)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    print(
        f"rate with fsync / rate without, {count} tasks of 1 ms, {repeats} pairs: "
        f"median {statistics.median(shares):.3f} (95 % {low:.3f} to {high:.3f}; "
        f"single pairs {min(shares):.3f} to {max(shares):.3f})"
    )


def measure_recovery(count: int) -> None:
    """Print how soon a run of so many tasks, half of them done, hands out its first chunk again."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        run_dir = Path(folder).absolute() / "run"
        command = [sys.executable, __file__, "--begin", str(run_dir), "--recover", str(count)]
        process = subprocess.Popen(command, start_new_session=True)
        while not (run_dir / "status.json").exists() or find_status(run_dir).counts["completed"] < count / 2:
            if process.poll() is not None:
                raise SystemExit("the run ended before it could be killed; name a larger --recover")
            time.sleep(0.02)
        for victim in psutil.Process(process.pid).children(recursive=True):
            victim.kill()
        process.kill()
        process.wait()
        left = find_status(run_dir).counts["pending"]
        begun = time.time()
        results = run_checked(None, RunConfig.of(max_workers=2, run_dir=run_dir))
        with sqlite3.connect(run_dir / "run.sqlite") as connection:
            first = "SELECT min(dispatched_at) FROM chunks WHERE epoch = (SELECT max(epoch) FROM epochs)"
            dispatched_at = connection.execute(first).fetchone()[0]
        print(f"recovery of {count} tasks with {left} left: first chunk after {dispatched_at - begun:.2f} s; {results}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--recover", type=int, default=100_000)
    parser.add_argument("--begin", help=argparse.SUPPRESS)
    options = parser.parse_args()
    connect("local")
    if options.begin:
        run([spin.task(seconds=0.0005) for _ in range(options.recover)], max_workers=2, run_dir=options.begin)
        return
    compare_fsync(options.tasks, options.repeats)
    measure_recovery(options.recover)


if __name__ == "__main__":
    main()
