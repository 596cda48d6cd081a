"""Try what hostile tasks can do to the good ones beside them: `make chaos`, or `python tests/hostile.py --only NAME`.

Three hostile tasks share a run with 80 good ones, on processes and on threads. Every good task must complete with its
own result, and feel nothing of the others; what becomes of the hostile ones is charged to them alone; both audits find
nothing; and the run ends within a limit. Afterwards a table shows the end of each hostile task.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))
from support.hostile_tasks import all_deeds  # noqa: E402 - they are found by the line above
from support.hostile_trial import (  # noqa: E402
    AT_ONCE,
    LIMIT_S,
    SLOTS,
    End,
    HostileCluster,
    Trial,
    draw_trials,
)
from support.interrupts import heed_interrupts  # noqa: E402

SHOWN_VIOLATIONS = 12
JOBS = 2
"""Trials wait most of their time: for deadlines, silences and new workers."""


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="Only these hostile tasks.")
@click.option("--group", multiple=True, metavar="NAME", help="Only the hostile tasks of these groups.")
@click.option("--seed", default=0, show_default=True, help="The seed of what is tried together, and of the order.")
@click.option("--together", default=AT_ONCE, show_default=True, help="How many hostile tasks share a run.")
@click.option("--threads", "modes", flag_value="threads", help="Only on threads.")
@click.option("--processes", "modes", flag_value="processes", help="Only with processes.")
@click.option(
    "--jobs", default=JOBS, show_default=True, help="How many trials run at a time, each on a Ray of its own."
)
@click.option("--part", default="1/1", metavar="N/M", help="Only the Nth of M parts of the trials.")
@click.option("--limit", default=LIMIT_S, show_default=True, help="Seconds in which each run must end.")
@click.option("--again/--no-again", default=True, help="Whether a trial that failed is tried once more on new workers.")
@click.option("--keep", metavar="DIR", help="Where the folders of failed trials go; else a new one.")
def main(
    only: tuple[str, ...],
    group: tuple[str, ...],
    seed: int,
    together: int,
    modes: str | None,
    jobs: int,
    part: str,
    limit: float,
    again: bool,
    keep: str | None,
) -> None:
    """Run hostile tasks beside good ones, and look whether anybody else has noticed; exit code 1 if so."""
    heed_interrupts()
    if unknown := set(only) - set(all_deeds()):
        raise click.BadParameter(f"there is no hostile task {', '.join(sorted(unknown))}", param_hint="--only")
    names = list(only) or None
    if group:
        names = [name for name, deed in all_deeds().items() if deed.group in group]
    wanted = [on_threads for on_threads in SLOTS if modes in (None, name_mode(on_threads))]
    nth, parts = map(int, part.split("/"))
    trials = draw_trials(seed, wanted, together, names)[nth - 1 :: parts]
    queued = queue.SimpleQueue[tuple[int, Trial]]()
    for found in enumerate(trials, 1):
        queued.put(found)
    base = Path(keep or tempfile.mkdtemp(prefix="dfz-hostile-")).absolute()
    base.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that Ray is ended first
    tally = Tally(base, together, len(trials), again)
    clusters = [HostileCluster(limit) for _ in range(min(jobs, len(trials)))]
    with ThreadPoolExecutor(len(clusters)) as pool:
        try:
            for done in as_completed([pool.submit(run_all, queued, cluster, tally) for cluster in clusters]):
                done.result()
        finally:
            while not queued.empty():
                queued.get()
            for cluster in clusters:
                cluster.close()
    tally.show_table()
    print(f"{tally.trials:,} trials, {tally.failures:,} failures" + (f"; see {base}" if tally.failures else ""))
    if not tally.failures:
        shutil.rmtree(base, ignore_errors=True)
    sys.exit(1 if tally.failures else 0)


def run_all(queued: queue.SimpleQueue[tuple[int, Trial]], cluster: HostileCluster, tally: Tally) -> None:
    """Run the trials that are queued on one Ray, one after the other."""
    with contextlib.suppress(queue.Empty):
        while True:
            position, trial = queued.get_nowait()
            tally.run(cluster, position, trial)


class Tally:
    """Runs trials, reports each as it ends, and counts. Several threads may use it.

    Args:
        base: where the run folders are; those of failed trials stay.
        together: how many hostile tasks a trial may have.
        number: the number of all trials.
        tries_again: True if a trial that failed is tried once more, on new workers.
    """

    def __init__(self, base: Path, together: int, number: int, tries_again: bool) -> None:
        self._base = base
        self._together = together
        self._tries_again = tries_again
        self._number = number
        self._lock = threading.Lock()
        self._ends: dict[str, Counter[str]] = defaultdict(Counter)
        self._accused: Counter[str] = Counter()
        """By hostile task: the number of failed trials that it was in."""
        self._begun = time.monotonic()
        self.trials = 0
        self.failures = 0

    def run(self, cluster: HostileCluster, position: int, trial: Trial) -> None:
        """Run a trial; if it fails, once more on new workers: an earlier trial may have left something behind."""
        mode = name_mode(trial.on_threads)
        folder = self._base / f"{position:03}-{mode}"
        before = [str(one) for one in cluster.before]
        end = cluster.run(trial, folder)
        repeated: End | None = None
        if end.violations and before and self._tries_again:
            repeated = cluster.run(trial, folder.with_name(f"{folder.name}-again"))
        with self._lock:
            self.trials += 1
            for name, became in end.became.items():
                self._ends[name][f"{mode}: {became}"] += 1
            so_far = f"{position} of {self._number}, {time.monotonic() - self._begun:.0f} s: {trial}"
            if not end.violations:
                shutil.rmtree(folder, ignore_errors=True)
                print(f"{so_far}: fine in {end.took_s:.1f} s", flush=True)
                return
            self.failures += 1
            self._accused.update(trial.names)
            print(f"{so_far}: FAILED in {end.took_s:.1f} s; kept in {folder}", flush=True)
            show_violations(end)
            again = " ".join(f"--only {name}" for name in trial.names)
            print(
                f"  again: {Path(sys.executable).name} tests/hostile.py {again} --{mode} --seed {trial.seed} "
                f"--together {self._together}",
                flush=True,
            )
            if repeated is not None:
                print(f"  again, on new workers: {'FAILED' if repeated.violations else 'fine'}", flush=True)
                show_violations(repeated)
                if not repeated.violations:
                    print(f"  so an earlier trial may have left something behind: {'; '.join(before)}", flush=True)

    def show_table(self) -> None:
        """The end of each hostile task, and in how many failed trials it was."""
        width = max(map(len, self._ends), default=0)
        for name in sorted(self._ends, key=lambda name: (all_deeds()[name].group, name)):
            counts = sorted(self._ends[name].items())
            ends = ", ".join(f"{end} ({count})" if count > 1 else end for end, count in counts)
            failed = f"; in {self._accused[name]} failed trials" if self._accused[name] else ""
            print(f"{all_deeds()[name].group:13}  {name:{width}}  {ends}{failed}")


def name_mode(on_threads: bool) -> str:
    """The name of a mode, as of its option."""
    return "threads" if on_threads else "processes"


def show_violations(end: End) -> None:
    """The first of them, a line each."""
    for text in end.violations[:SHOWN_VIOLATIONS]:
        print(f"  - {text[:600]}", flush=True)
    if len(end.violations) > SHOWN_VIOLATIONS:
        print(f"  - and {len(end.violations) - SHOWN_VIOLATIONS} more", flush=True)


if __name__ == "__main__":
    main()
