"""Counts of outcomes, and their likeness to those of a perfect machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Counts = Mapping[int, int]
"""Outcome to number of shots; bit i of an outcome is classical bit i."""


STEADY_SHOTS = 1000
"""The fidelity of fewer shots depends much on chance."""


class Reference(Protocol):
    """The outcomes of a perfect machine."""

    def probability(self, outcome: int) -> float:
        """The probability of an outcome."""

    def draw_fidelity(self, shots: int, rng: np.random.Generator) -> float:
        """The Hellinger fidelity of so many shots drawn from the reference itself.

        Few shots of a wide distribution can't look like it; this is what a perfect machine reaches.
        """


@dataclass(frozen=True)
class Distribution:
    """A reference as a table."""

    probabilities: np.ndarray[Any, Any]
    place: Callable[[int], int | None] = int
    """The place of an outcome in the table; None if its probability is 0."""

    @classmethod
    def of(cls, probabilities: Mapping[int, float]) -> Distribution:
        """The distribution of few outcomes."""
        return cls(np.array(list(probabilities.values())), {o: i for i, o in enumerate(probabilities)}.get)

    def probability(self, outcome: int) -> float:
        """The probability of an outcome."""
        place = self.place(outcome)
        return 0.0 if place is None else float(self.probabilities[place])

    def draw_fidelity(self, shots: int, rng: np.random.Generator) -> float:
        """The Hellinger fidelity of so many shots drawn from the table; of few shots the mean of several draws."""
        edges = np.cumsum(self.probabilities)

        def draw() -> float:
            drawn = np.searchsorted(edges, np.sort(rng.random(shots)) * edges[-1], side="right")
            places, times = np.unique(drawn, return_counts=True)
            return float(np.sum(np.sqrt(times / shots * self.probabilities[places]))) ** 2

        return min(1.0, mean_of_draws(draw, shots))


def mean_of_draws(draw: Callable[[], float], shots: int) -> float:
    """The mean over as many draws as have STEADY_SHOTS shots together, one at least."""
    draws = -(-STEADY_SHOTS // shots)
    return sum(draw() for _ in range(draws)) / draws


def frequencies(counts: Counts) -> dict[int, float]:
    """Shares of the shots."""
    shots = sum(counts.values())
    return {outcome: count / shots for outcome, count in counts.items()}


def hellinger_fidelity(counts: Counts, exact: Reference) -> float:
    """The likeness of two distributions, 0 to 1: (sum of sqrt(p q))^2, as in qiskit.quantum_info."""
    shots = sum(counts.values())
    # The order of the outcomes is fixed, so that the last digit of the sum is too.
    overlap = sum(math.sqrt(count / shots * exact.probability(outcome)) for outcome, count in sorted(counts.items()))
    return min(1.0, overlap**2)


def split_in_halves(counts: Counts, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Deal an even number of shots out at random: two independent runs of half the shots."""
    outcomes = sorted(counts)
    times = np.array([counts[outcome] for outcome in outcomes])
    first = rng.multivariate_hypergeometric(times, int(times.sum()) // 2)
    halves = (first, times - first)
    one, other = ({o: int(n) for o, n in zip(outcomes, half, strict=True) if n} for half in halves)
    return one, other


def text(outcome: int, registers: Sequence[int]) -> str:
    """An outcome as Qiskit writes it: bit 0 is rightmost, later registers are to the left, with a space between.

    `registers` has the number of bits of each register.
    """
    parts = []
    for size in registers:
        parts.append(f"{outcome & (2**size - 1):0{size}b}")
        outcome >>= size
    return " ".join(reversed(parts))


def as_texts(counts: Counts, registers: Sequence[int]) -> dict[str, int]:
    """All outcomes as texts, the most frequent first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {text(outcome, registers): count for outcome, count in ranked}
