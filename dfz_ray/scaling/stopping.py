"""The number of repeats of a study: as many as its verdict needs, no more than will help."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dfz_ray.scaling.estimate import RATIO_REPEATS, Estimate

HOPELESS = 3.0
"""If more than so many times the most repeats would be needed, the study ends."""
JUDGED_REPEATS = 6
"""From so many repeats on the width of an interval tells how many are needed."""

MOST_TOLD = 1000
"""A number of repeats beyond this is not told: nobody makes as many."""


@dataclass(frozen=True)
class Stopping:
    """Decides after each repeat whether another one follows.

    Looking at the data again and again lowers the coverage of intervals; `benchmarks/coverage.py` measures by how much.
    """

    least: int = RATIO_REPEATS
    most: int = 15
    target: float = 0.05
    """The half width of the interval that the verdict rests on, over its value."""

    def why_end(self, repeats: int, verdict: Estimate | None) -> str:
        """The reason to end after so many repeats, given the ratio that the verdict rests on; empty to go on.

        None in its place: there is nothing to compare, whatever the number of repeats.
        """
        if repeats < self.least:
            return ""
        if self.least == self.most:
            return f"{self.most} repeat{'s were' if self.most > 1 else ' was'} asked for"
        if verdict is None:
            return "there is nothing to compare, however many repeats follow"
        return self._why_end_at(repeats, verdict.spread)

    def _why_end_at(self, repeats: int, spread: float | None) -> str:
        if spread is not None and spread <= self.target:
            return f"the interval is within {100 * self.target:g} %"
        if repeats >= self.most:
            return f"{self.most} repeats are the most"
        needed = self.needed(repeats, spread)
        if repeats >= JUDGED_REPEATS and needed is not None and needed > HOPELESS * self.most:
            return f"the machine is too noisy: {needed} repeats would be needed"
        return ""

    def needed(self, repeats: int, spread: float | None) -> int | None:
        """The repeats after which the interval would be within the target; None if that is not known."""
        return None if spread is None else math.ceil(repeats * (spread / self.target) ** 2)


def repeats_to_tell(repeats: int, estimate: Estimate) -> int | None:
    """The repeats after which the interval of a ratio would leave out 1, were the ratio the true one; None: never."""
    if estimate.ci95 is None or estimate.value == 1:
        return None
    low, high = estimate.ci95
    return repeats_to_exclude(repeats, estimate.value, estimate.value * math.sqrt(high / low), 1.0)


def repeats_to_exclude(repeats: int, value: float, end: float, limit: float) -> int | None:
    """The repeats after which the end of an interval of a ratio would lie on the value's side of a limit.

    The width of an interval falls with the square root of the repeats. None: after no number that anyone would make.
    """
    if value == limit:
        return None
    needed = math.ceil(repeats * (math.log(end / value) / math.log(limit / value)) ** 2)
    return needed if needed <= MOST_TOLD else None
