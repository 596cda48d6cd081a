"""The overhead of dfz_ray: tasks that do nothing, and how soon a second run begins.

    python benchmarks/overhead.py [--tasks 100000] [--repeats 5]

Times are the caller's: they include checking the batch, sending it, the journal on disk (fsync), and reading the
results.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from dfz_ray import domain, run


@domain("noop")
def noop() -> None:
    """Do nothing."""


def main() -> None:
    """Measure, and print medians with the least and the most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    tasks = [noop.task() for _ in range(options.tasks)]
    run([noop.task() for _ in range(1000)], max_workers=options.workers, address="local")  # warm-up
    rates, first_starts = [], []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            begun = time.perf_counter()
            results = run(tasks, max_workers=options.workers, run_dir=Path(folder) / "run")
            values = results.values()  # raises if one did not complete
            rates.append(len(values) / (time.perf_counter() - begun))
        begun_at = time.time()
        (record,) = run([noop.task()], max_workers=options.workers)
        assert record.start_time is not None  # noqa: S101 - it has completed
        first_starts.append(record.start_time - begun_at)
    for name, values in (
        ("no-op tasks/s, end to end", rates),
        ("first task of a further run begins after s", first_starts),
    ):
        print(f"{name}: {statistics.median(values):.4g} (from {min(values):.4g} to {max(values):.4g})")


if __name__ == "__main__":
    main()
