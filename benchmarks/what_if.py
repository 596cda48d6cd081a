"""How far are predictions off? Batches are measured at 1, 2 and 4 workers, and predicted at 3, 6, 8 and 16.

    python benchmarks/what_if.py --output DIR                        # all batches, about seven minutes
    python benchmarks/what_if.py --output DIR --only even,waiting    # in portions, into one folder
    python benchmarks/what_if.py --output DIR --show                 # the table again

The batches: `even` and `uneven` (lognormal lengths) compute; `waiting` waits; `half` waits and computes; `mixed` is of
three domains; `short` has tasks of 50 us. A prediction is on disk, in predictions.jsonl, before the first trial begins
that it is compared with; the trials are in BATCH-trials.jsonl and BATCH-held-out.jsonl. The error is that of the
predicted time against the median of the measured ones.
"""

import argparse
import json
import math
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from workloads import burn

from dfz_ray import domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.connection import connect
from dfz_ray.scaling.cost_model import fit_costs
from dfz_ray.scaling.estimate import estimate_median
from dfz_ray.scaling.host import host_facts
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.prediction import forecast
from dfz_ray.scaling.stopping import Stopping
from dfz_ray.scaling.study import Study
from dfz_ray.scaling.study_plan import BASELINE, StudyPlan, Trial
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.settings import read_settings

MEASURED, HELD_OUT = (1, 2, 4), (3, 6, 8, 16)
STEP_S = 6e-8
"""About what a step of `burn` takes; trials show what it does take."""
SEED = 1


@domain("what_if", kind=lambda parameters: parameters["kind"])
def what_if(compute_s: float = 0.0, wait_s: float = 0.0, kind: str = "all") -> int:
    """Compute, and wait."""
    value = burn(round(compute_s / STEP_S))
    if wait_s:
        time.sleep(wait_s)
    return value


def make_batches() -> dict[str, list[Any]]:
    """The tasks of each batch: some three seconds of work each."""
    draw = random.Random(SEED)  # noqa: S311 - no secret is drawn
    maze = {"domain": "maze", "parameters": {"size_x": 200, "size_y": 200}}
    mixed = [maze] * 20 + [{"domain": "sorting"}] * 30
    mixed += [what_if.task(wait_s=0.03, kind="waits") for _ in range(30)]
    mixed += [what_if.task(compute_s=0.03, kind="computes") for _ in range(30)]
    draw.shuffle(mixed)
    lengths = [min(0.5, 0.02 * draw.lognormvariate(-0.5, 1)) for _ in range(150)]
    return {
        "even": [what_if.task(compute_s=0.02) for _ in range(150)],
        "uneven": [what_if.task(compute_s=length_s) for length_s in lengths],
        "waiting": [what_if.task(wait_s=0.05) for _ in range(100)],
        "half": [what_if.task(compute_s=0.02, wait_s=0.02) for _ in range(100)],
        "mixed": mixed,
        "short": [what_if.task(compute_s=5e-5) for _ in range(20_000)],
    }


class PointsAlone(StudyPlan):
    """A plan without the sequential program."""

    def repeat(self, number: int) -> list[Trial]:
        """The trials with workers."""
        return [trial for trial in super().repeat(number) if trial.workers != BASELINE]


class Predicted(NamedTuple):
    """A point that was predicted before it was measured."""

    batch: str
    workers: int
    predicted_s: float
    range_s: tuple[float, float] | None
    """As wide as the largest error on the points that were held out of the batch's own trials."""
    predicted_at: float
    """Unix seconds."""


def measure(plan: StudyPlan, file: Path, repeats: int) -> list[Measurement]:
    """Run the trials of a plan."""
    file.unlink(missing_ok=True)
    facts = {**host_facts(), "seed": plan.seed, "plan": plan.digest}
    with Study(plan, read_settings(None), facts, "local") as study:
        return list(study.measure(file, Stopping(repeats, repeats)))


