"""Shows how often `dfz compare` finds a difference between two studies of equal programs.

    python benchmarks/comparison_coverage.py [--comparisons 1000]

Two studies of the sequential program and of 1, 2 and 4 workers are drawn, eight repeats each, one after the other, as
they would be made on one machine. The times have noise of one sort:
  lognormal    a spread of 10 %
  correlated   the noise of a trial is 0.8 times that of the trial before, and something new
  drift        the machine becomes slower by 2 % from trial to trial
  session      a spread of 3 %, and in each study the machine is slower or faster as a whole, with a spread of 5 %
For each it prints how often the verdict is better or worse, by speedups and, for studies without a sequential program,
by times; and how often a change is found: 4 workers that take 1.3 times as long in the second study.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dfz_ray.scaling.comparison import Study, compare_studies, overall
from dfz_ray.scaling.measurement import Measurement

WORKERS = (0, 1, 2, 4)
REPEATS = 8
CHANGE = 1.3
SEED = 20_261
TASKS = 40


def correlated(random: np.random.Generator, trials: int) -> np.ndarray:
    """Noise that goes on from trial to trial, also into the second study."""
    logs = random.normal(0.0, 0.1, trials)
    for trial in range(1, trials):
        logs[trial] = 0.8 * logs[trial - 1] + 0.6 * logs[trial]
    return np.exp(logs)


NOISES: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "lognormal": lambda random, trials: np.exp(random.normal(0.0, 0.1, trials)),
    "correlated": correlated,
    "drift": lambda random, trials: np.exp(random.normal(0.0, 0.05, trials)) * 1.02 ** np.arange(trials),
    "session": lambda random, trials: np.exp(
        random.normal(0.0, 0.03, trials) + np.repeat(random.normal(0.0, 0.05, 2), trials // 2)
    ),
}
"""Draws factors for the trials of both studies, in the order in which they run."""


def draw_studies(random: np.random.Generator, noise: str, workers: Sequence[int], change: float = 1.0) -> list[Study]:
    """Two studies, the second after the first; in it the largest number of workers takes `change` times as long."""
    trials = len(workers) * REPEATS
    factors = NOISES[noise](random, 2 * trials).reshape(2, REPEATS, len(workers))
    studies = []
    for position, study in enumerate(factors):
        measured = []
        for repeat, row in enumerate(study):
            for place, (count, factor) in enumerate(zip(random.permutation(workers).tolist(), row, strict=True)):
                slower = change if position and count == max(workers) else 1.0
                measured.append(
                    Measurement(
                        kind="point" if count else "baseline",
                        workers=count,
                        repeat=repeat,
                        order=repeat * len(workers) + place,
                        wall_s=slower * float(factor) / max(count, 1),
                        tasks=TASKS,
                        completed=TASKS,
                        started_at=0.0,
                        mode="processes" if count else None,
                    )
                )
        studies.append(Study(Path("drawn"), {"batch": {"domains": ["drawn"], "count": TASKS}}, measured))
    return studies


def count_differences(noise: str, comparisons: int, workers: Sequence[int], change: float = 1.0) -> float:
    """The share of comparisons whose verdict is better or worse."""
    random = np.random.default_rng(SEED)
    found = [overall(compare_studies(*draw_studies(random, noise, workers, change))) for _ in range(comparisons)]
    return sum(verdict in ("better", "worse") for verdict in found) / comparisons


def main() -> None:
    """Draw, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=1000, help="pairs of studies of each noise")
    asked = parser.parse_args().comparisons
    print("| noise | wrong verdicts by speedups | by times | a change is found by speedups |\n|---|---|---|---|")
    for noise in NOISES:
        wrong = count_differences(noise, asked, WORKERS)
        by_times = count_differences(noise, asked, WORKERS[1:])
        found = count_differences(noise, asked, WORKERS, CHANGE)
        print(f"| {noise} | {100 * wrong:.1f} % | {100 * by_times:.1f} % | {100 * found:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
