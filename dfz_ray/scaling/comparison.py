"""Compares two studies of the same batch: did a change of code, machine or settings change how it scales?"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.scaling.estimate import Estimate, estimate_ratio, repeats_to_compare
from dfz_ray.scaling.host_texts import describe_host
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.number_texts import NOTHING
from dfz_ray.scaling.stopping import repeats_to_tell
from dfz_ray.scaling.study_folder import read_lines

SAME = 0.05
"""A difference that is surely smaller than this is none."""
Verdict = Literal["same", "better", "worse", "can't tell"]


@dataclass(frozen=True)
class Study:
    """A study that has ended, as its folder has it."""

    folder: Path
    summary: dict[str, Any]
    trials: Sequence[Measurement]

    @classmethod
    def read(cls, folder: Path) -> Study:
        """Read a study. Raises InvalidInput if the folder holds none."""
        try:
            summary = json.loads((folder / "summary.json").read_text())
            if not isinstance(summary, dict) or not isinstance(summary.get("batch"), dict):
                raise ValueError("its summary.json has no batch")
            trials = [Measurement(**json.loads(line)) for line in read_lines(folder)[0]]
        except (OSError, ValueError, TypeError) as error:
            problem = Problem("STUDY", repr(str(folder)), "the folder of a study that has ended", str(error))
            raise InvalidInput([problem], "command line") from None
        return cls(folder, summary, trials)

    def trials_of(self, workers: int, mode: str | None) -> list[Measurement]:
        """The trials of a point, or of the sequential program; one that failed as a whole has lost all of its tasks."""
        mine = [one for one in self.trials if (one.workers, one.mode) == (workers, mode)]
        return [dataclasses.replace(one, completed=0) if one.error else one for one in mine]

    def find_speedup(self, workers: int, mode: str | None) -> float | None:
        """The speedup of a point over the study's own sequential program, if it has one."""
        points = self.summary.get("points") or ()
        mine = (workers, mode or "processes")
        return next((one["speedup"] for one in points if (one["workers"], one["mode"]) == mine), None)


@dataclass(frozen=True)
class Difference:
    """One point of two studies."""

    workers: int
    """0: the sequential program."""
    mode: str | None
    ratio: Estimate | None
    """Time after / time before, of trials that completed as many tasks; None if one of the studies has none. The
    intervals of all points hold together in 95 % of all comparisons."""
    verdict: Verdict
    reason: str


def compare_studies(before: Study, after: Study) -> list[Difference]:
    """Compare all points that either study has.

    Better or worse: the whole 95 % interval of the ratio of the times is on one side of 1. Same: the interval is within
    SAME of 1. A point that surely loses more tasks than before is worse, and one that may lose more is never better.
    Any verdict is wrong in at most 5 % of all comparisons of equal studies. A point at which every trial fails as a
    whole, and none did before, is worse however few they are.

    Raises InvalidInput if the studies are of different batches.
    """
    _check_same_batch(before, after)
    points = {(one.workers, one.mode) for one in [*before.trials, *after.trials]}
    in_order = sorted(points, key=lambda point: (point[1] or "", point[0]))
    pairs = [(before.trials_of(*point), after.trials_of(*point)) for point in in_order]
    comparisons = sum(bool(old and new) for old, new in pairs)
    found = []
    for (workers, mode), (old, new) in zip(in_order, pairs, strict=True):
        if old and new:
            ratio, verdict, reason = _compare_trials(old, new, comparisons)
        else:
            ratio, verdict, reason = None, "can't tell", f"only {(after if new else before).folder} measured it"
        found.append(Difference(workers, mode, ratio, verdict, reason))
    return found


def _check_same_batch(before: Study, after: Study) -> None:
    def check(name: str, one: Any, other: Any) -> None:
        if one != other:
            found, expected = f"{other!r} in {after.folder}", f"{one!r}, as in {before.folder}"
            raise InvalidInput([Problem(name, found, expected, "compare one batch with itself")], "command line")

    batches = before.summary["batch"], after.summary["batch"]
    for name in ("domains", "count"):
        check(f"batch.{name}", *(batch.get(name) for batch in batches))
    if have_equal_tasks(before, after) is False:  # other parameters, say: that is other work, not other speed
        check("batch.tasks_digest", *(batch["tasks_digest"] for batch in batches))
    if have_equal_tasks(before, after) is None:
        check("seed", before.summary.get("seed"), after.summary.get("seed"))
    check("scaling", before.summary.get("scaling", "strong"), after.summary.get("scaling", "strong"))


