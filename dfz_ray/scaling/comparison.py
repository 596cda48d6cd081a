"""Compares two studies of the same batch: did a change of code, machine or settings change how it scales?

Two studies are never interleaved: between them the machine may have become slower or faster as a whole. So speedups are
compared, each over the sequential program of its own repeat, which the same spell of the machine slows as well. Times
alone are those of two sessions, and say little (benchmarks/comparison_coverage.py).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.scaling.estimate import Estimate, estimate_ratio, repeats_to_compare
from dfz_ray.scaling.host_texts import describe_host
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.number_texts import NOTHING
from dfz_ray.scaling.stopping import repeats_to_tell
from dfz_ray.scaling.study_folder import PLAN, read_lines

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
            _check_points(summary.get("points"))
            trials = [Measurement(**json.loads(line)) for line in read_lines(folder)[0]]
        except (OSError, ValueError, TypeError) as error:
            is_begun = (folder / PLAN).exists() and not (folder / "summary.json").exists()
            hint = f"it was begun; go on with it: dfz scale --resume {folder}" if is_begun else str(error)
            problem = Problem("STUDY", repr(str(folder)), "the folder of a study that has ended", hint)
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
    speedups: Estimate | None
    """Speedup after / speedup before, of repeats in which the sequential program and the point completed as many tasks
    as in any; None if one of the studies has none. The intervals of all points hold together in 95 % of all comparisons
    of independent repeats."""
    times: Estimate | None
    """Time after / time before, of trials that completed as many tasks; None if one of the studies has none. The
    interval is that of two sessions, each of which is taken to be like any other."""
    verdict: Verdict | None
    """None: there are times of the sequential program alone, which say nothing about scaling."""
    reason: str

    @property
    def times_differ(self) -> bool:
        """True if the interval of the times leaves out 1."""
        return self.times is not None and _differs(self.times)


def compare_studies(before: Study, after: Study) -> list[Difference]:
    """Compare all points that either study has.

    Better or worse: the whole 95 % interval of the ratio of the speedups is on one side of 1. Same: the interval is
    within SAME of 1. A point that surely loses more tasks than before is worse, and one that may lose more is never
    better. A point at which every trial fails as a whole, and none did before, is worse however few they are.

    Of equal studies at most 5 % have a wrong verdict if repeats are independent, and what slows one session slows the
    sequential program and the points alike. Where one of the studies has no sequential program that is of use, the
    times decide: then a machine that is slower by some percent in one session is taken for a difference.

    Raises InvalidInput if the studies are of different batches.
    """
    _check_same_batch(before, after)
    points = {(one.workers, one.mode) for one in [*before.trials, *after.trials]}
    in_order = sorted(points, key=lambda point: (point[1] or "", point[0]))
    pairs = [_Pair(*point, before, after) for point in in_order]
    comparisons = sum(bool(pair.old and pair.new) for pair in pairs)
    return [pair.compare(comparisons) for pair in pairs]


def _check_points(points: Any) -> None:
    """Raise ValueError unless each point of a summary has its speedup: somebody may have edited the file."""
    for point in points or ():
        if not isinstance(point, dict) or not {"workers", "mode", "speedup"} <= point.keys():
            raise ValueError("a point of its summary.json has no workers, mode or speedup")
        if not isinstance(point["speedup"], int | float | None):
            raise ValueError(f"a speedup in its summary.json is {point['speedup']!r}")


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
    return lines + (["settings: others than before"] if all(settings) and settings[0] != settings[1] else [])


def answers_differ(before: Study, after: Study) -> bool:
    """True if both studies have a digest of all answers, and not the same one."""
    digests = {study.summary["batch"].get("digest") for study in (before, after)}
    return len(digests) > 1 and None not in digests


class _Pair:
    """One point of both studies, or their sequential programs (0 workers)."""

    def __init__(self, workers: int, mode: str | None, before: Study, after: Study) -> None:
        self._point = workers, mode
        self._studies = before, after
        self.old, self.new = (study.trials_of(workers, mode) for study in self._studies)
        self._trials = _Complete(self.old, self.new)
        self._sequential = _Complete(*(study.trials_of(0, None) for study in self._studies))

    def compare(self, comparisons: int) -> Difference:
        """The verdict on this pair of so many."""
        if not (self.old and self.new):
            reason = f"only {self._studies[bool(self.new)].folder} measured it"
            return Difference(*self._point, None, None, "can't tell", reason)
        speedups, times = self._compare_speedups(comparisons), self._trials.compare_times(comparisons)
        if all(one.error for one in self.new) and not any(one.error for one in self.old):
            return Difference(*self._point, None, None, "worse", "every trial fails, and none did before")
        verdict, reason = self._judge(speedups, times, comparisons)
        return Difference(*self._point, speedups, times, *self._judge_losses(verdict, reason, comparisons))

    def _compare_speedups(self, comparisons: int) -> Estimate | None:
        before, after = self._find_speedups()
        return estimate_ratio(after, before, comparisons) if before and after else None

    def _find_speedups(self) -> list[list[float]]:
        """The speedups of the repeats of both studies; none of the sequential program."""
        if self._point[0] == 0:
            return [[], []]
        pairs = zip(self._sequential.walls_s, self._trials.walls_s, strict=True)
        return [[alone[n] / wall_s for n, wall_s in own.items() if n in alone] for alone, own in pairs]

    def _judge(self, speedups: Estimate | None, times: Estimate | None, comparisons: int) -> tuple[Verdict | None, str]:
        """The verdict by speedups, or else by times, whatever was lost."""
        if self._point[0] == 0:
            return None, f"its {describe_times([times])}" if times and _differs(times) else ""
        if speedups:
            repeats = min(map(len, self._find_speedups()))
            left_out = " and ".join(filter(None, (self._trials.describe_left_out(), self._describe_sequential())))
            return _judge_ratio(speedups, repeats, comparisons, ("higher speedup", "lower speedup"), left_out)
        if times is None:
            return "can't tell", ""
        repeats = min(map(len, self._trials.walls_s))
        words = "longer time", "less time"
        verdict, reason = _judge_ratio(times, repeats, comparisons, words, self._trials.describe_left_out())
        turned: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
        confounded = "by times, which differ between two sessions of one machine, too: no speedup in both studies"
        return turned.get(verdict, verdict), f"{reason} ({confounded})"

    def _describe_sequential(self) -> str:
        left_out = self._sequential.describe_left_out()
        return f"of the sequential program {left_out}" if left_out else ""

    def _judge_losses(self, verdict: Verdict | None, reason: str, comparisons: int) -> tuple[Verdict | None, str]:
        """The verdict where tasks were lost: that of the times or speedups holds only where no more were lost."""
        (lost_before, tasks_before), (lost, tasks) = _count_lost(self.old), _count_lost(self.new)
        losses = f"loses {lost} of {tasks} tasks, {lost_before} of {tasks_before} before"
        # One more, so that no count is 0.
        old, new = ([one.completed + 1 for one in trials] for trials in (self.old, self.new))
        kept = estimate_ratio(new, old, comparisons)
        if kept.ci95 and kept.ci95[1] < 1:
            return "worse", losses
        if lost * tasks_before > lost_before * tasks:
            if verdict == "worse":
                return verdict, f"{reason}, and {losses}"
            return "can't tell", f"{losses}, which may be chance"
        if not self._trials.are_comparable:
            return "can't tell", f"{losses}: no times are of the same work"
        return verdict, reason


class _Complete:
    """The trials of a point of both studies that completed as many tasks as any of them."""

    def __init__(self, old: Sequence[Measurement], new: Sequence[Measurement]) -> None:
        self._both = old, new
        self._most = max((one.completed for one in [*old, *new]), default=0)
        self.walls_s = [
            {one.repeat: one.wall_s for one in trials if one.timed and one.completed == self._most > 0}
            for trials in self._both
        ]
        """By repeat, for each study."""

    @property
    def are_comparable(self) -> bool:
        """True if each study has one."""
        return all(self.walls_s)

    def compare_times(self, comparisons: int) -> Estimate | None:
        """Time after / time before."""
        old, new = (list(walls_s.values()) for walls_s in self.walls_s)
        return estimate_ratio(new, old, comparisons) if old and new else None

    def describe_left_out(self) -> str:
        """The other trials, by the numbers of their repeats; empty if there are none."""
        found = [
            f"{', '.join(str(repeat) for repeat in sorted({one.repeat for one in trials} - {*walls_s}))} {name}"
            for trials, walls_s, name in zip(self._both, self.walls_s, ("before", "after"), strict=True)
            if len(walls_s) < len(trials)
        ]
        return f"repeats {', and '.join(found)} completed fewer than {self._most} tasks" if found else ""


def describe_times(times: Iterable[Estimate | None]) -> str:
    """The times that differ, and why that is no verdict; empty where there are none."""
    changes = sorted(100 * (one.value - 1) for one in times if one is not None)
    if not changes:
        return ""
    ends = dict.fromkeys(f"{change:+.0f} %" for change in (changes[0], changes[-1]))
    return f"times differ by {' to '.join(ends)}, which another hour of the same machine also does"


def _differs(ratio: Estimate) -> bool:
    return ratio.ci95 is not None and not ratio.ci95[0] <= 1 <= ratio.ci95[1]


def _count_lost(trials: Sequence[Measurement]) -> tuple[int, int]:
    """The tasks of some trials that did not complete, and all of them."""
    return sum(one.tasks - one.completed for one in trials), sum(one.tasks for one in trials)


def _judge_ratio(
    ratio: Estimate, repeats: int, comparisons: int, words: tuple[str, str], left_out: str
) -> tuple[Verdict, str]:
    """Better where the ratio is surely above 1. The words are for more and less; `left_out` names trials."""
    said = f"; left out: {left_out}" if left_out else ""
    if ratio.ci95 is None:
        needed = repeats_to_compare(2 * comparisons)  # each has two sides
        return "can't tell", f"it takes {needed} repeats in each study{said}"
    low, high = ratio.ci95
    if low >= 1 - SAME and high <= 1 + SAME:
        return "same", f"surely within {100 * SAME:g} %"
    if low > 1:
        return "better", f"{100 * (ratio.value - 1):.0f} % {words[0]}"
    if high < 1:
        return "worse", f"{100 * (1 - ratio.value):.0f} % {words[1]}"
    more = repeats_to_tell(repeats, ratio)
    text = f"about {more} repeats would tell" if more else "the two are too close to tell apart"
    return "can't tell", f"{text}{said}"


def overall(differences: Sequence[Difference]) -> Verdict:
    """Worse if any point is; else better if any is; else the same if all are that have a verdict."""
    verdicts = {one.verdict for one in differences if one.verdict is not None}
    for verdict in ("worse", "better"):
        if verdict in verdicts:
            return verdict
    return "same" if verdicts == {"same"} else "can't tell"
