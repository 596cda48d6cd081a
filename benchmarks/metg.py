"""The shortest tasks that dfz_ray runs efficiently, and where the time goes when they are shorter.

    python benchmarks/metg.py                     # 1, 2 and 4 workers, about half an hour
    python benchmarks/metg.py --quick             # a look, two minutes
    python benchmarks/metg.py --workers 2 --grains 100us,1ms --repeats 11

METG(50 %) is the grain at which half of the cores' time is useful work (Slaughter et al., "Task Bench", SC'20); tasks
and their calibration are those of peers.py. With more workers than physical cores (marked *), the efficiency counts
the cores there are.

Each grain is run twice in a row, in random order: with commits that wait for the disk, as always, and without. The
losses, in core-seconds of slots, add up to workers x makespan:
  useful      the tasks' own work, by the calibration
  encoding    what workers do for tasks besides (decoding, checking, encoding, digest): their CPU time less `useful`.
              `handling` is the same measured alone, in this process: microseconds for a task that does nothing
  no core     tasks that had begun, and waited for a core
  dispatch    slots between two chunks
  imbalance   slots that had nothing left, until the last task ended
  ramp-up     from the call until a slot's first task: checking, sending and committing the batch, starting leases
  drain       from the last task's end until the results are in hand
  journal     waiting for the disk: the makespan with it, less the makespan without it. All other losses are of the
              runs that did not wait. The journal's other work is within these, and can't be separated
  other       what is none of these: slots that were never used, and the rest
Losses are means over the repeats, since medians do not add up. Writes metg.json.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from burn_domain import burn_task
from calibration import Calibrators
from efficiency import estimate_metg
from losses import LOSSES, split_losses
from measurement import Measurement, describe_host, estimated, measure, write_json
from rich.console import Console
from rich.table import Table
from session import NICENESS, Failed, Session, become_nice
from workloads import even, even_count, parse_length, show_length

from dfz_ray.execution.execute import Work, execute_chunk
from dfz_ray.journal.executions import read_executed
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.input_file import FileShelf

GRAINS = "20us,50us,100us,200us,500us,1ms,2ms,5ms,10ms,50ms"
QUICK_GRAINS = "50us,200us,1ms,5ms"
FASTEST_TASKS_PER_S = 15_000
"""Batches are no larger than what this rate does within twice the time of their work."""
MODES = {"dfz_ray": True, "dfz_ray, no fsync": False}
"""True if commits wait for the disk."""
TABLE_WIDTH = 140
HANDLED_TASKS = 20_000

Losses = dict[tuple[int, float], list[dict[str, float]]]


class Sweep:
    """All measurements, and the losses of those that did not wait for the disk.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._order = random.Random(options.seed)  # noqa: S311 - no secret is drawn
        self._begun = time.perf_counter()
        self.measurements: list[Measurement] = []
        self.losses: Losses = defaultdict(list)

    def run(self) -> None:
        """Measure everything, every repeat in another order."""
        options = self._options
        for repeat in range(options.repeats):
            for workers in self._order.sample(options.workers, len(options.workers)):
                with Calibrators(workers) as calibrators:
                    self._sweep(workers, repeat, calibrators)

    def _sweep(self, workers: int, repeat: int, calibrators: Calibrators) -> None:
        """Every grain once in each mode; the modes of a grain follow each other closely."""
        with (
            tempfile.TemporaryDirectory(dir=self._options.output, ignore_cleanup_errors=True) as folder,
            Session("dfz_ray", workers, Path(folder), calibrators.measure()) as session,
        ):
            if isinstance(session.opened, Failed):
                raise SystemExit(f"dfz_ray could not be opened: {session.opened.error}")
            for grain_s in self._order.sample(self._options.grains, len(self._options.grains)):
                pair = {
                    mode: self._measure(mode, session, grain_s, workers, repeat, calibrators)
                    for mode in self._order.sample(sorted(MODES), 2)
                }
                losses, makespan_s = pair["dfz_ray, no fsync"]
                losses["journal"] = workers * (pair["dfz_ray"][1] - makespan_s)
                self.losses[workers, grain_s].append(losses)

    def _measure(
        self, mode: str, session: Session, grain_s: float, workers: int, repeat: int, calibrators: Calibrators
    ) -> tuple[dict[str, float], float]:
        work_s = self._options.work_s
        count = min(even_count(grain_s, workers, work_s), round(2 * work_s * FASTEST_TASKS_PER_S))
        measurement, timed = measure(session, calibrators, even(grain_s, count), mode, workers, repeat, MODES[mode])
        self.measurements.append(measurement)
        if timed is None or timed.run_dir is None:
            raise SystemExit(f"{mode}, {measurement.batch}: {measurement.error}")
        what = f"{workers} workers, {mode}: {measurement.batch}, {count} tasks in {timed.makespan_s:.2f} s"
        print(f"[{time.perf_counter() - self._begun:5.0f} s] {repeat + 1}: {what}", file=sys.stderr)
        executed = read_executed(Path(timed.run_dir))
        losses = split_losses(executed, timed.called_at, timed.returned_at, workers, measurement.useful_s)
        losses["other"] += workers * timed.makespan_s - sum(losses.values())
        return losses, timed.makespan_s


