"""From efficiencies to METG(50 %): the smallest grain at which half of the cores' time is useful."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from workloads import show_length

HALF = 0.5
RESAMPLES = 2000


@dataclass(frozen=True)
class Metg:
    """The grain at which a curve of efficiencies crosses one half."""

    grain_s: float
    bound: str = ""
    """`below`: it is below this grain, the shortest measured; `above`: above this, the longest; else it is here."""

    @property
    def rank(self) -> tuple[int, float]:
        """Shorter is better."""
        return ("below", "", "above").index(self.bound), self.grain_s

    def __str__(self) -> str:
        return f"{self.bound} {show_length(self.grain_s)}".strip()


def find_metg(efficiency: Mapping[float, float]) -> Metg:
    """METG(50 %) (Slaughter et al., "Task Bench", SC'20, section IV), log-log between the grains.

    Where noise lets a curve cross one half more than once, the coarsest crossing counts: from there on every longer
    grain that was measured has half or more.

    Args:
        efficiency: by grain in seconds, above 0; at least one.
    """
    grains = sorted(efficiency)
    if efficiency[grains[-1]] < HALF:
        return Metg(grains[-1], "above")
    for short, long in zip(grains[-2::-1], grains[:0:-1], strict=True):
        low, high = efficiency[short], efficiency[long]
        if low < HALF:
            if low <= 0:  # no logarithm: nothing is known but that it lies between
                return Metg(long)
            share = (math.log(HALF) - math.log(low)) / (math.log(high) - math.log(low))
            return Metg(math.exp(math.log(short) + share * (math.log(long) - math.log(short))))
    return Metg(grains[0], "below")


def estimate_metg(repeats: Mapping[float, Sequence[float]], seed: int = 0) -> tuple[Metg, tuple[Metg, Metg] | None]:
    """METG(50 %) of the median efficiencies, with a 95 % percentile bootstrap interval over the repeats.

    Args:
        repeats: by grain, the efficiency of each repeat.
        seed: of the bootstrap.

    Returns:
        The interval is None where some grain has less than two repeats.
    """
    metg = find_metg({grain: float(np.median(values)) for grain, values in repeats.items()})
    if min(map(len, repeats.values())) < 2:
        return metg, None
    draw = np.random.default_rng(seed)
    medians = {
        grain: np.median(draw.choice(np.asarray(values), (RESAMPLES, len(values))), axis=1)
        for grain, values in repeats.items()
    }
    drawn = [find_metg({grain: float(values[row]) for grain, values in medians.items()}) for row in range(RESAMPLES)]
    drawn.sort(key=lambda one: one.rank)
    return metg, (drawn[round(0.025 * (RESAMPLES - 1))], drawn[round(0.975 * (RESAMPLES - 1))])
