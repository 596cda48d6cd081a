"""Prove that nothing is lost, whatever dies: `make chaos`, or `python tests/chaos.py --only kills:manager`.

Runs are really disturbed: processes of real Ray are killed and stopped, by a matrix of victims, signals and moments
(kills), together with others (stories), and many in one run (storm); besides, runs in virtual time with faults of every
sort are drawn from seeds (simulation). Every run ends with an audit, and a second one that shares no code with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import click

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))

from support.driver import Program, glance, write_batch  # noqa: E402 - they are found by the line above
from support.interrupts import heed_interrupts  # noqa: E402
from support.kill_stories import STORIES, Story, find_one  # noqa: E402
from support.kill_trial import Trial, all_trials, check_whole, describe, measure_undisturbed, run_trial  # noqa: E402
from support.simulated_faults import run_seed  # noqa: E402

PARTS = ("simulation", "kills", "stories", "storm")
STORM_TASKS, STORM_MS, STORM_KILLS, STORM_REPEATS = 2000, 10, 10, 3
STORM_AT_MOST = 2.0
"""So many times longer may a run with ten kills take."""
SEEDS_AT_ONCE = 100
REPORT_EACH_S = 10.0
SHOWN_FAILURES = 20


class Tally:
    """Runs trials, reports each as it ends, and counts.

    Args:
        base: where the folders of the trials are; those of failed ones stay.
        again: the command that runs a part again.
    """

    def __init__(self, base: Path, again: str) -> None:
        self._base = base
        self._again = again
        self.trials = 0
        self.failures = 0

    def run(self, part: str, name: str, trial: Callable[[Path], str]) -> None:
        """Run one trial in a folder of its own."""
        folder = self._base / name
        shutil.rmtree(folder, ignore_errors=True)
        begun = time.monotonic()
        self.trials += 1
        try:
            text = trial(folder)
        except Exception:
            self.failures += 1
            again = f"{self._again} --only {part}:{name}"
            print(f"{name}: FAILED; kept in {folder}; again: {again}\n{traceback.format_exc()}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"{name}: fine in {time.monotonic() - begun:.0f} s{text and ': '}{text}", flush=True)


@click.command()
@click.option("--seeds", default=100_000, show_default=True, help="How many simulated runs.")
@click.option("--first-seed", default=0, show_default=True, help="The first of them, and the seed of all else.")
@click.option(
    "--only",
    multiple=True,
    metavar="PART[:WORD]",
    help=f"Only this part ({', '.join(PARTS)}), and of it the trials whose name has the word, such as kills:manager.",
)
@click.option("--keep", metavar="DIR", help="Where the folders of failed trials go; else a new one.")
def main(seeds: int, first_seed: int, only: tuple[str, ...], keep: str | None) -> None:
    """Kill and stop processes of runs, and look whether anything was lost; exit code 1 if anything was."""
    heed_interrupts()
    wanted = dict.fromkeys(PARTS, "") if not only else dict(word.partition(":")[::2] for word in only)
    if unknown := set(wanted) - set(PARTS):
        raise click.BadParameter(
            f"found {', '.join(sorted(unknown))}, expected {', '.join(PARTS)}", param_hint="--only"
        )
    base = Path(keep or tempfile.mkdtemp(prefix="dfz-chaos-")).absolute()
    base.mkdir(parents=True, exist_ok=True)
    tally = Tally(base, f"{Path(sys.executable).name} tests/chaos.py --first-seed {first_seed}")
    if "simulation" in wanted:
        simulate(tally, range(first_seed, first_seed + seeds))
    if {"kills", "stories"} & set(wanted):
        digest = measure_undisturbed(base / "undisturbed")["digest"]
        if "kills" in wanted:
            for trial in all_trials(first_seed):
                if wanted["kills"] in str(trial):
                    tally.run("kills", str(trial), partial(kill, trial, digest))
        if "stories" in wanted:
            for story in STORIES:
                if wanted["stories"] in story.__name__:
                    tally.run("stories", story.__name__, partial(run_story, story, digest))
    if "storm" in wanted:
        tally.run("storm", f"storm-{first_seed}", partial(storm, first_seed))
    print(f"{tally.trials:,} trials, {tally.failures:,} failures" + (f"; see {base}" if tally.failures else ""))
    if not tally.failures:
        shutil.rmtree(base, ignore_errors=True)
    sys.exit(1 if tally.failures else 0)


def simulate(tally: Tally, seeds: range) -> None:
    """Run simulated runs on all cores."""
    cores = len(os.sched_getaffinity(0))
    blocks = [seeds[start : start + SEEDS_AT_ONCE] for start in range(0, len(seeds), SEEDS_AT_ONCE)]
    begun, done, events = time.monotonic(), 0, 0
    reported_at = begun
    outcomes: Counter[str] = Counter()
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run_seeds, block) for block in blocks]):
            ran, more_events, more_outcomes, failures = future.result()
            done, events, now = done + ran, events + more_events, time.monotonic()
            outcomes.update(more_outcomes)
            tally.trials += ran
            for failure in failures:
                tally.failures += 1
                if tally.failures <= SHOWN_FAILURES:
                    print(failure, flush=True)
            if now - reported_at > REPORT_EACH_S or done == len(seeds):
                reported_at = now
                print(
                    f"simulation: {done:,} of {len(seeds):,} seeds, {events:,} events, {now - begun:.0f} s", flush=True
                )
    counts = ", ".join(f"{count:,} {state}" for state, count in sorted(outcomes.items()))
    print(f"simulation: tasks {counts}", flush=True)


def run_seeds(seeds: range) -> tuple[int, int, Counter[str], list[str]]:
    """Run seeds; returns how many, with how many events, the outcomes of the tasks, and what failed."""
    events = 0
    outcomes: Counter[str] = Counter()
    failures = []
    for seed in seeds:
        try:
            report = run_seed(seed)
        except AssertionError as error:
            failures.append(str(error))
        else:
            events += report.events
            outcomes.update({getattr(state, "name", str(state)): count for state, count in report.outcomes.items()})
    return len(seeds), events, outcomes, failures


def kill(trial: Trial, digest: str, folder: Path) -> str:
    """One trial of the matrix."""
    return describe(run_trial(trial, folder, digest))


def run_story(story: Story, digest: str, folder: Path) -> str:
    """One story."""
    story(folder, digest)
    return (story.__doc__ or "").splitlines()[0]


def storm(seed: int, folder: Path) -> str:
    """Ten kills of workers and managers in a run of 2,000 short tasks: how much longer it takes than undisturbed."""
    options = {"large": 0, "ms": STORM_MS, "max_attempts": 20}
    calm_s, stormy_s, killed = [], [], Counter[str]()
    for repeat in range(STORM_REPEATS):
        calm = measure_undisturbed(folder / f"calm-{repeat}", STORM_TASKS, **options)
        calm_s.append(calm["metrics"]["total_duration"])
        stormy = folder / f"stormy-{repeat}"
        write_batch(stormy, STORM_TASKS, **options)
        with contextlib.closing(Program(stormy, "run")) as program:
            killed.update(kill_at_random(program, random.Random(seed + repeat)))  # noqa: S311 - no secret
            assert program.wait() == 0, program.stderr
            result = program.summary()
        check_whole(stormy, calm["digest"], STORM_TASKS)
        stormy_s.append(result["metrics"]["total_duration"])
    ratio = statistics.median(stormy_s) / statistics.median(calm_s)
    victims = " and ".join(f"{count} {victim}s" for victim, count in sorted(killed.items()))
    text = (
        f"makespan {statistics.median(calm_s):.2f} s undisturbed, {statistics.median(stormy_s):.2f} s with "
        f"{STORM_KILLS} kills, ratio {ratio:.2f} (medians of {STORM_REPEATS}; {victims} were killed in all)"
    )
    assert ratio <= STORM_AT_MOST, text
    return text


def kill_at_random(program: Program, draw: random.Random) -> Iterator[str]:
    """Kill a worker or the manager whenever so many tasks have ended; yields who it was."""
    for threshold in sorted(draw.sample(range(STORM_TASKS // 40, STORM_TASKS * 39 // 40), STORM_KILLS)):
        while glance(program.run).outcomes < threshold and program.process.is_running():
            time.sleep(0.01)
        victim = draw.choice(("worker", "manager"))
        find_one(program, victim).kill()
        yield victim


if __name__ == "__main__":
    main()
