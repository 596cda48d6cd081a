"""What the driver's own work costs: microseconds of CPU a task, for each way into a run and each way to read it.

    python benchmarks/driver.py [--tasks 50000] [--repeats 5] [--only WORD]
    python benchmarks/before_after.py --before DIR --what driver

No Ray is started. Batches of each form are checked as `run` checks them. A journal with one task in 100 failed, and
results of about 300 bytes, is written with the product's own writer, and read as users do. The shortest of the repeats
counts: what else the machine does only adds to it.
"""

import argparse
import contextlib
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from dfz_ray import domain
from dfz_ray.cli.results import results as results_command
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.protocol.columns import Completions, pack
from dfz_ray.results import read_results
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import digest, encode
from dfz_ray.specs.states import State

CHUNK_TASKS = 1_000
FAILED_OF = 100
"""One task in so many failed."""
DRAWING = ("sorting", "maze", "quantum", "image_classification")


@domain("plain")
def plain(x: int = 0, rate: float = 0.5, mode: Literal["fast", "exact"] = "fast") -> None:
    """A task of three plain parameters."""


Path_ = Callable[[], Any]


def ways_in(tasks: int, folder: Path) -> Iterator[tuple[str, Path_]]:
    """Each form of a batch, with the function that checks it."""
    equal = [{"domain": "plain", "parameters": {"x": 1}}] * tasks
    own = [{"domain": "plain", "parameters": {"x": number, "rate": number / tasks}} for number in range(tasks)]
    listed = [
        {"id": f"own-{number}", "domain": "plain", "parameters": {"x": number, "rate": number / tasks, "mode": "exact"}}
        for number in range(tasks)
    ]
    for name, given in (("equal dicts", equal), ("own dicts", own)):
        yield name, partial(read_batch, given, REGISTRY)
    yield "generate plain", lambda: read_batch({"generate": [{"domain": "plain", "count": tasks}]}, REGISTRY)
    for drawn in DRAWING:
        batch = {"generate": [{"domain": drawn, "count": tasks}]}
        yield f"generate {drawn}", partial(read_batch, batch, REGISTRY)
    (folder / "batch.json").write_text(json.dumps(listed))
    yield "JSON", lambda: read_batch(folder / "batch.json", REGISTRY)
    for style, flow in (("block", False), ("flow", None)):
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump({"tasks": listed[: tasks // 5]}, Dumper=dumper, default_flow_style=flow)
        (folder / f"{style}.yaml").write_text(text)
        yield f"YAML {style}", partial(read_batch, folder / f"{style}.yaml", REGISTRY)


def make_journal(folder: Path, tasks: int, failed_of: int) -> None:
    """A run whose tasks have all ended, one in so many without a result."""
    writer = JournalWriter.create(folder, {"run_id": "r", "name": "bench", "created_at": "0.0", "slots": "2"}, 262_144)
    kind = (0, "plain", "plain", json.dumps({"cpus": 1.0}), json.dumps({"max_attempts": 1}))
    columns = (
        [f"task-{number}" for number in range(tasks)],
        [0] * tasks,
        [(number, encode({"x": number})) for number in range(tasks)],
        [""] * tasks,
    )
    group = Group(batches=[(0, "bench", 0, 0.0)], domains=[("plain", "[]")], kinds=[kind])
    group.blocks = [
        (first, min(5_000, tasks - first), 0, *(pack(column[first : first + 5_000]) for column in columns))
        for first in range(0, tasks, 5_000)
    ]
    writer.commit(group)
    for chunk, first in enumerate(range(0, tasks, CHUNK_TASKS)):
        numbers = range(first, min(tasks, first + CHUNK_TASKS))
        failed = [number for number in numbers if number % failed_of == 0]
        rows = []
        for number in numbers:
            if number % failed_of:
                result = make_result(number)
                rows.append((number, number / 100, number / 100 + 0.01, 0.01, encode(result), digest(result)))
        writer.commit(
            Group(
                leases=[(1, 0, "host", 1, 0.0)],
                chunks=[(chunk, 1, 0, 0.0, encode(list(numbers)))],
                completions=[(chunk, *Completions.of(rows))],
                attempts=[(number, chunk, 1, 1, 1.0, 2.0, 0.5, "exception", None) for number in failed],
                outcomes=[
                    (number, State.FAILED, None, "exception", f"no {number}", "line\n" * 10) for number in failed
                ],
            )
        )
    writer.close()


def make_result(number: int) -> dict[str, Any]:
    """A result such as domains return."""
    details = {"list_length": number, "smallest": 0, "largest": 999, "distinct_values": 7, "checked_with": "sorted"}
    return {
        "main_score": 1 / (number + 1),
        "comparisons": number,
        "moves": 2 * number,
        "is_sorted": True,
        "time_s": number / 7,
        "algorithm": "quicksort",
        "list_type": "random",
        "details": details,
    }


def ways_out(folder: Path) -> Iterator[tuple[str, Path_]]:
    """Each way to read a run."""

    def print_failed() -> None:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            assert results_command.callback is not None  # noqa: S101 - it is a command
            results_command.callback(folder, ("failed",), (), (), None, True)

    yield "open results", lambda: read_results(folder)
    yield "records with results", lambda: [record.result for record in read_results(folder)]
    yield "failed records", lambda: list(read_results(folder).select(state="failed"))
    yield "to_pandas", lambda: read_results(folder).to_pandas()
    yield "dfz results --state failed", print_failed
    yield "audit", lambda: _sound(audit_run(folder))


def _sound(audit: Any) -> None:
    if not audit.ok:
        raise SystemExit(f"the audit found violations: {audit}")


def measure_us(way: Path_, tasks: int, repeats: int) -> float:
    """Microseconds of CPU a task, of the shortest repeat."""
    spent_s = []
    for _ in range(repeats):
        gc.collect()
        begun = time.process_time()
        way()
        spent_s.append(time.process_time() - begun)
    return 1e6 * float(np.min(spent_s)) / tasks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="only ways whose name has this word")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for way_name, way in ways_in(options.tasks, folder):
            if options.only in way_name:
                tasks = options.tasks // 5 if way_name.startswith("YAML") else options.tasks
                print(f"{way_name}: {measure_us(way, tasks, options.repeats):.2f} us a task", flush=True)
        make_journal(folder / "run", options.tasks, FAILED_OF)
        for way_name, way in ways_out(folder / "run"):
            if options.only in way_name:
                print(f"{way_name}: {measure_us(way, options.tasks, options.repeats):.2f} us a task", flush=True)


if __name__ == "__main__":
    main()
