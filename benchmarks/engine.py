"""What the two parts in the middle can do: the engine without a cluster, and the journal without an engine.

    python benchmarks/engine.py            # about ten minutes, and a gigabyte of disk
    python benchmarks/engine.py --quick    # a tenth of the tasks

The engine decides whole runs in virtual time. What is told is its own CPU time, from the submission until every task is
final; that of the virtual workers is left out, and that of reading the clock is told. Tasks take 10 ms, and the manager
is said to need 0.1 ms for a chunk, so that chunks are as large as they would be. Memory is what the engine keeps of
tasks that wait.

The journal is written as a manager writes it: tasks in blocks of 5,000, what completed in chunks of 500, two of which
are one commit that waits for the disk (fsync). Then all records are read back as `dfz results` does, the audit looks
at all of it, and a run of which half is done is read as `dfz resume` does. Writes engine.json.
"""

import argparse
import gc
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from measurement import describe_host, estimated, write_json
from rich.console import Console
from rich.table import Table

from dfz_ray.engine.engine import Engine, EngineOptions
from dfz_ray.engine.messages import Command, Event, KindEntry, TasksSubmitted, TimePassed
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import read_recovered
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.protocol.columns import Completions, TaskColumns, pack
from dfz_ray.simulation import Costs, SimulatedTask, Simulation
from dfz_ray.specs.encoding import digest, encode
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import State

TASKS = (10_000, 100_000, 1_000_000)
SLOTS = (10, 1_000, 10_000)
TASK_S, MANAGER_S = 0.01, 0.0001
BLOCK_TASKS, GROUP_TASKS, CHUNK_TASKS = 5_000, 1_000, 500
CLOCK_READINGS = 100_000
META = {"run_id": "benchmark", "name": "benchmark", "created_at": "0.0", "dfz_ray": "0", "slots": "2"}

Row = dict[str, Any]


class TimedSimulation(Simulation):
    """A run in virtual time that notes how much CPU time the engine itself takes."""

    engine_s = 0.0
    events = 0

    def handle(self, event: Event) -> list[Command]:
        """Tell the engine what happened, and time it."""
        begun = time.thread_time_ns()
        commands = super().handle(event)
        self.engine_s += (time.thread_time_ns() - begun) / 1e9
        self.events += 1
        return commands


def measure_engine(tasks: int, slots: int) -> Row:
    """Decide one run."""
    gc.collect()
    simulation = TimedSimulation(EngineOptions(slots), Costs(manager_s=MANAGER_S))
    begun = time.perf_counter()
    simulation.submit([SimulatedTask("k", TASK_S)] * tasks)
    simulation.run()
    wall_s = time.perf_counter() - begun
    result = simulation.result()
    if result.counts["completed"] != tasks:
        raise SystemExit(f"the engine did not complete all of {tasks} tasks: {result.counts}")
    return {
        "tasks": tasks,
        "slots": slots,
        "engine_s": simulation.engine_s,
        "wall_s": wall_s,
        "events": simulation.events,
        "chunks": result.chunks,
        "makespan_s": result.makespan_s,
    }


def measure_clock() -> float:
    """Seconds that the clock itself adds to each event."""
    simulation = TimedSimulation(EngineOptions(1))
    simulation.engine = Silent(EngineOptions(1))
    for _ in range(CLOCK_READINGS):
        simulation.handle(TimePassed())
    return simulation.engine_s / CLOCK_READINGS


class Silent(Engine):
    """An engine that does nothing."""

    def handle(self, event: Event, now: float) -> list[Command]:
        """Ask for nothing."""
        return []


def measure_memory(tasks: int) -> Row:
    """Bytes that the engine keeps for each task that waits, of one kind and of a hundred."""
    told: Row = {"tasks": tasks}
    for kinds in (1, 100):
        gc.collect()
        tracemalloc.start()
        engine = Engine(EngineOptions(2))
        entries = [KindEntry(f"k{kind}", 0, Policy()) for kind in range(kinds)]
        engine.handle(TasksSubmitted(entries, [n % kinds for n in range(tasks)]), 0.0)
        gc.collect()
        told[f"bytes_per_task_{kinds}_kinds"] = tracemalloc.get_traced_memory()[0] / tasks
        tracemalloc.stop()
        if engine.tasks.counts[State.PENDING] != tasks:
            raise SystemExit("the engine did not take all tasks")
    return told


