"""Shows how often the intervals of a study hold the truth: its whole rule is simulated, stopping included.

    python benchmarks/coverage.py [--studies 10000] [--fits 1000] [--lossy 400]

A study measures the sequential program and some numbers of workers, once each in every repeat, in an order drawn for
each repeat. It ends as `dfz scale` does (`dfz_ray/scaling/stopping.py`). The times have noise of one sort:
  lognormal    a spread of 10 %
  heavy tails  Student's t with 2 degrees of freedom on the logarithm, 5 %
  two speeds   the machine is slower by half in three of ten trials
  drift        the machine becomes slower by 2 % from trial to trial
  correlated   the noise of a trial is 0.8 times that of the trial before, and something new
  unequal      lognormal, but the sequential program has a spread of 1 % only
For fixed numbers of repeats it prints the coverage of speedups (and of medians, where they do not change meanwhile);
for the rule that stops by itself the coverage, the mean number of repeats, and how often a study says "faster" of one
number of workers, and of the best of five, when all programs are equally fast. Then the coverage of scaling laws under
independent noise, with five repeats at every number of workers: that of the parameters of a law that is known, and
that of the band, at the largest number of workers, of the law that a study would choose; and how often a parameter is
at its bound, where it has no interval. Then studies whose trials lose one task with some chance, while workers are 1.8
times as fast: how often a study advises against workers, and how often it drops the sequential program; both are wrong
where all programs lose tasks with the same chance. Writes coverage.json.

Under drift both programs of a repeat share it, so a speedup's interval is wider than it need be, and covers more. The
interval of a median takes repeats to be independent, so there is none where the trials do not look so
(`dfz_ray/scaling/steadiness.py`): how often there is none is printed, and how often the study shows no wrong one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measurement import write_json

from dfz_ray.scaling.charts.law_curve import law_curve
from dfz_ray.scaling.estimate import (
    MEDIAN_REPEATS,
    Estimate,
    bound_ratios,
    estimate_median,
    estimate_ratios,
    repeats_to_compare,
)
from dfz_ray.scaling.laws import LAWS, Fit, fit_laws
from dfz_ray.scaling.measurement import Measurement, Scaling
from dfz_ray.scaling.point import estimate_points
from dfz_ray.scaling.recommendation import recommend, verdict_ratio
from dfz_ray.scaling.steadiness import are_independent
from dfz_ray.scaling.stopping import Stopping

FIXED = (4, 5, 6, 9, 15)
MOST = 15
SPEEDUP = 1.8
POINTS = 5
"""Numbers of workers of a study in which the best one is looked for."""
SEED = 20_260
REPEATS = 5
"""Of each number of workers to which a law is fitted."""
TRUE_LAWS: dict[str, tuple[str, tuple[float, ...], tuple[int, ...]]] = {
    "amdahl, 5 points": ("amdahl", (10.0, 0.05), (1, 2, 4, 8, 16)),
    "amdahl, 8 points": ("amdahl", (10.0, 0.02), (1, 2, 3, 4, 6, 8, 12, 16)),
    "usl, 6 points": ("usl", (10.0, 0.05, 0.002), (1, 2, 4, 8, 16, 32)),
    "usl, 10 points": ("usl", (10.0, 0.03, 0.0005), (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)),
    "gustafson, 6 points": ("gustafson", (10.0, 0.1), (1, 2, 4, 8, 16, 32)),
}
"""By its name on the screen: a law, its parameters, and the numbers of workers."""
LOSSY_TASKS = 100
"""Of each trial of a study that loses tasks."""
LOSSES = ((0.1, 0.1), (0.3, 0.3), (0.5, 0.5), (0.7, 0.7), (0.0, 0.8), (0.0, 1.0), (1.0, 0.0))
"""The chances with which a trial of the sequential program, and one with workers, loses a task."""
LOSSY_COUNTS = ((2,), (1, 2, 4))
"""The numbers of workers of such studies."""
Noise = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
"""Draws factors for so many studies and trials of each, in the order in which the trials run."""


def correlated(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Noise that goes on from trial to trial."""
    logs = random.normal(0.0, 0.1, shape)
    for trial in range(1, shape[1]):
        logs[:, trial] = 0.8 * logs[:, trial - 1] + 0.6 * logs[:, trial]
    return np.exp(logs)


