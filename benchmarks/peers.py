"""The share of useful work in the cores' time: dfz_ray beside other ways to run a list of tasks.

    python benchmarks/peers.py                        # all that are installed, about 40 minutes
    python benchmarks/peers.py --quick                # eight minutes: too few repeats to conclude anything
    python benchmarks/peers.py --peers limit,joblib,dfz_ray --grains 30us,1ms

The peers (pip install 'dfz_ray[peers]' brings them all; missing ones are left out):
  limit           each worker is handed its share whole, no scheduler: what the machine gives
  joblib          Parallel, with loky and automatic batches
  mpire           WorkerPool.map
  futures         concurrent.futures.ProcessPoolExecutor, one submit per task
  futures_chunks  the same, map with four chunks for each worker
  ray_pool        ray.util.multiprocessing.Pool.map: static chunks
  ray_tasks       plain Ray, one remote call per task
  parsl           the high-throughput executor
  dask            Dask distributed, a cluster on this machine
  dfz_ray         run(): the only one that checks parameters and has every result on disk (fsync) before it is in hand

A task is a loop of arithmetic, and returns where it led to; every result is checked. How many steps fill a grain is
measured just before and after each measurement, in as many processes as there are workers. Every process runs at
niceness 15, as Ray's workers do. Each repeat opens each peer anew in a process of its own, in random order, and warms
it up before its batches, again in random order, are timed: from the call until all results are in the caller's hands.
  efficiency   useful core time / (workers x makespan), of tasks of equal length
  METG(50 %)   the grain at which that is one half (Slaughter et al., "Task Bench", SC'20): shorter is better
  over bound   makespan / max(all work / workers, longest task), of batches of unequal tasks: 1 is perfect
Peers that need longer than --limit-s for a batch of short tasks get fewer of them.
Writes peers.json (the host, and every single repeat) and peers.png, anew after each repeat.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calibration import Calibrators
from contestants import CONTESTANTS, missing_packages
from efficiency import Metg, estimate_metg
from measurement import Measurement, describe_host, estimated, failure, measure, write_json
from peers_figure import draw_peers
from rich.console import Console
from rich.table import Table
from session import NICENESS, Failed, Session, Timed, become_nice
from workloads import Batch, even, even_count, parse_length, show_length, uneven

GRAINS = "0,30us,100us,1ms,10ms,100ms"
FULL = {"repeats": 5, "work_s": 3.0, "limit_s": 3.0, "scale": 1.0}
QUICK = {"repeats": 2, "work_s": 0.4, "limit_s": 1.0, "scale": 0.25}
"""Sizes that are not given."""
PILOT_TASKS = 1000
TABLE_WIDTH = 130


class Contest:
    """All measurements.

    Args:
        options: of the command line.
        report: is called with a line for each measurement.
    """

    def __init__(self, options: argparse.Namespace, report: Callable[[str], None]) -> None:
        self._options = options
        self._report = report
        self._order = random.Random(options.seed)  # noqa: S311 - no secret is drawn
        self._counts: dict[tuple[str, float], int] = {}
        self.measurements: list[Measurement] = []
        self.opened: list[dict[str, Any]] = []

    def run(self) -> Iterator[int]:
        """Measure everything, every repeat in another order; yields how many repeats are done."""
        options = self._options
        with Calibrators(options.workers) as calibrators:
            for repeat in range(options.repeats):
                for name in self._order.sample(options.peers, len(options.peers)):
                    with tempfile.TemporaryDirectory(dir=options.output, ignore_cleanup_errors=True) as folder:
                        self._measure_peer(name, repeat, Path(folder), calibrators)
                yield repeat + 1

    def _measure_peer(self, name: str, repeat: int, folder: Path, calibrators: Calibrators) -> None:
        options, workers = self._options, self._options.workers
        with Session(name, workers, folder, calibrators.measure()) as session:
            if isinstance(session.opened, Failed):
                self._add(failure(name, workers, repeat, session.opened.error))
                return
            if session.opened.niceness != [NICENESS]:
                self._add(failure(name, workers, repeat, f"niceness {session.opened.niceness}, not {NICENESS}"))
                return
            self.opened.append({"peer": name, "repeat": repeat, **vars(session.opened)})
            grains = [
                even(grain_s, self._count(name, grain_s, session, calibrators.measure())) for grain_s in options.grains
            ]
            batches: list[Batch] = [*grains, *([] if options.even_only else uneven(options.seed, options.scale))]
            for batch in self._order.sample(batches, len(batches)):
                measurement, _ = measure(session, calibrators, batch, name, workers, repeat)
                self._add(measurement)
                if measurement.error:
                    return

    def _count(self, name: str, grain_s: float, session: Session, iteration_s: float) -> int:
        """The number of tasks of a batch: so much work for each worker, or as many as end within the limit."""
        if (name, grain_s) not in self._counts:
            full = even_count(grain_s, self._options.workers, self._options.work_s)
            count = min(full, PILOT_TASKS)
            while count < full:
                pilots = [session.time(even(grain_s, count).iterations(iteration_s)) for _ in range(2)]
                walls = [pilot.makespan_s for pilot in pilots if isinstance(pilot, Timed)]
                if not walls:
                    break
                fitting = min(full, int(count * self._options.limit_s / min(walls)))
                if fitting <= 1.5 * count:
                    count = min(count, fitting) if fitting < full else full
                    break
                count = fitting
            self._counts[name, grain_s] = max(count, 2 * self._options.workers)
        return self._counts[name, grain_s]

    def _add(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
        what = f"{measurement.repeat + 1}/{self._options.repeats} {measurement.peer}: {measurement.batch}"
        if measurement.makespan_s is None:
            self._report(f"{what}: {measurement.error}")
        else:
            self._report(f"{what}, {measurement.tasks} tasks in {measurement.makespan_s:.2f} s")


def summarize(measurements: Sequence[Measurement], seed: int = 0) -> dict[str, Any]:
    """For each peer: medians with intervals by batch, and METG."""
    peers: dict[str, Any] = {}
    for name in CONTESTANTS:
        own = [one for one in measurements if one.peer == name]
        if not own:
            continue
        by_batch: dict[str, list[Measurement]] = defaultdict(list)
        for one in own:
            if one.makespan_s is not None:
                by_batch[one.batch].append(one)
        batches: dict[str, Any] = {}
        curve: dict[float, list[float]] = {}
        for batch, repeats in by_batch.items():
            figures: dict[str, Any] = {"grain_s": repeats[0].grain_s, "tasks": repeats[0].tasks}
            figures["tasks_per_s"] = estimated([one.tasks_per_s for one in repeats])
            if repeats[0].grain_s is None:
                figures["over_bound"] = estimated([one.over_bound for one in repeats])
            elif repeats[0].grain_s > 0:
                curve[repeats[0].grain_s] = [one.efficiency for one in repeats]
                figures["efficiency"] = estimated(curve[repeats[0].grain_s])
            batches[batch] = figures
        metg, interval = estimate_metg(curve, seed) if curve else (None, None)
        errors = sorted({one.error for one in own if one.error})
        peers[name] = {"label": CONTESTANTS[name].label, "metg": metg, "metg_ci95": interval, "batches": batches}
        peers[name]["errors"] = errors
    return peers


def peers_table(peers: dict[str, Any], grains: Sequence[float]) -> Table:
    """Efficiencies by grain, and METG; the best METG first."""
    table = _table(
        "Efficiency", "METG(50 %)", *(show_length(grain_s) if grain_s else "0: tasks/s" for grain_s in grains)
    )
    for peer in sorted(peers.values(), key=lambda peer: peer["metg"].rank if peer["metg"] else (3, 0.0)):
        cells = [_metg_cell(peer["metg"], peer["metg_ci95"])]
        for grain_s in grains:
            figures = peer["batches"].get(f"even {show_length(grain_s)}")
            if figures is None:
                cells.append("failed")
            elif grain_s == 0:
                cells.append(_cell(figures["tasks_per_s"], "{:,.0f}"))
            else:
                cells.append(_cell(figures["efficiency"], "{:.1%}"))
        table.add_row(peer["label"], *cells)
    return table


def uneven_table(peers: dict[str, Any]) -> Table:
    """Makespans over the lower bound."""
    names = list(
        dict.fromkeys(name for peer in peers.values() for name in sorted(peer["batches"]) if name[:4] != "even")
    )
    table = _table("Makespan / lower bound", *names)
    for peer in peers.values():
        batches = [peer["batches"].get(name) for name in names]
        table.add_row(peer["label"], *(_cell(one["over_bound"], "{:.3f}") if one else "failed" for one in batches))
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cell(estimate: dict[str, Any], form: str) -> str:
    interval = estimate["ci95"]
    return form.format(estimate["value"]) + ("\n" + "-".join(form.format(end) for end in interval) if interval else "")


def _metg_cell(metg: Metg | None, interval: tuple[Metg, Metg] | None) -> str:
    if metg is None:
        return "failed"
    sign = {"below": "<", "above": ">", "": ""}
    ends = [f"{sign[end.bound]}{show_length(end.grain_s)}" for end in interval or ()]
    return f"{metg}\n{' - '.join(dict.fromkeys(ends))}"


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="how many tasks may execute at once (default: 2)")
    parser.add_argument("--repeats", type=int, help="how often each peer is opened and measured (default: 7)")
    parser.add_argument("--peers", default="", help="names from the list above, with commas (default: all installed)")
    parser.add_argument("--grains", default=GRAINS, help=f"lengths of equal tasks (default: {GRAINS})")
    parser.add_argument("--even-only", action="store_true", help="leave out the batches of unequal tasks")
    parser.add_argument("--work-s", type=float, help="work for each worker in a batch of equal tasks (default: 3)")
    parser.add_argument("--limit-s", type=float, help="batches of short tasks last about so long at most (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the orders, and of the unequal batches")
    parser.add_argument("--output", type=Path, help="folder for the results (default: studies/<time>-peers)")
    parser.add_argument("--quick", action="store_true", help="2 repeats of a quarter of the work")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    for name, size in sizes.items():
        if getattr(options, name, None) is None:
            setattr(options, name, size)
    try:
        options.grains = sorted({parse_length(text) for text in options.grains.split(",")})
    except ValueError as error:
        parser.error(f"--grains: {error}")
    named = [name for name in options.peers.split(",") if name]
    for name in named:
        if name not in CONTESTANTS:
            parser.error(f"--peers: there is no {name!r}, only {', '.join(CONTESTANTS)}")
        if missing_packages(name):
            parser.error(f"--peers: {name} needs {', '.join(missing_packages(name))}; pip install 'dfz_ray[peers]'")
    options.missing = {name: missing_packages(name) for name in CONTESTANTS if not named and missing_packages(name)}
    options.peers = named or [name for name in CONTESTANTS if name not in options.missing]
    options.output = options.output or Path("studies") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-peers"
    return options


def write_contest(contest: Contest, options: argparse.Namespace, done: int) -> dict[str, Any]:
    """Write all that is measured so far, and the picture; returns what came of each peer."""
    peers = summarize(contest.measurements, options.seed)
    host = describe_host(package for name in options.peers for package in CONTESTANTS[name].packages)
    settings = {name: value for name, value in vars(options).items() if name != "output"} | {"niceness": NICENESS}
    summary = {"host": host, "settings": settings, "repeats_done": done, "peers": peers}
    whole = {**summary, "opened": contest.opened, "measurements": contest.measurements}
    write_json(options.output / "peers.json", whole)
    (options.output / "peers.png").write_bytes(draw_peers(peers, host, options.workers, done))
    return peers


def main() -> None:
    """Measure, print and write."""
    options = read_options()
    become_nice()
    options.output.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    contest = Contest(options, lambda line: print(f"[{time.perf_counter() - begun:5.0f} s] {line}", file=sys.stderr))
    peers: dict[str, Any] = {}
    for done in contest.run():  # what is measured is written at once: a later repeat may be interrupted
        peers = write_contest(contest, options, done)
    console = Console(width=max(Console().width, TABLE_WIDTH))
    console.print(peers_table(peers, options.grains), "")
    if not options.even_only:
        console.print(uneven_table(peers), "")
    for name, packages in options.missing.items():
        console.print(f"left out: {name}, which needs {', '.join(packages)}")
    for name, peer in peers.items():
        for error in peer["errors"]:
            console.print(f"{name} failed: {error}", markup=False)
    console.print(f"medians with 95 % intervals of {options.repeats} repeats; {options.output}/peers.json, peers.png")


if __name__ == "__main__":
    main()
