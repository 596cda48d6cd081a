"""Shows how often the intervals of a study hold the truth: its whole rule is simulated, stopping included.

    python benchmarks/coverage.py [--studies 10000]

A study measures the sequential program and one number of workers, once each in every repeat, in random order. It ends
as `dfz scale` does (`dfz_ray/scaling/stopping.py`). The times have noise of one sort:
  lognormal    a spread of 10 %
  heavy tails  Student's t with 2 degrees of freedom on the logarithm, 5 %
  two speeds   the machine is slower by half in three of ten trials
  drift        the machine becomes slower by 2 % from trial to trial
  correlated   the noise of a trial is 0.8 times that of the trial before, and something new
For fixed numbers of repeats it prints the coverage of speedups (and of medians, where the noise is independent); for
the rule that stops by itself the coverage, the mean number of repeats, and how often "faster" is said of two programs
that are equally fast. Writes coverage.json.

Under drift both programs of a repeat share it, so a speedup's interval is wider than it need be, and covers more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measurement import write_json

from dfz_ray.scaling.estimate import Estimate, estimate_median, estimate_ratio
from dfz_ray.scaling.stopping import Stopping

FIXED = (4, 5, 6, 9, 15)
MOST = 15
SPEEDUP = 1.8
SEED = 20_260
Noise = Callable[[np.random.Generator, int], np.ndarray]


def correlated(random: np.random.Generator, trials: int) -> np.ndarray:
    """Noise that goes on from trial to trial."""
    logs = random.normal(0.0, 0.1, trials)
    for trial in range(1, trials):
        logs[trial] = 0.8 * logs[trial - 1] + 0.6 * logs[trial]
    return np.exp(logs)


NOISES: dict[str, Noise] = {
    "lognormal": lambda random, trials: np.exp(random.normal(0.0, 0.1, trials)),
    "heavy tails": lambda random, trials: np.exp(0.05 * random.standard_t(2, trials)),
    "two speeds": lambda random, trials: (
        np.exp(random.normal(0.0, 0.02, trials)) * np.where(random.random(trials) < 0.3, 1.5, 1.0)
    ),
    "drift": lambda random, trials: np.exp(random.normal(0.0, 0.05, trials)) * 1.02 ** np.arange(trials),
    "correlated": correlated,
}
INDEPENDENT = ("lognormal", "heavy tails", "two speeds")


def draw_study(random: np.random.Generator, noise: Noise, speedup: float) -> tuple[np.ndarray, np.ndarray]:
    """The times of the sequential program and of the workers, for the most repeats that there may be."""
    noises = noise(random, 2 * MOST).reshape(MOST, 2)
    first = random.integers(0, 2, MOST)  # the order within a repeat
    rows = np.arange(MOST)
    return speedup * noises[rows, first], noises[rows, 1 - first]


def holds(estimate: Estimate, truth: float) -> bool:
    """True if the interval holds the truth."""
    return estimate.ci95 is not None and estimate.ci95[0] <= truth <= estimate.ci95[1]


def run_rule(sequential_s: np.ndarray, parallel_s: np.ndarray, stopping: Stopping) -> tuple[Estimate, int]:
    """The speedup that a study reports, and its repeats."""
    for repeats in range(stopping.least, stopping.most + 1):
        estimate = estimate_ratio(sequential_s[:repeats], parallel_s[:repeats])
        if stopping.why_end(repeats, estimate):
            break
    return estimate, repeats


def measure(noise_name: str, studies: int) -> dict[str, Any]:
    """The coverage under one sort of noise."""
    random = np.random.default_rng([SEED, list(NOISES).index(noise_name)])
    noise, stopping = NOISES[noise_name], Stopping(most=MOST)
    hits = dict.fromkeys(("stopped", *(f"speedup {n}" for n in FIXED)), 0)
    if noise_name in INDEPENDENT:
        truth = float(np.median(noise(random, 400_000)))
        hits |= {f"median {n}": 0 for n in FIXED if n >= 6}
    repeats, faster = 0, 0
    for _ in range(studies):
        sequential_s, parallel_s = draw_study(random, noise, SPEEDUP)
        for name in hits:
            kind, _, count = name.partition(" ")
            if kind == "speedup":
                hits[name] += holds(estimate_ratio(sequential_s[: int(count)], parallel_s[: int(count)]), SPEEDUP)
            elif kind == "median":
                hits[name] += holds(estimate_median(parallel_s[: int(count)]), truth)
        estimate, made = run_rule(sequential_s, parallel_s, stopping)
        hits["stopped"] += holds(estimate, SPEEDUP)
        repeats += made
        equal, _ = run_rule(*draw_study(random, noise, 1.0), stopping)
        faster += equal.ci95 is not None and equal.ci95[0] > 1
    return {
        "coverage": {name: count / studies for name, count in hits.items()},
        "repeats": repeats / studies,
        "false_faster": faster / studies,
    }


def main() -> None:
    """Print a line for each sort of noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10_000, metavar="N", help="simulated studies [10000]")
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where coverage.json goes [.]")
    options = parser.parse_args()
    found = {}
    for name in NOISES:
        found[name] = measure(name, options.studies)
        coverage = ", ".join(f"{what} {100 * share:.1f} %" for what, share in found[name]["coverage"].items())
        rest = f"{found[name]['repeats']:.1f} repeats, wrongly faster {100 * found[name]['false_faster']:.1f} %"
        print(f"{name}: {coverage}; {rest}", flush=True)
    write_json(options.output / "coverage.json", {"command": sys.argv, "studies": options.studies, "noises": found})


if __name__ == "__main__":
    main()