NOISES: dict[str, Noise] = {
    "lognormal": lambda random, shape: np.exp(random.normal(0.0, 0.1, shape)),
    "heavy tails": lambda random, shape: np.exp(0.05 * random.standard_t(2, shape)),
    "two speeds": lambda random, shape: (
        np.exp(random.normal(0.0, 0.02, shape)) * np.where(random.random(shape) < 0.3, 1.5, 1.0)
    ),
    "drift": lambda random, shape: np.exp(random.normal(0.0, 0.05, shape)) * 1.02 ** np.arange(shape[1]),
    "correlated": correlated,
    "unequal": lambda random, shape: np.exp(random.normal(0.0, 0.1, shape)),
}
INDEPENDENT = ("lognormal", "heavy tails", "two speeds")
STATIONARY = (*INDEPENDENT, "correlated")
"""The noises under which a program has one median time, whenever the study is made."""
QUIETER = {"unequal": 0.1}
"""So many times the spread of the others has the sequential program."""


class Ended(NamedTuple):
    """A study that has ended."""

    speedup: Estimate
    """That of its first point."""
    is_faster: bool
    """True if the study says of any point that it is faster than the sequential program."""
    repeats: int


class Drawn(NamedTuple):
    """Times of programs that are equally fast, and the places at which they ran in each repeat.

    Both are by program (0: the sequential one), study and repeat.
    """

    times: np.ndarray
    places: np.ndarray


def draw(random: np.random.Generator, noise_name: str, studies: int, points: int = 1) -> Drawn:
    """Draw studies of a sequential program and some numbers of workers."""
    programs = 1 + points
    noises = NOISES[noise_name](random, (studies, MOST * programs)).reshape(studies, MOST, programs)
    places = random.random((studies, MOST, programs)).argsort(axis=2)
    times = np.moveaxis(np.take_along_axis(noises, places, axis=2), 2, 0)
    times[0] **= QUIETER.get(noise_name, 1.0)
    return Drawn(times, np.moveaxis(places, 2, 0))


def measure_medians(drawn: Drawn, truth: float) -> dict[str, float]:
    """How often the interval of a median that is shown holds the truth, how often there is none, and none is wrong.

    There is none if the trials do not look independent. The median is that of the first number of workers.
    """
    found = {}
    for count in (count for count in FIXED if count >= MEDIAN_REPEATS):
        shown, right = 0, 0
        for study in range(drawn.times.shape[1]):
            times, places = drawn.times[:, study, :count], drawn.places[:, study, :count]
            in_time = [
                (int(program), float(times[program, repeat]))
                for repeat in range(count)
                for program in places[:, repeat].argsort()
            ]
            if are_independent(in_time):
                shown += 1
                right += holds(estimate_median(times[1].tolist()), truth)
        studies = drawn.times.shape[1]
        found[f"median {count} where shown"] = right / max(shown, 1)
        found[f"no median {count}"] = 1 - shown / studies
        found[f"no wrong median {count}"] = 1 - (shown - right) / studies
    return found


def holds(estimate: Estimate, truth: float) -> bool:
    """True if the interval holds the truth."""
    return estimate.ci95 is not None and estimate.ci95[0] <= truth <= estimate.ci95[1]


def run_rule(times: np.ndarray, stopping: Stopping) -> list[Ended]:
    """All studies, as they ended. The verdict rests on the point with the largest speedup."""
    ended: dict[int, Ended] = {}
    points = len(times) - 1
    for repeats in range(stopping.least, stopping.most + 1):
        going = [study for study in range(times.shape[1]) if study not in ended]
        if not going:
            break
        now = times[:, going, :repeats]
        estimates = zip(*(estimate_ratios(now[0], one) for one in now[1:]), strict=True)
        bounds = zip(*(bound_ratios(now[0], one, points) for one in now[1:]), strict=True)
        for study, speedups, least in zip(going, estimates, bounds, strict=True):
            if stopping.why_end(repeats, max(speedups, key=lambda one: one.value)):
                ended[study] = Ended(speedups[0], any(bound is not None and bound > 1 for bound in least), repeats)
    return list(ended.values())


