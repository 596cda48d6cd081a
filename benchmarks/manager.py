"""What the manager itself costs: its CPU time for a task and for a chunk, where that goes, and memory for what waits.

    python benchmarks/manager.py [--pending 1000000] [--repeats 5]
    python benchmarks/manager.py --profile         # needs py-spy: pip install py-spy

Runs of different sizes and chunks are made on two workers, and the CPU time of the manager's process, all its threads
and Ray's own in it included, is fitted to them: cpu = run + task x tasks + chunk x chunks (least squares, none below
0). Memory is that of the process with all tasks pending, less what it had before, over their number.
A profile says by sampling which part of the manager's Python code is at work, of all threads that are on a core; what
is not in there is Ray's C++ around it.
Writes manager.json.
"""

import argparse
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from measurement import describe_host, estimated, write_json
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import nnls

from dfz_ray import domain, run

SIZES = ((5_000, 0.0, 0.1), (100_000, 0.0, 0.1), (200_000, 0.0, 0.1), (20_000, 5e-5, 0.005), (10_000, 2e-4, 0.002))
"""Tasks, how long each computes in seconds, and the work that a chunk aims at: many tasks, and many chunks."""
PARTS = {
    "journal: writing": ("writer.py", "commit_sums.py", "group_commit.py"),
    "journal: rows": ("run_journal.py",),
    "engine": ("/engine/",),
    "columns and messages": ("/protocol/", "msgpack"),
    "run": ("/manager/",),
    "event loop": ("asyncio", "selectors.py", "concurrent/futures", "threading.py"),
    "Ray": ("/ray/",),
}
"""Where a sampled stack belongs, by its innermost frame that any of these is in; in this order."""
WAITING = (
    "select (selectors",
    "wait (threading",
    "_worker (concurrent/futures/thread.py:81",
    "main_loop (ray",
    "GCThread",
)
SAMPLES_PER_S = 200


class Sample(NamedTuple):
    """One run, as its manager saw it."""

    tasks: int
    chunks: int
    cpu_s: float
    wall_s: float


@domain("idle")
def idle(seconds: float = 0.0) -> None:
    """Compute for so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@domain("gate")
def gate(file: str = "") -> None:
    """Wait for a file, if one is named."""
    while file and not os.path.exists(file):
        time.sleep(0.01)


def find_manager() -> psutil.Process:
    """The manager's process: it is of this process's own Ray."""
    for process in psutil.Process().children(recursive=True):
        if "ray::TaskManager" in " ".join(process.cmdline()):
            return process
    raise SystemExit("the manager's process was not found")


def cpu_s(process: psutil.Process) -> float:
    """CPU time of all threads so far, in the kernel too."""
    times = process.cpu_times()
    return times.user + times.system


def measure(tasks: int, seconds: float, target_s: float, manager: psutil.Process) -> Sample:
    """Run tasks, and see what they cost the manager."""
    batch = [idle.task(seconds=seconds) for _ in range(tasks)]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        before, begun = cpu_s(manager), time.perf_counter()
        run(batch, max_workers=2, run_dir=Path(folder) / "run", config={"chunking": {"target_s": target_s}})
        wall_s, spent_s = time.perf_counter() - begun, cpu_s(manager) - before
        with contextlib.closing(sqlite3.connect(Path(folder) / "run/run.sqlite")) as journal:
            (chunks,) = journal.execute("SELECT count(*) FROM chunks").fetchone()
    return Sample(tasks, chunks, spent_s, wall_s)


def fit(samples: Sequence[Sample]) -> dict[str, float]:
    """CPU seconds for a run, a task and a chunk, that explain the samples best."""
    causes = np.array([[1.0, one.tasks, one.chunks] for one in samples])
    weights = 1 / np.array([max(one.cpu_s, 0.01) for one in samples])  # so that small runs count as much as large ones
    spent = np.array([one.cpu_s for one in samples])
    found, _ = nnls(causes * weights[:, None], spent * weights)
    return dict(zip(("run_s", "task_s", "chunk_s"), found.tolist(), strict=True))


def measure_memory(pending: int, manager: psutil.Process) -> float:
    """Bytes of the manager's memory for each task that waits."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        opened = Path(folder).absolute() / "open"
        first = {**gate.task(file=str(opened)), "policy": {"priority": 1}}
        before = manager.memory_info().rss
        grown: list[int] = []

        def look(counts: Mapping[str, int]) -> None:
            if not grown and counts["pending"] >= pending:
                grown.append(manager.memory_info().rss - before)
                opened.touch()

        rest = [gate.task() for _ in range(pending)]
        run([first, *rest], max_workers=1, run_dir=Path(folder) / "run", progress=look)
    return grown[0] / pending


