"""The sections of a study's page that say what its answer rests on: answers, method, host, every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dfz_ray.scaling.entries import list_entries, name_workers
from dfz_ray.scaling.host_texts import describe_host
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.number_texts import NOTHING, show_number, show_seconds
from dfz_ray.scaling.section import Cell, Section


def make_answers(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    """Whether every trial gave the same results."""
    text = {
        True: Cell("Scaling changed no answer. Every trial has the digest ", summary["batch"]["digest"] or ""),
        False: Cell("The answers are not the same in every trial."),
        None: Cell(
            "There are not two digests to compare, of trials that completed all tasks. So whether scaling changes "
            "answers is unknown."
        ),
    }[summary["digests_equal"]]
    rows = [
        {"Workers": Cell(name_workers(entry, summary)), "Digest": Cell("", entry["digest"] or NOTHING)}
        for entry in list_entries(summary)
    ]
    folded = "" if summary["digests_equal"] is False else "The digest of each number of workers"
    return Section("Answers", text, summary["digests_equal"] is False, rows=rows, has_titles=False, folded=folded)


def make_method(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    """How trials were made, and where intervals come from."""
    cores, cpus = summary["physical_cores"], summary["cpus_per_task"]
    baseline = (
        "The baseline is the same batch in one process without Ray, with the same thread budget and deadline per task "
        "and the same niceness as Ray's workers; each task has one attempt. Speedup is how many times longer it takes "
        "than N workers do; efficiency is speedup over N."
    )
    baseline += " Both are of the repeats that completed as many tasks as those of other points: less work is no gain."
    if summary.get("scaling") == "weak":
        baseline += " Its time is multiplied by N, since N workers have N batches."
    batch = "the same batch, with the same seeds"
    if summary.get("scaling") == "weak":
        batch = "the batch once more for each worker, with the same seeds"
    if not summary["baseline"]["repeats"]:
        why = "every trial of it failed" if summary["baseline"]["errors"] else "it was not measured"
        baseline += f" Here {why}, so there is neither."
    bullets = [
        f"Every trial runs {batch}. A point is the median over its repeats; no repeat was "
        "dropped except those that failed as a whole, which are listed.",
        baseline,
        "The wall time with workers is that of a call of run: from the call until all results are on disk and listed. "
        "Starting the workers and importing libraries is the warm-up. It is over before the clock starts, and is shown "
        "apart.",
        "Numbers of workers and repeats were interleaved in random order, so that a slow spell of the machine does not "
        "fall on one point alone. The last table has the order.",
        "A speedup is the median of the ratios of every time of the baseline to every time with N workers (Hodges and "
        "Lehmann). Its interval has the ratios that the Mann-Whitney test or Welch's t-test of the logarithms does not "
        "refuse, so it holds also where one of the two varies more. The interval of a median goes from one of its "
        "repeats to another (order statistics). Both hold the truth in 95 % of all studies with independent repeats. "
        "Where the machine is slow for several trials in a row, that of a speedup does so, too, but a median is one of "
        "such a spell: so no median has an interval if trials that follow each other are alike (by von Neumann's ratio "
        "of ranks, after Bartels).",
    ]
    if "threads" in summary["mode"]:
        bullets.append(
            "With threads the tasks share as many processes as there are cores; up to that many workers each has a "
            "process of its own, as without threads."
        )
    bullets.append(
        f"Points beyond the physical cores ({cores}; CPUs per task: {cpus}), and points that the cluster could not "
        "serve, are marked and never hidden."
    )
    if summary["why_ended"]:
        bullets.append(f"There was no further repeat because {summary['why_ended']}.")
    return Section("How it was measured", bullets=[*map(Cell, bullets)], is_folded=True)


def make_host(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    """The machine and its software."""
    rows = [{"Name": Cell(name), "Value": Cell(value)} for name, value in describe_host(summary["host"])]
    text = None if rows else Cell("Nothing is known of the host.")
    return Section("Environment", text, rows=rows, has_titles=False, is_folded=True)


def make_trials(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> Section:
    """Every trial, as it was measured."""
    trials = sorted(measurements, key=lambda trial: trial.order)
    rows = [
        {
            "#": Cell(str(trial.order + 1)),
            "Workers": Cell(name_workers(vars(trial), summary)),
            "Repeat": Cell(str(trial.repeat + 1)),
            "Started\n(UTC)": Cell(datetime.fromtimestamp(trial.started_at, UTC).strftime("%H:%M:%S")),
            "Wall time": Cell(show_seconds(trial.wall_s)),
            "Warm-up": Cell(show_seconds(trial.warm_up_s)),
            "Completed /\nfailed / cancelled": Cell(f"{trial.completed} / {trial.failed} / {trial.cancelled}"),
            "Tasks\nrunning": Cell(show_number(trial.avg_concurrency)),
            "Load\nbefore": Cell(show_number(trial.load)),
            "Digest": Cell("", (trial.digest or NOTHING)[:12]),
            "Error": Cell((trial.error or "")[:500]),
        }
        for trial in trials
    ]
    if not any(trial.error for trial in trials):
        for row in rows:
            del row["Error"]
    return Section("Every trial, in the order in which they ran", rows=rows, left=("Digest", "Error"), is_folded=True)