def measure(noise_name: str, studies: int) -> dict[str, Any]:
    """The coverage under one sort of noise."""
    random = np.random.default_rng([SEED, list(NOISES).index(noise_name)])
    noise, stopping = NOISES[noise_name], Stopping(most=MOST)
    drawn = draw(random, noise_name, studies)
    times = drawn.times.copy()
    times[0] *= SPEEDUP
    coverage: dict[str, Any] = {}
    for count in FIXED:
        speedups = estimate_ratios(times[0, :, :count].tolist(), times[1, :, :count].tolist())
        coverage[f"speedup {count}"] = np.mean([holds(one, SPEEDUP) for one in speedups])
    if noise_name in STATIONARY:
        coverage |= measure_medians(drawn, float(np.median(noise(random, (400_000, 1)))))
    stopped = run_rule(times, stopping)
    coverage["stopped"] = np.mean([holds(one.speedup, SPEEDUP) for one in stopped])
    alike = {}
    for points in (1, POINTS):
        rule = Stopping(repeats_to_compare(points), MOST)
        alike[str(points)] = run_rule(draw(random, noise_name, studies, points).times, rule)
    return {
        "coverage": {name: float(share) for name, share in coverage.items()},
        "repeats": float(np.mean([one.repeats for one in stopped])),
        "false_faster": {points: float(np.mean([one.is_faster for one in ended])) for points, ended in alike.items()},
    }


def measure_law(name: str, noise_name: str, studies: int) -> dict[str, float]:
    """The coverage of one law under one sort of noise."""
    law, truth, counts = TRUE_LAWS[name]
    random = np.random.default_rng([SEED, list(TRUE_LAWS).index(name), list(NOISES).index(noise_name)])
    noise = NOISES[noise_name]
    factors = noise(random, (studies, REPEATS * len(counts))).reshape(studies, REPEATS, -1)
    exact = np.array([float(LAWS[law][0](count, *truth)) for count in counts])
    # All numbers of workers share the median of the noise, which is no part of the scaling.
    shared = 1 / float(np.median(noise(random, (400_000, 1))))
    held: dict[str, list[bool]] = {parameter: [] for parameter in LAWS[law][1]}
    bands, at_bound = [], 0
    scaling: Scaling = "weak" if law == "gustafson" else "strong"
    for rates in np.median(exact / factors, axis=1):
        chosen, fits = fit_laws(counts, rates.tolist(), scaling)
        fit = fits[law]
        if chosen is None or not isinstance(fit, Fit):
            raise RuntimeError(f"no fit of {law}: {fit}")
        for parameter, value in zip(held, (shared * truth[0], *truth[1:]), strict=True):
            if ends := fit.ci95[parameter]:
                held[parameter].append(ends[0] <= value <= ends[1])
            else:
                at_bound += 1
        entry = {**chosen.parameters, "ci95": chosen.ci95, "relative_error": chosen.relative_error}
        fitted = {"workers": counts, "chosen": chosen.law, chosen.law: entry}
        last = law_curve({"fits": fitted, "baseline": {"tasks_per_s": 1.0}})[-1]
        bands.append(last.low <= shared * exact[-1] <= last.high)
    coverage = {parameter: float(np.mean(each)) for parameter, each in held.items()}
    return {**coverage, "band of the law chosen": float(np.mean(bands)), "at a bound": at_bound / studies}


