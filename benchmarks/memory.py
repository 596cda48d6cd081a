"""The memory of the driver and of the manager: with millions of pending tasks, and with large results.

    python benchmarks/memory.py [--pending 3000000] [--results 100000] [--result-bytes 10000] [--json FILE]

  pending  a generated batch of so many tasks that wait, until all of them are on disk; then the run is interrupted
  results  a batch with so many results, each of so many bytes: when `run` has returned, and when all have been read
Memory is the resident set of a process (RSS), its greatest value, in MB of 2^20 bytes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
from measurement import describe_host, write_json

from dfz_ray import domain, run
from dfz_ray.errors import DfzError
from dfz_ray.journal.reader import JournalReader

WORKERS = 2
MB = 2**20


@domain("waits")
def wait() -> None:
    """Wait for some seconds."""
    time.sleep(5.0)


@domain("large")
def make_large(size: int = 1, *, seed: int) -> bytes:
    """So many bytes."""
    return seed.to_bytes(8, "little") * (size // 8)


class Memory:
    """The greatest resident set of this process, and of its manager."""

    def __init__(self) -> None:
        self.most_mb: dict[str, float] = defaultdict(float)
        self._processes = {"driver": psutil.Process()}

    def look(self) -> None:
        """Look at both now."""
        if "manager" not in self._processes:
            for process in self._processes["driver"].children(recursive=True):
                if "TaskManager" in " ".join(process.cmdline()):
                    self._processes["manager"] = process
                    break
        for name, process in self._processes.items():
            self.most_mb[name] = max(self.most_mb[name], process.memory_info().rss / MB)

    def tell(self, what: str) -> dict[str, Any]:
        """Print the greatest values, and return them."""
        print(f"{what}: " + ", ".join(f"{name} {most:.0f} MB" for name, most in self.most_mb.items()), flush=True)
        return {"what": what, **self.most_mb}


def measure_pending(count: int, folder: Path) -> dict[str, Any]:
    """The memory until all tasks of a generated batch are on disk."""
    memory, begun, sent_s = Memory(), time.perf_counter(), 0.0

    def look(counts: dict[str, int]) -> None:
        nonlocal sent_s
        memory.look()
        if count_on_disk(folder) == count:
            sent_s = time.perf_counter() - begun
            raise KeyboardInterrupt

    block = {"domain": "waits", "count": count}
    try:
        run({"generate": [block]}, max_workers=WORKERS, run_dir=folder, address="local", progress=look)
    except KeyboardInterrupt:
        if not sent_s:
            raise
    return memory.tell(f"{count:,} pending tasks, on disk after {sent_s:.0f} s") | {"seconds": sent_s}


def count_on_disk(folder: Path) -> int:
    """The tasks of a run that are on disk."""
    try:
        with JournalReader(folder) as journal:
            return sum(journal.counts().values())
    except DfzError:  # there is no run yet
        return 0


def measure_results(count: int, size_bytes: int, folder: Path) -> list[dict[str, Any]]:
    """The memory of a run with large results, and of a program that then reads them one after the other."""
    memory = Memory()
    block = {"domain": "large", "count": count, "parameters": {"size": size_bytes}}
    results = run(
        {"generate": [block]},
        max_workers=WORKERS,
        run_dir=folder,
        address="local",
        progress=lambda counts: memory.look(),
    )
    memory.look()
    after = memory.tell(f"{count:,} results of {size_bytes:,} bytes, when run has returned")
    total = 0
    for record in results:
        total += len(record.result)
        memory.look()
    if total != count * (size_bytes // 8 * 8):
        raise SystemExit(f"found {total} bytes of results")
    return [after, memory.tell("the same, when all have been read")]


def main() -> None:
    """Measure, and print the greatest values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pending", type=int, default=3_000_000)
    parser.add_argument("--results", type=int, default=100_000)
    parser.add_argument("--result-bytes", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        if options.results:
            figures += measure_results(options.results, options.result_bytes, Path(folder) / "results")
        if options.pending:
            figures.append(measure_pending(options.pending, Path(folder) / "pending"))
    if options.json:
        write_json(options.json, {"host": describe_host(["ray"]), "figures": figures})


if __name__ == "__main__":
    main()
