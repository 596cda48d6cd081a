"""`dfz predict`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfz_ray.cli import FiniteRange
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.settings import WORKERS_LIMIT

if TYPE_CHECKING:
    from dfz_ray.scaling.measured_batch import MeasuredBatch
    from dfz_ray.scaling.prediction import Forecast, Prediction

WORKERS_MOST = 10_000
TASKS_MOST = 1_000_000
SHOWN_MOST = 1_024
"""The largest number of workers that is predicted unasked."""
LINE = 160
"""The table is at least so many characters wide, also where a terminal is narrower."""
EACH = "each"


@click.command("predict", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True)
@click.option("--workers", metavar="N,N,...", help="The numbers of workers [1,2,4, ...].")
@click.option(
    "--tasks", type=click.IntRange(1, TASKS_MOST), metavar="N", help="As many tasks of the same kinds [as measured]."
)
@click.option(
    "--cores",
    metavar=f"N|{EACH}",
    help=f"The physical cores that the workers share; `{EACH}`: every worker has its own [as measured; must be given "
    "for a run].",
)
@click.option("--price", type=FiniteRange(0), metavar="P", help="The price of a core-hour, in any currency.")
@click.option(
    "--deadline",
    type=FiniteRange(0, min_open=True),
    metavar="SECONDS",
    help="Name the cheapest number of workers that is predicted to meet so many seconds, with its whole range.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Seed of the draws [0].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(folders: tuple[str, ...], **options: Any) -> int:
    """Say how a measured batch would run on other numbers of workers, without running it.

    FOLDER is that of a study, or those of several runs of one batch on different numbers of workers. The engine runs in
    virtual time, with the times of tasks, workers and manager as they were measured. Measured numbers of workers are
    predicted, too, each from the trials with fewer workers: that is the error of predictions. The range of a prediction
    is the largest error of these, to both sides. It is no confidence interval: at numbers of workers that nobody has
    measured a prediction may be off by more. Examples:

    \b
        dfz predict studies/mine --workers 8,16,64
        dfz predict studies/mine --workers 64,1000 --cores each --tasks 100000 --json
        dfz predict studies/mine --cores each --price 0.05 --deadline 3600
        dfz predict runs/one-worker runs/four-workers --cores 4 --workers 8
    """
    from dfz_ray.scaling.measured_batch import read_measured
    from dfz_ray.scaling.prediction import forecast

    measured = read_measured([Path(folder) for folder in folders])
    trial_cores, cores = _find_cores(options["cores"], measured)
    found = forecast(
        measured.trials,
        _find_workers(options["workers"], cores, measured),
        trial_cores=trial_cores,
        cores=cores,
        tasks=options["tasks"],
        cpus_per_task=measured.cpus_per_task,
        price=options["price"],
        deadline_s=options["deadline"],
        seed=options["seed"],
    )
    if options["as_json"]:
        click.echo(json.dumps(_to_dict(found)))
    else:
        _print(found, options["deadline"])
    return 0


def _find_cores(text: str | None, measured: MeasuredBatch) -> tuple[int, float]:
    """The cores of the trials, and those of the prediction."""
    if (
        text is not None
        and text != EACH
        and not (text.isascii() and text.isdigit() and 1 <= int(text) <= WORKERS_LIMIT)
    ):
        problem = Problem("--cores", repr(text), f"a whole number from 1 on, or `{EACH}`")
        raise InvalidInput([problem], "command line")
    given = math.inf if text == EACH else float(text) if text else None
    cores = measured.cores or (int(given) if given is not None and given < math.inf else None)
    if cores is None:
        expected = "the physical cores that the workers of these runs shared"
        raise InvalidInput([Problem("--cores", text or "nothing", expected, "a study has noted them")], "command line")
    return cores, float(cores) if given is None else given


def _find_workers(text: str | None, cores: float, measured: MeasuredBatch) -> list[int]:
    from dfz_ray.scaling.study_plan import parse_worker_counts

    if text is None:
        known = [one.workers for one in measured.trials if one.workers]
        most = SHOWN_MOST if cores == math.inf else max([int(2 * cores), *known])
        return sorted({1, *known, *(2**power for power in range(WORKERS_MOST.bit_length()) if 2**power <= most)})
    return parse_worker_counts(text, "--workers", WORKERS_MOST, other="")


def _to_dict(found: Forecast) -> dict[str, Any]:
    told = asdict(found)
    told["cores"] = None if found.cores == math.inf else found.cores
    for entry, prediction in zip(told["predictions"], found.predictions, strict=True):
        entry["manager_is_full"] = prediction.is_manager_full
    for entry, one in zip(told["held_out"], found.held_out, strict=True):
        entry["error"] = one.error
    return told


def _print(found: Forecast, deadline_s: float | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(emoji=False, markup=False, highlight=False, soft_wrap=True)
    console.width = max(console.width, LINE)
    ranges = [] if found.largest_error is None else ["Range (largest error so far)"]
    titles = ["Workers", "Time", *ranges, "Speedup", "Efficiency", "Manager busy"]
    has_price = found.predictions[0].price is not None
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for title in (*titles, "Core-hours", *(["Price"] if has_price else []), ""):
        table.add_column(title, no_wrap=True)
    for one in found.predictions:
        notes = [
            "" if one.measured_s is None else f"measured {one.measured_s:.3g} s",
            "the manager is full" if one.is_manager_full else "",
            "more workers than cores" if one.workers > found.cores else "",
            _describe_delay(one, deadline_s),
            "cheapest" if one.workers == found.cheapest and (deadline_s or has_price) else "",
        ]
        table.add_row(
            str(one.workers),
            f"{one.makespan_s:.3g} s",
            *(["{:.3g} to {:.3g} s".format(*one.range_s)] if one.range_s else []),
            f"{one.speedup:.3g}",
            f"{one.efficiency:.2f}",
            f"{100 * one.manager_share:.0f} %",
            f"{one.core_hours:.3g}",
            *([f"{one.price:.3g}"] if one.price is not None else []),
            ", ".join(note for note in notes if note),
        )
    console.print(table)
    for text in _describe(found, deadline_s):
        console.print(text)


def _describe_delay(one: Prediction, deadline_s: float | None) -> str:
    if one.meets_deadline is not False or deadline_s is None:
        return ""
    return "too late" if one.makespan_s > deadline_s else "may be too late"


def _describe(found: Forecast, deadline_s: float | None) -> list[str]:
    """The sentences below the table."""
    said = [f"error: {one.workers} workers: predicted {one.predicted_s:.3g} s, measured {one.measured_s:.3g} s "
            f"({100 * one.error:+.1f} %), from trials with fewer workers" for one in found.held_out]  # fmt: skip
    if found.error is None:
        said.append("error: unknown, as trials with one number of workers have nothing to be predicted from them")
    else:
        interval = found.error.ci95
        shown = " (95 % interval {:.1f} to {:.1f} %)".format(*(100 * end for end in interval)) if interval else (
            f" (too few held-out points for an interval: {len(found.held_out)})")  # fmt: skip
        said.append(f"median error: {100 * found.error.value:.1f} %{shown}")
    if found.largest_error is not None:
        points = f"{len(found.held_out)} point{'s' if len(found.held_out) > 1 else ''}"
        said.append(
            f"the ranges are as wide as the largest error on the {points} held out so far, a factor of "
            f"{1 + found.largest_error:.3g}: no confidence intervals, and elsewhere a prediction may be off by more"
        )
    full = [one.workers for one in found.predictions if one.is_manager_full]
    if full:
        said.append(f"the manager is full from {full[0]} workers on: longer tasks would keep more workers busy")
    if deadline_s is not None:
        said.append(
            f"predicted to meet {deadline_s:g} s at the least cost: {found.cheapest} workers, of the numbers above"
            if found.cheapest is not None
            else f"none of these numbers is predicted to meet {deadline_s:g} s"
        )
    return said + [f"rests on: {text}" for text in found.assumptions]