def have_equal_tasks(before: Study, after: Study) -> bool | None:
    """True if both studies have the same digest of their tasks; None if one of them has none, for it is too old."""
    digests = {study.summary["batch"].get("tasks_digest") for study in (before, after)}
    return None if None in digests else len(digests) == 1


def list_changes(before: Study, after: Study) -> list[str]:
    """The facts about host, versions, commit and settings that differ, a line each."""
    old, new = (dict(describe_host(study.summary.get("host") or {})) for study in (before, after))
    lines = [
        f"{name}: {new.get(name, NOTHING)}, before {old.get(name, NOTHING)}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    settings = [{(one.study or {}).get("settings") for one in study.trials} for study in (before, after)]
    return lines + (["settings: others than before"] if settings[0] != settings[1] else [])


def answers_differ(before: Study, after: Study) -> bool:
    """True if both studies have a digest of all answers, and not the same one."""
    digests = {study.summary["batch"].get("digest") for study in (before, after)}
    return len(digests) > 1 and None not in digests


def _compare_trials(
    old: Sequence[Measurement], new: Sequence[Measurement], comparisons: int
) -> tuple[Estimate | None, Verdict, str]:
    """The ratio of the times of one point of so many, the verdict, and its reason.

    The times are of trials that completed as many tasks as any trial of the point, of either study.
    """
    (lost_before, tasks_before), (lost, tasks) = _count_lost(old), _count_lost(new)
    losses = f"loses {lost} of {tasks} tasks, {lost_before} of {tasks_before} before"
    lost_more = lost * tasks_before > lost_before * tasks
    most = max(one.completed for one in [*old, *new])
    old_s, new_s = ([one.wall_s for one in trials if one.timed and one.completed == most > 0] for trials in (old, new))
    ratio = estimate_ratio(new_s, old_s, comparisons) if old_s and new_s else None
    verdict, reason = _compare_times(ratio, min(len(old_s), len(new_s)), comparisons) if ratio else ("can't tell", "")
    # One more, so that no count is 0.
    kept = estimate_ratio([one.completed + 1 for one in new], [one.completed + 1 for one in old], comparisons)
    if all(one.error for one in new) and not any(one.error for one in old):
        return None, "worse", "every trial fails, and none did before"
    if kept.ci95 and kept.ci95[1] < 1:
        return ratio, "worse", losses
    if lost_more and verdict == "worse":
        return ratio, verdict, f"{reason}, and {losses}"
    if lost_more:
        return ratio, "can't tell", f"{losses}, which may be chance"
    return ratio, verdict, reason or f"{losses}: no times are of the same work"


def _count_lost(trials: Sequence[Measurement]) -> tuple[int, int]:
    """The tasks of some trials that did not complete, and all of them."""
    return sum(one.tasks - one.completed for one in trials), sum(one.tasks for one in trials)


def _compare_times(ratio: Estimate, repeats: int, comparisons: int) -> tuple[Verdict, str]:
    if ratio.ci95 is None:
        needed = repeats_to_compare(2 * comparisons)  # each has two sides
        return "can't tell", f"it takes {needed} repeats in each study"
    low, high = ratio.ci95
    if low >= 1 - SAME and high <= 1 + SAME:
        return "same", f"surely within {100 * SAME:g} %"
    if low > 1:
        return "worse", f"takes {100 * (ratio.value - 1):.0f} % longer"
    if high < 1:
        return "better", f"takes {100 * (1 - ratio.value):.0f} % less time"
    more = repeats_to_tell(repeats, ratio)
    return "can't tell", f"about {more} repeats would tell" if more else "the two are too close to tell apart"


def overall(differences: Sequence[Difference]) -> Verdict:
    """Worse if any point is; else better if any is; else the same if all are."""
    verdicts = {one.verdict for one in differences}
    for verdict in ("worse", "better"):
        if verdict in verdicts:
            return verdict
    return "same" if verdicts == {"same"} else "can't tell"