def test_batch(name: str, tasks: list[Any], folder: Path, repeats: int) -> None:
    """Measure, predict, write the predictions down, and measure what was predicted."""
    settings = read_settings(None)
    batch = read_batch({"name": name, "tasks": tasks}, REGISTRY, settings.resources, settings.policy)
    trials = measure(StudyPlan(batch, MEASURED, SEED), folder / f"{name}-trials.jsonl", repeats)
    cores = int(host_facts()["physical_cores"])
    found = forecast(trials, HELD_OUT, trial_cores=cores)
    with (folder / "predictions.jsonl").open("a") as file:
        for one in found.predictions:
            line = Predicted(name, one.workers, one.makespan_s, one.range_s, time.time())
            file.write(json.dumps(line._asdict()) + "\n")
        file.flush()
        os.fsync(file.fileno())
    measure(PointsAlone(batch, HELD_OUT, SEED), folder / f"{name}-held-out.jsonl", repeats)


def show(folder: Path, console: Console) -> None:
    """Print every point, and the median error."""
    predicted = [Predicted(**json.loads(line)) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    latest = {(one.batch, one.workers): one for one in predicted}
    table = Table("batch", "workers", "predicted", "range", "measured", "error", box=None, padding=(0, 2))
    errors: list[float] = []
    inside = 0
    for one in latest.values():
        trials = read_trials(folder / f"{one.batch}-held-out.jsonl")
        mine = [trial for trial in trials if trial.workers == one.workers and trial.timed]
        if not mine:
            continue
        if min(trial.started_at for trial in mine) < one.predicted_at:
            raise SystemExit(f"{one.batch}, {one.workers} workers: it was measured before it was predicted")
        measured_s = median(trial.wall_s for trial in mine)
        errors.append(one.predicted_s / measured_s - 1)
        low, high = one.range_s or (0.0, math.inf)
        inside += low <= measured_s <= high
        values = f"{one.predicted_s:.3f} s", f"{low:.2f} to {high:.2f} s", f"{measured_s:.3f} s"
        table.add_row(one.batch, str(one.workers), *values, f"{100 * errors[-1]:+.1f} %")
    console.print(table)
    if errors:
        error = estimate_median([abs(one) for one in errors])
        low, high = error.ci95 or (math.nan, math.nan)
        console.print(
            f"{len(errors)} held-out points: median error {100 * error.value:.1f} % "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %), largest {100 * max(map(abs, errors)):.1f} %; "
            f"{inside} lie within the largest error on the points held out before them",
            soft_wrap=True,
        )


def read_trials(file: Path) -> Sequence[Measurement]:
    """The trials of a file; none if it is not there."""
    return [Measurement(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def show_models(folder: Path, console: Console) -> None:
    """Print what was found of each batch's costs."""
    for file in sorted(folder.glob("*-trials.jsonl")):
        model = fit_costs(read_trials(file), int(host_facts()["physical_cores"]))
        times = model.times
        console.print(
            f"{file.name}: an exchange costs the manager {1e3 * times.exchange_s:.2f} ms, a reported task "
            f"{1e6 * times.report_task_s:.1f} us; a lease starts in {1e3 * median(times.start_s):.1f} ms and "
            f"{1e3 * times.place_s:.1f} ms after the one before; a chunk costs its worker "
            f"{1e3 * median(times.chunk_s):.2f} ms; opening {1e3 * model.open_s:.0f} ms, closing "
            f"{1e3 * model.close_s:.0f} ms; slower work {[(n, round(x, 3)) for n, x in model.slower]}",
            soft_wrap=True,
        )


def main() -> None:
    """Predict, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    batches = make_batches()
    parser.add_argument("--output", type=Path, required=True, help="folder for trials and predictions")
    parser.add_argument("--only", default=",".join(batches), help="some of the batches")
    parser.add_argument("--repeats", type=int, default=3, help="trials of each point")
    parser.add_argument("--show", action="store_true", help="measure nothing, print what there is")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console(markup=False, highlight=False)
    if not options.show:
        connect("local", logical_cpus=max(HELD_OUT))
        for name in options.only.split(","):
            test_batch(name, batches[name], options.output, options.repeats)
            console.print(f"{name}: done")
    show_models(options.output, console)
    show(options.output, console)


if __name__ == "__main__":
    main()