@contextlib.contextmanager
def sampled(manager: psutil.Process, shares: Counter[str]) -> Iterator[None]:
    """Sample the manager's stacks meanwhile, and count them by part."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "stacks"
        command = [find_spy(), "record", "--pid", str(manager.pid), "--rate", str(SAMPLES_PER_S), "--format", "raw"]
        spy = subprocess.Popen([*command, "--output", str(raw), "--duration", "unlimited"], stdout=subprocess.DEVNULL)
        threading.Event().wait(1.0)  # until it is attached
        yield
        spy.send_signal(2)
        spy.wait()
        for line in raw.read_text().splitlines():
            stack, count = line.rsplit(" ", 1)
            part = find_part(stack.split(";"))
            if part:
                shares[part] += int(count)


def find_spy() -> str:
    """Where py-spy is: beside this interpreter, or on the path."""
    found = shutil.which("py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise SystemExit("--profile needs py-spy: pip install py-spy")
    return found


def find_part(frames: Sequence[str]) -> str:
    """Which part of the manager a stack is at work for; empty where it waits."""
    if len(frames) < 2 or any(word in frame for word in WAITING for frame in frames[-2:]):
        return ""  # the first frame is the thread: one that has no other runs no Python code
    for frame in reversed(frames):
        for part, words in PARTS.items():
            if any(word in frame for word in words):
                return part
    return "other"


def tell(costs: Sequence[dict[str, float]], shares: Counter[str], bytes_each: float | None) -> dict[str, Any]:
    """Print the numbers; returns them as they go into the file."""
    console = Console()
    told: dict[str, Any] = {name: estimated([cost[name] for cost in costs]) for name in costs[0]}
    for name, words, unit in (
        ("task_s", "us for a task", 1e6),
        ("chunk_s", "ms for a chunk", 1e3),
        ("run_s", "ms for a run", 1e3),
    ):
        interval = told[name]["ci95"] or [told[name]["value"]] * 2
        low_high = " to ".join(f"{unit * end:.2f}" for end in interval)
        console.print(f"manager's CPU: {unit * told[name]['value']:.2f} {words} ({low_high})", highlight=False)
    if bytes_each is not None:
        told["bytes_per_pending_task"] = bytes_each
        console.print(f"manager's memory: {bytes_each:.0f} bytes for a task that waits", highlight=False)
    if shares:
        told["shares"] = {part: count / shares.total() for part, count in shares.most_common()}
        table = Table("part of the manager", "share", "us a task", box=None)
        for part, share in told["shares"].items():
            table.add_row(part, f"{100 * share:.0f} %", f"{1e6 * share * told['task_s']['value']:.2f}")
        console.print(table)
    return told


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pending", type=int, default=1_000_000, help="tasks that wait; 0 leaves memory out")
    parser.add_argument("--profile", action="store_true", help="sample the manager's code with py-spy")
    parser.add_argument("--output", type=Path, help="folder for the results (default: studies/<time>-manager)")
    options = parser.parse_args()
    if options.profile:
        find_spy()
    output = options.output or Path("studies") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-manager"
    run([idle.task() for _ in range(1000)], max_workers=2, address="local")  # warm-up
    manager = find_manager()
    # First: later on there would be freed memory, which is used again.
    bytes_each = measure_memory(options.pending, manager) if options.pending else None
    samples: list[list[Sample]] = []
    for _ in track(range(options.repeats), "runs", transient=True):
        samples.append([measure(*size, manager) for size in SIZES])
    shares: Counter[str] = Counter()
    if options.profile:
        with sampled(manager, shares):
            for _ in range(3):
                measure(*SIZES[2], manager)
    told = tell([fit(repeat) for repeat in samples], shares, bytes_each)
    write_json(output / "manager.json", {"host": describe_host(("ray",)), **told, "samples": samples})
    print(f"{output}/manager.json")


if __name__ == "__main__":
    main()
