"""The use of slots by waiting tasks that share processes: sleeps of 10 ms against the ideal rate.

    python benchmarks/threads.py [--slots 64] [--task-s 0.01] [--repeats 5] [--seconds 3]

The ideal is slots / task length. What is measured is the rate from the beginning of the first task to the end of the
last one, by the journal, and the rate in the caller's hands: from the call of `run` until all results are there, the
checking of the batch included. Every repeat runs once on threads and once on as many processes as there are cores.
"""

import argparse
import tempfile
import time
from pathlib import Path

from measurement import estimated

from dfz_ray import domain, run
from dfz_ray.driver.connection import connect
from dfz_ray.driver.cores import usable_cores


@domain("nap")
def nap(s: float = 0.01) -> None:
    """Sleep."""
    time.sleep(s)


def measure(tasks: int, task_s: float, slots: int, use_threads: bool) -> tuple[float, float, int]:
    """Run so many sleeps; returns both rates as shares of the ideal one, and the most tasks at once."""
    batch = [nap.task(s=task_s) for _ in range(tasks)]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        begun = time.perf_counter()
        results = run(batch, max_workers=slots, use_threads=use_threads, run_dir=Path(folder) / "run", progress=False)
        wall_s = time.perf_counter() - begun
        results.values()  # raises if one did not complete
        metrics = results.metrics
    ideal = slots / task_s
    return tasks / metrics["total_duration"] / ideal, tasks / wall_s / ideal, metrics["max_concurrency"]


def main() -> None:
    """Measure, and print medians with their 95 % intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--task-s", type=float, default=0.01)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a run would take ideally")
    options = parser.parse_args()
    connect("local")
    cores = usable_cores()
    shares: dict[str, list[float]] = {}
    for mode, slots in (("threads", options.slots), ("processes", cores)):  # warm-up
        measure(20 * slots, options.task_s, slots, mode == "threads")
    for _ in range(options.repeats):
        for mode, slots in (("threads", options.slots), ("processes", cores)):
            tasks = round(options.seconds * slots / options.task_s)
            share, share_in_hand, most = measure(tasks, options.task_s, slots, mode == "threads")
            if most > slots:
                raise AssertionError(f"{most} tasks at once with {slots} slots")
            shares.setdefault(f"{slots} slots, {mode}: rate / ideal rate", []).append(share)
            shares.setdefault(f"{slots} slots, {mode}: the same in the caller's hands", []).append(share_in_hand)
    for name, values in shares.items():
        estimate = estimated(values)
        low, high = estimate["ci95"] or (min(values), max(values))
        print(f"{name}: {estimate['value']:.3f} (95 % {low:.3f} to {high:.3f}; {estimate['repeats']} repeats)")


if __name__ == "__main__":
    main()
