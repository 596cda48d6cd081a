"""Counts of outcomes, and their fidelity to the exact distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Counts = Mapping[int, int]
"""Outcome to number of shots; bit i of an outcome is classical bit i."""
Distribution = Mapping[int, float]
"""Outcome to probability; an outcome that is not in it has probability 0."""

LISTED_OUTCOMES = 64
_NEGLIGIBLE = 1e-14


def distribution(probabilities: Any, outcomes: Any = None) -> dict[int, float]:
    """A distribution from arrays; several outcomes may be equal, and None means 0, 1, 2, ..."""
    if outcomes is not None:
        outcomes, where = np.unique(outcomes, return_inverse=True)
        probabilities = np.bincount(where, weights=probabilities)
    else:
        outcomes = np.arange(len(probabilities))
    likely = probabilities > _NEGLIGIBLE
    return dict(zip(outcomes[likely].tolist(), probabilities[likely].tolist(), strict=True))


def frequencies(counts: Counts) -> dict[int, float]:
    """Shares of the shots."""
    shots = sum(counts.values())
    return {outcome: count / shots for outcome, count in counts.items()}


def hellinger_fidelity(counts: Counts, exact: Distribution) -> float:
    """The likeness of two distributions, 0 to 1: (sum of sqrt(p q))^2, as in qiskit.quantum_info."""
    shots = sum(counts.values())
    # The order of the outcomes is fixed, so that the last digit of the sum is too.
    overlap = sum(math.sqrt(count / shots * exact.get(outcome, 0.0)) for outcome, count in sorted(counts.items()))
    return min(1.0, overlap**2)


def perfect_sampling_fidelity(exact: Distribution, shots: int, rng: np.random.Generator) -> float:
    """The Hellinger fidelity of as many shots drawn from the exact distribution itself.

    Few shots of a wide distribution can't look like it; this is the score of a perfect machine.
    """
    outcomes = sorted(exact)
    weights = np.array([exact[outcome] for outcome in outcomes])
    drawn = rng.multinomial(shots, weights / weights.sum())
    return hellinger_fidelity({o: int(n) for o, n in zip(outcomes, drawn, strict=True) if n}, exact)


def text(outcome: int, registers: Sequence[int]) -> str:
    """An outcome as Qiskit writes it: bit 0 is rightmost, later registers are to the left, with a space between.

    `registers` has the number of bits of each register.
    """
    parts = []
    for size in registers:
        parts.append(f"{outcome & (2**size - 1):0{size}b}")
        outcome >>= size
    return " ".join(reversed(parts))


def listed(counts: Counts, registers: Sequence[int]) -> dict[str, int]:
    """The most frequent outcomes, at most LISTED_OUTCOMES of them, as texts."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {text(outcome, registers): count for outcome, count in ranked[:LISTED_OUTCOMES]}
