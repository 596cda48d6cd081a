"""Compares two studies of the same batch: did a change of code, machine or settings change how it scales?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.scaling.estimate import RATIO_REPEATS, Estimate, estimate_ratio
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.stopping import repeats_to_tell
from dfz_ray.scaling.study_folder import TRIALS

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
            trials = [Measurement(**json.loads(line)) for line in (folder / TRIALS).read_text().splitlines()]
        except (OSError, ValueError, TypeError) as error:
            problem = Problem("STUDY", repr(str(folder)), "the folder of a study that has ended", str(error))
            raise InvalidInput([problem], "command line") from None
        return cls(folder, summary, trials)

    def times(self, workers: int, mode: str | None) -> list[float]:
        """The wall times of a point, or of the sequential program, in seconds."""
        return [one.wall_s for one in self.trials if one.timed and (one.workers, one.mode) == (workers, mode)]


@dataclass(frozen=True)
class Difference:
    """One point of two studies."""

    workers: int
    """0: the sequential program."""
    mode: str | None
    ratio: Estimate | None
    """Time after / time before; None if one of the studies did not measure it."""
    verdict: Verdict
    reason: str


def compare_studies(before: Study, after: Study) -> list[Difference]:
    """Compare all points that either study has.

    Better or worse: the whole 95 % interval of the ratio of the times is on one side of 1. Same: the interval is within
    SAME of 1.

    Raises InvalidInput if the studies are of different batches.
    """
    for name in ("domains", "count"):
        one, other = before.summary["batch"].get(name), after.summary["batch"].get(name)
        if one != other:
            expected = f"{one!r}, as in {before.folder}"
            problem = Problem(
                f"batch.{name}", f"{other!r} in {after.folder}", expected, "compare one batch with itself"
            )
            raise InvalidInput([problem], "command line")
    kinds = [study.summary.get("scaling", "strong") for study in (before, after)]
    if kinds[0] != kinds[1]:
        problem = Problem("scaling", f"{kinds[1]!r} in {after.folder}", f"{kinds[0]!r}, as in {before.folder}")
        raise InvalidInput([problem], "command line")
    points = {(one.workers, one.mode) for one in [*before.trials, *after.trials]}
    in_order = sorted(points, key=lambda point: (point[1] or "", point[0]))
    return [_compare_point(workers, mode, before, after) for workers, mode in in_order]


def _compare_point(workers: int, mode: str | None, before: Study, after: Study) -> Difference:
    old, new = before.times(workers, mode), after.times(workers, mode)
    if not old or not new:
        return Difference(workers, mode, None, "can't tell", f"only {(after if new else before).folder} measured it")
    ratio, repeats = estimate_ratio(new, old), min(len(old), len(new))
    if ratio.ci95 is None:
        return Difference(workers, mode, ratio, "can't tell", f"it takes {RATIO_REPEATS} repeats in each study")
    low, high = ratio.ci95
    if low >= 1 - SAME and high <= 1 + SAME:
        return Difference(workers, mode, ratio, "same", f"surely within {100 * SAME:g} %")
    if low > 1:
        return Difference(workers, mode, ratio, "worse", f"takes {100 * (ratio.value - 1):.0f} % longer")
    if high < 1:
        return Difference(workers, mode, ratio, "better", f"takes {100 * (1 - ratio.value):.0f} % less time")
    needed = repeats_to_tell(repeats, ratio)
    more = f"about {needed} repeats would tell" if needed else "the two are too close to tell apart"
    return Difference(workers, mode, ratio, "can't tell", more)


def overall(differences: Sequence[Difference]) -> Verdict:
    """Worse if any point is; else better if any is; else the same if all are."""
    verdicts = {one.verdict for one in differences}
    for verdict in ("worse", "better"):
        if verdict in verdicts:
            return verdict
    return "same" if verdicts == {"same"} else "can't tell"