def write_run(folder: Path, tasks: int, ended: int) -> Row:
    """Write the journal of a run in which some tasks have ended; returns how long that took."""
    parameters, result = encode({"flips": 100}), {"heads": 51}
    packed, fingerprint = encode(result), digest(result)
    writer = JournalWriter.create(folder, META)
    writer.commit(
        Group(
            batches=[(0, "benchmark", 0, 0.0)],
            domains=[("coin", "[]")],
            kinds=[(0, "coin", "coin", '{"cpus": 1.0}', Policy().model_dump_json())],
            leases=[(writer.epoch, 0, "host", 1, 0.0)],
        )
    )
    begun = time.perf_counter()
    for first in range(0, tasks, BLOCK_TASKS):
        numbers = range(first, min(first + BLOCK_TASKS, tasks))
        ids, works = [f"task-{number}" for number in numbers], [(number, parameters) for number in numbers]
        columns = TaskColumns.of(ids, [0] * len(numbers), works, [""] * len(numbers))
        writer.commit(Group(blocks=[(first, columns.tasks, 0, *columns[1:])]))
    submitted = time.perf_counter()
    groups = [
        _ended_group(range(first, min(first + GROUP_TASKS, ended)), writer.epoch, packed, fingerprint)
        for first in range(0, ended, GROUP_TASKS)
    ]
    built = time.perf_counter()
    for group in groups:
        writer.commit(group)
    written = time.perf_counter()
    writer.close()
    rows = sum(len(group.chunks) + len(group.completions) for group in groups) + ended  # an outcome for each task
    size_bytes = (folder / "run.sqlite").stat().st_size
    return {
        "tasks": tasks,
        "submit_s": submitted - begun,
        "commits": len(groups),
        "rows": rows,
        "commit_s": written - built,
        "close_s": time.perf_counter() - written,
        "size_bytes": size_bytes,
    }


def _ended_group(numbers: range, epoch: int, result: bytes, fingerprint: bytes) -> Group:
    """The group that is committed when these tasks have completed."""
    group = Group()
    for first in range(numbers.start, numbers.stop, CHUNK_TASKS):
        chunk, inside = first // CHUNK_TASKS, range(first, min(first + CHUNK_TASKS, numbers.stop))
        group.chunks.append((chunk, epoch, 0, 1.0, pack(list(inside))))
        executions = [(number, 1.0, 2.0, 1.0, result, fingerprint) for number in inside]
        group.completions.append((chunk, *Completions.of(executions)))
    return group


