"""The trials of a batch, for predictions: those of a study, or runs that were made without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_times import has_pool_changes, read_run_times
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.study_folder import TRIALS, read_lines
from dfz_ray.scaling.trial_profile import profile_trial

WHERE = "command line"


@dataclass(frozen=True)
class MeasuredBatch:
    """Trials of one batch on one host."""

    trials: Sequence[Measurement]
    cores: int | None
    """The physical cores that the workers shared; None: runs do not tell."""
    cpus_per_task: float


def read_measured(folders: Sequence[Path]) -> MeasuredBatch:
    """Read the folder of a study, or the folders of several runs of one batch.

    Raises InvalidInput if they hold something else, or different batches.
    """
    studies = [folder for folder in folders if (folder / TRIALS).exists()]
    if studies and len(folders) > 1:
        found = f"{str(studies[0])!r} beside {len(folders) - 1} other folders"
        raise _refuse(found, "one study alone, or runs alone", "trials of different studies are never mixed")
    return _read_study(folders[0]) if studies else _read_runs(folders)


def _refuse(found: str, expected: str, hint: str = "") -> InvalidInput:
    return InvalidInput([Problem("FOLDER", found, expected, hint)], WHERE)


def _read_study(folder: Path) -> MeasuredBatch:
    try:
        trials = [Measurement(**json.loads(line)) for line in read_lines(folder)[0]]
        summary_file = folder / "summary.json"
        summary = json.loads(summary_file.read_text()) if summary_file.exists() else {}
        facts = next((one.study for one in trials if one.study), None) or {}
        cores = summary.get("physical_cores") or facts.get("physical_cores")
        cpus = summary.get("cpus_per_task", 1.0)
        if not isinstance(cores, int | None) or not isinstance(cpus, int | float):  # somebody may have edited it
            raise ValueError(f"{cores!r} physical cores, {cpus!r} CPUs per task")
        return MeasuredBatch(trials, cores, cpus)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _refuse(repr(str(folder)), "the folder of a study, or of a run", str(error)) from None


def _read_runs(folders: Sequence[Path]) -> MeasuredBatch:
    trials, cpus = [], set()
    for order, folder in enumerate(folders):
        if not RunFolder(folder).holds_run():
            raise _refuse(repr(str(folder)), "the folder of a study, or of a run")
        trial, own_cpus = _read_run(folder, order)
        trials.append(trial)
        cpus.add(own_cpus)
    batches = {(one.tasks, str([kind["name"] for kind in (one.profile or {})["kinds"]])) for one in trials}
    if len(batches) > 1 or len(cpus) > 1:
        counts = ", ".join(f"{one.tasks}" for one in trials)
        raise _refuse(f"runs of different batches ({counts} tasks)", "runs of one batch")
    return MeasuredBatch(trials, None, cpus.pop())


def _read_run(folder: Path, order: int) -> tuple[Measurement, float]:
    """A run as a trial, and the most CPUs that a task of it declares."""
    with JournalReader(folder) as journal:
        slots, shapes = int(journal.meta["slots"]), [json.loads(shape) for shape in journal.shapes()]
    is_changing, times = has_pool_changes(folder), read_run_times(folder)
    profile = None if is_changing else profile_trial(folder, None, None, slots, None)
    if profile is None or times is None:
        why = (
            "whose number of workers changed"
            if is_changing
            else "where tasks failed, were tried again, or are open, or which was resumed, or given another batch"
        )
        raise _refuse(f"{str(folder)!r}, {why}", "a run whose tasks completed at the first attempt, in one go")
    tasks = sum(count for kind in profile["kinds"] for count, _, _ in kind["groups"])
    trial = Measurement(
        kind="point",
        workers=slots,
        repeat=order,
        order=order,
        wall_s=times.committed_at - times.sent_at,
        tasks=tasks,
        completed=tasks,
        started_at=times.sent_at,
        profile=profile,
    )
    return trial, max(float(shape.get("cpus", 1.0)) for shape in shapes)