def draw_lossy_trials(
    random: np.random.Generator, chances: tuple[float, float], counts: tuple[int, ...]
) -> list[Measurement]:
    """All trials that a study may make; each loses a task with its chance. The host has two cores."""
    trials: list[Measurement] = []
    for repeat in range(MOST):
        for workers in random.permutation((0, *counts)).tolist():
            lost = int(random.random() < chances[workers > 0])
            wall_s = 10 / (SPEEDUP if workers > 1 else 1.0) * random.lognormal(0.0, 0.05)
            trials.append(
                Measurement(
                    kind="point" if workers else "baseline",
                    workers=workers,
                    repeat=repeat,
                    order=len(trials),
                    started_at=0.0,
                    wall_s=wall_s,
                    tasks=LOSSY_TASKS,
                    completed=LOSSY_TASKS - lost,
                    failed=lost,
                )
            )
    return trials


def measure_losses(chances: tuple[float, float], counts: tuple[int, ...], studies: int) -> dict[str, float]:
    """The shares of the verdicts of studies that lose tasks, each study ended by its own rule."""
    random = np.random.default_rng([SEED, LOSSES.index(chances), len(counts)])
    stopping = Stopping(repeats_to_compare(len(counts)), MOST)
    found = dict.fromkeys(("against workers", "sequential dropped", "for workers", "can't tell"), 0)
    made = 0
    for _ in range(studies):
        trials = draw_lossy_trials(random, chances, counts)
        for repeats in range(stopping.least, MOST + 1):
            until = trials[: repeats * (1 + len(counts))]
            baseline, points = estimate_points(until, physical_cores=2, cpus_per_task=1)
            if stopping.why_end(repeats, verdict_ratio(points, baseline, physical_cores=2)):
                break
        advice = recommend(points, baseline, physical_cores=2)
        made += repeats
        if "whether workers pay at all is unknown" in advice.reason:
            verdict = "sequential dropped"
        elif advice.workers is None:
            verdict = "can't tell"
        else:
            verdict = "for workers" if advice.workers else "against workers"
        found[verdict] += 1
    return {**{verdict: count / studies for verdict, count in found.items()}, "repeats": made / studies}


def main() -> None:
    """Print a line for each sort of noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10_000, metavar="N", help="simulated studies [10000]")
    parser.add_argument("--fits", type=int, default=1_000, metavar="N", help="simulated studies for each law [1000]")
    parser.add_argument("--lossy", type=int, default=400, metavar="N", help="simulated studies that lose tasks [400]")
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where coverage.json goes [.]")
    options = parser.parse_args()
    found, begun = {}, time.monotonic()
    for name in NOISES:
        found[name] = measure(name, options.studies)
        coverage = ", ".join(f"{what} {100 * share:.1f} %" for what, share in found[name]["coverage"].items())
        wrong = ", ".join(f"{100 * share:.1f} % of {n}" for n, share in found[name]["false_faster"].items())
        print(f"{name}: {coverage}; {found[name]['repeats']:.1f} repeats; wrongly faster: {wrong}", flush=True)
    laws: dict[str, dict[str, dict[str, float]]] = {}
    for name in TRUE_LAWS:
        for noise_name in INDEPENDENT:
            measured = measure_law(name, noise_name, options.fits)
            laws.setdefault(name, {})[noise_name] = measured
            print(
                f"{name}, {noise_name}: {', '.join(f'{what} {100 * share:.1f} %' for what, share in measured.items())}",
                flush=True,
            )
    lossy = []
    for chances in LOSSES:
        for counts in LOSSY_COUNTS:
            verdicts = measure_losses(chances, counts, options.lossy)
            lossy.append({"chances": chances, "workers": counts, **verdicts})
            shares = ", ".join(f"{what} {100 * share:.1f} %" for what, share in verdicts.items() if what != "repeats")
            print(f"lost tasks, {chances}, {counts}: {shares}; {verdicts['repeats']:.1f} repeats", flush=True)
    print(f"{time.monotonic() - begun:.0f} s")
    written = {
        "command": sys.argv,
        "studies": options.studies,
        "noises": found,
        "fits": options.fits,
        "laws": laws,
        "lossy": lossy,
    }
    write_json(options.output / "coverage.json", written)


if __name__ == "__main__":
    main()