def measure_journal(base: Path, tasks: int) -> Row:
    """Write a run, read its results back, and recover one that is half done."""
    with tempfile.TemporaryDirectory(dir=base) as folder:
        row = write_run(Path(folder) / "whole", tasks, tasks)
        begun = time.perf_counter()
        with JournalReader(Path(folder) / "whole") as reader:
            records = sum(record.result is not None for record in reader.records())
        row["read_s"] = time.perf_counter() - begun
        begun = time.perf_counter()
        is_sound = audit_run(Path(folder) / "whole").ok
        row["audit_s"] = time.perf_counter() - begun
        write_run(Path(folder) / "half", tasks, tasks // 2)
        begun = time.perf_counter()
        recovered = read_recovered(Path(folder) / "half")
        row["recovery_s"] = time.perf_counter() - begun
        if records != tasks or not is_sound or len(recovered.settled) != tasks // 2:
            raise SystemExit(f"the journal of {tasks} tasks holds something else")
    return row


def engine_table(rows: Sequence[Row]) -> Table:
    """The tasks for which the engine decides in a second of CPU time."""
    table = _table("Engine: tasks", "slots", "tasks/s of CPU", "us/event", "events", "chunks", "makespan, virtual")
    for key in dict.fromkeys((row["tasks"], row["slots"]) for row in rows):
        repeats = [row for row in rows if (row["tasks"], row["slots"]) == key]
        rate = _median([row["tasks"] / row["engine_s"] for row in repeats], "{:,.0f}")
        event_us = _median([1e6 * row["engine_s"] / row["events"] for row in repeats], "{:.1f}")
        one = repeats[0]
        numbers = f"{one['events']:,}", f"{one['chunks']:,}", f"{one['makespan_s']:,.1f} s"
        table.add_row(f"{key[0]:,}", f"{key[1]:,}", rate, event_us, *numbers)
    return table


def memory_table(rows: Sequence[Row]) -> Table:
    """The bytes that the engine keeps for a task that waits."""
    table = _table("Engine: tasks that wait", "bytes/task, 1 kind", "100 kinds")
    for row in rows:
        sizes = (f"{row[f'bytes_per_task_{kinds}_kinds']:.0f}" for kinds in (1, 100))
        table.add_row(f"{row['tasks']:,}", *sizes)
    return table


def journal_table(rows: Sequence[Row]) -> Table:
    """The rates at which the journal takes tasks and gives them back, and its size."""
    columns = ("submitted/s", "commits/s", "rows/s", "read/s", "audited/s", "recovery s", "bytes/task")
    table = _table("Journal: tasks", *columns)
    for tasks in dict.fromkeys(row["tasks"] for row in rows):
        repeats = [row for row in rows if row["tasks"] == tasks]
        table.add_row(
            f"{tasks:,}",
            _median([tasks / row["submit_s"] for row in repeats], "{:,.0f}"),
            _median([row["commits"] / row["commit_s"] for row in repeats], "{:,.0f}"),
            _median([row["rows"] / row["commit_s"] for row in repeats], "{:,.0f}"),
            _median([tasks / row["read_s"] for row in repeats], "{:,.0f}"),
            _median([tasks / row["audit_s"] for row in repeats], "{:,.0f}"),
            _median([row["recovery_s"] for row in repeats], "{:.2f}"),
            f"{repeats[0]['size_bytes'] / tasks:.0f}",
        )
    return table


def _median(values: list[float], form: str) -> str:
    told = estimated(values)
    interval = told["ci95"]
    return form.format(told["value"]) + ("\n" + "-".join(map(form.format, interval)) if interval else "")


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in (first, *columns):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, help="default: 5")
    parser.add_argument("--only", choices=("engine", "memory", "journal"), help="one part")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--output", type=Path, help="folder for the results (default: studies/<time>-engine)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks, 2 repeats")
    options = parser.parse_args()
    repeats = options.repeats or (2 if options.quick else 5)
    sizes = [tasks // 10 if options.quick else tasks for tasks in TASKS]
    output = options.output or Path("studies") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-engine"
    output.mkdir(parents=True, exist_ok=True)
    parts = [options.only] if options.only else ["engine", "memory", "journal"]
    plan: list[tuple[str, int, int]] = []
    for _ in range(repeats):
        plan += [("engine", tasks, slots) for tasks in sizes for slots in SLOTS if "engine" in parts]
        plan += [("journal", tasks, 0) for tasks in sizes[1:] if "journal" in parts]
    random.Random(options.seed).shuffle(plan)  # noqa: S311 - no secret is drawn
    plan.sort(key=lambda one: one[0])  # the journal's rest on the disk must not disturb the engine
    rows: dict[str, list[Row]] = {"engine": [], "memory": [], "journal": []}
    for part, tasks, slots in plan:
        row = measure_engine(tasks, slots) if part == "engine" else measure_journal(output, tasks)
        rows[part].append(row)
        print(f"{part}: {row}", file=sys.stderr)
    rows["memory"] = [measure_memory(tasks) for tasks in sizes] if "memory" in parts else []
    clock_s = measure_clock()
    content = {
        "host": describe_host(()),
        "clock_s": clock_s,
        "settings": {"repeats": repeats, "seed": options.seed, "parts": parts},
    }
    write_json(output / "engine.json", {**content, **rows})
    console = Console(width=max(Console().width, 150))
    for part, table in (("engine", engine_table), ("memory", memory_table), ("journal", journal_table)):
        if rows[part]:
            rows[part].sort(key=lambda row: (row["tasks"], row.get("slots", 0)))
            console.print(table(rows[part]), "")
    console.print(f"reading the clock is {1e6 * clock_s:.1f} us of each event")
    console.print(f"medians with 95 % intervals of {repeats} repeats; {output}/engine.json")


if __name__ == "__main__":
    main()
