"""Whether the trials of a study are independent: while a machine is slow, trials that follow each other all are."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from statistics import median

DOUBT, DOUBT_OF_FEW = 0.1, 0.2
"""A chance below this says that trials are not independent. Few trials show less, so doubt counts earlier there.

The chance is that of trials with a known median. To take it from the trials themselves makes neighbours differ a little
less: of studies with independent trials one in eight is doubted, with few trials one in four (benchmarks/coverage.py).
"""
FEW_TRIALS = 18
UNSTEADY = "the machine seems to have had slow spells"
"""The reason why a median has no interval, for the user."""


def are_independent(times_s: Sequence[tuple[Hashable, float]]) -> bool:
    """True if the times of trials, in the order in which they were made, look like independent ones.

    Each comes with what the trial had in common with others, such as its number of workers; all are above 0. The times
    are compared with the median of their like. The test is von Neumann's ratio of the ranks (Bartels, Journal of the
    American Statistical Association 77, 1982): neighbours of independent trials differ by as much as any two.
    """
    from scipy.stats import norm, rankdata

    alike = defaultdict(list)
    for group, time_s in times_s:
        alike[group].append(math.log(time_s))
    typical = {group: median(logs) for group, logs in alike.items()}
    ranks = rankdata([math.log(time_s) - typical[group] for group, time_s in times_s]).tolist()
    trials = len(ranks)
    middle = (trials + 1) / 2
    spread = sum((rank - middle) ** 2 for rank in ranks)
    if trials < 3 or not spread:
        return True
    ratio = sum((after - before) ** 2 for before, after in itertools.pairwise(ranks)) / spread
    variance = 4 * (trials - 2) * (5 * trials**2 - 2 * trials - 9) / (5 * trials * (trials + 1) * (trials - 1) ** 2)
    chance = float(norm.cdf((ratio - 2) / math.sqrt(variance)))
    return chance >= (DOUBT if trials >= FEW_TRIALS else DOUBT_OF_FEW)