def summarize(sweep: Sweep, cores: int, seed: int) -> list[dict[str, Any]]:
    """For each number of workers: METG, and for each grain the efficiency and the mean losses."""
    points = []
    for workers in sorted({workers for workers, _ in sweep.losses}):
        durable = [one for one in sweep.measurements if one.workers == workers and one.peer == "dfz_ray"]
        curve: dict[float, list[float]] = defaultdict(list)
        for one in durable:
            curve[one.grain_s or 0.0].append(one.efficiency * workers / min(workers, cores))
        metg, interval = estimate_metg(curve, seed)
        grains = []
        for grain_s in sorted(curve):
            repeats = [one for one in durable if one.grain_s == grain_s]
            losses = sweep.losses[workers, grain_s]
            grains.append(
                {
                    "grain_s": grain_s,
                    "tasks": repeats[0].tasks,
                    "efficiency": estimated(curve[grain_s]),
                    "tasks_per_s": estimated([one.tasks_per_s for one in repeats]),
                    "core_s": workers * statistics.fmean(one.makespan_s or 0.0 for one in repeats),
                    "losses": {name: statistics.fmean(one[name] for one in losses) for name in (*LOSSES, "journal")},
                    "journal_core_s": estimated([one["journal"] for one in losses]),
                }
            )
        points.append(
            {
                "workers": workers,
                "oversubscribed": workers > cores,
                "metg": metg,
                "metg_ci95": interval,
                "grains": grains,
            }
        )
    return points


def losses_table(point: dict[str, Any]) -> Table:
    """Efficiency and losses by grain, in shares of workers x makespan."""
    interval = point["metg_ci95"]
    mark = " *" if point["oversubscribed"] else ""
    between = f" ({interval[0]} to {interval[1]})" if interval else ""
    title = f"{point['workers']} workers{mark}: METG(50 %) {point['metg']}{between}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), header_style="dim")
    names = ("useful", "encoding", "no core", "dispatch", "imbalance", "ramp-up", "drain", "journal", "other")
    for name in ("grain", "tasks", "tasks/s", "efficiency", "core-s", *names):
        table.add_column(name, justify="right", no_wrap=True)
    for grain in point["grains"]:
        low_high = grain["efficiency"]["ci95"]
        efficiency = f"{grain['efficiency']['value']:.3f}"
        efficiency += f" ({low_high[0]:.3f}-{low_high[1]:.3f})" if low_high else ""
        shares = [f"{100 * grain['losses'][name] / grain['core_s']:.1f} %" for name in names]
        rate = f"{grain['tasks_per_s']['value']:,.0f}"
        cells = (show_length(grain["grain_s"]), f"{grain['tasks']:,}", rate, efficiency, f"{grain['core_s']:.2f}")
        table.add_row(*cells, *shares)
    return table


def measure_handling() -> float:
    """Seconds that executing one task takes besides its own work, in this process alone."""
    works = [Work(number, 0, encode({"iterations": 0, "kind": "all"})) for number in range(HANDLED_TASKS)]
    times = []
    for _ in range(5):
        begun = time.thread_time()
        execute_chunk(burn_task.domain, works, 1, FileShelf(contents={}))
        times.append(time.thread_time() - begun)
    return statistics.median(times) / HANDLED_TASKS


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4", help="numbers of workers (default: 1,2,4)")
    parser.add_argument("--grains", help=f"lengths of tasks (default: {GRAINS})")
    parser.add_argument("--repeats", type=int, help="default: 7")
    parser.add_argument("--work-s", type=float, help="work for each worker in a batch, in seconds (default: 1.5)")
    parser.add_argument("--seed", type=int, default=0, help="of the orders")
    parser.add_argument("--output", type=Path, help="folder for the results (default: studies/<time>-metg)")
    parser.add_argument("--quick", action="store_true", help="2 repeats of a few short batches")
    options = parser.parse_args(arguments)
    options.repeats = options.repeats or (2 if options.quick else 7)
    options.work_s = options.work_s or (0.3 if options.quick else 1.5)
    grains = options.grains or (QUICK_GRAINS if options.quick else GRAINS)
    try:
        options.grains = sorted({parse_length(text) for text in grains.split(",")} - {0.0})
        options.workers = sorted({int(text) for text in options.workers.split(",")})
    except ValueError as error:
        parser.error(str(error))
    options.output = options.output or Path("studies") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-metg"
    return options


def main() -> None:
    """Measure, print and write."""
    options = read_options()
    become_nice()
    options.output.mkdir(parents=True, exist_ok=True)
    sweep = Sweep(options)
    sweep.run()
    host = describe_host(())
    points = summarize(sweep, host["physical_cores"], options.seed)
    handling_s = measure_handling()
    settings = {name: value for name, value in vars(options).items() if name != "output"} | {"niceness": NICENESS}
    content = {"host": host, "settings": settings, "handling_s": handling_s, "points": points}
    losses = [
        {"workers": workers, "grain_s": grain, "repeats": all_} for (workers, grain), all_ in sweep.losses.items()
    ]
    write_json(options.output / "metg.json", {**content, "losses": losses, "measurements": sweep.measurements})
    console = Console(width=max(Console().width, TABLE_WIDTH))
    for point in points:
        console.print(losses_table(point), "")
    console.print(f"handling, measured alone: {1e6 * handling_s:.1f} us for a task that does nothing")
    console.print(f"medians with 95 % intervals of {options.repeats} repeats; {options.output}/metg.json")


if __name__ == "__main__":
    main()
